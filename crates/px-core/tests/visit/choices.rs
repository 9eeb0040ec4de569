//! An operator's choices in words, any words: `blocking_score=60 monitored_routes=/quiet`.
//!
//! Names are those of the directives without `px_`, and of the expressions' outcomes; a flag alone is
//! on; a list is repeated. What makes no sense is not heard, as `nginx -t` would refuse it.

use std::collections::HashSet;

use px_core::credentials::{Endpoint, LoginMethod, Protocol};
use px_core::filter::Network;
use px_core::hooks::{CustomParameter, Hooks, ParameterValue};
use px_core::policy::{Options, Secret, TokenVersion};
use px_core::reason::{LoggerSeverity, ModuleMode};
use px_core::routes::{RegexPattern, RoutePattern};
use serde_json::Value;

use super::site::{LOG_TOKEN, OLD_SECRET, REMOTE_TOKEN, SECRET, basic};

/// Options, and what expressions say of every request.
pub struct Choices {
    pub options: Options,
    flags: Hooks<'static>,
    client_ip: String,
    custom_block_url: String,
    /// Slot, whether it is JSON, and the value.
    custom_parameters: Vec<(u8, bool, String)>,
    jwt_additional_fields: Vec<(String, String)>,
    activity_headers: Vec<(String, String)>,
    cors_headers: Option<Vec<(String, String)>>,
    given: HashSet<String>,
}

impl Choices {
    pub fn read(text: &str) -> Self {
        let mut choices = Self {
            options: basic(),
            flags: Hooks::NONE,
            client_ip: String::new(),
            custom_block_url: String::new(),
            custom_parameters: Vec::new(),
            jwt_additional_fields: Vec::new(),
            activity_headers: Vec::new(),
            cors_headers: None,
            given: HashSet::new(),
        };
        // More than anybody writes; each list is compiled once per input.
        for word in text.split_whitespace().take(40) {
            let (name, value) = word.split_once('=').unwrap_or((word, "on"));
            // `None`: no such name, or no such value.
            let _ = choices.set(name, value);
        }
        // The only two that must fit each other.
        let options = &mut choices.options;
        options.risk_cookie_min_iterations =
            options.risk_cookie_min_iterations.min(options.risk_cookie_max_iterations);
        choices
    }

    /// The operator's own, for block answers.
    pub fn cors_headers(&self) -> Option<Vec<(&str, &str)>> {
        self.cors_headers.as_deref().map(borrowed)
    }

    /// Runs `with` the expressions' outcomes.
    pub fn lend<T>(&self, with: impl FnOnce(Hooks<'_>) -> T) -> T {
        let parameters: Vec<_> = self.custom_parameters.iter().map(parameter).collect();
        let fields = borrowed(&self.jwt_additional_fields);
        let headers = borrowed(&self.activity_headers);
        with(Hooks {
            client_ip: &self.client_ip,
            custom_block_url: &self.custom_block_url,
            custom_parameters: &parameters,
            jwt_additional_fields: &fields,
            activity_headers: &headers,
            ..self.flags
        })
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        let is_first = self.given.insert(name.to_owned());
        let Self { options: o, flags: h, .. } = self;
        let credentials = &mut o.credentials;
        match name {
            "enabled" => o.enabled = flag(value)?,
            "active_header_name" => o.active_header_name = header_name(value)?,
            "module_mode" => o.module_mode = mode(value)?,
            "blocking_score" => o.blocking_score = number(value, 100)?,
            "bypass_monitor_header" => o.bypass_monitor_header = header_name(value)?,
            "token_version" => {
                o.token_version = match value {
                    "2" => TokenVersion::V2,
                    "3" => TokenVersion::V3,
                    "31" => TokenVersion::V3OrV1,
                    _ => return None,
                }
            }
            "cookie_secret" => {
                // Which of the secrets, by its letter.
                let secret = match value {
                    "a" => SECRET,
                    "b" => OLD_SECRET,
                    "c" => "a third, which nobody hears",
                    "" if !is_first => "",
                    _ => return None,
                };
                put(&mut o.cookie_secrets, is_first, Secret::new(secret.to_owned()));
            }
            // Few, so that many tokens can be tried.
            "risk_cookie_max_length" => o.risk_cookie_max_length = number(value, 1 << 20)? as usize,
            "risk_cookie_min_iterations" => o.risk_cookie_min_iterations = number(value, 500)?,
            "risk_cookie_max_iterations" => o.risk_cookie_max_iterations = number(value, 500)?,
            "user_agent_max_length" => o.user_agent_max_length = number(value, 1 << 20)? as usize,
            "forged_cookie_budget" => o.forged_cookie_budget = number(value, 4)?,
            "custom_cookie_header" => o.custom_cookie_header = header_name(value)?,
            "bot_enforcer" => o.bot_enforcer = flag(value)?,
            "enable_server_calls" => o.enable_server_calls = flag(value)?,
            "block_size_exceeded_15k_headers_size" => {
                o.block_size_exceeded_15k_headers_size = flag(value)?;
            }
            "ip_headers" => put(&mut o.ip_headers, is_first, header_name(value)?),
            "sensitive_headers" => put(&mut o.sensitive_headers, is_first, header_name(value)?),
            "allowed_cookies" => put(&mut o.allowed_cookies, is_first, value.to_owned()),
            "anonymize_ip" => o.anonymize_ip = flag(value)?,
            "custom_parameters" if is_first || o.custom_parameters.len() < 10 => {
                put(&mut o.custom_parameters, is_first, value.to_ascii_lowercase());
            }
            "cookie_custom_parameters" if is_first || o.cookie_custom_parameters.len() < 10 => {
                put(&mut o.cookie_custom_parameters, is_first, value.to_owned());
            }
            "url_decode_reserved_characters" => o.url_decode_reserved_characters = flag(value)?,
            "enabled_routes" => put(&mut o.enabled_routes, is_first, route(value)?),
            "monitored_routes" => put(&mut o.monitored_routes, is_first, anchored(value)?),
            "enforced_routes" => put(&mut o.enforced_routes, is_first, anchored(value)?),
            "enforced_routes_exclusive" => o.enforced_routes_exclusive = flag(value)?,
            "sensitive_routes" => put(&mut o.sensitive_routes, is_first, route(value)?),
            "sensitive_routes_prefix" => {
                put(&mut o.sensitive_routes_prefix, is_first, value.to_owned());
            }
            "sensitive_routes_suffix" => {
                put(&mut o.sensitive_routes_suffix, is_first, value.to_owned());
            }
            "sensitive_routes_regex" => put(&mut o.sensitive_routes_regex, is_first, regex(value)?),
            "filter_strict" => o.filter_strict = flag(value)?,
            "filter_by_extension" => put(&mut o.filter_by_extension, is_first, value.to_owned()),
            "filter_by_route" => put(&mut o.filter_by_route, is_first, route(value)?),
            "whitelist_uri_full" => put(&mut o.whitelist_uri_full, is_first, value.to_owned()),
            "whitelist_uri_prefixes" => {
                put(&mut o.whitelist_uri_prefixes, is_first, value.to_owned());
            }
            "whitelist_uri_suffixes" => {
                put(&mut o.whitelist_uri_suffixes, is_first, value.to_owned());
            }
            "whitelist_uri_pattern" => put(&mut o.whitelist_uri_pattern, is_first, regex(value)?),
            "filter_by_http_method" => {
                put(&mut o.filter_by_http_method, is_first, value.to_ascii_uppercase());
            }
            "filter_by_user_agent" => put(&mut o.filter_by_user_agent, is_first, route(value)?),
            "whitelist_ua_full" => put(&mut o.whitelist_ua_full, is_first, value.to_owned()),
            "whitelist_ua_sub" => put(&mut o.whitelist_ua_sub, is_first, value.to_owned()),
            "filter_by_ip" => put(&mut o.filter_by_ip, is_first, Network::parse(value).ok()?),
            "filter_by_domain" => put(&mut o.filter_by_domain, is_first, regex(value)?),
            "whitelist_hosts" => put(&mut o.whitelist_hosts, is_first, value.to_owned()),
            "filter_by_header" => put(&mut o.filter_by_header, is_first, header(value)?),
            "backend_url" => o.backend_url = value.to_owned(),
            "backend_collector_url" => o.backend_collector_url = value.to_owned(),
            "backend_client_url" => o.backend_client_url = value.to_owned(),
            "backend_captcha_url" => o.backend_captcha_url = value.to_owned(),
            "enable_json_response" => o.enable_json_response = flag(value)?,
            "secured_pxhd_enabled" => o.secured_pxhd_enabled = flag(value)?,
            "redirect_on_custom_url" => o.redirect_on_custom_url = flag(value)?,
            "redirect_to_referer" => o.redirect_to_referer = flag(value)?,
            "api_protection_mode" => o.api_protection_mode = flag(value)?,
            "data_enrichment_header_name" => o.data_enrichment_header_name = header_name(value)?,
            "score_header_enabled" => o.score_header_enabled = flag(value)?,
            "score_header_name" => o.score_header_name = header_name(value)?,
            "upstream_score_header_name" => o.upstream_score_header_name = header_name(value)?,
            "identifier_header_name" => o.identifier_header_name = header_name(value)?,
            "add_block_result_header" => o.add_block_result_header = flag(value)?,
            "cors_support_enabled" => o.cors_support_enabled = flag(value)?,
            "cors_preflight_request_filter_enabled" => {
                o.cors_preflight_request_filter_enabled = flag(value)?;
            }
            "first_party_enabled" => o.first_party.enabled = flag(value)?,
            "reverse_xhr_enabled" => o.first_party.xhr_enabled = flag(value)?,
            "custom_first_party_prefix" => o.first_party.prefix = path(value)?,
            "custom_first_party_sensor_endpoint" => o.first_party.sensor_endpoint = path(value)?,
            "custom_first_party_xhr_endpoint" => o.first_party.xhr_endpoint = path(value)?,
            "custom_first_party_captcha_endpoint" => o.first_party.captcha_endpoint = path(value)?,
            "enable_login_creds_extraction" => credentials.enabled = flag(value)?,
            "login_credentials" => {
                // An endpoint's words, between commas.
                let words: Vec<&str> = value.split(',').collect();
                put(&mut credentials.endpoints, is_first, Endpoint::of_words(&words).ok()?);
            }
            "credentials_intelligence_version" => credentials.version = Protocol::parse(value)?,
            "compromised_credentials_header" => {
                credentials.compromised_header = header_name(value)?
            }
            "compromised_credentials_query_string" => credentials.query_string = flag(value)?,
            "login_successful_reporting_method" => {
                credentials.login.method = LoginMethod::parse(value)?;
            }
            "send_raw_username" => credentials.send_raw_username = flag(value)?,
            "automatic_additional_s2s" => credentials.automatic_additional_s2s = flag(value)?,
            "additional_s2s_header" => credentials.additional_s2s_header = flag(value)?,
            "enable_graphql" => o.graphql.enabled = flag(value)?,
            "graphql_get_enabled" => o.graphql.get_enabled = flag(value)?,
            "graphql_routes" => put(&mut o.graphql.routes, is_first, route(value)?),
            "sensitive_graphql_operation_types" => {
                put(&mut o.graphql.sensitive_operation_types, is_first, value.to_owned());
            }
            "sensitive_graphql_operation_names" => {
                put(&mut o.graphql.sensitive_operation_names, is_first, regex(value)?);
            }
            "graphql_keywords" => put(&mut o.graphql.keywords, is_first, regex(value)?),
            "jwt_cookie_name" => o.user_identifiers.cookie_name = value.to_owned(),
            "jwt_cookie_user_id_field_name" => {
                o.user_identifiers.cookie_user_id_field = value.to_owned();
            }
            "jwt_cookie_additional_field_names" => {
                let list = &mut o.user_identifiers.cookie_additional_fields;
                put(list, is_first, value.to_owned());
            }
            "jwt_header_name" => o.user_identifiers.header_name = header_name(value)?,
            "jwt_header_user_id_field_name" => {
                o.user_identifiers.header_user_id_field = value.to_owned();
            }
            "jwt_header_additional_field_names" => {
                let list = &mut o.user_identifiers.header_additional_fields;
                put(list, is_first, value.to_owned());
            }
            "agentic_trust_enabled" => o.agentic_trust.enabled = flag(value)?,
            "agentic_trust_mcp_endpoint_path" => o.agentic_trust.mcp_endpoint_path = path(value)?,
            "max_body_size" => o.max_body_size = number(value, 1 << 20)? as usize,
            "send_async_activities" => o.send_async_activities = flag(value)?,
            "hype_sale_fail_open" => o.hype_sale_fail_open = flag(value)?,
            "telemetry_header" => o.telemetry_header = header_name(value)?,
            "logger_severity" => {
                let severities = LoggerSeverity::ALL.iter();
                o.logger_severity = *severities.clone().find(|s| s.as_str() == value)?;
            }
            "logger_auth_token" => {
                flag(value)?;
                o.logger_auth_token = Secret::new(LOG_TOKEN.to_owned());
            }
            "remote_config_id" => {
                o.remote_config_id = value.to_owned();
                o.remote_config_auth_token = Secret::new(REMOTE_TOKEN.to_owned());
            }
            "snippet_enabled" => o.snippet_enabled = flag(value)?,
            "csp_enabled" => o.csp_enabled = flag(value)?,

            "enabled_if" => h.is_disabled = !flag(value)?,
            "is_filtered" => h.is_filtered = flag(value)?,
            "is_enforced" => h.is_enforced = flag(value)?,
            "is_monitored" => h.is_monitored = flag(value)?,
            "is_sensitive" => h.is_sensitive = flag(value)?,
            "is_graphql_route" => h.is_graphql_route = flag(value)?,
            "hype_sale" => h.is_hype_sale = Some(flag(value)?),
            "pre_enforce_handler" => h.is_blocked = flag(value)?,
            "cors_custom_preflight_handler" => h.handles_preflight = flag(value)?,
            "custom_client_ip" => value.clone_into(&mut self.client_ip),
            "custom_block_url" => value.clone_into(&mut self.custom_block_url),
            "custom_parameter" => {
                let (slot, text) = value.split_once(':')?;
                let (is_json, text) =
                    text.strip_prefix("json:").map_or((false, text), |json| (true, json));
                let is_well = !is_json || serde_json::from_str::<Value>(text).is_ok();
                let slot = slot.parse().ok().filter(|_| is_well)?;
                self.custom_parameters.push((slot, is_json, text.to_owned()));
            }
            "jwt_additional_field" => self.jwt_additional_fields.push(pair(value)?),
            "activity_header" => self.activity_headers.push(header(value)?),
            "cors_block_header" => {
                self.cors_headers.get_or_insert_default().push(header(value)?);
            }
            _ => return None,
        }
        Some(())
    }
}

fn parameter((slot, is_json, text): &(u8, bool, String)) -> CustomParameter<'_> {
    let value = match is_json {
        true => ParameterValue::Json(text),
        false => ParameterValue::Text(text),
    };
    CustomParameter { slot: *slot, value }
}

fn borrowed(list: &[(String, String)]) -> Vec<(&str, &str)> {
    list.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// The first value takes the place of the default.
fn put<T>(list: &mut Vec<T>, is_first: bool, value: T) {
    if is_first {
        list.clear();
    }
    list.push(value);
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "on" | "1" | "true" => Some(true),
        "off" | "0" | "false" => Some(false),
        _ => None,
    }
}

fn mode(value: &str) -> Option<ModuleMode> {
    ModuleMode::ALL.iter().copied().find(|mode| mode.as_str() == value)
}

fn number(value: &str, most: u32) -> Option<u32> {
    value.parse().ok().filter(|number| *number <= most)
}

fn header_name(value: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    value.bytes().all(is_plain).then(|| value.to_ascii_lowercase())
}

fn header(value: &str) -> Option<(String, String)> {
    let (name, value) = value.split_once(':')?;
    Some((header_name(name).filter(|name| !name.is_empty())?, value.to_owned()))
}

fn pair(value: &str) -> Option<(String, String)> {
    value.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()))
}

fn path(value: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    (value.starts_with('/') && value.bytes().all(is_plain)).then(|| value.to_owned())
}

fn route(value: &str) -> Option<RoutePattern> {
    RoutePattern::parse(value).ok()
}

fn anchored(value: &str) -> Option<RoutePattern> {
    RoutePattern::parse_or_anchored_regex(value).ok()
}

fn regex(value: &str) -> Option<RegexPattern> {
    RegexPattern::parse(value).ok()
}
