//! Cookies: their names for the report, and the values of those the enforcer knows.
//!
//! Source: risk-token.md §§ 1 and 2. Values are verbatim bytes: nothing is decoded or unquoted.

use std::collections::HashSet;

use memchr::{memchr, memchr_iter};

use crate::request::Request;

/// The known cookies of a request, never empty; of several with one name the last.
#[derive(Debug, Default)]
pub(crate) struct Cookies<'r> {
    pub(crate) px: Option<&'r [u8]>,
    pub(crate) px2: Option<&'r [u8]>,
    pub(crate) px3: Option<&'r [u8]>,
    pub(crate) pxvid: Option<&'r [u8]>,
    pub(crate) pxhd: Option<&'r [u8]>,
    pub(crate) pxde: Option<&'r [u8]>,
    pub(crate) pxcts: Option<&'r [u8]>,
}

impl<'r> Cookies<'r> {
    /// Reads the values of all headers that hold cookies: those of `Cookie` in order of arrival and
    /// then those of the custom header, so that the latter win (§ 2).
    pub(crate) fn read(headers: impl Iterator<Item = &'r [u8]>) -> Self {
        let mut cookies = Self::default();
        for piece in headers.flat_map(pieces) {
            // What all known names begin with.
            if matches!(piece, [b'_', b'p', b'x', ..] | [b'p', b'x', ..])
                && let Some((name, value)) = split(piece)
            {
                cookies.keep(name, value);
            }
        }
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

/// Visits the names of all cookies in order of first appearance, each once.
pub fn for_each_name<'r>(request: &Request<'r>, custom_header: &str, visit: impl FnMut(&'r [u8])) {
    let mut seen = Names::default();
    let headers = request.header_values("cookie").chain(request.header_values(custom_header));
    let names = headers.flat_map(pieces).filter_map(split).map(|(name, _)| name);
    names.filter(|name| seen.is_new(name)).for_each(visit);
}

/// The value of the cookie `name` in these headers, if it has one; of several with that name the last.
pub fn last_value<'r>(headers: impl Iterator<Item = &'r [u8]>, name: &str) -> Option<&'r [u8]> {
    let pairs = headers.flat_map(pieces).filter_map(split);
    pairs.filter(|(known, _)| *known == name.as_bytes()).last().map(|(_, value)| value)
}

/// As [`last_value`], of all headers that hold cookies.
pub(crate) fn value_of<'r>(
    request: &Request<'r>,
    custom_header: &str,
    name: &str,
) -> Option<&'r [u8]> {
    last_value(request.header_values("cookie").chain(request.header_values(custom_header)), name)
}

/// Cookies of a request in their order, those whose names `names` lists, as one `Cookie` header
/// would hold them; `None` if there are none.
pub(crate) fn only(request: &Request<'_>, names: &[String]) -> Option<Vec<u8>> {
    let pieces = request.header_values("cookie").flat_map(pieces);
    let listed = pieces.filter(|piece| {
        split(piece).is_some_and(|(name, _)| names.iter().any(|known| known.as_bytes() == name))
    });
    let mut value = Vec::new();
    for piece in listed {
        if !value.is_empty() {
            value.extend_from_slice(b"; ");
        }
        value.extend_from_slice(piece);
    }
    (!value.is_empty()).then_some(value)
}

/// Up to this many names, comparing with each is cheaper than a set, and needs no allocation.
const FEW_NAMES: usize = 32;

/// Distinct names. Stays fast when a hostile client sends a hundred thousand of them.
#[derive(Default)]
struct Names<'r> {
    few: [&'r [u8]; FEW_NAMES],
    count: usize,
    /// All of them once there are more than a few, else empty.
    many: HashSet<&'r [u8]>,
}

impl<'r> Names<'r> {
    fn is_new(&mut self, name: &'r [u8]) -> bool {
        if self.many.is_empty() {
            if self.few.iter().take(self.count).any(|known| *known == name) {
                return false;
            }
            if let Some(free) = self.few.get_mut(self.count) {
                *free = name;
                self.count += 1;
                return true;
            }
            self.many.extend(self.few);
        }
        self.many.insert(name)
    }
}

/// What stands between the semicolons of a header, trimmed.
fn pieces(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr_iter(b';', header).chain([header.len()]).map(move |end| {
        let piece = header.get(start..end).unwrap_or_default();
        start = end + 1;
        trim(piece)
    })
}

/// Name and value of a piece, split at the first `=`. One without name or value does not count.
fn split(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = piece.split_at_checked(memchr(b'=', piece)?)?;
    let value = value.get(1..)?;
    (!name.is_empty() && !value.is_empty()).then_some((name, value))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::Hooks;
    use crate::known_headers::KnownHeaders;
    use crate::policy::Options;
    use crate::request::{Header, Tls};

    fn with_cookies<T>(
        headers: &[(&str, &[u8])],
        look: impl FnOnce(Cookies<'_>, &[&[u8]]) -> T,
    ) -> T {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value }).collect();
        let request = Request {
            method: b"GET",
            scheme: "https",
            host: b"shop.example.com",
            target: b"/",
            http_version: "1.1",
            headers: &headers,
            peer_ip: "203.0.113.77",
            request_id: "",
            tls: Tls::default(),
            hooks: &Hooks::NONE,
            extracted: None,
        };
        let mut names = Vec::new();
        for_each_name(&request, "x-px-cookies", |name| names.push(name));
        let known = KnownHeaders::find(&request, &Options::default());
        look(Cookies::read(known.cookies(&Options::default())), &names)
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
            with_cookies(&[("Cookie", header.as_bytes())], |cookies, found| {
                let names: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
                assert_eq!(found, names, "{header}");
                assert_eq!(cookies.px3, px3.map(str::as_bytes), "{header}");
            });
        }
    }

    #[test]
    fn every_known_cookie_is_found() {
        let header = b"_px=1; _px2=2; _px3=3; _pxvid=4; _pxhd=5; _pxde=6; pxcts=7; pxvid=8";
        with_cookies(&[("cookie", header)], |cookies, _| {
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
        with_cookies(&headers, |cookies, names| {
            assert_eq!(cookies.px3, Some(&b"custom"[..]));
            assert_eq!(cookies.pxhd, Some(&b"hd"[..]));
            assert_eq!(names, [&b"a"[..], b"_px3", b"b", b"z", b"_pxhd"]);
        });
    }

    #[test]
    fn a_flood_of_names_is_read_once_each() {
        let header: Vec<u8> = (0..200_000)
            .flat_map(|number| format!("n{}=1;", number % 100_000).into_bytes())
            .chain(*b"_px3=last")
            .collect();
        with_cookies(&[("cookie", &header)], |cookies, names| {
            assert_eq!(names.len(), 100_001);
            assert_eq!(names.first(), Some(&&b"n0"[..]));
            assert_eq!(names.last(), Some(&&b"_px3"[..]));
            assert_eq!(cookies.px3, Some(&b"last"[..]));
        });
    }
}
