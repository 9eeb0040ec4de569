//! The JSON object inside a token, whatever its version: strict about types, tolerant of the rest.
//!
//! Source: risk-token.md §§ 4.4, 4.6. Unknown keys are kept for the report.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::json_text;

/// A decrypted or decoded payload.
pub(super) struct Payload(Map<String, Value>);

impl Payload {
    /// `None` if the text is no JSON object.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        json_text::parse(json).map(Self)
    }

    /// Whether all keys are there and none of them is null.
    pub(super) fn has_all(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| self.get(key).is_some())
    }

    /// The value of `key`; absent and null are the same.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64()
    }

    /// JavaScript's truth of a value that may be a flag, a number or absent.
    pub(super) fn is_truthy(&self, key: &str) -> bool {
        self.get(key).is_some_and(json_text::is_truthy)
    }

    /// The text of `key`, `None` if empty: an empty text stands for "not set".
    pub(super) fn non_empty(&self, key: &str) -> Option<Cow<'static, str>> {
        self.text(key).filter(|text| !text.is_empty()).map(|text| Cow::Owned(text.to_owned()))
    }

    /// The payload as it is reported.
    pub(super) fn compact(&self) -> Cow<'static, str> {
        Cow::Owned(json_text::compact(&self.0))
    }
}
