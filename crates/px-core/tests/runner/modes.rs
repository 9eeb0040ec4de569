//! `modes.json` and `routes-setconf.json`: whether a request is handled, monitored, sensitive.

use px_core::reason::ModuleMode;
use px_core::routes::RoutePattern;
use serde_json::{Value, json};

use super::compare;
use super::options::options_from;
use super::scene::{Played, Scene};

pub fn run(case: &Value) -> Result<(), String> {
    let mut options = options_from(&case["config"]);
    options.filter_by_extension.clear();
    let scene = Scene::with_options(case, options)?;
    let actual = scene.play(&json!({"transport_error": "timeout"}), |played| match played {
        Played::Decided(decided) => {
            let mode = decided.verdict.risk_mode();
            Ok(json!({
                "monitored": mode == ModuleMode::Monitor,
                "risk_mode": mode,
                "sensitive": decided.verdict.is_sensitive(),
            }))
        }
        _ => Err("not decided".to_owned()),
    })?;
    compare::equal(&case["expected"], &actual)
}

pub fn run_setconf(case: &Value) -> Result<(), String> {
    let input = &case["input"];
    let mut request = json!({"method": "GET", "headers": []});
    if let Some(path) = input["path"].as_str() {
        request["url"] = json!(format!("https://shop.example.com{path}"));
    }
    let header = case["config"]["px_active_header_name"].as_str().unwrap_or_default();
    if let Some(value) = input["active_header_value"].as_str() {
        let name = if header.is_empty() { "x-px-active" } else { header };
        request["headers"] = json!([[name, value]]);
    }
    let mut options = options_from(&case["config"]);
    options.filter_by_extension.clear();
    // Of these two lists the setconf form is a list of bare regexes (flow.md § 4.2).
    options.monitored_routes = anchored(&case["config"]["px_monitored_routes"])?;
    options.enforced_routes = anchored(&case["config"]["px_enforced_routes"])?;
    let scene = Scene::with_options(&json!({"request": request}), options)?;
    let timeout = json!({"transport_error": "timeout"});
    let (active, sensitive, monitored) = scene.play(&timeout, |played| match played {
        Played::Inactive => Ok((false, false, false)),
        Played::Decided(decided) => {
            let monitored = decided.verdict.risk_mode() == ModuleMode::Monitor;
            Ok((true, decided.verdict.is_sensitive(), monitored))
        }
        _ => Err("neither inactive nor decided".to_owned()),
    })?;
    let known = json!({
        "sensitive": sensitive,
        "monitored": monitored,
        "module_active": active,
        "module_active_on_route": active,
    });
    let names: Vec<_> =
        case["expected"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    compare::equal(&case["expected"], &compare::only(&known, &names).into())
}

fn anchored(list: &Value) -> Result<Vec<RoutePattern>, String> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.map(RoutePattern::parse_or_anchored_regex).collect()
}
