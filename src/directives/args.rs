//! The words after a directive's name, read as one type or another.

use std::ptr;

use nginx_sys::{ngx_conf_t, ngx_parse_size, ngx_parse_time, ngx_str_t};
use px_core::base_url::BaseUrl;
use px_core::credentials::{Endpoint, LoginMethod, Protocol};
use px_core::metrics::Format;
use px_core::policy::{Secret, TokenVersion};
use px_core::reason::ModuleMode;

use super::Refusal;
use super::words::{
    basic_credentials, cookie_name, header_name, named_location, nginx_size, nginx_time, url_path,
};
use crate::complex_value::ComplexValue;
use crate::ffi;
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

    pub(super) fn secrets(&self) -> Result<Vec<Secret>, Refusal> {
        (0..self.words.len()).map(|at| self.secret(at)).collect()
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
}
