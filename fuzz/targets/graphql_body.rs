//! Bodies of GraphQL requests, and the same text as the query of one.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_fuzz::in_time;
use px_fuzz::visit::{Site, Visit, play};
use serde_json::json;

static SITE: LazyLock<Site> = LazyLock::new(Site::reading_bodies);

fuzz_target!(|body: &[u8]| {
    in_time(|| {
        play(&Visit::usual().posting("/graphql", "application/json", body), &SITE);
        let query = String::from_utf8_lossy(body);
        let wrapped = json!([{ "query": query }, { "query": "mutation Last { a }" }]).to_string();
        let played = play(&Visit::usual().posting("/graphql", "", wrapped), &SITE);
        assert!(played.is_sensitive, "nothing hides the second operation");
    });
});
