//! What the module remembers of one client request between callbacks.
//!
//! It lives in a pool cleanup record, so that an internal redirect, which wipes every module's
//! context slot, does not lose it: each client request is decided once (DECISIONS 19).

use std::borrow::Cow;
use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;

use nginx_sys::{ngx_http_request_t, ngx_pool_cleanup_add, ngx_pool_cleanup_t};
use px_core::enforce::{Action, Extracted, Pending, Verdict, Wanted};
use px_core::policy::Policy;
use px_core::reason::FilterReason;
use px_core::request::Request;

use crate::conf::Enforcement;
use crate::ffi;
use crate::first_party::FirstParty;
use crate::login::Watch;
use crate::node::{DROP_LEG, Leg};
use crate::node_copy::Copy;
use crate::page_request::PageRequest;
use crate::remote_call::Call;
use crate::risk_backend::Chosen;
use crate::snippet::Injection;
use crate::token_cache::Lookup;

/// One client request.
///
/// What borrows from the request says `'static` here: its bytes live in the request's and the
/// connection's memory until after the pool's cleanups ran, and this struct is one of them.
pub(crate) struct Ctx {
    pub(crate) enforcement: Rc<Enforcement>,
    /// Of the enforcement when the request began.
    pub(crate) policy: Rc<Policy>,
    pub(crate) stage: Stage,
    /// The Risk API that this request's expression has chosen.
    pub(crate) risk_backend: Option<Chosen>,
    /// The Risk API call under way, or ended.
    pub(crate) call: Option<Box<Call>>,
    /// What it is about, until it has ended.
    pub(crate) pending: Option<Box<Pending<'static>>>,
    /// When it was asked about, by the steady clock.
    pub(crate) asked: u64,
    pub(crate) verdict: Option<Verdict<'static>>,
    /// What is to be got ready before the request is judged.
    pub(crate) preparation: Option<Box<Preparation>>,
    /// What was found in the request; what is pending and the verdict borrow it, and go before it.
    pub(crate) extracted: Option<Box<Extracted>>,
    /// The answer to a login.
    pub(crate) login: Option<Box<Watch>>,
    pub(crate) filter_reason: Option<FilterReason>,
    /// What became of the look into the token cache, if there was one.
    pub(crate) token_lookup: Option<Lookup>,
    /// The operator's block page that is being fetched, or was.
    pub(crate) page: Option<Box<PageRequest>>,
    /// It is to a first-party path.
    pub(crate) is_first_party: bool,
    /// The operator's location answers it as a preflight.
    pub(crate) is_preflight: bool,
    /// The request is proxied for the browser.
    pub(crate) first_party: Option<Box<FirstParty>>,
    /// What the answer of somebody else than the module is given.
    pub(crate) pinned: Option<Pinned>,
    /// A page that the sensor's snippet goes into.
    pub(crate) injection: Option<Box<Injection>>,
    /// The answer gets the Content-Security-Policy.
    pub(crate) wants_csp: bool,
    pub(crate) response_headers_set: bool,
    pub(crate) reported: bool,
}

/// A request that is looked into before it is judged.
pub(crate) struct Preparation {
    pub(crate) view: Request<'static>,
    pub(crate) wanted: Wanted,
}

/// Status and headers of a block answer whose body a location of the operator's writes.
pub(crate) struct Pinned {
    /// `None`: the location's own.
    pub(crate) status: Option<u16>,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The request's body is being read.
    ReadingBody,
    /// It has come, and the request is to be judged.
    BodyRead,
    /// The Risk API has been asked.
    Waiting,
    /// The call has ended and is to be judged.
    Answered,
    /// The operator's block page is being fetched.
    FetchingPage,
    /// It has come, or has not.
    PageFetched,
    /// A first-party request that was let through to its content.
    FirstParty,
    /// Nothing more to decide: passed, answered, filtered, or given up.
    Settled,
}

/// The cleanup handler by which a context is recognised. Read from here wherever it is stored or
/// compared: the address of a function named twice need not be the same twice.
static DROP_CTX: Cleanup = drop_ctx;

impl Ctx {
    /// Makes the context of `r`, settled until somebody says otherwise. Null when memory is short.
    ///
    /// # Safety
    ///
    /// `r` must be a live main request without a context.
    pub(crate) unsafe fn create(
        r: *mut ngx_http_request_t,
        enforcement: Rc<Enforcement>,
    ) -> *mut Self {
        let policy = enforcement.policy();
        // SAFETY: as the caller's.
        let slots = unsafe { Slots::find_or_make(r) };
        // SAFETY: null or in the request's pool.
        let Some(slots) = (unsafe { slots.as_mut() }) else { return ptr::null_mut() };
        let fresh = Self {
            enforcement,
            policy,
            stage: Stage::Settled,
            risk_backend: None,
            call: None,
            pending: None,
            asked: 0,
            verdict: None,
            preparation: None,
            extracted: None,
            login: None,
            filter_reason: None,
            token_lookup: None,
            page: None,
            is_first_party: false,
            is_preflight: false,
            first_party: None,
            pinned: None,
            injection: None,
            wants_csp: false,
            response_headers_set: false,
            reported: false,
        };
        // SAFETY: live request, and the handler that drops this.
        slots.visit = unsafe { keep(r, fresh, DROP_CTX) };
        slots.visit
    }

    /// The context of `r`'s main request; null if it has none.
    ///
    /// # Safety
    ///
    /// `r` must be a live request.
    pub(crate) unsafe fn find(r: *mut ngx_http_request_t) -> *mut Self {
        // SAFETY: as the caller's.
        let slots = unsafe { Slots::find(r) };
        // SAFETY: null or in the request's pool.
        unsafe { slots.as_ref() }.map_or(ptr::null_mut(), |slots| slots.visit)
    }

    /// Whether the module answers the request itself, wherever it is on its way: nobody else is to judge
    /// it.
    pub(crate) fn is_answered(&self) -> bool {
        let is_blocked = |verdict: &Verdict<'_>| verdict.action == Action::Block;
        self.is_first_party || self.is_preflight || self.verdict.as_ref().is_some_and(is_blocked)
    }
}

/// Where what is kept of a request lies. Each has a cleanup record of its own, by which it is found
/// again.
#[repr(C)]
pub(crate) struct Slots {
    /// As the enforcer sees it.
    pub(crate) visit: *mut Ctx,
    /// As the connector to a traffic-analysis node sees it.
    pub(crate) leg: *mut Leg,
    /// It is no client's: a copy hangs on it.
    pub(crate) copy: *mut Copy,
}

impl Slots {
    /// The slots of `r`'s main request; null if nothing is kept of it.
    ///
    /// # Safety
    ///
    /// `r` must be a live request.
    pub(crate) unsafe fn find(r: *mut ngx_http_request_t) -> *mut Self {
        // SAFETY: every request points to its main request.
        let r = unsafe { (*r).main };
        // SAFETY: live request.
        let slots = unsafe { (*r).ctx };
        // SAFETY: an array of contexts; only this module writes its entry.
        let known =
            unsafe { ffi::module_entry::<Self>(slots, &raw const crate::ngx_http_px_module) };
        if !known.is_null() {
            return known;
        }
        // SAFETY: live request.
        let redirected =
            unsafe { ffi::px_request_internal(r) | ffi::px_request_filter_finalize(r) } != 0;
        if !redirected {
            return ptr::null_mut();
        }
        // SAFETY: live request.
        let (visit, leg) = unsafe { (kept(r, DROP_CTX), kept(r, DROP_LEG)) };
        if visit.is_null() && leg.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: live request without slots.
        let made = unsafe { Self::make(r) };
        // SAFETY: null or fresh.
        if let Some(made) = unsafe { made.as_mut() } {
            (made.visit, made.leg) = (visit.cast(), leg.cast());
        }
        made
    }

    /// As [`find`](Self::find), made if there are none. Null when memory is short.
    ///
    /// # Safety
    ///
    /// `r` must be a live main request.
    pub(crate) unsafe fn find_or_make(r: *mut ngx_http_request_t) -> *mut Self {
        // SAFETY: as the caller's.
        let found = unsafe { Self::find(r) };
        if found.is_null() {
            // SAFETY: as the caller's.
            return unsafe { Self::make(r) };
        }
        found
    }

    /// # Safety
    ///
    /// `r` must be a live main request without slots.
    unsafe fn make(r: *mut ngx_http_request_t) -> *mut Self {
        // SAFETY: the caller vouches for the request.
        let pool = unsafe { (*r).pool };
        // SAFETY: live pool; null pointers are valid.
        let Some(made) = (unsafe { ffi::zeroed_in_pool::<Self>(pool) }) else {
            return ptr::null_mut();
        };
        // SAFETY: live request.
        let slots = unsafe { (*r).ctx };
        // SAFETY: an array of contexts; only this module writes its entry.
        let slot = unsafe { ffi::module_slot::<Self>(slots, &raw const crate::ngx_http_px_module) };
        // SAFETY: inside the array.
        unsafe { *slot = made };
        made
    }
}

type Cleanup = unsafe extern "C" fn(*mut c_void);

/// What a cleanup record with this handler keeps; null if there is none.
///
/// # Safety
///
/// `r` must be a live request.
unsafe fn kept(r: *mut ngx_http_request_t, wanted: Cleanup) -> *mut c_void {
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // SAFETY: live pool.
    let mut record: *mut ngx_pool_cleanup_t = unsafe { (*pool).cleanup };
    // SAFETY: a list of live records that ends with null.
    while let Some(found) = unsafe { record.as_ref() } {
        if found.handler.is_some_and(|handler| ptr::fn_addr_eq(handler, wanted)) {
            return found.data;
        }
        record = found.next;
    }
    ptr::null_mut()
}

/// Keeps a value as long as a request, to be dropped by this handler. Null when memory is short.
///
/// # Safety
///
/// `r` must be a live request, and the handler drop a `T`.
pub(crate) unsafe fn keep<T>(r: *mut ngx_http_request_t, value: T, handler: Cleanup) -> *mut T {
    // SAFETY: the caller vouches for the request.
    let pool = unsafe { (*r).pool };
    // SAFETY: live pool.
    let cleanup = unsafe { ngx_pool_cleanup_add(pool, size_of::<T>()) };
    // SAFETY: null or a fresh record.
    let Some(record) = (unsafe { cleanup.as_mut() }) else { return ptr::null_mut() };
    let place = record.data.cast::<T>();
    // SAFETY: room for one, aligned as any C type; nothing that is kept is stricter.
    unsafe { place.write(value) };
    record.handler = Some(handler);
    place
}

unsafe extern "C" fn drop_ctx(data: *mut c_void) {
    ffi::guard(
        "request cleanup",
        || (),
        || {
            // SAFETY: written by `create`; the pool runs its cleanups once.
            unsafe { ptr::drop_in_place(data.cast::<Ctx>()) };
        },
    );
}
