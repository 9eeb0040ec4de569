//! Tests for the px module: a visit without a risk cookie is decided by the Risk API.

mod support;

use px_sandbox::{Reply, Sandbox};
use serde_json::json;
use support::{BROWSER, Nginx, Origin, SOON, get, protect};

fn site(sandbox: &Sandbox, origin: &Origin) -> Nginx {
    Nginx::start(&format!("{}location / {{ {} }}", protect(sandbox), origin.proxy_pass()))
}

#[test]
fn a_human_reaches_the_origin_after_one_risk_api_call() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin);

    let response = get(nginx.addr(), "/account?x=1", &[]);
    assert_eq!((response.status, response.text().as_str()), (200, "origin"));

    let calls = sandbox.risk_calls();
    assert_eq!(calls.len(), 1);
    let body = calls[0].json();
    assert_eq!(body["additional"]["s2s_call_reason"], "no_cookie");
    assert_eq!(body["request"]["url"], "http://site.test/account?x=1");

    let activities = sandbox.wait_for_activities(1, SOON);
    assert_eq!(activities[0]["type"], "page_requested");
    assert_eq!(activities[0]["details"]["pass_reason"], "s2s");
    assert_eq!(activities[0]["details"]["http_status_code"], 200);
    sandbox.assert_no_complaints();
    nginx.quit();
}

#[test]
fn a_bad_bot_gets_the_block_page_and_never_reaches_the_origin() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin);

    let response = get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]);
    assert_eq!(response.status, 403);
    assert_eq!(response.header("content-type"), Some("text/html"));
    assert!(response.text().contains("px-captcha"));
    assert!(origin.requests().is_empty());

    let activities = sandbox.wait_for_activities(1, SOON);
    assert_eq!(activities[0]["type"], "block");
    assert_eq!(activities[0]["details"]["block_reason"], "s2s_high_score");
    assert_eq!(activities[0]["details"]["simulated_block"], false);
    sandbox.assert_no_complaints();
}

#[test]
fn a_valid_cookie_passes_without_a_call() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin);

    let cookie = sandbox.mint(BROWSER).cookie();
    let response = get(nginx.addr(), "/", &[&format!("Cookie: {cookie}")]);
    assert_eq!(response.status, 200);
    assert!(sandbox.risk_calls().is_empty());

    let activities = sandbox.wait_for_activities(1, SOON);
    assert_eq!(activities[0]["details"]["pass_reason"], "cookie");
    sandbox.assert_no_complaints();
}

#[test]
fn a_new_pxhd_is_set_once_on_the_origins_answer() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.answer_risk(Reply::json(json!({
        "status": 0, "score": 0, "action": "c", "uuid": "11111111-2222-4333-8444-555555555555",
        "pxhd": "hidden-device", "pxhdDomain": ".site.test",
    })));
    origin.answer(200, &["Set-Cookie: own=1"], b"");
    let nginx = site(&sandbox, &origin);

    let response = get(nginx.addr(), "/", &[]);
    assert_eq!(
        response.headers("set-cookie"),
        ["own=1", "_pxhd=hidden-device; domain=.site.test; path=/; SameSite=Lax"]
    );
}
