//! A directive's value that may contain variables, compiled once, evaluated per request.

use std::ptr;

use nginx_sys::{
    ngx_conf_t, ngx_http_compile_complex_value, ngx_http_compile_complex_value_t,
    ngx_http_complex_value, ngx_http_complex_value_t, ngx_http_request_t, ngx_str_t,
};

use crate::ffi::{self, OK};

/// A compiled value in the configuration pool.
#[derive(Clone, Copy)]
pub(crate) struct ComplexValue(*mut ngx_http_complex_value_t);

impl ComplexValue {
    /// Compiles `text`; nginx logs what is wrong with it, with file and line.
    ///
    /// # Safety
    ///
    /// `cf` must be the configuration state nginx passed to the calling callback, and `text` live
    /// in its pool.
    pub(crate) unsafe fn compile(cf: *mut ngx_conf_t, text: *mut ngx_str_t) -> Option<Self> {
        // SAFETY: the configuration pool is live while configuration is read.
        let pool = unsafe { (*cf).pool };
        // SAFETY: live pool; zero is valid for this C struct.
        let value = unsafe { ffi::zeroed_in_pool::<ngx_http_complex_value_t>(pool) }?;
        // SAFETY: zero is the documented start state of this C struct.
        let mut compile: ngx_http_compile_complex_value_t = unsafe { std::mem::zeroed() };
        compile.cf = cf;
        compile.value = text;
        compile.complex_value = ptr::from_mut(value);
        // SAFETY: all three pointers are live for the call.
        let rc = unsafe { ngx_http_compile_complex_value(&raw mut compile) };
        (rc == OK).then_some(Self(ptr::from_mut(value)))
    }

    /// Whether the text begins as the URL of another site does, variables aside.
    pub(crate) fn is_absolute(self) -> bool {
        // SAFETY: compiled by `compile`, live as long as the configuration.
        let text = unsafe { ffi::bytes((*self.0).value) };
        text.starts_with(b"http://") || text.starts_with(b"https://")
    }

    /// The text, where no variable is in it.
    pub(crate) fn constant(self) -> Option<&'static [u8]> {
        // SAFETY: compiled by `compile`, live as long as the configuration.
        let value = unsafe { &*self.0 };
        // SAFETY: as above.
        value.lengths.is_null().then(|| unsafe { ffi::bytes(value.value) })
    }

    /// The value for this request; empty if it cannot be evaluated or is no UTF-8.
    ///
    /// # Safety
    ///
    /// `r` must be a live request under the configuration this value belongs to.
    pub(crate) unsafe fn evaluate<'r>(self, r: *mut ngx_http_request_t) -> &'r str {
        let mut value = ngx_str_t { len: 0, data: ptr::null_mut() };
        // SAFETY: both pointers are live; the result lives in the request's or the cycle's pool.
        let rc = unsafe { ngx_http_complex_value(r, self.0, &raw mut value) };
        if rc != OK {
            return "";
        }
        // SAFETY: see above; both pools outlive the request.
        std::str::from_utf8(unsafe { ffi::bytes(value) }).unwrap_or_default()
    }
}
