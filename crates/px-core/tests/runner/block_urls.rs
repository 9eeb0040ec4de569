//! `block-redirect.json` and `api-protection.json`: the answers that name a page of the operator's own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use px_core::enforce::Answer;
use serde_json::{Value, json};

use super::compare;
use super::scene::{Played, Scene, header_values};

pub fn run_redirect(case: &Value) -> Result<(), String> {
    let input = &case["input"];
    let text = |name: &str, default: &str| input[name].as_str().unwrap_or(default).to_owned();
    let mut url = format!(
        "{}://{}{}",
        text("scheme", "https"),
        text("host", "shop.example.com"),
        text("path", "/")
    );
    let arguments = input["query_args_in_order"].as_array().into_iter().flatten();
    for (at, argument) in arguments.enumerate() {
        url.push(if at == 0 { '?' } else { '&' });
        url.push_str(&encoded(argument[0].as_str().unwrap_or_default()));
        url.push('=');
        url.push_str(&encoded(argument[1].as_str().unwrap_or_default()));
    }
    let answer = answer_to(&case["config"], &url, &[], input)?;
    if case["expected"]["redirected"] == false {
        return compare::equal(&json!(true), &json!(answer.status != 307));
    }
    let location = header_values(&answer, "location").into_iter().next().unwrap_or_default();
    let actual = json!({
        "status": answer.status,
        "url_param_decoded": decoded_parameter(&location)?,
        "location": location,
    });
    compare::equal(&case["expected"], &actual)
}

pub fn run_api_protection(case: &Value) -> Result<(), String> {
    let mut config = json!({});
    for (name, value) in case["config"].as_object().into_iter().flatten() {
        let name = name.strip_prefix("px_").unwrap_or(name);
        config[format!("px_{name}")] = value.clone();
    }
    let input = &case["input"];
    let referer = input["referer"].as_str().map(|referer| ("referer", referer));
    let headers: Vec<_> = referer.into_iter().collect();
    let answer = answer_to(&config, "https://shop.example.com/api", &headers, input)?;
    let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    let actual = json!({
        "status": answer.status,
        "content_type": answer.content_type,
        "url_param_decoded": decoded_parameter(body["redirect_to"].as_str().unwrap_or_default())?,
        "json": body,
    });
    compare::equal(&case["expected"], &actual)
}

fn answer_to(
    config: &Value,
    url: &str,
    headers: &[(&str, &str)],
    input: &Value,
) -> Result<Answer, String> {
    let mut config = config.clone();
    config["px_module_mode"] = json!("active_blocking");
    let mut headers: Vec<_> = headers.iter().map(|(name, value)| json!([name, value])).collect();
    if let Some(vid) = input["vid"].as_str().filter(|vid| !vid.is_empty()) {
        headers.push(json!(["cookie", format!("_pxvid={vid}")]));
    }
    let case = json!({"config": config, "request": {"url": url, "headers": headers}});
    let answer = json!({
        "status": 0,
        "score": 100,
        "uuid": input["uuid"],
        "action": input["block_action"],
    });
    let answer = json!({"status": 200, "body": answer.to_string()});
    let answer = Scene::of(&case)?.play(&answer, |played| match played {
        Played::Decided(decided) => Ok(decided.answer()),
        _ => Err("not decided".to_owned()),
    })?;
    answer.ok_or_else(|| "not blocked".to_owned())
}

fn encoded(text: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let encode = |byte: u8| match is_plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02x}"),
    };
    text.bytes().map(encode).collect()
}

fn decoded_parameter(location: &str) -> Result<String, String> {
    let (_, from) = location.split_once("url=").ok_or("no parameter \"url\"")?;
    let text = BASE64.decode(from.split('&').next().unwrap_or_default());
    String::from_utf8(text.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}
