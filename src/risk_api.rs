//! The Risk API call: a subrequest with a body of our own and a hard total deadline.
//!
//! nginx's proxy module does the exchange in the synthetic location; the answer is caught by the
//! filters before any other module sees it. The worker never waits (DECISIONS 21).

use std::ffi::c_void;
use std::{mem, ptr};

use nginx_sys::{
    NGX_HTTP_POST, NGX_HTTP_SUBREQUEST_BACKGROUND, NGX_LOG_DEBUG, ngx_add_timer, ngx_buf_t,
    ngx_chain_t, ngx_del_timer, ngx_event_t, ngx_http_cleanup_t, ngx_http_core_main_conf_t,
    ngx_http_finalize_request, ngx_http_post_request, ngx_http_post_subrequest_t,
    ngx_http_request_body_t, ngx_http_request_empty_handler, ngx_http_request_t,
    ngx_http_run_posted_requests, ngx_http_subrequest, ngx_http_update_location_config,
    ngx_http_variable_value_t, ngx_int_t, ngx_list_init, ngx_log_t, ngx_table_elt_t, ngx_uint_t,
};
use px_core::enforce::{Action, Outcome, Pending, Verdict};

use crate::clock;
use crate::conf::MainConf;
use crate::ctx::{Ctx, Stage};
use crate::ffi::{self, OK, str_of};
use crate::log::{self, ALERT, ERR, Severity};
use crate::upstream::Slot;

/// Bytes of an answer that are kept. A Risk API answer is below 2 KiB; what is longer is cut here,
/// read to its end, and judged invalid.
const ANSWER_LIMIT: usize = 64 * 1024;

/// The notification by which our subrequests are recognised. Read from here wherever it is stored
/// or compared: the address of a function named twice need not be the same twice.
static ON_END: unsafe extern "C" fn(*mut ngx_http_request_t, *mut c_void, ngx_int_t) -> ngx_int_t =
    on_end;

/// A call under way or ended.
pub(crate) struct Call {
    /// `None` only after [`Call::into_parts`].
    pending: Option<Box<Pending<'static>>>,
    ending: Ending,
    /// The subrequest while it runs; null once it has ended or was given up.
    subrequest: *mut ngx_http_request_t,
    answer: Vec<u8>,
    /// The upstream block, if it is one of ours, and its turn when the call began.
    slot: *const Slot,
    turn: usize,
    deadline: ngx_event_t,
    restored: LogState,
}

/// How a call ended.
pub(crate) enum Ending {
    /// It has not.
    Open,
    Answer {
        status: u16,
        body: Vec<u8>,
    },
    Timeout,
    Failed(&'static str),
}

impl Ending {
    pub(crate) fn outcome(&self) -> Outcome<'_> {
        match self {
            Self::Answer { status, body } => Outcome::Answer { status: *status, body },
            Self::Timeout => Outcome::Timeout,
            Self::Failed(cause) => Outcome::Unreachable { cause },
            Self::Open => Outcome::Unreachable { cause: "the call was given up" },
        }
    }
}

/// A call that could not be started.
pub(crate) struct Refused {
    pub(crate) cause: &'static str,
    pub(crate) pending: Box<Pending<'static>>,
}

impl Call {
    /// What a call that has ended leaves behind.
    // By its box: an armed timer must not move out of it.
    pub(crate) fn into_parts(mut self: Box<Self>) -> Option<(Box<Pending<'static>>, Ending)> {
        let ending = mem::replace(&mut self.ending, Ending::Open);
        self.pending.take().map(|pending| (pending, ending))
    }

    fn stop_timer(&mut self) {
        if self.deadline.timer_set() != 0 {
            // SAFETY: armed by `start` and not yet fired.
            unsafe { ngx_del_timer(&raw mut self.deadline) };
        }
    }
}

impl Drop for Call {
    /// The request ends while the call is open (the client went away).
    fn drop(&mut self) {
        self.stop_timer();
    }
}

/// What the call changes in the connection's log and puts back.
#[derive(Clone, Copy)]
struct LogState {
    log: *mut ngx_log_t,
    level: ngx_uint_t,
    action: *mut std::ffi::c_char,
}

impl LogState {
    /// Remembers the log's state. While the Risk API is known to fail, and one line in a while
    /// says so, nginx's own line about every single failed call is held back.
    ///
    /// # Safety
    ///
    /// `log` must be the log of the client's connection.
    unsafe fn enter(log: *mut ngx_log_t, quiet: bool) -> Self {
        // SAFETY: the caller vouches for the log.
        let found = unsafe { &mut *log };
        let state = Self { log, level: found.log_level, action: found.action };
        if quiet && found.log_level < NGX_LOG_DEBUG as ngx_uint_t {
            found.log_level = ALERT;
        }
        state
    }

    /// # Safety
    ///
    /// The client's connection must still be live.
    unsafe fn restore(&self) {
        // SAFETY: the caller vouches for the connection, which owns the log.
        let log = unsafe { &mut *self.log };
        log.log_level = self.level;
        log.action = self.action;
    }
}

/// Starts the call and leaves it in the context. The access phase is entered again when it ends.
///
/// # Safety
///
/// `r` must be a live main request in its access phase, `ctx` its context, with no reference to it
/// alive.
pub(crate) unsafe fn start(
    r: *mut ngx_http_request_t,
    ctx: *mut Ctx,
    pending: Box<Pending<'static>>,
) -> Result<(), Refused> {
    // SAFETY: the context of a live request; the reference count keeps it beyond this borrow.
    let enforcement = unsafe { std::rc::Rc::clone(&(*ctx).enforcement) };
    // SAFETY: as above.
    let policy = unsafe { std::rc::Rc::clone(&(*ctx).policy) };
    let refuse = |cause, pending| Err(Refused { cause, pending });
    // SAFETY: the context of this live request, borrowed for this statement.
    let is_chosen = unsafe { (*ctx).risk_backend.is_some() };
    let location = match is_chosen {
        true => enforcement.chosen_risk_location.get(),
        false => enforcement.risk_location.get(),
    };
    let Some(location) = location else {
        return refuse("the Risk API location is missing", pending);
    };
    // SAFETY: null, or a slot that lives as long as the configuration.
    let slot = unsafe { location.slot.as_ref() };
    let addresses = slot.map(|slot| slot.backend.addresses());
    if addresses.is_some_and(|known| known.is_none_or(|addresses| addresses.is_empty())) {
        return refuse("the host of the Risk API could not be resolved", pending);
    }
    // SAFETY: live request.
    let c = unsafe { (*r).connection };
    // SAFETY: a live request has a connection with a log.
    let client_log = unsafe { (*c).log };
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    let quiet = main.shared.get().is_some_and(|shared| shared.risk_log.is_quiet(clock::now_ms()));

    // SAFETY: live request; its pool outlives the subrequest.
    let subrequest = unsafe {
        create_subrequest(
            r,
            ctx,
            location.uri.as_bytes(),
            pending.risk_body(),
            policy.authorization().as_bytes(),
        )
    };
    let Some(sr) = subrequest else {
        return refuse("no memory for the Risk API request", pending);
    };
    // SAFETY: the subrequest was just made and is only posted, not running.
    let sub = unsafe { &mut *sr };
    sub.loc_conf = location.loc_conf;
    sub.write_event_handler = Some(run_location);

    let pending_since = pending.started();
    // SAFETY: the connection is live.
    let restored = unsafe { LogState::enter(client_log, quiet) };
    let call = Call {
        pending: Some(pending),
        ending: Ending::Open,
        subrequest: sr,
        answer: Vec::new(),
        slot: location.slot,
        turn: slot.map_or(0, Slot::turn),
        // SAFETY: zero is the start state of an event.
        deadline: unsafe { mem::zeroed() },
        restored,
    };
    // SAFETY: the context of a live request; the caller holds no reference.
    let known = unsafe { &mut *ctx };
    known.stage = Stage::Waiting;
    let call = known.call.insert(Box::new(call));
    // The event must not move while it is armed: it lives in the call's box.
    call.deadline.handler = Some(on_deadline);
    call.deadline.data = r.cast();
    call.deadline.log = client_log;
    let limit = match enforcement.enforce_timeout {
        Some(whole) => {
            let gone = clock::now_ms().saturating_sub(pending_since);
            policy.options().s2s_timeout_ms.min(whole.saturating_sub(gone)).max(1)
        }
        None => policy.options().s2s_timeout_ms,
    };
    let limit = usize::try_from(limit).unwrap_or(60_000);
    // SAFETY: a complete event that is not armed.
    unsafe { ngx_add_timer(&raw mut call.deadline, limit) };
    Ok(())
}

/// Makes the subrequest: our method, headers and body, nothing of the client's.
///
/// # Safety
///
/// `r` must be a live main request and `ctx` its context.
unsafe fn create_subrequest(
    r: *mut ngx_http_request_t,
    ctx: *mut Ctx,
    uri: &[u8],
    body: &[u8],
    authorization: &[u8],
) -> Option<*mut ngx_http_request_t> {
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // Everything that can fail comes first: once the subrequest exists it runs.
    // SAFETY: live pool, as below; zero is valid for these C structs.
    let notify = unsafe { ffi::zeroed_in_pool::<ngx_http_post_subrequest_t>(pool) }?;
    notify.handler = Some(ON_END);
    notify.data = ctx.cast();
    // SAFETY: as above.
    let mut uri = unsafe { ffi::copy_to_pool(pool, uri) }?;
    // SAFETY: as above.
    let content = unsafe { ffi::copy_to_pool(pool, body) }?;
    // SAFETY: as above.
    let authorization = unsafe { ffi::copy_to_pool(pool, authorization) }?;
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
    let request_body = unsafe { ffi::zeroed_in_pool::<ngx_http_request_body_t>(pool) }?;
    request_body.bufs = link;
    // SAFETY: live request.
    let variables = unsafe { variable_cache(r) }?;
    // The list is built here and copied into the subrequest: `last` points into the struct, which
    // is why it is set once it stands where it stays.
    let mut sr: *mut ngx_http_request_t = ptr::null_mut();
    // Background: an ordinary subrequest would hold back the parent's answer until it ends, and the
    // deadline could not be kept.
    // SAFETY: all pointers are live; the URI and the notification live in the pool.
    let rc = unsafe {
        ngx_http_subrequest(
            r,
            &raw mut uri,
            ptr::null_mut(),
            &raw mut sr,
            notify,
            NGX_HTTP_SUBREQUEST_BACKGROUND as ngx_uint_t,
        )
    };
    if rc != OK || sr.is_null() {
        return None;
    }
    // SAFETY: made by nginx and only posted.
    let sub = unsafe { &mut *sr };
    sub.method = NGX_HTTP_POST as ngx_uint_t;
    sub.method_name = str_of("POST");
    sub.request_body = request_body;
    sub.variables = variables;
    let server = sub.headers_in.server;
    // SAFETY: zero is how nginx itself starts this struct.
    sub.headers_in = unsafe { mem::zeroed() };
    sub.headers_in.server = server;
    sub.headers_in.content_length_n = i64::try_from(content.len).unwrap_or_default();
    let list = &raw mut sub.headers_in.headers;
    // SAFETY: live pool and a list that is not in use.
    let rc = unsafe { ngx_list_init(list, pool, 4, size_of::<ngx_table_elt_t>()) };
    let line = |name, lowcase, value| {
        // SAFETY: initialised above; names are static and values live in the pool.
        unsafe { ffi::push_header(list, str_of(name), str_of(lowcase), value) }
    };
    let complete = rc == OK
        && line("Content-Type", "content-type", str_of("application/json")).is_some()
        && line("Authorization", "authorization", authorization).is_some();
    // SAFETY: a live subrequest.
    unsafe { ffi::px_request_want_body(sr) };
    if !complete {
        // It is posted already and cannot be taken back: let it end as soon as it runs.
        sub.write_event_handler = Some(end_at_once);
        return None;
    }
    Some(sr)
}

/// An empty variable cache for the subrequest. Shared with the parent, as nginx would have it,
/// `$http_user_agent` read against our headers would be remembered for the parent's access log.
///
/// # Safety
///
/// `r` must be a live request.
pub(crate) unsafe fn variable_cache(
    r: *mut ngx_http_request_t,
) -> Option<*mut ngx_http_variable_value_t> {
    // SAFETY: live request.
    let confs = unsafe { (*r).main_conf };
    let core = &raw const nginx_sys::ngx_http_core_module;
    // SAFETY: the core module's main configuration always exists.
    let cmcf = unsafe { ffi::module_entry::<ngx_http_core_main_conf_t>(confs, core) };
    // SAFETY: as above.
    let count = unsafe { (*cmcf).variables.nelts };
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // SAFETY: live pool.
    let cache = unsafe { ffi::array_in_pool::<ngx_http_variable_value_t>(pool, count.max(1)) };
    if cache.is_null() {
        return None;
    }
    // SAFETY: room for `count` values; zero means "not evaluated".
    unsafe { ptr::write_bytes(cache, 0, count) };
    Some(cache)
}

/// First and only turn of the subrequest: straight to the location's content handler, past the
/// server's rewrites, limits and access rules, which are not meant for it.
unsafe extern "C" fn run_location(sr: *mut ngx_http_request_t) {
    // SAFETY: nginx runs the posted subrequest.
    let fail_open = || unsafe { end_at_once(sr) };
    ffi::guard("the Risk API subrequest", fail_open, || {
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

/// Lowers a debug log to one without nginx's debug lines, which would repeat the bearer token when
/// the proxy module writes the call's head. Gives the level as it was.
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

/// Ends a subrequest that will not be run, so that its parent is not held up by it.
pub(crate) unsafe extern "C" fn end_at_once(sr: *mut ngx_http_request_t) {
    // SAFETY: nginx runs the posted subrequest; `sr` is not used afterwards.
    unsafe { ngx_http_finalize_request(sr, OK) };
}

/// The call that `r` belongs to, if `r` is the subrequest of a call.
///
/// # Safety
///
/// `r` must be a live request; the result is null or the context of its live main request.
unsafe fn caller(r: *mut ngx_http_request_t) -> *mut Ctx {
    // SAFETY: the caller vouches for the request.
    let notify = unsafe { (*r).post_subrequest };
    // SAFETY: null or a live notification.
    match unsafe { notify.as_ref() } {
        Some(notify) if notify.handler.is_some_and(|handler| ptr::fn_addr_eq(handler, ON_END)) => {
            notify.data.cast()
        }
        _ => ptr::null_mut(),
    }
}

/// True if `r` is the subrequest of a call: its answer is for the module alone.
///
/// # Safety
///
/// `r` must be a live request.
pub(crate) unsafe fn is_subrequest(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: as the caller's.
    !unsafe { caller(r) }.is_null()
}

/// Takes what the proxy module read of the answer's body and marks it consumed.
///
/// # Safety
///
/// `r` must be a live subrequest of a call and `chain` what its body filters are called with.
pub(crate) unsafe fn collect(r: *mut ngx_http_request_t, mut chain: *mut ngx_chain_t) {
    // SAFETY: as the caller's.
    let ctx = unsafe { caller(r) };
    // SAFETY: the context of the live main request, borrowed for this function, which calls
    // nothing that could reach it.
    let call = unsafe { (*ctx).call.as_deref_mut() };
    let mut answer = call.filter(|call| ptr::eq(call.subrequest, r)).map(|call| &mut call.answer);
    // SAFETY: a chain of live buffers that ends with null.
    while let Some(link) = unsafe { chain.as_ref() } {
        // SAFETY: every link holds a buffer.
        let buffer = unsafe { &mut *link.buf };
        if !buffer.pos.is_null() && buffer.last > buffer.pos {
            let len = buffer.last.addr() - buffer.pos.addr();
            // SAFETY: a memory buffer's bytes from `pos` to `last`.
            let bytes = unsafe { std::slice::from_raw_parts(buffer.pos, len) };
            if let Some(answer) = &mut answer {
                let room = ANSWER_LIMIT.saturating_sub(answer.len());
                answer.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            }
        }
        buffer.pos = buffer.last;
        buffer.file_pos = buffer.file_last;
        chain = link.next;
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
        "the end of the Risk API call",
        || OK,
        || {
            let ctx = data.cast::<Ctx>();
            // SAFETY: live subrequest.
            let status = unsafe { (*sr).headers_out.status };
            // SAFETY: as above; null if it never came to be an upstream's.
            let upstream = unsafe { (*sr).upstream.as_ref() };
            // nginx takes an answer that ends too early for one that ends, but it has counted:
            // what is left is 0, or -1 where the end of the connection is the end of the answer.
            let cut_short = upstream.is_some_and(|upstream| upstream.length > 0);
            // SAFETY: the context of the live main request, borrowed until it is woken.
            let known = unsafe { &mut *ctx };
            let Some(call) = known.call.as_deref_mut() else { return OK };
            if known.stage != Stage::Waiting || !ptr::eq(call.subrequest, sr) {
                // Given up at the deadline, or heard of before.
                return OK;
            }
            call.stop_timer();
            call.subrequest = ptr::null_mut();
            const CUT_SHORT: Ending = Ending::Failed("the answer of the Risk API was cut short");
            call.ending = match rc {
                OK if status != 0 && cut_short => CUT_SHORT,
                OK if status != 0 => Ending::Answer {
                    status: u16::try_from(status).unwrap_or_default(),
                    body: mem::take(&mut call.answer),
                },
                502 => Ending::Failed("no valid answer from the Risk API"),
                504 => Ending::Timeout,
                -1 if status != 0 => CUT_SHORT,
                _ => Ending::Failed("the Risk API call failed"),
            };
            known.stage = Stage::Answered;
            // SAFETY: the client's connection is live while its request is.
            unsafe { call.restored.restore() };
            // SAFETY: live subrequest; nginx runs what is posted after this event. Short of memory the
            // parent is not woken by us, and its deadline is gone: run it from the queue nginx keeps.
            let parent = unsafe { (*sr).parent };
            // SAFETY: the parent waits for this call.
            let _ = unsafe { ngx_http_post_request(parent, ptr::null_mut()) };
            OK
        },
    )
}

/// The total time limit has run out: the call is given up and the request goes on.
unsafe extern "C" fn on_deadline(ev: *mut ngx_event_t) {
    ffi::guard(
        "the Risk API deadline",
        || (),
        || {
            // SAFETY: nginx passes the event that fired, which `start` filled.
            let r = unsafe { (*ev).data }.cast::<ngx_http_request_t>();
            // SAFETY: the timer is stopped when the request ends, so it is live.
            let ctx = unsafe { Ctx::find(r) };
            // SAFETY: null or the context of the live request, borrowed until the subrequest is ended.
            let Some(known) = (unsafe { ctx.as_mut() }) else { return };
            let Some(call) = known.call.as_deref_mut() else { return };
            if known.stage != Stage::Waiting {
                return;
            }
            let sr = mem::replace(&mut call.subrequest, ptr::null_mut());
            call.ending = Ending::Timeout;
            known.stage = Stage::Answered;
            // SAFETY: null, or a slot that lives as long as the configuration.
            if let Some(slot) = unsafe { call.slot.as_ref() } {
                slot.give_up(call.turn);
            }
            // SAFETY: the client's connection is live while its request is.
            unsafe { call.restored.restore() };
            // SAFETY: the subrequest of this live request.
            unsafe { abandon(r, sr) };
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

/// Ends a subrequest that nobody waits for any more and closes its connection to the Risk API, by
/// the cleanup the upstream module registered for it: the one it runs when a client goes away.
///
/// # Safety
///
/// `sr` must be the running subrequest of the live main request `r`.
pub(crate) unsafe fn abandon(r: *mut ngx_http_request_t, sr: *mut ngx_http_request_t) {
    // SAFETY: live request.
    let mut next: *mut ngx_http_cleanup_t = unsafe { (*r).cleanup };
    // SAFETY: a list of live records that ends with null.
    while let Some(record) = unsafe { next.as_ref() } {
        if ptr::eq(record.data, sr.cast::<c_void>())
            && let Some(handler) = record.handler
        {
            // SAFETY: registered for exactly this subrequest; the upstream module clears it first.
            unsafe { handler(record.data) };
            return;
        }
        next = record.next;
    }
}

/// One line about a failed call, at most one a minute from all workers together.
///
/// # Safety
///
/// `r` must be a live request.
pub(crate) unsafe fn report_failure(
    r: *mut ngx_http_request_t,
    verdict: &Verdict<'_>,
    severity: Severity,
) {
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    let Some(shared) = main.shared.get() else { return };
    if severity == Severity::None {
        return;
    }
    let Some(held_back) = shared.risk_log.admit(clock::now_ms()) else { return };
    let what = match &verdict.s2s_error {
        Some(error) => {
            let status =
                error.http_status.map(|s| format!(", HTTP status {s}")).unwrap_or_default();
            format!("{}{status}: {}", error.reason.as_str(), log::one_line(&error.message, 200))
        }
        None => "no answer within \"px_s2s_timeout\"".to_owned(),
    };
    let more = match held_back {
        0 => String::new(),
        n => format!("; {n} such lines were held back"),
    };
    let done = match verdict.action {
        Action::Pass | Action::SimulatedBlock => "the visitor passes",
        Action::Block => "the visitor gets the challenge of the hype sale",
    };
    let text = format!("px: Risk API call failed, {done}: {what}{more}");
    // SAFETY: live request.
    unsafe { log::request_line(r, ERR, &text) };
}
