//! The decision on one request, and what follows from it for visitor, origin and report.
//!
//! Source: flow.md §§ 6, 8 and 9, risk-api.md § 5.

use std::borrow::Cow;

use serde_json::Value;

use crate::activity;
use crate::additional_s2s;
use crate::block_page::{self, BlockKind, custom_page};
use crate::credentials::LoginRule;
use crate::data_enrichment::DataEnrichment;
use crate::enforce::{Answer, OriginResponse, PageAssets};
use crate::extracted::Extracted;
use crate::facts::Facts;
use crate::log_records;
use crate::policy::{BLOCK_RESULT_HEADER, Policy};
use crate::reason::{BlockReason, CallReason, CookieOrigin, ModuleMode, PassReason, VidSource};
use crate::request::Request;
use crate::risk::{RiskAnswer, S2sError};
use crate::score::Score;
use crate::token::json_text::is_truthy;
use crate::visitor::TokenState;

/// What is done with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Pass,
    /// Would have been blocked, but the request is monitored.
    SimulatedBlock,
    Block,
}

impl Action {
    /// `pass`, `simulated_block` or `block`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::SimulatedBlock => "simulated_block",
            Self::Block => "block",
        }
    }
}

/// The decision on one request with everything needed to answer, enrich and report it.
pub struct Verdict<'r> {
    pub action: Action,
    /// Set for `Pass`.
    pub pass_reason: Option<PassReason>,
    /// Set for `Block` and `SimulatedBlock`.
    pub block_reason: Option<BlockReason>,
    /// Set if the Risk API was asked.
    pub call_reason: Option<CallReason<'r>>,
    pub s2s_error: Option<S2sError>,
    /// The Risk API did not answer in time.
    pub has_timed_out: bool,
    /// Of the token, then of the Risk API, even where its answer was judged invalid.
    pub score: Option<Score>,
    /// Letter as received (`c`, `b`, `r`, `j`, or unknown text).
    pub block_action: Cow<'r, str>,
    pub uuid: Option<Cow<'r, str>>,
    /// Milliseconds; set when an HTTP answer arrived.
    pub risk_rtt: Option<u64>,
    /// A valid telemetry command came with the request, or the Risk API asked for telemetry.
    pub telemetry_requested: bool,
    pub(crate) facts: Facts<'r>,
    pub(crate) risk_call: Option<Box<RiskCall>>,
}

/// What a Risk API call left behind besides the decision.
#[derive(Debug, Default)]
pub(crate) struct RiskCall {
    /// Ms since the epoch.
    pub(crate) started: u64,
    pub(crate) additional_info: Option<String>,
    data_enrichment: Option<Value>,
    pxhd: Option<String>,
    pxhd_domain: Option<String>,
}

/// The action of a block by the hype sale challenge (flow.md § 6).
const HYPE_SALE_BLOCK_ACTION: &str = "hsc";
/// The action where nobody named one (flow.md § 3).
const DEFAULT_BLOCK_ACTION: &str = "c";

impl<'r> Verdict<'r> {
    /// `px_custom_block_url` as it was evaluated for this request.
    pub fn custom_block_url(&self) -> &'r str {
        self.facts.request.hooks.custom_block_url
    }

    pub(crate) fn pass_by_token(facts: Facts<'r>) -> Self {
        let mut verdict = Self::undecided(facts);
        verdict.pass_reason = Some(PassReason::Cookie);
        verdict
    }

    pub(crate) fn block_by_token(facts: Facts<'r>, reason: BlockReason) -> Self {
        let mut verdict = Self::undecided(facts);
        if reason == BlockReason::PreEnforceHandler {
            // The operator's doing: what the token says of an action is beside the point.
            verdict.block_action = DEFAULT_BLOCK_ACTION.into();
        }
        verdict.blocked(reason)
    }

    /// A verdict that still lacks what the Risk API call led to.
    pub(crate) fn after_call(facts: Facts<'r>, call_reason: CallReason<'r>, started: u64) -> Self {
        Self {
            call_reason: Some(call_reason),
            risk_call: Some(Box::new(RiskCall { started, ..RiskCall::default() })),
            ..Self::undecided(facts)
        }
    }

    /// A request that the Risk API should have decided, but was not asked about.
    pub(crate) fn without_call(facts: Facts<'r>) -> Self {
        Self::undecided(facts)
    }

    /// Applies an HTTP answer (risk-api.md § 5); it came after `rtt` milliseconds.
    pub(crate) fn decided_by(mut self, answer: RiskAnswer, rtt: u64, policy: &Policy) -> Self {
        let RiskAnswer { copied, error } = answer;
        self.risk_rtt = Some(rtt);
        self.score = copied.score.or(self.score);
        self.block_action = copied.action.map_or(self.block_action, Cow::Owned);
        self.uuid = copied.uuid.map(Cow::Owned).or(self.uuid);
        self.telemetry_requested |= copied.telemetry_requested;
        if let Some(call) = &mut self.risk_call {
            call.data_enrichment = copied.data_enrichment;
            call.additional_info = copied.additional_risk_info;
            call.pxhd = copied.pxhd;
            call.pxhd_domain = copied.pxhd_domain;
        }
        let threshold = f64::from(policy.options().blocking_score);
        let wants_challenge = copied.wants_hype_sale_challenge;
        if error.is_none() && wants_challenge && self.facts.is_hype_sale() {
            return self.blocked(BlockReason::HscRoute);
        }
        match (error, copied.score) {
            (Some(error), _) => self.failed(error, policy),
            (None, Some(Score(score))) if score >= threshold => {
                self.blocked(BlockReason::S2sHighScore)
            }
            (None, _) => Self { pass_reason: Some(PassReason::S2s), ..self },
        }
    }

    /// The Risk API finds the request's headers too large, and the operator wants that blocked.
    pub(crate) fn too_large(mut self, rtt: u64) -> Self {
        self.risk_rtt = Some(rtt);
        self.blocked(BlockReason::HeadersSizeExceeded)
    }

    pub(crate) fn timed_out(self, policy: &Policy) -> Self {
        match self.fails_closed(policy) {
            true => Self { has_timed_out: true, ..self }.blocked(BlockReason::HscRoute),
            false => {
                Self { has_timed_out: true, pass_reason: Some(PassReason::S2sTimeout), ..self }
            }
        }
    }

    pub(crate) fn failed(self, error: S2sError, policy: &Policy) -> Self {
        match self.fails_closed(policy) {
            true => Self { s2s_error: Some(error), ..self }.blocked(BlockReason::HscRoute),
            false => {
                Self { pass_reason: Some(PassReason::S2sError), s2s_error: Some(error), ..self }
            }
        }
    }

    /// Whether a failure of the Risk API leads to the challenge: the one place where it does
    /// (DECISIONS 15).
    fn fails_closed(&self, policy: &Policy) -> bool {
        self.facts.is_hype_sale() && !policy.options().hype_sale_fail_open
    }

    fn blocked(self, reason: BlockReason) -> Self {
        let action = match self.facts.mode {
            // Everybody gets the challenge of a hype sale, for everybody can pass it.
            _ if reason == BlockReason::HscRoute => Action::Block,
            ModuleMode::Monitor => Action::SimulatedBlock,
            ModuleMode::ActiveBlocking => Action::Block,
        };
        let block_action = match reason {
            BlockReason::HscRoute => HYPE_SALE_BLOCK_ACTION.into(),
            _ => self.block_action,
        };
        Self { action, pass_reason: None, block_reason: Some(reason), block_action, ..self }
    }

    /// What the token knew, and a pass without a reason.
    fn undecided(mut facts: Facts<'r>) -> Self {
        let visitor = &mut facts.visitor;
        let payload = match &mut visitor.token {
            TokenState::Successful(token) => Some(token),
            _ => visitor.unverified.as_deref_mut(),
        };
        let (score, action, uuid) = match payload {
            Some(token) => (Some(token.score), token.action.as_deref(), token.uuid.take()),
            None => (None, None, None),
        };
        Self {
            action: Action::Pass,
            pass_reason: None,
            block_reason: None,
            call_reason: None,
            s2s_error: None,
            has_timed_out: false,
            score,
            block_action: action.map_or(DEFAULT_BLOCK_ACTION.into(), known_letter),
            uuid,
            risk_rtt: None,
            telemetry_requested: facts.has_telemetry_command,
            facts,
            risk_call: None,
        }
    }
}

impl Verdict<'_> {
    /// The answer instead of the origin's; `Some` only for [`Action::Block`].
    pub fn answer(&self, policy: &Policy, assets: &PageAssets<'_>) -> Option<Answer> {
        (self.action == Action::Block).then(|| block_page::answer(self, policy, assets))
    }

    /// Which kind of answer [`answer`](Self::answer) gives.
    pub fn block_kind(&self, policy: &Policy) -> BlockKind {
        BlockKind::of(self, policy)
    }

    /// The operator's own block page with what the captcha script needs to know, as it is shown
    /// under the URL that was asked for (block-response.md § 7).
    pub fn custom_block_page(&self, page: &[u8]) -> Vec<u8> {
        custom_page::fill(self, page)
    }

    /// Headers for the client's response, name and value; not those of a block answer.
    pub fn response_headers(&self, policy: &Policy) -> Option<(String, String)> {
        let options = policy.options();
        let name = Some(&options.score_header_name).filter(|name| !name.is_empty())?;
        let score = self.score.filter(|_| options.score_header_enabled)?;
        Some((name.clone(), score.to_string()))
    }

    /// `Set-Cookie` value to append to the origin's response; `None` for [`Action::Block`], whose
    /// [`answer`](Self::answer) carries it.
    pub fn pxhd_cookie(&self, policy: &Policy) -> Option<String> {
        if self.action == Action::Block { None } else { self.new_pxhd_cookie(policy) }
    }

    /// Headers to set on the request to the origin, name and value. The caller first strips client
    /// headers of these names ([`Policy::owned_headers`]).
    /// `now` is the time in ms.
    pub fn origin_headers(&self, policy: &Policy, now: u64) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        if self.action == Action::Block {
            return headers;
        }
        let options = policy.options();
        let mut set = |name: &str, value: Option<String>| {
            // Text that HUMAN sends may hold anything; a header may not.
            if let Some(value) = value.filter(|value| !value.contains(char::is_control)) {
                headers.push((name.to_owned(), value));
            }
        };
        if !options.data_enrichment_header_name.is_empty() {
            set(&options.data_enrichment_header_name, self.data_enrichment(policy));
        }
        if options.score_header_enabled && !options.upstream_score_header_name.is_empty() {
            set(&options.upstream_score_header_name, self.score.map(|score| score.to_string()));
        }
        if !options.identifier_header_name.is_empty() {
            set(&options.identifier_header_name, self.uuid.as_deref().map(str::to_owned));
        }
        if options.add_block_result_header {
            let result = u8::from(self.action != Action::Pass);
            set(BLOCK_RESULT_HEADER, Some(format!("block-result={result}")));
        }
        let compromised = self.credentials_compromised() == Some(true);
        if compromised && !options.credentials.compromised_header.is_empty() {
            set(&options.credentials.compromised_header, Some("1".to_owned()));
        }
        if let Some([activity, url]) = additional_s2s::headers(self, policy, now) {
            set(additional_s2s::ACTIVITY_HEADER, Some(activity));
            set(additional_s2s::ACTIVITY_URL_HEADER, Some(url));
        }
        headers
    }

    /// Whether the request holds a login.
    pub fn has_credentials(&self) -> bool {
        self.facts.has_credentials()
    }

    /// Whether the Risk API knows the credentials as breached; `None` where there are none, or it was
    /// not asked (credential-intelligence.md § 5).
    pub fn credentials_compromised(&self) -> Option<bool> {
        let call = self.risk_call.as_ref().filter(|_| self.has_credentials())?;
        let breached = call.data_enrichment.as_ref().and_then(|all| all.get("breached_account"));
        Some(breached.is_some_and(is_truthy))
    }

    /// Whether `compromised_credentials=true` is to be added to the query string for the origin.
    pub fn marks_query(&self, policy: &Policy) -> bool {
        policy.options().credentials.query_string && self.credentials_compromised() == Some(true)
    }

    /// The status for the client in place of the origin's, if the login was successful.
    pub fn returned_status(&self, policy: &Policy) -> Option<u16> {
        policy.options().credentials.returned_status.filter(|_| self.marks_query(policy))
    }

    /// How the origin's response says whether the login was successful; `None` for a request
    /// without one.
    pub fn login_rule<'p>(&self, policy: &'p Policy) -> Option<LoginRule<'p>> {
        let extracted = self.facts.extracted()?;
        policy.extraction().login_rule(extracted, &policy.options().credentials)
    }

    /// What was found in the request beside the token.
    pub fn extracted(&self) -> Option<&Extracted> {
        self.facts.extracted()
    }

    /// Appends the report on the login as one JSON object to `out`; false, and nothing appended, if
    /// none is to be sent. `now` is the time in ms.
    pub fn additional_activity(
        &self,
        policy: &Policy,
        response: &OriginResponse<'_>,
        now: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        additional_s2s::write(self, policy, response, now, out)
    }

    /// Appends the activity of this request as one JSON object to `out`; false, and nothing
    /// appended, if none is to be sent. `now` is the time in ms.
    pub fn activity(
        &self,
        policy: &Policy,
        response: &OriginResponse<'_>,
        now: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        activity::write(self, policy, response, now, out)
    }

    /// Visitor id, if known.
    pub fn vid(&self) -> Option<&str> {
        self.facts.vid()
    }

    /// Where the visitor id came from.
    pub fn vid_source(&self) -> Option<VidSource> {
        self.facts.visitor.vid.as_ref().map(|vid| vid.source)
    }

    /// Whether a block verdict on this request blocks or is only reported.
    pub fn risk_mode(&self) -> ModuleMode {
        self.facts.mode
    }

    /// Whether the request is to a sensitive route.
    pub fn is_sensitive(&self) -> bool {
        self.facts.is_sensitive
    }

    /// Where the token came, or would have come, from.
    pub fn cookie_origin(&self) -> CookieOrigin {
        self.facts.visitor.origin
    }

    /// Expiry `t` of a successfully validated token, ms since the epoch; any number the token had.
    pub fn token_time(&self) -> Option<f64> {
        match &self.facts.visitor.token {
            TokenState::Successful(token) => Some(token.expires_ms),
            _ => None,
        }
    }

    /// Data enrichment as compact JSON, if it is verified and not null.
    pub fn data_enrichment(&self, policy: &Policy) -> Option<String> {
        self.any_data_enrichment(policy)?.header_value()
    }

    /// Data enrichment of the Risk API or else of the cookie, verified or not.
    pub fn any_data_enrichment(&self, policy: &Policy) -> Option<DataEnrichment> {
        let received = self.risk_call.as_ref().and_then(|call| call.data_enrichment.clone());
        match received {
            Some(value) => Some(DataEnrichment { value, verified: true }),
            None => DataEnrichment::from_cookie(self.facts.visitor.pxde?, policy.secrets()),
        }
    }

    /// Whether the request asks to have its log records shipped ([`log_records::write`]).
    pub fn ships_logs(&self, policy: &Policy) -> bool {
        log_records::are_wanted(&self.facts.request, &policy.options().logger_auth_token)
    }

    /// Whether the call went as calls go while the Risk API is out of order, so that others need not be
    /// made (DECISIONS 18). Not where it refused this one request: a visitor who sends what it refuses
    /// could switch it off for everybody else.
    pub fn tells_of_an_outage(&self) -> bool {
        let refuses = |status| (400..500).contains(&status) && status != 408 && status != 429;
        self.has_timed_out
            || self.s2s_error.as_ref().is_some_and(|error| !error.http_status.is_some_and(refuses))
    }

    /// The request that was judged.
    pub fn request(&self) -> &Request<'_> {
        &self.facts.request
    }

    /// Id of this request as reported.
    pub fn request_id(&self) -> &str {
        self.facts.request.request_id
    }

    /// Address of the client as reported (flow.md § 3).
    pub fn client_ip(&self) -> &str {
        self.facts.client_ip
    }

    /// `_pxhd` as reported: the Risk API's, else the cookie's.
    pub fn pxhd(&self) -> Option<&str> {
        let received = self.received_pxhd().map(|(value, _)| value);
        received.or(self.facts.visitor.pxhd.as_deref())
    }

    /// A new `_pxhd` from the Risk API, and the domain it is for if that named one.
    pub fn received_pxhd(&self) -> Option<(&str, Option<&str>)> {
        let call = self.risk_call.as_ref()?;
        Some((call.pxhd.as_deref()?, call.pxhd_domain.as_deref()))
    }

    /// `Set-Cookie` value for a `_pxhd` that the Risk API gave (risk-token.md § 8).
    pub(crate) fn new_pxhd_cookie(&self, policy: &Policy) -> Option<String> {
        let (value, domain) = self.received_pxhd()?;
        // A value that could end the cookie or the header is worth no cookie at all.
        let splits =
            |text: &str| text.contains(|letter: char| letter == ';' || letter.is_control());
        if splits(value) || domain.is_some_and(splits) {
            return None;
        }
        let secure = if policy.options().secured_pxhd_enabled { "; Secure" } else { "" };
        let domain = domain.map(|domain| format!("; domain={domain}")).unwrap_or_default();
        Some(format!("_pxhd={value}{secure}{domain}; path=/; SameSite=Lax"))
    }
}

/// The letter as text that costs nothing where it is one of the usual ones.
fn known_letter<'r>(action: &str) -> Cow<'r, str> {
    let known = ["c", "b", "r", "j"].into_iter().find(|letter| *letter == action);
    known.map_or_else(|| Cow::Owned(action.to_owned()), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enforce::Step;
    use crate::sample::{self, GOOD_COOKIE, HIGH_COOKIE, USER_AGENT, UUID, VID, headers, policy};

    fn by_token<'r>(request: &crate::request::Request<'r>, policy: &Policy) -> Verdict<'r> {
        match sample::begin(request, policy) {
            Step::Decided(verdict) => verdict,
            _ => panic!("the token does not decide"),
        }
    }

    #[test]
    fn a_good_token_lends_its_facts() {
        let headers = headers(&[("user-agent", USER_AGENT), ("cookie", GOOD_COOKIE)]);
        let verdict = by_token(&sample::request(&headers), &policy(|_| ()));
        assert_eq!(verdict.action, Action::Pass);
        assert_eq!(verdict.pass_reason, Some(PassReason::Cookie));
        assert_eq!((verdict.uuid.as_deref(), verdict.vid()), (Some(UUID), Some(VID)));
        assert_eq!(verdict.vid_source(), Some(VidSource::RiskCookie));
        assert_eq!(verdict.cookie_origin(), CookieOrigin::Cookie);
        assert_eq!(verdict.score.map(|score| score.to_string()).as_deref(), Some("0"));
        assert_eq!(
            verdict.token_time().map(|time| time.to_string()).as_deref(),
            Some("1750000330000")
        );
        assert!(matches!(verdict.block_action, Cow::Borrowed("c")));
        assert_eq!(verdict.client_ip(), "203.0.113.77");
        assert!(verdict.call_reason.is_none() && verdict.risk_rtt.is_none());
    }

    #[test]
    fn a_monitored_block_is_simulated_and_answers_nothing() {
        let headers = headers(&[("user-agent", USER_AGENT), ("cookie", HIGH_COOKIE)]);
        let request = sample::request(&headers);
        for (mode, action) in [
            (ModuleMode::Monitor, Action::SimulatedBlock),
            (ModuleMode::ActiveBlocking, Action::Block),
        ] {
            let policy = policy(|options| options.module_mode = mode);
            let verdict = by_token(&request, &policy);
            assert_eq!((verdict.action, verdict.risk_mode()), (action, mode));
            assert_eq!(verdict.block_reason, Some(BlockReason::CookieHighScore));
            assert_eq!(verdict.pass_reason, None);
            let answer = verdict.answer(&policy, &PageAssets::default());
            assert_eq!(answer.is_some(), action == Action::Block);
        }
    }

    #[test]
    fn page_requested_can_be_switched_off_and_block_cannot() {
        let policy = policy(|options| options.send_async_activities = false);
        for (cookie, sent) in [(GOOD_COOKIE, false), (HIGH_COOKIE, true)] {
            let headers = headers(&[("user-agent", USER_AGENT), ("cookie", cookie)]);
            let mut out = Vec::new();
            let verdict = by_token(&sample::request(&headers), &policy);
            assert_eq!(
                verdict.activity(&policy, &OriginResponse::default(), sample::NOW, &mut out),
                sent
            );
            assert_eq!(out.is_empty(), !sent);
        }
    }

    fn pxhd_cookie(body: &str, secured: bool) -> Option<String> {
        let policy = policy(|options| options.secured_pxhd_enabled = secured);
        sample::verdict(&sample::request(&[]), &policy, body).pxhd_cookie(&policy)
    }

    #[test]
    fn pxhd_cookie_has_its_attributes_in_order() {
        for (fields, secured, expected) in [
            (r#""pxhd":"v""#, false, Some("_pxhd=v; path=/; SameSite=Lax")),
            (
                r#""pxhd":"v","pxhdDomain":".example.com""#,
                true,
                Some("_pxhd=v; Secure; domain=.example.com; path=/; SameSite=Lax"),
            ),
            (r#""pxhdDomain":".example.com""#, false, None),
            (r#""pxhd":"""#, false, None),
        ] {
            let body = format!("{{\"status\":0,\"score\":0,{fields}}}");
            assert_eq!(pxhd_cookie(&body, secured).as_deref(), expected, "{fields}");
        }
    }

    #[test]
    fn no_pxhd_can_split_the_header() {
        for fields in [
            r#""pxhd":"v\r\nSet-Cookie: a=b""#,
            r#""pxhd":"v; domain=evil.example""#,
            r#""pxhd":"v\u0000""#,
            r#""pxhd":"v\u0085""#,
            r#""pxhd":"v","pxhdDomain":"d\nx: y""#,
            r#""pxhd":"v","pxhdDomain":"d; Secure""#,
        ] {
            let body = format!("{{\"status\":0,\"score\":0,{fields}}}");
            assert_eq!(pxhd_cookie(&body, false), None, "{fields}");
        }
    }

    #[test]
    fn only_verified_enrichment_goes_to_the_origin() {
        let policy = policy(|o| o.data_enrichment_header_name = "x-px-de".to_owned());
        assert_eq!(policy.owned_headers().collect::<Vec<_>>(), ["x-px-de"]);
        let header = |value: &str| vec![("x-px-de".to_owned(), value.to_owned())];
        for (fields, expected) in [
            (r#""data_enrichment":{"a": [1, "\u00e9"]}"#, header("{\"a\":[1,\"\u{e9}\"]}")),
            (r#""data_enrichment":{"a":"\r\nx: y"}"#, header(r#"{"a":"\r\nx: y"}"#)),
            (r#""data_enrichment":{"a":"\u0085"}"#, Vec::new()),
            (r#""data_enrichment":null"#, Vec::new()),
        ] {
            let body = format!("{{\"status\":0,\"score\":0,{fields}}}");
            let verdict = sample::verdict(&sample::request(&[]), &policy, &body);
            assert_eq!(verdict.origin_headers(&policy, sample::NOW), expected, "{fields}");
        }

        let forged = headers(&[("cookie", "_pxde=00:e30=")]);
        let verdict = sample::verdict(&sample::request(&forged), &policy, "{}");
        assert!(
            verdict.any_data_enrichment(&policy).is_some_and(|enrichment| !enrichment.verified)
        );
        assert!(verdict.origin_headers(&policy, sample::NOW).is_empty());
    }
}
