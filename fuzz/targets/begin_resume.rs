//! The whole enforcer, from request to telemetry. The first line is what the operator chose
//! (`Choices::read`), the rest are visits as `Visit::parse` reads them, one after the other, with lines
//! `~next` between them. Whatever it is: no panic, always a decision, and only a decision blocks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use px_core::policy::Policy;
use px_fuzz::visit::{Choices, Site, Visit, play_in_turn};
use px_fuzz::{first_line, holds_secret, in_time};

fuzz_target!(|text: &[u8]| {
    in_time(|| {
        let (words, rest) = first_line(text);
        let choices = Choices::read(&String::from_utf8_lossy(words));
        let policy = match Policy::compile(choices.options.clone()) {
            Ok(policy) => policy,
            Err(error) => return assert!(!error.to_string().contains('\n'), "{error}"),
        };
        choices.lend(|hooks| {
            let mut site = Site::with(policy, hooks);
            site.cors_headers = choices.cors_headers();
            if !holds_secret(&site, text) {
                play_in_turn(&Visit::parse_each(rest), &site);
            }
        });
    });
});
