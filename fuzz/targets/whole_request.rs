//! A whole visit, from request to telemetry: the first letter names the site, the rest is what
//! `Visit::parse` reads.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_fuzz::in_time;
use px_fuzz::visit::{Site, Visit, play};

static SITES: LazyLock<[Site; 5]> = LazyLock::new(Site::all);

fuzz_target!(|text: &[u8]| {
    in_time(|| {
        let Some((&site, text)) = text.split_first() else { return };
        play(&Visit::parse(text), &SITES[usize::from(site) % SITES.len()]);
    });
});
