//! `ngx_http_px_module`: an enforcer for HUMAN (formerly PerimeterX) Bot Defender inside nginx.
//!
//! This crate is the shell: directives, phases, subrequest, filters, variables, sender thread, and
//! every `unsafe` of the project. What to decide and what to say is `px-core`'s.
//!
//! One request, in order: where its body may hold something, `request_body` has it read; `access` asks `px_core::enforce::begin`; if the Risk API decides, `risk_api`
//! asks it in the location that `risk_location` made, through the upstream block that `upstream`
//! injected; `access` acts on the verdict (`respond`, `origin`); `filters` sets `_pxhd`; `activities`
//! reports, through `sender`, whose `poster` talks to the collector while `spool` keeps what cannot
//! be delivered. What all of them count, `status` shows.

mod abi_guard;
mod access;
mod activities;
mod advice;
mod app_places;
mod backend;
mod background;
mod block;
mod builtin_conf;
mod clock;
mod complex_value;
mod conf;
mod csp;
mod ctx;
mod directives;
mod documents;
mod fetcher;
mod ffi;
mod filters;
mod first_party;
mod first_party_location;
mod hooks;
mod log;
mod login;
#[cfg(feature = "module-table")]
mod module_table;
mod named_location;
mod node;
mod node_conf;
mod node_copy;
mod node_work;
mod origin;
mod page_request;
mod poster;
mod remote_call;
mod request;
mod request_body;
mod request_ids;
mod resolver;
mod respond;
mod risk_api;
mod risk_backend;
mod risk_location;
mod sender;
mod shared_zone;
mod side_request;
mod snippet;
mod spool;
mod status;
mod subrequest;
mod synthetic_location;
mod thread;
mod token_cache;
mod upstream;
mod values;
mod variables;
mod worker;
mod zone;

use std::slice;

use nginx_sys::{
    NGX_HTTP_MODULE, ngx_array_push, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_main_conf_t,
    ngx_http_handler_pt, ngx_http_module_t, ngx_http_phases, ngx_http_phases_NGX_HTTP_ACCESS_PHASE,
    ngx_http_phases_NGX_HTTP_LOG_PHASE, ngx_int_t, ngx_module_t, ngx_uint_t,
};

use crate::ffi::{ERROR, OK};

/// Reported to HUMAN as `module_version`.
pub(crate) const MODULE_VERSION: &str = concat!("NGINX Rust Module v", env!("CARGO_PKG_VERSION"));

/// Does one thing: injects upstream blocks before the upstream module initialises them.
static mut EARLY_MODULE_CTX: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: None,
    postconfiguration: None,
    create_main_conf: None,
    init_main_conf: Some(upstream::inject),
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: None,
    merge_loc_conf: None,
};

static mut MODULE_CTX: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(preconfiguration),
    postconfiguration: Some(postconfiguration),
    create_main_conf: Some(conf::create_main_conf),
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(conf::create_loc_conf),
    merge_loc_conf: Some(conf::merge_loc_conf),
};

/// Does what only somebody can who comes after all others, whenever they are loaded.
static mut LATE_MODULE_CTX: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: None,
    postconfiguration: Some(late_postconfiguration),
    create_main_conf: None,
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: None,
    merge_loc_conf: None,
};

/// Placed before `ngx_http_upstream_module`.
#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub static mut ngx_http_px_early_module: ngx_module_t = ngx_module_t {
    ctx: (&raw mut EARLY_MODULE_CTX).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    ..ngx_module_t::default()
};

/// Placed where third-party filters go.
#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub static mut ngx_http_px_module: ngx_module_t = ngx_module_t {
    ctx: (&raw mut MODULE_CTX).cast(),
    commands: (&raw mut directives::COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(shared_zone::init_module),
    init_process: Some(worker::init_process),
    exit_process: Some(worker::exit_process),
    ..ngx_module_t::default()
};

/// Placed at the end.
#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub static mut ngx_http_px_late_module: ngx_module_t = ngx_module_t {
    ctx: (&raw mut LATE_MODULE_CTX).cast(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    ..ngx_module_t::default()
};

unsafe extern "C" fn preconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    ffi::note_panics();
    ffi::guard(
        "preconfiguration",
        || ERROR,
        || {
            // SAFETY: nginx passes a live `cf` in the http context.
            if unsafe { abi_guard::check(cf) }.is_err() {
                return ERROR;
            }
            // SAFETY: as above.
            let rc = unsafe { risk_backend::register(cf) };
            // SAFETY: as above.
            let rc = if rc == OK { unsafe { first_party::register(cf) } } else { rc };
            // SAFETY: as above.
            if rc == OK { unsafe { variables::register(cf) } } else { rc }
        },
    )
}

unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    ffi::guard(
        "postconfiguration",
        || ERROR,
        || {
            // SAFETY: nginx passes a live `cf` in the http context.
            let main = unsafe { &mut *conf::main_conf(cf) };
            // Loaded but enforced nowhere: no filter, no handler, no zone, no thread.
            if main.is_idle() {
                return OK;
            }
            // SAFETY: as above.
            let Some(shared) = (unsafe { shared_zone::add(cf) }) else { return ERROR };
            main.shared = shared;
            if !main.tasks.is_empty() {
                // SAFETY: as above.
                let Some(documents) = (unsafe { documents::add(cf) }) else { return ERROR };
                main.documents = documents;
            }
            // SAFETY: as above.
            if unsafe { token_cache::create_all(cf, &main.enforcements) }.is_none() {
                return ERROR;
            }
            // SAFETY: as above.
            let rc = unsafe { risk_location::create_all(cf) };
            if rc != OK {
                return rc;
            }
            // SAFETY: as above.
            let rc = unsafe { first_party_location::create_all(cf) };
            if rc != OK {
                return rc;
            }
            // SAFETY: as above.
            let rc = unsafe { node_conf::create_all(cf, main) };
            if rc != OK {
                return rc;
            }
            // SAFETY: nginx has sorted the locations of all servers.
            if let Some(reason) = unsafe { named_location::missing(main) } {
                // SAFETY: `cf` is live.
                unsafe { log::conf_line(cf, log::EMERG, &format!("px: {reason}")) };
                return ERROR;
            }
            for line in main.advice.iter().filter(|line| line.is_idle) {
                let text = format!("px: \"{}\" {}, {}", line.name, line.text, line.place);
                // SAFETY: `cf` is live.
                unsafe { log::conf_line(cf, log::WARN, &text) };
            }
            filters::install();
            // SAFETY: as above.
            let access_end = unsafe {
                add_last_handler(
                    cf,
                    ngx_http_phases_NGX_HTTP_ACCESS_PHASE,
                    Some(first_party::at_the_end_of_access),
                )
            };
            // SAFETY: as above.
            let log = unsafe {
                add_handler(cf, ngx_http_phases_NGX_HTTP_LOG_PHASE, Some(activities::log_handler))
            };
            if access_end.and(log).is_some() { OK } else { ERROR }
        },
    )
}

/// nginx runs the handlers of a phase from the last to the first: with the last one the module
/// decides before Lua or whoever else may look at the request in this phase.
unsafe extern "C" fn late_postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    ffi::guard(
        "postconfiguration at the end",
        || ERROR,
        || {
            // SAFETY: nginx passes a live `cf` in the http context.
            if unsafe { (*conf::main_conf(cf)).is_idle() } {
                return OK;
            }
            filters::install_catching();
            // SAFETY: as above.
            let access = unsafe {
                add_handler(cf, ngx_http_phases_NGX_HTTP_ACCESS_PHASE, Some(access::handler))
            };
            if access.is_some() { OK } else { ERROR }
        },
    )
}

/// Adds a handler that nginx runs before those that are there: it goes through them from the end.
///
/// # Safety
///
/// `cf` must be at the end of the `http` block.
unsafe fn add_handler(
    cf: *mut ngx_conf_t,
    phase: ngx_http_phases,
    handler: ngx_http_handler_pt,
) -> Option<()> {
    // SAFETY: as the caller's.
    *unsafe { handlers_with_a_new_one(cf, phase) }?.last_mut()? = handler;
    Some(())
}

/// Adds a handler that nginx runs after all others.
///
/// # Safety
///
/// As [`add_handler`].
unsafe fn add_last_handler(
    cf: *mut ngx_conf_t,
    phase: ngx_http_phases,
    handler: ngx_http_handler_pt,
) -> Option<()> {
    // SAFETY: as the caller's.
    let handlers = unsafe { handlers_with_a_new_one(cf, phase) }?;
    handlers.rotate_right(1);
    *handlers.first_mut()? = handler;
    Some(())
}

/// The handlers of a phase with one more at their end, which is to be set.
///
/// # Safety
///
/// As [`add_handler`]; nothing else may refer to the handlers.
unsafe fn handlers_with_a_new_one<'c>(
    cf: *mut ngx_conf_t,
    phase: ngx_http_phases,
) -> Option<&'c mut [ngx_http_handler_pt]> {
    // SAFETY: in the http context.
    let ctx = unsafe { (*cf).ctx }.cast::<ngx_http_conf_ctx_t>();
    // SAFETY: as above.
    let confs = unsafe { (*ctx).main_conf };
    let core = &raw const nginx_sys::ngx_http_core_module;
    // SAFETY: the core module's main configuration always exists.
    let cmcf = unsafe { ffi::module_entry::<ngx_http_core_main_conf_t>(confs, core) };
    // SAFETY: as above.
    let cmcf = unsafe { &mut *cmcf };
    let phase = cmcf.phases.get_mut(phase as usize)?;
    // SAFETY: nginx initialised the phase's array.
    let slot = unsafe { ngx_array_push(&raw mut phase.handlers) }.cast::<ngx_http_handler_pt>();
    // SAFETY: null or room for one handler; `None` makes it a value.
    *unsafe { slot.as_mut() }? = None;
    let array = &phase.handlers;
    // SAFETY: the array has so many handlers, all of them set.
    Some(unsafe { slice::from_raw_parts_mut(array.elts.cast(), array.nelts) })
}
