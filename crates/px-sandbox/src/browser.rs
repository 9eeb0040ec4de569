//! What browsers fetch: sensor and captcha scripts, the collector behind the sensor, and the
//! place where the demo challenge gets its risk cookie. first-party.md § 2, block-response.md § 2.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::cookie::Mint;
use crate::endpoint::Endpoint;
use crate::received::Received;
use crate::reply::Reply;

const SENSOR: &str = include_str!("scripts/sensor.js");
const CAPTCHA: &str = include_str!("scripts/captcha.js");
/// How long a solved challenge lasts, in seconds.
const SOLVED_FOR: u64 = 300;

/// Answers a browser, directly or through an enforcer.
pub(crate) fn answer(received: &Received, apps: &[App]) -> Reply {
    if received.method == "OPTIONS" {
        let preflight = Reply::new(204)
            .header("Access-Control-Allow-Methods", "GET, POST")
            .header("Access-Control-Allow-Headers", "content-type");
        return with_cors(preflight, received);
    }
    let reply = match received.endpoint {
        Endpoint::Sensor => script(SENSOR),
        Endpoint::Captcha | Endpoint::Checkpoint => script(CAPTCHA),
        Endpoint::Solve => solve(received, apps),
        _ if received.path().ends_with(".gif") => Reply::bytes("image/gif", EMPTY_GIF),
        _ => Reply::json(json!({})),
    };
    with_cors(reply, received)
}

/// One transparent pixel.
const EMPTY_GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00\x2c\x00\x00\
    \x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";

fn script(text: &str) -> Reply {
    Reply::bytes("application/javascript", text).header("Cache-Control", "no-store")
}

/// A risk cookie for the browser that asks: bound to its user agent, score 0.
fn solve(received: &Received, apps: &[App]) -> Reply {
    let asked: Value = serde_json::from_slice(&received.body).unwrap_or_default();
    let text = |name: &str| asked.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let id = text("appId").unwrap_or_default();
    let Some(app) = apps.iter().find(|app| app.id == id).or(apps.first()) else {
        return Reply::json(json!({ "message": "no app is known" })).status(404);
    };
    let vid = text("vid").map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
    let mut mint = Mint::v3(app.secret.as_str())
        .user_agent(received.header("user-agent").unwrap_or_default())
        .vid(vid.as_str())
        .expires_in(std::time::Duration::from_secs(SOLVED_FOR));
    if let Some(uuid) = text("uuid") {
        mint = mint.uuid(uuid);
    }
    if asked.get("cpa") == Some(&Value::Bool(true)) {
        mint = mint.field("cpa", true);
    }
    Reply::json(json!({
        "cookies": [
            format!("{}; path=/; max-age={SOLVED_FOR}; SameSite=Lax", mint.cookie()),
            format!("_pxvid={vid}; path=/; max-age=31536000; SameSite=Lax"),
        ],
        "mobile": mint.mobile().mobile_header(),
    }))
    .header("Cache-Control", "no-store")
}

fn with_cors(reply: Reply, received: &Received) -> Reply {
    match received.header("origin") {
        Some(origin) => {
            reply.header("Access-Control-Allow-Origin", origin).header("Vary", "Origin")
        }
        None => reply,
    }
}
