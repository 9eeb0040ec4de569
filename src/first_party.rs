//! First-party requests: sensor, captcha script and the sensor's messages, proxied for a browser that
//! need not know of HUMAN's hosts (first-party.md).
//!
//! The request stays where the operator put it. Only what decides where its content comes from is
//! exchanged: the proxy module's configuration and the content handler. Whatever keeps HUMAN's side
//! from answering, the browser gets the specified default answer, within the time limit.

use std::ffi::c_void;
use std::rc::Rc;
use std::{mem, ptr};

use nginx_sys::{
    NGX_HTTP_VAR_NOCACHEABLE, ngx_add_timer, ngx_buf_t, ngx_chain_t, ngx_conf_t, ngx_del_timer,
    ngx_event_t, ngx_http_add_variable, ngx_http_finalize_request, ngx_http_handler_pt,
    ngx_http_max_module, ngx_http_request_empty_handler, ngx_http_request_t,
    ngx_http_run_posted_requests, ngx_http_variable_value_t, ngx_int_t, ngx_list_init,
    ngx_table_elt_t, ngx_uint_t,
};
use px_core::enforce::Answer;
use px_core::first_party::{self, Route};
use px_core::request::Request;

use crate::clock;
use crate::conf::MainConf;
use crate::ctx::{Ctx, Stage};
use crate::ffi::{self, DECLINED, DONE, ERROR, OK, str_of};
use crate::log::{self, ERR, LogState, Severity};
use crate::respond;
use crate::shared_zone::Shared;
use crate::subrequest;

/// The variable that the proxy's configuration is written with; nobody else sees a value in it.
pub(crate) const URL_VARIABLE: &str = "px_internal_first_party_url";
/// nginx gives a request that it cannot proxy a status from here on.
const SERVER_ERROR: ngx_uint_t = 500;
/// nginx's own line before it says more.
const NO_VALID_ANSWER: &str = "no valid answer";
/// The proxy module's own limit comes first where it can, because it knows of cached copies.
const GRACE_MS: usize = 50;

/// A first-party request on its way.
pub(crate) struct FirstParty {
    /// Of the upstream, the injected block in the place of its host.
    url: String,
    /// What the browser gets if the upstream gives nothing.
    default: Answer,
    state: State,
    handler: ngx_http_handler_pt,
    /// Of the browser's request: nginx changes it where the upstream does not speak HTTP.
    http_version: ngx_uint_t,
    /// Milliseconds for the upstream.
    limit: usize,
    deadline: ngx_event_t,
    /// Where nginx's own lines about the upstream go.
    log: LogState,
    /// It has been counted among those that failed.
    has_failed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Others may still refuse the request: its place in the access phase has come, its content's not.
    Announced,
    /// The upstream is asked.
    Asked,
    /// Headers are on their way to the browser, the upstream's or those of a refusal.
    Answered,
    /// As above, with the default answer: its body is to come.
    Defaulted,
    /// As above, and the body is on its way.
    Sent,
}

impl FirstParty {
    fn stop_timer(&mut self) {
        if self.deadline.timer_set() != 0 {
            // SAFETY: armed by `begin_waiting` and not yet fired.
            unsafe { ngx_del_timer(&raw mut self.deadline) };
        }
    }
}

impl Drop for FirstParty {
    /// The request ends, perhaps while the upstream is asked (the client went away).
    fn drop(&mut self) {
        self.stop_timer();
        // SAFETY: nginx closes a connection after its requests.
        unsafe { self.log.restore() };
    }
}

/// Lets the request be proxied, or answers it where there is nothing to fetch. Gives what the access
/// phase is to return.
///
/// # Safety
///
/// `r` must be a live main request in its access phase, `ctx` its context with no reference to it
/// alive, `view` its view.
pub(crate) unsafe fn serve(
    r: *mut ngx_http_request_t,
    ctx: *mut Ctx,
    view: &Request<'static>,
    route: &Route<'static>,
) -> ngx_int_t {
    // SAFETY: as the caller's.
    if unsafe { redirect(r, ctx, view, route) }.is_some() {
        return DECLINED;
    }
    // SAFETY: the context of this live request, borrowed for this statement.
    let policy = unsafe { Rc::clone(&(*ctx).policy) };
    // Where there is nothing to fetch nobody has failed: a visitor may ask for any path.
    if route.upstream_url(&policy).is_some() {
        // SAFETY: as the caller's.
        unsafe { note_failure(r, "it could not be asked") };
    }
    // SAFETY: as the caller's; neither is used again.
    unsafe { respond::send(r, &route.default_answer()) };
    DONE
}

/// Counts a request that HUMAN did not answer, and says so, at most once a minute for all workers
/// together. Meanwhile nginx's own lines about such requests are held back.
///
/// # Safety
///
/// `r` must be a live request with a context and no reference into it alive.
unsafe fn note_failure(r: *mut ngx_http_request_t, what: &str) {
    // SAFETY: as the caller's.
    let ctx = unsafe { Ctx::find(r) };
    // SAFETY: null or the context of this live request.
    let Some(ctx) = (unsafe { ctx.as_mut() }) else { return };
    if let Some(first_party) = &mut ctx.first_party
        && mem::replace(&mut first_party.has_failed, true)
    {
        return;
    }
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    let Some(shared) = main.shared.get() else { return };
    shared.app(ctx.enforcement.app_place.get()).first_party_failed();
    if ctx.policy.options().logger_severity == Severity::None {
        return;
    }
    let Some(held_back) = shared.first_party_log.admit(clock::steady_ms()) else { return };
    if let Some(first_party) = &ctx.first_party {
        // SAFETY: the connection of a live request.
        unsafe { first_party.log.restore() };
    }
    let more = log::held_back(held_back);
    let text = format!("px: HUMAN did not answer a first-party request: {what}{more}");
    // SAFETY: live request.
    unsafe { log::request_line(r, ERR, &text) };
}

/// # Safety
///
/// As [`serve`].
unsafe fn redirect(
    r: *mut ngx_http_request_t,
    ctx: *mut Ctx,
    view: &Request<'static>,
    route: &Route<'static>,
) -> Option<()> {
    // SAFETY: the context of this live request, borrowed for this statement.
    let enforcement = unsafe { Rc::clone(&(*ctx).enforcement) };
    // SAFETY: as above.
    let policy = unsafe { Rc::clone(&(*ctx).policy) };
    let policy = &*policy;
    let url = route.upstream_url(policy)?;
    // SAFETY: live request.
    let (length, is_chunked) =
        unsafe { ((*r).headers_in.content_length_n, ffi::px_request_is_chunked(r) != 0) };
    let location = enforcement.first_party.get()?.of(route.resource, length, is_chunked);
    // SAFETY: the slot lives as long as the configuration.
    let addresses = unsafe { (*location.slot).backend.addresses() };
    if addresses.is_none_or(|addresses| addresses.is_empty()) {
        // The host could not be resolved (yet).
        return None;
    }
    let (_, rest) = url.split_once("://")?;
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    let url = format!("{}{path}", location.base);
    // SAFETY: live request and its view.
    unsafe { replace_headers(r, &first_party::upstream_headers(view, policy)) }?;
    // SAFETY: live request; the array is that of a location of this configuration.
    unsafe { replace_confs(r, &location.overrides) }?;
    let limit = usize::try_from(policy.options().first_party.timeout_ms).unwrap_or(60_000);
    // SAFETY: the context of this live request, borrowed until the end.
    let known = unsafe { &mut *ctx };
    known.stage = Stage::FirstParty;
    known.first_party = Some(Box::new(FirstParty {
        url,
        default: route.default_answer(),
        state: State::Announced,
        handler: location.handler,
        // SAFETY: live request.
        http_version: unsafe { (*r).http_version },
        limit,
        // SAFETY: zero is the start state of an event.
        deadline: unsafe { mem::zeroed() },
        // SAFETY: a live request has a connection with a log.
        log: unsafe { LogState::of((*(*r).connection).log) },
        has_failed: false,
    }));
    // SAFETY: live request.
    unsafe { (*r).content_handler = Some(content_handler) };
    Some(())
}

/// Gives the request the headers that the upstream is to see. The old lines stay where they are,
/// because nginx keeps pointers to some of them.
///
/// # Safety
///
/// `r` must be a live main request.
unsafe fn replace_headers<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    r: *mut ngx_http_request_t,
    headers: &[(N, V)],
) -> Option<()> {
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    let mut copies = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let name = name.as_ref();
        // SAFETY: live pool, three times.
        copies.push(unsafe {
            [
                ffi::copy_to_pool(pool, name)?,
                ffi::copy_to_pool(pool, &name.to_ascii_lowercase())?,
                ffi::copy_to_pool(pool, value.as_ref())?,
            ]
        });
    }
    // SAFETY: live request. Made anew in its place.
    let list = unsafe { &raw mut (*r).headers_in.headers };
    // SAFETY: live pool.
    let rc =
        unsafe { ngx_list_init(list, pool, copies.len().max(1), size_of::<ngx_table_elt_t>()) };
    if rc != OK {
        return None;
    }
    for [name, lowcase, value] in copies {
        // SAFETY: an initialised list, strings in the request's pool.
        unsafe { ffi::push_header(list, name, lowcase, value) }?;
    }
    Some(())
}

/// Gives the request a copy of its location with other configurations in some modules' places.
///
/// # Safety
///
/// `r` must be a live request and the overrides have been made for this configuration.
unsafe fn replace_confs(
    r: *mut ngx_http_request_t,
    overrides: &[(usize, *mut c_void)],
) -> Option<()> {
    // SAFETY: nginx counted its http modules before it took requests.
    let modules = unsafe { ngx_http_max_module };
    // SAFETY: live request.
    let request = unsafe { &mut *r };
    // SAFETY: live pool.
    let confs = unsafe { ffi::array_in_pool::<*mut c_void>(request.pool, modules) };
    if confs.is_null() {
        return None;
    }
    // SAFETY: both have a slot for each http module.
    unsafe { ptr::copy_nonoverlapping(request.loc_conf, confs, modules) };
    for (index, conf) in overrides {
        // SAFETY: a module's number is below the count of modules.
        unsafe { *confs.add(*index) = *conf };
    }
    request.loc_conf = confs;
    Some(())
}

/// The end of the access phase. If nobody has refused the request its content begins here already:
/// Lua's access code puts itself behind everybody else's, and a gateway's router there, which knows of
/// no route to HUMAN, would answer 404.
pub(crate) unsafe extern "C" fn at_the_end_of_access(r: *mut ngx_http_request_t) -> ngx_int_t {
    let begins = ffi::guard(
        "the end of the access phase",
        || false,
        || {
            // SAFETY: nginx passes a live request.
            let request = unsafe { &mut *r };
            let ours: unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t = content_handler;
            let is_ours = request.content_handler.is_some_and(|own| ptr::fn_addr_eq(own, ours));
            // Under `satisfy any` somebody has refused it, and nobody has let it in.
            if !is_ours || request.access_code != 0 {
                return false;
            }
            // As nginx's content phase does.
            request.write_event_handler = Some(ngx_http_request_empty_handler);
            true
        },
    );
    if !begins {
        return DECLINED;
    }
    // SAFETY: live request that has not been answered.
    let rc = unsafe { content_handler(r) };
    // SAFETY: as above; not used again.
    unsafe { ngx_http_finalize_request(r, rc) };
    DONE
}

/// The content of a request that nobody has refused.
unsafe extern "C" fn content_handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    let handler = ffi::guard(
        "the content of a first-party request",
        || None,
        || {
            // SAFETY: nginx passes a live request.
            let first_party = unsafe { of(r) }?;
            first_party.state = State::Asked;
            // SAFETY: live request.
            let main = unsafe { MainConf::of_request(r) };
            let is_quiet = |shared: &Shared| shared.first_party_log.is_quiet(clock::steady_ms());
            // SAFETY: the connection of a live request.
            unsafe { first_party.log.hold_back(main.shared.get().is_some_and(is_quiet)) };
            first_party.handler
        },
    );
    match handler {
        // SAFETY: the proxy module's handler, under its configuration.
        Some(handler) => unsafe { handler(r) },
        None => ERROR,
    }
}

/// The first-party request that `r` is, if it is one.
///
/// # Safety
///
/// `r` must be a live request; no other reference into its context may be alive.
unsafe fn of<'r>(r: *mut ngx_http_request_t) -> Option<&'r mut FirstParty> {
    // SAFETY: live request.
    if !ptr::eq(r, unsafe { (*r).main }) {
        return None;
    }
    // SAFETY: as above.
    let ctx = unsafe { Ctx::find(r) };
    // SAFETY: null or the context of this live request.
    unsafe { ctx.as_mut() }?.first_party.as_deref_mut()
}

/// The upstream is about to be connected to: its time begins.
///
/// # Safety
///
/// `r` must be a live request whose upstream's balancer is being asked.
pub(crate) unsafe fn begin_waiting(r: *mut ngx_http_request_t) {
    // SAFETY: as the caller's.
    let Some(first_party) = (unsafe { of(r) }) else { return };
    if first_party.state != State::Asked || first_party.deadline.timer_set() != 0 {
        return;
    }
    let event = &mut first_party.deadline;
    event.handler = Some(on_deadline);
    event.data = r.cast();
    // SAFETY: a live request has a connection with a log.
    event.log = unsafe { (*(*r).connection).log };
    // SAFETY: a complete event at a fixed address that is not armed.
    unsafe { ngx_add_timer(event, first_party.limit + GRACE_MS) };
}

/// The time limit has run out without an answer's headers.
unsafe extern "C" fn on_deadline(ev: *mut ngx_event_t) {
    ffi::guard(
        "the deadline of a first-party request",
        || (),
        || {
            // SAFETY: nginx passes the event that fired, which `begin_waiting` filled.
            let r = unsafe { (*ev).data }.cast::<ngx_http_request_t>();
            // SAFETY: the timer is stopped when the request ends, so it is live.
            let Some(first_party) = (unsafe { of(r) }) else { return };
            if first_party.state != State::Asked {
                return;
            }
            // SAFETY: live request.
            if unsafe { ffi::px_request_is_reading_body(r) } != 0 {
                // It is the browser that takes its time, for which nginx has limits of its own.
                // SAFETY: a complete event that has fired.
                unsafe { ngx_add_timer(ev, first_party.limit + GRACE_MS) };
                return;
            }
            first_party.state = State::Answered;
            let answer = first_party.default.clone();
            // SAFETY: live request; no reference into its context is used again.
            unsafe { note_failure(r, "no answer within \"px_first_party_timeout_ms\"") };
            // SAFETY: live request; giving up the upstream releases one reference to it.
            unsafe { ffi::px_request_hold(r) };
            // SAFETY: the upstream was made for the main request itself.
            unsafe { subrequest::abandon(r, r) };
            // SAFETY: the reference is ours.
            let c = unsafe { (*r).connection };
            // SAFETY: live request, not answered; not used again.
            unsafe { respond::send(r, &answer) };
            // SAFETY: the connection outlives its requests' events; nobody else runs what is posted.
            unsafe { ngx_http_run_posted_requests(c) };
        },
    );
}

/// An internal redirect has led back into the access phase. If it is to show an error page because
/// the upstream failed, the default answer is given instead.
///
/// # Safety
///
/// As [`serve`].
pub(crate) unsafe fn after_redirect(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: live request.
    let status = unsafe { (*r).err_status };
    // SAFETY: as the caller's.
    let Some(first_party) = (unsafe { of(r) }) else { return DECLINED };
    if first_party.state != State::Asked || status < SERVER_ERROR {
        return DECLINED;
    }
    first_party.stop_timer();
    first_party.state = State::Answered;
    let answer = first_party.default.clone();
    // SAFETY: live request; no reference into its context is used again.
    unsafe { note_failure(r, NO_VALID_ANSWER) };
    // SAFETY: live request; not used again.
    unsafe { respond::send(r, &answer) };
    DONE
}

/// The headers of an answer are about to be sent. Where nginx answers because the upstream did not,
/// they become those of the default answer.
///
/// # Safety
///
/// `r` must be a live request; no other reference into its context may be alive.
pub(crate) unsafe fn on_headers(r: *mut ngx_http_request_t) {
    // SAFETY: as the caller's.
    let Some(first_party) = (unsafe { of(r) }) else { return };
    if first_party.state != State::Asked {
        return;
    }
    first_party.stop_timer();
    first_party.state = State::Answered;
    // SAFETY: live request.
    let request = unsafe { &mut *r };
    // What is no HTTP at all nginx takes for the body of an answer without status.
    if request.err_status < SERVER_ERROR && request.headers_out.status != 0 {
        return;
    }
    first_party.state = State::Defaulted;
    request.err_status = 0;
    request.http_version = first_party.http_version;
    let (answer, out) = (&first_party.default, &mut request.headers_out);
    out.status = ngx_uint_t::from(answer.status);
    out.status_line = str_of("");
    out.content_length_n = i64::try_from(answer.body.len()).unwrap_or_default();
    out.content_type = str_of(answer.content_type);
    out.content_type_len = answer.content_type.len();
    out.content_type_lowcase = ptr::null_mut();
    out.charset = str_of("");
    // SAFETY: live request; no reference into its context is used again.
    unsafe { note_failure(r, NO_VALID_ANSWER) };
}

/// The request is about to be logged: an answer that ended too early the browser got as it came.
///
/// # Safety
///
/// As [`on_headers`].
pub(crate) unsafe fn at_the_end(r: *mut ngx_http_request_t) {
    // SAFETY: as the caller's.
    let Some(first_party) = (unsafe { of(r) }) else { return };
    // SAFETY: live request.
    if first_party.state == State::Answered && unsafe { ffi::px_upstream_answer_is_cut(r) } != 0 {
        // SAFETY: as above; no reference into its context is used again.
        unsafe { note_failure(r, "its answer was cut short") };
    }
}

/// The body that takes the place of `chain`, or what is left of it: `Some` if the default answer is
/// given. What nginx wanted to say is marked as said.
///
/// # Safety
///
/// As [`on_headers`]; `chain` must be what its body filters are called with.
pub(crate) unsafe fn body_in_place_of(
    r: *mut ngx_http_request_t,
    chain: *mut ngx_chain_t,
) -> Option<*mut ngx_chain_t> {
    // SAFETY: as the caller's.
    let first_party = unsafe { of(r) }?;
    if !matches!(first_party.state, State::Defaulted | State::Sent) {
        return None;
    }
    let mut next = chain;
    // SAFETY: a chain of live buffers that ends with null.
    while let Some(link) = unsafe { next.as_ref() } {
        // SAFETY: every link holds a buffer.
        let buffer = unsafe { &mut *link.buf };
        buffer.pos = buffer.last;
        buffer.file_pos = buffer.file_last;
        next = link.next;
    }
    if mem::replace(&mut first_party.state, State::Sent) == State::Sent {
        return Some(ptr::null_mut());
    }
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // SAFETY: live pool; zero is valid for these C structs.
    let (buffer, link, body) = unsafe {
        (
            ffi::zeroed_in_pool::<ngx_buf_t>(pool)?,
            ffi::zeroed_in_pool::<ngx_chain_t>(pool)?,
            ffi::copy_to_pool(pool, &first_party.default.body)?,
        )
    };
    buffer.start = body.data;
    buffer.pos = body.data;
    // SAFETY: one past the end of the body.
    buffer.last = unsafe { body.data.add(body.len) };
    buffer.end = buffer.last;
    buffer.set_memory(u32::from(body.len != 0));
    buffer.set_last_buf(1);
    buffer.set_last_in_chain(1);
    link.buf = buffer;
    Some(link)
}

/// Registers the variable. Part of `preconfiguration`.
///
/// # Safety
///
/// `cf` must be the configuration state nginx passed to the calling callback.
pub(crate) unsafe fn register(cf: *mut ngx_conf_t) -> ngx_int_t {
    let mut name = str_of(URL_VARIABLE);
    // SAFETY: `cf` is live, the name static.
    let added =
        unsafe { ngx_http_add_variable(cf, &raw mut name, NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t) };
    // SAFETY: null or the variable just added.
    let Some(added) = (unsafe { added.as_mut() }) else { return ERROR };
    added.get_handler = Some(get_url);
    OK
}

unsafe extern "C" fn get_url(
    r: *mut ngx_http_request_t,
    v: *mut ngx_http_variable_value_t,
    _data: usize,
) -> ngx_int_t {
    let found = ffi::guard(
        "the URL of a first-party request",
        || None,
        || {
            // SAFETY: nginx passes a live request.
            let first_party = unsafe { of(r) }?;
            // SAFETY: live request.
            let pool = unsafe { (*r).pool };
            // SAFETY: live pool.
            unsafe { ffi::copy_to_pool(pool, first_party.url.as_bytes()) }
        },
    );
    // SAFETY: nginx passes the value to fill.
    unsafe { ffi::set_variable(v, found) };
    OK
}
