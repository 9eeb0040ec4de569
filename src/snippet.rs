//! Snippet injection: the sensor's script element goes into pages on their way to the visitor
//! (snippet-injection.md).
//!
//! Pages stream through: at most six bytes are held back, and one buffer is copied, the one the snippet
//! is put into. Where it is switched off nothing of this runs.

use std::ptr;

use nginx_sys::{
    NGX_HTTP_HEAD, ngx_alloc_chain_link, ngx_buf_t, ngx_chain_t, ngx_http_request_t, ngx_pool_t,
    ngx_str_t, ngx_uint_t,
};
use px_core::enforce::Action;
use px_core::request::Request;
use px_core::snippet::{Scanner, default_snippet};

use crate::conf::MainConf;
use crate::ctx::Ctx;
use crate::ffi;

/// A page on its way.
pub(crate) struct Injection {
    scanner: Scanner,
    /// In the request's pool.
    snippet: ngx_str_t,
}

/// Whether the origin should not compress its answer: a page may come of this request, and nothing can
/// be put into a compressed one. nginx's own `gzip` works on what leaves here.
pub(crate) fn wants_plain_answer(request: &Request<'_>) -> bool {
    let mut accepted = request.header_values("accept").peekable();
    accepted.peek().is_none()
        || accepted
            .any(|value| value.windows(9).any(|window| window.eq_ignore_ascii_case(b"text/html")))
}

/// Begins to inject, if the answer whose headers are about to be sent is a page that can take it.
///
/// # Safety
///
/// `r` must be a live main request and `ctx` its context.
pub(crate) unsafe fn on_headers(r: *mut ngx_http_request_t, ctx: &mut Ctx) {
    let is_passed = ctx.verdict.as_ref().is_some_and(|verdict| verdict.action != Action::Block);
    // SAFETY: live request.
    if !is_passed || !unsafe { is_plain_page(r) } {
        return;
    }
    // SAFETY: as the caller's.
    let Some(snippet) = (unsafe { text_for(r, ctx) }) else { return };
    // SAFETY: live request whose headers are not sent yet.
    unsafe { ffi::px_response_grows(r) };
    ctx.injection = Some(Box::new(Injection { scanner: Scanner::default(), snippet }));
}

/// A whole page with a body, as text.
///
/// # Safety
///
/// `r` must be a live request whose headers are about to be sent.
unsafe fn is_plain_page(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: live request.
    let request = unsafe { &*r };
    let out = &request.headers_out;
    // SAFETY: a string of the live request.
    let content_type = unsafe { ffi::bytes(out.content_type) };
    let is_html =
        content_type.get(..9).is_some_and(|start| start.eq_ignore_ascii_case(b"text/html"));
    is_html
        && matches!(out.status, 200..=299)
        && !matches!(out.status, 204..=206)
        && out.content_length_n != 0
        && out.content_encoding.is_null()
        && request.method != NGX_HTTP_HEAD as ngx_uint_t
}

/// The operator's own text, the fetched one, or the default; `None` where there is none (yet).
///
/// # Safety
///
/// As [`on_headers`].
unsafe fn text_for(r: *mut ngx_http_request_t, ctx: &Ctx) -> Option<ngx_str_t> {
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    let own = ctx.enforcement.custom_snippet;
    // SAFETY: live request under the configuration that its context keeps.
    let own = own.map_or("", |own| unsafe { own.evaluate(r) });
    if !own.is_empty() {
        // SAFETY: live pool.
        return unsafe { ffi::copy_to_pool(pool, own.as_bytes()) };
    }
    if let Some(task) = ctx.enforcement.tasks.snippet {
        // SAFETY: live request.
        let main = unsafe { MainConf::of_request(r) };
        let fetched = main.with_worker(|worker| worker.background.snippet(task)).flatten()?;
        // SAFETY: live pool.
        return unsafe { ffi::copy_to_pool(pool, fetched.as_bytes()) };
    }
    // SAFETY: live pool.
    unsafe { ffi::copy_to_pool(pool, default_snippet(&ctx.policy).as_bytes()) }
}

/// The chain with the snippet in its place; null if nothing is to be sent yet. Without memory the page
/// leaves as it is.
///
/// # Safety
///
/// `r` must be a live main request, `ctx` its context, `chain` what its body filters are called with.
pub(crate) unsafe fn on_body(
    r: *mut ngx_http_request_t,
    ctx: &mut Ctx,
    chain: *mut ngx_chain_t,
) -> *mut ngx_chain_t {
    let Some(injection) = ctx.injection.as_deref_mut() else { return chain };
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    let mut out = Chain::new(pool);
    let mut next = chain;
    // SAFETY: a chain of live buffers that ends with null.
    while let Some(link) = unsafe { next.as_ref() } {
        // SAFETY: every link holds a buffer.
        unsafe { injection.pass(&mut out, link.buf) };
        next = link.next;
    }
    if injection.scanner.is_over() {
        ctx.injection = None;
    }
    out.first
}

impl Injection {
    /// Looks through one buffer and adds it to what leaves, whole or in parts.
    ///
    /// # Safety
    ///
    /// `buffer` must be live.
    unsafe fn pass(&mut self, out: &mut Chain, buffer: *mut ngx_buf_t) {
        // SAFETY: the caller vouches for the buffer.
        let b = unsafe { &mut *buffer };
        let is_last = b.last_buf() != 0;
        let length = if b.pos.is_null() { 0 } else { b.last.addr().saturating_sub(b.pos.addr()) };
        if length == 0 || self.scanner.is_over() {
            if is_last {
                out.copy(self.scanner.finish().as_bytes());
            }
            out.push(buffer);
            return;
        }
        // SAFETY: a memory buffer's bytes from `pos` to `last`; the filter asked for memory.
        let piece = unsafe { std::slice::from_raw_parts(b.pos, length) };
        let found = self.scanner.scan(piece);
        if found.before_released {
            out.copy_str(self.snippet);
        }
        out.copy(found.released.as_bytes());
        if let Some(at) = found.at {
            out.copy(piece.get(..at).unwrap_or_default());
            out.copy_str(self.snippet);
            // What was copied counts as sent.
            // SAFETY: within the buffer.
            b.pos = unsafe { b.pos.add(at) };
            b.file_pos += i64::try_from(at).unwrap_or_default();
        }
        if is_last && found.held > 0 {
            // Nothing follows: what the piece holds back it may keep, and what earlier ones did goes first.
            let held = self.scanner.finish();
            let earlier = held.as_bytes().len().saturating_sub(found.held);
            out.copy(held.as_bytes().get(..earlier).unwrap_or_default());
        } else if found.held > 0 {
            // SAFETY: within the buffer: no more is held back of a piece than it is long.
            b.last = unsafe { b.last.sub(found.held) };
            b.file_last -= i64::try_from(found.held).unwrap_or_default();
        }
        if b.pos == b.last {
            // An empty buffer in memory is an error to nginx, unless all it carries are its marks.
            out.push_marks(b);
        } else {
            out.push(buffer);
        }
    }
}

/// A chain in the making.
struct Chain {
    pool: *mut ngx_pool_t,
    first: *mut ngx_chain_t,
    last: *mut ngx_chain_t,
}

impl Chain {
    fn new(pool: *mut ngx_pool_t) -> Self {
        Self { pool, first: ptr::null_mut(), last: ptr::null_mut() }
    }

    /// Adds a buffer; its links in the caller's chain stay as they are.
    fn push(&mut self, buffer: *mut ngx_buf_t) {
        // SAFETY: the pool is that of the live request.
        let link = unsafe { ngx_alloc_chain_link(self.pool) };
        // SAFETY: null or a fresh link.
        let Some(fresh) = (unsafe { link.as_mut() }) else { return };
        fresh.buf = buffer;
        fresh.next = ptr::null_mut();
        // SAFETY: null or the link pushed before.
        match unsafe { self.last.as_mut() } {
            Some(last) => last.next = link,
            None => self.first = link,
        }
        self.last = link;
    }

    fn copy(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        // SAFETY: the pool is that of the live request.
        if let Some(copy) = unsafe { ffi::copy_to_pool(self.pool, bytes) } {
            self.copy_str(copy);
        }
    }

    /// Adds text that lives in the pool.
    fn copy_str(&mut self, text: ngx_str_t) {
        if text.len == 0 {
            return;
        }
        // SAFETY: the pool is that of the live request; zero is valid for this C struct.
        let Some(buffer) = (unsafe { ffi::zeroed_in_pool::<ngx_buf_t>(self.pool) }) else { return };
        buffer.start = text.data;
        buffer.pos = text.data;
        // SAFETY: one past the end of the text.
        buffer.last = unsafe { text.data.add(text.len) };
        buffer.end = buffer.last;
        buffer.set_memory(1);
        self.push(buffer);
    }

    /// Adds what an empty buffer says beside its bytes.
    fn push_marks(&mut self, of: &ngx_buf_t) {
        if of.flush() == 0 && of.last_buf() == 0 && of.sync() == 0 && of.last_in_chain() == 0 {
            return;
        }
        // SAFETY: the pool is that of the live request; zero is valid for this C struct.
        let Some(buffer) = (unsafe { ffi::zeroed_in_pool::<ngx_buf_t>(self.pool) }) else { return };
        buffer.set_flush(of.flush());
        buffer.set_last_buf(of.last_buf());
        buffer.set_last_in_chain(of.last_in_chain());
        buffer.set_sync(u32::from(of.last_buf() == 0 && of.flush() == 0));
        self.push(buffer);
    }
}
