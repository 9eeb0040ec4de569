//! The value of a cookie that should be a JSON Web Token.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use px_fuzz::visit::{Site, Visit, play};
use px_fuzz::{holds_secret, in_time};

static SITE: LazyLock<Site> = LazyLock::new(Site::reading_bodies);

fuzz_target!(|token: &[u8]| {
    if holds_secret(&SITE, token) {
        return;
    }
    in_time(|| {
        play(&Visit::usual().with("Cookie", [b"auth=", token].concat()), &SITE);
        // The same as claims.
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(token));
        play(&Visit::usual().with("Cookie", format!("auth={token}")), &SITE);
    });
});
