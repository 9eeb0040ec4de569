//! The challenge of a hype sale: a page for a frame over the shop's own, wrapped in JSON for the script
//! that asked (hype-sale.md, "Response").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::sensor_script;
use super::template::{fill, js_string};
use crate::enforce::Verdict;
use crate::json;
use crate::policy::Policy;

const PAGE: &str = include_str!("hype_sale.html");

pub(super) fn body(verdict: &Verdict<'_>, policy: &Policy) -> Vec<u8> {
    let mut body = Vec::with_capacity(8192);
    let app_id = &*policy.options().app_id;
    if verdict.facts.is_mobile() {
        let collector = &*policy.endpoints().collector;
        json::write(
            &MobileChallenge {
                action: "captcha",
                uuid: verdict.uuid.as_deref().unwrap_or_default(),
                vid: verdict.vid().unwrap_or_default(),
                app_id,
                page: BASE64.encode(page(verdict, policy)),
                collector_host: collector,
                collector_url: collector,
            },
            &mut body,
        );
    } else {
        let block_type = "pxHypeSaleChallenge";
        json::write(&Challenge { app_id, block_type, html: page(verdict, policy) }, &mut body);
    }
    body
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Challenge<'a> {
    app_id: &'a str,
    block_type: &'static str,
    html: String,
}

/// With both names of the collector (DECISIONS 12).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MobileChallenge<'a> {
    action: &'static str,
    uuid: &'a str,
    vid: &'a str,
    app_id: &'a str,
    page: String,
    collector_host: &'a str,
    collector_url: &'a str,
}

fn page(verdict: &Verdict<'_>, policy: &Policy) -> String {
    fill(PAGE, |name| match name {
        "app_id" => js_string(&policy.options().app_id),
        "js_client_src" => js_string(sensor_script(verdict, policy)),
        "vid" => js_string(verdict.vid().unwrap_or_default()),
        "uuid" => js_string(verdict.uuid.as_deref().unwrap_or_default()),
        "mobile" => verdict.facts.is_mobile().to_string(),
        "script" => js_string(&policy.endpoints().hype_sale_script),
        _ => String::new(),
    })
}
