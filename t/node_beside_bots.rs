//! Tests for the px module: bot defence and traffic analysis are two switches, in any combination.

mod support;

use std::time::Duration;

use px_sandbox::{Behaviour, Endpoint, NodeMode, Reply, Sandbox};
use support::h2::H2;
use support::node;
use support::{Nginx, Origin, SOON, protect, request};

const BOT: &str = "PhantomJS/1.0";
const BLOCKED: &str = "{\"error\":{\"code\":403,\"message\":\"request blocked\"}}";

struct Site {
    human: Sandbox,
    node: Sandbox,
    origin: Origin,
    nginx: Nginx,
    http2: bool,
}

impl Site {
    fn start(directives: &str, http2: bool) -> Self {
        let (human, node, origin) = (Sandbox::start().unwrap(), node::node(), Origin::start());
        let server = format!("{}{}{directives}", protect(&human), node::connect(&node));
        let server = server.replace("PASS", &origin.proxy_pass());
        let server = match server.contains("location ") {
            true => server,
            false => format!("{server} location / {{ {} }}", origin.proxy_pass()),
        };
        let builder = node::builder(&server);
        let builder = if http2 { builder.listen("http2") } else { builder };
        Self { nginx: builder.start(), human, node, origin, http2 }
    }

    /// Status and body of an answer.
    fn ask(&self, path: &str, user_agent: &str, body: &[u8]) -> (u16, String) {
        let method = if body.is_empty() { "GET" } else { "POST" };
        if !self.http2 {
            let header = format!("User-Agent: {user_agent}");
            let answer = request(self.nginx.addr(), method, path, &[&header], body);
            return (answer.status, answer.text());
        }
        let mut h2 = H2::open(self.nginx.addr());
        h2.request(1, method, path, &[("user-agent", user_agent)], body.is_empty());
        for part in body.chunks(10_000) {
            h2.data(1, part, false);
        }
        if !body.is_empty() {
            h2.data(1, b"", true);
        }
        let answer = h2.receive(1);
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    }
}

#[test]
fn each_is_there_with_and_without_the_other() {
    for http2 in [false, true] {
        for (bots, analysis) in [(true, true), (true, false), (false, true), (false, false)] {
            let switches = format!(
                "{}{}",
                if bots { "" } else { "px_enabled off;" },
                if analysis { "" } else { "px_wallarm_node_address off;" },
            );
            // A level below the one that switches on.
            let site = Site::start(&format!("location / {{ {switches} PASS }}"), http2);
            let what = format!("http2 {http2} bots {bots} analysis {analysis}");
            let human = site.ask("/", support::BROWSER, b"");
            assert_eq!(human, (200, "origin".to_owned()), "{what}");
            let (status, _) = site.ask("/", BOT, b"");
            assert_eq!(status, if bots { 403 } else { 200 }, "{what}");
            let (status, body) = site.ask("/etc/passwd", support::BROWSER, b"");
            assert_eq!(status, if analysis { 403 } else { 200 }, "{what}");
            assert_eq!(body == BLOCKED, analysis, "{what}");
            assert_eq!(site.human.risk_calls().len(), if bots { 3 } else { 0 }, "{what}");
            let mirrored = match (analysis, bots) {
                (false, _) => 0,
                // Who is a bot is answered by the enforcer.
                (true, true) => 2,
                (true, false) => 3,
            };
            assert_eq!(site.node.mirrored().len(), mirrored, "{what}");
            let reports = if bots { 3 } else { 0 };
            assert_eq!(site.human.wait_for_activities(reports, SOON).len(), reports, "{what}");
            site.human.assert_no_complaints();
            site.node.assert_no_complaints();
        }
    }
}

#[test]
fn both_wait_each_for_its_own_and_the_body_arrives() {
    let body: Vec<u8> = (0..60_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    for http2 in [false, true] {
        for place in ["client_body_buffer_size 200k;", "client_body_in_file_only clean;"] {
            let site = Site::start(
                &format!(
                    "{place} px_s2s_timeout 20s; px_wallarm_timeout_ms 20s; \
                     px_enable_login_creds_extraction on; px_max_body_size 1m; \
                     px_login_credentials_extraction path=/login method=POST sent_through=body \
                     user_field=u pass_field=p;"
                ),
                http2,
            );
            site.human.behave(Behaviour::Delay(Duration::from_millis(50)));
            site.node.behave_at(Endpoint::Node, Behaviour::Delay(Duration::from_millis(50)));
            for path in ["/", "/login"] {
                site.origin.clear();
                site.node.clear();
                let answer = site.ask(path, support::BROWSER, &body);
                assert_eq!(answer, (200, "origin".to_owned()), "{http2} {place} {path}");
                assert!(site.origin.requests()[0].ends_with(&body), "{http2} {place} {path}");
                let received = &site.node.mirrored()[0];
                assert!(received.body == body, "{http2} {place} {path}");
            }
            site.node.assert_no_complaints();
            site.human.assert_no_complaints();
        }
    }
}

#[test]
fn one_that_fails_does_not_touch_the_other() {
    let garbage = || Behaviour::NotHttp(b"garbage".to_vec());
    for http2 in [false, true] {
        // Short where nobody is expected to answer.
        let site = Site::start(
            "location / { px_s2s_timeout 100ms; px_wallarm_timeout_ms 100ms; PASS } \
             location /node/ { px_s2s_timeout 100ms; px_wallarm_timeout_ms 20s; PASS } \
             location /human/ { px_s2s_timeout 20s; px_wallarm_timeout_ms 100ms; PASS }",
            http2,
        );
        site.human.behave(Behaviour::Hang);
        assert_eq!(site.ask("/node/etc/passwd", BOT, b"").1, BLOCKED);
        site.node.behave_at(Endpoint::Node, Behaviour::Hang);
        assert_eq!(site.ask("/", support::BROWSER, b"").1, "origin");
        site.human.behave_well();
        assert_eq!(site.ask("/human/", BOT, b"").0, 403);
        assert_eq!(site.ask("/human/", support::BROWSER, b"abc").1, "origin");
        site.node.behave_at(Endpoint::Node, garbage());
        assert_eq!(site.ask("/human/", BOT, b"").0, 403);
        assert_eq!(site.ask("/human/", support::BROWSER, b"abc").1, "origin");
        site.human.behave(Behaviour::Reset);
        assert_eq!(site.ask("/", support::BROWSER, b"abc").1, "origin");
        site.human.behave_well();
        site.node.go_down();
        assert_eq!(site.ask("/human/", support::BROWSER, b"abc").1, "origin");
        assert_eq!(site.ask("/human/", BOT, b"").0, 403);
    }
}

#[test]
fn what_is_filtered_or_only_monitored_is_still_analysed() {
    let site = Site::start("", false);
    assert_eq!(site.ask("/a.css", support::BROWSER, b"").0, 200);
    assert_eq!(site.node.mirrored().len(), 1);
    assert!(site.human.risk_calls().is_empty());
    let watching = Site::start("location / { px_module_mode monitor; PASS }", false);
    assert_eq!(watching.ask("/", BOT, b"").0, 200);
    assert_eq!(watching.ask("/etc/passwd", BOT, b"").1, BLOCKED);
    assert_eq!(watching.node.mirrored().len(), 2);
}

/// The node is told what the visitor sent, not what the enforcer tells the origin.
#[test]
fn what_the_enforcer_answers_or_adds_is_none_of_the_nodes_business() {
    let site = Site::start(
        "px_score_header_enabled on; px_upstream_score_header_name X-Score; px_identifier_header_name X-Id; \
         px_custom_web_block_page_response @blocked; \
         location / { PASS } location @blocked { return 200 own; }",
        false,
    );
    site.ask("/", support::BROWSER, b"");
    let origin = &site.origin.texts()[0];
    assert!(origin.to_lowercase().contains("x-score:"), "{origin}");
    let mirrored = site.node.mirrored();
    assert_eq!(mirrored[0].header("x-score"), None);
    assert_eq!(mirrored[0].header("x-id"), None);
    // A block page that a named location writes, and a script of HUMAN's that is proxied.
    assert_eq!(site.ask("/", BOT, b"").0, 403);
    let app = site.human.app().id.trim_start_matches("PX").to_owned();
    assert_eq!(site.ask(&format!("/{app}/init.js"), support::BROWSER, b"").0, 200);
    assert_eq!(site.node.mirrored().len(), 1);
}

#[test]
fn a_body_that_nginx_refuses_is_nobodys_business() {
    let reads = "px_enable_login_creds_extraction on; px_login_credentials_extraction path=/login \
         method=POST sent_through=body user_field=u pass_field=p;";
    for reads in ["", reads] {
        let site = Site::start(
            &format!(
                "client_max_body_size 10; error_page 413 /sorry; {reads} location / {{ PASS }}"
            ),
            false,
        );
        let chunked = ["Transfer-Encoding: chunked", "Connection: close"];
        let body = b"14\r\nuser=a&pass=bbbbbbbb\r\n0\r\n\r\n";
        let answer = request(site.nginx.addr(), "POST", "/login", &chunked, body);
        assert_eq!(answer.status, 413);
        assert!(site.node.mirrored().is_empty(), "{reads}");
        assert_eq!(site.ask("/etc/passwd", support::BROWSER, b"").1, BLOCKED);
    }
}

#[test]
fn a_block_of_the_nodes_is_reported_as_what_the_visitor_got() {
    let site = Site::start("", false);
    assert_eq!(site.ask("/etc/passwd", support::BROWSER, b"").1, BLOCKED);
    let activities = site.human.wait_for_activities(1, SOON);
    assert_eq!(activities[0]["type"], "page_requested");
    assert_eq!(activities[0]["details"]["http_status_code"], 403);
}

#[test]
fn neither_side_hears_of_the_other() {
    let site = Site::start("px_wallarm_blocking off;", false);
    let other = Sandbox::builder().node(NodeMode::Monitoring).start().unwrap();
    other.answer_at(Endpoint::Node, Reply::new(200));
    site.ask("/etc/passwd", support::BROWSER, b"");
    let mirrored = site.node.wait_for(Endpoint::Node, 1, SOON);
    let text = String::from_utf8_lossy(&mirrored[0].head).into_owned();
    let app = site.human.app();
    for secret in [&app.auth_token, &app.secret] {
        assert!(!text.contains(&**secret), "{text}");
    }
    let call = &site.human.risk_calls()[0];
    assert!(!String::from_utf8_lossy(&call.body).contains("PX-Node"));
}
