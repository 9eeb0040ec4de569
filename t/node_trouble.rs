//! Tests for the px module: whatever a traffic-analysis node does or does not do, there is an answer in time, and
//! one line about it.

mod support;

use std::thread;
use std::time::Duration;

use px_sandbox::{Behaviour, CertificateFault, Endpoint, NodeMode, Reply, Sandbox};
use support::h2::H2;
use support::nginx::free_addr;
use support::node::{self, Site};
use support::prometheus::Metrics;
use support::{Connection, Origin, client, get, wait_until};

/// A time limit that nothing here reaches unless the node is silent for ever.
const LIMIT: &str = "px_wallarm_timeout_ms 200ms;";

/// The time in a line of the log, milliseconds.
fn time(line: &str) -> u64 {
    let time = line.split(" t=").nth(1).and_then(|rest| rest.split(' ').next()).expect("a time");
    let (seconds, rest) = time.split_once('.').expect("with milliseconds");
    seconds.parse::<u64>().expect("a number") * 1000 + rest.parse::<u64>().expect("a number")
}

#[test]
fn a_silent_node_costs_the_time_limit_and_no_more() {
    for behaviour in [
        Behaviour::Hang,
        Behaviour::Delay(Duration::from_secs(30)),
        Behaviour::Trickle(Duration::from_millis(100)),
    ] {
        let site = Site::start(LIMIT);
        site.node.behave_at(Endpoint::Node, behaviour.clone());
        assert_eq!(get(site.nginx.addr(), "/etc/passwd", &[]).text(), "origin", "{behaviour}");
        let log = site.log(1);
        assert!(log[0].starts_with("200 GET timeout "), "{behaviour}: {log:?}");
        // nginx's clock stands still while it works: a timer may be a little early by another.
        let took = time(&log[0]);
        assert!((190..30_000).contains(&took), "{behaviour}: {log:?}");
        let troubles = site.troubles();
        let [line] = &troubles[..] else { panic!("{behaviour}: {troubles:?}") };
        let id =
            log[0].split(" id=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an id");
        assert!(line.contains("[error]"), "{line}");
        assert!(line.contains(&format!("px: wallarm node: timeout after {took} ms")), "{line}");
        let rest = format!(
            " ms, request passed, id {id} while asking the traffic-analysis node, client: "
        );
        assert!(line.contains(&rest), "{line}");
    }
}

/// A site in front of whatever stands at `url`.
fn site_before(url: &str, directives: &str) -> (Origin, support::nginx::Builder) {
    let origin = Origin::start();
    let builder = node::builder(&format!(
        "px_wallarm_node_address {url}; {directives} location / {{ {} }} \
         location /closed/ {{ px_wallarm_fail_open off; error_page 503 /sorry; {} }}",
        origin.proxy_pass(),
        origin.proxy_pass()
    ));
    (origin, builder)
}

#[test]
fn a_node_that_is_not_there_lets_pass_or_refuses_as_it_is_told() {
    let tls = |fault| {
        Sandbox::builder().node(NodeMode::Blocking).certificate_fault(fault).start().unwrap()
    };
    let by_name = |node: &Sandbox| format!("https://localhost:{}", node.port());
    let (wrong_name, expired, stranger) = (
        tls(CertificateFault::WrongName),
        tls(CertificateFault::Expired),
        tls(CertificateFault::UnknownIssuer),
    );
    let plain = node::node();
    let trusted = "px_wallarm_ssl_trusted_certificate node.pem;";
    for (name, url, directives, authority, cause) in [
        ("refused", format!("http://{}", free_addr()), "", None, "connect failed"),
        (
            "unresolvable",
            "https://no-such-host.invalid".to_owned(),
            "resolver 127.0.0.1;",
            None,
            "resolve failed",
        ),
        ("another name", by_name(&wrong_name), trusted, Some(&wrong_name), "tls failed"),
        ("expired", by_name(&expired), trusted, Some(&expired), "tls failed"),
        ("unknown", by_name(&stranger), trusted, Some(&stranger), "tls failed"),
        ("no TLS", by_name(&plain), "", None, "tls failed"),
    ] {
        let (origin, builder) = site_before(&url, directives);
        let nginx = builder.start_with(|dir| {
            if let Some(authority) = authority {
                node::write_authority(authority, dir);
            }
        });
        assert_eq!(get(nginx.addr(), "/etc/passwd", &[]).text(), "origin", "{name}");
        let refused = get(nginx.addr(), "/closed/", &[]);
        assert_eq!(refused.status, 503, "{name}");
        assert_eq!(
            refused.text(),
            "{\"error\":{\"code\":503,\"message\":\"request not analyzed\"}}",
            "{name}"
        );
        assert_eq!(refused.header("cache-control"), Some("no-store"));
        assert_eq!(origin.requests().len(), 1, "{name}");
        wait_until("two log lines", || nginx.log_lines("node.log").len() == 2);
        assert!(nginx.log_lines("node.log")[0].starts_with("200 GET error "), "{name}");
        let log = nginx.error_log();
        let lines: Vec<&str> = log.lines().filter(|l| l.contains("px: wallarm node: ")).collect();
        let [passed, refused] = &lines[..] else { panic!("{name}: {lines:?}") };
        assert!(passed.contains(&format!("px: wallarm node: {cause} after ")), "{name}: {passed}");
        assert!(passed.contains(" ms, request passed, id "), "{name}: {passed}");
        assert!(refused.contains(" ms, request refused, id "), "{name}: {refused}");
        // nginx says what exactly is wrong, once.
        let own = log.lines().filter(|l| l.contains("[error]") && !l.contains("px: ")).count();
        assert_eq!(own, usize::from(cause != "resolve failed"), "{name}: {log}");
    }
    for node in [&wrong_name, &expired, &stranger] {
        assert!(node.received().is_empty());
    }
}

#[test]
fn answers_that_are_none_decide_nothing() {
    let site = Site::start("px_wallarm_timeout_ms 10s;");
    let not_http = |text: &str| Behaviour::NotHttp(text.as_bytes().to_vec());
    let long_head = format!("HTTP/1.1 403 No\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    for (at, (behaviour, cause)) in [
        (Behaviour::CloseBeforeAnswer, "closed"),
        (Behaviour::Reset, "closed"),
        (not_http("garbage\r\n\r\n"), "bad answer"),
        (not_http("\0\u{1}\u{2}"), "bad answer"),
        (not_http("HTTP/1.1 20"), "bad answer"),
        (not_http("HTTP/1.1 403 No\r\nX-Half"), "bad answer"),
        (not_http("HTTP/1.1 xyz No\r\n\r\n"), "bad answer"),
        (not_http(&long_head), "bad answer"),
        (Behaviour::Status(500), "status 500"),
        (Behaviour::Status(404), "status 404"),
    ]
    .into_iter()
    .enumerate()
    {
        site.node.clear();
        site.node.behave_at(Endpoint::Node, behaviour.clone());
        assert_eq!(get(site.nginx.addr(), "/etc/passwd", &[]).text(), "origin", "{behaviour}");
        assert_eq!(site.statuses(at + 1)[at], "error", "{behaviour}");
        let troubles = site.troubles();
        assert!(
            troubles[at].contains(&format!("px: wallarm node: {cause} after ")),
            "{behaviour}: {}",
            troubles[at]
        );
        // On a fresh connection nothing is asked twice.
        assert_eq!(site.node.mirrored().len(), 1, "{behaviour}");
    }
}

#[test]
fn a_head_that_is_too_long_is_not_sent() {
    let site = Site::start_with("large_client_header_buffers 4 64k;", node::builder);
    let (one, other) =
        (format!("X-A: {}", "x".repeat(40_000)), format!("X-B: {}", "x".repeat(40_000)));
    assert_eq!(get(site.nginx.addr(), "/", &[&one]).status, 200);
    assert_eq!(get(site.nginx.addr(), "/", &[&one, &other]).status, 200);
    assert_eq!(site.statuses(2), ["pass", "error"]);
    assert_eq!(site.node.mirrored().len(), 1);
    assert!(site.troubles()[0].contains("px: wallarm node: request headers too long after 0 ms"));
}

/// Twenty failures in a row and it is left alone for five seconds; then one request finds out.
#[test]
fn a_node_that_fails_is_left_alone_and_found_again() {
    let site = Site::start(
        "location / { PASS } location /closed { px_wallarm_fail_open off; PASS } \
         location = /status { access_log off; px_status prometheus; }",
    );
    site.node.go_down();
    let mut connection = Connection::open(site.nginx.addr());
    let mut ask = |path: &str| {
        connection.send(client::text("GET", path, &[], b""));
        connection.receive().status
    };
    for _ in 0..25 {
        assert_eq!(ask("/"), 200);
    }
    assert_eq!(ask("/closed"), 503);
    let mut expected = vec!["error"; 20];
    expected.extend(["skipped"; 6]);
    assert_eq!(site.statuses(26), expected);
    let opened = "[warn]";
    let log = site.nginx.error_log();
    let line =
        log.lines().find(|line| line.contains("px: too many failures of the node at \"http://"));
    assert!(line.is_some_and(|line| line.contains(opened)), "{log}");
    // At most ten lines a second; the others are counted.
    let suppressed = || {
        let troubles = site.troubles();
        let counts = troubles.iter().filter_map(|line| line.split("suppressed ").nth(1));
        let counts = counts.filter_map(|rest| rest.strip_suffix(" similar")?.parse::<usize>().ok());
        (troubles.len(), counts.clone().count(), counts.sum::<usize>())
    };
    wait_until("a summary", || {
        let (lines, summaries, count) = suppressed();
        lines - summaries + count == 20
    });
    site.node.come_back().unwrap();
    wait_until("the node to be asked again", || {
        thread::sleep(Duration::from_millis(50));
        ask("/etc/passwd") == 403
    });
    assert_eq!(ask("/etc/passwd"), 403);
    site.nginx.wait_for_error_log("px: the node at \"http://");
    let metrics = Metrics::parse(&get(site.nginx.addr(), "/status", &[]).text()).unwrap();
    let of =
        |result| metrics.get("px_wallarm_requests_total", &[("mode", "sync"), ("result", result)]);
    assert_eq!((of("error"), of("block")), (20.0, 2.0));
    assert!(of("skipped") >= 6.0);
}

#[test]
fn a_node_that_answers_badly_is_not_left_alone() {
    let site = Site::start("");
    site.node.behave_at(Endpoint::Node, Behaviour::Status(500));
    for _ in 0..30 {
        assert_eq!(get(site.nginx.addr(), "/", &[]).status, 200);
    }
    assert_eq!(site.node.mirrored().len(), 30);
}

/// nginx looks at a stream that was given up when something happens on it: here when the node answers.
#[test]
fn a_client_that_leaves_while_the_node_is_asked_leaves_nothing_behind() {
    let site = Site::start_with(
        "px_wallarm_timeout_ms 30s; location / { PASS } \
         location = /status { access_log off; px_wallarm_node_address off; px_status prometheus; }",
        |server| node::builder(server).listen("http2"),
    );
    site.node.behave_at(Endpoint::Node, Behaviour::Delay(Duration::from_millis(300)));
    let mut h2 = H2::open(site.nginx.addr());
    for stream in [1, 3, 5] {
        h2.request(stream, "GET", "/", &[], true);
    }
    wait_until("the node to be asked", || site.node.mirrored().len() == 3);
    h2.reset(1);
    h2.reset(3);
    drop(h2);
    let aborted = || {
        let mut h2 = H2::open(site.nginx.addr());
        h2.request(1, "GET", "/status", &[], true);
        let text = String::from_utf8(h2.receive(1).body).expect("UTF-8");
        let metrics = Metrics::parse(&text).expect("the format");
        metrics.get("px_wallarm_requests_total", &[("mode", "sync"), ("result", "aborted")])
    };
    wait_until("three ends", || aborted() == 3.0);
    let log = site.log(3);
    assert!(log[..3].iter().all(|line| line.starts_with("000 GET error t=- id=")), "{log:?}");
    site.node.behave_well();
    let mut h2 = H2::open(site.nginx.addr());
    h2.request(1, "GET", "/etc/passwd", &[], true);
    assert_eq!(h2.receive(1).status, 403);
    site.nginx.quit();
}

/// A worker that may wait no longer ends its requests in the middle of everything.
#[test]
fn a_request_that_is_cut_off_while_the_node_is_asked_is_counted() {
    let site = Site::start_with(
        "px_wallarm_timeout_ms 30s; location / { PASS } location = /status { px_status prometheus; }",
        |server| node::builder(server).main("worker_shutdown_timeout 200ms;"),
    );
    site.node.behave_at(Endpoint::Node, Behaviour::Hang);
    let mut waiting: Vec<Connection> = (0..3)
        .map(|_| {
            let mut connection = Connection::open(site.nginx.addr());
            connection.send(client::text("GET", "/", &[], b""));
            connection
        })
        .collect();
    wait_until("the node to be asked", || site.node.mirrored().len() == 3);
    let old = site.nginx.workers();
    site.nginx.reload(|conf| conf.replace("30s", "29s"));
    site.nginx.wait_for_workers_to_end(&old);
    assert!(waiting.iter_mut().all(Connection::is_closed));
    wait_until("the node to be left", || site.node.open_connections() == 0);
    let metrics = Metrics::parse(&get(site.nginx.addr(), "/status", &[]).text()).unwrap();
    let aborted = [("mode", "sync"), ("result", "aborted")];
    assert_eq!(metrics.get("px_wallarm_requests_total", &aborted), 3.0);
}

#[test]
fn a_client_that_closes_its_connection_harms_nobody() {
    let site = Site::start("px_wallarm_timeout_ms 30s;");
    for behaviour in [
        Behaviour::Delay(Duration::from_millis(300)),
        Behaviour::Reset.after(Duration::from_millis(300)),
    ] {
        site.node.clear();
        site.node.behave_at(Endpoint::Node, behaviour);
        for _ in 0..5 {
            let mut connection = Connection::open(site.nginx.addr());
            connection.send(client::text("POST", "/", &[], b"abc"));
        }
        wait_until("the node to be asked", || site.node.mirrored().len() == 5);
        wait_until("its connections", || site.nginx.log_lines("node.log").len() >= 5);
    }
    site.node.behave_well();
    assert_eq!(get(site.nginx.addr(), "/etc/passwd", &[]).status, 403);
    site.nginx.quit();
}

#[test]
fn requests_that_wait_survive_a_reload_and_let_the_old_worker_go() {
    let site = Site::start("px_wallarm_timeout_ms 30s;");
    site.node.behave_at(Endpoint::Node, Behaviour::Delay(Duration::from_secs(2)));
    let mut waiting: Vec<Connection> = (0..100)
        .map(|n| {
            let mut connection = Connection::open(site.nginx.addr());
            let path = if n % 2 == 0 { "/" } else { "/etc/passwd" };
            connection.send(client::text("GET", path, &["Connection: close"], b""));
            connection
        })
        .collect();
    wait_until("the node to be asked", || site.node.mirrored().len() == 100);
    let old = site.nginx.workers();
    site.nginx.reload(|conf| conf.replace("30s", "29s"));
    for (n, connection) in waiting.iter_mut().enumerate() {
        assert_eq!(connection.receive().status, if n % 2 == 0 { 200 } else { 403 }, "{n}");
    }
    site.nginx.wait_for_workers_to_end(&old);
    site.node.behave_well();
    assert_eq!(get(site.nginx.addr(), "/etc/passwd", &[]).status, 403);
    site.nginx.quit();
}

#[test]
fn nothing_of_a_request_is_logged() {
    let site = Site::start_with("px_wallarm_timeout_ms 5s;", |server| {
        node::builder(server).error_log_level("info")
    });
    site.node.answer_at(Endpoint::Node, Reply::new(500));
    let secret = &["Cookie: session=very-secret", "Authorization: Bearer very-secret"];
    support::request(site.nginx.addr(), "POST", "/", secret, b"password=very-secret");
    site.log(1);
    assert!(!site.nginx.error_log().contains("very-secret"));
    site.node.answer_at(Endpoint::Node, Reply::new(403));
    assert_eq!(get(site.nginx.addr(), "/", &[]).status, 403);
}
