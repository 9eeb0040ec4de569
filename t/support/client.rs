//! An HTTP/1.1 client that sends exactly the bytes it is given.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer as received.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    /// In order, names as sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// First value of the header `name`, any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        let same = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, v)| v.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|err| panic!("{err} in {:?}", self.text()))
    }
}

/// One connection, for keepalive, pipelining and half-sent requests.
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// Reads once. Where there is a time limit the kernel gives up when the machine was suspended meanwhile,
/// instead of reading on.
pub fn read(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Connection {
    pub fn open(addr: SocketAddr) -> Self {
        Self::try_open(addr).expect("nginx accepts connections")
    }

    /// As [`open`](Self::open) where the server may not be there.
    pub fn try_open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new() })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("nginx reads what is sent");
    }

    /// Like [`send`](Self::send) where the server may have closed the connection already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let n = read(&mut self.stream, &mut buffer)?;
        self.unread.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    /// As [`fill`](Self::fill) where more must come.
    fn more(&mut self) -> io::Result<()> {
        if self.fill()? == 0 {
            let text = String::from_utf8_lossy(&self.unread);
            let what = format!("the connection was closed within {text:?}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&self.unread[..end]).into_owned();
                self.unread.drain(..end + 2);
                return Ok(line);
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < len {
            self.more()?;
        }
        Ok(self.unread.drain(..len).collect())
    }

    /// The next answer without its body, whatever its status.
    pub fn receive_head(&mut self) -> Response {
        self.try_receive_head().expect("an answer in time")
    }

    fn try_receive_head(&mut self) -> io::Result<Response> {
        let status_line = self.line()?;
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("no status in {status_line:?}"));
        let mut response = Response { status, ..Response::default() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(response);
            }
            let (name, value) = line.split_once(':').expect("a header line has a colon");
            response.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The next final answer; interim ones are skipped. `head` if the request was HEAD.
    pub fn receive_to(&mut self, head: bool) -> Response {
        self.try_receive_to(head).expect("an answer in time")
    }

    /// As [`receive_to`](Self::receive_to) where the connection may end before.
    pub fn try_receive_to(&mut self, head: bool) -> io::Result<Response> {
        loop {
            let mut response = self.try_receive_head()?;
            let status = response.status;
            if status < 200 {
                continue;
            }
            if head || status == 204 || status == 304 {
                return Ok(response);
            }
            if response.header("transfer-encoding") == Some("chunked") {
                loop {
                    let len = usize::from_str_radix(self.line()?.trim(), 16).expect("a chunk size");
                    let chunk = self.exactly(len)?;
                    response.body.extend_from_slice(&chunk);
                    self.line()?;
                    if len == 0 {
                        break;
                    }
                }
            } else if let Some(len) = response.header("content-length") {
                let len = len.parse().expect("a content length");
                response.body = self.exactly(len)?;
            } else {
                while self.fill()? != 0 {}
                response.body = std::mem::take(&mut self.unread);
            }
            return Ok(response);
        }
    }

    pub fn receive(&mut self) -> Response {
        self.receive_to(false)
    }

    /// So many bytes of whatever comes.
    pub fn receive_bytes(&mut self, len: usize) -> Vec<u8> {
        self.exactly(len).expect("so many bytes in time")
    }

    /// Says that nothing more will be sent, and listens on.
    pub fn end_sending(&self) {
        self.stream.shutdown(std::net::Shutdown::Write).expect("the connection is open");
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill().expect("the end in time") != 0 {}
        std::mem::take(&mut self.unread)
    }

    /// Nothing of an answer has arrived.
    pub fn is_silent(&self) -> bool {
        self.unread.is_empty()
    }

    /// True once the server has closed the connection without a further byte.
    pub fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && matches!(self.fill(), Ok(0))
    }
}

/// One GET on a connection of its own, with the host and user agent of an ordinary browser unless
/// `headers` (lines without line ends) say otherwise.
pub fn get(addr: SocketAddr, path: &str, headers: &[&str]) -> Response {
    request(addr, "GET", path, headers, b"")
}

pub fn request(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> Response {
    let mut connection = Connection::open(addr);
    connection.send(text(method, path, headers, body));
    connection.receive_to(method == "HEAD")
}

/// The bytes of a request.
pub fn text(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let named = |name: &str| {
        headers.iter().any(|h| h.split_once(':').is_some_and(|(n, _)| n.eq_ignore_ascii_case(name)))
    };
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !named("host") {
        text.push_str("Host: site.test\r\n");
    }
    if !named("user-agent") {
        text.push_str(&format!("User-Agent: {}\r\n", super::BROWSER));
    }
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() && !named("transfer-encoding") && !named("content-length") {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// `curl`, for HTTP/2: standard output and exit code. Bounded in time.
pub fn curl(args: &[&str]) -> (String, i32) {
    let output = Command::new("curl")
        .args(["-sS", "-m", "60"])
        .args(args)
        .output()
        .expect("curl is installed");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (text, output.status.code().unwrap_or(-1))
}
