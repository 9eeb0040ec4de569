//! Log records that an enforcer ships: remote-config-and-telemetry.md § 5.

use serde_json::{Map, Value};

use super::agreement::SKEW_MS;
use super::fields::{self, Kind};
use super::{Checker, Report};

const FIELDS: [(&str, Kind); 11] = [
    ("container", Kind::Word(&["enforcer"])),
    ("appID", Kind::Text),
    ("method", Kind::Method),
    ("host", Kind::Text),
    ("url", Kind::Text),
    ("path", Kind::Text),
    ("requestId", Kind::Uuid4),
    ("moduleVersion", Kind::Text),
    ("message", Kind::Text),
    ("severity", Kind::Word(&["debug", "error"])),
    ("messageTimestamp", Kind::Millis),
];
const OPTIONAL: [(&str, Kind); 3] = [
    ("remoteConfigID", Kind::Text),
    ("remoteConfigVersion", Kind::Count),
    ("errorType", Kind::Word(&["write_remote_config", "read_remote_config"])),
];

/// The body of a post: an array of records.
pub(super) fn check(body: &Value, checker: &Checker, at_ms: u64, report: &mut Report) {
    let Some(records) = body.as_array() else {
        return report.say("the body is no JSON array");
    };
    report.expect(!records.is_empty(), "an empty array of records");
    for (position, record) in records.iter().enumerate() {
        report.within(&format!("[{position}] "), |report| match record.as_object() {
            Some(record) => check_record(record, checker, at_ms, report),
            None => report.say("the record is no object"),
        });
    }
}

fn check_record(record: &Map<String, Value>, checker: &Checker, at_ms: u64, report: &mut Report) {
    for (name, kind) in FIELDS {
        fields::must(record, "", name, kind, report);
    }
    for (name, kind) in OPTIONAL {
        fields::may(record, "", name, kind, report);
    }
    let known: Vec<&str> = FIELDS.iter().chain(&OPTIONAL).map(|(name, _)| *name).collect();
    fields::only(record, "", &known, report);
    report.expect(
        record.contains_key("remoteConfigID") == record.contains_key("remoteConfigVersion"),
        "remoteConfigID and remoteConfigVersion belong together",
    );
    let text =
        |name: &str| record.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(id) = text("appID") {
        report.expect(checker.knows_app(id), format_args!("appID {id:?} is that of no known app"));
    }
    if let Some(path) = text("path") {
        report.expect(
            path.starts_with('/'),
            format_args!("path {path:?} does not begin with a slash"),
        );
    }
    if let Some(time) = record.get("messageTimestamp").and_then(Value::as_u64)
        && checker.judge_clock
    {
        report.expect(
            time <= at_ms + SKEW_MS || !fields::is_millis(time),
            "messageTimestamp lies in the future",
        );
    }
}
