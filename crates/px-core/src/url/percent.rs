//! Percent-encoding: the sets of the WHATWG URL standard § 1.3, and decoding as
//! `decodeURIComponent` does it.

use std::borrow::Cow;

/// Bytes that are encoded in a part of a URL.
pub(super) struct EncodeSet([bool; 256]);

pub(super) static PATH: EncodeSet = EncodeSet::with(b"\"#<>?^`{}");
/// Of URLs with a special scheme, ours among them.
pub(super) static QUERY: EncodeSet = EncodeSet::with(b"\"#<>'");
pub(super) static FRAGMENT: EncodeSet = EncodeSet::with(b"\"<>`");
pub(super) static USERINFO: EncodeSet = EncodeSet::with(b"\"#<>?^`{}/:;=@[\\]|");

impl EncodeSet {
    /// These bytes, controls, the space and what is not ASCII.
    #[expect(clippy::indexing_slicing, reason = "every byte has its place in a table of 256")]
    const fn with(bytes: &[u8]) -> Self {
        let mut table = [true; 256];
        let mut plain = b'!';
        while plain <= b'~' {
            table[plain as usize] = false;
            plain += 1;
        }
        let mut at = 0;
        while at < bytes.len() {
            table[bytes[at] as usize] = true;
            at += 1;
        }
        Self(table)
    }

    pub(super) fn contains(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).copied().unwrap_or(true)
    }

    /// Appends `text` to `out`, encoded.
    pub(super) fn encode_into(&self, text: &str, out: &mut String) {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| self.contains(byte)) {
            let (plain, from) = rest.split_at(at);
            out.push_str(plain);
            let mut letters = from.chars();
            let mut bytes = [0; 4];
            let letter = letters.next().unwrap_or_default().encode_utf8(&mut bytes);
            letter.bytes().for_each(|byte| push_encoded(byte, out));
            rest = letters.as_str();
        }
        out.push_str(rest);
    }
}

/// The bytes as text; those that are not UTF-8 percent-encoded, so that nothing is lost.
pub(super) fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|&byte| push_encoded(byte, &mut text));
    }
    Cow::Owned(text)
}

/// Decodes every escape once; `None` if one is malformed or the result is not UTF-8.
pub(super) fn decode_component(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' { hex(rest.next()?)? << 4 | hex(rest.next()?)? } else { byte });
    }
    String::from_utf8(bytes).ok()
}

/// Decodes well-formed escapes and leaves the others as they are.
pub(crate) fn decode_lenient(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = match after {
            &[high, low, ..] if byte == b'%' => hex(high).zip(hex(low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            None => bytes.push(byte),
        }
    }
    bytes
}

fn push_encoded(byte: u8, out: &mut String) {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    out.push('%');
    out.push(digit(byte >> 4).to_ascii_uppercase());
    out.push(digit(byte & 0xf).to_ascii_uppercase());
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
