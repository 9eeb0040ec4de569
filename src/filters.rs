//! Header and body filters: `_pxhd` on the way out, and the Risk API's answer on the way in.

use std::ptr;

use nginx_sys::{
    ngx_chain_t, ngx_http_output_body_filter_pt, ngx_http_output_header_filter_pt,
    ngx_http_request_t, ngx_http_top_body_filter, ngx_http_top_header_filter, ngx_int_t,
};

use crate::ctx::Ctx;
use crate::ffi::{self, ERROR, OK, str_of};
use crate::risk_api;

/// The filters after ours; written once while configuring, before any request.
static mut NEXT_HEADER_FILTER: ngx_http_output_header_filter_pt = None;
static mut NEXT_BODY_FILTER: ngx_http_output_body_filter_pt = None;

/// Puts our filters at the top of the chains. Part of `postconfiguration`.
pub(crate) fn install() {
    // SAFETY: configuration is single-threaded; nginx rebuilds the chains on every reload.
    unsafe {
        NEXT_HEADER_FILTER = ngx_http_top_header_filter;
        ngx_http_top_header_filter = Some(header_filter);
        NEXT_BODY_FILTER = ngx_http_top_body_filter;
        ngx_http_top_body_filter = Some(body_filter);
    }
}

unsafe extern "C" fn header_filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    let caught = ffi::guard(
        "the header filter",
        || false,
        || {
            // SAFETY: nginx passes a live request.
            if unsafe { risk_api::is_subrequest(r) } {
                return true;
            }
            // SAFETY: as above.
            unsafe { set_pxhd(r) };
            false
        },
    );
    if caught {
        // The Risk API's headers are nobody else's business.
        return OK;
    }
    // SAFETY: written by `install` before any request.
    match unsafe { NEXT_HEADER_FILTER } {
        // SAFETY: the filter that was at the top before ours.
        Some(next) => unsafe { next(r) },
        None => ERROR,
    }
}

unsafe extern "C" fn body_filter(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    let caught = ffi::guard(
        "the body filter",
        || false,
        || {
            // SAFETY: nginx passes a live request.
            if !unsafe { risk_api::is_subrequest(r) } {
                return false;
            }
            // SAFETY: a subrequest of ours and the chain its filters are called with.
            unsafe { risk_api::collect(r, chain) };
            true
        },
    );
    if caught {
        return OK;
    }
    // SAFETY: written by `install` before any request.
    match unsafe { NEXT_BODY_FILTER } {
        // SAFETY: the filter that was at the top before ours.
        Some(next) => unsafe { next(r, chain) },
        None => ERROR,
    }
}

/// Appends the `_pxhd` cookie that the Risk API gave to the origin's answer, once
/// (risk-token.md § 8).
///
/// # Safety
///
/// `r` must be a live request whose headers are about to be sent.
unsafe fn set_pxhd(r: *mut ngx_http_request_t) {
    // SAFETY: live request.
    if !ptr::eq(r, unsafe { (*r).main }) {
        return;
    }
    // SAFETY: live request.
    let ctx = unsafe { Ctx::find(r) };
    // SAFETY: null or the context of this live request; nothing below reaches it otherwise.
    let Some(ctx) = (unsafe { ctx.as_mut() }) else { return };
    if ctx.pxhd_set {
        return;
    }
    let Some(verdict) = &ctx.verdict else { return };
    let Some(cookie) = verdict.pxhd_cookie(&ctx.enforcement.policy) else { return };
    ctx.pxhd_set = true;
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // SAFETY: live pool.
    let Some(value) = (unsafe { ffi::copy_to_pool(pool, cookie.as_bytes()) }) else { return };
    // SAFETY: live request.
    let list = unsafe { &raw mut (*r).headers_out.headers };
    // SAFETY: the answer's header list, strings static or in the request's pool.
    let _ = unsafe { ffi::push_header(list, str_of("Set-Cookie"), str_of("set-cookie"), value) };
}
