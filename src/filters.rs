//! Header and body filters: `_pxhd` on the way out, and on the way in what answers the module's own
//! subrequests.
//!
//! Two pairs. Those that catch such answers stand above every other module's, whenever that is
//! loaded. The others stand where third-party filters belong, behind what brings files into memory.

use std::ptr;

use nginx_sys::{
    ngx_chain_t, ngx_http_output_body_filter_pt, ngx_http_output_header_filter_pt,
    ngx_http_request_t, ngx_http_top_body_filter, ngx_http_top_header_filter, ngx_int_t,
    ngx_uint_t,
};
use px_core::enforce::Action;

use crate::ctx::Ctx;
use crate::ffi::{self, ERROR, OK};
use crate::{csp, first_party, login, page_request, remote_call, snippet};

/// The filters after ours; written once while configuring, before any request.
static mut NEXT_HEADER_FILTER: ngx_http_output_header_filter_pt = None;
static mut NEXT_BODY_FILTER: ngx_http_output_body_filter_pt = None;

/// As above, after those that catch.
static mut UNCAUGHT_HEADER_FILTER: ngx_http_output_header_filter_pt = None;
static mut UNCAUGHT_BODY_FILTER: ngx_http_output_body_filter_pt = None;

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

/// Puts the filters that catch at the top, when all other modules have put theirs.
pub(crate) fn install_catching() {
    // SAFETY: as above.
    unsafe {
        UNCAUGHT_HEADER_FILTER = ngx_http_top_header_filter;
        ngx_http_top_header_filter = Some(catch_headers);
        UNCAUGHT_BODY_FILTER = ngx_http_top_body_filter;
        ngx_http_top_body_filter = Some(catch_body);
    }
}

unsafe extern "C" fn catch_headers(r: *mut ngx_http_request_t) -> ngx_int_t {
    let caught = ffi::guard(
        "the catching header filter",
        || false,
        || {
            // SAFETY: nginx passes a live request.
            if unsafe { remote_call::is_subrequest(r) } {
                // SAFETY: a subrequest of ours whose header filters are called.
                unsafe { remote_call::on_headers(r) };
                return true;
            }
            // SAFETY: as above.
            unsafe { page_request::is_subrequest(r) }
        },
    );
    if caught {
        // What answers the module's own subrequests is nobody else's business.
        return OK;
    }
    // SAFETY: written by `install_catching` before any request.
    match unsafe { UNCAUGHT_HEADER_FILTER } {
        // SAFETY: the filter that was at the top before ours.
        Some(next) => unsafe { next(r) },
        None => ERROR,
    }
}

unsafe extern "C" fn catch_body(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    let caught = ffi::guard(
        "the catching body filter",
        || false,
        || {
            // SAFETY: nginx passes a live request.
            if unsafe { remote_call::is_subrequest(r) } {
                // SAFETY: a subrequest of ours and the chain its filters are called with.
                unsafe { remote_call::collect(r, chain) };
                return true;
            }
            // SAFETY: as above.
            if unsafe { page_request::is_subrequest(r) } {
                // SAFETY: as above.
                unsafe { page_request::collect(r, chain) };
                return true;
            }
            false
        },
    );
    if caught {
        return OK;
    }
    // SAFETY: written by `install_catching` before any request.
    match unsafe { UNCAUGHT_BODY_FILTER } {
        // SAFETY: the filter that was at the top before ours.
        Some(next) => unsafe { next(r, chain) },
        None => ERROR,
    }
}

unsafe extern "C" fn header_filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    ffi::guard(
        "the header filter",
        || (),
        || {
            // SAFETY: nginx passes a live request.
            unsafe { first_party::on_headers(r) };
            // SAFETY: as above.
            unsafe { set_headers(r) };
        },
    );
    // SAFETY: written by `install` before any request.
    match unsafe { NEXT_HEADER_FILTER } {
        // SAFETY: the filter that was at the top before ours.
        Some(next) => unsafe { next(r) },
        None => ERROR,
    }
}

unsafe extern "C" fn body_filter(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    let to_send = ffi::guard(
        "the body filter",
        || Some(chain),
        || {
            // SAFETY: nginx passes a live request.
            if !ptr::eq(r, unsafe { (*r).main }) {
                return Some(chain);
            }
            // SAFETY: as above.
            if let Some(default) = unsafe { first_party::body_in_place_of(r, chain) } {
                return (!default.is_null()).then_some(default);
            }
            // SAFETY: as above.
            let ctx = unsafe { Ctx::find(r) };
            // SAFETY: null or the context of this live request, borrowed for this block.
            if let Some(ctx) = unsafe { ctx.as_mut() } {
                // SAFETY: the chain its filters are called with.
                unsafe { login::on_body(ctx, chain) };
                if ctx.injection.is_some() {
                    // SAFETY: as above.
                    let grown = unsafe { snippet::on_body(r, ctx, chain) };
                    return (!grown.is_null()).then_some(grown);
                }
            }
            Some(chain)
        },
    );
    let Some(chain) = to_send else { return OK };
    // SAFETY: written by `install` before any request.
    match unsafe { NEXT_BODY_FILTER } {
        // SAFETY: the filter that was at the top before ours.
        Some(next) => unsafe { next(r, chain) },
        None => ERROR,
    }
}

/// Appends what the verdict adds to the answer, once: to the origin's the `_pxhd` cookie that the Risk
/// API gave (risk-token.md § 8) and the score; to a block answer that a location of the operator's
/// writes, its status and the headers of all block answers.
///
/// # Safety
///
/// `r` must be a live request whose headers are about to be sent.
unsafe fn set_headers(r: *mut ngx_http_request_t) {
    // SAFETY: live request.
    if !ptr::eq(r, unsafe { (*r).main }) {
        return;
    }
    // SAFETY: live request.
    let ctx = unsafe { Ctx::find(r) };
    // SAFETY: null or the context of this live request; nothing below reaches it otherwise.
    let Some(ctx) = (unsafe { ctx.as_mut() }) else { return };
    // SAFETY: as above.
    unsafe { login::on_headers(r, ctx) };
    // SAFETY: as above.
    unsafe { csp::on_headers(r, ctx) };
    if let Some(pinned) = ctx.pinned.take() {
        ctx.response_headers_set = true;
        if let Some(status) = pinned.status {
            // SAFETY: live request.
            let out = unsafe { &mut (*r).headers_out };
            out.status = ngx_uint_t::from(status);
            // The line that an upstream sent would count more.
            out.status_line.len = 0;
        }
        for (name, value) in &pinned.headers {
            // SAFETY: live request whose headers are about to be sent.
            unsafe { push(r, name, value) };
        }
        return;
    }
    if ctx.response_headers_set {
        return;
    }
    let Some(verdict) = &ctx.verdict else { return };
    if verdict.action == Action::Block {
        return;
    }
    if ctx.policy.options().snippet_enabled {
        // SAFETY: as above.
        unsafe { snippet::on_headers(r, ctx) };
    }
    let Some(verdict) = &ctx.verdict else { return };
    let policy = &*ctx.policy;
    if let Some(cookie) = verdict.pxhd_cookie(policy) {
        // SAFETY: as above.
        unsafe { push(r, "Set-Cookie", &cookie) };
    }
    if let Some((name, value)) = verdict.response_headers(policy) {
        // SAFETY: as above.
        unsafe { push(r, &name, &value) };
    }
    ctx.response_headers_set = true;
}

/// Appends a header line; without it where memory is short.
///
/// # Safety
///
/// `r` must be a live request whose headers are about to be sent.
pub(crate) unsafe fn push(r: *mut ngx_http_request_t, name: &str, value: &str) {
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // SAFETY: live pool, three times.
    let copies = unsafe {
        ffi::copy_to_pool(pool, name.as_bytes())
            .zip(ffi::copy_to_pool(pool, name.to_ascii_lowercase().as_bytes()))
            .zip(ffi::copy_to_pool(pool, value.as_bytes()))
    };
    let Some(((name, lowcase), value)) = copies else { return };
    // SAFETY: live request.
    let list = unsafe { &raw mut (*r).headers_out.headers };
    // SAFETY: the answer's header list, strings in the request's pool.
    let _ = unsafe { ffi::push_header(list, name, lowcase, value) };
}
