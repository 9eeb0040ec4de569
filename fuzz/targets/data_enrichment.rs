//! The `_pxde` cookie. First letter `s`: the payload, which is signed here; otherwise the cookie.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_fuzz::visit::{SECRET, Site, Visit, minted, play};
use px_fuzz::{holds_secret, in_time};
use serde_json::Value;

/// The site that passes data enrichment on.
static SITE: LazyLock<Site> = LazyLock::new(|| Site::all().into_iter().nth(1).expect("a site"));

const SIGNED: &str = r#"{"f_type":"w","f_name":"Google","cgp":1}"#;

fuzz_target!(|text: &[u8]| {
    if holds_secret(&SITE, text) {
        return;
    }
    in_time(|| {
        let Some((&kind, text)) = text.split_first() else { return };
        if kind != b's' {
            let cookie = [b"_pxde=", text].concat();
            let played = play(&Visit::usual().with("cookie", cookie), &SITE);
            // Nobody can sign another than that of the seed.
            assert!(played.enrichment.is_none_or(|text| text == SIGNED));
            return;
        }
        let cookie = format!("_pxde={}", minted::data_enrichment(SECRET, text));
        let played = play(&Visit::usual().with("cookie", cookie), &SITE);
        let value = serde_json::from_str::<Value>(&String::from_utf8_lossy(text));
        let value = value.ok().filter(|value| !value.is_null() && !text.is_empty());
        assert_eq!(played.enrichment.is_some(), value.is_some());
        if let Some(written) = played.enrichment {
            // What was written once is written the same way again.
            let cookie = format!("_pxde={}", minted::data_enrichment(SECRET, written.as_bytes()));
            let again = play(&Visit::usual().with("cookie", cookie), &SITE);
            assert_eq!(again.enrichment, Some(written));
        }
    });
});
