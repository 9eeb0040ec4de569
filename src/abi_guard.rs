//! Refuses to run inside an nginx whose structures differ from the ones this module was built for.
//!
//! nginx checks version and build options of a module, but patches change structures without
//! changing either: a distribution's security backport, or OpenResty's. What follows is a crash on
//! the first request. Here it is a failed `nginx -t` instead (DECISIONS 25, 26).

use std::ffi::{CStr, c_char};
use std::mem::offset_of;

use nginx_sys::{
    NGINX_VER, ngx_command_t, ngx_conf_t, ngx_connection_t, ngx_hash_key_t, ngx_http_conf_ctx_t,
    ngx_http_core_loc_conf_t, ngx_http_core_main_conf_t, ngx_http_core_srv_conf_t,
    ngx_http_header_t, ngx_http_headers_in, ngx_http_headers_in_t, ngx_http_request_body_t,
    ngx_http_request_t, ngx_http_upstream_conf_t, ngx_http_upstream_t, ngx_http_variable_t,
    ngx_module_t,
};

use crate::ffi;
use crate::log::{self, EMERG};

/// The nginx this module was built against, as `nginx -v` prints it.
pub(crate) fn built_for() -> &'static str {
    NGINX_VER.to_str().unwrap_or("nginx")
}

/// Offsets the running nginx tells of itself, beside ours.
struct Probe {
    what: String,
    ours: usize,
    theirs: usize,
}

/// Checks everything; the reason for a refusal is logged. Part of `preconfiguration`.
///
/// # Safety
///
/// `cf` must be the state nginx passes to `preconfiguration`.
pub(crate) unsafe fn check(cf: *mut ngx_conf_t) -> Result<(), ()> {
    let refuse = |text: &str| {
        // SAFETY: `cf` is live.
        unsafe { log::conf_line(cf, EMERG, text) };
        Err(())
    };
    if let Some(field) = misread_field() {
        return refuse(&format!(
            "px: the module was built with wrong bindings ({field}); this is a bug of its build"
        ));
    }
    let rebuild = "rebuild it against the sources of the running package (nginx -V)";
    let openresty = exports(c"ngx_is_privileged_agent");
    if openresty != built_for().starts_with("openresty/") {
        let host = if openresty { "OpenResty" } else { "plain nginx" };
        return refuse(&format!(
            "px: this module was built for {}, but this is {host}: {rebuild}",
            built_for()
        ));
    }
    let mut probes = Vec::new();
    // SAFETY: as the caller's.
    unsafe { probe_variables(cf, &mut probes) };
    // SAFETY: the core module's table is static.
    unsafe { probe_commands(&mut probes) };
    // SAFETY: the table of known headers is static.
    unsafe { probe_headers(&mut probes) };
    if let Some(Probe { what, ours, theirs }) = probes.iter().find(|p| p.ours != p.theirs) {
        let wrong = probes.iter().filter(|p| p.ours != p.theirs).count();
        return refuse(&format!(
            "px: this module was built for a different nginx layout ({what} at {ours}, nginx has \
             {theirs}; {wrong} of {} probes differ): {rebuild}",
            probes.len()
        ));
    }
    if probes.len() < 8 {
        return refuse(&format!("px: only {} layout probes were found: {rebuild}", probes.len()));
    }
    // SAFETY: as the caller's.
    if let Some((module, directive)) = unsafe { rival(cf) } {
        return refuse(&format!(
            "px: the module \"{module}\" defines \"{directive}\" too: load one of the two only"
        ));
    }
    Ok(())
}

#[repr(C)]
struct Field {
    name: *const c_char,
    offset: usize,
}

unsafe extern "C" {
    static px_fields: [Field; 0];
}

/// The first field that the bindings see elsewhere than C does.
fn misread_field() -> Option<String> {
    macro_rules! ours {
        ($($type:ident . $($field:ident),+;)*) => {
            [$($((
                concat!(stringify!($type), ".", stringify!($field)),
                offset_of!($type, $field)
            ),)+)*]
        };
    }
    let ours = ours! {
        ngx_http_request_t . connection, ctx, loc_conf, upstream, pool, headers_in, headers_out,
            request_body, method, args, unparsed_uri, request_line,
            err_status, main, post_subrequest, content_handler, access_code, variables, cleanup;
        ngx_http_request_body_t . bufs;
        ngx_http_upstream_t . peer;
        ngx_http_upstream_t . length;
        ngx_connection_t . log, addr_text;
        ngx_http_core_loc_conf_t . name, loc_conf, locations, handler;
        ngx_http_upstream_conf_t . temp_path;
    };
    let mut field = (&raw const px_fields).cast::<Field>();
    let mut compared = 0;
    loop {
        // SAFETY: the table ends with a null name.
        let entry = unsafe { &*field };
        if entry.name.is_null() {
            break;
        }
        // SAFETY: names are C strings.
        let name = unsafe { CStr::from_ptr(entry.name) }.to_str().unwrap_or_default();
        match ours.iter().find(|(own, _)| *own == name) {
            Some((_, offset)) if *offset == entry.offset => compared += 1,
            Some((_, offset)) => {
                return Some(format!("{name} at {offset}, C has {}", entry.offset));
            }
            None => return Some(format!("{name} is not compared")),
        }
        // SAFETY: not yet at the terminator.
        field = unsafe { field.add(1) };
    }
    (compared != ours.len()).then(|| "fields are missing in the shim's table".to_owned())
}

/// Variables of the core that stand for a field of the request carry its offset.
///
/// # Safety
///
/// `cf` must be the state nginx passes to `preconfiguration`.
unsafe fn probe_variables(cf: *mut ngx_conf_t, probes: &mut Vec<Probe>) {
    const HEADERS_IN: usize = offset_of!(ngx_http_request_t, headers_in);
    let ours = [
        ("http_host", HEADERS_IN + offset_of!(ngx_http_headers_in_t, host)),
        ("http_user_agent", HEADERS_IN + offset_of!(ngx_http_headers_in_t, user_agent)),
        ("uri", offset_of!(ngx_http_request_t, uri)),
        ("args", offset_of!(ngx_http_request_t, args)),
        ("request_uri", offset_of!(ngx_http_request_t, unparsed_uri)),
        ("server_protocol", offset_of!(ngx_http_request_t, http_protocol)),
    ];
    // SAFETY: in preconfiguration `ctx` is the http context.
    let ctx = unsafe { (*cf).ctx }.cast::<ngx_http_conf_ctx_t>();
    // SAFETY: as above.
    let confs = unsafe { (*ctx).main_conf };
    let core = &raw const nginx_sys::ngx_http_core_module;
    // SAFETY: the core module comes first: its configuration and variables exist.
    let cmcf = unsafe { ffi::module_entry::<ngx_http_core_main_conf_t>(confs, core) };
    // SAFETY: as above.
    let keys = unsafe { (*cmcf).variables_keys };
    // SAFETY: null or the keys being collected.
    let Some(keys) = (unsafe { keys.as_ref() }) else { return };
    // SAFETY: an array of hash keys.
    for key in unsafe { keys.keys.as_slice::<ngx_hash_key_t>() } {
        // SAFETY: names of variables live in the configuration pool.
        let name = unsafe { ffi::bytes(key.key) };
        let Some((own, offset)) = ours.iter().find(|(own, _)| own.as_bytes() == name) else {
            continue;
        };
        let variable = key.value.cast::<ngx_http_variable_t>();
        // SAFETY: the key of a variable leads to it.
        let Some(variable) = (unsafe { variable.as_ref() }) else { continue };
        probes.push(Probe { what: format!("${own}"), ours: *offset, theirs: variable.data });
    }
}

/// Directives of the core carry the offset of the field they set.
///
/// # Safety
///
/// The core module's command table must be complete.
unsafe fn probe_commands(probes: &mut Vec<Probe>) {
    let ours: [(&[u8], usize); 5] = [
        (
            b"client_header_buffer_size",
            offset_of!(ngx_http_core_srv_conf_t, client_header_buffer_size),
        ),
        (b"ignore_invalid_headers", offset_of!(ngx_http_core_srv_conf_t, ignore_invalid_headers)),
        (b"underscores_in_headers", offset_of!(ngx_http_core_srv_conf_t, underscores_in_headers)),
        (b"client_max_body_size", offset_of!(ngx_http_core_loc_conf_t, client_max_body_size)),
        (b"resolver_timeout", offset_of!(ngx_http_core_loc_conf_t, resolver_timeout)),
    ];
    // SAFETY: a static of nginx.
    let commands = unsafe { nginx_sys::ngx_http_core_module.commands };
    // SAFETY: the caller vouches for the table.
    for command in unsafe { commands_of(commands) } {
        // SAFETY: directive names are static.
        let name = unsafe { ffi::bytes(command.name) };
        if let Some((own, offset)) = ours.iter().find(|(own, _)| *own == name) {
            probes.push(Probe {
                what: format!("\"{}\"", String::from_utf8_lossy(own)),
                ours: *offset,
                theirs: command.offset,
            });
        }
    }
}

/// The table of known request headers carries the offset of each one's field.
///
/// # Safety
///
/// nginx's table must be complete.
unsafe fn probe_headers(probes: &mut Vec<Probe>) {
    let ours: [(&[u8], usize); 3] = [
        (b"Host", offset_of!(ngx_http_headers_in_t, host)),
        (b"User-Agent", offset_of!(ngx_http_headers_in_t, user_agent)),
        (b"Content-Type", offset_of!(ngx_http_headers_in_t, content_type)),
    ];
    let mut header = (&raw const ngx_http_headers_in).cast::<ngx_http_header_t>();
    loop {
        // SAFETY: the table ends with an empty name.
        let entry = unsafe { &*header };
        if entry.name.len == 0 {
            return;
        }
        // SAFETY: header names are static.
        let name = unsafe { ffi::bytes(entry.name) };
        if let Some((own, offset)) = ours.iter().find(|(own, _)| *own == name) {
            probes.push(Probe {
                what: format!("header {}", String::from_utf8_lossy(own)),
                ours: *offset,
                theirs: entry.offset,
            });
        }
        // SAFETY: not yet at the terminator.
        header = unsafe { header.add(1) };
    }
}

/// Another loaded module that defines one of our directives: whose setter nginx calls would be a
/// matter of load order.
///
/// # Safety
///
/// `cf` must be the state nginx passes to `preconfiguration`.
unsafe fn rival(cf: *mut ngx_conf_t) -> Option<(String, String)> {
    // SAFETY: the cycle being configured is live.
    let mut next = unsafe { (*(*cf).cycle).modules };
    loop {
        // SAFETY: the list ends with a null pointer.
        let module: *mut ngx_module_t = unsafe { *next };
        // SAFETY: null or a module.
        let found = unsafe { module.as_ref() }?;
        let own = std::ptr::eq(module, &raw const crate::ngx_http_px_module);
        if !own && !found.commands.is_null() {
            // SAFETY: a module's command table ends with an empty name.
            for command in unsafe { commands_of(found.commands) } {
                // SAFETY: directive names are static.
                let name = unsafe { ffi::bytes(command.name) };
                if crate::directives::DIRECTIVES.iter().any(|d| d.name.to_bytes() == name) {
                    // SAFETY: module names are C strings.
                    let module = unsafe { CStr::from_ptr(found.name) };
                    return Some((
                        module.to_string_lossy().into_owned(),
                        String::from_utf8_lossy(name).into_owned(),
                    ));
                }
            }
        }
        // SAFETY: not yet at the terminator.
        next = unsafe { next.add(1) };
    }
}

/// # Safety
///
/// `commands` must be a command table, ended by an empty name.
unsafe fn commands_of<'a>(
    mut commands: *const ngx_command_t,
) -> impl Iterator<Item = &'a ngx_command_t> {
    std::iter::from_fn(move || {
        // SAFETY: the caller vouches for the table.
        let command = unsafe { &*commands };
        if command.name.len == 0 {
            return None;
        }
        // SAFETY: not yet at the terminator.
        commands = unsafe { commands.add(1) };
        Some(command)
    })
}

/// Whether the running program exports `symbol`.
fn exports(symbol: &CStr) -> bool {
    // SAFETY: looks a name up in the global scope; changes nothing.
    !unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) }.is_null()
}
