//! A page that comes in pieces, cut where its first byte says: the snippet stands once before the first
//! end of the head, and nothing else changes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use px_core::snippet::Scanner;
use px_fuzz::in_time;

const SNIPPET: &[u8] = b"[S]";

fuzz_target!(|data: &[u8]| in_time(|| {
    let Some((size, page)) = data.split_first() else { return };
    let mut scanner = Scanner::default();
    let mut out = Vec::new();
    for piece in page.chunks(usize::from(*size).max(1)) {
        let found = scanner.scan(piece);
        if found.before_released {
            out.extend_from_slice(SNIPPET);
        }
        out.extend_from_slice(found.released.as_bytes());
        let kept = &piece[..piece.len() - found.held];
        let at = found.at.unwrap_or(kept.len());
        out.extend_from_slice(&kept[..at]);
        if found.at.is_some() {
            out.extend_from_slice(SNIPPET);
        }
        out.extend_from_slice(&kept[at..]);
    }
    out.extend_from_slice(scanner.finish().as_bytes());

    let lower = page.to_ascii_lowercase();
    let ends = |at: &usize| {
        lower[*at..].starts_with(b"</head")
            && lower.get(at + 6).is_some_and(|b| b.is_ascii_whitespace() || *b == b'>')
    };
    let expected = match (0..page.len()).find(ends) {
        Some(at) => [&page[..at], SNIPPET, &page[at..]].concat(),
        None => page.to_vec(),
    };
    assert_eq!(out, expected);
}));
