//! The sandbox as a traffic-analysis node: what it looks for in mirrored requests, and what it answers.
//!
//! A small set of rules, no web application firewall: enough to see that a gateway sends requests on and
//! heeds the answers.

use std::fmt::{self, Display};

use serde_json::json;

use crate::received::Received;
use crate::reply::Reply;

/// What the node does about an attack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NodeMode {
    /// Says so in its answer, whose status is 200.
    Monitoring,
    /// Answers 403.
    #[default]
    Blocking,
}

impl NodeMode {
    /// `monitoring` or `blocking`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Monitoring => "monitoring",
            Self::Blocking => "blocking",
        }
    }

    /// The mode of a [`word`](Self::word).
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Monitoring, Self::Blocking].into_iter().find(|mode| mode.word() == word)
    }
}

/// A probe that was found in a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attack {
    /// `path_traversal`, `sql_injection` or `xss`.
    pub kind: &'static str,
    /// `target`, `body`, or the name of a header.
    pub place: String,
    /// The text that gave it away.
    pub pattern: &'static str,
}

impl Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} ({:?})", self.kind, self.place, self.pattern)
    }
}

/// What is looked for, in lower case, where runs of white space and SQL comments are one blank.
const RULES: [(&str, &[&str]); 3] = [
    (
        "path_traversal",
        &["../", "..\\", "/etc/passwd", "/etc/shadow", "/proc/self/", "/windows/win.ini"],
    ),
    (
        "sql_injection",
        &[
            "union select ",
            "union all select ",
            "' or '1'='1",
            "' or 1=1",
            "\" or 1=1",
            " or 1=1--",
            "; drop table ",
            "information_schema.",
            "sleep(",
            "benchmark(",
            "waitfor delay ",
        ],
    ),
    (
        "xss",
        &[
            "<script",
            "</script",
            "javascript:",
            " onerror=",
            " onload=",
            "<svg/onload",
            "<iframe",
            "document.cookie",
        ],
    ),
];

impl Attack {
    /// The first probe in target, headers and body, as sent and percent-decoded once and twice, in any
    /// case.
    pub fn find(received: &Received) -> Option<Self> {
        let target = request_target(received);
        let headers = received.headers.iter().filter(|(name, _)| is_visitors(name));
        let places = [("target".to_owned(), target)]
            .into_iter()
            .chain(headers.map(|(name, value)| (name.clone(), value.clone().into_bytes())))
            .chain([("body".to_owned(), received.body.clone())]);
        places.into_iter().find_map(|(place, bytes)| {
            let (kind, pattern) = find_in(&bytes)?;
            Some(Self { kind, place, pattern })
        })
    }
}

/// As it stands in the request line: bytes that are no text are not lost.
fn request_target(received: &Received) -> Vec<u8> {
    let line = received.head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    line.split(|byte| *byte == b' ').nth(1).unwrap_or_default().to_vec()
}

/// Whether a header may hold what a visitor wrote.
fn is_visitors(name: &str) -> bool {
    !name.to_ascii_lowercase().starts_with("x-px-node-")
}

fn find_in(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let mut text = bytes.to_vec();
    for _ in 0..3 {
        let seen = plain(&text);
        for (kind, patterns) in RULES {
            if let Some(pattern) = patterns.iter().find(|pattern| seen.contains(**pattern)) {
                return Some((kind, pattern));
            }
        }
        text = percent_decoded(&text);
    }
    None
}

/// In lower case, a run of blanks, plus signs and SQL comments being one blank.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).to_lowercase().replace("/**/", " ");
    let mut seen = String::with_capacity(text.len());
    for letter in text.chars() {
        let is_blank = letter.is_whitespace() || letter == '+';
        match is_blank {
            true if seen.ends_with(' ') => {}
            true => seen.push(' '),
            false => seen.push(letter),
        }
    }
    seen
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Whether a connector has sent this.
pub(crate) fn is_mirrored(received: &Received) -> bool {
    received.header("x-px-node-protocol").is_some()
}

pub(crate) fn answer(received: &Received, mode: NodeMode) -> Reply {
    if received.header("x-px-node-leg") != Some("request") {
        // A leg that this node does not know.
        return Reply::new(204);
    }
    match Attack::find(received) {
        None => Reply::json(json!({ "verdict": "pass" })),
        Some(attack) => {
            let status = if mode == NodeMode::Blocking { 403 } else { 200 };
            let facts = json!({
                "verdict": "attack",
                "kind": attack.kind,
                "place": attack.place,
                "mode": mode.word(),
            });
            Reply::json(facts).status(status)
        }
    }
}

/// What is not as the mirror protocol has it.
pub(crate) fn complaints(received: &Received) -> Vec<String> {
    let mut complaints = Vec::new();
    for name in [
        "host",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded-for",
        "x-real-ip",
        "x-request-id",
        "x-px-node-protocol",
        "x-px-node-connector",
        "x-px-node-mode",
        "x-px-node-leg",
        "x-px-node-original",
        "x-px-node-body",
    ] {
        let count = received.values(name).count();
        if count != 1 {
            complaints.push(format!("{name} stands {count} times"));
        }
    }
    let one_of = |name: &str, words: &[&str]| {
        let value = received.header(name).unwrap_or_default();
        (!words.contains(&value)).then(|| format!("{name} is {value:?}"))
    };
    complaints.extend(one_of("x-px-node-protocol", &["mirror/1"]));
    complaints.extend(one_of("x-px-node-mode", &["sync", "async"]));
    complaints.extend(one_of("x-forwarded-proto", &["http", "https"]));
    let id = received.header("x-request-id").unwrap_or_default();
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if id.len() != 32 || !id.bytes().all(is_digit) {
        complaints.push(format!("x-request-id is {id:?}"));
    }
    for name in ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"] {
        if received.header(name).is_some() {
            complaints.push(format!("{name} is about the client's connection"));
        }
    }
    complaints.extend(body_complaint(received));
    complaints
}

fn body_complaint(received: &Received) -> Option<String> {
    let note = received.header("x-px-node-body").unwrap_or_default();
    let sent = note.split("; ").find_map(|part| part.strip_prefix("sent="));
    let sent = sent.map_or(Some(0), |sent| sent.parse::<usize>().ok());
    let is_known = note == "none" || note.starts_with("full; ") || note.starts_with("truncated; ");
    let length = received.body.len();
    (!is_known || sent != Some(length))
        .then(|| format!("x-px-node-body is {note:?} and {length} bytes came"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_found_in_every_guise() {
        for (text, kind) in [
            ("/etc/passwd", Some("path_traversal")),
            ("/a/../b", Some("path_traversal")),
            ("/%2e%2e%2fb", Some("path_traversal")),
            ("/%252e%252e%252fb", Some("path_traversal")),
            ("/..%5cwindows", Some("path_traversal")),
            ("/?id=1+UNION+SELECT+a", Some("sql_injection")),
            ("/?id=1%20union/**/select%20a", Some("sql_injection")),
            ("/?id=1'%20or%20'1'='1", Some("sql_injection")),
            ("/?q=<ScRiPt>", Some("xss")),
            ("/?q=%3cimg%20src=x%20onerror=alert(1)%3e", Some("xss")),
            ("/", None),
            ("/a/b.c?d=e..f", None),
            ("/select/union", None),
            ("/100%", None),
            ("/%zz%4", None),
        ] {
            assert_eq!(find_in(text.as_bytes()).map(|(kind, _)| kind), kind, "{text}");
        }
    }

    #[test]
    fn modes_have_words() {
        for mode in [NodeMode::Monitoring, NodeMode::Blocking] {
            assert_eq!(NodeMode::from_word(mode.word()), Some(mode));
        }
        assert_eq!(NodeMode::from_word("off"), None);
    }
}
