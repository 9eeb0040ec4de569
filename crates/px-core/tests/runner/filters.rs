//! `filters.json`: the filtering decision alone.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::compare;
use super::options::options_from;
use super::scene::{Played, Scene};
use super::tokens::OVERRIDDEN;

pub fn run(case: &Value) -> Result<(), String> {
    let options = options_from(&case["config"]);
    let scene = Scene::with_options(case, options)?;
    let reason = scene.play(&json!({"status": 200, "body": ""}), |played| match played {
        Played::Filtered(reason) => Ok(Some(reason.as_str())),
        Played::Decided(_) => Ok(None),
        _ => Err("neither filtered nor decided".to_owned()),
    })?;
    let actual = json!({"filtered": reason.is_some(), "filter_reason": reason});
    let Err(difference) = compare::equal(&case["expected"], &actual) else { return Ok(()) };
    if case["quirk"] == "ip_list_verbatim" && actual == with_our_address(case, &scene)? {
        return Err(format!("{OVERRIDDEN} (DECISIONS 9 ip_list_verbatim): {difference}"));
    }
    Err(difference)
}

/// What the same request gives if the address DECISIONS 9 names is that of the connection.
fn with_our_address(case: &Value, scene: &Scene) -> Result<Value, String> {
    let address = address_by_our_rule(case).unwrap_or_else(|| scene.client_ip.clone());
    let mut plain = case.clone();
    plain["config"]["px_ip_headers"] = json!([]);
    plain["request"]["client_ip"] = json!(address);
    let scene = Scene::of(&plain)?;
    scene.play(&Value::Null, |played| match played {
        Played::Filtered(reason) => Ok(json!({"filtered": true, "filter_reason": reason.as_str()})),
        _ => Ok(json!({"filtered": false, "filter_reason": null})),
    })
}

/// DECISIONS 9, told a second time: of the configured headers the first with a valid element.
pub fn address_by_our_rule(case: &Value) -> Option<String> {
    let names = case["config"]["px_ip_headers"].as_array()?;
    let headers = case["request"]["headers"].as_array()?;
    let values = names.iter().flat_map(|name| {
        let named = headers.iter().filter(move |header| {
            let (header, name) = (header[0].as_str(), name.as_str());
            header.zip(name).is_some_and(|(header, name)| header.eq_ignore_ascii_case(name))
        });
        named.filter_map(|header| header[1].as_str())
    });
    let mut elements = values.flat_map(|value| value.split([',', ' ', '\t']));
    elements.find(|element| element.parse::<IpAddr>().is_ok()).map(str::to_owned)
}
