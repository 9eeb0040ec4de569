//! Data enrichment (`pxde`): what HUMAN knows about the visitor, signed, for the origin's use.
//!
//! Source: risk-token.md § 9. Opaque to the enforcer; unverified data is never passed on.

use serde_json::Value;

use crate::crypto::{Secrets, decode_base64};
use crate::token::json_text;

/// Data enrichment from the `_pxde` cookie or from the Risk API.
#[derive(Clone, Debug, PartialEq)]
pub struct DataEnrichment {
    /// `null` if the cookie's payload is no JSON.
    pub value: Value,
    /// Signed by HUMAN, or received from the Risk API.
    pub verified: bool,
}

impl DataEnrichment {
    /// Reads `<hmac>:<payload>`. `None` unless there are exactly two non-empty parts.
    pub fn from_cookie(cookie: &[u8], secrets: &Secrets) -> Option<Self> {
        let mut parts = cookie.split(|&byte| byte == b':');
        let (hmac, payload) = (parts.next()?, parts.next()?);
        if hmac.is_empty() || payload.is_empty() || parts.next().is_some() {
            return None;
        }
        // The HMAC covers the text as it stands in the cookie, decodable or not.
        let verified = secrets.authenticate(payload, hmac);
        let value = std::str::from_utf8(payload).ok().and_then(decode_base64);
        let value = value.and_then(|json| json_text::parse(&json));
        Some(Self { value: value.unwrap_or_default(), verified })
    }

    /// Value of the header for the origin: compact JSON, if verified and not `null`.
    pub fn header_value(&self) -> Option<String> {
        (self.verified && !self.value.is_null()).then(|| json_text::compact(&self.value))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::Secret;
    use crate::token::minted::hmac;

    const SECRET: &str = "secret";

    fn read(cookie: &[u8]) -> Option<DataEnrichment> {
        let secrets = [Secret::new("new".to_owned()), Secret::new(SECRET.to_owned())];
        DataEnrichment::from_cookie(cookie, &Secrets::new(&secrets))
    }

    fn signed(payload: &str) -> Vec<u8> {
        format!("{}:{payload}", hmac(SECRET, payload)).into_bytes()
    }

    #[test]
    fn only_two_non_empty_parts_are_data() {
        for cookie in ["", ":", "a", "a:", ":b", "a:b:", "a:b:c", "::"] {
            assert_eq!(read(cookie.as_bytes()), None, "{cookie}");
        }
    }

    #[test]
    fn signature_covers_the_text_whatever_it_decodes_to() {
        for (payload, value, header) in [
            ("eyJjZ3AiOiAxLjB9", json!({"cgp": 1.0}), Some(r#"{"cgp":1}"#)),
            ("eyJjZ3AiOiAxLjB9==", json!(null), None),
            ("InMi", json!("s"), Some(r#""s""#)),
            ("bnVsbA", json!(null), None),
            ("aGVsbG8=", json!(null), None),
            ("###", json!(null), None),
            ("Iv8i", json!("\u{fffd}"), Some("\"\u{fffd}\"")),
        ] {
            let data = read(&signed(payload)).expect(payload);
            assert_eq!((&data.value, data.verified), (&value, true), "{payload}");
            assert_eq!(data.header_value().as_deref(), header, "{payload}");
        }
    }

    #[test]
    fn unverified_data_is_not_passed_on() {
        let other = format!("{}:InMi", hmac("another secret", "InMi"));
        let upper = format!("{}:InMi", hmac(SECRET, "InMi").to_uppercase());
        let cookies = [other.as_bytes(), upper.as_bytes(), b"a:InMi", b"\xff:InMi", b"a:\xff"];
        for cookie in cookies {
            let data = read(cookie).expect("two parts");
            assert!(!data.verified);
            assert_eq!(data.header_value(), None);
        }
    }
}
