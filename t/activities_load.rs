//! Tests for the px module: under load the collector learns of every request, over one connection
//! and in bodies that grow with the load.

mod support;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use px_sandbox::Sandbox;
use support::{BROWSER, Connection, Nginx, client, protect};

const CONNECTIONS: usize = 4;
const REQUESTS: usize = 5000;
const IN_FLIGHT: usize = 20;

/// Requests with one good cookie over connections that stay open; each names itself in its path.
fn load(nginx: &Nginx, sandbox: &Sandbox) {
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    thread::scope(|scope| {
        for at in 0..CONNECTIONS {
            let cookie = &cookie;
            scope.spawn(move || {
                let mut connection = Connection::open(nginx.addr());
                for first in (0..REQUESTS).step_by(IN_FLIGHT) {
                    let mut pipelined = Vec::new();
                    for number in first..first + IN_FLIGHT {
                        let path = format!("/{at}/{number}");
                        pipelined.extend(client::text("GET", &path, &[cookie], b""));
                    }
                    connection.send(pipelined);
                    for _ in 0..IN_FLIGHT {
                        assert_eq!(connection.receive().status, 200);
                    }
                }
            });
        }
    });
}

fn every_request_is_reported(directives: &str, compressed: bool) {
    let sandbox = Sandbox::start().expect("a free port");
    let nginx = Nginx::start(&format!(
        "{} {directives} px_async_timeout 60s;
         keepalive_requests 100000;
         location / {{ access_log off; empty_gif; }}",
        protect(&sandbox)
    ));
    // The time limit is for a sandbox that nothing has optimised.
    load(&nginx, &sandbox);
    let total = CONNECTIONS * REQUESTS;
    // The sandbox looks at every one: that takes longer than sending them, and minutes on a busy machine.
    sandbox.wait_for_activities(total, Duration::from_secs(600));
    let log = nginx.quit();
    assert!(!log.contains("could not be delivered"), "{log}");

    let activities = sandbox.activities();
    assert_eq!(activities.len(), total);
    let urls: BTreeSet<&str> = activities.iter().filter_map(|a| a["url"].as_str()).collect();
    assert_eq!(urls.len(), total);
    let posts = sandbox.activity_posts();
    let connections: BTreeSet<u64> = posts.iter().map(|post| post.connection).collect();
    assert_eq!(connections.len(), 1, "one connection carries all posts");
    assert!(posts.len() < total / 40, "{} posts: bodies grow under load", posts.len());
    for post in &posts {
        let coding = post.header("content-encoding");
        assert_eq!(coding, compressed.then_some("gzip"));
        assert!(post.text().len() <= 512 * 1024 + 16 * 1024);
    }
    assert!(sandbox.risk_calls().is_empty());
    sandbox.assert_no_complaints();
}

#[test]
fn every_request_is_reported_as_it_is() {
    every_request_is_reported("", false);
}

#[test]
fn every_request_is_reported_compressed() {
    every_request_is_reported("px_compression_enabled on;", true);
}
