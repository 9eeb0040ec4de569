//! The operator's choices, one field per option, and their defaults.
//!
//! Source: options.md, DECISIONS 1 to 11.

use crate::agentic_trust::AgenticTrustOptions;
use crate::credentials::{Endpoint, LoginOptions, Protocol};
use crate::filter::Network;
use crate::graphql::GraphqlOptions;
use crate::policy::Secret;
use crate::reason::{LoggerSeverity, ModuleMode};
use crate::routes::{RegexPattern, RoutePattern};
use crate::user_identifiers::UserIdentifierOptions;

/// Which risk token is read (`px_token_version`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenVersion {
    V2,
    #[default]
    V3,
    /// As `V3`; where `_px3` is absent, the legacy `_px` is read (risk-token.md §§ 1 and 6), and
    /// mobile version `1` with it.
    V3OrV1,
}

/// First-party configuration (first-party.md § 1).
#[derive(Clone, Debug)]
pub struct FirstPartyOptions {
    /// `px_first_party_enabled`: block pages name first-party paths, and the paths are proxied.
    pub enabled: bool,
    /// `px_reverse_xhr_enabled`: the same for what the sensor sends to the collector.
    pub xhr_enabled: bool,
    pub timeout_ms: u64,
    pub prefix: String,
    pub sensor_endpoint: String,
    pub xhr_endpoint: String,
    pub captcha_endpoint: String,
}

impl Default for FirstPartyOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            xhr_enabled: true,
            timeout_ms: 4000,
            prefix: String::new(),
            sensor_endpoint: String::new(),
            xhr_endpoint: String::new(),
            captcha_endpoint: String::new(),
        }
    }
}

/// Credential Intelligence (credential-intelligence.md).
#[derive(Clone, Debug)]
pub struct CredentialsOptions {
    /// `px_enable_login_creds_extraction`
    pub enabled: bool,
    /// In the order in which they are tried.
    pub endpoints: Vec<Endpoint>,
    /// Of endpoints without one of their own.
    pub version: Protocol,
    /// Request header for the origin.
    pub compromised_header: String,
    /// `compromised_credentials=true` is added to the origin's query string.
    pub query_string: bool,
    /// Status for the client of a successful login with compromised credentials.
    pub returned_status: Option<u16>,
    pub login: LoginOptions,
    pub send_raw_username: bool,
    pub automatic_additional_s2s: bool,
    /// The origin sends the report; the module does not.
    pub additional_s2s_header: bool,
}

impl Default for CredentialsOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            endpoints: Vec::new(),
            version: Protocol::V2,
            compromised_header: "px-compromised-credentials".to_owned(),
            query_string: false,
            returned_status: None,
            login: LoginOptions::default(),
            send_raw_username: false,
            automatic_additional_s2s: true,
            additional_s2s_header: false,
        }
    }
}

/// The operator's choices after merge, defaults filled in: every field has its effective value.
/// Field names are the directives' without `px_`.
#[derive(Clone, Debug)]
pub struct Options {
    /// With the `PX` prefix, case as configured.
    pub app_id: String,
    pub auth_token: Secret,
    /// Current, previous; more than two are ignored.
    pub cookie_secrets: Vec<Secret>,
    pub enabled: bool,
    /// Empty: off.
    pub active_header_name: String,
    pub module_mode: ModuleMode,
    /// 0..=100
    pub blocking_score: u32,
    /// Empty: off.
    pub bypass_monitor_header: String,
    pub token_version: TokenVersion,
    pub risk_cookie_max_length: usize,
    pub risk_cookie_min_iterations: u32,
    pub risk_cookie_max_iterations: u32,
    /// Characters of the user agent used for signing and filters.
    pub user_agent_max_length: usize,
    /// Key derivations per worker and second for tokens that no HMAC authenticated (DECISIONS 16).
    pub forged_cookie_budget: u32,
    pub custom_cookie_header: String,
    /// Bot Defender's own part: off, only first party and what else is not enforcement runs.
    pub bot_enforcer: bool,
    /// Off: the Risk API is never asked.
    pub enable_server_calls: bool,
    /// The Risk API's status 413 blocks.
    pub block_size_exceeded_15k_headers_size: bool,
    /// Lower case.
    pub ip_headers: Vec<String>,
    /// Lower case.
    pub sensitive_headers: Vec<String>,
    /// Cookies that are reported although the `Cookie` header is sensitive.
    pub allowed_cookies: Vec<String>,
    /// DECISIONS 28.
    pub anonymize_ip: bool,
    /// Headers by slot, at most ten; an empty name skips a slot.
    pub custom_parameters: Vec<String>,
    /// Cookies by slot, as above; their values are base64.
    pub cookie_custom_parameters: Vec<String>,
    pub url_decode_reserved_characters: bool,

    pub enabled_routes: Vec<RoutePattern>,
    pub monitored_routes: Vec<RoutePattern>,
    pub enforced_routes: Vec<RoutePattern>,
    /// DECISIONS 6: with blocking on, requests outside `enforced_routes` are not handled.
    pub enforced_routes_exclusive: bool,
    pub sensitive_routes: Vec<RoutePattern>,
    pub sensitive_routes_prefix: Vec<String>,
    pub sensitive_routes_suffix: Vec<String>,
    pub sensitive_routes_regex: Vec<RegexPattern>,

    /// DECISIONS 8.
    pub filter_strict: bool,
    /// With their leading dot.
    pub filter_by_extension: Vec<String>,
    pub filter_by_route: Vec<RoutePattern>,
    pub whitelist_uri_full: Vec<String>,
    pub whitelist_uri_prefixes: Vec<String>,
    pub whitelist_uri_suffixes: Vec<String>,
    /// Must match the whole path.
    pub whitelist_uri_pattern: Vec<RegexPattern>,
    /// Upper case.
    pub filter_by_http_method: Vec<String>,
    /// Plain text is a prefix.
    pub filter_by_user_agent: Vec<RoutePattern>,
    pub whitelist_ua_full: Vec<String>,
    pub whitelist_ua_sub: Vec<String>,
    pub filter_by_ip: Vec<Network>,
    pub filter_by_domain: Vec<RegexPattern>,
    pub whitelist_hosts: Vec<String>,
    /// Lower-case name, exact value.
    pub filter_by_header: Vec<(String, String)>,

    /// Scheme and host without trailing slash; empty: the default for the app id.
    pub backend_url: String,
    pub backend_collector_url: String,
    pub backend_client_url: String,
    pub backend_captcha_url: String,
    pub s2s_timeout_ms: u64,

    /// Advanced blocking response (`px_enable_json_response`).
    pub enable_json_response: bool,
    pub secured_pxhd_enabled: bool,
    /// 307 to the custom block page instead of showing it.
    pub redirect_on_custom_url: bool,
    /// The redirect names the page with scheme and host.
    pub redirect_to_referer: bool,
    pub api_protection_mode: bool,
    /// Request header for the origin; empty: off.
    pub data_enrichment_header_name: String,
    /// Both score headers.
    pub score_header_enabled: bool,
    /// Response header for the client; empty: off.
    pub score_header_name: String,
    /// Request header for the origin; empty: off.
    pub upstream_score_header_name: String,
    /// Request header for the origin with HUMAN's uuid; empty: off.
    pub identifier_header_name: String,
    /// Request header `px-ctx` for the origin.
    pub add_block_result_header: bool,
    pub cors_support_enabled: bool,
    pub cors_preflight_request_filter_enabled: bool,
    pub first_party: FirstPartyOptions,
    pub credentials: CredentialsOptions,
    pub graphql: GraphqlOptions,
    pub user_identifiers: UserIdentifierOptions,
    pub agentic_trust: AgenticTrustOptions,
    /// Bytes of a body that are read at most; a larger one is not looked at.
    pub max_body_size: usize,
    /// `page_requested` is sent; `block` is in any case.
    pub send_async_activities: bool,
    /// Host of the hype sale script (hype-sale.md); empty: the default.
    pub hype_sale_host: String,
    /// A hype sale that the Risk API does not answer for is let in (DECISIONS 15).
    pub hype_sale_fail_open: bool,
    /// Header of the telemetry command.
    pub telemetry_header: String,
    pub logger_severity: LoggerSeverity,
    /// A request whose header holds it has its log records shipped; empty: none.
    pub logger_auth_token: Secret,
    /// `px_snippet_provider_enabled`
    pub snippet_enabled: bool,
    pub csp_enabled: bool,
    /// With the token: the configuration may come from HUMAN (remote-config-and-telemetry.md § 3).
    pub remote_config_id: String,
    pub remote_config_auth_token: Secret,
    /// Of the document in effect; 0: none.
    pub remote_config_version: u64,
    /// This module's own name and version, reported as `module_version`.
    pub module_version: String,
}

/// Extensions that are static files unless configured otherwise (flow.md § 7).
const DEFAULT_EXTENSIONS: &str = ".css .bmp .tif .ttf .docx .woff2 .js .pict .tiff .eot .xlsx .jpg \
    .csv .eps .woff .xls .jpeg .doc .ejs .otf .pptx .gif .pdf .swf .svg .ps .ico .pls .midi .svgz \
    .class .png .ppt .mid .webp .jar .json .xml";

impl Default for Options {
    /// The defaults of options.md under DECISIONS 1 and 2; identity and secrets are empty.
    fn default() -> Self {
        Self {
            app_id: String::new(),
            auth_token: Secret::default(),
            cookie_secrets: Vec::new(),
            enabled: false,
            active_header_name: String::new(),
            module_mode: ModuleMode::Monitor,
            blocking_score: 100,
            bypass_monitor_header: String::new(),
            token_version: TokenVersion::V3,
            risk_cookie_max_length: 2048,
            risk_cookie_min_iterations: 500,
            risk_cookie_max_iterations: 5000,
            user_agent_max_length: 8528,
            forged_cookie_budget: 50,
            custom_cookie_header: "x-px-cookies".to_owned(),
            bot_enforcer: true,
            enable_server_calls: true,
            block_size_exceeded_15k_headers_size: false,
            ip_headers: Vec::new(),
            sensitive_headers: vec!["cookie".to_owned(), "cookies".to_owned()],
            allowed_cookies: Vec::new(),
            anonymize_ip: false,
            custom_parameters: Vec::new(),
            cookie_custom_parameters: Vec::new(),
            url_decode_reserved_characters: false,
            enabled_routes: Vec::new(),
            monitored_routes: Vec::new(),
            enforced_routes: Vec::new(),
            enforced_routes_exclusive: true,
            sensitive_routes: Vec::new(),
            sensitive_routes_prefix: Vec::new(),
            sensitive_routes_suffix: Vec::new(),
            sensitive_routes_regex: Vec::new(),
            filter_strict: true,
            filter_by_extension: DEFAULT_EXTENSIONS.split(' ').map(str::to_owned).collect(),
            filter_by_route: Vec::new(),
            whitelist_uri_full: Vec::new(),
            whitelist_uri_prefixes: Vec::new(),
            whitelist_uri_suffixes: Vec::new(),
            whitelist_uri_pattern: Vec::new(),
            filter_by_http_method: Vec::new(),
            filter_by_user_agent: Vec::new(),
            whitelist_ua_full: Vec::new(),
            whitelist_ua_sub: Vec::new(),
            filter_by_ip: Vec::new(),
            filter_by_domain: Vec::new(),
            whitelist_hosts: Vec::new(),
            filter_by_header: Vec::new(),
            backend_url: String::new(),
            backend_collector_url: String::new(),
            backend_client_url: String::new(),
            backend_captcha_url: String::new(),
            s2s_timeout_ms: 1000,
            enable_json_response: false,
            secured_pxhd_enabled: false,
            redirect_on_custom_url: false,
            redirect_to_referer: false,
            api_protection_mode: false,
            data_enrichment_header_name: String::new(),
            score_header_enabled: false,
            score_header_name: String::new(),
            upstream_score_header_name: String::new(),
            identifier_header_name: String::new(),
            add_block_result_header: false,
            cors_support_enabled: false,
            cors_preflight_request_filter_enabled: false,
            first_party: FirstPartyOptions::default(),
            credentials: CredentialsOptions::default(),
            graphql: GraphqlOptions::default(),
            user_identifiers: UserIdentifierOptions::default(),
            agentic_trust: AgenticTrustOptions::default(),
            max_body_size: 64 << 10,
            send_async_activities: true,
            hype_sale_host: String::new(),
            hype_sale_fail_open: false,
            telemetry_header: "x-px-enforcer-telemetry".to_owned(),
            logger_severity: LoggerSeverity::Error,
            logger_auth_token: Secret::default(),
            snippet_enabled: false,
            csp_enabled: false,
            remote_config_id: String::new(),
            remote_config_auth_token: Secret::default(),
            remote_config_version: 0,
            module_version: String::new(),
        }
    }
}

impl Options {
    /// Whether a remote configuration may be in effect.
    pub fn has_remote_config(&self) -> bool {
        !self.remote_config_id.is_empty() && !self.remote_config_auth_token.expose().is_empty()
    }
}
