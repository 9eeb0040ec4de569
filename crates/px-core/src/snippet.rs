//! The sensor's snippet and where it goes in a page: before the first `</head>`, found while the
//! page flows by.
//!
//! Source: snippet-injection.md.

use memchr::memchr;

use crate::block_page::js_string;
use crate::policy::Policy;

/// Bytes of a page that are looked through; who has no head by then gets no snippet.
pub const SCANNED: usize = 64 << 10;

/// What is looked for, in any case; white space or `>` must follow.
const END_OF_HEAD: &[u8] = b"</head";

/// The script element that loads the sensor, by first party where that is on.
pub fn default_snippet(policy: &Policy) -> String {
    let options = policy.options();
    let source = match options.first_party.enabled {
        true => policy.first_party().sensor_script(),
        false => policy.sensor_script_url(),
    };
    format!(
        "<script type=\"text/javascript\">(function(d,w){{w._pxAppId={};\
         var first=d.getElementsByTagName(\"script\")[0],s=d.createElement(\"script\");s.async=1;\
         s.src={};first.parentNode.insertBefore(s,first);}}(document,window));</script>",
        js_string(&options.app_id),
        js_string(source),
    )
}

/// Looks through a page that comes in pieces.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    /// The beginning of a possible end of head at the end of the last piece, as it was written.
    held: [u8; END_OF_HEAD.len()],
    held_length: usize,
    scanned: usize,
    is_over: bool,
}

/// What is to be done with one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What was held back of earlier pieces goes out before this piece; the snippet before it, if it is
    /// to stand there.
    pub released: Held,
    /// The snippet goes out before what was held back.
    pub before_released: bool,
    /// The snippet goes out after so many bytes of the piece.
    pub at: Option<usize>,
    /// So many bytes at the piece's end are held back.
    pub held: usize,
}

/// A few bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    bytes: [u8; END_OF_HEAD.len()],
    length: usize,
}

impl Held {
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Scanner {
    /// Whether nothing more is looked for, and nothing held back.
    pub fn is_over(&self) -> bool {
        self.is_over && self.held_length == 0
    }

    /// Looks at the next piece.
    pub fn scan(&mut self, piece: &[u8]) -> Found {
        let mut found =
            Found { released: Held::default(), before_released: false, at: None, held: 0 };
        if self.is_over || piece.is_empty() {
            return found;
        }
        let mut matched = self.held_length;
        // Where what is matched so far begins; `None`: in what is held back.
        let mut start = (matched == 0).then_some(0);
        let mut next = 0;
        while let Some(byte) = piece.get(next) {
            let at = next;
            next += 1;
            if matched == 0 && *byte != b'<' {
                // Nearly all of a page is none of it.
                next = memchr(b'<', piece.get(at..).unwrap_or_default())
                    .map_or(piece.len(), |distance| at + distance);
                start = Some(next);
                continue;
            }
            if matched == END_OF_HEAD.len() {
                if byte.is_ascii_whitespace() || *byte == b'>' {
                    found.released = self.release();
                    found.before_released = start.is_none();
                    found.at = start;
                    self.is_over = true;
                    return found;
                }
                matched = 0;
            }
            // The text has one `<` only, at its beginning: a mismatch can begin anew with this byte.
            if END_OF_HEAD.get(matched).is_some_and(|b| byte.eq_ignore_ascii_case(b)) {
                if matched == 0 {
                    start = Some(at);
                }
                matched += 1;
            } else {
                matched = usize::from(*byte == b'<');
                start = Some(at);
            }
        }
        self.scanned += piece.len();
        if self.scanned > SCANNED {
            self.is_over = true;
            found.released = self.release();
            return found;
        }
        match start {
            // All of the piece goes on where earlier ones ended.
            None => found.held = piece.len(),
            Some(_) => {
                found.released = self.release();
                found.held = matched;
            }
        }
        let held = piece.get(piece.len() - found.held..).unwrap_or_default();
        for byte in held {
            if let Some(place) = self.held.get_mut(self.held_length) {
                *place = *byte;
                self.held_length += 1;
            }
        }
        found
    }

    /// The page has ended: what is still held back.
    pub fn finish(&mut self) -> Held {
        self.is_over = true;
        self.release()
    }

    fn release(&mut self) -> Held {
        let held = Held { bytes: self.held, length: self.held_length };
        self.held_length = 0;
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::policy;

    const SNIPPET: &[u8] = b"[SNIPPET]";

    /// The page as it leaves if it comes in these pieces.
    fn injected<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Vec<u8> {
        let mut scanner = Scanner::default();
        let mut out = Vec::new();
        for piece in pieces {
            let found = scanner.scan(piece);
            assert!(!(found.before_released && found.at.is_some()));
            if found.before_released {
                out.extend_from_slice(SNIPPET);
            }
            out.extend_from_slice(found.released.as_bytes());
            let kept = &piece[..piece.len() - found.held];
            match found.at {
                Some(at) => {
                    out.extend_from_slice(&kept[..at]);
                    out.extend_from_slice(SNIPPET);
                    out.extend_from_slice(&kept[at..]);
                }
                None => out.extend_from_slice(kept),
            }
        }
        out.extend_from_slice(scanner.finish().as_bytes());
        out
    }

    /// Where the snippet belongs, by looking at the whole.
    fn expected(page: &[u8]) -> Vec<u8> {
        let lower = page.to_ascii_lowercase();
        let is_end = |at: &usize| {
            lower[*at..].starts_with(b"</head")
                && lower.get(at + 6).is_some_and(|b| b.is_ascii_whitespace() || *b == b'>')
        };
        match (0..page.len()).find(is_end) {
            Some(at) => [&page[..at], SNIPPET, &page[at..]].concat(),
            None => page.to_vec(),
        }
    }

    const PAGES: &[&str] = &[
        "",
        "<",
        "</head>",
        "</head",
        "<html><head><title>x</title></head><body></body></html>",
        "<HTML><HEAD></HEAD ><BODY>",
        "<head></header></head\n><body>",
        "<<</head></head>",
        "</he</head>",
        "</heade></headx></head\t>",
        "</head/></head>",
        "<!-- </head> --></head>",
        "<head>caf\u{e9} \u{1f600}</HeAd></head>",
        "</hea",
        "no head at all",
    ];

    #[test]
    fn a_page_split_anywhere_gets_it_once_in_the_right_place() {
        for page in PAGES {
            let page = page.as_bytes();
            let whole = expected(page);
            for first in 0..=page.len() {
                for second in first..=page.len() {
                    let pieces = [&page[..first], &page[first..second], &page[second..]];
                    let received = injected(pieces.into_iter());
                    assert_eq!(received, whole, "{first} {second}");
                }
            }
            assert_eq!(injected(page.chunks(1)), whole, "byte by byte");
        }
    }

    #[test]
    fn who_has_no_head_soon_gets_none() {
        for (filler, is_found) in [(SCANNED - 8, true), (SCANNED + 2000, false)] {
            let page = [" ".repeat(filler).as_bytes(), b"</head>", b"rest"].concat();
            let received = injected(page.chunks(1000));
            assert_eq!(received.len() > page.len(), is_found, "{filler}");
        }
        // A piece that crosses the limit is looked through whole.
        let page = [" ".repeat(SCANNED * 2).as_bytes(), b"</head>"].concat();
        assert_eq!(injected([&*page].into_iter()), expected(&page));
    }

    #[test]
    fn the_snippet_agrees_with_first_party() {
        let own = policy(|options| options.first_party.prefix = "/fp".to_owned());
        let snippet = default_snippet(&own);
        assert!(snippet.starts_with("<script type=\"text/javascript\">"), "{snippet}");
        assert!(snippet.ends_with("</script>"));
        assert!(snippet.contains("w._pxAppId=\"PXabcd1234\";"));
        assert!(snippet.contains("s.src=\"/fp/init.js\";"));
        let own = policy(|options| options.first_party.enabled = false);
        let source = "s.src=\"https://client.perimeterx.net/PXabcd1234/main.min.js\";";
        assert!(default_snippet(&own).contains(source));
    }
}
