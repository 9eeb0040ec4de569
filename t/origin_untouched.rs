//! Tests for the px module: the origin receives the visitor's request byte for byte as it would
//! without the module, and a visitor who leaves during the call leaves nothing behind.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use px_sandbox::{Behaviour, Reply, Sandbox};
use serde_json::json;
use support::h2::H2;
use support::{
    BROWSER, Connection, Nginx, Origin, SOON, client, curl, get, protect, protect_apart, wait_until,
};

/// The site twice: with the module, and without. `LOCATIONS` lead to the same origin.
struct Pair {
    sandbox: Sandbox,
    origin: Origin,
    guarded: Nginx,
    plain: Nginx,
}

/// Every way nginx has of passing a body on.
const LOCATIONS: [(&str, &str); 6] = [
    ("/", ""),
    ("/http11/", "proxy_http_version 1.1;"),
    ("/unbuffered/", "proxy_http_version 1.1; proxy_request_buffering off;"),
    ("/file/", "client_body_in_file_only clean;"),
    ("/single/", "client_body_in_single_buffer on; client_body_buffer_size 1k;"),
    (
        "/set/",
        "proxy_set_header X-Ua $http_user_agent; proxy_set_header X-Len $content_length; \
               proxy_set_header X-Method $request_method; proxy_set_header X-Uri $request_uri;",
    ),
];

impl Pair {
    fn start(directives: &str, listen: &str) -> Self {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        let locations: String = LOCATIONS
            .iter()
            .map(|(path, how)| format!("location {path} {{ {how} {} }}\n", origin.proxy_pass()))
            .collect();
        let server = format!("client_max_body_size 10m;\n{locations}");
        let builder = |server: &str| Nginx::builder().listen(listen).server(server);
        let guarded = builder(&format!("{}{directives}{server}", protect(&sandbox))).start();
        let plain = builder(&server).start();
        Self { sandbox, origin, guarded, plain }
    }

    /// Lets `send` make the same request of both and compares what the origin received.
    fn compare(&self, name: &str, mut send: impl FnMut(&Nginx)) {
        let mut received = |nginx: &Nginx| {
            self.origin.clear();
            send(nginx);
            let requests = self.origin.wait_for(1);
            assert_eq!(requests.len(), 1, "{name}");
            unframed(&requests[0])
        };
        let (without, with) = (received(&self.plain), received(&self.guarded));
        assert!(
            without == with,
            "{name}: without\n{}\nwith\n{}",
            String::from_utf8_lossy(&without[..without.len().min(2000)]),
            String::from_utf8_lossy(&with[..with.len().min(2000)]),
        );
    }
}

/// A request that was passed on in chunks, in one piece: where chunks begin, and whether an HTTP/2
/// body of no stated length needs them at all, depends on how its bytes arrive.
fn unframed(request: &[u8]) -> Vec<u8> {
    let head = request.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let (head, mut rest) = request.split_at(head);
    let head = String::from_utf8_lossy(head);
    if !head.contains("/unbuffered/") {
        return request.to_vec();
    }
    let chunked = "Transfer-Encoding: chunked\r\n";
    if !head.contains(chunked) {
        let framing = format!("Content-Length: {}\r\n", rest.len());
        return [head.replace(&framing, "").as_bytes(), rest].concat();
    }
    let mut whole = head.replace(chunked, "").into_bytes();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        whole.extend_from_slice(&rest[line + 2..line + 2 + len]);
        rest = &rest[line + 2 + len + 2..];
        if len == 0 {
            return whole;
        }
    }
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(30_000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn http1_requests(extra: &[&str]) -> Vec<(String, Vec<u8>)> {
    let large: Vec<u8> = (0..400_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let many: Vec<String> = (0..60).map(|n| format!("X-Many-{n}: {n}")).collect();
    let odd = ["X-Empty:", "X-Twice: 1", "X-Twice: 2", "X-Bytes: \u{e9}\"\\", "Range: bytes=0-3"];
    let headers = |more: &[&str]| {
        let own = many.iter().map(String::as_str).chain(odd).chain(more.iter().copied());
        own.chain(extra.iter().copied()).map(str::to_owned).collect::<Vec<String>>()
    };
    let mut requests = Vec::new();
    for (path, _) in LOCATIONS {
        for (name, method, more, body) in [
            ("a GET", "GET", &[][..], &b""[..]),
            ("a HEAD", "HEAD", &[], b""),
            ("a small POST", "POST", &["Content-Type: text/x"], b"some body"),
            ("an empty POST", "POST", &["Content-Length: 0"], b""),
            ("a large POST", "POST", &[], &large),
            ("a PUT", "PUT", &[], &large[..20_000]),
            ("a DELETE with a body", "DELETE", &[], b"why not"),
            ("a chunked POST", "POST", &["Transfer-Encoding: chunked"], &chunked(b"some body")),
            ("a large chunked POST", "POST", &["Transfer-Encoding: chunked"], &chunked(&large)),
            ("an expecting POST", "POST", &["Expect: 100-continue"], b"some body"),
            ("a large expecting POST", "POST", &["Expect: 100-continue"], &large),
            ("a method of one's own", "BREW", &[], b""),
        ] {
            let headers = headers(more);
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            let path = format!("{path}a/b?c=%20d&e");
            requests
                .push((format!("{name} to {path}"), client::text(method, &path, &headers, body)));
        }
    }
    requests
}

fn compare_http1(pair: &Pair, extra: &[&str], status: u16) {
    for (name, request) in http1_requests(extra) {
        pair.compare(&name, |nginx| {
            let mut visitor = Connection::open(nginx.addr());
            visitor.send(&request);
            let response = visitor.receive_to(name.starts_with("a HEAD"));
            assert_eq!(response.status, status, "{name}");
        });
    }
}

#[test]
fn passed_by_cookie() {
    let pair = Pair::start("", "");
    let cookie =
        format!("Cookie: a=1; {}; _pxvid=x", pair.sandbox.mint(BROWSER).iterations(500).cookie());
    compare_http1(&pair, &[&cookie, "Cookie: b=2"], 200);
    assert!(pair.sandbox.risk_calls().is_empty());
    pair.sandbox.assert_no_complaints();
}

#[test]
fn passed_by_the_risk_api() {
    let pair = Pair::start("", "");
    pair.sandbox.answer_risk(Reply::json(json!({
        "status": 0, "score": 0, "action": "c", "uuid": "u", "pxhd": "new",
        "data_enrichment": {"f_type": "w"},
    })));
    compare_http1(
        &pair,
        &["Cookie: a=1; _pxhd=old", "X-PX-AUTHORIZATION:", "X-PX-COOKIES: a=b"],
        200,
    );
    assert!(!pair.sandbox.risk_calls().is_empty());
    pair.sandbox.assert_no_complaints();
}

#[test]
fn passed_in_monitor_mode() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let monitor = protect(&sandbox).replace("active_blocking", "monitor");
    let pass = origin.proxy_pass();
    let locations: String = LOCATIONS
        .iter()
        .map(|(path, how)| format!("location {path} {{ {how} {pass} }}\n"))
        .collect();
    let server = format!("client_max_body_size 10m;\n{locations}");
    let guarded = Nginx::start(&format!("{monitor}{server}"));
    let pair = Pair { plain: Nginx::start(&server), guarded, sandbox, origin };
    compare_http1(&pair, &["User-Agent: PhantomJS/1.0"], 200);
    let activities = pair.sandbox.wait_for_activities(1, SOON);
    assert_eq!(activities[0]["details"]["simulated_block"], true);
    pair.sandbox.assert_no_complaints();
}

#[test]
fn passed_because_the_risk_api_is_late() {
    let pair = Pair::start("px_s2s_timeout 5ms;", "");
    pair.sandbox.behave(Behaviour::Hang);
    compare_http1(&pair, &[], 200);
    for line in pair.guarded.wait_for_access_log(72) {
        assert!(line.contains("pass=s2s_timeout"), "{line}");
    }
}

#[test]
fn passed_because_the_risk_api_fails() {
    let pair = Pair::start("", "");
    pair.sandbox.behave(Behaviour::Status(500));
    compare_http1(&pair, &[], 200);
    for line in pair.guarded.wait_for_access_log(72) {
        assert!(line.contains("error=server_error"), "{line}");
    }
}

#[test]
fn filtered() {
    let pair = Pair::start("px_whitelist_uri_prefixes /;", "");
    compare_http1(&pair, &["X-PX-AUTHORIZATION: 1"], 200);
    let seen: Vec<String> = pair.sandbox.received().iter().map(|r| r.text()).collect();
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn a_body_that_arrives_while_the_risk_api_is_asked() {
    let pair = Pair::start("", "");
    pair.sandbox.behave(Behaviour::Delay(Duration::from_millis(30)));
    let body = vec![b'x'; 200_000];
    for (path, _) in LOCATIONS {
        for expect in [&[][..], &["Expect: 100-continue"]] {
            let request = client::text("POST", path, expect, &body);
            let head = request.len() - body.len();
            pair.compare(path, |nginx| {
                let asked = pair.sandbox.risk_calls().len();
                let mut visitor = Connection::open(nginx.addr());
                visitor.send(&request[..head]);
                if std::ptr::eq(nginx, &pair.guarded) {
                    pair.sandbox.wait_for_risk_calls(asked + 1, SOON);
                }
                for piece in request[head..].chunks(50_000) {
                    visitor.send(piece);
                }
                assert_eq!(visitor.receive().status, 200, "{path}");
            });
        }
    }
    pair.sandbox.assert_no_complaints();
}

#[test]
fn over_http2() {
    let pair = Pair::start("", "http2");
    let body = pair.guarded.dir().join("body.bin");
    fs::write(&body, vec![b'x'; 400_000]).unwrap();
    let body = format!("@{}", body.display());
    let cookie = format!("Cookie: a=1; {}", pair.sandbox.mint("curl").cookie());
    let asking: &[&str] = &["-H", "Cookie: a=1", "-H", "Cookie: b=2"];
    let ways = [("/", asking), ("/unbuffered/", asking), ("/", &["-H", &cookie])];
    for (path, way) in ways {
        for request in [
            &[][..],
            &["-I"],
            &["-d", "a=1"],
            &["--data-binary", &body],
            // Without a length.
            &["-H", "Content-Length:", "--data-binary", "some body"],
            &["-H", "Content-Length:", "--data-binary", &body],
            &["-X", "BREW"],
            &["-H", "X-Twice: 1", "-H", "X-Twice: 2", "-H", "X-Empty;"],
        ] {
            let name = format!("{path} {way:?} {request:?}");
            pair.compare(&name, |nginx| {
                let url = format!("http://{}{path}a?b=c", nginx.addr());
                let fixed: [&str; 5] =
                    ["--http2-prior-knowledge", "-A", "curl", "-H", "Host: site.test"];
                let args: Vec<&str> = [&fixed, way, request, &[url.as_str()]].concat();
                let (text, code) = curl(&args);
                assert_eq!(code, 0, "{name}: {text}");
            });
        }
    }
    let versions = pair.sandbox.risk_calls();
    assert!(versions.iter().all(|call| call.json()["additional"]["http_version"] == "2"));
    assert_eq!(versions.len(), 16);
    pair.sandbox.assert_no_complaints();
}

#[test]
fn over_http2_with_a_body_that_arrives_while_the_risk_api_is_asked() {
    let pair = Pair::start("", "http2");
    pair.sandbox.behave(Behaviour::Delay(Duration::from_millis(30)));
    for (path, _) in LOCATIONS {
        for len in [10, 60_000] {
            let body = vec![b'x'; len];
            let said = len.to_string();
            for length in [&[][..], &[("content-length", said.as_str())]] {
                pair.compare(path, |nginx| {
                    let asked = pair.sandbox.risk_calls().len();
                    let mut visitor = H2::open(nginx.addr());
                    visitor.request(1, "POST", path, length, false);
                    if std::ptr::eq(nginx, &pair.guarded) {
                        pair.sandbox.wait_for_risk_calls(asked + 1, SOON);
                    }
                    let mut pieces = body.chunks(15_000).peekable();
                    while let Some(piece) = pieces.next() {
                        visitor.data(1, piece, pieces.peek().is_none());
                    }
                    let answer = visitor.receive(1);
                    assert_eq!((answer.status, &answer.body[..]), (200, &b"origin"[..]), "{path}");
                });
            }
        }
    }
    pair.sandbox.assert_no_complaints();
}

#[test]
fn streams_of_one_connection_get_their_own_verdicts() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.behave(Behaviour::Delay(Duration::from_millis(20)));
    let server = format!("{} location / {{ {} }}", protect(&sandbox), origin.proxy_pass());
    let nginx = Nginx::builder().listen("http2").server(&server).start();
    let mut visitor = H2::open(nginx.addr());
    let streams: Vec<u32> = (0..60).map(|n| 2 * n + 1).collect();
    for stream in &streams {
        let user_agent = if stream % 4 == 1 { "PhantomJS/1.0" } else { BROWSER };
        let headers = [("user-agent", user_agent)];
        visitor.request(*stream, "GET", &format!("/{stream}"), &headers, true);
    }
    for stream in &streams {
        let answer = visitor.receive(*stream);
        assert_eq!(answer.status, if stream % 4 == 1 { 403 } else { 200 }, "{stream}");
    }
    assert_eq!(sandbox.risk_calls().len(), 60);
    assert_eq!(origin.requests().len(), 30);
    drop(visitor);
    nginx.quit();
    assert_eq!(sandbox.wait_for_activities(60, SOON).len(), 60);
    sandbox.assert_no_complaints();
}

/// A site where visitors leave; the connections of its only worker are counted.
struct Left {
    risk_api: Sandbox,
    collector: Sandbox,
    nginx: Nginx,
    worker: u32,
    files: usize,
    status: SocketAddr,
    _origin: Origin,
}

impl Left {
    fn start(listen: &str, timeout: &str) -> Self {
        let (risk_api, collector) = (Sandbox::start().unwrap(), Sandbox::start().unwrap());
        let origin = Origin::start();
        let server = format!(
            "{} px_s2s_timeout {timeout}; location / {{ {} }}",
            protect_apart(&risk_api, &collector),
            origin.proxy_pass()
        );
        let status = support::nginx::free_addr();
        let nginx = Nginx::builder()
            .http(&format!("server {{ listen {status}; location / {{ stub_status; }} }}"))
            .listen(listen)
            .server(&server)
            .start();
        let worker = nginx.wait_for_workers(1)[0];
        let left = Self { risk_api, collector, nginx, worker, files: 0, status, _origin: origin };
        wait_until("the worker to be at rest", || left.active() == 1);
        Self { files: left.open_files(), ..left }
    }

    /// nginx's own count; one of them is that of the request that asks.
    fn active(&self) -> usize {
        let text = get(self.status, "/", &[]).text();
        let line = text.lines().next().unwrap_or_default();
        line.rsplit(' ').find_map(|word| word.parse().ok()).expect("a number of connections")
    }

    fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.worker)).map(Iterator::count).unwrap_or_default()
    }

    /// Nothing is left of those who left, and the others are served as before.
    fn check(&self, http2: bool) {
        self.risk_api.behave_well();
        wait_until("the visitors' connections to be closed", || self.active() == 1);
        // One connection may be kept for the next call, and one for activities.
        wait_until("the calls to end", || self.risk_api.open_connections() <= 1);
        wait_until("the files to be closed", || self.open_files() <= self.files + 2);
        assert_eq!(self.nginx.workers(), [self.worker]);
        for (user_agent, status) in [(BROWSER, 200), ("PhantomJS/1.0", 403)] {
            if http2 {
                let mut visitor = H2::open(self.nginx.addr());
                visitor.request(1, "GET", "/", &[("user-agent", user_agent)], true);
                assert_eq!(visitor.receive(1).status, status);
            } else {
                let user_agent = format!("User-Agent: {user_agent}");
                assert_eq!(get(self.nginx.addr(), "/", &[&user_agent]).status, status);
            }
        }
        self.collector.wait_for_activities(2, SOON);
        self.collector.assert_no_complaints();
    }
}

#[test]
fn a_visitor_who_leaves_during_the_call_leaves_nothing_behind() {
    let left = Left::start("", "300ms");
    left.risk_api.behave(Behaviour::Hang);
    let body = vec![b'x'; 10_000];
    let visitors: Vec<Connection> = (0..30)
        .map(|n| {
            let mut visitor = Connection::open(left.nginx.addr());
            let whole = client::text("POST", "/", &[], &body);
            // Some with all of their body sent, some with a part, some without.
            visitor.send(&whole[..whole.len() - [0, 5000, 10_000][n % 3]]);
            visitor
        })
        .collect();
    left.risk_api.wait_for_risk_calls(30, SOON);
    drop(visitors);
    left.check(false);
}

#[test]
fn a_visitor_who_leaves_just_before_the_answer_leaves_nothing_behind() {
    let left = Left::start("", "10s");
    for _ in 0..5 {
        left.risk_api.clear();
        left.risk_api.behave(Behaviour::KeepAliveOff.after(Duration::from_millis(20)));
        let mut visitors: Vec<Connection> = Vec::new();
        for n in 0..10 {
            let mut visitor = Connection::open(left.nginx.addr());
            let user_agent = ["User-Agent: PhantomJS/1.0", "User-Agent: x"][n % 2];
            visitor.send(client::text("GET", "/", &[user_agent], b""));
            visitors.push(visitor);
        }
        left.risk_api.wait_for_risk_calls(10, SOON);
        drop(visitors);
    }
    left.check(false);
}

#[test]
fn an_http2_connection_that_closes_during_calls_leaves_nothing_behind() {
    let left = Left::start("http2", "300ms");
    left.risk_api.behave(Behaviour::Hang);
    let visitors: Vec<H2> = (0..5)
        .map(|_| {
            let mut visitor = H2::open(left.nginx.addr());
            for stream in [1, 3, 5] {
                visitor.request(stream, "POST", "/", &[], stream == 1);
            }
            visitor
        })
        .collect();
    left.risk_api.wait_for_risk_calls(15, SOON);
    drop(visitors);
    left.check(true);
}

#[test]
fn http2_streams_that_are_reset_during_calls_leave_nothing_behind() {
    let left = Left::start("http2", "300ms");
    left.risk_api.behave(Behaviour::Hang);
    let mut visitor = H2::open(left.nginx.addr());
    for stream in [1, 3, 5, 7] {
        visitor.request(stream, "POST", "/", &[], stream == 1);
    }
    left.risk_api.wait_for_risk_calls(4, SOON);
    for stream in [1, 3, 5, 7] {
        visitor.reset(stream);
    }
    // The connection goes on meanwhile.
    left.risk_api.behave_well();
    for (stream, user_agent, status) in [(9, BROWSER, 200), (11, "PhantomJS/1.0", 403)] {
        visitor.request(stream, "GET", "/", &[("user-agent", user_agent)], true);
        assert_eq!(visitor.receive(stream).status, status);
    }
    drop(visitor);
    left.check(true);
}
