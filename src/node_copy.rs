//! Copies for a traffic-analysis node that nobody waits for.
//!
//! A copy is the same call as the one that a request waits for, made for a request of the module's own
//! that no client has sent: with its own pool, its own log and a connection without a socket. Nothing of it
//! is the client's, who may leave; the event loop, the kept connections and the proxy module are nginx's
//! (docs/decisions.md 29).

use std::ffi::c_void;
use std::rc::Rc;
use std::{mem, ptr};

use nginx_sys::{
    ngx_add_timer, ngx_connection_t, ngx_create_pool, ngx_cycle, ngx_destroy_pool, ngx_event_t,
    ngx_http_conf_ctx_t, ngx_http_connection_t, ngx_http_create_request, ngx_http_free_request,
    ngx_http_log_ctx_t, ngx_http_request_empty_handler, ngx_http_request_t,
    ngx_http_run_posted_requests, ngx_log_t, ngx_pool_t, ngx_socket_t,
};
use px_core::node::{Cause, Mode, Result};

use crate::clock;
use crate::conf::MainConf;
use crate::ctx::Slots;
use crate::ffi;
use crate::node;
use crate::node_conf::{NodeConf, NodePlace};
use crate::node_work::{self, Room, Trouble};
use crate::remote_call::{Call, Ending, Message, Waiting, Wants};

/// Bytes of the pool that connection and log lie in.
const POOL_SIZE: usize = 2048;

/// One copy under way.
pub(crate) struct Copy {
    /// Dropped first: its clock stops.
    call: Option<Box<Call>>,
    request: *mut ngx_http_request_t,
    /// Holds what the request hangs on.
    pool: *mut ngx_pool_t,
    node: Rc<NodeConf>,
    place: Rc<NodePlace>,
    id: String,
    began: u64,
    /// Until it is counted.
    room: Option<Room>,
    /// Lets go of everything when nginx has let go of the request.
    release: ngx_event_t,
}

/// Node, its place, and the copy's id.
type Owned = (Rc<NodeConf>, Rc<NodePlace>, String);

impl Copy {
    /// Sends a message to the node of the location that `client` is in.
    pub(crate) fn start(
        client: *mut ngx_http_request_t,
        (node, place, id): Owned,
        room: Room,
        message: &Message<'_>,
    ) -> std::result::Result<(), Cause> {
        // SAFETY: the caller lends the live request whose copy this is.
        let main = unsafe { MainConf::of_request(client) };
        // SAFETY: as above.
        let Some((request, pool)) = (unsafe { request_of_nobody(client) }) else {
            return Err(Cause::NotSent);
        };
        let copy = Box::new(Self {
            call: None,
            request,
            pool,
            node,
            place,
            id,
            began: clock::steady_ms(),
            room: Some(room),
            // SAFETY: zero is the start state of an event.
            release: unsafe { mem::zeroed() },
        });
        let waiting = Waiting {
            limit: copy.node.timeout_ms,
            wants: Wants::StatusAtEnd,
            ended: |_| (),
            is_quiet: node::is_quiet(main),
        };
        // SAFETY: a request that nothing runs, in a location of the configuration.
        let started = unsafe { Call::start(request, copy.place.destination, message, waiting) };
        let call = match started {
            Ok(call) => call,
            Err(refused) => {
                // SAFETY: it has run nothing, and nobody else knows of it.
                unsafe { copy.free() };
                return Err(node::refused(refused));
            }
        };
        let copy = Box::into_raw(copy);
        // SAFETY: just leaked; taken back by `on_release`.
        unsafe { (*copy).call = Some(call) };
        // SAFETY: made by `request_of_nobody`.
        let slots = unsafe { Slots::find(request) };
        // SAFETY: as above.
        unsafe { (*slots).copy = copy };
        // SAFETY: a live request.
        let connection = unsafe { (*request).connection };
        // SAFETY: what was posted is the call's subrequest.
        unsafe { ngx_http_run_posted_requests(connection) };
        Ok(())
    }

    /// The call has ended: counts it, and lets go of everything as soon as nginx has.
    fn conclude(&mut self) {
        let Some(room) = self.room.take() else { return };
        drop(room);
        // SAFETY: the request of this copy.
        let main = unsafe { MainConf::of_request(self.request) };
        let ending = self.call.as_mut().map_or(Ending::Open, |call| call.take_ending());
        let decision = node::decision(&ending);
        let ms = clock::steady_ms().saturating_sub(self.began);
        node_work::count(main, Mode::Async, decision.map_or_else(Cause::result, Result::from));
        node_work::count_duration(main, ms);
        node_work::note_health(&self.node, &self.place, decision.err());
        if let Err(cause) = decision {
            let trouble = Trouble { cause, ms, done: "copy dropped", id: &self.id };
            // SAFETY: the client may be gone.
            unsafe { node_work::report(main, ptr::null_mut(), &trouble) };
        }
        self.release.handler = Some(on_release);
        self.release.data = ptr::from_mut(self).cast();
        // SAFETY: nginx sets the cycle before it starts workers.
        self.release.log = unsafe { (*ngx_cycle).log };
        // SAFETY: a complete event that is not armed, at an address of its own.
        unsafe { ngx_add_timer(&raw mut self.release, 0) };
    }

    /// # Safety
    ///
    /// nginx must have let go of the request.
    unsafe fn free(mut self) {
        self.call = None;
        // SAFETY: made by `request_of_nobody`, and freed once.
        unsafe { ngx_http_free_request(self.request, 0) };
        // SAFETY: as above; nothing in it is used again.
        unsafe { ngx_destroy_pool(self.pool) };
    }
}

/// The call of a copy wakes its request.
unsafe extern "C" fn on_turn(r: *mut ngx_http_request_t) {
    ffi::guard(
        "the end of a copy",
        || (),
        || {
            // SAFETY: nginx runs a live request of `request_of_nobody`.
            let slots = unsafe { Slots::find(r) };
            // SAFETY: as above.
            let copy = unsafe { (*slots).copy };
            // SAFETY: null before it has begun, else live until it is released.
            if let Some(copy) = unsafe { copy.as_mut() } {
                copy.conclude();
            }
        },
    );
}

unsafe extern "C" fn on_release(ev: *mut ngx_event_t) {
    ffi::guard(
        "the release of a copy",
        || (),
        || {
            // SAFETY: nginx passes the event that fired, whose data is its copy.
            let copy = unsafe { (*ev).data }.cast::<Copy>();
            // SAFETY: leaked by `start`; the event fires once.
            let copy = unsafe { Box::from_raw(copy) };
            // SAFETY: its subrequest has ended.
            unsafe { copy.free() };
        },
    );
}

/// A request that no client has sent, in the location that `client` is in, and the pool that holds what it
/// hangs on. `None` when memory is short.
///
/// # Safety
///
/// `client` must be a live request.
unsafe fn request_of_nobody(
    client: *mut ngx_http_request_t,
) -> Option<(*mut ngx_http_request_t, *mut ngx_pool_t)> {
    // SAFETY: nginx sets the cycle before it starts workers.
    let log = unsafe { (*ngx_cycle).log };
    // SAFETY: a live log.
    let pool = unsafe { ngx_create_pool(POOL_SIZE, log) };
    if pool.is_null() {
        return None;
    }
    // SAFETY: a live pool, as the caller's.
    let made = unsafe { hang_on(pool, client, log) };
    if made.is_none() {
        // SAFETY: just made, and used by nobody.
        unsafe { ngx_destroy_pool(pool) };
    }
    Some((made?, pool))
}

/// # Safety
///
/// `pool` and `log` must be live, `client` a live request.
unsafe fn hang_on(
    pool: *mut ngx_pool_t,
    client: *mut ngx_http_request_t,
    log: *mut ngx_log_t,
) -> Option<*mut ngx_http_request_t> {
    // SAFETY: live pool, as below; zero is valid for these C structs.
    let own_log = unsafe { ffi::zeroed_in_pool::<ngx_log_t>(pool) }?;
    // SAFETY: as above.
    let log_ctx = unsafe { ffi::zeroed_in_pool::<ngx_http_log_ctx_t>(pool) }?;
    // SAFETY: as above.
    let read = unsafe { ffi::zeroed_in_pool::<ngx_event_t>(pool) }?;
    // SAFETY: as above.
    let write = unsafe { ffi::zeroed_in_pool::<ngx_event_t>(pool) }?;
    // SAFETY: as above.
    let connection = unsafe { ffi::zeroed_in_pool::<ngx_connection_t>(pool) }?;
    // SAFETY: as above.
    let http = unsafe { ffi::zeroed_in_pool::<ngx_http_connection_t>(pool) }?;
    // SAFETY: as above.
    let conf_ctx = unsafe { ffi::zeroed_in_pool::<ngx_http_conf_ctx_t>(pool) }?;
    // SAFETY: the caller vouches for the request.
    let of_client = unsafe { &*client };
    (conf_ctx.main_conf, conf_ctx.srv_conf, conf_ctx.loc_conf) =
        (of_client.main_conf, of_client.srv_conf, of_client.loc_conf);
    http.conf_ctx = conf_ctx;

    // SAFETY: the caller vouches for the log.
    *own_log = unsafe { *log };
    log_ctx.connection = connection;
    own_log.data = ptr::from_mut(log_ctx).cast::<c_void>();
    own_log.handler = None;
    own_log.action = ptr::null_mut();

    for event in [&mut *read, &mut *write] {
        event.data = ptr::from_mut(connection).cast();
        event.log = own_log;
        // nginx need not ask the kernel about a socket that is not there.
        event.set_active(1);
        event.set_ready(1);
    }
    connection.read = read;
    connection.write = write;
    connection.fd = -1 as ngx_socket_t;
    connection.pool = pool;
    connection.log = own_log;
    connection.data = ptr::from_mut(http).cast();
    // SAFETY: complete as far as a request is made of it.
    let r = unsafe { ngx_http_create_request(connection) };
    // SAFETY: null or fresh.
    let request = unsafe { r.as_mut() }?;
    connection.data = r.cast();
    // SAFETY: just made.
    unsafe { ffi::px_request_is_nobodys(r) };
    request.http_version = of_client.http_version;
    request.read_event_handler = Some(ngx_http_request_empty_handler);
    request.write_event_handler = Some(on_turn);
    // SAFETY: a live main request.
    let slots = unsafe { Slots::find_or_make(r) };
    if slots.is_null() {
        // SAFETY: it has run nothing.
        unsafe { ngx_http_free_request(r, 0) };
        return None;
    }
    Some(r)
}
