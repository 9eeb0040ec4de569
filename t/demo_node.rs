//! `make demo-node`: requests to a traffic-analysis node, told step by step.
//!
//! Starts a node of the sandbox's, an origin and a real nginx with the module. Ends by itself; exits
//! non-zero if anything was not as told.

mod support;

use std::process::ExitCode;

use support::node::{self, Site};
use support::{get, request};

fn main() -> ExitCode {
    let site = Site::start(
        "location / { PASS } location /copy/ { px_wallarm_blocking off; PASS } \
         location /strict/ { px_wallarm_fail_open off; PASS }",
    );
    let addr = site.nginx.addr();
    println!("A shop behind nginx, connected by this:\n\n    {}", node::connect(&site.node));
    println!("  nginx  http://{addr}\n  node   {}   px-sandbox's\n", site.node.url());
    println!("  {:<46} {:<5} the node", "request", "got");
    println!("  {:-<46} {:-<5} {:-<30}", "", "", "");
    let mut count = 0;
    let mut as_told = true;
    let mut show = |what: &str, status: u16, expected: u16| {
        count += 1;
        let log = site.log(count);
        let mut words = log.last().map_or("", String::as_str).split(' ').skip(2);
        let (word, time) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mark = if status == expected { ' ' } else { '!' };
        println!("{mark} {what:<46} {status:<5} {word} {}", time.trim_start_matches("t="));
        as_told &= status == expected;
    };
    for (path, expected) in [
        ("/", 200),
        ("/etc/passwd", 403),
        ("/images/../../etc/shadow", 400),
        ("/a/b/..%2fc", 403),
        ("/search?q=<script>alert(1)</script>", 403),
        ("/item?id=1+union+select+password", 403),
    ] {
        // What climbs out of the root nginx itself refuses, before anybody is asked.
        let status = get(addr, path, &[]).status;
        show(&format!("GET {path}"), status, expected);
    }
    let form = b"name=' or '1'='1";
    show("POST /login  name=' or '1'='1", request(addr, "POST", "/login", &[], form).status, 403);
    show("GET /copy/etc/passwd  (a copy)", get(addr, "/copy/etc/passwd", &[]).status, 200);
    site.node.go_down();
    show("GET /  (the node is down)", get(addr, "/", &[]).status, 200);
    show("GET /strict/  (and nobody may pass)", get(addr, "/strict/", &[]).status, 503);
    println!("\nThe site has seen {} of them.", site.origin.requests().len());
    if as_told { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
