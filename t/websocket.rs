//! Tests for the px module: WebSockets are upgraded after the verdict, and live as long as they like.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use px_sandbox::Behaviour;
use support::decisions::{BOT, Site};
use support::{BROWSER, Connection, Nginx, SOON, client, get};

/// Key and answer of RFC 6455 § 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Heads of the handshakes that an origin has seen.
type Handshakes = Arc<Mutex<Vec<String>>>;

/// A site whose `/ws/` and `/down/ws/` lead to an origin that greets, and sends back what it is sent.
fn start() -> (Site, Handshakes) {
    let listener = support::nginx::listener();
    let addr = listener.local_addr().expect("an address");
    let handshakes = Handshakes::default();
    let seen = Arc::clone(&handshakes);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            thread::spawn(move || echo(stream, &seen));
        }
    });
    let down = support::nginx::free_addr();
    let to_origin = format!(
        "proxy_pass http://{addr}; proxy_read_timeout 60s; proxy_set_header Host $host;
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"
    );
    let site = Site::start_as(|server| {
        Nginx::builder().server(&format!(
            "{server} location /ws/ {{ {to_origin} }}
             location /down/ws/ {{ px_backend_url http://{down}; {to_origin} }}"
        ))
    });
    (site, handshakes)
}

fn echo(mut stream: TcpStream, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_err() {
            return;
        }
        head.extend_from_slice(&byte);
    }
    seen.lock().expect("not poisoned").push(String::from_utf8_lossy(&head).into_owned());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    // The first frame comes with the handshake.
    let greeting = [answer.as_bytes(), &frame(TEXT, b"hello", None)].concat();
    let _ = stream.write_all(&greeting);
    loop {
        let mut read = |len| {
            let mut bytes = vec![0; len];
            stream.read_exact(&mut bytes).ok().map(|()| bytes)
        };
        let Some((kind, payload)) = read_frame(&mut read) else { return };
        let kind = if kind == PING { PONG } else { kind };
        if stream.write_all(&frame(kind, &payload, None)).is_err() || kind == CLOSE {
            return;
        }
    }
}

/// RFC 6455 § 5.2: one whole message; a client's is masked.
fn frame(kind: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![0x80 | kind];
    match payload.len() {
        len @ 0..126 => bytes.push(masked | len as u8),
        len @ 126..0x1_0000 => {
            bytes.push(masked | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(masked | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| bytes.extend_from_slice(mask)).unwrap_or_default();
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn read_frame(read: &mut impl FnMut(usize) -> Option<Vec<u8>>) -> Option<(u8, Vec<u8>)> {
    let head = read(2)?;
    let len = match head[1] & 0x7f {
        126 => usize::from(u16::from_be_bytes(read(2)?.try_into().ok()?)),
        127 => u64::from_be_bytes(read(8)?.try_into().ok()?) as usize,
        len => usize::from(len),
    };
    let mask = if head[1] & 0x80 != 0 { read(4)? } else { vec![0; 4] };
    let payload = read(len)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((head[0] & 0x0f, payload))
}

fn handshake(path: &str, headers: &[&str]) -> Vec<u8> {
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let own = [
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Version: 13",
        &key,
    ];
    client::text("GET", path, &[&own, headers].concat(), b"")
}

/// A browser's end.
struct WebSocket(Connection);

impl WebSocket {
    fn open(site: &Site, path: &str, headers: &[&str]) -> Self {
        let mut connection = Connection::open(site.nginx.addr());
        connection.send(handshake(path, headers));
        Self::opened(connection)
    }

    fn opened(mut connection: Connection) -> Self {
        let head = connection.receive_head();
        assert_eq!(head.status, 101);
        assert_eq!(head.header("upgrade"), Some("websocket"));
        assert_eq!(head.header("sec-websocket-accept"), Some(ACCEPT));
        let mut socket = Self(connection);
        assert_eq!(socket.receive(), (TEXT, b"hello".to_vec()));
        socket
    }

    fn send(&mut self, kind: u8, payload: &[u8]) {
        self.0.send(frame(kind, payload, Some([7, 77, 177, 250])));
    }

    fn receive(&mut self) -> (u8, Vec<u8>) {
        read_frame(&mut |len| Some(self.0.receive_bytes(len))).expect("a frame")
    }

    /// Messages of every size both ways.
    fn talk(&mut self) {
        for len in [0, 5, 125, 126, 65_535, 65_536, 300_000] {
            let payload: Vec<u8> = (0..len).map(|n: u32| (n % 251) as u8).collect();
            self.send(TEXT, &payload);
            assert!(self.receive() == (TEXT, payload), "{len}");
        }
        self.send(PING, b"still there?");
        assert_eq!(self.receive(), (PONG, b"still there?".to_vec()));
    }

    fn close(mut self) {
        self.send(CLOSE, &[3, 232]);
        assert_eq!(self.receive(), (CLOSE, vec![3, 232]));
        assert!(self.0.is_closed());
    }
}

#[test]
fn an_upgrade_is_passed_on_and_frames_go_both_ways() {
    let (site, handshakes) = start();
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(30)));
    let cookie = format!("Cookie: a=1; {}", site.sandbox.mint(BROWSER).cookie());
    for (n, (path, headers, verdict, calls)) in [
        ("/ws/a?b=%20", &[cookie.as_str()][..], "verdict=pass pass=cookie ", 0),
        ("/ws/a?b=%20", &[], "verdict=pass pass=s2s ", 1),
        ("/down/ws/a?b=%20", &[], "verdict=pass pass=s2s_error ", 0),
    ]
    .into_iter()
    .enumerate()
    {
        site.sandbox.clear();
        let mut socket = WebSocket::open(&site, path, headers);
        socket.talk();
        socket.close();
        let log = site.nginx.wait_for_access_log(n + 1);
        assert_eq!(log.len(), n + 1);
        assert!(log[n].starts_with("101 GET ") && log[n].contains(verdict), "{}", log[n]);
        assert_eq!(site.sandbox.risk_calls().len(), calls, "{verdict}");
        for call in site.sandbox.risk_calls() {
            let told = call.json()["request"]["headers"].to_string();
            assert!(told.contains("\"websocket\"") && told.contains(KEY), "{told}");
        }
        let seen = handshakes.lock().expect("not poisoned")[n].clone();
        assert!(seen.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{seen}");
        for line in [&format!("Sec-WebSocket-Key: {KEY}"), "Upgrade: websocket"] {
            assert!(seen.contains(&format!("\r\n{line}\r\n")), "{seen}");
        }
    }
    site.sandbox.assert_no_complaints();
}

#[test]
fn a_blocked_upgrade_gets_the_page_and_the_connection_goes_on() {
    let (site, handshakes) = start();
    let bad = format!("Cookie: {}", site.sandbox.mint(BROWSER).score(100).cookie());
    let bot = format!("User-Agent: {BOT}");
    let mut visitor = Connection::open(site.nginx.addr());
    for headers in [&[bot.as_str()][..], &[&bad]] {
        visitor.send(handshake("/ws/", headers));
        let answer = visitor.receive();
        assert_eq!((answer.status, answer.header("upgrade")), (403, None));
        assert!(answer.text().contains("px-captcha"));
    }
    visitor.send(client::text("GET", "/", &[], b""));
    assert_eq!(visitor.receive().text(), "origin");
    assert!(handshakes.lock().expect("not poisoned").is_empty());
    let log = site.nginx.wait_for_access_log(3);
    assert_eq!(log.iter().filter(|line| line.contains("verdict=block")).count(), 2, "{log:?}");
}

/// A client that does not wait for the answer: its first frame comes while the Risk API is asked.
#[test]
fn a_frame_that_comes_before_the_verdict_is_not_lost() {
    let (site, _) = start();
    site.sandbox.behave(Behaviour::Delay(Duration::from_millis(100)));
    let early = frame(TEXT, b"early", Some([1, 2, 3, 4]));
    for in_one_segment in [true, false] {
        let asked = site.sandbox.risk_calls().len();
        let mut connection = Connection::open(site.nginx.addr());
        if in_one_segment {
            connection.send([handshake("/ws/", &[]), early.clone()].concat());
        } else {
            connection.send(handshake("/ws/", &[]));
            site.sandbox.wait_for_risk_calls(asked + 1, SOON);
            connection.send(&early);
        }
        let mut socket = WebSocket::opened(connection);
        assert_eq!(socket.receive(), (TEXT, b"early".to_vec()));
        assert_eq!(site.sandbox.risk_calls().len(), asked + 1);
        socket.talk();
        socket.close();
    }
}

/// Twenty sockets stay over a reload and while the Risk API goes away, and are closed by nobody but their ends.
#[test]
fn sockets_live_on_over_reloads_and_without_the_risk_api() {
    let (site, _) = start();
    let mut sockets: Vec<WebSocket> =
        (0..20).map(|n| WebSocket::open(&site, &format!("/ws/{n}"), &[])).collect();
    let old = site.nginx.workers();
    site.nginx.reload(|conf| conf);
    site.sandbox.behave(Behaviour::Reset);
    for socket in &mut sockets {
        socket.talk();
    }
    // The new worker decides meanwhile; the old one is still there for the sockets.
    assert_eq!(get(site.nginx.addr(), "/", &[]).status, 200);
    let workers = site.nginx.workers();
    assert!(old.iter().all(|pid| workers.contains(pid)) && workers.len() == 2, "{workers:?}");
    for socket in sockets {
        socket.close();
    }
    site.nginx.wait_for_workers_to_end(&old);
    let log = site.nginx.wait_for_access_log(21);
    assert_eq!(log.len(), 21);
    let upgraded = log.iter().filter(|line| line.starts_with("101 GET /ws/"));
    assert_eq!(upgraded.filter(|line| line.contains("verdict=pass pass=s2s ")).count(), 20);
}
