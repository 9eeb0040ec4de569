//! What first-party requests are proxied with: for each resource the settings of nginx's proxy module
//! that take their place in the location the request came to.
//!
//! The location stays the operator's, so that his access rules, headers, filters and logs apply;
//! only where its content comes from is ours (first-party.md § 2).

use std::ffi::c_void;
use std::rc::Rc;

use nginx_sys::{
    ngx_conf_t, ngx_http_core_loc_conf_t, ngx_http_handler_pt, ngx_int_t, ngx_shm_zone_t,
};
use px_core::base_url::BaseUrl;
use px_core::first_party::Resource;

use crate::conf::{self, Enforcement, MainConf, TlsSettings};
use crate::ffi::{self, ERROR, OK};
use crate::first_party::URL_VARIABLE;
use crate::log::{self, EMERG};
use crate::synthetic_location::{self, tls_text};
use crate::upstream::Slot;

/// Settings for one resource of one backend.
pub(crate) struct FirstPartyLocation {
    /// The directives it was made of: those of equal text are one.
    text: String,
    /// Configurations by the numbers of their modules.
    pub(crate) overrides: Vec<(usize, *mut c_void)>,
    /// The proxy module's content handler.
    pub(crate) handler: ngx_http_handler_pt,
    /// The injected upstream block; lives as long as the configuration.
    pub(crate) slot: *const Slot,
    /// `scheme://block`, what takes the place of scheme and authority of the backend's URLs.
    pub(crate) base: String,
}

/// The settings of one application.
pub(crate) struct FirstPartyLocations {
    pub(crate) sensor: Rc<FirstPartyLocation>,
    pub(crate) captcha: Rc<FirstPartyLocation>,
    /// For bodies that are in memory whole before the collector is asked, so that it may be asked
    /// again where an idle connection turns out to be closed.
    pub(crate) xhr: Rc<FirstPartyLocation>,
    /// For bodies that are passed on as they come.
    pub(crate) xhr_streamed: Rc<FirstPartyLocation>,
}

/// Bodies up to this size are read before the collector is asked; larger ones stream.
pub(crate) const WHOLE_BODY: i64 = 64 * 1024;

impl FirstPartyLocations {
    /// The settings for a request of `resource` whose body has this length, -1 if that is unknown.
    pub(crate) fn of(
        &self,
        resource: Resource,
        content_length: i64,
        is_chunked: bool,
    ) -> &FirstPartyLocation {
        match resource {
            Resource::Sensor => &self.sensor,
            Resource::Captcha => &self.captcha,
            Resource::Xhr if is_chunked || content_length > WHOLE_BODY => &self.xhr_streamed,
            Resource::Xhr => &self.xhr,
        }
    }
}

/// A cache that the operator wants the sensor to be kept in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheSetting {
    /// `keys_zone` of a `proxy_cache_path`.
    pub(crate) zone: String,
    /// Seconds for answers that say nothing of their lifetime.
    pub(crate) valid: u64,
}

/// Makes the settings for all compiled configurations. Part of `postconfiguration`.
///
/// # Safety
///
/// `cf` must be at the end of the `http` block, after merging.
pub(crate) unsafe fn create_all(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: the caller vouches for `cf`.
    let main = unsafe { &*conf::main_conf(cf) };
    let mut made = Vec::new();
    for enforcement in &main.enforcements {
        let Some(backends) = &enforcement.first_party_backends else { continue };
        if let Some((cache, place)) = &enforcement.first_party_cache
            // SAFETY: `cf` is live.
            && !unsafe { is_proxy_cache(cf, &cache.zone) }
        {
            let text = format!(
                "px: \"px_first_party_cache\" names the zone \"{}\", which no \"proxy_cache_path\" \
                 defines, {place}",
                cache.zone
            );
            // SAFETY: as above.
            unsafe { log::conf_line(cf, EMERG, &text) };
            return ERROR;
        }
        let mut of = |url, cache: &str, is_streamed| {
            // SAFETY: as the caller's.
            unsafe { location(cf, main, enforcement, &mut made, url, cache, is_streamed) }
        };
        let cache = enforcement.first_party_cache.as_ref();
        let cache = cache.map(|(setting, _)| cache_text(setting, enforcement)).unwrap_or_default();
        let locations = (|| {
            Some(FirstPartyLocations {
                sensor: of(&backends.client, &cache, false)?,
                captcha: of(&backends.captcha, "", false)?,
                xhr: of(&backends.collector, "", false)?,
                xhr_streamed: of(&backends.collector, "", true)?,
            })
        })();
        let Some(locations) = locations else { return ERROR };
        let _ = enforcement.first_party.set(locations);
    }
    OK
}

/// # Safety
///
/// As [`create_all`].
unsafe fn location(
    cf: *mut ngx_conf_t,
    main: &MainConf,
    enforcement: &Enforcement,
    made: &mut Vec<Rc<FirstPartyLocation>>,
    url: &BaseUrl,
    cache: &str,
    is_streamed: bool,
) -> Option<Rc<FirstPartyLocation>> {
    let Some(slot) = main.upstreams.take(url, &enforcement.tls) else {
        // The blocks were counted from the same directives; this would be a bug of ours.
        // SAFETY: `cf` is live.
        unsafe { log::conf_line(cf, EMERG, &format!("px: no upstream block for \"{url}\"")) };
        return None;
    };
    let scheme = if url.tls { "https" } else { "http" };
    let base = format!("{scheme}://{}", slot.name());
    let timeout = enforcement.policy().options().first_party.timeout_ms;
    let text = text(url, &enforcement.tls, timeout, cache, is_streamed);
    let is_same = |known: &&Rc<FirstPartyLocation>| known.text == text && known.base == base;
    if let Some(known) = made.iter().find(is_same) {
        return Some(Rc::clone(known));
    }
    // SAFETY: `cf` is live and in the http context.
    let loc_conf = unsafe { synthetic_location::create(cf, &text) }.ok()?;
    let core = &raw const nginx_sys::ngx_http_core_module;
    // SAFETY: every location has the core module's configuration.
    let clcf = unsafe { ffi::module_entry::<ngx_http_core_loc_conf_t>(loc_conf, core) };
    let location = Rc::new(FirstPartyLocation {
        text,
        // SAFETY: just made.
        overrides: unsafe { synthetic_location::of_proxying(cf, loc_conf) },
        // SAFETY: as above.
        handler: unsafe { (*clcf).handler },
        slot,
        base,
    });
    made.push(Rc::clone(&location));
    Some(location)
}

/// The directives. Host names and file names were refused if they hold a character that means
/// something here; everything else is ours.
///
/// The answer's headers command nothing: `X-Accel-Redirect` would show the visitor a page of the
/// site's. A request is repeated only where an idle connection was closed.
fn text(url: &BaseUrl, tls: &TlsSettings, timeout: u64, cache: &str, is_streamed: bool) -> String {
    let mut text = format!(
        "proxy_pass ${URL_VARIABLE};\n\
         proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\n\
         proxy_set_header Host {};\n\
         proxy_connect_timeout {timeout}ms; proxy_send_timeout {timeout}ms;\n\
         proxy_read_timeout {timeout}ms;\n\
         proxy_next_upstream error non_idempotent;\n\
         proxy_request_buffering {};\n\
         proxy_buffering on; proxy_buffer_size 32k; proxy_buffers 8 16k;\n\
         proxy_busy_buffers_size 48k; proxy_max_temp_file_size 0;\n\
         proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering\n\
             X-Accel-Charset;\n\
         proxy_pass_request_headers on; proxy_pass_request_body on;\n\
         proxy_redirect off; proxy_intercept_errors off;\n\
         {cache}",
        url.authority(),
        if is_streamed { "off" } else { "on" },
    );
    if url.tls {
        text.push_str(&tls_text(&url.host, tls));
    }
    text.push('}');
    text
}

/// The sensor in the operator's cache, under its own URL. It is fetched uncompressed, because one
/// copy serves all browsers; nginx's `gzip` compresses it for those that can.
fn cache_text(setting: &CacheSetting, enforcement: &Enforcement) -> String {
    format!(
        "proxy_cache {}; proxy_cache_key \"{}\"; proxy_cache_valid 200 {}s; proxy_cache_lock on;\n\
         proxy_cache_lock_timeout 1s; proxy_set_header Accept-Encoding \"\";\n\
         proxy_cache_use_stale error timeout invalid_header http_500 http_502 http_503 http_504;\n",
        setting.zone,
        enforcement.policy().sensor_script_url(),
        setting.valid,
    )
}

/// Whether a `proxy_cache_path` defines the zone.
///
/// # Safety
///
/// `cf` must be at the end of the `http` block.
unsafe fn is_proxy_cache(cf: *mut ngx_conf_t, name: &str) -> bool {
    // SAFETY: as the caller's.
    let proxy = unsafe { synthetic_location::proxy_module(cf) };
    // SAFETY: the cycle being configured is live.
    let list = unsafe { &(*(*cf).cycle).shared_memory };
    let mut part = &raw const list.part;
    // SAFETY: a list's parts end with a null pointer.
    while let Some(p) = unsafe { part.as_ref() } {
        for index in 0..p.nelts {
            // SAFETY: a part holds `nelts` zones.
            let zone = unsafe { &*p.elts.cast::<ngx_shm_zone_t>().add(index) };
            // SAFETY: zone names live in the cycle's pool.
            let is_named = unsafe { ffi::bytes(zone.shm.name) } == name.as_bytes();
            if is_named && std::ptr::eq(zone.tag.cast(), proxy) && !zone.data.is_null() {
                return true;
            }
        }
        part = p.next;
    }
    false
}
