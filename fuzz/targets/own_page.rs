//! The operator's own block page, and in the first line a uuid of HUMAN's: the page stays as it is but
//! for one script before the end of its head and the uuid where the page asks for it, and neither says
//! more than it should.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_core::enforce::{self, Outcome, Step, Worker};
use px_core::hooks::Hooks;
use px_core::request::{Request, Tls};
use px_core::token_memory::NoMemory;
use px_fuzz::visit::{Site, basic};
use px_fuzz::{first_line, in_time};
use serde_json::json;

static SITE: LazyLock<Site> = LazyLock::new(|| Site::of(basic()));

fuzz_target!(|text: &[u8]| {
    in_time(|| {
        let (uuid, page) = first_line(text);
        let uuid = String::from_utf8_lossy(uuid);
        for action in ["c", "b", "j"] {
            let filled = filled(&uuid, action, page);
            if action == "b" {
                assert_eq!(filled, page);
                continue;
            }
            check(&filled, page, &uuid);
        }
    });
});

fn filled(uuid: &str, action: &str, page: &[u8]) -> Vec<u8> {
    let request = Request {
        method: b"GET",
        scheme: "https",
        host: b"h.example",
        target: b"/",
        http_version: "1.1",
        headers: &[],
        peer_ip: "203.0.113.77",
        request_id: "",
        tls: Tls::default(),
        hooks: &Hooks::NONE,
        extracted: None,
    };
    let worker = &mut Worker::default();
    let step = enforce::begin(&request, &SITE.policy, worker, &mut NoMemory, 0);
    let Step::AskRisk(pending) = step else { panic!("nobody is asked") };
    let body = json!({"status": 0, "score": 100, "uuid": uuid, "action": action}).to_string();
    let outcome = Outcome::Answer { status: 200, body: body.as_bytes() };
    enforce::resume(*pending, outcome, &SITE.policy, 0).custom_block_page(page)
}

fn check(filled: &[u8], page: &[u8], uuid: &str) {
    const MARK: &[u8] = b"::BLOCK_REF::";
    // The uuid in a text of HTML, in other words.
    let shown: String = uuid
        .chars()
        .map(|letter| match letter {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\'' => "&#39;".to_owned(),
            other => other.to_string(),
        })
        .collect();
    let at = page.windows(7).position(|piece| piece == b"</head>");
    let (before, after) = page.split_at(at.unwrap_or(page.len()));
    let replaced = |piece: &[u8]| {
        let mut out = Vec::new();
        let mut rest = piece;
        while let Some(at) = rest.windows(MARK.len()).position(|piece| piece == MARK) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(shown.as_bytes());
            rest = &rest[at + MARK.len()..];
        }
        out.extend_from_slice(rest);
        out
    };
    if at.is_none() {
        assert_eq!(filled, replaced(page));
        return;
    }
    let (before, after) = (replaced(before), replaced(after));
    let script = filled.strip_prefix(before.as_slice()).expect("what stands before the script");
    let script = script.strip_suffix(after.as_slice()).expect("what stands behind it");
    let script = String::from_utf8_lossy(script);
    let inner = script.strip_prefix("<script>").and_then(|rest| rest.strip_suffix("</script>"));
    let inner = inner.expect("one script");
    // A uuid that holds the mark is its own affair.
    if !uuid.contains("::BLOCK_REF::") {
        assert!(!inner.contains('<'), "{inner}");
        let json = inner.split("window._pxUuid = ").nth(1).expect("the uuid");
        let value: String = serde_json::from_str(json.trim_end_matches(';')).expect("a text");
        assert_eq!(value, uuid);
    }
}
