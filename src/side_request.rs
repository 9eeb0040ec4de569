//! `px_additional_activity_handler`: after a verdict, a request of its own to a location of the
//! operator's, whose answer nobody waits for or sees.

use std::ptr;

use nginx_sys::{
    NGX_HTTP_GET, ngx_http_finalize_request, ngx_http_named_location, ngx_http_request_t,
    ngx_int_t, ngx_str_t, ngx_uint_t,
};

use crate::ffi::{self, DONE, OK, str_of};
use crate::hooks::Target;
use crate::subrequest;

/// Starts the request; without it where memory is short.
///
/// # Safety
///
/// `r` must be a live main request.
pub(crate) unsafe fn start(r: *mut ngx_http_request_t, target: &Target) {
    // SAFETY: as the caller's.
    let _ = unsafe { create(r, target) };
}

/// # Safety
///
/// As [`start`].
unsafe fn create(r: *mut ngx_http_request_t, target: &Target) -> Option<()> {
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    let mut name: *mut ngx_str_t = ptr::null_mut();
    let path = match target {
        Target::Uri(uri) => uri.as_str(),
        Target::Named(named) => {
            // SAFETY: live pool; zero is valid for this C struct.
            let kept = unsafe { ffi::zeroed_in_pool::<ngx_str_t>(pool) }?;
            // SAFETY: as above.
            *kept = unsafe { ffi::copy_to_pool(pool, format!("@{named}").as_bytes()) }?;
            name = ptr::from_mut(kept);
            "/"
        }
        Target::Value(_) => return None,
    };
    // SAFETY: live request, whose pool outlives the subrequest.
    let sr = unsafe { subrequest::start(r, path.as_bytes(), Some(on_end), name.cast()) }?;
    // SAFETY: made by nginx and only posted.
    let sub = unsafe { &mut *sr };
    sub.method = NGX_HTTP_GET as ngx_uint_t;
    sub.method_name = str_of("GET");
    sub.request_body = ptr::null_mut();
    sub.headers_in.content_length = ptr::null_mut();
    sub.headers_in.content_length_n = -1;
    // SAFETY: a live subrequest.
    unsafe { ffi::px_request_want_no_body(sr) };
    if matches!(target, Target::Named(_)) {
        sub.write_event_handler = Some(run_named);
    }
    Some(())
}

/// The first turn of a request for a named location.
unsafe extern "C" fn run_named(sr: *mut ngx_http_request_t) {
    ffi::guard(
        "a request of px_additional_activity_handler",
        || (),
        || {
            // SAFETY: nginx runs the posted subrequest.
            let notify = unsafe { (*sr).post_subrequest };
            // SAFETY: set by `create`.
            let name = unsafe { (*notify).data }.cast::<ngx_str_t>();
            // SAFETY: a live subrequest and a name in its pool.
            unsafe { ngx_http_named_location(sr, name) };
            // It has taken a reference for the location's phases; this is ours.
            // SAFETY: `sr` is not used afterwards.
            unsafe { ngx_http_finalize_request(sr, DONE) };
        },
    );
}

/// Whatever it was answered: for any other value nginx would make an error page of it.
unsafe extern "C" fn on_end(
    _sr: *mut ngx_http_request_t,
    _data: *mut std::ffi::c_void,
    _rc: ngx_int_t,
) -> ngx_int_t {
    OK
}
