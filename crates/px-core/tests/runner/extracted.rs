//! `graphql.json`, `jwt.json`, `agentic-trust.json` and `additional-s2s.json`: what is found in a
//! request beside its token, and where it goes.

use px_core::credentials::{BodyRegex, LoginMethod};
use px_core::enforce::{Action, LoginResult, OriginResponse};
use serde_json::{Map, Value, json};

use super::compare;
use super::scene::{Decided, Played, Scene};
use super::telemetry::with_base_config;

/// A Risk API answer that lets everybody pass.
fn passing() -> Value {
    json!({"status": 200, "body": r#"{"status":0,"score":0,"action":"c"}"#})
}

fn play<T>(
    case: &Value,
    answer: &Value,
    look: impl FnOnce(&Decided<'_, '_>) -> Result<T, String>,
) -> Result<T, String> {
    let mut case = with_base_config(case);
    case["risk_rtt_ms"] = json!(0);
    Scene::of(&case)?.play(answer, |played| match played {
        Played::Decided(decided) => look(&decided),
        _ => Err("not decided".to_owned()),
    })
}

fn additional(decided: &Decided<'_, '_>) -> Result<Value, String> {
    Ok(decided.risk.as_ref().ok_or("no Risk API request")?["additional"].clone())
}

fn activity(decided: &Decided<'_, '_>, response: &OriginResponse<'_>) -> Result<Value, String> {
    decided.activity_after(response)?.ok_or_else(|| "no activity".to_owned())
}

pub fn run_graphql(case: &Value) -> Result<(), String> {
    play(case, &passing(), |decided| {
        let risk = additional(decided)?;
        let details = activity(decided, &OriginResponse::default())?["details"].take();
        compare::equal(&risk["graphql_operations"], &details["graphql_operations"])?;
        let actual = json!({
            "graphql_operations": risk["graphql_operations"],
            "is_sensitive_route": risk["is_sensitive_route"],
        });
        compare::equal(&case["expected"], &actual)
    })
}

pub fn run_jwt(case: &Value) -> Result<(), String> {
    const FIELDS: [&str; 3] = ["app_user_id", "jwt_additional_fields", "cross_tab_session"];
    play(case, &passing(), |decided| {
        let risk = compare::only(&additional(decided)?, &FIELDS);
        let details = activity(decided, &OriginResponse::default())?["details"].take();
        compare::equal(&risk.clone().into(), &compare::only(&details, &FIELDS).into())?;
        compare::equal(&case["expected"], &risk.into())
    })
}

pub fn run_agentic_trust(case: &Value) -> Result<(), String> {
    let session_id = header(&case["origin_response_headers"], "mcp-session-id");
    let response = OriginResponse {
        mcp_session_id: session_id.map(str::as_bytes),
        ..OriginResponse::default()
    };
    play(case, &passing(), |decided| {
        let actual = json!({
            "risk_additional": of_mcp(&additional(decided)?),
            "activity_details": of_mcp(&activity(decided, &response)?["details"]),
        });
        compare::equal(&case["expected"], &actual)
    })
}

fn of_mcp(object: &Value) -> Map<String, Value> {
    let members = object.as_object().into_iter().flatten();
    let own = members.filter(|(name, _)| name.starts_with("mcp_"));
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn header<'v>(headers: &'v Value, name: &str) -> Option<&'v str> {
    let mut headers = headers.as_array().into_iter().flatten();
    headers.find(|pair| pair[0] == name)?[1].as_str()
}

pub fn run_additional_s2s(case: &Value) -> Result<(), String> {
    let answer = match &case["risk_response"] {
        Value::String(failure) => json!({ "transport_error": failure }),
        answer => json!({"status": answer["http_status"], "body": answer["body"].to_string()}),
    };
    play(case, &answer, |decided| {
        let given = &case["origin_response"];
        let status = given["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        let login = login_result(decided, case);
        let response = OriginResponse { status, login, ..OriginResponse::default() };
        let first = activity(decided, &response)?;
        let second = decided.additional_activity(&response)?;
        let mut types = vec![first["type"].clone()];
        types.extend(second.iter().map(|activity| activity["type"].clone()));
        let fields =
            ["user", "pass", "ci_version", "sso_step", "s2s_call_reason", "is_sensitive_route"];
        let risk = decided.risk.as_ref().map(|risk| compare::only(&risk["additional"], &fields));
        let mut headers = Map::new();
        if decided.verdict.action != Action::Block {
            for (name, value) in decided.verdict.origin_headers(decided.policy(), decided.now()) {
                let value = match name.as_str() {
                    "px-additional-activity" if !value.is_ascii() => {
                        return Err("the header is not ASCII".to_owned());
                    }
                    "px-additional-activity" => {
                        serde_json::from_str(&value).map_err(|error| error.to_string())?
                    }
                    _ => Value::from(value),
                };
                headers.insert(name, value);
            }
        }
        let mut actual = json!({
            "risk_additional": risk,
            "activity_types": types,
            "credentials_compromised": first["details"]["credentials_compromised"],
            "additional_s2s": second,
            "origin_request_headers": headers,
        });
        // Where js-core leaves a field out of the vector it is not compared.
        if let Some(expected) = case["expected"].as_object()
            && !expected.contains_key("credentials_compromised")
            && let Some(actual) = actual.as_object_mut()
        {
            actual.remove("credentials_compromised");
        }
        compare::equal(&case["expected"], &actual)
    })
}

/// The judgement of the origin's response that nginx makes.
fn login_result(decided: &Decided<'_, '_>, case: &Value) -> LoginResult {
    let given = &case["origin_response"];
    let Some(rule) = decided.verdict.login_rule(decided.policy()) else {
        return LoginResult::Unknown;
    };
    let text = given["body"].as_str().unwrap_or_default();
    match rule.method() {
        LoginMethod::None => LoginResult::Known(false),
        LoginMethod::Status => {
            let status = given["status"].as_u64().and_then(|status| u16::try_from(status).ok());
            LoginResult::Known(rule.by_status(status.unwrap_or_default()))
        }
        LoginMethod::Header => {
            let value = header(&given["headers"], rule.header_name()).map(str::as_bytes);
            LoginResult::Known(rule.by_header(value))
        }
        LoginMethod::Body => {
            let is_found = |regex: &BodyRegex| regex.is_match(text.as_bytes());
            rule.body_regex().map_or(LoginResult::Unknown, |r| LoginResult::Known(is_found(r)))
        }
        LoginMethod::Custom => {
            let callback = case["config"]["px_login_successful_custom_callback"].as_str();
            let said = match callback {
                Some("returns true") => "1",
                Some("returns false") => "0",
                _ => "",
            };
            rule.by_custom(said).map_or(LoginResult::Unknown, LoginResult::Known)
        }
    }
}
