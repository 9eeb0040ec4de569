//! Bytes of any kind as JSON text.
//!
//! Headers and methods are bytes, JSON is Unicode: what is not UTF-8 becomes U+FFFD, so that a
//! visitor cannot make a report unreadable.

use std::fmt;

use serde::{Serialize, Serializer};

/// Bytes that are written as a JSON string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl Text<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(self.0))
    }
}

/// Bytes that are written as a JSON string in ASCII lower case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LowerCase<'a>(pub(crate) &'a [u8]);

impl fmt::Display for LowerCase<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let text = String::from_utf8_lossy(self.0);
        text.chars().try_for_each(|letter| f.write_char(letter.to_ascii_lowercase()))
    }
}

impl Serialize for LowerCase<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) if !text.bytes().any(|b| b.is_ascii_uppercase()) => {
                serializer.serialize_str(text)
            }
            _ => serializer.collect_str(self),
        }
    }
}

/// Appends `value` to `out` as compact JSON.
pub(crate) fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    // Writing into memory cannot fail, and none of our values refuses to be serialised.
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: impl Serialize) -> String {
        let mut out = Vec::new();
        write(&value, &mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn any_bytes_become_valid_json() {
        for (bytes, expected) in [
            (&b"plain"[..], r#""plain""#),
            (b"caf\xc3\xa9", "\"caf\u{e9}\""),
            (b"caf\xe9", "\"caf\u{fffd}\""),
            (b"a\"b\\c\x01\n", r#""a\"b\\c\u0001\n""#),
            (b"", r#""""#),
        ] {
            assert_eq!(json(Text(bytes)), expected);
        }
    }

    #[test]
    fn names_are_written_in_lower_case() {
        for (bytes, expected) in [
            (&b"User-Agent"[..], r#""user-agent""#),
            (b"accept", r#""accept""#),
            (b"X-\xc3\x89\"", "\"x-\u{c9}\\\"\""),
            (b"X-\xff", "\"x-\u{fffd}\""),
        ] {
            assert_eq!(json(LowerCase(bytes)), expected);
        }
    }
}
