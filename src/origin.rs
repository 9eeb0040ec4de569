//! The request on its way to the origin: headers the module owns are removed and set here.

use nginx_sys::{
    ngx_http_request_t, ngx_list_init, ngx_list_part_t, ngx_list_push, ngx_list_t, ngx_str_t,
    ngx_table_elt_t,
};
use px_core::request::is_same_to_cgi;

use crate::ffi::{self, OK};

/// Removes client-sent headers of these names: what the module tells the origin under them, nobody
/// else may say.
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
        names.iter().any(|name| is_same_to_cgi(key, name.as_bytes()))
    };
    // SAFETY: live request.
    let list = unsafe { &(*r).headers_in.headers };
    // SAFETY: the header list of a live request.
    let lines = unsafe { lines_of(list) };
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

/// Copies of all lines of a header list.
///
/// # Safety
///
/// `list` must be a list of `ngx_table_elt_t`.
pub(crate) unsafe fn lines_of(list: &ngx_list_t) -> Vec<ngx_table_elt_t> {
    let mut lines = Vec::new();
    let mut part: *const ngx_list_part_t = &raw const list.part;
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

/// What is added to the query string of a login with compromised credentials
/// (credential-intelligence.md § 5).
const COMPROMISED: &[u8] = b"compromised_credentials=true";

/// Tells the origin in the query string that the credentials are compromised. The URL that is
/// reported stays what the visitor sent.
///
/// # Safety
///
/// `r` must be a live main request in its access phase.
pub(crate) unsafe fn mark_query(r: *mut ngx_http_request_t) {
    // SAFETY: live request.
    let request = unsafe { &mut *r };
    // SAFETY: strings of the live request.
    let (args, uri) = unsafe { (ffi::bytes(request.args), ffi::bytes(request.unparsed_uri)) };
    let joined = |text: &[u8], separator: Option<u8>| {
        let mut whole = text.to_vec();
        whole.extend(separator);
        whole.extend_from_slice(COMPROMISED);
        // SAFETY: live pool.
        unsafe { ffi::copy_to_pool(request.pool, &whole) }
    };
    let separator = |text: &[u8]| (!text.is_empty()).then_some(b'&');
    // A fragment, which no browser sends, would swallow the addition: cut, as nginx cuts it.
    let uri = uri.split(|byte| *byte == b'#').next().unwrap_or_default();
    let uri_separator = match uri.iter().position(|byte| *byte == b'?') {
        Some(mark) => separator(uri.get(mark + 1..).unwrap_or_default()),
        None => Some(b'?'),
    };
    let new = joined(args, separator(args)).zip(joined(uri, uri_separator));
    if let Some((args, uri)) = new {
        request.args = args;
        request.unparsed_uri = uri;
    }
}
