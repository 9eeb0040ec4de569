//! Tests for the px module: HTTP/1.0 and 1.1 in all their ways.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use px_sandbox::Behaviour;
use support::decisions::{BOT, HTTP_1_0, HTTP_1_1, Site, Visitor};
use support::{BROWSER, Connection, Nginx, Response, SOON, client, get};

/// Says a request of this version on one connection after the other, or always on the same.
struct Http1 {
    nginx: SocketAddr,
    version: &'static str,
    /// What comes before the target, for the absolute form.
    before_target: &'static str,
    host: &'static str,
    connection: &'static str,
    kept: Option<Connection>,
}

impl Http1 {
    fn new(site: &Site, version: &'static str, host: &'static str, how: &'static str) -> Self {
        let nginx = site.nginx.addr();
        Self { nginx, version, before_target: "", host, connection: how, kept: None }
    }

    fn text(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let Self { version, before_target, host, connection, .. } = self;
        let mut text =
            format!("{method} {before_target}{target} HTTP/{version}\r\n{host}{connection}");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        [text.as_bytes(), body].concat()
    }
}

impl Visitor for Http1 {
    fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let text = self.text(method, target, headers, body);
        let mut connection = self.kept.take().unwrap_or_else(|| Connection::open(self.nginx));
        connection.send(text);
        let answer = connection.receive_to(method == "HEAD");
        match (self.version, self.connection) {
            ("1.0", "") | (_, "Connection: close\r\n") => {
                assert_eq!(answer.header("connection"), Some("close"));
                assert!(connection.is_closed(), "nothing follows an answer to {method}");
            }
            // Without a length nothing but its end ends an answer to HTTP/1.0.
            ("1.0", _) if answer.header("content-length").is_none() && method != "HEAD" => {}
            _ => self.kept = Some(connection),
        }
        answer
    }
}

#[test]
fn http_1_0_gets_every_decision() {
    let mut site = Site::start();
    for host in ["Host: site.test\r\n", ""] {
        for how in ["", "Connection: keep-alive\r\n"] {
            let mut visitor = Http1::new(&site, "1.0", host, how);
            site.decide(&HTTP_1_0, &mut visitor);
        }
    }
}

#[test]
fn http_1_1_gets_every_decision() {
    let mut site = Site::start();
    for (before_target, host) in [
        ("", "Host: site.test\r\n"),
        // The absolute form: a host in the request line counts.
        ("http://site.test", "Host: other.test\r\n"),
        ("HTTP://Site.Test", "Host: site.test\r\n"),
    ] {
        for how in ["", "Connection: close\r\n"] {
            let mut visitor = Http1::new(&site, "1.1", host, how);
            visitor.before_target = before_target;
            site.decide(&HTTP_1_1, &mut visitor);
        }
    }
}

const BOT_LINE: &str = "User-Agent: PhantomJS/1.0";

/// What arrives in one segment while the first request waits for the Risk API waits with it.
#[test]
fn what_is_pipelined_behind_a_call_waits_its_turn() {
    let site = Site::start();
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(100)));
    let cookie = format!("Cookie: {}", site.sandbox.mint(BROWSER).cookie());
    let body = b"GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n";
    let chunked =
        [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\nX-T: 1\r\n\r\n"].concat();
    let form = "Content-Type: application/x-www-form-urlencoded";
    let requests = [
        (client::text("GET", "/0", &[], b""), 200),
        (client::text("GET", "/1", &[&cookie], b""), 200),
        (client::text("POST", "/2", &[BOT_LINE], body), 403),
        (client::text("GET", "/3", &[&cookie], b""), 200),
        (client::text("POST", "/4", &[BOT_LINE, "Transfer-Encoding: chunked"], &chunked), 403),
        (client::text("POST", "/login", &[BOT_LINE, form], b"username=a&password=b"), 403),
        (client::text("POST", "/login", &[form], b"username=a&password=b"), 200),
        (client::text("GET", "/7", &[&cookie, "Connection: close"], b""), 200),
    ];
    let mut visitor = Connection::open(site.nginx.addr());
    visitor.send(requests.iter().flat_map(|(text, _)| text.clone()).collect::<Vec<u8>>());
    site.sandbox.wait_for_risk_calls(1, SOON);
    assert!(site.origin.requests().is_empty(), "nobody overtakes the first");
    for (request, status) in &requests {
        let line = String::from_utf8_lossy(&request[..12]).into_owned();
        assert_eq!(visitor.receive().status, *status, "{line}");
    }
    assert!(visitor.is_closed());
    let received: Vec<String> =
        site.origin.texts().iter().map(|text| text.lines().next().unwrap().to_owned()).collect();
    let expected = ["GET /0", "GET /1", "GET /3", "POST /login", "GET /7"];
    assert_eq!(received, expected.map(|line| format!("{line} HTTP/1.1")));
    let log = site.nginx.wait_for_access_log(8);
    assert_eq!(log.len(), 8);
    for (line, (_, status)) in log.iter().zip(&requests) {
        let verdict = if *status == 200 { "verdict=pass" } else { "verdict=block" };
        assert!(line.starts_with(&status.to_string()) && line.contains(verdict), "{line}");
    }
    site.sandbox.assert_no_complaints();
}

/// A client that really waits for `100 Continue` gets it, or an answer, whether the module needs the body or not.
#[test]
fn a_client_that_waits_to_continue_is_told_to_or_is_answered() {
    let site = Site::start();
    let body = b"username=a&password=b";
    let length = format!("Content-Length: {}", body.len());
    let headers =
        ["Expect: 100-continue", &length, "Content-Type: application/x-www-form-urlencoded"];
    let mut logged = 0;
    for path in ["/upload", "/login", "/down/upload"] {
        let mut visitor = Connection::open(site.nginx.addr());
        visitor.send(client::text("POST", path, &headers, b""));
        assert_eq!(visitor.receive_head().status, 100, "{path}");
        visitor.send(body);
        assert_eq!(visitor.receive().status, 200, "{path}");
        logged += 1;
        let received = site.origin.wait_for(logged).pop().expect("a request");
        assert!(received.ends_with(body), "{path}");
    }
    for path in ["/upload", "/login"] {
        let mut visitor = Connection::open(site.nginx.addr());
        let headers = [headers.as_slice(), &[BOT_LINE]].concat();
        visitor.send(client::text("POST", path, &headers, b""));
        // As with an answer of nginx's own, the body is asked for, so that the connection can go on.
        assert_eq!(visitor.receive_head().status, 100, "{path}");
        if path == "/upload" {
            // It is not waited for.
            assert_eq!(visitor.receive().status, 403);
            visitor.send(body);
        } else {
            visitor.send(body);
            assert_eq!(visitor.receive().status, 403);
        }
        visitor.send(client::text("GET", "/next", &[], b""));
        assert_eq!(visitor.receive().status, 200, "{path}");
    }
    assert_eq!(site.origin.requests().len(), 5);
    let log = site.nginx.wait_for_access_log(7);
    assert_eq!(log.len(), 7);
    assert_eq!(log.iter().filter(|line| line.contains("verdict=block")).count(), 2, "{log:?}");
    site.sandbox.assert_no_complaints();
}

/// Trailers end a body in chunks; nginx drops them, and nothing of them becomes a header or a request.
#[test]
fn trailers_belong_to_the_body() {
    let site = Site::start();
    let headers = ["Transfer-Encoding: chunked", "Trailer: X-Checksum, Content-Length"];
    let form = "Content-Type: application/x-www-form-urlencoded";
    let body = b"username=a&password=b";
    let trailers = "0\r\nX-Checksum: 1\r\nContent-Length: 3\r\nCookie: _px3=x\r\n\r\n";
    let chunked = [
        format!("{:x};extension=1\r\n", body.len()).as_bytes(),
        body,
        b"\r\n",
        trailers.as_bytes(),
    ]
    .concat();
    let mut visitor = Connection::open(site.nginx.addr());
    for (path, agent, status) in [
        ("/upload", BROWSER, 200),
        ("/login", BROWSER, 200),
        ("/upload", BOT, 403),
        ("/login", BOT, 403),
        ("/down/upload", BROWSER, 200),
    ] {
        site.sandbox.clear();
        site.origin.clear();
        let agent = format!("User-Agent: {agent}");
        let headers = [headers.as_slice(), &[form, &agent]].concat();
        visitor.send(client::text("POST", path, &headers, &chunked));
        assert_eq!(visitor.receive().status, status, "{path} {agent}");
        for text in site.origin.texts() {
            assert!(text.ends_with("\r\n\r\nusername=a&password=b"), "{text}");
            assert!(text.to_lowercase().contains("\r\ncontent-length: 21\r\n"), "{text}");
        }
        for call in site.sandbox.risk_calls() {
            let call = call.json();
            assert!(!call["request"]["headers"].to_string().contains("x-checksum"), "{call}");
            let version = &call["additional"]["ci_version"];
            assert_eq!(version.as_str(), (path == "/login").then_some("v2"), "{path}");
            assert_eq!(call["additional"]["s2s_call_reason"], "no_cookie", "{path}");
        }
    }
    assert_eq!(site.nginx.wait_for_access_log(5).len(), 5);
}

/// `large_client_header_buffers` raised for 100 KB and more, in each of the shapes that fill it.
#[test]
fn heads_of_100_kb_are_decided_like_others() {
    let site = Site::start_as(|server| {
        Nginx::builder().http("large_client_header_buffers 4 256k;").server(server)
    });
    let cookie = site.sandbox.mint(BROWSER).cookie();
    let padding = "x".repeat(100_000);
    // Some nginxes take no more than 1000 lines.
    let small: Vec<String> = (0..950).map(|n| format!("X-Small-{n}: {n:0100}")).collect();
    let small: Vec<&str> = small.iter().map(String::as_str).collect();
    let huge = format!("Cookie: first={padding}; last=1");
    let huge_good = format!("Cookie: first={padding}; {cookie}");
    let good = format!("Cookie: {cookie}");
    let many: String = (0..10_000).map(|n| format!("c{n}={n}; ")).collect();
    let many_good = format!("Cookie: {many}{cookie}");
    let many = format!("Cookie: {many}last=1");
    let long = format!("/long?{padding}");
    let shapes: [(&str, &str, Vec<&str>, Vec<&str>); 4] = [
        ("one cookie", "/", vec![&huge], vec![&huge_good]),
        ("many cookies", "/", vec![&many], vec![&many_good]),
        ("many headers", "/", small.clone(), [&small[..], &[&good]].concat()),
        ("a long target", &long, vec![], vec![&good]),
    ];
    let mut logged = 0;
    for (name, path, plain, with_cookie) in &shapes {
        let down = format!("/down{path}");
        let bot = [&plain[..], &[BOT_LINE]].concat();
        let bot_script = [&bot[..], &["Accept: application/json"]].concat();
        for (path, headers, status, calls, verdict) in [
            (*path, with_cookie, 200, 0, "verdict=pass pass=cookie"),
            (path, plain, 200, 1, "verdict=pass pass=s2s "),
            (path, &bot, 403, 1, "verdict=block"),
            (path, &bot_script, 403, 1, "verdict=block"),
            (&down, plain, 200, 0, "verdict=pass pass=s2s_error"),
        ] {
            site.sandbox.clear();
            site.origin.clear();
            let sent = client::text("GET", path, headers, b"");
            assert!(sent.len() > 100_000, "{name}");
            let mut visitor = Connection::open(site.nginx.addr());
            visitor.send(&sent);
            let answer = visitor.receive();
            assert_eq!(answer.status, status, "{name} {}", answer.text());
            assert_eq!(
                site.sandbox.risk_calls().len(),
                calls,
                "{name} {verdict} {:?}",
                site.nginx.access_log()
            );
            logged += 1;
            let log = site.nginx.wait_for_access_log(logged);
            assert_eq!(log.len(), logged);
            assert!(log[logged - 1].contains(verdict), "{name} {verdict}: {}", log[logged - 1]);
            if status == 200 {
                let received = site.origin.requests().pop().expect("a request");
                assert!(received.len() > 100_000, "{name}: {} bytes arrived", received.len());
                let text = String::from_utf8_lossy(&received).to_lowercase();
                assert!(text.starts_with(&format!("get {path} http/1.1\r\n")), "{name}");
                for header in headers {
                    assert!(text.contains(&format!("\r\n{}\r\n", header.to_lowercase())), "{name}");
                }
            }
            for call in site.sandbox.risk_calls() {
                let call = call.json();
                let told = call["request"]["headers"].as_array().map_or(0, Vec::len);
                // Host and user agent besides; cookies are told by name only.
                assert!(told >= plain.iter().filter(|h| h.starts_with("X-")).count() + 2, "{name}");
            }
        }
    }
    site.sandbox.assert_no_complaints();
}

/// An origin that shows what it reads while it reads it, for uploads that are not buffered.
fn streaming_site(directives: &str) -> (Site, TcpListener) {
    let listener = support::nginx::listener();
    let addr = listener.local_addr().expect("an address");
    let site = Site::start_as(|server| {
        Nginx::builder().server(&format!(
            "{server} {directives}
             location /stream/ {{ proxy_pass http://{addr}; proxy_request_buffering off; }}"
        ))
    });
    (site, listener)
}

fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        let mut buffer = [0; 4096];
        let n = client::read(stream, &mut buffer).expect("something in time");
        assert_ne!(n, 0, "the end came before {:?}", String::from_utf8_lossy(end));
        bytes.extend_from_slice(&buffer[..n]);
    }
    bytes
}

/// Piece by piece, each of which is seen by the origin before the next is sent; the first of them comes
/// while the Risk API is asked.
#[test]
fn unbuffered_uploads_stream_after_the_verdict() {
    let (site, listener) = streaming_site("");
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(50)));
    for framing in ["Content-Length: 24", "Transfer-Encoding: chunked"] {
        let chunk = |piece: &str| match framing {
            "Content-Length: 24" => piece.to_owned(),
            _ => format!("{:x}\r\n{piece}\r\n", piece.len()),
        };
        let calls = site.sandbox.risk_calls().len();
        let mut visitor = Connection::open(site.nginx.addr());
        visitor.send(client::text("PUT", "/stream/a", &[framing], b""));
        visitor.send(chunk("piece 0,"));
        site.sandbox.wait_for_risk_calls(calls + 1, SOON);
        let (mut origin, _) = listener.accept().expect("nginx connects");
        let mut head = read_until(&mut origin, chunk("piece 0,").as_bytes());
        head.truncate(18);
        assert_eq!(head, b"PUT /stream/a HTTP", "{framing}");
        for n in 1..3 {
            let piece = chunk(&format!("piece {n},"));
            visitor.send(&piece);
            assert!(read_until(&mut origin, piece.as_bytes()).ends_with(piece.as_bytes()));
        }
        if framing != "Content-Length: 24" {
            visitor.send("0\r\n\r\n");
            read_until(&mut origin, b"0\r\n\r\n");
        }
        origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("nginx reads");
        assert_eq!(visitor.receive().text(), "ok", "{framing}");
    }
    let log = site.nginx.wait_for_access_log(2);
    assert!(log.iter().all(|line| line.contains("verdict=pass pass=s2s ")), "{log:?}");
}

/// Where the module looks into the body it is read first, and then passed on whole.
#[test]
fn an_unbuffered_body_that_is_looked_into_arrives_whole() {
    let (site, listener) = streaming_site(
        "px_login_credentials_extraction path=/stream/login method=post sent_through=body
             user_field=username pass_field=password;",
    );
    let form = "Content-Type: application/x-www-form-urlencoded";
    let mut visitor = Connection::open(site.nginx.addr());
    visitor.send(client::text("POST", "/stream/login", &[form, "Content-Length: 21"], b"username"));
    visitor.send(b"=a&passw");
    assert!(site.sandbox.risk_calls().is_empty());
    visitor.send(b"ord=b");
    let (mut origin, _) = listener.accept().expect("nginx connects");
    read_until(&mut origin, b"\r\n\r\nusername=a&password=b");
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("nginx reads");
    assert_eq!(visitor.receive().status, 200);
    assert_eq!(site.sandbox.risk_calls()[0].json()["additional"]["ci_version"], "v2");
    // Blocked: nobody connects, and the connection goes on.
    visitor.send(client::text(
        "POST",
        "/stream/login",
        &[form, BOT_LINE],
        b"username=a&password=b",
    ));
    assert_eq!(visitor.receive().status, 403);
    visitor.send(client::text("GET", "/", &[], b""));
    assert_eq!(visitor.receive().status, 200);
    listener.set_nonblocking(true).expect("a socket option");
    assert!(listener.accept().is_err(), "a blocked upload went to the origin");
}

#[test]
fn an_upload_whose_client_leaves_ends_at_the_origin_too() {
    let (site, listener) = streaming_site("");
    for path in ["/stream/a", "/stream/down/"] {
        let mut visitor = Connection::open(site.nginx.addr());
        visitor.send(client::text("PUT", path, &["Content-Length: 1000"], b"begun"));
        let (mut origin, _) = listener.accept().expect("nginx connects");
        read_until(&mut origin, b"begun");
        drop(visitor);
        let mut rest = Vec::new();
        let _ = origin.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    // While the Risk API is asked, and within a body that the module waits for.
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(100)));
    for (path, before) in [("/stream/b", 3), ("/login", 3)] {
        let mut visitor = Connection::open(site.nginx.addr());
        visitor.send(client::text("POST", path, &["Content-Length: 1000"], b"begun"));
        if path != "/login" {
            site.sandbox.wait_for_risk_calls(before, SOON);
        }
        drop(visitor);
    }
    let log = site.nginx.wait_for_access_log(4);
    assert_eq!(log.len(), 4, "{log:?}");
    for line in &log[..2] {
        assert!(line.contains("verdict=pass pass=s2s "), "{line}");
    }
    site.sandbox.behave_well();
    assert_eq!(get(site.nginx.addr(), "/next", &[]).status, 200);
    assert_eq!(site.nginx.wait_for_access_log(5).len(), 5);
}

/// A client that has said all and closes its side (`nc -N`, old scripts) still gets what it would get
/// without the module.
#[test]
fn a_client_that_ends_its_side_early_is_answered() {
    let site =
        Site::start_as(|server| Nginx::builder().server(&format!("{server} location /file {{ }}")));
    fs::write(site.nginx.dir().join("html/file"), "a file").expect("it can be written");
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(100)));
    for (agent, version, status, text) in [
        (BROWSER, "1.0", 200, "a file"),
        (BROWSER, "1.1", 200, "a file"),
        (BOT, "1.0", 403, "px-captcha"),
        (BOT, "1.1", 403, "px-captcha"),
    ] {
        let mut visitor = Connection::open(site.nginx.addr());
        visitor.send(format!(
            "GET /file HTTP/{version}\r\nHost: site.test\r\nUser-Agent: {agent}\r\n\r\n"
        ));
        visitor.end_sending();
        let answer = visitor.receive();
        assert_eq!(answer.status, status, "{agent} {version}");
        assert!(answer.text().contains(text), "{agent} {version}");
        assert!(visitor.is_closed());
    }
    assert_eq!(site.nginx.wait_for_access_log(4).len(), 4);
}

/// Parts and conditions are the file's affair for whoever passes, and nobody's for whoever is blocked.
#[test]
fn parts_and_conditions_apply_to_those_who_pass() {
    let site = Site::start_as(|server| {
        Nginx::builder().server(&format!(
            "{server} location /file {{ }}
             location /own/ {{ px_custom_web_block_page_response @ours; alias html/; }}
             location /returned/ {{ px_custom_web_block_page_response @returned; }}
             location @ours {{ try_files /page.html =404; types {{ text/html html; }} }}
             location @returned {{ default_type text/html; return 200 \"px-captcha of ours\"; }}"
        ))
    });
    let html = site.nginx.dir().join("html");
    fs::write(html.join("file"), "0123456789").expect("it can be written");
    fs::write(html.join("page.html"), "px-captcha of ours").expect("it can be written");
    let addr = site.nginx.addr();
    let whole = get(addr, "/file", &[]);
    let etag = whole.header("etag").expect("an etag").to_owned();
    let modified = whole.header("last-modified").expect("a date").to_owned();
    let (same, since) =
        (format!("If-None-Match: {etag}"), format!("If-Modified-Since: {modified}"));
    let (matching, if_range) = (format!("If-Match: {etag}"), format!("If-Range: {etag}"));
    let rows: [(&[&str], u16, &str); 11] = [
        (&["If-None-Match: *"], 304, ""),
        (&["Range: bytes=2-4"], 206, "234"),
        (&["Range: bytes=-2"], 206, "89"),
        (&["Range: bytes=2-4", &if_range], 206, "234"),
        (&["Range: bytes=2-4", "If-Range: \"other\""], 200, "0123456789"),
        (&["Range: bytes=99-"], 416, ""),
        (&[&same], 304, ""),
        (&[&since], 304, ""),
        (&[&matching], 200, "0123456789"),
        (&["If-Match: \"other\""], 412, ""),
        (&["If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT"], 412, ""),
    ];
    for (headers, status, text) in rows {
        let answer = get(addr, "/file", headers);
        assert_eq!(answer.status, status, "{headers:?}");
        if status < 300 {
            assert_eq!(answer.text(), text, "{headers:?}");
        }
        let bot = [headers, &[BOT_LINE]].concat();
        for path in ["/file", "/own/a", "/returned/a"] {
            let answer = get(addr, path, &bot);
            assert_eq!(answer.status, 403, "{path} {headers:?}");
            assert!(answer.text().contains("px-captcha"), "{path} {headers:?}: {}", answer.text());
            assert_eq!(answer.headers("content-type"), ["text/html"], "{path} {headers:?}");
            assert_eq!(answer.header("content-range"), None, "{path} {headers:?}");
        }
    }
    // The origin is asked for the part, and its answer passed on.
    site.origin.answer(206, &["Content-Range: bytes 2-4/10"], b"234");
    let part = get(addr, "/proxied", &["Range: bytes=2-4", &same, &if_range]);
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    let text = site.origin.texts().pop().expect("a request");
    for header in ["Range: bytes=2-4", &same, &if_range] {
        assert!(text.contains(&format!("\r\n{header}\r\n")), "{text}");
    }
}
