//! What requests cost that were made to cost much: it grows with their length, and no faster.
//!
//! Counted in instructions, under callgrind, which no other process disturbs. The test runs itself there.
#![allow(clippy::indexing_slicing, reason = "a test that is wrong is to panic")]
#![allow(unreachable_pub, dead_code, unused_imports, reason = "this crate has no outside")]

mod visit;

use std::env;
use std::process::Command;

use px_core::crypto::Secrets;
use px_core::policy::Secret;
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

/// Instructions of a run of `test` that is given this order.
fn instructions(test: &str, kind: &str, length: usize) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().expect("this program has a path"))
        .args(["--exact", test, "--test-threads=1"])
        .env(ORDER, format!("{kind}/{length}"))
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{kind} {length}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = collected.unwrap_or_else(|| panic!("{said}"));
    count.trim().parse().expect("a number")
}

/// Kind and length of what this run is to do, if it is one under callgrind.
fn order() -> Option<(String, usize)> {
    let order = env::var(ORDER).ok()?;
    let (kind, length) = order.split_once('/').expect("two parts");
    Some((kind.to_owned(), length.parse().expect("a number")))
}

#[test]
fn the_cost_of_a_request_grows_with_its_length_only() {
    const TEST: &str = "the_cost_of_a_request_grows_with_its_length_only";
    const LENGTH: usize = 16 << 10;
    // Three thousand at most where each byte is looked at a few times; tens of thousands where each is
    // compared with all others.
    const A_BYTE: u64 = 8000;
    if let Some((kind, length)) = order() {
        play(&request(&kind, length), &Site::reading_bodies());
        return;
    }
    let none = instructions(TEST, KINDS[0], 0);
    for kind in KINDS {
        let cost = instructions(TEST, kind, LENGTH).saturating_sub(none) / LENGTH as u64;
        println!("{kind}: {cost} instructions a byte");
        assert!(cost < A_BYTE, "{kind}: {cost} instructions a byte");
    }
}

/// Who is told by the time that the first digits are right finds all of them, one by one.
#[test]
fn a_wrong_signature_costs_the_same_wherever_it_differs() {
    const TEST: &str = "a_wrong_signature_costs_the_same_wherever_it_differs";
    const TIMES: u64 = 5000;
    if let Some((_, at)) = order() {
        let secrets = Secrets::new(&[Secret::new("a secret".to_owned())]);
        let mut digits = secrets.sign(b"message").expect("a secret").into_bytes();
        // Another digit of the same sort, which is read in the same way.
        digits[at] = match digits[at] {
            b'0' | b'a' => digits[at] + 1,
            digit => digit - 1,
        };
        for _ in 0..TIMES {
            assert!(!secrets.authenticate(b"message", &digits));
        }
        return;
    }
    let [first, middle, last] = [0, 31, 63].map(|at| instructions(TEST, "", at));
    // Less than one instruction for each comparison: the test's own chance.
    for other in [middle, last] {
        assert!(first.abs_diff(other) < TIMES, "{first}, {middle}, {last}");
    }
}
