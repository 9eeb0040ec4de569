//! The connector to a traffic-analysis node: after the enforcer has let a request pass, the node is sent it
//! and decides (docs/node.md), or is sent a copy.
//!
//! Independent of the enforcer: either is there without the other, and what each keeps of a request is
//! its own.

use std::ffi::c_void;
use std::rc::Rc;

use nginx_sys::{ngx_http_request_t, ngx_int_t, ngx_uint_t};
use px_core::client_ip;
use px_core::hooks::Hooks;
use px_core::node::{self, BodyNote, Cause, Facts, Mode, Result, Verdict};
use px_core::request::Request;
use uuid::Uuid;

use crate::clock;
use crate::conf::{self, MainConf};
use crate::ctx::{self, Ctx, Slots};
use crate::ffi::{self, AGAIN, DECLINED, DONE};
use crate::node_conf::{NodeConf, NodePlace};
use crate::node_copy::Copy;
use crate::node_work::{self, Room, Trouble};
use crate::remote_call::{Call, Ending, Failure, Message, Refused, Waiting, Wants};
use crate::{request, request_body, respond};

/// Statuses from here on make nginx look for an `error_page`.
const FIRST_ERROR: ngx_uint_t = 300;

/// What the connector keeps of one client request. As the enforcer's context it borrows memory that
/// lives until it is dropped.
pub(crate) struct Leg {
    main: *const MainConf,
    node: Rc<NodeConf>,
    /// As it arrived: before the enforcer tells the origin anything.
    view: Request<'static>,
    target: &'static [u8],
    /// 32 hexadecimal digits.
    id: String,
    stage: Stage,
    status: Status,
    /// When the node was asked; ms.
    asked: u64,
    /// Until there was a verdict, ms.
    took: Option<u64>,
    call: Option<Box<Call>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has arrived.
    New,
    ReadingBody,
    BodyRead,
    /// The node has been asked.
    Waiting,
    Answered,
    /// Nothing more to do.
    Settled,
}

/// What became of it, for the variable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Off,
    Ended(Result),
    Copied,
    NotCopied,
}

/// The cleanup handler by which a leg is recognised. Read from here wherever it is stored or compared:
/// the address of a function named twice need not be the same twice.
pub(crate) static DROP_LEG: unsafe extern "C" fn(*mut c_void) = drop_leg;

unsafe extern "C" fn drop_leg(data: *mut c_void) {
    ffi::guard(
        "request cleanup",
        || (),
        || {
            // SAFETY: written by `remember`; the pool runs its cleanups once.
            unsafe { std::ptr::drop_in_place(data.cast::<Leg>()) };
        },
    );
}

impl Drop for Leg {
    /// The client left while the node was being asked.
    fn drop(&mut self) {
        if self.is_asked() {
            // SAFETY: the configuration outlives the requests that are served under it.
            node_work::count(unsafe { &*self.main }, Mode::Sync, Result::Aborted);
        }
    }
}

impl Leg {
    /// The leg of `r`'s main request; null if it has none.
    ///
    /// # Safety
    ///
    /// `r` must be a live request.
    pub(crate) unsafe fn find(r: *mut ngx_http_request_t) -> *mut Self {
        // SAFETY: as the caller's.
        let slots = unsafe { Slots::find(r) };
        // SAFETY: null or in the request's pool.
        unsafe { slots.as_ref() }.map_or(std::ptr::null_mut(), |slots| slots.leg)
    }

    /// `$px_wallarm_status`
    pub(crate) fn status(&self) -> &'static str {
        match self.status {
            // The client left before there was a decision.
            Status::Off if self.is_asked() => Result::Error.as_str(),
            Status::Off => STATUS_OFF,
            Status::Ended(result) => result.as_str(),
            Status::Copied => "async",
            Status::NotCopied => "async_dropped",
        }
    }

    /// `$px_wallarm_time`
    pub(crate) fn time(&self) -> String {
        match self.took {
            Some(ms) => format!("{}.{:03}", ms / 1000, ms % 1000),
            None => NO_TIME.to_owned(),
        }
    }

    /// `$px_wallarm_request_id`; none where nothing was sent.
    pub(crate) fn id(&self) -> Option<&str> {
        (self.status != Status::Off || self.is_asked()).then_some(&*self.id)
    }

    /// The node has been asked, and nothing was made of it yet.
    fn is_asked(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Answered)
    }
}

/// The variables where there is nothing to say.
pub(crate) const STATUS_OFF: &str = "off";
pub(crate) const NO_TIME: &str = "-";

/// Keeps what the node is to be told of a request as it arrived, if there is a node here: what the enforcer
/// tells the origin is not the client's.
///
/// # Safety
///
/// `r` must be a live request in its access phase.
pub(crate) unsafe fn remember(r: *mut ngx_http_request_t) {
    // SAFETY: live request. Where there is no node this is all that happens.
    let Some(location) = (unsafe { conf::of_location(r) }) else { return };
    let Some(node) = &location.node else { return };
    // SAFETY: live request.
    if !std::ptr::eq(r, unsafe { (*r).main }) {
        return;
    }
    // An error page that is shown before any decision is nginx's own doing.
    // SAFETY: live request.
    if unsafe { (*r).err_status } >= FIRST_ERROR {
        return;
    }
    // SAFETY: live request.
    if !unsafe { Leg::find(r) }.is_null() {
        return;
    }
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    let id = main.with_worker(|worker| worker.request_ids.next()).flatten();
    let id = id.unwrap_or_else(Uuid::new_v4);
    // SAFETY: the view is kept in the leg only, which the request's pool drops.
    let Some(view) = (unsafe { request::view(r, id, &Hooks::NONE) }) else { return };
    let leg = Leg {
        main,
        node: Rc::clone(node),
        view,
        // SAFETY: a string of the live request.
        target: unsafe { ffi::bytes((*r).unparsed_uri) },
        id: id.simple().to_string(),
        stage: Stage::New,
        status: Status::Off,
        asked: 0,
        took: None,
        call: None,
    };
    // SAFETY: live request.
    let slots = unsafe { Slots::find_or_make(r) };
    // SAFETY: null or in the request's pool.
    let Some(slots) = (unsafe { slots.as_mut() }) else { return };
    // SAFETY: live request, and the handler that drops a leg.
    slots.leg = unsafe { ctx::keep(r, leg, DROP_LEG) };
}

/// Goes on with a request that the enforcer, if there is one, lets pass. Gives what the access phase is to
/// return.
///
/// # Safety
///
/// `r` must be a live request in its access phase.
pub(crate) unsafe fn decide(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: live request.
    if !std::ptr::eq(r, unsafe { (*r).main }) {
        return DECLINED;
    }
    // SAFETY: live request.
    let leg = unsafe { Leg::find(r) };
    // SAFETY: null or the leg of this live request, borrowed for this statement.
    let Some(stage) = (unsafe { leg.as_ref() }).map(|leg| leg.stage) else { return DECLINED };
    match stage {
        // SAFETY: as the caller's.
        Stage::New => unsafe { begin(r, leg) },
        // Nothing enters here while nginx reads: it has refused the body, and shows an error page.
        Stage::ReadingBody | Stage::Settled => DECLINED,
        // SAFETY: as the caller's.
        Stage::BodyRead => unsafe { send(r, leg) },
        Stage::Waiting => AGAIN,
        // SAFETY: as the caller's.
        Stage::Answered => unsafe { judge(r, leg) },
    }
}

/// # Safety
///
/// `r` must be a live main request in its access phase and `leg` its leg, with no reference to it alive.
unsafe fn begin(r: *mut ngx_http_request_t, leg: *mut Leg) -> ngx_int_t {
    // Whatever goes wrong from here on lets the request pass.
    // SAFETY: the leg of this live request, borrowed for this block: expressions read it, too.
    let (node, view) = unsafe {
        let known = &mut *leg;
        known.stage = Stage::Settled;
        (Rc::clone(&known.node), known.view)
    };
    // Who reads the body first may find that nginx refuses it; the page that says so is no visit.
    // SAFETY: live request.
    if unsafe { (*r).err_status } >= FIRST_ERROR {
        return DECLINED;
    }
    // SAFETY: live request.
    let visit = unsafe { Ctx::find(r) };
    // SAFETY: null or the context of this live request, borrowed for this statement.
    if unsafe { visit.as_ref() }.is_some_and(Ctx::is_answered) {
        return DECLINED;
    }
    // SAFETY: live request under this configuration.
    if node.condition.as_ref().is_some_and(|condition| !unsafe { condition.holds(r) })
        || node.extensions.as_ref().is_some_and(|extensions| extensions.pass(&view))
    {
        return DECLINED;
    }
    // SAFETY: live request.
    let body = unsafe { (*r).request_body };
    // SAFETY: live request.
    let is_readable = body.is_null() && unsafe { has_body(r) };
    if is_readable && node.max_body_size > 0 && !node::is_without_body(&view) {
        // SAFETY: the leg of this live request, borrowed for this statement.
        unsafe { (*leg).stage = Stage::ReadingBody };
        // SAFETY: as the caller's; nothing here refers to the leg.
        return unsafe { request_body::read(r, to_be_sent) };
    }
    // SAFETY: as the caller's.
    unsafe { send(r, leg) }
}

/// Whether there is a body.
///
/// # Safety
///
/// `r` must be a live main request.
unsafe fn has_body(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: live request.
    let length = unsafe { (*r).headers_in.content_length_n };
    // SAFETY: as above. nginx calls a body of unknown length chunked on HTTP/2 and 3, too.
    let is_chunked = unsafe { ffi::px_request_is_chunked(r) } != 0;
    length > 0 || is_chunked
}

/// The body has come.
unsafe extern "C" fn to_be_sent(r: *mut ngx_http_request_t) {
    ffi::guard(
        "the end of a request's body",
        || (),
        || {
            // SAFETY: nginx passes a live request.
            let leg = unsafe { Leg::find(r) };
            // SAFETY: null or the leg of this live request, borrowed for this block.
            if let Some(known) = unsafe { leg.as_mut() } {
                known.stage = Stage::BodyRead;
            }
        },
    );
    // SAFETY: as above; it may be gone afterwards.
    unsafe { request_body::go_on(r) };
}

/// # Safety
///
/// As [`begin`].
unsafe fn send(r: *mut ngx_http_request_t, leg: *mut Leg) -> ngx_int_t {
    // SAFETY: the leg of this live request, borrowed until the exchange begins.
    let known = unsafe { &mut *leg };
    known.stage = Stage::Settled;
    let node = Rc::clone(&known.node);
    let Some(place) = node.place.get().cloned() else { return DECLINED };
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    let mode = if node.is_blocking { Mode::Sync } else { Mode::Async };
    if !node_work::admits(&place) {
        known.status = Status::Ended(Result::Skipped);
        node_work::count(main, mode, Result::Skipped);
        // SAFETY: as the caller's; the leg is not used again.
        return if node.is_blocking { unsafe { undecided(r, &node) } } else { DECLINED };
    }
    known.asked = clock::steady_ms();
    if node.is_blocking {
        // SAFETY: as the caller's.
        return match unsafe { with_message(r, leg, |message| ask(r, leg, &place, message)) } {
            Ok(()) => AGAIN,
            // SAFETY: as above.
            Err(cause) => unsafe { conclude(r, leg, Err(cause)) },
        };
    }
    // SAFETY: as the caller's.
    unsafe { copy(r, leg, &place) };
    DECLINED
}

/// Lends what the node is sent to `take`.
///
/// # Safety
///
/// As [`begin`]; `take` may change the leg.
unsafe fn with_message(
    r: *mut ngx_http_request_t,
    leg: *mut Leg,
    take: impl FnOnce(&Message<'_>) -> std::result::Result<(), Cause>,
) -> std::result::Result<(), Cause> {
    // SAFETY: the leg of this live request, borrowed until its parts are copied.
    let (node, view, target, id) = unsafe {
        let known = &*leg;
        (Rc::clone(&known.node), known.view, known.target, known.id.clone())
    };
    // SAFETY: live request under this configuration.
    let client_ip = node.client_ip.map_or("", |value| unsafe { value.evaluate(r) });
    let hooks = Hooks { client_ip, ..Hooks::NONE };
    let view = Request { hooks: &hooks, ..view };
    // SAFETY: live request.
    let (note, body) = unsafe { body(r, &view, node.max_body_size) };
    let facts = Facts {
        // SAFETY: live request.
        port: unsafe { request::variable(r, "server_port") },
        client_ip: client_ip::extract(&view, &node.ip_headers),
        id: &id,
        version: env!("CARGO_PKG_VERSION"),
        mode: if node.is_blocking { Mode::Sync } else { Mode::Async },
        body: note,
        withheld: &node.withheld,
    };
    let lines = node::headers(&view, &facts).map_err(|_| Cause::HeadTooLong)?;
    let headers: Vec<(&[u8], &[u8])> =
        lines.iter().map(|(name, value)| (&**name, &**value)).collect();
    let (method, original) = node::method(&view);
    // SAFETY: live request.
    let number = unsafe { (*r).method };
    let number = if original.is_some() { nginx_sys::NGX_HTTP_GET } else { number as u32 };
    take(&Message {
        method: (number, method),
        target: &node::target(&node.url.path, target),
        headers: &headers,
        body: body.as_deref().map(Vec::as_slice).filter(|body| !body.is_empty()),
    })
}

type Body = Option<zeroize::Zeroizing<Vec<u8>>>;

/// What is said of the body, and what of it is sent.
///
/// # Safety
///
/// As [`has_body`].
unsafe fn body(r: *mut ngx_http_request_t, view: &Request<'_>, limit: usize) -> (BodyNote, Body) {
    // SAFETY: as the caller's.
    if !unsafe { has_body(r) } {
        return (BodyNote::None, None);
    }
    let limit = if node::is_without_body(view) { 0 } else { limit };
    // SAFETY: as above.
    match (limit > 0).then(|| unsafe { request_body::beginning(r, limit) }).flatten() {
        Some((_, 0)) => (BodyNote::None, None),
        Some((body, total)) => {
            let note = BodyNote::Sent { sent: body.len() as u64, total: total as u64 };
            (note, Some(body))
        }
        None => {
            // SAFETY: live request.
            let length = unsafe { (*r).headers_in.content_length_n };
            (BodyNote::Withheld { total: u64::try_from(length).ok() }, None)
        }
    }
}

/// Asks the node. The access phase is entered again when it has answered, or has not.
fn ask(
    r: *mut ngx_http_request_t,
    leg: *mut Leg,
    place: &NodePlace,
    message: &Message<'_>,
) -> std::result::Result<(), Cause> {
    // SAFETY: `with_message` runs this on a live request and its leg.
    let main = unsafe { MainConf::of_request(r) };
    // SAFETY: as above, borrowed for this statement.
    let limit = unsafe { &*leg }.node.timeout_ms;
    let waiting = Waiting { limit, wants: Wants::Status, ended, is_quiet: is_quiet(main) };
    // SAFETY: live request that keeps the call in its leg.
    let call = unsafe { Call::start(r, place.destination, message, waiting) };
    let call = call.map_err(refused)?;
    // SAFETY: the leg of the live request, borrowed for this block.
    let known = unsafe { &mut *leg };
    known.call = Some(call);
    known.stage = Stage::Waiting;
    Ok(())
}

/// nginx's own line about a failed connection says more than ours; one in a while is let through.
pub(crate) fn is_quiet(main: &MainConf) -> bool {
    main.shared.get().is_some_and(|own| own.node_log.is_quiet(clock::steady_ms()))
}

/// Why there is no call.
pub(crate) fn refused(refused: Refused) -> Cause {
    match refused {
        Refused::Unresolved => Cause::Resolve,
        Refused::NoMemory => Cause::NotSent,
    }
}

/// The node has answered, or has not.
///
/// # Safety
///
/// `r` must be a live main request.
unsafe fn ended(r: *mut ngx_http_request_t) {
    // SAFETY: as the caller's.
    let leg = unsafe { Leg::find(r) };
    // SAFETY: null or the leg of this live request, borrowed for this block.
    if let Some(known) = unsafe { leg.as_mut() }
        && known.stage == Stage::Waiting
    {
        known.stage = Stage::Answered;
    }
}

/// What an ending says.
pub(crate) fn decision(ending: &Ending) -> std::result::Result<Verdict, Cause> {
    match ending {
        Ending::Answer { status, .. } => node::verdict(*status),
        Ending::Timeout => Err(Cause::Timeout),
        Ending::Failed(Failure::Connect) => Err(Cause::Connect),
        Ending::Failed(Failure::Tls) => Err(Cause::Tls),
        Ending::Failed(Failure::Closed) => Err(Cause::Closed),
        Ending::Failed(Failure::BadAnswer | Failure::CutShort) => Err(Cause::BadAnswer),
        Ending::Failed(Failure::NotSent) | Ending::Open => Err(Cause::NotSent),
    }
}

/// # Safety
///
/// As [`begin`].
unsafe fn judge(r: *mut ngx_http_request_t, leg: *mut Leg) -> ngx_int_t {
    // SAFETY: the leg of this live request, borrowed for this block.
    let ending = unsafe {
        let known = &mut *leg;
        known.call.as_mut().map_or(Ending::Open, |call| call.take_ending())
    };
    // SAFETY: as the caller's.
    unsafe { conclude(r, leg, decision(&ending)) }
}

/// # Safety
///
/// As [`begin`].
unsafe fn conclude(
    r: *mut ngx_http_request_t,
    leg: *mut Leg,
    decision: std::result::Result<Verdict, Cause>,
) -> ngx_int_t {
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    // SAFETY: the leg of this live request, borrowed until the request is answered.
    let known = unsafe { &mut *leg };
    let node = Rc::clone(&known.node);
    let ms = clock::steady_ms().saturating_sub(known.asked);
    let result = decision.map_or_else(Cause::result, Result::from);
    known.stage = Stage::Settled;
    known.status = Status::Ended(result);
    known.took = Some(ms);
    node_work::count(main, Mode::Sync, result);
    if known.call.is_some() {
        node_work::count_duration(main, ms);
    }
    if let Some(place) = node.place.get() {
        node_work::note_health(&node, place, decision.err());
    }
    match decision {
        Ok(Verdict::Pass) => DECLINED,
        Ok(Verdict::Block) => {
            // SAFETY: live request that has not been answered; it and the leg are not used again.
            unsafe { respond::send(r, &node::block_answer()) };
            DONE
        }
        Err(cause) => {
            let done = if node.fail_open { "request passed" } else { "request refused" };
            let trouble = Trouble { cause, ms, done, id: &known.id };
            // SAFETY: live request.
            unsafe { node_work::report(main, r, &trouble) };
            // SAFETY: as the caller's; the leg is not used again.
            unsafe { undecided(r, &node) }
        }
    }
}

/// Lets a request pass about which there is no decision, unless the operator wants it otherwise.
///
/// # Safety
///
/// `r` must be a live main request in its access phase; where it is answered, it may be gone.
unsafe fn undecided(r: *mut ngx_http_request_t, node: &NodeConf) -> ngx_int_t {
    if node.fail_open {
        return DECLINED;
    }
    // SAFETY: as the caller's.
    unsafe { respond::send(r, &node::refusal()) };
    DONE
}

/// Sends a copy that nobody waits for.
///
/// # Safety
///
/// As [`begin`].
unsafe fn copy(r: *mut ngx_http_request_t, leg: *mut Leg, place: &Rc<NodePlace>) {
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    // SAFETY: the leg of this live request, borrowed until the copy is made.
    let (node, id) = unsafe { (Rc::clone(&(*leg).node), (*leg).id.clone()) };
    let Some(room) = Room::take(main, node.max_inflight) else {
        // SAFETY: as above, borrowed for this statement.
        unsafe { (*leg).status = Status::NotCopied };
        node_work::count(main, Mode::Async, Result::Dropped);
        return;
    };
    let owned = (Rc::clone(&node), Rc::clone(place), id.clone());
    // SAFETY: as the caller's; the message is copied.
    let sent = unsafe { with_message(r, leg, |message| Copy::start(r, owned, room, message)) };
    // SAFETY: as above, borrowed for this statement.
    unsafe { (*leg).status = if sent.is_ok() { Status::Copied } else { Status::NotCopied } };
    if let Err(cause) = sent {
        node_work::count(main, Mode::Async, cause.result());
        let trouble = Trouble { cause, ms: 0, done: "copy dropped", id: &id };
        // SAFETY: live request.
        unsafe { node_work::report(main, r, &trouble) };
    }
}
