//! Tests for the px module: what a blocked visitor gets, byte by byte where it matters.

mod support;

use std::io::Read;

use flate2::read::GzDecoder;
use px_sandbox::{Reply, Sandbox};
use serde_json::{Value, json};
use support::{
    BROWSER, Connection, Nginx, Origin, Response, SOON, client, curl, get, protect, request,
};

const UUID: &str = "11111111-2222-4333-8444-555555555555";
const VID: &str = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";
/// What a mobile SDK sends that could get no token.
const MOBILE: &str = "X-PX-AUTHORIZATION: 1";

/// A sandbox whose Risk API blocks everybody with `action`, and a site behind it.
fn blocked_with(action: &str, directives: &str) -> (Sandbox, Nginx) {
    let sandbox = Sandbox::start().unwrap();
    sandbox.answer_risk(Reply::json(json!({
        "status": 0, "score": 100, "action": action, "uuid": UUID,
    })));
    let nginx = blocking(&sandbox, directives);
    (sandbox, nginx)
}

/// A site whose origin must never be asked.
fn blocking(sandbox: &Sandbox, directives: &str) -> Nginx {
    Nginx::start(&format!(
        "{} {directives} location / {{ proxy_pass http://127.0.0.1:1; }}",
        protect(sandbox)
    ))
}

/// The value that the page's script gives to `name`.
#[track_caller]
fn js_value(page: &str, name: &str) -> Value {
    let start = format!("{name} = ");
    let (_, rest) = page.split_once(&start).unwrap_or_else(|| panic!("no {name} in {page}"));
    let (literal, _) = rest.split_once(";\n").expect("a statement ends");
    serde_json::from_str(literal).unwrap_or_else(|err| panic!("{err}: {literal}"))
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize] as char;
            encoded.push(if at <= chunk.len() { letter } else { '=' });
        }
    }
    encoded
}

fn from_base64(text: &str) -> String {
    let output = std::process::Command::new("base64")
        .arg("-d")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            use std::io::Write;
            child.stdin.take().expect("piped").write_all(text.as_bytes())?;
            child.wait_with_output()
        })
        .expect("base64 can be run");
    assert!(output.status.success(), "not base64: {text}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn assert_head(response: &Response, status: u16, content_type: &str) {
    assert_eq!(response.status, status);
    assert_eq!(response.headers("content-type"), [content_type]);
    assert_eq!(response.headers("cache-control"), ["no-store, no-cache, must-revalidate"]);
    assert_eq!(response.headers("content-length"), [response.body.len().to_string().as_str()]);
}

#[test]
fn the_captcha_page_holds_all_that_the_captcha_needs() {
    for (action, letter) in [("c", "c"), ("j", "j"), ("unheard-of", "unheard-of")] {
        let (sandbox, nginx) = blocked_with(action, "");
        let app = sandbox.app().id.clone();
        let response = get(
            nginx.addr(),
            "/a//b/?x=1&y=%3C",
            &["Host: Shop.test:8080", &format!("Cookie: _pxvid={VID}")],
        );
        assert_head(&response, 403, "text/html");
        assert!(response.headers("set-cookie").is_empty());
        let page = response.text();
        assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"), "{page}");
        for part in [
            "<meta charset=\"utf-8\">",
            "<meta name=\"viewport\"",
            "<meta name=\"description\" content=\"px-captcha\">",
            "<title>Access to this page has been denied</title>",
            "window._pxOnError = function",
        ] {
            assert!(page.contains(part), "{part} is missing in {page}");
        }
        for part in ["<div", "<span", "<link", "{{"] {
            assert!(!page.contains(part), "{part} stands in {page}");
        }
        let parameters = format!(
            "?a={letter}&u={UUID}&v={VID}&m=0&b={}&h=R0VU",
            base64("http://Shop.test:8080/a//b/?x=1&y=%3C")
        );
        for (name, expected) in [
            ("window._pxVid", json!(VID)),
            ("window._pxUuid", json!(UUID)),
            ("window._pxAppId", json!(app)),
            ("window._pxHostUrl", json!("/sandbox1/xhr")),
            ("window._pxCustomLogo", json!("")),
            ("window._pxJsClientSrc", json!("/sandbox1/init.js")),
            ("window._pxMobile", json!(false)),
            ("window._pxFirstPartyEnabled", json!(true)),
            ("blockScript", json!(format!("/sandbox1/captcha/captcha.js{parameters}"))),
            (
                "altBlockScript",
                json!(format!("https://captcha.px-cloud.net/{app}/captcha.js{parameters}")),
            ),
        ] {
            assert_eq!(js_value(&page, name), expected, "{name}");
        }
        let details = &sandbox.wait_for_activities(1, SOON)[0]["details"];
        assert_eq!(details["block_action"], action);
        assert_eq!(details.get("http_status_code"), None);
        sandbox.assert_no_complaints();
    }
}

#[test]
fn hosts_of_the_scripts_can_be_chosen() {
    let (sandbox, nginx) = blocked_with(
        "c",
        "px_first_party_enabled off; location /chosen { px_client_host https://client.px-cloud.net/; \
         px_captcha_script_host //captcha.example.net; }",
    );
    let app = &sandbox.app().id;
    let page = get(nginx.addr(), "/chosen", &[]).text();
    assert_eq!(js_value(&page, "window._pxHostUrl"), sandbox.url());
    assert_eq!(
        js_value(&page, "window._pxJsClientSrc"),
        format!("https://client.px-cloud.net/{app}/main.min.js")
    );
    let script = js_value(&page, "blockScript");
    let start = format!("https://captcha.example.net/{app}/captcha.js?a=c&u={UUID}&v=&m=0&b=");
    assert!(script.as_str().expect("a text").starts_with(&start), "{script}");
}

#[test]
fn a_hard_block_is_a_page_without_a_way_out() {
    let (_sandbox, nginx) = blocked_with("b", "px_enable_json_response on;");
    for headers in [&[][..], &["Accept: application/json"], &[MOBILE]] {
        let response = get(nginx.addr(), "/", headers);
        assert_head(&response, 403, "text/html");
        let page = response.text();
        for part in [
            "<meta name=\"description\" content=\"px-hard-block\">",
            "<title>Access Denied</title>",
            "<h1>Access Denied</h1>",
            &format!("Reference ID: {UUID}"),
        ] {
            assert!(page.contains(part), "{headers:?}: {part} is missing in {page}");
        }
        assert!(
            !page.contains("<script") && !page.contains("<img") && !page.contains("{{"),
            "{page}"
        );
    }
}

#[test]
fn the_rate_limit_page_is_the_same_for_everybody() {
    let (_sandbox, nginx) = blocked_with("r", "px_enable_json_response on; px_css_ref /own.css;");
    let mut pages = Vec::new();
    for headers in [&[][..], &["Accept: application/json"], &[MOBILE]] {
        let response = get(nginx.addr(), "/", headers);
        assert_head(&response, 429, "text/html");
        assert_eq!(response.header("retry-after"), None);
        pages.push(response.text());
    }
    assert!(pages[0].contains("<title>Too Many Requests</title>"), "{}", pages[0]);
    assert!(!pages[0].contains("<script") && !pages[0].contains("<link"), "{}", pages[0]);
    assert!(pages.iter().all(|page| *page == pages[0]));
}

#[test]
fn a_mobile_sdk_gets_json_with_the_page_in_it() {
    for (action, word) in [("c", "captcha"), ("j", "challenge"), ("unheard-of", "captcha")] {
        let (sandbox, nginx) = blocked_with(action, "px_enable_json_response on;");
        let response = get(nginx.addr(), "/x", &[MOBILE, "Accept: text/html"]);
        assert_head(&response, 403, "application/json");
        let body = response.json();
        let keys: Vec<&str> =
            body.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["action", "uuid", "vid", "appId", "page", "collectorHost", "collectorUrl"]
        );
        assert_eq!(body["action"], word);
        assert_eq!(body["uuid"], UUID);
        assert_eq!(body["vid"], "");
        assert_eq!(body["appId"], sandbox.app().id);
        assert_eq!(body["collectorHost"], sandbox.url());
        assert_eq!(body["collectorUrl"], sandbox.url());
        let page = from_base64(body["page"].as_str().expect("a text"));
        assert_eq!(js_value(&page, "window._pxMobile"), json!(true));
        let script = js_value(&page, "blockScript");
        assert!(script.as_str().expect("a text").contains("&m=1&"), "{script}");
        assert!(page.contains("/px/captcha_close?status=-1"));
        sandbox.assert_no_complaints();
    }
}

#[test]
fn scripts_that_accept_json_get_json_where_that_is_on() {
    let (sandbox, nginx) =
        blocked_with("c", "px_enable_json_response on; px_custom_logo /logo.png;");
    for (headers, is_json) in [
        (&["Accept: application/json"][..], true),
        (&["Accept: Application/JSON"], true),
        (&["Accept: text/plain, application/json"], true),
        (&["Accept: application/json;q=0.9, */*;q=0.1"], true),
        (&["Accept: text/html", "Accept: application/json"], true),
        (&["Accept: application/json-seq"], false),
        (&["Accept: */*"], false),
        (&["Accept:"], false),
        (&["Content-Type: application/json"], false),
        (&[], false),
    ] {
        let response = get(nginx.addr(), "/a?b", headers);
        if !is_json {
            assert_head(&response, 403, "text/html");
            continue;
        }
        assert_head(&response, 403, "application/json");
        let body = response.json();
        let app = &sandbox.app().id;
        let parameters =
            format!("?a=c&u={UUID}&v=&m=0&b={}&h=R0VU", base64("http://site.test/a?b"));
        let expected = json!({
            "appId": app,
            "jsClientSrc": "/sandbox1/init.js",
            "customLogo": "/logo.png",
            "firstPartyEnabled": true,
            "vid": "",
            "uuid": UUID,
            "hostUrl": "/sandbox1/xhr",
            "blockScript": format!("/sandbox1/captcha/captcha.js{parameters}"),
            "altBlockScript": format!("https://captcha.px-cloud.net/{app}/captcha.js{parameters}"),
        });
        assert_eq!(body, expected);
        // The order is part of the answer.
        assert_eq!(response.text(), expected.to_string());
    }
    let (_sandbox, nginx) = blocked_with("c", "");
    assert_head(&get(nginx.addr(), "/", &["Accept: application/json"]), 403, "text/html");
}

#[test]
fn a_new_pxhd_comes_with_the_answer_to_browsers() {
    let sandbox = Sandbox::start().unwrap();
    let told = |domain: Value| {
        sandbox.answer_risk(Reply::json(json!({
            "status": 0, "score": 100, "action": "c", "uuid": UUID,
            "pxhd": "hidden-device", "pxhdDomain": domain,
        })));
    };
    let nginx = Nginx::start(&format!(
        "{} location / {{ proxy_pass http://127.0.0.1:1; }}
         location /secured/ {{ px_secured_pxhd_enabled on; proxy_pass http://127.0.0.1:1; }}",
        protect(&sandbox)
    ));
    for (path, domain, expected) in [
        ("/", json!(null), "_pxhd=hidden-device; path=/; SameSite=Lax"),
        ("/", json!(".site.test"), "_pxhd=hidden-device; domain=.site.test; path=/; SameSite=Lax"),
        ("/secured/", json!(null), "_pxhd=hidden-device; Secure; path=/; SameSite=Lax"),
        (
            "/secured/",
            json!(".site.test"),
            "_pxhd=hidden-device; Secure; domain=.site.test; path=/; SameSite=Lax",
        ),
    ] {
        told(domain);
        let response = get(nginx.addr(), path, &[]);
        assert_head(&response, 403, "text/html");
        assert_eq!(response.headers("set-cookie"), [expected]);
        assert!(get(nginx.addr(), path, &[MOBILE]).headers("set-cookie").is_empty());
    }
    // A value that would be more than a cookie is none.
    told(json!(".site.test\r\nX-Injected: 1"));
    let response = get(nginx.addr(), "/", &[]);
    assert!(response.headers("set-cookie").is_empty() && response.header("x-injected").is_none());
}

#[test]
fn head_gets_the_same_head_and_no_body() {
    let sandbox = Sandbox::start().unwrap();
    let nginx = blocking(&sandbox, "");
    for action in ["c", "b", "r"] {
        sandbox.answer_risk(Reply::json(json!({
            "status": 0, "score": 100, "action": action, "uuid": UUID, "pxhd": "h",
        })));
        let page = get(nginx.addr(), "/", &[]);
        let mut connection = Connection::open(nginx.addr());
        connection.send(client::text("HEAD", "/", &[], b""));
        let head = connection.receive_to(true);
        let length = |response: &Response| {
            response.header("content-length").and_then(|text| text.parse::<usize>().ok())
        };
        // The page names the method: `HEAD` takes four more characters than `GET` in base64, once for
        // each of two scripts.
        let longer = if action == "c" { 8 } else { 0 };
        assert_eq!(length(&head), length(&page).map(|length| length + longer), "{action}");
        for name in ["content-type", "cache-control", "set-cookie"] {
            assert_eq!(head.headers(name), page.headers(name), "{action} {name}");
        }
        assert_eq!(head.status, page.status);
        // Nothing follows: the connection is good for another request.
        connection.send(client::text("GET", "/", &["Connection: close"], b""));
        assert_eq!(connection.receive().status, page.status);
        assert!(connection.is_closed());
    }
}

#[test]
fn a_blocked_body_is_not_taken_for_the_next_request() {
    let (sandbox, nginx) = blocked_with("c", "");
    let mut connection = Connection::open(nginx.addr());
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n";
    connection.send(client::text("POST", "/form", &[], smuggled));
    connection.send(client::text("GET", "/next", &["Connection: close"], b""));
    let first = connection.receive().text();
    let script = js_value(&first, "blockScript");
    assert!(script.as_str().expect("a text").ends_with("&h=UE9TVA=="), "{script}");
    assert_eq!(connection.receive().status, 403);
    assert!(connection.is_closed());
    let urls: Vec<Value> =
        sandbox.risk_calls().iter().map(|call| call.json()["request"]["url"].clone()).collect();
    assert_eq!(urls, ["http://site.test/form", "http://site.test/next"]);
}

#[test]
fn every_answer_travels_over_http_2() {
    let sandbox = Sandbox::start().unwrap();
    let nginx = Nginx::builder()
        .listen("http2")
        .server(&format!(
            "{} px_enable_json_response on; location / {{ proxy_pass http://127.0.0.1:1; }}",
            protect(&sandbox)
        ))
        .start();
    let url = format!("http://{}/px-sandbox", nginx.addr());
    // curl takes an answer that comes before the end of its body for an error, also nginx's own 403:
    // this body fits the stream's window, and is on its way long before the late verdict.
    let body = "x".repeat(20_000);
    let late = "x-px-sandbox: score=100 action=c delay=300";
    for (path, arguments, status, content_type, part) in [
        ("/captcha", &[][..], "403", "text/html", "px-captcha"),
        ("/block", &[], "403", "text/html", "px-hard-block"),
        ("/ratelimit", &[], "429", "text/html", "Too Many Requests"),
        ("/challenge", &[], "403", "text/html", "?a=j\\u0026u="),
        ("/captcha", &["-H", "Accept: application/json"], "403", "application/json", "\"appId\":"),
        ("/captcha", &["-H", MOBILE], "403", "application/json", "\"collectorUrl\":"),
        ("/captcha", &["-H", late, "-d", &body], "403", "text/html", "px-captcha"),
        ("/captcha", &["-I"], "403", "text/html", ""),
    ] {
        let target = format!("{url}{path}");
        let told = "\n%{http_version} %{http_code} %{content_type}";
        let mut all = vec!["--http2-prior-knowledge", "-A", BROWSER, "-w", told, &target];
        all.extend(arguments);
        let (output, code) = curl(&all);
        assert_eq!(code, 0, "{path} {arguments:?}: {output}");
        let (answer, facts) = output.rsplit_once('\n').expect("two parts");
        assert_eq!(facts, format!("2 {status} {content_type}"), "{path} {arguments:?}");
        assert!(answer.contains(part), "{path} {arguments:?}: {answer}");
    }
    assert_eq!(sandbox.risk_calls()[0].json()["additional"]["http_version"], "2");
    sandbox.assert_no_complaints();
}

#[test]
fn logo_style_and_script_may_hold_variables() {
    let (sandbox, nginx) = blocked_with(
        "c",
        "px_custom_logo https://$host/logo.png; px_css_ref $scheme://cdn.test/$arg_theme.css;
         px_js_ref /own.js?path=$uri;",
    );
    let page = get(nginx.addr(), "/a/b?theme=dark", &["Host: shop.test"]).text();
    assert_eq!(js_value(&page, "window._pxCustomLogo"), "https://shop.test/logo.png");
    assert!(
        page.contains(
            "<link rel=\"stylesheet\" type=\"text/css\" href=\"http://cdn.test/dark.css\">\n"
        ),
        "{page}"
    );
    assert!(page.contains("<script src=\"/own.js?path=/a/b\"></script>\n</body>"), "{page}");

    sandbox.answer_risk(Reply::risk(100, "b"));
    let page = get(nginx.addr(), "/?theme=", &["Host: shop.test"]).text();
    assert!(page.contains("<img src=\"https://shop.test/logo.png\" alt=\"\">"), "{page}");
    assert!(page.contains("href=\"http://cdn.test/.css\">"), "{page}");
    assert!(page.contains("<script src=\"/own.js?path=/\"></script>"), "{page}");
}

/// Nothing that a visitor or the Risk API says can become part of a page's markup or script.
#[test]
fn hostile_values_stay_values() {
    let hostile = "</script><script>alert(1)</script>\"'\\\u{2028}&<!--";
    let sandbox = Sandbox::start().unwrap();
    let nginx = blocking(
        &sandbox,
        "px_custom_logo $http_x_value; px_css_ref $http_x_value; px_js_ref $http_x_value;
         px_enable_json_response on;",
    );
    let header = format!("X-Value: {hostile}");
    for action in ["c", "b", "</script><script>alert(1)</script>"] {
        sandbox.answer_risk(Reply::json(json!({
            "status": 0, "score": 100, "action": action, "uuid": hostile, "vid": hostile,
        })));
        let headers = [header.as_str(), "Cookie: _pxvid=</script><script>alert(1)</script>"];
        let response = get(nginx.addr(), "/</script><script>alert(1)</script>", &headers);
        assert_head(&response, 403, "text/html");
        let page = response.text();
        for markup in ["alert(1)</script>", "<script>alert", "<!--"] {
            assert!(!page.contains(markup), "{markup} in {page}");
        }
        assert!(page.contains("&lt;/script&gt;&lt;script&gt;alert(1)"), "{page}");
        if action == "b" {
            assert_eq!(page.matches("<script").count(), 1, "{page}");
        } else {
            assert_eq!(page.matches("<script").count(), 2, "{page}");
            assert_eq!(page.matches("</script>").count(), 2, "{page}");
            assert_eq!(js_value(&page, "window._pxUuid"), hostile);
            assert_eq!(js_value(&page, "window._pxCustomLogo"), hostile);
            assert_eq!(js_value(&page, "window._pxVid"), "");
        }
        if action == "c" {
            let body = get(nginx.addr(), "/", &[&header, "Accept: application/json"]).json();
            assert_eq!((&body["uuid"], &body["customLogo"]), (&json!(hostile), &json!(hostile)));
        }
    }
}

#[test]
fn error_pages_of_the_site_do_not_replace_the_answer() {
    let origin = Origin::start();
    let sandbox = Sandbox::start().unwrap();
    let nginx = Nginx::start(&format!(
        "{} error_page 403 429 /error; error_page 404 = /error;
         location / {{ {} proxy_intercept_errors on; recursive_error_pages on; }}
         location = /error {{ return 200 \"own page\"; }}",
        protect(&sandbox),
        origin.proxy_pass()
    ));
    for (path, status, part) in [
        ("/px-sandbox/captcha", 403, "px-captcha"),
        ("/px-sandbox/block", 403, "px-hard-block"),
        ("/px-sandbox/ratelimit", 429, "Too Many Requests"),
    ] {
        let response = get(nginx.addr(), path, &[]);
        assert_eq!(response.status, status, "{path}");
        assert!(response.text().contains(part), "{path}");
    }
    // The origin's errors are the site's affair as ever.
    origin.answer(403, &[], b"origin");
    let response = get(nginx.addr(), "/", &[]);
    assert_eq!((response.status, response.text().as_str()), (403, "own page"));
}

#[test]
fn answers_are_compressed_where_the_site_compresses() {
    let (_sandbox, nginx) = blocked_with(
        "c",
        "gzip on; gzip_min_length 1; gzip_types application/json; gzip_vary on;
         px_enable_json_response on;",
    );
    for (headers, content_type) in
        [(&[][..], "text/html"), (&["Accept: application/json"], "application/json")]
    {
        let plain = get(nginx.addr(), "/", headers);
        let headers: Vec<&str> = headers.iter().copied().chain(["Accept-Encoding: gzip"]).collect();
        let packed = get(nginx.addr(), "/", &headers);
        assert_eq!((packed.status, packed.header("content-type")), (403, Some(content_type)));
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert_eq!(packed.header("vary"), Some("Accept-Encoding"));
        let mut unpacked = Vec::new();
        GzDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked).expect("gzip");
        assert_eq!(unpacked, plain.body);
        assert!(packed.body.len() < plain.body.len());
    }
}

#[test]
fn headers_and_charset_of_the_site_are_added() {
    let (_sandbox, nginx) = blocked_with(
        "c",
        "add_header X-Always 1 always; add_header X-Success 1; charset utf-8; expires 1d;",
    );
    let response = get(nginx.addr(), "/", &[]);
    assert_eq!(response.header("x-always"), Some("1"));
    assert_eq!(response.header("x-success"), None);
    assert_head(&response, 403, "text/html; charset=utf-8");
    // Nothing of a conditional or partial request applies to a block.
    let response = request(
        nginx.addr(),
        "GET",
        "/",
        &[
            "Range: bytes=0-9",
            "If-Modified-Since: Wed, 21 Oct 2099 07:28:00 GMT",
            "If-None-Match: *",
        ],
        b"",
    );
    assert_head(&response, 403, "text/html; charset=utf-8");
}
