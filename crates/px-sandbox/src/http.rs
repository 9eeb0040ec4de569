//! Reads HTTP/1.1 requests off a connection: RFC 9112, as much of it as an honest client needs and
//! strict where a dishonest one would profit.

use std::io::{ErrorKind, Read, Write};

const HEAD_MAX: usize = 1 << 20;
const FIELDS_MAX: usize = 512;

/// Request line, header fields and body, with nothing changed.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) minor_version: u8,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Why there is no request.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Unreadable {
    /// The peer left, or was silent too long, between two requests.
    Gone,
    /// The peer left, or was silent too long, within a request.
    Broken(String),
    /// The request deserves this status, and the connection an end.
    Refused(u16, String),
}

/// Reads the next request. `carry` holds what was read beyond the last one: pipelined requests
/// wait there.
pub(crate) fn read_request(
    wire: &mut (impl Read + Write),
    carry: &mut Vec<u8>,
    body_max: usize,
) -> Result<Request, Unreadable> {
    let mut request = loop {
        if let Some(request) = parse_head(carry)? {
            break request;
        }
        if carry.len() > HEAD_MAX {
            return Err(Unreadable::Refused(431, "the head is larger than 1 MiB".into()));
        }
        if !fill(wire, carry) {
            return Err(match carry.is_empty() {
                true => Unreadable::Gone,
                false => Unreadable::Broken("the connection ended within a request head".into()),
            });
        }
    };
    carry.drain(..request.head.len());
    let body = framing(&request)?;
    let is_waiting = request
        .headers
        .iter()
        .any(|(name, value)| name.eq_ignore_ascii_case("expect") && value == "100-continue");
    if is_waiting && carry.is_empty() {
        wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .map_err(|_| broken("the connection ended before 100 Continue", &request))?;
    }
    let body = match body {
        Framing::Length(length) if length > body_max => return Err(too_large(body_max)),
        Framing::Length(length) => take(wire, carry, length),
        Framing::Chunked => read_chunks(wire, carry, body_max),
    };
    request.body = body.map_err(|why| match why {
        Unreadable::Broken(why) => broken(&why, &request),
        other => other,
    })?;
    Ok(request)
}

fn broken(what: &str, request: &Request) -> Unreadable {
    Unreadable::Broken(format!("{what}: {} {}", request.method, request.target))
}

enum Framing {
    Length(usize),
    Chunked,
}

fn parse_head(bytes: &[u8]) -> Result<Option<Request>, Unreadable> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(why) => return Err(Unreadable::Refused(400, format!("not HTTP: {why}"))),
    };
    let headers = parsed
        .headers
        .iter()
        .map(|field| (field.name.to_owned(), String::from_utf8_lossy(field.value).into_owned()))
        .collect();
    Ok(Some(Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        minor_version: parsed.version.unwrap_or_default(),
        headers,
        head: bytes[..length].to_vec(),
        body: Vec::new(),
    }))
}

/// RFC 9112 § 6.3, without its tolerance: two lengths that disagree, or a length beside chunks,
/// are how requests are smuggled.
fn framing(request: &Request) -> Result<Framing, Unreadable> {
    let values = |wanted: &'static str| {
        request
            .headers
            .iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.as_str())
    };
    let refused = |why: &str| Err(Unreadable::Refused(400, why.to_owned()));
    let mut lengths = values("content-length");
    let mut codings = values("transfer-encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Framing::Length(0)),
        (Some(_), Some(_)) => refused("both Content-Length and Transfer-Encoding"),
        (None, Some(coding)) => {
            if coding.eq_ignore_ascii_case("chunked") && codings.next().is_none() {
                Ok(Framing::Chunked)
            } else {
                Err(Unreadable::Refused(501, format!("Transfer-Encoding {coding:?}")))
            }
        }
        (Some(length), None) => {
            if lengths.any(|other| other != length) {
                return refused("two Content-Length headers that disagree");
            }
            match length.parse() {
                Ok(count) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                    Ok(Framing::Length(count))
                }
                _ => refused("Content-Length is no number"),
            }
        }
    }
}

fn read_chunks(
    wire: &mut (impl Read + Write),
    carry: &mut Vec<u8>,
    body_max: usize,
) -> Result<Vec<u8>, Unreadable> {
    let bad = || Unreadable::Refused(400, "bad chunk".into());
    let mut body = Vec::new();
    loop {
        let size = loop {
            match httparse::parse_chunk_size(carry) {
                Ok(httparse::Status::Complete((length, size))) => {
                    carry.drain(..length);
                    break usize::try_from(size).map_err(|_| bad())?;
                }
                Ok(httparse::Status::Partial) if carry.len() < HEAD_MAX => refill(wire, carry)?,
                _ => return Err(bad()),
            }
        };
        if size == 0 {
            return skip_trailers(wire, carry).map(|()| body);
        }
        if size > body_max - body.len() {
            return Err(too_large(body_max));
        }
        body.extend_from_slice(&take(wire, carry, size)?);
        if take(wire, carry, 2)? != b"\r\n" {
            return Err(bad());
        }
    }
}

fn skip_trailers(wire: &mut (impl Read + Write), carry: &mut Vec<u8>) -> Result<(), Unreadable> {
    loop {
        match carry.windows(2).position(|pair| pair == b"\r\n") {
            Some(0) => {
                carry.drain(..2);
                return Ok(());
            }
            Some(end) => {
                carry.drain(..end + 2);
            }
            None if carry.len() > HEAD_MAX => {
                return Err(Unreadable::Refused(400, "trailers larger than 1 MiB".into()));
            }
            None => refill(wire, carry)?,
        }
    }
}

fn too_large(body_max: usize) -> Unreadable {
    Unreadable::Refused(413, format!("the body is larger than {body_max} bytes"))
}

/// Exactly so many bytes, from `carry` first.
fn take(wire: &mut impl Read, carry: &mut Vec<u8>, count: usize) -> Result<Vec<u8>, Unreadable> {
    while carry.len() < count {
        refill(wire, carry)?;
    }
    let rest = carry.split_off(count);
    Ok(std::mem::replace(carry, rest))
}

fn refill(wire: &mut impl Read, carry: &mut Vec<u8>) -> Result<(), Unreadable> {
    match fill(wire, carry) {
        true => Ok(()),
        false => Err(Unreadable::Broken("the connection ended within a request body".into())),
    }
}

/// Appends what the peer sent; false where it left, failed or was silent too long.
fn fill(wire: &mut impl Read, carry: &mut Vec<u8>) -> bool {
    let mut bytes = [0u8; 16 << 10];
    loop {
        match wire.read(&mut bytes) {
            Ok(0) => return false,
            Ok(count) => {
                carry.extend_from_slice(&bytes[..count]);
                return true;
            }
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that has sent these pieces and waits for nothing.
    struct Peer {
        pieces: Vec<&'static [u8]>,
        sent_to_it: Vec<u8>,
    }

    impl Read for Peer {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.pieces.is_empty() {
                return Ok(0);
            }
            let piece = self.pieces.remove(0);
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    impl Write for Peer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.sent_to_it.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn peer(pieces: &[&'static [u8]]) -> Peer {
        Peer { pieces: pieces.to_vec(), sent_to_it: Vec::new() }
    }

    #[test]
    fn reads_pipelined_requests_with_every_framing() {
        let mut peer = peer(&[
            b"POST /a?b HTTP/1.1\r\nHOST: x\r\nX-Y:  z \r\nContent-Length: 3\r\n\r\nab",
            b"cPOST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1",
            b"\r\nf\r\n0\r\nTrailer: t\r\n\r\nGET /g HTTP/1.0\r\n\r\n",
        ]);
        let mut carry = Vec::new();
        let first = read_request(&mut peer, &mut carry, 100).unwrap();
        assert_eq!((first.method.as_str(), first.target.as_str()), ("POST", "/a?b"));
        assert_eq!(first.headers[0], ("HOST".to_owned(), "x".to_owned()));
        assert_eq!(first.headers[1].1, "z");
        assert_eq!(first.body, b"abc");
        let second = read_request(&mut peer, &mut carry, 100).unwrap();
        assert_eq!(second.body, b"def");
        let third = read_request(&mut peer, &mut carry, 100).unwrap();
        assert_eq!((third.minor_version, third.body.len()), (0, 0));
        assert_eq!(read_request(&mut peer, &mut carry, 100).unwrap_err(), Unreadable::Gone);
    }

    #[test]
    fn answers_an_expectation_before_the_body_only() {
        let mut waiting =
            peer(&[b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", b"x"]);
        read_request(&mut waiting, &mut Vec::new(), 9).unwrap();
        assert!(waiting.sent_to_it.starts_with(b"HTTP/1.1 100"));
        let mut impatient =
            peer(&[b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"]);
        read_request(&mut impatient, &mut Vec::new(), 9).unwrap();
        assert!(impatient.sent_to_it.is_empty());
    }

    #[test]
    fn refuses_what_is_broken_ambiguous_or_too_large() {
        let cases: [(&[u8], u16); 9] = [
            (b"\x16\x03\x01", 400),
            (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nContent-Length: 11\r\n\r\n", 413),
            (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
            (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", 400),
            (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n", 413),
        ];
        for (bytes, status) in cases {
            let mut peer = peer(&[bytes]);
            match read_request(&mut peer, &mut Vec::new(), 10) {
                Err(Unreadable::Refused(refused, _)) => assert_eq!(refused, status),
                other => panic!("{other:?} for {:?}", String::from_utf8_lossy(bytes)),
            }
        }
        let cases: [(&[u8], &str); 2] = [
            (b"GET / HT", "within a request head"),
            (b"PUT /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc", "within a request body: PUT /a"),
        ];
        for (bytes, told) in cases {
            match read_request(&mut peer(&[bytes]), &mut Vec::new(), 10) {
                Err(Unreadable::Broken(why)) => {
                    assert_eq!(why, format!("the connection ended {told}"))
                }
                other => panic!("{other:?} for {:?}", String::from_utf8_lossy(bytes)),
            }
        }
    }
}
