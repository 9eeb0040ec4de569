//! An HTTP/2 client over cleartext that speaks frame by frame, for what `curl` will not do.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One connection. Streams have odd numbers, in rising order.
pub struct H2 {
    socket: TcpStream,
    answers: HashMap<u32, Answer>,
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
        let socket = TcpStream::connect(addr).expect("nginx accepts connections");
        socket.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout can be set");
        socket.set_nodelay(true).expect("a socket option can be set");
        let mut h2 = Self { socket, answers: HashMap::new() };
        h2.socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("nginx reads");
        h2.frame(SETTINGS, 0, 0, b"");
        h2.frame(WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes());
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
        let mut block = Vec::new();
        for (name, value) in pseudo.iter().chain(headers) {
            // RFC 7541 § 6.2.2: a literal that is not indexed, without Huffman coding.
            block.push(0);
            for text in [name, value] {
                push_length(&mut block, text.len());
                block.extend_from_slice(text.as_bytes());
            }
        }
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &block);
    }

    pub fn data(&mut self, stream: u32, body: &[u8], end: bool) {
        self.frame(DATA, if end { END_STREAM } else { 0 }, stream, body);
    }

    /// Gives a stream up.
    pub fn reset(&mut self, stream: u32) {
        const CANCEL: u32 = 8;
        self.frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }

    /// The answer on a stream, complete.
    pub fn receive(&mut self, stream: u32) -> Answer {
        while !self.answers.get(&stream).is_some_and(|answer| answer.is_over) {
            self.read_frame();
        }
        self.answers.remove(&stream).expect("it has arrived")
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let len = u32::try_from(payload.len()).expect("a frame's length").to_be_bytes();
        let mut bytes = vec![len[1], len[2], len[3], kind, flags];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.socket.write_all(&bytes).expect("nginx reads what is sent");
    }

    fn read_frame(&mut self) {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).expect("a frame in time");
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.socket.read_exact(&mut payload).expect("a frame in time");
        let answer = self.answers.entry(u32::from_be_bytes(stream)).or_default();
        match kind {
            HEADERS => {
                answer.status = status(&payload);
                answer.is_over |= flags & END_STREAM != 0;
            }
            DATA => {
                answer.body.extend_from_slice(&payload);
                answer.is_over |= flags & END_STREAM != 0;
            }
            RST_STREAM => answer.is_over = true,
            SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, b""),
            PING if flags & ACK == 0 => self.frame(PING, ACK, 0, &payload),
            GOAWAY => panic!("the server goes away: {payload:?}"),
            _ => {}
        }
    }
}

/// RFC 7541 § 5.1: a number with a prefix of seven bits.
fn push_length(block: &mut Vec<u8>, len: usize) {
    let Some(mut rest) = len.checked_sub(127) else {
        return block.push(u8::try_from(len).expect("below 127"));
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128 + 128).expect("a byte"));
        rest /= 128;
    }
    block.push(u8::try_from(rest).expect("below 128"));
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
