//! What the operator typed at one level of the configuration, and how levels merge.
//!
//! A field is `None` where the level does not set it. Scalars inherit; a list that is set at a
//! level replaces the inherited one, as nginx's own array directives do (options.md § 1).

use px_core::base_url::BaseUrl;
use px_core::filter::Network;
use px_core::metrics::Format;
use px_core::policy::{Options, Secret, TokenVersion};
use px_core::reason::ModuleMode;
use px_core::routes::{RegexPattern, RoutePattern};

use crate::complex_value::ComplexValue;
use crate::{spool, token_cache};

macro_rules! values {
    ($($(#[$meta:meta])* $field:ident: $type:ty,)*) => {
        /// One level's directives, as typed; field names are the directives' without `px_`.
        #[derive(Clone, Default)]
        pub(crate) struct Values {
            $($(#[$meta])* pub(crate) $field: Option<$type>,)*
        }

        impl Values {
            /// True if this level sets nothing at all.
            pub(crate) fn is_empty(&self) -> bool {
                true $(&& self.$field.is_none())*
            }

            /// Takes over from the outer level what this one does not set.
            pub(crate) fn inherit(&mut self, outer: &Self) {
                $(if self.$field.is_none() { self.$field.clone_from(&outer.$field); })*
            }
        }
    };
}

values! {
    enabled: bool,
    app_id: String,
    auth_token: Secret,
    cookie_secret: Vec<Secret>,
    cookie_secret_old: Secret,
    active_header_name: String,
    module_mode: ModuleMode,
    blocking_score: u32,
    bypass_monitor_header: String,
    debug: bool,
    url_decode_reserved_characters: bool,

    enabled_routes: Vec<RoutePattern>,
    monitored_routes: Vec<RoutePattern>,
    enforced_routes: Vec<RoutePattern>,
    enforced_routes_exclusive: bool,
    sensitive_routes: Vec<RoutePattern>,
    sensitive_routes_prefix: Vec<String>,
    sensitive_routes_suffix: Vec<String>,
    sensitive_routes_regex: Vec<RegexPattern>,

    filter_strict: bool,
    filter_by_extension: Vec<String>,
    filter_by_route: Vec<RoutePattern>,
    whitelist_uri_full: Vec<String>,
    whitelist_uri_prefixes: Vec<String>,
    whitelist_uri_suffixes: Vec<String>,
    whitelist_uri_pattern: Vec<RegexPattern>,
    filter_by_http_method: Vec<String>,
    filter_by_user_agent: Vec<RoutePattern>,
    whitelist_ua_full: Vec<String>,
    whitelist_ua_sub: Vec<String>,
    filter_by_ip: Vec<Network>,
    filter_by_domain: Vec<RegexPattern>,
    whitelist_hosts: Vec<String>,
    filter_by_header: Vec<(String, String)>,

    ip_headers: Vec<String>,
    sensitive_headers: Vec<String>,
    custom_cookie_header: String,

    token_version: TokenVersion,
    risk_cookie_max_length: usize,
    risk_cookie_min_iterations: u32,
    risk_cookie_max_iterations: u32,
    user_agent_max_length: usize,
    forged_cookie_budget: u32,
    token_cache: token_cache::Setting,

    enable_json_response: bool,
    custom_logo: ComplexValue,
    css_ref: ComplexValue,
    js_ref: ComplexValue,
    client_host: BaseUrl,
    captcha_script_host: BaseUrl,
    secured_pxhd_enabled: bool,
    data_enrichment_header_name: String,
    /// Off: the data enrichment header is not set, whatever its name.
    enable_pxde: bool,
    /// Accepted for the closed module's sake; without effect.
    variables_enabled: bool,

    send_async_activities_enabled: bool,
    compression_enabled: bool,
    compression_level: u32,
    max_activity_batch_size: usize,
    /// Milliseconds.
    batch_activities_timeout_ms: u64,
    /// Milliseconds.
    async_timeout: u64,
    /// `Some(None)`: switched off.
    activity_spool: Option<spool::Setting>,

    /// Milliseconds.
    s2s_timeout: u64,
    max_errors_threshold: u32,
    /// Milliseconds.
    errors_count_interval: u64,
    backend_url: BaseUrl,
    backend_collector_url: BaseUrl,
    ssl_verify: bool,
    ssl_verify_depth: u32,
    ssl_trusted_certificate: String,

    /// Of one location; never inherited, because merging takes it out.
    status: Format,
}

/// Copies fields that have the same name and type here and in the core's options.
macro_rules! take {
    ($from:expr, $into:expr; $($field:ident)*) => {
        $(if let Some(value) = &$from.$field { $into.$field = value.clone(); })*
    };
}

impl Values {
    /// Whether a request could be handled under these values at all: switched on, or a request
    /// header may switch it on (flow.md § 2).
    pub(crate) fn may_be_active(&self) -> bool {
        self.enabled.unwrap_or(false)
            || self.active_header_name.as_ref().is_some_and(|name| !name.is_empty())
    }

    /// Whether this level says something about the backends' certificates.
    pub(crate) fn sets_tls(&self) -> bool {
        self.ssl_verify.is_some()
            || self.ssl_verify_depth.is_some()
            || self.ssl_trusted_certificate.is_some()
    }

    /// The secrets in order: current, previous.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        let listed = self.cookie_secret.iter().flatten();
        listed.chain(&self.cookie_secret_old).take(2).cloned().collect()
    }

    /// The core's view of these values, its defaults where nothing is set.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options {
            enabled: self.enabled.unwrap_or(false),
            cookie_secrets: self.secrets(),
            module_version: crate::MODULE_VERSION.to_owned(),
            ..Options::default()
        };
        take! { self, options;
            app_id auth_token active_header_name module_mode blocking_score bypass_monitor_header
            url_decode_reserved_characters
            enabled_routes monitored_routes enforced_routes enforced_routes_exclusive
            sensitive_routes sensitive_routes_prefix sensitive_routes_suffix sensitive_routes_regex
            filter_strict filter_by_extension filter_by_route whitelist_uri_full
            whitelist_uri_prefixes whitelist_uri_suffixes whitelist_uri_pattern
            filter_by_http_method filter_by_user_agent whitelist_ua_full whitelist_ua_sub
            filter_by_ip filter_by_domain whitelist_hosts filter_by_header
            ip_headers sensitive_headers custom_cookie_header
            token_version risk_cookie_max_length risk_cookie_min_iterations
            risk_cookie_max_iterations user_agent_max_length forged_cookie_budget
            enable_json_response secured_pxhd_enabled data_enrichment_header_name
        }
        if self.enable_pxde == Some(false) {
            options.data_enrichment_header_name.clear();
        }
        if let Some(flag) = self.send_async_activities_enabled {
            options.send_async_activities = flag;
        }
        if let Some(url) = &self.client_host {
            options.backend_client_url = url.to_string();
        }
        if let Some(url) = &self.captcha_script_host {
            options.backend_captcha_url = url.to_string();
        }
        if let Some(url) = &self.backend_url {
            options.backend_url = url.to_string();
        }
        if let Some(url) = &self.backend_collector_url {
            options.backend_collector_url = url.to_string();
        }
        if let Some(timeout) = self.s2s_timeout {
            options.s2s_timeout_ms = timeout;
        }
        options
    }
}
