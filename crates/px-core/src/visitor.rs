//! What the visitor brought: risk token, visitor id, `_pxhd`, `pxcts`, `_pxde`, original token.
//!
//! Source: risk-token.md.

use std::borrow::Cow;

use crate::cookies::Cookies;
use crate::crypto::{Budget, Secrets};
#[cfg(doc)]
use crate::data_enrichment::DataEnrichment;
use crate::known_headers::KnownHeaders;
use crate::policy::{Options, TokenVersion};
use crate::reason::{CookieOrigin, VidSource};
use crate::request::{Request, text};
use crate::token::mobile::Authorization;
use crate::token::{Client, Failure, OriginalToken, Token, Verifier, Version, is_uuid};
use crate::token_memory::TokenMemory;

const ORIGINAL_TOKEN: &str = "x-px-original-token";
const BYPASS_REASON: &str = "x-px-bypass-reason";

/// Result of looking for a risk token and checking it (risk-token.md § 10, first column).
#[derive(Clone, Debug)]
pub enum TokenState<'r> {
    None,
    /// The mobile SDK's error number, digits as received (§ 3.1).
    MobileError(&'r str),
    /// Raw token text, reported as `px_orig_cookie`.
    DecryptionFailed(Cow<'r, str>),
    /// Raw token text, reported as `px_orig_cookie`.
    ValidationFailed(Cow<'r, str>),
    Successful(Token<'r>),
}

/// A visitor id and where it came from (§ 7).
#[derive(Clone, Debug)]
pub struct Vid<'r> {
    pub text: Cow<'r, str>,
    pub source: VidSource,
}

/// Everything read from cookies and mobile headers before any network call.
#[derive(Clone, Debug)]
pub struct Visitor<'r> {
    pub origin: CookieOrigin,
    pub token: TokenState<'r>,
    /// Payload of a legacy v1 token that decrypted but failed its HMAC: the enforcers that know v1
    /// take score, uuid and vid from it. Always `None` for v2 and v3, where nothing of such a
    /// payload is used (§ 4.4).
    pub unverified: Option<Box<Token<'r>>>,
    pub vid: Option<Vid<'r>>,
    /// `_pxvid` was present but is no UUID.
    pub orig_cookie_vid: Option<Cow<'r, str>>,
    /// `_pxhd` cookie, web only.
    pub pxhd: Option<Cow<'r, str>>,
    /// `pxcts` cookie.
    pub cross_tab_session: Option<Cow<'r, str>>,
    /// `_pxde` cookie as received: nothing is verified unless somebody asks
    /// ([`DataEnrichment::from_cookie`]).
    pub pxde: Option<&'r [u8]>,
    pub original_token: Option<Box<OriginalToken<'r>>>,
    /// `x-px-bypass-reason`, mobile only.
    pub bypass_reason: Option<&'r [u8]>,
    /// Index into the policy's cookie secrets of the one that decrypted a v3 payload (§ 4.6).
    pub used_secret: Option<usize>,
}

impl<'r> Visitor<'r> {
    /// The payload that score, uuid and action are taken from before the Risk API is asked: that of
    /// the successful token, or the [`unverified`](Self::unverified) one.
    pub fn payload(&self) -> Option<&Token<'r>> {
        match &self.token {
            TokenState::Successful(token) => Some(token),
            _ => self.unverified.as_deref(),
        }
    }
}

/// Reads and judges what `request` carries. `client_ip` is the address as extracted for reporting
/// (flow.md § 3); `now_ms` is Unix time. Never fails: whatever cannot be read is a
/// [`TokenState`] or absent.
///
/// Of a header that may come once but came several times (`x-px-authorization` and the other
/// mobile headers), the first that is not empty counts; of `User-Agent`, the first.
pub fn read<'r>(
    request: &Request<'r>,
    client_ip: &str,
    options: &Options,
    secrets: &Secrets,
    budget: &mut Budget,
    memory: &mut dyn TokenMemory<'r>,
    now_ms: u64,
) -> Visitor<'r> {
    let known = KnownHeaders::find(request, options);
    let cookies = Cookies::read(known.cookies(options));
    let client = Client::Mobile { ip: client_ip };
    let mut verifier = Verifier { options, secrets, client, budget, memory, now_ms };
    let mut visitor = match known.authorization {
        Some(authorization) => read_mobile(request, authorization, &mut verifier),
        None => {
            let user_agent = cut_user_agent(known.user_agent, options.user_agent_max_length);
            verifier.client = Client::Web { user_agent, ip: client_ip };
            read_web(&cookies, &mut verifier)
        }
    };
    if let Some(vid) = visitor.payload().and_then(|payload| payload.vid.clone()) {
        visitor.vid = Some(Vid { text: vid, source: VidSource::RiskCookie });
    }
    visitor.cross_tab_session = cookies.pxcts.map(text);
    visitor.pxde = cookies.pxde;
    visitor
}

/// The user agent as it is signed and filtered: the first `User-Agent` header or empty text, cut
/// to `max_length` characters (flow.md § 3).
pub(crate) fn user_agent<'r>(request: &Request<'r>, max_length: usize) -> &'r [u8] {
    cut_user_agent(request.header("user-agent").unwrap_or_default(), max_length)
}

fn cut_user_agent(user_agent: &[u8], max_length: usize) -> &[u8] {
    if user_agent.len() <= max_length {
        return user_agent;
    }
    let end = match std::str::from_utf8(user_agent) {
        Ok(text) => text.char_indices().nth(max_length).map_or(text.len(), |(end, _)| end),
        Err(_) => max_length,
    };
    user_agent.get(..end).unwrap_or(user_agent)
}

/// § 3: the risk cookie, `_pxvid` and `_pxhd` mean nothing here.
fn read_mobile<'r>(
    request: &Request<'r>,
    authorization: &'r [u8],
    verifier: &mut Verifier<'_, 'r>,
) -> Visitor<'r> {
    let mut visitor = Visitor::unknown(CookieOrigin::Header);
    let configured = verifier.options.token_version;
    match Authorization::parse(authorization, configured) {
        Authorization::Token(version, value) => {
            let result = verifier.verify_header(version, value);
            visitor.judge_by(result, value);
        }
        Authorization::Error(number) => visitor.token = TokenState::MobileError(number),
        Authorization::Unknown => {}
    }
    if let Some(header) = request.non_empty_header(ORIGINAL_TOKEN) {
        let is_error = matches!(visitor.token, TokenState::MobileError(_));
        let verifier = is_error.then_some(verifier);
        if let Some((token, used)) = OriginalToken::read(header, configured, verifier) {
            visitor.original_token = Some(Box::new(token));
            visitor.used_secret = visitor.used_secret.or(used);
        }
    }
    visitor.bypass_reason = request.non_empty_header(BYPASS_REASON);
    visitor
}

fn read_web<'r>(cookies: &Cookies<'r>, verifier: &mut Verifier<'_, 'r>) -> Visitor<'r> {
    let mut visitor = Visitor::unknown(CookieOrigin::Cookie);
    let risk_cookie = match verifier.options.token_version {
        TokenVersion::V2 => cookies.px2.map(|text| (Version::V2, text)),
        TokenVersion::V3 => cookies.px3.map(|text| (Version::V3, text)),
        TokenVersion::V3OrV1 => (cookies.px3.map(|text| (Version::V3, text)))
            .or(cookies.px.map(|text| (Version::V1, text))),
    };
    if let Some((version, value)) = risk_cookie {
        let result = verifier.verify_cookie(version, value);
        visitor.judge_by(result, value);
    }
    visitor.pxhd = cookies.pxhd.map(text);
    match cookies.pxvid {
        Some(vid) if is_uuid(vid) => {
            let text = text(vid);
            visitor.vid = Some(Vid { text, source: VidSource::VidCookie });
        }
        vid => visitor.orig_cookie_vid = vid.map(text),
    }
    visitor
}

impl<'r> Visitor<'r> {
    /// Nothing known but where a token would come from.
    fn unknown(origin: CookieOrigin) -> Self {
        Self {
            origin,
            token: TokenState::None,
            unverified: None,
            vid: None,
            orig_cookie_vid: None,
            pxhd: None,
            cross_tab_session: None,
            pxde: None,
            original_token: None,
            bypass_reason: None,
            used_secret: None,
        }
    }

    fn judge_by(&mut self, result: Result<Token<'r>, Failure>, value: &'r [u8]) {
        self.token = match result {
            Ok(token) => {
                self.used_secret = token.used_secret;
                TokenState::Successful(token)
            }
            Err(Failure::Decryption) => TokenState::DecryptionFailed(text(value)),
            Err(Failure::Validation { used_secret, unverified }) => {
                self.used_secret = used_secret;
                self.unverified = unverified;
                TokenState::ValidationFailed(text(value))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::Hooks;
    use crate::request::{Header, Tls};
    use crate::token::OriginalTokenState;
    use crate::token::minted::*;

    /// A browser's or an app's request, judged.
    fn with_visitor<T>(
        desk: &mut Desk,
        headers: &[(&str, &[u8])],
        look: impl FnOnce(Visitor<'_>) -> T,
    ) -> T {
        let mut all = vec![Header { name: b"User-Agent", value: USER_AGENT.as_bytes() }];
        all.extend(headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value }));
        let request = Request {
            method: b"GET",
            scheme: "https",
            host: b"shop.example.com",
            target: b"/",
            http_version: "1.1",
            headers: &all,
            peer_ip: "192.0.2.1",
            request_id: "",
            tls: Tls::default(),
            hooks: &Hooks::NONE,
            extracted: None,
        };
        look(desk.read(&request))
    }

    /// The state in a word.
    fn state(visitor: &Visitor<'_>) -> String {
        match &visitor.token {
            TokenState::None => "none".to_owned(),
            TokenState::MobileError(number) => format!("error {number}"),
            TokenState::DecryptionFailed(_) => "decryption".to_owned(),
            TokenState::ValidationFailed(_) => "validation".to_owned(),
            TokenState::Successful(token) => format!("{:?}", token.version),
        }
    }

    fn good_v3(fields: &str) -> String {
        v3(SECRET, &v3_payload(""), fields)
    }

    fn good_v2(fields: &str) -> String {
        let hmac = hmac(SECRET, &format!("1{UUID}{VID}0{fields}"));
        v2(&format!(r#"{{"t":1,"u":"{UUID}","v":"{VID}","h":"{hmac}"}}"#))
    }

    fn good_v1(fields: &str) -> String {
        let hmac = hmac(SECRET, &format!("{}00{UUID}{VID}{fields}", NOW + 1));
        let scores = r#"{"a":0,"b":0}"#;
        let payload =
            format!(r#"{{"t":{},"s":{scores},"u":"{UUID}","v":"{VID}","h":"{hmac}"}}"#, NOW + 1);
        sealed(SECRET, payload.as_bytes())
    }

    #[test]
    fn only_the_configured_version_is_read() {
        let (three, two, one) = (good_v3(USER_AGENT), good_v2(USER_AGENT), good_v1(USER_AGENT));
        let all = format!("_px={one}; _px2={two}; _px3={three}");
        let legacy = format!("_px={one}; _px2={two}");
        let broken = format!("_px={one}; _px3=x");
        for (configured, cookies, expected) in [
            (TokenVersion::V3, &all, "V3"),
            (TokenVersion::V2, &all, "V2"),
            (TokenVersion::V3OrV1, &all, "V3"),
            (TokenVersion::V3, &legacy, "none"),
            (TokenVersion::V3OrV1, &legacy, "V1"),
            (TokenVersion::V3, &broken, "decryption"),
            (TokenVersion::V3OrV1, &broken, "decryption"),
            (TokenVersion::V2, &broken, "none"),
        ] {
            let mut desk = Desk::new(&[SECRET]);
            desk.options.token_version = configured;
            with_visitor(&mut desk, &[("cookie", cookies.as_bytes())], |visitor| {
                assert_eq!(state(&visitor), expected, "{configured:?}");
                assert_eq!(visitor.origin, CookieOrigin::Cookie);
            });
        }
    }

    #[test]
    fn a_token_header_that_is_not_empty_makes_a_request_mobile() {
        let (mobile, web) = (format!("3:{}", good_v3("")), good_v3(USER_AGENT));
        let cookies = format!("_px3={web}; _pxvid={VID}; _pxhd=hd; pxcts=cts; _pxde=a:InMi");
        for (authorization, expected) in [
            (mobile.as_str(), "V3"),
            ("3:garbage", "decryption"),
            ("abc", "none"),
            ("2", "error 2"),
        ] {
            let headers = [
                ("cookie", cookies.as_bytes()),
                ("X-PX-AUTHORIZATION", authorization.as_bytes()),
                ("X-PX-Bypass-Reason", b"because"),
            ];
            with_visitor(&mut Desk::new(&[SECRET]), &headers, |visitor| {
                assert_eq!(visitor.origin, CookieOrigin::Header);
                assert_eq!(state(&visitor), expected);
                let source = visitor.vid.as_ref().map(|vid| vid.source);
                assert_eq!(source, (expected == "V3").then_some(VidSource::RiskCookie));
                assert_eq!(visitor.pxhd, None);
                assert_eq!(visitor.orig_cookie_vid, None);
                assert_eq!(visitor.cross_tab_session.as_deref(), Some("cts"));
                assert!(visitor.pxde.is_some());
                assert_eq!(visitor.bypass_reason, Some(&b"because"[..]));
            });
        }
        let headers = [
            ("cookie", cookies.as_bytes()),
            ("x-px-authorization", b""),
            ("x-px-original-token", mobile.as_bytes()),
            ("x-px-bypass-reason", b"because"),
        ];
        with_visitor(&mut Desk::new(&[SECRET]), &headers, |visitor| {
            assert_eq!((visitor.origin, state(&visitor)), (CookieOrigin::Cookie, "V3".to_owned()));
            assert_eq!(visitor.pxhd.as_deref(), Some("hd"));
            assert!(visitor.original_token.is_none());
            assert_eq!(visitor.bypass_reason, None);
        });
    }

    #[test]
    fn first_header_that_is_not_empty_counts_and_all_cookie_headers_do() {
        let good = format!("3:{}", good_v3(""));
        for (first, second, third, expected) in [
            ("", good.as_str(), "2", "V3"),
            ("2", good.as_str(), "", "error 2"),
            ("abc", good.as_str(), good.as_str(), "none"),
        ] {
            let headers = [first, second, third].map(|v| ("x-px-authorization", v.as_bytes()));
            with_visitor(&mut Desk::new(&[SECRET]), &headers, |visitor| {
                assert_eq!(state(&visitor), expected);
            });
        }

        let cookie = format!("_px3={}", good_v3(USER_AGENT));
        for (headers, expected) in [
            ([("cookie", "_px3=x"), ("cookie", &cookie)], "V3"),
            ([("cookie", &cookie), ("cookie", "_px3=x")], "decryption"),
            ([("x-px-cookies", &cookie), ("cookie", "_px3=x")], "V3"),
            ([("x-px-cookies", "_px3=x"), ("x-px-cookies", &cookie)], "V3"),
            ([("user-agent", "another"), ("cookie", &cookie)], "V3"),
        ] {
            let headers = headers.map(|(name, value)| (name, value.as_bytes()));
            with_visitor(&mut Desk::new(&[SECRET]), &headers, |visitor| {
                assert_eq!(state(&visitor), expected);
            });
        }
    }

    #[test]
    fn vid_is_the_tokens_before_the_cookies() {
        let other = "00000000-0000-1000-8000-000000000000";
        let token = good_v3(USER_AGENT);
        let without_vid = v3(SECRET, &v3_payload(r#","v":"""#), USER_AGENT);
        let forged = good_v3("another browser");
        for (cookies, vid, original) in [
            (format!("_pxvid={other}"), Some((other, VidSource::VidCookie)), None),
            (format!("_pxvid={other}; _px3={token}"), Some((VID, VidSource::RiskCookie)), None),
            (
                format!("_pxvid={other}; _px3={without_vid}"),
                Some((other, VidSource::VidCookie)),
                None,
            ),
            (format!("_pxvid={other}; _px3={forged}"), Some((other, VidSource::VidCookie)), None),
            (format!("_pxvid=X; _px3={token}"), Some((VID, VidSource::RiskCookie)), Some("X")),
            ("_pxvid=NOT-A-UUID".to_owned(), None, Some("NOT-A-UUID")),
            (format!("pxvid={other}; _pxhd={other}"), None, None),
        ] {
            with_visitor(&mut Desk::new(&[SECRET]), &[("cookie", cookies.as_bytes())], |visitor| {
                let found = visitor.vid.as_ref().map(|vid| (&*vid.text, vid.source));
                assert_eq!(found, vid, "{cookies}");
                assert_eq!(visitor.orig_cookie_vid.as_deref(), original, "{cookies}");
            });
        }
    }

    #[test]
    fn failed_tokens_leave_nothing_but_their_text() {
        let forged = good_v3("another browser");
        let encoded = forged.replace(':', "%3A");
        let alien = v3("third", &v3_payload(""), USER_AGENT);
        for (text, expected, used_secret) in [
            (&forged, "validation", Some(0)),
            (&encoded, "validation", Some(0)),
            (&alien, "decryption", None),
        ] {
            let cookie = format!("_px3={text}");
            with_visitor(&mut Desk::new(&[SECRET]), &[("cookie", cookie.as_bytes())], |visitor| {
                assert_eq!(state(&visitor), expected);
                let (TokenState::ValidationFailed(kept) | TokenState::DecryptionFailed(kept)) =
                    &visitor.token
                else {
                    panic!("{:?}", visitor.token)
                };
                assert_eq!(kept, text);
                assert_eq!(visitor.used_secret, used_secret);
                assert!(visitor.payload().is_none() && visitor.vid.is_none());
            });
        }
    }

    #[test]
    fn legacy_token_with_a_wrong_hmac_still_names_the_visitor() {
        let cookie = format!("_px={}", good_v1("another browser"));
        let mut desk = Desk::new(&[SECRET]);
        desk.options.token_version = TokenVersion::V3OrV1;
        with_visitor(&mut desk, &[("cookie", cookie.as_bytes())], |visitor| {
            assert_eq!(state(&visitor), "validation");
            let payload = visitor.payload().expect("decrypted");
            assert_eq!((payload.score.0, payload.uuid.as_deref()), (0.0, Some(UUID)));
            let vid = visitor.vid.as_ref().map(|vid| (&*vid.text, vid.source));
            assert_eq!(vid, Some((VID, VidSource::RiskCookie)));
            assert_eq!(visitor.used_secret, None);
        });
    }

    #[test]
    fn original_token_is_verified_only_after_a_mobile_error() {
        let header = format!("3:{}", good_v3(""));
        for (authorization, verified) in [("2", true), ("abc", false), ("3:x", false)] {
            let headers = [
                ("x-px-authorization", authorization.as_bytes()),
                ("x-px-original-token", b""),
                ("x-px-original-token", header.as_bytes()),
            ];
            with_visitor(&mut Desk::new(&[SECRET]), &headers, |visitor| {
                let token = visitor.original_token.as_ref().expect("well formed");
                assert_eq!(token.text, header[2..]);
                assert_eq!(token.state != OriginalTokenState::NotVerified, verified);
                assert_eq!(visitor.used_secret, verified.then_some(0));
                assert!(visitor.payload().is_none() && visitor.vid.is_none());
            });
        }
    }

    #[test]
    fn user_agent_is_cut_at_a_character() {
        for (user_agent, max_length, cut) in [
            (&b"abcdef"[..], 4, &b"abcd"[..]),
            (b"abcd", 4, b"abcd"),
            ("\u{e9}\u{e9}\u{e9}".as_bytes(), 3, "\u{e9}\u{e9}\u{e9}".as_bytes()),
            ("\u{e9}\u{e9}\u{e9}".as_bytes(), 2, "\u{e9}\u{e9}".as_bytes()),
            (b"\xff\xfe\xfd", 2, b"\xff\xfe"),
            (b"abc", 0, b""),
            (b"", 0, b""),
        ] {
            let headers = [
                Header { name: b"USER-AGENT", value: user_agent },
                Header { name: b"user-agent", value: b"second" },
            ];
            let request = Request {
                method: b"GET",
                scheme: "https",
                host: b"",
                target: b"/",
                http_version: "1.1",
                headers: &headers,
                peer_ip: "",
                request_id: "",
                tls: Tls::default(),
                hooks: &Hooks::NONE,
                extracted: None,
            };
            assert_eq!(super::user_agent(&request, max_length), cut);
            let request = Request { headers: &[], ..request };
            assert_eq!(super::user_agent(&request, max_length), b"");
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm() {
        let mut big = b"_px3=".to_vec();
        big.resize(1_000_000, b'a');
        let mut colons = b"_pxde=a:".to_vec();
        colons.resize(1_000_000, b':');
        let nulls = [0; 1000];
        for (value, expected) in [
            (&b"_px3=\xff:\xfe:\xfd:\xfc; _pxvid=\xff; _pxhd=\xff; pxcts=\xff"[..], "decryption"),
            (b"_px3=%ff%fe%00:::", "decryption"),
            (b"_px3=\x00\x01\x02", "decryption"),
            (&big, "decryption"),
            (&colons, "none"),
            (&nulls, "none"),
            (b"_px3", "none"),
            (b"_px3=;_px3=", "none"),
        ] {
            for name in ["cookie", "x-px-cookies"] {
                with_visitor(&mut Desk::new(&[SECRET]), &[(name, value)], |visitor| {
                    assert_eq!(state(&visitor), expected);
                });
            }
            for prefix in [&b"3:"[..], b"", b"\xff"] {
                let header = [prefix, value].concat();
                let headers = [
                    ("x-px-authorization", &header[..]),
                    ("x-px-original-token", &header),
                    ("x-px-bypass-reason", value),
                ];
                with_visitor(&mut Desk::new(&[SECRET]), &headers, |visitor| {
                    assert_eq!(state(&visitor) == "decryption", prefix == b"3:");
                });
            }
        }
    }

    #[test]
    fn a_flood_of_forged_tokens_ends_the_budget_and_harms_no_honest_visitor() {
        let mut desk = Desk::new(&[SECRET]);
        desk.options.forged_cookie_budget = 2;
        let forged = format!("_px3={}", v3("third", &v3_payload(""), USER_AGENT));
        let good = format!("_px3={}", good_v3(USER_AGENT));
        for (cookie, expected) in [
            (&forged, "decryption"),
            (&forged, "decryption"),
            (&forged, "validation"),
            (&good, "V3"),
            (&forged, "validation"),
        ] {
            with_visitor(&mut desk, &[("cookie", cookie.as_bytes())], |visitor| {
                assert_eq!(state(&visitor), expected);
            });
        }
    }
}
