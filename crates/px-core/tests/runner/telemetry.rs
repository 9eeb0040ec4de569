//! `telemetry-command.json`: which command is valid, and what is then posted.

use px_core::telemetry::{self, Machine, UpdateReason};
use serde_json::{Value, json};

use super::compare;
use super::scene::{Played, Scene};

pub fn run(case: &Value) -> Result<(), String> {
    let mut case = with_base_config(case);
    if let Some(value) = case["header_value"].as_str() {
        let header = json!([["x-px-enforcer-telemetry", value]]);
        case["request"] = json!({"headers": header});
    }
    let scene = Scene::of(&case)?;
    let timeout = json!({"transport_error": "timeout"});
    let (valid, body) = scene.play(&timeout, |played| match played {
        Played::Decided(decided) => {
            let request_id = Some(decided.verdict.request_id());
            let machine = Machine::default();
            let command = UpdateReason::Command;
            let body = telemetry::body(&scene.policy, command, scene.now, request_id, machine);
            Ok((decided.verdict.telemetry_requested, body))
        }
        _ => Err("not decided".to_owned()),
    })?;

    let mut actual = json!({"valid": valid});
    if valid {
        actual["post"] = json!({
            "method": "POST",
            "url": scene.policy.telemetry_url(),
            "content_type": "application/json",
            "authorization": scene.policy.authorization(),
        });
        if let Some(expected) = case["expected"].get("activity") {
            let activity = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
            actual["activity"] = cut_to(expected, activity);
        }
    }
    compare::equal(&case["expected"], &actual)
}

/// The case with the configuration that all cases of these files share under its own.
pub fn with_base_config(case: &Value) -> Value {
    let mut config = json!({
        "px_app_id": "PXzz98kq1T",
        "px_auth_token": "made.up.auth-token_9876543210",
        "px_cookie_secret": ["s3cret-B-made-up-for-tests-0000002"],
        "px_module_mode": "active_blocking",
    });
    for (name, value) in case["config"].as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    let mut case = case.clone();
    case["config"] = config;
    case
}

/// The configurations of an activity cut down to the keys that the case shows of them.
fn cut_to(expected: &Value, mut activity: Value) -> Value {
    let shown = &expected["details"]["enforcer_configs"];
    let configs = &mut activity["details"]["enforcer_configs"];
    for (name, config) in shown.as_object().into_iter().flatten() {
        let keys: Vec<_> =
            config.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        configs[name] = compare::only(&configs[name], &keys).into();
    }
    activity
}
