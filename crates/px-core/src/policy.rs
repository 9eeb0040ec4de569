//! What requests are judged by: the operator's choices ([`Options`], after merge and defaults) and
//! what is derived from them once, at configuration time ([`Policy`]).
//!
//! Source: options.md, flow.md §§ 2 and 5, DECISIONS 1 to 11.

mod options;

pub use options::{CredentialsOptions, FirstPartyOptions, Options, TokenVersion};

use std::fmt;

use serde_json::{Map, Value};

use crate::additional_s2s::{ACTIVITY_HEADER, ACTIVITY_URL_HEADER};
use crate::crypto::Secrets;
use crate::endpoints::Endpoints;
use crate::extracted::Extraction;
use crate::filter::Filters;
use crate::first_party::Paths;
use crate::hooks::Hooks;
use crate::log_records::LOG_HEADER;
use crate::reason::ModuleMode;
use crate::remote_config::Document;
use crate::request::Request;
use crate::routes::{RoutePattern, Routes, Suffixes};
use crate::url::RequestUrl;

/// A text that must never reach a log, a dump or a debug print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one computation or header that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Options that cannot work, found when a [`Policy`] is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// A required option is empty. `option` is its directive's name without `px_`.
    Missing { option: &'static str },
    /// An option's value makes no sense; `reason` is a phrase for the operator.
    Invalid { option: &'static str, reason: String },
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { option } => write!(f, "\"px_{option}\" is required"),
            Self::Invalid { option, reason } => write!(f, "invalid \"px_{option}\": {reason}"),
        }
    }
}

impl std::error::Error for PolicyError {}

/// Everything one location judges requests by: the options and what is derived from them once.
#[derive(Debug)]
pub struct Policy {
    options: Options,
    secrets: Secrets,
    remote_config_secret: Secrets,
    remote: Option<Box<Remote>>,
    authorization: Secret,
    endpoints: Endpoints,
    first_party: Paths,
    filters: Filters,
    extraction: Extraction,
    enabled_routes: Routes,
    monitored_routes: Routes,
    enforced_routes: Routes,
    sensitive_routes: Routes,
    sensitive_suffixes: Suffixes,
}

/// What a policy came to be from under a remote configuration.
#[derive(Debug)]
struct Remote {
    own: Options,
    document: Document,
}

/// Request header that tells the origin whether the request would be blocked (options.md § 6).
pub(crate) const BLOCK_RESULT_HEADER: &str = "px-ctx";

impl Policy {
    /// Checks `options` and derives what requests need.
    pub fn compile(options: Options) -> Result<Self, PolicyError> {
        check(&options)?;
        Ok(Self {
            secrets: Secrets::new(&options.cookie_secrets),
            remote_config_secret: Secrets::new(std::slice::from_ref(
                &options.remote_config_auth_token,
            )),
            remote: None,
            authorization: Secret::new(format!("Bearer {}", options.auth_token.expose())),
            endpoints: Endpoints::new(&options)?,
            first_party: Paths::new(&options),
            filters: Filters::new(&options)?,
            extraction: Extraction::new(&options)?,
            enabled_routes: routes("enabled_routes", &options.enabled_routes)?,
            monitored_routes: routes("monitored_routes", &options.monitored_routes)?,
            enforced_routes: routes("enforced_routes", &options.enforced_routes)?,
            sensitive_routes: routes("sensitive_routes", &sensitive_routes(&options))?,
            sensitive_suffixes: Suffixes::new(
                options.sensitive_routes_suffix.iter().map(String::as_str),
            ),
            options,
        })
    }

    /// The policy of the operator's options under a remote configuration, and what of that was not
    /// heard, for the log.
    pub fn under(own: &Options, document: Document) -> Result<(Self, Vec<String>), PolicyError> {
        let (options, unheard) = document.over(own);
        let mut policy = Self::compile(options)?;
        policy.remote = Some(Box::new(Remote { own: own.clone(), document }));
        Ok((policy, unheard))
    }

    /// What the operator configured, without any remote configuration.
    pub fn own_options(&self) -> &Options {
        self.remote.as_ref().map_or(&self.options, |remote| &remote.own)
    }

    /// The values of the remote configuration in effect.
    pub(crate) fn remote_values(&self) -> Map<String, Value> {
        self.remote.as_ref().map(|remote| remote.document.values()).unwrap_or_default()
    }

    /// A text of block pages that the remote configuration sets: `px_custom_logo`, `px_css_ref` or
    /// `px_js_ref`.
    pub fn remote_text(&self, name: &str) -> Option<&str> {
        self.remote.as_ref()?.document.text(name)
    }

    /// The token of remote configuration, prepared for the HMAC of notifications.
    pub(crate) fn remote_config_secret(&self) -> &Secrets {
        &self.remote_config_secret
    }

    /// The options this policy was compiled from.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The cookie secrets, prepared for the HMACs and key derivations of tokens.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Value of the `Authorization` header of every call to the backends: `Bearer <auth token>`.
    /// As secret as the token.
    pub fn authorization(&self) -> &str {
        self.authorization.expose()
    }

    /// Absolute URL the Risk API request is posted to (risk-api.md § 2).
    pub fn risk_url(&self) -> &str {
        &self.endpoints.risk
    }

    /// Absolute URL activities are posted to (activities.md § 2).
    pub fn activities_url(&self) -> &str {
        &self.endpoints.activities
    }

    /// Absolute URL telemetry is posted to (remote-config-and-telemetry.md § 2).
    pub fn telemetry_url(&self) -> &str {
        &self.endpoints.telemetry
    }

    /// Absolute URL that remote configurations are fetched from (remote-config-and-telemetry.md § 3).
    pub fn remote_config_url(&self) -> String {
        format!("{}/config/", self.endpoints.backend)
    }

    /// Absolute URL that log records are posted to (remote-config-and-telemetry.md § 5).
    pub fn logs_url(&self) -> String {
        format!("{}/enforcer-logs/", self.endpoints.backend)
    }

    /// Absolute URL of the sensor script (first-party.md § 2).
    pub fn sensor_script_url(&self) -> &str {
        &self.endpoints.sensor_script
    }

    /// Names of the request headers that only the module may set for the origin, and of that whose value
    /// is no origin's business. A client's own must be removed from every request, enforced or not (flow.md § 8).
    pub fn owned_headers(&self) -> impl Iterator<Item = &str> {
        let options = &self.options;
        let block_result = if options.add_block_result_header { BLOCK_RESULT_HEADER } else { "" };
        let of_logins = match self.extraction.owns_headers() {
            true => {
                [&*options.credentials.compromised_header, ACTIVITY_HEADER, ACTIVITY_URL_HEADER]
            }
            false => [""; 3],
        };
        let log_token = match options.logger_auth_token.expose().is_empty() {
            true => "",
            false => LOG_HEADER,
        };
        let names: [&str; 5] = [
            log_token,
            &options.data_enrichment_header_name,
            &options.upstream_score_header_name,
            &options.identifier_header_name,
            block_result,
        ];
        names.into_iter().chain(of_logins).filter(|name| !name.is_empty())
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    pub(crate) fn first_party(&self) -> &Paths {
        &self.first_party
    }

    pub(crate) fn extraction(&self) -> &Extraction {
        &self.extraction
    }

    pub(crate) fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Whether anything at all is done for `request` (flow.md § 2): the switch, or a request header
    /// that stands in for it, and the operator's own condition.
    pub fn is_active_for(&self, request: &Request<'_>) -> bool {
        let Options { enabled, active_header_name, .. } = &self.options;
        (*enabled || has_header_with_one(request, active_header_name)) && !request.hooks.is_disabled
    }

    /// Whether requests for `url` are handled: not outside the enabled routes, and with blocking on
    /// not outside the enforced routes (DECISIONS 6).
    pub(crate) fn handles(&self, url: &RequestUrl<'_>, hooks: &Hooks<'_>) -> bool {
        let only_enforced = self.options.module_mode == ModuleMode::ActiveBlocking
            && self.options.enforced_routes_exclusive
            && !hooks.is_enforced
            && !self.enforced_routes.is_empty();
        (self.enabled_routes.is_empty() || self.may_be_in(&self.enabled_routes, url))
            && (!only_enforced || self.may_be_in(&self.enforced_routes, url))
    }

    /// Whether a block verdict on `request` for `url` blocks, or is only reported (flow.md § 5).
    pub(crate) fn mode_for(&self, request: &Request<'_>, url: &RequestUrl<'_>) -> ModuleMode {
        let would_be_monitored = self.options.module_mode == ModuleMode::Monitor
            || request.hooks.is_monitored
            || self.monitored_routes.matches(url.path());
        if would_be_monitored
            && !request.hooks.is_enforced
            && !self.may_be_in(&self.enforced_routes, url)
            && !has_header_with_one(request, &self.options.bypass_monitor_header)
        {
            ModuleMode::Monitor
        } else {
            ModuleMode::ActiveBlocking
        }
    }

    /// Whether the Risk API is asked about a request for `url` even if the token is good.
    pub(crate) fn is_sensitive(&self, url: &RequestUrl<'_>, hooks: &Hooks<'_>) -> bool {
        let suffixes = &self.sensitive_suffixes;
        hooks.is_sensitive
            || self.may_be_in(&self.sensitive_routes, url)
            || suffixes.matches(url.path())
            || (self.options.filter_strict && url.has_reading(|path| suffixes.matches(path)))
    }

    /// Whether `url` is on one of these routes, or is to an origin: nobody gets around a rule that
    /// makes the module stricter by writing the path otherwise (DECISIONS 8).
    fn may_be_in(&self, routes: &Routes, url: &RequestUrl<'_>) -> bool {
        routes.matches(url.path())
            || (self.options.filter_strict
                && !routes.is_empty()
                && url.has_reading(|path| routes.matches(path)))
    }

    /// Whether the header `name` (any case) must not be reported.
    pub(crate) fn is_sensitive_header(&self, name: &[u8]) -> bool {
        let mut sensitive = self.options.sensitive_headers.iter();
        let is = |listed: &str| listed.as_bytes().eq_ignore_ascii_case(name);
        sensitive.any(|listed| is(listed))
            || (!self.options.logger_auth_token.expose().is_empty() && is(LOG_HEADER))
    }
}

fn check(options: &Options) -> Result<(), PolicyError> {
    let missing = |option| Err(PolicyError::Missing { option });
    let invalid =
        |option, reason: &str| Err(PolicyError::Invalid { option, reason: reason.to_owned() });
    // The id becomes part of host names, paths and scripts.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_header_text = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if options.app_id.is_empty() {
        return missing("app_id");
    }
    if options.app_id.len() < 3 || !options.app_id.bytes().all(is_plain) {
        return invalid("app_id", "it must be letters and digits like \"PXabcd1234\"");
    }
    if options.auth_token.expose().is_empty() {
        return missing("auth_token");
    }
    if !is_header_text(options.auth_token.expose()) {
        return invalid("auth_token", "it holds a character that no header may hold");
    }
    if options.cookie_secrets.iter().all(|secret| secret.expose().is_empty()) {
        return missing("cookie_secret");
    }
    if options.blocking_score > 100 {
        return invalid("blocking_score", "it must be from 0 to 100");
    }
    if options.risk_cookie_min_iterations > options.risk_cookie_max_iterations {
        let reason = "it must not be above \"px_risk_cookie_max_iterations\"";
        return invalid("risk_cookie_min_iterations", reason);
    }
    Ok(())
}

fn routes(option: &'static str, patterns: &[RoutePattern]) -> Result<Routes, PolicyError> {
    Routes::new(patterns).map_err(|reason| PolicyError::Invalid { option, reason })
}

fn sensitive_routes(options: &Options) -> Vec<RoutePattern> {
    let prefixes = options.sensitive_routes_prefix.iter().cloned().map(RoutePattern::Prefix);
    let expressions = options.sensitive_routes_regex.iter().cloned().map(RoutePattern::Regex);
    options.sensitive_routes.iter().cloned().chain(prefixes).chain(expressions).collect()
}

/// Whether the first header `name` has the value `1`; an empty name names no header.
fn has_header_with_one(request: &Request<'_>, name: &str) -> bool {
    !name.is_empty() && request.header(name) == Some(b"1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, headers};

    fn prefix(text: &str) -> Vec<RoutePattern> {
        vec![RoutePattern::Prefix(text.to_owned())]
    }

    fn url(target: &str) -> RequestUrl<'_> {
        RequestUrl::new(&Request { target: target.as_bytes(), ..sample::request(&[]) }, false)
    }

    #[test]
    fn a_path_written_otherwise_is_no_way_around_a_stricter_rule() {
        for strict in [true, false] {
            let policy = sample::policy(|options| {
                options.filter_strict = strict;
                options.module_mode = ModuleMode::Monitor;
                options.enabled_routes = prefix("/on");
                options.enforced_routes = prefix("/on/enforced");
                options.sensitive_routes_suffix = vec!["/login".to_owned()];
            });
            let request = sample::request(&[]);
            for path in ["/%6fn/%65nforced/login;x", "/on%2fenforced%2flogin%3by"] {
                let url = url(path);
                assert_eq!(
                    policy.handles(&url, &Hooks::NONE),
                    strict || path.starts_with("/on"),
                    "{path}"
                );
                let enforced = policy.mode_for(&request, &url) == ModuleMode::ActiveBlocking;
                assert_eq!(enforced, strict, "{path}");
                assert_eq!(policy.is_sensitive(&url, &Hooks::NONE), strict, "{path}");
            }
            // Less strict it makes nobody.
            let policy = sample::policy(|options| {
                options.filter_strict = strict;
                options.module_mode = ModuleMode::ActiveBlocking;
                options.monitored_routes = prefix("/m");
            });
            assert_eq!(policy.mode_for(&request, &url("/%6d")), ModuleMode::ActiveBlocking);
        }
    }

    #[test]
    fn options_that_cannot_work_are_refused_by_name() {
        type Change = fn(&mut Options);
        let cases: [(Change, &str); 8] = [
            (|o| o.app_id.clear(), "\"px_app_id\" is required"),
            (
                |o| o.app_id = "PX a/b".to_owned(),
                "invalid \"px_app_id\": it must be letters and digits like \"PXabcd1234\"",
            ),
            (|o| o.auth_token = Secret::default(), "\"px_auth_token\" is required"),
            (
                |o| o.auth_token = Secret::new("a\r\nb".to_owned()),
                "invalid \"px_auth_token\": it holds a character that no header may hold",
            ),
            (|o| o.cookie_secrets = vec![Secret::default()], "\"px_cookie_secret\" is required"),
            (|o| o.blocking_score = 101, "invalid \"px_blocking_score\": it must be from 0 to 100"),
            (
                |o| o.risk_cookie_min_iterations = 5001,
                "invalid \"px_risk_cookie_min_iterations\": it must not be above \
                 \"px_risk_cookie_max_iterations\"",
            ),
            (
                |o| o.backend_url = "sapi".to_owned(),
                "invalid \"px_backend_url\": it must look like \"https://host[:port][/path]\"",
            ),
        ];
        for (change, expected) in cases {
            let mut options = sample::policy(|_| ()).options().clone();
            change(&mut options);
            let error = Policy::compile(options).expect_err(expected).to_string();
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let policy = sample::policy(|_| ());
        assert_eq!(policy.authorization(), "Bearer made.up.auth-token_0123456789");
        let printed = format!("{policy:?}");
        assert!(!printed.contains("auth-token") && !printed.contains("made-up-for-tests"));
    }

    #[test]
    fn enforced_routes_serve_both_documents() {
        use ModuleMode::{ActiveBlocking, Monitor};
        // Blocking on: others are not handled. Monitor: they are monitored.
        for (mode, exclusive, path, handled, judged) in [
            (ActiveBlocking, true, "/enforced/x", true, ActiveBlocking),
            (ActiveBlocking, true, "/other", false, ActiveBlocking),
            (ActiveBlocking, false, "/other", true, ActiveBlocking),
            (Monitor, true, "/enforced", true, ActiveBlocking),
            (Monitor, true, "/other", true, Monitor),
        ] {
            let policy = sample::policy(|options| {
                options.module_mode = mode;
                options.enforced_routes_exclusive = exclusive;
                options.enforced_routes = prefix("/enforced");
            });
            assert_eq!(
                policy.handles(&url(path), &Hooks::NONE),
                handled,
                "{mode:?} {exclusive} {path}"
            );
            assert_eq!(policy.mode_for(&sample::request(&[]), &url(path)), judged);
        }
    }

    #[test]
    fn bypass_and_enforced_routes_lift_monitoring() {
        use ModuleMode::{ActiveBlocking, Monitor};
        for (mode, path, header, expected) in [
            (ActiveBlocking, "/m", ("x-px-block", "0"), Monitor),
            (ActiveBlocking, "/m", ("X-PX-Block", "1"), ActiveBlocking),
            (ActiveBlocking, "/m/e", ("x-px-block", "0"), ActiveBlocking),
            (ActiveBlocking, "/x", ("x-px-block", "0"), ActiveBlocking),
            (Monitor, "/x", ("x-px-block", "1"), ActiveBlocking),
            (Monitor, "/x", ("x-px-block", "1, 1"), Monitor),
            (Monitor, "/x", ("x-px-block", ""), Monitor),
            (Monitor, "/x", ("", "1"), Monitor),
        ] {
            let headers = headers(&[header]);
            let request = sample::request(&headers);
            let policy = sample::policy(|options| {
                options.module_mode = mode;
                options.bypass_monitor_header = "x-px-block".to_owned();
                options.monitored_routes = prefix("/m");
                options.enforced_routes = prefix("/m/e");
                options.enforced_routes_exclusive = false;
            });
            assert_eq!(
                policy.mode_for(&request, &url(path)),
                expected,
                "{mode:?} {path} {header:?}"
            );

            // Without a configured name no header bypasses, not even one without a name.
            let nameless = sample::policy(|options| options.module_mode = Monitor);
            assert_eq!(nameless.mode_for(&request, &url(path)), Monitor);
        }
    }

    #[test]
    fn sensitive_routes_have_four_lists() {
        let policy = sample::policy(|options| {
            options.sensitive_routes = vec![RoutePattern::parse("=/exact").expect("valid")];
            options.sensitive_routes_prefix = vec!["/login".to_owned(), "=/odd".to_owned()];
            options.sensitive_routes_suffix = vec!["/download".to_owned()];
            options.sensitive_routes_regex =
                vec![crate::routes::RegexPattern::parse("/\\/enforced\\/regex$/").expect("valid")];
        });
        for (path, sensitive) in [
            ("/exact", true),
            ("/exact/x", false),
            ("/login/now", true),
            ("/a/login", false),
            ("/x/download", true),
            ("/a/enforced/regex", true),
            ("/a/enforced/regex2", false),
            ("/odd", false),
        ] {
            assert_eq!(policy.is_sensitive(&url(path), &Hooks::NONE), sensitive, "{path}");
        }
    }
}
