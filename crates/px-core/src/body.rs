//! Request bodies, read for what credentials, GraphQL and MCP say in them.
//!
//! Everything here costs time and memory in proportion to the body, whose size the caller bounds
//! (`px_max_body_size`), and whatever cannot be read is as good as absent. Bodies hold passwords:
//! what had to be copied is wiped when it goes.

pub(crate) mod document;
pub(crate) mod form;
pub(crate) mod multipart;

use zeroize::Zeroizing;

/// The bytes as text; what is not UTF-8 becomes U+FFFD.
pub(crate) fn text(bytes: &[u8]) -> Zeroizing<String> {
    /// A replaced byte takes so many.
    const REPLACEMENT: usize = '\u{fffd}'.len_utf8();
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Zeroizing::new(text.to_owned());
    }
    // Made large enough at once: text that moves leaves a copy behind that nobody wipes.
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * REPLACEMENT));
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push('\u{fffd}');
        }
    }
    text
}
