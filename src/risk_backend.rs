//! `px_risk_backend`: a Risk API chosen request by request, such as one for each region.
//!
//! The URL is an expression's, so nginx itself must be able to reach it without asking a resolver: the
//! name of an `upstream` block, an address, or any name where the operator has set `resolver`.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use nginx_sys::{
    NGX_HTTP_VAR_NOCACHEABLE, ngx_conf_t, ngx_http_add_variable, ngx_http_request_t,
    ngx_http_variable_value_t, ngx_int_t, ngx_uint_t,
};
use px_core::base_url::BaseUrl;

use crate::clock;
use crate::complex_value::ComplexValue;
use crate::conf::MainConf;
use crate::ctx::Ctx;
use crate::ffi::{self, ERROR, OK};
use crate::log::{self, ERR};

/// The variables that the location of such calls is written with; nobody else sees a value in them.
pub(crate) const URL_VARIABLE: &str = "px_internal_risk_url";
pub(crate) const HOST_VARIABLE: &str = "px_internal_risk_host";

/// The backend of one request.
pub(crate) struct Chosen {
    pub(crate) base: BaseUrl,
    /// Of the Risk API itself.
    url: String,
    /// By which its circuit breaker is found; never 0.
    pub(crate) breaker: u64,
}

/// The backend that the operator's expression names, or `None`: it is empty, or no URL, which is
/// logged. Then the call goes where it goes without the expression.
///
/// # Safety
///
/// `r` must be a live main request under the configuration the value belongs to.
pub(crate) unsafe fn choose(r: *mut ngx_http_request_t, value: ComplexValue) -> Option<Chosen> {
    // SAFETY: as the caller's.
    let text = unsafe { value.evaluate(r) };
    if text.is_empty() {
        return None;
    }
    match BaseUrl::parse(text) {
        Ok(url) => Some(Chosen {
            url: format!("{url}/api/v3/risk"),
            breaker: BuildHasherDefault::<DefaultHasher>::new().hash_one(&url).max(1),
            base: url,
        }),
        Err(reason) => {
            // SAFETY: live request.
            let main = unsafe { MainConf::of_request(r) };
            let limit = main.shared.get().map(|shared| &shared.risk_log);
            if limit.is_some_and(|limit| limit.admit(clock::steady_ms()).is_some()) {
                let text = format!(
                    "px: \"px_risk_backend\" gives \"{}\": {reason}; \"px_backend_url\" is asked",
                    log::one_line(text, 200)
                );
                // SAFETY: live request.
                unsafe { log::request_line(r, ERR, &text) };
            }
            None
        }
    }
}

/// Registers the two variables. Part of `preconfiguration`.
///
/// # Safety
///
/// `cf` must be the configuration state nginx passed to the calling callback.
pub(crate) unsafe fn register(cf: *mut ngx_conf_t) -> ngx_int_t {
    for (index, name) in [URL_VARIABLE, HOST_VARIABLE].into_iter().enumerate() {
        let mut name = ffi::str_of(name);
        let flags = NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;
        // SAFETY: `cf` is live, the name static.
        let added = unsafe { ngx_http_add_variable(cf, &raw mut name, flags) };
        // SAFETY: null or the variable just added.
        let Some(added) = (unsafe { added.as_mut() }) else { return ERROR };
        added.get_handler = Some(get);
        added.data = index;
    }
    OK
}

unsafe extern "C" fn get(
    r: *mut ngx_http_request_t,
    v: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    let found = ffi::guard(
        "a variable of px_risk_backend",
        || None,
        || {
            // SAFETY: nginx passes a live request.
            let ctx = unsafe { Ctx::find(r) };
            // SAFETY: null or the context of the live main request; nothing here changes it.
            let chosen = unsafe { ctx.as_ref() }?.risk_backend.as_ref()?;
            let text = if data == 0 { &chosen.url } else { &chosen.base.host };
            // SAFETY: live request.
            let pool = unsafe { (*r).pool };
            // SAFETY: live pool.
            unsafe { ffi::copy_to_pool(pool, text.as_bytes()) }
        },
    );
    // SAFETY: nginx passes the value to fill.
    unsafe { ffi::set_variable(v, found) };
    OK
}
