//! Remembers which visitor's requests were told of, so that two messages about one request can be
//! compared, and a request that is decided or reported twice is noticed (DECISIONS 19).

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use super::Report;

/// Requests remembered; the oldest make room.
const REMEMBERED: usize = 20_000;

#[derive(Default)]
pub(super) struct Memory(Mutex<Requests>);

#[derive(Default)]
struct Requests {
    by_id: HashMap<String, Request>,
    order: VecDeque<String>,
}

/// What is known of one request of a visitor.
#[derive(Default)]
struct Request {
    risk_call: Option<RiskCall>,
    decided: Option<String>,
    login_reported: bool,
}

struct RiskCall {
    number: u64,
    facts: Map<String, Value>,
    answered_uuid: Option<String>,
}

impl Memory {
    pub(super) fn risk_call(&self, number: u64, body: &Value, report: &mut Report) {
        let Some(id) = request_id(body, "additional") else { return };
        let facts = facts(&body["additional"], &body["request"]);
        let mut requests = self.lock();
        let request = requests.of(id);
        if let Some(before) = &request.risk_call {
            report.say(format_args!(
                "request_id {id} was already asked about in request #{}",
                before.number
            ));
        }
        request.risk_call = Some(RiskCall { number, facts, answered_uuid: None });
    }

    pub(super) fn answered(&self, body: &Value, answer: &[u8]) {
        let Some(id) = request_id(body, "additional") else { return };
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let uuid = answer["uuid"].as_str().filter(|uuid| !uuid.is_empty());
        if let Some(call) = &mut self.lock().of(id).risk_call {
            call.answered_uuid = uuid.map(str::to_owned);
        }
    }

    pub(super) fn activity(&self, activity: &Value, report: &mut Report) {
        let Some(id) = request_id(activity, "details") else { return };
        let (kind, details) = (activity["type"].as_str().unwrap_or_default(), &activity["details"]);
        let said = facts(details, activity);
        let mut requests = self.lock();
        let request = requests.of(id);
        if kind == "additional_s2s" {
            report.expect(
                !request.login_reported,
                format_args!("additional_s2s for request_id {id}, which had one already"),
            );
            request.login_reported = true;
        } else {
            if let Some(before) = &request.decided {
                report
                    .say(format_args!("{kind} for request_id {id}, which had a {before} already"));
            }
            request.decided = Some(kind.to_owned());
        }
        if let Some(call) = &request.risk_call {
            compare(call, said, details, report);
        }
    }

    pub(super) fn forget(&self) {
        *self.lock() = Requests::default();
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests {
    fn of(&mut self, id: &str) -> &mut Request {
        if !self.by_id.contains_key(id) {
            if self.order.len() >= REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_id.remove(&oldest);
            }
            self.order.push_back(id.to_owned());
        }
        self.by_id.entry(id.to_owned()).or_default()
    }
}

fn request_id<'v>(body: &'v Value, part: &str) -> Option<&'v str> {
    body.get(part)?.get("request_id")?.as_str()
}

/// What the Risk API call and every activity of one request must say alike.
fn facts(fields: &Value, place: &Value) -> Map<String, Value> {
    const FIELDS: [&str; 12] = [
        "s2s_call_reason",
        "risk_start_time",
        "enforcer_start_time",
        "risk_mode",
        "cookie_origin",
        "http_method",
        "http_version",
        "request_cookie_names",
        "raw_url",
        "is_sensitive_route",
        "px_cookie",
        "px_orig_cookie",
    ];
    let mut facts = Map::new();
    for name in FIELDS {
        facts.insert(name.into(), fields.get(name).cloned().unwrap_or_default());
    }
    for name in ["url", "socket_ip"] {
        facts.insert(name.into(), place.get(name).cloned().unwrap_or_default());
    }
    facts
}

fn compare(call: &RiskCall, said: Map<String, Value>, details: &Value, report: &mut Report) {
    for (name, said) in said {
        let before = call.facts.get(&name).unwrap_or(&Value::Null);
        if said != *before {
            report
                .say(format!("{name} is {said}, the Risk API call #{} said {before}", call.number));
        }
    }
    let decided_by_answer =
        details["pass_reason"] == "s2s" || details["block_reason"] == "s2s_high_score";
    if let Some(uuid) = &call.answered_uuid
        && decided_by_answer
        && details["client_uuid"] != uuid.as_str()
    {
        report
            .say(format!("client_uuid {}, the Risk API answered {uuid:?}", details["client_uuid"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(tell: impl FnOnce(&mut Report)) -> Vec<String> {
        let mut report = Report::default();
        tell(&mut report);
        report.into_lines()
    }

    fn risk(id: &str) -> Value {
        json!({
            "request": {"url": "https://a/", "socket_ip": "192.0.2.1"},
            "additional": {"request_id": id, "s2s_call_reason": "no_cookie"},
        })
    }

    fn activity(id: &str, uuid: &str) -> Value {
        json!({
            "type": "page_requested", "url": "https://a/", "socket_ip": "192.0.2.1",
            "details": {"request_id": id, "s2s_call_reason": "no_cookie", "pass_reason": "s2s",
                "client_uuid": uuid},
        })
    }

    #[test]
    fn a_request_is_asked_about_and_reported_once() {
        let memory = Memory::default();
        assert!(said(|report| memory.risk_call(1, &risk("a"), report)).is_empty());
        assert_eq!(said(|report| memory.risk_call(2, &risk("a"), report)).len(), 1);
        assert!(said(|report| memory.activity(&activity("a", "u"), report)).is_empty());
        assert_eq!(said(|report| memory.activity(&activity("a", "u"), report)).len(), 1);
        memory.forget();
        assert!(said(|report| memory.activity(&activity("a", "u"), report)).is_empty());
    }

    #[test]
    fn an_activity_agrees_with_its_risk_call_and_answer() {
        let memory = Memory::default();
        let call = risk("a");
        said(|report| memory.risk_call(1, &call, report));
        memory.answered(&call, br#"{"uuid":"right"}"#);
        let mut wrong = activity("a", "wrong");
        wrong["url"] = json!("https://b/");
        let lines = said(|report| memory.activity(&wrong, report));
        assert_eq!(lines.len(), 2, "{lines:?}");
    }

    #[test]
    fn forgets_the_oldest_first() {
        let memory = Memory::default();
        for number in 0..=REMEMBERED {
            said(|report| memory.risk_call(1, &risk(&number.to_string()), report));
        }
        assert!(said(|report| memory.risk_call(1, &risk("0"), report)).is_empty());
        assert_eq!(said(|report| memory.risk_call(1, &risk("5"), report)).len(), 1);
    }
}
