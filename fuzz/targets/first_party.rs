//! Requests to first-party paths: target in the first line, then headers. They lead to HUMAN's hosts and
//! take no header with them that is the site's own (`visit` looks at both).
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_fuzz::visit::{Site, Visit, play};
use px_fuzz::{first_line, holds_secret, in_time};

/// With its own paths, and without.
static SITES: LazyLock<[Site; 6]> = LazyLock::new(Site::all);

fuzz_target!(|text: &[u8]| {
    if SITES.iter().any(|site| holds_secret(site, text)) {
        return;
    }
    in_time(|| {
        let (target, lines) = first_line(text);
        let mut visit = Visit { target: target.to_vec(), ..Visit::usual() };
        for line in lines.split(|byte| *byte == b'\n') {
            if let Some(colon) = line.iter().position(|byte| *byte == b':') {
                let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
                visit.headers.push((name.to_vec(), value.to_vec()));
            }
        }
        for site in &SITES[..2] {
            play(&visit, site);
        }
        // The path alone leads there, whatever stands before and behind it.
        let plain = [b"/abcd1234/xhr/", target].concat();
        play(&Visit { target: plain, ..visit }, &SITES[0]);
    });
});
