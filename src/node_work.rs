//! What one worker does with its traffic-analysis nodes, beside single requests: how many copies are under
//! way, what is counted, and how much is said of failures.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem;

use nginx_sys::{ngx_add_timer, ngx_event_t, ngx_http_request_t};
use px_core::breaker::Change;
use px_core::node::{Cause, Lines, Mode, Result};

use crate::clock;
use crate::conf::MainConf;
use crate::ffi;
use crate::log::{self, ERR, NOTICE, WARN};
use crate::node_conf::{NodeConf, NodePlace};

/// What was held back is told so long after it was.
const SUMMARY_MS: usize = 1000;

/// Lies in the configuration, which never moves and which each worker has a copy of.
pub(crate) struct NodeWork {
    /// Copies under way.
    inflight: Cell<usize>,
    lines: RefCell<Lines>,
    /// Tells how many lines were held back; nginx keeps its address while it is armed.
    summary: UnsafeCell<ngx_event_t>,
}

impl Default for NodeWork {
    fn default() -> Self {
        Self {
            inflight: Cell::new(0),
            lines: RefCell::default(),
            // SAFETY: zero is the start state of an event.
            summary: UnsafeCell::new(unsafe { mem::zeroed() }),
        }
    }
}

/// Room for one copy; free again when dropped.
pub(crate) struct Room {
    main: *const MainConf,
}

impl Room {
    /// `None` where so many copies are under way.
    pub(crate) fn take(main: &MainConf, limit: usize) -> Option<Self> {
        let inflight = main.node_work.inflight.get();
        if inflight >= limit {
            return None;
        }
        set_inflight(main, inflight + 1);
        Some(Self { main })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: the configuration outlives the requests, and the copies, that are served under it.
        let main = unsafe { &*self.main };
        set_inflight(main, main.node_work.inflight.get().saturating_sub(1));
    }
}

fn set_inflight(main: &MainConf, count: usize) {
    main.node_work.inflight.set(count);
    if let Some(worker) = main.shared.get().and_then(|shared| shared.worker()) {
        worker.set_copies(count as u64);
    }
}

/// Counts how the connector was done with a request.
pub(crate) fn count(main: &MainConf, mode: Mode, result: Result) {
    if let Some(shared) = main.shared.get() {
        shared.node.request(mode, result);
    }
}

/// Counts how long an exchange took.
pub(crate) fn count_duration(main: &MainConf, ms: u64) {
    if let Some(shared) = main.shared.get() {
        shared.node.exchange_ended(ms);
    }
}

/// Whether the node may be asked now.
pub(crate) fn admits(place: &NodePlace) -> bool {
    place.circuit.borrow_mut().admits(clock::steady_ms())
}

/// Tells the circuit how an exchange went, and the operator if that changed its state.
pub(crate) fn note_health(node: &NodeConf, place: &NodePlace, cause: Option<Cause>) {
    let mut circuit = place.circuit.borrow_mut();
    let change = match cause {
        Some(cause) if cause.is_failure() => circuit.failed(clock::steady_ms()),
        Some(cause) if !cause.is_answer() => Change::None,
        _ => circuit.succeeded(),
    };
    let url = &node.url;
    match change {
        Change::None => {}
        Change::Opened => log::cycle_line(
            WARN,
            &format!(
                "px: too many failures of the node at \"{url}\": it is not asked until it is back"
            ),
        ),
        Change::Closed => log::cycle_line(NOTICE, &format!("px: the node at \"{url}\" is back")),
    }
}

/// What there is to say of an exchange that led to no decision.
pub(crate) struct Trouble<'t> {
    pub(crate) cause: Cause,
    pub(crate) ms: u64,
    /// What became of the request.
    pub(crate) done: &'static str,
    pub(crate) id: &'t str,
}

/// One line about it, unless there were too many in this second. `r` is the client's request, or null
/// where it may be gone.
///
/// # Safety
///
/// `r` must be null or a live request.
pub(crate) unsafe fn report(main: &MainConf, r: *mut ngx_http_request_t, trouble: &Trouble<'_>) {
    let now = clock::steady_ms();
    if let Some(shared) = main.shared.get() {
        let _ = shared.node_log.admit(now);
    }
    say_held_back(main, now);
    if !main.node_work.lines.borrow_mut().admits(now) {
        arm_summary(main);
        return;
    }
    let Trouble { cause, ms, done, id } = trouble;
    let text = format!("px: wallarm node: {cause} after {ms} ms, {done}, id {id}");
    if r.is_null() {
        log::cycle_line(ERR, &text);
    } else {
        // SAFETY: as the caller's.
        unsafe { log::request_line_while(r, ERR, &text, c"asking the traffic-analysis node") };
    }
}

fn say_held_back(main: &MainConf, now: u64) {
    if let Some(count) = main.node_work.lines.borrow_mut().take_held_back(now) {
        log::cycle_line(ERR, &format!("px: wallarm node: suppressed {count} similar"));
    }
}

fn arm_summary(main: &MainConf) {
    // SAFETY: nginx touches the event on this thread only, and never while this runs.
    let event = unsafe { &mut *main.node_work.summary.get() };
    if event.timer_set() != 0 {
        return;
    }
    event.handler = Some(on_summary);
    event.data = std::ptr::from_ref(main).cast_mut().cast();
    // SAFETY: nginx sets the cycle before it starts workers.
    event.log = unsafe { (*nginx_sys::ngx_cycle).log };
    // An old worker does not stay for it.
    event.set_cancelable(1);
    // SAFETY: a complete event that is not armed, at an address of its own.
    unsafe { ngx_add_timer(event, SUMMARY_MS) };
}

unsafe extern "C" fn on_summary(ev: *mut ngx_event_t) {
    ffi::guard(
        "the summary of a node's failures",
        || (),
        || {
            // SAFETY: nginx passes the event that fired, whose data is this worker's configuration.
            let main = unsafe { &*(*ev).data.cast::<MainConf>().cast_const() };
            say_held_back(main, clock::steady_ms());
        },
    );
}
