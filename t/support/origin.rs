//! The protected site: keeps every request byte for byte and answers as told.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// How to proxy so that the origin receives the same bytes from every version of nginx: 1.29.7 changed
/// the default to HTTP/1.1 with kept connections.
pub const SAME_EVERYWHERE: &str = "proxy_http_version 1.1; proxy_set_header Connection \"\";";

/// A running origin; ended when dropped.
pub struct Origin {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    requests: Mutex<Vec<Vec<u8>>>,
    arrived: Condvar,
    answer: Mutex<Vec<u8>>,
    /// Every request is its own answer instead.
    echoes: bool,
    stopped: AtomicBool,
}

impl Origin {
    /// Answers 200 with the text `origin` until told otherwise.
    pub fn start() -> Self {
        Self::start_as(false)
    }

    /// Answers each request with its own bytes, keeps connections, and keeps no requests: for any number
    /// of them.
    pub fn echo() -> Self {
        Self::start_as(true)
    }

    fn start_as(echoes: bool) -> Self {
        let listener = super::nginx::listener();
        let addr = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            arrived: Condvar::new(),
            answer: Mutex::default(),
            echoes,
            stopped: AtomicBool::new(false),
        });
        let origin = Self { addr, shared: Arc::clone(&shared) };
        origin.answer(200, &[], b"origin");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        origin
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The `proxy_pass` that leads here.
    pub fn proxy_pass(&self) -> String {
        format!("proxy_pass http://{};", self.addr)
    }

    /// What every further request is answered with; header lines without line ends.
    pub fn answer(&self, status: u16, headers: &[&str], body: &[u8]) {
        let mut text = format!("HTTP/1.1 {status} Told\r\nContent-Length: {}\r\n", body.len());
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        text.push_str("Connection: close\r\n\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        *self.shared.answer.lock().expect("not poisoned") = bytes;
    }

    /// Every request so far: its head and body, byte for byte.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        self.shared.requests.lock().expect("not poisoned").clone()
    }

    /// As [`requests`](Self::requests), as text.
    pub fn texts(&self) -> Vec<String> {
        self.requests().iter().map(|r| String::from_utf8_lossy(r).into_owned()).collect()
    }

    /// The requests once there are `count`.
    pub fn wait_for(&self, count: usize) -> Vec<Vec<u8>> {
        let requests = self.shared.requests.lock().expect("not poisoned");
        let enough = |requests: &mut Vec<Vec<u8>>| requests.len() < count;
        let (requests, waited) = self
            .shared
            .arrived
            .wait_timeout_while(requests, Duration::from_secs(15), enough)
            .expect("not poisoned");
        assert!(!waited.timed_out(), "the origin received {} requests only", requests.len());
        requests.clone()
    }

    pub fn clear(&self) {
        self.shared.requests.lock().expect("not poisoned").clear();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.addr);
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(15)));
    if shared.echoes {
        return echo(stream);
    }
    let Some(request) = read_request(&mut stream) else { return };
    shared.requests.lock().expect("not poisoned").push(request);
    shared.arrived.notify_all();
    let answer = shared.answer.lock().expect("not poisoned").clone();
    let _ = stream.write_all(&answer);
}

fn echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    while let Some(request) = read_request(&mut stream) {
        let head = format!("HTTP/1.1 200 Told\r\nContent-Length: {}\r\n\r\n", request.len());
        let mut answer = head.into_bytes();
        answer.extend_from_slice(&request);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// One request with its body; `None` if the connection brings none.
fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, &mut bytes)?;
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let value = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    if let Some(len) = value("content-length:") {
        let len: usize = len.parse().ok()?;
        while bytes.len() < head_end + len {
            more(stream, &mut bytes)?;
        }
    } else if value("transfer-encoding:").as_deref() == Some("chunked") {
        while !bytes[head_end..].ends_with(b"0\r\n\r\n") {
            more(stream, &mut bytes)?;
        }
    }
    Some(bytes)
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 64 * 1024];
    let n = super::client::read(stream, &mut buffer).ok().filter(|n| *n != 0)?;
    bytes.extend_from_slice(&buffer[..n]);
    Some(())
}
