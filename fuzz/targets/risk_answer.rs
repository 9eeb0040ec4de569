//! What the Risk API answers: status (or `timeout`, `unreachable`) in the first line, body behind it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_fuzz::visit::{Reply, Site, Visit, play};
use px_fuzz::{first_line, in_time};

static SITES: LazyLock<[Site; 6]> = LazyLock::new(Site::all);

fuzz_target!(|answer: &[u8]| {
    in_time(|| {
        let (status, body) = first_line(answer);
        let reply = match status {
            b"timeout" => Reply::Timeout,
            b"unreachable" => Reply::Unreachable(String::from_utf8_lossy(body).into_owned()),
            b"not_made" => Reply::NotMade(String::from_utf8_lossy(body).into_owned()),
            digits => {
                let status = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
                Reply::Http(status.unwrap_or(200), body.to_vec())
            }
        };
        let browser = Visit { reply, ..Visit::usual() };
        let app = browser.clone().with("x-px-authorization", "1");
        let script = browser.clone().with("accept", "application/json").with("origin", "https://a");
        for visit in [browser, app, script] {
            for site in &*SITES {
                play(&visit, site);
            }
        }
    });
});
