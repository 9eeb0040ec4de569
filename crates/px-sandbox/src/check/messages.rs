//! The three messages an enforcer sends: Risk API request, activities, telemetry.

use serde_json::{Map, Value};

use super::agreement::{self, Told};
use super::fields::{self, Kind, Message};
use super::{Checker, Report, transport};
use crate::received::Received;

/// risk-api.md § 3
pub(super) fn check_risk(body: &Value, checker: &Checker, at_ms: u64, report: &mut Report) {
    let Some(body) = body.as_object() else {
        return report.say("the body is no JSON object");
    };
    fields::only(body, "", &["vid", "client_uuid", "pxhd", "request", "additional"], report);
    for name in ["vid", "client_uuid", "pxhd"] {
        fields::may(body, "", name, Kind::Text, report);
    }
    let request = part(body, "request", report);
    fields::only(&request, "request", &["socket_ip", "headers", "url"], report);
    fields::must(&request, "request", "socket_ip", Kind::Address, report);
    fields::must(&request, "request", "url", Kind::Url, report);
    let headers = check_headers(&request, "request.headers", checker, report);

    let additional = part(body, "additional", report);
    fields::check(Message::Risk, &additional, report);
    let told = Told {
        message: Message::Risk,
        top: body,
        fields: &additional,
        url: text(&request, "url"),
        headers: &headers,
        timestamp: None,
        now_ms: checker.judge_clock.then_some(at_ms),
    };
    agreement::check(&told, report);
}

/// activities.md § 3: one object, or an array of two and more.
pub(super) fn check_activities(
    body: &Value,
    checker: &Checker,
    received: &Received,
    report: &mut Report,
) {
    match body {
        Value::Array(list) if list.is_empty() => report.say("an empty array of activities"),
        Value::Array(list) if list.len() == 1 => {
            report.say("a single activity is sent as an object, not as an array of one");
        }
        Value::Array(_) | Value::Object(_) => {}
        _ => report.say("the body is neither an object nor an array"),
    }
    for (place, activity) in activities(body) {
        report.within(&place, |report| check_activity(activity, checker, received, report));
    }
}

/// The activities of a body, each with its place in front of complaints.
pub(super) fn activities(body: &Value) -> impl Iterator<Item = (String, &Value)> {
    let (list, is_array) = match body {
        Value::Array(list) => (list.as_slice(), true),
        single => (std::slice::from_ref(single), false),
    };
    list.iter().enumerate().map(move |(position, activity)| {
        (if is_array { format!("[{position}] ") } else { String::new() }, activity)
    })
}

/// activities.md § 4
fn check_activity(activity: &Value, checker: &Checker, received: &Received, report: &mut Report) {
    let Some(body) = activity.as_object() else {
        return report.say("the activity is no object");
    };
    let message = match text(body, "type") {
        "page_requested" => Message::PageRequested,
        "block" => Message::Block,
        "additional_s2s" => Message::AdditionalS2s,
        other => return report.say(format_args!("type {other:?} is not an activity's")),
    };
    let names =
        ["type", "px_app_id", "url", "headers", "pxhd", "socket_ip", "timestamp", "vid", "details"];
    fields::only(body, "", &names, report);
    check_envelope(body, checker, received, report);
    fields::must(body, "", "url", Kind::Url, report);
    fields::must(body, "", "socket_ip", Kind::Address, report);
    for name in ["vid", "pxhd"] {
        fields::may(body, "", name, Kind::Text, report);
    }
    let headers = match message {
        Message::AdditionalS2s => {
            report.expect(body.get("headers").is_none(), "additional_s2s has no headers");
            Vec::new()
        }
        _ => check_headers(body, "headers", checker, report),
    };
    let details = part(body, "details", report);
    fields::check(message, &details, report);
    let told = Told {
        message,
        top: body,
        fields: &details,
        url: text(body, "url"),
        headers: &headers,
        timestamp: body.get("timestamp").and_then(Value::as_u64),
        now_ms: checker.judge_clock.then_some(received.at_ms),
    };
    agreement::check(&told, report);
}

/// `px_app_id` and `timestamp`, and that the token on the call is that of the app.
fn check_envelope(
    body: &Map<String, Value>,
    checker: &Checker,
    received: &Received,
    report: &mut Report,
) {
    fields::must(body, "", "timestamp", Kind::Millis, report);
    fields::must(body, "", "px_app_id", Kind::Text, report);
    let id = text(body, "px_app_id");
    if id.is_empty() {
        return;
    }
    report.expect(checker.knows_app(id), format_args!("px_app_id {id:?} is that of no known app"));
    transport::check_owner(received, checker, id, report);
}

/// remote-config-and-telemetry.md § 2
pub(super) fn check_telemetry(body: &Value, checker: &Checker, at_ms: u64, report: &mut Report) {
    let Some(body) = body.as_object() else {
        return report.say("the body is no JSON object");
    };
    fields::only(body, "", &["type", "timestamp", "px_app_id", "details"], report);
    fields::must(body, "", "type", Kind::Word(&["enforcer_telemetry"]), report);
    fields::must(body, "", "timestamp", Kind::Millis, report);
    fields::must(body, "", "px_app_id", Kind::Text, report);
    let id = text(body, "px_app_id");
    report.expect(checker.knows_app(id), format_args!("px_app_id {id:?} is that of no known app"));
    if let Some(timestamp) = body.get("timestamp").and_then(Value::as_u64)
        && checker.judge_clock
    {
        report.expect(timestamp <= at_ms + agreement::SKEW_MS, "timestamp lies in the future");
    }

    let details = part(body, "details", report);
    let names = [
        "update_reason",
        "module_version",
        "enforcer_configs",
        "request_id",
        "os_name",
        "node_name",
        "remote_config_id",
        "remote_config_version",
        "supported_features",
    ];
    fields::only(&details, "details", &names, report);
    let reasons = Kind::Word(&["command", "initial_config", "remote_config"]);
    fields::must(&details, "details", "update_reason", reasons, report);
    fields::must(&details, "details", "module_version", Kind::Text, report);
    fields::may(&details, "details", "request_id", Kind::Uuid, report);
    for name in ["os_name", "node_name", "remote_config_id"] {
        fields::may(&details, "details", name, Kind::Text, report);
    }
    fields::may(&details, "details", "remote_config_version", Kind::Count, report);
    fields::may(&details, "details", "supported_features", Kind::SortedTexts, report);
    let configs = part(&details, "enforcer_configs", report);
    for name in ["active_config", "static_config", "remote_config"] {
        fields::must(&configs, "details.enforcer_configs", name, Kind::Object, report);
        let config = configs.get(name).and_then(Value::as_object);
        for (option, value) in config.into_iter().flatten() {
            check_redaction(&format!("{name}.{option}"), option, value, report);
        }
    }
}

/// Secrets are reported as `***REDACTED***`, with their last five characters when long.
fn check_redaction(path: &str, option: &str, value: &Value, report: &mut Report) {
    const SECRETS: [&str; 5] = [
        "px_auth_token",
        "px_cookie_secret",
        "px_logger_auth_token",
        "px_remote_config_auth_token",
        "px_proxy_authorization",
    ];
    if !SECRETS.contains(&option) {
        return;
    }
    let is_redacted = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => {
            text.is_empty()
                || text
                    .strip_prefix("***REDACTED***")
                    .is_some_and(|tail| matches!(tail.chars().count(), 0 | 5))
        }
        _ => false,
    };
    let is_fine = match value {
        Value::Array(values) => values.iter().all(is_redacted),
        single => is_redacted(single),
    };
    report.expect(is_fine, format_args!("details.enforcer_configs.{path} is not redacted"));
}

/// A member that must be an object; an empty one where it is not, so that its fields are missed
/// one by one.
fn part(body: &Map<String, Value>, name: &str, report: &mut Report) -> Map<String, Value> {
    match body.get(name) {
        Some(Value::Object(part)) => return part.clone(),
        Some(other) => {
            report.say(format_args!("{name} is {}, expected an object", fields::short(other)))
        }
        None => report.say(format_args!("{name} is missing")),
    }
    Map::new()
}

fn text<'v>(object: &'v Map<String, Value>, name: &str) -> &'v str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// risk-api.md § 3.1. Gives the fields that could be read.
fn check_headers<'v>(
    object: &'v Map<String, Value>,
    path: &str,
    checker: &Checker,
    report: &mut Report,
) -> Vec<(&'v str, &'v str)> {
    let Some(list) = object.get("headers").and_then(Value::as_array) else {
        report.say(format_args!("{path} is missing or no array"));
        return Vec::new();
    };
    let mut headers: Vec<(&str, &str)> = Vec::with_capacity(list.len());
    for (position, header) in list.iter().enumerate() {
        let member = |name: &str| header.get(name).and_then(Value::as_str);
        let (Some(name), Some(value)) = (member("name"), member("value")) else {
            report
                .say(format_args!("{path}[{position}] is not {{\"name\": text, \"value\": text}}"));
            continue;
        };
        if header.as_object().is_some_and(|members| members.len() != 2) {
            report.say(format_args!("{path}[{position}] has more members than name and value"));
        }
        check_name(name, path, checker, report);
        let stands_apart = headers.last().is_some_and(|(last, _)| *last != name)
            && headers.iter().any(|(before, _)| *before == name);
        if stands_apart {
            report.say(format_args!("{path}: the values of {name:?} do not stand together"));
        }
        headers.push((name, value));
    }
    headers
}

fn check_name(name: &str, path: &str, checker: &Checker, report: &mut Report) {
    report.expect(!name.is_empty(), format_args!("{path}: a header without name"));
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        report.say(format_args!("{path}: {name:?} is not in lower case"));
    }
    if checker.sensitive_headers.iter().any(|sensitive| sensitive.eq_ignore_ascii_case(name)) {
        report.say(format_args!("{path}: {name:?} is sensitive and must not be reported"));
    }
}
