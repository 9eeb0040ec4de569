//! Hostile requests and answers by the thousand, the same ones on every run: the quick sibling of
//! the fuzz targets. Its seeds are the test vectors; what must hold stands in `visit`.
#![allow(clippy::indexing_slicing, reason = "a test that is wrong is to panic")]
#![allow(unreachable_pub, reason = "this crate has no outside")]

mod visit;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use px_core::base_url::BaseUrl;
use px_core::enforce::{Action, Worker};
use px_core::filter::Network;
use px_core::policy::{Options, Policy, TokenVersion};
use px_core::reason::PassReason;
use px_core::routes::{RegexPattern, RoutePattern};
use serde_json::Value;

use visit::{
    Choices, NOW, Played, Reply, SECRET, Site, Visit, basic, minted, play, play_in_turn,
    play_misremembered, play_with, recipe,
};

#[test]
fn any_request_gets_a_decision_and_reports_that_can_be_read() {
    let sites = Site::all();
    let mut workers = [(); 6].map(|()| Worker::default());
    let seeds = seeds();
    let mut chance = Chance(1);
    let mut decided = 0;
    for round in 0..1500 {
        let mut visit = seeds.visits[chance.below(seeds.visits.len())].clone();
        for _ in 0..=chance.below(4) {
            chance.change_visit(&mut visit, &seeds);
        }
        let at = round % sites.len();
        let played = explained(&visit, || play_with(&visit, &sites[at], &mut workers[at]));
        decided += usize::from(played.action.is_some());
    }
    assert!(decided > 700, "{decided}");
}

#[test]
fn any_body_is_read_or_left_alone() {
    let site = Site::reading_bodies();
    let bodies = bodies();
    let mut chance = Chance(11);
    let (mut logins, mut operations) = (0, 0);
    for round in 0..4000 {
        let mut body = bodies[chance.below(bodies.len())].clone();
        for _ in 0..chance.below(4) {
            chance.change(&mut body, &BODY_PIECES);
        }
        let target = ["/login", "/v1", "/graphql", "/mcp", "/query?user=a&pass=b"][round % 5];
        let content_type = CONTENT_TYPES[chance.below(CONTENT_TYPES.len())];
        let answer = r#"{"status":0,"score":0,"data_enrichment":{"breached_account":1}}"#;
        let visit = Visit::usual().posting(target, content_type, body).answered(200, answer);
        let details = explained(&visit, || play(&visit, &site)).activity["details"].take();
        logins += usize::from(details["ci_version"].is_string());
        operations += usize::from(details["graphql_operations"].is_array());
    }
    assert!(logins > 800 && operations > 150, "{logins} {operations}");
}

const CONTENT_TYPES: [&str; 4] = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=XX",
    "multipart/form-data; boundary=\"XX\"",
];

const BODY_PIECES: [&[u8]; 17] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\u00",
    b"null,",
    b"query a(",
    b"mutation Login { a }",
    b"--XX",
    b"\r\n\r\n",
    b"; name=\"user\"",
    b"&",
    b"=",
    b"%F",
    b"\xff",
    b"\0",
];

/// Bodies of the vectors, and forms that the site's endpoints know.
fn bodies() -> Vec<Vec<u8>> {
    let part = |name| format!("--XX\r\nContent-Disposition: form-data; name={name}\r\n\r\nv\r\n");
    let mut bodies: Vec<Vec<u8>> = vec![
        br#"{"user":{"name":"a@b.example"},"pass":"p"}"#.to_vec(),
        br#"{"user":"u","pass":""}"#.to_vec(),
        b"user=a%40b.example&pass=x+y".to_vec(),
        [part("\"user\""), part("pass"), "--XX--".to_owned()].concat().into_bytes(),
    ];
    let own = bodies.len();
    for name in ["graphql", "agentic-trust", "credentials-extraction"] {
        let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).expect("a vector file");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        for case in json["cases"].as_array().expect("cases") {
            bodies.extend(case["request"]["body"].as_str().map(|body| body.as_bytes().to_vec()));
        }
    }
    // As many of ours as of theirs.
    let known: Vec<_> = bodies.iter().take(own).cloned().cycle().take(bodies.len()).collect();
    bodies.extend(known);
    bodies
}

#[test]
fn only_a_valid_answer_with_a_high_score_blocks() {
    let sites = Site::all();
    let seeds = seeds();
    let mut chance = Chance(2);
    let mut blocked = 0;
    for round in 0..2000 {
        let mut body = match round % 2 {
            0 => HIGH.to_vec(),
            _ => seeds.answers[chance.below(seeds.answers.len())].clone(),
        };
        for _ in 0..chance.below(4) {
            chance.change(&mut body, &ANSWER_PIECES);
        }
        let status = [200, 200, 200, 200, 200, 200, 0, 204, 302, 413, 503][chance.below(11)];
        let visit = Visit::usual().answered(status, body);
        let played = explained(&visit, || play(&visit, &sites[round % sites.len()]));
        blocked += usize::from(played.action == Some(Action::Block));
    }
    assert!((200..1500).contains(&blocked), "{blocked}");
}

#[test]
fn a_genuine_token_may_say_anything() {
    let sites = Site::all();
    let payloads: Vec<(&[u8], Vec<u8>)> = [
        (&b"~v3"[..], r#"{"u":"U","v":"V","t":1750000330000,"s":0,"a":"c","x":"u"}"#),
        (b"~v3", r#"{"u":"U","v":"V","t":1750000330000,"s":100,"a":"c"}"#),
        (b"~mobile", r#"{"u":"U","v":"V","t":1750000330000,"s":100,"a":"b","cpa":1}"#),
        (b"~v2", r#"{"t":1750000330000,"u":"U","v":"V","bit":"1"}"#),
        (b"~v1", r#"{"t":1750000330000,"s":{"a":0,"b":100},"u":"U","v":"V"}"#),
    ]
    .map(|(form, payload)| (form, payload.replace(['U', 'V'], UUID).into_bytes()))
    .to_vec();
    let mut chance = Chance(3);
    let (mut passed, mut blocked) = (0, 0);
    for round in 0..1500 {
        let (form, mut payload) = payloads[chance.below(payloads.len())].clone();
        for _ in 0..chance.below(4) {
            chance.change(&mut payload, &PAYLOAD_PIECES);
        }
        let mut visit = Visit::usual().answered(200, &br#"{"status":0,"score":0}"#[..]);
        visit.add_token(form, &payload);
        let site = &sites[round % sites.len()];
        let played = explained(&visit, || play(&visit, site));
        explained(&visit, || play_misremembered(&visit, site, &payload));
        passed += usize::from(played.pass_reason == Some(PassReason::Cookie));
        blocked += usize::from(!played.asked && played.action == Some(Action::Block));
    }
    assert!(passed > 40 && blocked > 100, "{passed} passed, {blocked} blocked");
}

/// The enforcer against a naive reading of the specification, which the vectors hold to what the
/// official enforcer does (`runner/tokens.rs`). `visit` compares what is decided and reported.
#[test]
fn any_token_means_what_the_specification_says() {
    let mut chance = Chance(9);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..4000 {
        let mut bytes = [0; 64];
        bytes.fill_with(|| u8::try_from(chance.below(256)).expect("a byte"));
        // Some are nearly ordinary: the bytes end early.
        let (visit, site) = recipe::visit(&bytes[..64 - round % 60]);
        let played = explained(&visit, || play(&visit, &site));
        let details = &played.activity["details"];
        let outcome = match (played.action, played.pass_reason) {
            (Some(Action::Block), _) => "block",
            (_, Some(PassReason::Cookie)) => "pass",
            _ => details["s2s_call_reason"].as_str().unwrap_or("no call"),
        };
        *outcomes.entry(outcome.to_owned()).or_default() += 1;
    }
    for outcome in [
        "block",
        "pass",
        "cookie_expired",
        "cookie_decryption_failed",
        "cookie_validation_failed",
        "sensitive_route",
        "mobile_error_1",
        "no_cookie",
        "no call",
    ] {
        let often = outcomes.get(outcome).copied().unwrap_or_default();
        assert!(often > 10, "{outcome}: {outcomes:?}");
    }
}

#[test]
fn a_token_that_was_changed_never_passes() {
    let genuine = r#"{"u":"U","v":"V","t":1750000330000,"s":0,"a":"c"}"#.replace('U', UUID);
    let verdict = r#"{"t":1750000330000,"u":"U","v":"U"}"#.replace('U', UUID);
    let with_v2 = Options { token_version: TokenVersion::V2, ..basic() };
    for (site, form, payload) in [
        (Site::plain(), &b"~v3"[..], &genuine),
        (Site::plain(), b"~mobile", &genuine),
        (Site::of(with_v2), b"~v2", &verdict),
    ] {
        let mut original = Visit::usual();
        original.add_token(form, payload.as_bytes());
        let untouched = play(&original, &site);
        assert_eq!(untouched.pass_reason, Some(PassReason::Cookie));
        let said = |played: &Played| {
            let details = &played.activity["details"];
            (details["px_cookie"].clone(), details["px_cookie_hmac"].clone())
        };
        let mut chance = Chance(4);
        let mut refused = 0;
        for _ in 0..500 {
            let mut visit = original.clone();
            let (_, token) = visit.headers.last_mut().expect("a token");
            chance.change(token, &TOKEN_PIECES);
            let played = explained(&visit, || play(&visit, &site));
            if played.asked {
                refused += 1;
            } else {
                // The change lay outside of what is signed: a blank, another cookie, an escape.
                assert_eq!(said(&played), said(&untouched), "{}", shown(&visit));
            }
        }
        assert!(refused > 400, "{refused}");
    }
}

#[test]
fn no_value_breaks_out_of_a_block_page() {
    let sites = Site::all();
    let mut chance = Chance(5);
    let mut blocked = 0;
    for _ in 0..200 {
        let mut text = || {
            let pieces =
                (0..1 + chance.below(4)).map(|_| PAGE_PIECES[chance.below(PAGE_PIECES.len())]);
            pieces.collect::<String>()
        };
        let answer = serde_json::json!({
            "status": 0, "score": 100, "cookie_cfg_block_result": "1",
            "uuid": text(), "action": text(), "pxhd": text(), "pxhdDomain": text(),
            "data_enrichment": {text(): text()},
        });
        let mut answer = answer;
        let token = serde_json::json!({
            "u": text(), "v": text(), "t": NOW, "s": 100, "a": text(),
        });
        let mut visit = Visit {
            method: text().into_bytes(),
            host: text().into_bytes(),
            target: format!("/account/{}", text()).into_bytes(),
            assets: [text(), text(), text()],
            ..Visit::usual().with("origin", text()).with("x-px-block", "1")
        };
        match chance.below(4) {
            0 => visit = visit.with("accept", "application/json"),
            1 => visit = visit.with("x-px-authorization", "1"),
            2 => visit.add_token(b"~v3", token.to_string().as_bytes()),
            _ => {}
        }
        if let letter @ ("b" | "r" | "c") = ["b", "r", "c", ""][chance.below(4)] {
            answer["action"] = letter.into();
        }
        visit = visit.answered(200, answer.to_string());
        for site in &sites {
            let played = explained(&visit, || play(&visit, site));
            blocked += usize::from(played.answer.is_some());
        }
    }
    assert!(blocked > 400, "{blocked}");
}

#[test]
fn only_a_signed_command_that_is_not_past_asks_for_telemetry() {
    let site = Site::plain();
    let mut chance = Chance(6);
    let mut commanded = 0;
    for round in 0..1000 {
        let mut timestamp = (NOW + 60_000).to_string().into_bytes();
        for _ in 0..chance.below(3) {
            chance.change(&mut timestamp, &[b"0", b"9", b":", b"-", b"+", b" ", b".5", b"e3"]);
        }
        let digits = std::str::from_utf8(&timestamp)
            .ok()
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
        let is_current = digits.is_some_and(|text| text.parse().unwrap_or(u64::MAX) >= NOW);
        let signed = minted::telemetry_command(SECRET, &timestamp).into_bytes();
        let mut command = signed.clone();
        if round % 4 == 0 {
            chance.change(&mut command, &TOKEN_PIECES);
        }
        let is_whole = command == signed;
        let visit = Visit::usual().with("x-px-enforcer-telemetry", command);
        let played = explained(&visit, || play(&visit, &site));
        // A change may be one that base64 does not see: the padding, the last bits.
        if is_whole || !is_current {
            assert_eq!(played.telemetry_requested, is_current, "{}", shown(&visit));
        }
        commanded += usize::from(played.telemetry_requested);
    }
    assert!(commanded > 300, "{commanded}");
}

#[test]
fn only_signed_enrichment_goes_to_the_origin() {
    let site = &Site::all()[1];
    let mut chance = Chance(8);
    for round in 0..500 {
        let mut payload = br#"{"f_type":"w","n":[1,1e21,"
"]}"#
            .to_vec();
        for _ in 0..chance.below(4) {
            chance.change(&mut payload, &PAYLOAD_PIECES);
        }
        let signed = minted::data_enrichment(SECRET, &payload);
        let mut cookie = signed.clone().into_bytes();
        if round % 2 == 0 {
            chance.change(&mut cookie, &TOKEN_PIECES);
        }
        let is_whole = cookie == signed.as_bytes();
        let visit = Visit::usual().with("cookie", [b"_pxde=", &cookie[..]].concat());
        let played = explained(&visit, || play(&visit, site));
        let text = String::from_utf8_lossy(&payload);
        let value = serde_json::from_str::<Value>(&text).ok().filter(|value| !value.is_null());
        if is_whole {
            assert_eq!(played.enrichment.is_some(), value.is_some(), "{}", shown(&visit));
        } else if let Some(text) = played.enrichment {
            // The change lay behind the cookie's end.
            let untouched = play(&Visit::usual().with("cookie", format!("_pxde={signed}")), site);
            assert_eq!(untouched.enrichment, Some(text));
        }
    }
}

#[test]
fn the_fuzz_seeds_are_ordinary_visits() {
    let (mut decided, mut blocked) = (0, 0);
    for seed in sessions() {
        for played in played_session(&seed) {
            decided += usize::from(played.action.is_some());
            blocked += usize::from(played.action == Some(Action::Block));
        }
    }
    assert!(decided > 40 && blocked > 15, "{decided} {blocked}");
}

/// Seeds of `begin_resume` in the order of their names, without those that a fuzzer found, whose names
/// are hashes.
fn sessions() -> Vec<Vec<u8>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/begin_resume");
    let names = fs::read_dir(seeds).expect("seeds").map(|seed| seed.expect("a file").path());
    let is_ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() < 40);
    let mut names: Vec<_> = names.filter(is_ours).collect();
    names.sort();
    names.iter().map(|name| fs::read(name).expect("a seed")).collect()
}

#[test]
fn whatever_an_operator_chooses_only_a_decision_blocks() {
    let seeds = sessions();
    let line = |text: &[u8]| {
        text.split(|byte| *byte == b'\n').next().map(<[u8]>::to_vec).unwrap_or_default()
    };
    let words: Vec<Vec<u8>> = (seeds.iter())
        .flat_map(|seed| {
            line(seed).split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .collect();
    let mut chance = Chance(12);
    let mut decided = 0;
    for _ in 0..1500 {
        let visits = &seeds[chance.below(seeds.len())];
        let mut text = Vec::new();
        for _ in 0..chance.below(8) {
            text.extend_from_slice(&words[chance.below(words.len())]);
            text.push(b' ');
        }
        text.extend_from_slice(&visits[line(visits).len()..]);
        for _ in 0..chance.below(3) {
            chance.change(&mut text, &VALUE_PIECES);
        }
        let played = panic::catch_unwind(|| played_session(&text)).unwrap_or_else(|panic| {
            eprintln!("{}", text.escape_ascii());
            panic::resume_unwind(panic)
        });
        decided += played.iter().filter(|played| played.action.is_some()).count();
    }
    assert!(decided > 700, "{decided}");
}

/// What an operator chose in the first line, and visits behind it.
fn played_session(text: &[u8]) -> Vec<Played> {
    let (words, visits) = match text.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &b""[..]),
    };
    let choices = Choices::read(&String::from_utf8_lossy(words));
    let Ok(policy) = Policy::compile(choices.options.clone()) else { return Vec::new() };
    choices.lend(|hooks| {
        let mut site = Site::with(policy, hooks);
        site.cors_headers = choices.cors_headers();
        play_in_turn(&Visit::parse_each(visits), &site)
    })
}

#[test]
fn an_operators_text_is_read_or_refused_in_one_line() {
    let mut chance = Chance(7);
    for _ in 0..4000 {
        let text = {
            let count = chance.below(7);
            let pieces = (0..count).map(|_| CONF_PIECES[chance.below(CONF_PIECES.len())]);
            pieces.collect::<String>()
        };
        // What the operator wrote over several lines is quoted so.
        let is_one_line = !text.contains('\n');
        let one_line = |error: String| assert!(!is_one_line || !error.contains('\n'), "{error}");
        match BaseUrl::parse(&text) {
            Ok(url) => assert_eq!(BaseUrl::parse(&url.to_string()), Ok(url), "{text:?}"),
            Err(error) => one_line(error),
        }
        match Network::parse(&text) {
            Ok(network) => assert_eq!(Network::parse(&network.to_string()), Ok(network)),
            Err(error) => one_line(error),
        }
        RegexPattern::parse(&text).map_or_else(one_line, drop);
        RoutePattern::parse_or_anchored_regex(&text).map_or_else(one_line, drop);
        RoutePattern::parse(&text).map_or_else(one_line, drop);
    }
}

#[test]
fn a_flood_of_anything_is_done_at_once() {
    const LENGTH: usize = 1 << 16;
    let long = |piece: &str| piece.repeat(LENGTH / piece.len());
    let site = Site::all().into_iter().nth(1).expect("a site");
    let mut visits = Vec::new();
    for cookie in
        ["_px3=a:%41;", "a=1;", ";", " ", "=", "_px3=", "_pxde=a:", "_px=%", "\u{ff}=1;", "_px3=\""]
    {
        visits.push(Visit::usual().with("cookie", long(cookie)));
    }
    let prefix = "p".repeat(200);
    let cookies = (0..5000).map(|number| format!("{prefix}{number}=1; ")).collect::<String>();
    visits.push(Visit::usual().with("cookie", cookies));
    for piece in ["/", "../", "a/../", "%2f", "%", ".", "?", "'", "#", ";", "\\", "\u{e9}", ":"] {
        let target = format!("/{}", long(piece)).into_bytes();
        visits.push(Visit { target, ..Visit::usual() });
        visits.push(Visit { host: long(piece).into_bytes(), ..Visit::usual() });
        visits.push(Visit::usual().with("x-px-authorization", format!("3:{}", long(piece))));
    }
    for (name, piece) in [
        ("x-forwarded-for", "1.2.3.4.5,"),
        ("x-true-ip", ":"),
        ("accept", "text/html;q=1,"),
        ("accept", " "),
        ("x-px-authorization", "1"),
        ("x-px-original-token", "3:"),
        ("x-px-enforcer-telemetry", "MTc1"),
        ("user-agent", "healthchec"),
        ("origin", "\u{e9}"),
    ] {
        visits.push(Visit::usual().with(name, long(piece)).answered(200, HIGH));
    }
    for name in ["x-px-authorization", "cookie", "X-Forwarded-For", "x-other"] {
        let repeated = (0..10_000).map(|_| (name.into(), Vec::new()));
        visits.push(Visit { headers: repeated.collect(), ..Visit::usual() });
    }
    let distinct = (0..10_000).rev().map(|number| (format!("X-{number:05}").into(), vec![b'v']));
    visits.push(Visit { headers: distinct.collect(), ..Visit::usual() });
    for body in [
        long("["),
        long("{\"a\":"),
        format!("{{\"status\":0,\"score\":0.{}}}", long("3")),
        format!("{{\"status\":0,\"score\":1{}e-{LENGTH}}}", long("0")),
        format!("{{\"status\":0,\"score\":0,\"uuid\":\"{}\"}}", long("\\u0041")),
        format!("{{\"status\":0,\"score\":100,\"uuid\":\"{}\"}}", "<".repeat(LENGTH / 2)),
        format!(
            "{{\"status\":0,\"score\":100,\"data_enrichment\":[{}1]}}",
            "1,".repeat(LENGTH / 3)
        ),
    ] {
        visits.push(Visit::usual().answered(200, body));
    }
    for visit in visits {
        let started = Instant::now();
        explained(&visit, || play(&visit, &site));
        // A wide margin, for a slow machine; what is quadratic takes minutes.
        assert!(started.elapsed() < Duration::from_secs(10), "{}", shown(&visit));
    }
}

const UUID: &str = "7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa";
const HIGH: &[u8] =
    br#"{"status":0,"score":100,"cookie_cfg_block_result":"1","action":"c","uuid":"u","pxhd":"h"}"#;

/// Plays, and shows the visit if it goes wrong.
fn explained<T>(visit: &Visit, play: impl FnOnce() -> T) -> T {
    panic::catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(|panic| {
        eprintln!("the visit: {}", shown(visit));
        panic::resume_unwind(panic)
    })
}

/// A visit, the beginning of one that is long.
fn shown(visit: &Visit) -> String {
    let Visit { method, host, target, headers, reply, assets, .. } = visit;
    let mut text = format!(
        "{} https://{}{}\n",
        method.escape_ascii(),
        host.escape_ascii(),
        target.escape_ascii()
    );
    for (name, value) in headers {
        text += &format!("{}: {}\n", name.escape_ascii(), value.escape_ascii());
    }
    text += &match reply {
        Reply::Http(status, body) => format!("{status} {}", body.escape_ascii()),
        other => format!("{other:?}"),
    };
    text += &format!("\n{assets:?}");
    text.chars().take(4000).collect()
}

/// What mutation starts from.
struct Seeds {
    visits: Vec<Visit>,
    answers: Vec<Vec<u8>>,
}

/// The requests and answers of all vector files.
fn seeds() -> Seeds {
    let mut seeds = Seeds { visits: Vec::new(), answers: Vec::new() };
    let mut seen = HashSet::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("vectors")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).expect("a vector file");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        for case in json["cases"].as_array().expect("cases") {
            let answer = case["risk_response"]["body"].as_str();
            if let Some(answer) = answer
                && seen.insert(answer.to_owned())
            {
                seeds.answers.push(answer.into());
            }
            if case["request"]["url"].is_string() && seen.insert(case["request"].to_string()) {
                seeds.visits.push(visit_of(case));
            }
            if let Some(command) = case["header_value"].as_str() {
                seeds.visits.push(Visit::usual().with("x-px-enforcer-telemetry", command));
            }
            if let Some(token) = case["input"]["value"].as_str() {
                seeds.visits.push(Visit::usual().with("cookie", format!("_px={token}")));
            }
        }
    }
    assert!(seeds.visits.len() > 300 && seeds.answers.len() > 20);
    seeds
}

fn visit_of(case: &Value) -> Visit {
    let request = &case["request"];
    let url = request["url"].as_str().unwrap_or_default();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let text = |value: &Value| value.as_str().unwrap_or_default().as_bytes().to_vec();
    let headers = request["headers"].as_array().into_iter().flatten();
    let body = &case["risk_response"]["body"];
    Visit {
        method: text(&request["method"]),
        host: host.into(),
        target: target.into(),
        http_version: "1.1".to_owned(),
        headers: headers.map(|header| (text(&header[0]), text(&header[1]))).collect(),
        reply: if body.is_string() { Reply::Http(200, text(body)) } else { Reply::Timeout },
        ..Visit::default()
    }
}

/// Pseudo-random numbers (xorshift), the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    /// Changes one thing about some bytes.
    fn change(&mut self, bytes: &mut Vec<u8>, pieces: &[&[u8]]) {
        let at = self.below(bytes.len() + 1);
        let end = bytes.len().min(at + self.below(9));
        match self.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.extend_from_within(at..),
            3 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            4 => bytes.insert(at, u8::try_from(self.below(256)).expect("a byte")),
            5 => drop(bytes.splice(at..end, pieces[self.below(pieces.len())].iter().copied())),
            _ => drop(bytes.splice(at..at, pieces[self.below(pieces.len())].iter().copied())),
        }
    }

    /// Changes one thing about a visit.
    fn change_visit(&mut self, visit: &mut Visit, seeds: &Seeds) {
        let count = visit.headers.len();
        let any = self.below(count.max(1));
        match self.below(12) {
            0 => self.change(&mut visit.method, &[b"GET", b"OPTIONS", b"\xff", b"\0"]),
            1 => self.change(&mut visit.host, &URL_PIECES),
            2 | 3 => self.change(&mut visit.target, &URL_PIECES),
            4..=6 if count > 0 => self.change(&mut visit.headers[any].1, &VALUE_PIECES),
            7 if count > 0 => self.change(&mut visit.headers[any].0, &NAMES),
            8 if count > 0 => visit.headers.push(visit.headers[any].clone()),
            9 => {
                let other = &seeds.visits[self.below(seeds.visits.len())].headers;
                visit.headers.extend_from_slice(other);
            }
            10 => {
                let body = seeds.answers[self.below(seeds.answers.len())].clone();
                visit.reply = Reply::Http(200, body);
            }
            _ => {
                let mut value = Vec::new();
                (0..4).for_each(|_| self.change(&mut value, &VALUE_PIECES));
                visit.headers.push((NAMES[self.below(NAMES.len())].to_vec(), value));
            }
        }
    }
}

const NAMES: [&[u8]; 18] = [
    b"cookie",
    b"Cookie",
    b"X-PX-Cookies",
    b"x-px-authorization",
    b"X-PX-ORIGINAL-TOKEN",
    b"x-px-bypass-reason",
    b"x-px-enforcer-telemetry",
    b"x-px-block",
    b"x-forwarded-for",
    b"x-true-ip",
    b"user-agent",
    b"accept",
    b"origin",
    b"access-control-request-method",
    b"x-px-de",
    b"x-pass",
    b"\xff\x00",
    b"",
];

const VALUE_PIECES: [&[u8]; 32] = [
    b"_px3=",
    b"_px2=",
    b"_px=",
    b"_pxvid=",
    b"_pxhd=",
    b"_pxde=",
    b"pxcts=",
    b"; ",
    b";",
    b"=",
    b":",
    b"3:",
    b"2:",
    b"1:",
    b"1",
    b"1000",
    b"4294967296",
    b"%3A",
    b"%",
    b"\"",
    b"aGk=",
    b"-_",
    b"203.0.113.9",
    b"::1",
    b", ",
    b"application/json",
    b"7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa",
    b"null",
    b"\xff\xfe",
    b"\0",
    b"\r\nx: y",
    "\u{2028}</script>".as_bytes(),
];

const URL_PIECES: [&[u8]; 22] = [
    b"/",
    b"//",
    b"..",
    b"/../",
    b"%2e%2e",
    b"%2F",
    b"%",
    b"\\",
    b"?",
    b"#",
    b";",
    b":",
    b"@",
    b"[::1]",
    b"0x7f.1",
    b".css",
    b"http://",
    b"/abcd1234/xhr",
    b"/fp/captcha",
    b"\xff",
    b" ",
    b"\n",
];

const ANSWER_PIECES: [&[u8]; 32] = [
    b"\"status\":0,",
    b"\"status\":-1,",
    b"\"status\":\"0\",",
    b"\"score\":100,",
    b"\"score\":\"100\",",
    b"\"score\":1e400,",
    b"\"score\":null,",
    b"\"cookie_cfg_block_result\":\"1\",",
    b"\"action\":\"b\",",
    b"\"action\":\"<script>\",",
    b"\"uuid\":\"\\u2028</script>\",",
    b"\"pxhd\":\"a; b\",",
    b"\"pxhd\":\"\\r\\nx: y\",",
    b"\"data_enrichment\":{\"a\":\"\\n\"},",
    b"\"telemetry_requested\":1,",
    b"\"message\":\"m\",",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\ud800",
    b"null",
    b"-",
    b"1e9",
    b"0.1",
    b" ",
    b"\xff",
    b"\0",
];

const PAYLOAD_PIECES: [&[u8]; 24] = [
    b"\"s\":100,",
    b"\"s\":\"100\",",
    b"\"s\":null,",
    b"\"t\":0,",
    b"\"t\":1e300,",
    b"\"t\":\"x\",",
    b"\"x\":\"us\",",
    b"\"x\":\"\",",
    b"\"x\":[],",
    b"\"a\":\"\",",
    b"\"a\":\"</script>\",",
    b"\"v\":\"\",",
    b"\"v\":\"\\u0000\\\"<\",",
    b"\"u\":7,",
    b"\"cpa\":1,",
    b"\"n\":1e21,",
    b"\"n\":9007199254740993,",
    b"\"n\":-0.0000001,",
    b"{",
    b"}",
    b"[",
    b"\"",
    b"\\",
    b"\xff",
];

const TOKEN_PIECES: [&[u8]; 14] =
    [b":", b"=", b"%", b"%3A", b" ", b";", b"A", b"0", b"1", b"-", b"_", b"\"", b"\xff", b"\0"];

const PAGE_PIECES: [&str; 22] = [
    "\"",
    "'",
    "\\",
    "<",
    ">",
    "&",
    "</script>",
    "</ScRiPt >",
    "<script>",
    "<!--",
    "-->",
    "]]>",
    "{{",
    "}}",
    "{{uuid}}",
    "\n",
    "\r\nset-cookie: a=b",
    "\u{2028}",
    "\u{0}",
    "; domain=",
    "\u{e9}\u{1f600}",
    "javascript:alert(1)",
];

const CONF_PIECES: [&str; 34] = [
    "https://",
    "http://",
    "//",
    "/",
    "h.example",
    "[",
    "]",
    "::1",
    "::ffff:1.2.3.4",
    "1.2.3.4",
    "/24",
    "/128",
    ":80",
    ":0",
    ":99999",
    "unix:",
    "~",
    "~*",
    "^",
    "=",
    "(",
    ")",
    "(?=a)",
    "\\1",
    "[a-z]+",
    "{2,1}",
    "{1000}",
    "(?x)",
    "#",
    "\\",
    "\n",
    "\u{e9}",
    "i",
    " ",
];
