//! Tokens that are genuine or nearly so, each from a list of choices: the enforcer and a naive reading of
//! the specification must agree on verdict, reason, uuid, visitor's id, action, score and report.
#![no_main]

use libfuzzer_sys::fuzz_target;
use px_fuzz::in_time;
use px_fuzz::visit::{play, recipe};

fuzz_target!(|choices: &[u8]| {
    in_time(|| {
        let (visit, site) = recipe::visit(choices);
        play(&visit, &site);
    });
});
