//! The only reader of `ngx_http_request_t`: lends the core a view of the client's request.

use std::mem::MaybeUninit;
use std::{ptr, slice};

use nginx_sys::{
    ngx_hash_key, ngx_http_core_srv_conf_t, ngx_http_get_variable, ngx_http_request_t,
    ngx_list_part_t, ngx_table_elt_t,
};
use px_core::hooks::Hooks;
use px_core::request::{Header, Request, Tls};
use uuid::Uuid;

use crate::ffi;

/// Longest text of a UUID.
const UUID_LEN: usize = 36;

/// The client's request as it arrived, to be known by `id`, with what the operator's
/// expressions say of it. `None` when memory is short.
///
/// # Safety
///
/// `r` must be a live main request in or before its access phase. The view borrows from the
/// request's memory: it must be dropped with the request, by a cleanup of its pool at the latest.
pub(crate) unsafe fn view(
    r: *mut ngx_http_request_t,
    id: Uuid,
    hooks: &'static Hooks<'static>,
) -> Option<Request<'static>> {
    // SAFETY: the caller vouches for the request.
    let request = unsafe { &*r };
    // SAFETY: a live request has a connection.
    let connection = unsafe { &*request.connection };
    // SAFETY: the connection is live.
    let is_tls = unsafe { ffi::px_connection_is_tls(request.connection) } != 0;
    // SAFETY: strings of a live request, as are all below.
    let (method, path, peer_ip) = unsafe {
        (
            ffi::bytes(request.method_name),
            ffi::bytes(request.unparsed_uri),
            ffi::bytes(connection.addr_text),
        )
    };
    // SAFETY: as above.
    let line = unsafe { ffi::bytes(request.request_line) };
    let absolute = absolute_form(line, method);
    // SAFETY: live request.
    let authority = unsafe { ffi::px_request_authority(r) };
    // SAFETY: it lives as long as the connection, which here is the stream.
    let authority = unsafe { ffi::bytes(authority) };
    // SAFETY: live request.
    let headers = unsafe { headers(r, authority) }?;
    let host = match authority {
        // SAFETY: live request.
        [] => unsafe { host(r, absolute.is_some()) },
        named => named,
    };
    // SAFETY: live request.
    let tls = if is_tls { unsafe { tls_facts(r) } } else { Tls::default() };
    // SAFETY: live request.
    let request_id = unsafe { id_text(r, id) }?;
    Some(Request {
        method,
        scheme: if is_tls { "https" } else { "http" },
        host,
        // Of any other scheme nginx serves the path all the same, and so it is judged.
        target: absolute.filter(|target| is_http(target)).unwrap_or(path),
        http_version: match request.http_version {
            1000 => "1.0",
            1001 => "1.1",
            2000 => "2",
            3000 => "3",
            _ => "",
        },
        headers,
        // nginx writes addresses in ASCII.
        peer_ip: std::str::from_utf8(peer_ip).unwrap_or_default(),
        request_id,
        tls,
        hooks,
        extracted: None,
    })
}

/// The target of a request line that names a host, as proxies are sent it.
fn absolute_form<'r>(line: &'r [u8], method: &[u8]) -> Option<&'r [u8]> {
    let target = line.get(method.len()..)?.trim_ascii_start().split(|byte| *byte == b' ').next()?;
    target.first().is_some_and(u8::is_ascii_alphabetic).then_some(target)
}

fn is_http(target: &[u8]) -> bool {
    let begins = |scheme: &[u8]| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    begins(b"http://") || begins(b"https://")
}

/// The header lines in order of arrival, as an array in the request's pool. What HTTP/3 says by
/// `authority` alone stands before them as a `Host` line, as it does for HTTP/2.
///
/// # Safety
///
/// `r` must be a live request.
unsafe fn headers(
    r: *mut ngx_http_request_t,
    authority: &'static [u8],
) -> Option<&'static [Header<'static>]> {
    // SAFETY: the caller vouches for the request.
    let list = unsafe { &(*r).headers_in.headers };
    let mut count = usize::from(!authority.is_empty());
    let mut part: *const ngx_list_part_t = &raw const list.part;
    // SAFETY: a list's parts end with a null pointer.
    while let Some(p) = unsafe { part.as_ref() } {
        count += p.nelts;
        part = p.next;
    }
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // SAFETY: live pool.
    let array = unsafe { ffi::array_in_pool::<MaybeUninit<Header<'static>>>(pool, count.max(1)) };
    if array.is_null() {
        return None;
    }
    let mut filled = 0;
    if !authority.is_empty() {
        // SAFETY: there is room for `count` lines.
        unsafe { array.write(MaybeUninit::new(Header { name: b"host", value: authority })) };
        filled = 1;
    }
    part = &raw const list.part;
    // SAFETY: as above.
    while let Some(p) = unsafe { part.as_ref() } {
        if p.nelts != 0 {
            // SAFETY: a part holds `nelts` elements of the list's type.
            let lines = unsafe { slice::from_raw_parts(p.elts.cast::<ngx_table_elt_t>(), p.nelts) };
            // A hash of zero marks a line that a module has removed.
            for line in lines.iter().filter(|line| line.hash != 0) {
                // SAFETY: header strings live as long as the request.
                let (name, value) = unsafe { (ffi::bytes(line.key), ffi::bytes(line.value)) };
                // SAFETY: at most `count` lines are written.
                unsafe { array.add(filled).write(MaybeUninit::new(Header { name, value })) };
                filled += 1;
            }
        }
        part = p.next;
    }
    // SAFETY: `filled` headers were written above.
    Some(unsafe { slice::from_raw_parts(array.cast::<Header<'static>>(), filled) })
}

/// The `Host` header's text, or the name the request was sent to, or the server's. A host in the
/// request line counts before the header (RFC 9112 § 3.2.2), as it does for nginx.
///
/// # Safety
///
/// `r` must be a live request.
unsafe fn host(r: *mut ngx_http_request_t, in_request_line: bool) -> &'static [u8] {
    // SAFETY: the caller vouches for the request.
    let headers_in = unsafe { &(*r).headers_in };
    // SAFETY: null or an element of the header list.
    if let Some(host) = unsafe { headers_in.host.as_ref() }
        && host.value.len != 0
        && !in_request_line
    {
        // SAFETY: header strings live as long as the request.
        return unsafe { ffi::bytes(host.value) };
    }
    if headers_in.server.len != 0 {
        // SAFETY: as above.
        return unsafe { ffi::bytes(headers_in.server) };
    }
    // SAFETY: live request.
    let confs = unsafe { (*r).srv_conf };
    let core = &raw const nginx_sys::ngx_http_core_module;
    // SAFETY: the core module's server configuration always exists.
    let cscf = unsafe { ffi::module_entry::<ngx_http_core_srv_conf_t>(confs, core) };
    // SAFETY: it outlives the request.
    unsafe { ffi::bytes((*cscf).server_name) }
}

/// What nginx's ssl module knows of the connection.
///
/// # Safety
///
/// `r` must be a live request.
unsafe fn tls_facts(r: *mut ngx_http_request_t) -> Tls<'static> {
    // SAFETY: as the caller's.
    let fact = |name: &'static str| unsafe { variable(r, name) };
    Tls {
        protocol: fact("ssl_protocol"),
        cipher: fact("ssl_cipher"),
        server_name: fact("ssl_server_name"),
    }
}

/// The value of an nginx variable; empty if it has none.
///
/// # Safety
///
/// `r` must be a live request.
pub(crate) unsafe fn variable(r: *mut ngx_http_request_t, name: &'static str) -> &'static [u8] {
    let mut text = ffi::str_of(name);
    // SAFETY: the hash function reads `len` bytes.
    let key = unsafe { ngx_hash_key(text.data, text.len) };
    // SAFETY: live request; the name is in lower case, as its hash must be.
    let value = unsafe { ngx_http_get_variable(r, &raw mut text, key) };
    // SAFETY: null or a value in the request's memory.
    match unsafe { value.as_ref() } {
        Some(value) if value.not_found() == 0 && value.valid() != 0 => {
            // SAFETY: the value's bytes live as long as the request.
            unsafe { slice::from_raw_parts(value.data, value.len() as usize) }
        }
        _ => &[],
    }
}

/// The id as text in the request's pool.
///
/// # Safety
///
/// `r` must be a live request.
unsafe fn id_text(r: *mut ngx_http_request_t, id: Uuid) -> Option<&'static str> {
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // SAFETY: live pool.
    let memory = unsafe { ffi::array_in_pool::<u8>(pool, UUID_LEN) };
    if memory.is_null() {
        return None;
    }
    // SAFETY: just allocated; written in full before it is read.
    unsafe { ptr::write_bytes(memory, 0, UUID_LEN) };
    // SAFETY: as above; the memory lives as long as the request.
    let buffer = unsafe { slice::from_raw_parts_mut(memory, UUID_LEN) };
    Some(id.hyphenated().encode_lower(buffer))
}
