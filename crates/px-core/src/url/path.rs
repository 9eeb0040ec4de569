//! Path, query and fragment: WHATWG URL standard § 4.4, from "path start state" on, then what
//! flow.md § 4 adds (steps 2 and 3).

use std::borrow::Cow;

use super::percent;

/// Splits a request target into normalised path and tail (query and fragment).
pub(super) fn normalise(
    target: Cow<'_, str>,
    decode_reserved: bool,
) -> (Cow<'_, str>, Cow<'_, str>) {
    if let Cow::Borrowed(text) = target
        && let Some((path, query)) = split_if_normal(text, decode_reserved)
    {
        return (Cow::Borrowed(path), Cow::Borrowed(query));
    }
    let mut parsed = Parsed::parse(&target);
    if decode_reserved && let Some(decoded) = parsed.decode_reserved() {
        parsed = decoded;
    }
    (Cow::Owned(collapse_slashes(&parsed.path)), Cow::Owned(parsed.tail))
}

/// Path and query of a target that is already normal: the usual case, and the cheap one.
fn split_if_normal(target: &str, decode_reserved: bool) -> Option<(&str, &str)> {
    let query_at = target.bytes().position(|byte| byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at_checked(query_at)?;
    let mut before = 0;
    for byte in path.bytes() {
        let dot_segment_or_empty = before == b'/' && matches!(byte, b'/' | b'.' | b'%');
        let escape = byte == b'%' && decode_reserved;
        if dot_segment_or_empty || escape || byte == b'\\' || percent::PATH.contains(byte) {
            return None;
        }
        before = byte;
    }
    let ends_well = path == "/" || before != b'/';
    let query_is_plain = query.bytes().skip(1).all(|byte| !percent::QUERY.contains(byte));
    (path.starts_with('/') && ends_well && query_is_plain).then_some((path, query))
}

struct Parsed {
    path: String,
    tail: String,
    /// Length of the query, with its `?`, at the start of `tail`.
    query_length: usize,
}

impl Parsed {
    fn parse(target: &str) -> Self {
        let target = target.trim_end_matches(|letter: char| letter <= ' ');
        let target = without_tabs_and_newlines(target);
        let (target, fragment) = split_before(&target, '#');
        let (path, query) = split_before(target, '?');

        let mut tail = String::with_capacity(query.len() + fragment.len());
        encode_after_first(query, &percent::QUERY, &mut tail);
        let query_length = tail.len();
        encode_after_first(fragment, &percent::FRAGMENT, &mut tail);
        Self { path: resolve_segments(path), tail, query_length }
    }

    /// Step 2: the path decoded once and read again. `None` if it cannot be decoded.
    fn decode_reserved(&self) -> Option<Self> {
        let mut text = percent::decode_component(&self.path)?;
        // A query that is only a question mark is no query here: `URL.search` is empty then.
        match self.tail.get(..self.query_length) {
            Some("?") | None => {}
            Some(query) => text.push_str(query),
        }
        Some(Self::parse(&text))
    }
}

fn without_tabs_and_newlines(text: &str) -> Cow<'_, str> {
    const IGNORED: [char; 3] = ['\t', '\n', '\r'];
    if text.contains(IGNORED) { text.replace(IGNORED, "").into() } else { text.into() }
}

/// Splits so that the second part begins with `mark` or is empty.
fn split_before(text: &str, mark: char) -> (&str, &str) {
    text.split_at_checked(text.find(mark).unwrap_or(text.len())).unwrap_or((text, ""))
}

fn encode_after_first(text: &str, set: &percent::EncodeSet, out: &mut String) {
    if let Some(mark) = text.chars().next() {
        out.push(mark);
        set.encode_into(text.get(mark.len_utf8()..).unwrap_or_default(), out);
    }
}

/// "Path state": a backslash is a slash, dot segments are resolved, the rest is encoded.
fn resolve_segments(path: &str) -> String {
    const SEPARATORS: [char; 2] = ['/', '\\'];
    let path = path.strip_prefix(SEPARATORS).unwrap_or(path);
    let mut resolved = String::with_capacity(path.len() + 16);
    let mut segments = path.split(SEPARATORS).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match dots(segment) {
            0 => {
                resolved.push('/');
                percent::PATH.encode_into(segment, &mut resolved);
                continue;
            }
            1 => {}
            _ => resolved.truncate(resolved.rfind('/').unwrap_or(0)),
        }
        if is_last {
            resolved.push('/');
        }
    }
    resolved
}

/// 1 for a single-dot segment, 2 for a double-dot segment, 0 for any other.
pub(super) fn dots(segment: &str) -> usize {
    let mut rest = segment.as_bytes();
    for count in 0.. {
        rest = match rest {
            [] if count <= 2 => return count,
            [b'.', rest @ ..] => rest,
            [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return 0,
        };
    }
    0
}

/// Step 3: no slash at the end, none doubled; the root stays `/`.
fn collapse_slashes(path: &str) -> String {
    let path = path.trim_end_matches('/');
    let mut collapsed = String::with_capacity(path.len() + 1);
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        collapsed.push('/');
        collapsed.push_str(segment);
    }
    if collapsed.is_empty() {
        collapsed.push('/');
    }
    collapsed
}
