//! Sites of different kinds: their policies, secrets and block pages.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use px_core::agentic_trust::AgenticTrustOptions;
use px_core::credentials::Endpoint;
use px_core::enforce::{self, BlockKind, Outcome, PageAssets, Step, Verdict, Worker};
use px_core::graphql::GraphqlOptions;
use px_core::hooks::{CustomParameter, Hooks, ParameterValue};
use px_core::policy::{
    CredentialsOptions, FirstPartyOptions, Options, Policy, Secret, TokenVersion,
};
use px_core::reason::{CookieOrigin, ModuleMode};
use px_core::request::{Header, Request, Tls};
use px_core::routes::{RegexPattern, RoutePattern};
use px_core::token_memory::NoMemory;
use px_core::user_identifiers::UserIdentifierOptions;
use serde_json::Value;

use super::page;

/// The secret that tokens are minted with; that of the vectors.
pub const SECRET: &str = "s3cret-A-made-up-for-tests-0000001";
pub(super) const OLD_SECRET: &str = "s3cret-B-made-up-for-tests-0000002";
/// Of remote configurations, and of those who may have log records shipped.
pub(super) const REMOTE_TOKEN: &str = "made-up-remote-config-token-0004";
pub(super) const LOG_TOKEN: &str = "made-up-logger-token-0005";
const AUTH_TOKEN: &str = "made.up.auth-token_0123456789";
const PASS_HEADER: &str = "let-me-pass-0123456789";

pub struct Site<'h> {
    pub policy: Policy,
    /// What the operator's expressions say of every request.
    pub hooks: Hooks<'h>,
    /// The operator's own CORS headers of block answers.
    pub cors_headers: Option<Vec<(&'h str, &'h str)>>,
    /// Texts that nothing may hold.
    pub secrets: Vec<String>,
    /// Skeletons of the pages that a friendly request gets, as they are asked for.
    pages: Mutex<HashMap<Page, String>>,
}

/// What the skeleton of a page depends on, within one site.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Page {
    kind: Kind,
    is_mobile: bool,
    /// Whether there are a logo, a style sheet, a script.
    given: [bool; 3],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Captcha,
    HardBlock,
    RateLimit,
    HypeSale,
}

impl Kind {
    fn of(verdict: &Verdict<'_>, policy: &Policy) -> Self {
        match (verdict.block_kind(policy), &*verdict.block_action) {
            (BlockKind::HypeSale, _) => Self::HypeSale,
            (_, "b") => Self::HardBlock,
            (_, "r") => Self::RateLimit,
            _ => Self::Captcha,
        }
    }
}

impl Site<'static> {
    /// Blocks, and has no other wishes.
    pub fn plain() -> Self {
        Self::of(basic())
    }

    /// One of each kind.
    pub fn all() -> [Self; 6] {
        let elsewhere = Self { hooks: ELSEWHERE, ..Self::of(with_pages_elsewhere()) };
        [
            Self::plain(),
            Self::of(with_everything()),
            Self::of(with_v2()),
            Self::of(monitored()),
            elsewhere,
            Self::reading_bodies(),
        ]
    }

    /// Looks for everything that a request may say beside its token.
    pub fn reading_bodies() -> Self {
        let endpoint = |words: &[&str]| Endpoint::of_words(words).expect("an endpoint");
        let regex = |text: &str| RegexPattern::parse(text).expect("a regular expression");
        let by = ["user_field=user.name", "user_field=user", "pass_field=pass", "method=post"];
        let login =
            |path, protocol| endpoint(&[&by[..], &[path, protocol, "sent_through=body"]].concat());
        Self::of(Options {
            credentials: CredentialsOptions {
                enabled: true,
                endpoints: vec![
                    login("path=/login", "protocol=both"),
                    login("path=/v1", "protocol=v1"),
                    endpoint(&[&by[..], &["path=/query", "sent_through=query-param"]].concat()),
                ],
                send_raw_username: true,
                ..CredentialsOptions::default()
            },
            graphql: GraphqlOptions {
                get_enabled: true,
                sensitive_operation_types: vec!["mutation".to_owned()],
                sensitive_operation_names: vec![regex("^Login")],
                keywords: vec![regex("[a-c]+"), regex("/id|a.*b/i")],
                ..GraphqlOptions::default()
            },
            user_identifiers: UserIdentifierOptions {
                cookie_name: "auth".to_owned(),
                cookie_user_id_field: "sub".to_owned(),
                cookie_additional_fields: vec!["a.b".to_owned(), "list.0".to_owned()],
                ..UserIdentifierOptions::default()
            },
            agentic_trust: AgenticTrustOptions { enabled: true, ..<_>::default() },
            ..basic()
        })
    }

    /// A site with these options.
    pub fn of(options: Options) -> Self {
        let headers = options.filter_by_header.clone();
        let mut site = Self::with(Policy::compile(options).expect("valid options"), Hooks::NONE);
        site.secrets.extend(headers.into_iter().map(|(_, value)| value));
        site
    }
}

impl<'h> Site<'h> {
    pub fn with(policy: Policy, hooks: Hooks<'h>) -> Self {
        let options = policy.options();
        let tokens =
            [&options.auth_token, &options.remote_config_auth_token, &options.logger_auth_token];
        let secrets = options.cookie_secrets.iter().chain(tokens).map(Secret::expose);
        let secrets = secrets.filter(|secret| !secret.is_empty()).map(str::to_owned).collect();
        Self { policy, hooks, cors_headers: None, secrets, pages: Mutex::default() }
    }

    /// The skeleton that the page of a block must have.
    pub fn page(&self, verdict: &Verdict<'_>, assets: &[String; 3]) -> String {
        let page = Page {
            kind: Kind::of(verdict, &self.policy),
            is_mobile: verdict.cookie_origin() == CookieOrigin::Header,
            given: assets.each_ref().map(|asset| !asset.is_empty()),
        };
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let skeleton = || skeleton_of(&page, self.policy.options());
        pages.entry(page).or_insert_with(skeleton).clone()
    }
}

/// The skeleton of the page that a friendly request gets when it is blocked.
fn skeleton_of(page: &Page, options: &Options) -> String {
    let open = Policy::compile(Options {
        first_party: options.first_party.clone(),
        token_version: options.token_version,
        ..basic()
    });
    let open = open.expect("valid options");
    let mobile = [Header { name: b"x-px-authorization", value: b"1" }];
    let headers = if page.is_mobile { &mobile[..] } else { &[] };
    let hooks =
        Hooks { is_hype_sale: (page.kind == Kind::HypeSale).then_some(true), ..Hooks::NONE };
    let request = Request {
        method: b"GET",
        scheme: "https",
        host: b"shop.example.com",
        target: b"/",
        http_version: "1.1",
        headers,
        peer_ip: "203.0.113.77",
        request_id: "0f0e0d0c-0b0a-4a0b-8c0d-0e0f00010203",
        tls: Tls::default(),
        hooks: &hooks,
        extracted: None,
    };
    let worker = &mut Worker::default();
    let verdict = match enforce::begin(&request, &open, worker, &mut NoMemory, 0) {
        Step::AskRisk(pending) => {
            let action = match page.kind {
                Kind::HardBlock => "b",
                Kind::RateLimit => "r",
                Kind::Captcha | Kind::HypeSale => "c",
            };
            let body = format!(
                r#"{{"status":0,"score":100,"cookie_cfg_block_result":"1","uuid":"u","action":"{action}"}}"#
            );
            let outcome = Outcome::Answer { status: 200, body: body.as_bytes() };
            enforce::resume(*pending, outcome, &open, 0)
        }
        Step::Decided(verdict) => verdict,
        _ => panic!("nobody is judged"),
    };
    let [custom_logo, css_ref, js_ref] = page.given.map(|given| if given { "/x" } else { "" });
    let assets = PageAssets { custom_logo, css_ref, js_ref, ..PageAssets::default() };
    let answer = verdict.answer(&open, &assets).expect("blocked");
    let body = String::from_utf8(answer.body).expect("UTF-8");
    let html = match serde_json::from_str::<Value>(&body) {
        Ok(json) => match json["html"].as_str() {
            Some(page) => page.to_owned(),
            None => page::of_mobile(&json),
        },
        Err(_) => body,
    };
    page::skeleton(&html).expect("a page")
}

/// What all sites have in common.
pub fn basic() -> Options {
    Options {
        app_id: "PXabcd1234".to_owned(),
        auth_token: Secret::new(AUTH_TOKEN.to_owned()),
        cookie_secrets: vec![Secret::new(SECRET.to_owned())],
        enabled: true,
        module_mode: ModuleMode::ActiveBlocking,
        module_version: "test 1".to_owned(),
        // What is minted here costs one iteration, so that many tokens can be tried.
        risk_cookie_min_iterations: 1,
        risk_cookie_max_iterations: 1000,
        forged_cookie_budget: 2,
        ..Options::default()
    }
}

fn with_everything() -> Options {
    let regex = |text: &str| RegexPattern::parse(text).expect("a regular expression");
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Options {
        cookie_secrets: vec![Secret::new(OLD_SECRET.to_owned()), Secret::new(SECRET.to_owned())],
        token_version: TokenVersion::V3OrV1,
        url_decode_reserved_characters: true,
        ip_headers: texts(&["x-true-ip", "x-forwarded-for"]),
        sensitive_routes: vec![RoutePattern::Prefix("/account".to_owned())],
        sensitive_routes_suffix: texts(&["/pay"]),
        sensitive_routes_regex: vec![regex(r"^/[a-z]+/\d+$")],
        monitored_routes: vec![RoutePattern::Prefix("/quiet".to_owned())],
        bypass_monitor_header: "x-px-block".to_owned(),
        whitelist_uri_suffixes: texts(&[".ok"]),
        whitelist_uri_pattern: vec![regex("/static/.*")],
        filter_by_user_agent: vec![RoutePattern::Prefix("Monitor/".to_owned())],
        whitelist_ua_sub: texts(&["healthcheck"]),
        filter_by_header: vec![("x-pass".to_owned(), PASS_HEADER.to_owned())],
        enable_json_response: true,
        secured_pxhd_enabled: true,
        custom_parameters: texts(&["x-user", "", "x-plan"]),
        cookie_custom_parameters: texts(&["a", "b"]),
        score_header_enabled: true,
        score_header_name: "x-px-score".to_owned(),
        upstream_score_header_name: "x-px-up".to_owned(),
        identifier_header_name: "x-px-uuid".to_owned(),
        add_block_result_header: true,
        data_enrichment_header_name: "x-px-de".to_owned(),
        cors_support_enabled: true,
        cors_preflight_request_filter_enabled: true,
        first_party: FirstPartyOptions {
            prefix: "fp".to_owned(),
            xhr_endpoint: "/my-xhr".to_owned(),
            ..Options::default().first_party
        },
        ..basic()
    }
}

/// The operator's page of [`with_pages_elsewhere`].
const ELSEWHERE: Hooks<'static> = Hooks {
    custom_block_url: "https://help.example.com/blocked?from=shop",
    custom_parameters: &[CustomParameter { slot: 7, value: ParameterValue::Text("seven") }],
    activity_headers: &[("x-region", "eu"), ("x-none", "")],
    ..Hooks::NONE
};

/// Redirects blocked visitors, and keeps addresses and most cookies to itself.
fn with_pages_elsewhere() -> Options {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Options {
        redirect_on_custom_url: true,
        redirect_to_referer: true,
        enable_json_response: true,
        anonymize_ip: true,
        allowed_cookies: texts(&["a", "session"]),
        cookie_custom_parameters: texts(&["a", "b"]),
        ..basic()
    }
}

fn with_v2() -> Options {
    Options {
        token_version: TokenVersion::V2,
        blocking_score: 60,
        first_party: FirstPartyOptions { enabled: false, ..<_>::default() },
        enable_json_response: true,
        filter_strict: false,
        ..basic()
    }
}

fn monitored() -> Options {
    Options {
        module_mode: ModuleMode::Monitor,
        blocking_score: 30,
        enforced_routes: vec![RoutePattern::Prefix("/account".to_owned())],
        enforced_routes_exclusive: false,
        send_async_activities: false,
        secured_pxhd_enabled: true,
        data_enrichment_header_name: "x-px-de".to_owned(),
        ..basic()
    }
}
