//! What the node is sent of a request.

use std::borrow::Cow;

use crate::request::{Request, is_same_to_cgi};

/// Longest request head a node is sent.
const HEAD_LIMIT: usize = 64 * 1024;
/// Names that begin so are the connector's alone.
const OWN_PREFIX: &[u8] = b"x-px-node-";

/// Headers that are about the client's connection, and those that the connector writes itself. In lower
/// case. What `Connection` names besides is sent: nginx passes it to the origin as well, and a client
/// must not be able to hide a header from the node by naming it.
const NOT_COPIED: [&[u8]; 16] = [
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"host",
    b"content-length",
    b"expect",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-forwarded-port",
    b"x-forwarded-for",
    b"x-real-ip",
    b"x-request-id",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The request waits for the verdict.
    Sync,
    /// The node gets a copy.
    Async,
}

impl Mode {
    pub const ALL: &'static [Self] = &[Self::Sync, Self::Async];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
        }
    }
}

/// What is said of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyNote {
    /// There is none, or it is none of the node's business.
    None,
    /// Bytes that are sent, and bytes that there are.
    Sent { sent: u64, total: u64 },
    /// There is one, and it is not sent; its length, if that is known.
    Withheld { total: Option<u64> },
}

impl BodyNote {
    fn text(self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Sent { sent, total } if sent == total => {
                format!("full; sent={sent}; total={total}")
            }
            Self::Sent { sent, total } => format!("truncated; sent={sent}; total={total}"),
            Self::Withheld { total: Some(total) } => format!("truncated; sent=0; total={total}"),
            Self::Withheld { total: None } => "truncated; sent=0; total=unknown".to_owned(),
        }
    }
}

/// What the headers are made of, beside the request itself.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'f> {
    /// The port the client connected to.
    pub port: &'f [u8],
    pub client_ip: &'f str,
    /// 32 hexadecimal digits.
    pub id: &'f str,
    pub version: &'f str,
    pub mode: Mode,
    pub body: BodyNote,
    /// Headers that the operator calls sensitive, in lower case: not sent.
    pub withheld: &'f [String],
}

/// The head is longer than what a node is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadTooLong;

/// Name and value of a header line.
type Line<'r> = (Cow<'r, [u8]>, Cow<'r, [u8]>);

/// Whether a request is sent without its body, whatever it is: what follows the head of these is no
/// document, and need not end. Not so an upgrade: what follows its head is no body, and a body that it
/// declares is one like any other.
pub fn is_without_body(request: &Request<'_>) -> bool {
    request.method == b"CONNECT" || is_grpc(request)
}

fn is_grpc(request: &Request<'_>) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let is_grpc = |value: &[u8]| {
        value.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
    };
    request.header("content-type").is_some_and(is_grpc)
}

/// The method the node is asked with, and the client's where that is another.
pub fn method<'r>(request: &Request<'r>) -> (&'r [u8], Option<&'r [u8]>) {
    match request.method {
        method @ (b"TRACE" | b"CONNECT") => (b"GET", Some(method)),
        method => (method, None),
    }
}

/// The client's target behind the prefix of the node's URL, byte for byte.
pub fn target(prefix: &str, received: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if received.starts_with(b"/") { b"" } else { b"/" };
    [prefix.as_bytes(), slash, received].concat()
}

/// The header lines: the connector's own, then the client's in their order.
pub fn headers<'r>(
    request: &Request<'r>,
    facts: &Facts<'r>,
) -> std::result::Result<Vec<Line<'r>>, HeadTooLong> {
    let mut lines: Vec<Line<'r>> = Vec::with_capacity(request.headers.len() + 14);
    let mut own = |name: &'static str, value: Cow<'r, [u8]>| {
        lines.push((Cow::Borrowed(name.as_bytes()), value));
    };
    own("X-Forwarded-Host", request.host.into());
    own("X-Forwarded-Proto", request.scheme.as_bytes().into());
    own("X-Forwarded-Port", facts.port.into());
    own("X-Forwarded-For", forwarded_for(request).into());
    own("X-Real-IP", facts.client_ip.as_bytes().into());
    own("X-Request-ID", facts.id.as_bytes().into());
    own("X-PX-Node-Protocol", b"mirror/1".into());
    own("X-PX-Node-Connector", format!("nginx/{}", facts.version).into_bytes().into());
    own("X-PX-Node-Mode", facts.mode.as_str().as_bytes().into());
    own("X-PX-Node-Leg", b"request".into());
    own("X-PX-Node-Original", original_version(request).as_bytes().into());
    own("X-PX-Node-Body", facts.body.text().into_bytes().into());
    if let (_, Some(method)) = method(request) {
        own("X-PX-Node-Method", method.into());
    }
    if let Some(upgrade) = request.header("upgrade") {
        own("X-PX-Node-Upgrade", upgrade.into());
    }
    let copied = request.headers.iter().filter(|header| is_copied(facts, header.name));
    lines.extend(copied.map(|header| (Cow::Borrowed(header.name), Cow::Borrowed(header.value))));
    // Each line has a colon, a blank and its end.
    let length: usize = lines.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    if length > HEAD_LIMIT { Err(HeadTooLong) } else { Ok(lines) }
}

fn is_copied(facts: &Facts<'_>, name: &[u8]) -> bool {
    let begins_as_ours =
        name.get(..OWN_PREFIX.len()).is_some_and(|start| is_same_to_cgi(start, OWN_PREFIX));
    !begins_as_ours
        && !NOT_COPIED.iter().any(|known| is_same_to_cgi(name, known))
        && !facts.withheld.iter().any(|withheld| name.eq_ignore_ascii_case(withheld.as_bytes()))
}

/// What the client sent, as one list, and where it came from.
fn forwarded_for(request: &Request<'_>) -> Vec<u8> {
    let mut list = Vec::new();
    let received = request.header_values("x-forwarded-for");
    for value in received.filter(|value| !value.is_empty()).chain([request.peer_ip.as_bytes()]) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(value);
    }
    list
}

fn original_version<'r>(request: &Request<'r>) -> &'r str {
    match request.http_version {
        "2" => "2.0",
        "3" => "3.0",
        "" => "unknown",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Header;
    use crate::sample;

    fn request<'r>(headers: &'r [Header<'r>]) -> Request<'r> {
        Request {
            method: b"POST",
            scheme: "https",
            host: b"site.test:8443",
            http_version: "2",
            headers,
            peer_ip: "192.0.2.9",
            ..sample::request(&[])
        }
    }

    fn facts<'f>() -> Facts<'f> {
        Facts {
            port: b"8443",
            client_ip: "203.0.113.7",
            id: "0123456789abcdef0123456789abcdef",
            version: "1.2.3",
            mode: Mode::Sync,
            body: BodyNote::None,
            withheld: &[],
        }
    }

    fn text(request: &Request<'_>, facts: &Facts<'_>) -> Vec<String> {
        let lines = headers(request, facts).expect("short");
        let text = |(name, value): &Line<'_>| {
            format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        };
        lines.iter().map(text).collect()
    }

    #[test]
    fn the_connectors_lines_come_first_and_the_clients_follow_in_order() {
        let received = sample::headers(&[
            ("host", "site.test:8443"),
            ("X-B", "2"),
            ("Cookie", "a=b"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("x-b", "1"),
            ("X-Forwarded-For", "10.0.0.2"),
            ("Authorization", "Basic eA=="),
            ("X-B", ""),
        ]);
        let body = BodyNote::Sent { sent: 5, total: 9 };
        assert_eq!(
            text(&request(&received), &Facts { body, mode: Mode::Async, ..facts() }),
            [
                "X-Forwarded-Host: site.test:8443",
                "X-Forwarded-Proto: https",
                "X-Forwarded-Port: 8443",
                "X-Forwarded-For: 10.0.0.1, 10.0.0.2, 192.0.2.9",
                "X-Real-IP: 203.0.113.7",
                "X-Request-ID: 0123456789abcdef0123456789abcdef",
                "X-PX-Node-Protocol: mirror/1",
                "X-PX-Node-Connector: nginx/1.2.3",
                "X-PX-Node-Mode: async",
                "X-PX-Node-Leg: request",
                "X-PX-Node-Original: 2.0",
                "X-PX-Node-Body: truncated; sent=5; total=9",
                "X-B: 2",
                "Cookie: a=b",
                "x-b: 1",
                "Authorization: Basic eA==",
                "X-B: ",
            ]
        );
    }

    #[test]
    fn a_client_cannot_speak_for_the_connector() {
        let received = sample::headers(&[
            ("X-PX-Node-Leg", "response"),
            ("x-px-node-anything", "1"),
            ("x-real-ip", "1.1.1.1"),
            ("X_Real_IP", "1.1.1.1"),
            ("x_px-node_leg", "response"),
            ("X-Forwarded-Host", "other"),
            ("X-Forwarded-Proto", "gopher"),
            ("X-Forwarded-Port", "1"),
            ("X-REQUEST-ID", "mine"),
            ("Content-Length", "7"),
            ("Expect", "100-continue"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close, te"),
            ("Keep-Alive", "1"),
            ("Proxy-Connection", "1"),
            ("TE", "trailers"),
            ("Trailer", "x"),
            ("X-PX-Nodes", "kept"),
        ]);
        let lines = text(&request(&received), &facts());
        assert_eq!(lines.get(12..), Some(&["X-PX-Nodes: kept".to_owned()][..]), "{lines:?}");
    }

    #[test]
    fn what_the_operator_calls_sensitive_is_withheld() {
        let received = sample::headers(&[("Cookie", "a"), ("Authorization", "b"), ("X", "c")]);
        let withheld = ["cookie".to_owned(), "authorization".to_owned()];
        let lines = text(&request(&received), &Facts { withheld: &withheld, ..facts() });
        assert_eq!(lines.get(12..), Some(&["X: c".to_owned()][..]));
    }

    /// nginx does not do what `Connection` says: the origin receives these.
    #[test]
    fn nothing_is_hidden_by_naming_it_in_connection() {
        let received =
            sample::headers(&[("Connection", "X-Hop, cookie"), ("X-Hop", "1"), ("Cookie", "a=b")]);
        let lines = text(&request(&received), &facts());
        assert_eq!(lines.get(12..), Some(&["X-Hop: 1".to_owned(), "Cookie: a=b".to_owned()][..]));
    }

    #[test]
    fn calls_have_no_body_and_upgrades_are_told() {
        for (headers, expected) in [
            (&[("Upgrade", "websocket"), ("Connection", "keep-alive, Upgrade")][..], false),
            (&[("Content-Type", "application/grpc+proto")], true),
            (&[("Content-Type", "Application/gRPC")], true),
            (&[("Content-Type", "application/json")], false),
            (&[], false),
        ] {
            let received = sample::headers(headers);
            assert_eq!(is_without_body(&request(&received)), expected, "{headers:?}");
        }
        assert!(is_without_body(&Request { method: b"CONNECT", ..request(&[]) }));
        let received = sample::headers(&[("Upgrade", "websocket"), ("Connection", "upgrade")]);
        let lines = text(&request(&received), &facts());
        assert_eq!(lines.get(12..), Some(&["X-PX-Node-Upgrade: websocket".to_owned()][..]));
    }

    #[test]
    fn methods_are_copied_but_for_two() {
        for (received, sent) in [
            ("GET", ("GET", None)),
            ("PROPFIND", ("PROPFIND", None)),
            ("X-NEW", ("X-NEW", None)),
            ("TRACE", ("GET", Some("TRACE"))),
            ("CONNECT", ("GET", Some("CONNECT"))),
        ] {
            let request = Request { method: received.as_bytes(), ..request(&[]) };
            let sent = (sent.0.as_bytes(), sent.1.map(str::as_bytes));
            assert_eq!(method(&request), sent, "{received}");
            let said = text(&request, &facts()).iter().any(|l| l.starts_with("X-PX-Node-Method"));
            assert_eq!(said, sent.1.is_some());
        }
    }

    #[test]
    fn a_target_is_never_touched() {
        for received in
            ["/", "//x", "/a/../etc/passwd", "/%2e%2e%2f?a=b?c", "/<script>#x", "/\u{e9}"]
        {
            assert_eq!(target("", received.as_bytes()), received.as_bytes());
            assert_eq!(target("/in", received.as_bytes()), format!("/in{received}").as_bytes());
        }
        assert_eq!(target("", b"?x"), b"/?x");
    }

    #[test]
    fn the_body_is_described() {
        for (note, expected) in [
            (BodyNote::None, "none"),
            (BodyNote::Sent { sent: 10, total: 10 }, "full; sent=10; total=10"),
            (BodyNote::Sent { sent: 10, total: 11 }, "truncated; sent=10; total=11"),
            (BodyNote::Withheld { total: Some(7) }, "truncated; sent=0; total=7"),
            (BodyNote::Withheld { total: None }, "truncated; sent=0; total=unknown"),
        ] {
            assert_eq!(note.text(), expected);
        }
    }

    #[test]
    fn a_head_beyond_the_limit_is_not_sent() {
        let length = |n: usize| {
            let value = "x".repeat(n);
            let received = sample::headers(&[("A", &value)]);
            headers(&request(&received), &facts()).map(|_| ())
        };
        let own: usize = text(&request(&[]), &facts()).iter().map(|line| line.len() + 2).sum();
        let room = HEAD_LIMIT - own - 5;
        assert_eq!(length(room), Ok(()));
        assert_eq!(length(room + 1), Err(HeadTooLong));
    }
}
