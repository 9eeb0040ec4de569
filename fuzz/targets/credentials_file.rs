//! The credentials file, and the words of an endpoint.
#![no_main]

use libfuzzer_sys::fuzz_target;
use px_core::credentials::Endpoint;

fuzz_target!(|text: &[u8]| {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let whole = |endpoint: &Endpoint| {
        assert!(!endpoint.method.is_empty());
        let is_custom = endpoint.user_fields.is_empty() && endpoint.pass_fields.is_empty();
        assert!(is_custom || endpoint.user_fields.iter().all(|name| !name.is_empty()));
    };
    match Endpoint::all_of_file(text) {
        Ok(endpoints) => endpoints.iter().for_each(whole),
        Err(error) => assert!(!error.is_empty()),
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    if let Ok(endpoint) = Endpoint::of_words(&words) {
        whole(&endpoint);
    }
});
