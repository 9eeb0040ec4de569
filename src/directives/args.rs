//! The words after a directive's name, read as one type or another.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::{fs, ptr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nginx_sys::{
    ngx_add_path, ngx_conf_full_name, ngx_conf_t, ngx_int_t, ngx_parse_offset, ngx_parse_size,
    ngx_parse_time, ngx_path_t, ngx_str_t, ngx_uint_t,
};
use px_core::base_url::BaseUrl;
use px_core::credentials::{Endpoint, LoginMethod, Protocol};
use px_core::metrics::Format;
use px_core::policy::{Secret, TokenVersion};
use px_core::reason::ModuleMode;
use ureq::tls::{PemItem, parse_pem};

use super::Refusal;
use crate::complex_value::ComplexValue;
use crate::ffi::{self, OK};
use crate::first_party_location::CacheSetting;
use crate::hooks::{Condition, Handler, Target};
use crate::log::{self, Severity, WARN};
use crate::login::EndpointExpressions;
use crate::{spool, status, token_cache};

/// What a number without unit counts.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Minutes,
    Seconds,
}

impl Unit {
    fn words(self) -> &'static str {
        match self {
            Self::Minutes => "a number of minutes",
            Self::Seconds => "a number of seconds",
        }
    }
}

/// The words of one directive.
pub(crate) struct Args<'a> {
    pub(super) cf: *mut ngx_conf_t,
    pub(super) name: &'static str,
    pub(super) words: &'a [ngx_str_t],
}

impl Args<'_> {
    pub(super) fn text(&self, at: usize) -> Result<String, Refusal> {
        let word = self.words.get(at).copied().unwrap_or(ffi::str_of(""));
        // SAFETY: the words of a directive live in the configuration pool.
        let bytes = unsafe { ffi::bytes(word) };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Refusal::Other("holds a value that is not valid UTF-8".to_owned())),
        }
    }

    pub(super) fn parse<T>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Refusal> {
        let text = self.text(0)?;
        parse(&text).map_err(|reason| Refusal::Value { value: text, reason })
    }

    pub(super) fn warn(&self, text: &str) {
        // SAFETY: `cf` is live for the call of the setter that made these arguments.
        unsafe { log::conf_line(self.cf, WARN, &format!("\"{}\" {text}", self.name)) };
    }

    /// Every word through `parse`. A single `""` is the empty list.
    pub(super) fn list<T>(
        &self,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Refusal> {
        let texts = self.texts()?;
        let parse =
            |text: String| parse(&text).map_err(|reason| Refusal::Value { value: text, reason });
        texts.into_iter().map(parse).collect()
    }

    pub(super) fn texts(&self) -> Result<Vec<String>, Refusal> {
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

    pub(super) fn flag(&self) -> Result<bool, Refusal> {
        self.parse(|text| match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "1" => Ok(true),
            "off" | "false" | "0" => Ok(false),
            _ => Err("it must be \"on\" or \"off\"".to_owned()),
        })
    }

    pub(super) fn number(&self, min: u32, max: u32) -> Result<u32, Refusal> {
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
    pub(super) fn milliseconds(&self, min: u64, max: u64) -> Result<u64, Refusal> {
        self.parse(|text| {
            let bare = text.bytes().all(|b| b.is_ascii_digit());
            let time = if bare { text.parse().ok() } else { nginx_time(text) };
            time.filter(|ms| (min..=max).contains(ms)).ok_or_else(|| {
                format!("it must be a time from {min}ms to {max}ms, such as \"500ms\" or \"1s\"")
            })
        })
    }

    pub(super) fn app_id(&self) -> Result<String, Refusal> {
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

    pub(super) fn header_name(&self) -> Result<String, Refusal> {
        self.parse(|text| if text.is_empty() { Ok(String::new()) } else { header_name(text) })
    }

    /// A header's name and exact value; a single `""` is the empty list.
    pub(super) fn header_and_value(&self) -> Result<Vec<(String, String)>, Refusal> {
        match self.words.len() {
            1 if self.text(0)?.is_empty() => Ok(Vec::new()),
            1 => Err(Refusal::Other("needs a header name and its value".to_owned())),
            _ => Ok(vec![(self.parse(header_name)?, self.text(1)?)]),
        }
    }

    /// Accepted because the closed module has it; our variables are computed only where used.
    pub(super) fn variables_enabled(&self) -> Result<bool, Refusal> {
        let enabled = self.flag()?;
        if !enabled {
            self.warn("has no effect: the $px_* variables cost nothing where they are not used");
        }
        Ok(enabled)
    }

    pub(super) fn custom_cookie_header_enabled(&self) -> Result<bool, Refusal> {
        let enabled = self.flag()?;
        self.warn("is deprecated: an empty \"px_custom_cookie_header\" switches the header off");
        Ok(enabled)
    }

    pub(super) fn block_enabled(&self) -> Result<ModuleMode, Refusal> {
        Ok(if self.flag()? { ModuleMode::ActiveBlocking } else { ModuleMode::Monitor })
    }

    pub(super) fn module_mode(&self) -> Result<ModuleMode, Refusal> {
        self.parse(|text| match text {
            "monitor" | "0" => Ok(ModuleMode::Monitor),
            "active_blocking" | "1" => Ok(ModuleMode::ActiveBlocking),
            _ => Err("it must be \"monitor\" or \"active_blocking\"".to_owned()),
        })
    }

    /// `v3`, `v3 v1` (the legacy `_px` where `_px3` is absent) or `v2`.
    pub(super) fn token_version(&self) -> Result<TokenVersion, Refusal> {
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
    pub(super) fn token_cache(&self) -> Result<token_cache::Setting, Refusal> {
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
    pub(super) fn activity_spool(&self) -> Result<Option<spool::Setting>, Refusal> {
        let (mut dir, mut max_size) = (None, None);
        for at in 0..self.words.len() {
            let word = self.text(at)?;
            match word.split_once('=') {
                None if word == "off" && self.words.len() == 1 => return Ok(None),
                Some(("path", path)) if dir.is_none() && !path.is_empty() => {
                    let path = self.made_by_nginx(path)?;
                    if spool::is_on_network(&path) {
                        let reason = "it is on a network file system, whose locks do not keep \
                                      machines apart"
                            .to_owned();
                        return Err(Refusal::Value { value: word, reason });
                    }
                    dir = Some(path);
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

    /// A time whose number alone counts in `unit`, in milliseconds: 1 second to 30 days.
    pub(super) fn time_in(&self, unit: Unit) -> Result<u64, Refusal> {
        let text = self.text(0)?;
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let milliseconds = match (is_number, unit) {
            (true, Unit::Minutes) => text.parse::<u64>().ok().and_then(|n| n.checked_mul(60_000)),
            (true, Unit::Seconds) => text.parse::<u64>().ok().and_then(|n| n.checked_mul(1000)),
            (false, _) => {
                let mut word = self.words.first().copied().unwrap_or(ffi::str_of(""));
                // SAFETY: a word of the directive; 0 = in milliseconds.
                u64::try_from(unsafe { ngx_parse_time(&raw mut word, 0) }).ok()
            }
        };
        const DAY: u64 = 86_400_000;
        milliseconds.filter(|ms| (1000..=30 * DAY).contains(ms)).ok_or_else(|| Refusal::Value {
            value: text,
            reason: format!("it must be {}, or a time with its unit, from 1s to 30d", unit.words()),
        })
    }

    /// `off`, which is 0, or a time from a second on, in milliseconds.
    pub(super) fn refresh_interval(&self) -> Result<u64, Refusal> {
        match &*self.text(0)? {
            "off" => Ok(0),
            _ => self.milliseconds(1000, 86_400_000),
        }
    }

    /// `off`, or a directory that nginx makes.
    pub(super) fn directory_or_off(&self) -> Result<Option<PathBuf>, Refusal> {
        match &*self.text(0)? {
            "off" => Ok(None),
            "" => Err(Refusal::Other("names no directory".to_owned())),
            path => self.made_by_nginx(path).map(Some),
        }
    }

    /// A prefix of first-party paths, its leading slash optional; empty: none.
    pub(super) fn first_party_prefix(&self) -> Result<String, Refusal> {
        self.parse(|text| match text.trim_matches('/') {
            "" if text.is_empty() => Ok(String::new()),
            name => url_path(&format!("/{name}")),
        })
    }

    /// A first-party path as requests are compared with it; empty: none.
    pub(super) fn first_party_endpoint(&self) -> Result<String, Refusal> {
        self.parse(|text| match text {
            "" => Ok(String::new()),
            _ => url_path(text.trim_end_matches('/')),
        })
    }

    /// `off`, or the zone of a `proxy_cache_path` and for how long what says nothing is kept there.
    pub(super) fn first_party_cache(&self) -> Result<Option<CacheSetting>, Refusal> {
        let zone = self.text(0)?;
        if zone == "off" && self.words.len() == 1 {
            return Ok(None);
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if zone.is_empty() || !zone.bytes().all(is_plain) {
            let reason = "it must be \"off\" or the name of a cache zone".to_owned();
            return Err(Refusal::Value { value: zone, reason });
        }
        let valid = match self.words.get(1) {
            None => 300,
            Some(word) => {
                let mut word = *word;
                // SAFETY: a word of the directive.
                let seconds = unsafe { ngx_parse_time(&raw mut word, 1) };
                u64::try_from(seconds).ok().filter(|seconds| (1..=86_400).contains(seconds)).ok_or(
                    Refusal::Value {
                        value: self.text(1)?,
                        reason: "it must be a time from 1s to 1d".to_owned(),
                    },
                )?
            }
        };
        Ok(Some(CacheSetting { zone, valid }))
    }

    /// Nothing, `json` or `prometheus`: from now on the location answers with the counters.
    pub(super) fn status(&self) -> Result<Format, Refusal> {
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

    pub(super) fn url(&self) -> Result<BaseUrl, Refusal> {
        let url = self.parse(BaseUrl::parse)?;
        if !url.tls && !url.is_loopback() {
            self.warn("names an \"http://\" URL: what is sent there can be read on its way");
        }
        Ok(url)
    }

    /// `off`, or the URL of a traffic-analysis node.
    pub(super) fn node_address(&self) -> Result<Option<BaseUrl>, Refusal> {
        if self.text(0)? == "off" {
            return Ok(None);
        }
        let url = self.parse(|text| {
            if !text.starts_with("https://") && !text.starts_with("http://") {
                return Err("it must be \"off\" or look like \"https://host[:port][/path]\"".into());
            }
            BaseUrl::parse(text)
        })?;
        if !url.tls {
            self.warn("names an \"http://\" URL: requests can be read on their way to the node");
        }
        Ok(Some(url))
    }

    pub(super) fn ssl_verify(&self) -> Result<bool, Refusal> {
        let verify = self.flag()?;
        if !verify {
            self.warn("is off: anybody between this server and the backends can answer for them");
        }
        Ok(verify)
    }

    pub(super) fn complex_value(&self) -> Result<ComplexValue, Refusal> {
        self.complex_value_at(0)
    }

    pub(super) fn severity(&self) -> Result<Severity, Refusal> {
        self.parse(|text| match text {
            "none" => Ok(Severity::None),
            "error" => Ok(Severity::Error),
            "debug" => Ok(Severity::Debug),
            _ => Err("it must be \"none\", \"error\" or \"debug\"".to_owned()),
        })
    }

    pub(super) fn debug(&self) -> Result<Severity, Refusal> {
        Ok(if self.flag()? { Severity::Debug } else { Severity::Error })
    }

    /// Accepted because another enforcer has it; `instead` says what nginx has in its place.
    pub(super) fn without_effect(&self, instead: &str) -> Result<(), Refusal> {
        self.text(0)?;
        self.warn(&format!("has no effect: {instead}"));
        Ok(())
    }

    /// Names by slot; `""` skips a slot.
    pub(super) fn slots(
        &self,
        parse: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Vec<String>, Refusal> {
        let names = (0..self.words.len()).map(|at| {
            let text = self.text(at)?;
            let name = if text.is_empty() { Ok(String::new()) } else { parse(&text) };
            name.map_err(|reason| Refusal::Value { value: text, reason })
        });
        names.collect()
    }

    /// The number of a slot of the custom parameters, and its value.
    pub(super) fn custom_parameter(&self) -> Result<Vec<(u8, ComplexValue)>, Refusal> {
        let slot = self.number(1, 20)?;
        let slot = u8::try_from(slot).unwrap_or_default();
        Ok(vec![(slot, self.complex_value_at(1)?)])
    }

    /// A header's name and a value that may hold variables; a single `""` is the empty list.
    pub(super) fn header_and_complex_value(&self) -> Result<Vec<(String, ComplexValue)>, Refusal> {
        match self.words.len() {
            1 if self.text(0)?.is_empty() => Ok(Vec::new()),
            1 => Err(Refusal::Other("needs a header name and its value".to_owned())),
            _ => Ok(vec![(self.parse(header_name)?, self.complex_value_at(1)?)]),
        }
    }

    /// True where at least one of the words, evaluated, is neither empty nor `0`.
    pub(super) fn condition(&self) -> Result<Condition, Refusal> {
        self.condition_from(0)
    }

    fn condition_from(&self, first: usize) -> Result<Condition, Refusal> {
        let values = (first..self.words.len()).map(|at| self.complex_value_at(at));
        Ok(Condition(values.collect::<Result<_, _>>()?))
    }

    /// A named location, such as `@block`, without its `@`; empty for `off`.
    pub(super) fn named_location(&self) -> Result<String, Refusal> {
        self.parse(|text| match text {
            "off" => Ok(String::new()),
            _ => named_location(text).ok_or_else(|| {
                "it must be \"off\" or a named location of this server, such as \"@block\""
                    .to_owned()
            }),
        })
    }

    /// A named location, and the condition under which it is gone to.
    pub(super) fn handler(&self) -> Result<Handler, Refusal> {
        let location = self.named_location()?;
        let condition = (self.words.len() > 1).then(|| self.condition_from(1)).transpose()?;
        Ok(Handler { location, condition })
    }

    /// A named location, or a URI of this server.
    pub(super) fn target(&self) -> Result<Target, Refusal> {
        self.parse(|text| match named_location(text) {
            Some(name) => Ok(Target::Named(name)),
            None if text.starts_with('/') => Ok(Target::Uri(text.to_owned())),
            None => Err("it must be a named location such as \"@block\" or a URI such as \
                         \"/block.html\""
                .to_owned()),
        })
    }

    /// A named location, or a URL that may hold variables.
    pub(super) fn block_url(&self) -> Result<Target, Refusal> {
        let text = self.text(0)?;
        if text.starts_with('@') {
            return self.named_location().map(Target::Named);
        }
        let is_url = text.is_empty()
            || ["/", "http://", "https://", "$"].iter().any(|start| text.starts_with(start));
        if !is_url {
            return Err(Refusal::Value {
                value: text,
                reason: "it must be a path such as \"/block.html\", a named location such as \
                         \"@block\" or a URL such as \"https://www.example.com/block.html\""
                    .to_owned(),
            });
        }
        self.complex_value().map(Target::Value)
    }

    /// `http://host:port` of a proxy.
    pub(super) fn proxy_url(&self) -> Result<BaseUrl, Refusal> {
        let url = self.parse(|text| {
            let url = BaseUrl::parse(text)?;
            if url.tls || !url.path.is_empty() {
                return Err("it must look like \"http://host:port\"".to_owned());
            }
            Ok(url)
        })?;
        self.warn("is for activities and telemetry: nginx sends no Risk API call through a proxy");
        Ok(url)
    }

    pub(super) fn complex_value_at(&self, at: usize) -> Result<ComplexValue, Refusal> {
        let word = self.words.get(at).ok_or(Refusal::Logged)?;
        // SAFETY: `cf` is live for the call, the word lives in its pool and is only read.
        unsafe { ComplexValue::compile(self.cf, ptr::from_ref(word).cast_mut()) }
            .ok_or(Refusal::Logged)
    }

    /// The text behind the first `skip` bytes of a word.
    fn complex_value_in(&self, at: usize, skip: usize) -> Result<ComplexValue, Refusal> {
        let word = self.words.get(at).ok_or(Refusal::Logged)?;
        let len = word.len.checked_sub(skip).ok_or(Refusal::Logged)?;
        // SAFETY: the word has that many bytes.
        let mut text = ngx_str_t { len, data: unsafe { word.data.add(skip) } };
        // SAFETY: `cf` is live for the call, the bytes live in its pool and are only read.
        unsafe { ComplexValue::compile(self.cf, &raw mut text) }.ok_or(Refusal::Logged)
    }

    /// A secret's text; never repeated in a message.
    pub(super) fn secret(&self, at: usize) -> Result<Secret, Refusal> {
        let text = self.text(at)?;
        if text.is_empty() {
            return Err(Refusal::Other("holds an empty secret".to_owned()));
        }
        if text.bytes().any(|b| b.is_ascii_control()) {
            return Err(Refusal::Other("holds a secret with a control character".to_owned()));
        }
        Ok(Secret::new(text))
    }

    /// `Basic …`, as the proxy is sent it: user and password in base64.
    pub(super) fn basic_authorization(&self) -> Result<Secret, Refusal> {
        basic_credentials(&self.secret(0)?)
    }

    pub(super) fn basic_authorization_file(&self) -> Result<Secret, Refusal> {
        basic_credentials(&self.secret_file()?)
    }

    pub(super) fn secrets(&self) -> Result<Vec<Secret>, Refusal> {
        (0..self.words.len()).map(|at| self.secret(at)).collect()
    }

    /// Login endpoints of a JSON file, whose path is relative to nginx's prefix.
    pub(super) fn login_endpoints_file(&self) -> Result<Vec<Endpoint>, Refusal> {
        if self.text(0)?.is_empty() {
            return Ok(Vec::new());
        }
        let path = self.path_in(Prefix::Nginx)?;
        let text = fs::read_to_string(&path)
            .map_err(|err| Refusal::Other(format!("cannot read \"{path}\": {err}")))?;
        Endpoint::all_of_file(&text)
            .map_err(|reason| Refusal::Other(format!("names \"{path}\", where {reason}")))
    }

    /// One login endpoint as `key=value` words; those of `user`, `pass` and `login_successful` may
    /// hold variables. A single `""` is the empty list.
    pub(super) fn login_endpoint(&self) -> Result<Vec<(Endpoint, EndpointExpressions)>, Refusal> {
        let texts = self.texts()?;
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let words: Vec<&str> = texts.iter().map(String::as_str).collect();
        let endpoint = Endpoint::of_words(&words).map_err(Refusal::Other)?;
        let value_of = |key: &str| {
            let at = texts.iter().position(|word| word.split('=').next() == Some(key));
            at.map(|at| self.complex_value_in(at, key.len() + 1)).transpose()
        };
        let expressions = EndpointExpressions {
            user: value_of("user")?,
            pass: value_of("pass")?,
            successful: value_of("login_successful")?,
        };
        Ok(vec![(endpoint, expressions)])
    }

    pub(super) fn protocol(&self) -> Result<Protocol, Refusal> {
        self.parse(|text| {
            Protocol::parse(text).ok_or_else(|| {
                "it must be \"v1\", \"v2\", \"multistep_sso\" or \"both\"".to_owned()
            })
        })
    }

    pub(super) fn login_method(&self) -> Result<LoginMethod, Refusal> {
        self.parse(|text| {
            LoginMethod::parse(text).ok_or_else(|| {
                "it must be \"none\", \"status\", \"header\", \"body\" or \"custom\"".to_owned()
            })
        })
    }

    pub(super) fn optional_cookie_name(&self) -> Result<String, Refusal> {
        self.parse(cookie_name)
    }

    /// A field's name and a value that may hold variables; a single `""` is the empty list.
    pub(super) fn name_and_complex_value(&self) -> Result<Vec<(String, ComplexValue)>, Refusal> {
        let name = self.text(0)?;
        match (self.words.len(), name.is_empty()) {
            (1, true) => Ok(Vec::new()),
            (1, false) => Err(Refusal::Other("needs a field name and its value".to_owned())),
            (_, true) => Err(Refusal::Other("has an empty field name".to_owned())),
            (_, false) => Ok(vec![(name, self.complex_value_at(1)?)]),
        }
    }

    /// Bytes, in nginx's notation.
    pub(super) fn size(&self, min: usize, max: usize) -> Result<usize, Refusal> {
        self.parse(|text| {
            let size = nginx_size(text).and_then(|size| usize::try_from(size).ok());
            size.filter(|size| (min..=max).contains(size)).ok_or_else(|| {
                format!("it must be a size from {min} to {}m, such as \"64k\"", max >> 20)
            })
        })
    }

    /// The path in the first word, relative to the directory of nginx.conf.
    fn path(&self) -> Result<String, Refusal> {
        self.path_in(Prefix::Configuration)
    }

    fn path_in(&self, prefix: Prefix) -> Result<String, Refusal> {
        let word = self.words.first().copied().ok_or(Refusal::Logged)?;
        // nginx appends a terminating null and rewrites the string; it must not be our own word.
        let mut name = word;
        // SAFETY: `cf` is live for the call.
        let cycle = unsafe { (*self.cf).cycle };
        let of_configuration = ngx_uint_t::from(matches!(prefix, Prefix::Configuration));
        // SAFETY: the cycle is live while configuration is read.
        let rc = unsafe { ngx_conf_full_name(cycle, &raw mut name, of_configuration) };
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
    pub(super) fn secret_file(&self) -> Result<Secret, Refusal> {
        let lines = self.secret_lines()?;
        match <[Secret; 1]>::try_from(lines) {
            Ok([secret]) => Ok(secret),
            Err(_) => Err(Refusal::Other("names a file that holds more than one line".to_owned())),
        }
    }

    /// One secret a line: current, previous.
    pub(super) fn secret_lines(&self) -> Result<Vec<Secret>, Refusal> {
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
    pub(super) fn certificate_bundle(&self) -> Result<String, Refusal> {
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

/// What a relative path is relative to.
#[derive(Clone, Copy)]
enum Prefix {
    /// The directory of nginx.conf.
    Configuration,
    Nginx,
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
pub(super) fn header_name(text: &str) -> Result<String, String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.bytes().all(token) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("it must be a header name".to_owned())
    }
}

/// A file extension with its leading dot.
pub(super) fn extension(text: &str) -> Result<String, String> {
    if text.contains('/') || text == "." {
        return Err("it must be a file extension such as \".css\"".to_owned());
    }
    Ok(if text.starts_with('.') { text.to_owned() } else { format!(".{text}") })
}

/// A request method in upper case.
pub(super) fn http_method(text: &str) -> Result<String, String> {
    if text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-' || b == b'_') {
        Ok(text.to_ascii_uppercase())
    } else {
        Err("it must be a request method".to_owned())
    }
}

/// The name of a named location without its `@`.
fn named_location(text: &str) -> Option<String> {
    let name = text.strip_prefix('@')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!name.is_empty() && name.bytes().all(plain)).then(|| name.to_owned())
}

/// A path, as it stands in a URL.
pub(super) fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && !text.contains(['?', '#']) {
        Ok(text.to_owned())
    } else {
        Err("it must be a path such as \"/mcp\"".to_owned())
    }
}

/// A path as browsers send it, which normalising leaves as it is.
fn url_path(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@%/".contains(&byte);
    let is_normal = |segment: &str| !matches!(segment, "" | "." | "..");
    match text.strip_prefix('/') {
        Some(rest) if rest.split('/').all(is_normal) && rest.bytes().all(is_plain) => {
            Ok(text.to_owned())
        }
        _ => Err(
            "it must be a path such as \"/botdefense\", without \"?\", \"#\", \"//\" and spaces"
                .to_owned(),
        ),
    }
}

/// A response's status.
pub(super) fn status_code(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let status = digits.then(|| text.parse().ok()).flatten();
    status
        .filter(|status| (100..=599).contains(status))
        .ok_or_else(|| "it must be a status from 100 to 599".to_owned())
}

/// A type of GraphQL operations.
pub(super) fn operation_type(text: &str) -> Result<String, String> {
    match text {
        "query" | "mutation" | "subscription" => Ok(text.to_owned()),
        _ => Err("it must be \"query\", \"mutation\" or \"subscription\"".to_owned()),
    }
}

/// A cookie's name.
pub(super) fn cookie_name(text: &str) -> Result<String, String> {
    let is_fit = |byte: u8| byte > b' ' && byte != 0x7f && !b"=;,".contains(&byte);
    if text.bytes().all(is_fit) {
        Ok(text.to_owned())
    } else {
        Err("it must be the name of a cookie".to_owned())
    }
}

/// `user:password` of an authorization.
fn basic_credentials(value: &Secret) -> Result<Secret, Refusal> {
    let encoded = value.expose().strip_prefix("Basic ");
    let decoded = encoded.and_then(|text| BASE64.decode(text.trim()).ok());
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let credentials = text.filter(|text| text.contains(':'));
    credentials
        .map(Secret::new)
        .ok_or_else(|| Refusal::Other("must be \"Basic \" and user:password in base64".to_owned()))
}
