//! An origin's answer to a login: an operator's expression in the first line, the answer's body behind it.
//! It is found or not, whatever the bytes; in a text it is what the same expression means for a path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use px_core::credentials::BodyRegex;
use px_core::routes::RegexPattern;
use px_fuzz::{first_line, in_time};

fuzz_target!(|text: &[u8]| {
    let (expression, body) = first_line(text);
    let Ok(expression) = std::str::from_utf8(expression) else { return };
    match BodyRegex::parse(expression) {
        Ok(regex) => in_time(|| {
            let is_found = regex.is_match(body);
            if let (Ok(body), Ok(pattern)) =
                (std::str::from_utf8(body), RegexPattern::parse(expression))
            {
                assert_eq!(is_found, pattern.is_found_in(body));
            }
        }),
        Err(error) => assert!(!error.is_empty()),
    }
});
