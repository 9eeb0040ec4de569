//! A client that sees every byte: no library between the tests and the wire.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use px_sandbox::AUTH_TOKEN;
use serde_json::{Value, json};

/// No test waits longer than this for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A status line, headers and a body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    }
}

/// One connection.
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    carry: Vec<u8>,
}

impl Client<TcpStream> {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the sandbox listens");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, carry: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the sandbox takes it");
        self.stream.flush().unwrap();
    }

    pub(crate) fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes);
        self.answer().expect("an answer")
    }

    /// The next answer, framed by Content-Length or chunks.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let end = loop {
            match self.carry.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.fill()?,
            }
        };
        let head = String::from_utf8(self.carry.drain(..end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.chunks()?;
        } else if status >= 200 && status != 204 && status != 304 {
            let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
            answer.body = self.take(length)?;
        }
        Ok(answer)
    }

    /// Everything until the sandbox ends the connection, and how it ended it.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, io::Result<()>) {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => {
                    return (std::mem::take(&mut self.carry), Ok(()));
                }
                Err(why) => return (std::mem::take(&mut self.carry), Err(why)),
            }
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match self.carry.windows(2).position(|pair| pair == b"\r\n") {
                    Some(end) => break end,
                    None => self.fill()?,
                }
            };
            let line: Vec<u8> = self.carry.drain(..end + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line[..end]).unwrap(), 16);
            let size = size.unwrap();
            body.extend(self.take(size)?);
            assert_eq!(self.take(2)?, b"\r\n");
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.carry.len() < count {
            self.fill()?;
        }
        Ok(self.carry.drain(..count).collect())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0u8; 4096];
        match self.stream.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.carry.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }
}

/// A POST as an enforcer sends it.
pub(crate) fn post(path: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    post_with(path, "", body)
}

/// The same with more header lines, each ended by CRLF.
pub(crate) fn post_with(path: &str, lines: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: sandbox.test\r\nContent-Type: application/json\r\n\
         Authorization: Bearer {AUTH_TOKEN}\r\n{lines}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: sandbox.test\r\n\r\n")
}

pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

pub(crate) fn fresh_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A Risk API request without a fault.
pub(crate) fn risk_body() -> Value {
    let now = now_ms();
    json!({
        "request": {
            "socket_ip": "192.0.2.1",
            "headers": [{"name": "host", "value": "shop.example.com"}],
            "url": "https://shop.example.com/",
        },
        "additional": {
            "s2s_call_reason": "no_cookie",
            "risk_start_time": now,
            "module_version": "Test Module v1",
            "risk_mode": "active_blocking",
            "request_id": fresh_uuid(),
            "cookie_origin": "cookie",
            "enforcer_start_time": now - 5,
            "http_version": "1.1",
            "http_method": "GET",
            "request_cookie_names": [],
            "is_sensitive_route": false,
        },
    })
}

/// A Risk API call without a fault.
pub(crate) fn risk_call() -> Vec<u8> {
    post("/api/v3/risk", risk_body().to_string())
}

/// An activity without a fault: a request that its cookie let pass.
pub(crate) fn activity() -> Value {
    let now = now_ms();
    json!({
        "type": "page_requested",
        "px_app_id": px_sandbox::APP_ID,
        "url": "https://shop.example.com/",
        "headers": [{"name": "host", "value": "shop.example.com"}],
        "socket_ip": "192.0.2.1",
        "timestamp": now,
        "details": {
            "module_version": "Test Module v1",
            "risk_mode": "active_blocking",
            "request_id": fresh_uuid(),
            "cookie_origin": "cookie",
            "enforcer_start_time": now - 5,
            "http_method": "GET",
            "request_cookie_names": ["_px3"],
            "is_sensitive_route": false,
            "px_cookie": r#"{"u":"","v":"","t":4000000000000,"s":0,"a":"c"}"#,
            "px_cookie_hmac": "0".repeat(64),
            "pass_reason": "cookie",
            "http_status_code": 200,
        },
    })
}
