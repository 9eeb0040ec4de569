//! `risk-api-responses.json`: from an answer of the Risk API to decision, reply and report.

use serde_json::{Map, Value, json};

use super::compare;
use super::scene::{Decided, Played, Scene, header_values};
use super::tokens::OVERRIDDEN;

pub fn run(case: &Value) -> Result<(), String> {
    let scene = Scene::of(case)?;
    let mut actual = scene.play(&case["risk_response"], |played| match played {
        Played::Decided(decided) => describe(&decided),
        _ => Err("not decided".to_owned()),
    })?;
    let expected = &case["expected"];
    if case["risk_response"]["transport_error"].is_string() {
        accept_any_message(&expected["error_message"], &mut actual["error_message"])?;
        accept_any_message(
            &expected["activity"]["details"]["error_message"],
            &mut actual["activity"]["details"]["error_message"],
        )?;
        drop_null(&mut actual);
        drop_null(&mut actual["activity"]["details"]);
    }
    // Where the score came as a text, what is left of its type is how it is printed.
    if let (Some(_), Some(number)) = (expected["score"].as_str(), actual["score"].as_f64()) {
        actual["score"] = json!(number.to_string());
    }
    let Err(difference) = compare::equal(expected, &actual) else { return Ok(()) };
    if case["quirk"] == "js_type_coercion" {
        compare::equal(&without_wrong_types(expected), &actual)?;
        return Err(format!("{OVERRIDDEN} (tag js_type_coercion): {difference}"));
    }
    Err(difference)
}

/// What the case expects, without the fields of the answer that are no texts although they should be.
fn without_wrong_types(expected: &Value) -> Value {
    let mut expected = expected.clone();
    for place in ["", "/activity/details"] {
        let Some(fields) = expected.pointer_mut(place).and_then(Value::as_object_mut) else {
            continue;
        };
        for name in ["uuid", "client_uuid", "error_message", "additional_risk_info", "score"] {
            let is_number = name == "score" && fields.get(name).is_some_and(Value::is_number);
            if !is_number && fields.get(name).is_some_and(|value| !value.is_string()) {
                fields.remove(name);
            }
        }
        if let Some(action) = fields.get_mut("block_action").filter(|action| !action.is_string()) {
            *action = json!("c");
        }
    }
    expected
}

fn describe(decided: &Decided<'_, '_>) -> Result<Value, String> {
    let verdict = &decided.verdict;
    let mut actual = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            actual.insert(name.to_owned(), value);
        }
    };
    set("decision", decided.decision());
    set("score", json!(verdict.score));
    set("block_action", json!(verdict.block_action));
    set("uuid", json!(verdict.uuid));
    set("vid", json!(verdict.vid()));
    set("risk_rtt", json!(verdict.risk_rtt));
    if let Some(error) = &verdict.s2s_error {
        set("s2s_error_reason", json!(error.reason));
        set("s2s_error_http_status", json!(error.http_status));
        set("error_message", json!(error.message));
    }
    set("pxhd", pxhd(decided));
    let enrichment = verdict.any_data_enrichment(decided.policy());
    set("pxde_verified", json!(enrichment.as_ref().is_some_and(|enrichment| enrichment.verified)));
    set("pxde", enrichment.map_or(Value::Null, |enrichment| enrichment.value));
    set("client_response", client_response(decided));
    set("activity", activity(decided)?);
    Ok(Value::Object(actual))
}

fn pxhd(decided: &Decided<'_, '_>) -> Value {
    match (decided.verdict.received_pxhd(), decided.verdict.pxhd()) {
        (Some((value, Some(domain))), _) => {
            json!({"value": value, "domain": domain, "source": "risk"})
        }
        (Some((value, None)), _) => json!({"value": value, "source": "risk"}),
        (None, Some(value)) => json!({"value": value, "source": "cookie"}),
        (None, None) => Value::Null,
    }
}

fn client_response(decided: &Decided<'_, '_>) -> Value {
    let Some(answer) = decided.answer() else {
        let cookie: Vec<_> = decided.pxhd_cookie().into_iter().collect();
        return json!({"passed_to_origin": true, "set_cookie": cookie});
    };
    let mut response = json!({"status": answer.status, "content_type": [answer.content_type]});
    let cookies = header_values(&answer, "set-cookie");
    if !cookies.is_empty() {
        response["set_cookie"] = json!(cookies);
    }
    response
}

/// The part of the activity that depends on the answer.
fn activity(decided: &Decided<'_, '_>) -> Result<Value, String> {
    let activity = decided.activity(200)?.ok_or("no activity")?;
    let mut part = compare::only(&activity, &["type", "vid", "pxhd"]);
    let details = [
        "client_uuid",
        "risk_rtt",
        "s2s_call_reason",
        "additional_risk_info",
        "http_status_code",
        "pass_reason",
        "s2s_error_reason",
        "s2s_error_http_status",
        "error_message",
        "block_reason",
        "simulated_block",
        "block_action",
        "block_score",
    ];
    part.insert("details".to_owned(), compare::only(&activity["details"], &details).into());
    Ok(part.into())
}

/// The wording of a transport error is every implementation's own; that there is one is not.
fn accept_any_message(expected: &Value, actual: &mut Value) -> Result<(), String> {
    match (expected.as_str(), actual.as_str()) {
        (Some(_), None | Some("")) => Err("no error_message".to_owned()),
        (Some(_), Some(_)) => {
            *actual = expected.clone();
            Ok(())
        }
        (None, _) => Ok(()),
    }
}

/// Indexing for writing has made absent keys null.
fn drop_null(object: &mut Value) {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
}
