//! Tests for the px module: the Risk API call, as the collector sees it and as the visitor feels it.

mod support;

use std::time::Duration;

use px_sandbox::{App, Behaviour, OnAccept, Reply, Sandbox};
use support::{
    BROWSER, Connection, Nginx, Origin, SOON, client, curl, get, protect_apart, protect_as,
    request, wait_until,
};

/// A site, its Risk API and its collector; apart, so that connections can be counted.
struct Site {
    risk_api: Sandbox,
    collector: Sandbox,
    origin: Origin,
}

impl Site {
    fn new() -> Self {
        Self {
            risk_api: Sandbox::start().unwrap(),
            collector: Sandbox::start().unwrap(),
            origin: Origin::start(),
        }
    }

    /// `directives` beside the six, and a location that leads to the origin.
    fn server(&self, directives: &str) -> String {
        let protect = protect_apart(&self.risk_api, &self.collector);
        format!("{protect}{directives}\nlocation / {{ {} }}", self.origin.proxy_pass())
    }

    fn start(&self, directives: &str) -> Nginx {
        Nginx::start(&self.server(directives))
    }

    /// A `Cookie` header line that passes without a call.
    fn good_cookie(&self) -> String {
        format!("Cookie: {}", self.risk_api.mint(BROWSER).cookie())
    }
}

/// The access log's word `name=…` in the last of `count` lines.
fn logged(nginx: &Nginx, count: usize, name: &str) -> String {
    let lines = nginx.wait_for_access_log(count);
    let line = &lines[count - 1];
    let word = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    word.unwrap_or_else(|| panic!("no {name} in {line}")).to_owned()
}

#[test]
fn twenty_calls_share_one_connection() {
    let site = Site::new();
    let nginx = site.start("");
    for _ in 0..20 {
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    }
    let calls = site.risk_api.risk_calls();
    assert_eq!(calls.len(), 20);
    assert_eq!(site.risk_api.connections(), 1);
    assert_eq!(calls[19].on_connection, 20);
    site.risk_api.assert_no_complaints();
}

/// The one form every call has.
fn expected_head(site: &Site, target: &str, body_len: usize) -> String {
    let App { auth_token, .. } = site.risk_api.app();
    format!(
        "POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: {body_len}\r\n\
         Content-Type: application/json\r\nAuthorization: Bearer {auth_token}\r\n\r\n",
        site.risk_api.addr()
    )
}

#[test]
fn nothing_of_the_visitors_request_is_on_the_call() {
    let site = Site::new();
    let nginx = Nginx::builder().listen("http2").server(&site.server("")).start();
    // HTTP/2 first: this listener speaks nothing else.
    let url = format!("http://{}/h2", nginx.addr());
    let (_, code) = curl(&[
        "--http2-prior-knowledge",
        "-H",
        "Cookie: secret=1",
        "-H",
        "X-Mine: 1",
        "-d",
        "a=1",
        &url,
    ]);
    assert_eq!(code, 0);
    drop(nginx);

    let nginx = site.start("");
    let mine: &[&str] = &[
        "Cookie: secret=1",
        "Authorization: Basic dTpw",
        "X-Mine: 1",
        "Accept: */*",
        "Accept-Encoding: gzip",
        "Range: bytes=0-0",
        "If-None-Match: \"x\"",
        "Expect: 100-continue",
        "Content-Type: text/mine",
        "Upgrade: websocket",
        "Connection: upgrade",
    ];
    for (method, body) in [
        ("GET", &b""[..]),
        ("POST", b"mine"),
        ("HEAD", b""),
        ("PUT", &[b'm'; 100_000]),
        ("MINE", b""),
    ] {
        let status = request(nginx.addr(), method, "/a?b=c", mine, body).status;
        assert_eq!(status, 200, "{method}");
    }
    let chunked = b"4\r\nmine\r\n0\r\n\r\n";
    let headers = &[mine, &["Transfer-Encoding: chunked"]].concat();
    assert_eq!(request(nginx.addr(), "POST", "/a?b=c", headers, chunked).status, 200);

    let calls = site.risk_api.risk_calls();
    assert_eq!(calls.len(), 7);
    for call in calls {
        let head = String::from_utf8_lossy(&call.head).into_owned();
        assert_eq!(head, expected_head(&site, "/api/v3/risk", call.body.len()));
        assert!(!call.text().contains("secret=1"), "a cookie in {}", call.text());
    }
    site.risk_api.assert_no_complaints();
}

#[test]
fn what_the_operator_sets_for_other_requests_does_not_touch_the_call() {
    let site = Site::new();
    let http = "proxy_set_header X-Leak $http_cookie; proxy_set_header Host wrong.test; \
         proxy_http_version 1.0; proxy_method PUT; proxy_set_body wrong; \
         proxy_pass_request_headers off; proxy_buffering off; proxy_connect_timeout 1ms; \
         proxy_read_timeout 1ms; proxy_intercept_errors on; proxy_next_upstream off; \
         proxy_limit_rate 1; proxy_bind 127.0.0.9; limit_rate 1; error_page 404 500 502 /wrong; \
         limit_req_zone $server_name zone=z:1m rate=1r/m; limit_req zone=z burst=3 nodelay; \
         gzip on; gzip_types *; sub_filter a b; sub_filter_types *; ssi on; ssi_types *; \
         add_header X-Added 1 always; add_after_body /wrong; addition_types *;";
    let keeps = [
        "proxy_cache_path cache keys_zone=c:1m; proxy_cache c; proxy_cache_methods POST; \
         proxy_cache_valid any 1h; proxy_cache_key k;",
        "proxy_store on;",
    ];
    // What the server says about the visitors' requests is not meant for the call either.
    let server = "if ($request_method = POST) { return 405; } \
         if ($http_authorization) { return 418; } rewrite ^/api /wrong; \
         location /api { return 404; }";
    let location = "proxy_cache off; proxy_store off; proxy_connect_timeout 9s; \
         proxy_read_timeout 9s; proxy_method GET; limit_rate 0; proxy_limit_rate 0; \
         proxy_bind off; addition_types none/none; ssi off;";
    site.risk_api.answer_risk(Reply::risk(0, "c").header("Cache-Control", "max-age=3600"));
    for keep in keeps {
        site.risk_api.clear();
        let connections = site.risk_api.connections();
        let protect = protect_apart(&site.risk_api, &site.collector);
        let pass = site.origin.proxy_pass();
        let nginx = Nginx::builder()
            .http(&format!("{http}{keep}"))
            .server(&format!("{protect}{server} location / {{ {location} {pass} }}"))
            .start();
        for _ in 0..3 {
            assert_eq!(get(nginx.addr(), "/", &["Cookie: a=1"]).status, 200);
        }
        assert_eq!(logged(&nginx, 3, "pass"), "s2s");
        let calls = site.risk_api.risk_calls();
        assert_eq!(calls.len(), 3);
        assert_eq!(site.risk_api.connections() - connections, 1);
        for call in calls {
            let head = String::from_utf8_lossy(&call.head).into_owned();
            assert_eq!(head, expected_head(&site, "/api/v3/risk", call.body.len()));
        }
        site.risk_api.assert_no_complaints();
    }
}

#[test]
fn the_visitors_variables_survive_the_call() {
    let site = Site::new();
    let nginx = Nginx::builder()
        .http(
            "map $http_x_kind $kind { default none; fine f; } \
             log_format visitor '$request_method $request_uri $http_user_agent $http_cookie \
             $content_length $content_type $kind $is_args$args $remote_user';",
        )
        .server(&format!("access_log visitor.log visitor; set $early $kind; {}", site.server("")))
        .start();
    let headers = &["User-Agent: Mine/1", "Cookie: c=1", "Content-Type: text/mine", "X-Kind: fine"];
    assert_eq!(request(nginx.addr(), "POST", "/a?b=c", headers, b"body").status, 200);
    let log = nginx.dir().join("visitor.log");
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("the log line", || read().ends_with('\n'));
    assert_eq!(read(), "POST /a?b=c Mine/1 c=1 4 text/mine f ?b=c -\n");
    assert_eq!(site.risk_api.risk_calls().len(), 1);
}

#[test]
fn a_path_of_the_backend_url_precedes_the_risk_api() {
    let site = Site::new();
    site.risk_api.answer_path("/some/base-1.0/api/v3/risk", Reply::risk(100, "c"));
    let base = format!("{}/some/base-1.0/", site.risk_api.url());
    let nginx = Nginx::start(&format!(
        "{} location / {{ {} }}",
        protect_as(site.risk_api.app(), &base, &site.collector.url()),
        site.origin.proxy_pass()
    ));
    assert_eq!(get(nginx.addr(), "/x", &[]).status, 403);
    let calls = site.risk_api.others();
    assert_eq!(calls.len(), 1);
    let head = String::from_utf8_lossy(&calls[0].head).into_owned();
    assert_eq!(head, expected_head(&site, "/some/base-1.0/api/v3/risk", calls[0].body.len()));
}

#[test]
fn a_connection_that_died_while_idle_is_replaced_without_the_visitor_noticing() {
    let site = Site::new();
    let nginx = site.start("");
    assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    for gone in [Behaviour::CloseBeforeAnswer, Behaviour::Reset] {
        site.risk_api.behave_next(gone);
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    }
    for (count, _) in [1, 2, 3].iter().enumerate() {
        assert_eq!(logged(&nginx, count + 1, "pass"), "s2s");
    }
    assert_eq!(site.risk_api.risk_calls().len(), 5);
    assert_eq!(site.risk_api.connections(), 3);
    site.risk_api.assert_no_complaints();
}

#[test]
fn a_connection_closed_after_each_answer_costs_nobody_a_verdict() {
    let site = Site::new();
    site.risk_api.behave(Behaviour::StaleKeepAlive);
    let nginx = site.start("");
    for _ in 0..20 {
        assert_eq!(get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]).status, 403);
    }
    site.risk_api.assert_no_complaints();
}

#[test]
fn a_fresh_connection_that_breaks_is_not_tried_again() {
    let site = Site::new();
    site.risk_api.behave(Behaviour::Reset);
    let nginx = site.start("");
    assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    assert_eq!(site.risk_api.risk_calls().len(), 1);
    assert_eq!(logged(&nginx, 1, "error"), "unknown_error");
}

#[test]
fn the_timeout_is_total_and_ends_the_call() {
    for late in [
        Behaviour::Hang,
        // Every byte would renew a timeout between two reads.
        Behaviour::Trickle(Duration::from_millis(20)),
        Behaviour::Truncate { declared: 1000, sent: 10 }.after(Duration::from_secs(60)),
        Behaviour::Normal.after(Duration::from_secs(60)),
    ] {
        let site = Site::new();
        site.risk_api.behave(late.clone());
        let nginx = site.start("px_s2s_timeout 150ms;");
        let mut visitor = Connection::open(nginx.addr());
        visitor.send(client::text("GET", "/1", &[], b""));
        assert_eq!(visitor.receive().status, 200, "{late}");
        assert_eq!(logged(&nginx, 1, "pass"), "s2s_timeout", "{late}");
        assert_eq!(logged(&nginx, 1, "rtt"), "-", "{late}");
        // The call's connection is not left behind …
        if !matches!(late, Behaviour::After(..)) {
            wait_until("the call is closed", || site.risk_api.open_connections() == 0);
        }
        // … and does not hold up the visitor's next request.
        visitor.send(client::text("GET", "/2", &[&site.good_cookie()], b""));
        assert_eq!(visitor.receive().status, 200, "{late}");
        assert_eq!(logged(&nginx, 2, "pass"), "cookie", "{late}");

        site.risk_api.behave_well();
        visitor.send(client::text("GET", "/3", &["User-Agent: PhantomJS/1.0"], b""));
        assert_eq!(visitor.receive().status, 403, "{late}");

        let activities = site.collector.wait_for_activities(3, SOON);
        let details = &activities[0]["details"];
        assert_eq!(details["pass_reason"], "s2s_timeout", "{late}");
        assert_eq!(details["s2s_error_reason"], serde_json::Value::Null, "{late}");
        assert_eq!(details["risk_rtt"], serde_json::Value::Null, "{late}");
        site.collector.assert_no_complaints();
    }
}

#[test]
fn a_server_that_accepts_and_says_nothing_costs_the_timeout_only() {
    let site = Site::new();
    site.risk_api.on_accept(OnAccept::Hang);
    let nginx = site.start("px_s2s_timeout 100ms;");
    assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    assert_eq!(logged(&nginx, 1, "pass"), "s2s_timeout");
    wait_until("the call is closed", || site.risk_api.open_connections() == 0);
}

#[test]
fn a_collector_that_is_down_lets_visitors_pass_until_it_is_back() {
    let site = Site::new();
    let nginx = site.start("");
    let bot = &["User-Agent: PhantomJS/1.0"];
    assert_eq!(get(nginx.addr(), "/", bot).status, 403);
    site.risk_api.go_down();
    for _ in 0..3 {
        assert_eq!(get(nginx.addr(), "/", bot).status, 200);
    }
    assert_eq!(logged(&nginx, 4, "pass"), "s2s_error");
    assert_eq!(logged(&nginx, 4, "error"), "unknown_error");
    site.risk_api.come_back().unwrap();
    assert_eq!(get(nginx.addr(), "/", bot).status, 403);

    let activities = site.collector.wait_for_activities(5, SOON);
    let details = &activities[2]["details"];
    assert_eq!(details["pass_reason"], "s2s_error");
    assert_eq!(details["s2s_error_reason"], "unknown_error");
    assert!(details["error_message"].as_str().is_some_and(|message| !message.is_empty()));
    assert_eq!(details["s2s_error_http_status"], serde_json::Value::Null);
    site.collector.assert_no_complaints();
}

#[test]
fn a_name_that_does_not_resolve_stops_nothing() {
    let site = Site::new();
    for url in ["https://no-such-host.invalid", "http://no-such-host.invalid:8080/base"] {
        let nginx = Nginx::start(&format!(
            "{} location / {{ {} }}",
            protect_as(site.risk_api.app(), url, &site.collector.url()),
            site.origin.proxy_pass()
        ));
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
        assert_eq!(get(nginx.addr(), "/", &[&site.good_cookie()]).status, 200);
        assert_eq!(logged(&nginx, 1, "pass"), "s2s_error");
        assert_eq!(logged(&nginx, 1, "error"), "unknown_error");
        assert_eq!(logged(&nginx, 2, "pass"), "cookie");
        let log = nginx.quit();
        assert!(log.contains("could not be resolved"), "{log}");
    }
    let activities = site.collector.wait_for_activities(4, SOON);
    let unresolved = |a: &&serde_json::Value| {
        a["details"]["error_message"]
            .as_str()
            .is_some_and(|message| message.contains("could not be resolved"))
    };
    assert_eq!(activities.iter().filter(unresolved).count(), 2);
    site.collector.assert_no_complaints();
}

#[test]
fn a_name_is_resolved_and_its_connection_kept() {
    let site = Site::new();
    let url = format!("http://localhost:{}", site.risk_api.port());
    let nginx = Nginx::start(&format!(
        "{} location / {{ {} }}",
        protect_as(site.risk_api.app(), &url, &site.collector.url()),
        site.origin.proxy_pass()
    ));
    for _ in 0..5 {
        assert_eq!(get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]).status, 403);
    }
    let calls = site.risk_api.risk_calls();
    assert_eq!(calls[0].header("host"), url.strip_prefix("http://"));
    assert_eq!(site.risk_api.connections(), 1);
    site.risk_api.assert_no_complaints();
    // Where the name has another address too, on which nobody listens, that is found out once.
    let refused = nginx.quit().matches("Connection refused").count();
    assert!(refused <= 1, "{refused} connections were refused");
}

#[test]
fn two_apps_with_backends_of_their_own_stand_side_by_side() {
    let app = |n: u8| App {
        id: format!("PXside{n}"),
        auth_token: format!("auth-token-of-side-{n}"),
        secret: format!("cookie-secret-of-side-{n}"),
    };
    let backend = |app: &App| {
        let builder = Sandbox::builder().app_id(&app.id).auth_token(&app.auth_token);
        builder.secret(&app.secret).start().unwrap()
    };
    let (apps, origin) = ([app(1), app(2)], Origin::start());
    let backends = [backend(&apps[0]), backend(&apps[1])];
    let collectors = [backend(&apps[0]), backend(&apps[1])];
    let location = |n: usize| {
        format!(
            "location /{n} {{ {} {} }}",
            protect_as(&apps[n], &backends[n].url(), &collectors[n].url()),
            origin.proxy_pass()
        )
    };
    let nginx = Nginx::start(&format!("{}{}", location(0), location(1)));
    for n in [0, 1] {
        let (path, other) = (format!("/{n}"), format!("/{}", 1 - n));
        for _ in 0..2 {
            assert_eq!(get(nginx.addr(), &path, &[]).status, 200);
        }
        // A cookie is worth something at its own app only.
        let cookie = format!("Cookie: {}", backends[n].mint(BROWSER).cookie());
        assert_eq!(get(nginx.addr(), &path, &[&cookie]).status, 200);
        assert_eq!(get(nginx.addr(), &other, &[&cookie]).status, 200);
    }
    for (backend, collector) in backends.iter().zip(&collectors) {
        let reasons = |reason: &str| {
            let calls = backend.risk_calls();
            calls.iter().filter(|c| c.json()["additional"]["s2s_call_reason"] == reason).count()
        };
        assert_eq!((reasons("no_cookie"), reasons("cookie_decryption_failed")), (2, 1));
        assert_eq!(backend.connections(), 1);
        assert_eq!(collector.wait_for_activities(4, SOON).len(), 4);
        backend.assert_no_complaints();
        collector.assert_no_complaints();
    }
}

#[test]
fn a_hundred_failing_calls_are_a_handful_of_lines() {
    type Break = fn(&Sandbox);
    let breaks: [(&str, Break); 5] = [
        ("down", |sandbox| sandbox.go_down()),
        ("500", |sandbox| sandbox.behave(Behaviour::Status(500))),
        ("reset", |sandbox| sandbox.behave(Behaviour::Reset)),
        ("truncated", |sandbox| {
            sandbox.behave(Behaviour::Truncate { declared: 1000, sent: 10 });
        }),
        ("late", |sandbox| sandbox.behave(Behaviour::Hang)),
    ];
    for (name, break_it) in breaks {
        let site = Site::new();
        break_it(&site.risk_api);
        let nginx = site.start("px_s2s_timeout 50ms;");
        // One after the other, then together.
        for _ in 0..20 {
            assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
        }
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
                    }
                });
            }
        });
        nginx.wait_for_access_log(100);
        let log = nginx.quit();
        let lines: Vec<&str> =
            log.lines().filter(|l| l.contains("[error]") || l.contains("[warn]")).collect();
        assert!((1..=3).contains(&lines.len()), "{name}: {}", lines.join("\n"));
        assert!(lines.iter().any(|line| line.contains("px: Risk API call failed")), "{name}");
    }
}

#[test]
fn the_worker_serves_others_while_a_call_waits() {
    let site = Site::new();
    site.risk_api.behave_next(Behaviour::Hang);
    let nginx = site.start("px_s2s_timeout 60s;");
    let mut waiting = Connection::open(nginx.addr());
    waiting.send(client::text("GET", "/waits", &[], b""));
    site.risk_api.wait_for_risk_calls(1, SOON);

    assert_eq!(get(nginx.addr(), "/", &[&site.good_cookie()]).status, 200);
    assert_eq!(get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]).status, 403);
    let answered: Vec<String> = nginx.wait_for_access_log(2);
    assert!(!answered.iter().any(|line| line.contains("/waits")), "{answered:?}");

    site.risk_api.go_down();
    assert_eq!(waiting.receive().status, 200);
    assert_eq!(logged(&nginx, 3, "pass"), "s2s_error");
}

#[test]
fn a_hundred_calls_can_be_under_way_at_once() {
    let site = Site::new();
    site.risk_api.behave(Behaviour::Delay(Duration::from_millis(100)));
    let nginx = site.start("px_s2s_timeout 10s;");
    let mut visitors: Vec<(u32, Connection)> =
        (0..100).map(|n| (n, Connection::open(nginx.addr()))).collect();
    for (n, visitor) in &mut visitors {
        let user_agent = if *n % 2 == 0 { "PhantomJS/1.0" } else { BROWSER };
        let headers = &[format!("User-Agent: {user_agent}")];
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        visitor.send(client::text("GET", &format!("/{n}"), &headers, b""));
    }
    for (n, visitor) in &mut visitors {
        let status = visitor.receive().status;
        assert_eq!(status, if *n % 2 == 0 { 403 } else { 200 }, "{n}");
    }
    assert_eq!(site.risk_api.risk_calls().len(), 100);
    site.risk_api.assert_no_complaints();
}
