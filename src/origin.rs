//! The request on its way to the origin: headers the module owns are removed and set here.

use nginx_sys::{
    ngx_http_request_t, ngx_list_init, ngx_list_part_t, ngx_list_push, ngx_str_t, ngx_table_elt_t,
};

use crate::ffi::{self, OK};

/// Removes client-sent headers of these names: what the module tells the origin under them, nobody
/// else may say. Names are in lower case.
///
/// # Safety
///
/// `r` must be a live main request.
pub(crate) unsafe fn strip<'n>(r: *mut ngx_http_request_t, names: impl Iterator<Item = &'n str>) {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return;
    }
    let owned = |line: &ngx_table_elt_t| {
        // SAFETY: header strings live as long as the request.
        let key = unsafe { ffi::bytes(line.key) };
        names.iter().any(|name| key.eq_ignore_ascii_case(name.as_bytes()))
    };
    // SAFETY: live request.
    let lines = unsafe { lines(r) };
    if !lines.iter().any(&owned) {
        return;
    }
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // SAFETY: as above. The list is made anew in its place; the old elements stay where they are,
    // because nginx keeps pointers to some of them.
    let list = unsafe { &raw mut (*r).headers_in.headers };
    // SAFETY: live pool; the list's old parts were copied to `lines`.
    if unsafe { ngx_list_init(list, pool, lines.len().max(1), size_of::<ngx_table_elt_t>()) } != OK
    {
        return;
    }
    for line in lines.iter().filter(|line| !owned(line)) {
        // SAFETY: an initialised list.
        let element = unsafe { ngx_list_push(list) }.cast::<ngx_table_elt_t>();
        if element.is_null() {
            return;
        }
        // SAFETY: one fresh element.
        unsafe { element.write(*line) };
    }
}

/// Copies of all header lines.
///
/// # Safety
///
/// `r` must be a live request.
unsafe fn lines(r: *mut ngx_http_request_t) -> Vec<ngx_table_elt_t> {
    let mut lines = Vec::new();
    // SAFETY: live request.
    let mut part: *const ngx_list_part_t = unsafe { &raw const (*r).headers_in.headers.part };
    // SAFETY: a list's parts end with a null pointer.
    while let Some(p) = unsafe { part.as_ref() } {
        if p.nelts != 0 {
            // SAFETY: a part holds `nelts` elements of the list's type.
            lines.extend_from_slice(unsafe {
                std::slice::from_raw_parts(p.elts.cast::<ngx_table_elt_t>(), p.nelts)
            });
        }
        part = p.next;
    }
    lines
}

/// Adds headers to the request the origin will see. Values that could not stand in one header line
/// are left out.
///
/// # Safety
///
/// `r` must be a live main request.
pub(crate) unsafe fn enrich(r: *mut ngx_http_request_t, headers: &[(String, String)]) {
    for (name, value) in headers {
        if value.bytes().any(|b| b < 0x20 || b == 0x7f) {
            continue;
        }
        // SAFETY: live request.
        let pool = unsafe { (*r).pool };
        let lower = name.to_ascii_lowercase();
        // SAFETY: live pool, three times.
        let copies: Option<[ngx_str_t; 3]> = unsafe {
            (|| {
                Some([
                    ffi::copy_to_pool(pool, name.as_bytes())?,
                    ffi::copy_to_pool(pool, lower.as_bytes())?,
                    ffi::copy_to_pool(pool, value.as_bytes())?,
                ])
            })()
        };
        let Some([key, lowcase, value]) = copies else { return };
        // SAFETY: live request.
        let list = unsafe { &raw mut (*r).headers_in.headers };
        // SAFETY: the list of a live request, strings in its pool.
        let _ = unsafe { ffi::push_header(list, key, lowcase, value) };
    }
}
