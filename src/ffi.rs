//! Where C meets Rust: the panic guard, byte slices over nginx strings, pool memory, and the few
//! request bits that only C may touch.

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{ptr, slice};

use nginx_sys::{
    NGX_AGAIN, NGX_DECLINED, NGX_DONE, NGX_ERROR, NGX_OK, ngx_connection_t, ngx_file_t,
    ngx_http_request_t, ngx_http_variable_value_t, ngx_int_t, ngx_list_push, ngx_list_t,
    ngx_module_t, ngx_pcalloc, ngx_pnalloc, ngx_pool_t, ngx_str_t, ngx_table_elt_t, ngx_uint_t,
};

pub(crate) const OK: ngx_int_t = NGX_OK as ngx_int_t;
pub(crate) const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;
pub(crate) const AGAIN: ngx_int_t = NGX_AGAIN as ngx_int_t;
pub(crate) const DONE: ngx_int_t = NGX_DONE as ngx_int_t;
pub(crate) const DECLINED: ngx_int_t = NGX_DECLINED as ngx_int_t;

thread_local! {
    /// What the panic hook noted of the last panic on this thread, for the guard to log.
    static PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// Replaces the standard panic report (a trace on stderr) by a note that [`guard`] logs in one line.
pub(crate) fn note_panics() {
    std::panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
}

/// The text of the last panic on this thread.
pub(crate) fn last_panic() -> String {
    PANIC.take().unwrap_or_else(|| "no details".to_owned())
}

/// Runs a callback that nginx entered. A panic in it becomes `fallback()`, the value that fails
/// open, and one line in the error log; it never unwinds into C, where it would end the worker.
pub(crate) fn guard<T>(callback: &str, fallback: impl FnOnce() -> T, f: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => value,
        Err(_) => {
            crate::log::cycle_line(
                crate::log::ALERT,
                &format!("px: panic caught in {callback}: {}", last_panic()),
            );
            fallback()
        }
    }
}

/// The bytes of an nginx string.
///
/// # Safety
///
/// `s` must describe memory that stays valid and unchanged for `'a`.
pub(crate) unsafe fn bytes<'a>(s: ngx_str_t) -> &'a [u8] {
    if s.len == 0 || s.data.is_null() {
        return &[];
    }
    // SAFETY: the caller promises `len` readable bytes at `data` for 'a.
    unsafe { slice::from_raw_parts(s.data, s.len) }
}

/// An nginx string over bytes that live for the whole run.
pub(crate) const fn str_of(text: &'static str) -> ngx_str_t {
    ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
}

/// Copies `text` into `pool`. `None` when memory is short.
///
/// # Safety
///
/// `pool` must be a live pool.
pub(crate) unsafe fn copy_to_pool(pool: *mut ngx_pool_t, text: &[u8]) -> Option<ngx_str_t> {
    if text.is_empty() {
        return Some(str_of(""));
    }
    // SAFETY: the caller vouches for the pool.
    let data = unsafe { ngx_pnalloc(pool, text.len()) }.cast::<u8>();
    if data.is_null() {
        return None;
    }
    // SAFETY: `data` is a fresh block of `text.len()` bytes.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), data, text.len()) };
    Some(ngx_str_t { len: text.len(), data })
}

/// A module's entry in one of nginx's arrays that have a slot per http module: configurations of a
/// level, contexts of a request.
///
/// # Safety
///
/// `slots` must be such an array, and the entry of `module` null or a `T`.
pub(crate) unsafe fn module_slot<T>(
    slots: *mut *mut c_void,
    module: *const ngx_module_t,
) -> *mut *mut T {
    // SAFETY: a module's number is set before any such array is made, and stays.
    let index = unsafe { (*module).ctx_index };
    // SAFETY: the caller vouches for the array, which has a slot for every numbered module.
    unsafe { slots.add(index) }.cast()
}

/// As [`module_slot`], the entry itself.
///
/// # Safety
///
/// As for [`module_slot`].
pub(crate) unsafe fn module_entry<T>(
    slots: *mut *mut c_void,
    module: *const ngx_module_t,
) -> *mut T {
    // SAFETY: as the caller's.
    let slot = unsafe { module_slot(slots, module) };
    // SAFETY: inside the array.
    unsafe { *slot }
}

/// Zeroed memory for one `T` from `pool`. `None` when memory is short.
///
/// # Safety
///
/// `pool` must be a live pool, and all-zero bytes a valid `T`.
pub(crate) unsafe fn zeroed_in_pool<T>(pool: *mut ngx_pool_t) -> Option<&'static mut T> {
    // SAFETY: the caller vouches for the pool.
    let p = unsafe { ngx_pcalloc(pool, size_of::<T>()) }.cast::<T>();
    // SAFETY: fresh, aligned by nginx for any C type, zeroed; the caller vouches that zero is valid.
    unsafe { p.as_mut() }
}

/// Room for `n` values of `T` in `pool`, uninitialised. Null when memory is short.
///
/// # Safety
///
/// `pool` must be a live pool.
pub(crate) unsafe fn array_in_pool<T>(pool: *mut ngx_pool_t, n: usize) -> *mut T {
    // SAFETY: the caller vouches for the pool.
    unsafe { nginx_sys::ngx_palloc(pool, n * size_of::<T>()) }.cast::<T>()
}

/// Adds one header line to a header list. `lowcase` holds the name in lower case; for a request's it
/// must not be empty, because nginx finds by its hash what `proxy_set_header` and caches leave out.
/// `None` when memory is short.
///
/// # Safety
///
/// `list` must be an initialised list of `ngx_table_elt_t`; the strings must outlive it.
pub(crate) unsafe fn push_header(
    list: *mut ngx_list_t,
    key: ngx_str_t,
    lowcase: ngx_str_t,
    value: ngx_str_t,
) -> Option<()> {
    // SAFETY: the caller vouches for the list.
    let element = unsafe { ngx_list_push(list) }.cast::<ngx_table_elt_t>();
    if element.is_null() {
        return None;
    }
    // List memory is not zeroed, and the element has fields that only newer versions know (`next`).
    // SAFETY: `element` is one element of that type, ours to initialise; zero is valid for it.
    unsafe { ptr::write_bytes(element, 0, 1) };
    // SAFETY: initialised above and not shared yet.
    let element = unsafe { &mut *element };
    // SAFETY: the hash function reads `len` bytes.
    let hash = unsafe { nginx_sys::ngx_hash_key(lowcase.data, lowcase.len) };
    // Zero would mark a line that is not there.
    element.hash = hash.max(1);
    element.key = key;
    element.value = value;
    element.lowcase_key = lowcase.data;
    Some(())
}

/// Fills a variable's value, or says that there is none.
///
/// # Safety
///
/// `v` must be the value nginx passed to a variable's getter, and the text live as long as the request.
pub(crate) unsafe fn set_variable(v: *mut ngx_http_variable_value_t, text: Option<ngx_str_t>) {
    // SAFETY: the caller vouches for the value.
    let v = unsafe { &mut *v };
    match text {
        Some(text) => {
            v.set_len(u32::try_from(text.len).unwrap_or_default());
            v.data = text.data;
            v.set_valid(1);
            v.set_no_cacheable(0);
            v.set_not_found(0);
        }
        None => v.set_not_found(1),
    }
}

unsafe extern "C" {
    pub(crate) fn px_request_internal(r: *mut ngx_http_request_t) -> ngx_uint_t;
    pub(crate) fn px_request_filter_finalize(r: *mut ngx_http_request_t) -> ngx_uint_t;
    pub(crate) fn px_request_header_only(r: *mut ngx_http_request_t) -> ngx_uint_t;
    pub(crate) fn px_request_want_body(r: *mut ngx_http_request_t);
    pub(crate) fn px_request_ignore_conditions(r: *mut ngx_http_request_t);
    pub(crate) fn px_request_want_in_memory(r: *mut ngx_http_request_t);
    pub(crate) fn px_request_authority(r: *mut ngx_http_request_t) -> ngx_str_t;
    pub(crate) fn px_request_want_no_body(r: *mut ngx_http_request_t);
    pub(crate) fn px_request_is_nobodys(r: *mut ngx_http_request_t);
    pub(crate) fn px_request_keep_target(r: *mut ngx_http_request_t);
    pub(crate) fn px_response_grows(r: *mut ngx_http_request_t);
    pub(crate) fn px_request_hold(r: *mut ngx_http_request_t);
    pub(crate) fn px_confs_with_resolver_of(
        r: *mut ngx_http_request_t,
        confs: *mut *mut c_void,
    ) -> *mut *mut c_void;
    pub(crate) fn px_upstream_answer_is_cut(r: *mut ngx_http_request_t) -> ngx_uint_t;
    pub(crate) fn px_request_is_chunked(r: *mut ngx_http_request_t) -> ngx_uint_t;
    pub(crate) fn px_read_file(
        file: *mut ngx_file_t,
        buf: *mut u8,
        size: usize,
        offset: libc::off_t,
    ) -> isize;
    pub(crate) fn px_request_keep_body_file(r: *mut ngx_http_request_t);
    pub(crate) fn px_request_is_reading_body(r: *mut ngx_http_request_t) -> ngx_uint_t;
    pub(crate) fn px_connection_is_tls(c: *mut ngx_connection_t) -> ngx_uint_t;
}
