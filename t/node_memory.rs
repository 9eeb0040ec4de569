//! Tests for the px module: copies for a traffic-analysis node that does not take them cost no memory.

mod support;

use std::fs;

use px_sandbox::{Behaviour, Endpoint};
use support::nginx::free_addr;
use support::node;
use support::prometheus::Metrics;
use support::{Connection, client, get, wait_until};

const SETTINGS: &str = "px_wallarm_blocking off; px_wallarm_timeout_ms 60s; px_wallarm_max_inflight 16; \
     access_log off; keepalive_requests 100000; \
     location = /status { px_wallarm_node_address off; px_status prometheus; }";

/// Kilobytes that a process has in memory.
fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

/// What a node does with copies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Silent,
    Away,
    Well,
    /// Each copy costs it a connection.
    Garbled,
}

#[test]
fn thousands_of_copies_cost_no_memory_whatever_becomes_of_them() {
    for (kind, count) in
        [(Node::Silent, 10_000), (Node::Away, 10_000), (Node::Well, 4000), (Node::Garbled, 1000)]
    {
        let node = node::node();
        match kind {
            Node::Silent => node.behave_at(Endpoint::Node, Behaviour::Hang),
            Node::Garbled => {
                node.behave_at(Endpoint::Node, Behaviour::NotHttp(b"garbage".to_vec()));
            }
            Node::Away | Node::Well => {}
        }
        let url = match kind {
            Node::Away => format!("http://{}", free_addr()),
            _ => node.url(),
        };
        let nginx = node::builder(&format!(
            "px_wallarm_node_address {url}; {SETTINGS} location / {{ root html; }}"
        ));
        let nginx = nginx.start_with(|dir| {
            fs::create_dir_all(dir.join("html")).expect("a directory");
            fs::write(dir.join("html/page"), "page").expect("a file");
        });
        // nginx answers a POST to a file with 405, when the copy is long made.
        let mut connection = Connection::open(nginx.addr());
        let body = vec![b'x'; 4000];
        let mut visit = |count: usize| {
            for _ in 0..count {
                connection.send(client::text("POST", "/page", &[], &body));
                connection.receive();
            }
        };
        visit(1000);
        let pid = nginx.workers()[0];
        let before = resident(pid);
        visit(count);
        let after = resident(pid);
        assert!(after <= before + 1024, "{kind:?}: {before} kB, then {after} kB");
        let metrics = || {
            let text = get(nginx.addr(), "/status", &[]).text();
            Metrics::parse(&text).expect("the format")
        };
        let inflight = || metrics().get("px_wallarm_inflight", &[]);
        if kind == Node::Silent {
            assert_eq!(inflight(), 16.0);
        } else {
            wait_until("all copies to end", || inflight() == 0.0);
        }
        let metrics = metrics();
        let dropped = metrics.get("px_wallarm_dropped_total", &[]);
        let of = |result| {
            metrics.get("px_wallarm_requests_total", &[("mode", "async"), ("result", result)])
        };
        match kind {
            Node::Silent => assert_eq!(dropped, 10_984.0),
            Node::Away => {
                assert_eq!(dropped + of("error") + of("skipped"), 1000.0 + count as f64);
                assert!(of("error") >= 20.0);
            }
            Node::Well => {
                assert_eq!(dropped + of("block") + of("pass"), 1000.0 + count as f64);
                // How many more depends on how busy this machine is.
                assert!(of("pass") >= 16.0, "{}", of("pass"));
            }
            Node::Garbled => {
                assert_eq!(dropped + of("error"), 1000.0 + count as f64);
                assert!(of("error") >= 16.0, "{}", of("error"));
            }
        }
        nginx.stop();
    }
}
