//! Fields that must agree with one another: a message tells one story. risk-api.md § 3 and § 4,
//! activities.md § 4.1, credential-intelligence.md § 5 and § 7, hype-sale.md, agentic-trust.md.

use serde_json::{Map, Value};

use super::fields::{Message, is_millis};
use super::{Report, is_uuid};

/// How far ahead of the sandbox's clock a reported time may be: both run on one machine, but the
/// enforcer's may be rounded.
pub(super) const SKEW_MS: u64 = 1000;
/// How long before its arrival a Risk API call may have been written.
const RISK_AGE_MS: u64 = 60_000;

/// One message, taken apart.
pub(super) struct Told<'v> {
    pub(super) message: Message,
    pub(super) top: &'v Map<String, Value>,
    pub(super) fields: &'v Map<String, Value>,
    pub(super) url: &'v str,
    pub(super) headers: &'v [(&'v str, &'v str)],
    pub(super) timestamp: Option<u64>,
    /// The sandbox's clock, where it counts.
    pub(super) now_ms: Option<u64>,
}

pub(super) fn check(told: &Told<'_>, report: &mut Report) {
    check_times(told, report);
    check_url(told, report);
    check_token(told, report);
    check_visitor(told, report);
    check_origin(told, report);
    check_call_reason(told, report);
    check_credentials(told, report);
    check_other_products(told, report);
    match told.message {
        Message::Risk => {}
        Message::PageRequested => check_pass(told, report),
        Message::Block => check_block(told, report),
        Message::AdditionalS2s => check_login(told, report),
    }
}

impl<'v> Told<'v> {
    fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    fn text(&self, name: &str) -> &'v str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn is(&self, name: &str) -> bool {
        self.fields.get(name) == Some(&Value::Bool(true))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.fields.get(name).and_then(Value::as_u64)
    }

    fn top_text(&self, name: &str) -> &'v str {
        self.top.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn is_mobile(&self) -> bool {
        self.text("cookie_origin") == "header"
    }

    /// The payload of the validated token, where one is reported and can be read.
    fn payload(&self) -> Option<Map<String, Value>> {
        serde_json::from_str(self.text("px_cookie")).ok()
    }
}

fn check_times(told: &Told<'_>, report: &mut Report) {
    // Times of another unit were complained of already.
    let time = |name: &str| told.number(name).filter(|time| is_millis(*time));
    let times = [
        ("enforcer_start_time", time("enforcer_start_time")),
        ("risk_start_time", time("risk_start_time")),
        ("timestamp", told.timestamp.filter(|time| is_millis(*time))),
        ("the sandbox's clock", told.now_ms.map(|now| now + SKEW_MS)),
    ];
    let known: Vec<(&str, u64)> =
        times.into_iter().filter_map(|(name, time)| Some((name, time?))).collect();
    for pair in known.windows(2) {
        if let [(earlier, before), (later, after)] = pair
            && before > after
        {
            report.say(format_args!("{earlier} {before} is later than {later} {after}"));
        }
    }
    if let (Message::Risk, Some(now), Some(start)) =
        (told.message, told.now_ms, time("risk_start_time"))
    {
        report.expect(start + RISK_AGE_MS >= now, "risk_start_time is older than a minute");
    }
    if let (Some(rtt), Some(start), Some(end)) =
        (told.number("risk_rtt"), time("risk_start_time"), told.timestamp)
    {
        report.expect(
            start + rtt <= end + SKEW_MS,
            format_args!("risk_rtt {rtt} ends after the activity was made"),
        );
    }
}

fn check_url(told: &Told<'_>, report: &mut Report) {
    if told.has("raw_url") && told.text("raw_url") == told.url {
        report.say("raw_url equals url: it is only sent where they differ");
    }
}

/// risk-token.md § 4.6
fn check_token(told: &Told<'_>, report: &mut Report) {
    report.expect(
        told.has("px_cookie") == told.has("px_cookie_hmac"),
        "px_cookie and px_cookie_hmac belong together",
    );
    report.expect(
        !(told.has("px_cookie") && told.has("px_orig_cookie")),
        "px_cookie (a good token) and px_orig_cookie (a broken one) exclude each other",
    );
    if !told.has("px_cookie") {
        return;
    }
    let Some(payload) = told.payload() else {
        return report.say("px_cookie is no JSON object as text");
    };
    report.expect(is_compact(told.text("px_cookie")), "px_cookie holds insignificant white space");
    let required: &[&str] = match (payload.contains_key("h"), payload.contains_key("s")) {
        (false, _) => &["a", "s", "t", "u", "v"],
        (true, false) => &["t", "u", "v", "h"],
        (true, true) => &["t", "s", "u", "v", "h"],
    };
    for name in required.iter().filter(|name| !payload.contains_key(**name)) {
        report.say(format_args!("px_cookie has no {name:?}: such a payload is never valid"));
    }
}

/// White space outside of texts.
fn is_compact(json: &str) -> bool {
    let (mut in_text, mut escaped) = (false, false);
    for byte in json.bytes() {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b' ' | b'\t' | b'\r' | b'\n') => return false,
            _ => {}
        }
    }
    true
}

/// risk-token.md § 7 and § 8
fn check_visitor(told: &Told<'_>, report: &mut Report) {
    let vid = told.top_text("vid");
    let payload = told.payload().unwrap_or_default();
    let token_vid = payload.get("v").and_then(Value::as_str).unwrap_or_default();
    match (told.text("enforcer_vid_source"), vid) {
        ("", "") => {}
        ("", _) => report.say("vid without enforcer_vid_source"),
        (_, "") => report.say("enforcer_vid_source without vid"),
        ("vid_cookie", vid) => {
            report.expect(is_uuid(vid), format_args!("vid {vid:?} of _pxvid is no UUID"));
            report.expect(!told.is_mobile(), "a mobile request has no vid of _pxvid");
        }
        (_, vid) => {
            report.expect(told.has("px_cookie"), "vid_source risk_cookie without px_cookie");
            report.expect(
                vid == token_vid || !told.has("px_cookie"),
                format_args!("vid {vid:?} is not the token's {token_vid:?}"),
            );
        }
    }
    if !token_vid.is_empty() && told.text("enforcer_vid_source") != "risk_cookie" {
        report.say("the token's vid was not taken");
    }
    if told.has("orig_cookie_vid") {
        report.expect(
            !is_uuid(told.text("orig_cookie_vid")),
            "orig_cookie_vid is a good UUID: it is the vid",
        );
        report.expect(!told.is_mobile(), "a mobile request does not read _pxvid");
    }
    if told.message == Message::Risk {
        let uuid = told.top_text("client_uuid");
        let token_uuid = payload.get("u").and_then(Value::as_str).unwrap_or_default();
        report.expect(
            uuid == token_uuid,
            format_args!("client_uuid {uuid:?}, the validated token has {token_uuid:?}"),
        );
        report.expect(
            !(told.is_mobile() && told.top.contains_key("pxhd")),
            "a mobile request does not read _pxhd",
        );
    }
}

/// risk-token.md § 3
fn check_origin(told: &Told<'_>, report: &mut Report) {
    let header = told.headers.iter().find(|(name, _)| *name == "x-px-authorization");
    let reported = header.is_some_and(|(_, value)| !value.is_empty());
    if !told.is_mobile() {
        for name in ["original_token", "px_decoded_original_token", "original_token_error"] {
            report.expect(!told.has(name), format_args!("{name} without a mobile header"));
        }
        if told.message != Message::AdditionalS2s {
            report.expect(!reported, "x-px-authorization is there, but cookie_origin is cookie");
        }
        return;
    }
    let (decoded, failed) =
        (told.has("px_decoded_original_token"), told.has("original_token_error"));
    report.expect(!(decoded && failed), "an original token is decoded or failed, not both");
    report.expect(
        !(decoded || failed) || told.has("original_token"),
        "the result of an original token without original_token",
    );
    report.expect(
        !(decoded || failed) || told.text("s2s_call_reason").starts_with("mobile_error_"),
        "an original token is only verified after a mobile error",
    );
}

/// risk-api.md § 4, risk-token.md § 10
fn check_call_reason(told: &Told<'_>, report: &mut Report) {
    let reason = told.text("s2s_call_reason");
    let has_pxhd = told.top.contains_key("pxhd");
    if told.message != Message::Risk {
        report.expect(
            told.has("s2s_call_reason") == told.has("risk_start_time"),
            "s2s_call_reason and risk_start_time belong together",
        );
        report.expect(
            !told.has("risk_rtt") || told.has("s2s_call_reason"),
            "risk_rtt without a Risk API call",
        );
    }
    let has_token = told.has("px_cookie") || told.has("px_orig_cookie");
    match reason {
        "no_cookie" => {
            report.expect(!has_token, "no_cookie, but a token is reported");
            report.expect(
                told.message != Message::Risk || !has_pxhd,
                "no_cookie, but _pxhd is there: no_cookie_w_vid",
            );
        }
        "no_cookie_w_vid" => {
            report.expect(!has_token, "no_cookie_w_vid, but a token is reported");
            report.expect(has_pxhd, "no_cookie_w_vid without pxhd");
            report.expect(!told.is_mobile(), "no_cookie_w_vid on a mobile request");
        }
        "cookie_decryption_failed" | "cookie_validation_failed" => {
            report.expect(
                told.has("px_orig_cookie"),
                format_args!("{reason} without px_orig_cookie"),
            );
            report.expect(
                reason != "cookie_decryption_failed" || !told.has("used_cookie_secret"),
                "cookie_decryption_failed, but used_cookie_secret names a secret that worked",
            );
        }
        "cookie_expired" => {
            report.expect(told.has("px_cookie"), "cookie_expired without px_cookie");
            let expiry = told.payload().and_then(|payload| payload.get("t")?.as_u64());
            if let (Some(expiry), Some(now)) = (expiry, told.number("risk_start_time")) {
                report.expect(expiry < now, "cookie_expired, but the token is still valid");
            }
        }
        "sensitive_route" => {
            report.expect(told.has("px_cookie"), "sensitive_route without a good token");
            report.expect(
                told.is("is_sensitive_route") || told.has("ci_version"),
                "sensitive_route, but neither a sensitive route nor a login",
            );
        }
        "hsc_route" => {
            report.expect(told.is("is_hype_sale"), "hsc_route without is_hype_sale");
        }
        mobile if mobile.starts_with("mobile_error_") => {
            report.expect(told.is_mobile(), format_args!("{mobile} without a mobile header"));
            report.expect(!has_token, format_args!("{mobile}, but a token is reported"));
        }
        _ => {}
    }
}

/// credential-intelligence.md § 3 and § 5
fn check_credentials(told: &Told<'_>, report: &mut Report) {
    let is_hash = |name: &str| {
        let text = told.text(name);
        text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match told.text("ci_version") {
        "" => {
            for name in ["user", "pass", "sso_step", "credentials_compromised"] {
                report.expect(!told.has(name), format_args!("{name} without ci_version"));
            }
        }
        "multistep_sso" => {
            report.expect(told.has("sso_step"), "multistep_sso without sso_step");
            report.expect(
                told.text("sso_step") != "user" || told.has("user"),
                "sso_step user without user",
            );
        }
        version => {
            report.expect(
                is_hash("user") && is_hash("pass"),
                format_args!("ci_version {version} needs user and pass as hashes"),
            );
            report
                .expect(!told.has("sso_step"), format_args!("sso_step with ci_version {version}"));
        }
    }
}

/// hype-sale.md, agentic-trust.md, graphql.md § 5
fn check_other_products(told: &Told<'_>, report: &mut Report) {
    report.expect(
        !told.has("cpa") || told.is("is_hype_sale"),
        "cpa is only reported for hype sale requests",
    );
    let has_mcp = told.fields.keys().any(|name| name.starts_with("mcp_"));
    report.expect(
        !has_mcp || told.has("mcp_http_method"),
        "mcp_http_method is missing beside other mcp fields",
    );
    let operations = told.fields.get("graphql_operations").and_then(Value::as_array);
    let is_sensitive = operations
        .into_iter()
        .flatten()
        .any(|operation| operation.get("sensitive") == Some(&Value::Bool(true)));
    report.expect(
        !is_sensitive || told.is("is_sensitive_route"),
        "a sensitive GraphQL operation, but is_sensitive_route is false",
    );
}

/// activities.md § 4.1, page_requested
fn check_pass(told: &Told<'_>, report: &mut Report) {
    let reason = told.text("pass_reason");
    let called = told.has("s2s_call_reason");
    match reason {
        "cookie" => {
            report.expect(told.has("px_cookie"), "pass_reason cookie without px_cookie");
            report.expect(!called, "pass_reason cookie, but a Risk API call is reported");
        }
        "s2s" | "s2s_timeout" => {
            report.expect(called, format_args!("pass_reason {reason} without s2s_call_reason"));
        }
        _ => {}
    }
    report.expect(
        reason != "s2s_timeout" || !told.has("risk_rtt"),
        "risk_rtt after a timeout: no answer came",
    );
    let error = told.text("s2s_error_reason");
    if reason != "s2s_error" {
        for name in ["s2s_error_reason", "s2s_error_http_status", "error_message"] {
            report.expect(!told.has(name), format_args!("{name} with pass_reason {reason}"));
        }
        return;
    }
    report.expect(told.has("s2s_error_reason"), "pass_reason s2s_error without s2s_error_reason");
    // risk-api.md § 6
    let status = told.number("s2s_error_http_status");
    let fits = match (error, status) {
        ("bad_request", Some(status)) => (400..500).contains(&status),
        ("server_error", Some(status)) => (500..600).contains(&status),
        ("invalid_response" | "request_failed_on_server", status) => status == Some(200),
        ("unknown_error", Some(status)) => status != 200 && !(400..600).contains(&status),
        ("bad_request" | "server_error", None) => false,
        ("unable_to_send_request", status) => status.is_none(),
        _ => true,
    };
    report.expect(fits, format_args!("{error} does not go with s2s_error_http_status {status:?}"));
    report.expect(
        !told.has("risk_rtt") || status.is_some(),
        "risk_rtt without s2s_error_http_status: was there an answer?",
    );
}

/// activities.md § 4.1, block
fn check_block(told: &Told<'_>, report: &mut Report) {
    let reason = told.text("block_reason");
    let (is_simulated, is_monitored) =
        (told.is("simulated_block"), told.text("risk_mode") == "monitor");
    if reason == "hsc_route" {
        report.expect(!is_simulated, "a hype sale block is never simulated");
        report.expect(told.text("block_action") == "hsc", "hsc_route without block_action hsc");
    } else {
        report.expect(
            is_simulated == is_monitored,
            format_args!("simulated_block is {is_simulated}, risk_mode {}", told.text("risk_mode")),
        );
    }
    report.expect(
        is_simulated || !told.has("http_status_code"),
        "http_status_code in a real block: the origin was not asked",
    );
    let called = told.has("s2s_call_reason");
    match reason {
        "cookie_high_score" => {
            report.expect(told.has("px_cookie"), "cookie_high_score without px_cookie");
            report.expect(!called, "cookie_high_score, but a Risk API call is reported");
        }
        "s2s_high_score" => {
            report.expect(called, "s2s_high_score without s2s_call_reason");
            report.expect(told.has("block_score"), "s2s_high_score without block_score");
        }
        _ => {}
    }
}

/// credential-intelligence.md § 7
fn check_login(told: &Told<'_>, report: &mut Report) {
    report.expect(told.has("ci_version"), "additional_s2s without credentials");
    report.expect(
        !told.has("raw_username")
            || (told.is("credentials_compromised")
                && told.fields.get("login_successful") != Some(&Value::Bool(false))),
        "raw_username is only sent for compromised credentials that may have worked",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_white_space_outside_of_texts() {
        for (json, expected) in [
            (r#"{"a":"b c","d":"\" "}"#, true),
            (r#"{"a": 1}"#, false),
            ("{\"a\":1\n}", false),
            (r#"{"a":"\\","b":1}"#, true),
        ] {
            assert_eq!(is_compact(json), expected, "{json}");
        }
    }
}
