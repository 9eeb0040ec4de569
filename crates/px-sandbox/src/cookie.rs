//! Mints what HUMAN's servers and sensor give to a visitor: risk cookies of three generations,
//! mobile tokens, `_pxde` and signed command headers. Good ones, and every kind of bad one.
//!
//! Implements the sender's side of risk-token.md § 4 to § 6 and § 9 and of
//! remote-config-and-telemetry.md § 1, independently of the enforcer.

use std::time::Duration;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::clock::now_ms;
use crate::crypto;

/// The generation of a risk token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// `_px`, encrypted, with the HMAC inside (risk-token.md § 6).
    V1,
    /// `_px2`, readable, with the HMAC inside (risk-token.md § 5).
    V2,
    /// `_px3`, encrypted and signed (risk-token.md § 4).
    V3,
}

impl Version {
    /// The name of the cookie: `_px`, `_px2` or `_px3`.
    pub fn cookie_name(self) -> &'static str {
        match self {
            Self::V1 => "_px",
            Self::V2 => "_px2",
            Self::V3 => "_px3",
        }
    }

    /// The prefix of the mobile header's value: `1`, `2` or `3`.
    pub fn digit(self) -> char {
        match self {
            Self::V1 => '1',
            Self::V2 => '2',
            Self::V3 => '3',
        }
    }
}

/// A risk token in the making. Starts as a good one (score 0, action `c`, fresh ids, valid for
/// five minutes); every method changes one thing about it.
///
/// ```
/// use px_sandbox::Mint;
///
/// let cookie = Mint::v3("made-up-secret").user_agent("Test/1.0").score(100).action("b").cookie();
/// assert!(cookie.starts_with("_px3="));
/// ```
#[derive(Clone, Debug)]
pub struct Mint {
    version: Version,
    secret: String,
    mobile: bool,
    user_agent: String,
    ip: String,
    signed_fields: Option<Value>,
    score: Value,
    action: Value,
    uuid: String,
    vid: String,
    expires_at: u64,
    fields: Vec<(String, Option<Value>)>,
    payload: Option<String>,
    salt: Vec<u8>,
    iterations: u32,
    iterations_text: Option<String>,
    hmac: Option<String>,
}

impl Mint {
    /// A `_px3` token.
    pub fn v3(secret: impl Into<String>) -> Self {
        Self::new(Version::V3, secret.into())
    }

    /// A `_px2` token; a score of 100 or more sets its block bit.
    pub fn v2(secret: impl Into<String>) -> Self {
        Self::new(Version::V2, secret.into())
    }

    /// A `_px` token.
    pub fn v1(secret: impl Into<String>) -> Self {
        Self::new(Version::V1, secret.into())
    }

    /// A token of the given generation.
    pub fn new(version: Version, secret: impl Into<String>) -> Self {
        Self {
            version,
            secret: secret.into(),
            mobile: false,
            user_agent: String::new(),
            ip: String::new(),
            signed_fields: None,
            score: json!(0),
            action: json!("c"),
            uuid: Uuid::new_v4().to_string(),
            vid: Uuid::new_v4().to_string(),
            expires_at: now_ms() + 300_000,
            fields: Vec::new(),
            payload: None,
            salt: Uuid::new_v4().into_bytes().to_vec(),
            iterations: 1000,
            iterations_text: None,
            hmac: None,
        }
    }

    /// The `User-Agent` the token is bound to (web tokens only).
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// The client address, signed where [`signed_fields`](Self::signed_fields) says so.
    pub fn ip(mut self, ip: impl Into<String>) -> Self {
        self.ip = ip.into();
        self
    }

    /// A mobile token: bound to neither user agent nor address.
    pub fn mobile(mut self) -> Self {
        self.mobile = true;
        self
    }

    /// The payload's `x` (risk-token.md § 4.3): `u` signs the user agent, `s` the address, in the
    /// order given. A `_px` token signs the address when an `s` is in it.
    pub fn signed_fields(mut self, selector: impl Into<Value>) -> Self {
        self.signed_fields = Some(selector.into());
        self
    }

    /// Score, 0 to 100; any JSON value is taken.
    pub fn score(mut self, score: impl Into<Value>) -> Self {
        self.score = score.into();
        self
    }

    /// Block action: `c`, `b`, `r` or `j`; any JSON value is taken.
    pub fn action(mut self, action: impl Into<Value>) -> Self {
        self.action = action.into();
        self
    }

    /// The request UUID of the decision the token stands for.
    pub fn uuid(mut self, uuid: impl Into<String>) -> Self {
        self.uuid = uuid.into();
        self
    }

    /// The visitor id.
    pub fn vid(mut self, vid: impl Into<String>) -> Self {
        self.vid = vid.into();
        self
    }

    /// Expiry in Unix milliseconds.
    pub fn expires_at(mut self, unix_ms: u64) -> Self {
        self.expires_at = unix_ms;
        self
    }

    /// Expiry, counted from now.
    pub fn expires_in(self, ttl: Duration) -> Self {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.expires_at(now_ms().saturating_add(ttl))
    }

    /// A token that ran out a minute ago.
    pub fn expired(self) -> Self {
        self.expires_at(now_ms().saturating_sub(60_000))
    }

    /// Sets any payload member, known or not, of any type: `.field("cpa", true)`.
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), Some(value.into())));
        self
    }

    /// Leaves a payload member out.
    pub fn without(mut self, name: impl Into<String>) -> Self {
        self.fields.push((name.into(), None));
        self
    }

    /// Replaces the payload by this text, JSON or not, sealed and signed like any other.
    pub fn payload(mut self, text: impl Into<String>) -> Self {
        self.payload = Some(text.into());
        self
    }

    /// The bytes of the PBKDF2 salt (16 random ones otherwise).
    pub fn salt(mut self, salt: impl Into<Vec<u8>>) -> Self {
        self.salt = salt.into();
        self
    }

    /// PBKDF2 iterations (1000 otherwise).
    pub fn iterations(mut self, iterations: u32) -> Self {
        self.iterations = iterations;
        self
    }

    /// What the token says about its iterations, while [`iterations`](Self::iterations) are done.
    pub fn iterations_text(mut self, text: impl Into<String>) -> Self {
        self.iterations_text = Some(text.into());
        self
    }

    /// Replaces the HMAC by this text.
    pub fn hmac(mut self, text: impl Into<String>) -> Self {
        self.hmac = Some(text.into());
        self
    }

    /// A well-formed HMAC that does not match.
    pub fn broken_hmac(self) -> Self {
        self.hmac("f".repeat(64))
    }

    /// The token text alone.
    pub fn token(&self) -> String {
        match self.version {
            Version::V3 => {
                let rest = self.seal(&self.payload_text());
                let hmac = self.hmac_over(&[rest.as_bytes(), self.signed_v3().as_bytes()]);
                format!("{hmac}:{rest}")
            }
            Version::V2 => crypto::to_base64(self.payload_text().as_bytes()),
            Version::V1 => self.seal(&self.payload_text()),
        }
    }

    /// `_px3=<token>`, for a `Cookie` header.
    pub fn cookie(&self) -> String {
        format!("{}={}", self.version.cookie_name(), self.token())
    }

    /// `3:<token>`, for `X-PX-AUTHORIZATION` and `X-PX-ORIGINAL-TOKEN`.
    pub fn mobile_header(&self) -> String {
        format!("{}:{}", self.version.digit(), self.token())
    }

    /// The payload, as it is sealed into the token.
    pub fn payload_text(&self) -> String {
        if let Some(text) = &self.payload {
            return text.clone();
        }
        let mut payload = match self.version {
            Version::V3 => self.payload_v3(),
            Version::V2 => self.payload_v2(),
            Version::V1 => self.payload_v1(),
        };
        for (name, value) in &self.fields {
            match value {
                Some(value) => {
                    payload.insert(name.clone(), value.clone());
                }
                None => {
                    payload.shift_remove(name);
                }
            }
        }
        Value::Object(payload).to_string()
    }

    fn payload_v3(&self) -> Map<String, Value> {
        let mut payload = Map::new();
        payload.insert("u".into(), json!(self.uuid));
        payload.insert("v".into(), json!(self.vid));
        payload.insert("t".into(), json!(self.expires_at));
        payload.insert("s".into(), self.score.clone());
        payload.insert("a".into(), self.action.clone());
        if let Some(selector) = &self.signed_fields {
            payload.insert("x".into(), selector.clone());
        }
        payload
    }

    fn payload_v2(&self) -> Map<String, Value> {
        let bit = if self.score.as_f64().is_some_and(|score| score >= 100.0) { "1" } else { "0" };
        let user_agent = if self.mobile { "" } else { self.user_agent.as_str() };
        let time = self.expires_at.to_string();
        let hmac = self.hmac_over(&[
            time.as_bytes(),
            self.uuid.as_bytes(),
            self.vid.as_bytes(),
            bit.as_bytes(),
            user_agent.as_bytes(),
        ]);
        let mut payload = Map::new();
        payload.insert("t".into(), json!(self.expires_at));
        payload.insert("u".into(), json!(self.uuid));
        payload.insert("v".into(), json!(self.vid));
        payload.insert("h".into(), json!(hmac));
        payload
    }

    fn payload_v1(&self) -> Map<String, Value> {
        let (time, score) = (self.expires_at.to_string(), self.score.to_string());
        // risk-token.md § 6: the address stands before the user agent here.
        let ip = if self.signs_ip() { self.ip.as_str() } else { "" };
        let user_agent = if self.mobile { "" } else { self.user_agent.as_str() };
        let hmac = self.hmac_over(&[
            time.as_bytes(),
            b"0",
            score.as_bytes(),
            self.uuid.as_bytes(),
            self.vid.as_bytes(),
            ip.as_bytes(),
            user_agent.as_bytes(),
        ]);
        let mut payload = Map::new();
        payload.insert("t".into(), json!(self.expires_at));
        payload.insert("s".into(), json!({"a": 0, "b": self.score}));
        payload.insert("u".into(), json!(self.uuid));
        payload.insert("v".into(), json!(self.vid));
        payload.insert("h".into(), json!(hmac));
        payload
    }

    fn signs_ip(&self) -> bool {
        self.signed_fields.as_ref().and_then(Value::as_str).is_some_and(|x| x.contains('s'))
    }

    fn signed_v3(&self) -> String {
        if self.mobile {
            return String::new();
        }
        match self.signed_fields.as_ref().and_then(Value::as_str) {
            None | Some("") => self.user_agent.clone(),
            Some(selector) => signed_by_selector(selector, &self.user_agent, &self.ip),
        }
    }

    /// `salt:iterations:ciphertext`
    fn seal(&self, payload: &str) -> String {
        let keys = crypto::derive(&self.secret, &self.salt, self.iterations);
        let iterations = self.iterations.to_string();
        format!(
            "{}:{}:{}",
            crypto::to_base64(&self.salt),
            self.iterations_text.as_deref().unwrap_or(&iterations),
            crypto::to_base64(&crypto::encrypt(&keys, payload.as_bytes()))
        )
    }

    fn hmac_over(&self, parts: &[&[u8]]) -> String {
        self.hmac.clone().unwrap_or_else(|| crypto::hmac_hex(&self.secret, parts))
    }
}

/// risk-token.md § 4.3: what a non-empty selector `x` adds to the signed text.
pub(crate) fn signed_by_selector(selector: &str, user_agent: &str, ip: &str) -> String {
    selector
        .chars()
        .map(|letter| match letter {
            'u' => user_agent,
            's' => ip,
            _ => "",
        })
        .collect()
}

/// The value of a `_pxde` cookie: `hmac:base64` (risk-token.md § 9).
pub fn data_enrichment(secret: &str, data: &Value) -> String {
    let payload = crypto::to_base64(data.to_string().as_bytes());
    format!("{}:{payload}", crypto::hmac_hex(secret, &[payload.as_bytes()]))
}

/// The value of `x-px-enforcer-telemetry` or `x-px-pushdata`: a command that is valid until the
/// given time in Unix milliseconds (remote-config-and-telemetry.md § 1).
pub fn command_header(secret: &str, valid_until_ms: u64) -> String {
    let time = valid_until_ms.to_string();
    let hmac = crypto::hmac_hex(secret, &[time.as_bytes()]);
    crypto::to_base64(format!("{time}:{hmac}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UA: &str = "Mozilla/5.0 (X11; Linux x86_64) TestBrowser/12.3";
    const SECRET: &str = "s3cret-A-made-up-for-tests-0000001";

    fn fixed(version: Version) -> Mint {
        Mint::new(version, SECRET)
            .user_agent(UA)
            .ip("203.0.113.77")
            .uuid("7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa")
            .vid("c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b")
            .expires_at(1_750_000_330_000)
            .salt(*b"made-up-salt-123")
    }

    #[test]
    fn mints_the_tokens_of_the_vectors_byte_for_byte() {
        assert_eq!(
            fixed(Version::V3).token(),
            "664d66673a5f3e8e10cebeb4a7b9d223dabf5eb23c412933f961dab771b987dd:\
             bWFkZS11cC1zYWx0LTEyMw==:1000:ncDau6nKUyKi/4AETvUULI3uWpAy8s3cNseE3GEeZXpVA+wJ1RhteWj8\
             bqYANt1+FT2iHFMMVdl2+cU/vWKJZH2bXp6BSmNga6UkIDN+AQuGrvYiKPT0fu+9gFrMWGDo76fuhXJDfbBb7B\
             ujarpzJPvtXJ0CoJcnlMAK7Y9Hfgc="
        );
        assert_eq!(
            fixed(Version::V2).payload_text(),
            r#"{"t":1750000330000,"u":"7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa","v":"c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b","h":"b221c4cc7b04e31bb7b0ba9788687800e9a74ee491caab696bd0a24474dbb20c"}"#
        );
        assert_eq!(
            fixed(Version::V1).payload_text(),
            r#"{"t":1750000330000,"s":{"a":0,"b":0},"u":"7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa","v":"c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b","h":"48793769315cb9b709f7f8d8e66e6d83832523aff298cfdb07b38de48f8e96b6"}"#
        );
    }

    #[test]
    fn signs_what_the_selector_names_in_its_order() {
        for (selector, signed) in
            [("u", "UA"), ("s", "IP"), ("us", "UAIP"), ("su", "IPUA"), ("uu", "UAUA"), ("q", "")]
        {
            assert_eq!(signed_by_selector(selector, "UA", "IP"), signed, "{selector}");
        }
    }

    #[test]
    fn every_knob_reaches_the_payload() {
        let mint = Mint::v3("k").score(77).action("r").field("cpa", true).without("v");
        let payload: Value = serde_json::from_str(&mint.payload_text()).unwrap();
        assert_eq!(payload["s"], 77);
        assert_eq!(payload["a"], "r");
        assert_eq!(payload["cpa"], true);
        assert_eq!(payload.get("v"), None);
        assert!(mint.broken_hmac().token().starts_with(&"f".repeat(64)));
    }

    #[test]
    fn makes_the_enrichment_cookie_and_the_command_header_of_the_vectors() {
        assert_eq!(
            data_enrichment(SECRET, &json!({"f_type": "w", "f_name": "Google", "cgp": 1})),
            "eecfe111e2c048e3291984423bd8960b83850ca72b140f544a0f0eed9ad5b3bb:\
             eyJmX3R5cGUiOiJ3IiwiZl9uYW1lIjoiR29vZ2xlIiwiY2dwIjoxfQ=="
        );
        let header = command_header("k", 5);
        let decoded = crypto::from_base64(&header).unwrap();
        assert!(decoded.starts_with(b"5:") && decoded.len() == 66);
    }
}
