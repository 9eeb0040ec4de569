//! The sandbox as a traffic-analysis node, as its peers see it.

mod client;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use client::Client;
use px_sandbox::{Attack, Behaviour, Endpoint, NodeMode, Reply, Sandbox};

/// A request as the mirror protocol has it.
fn mirrored(line: &str, more: &str, body: &str) -> String {
    let note = match body.len() {
        0 => "none".to_owned(),
        length => format!("full; sent={length}; total={length}"),
    };
    let length =
        if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!(
        "{line} HTTP/1.1\r\nHost: node\r\n{length}X-Forwarded-Host: site.test\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-For: 192.0.2.9\r\n\
         X-Real-IP: 192.0.2.9\r\nX-Request-ID: 0123456789abcdef0123456789abcdef\r\n\
         X-PX-Node-Protocol: mirror/1\r\nX-PX-Node-Connector: nginx/1\r\nX-PX-Node-Mode: sync\r\n\
         X-PX-Node-Leg: request\r\nX-PX-Node-Original: 1.1\r\nX-PX-Node-Body: {note}\r\n{more}\r\n{body}"
    )
}

fn node(mode: NodeMode) -> Sandbox {
    Sandbox::builder().node(mode).start().unwrap()
}

#[test]
fn attacks_are_blocked_or_only_told() {
    for (mode, blocked) in [(NodeMode::Blocking, 403), (NodeMode::Monitoring, 200)] {
        let node = node(mode);
        let mut client = Client::connect(node.addr());
        for (line, more, body, found) in [
            ("GET /", "", "", None),
            ("GET /etc/passwd", "", "", Some(("path_traversal", "target"))),
            ("GET /a?b=%3Cscript%3E", "", "", Some(("xss", "target"))),
            ("GET /", "User-Agent: ' or '1'='1\r\n", "", Some(("sql_injection", "User-Agent"))),
            ("POST /", "", "id=1 UNION  SELECT x", Some(("sql_injection", "body"))),
            ("POST /", "", "id=1", None),
        ] {
            let answer = client.ask(mirrored(line, more, body));
            assert_eq!(answer.status, if found.is_some() { blocked } else { 200 }, "{line}");
            let told = answer.json();
            match found {
                None => assert_eq!(told["verdict"], "pass", "{line}"),
                Some((kind, place)) => {
                    assert_eq!((&told["kind"], &told["place"]), (&kind.into(), &place.into()));
                }
            }
            let received = node.mirrored().pop().unwrap();
            let attack = Attack::find(&received);
            assert_eq!(attack.map(|attack| attack.kind), found.map(|(kind, _)| kind), "{line}");
        }
        assert_eq!(node.mirrored().len(), 6);
        node.assert_no_complaints();
    }
}

#[test]
fn whatever_its_path_a_mirrored_request_is_a_visitors() {
    let node = node(NodeMode::Blocking);
    let mut client = Client::connect(node.addr());
    for path in ["/api/v3/risk", "/_sandbox/received", "/config/", "/px-sandbox/solve"] {
        assert_eq!(client.ask(mirrored(&format!("POST {path}"), "", "")).json()["verdict"], "pass");
    }
    assert_eq!(node.mirrored().len(), 4);
    node.assert_no_complaints();
    // People still look inside, and everybody else finds nothing.
    assert_eq!(client.ask("GET /_sandbox/received HTTP/1.1\r\nHost: node\r\n\r\n").status, 200);
    assert_eq!(client.ask("GET /api/v3/risk HTTP/1.1\r\nHost: node\r\n\r\n").status, 404);
}

#[test]
fn a_connector_that_errs_is_complained_of() {
    for (from, to, words) in [
        ("X-Real-IP: 192.0.2.9\r\n", "", "x-real-ip stands 0 times"),
        ("X-Real-IP: ", "X-Real-IP: a\r\nX-Real-IP: ", "x-real-ip stands 2 times"),
        ("0123456789abcdef", "", "x-request-id is \"\""),
        ("mirror/1", "mirror/2", "x-px-node-protocol is \"mirror/2\""),
        ("Mode: sync", "Mode: both", "x-px-node-mode is \"both\""),
        ("Host: node", "Host: node\r\nTE: trailers", "te is about the client's connection"),
        ("sent=3", "sent=4", "3 bytes came"),
        ("full; ", "whole; ", "3 bytes came"),
    ] {
        let node = node(NodeMode::Blocking);
        let request = mirrored("POST /", "", "abc").replace(from, to);
        Client::connect(node.addr()).ask(request);
        let complaints = node.complaints();
        assert!(complaints.iter().any(|complaint| complaint.contains(words)), "{complaints:?}");
    }
}

#[test]
fn legs_that_it_does_not_know_and_orders_come_first() {
    let node = node(NodeMode::Blocking);
    let mut client = Client::connect(node.addr());
    let other = mirrored("POST /etc/passwd", "", "").replace("Leg: request", "Leg: response");
    assert_eq!(client.ask(other).status, 204);
    node.answer_at(Endpoint::Node, Reply::new(500));
    assert_eq!(client.ask(mirrored("GET /etc/passwd", "", "")).status, 500);
    node.behave_well();
    node.behave_at(Endpoint::Node, Behaviour::Status(302));
    assert_eq!(client.ask(mirrored("GET /etc/passwd", "", "")).status, 302);
}

/// Ends the node with the test, also where it fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_command_runs_a_node_and_tells_what_it_finds() {
    let child = Command::new(env!("CARGO_BIN_EXE_px-sandbox"))
        .args(["node", "--port", "0", "--mode", "monitoring"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let rest = first.strip_prefix("px-sandbox node listening on http://").expect("for scripts");
    let addr: SocketAddr = rest.strip_suffix(" (monitoring)").unwrap().parse().unwrap();
    assert_eq!(Client::connect(addr).ask(mirrored("GET /etc/passwd", "", "")).status, 200);
    let line = lines.find(|line| line.as_ref().unwrap().starts_with("#1 ")).unwrap().unwrap();
    assert_eq!(line, "#1 node GET /etc/passwd: path_traversal in target (\"/etc/passwd\")");
    for (arguments, words) in [
        (&["node", "--mode", "off"][..], "\"off\" is neither blocking nor monitoring"),
        (&["node", "--app-id", "x"], "'--app-id' (see px-sandbox node --help)"),
        (&["node", "--key", "x"], "belong together"),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_px-sandbox")).args(arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(words), "{error}");
    }
    let help = Command::new(env!("CARGO_BIN_EXE_px-sandbox")).args(["node", "--help"]).output();
    assert!(String::from_utf8(help.unwrap().stdout).unwrap().contains("mirror protocol"));
}
