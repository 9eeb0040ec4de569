//! The `px_*` directives: one row each, and the one setter nginx calls for all of them.
//!
//! Adding a directive is a row here, a field in `values.rs`, and its entry in
//! `docs/directives.md`; a test compares table and document.

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::{fs, ptr};

use nginx_sys::{
    NGX_CONF_1MORE, NGX_CONF_FLAG, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE12,
    NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_SRV_CONF,
    NGX_HTTP_UPS_CONF, ngx_add_path, ngx_command_t, ngx_conf_full_name, ngx_conf_t, ngx_int_t,
    ngx_parse_offset, ngx_parse_size, ngx_parse_time, ngx_path_t, ngx_str_t, ngx_uint_t,
};
use px_core::base_url::BaseUrl;
use px_core::filter::Network;
use px_core::metrics::Format;
use px_core::policy::{Secret, TokenVersion};
use px_core::reason::ModuleMode;
use px_core::routes::{RegexPattern, RoutePattern};
use ureq::tls::{PemItem, parse_pem};

use crate::complex_value::ComplexValue;
use crate::conf::LocConf;
use crate::ffi::{self, OK};
use crate::log::{self, EMERG, WARN};
use crate::values::Values;
use crate::{spool, status, token_cache};

/// `http`, `server` and `location`, as nearly every `px_*` directive; the argument count is added.
const HSL: ngx_uint_t = (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF) as ngx_uint_t;
/// One argument. Flags are taken as text, because more words than `on` and `off` are accepted.
const ONE: ngx_uint_t = NGX_CONF_TAKE1 as ngx_uint_t;
const NONE_OR_ONE: ngx_uint_t = (NGX_CONF_NOARGS | NGX_CONF_TAKE1) as ngx_uint_t;
const ONE_OR_TWO: ngx_uint_t = NGX_CONF_TAKE12 as ngx_uint_t;
const MANY: ngx_uint_t = NGX_CONF_1MORE as ngx_uint_t;
const _: () = assert!(NGX_CONF_FLAG as ngx_uint_t & HSL == 0);

/// One directive.
pub(crate) struct Directive {
    /// With its terminating null: nginx compares names as C strings.
    pub(crate) name: &'static CStr,
    contexts: ngx_uint_t,
    args: ngx_uint_t,
    set: fn(&mut Values, &Args<'_>) -> Result<(), Refusal>,
}

const fn row(
    name: &'static CStr,
    args: ngx_uint_t,
    set: fn(&mut Values, &Args<'_>) -> Result<(), Refusal>,
) -> Directive {
    Directive { name, contexts: HSL, args, set }
}

impl Directive {
    const fn in_locations_only(mut self) -> Self {
        self.contexts = NGX_HTTP_LOC_CONF as ngx_uint_t;
        self
    }
}

/// Every directive and synonym, in the order of options.md.
#[rustfmt::skip]
pub(crate) static DIRECTIVES: [Directive; 79] = [
    // Identity and switches
    row(c"px_app_id", ONE, |v, a| once(&mut v.app_id, a.app_id()?)),
    row(c"px_appId", ONE, |v, a| once(&mut v.app_id, a.app_id()?)),
    row(c"px_auth_token", ONE, |v, a| once(&mut v.auth_token, a.secret(0)?)),
    row(c"px_auth_token_file", ONE, |v, a| once(&mut v.auth_token, a.secret_file()?)),
    row(c"px_cookie_secret", ONE_OR_TWO, |v, a| once(&mut v.cookie_secret, a.secrets()?)),
    row(c"px_cookie_secret_file", ONE, |v, a| once(&mut v.cookie_secret, a.secret_lines()?)),
    row(c"px_cookie_secret_old", ONE, |v, a| once(&mut v.cookie_secret_old, a.secret(0)?)),
    row(c"px_cookie_secret_old_file", ONE, |v, a| once(&mut v.cookie_secret_old, a.secret_file()?)),
    row(c"px_enabled", ONE, |v, a| once(&mut v.enabled, a.flag()?)),
    row(c"px_module_enabled", ONE, |v, a| once(&mut v.enabled, a.flag()?)),
    row(c"px_active_header_name", ONE, |v, a| once(&mut v.active_header_name, a.header_name()?)),
    row(c"px_block_enabled", ONE, |v, a| mode(&mut v.module_mode, a.block_enabled()?)),
    row(c"px_module_mode", ONE, |v, a| mode(&mut v.module_mode, a.module_mode()?)),
    row(c"px_blocking_score", ONE, |v, a| once(&mut v.blocking_score, a.number(0, 100)?)),
    row(c"px_bypass_monitor_header", ONE, |v, a| once(&mut v.bypass_monitor_header, a.header_name()?)),
    row(c"px_s2s_timeout", ONE, |v, a| once(&mut v.s2s_timeout, a.milliseconds(1, 60_000)?)),
    row(c"px_debug", ONE, |v, a| once(&mut v.debug, a.flag()?)),
    row(c"px_variables_enabled", ONE, |v, a| once(&mut v.variables_enabled, a.variables_enabled()?)),
    row(c"px_url_decode_reserved_characters", ONE, |v, a| once(&mut v.url_decode_reserved_characters, a.flag()?)),

    // Which requests: filters
    row(c"px_enabled_routes", MANY, |v, a| append(&mut v.enabled_routes, a.list(RoutePattern::parse)?)),
    row(c"px_whitelist_uri_full", MANY, |v, a| append(&mut v.whitelist_uri_full, a.texts()?)),
    row(c"px_whitelist_uri_prefixes", MANY, |v, a| append(&mut v.whitelist_uri_prefixes, a.texts()?)),
    row(c"px_whitelist_uri_suffixes", MANY, |v, a| append(&mut v.whitelist_uri_suffixes, a.texts()?)),
    row(c"px_whitelist_uri_pattern", MANY, |v, a| append(&mut v.whitelist_uri_pattern, a.list(RegexPattern::parse)?)),
    row(c"px_whitelist_ip_addresses", MANY, |v, a| append(&mut v.filter_by_ip, a.list(Network::parse)?)),
    row(c"px_filter_by_ip", MANY, |v, a| append(&mut v.filter_by_ip, a.list(Network::parse)?)),
    row(c"px_whitelist_ua_full", MANY, |v, a| append(&mut v.whitelist_ua_full, a.texts()?)),
    row(c"px_whitelist_ua_sub", MANY, |v, a| append(&mut v.whitelist_ua_sub, a.texts()?)),
    row(c"px_whitelist_hosts", MANY, |v, a| append(&mut v.whitelist_hosts, a.texts()?)),
    row(c"px_filter_by_route", MANY, |v, a| append(&mut v.filter_by_route, a.list(RoutePattern::parse)?)),
    row(c"px_filter_by_domain", MANY, |v, a| append(&mut v.filter_by_domain, a.list(RegexPattern::parse)?)),
    row(c"px_filter_by_extension", MANY, |v, a| append(&mut v.filter_by_extension, a.list(extension)?)),
    row(c"px_filter_by_http_method", MANY, |v, a| append(&mut v.filter_by_http_method, a.list(http_method)?)),
    row(c"px_filter_by_user_agent", MANY, |v, a| append(&mut v.filter_by_user_agent, a.list(RoutePattern::parse)?)),
    row(c"px_filter_by_header", ONE_OR_TWO, |v, a| append(&mut v.filter_by_header, a.header_and_value()?)),
    row(c"px_filter_strict", ONE, |v, a| once(&mut v.filter_strict, a.flag()?)),

    // Which requests: monitored, enforced, sensitive
    row(c"px_enforced_routes", MANY, |v, a| append(&mut v.enforced_routes, a.list(RoutePattern::parse_or_anchored_regex)?)),
    row(c"px_enforced_routes_exclusive", ONE, |v, a| once(&mut v.enforced_routes_exclusive, a.flag()?)),
    row(c"px_monitored_routes", MANY, |v, a| append(&mut v.monitored_routes, a.list(RoutePattern::parse_or_anchored_regex)?)),
    row(c"px_sensitive_routes", MANY, |v, a| append(&mut v.sensitive_routes, a.list(RoutePattern::parse)?)),
    row(c"px_sensitive_routes_prefix", MANY, |v, a| append(&mut v.sensitive_routes_prefix, a.texts()?)),
    row(c"px_sensitive_routes_suffix", MANY, |v, a| append(&mut v.sensitive_routes_suffix, a.texts()?)),
    row(c"px_sensitive_routes_regex", MANY, |v, a| append(&mut v.sensitive_routes_regex, a.list(RegexPattern::parse)?)),

    // Client address, headers, cookies
    row(c"px_ip_headers", MANY, |v, a| append(&mut v.ip_headers, a.list(header_name)?)),
    row(c"px_sensitive_headers", MANY, |v, a| append(&mut v.sensitive_headers, a.list(header_name)?)),
    row(c"px_custom_cookie_header", ONE, |v, a| once(&mut v.custom_cookie_header, a.header_name()?)),
    row(c"px_data_enrichment_header_name", ONE, |v, a| once(&mut v.data_enrichment_header_name, a.header_name()?)),
    row(c"px_pxde_header_name", ONE, |v, a| once(&mut v.data_enrichment_header_name, a.header_name()?)),
    row(c"px_enable_pxde", ONE, |v, a| once(&mut v.enable_pxde, a.flag()?)),
    row(c"px_secured_pxhd_enabled", ONE, |v, a| once(&mut v.secured_pxhd_enabled, a.flag()?)),

    // Block response
    row(c"px_enable_json_response", ONE, |v, a| once(&mut v.enable_json_response, a.flag()?)),
    row(c"px_advanced_blocking_response_enabled", ONE, |v, a| once(&mut v.enable_json_response, a.flag()?)),
    row(c"px_custom_logo", ONE, |v, a| once(&mut v.custom_logo, a.complex_value()?)),
    row(c"px_css_ref", ONE, |v, a| once(&mut v.css_ref, a.complex_value()?)),
    row(c"px_js_ref", ONE, |v, a| once(&mut v.js_ref, a.complex_value()?)),
    row(c"px_client_host", ONE, |v, a| once(&mut v.client_host, a.url()?)),
    row(c"px_captcha_script_host", ONE, |v, a| once(&mut v.captcha_script_host, a.url()?)),

    // Activities
    row(c"px_send_async_activities_enabled", ONE, |v, a| once(&mut v.send_async_activities_enabled, a.flag()?)),
    row(c"px_compression_enabled", ONE, |v, a| once(&mut v.compression_enabled, a.flag()?)),
    row(c"px_compression_level", ONE, |v, a| once(&mut v.compression_level, a.number(1, 9)?)),
    row(c"px_max_activity_batch_size", ONE, |v, a| once(&mut v.max_activity_batch_size, a.number(0, 1000)? as usize)),
    row(c"px_batch_activities_timeout_ms", ONE, |v, a| once(&mut v.batch_activities_timeout_ms, a.milliseconds(10, 60_000)?)),
    row(c"px_async_timeout", ONE, |v, a| once(&mut v.async_timeout, a.milliseconds(10, 60_000)?)),
    row(c"px_activity_spool", ONE_OR_TWO, |v, a| once(&mut v.activity_spool, a.activity_spool()?)),

    // Backends and limits
    row(c"px_backend_url", ONE, |v, a| once(&mut v.backend_url, a.url()?)),
    row(c"px_backend_collector_url", ONE, |v, a| once(&mut v.backend_collector_url, a.url()?)),
    row(c"px_max_errors_threshold", ONE, |v, a| once(&mut v.max_errors_threshold, a.number(0, 1_000_000)?)),
    row(c"px_errors_count_interval", ONE, |v, a| once(&mut v.errors_count_interval, a.milliseconds(100, 3_600_000)?)),
    row(c"px_ssl_verify", ONE, |v, a| once(&mut v.ssl_verify, a.ssl_verify()?)),
    row(c"px_ssl_verify_depth", ONE, |v, a| once(&mut v.ssl_verify_depth, a.number(1, 20)?)),
    row(c"px_ssl_trusted_certificate", ONE, |v, a| once(&mut v.ssl_trusted_certificate, a.certificate_bundle()?)),
    row(c"px_token_version", ONE_OR_TWO, |v, a| once(&mut v.token_version, a.token_version()?)),
    row(c"px_risk_cookie_max_length", ONE, |v, a| once(&mut v.risk_cookie_max_length, a.number(1, 65_536)? as usize)),
    row(c"px_risk_cookie_min_iterations", ONE, |v, a| once(&mut v.risk_cookie_min_iterations, a.number(1, 1_000_000)?)),
    row(c"px_risk_cookie_max_iterations", ONE, |v, a| once(&mut v.risk_cookie_max_iterations, a.number(1, 1_000_000)?)),
    row(c"px_user_agent_max_length", ONE, |v, a| once(&mut v.user_agent_max_length, a.number(1, 65_536)? as usize)),
    row(c"px_token_cache", ONE, |v, a| once(&mut v.token_cache, a.token_cache()?)),
    row(c"px_forged_cookie_budget", ONE, |v, a| once(&mut v.forged_cookie_budget, a.number(0, 100_000)?)),

    // Monitoring
    row(c"px_status", NONE_OR_ONE, |v, a| once(&mut v.status, a.status()?)).in_locations_only(),
];

/// The name of the directive that stands only in the module's own upstream blocks.
pub(crate) const INTERNAL_BACKEND: &CStr = c"px_internal_backend";

/// nginx's view of [`DIRECTIVES`], with the internal directive and the terminator.
pub(crate) static mut COMMANDS: [ngx_command_t; DIRECTIVES.len() + 2] = {
    let mut commands = [const { ngx_command_t::empty() }; DIRECTIVES.len() + 2];
    let mut i = 0;
    while i < DIRECTIVES.len() {
        commands[i] = ngx_command_t {
            name: c_str_of(DIRECTIVES[i].name),
            type_: DIRECTIVES[i].contexts | DIRECTIVES[i].args,
            set: Some(set),
            conf: NGX_HTTP_LOC_CONF_OFFSET,
            offset: 0,
            post: (&raw const DIRECTIVES[i]).cast_mut().cast::<c_void>(),
        };
        i += 1;
    }
    commands[i] = ngx_command_t {
        name: c_str_of(INTERNAL_BACKEND),
        type_: NGX_HTTP_UPS_CONF as ngx_uint_t | ONE,
        set: Some(crate::upstream::set_internal_backend),
        conf: 0,
        offset: 0,
        post: ptr::null_mut(),
    };
    commands
};

const fn c_str_of(text: &'static CStr) -> ngx_str_t {
    ngx_str_t { len: text.count_bytes(), data: text.as_ptr().cast_mut().cast() }
}

/// Why a directive is refused; becomes the `[emerg]` line.
pub(crate) enum Refusal {
    /// Set before at the same level, under this name or a synonym.
    Duplicate,
    /// `invalid value "value" in "directive" directive, reason`
    Value { value: String, reason: String },
    /// `"directive": reason`, where the value must not be shown or is not the point.
    Other(String),
    /// nginx has logged the reason itself.
    Logged,
}

const CONF_OK: *mut c_char = ptr::null_mut();
const CONF_ERROR: *mut c_char = usize::MAX as *mut c_char;

unsafe extern "C" fn set(
    cf: *mut ngx_conf_t,
    cmd: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    ffi::guard(
        "a directive",
        || CONF_ERROR,
        || {
            // SAFETY: nginx passes the command whose `set` it calls.
            let directive = unsafe { (*cmd).post }.cast::<Directive>().cast_const();
            // SAFETY: `post` of our commands points to a row of the static table.
            let directive = unsafe { &*directive };
            // SAFETY: `conf` is what create_loc_conf returned for this level; nothing else uses it now.
            let conf = unsafe { &mut *conf.cast::<LocConf>() };
            // SAFETY: nginx fills `args` with the words of the directive before it calls the setter.
            let args = unsafe { &*(*cf).args };
            // SAFETY: `args` is an array of ngx_str_t.
            let words = unsafe { args.as_slice::<ngx_str_t>() };
            let name = directive.name.to_str().unwrap_or_default();
            conf.note_place(name, cf);
            let args = Args { cf, name, words: words.get(1..).unwrap_or_default() };
            let text = match (directive.set)(&mut conf.values, &args) {
                Ok(()) => return CONF_OK,
                Err(Refusal::Logged) => return CONF_ERROR,
                Err(Refusal::Duplicate) => format!("\"{}\" directive is duplicate", args.name),
                Err(Refusal::Value { value, reason }) => {
                    format!("invalid value \"{value}\" in \"{}\" directive, {reason}", args.name)
                }
                Err(Refusal::Other(reason)) => format!("\"{}\" directive {reason}", args.name),
            };
            // SAFETY: `cf` is live for the call.
            unsafe { log::conf_line(cf, EMERG, &text) };
            CONF_ERROR
        },
    )
}

/// Sets a scalar that the level has not set yet.
fn once<T>(field: &mut Option<T>, value: T) -> Result<(), Refusal> {
    if field.is_some() {
        return Err(Refusal::Duplicate);
    }
    *field = Some(value);
    Ok(())
}

/// Adds to the list of this level.
fn append<T>(field: &mut Option<Vec<T>>, mut values: Vec<T>) -> Result<(), Refusal> {
    field.get_or_insert_default().append(&mut values);
    Ok(())
}

/// `px_block_enabled` and `px_module_mode` are two spellings of one switch: both may stand at one
/// level if they agree.
fn mode(field: &mut Option<ModuleMode>, value: ModuleMode) -> Result<(), Refusal> {
    match field {
        Some(set) if *set != value => Err(Refusal::Other(format!(
            "contradicts the mode \"{}\" that \"px_module_mode\" or \"px_block_enabled\" sets at \
             the same level",
            set.as_str()
        ))),
        _ => {
            *field = Some(value);
            Ok(())
        }
    }
}

/// The words after a directive's name, read as one type or another.
pub(crate) struct Args<'a> {
    cf: *mut ngx_conf_t,
    name: &'static str,
    words: &'a [ngx_str_t],
}

impl Args<'_> {
    fn text(&self, at: usize) -> Result<String, Refusal> {
        let word = self.words.get(at).copied().unwrap_or(ffi::str_of(""));
        // SAFETY: the words of a directive live in the configuration pool.
        let bytes = unsafe { ffi::bytes(word) };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Refusal::Other("holds a value that is not valid UTF-8".to_owned())),
        }
    }

    fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Refusal> {
        let text = self.text(0)?;
        parse(&text).map_err(|reason| Refusal::Value { value: text, reason })
    }

    fn warn(&self, text: &str) {
        // SAFETY: `cf` is live for the call of the setter that made these arguments.
        unsafe { log::conf_line(self.cf, WARN, &format!("\"{}\" {text}", self.name)) };
    }

    /// Every word through `parse`. A single `""` is the empty list.
    fn list<T>(&self, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Refusal> {
        let texts = self.texts()?;
        let parse =
            |text: String| parse(&text).map_err(|reason| Refusal::Value { value: text, reason });
        texts.into_iter().map(parse).collect()
    }

    fn texts(&self) -> Result<Vec<String>, Refusal> {
        let texts: Vec<String> =
            (0..self.words.len()).map(|at| self.text(at)).collect::<Result<_, _>>()?;
        if let [only] = texts.as_slice()
            && only.is_empty()
        {
            return Ok(Vec::new());
        }
        if texts.iter().any(String::is_empty) {
            return Err(Refusal::Other("holds an empty value among others".to_owned()));
        }
        Ok(texts)
    }

    fn flag(&self) -> Result<bool, Refusal> {
        self.parse(|text| match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "1" => Ok(true),
            "off" | "false" | "0" => Ok(false),
            _ => Err("it must be \"on\" or \"off\"".to_owned()),
        })
    }

    fn number(&self, min: u32, max: u32) -> Result<u32, Refusal> {
        self.parse(|text| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            let number = digits.then(|| text.parse::<u32>().ok()).flatten();
            number
                .filter(|n| (min..=max).contains(n))
                .ok_or_else(|| format!("it must be a whole number from {min} to {max}"))
        })
    }

    /// nginx's time notation, but a bare number is milliseconds, as in all documents; to nginx it
    /// would be seconds.
    fn milliseconds(&self, min: u64, max: u64) -> Result<u64, Refusal> {
        self.parse(|text| {
            let bare = text.bytes().all(|b| b.is_ascii_digit());
            let time = if bare { text.parse().ok() } else { nginx_time(text) };
            time.filter(|ms| (min..=max).contains(ms)).ok_or_else(|| {
                format!("it must be a time from {min}ms to {max}ms, such as \"500ms\" or \"1s\"")
            })
        })
    }

    fn app_id(&self) -> Result<String, Refusal> {
        self.parse(|text| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if text.len() > 2
                && text.len() <= 63
                && text.starts_with("PX")
                && text.bytes().all(plain)
            {
                Ok(text.to_owned())
            } else {
                Err("it must be the application id, \"PX\" followed by letters and digits".into())
            }
        })
    }

    fn header_name(&self) -> Result<String, Refusal> {
        self.parse(|text| if text.is_empty() { Ok(String::new()) } else { header_name(text) })
    }

    /// A header's name and exact value; a single `""` is the empty list.
    fn header_and_value(&self) -> Result<Vec<(String, String)>, Refusal> {
        match self.words.len() {
            1 if self.text(0)?.is_empty() => Ok(Vec::new()),
            1 => Err(Refusal::Other("needs a header name and its value".to_owned())),
            _ => Ok(vec![(self.parse(header_name)?, self.text(1)?)]),
        }
    }

    /// Accepted because the closed module has it; our variables are computed only where used.
    fn variables_enabled(&self) -> Result<bool, Refusal> {
        let enabled = self.flag()?;
        if !enabled {
            self.warn("has no effect: the $px_* variables cost nothing where they are not used");
        }
        Ok(enabled)
    }

    fn block_enabled(&self) -> Result<ModuleMode, Refusal> {
        Ok(if self.flag()? { ModuleMode::ActiveBlocking } else { ModuleMode::Monitor })
    }

    fn module_mode(&self) -> Result<ModuleMode, Refusal> {
        self.parse(|text| match text {
            "monitor" | "0" => Ok(ModuleMode::Monitor),
            "active_blocking" | "1" => Ok(ModuleMode::ActiveBlocking),
            _ => Err("it must be \"monitor\" or \"active_blocking\"".to_owned()),
        })
    }

    /// `v3`, `v3 v1` (the legacy `_px` where `_px3` is absent) or `v2`.
    fn token_version(&self) -> Result<TokenVersion, Refusal> {
        let words: Vec<String> =
            (0..self.words.len()).map(|at| self.text(at)).collect::<Result<_, _>>()?;
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["v3" | "3"] => Ok(TokenVersion::V3),
            ["v3" | "3", "v1" | "1"] => Ok(TokenVersion::V3OrV1),
            ["v2" | "2"] => Ok(TokenVersion::V2),
            _ => Err(Refusal::Value {
                value: words.join(" "),
                reason: "it must be \"v3\", \"v3 v1\" or \"v2\"".to_owned(),
            }),
        }
    }

    /// `off` or `zone=name:size`.
    fn token_cache(&self) -> Result<token_cache::Setting, Refusal> {
        self.parse(|text| {
            if text == "off" {
                return Ok(token_cache::Setting::Off);
            }
            let zone = text.strip_prefix("zone=").and_then(|zone| zone.split_once(':'));
            let (name, size) = zone.ok_or("it must be \"off\" or \"zone=name:size\"")?;
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if name.is_empty() || !name.bytes().all(plain) {
                return Err("its zone needs a name of letters, digits, \"_\" and \"-\"".into());
            }
            let mut word = ngx_str_t { len: size.len(), data: size.as_ptr().cast_mut() };
            // SAFETY: nginx reads `len` bytes and changes nothing.
            let bytes = unsafe { ngx_parse_size(&raw mut word) };
            let size = usize::try_from(bytes).ok().filter(|size| *size >= token_cache::MIN_SIZE);
            let size = size.ok_or("its size must be 512k or more")?;
            Ok(token_cache::Setting::Zone { name: name.to_owned(), size })
        })
    }

    /// `off`, or `path=directory max_size=size`.
    fn activity_spool(&self) -> Result<Option<spool::Setting>, Refusal> {
        let (mut dir, mut max_size) = (None, None);
        for at in 0..self.words.len() {
            let word = self.text(at)?;
            match word.split_once('=') {
                None if word == "off" && self.words.len() == 1 => return Ok(None),
                Some(("path", path)) if dir.is_none() && !path.is_empty() => {
                    dir = Some(self.made_by_nginx(path)?);
                }
                Some(("max_size", size)) if max_size.is_none() => {
                    let size = nginx_size(size).filter(|size| *size >= spool::MIN_SIZE);
                    max_size = Some(size.ok_or_else(|| Refusal::Value {
                        value: word.clone(),
                        reason: "it must be a size of 1m or more".to_owned(),
                    })?);
                }
                _ => {
                    let reason =
                        "it must be \"off\" or \"path=directory max_size=size\"".to_owned();
                    return Err(Refusal::Value { value: word, reason });
                }
            }
        }
        match (dir, max_size) {
            (Some(dir), Some(max_size)) => Ok(Some(spool::Setting { dir, max_size })),
            _ => Err(Refusal::Other("needs both \"path\" and \"max_size\"".to_owned())),
        }
    }

    /// Nothing, `json` or `prometheus`: from now on the location answers with the counters.
    fn status(&self) -> Result<Format, Refusal> {
        let format = match self.words {
            [] => Format::Json,
            _ => self.parse(|text| {
                Format::parse(text).ok_or("it must be \"json\" or \"prometheus\"".to_owned())
            })?,
        };
        // SAFETY: `cf` is live for the call, and the directive stands in locations only.
        unsafe { status::answer_here(self.cf) };
        Ok(format)
    }

    /// A directory that nginx makes, for the user of its workers, when it starts and when it tests
    /// its configuration. Relative paths begin at the prefix, as those of nginx's own directories.
    fn made_by_nginx(&self, path: &str) -> Result<PathBuf, Refusal> {
        let path = match path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        // SAFETY: `cf` is live for the call.
        let cf = unsafe { &*self.cf };
        // nginx reads names of files up to their null.
        // SAFETY: the pool of the configuration is live.
        let name = unsafe { ffi::copy_to_pool(cf.pool, format!("{path}\0").as_bytes()) };
        let mut name = name.ok_or(Refusal::Logged)?;
        name.len -= 1;
        // SAFETY: the cycle is live while configuration is read; 0 = relative to the prefix.
        let rc = unsafe { ngx_conf_full_name(cf.cycle, &raw mut name, 0) };
        if rc != OK {
            return Err(Refusal::Logged);
        }
        // SAFETY: the pool is live, and zero is valid for this struct.
        let made = unsafe { ffi::zeroed_in_pool::<ngx_path_t>(cf.pool) };
        let made = made.ok_or(Refusal::Logged)?;
        made.name = name;
        // SAFETY: `cf` reads a file.
        let file = unsafe { &*cf.conf_file };
        made.conf_file = file.file.name.data;
        made.line = file.line;
        let mut slot = ptr::from_mut(made);
        // SAFETY: a complete path in the configuration pool.
        if unsafe { ngx_add_path(self.cf, &raw mut slot) } != OK {
            return Err(Refusal::Logged);
        }
        // SAFETY: nginx left a string in the cycle's pool.
        let bytes = unsafe { ffi::bytes(name) };
        Ok(PathBuf::from(OsStr::from_bytes(bytes)))
    }

    fn url(&self) -> Result<BaseUrl, Refusal> {
        let url = self.parse(BaseUrl::parse)?;
        if !url.tls && !url.is_loopback() {
            self.warn("names an \"http://\" URL: what is sent there can be read on its way");
        }
        Ok(url)
    }

    fn ssl_verify(&self) -> Result<bool, Refusal> {
        let verify = self.flag()?;
        if !verify {
            self.warn("is off: anybody between this server and the backends can answer for them");
        }
        Ok(verify)
    }

    fn complex_value(&self) -> Result<ComplexValue, Refusal> {
        let word = self.words.first().ok_or(Refusal::Logged)?;
        // SAFETY: `cf` is live for the call, the word lives in its pool and is only read.
        unsafe { ComplexValue::compile(self.cf, ptr::from_ref(word).cast_mut()) }
            .ok_or(Refusal::Logged)
    }

    /// A secret's text; never repeated in a message.
    fn secret(&self, at: usize) -> Result<Secret, Refusal> {
        let text = self.text(at)?;
        if text.is_empty() {
            return Err(Refusal::Other("holds an empty secret".to_owned()));
        }
        if text.bytes().any(|b| b.is_ascii_control()) {
            return Err(Refusal::Other("holds a secret with a control character".to_owned()));
        }
        Ok(Secret::new(text))
    }

    fn secrets(&self) -> Result<Vec<Secret>, Refusal> {
        (0..self.words.len()).map(|at| self.secret(at)).collect()
    }

    /// The path in the first word, relative to the directory of nginx.conf.
    fn path(&self) -> Result<String, Refusal> {
        let word = self.words.first().copied().ok_or(Refusal::Logged)?;
        // nginx appends a terminating null and rewrites the string; it must not be our own word.
        let mut name = word;
        // SAFETY: `cf` is live for the call.
        let cycle = unsafe { (*self.cf).cycle };
        // SAFETY: the cycle is live while configuration is read; 1 = relative to the conf prefix.
        let rc = unsafe { ngx_conf_full_name(cycle, &raw mut name, 1) };
        if rc != OK {
            return Err(Refusal::Logged);
        }
        // SAFETY: nginx left a string in the cycle's pool.
        let bytes = unsafe { ffi::bytes(name) };
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Refusal::Other("names a file whose path is not valid UTF-8".to_owned()))
    }

    fn read_secret_file(&self) -> Result<String, Refusal> {
        let path = self.path()?;
        let cannot = |what: &str| Refusal::Other(format!("cannot read \"{path}\": {what}"));
        let text = fs::read(&path).map_err(|err| cannot(&err.to_string()))?;
        let mode =
            fs::metadata(&path).map_err(|err| cannot(&err.to_string()))?.permissions().mode();
        if mode & 0o004 != 0 {
            self.warn(&format!(
                "names \"{path}\", which every user of this machine can read: chmod o-r it"
            ));
        }
        String::from_utf8(text).map_err(|_| cannot("it is not valid UTF-8"))
    }

    /// The secret in a file, without the newline at its end.
    fn secret_file(&self) -> Result<Secret, Refusal> {
        let lines = self.secret_lines()?;
        match <[Secret; 1]>::try_from(lines) {
            Ok([secret]) => Ok(secret),
            Err(_) => Err(Refusal::Other("names a file that holds more than one line".to_owned())),
        }
    }

    /// One secret a line: current, previous.
    fn secret_lines(&self) -> Result<Vec<Secret>, Refusal> {
        let text = self.read_secret_file()?;
        let lines: Vec<Secret> = text
            .lines()
            .map(|line| line.trim_end_matches('\r'))
            .filter(|line| !line.is_empty())
            .map(|line| Secret::new(line.to_owned()))
            .collect();
        if lines.iter().any(|line| line.expose().bytes().any(|b| b.is_ascii_control())) {
            return Err(Refusal::Other("names a file that holds a control character".to_owned()));
        }
        match lines.len() {
            0 => Err(Refusal::Other("names a file that holds no secret".to_owned())),
            1 | 2 => Ok(lines),
            _ => Err(Refusal::Other("names a file that holds more than two secrets".to_owned())),
        }
    }

    /// The path of a PEM bundle; both nginx and the sender thread will read it.
    fn certificate_bundle(&self) -> Result<String, Refusal> {
        let path = self.path()?;
        if path.bytes().any(|b| b.is_ascii_control() || b"\"\\$".contains(&b)) {
            return Err(Refusal::Other("names a file with quotes, \"\\\" or \"$\"".to_owned()));
        }
        let pem = fs::read(&path)
            .map_err(|err| Refusal::Other(format!("cannot read \"{path}\": {err}")))?;
        if !parse_pem(&pem).any(|item| matches!(item, Ok(PemItem::Certificate(_)))) {
            return Err(Refusal::Other(format!("names \"{path}\", which holds no certificate")));
        }
        Ok(path)
    }
}

/// Milliseconds of a text such as `500ms` or `1m30s`.
fn nginx_time(text: &str) -> Option<u64> {
    let mut word = ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
    // SAFETY: nginx reads `len` bytes and changes nothing.
    let time: ngx_int_t = unsafe { ngx_parse_time(&raw mut word, 0) };
    u64::try_from(time).ok()
}

/// Bytes of a text such as `64m`.
fn nginx_size(text: &str) -> Option<u64> {
    let mut word = ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
    // SAFETY: nginx reads `len` bytes and changes nothing.
    let size = unsafe { ngx_parse_offset(&raw mut word) };
    u64::try_from(size).ok()
}

/// A header name in lower case.
fn header_name(text: &str) -> Result<String, String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.bytes().all(token) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("it must be a header name".to_owned())
    }
}

/// A file extension with its leading dot.
fn extension(text: &str) -> Result<String, String> {
    if text.contains('/') || text == "." {
        return Err("it must be a file extension such as \".css\"".to_owned());
    }
    Ok(if text.starts_with('.') { text.to_owned() } else { format!(".{text}") })
}

/// A request method in upper case.
fn http_method(text: &str) -> Result<String, String> {
    if text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-' || b == b'_') {
        Ok(text.to_ascii_uppercase())
    } else {
        Err("it must be a request method".to_owned())
    }
}
