//! Tests for the px module: a traffic-analysis node is sent each request once, as the client sent it, and its
//! verdict is heeded.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use px_sandbox::{Behaviour, CertificateFault, Endpoint, NodeMode, Received, Reply, Sandbox};
use support::h2::H2;
use support::node::{self, Site, line};
use support::prometheus::Metrics;
use support::{Connection, Nginx, Origin, client, get, request, wait_until};

const BLOCKED: &str = "{\"error\":{\"code\":403,\"message\":\"request blocked\"}}";

/// Header lines of what the node received, `Name: value`, in order.
fn lines(received: &Received) -> Vec<String> {
    received.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

#[test]
fn the_node_is_sent_the_request_and_the_origin_receives_it_unchanged() {
    let site = Site::start("");
    let plain = Nginx::start(&format!("location / {{ {} }}", site.origin.proxy_pass()));
    let headers = &[
        "X-B: 2",
        "Cookie: session=a; other=b",
        "X-Forwarded-For: 10.0.0.1",
        "x-b: 1",
        "Authorization: Basic dXNlcjpwYXNz",
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "X-B: ",
    ];
    let answer = request(site.nginx.addr(), "PUT", "/page?x=1", headers, b"0123456789");
    assert_eq!((answer.status, answer.text().as_str()), (200, "origin"));
    request(plain.addr(), "PUT", "/page?x=1", headers, b"0123456789");
    let [with, without] = &site.origin.requests()[..] else { panic!("two requests") };
    assert_eq!(with, without);

    let mirrored = site.node.mirrored();
    let [received] = &mirrored[..] else { panic!("{} requests", mirrored.len()) };
    assert_eq!(line(received), "PUT /page?x=1");
    assert_eq!(received.body, b"0123456789");
    let id = received.header("x-request-id").expect("an id");
    let port = site.nginx.addr().port();
    let mut expected = vec![
        format!("Host: {}", site.node.addr()),
        "Content-Length: 10".to_owned(),
        "X-Forwarded-Host: site.test".to_owned(),
        "X-Forwarded-Proto: http".to_owned(),
        format!("X-Forwarded-Port: {port}"),
        "X-Forwarded-For: 10.0.0.1, 127.0.0.1".to_owned(),
        "X-Real-IP: 127.0.0.1".to_owned(),
        format!("X-Request-ID: {id}"),
        "X-PX-Node-Protocol: mirror/1".to_owned(),
        format!("X-PX-Node-Connector: nginx/{}", env!("CARGO_PKG_VERSION")),
        "X-PX-Node-Mode: sync".to_owned(),
        "X-PX-Node-Leg: request".to_owned(),
        "X-PX-Node-Original: 1.1".to_owned(),
        "X-PX-Node-Body: full; sent=10; total=10".to_owned(),
    ];
    let browser = format!("User-Agent: {}", support::BROWSER);
    expected
        .extend([&*browser, "X-B: 2", "Cookie: session=a; other=b", "x-b: 1"].map(str::to_owned));
    expected.extend(["Authorization: Basic dXNlcjpwYXNz", "X-Hop: 1", "X-B: "].map(str::to_owned));
    assert_eq!(lines(received), expected);
    site.node.assert_no_complaints();
    let log = site.log(1);
    assert!(log[0].starts_with("200 PUT pass t="), "{log:?}");
    assert!(log[0].ends_with(&format!("id={id} v=-")), "{log:?}");
}

/// The vendor's documented test: a path traversal through the gateway is blocked.
#[test]
fn an_attack_never_reaches_the_origin() {
    let site = Site::start("");
    site.node.answer_at(
        Endpoint::Node,
        Reply::bytes("text/html", "<p>secret</p>").status(403).header("Set-Cookie", "a=b"),
    );
    for method in ["GET", "POST", "HEAD"] {
        let answer = request(site.nginx.addr(), method, "/etc/passwd", &[], b"");
        assert_eq!(answer.status, 403, "{method}");
        let body = if method == "HEAD" { "" } else { BLOCKED };
        assert_eq!(answer.text(), body, "{method}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("content-length"), Some("50"));
        assert_eq!(answer.header("set-cookie"), None, "{method}");
    }
    assert!(site.origin.requests().is_empty());
    assert_eq!(site.statuses(3), ["block", "block", "block"]);
    site.node.assert_no_complaints();
}

#[test]
fn the_sandboxs_own_rules_block_or_only_watch() {
    let site = Site::start("");
    for (path, body, status) in [
        ("/etc/passwd", "", 403),
        ("/a/../b", "", 403),
        ("/?id=1%27%20or%20%271%27=%271", "", 403),
        ("/?q=<script>alert(1)</script>", "", 403),
        ("/form", "q=1 union select 2", 403),
        ("/form", "q=hello", 200),
        ("/", "", 200),
    ] {
        let answer = request(site.nginx.addr(), "POST", path, &[], body.as_bytes());
        assert_eq!(answer.status, status, "{path} {body}");
    }
    let watching = Sandbox::builder().node(NodeMode::Monitoring).start().unwrap();
    let nginx = node::builder(&format!(
        "{} location / {{ {} }}",
        node::connect(&watching),
        site.origin.proxy_pass()
    ));
    let nginx = nginx.start();
    assert_eq!(get(nginx.addr(), "/etc/passwd", &[]).status, 200);
    assert_eq!(watching.mirrored().len(), 1);
    watching.assert_no_complaints();
    site.node.assert_no_complaints();
}

#[test]
fn only_403_blocks_and_only_2xx_is_a_pass() {
    let site = Site::start("");
    let mut expected = Vec::new();
    for (status, word) in [
        (200, "pass"),
        (204, "pass"),
        (299, "pass"),
        (301, "error"),
        (401, "error"),
        (404, "error"),
        (500, "error"),
        (403, "block"),
    ] {
        let reply = Reply::new(status).header("Location", "/elsewhere");
        site.node.answer_at(Endpoint::Node, reply.header("X-Accel-Redirect", "/etc/passwd"));
        let answer = get(site.nginx.addr(), "/", &[]);
        assert_eq!(answer.status, if status == 403 { 403 } else { 200 }, "{status}");
        expected.push(word);
        assert_eq!(site.statuses(expected.len()), expected, "{status}");
    }
    let troubles = site.troubles();
    assert_eq!(troubles.len(), 4, "{troubles:?}");
    assert!(troubles[0].contains("px: wallarm node: status 301 after "), "{}", troubles[0]);
}

#[test]
fn targets_arrive_byte_for_byte() {
    let site = Site::start("");
    site.node.answer_at(Endpoint::Node, Reply::new(200));
    let query = format!("/q?{}", "x".repeat(6000));
    let targets = [
        "/",
        "//x",
        "/a/../etc/passwd",
        "/a/./b//c",
        "/a/%2e%2e%2fb",
        "/a/%2E%2e/x%0a%2F",
        "/?a=b?c",
        "/?",
        "/a;b=c?<script>\"'`{}|\\^",
        "/\u{e9}?\u{e9}",
        "/a#b",
        &query,
    ];
    for target in targets {
        get(site.nginx.addr(), target, &[]);
        let mirrored = site.node.mirrored();
        let last = mirrored.last().map(|received| line(received)).unwrap_or_default();
        assert_eq!(last, format!("GET {target}"));
    }
    let with_prefix = node::builder(&format!(
        "px_wallarm_node_address {}/in/here/; location / {{ {} }}",
        site.node.url(),
        site.origin.proxy_pass()
    ));
    let nginx = with_prefix.start();
    site.node.clear();
    get(nginx.addr(), "//a/../b?c", &[]);
    assert_eq!(line(&site.node.mirrored()[0]), "GET /in/here//a/../b?c");
}

#[test]
fn what_a_client_says_for_the_connector_is_replaced() {
    let site = Site::start("px_ip_headers X-True-IP;");
    let spoofed = &[
        "X-PX-Node-Leg: response",
        "X-PX-Node-Mode: async",
        "X-Px-Node-Anything: 1",
        "X-Real-IP: 1.1.1.1",
        "X-True-IP: 203.0.113.9",
        "X-Forwarded-Host: other.test",
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Port: 1",
        "X-Request-ID: mine",
        "TE: trailers",
        "Expect: 100-continue",
    ];
    assert_eq!(get(site.nginx.addr(), "/", spoofed).status, 200);
    let received = &site.node.mirrored()[0];
    for (name, expected) in [
        ("x-px-node-leg", "request"),
        ("x-px-node-mode", "sync"),
        ("x-real-ip", "203.0.113.9"),
        ("x-forwarded-host", "site.test"),
        ("x-forwarded-proto", "http"),
    ] {
        assert_eq!(received.values(name).collect::<Vec<_>>(), [expected], "{name}");
    }
    assert_eq!(received.header("x-px-node-anything"), None);
    assert_ne!(received.header("x-request-id"), Some("mine"));
    site.node.assert_no_complaints();
}

#[test]
fn methods_and_upgrades_are_told() {
    let site = Site::start("px_sensitive_headers X-Token;");
    for method in ["DELETE", "PROPFIND", "X-OWN"] {
        request(site.nginx.addr(), method, "/", &["X-Token: t", "Cookie: a=b"], b"");
        let mirrored = site.node.mirrored();
        let received = mirrored.last().expect("a request");
        assert_eq!(received.method, method);
        // The list counts where the operator sets it.
        assert_eq!(received.header("x-token"), None);
        assert_eq!(received.header("cookie"), Some("a=b"));
    }
    let upgrade = &["Connection: Upgrade", "Upgrade: websocket", "Content-Length: 3"];
    request(site.nginx.addr(), "GET", "/", upgrade, b"abc");
    request(site.nginx.addr(), "POST", "/", &["Content-Type: application/grpc+proto"], b"abc");
    let mirrored = site.node.mirrored();
    let [.., upgraded, call] = &mirrored[..] else { panic!("requests") };
    assert_eq!(upgraded.header("x-px-node-upgrade"), Some("websocket"));
    // Its body is one that the origin receives; that of a call may have no end.
    let note = |of: &Received| of.header("x-px-node-body").unwrap_or_default().to_owned();
    assert_eq!((&*note(upgraded), &*upgraded.body), ("full; sent=3; total=3", &b"abc"[..]));
    assert_eq!((&*note(call), &*call.body), ("truncated; sent=0; total=3", &b""[..]));
    site.node.assert_no_complaints();
}

/// Sends the body and gives what the node was told and sent of it.
fn body_at_the_node(site: &Site, body: &[u8], headers: &[&str]) -> (String, Vec<u8>) {
    site.node.clear();
    let bytes = client::text("POST", "/", headers, body);
    let mut connection = Connection::open(site.nginx.addr());
    connection.send(bytes);
    assert_eq!(connection.receive().status, 200);
    let received = &site.node.mirrored()[0];
    let note = received.header("x-px-node-body").expect("a note").to_owned();
    (note, received.body.clone())
}

#[test]
fn bodies_are_sent_up_to_the_limit_wherever_they_lie() {
    let body: Vec<u8> = (0..200_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    for (how, directives) in [
        ("in memory", "client_body_buffer_size 256k;"),
        ("partly on disk", "client_body_buffer_size 16k;"),
        ("on disk", "client_body_in_file_only clean;"),
        ("streaming", "proxy_request_buffering off; proxy_http_version 1.1;"),
    ] {
        let site = Site::start(&format!(
            "client_max_body_size 1m; px_wallarm_max_body_size 100000; location / {{ {directives} PASS }}"
        ));
        for (length, note) in [
            (0, "none".to_owned()),
            (10, "full; sent=10; total=10".to_owned()),
            (100_000, "full; sent=100000; total=100000".to_owned()),
            (100_001, "truncated; sent=100000; total=100001".to_owned()),
            (200_000, "truncated; sent=100000; total=200000".to_owned()),
        ] {
            site.origin.clear();
            let whole = &body[..length];
            let sent = &body[..length.min(100_000)];
            let (told, received) = body_at_the_node(&site, whole, &[]);
            assert_eq!(told, note, "{how}");
            assert!(received == sent, "{how} {length}: {} bytes", received.len());
            let at_origin = &site.origin.wait_for(1)[0];
            assert!(at_origin.ends_with(whole), "{how} {length}");
        }
        let chunks = [b"5\r\nhello\r\n", &b"6\r\n world\r\n0\r\n\r\n"[..]].concat();
        let (told, received) = body_at_the_node(&site, &chunks, &["Transfer-Encoding: chunked"]);
        assert_eq!(
            (&*told, &received[..]),
            ("full; sent=11; total=11", &b"hello world"[..]),
            "{how}"
        );
        site.node.assert_no_complaints();
    }
    let site = Site::start("px_wallarm_max_body_size 0;");
    let (told, received) = body_at_the_node(&site, b"abc", &[]);
    assert_eq!((&*told, received.len()), ("truncated; sent=0; total=3", 0));
    let chunked = &["Transfer-Encoding: chunked"];
    let (told, received) = body_at_the_node(&site, b"3\r\nabc\r\n0\r\n\r\n", chunked);
    assert_eq!((&*told, received.len()), ("truncated; sent=0; total=unknown", 0));
}

#[test]
fn http2_requests_are_told_as_such_with_bodies_of_any_length() {
    let site = Site::start_with("", |server| node::builder(server).listen("http2"));
    let mut h2 = H2::open(site.nginx.addr());
    h2.request(1, "GET", "/a?b", &[("cookie", "a=1"), ("cookie", "b=2")], true);
    assert_eq!(h2.receive(1).status, 200);
    h2.request(3, "POST", "/c", &[], false);
    h2.data(3, b"hello ", false);
    h2.data(3, b"world", true);
    assert_eq!(h2.receive(3).status, 200);
    h2.request(5, "GET", "/etc/passwd", &[], true);
    let answer = h2.receive(5);
    assert_eq!((answer.status, &answer.body[..]), (403, BLOCKED.as_bytes()));
    let mirrored = site.node.mirrored();
    let [plain, post, _] = &mirrored[..] else { panic!("{}", mirrored.len()) };
    assert_eq!((&*line(plain), plain.header("x-px-node-original")), ("GET /a?b", Some("2.0")));
    assert_eq!(plain.header("x-forwarded-host"), Some("site.test"));
    assert_eq!(plain.header("cookie"), Some("a=1; b=2"));
    assert_eq!(post.header("x-px-node-body"), Some("full; sent=11; total=11"));
    assert_eq!(post.body, b"hello world");
    site.node.assert_no_complaints();
}

/// Files below the site's root.
fn files(dir: &Path) {
    let html = dir.join("html");
    fs::create_dir_all(&html).unwrap();
    fs::set_permissions(&html, fs::Permissions::from_mode(0o777)).unwrap();
    for (name, text) in [
        ("page.html", "page"),
        ("index.html", "index"),
        ("error.html", "error page"),
        ("ssi.html", "<!--#include virtual=\"/inc/a\" --><!--#include virtual=\"/inc/b\" -->"),
    ] {
        fs::write(html.join(name), text).unwrap();
    }
}

#[test]
fn whatever_way_a_request_takes_the_node_is_sent_it_once() {
    for (name, server, path, status) in [
        ("a file", "location / { }", "/page.html", 200),
        ("an index", "location / { }", "/", 200),
        ("an error page", "error_page 404 /error.html; location / { }", "/none", 404),
        (
            "an error page with a node of its own",
            "error_page 404 /error.html; location / { } location = /error.html { px_wallarm_timeout_ms 1s; }",
            "/none",
            404,
        ),
        ("try_files", "location / { try_files $uri @app; } location @app { PASS }", "/none", 200),
        (
            "an intercepted answer",
            "location / { proxy_pass http://127.0.0.1:1; error_page 502 = @other; } \
             location @other { PASS }",
            "/",
            200,
        ),
        (
            "a named location",
            "location / { error_page 418 = @app; return 418; } location @app { PASS }",
            "/",
            200,
        ),
        (
            "auth_request",
            "location / { auth_request /auth; PASS } location = /auth { internal; PASS }",
            "/",
            200,
        ),
        ("ssi", "location / { ssi on; } location /inc/ { PASS }", "/ssi.html", 200),
        ("mirror", "location / { mirror /copy; PASS } location /copy { internal; PASS }", "/", 200),
        ("rewrite", "location /a { rewrite ^ /page.html last; } location / { }", "/a", 200),
        ("satisfy", "location / { satisfy any; allow all; deny all; PASS }", "/", 200),
    ] {
        let (node, origin) = (node::node(), Origin::start());
        let server = format!("{}{server}", node::connect(&node));
        let server = server.replace("PASS", &origin.proxy_pass());
        let mut nginx = node::builder(&server).start_with(files);
        // What nothing listens for is in the log, too.
        nginx.lenient();
        assert_eq!(get(nginx.addr(), path, &[]).status, status, "{name}");
        wait_until("a log line", || !nginx.log_lines("node.log").is_empty());
        assert_eq!(node.mirrored().len(), 1, "{name}");
        assert!(nginx.log_lines("node.log")[0].contains(" pass "), "{name}");
        // And where it is blocked nothing of the kind happens.
        node.answer_at(Endpoint::Node, Reply::new(403));
        assert_eq!(get(nginx.addr(), path, &[]).text(), BLOCKED, "{name}");
        assert_eq!(node.mirrored().len(), 2, "{name}");
    }
}

#[test]
fn levels_inherit_switch_off_and_choose_for_themselves() {
    let other = node::node();
    let site = Site::start(&format!(
        "location / {{ PASS }} \
         location /off/ {{ px_wallarm_node_address off; PASS }} \
         location /other/ {{ {} px_wallarm_timeout_ms 5s; PASS }} \
         location /some/ {{ px_wallarm_if $arg_a $arg_b; PASS }} \
         location /files/ {{ px_wallarm_filter_extensions on; PASS }} \
         location /own/ {{ px_wallarm_filter_extensions on; px_filter_by_extension xyz; PASS }} \
         location = /status {{ px_status prometheus; }}",
        node::connect(&other)
    ));
    for (path, here, there) in [
        ("/", 1, 0),
        ("/off/", 0, 0),
        ("/other/", 0, 1),
        ("/some/", 0, 0),
        ("/some/?a=0", 0, 0),
        ("/some/?b=1", 1, 0),
        ("/files/a.css", 0, 0),
        ("/files/a.css;.php", 1, 0),
        ("/files/a", 1, 0),
        ("/own/a.css", 1, 0),
        ("/own/a.xyz", 0, 0),
        ("/status", 0, 0),
    ] {
        site.node.clear();
        other.clear();
        assert_eq!(get(site.nginx.addr(), path, &[]).status, 200, "{path}");
        assert_eq!((site.node.mirrored().len(), other.mirrored().len()), (here, there), "{path}");
    }
    let off = site.statuses(12).iter().filter(|status| *status == "off").count();
    assert_eq!(off, 6);
}

#[test]
fn where_no_node_is_set_nothing_is_sent_and_nothing_installed() {
    let origin = Origin::start();
    let nginx = node::builder(&format!(
        "px_wallarm_node_address off; px_wallarm_blocking on; location / {{ {} }} \
         location = /status {{ px_status; }}",
        origin.proxy_pass()
    ))
    .start();
    assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    wait_until("a log line", || !nginx.log_lines("node.log").is_empty());
    assert_eq!(nginx.log_lines("node.log")[0], "200 GET off t=- id=- v=-");
    // No shared memory, hence nothing to count in.
    assert!(!get(nginx.addr(), "/status", &[]).text().contains("start_time"));
}

#[test]
fn the_node_is_counted() {
    let site = Site::start(
        "location / { PASS } location /copy { px_wallarm_blocking off; PASS } \
         location = /status { px_status; }",
    );
    get(site.nginx.addr(), "/", &[]);
    get(site.nginx.addr(), "/etc/passwd", &[]);
    get(site.nginx.addr(), "/copy", &[]);
    let metrics = || {
        let text = get(site.nginx.addr(), "/status?format=prometheus", &[]).text();
        Metrics::parse(&text).expect("the format")
    };
    let requests = |mode, result| {
        metrics().get("px_wallarm_requests_total", &[("mode", mode), ("result", result)])
    };
    wait_until("the copy", || requests("async", "pass") == 1.0);
    for (mode, result, expected) in [
        ("sync", "pass", 1.0),
        ("sync", "block", 1.0),
        ("sync", "error", 0.0),
        ("async", "block", 0.0),
    ] {
        assert_eq!(requests(mode, result), expected, "{mode} {result}");
    }
    let metrics = metrics();
    assert_eq!(metrics.get("px_wallarm_dropped_total", &[]), 0.0);
    assert_eq!(metrics.get("px_wallarm_inflight", &[]), 0.0);
    assert_eq!(metrics.get("px_wallarm_duration_seconds_count", &[]), 3.0);
    let json = get(site.nginx.addr(), "/status", &[]).text();
    assert!(json.contains("\"wallarm\""), "{json}");
}

#[test]
fn a_certificate_is_verified_and_the_connection_kept() {
    let node = Sandbox::builder().node(NodeMode::Blocking).tls(true).start().unwrap();
    let origin = Origin::start();
    let server = format!(
        "px_wallarm_node_address https://localhost:{}; \
         px_wallarm_ssl_trusted_certificate node.pem; location / {{ {} }}",
        node.port(),
        origin.proxy_pass()
    );
    let nginx = node::builder(&server).start_with(|dir| node::write_authority(&node, dir));
    for _ in 0..5 {
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    }
    assert_eq!(get(nginx.addr(), "/etc/passwd", &[]).status, 403);
    let mirrored = node.mirrored();
    assert_eq!((mirrored.len(), node.connections()), (6, 1));
    let host = format!("localhost:{}", node.port());
    for received in &mirrored {
        assert_eq!(received.server_name.as_deref(), Some("localhost"));
        assert_eq!(received.header("host"), Some(&*host));
        assert_eq!(received.header("x-forwarded-host"), Some("site.test"));
    }
    node.assert_no_complaints();
    let log = nginx.quit();
    assert!(!log.contains("[error]"), "{log}");
    // Not verified, where the operator wants it so.
    let stranger = Sandbox::builder()
        .node(NodeMode::Blocking)
        .certificate_fault(CertificateFault::UnknownIssuer)
        .start()
        .unwrap();
    let nginx = node::builder(&format!(
        "px_wallarm_node_address {}; px_wallarm_ssl_verify off; location / {{ {} }}",
        stranger.url(),
        origin.proxy_pass()
    ))
    .start();
    assert_eq!(get(nginx.addr(), "/etc/passwd", &[]).status, 403);
}

#[test]
fn idle_connections_are_kept_and_closed_ones_replaced() {
    let site = Site::start("px_wallarm_keepalive 4;");
    let mut connection = Connection::open(site.nginx.addr());
    for _ in 0..1000 {
        connection.send(client::text("GET", "/", &[], b""));
        assert_eq!(connection.receive().status, 200);
    }
    assert!(site.node.connections() <= 5, "{}", site.node.connections());
    // Eight at once need eight, of which four are kept.
    let together = || {
        site.node.behave_at(Endpoint::Node, Behaviour::Delay(Duration::from_millis(200)));
        let mut waiting: Vec<Connection> =
            (0..8).map(|_| Connection::open(site.nginx.addr())).collect();
        waiting.iter_mut().for_each(|one| one.send(client::text("GET", "/", &[], b"")));
        waiting.iter_mut().for_each(|one| assert_eq!(one.receive().status, 200));
        site.node.behave_well();
        wait_until("four to be kept", || site.node.open_connections() == 4);
    };
    together();
    let before = site.node.connections();
    together();
    assert_eq!(site.node.connections(), before + 4);
    // A node that closes a connection just after an answer, as at a limit of its own.
    site.node.behave_at(Endpoint::Node, Behaviour::StaleKeepAlive);
    for _ in 0..20 {
        assert_eq!(get(site.nginx.addr(), "/etc/passwd", &[]).status, 403);
    }
    for _ in 0..5 {
        site.node.behave_at(Endpoint::Node, Behaviour::Normal);
        site.node.behave_next_at(Endpoint::Node, 1, Behaviour::Normal);
        site.node.behave_next_at(Endpoint::Node, 1, Behaviour::Normal);
        site.node.behave_next_at(Endpoint::Node, 1, Behaviour::StaleKeepAlive);
        for _ in 0..3 {
            assert_eq!(get(site.nginx.addr(), "/etc/passwd", &[]).status, 403);
        }
    }
    assert_eq!(site.troubles(), [""; 0]);
    site.node.assert_no_complaints();
}

#[test]
fn neither_a_large_nor_a_slow_body_holds_the_verdict_up() {
    let site = Site::start("px_wallarm_timeout_ms 10s;");
    let large = Reply::bytes("text/plain", "x".repeat(1 << 20)).status(403);
    site.node.answer_at(Endpoint::Node, large);
    let mut connection = Connection::open(site.nginx.addr());
    for _ in 0..3 {
        connection.send(client::text("GET", "/", &[], b""));
        assert_eq!(connection.receive().status, 403);
    }
    // The rest of such an answer is not waited for.
    assert_eq!(site.node.connections(), 3);
    let truncated = Behaviour::Truncate { declared: 100, sent: 10 };
    site.node.behave_at(Endpoint::Node, truncated);
    assert_eq!(get(site.nginx.addr(), "/", &[]).status, 403);
    assert_eq!(site.statuses(4), ["block"; 4]);
    site.node.behave_well();
    site.node.behave_at(Endpoint::Node, Behaviour::ChunkedAnswer);
    assert_eq!(get(site.nginx.addr(), "/", &[]).status, 200);
    assert_eq!(site.statuses(5)[4], "pass");
}

#[test]
fn interim_answers_are_skipped() {
    let site = Site::start("");
    for (text, status, word) in [
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 403, "block"),
        (
            "HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            200,
            "pass",
        ),
        ("HTTP/1.1 100 Continue\r\n\r\n", 200, "error"),
    ] {
        let before = site.nginx.log_lines("node.log").len();
        let answer = Behaviour::NotHttp(text.as_bytes().to_vec());
        site.node.behave_at(Endpoint::Node, answer);
        assert_eq!(get(site.nginx.addr(), "/", &[]).status, status, "{text:?}");
        assert_eq!(site.statuses(before + 1)[before], word, "{text:?}");
    }
}
