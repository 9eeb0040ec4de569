//! `flow.json`: the whole way of a request, with everything that is sent, in order.

use px_core::telemetry::{self, Machine, UpdateReason};
use serde_json::{Map, Value, json};

use super::compare;
use super::scene::{Decided, Played, Scene};
use super::tokens::OVERRIDDEN;

pub fn run(case: &Value) -> Result<(), String> {
    let expected = &case["expected"];
    let actual = play(case)?;
    let Err(difference) = compare::equal(expected, &actual) else { return Ok(()) };
    if !stops_at_telemetry(expected) {
        return Err(difference);
    }
    // DECISIONS 14: the command changes nothing but that telemetry is sent as well.
    let mut ours = play(&without_command(case))?;
    if let Some(calls) = ours["outgoing_calls_in_order"].as_array_mut() {
        calls.extend(expected["outgoing_calls_in_order"].as_array().into_iter().flatten().cloned());
    }
    compare::equal(&ours, &actual)?;
    Err(format!("{OVERRIDDEN} (DECISIONS 14): enforcement goes on after a telemetry command"))
}

fn play(case: &Value) -> Result<Value, String> {
    let scene = Scene::of(case)?;
    scene.play(&case["risk_response"], |played| match played {
        Played::Inactive | Played::Filtered(_) | Played::Preflight => Ok(json!({
            "outcome": "to_origin",
            "outgoing_calls_in_order": [],
            "origin_request_headers_set": [],
        })),
        Played::FirstParty(route, _) => {
            let url = route.upstream_url(&scene.policy);
            let calls = url.map(|url| json!({"call": "first_party", "url": url}));
            Ok(json!({
                "outcome": "answered",
                "status": 200,
                "outgoing_calls_in_order": calls.into_iter().collect::<Vec<_>>(),
            }))
        }
        Played::Notification(notification) => Ok(json!({
            "outcome": "answered",
            "status": notification.answer().status,
            "outgoing_calls_in_order": [],
        })),
        Played::PreflightHandler => Err("no vector of this file has a handler".to_owned()),
        Played::Decided(decided) => describe(&decided, &scene),
    })
}

fn describe(decided: &Decided<'_, '_>, scene: &Scene) -> Result<Value, String> {
    let mut calls = Vec::new();
    if let Some(body) = &decided.risk {
        let fields = ["s2s_call_reason", "risk_mode", "is_sensitive_route"];
        calls.push(short("risk", compare::only(&body["additional"], &fields)));
    }
    if let Some(activity) = decided.activity(200)? {
        let mut fields = compare::only(&activity, &["type"]);
        let details = ["pass_reason", "block_reason", "simulated_block", "s2s_call_reason"];
        fields.extend(compare::only(&activity["details"], &details));
        calls.push(short("activity", fields));
    }
    if decided.verdict.telemetry_requested {
        calls.push(short("telemetry", telemetry_call(decided, scene)?));
    }
    let mut actual = match decided.answer() {
        Some(answer) => json!({"outcome": "blocked", "status": answer.status}),
        None => json!({
            "outcome": "to_origin",
            "origin_request_headers_set": decided.verdict.origin_headers(&scene.policy, scene.now),
        }),
    };
    actual["outgoing_calls_in_order"] = calls.into();
    Ok(actual)
}

fn telemetry_call(decided: &Decided<'_, '_>, scene: &Scene) -> Result<Map<String, Value>, String> {
    let request_id = Some(decided.verdict.request_id());
    let body = telemetry::body(
        &scene.policy,
        UpdateReason::Command,
        scene.now,
        request_id,
        Machine::default(),
    );
    let body: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let mut fields = compare::only(&body["details"], &["update_reason"]);
    fields.insert("url".to_owned(), json!(scene.policy.telemetry_url()));
    Ok(fields)
}

fn short(call: &str, mut fields: Map<String, Value>) -> Value {
    fields.insert("call".to_owned(), json!(call));
    fields.into()
}

/// js-core ends the flow at a valid command: nothing but telemetry goes out.
fn stops_at_telemetry(expected: &Value) -> bool {
    let calls = expected["outgoing_calls_in_order"].as_array();
    calls.is_some_and(|calls| calls.len() == 1 && calls[0]["call"] == "telemetry")
}

fn without_command(case: &Value) -> Value {
    let mut plain = case.clone();
    if let Some(headers) = plain["request"]["headers"].as_array_mut() {
        headers.retain(|header| header[0] != "x-px-enforcer-telemetry");
    }
    plain
}
