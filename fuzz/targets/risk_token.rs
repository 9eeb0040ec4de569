//! Risk tokens of all versions. The first letter says what the rest is:
//!
//! `c` a `Cookie` header, `a` an `x-px-authorization` header, `o` an `x-px-original-token` header,
//! as they are; `3`, `2`, `1`, `m` the payload of a genuine token, for a browser or (`m`) an app;
//! `e` edits of a genuine token: pairs of a place and the byte to put there.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_core::enforce::Action;
use px_core::reason::PassReason;
use px_fuzz::visit::{NOW, Played, Site, Visit, play, play_misremembered};
use px_fuzz::{holds_secret, in_time};
use serde_json::Value;

static SITES: LazyLock<[Site; 6]> = LazyLock::new(Site::all);

const GENUINE: &[u8] = br#"{"u":"7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa","v":"c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b","t":1750000330000,"s":0,"a":"c"}"#;

fuzz_target!(|text: &[u8]| {
    if SITES.iter().any(|site| holds_secret(site, text)) {
        return;
    }
    in_time(|| {
        let Some((&kind, rest)) = text.split_first() else { return };
        let unknown = Visit::usual();
        match kind {
            b'c' => on_all_sites(&unknown.with("cookie", rest), rest),
            b'a' => on_all_sites(&unknown.with("x-px-authorization", rest), rest),
            b'o' => {
                let visit = unknown.with("x-px-authorization", "1");
                on_all_sites(&visit.with("x-px-original-token", rest), rest);
            }
            b'3' => genuine(b"~v3", rest, 0, fits_v3),
            b'm' => genuine(b"~mobile", rest, 0, fits_v3),
            b'2' => genuine(b"~v2", rest, 2, |_| None),
            b'1' => genuine(b"~v1", rest, 1, |_| None),
            _ => edited(rest),
        }
    });
});

/// HMACs of the genuine tokens among the seeds. Nobody can sign another.
const SIGNED: [&str; 3] = [
    "664d66673a5f3e8e10cebeb4a7b9d223dabf5eb23c412933f961dab771b987dd",
    "b221c4cc7b04e31bb7b0ba9788687800e9a74ee491caab696bd0a24474dbb20c",
    "48793769315cb9b709f7f8d8e66e6d83832523aff298cfdb07b38de48f8e96b6",
];

/// As received: what nobody signed never passes on its own word.
fn on_all_sites(visit: &Visit, entry: &[u8]) {
    for site in &*SITES {
        let played = play(visit, site);
        let [_, hmac] = signed(&played);
        let passes = played.pass_reason == Some(PassReason::Cookie);
        let is_reported = !played.activity.is_null();
        assert!(!passes || !is_reported || SIGNED.iter().any(|known| hmac == known), "{hmac}");
        play_misremembered(visit, site, entry);
    }
}

/// `fits` tells what a payload must lead to, where that can be told.
fn genuine(form: &[u8], payload: &[u8], site: usize, fits: impl Fn(&[u8]) -> Option<bool>) {
    let mut visit = Visit::usual();
    visit.add_token(form, payload);
    let site = &SITES[site];
    let played = play(&visit, site);
    play_misremembered(&visit, site, payload);
    // Longer ones are refused before they are looked at.
    if payload.len() > 1000 {
        return;
    }
    match fits(payload) {
        Some(true) => assert!(!played.asked, "a genuine token is refused"),
        Some(false) => assert!(played.asked, "an invalid payload decides"),
        None => {}
    }
}

/// Whether a payload of version 3 decides by itself; `None` where that depends on what it signs.
fn fits_v3(payload: &[u8]) -> Option<bool> {
    let text = String::from_utf8_lossy(payload);
    let Ok(Value::Object(payload)) = serde_json::from_str(&text) else { return Some(false) };
    if !matches!(payload.get("x"), None | Some(Value::Null)) {
        return None;
    }
    let has_texts =
        ["u", "v", "a"].iter().all(|key| payload.get(*key).is_some_and(Value::is_string));
    let number = |key: &str| payload.get(key).and_then(Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "exact for this clock")]
    let is_current = number("t").is_some_and(|t| t >= NOW as f64);
    Some(has_texts && number("s").is_some() && is_current)
}

fn edited(edits: &[u8]) {
    let site = &SITES[0];
    let mut original = Visit::usual();
    original.add_token(b"~v3", GENUINE);
    let mut visit = original.clone();
    let (_, token) = visit.headers.last_mut().expect("a token");
    for edit in edits.chunks_exact(2).take(4) {
        let at = usize::from(edit[0]) * token.len() / 256;
        token[at] = edit[1];
    }
    let played = play(&visit, site);
    if played.pass_reason == Some(PassReason::Cookie) {
        assert_eq!(played.action, Some(Action::Pass));
        assert_eq!(signed(&played), signed(&play(&original, site)), "a changed token passes");
    }
}

fn signed(played: &Played) -> [&Value; 2] {
    let details = &played.activity["details"];
    [&details["px_cookie"], &details["px_cookie_hmac"]]
}
