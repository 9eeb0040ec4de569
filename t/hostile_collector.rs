//! Tests for the px module: answers of the Risk API that no honest collector gives.
//!
//! Whatever comes, the visitor gets the documented answer (risk-api.md §§ 5, 6), the reason stands
//! in the access log and in the activity, and the worker goes on as if nothing had been.

mod support;

use std::time::Duration;

use px_sandbox::{Behaviour, Reply, Sandbox};
use serde_json::{Value, json};
use support::{Nginx, Origin, SOON, get, protect, request};

/// What a visitor and the operator see of one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    /// 200 from the origin: pass reason, error reason, HTTP status of the error.
    Pass(&'static str, Option<&'static str>, Option<u16>),
    /// A block page: status and block action.
    Block(u16, &'static str),
}

/// The call gave no decision.
fn error(reason: &'static str, http_status: impl Into<Option<u16>>) -> Seen {
    Seen::Pass("s2s_error", Some(reason), http_status.into())
}

const INVALID: Seen = Seen::Pass("s2s_error", Some("invalid_response"), Some(200));
const UNKNOWN: Seen = Seen::Pass("s2s_error", Some("unknown_error"), None);
const TIMEOUT: Seen = Seen::Pass("s2s_timeout", None, None);
const HUMAN: Seen = Seen::Pass("s2s", None, None);
const CAPTCHA: Seen = Seen::Block(403, "c");

/// One site for many answers; the timeout is for answers that come, `/late` for those that do not.
struct Site {
    sandbox: Sandbox,
    origin: Origin,
    nginx: Nginx,
    worker: Vec<u32>,
    visits: usize,
}

impl Site {
    fn start() -> Self {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        let nginx = Nginx::start(&format!(
            "{} px_max_activity_batch_size 0;\n\
             location / {{ {pass} }}\n\
             location /late {{ px_s2s_timeout 150ms; {pass} }}",
            protect(&sandbox),
            pass = origin.proxy_pass()
        ));
        let worker = nginx.wait_for_workers(1);
        Self { sandbox, origin, nginx, worker, visits: 0 }
    }

    /// One visit while the Risk API does what it was told, and one that it answers properly. The
    /// latter ends its connection: nginx rightly tries again where one that was kept breaks.
    fn expect(&mut self, name: &str, path: &str, expected: Seen) {
        assert_eq!(self.visit(name, path), expected, "{name}");
        self.sandbox.behave_well();
        self.sandbox.behave_next(Behaviour::KeepAliveOff);
        assert_eq!(self.visit(name, "/next"), HUMAN, "after {name}");
        assert_eq!(self.nginx.workers(), self.worker, "{name}");
    }

    fn visit(&mut self, name: &str, path: &str) -> Seen {
        self.sandbox.clear();
        self.origin.clear();
        let response = get(self.nginx.addr(), path, &[]);
        self.visits += 1;
        let activities = self.sandbox.wait_for_activities(1, SOON);
        assert_eq!(activities.len(), 1, "{name}");
        self.sandbox.assert_no_complaints();
        let details = &activities[0]["details"];
        let text = |field: &str| details[field].as_str().map(str::to_owned);

        let lines = self.nginx.wait_for_access_log(self.visits);
        let line = &lines[self.visits - 1];
        let logged = |field: &str| {
            let word = line.split(' ').find_map(|word| word.strip_prefix(field)?.strip_prefix('='));
            word.filter(|word| *word != "-").map(str::to_owned)
        };
        assert_eq!(logged("pass"), text("pass_reason"), "{name}: {line}");
        assert_eq!(logged("error"), text("s2s_error_reason"), "{name}: {line}");
        assert_eq!(logged("block"), text("block_reason"), "{name}: {line}");
        assert_eq!(text("error_message").is_some(), logged("error").is_some(), "{name}: {details}");

        if activities[0]["type"] == "block" {
            assert_eq!(self.origin.requests().len(), 0, "{name}");
            assert_eq!(text("block_reason").as_deref(), Some("s2s_high_score"), "{name}");
            return Seen::Block(response.status, leak(text("block_action")).unwrap_or_default());
        }
        assert_eq!((response.status, response.text().as_str()), (200, "origin"), "{name}");
        assert_eq!(self.origin.requests().len(), 1, "{name}");
        let http_status = details["s2s_error_http_status"].as_u64();
        Seen::Pass(
            leak(text("pass_reason")).unwrap_or_default(),
            leak(text("s2s_error_reason")),
            http_status.and_then(|status| status.try_into().ok()),
        )
    }
}

fn leak(text: Option<String>) -> Option<&'static str> {
    text.map(|text| &*text.leak())
}

#[test]
fn bodies_of_a_200() {
    let mut site = Site::start();
    let good = |fields: Value| {
        let mut answer = json!({"status": 0, "score": 0, "action": "c", "uuid": "u"});
        for (name, value) in fields.as_object().unwrap() {
            answer[name] = value.clone();
        }
        answer.to_string()
    };
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let deep_field = format!(r#"{{"status":0,"score":100,"x":{deep}}}"#);
    let long = "x".repeat(30_000);
    let rows: Vec<(&str, Vec<u8>, Seen)> = vec![
        ("nothing", b"".to_vec(), INVALID),
        ("{}", b"{}".to_vec(), INVALID),
        ("[]", b"[]".to_vec(), INVALID),
        ("null", b"null".to_vec(), INVALID),
        ("true", b"true".to_vec(), INVALID),
        ("1", b"1".to_vec(), INVALID),
        ("a text", b"\"status\"".to_vec(), INVALID),
        ("words", b"all is well".to_vec(), INVALID),
        ("HTML", b"<html>score 100</html>".to_vec(), INVALID),
        ("zero bytes", vec![0; 100], INVALID),
        ("not UTF-8", b"{\"status\":0,\"score\":100,\"x\":\"\xff\xfe\"}".to_vec(), INVALID),
        ("a byte order mark", [b"\xef\xbb\xbf", good(json!({})).as_bytes()].concat(), INVALID),
        ("an array around it", format!("[{}]", good(json!({}))).into_bytes(), INVALID),
        ("two objects", good(json!({})).repeat(2).into_bytes(), INVALID),
        ("half an object", b"{\"status\":0,\"score\":100".to_vec(), INVALID),
        ("deep arrays", deep.into_bytes(), INVALID),
        ("a deep field", deep_field.into_bytes(), INVALID),
        ("no score", br#"{"status":0}"#.to_vec(), INVALID),
        ("score null", good(json!({"score": null})).into_bytes(), INVALID),
        ("score text", good(json!({"score": "100"})).into_bytes(), INVALID),
        ("score true", good(json!({"score": true})).into_bytes(), INVALID),
        ("score array", good(json!({"score": [100]})).into_bytes(), INVALID),
        ("score 1e400", br#"{"status":0,"score":1e400}"#.to_vec(), INVALID),
        ("score NaN", br#"{"status":0,"score":NaN}"#.to_vec(), INVALID),
        ("status text", good(json!({"status": "0", "score": 100})).into_bytes(), INVALID),
        ("status null", good(json!({"status": null, "score": 100})).into_bytes(), INVALID),
        ("status 1", good(json!({"status": 1, "score": 100})).into_bytes(), INVALID),
        ("no status", br#"{"score":100}"#.to_vec(), INVALID),
        (
            "status -1",
            good(json!({"status": -1, "score": 100, "message": "no"})).into_bytes(),
            error("request_failed_on_server", 200),
        ),
        (
            "status -1 without a message",
            br#"{"status":-1}"#.to_vec(),
            error("request_failed_on_server", 200),
        ),
        ("score -1", good(json!({"score": -1})).into_bytes(), HUMAN),
        ("score 99.9", good(json!({"score": 99.9})).into_bytes(), HUMAN),
        ("score 100", good(json!({"score": 100})).into_bytes(), CAPTCHA),
        ("score 1e300", br#"{"status":0,"score":1e300}"#.to_vec(), CAPTCHA),
        ("no action", br#"{"status":0,"score":100}"#.to_vec(), CAPTCHA),
        ("action null", good(json!({"score": 100, "action": null})).into_bytes(), CAPTCHA),
        ("action 7", good(json!({"score": 100, "action": 7})).into_bytes(), CAPTCHA),
        ("action empty", good(json!({"score": 100, "action": ""})).into_bytes(), CAPTCHA),
        (
            "action b",
            good(json!({"score": 100, "action": "b"})).into_bytes(),
            Seen::Block(403, "b"),
        ),
        (
            "action r",
            good(json!({"score": 100, "action": "r"})).into_bytes(),
            Seen::Block(429, "r"),
        ),
        (
            "action j",
            good(json!({"score": 100, "action": "j"})).into_bytes(),
            Seen::Block(403, "j"),
        ),
        (
            "an unknown action",
            good(json!({"score": 100, "action": "zz"})).into_bytes(),
            Seen::Block(403, "zz"),
        ),
        (
            "fields of wrong types",
            good(json!({"uuid": 1, "pxhd": [], "pxhdDomain": {}, "data_enrichment": "x",
                "additional_risk_info": 1, "drc": "x", "action_data": 1}))
            .into_bytes(),
            HUMAN,
        ),
        ("a long text", good(json!({"uuid": long})).into_bytes(), HUMAN),
    ];
    for (name, body, expected) in rows {
        site.sandbox.behave_next(Behaviour::Body(body));
        site.expect(name, "/", expected);
    }
}

#[test]
fn an_answer_of_any_size_is_read_and_judged_invalid() {
    let mut site = Site::start();
    for bytes in [65_537, 1 << 20, 10 << 20] {
        site.sandbox.behave_next(Behaviour::Huge(bytes));
        site.expect(&format!("{bytes} bytes"), "/", INVALID);
    }
    // Read to its end, so that the connection can go on.
    site.sandbox.behave_next(Behaviour::Huge(60_000));
    site.expect("60,000 bytes", "/", HUMAN);
}

#[test]
fn statuses_other_than_200() {
    let mut site = Site::start();
    for (status, expected) in [
        (201, error("unknown_error", 201)),
        (202, error("unknown_error", 202)),
        (204, error("unknown_error", 204)),
        (206, error("unknown_error", 206)),
        (299, error("unknown_error", 299)),
        (300, error("unknown_error", 300)),
        (301, error("unknown_error", 301)),
        (302, error("unknown_error", 302)),
        (304, error("unknown_error", 304)),
        (307, error("unknown_error", 307)),
        (400, error("bad_request", 400)),
        (401, error("bad_request", 401)),
        (403, error("bad_request", 403)),
        (404, error("bad_request", 404)),
        (408, error("bad_request", 408)),
        (413, error("bad_request", 413)),
        (429, error("bad_request", 429)),
        (499, error("bad_request", 499)),
        (500, error("server_error", 500)),
        (502, error("server_error", 502)),
        (503, error("server_error", 503)),
        (504, error("server_error", 504)),
        (599, error("server_error", 599)),
        (600, error("unknown_error", 600)),
        (999, error("unknown_error", 999)),
    ] {
        // A verdict in it, and a way out of it, mean nothing.
        let reply = Reply::risk(100, "b").status(status);
        let reply = reply.header("Location", site.sandbox.url()).header("Retry-After", "1");
        site.sandbox.answer_risk_next(reply);
        site.expect(&status.to_string(), "/", expected);
    }
}

#[test]
fn connections_that_end_otherwise_than_agreed() {
    let mut site = Site::start();
    for broken in [
        Behaviour::Reset,
        Behaviour::CloseBeforeAnswer,
        Behaviour::HalfClose,
        Behaviour::Truncate { declared: 1000, sent: 0 },
        Behaviour::Truncate { declared: 1000, sent: 999 },
        Behaviour::Truncate { declared: 100_000, sent: 90_000 },
    ] {
        site.sandbox.behave(broken.clone());
        site.expect(&broken.to_string(), "/", UNKNOWN);
    }
}

#[test]
fn answers_that_come_too_late() {
    let mut site = Site::start();
    for late in [
        Behaviour::Hang,
        Behaviour::Trickle(Duration::from_millis(20)),
        Behaviour::Delay(Duration::from_secs(1)),
        Behaviour::Reset.after(Duration::from_secs(1)),
    ] {
        site.sandbox.behave_next(late.clone());
        site.expect(&late.to_string(), "/late", TIMEOUT);
    }
}

#[test]
fn unusual_but_good_answers() {
    let mut site = Site::start();
    let block = || Reply::risk(100, "c");
    for good in [
        Behaviour::ChunkedAnswer,
        Behaviour::KeepAliveOff,
        Behaviour::StaleKeepAlive,
        Behaviour::Trickle(Duration::from_micros(100)),
        Behaviour::Delay(Duration::from_millis(50)),
    ] {
        site.sandbox.answer_risk_next(block());
        site.sandbox.behave_next(good.clone());
        site.expect(&good.to_string(), "/", CAPTCHA);
    }
    for reply in [
        block().header("Content-Type", "text/plain"),
        block().header("X-Long", "x".repeat(6000)),
        (0..50).fold(block(), |reply, n| reply.header(format!("X-{n}"), "some value")),
        block().header("Set-Cookie", "a=b").header("Set-Cookie", "c=d"),
        block().header("Trailer", "X").header("Vary", "*").header("Expires", "0"),
    ] {
        site.sandbox.answer_risk_next(reply);
        site.expect("headers", "/", CAPTCHA);
    }
}

#[test]
fn headers_that_command_an_nginx_command_nothing() {
    let mut site = Site::start();
    for (name, value) in [
        ("X-Accel-Redirect", "/secret"),
        ("X-Accel-Redirect", "@named"),
        ("X-Accel-Redirect", "http://127.0.0.1/"),
        ("X-Accel-Limit-Rate", "1"),
        ("X-Accel-Buffering", "no"),
        ("X-Accel-Expires", "0"),
        ("X-Accel-Charset", "utf-16"),
        ("Refresh", "0; url=/secret"),
        ("Status", "500"),
        ("Upgrade", "websocket"),
        ("Content-Range", "bytes 0-1/2"),
        ("Accept-Ranges", "bytes"),
        ("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ] {
        for (score, expected) in [(100, CAPTCHA), (0, HUMAN)] {
            site.sandbox.answer_risk_next(Reply::risk(score, "c").header(name, value));
            site.expect(&format!("{name}: {value}"), "/", expected);
        }
    }
}

#[test]
fn heads_that_are_too_much() {
    let mut site = Site::start();
    for reply in [
        Reply::risk(100, "c").header("X-Long", "x".repeat(100_000)),
        (0..5000).fold(Reply::risk(100, "c"), |reply, n| reply.header(format!("X-{n}"), "value")),
    ] {
        site.sandbox.answer_risk_next(reply);
        site.expect("a long head", "/", UNKNOWN);
    }
}

#[test]
fn bytes_that_are_no_http() {
    let mut site = Site::start();
    let verdict = r#"{"status":0,"score":100,"action":"b","uuid":"u"}"#;
    let len = verdict.len();
    let ok = "HTTP/1.1 200 OK\r\n";
    let rows: Vec<(&str, Vec<u8>, Seen)> = vec![
        ("nothing", Vec::new(), UNKNOWN),
        ("garbage", vec![0xff; 500], UNKNOWN),
        ("a bare verdict", verdict.into(), UNKNOWN),
        ("a line", "hello\r\n".into(), UNKNOWN),
        ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n".into(), UNKNOWN),
        ("a status without digits", format!("HTTP/1.1 abc OK\r\n\r\n{verdict}").into(), UNKNOWN),
        ("half a head", format!("{ok}Content-Le").into(), UNKNOWN),
        ("a zero byte in a header", format!("{ok}X: a\0b\r\n\r\n{verdict}").into(), UNKNOWN),
        (
            "a chunk size that is none",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\nzz\r\n{verdict}\r\n0\r\n\r\n").into(),
            UNKNOWN,
        ),
        (
            "a chunk that ends early",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n1000\r\n{verdict}").into(),
            UNKNOWN,
        ),
        (
            "a huge chunk size",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{verdict}").into(),
            UNKNOWN,
        ),
        // The body ends with the connection: good HTTP/1.0.
        ("no length", format!("HTTP/1.0 200 OK\r\n\r\n{verdict}").into(), Seen::Block(403, "b")),
        ("a length below", format!("{ok}Content-Length: 5\r\n\r\n{verdict}").into(), INVALID),
        (
            "compressed words",
            format!("{ok}Content-Encoding: gzip\r\nContent-Length: {len}\r\n\r\n{verdict}").into(),
            Seen::Block(403, "b"),
        ),
    ];
    for (name, bytes, expected) in rows {
        site.sandbox.behave(Behaviour::NotHttp(bytes));
        site.expect(name, "/", expected);
    }
}

/// What nginx's versions read differently: an interim answer nobody asked for is taken for the
/// answer or skipped, a bad length is refused or ignored. Either is good as long as the visitor gets
/// an answer that is documented.
#[test]
fn heads_that_can_be_read_in_two_ways() {
    let mut site = Site::start();
    let verdict = r#"{"status":0,"score":100,"action":"b","uuid":"u"}"#;
    let len = verdict.len();
    for head in [
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {len}"),
        format!("HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {len}"),
        format!("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {len}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: -{len}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {len}x"),
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999".to_owned(),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: {len}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nTransfer-Encoding: chunked"),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked".to_owned(),
        "HTTP/2.0 200 OK".to_owned(),
        "HTTP/1.1 0200 OK".to_owned(),
        "HTTP/1.1 20".to_owned(),
        "HTTP/1.1 000 OK".to_owned(),
    ] {
        let bytes = format!("{head}\r\n\r\n{verdict}");
        site.sandbox.behave_next(Behaviour::NotHttp(bytes.into()));
        let seen = site.visit(&head, "/");
        let interim = head.get(9..12).and_then(|status| status.parse().ok());
        let good = [error("unknown_error", interim), UNKNOWN, INVALID, Seen::Block(403, "b")];
        assert!(good.contains(&seen), "{head}: {seen:?}");
        site.sandbox.behave_well();
        assert_eq!(site.visit(&head, "/next"), HUMAN, "after {head}");
        assert_eq!(site.nginx.workers(), site.worker, "{head}");
    }
}

#[test]
fn a_second_answer_behind_the_first_is_nobodys() {
    let mut site = Site::start();
    let (human, bot) = (Reply::risk(0, "c"), Reply::risk(100, "b"));
    let mut twice = human.body.clone();
    twice.extend_from_slice(
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bot.body.len()).as_bytes(),
    );
    twice.extend_from_slice(&bot.body);
    let mut reply = human.header("Content-Length", String::new());
    let len = reply.body.len();
    reply.headers.pop();
    let reply = Reply { body: twice, ..reply }.header("Content-Length", len.to_string());
    for _ in 0..3 {
        site.sandbox.answer_risk_next(reply.clone());
        site.expect("two answers", "/", HUMAN);
    }
}

#[test]
fn texts_of_the_answer_cannot_break_out_of_what_they_stand_in() {
    let sandbox = Sandbox::start().unwrap();
    let origin = Origin::start();
    let nginx = Nginx::start(&format!(
        "{} px_data_enrichment_header_name x-px-de; location / {{ {} }}",
        protect(&sandbox),
        origin.proxy_pass()
    ));
    let evil = "</script><b>\"'\r\nSet-Cookie: evil=1\r\n\r\n\u{2028}\u{0}";
    for score in [0, 100] {
        sandbox.answer_risk(Reply::json(json!({
            "status": 0, "score": score, "action": evil, "uuid": evil, "pxhd": evil,
            "pxhdDomain": evil, "data_enrichment": {"f_name": evil}, "additional_risk_info": evil,
        })));
        let response = get(nginx.addr(), "/", &[]);
        assert_eq!(response.status, if score == 0 { 200 } else { 403 });
        assert!(response.headers("set-cookie").is_empty(), "{:?}", response.headers);
        assert!(!response.text().contains("</script><b>"));
        for status_line in ["HTTP/1.1 403", "HTTP/1.1 200"] {
            assert!(!response.text().contains(status_line));
        }
    }
    let [passed] = &origin.texts()[..] else { panic!("one request passes") };
    assert!(!passed.to_lowercase().contains("\nset-cookie"), "{passed}");
    assert_eq!(nginx.wait_for_access_log(2).len(), 2);
    let activities = sandbox.wait_for_activities(2, SOON);
    assert_eq!(activities[1]["details"]["block_action"], evil);
}

#[test]
fn requests_with_bodies_and_heads_only_pass_a_broken_collector_whole() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx =
        Nginx::start(&format!("{} location / {{ {} }}", protect(&sandbox), origin.proxy_pass()));
    let body = vec![b'x'; 100_000];
    for broken in [
        Behaviour::Reset,
        Behaviour::Body(b"[]".to_vec()),
        Behaviour::Status(500),
        Behaviour::Huge(1 << 20),
        Behaviour::NotHttp(vec![b'x'; 10]),
    ] {
        sandbox.behave(broken.clone());
        origin.clear();
        assert_eq!(request(nginx.addr(), "POST", "/", &[], &body).status, 200, "{broken}");
        assert!(origin.requests()[0].ends_with(&body), "{broken}");
        let head = request(nginx.addr(), "HEAD", "/", &[], b"");
        assert_eq!((head.status, head.header("content-length")), (200, Some("6")), "{broken}");
    }
}
