//! The door: [`begin`] looks at a request, [`resume`] at what the Risk API said.
//!
//! Source: flow.md. Whatever cannot be decided passes; only a decision blocks.

pub use crate::block_page::BlockKind;
pub use crate::extracted::{Extracted, Given, Wanted};
pub use crate::risk::{MAX_ERROR_MESSAGE, S2sError};
pub use crate::verdict::{Action, Verdict};

use std::borrow::Cow;

use crate::client_ip;
use crate::cors::{self, Preflight};
use crate::crypto::Budget;
use crate::facts::{Facts, TokenDecision};
use crate::first_party;
use crate::hooks::CustomParameter;
use crate::policy::Policy;
use crate::reason::{CallReason, FilterReason};
use crate::remote_config;
use crate::request::Request;
use crate::risk;
use crate::telemetry;
use crate::token_memory::TokenMemory;
use crate::url::RequestUrl;
use crate::user_identifiers;
use crate::visitor;

/// What one worker lends the enforcer from request to request.
#[derive(Debug, Default)]
pub struct Worker {
    /// Key derivations left for tokens that nothing authenticated (DECISIONS 16).
    pub derivations: Budget,
}

/// Outcome of the first look at a request.
#[expect(clippy::large_enum_variant, reason = "the usual one must cost no allocation")]
pub enum Step<'r> {
    /// The module is not active for this request: nothing is done, nothing is sent.
    Inactive,
    /// A filter let it pass unexamined: nothing is sent.
    Filtered(FilterReason),
    /// A first-party path (flow.md § 1, phase 2).
    FirstParty(first_party::Route<'r>),
    /// HUMAN says that there is a new remote configuration. To be answered at once with
    /// [`Notification::answer`], and never to reach the origin.
    Notification(Notification),
    /// A CORS preflight that passes without enforcement (cors.md).
    Preflight,
    /// A CORS preflight that the operator answers (`px_cors_custom_preflight_handler`).
    PreflightHandler,
    /// The Risk API decides: post [`Pending::risk_body`], then [`resume`].
    AskRisk(Box<Pending<'r>>),
    Decided(Verdict<'r>),
}

/// A message of HUMAN's about the remote configuration (remote-config-and-telemetry.md § 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Signed with the token, and in time: the configuration is to be fetched.
    pub is_genuine: bool,
    /// At least this version is wanted; 0: none in particular.
    pub version: u64,
}

impl Notification {
    /// What HUMAN gets, whatever the body says.
    pub fn answer(self) -> Answer {
        let (status, body) = match self.is_genuine {
            true => (200, "OK"),
            false => (400, "Bad Request"),
        };
        Answer { status, content_type: "text/plain", headers: Vec::new(), body: body.into() }
    }
}

/// A request that waits for the Risk API.
pub struct Pending<'r> {
    facts: Facts<'r>,
    call_reason: CallReason<'r>,
    /// Start of the call, ms since the epoch.
    asked: u64,
    body: Vec<u8>,
}

/// How the Risk API call ended.
pub enum Outcome<'a> {
    /// An HTTP answer, whatever its status. `body` may be cut by the caller at 64 KiB or more.
    Answer { status: u16, body: &'a [u8] },
    /// The total time limit ran out.
    Timeout,
    /// No answer: connection, DNS or TLS failure, reset; `cause` is reported as `error_message`.
    Unreachable { cause: &'a str },
    /// The call was not made: the circuit breaker is open (DECISIONS 18).
    NotMade { cause: &'a str },
}

/// Values of the block page that may contain server variables, evaluated by the caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageAssets<'a> {
    pub custom_logo: &'a str,
    pub css_ref: &'a str,
    pub js_ref: &'a str,
    /// A page of the operator's own in place of the captcha page; empty: none.
    pub block_page_content: &'a str,
    pub api_protection_block_url: &'a str,
    pub api_protection_default_redirect_url: &'a str,
    /// Headers of the operator's own in place of the usual CORS headers of block answers.
    pub cors_headers: Option<&'a [(&'a str, &'a str)]>,
}

/// The origin's response, as far as it is reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct OriginResponse<'a> {
    pub status: Option<u16>,
    /// `px_custom_parameter`, slots 11 to 20.
    pub custom_parameters: &'a [CustomParameter<'a>],
    /// Header `mcp-session-id`.
    pub mcp_session_id: Option<&'a [u8]>,
    /// Of a request with credentials ([`Verdict::login_rule`]).
    pub login: LoginResult,
}

/// Whether a login was successful (credential-intelligence.md § 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoginResult {
    Known(bool),
    #[default]
    Unknown,
}

/// An answer to the visitor instead of the origin's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    /// Further headers in order, `set-cookie`, CORS and cache headers among them.
    pub headers: Vec<(Cow<'static, str>, String)>,
    pub body: Vec<u8>,
}

/// Looks at a request as it arrives (flow.md § 1, phases 0 to 8). `memory` knows the tokens that
/// were authenticated before; `now` is the time in ms since the epoch, the start of processing.
pub fn begin<'r>(
    request: &Request<'r>,
    policy: &Policy,
    worker: &mut Worker,
    memory: &mut dyn TokenMemory<'r>,
    now: u64,
) -> Step<'r> {
    if !policy.is_active_for(request) {
        return Step::Inactive;
    }
    let options = policy.options();
    let url = RequestUrl::new(request, options.url_decode_reserved_characters);
    let client_ip = match before_judging(request, &url, policy) {
        Ok(client_ip) => client_ip,
        Err(Unjudged::Notification) => {
            let version = request.extracted.map_or(0, |found| found.config_version);
            let secret = policy.remote_config_secret();
            let is_genuine = remote_config::is_genuine(request, secret, now);
            let version = if is_genuine { version } else { 0 };
            return Step::Notification(Notification { is_genuine, version });
        }
        Err(Unjudged::Inactive) => return Step::Inactive,
        Err(Unjudged::Filtered(reason)) => return Step::Filtered(reason),
        Err(Unjudged::FirstParty(route)) => return Step::FirstParty(route),
        Err(Unjudged::Preflight) => return Step::Preflight,
        Err(Unjudged::PreflightHandler) => return Step::PreflightHandler,
    };
    let budget = &mut worker.derivations;
    let visitor = visitor::read(request, client_ip, options, policy.secrets(), budget, memory, now);
    let facts = Facts {
        request: *request,
        client_ip,
        started: now,
        mode: policy.mode_for(request, &url),
        is_sensitive: policy.is_sensitive(&url, request.hooks)
            || request.extracted.is_some_and(|found| found.operations().is_sensitive()),
        has_telemetry_command: telemetry::is_commanded(request, policy, now),
        user_identifiers: user_identifiers::read(
            request,
            &options.custom_cookie_header,
            &options.user_identifiers,
            request.hooks.jwt_additional_fields,
        )
        .map(Box::new),
        url,
        visitor,
    };
    match facts.decide(policy) {
        TokenDecision::Pass => Step::Decided(Verdict::pass_by_token(facts)),
        TokenDecision::Block(reason) => Step::Decided(Verdict::block_by_token(facts, reason)),
        TokenDecision::AskRisk(call_reason) => {
            if !options.enable_server_calls {
                let error = S2sError::not_sent("px_enable_server_calls is off");
                return Step::Decided(Verdict::without_call(facts).failed(error, policy));
            }
            let body = risk::body(&facts, &call_reason, policy, now);
            Step::AskRisk(Box::new(Pending { facts, call_reason, asked: now, body }))
        }
    }
}

/// How a request ends that nobody judges.
enum Unjudged<'r> {
    Inactive,
    Filtered(FilterReason),
    FirstParty(first_party::Route<'r>),
    Notification,
    Preflight,
    PreflightHandler,
}

/// The phases that end before anybody is judged: first party, routes, filters, preflights, messages
/// about the remote configuration. The client's address where none of them ends it.
fn before_judging<'r>(
    request: &Request<'r>,
    url: &RequestUrl<'r>,
    policy: &Policy,
) -> Result<&'r str, Unjudged<'r>> {
    let options = policy.options();
    if let Some(route) = policy.first_party().route(url) {
        return Err(Unjudged::FirstParty(route));
    }
    if !options.bot_enforcer || !policy.handles(url, request.hooks) {
        return Err(Unjudged::Inactive);
    }
    let client_ip = client_ip::extract(request, &options.ip_headers);
    if let Some(reason) = policy.filters().first_match(request, url, client_ip) {
        return Err(Unjudged::Filtered(reason));
    }
    match cors::preflight(request, policy) {
        Some(Preflight::Handled) => Err(Unjudged::PreflightHandler),
        Some(Preflight::Passes) => Err(Unjudged::Preflight),
        None if remote_config::is_notification(request, options) => Err(Unjudged::Notification),
        None => Ok(client_ip),
    }
}

/// Whether [`wanted`] could ever want anything of this request: not so for nearly all, which are
/// told without a look at URL or hooks.
pub fn may_be_extracted(request: &Request<'_>, policy: &Policy) -> bool {
    !policy.extraction().is_surely_idle(request)
        || remote_config::is_notification(request, policy.options())
}

/// What is to be got ready for [`extract`] before [`begin`]; `None`, as for nearly all requests, if
/// nothing is. Of the hooks it asks those that filters and routes need, and `is_graphql_route`.
pub fn wanted(request: &Request<'_>, policy: &Policy) -> Option<Wanted> {
    let extraction = policy.extraction();
    if !policy.is_active_for(request) {
        return None;
    }
    let url = RequestUrl::new(request, policy.options().url_decode_reserved_characters);
    let is_notification = remote_config::is_notification(request, policy.options());
    let wanted = extraction.wanted(request, &url);
    if wanted.is_none() && !is_notification {
        return None;
    }
    // Nothing is read of requests that nobody judges.
    match before_judging(request, &url, policy) {
        Ok(_) => wanted,
        Err(Unjudged::Notification) => Some(Wanted { body: true, endpoint: None }),
        Err(_) => None,
    }
}

/// What the request and its body say beside the token; to be lent to [`begin`] in the request.
pub fn extract(request: &Request<'_>, policy: &Policy, given: &Given<'_>) -> Extracted {
    let options = policy.options();
    if remote_config::is_notification(request, options) {
        return Extracted::of_notification(given.body.map_or(0, remote_config::version_wanted));
    }
    let url = RequestUrl::new(request, options.url_decode_reserved_characters);
    policy.extraction().extract(request, &url, options.credentials.version, given)
}

/// Decides a request whose Risk API call has ended (flow.md § 1, phase 9). `now` is the time in ms
/// since the epoch at which it ended.
pub fn resume<'r>(
    pending: Pending<'r>,
    outcome: Outcome<'_>,
    policy: &Policy,
    now: u64,
) -> Verdict<'r> {
    let Pending { facts, call_reason, asked, .. } = pending;
    let asked_for = |facts| Verdict::after_call(facts, call_reason, asked);
    match outcome {
        Outcome::Answer { status: 413, .. }
            if policy.options().block_size_exceeded_15k_headers_size =>
        {
            let rtt = now.saturating_sub(asked);
            asked_for(facts).too_large(rtt)
        }
        Outcome::Answer { status, body } => {
            let answer = risk::read_answer(status, body, policy.options().token_version);
            asked_for(facts).decided_by(answer, now.saturating_sub(asked), policy)
        }
        Outcome::Timeout => asked_for(facts).timed_out(policy),
        Outcome::Unreachable { cause } => {
            asked_for(facts).failed(S2sError::unreachable(cause), policy)
        }
        Outcome::NotMade { cause } => {
            Verdict::without_call(facts).failed(S2sError::not_sent(cause), policy)
        }
    }
}

impl<'r> Pending<'r> {
    /// JSON to post to [`Policy::risk_url`].
    pub fn risk_body(&self) -> &[u8] {
        &self.body
    }

    /// Start of processing, ms since the epoch.
    pub fn started(&self) -> u64 {
        self.facts.started
    }

    /// When [`begin`] found that it is to be asked, ms since the epoch.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Why the Risk API is asked.
    pub fn call_reason(&self) -> &CallReason<'r> {
        &self.call_reason
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::filter::Network;
    use crate::reason::PassReason;
    use crate::request::{Header, Tls};
    use crate::routes::RoutePattern;
    use crate::sample::{self, GOOD_COOKIE, HIGH_COOKIE, NOW, USER_AGENT, headers, policy};
    use crate::token_memory::NoMemory;

    const SERVED: OriginResponse<'_> = OriginResponse {
        status: Some(200),
        custom_parameters: &[],
        mcp_session_id: None,
        login: LoginResult::Unknown,
    };

    fn name_of(step: &Step<'_>) -> String {
        match step {
            Step::Inactive => "inactive".to_owned(),
            Step::Filtered(reason) => format!("filtered {}", reason.as_str()),
            Step::FirstParty(_) => "first party".to_owned(),
            Step::Notification(_) => "notification".to_owned(),
            Step::Preflight => "preflight".to_owned(),
            Step::PreflightHandler => "preflight handler".to_owned(),
            Step::AskRisk(pending) => format!("ask {}", pending.call_reason().as_str()),
            Step::Decided(verdict) => verdict.action.as_str().to_owned(),
        }
    }

    fn prefix(text: &str) -> Vec<RoutePattern> {
        vec![RoutePattern::Prefix(text.to_owned())]
    }

    #[test]
    fn phases_come_in_their_order() {
        let policy = policy(|options| {
            options.enabled_routes = prefix("/on");
            options.cors_support_enabled = true;
            options.cors_preflight_request_filter_enabled = true;
            options.sensitive_routes = prefix("/on/sensitive");
        });
        let preflight = headers(&[("origin", "null"), ("access-control-request-method", "PUT")]);
        let good = headers(&[("user-agent", USER_AGENT), ("cookie", GOOD_COOKIE)]);
        let high = headers(&[("user-agent", USER_AGENT), ("cookie", HIGH_COOKIE)]);
        for (method, target, headers, expected) in [
            // First party comes before enabled routes and before filters.
            ("GET", "/abcd1234/init.js", &[][..], "first party"),
            ("GET", "/abcd1234/xhr/x.css", &[], "first party"),
            ("GET", "/off.css", &[], "inactive"),
            ("GET", "/on/a.css", &[], "filtered extension"),
            ("OPTIONS", "/on", &preflight, "preflight"),
            ("OPTIONS", "/off", &preflight, "inactive"),
            ("GET", "/on", &preflight, "ask no_cookie"),
            ("GET", "/on", &good, "pass"),
            ("GET", "/on/sensitive", &good, "ask sensitive_route"),
            // A high score needs no second opinion.
            ("GET", "/on/sensitive", &high, "block"),
        ] {
            let request = Request {
                method: method.as_bytes(),
                target: target.as_bytes(),
                ..sample::request(headers)
            };
            assert_eq!(name_of(&sample::begin(&request, &policy)), expected, "{method} {target}");
        }
    }

    #[test]
    fn without_the_switch_only_the_active_header_activates() {
        for (enabled, header, value, expected) in [
            (true, "", "0", "ask no_cookie"),
            (true, "x-px-active", "0", "ask no_cookie"),
            (false, "", "1", "inactive"),
            (false, "X-PX-Active", "1", "ask no_cookie"),
            (false, "x-px-active", "0", "inactive"),
            (false, "x-px-active", "true", "inactive"),
            (false, "x-px-active", "11", "inactive"),
            (false, "x-px-active", "", "inactive"),
        ] {
            let policy = policy(|options| {
                options.enabled = enabled;
                options.active_header_name = header.to_owned();
            });
            let headers = headers(&[("x-px-active", value)]);
            let step = sample::begin(&sample::request(&headers), &policy);
            assert_eq!(name_of(&step), expected, "{enabled} {header} {value}");
        }
    }

    #[test]
    fn a_filtered_request_triggers_nothing() {
        let policy = policy(|options| {
            options.filter_by_ip = vec![Network::parse("203.0.113.0/24").expect("valid")];
        });
        let headers = headers(&[("cookie", HIGH_COOKIE), ("user-agent", USER_AGENT)]);
        let step = sample::begin(&sample::request(&headers), &policy);
        assert_eq!(name_of(&step), "filtered ip");
    }

    /// What the activity says about a call to which `body` came with `status`.
    fn details_after(status: u16, body: &[u8]) -> Value {
        let policy = policy(|_| ());
        let request = sample::request(&[]);
        let pending = sample::pending(&request, &policy);
        let verdict = resume(pending, Outcome::Answer { status, body }, &policy, NOW + 5);
        assert_eq!(verdict.action, Action::Pass);
        assert!(verdict.answer(&policy, &PageAssets::default()).is_none());
        let mut activity = Vec::new();
        assert!(verdict.activity(&policy, &SERVED, NOW + 6, &mut activity));
        let mut activity: Value = serde_json::from_slice(&activity).expect("JSON");
        activity["details"].take()
    }

    #[test]
    fn a_hostile_answer_passes_with_the_exact_reason() {
        let invalid = "invalid_response";
        for (status, body, reason) in [
            (200, "", invalid),
            (200, "{}", invalid),
            (200, "[]", invalid),
            (200, "[0]", invalid),
            (200, "null", invalid),
            (200, "true", invalid),
            (200, "1", invalid),
            (200, "\"text\"", invalid),
            (200, "text", invalid),
            (200, "{\"status\":0,\"score\":100", invalid),
            (200, "{\"status\":0,\"score\":100}garbage", invalid),
            (200, "{\"status\":0,\"score\":null}", invalid),
            (200, "{\"status\":0,\"score\":\"100\"}", invalid),
            (200, "{\"status\":0,\"score\":1e400}", invalid),
            (200, "{\"status\":0,\"score\":[100]}", invalid),
            (200, "{\"status\":0,\"score\":NaN}", invalid),
            (200, "{\"status\":\"0\",\"score\":100}", invalid),
            (200, "{\"status\":false,\"score\":100}", invalid),
            (200, "{\"status\":1,\"score\":100}", invalid),
            (200, "{\"score\":100}", invalid),
            (200, "{\"status\":-1,\"score\":100}", "request_failed_on_server"),
            (200, "{\"status\":-1.0}", "request_failed_on_server"),
            (201, "{\"status\":0,\"score\":100}", "unknown_error"),
            (204, "", "unknown_error"),
            (302, "{\"status\":0,\"score\":100}", "unknown_error"),
            (400, "", "bad_request"),
            (413, "{\"status\":0,\"score\":100}", "bad_request"),
            (499, "", "bad_request"),
            (500, "", "server_error"),
            (599, "", "server_error"),
            (600, "", "unknown_error"),
            (0, "", "unknown_error"),
            (100, "", "unknown_error"),
        ] {
            let details = details_after(status, body.as_bytes());
            assert_eq!(details["pass_reason"], "s2s_error", "{status} {body}");
            assert_eq!(details["s2s_error_reason"], reason, "{status} {body}");
            assert_eq!(details["s2s_error_http_status"], status, "{status} {body}");
            assert_eq!(details["error_message"], format!("response body: {body}"));
            assert_eq!(details["risk_rtt"], 5);
        }
    }

    #[test]
    fn a_call_that_was_not_made_is_not_reported_as_made() {
        let policy = policy(|_| ());
        let request = sample::request(&[]);
        let pending = sample::pending(&request, &policy);
        let outcome = Outcome::NotMade { cause: "the circuit breaker is open" };
        let verdict = resume(pending, outcome, &policy, NOW + 5);
        assert_eq!((verdict.action, verdict.call_reason.is_none()), (Action::Pass, true));
        let mut activity = Vec::new();
        assert!(verdict.activity(&policy, &SERVED, NOW + 6, &mut activity));
        let activity: Value = serde_json::from_slice(&activity).expect("JSON");
        let details = &activity["details"];
        assert_eq!(details["pass_reason"], "s2s_error");
        assert_eq!(details["s2s_error_reason"], "unable_to_send_request");
        assert_eq!(details["error_message"], "the circuit breaker is open");
        for absent in ["s2s_call_reason", "risk_start_time", "risk_rtt", "s2s_error_http_status"] {
            assert_eq!(details[absent], Value::Null, "{absent}");
        }
    }

    #[test]
    fn an_answer_of_any_size_or_bytes_is_reported_in_bounds() {
        let deep = "[".repeat(1 << 20);
        let huge = format!("{{\"status\":0,\"score\":100,\"x\":\"{}\"}}", "x".repeat(10 << 20));
        let wide = "\u{20ac}".repeat(5000);
        let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        for body in [deep.as_bytes(), huge.as_bytes(), wide.as_bytes(), &binary] {
            let details = details_after(200, body);
            assert_eq!(details["s2s_error_reason"], "invalid_response");
            let message = details["error_message"].as_str().expect("a text");
            assert!((1024..=MAX_ERROR_MESSAGE).contains(&message.len()), "{}", message.len());
        }
        // Cut between characters: nothing is replaced.
        let details = details_after(200, wide.as_bytes());
        assert!(!details["error_message"].as_str().expect("a text").contains('\u{fffd}'));
    }

    #[test]
    fn a_low_or_odd_score_passes_and_a_high_one_blocks_whatever_the_action() {
        let policy = policy(|_| ());
        let request = sample::request(&[]);
        for (body, action, letter) in [
            ("{\"status\":0,\"score\":-1}", Action::Pass, "c"),
            ("{\"status\":0,\"score\":99.9,\"action\":\"b\"}", Action::Pass, "b"),
            ("{\"status\":0,\"score\":100}", Action::Block, "c"),
            ("{\"status\":0.0,\"score\":1e300,\"action\":\"qq\"}", Action::Block, "qq"),
            ("{\"status\":0,\"score\":100,\"action\":\"\"}", Action::Block, "c"),
            ("{\"status\":0,\"score\":100,\"action\":7}", Action::Block, "c"),
            ("{\"status\":0,\"score\":0,\"score\":100}", Action::Block, "c"),
        ] {
            let verdict = sample::verdict(&request, &policy, body);
            assert_eq!((verdict.action, &*verdict.block_action), (action, letter), "{body}");
            assert!(verdict.s2s_error.is_none());
        }
    }

    #[test]
    fn an_invalid_answer_is_copied_all_the_same() {
        let policy = policy(|_| ());
        let request = sample::request(&[]);
        let body = r#"{"status":-1,"score":100,"action":"b","uuid":"u","pxhd":"h","pxhdDomain":"d",
            "data_enrichment":{"a":1},"additional_risk_info":"i","telemetry_requested":1,"message":"m"}"#;
        let verdict = sample::verdict(&request, &policy, body);
        assert_eq!(verdict.action, Action::Pass);
        assert_eq!(verdict.score.map(|score| score.to_string()).as_deref(), Some("100"));
        assert_eq!((&*verdict.block_action, verdict.uuid.as_deref()), ("b", Some("u")));
        assert_eq!(verdict.received_pxhd(), Some(("h", Some("d"))));
        assert_eq!(verdict.data_enrichment(&policy).as_deref(), Some("{\"a\":1}"));
        assert!(verdict.telemetry_requested);
        assert_eq!(verdict.s2s_error.map(|error| error.message).as_deref(), Some("m"));

        let body = r#"{"status":0,"score":0,"uuid":"","pxhd":1,"data_enrichment":0,
            "telemetry_requested":"","message":"m"}"#;
        let verdict = sample::verdict(&request, &policy, body);
        assert!(verdict.uuid.is_none() && verdict.received_pxhd().is_none());
        assert!(verdict.data_enrichment(&policy).is_none() && !verdict.telemetry_requested);
    }

    #[test]
    fn no_answer_at_all_passes() {
        let policy = policy(|_| ());
        let request = sample::request(&[]);
        let verdict =
            resume(sample::pending(&request, &policy), Outcome::Timeout, &policy, NOW + 9);
        assert_eq!(verdict.pass_reason, Some(PassReason::S2sTimeout));
        assert!(verdict.s2s_error.is_none() && verdict.risk_rtt.is_none());

        let outcome = Outcome::Unreachable { cause: "connection refused" };
        let verdict = resume(sample::pending(&request, &policy), outcome, &policy, NOW + 9);
        assert_eq!(verdict.pass_reason, Some(PassReason::S2sError));
        assert!(verdict.risk_rtt.is_none());
        let error = verdict.s2s_error.expect("an error");
        assert_eq!((error.http_status, &*error.message), (None, "connection refused"));
    }

    #[test]
    fn a_clock_that_runs_backwards_is_no_problem() {
        let policy = policy(|_| ());
        let request = sample::request(&[]);
        let outcome = Outcome::Answer { status: 200, body: b"{\"status\":0,\"score\":0}" };
        let verdict = resume(sample::pending(&request, &policy), outcome, &policy, NOW - 1000);
        assert_eq!(verdict.risk_rtt, Some(0));
    }

    #[test]
    fn any_bytes_in_a_request_give_a_decision_and_valid_json() {
        let policies = [
            policy(|_| ()),
            policy(|options| {
                options.url_decode_reserved_characters = true;
                options.ip_headers = vec!["x-forwarded-for".to_owned()];
                options.cors_support_enabled = true;
                options.enable_json_response = true;
            }),
        ];
        let mut worker = Worker::default();
        let mut seed = 7_u64;
        let mut next = || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize
        };
        const NAMES: [&[u8]; 10] = [
            b"cookie",
            b"Cookie",
            b"x-px-cookies",
            b"X-PX-AUTHORIZATION",
            b"x-px-original-token",
            b"x-forwarded-for",
            b"user-agent",
            b"origin",
            b"\xff\x00",
            b"",
        ];
        const PIECES: [&[u8]; 16] = [
            b"_px3=",
            b"_pxde=",
            b"_pxhd=",
            b"3:",
            b"2:",
            b":",
            b";",
            b"1000",
            b"%2f",
            b"..",
            b"/",
            b"?",
            b"\xff\xfe",
            b"\x00",
            "\u{e9}".as_bytes(),
            b"aGk=",
        ];
        for _ in 0..1000 {
            let mut text = || -> Vec<u8> {
                (0..next() % 12).flat_map(|_| PIECES[next() % PIECES.len()]).copied().collect()
            };
            let (host, target, method) = (text(), text(), text());
            let values: Vec<_> = (0..6).map(|_| text()).collect();
            let headers: Vec<_> = values
                .iter()
                .map(|value| Header { name: NAMES[next() % NAMES.len()], value })
                .collect();
            let tls = Tls { protocol: b"TLSv1.3", cipher: b"\xff", server_name: &host };
            let request = Request {
                method: &method,
                host: &host,
                target: &target,
                tls,
                ..sample::request(&headers)
            };
            for policy in &policies {
                let verdict = match begin(&request, policy, &mut worker, &mut NoMemory, NOW) {
                    Step::AskRisk(pending) => {
                        serde_json::from_slice::<Value>(pending.risk_body()).expect("JSON");
                        let body = br#"{"status":0,"score":100,"uuid":"</script>"}"#;
                        let answer = Outcome::Answer { status: 200, body };
                        resume(*pending, answer, policy, NOW)
                    }
                    Step::Decided(verdict) => verdict,
                    _ => continue,
                };
                let mut activity = Vec::new();
                verdict.activity(policy, &OriginResponse::default(), NOW, &mut activity);
                serde_json::from_slice::<Value>(&activity).expect("JSON");
                if let Some(answer) = verdict.answer(policy, &PageAssets::default()) {
                    assert!(std::str::from_utf8(&answer.body).is_ok());
                    assert!(answer.headers.iter().all(|(_, v)| !v.contains(char::is_control)));
                }
            }
        }
    }

    #[test]
    fn risk_body_and_activity_speak_of_the_same_request() {
        let policy = policy(|_| ());
        let headers = headers(&[("Host", "shop.example.com"), ("Cookie", "_pxhd=h; pxcts=c")]);
        let request = Request {
            tls: Tls { protocol: b"TLSv1.3", cipher: b"TLS_AES_128_GCM_SHA256", server_name: b"" },
            ..sample::request(&headers)
        };
        let pending = sample::pending(&request, &policy);
        let risk: Value = serde_json::from_slice(pending.risk_body()).expect("JSON");
        let verdict = resume(pending, Outcome::Timeout, &policy, NOW + 1000);
        let mut activity = Vec::new();
        let missing = OriginResponse { status: Some(404), ..SERVED };
        assert!(verdict.activity(&policy, &missing, NOW + 1001, &mut activity));
        let activity: Value = serde_json::from_slice(&activity).expect("JSON");

        assert_eq!(risk["pxhd"], "h");
        assert_eq!(risk["additional"]["tls_protocol"], "TLSv1.3");
        assert_eq!(risk["additional"].get("tls_server"), None);
        assert_eq!(risk["request"]["headers"], activity["headers"]);
        assert_eq!(activity["timestamp"], NOW + 1001);
        let mut expected = risk["additional"].clone();
        expected["http_status_code"] = json!(404);
        expected["pass_reason"] = json!("s2s_timeout");
        assert_eq!(activity["details"], expected);
    }
}
