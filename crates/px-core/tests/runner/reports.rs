//! `risk-api-requests.json` and `activities.json`: what is posted, compared whole.

use serde_json::{Value, json};

use super::compare;
use super::filters::address_by_our_rule;
use super::scene::{Played, Scene};
use super::tokens::OVERRIDDEN;

pub fn run_risk_request(case: &Value) -> Result<(), String> {
    check(case, &risk_request(case)?, risk_request)
}

pub fn run_activity(case: &Value) -> Result<(), String> {
    check(case, &activity(case)?, activity)
}

/// Compares what is posted with what the case expects, and where it is tagged with what a decision
/// makes of it.
fn check(
    case: &Value,
    actual: &Value,
    play: fn(&Value) -> Result<Value, String>,
) -> Result<(), String> {
    let Err(difference) = compare::equal(&case["expected"], actual) else { return Ok(()) };
    let decision = match case["quirk"].as_str() {
        Some("ip_list_verbatim") => {
            compare::equal(&with_our_address(case), actual)?;
            "DECISIONS 9 ip_list_verbatim"
        }
        // What is posted must be what the decoded cookie would have led to.
        Some("no_url_decode") => {
            compare::equal(&play(&with_decoded_cookies(case))?, actual)?;
            "DECISIONS 10 no_url_decode"
        }
        _ => return Err(difference),
    };
    Err(format!("{OVERRIDDEN} ({decision}): {difference}"))
}

fn risk_request(case: &Value) -> Result<Value, String> {
    let scene = Scene::of(case)?;
    let timeout = json!({"transport_error": "timeout"});
    let body = scene.play(&timeout, |played| match played {
        Played::Decided(decided) => Ok(decided.risk),
        _ => Ok(None),
    })?;
    Ok(match body {
        None => json!({"sent": false}),
        Some(body) => {
            let mut posted = posted(&scene, scene.policy.risk_url(), body);
            posted["timeout_ms"] = json!(scene.policy.options().s2s_timeout_ms);
            posted
        }
    })
}

fn activity(case: &Value) -> Result<Value, String> {
    let scene = Scene::of(case)?;
    let status = case["origin_response"]["status"].as_u64().unwrap_or(200);
    let status = u16::try_from(status).map_err(|error| error.to_string())?;
    let body = scene.play(&case["risk_response"], |played| match played {
        Played::Decided(decided) => decided.activity(status),
        _ => Ok(None),
    })?;
    Ok(match body {
        None => json!({"sent": false}),
        Some(mut body) => {
            accept_any_transport_error(case, &mut body)?;
            posted(&scene, scene.policy.activities_url(), body)
        }
    })
}

fn posted(scene: &Scene, url: &str, body: Value) -> Value {
    json!({
        "sent": true,
        "method": "POST",
        "url": url,
        "headers": {
            "content-type": "application/json",
            "authorization": scene.policy.authorization(),
        },
        "body": body,
    })
}

/// What the case expects, with the address that DECISIONS 9 names.
fn with_our_address(case: &Value) -> Value {
    let peer = case["request"]["client_ip"].as_str().unwrap_or_default().to_owned();
    let address = json!(address_by_our_rule(case).unwrap_or(peer));
    let mut expected = case["expected"].clone();
    for place in ["/body/socket_ip", "/body/request/socket_ip"] {
        if let Some(reported) = expected.pointer_mut(place) {
            *reported = address.clone();
        }
    }
    expected
}

fn with_decoded_cookies(case: &Value) -> Value {
    let mut case = case.clone();
    for header in case["request"]["headers"].as_array_mut().into_iter().flatten() {
        if header[0].as_str().is_some_and(|name| name.eq_ignore_ascii_case("cookie")) {
            header[1] = json!(percent_decoded(header[1].as_str().unwrap_or_default()));
        }
    }
    case
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(char::from(byte));
                decoded.push_str(&part[2..]);
            }
            None => {
                decoded.push('%');
                decoded.push_str(part);
            }
        }
    }
    decoded
}

/// The wording of a transport error is every implementation's own; that there is one is not.
fn accept_any_transport_error(case: &Value, body: &mut Value) -> Result<(), String> {
    let expected = &case["expected"]["body"]["details"]["error_message"];
    if !case["risk_response"]["transport_error"].is_string() || expected.is_null() {
        return Ok(());
    }
    match body["details"]["error_message"].as_str() {
        None | Some("") => Err("no error_message".to_owned()),
        Some(_) => {
            body["details"]["error_message"] = expected.clone();
            Ok(())
        }
    }
}

/// `pii-anonymization.json`: the address in the Risk API request and in the activity.
pub fn run_anonymization(case: &Value) -> Result<(), String> {
    let mut options = super::options::options_from(&json!({}));
    options.anonymize_ip = true;
    let request = json!({"request": {"client_ip": case["input"]}});
    let scene = Scene::with_options(&request, options)?;
    let answer = json!({"status": 200, "body": r#"{"status":0,"score":0}"#});
    scene.play(&answer, |played| match played {
        Played::Decided(decided) => {
            let activity = decided.activity(200)?.ok_or("no activity")?;
            compare::equal(&case["expected"], &activity["socket_ip"])?;
            let risk = decided.risk.ok_or("no Risk API request")?;
            compare::equal(&case["expected"], &risk["request"]["socket_ip"])
        }
        _ => Err("not decided".to_owned()),
    })
}
