//! What mobile SDKs send in headers: a token with its version, or the number of an error.
//!
//! Source: risk-token.md § 3.

use std::borrow::Cow;

use super::{Failure, Verifier, Version};
use crate::policy::TokenVersion;
use crate::request;

/// What `x-px-authorization` says (§ 3.1).
#[derive(Debug, PartialEq)]
pub(crate) enum Authorization<'r> {
    /// The text as received.
    Token(Version, &'r [u8]),
    /// Digits as received.
    Error(&'r str),
    /// Neither: as good as no token.
    Unknown,
}

impl<'r> Authorization<'r> {
    pub(crate) fn parse(header: &'r [u8], configured: TokenVersion) -> Self {
        if let Some((version, token)) = split_version(header, configured) {
            return Self::Token(version, token);
        }
        if !header.iter().all(u8::is_ascii_digit) {
            return Self::Unknown;
        }
        std::str::from_utf8(header).map_or(Self::Unknown, Self::Error)
    }
}

/// `<version>:<token>` with a version that is read under this configuration and a token that is
/// not empty.
fn split_version(header: &[u8], configured: TokenVersion) -> Option<(Version, &[u8])> {
    let (version, token) = match header {
        [version, b':', token @ ..] if !token.is_empty() => (version, token),
        _ => return None,
    };
    let version = match (version, configured) {
        (b'1', TokenVersion::V3OrV1) => Version::V1,
        (b'2', TokenVersion::V2) => Version::V2,
        (b'3', TokenVersion::V3 | TokenVersion::V3OrV1) => Version::V3,
        _ => return None,
    };
    Some((version, token))
}

/// `x-px-original-token`: the token a mobile SDK had before it ran into an error (§ 3.2).
#[derive(Clone, Debug, PartialEq)]
pub struct OriginalToken<'r> {
    /// Without the version prefix, reported as `original_token`.
    pub text: Cow<'r, str>,
    pub state: OriginalTokenState<'r>,
}

/// What became of an original token. It never changes a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginalTokenState<'r> {
    /// Looked at only if the main header was a mobile error.
    NotVerified,
    /// Payload as compact JSON, reported as `px_decoded_original_token`.
    Successful(Cow<'r, str>),
    DecryptionFailed,
    ValidationFailed,
}

impl<'r> OriginalToken<'r> {
    /// `None` if the header is not of the form `<version>:<token>`. Verified, expiry and score
    /// aside, if there is a `verifier`; the second value is then the index of the secret that
    /// decrypted it.
    pub(crate) fn read(
        header: &'r [u8],
        configured: TokenVersion,
        verifier: Option<&mut Verifier<'_, 'r>>,
    ) -> Option<(Self, Option<usize>)> {
        let (version, value) = split_version(header, configured)?;
        let result = verifier.map(|verifier| verifier.verify_header(version, value));
        let (state, used_secret) = match result {
            None => (OriginalTokenState::NotVerified, None),
            Some(Ok(token)) => (OriginalTokenState::Successful(token.payload), token.used_secret),
            Some(Err(Failure::Decryption)) => (OriginalTokenState::DecryptionFailed, None),
            Some(Err(Failure::Validation { used_secret, .. })) => {
                (OriginalTokenState::ValidationFailed, used_secret)
            }
        };
        Some((Self { text: request::text(value), state }, used_secret))
    }

    /// `px_decoded_original_token`.
    pub fn decoded(&self) -> Option<&str> {
        match &self.state {
            OriginalTokenState::Successful(payload) => Some(payload),
            _ => None,
        }
    }

    /// `original_token_error`.
    pub fn error(&self) -> Option<&'static str> {
        match self.state {
            OriginalTokenState::DecryptionFailed => Some("cookie_decryption_failed"),
            OriginalTokenState::ValidationFailed => Some("cookie_validation_failed"),
            OriginalTokenState::NotVerified | OriginalTokenState::Successful(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::minted::*;
    use super::*;
    use TokenVersion::{V2, V3, V3OrV1};

    #[test]
    fn authorization_is_a_token_of_the_configured_version_or_an_error_number() {
        let token = |version, text: &'static str| Authorization::Token(version, text.as_bytes());
        for (configured, header, expected) in [
            (V3, "3:abc", token(Version::V3, "abc")),
            (V3, "3:a:b:c:d", token(Version::V3, "a:b:c:d")),
            (V3, "3::", token(Version::V3, ":")),
            (V3, "2:abc", Authorization::Unknown),
            (V3, "1:abc", Authorization::Unknown),
            (V3OrV1, "1:abc", token(Version::V1, "abc")),
            (V3OrV1, "3:abc", token(Version::V3, "abc")),
            (V3OrV1, "2:abc", Authorization::Unknown),
            (V2, "2:abc", token(Version::V2, "abc")),
            (V2, "3:abc", Authorization::Unknown),
            (V2, "1:abc", Authorization::Unknown),
            (V3, "3:", Authorization::Unknown),
            (V3, "03:abc", Authorization::Unknown),
            (V3, "abc:def", Authorization::Unknown),
            (V3, ":abc", Authorization::Unknown),
            (V3, "abc", Authorization::Unknown),
            (V3, "1", Authorization::Error("1")),
            (V3, "3", Authorization::Error("3")),
            (V3, "0042", Authorization::Error("0042")),
            (V3, "-1", Authorization::Unknown),
            (V3, "1.0", Authorization::Unknown),
            (V3, "1 2", Authorization::Unknown),
            (V3, "1:", Authorization::Unknown),
            (V3, "\u{661}", Authorization::Unknown),
        ] {
            assert_eq!(Authorization::parse(header.as_bytes(), configured), expected, "{header}");
        }
        assert_eq!(Authorization::parse(b"\xff", V3), Authorization::Unknown);
        let expected = Authorization::Token(Version::V3, b"\xff");
        assert_eq!(Authorization::parse(b"3:\xff", V3), expected);
    }

    #[test]
    fn original_token_is_reported_raw_and_verified_on_demand() {
        let expired = v3_payload("").replace(&(NOW + 1000).to_string(), "1");
        let good = format!("3:{}", v3(SECRET, &expired, ""));
        let wrong_hmac = format!("3:{}", v3(SECRET, &expired, USER_AGENT));
        let alien = format!("3:{}", v3("third", &expired, ""));
        for (header, state, used, error) in [
            (&good, OriginalTokenState::Successful(expired.into()), Some(0), None),
            (
                &wrong_hmac,
                OriginalTokenState::ValidationFailed,
                Some(0),
                Some("cookie_validation_failed"),
            ),
            (&alien, OriginalTokenState::DecryptionFailed, None, Some("cookie_decryption_failed")),
        ] {
            let mut desk = Desk::new(&[SECRET]);
            let mut verifier = desk.verifier(MOBILE);
            let read = OriginalToken::read(header.as_bytes(), V3, Some(&mut verifier));
            let (token, used_secret) = read.expect("well formed");
            assert_eq!(token.text, header[2..]);
            assert_eq!(token.error(), error);
            assert_eq!(token.decoded().is_some(), error.is_none());
            assert_eq!((token.state, used_secret), (state, used));

            let (token, used_secret) =
                OriginalToken::read(header.as_bytes(), V3, None).expect("well formed");
            assert_eq!((token.state, used_secret), (OriginalTokenState::NotVerified, None));
        }
    }

    #[test]
    fn original_token_without_a_version_of_use_is_dropped() {
        for header in ["", "3", "3:", "2:abc", "abc", "a:b:c:d", ":3:abc"] {
            assert_eq!(OriginalToken::read(header.as_bytes(), V3, None), None, "{header}");
        }
    }
}
