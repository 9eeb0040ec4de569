//! Which field belongs into which message and what it may look like: the tables of risk-api.md
//! § 3.2 and activities.md § 4.1 as data.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::net::IpAddr;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Report, is_uuid, url};

/// The messages that share the table below; the order is that of its columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    Risk,
    PageRequested,
    Block,
    AdditionalS2s,
}

impl Message {
    /// The object that holds the fields.
    pub(crate) fn object(self) -> &'static str {
        if self == Self::Risk { "additional" } else { "details" }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Must,
    May,
    Never,
}

/// What a value may be.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Text that is not empty.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    Flag,
    FlagOrNull,
    Number,
    /// A whole number above 0.
    Count,
    /// An HTTP status.
    Status,
    /// Unix milliseconds.
    Millis,
    /// A UUID as risk-token.md § 7 has it.
    Uuid,
    /// A version 4 UUID.
    Uuid4,
    /// 64 lower-case hexadecimal digits.
    Hex64,
    CallReason,
    /// An IP address, or empty text.
    Address,
    /// A normalised absolute URL.
    Url,
    /// Cookie names, each once.
    CookieNames,
    /// Texts in ascending order, each once.
    SortedTexts,
    HttpVersion,
    Method,
    /// `***` and the last three characters of a secret.
    Redacted,
    /// A JSON object.
    Object,
    /// Anything but null, false, 0 and "".
    Truthy,
    GraphQl,
}

struct Field {
    name: &'static str,
    kind: Kind,
    needs: [Need; 4],
}

const fn field(name: &'static str, kind: Kind, needs: [Need; 4]) -> Field {
    Field { name, kind, needs }
}

const M: Need = Need::Must;
const O: Need = Need::May;
const N: Need = Need::Never;
const ALWAYS: [Need; 4] = [M, M, M, M];
const MAYBE: [Need; 4] = [O, O, O, O];
const ACTIVITY: [Need; 4] = [N, O, O, O];
//                       risk, page_requested, block, additional_s2s
const CALL: [Need; 4] = [M, O, O, O];
const PASS: [Need; 4] = [N, M, N, N];
const ERROR: [Need; 4] = [N, O, N, N];
const BLOCK: [Need; 4] = [N, N, M, N];

pub(crate) const PASS_REASONS: &[&str] = &["cookie", "s2s", "s2s_error", "s2s_timeout"];
pub(crate) const S2S_ERRORS: &[&str] = &[
    "unable_to_send_request",
    "bad_request",
    "server_error",
    "invalid_response",
    "request_failed_on_server",
    "unknown_error",
];

#[rustfmt::skip]
const FIELDS: &[Field] = &[
    field("s2s_call_reason",           Kind::CallReason, CALL),
    field("risk_start_time",           Kind::Millis, CALL),
    field("module_version",            Kind::Text, ALWAYS),
    field("risk_mode",                 Kind::Word(&["monitor", "active_blocking"]), ALWAYS),
    field("request_id",                Kind::Uuid4, ALWAYS),
    field("cookie_origin",             Kind::Word(&["cookie", "header"]), ALWAYS),
    field("enforcer_start_time",       Kind::Millis, ALWAYS),
    field("http_version",              Kind::HttpVersion, MAYBE),
    field("http_method",               Kind::Method, ALWAYS),
    field("request_cookie_names",      Kind::CookieNames, ALWAYS),
    field("raw_url",                   Kind::Text, MAYBE),
    field("enforcer_vid_source",       Kind::Word(&["vid_cookie", "risk_cookie"]), MAYBE),
    field("orig_cookie_vid",           Kind::Text, MAYBE),
    field("is_sensitive_route",        Kind::Flag, ALWAYS),
    field("px_cookie",                 Kind::Text, MAYBE),
    field("px_cookie_hmac",            Kind::Hex64, MAYBE),
    field("px_orig_cookie",            Kind::Text, MAYBE),
    field("used_cookie_secret",        Kind::Redacted, MAYBE),
    field("original_token",            Kind::Text, MAYBE),
    field("px_decoded_original_token", Kind::Text, MAYBE),
    field("original_token_error",      Kind::Word(&["cookie_decryption_failed", "cookie_validation_failed"]), MAYBE),
    field("remote_config_id",          Kind::Text, MAYBE),
    field("remote_config_version",     Kind::Count, MAYBE),
    field("server_info_datacenter",    Kind::Text, MAYBE),
    field("server_info_region",        Kind::Text, MAYBE),
    field("tls_protocol",              Kind::Text, MAYBE),
    field("tls_cipher",                Kind::Text, MAYBE),
    field("tls_ciphers_sha",           Kind::Text, MAYBE),
    field("tls_extension_sha",         Kind::Text, MAYBE),
    field("tls_ja3_fingerprint",       Kind::Text, MAYBE),
    field("tls_preferred_ciphers",     Kind::Text, MAYBE),
    field("tls_server",                Kind::Text, MAYBE),
    field("cross_tab_session",         Kind::Text, MAYBE),
    field("app_user_id",               Kind::Truthy, MAYBE),
    field("jwt_additional_fields",     Kind::Object, MAYBE),
    field("user",                      Kind::Text, MAYBE),
    field("pass",                      Kind::Hex64, MAYBE),
    field("ci_version",                Kind::Word(&["v1", "v2", "multistep_sso"]), MAYBE),
    field("sso_step",                  Kind::Word(&["user", "pass"]), MAYBE),
    field("graphql_operations",        Kind::GraphQl, MAYBE),
    field("is_hype_sale",              Kind::Flag, MAYBE),
    field("cpa",                       Kind::Flag, MAYBE),
    field("mcp_method",                Kind::Text, MAYBE),
    field("mcp_tool_name",             Kind::Text, MAYBE),
    field("mcp_tool_argument_keys",    Kind::Text, MAYBE),
    field("mcp_session_id",            Kind::Text, MAYBE),
    field("mcp_http_method",           Kind::Method, MAYBE),
    field("client_uuid",               Kind::Text, ACTIVITY),
    field("risk_rtt",                  Kind::Count, ACTIVITY),
    field("additional_risk_info",      Kind::Text, ACTIVITY),
    field("credentials_compromised",   Kind::Flag, ACTIVITY),
    field("http_status_code",          Kind::Status, [N, O, O, M]),
    field("pass_reason",               Kind::Word(PASS_REASONS), PASS),
    field("s2s_error_reason",          Kind::Word(S2S_ERRORS), ERROR),
    field("s2s_error_http_status",     Kind::Status, ERROR),
    field("error_message",             Kind::Text, ERROR),
    field("block_reason",              Kind::Word(&["cookie_high_score", "s2s_high_score", "hsc_route"]), BLOCK),
    field("simulated_block",           Kind::Flag, BLOCK),
    field("block_action",              Kind::Text, BLOCK),
    field("block_score",               Kind::Number, [N, N, O, N]),
    field("login_successful",          Kind::FlagOrNull, [N, N, N, M]),
    field("raw_username",              Kind::Text, [N, N, N, O]),
];

/// Judges `additional` or `details`: nothing missing, nothing foreign, every value of its kind.
pub(crate) fn check(message: Message, object: &Map<String, Value>, report: &mut Report) {
    let place = message.object();
    for field in FIELDS {
        let name = field.name;
        match (field.needs[message as usize], object.get(name)) {
            (Need::Must, None) => report.say(format_args!("{place}.{name} is missing")),
            (Need::Never, Some(_)) => {
                report.say(format_args!("{place}.{name} does not belong into this message"));
            }
            (_, Some(value)) => check_value(Path(place, name), value, field.kind, report),
            (_, None) => {}
        }
    }
    for (name, value) in object {
        if FIELDS.iter().any(|field| field.name == name) {
            continue;
        }
        // custom-parameters.md: 1 to 10 from the request, 11 to 20 from the response.
        let number = name.strip_prefix("custom_param").and_then(custom_number);
        match number {
            Some(1..=10) => check_value(Path(place, name), value, Kind::Text, report),
            Some(11..=20) if message != Message::Risk => {
                check_value(Path(place, name), value, Kind::Text, report);
            }
            _ => report.say(format_args!("{place}.{name} is not a field of this message")),
        }
    }
}

fn custom_number(digits: &str) -> Option<u8> {
    let number: u8 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// A member of an object that is not in the table: present and of its kind.
pub(crate) fn must(
    object: &Map<String, Value>,
    path: &str,
    name: &str,
    kind: Kind,
    report: &mut Report,
) {
    match object.get(name) {
        Some(value) => check_value(Path(path, name), value, kind, report),
        None => report.say(format_args!("{} is missing", Path(path, name))),
    }
}

/// A member that may be absent.
pub(crate) fn may(
    object: &Map<String, Value>,
    path: &str,
    name: &str,
    kind: Kind,
    report: &mut Report,
) {
    if let Some(value) = object.get(name) {
        check_value(Path(path, name), value, kind, report);
    }
}

/// Complains about every member that is not listed.
pub(crate) fn only(object: &Map<String, Value>, path: &str, names: &[&str], report: &mut Report) {
    for name in object.keys().filter(|name| !names.contains(&name.as_str())) {
        report.say(format_args!("{} is not a field of this message", Path(path, name)));
    }
}

/// A member of an object, for complaints.
struct Path<'p>(&'p str, &'p str);

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(object, member) = self;
        if object.is_empty() { write!(f, "{member}") } else { write!(f, "{object}.{member}") }
    }
}

pub(crate) fn check_value(path: impl Display, value: &Value, kind: Kind, report: &mut Report) {
    if value.is_null() && !matches!(kind, Kind::FlagOrNull) {
        report.say(format_args!("{path} is null: a field without value is left out"));
        return;
    }
    let expected = match kind {
        Kind::Url => {
            match value.as_str() {
                Some(text) => {
                    for fault in url::faults(text) {
                        report.say(format_args!("{path} {fault}: {text:?}"));
                    }
                }
                None => report.say(format_args!("{path} is {}, expected a text", short(value))),
            }
            return;
        }
        Kind::GraphQl => return check_graphql(&path.to_string(), value, report),
        _ if is_of(value, kind) => return,
        Kind::Text => "a text that is not empty".to_owned(),
        Kind::Word(words) => format!("one of {}", words.join(", ")),
        Kind::Flag => "true or false".into(),
        Kind::FlagOrNull => "true, false or null".into(),
        Kind::Number => "a number".into(),
        Kind::Count => "a whole number above 0 (0 is left out)".into(),
        Kind::Status => "an HTTP status as a number".into(),
        Kind::Millis => "a time in whole milliseconds since 1970".into(),
        Kind::Uuid => "a lower-case UUID".into(),
        Kind::Uuid4 => "a lower-case version 4 UUID".into(),
        Kind::Hex64 => "64 lower-case hexadecimal digits".into(),
        Kind::CallReason => "a call reason of risk-api.md § 4".into(),
        Kind::Address => "an IP address or an empty text".into(),
        Kind::CookieNames => "an array of cookie names, each once".into(),
        Kind::SortedTexts => "an array of sorted texts, each once".into(),
        Kind::HttpVersion => "a version such as 1.1 or 2".into(),
        Kind::Method => "an upper-case method".into(),
        Kind::Redacted => "*** and three characters".into(),
        Kind::Object => "an object".into(),
        Kind::Truthy => "a value that is not empty".into(),
    };
    report.say(format_args!("{path} is {}, expected {expected}", short(value)));
}

fn is_of(value: &Value, kind: Kind) -> bool {
    let text = value.as_str();
    match kind {
        Kind::Text => text.is_some_and(|text| !text.is_empty()),
        Kind::Word(words) => text.is_some_and(|text| words.contains(&text)),
        Kind::Flag => value.is_boolean(),
        Kind::FlagOrNull => value.is_boolean() || value.is_null(),
        Kind::Number => value.is_number(),
        Kind::Count => value.as_u64().is_some_and(|number| number > 0),
        Kind::Status => value.as_u64().is_some_and(|status| (100..1000).contains(&status)),
        Kind::Millis => value.as_u64().is_some_and(is_millis),
        Kind::Uuid => text.is_some_and(is_uuid),
        Kind::Uuid4 => text.is_some_and(|text| {
            is_uuid(text) && Uuid::try_parse(text).is_ok_and(|uuid| uuid.get_version_num() == 4)
        }),
        Kind::Hex64 => text.is_some_and(is_hex64),
        Kind::CallReason => text.is_some_and(is_call_reason),
        Kind::Address => text.is_some_and(|text| text.is_empty() || text.parse::<IpAddr>().is_ok()),
        Kind::CookieNames => are_cookie_names(value),
        Kind::SortedTexts => are_sorted_texts(value),
        Kind::HttpVersion => {
            text.is_some_and(|text| matches!(text, "0.9" | "1.0" | "1.1" | "2" | "3"))
        }
        Kind::Method => text.is_some_and(|text| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_lowercase())
        }),
        Kind::Redacted => text
            .and_then(|text| text.strip_prefix("***"))
            .is_some_and(|tail| (1..=3).contains(&tail.chars().count())),
        Kind::Object => value.is_object(),
        Kind::Truthy => !matches!(value, Value::Bool(false)) && *value != 0 && text != Some(""),
        Kind::Url | Kind::GraphQl => true,
    }
}

/// Between 2014 and 2100: seconds and microseconds fall out on either side.
pub(crate) fn is_millis(time: u64) -> bool {
    (1_400_000_000_000..4_102_444_800_000).contains(&time)
}

fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_call_reason(text: &str) -> bool {
    const REASONS: [&str; 8] = [
        "no_cookie",
        "no_cookie_w_vid",
        "cookie_expired",
        "cookie_decryption_failed",
        "cookie_validation_failed",
        "sensitive_route",
        "hsc_route",
        "unknown_reason",
    ];
    let mobile_error = text.strip_prefix("mobile_error_");
    REASONS.contains(&text)
        || mobile_error.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn are_cookie_names(value: &Value) -> bool {
    let Some(names) = value.as_array() else { return false };
    let mut known = HashSet::new();
    names
        .iter()
        .all(|name| name.as_str().is_some_and(|name| !name.is_empty() && known.insert(name)))
}

fn are_sorted_texts(value: &Value) -> bool {
    let Some(texts) = value.as_array() else { return false };
    texts.iter().all(|text| is_of(text, Kind::Text))
        && texts.iter().map(Value::as_str).is_sorted_by(|before, after| before < after)
}

/// graphql.md § 7
fn check_graphql(path: &str, value: &Value, report: &mut Report) {
    let Some(operations) = value.as_array().filter(|operations| !operations.is_empty()) else {
        report.say(format_args!("{path} is {}, expected an array that is not empty", short(value)));
        return;
    };
    for (position, operation) in operations.iter().enumerate() {
        let path = format!("{path}[{position}]");
        let Some(operation) = operation.as_object() else {
            report.say(format_args!("{path} is {}, expected an object", short(operation)));
            continue;
        };
        only(operation, &path, &["type", "name", "keywords", "sensitive", "variables"], report);
        match operation.get("type") {
            Some(Value::Null) => {}
            Some(word) => {
                let words = Kind::Word(&["query", "mutation", "subscription"]);
                check_value(Path(&path, "type"), word, words, report);
            }
            None => report.say(format_args!("{path}.type is missing (null where unknown)")),
        }
        may(operation, &path, "name", Kind::Text, report);
        if operation.get("sensitive").is_some_and(|flag| *flag != true) {
            report.say(format_args!("{path}.sensitive is only sent when true"));
        }
        for (name, longest, most) in [("keywords", 100, 500), ("variables", usize::MAX, usize::MAX)]
        {
            let Some(texts) = operation.get(name) else { continue };
            let fine = texts.as_array().is_some_and(|texts| {
                texts.len() <= most
                    && texts.iter().all(|text| {
                        text.as_str().is_some_and(|text| text.encode_utf16().count() <= longest)
                    })
            });
            if !fine {
                report.say(format_args!("{path}.{name} is no array of texts within its limits"));
            }
        }
    }
}

/// A value for a complaint: whole where short.
pub(crate) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn complaints(value: Value, kind: Kind) -> usize {
        let mut report = Report::default();
        check_value("x", &value, kind, &mut report);
        report.into_lines().len()
    }

    #[test]
    fn every_kind_takes_the_good_and_refuses_the_bad() {
        let millis = 1_750_000_000_000_u64;
        let cases: Vec<(Kind, Vec<Value>, Vec<Value>)> = vec![
            (Kind::Text, vec![json!("a")], vec![json!(""), json!(1), json!(null)]),
            (Kind::Flag, vec![json!(true)], vec![json!("true"), json!(1), json!(null)]),
            (Kind::FlagOrNull, vec![json!(null), json!(false)], vec![json!("")]),
            (Kind::Count, vec![json!(1)], vec![json!(0), json!(-1), json!(1.5), json!("1")]),
            (Kind::Status, vec![json!(200)], vec![json!("200"), json!(0), json!(1000)]),
            (
                Kind::Millis,
                vec![json!(millis)],
                vec![
                    json!(millis / 1000),
                    json!(millis * 1000),
                    json!("1750000000000"),
                    json!(1.5),
                ],
            ),
            (
                Kind::Uuid4,
                vec![json!("0f0e0d0c-0b0a-4a0b-8c0d-0e0f00010203")],
                vec![
                    json!("0F0E0D0C-0B0A-4A0B-8C0D-0E0F00010203"),
                    json!("0f0e0d0c-0b0a-1a0b-8c0d-0e0f00010203"),
                    json!("0f0e0d0c0b0a4a0b8c0d0e0f00010203"),
                ],
            ),
            (Kind::Hex64, vec![json!("a".repeat(64))], vec![json!("A".repeat(64)), json!("a")]),
            (
                Kind::CallReason,
                vec![json!("no_cookie"), json!("mobile_error_12")],
                vec![json!("none"), json!("mobile_error_"), json!("mobile_error_x")],
            ),
            (
                Kind::Address,
                vec![json!(""), json!("192.0.2.1"), json!("2001:db8::1")],
                vec![json!("192.0.2.1, 10.0.0.1"), json!("[::1]"), json!("x")],
            ),
            (
                Kind::CookieNames,
                vec![json!([]), json!(["a", "b"])],
                vec![json!(["a", "a"]), json!([""]), json!("[]"), json!([1])],
            ),
            (
                Kind::SortedTexts,
                vec![json!([]), json!(["a", "b"])],
                vec![json!(["b", "a"]), json!(["a", "a"]), json!([""]), json!([1]), json!("a")],
            ),
            (
                Kind::HttpVersion,
                vec![json!("1.1"), json!("2")],
                vec![json!("HTTP/1.1"), json!("2.0"), json!(2)],
            ),
            (Kind::Method, vec![json!("GET"), json!("M-SEARCH")], vec![json!("get"), json!("")]),
            (Kind::Redacted, vec![json!("***001")], vec![json!("***"), json!("***0001")]),
            (Kind::Truthy, vec![json!({}), json!("0"), json!(1)], vec![json!(0), json!("")]),
            (
                Kind::GraphQl,
                vec![json!([{"type": null}, {"type": "query", "name": "A", "sensitive": true}])],
                vec![
                    json!([]),
                    json!([{}]),
                    json!([{"type": "q"}]),
                    json!([{"type": null, "x": 1}]),
                ],
            ),
        ];
        for (kind, good, bad) in cases {
            for value in good {
                assert_eq!(complaints(value.clone(), kind), 0, "{value}");
            }
            for value in bad {
                assert_eq!(complaints(value.clone(), kind), 1, "{value}");
            }
        }
    }

    #[test]
    fn names_custom_parameters_strictly() {
        for (name, is_fine) in [
            ("custom_param1", true),
            ("custom_param10", true),
            ("custom_param11", false),
            ("custom_param01", false),
            ("custom_param0", false),
            ("custom_paramx", false),
        ] {
            let mut report = Report::default();
            let object = json!({ name: "v" });
            check(Message::Risk, object.as_object().unwrap(), &mut report);
            let said = report.into_lines().iter().any(|line| line.contains(name));
            assert_eq!(said, !is_fine, "{name}");
        }
    }
}
