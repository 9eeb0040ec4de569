//! nginx's cached wall clock: read once per turn of the event loop.

use nginx_sys::ngx_cached_time;

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    // SAFETY: nginx sets the pointer before it reads configuration; it points to one of its slots.
    let time = unsafe { &*ngx_cached_time };
    u64::try_from(time.sec).unwrap_or_default() * 1000 + time.msec as u64
}
