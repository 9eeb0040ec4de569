//! What the operator typed at one level of the configuration, and how levels merge.
//!
//! A field is `None` where the level does not set it. Scalars inherit; a list that is set at a
//! level replaces the inherited one, as nginx's own array directives do (options.md § 1).

use std::path::PathBuf;

use px_core::base_url::BaseUrl;
use px_core::credentials::{BodyRegex, Endpoint, LoginMethod, Protocol};
use px_core::endpoints;
use px_core::filter::Network;
use px_core::graphql::GraphqlOptions;
use px_core::metrics::Format;
use px_core::policy::{CredentialsOptions, FirstPartyOptions, Options, Secret, TokenVersion};
use px_core::reason::ModuleMode;
use px_core::routes::{RegexPattern, RoutePattern};
use px_core::user_identifiers::UserIdentifierOptions;

use crate::complex_value::ComplexValue;
use crate::conf::FirstPartyBackends;
use crate::first_party_location::CacheSetting;
use crate::hooks::{Condition, Expressions, Handler, Target};
use crate::log::Severity;
use crate::login::{EndpointExpressions, LoginExpressions};
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
    auth_token: Vec<Secret>,
    cookie_secret: Vec<Secret>,
    cookie_secret_old: Secret,
    active_header_name: String,
    module_mode: ModuleMode,
    blocking_score: u32,
    bypass_monitor_header: String,
    logger_severity: Severity,
    debug_probability: u32,
    bot_enforcer: bool,
    enable_server_calls: bool,
    enabled_if: Condition,
    pre_enforce_handler: Condition,
    url_decode_reserved_characters: bool,

    enabled_routes: Vec<RoutePattern>,
    monitored_routes: Vec<RoutePattern>,
    enforced_routes: Vec<RoutePattern>,
    enforced_routes_exclusive: bool,
    sensitive_routes: Vec<RoutePattern>,
    sensitive_routes_prefix: Vec<String>,
    sensitive_routes_suffix: Vec<String>,
    sensitive_routes_regex: Vec<RegexPattern>,
    custom_is_enforced_request: Condition,
    custom_is_monitored_request: Condition,
    custom_is_sensitive_request: Condition,

    custom_is_filtered_request: Condition,
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
    client_ip: ComplexValue,
    anonymize_ip: bool,
    sensitive_headers: Vec<String>,
    /// Off: `cookie` alone is sensitive.
    sensitive_headers_enabled: bool,
    allowed_cookies: Vec<String>,
    custom_cookie_header: String,
    /// Off: as an empty `custom_cookie_header`.
    custom_cookie_header_enabled: bool,
    activity_header: Vec<(String, ComplexValue)>,
    custom_parameters: Vec<String>,
    cookie_custom_parameters: Vec<String>,
    /// By slot, the last of several for one slot counts.
    custom_parameter: Vec<(u8, ComplexValue)>,

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
    custom_block_url: Target,
    redirect_on_custom_url: bool,
    redirect_to_referer: bool,
    api_protection_mode: bool,
    api_protection_block_url: ComplexValue,
    api_protection_default_redirect_url: ComplexValue,
    block_size_exceeded_15k_headers_size: bool,
    custom_block_page_content: ComplexValue,
    custom_web_block_page_response: String,
    custom_create_advanced_blocking_response: String,
    custom_rate_limit_block_page: String,
    custom_verification_handler: Handler,
    client_host: BaseUrl,
    captcha_script_host: BaseUrl,
    secured_pxhd_enabled: bool,
    score_header_enabled: bool,
    score_header_name: String,
    upstream_score_header_name: String,
    identifier_header_name: String,
    add_block_result_header: bool,
    data_enrichment_header_name: String,
    /// Off: the data enrichment header is not set, whatever its name.
    enable_pxde: bool,
    /// Accepted for the closed module's sake; without effect.
    variables_enabled: bool,

    hype_sale: Condition,
    hypesale_host: BaseUrl,
    hype_sale_fail_open: bool,

    first_party_enabled: bool,
    reverse_xhr_enabled: bool,
    custom_first_party_prefix: String,
    custom_first_party_sensor_endpoint: String,
    custom_first_party_xhr_endpoint: String,
    custom_first_party_captcha_endpoint: String,
    /// Milliseconds.
    first_party_timeout_ms: u64,
    /// `Some(None)`: switched off.
    first_party_cache: Option<CacheSetting>,

    code_enforcer: bool,
    csp_enabled: bool,
    /// Milliseconds, as the next.
    csp_no_updates_max_interval: u64,
    csp_policy_refresh_interval: u64,
    csp_data_url: BaseUrl,
    csp_nonce: ComplexValue,

    snippet_provider_enabled: bool,
    /// Milliseconds.
    snippet_provider_cache_ttl: u64,
    snippet_provider_url: BaseUrl,
    create_custom_snippet: ComplexValue,

    remote_config_id: String,
    remote_config_auth_token: Secret,
    remote_config_max_fetch_attempts: u32,
    /// Milliseconds, as the next; 0: only when HUMAN says so.
    remote_config_retry_interval_ms: u64,
    remote_config_refresh_interval: u64,
    /// `Some(None)`: switched off.
    remote_config_cache: Option<PathBuf>,
    initial_telemetry_enabled: bool,
    logger_auth_token: Secret,

    cors_support_enabled: bool,
    cors_preflight_request_filter_enabled: bool,
    cors_custom_preflight_handler: Handler,
    /// Off: as no handler.
    cors_preflight_handler_enabled: bool,
    cors_block_response_header: Vec<(String, ComplexValue)>,
    /// Off: as no headers of the operator's own.
    cors_create_custom_block_response_headers_enabled: bool,

    send_async_activities_enabled: bool,
    deferred_activities: bool,
    additional_activity_handler: Target,
    /// Off: as no handler.
    additional_activity_handler_enabled: bool,
    telemetry_header: String,

    enable_login_creds_extraction: bool,
    /// Of the file; tried before those of the configuration.
    login_creds_settings: Vec<Endpoint>,
    login_credentials_extraction: Vec<(Endpoint, EndpointExpressions)>,
    credentials_intelligence_version: Protocol,
    compromised_credentials_header: String,
    credentials_intelligence_query_string: bool,
    compromised_credentials_returned_status_response: u16,
    login_successful_reporting_method: LoginMethod,
    login_successful_status: Vec<u16>,
    login_successful_header_name: String,
    login_successful_header_value: String,
    login_successful_body_regex: BodyRegex,
    login_successful_custom: ComplexValue,
    send_raw_username_on_additional_s2s_activity: bool,
    automatic_additional_s2s_activity_enabled: bool,
    additional_s2s_activity_header_enabled: bool,

    graphql_enabled: bool,
    graphql_routes: Vec<RoutePattern>,
    graphql_get_enabled: bool,
    custom_is_graphql_route: Condition,
    sensitive_graphql_operation_types: Vec<String>,
    sensitive_graphql_operation_names: Vec<RegexPattern>,
    graphql_keywords: Vec<RegexPattern>,
    extract_graphql_keywords: ComplexValue,

    jwt_cookie_name: String,
    jwt_cookie_user_id_field_name: String,
    jwt_cookie_additional_field_names: Vec<String>,
    jwt_header_name: String,
    jwt_header_user_id_field_name: String,
    jwt_header_additional_field_names: Vec<String>,
    jwt_additional_field: Vec<(String, ComplexValue)>,

    agentic_trust_enabled: bool,
    agentic_trust_mcp_endpoint_path: String,
    /// Bytes.
    max_body_size: usize,

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
    risk_backend: ComplexValue,
    /// Milliseconds.
    enforce_timeout: u64,
    proxy_url: BaseUrl,
    /// `user:password`.
    proxy_authorization: Secret,
    max_errors_threshold: u32,
    /// Milliseconds.
    errors_count_interval: u64,
    backend_url: BaseUrl,
    backend_collector_url: BaseUrl,
    ssl_verify: bool,
    ssl_verify_depth: u32,
    ssl_trusted_certificate: String,

    /// `Some(None)`: switched off.
    wallarm_node_address: Option<BaseUrl>,
    wallarm_blocking: bool,
    /// Milliseconds.
    wallarm_timeout_ms: u64,
    wallarm_fail_open: bool,
    /// Bytes.
    wallarm_max_body_size: usize,
    wallarm_max_inflight: usize,
    wallarm_keepalive: usize,
    wallarm_ssl_verify: bool,
    wallarm_ssl_trusted_certificate: String,
    wallarm_filter_extensions: bool,
    wallarm_if: Condition,

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

    /// The traffic-analysis node that requests are sent to.
    pub(crate) fn node_url(&self) -> Option<&BaseUrl> {
        self.wallarm_node_address.as_ref()?.as_ref()
    }

    /// Whether this level says something about the node's certificate.
    pub(crate) fn sets_node_tls(&self) -> bool {
        self.wallarm_ssl_verify.is_some()
            || self.wallarm_ssl_trusted_certificate.is_some()
            || self.sets_tls()
    }

    /// The secrets in order: current, previous.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        let listed = self.cookie_secret.iter().flatten();
        listed.chain(&self.cookie_secret_old).take(2).cloned().collect()
    }

    /// The token that was in use before the current one, while it is being rotated.
    pub(crate) fn previous_auth_token(&self) -> Option<Secret> {
        self.auth_token.as_ref()?.get(1).cloned()
    }

    /// What is evaluated before a request is judged.
    pub(crate) fn expressions(&self) -> Expressions {
        let switched_on = |switch: Option<bool>| switch != Some(false);
        let preflight_handler = self.cors_custom_preflight_handler.clone();
        Expressions {
            enabled_if: self.enabled_if.clone(),
            is_filtered: self.custom_is_filtered_request.clone(),
            is_enforced: self.custom_is_enforced_request.clone(),
            is_monitored: self.custom_is_monitored_request.clone(),
            is_sensitive: self.custom_is_sensitive_request.clone(),
            is_graphql_route: self.custom_is_graphql_route.clone(),
            is_hype_sale: self.hype_sale.clone(),
            is_blocked: self.pre_enforce_handler.clone(),
            preflight_handler: preflight_handler
                .filter(|handler| !handler.location.is_empty())
                .filter(|_| switched_on(self.cors_preflight_handler_enabled)),
            client_ip: self.client_ip,
            custom_block_url: self.custom_block_url.clone(),
            custom_parameters: self.custom_parameter.clone().unwrap_or_default(),
            activity_headers: self.activity_header.clone().unwrap_or_default(),
            jwt_additional_fields: self.jwt_additional_field.clone().unwrap_or_default(),
        }
    }

    /// Expressions about logins, by the index of their endpoint.
    pub(crate) fn login_expressions(&self) -> LoginExpressions {
        let of_file = self.login_creds_settings.iter().flatten();
        let of_file = of_file.map(|_| EndpointExpressions::default());
        let inline = self.login_credentials_extraction.iter().flatten();
        LoginExpressions {
            endpoints: of_file.chain(inline.map(|(_, expressions)| *expressions)).collect(),
            successful: self.login_successful_custom,
        }
    }

    /// First party as the core sees it.
    fn first_party_options(&self) -> FirstPartyOptions {
        let defaults = FirstPartyOptions::default();
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        FirstPartyOptions {
            enabled: self.first_party_enabled.unwrap_or(defaults.enabled),
            xhr_enabled: self.reverse_xhr_enabled.unwrap_or(defaults.xhr_enabled),
            timeout_ms: self.first_party_timeout_ms.unwrap_or(defaults.timeout_ms),
            prefix: text(&self.custom_first_party_prefix),
            sensor_endpoint: text(&self.custom_first_party_sensor_endpoint),
            xhr_endpoint: text(&self.custom_first_party_xhr_endpoint),
            captcha_endpoint: text(&self.custom_first_party_captcha_endpoint),
        }
    }

    /// Where first-party requests go; `None` where no application is known.
    pub(crate) fn first_party_backends(&self) -> Result<Option<FirstPartyBackends>, String> {
        let or = |url: &Option<BaseUrl>, default: &str| match url {
            Some(url) => Ok(url.clone()),
            None => BaseUrl::parse(default),
        };
        let collector = match (&self.backend_collector_url, &self.app_id) {
            (Some(url), _) => url.clone(),
            (None, Some(app_id)) => BaseUrl::parse(&endpoints::default_collector(app_id))?,
            (None, None) => return Ok(None),
        };
        Ok(Some(FirstPartyBackends {
            client: or(&self.client_host, endpoints::CLIENT)?,
            captcha: or(&self.captcha_script_host, endpoints::CAPTCHA)?,
            collector,
        }))
    }

    /// Credential Intelligence as the core sees it.
    fn credentials_options(&self) -> CredentialsOptions {
        let of_file = self.login_creds_settings.iter().flatten();
        let inline = self.login_credentials_extraction.iter().flatten();
        let inline = inline.map(|(endpoint, _)| endpoint);
        let mut options = CredentialsOptions {
            enabled: self.enable_login_creds_extraction.unwrap_or(false),
            endpoints: of_file.chain(inline).cloned().collect(),
            returned_status: self.compromised_credentials_returned_status_response,
            ..CredentialsOptions::default()
        };
        fn set<T: Clone>(option: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                option.clone_from(value);
            }
        }
        set(&mut options.version, &self.credentials_intelligence_version);
        set(&mut options.compromised_header, &self.compromised_credentials_header);
        set(&mut options.query_string, &self.credentials_intelligence_query_string);
        set(&mut options.login.method, &self.login_successful_reporting_method);
        set(&mut options.login.statuses, &self.login_successful_status);
        set(&mut options.login.header_name, &self.login_successful_header_name);
        set(&mut options.login.header_value, &self.login_successful_header_value);
        options.login.body_regex.clone_from(&self.login_successful_body_regex);
        set(&mut options.send_raw_username, &self.send_raw_username_on_additional_s2s_activity);
        let automatic = &self.automatic_additional_s2s_activity_enabled;
        set(&mut options.automatic_additional_s2s, automatic);
        set(&mut options.additional_s2s_header, &self.additional_s2s_activity_header_enabled);
        options
    }

    /// GraphQL as the core sees it.
    fn graphql_options(&self) -> GraphqlOptions {
        let mut options = GraphqlOptions::default();
        options.enabled = self.graphql_enabled.unwrap_or(options.enabled);
        options.get_enabled = self.graphql_get_enabled.unwrap_or(options.get_enabled);
        if let Some(routes) = &self.graphql_routes {
            options.routes.clone_from(routes);
        }
        options.sensitive_operation_types =
            self.sensitive_graphql_operation_types.clone().unwrap_or_default();
        options.sensitive_operation_names =
            self.sensitive_graphql_operation_names.clone().unwrap_or_default();
        options.keywords = self.graphql_keywords.clone().unwrap_or_default();
        options
    }

    /// Where user identifiers are, as the core sees it.
    fn user_identifier_options(&self) -> UserIdentifierOptions {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let list = |value: &Option<Vec<String>>| value.clone().unwrap_or_default();
        UserIdentifierOptions {
            cookie_name: text(&self.jwt_cookie_name),
            cookie_user_id_field: text(&self.jwt_cookie_user_id_field_name),
            cookie_additional_fields: list(&self.jwt_cookie_additional_field_names),
            header_name: text(&self.jwt_header_name),
            header_user_id_field: text(&self.jwt_header_user_id_field_name),
            header_additional_fields: list(&self.jwt_header_additional_field_names),
        }
    }

    /// The operator's own headers of block answers for scripts, if they are switched on.
    pub(crate) fn cors_headers(&self) -> Option<Vec<(String, ComplexValue)>> {
        let switched_on = self.cors_create_custom_block_response_headers_enabled != Some(false);
        self.cors_block_response_header.clone().filter(|_| switched_on)
    }

    /// Named locations that requests may be sent to, and the directives that name them.
    pub(crate) fn named_locations(&self) -> Vec<(&'static str, &str)> {
        fn of_target(target: &Option<Target>) -> Option<&str> {
            match target {
                Some(Target::Named(name)) => Some(name),
                _ => None,
            }
        }
        fn of_handler(handler: &Option<Handler>) -> Option<&str> {
            handler.as_ref().map(|handler| handler.location.as_str())
        }
        [
            ("px_custom_block_url", of_target(&self.custom_block_url)),
            ("px_custom_web_block_page_response", self.custom_web_block_page_response.as_deref()),
            (
                "px_custom_create_advanced_blocking_response",
                self.custom_create_advanced_blocking_response.as_deref(),
            ),
            ("px_custom_rate_limit_block_page", self.custom_rate_limit_block_page.as_deref()),
            ("px_custom_verification_handler", of_handler(&self.custom_verification_handler)),
            ("px_cors_custom_preflight_handler", of_handler(&self.cors_custom_preflight_handler)),
            ("px_additional_activity_handler", of_target(&self.additional_activity_handler)),
        ]
        .into_iter()
        .filter_map(|(directive, name)| Some((directive, name.filter(|name| !name.is_empty())?)))
        .collect()
    }

    /// The core's view of these values, its defaults where nothing is set.
    pub(crate) fn options(&self) -> Options {
        let mut options = Options {
            enabled: self.enabled.unwrap_or(false),
            cookie_secrets: self.secrets(),
            module_version: crate::MODULE_VERSION.to_owned(),
            first_party: self.first_party_options(),
            credentials: self.credentials_options(),
            graphql: self.graphql_options(),
            user_identifiers: self.user_identifier_options(),
            ..Options::default()
        };
        take! { self, options;
            app_id active_header_name module_mode blocking_score bypass_monitor_header
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
            bot_enforcer enable_server_calls anonymize_ip allowed_cookies
            custom_parameters cookie_custom_parameters
            redirect_on_custom_url redirect_to_referer api_protection_mode
            block_size_exceeded_15k_headers_size
            score_header_enabled score_header_name upstream_score_header_name
            identifier_header_name add_block_result_header
            cors_support_enabled cors_preflight_request_filter_enabled
            telemetry_header max_body_size hype_sale_fail_open logger_severity logger_auth_token
            remote_config_id remote_config_auth_token
        }
        if let Some(token) = self.auth_token.iter().flatten().next() {
            options.auth_token = token.clone();
        }
        if let Some(enabled) = self.agentic_trust_enabled {
            options.agentic_trust.enabled = enabled;
        }
        if let Some(path) = &self.agentic_trust_mcp_endpoint_path {
            options.agentic_trust.mcp_endpoint_path.clone_from(path);
        }
        options.snippet_enabled = self.snippet_provider_enabled.unwrap_or(false);
        options.csp_enabled = self.csp_enabled.or(self.code_enforcer).unwrap_or(false);
        if self.sensitive_headers_enabled == Some(false) {
            options.sensitive_headers = vec!["cookie".to_owned()];
        }
        if self.custom_cookie_header_enabled == Some(false) {
            options.custom_cookie_header.clear();
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
        if let Some(url) = &self.hypesale_host {
            options.hype_sale_host = url.to_string();
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
