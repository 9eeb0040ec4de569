//! The operator's own block page, fetched from this server by a subrequest and kept in memory, so
//! that it can be told what the captcha script needs to know (block-response.md § 7).
//!
//! The visitor waits for it, but not without bound: a page that fails, is late or too large is
//! replaced by the built-in one.

use std::ffi::c_void;
use std::{mem, ptr};

use nginx_sys::{
    NGX_HTTP_GET, ngx_add_timer, ngx_buf_t, ngx_chain_t, ngx_del_timer, ngx_event_t,
    ngx_http_post_request, ngx_http_request_t, ngx_http_run_posted_requests, ngx_int_t,
    ngx_table_elt_t, ngx_uint_t,
};

use crate::ctx::{Ctx, Stage};
use crate::ffi::{self, OK, str_of};
use crate::subrequest;

/// Largest page that is shown.
const PAGE_LIMIT: usize = 1 << 20;
/// How long a blocked visitor waits for it at most.
const DEADLINE_MS: usize = 2000;

/// The notification by which these subrequests are recognised. Read from here wherever it is stored
/// or compared: the address of a function named twice need not be the same twice.
static ON_END: unsafe extern "C" fn(*mut ngx_http_request_t, *mut c_void, ngx_int_t) -> ngx_int_t =
    on_end;

/// A page under way or come.
pub(crate) struct PageRequest {
    /// The subrequest while it runs; null once it has ended or was given up.
    subrequest: *mut ngx_http_request_t,
    body: Vec<u8>,
    ending: Ending,
    deadline: ngx_event_t,
}

enum Ending {
    Open,
    Status(usize),
    Late,
    TooLarge,
    Unreadable,
}

impl PageRequest {
    /// The page, or why there is none.
    pub(crate) fn page(&self) -> Result<&[u8], String> {
        match self.ending {
            Ending::Status(200..=299) => Ok(&self.body),
            Ending::Status(status) => Err(format!("it was answered with status {status}")),
            Ending::Late => Err(format!("it did not come within {DEADLINE_MS} ms")),
            Ending::TooLarge => Err(format!("it is larger than {PAGE_LIMIT} bytes")),
            Ending::Unreadable => Err("its file cannot be read".to_owned()),
            Ending::Open => Err("it was given up".to_owned()),
        }
    }
}

impl Drop for PageRequest {
    /// The request ends while the page is under way (the client went away).
    fn drop(&mut self) {
        if self.deadline.timer_set() != 0 {
            // SAFETY: armed by `start` and not yet fired.
            unsafe { ngx_del_timer(&raw mut self.deadline) };
        }
    }
}

/// Starts fetching `page`, a path that may have a query. The access phase is entered again when it
/// has come. False, and nothing started, when memory is short.
///
/// # Safety
///
/// `r` must be a live main request in its access phase, `ctx` its context, with no reference to it
/// alive.
pub(crate) unsafe fn start(r: *mut ngx_http_request_t, ctx: *mut Ctx, page: &str) -> bool {
    // SAFETY: as the caller's.
    let Some(sr) = (unsafe { create(r, ctx, page) }) else { return false };
    // SAFETY: live request.
    let connection = unsafe { (*r).connection };
    let request = PageRequest {
        subrequest: sr,
        body: Vec::new(),
        ending: Ending::Open,
        // SAFETY: zero is the start state of an event.
        deadline: unsafe { mem::zeroed() },
    };
    // SAFETY: the context of a live request; the caller holds no reference.
    let known = unsafe { &mut *ctx };
    known.stage = Stage::FetchingPage;
    let request = known.page.insert(Box::new(request));
    // The event must not move while it is armed: it lives in the box.
    request.deadline.handler = Some(on_deadline);
    request.deadline.data = r.cast();
    // SAFETY: a live request has a connection with a log.
    request.deadline.log = unsafe { (*connection).log };
    // SAFETY: a complete event that is not armed.
    unsafe { ngx_add_timer(&raw mut request.deadline, DEADLINE_MS) };
    true
}

/// A GET of the page with the visitor's host and user agent and nothing else of theirs: no body, no
/// conditions, no ranges, no coding that would hide the page from us.
///
/// # Safety
///
/// As [`start`].
unsafe fn create(
    r: *mut ngx_http_request_t,
    ctx: *mut Ctx,
    page: &str,
) -> Option<*mut ngx_http_request_t> {
    // Everything that can fail comes first: once the subrequest exists it runs.
    // SAFETY: live request.
    let variables = unsafe { subrequest::variable_cache(r) }?;
    // SAFETY: live request.
    let received = unsafe { &(*r).headers_in };
    // SAFETY: null or elements of the header list.
    let (host, user_agent) = unsafe { (received.host.as_ref(), received.user_agent.as_ref()) };
    // SAFETY: live request whose pool, with the context in it, outlives the subrequest.
    let sr = unsafe { subrequest::start(r, page.as_bytes(), Some(ON_END), ctx.cast()) }?;
    // SAFETY: made by nginx and only posted.
    let list = unsafe { subrequest::without_headers(sr, 2) };
    // SAFETY: as above.
    let sub = unsafe { &mut *sr };
    sub.method = NGX_HTTP_GET as ngx_uint_t;
    sub.method_name = str_of("GET");
    sub.variables = variables;
    let line = |name, lowcase, received: Option<&ngx_table_elt_t>| {
        let Some(received) = received else { return Some(ptr::null_mut()) };
        let list = list?;
        // SAFETY: initialised above; names are static and values live as long as the request.
        unsafe { ffi::push_header(list, str_of(name), str_of(lowcase), received.value) }?;
        // SAFETY: the last part of the list holds the element that was just added.
        let element = unsafe {
            let last = &*(*list).last;
            last.elts.cast::<ngx_table_elt_t>().add(last.nelts - 1)
        };
        Some(element)
    };
    let lines = (|| {
        list?;
        Some((line("Host", "host", host)?, line("User-Agent", "user-agent", user_agent)?))
    })();
    // SAFETY: a live subrequest.
    unsafe { ffi::px_request_want_body(sr) };
    let Some((host, user_agent)) = lines else {
        // It is posted already and cannot be taken back: let it end as soon as it runs.
        sub.write_event_handler = Some(subrequest::end_at_once);
        return None;
    };
    sub.headers_in.host = host;
    sub.headers_in.user_agent = user_agent;
    Some(sr)
}

/// The context of the main request that `r` fetches a page for, if it does.
///
/// # Safety
///
/// `r` must be a live request; the result is null or the context of its live main request.
unsafe fn asker(r: *mut ngx_http_request_t) -> *mut Ctx {
    // SAFETY: as the caller's.
    unsafe { subrequest::data_of(r, ON_END) }.cast()
}

/// True if `r` fetches a page: its answer is for the module alone.
///
/// # Safety
///
/// `r` must be a live request.
pub(crate) unsafe fn is_subrequest(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: as the caller's.
    !unsafe { asker(r) }.is_null()
}

/// Takes a part of the page and marks it consumed.
///
/// # Safety
///
/// `r` must be a live subrequest of this module and `chain` what its body filters are called with.
pub(crate) unsafe fn collect(r: *mut ngx_http_request_t, mut chain: *mut ngx_chain_t) {
    // SAFETY: as the caller's.
    let ctx = unsafe { asker(r) };
    // SAFETY: the context of the live main request, borrowed for this function, which calls
    // nothing that could reach it.
    let request = unsafe { (*ctx).page.as_deref_mut() };
    let mut request = request.filter(|request| ptr::eq(request.subrequest, r));
    // SAFETY: a chain of live buffers that ends with null.
    while let Some(link) = unsafe { chain.as_ref() } {
        // SAFETY: every link holds a buffer.
        let buffer = unsafe { &mut *link.buf };
        if let Some(request) = &mut request
            && matches!(request.ending, Ending::Open)
        {
            // SAFETY: as above.
            if let Err(ending) = unsafe { append(&mut request.body, buffer) } {
                request.body.clear();
                request.ending = ending;
            }
        }
        buffer.pos = buffer.last;
        buffer.file_pos = buffer.file_last;
        chain = link.next;
    }
}

/// Appends what a buffer holds, in memory or in a file: what turns files into memory comes later.
///
/// # Safety
///
/// `buffer` must be a live buffer.
unsafe fn append(body: &mut Vec<u8>, buffer: &ngx_buf_t) -> Result<(), Ending> {
    let is_in_memory = !buffer.pos.is_null();
    let size = match is_in_memory {
        true => buffer.last.addr() - buffer.pos.addr(),
        false if buffer.file.is_null() => 0,
        false => usize::try_from(buffer.file_last - buffer.file_pos).unwrap_or_default(),
    };
    if body.len() + size > PAGE_LIMIT {
        return Err(Ending::TooLarge);
    }
    if size == 0 {
        return Ok(());
    }
    if is_in_memory {
        // SAFETY: a memory buffer's bytes from `pos` to `last`.
        body.extend_from_slice(unsafe { std::slice::from_raw_parts(buffer.pos, size) });
        return Ok(());
    }
    let start = body.len();
    body.resize(start + size, 0);
    let room = body.get_mut(start..).unwrap_or_default();
    // SAFETY: an open file and room for `size` bytes.
    let read = unsafe { ffi::px_read_file(buffer.file, room.as_mut_ptr(), size, buffer.file_pos) };
    if usize::try_from(read) == Ok(size) { Ok(()) } else { Err(Ending::Unreadable) }
}

/// The subrequest has ended. Always `NGX_OK`: for any other value nginx would make an error page
/// of it and call this again.
unsafe extern "C" fn on_end(
    sr: *mut ngx_http_request_t,
    data: *mut c_void,
    rc: ngx_int_t,
) -> ngx_int_t {
    ffi::guard(
        "the end of a block page",
        || OK,
        || {
            let ctx = data.cast::<Ctx>();
            // SAFETY: live subrequest.
            let status = unsafe { (*sr).headers_out.status };
            // SAFETY: the context of the live main request, borrowed until it is woken.
            let known = unsafe { &mut *ctx };
            let Some(request) = known.page.as_deref_mut() else { return OK };
            if known.stage != Stage::FetchingPage || !ptr::eq(request.subrequest, sr) {
                // Given up at the deadline, or heard of before.
                return OK;
            }
            if request.deadline.timer_set() != 0 {
                // SAFETY: armed by `start` and not yet fired.
                unsafe { ngx_del_timer(&raw mut request.deadline) };
            }
            request.subrequest = ptr::null_mut();
            if matches!(request.ending, Ending::Open) {
                // A location that answers with an error says so here and sends nothing.
                let status = match usize::try_from(rc) {
                    Ok(refused) if refused >= 300 => refused,
                    Ok(_) => status,
                    Err(_) => 500,
                };
                request.ending = Ending::Status(status);
            }
            known.stage = Stage::PageFetched;
            // SAFETY: live subrequest; nginx runs what is posted after this event.
            let parent = unsafe { (*sr).parent };
            // SAFETY: the parent waits for this page.
            let _ = unsafe { ngx_http_post_request(parent, ptr::null_mut()) };
            OK
        },
    )
}

/// The visitor has waited long enough.
unsafe extern "C" fn on_deadline(ev: *mut ngx_event_t) {
    ffi::guard(
        "the deadline of a block page",
        || (),
        || {
            // SAFETY: nginx passes the event that fired, which `start` filled.
            let r = unsafe { (*ev).data }.cast::<ngx_http_request_t>();
            // SAFETY: the timer is stopped when the request ends, so it is live.
            let ctx = unsafe { Ctx::find(r) };
            // SAFETY: null or the context of the live request, borrowed until the subrequest is ended.
            let Some(known) = (unsafe { ctx.as_mut() }) else { return };
            let Some(request) = known.page.as_deref_mut() else { return };
            if known.stage != Stage::FetchingPage {
                return;
            }
            let sr = mem::replace(&mut request.subrequest, ptr::null_mut());
            request.ending = Ending::Late;
            known.stage = Stage::PageFetched;
            // SAFETY: live request.
            let connection = unsafe { (*r).connection };
            // SAFETY: the subrequest of this live request.
            unsafe { subrequest::abandon(r, sr) };
            // SAFETY: giving up the subrequest released only its own reference.
            if let Some(handler) = unsafe { (*r).write_event_handler } {
                // SAFETY: as nginx does for a request that may go on.
                unsafe { handler(r) };
            }
            // SAFETY: the connection outlives its requests' events; nobody else runs what is posted.
            unsafe { ngx_http_run_posted_requests(connection) };
        },
    );
}
