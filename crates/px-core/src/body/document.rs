//! A JSON document as a tree: members keep their order, texts are borrowed where nothing is escaped.
//!
//! Bodies hold passwords: texts that had to be copied are wiped when the tree goes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use zeroize::Zeroize;

/// Any JSON value. Nesting beyond 128 levels is refused while it is read.
#[derive(Debug)]
pub(crate) enum Document<'b> {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(Text<'b>),
    List(Vec<Self>),
    /// In document order; of members of one name the last counts.
    Object(Vec<(Text<'b>, Self)>),
}

/// A text of a document.
pub(crate) struct Text<'b>(Cow<'b, str>);

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Drop for Text<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(text) = &mut self.0 {
            text.zeroize();
        }
    }
}

/// A visitor's text is no business of a log's.
impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(***)")
    }
}

impl<'b> Document<'b> {
    /// Reads a whole body; `None` if it is not JSON, or not UTF-8.
    pub(crate) fn parse(body: &'b [u8]) -> Option<Self> {
        serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
    }

    /// The value at a dotted path, as the official enforcers walk: objects by name, lists by decimal
    /// index. A scalar on the way ends the walk and is the result (credential-intelligence.md § 2).
    pub(crate) fn walk(&self, path: &str) -> Option<&Self> {
        let mut here = self;
        for step in path.split('.') {
            here = match here {
                Self::Object(_) => here.member(step)?,
                Self::List(items) => items.get(index(step)?)?,
                _ => return Some(here),
            };
        }
        Some(here)
    }

    /// The member of this name, if this is an object.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().rev().find(|(known, _)| known.as_str() == name).map(|(_, value)| value)
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// As JavaScript sees it: `null`, `false`, zero and the empty text are false.
    pub(crate) fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(number) => number.as_f64() != Some(0.0),
            Self::Text(text) => !text.as_str().is_empty(),
            Self::List(_) | Self::Object(_) => true,
        }
    }
}

/// A list's index is written in one way only: no sign, no leading zero.
fn index(step: &str) -> Option<usize> {
    let is_canonical = step == "0" || !step.starts_with('0');
    let is_decimal = step.bytes().all(|byte| byte.is_ascii_digit());
    if is_canonical && is_decimal { step.parse().ok() } else { None }
}

impl<'de: 'b, 'b> Deserialize<'de> for Document<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Document::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Document::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Document::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Document::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Document::Null, Document::Number))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Document::Text(Text(Cow::Borrowed(value))))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Document::Text(Text(Cow::Owned(value.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Document::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Document::Object(object))
    }
}

impl<'de: 'b, 'b> Deserialize<'de> for Text<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(DocumentVisitor)? {
            Document::Text(text) => Ok(text),
            _ => Err(serde::de::Error::custom("a text was expected")),
        }
    }
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text.as_str()),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(None)?;
                for (name, value) in members {
                    map.serialize_entry(name.as_str(), value)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(document: &Document<'_>) -> String {
        serde_json::to_string(document).expect("it can be written")
    }

    #[test]
    fn members_keep_their_order_and_of_one_name_the_last_counts() {
        let text = r#"{"b":1,"a":[true,null,-2,1.5,"x\n"],"b":{"c":"\u00e9"},"":0}"#;
        let document = Document::parse(text.as_bytes()).expect("JSON");
        assert_eq!(written(&document), text.replace("\\u00e9", "\u{e9}"));
        assert_eq!(document.walk("b.c").and_then(Document::as_text), Some("\u{e9}"));
        assert!(document.walk("").is_some_and(|value| !value.is_truthy()));
    }

    #[test]
    fn a_walk_ends_at_a_scalar_and_fails_at_what_is_not_there() {
        let document = Document::parse(br#"{"a":{"b":"x","l":[{"c":1}]},"s":"t"}"#).expect("JSON");
        for (path, expected) in [
            ("a.b", Some("\"x\"")),
            ("a.b.c.d", Some("\"x\"")),
            ("s.x", Some("\"t\"")),
            ("a.l.0.c", Some("1")),
            ("a.l.00", None),
            ("a.l.+0", None),
            ("a.l.1", None),
            ("a.x", None),
            ("x", None),
        ] {
            assert_eq!(document.walk(path).map(written).as_deref(), expected, "{path}");
        }
        let scalar = Document::parse(b"\"x\"").expect("JSON");
        assert_eq!(scalar.walk("any.path").and_then(Document::as_text), Some("x"));
    }

    #[test]
    fn what_is_no_json_is_nothing_and_depth_is_bounded() {
        for body in [&b""[..], b"{", b"{}x", b"\xff", b"\"\xff\"", b"nul", b"1e999"] {
            assert!(Document::parse(body).is_none(), "{body:?}");
        }
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Document::parse(nested(100).as_bytes()).is_some());
        assert!(Document::parse(nested(100_000).as_bytes()).is_none());
    }

    #[test]
    fn no_text_is_printed() {
        let document = Document::parse(br#"{"password":"secret"}"#).expect("JSON");
        assert!(!format!("{document:?}").contains("secret"));
    }
}
