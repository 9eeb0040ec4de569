//! Background subrequests: what all of the module's own have in common.
//!
//! Background, because an ordinary subrequest would hold back its parent's answer until it ends, and no
//! deadline could be kept.

use std::ffi::c_void;
use std::{mem, ptr};

use nginx_sys::{
    NGX_HTTP_SUBREQUEST_BACKGROUND, ngx_http_cleanup_t, ngx_http_core_main_conf_t,
    ngx_http_finalize_request, ngx_http_post_subrequest_pt, ngx_http_post_subrequest_t,
    ngx_http_request_t, ngx_http_subrequest, ngx_http_variable_value_t, ngx_int_t, ngx_list_init,
    ngx_list_t, ngx_str_t, ngx_table_elt_t, ngx_uint_t,
};

use crate::ffi::{self, OK};

/// Makes and posts a subrequest for a path that may have a query; `on_end` is called with `data` when
/// it has ended. `None` when memory is short. It cannot be taken back: what may fail comes before.
///
/// # Safety
///
/// `r` must be a live main request, and `data` live until the subrequest has ended.
pub(crate) unsafe fn start(
    r: *mut ngx_http_request_t,
    target: &[u8],
    on_end: ngx_http_post_subrequest_pt,
    data: *mut c_void,
) -> Option<*mut ngx_http_request_t> {
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // SAFETY: live pool, as below; zero is valid for this C struct.
    let notify = unsafe { ffi::zeroed_in_pool::<ngx_http_post_subrequest_t>(pool) }?;
    notify.handler = on_end;
    notify.data = data;
    let mark = target.iter().position(|byte| *byte == b'?');
    let (path, query) = target.split_at_checked(mark.unwrap_or(target.len()))?;
    // SAFETY: as above.
    let mut uri = unsafe { ffi::copy_to_pool(pool, path) }?;
    // SAFETY: as above.
    let mut query = unsafe { ffi::copy_to_pool(pool, query.get(1..).unwrap_or_default()) }?;
    let arguments: *mut ngx_str_t = if query.len == 0 { ptr::null_mut() } else { &raw mut query };
    let mut sr: *mut ngx_http_request_t = ptr::null_mut();
    // SAFETY: all pointers are live; strings and notification live in the pool.
    let rc = unsafe {
        ngx_http_subrequest(
            r,
            &raw mut uri,
            arguments,
            &raw mut sr,
            notify,
            NGX_HTTP_SUBREQUEST_BACKGROUND as ngx_uint_t,
        )
    };
    (rc == OK && !sr.is_null()).then_some(sr)
}

/// What the subrequest `r` was started with, if `on_end` is its notification; null otherwise.
///
/// # Safety
///
/// `r` must be a live request.
pub(crate) unsafe fn data_of(
    r: *mut ngx_http_request_t,
    on_end: unsafe extern "C" fn(*mut ngx_http_request_t, *mut c_void, ngx_int_t) -> ngx_int_t,
) -> *mut c_void {
    // SAFETY: the caller vouches for the request.
    let notify = unsafe { (*r).post_subrequest };
    // SAFETY: null or a live notification.
    match unsafe { notify.as_ref() } {
        Some(notify) if notify.handler.is_some_and(|handler| ptr::fn_addr_eq(handler, on_end)) => {
            notify.data
        }
        _ => ptr::null_mut(),
    }
}

/// Takes everything of the client's out of a subrequest: headers and body. Gives its header list,
/// with room for so many lines at first.
///
/// # Safety
///
/// `sr` must be a live subrequest that has not run, in a live pool.
pub(crate) unsafe fn without_headers(
    sr: *mut ngx_http_request_t,
    lines: usize,
) -> Option<*mut ngx_list_t> {
    // SAFETY: the caller vouches for the subrequest.
    let sub = unsafe { &mut *sr };
    sub.request_body = ptr::null_mut();
    let server = sub.headers_in.server;
    // SAFETY: zero is how nginx itself starts this struct.
    sub.headers_in = unsafe { mem::zeroed() };
    sub.headers_in.server = server;
    sub.headers_in.content_length_n = -1;
    sub.headers_in.keep_alive_n = -1;
    // Where it stays: `last` points into the struct.
    let list = &raw mut sub.headers_in.headers;
    // SAFETY: live pool and a list that is not in use.
    let rc = unsafe { ngx_list_init(list, sub.pool, lines, size_of::<ngx_table_elt_t>()) };
    (rc == OK).then_some(list)
}

/// An empty variable cache for a subrequest. Shared with the parent, as nginx would have it,
/// `$http_user_agent` read against our headers would be remembered for the parent's access log.
///
/// # Safety
///
/// `r` must be a live request.
pub(crate) unsafe fn variable_cache(
    r: *mut ngx_http_request_t,
) -> Option<*mut ngx_http_variable_value_t> {
    // SAFETY: live request.
    let confs = unsafe { (*r).main_conf };
    let core = &raw const nginx_sys::ngx_http_core_module;
    // SAFETY: the core module's main configuration always exists.
    let cmcf = unsafe { ffi::module_entry::<ngx_http_core_main_conf_t>(confs, core) };
    // SAFETY: as above.
    let count = unsafe { (*cmcf).variables.nelts };
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // SAFETY: live pool.
    let cache = unsafe { ffi::array_in_pool::<ngx_http_variable_value_t>(pool, count.max(1)) };
    if cache.is_null() {
        return None;
    }
    // SAFETY: room for `count` values; zero means "not evaluated".
    unsafe { ptr::write_bytes(cache, 0, count) };
    Some(cache)
}

/// A write handler that ends a subrequest that will not be run, so that its parent is not held up by it.
pub(crate) unsafe extern "C" fn end_at_once(sr: *mut ngx_http_request_t) {
    // SAFETY: nginx runs the posted subrequest; `sr` is not used afterwards.
    unsafe { ngx_http_finalize_request(sr, OK) };
}

/// Ends a request's upstream that nobody waits for any more and closes its connection, by the cleanup
/// the upstream module registered for it: the one it runs when a client goes away.
///
/// # Safety
///
/// `sr` must be the live main request `r` or a running subrequest of it.
pub(crate) unsafe fn abandon(r: *mut ngx_http_request_t, sr: *mut ngx_http_request_t) {
    // SAFETY: live request.
    let mut next: *mut ngx_http_cleanup_t = unsafe { (*r).cleanup };
    // SAFETY: a list of live records that ends with null.
    while let Some(record) = unsafe { next.as_ref() } {
        if ptr::eq(record.data, sr.cast::<c_void>())
            && let Some(handler) = record.handler
        {
            // SAFETY: registered for exactly this request; the upstream module clears it first.
            unsafe { handler(record.data) };
            return;
        }
        next = record.next;
    }
}
