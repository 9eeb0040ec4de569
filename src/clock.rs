//! nginx's cached clocks: read once per turn of the event loop.

use nginx_sys::{ngx_cached_time, ngx_current_msec};

/// The time of day, in milliseconds since the epoch. It may be set at any moment: for what was signed or
/// is shown.
pub(crate) fn now_ms() -> u64 {
    // SAFETY: nginx sets the pointer before it reads configuration; it points to one of its slots.
    let time = unsafe { &*ngx_cached_time };
    u64::try_from(time.sec).unwrap_or_default() * 1000 + time.msec as u64
}

/// Milliseconds by the clock that nothing sets, the same in all processes of the machine: for how long
/// something took, and when it is due.
pub(crate) fn steady_ms() -> u64 {
    // SAFETY: nginx's clock of the running event loop.
    unsafe { ngx_current_msec as u64 }
}
