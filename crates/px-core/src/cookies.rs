//! Cookies: their names for the report, and the values of those the enforcer knows.
//!
//! Source: risk-token.md §§ 1 and 2. Values are verbatim bytes: nothing is decoded or unquoted.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::request::Request;

/// Up to this many names, comparing with each is cheaper than a sorted set.
const FEW_NAMES: usize = 32;

/// What the `Cookie` headers and the custom cookie header hold.
#[derive(Debug, Default)]
pub(crate) struct Cookies<'r> {
    /// In order of first appearance, each once.
    pub(crate) names: Vec<Cow<'r, str>>,
    /// The known cookies, never empty; of several with one name the last.
    pub(crate) px: Option<&'r [u8]>,
    pub(crate) px2: Option<&'r [u8]>,
    pub(crate) px3: Option<&'r [u8]>,
    pub(crate) pxvid: Option<&'r [u8]>,
    pub(crate) pxhd: Option<&'r [u8]>,
    pub(crate) pxde: Option<&'r [u8]>,
    pub(crate) pxcts: Option<&'r [u8]>,
}

impl<'r> Cookies<'r> {
    /// Reads all `Cookie` headers in order of arrival and then all headers named `custom_header`,
    /// so that the latter win (§ 2).
    pub(crate) fn read(request: &Request<'r>, custom_header: &str) -> Self {
        let mut cookies = Self::default();
        let mut names = Names::default();
        for header in request.header_values("cookie").chain(request.header_values(custom_header)) {
            for (name, value) in pairs(header) {
                names.add(name);
                cookies.keep(name, value);
            }
        }
        cookies.names = names.in_order.into_iter().map(String::from_utf8_lossy).collect();
        cookies
    }

    fn keep(&mut self, name: &[u8], value: &'r [u8]) {
        let known = match name {
            b"_px" => &mut self.px,
            b"_px2" => &mut self.px2,
            b"_px3" => &mut self.px3,
            b"_pxvid" => &mut self.pxvid,
            b"_pxhd" => &mut self.pxhd,
            b"_pxde" => &mut self.pxde,
            b"pxcts" => &mut self.pxcts,
            _ => return,
        };
        *known = Some(value);
    }
}

/// The cookies of one header: split at `;`, trimmed, split at the first `=`. Those without name or
/// value do not count.
fn pairs(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    header.split(|&byte| byte == b';').filter_map(|piece| {
        let piece = trim(piece);
        let equals = piece.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (piece.get(..equals)?, piece.get(equals + 1..)?);
        (!name.is_empty() && !value.is_empty()).then_some((name, value))
    })
}

/// Without surrounding white space: ASCII's, and the vertical tab, which Rust does not count.
fn trim(mut piece: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\x0b';
    while let [first, rest @ ..] = piece
        && is_space(first)
    {
        piece = rest;
    }
    while let [rest @ .., last] = piece
        && is_space(last)
    {
        piece = rest;
    }
    piece
}

/// Distinct names. Stays fast when a hostile client sends a hundred thousand of them.
#[derive(Default)]
struct Names<'r> {
    in_order: Vec<&'r [u8]>,
    /// All of them once there are more than a few, else empty.
    sorted: BTreeSet<&'r [u8]>,
}

impl<'r> Names<'r> {
    fn add(&mut self, name: &'r [u8]) {
        if self.in_order.len() < FEW_NAMES {
            if !self.in_order.contains(&name) {
                self.in_order.push(name);
            }
            return;
        }
        if self.sorted.is_empty() {
            self.sorted.extend(&self.in_order);
        }
        if self.sorted.insert(name) {
            self.in_order.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Header, Tls};

    fn with_cookies<T>(headers: &[(&str, &[u8])], look: impl FnOnce(Cookies<'_>) -> T) -> T {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value }).collect();
        look(Cookies::read(
            &Request {
                method: b"GET",
                scheme: "https",
                host: b"shop.example.com",
                target: b"/",
                http_version: "1.1",
                headers: &headers,
                peer_ip: "203.0.113.77",
                request_id: "",
                tls: Tls::default(),
            },
            "x-px-cookies",
        ))
    }

    #[test]
    fn pieces_are_split_trimmed_and_taken_verbatim() {
        for (header, names, px3) in [
            ("_px3=a", &["_px3"][..], Some("a")),
            (" \t_px3=a\t ;\x0bb=c ; d=e", &["_px3", "b", "d"], Some("a")),
            ("_px3=a=b==", &["_px3"], Some("a=b==")),
            ("_px3=\"a\"", &["_px3"], Some("\"a\"")),
            ("_px3=%3A+", &["_px3"], Some("%3A+")),
            ("_px3= a", &["_px3"], Some(" a")),
            ("_px3 =a", &["_px3 "], None),
            ("_PX3=a", &["_PX3"], None),
            ("_px3=", &[], None),
            ("_px3= ;", &[], None),
            ("_px3", &[], None),
            ("=a", &[], None),
            ("", &[], None),
            (";;=;=;", &[], None),
            ("_px3=a; _px3=b", &["_px3"], Some("b")),
            ("_px3=a; _px3=", &["_px3"], Some("a")),
            ("a=1, _px3=b", &["a"], None),
            ("c=1; a=2; c=3; b=4; a=5", &["c", "a", "b"], None),
        ] {
            with_cookies(&[("Cookie", header.as_bytes())], |cookies| {
                assert_eq!(cookies.names, names, "{header}");
                assert_eq!(cookies.px3, px3.map(str::as_bytes), "{header}");
            });
        }
    }

    #[test]
    fn every_known_cookie_is_found() {
        let header = b"_px=1; _px2=2; _px3=3; _pxvid=4; _pxhd=5; _pxde=6; pxcts=7; pxvid=8";
        with_cookies(&[("cookie", header)], |cookies| {
            let found = [
                cookies.px,
                cookies.px2,
                cookies.px3,
                cookies.pxvid,
                cookies.pxhd,
                cookies.pxde,
                cookies.pxcts,
            ];
            assert_eq!(found.map(Option::unwrap_or_default).concat(), b"1234567");
        });
    }

    #[test]
    fn custom_header_wins_wherever_it_stands_and_repeated_headers_are_joined() {
        let headers: [(&str, &[u8]); 5] = [
            ("X-PX-Cookies", b"_px3=custom; z=1"),
            ("cookie", b"a=1; _px3=first"),
            ("x-px-cookies", b""),
            ("COOKIE", b"_px3=second; b=1"),
            ("x-px-cookies", b"_pxhd=hd; a=2"),
        ];
        with_cookies(&headers, |cookies| {
            assert_eq!(cookies.px3, Some(&b"custom"[..]));
            assert_eq!(cookies.pxhd, Some(&b"hd"[..]));
            assert_eq!(cookies.names, ["a", "_px3", "b", "z", "_pxhd"]);
        });
    }

    #[test]
    fn names_that_are_not_utf8_are_shown_as_far_as_possible() {
        with_cookies(&[("cookie", b"\xff=1; a\xe9=\xfe; b=2")], |cookies| {
            assert_eq!(cookies.names, ["\u{fffd}", "a\u{fffd}", "b"]);
        });
    }

    #[test]
    fn a_flood_of_names_is_read_once_each() {
        let header: Vec<u8> = (0..200_000)
            .flat_map(|number| format!("n{}=1;", number % 100_000).into_bytes())
            .chain(*b"_px3=last")
            .collect();
        with_cookies(&[("cookie", &header)], |cookies| {
            assert_eq!(cookies.names.len(), 100_001);
            assert_eq!(cookies.names.first().map(|name| &**name), Some("n0"));
            assert_eq!(cookies.names.last().map(|name| &**name), Some("_px3"));
            assert_eq!(cookies.px3, Some(&b"last"[..]));
        });
    }
}
