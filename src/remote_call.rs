//! A call to a remote service while a request waits: a subrequest with a request line, headers and a
//! body of our own, and a hard total deadline. Whoever asks a service from the access phase does it
//! by this: the Risk API's calls and the requests to a traffic-analysis node.
//!
//! nginx's proxy module does the exchange in a synthetic location; the answer is caught by the filters
//! before any other module sees it. The worker never waits (DECISIONS 21).

use std::ffi::c_void;
use std::{mem, ptr};

use nginx_sys::{
    NGX_LOG_DEBUG, ngx_add_timer, ngx_buf_t, ngx_chain_t, ngx_connection_t, ngx_del_timer,
    ngx_event_t, ngx_http_finalize_request, ngx_http_post_request, ngx_http_request_body_t,
    ngx_http_request_empty_handler, ngx_http_request_t, ngx_http_run_posted_requests,
    ngx_http_update_location_config, ngx_int_t, ngx_log_t, ngx_msec_t, ngx_str_t, ngx_uint_t,
};
use px_core::node;

use crate::ffi::{self, OK};
use crate::log::LogState;
use crate::subrequest;
use crate::upstream::Slot;

/// Bytes of an answer's body that are kept, or read where nobody wants them.
const ANSWER_LIMIT: usize = 64 * 1024;
/// A moment that has not come.
const NEVER: ngx_msec_t = ngx_msec_t::MAX;

/// The notification by which our subrequests are recognised. Read from here wherever it is stored
/// or compared: the address of a function named twice need not be the same twice.
static ON_END: unsafe extern "C" fn(*mut ngx_http_request_t, *mut c_void, ngx_int_t) -> ngx_int_t =
    on_end;

/// Where calls go.
#[derive(Clone, Copy)]
pub(crate) struct Destination {
    /// The synthetic location's array of configurations.
    pub(crate) loc_conf: *mut *mut c_void,
    /// The injected upstream block; null where the backend is chosen request by request.
    pub(crate) slot: *const Slot,
}

/// What is sent.
pub(crate) struct Message<'m> {
    /// nginx's number of the method, and its name.
    pub(crate) method: (u32, &'m [u8]),
    /// Sent byte for byte.
    pub(crate) target: &'m [u8],
    /// Name and value of each header line. `Host` and `Content-Length` are the proxy module's.
    pub(crate) headers: &'m [(&'m [u8], &'m [u8])],
    pub(crate) body: Option<&'m [u8]>,
}

/// How a call is waited for.
pub(crate) struct Waiting {
    /// The whole of it, milliseconds.
    pub(crate) limit: u64,
    pub(crate) wants: Wants,
    /// Told once, with the main request, that the call has an ending. What this module keeps of the
    /// request may be changed in it; the request is woken afterwards.
    pub(crate) ended: unsafe fn(*mut ngx_http_request_t),
    /// nginx's own lines about the call are held back.
    pub(crate) is_quiet: bool,
}

/// What of an answer is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    /// All of it. What is longer than the limit is cut there and read to its end.
    Body,
    /// The status alone, as soon as it is there. The rest is read so that the connection can be used
    /// again, unless it is longer than the limit.
    Status,
    /// As above, but the call ends with the answer.
    StatusAtEnd,
}

/// A call under way or ended. Boxed: nginx keeps its address until the subrequest is gone.
pub(crate) struct Call {
    main: *mut ngx_http_request_t,
    /// The subrequest while it runs; null once it has ended or was given up.
    subrequest: *mut ngx_http_request_t,
    waiting: Waiting,
    ending: Ending,
    /// Of the answer, once its headers are there.
    status: Option<u16>,
    /// Whoever waits for the status knows it.
    is_told: bool,
    /// The body; of an interim answer what follows it.
    answer: Vec<u8>,
    /// Bytes of the body that were read.
    read: usize,
    /// What went wrong with the last connection that was tried.
    refused: Option<Failure>,
    slot: *const Slot,
    /// Of the upstream block when the call began.
    turn: usize,
    deadline: ngx_event_t,
    restored: LogState,
}

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It has not.
    Open,
    Answer {
        status: u16,
        body: Vec<u8>,
    },
    Timeout,
    Failed(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection.
    Connect,
    /// No TLS on the connection.
    Tls,
    /// The connection was closed before the first byte of an answer.
    Closed,
    /// What came is no answer.
    BadAnswer,
    /// Its body ended too early.
    CutShort,
    /// nginx could not send the request.
    NotSent,
}

/// Why there is no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The host has no address.
    Unresolved,
    NoMemory,
}

impl Call {
    /// Starts a call. The access phase is entered again when it has ended, unless it is dropped before,
    /// which stops its clock: the caller keeps it as long as the request.
    ///
    /// # Safety
    ///
    /// `r` must be a live main request that nothing runs until this returns, and keep the call;
    /// the destination must live as long as the request.
    pub(crate) unsafe fn start(
        r: *mut ngx_http_request_t,
        destination: Destination,
        message: &Message<'_>,
        waiting: Waiting,
    ) -> Result<Box<Self>, Refused> {
        // SAFETY: null, or a slot that lives as long as the configuration.
        let slot = unsafe { destination.slot.as_ref() };
        let addresses = slot.map(|slot| slot.backend.addresses());
        if addresses.is_some_and(|known| known.is_none_or(|addresses| addresses.is_empty())) {
            return Err(Refused::Unresolved);
        }
        // SAFETY: a live request has a connection with a log.
        let log = unsafe { (*(*r).connection).log };
        let mut call = Box::new(Self {
            main: r,
            subrequest: ptr::null_mut(),
            waiting,
            ending: Ending::Open,
            status: None,
            is_told: false,
            answer: Vec::new(),
            read: 0,
            refused: None,
            slot: destination.slot,
            turn: slot.map_or(0, Slot::turn),
            // SAFETY: zero is the start state of an event.
            deadline: unsafe { mem::zeroed() },
            // SAFETY: the connection is live.
            restored: unsafe { LogState::of(log) },
        });
        // SAFETY: live request; its pool, and the call, outlive the subrequest.
        let subrequest = unsafe { create(r, &raw mut *call, message) };
        let Some(sr) = subrequest else { return Err(Refused::NoMemory) };
        call.subrequest = sr;
        // SAFETY: the subrequest was just made and is only posted, not running.
        let sub = unsafe { &mut *sr };
        sub.loc_conf = destination.loc_conf;
        sub.write_event_handler = Some(run_location);
        // SAFETY: the connection is live.
        unsafe { call.restored.hold_back(call.waiting.is_quiet) };
        call.deadline.handler = Some(on_deadline);
        call.deadline.data = (&raw mut *call).cast();
        call.deadline.log = log;
        let limit = usize::try_from(call.waiting.limit).unwrap_or(60_000);
        // SAFETY: a complete event that is not armed, at an address of its own.
        unsafe { ngx_add_timer(&raw mut call.deadline, limit) };
        Ok(call)
    }

    /// How the call has ended, once.
    pub(crate) fn take_ending(&mut self) -> Ending {
        mem::replace(&mut self.ending, Ending::Open)
    }

    /// The balancer says that a connection could not be used.
    ///
    /// # Safety
    ///
    /// `c` must be null or the live connection.
    pub(crate) unsafe fn note_refusal(&mut self, c: *mut ngx_connection_t) {
        // SAFETY: as the caller's.
        let has_tls = !c.is_null() && unsafe { ffi::px_connection_is_tls(c) } != 0;
        self.refused = Some(if has_tls { Failure::Tls } else { Failure::Connect });
    }

    /// Gives the subrequest up as soon as nginx is done with what it is doing: inside of a filter it
    /// cannot be ended, and an error there would be the client's.
    fn stop_reading(&mut self) {
        self.stop_timer();
        // SAFETY: a complete event that is not armed.
        unsafe { ngx_add_timer(&raw mut self.deadline, 0) };
    }

    fn stop_timer(&mut self) {
        if self.deadline.timer_set() != 0 {
            // SAFETY: armed by `start` and not yet fired.
            unsafe { ngx_del_timer(&raw mut self.deadline) };
        }
    }

    /// The call has this ending; whoever waits for it is told.
    ///
    /// # Safety
    ///
    /// Its main request must be live, and no reference to what is kept of it alive but this.
    unsafe fn end(this: *mut Self, ending: Ending) {
        // SAFETY: the caller vouches for the call; the borrow ends before anybody is told.
        let (ended, main) = unsafe {
            let call = &mut *this;
            call.ending = ending;
            // The client's connection is live while its request is.
            call.restored.restore();
            (call.waiting.ended, call.main)
        };
        // SAFETY: a live main request.
        unsafe { ended(main) };
    }

    /// Why nginx answered the subrequest with an error of its own.
    ///
    /// # Safety
    ///
    /// `sr` must be the live subrequest of this call.
    unsafe fn failure(&self, sr: *mut ngx_http_request_t) -> Failure {
        // SAFETY: as the caller's; null if it never came to be an upstream's.
        let upstream = unsafe { (*sr).upstream.as_ref() };
        // SAFETY: null before the first attempt, else in the subrequest's pool.
        let state = upstream.and_then(|upstream| unsafe { upstream.state.as_ref() });
        match state {
            None => Failure::NotSent,
            Some(state) if state.connect_time == NEVER => self.refused.unwrap_or(Failure::Connect),
            Some(state) if state.bytes_received == 0 => Failure::Closed,
            Some(_) => Failure::BadAnswer,
        }
    }
}

impl Drop for Call {
    /// The request ends while the call is open (the client went away).
    fn drop(&mut self) {
        self.stop_timer();
    }
}

/// Makes the subrequest: our method, headers and body, nothing of the client's.
///
/// # Safety
///
/// `r` must be a live main request, and `call` live as long as the subrequest.
unsafe fn create(
    r: *mut ngx_http_request_t,
    call: *mut Call,
    message: &Message<'_>,
) -> Option<*mut ngx_http_request_t> {
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // Everything that can fail comes first: once the subrequest exists it runs.
    // SAFETY: live pool, as below.
    let target = unsafe { ffi::copy_to_pool(pool, message.target) }?;
    // SAFETY: as above.
    let method_name = unsafe { ffi::copy_to_pool(pool, message.method.1) }?;
    let request_body = match message.body {
        // SAFETY: as above.
        Some(body) => unsafe { body_of(pool, body) }?,
        None => ptr::null_mut(),
    };
    let mut lines: Vec<[ngx_str_t; 3]> = Vec::with_capacity(message.headers.len());
    for (name, value) in message.headers {
        // SAFETY: as above.
        lines.push(unsafe {
            [
                ffi::copy_to_pool(pool, name)?,
                ffi::copy_to_pool(pool, &name.to_ascii_lowercase())?,
                ffi::copy_to_pool(pool, value)?,
            ]
        });
    }
    // SAFETY: live request.
    let variables = unsafe { subrequest::variable_cache(r) }?;
    // SAFETY: as the caller's.
    let sr = unsafe { subrequest::start(r, message.target, Some(ON_END), call.cast()) }?;
    // SAFETY: made by nginx and only posted.
    let list = unsafe { subrequest::without_headers(sr, lines.len().max(1)) };
    // SAFETY: as above.
    let sub = unsafe { &mut *sr };
    sub.method = message.method.0 as ngx_uint_t;
    sub.method_name = method_name;
    sub.unparsed_uri = target;
    sub.request_body = request_body;
    sub.variables = variables;
    if let Some(body) = message.body {
        sub.headers_in.content_length_n = i64::try_from(body.len()).unwrap_or_default();
    }
    let is_complete = list.is_some_and(|list| {
        lines.iter().all(|[name, lowcase, value]| {
            // SAFETY: an initialised list, strings in the pool.
            unsafe { ffi::push_header(list, *name, *lowcase, *value) }.is_some()
        })
    });
    // SAFETY: a live subrequest.
    unsafe { ffi::px_request_want_body(sr) };
    // SAFETY: as above.
    unsafe { ffi::px_request_keep_target(sr) };
    if !is_complete {
        // It is posted already and cannot be taken back: let it end as soon as it runs. The call that
        // it would tell is dropped with what this gives.
        // SAFETY: made by `subrequest::start`.
        unsafe { (*sub.post_subrequest).handler = None };
        sub.write_event_handler = Some(subrequest::end_at_once);
        return None;
    }
    Some(sr)
}

/// A body of these bytes.
///
/// # Safety
///
/// `pool` must be live.
unsafe fn body_of(
    pool: *mut nginx_sys::ngx_pool_t,
    bytes: &[u8],
) -> Option<*mut ngx_http_request_body_t> {
    // SAFETY: live pool, as below; zero is valid for these C structs.
    let content = unsafe { ffi::copy_to_pool(pool, bytes) }?;
    // SAFETY: as above.
    let buffer = unsafe { ffi::zeroed_in_pool::<ngx_buf_t>(pool) }?;
    buffer.start = content.data;
    buffer.pos = content.data;
    // SAFETY: one past the end of the copy.
    buffer.last = unsafe { content.data.add(content.len) };
    buffer.end = buffer.last;
    buffer.set_temporary(1);
    buffer.set_last_buf(1);
    // SAFETY: as above.
    let link = unsafe { ffi::zeroed_in_pool::<ngx_chain_t>(pool) }?;
    link.buf = buffer;
    // SAFETY: as above.
    let body = unsafe { ffi::zeroed_in_pool::<ngx_http_request_body_t>(pool) }?;
    body.bufs = link;
    Some(body)
}

/// First and only turn of the subrequest: straight to the location's content handler, past the
/// server's rewrites, limits and access rules, which are not meant for it.
unsafe extern "C" fn run_location(sr: *mut ngx_http_request_t) {
    // SAFETY: nginx runs the posted subrequest.
    let fail_open = || unsafe { subrequest::end_at_once(sr) };
    ffi::guard("a subrequest to a service", fail_open, || {
        // SAFETY: nginx runs the posted subrequest; its location configuration was set by `start`.
        unsafe { ngx_http_update_location_config(sr) };
        // SAFETY: live subrequest.
        let sub = unsafe { &mut *sr };
        sub.write_event_handler = Some(ngx_http_request_empty_handler);
        // SAFETY: a live request has a connection.
        let log = unsafe { (*sub.connection).log };
        // SAFETY: a live connection has a log.
        let level = unsafe { hide_debug_lines(log) };
        let rc = match sub.content_handler {
            // SAFETY: the handler that `proxy_pass` set for this location.
            Some(handler) => unsafe { handler(sr) },
            None => ffi::ERROR,
        };
        // SAFETY: nginx itself goes on with the request after its content handler.
        unsafe { show_debug_lines(log, level) };
        // SAFETY: as nginx does after every content handler; `sr` is not used afterwards.
        unsafe { ngx_http_finalize_request(sr, rc) };
    });
}

/// Lowers a debug log to one without nginx's debug lines, which would repeat bearer tokens and cookies
/// when the proxy module writes the call's head. Gives the level as it was.
///
/// # Safety
///
/// `log` must be live.
unsafe fn hide_debug_lines(log: *mut ngx_log_t) -> ngx_uint_t {
    // SAFETY: the caller vouches for the log.
    let log = unsafe { &mut *log };
    let level = log.log_level;
    log.log_level = level.min(NGX_LOG_DEBUG as ngx_uint_t);
    level
}

/// Puts back what [`hide_debug_lines`] changed, unless the end of the call has done so already.
///
/// # Safety
///
/// `log` must be live.
unsafe fn show_debug_lines(log: *mut ngx_log_t, level: ngx_uint_t) {
    // SAFETY: the caller vouches for the log.
    let log = unsafe { &mut *log };
    if level > NGX_LOG_DEBUG as ngx_uint_t && log.log_level == NGX_LOG_DEBUG as ngx_uint_t {
        log.log_level = level;
    }
}

/// The call that `r` is the subrequest of; null if it is none.
///
/// # Safety
///
/// `r` must be a live request; the result lives as long as it runs.
pub(crate) unsafe fn of(r: *mut ngx_http_request_t) -> *mut Call {
    // SAFETY: as the caller's.
    unsafe { subrequest::data_of(r, ON_END) }.cast()
}

/// True if `r` is the subrequest of a call: its answer is for the module alone.
///
/// # Safety
///
/// `r` must be a live request.
pub(crate) unsafe fn is_subrequest(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: as the caller's.
    !unsafe { of(r) }.is_null()
}

/// The headers of an answer have come.
///
/// # Safety
///
/// `sr` must be a live subrequest of a call, whose header filters are called.
pub(crate) unsafe fn on_headers(sr: *mut ngx_http_request_t) {
    // SAFETY: as the caller's.
    let this = unsafe { of(sr) };
    // SAFETY: live subrequest.
    let status = unsafe { (*sr).headers_out.status };
    let status = u16::try_from(status).unwrap_or_default();
    // SAFETY: the call lives while its subrequest runs; the borrow ends before it is ended.
    let call = unsafe { &mut *this };
    if !ptr::eq(call.subrequest, sr) || call.waiting.wants == Wants::Body {
        return;
    }
    // 0 of what has no status line, which nginx takes for HTTP/0.9.
    if !(100..200).contains(&status) {
        call.status = Some(status);
    }
    // SAFETY: as above.
    unsafe { tell_status(this) };
}

/// Tells whoever waits for the status, if it is there and has not been told.
///
/// # Safety
///
/// `this` must be a live call with no other reference to it alive.
unsafe fn tell_status(this: *mut Call) {
    // SAFETY: as the caller's; the borrow ends before the call is ended.
    let call = unsafe { &mut *this };
    let Some(status) = call.status else { return };
    if call.waiting.wants != Wants::Status || call.is_told {
        return;
    }
    call.is_told = true;
    let main = call.main;
    // SAFETY: the main request waits for this call.
    unsafe { Call::end(this, of_status(status)) };
    // SAFETY: as above; nginx runs what is posted after this event.
    let _ = unsafe { ngx_http_post_request(main, ptr::null_mut()) };
}

/// The ending of a call whose status alone is wanted.
fn of_status(status: u16) -> Ending {
    match status {
        node::NO_STATUS => Ending::Failed(Failure::BadAnswer),
        status => Ending::Answer { status, body: Vec::new() },
    }
}

/// Takes what the proxy module read of the answer's body and marks it consumed.
///
/// # Safety
///
/// `sr` must be a live subrequest of a call and `chain` what its body filters are called with.
pub(crate) unsafe fn collect(sr: *mut ngx_http_request_t, mut chain: *mut ngx_chain_t) {
    // SAFETY: as the caller's.
    let this = unsafe { of(sr) };
    // SAFETY: the call lives while its subrequest runs; borrowed until its status is told.
    let call = unsafe { &mut *this };
    let is_current = ptr::eq(call.subrequest, sr);
    // What follows an interim answer holds the status.
    let keeps = is_current && (call.waiting.wants == Wants::Body || call.status.is_none());
    // SAFETY: a chain of live buffers that ends with null.
    while let Some(link) = unsafe { chain.as_ref() } {
        // SAFETY: every link holds a buffer.
        let buffer = unsafe { &mut *link.buf };
        if !buffer.pos.is_null() && buffer.last > buffer.pos {
            let len = buffer.last.addr() - buffer.pos.addr();
            // SAFETY: a memory buffer's bytes from `pos` to `last`.
            let bytes = unsafe { std::slice::from_raw_parts(buffer.pos, len) };
            if keeps {
                let room = ANSWER_LIMIT.saturating_sub(call.answer.len());
                call.answer.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            } else {
                call.read += len;
            }
        }
        buffer.pos = buffer.last;
        buffer.file_pos = buffer.file_last;
        chain = link.next;
    }
    if !is_current || call.waiting.wants == Wants::Body {
        return;
    }
    if call.status.is_none() {
        call.status = node::final_status(&call.answer);
        // nginx would wait for the end of the connection.
        if call.status.is_some() || call.answer.len() >= ANSWER_LIMIT {
            call.stop_reading();
        }
        // SAFETY: as above.
        unsafe { tell_status(this) };
    } else if call.read > ANSWER_LIMIT {
        call.stop_reading();
    }
}

/// The subrequest has ended. Always `NGX_OK`: for any other value nginx would make an error page
/// of it and call this again.
unsafe extern "C" fn on_end(
    sr: *mut ngx_http_request_t,
    data: *mut c_void,
    rc: ngx_int_t,
) -> ngx_int_t {
    ffi::guard(
        "the end of a call",
        || OK,
        || {
            let this = data.cast::<Call>();
            // SAFETY: the call outlives its subrequest; borrowed until it is ended.
            let call = unsafe { &mut *this };
            if !ptr::eq(call.subrequest, sr) {
                // Given up at the deadline, or heard of before.
                return OK;
            }
            call.stop_timer();
            call.subrequest = ptr::null_mut();
            if call.is_told {
                // It was told when it came.
                return OK;
            }
            // SAFETY: live subrequest.
            let ending = unsafe { ending(call, sr, rc) };
            // SAFETY: live subrequest.
            let parent = unsafe { (*sr).parent };
            // SAFETY: the main request waits for this call.
            unsafe { Call::end(this, ending) };
            // SAFETY: as above; nginx runs what is posted after this event. Short of memory the parent
            // is not woken by us, and its deadline is gone: run it from the queue nginx keeps.
            let _ = unsafe { ngx_http_post_request(parent, ptr::null_mut()) };
            OK
        },
    )
}

/// # Safety
///
/// `sr` must be the live subrequest of `call`.
unsafe fn ending(call: &mut Call, sr: *mut ngx_http_request_t, rc: ngx_int_t) -> Ending {
    if call.waiting.wants != Wants::Body
        && let Some(status) = call.status
    {
        return of_status(status);
    }
    // SAFETY: live subrequest.
    let status = unsafe { (*sr).headers_out.status };
    // SAFETY: as above; null if it never came to be an upstream's.
    let upstream = unsafe { (*sr).upstream.as_ref() };
    // nginx takes an answer that ends too early for one that ends, but it has counted:
    // what is left is 0, or -1 where the end of the connection is the end of the answer.
    let cut_short = upstream.is_some_and(|upstream| upstream.length > 0);
    match rc {
        OK if status != 0 && cut_short => Ending::Failed(Failure::CutShort),
        OK if status != 0 && call.waiting.wants == Wants::Body => Ending::Answer {
            status: u16::try_from(status).unwrap_or_default(),
            body: mem::take(&mut call.answer),
        },
        // An interim answer and no other.
        OK if status != 0 => Ending::Failed(Failure::Closed),
        504 => Ending::Timeout,
        -1 if status != 0 => Ending::Failed(Failure::CutShort),
        // SAFETY: as the caller's.
        502 => Ending::Failed(unsafe { call.failure(sr) }),
        _ => Ending::Failed(Failure::NotSent),
    }
}

/// The total time limit has run out: the call is given up and the request goes on.
unsafe extern "C" fn on_deadline(ev: *mut ngx_event_t) {
    ffi::guard(
        "the deadline of a call",
        || (),
        || {
            // SAFETY: nginx passes the event that fired, which `start` filled.
            let this = unsafe { (*ev).data }.cast::<Call>();
            // SAFETY: the timer is stopped when the call is dropped; borrowed until it is ended.
            let call = unsafe { &mut *this };
            let r = call.main;
            let sr = mem::replace(&mut call.subrequest, ptr::null_mut());
            if sr.is_null() {
                return;
            }
            if call.is_told {
                // Only the rest of an answer is late. With the subrequest the request may go, and this.
                // SAFETY: the subrequest of this live request.
                unsafe { subrequest::abandon(r, sr) };
                return;
            }
            // SAFETY: null, or a slot that lives as long as the configuration.
            if let (Some(slot), None) = (unsafe { call.slot.as_ref() }, call.status) {
                slot.give_up(call.turn);
            }
            let ending = call.status.map_or(Ending::Timeout, of_status);
            // SAFETY: the main request waits for this call.
            unsafe { Call::end(this, ending) };
            // SAFETY: the subrequest of this live request.
            unsafe { subrequest::abandon(r, sr) };
            // SAFETY: giving up the subrequest released only its own reference.
            let c = unsafe { (*r).connection };
            // SAFETY: as above; in the access phase this runs the phases.
            if let Some(handler) = unsafe { (*r).write_event_handler } {
                // SAFETY: as nginx does for a request that may go on.
                unsafe { handler(r) };
            }
            // SAFETY: the connection outlives its requests' events; nobody else runs what is posted.
            unsafe { ngx_http_run_posted_requests(c) };
        },
    );
}
