//! An answer with a Content-Security-Policy, and a visitor's id on its first line: no header can be
//! split, and what was kept reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use px_core::csp::{self, CspPolicy};
use px_fuzz::{first_line, in_time};

fuzz_target!(|data: &[u8]| in_time(|| {
    let (vid, answer) = first_line(data);
    let _ = csp::read_answer(200, answer);
    let kept = csp::read_answer(200, answer).unwrap_or_else(|_| answer.to_vec());
    let Some(policy) = CspPolicy::parse(&kept) else { return };
    for nonce in ["", "abc=", "a'b"] {
        let headers = policy.headers(1, "session", Some(vid), nonce);
        assert!(headers.len() <= 2);
        for (_, value) in headers {
            assert!(!value.contains(char::is_control));
        }
    }
}));
