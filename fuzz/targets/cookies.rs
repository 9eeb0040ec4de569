//! Cookie headers, one per line; a line that begins with `>` is the custom cookie header.
#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_fuzz::in_time;
use px_fuzz::visit::{Site, Visit, play};
use serde_json::Value;

static SITE: LazyLock<Site> = LazyLock::new(Site::plain);

fuzz_target!(|headers: &[u8]| {
    in_time(|| {
        let mut visit = Visit::usual();
        let (mut usual, mut custom) = (Vec::new(), Vec::new());
        for line in headers.split(|&byte| byte == b'\n') {
            let (name, value, list) = match line {
                [b'>', value @ ..] => ("X-PX-Cookies", value, &mut custom),
                value => ("Cookie", value, &mut usual),
            };
            visit = visit.with(name, value);
            list.push(value);
        }
        let played = play(&visit, &SITE);
        let details = &played.activity["details"];
        let reported = |name: &str| details[name].as_str().unwrap_or_default();

        // The same in other words.
        let mut names = Vec::new();
        let mut seen = HashSet::new();
        let (mut pxhd, mut pxcts) = (Vec::new(), Vec::new());
        for piece in usual.into_iter().chain(custom).flat_map(|v| v.split(|&byte| byte == b';')) {
            let is_space = |byte: &&u8| byte.is_ascii_whitespace() || **byte == 0x0b;
            let before = piece.iter().take_while(is_space).count();
            let after = piece[before..].iter().rev().take_while(is_space).count();
            let piece = &piece[before..piece.len() - after];
            let mut parts = piece.splitn(2, |&byte| byte == b'=');
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
            if name.is_empty() || value.is_empty() {
                continue;
            }
            match name {
                b"_pxhd" => pxhd = value.to_vec(),
                b"pxcts" => pxcts = value.to_vec(),
                _ => {}
            }
            if seen.insert(name) {
                names.push(Value::from(String::from_utf8_lossy(name)));
            }
        }
        assert_eq!(details["request_cookie_names"], Value::Array(names));
        assert_eq!(reported("cross_tab_session"), String::from_utf8_lossy(&pxcts));
        let pxhd_reported = played.activity["pxhd"].as_str().unwrap_or_default();
        assert_eq!(pxhd_reported, String::from_utf8_lossy(&pxhd));
    });
});
