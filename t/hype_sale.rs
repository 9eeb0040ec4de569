//! Tests for the px module: the hype sale challenge.

mod support;

use px_sandbox::{Behaviour, Reply, Sandbox};
use serde_json::{Value, json};
use support::{BROWSER, Nginx, Origin, Response, SOON, get, protect};

fn start(sandbox: &Sandbox, origin: &Origin, more: &str) -> Nginx {
    let pass = origin.proxy_pass();
    Nginx::builder()
        .http("map $uri $is_drop { ~^/drop 1; default \"\"; }")
        .server(&format!(
            "{} px_hype_sale $is_drop; {more} location / {{ {pass} }}",
            protect(sandbox)
        ))
        .start()
}

fn cookie(sandbox: &Sandbox, is_approved: bool) -> String {
    let mint = sandbox.mint(BROWSER);
    let mint = if is_approved { mint.field("cpa", true) } else { mint };
    format!("Cookie: {}", mint.cookie())
}

#[track_caller]
fn assert_challenge(response: &Response) -> Value {
    assert_eq!(response.status, 403);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("x-px-is-hypesale"), Some("true"));
    assert_eq!(response.headers("cache-control"), ["no-cache, no-store"]);
    response.json()
}

#[test]
fn the_challenge_comes_before_the_sale_and_the_risk_api_behind_it() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    for mode in ["active_blocking", "monitor"] {
        let own = protect(&sandbox).replace("active_blocking", mode);
        let nginx = Nginx::builder()
            .http("map $uri $is_drop { ~^/drop 1; default 0; }")
            .server(&format!(
                "{own} px_hype_sale $is_drop; px_hypesale_host https://sale.example.net; \
                 px_enable_json_response on; location / {{ {} }}",
                origin.proxy_pass()
            ))
            .start();
        sandbox.clear();
        // A good visitor who has not passed it, whatever he accepts.
        for accept in ["text/html", "application/json"] {
            let headers = [&*cookie(&sandbox, false), &format!("Accept: {accept}")];
            let body = assert_challenge(&get(nginx.addr(), "/drop", &headers));
            assert_eq!(body["blockType"], "pxHypeSaleChallenge");
            assert_eq!(body["appId"], sandbox.app().id);
            let page = body["html"].as_str().unwrap();
            for part in [
                "window.frameElement",
                "window._pxMobile = false;",
                "window._pxJsClientSrc = \"/sandbox1/init.js\";",
                "\"https://sale.example.net/PXsandbox1/checkpoint.js\"",
                "_pxOnHypeSaleChallengeFail",
            ] {
                assert!(page.contains(part), "{part}");
            }
        }
        assert!(sandbox.risk_calls().is_empty(), "{mode}");
        let activities = sandbox.wait_for_activities(2, SOON);
        let details = &activities[0]["details"];
        for (name, expected) in [
            ("block_reason", json!("hsc_route")),
            ("block_action", json!("hsc")),
            ("simulated_block", json!(false)),
            ("is_hype_sale", json!(true)),
            ("cpa", json!(false)),
            ("risk_mode", json!(mode)),
        ] {
            assert_eq!(details[name], expected, "{mode} {name}");
        }

        // Passed: the Risk API is asked, and may want it again.
        let approved = cookie(&sandbox, true);
        assert_eq!(get(nginx.addr(), "/drop", &[&approved]).text(), "origin");
        let call = sandbox.risk_calls()[0].json();
        assert_eq!(call["additional"]["s2s_call_reason"], "hsc_route");
        assert_eq!(call["additional"]["cpa"], true);
        let mut again = Reply::risk(0, "c");
        again.body = br#"{"status":0,"score":0,"uuid":"u","action":"c","drc":7190}"#.to_vec();
        sandbox.answer_risk_next(again);
        assert_challenge(&get(nginx.addr(), "/drop", &[&approved]));
        // Elsewhere nothing changes but that it is said.
        assert_eq!(get(nginx.addr(), "/", &[&cookie(&sandbox, false)]).text(), "origin");
        let last = sandbox.wait_for_activities(5, SOON).pop().unwrap();
        assert_eq!(last["details"]["is_hype_sale"], false);
        assert_eq!(last["details"].get("cpa"), None);
    }
}

#[test]
fn a_mobile_sdk_gets_its_own_form() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, "");
    let token = format!("X-PX-Authorization: {}", sandbox.mint("").mobile().mobile_header());
    let body = assert_challenge(&get(nginx.addr(), "/drop", &[&token]));
    assert_eq!(body["action"], "captcha");
    for name in ["uuid", "vid", "appId", "page", "collectorHost", "collectorUrl"] {
        assert!(body[name].is_string(), "{name}");
    }
}

#[test]
fn it_fails_closed_unless_the_operator_wants_otherwise() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    for (more, is_open) in [("", false), ("px_hype_sale_fail_open on;", true)] {
        let nginx = start(&sandbox, &origin, &format!("px_s2s_timeout 200; {more}"));
        for behaviour in [Behaviour::Status(500), Behaviour::Hang, Behaviour::Reset] {
            sandbox.behave(behaviour);
            let response = get(nginx.addr(), "/drop", &[&cookie(&sandbox, true)]);
            if is_open {
                assert_eq!(response.text(), "origin");
            } else {
                assert_challenge(&response);
            }
            // Without the mark the visitor passes, as everywhere.
            assert_eq!(get(nginx.addr(), "/", &[]).text(), "origin");
        }
        sandbox.behave_well();
        // Who has not passed the challenge gets it in any case.
        assert_challenge(&get(nginx.addr(), "/drop", &[&cookie(&sandbox, false)]));
        let log = nginx.error_log();
        let said = "the visitor gets the challenge of the hype sale";
        assert_eq!(log.contains(said), !is_open, "{log}");
    }
}
