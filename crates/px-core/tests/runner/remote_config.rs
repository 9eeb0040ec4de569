//! `remote-config-notify.json`: which message is one, what it wants, and what it is answered.

use serde_json::{Value, json};

use super::compare;
use super::scene::{Played, Scene};
use super::telemetry::with_base_config;

pub fn run(case: &Value) -> Result<(), String> {
    let case = with_base_config(case);
    let scene = Scene::of(&case)?;
    let actual = scene.play(&json!({"transport_error": "timeout"}), |played| {
        let Played::Notification(notification) = played else {
            return Ok(json!({"is_update_request": false}));
        };
        let answer = notification.answer();
        let version = Some(notification.version).filter(|version| *version != 0);
        Ok(json!({
            "is_update_request": true,
            "should_update": notification.is_genuine,
            "desired_version": version,
            "response": {
                "status": answer.status,
                "body": String::from_utf8_lossy(&answer.body),
            },
        }))
    })?;
    compare::equal(&case["expected"], &actual)
}
