//! Tests for the px module: pages that hold what somebody else says, in a browser that would run it.

mod support;

use std::fs;

use px_sandbox::{Reply, Sandbox};
use serde_json::{Value, json};
use support::{BROWSER, Browser, Nginx, Origin, Response, get, protect, request};

/// Ends whatever it may stand in: a script, a string in one, an attribute, a comment, a line.
const HOSTILE: [&str; 7] = [
    "</script><script>ran()</script>",
    "\"-ran()-\"'-ran()-'`${ran()}`",
    "\\\"-ran()//\\u0022-ran()//",
    "<!--<script>ran()//--><img src=x onerror=ran()>",
    "\u{2028}ran()//\u{2029}\nran()//",
    "' onload='ran()' x=\" onerror=\"ran()\" autofocus onfocus=ran() ",
    "javascript:ran()//&quot;-ran()-&quot;&#39;-ran()-&#39;]]>",
];

/// The same for places that nginx's configuration fills, as it quotes a text.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "${dollar}"))
}

/// Nothing of it has run, and nobody else has been asked for anything.
#[track_caller]
fn assert_nothing_ran(browser: &Browser, what: &str, hosts: &[String]) {
    assert_eq!(browser.evaluate("typeof window.hasRun"), "undefined", "{what}");
    let errors = browser.script_errors();
    assert!(errors.is_empty(), "{what}: {errors:?}");
    for url in browser.asked_for() {
        let is_known = hosts.iter().any(|host| url.starts_with(host.as_str()));
        // A picture's address may be a script, which no browser runs.
        assert!(
            is_known || url.starts_with("data:") || url.starts_with("javascript:"),
            "{what}: {url}"
        );
    }
}

#[test]
fn nothing_that_others_say_runs_on_a_page() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let browser = Browser::start(None);
    let mut hosts = vec![format!("{}/", sandbox.url())];
    for hostile in HOSTILE {
        let evil = quoted(hostile);
        let server = format!(
            "{own} set $evil {evil};
             location / {{ px_custom_logo $evil; px_css_ref /x$evil;
                 px_js_ref /x$evil; proxy_pass http://127.0.0.1:1; }}
             location /own {{ px_custom_block_url /blocked.html; proxy_pass http://127.0.0.1:1; }}
             location /sale {{ px_hype_sale 1; px_hypesale_host {host}; {pass} }}
             location = /shown {{ px_enabled off; {pass} }}
             location = /blocked.html {{ default_type text/html; }}",
            own = protect(&sandbox),
            host = sandbox.url(),
            pass = origin.proxy_pass(),
        );
        let nginx = Nginx::builder()
            .http("geo $dollar { default \"$\"; }")
            .server(&server)
            .start_with(|dir| {
                let page = "<html><head><title>::BLOCK_REF::</title></head><body>\
                     <p title=\"::BLOCK_REF::\">::BLOCK_REF::</p></body></html>";
                fs::write(dir.join("html/blocked.html"), page).expect("the page can be written");
            });
        let site = format!("http://{}", nginx.addr());
        hosts.push(format!("{site}/"));
        let url = "/a%3C/script%3E%3Cscript%3Eran()%3C/script%3E?'\"<script>ran()</script>#x";
        let tell = "window.ran = function () { window.hasRun = true; }";
        let risk = |action: &str| {
            Reply::json(json!({
                "status": 0, "score": 100, "action": action, "uuid": hostile,
            }))
        };
        for action in ["c", "b", hostile] {
            sandbox.answer_risk(risk(action));
            for path in [url.to_owned(), format!("/own{url}")] {
                if path.starts_with("/own") && action == "b" {
                    continue;
                }
                browser.open(&format!("{site}{path}"));
                let what = format!("{hostile:?} {action:?} {path}");
                assert_eq!(browser.status(), 403, "{what}");
                assert_nothing_ran(&browser, &what, &hosts);
                // The text has arrived where it belongs.
                let shown = browser.evaluate("window._pxUuid || document.body.innerText");
                let shown = shown.as_str().unwrap_or_default();
                assert!(shown.contains("ran()"), "{what}: {shown}");
            }
        }
        // Pages that travel in JSON: to an SDK in base64, to the shop of a sale for a frame.
        sandbox.answer_risk(risk("c"));
        let mint = sandbox.mint(BROWSER).uuid(hostile).vid(hostile).score(0);
        let mobile = sandbox.mint("").mobile().uuid(hostile).vid(hostile).score(100);
        let cookie = format!("Cookie: {}", mint.cookie());
        let header = format!("X-PX-AUTHORIZATION: {}", mobile.mobile_header());
        let sale = get(nginx.addr(), "/sale", &[&cookie]).json();
        let app = get(nginx.addr(), "/x", &[&header]).json();
        let page = app["page"].as_str().expect("a page");
        browser.open(&format!("{site}/own"));
        let decoded = browser.evaluate(&format!(
            "new TextDecoder().decode(Uint8Array.from(atob({}), c => c.charCodeAt(0)))",
            json!(page)
        ));
        for (what, html) in [("sale", &sale["html"]), ("app", &decoded)] {
            let html = html.as_str().expect("a page");
            // Defined before anything of the page, so that what is called is there.
            let html = html.replacen("<head>", &format!("<head><script>{tell}</script>"), 1);
            origin.answer(200, &["Content-Type: text/html; charset=utf-8"], html.as_bytes());
            browser.open(&format!("{site}/shown"));
            let shown = browser.evaluate("[window._pxUuid, window._pxVid]");
            assert_eq!(shown, json!([hostile, hostile]), "{what}");
            assert_eq!(browser.evaluate("typeof window.hasRun"), "undefined", "{what} {hostile}");
            assert!(browser.script_errors().is_empty(), "{what} {hostile}");
        }
    }
}

/// The test above can fail: the same texts, unescaped, do run here.
#[test]
fn the_browser_runs_what_is_not_escaped() {
    let origin = Origin::start();
    let nginx = Nginx::start(&format!("location / {{ {} }}", origin.proxy_pass()));
    let browser = Browser::start(None);
    let tell = "<script>window.ran = function () { window.hasRun = true; }</script>";
    for (before, hostile, after) in [
        ("<script>var a = \"", HOSTILE[0], "\";</script>"),
        ("<script>var a = \"", HOSTILE[1], "\";</script>"),
        ("<img alt=\"\" src='/x", HOSTILE[5], "'>"),
    ] {
        let page = format!("<html><head>{tell}</head><body>{before}{hostile}{after}</body></html>");
        origin.answer(200, &["Content-Type: text/html"], page.as_bytes());
        browser.open(&format!("http://{}/", nginx.addr()));
        browser.wait_for("window.hasRun || document.readyState === 'complete'");
        let has_run = browser.evaluate("typeof window.hasRun") != "undefined";
        assert!(has_run || !browser.script_errors().is_empty(), "{hostile}");
    }
}

#[track_caller]
fn assert_not_cacheable(what: &str, response: &Response) {
    let values = response.headers("cache-control");
    assert!(values.iter().any(|value| value.contains("no-store")), "{what}: {response:?}");
}

/// A block answer is nobody else's: no cache may keep it, whoever writes it and whatever the site says.
#[test]
fn no_block_answer_may_be_kept_by_a_cache() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .http("expires 1d;")
        .server(&format!(
            "{} px_enable_json_response on; location / {{ {pass} }}
             location /redirect {{ px_custom_block_url /b; px_redirect_on_custom_url on; {pass} }}
             location /own {{ px_custom_block_url /b; {pass} }}
             location /api {{ px_api_protection_mode on; px_api_protection_block_url /b;
                 px_api_protection_default_redirect_url /home; {pass} }}
             location /sale {{ px_hype_sale 1; {pass} }}
             location /named {{ px_custom_web_block_page_response @page; {pass} }}
             location @page {{ {pass} }} location = /b {{ return 200 page; }}",
            protect(&sandbox),
            pass = origin.proxy_pass(),
        ))
        .start();
    origin.answer(
        200,
        &["Cache-Control: public, max-age=600", "Expires: Tue, 19 Jan 2038 00:00:00 GMT"],
        b"x",
    );
    let mobile =
        format!("X-PX-AUTHORIZATION: {}", sandbox.mint("").mobile().score(100).mobile_header());
    for action in ["c", "b", "r", "j"] {
        sandbox.answer_risk(Reply::risk(100, action));
        for path in ["/", "/redirect", "/own", "/api", "/sale", "/named"] {
            for line in ["Accept: text/html", "Accept: application/json", &*mobile] {
                for method in ["GET", "HEAD", "POST"] {
                    let response = request(nginx.addr(), method, path, &[line], b"");
                    let what = format!("{action} {path} {line} {method}");
                    assert!(matches!(response.status, 307 | 403 | 429), "{what}: {response:?}");
                    assert_not_cacheable(&what, &response);
                }
            }
        }
    }
}

/// Where a blocked visitor is sent is the operator's choice, and where they are told to go back to is a
/// path of this site.
#[test]
fn no_block_answer_leads_to_a_place_of_the_visitors_choice() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.answer_risk(Reply::risk(100, "c"));
    let nginx = Nginx::start(&format!(
        "{} location / {{ px_custom_block_url /b; px_redirect_on_custom_url on; {pass} }}
         location /api {{ px_api_protection_mode on; px_api_protection_block_url /b;
             px_api_protection_default_redirect_url /home; {pass} }}",
        protect(&sandbox),
        pass = origin.proxy_pass(),
    ));
    let browser = Browser::start(None);
    browser.open(&format!("http://{}/nothing", nginx.addr()));
    let told = |location: &str| -> String {
        let query = location.split_once("url=").expect("a parameter").1;
        query.split('&').next().unwrap_or_default().to_owned()
    };
    let mut seen = 0;
    for path in [
        "//evil.test/x",
        "///evil.test",
        "/%2fevil.test/x",
        "/%2F%2Fevil.test",
        "/\\evil.test",
        "/%5cevil.test",
        "/%09/evil.test",
        "/%0d%0a/evil.test",
        "/%0aX-Split:%20y",
        "/a%0d%0aSet-Cookie:%20a=b",
        "/;//evil.test",
        "/x?url=//evil.test&uuid=%26vid=1",
        "/?%0d%0aX:y",
        "http://evil.test//other.test/x",
    ] {
        let response = get(nginx.addr(), path, &["Host: evil.test", "X-Forwarded-Host: evil.test"]);
        assert_eq!(response.status, 307, "{path}");
        let location = response.header("location").unwrap_or_default().to_owned();
        // nginx makes it absolute by the name that it serves; what is behind that is the operator's page.
        let (_, rest) = location.split_once("/b?").unwrap_or_else(|| panic!("{path}: {location}"));
        assert!(rest.starts_with("url=") && location.is_ascii(), "{path}: {location}");
        assert_eq!(response.header("x-split"), None);
        assert_eq!(response.headers("set-cookie").iter().filter(|c| c.contains("a=b")).count(), 0);
        let back = browser.evaluate(&format!(
            "new URL(atob({}), document.baseURI).origin === location.origin",
            Value::from(told(&location))
        ));
        assert_eq!(back, true, "{path}: {location}");
        seen += 1;
    }
    for referer in [
        "https://evil.test//other.test/x",
        "https://evil.test/\\other.test",
        "//other.test",
        "https://evil.test",
    ] {
        let response = get(nginx.addr(), "/api", &[&format!("Referer: {referer}")]);
        let body = response.json();
        let to = body["redirect_to"].as_str().expect("a text").to_owned();
        assert!(to.starts_with("/b?url="), "{to}");
        let back = browser.evaluate(&format!(
            "new URL(atob({}), document.baseURI).origin === location.origin",
            Value::from(told(&to))
        ));
        assert_eq!(back, true, "{referer}: {to}");
        seen += 1;
    }
    assert!(seen > 15);
    // Nothing but the page itself and the browser's wishes.
    for text in origin.texts() {
        assert!(text.starts_with("GET /b?") || text.starts_with("GET /favicon"), "{text}");
    }
}
