//! Sends what the core rendered: block page, JSON, rate limit.

use nginx_sys::{
    ngx_buf_t, ngx_chain_t, ngx_http_discard_request_body, ngx_http_finalize_request,
    ngx_http_output_filter, ngx_http_request_t, ngx_http_send_header, ngx_int_t, ngx_str_t,
    ngx_uint_t,
};
use px_core::enforce::{Answer, PageAssets};
use px_core::policy::Policy;

use crate::conf::Assets;
use crate::ffi::{self, ERROR, OK, str_of};

/// Calls `look` with the configured values of block answers for this request, or those of the remote
/// configuration.
///
/// # Safety
///
/// `r` must be a live request under the configuration the values belong to.
pub(crate) unsafe fn with_assets<T>(
    r: *mut ngx_http_request_t,
    assets: &Assets,
    policy: &Policy,
    look: impl FnOnce(&PageAssets<'_>) -> T,
) -> T {
    // SAFETY: as the caller's.
    let evaluate = |value: Option<_>| {
        // SAFETY: as the caller's.
        value.map_or("", |value: crate::complex_value::ComplexValue| unsafe { value.evaluate(r) })
    };
    let cors_headers: Option<Vec<(&str, &str)>> = assets.cors_headers.as_ref().map(|headers| {
        headers.iter().map(|(name, value)| (name.as_str(), evaluate(Some(*value)))).collect()
    });
    let text_of = |name, own| policy.remote_text(name).unwrap_or_else(|| evaluate(own));
    look(&PageAssets {
        custom_logo: text_of("px_custom_logo", assets.custom_logo),
        css_ref: text_of("px_css_ref", assets.css_ref),
        js_ref: text_of("px_js_ref", assets.js_ref),
        block_page_content: evaluate(assets.block_page_content),
        api_protection_block_url: evaluate(assets.api_protection_block_url),
        api_protection_default_redirect_url: evaluate(assets.api_protection_default_redirect_url),
        cors_headers: cors_headers.as_deref(),
    })
}

/// Answers the request and ends it. `error_page` does not apply: this is no error of the server's.
///
/// # Safety
///
/// `r` must be a live main request that has not been answered; it may be gone afterwards.
pub(crate) unsafe fn send(r: *mut ngx_http_request_t, answer: &Answer) {
    // An unread body must be read off the connection, or it would be taken for the next request.
    // SAFETY: live request.
    let rc = unsafe { ngx_http_discard_request_body(r) };
    let rc = if rc == OK {
        // SAFETY: live request.
        unsafe { send_answer(r, answer) }
    } else {
        rc
    };
    // SAFETY: live request; not used afterwards.
    unsafe { ngx_http_finalize_request(r, rc) };
}

/// # Safety
///
/// As [`send`].
pub(crate) unsafe fn send_answer(r: *mut ngx_http_request_t, answer: &Answer) -> ngx_int_t {
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // SAFETY: live pool; zero is valid for these C structs.
    let (buffer, body) =
        unsafe { (ffi::zeroed_in_pool::<ngx_buf_t>(pool), ffi::copy_to_pool(pool, &answer.body)) };
    let (Some(buffer), Some(body)) = (buffer, body) else { return ERROR };

    // In a location that `error_page 418 =200 /x` led to, nginx would send that status instead.
    // SAFETY: live request.
    unsafe { (*r).err_status = 0 };
    // SAFETY: live request; the header filters have not run.
    let out = unsafe { &mut (*r).headers_out };
    out.status = ngx_uint_t::from(answer.status);
    out.content_length_n = i64::try_from(body.len).unwrap_or_default();
    out.content_type = str_of(answer.content_type);
    out.content_type_len = answer.content_type.len();
    out.content_type_lowcase = std::ptr::null_mut();
    for (name, value) in &answer.headers {
        // SAFETY: live pool.
        let copies: Option<(ngx_str_t, ngx_str_t)> = unsafe {
            ffi::copy_to_pool(pool, name.as_bytes()).zip(ffi::copy_to_pool(pool, value.as_bytes()))
        };
        let Some((name, value)) = copies else { return ERROR };
        // SAFETY: the answer's header list, strings in the request's pool.
        let pushed = unsafe { ffi::push_header(&raw mut out.headers, name, str_of(""), value) };
        if pushed.is_none() {
            return ERROR;
        }
    }
    // SAFETY: live request with complete headers.
    let rc = unsafe { ngx_http_send_header(r) };
    // SAFETY: live request.
    if rc == ERROR || rc > OK || unsafe { ffi::px_request_header_only(r) } != 0 {
        return rc;
    }
    buffer.start = body.data;
    buffer.pos = body.data;
    // SAFETY: one past the end of the body.
    buffer.last = unsafe { body.data.add(body.len) };
    buffer.end = buffer.last;
    buffer.set_memory(ngx_uint_t::from(body.len != 0) as u32);
    buffer.set_last_buf(1);
    buffer.set_last_in_chain(1);
    let mut chain = ngx_chain_t { buf: buffer, next: std::ptr::null_mut() };
    // SAFETY: the filters copy the chain's links if they need them longer than this call.
    unsafe { ngx_http_output_filter(r, &raw mut chain) }
}
