//! The URL of a request: as received, and normalised for route matching and reports.
//!
//! Source: flow.md § 4, which asks for the WHATWG URL rules. What they say about `http` and `https`
//! is written out here and in the parts, because a general URL library brings the Unicode tables of
//! internationalised host names along; tests compare the two. Nothing is copied while nothing
//! changes. Route patterns see [`RequestUrl::path`]: percent-encoded, without query.

mod authority;
mod path;
pub(crate) mod percent;

use std::borrow::Cow;
use std::fmt;

use crate::request::Request;

/// The URL a client asked for, in both forms.
#[derive(Clone, Debug)]
pub struct RequestUrl<'r> {
    raw: Text<'r>,
    scheme: &'static str,
    authority: Cow<'r, str>,
    path: Cow<'r, str>,
    /// Query and fragment with their `?` and `#`, or empty.
    tail: Cow<'r, str>,
}

/// An absolute URL as received, cut in three; concatenated it is the text.
#[derive(Clone, Debug)]
struct Text<'r> {
    scheme: &'r str,
    authority: Cow<'r, str>,
    target: Cow<'r, str>,
}

/// Once more than the most careless reader of a path decodes it.
const DECODINGS: usize = 3;

impl<'r> RequestUrl<'r> {
    /// Reads the URL of `request`. `decode_reserved` is `px_url_decode_reserved_characters`.
    ///
    /// Any bytes give a URL. A host that is none stands in it as received; it cannot touch the path.
    pub fn new(request: &Request<'r>, decode_reserved: bool) -> Self {
        let raw = Text::of(request);
        let scheme = if raw.scheme.eq_ignore_ascii_case("http") { "http" } else { "https" };
        let authority = authority::normalise(&raw.authority, scheme);
        let authority = match authority {
            Some(Cow::Borrowed(_)) | None => raw.authority.clone(),
            Some(Cow::Owned(text)) => Cow::Owned(text),
        };
        let (path, tail) = path::normalise(raw.target.clone(), decode_reserved);
        Self { raw, scheme, authority, path, tail }
    }

    /// The normalised path; begins with a slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path as received, up to the query: what the origin will make its own sense of.
    pub fn raw_path(&self) -> &str {
        self.raw.target.split('?').next().unwrap_or_default()
    }

    /// The query as received, without its `?`.
    pub fn raw_query(&self) -> &str {
        let target = self.raw.target.split('#').next().unwrap_or_default();
        target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Whether the path climbs (`..`) for a reader who decodes escapes or cuts matrix parameters off,
    /// although it does not climb by the URL rules: `/a/..%2fb`, `/a/..;/b`.
    pub fn hides_climb(&self) -> bool {
        let mut path = Cow::Borrowed(self.path.as_bytes());
        for _ in 0..DECODINGS {
            if path.contains(&b'%') {
                path = Cow::Owned(percent::decode_lenient(&path));
            }
        }
        let mut segments = path.split(|byte| matches!(byte, b'/' | b'\\'));
        segments.any(|segment| matches!(segment, b".." | [b'.', b'.', b';', ..]))
    }

    /// Whether `matches` holds for what an origin may take the path for that decodes escapes, once or
    /// more often, and cuts matrix parameters off: `/%6cogin;x` for `/login`.
    pub(crate) fn has_reading(&self, matches: impl Fn(&str) -> bool) -> bool {
        if !self.path.contains(['%', ';']) {
            return false;
        }
        let mut read = self.path.as_bytes().to_vec();
        for _ in 0..=DECODINGS {
            let text = percent::utf8(&read);
            let segments =
                text.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
            let cut: Vec<&str> = segments.collect();
            let (path, _) = path::normalise(Cow::Owned(cut.join("/")), false);
            if matches(&path) {
                return true;
            }
            read = percent::decode_lenient(&read);
        }
        false
    }

    /// Whether a segment means this directory or the one above, by the URL rules.
    pub(crate) fn is_dot_segment(segment: &str) -> bool {
        path::dots(segment) != 0
    }

    /// Query with its `?`, or empty.
    pub fn query(&self) -> &str {
        self.tail.split('#').next().unwrap_or_default()
    }

    /// Host in lower case without user information and port.
    pub fn host(&self) -> &str {
        authority::host_of(&self.authority)
    }

    /// Whether the normalised URL reads otherwise than the one received; then both are reported.
    pub fn is_changed(&self) -> bool {
        self.raw.scheme != self.scheme
            || self.raw.authority != self.authority
            || self.raw.target.len() != self.path.len() + self.tail.len()
            || !self.raw.target.starts_with(&*self.path)
            || !self.raw.target.ends_with(&*self.tail)
    }

    /// The URL as received, absolute; bytes that are not UTF-8 are percent-encoded.
    pub fn raw(&self) -> Joined<'_> {
        Joined([self.raw.scheme, "://", &self.raw.authority, &self.raw.target, ""])
    }

    /// The normalised URL, absolute.
    pub fn normalised(&self) -> Joined<'_> {
        Joined([self.scheme, "://", &self.authority, &self.path, &self.tail])
    }

    /// [`path`](Self::path), borrowed from the request where possible.
    pub(crate) fn path_text(&self) -> Cow<'r, str> {
        self.path.clone()
    }

    /// [`query`](Self::query), borrowed from the request where possible.
    pub(crate) fn query_text(&self) -> Cow<'r, str> {
        match &self.tail {
            Cow::Borrowed(tail) => Cow::Borrowed(tail.split('#').next().unwrap_or_default()),
            Cow::Owned(_) => Cow::Owned(self.query().to_owned()),
        }
    }
}

impl<'r> Text<'r> {
    fn of(request: &Request<'r>) -> Self {
        if let Some(absolute) = Self::absolute_form(request.target) {
            return absolute;
        }
        let target = percent::utf8(request.target);
        // `*` and whatever else does not begin with a slash must not grow into the host.
        let target =
            if target.starts_with('/') { target } else { Cow::Owned(format!("/{target}")) };
        Self { scheme: request.scheme, authority: percent::utf8(request.host), target }
    }

    /// RFC 9112 § 3.2.2: the target names scheme and host itself, and they count.
    fn absolute_form(target: &'r [u8]) -> Option<Self> {
        let colon = target.iter().take(6).position(|&byte| byte == b':')?;
        let scheme = std::str::from_utf8(target.get(..colon)?).ok()?;
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return None;
        }
        let rest = target.get(colon..)?.strip_prefix(b"://")?;
        let end = rest.iter().position(|byte| b"/?#\\".contains(byte)).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end)?;
        if authority.is_empty() {
            return None;
        }
        Some(Self { scheme, authority: percent::utf8(authority), target: percent::utf8(target) })
    }
}

/// Texts that are read as one.
pub struct Joined<'a>([&'a str; 5]);

impl Joined<'_> {
    pub(crate) fn parts(&self) -> &[&str] {
        &self.0
    }
}

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| f.write_str(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::Hooks;
    use crate::request::Tls;
    use ::url::{Position, Url};

    fn request<'r>(host: &'r [u8], target: &'r [u8]) -> Request<'r> {
        Request {
            method: b"GET",
            scheme: "https",
            host,
            target,
            http_version: "1.1",
            headers: &[],
            peer_ip: "",
            request_id: "",
            tls: Tls::default(),
            hooks: &Hooks::NONE,
            extracted: None,
        }
    }

    #[test]
    fn knows_what_an_origin_may_read() {
        for (target, path, reads) in [
            ("/login", "/login", false),
            ("/%6cogin", "/login", true),
            ("/%6Cogin?x", "/login", true),
            ("/%256cogin", "/login", true),
            ("/%2525256cogin", "/login", false),
            ("/login;a=b", "/login", true),
            ("/login%3ba", "/login", true),
            ("/a;b/login;c/", "/a/login", true),
            ("/login%2f", "/login", true),
            ("/a%2flogin", "/a/login", true),
            ("/a/..%2flogin", "/login", true),
            ("/login%2f%ff", "/login/%FF", true),
            ("/%zz%", "/%zz%", true),
            ("/caf%C3%A9", "/caf%C3%A9", true),
        ] {
            let request = request(b"h", target.as_bytes());
            let url = RequestUrl::new(&request, false);
            assert_eq!(url.has_reading(|read| read == path), reads, "{target}");
        }
    }

    #[test]
    fn follows_the_rules_of_the_page() {
        for (host, target, decode, expected, path) in [
            ("h.example", "/a?x=1", false, None, "/a"),
            ("h.example", "/", false, None, "/"),
            ("h.example", "/?", false, None, "/"),
            ("h.example", "/a/", false, Some("https://h.example/a"), "/a"),
            ("h.example", "//a///b//", false, Some("https://h.example/a/b"), "/a/b"),
            ("h.example", "///", false, Some("https://h.example/"), "/"),
            ("h.example", "/a/../b/./c", false, Some("https://h.example/b/c"), "/b/c"),
            ("h.example", "/a/%2E%2e/b", false, Some("https://h.example/b"), "/b"),
            ("h.example", "/a/b/..", false, Some("https://h.example/a"), "/a"),
            ("h.example", "/../../x", false, Some("https://h.example/x"), "/x"),
            ("h.example", "/a\\..\\b", false, Some("https://h.example/b"), "/b"),
            (
                "h.example",
                "/a b\"<>`{}^",
                false,
                Some("https://h.example/a%20b%22%3C%3E%60%7B%7D%5E"),
                "/a%20b%22%3C%3E%60%7B%7D%5E",
            ),
            (
                "h.example",
                "/caf\u{e9}?q=\u{fc}'",
                false,
                Some("https://h.example/caf%C3%A9?q=%C3%BC%27"),
                "/caf%C3%A9",
            ),
            ("h.example", "/%2f%zz%", false, None, "/%2f%zz%"),
            ("H.Example:443", "/P", false, Some("https://h.example/P"), "/P"),
            ("h.example:8443", "/a", false, None, "/a"),
            ("h.example:080", "/a", false, Some("https://h.example:80/a"), "/a"),
            ("h.example", "/a#f/../g", false, None, "/a"),
            ("h.example", "/a%3Fz=1?d=2", true, Some("https://h.example/a?z=1?d=2"), "/a"),
            ("h.example", "/a%23frag/b", true, Some("https://h.example/a#frag/b"), "/a"),
            ("h.example", "/a%252Fb", true, Some("https://h.example/a%2Fb"), "/a%2Fb"),
            ("h.example", "/a%2Fb%20c", true, Some("https://h.example/a/b%20c"), "/a/b%20c"),
            ("h.example", "/x%2F..%2Fy", true, Some("https://h.example/y"), "/y"),
            ("h.example", "/%68ealth?%41", true, Some("https://h.example/health?%41"), "/health"),
            ("h.example", "/a%2Fb%zz", true, None, "/a%2Fb%zz"),
            ("h.example", "/a%2Fb%C3", true, None, "/a%2Fb%C3"),
            ("h.example", "*", false, None, "/*"),
            ("h.example", "http://O.example:80/x/", false, Some("http://o.example/x"), "/x"),
            ("h.example", "HTTPS://O.example", false, Some("https://o.example/"), "/"),
            ("h.example", "https://o.example?q", false, Some("https://o.example/?q"), "/"),
        ] {
            let request = request(host.as_bytes(), target.as_bytes());
            let url = RequestUrl::new(&request, decode);
            assert_eq!(url.path(), path, "{target}");
            let raw = url.raw().to_string();
            assert_eq!(url.normalised().to_string(), expected.unwrap_or(&raw), "{target}");
            assert_eq!(url.is_changed(), expected.is_some(), "{target}");
        }
    }

    #[test]
    fn a_hostile_host_cannot_touch_the_path() {
        for host in ["", "a?b", "a#b", "a/b", "a\\b", "a b", "x?/a.css", "[::1", "1.2.3.4.5", "a:b"]
        {
            let request = request(host.as_bytes(), b"/login?x");
            let url = RequestUrl::new(&request, false);
            assert_eq!((url.path(), url.query()), ("/login", "?x"), "{host}");
            assert_eq!(url.normalised().to_string(), format!("https://{host}/login?x"));
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_percent_encoded() {
        let request = request(b"h\xff", b"/\xe9\xc3\xa9?\x80");
        let url = RequestUrl::new(&request, false);
        assert_eq!(url.raw().to_string(), "https://h%FF/%E9\u{e9}?%80");
        assert_eq!(url.normalised().to_string(), "https://h%FF/%E9%C3%A9?%80");
    }

    #[test]
    fn the_usual_request_is_not_copied() {
        for host in ["shop.example.com", "shop.example.com:8443", "192.0.2.1", "192.0.2.1:80"] {
            let request = request(host.as_bytes(), b"/account/orders;v=1?x=1&y=%20");
            let url = RequestUrl::new(&request, false);
            assert!(matches!(url.path_text(), Cow::Borrowed("/account/orders;v=1")));
            assert!(matches!(url.query_text(), Cow::Borrowed("?x=1&y=%20")));
            assert!(matches!(url.authority, Cow::Borrowed(same) if same == host), "{host}");
            assert!(!url.is_changed(), "{host}");
        }
    }

    #[test]
    fn a_hidden_climb_is_seen() {
        for (target, hides) in [
            ("/a/b", false),
            ("/a/../b", false),
            ("/a/%2e%2e/b", false),
            ("/a/..b/c..", false),
            ("/a/..%2fb", true),
            ("/a%2F..%2Fb", true),
            ("/a%5c..%5cb", true),
            ("/a/..;/b", true),
            ("/a/..;x=1/b", true),
            ("/a/%2e%2e%3b/b", true),
            ("/a/%252e%252e/b", true),
            ("/a/%25252e./b", true),
        ] {
            let request = request(b"h", target.as_bytes());
            assert_eq!(RequestUrl::new(&request, false).hides_climb(), hides, "{target}");
        }
    }

    #[test]
    fn host_has_neither_port_nor_user() {
        for (host, expected) in [
            ("Img.Example.com:8443", "img.example.com"),
            ("user:pw@h.example:1", "h.example"),
            ("[2001:DB8::1]:8080", "[2001:db8::1]"),
            ("127.1", "127.0.0.1"),
        ] {
            let request = request(host.as_bytes(), b"/");
            assert_eq!(RequestUrl::new(&request, false).host(), expected);
        }
    }

    /// Draws from `pieces` with a fixed generator, so that a failure comes again.
    fn assembled(pieces: &[&str], seed: &mut u64) -> String {
        let mut next = |bound: usize| {
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(*seed >> 33).expect("31 bits") % bound
        };
        let count = next(9);
        (0..count).filter_map(|_| pieces.get(next(pieces.len()))).copied().collect()
    }

    // No `a:` or `a|`: the crate takes them for drive letters, which only `file:` URLs have.
    const PATH_PIECES: [&str; 46] = [
        "/", "/", "/", "//", ".", "..", "/..", "/./", "%2e", "%2E%2e", "%2f", "%5c", "%", "%g",
        "\\", "a", "b", "C", "0", "-", "_", "~", "!", "$", "&", "'", "(", ")", "*", "+", ",", ";",
        "=", "::", "@", "||", "[", "]", "\"", "<", "^", "`", "{", " ", "\t", "\u{e9}",
    ];
    const QUERY_PIECES: [&str; 12] =
        ["?", "?", "a=b", "&", "'", "\"", " ", "%20", "\u{20ac}", "/", "..", "\n"];
    const HOST_PIECES: [&str; 30] = [
        "a",
        "b.c",
        "Example",
        ".com",
        ".",
        "1",
        "127",
        "0x7f",
        "0",
        "255",
        "256",
        "010",
        "0x",
        "99999999999",
        "-",
        "_",
        "%41",
        "%2f",
        ":",
        ":80",
        ":443",
        ":0443",
        ":65536",
        "@",
        "u:p@",
        "!",
        "$",
        "~",
        "[::1]",
        "[::ffff:1.2.3.4]",
    ];

    #[test]
    fn agrees_with_the_url_crate() {
        let mut seed = 1;
        let mut compared = 0;
        for round in 0..30_000 {
            let host = match round % 3 {
                0 => assembled(&HOST_PIECES, &mut seed),
                _ => "Host.Example:8080".to_owned(),
            };
            let query = assembled(&QUERY_PIECES, &mut seed);
            let fragment = if round % 5 == 0 { "#f <`" } else { "" };
            let target = format!("/{}{query}{fragment}", assembled(&PATH_PIECES, &mut seed));
            let raw = format!("https://{host}{target}");
            let request = request(host.as_bytes(), target.as_bytes());
            let ours = RequestUrl::new(&request, false);
            assert_eq!(ours.raw().to_string(), raw);

            // An empty host makes that parser look for one in the path, which ours must not do.
            let reference = Url::parse(&raw).ok().filter(|_| !host.is_empty());
            let Some(reference) = reference else {
                assert!(
                    ours.normalised().to_string().starts_with(&format!("https://{host}/")),
                    "{raw:?}"
                );
                continue;
            };
            compared += 1;
            let authority = &reference[Position::BeforeUsername..Position::AfterPort];
            assert_eq!(ours.authority, authority, "{raw:?}");
            assert_eq!(ours.tail, reference[Position::AfterPath..], "{raw:?}");
            let segments = reference.path().split('/').filter(|segment| !segment.is_empty());
            let path = segments.map(|segment| format!("/{segment}")).collect::<String>();
            // The standard has encoded this one since 2023; the crate does not follow yet.
            let path = path.replace('^', "%5E");
            assert_eq!(ours.path(), if path.is_empty() { "/" } else { &path }, "{raw:?}");
        }
        assert!(compared > 20_000, "{compared}");
    }
}
