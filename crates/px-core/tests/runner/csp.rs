//! `csp.json`: which headers a policy becomes, and where a nonce goes.

use px_core::csp::{self, CspPolicy};
use serde_json::{Map, Value, json};

use super::compare;

pub fn run(case: &Value) -> Result<(), String> {
    let headers = match case["kind"].as_str() {
        Some("nonce") => {
            let nonce = case["nonce"].as_str().ok_or("no nonce")?;
            let with_nonce = |(name, value): (&String, &Value)| {
                let text = value.as_str().unwrap_or_default();
                (name.clone(), Value::from(csp::with_nonce(text, nonce)))
            };
            case["headers"].as_object().into_iter().flatten().map(with_nonce).collect()
        }
        _ => of_policy(case)?,
    };
    compare::equal(&case["expected"], &json!({ "headers": headers }))
}

fn of_policy(case: &Value) -> Result<Map<String, Value>, String> {
    let policy = CspPolicy::parse(case["policy"].to_string().as_bytes()).ok_or("no policy")?;
    let draw = case["random_1_100"].as_u64().and_then(|draw| u32::try_from(draw).ok());
    let session = case["session_id"].as_str().unwrap_or_default();
    let vid = case["cookies"][csp::VISITOR_COOKIE].as_str().map(str::as_bytes);
    let mut headers = case["origin_headers"].as_object().cloned().unwrap_or_default();
    for (name, value) in policy.headers(draw.ok_or("no draw")?, session, vid, "") {
        headers.insert(name.to_owned(), value.into());
    }
    Ok(headers)
}
