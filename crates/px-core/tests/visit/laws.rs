//! What holds for every request, whatever the operator chose: who is let alone, who is never blocked,
//! and that the token means what the specification says.

use px_core::crypto::Tally;
use px_core::enforce::{Action, Step, Verdict};
use px_core::policy::Policy;
use px_core::reason::{BlockReason, ModuleMode, PassReason};
use px_core::request::Request;
use serde_json::Value;

use super::reference::{self, Decision, Judge, REPORTED, State};
use super::{PEER, REQUEST_ID, Reply, Visit};

/// A request that was judged, and what was said of it.
pub struct Begun<'v> {
    pub verdict: &'v Verdict<'v>,
    /// What the Risk API was asked.
    pub risk: Option<&'v Value>,
    /// Or null.
    pub activity: &'v Value,
}

/// Nobody is judged whom the operator let alone, and nothing is answered that is not switched on.
pub fn check_step(step: &Step<'_>, request: &Request<'_>, policy: &Policy) {
    let options = policy.options();
    let is_judged = matches!(step, Step::AskRisk(_) | Step::Decided(_));
    assert!(!is_judged || !is_let_alone(request, policy), "somebody is judged");
    match step {
        Step::Preflight => assert!(options.cors_preflight_request_filter_enabled),
        Step::PreflightHandler => assert!(request.hooks.handles_preflight),
        Step::Notification(_) => assert!(options.has_remote_config()),
        _ => {}
    }
    if let Step::Preflight | Step::PreflightHandler = step {
        assert!(options.cors_support_enabled && request.method == b"OPTIONS");
    }
}

/// Whether a filter surely lets it pass: those that are told without knowing URLs.
fn is_let_alone(request: &Request<'_>, policy: &Policy) -> bool {
    let options = policy.options();
    let headers = request.headers;
    let first = |name: &str| {
        headers.iter().find(|header| header.name.eq_ignore_ascii_case(name.as_bytes()))
    };
    let is_on = options.enabled
        || (!options.active_header_name.is_empty()
            && first(&options.active_header_name).is_some_and(|header| header.value == b"1"));
    let user_agent = first("user-agent").map_or(&b""[..], |header| header.value);
    let is_agent = |agent: &String| {
        !agent.is_empty()
            && agent.as_bytes() == user_agent
            && agent.len() <= options.user_agent_max_length
    };
    let is_header = |(name, value): &(String, String)| {
        headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case(name.as_bytes()) && header.value == value.as_bytes()
        })
    };
    let is_method = |method: &String| method.as_bytes() == request.method;
    !is_on
        || request.hooks.is_disabled
        || request.hooks.is_filtered
        || !options.bot_enforcer
        || options.filter_by_http_method.iter().any(is_method)
        || options.whitelist_ua_full.iter().any(is_agent)
        || options.filter_by_header.iter().any(is_header)
}

/// Monitoring blocks nobody; only the challenge of a hype sale is for everybody (DECISIONS 15).
pub fn check_mode(verdict: &Verdict<'_>, visit: &Visit, policy: &Policy) {
    let options = policy.options();
    let blocks = verdict.block_reason.is_some();
    let is_sale = verdict.block_reason == Some(BlockReason::HscRoute);
    let is_monitored = verdict.risk_mode() == ModuleMode::Monitor && !is_sale;
    let expected = match (blocks, is_monitored) {
        (false, _) => Action::Pass,
        (true, true) => Action::SimulatedBlock,
        (true, false) => Action::Block,
    };
    assert_eq!(verdict.action, expected);
    let lifts = &options.bypass_monitor_header;
    let is_surely_monitored = options.module_mode == ModuleMode::Monitor
        && options.enforced_routes.is_empty()
        && !verdict.request().hooks.is_enforced
        && (lifts.is_empty() || visit.header(lifts) != b"1");
    assert!(!is_surely_monitored || verdict.action != Action::Block || is_sale);
}

/// Risk API and collector are told of one request, one decision and one visitor.
pub fn check_ids(begun: &Begun<'_>) {
    let Begun { verdict, risk, activity } = begun;
    assert_eq!(verdict.request_id(), REQUEST_ID);
    let details = &activity["details"];
    if let Some(risk) = risk {
        assert_eq!(risk["additional"]["request_id"], REQUEST_ID);
        if !activity.is_null() {
            assert_eq!(activity["url"], risk["request"]["url"]);
            assert_eq!(activity["vid"], risk["vid"]);
            assert_eq!(activity["socket_ip"], risk["request"]["socket_ip"]);
            assert_eq!(details["risk_mode"], risk["additional"]["risk_mode"]);
        }
    }
    if !activity.is_null() {
        assert_eq!(details["request_id"], REQUEST_ID);
        assert_eq!(details["client_uuid"].as_str(), verdict.uuid.as_deref());
        let passes = verdict.action == Action::Pass;
        assert_eq!(activity["type"], if passes { "page_requested" } else { "block" });
        let reason = verdict.block_reason.map(|reason| reason.as_str());
        assert_eq!(details["block_reason"].as_str(), reason);
    }
}

/// And so is the visitor, where the answer names them.
pub fn check_ids_of_answer(answer: &Value, verdict: &Verdict<'_>) {
    if !answer["appId"].is_null() && !answer["uuid"].is_null() {
        assert_eq!(answer["uuid"], verdict.uuid.as_deref().unwrap_or_default());
        assert_eq!(answer["vid"], verdict.vid().unwrap_or_default());
    }
}

/// The token, the visitor's id and what they decide are what the specification makes of them.
pub fn check_against_reference(begun: &Begun<'_>, visit: &Visit, policy: &Policy, tally: &Tally) {
    let Begun { verdict, risk, activity } = begun;
    let options = policy.options();
    let hooks = verdict.request().hooks;
    let peer = if visit.peer.is_empty() { PEER } else { &visit.peer };
    let client_ip =
        reference::client_ip(&visit.headers, hooks.client_ip, &options.ip_headers, peer);
    assert_eq!(verdict.client_ip(), client_ip);
    let now = visit.now();
    let judge = Judge { options, headers: &visit.headers, client_ip: &client_ip, now };
    let reading = judge.read();
    let is_valid = matches!(reading.state, State::Valid(_));
    if tally.over_budget > 0 {
        // Nothing was looked into (DECISIONS 16): then it is as good as a token with a wrong HMAC.
        assert!(verdict.pass_reason != Some(PassReason::Cookie));
        assert!(verdict.block_reason != Some(BlockReason::CookieHighScore));
        return;
    }

    let expected = reading.report(options);
    for said in [risk.map(|risk| &risk["additional"]), Some(&activity["details"])] {
        let Some(said) = said.and_then(Value::as_object) else { continue };
        let of_token = said.iter().filter(|(name, _)| REPORTED.contains(&name.as_str()));
        let of_token: serde_json::Map<_, _> =
            of_token.map(|(name, value)| (name.clone(), value.clone())).collect();
        assert_eq!(of_token, expected, "{reading:?}");
    }
    let vid = reading.vid.as_ref().map(|(vid, source)| (vid.as_str(), *source));
    let found = verdict.vid().zip(verdict.vid_source().map(|source| source.as_str()));
    assert_eq!(found, vid);
    let expires = reading.token().filter(|_| is_valid).map(|token| token.expires);
    assert_eq!(verdict.token_time(), expires);

    let uuid = reading.token().map(|token| token.uuid.as_str()).filter(|uuid| !uuid.is_empty());
    if let Some(risk) = risk {
        assert_eq!(risk["client_uuid"].as_str(), uuid);
        assert_eq!(risk["vid"].as_str(), vid.map(|(vid, _)| vid));
    }
    let is_sale = hooks.is_hype_sale == Some(true);
    // What an answer says takes the place of what the token says.
    if risk.is_none() || !matches!(visit.reply, Reply::Http(200, _)) {
        let score = reading.token().map(|token| token.score);
        assert_eq!(verdict.score.map(|score| score.0), score);
        assert_eq!(verdict.uuid.as_deref(), uuid);
        let action = reading.token().map(|token| token.action.as_str()).unwrap_or_default();
        if !is_sale && !hooks.is_blocked {
            assert_eq!(verdict.block_action, if action.is_empty() { "c" } else { action });
        }
    }
    if is_sale {
        let approved = is_valid && reading.token().is_some_and(|token| token.approved);
        assert!(
            approved || hooks.is_blocked || verdict.block_reason == Some(BlockReason::HscRoute)
        );
        return;
    }
    if hooks.is_blocked {
        return;
    }
    let needs_call = verdict.is_sensitive() || verdict.has_credentials();
    let reason = risk.and_then(|risk| risk["additional"]["s2s_call_reason"].as_str());
    match reading.decision(now, needs_call) {
        Decision::Pass => assert_eq!(verdict.pass_reason, Some(PassReason::Cookie)),
        Decision::Block => assert_eq!(verdict.block_reason, Some(BlockReason::CookieHighScore)),
        Decision::Ask(expected) if options.enable_server_calls => {
            assert_eq!(reason, Some(expected.as_str()), "{reading:?}");
        }
        Decision::Ask(_) => assert_eq!(verdict.pass_reason, Some(PassReason::S2sError)),
    }
    let asks = matches!(reading.decision(now, needs_call), Decision::Ask(_));
    assert_eq!(risk.is_some(), asks && options.enable_server_calls);
}
