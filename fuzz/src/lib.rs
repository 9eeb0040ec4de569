//! What fuzz targets share: the checks of `px-core`'s own tests, and a limit on time.

#[path = "../../crates/px-core/tests/visit/mod.rs"]
pub mod visit;

use std::sync::LazyLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What any input may take of a processor; the usual one takes microseconds. Where others crowd the
/// processor's caches, `PX_FUZZ_PATIENCE` gives more, in milliseconds.
static PATIENCE: LazyLock<Duration> = LazyLock::new(|| {
    let given = std::env::var("PX_FUZZ_PATIENCE").ok().and_then(|text| text.parse().ok());
    Duration::from_millis(given.unwrap_or(100))
});

/// Runs `look`; slow work is a finding. A busy machine is not: what counts is the thread's own time, and
/// slow work gets two more chances.
pub fn in_time(mut look: impl FnMut()) {
    let slow = || {
        let started = thread_time();
        look();
        thread_time().saturating_sub(started) > *PATIENCE
    };
    assert!(!std::iter::repeat_with(slow).take(3).all(|is_slow| is_slow), "slow three times over");
}

fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The first line and what follows it.
pub fn first_line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, b""),
    }
}

/// Whether a text holds a secret of the site: nothing that leaves may, so that nothing can be said about
/// such an input. The fuzzer finds the secrets in comparisons.
pub fn holds_secret(site: &visit::Site, text: &[u8]) -> bool {
    site.secrets.iter().any(|secret| visit::tells(text, secret))
}
