//! Tests for the px module: HTTP/2, with all that one connection makes possible.

mod support;

use std::fs;
use std::time::Duration;

use px_sandbox::Behaviour;
use support::decisions::{BOT, HTTP_2, Site};
use support::h2::H2;
use support::http2::Http2;
use support::{BROWSER, Nginx, SOON, wait_until};

fn start() -> Site {
    Site::start_as(|server| Nginx::builder().listen("http2").server(server))
}

/// The pseudo-header fields of a GET.
fn pseudo(path: &str) -> [(&str, &str); 4] {
    [(":method", "GET"), (":scheme", "http"), (":authority", "site.test"), (":path", path)]
}

/// One connection, the site named by `:authority` alone, bodies without a length.
#[test]
fn every_decision() {
    let mut site = start();
    let mut visitor = Http2::open(site.nginx.addr());
    site.decide(&HTTP_2, &mut visitor);
    site.decide(&HTTP_2, &mut visitor);
}

/// Browsers send each cookie as a field of its own.
#[test]
fn cookies_in_several_fields_are_one_list() {
    let site = start();
    site.split_cookies(&mut Http2::open(site.nginx.addr()));
}

/// As many streams as nginx takes at once, with cookies and answers of their own.
#[test]
fn each_of_128_streams_gets_its_own_verdict() {
    let site = start();
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(100)));
    let mut visitor = H2::open(site.nginx.addr());
    let streams: Vec<u32> = (0..128).map(|n| 2 * n + 1).collect();
    for stream in &streams {
        let n = stream / 2;
        let mint = site.sandbox.mint(BROWSER).uuid(uuid(n));
        let cookie = match n % 4 {
            0 => mint.cookie(),
            1 => mint.score(100).cookie(),
            _ => format!("number={n}"),
        };
        let agent = if n % 4 == 3 { BOT } else { BROWSER };
        let order =
            format!("uuid={} {}", uuid(n), if n % 4 == 3 { "score=100 action=c" } else { "" });
        let headers = [("user-agent", agent), ("cookie", &cookie), ("x-px-sandbox", &order)];
        visitor.request(*stream, "GET", &format!("/{n}"), &headers, true);
    }
    site.sandbox.wait_for_risk_calls(64, SOON);
    for stream in &streams {
        let answer = visitor.receive(*stream);
        let blocked = stream / 2 % 2 == 1;
        assert_eq!(answer.status, if blocked { 403 } else { 200 }, "{stream}");
        if blocked {
            let page = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(page.contains(&uuid(stream / 2)), "{stream}: {page}");
        }
    }
    let log = site.nginx.wait_for_access_log(128);
    assert_eq!(log.len(), 128);
    for n in 0..128 {
        let verdict = [
            "200 GET /N verdict=pass pass=cookie ",
            "403 GET /N verdict=block pass=- block=cookie_high_score ",
            "200 GET /N verdict=pass pass=s2s ",
            "403 GET /N verdict=block pass=- block=s2s_high_score ",
        ][n as usize % 4]
            .replace('N', &n.to_string());
        let lines: Vec<&String> = log.iter().filter(|line| line.starts_with(&verdict)).collect();
        assert_eq!(lines.len(), 1, "{verdict}: {log:?}");
        assert!(lines[0].contains(&uuid(n)), "{}", lines[0]);
    }
    let mut reached: Vec<String> = site
        .origin
        .texts()
        .iter()
        .filter_map(|text| text.split(' ').nth(1).map(str::to_owned))
        .collect();
    reached.sort();
    let mut expected: Vec<String> = (0..128).step_by(2).map(|n| format!("/{n}")).collect();
    expected.sort();
    assert_eq!(reached, expected);
    site.sandbox.assert_no_complaints();
}

fn uuid(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

#[test]
fn heads_in_many_frames_are_decided_like_others() {
    let site = Site::start_as(|server| {
        Nginx::builder().http("large_client_header_buffers 4 256k;").listen("http2").server(server)
    });
    let good = site.sandbox.mint(BROWSER).cookie();
    let huge = format!("first={}; {good}", "x".repeat(100_000));
    let long = format!("/long?{}", "x".repeat(100_000));
    let mut visitor = H2::open_narrow(site.nginx.addr(), 60_000);
    let mut stream = 1;
    for (path, cookie, agent, piece, status) in [
        ("/", good.as_str(), BROWSER, 1, 200),
        ("/", "a=1", BROWSER, 7, 200),
        ("/", "a=1", BOT, 7, 403),
        ("/", &huge, BROWSER, 16_384, 200),
        ("/", &huge, BROWSER, 5_000, 200),
        (&long, "a=1", BROWSER, 16_384, 200),
        (&long, &good, BROWSER, 16_384, 200),
        (&long, "a=1", BOT, 16_384, 403),
    ] {
        site.origin.clear();
        site.sandbox.clear();
        let fields = [&pseudo(path)[..], &[("user-agent", agent), ("cookie", cookie)]].concat();
        visitor.request_in_pieces(stream, &fields, piece);
        assert_eq!(visitor.receive(stream).status, status, "{stream}");
        stream += 2;
        let calls = site.sandbox.risk_calls();
        assert_eq!(calls.len(), usize::from(cookie == "a=1"));
        for call in calls {
            assert_eq!(call.json()["request"]["url"], format!("http://site.test{path}"));
        }
        for text in site.origin.texts() {
            assert!(text.starts_with(&format!("GET {path} HTTP/1.1\r\n")));
            assert!(text.contains(&format!("cookie: {cookie}\r\n")));
        }
    }
    assert_eq!(site.nginx.wait_for_access_log(8).len(), 8);
}

/// The site may be named by `host` instead; a request that names none is refused by nginx.
#[test]
fn the_host_is_told_however_it_is_named() {
    let site = start();
    let mut visitor = H2::open(site.nginx.addr());
    let without = [(":method", "GET"), (":scheme", "http"), (":path", "/a")];
    for (stream, name) in [(1, ":authority"), (3, "host")] {
        site.sandbox.clear();
        let mut fields = without.to_vec();
        let at = if name == "host" { 3 } else { 2 };
        fields.insert(at, (name, "Site.Test:8080"));
        fields.push(("user-agent", BROWSER));
        visitor.request_in_pieces(stream, &fields, 1000);
        assert_eq!(visitor.receive(stream).status, 200, "{name}");
        let call = site.sandbox.risk_calls()[0].json();
        assert_eq!(call["request"]["url"], "http://site.test:8080/a", "{name}");
        let headers = call["request"]["headers"].to_string();
        assert!(headers.contains("{\"name\":\"host\",\"value\":\"Site.Test:8080\"}"), "{headers}");
    }
    site.sandbox.clear();
    visitor.request_in_pieces(5, &without, 1000);
    assert_eq!(visitor.receive(5).status, 400);
    assert!(site.sandbox.risk_calls().is_empty());
}

#[test]
fn priorities_do_not_change_verdicts() {
    let site = start();
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(50)));
    let mut visitor = H2::open(site.nginx.addr());
    // A chain in which each depends on the one that comes later, and a loop.
    for stream in (1..40).step_by(2) {
        visitor.prioritize(stream, stream + 2, (stream % 256) as u8);
        let agent = if stream % 4 == 1 { BOT } else { BROWSER };
        visitor.request(stream, "GET", "/", &[("user-agent", agent)], true);
    }
    site.sandbox.wait_for_risk_calls(1, SOON);
    for stream in (1..40).step_by(2) {
        visitor.prioritize(stream, (stream + 6) % 40, 255);
    }
    for stream in (1..40).step_by(2) {
        let status = if stream % 4 == 1 { 403 } else { 200 };
        assert_eq!(visitor.receive(stream).status, status, "{stream}");
    }
    assert_eq!(site.nginx.wait_for_access_log(20).len(), 20);
}

#[test]
fn a_block_page_arrives_through_the_narrowest_window() {
    let site = start();
    let mut wide = H2::open(site.nginx.addr());
    let headers = [("user-agent", BOT)];
    wide.request(1, "GET", "/", &headers, true);
    let whole = wide.receive(1);
    assert!(whole.body.len() > 1000);
    for window in [1, 13, 1000] {
        let mut visitor = H2::open_narrow(site.nginx.addr(), window);
        for stream in [1, 3, 5] {
            visitor.request(stream, "GET", "/", &headers, true);
        }
        for stream in [5, 1, 3] {
            let answer = visitor.receive(stream);
            assert_eq!((answer.status, answer.body.len()), (403, whole.body.len()), "{window}");
            assert!(String::from_utf8_lossy(&answer.body).ends_with("</html>\n"), "{window}");
        }
        visitor.request(7, "GET", "/", &[("user-agent", BROWSER)], true);
        assert_eq!(visitor.receive(7).body, b"origin");
    }
}

/// Whichever side says that it goes away: what was asked before is answered.
#[test]
fn who_goes_away_during_calls_is_answered() {
    let site = start();
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(300)));
    for by_server in [false, true] {
        let asked = site.sandbox.risk_calls().len();
        let old = site.nginx.workers();
        let mut visitor = H2::open(site.nginx.addr());
        for (stream, agent) in [(1, BROWSER), (3, BOT), (5, BROWSER)] {
            visitor.request(stream, "GET", "/", &[("user-agent", agent)], true);
        }
        site.sandbox.wait_for_risk_calls(asked + 3, SOON);
        if by_server {
            site.nginx.reload(|conf| conf);
        } else {
            visitor.go_away();
        }
        for (stream, status) in [(3, 403), (5, 200), (1, 200)] {
            assert_eq!(visitor.receive(stream).status, status);
        }
        if by_server {
            assert!(visitor.is_closed());
            site.nginx.wait_for_workers_to_end(&old);
        }
    }
    assert_eq!(site.nginx.wait_for_access_log(6).len(), 6);
}

/// Bytes that a process has in memory.
fn resident(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).expect("it is alive");
    4096 * statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number")
}

/// Whether the last three rounds together added less than a hundred bytes for each of their streams.
fn is_level(after: &[u64]) -> bool {
    after.len() > 3 && after[after.len() - 1] < after[after.len() - 4] + (256 << 10)
}

/// Thousands of streams that are given up as soon as they have begun, each of which starts a call.
/// How much memory a round needs depends on how many calls it has at a time, up to nginx's limits;
/// what is kept for each stream would show in every round.
#[test]
fn rapid_resets_cost_nothing_but_themselves() {
    const STREAMS: u32 = 300;
    const ROUNDS: usize = 30;
    let site = start();
    let worker = site.nginx.wait_for_workers(1)[0];
    let mut after = Vec::new();
    while !is_level(&after) {
        let round = after.len();
        assert!(round < ROUNDS, "it grows: {after:?}");
        site.sandbox.behave(Behaviour::Delay(Duration::from_millis(500)));
        let mut visitors: Vec<H2> = (0..3).map(|_| H2::open(site.nginx.addr())).collect();
        for visitor in &mut visitors {
            for n in 0..STREAMS {
                // nginx itself may have had enough, and close the connection.
                if !visitor.begin_and_reset(2 * n + 1, &format!("/reset/{round}")) {
                    break;
                }
            }
        }
        visitors.iter_mut().for_each(H2::hang_up);
        site.sandbox.behave_well();
        let mut visitor = H2::open(site.nginx.addr());
        for (stream, agent, status) in [(1, BROWSER, 200), (3, BOT, 403)] {
            visitor.request(stream, "GET", "/after", &[("user-agent", agent)], true);
            assert_eq!(visitor.receive(stream).status, status, "{round}");
        }
        after.push(resident(worker));
    }
    assert_eq!(site.nginx.workers(), [worker]);
    let answered = |log: &[String]| log.iter().filter(|line| line.contains("GET /after ")).count();
    wait_until("the log", || answered(&site.nginx.access_log()) == 2 * after.len());
    let log = site.nginx.access_log();
    assert!(log.iter().any(|line| line.contains("GET /reset/")), "no stream began");
}
