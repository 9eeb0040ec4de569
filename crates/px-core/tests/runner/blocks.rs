//! `block-responses.json` and `accept-header.json`: the answer to a blocked request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use px_core::enforce::Answer;
use serde_json::{Map, Value, json};

use super::compare;
use super::scene::{Played, Scene, header_values};
use super::tokens::OVERRIDDEN;

pub fn run_accept_header(case: &Value) -> Result<(), String> {
    let input = &case["input"];
    let headers: Vec<_> = [("accept", &input["accept"]), ("content-type", &input["content_type"])]
        .into_iter()
        .filter_map(|(name, value)| value.as_str().map(|value| json!([name, value])))
        .collect();
    let blocked = json!({
        "config": {"px_module_mode": "active_blocking"},
        "request": {"headers": headers},
    });
    let answer = answer_to(&blocked, &json!({"body": r#"{"status":0,"score":100}"#}))?;
    let answer = answer.ok_or("not blocked")?;
    // DECISIONS 11 is this column; the others say what other enforcers do.
    let is_json = answer.content_type == "application/json";
    compare::equal(&case["expected"]["recommended_tolerant"], &json!(is_json))
}

pub fn run_block_response(case: &Value) -> Result<(), String> {
    let answer = answer_to(case, &case["risk_response"])?;
    let expected = &case["expected"];
    let Some(answer) = answer else {
        return compare::equal(expected, &json!({"blocked": false}));
    };
    if case["quirk"] == "accept_no_trim"
        && expected["html_facts"].is_object()
        && names_json(case)
        && answer.content_type == "application/json"
    {
        return overridden_by_json(expected, &answer);
    }
    let mut actual = json!({
        "blocked": true,
        "status": answer.status,
        "headers": headers(expected, &answer),
    });
    let mut wanted = expected.clone();
    let mut deviation = None;
    if case["quirk"] == "undefined_text" {
        deviation = Some("tag undefined_text: the empty text instead of \"undefined\"");
        empty_instead_of_undefined(&mut wanted);
    }
    if answer.content_type == "text/html" {
        let page = String::from_utf8(answer.body).map_err(|error| error.to_string())?;
        actual["html_facts"] = facts(&page);
    } else {
        let mut body: Value =
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        let members = body.as_object_mut().ok_or("no JSON object")?;
        if let Some(url) = members.shift_remove("collectorUrl") {
            compare::equal(&members["collectorHost"], &url)?;
            deviation = Some("DECISIONS 12: collectorUrl beside collectorHost");
        }
        actual["json_key_order"] = members.keys().cloned().collect();
        if let Some(page) = members.shift_remove("page") {
            let page = BASE64.decode(page.as_str().ok_or("page is no text")?);
            let page = page.map_err(|error| error.to_string())?;
            let page = String::from_utf8(page).map_err(|error| error.to_string())?;
            actual["page_is_base64_html"] = json!(page.starts_with("<!DOCTYPE html>"));
            actual["page_facts"] = facts(&page);
        }
        actual["json"] = body;
    }
    // Not every case spells these two out.
    for key in ["json_key_order", "page_is_base64_html"] {
        if wanted[key].is_null() {
            wanted[key] = actual[key].clone();
        }
    }
    drop_nulls(&mut wanted);
    drop_nulls(&mut actual);
    compare::equal(&wanted, &actual)?;
    match deviation {
        Some(what) => Err(format!("{OVERRIDDEN} ({what})")),
        None => Ok(()),
    }
}

fn answer_to(case: &Value, risk_answer: &Value) -> Result<Option<Answer>, String> {
    Scene::of(case)?.play(risk_answer, |played| match played {
        Played::Decided(decided) => Ok(decided.answer()),
        _ => Err("not decided".to_owned()),
    })
}

/// DECISIONS 11, told a second time.
fn names_json(case: &Value) -> bool {
    let headers = case["request"]["headers"].as_array().into_iter().flatten();
    let accept = headers.filter(|header| {
        header[0].as_str().is_some_and(|name| name.eq_ignore_ascii_case("accept"))
    });
    let mut elements = accept.filter_map(|h| h[1].as_str()).flat_map(|value| value.split(','));
    elements.any(|element| {
        let media_type = element.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case("application/json")
    })
}

/// The page js-core gives and the JSON we give must say the same.
fn overridden_by_json(expected: &Value, answer: &Answer) -> Result<(), String> {
    let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    let page = &expected["html_facts"];
    let same = json!({
        "appId": page["_pxAppId"],
        "jsClientSrc": page["_pxJsClientSrc"],
        "customLogo": page["_pxCustomLogo"],
        "firstPartyEnabled": page["_pxFirstPartyEnabled"] == "true",
        "vid": page["_pxVid"],
        "uuid": page["_pxUuid"],
        "hostUrl": page["_pxHostUrl"],
        "blockScript": page["blockScript"],
        "altBlockScript": page["altBlockScript"],
    });
    compare::equal(&same, &body)?;
    compare::equal(&expected["status"], &json!(answer.status))?;
    Err(format!("{OVERRIDDEN} (DECISIONS 11 accept_no_trim): JSON instead of HTML"))
}

/// What JavaScript prints, or leaves out, for nothing.
fn empty_instead_of_undefined(expected: &mut Value) {
    match expected {
        Value::String(text) => *text = text.replace("undefined", ""),
        Value::Array(list) => list.iter_mut().for_each(empty_instead_of_undefined),
        Value::Object(members) => members.values_mut().for_each(empty_instead_of_undefined),
        _ => {}
    }
    if let Some(json) = expected.get_mut("json").and_then(Value::as_object_mut) {
        for (name, value) in [("uuid", ""), ("vid", ""), ("action", "captcha")] {
            if name != "action" || json.contains_key("collectorHost") {
                json.entry(name).or_insert_with(|| json!(value));
            }
        }
    }
    // The order is then that of a longer list.
    if let Some(members) = expected.as_object_mut() {
        members.remove("json_key_order");
    }
}

/// The headers, spelt as the case spells them. `Cache-Control` and `Vary` are ours
/// (block-response.md § 1, cors.md) and left out.
fn headers(expected: &Value, answer: &Answer) -> Value {
    let spelt = |name: &str| {
        let names = expected["headers"].as_object().into_iter().flatten().map(|(name, _)| name);
        names.into_iter().find(|other| other.eq_ignore_ascii_case(name)).cloned()
    };
    let mut headers = Map::new();
    headers.insert("content-type".to_owned(), json!([answer.content_type]));
    for (name, _) in &answer.headers {
        if !["cache-control", "vary"].contains(&name.to_ascii_lowercase().as_str()) {
            let values = header_values(answer, name);
            headers.insert(spelt(name).unwrap_or_else(|| name.to_string()), json!(values));
        }
    }
    headers.into()
}

/// What a page says, unescaped.
fn facts(page: &str) -> Value {
    let between = |start: &str, end: &str| {
        let (_, from) = page.split_once(start)?;
        from.split_once(end).map(|(text, _)| unescape_html(text))
    };
    let mut facts = Map::new();
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.insert(name.to_owned(), Value::String(value));
        }
    };
    set("title", between("<title>", "</title>"));
    let description = between("<meta name=\"description\" content=\"", "\"");
    let is_hard_block = description.as_deref() == Some("px-hard-block");
    set("meta_description", description);
    for name in [
        "_pxVid",
        "_pxUuid",
        "_pxAppId",
        "_pxHostUrl",
        "_pxCustomLogo",
        "_pxJsClientSrc",
        "_pxMobile",
        "_pxFirstPartyEnabled",
    ] {
        set(name, between(&format!("window.{name} = "), ";\n").map(js_value));
    }
    set("blockScript", between("var blockScript = ", ";\n").map(js_value));
    set("altBlockScript", between("var altBlockScript = ", ";\n").map(js_value));
    set("stylesheet_href", between("<link rel=\"stylesheet\" type=\"text/css\" href=\"", "\""));
    set("extra_script_src", between("<script src=\"", "\""));
    if is_hard_block {
        set("hard_block_logo", Some(between("<img src=\"", "\"").unwrap_or_default()));
        set("reference_id", between("Reference ID: ", "</p>"));
    }
    facts.into()
}

/// The text of a JavaScript string literal; other literals as they stand.
fn js_value(literal: String) -> String {
    serde_json::from_str(&literal).unwrap_or(literal)
}

fn unescape_html(text: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    pairs.iter().fold(text.to_owned(), |text, (entity, letter)| text.replace(entity, letter))
}

fn drop_nulls(object: &mut Value) {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
}
