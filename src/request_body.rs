//! Request bodies, for what they say beside the token: read by nginx's own reader without blocking,
//! lent to the core, and left as they are for the origin (credential-intelligence.md § 2, Size).

use nginx_sys::{
    ngx_http_core_run_phases, ngx_http_finalize_request, ngx_http_read_client_request_body,
    ngx_http_request_t, ngx_int_t, ngx_read_file,
};
use px_core::request::Request;
use zeroize::Zeroizing;

use crate::ctx::{Ctx, Stage};
use crate::ffi::{self, DONE};
use crate::log::{self, INFO};

/// From here on a return code of nginx's reader is the status the request ends with.
const SPECIAL_RESPONSE: ngx_int_t = 300;

/// Whether the body is worth reading: there may be one, it is not larger than `limit` bytes as far
/// as its length is told, and it is not compressed. What is not read for another reason than that
/// there is nothing is said in the log.
///
/// # Safety
///
/// `r` must be a live main request and `request` its view.
pub(crate) unsafe fn is_readable(
    r: *mut ngx_http_request_t,
    request: &Request<'_>,
    limit: usize,
) -> bool {
    // SAFETY: live request.
    let length = unsafe { (*r).headers_in.content_length_n };
    if length == 0 {
        return false;
    }
    let encoding = request.header("content-encoding").map(<[u8]>::trim_ascii);
    if encoding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        let text = "px: the request's body is not looked at because it has a content encoding";
        // SAFETY: live request.
        unsafe { log::request_line(r, INFO, text) };
        return false;
    }
    if usize::try_from(length).is_ok_and(|length| length > limit) {
        // SAFETY: as above.
        unsafe { say_too_large(r, limit) };
        return false;
    }
    true
}

/// Has the body read. The access phase is entered again when it has come, perhaps before this
/// returns: no reference to the context may be alive. Gives what the access phase returns: the
/// status of a body that nginx refuses, as it would later for the origin, is nginx's own answer.
///
/// # Safety
///
/// `r` must be a live main request in its access phase, and `on_body` end with [`go_on`].
pub(crate) unsafe fn read(
    r: *mut ngx_http_request_t,
    on_body: unsafe extern "C" fn(*mut ngx_http_request_t),
) -> ngx_int_t {
    // SAFETY: as the caller's.
    unsafe { ffi::px_request_keep_body_file(r) };
    // SAFETY: as the caller's.
    let rc = unsafe { ngx_http_read_client_request_body(r, Some(on_body)) };
    if rc >= SPECIAL_RESPONSE {
        return rc;
    }
    // Reading has taken a reference; this gives it back.
    // SAFETY: the reference is ours.
    unsafe { ngx_http_finalize_request(r, DONE) };
    DONE
}

/// The body has come, and the request is to be judged.
pub(crate) unsafe extern "C" fn to_be_judged(r: *mut ngx_http_request_t) {
    ffi::guard(
        "the end of a request's body",
        || (),
        || {
            // SAFETY: nginx passes a live request.
            let ctx = unsafe { Ctx::find(r) };
            // SAFETY: null or the context of this live request, borrowed for this block.
            if let Some(known) = unsafe { ctx.as_mut() } {
                known.stage = Stage::BodyRead;
            }
        },
    );
    // SAFETY: as above; it may be gone afterwards.
    unsafe { go_on(r) };
}

/// Enters the access phase again.
///
/// # Safety
///
/// `r` must be the request whose body nginx has just read; it may be gone afterwards.
pub(crate) unsafe fn go_on(r: *mut ngx_http_request_t) {
    // SAFETY: live request; nginx's reader has put an empty handler here.
    unsafe { (*r).write_event_handler = Some(ngx_http_core_run_phases) };
    // SAFETY: the request goes on where it stopped; it may be gone afterwards.
    unsafe { ngx_http_core_run_phases(r) };
}

/// A beginning of the body that was read, and its whole length. `None` where it cannot be read back.
///
/// # Safety
///
/// `r` must be a live main request.
pub(crate) unsafe fn beginning(
    r: *mut ngx_http_request_t,
    limit: usize,
) -> Option<(Zeroizing<Vec<u8>>, usize)> {
    // SAFETY: live request.
    let body = unsafe { (*r).request_body };
    // SAFETY: null or the body of the live request.
    let chain = unsafe { body.as_ref() }.map_or(std::ptr::null_mut(), |body| body.bufs);
    // SAFETY: as above.
    let total = unsafe { length(chain) };
    let mut copy = Zeroizing::new(Vec::with_capacity(total.min(limit)));
    // SAFETY: as above.
    unsafe { copy_chain(chain, &mut copy) }?;
    Some((copy, total))
}

/// Lends the body that was read to `look`, if it has at most `limit` bytes. What had to be copied
/// for that is wiped afterwards.
///
/// # Safety
///
/// `r` must be a live main request.
pub(crate) unsafe fn with<T>(
    r: *mut ngx_http_request_t,
    limit: usize,
    look: impl FnOnce(Option<&[u8]>) -> T,
) -> T {
    // SAFETY: as the caller's.
    match unsafe { parts(r, limit) } {
        Parts::None => look(None),
        // SAFETY: bytes of nginx's buffer, which stays as it is while the request is looked at.
        Parts::One(at, len) => look(Some(unsafe { std::slice::from_raw_parts(at, len) })),
        Parts::Copied(body) => look(Some(&body)),
    }
}

enum Parts {
    None,
    /// All of it lies in one place in memory.
    One(*const u8, usize),
    Copied(Zeroizing<Vec<u8>>),
}

/// # Safety
///
/// As [`with`].
unsafe fn parts(r: *mut ngx_http_request_t, limit: usize) -> Parts {
    // SAFETY: live request.
    let body = unsafe { (*r).request_body };
    // SAFETY: null or the body of the live request.
    let Some(body) = (unsafe { body.as_ref() }) else { return Parts::None };
    // SAFETY: as above.
    let total = unsafe { length(body.bufs) };
    if total == 0 {
        return Parts::None;
    }
    if total > limit {
        // SAFETY: live request.
        unsafe { say_too_large(r, limit) };
        return Parts::None;
    }
    // SAFETY: a chain of live buffers that holds something.
    let first = unsafe { &*body.bufs };
    // SAFETY: every link holds a buffer.
    let buffer = unsafe { &*first.buf };
    if !buffer.pos.is_null() && buffer.last.addr() - buffer.pos.addr() == total {
        return Parts::One(buffer.pos, total);
    }
    let mut copy = Zeroizing::new(Vec::with_capacity(total));
    // SAFETY: as above.
    if unsafe { copy_chain(body.bufs, &mut copy) }.is_none() || copy.len() != total {
        let text = "px: the request's body is not looked at because it cannot be read back";
        // SAFETY: live request.
        unsafe { log::request_line(r, INFO, text) };
        return Parts::None;
    }
    Parts::Copied(copy)
}

/// Bytes in a chain of buffers, in memory or in a file.
///
/// # Safety
///
/// `chain` must be a chain of live buffers that ends with null.
unsafe fn length(mut chain: *mut nginx_sys::ngx_chain_t) -> usize {
    let mut total = 0;
    // SAFETY: as the caller's.
    while let Some(link) = unsafe { chain.as_ref() } {
        // SAFETY: every link holds a buffer.
        let buffer = unsafe { &*link.buf };
        total += if buffer.pos.is_null() {
            usize::try_from(buffer.file_last - buffer.file_pos).unwrap_or_default()
        } else {
            buffer.last.addr() - buffer.pos.addr()
        };
        chain = link.next;
    }
    total
}

/// Appends what a chain holds, as far as the capacity of `copy` goes, which so never moves. `None` where
/// a file cannot be read.
///
/// # Safety
///
/// As [`length`].
unsafe fn copy_chain(mut chain: *mut nginx_sys::ngx_chain_t, copy: &mut Vec<u8>) -> Option<()> {
    // SAFETY: as the caller's.
    while let Some(link) = unsafe { chain.as_ref() } {
        let room = copy.capacity() - copy.len();
        if room == 0 {
            break;
        }
        // SAFETY: every link holds a buffer.
        let buffer = unsafe { &*link.buf };
        chain = link.next;
        if buffer.pos.is_null() && buffer.file.is_null() {
            // Says where the body ends, and holds nothing of it.
            continue;
        }
        if buffer.pos.is_null() {
            let size = usize::try_from(buffer.file_last - buffer.file_pos).ok()?.min(room);
            let room = copy.spare_capacity_mut().get_mut(..size)?;
            // SAFETY: an open file and room for `size` bytes.
            let read = unsafe {
                ngx_read_file(buffer.file, room.as_mut_ptr().cast(), size, buffer.file_pos)
            };
            if usize::try_from(read).ok()? != size {
                return None;
            }
            let filled = copy.len() + size;
            // SAFETY: so many bytes are initialised now.
            unsafe { copy.set_len(filled) };
        } else {
            let size = (buffer.last.addr() - buffer.pos.addr()).min(room);
            // SAFETY: a memory buffer's bytes from `pos` on.
            copy.extend_from_slice(unsafe { std::slice::from_raw_parts(buffer.pos, size) });
        }
    }
    Some(())
}

/// # Safety
///
/// `r` must be a live request.
unsafe fn say_too_large(r: *mut ngx_http_request_t, limit: usize) {
    let text = format!(
        "px: the request's body is not looked at because it is larger than {limit} bytes \
         (px_max_body_size)"
    );
    // SAFETY: the caller vouches for the request.
    unsafe { log::request_line(r, INFO, &text) };
}
