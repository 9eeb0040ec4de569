//! The reader of tokens against the oracle cases of the specification: what `explain` concludes is
//! what the reference enforcer did.

use px_sandbox::{Outcome, Reading, explain};
use serde_json::Value;

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/../px-core/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the vectors are in the repository");
    let mut vectors: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    serde_json::from_value(vectors["cases"].take()).expect("cases is an array")
}

fn reading(case: &Value) -> Reading {
    let config = &case["config"];
    let secrets = match &config["px_cookie_secret"] {
        Value::String(secret) => vec![secret.clone()],
        list => list.as_array().unwrap().iter().map(text).collect(),
    };
    let number = |name: &str, default: u64| config[name].as_u64().unwrap_or(default);
    Reading {
        secrets,
        user_agent: header(case, "user-agent").unwrap_or_default(),
        ip: text(&case["request"]["client_ip"]),
        now_ms: case["now_ms"].as_u64().unwrap_or_default(),
        blocking_score: config["px_blocking_score"].as_f64().unwrap_or(100.0),
        max_length: number("px_risk_cookie_max_length", 2048) as usize,
        min_iterations: number("px_risk_cookie_min_iterations", 500) as u32,
        max_iterations: number("px_risk_cookie_max_iterations", 5000) as u32,
        ..Reading::default()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn header(case: &Value, wanted: &str) -> Option<String> {
    let headers = case["request"]["headers"].as_array()?;
    headers.iter().find(|header| header[0] == wanted).map(|header| text(&header[1]))
}

/// The token a request carries, `None` for none: the part of an enforcer that is not `explain`'s.
fn token(case: &Value, cookie: &str) -> Option<String> {
    let custom = case["config"]["px_custom_cookie_header"].as_str().unwrap_or("x-px-cookies");
    let mut found = None;
    for value in ["cookie", custom].into_iter().filter_map(|name| header(case, name)) {
        for piece in value.split(';').map(str::trim) {
            match piece.split_once('=') {
                Some((name, value)) if name == cookie && !value.is_empty() => {
                    found = Some(piece.to_owned());
                }
                _ => {}
            }
        }
    }
    found
}

/// Compares a web or mobile case of the v3 or v2 files.
fn check(file: &str, cookie: &str, version: &str, overridden: &[&str]) {
    let (mut compared, mut skipped) = (0, Vec::new());
    for case in cases(file) {
        let name = text(&case["name"]);
        let expected = text(&case["expected"]["decision"]["reason"]);
        let mobile = header(&case, "x-px-authorization").filter(|value| !value.is_empty());
        let reading = reading(&case);
        let outcome = match (&mobile, token(&case, cookie)) {
            (Some(value), _) => {
                // A token of a version that is not configured does not exist.
                match value.split_once(':') {
                    Some((other, _)) if other != version => Outcome::NoToken,
                    _ => explain(value, &Reading { mobile: true, ..reading }).outcome,
                }
            }
            (None, Some(token)) => explain(&token, &reading).outcome,
            (None, None) => Outcome::NoToken,
        };
        let reason = match outcome.reason() {
            // Whether _pxhd is there is none of the token's business.
            none if none == "no_cookie" && expected == "no_cookie_w_vid" => expected.clone(),
            // Nor is the route.
            good if good == "cookie" && expected == "sensitive_route" => expected.clone(),
            other => other,
        };
        if overridden.contains(&name.as_str()) {
            assert_ne!(reason, expected, "{name} needs no exception any more");
            skipped.push(name);
            continue;
        }
        assert_eq!(reason, expected, "{name}: {outcome:?}");
        compared += 1;
    }
    assert_eq!(skipped.len(), overridden.len(), "{skipped:?}");
    assert!(compared > 20, "only {compared} cases compared");
}

#[test]
fn explains_v3_tokens_as_the_reference_decides() {
    // DECISIONS, "what a tag allows": strict types, digits and base64.
    let overridden = [
        "score_string_100",
        "iterations_float",
        "iterations_leading_space",
        "iterations_plus_sign",
        "quoted_cookie",
    ];
    check("risk-token-v3.json", "_px3", "3", &overridden);
}

#[test]
fn explains_v2_tokens_as_the_reference_decides() {
    check("risk-token-v2.json", "_px2", "2", &[]);
}

#[test]
fn explains_v1_tokens_as_the_older_enforcers_decide() {
    for case in cases("risk-token-v1-legacy.json") {
        let (name, input) = (text(&case["name"]), &case["input"]);
        let is_mobile = input["origin"] != "cookie _px";
        let reading = Reading {
            user_agent: text(&input["user_agent"]),
            ip: text(&input["ip"]),
            mobile: is_mobile,
            ..reading(&case)
        };
        let token = match is_mobile {
            true => text(&input["value"]),
            false => format!("_px={}", text(&input["value"])),
        };
        let explanation = explain(&token, &reading);
        let expected = match text(&case["expected"]["result"]).as_str() {
            "pass" | "sensitive_route" => "cookie".to_owned(),
            "block" => "cookie_high_score".to_owned(),
            _ => text(&case["expected"]["s2s_call_reason"]),
        };
        assert_eq!(explanation.outcome.reason(), expected, "{name}\n{explanation}");
    }
}

#[test]
fn verifies_data_enrichment_as_the_reference_does() {
    let mut compared = 0;
    for case in cases("pxde.json") {
        let Some(cookie) = token(&case, "_pxde") else { continue };
        let outcome = explain(&cookie, &reading(&case)).outcome;
        let verified = case["expected"]["pxde_verified"] == true;
        assert_eq!(outcome, Outcome::Enrichment { verified }, "{}", case["name"]);
        compared += 1;
    }
    assert!(compared > 8);
}
