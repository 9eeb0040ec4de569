//! Bodies of logins. The first line is the content type, the rest the body.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_fuzz::visit::{Site, Visit, play};
use px_fuzz::{first_line, in_time};

static SITE: LazyLock<Site> = LazyLock::new(Site::reading_bodies);

fuzz_target!(|text: &[u8]| {
    in_time(|| {
        let (content_type, body) = first_line(text);
        let content_type = String::from_utf8_lossy(content_type);
        for target in ["/login", "/v1"] {
            play(&Visit::usual().posting(target, &content_type, body), &SITE);
        }
        let query = String::from_utf8_lossy(body);
        play(&Visit::usual().posting(&format!("/query?{query}"), &content_type, ""), &SITE);
    });
});
