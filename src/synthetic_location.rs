//! Locations of the module's own making: written by no operator, reached by no URI and no `rewrite`,
//! with every directive that matters pinned, for nginx's stock proxy module to run in.

use std::ffi::c_void;
use std::{mem, ptr};

use nginx_sys::{
    NGX_HTTP_LOC_CONF, NGX_HTTP_MODULE, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t,
    ngx_http_max_module, ngx_http_module_t, ngx_http_upstream_conf_t, ngx_module_t, ngx_uint_t,
};

use crate::builtin_conf;
use crate::conf::TlsSettings;
use crate::ffi;

/// Directives for calls over TLS, `host` being what the certificate must be for.
pub(crate) fn tls_text(host: &str, tls: &TlsSettings) -> String {
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

/// Directives for calls to a service. Nothing in them comes from an operator unchecked: host names and
/// file names were refused if they hold a character that means something here.
///
/// Without buffering, because nginx lets a background subrequest write only into free buffers: an
/// answer larger than those would stand still. With headers ignored, because no service commands
/// anything here: `X-Accel-Redirect` would send the call on to the site itself.
pub(crate) fn service_text(url: &str, authority: &str, head_kilobytes: u32) -> String {
    let (head, busy) = (head_kilobytes, 2 * head_kilobytes);
    format!(
        "proxy_pass {url};\n\
         proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\n\
         proxy_set_header Host {authority};\n\
         proxy_connect_timeout 120s; proxy_send_timeout 120s; proxy_read_timeout 120s;\n\
         proxy_next_upstream error non_idempotent;\n\
         proxy_buffering off; proxy_buffer_size {head}k; proxy_buffers 4 {head}k;\n\
         proxy_busy_buffers_size {busy}k;\n\
         proxy_max_temp_file_size 0;\n\
         proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering\n\
             X-Accel-Charset Expires Cache-Control Set-Cookie Vary;\n\
         proxy_pass_request_headers on; proxy_pass_request_body on; proxy_request_buffering on;\n\
         proxy_redirect off; proxy_intercept_errors off; proxy_ignore_client_abort on;\n\
         gzip off; access_log off; log_subrequest off; log_not_found off;\n",
    )
}

/// Makes a location of these directives; gives its array of configurations, one for each module.
///
/// # Safety
///
/// `cf` must be at the end of the `http` block, in its context.
pub(crate) unsafe fn create(cf: *mut ngx_conf_t, text: &str) -> Result<*mut *mut c_void, ()> {
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
        if module.role != Role::Other {
            // Whatever the operator sets for all locations at http level is not meant for us.
            // SAFETY: the module made both.
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

/// The configurations of a synthetic location that make the difference, by the numbers of their
/// modules: put in the place of an operator's, they make his location proxy where ours does.
///
/// # Safety
///
/// `cf` must be live, and `loc_conf` what [`create`] gave.
pub(crate) unsafe fn of_proxying(
    cf: *mut ngx_conf_t,
    loc_conf: *mut *mut c_void,
) -> Vec<(usize, *mut c_void)> {
    // SAFETY: the caller vouches for `cf`.
    let modules = unsafe { http_modules(cf) };
    let ours = modules.iter().filter(|module| module.role != Role::Other);
    // SAFETY: one slot per module.
    ours.map(|module| (module.index, unsafe { *loc_conf.add(module.index) })).collect()
}

/// A configuration with nothing set; in the proxy module's, but for the operator's temporary path,
/// which a location without one would have to create.
///
/// # Safety
///
/// `outer` must be the configuration of `module` for the `http` level.
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
    if module.role == Role::Proxy {
        // The upstream configuration is the first member of the proxy module's, in every version.
        // SAFETY: the caller vouches for `outer`.
        let path = unsafe { (*outer.cast::<ngx_http_upstream_conf_t>()).temp_path };
        // SAFETY: just created by the proxy module.
        unsafe { (*fresh.cast::<ngx_http_upstream_conf_t>()).temp_path = path };
    }
    Ok(fresh)
}

/// The address of nginx's proxy module, by which its shared memory is known; null without it.
///
/// # Safety
///
/// `cf` must be live.
pub(crate) unsafe fn proxy_module(cf: *mut ngx_conf_t) -> *const ngx_module_t {
    // SAFETY: as the caller's.
    let modules = unsafe { http_modules(cf) };
    let proxy = modules.iter().find(|module| module.role == Role::Proxy);
    proxy.map_or(ptr::null(), |module| module.address)
}

struct HttpModule<'a> {
    address: *const ngx_module_t,
    index: usize,
    callbacks: &'a ngx_http_module_t,
    role: Role,
}

/// What a module does with a request that is to be proxied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Proxy,
    /// It may take the request elsewhere before its content is made (`try_files`, `mirror`).
    BeforeContent,
    Other,
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
            let role = match name.to_bytes() {
                b"ngx_http_proxy_module" => Role::Proxy,
                b"ngx_http_try_files_module" | b"ngx_http_mirror_module" => Role::BeforeContent,
                _ => Role::Other,
            };
            found.push(HttpModule { address: module, index: module.ctx_index, callbacks, role });
        }
        // SAFETY: not yet at the terminator.
        next = unsafe { next.add(1) };
    }
}
