//! Tests for the px module: requests that two readers could take for different ones, and paths that lead
//! elsewhere. What arrives at origin, HUMAN and node is counted and read byte for byte.

mod support;

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use px_sandbox::{NodeMode, Sandbox};
use support::h2::H2;
use support::{Nginx, Origin, get, protect, protect_as};

/// A site whose collector is `human`, which keeps what it receives byte for byte.
fn site(sandbox: &Sandbox, human: &Origin, more: &str) -> Nginx {
    let human = format!("http://{}", human.addr());
    let own = protect_as(sandbox.app(), &sandbox.url(), &human);
    Nginx::builder()
        .http("keepalive_timeout 1s; client_header_timeout 1s; client_body_timeout 1s; lingering_timeout 1s;")
        .server(&format!("{own} px_send_async_activities_enabled off; {more}"))
        .start()
}

/// Everything nginx says to these bytes, until it closes the connection.
fn say(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(addr).expect("nginx accepts connections");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
    socket.write_all(bytes).expect("nginx reads what is sent");
    let mut said = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = support::client::read(&mut socket, &mut buffer) {
        said.extend_from_slice(&buffer[..n]);
    }
    let _ = socket.shutdown(Shutdown::Both);
    String::from_utf8_lossy(&said).into_owned()
}

/// What a backend received is one request and no byte more, and its framing can be read in one way.
#[track_caller]
fn assert_one_request(what: &str, bytes: &[u8]) {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let body = &bytes[end..];
    assert!(!head.contains(" /smuggled"), "{what}: {head}");
    let is_clean = |byte: &u8| matches!(byte, b'\r' | b'\n' | b' '..=b'~');
    assert!(bytes[..end].iter().all(is_clean), "{what}: {head:?}");
    assert_eq!(head.matches('\r').count(), head.matches("\r\n").count(), "{what}: {head:?}");
    assert_eq!(head.matches('\n').count(), head.matches("\r\n").count(), "{what}: {head:?}");
    let lower = head.to_ascii_lowercase();
    let mut lines = lower.lines();
    assert_eq!(lines.next().unwrap_or_default().split(' ').count(), 3, "{what}: {head}");
    let values = |name: &str| -> Vec<&str> {
        let all = lower.lines().filter_map(|line| line.split_once(':'));
        all.filter(|(key, _)| key.replace('_', "-").trim() == name).map(|(_, v)| v.trim()).collect()
    };
    match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => assert!(body.is_empty(), "{what}: {head} {body:?}"),
        ([length], []) => assert_eq!(length.parse(), Ok(body.len()), "{what}: {head}"),
        ([], ["chunked"]) => assert!(body.ends_with(b"0\r\n\r\n"), "{what}: {head}"),
        framing => panic!("{what}: {framing:?} in {head}"),
    }
}

/// A second request, hidden in what may be a body.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: site.test\r\nX: ";

/// Heads and bodies behind the request line.
fn ambiguous() -> Vec<(&'static str, String)> {
    let length = HIDDEN.len();
    let chunk = format!("{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n");
    let (te, chunked) = ("Transfer-Encoding", "Transfer-Encoding: chunked\r\n");
    vec![
        ("both", format!("Content-Length: 4\r\n{chunked}\r\n{chunk}")),
        ("both, turned", format!("{chunked}Content-Length: {length}\r\n\r\n0\r\n\r\n{HIDDEN}")),
        ("two lengths", format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{HIDDEN}")),
        (
            "one length twice",
            format!("Content-Length: {length}\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"),
        ),
        ("a list of lengths", format!("Content-Length: {length}, {length}\r\n\r\n{HIDDEN}")),
        ("a signed length", format!("Content-Length: +{length}\r\n\r\n{HIDDEN}")),
        ("a hexadecimal length", format!("Content-Length: 0x{length:x}\r\n\r\n{HIDDEN}")),
        ("a negative length", format!("Content-Length: -1\r\n\r\n{HIDDEN}")),
        ("a huge length", format!("Content-Length: 18446744073709551616\r\n\r\n{HIDDEN}")),
        ("a length with a space", format!("Content-Length : {length}\r\n\r\n{HIDDEN}")),
        (
            "a length with an underscore",
            format!("Content_Length: 0\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"),
        ),
        ("xchunked", format!("{te}: xchunked\r\n\r\n{chunk}")),
        ("identity, chunked", format!("{te}: identity, chunked\r\n\r\n{chunk}")),
        ("chunked, identity", format!("{te}: chunked, identity\r\n\r\n{chunk}")),
        ("chunked twice", format!("{chunked}{chunked}\r\n{chunk}")),
        ("chunked and more", format!("{chunked}{te}: x\r\n\r\n{chunk}")),
        ("a tab before", format!("{te}:\tchunked\r\n\r\n{chunk}")),
        ("a vertical tab", format!("{te}: \u{b}chunked\r\n\r\n{chunk}")),
        ("quoted", format!("{te}: \"chunked\"\r\n\r\n{chunk}")),
        ("folded", format!("{te}:\r\n chunked\r\n\r\n{chunk}")),
        ("a space before the colon", format!("{te} : chunked\r\n\r\n{chunk}")),
        (
            "an underscore",
            format!("Transfer_Encoding: chunked\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"),
        ),
        ("upper case", format!("TRANSFER-ENCODING: CHUNKED\r\n\r\n{chunk}")),
        (
            "named in Connection",
            format!("Connection: Transfer-Encoding, Content-Length\r\n{chunked}\r\n{chunk}"),
        ),
        ("an extension", format!("{chunked}\r\n{length:x};a=\"\r\n\"\r\n{HIDDEN}\r\n0\r\n\r\n")),
        (
            "a long extension",
            format!("{chunked}\r\n{length:x};{}\r\n{HIDDEN}\r\n0\r\n\r\n", "a".repeat(4000)),
        ),
        (
            "a trailer",
            format!(
                "{chunked}\r\n{length:x}\r\n{HIDDEN}\r\n0\r\nContent-Length: 1\r\nX-PX-UUID: lie\r\n\r\n"
            ),
        ),
        (
            "a size that wraps",
            format!("{chunked}\r\n1000000000000000{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n"),
        ),
        ("a size with a sign", format!("{chunked}\r\n+{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n")),
        ("a size with 0x", format!("{chunked}\r\n0x{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n")),
        ("a bare line feed", format!("{chunked}\r\n{length:x}\n{HIDDEN}\n0\n\n")),
        ("a line feed in a header", format!("X: a\nContent-Length: {length}\r\n\r\n{HIDDEN}")),
        ("a return in a header", format!("X: a\rContent-Length: {length}\r\n\r\n{HIDDEN}")),
        ("a null in a header", format!("X: a\0\r\nContent-Length: {length}\r\n\r\n{HIDDEN}")),
        (
            "an upgrade with a body",
            format!(
                "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"
            ),
        ),
        (
            "a body that is expected",
            format!("Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"),
        ),
    ]
}

/// None is read as two requests by anybody behind nginx; and what nginx itself takes for a second one is
/// judged like a first.
#[test]
fn no_body_becomes_a_request_anywhere() {
    let (sandbox, origin, human) = (Sandbox::start().unwrap(), Origin::start(), Origin::start());
    let node = Sandbox::builder().node(NodeMode::Blocking).start().unwrap();
    let pass = origin.proxy_pass();
    let nginx = site(
        &sandbox,
        &human,
        &format!(
            "px_wallarm_node_address {};
             location / {{ {pass} proxy_http_version 1.1; }}
             location /streamed {{ {pass} proxy_http_version 1.1; proxy_request_buffering off; }}
             location = /smuggled {{ return 200 \"smuggled\"; }}",
            node.url()
        ),
    );
    let rows: Vec<(String, Vec<u8>)> = ["/", "/streamed", "/sandbox1/xhr/a"]
        .into_iter()
        .flat_map(|path| {
            let rows = ambiguous().into_iter();
            rows.flat_map(move |(what, rest)| {
                ["1.0", "1.1"].map(|version| {
                    let text = format!("POST {path} HTTP/{version}\r\nHost: site.test\r\n{rest}");
                    (format!("{what}, {path}, {version}"), text.into_bytes())
                })
            })
        })
        .collect();
    let addr = nginx.addr();
    let answers: Vec<(String, String)> = std::thread::scope(|scope| {
        let asking: Vec<_> = rows
            .iter()
            .map(|(what, bytes)| scope.spawn(move || (what.clone(), say(addr, bytes))))
            .collect();
        asking.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    let mut taken = 0;
    for (what, answer) in &answers {
        assert!(!answer.contains("smuggled"), "{what}: {answer}");
        taken += usize::from(answer.starts_with("HTTP/1.1 200"));
    }
    // Some of them are good requests, most are none.
    assert!(taken > 10 && taken < answers.len() / 2, "{taken} of {}", answers.len());
    let (at_origin, at_human) = (origin.requests(), human.requests());
    for request in at_origin.iter().chain(&at_human) {
        assert_one_request("a backend", request);
    }
    assert!(at_human.len() > 3 && at_origin.len() > 6, "{} {}", at_human.len(), at_origin.len());
    assert!(at_origin.len() + at_human.len() <= answers.len());
    for received in node.mirrored().iter().chain(&sandbox.received()) {
        assert!(!received.target.contains("smuggled"), "{}", received.target);
    }
    node.assert_no_complaints();
    // A call for each request that went to the origin, and the node was told of each.
    assert!(sandbox.risk_calls().len() >= at_origin.len());
    assert!(node.mirrored().len() >= at_origin.len());
}

/// HTTP/2 has no such framing, whatever its headers say.
#[test]
fn headers_of_http_2_frame_nothing() {
    let (sandbox, origin, human) = (Sandbox::start().unwrap(), Origin::start(), Origin::start());
    let pass = origin.proxy_pass();
    let url = format!("http://{}", human.addr());
    let nginx = Nginx::builder()
        .listen("http2")
        .server(&format!(
            "{} px_send_async_activities_enabled off; location / {{ {pass} proxy_http_version 1.1; }}",
            protect_as(sandbox.app(), &sandbox.url(), &url)
        ))
        .start();
    let body = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for path in ["/", "/sandbox1/xhr/a"] {
        for headers in [
            &[("transfer-encoding", "chunked")][..],
            &[("content-length", "0")],
            &[("content-length", "5")],
            &[("connection", "keep-alive"), ("x", "y")],
            &[("x", "a\r\nContent-Length: 0")],
            &[("x", "a\nb: c")],
            &[("x\r\ny", "a")],
            &[("x:y", "a")],
            &[("x y", "a")],
            &[("host", "other.test\r\nx: y")],
            &[],
        ] {
            let mut client = H2::open(nginx.addr());
            client.request(1, "POST", path, headers, false);
            client.data(1, body, true);
            let answer = client.receive(1);
            assert!(matches!(answer.status, 0 | 200 | 400), "{path} {headers:?} {answer:?}");
        }
        for path in ["/a\r\nX: y", "/a HTTP/1.1\r\nX: y", "/a b", "/a\0b", "*", "http://x/smuggled"]
        {
            let mut client = H2::open(nginx.addr());
            client.request(1, "GET", path, &[], true);
            client.receive(1);
        }
    }
    let (at_origin, at_human) = (origin.requests(), human.requests());
    assert!(!at_origin.is_empty() && !at_human.is_empty());
    for request in at_origin.iter().chain(&at_human) {
        assert_one_request("a backend", request);
    }
}

/// The host is HUMAN's whatever the path; a path that is HUMAN's own stays below the collector; and no byte
/// of it ends the request line.
#[test]
fn first_party_paths_lead_to_humans_hosts_only() {
    let (sandbox, origin, human) = (Sandbox::start().unwrap(), Origin::start(), Origin::start());
    let elsewhere = Origin::start();
    let evil = elsewhere.addr().to_string();
    for decode in ["", "px_url_decode_reserved_characters on;"] {
        let pass = origin.proxy_pass();
        let nginx = site(
            &sandbox,
            &human,
            &format!("{decode} location / {{ {pass} }} large_client_header_buffers 4 32k;"),
        );
        let long = format!("/{}", "a/../".repeat(4000));
        let mut targets: Vec<String> = [
            "//EVIL/x",
            "/%2f%2fEVIL/x",
            "/..//EVIL/",
            "@EVIL/x",
            ".EVIL/x",
            ":80/x",
            "%40EVIL/x",
            "%2eEVIL",
            "/../../../x",
            "/%2e%2e/%2e%2e/x",
            "/..%2f..%2fx",
            "/%252e%252e/x",
            "/..;/x",
            "/\\..\\x",
            "\\EVIL\\x",
            "/%5c%5cEVIL/x",
            "/a%0d%0aX:%20y%0d%0a%0d%0aGET%20/smuggled",
            "/a%0aX:%20y",
            "/a%20HTTP/1.1%0d%0aX:y",
            "/a%00b",
            "/a%09b",
            "/a%7fb",
            "/%c0%ae%c0%ae/x",
            "/%ff%fe",
            "/a%23b",
            "/a%3fb=c",
            "?u=http://EVIL/",
            "?%0d%0aX:%20y",
            "?a b",
            "/x?a#EVIL",
            "/;@EVIL/",
            "/http://EVIL/x",
            "/%2e",
            "/.",
            "",
            "/",
            long.as_str(),
        ]
        .iter()
        .map(|rest| format!("/sandbox1/xhr{}", rest.replace("EVIL", &evil)))
        .collect();
        for rest in ["/sandbox1/xhr/x", "/sandbox1/init.js"] {
            targets.push(format!("http://{evil}{rest}"));
            targets.push(format!("http://user@{evil}{rest}"));
            targets.push(format!("//{evil}{rest}"));
        }
        let mut asked = 0;
        for target in &targets {
            for method in ["GET", "POST", "TRACE", "CONNECT", "PUT"] {
                let hosts = format!(
                    "Host: {evil}\r\nX-Forwarded-Host: {evil}\r\nX-Original-URL: http://{evil}/\r\n"
                );
                let text = format!(
                    "{method} {target} HTTP/1.1\r\n{hosts}Connection: close\r\nContent-Length: 0\r\n\r\n"
                );
                let answer = say(nginx.addr(), text.as_bytes());
                assert!(answer.starts_with("HTTP/1.1 "), "{method} {target}: {answer}");
                asked += 1;
            }
        }
        assert!(asked > 100);
    }
    assert!(elsewhere.requests().is_empty(), "{:?}", elsewhere.texts());
    let requests = human.requests();
    assert!(requests.len() > 50, "{}", requests.len());
    let host = format!("Host: {}\r\n", human.addr());
    for request in &requests {
        assert_one_request("HUMAN", request);
        let text = String::from_utf8_lossy(request);
        assert_eq!(text.matches("\r\nHost: ").count(), 1, "{text}");
        assert!(text.contains(&host), "{text}");
        assert!(!text.contains("\r\nX:"), "{text}");
    }
    for request in origin.requests() {
        assert_one_request("the origin", &request);
    }
}

/// Answers of a backend that lies about where they end.
#[test]
fn a_lying_first_party_backend_speaks_to_its_own_visitor_only() {
    let (sandbox, origin, human) = (Sandbox::start().unwrap(), Origin::start(), Origin::start());
    let pass = origin.proxy_pass();
    let nginx = site(&sandbox, &human, &format!("location / {{ {pass} }}"));
    let mut answered = 0;
    for headers in [
        &["X: a", "Transfer-Encoding: chunked"][..],
        &["Content-Length: 0"],
        &["X-Accel-Redirect: /other", "X-Accel-Expires: 100"],
        &["X-Accel-Buffering: no", "Connection: Upgrade", "Upgrade: h2c"],
        &["Set-Cookie: a=b\rSet-Cookie: c=d"],
    ] {
        human.answer(
            200,
            headers,
            b"HTTP/1.1 200 OK\r\nX-Second: 1\r\nContent-Length: 6\r\n\r\nsecond",
        );
        let two = "GET /sandbox1/xhr/a HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        origin.clear();
        let said = say(nginx.addr(), two.as_bytes());
        // What the second request is answered with is the origin's; or nginx has closed the connection,
        // because the first answer made no sense.
        let second = origin.texts();
        let is_cut = second.is_empty() && !said.contains("\r\n\r\norigin");
        assert!(is_cut || said.ends_with("\r\n\r\norigin"), "{headers:?}: {said}");
        assert!(second.iter().all(|text| text.starts_with("GET / ")), "{headers:?}: {second:?}");
        answered += second.len();
    }
    assert!(answered > 3, "{answered}");
    assert_eq!(get(nginx.addr(), "/", &[]).text(), "origin");
}

/// The first visitor's headers do not decide what everybody is shown of the sensor in the cache.
#[test]
fn no_visitor_shapes_the_sensor_in_the_cache() {
    let (sandbox, origin, human) = (Sandbox::start().unwrap(), Origin::start(), Origin::start());
    human.answer(200, &["Content-Type: application/javascript"], b"the whole sensor");
    let url = format!("http://{}", human.addr());
    let nginx = Nginx::builder()
        .http("proxy_cache_path cache keys_zone=sensors:1m;")
        .server(&format!(
            "{} px_first_party_cache sensors; location / {{ {} }}",
            protect_as(sandbox.app(), &sandbox.url(), &url),
            origin.proxy_pass()
        ))
        .start();
    let shaping = [
        "Range: bytes=0-0",
        "If-Range: x",
        "If-None-Match: *",
        "If-Modified-Since: Tue, 19 Jan 2038 00:00:00 GMT",
        "Accept-Encoding: br",
    ];
    get(nginx.addr(), "/sandbox1/init.js?x=1", &shaping);
    for target in ["/sandbox1/init.js", "/sandbox1/init.js?x=2", "/sandbox1//init.js"] {
        assert_eq!(get(nginx.addr(), target, &[]).text(), "the whole sensor", "{target}");
    }
    let [asked] = &human.texts()[..] else { panic!("{:?}", human.texts()) };
    let lower = asked.to_ascii_lowercase();
    for name in ["range:", "if-", "accept-encoding:"] {
        assert!(!lower.contains(name), "{asked}");
    }
}

/// The Risk API call is framed by the module alone.
#[test]
fn nothing_of_a_visitor_frames_the_risk_api_call() {
    let (risk, origin) = (Origin::start(), Origin::start());
    risk.answer(200, &["Content-Type: application/json"], br#"{"status":0,"score":0}"#);
    let sandbox = Sandbox::start().unwrap();
    let url = format!("http://{}", risk.addr());
    let nginx = Nginx::start(&format!(
        "{} px_send_async_activities_enabled off; location / {{ {} }}",
        protect(&sandbox).replace(
            &format!("px_backend_url {};", sandbox.url()),
            &format!("px_backend_url {url};")
        ),
        origin.proxy_pass()
    ));
    for line in [
        "Content-Type: text/plain",
        "Cookie: _pxhd=a\tb\"\\\r\nX-Two: c",
        "Transfer-Encoding: chunked",
        "Content-Length: 7",
        "Connection: authorization, content-length",
        "Authorization: Basic x",
        "Host: a:b@c",
        "Expect: 100-continue",
        "Upgrade: h2c",
    ] {
        let text = format!(
            "GET /a%0d%0aX:y?%0a HTTP/1.1\r\nHost: a\r\n{line}\r\nConnection: close\r\n\r\n"
        );
        let body = if line.starts_with("Tr") { "3\r\nabc\r\n0\r\n\r\n" } else { "abcdefg" };
        say(nginx.addr(), format!("{text}{body}").as_bytes());
    }
    let requests = risk.requests();
    assert!(requests.len() > 5, "{}", requests.len());
    for request in &requests {
        assert_one_request("the Risk API", request);
        let text = String::from_utf8_lossy(request);
        assert!(text.starts_with("POST /api/v3/risk HTTP/1.1\r\n"), "{text}");
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        assert_eq!(head.matches("Authorization: ").count(), 1, "{text}");
    }
}
