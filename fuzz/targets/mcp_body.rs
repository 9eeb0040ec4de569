//! Bodies of MCP calls: what they are about is reported, their arguments never.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_fuzz::in_time;
use px_fuzz::visit::{Site, Visit, play};

static SITE: LazyLock<Site> = LazyLock::new(Site::reading_bodies);

fuzz_target!(|body: &[u8]| {
    in_time(|| {
        let played = play(&Visit::usual().posting("/mcp", "", body), &SITE);
        assert_eq!(played.activity["details"]["mcp_http_method"], "POST");
    });
});
