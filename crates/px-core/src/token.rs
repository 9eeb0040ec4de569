//! Risk tokens: what a verified one holds, and how a text becomes one.
//!
//! Source: risk-token.md §§ 3 to 7 and 11. The wire forms live in `v3`, `v2` and `v1`, the headers
//! of mobile SDKs in `mobile`.

use std::borrow::Cow;

use crate::crypto::{Budget, Secrets};
use crate::policy::Options;
use crate::request;
use crate::score::Score;
use crate::token_memory::{Key, TokenMemory};
use crate::url::percent;

pub(crate) mod json_text;
#[cfg(test)]
pub(crate) mod minted;
pub(crate) mod mobile;
mod payload;
mod remembered;
mod v1;
mod v2;
mod v3;

pub use mobile::{OriginalToken, OriginalTokenState};
use remembered::Proof;

/// Form of a risk token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `_px`, legacy (risk-token.md § 6).
    V1,
    /// `_px2` (§ 5).
    V2,
    /// `_px3` (§ 4).
    V3,
}

/// What a token says, once it passed every check of its version but expiry and score.
/// (Version 1 has exceptions: see [`Visitor::unverified`](crate::visitor::Visitor::unverified).)
#[derive(Clone, Debug, PartialEq)]
pub struct Token<'r> {
    pub version: Version,
    pub score: Score,
    /// Block action as received; `None` if empty, and in versions that carry none.
    pub action: Option<Cow<'r, str>>,
    /// UUID of the risk decision, not empty. In v3 any text.
    pub uuid: Option<Cow<'r, str>>,
    /// Visitor id, not empty. In v3 any text.
    pub vid: Option<Cow<'r, str>>,
    /// Expiry (`t`), Unix milliseconds; any JSON number.
    pub expires_ms: f64,
    /// Hype sale approval.
    pub cpa: bool,
    /// The payload as compact JSON, reported as `px_cookie` (§ 4.6).
    pub payload: Cow<'r, str>,
    /// Reported as `px_cookie_hmac`.
    pub hmac: Cow<'r, str>,
    /// Index of the secret that decrypted it; v3 only.
    pub used_secret: Option<usize>,
}

impl Token<'_> {
    /// Strictly: a token that expires now is still valid (§ 4.5).
    pub fn is_expired(&self, now_ms: u64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "exact for the next 285 000 years")]
        let now = now_ms as f64;
        now > self.expires_ms
    }

    /// Whether the score reaches the threshold. Version 2 carries a verdict instead of a score,
    /// which no threshold changes (§ 5).
    pub fn is_high_score(&self, blocking_score: u32) -> bool {
        match self.version {
            Version::V2 => self.score.0 > 0.0,
            Version::V1 | Version::V3 => self.score.0 >= f64::from(blocking_score),
        }
    }

    /// `t` as decimal text, for variables.
    pub fn expiry_text(&self) -> String {
        json_text::number(self.expires_ms)
    }
}

/// A token that passed its checks, and what authenticated it, if that is worth remembering.
struct Checked {
    token: Token<'static>,
    proof: Option<Proof>,
}

/// Why a text is no valid token.
#[derive(Debug, PartialEq)]
pub(crate) enum Failure {
    Decryption,
    Validation {
        /// Index of the secret that decrypted the payload; v3 only.
        used_secret: Option<usize>,
        /// What the payload says; v1 only.
        unverified: Option<Box<Token<'static>>>,
    },
}

/// What a token may be signed with besides its own content (§ 4.3).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client<'a> {
    /// The user agent is cut to its maximum length.
    Web { user_agent: &'a [u8], ip: &'a str },
    /// The address counts in v1 only.
    Mobile { ip: &'a str },
}

impl<'a> Client<'a> {
    fn is_mobile(&self) -> bool {
        matches!(self, Self::Mobile { .. })
    }

    /// Apps sign none.
    fn user_agent(&self) -> &'a [u8] {
        match self {
            Self::Web { user_agent, .. } => user_agent,
            Self::Mobile { .. } => b"",
        }
    }

    fn ip(&self) -> &'a str {
        match self {
            Self::Web { ip, .. } | Self::Mobile { ip } => ip,
        }
    }
}

/// What it takes to judge a token of a request that lives for `'r`.
pub(crate) struct Verifier<'a, 'r> {
    pub(crate) options: &'a Options,
    pub(crate) secrets: &'a Secrets,
    pub(crate) client: Client<'a>,
    pub(crate) budget: &'a mut Budget,
    pub(crate) memory: &'a mut dyn TokenMemory<'r>,
    pub(crate) now_ms: u64,
}

impl<'r> Verifier<'_, 'r> {
    /// Checks the token of a cookie completely, but for expiry and score. One that does not split
    /// into its parts may have been percent-encoded on its way, and gets a second chance
    /// (DECISIONS 10).
    pub(crate) fn verify_cookie(
        &mut self,
        version: Version,
        value: &'r [u8],
    ) -> Result<Token<'r>, Failure> {
        // Most hold none, and are their own text.
        let is_plain = memchr::memchr(b'%', value).is_none();
        let decoded = if is_plain { None } else { self.decoded(version, value) };
        match decoded {
            Some(decoded) => self.recall_or_check(version, decoded.as_bytes()),
            None => self.recall_or_check(version, value),
        }
    }

    /// What a cookie stands for that only makes sense once it is decoded. It is remembered as that: one
    /// token has more spellings than any memory has room for, and each would cost a key derivation.
    fn decoded(&self, version: Version, value: &[u8]) -> Option<String> {
        let text = request::text(value);
        let is_spelled_out = version.has_all_parts(&text) || !self.is_within_length(&text);
        if is_spelled_out { None } else { percent_decode(&text) }
    }

    /// Checks the token of a mobile header, verbatim and completely, but for expiry and score.
    pub(crate) fn verify_header(
        &mut self,
        version: Version,
        value: &'r [u8],
    ) -> Result<Token<'r>, Failure> {
        self.recall_or_check(version, value)
    }

    /// The token as the memory knows it, else as a check finds it, which is then remembered.
    fn recall_or_check(&mut self, version: Version, value: &[u8]) -> Result<Token<'r>, Failure> {
        if let Some(token) = self.recall(version, value) {
            return Ok(token);
        }
        let Checked { token, proof } = self.check(version, &request::text(value))?;
        if let Some(proof) = proof {
            remembered::store(self.memory, value, &token, &proof, &self.client);
        }
        Ok(token)
    }

    /// Version 2 is not remembered: it costs no key derivation.
    fn recall(&mut self, version: Version, value: &[u8]) -> Option<Token<'r>> {
        if version == Version::V2 || value.len() > self.options.risk_cookie_max_length {
            return None;
        }
        let is_mobile = self.client.is_mobile();
        self.secrets.iter().find_map(|secret| {
            let key = Key { secret: secret.fingerprint(), is_mobile, token: value };
            let entry = self.memory.find(&key)?;
            let token = remembered::recognise(entry, version, &self.client, self.options)?;
            let used_secret = (version == Version::V3).then_some(secret.index());
            Some(Token { used_secret, ..token })
        })
    }

    /// Checks a token text, whatever the memory knows.
    fn check(&mut self, version: Version, text: &str) -> Result<Checked, Failure> {
        if !self.is_within_length(text) {
            return Err(Failure::Decryption);
        }
        match version {
            Version::V1 => v1::check(text, self),
            Version::V2 => v2::check(text, self),
            Version::V3 => v3::check(text, self),
        }
    }

    fn is_within_length(&self, text: &str) -> bool {
        let limit = self.options.risk_cookie_max_length;
        text.len() <= limit || text.chars().count() <= limit
    }

    /// Whether a token that nothing has authenticated may cost one more key derivation.
    fn may_derive(&mut self) -> bool {
        self.budget.take(self.now_ms, self.options.forged_cookie_budget)
    }
}

impl Version {
    /// Whether the text has the outer form of this version, whatever its parts hold.
    fn has_all_parts(self, text: &str) -> bool {
        match self {
            Self::V1 => text.split(':').count() == 3,
            // One part, which percent signs do not belong to.
            Self::V2 => !text.contains('%'),
            Self::V3 => text.split(':').count() == 4,
        }
    }
}

/// The text with each `%XX` decoded once; `None` if there is no percent sign.
fn percent_decode(text: &str) -> Option<String> {
    let decode = || percent::decode_lenient(text.as_bytes());
    text.contains('%').then(|| String::from_utf8_lossy(&decode()).into_owned())
}

/// Whether the text is a UUID as visitor ids are: lower case, versions 1 to 5 (§ 7).
pub(crate) fn is_uuid(text: &[u8]) -> bool {
    let Ok(text) = <&[u8; 36]>::try_from(text) else { return false };
    let is_dash = |byte: &&u8| **byte == b'-';
    // Without a way out at the first odd byte, many are looked at in one step.
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let letters_fit = text.iter().fold(true, |all, byte| all & (is_hex(byte) | is_dash(&byte)));
    letters_fit
        && text.iter().filter(is_dash).count() == 4
        && [text[8], text[13], text[18], text[23]] == [b'-'; 4]
        && matches!(text[14], b'1'..=b'5')
        && matches!(text[19], b'8' | b'9' | b'a' | b'b')
}

#[cfg(test)]
mod tests {
    use super::minted::*;
    use super::*;

    #[test]
    fn expiry_is_strict_and_score_inclusive() {
        let text = v3(SECRET, &v3_payload(""), USER_AGENT);
        let mut desk = Desk::new(&[SECRET]);
        let token = desk.verify(WEB, Version::V3, &text).expect("valid");
        for (t, expired) in [
            (0.0, true),
            (-1.0, true),
            (1_749_999_999_999.0, true),
            (1_749_999_999_999.5, true),
            (1_750_000_000_000.0, false),
            (1e300, false),
        ] {
            let token = Token { expires_ms: t, ..token.clone() };
            assert_eq!(token.is_expired(NOW), expired, "{t}");
        }
        for (version, score, threshold, high) in [
            (Version::V3, 100.0, 100, true),
            (Version::V3, 99.5, 100, false),
            (Version::V1, 60.0, 60, true),
            (Version::V1, 59.0, 60, false),
            (Version::V3, 0.0, 0, true),
            (Version::V2, 0.0, 0, false),
            (Version::V2, 100.0, 1000, true),
        ] {
            let token = Token { version, score: Score(score), ..token.clone() };
            assert_eq!(token.is_high_score(threshold), high, "{version:?} {score}");
        }
        assert_eq!(token.expiry_text(), "1750000001000");
    }

    #[test]
    fn length_limit_is_inclusive_and_counts_characters() {
        let text = v3(SECRET, &v3_payload(""), USER_AGENT);
        let mut desk = Desk::new(&[SECRET]);
        desk.options.risk_cookie_max_length = text.len();
        assert!(desk.verify(WEB, Version::V3, &text).is_ok());
        desk.options.risk_cookie_max_length = text.len() - 1;
        assert_eq!(desk.verify(WEB, Version::V3, &text), Err(Failure::Decryption));
        desk.options.risk_cookie_max_length = 4;
        assert!(desk.verifier(WEB).is_within_length("\u{e9}\u{e9}\u{e9}\u{e9}"));
        assert!(!desk.verifier(WEB).is_within_length("\u{e9}\u{e9}\u{e9}\u{e9}a"));
    }

    /// The first character and all but letters and digits as `%XX`.
    fn encode(text: &str) -> String {
        let encoded = text.bytes().enumerate().map(|(position, byte)| match byte {
            byte if position > 0 && byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte if position % 2 == 0 => format!("%{byte:02x}"),
            byte => format!("%{byte:02X}"),
        });
        encoded.collect()
    }

    #[test]
    fn encoded_cookies_get_one_second_chance() {
        let v2_hmac = hmac(SECRET, &format!("1{UUID}{VID}0{USER_AGENT}"));
        let v1_hmac = hmac(SECRET, &format!("100{UUID}{VID}{USER_AGENT}"));
        let v1_payload =
            format!(r#"{{"t":1,"s":{{"a":0,"b":0}},"u":"{UUID}","v":"{VID}","h":"{v1_hmac}"}}"#);
        for (version, text) in [
            (Version::V1, sealed(SECRET, v1_payload.as_bytes())),
            (Version::V2, v2(&format!(r#"{{"t":1,"u":"{UUID}","v":"{VID}","h":"{v2_hmac}"}}"#))),
            (Version::V3, v3(SECRET, &v3_payload(""), USER_AGENT)),
        ] {
            let mut desk = Desk::new(&[SECRET]);
            let verbatim = desk.verify_cookie(version, &text);
            assert!(verbatim.is_ok(), "{version:?}: {verbatim:?}");
            assert_eq!(desk.verify_cookie(version, &encode(&text)), verbatim);
            let twice = encode(&encode(&text));
            let broken = ["%", "%%%", "%4", "%zz:%3A:%3A", "%ff%3A%3A%3A", "%3A%3A%3A%"];
            for text in broken.into_iter().chain([&*twice]) {
                assert_eq!(desk.verify_cookie(version, text), Err(Failure::Decryption), "{text}");
            }
            let encoded = encode(&text);
            assert_eq!(desk.verify(WEB, version, &encoded), Err(Failure::Decryption));
            desk.options.risk_cookie_max_length = encoded.len() - 1;
            let token = desk.verify_cookie(version, &encoded);
            assert_eq!(token, Err(Failure::Decryption), "limits hold for the text as received");
        }
    }

    #[test]
    fn percent_signs_are_decoded_once() {
        for (text, decoded) in [
            ("abc", None),
            ("", None),
            ("a%3Ab%3ac", Some("a:b:c")),
            ("%2525", Some("%25")),
            ("a+b%2B", Some("a+b+")),
            ("%", Some("%")),
            ("%3", Some("%3")),
            ("%g0%0g%%41", Some("%g0%0g%A")),
            ("%c3%a9%ff", Some("\u{e9}\u{fffd}")),
            ("\u{e9}%3A", Some("\u{e9}:")),
        ] {
            assert_eq!(percent_decode(text).as_deref(), decoded, "{text}");
        }
    }

    #[test]
    fn visitor_ids_are_lower_case_uuids_of_versions_1_to_5() {
        for (text, valid) in [
            (UUID, true),
            (VID, true),
            ("00000000-0000-1000-8000-000000000000", true),
            ("ffffffff-ffff-5fff-bfff-ffffffffffff", true),
            ("00000000-0000-0000-8000-000000000000", false),
            ("00000000-0000-6000-8000-000000000000", false),
            ("00000000-0000-1000-7000-000000000000", false),
            ("00000000-0000-1000-c000-000000000000", false),
            ("0000000g-0000-1000-8000-000000000000", false),
            ("FFFFFFFF-0000-1000-8000-000000000000", false),
            ("00000000-0000-1000-8000-00000000000", false),
            ("00000000-0000-1000-8000-0000000000000", false),
            ("00000000x0000-1000-8000-000000000000", false),
            ("000000000000100080000000000000000000", false),
            ("", false),
            ("NOT-A-UUID", false),
        ] {
            assert_eq!(is_uuid(text.as_bytes()), valid, "{text}");
        }
    }
}
