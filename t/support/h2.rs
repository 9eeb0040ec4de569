//! An HTTP/2 client over cleartext that speaks frame by frame, for what `curl` will not do.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const PRIORITY: u8 = 2;
const CONTINUATION: u8 = 9;

/// An error code.
const CANCEL: u32 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One connection. Streams have odd numbers, in rising order.
pub struct H2 {
    socket: TcpStream,
    answers: HashMap<u32, Answer>,
    /// The server has said that it takes no further streams.
    pub is_going_away: bool,
    /// Data is acknowledged as it comes, because windows are small.
    widens: bool,
}

/// What has arrived on one stream.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// The server has said all, or has reset the stream.
    pub is_over: bool,
}

impl H2 {
    pub fn open(addr: SocketAddr) -> Self {
        Self::open_with(addr, b"", 1 << 30)
    }

    /// As [`open`](Self::open); answers may come in pieces of `window` bytes only, each of which is
    /// acknowledged.
    pub fn open_narrow(addr: SocketAddr, window: u32) -> Self {
        const INITIAL_WINDOW_SIZE: u16 = 4;
        let setting = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
        Self { widens: true, ..Self::open_with(addr, &setting, 1) }
    }

    fn open_with(addr: SocketAddr, settings: &[u8], more_window: u32) -> Self {
        let socket = TcpStream::connect(addr).expect("nginx accepts connections");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
        socket.set_nodelay(true).expect("a socket option can be set");
        let mut h2 = Self { socket, answers: HashMap::new(), is_going_away: false, widens: false };
        h2.socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("nginx reads");
        h2.frame(SETTINGS, 0, 0, settings);
        h2.frame(WINDOW_UPDATE, 0, 0, &more_window.to_be_bytes());
        h2
    }

    /// A request; with `end`, a whole one. Header names are in lower case.
    pub fn request(
        &mut self,
        stream: u32,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        end: bool,
    ) {
        let pseudo = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "site.test"),
            (":path", path),
        ];
        let block = block(pseudo.iter().chain(headers));
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &block);
    }

    /// A whole request with these fields alone, its head in pieces of `piece` bytes.
    pub fn request_in_pieces(&mut self, stream: u32, fields: &[(&str, &str)], piece: usize) {
        let block = block(fields.iter());
        let mut pieces = block.chunks(piece).peekable();
        let (mut kind, mut flags) = (HEADERS, END_STREAM);
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                flags |= END_HEADERS;
            }
            self.frame(kind, flags, stream, piece);
            (kind, flags) = (CONTINUATION, 0);
        }
    }

    /// Makes a stream depend on another.
    pub fn prioritize(&mut self, stream: u32, on: u32, weight: u8) {
        self.frame(PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[weight]].concat());
    }

    /// Says that this side takes no further streams, of which there are none anyway.
    pub fn go_away(&mut self) {
        self.frame(GOAWAY, 0, 0, &[0; 8]);
    }

    /// Everything that was asked before has been read and begun by the server.
    pub fn ping(&mut self) {
        self.frame(PING, 0, 0, b"are you?");
        while self.read_frame() != (PING, ACK) {}
    }

    pub fn data(&mut self, stream: u32, body: &[u8], end: bool) {
        self.frame(DATA, if end { END_STREAM } else { 0 }, stream, body);
    }

    /// Gives a stream up.
    pub fn reset(&mut self, stream: u32) {
        self.frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }

    /// The answer on a stream, complete.
    pub fn receive(&mut self, stream: u32) -> Answer {
        while !self.answers.get(&stream).is_some_and(|answer| answer.is_over) {
            self.read_frame();
        }
        self.answers.remove(&stream).expect("it has arrived")
    }

    /// True once the server has closed the connection; what comes before is read.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = [0; 4096];
        loop {
            match super::client::read(&mut self.socket, &mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(err) => return err.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Closes this side, and waits until the server has ended all streams and closed its own.
    pub fn hang_up(&mut self) {
        // The server may have closed it already.
        let _ = self.socket.shutdown(Shutdown::Write);
        assert!(self.is_closed(), "the server keeps the connection");
    }

    /// Sends bytes where the server may have closed the connection already.
    fn try_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let bytes = frame(kind, flags, stream, payload);
        self.socket.write_all(&bytes).is_ok()
    }

    /// Begins a stream and gives it up at once; false where the server has closed the connection.
    pub fn begin_and_reset(&mut self, stream: u32, path: &str) -> bool {
        let fields =
            [(":method", "GET"), (":scheme", "http"), (":authority", "site.test"), (":path", path)];
        let head = block(fields.iter());
        self.try_frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)
            && self.try_frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let bytes = frame(kind, flags, stream, payload);
        self.socket.write_all(&bytes).expect("nginx reads what is sent");
    }

    /// Reads a frame; its kind and flags.
    fn read_frame(&mut self) -> (u8, u8) {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).expect("a frame in time");
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.socket.read_exact(&mut payload).expect("a frame in time");
        let stream = u32::from_be_bytes(stream);
        let answer = self.answers.entry(stream).or_default();
        match kind {
            HEADERS => {
                answer.status = status(&payload);
                answer.is_over |= flags & END_STREAM != 0;
            }
            DATA => {
                answer.body.extend_from_slice(&payload);
                answer.is_over |= flags & END_STREAM != 0;
                if self.widens && !payload.is_empty() {
                    let len = (payload.len() as u32).to_be_bytes();
                    self.frame(WINDOW_UPDATE, 0, stream, &len);
                    self.frame(WINDOW_UPDATE, 0, 0, &len);
                }
            }
            RST_STREAM => answer.is_over = true,
            SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, b""),
            PING if flags & ACK == 0 => self.frame(PING, ACK, 0, &payload),
            // Error codes other than zero are complaints.
            GOAWAY if payload[4..8] == [0; 4] => self.is_going_away = true,
            GOAWAY => panic!("the server goes away: {payload:?}"),
            _ => {}
        }
        (kind, flags)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a frame's length").to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Fields as literals that are not indexed, without Huffman coding (RFC 7541 § 6.2.2).
fn block<'f>(fields: impl Iterator<Item = &'f (&'f str, &'f str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // § 5.1, with a prefix of seven bits.
            let mut len = text.len();
            if len < 127 {
                block.push(len as u8);
            } else {
                block.push(127);
                len -= 127;
                while len >= 128 {
                    block.push((len % 128) as u8 | 128);
                    len /= 128;
                }
                block.push(len as u8);
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The status, which comes first in a header block (RFC 7541 appendix A, entries 8 to 14).
fn status(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [index @ 0x88..=0x8e, ..] => INDEXED[usize::from(index - 0x88)],
        [0x48 | 0x18 | 0x08, 3, digits @ ..] => {
            let digits = std::str::from_utf8(&digits[..3]).expect("digits");
            digits.parse().expect("a number")
        }
        other => panic!("no status in {other:?}"),
    }
}
