//! Tests for the px module: block answers that the operator writes, and those that lead elsewhere.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use px_sandbox::{Reply, Sandbox};
use serde_json::json;
use support::h2::H2;
use support::{BROWSER, Connection, Nginx, Origin, Response, SOON, client, get, protect, request};

const UUID: &str = "11111111-2222-4333-8444-555555555555";
const VID: &str = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";
const PAGE: &str =
    "<html><head><title>Ours</title></head><body>Reference ::BLOCK_REF::</body></html>";

/// A Risk API that blocks everybody with `action`.
fn blocking(action: &str) -> Sandbox {
    let sandbox = Sandbox::start().unwrap();
    sandbox.answer_risk(Reply::json(json!({
        "status": 0, "score": 100, "action": action, "uuid": UUID, "pxhd": "the-pxhd",
    })));
    sandbox
}

/// A site whose origin must never be asked; `PAGE` is its `/blocked.html`.
fn site(sandbox: &Sandbox, directives: &str) -> Nginx {
    Nginx::builder()
        .server(&format!(
            "{} {directives} location /shop {{ proxy_pass http://127.0.0.1:1; }}",
            protect(sandbox)
        ))
        .start_with(|dir| {
            fs::write(dir.join("html/blocked.html"), PAGE).expect("the page can be written");
        })
}

fn visit(nginx: &Nginx, path: &str, headers: &[&str]) -> Response {
    let cookie = format!("Cookie: _pxvid={VID}");
    let headers: Vec<&str> = headers.iter().copied().chain([cookie.as_str()]).collect();
    get(nginx.addr(), path, &headers)
}

/// What every block answer has, whoever wrote it.
#[track_caller]
fn assert_block_headers(response: &Response) {
    assert_eq!(response.headers("cache-control"), ["no-store, no-cache, must-revalidate"]);
    assert_eq!(response.headers("set-cookie"), ["_pxhd=the-pxhd; path=/; SameSite=Lax"]);
}

#[test]
fn a_visitor_is_sent_to_the_custom_page_with_where_they_wanted_to_go() {
    let sandbox = blocking("c");
    let nginx = site(&sandbox, "px_custom_block_url /blocked.html; px_redirect_on_custom_url on;");
    let response = visit(&nginx, "/shop/%7e?foo=bar&x=%2f", &[]);
    assert_eq!(response.status, 307);
    assert!(response.body.is_empty());
    // base64 of /shop/~?foo=bar&x=%2F
    let expected = format!("/blocked.html?url=L3Nob3Avfj9mb289YmFyJng9JTJG&uuid={UUID}&vid={VID}");
    assert_eq!(response.headers("location"), [expected.as_str()]);
    assert_block_headers(&response);

    // The page itself is never enforced, or nobody would ever see it.
    let calls = sandbox.risk_calls().len();
    let response = visit(&nginx, "/blocked.html?url=x", &[]);
    assert_eq!((response.status, response.text().as_str()), (200, PAGE));
    assert_eq!(sandbox.risk_calls().len(), calls);
    sandbox.assert_no_complaints();
}

#[test]
fn the_redirect_may_lead_to_another_site_and_depend_on_the_request() {
    let sandbox = blocking("b");
    let nginx = site(
        &sandbox,
        "px_custom_block_url https://$http_x_site/blocked?a=1; px_redirect_on_custom_url on; \
         px_redirect_to_referer on;",
    );
    let response = visit(&nginx, "/shop", &["Host: shop.test:81", "X-Site: help.test"]);
    // base64 of http://shop.test:81/shop?
    let expected = format!(
        "https://help.test/blocked?a=1&url=aHR0cDovL3Nob3AudGVzdDo4MS9zaG9wPw==&uuid={UUID}&vid={VID}"
    );
    assert_eq!(response.headers("location"), [expected.as_str()]);
}

#[test]
fn the_custom_page_is_shown_under_the_url_that_was_asked_for() {
    let sandbox = blocking("c");
    let nginx = site(&sandbox, "px_custom_block_url /blocked.html;");
    for (method, path) in [("GET", "/shop"), ("POST", "/shop/cart"), ("HEAD", "/shop")] {
        let cookie = format!("Cookie: _pxvid={VID}");
        let conditions = ["If-None-Match: *", "Range: bytes=0-3", "Accept-Encoding: gzip"];
        let headers: Vec<&str> = conditions.into_iter().chain([cookie.as_str()]).collect();
        let body: &[u8] = if method == "POST" { b"item=1" } else { b"" };
        let response = request(nginx.addr(), method, path, &headers, body);
        assert_eq!(response.status, 403, "{method}");
        assert_eq!(response.headers("content-type"), ["text/html"]);
        assert_block_headers(&response);
        if method == "HEAD" {
            continue;
        }
        let expected = format!(
            "<html><head><title>Ours</title><script>window._pxVid = \"{VID}\"; window._pxUuid = \
             \"{UUID}\";</script></head><body>Reference {UUID}</body></html>"
        );
        assert_eq!(response.text(), expected, "{method}");
    }
    assert_eq!(sandbox.wait_for_activities(3, SOON).len(), 3);
    sandbox.assert_no_complaints();
}

#[test]
fn the_custom_page_may_come_from_another_server() {
    let (sandbox, origin) = (blocking("b"), Origin::start());
    origin.answer(200, &["X-Inner: 1"], PAGE.as_bytes());
    let nginx = site(
        &sandbox,
        &format!(
            "px_custom_block_url \"/blocked?uuid=$px_uuid&lang=$http_accept_language\";
             location = /blocked {{ internal; {} proxy_set_header Host $http_host; }}",
            origin.proxy_pass()
        ),
    );
    let response =
        request(nginx.addr(), "POST", "/shop", &["Accept-Language: en", "Host: shop.test"], b"a=1");
    // A hard block's page needs to know nothing.
    assert_eq!((response.status, response.text().as_str()), (403, PAGE));
    assert!(response.header("x-inner").is_none());
    let asked = &origin.texts()[0];
    assert!(asked.starts_with("GET /blocked?uuid=&lang=en HTTP/1."), "{asked}");
    assert!(asked.contains("\r\nHost: shop.test\r\n"), "{asked}");
    assert!(!asked.to_lowercase().contains("content-length"), "{asked}");
}

#[test]
fn a_custom_page_that_fails_is_replaced_by_the_built_in_one() {
    let sandbox = blocking("c");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging = silent.local_addr().unwrap();
    for (page, location, why) in [
        ("/missing.html", String::new(), "it was answered with status 404"),
        ("/down", "proxy_pass http://127.0.0.1:1;".to_owned(), "it was answered with status 502"),
        ("/moved", "return 302 /elsewhere;".to_owned(), "it was answered with status 302"),
        ("/late", format!("proxy_pass http://{hanging};"), "it did not come within 2000 ms"),
    ] {
        let location = match location.as_str() {
            "" => String::new(),
            content => format!("location = {page} {{ {content} }}"),
        };
        let mut nginx = site(&sandbox, &format!("px_custom_block_url {page}; {location}"));
        nginx.lenient();
        let began = Instant::now();
        let response = visit(&nginx, "/shop", &[]);
        assert!(began.elapsed() < Duration::from_secs(15));
        assert_eq!(response.status, 403, "{page}");
        assert!(response.text().contains("px-captcha"), "{page}");
        assert_block_headers(&response);
        let line = format!("px: \"px_custom_block_url\" cannot be shown: {why}");
        nginx.wait_for_error_log(&line);
    }
}

#[test]
fn a_named_location_writes_the_page_and_the_status_stays() {
    for (action, directive, accept, status) in [
        ("c", "px_custom_web_block_page_response", "text/html", 403),
        ("c", "px_custom_create_synthetic_web_response", "text/html", 403),
        ("r", "px_custom_rate_limit_block_page", "text/html", 429),
        ("c", "px_custom_create_advanced_blocking_response", "application/json", 403),
        ("c", "px_custom_block_url", "text/html", 403),
        ("b", "px_custom_block_url", "text/html", 403),
    ] {
        let sandbox = blocking(action);
        let nginx = site(
            &sandbox,
            &format!(
                "{directive} @ours; px_enable_json_response on;
                 location @ours {{
                     default_type text/plain;
                     add_header X-Verdict $px_verdict always;
                     return 200 \"$px_block_action $px_uuid $px_vid\";
                 }}"
            ),
        );
        let accept = format!("Accept: {accept}");
        for method in ["GET", "POST"] {
            let cookie = format!("Cookie: _pxvid={VID}");
            let body: &[u8] = if method == "POST" { b"x=1" } else { b"" };
            let response = request(nginx.addr(), method, "/shop", &[&accept, &cookie], body);
            assert_eq!(response.status, status, "{directive}");
            assert_eq!(response.text(), format!("{action} {UUID} {VID}"), "{directive}");
            assert_eq!(response.headers("x-verdict"), ["block"]);
            assert_block_headers(&response);
        }
        // Each block is reported once, and the Risk API asked once for it.
        assert_eq!(sandbox.wait_for_activities(2, SOON).len(), 2);
        assert_eq!(sandbox.risk_calls().len(), 2);
        sandbox.assert_no_complaints();
    }
}

#[test]
fn each_named_location_answers_its_own_kind_only() {
    let sandbox = blocking("b");
    let nginx = site(
        &sandbox,
        "px_custom_web_block_page_response @ours; px_custom_rate_limit_block_page @ours;
         px_custom_create_advanced_blocking_response @ours;
         location @ours { return 200 ours; }",
    );
    let response = visit(&nginx, "/shop", &[]);
    assert_eq!(response.status, 403);
    assert!(response.text().contains("px-hard-block"));
}

#[test]
fn the_operators_text_replaces_the_captcha_page() {
    let sandbox = blocking("c");
    let nginx = site(&sandbox, "px_custom_block_page_content \"<p>$px_uuid$http_x_text</p>\";");
    let response = visit(&nginx, "/shop", &["X-Text: !"]);
    assert_eq!((response.status, response.text()), (403, format!("<p>{UUID}!</p>")));
    assert_eq!(response.headers("content-type"), ["text/html"]);

    let nginx = site(&sandbox, "px_custom_block_page_content $http_x_text;");
    assert!(visit(&nginx, "/shop", &[]).text().contains("px-captcha"), "empty: the built-in page");
}

#[test]
fn an_api_is_told_where_to_send_its_user() {
    let sandbox = blocking("c");
    let nginx = site(
        &sandbox,
        "px_api_protection_mode on;
         px_api_protection_block_url https://www.example.com/block.html;
         px_api_protection_default_redirect_url https://www.example.com/home;",
    );
    for (referer, wanted) in [
        ("Referer: https://app.example.com/cart?x=1", "L2NhcnQ/eD0x"),
        ("Referer:", "L2hvbWU="),
        ("X-None: 1", "L2hvbWU="),
    ] {
        let response = visit(&nginx, "/shop", &[referer]);
        assert_eq!(response.status, 403);
        assert_eq!(response.headers("content-type"), ["application/json"]);
        assert_block_headers(&response);
        let expected =
            format!("https://www.example.com/block.html?url={wanted}&uuid={UUID}&vid={VID}");
        assert_eq!(response.json(), json!({"reason": "blocked", "redirect_to": expected}));
    }
}

#[test]
fn the_verification_handler_answers_after_the_verdict() {
    let (sandbox, origin) = (blocking("c"), Origin::start());
    let directives = format!(
        "px_custom_verification_handler @verified $arg_own;
         location / {{ {0} }}
         location @verified {{ add_header X-Own $px_verdict always; {0} }}",
        origin.proxy_pass()
    );
    let nginx = site(&sandbox, &directives);
    // Blocked, but the operator lets it through.
    let response = visit(&nginx, "/page?own=1", &[]);
    assert_eq!((response.status, response.headers("x-own")), (200, vec!["block"]));
    assert_eq!(visit(&nginx, "/page", &[]).status, 403);
    // Passed, and answered by the operator all the same.
    let cookie = sandbox.mint(BROWSER).cookie();
    let good = format!("Cookie: {cookie}");
    let response = get(nginx.addr(), "/page?own=1", &[&good]);
    assert_eq!((response.status, response.headers("x-own")), (200, vec!["pass"]));
    let response = get(nginx.addr(), "/page", &[&good]);
    assert_eq!((response.status, response.headers("x-own").len()), (200, 0));

    // Without a condition it is for blocks only, with a status of its own.
    let nginx = site(
        &sandbox,
        &format!(
            "px_custom_verification_handler @own; location / {{ {} }} \
             location @own {{ return 418 own; }}",
            origin.proxy_pass()
        ),
    );
    let response = visit(&nginx, "/page", &[]);
    assert_eq!((response.status, response.text().as_str()), (418, "own"));
    assert_block_headers(&response);
    assert_eq!(get(nginx.addr(), "/page", &[&good]).status, 200);
}

#[test]
fn monitor_mode_shows_no_custom_page() {
    let (sandbox, origin) = (blocking("c"), Origin::start());
    let nginx = site(
        &sandbox,
        &format!(
            "px_custom_block_url /blocked.html; location / {{ px_module_mode monitor; {} }}",
            origin.proxy_pass()
        ),
    );
    assert_eq!(visit(&nginx, "/page", &[]).text(), "origin");
}

#[test]
fn an_inner_level_can_switch_off_what_it_inherits() {
    let sandbox = blocking("c");
    let nginx = Nginx::builder()
        .http("px_custom_web_block_page_response @ours; px_custom_verification_handler @ours;")
        .server(&format!(
            "{} location @ours {{ return 200 ours; }}
             location /shop {{ proxy_pass http://127.0.0.1:1; }}
             location /page {{
                 px_custom_verification_handler off;
                 proxy_pass http://127.0.0.1:1;
             }}
             location /plain {{
                 px_custom_verification_handler off;
                 px_custom_web_block_page_response off;
                 proxy_pass http://127.0.0.1:1;
             }}",
            protect(&sandbox)
        ))
        .start();
    for (path, status, text) in
        [("/shop", 200, "ours"), ("/page", 403, "ours"), ("/plain", 403, "px-captcha")]
    {
        let response = visit(&nginx, path, &[]);
        assert_eq!(response.status, status, "{path}");
        assert!(response.text().contains(text), "{path}");
    }
}

#[test]
fn a_connection_goes_on_after_a_page_of_the_operators() {
    let sandbox = blocking("c");
    for directives in [
        "px_custom_block_url /blocked.html;",
        "px_custom_web_block_page_response @ours; location @ours { return 200 ours; }",
    ] {
        let nginx = site(&sandbox, directives);
        let mut connection = Connection::open(nginx.addr());
        let body = vec![b'x'; 200_000];
        for _ in 0..3 {
            connection.send(client::text("POST", "/shop", &[], &body));
            assert_eq!(connection.receive().status, 403);
        }
        // Pipelined, and each in its turn.
        let two = [
            client::text("GET", "/shop", &[], b""),
            client::text("GET", "/blocked.html", &[], b""),
        ];
        connection.send(two.concat());
        assert_eq!(connection.receive().status, 403);
        let status = connection.receive().status;
        assert_eq!(status, if directives.contains("url") { 200 } else { 403 });
    }
}

#[test]
fn a_visitor_who_leaves_while_the_page_is_fetched_harms_nobody() {
    let sandbox = blocking("c");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nginx = site(
        &sandbox,
        &format!(
            "px_custom_block_url /late; location = /late {{ proxy_pass http://{}; }}",
            silent.local_addr().unwrap()
        ),
    );
    for _ in 0..5 {
        let mut connection = Connection::open(nginx.addr());
        connection.send(client::text("GET", "/shop", &[], b""));
        let _ = silent.accept().expect("the page is asked for");
        drop(connection);
    }
    // The worker is as good as before, and every block is told.
    assert_eq!(get(nginx.addr(), "/blocked.html", &[]).status, 403);
    sandbox.wait_for_activities(5, SOON);
    let log = nginx.quit();
    assert!(!log.contains("panic"), "{log}");
}

#[test]
fn streams_of_one_http2_connection_each_get_the_operators_page() {
    let sandbox = blocking("c");
    for directives in [
        "px_custom_block_url /blocked.html;",
        "px_custom_web_block_page_response @ours; location @ours { return 200 $px_uuid; }",
    ] {
        let nginx = Nginx::builder()
            .listen("http2")
            .server(&format!(
                "{} {directives} location /shop {{ proxy_pass http://127.0.0.1:1; }}",
                protect(&sandbox)
            ))
            .start_with(|dir| {
                fs::write(dir.join("html/blocked.html"), PAGE).expect("the page can be written");
            });
        let mut visitor = H2::open(nginx.addr());
        let streams: Vec<u32> = (0..20).map(|number| 2 * number + 1).collect();
        for stream in &streams {
            let has_body = stream % 4 == 3;
            let method = if has_body { "POST" } else { "GET" };
            visitor.request(*stream, method, "/shop", &[("user-agent", BROWSER)], !has_body);
            if has_body {
                visitor.data(*stream, &[b'x'; 5000], true);
            }
        }
        for stream in &streams {
            let answer = visitor.receive(*stream);
            assert_eq!(answer.status, 403, "{stream}");
            assert!(String::from_utf8_lossy(&answer.body).contains(UUID), "{stream}");
        }
        drop(visitor);
        nginx.quit();
    }
}
