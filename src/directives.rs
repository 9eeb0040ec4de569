//! The `px_*` directives: one row each, and the one setter nginx calls for all of them.
//!
//! Adding a directive is a row here, a field in `values.rs`, and its entry in
//! `docs/directives.md`; a test compares table and document.

mod args;
mod files;
mod words;

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use nginx_sys::{
    NGX_CONF_1MORE, NGX_CONF_FLAG, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE2,
    NGX_CONF_TAKE12, NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF,
    NGX_HTTP_SRV_CONF, NGX_HTTP_UPS_CONF, ngx_command_t, ngx_conf_t, ngx_str_t, ngx_uint_t,
};
use px_core::credentials::BodyRegex;
use px_core::custom_parameters::REQUEST_SLOTS;
use px_core::filter::Network;
use px_core::reason::ModuleMode;
use px_core::routes::{RegexPattern, RoutePattern};

use crate::conf::LocConf;
use crate::ffi;
use crate::hooks::Condition;
use crate::log::{self, EMERG, Severity};
use crate::values::Values;
use args::{Args, Unit};
use words::{cookie_name, extension, header_name, http_method, operation_type, path, status_code};

/// `http`, `server` and `location`, as nearly every `px_*` directive; the argument count is added.
const HSL: ngx_uint_t = (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF) as ngx_uint_t;
/// One argument. Flags are taken as text, because more words than `on` and `off` are accepted.
const ONE: ngx_uint_t = NGX_CONF_TAKE1 as ngx_uint_t;
const TWO: ngx_uint_t = NGX_CONF_TAKE2 as ngx_uint_t;
const NONE_OR_ONE: ngx_uint_t = (NGX_CONF_NOARGS | NGX_CONF_TAKE1) as ngx_uint_t;
const ONE_OR_TWO: ngx_uint_t = NGX_CONF_TAKE12 as ngx_uint_t;
const MANY: ngx_uint_t = NGX_CONF_1MORE as ngx_uint_t;
const _: () = assert!(NGX_CONF_FLAG as ngx_uint_t & HSL == 0);

/// One directive.
pub(crate) struct Directive {
    /// With its terminating null: nginx compares names as C strings.
    pub(crate) name: &'static CStr,
    contexts: ngx_uint_t,
    args: ngx_uint_t,
    set: fn(&mut Values, &Args<'_>) -> Result<(), Refusal>,
}

const fn row(
    name: &'static CStr,
    args: ngx_uint_t,
    set: fn(&mut Values, &Args<'_>) -> Result<(), Refusal>,
) -> Directive {
    Directive { name, contexts: HSL, args, set }
}

impl Directive {
    const fn in_locations_only(mut self) -> Self {
        self.contexts = NGX_HTTP_LOC_CONF as ngx_uint_t;
        self
    }
}

/// Every directive and synonym, in the order of options.md.
#[rustfmt::skip]
pub(crate) static DIRECTIVES: [Directive; 239] = [
    // Identity and switches
    row(c"px_app_id", ONE, |v, a| once(&mut v.app_id, a.app_id()?)),
    row(c"px_appId", ONE, |v, a| once(&mut v.app_id, a.app_id()?)),
    row(c"px_auth_token", ONE_OR_TWO, |v, a| once(&mut v.auth_token, a.secrets()?)),
    row(c"px_auth_token_file", ONE, |v, a| once(&mut v.auth_token, a.secret_lines()?)),
    row(c"px_cookie_secret", ONE_OR_TWO, |v, a| once(&mut v.cookie_secret, a.secrets()?)),
    row(c"px_cookie_secret_file", ONE, |v, a| once(&mut v.cookie_secret, a.secret_lines()?)),
    row(c"px_cookie_secret_old", ONE, |v, a| once(&mut v.cookie_secret_old, a.secret(0)?)),
    row(c"px_cookie_secret_old_file", ONE, |v, a| once(&mut v.cookie_secret_old, a.secret_file()?)),
    row(c"px_enabled", ONE, |v, a| once(&mut v.enabled, a.flag()?)),
    row(c"px_module_enabled", ONE, |v, a| once(&mut v.enabled, a.flag()?)),
    row(c"px_active_header_name", ONE, |v, a| once(&mut v.active_header_name, a.header_name()?)),
    row(c"px_block_enabled", ONE, |v, a| mode(&mut v.module_mode, a.block_enabled()?)),
    row(c"px_module_mode", ONE, |v, a| mode(&mut v.module_mode, a.module_mode()?)),
    row(c"px_blocking_score", ONE, |v, a| once(&mut v.blocking_score, a.number(0, 100)?)),
    row(c"px_bypass_monitor_header", ONE, |v, a| once(&mut v.bypass_monitor_header, a.header_name()?)),
    row(c"px_s2s_timeout", ONE, |v, a| once(&mut v.s2s_timeout, a.milliseconds(1, 60_000)?)),
    row(c"px_enforce_timeout", ONE, |v, a| once(&mut v.enforce_timeout, a.milliseconds(1, 60_000)?)),
    row(c"px_debug", ONE, |v, a| severity(&mut v.logger_severity, a.debug()?)),
    row(c"px_logger_severity", ONE, |v, a| severity(&mut v.logger_severity, a.severity()?)),
    row(c"px_debug_probability", ONE, |v, a| once(&mut v.debug_probability, a.number(1, 1_000_000)?)),
    row(c"px_bot_enforcer", ONE, |v, a| once(&mut v.bot_enforcer, a.flag()?)),
    row(c"px_enabled_if", MANY, |v, a| any(&mut v.enabled_if, a.condition()?)),
    row(c"px_enable_server_calls", ONE, |v, a| once(&mut v.enable_server_calls, a.flag()?)),
    row(c"px_pre_enforce_handler", MANY, |v, a| any(&mut v.pre_enforce_handler, a.condition()?)),
    row(c"px_variables_enabled", ONE, |v, a| once(&mut v.variables_enabled, a.variables_enabled()?)),
    row(c"px_url_decode_reserved_characters", ONE, |v, a| once(&mut v.url_decode_reserved_characters, a.flag()?)),

    // Which requests: filters
    row(c"px_enabled_routes", MANY, |v, a| append(&mut v.enabled_routes, a.list(RoutePattern::parse)?)),
    row(c"px_whitelist_uri_full", MANY, |v, a| append(&mut v.whitelist_uri_full, a.texts()?)),
    row(c"px_whitelist_uri_prefixes", MANY, |v, a| append(&mut v.whitelist_uri_prefixes, a.texts()?)),
    row(c"px_whitelist_uri_suffixes", MANY, |v, a| append(&mut v.whitelist_uri_suffixes, a.texts()?)),
    row(c"px_whitelist_uri_pattern", MANY, |v, a| append(&mut v.whitelist_uri_pattern, a.list(RegexPattern::parse)?)),
    row(c"px_whitelist_ip_addresses", MANY, |v, a| append(&mut v.filter_by_ip, a.list(Network::parse)?)),
    row(c"px_filter_by_ip", MANY, |v, a| append(&mut v.filter_by_ip, a.list(Network::parse)?)),
    row(c"px_whitelist_ua_full", MANY, |v, a| append(&mut v.whitelist_ua_full, a.texts()?)),
    row(c"px_whitelist_ua_sub", MANY, |v, a| append(&mut v.whitelist_ua_sub, a.texts()?)),
    row(c"px_whitelist_hosts", MANY, |v, a| append(&mut v.whitelist_hosts, a.texts()?)),
    row(c"px_filter_by_route", MANY, |v, a| append(&mut v.filter_by_route, a.list(RoutePattern::parse)?)),
    row(c"px_filter_by_domain", MANY, |v, a| append(&mut v.filter_by_domain, a.list(RegexPattern::parse)?)),
    row(c"px_filter_by_extension", MANY, |v, a| append(&mut v.filter_by_extension, a.list(extension)?)),
    row(c"px_filter_by_http_method", MANY, |v, a| append(&mut v.filter_by_http_method, a.list(http_method)?)),
    row(c"px_filter_by_user_agent", MANY, |v, a| append(&mut v.filter_by_user_agent, a.list(RoutePattern::parse)?)),
    row(c"px_filter_by_header", ONE_OR_TWO, |v, a| append(&mut v.filter_by_header, a.header_and_value()?)),
    row(c"px_filter_strict", ONE, |v, a| once(&mut v.filter_strict, a.flag()?)),
    row(c"px_custom_is_filtered_request", MANY, |v, a| any(&mut v.custom_is_filtered_request, a.condition()?)),
    row(c"px_filter_on_cache_hit_enabled", ONE, |_, a| a.without_effect("nginx looks into its cache after this module has decided; put the enforcer where the cache is filled")),

    // Which requests: monitored, enforced, sensitive
    row(c"px_enforced_routes", MANY, |v, a| append(&mut v.enforced_routes, a.list(RoutePattern::parse_or_anchored_regex)?)),
    row(c"px_enforced_routes_exclusive", ONE, |v, a| once(&mut v.enforced_routes_exclusive, a.flag()?)),
    row(c"px_custom_is_enforced_request", MANY, |v, a| any(&mut v.custom_is_enforced_request, a.condition()?)),
    row(c"px_monitored_routes", MANY, |v, a| append(&mut v.monitored_routes, a.list(RoutePattern::parse_or_anchored_regex)?)),
    row(c"px_custom_is_monitored_request", MANY, |v, a| any(&mut v.custom_is_monitored_request, a.condition()?)),
    row(c"px_sensitive_routes", MANY, |v, a| append(&mut v.sensitive_routes, a.list(RoutePattern::parse)?)),
    row(c"px_sensitive_routes_prefix", MANY, |v, a| append(&mut v.sensitive_routes_prefix, a.texts()?)),
    row(c"px_sensitive_routes_suffix", MANY, |v, a| append(&mut v.sensitive_routes_suffix, a.texts()?)),
    row(c"px_sensitive_routes_regex", MANY, |v, a| append(&mut v.sensitive_routes_regex, a.list(RegexPattern::parse)?)),
    row(c"px_custom_is_sensitive_request", MANY, |v, a| any(&mut v.custom_is_sensitive_request, a.condition()?)),

    // Client address, headers, cookies
    row(c"px_ip_headers", MANY, |v, a| append(&mut v.ip_headers, a.list(header_name)?)),
    row(c"px_custom_client_ip_extraction", ONE, |v, a| once(&mut v.client_ip, a.complex_value()?)),
    row(c"px_client_ip", ONE, |v, a| once(&mut v.client_ip, a.complex_value()?)),
    row(c"px_anonymize_ip", ONE, |v, a| once(&mut v.anonymize_ip, a.flag()?)),
    row(c"px_sensitive_headers", MANY, |v, a| append(&mut v.sensitive_headers, a.list(header_name)?)),
    row(c"px_sensitive_headers_enabled", ONE, |v, a| once(&mut v.sensitive_headers_enabled, a.flag()?)),
    row(c"px_allowed_cookies", MANY, |v, a| append(&mut v.allowed_cookies, a.texts()?)),
    row(c"px_custom_cookie_header", ONE, |v, a| once(&mut v.custom_cookie_header, a.header_name()?)),
    row(c"px_custom_cookie_header_enabled", ONE, |v, a| once(&mut v.custom_cookie_header_enabled, a.custom_cookie_header_enabled()?)),
    row(c"px_activity_header", ONE_OR_TWO, |v, a| append(&mut v.activity_header, a.header_and_complex_value()?)),
    row(c"px_custom_activity_headers", ONE_OR_TWO, |v, a| append(&mut v.activity_header, a.header_and_complex_value()?)),
    row(c"px_custom_parameters", MANY, |v, a| slots(&mut v.custom_parameters, a.slots(header_name)?)),
    row(c"px_cookie_custom_parameters", MANY, |v, a| slots(&mut v.cookie_custom_parameters, a.slots(cookie_name)?)),
    row(c"px_custom_parameter", TWO, |v, a| append(&mut v.custom_parameter, a.custom_parameter()?)),

    // Headers for origin and client
    row(c"px_score_header_enabled", ONE, |v, a| once(&mut v.score_header_enabled, a.flag()?)),
    row(c"px_score_header_name", ONE, |v, a| once(&mut v.score_header_name, a.header_name()?)),
    row(c"px_upstream_score_header_name", ONE, |v, a| once(&mut v.upstream_score_header_name, a.header_name()?)),
    row(c"px_identifier_header_name", ONE, |v, a| once(&mut v.identifier_header_name, a.header_name()?)),
    row(c"px_add_block_result_header", ONE, |v, a| once(&mut v.add_block_result_header, a.flag()?)),
    row(c"px_enable_pre_clean", ONE, |_, a| a.without_effect("nothing has to be cleaned; use \"proxy_set_header\" with the $px_* variables")),
    row(c"px_data_enrichment_header_name", ONE, |v, a| once(&mut v.data_enrichment_header_name, a.header_name()?)),
    row(c"px_pxde_header_name", ONE, |v, a| once(&mut v.data_enrichment_header_name, a.header_name()?)),
    row(c"px_enable_pxde", ONE, |v, a| once(&mut v.enable_pxde, a.flag()?)),
    row(c"px_secured_pxhd_enabled", ONE, |v, a| once(&mut v.secured_pxhd_enabled, a.flag()?)),

    // Block response
    row(c"px_enable_json_response", ONE, |v, a| once(&mut v.enable_json_response, a.flag()?)),
    row(c"px_advanced_blocking_response_enabled", ONE, |v, a| once(&mut v.enable_json_response, a.flag()?)),
    row(c"px_custom_logo", ONE, |v, a| once(&mut v.custom_logo, a.complex_value()?)),
    row(c"px_css_ref", ONE, |v, a| once(&mut v.css_ref, a.complex_value()?)),
    row(c"px_js_ref", ONE, |v, a| once(&mut v.js_ref, a.complex_value()?)),
    row(c"px_custom_block_url", ONE, |v, a| once(&mut v.custom_block_url, a.block_url()?)),
    row(c"px_redirect_on_custom_url", ONE, |v, a| once(&mut v.redirect_on_custom_url, a.flag()?)),
    row(c"px_redirect_to_referer", ONE, |v, a| once(&mut v.redirect_to_referer, a.flag()?)),
    row(c"px_api_protection_mode", ONE, |v, a| once(&mut v.api_protection_mode, a.flag()?)),
    row(c"px_api_protection_block_url", ONE, |v, a| once(&mut v.api_protection_block_url, a.complex_value()?)),
    row(c"px_api_protection_default_redirect_url", ONE, |v, a| once(&mut v.api_protection_default_redirect_url, a.complex_value()?)),
    row(c"px_block_size_exceeded_15k_headers_size", ONE, |v, a| once(&mut v.block_size_exceeded_15k_headers_size, a.flag()?)),
    row(c"px_custom_block_page_content", ONE, |v, a| once(&mut v.custom_block_page_content, a.complex_value()?)),
    row(c"px_custom_web_block_page_response", ONE, |v, a| once(&mut v.custom_web_block_page_response, a.named_location()?)),
    row(c"px_custom_create_synthetic_web_response", ONE, |v, a| once(&mut v.custom_web_block_page_response, a.named_location()?)),
    row(c"px_custom_create_advanced_blocking_response", ONE, |v, a| once(&mut v.custom_create_advanced_blocking_response, a.named_location()?)),
    row(c"px_custom_rate_limit_block_page", ONE, |v, a| once(&mut v.custom_rate_limit_block_page, a.named_location()?)),
    row(c"px_custom_verification_handler", MANY, |v, a| once(&mut v.custom_verification_handler, a.handler()?)),
    row(c"px_client_host", ONE, |v, a| once(&mut v.client_host, a.url()?)),
    row(c"px_backend_client_url", ONE, |v, a| once(&mut v.client_host, a.url()?)),
    row(c"px_captcha_script_host", ONE, |v, a| once(&mut v.captcha_script_host, a.url()?)),
    row(c"px_backend_captcha_url", ONE, |v, a| once(&mut v.captcha_script_host, a.url()?)),

    // Hype sale
    row(c"px_hype_sale", MANY, |v, a| any(&mut v.hype_sale, a.condition()?)),
    row(c"px_hypesale_host", ONE, |v, a| once(&mut v.hypesale_host, a.url()?)),
    row(c"px_hype_sale_fail_open", ONE, |v, a| once(&mut v.hype_sale_fail_open, a.flag()?)),

    // First party
    row(c"px_first_party_enabled", ONE, |v, a| once(&mut v.first_party_enabled, a.flag()?)),
    row(c"px_reverse_xhr_enabled", ONE, |v, a| once(&mut v.reverse_xhr_enabled, a.flag()?)),
    row(c"px_custom_first_party_prefix", ONE, |v, a| once(&mut v.custom_first_party_prefix, a.first_party_prefix()?)),
    row(c"px_custom_first_party_sensor_endpoint", ONE, |v, a| once(&mut v.custom_first_party_sensor_endpoint, a.first_party_endpoint()?)),
    row(c"px_custom_first_party_xhr_endpoint", ONE, |v, a| once(&mut v.custom_first_party_xhr_endpoint, a.first_party_endpoint()?)),
    row(c"px_custom_first_party_captcha_endpoint", ONE, |v, a| once(&mut v.custom_first_party_captcha_endpoint, a.first_party_endpoint()?)),
    row(c"px_first_party_timeout_ms", ONE, |v, a| once(&mut v.first_party_timeout_ms, a.milliseconds(1, 60_000)?)),
    row(c"px_first_party_cache", ONE_OR_TWO, |v, a| once(&mut v.first_party_cache, a.first_party_cache()?)),

    // Code Defender
    row(c"px_code_enforcer", ONE, |v, a| once(&mut v.code_enforcer, a.flag()?)),
    row(c"px_csp_enabled", ONE, |v, a| once(&mut v.csp_enabled, a.flag()?)),
    row(c"px_csp_no_updates_max_interval_minutes", ONE, |v, a| once(&mut v.csp_no_updates_max_interval, a.time_in(Unit::Minutes)?)),
    row(c"px_csp_policy_refresh_interval_minutes", ONE, |v, a| once(&mut v.csp_policy_refresh_interval, a.time_in(Unit::Minutes)?)),
    row(c"px_csp_data_url", ONE, |v, a| once(&mut v.csp_data_url, a.url()?)),
    row(c"px_csp_nonce", ONE, |v, a| once(&mut v.csp_nonce, a.complex_value()?)),

    // Snippet injection
    row(c"px_snippet_provider_enabled", ONE, |v, a| once(&mut v.snippet_provider_enabled, a.flag()?)),
    row(c"px_sensor_inject_enabled", ONE, |v, a| once(&mut v.snippet_provider_enabled, a.flag()?)),
    row(c"px_snippet_injection_enabled", ONE, |v, a| once(&mut v.snippet_provider_enabled, a.flag()?)),
    row(c"px_snippet_provider_cache_ttl_seconds", ONE, |v, a| once(&mut v.snippet_provider_cache_ttl, a.time_in(Unit::Seconds)?)),
    row(c"px_snippet_provider_url", ONE, |v, a| once(&mut v.snippet_provider_url, a.url()?)),
    row(c"px_create_custom_snippet", ONE, |v, a| once(&mut v.create_custom_snippet, a.complex_value()?)),

    // Remote configuration, telemetry, log shipping
    row(c"px_remote_config_id", ONE, |v, a| once(&mut v.remote_config_id, a.text(0)?)),
    row(c"px_remote_config_auth_token", ONE, |v, a| once(&mut v.remote_config_auth_token, a.secret(0)?)),
    row(c"px_remote_config_auth_token_file", ONE, |v, a| once(&mut v.remote_config_auth_token, a.secret_file()?)),
    row(c"px_remote_config_max_fetch_attempts", ONE, |v, a| once(&mut v.remote_config_max_fetch_attempts, a.number(1, 100)?)),
    row(c"px_remote_config_retry_interval_ms", ONE, |v, a| once(&mut v.remote_config_retry_interval_ms, a.milliseconds(10, 600_000)?)),
    row(c"px_remote_config_refresh_interval", ONE, |v, a| once(&mut v.remote_config_refresh_interval, a.refresh_interval()?)),
    row(c"px_remote_config_cache", ONE, |v, a| once(&mut v.remote_config_cache, a.directory_or_off()?)),
    row(c"px_initial_telemetry_enabled", ONE, |v, a| once(&mut v.initial_telemetry_enabled, a.flag()?)),
    row(c"px_logger_auth_token", ONE, |v, a| once(&mut v.logger_auth_token, a.secret(0)?)),
    row(c"px_logger_auth_token_file", ONE, |v, a| once(&mut v.logger_auth_token, a.secret_file()?)),
    row(c"px_dynamic_configurations", ONE, |_, a| a.without_effect("the older, polled configuration is not supported; use \"px_remote_config_id\"")),
    row(c"px_configuration_server", ONE, |_, a| a.without_effect("the older, polled configuration is not supported; use \"px_remote_config_id\"")),
    row(c"px_configuration_server_port", ONE, |_, a| a.without_effect("the older, polled configuration is not supported; use \"px_remote_config_id\"")),
    row(c"px_load_interval", ONE, |_, a| a.without_effect("the older, polled configuration is not supported; use \"px_remote_config_id\"")),

    // Credential Intelligence
    row(c"px_enable_login_creds_extraction", ONE, |v, a| once(&mut v.enable_login_creds_extraction, a.flag()?)),
    row(c"px_login_credentials_extraction_enabled", ONE, |v, a| once(&mut v.enable_login_creds_extraction, a.flag()?)),
    row(c"px_login_creds_settings_filename", ONE, |v, a| once(&mut v.login_creds_settings, a.login_endpoints_file()?)),
    row(c"px_login_credentials_extraction", MANY, |v, a| append(&mut v.login_credentials_extraction, a.login_endpoint()?)),
    row(c"px_credentials_intelligence_version", ONE, |v, a| once(&mut v.credentials_intelligence_version, a.protocol()?)),
    row(c"px_compromised_credentials_header", ONE, |v, a| once(&mut v.compromised_credentials_header, a.header_name()?)),
    row(c"px_credentials_intelligence_query_string", ONE, |v, a| once(&mut v.credentials_intelligence_query_string, a.flag()?)),
    row(c"px_compromised_credentials_returned_status_response", ONE, |v, a| once(&mut v.compromised_credentials_returned_status_response, a.number(200, 599)? as u16)),
    row(c"px_login_successful_reporting_method", ONE, |v, a| once(&mut v.login_successful_reporting_method, a.login_method()?)),
    row(c"px_login_successful_status", MANY, |v, a| append(&mut v.login_successful_status, a.list(status_code)?)),
    row(c"px_login_successful_header_name", ONE, |v, a| once(&mut v.login_successful_header_name, a.parse(header_name)?)),
    row(c"px_login_successful_header_value", ONE, |v, a| once(&mut v.login_successful_header_value, a.text(0)?)),
    row(c"px_login_successful_body_regex", ONE, |v, a| once(&mut v.login_successful_body_regex, a.parse(BodyRegex::parse)?)),
    row(c"px_login_successful_custom", ONE, |v, a| once(&mut v.login_successful_custom, a.complex_value()?)),
    row(c"px_login_successful_custom_callback", ONE, |v, a| once(&mut v.login_successful_custom, a.complex_value()?)),
    row(c"px_send_raw_username_on_additional_s2s_activity", ONE, |v, a| once(&mut v.send_raw_username_on_additional_s2s_activity, a.flag()?)),
    row(c"px_automatic_additional_s2s_activity_enabled", ONE, |v, a| once(&mut v.automatic_additional_s2s_activity_enabled, a.flag()?)),
    row(c"px_additional_s2s_activity_header_enabled", ONE, |v, a| once(&mut v.additional_s2s_activity_header_enabled, a.flag()?)),

    // GraphQL
    row(c"px_graphql_enabled", ONE, |v, a| once(&mut v.graphql_enabled, a.flag()?)),
    row(c"px_graphql_routes", MANY, |v, a| append(&mut v.graphql_routes, a.list(RoutePattern::parse)?)),
    row(c"px_graphql_get_enabled", ONE, |v, a| once(&mut v.graphql_get_enabled, a.flag()?)),
    row(c"px_custom_is_graphql_route", MANY, |v, a| any(&mut v.custom_is_graphql_route, a.condition()?)),
    row(c"px_sensitive_graphql_operation_types", MANY, |v, a| append(&mut v.sensitive_graphql_operation_types, a.list(operation_type)?)),
    row(c"px_sensitive_graphql_operation_names", MANY, |v, a| append(&mut v.sensitive_graphql_operation_names, a.list(RegexPattern::parse)?)),
    row(c"px_graphql_keywords", MANY, |v, a| append(&mut v.graphql_keywords, a.list(RegexPattern::parse)?)),
    row(c"px_extract_graphql_keywords", ONE, |v, a| once(&mut v.extract_graphql_keywords, a.complex_value()?)),
    row(c"px_custom_extract_graphql_keywords", ONE, |v, a| once(&mut v.extract_graphql_keywords, a.complex_value()?)),

    // Account Defender
    row(c"px_jwt_cookie_name", ONE, |v, a| once(&mut v.jwt_cookie_name, a.optional_cookie_name()?)),
    row(c"px_jwt_cookie_user_id_field_name", ONE, |v, a| once(&mut v.jwt_cookie_user_id_field_name, a.text(0)?)),
    row(c"px_jwt_cookie_additional_field_names", MANY, |v, a| append(&mut v.jwt_cookie_additional_field_names, a.texts()?)),
    row(c"px_jwt_header_name", ONE, |v, a| once(&mut v.jwt_header_name, a.header_name()?)),
    row(c"px_jwt_header_user_id_field_name", ONE, |v, a| once(&mut v.jwt_header_user_id_field_name, a.text(0)?)),
    row(c"px_jwt_header_additional_field_names", MANY, |v, a| append(&mut v.jwt_header_additional_field_names, a.texts()?)),
    row(c"px_jwt_additional_field", ONE_OR_TWO, |v, a| append(&mut v.jwt_additional_field, a.name_and_complex_value()?)),
    row(c"px_custom_extract_jwt_additional_fields", ONE_OR_TWO, |v, a| append(&mut v.jwt_additional_field, a.name_and_complex_value()?)),

    // Agentic Trust
    row(c"px_agentic_trust_enabled", ONE, |v, a| once(&mut v.agentic_trust_enabled, a.flag()?)),
    row(c"px_agentic_trust_mcp_endpoint_path", ONE, |v, a| once(&mut v.agentic_trust_mcp_endpoint_path, a.parse(path)?)),

    // CORS
    row(c"px_cors_support_enabled", ONE, |v, a| once(&mut v.cors_support_enabled, a.flag()?)),
    row(c"px_cors_preflight_request_filter_enabled", ONE, |v, a| once(&mut v.cors_preflight_request_filter_enabled, a.flag()?)),
    row(c"px_cors_custom_preflight_handler", MANY, |v, a| once(&mut v.cors_custom_preflight_handler, a.handler()?)),
    row(c"px_custom_cors_preflight_handler", MANY, |v, a| once(&mut v.cors_custom_preflight_handler, a.handler()?)),
    row(c"px_cors_preflight_handler_enabled", ONE, |v, a| once(&mut v.cors_preflight_handler_enabled, a.flag()?)),
    row(c"px_cors_block_response_header", ONE_OR_TWO, |v, a| append(&mut v.cors_block_response_header, a.header_and_complex_value()?)),
    row(c"px_cors_create_custom_block_response_headers", ONE_OR_TWO, |v, a| append(&mut v.cors_block_response_header, a.header_and_complex_value()?)),
    row(c"px_custom_cors_set_custom_block_response_headers", ONE_OR_TWO, |v, a| append(&mut v.cors_block_response_header, a.header_and_complex_value()?)),
    row(c"px_cors_create_custom_block_response_headers_enabled", ONE, |v, a| once(&mut v.cors_create_custom_block_response_headers_enabled, a.flag()?)),

    // Activities
    row(c"px_send_async_activities_enabled", ONE, |v, a| once(&mut v.send_async_activities_enabled, a.flag()?)),
    row(c"px_send_page_requested_activity", ONE, |v, a| once(&mut v.send_async_activities_enabled, a.flag()?)),
    row(c"px_deferred_activities", ONE, |v, a| once(&mut v.deferred_activities, a.flag()?)),
    row(c"px_additional_activity_handler", ONE, |v, a| once(&mut v.additional_activity_handler, a.target()?)),
    row(c"px_custom_additional_activity_handler", ONE, |v, a| once(&mut v.additional_activity_handler, a.target()?)),
    row(c"px_additional_activity_handler_enabled", ONE, |v, a| once(&mut v.additional_activity_handler_enabled, a.flag()?)),
    row(c"px_telemetry_header", ONE, |v, a| once(&mut v.telemetry_header, a.header_name()?)),
    row(c"px_async_activities_logger", ONE, |_, a| a.without_effect("the module posts activities itself")),
    row(c"px_telemetry_activity_logger", ONE, |_, a| a.without_effect("the module posts telemetry itself")),
    row(c"px_debug_syslog_name", ONE, |_, a| a.without_effect("lines go to nginx's \"error_log\", which knows syslog")),
    row(c"px_error_syslog_name", ONE, |_, a| a.without_effect("lines go to nginx's \"error_log\", which knows syslog")),
    row(c"px_compression_enabled", ONE, |v, a| once(&mut v.compression_enabled, a.flag()?)),
    row(c"px_compression_level", ONE, |v, a| once(&mut v.compression_level, a.number(1, 9)?)),
    row(c"px_max_activity_batch_size", ONE, |v, a| once(&mut v.max_activity_batch_size, a.number(0, 1000)? as usize)),
    row(c"px_batch_activities_timeout_ms", ONE, |v, a| once(&mut v.batch_activities_timeout_ms, a.milliseconds(10, 60_000)?)),
    row(c"px_async_timeout", ONE, |v, a| once(&mut v.async_timeout, a.milliseconds(10, 60_000)?)),
    row(c"px_activity_spool", ONE_OR_TWO, |v, a| once(&mut v.activity_spool, a.activity_spool()?)),

    // Backends and limits
    row(c"px_backend_url", ONE, |v, a| once(&mut v.backend_url, a.url()?)),
    row(c"px_backend_collector_url", ONE, |v, a| once(&mut v.backend_collector_url, a.url()?)),
    row(c"px_risk_backend", ONE, |v, a| once(&mut v.risk_backend, a.complex_value()?)),
    row(c"px_set_custom_risk_backend_overwrite", ONE, |v, a| once(&mut v.risk_backend, a.complex_value()?)),
    row(c"px_proxy_url", ONE, |v, a| once(&mut v.proxy_url, a.proxy_url()?)),
    row(c"px_proxy_authorization", ONE, |v, a| once(&mut v.proxy_authorization, a.basic_authorization()?)),
    row(c"px_proxy_authorization_file", ONE, |v, a| once(&mut v.proxy_authorization, a.basic_authorization_file()?)),
    row(c"px_ssl_enabled", ONE, |_, a| a.without_effect("scheme and port belong to \"px_backend_url\" and \"px_backend_collector_url\"")),
    row(c"px_port", ONE, |_, a| a.without_effect("scheme and port belong to \"px_backend_url\" and \"px_backend_collector_url\"")),
    row(c"px_collector_port_overide", ONE, |_, a| a.without_effect("scheme and port belong to \"px_backend_url\" and \"px_backend_collector_url\"")),
    row(c"px_client_port_overide", ONE, |_, a| a.without_effect("scheme and port belong to \"px_backend_url\" and \"px_backend_collector_url\"")),
    row(c"px_cookie_encrypted", ONE, |_, a| a.without_effect("risk cookies are always encrypted")),
    row(c"px_client_timeout", ONE, |_, a| a.without_effect("use \"px_async_timeout\"")),
    row(c"px_max_errors_threshold", ONE, |v, a| once(&mut v.max_errors_threshold, a.number(0, 1_000_000)?)),
    row(c"px_errors_count_interval", ONE, |v, a| once(&mut v.errors_count_interval, a.milliseconds(100, 3_600_000)?)),
    row(c"px_ssl_verify", ONE, |v, a| once(&mut v.ssl_verify, a.ssl_verify()?)),
    row(c"px_ssl_verify_depth", ONE, |v, a| once(&mut v.ssl_verify_depth, a.number(1, 20)?)),
    row(c"px_ssl_trusted_certificate", ONE, |v, a| once(&mut v.ssl_trusted_certificate, a.certificate_bundle()?)),
    row(c"px_token_version", ONE_OR_TWO, |v, a| once(&mut v.token_version, a.token_version()?)),
    row(c"px_risk_cookie_max_length", ONE, |v, a| once(&mut v.risk_cookie_max_length, a.number(1, 65_536)? as usize)),
    row(c"px_risk_cookie_min_iterations", ONE, |v, a| once(&mut v.risk_cookie_min_iterations, a.number(1, 1_000_000)?)),
    row(c"px_risk_cookie_max_iterations", ONE, |v, a| once(&mut v.risk_cookie_max_iterations, a.number(1, 1_000_000)?)),
    row(c"px_user_agent_max_length", ONE, |v, a| once(&mut v.user_agent_max_length, a.number(1, 65_536)? as usize)),
    row(c"px_max_body_size", ONE, |v, a| once(&mut v.max_body_size, a.size(1, 64 << 20)?)),
    row(c"px_token_cache", ONE, |v, a| once(&mut v.token_cache, a.token_cache()?)),
    row(c"px_forged_cookie_budget", ONE, |v, a| once(&mut v.forged_cookie_budget, a.number(0, 100_000)?)),

    // Traffic-analysis node
    row(c"px_wallarm_node_address", ONE, |v, a| once(&mut v.wallarm_node_address, a.node_address()?)),
    row(c"px_wallarm_blocking", ONE, |v, a| once(&mut v.wallarm_blocking, a.flag()?)),
    row(c"px_wallarm_timeout_ms", ONE, |v, a| once(&mut v.wallarm_timeout_ms, a.milliseconds(1, 60_000)?)),
    row(c"px_wallarm_fail_open", ONE, |v, a| once(&mut v.wallarm_fail_open, a.flag()?)),
    row(c"px_wallarm_max_body_size", ONE, |v, a| once(&mut v.wallarm_max_body_size, a.size(0, 64 << 20)?)),
    row(c"px_wallarm_max_inflight", ONE, |v, a| once(&mut v.wallarm_max_inflight, a.number(1, 65_536)? as usize)),
    row(c"px_wallarm_keepalive", ONE, |v, a| once(&mut v.wallarm_keepalive, a.number(1, 1024)? as usize)),
    row(c"px_wallarm_ssl_verify", ONE, |v, a| once(&mut v.wallarm_ssl_verify, a.ssl_verify()?)),
    row(c"px_wallarm_ssl_trusted_certificate", ONE, |v, a| once(&mut v.wallarm_ssl_trusted_certificate, a.certificate_bundle()?)),
    row(c"px_wallarm_filter_extensions", ONE, |v, a| once(&mut v.wallarm_filter_extensions, a.flag()?)),
    row(c"px_wallarm_if", MANY, |v, a| any(&mut v.wallarm_if, a.condition()?)),

    // Monitoring
    row(c"px_status", NONE_OR_ONE, |v, a| once(&mut v.status, a.status()?)).in_locations_only(),
];

/// The name of the directive that stands only in the module's own upstream blocks.
pub(crate) const INTERNAL_BACKEND: &CStr = c"px_internal_backend";

/// nginx's view of [`DIRECTIVES`], with the internal directive and the terminator.
pub(crate) static mut COMMANDS: [ngx_command_t; DIRECTIVES.len() + 2] = {
    let mut commands = [const { ngx_command_t::empty() }; DIRECTIVES.len() + 2];
    let mut i = 0;
    while i < DIRECTIVES.len() {
        commands[i] = ngx_command_t {
            name: c_str_of(DIRECTIVES[i].name),
            type_: DIRECTIVES[i].contexts | DIRECTIVES[i].args,
            set: Some(set),
            conf: NGX_HTTP_LOC_CONF_OFFSET,
            offset: 0,
            post: (&raw const DIRECTIVES[i]).cast_mut().cast::<c_void>(),
        };
        i += 1;
    }
    commands[i] = ngx_command_t {
        name: c_str_of(INTERNAL_BACKEND),
        type_: NGX_HTTP_UPS_CONF as ngx_uint_t | ONE,
        set: Some(crate::upstream::set_internal_backend),
        conf: 0,
        offset: 0,
        post: ptr::null_mut(),
    };
    commands
};

const fn c_str_of(text: &'static CStr) -> ngx_str_t {
    ngx_str_t { len: text.count_bytes(), data: text.as_ptr().cast_mut().cast() }
}

/// Why a directive is refused; becomes the `[emerg]` line.
pub(crate) enum Refusal {
    /// Set before at the same level, under this name or a synonym.
    Duplicate,
    /// `invalid value "value" in "directive" directive, reason`
    Value { value: String, reason: String },
    /// `"directive": reason`, where the value must not be shown or is not the point.
    Other(String),
    /// nginx has logged the reason itself.
    Logged,
}

const CONF_OK: *mut c_char = ptr::null_mut();
const CONF_ERROR: *mut c_char = usize::MAX as *mut c_char;

unsafe extern "C" fn set(
    cf: *mut ngx_conf_t,
    cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    ffi::guard(
        "a directive",
        || CONF_ERROR,
        || {
            // SAFETY: nginx passes the command whose `set` it calls.
            let directive = unsafe { (*cmd).post }.cast::<Directive>().cast_const();
            // SAFETY: `post` of our commands points to a row of the static table.
            let directive = unsafe { &*directive };
            // SAFETY: `conf` is what create_loc_conf returned for this level; nothing else uses it now.
            let conf = unsafe { &mut *conf.cast::<LocConf>() };
            // SAFETY: nginx fills `args` with the words of the directive before it calls the setter.
            let args = unsafe { &*(*cf).args };
            // SAFETY: `args` is an array of ngx_str_t.
            let words = unsafe { args.as_slice::<ngx_str_t>() };
            let name = directive.name.to_str().unwrap_or_default();
            conf.note_place(name, cf);
            let args = Args { cf, name, words: words.get(1..).unwrap_or_default() };
            let text = match (directive.set)(&mut conf.values, &args) {
                Ok(()) => return CONF_OK,
                Err(Refusal::Logged) => return CONF_ERROR,
                Err(Refusal::Duplicate) => format!("\"{}\" directive is duplicate", args.name),
                Err(Refusal::Value { value, reason }) => {
                    format!("invalid value \"{value}\" in \"{}\" directive, {reason}", args.name)
                }
                Err(Refusal::Other(reason)) => format!("\"{}\" directive {reason}", args.name),
            };
            // SAFETY: `cf` is live for the call.
            unsafe { log::conf_line(cf, EMERG, &text) };
            CONF_ERROR
        },
    )
}

/// Sets a scalar that the level has not set yet.
fn once<T>(field: &mut Option<T>, value: T) -> Result<(), Refusal> {
    if field.is_some() {
        return Err(Refusal::Duplicate);
    }
    *field = Some(value);
    Ok(())
}

/// Adds to the list of this level.
fn append<T>(field: &mut Option<Vec<T>>, mut values: Vec<T>) -> Result<(), Refusal> {
    field.get_or_insert_default().append(&mut values);
    Ok(())
}

/// Further values that each make the condition of this level true.
fn any(field: &mut Option<Condition>, condition: Condition) -> Result<(), Refusal> {
    field.get_or_insert_default().0.extend(condition.0);
    Ok(())
}

/// Adds to a list whose places have numbers, of which there are ten.
fn slots(field: &mut Option<Vec<String>>, names: Vec<String>) -> Result<(), Refusal> {
    let list = field.get_or_insert_default();
    list.extend(names);
    if list.len() > usize::from(REQUEST_SLOTS) {
        return Err(Refusal::Other(format!("has more than {REQUEST_SLOTS} values at this level")));
    }
    Ok(())
}

/// `px_debug` and `px_logger_severity` are two spellings of one switch, as the modes are.
fn severity(field: &mut Option<Severity>, value: Severity) -> Result<(), Refusal> {
    match field {
        Some(set) if *set != value => Err(Refusal::Other(
            "contradicts \"px_debug\" or \"px_logger_severity\" at the same level".to_owned(),
        )),
        _ => {
            *field = Some(value);
            Ok(())
        }
    }
}

/// `px_block_enabled` and `px_module_mode` are two spellings of one switch: both may stand at one
/// level if they agree.
fn mode(field: &mut Option<ModuleMode>, value: ModuleMode) -> Result<(), Refusal> {
    match field {
        Some(set) if *set != value => Err(Refusal::Other(format!(
            "contradicts the mode \"{}\" that \"px_module_mode\" or \"px_block_enabled\" sets at \
             the same level",
            set.as_str()
        ))),
        _ => {
            *field = Some(value);
            Ok(())
        }
    }
}
