//! The location that Risk API subrequests run in: made by the module, written by no operator.
//!
//! It is a private `loc_conf` array, reachable by no URI and by no `rewrite`, that runs nginx's
//! stock proxy module with every directive that matters pinned.

use std::ffi::c_void;
use std::rc::Rc;
use std::{mem, ptr};

use nginx_sys::{
    NGX_HTTP_LOC_CONF, NGX_HTTP_MODULE, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t,
    ngx_http_max_module, ngx_http_module_t, ngx_http_upstream_conf_t, ngx_int_t, ngx_module_t,
    ngx_uint_t,
};
use px_core::base_url::BaseUrl;

use crate::builtin_conf;
use crate::conf::{self, TlsSettings};
use crate::ffi::{self, ERROR, OK};
use crate::log::{self, EMERG};
use crate::risk_backend::{HOST_VARIABLE, URL_VARIABLE};
use crate::upstream::Slot;

/// One synthetic location.
pub(crate) struct RiskLocation {
    /// The array a subrequest's `loc_conf` is set to.
    pub(crate) loc_conf: *mut *mut c_void,
    /// The injected upstream block its calls go through; null where the backend is chosen request by
    /// request.
    pub(crate) slot: *const Slot,
    /// [`Slot::id`] of the backend, by which its circuit breaker is found; 0 as above.
    pub(crate) breaker: u64,
    /// Path of the Risk API.
    pub(crate) uri: String,
}

/// Makes the locations for all compiled configurations. Part of `postconfiguration`.
///
/// # Safety
///
/// `cf` must be at the end of the `http` block, after merging.
pub(crate) unsafe fn create_all(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: the caller vouches for `cf`.
    let main = unsafe { &*conf::main_conf(cf) };
    let mut made: Vec<(&BaseUrl, &TlsSettings, Rc<RiskLocation>)> = Vec::new();
    for enforcement in &main.enforcements {
        if enforcement.risk_backend.is_some() {
            // SAFETY: `cf` is live and in the http context.
            let Ok(loc_conf) = (unsafe { create(cf, &chosen_text(&enforcement.tls)) }) else {
                return ERROR;
            };
            let uri = "/api/v3/risk".to_owned();
            let location = RiskLocation { loc_conf, slot: ptr::null(), breaker: 0, uri };
            let _ = enforcement.chosen_risk_location.set(Rc::new(location));
        }
        let (url, tls) = (&enforcement.backend_url, &enforcement.tls);
        if let Some((_, _, location)) = made.iter().find(|(u, t, _)| (*u, *t) == (url, tls)) {
            let _ = enforcement.risk_location.set(Rc::clone(location));
            continue;
        }
        let Some(slot) = main.upstreams.take(url, tls) else {
            // The blocks were counted from the same directives; this would be a bug of ours.
            // SAFETY: `cf` is live.
            unsafe { log::conf_line(cf, EMERG, &format!("px: no upstream block for \"{url}\"")) };
            return ERROR;
        };
        // SAFETY: `cf` is live and in the http context.
        let Ok(loc_conf) = (unsafe { create(cf, &text(slot.name(), url, tls)) }) else {
            return ERROR;
        };
        let uri = format!("{}/api/v3/risk", url.path);
        let location = Rc::new(RiskLocation { loc_conf, slot, breaker: slot.id(), uri });
        let _ = enforcement.risk_location.set(Rc::clone(&location));
        made.push((url, tls, location));
    }
    OK
}

/// The directives of the location. Nothing in it comes from an operator unchecked: host names and
/// file names were refused if they hold a character that means something here.
///
/// Without buffering, because nginx lets a background subrequest write only into free buffers: an
/// answer larger than those would stand still. With headers ignored, because the Risk API commands
/// nothing here: `X-Accel-Redirect` would send the call on to the site itself.
fn text(upstream: &str, url: &BaseUrl, tls: &TlsSettings) -> String {
    let scheme = if url.tls { "https" } else { "http" };
    let mut text = common_text(&format!("{scheme}://{upstream}"), &url.authority());
    if url.tls {
        text.push_str(&tls_text(&url.host, tls));
    }
    text.push('}');
    text
}

/// As [`text`], for a backend that is chosen request by request.
fn chosen_text(tls: &TlsSettings) -> String {
    let mut text = common_text(&format!("${URL_VARIABLE}"), "$proxy_host");
    text.push_str(&tls_text(&format!("${HOST_VARIABLE}"), tls));
    text.push('}');
    text
}

fn common_text(url: &str, authority: &str) -> String {
    format!(
        "proxy_pass {url};\n\
         proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\n\
         proxy_set_header Host {authority};\n\
         proxy_connect_timeout 120s; proxy_send_timeout 120s; proxy_read_timeout 120s;\n\
         proxy_next_upstream error non_idempotent;\n\
         proxy_buffering off; proxy_buffer_size 8k; proxy_buffers 4 8k; proxy_busy_buffers_size 16k;\n\
         proxy_max_temp_file_size 0;\n\
         proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering\n\
             X-Accel-Charset Expires Cache-Control Set-Cookie Vary;\n\
         proxy_pass_request_headers on; proxy_pass_request_body on; proxy_request_buffering on;\n\
         proxy_redirect off; proxy_intercept_errors off; proxy_ignore_client_abort on;\n\
         gzip off; access_log off; log_subrequest off; log_not_found off;\n",
    )
}

fn tls_text(host: &str, tls: &TlsSettings) -> String {
    let mut text = format!(
        "proxy_ssl_server_name on; proxy_ssl_name {host}; proxy_ssl_session_reuse off;\n\
         proxy_ssl_protocols TLSv1.2 TLSv1.3;\n"
    );
    if let (true, Some(file)) = (tls.verify, &tls.trusted_certificate) {
        text.push_str(&format!(
            "proxy_ssl_verify on; proxy_ssl_verify_depth {depth};\n\
             proxy_ssl_trusted_certificate \"{file}\";\n",
            depth = tls.depth,
        ));
    }
    text
}

/// # Safety
///
/// `cf` must be at the end of the `http` block, in its context.
unsafe fn create(cf: *mut ngx_conf_t, text: &str) -> Result<*mut *mut c_void, ()> {
    // SAFETY: the configuration pool is live.
    let pool = unsafe { (*cf).pool };
    // SAFETY: in the http context.
    let http = unsafe { &*(*cf).ctx.cast::<ngx_http_conf_ctx_t>() };
    // SAFETY: nginx counted its http modules before it created configurations.
    let modules = unsafe { ngx_http_max_module };
    // SAFETY: live pool.
    let loc_conf = unsafe { ffi::array_in_pool::<*mut c_void>(pool, modules) };
    if loc_conf.is_null() {
        return Err(());
    }
    // SAFETY: room for `modules` pointers, just allocated.
    unsafe { ptr::write_bytes(loc_conf, 0, modules) };

    // SAFETY: the cycle's module list is complete while configuration is read.
    let http_modules = unsafe { http_modules(cf) };
    for module in &http_modules {
        if let Some(create) = module.callbacks.create_loc_conf {
            // SAFETY: as nginx does for every location.
            let conf = unsafe { create(cf) };
            if conf.is_null() {
                return Err(());
            }
            // SAFETY: one slot per module.
            unsafe { *loc_conf.add(module.index) = conf };
        }
    }
    let core = &raw const nginx_sys::ngx_http_core_module;
    // SAFETY: created above.
    let clcf = unsafe { ffi::module_entry::<ngx_http_core_loc_conf_t>(loc_conf, core) };
    // SAFETY: as above.
    let clcf = unsafe { &mut *clcf };
    clcf.loc_conf = loc_conf;
    clcf.name = ffi::str_of("/");

    let mut ctx =
        ngx_http_conf_ctx_t { main_conf: http.main_conf, srv_conf: http.srv_conf, loc_conf };
    // SAFETY: `cf` is live; its two fields are put back below.
    let state = unsafe { &mut *cf };
    let outer_ctx = mem::replace(&mut state.ctx, (&raw mut ctx).cast());
    let outer_type = mem::replace(&mut state.cmd_type, NGX_HTTP_LOC_CONF as ngx_uint_t);
    // SAFETY: the context is that of a location.
    let parsed = unsafe { builtin_conf::parse(cf, text) };
    // SAFETY: `cf` is live.
    let state = unsafe { &mut *cf };
    state.ctx = outer_ctx;
    state.cmd_type = outer_type;
    parsed?;

    // SAFETY: our module is numbered.
    let own = unsafe { crate::ngx_http_px_module.ctx_index };
    for module in &http_modules {
        let Some(merge) = module.callbacks.merge_loc_conf else { continue };
        if module.index == own {
            // Not enforced: a fresh configuration of ours says nothing, and stays so.
            continue;
        }
        // SAFETY: one slot per module.
        let mut outer = unsafe { *http.loc_conf.add(module.index) };
        if module.is_proxy {
            // Whatever the operator sets for all proxying at http level is not meant for us.
            // SAFETY: the proxy module made both.
            outer = unsafe { pristine(cf, module, outer) }?;
        }
        // SAFETY: one slot per module.
        let inner = unsafe { *loc_conf.add(module.index) };
        // SAFETY: as nginx does for every location.
        if !unsafe { merge(cf, outer, inner) }.is_null() {
            return Err(());
        }
    }
    Ok(loc_conf)
}

/// A proxy configuration with nothing set but the operator's temporary path, which a location
/// without one would have to create.
///
/// # Safety
///
/// `module` must be the proxy module and `outer` its configuration of the `http` level.
unsafe fn pristine(
    cf: *mut ngx_conf_t,
    module: &HttpModule<'_>,
    outer: *mut c_void,
) -> Result<*mut c_void, ()> {
    let create = module.callbacks.create_loc_conf.ok_or(())?;
    // SAFETY: as nginx does for every location.
    let fresh = unsafe { create(cf) };
    if fresh.is_null() {
        return Err(());
    }
    // The upstream configuration is the first member of the proxy module's, in every version.
    // SAFETY: the caller vouches for `outer`.
    let path = unsafe { (*outer.cast::<ngx_http_upstream_conf_t>()).temp_path };
    // SAFETY: just created by the proxy module.
    unsafe { (*fresh.cast::<ngx_http_upstream_conf_t>()).temp_path = path };
    Ok(fresh)
}

struct HttpModule<'a> {
    index: usize,
    callbacks: &'a ngx_http_module_t,
    is_proxy: bool,
}

/// # Safety
///
/// `cf` must be live; the result must not outlive configuration.
unsafe fn http_modules<'a>(cf: *mut ngx_conf_t) -> Vec<HttpModule<'a>> {
    let mut found = Vec::new();
    // SAFETY: the cycle being configured is live.
    let mut next = unsafe { (*(*cf).cycle).modules };
    loop {
        // SAFETY: the list ends with a null pointer.
        let module: *mut ngx_module_t = unsafe { *next };
        // SAFETY: null or a module.
        let Some(module) = (unsafe { module.as_ref() }) else { return found };
        if module.type_ == NGX_HTTP_MODULE as ngx_uint_t {
            // SAFETY: an http module's context is its callback table.
            let callbacks = unsafe { &*module.ctx.cast::<ngx_http_module_t>() };
            // SAFETY: module names are C strings.
            let name = unsafe { std::ffi::CStr::from_ptr(module.name) };
            found.push(HttpModule {
                index: module.ctx_index,
                callbacks,
                is_proxy: name == c"ngx_http_proxy_module",
            });
        }
        // SAFETY: not yet at the terminator.
        next = unsafe { next.add(1) };
    }
}
