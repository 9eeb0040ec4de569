//! `px_status`: a location that answers with the counters of all workers.
//!
//! A content handler, so that the access phase has asked `allow`, `deny` and passwords before. Who
//! asks for the status is no visitor: `conf` never enforces such a location.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use nginx_sys::{
    NGX_HTTP_BAD_REQUEST, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_INTERNAL_SERVER_ERROR,
    NGX_HTTP_NOT_ALLOWED, ngx_conf_t, ngx_http_arg, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t,
    ngx_http_discard_request_body, ngx_http_request_t, ngx_int_t, ngx_str_t, ngx_uint_t,
};
use px_core::enforce::Answer;
use px_core::metrics::{Activities, Format, NodeRequests, Since, Snapshot};

use crate::conf::{self, MainConf};
use crate::ffi::{self, OK, str_of};
use crate::shared_zone::Shared;
use crate::token_cache::{self, TokenCache};
use crate::{abi_guard, clock, respond};

const BAD_REQUEST: ngx_int_t = NGX_HTTP_BAD_REQUEST as ngx_int_t;
const NOT_ALLOWED: ngx_int_t = NGX_HTTP_NOT_ALLOWED as ngx_int_t;
const INTERNAL_SERVER_ERROR: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// Makes the location that is being read answer with the counters.
///
/// # Safety
///
/// `cf` must be live and inside a location.
pub(crate) unsafe fn answer_here(cf: *mut ngx_conf_t) {
    // SAFETY: inside a location, `ctx` is its context.
    let ctx = unsafe { (*cf).ctx }.cast::<ngx_http_conf_ctx_t>();
    // SAFETY: as above.
    let confs = unsafe { (*ctx).loc_conf };
    let core = &raw const nginx_sys::ngx_http_core_module;
    // SAFETY: the core module's configuration of the location exists.
    let clcf = unsafe { ffi::module_entry::<ngx_http_core_loc_conf_t>(confs, core) };
    // SAFETY: as above.
    unsafe { (*clcf).handler = Some(handler) };
}

unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    ffi::guard(
        "the status page",
        || INTERNAL_SERVER_ERROR,
        || {
            // SAFETY: nginx passes a live request in its content phase.
            match unsafe { answer(r) } {
                Ok(rc) | Err(rc) => rc,
            }
        },
    )
}

/// # Safety
///
/// `r` must be a live request in its content phase.
unsafe fn answer(r: *mut ngx_http_request_t) -> Result<ngx_int_t, ngx_int_t> {
    // SAFETY: live request.
    if unsafe { (*r).method } & (NGX_HTTP_GET | NGX_HTTP_HEAD) as ngx_uint_t == 0 {
        // SAFETY: live request.
        let headers = unsafe { &raw mut (*r).headers_out.headers };
        // SAFETY: the answer's header list and static strings.
        let _ = unsafe { ffi::push_header(headers, str_of("Allow"), str_of(""), str_of(METHODS)) };
        return Err(NOT_ALLOWED);
    }
    // SAFETY: live request.
    let rc = unsafe { ngx_http_discard_request_body(r) };
    if rc != OK {
        return Err(rc);
    }
    // SAFETY: live request.
    let format = unsafe { format(r) }?;
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    let answer = Answer {
        status: 200,
        content_type: format.content_type(),
        headers: vec![("Cache-Control".into(), "no-store".to_owned())],
        body: snapshot(main).write(format).into_bytes(),
    };
    // SAFETY: live request that has not been answered.
    Ok(unsafe { respond::send_answer(r, &answer) })
}

const METHODS: &str = "GET, HEAD";

/// What `?format=` says, or else the directive.
///
/// # Safety
///
/// `r` must be a live request.
unsafe fn format(r: *mut ngx_http_request_t) -> Result<Format, ngx_int_t> {
    let mut name = *b"format";
    let mut value = ngx_str_t { len: 0, data: std::ptr::null_mut() };
    // SAFETY: live request, a name of that length, and room for the value.
    let rc = unsafe { ngx_http_arg(r, name.as_mut_ptr(), name.len(), &raw mut value) };
    if rc == OK {
        // SAFETY: a part of the request line, which lives as long as the request.
        let value = unsafe { ffi::bytes(value) };
        return std::str::from_utf8(value).ok().and_then(Format::parse).ok_or(BAD_REQUEST);
    }
    // SAFETY: live request.
    let location = unsafe { conf::of_location(r) };
    Ok(location.and_then(|location| location.status).unwrap_or(Format::Json))
}

/// Everything that is counted, and what is known only by looking.
fn snapshot(main: &MainConf) -> Snapshot<'_> {
    let snapshot = Snapshot {
        version: env!("CARGO_PKG_VERSION"),
        nginx: abi_guard::built_for(),
        ..Snapshot::default()
    };
    let Some(shared) = main.shared.get() else { return snapshot };
    Snapshot {
        since: Some(Since {
            started: shared.started.load(Ordering::Relaxed),
            reloads: shared.configurations.load(Ordering::Relaxed).saturating_sub(1),
        }),
        apps: shared.apps.all().map(|(id, app)| (id.into(), app)).collect(),
        backends: backends(main, shared),
        token_caches: token_caches(main),
        activities: Some(activities(shared)),
        node: (!main.nodes.is_empty())
            .then(|| NodeRequests { counters: &shared.node, inflight: shared.copies() }),
        documents: main.with_worker(|worker| worker.background.documents(main)).unwrap_or_default(),
        ..snapshot
    }
}

fn backends(main: &MainConf, shared: &Shared) -> Vec<(String, px_core::breaker::State)> {
    let mut seen: Vec<u64> = Vec::new();
    let mut found = Vec::new();
    for enforcement in &main.enforcements {
        let Some(location) = enforcement.risk_location.get() else { continue };
        if seen.contains(&location.breaker) {
            continue;
        }
        seen.push(location.breaker);
        let Some(breaker) = shared.breaker(location.breaker) else { continue };
        let url = &enforcement.backend_url;
        let scheme = if url.tls { "https" } else { "http" };
        let backend = format!("{scheme}://{}", url.authority());
        found.push((backend, breaker.state(clock::steady_ms())));
    }
    found
}

fn token_caches(main: &MainConf) -> Vec<px_core::metrics::TokenCache<'_>> {
    let mut seen: Vec<&Rc<TokenCache>> = Vec::new();
    let mut found = Vec::new();
    for enforcement in &main.enforcements {
        let token_cache::Setting::Zone { name, .. } = &enforcement.token_cache_setting else {
            continue;
        };
        let Some(cache) = enforcement.token_cache.get() else { continue };
        if !seen.iter().any(|known| Rc::ptr_eq(known, cache)) {
            seen.push(cache);
            found.extend(cache.snapshot(name));
        }
    }
    found
}

fn activities(shared: &Shared) -> Activities {
    Activities {
        offered: shared.activities_offered.load(Ordering::Relaxed),
        sent: shared.activities_sent.load(Ordering::Relaxed),
        lost: shared.activities_lost.load(Ordering::Relaxed),
        spooled: shared.activities_spooled.load(Ordering::Relaxed),
        delivered_from_spool: shared.activities_unspooled.load(Ordering::Relaxed),
        queued: shared.queued(),
    }
}
