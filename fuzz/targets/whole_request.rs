//! A whole visit, from request to telemetry: the first letter names the site, the rest is what
//! `Visit::parse` reads.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_fuzz::visit::{Site, Visit, play};
use px_fuzz::{holds_secret, in_time};

static SITES: LazyLock<[Site; 6]> = LazyLock::new(Site::all);

fuzz_target!(|text: &[u8]| {
    if SITES.iter().any(|site| holds_secret(site, text)) {
        return;
    }
    in_time(|| {
        let Some((&site, text)) = text.split_first() else { return };
        play(&Visit::parse(text), &SITES[usize::from(site) % SITES.len()]);
    });
});
