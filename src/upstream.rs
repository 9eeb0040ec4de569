//! The `upstream` blocks the module injects for HUMAN's backends and for nodes, and their balancer.
//!
//! nginx's own machinery does the calls (keepalive, TLS, limits); only the choice of the address is
//! ours, because nginx would resolve names once, at start, and refuse to start without DNS
//! (DECISIONS 21). The balancer takes addresses from [`Backend`], which the resolver refreshes.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::{mem, ptr};

use nginx_sys::{
    NGX_PEER_FAILED, ngx_array_t, ngx_command_t, ngx_conf_t, ngx_http_conf_ctx_t,
    ngx_http_core_loc_conf_t, ngx_http_core_main_conf_t, ngx_http_core_srv_conf_t,
    ngx_http_location_queue_t, ngx_http_request_t, ngx_http_upstream_srv_conf_t, ngx_int_t,
    ngx_peer_connection_t, ngx_queue_t, ngx_str_t, ngx_uint_t,
};
use px_core::base_url::BaseUrl;
use px_core::endpoints;

use crate::backend::Backend;
use crate::conf::{LocConf, TlsSettings, default_backend_url};
use crate::ffi::{self, ERROR, OK};
use crate::log::{self, EMERG};
use crate::node_conf::NODE_KEEPALIVE;
use crate::remote_call::{self, Call};
use crate::{builtin_conf, conf, first_party};

/// Idle connections kept per worker and upstream block.
const KEEPALIVE: usize = 32;
/// Addresses tried by one call. By one to a node a single one: it is not asked twice but where an idle
/// connection turns out to be closed.
const CANDIDATES: usize = 2;
const NODE_CANDIDATES: usize = 1;

/// All injected upstream blocks.
#[derive(Default)]
pub(crate) struct Upstreams {
    /// Filled once, before nginx is given pointers into it.
    slots: Vec<Slot>,
}

/// One injected upstream block. Connections kept alive in it are shared by everyone who uses it,
/// so all its users must verify certificates alike: `user` is set by the first.
pub(crate) struct Slot {
    name: String,
    tls: bool,
    /// Of a node's block, the idle connections that are kept.
    node_keepalive: Option<usize>,
    pub(crate) backend: Arc<Backend>,
    user: RefCell<Option<TlsSettings>>,
    /// Address that calls begin with. The system's resolver puts the best one first: it is kept
    /// until it fails.
    turn: Cell<usize>,
}

impl Slot {
    /// The turn a call begins with, for [`give_up`](Self::give_up).
    pub(crate) fn turn(&self) -> usize {
        self.turn.get()
    }

    /// A call that began with this turn was not answered in time: the next begins with another
    /// address. Calls that were under way together count once.
    pub(crate) fn give_up(&self, turn: usize) {
        if self.turn.get() == turn {
            self.turn.set(turn.wrapping_add(1));
        }
        self.backend.doubt();
    }

    /// Tells backends apart across workers and reloads; never 0.
    pub(crate) fn id(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.tls, &self.backend.host, self.backend.port).hash(&mut hasher);
        hasher.finish().max(1)
    }

    /// The name of the upstream block.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Upstreams {
    /// The block for calls to `url` with certificates verified as `tls` says.
    pub(crate) fn take(&self, url: &BaseUrl, tls: &TlsSettings) -> Option<&Slot> {
        self.take_where(url, tls, None)
    }

    /// As [`take`](Self::take), of a node that so many idle connections are kept to.
    pub(crate) fn take_node(
        &self,
        url: &BaseUrl,
        tls: &TlsSettings,
        keepalive: usize,
    ) -> Option<&Slot> {
        self.take_where(url, tls, Some(keepalive))
    }

    fn take_where(
        &self,
        url: &BaseUrl,
        tls: &TlsSettings,
        node_keepalive: Option<usize>,
    ) -> Option<&Slot> {
        self.slots
            .iter()
            .filter(|slot| {
                slot.node_keepalive == node_keepalive
                    && slot.tls == url.tls
                    && slot.backend.host == url.host
                    && slot.backend.port == url.port
            })
            .find(|slot| {
                let mut user = slot.user.borrow_mut();
                // Without TLS, how certificates are verified makes no difference.
                user.get_or_insert_with(|| tls.clone()) == tls || !slot.tls
            })
    }

    /// The backends of all blocks that are in use.
    pub(crate) fn backends(&self) -> Vec<Arc<Backend>> {
        let mut backends: Vec<Arc<Backend>> = Vec::new();
        for slot in self.slots.iter().filter(|slot| slot.user.borrow().is_some()) {
            if !backends.iter().any(|backend| Arc::ptr_eq(backend, &slot.backend)) {
                backends.push(Arc::clone(&slot.backend));
            }
        }
        backends
    }
}

/// `init_main_conf` of the early module: every directive has been read, and the upstream and
/// keepalive modules have not been initialised yet. Later is too late: from nginx 1.30 on, keepalive
/// would silently not apply.
pub(crate) unsafe extern "C" fn inject(cf: *mut ngx_conf_t, _conf: *mut c_void) -> *mut c_char {
    const CONF_ERROR: *mut c_char = usize::MAX as *mut c_char;
    ffi::guard(
        "init_main_conf",
        || CONF_ERROR,
        || {
            // SAFETY: at the end of the http block.
            match unsafe { inject_upstreams(cf) } {
                Ok(()) => ptr::null_mut(),
                Err(reason) => {
                    if !reason.is_empty() {
                        // SAFETY: `cf` is live for the call.
                        unsafe { log::conf_line(cf, EMERG, &format!("px: {reason}")) };
                    }
                    CONF_ERROR
                }
            }
        },
    )
}

/// # Safety
///
/// `cf` must be at the end of the `http` block.
unsafe fn inject_upstreams(cf: *mut ngx_conf_t) -> Result<(), String> {
    // SAFETY: the caller vouches for `cf`.
    let levels = unsafe { levels(cf) };
    let mut blocks = Blocks::default();
    if levels.iter().any(|level| level.values.may_be_active()) {
        human_blocks(&levels, &mut blocks)?;
    }
    node_blocks(&levels, &mut blocks);
    if blocks.slots.is_empty() {
        return Ok(());
    }
    blocks.text.push('}');
    // SAFETY: at the end of the http block.
    let main = unsafe { &mut *conf::main_conf(cf) };
    main.upstreams.slots = blocks.slots;
    // SAFETY: `cf` is in the http context, where upstream blocks stand.
    unsafe { builtin_conf::parse(cf, &blocks.text) }.map_err(|()| String::new())
}

/// Blocks to be injected.
#[derive(Default)]
struct Blocks {
    text: String,
    slots: Vec<Slot>,
}

impl Blocks {
    /// So many blocks for the host of `url`: each way of verifying certificates needs one of its own.
    fn add(&mut self, url: &BaseUrl, variants: usize, node_keepalive: Option<usize>) {
        let backend = Arc::new(Backend::new(&url.host, url.port));
        let keepalive = node_keepalive.unwrap_or(KEEPALIVE);
        for _ in 0..if url.tls { variants } else { 1 } {
            let index = self.slots.len();
            let name = format!("px-internal-{index}");
            // The server is never used: it is there because nginx refuses a block without one.
            self.text.push_str(&format!(
                "upstream {name} {{ px_internal_backend {index}; server 127.0.0.1:1; \
                 keepalive {keepalive}; keepalive_requests 100000; keepalive_timeout 50s; }}\n"
            ));
            self.slots.push(Slot {
                name,
                tls: url.tls,
                node_keepalive,
                backend: Arc::clone(&backend),
                user: RefCell::new(None),
                turn: Cell::new(0),
            });
        }
    }
}

fn is_same_host(one: &BaseUrl, other: &BaseUrl) -> bool {
    (one.tls, &one.host, one.port) == (other.tls, &other.host, other.port)
}

/// For traffic-analysis nodes: what a level does not set it inherits, so that any of them may be in
/// effect together.
fn node_blocks(levels: &[&LocConf], blocks: &mut Blocks) {
    let mut urls: Vec<&BaseUrl> = Vec::new();
    let mut keepalives = vec![NODE_KEEPALIVE];
    for level in levels {
        urls.extend(level.values.node_url());
        keepalives.extend(level.values.wallarm_keepalive);
    }
    keepalives.sort_unstable();
    keepalives.dedup();
    let variants = 1 + levels.iter().filter(|level| level.values.sets_node_tls()).count();
    for (at, url) in urls.iter().enumerate() {
        if !urls.iter().take(at).any(|known| is_same_host(known, url)) {
            keepalives.iter().for_each(|n| blocks.add(url, variants, Some(*n)));
        }
    }
}

fn human_blocks(levels: &[&LocConf], blocks: &mut Blocks) -> Result<(), String> {
    let mut urls: Vec<BaseUrl> = Vec::new();
    let parse = |url| BaseUrl::parse(url).ok();
    for level in levels {
        let default = level.values.app_id.as_deref().map(default_backend_url).transpose()?;
        let of_risk_api = level.values.backend_url.iter().cloned().chain(default);
        // What a level does not set it inherits: all that may be in effect somewhere are these and
        // the defaults.
        let client = level.values.client_host.iter().cloned().chain(parse(endpoints::CLIENT));
        let captcha =
            level.values.captcha_script_host.iter().cloned().chain(parse(endpoints::CAPTCHA));
        let collector = level.values.app_id.as_deref().map(endpoints::default_collector);
        let collector = collector.as_deref().map(BaseUrl::parse).transpose()?;
        let collector = level.values.backend_collector_url.iter().cloned().chain(collector);
        for url in of_risk_api.chain(client).chain(captcha).chain(collector) {
            if !urls.iter().any(|known| is_same_host(known, &url)) {
                urls.push(url);
            }
        }
    }
    // Each level that changes how certificates are verified may need a block of its own.
    let variants = 1 + levels.iter().filter(|level| level.values.sets_tls()).count();

    urls.iter().for_each(|url| blocks.add(url, variants, None));
    Ok(())
}

/// All our configuration levels of the `http` block.
///
/// # Safety
///
/// `cf` must be at the end of the `http` block, and the result be dropped before merging begins.
unsafe fn levels<'a>(cf: *mut ngx_conf_t) -> Vec<&'a LocConf> {
    let mut found = Vec::new();
    // SAFETY: at the end of http, `ctx` is the http context.
    let ctx = unsafe { (*cf).ctx }.cast::<ngx_http_conf_ctx_t>();
    // SAFETY: as above.
    let http = unsafe { &*ctx };
    // SAFETY: one slot per module; create_loc_conf filled ours.
    found.push(unsafe { own(http.loc_conf) });
    let core = &raw const nginx_sys::ngx_http_core_module;
    // SAFETY: the core module's main configuration always exists.
    let cmcf = unsafe { ffi::module_entry::<ngx_http_core_main_conf_t>(http.main_conf, core) };
    // SAFETY: as above.
    let servers: &ngx_array_t = unsafe { &(*cmcf).servers };
    // SAFETY: an array of pointers to server configurations.
    for server in unsafe { servers.as_slice::<*mut ngx_http_core_srv_conf_t>() } {
        // SAFETY: each server has its context.
        let ctx = unsafe { (**server).ctx };
        // SAFETY: as above.
        let loc_conf = unsafe { (*ctx).loc_conf };
        // SAFETY: one slot per module.
        found.push(unsafe { own(loc_conf) });
        // SAFETY: the core module's location configuration always exists.
        let clcf = unsafe { ffi::module_entry::<ngx_http_core_loc_conf_t>(loc_conf, core) };
        // SAFETY: a live location configuration.
        unsafe { nested_levels(clcf, &mut found) };
    }
    found
}

/// # Safety
///
/// `clcf` must be a live core location configuration before locations are sorted into trees.
unsafe fn nested_levels(clcf: *mut ngx_http_core_loc_conf_t, found: &mut Vec<&LocConf>) {
    // SAFETY: the caller vouches for it.
    let head: *mut ngx_queue_t = unsafe { (*clcf).locations };
    if head.is_null() {
        return;
    }
    // SAFETY: a queue is circular and never null inside.
    let mut q = unsafe { (*head).next };
    while q != head {
        // The queue link is the first member of its entry.
        let entry = q.cast::<ngx_http_location_queue_t>();
        // SAFETY: every link but the head is inside an entry.
        let entry = unsafe { &*entry };
        let inner = if entry.exact.is_null() { entry.inclusive } else { entry.exact };
        // SAFETY: an entry holds one of the two.
        let loc_conf = unsafe { (*inner).loc_conf };
        // SAFETY: one slot per module.
        found.push(unsafe { own(loc_conf) });
        // SAFETY: as for the outer one.
        unsafe { nested_levels(inner, found) };
        // SAFETY: as above.
        q = unsafe { (*q).next };
    }
}

/// # Safety
///
/// `loc_conf` must be an array of location configurations with ours in it.
unsafe fn own<'a>(loc_conf: *mut *mut c_void) -> &'a LocConf {
    // SAFETY: the caller vouches for the array.
    let conf =
        unsafe { ffi::module_entry::<LocConf>(loc_conf, &raw const crate::ngx_http_px_module) };
    // SAFETY: what create_loc_conf returned.
    unsafe { &*conf }
}

/// Setter of `px_internal_backend <slot>;`, which only our own text may hold.
pub(crate) unsafe extern "C" fn set_internal_backend(
    cf: *mut ngx_conf_t,
    _cmd: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    const CONF_ERROR: *mut c_char = usize::MAX as *mut c_char;
    ffi::guard(
        "px_internal_backend",
        || CONF_ERROR,
        || {
            // SAFETY: nginx passes a live `cf`.
            if !unsafe { builtin_conf::is_reading(cf) } {
                // SAFETY: as above.
                unsafe {
                    log::conf_line(cf, EMERG, "\"px_internal_backend\" is reserved for the module");
                }
                return CONF_ERROR;
            }
            // SAFETY: the words of the directive.
            let args = unsafe { &*(*cf).args };
            // SAFETY: an array of strings.
            let words = unsafe { args.as_slice::<ngx_str_t>() };
            // SAFETY: the words live in the configuration pool.
            let index = words.get(1).map(|word| unsafe { ffi::bytes(*word) });
            let index =
                index.and_then(|text| std::str::from_utf8(text).ok()?.parse::<usize>().ok());
            // SAFETY: inside the http block.
            let main = unsafe { &*conf::main_conf(cf) };
            let Some(slot) = index.and_then(|index| main.upstreams.slots.get(index)) else {
                return CONF_ERROR;
            };
            // SAFETY: inside an upstream block `ctx` is the block's context.
            let ctx = unsafe { (*cf).ctx }.cast::<ngx_http_conf_ctx_t>();
            // SAFETY: as above.
            let srv_conf = unsafe { (*ctx).srv_conf };
            // SAFETY: the upstream module put the block's configuration into its slot.
            let us = unsafe { *srv_conf.add(nginx_sys::ngx_http_upstream_module.ctx_index) }
                .cast::<ngx_http_upstream_srv_conf_t>();
            // SAFETY: as above.
            let peer = unsafe { &mut (*us).peer };
            peer.init_upstream = Some(init_upstream);
            peer.data = ptr::from_ref::<Slot>(slot).cast_mut().cast();
            ptr::null_mut()
        },
    )
}

unsafe extern "C" fn init_upstream(
    _cf: *mut ngx_conf_t,
    us: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    // SAFETY: nginx passes the block whose `init_upstream` it calls.
    let us = unsafe { &mut *us };
    us.peer.init = Some(init_peer);
    OK
}

/// One call's choice of addresses, in the request's pool.
struct Peers {
    slot: *const Slot,
    /// Null where the connection is not a call's.
    call: *mut Call,
    /// The slot's turn when the call began.
    first: usize,
    candidates: [Candidate; CANDIDATES],
    count: usize,
    next: usize,
}

struct Candidate {
    address: libc::sockaddr_storage,
    len: libc::socklen_t,
    name: ngx_str_t,
}

unsafe extern "C" fn init_peer(
    r: *mut ngx_http_request_t,
    us: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    ffi::guard(
        "init_peer",
        || ERROR,
        || {
            // SAFETY: set_internal_backend put the slot there; it lives as long as the configuration.
            let slot = unsafe { &*(*us).peer.data.cast::<Slot>() };
            // SAFETY: the upstream module passes a live request.
            unsafe { first_party::begin_waiting(r) };
            let addresses = slot.backend.addresses().unwrap_or_default();
            if addresses.is_empty() {
                return ERROR;
            }
            // SAFETY: the upstream module passes a live request.
            let pool = unsafe { (*r).pool };
            // SAFETY: live pool; zero is valid for all fields.
            let Some(peers) = (unsafe { ffi::zeroed_in_pool::<Peers>(pool) }) else { return ERROR };
            peers.slot = slot;
            // SAFETY: as above.
            peers.call = unsafe { remote_call::of(r) };
            peers.first = slot.turn.get();
            let in_turn = addresses.iter().cycle().skip(peers.first % addresses.len());
            let limit = slot.node_keepalive.map_or(CANDIDATES, |_| NODE_CANDIDATES);
            for address in in_turn.take(addresses.len().min(limit)) {
                let Some(candidate) = peers.candidates.get_mut(peers.count) else { break };
                candidate.set(address);
                // SAFETY: live pool.
                match unsafe { ffi::copy_to_pool(pool, address.to_string().as_bytes()) } {
                    Some(name) => candidate.name = name,
                    None => return ERROR,
                }
                peers.count += 1;
            }
            // SAFETY: the upstream module calls this with the request's upstream in place.
            let upstream = unsafe { (*r).upstream };
            // SAFETY: as above.
            let pc = unsafe { &mut (*upstream).peer };
            pc.get = Some(get_peer);
            pc.free = Some(free_peer);
            pc.tries = peers.count;
            pc.data = ptr::from_mut(peers).cast();
            OK
        },
    )
}

unsafe extern "C" fn get_peer(pc: *mut ngx_peer_connection_t, data: *mut c_void) -> ngx_int_t {
    ffi::guard(
        "get_peer",
        || ERROR,
        || {
            // SAFETY: init_peer stored it.
            let peers = unsafe { &mut *data.cast::<Peers>() };
            // SAFETY: nginx passes the connection it is about to open.
            let pc = unsafe { &mut *pc };
            let index = peers.next % peers.count.max(1);
            peers.next += 1;
            let Some(candidate) = peers.candidates.get_mut(index) else { return ERROR };
            pc.sockaddr = (&raw mut candidate.address).cast();
            pc.socklen = candidate.len;
            pc.name = &raw mut candidate.name;
            pc.connection = ptr::null_mut();
            pc.set_cached(0);
            OK
        },
    )
}

unsafe extern "C" fn free_peer(
    pc: *mut ngx_peer_connection_t,
    data: *mut c_void,
    state: ngx_uint_t,
) {
    ffi::guard(
        "free_peer",
        || (),
        || {
            // SAFETY: init_peer stored it.
            let peers = unsafe { &mut *data.cast::<Peers>() };
            // SAFETY: nginx passes the connection it is done with.
            let pc = unsafe { &mut *pc };
            if state & NGX_PEER_FAILED as ngx_uint_t != 0 {
                if pc.cached() != 0 {
                    // It died while idle, which says nothing about its address: try that again.
                    peers.next = peers.next.saturating_sub(1);
                } else {
                    // SAFETY: the slot lives as long as the configuration.
                    let slot = unsafe { &*peers.slot };
                    slot.turn.set(peers.first.wrapping_add(peers.next));
                    slot.backend.doubt();
                    // SAFETY: null, or the call whose subrequest's peer this is.
                    if let Some(call) = unsafe { peers.call.as_mut() } {
                        // SAFETY: null, or not closed before this returns.
                        unsafe { call.note_refusal(pc.connection) };
                    }
                }
            }
            pc.tries = pc.tries.saturating_sub(1);
        },
    );
}

impl Candidate {
    fn set(&mut self, address: &SocketAddr) {
        match address {
            SocketAddr::V4(v4) => {
                // SAFETY: zero is valid for this C struct.
                let mut sin: libc::sockaddr_in = unsafe { mem::zeroed() };
                sin.sin_family = libc::AF_INET as libc::sa_family_t;
                sin.sin_port = v4.port().to_be();
                sin.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                self.len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
                // SAFETY: sockaddr_storage is larger than, and aligned for, every address.
                unsafe { ptr::write((&raw mut self.address).cast(), sin) };
            }
            SocketAddr::V6(v6) => {
                // SAFETY: zero is valid for this C struct.
                let mut sin: libc::sockaddr_in6 = unsafe { mem::zeroed() };
                sin.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                sin.sin6_port = v6.port().to_be();
                sin.sin6_addr.s6_addr = v6.ip().octets();
                sin.sin6_scope_id = v6.scope_id();
                self.len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
                // SAFETY: as above.
                unsafe { ptr::write((&raw mut self.address).cast(), sin) };
            }
        }
    }
}
