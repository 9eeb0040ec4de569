//! Telemetry: the signed command that asks for it, and what the enforcer then says about itself.
//!
//! Source: remote-config-and-telemetry.md §§ 1 and 2, DECISIONS 14.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::crypto::{Secrets, decode_base64};
use crate::json;
use crate::policy::{Options, Policy, Secret, TokenVersion};
use crate::request::Request;
use crate::routes::{RegexPattern, RoutePattern};

/// What is known of the machine; empty texts are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine<'a> {
    pub os_name: &'a str,
    /// Host name.
    pub node_name: &'a str,
}

/// Why telemetry is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateReason {
    /// A telemetry command, or the Risk API asked for it.
    Command,
    /// The remote configuration changed.
    RemoteConfig,
    /// The module was started with a configuration that it had not been started with before.
    InitialConfig,
}

impl UpdateReason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::RemoteConfig => "remote_config",
            Self::InitialConfig => "initial_config",
        }
    }
}

/// Whether `request` carries a telemetry command that is valid at `now` (ms since the epoch).
pub(crate) fn is_commanded(request: &Request<'_>, policy: &Policy, now: u64) -> bool {
    let name = &policy.options().telemetry_header;
    let value = if name.is_empty() { None } else { request.header(name) };
    value.is_some_and(|value| is_signed_and_current(value, policy.secrets(), now))
}

/// `base64(<timestamp>:<hex>)`: the HMAC over the timestamp's text fits one of the secrets, and the
/// timestamp, decimal milliseconds, is not past (§ 1).
pub(crate) fn is_signed_and_current(value: &[u8], secrets: &Secrets, now: u64) -> bool {
    let decoded = std::str::from_utf8(value).ok().and_then(decode_base64);
    let Some(mut decoded) = decoded else { return false };
    // The HMAC's hex digits may come in either case; nothing else has letters.
    decoded.make_ascii_lowercase();
    let mut parts = decoded.split(|byte| *byte == b':');
    let (Some(timestamp), Some(hmac), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    secrets.authenticate(timestamp, hmac) && is_not_past(timestamp, now)
}

fn is_not_past(timestamp: &[u8], now: u64) -> bool {
    if timestamp.is_empty() || !timestamp.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let digits = std::str::from_utf8(timestamp).unwrap_or_default();
    // Digits alone fail to parse only where they name a time beyond all clocks.
    digits.parse::<u64>().unwrap_or(u64::MAX) >= now
}

/// The JSON object to post to [`Policy::telemetry_url`]. Secrets are redacted in it. `now` is the
/// time in ms since the epoch.
pub fn body(
    policy: &Policy,
    reason: UpdateReason,
    now: u64,
    request_id: Option<&str>,
    machine: Machine<'_>,
) -> Vec<u8> {
    let active = active_config(policy);
    let defaults = config(&Options::default());
    // After the merge of nginx's levels an option that has its default's value and one that was
    // set to it look alike; both mean the same.
    let is_set = |name: &String, value: &Value| defaults.get(name) != Some(value);
    let set = config(policy.own_options()).into_iter().filter(|(name, value)| is_set(name, value));
    let mut remote = policy.remote_values();
    for (name, value) in &mut remote {
        if SECRETS.contains(&name.as_str()) {
            *value = redacted_value(value);
        }
    }
    let telemetry = Telemetry {
        kind: "enforcer_telemetry",
        timestamp: now,
        px_app_id: &policy.options().app_id,
        details: Details {
            update_reason: reason.as_str(),
            module_version: &policy.options().module_version,
            enforcer_configs: Configs {
                active_config: &active,
                static_config: &set.collect(),
                remote_config: &remote,
            },
            request_id,
            remote_config_id: &policy.options().remote_config_id,
            remote_config_version: policy.options().remote_config_version,
            supported_features: match reason {
                UpdateReason::InitialConfig => Some(supported_features()),
                UpdateReason::Command | UpdateReason::RemoteConfig => None,
            },
            os_name: machine.os_name,
            node_name: machine.node_name,
        },
    };
    let mut out = Vec::with_capacity(4096);
    json::write(&telemetry, &mut out);
    out
}

/// What telemetry would say of the configuration itself: another text, another configuration.
pub fn fingerprint(policy: &Policy) -> String {
    Value::from(active_config(policy)).to_string()
}

#[derive(Serialize)]
struct Telemetry<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: u64,
    px_app_id: &'a str,
    details: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    update_reason: &'static str,
    module_version: &'a str,
    enforcer_configs: Configs<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    remote_config_id: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    remote_config_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    supported_features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    os_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    node_name: &'a str,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The file that the enforcers of HUMAN's carry in their root (px-metadata.md).
const METADATA: &str = include_str!("../../../px_metadata.json");

/// The words for what this module can do, sorted.
pub fn supported_features() -> Vec<String> {
    let metadata: Value = serde_json::from_str(METADATA).unwrap_or_default();
    let words = metadata.get("supported_features").and_then(Value::as_array);
    words.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[derive(Serialize)]
struct Configs<'a> {
    active_config: &'a Map<String, Value>,
    static_config: &'a Map<String, Value>,
    remote_config: &'a Map<String, Value>,
}

/// The effective options: those that derive from the app id have the derived value.
fn active_config(policy: &Policy) -> Map<String, Value> {
    let endpoints = policy.endpoints();
    let mut active = config(policy.options());
    for (name, url) in [
        ("px_backend_url", &endpoints.backend),
        ("px_backend_collector_url", &endpoints.collector),
        ("px_backend_client_url", &endpoints.client),
        ("px_backend_captcha_url", &endpoints.captcha),
        ("px_hypesale_host", &endpoints.hype_sale),
    ] {
        active.insert(name.to_owned(), Value::from(url.as_str()));
    }
    active
}

/// Every option under the name HUMAN's own enforcers use, or its directive's where they have none.
fn config(options: &Options) -> Map<String, Value> {
    let Options {
        app_id,
        auth_token,
        cookie_secrets,
        enabled,
        active_header_name,
        module_mode,
        blocking_score,
        bypass_monitor_header,
        token_version,
        risk_cookie_max_length,
        risk_cookie_min_iterations,
        risk_cookie_max_iterations,
        user_agent_max_length,
        forged_cookie_budget,
        custom_cookie_header,
        bot_enforcer,
        enable_server_calls,
        block_size_exceeded_15k_headers_size,
        ip_headers,
        sensitive_headers,
        allowed_cookies,
        anonymize_ip,
        custom_parameters,
        cookie_custom_parameters,
        url_decode_reserved_characters,
        enabled_routes,
        monitored_routes,
        enforced_routes,
        enforced_routes_exclusive,
        sensitive_routes,
        sensitive_routes_prefix,
        sensitive_routes_suffix,
        sensitive_routes_regex,
        filter_strict,
        filter_by_extension,
        filter_by_route,
        whitelist_uri_full,
        whitelist_uri_prefixes,
        whitelist_uri_suffixes,
        whitelist_uri_pattern,
        filter_by_http_method,
        filter_by_user_agent,
        whitelist_ua_full,
        whitelist_ua_sub,
        filter_by_ip,
        filter_by_domain,
        whitelist_hosts,
        filter_by_header,
        backend_url,
        backend_collector_url,
        backend_client_url,
        backend_captcha_url,
        s2s_timeout_ms,
        enable_json_response,
        secured_pxhd_enabled,
        redirect_on_custom_url,
        redirect_to_referer,
        api_protection_mode,
        data_enrichment_header_name,
        score_header_enabled,
        score_header_name,
        upstream_score_header_name,
        identifier_header_name,
        add_block_result_header,
        cors_support_enabled,
        cors_preflight_request_filter_enabled,
        first_party,
        credentials,
        graphql,
        user_identifiers,
        agentic_trust,
        max_body_size,
        send_async_activities,
        hype_sale_host,
        hype_sale_fail_open,
        telemetry_header,
        logger_severity,
        logger_auth_token,
        snippet_enabled,
        csp_enabled,
        remote_config_id,
        remote_config_auth_token,
        // Not an option of anybody's.
        remote_config_version: _,
        module_version: _,
    } = options;
    let token_version = match token_version {
        TokenVersion::V2 => "2",
        TokenVersion::V3 | TokenVersion::V3OrV1 => "3",
    };
    let secrets: Vec<_> = cookie_secrets.iter().map(redacted).collect();
    // The values are as good as passwords.
    let header_names: Vec<_> = filter_by_header.iter().map(|(name, _)| name).collect();
    let networks: Vec<_> = filter_by_ip.iter().map(ToString::to_string).collect();
    [
        ("px_app_id", json!(app_id)),
        ("px_auth_token", redacted(auth_token)),
        ("px_cookie_secret", json!(secrets)),
        ("px_module_enabled", json!(enabled)),
        ("px_active_header_name", json!(active_header_name)),
        ("px_module_mode", json!(module_mode)),
        ("px_blocking_score", json!(blocking_score)),
        ("px_bypass_monitor_header", json!(bypass_monitor_header)),
        ("px_token_version", json!(token_version)),
        ("px_risk_cookie_max_length", json!(risk_cookie_max_length)),
        ("px_risk_cookie_min_iterations", json!(risk_cookie_min_iterations)),
        ("px_risk_cookie_max_iterations", json!(risk_cookie_max_iterations)),
        ("px_user_agent_max_length", json!(user_agent_max_length)),
        ("px_forged_cookie_budget", json!(forged_cookie_budget)),
        ("px_custom_cookie_header", json!(custom_cookie_header)),
        ("px_bot_enforcer", json!(bot_enforcer)),
        ("px_enable_server_calls", json!(enable_server_calls)),
        ("px_block_size_exceeded_15k_headers_size", json!(block_size_exceeded_15k_headers_size)),
        ("px_ip_headers", json!(ip_headers)),
        ("px_sensitive_headers", json!(sensitive_headers)),
        ("px_allowed_cookies", json!(allowed_cookies)),
        ("px_anonymize_ip", json!(anonymize_ip)),
        ("px_custom_parameters", json!(custom_parameters)),
        ("px_cookie_custom_parameters", json!(cookie_custom_parameters)),
        ("px_url_decode_reserved_characters", json!(url_decode_reserved_characters)),
        ("px_enabled_routes", routes(enabled_routes)),
        ("px_monitored_routes", routes(monitored_routes)),
        ("px_enforced_routes", routes(enforced_routes)),
        ("px_enforced_routes_exclusive", json!(enforced_routes_exclusive)),
        ("px_sensitive_routes", routes(sensitive_routes)),
        ("px_sensitive_routes_prefix", json!(sensitive_routes_prefix)),
        ("px_sensitive_routes_suffix", json!(sensitive_routes_suffix)),
        ("px_sensitive_routes_regex", expressions(sensitive_routes_regex)),
        ("px_filter_strict", json!(filter_strict)),
        ("px_filter_by_extension", json!(filter_by_extension)),
        ("px_filter_by_route", routes(filter_by_route)),
        ("px_whitelist_uri_full", json!(whitelist_uri_full)),
        ("px_whitelist_uri_prefixes", json!(whitelist_uri_prefixes)),
        ("px_whitelist_uri_suffixes", json!(whitelist_uri_suffixes)),
        ("px_whitelist_uri_pattern", expressions(whitelist_uri_pattern)),
        ("px_filter_by_http_method", json!(filter_by_http_method)),
        ("px_filter_by_user_agent", routes(filter_by_user_agent)),
        ("px_whitelist_ua_full", json!(whitelist_ua_full)),
        ("px_whitelist_ua_sub", json!(whitelist_ua_sub)),
        ("px_filter_by_ip", json!(networks)),
        ("px_filter_by_domain", expressions(filter_by_domain)),
        ("px_whitelist_hosts", json!(whitelist_hosts)),
        ("px_filter_by_header", json!(header_names)),
        ("px_backend_url", json!(backend_url)),
        ("px_backend_collector_url", json!(backend_collector_url)),
        ("px_backend_client_url", json!(backend_client_url)),
        ("px_backend_captcha_url", json!(backend_captcha_url)),
        ("px_s2s_timeout", json!(s2s_timeout_ms)),
        ("px_advanced_blocking_response_enabled", json!(enable_json_response)),
        ("px_secured_pxhd_enabled", json!(secured_pxhd_enabled)),
        ("px_redirect_on_custom_url", json!(redirect_on_custom_url)),
        ("px_redirect_to_referer", json!(redirect_to_referer)),
        ("px_api_protection_mode", json!(api_protection_mode)),
        ("px_data_enrichment_header_name", json!(data_enrichment_header_name)),
        ("px_score_header_enabled", json!(score_header_enabled)),
        ("px_score_header_name", json!(score_header_name)),
        ("px_upstream_score_header_name", json!(upstream_score_header_name)),
        ("px_identifier_header_name", json!(identifier_header_name)),
        ("px_add_block_result_header", json!(add_block_result_header)),
        ("px_cors_support_enabled", json!(cors_support_enabled)),
        ("px_cors_preflight_request_filter_enabled", json!(cors_preflight_request_filter_enabled)),
        ("px_first_party_enabled", json!(first_party.enabled)),
        ("px_reverse_xhr_enabled", json!(first_party.xhr_enabled)),
        ("px_first_party_timeout_ms", json!(first_party.timeout_ms)),
        ("px_custom_first_party_prefix", json!(first_party.prefix)),
        ("px_custom_first_party_sensor_endpoint", json!(first_party.sensor_endpoint)),
        ("px_custom_first_party_xhr_endpoint", json!(first_party.xhr_endpoint)),
        ("px_custom_first_party_captcha_endpoint", json!(first_party.captcha_endpoint)),
        ("px_login_credentials_extraction_enabled", json!(credentials.enabled)),
        ("px_credentials_intelligence_version", json!(credentials.version.as_str())),
        ("px_compromised_credentials_header", json!(credentials.compromised_header)),
        ("px_send_raw_username_on_additional_s2s_activity", json!(credentials.send_raw_username)),
        (
            "px_automatic_additional_s2s_activity_enabled",
            json!(credentials.automatic_additional_s2s),
        ),
        ("px_additional_s2s_activity_header_enabled", json!(credentials.additional_s2s_header)),
        ("px_graphql_enabled", json!(graphql.enabled)),
        ("px_graphql_routes", routes(&graphql.routes)),
        ("px_sensitive_graphql_operation_types", json!(graphql.sensitive_operation_types)),
        ("px_jwt_cookie_name", json!(user_identifiers.cookie_name)),
        ("px_jwt_header_name", json!(user_identifiers.header_name)),
        ("px_agentic_trust_enabled", json!(agentic_trust.enabled)),
        ("px_agentic_trust_mcp_endpoint_path", json!(agentic_trust.mcp_endpoint_path)),
        ("px_max_body_size", json!(max_body_size)),
        ("px_send_async_activities_enabled", json!(send_async_activities)),
        ("px_hypesale_host", json!(hype_sale_host)),
        ("px_hype_sale_fail_open", json!(hype_sale_fail_open)),
        ("px_telemetry_header", json!(telemetry_header)),
        ("px_logger_severity", json!(logger_severity)),
        ("px_logger_auth_token", redacted(logger_auth_token)),
        ("px_snippet_injection_enabled", json!(snippet_enabled)),
        ("px_csp_enabled", json!(csp_enabled)),
        ("px_remote_config_id", json!(remote_config_id)),
        ("px_remote_config_auth_token", redacted(remote_config_auth_token)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// Options whose values are secrets (§ 2).
const SECRETS: [&str; 5] = [
    "px_auth_token",
    "px_cookie_secret",
    "px_logger_auth_token",
    "px_remote_config_auth_token",
    "px_proxy_authorization",
];

/// A secret of any form in a remote configuration, where it has no business (§ 2).
fn redacted_value(value: &Value) -> Value {
    match value {
        Value::String(text) => redacted(&Secret::new(text.clone())),
        Value::Array(list) => list.iter().map(redacted_value).collect(),
        _ => Value::Null,
    }
}

/// `***REDACTED***` and, of secrets long enough to spare them, the last five characters.
fn redacted(secret: &Secret) -> Value {
    const LONG: usize = 50;
    const SHOWN: usize = 5;
    let text = secret.expose();
    let length = text.chars().count();
    if text.is_empty() {
        return Value::from("");
    }
    let shown: String =
        if length >= LONG { text.chars().skip(length - SHOWN).collect() } else { String::new() };
    Value::from(format!("***REDACTED***{shown}"))
}

fn routes(patterns: &[RoutePattern]) -> Value {
    patterns.iter().map(RoutePattern::report).collect()
}

fn expressions(patterns: &[RegexPattern]) -> Value {
    patterns.iter().map(RegexPattern::report).collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;

    use super::*;
    use crate::sample::{self, NOW, headers, policy};

    /// The text of a command before base64.
    fn signed(timestamp: &str, secret: &str) -> String {
        use hmac::{Hmac, KeyInit, Mac};
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
        mac.update(timestamp.as_bytes());
        let hex: String =
            mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{timestamp}:{hex}")
    }

    #[test]
    fn only_a_signed_and_current_command_counts() {
        let (old, new) = ("s3cret-old", "s3cret-A-made-up-for-tests-0000001");
        let now = NOW.to_string();
        let upper = signed(&now, new).to_ascii_uppercase();
        let cases = [
            (signed(&now, new), true),
            (signed(&now, old), true),
            (upper, true),
            (signed("99999999999999999999999", new), true),
            (signed(&(NOW - 1).to_string(), new), false),
            (signed(&now, "another"), false),
            // The forgeable case: an unset second secret is no key (DECISIONS 14).
            (signed(&now, ""), false),
            (signed("", new), false),
            (signed("-1750000060000", new), false),
            (signed("1750000060000ms", new), false),
            (format!("{}:", signed(&now, new)), false),
            (format!("{now}:"), false),
            (now.clone(), false),
        ];
        for secrets in [vec![new, old], vec![new, old, "another"]] {
            let policy = policy(|options| {
                options.cookie_secrets =
                    secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
            });
            for (text, valid) in &cases {
                for value in [BASE64.encode(text), BASE64.encode(text).replace('=', "")] {
                    let headers = headers(&[("X-PX-Enforcer-Telemetry", &value)]);
                    let request = sample::request(&headers);
                    assert_eq!(is_commanded(&request, &policy, NOW), *valid, "{text}");
                }
            }
        }
        let single = policy(|options| options.cookie_secrets.push(Secret::default()));
        let value = BASE64.encode(signed(&now, ""));
        let headers = headers(&[("x-px-enforcer-telemetry", &value)]);
        assert!(!is_commanded(&sample::request(&headers), &single, NOW));
    }

    #[test]
    fn no_secret_leaves_in_the_body() {
        let long = format!("{}12345", "k".repeat(45));
        let policy = policy(|options| {
            options.auth_token = Secret::new("the-token".to_owned());
            options.cookie_secrets =
                vec![Secret::new(long.clone()), Secret::new("short-secret".to_owned())];
            options.filter_by_header = vec![("x-monitor".to_owned(), "pass-word".to_owned())];
        });
        let body = body(&policy, UpdateReason::Command, NOW, Some("id"), Machine::default());
        let text = String::from_utf8(body).expect("JSON is UTF-8");
        for secret in ["the-token", "kkkkkk", "short-secret", "pass-word"] {
            assert!(!text.contains(secret), "{secret}");
        }
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let configs = &json["details"]["enforcer_configs"];
        assert_eq!(configs["active_config"]["px_auth_token"], "***REDACTED***");
        assert_eq!(
            configs["active_config"]["px_cookie_secret"],
            json!(["***REDACTED***12345", "***REDACTED***"])
        );
        assert_eq!(configs["remote_config"], json!({}));
    }

    #[test]
    fn active_options_are_all_and_static_ones_those_that_were_set() {
        let policy = policy(|options| {
            options.blocking_score = 70;
            options.sensitive_routes_regex =
                vec![RegexPattern::parse("/^\\/a\\/b$/i").expect("valid")];
            options.enforced_routes = vec![RoutePattern::Exact("/x".to_owned())];
        });
        let machine = Machine { os_name: "Linux", node_name: "" };
        let body = body(&policy, UpdateReason::RemoteConfig, NOW, None, machine);
        let json: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(json["type"], "enforcer_telemetry");
        assert_eq!(json["timestamp"], NOW);
        assert_eq!(json["px_app_id"], "PXabcd1234");
        let details = &json["details"];
        assert_eq!(details["update_reason"], "remote_config");
        assert_eq!(details["module_version"], "test 1");
        assert_eq!(details["os_name"], "Linux");
        assert!(details.get("node_name").is_none() && details.get("request_id").is_none());

        let active = &details["enforcer_configs"]["active_config"];
        assert_eq!(active["px_blocking_score"], 70);
        assert_eq!(active["px_s2s_timeout"], 1000);
        assert_eq!(active["px_backend_url"], "https://sapi-pxabcd1234.perimeterx.net");
        assert_eq!(active["px_sensitive_routes_regex"], json!(["_REGEXP /^/a/b$/i"]));
        let set = details["enforcer_configs"]["static_config"].as_object().expect("an object");
        assert_eq!(set["px_enforced_routes"], json!(["=/x"]));
        assert_eq!(set["px_blocking_score"], 70);
        assert!(!set.contains_key("px_s2s_timeout") && !set.contains_key("px_backend_url"));
    }
}
