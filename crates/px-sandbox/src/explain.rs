//! Explains a risk token: every check an enforcer makes, in its order, with what was found.
//!
//! Implements the reader's side of risk-token.md § 3 to § 6 and § 9 a second time, with strict
//! types and digits as DECISIONS.md has them. Unlike an enforcer it looks further where a check
//! fails: which secret, user agent or address *would* have made the token good.

mod v1;
mod v2;
mod v3;

pub(crate) use self::v2::is_uuid;

use std::fmt::{self, Display};

use serde_json::Value;

use crate::clock::now_ms;
use crate::cookie::Version;
use crate::crypto;

/// What a reader of tokens knows: its configuration, the visitor, the time.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Cookie secrets, current first; the first two count.
    pub secrets: Vec<String>,
    /// The visitor's `User-Agent`, empty for none.
    pub user_agent: String,
    /// The visitor's address as the enforcer extracted it.
    pub ip: String,
    /// The time to judge expiry by, Unix milliseconds.
    pub now_ms: u64,
    /// `px_blocking_score`
    pub blocking_score: f64,
    /// `px_risk_cookie_max_length`, in bytes
    pub max_length: usize,
    /// `px_risk_cookie_min_iterations`
    pub min_iterations: u32,
    /// `px_risk_cookie_max_iterations`
    pub max_iterations: u32,
    /// `px_user_agent_max_length`, in characters
    pub user_agent_max_length: usize,
    /// Read the text as the value of `X-PX-AUTHORIZATION`.
    pub mobile: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            user_agent: String::new(),
            ip: String::new(),
            now_ms: now_ms(),
            blocking_score: 100.0,
            max_length: 2048,
            min_iterations: 500,
            max_iterations: 5000,
            user_agent_max_length: 8528,
            mobile: false,
        }
    }
}

/// What the token alone decides (risk-token.md § 10).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Pass, reason `cookie`.
    Pass,
    /// Block, reason `cookie_high_score`.
    HighScore,
    /// Risk API, reason `cookie_expired`.
    Expired,
    /// Risk API, reason `cookie_validation_failed`.
    ValidationFailed,
    /// Risk API, reason `cookie_decryption_failed`.
    DecryptionFailed,
    /// Risk API, reason `no_cookie`.
    NoToken,
    /// Risk API, reason `mobile_error_<N>`.
    MobileError(String),
    /// No risk token but a `_pxde` cookie, whose signature is good or not.
    Enrichment {
        /// The signature matches one of the first two secrets.
        verified: bool,
    },
}

impl Outcome {
    /// The enforcer's word for it: a pass, block or call reason.
    pub fn reason(&self) -> String {
        match self {
            Self::Pass => "cookie".into(),
            Self::HighScore => "cookie_high_score".into(),
            Self::Expired => "cookie_expired".into(),
            Self::ValidationFailed => "cookie_validation_failed".into(),
            Self::DecryptionFailed => "cookie_decryption_failed".into(),
            Self::NoToken => "no_cookie".into(),
            Self::MobileError(number) => format!("mobile_error_{number}"),
            Self::Enrichment { verified: true } => "pxde_verified".into(),
            Self::Enrichment { verified: false } => "pxde_not_verified".into(),
        }
    }

    /// True where the visitor gets in by this token alone.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Pass | Self::Enrichment { verified: true })
    }
}

/// The steps taken, one line each, and where they led.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// Lines that begin with `ok`, `FAIL` or `note`.
    pub steps: Vec<String>,
    /// The verdict of the token alone.
    pub outcome: Outcome,
}

impl Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        match &self.outcome {
            Outcome::Pass => write!(f, "=> pass, pass_reason cookie"),
            Outcome::HighScore => write!(f, "=> block, block_reason cookie_high_score"),
            Outcome::Enrichment { verified } => write!(f, "=> _pxde verified: {verified}"),
            risk => write!(f, "=> Risk API, s2s_call_reason {}", risk.reason()),
        }
    }
}

/// Reads a token the way an enforcer does and says what happens on the way.
///
/// `text` may be a bare token, a cookie (`_px3=…`, `_px2=…`, `_px=…`, `_pxde=…`, also found in a
/// whole `Cookie` header) or, with [`Reading::mobile`], the value of `X-PX-AUTHORIZATION`.
///
/// ```
/// use px_sandbox::{Mint, Outcome, Reading, explain};
///
/// let reading = Reading { secrets: vec!["k".into()], ..Reading::default() };
/// let explanation = explain(&Mint::v3("k").expired().cookie(), &reading);
/// assert_eq!(explanation.outcome, Outcome::Expired);
/// ```
pub fn explain(text: &str, reading: &Reading) -> Explanation {
    let mut steps = Steps::default();
    let outcome = if reading.mobile {
        mobile(text.trim(), reading, &mut steps)
    } else {
        web(text.trim(), reading, &mut steps)
    };
    Explanation { steps: steps.0, outcome }
}

fn web(text: &str, reading: &Reading, steps: &mut Steps) -> Outcome {
    let (name, token) = match named_cookie(text) {
        Some(found) => found,
        None => (by_shape(text), text),
    };
    if token.is_empty() {
        steps.fail("an empty cookie value counts as no cookie");
        return Outcome::NoToken;
    }
    steps.note(format!("read as {name}, {} bytes", token.len()));
    match name {
        "_pxde" => enrichment(token, reading, steps),
        "_px2" => v2::walk(token, reading, steps),
        "_px" => v1::walk(token, reading, steps),
        _ => match percent_decoded(token, steps) {
            Some(decoded) => v3::walk(&decoded, reading, steps),
            None => v3::walk(token, reading, steps),
        },
    }
}

/// risk-token.md § 3.1
fn mobile(value: &str, reading: &Reading, steps: &mut Steps) -> Outcome {
    if let Some((version, token)) = value.split_once(':') {
        steps.note(format!("mobile header, version {version:?}"));
        match version {
            "3" | "2" | "1" if token.is_empty() => {
                steps.fail("the token behind the version is empty");
                return Outcome::NoToken;
            }
            "3" => return v3::walk(token, reading, steps),
            "2" => return v2::walk(token, reading, steps),
            "1" => return v1::walk(token, reading, steps),
            _ => steps.fail("the version is not 3, 2 or 1: no token"),
        }
        return Outcome::NoToken;
    }
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        steps.note(format!("mobile error {value}: {}", mobile_error(value)));
        return Outcome::MobileError(value.to_owned());
    }
    steps.fail("neither <version>:<token> nor an error number: no token");
    Outcome::NoToken
}

fn mobile_error(number: &str) -> &'static str {
    match number {
        "1" => "the SDK has no token yet",
        "2" => "connection error in the SDK",
        "3" => "certificate pinning error",
        "4" => "SDK bypass, reason in x-px-bypass-reason",
        _ => "unknown error",
    }
}

/// risk-token.md § 9
fn enrichment(value: &str, reading: &Reading, steps: &mut Steps) -> Outcome {
    let parts: Vec<&str> = value.split(':').collect();
    let [hmac, payload] = parts[..] else {
        steps.fail(format!("{} parts, 2 expected: ignored entirely", parts.len()));
        return Outcome::Enrichment { verified: false };
    };
    if hmac.is_empty() || payload.is_empty() {
        steps.fail("an empty part: ignored entirely");
        return Outcome::Enrichment { verified: false };
    }
    match crypto::from_base64(payload)
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
    {
        Some(data) => steps.ok(format!("payload {data}")),
        None => steps.fail("the payload is not base64 of JSON: the value is null"),
    }
    let found = reading
        .usable_secrets()
        .find(|(_, secret)| crypto::hmac_hex(secret, &[payload.as_bytes()]) == hmac);
    match found {
        Some((position, _)) => steps.ok(format!("HMAC matches {}", ordinal(position))),
        None => steps.fail("the HMAC matches none of the first two secrets"),
    }
    Outcome::Enrichment { verified: found.is_some() }
}

/// DECISIONS 10: verbatim first; percent-decoded once where that gives no four parts.
fn percent_decoded(token: &str, steps: &mut Steps) -> Option<String> {
    if token.split(':').count() == 4 || !token.contains('%') {
        return None;
    }
    steps.note("the value holds % and does not split into four parts: percent-decoded once");
    let mut pieces = token.split('%');
    let mut decoded = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let escape = piece.get(..2).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                decoded.extend_from_slice(&piece.as_bytes()[2..]);
            }
            None => {
                decoded.push(b'%');
                decoded.extend_from_slice(piece.as_bytes());
            }
        }
    }
    String::from_utf8(decoded).ok()
}

/// The last risk cookie of a `Cookie` header, or a single `name=value`.
fn named_cookie(text: &str) -> Option<(&'static str, &str)> {
    let text = text.strip_prefix("Cookie:").or(text.strip_prefix("cookie:")).unwrap_or(text);
    let mut found = None;
    for piece in text.split(';') {
        let Some((name, value)) = piece.trim().split_once('=') else { continue };
        let known = ["_px3", "_px2", "_px", "_pxde"].into_iter().find(|known| *known == name);
        // A later cookie of the same name wins, an older generation never over a newer one.
        if let Some(known) = known
            && found.is_none_or(|(before, _)| rank(known) >= rank(before))
        {
            found = Some((known, value));
        }
    }
    found
}

fn rank(name: &str) -> u8 {
    match name {
        "_px3" => 3,
        "_px2" => 2,
        "_px" => 1,
        _ => 0,
    }
}

/// A bare token: `_px3` has four parts, `_px` three, `_pxde` two, `_px2` one that is base64.
fn by_shape(token: &str) -> &'static str {
    match token.split(':').count() {
        3 => Version::V1.cookie_name(),
        2 => "_pxde",
        1 if crypto::from_base64(token).is_some_and(|bytes| bytes.starts_with(b"{")) => {
            Version::V2.cookie_name()
        }
        _ => Version::V3.cookie_name(),
    }
}

impl Reading {
    /// The secrets an enforcer tries, with their position from 0 (risk-token.md § 11).
    fn usable_secrets(&self) -> impl Iterator<Item = (usize, &str)> {
        self.secrets.iter().map(String::as_str).take(2).enumerate()
    }

    /// The user agent as it is signed: cut to the maximum.
    fn signed_user_agent(&self) -> String {
        self.user_agent.chars().take(self.user_agent_max_length).collect()
    }
}

fn ordinal(position: usize) -> &'static str {
    if position == 0 { "the current secret (1st)" } else { "the previous secret (2nd)" }
}

/// Expiry first, then the score: risk-token.md § 4.5.
fn judge_time_and_score(
    expires_at: f64,
    high_score: bool,
    score: &str,
    reading: &Reading,
    steps: &mut Steps,
) -> Outcome {
    #[allow(clippy::cast_precision_loss, reason = "milliseconds fit a double for 285,000 years")]
    let left = expires_at - reading.now_ms as f64;
    if left < 0.0 {
        steps.fail(format!("expired {:.3} s ago", -left / 1000.0));
        return Outcome::Expired;
    }
    steps.ok(format!("valid for another {:.3} s", left / 1000.0));
    if high_score {
        steps.fail(format!("{score}: blocked"));
        return Outcome::HighScore;
    }
    steps.ok(score);
    Outcome::Pass
}

/// The lines of an explanation in the making.
#[derive(Default)]
struct Steps(Vec<String>);

impl Steps {
    fn ok(&mut self, text: impl Display) {
        self.0.push(format!("ok    {text}"));
    }

    fn fail(&mut self, text: impl Display) {
        self.0.push(format!("FAIL  {text}"));
    }

    fn note(&mut self, text: impl Display) {
        self.0.push(format!("note  {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::{Mint, data_enrichment};
    use serde_json::json;

    fn reading() -> Reading {
        Reading {
            secrets: vec!["new".into(), "old".into()],
            user_agent: "UA".into(),
            ip: "192.0.2.1".into(),
            ..Reading::default()
        }
    }

    fn good() -> Mint {
        Mint::v3("new").user_agent("UA").ip("192.0.2.1")
    }

    #[test]
    fn reaches_every_outcome() {
        let cases = [
            (good().cookie(), Outcome::Pass),
            (good().token(), Outcome::Pass),
            (format!("a=1; {}; _pxvid=x", good().cookie()), Outcome::Pass),
            (good().cookie().replace(':', "%3A"), Outcome::Pass),
            (Mint::v3("old").user_agent("UA").cookie(), Outcome::Pass),
            (good().signed_fields("su").cookie(), Outcome::Pass),
            (Mint::v2("old").user_agent("UA").cookie(), Outcome::Pass),
            (Mint::v1("old").user_agent("UA").cookie(), Outcome::Pass),
            (good().score(100).cookie(), Outcome::HighScore),
            (Mint::v2("new").user_agent("UA").score(100).cookie(), Outcome::HighScore),
            (Mint::v1("new").user_agent("UA").score(100).cookie(), Outcome::HighScore),
            (good().expired().score(100).cookie(), Outcome::Expired),
            (good().broken_hmac().cookie(), Outcome::ValidationFailed),
            (good().broken_hmac().expired().cookie(), Outcome::ValidationFailed),
            (good().user_agent("other").cookie(), Outcome::ValidationFailed),
            (good().signed_fields(5).cookie(), Outcome::ValidationFailed),
            (Mint::v3("third").cookie(), Outcome::DecryptionFailed),
            (good().without("a").cookie(), Outcome::DecryptionFailed),
            (good().field("t", "soon").cookie(), Outcome::DecryptionFailed),
            (good().iterations(499).cookie(), Outcome::DecryptionFailed),
            (good().iterations_text("1e3").cookie(), Outcome::DecryptionFailed),
            ("_px3=a:b:c".into(), Outcome::DecryptionFailed),
            ("_px3=".into(), Outcome::NoToken),
        ];
        for (text, outcome) in cases {
            let explanation = explain(&text, &reading());
            assert_eq!(explanation.outcome, outcome, "{text}\n{explanation}");
        }
    }

    #[test]
    fn reads_the_mobile_header() {
        let mobile = Reading { mobile: true, ..reading() };
        for (value, outcome) in [
            (good().mobile().mobile_header(), Outcome::Pass),
            (good().mobile_header(), Outcome::ValidationFailed),
            (Mint::v2("new").mobile().mobile_header(), Outcome::Pass),
            (Mint::v1("new").mobile().mobile_header(), Outcome::Pass),
            ("1".into(), Outcome::MobileError("1".into())),
            ("12".into(), Outcome::MobileError("12".into())),
            ("3:".into(), Outcome::NoToken),
            ("9:abc".into(), Outcome::NoToken),
            ("abc".into(), Outcome::NoToken),
            (String::new(), Outcome::NoToken),
        ] {
            let explanation = explain(&value, &mobile);
            assert_eq!(explanation.outcome, outcome, "{value}\n{explanation}");
        }
    }

    #[test]
    fn says_what_would_have_matched() {
        let said = |mint: Mint| explain(&mint.cookie(), &reading()).to_string();
        assert!(said(good().user_agent("")).contains("without a user agent"));
        assert!(said(good().mobile()).contains("mobile token"));
        let elsewhere = said(good().ip("198.51.100.7").signed_fields("us"));
        assert!(elsewhere.contains(r#"client address "192.0.2.1""#), "{elsewhere}");
    }

    #[test]
    fn reads_data_enrichment() {
        let value = data_enrichment("old", &json!({"cgp": 1}));
        let explanation = explain(&format!("_pxde={value}"), &reading());
        assert_eq!(explanation.outcome, Outcome::Enrichment { verified: true });
        let forged = explain("_pxde=00:e30=", &reading());
        assert_eq!(forged.outcome, Outcome::Enrichment { verified: false });
    }
}
