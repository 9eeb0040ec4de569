//! Remote configuration: who may say that there is a new one, what it may say, and what becomes of it.
//!
//! Source: remote-config-and-telemetry.md §§ 1 and 3. A document is data from outside. What it may
//! never say it does not, whatever it says about a single option is judged by itself, and one that
//! cannot be read changes nothing.

use std::fmt;

use serde_json::{Map, Value};

use crate::credentials::Protocol;
use crate::crypto::Secrets;
use crate::filter::Network;
use crate::policy::{Options, TokenVersion};
use crate::reason::{LoggerSeverity, ModuleMode};
use crate::request::Request;
use crate::routes::{RegexPattern, RoutePattern};
use crate::telemetry::is_signed_and_current;
use crate::token::json_text::is_truthy;

const FEATURE_HEADER: &str = "x-px-feature";
const FEATURE: &[u8] = b"enforcer_config";
const PUSH_HEADER: &str = "x-px-pushdata";

/// Longest document that is read, in bytes.
pub const MAX_DOCUMENT: usize = 256 << 10;

/// What a document says about these is not heard (§ 3).
const NEVER_REMOTE: [&str; 8] = [
    "px_app_id",
    "px_cookie_secret",
    "px_auth_token",
    "px_logger_auth_token",
    "px_remote_config_auth_token",
    "px_remote_config_id",
    // Who names the hosts gets the visitors' data.
    "px_backend_url",
    "px_backend_collector_url",
];

/// Whether this is HUMAN's message that there is a new document, genuine or not.
pub(crate) fn is_notification(request: &Request<'_>, options: &Options) -> bool {
    options.has_remote_config()
        && request.method == b"POST"
        && request.header(FEATURE_HEADER) == Some(FEATURE)
        && request.non_empty_header(PUSH_HEADER).is_some()
}

/// Whether a notification is signed with the token of remote configuration and still valid at `now`.
pub(crate) fn is_genuine(request: &Request<'_>, secrets: &Secrets, now: u64) -> bool {
    request.header(PUSH_HEADER).is_some_and(|value| is_signed_and_current(value, secrets, now))
}

/// The version a notification's body speaks of; 0: none in particular.
pub fn version_wanted(body: &[u8]) -> u64 {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body.get("version").and_then(Value::as_u64).unwrap_or_default()
}

/// A configuration as HUMAN's service sent it.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub id: String,
    /// Never 0.
    pub version: u64,
    values: Map<String, Value>,
}

/// Why a document cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable(pub String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Document {
    /// Reads `{"id", "version", "lastUpdated", "configValue"}`.
    pub fn parse(json: &[u8]) -> Result<Self, Unusable> {
        let unusable = |reason: &str| Unusable(reason.to_owned());
        if json.len() > MAX_DOCUMENT {
            return Err(unusable("it is larger than 256 KiB"));
        }
        let json: Value = serde_json::from_slice(json).map_err(|_| unusable("it is not JSON"))?;
        let id = json.get("id").and_then(Value::as_str).ok_or(unusable("it has no text \"id\""))?;
        let version = json.get("version").and_then(Value::as_u64).filter(|version| *version != 0);
        let version = version.ok_or(unusable("it has no positive number \"version\""))?;
        let values = json.get("configValue").and_then(Value::as_object);
        let values = values.ok_or(unusable("it has no object \"configValue\""))?;
        Ok(Self { id: id.to_owned(), version, values: values.clone() })
    }

    /// Switched off, it is there to be counted only.
    fn is_enabled(&self) -> bool {
        self.values.get("px_remote_config_enabled").is_some_and(is_truthy)
    }

    /// The values in effect, for telemetry.
    pub(crate) fn values(&self) -> Map<String, Value> {
        if self.is_enabled() { self.values.clone() } else { Map::new() }
    }

    /// A text of a block page that the operator would otherwise have written with variables.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).filter(|_| self.is_enabled())?.as_str()
    }

    /// `own`, the operator's options, under this document; and what of it was not heard, for the log.
    pub(crate) fn over(&self, own: &Options) -> (Options, Vec<String>) {
        let mut options = Options { remote_config_version: self.version, ..own.clone() };
        let mut unheard = Vec::new();
        if self.is_enabled() {
            for (name, value) in &self.values {
                if let Err(reason) = self.set(&mut options, name, value) {
                    unheard.push(format!("\"{}\": {reason}", name.escape_debug()));
                }
            }
        }
        (options, unheard)
    }

    /// Sets one option. A value that is none of its kind sets the option's default (§ 3).
    fn set(&self, options: &mut Options, name: &str, value: &Value) -> Result<(), String> {
        let defaults = Options::default();
        let result = match name {
            "px_module_enabled" | "px_enabled" => set_flag(&mut options.enabled, value, true),
            "px_module_mode" => set(
                &mut options.module_mode,
                defaults.module_mode,
                word(
                    value,
                    &[
                        ("monitor", ModuleMode::Monitor),
                        ("active_blocking", ModuleMode::ActiveBlocking),
                    ],
                ),
            ),
            "px_blocking_score" => {
                number(&mut options.blocking_score, defaults.blocking_score, value, 0, 100)
            }
            "px_bypass_monitor_header" => set(
                &mut options.bypass_monitor_header,
                defaults.bypass_monitor_header,
                header_name(value),
            ),
            "px_token_version" => set(
                &mut options.token_version,
                defaults.token_version,
                match value {
                    Value::String(text) if text == "2" || text == "v2" => Ok(TokenVersion::V2),
                    Value::String(text) if text == "3" || text == "v3" => Ok(TokenVersion::V3),
                    other if other.as_u64() == Some(2) => Ok(TokenVersion::V2),
                    other if other.as_u64() == Some(3) => Ok(TokenVersion::V3),
                    _ => Err("it must be 2 or 3"),
                },
            ),
            "px_risk_cookie_max_length" => number(
                &mut options.risk_cookie_max_length,
                defaults.risk_cookie_max_length,
                value,
                1,
                65_536,
            ),
            "px_risk_cookie_min_iterations" => number(
                &mut options.risk_cookie_min_iterations,
                defaults.risk_cookie_min_iterations,
                value,
                1,
                1_000_000,
            ),
            "px_risk_cookie_max_iterations" => number(
                &mut options.risk_cookie_max_iterations,
                defaults.risk_cookie_max_iterations,
                value,
                1,
                1_000_000,
            ),
            "px_user_agent_max_length" => number(
                &mut options.user_agent_max_length,
                defaults.user_agent_max_length,
                value,
                1,
                65_536,
            ),
            "px_s2s_timeout" => {
                number(&mut options.s2s_timeout_ms, defaults.s2s_timeout_ms, value, 1, 60_000)
            }
            "px_max_body_size" => {
                number(&mut options.max_body_size, defaults.max_body_size, value, 1, 64 << 20)
            }
            "px_logger_severity" => set(
                &mut options.logger_severity,
                defaults.logger_severity,
                word(
                    value,
                    &[
                        ("none", LoggerSeverity::None),
                        ("error", LoggerSeverity::Error),
                        ("debug", LoggerSeverity::Debug),
                    ],
                ),
            ),
            "px_custom_cookie_header" => set(
                &mut options.custom_cookie_header,
                defaults.custom_cookie_header,
                header_name(value),
            ),
            "px_ip_headers" => {
                set(&mut options.ip_headers, defaults.ip_headers, header_names(value))
            }
            "px_sensitive_headers" => {
                set(&mut options.sensitive_headers, defaults.sensitive_headers, header_names(value))
            }
            "px_url_decode_reserved_characters" => {
                set_flag(&mut options.url_decode_reserved_characters, value, false)
            }
            "px_enabled_routes" => self.routes(&mut options.enabled_routes, name, value),
            "px_monitored_routes" => self.routes(&mut options.monitored_routes, name, value),
            "px_enforced_routes" => self.routes(&mut options.enforced_routes, name, value),
            "px_sensitive_routes" => self.routes(&mut options.sensitive_routes, name, value),
            "px_filter_by_route" => self.routes(&mut options.filter_by_route, name, value),
            "px_graphql_routes" => {
                let result = self.routes(&mut options.graphql.routes, name, value);
                if result.is_err() {
                    options.graphql.routes = defaults.graphql.routes;
                }
                result
            }
            "px_monitored_routes_regex"
            | "px_enforced_routes_regex"
            | "px_sensitive_routes_regex"
            | "px_filter_by_route_regex"
            | "px_graphql_routes_regex" => {
                return self.lone_expressions(options, name, value);
            }
            "px_filter_by_extension" => set(
                &mut options.filter_by_extension,
                defaults.filter_by_extension,
                texts(value).map(|list| {
                    let dotted = |text: String| {
                        if text.starts_with('.') { text } else { format!(".{text}") }
                    };
                    list.into_iter().map(dotted).collect()
                }),
            ),
            "px_filter_by_http_method" => set(
                &mut options.filter_by_http_method,
                Vec::new(),
                texts(value)
                    .map(|list| list.iter().map(|text| text.to_ascii_uppercase()).collect()),
            ),
            "px_filter_by_user_agent" => set(
                &mut options.filter_by_user_agent,
                Vec::new(),
                texts(value).map(|list| list.into_iter().map(prefix_or_delimited).collect()),
            ),
            "px_filter_by_ip" => set(
                &mut options.filter_by_ip,
                Vec::new(),
                texts(value)
                    .map(|list| list.iter().filter_map(|text| Network::parse(text).ok()).collect()),
            ),
            "px_advanced_blocking_response_enabled" | "px_enable_json_response" => {
                set_flag(&mut options.enable_json_response, value, defaults.enable_json_response)
            }
            "px_secured_pxhd_enabled" => {
                set_flag(&mut options.secured_pxhd_enabled, value, defaults.secured_pxhd_enabled)
            }
            "px_data_enrichment_header_name" => {
                set(&mut options.data_enrichment_header_name, String::new(), header_name(value))
            }
            "px_first_party_enabled" => set_flag(&mut options.first_party.enabled, value, true),
            "px_reverse_xhr_enabled" => set_flag(&mut options.first_party.xhr_enabled, value, true),
            "px_first_party_timeout_ms" => number(
                &mut options.first_party.timeout_ms,
                defaults.first_party.timeout_ms,
                value,
                1,
                60_000,
            ),
            "px_custom_first_party_prefix" => {
                set(&mut options.first_party.prefix, String::new(), path(value, true))
            }
            "px_custom_first_party_sensor_endpoint" => {
                set(&mut options.first_party.sensor_endpoint, String::new(), path(value, false))
            }
            "px_custom_first_party_xhr_endpoint" => {
                set(&mut options.first_party.xhr_endpoint, String::new(), path(value, false))
            }
            "px_custom_first_party_captcha_endpoint" => {
                set(&mut options.first_party.captcha_endpoint, String::new(), path(value, false))
            }
            "px_cors_support_enabled" => {
                set_flag(&mut options.cors_support_enabled, value, defaults.cors_support_enabled)
            }
            "px_cors_preflight_request_filter_enabled" => set_flag(
                &mut options.cors_preflight_request_filter_enabled,
                value,
                defaults.cors_preflight_request_filter_enabled,
            ),
            "px_login_credentials_extraction_enabled" => {
                set_flag(&mut options.credentials.enabled, value, defaults.credentials.enabled)
            }
            "px_credentials_intelligence_version" => set(
                &mut options.credentials.version,
                defaults.credentials.version,
                text(value).and_then(|text| {
                    Protocol::parse(&text).ok_or("it is no version of the protocol")
                }),
            ),
            "px_compromised_credentials_header" => set(
                &mut options.credentials.compromised_header,
                defaults.credentials.compromised_header,
                header_name(value),
            ),
            "px_send_raw_username_on_additional_s2s_activity" => set_flag(
                &mut options.credentials.send_raw_username,
                value,
                defaults.credentials.send_raw_username,
            ),
            "px_automatic_additional_s2s_activity_enabled" => set_flag(
                &mut options.credentials.automatic_additional_s2s,
                value,
                defaults.credentials.automatic_additional_s2s,
            ),
            "px_additional_s2s_activity_header_enabled" => set_flag(
                &mut options.credentials.additional_s2s_header,
                value,
                defaults.credentials.additional_s2s_header,
            ),
            "px_graphql_enabled" => {
                set_flag(&mut options.graphql.enabled, value, defaults.graphql.enabled)
            }
            "px_sensitive_graphql_operation_types" => {
                set(&mut options.graphql.sensitive_operation_types, Vec::new(), texts(value))
            }
            "px_sensitive_graphql_operation_names" => {
                set(&mut options.graphql.sensitive_operation_names, Vec::new(), expressions(value))
            }
            "px_graphql_keywords" => {
                set(&mut options.graphql.keywords, Vec::new(), expressions(value))
            }
            "px_jwt_cookie_name" => {
                set(&mut options.user_identifiers.cookie_name, String::new(), text(value))
            }
            "px_jwt_cookie_user_id_field_name" => {
                set(&mut options.user_identifiers.cookie_user_id_field, String::new(), text(value))
            }
            "px_jwt_cookie_additional_field_names" => set(
                &mut options.user_identifiers.cookie_additional_fields,
                Vec::new(),
                texts(value),
            ),
            "px_jwt_header_name" => {
                set(&mut options.user_identifiers.header_name, String::new(), header_name(value))
            }
            "px_jwt_header_user_id_field_name" => {
                set(&mut options.user_identifiers.header_user_id_field, String::new(), text(value))
            }
            "px_jwt_header_additional_field_names" => set(
                &mut options.user_identifiers.header_additional_fields,
                Vec::new(),
                texts(value),
            ),
            "px_agentic_trust_enabled" => {
                set_flag(&mut options.agentic_trust.enabled, value, defaults.agentic_trust.enabled)
            }
            "px_snippet_injection_enabled" | "px_snippet_provider_enabled" => {
                set_flag(&mut options.snippet_enabled, value, defaults.snippet_enabled)
            }
            "px_csp_enabled" => set_flag(&mut options.csp_enabled, value, defaults.csp_enabled),
            "px_telemetry_header" => {
                set(&mut options.telemetry_header, defaults.telemetry_header, header_name(value))
            }
            // Texts of block pages; [`Document::text`] gives them.
            "px_custom_logo" | "px_css_ref" | "px_js_ref" => text(value).map(|_| ()),
            "px_remote_config_enabled" | "px_remote_config_version" => Ok(()),
            _ if NEVER_REMOTE.contains(&name) => {
                return Err("it may not come from remote".to_owned());
            }
            _ => return Err("it cannot come from remote".to_owned()),
        };
        result.map_err(|reason| format!("{reason}; its default counts"))
    }

    /// Prefixes, then the expressions of the companion list (§ 3).
    fn routes(
        &self,
        option: &mut Vec<RoutePattern>,
        name: &str,
        value: &Value,
    ) -> Result<(), &'static str> {
        let companion = self.values.get(&format!("{name}_regex"));
        let of_companion = companion.map_or_else(Vec::new, delimited_expressions);
        let prefixes = texts(value);
        let failed = prefixes.as_ref().err().copied();
        let prefixes = prefixes.unwrap_or_default().into_iter().map(RoutePattern::Prefix);
        *option = prefixes.chain(of_companion.into_iter().map(RoutePattern::Regex)).collect();
        failed.map_or(Ok(()), Err)
    }

    /// Expressions whose list of prefixes is not in the document: that one stays as it is.
    fn lone_expressions(
        &self,
        options: &mut Options,
        name: &str,
        value: &Value,
    ) -> Result<(), String> {
        let base = name.trim_end_matches("_regex");
        if self.values.contains_key(base) {
            return Ok(());
        }
        let option = match base {
            "px_monitored_routes" => &mut options.monitored_routes,
            "px_enforced_routes" => &mut options.enforced_routes,
            "px_sensitive_routes" => &mut options.sensitive_routes,
            "px_filter_by_route" => &mut options.filter_by_route,
            _ => &mut options.graphql.routes,
        };
        option.extend(delimited_expressions(value).into_iter().map(RoutePattern::Regex));
        Ok(())
    }
}

fn set<T>(option: &mut T, default: T, value: Result<T, &'static str>) -> Result<(), &'static str> {
    let (value, result) = match value {
        Ok(value) => (value, Ok(())),
        Err(reason) => (default, Err(reason)),
    };
    *option = value;
    result
}

fn set_flag(option: &mut bool, value: &Value, default: bool) -> Result<(), &'static str> {
    set(option, default, value.as_bool().ok_or("it must be true or false"))
}

fn number<T: TryFrom<u64>>(
    option: &mut T,
    default: T,
    value: &Value,
    min: u64,
    max: u64,
) -> Result<(), &'static str> {
    let number = value.as_u64().filter(|number| (min..=max).contains(number));
    let number = number.and_then(|number| T::try_from(number).ok());
    set(option, default, number.ok_or("it must be a whole number within the option's bounds"))
}

fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, &'static str> {
    let found = words.iter().find(|(word, _)| value.as_str() == Some(word));
    found.map(|(_, meaning)| *meaning).ok_or("it must be one of the option's words")
}

fn text(value: &Value) -> Result<String, &'static str> {
    value.as_str().map(str::to_owned).ok_or("it must be a text")
}

fn texts(value: &Value) -> Result<Vec<String>, &'static str> {
    let list = value.as_array().ok_or("it must be a list of texts")?;
    list.iter().map(text).collect::<Result<_, _>>().map_err(|_| "it must be a list of texts")
}

/// Empty, or the name of a header, in lower case.
fn header_name(value: &Value) -> Result<String, &'static str> {
    let name = text(value)?.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.bytes().all(is_token) { Ok(name) } else { Err("it must be a header name") }
}

fn header_names(value: &Value) -> Result<Vec<String>, &'static str> {
    let list = value.as_array().ok_or("it must be a list of header names")?;
    list.iter().map(header_name).filter(|name| name.as_deref() != Ok("")).collect()
}

/// Empty, or a path without anything that could mean more; a prefix may lack its first slash.
fn path(value: &Value, may_lack_slash: bool) -> Result<String, &'static str> {
    let text = text(value)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let rest = text.strip_prefix('/').or(may_lack_slash.then_some(&*text));
    let is_path = |rest: &str| {
        let rest = rest.trim_end_matches('/');
        !rest.is_empty() && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
    };
    let fits = text.is_empty() || (text.bytes().all(is_plain) && rest.is_some_and(is_path));
    if fits { Ok(text.trim_end_matches('/').to_owned()) } else { Err("it must be a path") }
}

/// `/…/flags` is an expression, any other text a prefix (options.md § 1).
fn prefix_or_delimited(text: String) -> RoutePattern {
    let delimited = text.strip_prefix('/').and_then(|rest| rest.rsplit_once('/'));
    let is_expression = delimited
        .is_some_and(|(source, flags)| !source.is_empty() && flags.bytes().all(is_regex_flag));
    match RegexPattern::parse(&text) {
        Ok(pattern) if is_expression => RoutePattern::Regex(pattern),
        _ => RoutePattern::Prefix(text),
    }
}

fn is_regex_flag(byte: u8) -> bool {
    b"gimsuyvd".contains(&byte)
}

/// The valid ones of a list of expressions; the others are dropped (§ 3).
fn delimited_expressions(value: &Value) -> Vec<RegexPattern> {
    let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.filter_map(|text| RegexPattern::parse(text).ok()).collect()
}

fn expressions(value: &Value) -> Result<Vec<RegexPattern>, &'static str> {
    texts(value)?;
    Ok(delimited_expressions(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::Policy;
    use crate::sample;

    fn document(version: u64, mut values: Value) -> Document {
        if values.get("px_remote_config_enabled").is_none() {
            values["px_remote_config_enabled"] = json!(true);
        }
        let json =
            json!({"id": "rc-1", "version": version, "lastUpdated": 1, "configValue": values});
        Document::parse(json.to_string().as_bytes()).expect("a document")
    }

    fn applied(values: Value) -> (Options, Vec<String>) {
        let own = sample::policy(|options| {
            options.blocking_score = 70;
            options.sensitive_routes = vec![RoutePattern::Prefix("/own".to_owned())];
        });
        document(7, values).over(own.options())
    }

    #[test]
    fn only_a_document_is_one() {
        for text in [
            "",
            "{",
            "[]",
            "null",
            r#"{"id":"a","version":1}"#,
            r#"{"id":"a","version":0,"configValue":{}}"#,
            r#"{"id":"a","version":"1","configValue":{}}"#,
            r#"{"id":1,"version":1,"configValue":{}}"#,
            r#"{"id":"a","version":1.5,"configValue":{}}"#,
            r#"{"id":"a","version":1,"configValue":[]}"#,
        ] {
            assert!(Document::parse(text.as_bytes()).is_err(), "{text}");
        }
        let large =
            json!({"id": "a", "version": 1, "configValue": {"x": "y".repeat(MAX_DOCUMENT)}});
        assert!(Document::parse(large.to_string().as_bytes()).is_err());
    }

    #[test]
    fn values_replace_the_operators_and_those_not_named_stay() {
        let (options, unheard) = applied(json!({
            "px_module_mode": "monitor",
            "px_s2s_timeout": 250,
            "px_ip_headers": ["X-Real-IP"],
            "px_filter_by_extension": ["css", ".js"],
            "px_filter_by_http_method": ["options"],
            "px_filter_by_ip": ["192.0.2.0/24", "nonsense"],
            "px_filter_by_user_agent": ["Probe", "/bot/i"],
            "px_custom_logo": "/logo.png",
        }));
        assert_eq!(unheard, [""; 0]);
        assert_eq!(options.module_mode, ModuleMode::Monitor);
        assert_eq!((options.s2s_timeout_ms, options.blocking_score), (250, 70));
        assert_eq!(options.ip_headers, ["x-real-ip"]);
        assert_eq!(options.filter_by_extension, [".css", ".js"]);
        assert_eq!(options.filter_by_http_method, ["OPTIONS"]);
        assert_eq!(options.filter_by_ip.len(), 1);
        assert!(matches!(&options.filter_by_user_agent[..],
            [RoutePattern::Prefix(prefix), RoutePattern::Regex(_)] if prefix == "Probe"));
        assert_eq!(options.remote_config_version, 7);
    }

    #[test]
    fn expressions_follow_the_prefixes_of_their_list() {
        let (options, _) = applied(json!({
            "px_sensitive_routes": ["/login/", "/a"],
            "px_sensitive_routes_regex": ["/^\\/pay\\d/i", "/(?=x)/", 7],
            "px_monitored_routes_regex": ["/^\\/m/"],
        }));
        let shown: Vec<_> = options.sensitive_routes.iter().map(RoutePattern::report).collect();
        assert_eq!(shown, ["/login/", "/a", "_REGEXP /^/pay\\d/i"]);
        assert_eq!(options.monitored_routes.len(), 1);
        let (options, _) = applied(json!({"px_sensitive_routes_regex": ["/^\\/pay/"]}));
        assert_eq!(options.sensitive_routes.len(), 2, "the operator's own stays beside it");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_the_options_default() {
        for (value, score) in
            [(json!("90"), 100), (json!(101), 100), (json!(null), 100), (json!(90), 90)]
        {
            let (options, unheard) = applied(json!({"px_blocking_score": value}));
            assert_eq!(options.blocking_score, score, "{value}");
            assert_eq!(unheard.is_empty(), score == 90);
        }
        let (options, unheard) = applied(json!({
            "px_sensitive_routes": "/a", "px_ip_headers": ["a b"], "px_module_mode": "block",
            "px_custom_first_party_xhr_endpoint": "/",
        }));
        assert!(options.sensitive_routes.is_empty() && options.ip_headers.is_empty());
        assert_eq!(options.module_mode, ModuleMode::Monitor);
        assert_eq!(options.first_party.xhr_endpoint, "");
        assert_eq!(unheard.len(), 4, "{unheard:?}");
    }

    #[test]
    fn secrets_hosts_and_identity_never_come_from_remote() {
        for name in
            NEVER_REMOTE.iter().chain(&["px_activity_spool", "px_enforced_routes_exclusive"])
        {
            let own = sample::policy(|_| ());
            let before = format!("{:?}", own.options());
            let document = document(1, json!({ *name: "https://evil.example" }));
            let (mut options, unheard) = document.over(own.options());
            options.remote_config_version = 0;
            assert_eq!(format!("{options:?}"), before, "{name}");
            assert_eq!(unheard.len(), 1, "{name}");
        }
    }

    #[test]
    fn switched_off_it_is_only_counted() {
        let values = json!({"px_remote_config_enabled": 0, "px_blocking_score": 1});
        let (options, unheard) = applied(values);
        assert_eq!((options.blocking_score, options.remote_config_version), (70, 7));
        assert!(unheard.is_empty());
        assert!(document(1, json!({"px_remote_config_enabled": false})).values().is_empty());
    }

    #[test]
    fn whatever_a_document_says_the_policy_compiles_or_nothing_changes() {
        let own = sample::policy(|_| ());
        for values in [
            json!({"px_risk_cookie_min_iterations": 6000}),
            json!({"px_custom_first_party_prefix": "../x"}),
            json!({"px_sensitive_routes": vec!["/x"; 5000]}),
            json!({"px_graphql_keywords": ["(a{1000}){1000}"]}),
        ] {
            match Policy::under(own.options(), document(2, values.clone())) {
                Ok((policy, _)) => assert_eq!(policy.options().remote_config_version, 2),
                Err(error) => assert!(!error.to_string().is_empty(), "{values}"),
            }
        }
    }
}
