//! Tests for the px module: HTTP/3 over QUIC, under an nginx that speaks it.

mod support;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use h3::error::Code;
use px_sandbox::{Behaviour, Sandbox};
use quinn::{TransportConfig, VarInt};
use support::decisions::{BOT, HTTP_3, Visitor};
use support::http3::{Http3, Http3Site, is_spoken};
use support::{BROWSER, wait_until};

/// Returns when the Risk API has been asked so often; the connection goes on meanwhile.
fn wait_for_calls(sandbox: &Sandbox, visitor: &Http3, count: usize) {
    wait_until("calls", || {
        visitor.turn();
        sandbox.risk_calls().len() >= count
    });
}

/// One connection, the site named by `:authority` alone, bodies without a length.
#[test]
fn every_decision() {
    if !is_spoken() {
        return;
    }
    let mut own = Http3Site::start("");
    let mut visitor = own.visitor();
    own.site.decide(&HTTP_3, &mut visitor);
    own.site.decide(&HTTP_3, &mut visitor);
}

#[test]
fn cookies_in_several_fields_are_one_list() {
    if !is_spoken() {
        return;
    }
    let own = Http3Site::start("");
    own.site.split_cookies(&mut own.visitor());
}

/// nginx makes no Host line of `:authority` here, as it does for HTTP/2; the Risk API is told one.
#[test]
fn the_host_is_told_however_it_is_named() {
    if !is_spoken() {
        return;
    }
    let own = Http3Site::start("");
    let sandbox = &own.site.sandbox;
    let mut visitor = own.visitor();
    // Older ones refuse a Host line with a port beside `:authority`.
    for (authority, line) in [("Site.Test:8443", None), ("site.test", Some("site.test"))] {
        sandbox.clear();
        let uri = format!("https://{authority}/a?b");
        let mut request = http::Request::get(&uri).header("user-agent", BROWSER);
        if let Some(line) = line {
            request = request.header("host", line);
        }
        let stream = visitor.begin_as(request.body(()).expect("a request"), b"");
        assert_eq!(visitor.receive(stream).status, 200);
        let call = sandbox.risk_calls()[0].json();
        assert_eq!(call["request"]["url"], uri.to_lowercase());
        let headers = call["request"]["headers"].to_string();
        let told = format!("{{\"name\":\"host\",\"value\":\"{authority}\"}}");
        assert_eq!(headers.matches(&told).count(), 1, "{headers}");
        assert_eq!(headers.matches("\"host\"").count(), 1, "{headers}");
    }
}

#[test]
fn each_of_100_streams_gets_its_own_verdict() {
    if !is_spoken() {
        return;
    }
    let own = Http3Site::start("");
    let site = &own.site;
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(100)));
    let mut visitor = own.visitor();
    let mut streams = Vec::new();
    for n in 0..100 {
        let mint = site.sandbox.mint(BROWSER);
        let cookie = match n % 4 {
            0 => mint.cookie(),
            1 => mint.score(100).cookie(),
            _ => format!("number={n}"),
        };
        let agent = if n % 4 == 3 { BOT } else { BROWSER };
        let headers = [("user-agent", agent), ("cookie", cookie.as_str())];
        streams.push(visitor.begin("GET", &format!("/{n}"), &headers, b""));
    }
    wait_for_calls(&site.sandbox, &visitor, 50);
    for (n, stream) in streams.into_iter().enumerate() {
        assert_eq!(visitor.receive(stream).status, if n % 2 == 1 { 403 } else { 200 }, "{n}");
    }
    let log = site.nginx.wait_for_access_log(100);
    assert_eq!(log.len(), 100);
    for n in 0..100 {
        let verdict = [
            "200 GET /N verdict=pass pass=cookie ",
            "403 GET /N verdict=block pass=- block=cookie_high_score ",
            "200 GET /N verdict=pass pass=s2s ",
            "403 GET /N verdict=block pass=- block=s2s_high_score ",
        ][n % 4]
            .replace('N', &n.to_string());
        assert_eq!(log.iter().filter(|line| line.starts_with(&verdict)).count(), 1, "{verdict}");
    }
    assert_eq!(site.origin.requests().len(), 50);
    site.sandbox.assert_no_complaints();
}

/// Large bodies and heads, those that come while the Risk API is asked included.
#[test]
fn large_requests_arrive_whole() {
    if !is_spoken() {
        return;
    }
    let own = Http3Site::start_as("client_max_body_size 10m;", |builder| {
        builder.http("large_client_header_buffers 4 256k;")
    });
    let site = &own.site;
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(50)));
    let mut visitor = own.visitor();
    let good = site.sandbox.mint(BROWSER).cookie();
    let huge = format!("first={}; {good}", "x".repeat(100_000));
    let body: Vec<u8> = (0..500_000_u32).map(|n| (n % 251) as u8).collect();
    for (agent, cookie, body, status, calls) in [
        (BROWSER, "a=1", &body[..], 200, 1),
        (BROWSER, good.as_str(), &body, 200, 0),
        (BROWSER, &huge, &[], 200, 0),
        (BOT, "a=1", &body[..10_000], 403, 1),
    ] {
        site.origin.clear();
        site.sandbox.clear();
        let headers = [("user-agent", agent), ("cookie", cookie)];
        assert_eq!(visitor.ask("POST", "/upload", &headers, body).status, status);
        assert_eq!(site.sandbox.risk_calls().len(), calls);
        for request in site.origin.requests() {
            assert!(request.ends_with(body));
            assert!(String::from_utf8_lossy(&request).contains(cookie));
        }
        assert_eq!(site.origin.requests().len(), usize::from(status == 200));
    }
    assert_eq!(site.nginx.wait_for_access_log(4).len(), 4);
}

#[test]
fn a_block_page_arrives_through_the_narrowest_window() {
    if !is_spoken() {
        return;
    }
    let own = Http3Site::start("");
    let headers = [("user-agent", BOT)];
    let whole = own.visitor().ask("GET", "/", &headers, b"");
    for window in [64, 1000] {
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(VarInt::from_u32(window));
        let mut visitor = own.visitor_with(transport);
        let streams: Vec<_> = (0..3).map(|_| visitor.begin("GET", "/", &headers, b"")).collect();
        for stream in streams {
            let answer = visitor.receive(stream);
            assert_eq!((answer.status, answer.body.len()), (403, whole.body.len()), "{window}");
            assert!(answer.text().ends_with("</html>\n"), "{window}");
        }
        assert_eq!(visitor.ask("GET", "/", &[("user-agent", BROWSER)], b"").text(), "origin");
    }
}

/// The worker is as before: the same, without calls under way, and right.
fn assert_unharmed(own: &Http3Site, worker: u32) {
    let site = &own.site;
    wait_until("the calls to end", || site.sandbox.open_connections() <= 1);
    site.sandbox.behave_well();
    let mut visitor = own.visitor();
    let mut status = |agent| visitor.ask("GET", "/after", &[("user-agent", agent)], b"").status;
    assert_eq!(status(BROWSER), 200);
    // Calls have little time here: on a busy machine a bot may pass at first.
    wait_until("a bot to be blocked", || status(BOT) == 403);
    assert_eq!(site.nginx.workers(), [worker]);
}

#[test]
fn a_connection_that_closes_during_calls_leaves_nothing_behind() {
    if !is_spoken() {
        return;
    }
    let own = Http3Site::start("px_s2s_timeout 1s;");
    let worker = own.site.nginx.wait_for_workers(1)[0];
    own.site.sandbox.behave(Behaviour::Hang);
    let mut visitors: Vec<Http3> = (0..4).map(|_| own.visitor()).collect();
    for visitor in &mut visitors {
        for (method, body) in [("GET", &b""[..]), ("POST", b"some body"), ("HEAD", b"")] {
            // It is not waited for.
            let _ = visitor.begin(method, "/", &[("user-agent", BROWSER)], body);
        }
    }
    wait_until("calls", || {
        visitors.iter().for_each(Http3::turn);
        own.site.sandbox.risk_calls().len() >= 12
    });
    visitors.into_iter().for_each(Http3::leave);
    assert_unharmed(&own, worker);
}

/// Hundreds of streams that are given up as soon as they have begun, each of which starts a call.
#[test]
fn rapid_resets_cost_nothing_but_themselves() {
    if !is_spoken() {
        return;
    }
    let own = Http3Site::start("px_s2s_timeout 500ms;");
    let worker = own.site.nginx.wait_for_workers(1)[0];
    for _ in 0..3 {
        own.site.sandbox.behave(Behaviour::Hang);
        let mut visitor = own.visitor();
        for n in 0..300 {
            // nginx itself may have had enough, and close the connection.
            if visitor.connection.close_reason().is_some() {
                break;
            }
            let mut stream = visitor.begin("GET", "/reset", &[("user-agent", BROWSER)], b"");
            if n % 4 == 0 {
                // It reaches nginx before it is given up; others together with that.
                visitor.turn();
            }
            stream.stop_sending(Code::H3_REQUEST_CANCELLED);
            stream.stop_stream(Code::H3_REQUEST_CANCELLED);
        }
        wait_for_calls(&own.site.sandbox, &visitor, 1);
        // The connection goes on, unless nginx closed it.
        if visitor.connection.close_reason().is_none() {
            let cookie = own.site.sandbox.mint(BROWSER).score(100).cookie();
            let headers = [("user-agent", BROWSER), ("cookie", cookie.as_str())];
            assert_eq!(visitor.ask("GET", "/", &headers, b"").status, 403);
        }
        visitor.leave();
        assert_unharmed(&own, worker);
    }
}

/// A visitor whose address changes while the Risk API is asked gets his answer; the address that is told
/// is that of his request's arrival.
#[test]
fn a_visitor_who_moves_during_the_call_is_answered() {
    if !is_spoken() {
        return;
    }
    let own = Http3Site::start("");
    let site = &own.site;
    for addr in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 77)] {
        for (agent, status) in [(BROWSER, 200), (BOT, 403)] {
            let mut visitor = own.visitor();
            site.sandbox.clear();
            site.sandbox.behave(Behaviour::Delay(Duration::from_millis(200)));
            let body = b"some body".repeat(1000);
            let stream = visitor.begin("POST", "/", &[("user-agent", agent)], &body);
            wait_for_calls(&site.sandbox, &visitor, 1);
            visitor.move_to(addr);
            let answer = visitor.receive(stream);
            assert_eq!(answer.status, status, "{addr}");
            let calls = site.sandbox.risk_calls();
            assert_eq!(calls.len(), 1);
            assert_eq!(calls[0].json()["request"]["socket_ip"], "127.0.0.1");
        }
    }
    assert_eq!(site.nginx.wait_for_access_log(4).len(), 4);
}

#[test]
fn each_of_several_workers_answers_its_own_connections() {
    if !is_spoken() {
        return;
    }
    let directives = "add_header worker $pid always;";
    let own = Http3Site::start_as(directives, |builder| builder.workers(3));
    own.site.nginx.wait_for_workers(3);
    let mut visitors: Vec<Http3> = (0..12).map(|_| own.visitor()).collect();
    let mut seen = Vec::new();
    for round in 0..2 {
        for (n, visitor) in visitors.iter_mut().enumerate() {
            let (agent, status) = if n % 2 == 0 { (BROWSER, 200) } else { (BOT, 403) };
            let answer = visitor.ask("GET", &format!("/{round}"), &[("user-agent", agent)], b"");
            assert_eq!(answer.status, status);
            seen.push((n, answer.header("worker").expect("its pid").to_owned()));
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), visitors.len(), "a connection has one worker: {seen:?}");
    let workers: HashSet<_> = seen.into_iter().map(|(_, worker)| worker).collect();
    assert!(workers.len() > 1, "{workers:?}");
}

/// nginx leaves it open whether what was begun before a reload is answered: packets of the old connection may reach the
/// new worker. If it is, then by the configuration it was begun under.
#[test]
fn a_reload_during_calls_changes_no_verdict() {
    if !is_spoken() {
        return;
    }
    let own = Http3Site::start("");
    let site = &own.site;
    let bot = [("user-agent", BOT)];
    let mut transport = TransportConfig::default();
    let patience = Duration::from_secs(5).try_into().expect("a good length");
    transport.max_idle_timeout(Some(patience));
    let mut visitor = own.visitor_with(transport);
    assert_eq!(visitor.ask("GET", "/before", &bot, b"").status, 403);
    site.sandbox.clear();
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(300)));
    let streams: Vec<_> = (0..8).map(|_| visitor.begin("GET", "/during", &bot, b"")).collect();
    wait_for_calls(&site.sandbox, &visitor, 8);
    let old = site.nginx.workers();
    site.nginx.reload(|conf| conf.replace("active_blocking", "monitor"));
    for stream in streams {
        if let Ok(answer) = visitor.try_receive(stream) {
            assert_eq!(answer.status, 403);
            assert!(answer.text().ends_with("</html>\n"));
        }
    }
    visitor.leave();
    site.nginx.wait_for_workers_to_end(&old);
    site.sandbox.behave_well();
    let mut visitor = own.visitor();
    assert_eq!(visitor.ask("GET", "/after", &bot, b"").text(), "origin");
    let log = site.nginx.wait_for_access_log(10);
    assert_eq!(log.len(), 10);
    assert!(log[1..9].iter().all(|line| line.contains(" /during verdict=block ")), "{log:?}");
    assert!(log[9].starts_with("200 GET /after verdict=simulated_block "), "{log:?}");
}
