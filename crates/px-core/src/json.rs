//! JSON, written straight into a buffer.
//!
//! Headers and methods are bytes, JSON is Unicode: what is not UTF-8 becomes U+FFFD, so that a
//! visitor cannot make a report unreadable. Reports are written on every request: nothing here
//! allocates but the buffer itself, save for text that is not UTF-8.

use std::io::Write as _;

use serde::Serialize;

/// Appends `value` to `out` as compact JSON.
pub(crate) fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    // Writing into memory cannot fail, and none of our values refuses to be serialised.
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

/// Appends an object to `out`; `fill` says what is in it.
pub(crate) fn object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    fill(&mut Object { start: out.len(), out });
    out.push(b'}');
}

/// An object whose members are being written, in the order of the calls.
pub(crate) struct Object<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl Object<'_> {
    pub(crate) fn text(&mut self, key: &str, value: impl AsRef<[u8]>) {
        push_text(self.member(key), value.as_ref());
    }

    /// A word of the protocol, which needs no escaping.
    pub(crate) fn word(&mut self, key: &str, value: &'static str) {
        debug_assert!(is_plain(value.as_bytes()));
        let out = self.member(key);
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }

    /// Left out if there is none.
    pub(crate) fn optional_text(&mut self, key: &str, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// Left out if empty.
    pub(crate) fn text_if_any(&mut self, key: &str, value: impl AsRef<[u8]>) {
        if !value.as_ref().is_empty() {
            self.text(key, value);
        }
    }

    /// ASCII letters in lower case.
    pub(crate) fn text_in_lower_case(&mut self, key: &str, value: &[u8]) {
        let out = self.member(key);
        let before = out.len();
        push_text(out, value);
        out.get_mut(before..).unwrap_or_default().make_ascii_lowercase();
    }

    /// One text in several parts.
    pub(crate) fn joined_text(&mut self, key: &str, parts: &[&str]) {
        let out = self.member(key);
        out.push(b'"');
        parts.iter().for_each(|part| push_escaped(out, part.as_bytes()));
        out.push(b'"');
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        let mut digits = itoa::Buffer::new();
        self.member(key).extend_from_slice(digits.format(value).as_bytes());
    }

    /// Left out if there is none.
    pub(crate) fn optional_number(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        self.member(key).extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(crate) fn value(&mut self, key: &str, value: &impl Serialize) {
        write(value, self.member(key));
    }

    /// A JSON value as text, written as it stands.
    pub(crate) fn json(&mut self, key: &str, value: &str) {
        self.member(key).extend_from_slice(value.as_bytes());
    }

    /// As [`json`](Self::json), under a name that is not ours.
    pub(crate) fn named_json(&mut self, name: &str, value: &str) {
        if self.out.len() != self.start {
            self.out.push(b',');
        }
        push_text(self.out, name.as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn null(&mut self, key: &str) {
        self.json(key, "null");
    }

    pub(crate) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        object(self.member(key), fill);
    }

    pub(crate) fn list(&mut self, key: &str, fill: impl FnOnce(&mut List<'_>)) {
        let out = self.member(key);
        out.push(b'[');
        fill(&mut List { start: out.len(), out });
        out.push(b']');
    }

    /// Begins a member; its value is to follow. Keys are our own words, which need no escaping.
    #[inline(always)]
    fn member(&mut self, key: &str) -> &mut Vec<u8> {
        let out = &mut *self.out;
        let separator: &[u8] = if out.len() == self.start { b"\"" } else { b",\"" };
        out.extend_from_slice(separator);
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        out
    }
}

/// A list whose items are being written.
pub(crate) struct List<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl List<'_> {
    pub(crate) fn text(&mut self, value: &[u8]) {
        push_text(self.item(), value);
    }

    pub(crate) fn object(&mut self, fill: impl FnOnce(&mut Object<'_>)) {
        object(self.item(), fill);
    }

    fn item(&mut self) -> &mut Vec<u8> {
        if self.out.len() != self.start {
            self.out.push(b',');
        }
        self.out
    }
}

/// Appends a string. What is not UTF-8 becomes U+FFFD.
fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    if is_plain(text) {
        out.extend_from_slice(text);
        return;
    }
    // Chunks are found byte by byte, this word by word.
    if std::str::from_utf8(text).is_ok() {
        push_escaped_utf8(out, text);
        return;
    }
    for chunk in text.utf8_chunks() {
        push_escaped_utf8(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Bytes that are looked at together.
const WORD: usize = size_of::<u64>();

/// Whether a text stands in JSON as it is: nearly all do.
fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<WORD>();
    if !words.iter().all(|word| is_plain_word(*word)) {
        return false;
    }
    match text.last_chunk() {
        // What is looked at twice costs less than looking at the rest byte by byte.
        Some(last) => rest.is_empty() || is_plain_word(*last),
        None => rest.iter().all(|byte| is_plain_byte(*byte)),
    }
}

fn is_plain_byte(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// [`is_plain_byte`] for all of them at once. What is wrong with a byte shows in its highest bit; in
/// that of the byte above as well, which does no harm.
fn is_plain_word(word: [u8; WORD]) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    let word = u64::from_le_bytes(word);
    let all = |byte: u8| ONES * u64::from(byte);
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let controls = word.wrapping_sub(all(b' '));
    let (quotes, backslashes) = (zeros(word ^ all(b'"')), zeros(word ^ all(b'\\')));
    // 0x7f and whatever is not ASCII.
    let beyond = word | word.wrapping_add(ONES);
    (controls | quotes | backslashes | beyond) & all(0x80) == 0
}

fn push_escaped_utf8(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, ..b' ' | b'"' | b'\\')) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        rest = from.split_first().map_or(&[], |(special, rest)| {
            push_escape(out, *special);
            rest
        });
    }
    out.extend_from_slice(rest);
}

fn push_escape(out: &mut Vec<u8>, special: u8) {
    let letter = match special {
        b'\x08' => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        b'\x0c' => b'f',
        b'\r' => b'r',
        b'"' | b'\\' => special,
        control => {
            // Writing into memory cannot fail.
            let _ = write!(out, "\\u{control:04x}");
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fill: impl FnOnce(&mut Object<'_>)) -> String {
        let mut out = Vec::new();
        object(&mut out, fill);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn members_are_separated_and_what_is_missing_is_left_out() {
        let json = written(|object| {
            object.optional_text("none", None::<&str>);
            object.text("a", "x");
            object.text_if_any("empty", "");
            object.optional_text("b", Some(""));
            object.number("c", u64::MAX);
            object.optional_number("d", None);
            object.flag("e", false);
            object.joined_text("f", &["x", "", "\"y"]);
            object.object("g", |_| ());
            object.object("h", |inner| inner.flag("i", true));
            object.list("j", |_| ());
            object.list("k", |list| {
                list.text(b"1");
                list.object(|inner| inner.value("l", &0.5));
            });
        });
        let expected = r#"{"a":"x","b":"","c":18446744073709551615,"e":false,"f":"x\"y","g":{},"#
            .to_owned()
            + r#""h":{"i":true},"j":[],"k":["1",{"l":0.5}]}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn any_bytes_become_valid_json() {
        for (bytes, expected) in [
            (&b"plain"[..], r#""plain""#),
            (b"caf\xc3\xa9", "\"caf\u{e9}\""),
            (b"caf\xe9", "\"caf\u{fffd}\""),
            (
                b"\xe2\x82\"\xf0\x9f\x98\x80\xff\xff\\",
                "\"\u{fffd}\\\"\u{1f600}\u{fffd}\u{fffd}\\\\\"",
            ),
            (b"a\"b\\c\x01\n", r#""a\"b\\c\u0001\n""#),
            (b"\x00\x08\x09\x0a\x0b\x0c\x0d\x1f", r#""\u0000\b\t\n\u000b\f\r\u001f""#),
            (b"\x7f/", "\"\x7f/\""),
            (b"", r#""""#),
        ] {
            assert_eq!(written(|object| object.text("k", bytes)), format!("{{\"k\":{expected}}}"));
        }
    }

    #[test]
    fn strings_are_written_as_the_library_writes_them() {
        for byte in 0..=255 {
            for bytes in [vec![byte], vec![b'a', byte, b'"'], vec![0xc3, byte, b'z']] {
                let expected = serde_json::json!({"k": String::from_utf8_lossy(&bytes)});
                assert_eq!(written(|object| object.text("k", &bytes)), expected.to_string());
            }
        }
    }

    #[test]
    fn every_byte_is_seen_wherever_it_stands() {
        for length in 0..=2 * WORD + 3 {
            for at in 0..length {
                for byte in 0..=255 {
                    let mut text = vec![b'~'; length];
                    text[at] = byte;
                    assert_eq!(is_plain(&text), is_plain_byte(byte), "{byte:#x} at {at}");
                }
            }
            assert!(is_plain(&vec![b' '; length]));
        }
    }

    #[test]
    fn names_are_written_in_lower_case() {
        for (bytes, expected) in [
            (&b"User-Agent"[..], r#""user-agent""#),
            (b"accept", r#""accept""#),
            (b"X-\xc3\x89\"", "\"x-\u{c9}\\\"\""),
            (b"X-\xff\x1f", "\"x-\u{fffd}\\u001f\""),
        ] {
            let json = written(|object| object.text_in_lower_case("k", bytes));
            assert_eq!(json, format!("{{\"k\":{expected}}}"));
        }
    }
}
