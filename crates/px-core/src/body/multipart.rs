//! `multipart/form-data`, as RFC 7578 describes it.
//!
//! Source: credential-intelligence.md § 2: values are trimmed, and empty ones are none. Unlike there
//! they may have several lines (DECISIONS, tag `multipart_single_line`).

use memchr::memmem;
use zeroize::Zeroizing;

use super::text;

/// So many parts are looked at; further ones are as good as absent.
const MAX_PARTS: usize = 1000;

/// The value of the last field called `name` that is no file. `content_type` names the boundary.
pub(crate) fn last(content_type: &str, body: &[u8], name: &str) -> Option<Zeroizing<String>> {
    let boundary = parameter(content_type, "boundary").filter(|boundary| !boundary.is_empty())?;
    let mut found: Option<Zeroizing<String>> = None;
    for part in parts(body, boundary.as_bytes()).take(MAX_PARTS) {
        let Some((head, value)) = split_head(part) else { continue };
        let disposition = disposition(head);
        let is_file = parameter(disposition, "filename").is_some_and(|file| !file.is_empty());
        if !is_file && parameter(disposition, "name") == Some(name) {
            let value = text(value);
            let value = Zeroizing::new(value.trim().to_owned());
            found = Some(value).filter(|value| !value.is_empty()).or(found);
        }
    }
    found
}

/// What stands between the delimiters.
fn parts<'b>(body: &'b [u8], boundary: &[u8]) -> impl Iterator<Item = &'b [u8]> {
    let delimiter = [b"--", boundary].concat();
    let inner = [b"\r\n", &*delimiter].concat();
    // The first delimiter may stand at the very start, where no line ends before it.
    let mut rest = match body.strip_prefix(&*delimiter) {
        Some(rest) => Some(rest),
        None => memmem::find(body, &inner).and_then(|at| body.get(at + inner.len()..)),
    };
    std::iter::from_fn(move || {
        let here = rest?;
        if here.starts_with(b"--") {
            return None;
        }
        // White space may follow the delimiter in its line.
        let line = memmem::find(here, b"\r\n")?;
        let part = here.get(line..)?;
        let end = memmem::find(part, &inner)?;
        rest = part.get(end + inner.len()..);
        part.get(..end)
    })
}

/// The header lines of a part and its content, which an empty line separates.
fn split_head(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let part = part.strip_prefix(b"\r\n")?;
    if let Some(content) = part.strip_prefix(b"\r\n") {
        return Some((&[], content));
    }
    let end = memmem::find(part, b"\r\n\r\n")?;
    Some((part.get(..end)?, part.get(end + 4..)?))
}

/// The value of the `Content-Disposition` line, or nothing.
fn disposition(head: &[u8]) -> &str {
    const NAME: &str = "content-disposition";
    let lines = head.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let values = lines.filter_map(|line| line.split_once(':'));
    let mut own = values.filter(|(name, _)| name.trim().eq_ignore_ascii_case(NAME));
    own.next().map_or("", |(_, value)| value.trim())
}

/// Where a quoted text ends: browsers write a quote inside as `%22`, others with a backslash.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

/// A parameter behind the first `;` of a header's value, its quotes removed.
fn parameter<'h>(value: &'h str, name: &str) -> Option<&'h str> {
    let (_, mut rest) = value.split_once(';')?;
    loop {
        let (known, after) = rest.split_once('=')?;
        // Before it, something without a value may stand.
        let known = known.rsplit(';').next().unwrap_or_default();
        let (text, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_at_checked(end_of_quoted(quoted)?)?,
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        if known.trim().eq_ignore_ascii_case(name) {
            return Some(if after.starts_with('"') { text } else { text.trim() });
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    fn field(content_type: &str, body: &str, name: &str) -> Option<String> {
        last(content_type, body.as_bytes(), name).map(|text| text.to_string())
    }

    fn part(name: &str, value: &str) -> String {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }

    #[test]
    fn fields_are_found_by_name_and_the_last_counts() {
        let body = [part("user", "a"), part("pass", " b\r\nc "), part("user", "d")].concat();
        let body = format!("preamble\r\n{body}--XX--\r\nepilogue");
        assert_eq!(field(TYPE, &body, "user").as_deref(), Some("d"));
        assert_eq!(field(TYPE, &body, "pass").as_deref(), Some("b\r\nc"));
        assert_eq!(field(TYPE, &body, "User"), None);
    }

    #[test]
    fn files_are_no_fields_unless_they_have_no_name() {
        let file = |name: &str| {
            format!(
                "--XX\r\ncontent-type: text/plain\r\ncontent-disposition: form-data; \
                 filename=\"{name}\"; name=\"user\"\r\n\r\nv\r\n--XX--"
            )
        };
        assert_eq!(field(TYPE, &file("a.txt"), "user"), None);
        assert_eq!(field(TYPE, &file(""), "user").as_deref(), Some("v"));
    }

    #[test]
    fn nothing_beside_the_name_hides_it() {
        for (disposition, name, found) in [
            ("form-data; x; name=\"user\"", "user", true),
            ("form-data; x=\"a;b\\\"c\"; name=user", "user", true),
            ("form-data; name=\"a\\\"b\"; filename=\"f\"", "a\\\"b", false),
            ("form-data; name=\" user \"", " user ", true),
            ("form-data; name=\"user", "user", false),
        ] {
            let body = format!("--XX\r\nContent-Disposition: {disposition}\r\n\r\nv\r\n--XX--");
            assert_eq!(field(TYPE, &body, name).is_some(), found, "{disposition}");
        }
    }

    #[test]
    fn a_boundary_may_be_quoted_and_must_be_there() {
        let body = [part("user", "a"), "--XX--".to_owned()].concat();
        for (content_type, found) in [
            ("multipart/form-data; charset=utf-8; Boundary=\"XX\"", true),
            ("multipart/form-data;boundary=XX;x=y", true),
            ("multipart/form-data; boundary=", false),
            ("multipart/form-data; boundary=\"XX", false),
            ("multipart/form-data", false),
            ("multipart/form-data; xboundary=XX", false),
        ] {
            assert_eq!(field(content_type, &body, "user").is_some(), found, "{content_type}");
        }
    }

    #[test]
    fn what_is_torn_is_left_out() {
        let whole = [part("user", "a"), part("pass", "b"), "--XX--".to_owned()].concat();
        for end in 0..whole.len() {
            let torn = &whole[..end];
            let found = field(TYPE, torn, "pass");
            assert!(found.is_none() || found.as_deref() == Some("b"), "{torn}");
        }
    }
}
