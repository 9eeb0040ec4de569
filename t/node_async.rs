//! Tests for the px module: copies of requests go to a traffic-analysis node, and nobody waits for them.

mod support;

use std::time::Duration;

use px_sandbox::{Behaviour, Endpoint, Reply};
use support::h2::H2;
use support::node::{self, Site, line};
use support::prometheus::Metrics;
use support::{Connection, SOON, client, get, request, wait_until};

const COPY: &str = "px_wallarm_blocking off;";
const STATUS: &str =
    "location = /status { access_log off; px_wallarm_node_address off; px_status prometheus; }";

fn site(directives: &str) -> Site {
    Site::start(&format!("{COPY} {directives} location / {{ PASS }} {STATUS}"))
}

fn metrics(site: &Site) -> Metrics {
    Metrics::parse(&get(site.nginx.addr(), "/status", &[]).text()).expect("the format")
}

fn copies(site: &Site, result: &str) -> f64 {
    metrics(site).get("px_wallarm_requests_total", &[("mode", "async"), ("result", result)])
}

#[test]
fn the_node_gets_a_copy_and_the_client_the_origins_answer() {
    let site = site("");
    let answer = request(site.nginx.addr(), "POST", "/etc/passwd?<x>", &["X-A: 1"], b"body");
    assert_eq!(answer.text(), "origin");
    let mirrored = site.node.wait_for(Endpoint::Node, 1, SOON);
    let received = &mirrored[0];
    assert_eq!(line(received), "POST /etc/passwd?<x>");
    assert_eq!(received.header("x-px-node-mode"), Some("async"));
    assert_eq!(received.header("x-px-node-body"), Some("full; sent=4; total=4"));
    assert_eq!((received.header("x-a"), &received.body[..]), (Some("1"), &b"body"[..]));
    let log = site.log(1);
    let id = received.header("x-request-id").expect("an id");
    assert_eq!(log[0], format!("200 POST async t=- id={id} v=-"));
    wait_until("the copy to be counted", || copies(&site, "block") == 1.0);
    assert_eq!(metrics(&site).get("px_wallarm_inflight", &[]), 0.0);
    site.node.assert_no_complaints();
    site.nginx.quit();
}

#[test]
fn nobody_waits_for_a_silent_node_and_what_is_too_much_is_dropped() {
    let site = site("px_wallarm_timeout_ms 60s; px_wallarm_max_inflight 10;");
    site.node.behave_at(Endpoint::Node, Behaviour::Hang);
    for _ in 0..30 {
        assert_eq!(get(site.nginx.addr(), "/", &[]).text(), "origin");
    }
    let mut expected = vec!["async"; 10];
    expected.extend(["async_dropped"; 20]);
    assert_eq!(site.statuses(30), expected);
    let found = metrics(&site);
    assert_eq!(found.get("px_wallarm_inflight", &[]), 10.0);
    assert_eq!(found.get("px_wallarm_dropped_total", &[]), 20.0);
    // When the node lets go of them there is room again.
    site.node.go_down();
    wait_until("the copies to end", || metrics(&site).get("px_wallarm_inflight", &[]) == 0.0);
    site.node.behave_well();
    site.node.come_back().unwrap();
    site.node.clear();
    get(site.nginx.addr(), "/again", &[]);
    assert_eq!(line(&site.node.wait_for(Endpoint::Node, 1, SOON)[0]), "GET /again");
    // Copies that failed are told like requests that did.
    let troubles = site.troubles();
    assert!(troubles[0].contains("px: wallarm node: closed after "), "{troubles:?}");
    assert!(troubles[0].contains(" ms, copy dropped, id "), "{troubles:?}");
}

#[test]
fn a_copy_outlives_its_client() {
    let site = Site::start_with(
        &format!("{COPY} px_wallarm_timeout_ms 30s; location / {{ PASS }} {STATUS}"),
        |server| node::builder(server).listen("http2"),
    );
    site.node.behave_at(Endpoint::Node, Behaviour::Delay(Duration::from_millis(300)));
    let mut h2 = H2::open(site.nginx.addr());
    for stream in [1, 3, 5] {
        h2.request(stream, "GET", "/", &[], true);
    }
    for stream in [1, 3, 5] {
        h2.receive(stream);
    }
    drop(h2);
    assert_eq!(site.node.wait_for(Endpoint::Node, 3, SOON).len(), 3);
    let passed = || {
        let mut h2 = H2::open(site.nginx.addr());
        h2.request(1, "GET", "/status", &[], true);
        let text = String::from_utf8(h2.receive(1).body).expect("UTF-8");
        let metrics = Metrics::parse(&text).expect("the format");
        metrics.get("px_wallarm_requests_total", &[("mode", "async"), ("result", "pass")])
    };
    wait_until("the copies to be answered", || passed() == 3.0);
    site.nginx.quit();
}

#[test]
fn copies_share_kept_connections_with_requests_that_wait() {
    let site = Site::start(&format!(
        "px_wallarm_keepalive 4; location / {{ PASS }} location /copy {{ {COPY} PASS }} {STATUS}"
    ));
    let mut connection = Connection::open(site.nginx.addr());
    for n in 0..200 {
        let path = if n % 2 == 0 { "/" } else { "/copy" };
        connection.send(client::text("GET", path, &[], b""));
        assert_eq!(connection.receive().status, 200);
    }
    site.node.wait_for(Endpoint::Node, 200, SOON);
    assert!(site.node.connections() <= 20, "{}", site.node.connections());
    site.node.assert_no_complaints();
}

#[test]
fn an_old_worker_sends_its_copies_before_it_goes() {
    let site = site("px_wallarm_timeout_ms 30s;");
    site.node.behave_at(Endpoint::Node, Behaviour::Delay(Duration::from_millis(500)));
    for n in 0..20 {
        get(site.nginx.addr(), &format!("/{n}"), &[]);
    }
    let old = site.nginx.workers();
    site.nginx.reload(|conf| conf.replace("30s", "29s"));
    site.nginx.wait_for_workers_to_end(&old);
    assert_eq!(site.node.wait_for(Endpoint::Node, 20, SOON).len(), 20);
    assert_eq!(copies(&site, "pass"), 20.0);
    site.nginx.quit();
}

#[test]
fn a_node_that_fails_is_left_alone_here_too() {
    let site = site("");
    site.node.go_down();
    for _ in 0..22 {
        get(site.nginx.addr(), "/", &[]);
    }
    wait_until("copies to be skipped", || copies(&site, "skipped") >= 1.0);
    assert_eq!(copies(&site, "error"), 20.0);
    site.nginx.wait_for_error_log("px: too many failures of the node");
}

#[test]
fn a_wrong_answer_is_told_and_a_large_one_not_read_to_its_end() {
    let site = site("px_wallarm_timeout_ms 20s;");
    for (reply, result) in [
        (Reply::new(500), "error"),
        (Reply::bytes("text/plain", "x".repeat(1 << 20)).status(403), "block"),
        (Reply::new(204), "pass"),
    ] {
        site.node.answer_at(Endpoint::Node, reply);
        get(site.nginx.addr(), "/", &[]);
        wait_until(result, || copies(&site, result) == 1.0);
    }
    let troubles = site.troubles();
    assert_eq!(troubles.len(), 1, "{troubles:?}");
    assert!(troubles[0].contains("px: wallarm node: status 500 after "), "{troubles:?}");
}

#[test]
fn bodies_on_disk_are_copied_before_the_request_goes_on() {
    let site = site("client_body_in_file_only clean; px_wallarm_max_body_size 50000;");
    site.node.behave_at(Endpoint::Node, Behaviour::Delay(Duration::from_millis(200)));
    let body: Vec<u8> = (0..80_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    assert_eq!(request(site.nginx.addr(), "POST", "/", &[], &body).text(), "origin");
    assert!(site.origin.requests()[0].ends_with(&body));
    let received = &site.node.wait_for(Endpoint::Node, 1, SOON)[0];
    assert!(received.body == body[..50_000]);
    assert_eq!(received.header("x-px-node-body"), Some("truncated; sent=50000; total=80000"));
}

#[test]
fn stub_status_counts_clients_alone() {
    let site = site("location = /stub { px_wallarm_node_address off; stub_status; }");
    for _ in 0..10 {
        get(site.nginx.addr(), "/", &[]);
    }
    wait_until("the copies", || copies(&site, "pass") == 10.0);
    let before = get(site.nginx.addr(), "/stub", &[]).text();
    let numbers = |text: &str| -> Vec<i64> {
        text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let [active, accepted, handled, requests, reading, writing, _] = numbers(&before)[..] else {
        panic!("{before}")
    };
    // One request on each connection; the first look for a listener is a connection, too.
    assert_eq!((accepted, reading, writing), (handled, 0, 1), "{before}");
    assert!(active >= 1 && requests < accepted + 1, "{before}");
}
