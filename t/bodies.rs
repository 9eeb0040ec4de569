//! Tests for the px module: request bodies are read where something may stand in them, and reach the
//! origin as they were sent.

mod support;

use std::fs;
use std::io::Write;
use std::time::Duration;

use px_sandbox::Sandbox;
use serde_json::Value;
use support::h2::H2;
use support::{BROWSER, Connection, Nginx, Origin, SOON, client, curl, protect, request};

const LOGIN: &str = "px_enable_login_creds_extraction on;
    px_login_credentials_extraction path=/login method=post sent_through=body
        user_field=username pass_field=password;";

fn site(sandbox: &Sandbox, origin: &Origin, directives: &str) -> Nginx {
    listening("", sandbox, origin, directives)
}

/// As [`site`], for HTTP/2 alone.
fn site_h2(sandbox: &Sandbox, origin: &Origin, directives: &str) -> Nginx {
    listening("http2", sandbox, origin, directives)
}

fn listening(parameters: &str, sandbox: &Sandbox, origin: &Origin, directives: &str) -> Nginx {
    Nginx::builder()
        .listen(parameters)
        .server(&format!(
            "{} {LOGIN} {directives} location / {{ {} }}",
            protect(sandbox),
            origin.proxy_pass()
        ))
        .start()
}

/// The body of the last request that the origin received.
fn received(origin: &Origin, count: usize) -> Vec<u8> {
    let request = origin.wait_for(count).pop().expect("a request");
    let end = request.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    assert!(!head.contains("transfer-encoding"), "nginx knows the length: {head}");
    request[end..].to_vec()
}

/// What the last of `count` Risk API calls says of the login.
fn version(sandbox: &Sandbox, count: usize) -> Value {
    let calls = sandbox.wait_for_risk_calls(count, SOON);
    calls[count - 1].json()["additional"]["ci_version"].clone()
}

fn json_of(size: usize) -> Vec<u8> {
    let padding = "x".repeat(size);
    format!("{{\"padding\":\"{padding}\",\"username\":\"Zaphod\",\"password\":\"p\u{e9} \\\"1\"}}")
        .into_bytes()
}

#[test]
fn the_origin_receives_the_bytes_that_were_sent() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let directives = "px_max_body_size 16m; client_max_body_size 20m;
        client_body_buffer_size 16k;";
    let nginx = site(&sandbox, &origin, directives);
    let nginx_h2 = site_h2(&sandbox, &origin, directives);
    let url = format!("http://{}/login", nginx.addr());
    let url_h2 = format!("http://{}/login", nginx_h2.addr());
    let file = nginx.dir().join("sent");
    let path = format!("@{}", file.display());
    let mut count = 0;
    for (size, content_type) in [
        (10, "application/json"),
        // Larger than the buffer: it lies in a file.
        (40_000, "application/json"),
        (10 << 20, "application/json"),
    ] {
        let body = json_of(size);
        fs::write(&file, &body).expect("it can be written");
        let content_type = format!("Content-Type: {content_type}");
        for arguments in [
            &["--http1.1"][..],
            &["--http1.1", "-H", "Transfer-Encoding: chunked"],
            &["--http1.1", "-H", "Expect: 100-continue"],
            &["--http2-prior-knowledge"],
            // Without a length.
            &["--http2-prior-knowledge", "-H", "Content-Length:"],
        ] {
            let url = if arguments[0] == "--http1.1" { &url } else { &url_h2 };
            let mut all = vec!["-A", BROWSER, "-H", &content_type, "--data-binary", &path, url];
            all.extend(arguments);
            let (text, code) = curl(&all);
            assert_eq!((text.as_str(), code), ("origin", 0), "{size} {arguments:?}");
            count += 1;
            assert!(received(&origin, count) == body, "{size} {arguments:?}");
            assert_eq!(version(&sandbox, count), "v2", "{size} {arguments:?}");
        }
    }
    let hashes: Vec<Value> =
        sandbox.risk_calls().iter().map(|call| call.json()["additional"]["pass"].clone()).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    for log in [nginx.stop(), nginx_h2.stop()] {
        assert!(!log.contains("Zaphod") && !log.contains(hashes[0].as_str().expect("a hash")));
    }
}

/// A part of such a body lies behind the head, another in a buffer of its own, and after the last
/// chunk nginx puts a buffer without any memory.
#[test]
fn a_body_in_chunks_that_come_one_by_one_is_read_from_its_pieces() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "");
    let headers = ["Content-Type: application/json", "Transfer-Encoding: chunked"];
    let mut count = 0;
    for size in [1, 500, 10_000] {
        let body = json_of(size);
        for at in [1, body.len() / 2, body.len() - 1] {
            let (first, second) = body.split_at(at);
            let chunk = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part].concat();
            let head = client::text("POST", "/login", &headers, b"");
            let mut visitor = Connection::open(nginx.addr());
            visitor.send([head, chunk(first)].concat());
            // Whoever is answered came after what was sent before.
            assert_eq!(support::get(nginx.addr(), "/a.css", &[]).status, 200);
            visitor.send([b"\r\n", &*chunk(second), b"\r\n0\r\n\r\n"].concat());
            assert_eq!(visitor.receive().status, 200, "{size} {at}");
            count += 1;
            assert!(received(&origin, 2 * count) == body, "{size} {at}");
            assert_eq!(version(&sandbox, count), "v2", "{size} {at}");
        }
    }
}

#[test]
fn forms_of_every_kind_are_read() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let (nginx, nginx_h2) = (site(&sandbox, &origin, ""), site_h2(&sandbox, &origin, ""));
    let upload = nginx.dir().join("photo");
    fs::write(&upload, [0, 159, 146, 150, 13, 10, 45, 45]).expect("it can be written");
    let photo = format!("photo=@{};type=image/png", upload.display());
    let mut count = 0;
    for (nginx, version_of_http) in [(&nginx, "--http1.1"), (&nginx_h2, "--http2-prior-knowledge")]
    {
        let url = format!("http://{}/login", nginx.addr());
        for fields in [
            &["-d", "username=Zaphod&password=secret+pass"][..],
            &["--data-urlencode", "username=Zaphod", "--data-urlencode", "password=secret pass"],
            &["-F", &photo, "-F", "username=Zaphod", "-F", "password=secret pass"],
            &[
                "-H",
                "Content-Type: application/json",
                "-d",
                "{\"username\":\"Zaphod\",\"password\":\"secret pass\"}",
            ],
        ] {
            let mut all = vec![version_of_http, "-A", BROWSER, &url];
            all.extend(fields);
            let (text, code) = curl(&all);
            assert_eq!((text.as_str(), code), ("origin", 0), "{fields:?}");
            count += 1;
            assert_eq!(version(&sandbox, count), "v2", "{fields:?}");
        }
    }
    let logins: Vec<_> = sandbox.risk_calls().iter().map(|call| call.json()).collect();
    for login in &logins {
        assert_eq!(login["additional"]["user"], logins[0]["additional"]["user"]);
        assert_eq!(login["additional"]["pass"], logins[0]["additional"]["pass"]);
        assert!(!login.to_string().contains("secret pass"));
    }
}

#[test]
fn what_is_too_large_or_compressed_is_passed_on_unread() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_max_body_size 1k;");
    let json = "Content-Type: application/json";
    let large = json_of(1024);
    let chunked = [format!("{:x}\r\n", large.len()).as_bytes(), &large, b"\r\n0\r\n\r\n"].concat();
    for (headers, body, reason) in [
        (&[json][..], &large, "larger than 1024 bytes"),
        (&[json, "Transfer-Encoding: chunked"], &chunked, "larger than 1024 bytes"),
        (&[json, "Content-Encoding: gzip"], &json_of(0), "content encoding"),
    ] {
        origin.clear();
        sandbox.clear();
        assert_eq!(request(nginx.addr(), "POST", "/login", headers, body).status, 200);
        assert_eq!(version(&sandbox, 1), Value::Null, "{headers:?}");
        let sent = if body == &chunked { &large } else { body };
        assert!(received(&origin, 1) == *sent, "{headers:?}");
        let log = nginx.wait_for_error_log(reason);
        let line = log.lines().find(|line| line.contains(reason)).expect("a line");
        assert!(line.contains("[info]") && line.contains("POST /login"), "{line}");
    }
    sandbox.clear();
    let identity = ["Content-Type: application/json", "Content-Encoding: identity"];
    request(nginx.addr(), "POST", "/login", &identity, &json_of(0));
    assert_eq!(version(&sandbox, 1), "v2");
}

#[test]
fn a_body_that_is_late_keeps_nobody_else_waiting() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let (nginx, nginx_h2) = (site(&sandbox, &origin, ""), site_h2(&sandbox, &origin, ""));
    let body = json_of(100);
    let head = client::text(
        "POST",
        "/login",
        &["Content-Type: application/json", &format!("Content-Length: {}", body.len())],
        b"",
    );
    let mut slow = Connection::open(nginx.addr());
    slow.send(head);
    slow.send(&body[..50]);
    let mut slow_h2 = H2::open(nginx_h2.addr());
    slow_h2.request(1, "POST", "/login", &[("content-type", "application/json")], false);
    slow_h2.data(1, &body[..50], false);
    assert_eq!(support::get(nginx.addr(), "/other", &[]).status, 200);
    assert_eq!(sandbox.risk_calls().len(), 1);
    slow.send(&body[50..]);
    assert_eq!(slow.receive().status, 200);
    assert_eq!(version(&sandbox, 2), "v2");
    slow_h2.data(1, &body[50..], true);
    assert_eq!(slow_h2.receive(1).status, 200);
    assert_eq!(version(&sandbox, 3), "v2");
}

#[test]
fn a_visitor_who_leaves_within_the_body_leaves_nothing_behind() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "client_body_timeout 1s;");
    let nginx_h2 = site_h2(&sandbox, &origin, "client_body_timeout 1s;");
    for sent in [0, 50] {
        let mut connection = Connection::open(nginx.addr());
        connection.send(client::text(
            "POST",
            "/login",
            &["Content-Type: application/json", "Content-Length: 100"],
            b"",
        ));
        connection.send(&json_of(100)[..sent]);
        drop(connection);
        let mut h2 = H2::open(nginx_h2.addr());
        h2.request(1, "POST", "/login", &[], false);
        h2.data(1, &json_of(100)[..sent], false);
        h2.reset(1);
    }
    assert_eq!(support::get(nginx.addr(), "/", &[]).status, 200);
    assert_eq!(sandbox.risk_calls().len(), 1);
    // One that only waits is answered by nginx itself, as it would be without the module.
    let mut connection = Connection::open(nginx.addr());
    connection.send(client::text("POST", "/login", &["Content-Length: 100"], b""));
    assert!(connection.is_closed());
    assert!(origin.texts().iter().all(|text| text.starts_with("GET ")));
}

#[test]
fn a_body_that_nginx_refuses_is_refused_as_ever() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "client_max_body_size 1k;");
    let body = json_of(2000);
    let headers = ["Content-Type: application/json", "Transfer-Encoding: chunked"];
    let chunked = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(request(nginx.addr(), "POST", "/login", &headers[..1], &body).status, 413);
    assert_eq!(request(nginx.addr(), "POST", "/login", &headers, &chunked).status, 413);
    assert_eq!(request(nginx.addr(), "POST", "/login", &headers, b"zz\r\n").status, 400);
    assert!(origin.requests().is_empty());
}

#[test]
fn an_error_page_for_a_refused_body_is_shown() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let page = "client_max_body_size 1k; error_page 400 413 /sorry;
        location = /sorry { proxy_method GET; PASS }";
    let nginx = site(&sandbox, &origin, &page.replace("PASS", &origin.proxy_pass()));
    let body = json_of(2000);
    let headers = [
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        "px-compromised-credentials: 1",
    ];
    let chunked = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    for (status, body) in [(413, &*chunked), (400, b"zz\r\n")] {
        // All at once, and in two pieces, of which the second comes while the body is being read.
        for pause in [false, true] {
            let mut connection = Connection::open(nginx.addr());
            connection.send(client::text("POST", "/login", &headers, b""));
            if pause {
                std::thread::sleep(Duration::from_millis(50));
            }
            connection.send(body);
            let response = connection.receive();
            assert_eq!((response.status, response.text().as_str()), (status, "origin"));
        }
    }
    assert!(sandbox.risk_calls().is_empty());
    // What only the module may say is removed there, too.
    assert!(origin.texts().iter().all(|text| !text.contains("compromised")));
}

#[test]
fn no_login_is_lost_while_workers_come_and_go() {
    const VISITORS: usize = 4;
    const LOGINS: usize = 60;
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let conf = format!(
        "{} {LOGIN} client_body_buffer_size 1k; location / {{ {} }}",
        protect(&sandbox),
        origin.proxy_pass()
    );
    let nginx = Nginx::builder().workers(3).server(&conf).start();
    let json = ["Content-Type: application/json", "Connection: close"];
    std::thread::scope(|scope| {
        for _ in 0..VISITORS {
            scope.spawn(|| {
                for number in 0..LOGINS {
                    let body = json_of(number * 100);
                    let response = request(nginx.addr(), "POST", "/login", &json, &body);
                    assert_eq!(response.status, 200);
                }
            });
        }
        for _ in 0..3 {
            let old = nginx.workers();
            nginx.reload(|conf| conf);
            nginx.wait_for_workers_to_end(&old);
        }
    });
    let calls = sandbox.wait_for_risk_calls(VISITORS * LOGINS, SOON);
    assert!(calls.iter().all(|call| call.json()["additional"]["ci_version"] == "v2"));
    assert_eq!(origin.requests().len(), VISITORS * LOGINS);
}

#[test]
fn a_body_that_lies_in_a_file_alone_is_read() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "client_body_in_file_only clean;");
    let body = json_of(10);
    let json = ["Content-Type: application/json"];
    assert_eq!(request(nginx.addr(), "POST", "/login", &json, &body).status, 200);
    assert_eq!(version(&sandbox, 1), "v2");
    assert!(received(&origin, 1) == body);
}

#[test]
fn uploads_elsewhere_stay_streaming() {
    let sandbox = Sandbox::start().unwrap();
    let listener = support::nginx::listener();
    let addr = listener.local_addr().expect("an address");
    let nginx = Nginx::start(&format!(
        "{} {LOGIN} location / {{ proxy_pass http://{addr}; proxy_request_buffering off;
           proxy_http_version 1.1; }}",
        protect(&sandbox)
    ));
    let mut visitor = Connection::open(nginx.addr());
    visitor.send(client::text("POST", "/upload", &["Content-Length: 10"], b""));
    visitor.send(b"first");
    let (mut origin, _) = listener.accept().expect("nginx connects");
    origin.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout can be set");
    let mut text = Vec::new();
    while !text.ends_with(b"first") {
        let mut buffer = [0; 4096];
        let n = client::read(&mut origin, &mut buffer)
            .expect("the first half comes before the second is sent");
        assert_ne!(n, 0);
        text.extend_from_slice(&buffer[..n]);
    }
    visitor.send(b"other");
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("nginx reads");
    assert_eq!(visitor.receive().status, 200);
}

#[test]
fn one_connection_carries_bodies_and_other_requests_in_turn() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "");
    let mut connection = Connection::open(nginx.addr());
    let body = json_of(10);
    for round in 0..3 {
        let json = ["Content-Type: application/json"];
        connection.send(client::text("POST", "/login", &json, &body));
        connection.send(client::text("GET", "/", &[], b""));
        assert_eq!(connection.receive().status, 200, "{round}");
        assert_eq!(connection.receive().status, 200, "{round}");
    }
    assert_eq!(origin.requests().len(), 6);
    // A blocked login is not passed on, and its body not taken for a request.
    sandbox.answer_risk(px_sandbox::Reply::risk(100, "c"));
    connection.send(client::text("POST", "/login", &["Content-Type: application/json"], &body));
    connection.send(client::text("GET", "/", &["Connection: close"], b""));
    assert_eq!((connection.receive().status, connection.receive().status), (403, 403));
    assert_eq!(origin.requests().len(), 6);
}
