//! What fuzz targets share: the checks of `px-core`'s own tests, and a limit on time.

#[path = "../../crates/px-core/tests/visit/mod.rs"]
pub mod visit;

use std::time::{Duration, Instant};

/// What any input may take. The usual one takes microseconds.
const PATIENCE: Duration = Duration::from_millis(100);

/// Runs `look`; slow work is a finding. A busy machine is not, so that slow work gets two more
/// chances.
pub fn in_time(mut look: impl FnMut()) {
    let slow = || {
        let started = Instant::now();
        look();
        started.elapsed() > PATIENCE
    };
    assert!(!std::iter::repeat_with(slow).take(3).all(|is_slow| is_slow), "slow three times over");
}

/// The first line and what follows it.
pub fn first_line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, b""),
    }
}
