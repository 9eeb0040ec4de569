//! `hype-sale.json`: who gets the challenge, and what is then sent and reported.

use serde_json::{Map, Value, json};

use super::compare;
use super::scene::{Decided, Played, Scene};
use super::telemetry::with_base_config;

pub fn run(case: &Value) -> Result<(), String> {
    let case = with_base_config(case);
    let expected = &case["expected"];
    let scene = Scene::of(&case)?;
    let answered = &case["risk_response"];
    let answer = match answered.as_str() {
        Some(error) => json!({"transport_error": error}),
        None => json!({"status": answered["http_status"], "body": answered["body"].to_string()}),
    };
    let actual = scene.play(&answer, |played| match played {
        Played::Decided(decided) => describe(&decided, expected),
        _ => Err("not decided".to_owned()),
    })?;
    compare::equal(expected, &actual)
}

fn describe(decided: &Decided<'_, '_>, expected: &Value) -> Result<Value, String> {
    let additional = decided.risk.as_ref().map(|body| &body["additional"]);
    let answer = decided.answer();
    let activity = decided.activity(200)?.ok_or("no activity")?;
    let fields = [
        "pass_reason",
        "block_reason",
        "block_action",
        "simulated_block",
        "block_score",
        "is_hype_sale",
        "cpa",
        "risk_mode",
    ];
    let mut shown = compare::only(&activity, &["type"]);
    shown.extend(compare::only(&activity["details"], &fields));
    let of_call = |name: &str| additional.map_or(Value::Null, |fields| fields[name].clone());
    let mut actual = json!({
        "risk_called": additional.is_some(),
        "s2s_call_reason": of_call("s2s_call_reason"),
        "risk_additional_cpa": of_call("cpa"),
        "outcome": if answer.is_some() { "blocked" } else { "passed" },
        "activities": [shown],
    });
    let Some(answer) = answer else { return Ok(actual) };
    let body = serde_json::from_slice::<Map<String, Value>>(&answer.body).unwrap_or_default();
    let mut headers = json!({"content-type": answer.content_type});
    for (name, value) in &answer.headers {
        let name = name.to_ascii_lowercase();
        // Of a page, whose caching is our own addition, the vectors say nothing.
        if expected["headers"].get(&name).is_some() || name == "x-px-is-hypesale" {
            headers[name] = value.as_str().into();
        }
    }
    // DECISIONS 12: both names of the collector.
    let keys: Vec<_> = body.keys().filter(|key| *key != "collectorUrl").collect();
    actual["status"] = answer.status.into();
    actual["headers"] = headers;
    actual["body_keys"] = json!(keys);
    actual["block_type"] = body.get("blockType").cloned().unwrap_or_default();
    actual["mobile_action"] = body.get("action").cloned().unwrap_or_default();
    Ok(actual)
}
