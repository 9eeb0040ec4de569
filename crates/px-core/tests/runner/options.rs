//! A vector's `config`, written in js-core's names and notation, as our options.
//!
//! What a vector does not give has js-core's default (endpoints-and-constants.md § 7), not ours.

use px_core::agentic_trust::AgenticTrustOptions;
use px_core::credentials::{BodyRegex, LoginMethod, LoginOptions, Protocol};
use px_core::filter::Network;
use px_core::graphql::GraphqlOptions;
use px_core::policy::{CredentialsOptions, FirstPartyOptions, Options, Secret, TokenVersion};
use px_core::reason::ModuleMode;
use px_core::routes::{RegexPattern, RoutePattern};
use px_core::user_identifiers::UserIdentifierOptions;
use serde_json::Value;

use super::credentials::endpoints;

/// The first option in `config` that this module does not have.
pub fn unknown_in(config: &Value) -> Option<&str> {
    const KNOWN: [&str; 94] = [
        "px_remote_config_id",
        "px_remote_config_auth_token",
        "px_login_credentials_extraction_enabled",
        "px_login_credentials_extraction",
        "px_credentials_intelligence_version",
        "px_compromised_credentials_header",
        "px_login_successful_reporting_method",
        "px_login_successful_status",
        "px_login_successful_header_name",
        "px_login_successful_header_value",
        "px_login_successful_body_regex",
        "px_login_successful_custom_callback",
        "px_send_raw_username_on_additional_s2s_activity",
        "px_automatic_additional_s2s_activity_enabled",
        "px_additional_s2s_activity_header_enabled",
        "px_graphql_routes",
        "px_sensitive_graphql_operation_types",
        "px_sensitive_graphql_operation_names",
        "px_graphql_keywords",
        "px_graphql_enabled",
        "px_jwt_cookie_name",
        "px_jwt_cookie_user_id_field_name",
        "px_jwt_cookie_additional_field_names",
        "px_jwt_header_name",
        "px_jwt_header_user_id_field_name",
        "px_jwt_header_additional_field_names",
        "px_agentic_trust_enabled",
        "px_agentic_trust_mcp_endpoint_path",
        "px_app_id",
        "px_auth_token",
        "px_cookie_secret",
        "px_module_enabled",
        "px_enabled",
        "px_active_header_name",
        "px_module_mode",
        "px_blocking_score",
        "px_bypass_monitor_header",
        "px_token_version",
        "px_risk_cookie_max_length",
        "px_risk_cookie_min_iterations",
        "px_risk_cookie_max_iterations",
        "px_user_agent_max_length",
        "px_custom_cookie_header",
        "px_ip_headers",
        "px_sensitive_headers",
        "px_url_decode_reserved_characters",
        "px_enabled_routes",
        "px_monitored_routes",
        "px_enforced_routes",
        "px_sensitive_routes",
        "px_sensitive_routes_prefix",
        "px_sensitive_routes_suffix",
        "px_sensitive_routes_regex",
        "px_filter_by_extension",
        "px_filter_by_route",
        "px_whitelist_uri_full",
        "px_whitelist_uri_prefixes",
        "px_whitelist_uri_suffixes",
        "px_whitelist_uri_pattern",
        "px_filter_by_http_method",
        "px_filter_by_user_agent",
        "px_whitelist_ua_full",
        "px_whitelist_ua_sub",
        "px_filter_by_ip",
        "px_whitelist_ip_addresses",
        "px_filter_by_domain",
        "px_whitelist_hosts",
        "px_filter_by_header",
        "px_backend_url",
        "px_backend_collector_url",
        "px_backend_client_url",
        "px_backend_captcha_url",
        "px_s2s_timeout",
        "px_advanced_blocking_response_enabled",
        "px_secured_pxhd_enabled",
        "px_data_enrichment_header_name",
        "px_cors_support_enabled",
        "px_cors_preflight_request_filter_enabled",
        "px_custom_logo",
        "px_css_ref",
        "px_js_ref",
        "px_custom_block_url",
        "px_redirect_on_custom_url",
        "px_redirect_to_referer",
        "px_api_protection_mode",
        "px_api_protection_block_url",
        "px_api_protection_default_redirect_url",
        "px_cors_custom_preflight_handler",
        "px_cors_create_custom_block_response_headers",
        "px_custom_parameters",
        "px_cookie_custom_parameters",
        "api_protection_mode",
        "api_protection_block_url",
        "api_protection_default_redirect_url",
    ];
    const FIRST_PARTY: [&str; 5] = [
        "px_first_party_enabled",
        "px_custom_first_party_prefix",
        "px_custom_first_party_sensor_endpoint",
        "px_custom_first_party_xhr_endpoint",
        "px_custom_first_party_captcha_endpoint",
    ];
    let mut names = config.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    names.find(|name| !KNOWN.contains(name) && !FIRST_PARTY.contains(name))
}

/// The options of a vector's `config`.
pub fn options_from(config: &Value) -> Options {
    let given = |name: &str| config.get(name).filter(|value| !value.is_null());
    let text = |name: &str, default: &str| {
        given(name).and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let flag = |name: &str, default| given(name).and_then(Value::as_bool).unwrap_or(default);
    let number = |name: &str, default| given(name).and_then(Value::as_u64).unwrap_or(default);
    let small = |name: &str, default: u32| {
        u32::try_from(number(name, default.into())).expect("a number of 32 bits")
    };
    let texts = |name: &str| texts(given(name));
    let routes = |name: &str| texts(name).iter().map(|text| route(text)).collect::<Vec<_>>();
    let expressions = |name: &str| {
        texts(name).iter().map(|text| RegexPattern::parse(text).expect("a regex")).collect()
    };
    let defaults = Options::default();
    let or_default = |name: &str, default: &[String]| {
        if given(name).is_some() { texts(name) } else { default.to_vec() }
    };

    Options {
        app_id: text("px_app_id", "PXabcd1234"),
        auth_token: Secret::new(text("px_auth_token", "made.up.auth-token_0123456789")),
        cookie_secrets: secrets(given("px_cookie_secret")),
        enabled: flag("px_enabled", true) && flag("px_module_enabled", true),
        active_header_name: text("px_active_header_name", ""),
        module_mode: match &*text("px_module_mode", "monitor") {
            "active_blocking" => ModuleMode::ActiveBlocking,
            _ => ModuleMode::Monitor,
        },
        blocking_score: small("px_blocking_score", 100),
        bypass_monitor_header: text("px_bypass_monitor_header", "x-px-block"),
        token_version: match &*text("px_token_version", "3") {
            "2" => TokenVersion::V2,
            _ => TokenVersion::V3,
        },
        risk_cookie_max_length: size(number("px_risk_cookie_max_length", 2048)),
        risk_cookie_min_iterations: small("px_risk_cookie_min_iterations", 500),
        risk_cookie_max_iterations: small("px_risk_cookie_max_iterations", 5000),
        user_agent_max_length: size(number("px_user_agent_max_length", 8528)),
        custom_cookie_header: text("px_custom_cookie_header", "x-px-cookies"),
        ip_headers: texts("px_ip_headers"),
        sensitive_headers: or_default("px_sensitive_headers", &defaults.sensitive_headers),
        url_decode_reserved_characters: flag("px_url_decode_reserved_characters", false),
        enabled_routes: texts("px_enabled_routes").into_iter().map(RoutePattern::Prefix).collect(),
        monitored_routes: routes("px_monitored_routes"),
        enforced_routes: routes("px_enforced_routes"),
        // DECISIONS 6: js-core's rule, for those who come from it.
        enforced_routes_exclusive: false,
        sensitive_routes: routes("px_sensitive_routes"),
        sensitive_routes_prefix: texts("px_sensitive_routes_prefix"),
        sensitive_routes_suffix: texts("px_sensitive_routes_suffix"),
        sensitive_routes_regex: expressions("px_sensitive_routes_regex"),
        // DECISIONS 8: vectors run with `off`.
        filter_strict: false,
        filter_by_extension: or_default("px_filter_by_extension", &defaults.filter_by_extension),
        filter_by_route: routes("px_filter_by_route"),
        whitelist_uri_full: texts("px_whitelist_uri_full"),
        whitelist_uri_prefixes: texts("px_whitelist_uri_prefixes"),
        whitelist_uri_suffixes: texts("px_whitelist_uri_suffixes"),
        whitelist_uri_pattern: expressions("px_whitelist_uri_pattern"),
        filter_by_http_method: texts("px_filter_by_http_method"),
        filter_by_user_agent: routes("px_filter_by_user_agent"),
        whitelist_ua_full: texts("px_whitelist_ua_full"),
        whitelist_ua_sub: texts("px_whitelist_ua_sub"),
        filter_by_ip: [texts("px_filter_by_ip"), texts("px_whitelist_ip_addresses")]
            .concat()
            .iter()
            // Ours are refused by `nginx -t`; js-core's never match.
            .filter_map(|text| Network::parse(text).ok())
            .collect(),
        filter_by_domain: expressions("px_filter_by_domain"),
        whitelist_hosts: texts("px_whitelist_hosts"),
        filter_by_header: given("px_filter_by_header")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect(),
        backend_url: text("px_backend_url", ""),
        backend_collector_url: text("px_backend_collector_url", ""),
        backend_client_url: text("px_backend_client_url", ""),
        backend_captcha_url: text("px_backend_captcha_url", ""),
        s2s_timeout_ms: number("px_s2s_timeout", 1000),
        enable_json_response: flag("px_advanced_blocking_response_enabled", true),
        custom_parameters: texts("px_custom_parameters"),
        cookie_custom_parameters: texts("px_cookie_custom_parameters"),
        redirect_on_custom_url: flag("px_redirect_on_custom_url", false),
        redirect_to_referer: flag("px_redirect_to_referer", false),
        api_protection_mode: flag("px_api_protection_mode", false),
        secured_pxhd_enabled: flag("px_secured_pxhd_enabled", false),
        data_enrichment_header_name: text("px_data_enrichment_header_name", ""),
        cors_support_enabled: flag("px_cors_support_enabled", false),
        cors_preflight_request_filter_enabled: flag(
            "px_cors_preflight_request_filter_enabled",
            false,
        ),
        first_party: FirstPartyOptions {
            enabled: flag("px_first_party_enabled", true),
            prefix: text("px_custom_first_party_prefix", ""),
            sensor_endpoint: text("px_custom_first_party_sensor_endpoint", ""),
            xhr_endpoint: text("px_custom_first_party_xhr_endpoint", ""),
            captcha_endpoint: text("px_custom_first_party_captcha_endpoint", ""),
            ..FirstPartyOptions::default()
        },
        credentials: CredentialsOptions {
            enabled: flag("px_login_credentials_extraction_enabled", false),
            endpoints: given("px_login_credentials_extraction")
                .map(|list| endpoints(list).expect("endpoints"))
                .unwrap_or_default(),
            version: Protocol::parse(&text("px_credentials_intelligence_version", "both"))
                .expect("a protocol"),
            login: login_options(config),
            send_raw_username: flag("px_send_raw_username_on_additional_s2s_activity", false),
            automatic_additional_s2s: flag("px_automatic_additional_s2s_activity_enabled", true),
            additional_s2s_header: flag("px_additional_s2s_activity_header_enabled", false),
            ..CredentialsOptions::default()
        },
        graphql: GraphqlOptions {
            enabled: flag("px_graphql_enabled", true),
            routes: match given("px_graphql_routes") {
                Some(_) => routes("px_graphql_routes"),
                None => GraphqlOptions::default().routes,
            },
            sensitive_operation_types: texts("px_sensitive_graphql_operation_types"),
            sensitive_operation_names: expressions("px_sensitive_graphql_operation_names"),
            keywords: expressions("px_graphql_keywords"),
            ..GraphqlOptions::default()
        },
        user_identifiers: UserIdentifierOptions {
            cookie_name: text("px_jwt_cookie_name", ""),
            cookie_user_id_field: text("px_jwt_cookie_user_id_field_name", ""),
            cookie_additional_fields: texts("px_jwt_cookie_additional_field_names"),
            header_name: text("px_jwt_header_name", ""),
            header_user_id_field: text("px_jwt_header_user_id_field_name", ""),
            header_additional_fields: texts("px_jwt_header_additional_field_names"),
        },
        agentic_trust: AgenticTrustOptions {
            enabled: flag("px_agentic_trust_enabled", false),
            mcp_endpoint_path: text("px_agentic_trust_mcp_endpoint_path", "/mcp"),
        },
        remote_config_id: text("px_remote_config_id", ""),
        remote_config_auth_token: Secret::new(text("px_remote_config_auth_token", "")),
        module_version: "$MODULE_VERSION".to_owned(),
        ..defaults
    }
}

fn login_options(config: &Value) -> LoginOptions {
    let text = |name: &str| config[name].as_str().unwrap_or_default();
    let method = config["px_login_successful_reporting_method"].as_str().unwrap_or("status");
    let statuses = config["px_login_successful_status"].as_array();
    let status = |status: &Value| status.as_u64().and_then(|status| u16::try_from(status).ok());
    LoginOptions {
        method: LoginMethod::parse(method).expect("a method"),
        statuses: statuses
            .map_or_else(|| vec![200], |list| list.iter().filter_map(status).collect()),
        header_name: text("px_login_successful_header_name").to_owned(),
        header_value: text("px_login_successful_header_value").to_owned(),
        body_regex: BodyRegex::parse(text("px_login_successful_body_regex")).ok(),
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("a size")
}

/// A list, or a single text in place of it.
fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(list)) => {
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        Some(Value::String(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}

fn secrets(value: Option<&Value>) -> Vec<Secret> {
    let texts = match value {
        None => vec!["s3cret-A-made-up-for-tests-0000001".to_owned()],
        given => texts(given),
    };
    texts.into_iter().map(Secret::new).collect()
}

/// js-core's notation: `/…/flags` is a regex, or else plain text if it is no valid one.
fn route(text: &str) -> RoutePattern {
    let delimited = text.strip_prefix('/').and_then(|rest| rest.rsplit_once('/'));
    let is_regex = delimited.is_some_and(|(source, flags)| {
        !source.is_empty() && flags.chars().all(|flag| "gimsuyvd".contains(flag))
    });
    match RegexPattern::parse(text) {
        Ok(pattern) if is_regex => RoutePattern::Regex(pattern),
        _ => RoutePattern::Prefix(text.to_owned()),
    }
}
