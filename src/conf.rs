//! Configuration of the module at nginx's levels: created, merged, compiled once per location.

mod compile;

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::{c_char, c_void};
use std::rc::Rc;
use std::sync::Arc;
use std::{fmt, ptr};

use nginx_sys::{
    ngx_conf_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_core_srv_conf_t, ngx_http_request_t,
    ngx_pool_cleanup_add, ngx_pool_t, ngx_uint_t,
};
use px_core::base_url::BaseUrl;
use px_core::breaker::Limits;
use px_core::metrics::Format;
use px_core::policy::Policy;

use crate::advice;
use crate::background::{self, Tasks};
use crate::complex_value::ComplexValue;
use crate::documents::DocumentsZone;
use crate::ffi;
use crate::first_party_location::{CacheSetting, FirstPartyLocations};
use crate::hooks::{Expressions, Handler, Target};
use crate::log::{self, EMERG};
use crate::login::LoginExpressions;
use crate::named_location::Wanted;
use crate::node_conf::{self, NodeConf};
use crate::node_work::NodeWork;
use crate::risk_location::RiskLocation;
use crate::sender::Destination;
use crate::shared_zone::SharedZone;
use crate::spool;
use crate::token_cache::{self, TokenCache};
use crate::upstream::Upstreams;
use crate::values::Values;
use crate::worker::Worker;
pub(crate) use compile::{S2S_TIMEOUT, certificate_bundle, default_backend_url};

/// One per `http` block.
#[derive(Default)]
pub(crate) struct MainConf {
    /// Every distinct compiled configuration, in the order of merging.
    pub(crate) enforcements: Vec<Rc<Enforcement>>,
    /// The same of traffic-analysis nodes.
    pub(crate) nodes: Vec<Rc<NodeConf>>,
    /// What this worker does with them.
    pub(crate) node_work: NodeWork,
    pub(crate) upstreams: Upstreams,
    /// Named locations that configurations go to.
    pub(crate) named_locations: Vec<Wanted>,
    /// Options that need others, at their lines.
    pub(crate) advice: Vec<advice::Line>,
    pub(crate) shared: SharedZone,
    /// What is fetched in the background, and where it is put.
    pub(crate) tasks: Vec<background::Task>,
    pub(crate) documents: DocumentsZone,
    /// Number of the configuration since nginx started; set when it is put to use.
    pub(crate) configuration: Cell<u64>,
    /// What the worker that runs under this configuration keeps between requests.
    pub(crate) worker: RefCell<Option<Worker>>,
}

/// One per `http`, `server` and `location` level.
#[derive(Default)]
pub(crate) struct LocConf {
    pub(crate) values: Values,
    /// Where this level's `px_*` directives begin, for messages that come after reading it.
    place: Option<Place>,
    /// The directives in effect and where they stand: those of this level, then those around it.
    lines: Vec<(&'static str, Rc<str>)>,
    /// What requests are judged by; `None` where the module can never be active.
    pub(crate) enforcement: Option<Rc<Enforcement>>,
    /// Where requests are sent for analysis; `None` where they are not.
    pub(crate) node: Option<Rc<NodeConf>>,
    /// `px_status` stands here: this location answers with the counters.
    pub(crate) status: Option<Format>,
    /// What a level that sets nothing of its own inherits, compiled once for all of them.
    as_inherited: OnceCell<Compiled>,
}

type Compiled = (Option<Rc<Enforcement>>, Option<Rc<NodeConf>>);

/// Everything that requests of one location need, compiled at configuration time.
pub(crate) struct Enforcement {
    /// What the operator configured, or that under a remote configuration; exchanged as a whole.
    policy: RefCell<Rc<Policy>>,
    /// Where the application's counters are; set when the configuration is put to use.
    pub(crate) app_place: Cell<usize>,
    pub(crate) assets: Assets,
    /// `None` where there is nothing to evaluate.
    pub(crate) expressions: Option<Expressions>,
    pub(crate) answers: Answers,
    pub(crate) login: LoginExpressions,
    /// What is fetched for this configuration.
    pub(crate) tasks: Tasks,
    /// Milliseconds for which a CSP policy counts after it was last confirmed.
    pub(crate) csp_limit_ms: u64,
    pub(crate) csp_nonce: Option<ComplexValue>,
    /// `px_create_custom_snippet`
    pub(crate) custom_snippet: Option<ComplexValue>,
    /// HUMAN is told of the configuration when it is new.
    pub(crate) tells_at_start: bool,
    /// `px_extract_graphql_keywords`
    pub(crate) graphql_keywords: Option<ComplexValue>,
    /// One request in so many is logged where the severity is `debug`.
    pub(crate) debug_probability: u32,
    /// `page_requested` is sent after the origin's response.
    pub(crate) deferred_activities: bool,
    pub(crate) additional_activity_handler: Option<Target>,
    /// Milliseconds from the start of the access phase; `None`: no limit of its own.
    pub(crate) enforce_timeout: Option<u64>,
    pub(crate) breaker_limits: Limits,
    pub(crate) backend_url: BaseUrl,
    /// Chooses another Risk API for a request.
    pub(crate) risk_backend: Option<ComplexValue>,
    pub(crate) tls: TlsSettings,
    pub(crate) destination: Arc<Destination>,
    pub(crate) token_cache_setting: token_cache::Setting,
    /// Set at the end of configuration, unless switched off.
    pub(crate) token_cache: OnceCell<Rc<TokenCache>>,
    /// `None` where nothing is ever proxied for browsers.
    pub(crate) first_party_backends: Option<FirstPartyBackends>,
    /// With the place of the configuration that wants it.
    pub(crate) first_party_cache: Option<(CacheSetting, String)>,
    /// Set at the end of configuration, where there are backends.
    pub(crate) first_party: OnceCell<FirstPartyLocations>,
    /// Set at the end of configuration.
    pub(crate) risk_location: OnceCell<Rc<RiskLocation>>,
    /// Of calls to a chosen Risk API; set at the end of configuration where one may be chosen.
    pub(crate) chosen_risk_location: OnceCell<Rc<RiskLocation>>,
}

/// Where first-party requests go.
#[derive(Clone, Debug)]
pub(crate) struct FirstPartyBackends {
    pub(crate) client: BaseUrl,
    pub(crate) captcha: BaseUrl,
    pub(crate) collector: BaseUrl,
}

/// Values of block answers that may hold variables.
#[derive(Default)]
pub(crate) struct Assets {
    pub(crate) custom_logo: Option<ComplexValue>,
    pub(crate) css_ref: Option<ComplexValue>,
    pub(crate) js_ref: Option<ComplexValue>,
    pub(crate) block_page_content: Option<ComplexValue>,
    pub(crate) api_protection_block_url: Option<ComplexValue>,
    pub(crate) api_protection_default_redirect_url: Option<ComplexValue>,
    pub(crate) cors_headers: Option<Vec<(String, ComplexValue)>>,
}

/// Named locations that answer in the module's place, without their `@`.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) web: Option<String>,
    pub(crate) advanced: Option<String>,
    pub(crate) rate_limit: Option<String>,
    /// After any verdict where its condition holds; without one, instead of a block.
    pub(crate) verification: Option<Handler>,
}

/// How the backends' certificates are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    pub(crate) verify: bool,
    pub(crate) depth: u32,
    /// PEM bundle; `None` only when nothing is verified.
    pub(crate) trusted_certificate: Option<String>,
}

/// A line of the configuration.
#[derive(Clone)]
struct Place {
    file: String,
    line: ngx_uint_t,
    /// How much the directive there says about why the level is in effect.
    weight: u8,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Enforcement {
    /// What requests that begin now are judged by, to their end.
    pub(crate) fn policy(&self) -> Rc<Policy> {
        Rc::clone(&self.policy.borrow())
    }

    /// From now on requests are judged by another policy.
    pub(crate) fn replace_policy(&self, policy: Policy) {
        self.policy.replace(Rc::new(policy));
    }
}

impl MainConf {
    /// Loaded, but nothing is enforced or sent to a node anywhere.
    pub(crate) fn is_idle(&self) -> bool {
        self.enforcements.is_empty() && self.nodes.is_empty()
    }

    /// The configuration that `r` is served under.
    ///
    /// # Safety
    ///
    /// `r` must be a live request; the result lives as long as its cycle, which outlives it.
    pub(crate) unsafe fn of_request<'r>(r: *mut ngx_http_request_t) -> &'r Self {
        // SAFETY: the caller vouches for the request.
        let confs = unsafe { (*r).main_conf };
        // SAFETY: our entry was filled by create_main_conf.
        let conf =
            unsafe { ffi::module_entry::<Self>(confs, &raw const crate::ngx_http_px_module) };
        // SAFETY: as above.
        unsafe { &*conf }
    }

    /// The same directory, used elsewhere in this configuration with another limit.
    fn spool_of_other_size(&self, destination: &Destination) -> Option<&spool::Setting> {
        let wanted = destination.spool.as_ref()?;
        let mut known = self.enforcements.iter().filter_map(|e| e.destination.spool.as_ref());
        known.find(|known| known.dir == wanted.dir && known.max_size != wanted.max_size)
    }

    /// Runs `f` on what this worker keeps between requests, making it first if need be. `None` if
    /// it is in use further up the stack, or cannot be made: nothing may depend on it.
    pub(crate) fn with_worker<T>(&self, f: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let mut worker = self.worker.try_borrow_mut().ok()?;
        if worker.is_none() {
            *worker = Some(Worker::start(self));
        }
        worker.as_mut().map(f)
    }
}

impl LocConf {
    /// Remembers the first directive of this level, in preference those that switch the module on.
    pub(crate) fn note_place(&mut self, directive: &'static str, cf: *mut ngx_conf_t) {
        let weight = match directive {
            "px_enabled" | "px_module_enabled" => 2,
            "px_active_header_name" => 1,
            _ => 0,
        };
        // SAFETY: `cf` is the state nginx passed to the setter, which reads a file.
        let file = unsafe { (*cf).conf_file };
        // SAFETY: as above.
        let file = unsafe { &*file };
        // SAFETY: the name of the file being read lives in the cycle's pool.
        let name = unsafe { ffi::bytes(file.file.name) };
        let file_name = String::from_utf8_lossy(name).into_owned();
        let place = Place { file: file_name, line: file.line, weight };
        self.lines.push((directive, place.to_string().into()));
        if self.place.as_ref().is_none_or(|known| known.weight < weight) {
            self.place = Some(place);
        }
    }

    /// Completes this level from the outer one and compiles it.
    fn merge(
        &mut self,
        outer: &Self,
        main: &mut MainConf,
        server: *const ngx_http_core_srv_conf_t,
        has_resolver: bool,
    ) -> Result<(), String> {
        // Taken out, because locations inside of this one are ordinary ones again.
        self.status = self.values.status.take();
        if self.status.is_some() {
            // Whoever asks for the status is not a visitor: never enforced.
            self.values.inherit(&outer.values);
            self.place.clone_from(&outer.place);
            return Ok(());
        }
        if self.values.is_empty() {
            self.values.clone_from(&outer.values);
            self.place.clone_from(&outer.place);
            self.lines.clone_from(&outer.lines);
            let compiled = match outer.as_inherited.get() {
                Some(compiled) => compiled.clone(),
                None => {
                    if outer.enforcement.is_none() || outer.node.is_none() {
                        self.note_advice(main);
                    }
                    let enforcement = match &outer.enforcement {
                        Some(enforcement) => Some(Rc::clone(enforcement)),
                        None => self.compile(main)?,
                    };
                    let node = match &outer.node {
                        Some(node) => Some(Rc::clone(node)),
                        None => self.compile_node(main, has_resolver)?,
                    };
                    outer.as_inherited.get_or_init(|| (enforcement, node)).clone()
                }
            };
            (self.enforcement, self.node) = compiled;
            self.want_named_locations(main, server);
            return Ok(());
        }
        self.values.inherit(&outer.values);
        if self.place.is_none() {
            self.place.clone_from(&outer.place);
        }
        self.lines.extend(outer.lines.iter().cloned());
        self.note_advice(main);
        self.enforcement = self.compile(main)?;
        self.node = self.compile_node(main, has_resolver)?;
        self.want_named_locations(main, server);
        Ok(())
    }

    /// Notes which options have an effect here. One that has none anywhere is warned about when all
    /// levels are known: what is set for all servers may be meant for one.
    fn note_advice(&self, main: &mut MainConf) {
        let mut advice = match self.values.may_be_active() {
            true => advice::of(&self.values),
            false => Vec::new(),
        };
        advice.extend(advice::of_node(&self.values));
        for advice::Advice { names, is_idle, text } in advice {
            let line = self.lines.iter().find(|(name, _)| names.contains(name));
            let Some((name, place)) = line else { continue };
            let known = main.advice.iter_mut().find(|l| l.name == *name && l.place == *place);
            match known {
                Some(known) => known.is_idle &= is_idle,
                None => {
                    let place = Rc::clone(place);
                    main.advice.push(advice::Line { name, place, text, is_idle });
                }
            }
        }
    }

    /// Notes what this level goes to, in the server it stands in.
    fn want_named_locations(&self, main: &mut MainConf, server: *const ngx_http_core_srv_conf_t) {
        if self.enforcement.is_none() {
            return;
        }
        for (directive, name) in self.values.named_locations() {
            let is_known = |wanted: &Wanted| {
                ptr::eq(wanted.server, server)
                    && wanted.name == name
                    && wanted.directive == directive
            };
            if !main.named_locations.iter().any(is_known) {
                let place = self.place.as_ref().map_or_else(String::new, ToString::to_string);
                let name = name.to_owned();
                main.named_locations.push(Wanted { server, name, directive, place });
            }
        }
    }
}

/// Allocates `T` on Rust's heap, to be dropped with the configuration pool.
///
/// # Safety
///
/// `pool` must be a live pool.
unsafe fn owned_by_pool<T: Default>(pool: *mut ngx_pool_t) -> *mut c_void {
    unsafe extern "C" fn drop_value<T>(data: *mut c_void) {
        ffi::guard(
            "configuration cleanup",
            || (),
            || {
                // SAFETY: `data` is the box leaked below; the pool runs this once.
                drop(unsafe { Box::from_raw(data.cast::<T>()) });
            },
        );
    }
    // SAFETY: the caller vouches for the pool.
    let cleanup = unsafe { ngx_pool_cleanup_add(pool, 0) };
    // SAFETY: null or a fresh cleanup record.
    let Some(cleanup) = (unsafe { cleanup.as_mut() }) else { return ptr::null_mut() };
    let value = Box::into_raw(Box::<T>::default()).cast::<c_void>();
    cleanup.handler = Some(drop_value::<T>);
    cleanup.data = value;
    value
}

pub(crate) unsafe extern "C" fn create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    ffi::guard("create_main_conf", ptr::null_mut, || {
        // SAFETY: nginx passes a live `cf`.
        let pool = unsafe { (*cf).pool };
        // SAFETY: the configuration pool is live.
        unsafe { owned_by_pool::<MainConf>(pool) }
    })
}

pub(crate) unsafe extern "C" fn create_loc_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    ffi::guard("create_loc_conf", ptr::null_mut, || {
        // SAFETY: nginx passes a live `cf`.
        let pool = unsafe { (*cf).pool };
        // SAFETY: the configuration pool is live.
        unsafe { owned_by_pool::<LocConf>(pool) }
    })
}

pub(crate) unsafe extern "C" fn merge_loc_conf(
    cf: *mut ngx_conf_t,
    prev: *mut c_void,
    conf: *mut c_void,
) -> *mut c_char {
    const CONF_ERROR: *mut c_char = usize::MAX as *mut c_char;
    ffi::guard(
        "merge_loc_conf",
        || CONF_ERROR,
        || {
            // SAFETY: while merging, `cf` belongs to the http block and our main conf exists.
            let main = unsafe { &mut *main_conf(cf) };
            // SAFETY: while merging, the context is that of one server after the other.
            let server = unsafe { server_conf(cf) };
            // SAFETY: nginx passes what create_loc_conf returned for the outer level.
            let prev = unsafe { &*prev.cast::<LocConf>() };
            // SAFETY: nginx passes what create_loc_conf returned for this level, a different object.
            let conf = unsafe { &mut *conf.cast::<LocConf>() };
            // SAFETY: while merging; the core module merges before any other.
            let has_resolver = unsafe { node_conf::has_resolver(cf) };
            match conf.merge(prev, main, server, has_resolver) {
                Ok(()) => ptr::null_mut(),
                Err(reason) => {
                    // SAFETY: `cf` is live for the call.
                    unsafe { log::conf_line(cf, EMERG, &format!("px: {reason}")) };
                    CONF_ERROR
                }
            }
        },
    )
}

/// Our main configuration.
///
/// # Safety
///
/// `cf` must be inside or at the end of the `http` block.
pub(crate) unsafe fn main_conf(cf: *mut ngx_conf_t) -> *mut MainConf {
    // SAFETY: inside http, `ctx` is the http context.
    let ctx = unsafe { (*cf).ctx }.cast::<ngx_http_conf_ctx_t>();
    // SAFETY: as above.
    let confs = unsafe { (*ctx).main_conf };
    // SAFETY: an array of main configurations.
    unsafe { ffi::module_entry(confs, &raw const crate::ngx_http_px_module) }
}

/// The core module's configuration of the server that is being merged.
///
/// # Safety
///
/// As [`main_conf`].
unsafe fn server_conf(cf: *mut ngx_conf_t) -> *const ngx_http_core_srv_conf_t {
    // SAFETY: inside http, `ctx` is the http context.
    let ctx = unsafe { (*cf).ctx }.cast::<ngx_http_conf_ctx_t>();
    // SAFETY: as above.
    let confs = unsafe { (*ctx).srv_conf };
    // SAFETY: an array of server configurations.
    unsafe { ffi::module_entry(confs, &raw const nginx_sys::ngx_http_core_module) }
}

/// Our main configuration in a running cycle; null if there is no `http` block.
///
/// # Safety
///
/// `cycle` must be a fully configured cycle.
pub(crate) unsafe fn main_conf_of_cycle(cycle: *mut ngx_cycle_t) -> *mut MainConf {
    // SAFETY: the http module's index is valid in every cycle's conf_ctx.
    let index = unsafe { nginx_sys::ngx_http_module.index };
    // SAFETY: as above.
    let contexts = unsafe { (*cycle).conf_ctx };
    // SAFETY: as above.
    let ctx = unsafe { *contexts.add(index) }.cast::<ngx_http_conf_ctx_t>();
    if ctx.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: a non-null http context holds the main configurations.
    let confs = unsafe { (*ctx).main_conf };
    // SAFETY: an array of main configurations.
    unsafe { ffi::module_entry(confs, &raw const crate::ngx_http_px_module) }
}

/// The compiled configuration of the location `r` is in.
///
/// # Safety
///
/// `r` must be a live request; the result lives as long as its cycle, which outlives the request.
pub(crate) unsafe fn enforcement<'r>(r: *mut ngx_http_request_t) -> Option<&'r Rc<Enforcement>> {
    // SAFETY: as the caller's.
    unsafe { of_location(r) }?.enforcement.as_ref()
}

/// Our configuration of the location `r` is in.
///
/// # Safety
///
/// As for [`enforcement`].
pub(crate) unsafe fn of_location<'r>(r: *mut ngx_http_request_t) -> Option<&'r LocConf> {
    // SAFETY: the caller vouches for the request.
    let confs = unsafe { (*r).loc_conf };
    // SAFETY: an array of location configurations.
    let conf = unsafe { ffi::module_entry::<LocConf>(confs, &raw const crate::ngx_http_px_module) };
    // SAFETY: null in locations that other modules assembled without us, else our own object.
    unsafe { conf.as_ref() }
}
