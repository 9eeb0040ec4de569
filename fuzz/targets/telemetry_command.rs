//! The telemetry header. First letter `s`: the timestamp, which is signed here; otherwise the header.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_fuzz::in_time;
use px_fuzz::visit::{NOW, SECRET, Site, Visit, minted, play};

static SITE: LazyLock<Site> = LazyLock::new(Site::plain);

fuzz_target!(|text: &[u8]| {
    in_time(|| {
        let Some((&kind, text)) = text.split_first() else { return };
        let (value, expected) = match kind {
            b's' => (minted::telemetry_command(SECRET, text).into_bytes(), is_current(text)),
            _ => (text.to_vec(), false),
        };
        let visit = Visit::usual().with("X-PX-Enforcer-Telemetry", value);
        assert_eq!(play(&visit, &SITE).telemetry_requested, expected);
    });
});

fn is_current(timestamp: &[u8]) -> bool {
    let is_number = !timestamp.is_empty() && timestamp.iter().all(u8::is_ascii_digit);
    let digits = String::from_utf8_lossy(timestamp);
    is_number && digits.parse::<u128>().unwrap_or(u128::MAX) >= NOW.into()
}
