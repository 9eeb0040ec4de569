//! Tests for the px module: copies for a traffic-analysis node that does not take them cost no memory.

mod support;

use std::fs;

use px_sandbox::{Behaviour, Endpoint};
use support::nginx::free_addr;
use support::node;
use support::prometheus::Metrics;
use support::{Connection, client, get};

const SETTINGS: &str = "px_wallarm_blocking off; px_wallarm_timeout_ms 60s; px_wallarm_max_inflight 16; \
     access_log off; keepalive_requests 100000; \
     location = /status { px_wallarm_node_address off; px_status prometheus; }";

/// Kilobytes that a process has in memory.
fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

#[test]
fn ten_thousand_copies_that_nobody_takes_cost_no_memory() {
    for silent in [true, false] {
        let node = node::node();
        node.behave_at(Endpoint::Node, Behaviour::Hang);
        let url = if silent { node.url() } else { format!("http://{}", free_addr()) };
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
        visit(10_000);
        let after = resident(pid);
        assert!(after <= before + 1024, "silent {silent}: {before} kB, then {after} kB");
        let text = get(nginx.addr(), "/status", &[]).text();
        let metrics = Metrics::parse(&text).expect("the format");
        let dropped = metrics.get("px_wallarm_dropped_total", &[]);
        let of = |result| {
            metrics.get("px_wallarm_requests_total", &[("mode", "async"), ("result", result)])
        };
        if silent {
            assert_eq!((dropped, metrics.get("px_wallarm_inflight", &[])), (10_984.0, 16.0));
        } else {
            assert_eq!(dropped + of("error") + of("skipped"), 11_000.0);
            assert!(of("error") >= 20.0);
        }
        nginx.stop();
    }
}
