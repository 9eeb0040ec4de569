//! The location that Risk API subrequests run in.

use std::ptr;
use std::rc::Rc;

use nginx_sys::{ngx_conf_t, ngx_int_t};
use px_core::base_url::BaseUrl;

use crate::conf::{self, TlsSettings};
use crate::ffi::{ERROR, OK};
use crate::log::{self, EMERG};
use crate::remote_call::Destination;
use crate::risk_backend::{HOST_VARIABLE, URL_VARIABLE};
use crate::synthetic_location::{create, service_text, tls_text};

/// Longest head of an answer.
const HEAD_KILOBYTES: u32 = 8;

/// One synthetic location.
pub(crate) struct RiskLocation {
    pub(crate) destination: Destination,
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
            let destination = Destination { loc_conf, slot: ptr::null() };
            let location = RiskLocation { destination, breaker: 0, uri };
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
        let destination = Destination { loc_conf, slot };
        let location = Rc::new(RiskLocation { destination, breaker: slot.id(), uri });
        let _ = enforcement.risk_location.set(Rc::clone(&location));
        made.push((url, tls, location));
    }
    OK
}

/// The directives of the location.
fn text(upstream: &str, url: &BaseUrl, tls: &TlsSettings) -> String {
    let scheme = if url.tls { "https" } else { "http" };
    let mut text =
        service_text(&format!("{scheme}://{upstream}"), &url.authority(), HEAD_KILOBYTES);
    if url.tls {
        text.push_str(&tls_text(&url.host, tls));
    }
    text.push('}');
    text
}

/// As [`text`], for a backend that is chosen request by request.
fn chosen_text(tls: &TlsSettings) -> String {
    let mut text = service_text(&format!("${URL_VARIABLE}"), "$proxy_host", HEAD_KILOBYTES);
    text.push_str(&tls_text(&format!("${HOST_VARIABLE}"), tls));
    text.push('}');
    text
}
