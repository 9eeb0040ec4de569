//! What the other enforcers call each option, and how its value is written for nginx.

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    Flag,
    /// `on` there is `off` here.
    InverseFlag,
    Text,
    Number,
    /// A bare number is milliseconds.
    Millis,
    /// A bare number is seconds.
    Seconds,
    List,
    /// Prefixes; a regular expression literal becomes `~…`.
    Routes,
    /// Texts that are regular expressions, for a directive that takes routes.
    RegexRoutes,
    Regexes,
    /// Patterns of Lua, for a directive that takes regular expressions.
    LuaPatterns,
    /// `monitor` or `active_blocking`, or a number.
    Mode,
    /// Names with values, one directive for each.
    Pairs,
    /// A host name without scheme.
    Host,
    /// An object or a function that only a person can translate; what to do instead.
    Hint,
    /// Nothing in nginx; why.
    Nothing,
}
use Rule::{
    Flag, Hint, Host, InverseFlag, List, LuaPatterns, Millis, Mode, Nothing, Number, Pairs,
    RegexRoutes, Regexes, Routes, Seconds, Text,
};

/// A directive with the names that the option has elsewhere.
#[derive(Debug)]
pub(crate) struct Row {
    /// Empty where there is none.
    pub(crate) directive: &'static str,
    /// Separated by blanks. The directive's own name is always one of them.
    names: &'static str,
    pub(crate) rule: Rule,
    /// What whoever reads the result should know.
    pub(crate) note: &'static str,
}

/// The row of this name.
pub(crate) fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| {
        row.directive == name || row.names.split_ascii_whitespace().any(|known| known == name)
    })
}

const fn row(directive: &'static str, names: &'static str, rule: Rule, note: &'static str) -> Row {
    Row { directive, names, rule, note }
}

const PREDICATE: &str = "a function: express it as a variable, with map, geo or njs, and give the \
                         variable to this directive";
const NAMED: &str = "a function that answers: write a named location and name it here";
const VALUE: &str = "a function: express it as a variable, with map or njs";
const LOGGERS: &str = "logging endpoints belong to Fastly; nginx has error_log and access_log";
const VCL_STATE: &str = "the module keeps its state outside of the request's headers";
const PORTS: &str = "scheme and port are part of px_backend_url and px_client_host";

static ROWS: &[Row] = &[
    row("px_app_id", "px_appId appId AppID", Text, ""),
    row("px_auth_token", "auth_token authToken AuthToken", Text, ""),
    row("px_cookie_secret", "cookie_secret cookieKey cookieSecret CookieKey", List, ""),
    row("px_cookie_secret_old", "", Text, ""),
    row("px_enabled", "px_module_enabled moduleEnabled PXEnabled enabled", Flag, ""),
    row("px_active_header_name", "", Text, ""),
    row("px_block_enabled", "block_enabled blockEnabled", Flag, ""),
    row("px_block_enabled", "MonitorMode", InverseFlag, ""),
    row("px_module_mode", "moduleMode", Mode, ""),
    row("px_bot_enforcer", "isBotEnforcer", Flag, ""),
    row("px_code_enforcer", "isCodeEnforcer", Flag, ""),
    row("px_blocking_score", "blocking_score blockingScore BlockingScore", Number, ""),
    row("px_bypass_monitor_header", "bypassMonitorHeader bypass_monitor_header", Text, ""),
    row("px_s2s_timeout", "s2s_timeout s2sTimeout APITimeoutMS", Millis, ""),
    row("px_s2s_timeout", "APITimeout", Seconds, ""),
    row("px_debug", "debugMode EnableDebugMode", Flag, ""),
    row("px_logger_severity", "", Text, ""),
    row("px_url_decode_reserved_characters", "", Flag, ""),
    row("px_enforce_timeout", "ENFORCE_TIMEOUT", Millis, ""),
    row("px_enabled_routes", "enabled_routes", Routes, ""),
    row("px_whitelist_uri_full", "whitelist_uri_full whitelist.uri_full uri_full", List, ""),
    row("px_whitelist_uri_prefixes", "whitelist_uri_prefixes uri_prefixes", List, ""),
    row("px_whitelist_uri_suffixes", "whitelist_uri_suffixes uri_suffixes", List, ""),
    row("px_whitelist_uri_pattern", "whitelist_uri_pattern", LuaPatterns, ""),
    row(
        "px_whitelist_ip_addresses",
        "px_filter_by_ip filterByIP whitelist_ip_addresses ip_addresses",
        List,
        "",
    ),
    row("px_whitelist_ua_full", "whitelist_ua_full ua_full", List, ""),
    row("px_whitelist_ua_sub", "whitelist_ua_sub ua_sub", List, ""),
    row("px_whitelist_hosts", "whitelist_hosts", List, ""),
    row("px_filter_by_route", "filterByRoute PXWhitelistRoutes", Routes, ""),
    row("px_filter_by_route", "px_filter_by_route_regex", RegexRoutes, ""),
    row("px_filter_by_domain", "", Regexes, ""),
    row(
        "px_filter_by_extension",
        "filterByExtension ExtensionWhitelist",
        List,
        "this list replaces the built-in one",
    ),
    row("px_filter_by_http_method", "filterByHttpMethod", List, ""),
    row("px_filter_by_user_agent", "filterByUserAgent PXWhitelistUserAgents", Routes, ""),
    row("px_filter_by_header", "filterByHeader", Pairs, ""),
    row(
        "px_custom_is_filtered_request",
        "px_custom_filter_by_extension px_custom_filter_by_http_method px_custom_filter_by_ip \
         px_custom_filter_by_route px_custom_filter_by_user_agent DisableModByEnvvar",
        Hint,
        PREDICATE,
    ),
    row(
        "px_filter_on_cache_hit_enabled",
        "",
        Flag,
        "protect the location that fills the cache instead",
    ),
    row("px_enforced_routes", "enforcedSpecificRoutes", Routes, ""),
    row("px_enforced_routes", "px_enforced_routes_regex", RegexRoutes, ""),
    row("px_enforced_routes_exclusive", "", Flag, ""),
    row("px_custom_is_enforced_request", "px_custom_enforced_routes", Hint, PREDICATE),
    row("px_monitored_routes", "monitoredSpecificRoutes monitored_routes", Routes, ""),
    row("px_monitored_routes", "px_monitored_routes_regex", RegexRoutes, ""),
    row("px_custom_is_monitored_request", "px_custom_monitored_routes", Hint, PREDICATE),
    row("px_sensitive_routes_prefix", "sensitive_routes_prefix SensitiveRoutesPrefix", List, ""),
    row("px_sensitive_routes_suffix", "sensitive_routes_suffix", List, ""),
    row("px_sensitive_routes_regex", "", Regexes, ""),
    row("px_sensitive_routes_regex", "sensitive_routes", LuaPatterns, ""),
    row("px_sensitive_routes", "sensitiveRoutes SensitiveRoutes", Routes, ""),
    row(
        "px_custom_is_sensitive_request",
        "px_custom_check_sensitive_route custom_sensitive_routes \
         px_custom_check_sensitive_graphql_operation",
        Hint,
        PREDICATE,
    ),
    row("px_ip_headers", "ip_headers ipHeaders IPHeader", List, ""),
    row(
        "px_client_ip",
        "px_custom_client_ip_extraction px_extract_user_ip extractUserIP",
        Hint,
        "a function: use px_ip_headers, or nginx's realip module",
    ),
    row("px_sensitive_headers", "sensitiveHeaders sensitive_headers SensitiveHeader", List, ""),
    row("px_sensitive_headers_enabled", "", Flag, ""),
    row("", "px_custom_unset_sensitive_headers", Nothing, "use px_sensitive_headers"),
    row("px_allowed_cookies", "", List, ""),
    row("px_custom_cookie_header", "customCookieHeader custom_cookie_header", Text, ""),
    row(
        "px_custom_cookie_header_enabled",
        "",
        Flag,
        "deprecated there; px_custom_cookie_header \"\" switches the header off",
    ),
    row("px_activity_header", "px_custom_activity_headers", Hint, VALUE),
    row("px_custom_parameters", "", List, ""),
    row("px_cookie_custom_parameters", "", List, ""),
    row(
        "px_custom_parameter",
        "px_enrich_custom_parameters px_enrich_response_custom_parameters enrichCustomParameters \
         enrich_custom_parameters px_custom_add_custom_parameters",
        Hint,
        "a function: set each parameter from a variable; px_hype_sale replaces is_hype_sale",
    ),
    row("px_hype_sale", "is_hype_sale", Hint, PREDICATE),
    row("px_score_header_enabled", "score_header_enabled ScoreHeader", Flag, ""),
    row("px_score_header_name", "ScoreHeaderName", Text, ""),
    row(
        "px_upstream_score_header_name",
        "scoreHeaderName score_header_name",
        Text,
        "there the header goes to the origin; px_score_header_name here goes to the client",
    ),
    row("px_identifier_header_name", "identifierHeaderName UuidHeaderName", Text, ""),
    row("px_add_block_result_header", "", Flag, ""),
    row("px_data_enrichment_header_name", "px_pxde_header_name", Text, ""),
    row("px_enable_pre_clean", "px_pre_clean px_custom_pre_clean", Hint, VCL_STATE),
    row("", "px_override_configs px_modify_context", Nothing, "use server and location levels"),
    row("px_secured_pxhd_enabled", "pxhd_secure_enabled px_pxhd_secure_enabled", Flag, ""),
    row(
        "px_enable_json_response",
        "px_advanced_blocking_response_enabled advanced_blocking_response \
         advancedBlockingResponse EnableJsonResponse",
        Flag,
        "",
    ),
    row("px_custom_logo", "custom_logo customLogo CustomLogo", Text, ""),
    row("px_css_ref", "css_ref cssRef CSSRef", Text, ""),
    row("px_js_ref", "js_ref jsRef JSRef", Text, ""),
    row("px_custom_block_url", "custom_block_url BlockPageURL", Text, ""),
    row("px_redirect_on_custom_url", "redirect_on_custom_url", Flag, ""),
    row("px_redirect_to_referer", "redirect_to_referer", Flag, ""),
    row("px_api_protection_mode", "api_protection_mode", Flag, ""),
    row("px_api_protection_block_url", "api_protection_block_url", Text, ""),
    row("px_api_protection_default_redirect_url", "api_protection_default_redirect_url", Text, ""),
    row("px_block_size_exceeded_15k_headers_size", "", Flag, ""),
    row("px_custom_block_page_content", "", Hint, VALUE),
    row(
        "px_custom_web_block_page_response",
        "px_custom_create_synthetic_web_response",
        Hint,
        NAMED,
    ),
    row("px_custom_rate_limit_block_page", "", Hint, NAMED),
    row("px_custom_create_advanced_blocking_response", "", Hint, NAMED),
    row(
        "px_custom_verification_handler",
        "customVerificationHandler px_custom_request_handler customRequestHandler",
        Hint,
        NAMED,
    ),
    row("px_pre_enforce_handler", "preEnforceHandler", Hint, PREDICATE),
    row(
        "px_first_party_enabled",
        "first_party_enabled firstPartyEnabled FirstPartyEnabled",
        Flag,
        "",
    ),
    row("px_reverse_xhr_enabled", "reverse_xhr_enabled FirstPartyXhrEnabled", Flag, ""),
    row("px_custom_first_party_prefix", "", Text, ""),
    row(
        "",
        "first_party_prefix",
        Nothing,
        "there the prefix stands before the app id's part of the path; see \
         px_custom_first_party_sensor_endpoint and its siblings",
    ),
    row("px_custom_first_party_sensor_endpoint", "", Text, ""),
    row("px_custom_first_party_xhr_endpoint", "", Text, ""),
    row("px_custom_first_party_captcha_endpoint", "", Text, ""),
    row(
        "",
        "px_custom_first_party_response_modifier",
        Nothing,
        "use add_header in a location for the route",
    ),
    row("px_first_party_timeout_ms", "", Millis, ""),
    row("px_client_host", "client_host px_backend_client_url ClientBaseUrl", Host, ""),
    row("px_captcha_script_host", "captcha_script_host px_backend_captcha_url", Host, ""),
    row("px_enable_login_creds_extraction", "px_login_credentials_extraction_enabled", Flag, ""),
    row("px_login_creds_settings_filename", "", Text, ""),
    row(
        "px_login_credentials_extraction",
        "px_login_creds_settings loginCredentialsExtraction",
        Hint,
        "one line for each endpoint, or the same JSON in px_login_creds_settings_filename",
    ),
    row("", "px_custom_is_login_request", Nothing, "use endpoints with path_type=regex"),
    row(
        "px_login_credentials_extraction",
        "px_custom_login_extraction_callback extract_credentials_callback",
        Hint,
        "a function: sent_through=custom with user= and pass= from variables",
    ),
    row("px_credentials_intelligence_version", "", Text, ""),
    row("px_compromised_credentials_header", "px_compromised_credentials_header_name", Text, ""),
    row("px_credentials_intelligence_query_string", "", Flag, ""),
    row("px_compromised_credentials_returned_status_response", "", Number, ""),
    row("px_login_successful_reporting_method", "", Text, ""),
    row("px_login_successful_status", "", List, ""),
    row("px_login_successful_header_name", "", Text, ""),
    row("px_login_successful_header_value", "", Text, ""),
    row("px_login_successful_body_regex", "", Regexes, ""),
    row(
        "px_login_successful_custom",
        "px_login_successful_custom_callback custom_login_successful \
         px_custom_set_login_successful_response_header",
        Hint,
        VALUE,
    ),
    row("px_send_raw_username_on_additional_s2s_activity", "", Flag, ""),
    row("px_automatic_additional_s2s_activity_enabled", "", Flag, ""),
    row("px_additional_s2s_activity_header_enabled", "", Flag, ""),
    row("px_graphql_enabled", "", Flag, ""),
    row("px_graphql_routes", "px_graphql_paths graphqlRoutes", Routes, ""),
    row("px_graphql_routes", "px_graphql_routes_regex", RegexRoutes, ""),
    row("px_custom_is_graphql_route", "", Hint, PREDICATE),
    row("px_sensitive_graphql_operation_types", "sensitiveGraphqlOperationTypes", List, ""),
    row("px_sensitive_graphql_operation_names", "sensitiveGraphqlOperationNames", List, ""),
    row("px_graphql_keywords", "", Regexes, ""),
    row("px_extract_graphql_keywords", "px_custom_extract_graphql_keywords", Hint, VALUE),
    row("px_jwt_cookie_name", "", Text, ""),
    row("px_jwt_cookie_user_id_field_name", "", Text, ""),
    row("px_jwt_cookie_additional_field_names", "", List, ""),
    row("px_jwt_header_name", "", Text, ""),
    row("px_jwt_header_user_id_field_name", "", Text, ""),
    row("px_jwt_header_additional_field_names", "", List, ""),
    row("px_jwt_additional_field", "px_custom_extract_jwt_additional_fields", Hint, VALUE),
    row("px_cors_support_enabled", "", Flag, ""),
    row("px_cors_preflight_request_filter_enabled", "", Flag, ""),
    row(
        "px_cors_custom_preflight_handler",
        "px_custom_cors_preflight_handler px_cors_preflight_handler",
        Hint,
        NAMED,
    ),
    row("px_cors_preflight_handler_enabled", "", Flag, ""),
    row(
        "px_cors_block_response_header",
        "px_cors_create_custom_block_response_headers \
         px_custom_cors_set_custom_block_response_headers",
        Hint,
        "a function: one line for each header, name and value",
    ),
    row("px_cors_create_custom_block_response_headers_enabled", "", Flag, ""),
    row(
        "px_send_async_activities_enabled",
        "send_page_requested_activity px_send_page_requested_activity sendPageActivities \
         ReportPageRequest",
        Flag,
        "",
    ),
    row("px_deferred_activities", "postpone_page_requested", Flag, ""),
    row("px_compression_enabled", "", Flag, ""),
    row("px_compression_level", "", Number, ""),
    row("px_max_activity_batch_size", "px_maxbuflen maxActivityBatchSize", Number, ""),
    row("px_batch_activities_timeout_ms", "", Millis, ""),
    row("px_async_timeout", "client_timeout px_client_timeout", Millis, ""),
    row(
        "px_additional_activity_handler",
        "additional_activity_handler additionalActivityHandler \
         px_custom_additional_activity_handler ADDITIONAL_ACTIVITY_HANDLER",
        Hint,
        "a function: log_format with $px_… logs, proxy_set_header X-… $px_… tells the origin",
    ),
    row("px_additional_activity_handler_enabled", "", Flag, ""),
    row("", "px_async_activities_logger px_telemetry_activity_logger", Nothing, LOGGERS),
    row("", "px_debug_syslog_name px_error_syslog_name", Nothing, LOGGERS),
    row("px_debug_probability", "", Number, ""),
    row("px_logger_auth_token", "", Text, ""),
    row("px_telemetry_header", "", Text, ""),
    row("px_remote_config_id", "", Text, ""),
    row("px_remote_config_auth_token", "", Text, ""),
    row("px_remote_config_max_fetch_attempts", "", Number, ""),
    row("px_remote_config_retry_interval_ms", "", Millis, ""),
    row(
        "",
        "px_remote_config_enabled px_remote_config_version",
        Nothing,
        "members of the remote document",
    ),
    row(
        "px_dynamic_configurations",
        "dynamic_configurations px_dynamic_configuration_enabled EnableRemoteConfiguration",
        Flag,
        "",
    ),
    row("px_configuration_server", "configuration_server RemoteConfigurationUrl", Text, ""),
    row("px_configuration_server_port", "configuration_server_port", Number, ""),
    row("px_load_interval", "load_interval", Seconds, ""),
    row("px_load_interval", "RemoteConfigurationIntervalMS", Millis, ""),
    row("", "px_fastly_api_token px_enforcer_config_rdata_id", Nothing, "belongs to Fastly"),
    row("px_csp_enabled", "cspEnabled", Flag, ""),
    row("px_csp_no_updates_max_interval_minutes", "cspNoUpdatesMaxIntervalMinutes", Number, ""),
    row("px_csp_policy_refresh_interval_minutes", "cspPolicyRefreshIntervalMinutes", Number, ""),
    row("px_csp_data_url", "", Text, ""),
    row("px_csp_nonce", "addNonce", Hint, VALUE),
    row(
        "px_snippet_provider_enabled",
        "px_sensor_inject_enabled px_snippet_injection_enabled",
        Flag,
        "",
    ),
    row("px_snippet_provider_cache_ttl_seconds", "", Number, ""),
    row("px_snippet_provider_url", "", Text, ""),
    row("px_create_custom_snippet", "", Hint, VALUE),
    row("px_agentic_trust_enabled", "", Flag, ""),
    row("px_agentic_trust_mcp_endpoint_path", "", Text, ""),
    row("px_backend_url", "base_url BaseURL backendUrl", Host, ""),
    row("px_backend_collector_url", "collector_host CollectorBaseUrl", Host, ""),
    row("px_risk_backend", "px_set_custom_risk_backend_overwrite", Hint, VALUE),
    row("px_proxy_url", "proxy_url ProxyURL proxyUrl", Text, ""),
    row("px_proxy_authorization", "proxy_authorization", Text, ""),
    row("px_user_agent_max_length", "", Number, ""),
    row("px_risk_cookie_max_length", "", Number, ""),
    row("px_risk_cookie_min_iterations", "", Number, ""),
    row("px_risk_cookie_max_iterations", "", Number, ""),
    row("px_token_version", "", List, ""),
    row("px_hypesale_host", "hypesale_host", Host, ""),
    row("px_enabled_if", "custom_enabled_routes", Hint, PREDICATE),
    row("px_enable_server_calls", "enable_server_calls", Flag, ""),
    row("", "ssl_enabled px_ssl_enabled px_port", Nothing, PORTS),
    row(
        "",
        "collector_port_overide client_port_overide px_collector_port_overide \
         px_client_port_overide",
        Nothing,
        PORTS,
    ),
    row("", "cookie_encrypted px_cookie_encrypted", Nothing, "cookies are taken as they come"),
    row("px_max_body_size", "", Text, ""),
    row("px_max_errors_threshold", "MaxPXErrorsThreshold", Number, ""),
    row("px_errors_count_interval", "PXErrorsCountInterval", Millis, ""),
    row(
        "",
        "PXServiceMonitor PXHealthCheck",
        Nothing,
        "the module always watches the service; see px_max_errors_threshold",
    ),
    row(
        "",
        "Captcha CaptchaTimeout CaptchaType CaptchaSubdomain CurlPoolSize RedirectCurlPoolSize \
         BackgroundActivitySend BackgroundActivityWorkers BackgroundActivityQueueSize \
         EnableTokenViaHeader VidHeader VidHeaderName UuidHeader ConnectTimeoutMS \
         EnableBlockingByHostname EnableAccessControlAllowOriginWildcard \
         PXApplyAccessControlAllowOriginByEnvVar px_testing_mode_enabled px_custom_template_root \
         px_custom_first_party_path px_cd_first_party_enabled px_config_file_path \
         px_module_version",
        Nothing,
        "has no place in nginx",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_once() {
        let mut seen = std::collections::BTreeSet::new();
        for name in ROWS.iter().flat_map(|row| row.names.split_ascii_whitespace()) {
            assert!(seen.insert(name), "{name} stands twice");
        }
    }
}
