//! Going to a named location of the operator's, that answers in the module's place.
//!
//! nginx wipes the contexts of all modules on the way; the decision is found again and stays
//! (DECISIONS 19).

use nginx_sys::{
    ngx_http_core_loc_conf_t, ngx_http_core_srv_conf_t, ngx_http_finalize_request,
    ngx_http_named_location, ngx_http_request_t, ngx_str_t,
};

use crate::conf::MainConf;
use crate::ffi;

/// A name that some configuration of a server goes to; checked when all locations are known.
pub(crate) struct Wanted {
    pub(crate) server: *const ngx_http_core_srv_conf_t,
    pub(crate) name: String,
    pub(crate) directive: &'static str,
    /// File and line, for the message.
    pub(crate) place: String,
}

/// What is wrong with the names that configurations go to, if anything.
///
/// # Safety
///
/// Must be called in `postconfiguration`, when nginx has sorted the locations of all servers.
pub(crate) unsafe fn missing(main: &MainConf) -> Option<String> {
    let missing = main.named_locations.iter().find(|wanted| {
        // SAFETY: the servers of this configuration.
        !unsafe { exists(wanted.server, wanted.name.as_bytes()) }
    })?;
    Some(format!(
        "\"{}\" names \"@{}\", but the server has no such location, {}",
        missing.directive, missing.name, missing.place
    ))
}

/// # Safety
///
/// `server` must be null or a server of a configuration whose locations are sorted.
unsafe fn exists(server: *const ngx_http_core_srv_conf_t, name: &[u8]) -> bool {
    // SAFETY: the caller vouches for the server.
    let Some(server) = (unsafe { server.as_ref() }) else { return false };
    let mut next: *mut *mut ngx_http_core_loc_conf_t = server.named_locations;
    if next.is_null() {
        return false;
    }
    loop {
        // SAFETY: a list that ends with null.
        let location = unsafe { *next };
        // SAFETY: null or a location.
        let Some(location) = (unsafe { location.as_ref() }) else { return false };
        // SAFETY: names live as long as the configuration.
        let known = unsafe { ffi::bytes(location.name) };
        if known.strip_prefix(b"@") == Some(name) {
            return true;
        }
        // SAFETY: not yet at the terminator.
        next = unsafe { next.add(1) };
    }
}

/// Lets the named location answer; false, and nothing done, if the server has none of that name.
/// The request may be gone afterwards: return `NGX_DONE`.
///
/// # Safety
///
/// `r` must be a live main request that has not been answered, with nothing borrowed from it.
pub(crate) unsafe fn go(r: *mut ngx_http_request_t, name: &str) -> bool {
    // SAFETY: live request.
    let confs = unsafe { (*r).srv_conf };
    let core = &raw const nginx_sys::ngx_http_core_module;
    // SAFETY: the core module's server configuration always exists.
    let server = unsafe { ffi::module_entry::<ngx_http_core_srv_conf_t>(confs, core) };
    // SAFETY: a server of the running configuration.
    if !unsafe { exists(server, name.as_bytes()) } {
        return false;
    }
    // SAFETY: live request.
    let pool = unsafe { (*r).pool };
    // SAFETY: live pool.
    let Some(mut name) = (unsafe { ffi::copy_to_pool(pool, format!("@{name}").as_bytes()) }) else {
        return false;
    };
    let name: *mut ngx_str_t = &raw mut name;
    // SAFETY: live request; nginx runs the location's phases at once.
    unsafe { ngx_http_named_location(r, name) };
    // It has taken a reference for those phases; this is ours.
    // SAFETY: the reference keeps the request; it is not used afterwards.
    unsafe { ngx_http_finalize_request(r, ffi::DONE) };
    true
}
