//! The `Accept` header, one value per line: is the block answer JSON or a page?
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_core::policy::Options;
use px_fuzz::in_time;
use px_fuzz::visit::{Site, Visit, basic, play};

static SITE: LazyLock<Site> =
    LazyLock::new(|| Site::of(Options { enable_json_response: true, ..basic() }));

fuzz_target!(|values: &[u8]| {
    in_time(|| {
        let mut visit = Visit::usual().answered(200, r#"{"status":0,"score":100,"action":"c"}"#);
        for value in values.split(|&byte| byte == b'\n') {
            visit = visit.with("Accept", value);
        }
        let answer = play(&visit, &SITE).answer.expect("blocked");
        let is_json = answer.content_type == "application/json";
        assert_eq!(is_json, names_json(&String::from_utf8_lossy(values)));
    });
});

/// The same in other words.
fn names_json(values: &str) -> bool {
    values.to_ascii_lowercase().split(['\n', ',']).any(|element| {
        let (media_type, _parameters) = element.split_once(';').unwrap_or((element, ""));
        media_type.trim_matches([' ', '\t', '\r', '\x0c']) == "application/json"
    })
}
