//! Tests for the px module: what is reported to the collector, when, in which form, and that
//! nothing about it ever touches a visitor.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use px_sandbox::{Behaviour, Endpoint, Reply, Sandbox, cookie};
use serde_json::{Value, json};
use support::{BROWSER, Nginx, Origin, SOON, get, protect, protect_apart, request, wait_until};

fn site(sandbox: &Sandbox, origin: &Origin, directives: &str) -> Nginx {
    Nginx::start(&format!(
        "{} {directives} location / {{ {} }}",
        protect(sandbox),
        origin.proxy_pass()
    ))
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// A cookie that passes without a call.
fn good_cookie(sandbox: &Sandbox) -> String {
    format!("Cookie: {}", sandbox.mint(BROWSER).cookie())
}

/// `count` visits that pass by cookie and differ in their paths.
fn visit(nginx: &Nginx, sandbox: &Sandbox, count: usize) {
    let cookie = good_cookie(sandbox);
    for at in 0..count {
        assert_eq!(get(nginx.addr(), &format!("/{at}"), &[&cookie]).status, 200);
    }
}

fn paths(activities: &[Value]) -> BTreeSet<String> {
    let url = |activity: &Value| activity["url"].as_str().expect("a text").to_owned();
    activities.iter().map(url).collect()
}

#[test]
fn page_requested_tells_of_request_and_verdict() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    origin.answer(404, &[], b"nothing");
    let nginx = site(&sandbox, &origin, "");
    let before = now_ms();
    let mint = sandbox.mint(BROWSER);
    let cookie = format!("Cookie: first=1; {}; _pxhd=hidden", mint.cookie());
    get(nginx.addr(), "/a//b?c=d", &[&cookie, "X-One: 1", "x-one: 2", "Referer: http://r.test/"]);

    let activity = &sandbox.wait_for_activities(1, SOON)[0];
    let payload: Value = serde_json::from_str(&mint.payload_text()).expect("JSON");
    let headers = json!([
        {"name": "host", "value": "site.test"},
        {"name": "user-agent", "value": BROWSER},
        {"name": "x-one", "value": "1"},
        {"name": "x-one", "value": "2"},
        {"name": "referer", "value": "http://r.test/"},
    ]);
    for (name, expected) in [
        ("type", json!("page_requested")),
        ("px_app_id", json!(sandbox.app().id)),
        ("url", json!("http://site.test/a/b?c=d")),
        ("headers", headers),
        ("pxhd", json!("hidden")),
        ("socket_ip", json!("127.0.0.1")),
        ("vid", payload["v"].clone()),
    ] {
        assert_eq!(activity[name], expected, "{name}");
    }
    let timestamp = activity["timestamp"].as_u64().expect("a number");
    assert!((before..=now_ms()).contains(&timestamp), "{timestamp}");
    let details = &activity["details"];
    for (name, expected) in [
        ("pass_reason", json!("cookie")),
        ("client_uuid", payload["u"].clone()),
        ("http_status_code", json!(404)),
        ("http_method", json!("GET")),
        ("http_version", json!("1.1")),
        ("risk_mode", json!("active_blocking")),
        ("module_version", json!(concat!("NGINX Rust Module v", env!("CARGO_PKG_VERSION")))),
        ("raw_url", json!("http://site.test/a//b?c=d")),
        ("request_cookie_names", json!(["first", "_px3", "_pxhd"])),
        ("cookie_origin", json!("cookie")),
        ("is_sensitive_route", json!(false)),
        ("px_cookie", json!(mint.payload_text())),
    ] {
        assert_eq!(details[name], expected, "{name}");
    }
    for absent in
        ["risk_rtt", "s2s_call_reason", "risk_start_time", "block_reason", "simulated_block"]
    {
        assert_eq!(details.get(absent), None, "{absent}");
    }

    let posts = sandbox.activity_posts();
    let [post] = posts.as_slice() else { panic!("one post, not {}", posts.len()) };
    assert_eq!((post.method.as_str(), post.target.as_str()), ("POST", "/api/v1/collector/s2s"));
    assert_eq!(post.header("content-type"), Some("application/json"));
    assert_eq!(
        post.header("authorization"),
        Some(format!("Bearer {}", sandbox.app().auth_token).as_str())
    );
    assert_eq!(post.header("content-encoding"), None);
    sandbox.assert_no_complaints();
}

#[test]
fn block_tells_why_and_how() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_max_activity_batch_size 1;");
    let uuid = "11111111-2222-4333-8444-555555555555";
    sandbox.answer_risk(Reply::json(json!({
        "status": 0, "score": 100, "action": "r", "uuid": uuid, "additional_risk_info": "why",
    })));
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).score(100).action("b").cookie());
    for (headers, details) in [
        (
            &[][..],
            json!({
                "block_reason": "s2s_high_score", "block_action": "r", "block_score": 100,
                "simulated_block": false, "client_uuid": uuid, "s2s_call_reason": "no_cookie",
                "additional_risk_info": "why",
            }),
        ),
        (
            &[cookie.as_str()],
            json!({
                "block_reason": "cookie_high_score", "block_action": "b", "block_score": 100,
                "simulated_block": false,
            }),
        ),
    ] {
        sandbox.clear();
        get(nginx.addr(), "/", headers);
        let activity = &sandbox.wait_for_activities(1, SOON)[0];
        assert_eq!(activity["type"], "block");
        for (name, expected) in details.as_object().expect("an object") {
            assert_eq!(&activity["details"][name], expected, "{name}");
        }
        assert_eq!(activity["details"].get("http_status_code"), None);
        assert_eq!(activity["details"].get("pass_reason"), None);
    }
    sandbox.assert_no_complaints();
}

#[test]
fn the_status_is_what_the_visitor_got() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let pass = origin.proxy_pass();
    let nginx = Nginx::start(&format!(
        "{} px_max_activity_batch_size 1; location / {{ {pass} }}
         location /down/ {{ proxy_pass http://127.0.0.1:1; }}
         location /file/ {{ }}
         location /mapped/ {{ {pass} proxy_intercept_errors on; error_page 503 =202 /other; }}
         location = /other {{ return 200 other; }}",
        protect(&sandbox)
    ));
    let cookie = good_cookie(&sandbox);
    for (path, origins, status) in [
        ("/", 200, 200),
        ("/", 301, 301),
        ("/", 503, 503),
        ("/mapped/", 503, 202),
        ("/down/", 200, 502),
        ("/file/nothing", 200, 404),
    ] {
        origin.answer(origins, &[], b"");
        sandbox.clear();
        assert_eq!(get(nginx.addr(), path, &[&cookie]).status, status, "{path}");
        let activities = sandbox.wait_for_activities(1, SOON);
        assert_eq!(activities[0]["details"]["http_status_code"], status, "{path} {origins}");
    }
    // nginx says so itself when an origin is down.
    let log = nginx.error_log();
    assert!(log.contains("connect() failed"), "{log}");
}

#[test]
fn a_full_batch_is_sent_at_once() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "px_max_activity_batch_size 3; px_batch_activities_timeout_ms 60s;",
    );
    visit(&nginx, &sandbox, 7);
    assert_eq!(sandbox.wait_for_activities(6, SOON).len(), 6);
    let posts: Vec<Value> = sandbox.activity_posts().iter().map(|post| post.json()).collect();
    assert_eq!(posts.len(), 2);
    assert!(posts.iter().all(|post| post.as_array().map(Vec::len) == Some(3)), "{posts:?}");
    // The seventh waits for two more, or for the worker's end; alone it is no array.
    nginx.quit();
    assert_eq!(sandbox.activities().len(), 7);
    assert!(sandbox.activity_posts()[2].json().is_object());
    assert_eq!(paths(&sandbox.activities()).len(), 7);
    sandbox.assert_no_complaints();
}

#[test]
fn a_batch_of_one_is_sent_for_every_request() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    for size in [0, 1] {
        sandbox.clear();
        let directives =
            format!("px_max_activity_batch_size {size}; px_batch_activities_timeout_ms 60s;");
        let nginx = site(&sandbox, &origin, &directives);
        visit(&nginx, &sandbox, 3);
        assert_eq!(sandbox.wait_for_activities(3, SOON).len(), 3);
        let posts = sandbox.activity_posts();
        assert_eq!(posts.len(), 3);
        assert!(posts.iter().all(|post| post.json().is_object()));
    }
}

#[test]
fn a_batch_that_does_not_fill_is_sent_in_time() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "px_max_activity_batch_size 1000; px_batch_activities_timeout_ms 50;",
    );
    // Twice: the timer must start again.
    for round in 1..=2 {
        visit(&nginx, &sandbox, 2);
        assert_eq!(sandbox.wait_for_activities(2 * round, SOON).len(), 2 * round);
    }
    nginx.quit();
}

#[test]
fn a_batch_is_bounded_in_bytes_too() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .http("large_client_header_buffers 8 32k;")
        .server(&format!(
            "{} px_max_activity_batch_size 1000; px_batch_activities_timeout_ms 60s;
             location / {{ {} }}",
            protect(&sandbox),
            origin.proxy_pass()
        ))
        .start();
    let cookie = good_cookie(&sandbox);
    let large = format!("X-Large: {}", "x".repeat(30_000));
    for _ in 0..10 {
        assert_eq!(get(nginx.addr(), "/", &[&cookie, &large]).status, 200);
    }
    // 256 KiB, reached with the ninth.
    assert_eq!(sandbox.wait_for_activities(9, SOON).len(), 9);
    nginx.quit();
    assert_eq!(sandbox.activities().len(), 10);
}

#[test]
fn bodies_are_compressed_where_that_is_on() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    // The tenth byte of a gzip header says: fastest, best, or neither.
    for (directives, mark) in [
        ("", None),
        ("px_compression_enabled off; px_compression_level 9;", None),
        ("px_compression_enabled on;", Some(0)),
        ("px_compression_enabled on; px_compression_level 1;", Some(4)),
        ("px_compression_enabled on; px_compression_level 9;", Some(2)),
    ] {
        sandbox.clear();
        let five = "px_max_activity_batch_size 5; px_batch_activities_timeout_ms 60s;";
        let nginx = site(&sandbox, &origin, &format!("{directives} {five}"));
        visit(&nginx, &sandbox, 5);
        let activities = sandbox.wait_for_activities(5, SOON);
        assert_eq!(activities.len(), 5, "{directives}");
        let post = &sandbox.activity_posts()[0];
        assert_eq!(post.header("content-type"), Some("application/json"));
        assert_eq!(post.header("content-length"), Some(post.body.len().to_string().as_str()));
        match mark {
            None => {
                assert_eq!(post.header("content-encoding"), None);
                assert_eq!(post.body[0], b'[');
            }
            Some(mark) => {
                assert_eq!(post.header("content-encoding"), Some("gzip"));
                assert_eq!((post.body[..2].to_vec(), post.body[8]), (vec![0x1f, 0x8b], mark));
                assert!(post.body.len() < post.text().len() / 2);
            }
        }
        // The Risk API is never sent gzip.
        get(nginx.addr(), "/", &[]);
        assert_eq!(sandbox.risk_calls()[0].header("content-encoding"), None);
        sandbox.assert_no_complaints();
    }
}

#[test]
fn page_requested_can_be_switched_off_and_block_cannot() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_send_async_activities_enabled off;");
    visit(&nginx, &sandbox, 2);
    get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]);
    nginx.quit();
    let activities = sandbox.activities();
    assert_eq!(activities.len(), 1);
    assert_eq!(activities[0]["type"], "block");
}

#[test]
fn nothing_is_lost_when_a_worker_ends() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let slow = "px_max_activity_batch_size 1000; px_batch_activities_timeout_ms 60s;";
    for (graceful, compressed) in [(true, "on"), (false, "off")] {
        sandbox.clear();
        let directives = format!("{slow} px_compression_enabled {compressed};");
        let nginx = site(&sandbox, &origin, &directives);
        visit(&nginx, &sandbox, 5);
        assert!(sandbox.activities().is_empty());
        let log = if graceful { nginx.quit() } else { nginx.stop() };
        assert_eq!(paths(&sandbox.activities()).len(), 5);
        assert!(!log.contains("could not be delivered"), "{log}");
    }
}

#[test]
fn nothing_is_lost_when_the_configuration_is_reloaded() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "px_max_activity_batch_size 1000; px_batch_activities_timeout_ms 60s;",
    );
    visit(&nginx, &sandbox, 3);
    let old = nginx.workers();
    nginx.reload(|conf| conf.replace("timeout_ms 60s", "timeout_ms 59s"));
    nginx.wait_for_workers_to_end(&old);
    assert_eq!(sandbox.wait_for_activities(3, SOON).len(), 3);
    // The new worker reports under the new configuration.
    visit(&nginx, &sandbox, 2);
    nginx.quit();
    assert_eq!(sandbox.activities().len(), 5);
    sandbox.assert_no_complaints();
}

#[test]
fn every_worker_reports_what_it_saw() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .workers(2)
        .server(&format!("{} location / {{ {} }}", protect(&sandbox), origin.proxy_pass()))
        .start();
    visit(&nginx, &sandbox, 50);
    nginx.quit();
    assert_eq!(paths(&sandbox.activities()).len(), 50);
}

#[test]
fn a_collector_that_is_down_is_the_operators_trouble_only() {
    let (sandbox, collector, origin) =
        (Sandbox::start().unwrap(), Sandbox::start().unwrap(), Origin::start());
    collector.go_down();
    let nginx = Nginx::start(&format!(
        "{} px_max_activity_batch_size 2; location / {{ {} }}",
        protect_apart(&sandbox, &collector),
        origin.proxy_pass()
    ));
    visit(&nginx, &sandbox, 10);
    let text = "px: activities could not be delivered: ";
    let log = nginx.wait_for_error_log(text);
    let line = log.lines().find(|line| line.contains(text)).expect("just seen");
    assert!(line.contains("[error]") && line.contains("Connection refused"), "{line}");
    assert!(line.ends_with(" lost since start"), "{line}");
    // More losses within the minute are counted silently.
    visit(&nginx, &sandbox, 10);
    assert_eq!(get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]).status, 403);
    let log = nginx.quit();
    assert_eq!(log.matches(text).count(), 1, "{log}");
}

#[test]
fn reports_go_on_when_the_collector_is_back() {
    let (sandbox, collector, origin) =
        (Sandbox::start().unwrap(), Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::start(&format!(
        "{} px_max_activity_batch_size 1; location / {{ {} }}",
        protect_apart(&sandbox, &collector),
        origin.proxy_pass()
    ));
    visit(&nginx, &sandbox, 1);
    assert_eq!(collector.wait_for_activities(1, SOON).len(), 1);
    collector.go_down();
    visit(&nginx, &sandbox, 1);
    nginx.wait_for_error_log(" lost since start");
    collector.come_back().expect("the port is free again");
    get(nginx.addr(), "/after", &[&good_cookie(&sandbox)]);
    wait_until("a report again", || {
        paths(&collector.activities()).contains("http://site.test/after")
    });
}

#[test]
fn an_activity_is_tried_twice_and_only_200_is_delivered() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    for (behaviour, reason) in [
        (Behaviour::Status(500), "HTTP status 500"),
        (Behaviour::Status(204), "HTTP status 204"),
        (Behaviour::Status(302), "HTTP status 302"),
        (Behaviour::CloseBeforeAnswer, ""),
        (Behaviour::NotHttp(b"hello\r\n\r\n".to_vec()), ""),
    ] {
        sandbox.clear();
        sandbox.behave_well();
        let nginx = site(&sandbox, &origin, "px_max_activity_batch_size 1;");
        // One failure is made good.
        sandbox.behave_next_at(Endpoint::Activities, 1, behaviour.clone());
        visit(&nginx, &sandbox, 1);
        assert_eq!(sandbox.wait_for_activities(1, SOON).len(), 1, "{reason}");
        assert_eq!(sandbox.activity_posts().len(), 2);
        // Two are not.
        sandbox.behave_at(Endpoint::Activities, behaviour);
        visit(&nginx, &sandbox, 1);
        let log = nginx.wait_for_error_log("; 1 lost since start");
        assert!(log.contains(reason), "{reason}: {log}");
        assert_eq!(sandbox.activity_posts().len(), 4);
    }
}

#[test]
fn a_collector_that_hangs_holds_nobody_up() {
    let (sandbox, collector, origin) =
        (Sandbox::start().unwrap(), Sandbox::start().unwrap(), Origin::start());
    collector.behave_at(Endpoint::Activities, Behaviour::Hang);
    let nginx = Nginx::start(&format!(
        "{} px_max_activity_batch_size 1; px_async_timeout 60s; location / {{ {} }}",
        protect_apart(&sandbox, &collector),
        origin.proxy_pass()
    ));
    let began = Instant::now();
    // More than the sender's queue holds: the rest is dropped.
    for _ in 0..600 {
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let log = nginx.wait_for_error_log("could not be delivered");
    assert!(log.contains("the queue of the sender thread is full"), "{log}");
    // Nor does it hold a worker up that is told to end.
    let began = Instant::now();
    nginx.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(collector.activities().is_empty());
}

#[test]
fn a_collector_that_hangs_is_given_up_in_time() {
    let (sandbox, collector, origin) =
        (Sandbox::start().unwrap(), Sandbox::start().unwrap(), Origin::start());
    collector.behave_at(Endpoint::Activities, Behaviour::Hang);
    let nginx = Nginx::start(&format!(
        "{} px_max_activity_batch_size 1; px_async_timeout 100; location / {{ {} }}",
        protect_apart(&sandbox, &collector),
        origin.proxy_pass()
    ));
    visit(&nginx, &sandbox, 1);
    let log = nginx.wait_for_error_log("; 1 lost since start");
    assert!(log.contains("timeout"), "{log}");
}

#[test]
fn a_telemetry_command_is_obeyed_and_enforcement_goes_on() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_compression_enabled on;");
    let app = sandbox.app().clone();
    let command = |secret: &str, until: u64| {
        format!("x-px-enforcer-telemetry: {}", cookie::command_header(secret, until))
    };
    let valid = command(&app.secret, now_ms() + 60_000);

    assert_eq!(get(nginx.addr(), "/", &[&valid, "User-Agent: PhantomJS/1.0"]).status, 403);
    assert_eq!(sandbox.risk_calls().len(), 1);
    let telemetry = sandbox.wait_for(Endpoint::Telemetry, 1, SOON);
    assert_eq!(telemetry[0].target, "/api/v2/risk/telemetry");
    assert_eq!(telemetry[0].header("content-encoding"), None);
    assert_eq!(
        telemetry[0].header("authorization"),
        Some(format!("Bearer {}", app.auth_token).as_str())
    );
    let body = telemetry[0].json();
    assert_eq!(body["type"], "enforcer_telemetry");
    assert_eq!(body["px_app_id"], app.id);
    assert_eq!(body["details"]["update_reason"], "command");
    assert!(!body.to_string().contains(&app.secret) && !body.to_string().contains(&app.auth_token));
    assert_eq!(sandbox.wait_for_activities(1, SOON)[0]["type"], "block");

    // What is expired, forged or empty commands nothing.
    for refused in [
        command(&app.secret, now_ms() - 60_000),
        command("another", now_ms() + 60_000),
        command("", now_ms() + 60_000),
        "x-px-enforcer-telemetry: 1".to_owned(),
    ] {
        assert_eq!(get(nginx.addr(), "/", &[&refused]).status, 200);
    }
    // A filtered request commands nothing either.
    assert_eq!(get(nginx.addr(), "/a.css", &[&valid]).status, 200);
    nginx.quit();
    assert_eq!(sandbox.telemetry().len(), 1);
    sandbox.assert_no_complaints();
}

#[test]
fn the_header_of_the_telemetry_command_can_be_renamed_or_switched_off() {
    for (header, commanded) in [("x-tell-us", true), ("\"\"", false)] {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        let nginx = site(&sandbox, &origin, &format!("px_telemetry_header {header};"));
        let value = cookie::command_header(&sandbox.app().secret, now_ms() + 60_000);
        get(nginx.addr(), "/", &[&format!("x-px-enforcer-telemetry: {value}")]);
        get(nginx.addr(), "/", &[&format!("x-tell-us: {value}")]);
        nginx.quit();
        assert_eq!(sandbox.telemetry().len(), usize::from(commanded), "{header}");
    }
}

#[test]
fn the_risk_api_may_ask_for_telemetry() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "");
    assert_eq!(get(nginx.addr(), "/", &["X-Px-Sandbox: telemetry=1"]).status, 200);
    assert_eq!(sandbox.wait_for(Endpoint::Telemetry, 1, SOON).len(), 1);
    nginx.quit();
    sandbox.assert_no_complaints();
}

#[test]
fn verified_data_enrichment_goes_to_the_origin_and_nobody_elses() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_data_enrichment_header_name X-PX-DE;");
    let signed = |secret: &str| {
        format!("_pxde={}", cookie::data_enrichment(secret, &json!({"a": [1, "x"]})))
    };
    let good = sandbox.mint(BROWSER).cookie();
    let secret = sandbox.app().secret.clone();
    for (cookies, forged, expected) in [
        (format!("{good}; {}", signed(&secret)), &[][..], Some(r#"{"a":[1,"x"]}"#)),
        (
            format!("{good}; {}", signed(&secret)),
            &["x-px-de: forged", "X-Px-De: again"],
            Some(r#"{"a":[1,"x"]}"#),
        ),
        (format!("{good}; {}", signed("wrong")), &["X-PX-DE: forged"], None),
        (good.clone(), &["x-px-de: forged"], None),
        (signed(&secret), &[], Some(r#"{"a":[1,"x"]}"#)),
    ] {
        origin.clear();
        let cookie = format!("Cookie: {cookies}");
        let headers: Vec<&str> =
            forged.iter().copied().chain([cookie.as_str(), "X-Last: 1"]).collect();
        assert_eq!(get(nginx.addr(), "/", &headers).status, 200);
        let received = origin.texts().remove(0);
        let lines: Vec<&str> =
            received.lines().filter(|line| line.to_lowercase().starts_with("x-px-de")).collect();
        let wanted: Vec<String> =
            expected.iter().map(|value| format!("x-px-de: {value}")).collect();
        assert_eq!(lines, wanted, "{forged:?} {received}");
        assert!(received.contains("X-Last: 1\r\n"), "{received}");
    }

    // The Risk API's own word counts more than the cookie's.
    origin.clear();
    let cookie = format!("Cookie: {}", signed(&secret));
    get(nginx.addr(), "/", &[&cookie, "X-Px-Sandbox: breached=1"]);
    let received = origin.texts().remove(0);
    assert!(received.contains("\r\nx-px-de: {\"breached_account\":1}\r\n"), "{received}");
    sandbox.assert_no_complaints();
}

/// Reports are made of requests of any shape.
#[test]
fn odd_requests_are_reported_too() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "");
    let cookie = good_cookie(&sandbox);
    let many: Vec<String> = (0..90).map(|at| format!("X-{at}: \u{e9}\"\\")).collect();
    let mut headers: Vec<&str> = many.iter().map(String::as_str).collect();
    headers.push(&cookie);
    for (method, target) in
        [("POST", "/\u{e9}?\u{1f600}"), ("OPTIONS", "/%7Bx%2f"), ("PROPFIND", "/\"<>")]
    {
        let status = request(nginx.addr(), method, target, &headers, b"a=b").status;
        assert_eq!(status, 200, "{method} {target}");
    }
    assert_eq!(request(nginx.addr(), "HEAD", "/", &headers, b"").status, 200);
    let activities = sandbox.wait_for_activities(4, SOON);
    assert_eq!(activities.len(), 4);
    let urls = paths(&activities);
    assert!(urls.contains("http://site.test/%C3%A9?%F0%9F%98%80"), "{urls:?}");
    nginx.quit();
    sandbox.assert_no_complaints();
}
