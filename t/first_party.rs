//! Tests for the px module: first-party requests, proxied for the browser.

mod support;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use px_sandbox::{Behaviour, CertificateFault, Endpoint, Reply, Sandbox};
use support::{
    BROWSER, Connection, Nginx, Origin, Response, SOON, curl, get, protect, protect_as, request,
};

/// `PXsandbox1` without its first two letters.
const SENSOR: &str = "/sandbox1/init.js";
const XHR: &str = "/sandbox1/xhr";
const CAPTCHA: &str = "/sandbox1/captcha";

const GIF: [u8; 35] = *b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00\x2c\
    \x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";

fn start(sandbox: &Sandbox, origin: &Origin, more: &str) -> Nginx {
    let (own, pass) = (protect(sandbox), origin.proxy_pass());
    Nginx::start(&format!("{own} {more} location / {{ {pass} }}"))
}

/// Type and body of the default answers; that of messages may be a picture.
fn is_default(path: &str, response: &Response) -> bool {
    let (content_type, body) = match path {
        path if path.ends_with(".gif") => ("image/gif", &GIF[..]),
        path if path.starts_with(XHR) => ("application/javascript", &b"{}"[..]),
        _ => ("application/javascript", &b""[..]),
    };
    response.status == 200
        && response.header("content-type") == Some(content_type)
        && response.body == body
}

#[test]
fn scripts_and_messages_reach_human_over_tls_with_the_specified_headers() {
    let sandbox = Sandbox::builder().certificate_fault(CertificateFault::None).start().unwrap();
    let origin = Origin::start();
    let url = format!("https://localhost:{}", sandbox.port());
    let nginx = Nginx::builder()
        .server(&format!(
            "{} px_ssl_trusted_certificate ca.pem; px_ip_headers X-Real-IP; location / {{ {} }}",
            protect_as(sandbox.app(), &url, &url),
            origin.proxy_pass()
        ))
        .start_with(|dir| fs::write(dir.join("ca.pem"), sandbox.ca_pem().unwrap()).unwrap());
    const VID: &str = "c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b";
    let cookie = format!("Cookie: session=secret; _pxvid={VID}; _px3=token");
    let headers = [
        &*cookie,
        "X-Real-IP: 203.0.113.9",
        "X-Forwarded-For: 198.51.100.1",
        "X-PX-Enforcer-True-IP: 192.0.2.66",
        "Authorization: Basic c2VjcmV0",
        "Proxy-Authorization: Basic c2VjcmV0",
        "TE: trailers",
        "Accept-Language: de",
    ];
    for (method, path, body, target) in [
        ("GET", "/sandbox1/init.js?x=1", &b""[..], "/PXsandbox1/main.min.js"),
        ("GET", "/sandbox1/captcha/captcha.js?a=c&u=1", b"", "/PXsandbox1/captcha.js?a=c&u=1"),
        ("GET", "/sandbox1/captcha/PXsandbox1/captcha.js?a=c", b"", "/PXsandbox1/captcha.js?a=c"),
        ("POST", "/sandbox1/xhr/api/v2/collector?a=b", b"payload=\0\xff", "/api/v2/collector?a=b"),
        ("GET", "/sandbox1/xhr/b/g.gif", b"", "/b/g.gif"),
        ("PUT", "/sandbox1/xhr", b"x", "/"),
        ("GET", "/sandbox1/xhr/a/../%2E/b%2fc%20d", b"", "/b%2fc%20d"),
    ] {
        sandbox.clear();
        let response = request(nginx.addr(), method, path, &headers, body);
        assert_eq!(response.status, 200, "{path}");
        let received = sandbox.received();
        let [received] = &*received else { panic!("{path}: {received:?}") };
        assert_eq!((&*received.method, &*received.target), (method, target), "{path}");
        assert_eq!(received.body, body, "{path}");
        assert_eq!(received.server_name.as_deref(), Some("localhost"));
        let values = |name: &str| received.values(name).collect::<Vec<_>>();
        assert_eq!(values("host"), [format!("localhost:{}", sandbox.port())]);
        assert_eq!(values("x-px-first-party"), ["1"]);
        assert_eq!(values("x-px-enforcer-true-ip"), ["203.0.113.9"]);
        assert_eq!(values("x-forwarded-for"), ["198.51.100.1, 203.0.113.9"]);
        assert_eq!(values("cookie"), [format!("pxvid={VID}")]);
        assert_eq!(values("accept-language"), ["de"]);
        assert_eq!(values("user-agent"), [BROWSER]);
        for gone in ["authorization", "proxy-authorization", "te"] {
            assert_eq!(values(gone), [""; 0], "{path} {gone}");
        }
        sandbox.assert_no_complaints();
    }
    // One connection serves all of them.
    assert_eq!(sandbox.connections(), 1);
    assert!(origin.requests().is_empty());
    let lines = nginx.wait_for_access_log(7);
    assert!(lines.iter().all(|line| line.contains("verdict=first_party")), "{lines:#?}");
    assert!(lines[0].contains("GET /sandbox1/init.js "), "{lines:#?}");
    assert!(sandbox.activities().is_empty() && sandbox.risk_calls().is_empty());
}

#[test]
fn whatever_human_answers_is_passed_on() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, "error_page 404 403 500 503 /error; ");
    let large = vec![b'x'; 3 << 20];
    let long = "y".repeat(20_000);
    for (status, body) in [
        (200, &large[..]),
        (204, b""),
        (304, b""),
        (301, b"r"),
        (404, b"nf"),
        (500, b"e"),
        (503, b""),
    ] {
        let reply = Reply::bytes("text/x-own", body.to_vec())
            .status(status)
            .header("ETag", "\"v1\"")
            .header("Set-Cookie", "a=b")
            .header("X-Accel-Redirect", "/secret")
            .header("Location", "https://client.example.net/x")
            .header("X-Long", &long);
        sandbox.answer_at(Endpoint::Xhr, reply);
        let response = get(nginx.addr(), "/sandbox1/xhr/m", &["If-None-Match: \"v1\""]);
        assert_eq!(response.status, status);
        assert!(response.body == body, "{status}: {} bytes", response.body.len());
        for (name, value) in [
            ("etag", "\"v1\""),
            ("set-cookie", "a=b"),
            ("location", "https://client.example.net/x"),
            ("x-long", &long),
        ] {
            assert_eq!(response.headers(name), [value], "{status}");
        }
    }
    let asked = sandbox.received_at(Endpoint::Xhr);
    assert!(asked.iter().all(|asked| asked.header("if-none-match") == Some("\"v1\"")));
    assert!(origin.requests().is_empty());
}

#[test]
fn where_nothing_comes_the_default_answers_are_given() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(
        &sandbox,
        &origin,
        "px_first_party_timeout_ms 300; error_page 500 502 503 504 /error; add_header X-Site yes;",
    );
    let paths =
        [SENSOR, "/sandbox1/captcha/captcha.js?a=c", "/sandbox1/xhr/api", "/sandbox1/xhr/p.gif"];
    let check = |what: &str| {
        for path in paths {
            for method in ["GET", "POST", "HEAD"] {
                let body: &[u8] = if method == "POST" { b"b" } else { b"" };
                let began = Instant::now();
                let mut response = request(nginx.addr(), method, path, &[], body);
                assert!(began.elapsed() < Duration::from_secs(10), "{what} {path}");
                if method == "HEAD" {
                    assert_eq!(response.status, 200, "{what} {path}");
                    assert!(response.body.is_empty());
                    continue;
                }
                // What nginx itself says on an error is gone.
                response.headers.retain(|(name, _)| name != "Server");
                assert!(
                    is_default(path.split('?').next().unwrap(), &response),
                    "{what} {path} {response:?}"
                );
                assert_eq!(response.header("x-site"), Some("yes"), "{what} {path}");
            }
        }
    };
    for (what, behaviour) in [
        ("silent", Behaviour::Hang),
        ("reset", Behaviour::Reset),
        ("closed", Behaviour::CloseBeforeAnswer),
        ("garbage", Behaviour::NotHttp(b"220 hello\r\n".to_vec())),
        ("slow head", Behaviour::Trickle(Duration::from_millis(100))),
    ] {
        for endpoint in [Endpoint::Sensor, Endpoint::Captcha, Endpoint::Xhr] {
            sandbox.behave_at(endpoint, behaviour.clone());
        }
        check(what);
    }
    sandbox.behave_well();
    sandbox.go_down();
    check("down");
    sandbox.come_back().unwrap();
    assert_eq!(get(nginx.addr(), "/sandbox1/xhr/x.gif", &[]).body.len(), 35);
    assert!(origin.requests().is_empty());
}

#[test]
fn a_paths_that_would_extend_the_host_leads_nowhere() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, "");
    for path in [
        "/sandbox1/xhr@evil.example/x",
        "/sandbox1/xhr.evil.example/x",
        "/sandbox1/xhr:8080/x",
        "/sandbox1/xhrfoo/bar",
        "/sandbox1/xhr%2f..%2f",
    ] {
        assert!(is_default(path, &get(nginx.addr(), path, &[])), "{path}");
    }
    assert!(sandbox.received().is_empty() && origin.requests().is_empty());
    // Case counts, and so does the whole of the sensor's path.
    for path in ["/SANDBOX1/init.js", "/PXsandbox1/init.js", "/sandbox1/init.jsx"] {
        get(nginx.addr(), path, &[]);
    }
    assert_eq!(origin.wait_for(3).len(), 3);
}

#[test]
fn custom_paths_serve_beside_the_default_ones_and_stand_on_block_pages() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(
        &sandbox,
        &origin,
        "px_custom_first_party_prefix fp; px_custom_first_party_sensor_endpoint /botdefense; \
         px_custom_first_party_xhr_endpoint /beacon/; px_custom_first_party_captcha_endpoint /human;",
    );
    for (paths, endpoint) in [
        ([SENSOR, "/fp/init.js", "/botdefense"], Endpoint::Sensor),
        (["/sandbox1/xhr/a", "/fp/xhr/a", "/beacon/a"], Endpoint::Xhr),
        (["/sandbox1/captcha/captcha.js", "/fp/captcha/captcha.js", "/human"], Endpoint::Captcha),
    ] {
        sandbox.clear();
        for path in paths {
            assert_eq!(get(nginx.addr(), path, &[]).status, 200, "{path}");
        }
        assert_eq!(sandbox.received_at(endpoint).len(), 3, "{paths:?}");
    }
    let page = get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]).text();
    for fact in ["\"/botdefense\"", "\"/beacon\"", "\"/human?a=c"] {
        assert!(page.contains(fact), "{fact}: {page}");
    }
    sandbox.assert_no_complaints();
}

#[test]
fn switched_off_nothing_is_fetched_and_pages_name_humans_hosts() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    for (more, fetched) in [
        ("px_first_party_enabled off;", &[][..]),
        ("px_reverse_xhr_enabled off;", &[Endpoint::Sensor, Endpoint::Captcha]),
    ] {
        sandbox.clear();
        let nginx = start(&sandbox, &origin, more);
        for path in [SENSOR, "/sandbox1/captcha/captcha.js", "/sandbox1/xhr/p.gif"] {
            let response = get(nginx.addr(), path, &[]);
            assert_eq!(response.status, 200);
            if fetched.is_empty() || path.starts_with(XHR) {
                assert!(is_default(path, &response), "{more} {path}");
            }
        }
        let asked: Vec<_> = sandbox.received().iter().map(|asked| asked.endpoint).collect();
        assert_eq!(asked, fetched, "{more}");
        let page = get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]).text();
        let host_url = format!("_pxHostUrl = \"{}\"", sandbox.url());
        assert!(page.contains(&host_url), "{more}: {page}");
        assert_eq!(page.contains("\"/sandbox1/init.js\""), !fetched.is_empty(), "{page}");
    }
    // Without the module nobody serves these paths.
    let nginx = start(&sandbox, &origin, "px_enabled_if \"\";");
    get(nginx.addr(), SENSOR, &[]);
    assert_eq!(origin.wait_for(1).len(), 1);
}

#[test]
fn large_bodies_stream_both_ways_on_http_1_and_2() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let (own, pass) = (protect(&sandbox), origin.proxy_pass());
    let nginx = Nginx::builder()
        .listen("http2")
        .server(&format!("{own} client_max_body_size 8m; location / {{ {pass} }}"))
        .start();
    let plain = Nginx::start(&format!("{own} client_max_body_size 8m; location / {{ {pass} }}"));
    let body: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
    sandbox.answer_at(Endpoint::Xhr, Reply::bytes("application/octet-stream", body.clone()));
    let file = nginx.dir().join("sent");
    fs::write(&file, &body).unwrap();
    let received = nginx.dir().join("received");
    let sent = format!("@{}", file.display());
    let url = format!("http://{}/sandbox1/xhr/up", nginx.addr());
    let out = received.display().to_string();
    let arguments =
        ["--http2-prior-knowledge", "-H", "Expect:", "--data-binary", &sent, "-o", &out, &url];
    assert_eq!(curl(&arguments), (String::new(), 0));
    assert!(fs::read(&received).unwrap() == body);
    // Chunked, and in one piece.
    let chunked = request(
        plain.addr(),
        "POST",
        "/sandbox1/xhr/up",
        &["Transfer-Encoding: chunked"],
        &[format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat(),
    );
    assert!(chunked.body == body);
    let whole = request(plain.addr(), "POST", "/sandbox1/xhr/up", &[], &body);
    assert!(whole.body == body);
    let asked = sandbox.received_at(Endpoint::Xhr);
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|asked| asked.body == body));
    // Too large for the operator is too large here, too.
    let refused =
        request(plain.addr(), "POST", "/sandbox1/xhr/up", &["Content-Length: 9000000"], b"x");
    assert_eq!(refused.status, 413);
}

#[test]
fn a_browser_that_sends_slowly_is_waited_for() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, "px_first_party_timeout_ms 200;");
    let mut connection = Connection::open(nginx.addr());
    connection.send(support::client::text(
        "POST",
        "/sandbox1/xhr/slow.gif",
        &["Transfer-Encoding: chunked"],
        b"",
    ));
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(150));
        connection.send("2\r\nxx\r\n");
    }
    connection.send("0\r\n\r\n");
    assert_eq!(connection.receive().status, 200);
    let asked = sandbox.wait_for(Endpoint::Xhr, 1, SOON);
    assert_eq!(asked[0].body, b"xxxxxxxx");
    // The connection goes on.
    connection.send(support::client::text("GET", SENSOR, &[], b""));
    assert_eq!(connection.receive().status, 200);
}

#[test]
fn a_connection_that_was_closed_while_idle_costs_no_message() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, "");
    for number in 0..5 {
        sandbox.behave_next_at(Endpoint::Xhr, 1, Behaviour::StaleKeepAlive);
        let response = request(nginx.addr(), "POST", "/sandbox1/xhr/x", &[], b"payload");
        assert_eq!(response.header("content-type"), Some("application/json"), "{number}");
    }
    assert_eq!(sandbox.received_at(Endpoint::Xhr).len(), 5);
}

#[test]
fn the_operators_own_rules_and_headers_apply() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let (own, pass) = (protect(&sandbox), origin.proxy_pass());
    let nginx = Nginx::start(&format!(
        "{own} error_page 403 /denied;\n\
         location / {{ try_files $uri $uri/ =404; }}\n\
         location /sandbox1/init.js {{ add_header X-Own sensor; proxy_set_header Cookie all; \
             proxy_hide_header ETag; proxy_intercept_errors on; mirror /copy; }}\n\
         location /sandbox1/xhr {{ deny all; }}\n\
         location = /copy {{ px_enabled off; {pass} }}\n\
         location = /denied {{ px_enabled off; return 403 denied; }}"
    ));
    // Neither try_files nor a mirror gets hold of it.
    assert_eq!(get(nginx.addr(), "/sandbox1/captcha/captcha.js", &[]).status, 200);
    let sensor = get(nginx.addr(), SENSOR, &[]);
    assert_eq!((sensor.status, sensor.header("x-own")), (200, Some("sensor")));
    assert!(sensor.text().contains("px-sandbox"));
    assert_eq!(sandbox.received_at(Endpoint::Sensor)[0].header("cookie"), None);
    let denied = get(nginx.addr(), "/sandbox1/xhr/x", &[]);
    assert_eq!((denied.status, &*denied.text()), (403, "denied"));
    assert!(sandbox.received_at(Endpoint::Xhr).is_empty());
    assert!(origin.requests().is_empty());
}

/// One of several access checks is enough: who passes none gets nothing, whoever passes one is served.
#[test]
fn satisfy_any_is_satisfied_by_others() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let (own, pass) = (protect(&sandbox), origin.proxy_pass());
    for (rules, status) in [
        ("deny all; auth_basic site; auth_basic_user_file users;", 401),
        ("allow all; auth_basic site; auth_basic_user_file users;", 200),
    ] {
        let nginx = Nginx::builder()
            .server(&format!("{own} satisfy any; {rules} location / {{ {pass} }}"))
            .start_with(|dir| std::fs::write(dir.join("users"), "").unwrap());
        assert_eq!(get(nginx.addr(), SENSOR, &[]).status, status, "{rules}");
    }
    assert_eq!(sandbox.received_at(Endpoint::Sensor).len(), 1);
}

#[test]
fn the_sensor_may_be_kept_in_a_cache_of_the_operators() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let (own, pass) = (protect(&sandbox), origin.proxy_pass());
    let nginx = Nginx::builder()
        .http("proxy_cache_path cache keys_zone=sensors:1m; gzip_types application/javascript;")
        .server(&format!("{own} px_first_party_cache sensors 1h; gzip on; location / {{ {pass} }}"))
        .start();
    let script = "x".repeat(5000);
    sandbox.answer_at(Endpoint::Sensor, Reply::bytes("application/javascript", script.clone()));
    for number in 0..4 {
        let zipped = number % 2 == 1;
        let headers: &[&str] = if zipped { &["Accept-Encoding: gzip"] } else { &[] };
        let response = get(nginx.addr(), SENSOR, headers);
        assert_eq!(response.header("content-encoding"), zipped.then_some("gzip"), "{number}");
        assert_eq!(response.body.len() == 5000, !zipped, "{number}");
    }
    let asked = sandbox.received_at(Endpoint::Sensor);
    assert_eq!((asked.len(), asked[0].header("accept-encoding")), (1, None));
    // It outlives an outage. Messages and captcha are never kept.
    sandbox.go_down();
    assert_eq!(get(nginx.addr(), SENSOR, &[]).body.len(), 5000);
    sandbox.come_back().unwrap();
    for _ in 0..2 {
        get(nginx.addr(), "/sandbox1/captcha/captcha.js", &[]);
        get(nginx.addr(), "/sandbox1/xhr/x", &[]);
    }
    assert_eq!(sandbox.received_at(Endpoint::Captcha).len(), 2);
    assert_eq!(sandbox.received_at(Endpoint::Xhr).len(), 2);
    assert!(sandbox.received_at(Endpoint::Captcha)[0].path().starts_with("/PXsandbox1"));
    assert!(CAPTCHA.starts_with("/sandbox1"));
}

#[test]
fn a_browser_that_goes_away_leaves_nothing_behind() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, "px_first_party_timeout_ms 400;");
    sandbox.behave_at(Endpoint::Sensor, Behaviour::Hang);
    for _ in 0..20 {
        let mut connection = Connection::open(nginx.addr());
        connection.send(support::client::text("GET", SENSOR, &[], b""));
        sandbox.wait_for(Endpoint::Sensor, 1, SOON);
        drop(connection);
    }
    thread::sleep(Duration::from_millis(600));
    sandbox.behave_well();
    assert_eq!(get(nginx.addr(), SENSOR, &[]).status, 200);
    nginx.quit();
}

#[test]
fn a_host_that_does_not_resolve_gives_default_answers() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let own = protect(&sandbox).replace(
        &format!("px_client_host {}", sandbox.url()),
        "px_client_host https://nowhere.invalid",
    );
    let nginx = Nginx::start(&format!("{own} location / {{ {} }}", origin.proxy_pass()));
    assert!(is_default(SENSOR, &get(nginx.addr(), SENSOR, &[])));
    assert_eq!(get(nginx.addr(), "/sandbox1/xhr/x", &[]).text(), "{}");
    assert_eq!(sandbox.received_at(Endpoint::Xhr).len(), 1);
}
