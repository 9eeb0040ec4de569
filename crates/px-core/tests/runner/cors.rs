//! `cors.json`: preflights and the headers of block answers.

use serde_json::{Map, Value, json};

use super::compare;
use super::scene::{Played, Scene, header_values};
use super::telemetry::with_base_config;

pub fn run(case: &Value) -> Result<(), String> {
    let case = with_base_config(case);
    let answer = json!({"status": 200, "body": case["risk_response"].to_string()});
    let actual = Scene::of(&case)?.play(&answer, |played| match played {
        Played::Preflight => Ok(json!({
            "outcome": "passed_without_enforcement",
            "risk_called": false,
            "activity_types": [],
        })),
        // What the handler answers is nginx's.
        Played::PreflightHandler => Ok(json!({
            "outcome": "custom_preflight_response",
            "risk_called": false,
            "activity_types": [],
            "response": case["config"]["px_cors_custom_preflight_handler"]["answers"],
        })),
        Played::Decided(decided) => {
            let activity = decided.activity(200)?.ok_or("no activity")?;
            let mut actual = json!({
                "risk_called": decided.risk.is_some(),
                "activity_types": [activity["type"]],
            });
            match decided.answer() {
                None => actual["outcome"] = json!("passed_after_enforcement"),
                Some(answer) => {
                    let cors = answer.headers.iter().map(|(name, _)| &**name).filter(|name| {
                        let name = name.to_ascii_lowercase();
                        name.starts_with("access-control-") || name.contains("cors")
                    });
                    let cors: Map<_, _> = cors
                        .map(|name| (name.to_owned(), json!(header_values(&answer, name))))
                        .collect();
                    actual["outcome"] = json!("blocked");
                    actual["status"] = json!(answer.status);
                    actual["cors_headers"] = cors.into();
                }
            }
            Ok(actual)
        }
        _ => Err("neither preflight nor decided".to_owned()),
    })?;
    compare::equal(&case["expected"], &actual)
}
