//! `custom-parameters.json`: what is reported of the values offered for the slots.

use serde_json::{Map, Value, json};

use super::compare;
use super::scene::{Played, Scene};
use super::telemetry::with_base_config;

pub fn run(case: &Value) -> Result<(), String> {
    let case = with_base_config(case);
    let answer = json!({"status": 200, "body": r#"{"status":0,"score":0}"#});
    let (risk, activity) = Scene::of(&case)?.play(&answer, |played| match played {
        Played::Decided(decided) => {
            let activity = decided.activity(200)?.ok_or("no activity")?;
            Ok((decided.risk.ok_or("no Risk API request")?, activity))
        }
        _ => Err("not decided".to_owned()),
    })?;
    let (risk, details) = (parameters(&risk["additional"]), parameters(&activity["details"]));
    let actual = if case["mode"] == "lists" {
        compare::equal(&risk, &details)?;
        json!({"params": risk})
    } else {
        json!({
            "risk_additional": risk,
            "activity_type": activity["type"],
            "activity_details": details,
        })
    };
    compare::equal(&case["expected"], &actual)
}

fn parameters(object: &Value) -> Value {
    let members = object.as_object().into_iter().flatten();
    let own =
        members.filter(|(name, _)| name.starts_with("custom_param") || *name == "is_hype_sale");
    own.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into()
}
