//! Runs the vectors of risk tokens and data enrichment.
//!
//! A case passes if what the enforcer reads, decides and reports equals `expected`, absent keys
//! included. A tagged case that differs exactly as DECISIONS demands is an error that begins with
//! [`OVERRIDDEN`]; any other error is a failure, tag or not.

use px_core::client_ip;
use px_core::cookies;
use px_core::crypto::{Budget, Secrets};
use px_core::data_enrichment::DataEnrichment;
use px_core::hooks::Hooks;
use px_core::policy::{Options, TokenVersion};
use px_core::reason::{CookieOrigin, ModuleMode};
use px_core::request::{Header, Request, Tls};
use px_core::routes::RoutePattern;
use px_core::score::Score;
use px_core::token::OriginalTokenState;
use px_core::token_memory::NoMemory;
use px_core::visitor::{self, TokenState, Visitor};
use serde_json::{Map, Value, json};

use super::compare;
use super::options::options_from;
use super::scene::{Played, Scene};
use crate::reference::{self, Decision, Judge, State};

/// How the text of a deviation begins that a decision or tag allows.
pub const OVERRIDDEN: &str = "overridden";

/// `risk-token-v3.json`
pub fn run_v3(case: &Value) -> Result<(), String> {
    run_token(case)
}

/// `risk-token-v2.json`
pub fn run_v2(case: &Value) -> Result<(), String> {
    run_token(case)
}

fn run_token(case: &Value) -> Result<(), String> {
    let mut scene = Scene::of(case)?;
    let actual = judge(&scene)?;
    let Err(difference) = compare::equal(&case["expected"], &actual) else { return Ok(()) };
    let Some(tag) = case["quirk"].as_str() else { return Err(difference) };
    let (demanded, decision) = match tag {
        // A strict reader rejects what a lenient one takes.
        "js_parse_int" | "js_type_coercion" | "lenient_base64" => {
            let asked = json!({"action": "trigger_risk_api", "reason": "cookie_decryption_failed"});
            let nothing_used =
                ["score", "uuid", "used_secret_index"].iter().all(|key| actual[key].is_null());
            let rejected = actual["parse_result"] == "decryption_failed";
            (rejected && actual["decision"] == asked && nothing_used, "tag")
        }
        // The verdict is that of the same request with its cookies decoded.
        "no_url_decode" => {
            scene.headers.iter_mut().for_each(|(_, value)| *value = percent_decoded(value));
            let decoded = judge(&scene)?;
            let same = compare::equal(&decoded, &actual).is_ok();
            (same && actual["parse_result"] == "successful", "DECISIONS 10,")
        }
        _ => (false, ""),
    };
    let allowed =
        if demanded { format!("{OVERRIDDEN} ({decision} {tag}): ") } else { String::new() };
    Err(allowed + &difference)
}

/// What encoders of cookies encode of a token.
fn percent_decoded(value: &str) -> String {
    let pairs = ["%3D=", "%3A:", "%2B+", "%2F/", "%3d=", "%3a:", "%2b+", "%2f/"];
    pairs.iter().fold(value.to_owned(), |value, pair| value.replace(&pair[..3], &pair[3..]))
}

/// `risk-token-v1-legacy.json`
pub fn run_v1(case: &Value) -> Result<(), String> {
    let input = &case["input"];
    let value = input["value"].as_str().unwrap_or_default();
    let token = match input["origin"].as_str() {
        Some("cookie _px") => json!(["cookie", format!("_px={value}")]),
        Some("X-PX-AUTHORIZATION header") => json!(["x-px-authorization", value]),
        other => return Err(format!("unknown origin {other:?}")),
    };
    let request = json!({
        "url": "https://shop.example.com/account",
        "headers": [["user-agent", input["user_agent"]], token],
        "client_ip": input["ip"],
    });
    let mut options = options_from(&case["config"]);
    options.token_version = TokenVersion::V3OrV1;
    options.module_mode = ModuleMode::ActiveBlocking;
    if input["sensitive_route"] == true {
        options.sensitive_routes = vec![RoutePattern::Prefix("/account".to_owned())];
    }
    let scene = json!({"request": request, "now_ms": case["now_ms"]});
    let full = judge(&Scene::with_options(&scene, options)?)?;

    let reason = &full["decision"]["reason"];
    let result = match full["decision"]["action"].as_str() {
        Some("pass_request") => "pass",
        Some("block") => "block",
        _ => match reason.as_str().unwrap_or_default() {
            "cookie_expired" => "expired",
            "sensitive_route" => "sensitive_route",
            "no_cookie" | "no_cookie_w_vid" => "no_cookie",
            reason if reason.starts_with("mobile_error_") => "special_token",
            _ => "invalid",
        },
    };
    let mut actual = json!({"result": result});
    match result {
        "pass" => actual["pass_reason"] = reason.clone(),
        "block" => {}
        _ => actual["s2s_call_reason"] = reason.clone(),
    }
    // The older enforcers set these four together, once a payload could be read.
    if !full["score"].is_null() {
        for key in ["score", "uuid", "vid", "block_action"] {
            actual[key] = full[key].clone();
        }
    }
    compare::equal(&case["expected"], &actual)
}

/// `pxde.json`
pub fn run_pxde(case: &Value) -> Result<(), String> {
    let scene = Scene::of(case)?;
    let secrets = scene.policy.secrets();
    let enrichment = |visitor: &Visitor<'_>| DataEnrichment::from_cookie(visitor.pxde?, secrets);
    let actual = read(&scene, |visitor, _| match enrichment(&visitor) {
        None => json!({"present": false}),
        Some(pxde) => json!({
            "present": true,
            "header_value_if_px_data_enrichment_header_name_set": pxde.header_value(),
            "pxde": pxde.value,
            "pxde_verified": pxde.verified,
        }),
    });
    compare::equal(&case["expected"], &actual)
}

/// What the visitor brought, and the names of all cookies.
fn read<T>(scene: &Scene, look: impl FnOnce(Visitor<'_>, Vec<String>) -> T) -> T {
    let headers: Vec<_> = (scene.headers.iter())
        .map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() })
        .collect();
    let request = Request {
        method: b"GET",
        scheme: "https",
        host: b"shop.example.com",
        target: b"/",
        http_version: "1.1",
        headers: &headers,
        peer_ip: &scene.client_ip,
        request_id: "",
        tls: Tls::default(),
        hooks: &Hooks::NONE,
        extracted: None,
    };
    let (options, secrets) = (scene.policy.options(), scene.policy.secrets());
    let client_ip = client_ip::extract(&request, &options.ip_headers);
    let mut budget = Budget::default();
    let memory = &mut NoMemory;
    let visitor =
        visitor::read(&request, client_ip, options, secrets, &mut budget, memory, scene.now);
    let mut names = Vec::new();
    cookies::for_each_name(&request, &options.custom_cookie_header, |name| {
        names.push(String::from_utf8_lossy(name).into_owned());
    });
    look(visitor, names)
}

/// Everything a token vector expects: what is read from the request, decided and reported.
fn judge(scene: &Scene) -> Result<Value, String> {
    let mut actual = read(scene, |visitor, cookie_names| {
        let mut actual = describe(&visitor, scene.policy.options(), scene.now);
        let mut report = report(&visitor, scene.policy.secrets());
        report.insert("request_cookie_names".to_owned(), json!(cookie_names));
        actual.insert("report".to_owned(), Value::Object(report));
        actual
    });
    let risk_fails = json!({"transport_error": "timeout"});
    let (decision, sent) = scene.play(&risk_fails, |played| {
        let Played::Decided(decided) = played else { return Err("not enforced".to_owned()) };
        if let Some(body) = &decided.risk {
            let reason = decided.verdict.call_reason.as_ref().map(|reason| reason.as_str());
            let decision = json!({"action": "trigger_risk_api", "reason": reason});
            return Ok((decision, body["additional"].clone()));
        }
        let activity = decided.activity(200)?.ok_or("no activity")?;
        Ok((decided.decision(), activity["details"].clone()))
    })?;
    actual.insert("decision".to_owned(), decision);
    let sent = Value::Object(compare::only(&sent, &TOKEN_FIELDS));
    compare::equal(&actual["report"], &sent).map_err(|error| format!("sent: {error}"))?;
    agree_with_reference(scene, &actual).map_err(|error| format!("naive reading: {error}"))?;
    Ok(Value::Object(actual))
}

/// The naive reading that other tests compare the enforcer with must say the same of every vector.
fn agree_with_reference(scene: &Scene, actual: &Map<String, Value>) -> Result<(), String> {
    let options = scene.policy.options();
    let headers: Vec<_> = (scene.headers.iter())
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    let client_ip = reference::client_ip(&headers, "", &options.ip_headers, &scene.client_ip);
    let judge = Judge { options, headers: &headers, client_ip: &client_ip, now: scene.now };
    let reading = judge.read();
    let mut read = Map::new();
    let mut set = |key: &str, value: Value| {
        if !value.is_null() {
            read.insert(key.to_owned(), value);
        }
    };
    set(
        "parse_result",
        json!(match &reading.state {
            State::None | State::MobileError(_) => "none",
            State::Undecryptable(_) => "decryption_failed",
            State::Invalid(..) => "validation_failed",
            State::Valid(_) => "successful",
        }),
    );
    if let State::Valid(token) = &reading.state {
        set("expired", json!(token.is_expired(scene.now)));
        set("high_score", json!(token.is_high));
        set("cpa", json!(token.approved));
    }
    let text = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    let token = reading.token();
    set("score", json!(token.map(|token| Score(token.score))));
    let action = token.map_or("", |token| &*token.action);
    set("block_action", json!(if action.is_empty() { "c" } else { action }));
    set("uuid", token.map_or(Value::Null, |token| text(&token.uuid)));
    set("vid", json!(reading.vid.as_ref().map(|(vid, _)| vid)));
    set("vid_source", json!(reading.vid.as_ref().map(|(_, source)| source)));
    set("orig_cookie_vid", json!(reading.odd_vid));
    set("used_secret_index", json!(reading.used_secret));
    let is_sensitive = actual["decision"]["reason"] == "sensitive_route";
    set(
        "decision",
        match reading.decision(scene.now, is_sensitive) {
            Decision::Pass => json!({"action": "pass_request", "reason": "cookie"}),
            Decision::Block => {
                // Whether a block is one is not the token's affair.
                let is_simulated = actual["decision"]["action"] == "simulated_block";
                let action = if is_simulated { "simulated_block" } else { "block" };
                json!({"action": action, "reason": "cookie_high_score"})
            }
            Decision::Ask(reason) => json!({"action": "trigger_risk_api", "reason": reason}),
        },
    );
    let mut others = actual.clone();
    others.retain(|key, _| read.contains_key(key));
    compare::equal(&Value::Object(read), &Value::Object(others))?;
    let mut report = reading.report(options);
    report.remove("cookie_origin");
    let reported = compare::only(&actual["report"], &reference::REPORTED);
    compare::equal(&Value::Object(report), &Value::Object(reported))
}

fn describe(visitor: &Visitor<'_>, options: &Options, now_ms: u64) -> Map<String, Value> {
    let mut actual = Map::new();
    let mut set = |key: &str, value: Value| {
        if !value.is_null() {
            actual.insert(key.to_owned(), value);
        }
    };
    set("cookie_origin", json!(visitor.origin));
    set(
        "token_found",
        json!(!matches!(visitor.token, TokenState::None | TokenState::MobileError(_))),
    );
    let parse_result = match &visitor.token {
        TokenState::None | TokenState::MobileError(_) => "none",
        TokenState::DecryptionFailed(_) => "decryption_failed",
        TokenState::ValidationFailed(_) => "validation_failed",
        TokenState::Successful(_) => "successful",
    };
    set("parse_result", json!(parse_result));
    if let TokenState::Successful(token) = &visitor.token {
        set("expired", json!(token.is_expired(now_ms)));
        set("high_score", json!(token.is_high_score(options.blocking_score)));
        set("cpa", json!(token.cpa));
    }
    let payload = visitor.payload();
    set("score", json!(payload.map(|payload| payload.score)));
    let action = payload.and_then(|payload| payload.action.as_deref());
    set("block_action", json!(action.unwrap_or("c")));
    set("uuid", json!(payload.and_then(|payload| payload.uuid.as_deref())));
    set("vid", json!(visitor.vid.as_ref().map(|vid| &*vid.text)));
    set("vid_source", json!(visitor.vid.as_ref().map(|vid| vid.source)));
    set("orig_cookie_vid", json!(visitor.orig_cookie_vid));
    set("used_secret_index", json!(visitor.used_secret));
    if visitor.origin == CookieOrigin::Header {
        set("mobile", mobile(visitor));
    }
    actual
}

fn mobile(visitor: &Visitor<'_>) -> Value {
    let bypass_reason = visitor.bypass_reason.map(String::from_utf8_lossy).unwrap_or_default();
    let mut mobile = json!({"bypass_reason": bypass_reason});
    if let TokenState::MobileError(number) = visitor.token {
        mobile["error"] = json!(number);
    }
    let original = visitor.original_token.as_ref().map(|token| &token.state);
    match original {
        None | Some(OriginalTokenState::NotVerified) => {}
        Some(OriginalTokenState::Successful(_)) => {
            mobile["original_token_parse_result"] = json!("successful");
        }
        Some(OriginalTokenState::DecryptionFailed) => {
            mobile["original_token_parse_result"] = json!("decryption_failed");
        }
        Some(OriginalTokenState::ValidationFailed) => {
            mobile["original_token_parse_result"] = json!("validation_failed");
        }
    }
    mobile
}

/// Keys of `additional` and `details` that tell about tokens and visitor ids.
const TOKEN_FIELDS: [&str; 10] = [
    "px_cookie",
    "px_cookie_hmac",
    "px_orig_cookie",
    "used_cookie_secret",
    "original_token",
    "px_decoded_original_token",
    "original_token_error",
    "enforcer_vid_source",
    "orig_cookie_vid",
    "request_cookie_names",
];

fn report(visitor: &Visitor<'_>, secrets: &Secrets) -> Map<String, Value> {
    let mut report = Map::new();
    let mut set = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            report.insert(key.to_owned(), json!(value));
        }
    };
    match &visitor.token {
        TokenState::None | TokenState::MobileError(_) => {}
        TokenState::DecryptionFailed(text) | TokenState::ValidationFailed(text) => {
            set("px_orig_cookie", Some(text));
        }
        TokenState::Successful(token) => {
            set("px_cookie", Some(&token.payload));
            set("px_cookie_hmac", Some(&token.hmac));
        }
    }
    set("used_cookie_secret", visitor.used_secret.and_then(|index| secrets.redacted(index)));
    let original = visitor.original_token.as_ref();
    set("original_token", original.map(|token| &*token.text));
    set("px_decoded_original_token", original.and_then(|token| token.decoded()));
    set("original_token_error", original.and_then(|token| token.error()));
    set("enforcer_vid_source", visitor.vid.as_ref().map(|vid| vid.source.as_str()));
    set("orig_cookie_vid", visitor.orig_cookie_vid.as_deref());
    report
}
