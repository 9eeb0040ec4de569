//! Lines in nginx's error log, with nginx's levels and manners.
//!
//! Never a secret, token, cookie or credential, at any level.

pub(crate) use px_core::reason::LoggerSeverity as Severity;

use nginx_sys::{
    NGX_LOG_ALERT, NGX_LOG_DEBUG, NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE,
    NGX_LOG_WARN, ngx_conf_log_error, ngx_conf_t, ngx_cycle, ngx_cycle_t, ngx_http_request_t,
    ngx_log_error_core, ngx_log_t, ngx_uint_t,
};

pub(crate) const EMERG: ngx_uint_t = NGX_LOG_EMERG as ngx_uint_t;
pub(crate) const ALERT: ngx_uint_t = NGX_LOG_ALERT as ngx_uint_t;
pub(crate) const ERR: ngx_uint_t = NGX_LOG_ERR as ngx_uint_t;
pub(crate) const WARN: ngx_uint_t = NGX_LOG_WARN as ngx_uint_t;
pub(crate) const NOTICE: ngx_uint_t = NGX_LOG_NOTICE as ngx_uint_t;
pub(crate) const INFO: ngx_uint_t = NGX_LOG_INFO as ngx_uint_t;
pub(crate) const DEBUG: ngx_uint_t = NGX_LOG_DEBUG as ngx_uint_t;

/// Longest text of one line; nginx cuts lines at 2048 bytes with time, pid and context.
const LINE: usize = 1500;

/// Writes `text` to `log`.
///
/// # Safety
///
/// `log` must be a live log of this process, and this its main thread.
unsafe fn line(log: *mut ngx_log_t, level: ngx_uint_t, text: &str) {
    let text = cut(text);
    // SAFETY: the caller vouches for the log.
    let enabled = unsafe { (*log).log_level } >= level;
    if enabled {
        // SAFETY: the format takes a length and a pointer, which are those of `text`.
        unsafe { ngx_log_error_core(level, log, 0, c"%*s".as_ptr(), text.len(), text.as_ptr()) };
    }
}

/// Would a line of `level` about this request be written?
///
/// # Safety
///
/// `r` must be a live request.
pub(crate) unsafe fn enabled(r: *mut ngx_http_request_t, level: ngx_uint_t) -> bool {
    // SAFETY: a live request has a connection.
    let connection = unsafe { (*r).connection };
    // SAFETY: a live connection has a log.
    let log = unsafe { (*connection).log };
    // SAFETY: as above.
    unsafe { (*log).log_level >= level }
}

/// A line about one request; nginx appends client, server and request.
///
/// # Safety
///
/// `r` must be a live request, and this the main thread.
pub(crate) unsafe fn request_line(r: *mut ngx_http_request_t, level: ngx_uint_t, text: &str) {
    // SAFETY: a live request has a connection.
    let connection = unsafe { (*r).connection };
    // SAFETY: a live connection has a log.
    let log = unsafe { (*connection).log };
    // SAFETY: the caller vouches for the thread.
    unsafe { line(log, level, text) };
}

/// As [`request_line`], after "while" and what was being done.
///
/// # Safety
///
/// As for [`request_line`].
pub(crate) unsafe fn request_line_while(
    r: *mut ngx_http_request_t,
    level: ngx_uint_t,
    text: &str,
    action: &'static std::ffi::CStr,
) {
    // SAFETY: a live request has a connection.
    let connection = unsafe { (*r).connection };
    // SAFETY: a live connection has a log.
    let log = unsafe { (*connection).log };
    // SAFETY: as above; put back below.
    let before = unsafe { std::mem::replace(&mut (*log).action, action.as_ptr().cast_mut()) };
    // SAFETY: the caller vouches for the thread.
    unsafe { line(log, level, text) };
    // SAFETY: as above.
    unsafe { (*log).action = before };
}

/// A line about the worker itself. Main thread only.
pub(crate) fn cycle_line(level: ngx_uint_t, text: &str) {
    // SAFETY: nginx sets the cycle before it loads modules and replaces it only on this thread.
    let cycle = unsafe { ngx_cycle };
    if !cycle.is_null() {
        // SAFETY: the current cycle is live.
        unsafe { line_of(cycle, level, text) };
    }
}

/// A line about a cycle that need not be the current one yet.
///
/// # Safety
///
/// `cycle` must be live. Main thread only.
pub(crate) unsafe fn line_of(cycle: *mut ngx_cycle_t, level: ngx_uint_t, text: &str) {
    // SAFETY: the caller vouches for the cycle.
    let log = unsafe { (*cycle).log };
    if !log.is_null() {
        // SAFETY: the current cycle's log is live.
        unsafe { line(log, level, text) };
    }
}

/// A configuration message; nginx appends ` in FILE:LINE` of what it is reading.
///
/// # Safety
///
/// `cf` must be the configuration state nginx passed to the calling callback.
pub(crate) unsafe fn conf_line(cf: *mut ngx_conf_t, level: ngx_uint_t, text: &str) {
    let text = cut(text);
    // SAFETY: the format takes a length and a pointer, which are those of `text`.
    unsafe { ngx_conf_log_error(level, cf, 0, c"%*s".as_ptr(), text.len(), text.as_ptr()) };
}

/// What waiting for a service changes in a connection's log and puts back.
#[derive(Clone, Copy)]
pub(crate) struct LogState {
    log: *mut ngx_log_t,
    level: ngx_uint_t,
    action: *mut std::ffi::c_char,
}

impl LogState {
    /// # Safety
    ///
    /// `log` must be the live log of a client's connection.
    pub(crate) unsafe fn of(log: *mut ngx_log_t) -> Self {
        // SAFETY: the caller vouches for the log.
        let found = unsafe { &*log };
        Self { log, level: found.log_level, action: found.action }
    }

    /// While a service is known to fail, and one line in a while says so, nginx's own line about
    /// every single failure is held back.
    ///
    /// # Safety
    ///
    /// The connection must be live.
    pub(crate) unsafe fn hold_back(&self, is_quiet: bool) {
        // SAFETY: the caller vouches for the connection, which owns the log.
        let log = unsafe { &mut *self.log };
        if is_quiet && log.log_level < NGX_LOG_DEBUG as ngx_uint_t {
            log.log_level = ALERT;
        }
    }

    /// # Safety
    ///
    /// The connection must still be live.
    pub(crate) unsafe fn restore(&self) {
        // SAFETY: the caller vouches for the connection, which owns the log.
        let log = unsafe { &mut *self.log };
        log.log_level = self.level;
        log.action = self.action;
    }
}

/// The end of a line that stands for others.
pub(crate) fn held_back(lines: u64) -> String {
    match lines {
        0 => String::new(),
        n => format!("; {n} such lines were held back"),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LINE)]
}

/// Text for a log line: control characters replaced, cut to `limit` bytes.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    let cut = &text[..text.floor_char_boundary(limit)];
    cut.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
