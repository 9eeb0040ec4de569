//! What requests cost that were made to cost much: it grows with their length, and no faster.
//!
//! Counted in instructions, under callgrind, which no other process disturbs. The test runs itself there.
#![allow(clippy::indexing_slicing, reason = "a test that is wrong is to panic")]
#![allow(unreachable_pub, dead_code, reason = "this crate has no outside")]

mod visit;

use std::env;
use std::process::Command;

use visit::{Site, Visit, play};

/// Name of the request and its length: what the run under callgrind is to play.
const ORDER: &str = "PX_CORE_COST";

const KINDS: [&str; 14] = [
    "deep JSON",
    "deep JSON objects",
    "wide JSON",
    "escaped JSON",
    "form of many fields",
    "encoded form",
    "multipart of many parts",
    "multipart without an end",
    "deep GraphQL",
    "GraphQL of many operations",
    "GraphQL of many names",
    "GraphQL batch",
    "many cookies",
    "many dots",
];

/// A request of about this length.
fn request(kind: &str, length: usize) -> Visit {
    let many = |piece: &str| piece.repeat(length / piece.len());
    let post = |target: &str, content_type: &str, body: String| {
        Visit::usual().posting(target, content_type, body.into_bytes())
    };
    let json = |target: &str, body: String| post(target, "application/json", body);
    let form = |body: String| post("/login", "application/x-www-form-urlencoded", body);
    let multipart = |body: String| post("/login", "multipart/form-data; boundary=XX", body);
    let graphql = |query: String| json("/graphql", format!("{{\"query\":\"{query}\"}}"));
    match kind {
        "deep JSON" => json("/login", many("[")),
        "deep JSON objects" => json("/login", format!("{{\"user\":{}", many("{\"name\":"))),
        "wide JSON" => {
            json("/login", format!("{{{}\"user\":1}}", many("\"user\":\"a\",\"b\":[1],")))
        }
        "escaped JSON" => json("/login", format!("{{\"user\":\"{}\"}}", many("\\u0041\\\""))),
        "form of many fields" => form(many("user=a&b=c&")),
        "encoded form" => form(many("%75ser=%61&%")),
        "multipart of many parts" => {
            multipart(many("--XX\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nv\r\n"))
        }
        "multipart without an end" => multipart(format!("--XX\r\n{}", many("\r\n--X\r\n-"))),
        "deep GraphQL" => graphql(many("query{a")),
        "GraphQL of many operations" => graphql(many("mutation a{b} ")),
        "GraphQL of many names" => {
            let variables = many("\"name\":1,");
            json(
                "/graphql",
                format!("{{\"query\":\"{{a}}\",\"variables\":{{{variables}\"z\":1}}}}"),
            )
        }
        "GraphQL batch" => {
            json("/graphql", format!("[{}{{}}]", many("{\"query\":\"query a{b}\"},")))
        }
        "many cookies" => Visit::usual().with("cookie", many("_px3=a:%41; _pxvid=x; ")),
        "many dots" => {
            let target = format!("/{}", many("a/../%2e%2e/")).into_bytes();
            Visit { target, ..Visit::usual() }
        }
        other => panic!("no such request: {other}"),
    }
}

/// Instructions of a run of this test that plays one request.
fn instructions(kind: &str, length: usize) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().expect("this program has a path"))
        .args(["--exact", "the_cost_of_a_request_grows_with_its_length_only", "--test-threads=1"])
        .env(ORDER, format!("{kind}/{length}"))
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{kind} {length}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = collected.unwrap_or_else(|| panic!("{said}"));
    count.trim().parse().expect("a number")
}

#[test]
fn the_cost_of_a_request_grows_with_its_length_only() {
    const LENGTH: usize = 16 << 10;
    // A few thousand where each byte is looked at a few times; eight thousand and more where each is
    // compared with all others.
    const A_BYTE: u64 = 4000;
    if let Ok(order) = env::var(ORDER) {
        let (kind, length) = order.split_once('/').expect("two parts");
        let length = length.parse().expect("a number");
        play(&request(kind, length), &Site::reading_bodies());
        return;
    }
    let none = instructions(KINDS[0], 0);
    for kind in KINDS {
        let cost = instructions(kind, LENGTH).saturating_sub(none) / LENGTH as u64;
        println!("{kind}: {cost} instructions a byte");
        assert!(cost < A_BYTE, "{kind}: {cost} instructions a byte");
    }
}
