//! The Content-Security-Policy of Code Defender on answers to visitors (csp.md).

use nginx_sys::{ngx_http_request_t, ngx_list_part_t, ngx_table_elt_t};
use px_core::cookies;
use px_core::csp::VISITOR_COOKIE;

use crate::clock;
use crate::conf::MainConf;
use crate::ctx::Ctx;
use crate::ffi;
use crate::filters;
use crate::origin;

/// Sets the headers, in place of the origin's of the same names.
///
/// # Safety
///
/// `r` must be a live main request whose headers are about to be sent, and `ctx` its context.
pub(crate) unsafe fn on_headers(r: *mut ngx_http_request_t, ctx: &Ctx) {
    let Some(task) = ctx.enforcement.tasks.csp else { return };
    if !ctx.wants_csp {
        return;
    }
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    let now = clock::steady_ms();
    let found = main.with_worker(|worker| {
        let policy = worker.background.csp_policy(task, ctx.enforcement.csp_limit_ms, now)?;
        Some((policy, worker.request_ids.next()?))
    });
    let Some((policy, session)) = found.flatten() else { return };
    // SAFETY: live request.
    let list = unsafe { &(*r).headers_in.headers };
    // SAFETY: the header list of a live request.
    let lines = unsafe { origin::lines_of(list) };
    let cookies_sent = lines.iter().filter_map(|line| {
        // SAFETY: header strings live as long as the request.
        let (name, value) = unsafe { (ffi::bytes(line.key), ffi::bytes(line.value)) };
        name.eq_ignore_ascii_case(b"cookie").then_some(value)
    });
    let vid = cookies::last_value(cookies_sent, VISITOR_COOKIE);
    // Its first bytes are random, and the last ones tell the session.
    let draw =
        session.as_bytes().first_chunk().map_or(1, |bytes| u32::from_ne_bytes(*bytes) % 100 + 1);
    let nonce = ctx.enforcement.csp_nonce;
    // SAFETY: live request under the configuration that its context keeps.
    let nonce = nonce.map_or("", |own| unsafe { own.evaluate(r) });
    for (name, value) in policy.headers(draw, &session.to_string(), vid, nonce) {
        // SAFETY: live request.
        unsafe { remove(r, name) };
        // SAFETY: as above.
        unsafe { filters::push(r, name, &value) };
    }
}

/// Takes the answer's lines of this name away.
///
/// # Safety
///
/// `r` must be a live request whose headers are about to be sent.
unsafe fn remove(r: *mut ngx_http_request_t, name: &str) {
    // SAFETY: live request.
    let mut part: *const ngx_list_part_t = unsafe { &raw const (*r).headers_out.headers.part };
    // SAFETY: a list's parts end with a null pointer.
    while let Some(p) = unsafe { part.as_ref() } {
        for index in 0..p.nelts {
            // SAFETY: a part holds `nelts` elements of the list's type.
            let line = unsafe { &mut *p.elts.cast::<ngx_table_elt_t>().add(index) };
            // SAFETY: header strings live as long as the request.
            if unsafe { ffi::bytes(line.key) }.eq_ignore_ascii_case(name.as_bytes()) {
                // What nginx leaves out when it writes headers.
                line.hash = 0;
            }
        }
        part = p.next;
    }
}
