//! The table by which nginx finds the modules of a file that `load_module` names.
//!
//! Where nginx's own build links the module (`nginx/config`), it writes this table itself.

use std::ffi::c_char;
use std::ptr;

use nginx_sys::ngx_module_t;

use crate::{ngx_http_px_early_module, ngx_http_px_late_module, ngx_http_px_module};

/// A C table of pointers that nginx looks up by its symbol.
#[repr(transparent)]
pub(crate) struct Table<T, const N: usize>([*const T; N]);

// SAFETY: written at compile time and only read by nginx's main thread.
unsafe impl<T, const N: usize> Sync for Table<T, N> {}

#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub(crate) static ngx_modules: Table<ngx_module_t, 4> = Table([
    &raw const ngx_http_px_early_module,
    &raw const ngx_http_px_module,
    &raw const ngx_http_px_late_module,
    ptr::null(),
]);

#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub(crate) static ngx_module_names: Table<c_char, 4> = Table([
    c"ngx_http_px_early_module".as_ptr(),
    c"ngx_http_px_module".as_ptr(),
    c"ngx_http_px_late_module".as_ptr(),
    ptr::null(),
]);

/// A module is inserted before the first loaded one that follows its name here; where none does, at
/// the end.
#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub(crate) static ngx_module_order: Table<c_char, 6> = Table([
    c"ngx_http_px_early_module".as_ptr(),
    c"ngx_http_upstream_module".as_ptr(),
    c"ngx_http_px_module".as_ptr(),
    c"ngx_http_copy_filter_module".as_ptr(),
    c"ngx_http_px_late_module".as_ptr(),
    ptr::null(),
]);
