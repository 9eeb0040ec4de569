//! One visit, from the request to the last report, and what must hold whatever bytes it is made of.
//!
//! `hostile.rs` feeds it and so do the fuzz targets; what is wrong panics here.

mod choices;
mod laws;
mod memory;
pub mod minted;
mod page;
pub mod recipe;
pub mod reference;
mod site;

pub use choices::Choices;
pub use site::{SECRET, Site, basic};

use std::borrow::Cow;
use std::net::IpAddr;

use px_core::enforce::{
    self, Action, Answer, BlockKind, Extracted, Given, MAX_ERROR_MESSAGE, OriginResponse, Outcome,
    PageAssets, Step, Verdict, Worker,
};
use px_core::first_party;
use px_core::hooks::Hooks;
use px_core::log_records;
use px_core::policy::{Policy, TokenVersion};
use px_core::reason::{BlockReason, CookieOrigin, PassReason};
use px_core::request::{Header, Request, Tls};
use px_core::telemetry::{self, Machine, UpdateReason};
use px_core::token_memory::TokenMemory;
use serde_json::Value;

use laws::Begun;

/// The clock, ms since the epoch.
pub const NOW: u64 = 1_750_000_000_000;
const RTT: u64 = 37;
const PEER: &str = "203.0.113.77";
const REQUEST_ID: &str = "0f0e0d0c-0b0a-4a0b-8c0d-0e0f00010203";

/// A request and what the Risk API says to it.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    pub method: Vec<u8>,
    pub host: Vec<u8>,
    pub target: Vec<u8>,
    pub http_version: String,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Address of the connection; empty: the usual one.
    pub peer: String,
    /// How long after [`NOW`] it comes, in ms.
    pub later: u64,
    /// Custom logo, style sheet and script of block pages.
    pub assets: [String; 3],
    /// The operator's own page, and pages of his application.
    pub own_page: String,
    pub own_urls: [String; 2],
    pub reply: Reply,
}

/// How a Risk API call ends.
#[derive(Clone, Debug, Default)]
pub enum Reply {
    Http(u16, Vec<u8>),
    #[default]
    Timeout,
    Unreachable(String),
    /// The circuit breaker is open.
    NotMade(String),
}

impl Visit {
    /// `GET https://shop.example.com/account?x=1`, from a browser.
    pub fn usual() -> Self {
        let header = |name: &str, value: &str| (name.into(), value.into());
        Self {
            method: b"GET".to_vec(),
            host: b"shop.example.com".to_vec(),
            target: b"/account?x=1".to_vec(),
            http_version: "1.1".to_owned(),
            headers: vec![
                header("Host", "shop.example.com"),
                header("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) TestBrowser/12.3"),
            ],
            ..Self::default()
        }
    }

    pub fn with(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A POST of `body` to `target`.
    pub fn posting(self, target: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let visit =
            Self { method: b"POST".to_vec(), target: target.into(), body: body.into(), ..self };
        visit.with("Content-Type", content_type)
    }

    pub fn answered(self, status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { reply: Reply::Http(status, body.into()), ..self }
    }

    /// Reads the form in which seeds are written; any bytes are a visit.
    ///
    /// ```text
    /// 200                    status of the answer, or "timeout", "unreachable" or "not_made"
    /// GET /account?x=1 1.1   method, target, HTTP version
    /// host: shop.example.com
    /// ~v3: {"u":…}           a genuine token with this payload; also ~v2, ~v1, ~mobile
    /// ~body: {"user":"a"}    a line of the request's body
    /// ~peer: 192.0.2.1       also ~later: 5000, in ms
    /// ~logo: /logo.png       also ~css, ~js, ~page, ~block_url and ~back_url
    ///
    /// {"status":0,…}         body of the answer, or why there is none
    /// ```
    pub fn parse(text: &[u8]) -> Self {
        let (end, rest) = line(text);
        let (request, mut rest) = line(rest);
        let (method, after) = split_at_byte(request, b' ');
        let space = after.iter().rposition(|&byte| byte == b' ').unwrap_or(after.len());
        let (target, version) = (&after[..space], after.get(space + 1..).unwrap_or_default());
        let mut visit = Self {
            method: method.to_vec(),
            target: target.to_vec(),
            http_version: lossy(version).into_owned(),
            ..Self::default()
        };
        let mut minted = Vec::new();
        while let (header, after) = line(rest)
            && !header.is_empty()
        {
            rest = after;
            let (name, value) = split_at_byte(header, b':');
            let value = value.trim_ascii().to_vec();
            match name {
                b"~v3" | b"~v2" | b"~v1" | b"~mobile" => minted.push((name, value)),
                b"~logo" => visit.assets[0] = lossy(&value).into_owned(),
                b"~css" => visit.assets[1] = lossy(&value).into_owned(),
                b"~js" => visit.assets[2] = lossy(&value).into_owned(),
                b"~page" => visit.own_page = lossy(&value).into_owned(),
                b"~block_url" => visit.own_urls[0] = lossy(&value).into_owned(),
                b"~back_url" => visit.own_urls[1] = lossy(&value).into_owned(),
                b"~peer" if lossy(&value).parse::<IpAddr>().is_ok() => {
                    visit.peer = lossy(&value).into_owned();
                }
                b"~later" => visit.later = lossy(&value).parse().unwrap_or(0).min(1 << 50),
                b"~body" if visit.body.is_empty() => visit.body = value,
                b"~body" => visit.body.extend([b"\r\n", value.as_slice()].concat()),
                _ => {
                    if name.eq_ignore_ascii_case(b"host") {
                        visit.host.clone_from(&value);
                    }
                    visit.headers.push((name.to_vec(), value));
                }
            }
        }
        for (form, payload) in minted {
            visit.add_token(form, &payload);
        }
        let body = line(rest).1.to_vec();
        visit.reply = match end {
            b"timeout" => Reply::Timeout,
            b"unreachable" => Reply::Unreachable(lossy(&body).into_owned()),
            b"not_made" => Reply::NotMade(lossy(&body).into_owned()),
            status => Reply::Http(lossy(status).parse().unwrap_or(200), body),
        };
        visit
    }

    /// The first few of several, with lines `~next` between them.
    pub fn parse_each(mut text: &[u8]) -> Vec<Self> {
        const NEXT: &[u8] = b"\n~next\n";
        let mut visits = Vec::new();
        while visits.len() < 3
            && let Some(at) = text.windows(NEXT.len()).position(|piece| piece == NEXT)
        {
            visits.push(Self::parse(&text[..at]));
            text = &text[at + NEXT.len()..];
        }
        visits.push(Self::parse(text));
        visits
    }

    /// Adds a genuine token with this payload, signed for the visit's user agent.
    pub fn add_token(&mut self, form: &[u8], payload: &[u8]) {
        let user_agent = self.header("user-agent");
        let (name, value) = match form {
            b"~v1" => ("cookie", format!("_px={}", minted::v1(SECRET, payload, user_agent))),
            b"~v2" => ("cookie", format!("_px2={}", minted::v2(SECRET, payload, user_agent))),
            b"~mobile" => ("x-px-authorization", format!("3:{}", minted::v3(SECRET, payload, b""))),
            _ => ("cookie", format!("_px3={}", minted::v3(SECRET, payload, user_agent))),
        };
        self.headers.push((name.into(), value.into()));
    }

    fn lines(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(name, value)| Header { name, value }).collect()
    }

    fn request<'r>(&'r self, headers: &'r [Header<'r>]) -> Request<'r> {
        Request {
            method: &self.method,
            scheme: "https",
            host: &self.host,
            target: &self.target,
            http_version: &self.http_version,
            headers,
            peer_ip: if self.peer.is_empty() { PEER } else { &self.peer },
            request_id: REQUEST_ID,
            tls: Tls { protocol: b"TLSv1.3", cipher: b"", server_name: &self.host },
            hooks: &Hooks::NONE,
            extracted: None,
        }
    }

    /// The first value of a header, or nothing.
    pub fn header(&self, name: &str) -> &[u8] {
        let named = |(other, _): &&(Vec<u8>, Vec<u8>)| other.eq_ignore_ascii_case(name.as_bytes());
        self.headers.iter().find(named).map_or(b"", |(_, value)| value)
    }

    fn now(&self) -> u64 {
        NOW + self.later
    }

    fn page_assets<'a>(&'a self, cors_headers: Option<&'a [(&'a str, &'a str)]>) -> PageAssets<'a> {
        let [custom_logo, css_ref, js_ref] = &self.assets;
        let [api_protection_block_url, api_protection_default_redirect_url] = &self.own_urls;
        PageAssets {
            custom_logo,
            css_ref,
            js_ref,
            block_page_content: &self.own_page,
            api_protection_block_url,
            api_protection_default_redirect_url,
            cors_headers,
        }
    }

    /// Everything a visitor or a collector brought.
    fn bytes(&self) -> Vec<u8> {
        let headers = self.headers.iter().flat_map(|(name, value)| [&name[..], b": ", value]);
        let reply = match &self.reply {
            Reply::Http(_, body) => &body[..],
            Reply::Timeout => b"",
            Reply::Unreachable(cause) | Reply::NotMade(cause) => cause.as_bytes(),
        };
        let version = self.http_version.as_bytes();
        let own = [&self.method[..], &self.host, &self.target, version, &self.body];
        let assets = self.assets.iter().chain(&self.own_urls).chain([&self.own_page]);
        let assets = assets.map(String::as_bytes);
        let all = own.into_iter().chain(assets).chain(headers);
        all.chain([reply]).collect::<Vec<_>>().join(&b'\n')
    }
}

fn line(text: &[u8]) -> (&[u8], &[u8]) {
    split_at_byte(text, b'\n')
}

fn split_at_byte(text: &[u8], byte: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|&other| other == byte) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, b""),
    }
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// How a visit went; what was said to anybody has been checked.
#[derive(Debug, PartialEq)]
pub struct Played {
    /// `None`: not enforced.
    pub action: Option<Action>,
    pub asked: bool,
    pub pass_reason: Option<PassReason>,
    pub block_reason: Option<BlockReason>,
    pub telemetry_requested: bool,
    pub is_sensitive: bool,
    /// Data enrichment as the origin gets it.
    pub enrichment: Option<String>,
    /// The activity, or null.
    pub activity: Value,
    pub answer: Option<Answer>,
    /// A token was not looked into.
    pub is_over_budget: bool,
}

/// Plays a visit with a worker of its own.
pub fn play(visit: &Visit, site: &Site<'_>) -> Played {
    play_with(visit, site, &mut Worker::default())
}

/// Plays a visit and checks everything about it; a second time if a token was remembered, which
/// must change nothing.
pub fn play_with(visit: &Visit, site: &Site<'_>, worker: &mut Worker) -> Played {
    with_request(visit, site, |request| {
        let mut noted = memory::Noting::default();
        let played = play_once(request, visit, site, worker, &mut noted, true);
        if !noted.0.is_empty() {
            let memory = &mut memory::Recalling(&noted.0);
            let recalled = play_once(request, visit, site, worker, memory, true);
            assert_eq!(recalled, played);
        }
        played
    })
}

/// Plays a visit before a memory that gives `entry` for every token.
pub fn play_misremembered(visit: &Visit, site: &Site<'_>, entry: &[u8]) {
    with_request(visit, site, |request| {
        let memory = &mut memory::Always(entry);
        play_once(request, visit, site, &mut Worker::default(), memory, false);
    });
}

/// Plays visits that come to one worker one after the other, and a memory that keeps what it was
/// given: it must change nothing either.
pub fn play_in_turn(visits: &[Visit], site: &Site<'_>) -> Vec<Played> {
    let mut worker = Worker::default();
    let mut notes = Vec::new();
    let play_next = |visit: &Visit| {
        with_request(visit, site, |request| {
            let mut noted = memory::Noting::default();
            let played = play_once(request, visit, site, &mut worker, &mut noted, true);
            let remembering = &mut memory::Lasting(&notes);
            let remembered =
                play_once(request, visit, site, &mut Worker::default(), remembering, true);
            assert!(played.is_over_budget || remembered == played);
            notes.append(&mut noted.0);
            played
        })
    };
    visits.iter().map(play_next).collect()
}

/// Makes the request of a visit, with what the site looks for in it before it is judged.
fn with_request<T>(visit: &Visit, site: &Site<'_>, play: impl FnOnce(&Request<'_>) -> T) -> T {
    let headers = visit.lines();
    let request = Request { hooks: &site.hooks, ..visit.request(&headers) };
    let extracted = extract(&request, visit, site);
    play(&Request { extracted: extracted.as_ref(), ..request })
}

fn extract(request: &Request<'_>, visit: &Visit, site: &Site<'_>) -> Option<Extracted> {
    let wanted = enforce::wanted(request, &site.policy);
    assert!(wanted.is_none() || enforce::may_be_extracted(request, &site.policy));
    let body = Some(visit.body.as_slice());
    let body = body.filter(|body| {
        wanted.is_some_and(|wanted| wanted.body)
            && !body.is_empty()
            && body.len() <= site.policy.options().max_body_size
    });
    wanted.map(|_| enforce::extract(request, &site.policy, &Given { body, ..Given::default() }))
}

fn play_once<'r>(
    request: &Request<'r>,
    visit: &Visit,
    site: &Site<'_>,
    worker: &mut Worker,
    memory: &mut dyn TokenMemory<'r>,
    is_honest: bool,
) -> Played {
    let mut said = Said::default();
    let now = visit.now();
    worker.derivations.take_tally();
    let step = enforce::begin(request, &site.policy, worker, memory, now);
    let tally = worker.derivations.take_tally();
    laws::check_step(&step, request, &site.policy);
    let (verdict, risk) = match step {
        Step::Inactive | Step::Filtered(_) | Step::Preflight | Step::PreflightHandler => {
            return Played::nothing();
        }
        Step::FirstParty(route) => {
            check_upstream(&route, request, site, visit);
            return Played::nothing();
        }
        Step::Notification(notification) => {
            assert!(notification.is_genuine || notification.version == 0);
            assert!(matches!(notification.answer().status, 200 | 400));
            return Played::nothing();
        }
        Step::Decided(verdict) => (verdict, None),
        Step::AskRisk(pending) => {
            let body = said.json("risk body", pending.risk_body());
            assert_eq!((pending.started(), pending.asked()), (now, now));
            check_reported_headers(&body["request"]["headers"], request.headers, &site.policy);
            let outcome = match &visit.reply {
                Reply::Http(status, body) => Outcome::Answer { status: *status, body },
                Reply::Timeout => Outcome::Timeout,
                Reply::Unreachable(cause) => Outcome::Unreachable { cause },
                Reply::NotMade(cause) => Outcome::NotMade { cause },
            };
            (enforce::resume(*pending, outcome, &site.policy, now + RTT), Some(body))
        }
    };
    let asked = risk.is_some();
    check_decision(&verdict, asked, visit, &site.policy);
    check_login(&verdict, &site.policy, &mut said);
    let activity = check_activity(&verdict, visit, &site.policy, request.headers, &mut said);
    let begun = Begun { verdict: &verdict, risk: risk.as_ref(), activity: &activity };
    laws::check_ids(&begun);
    if is_honest {
        laws::check_against_reference(&begun, visit, &site.policy, &tally);
    }
    let answer = check_answer(&verdict, visit, site, &mut said);
    check_changes(&verdict, visit, &site.policy, &mut said);
    if verdict.telemetry_requested {
        let machine = Machine { os_name: "Linux", node_name: "host" };
        let id = Some(verdict.request_id());
        said.json(
            "telemetry",
            &telemetry::body(&site.policy, UpdateReason::Command, now, id, machine),
        );
    }
    if verdict.ships_logs(&site.policy) {
        let records = log_records::write(&verdict, &site.policy, now);
        said.json_of_any_kind("log records", &lossy(&records));
    }
    said.holds_no_secret(site, visit);
    Played {
        action: Some(verdict.action),
        asked,
        pass_reason: verdict.pass_reason,
        block_reason: verdict.block_reason,
        telemetry_requested: verdict.telemetry_requested,
        is_sensitive: verdict.is_sensitive(),
        enrichment: verdict.data_enrichment(&site.policy),
        activity,
        answer,
        is_over_budget: tally.over_budget > 0,
    }
}

impl Played {
    fn nothing() -> Self {
        Self {
            action: None,
            asked: false,
            pass_reason: None,
            block_reason: None,
            telemetry_requested: false,
            is_sensitive: false,
            enrichment: None,
            activity: Value::Null,
            answer: None,
            is_over_budget: false,
        }
    }
}

/// Everything that leaves the enforcer, whoever it is for.
#[derive(Default)]
struct Said(Vec<(&'static str, String)>);

impl Said {
    fn text(&mut self, what: &'static str, text: impl Into<String>) {
        self.0.push((what, text.into()));
    }

    /// What must be a JSON object.
    fn json(&mut self, what: &'static str, bytes: &[u8]) -> Value {
        let json: Value = serde_json::from_slice(bytes)
            .unwrap_or_else(|error| panic!("{what}: {error}: {}", bytes.escape_ascii()));
        assert!(json.is_object(), "{what} is no object");
        self.text(what, lossy(bytes));
        json
    }

    fn holds_no_secret(&self, site: &Site<'_>, visit: &Visit) {
        for secret in &site.secrets {
            for (what, text) in &self.0 {
                let told = text.contains(secret.as_str());
                assert!(!told || tells(&visit.bytes(), secret), "{what}: {text}");
            }
        }
    }
}

/// Whether the visitor himself says a secret, in a spelling that it may be repeated without: URLs lose tabs and
/// newlines, names of headers their capitals.
pub fn tells(text: &[u8], secret: &str) -> bool {
    let text = lossy(text).replace(['\t', '\r', '\n'], "");
    text.to_ascii_lowercase().contains(&secret.to_ascii_lowercase())
}

/// What is fetched in the visitor's name comes from one of HUMAN's hosts, or those that the operator
/// named, and no header of the site's own goes there.
fn check_upstream(
    route: &first_party::Route<'_>,
    request: &Request<'_>,
    site: &Site<'_>,
    visit: &Visit,
) {
    const PATHS: [&str; 3] = [
        "https://client.perimeterx.net/PXabcd1234/main.min.js",
        "https://captcha.px-cdn.net/PXabcd1234/captcha.js",
        "https://collector-pxabcd1234.perimeterx.net/",
    ];
    let options = site.policy.options();
    let own =
        [&options.backend_collector_url, &options.backend_client_url, &options.backend_captcha_url];
    if let Some(url) = route.upstream_url(&site.policy) {
        let own = own.into_iter().filter(|host| !host.is_empty());
        let mut paths = own.map(String::as_str).chain(PATHS);
        // A host of the operator's is compared as he wrote it, but for the case of its letters.
        let begins = |path: &str| {
            url.get(..path.len()).is_some_and(|start| start.eq_ignore_ascii_case(path))
        };
        assert!(paths.any(|path| begins(path.trim_end_matches('/'))), "{url}");
        assert!(url.bytes().all(|byte| matches!(byte, b'!'..=b'~')), "{url:?}");
    }
    assert_eq!(route.default_answer().status, 200);

    let headers = first_party::upstream_headers(request, &site.policy);
    let mut said = Said::default();
    for (name, value) in &headers {
        let name = lossy(name).to_ascii_lowercase();
        let is_sent_once = ["x-px-first-party", "x-px-enforcer-true-ip", "x-forwarded-for"];
        if is_sent_once.contains(&name.as_str()) {
            let same = |other: &&first_party::UpstreamHeader<'_>| {
                other.0.eq_ignore_ascii_case(name.as_bytes())
            };
            assert_eq!(headers.iter().filter(same).count(), 1, "{name}");
        }
        let never = ["authorization", "host", "content-length", "transfer-encoding", "connection"];
        assert!(!never.contains(&name.as_str()), "{name}");
        if options.sensitive_headers.contains(&"cookie".to_owned()) && name == "cookie" {
            assert!(value.starts_with(b"pxvid="), "the site's cookies leave it");
        }
        said.text("upstream header", lossy(value));
    }
    said.holds_no_secret(site, visit);
}

/// Headers are reported once each, in order, repeated ones together, and no cookies.
fn check_reported_headers(reported: &Value, headers: &[Header<'_>], policy: &Policy) {
    if policy.options().anonymize_ip {
        // Not what was received; whether it is right is tested beside the code.
        assert!(reported.is_array());
        return;
    }
    let total: usize = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    let reported = reported.as_array().expect("a list of headers");
    let name = |header: &Header<'_>| lossy(header.name).to_ascii_lowercase();
    let options = policy.options();
    let is_default = options.sensitive_headers == ["cookie", "cookies"]
        && options.allowed_cookies.is_empty()
        && options.logger_auth_token.expose().is_empty();
    if !is_default {
        return;
    }
    assert!(reported.iter().all(|entry| entry["name"] != "cookie"), "a cookie is reported");
    // Comparing costs quadratic time; and beyond a limit of its own a report is cut.
    if headers.len() > 100 || total > 200_000 {
        return;
    }
    let mut expected: Vec<(usize, &Header<'_>)> = Vec::new();
    for (place, header) in headers.iter().enumerate() {
        let same = |other: &Header<'_>| other.name.eq_ignore_ascii_case(header.name);
        expected.push((headers.iter().position(same).unwrap_or(place), header));
    }
    expected.sort_by_key(|(first, _)| *first);
    expected.retain(|(_, header)| !["cookie", "cookies"].contains(&name(header).as_str()));
    assert_eq!(reported.len(), expected.len());
    for (entry, (_, header)) in reported.iter().zip(expected) {
        assert_eq!(entry["name"], name(header));
        assert_eq!(entry["value"], *lossy(header.value));
    }
}

/// Only a decision blocks, and whatever goes wrong passes with its reason.
fn check_decision(verdict: &Verdict<'_>, asked: bool, visit: &Visit, policy: &Policy) {
    let passes = verdict.action == Action::Pass;
    let hooks = verdict.request().hooks;
    let options = policy.options();
    assert_eq!(verdict.pass_reason.is_some(), passes);
    assert_eq!(verdict.block_reason.is_none(), passes);
    let is_made = !matches!(visit.reply, Reply::NotMade(_));
    assert_eq!(verdict.call_reason.is_some(), asked && is_made);
    laws::check_mode(verdict, visit, policy);
    if let Some(error) = &verdict.s2s_error {
        assert!(error.message.len() <= MAX_ERROR_MESSAGE);
    }
    // DECISIONS 15: the one place where a failure does not pass.
    let is_sale = hooks.is_hype_sale == Some(true);
    if is_sale && verdict.block_reason == Some(BlockReason::HscRoute) {
        return;
    }
    assert_ne!(verdict.block_reason, Some(BlockReason::HscRoute));
    assert_eq!(verdict.s2s_error.is_some(), verdict.pass_reason == Some(PassReason::S2sError));
    assert_eq!(verdict.has_timed_out, verdict.pass_reason == Some(PassReason::S2sTimeout));
    if hooks.is_blocked {
        assert_eq!(verdict.block_reason, Some(BlockReason::PreEnforceHandler));
        return;
    }
    if !asked {
        if passes && verdict.pass_reason != Some(PassReason::Cookie) {
            assert!(!options.enable_server_calls && verdict.s2s_error.is_some());
        }
        assert!(passes || verdict.block_reason == Some(BlockReason::CookieHighScore));
        return;
    }
    assert!(options.enable_server_calls);
    match &visit.reply {
        Reply::Timeout => assert_eq!(verdict.pass_reason, Some(PassReason::S2sTimeout)),
        Reply::Unreachable(_) | Reply::NotMade(_) => {
            assert_eq!(verdict.pass_reason, Some(PassReason::S2sError));
        }
        Reply::Http(413, _) if options.block_size_exceeded_15k_headers_size => {
            assert_eq!(verdict.block_reason, Some(BlockReason::HeadersSizeExceeded));
        }
        Reply::Http(status, body) => {
            let expected = if *status == 200 {
                decision_of(body, options.token_version, options.blocking_score)
            } else {
                None
            };
            let given = match verdict.pass_reason {
                Some(PassReason::S2sError) => None,
                _ => Some(!passes),
            };
            assert_eq!(given, expected, "{status} {}", body.escape_ascii());
        }
    }
}

/// Whether an answer blocks, read once more and in other words; `None` if it decides nothing.
fn decision_of(body: &[u8], version: TokenVersion, threshold: u32) -> Option<bool> {
    let answer: Value = serde_json::from_slice(body).ok().filter(|_| body.len() <= 1 << 20)?;
    let is_valid = answer.is_object() && answer["status"].as_f64() == Some(0.0);
    let score = if version == TokenVersion::V2 {
        match answer["cookie_cfg_block_result"].as_str()? {
            "1" => 100.0,
            "0" => 0.0,
            _ => return None,
        }
    } else {
        answer["score"].as_f64()?
    };
    is_valid.then_some(score >= f64::from(threshold))
}

fn check_activity(
    verdict: &Verdict<'_>,
    visit: &Visit,
    policy: &Policy,
    headers: &[Header<'_>],
    said: &mut Said,
) -> Value {
    let mut bytes = b"[".to_vec();
    let response = OriginResponse { status: Some(200), ..OriginResponse::default() };
    if !verdict.activity(policy, &response, visit.now() + RTT, &mut bytes) {
        assert_eq!(bytes, b"[", "something was written although nothing is sent");
        return Value::Null;
    }
    let activity = said.json("activity", &bytes[1..]);
    if verdict.request().hooks.activity_headers.is_empty() {
        check_reported_headers(&activity["headers"], headers, policy);
    }
    let client_ip = verdict.client_ip();
    if !policy.options().anonymize_ip {
        assert_eq!(activity["socket_ip"], client_ip);
    }
    assert!(client_ip.parse::<IpAddr>().is_ok(), "{client_ip}");
    activity
}

/// The report on a login, which is one wherever credentials were found and the visitor passed.
fn check_login(verdict: &Verdict<'_>, policy: &Policy, said: &mut Said) {
    let mut bytes = Vec::new();
    let response = OriginResponse { status: Some(200), ..OriginResponse::default() };
    let is_written = verdict.additional_activity(policy, &response, NOW + RTT, &mut bytes);
    let options = &policy.options().credentials;
    let is_automatic = options.automatic_additional_s2s && !options.additional_s2s_header;
    if is_automatic {
        assert_eq!(is_written, verdict.has_credentials() && verdict.action == Action::Pass);
    }
    if !is_written {
        assert!(bytes.is_empty(), "something was written although nothing is sent");
        return;
    }
    let details = said.json("additional_s2s", &bytes)["details"].take();
    let is_hash = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    assert!(details["pass"].is_null() || is_hash(&details["pass"]), "{details}");
    assert!(details["ci_version"] == "multistep_sso" || is_hash(&details["user"]), "{details}");
}

/// What is changed about the request to the origin and about its response.
fn check_changes(verdict: &Verdict<'_>, visit: &Visit, policy: &Policy, said: &mut Said) {
    for (name, value) in verdict.origin_headers(policy, visit.now()) {
        assert!(policy.owned_headers().any(|owned| owned == name));
        assert!(!value.contains(char::is_control), "{value:?}");
        said.text("request header", value);
    }
    if let Some((name, value)) = verdict.response_headers(policy) {
        assert!(!name.is_empty() && !value.contains(char::is_control), "{name}: {value:?}");
        said.text("response header", value);
    }
    if let Some(cookie) = verdict.pxhd_cookie(policy) {
        check_cookie(&cookie);
        said.text("cookie", cookie);
    }
    if let Some(enrichment) = verdict.data_enrichment(policy) {
        said.json_of_any_kind("data enrichment", &enrichment);
    }
    if let Some(time) = verdict.token_time() {
        assert!(time.is_finite());
    }
}

impl Said {
    fn json_of_any_kind(&mut self, what: &'static str, text: &str) {
        assert!(serde_json::from_str::<Value>(text).is_ok(), "{what}: {text}");
        self.text(what, text);
    }
}

/// One cookie with the attributes we give it and no others.
fn check_cookie(cookie: &str) {
    assert!(!cookie.contains(char::is_control), "{cookie:?}");
    let mut parts = cookie.split(';').map(str::trim);
    assert!(parts.next().is_some_and(|pair| pair.starts_with("_pxhd=")), "{cookie}");
    let mut attributes: Vec<_> = parts.collect();
    attributes.retain(|attribute| *attribute != "Secure" && !attribute.starts_with("domain="));
    assert_eq!(attributes, ["path=/", "SameSite=Lax"], "{cookie}");
    assert!(cookie.matches("domain=").count() <= 1 || cookie.matches(';').count() <= 4);
}

fn check_answer(
    verdict: &Verdict<'_>,
    visit: &Visit,
    site: &Site<'_>,
    said: &mut Said,
) -> Option<Answer> {
    let cors_headers = site.cors_headers.as_deref();
    let answer = verdict.answer(&site.policy, &visit.page_assets(cors_headers));
    assert_eq!(answer.is_some(), verdict.action == Action::Block);
    let answer = answer?;
    for (name, value) in &answer.headers {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        assert!(name.bytes().all(is_plain), "{name}");
        assert!(!value.contains(char::is_control), "{name}: {value:?}");
        if name == "Set-Cookie" {
            check_cookie(value);
        }
        said.text("answer header", value.as_str());
    }
    let kind = verdict.block_kind(&site.policy);
    let is_mobile = verdict.cookie_origin() == CookieOrigin::Header;
    let check_page = |page: &str| match page::skeleton(page) {
        Ok(skeleton) => assert_eq!(skeleton, site.page(verdict, &visit.assets), "{page}"),
        Err(error) => panic!("{error}: {page}"),
    };
    let body = std::str::from_utf8(&answer.body).expect("UTF-8");
    let (status, content_type) = match kind {
        // Sent elsewhere: there is no page.
        BlockKind::Redirect => {
            let location = answer.headers.iter().find(|(name, _)| name == "Location");
            let (_, location) = location.expect("a place to go to");
            let page = verdict.custom_block_url();
            if page.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !b"\"<>".contains(&byte)) {
                let sign = if page.contains('?') { '&' } else { '?' };
                let rest = location.strip_prefix(page).expect("the operator's page");
                assert!(rest.starts_with(&format!("{sign}url=")), "{location}");
            }
            let (_, parameters) = location.rsplit_once("&uuid=").expect("an id");
            assert_eq!(parameters.matches('&').count(), 1, "{location}");
            assert!(body.is_empty() && !is_mobile);
            (307, "text/html")
        }
        BlockKind::ApiProtection | BlockKind::AdvancedBlockingResponse => {
            let json = said.json("answer", &answer.body);
            laws::check_ids_of_answer(&json, verdict);
            (403, "application/json")
        }
        BlockKind::HypeSale | BlockKind::Mobile => {
            let json = said.json("answer", &answer.body);
            laws::check_ids_of_answer(&json, verdict);
            let page = match json["html"].as_str() {
                Some(page) => page.to_owned(),
                None => page::of_mobile(&json),
            };
            check_page(&page);
            said.text("page in an answer", page);
            (403, "application/json")
        }
        BlockKind::Captcha | BlockKind::CustomPage
            if verdict.block_action != "b" && !visit.own_page.is_empty() =>
        {
            assert_eq!(body, visit.own_page);
            (403, "text/html")
        }
        kind => {
            check_page(body);
            said.text("page", body);
            (if kind == BlockKind::RateLimit { 429 } else { 403 }, "text/html")
        }
    };
    assert_eq!((answer.status, answer.content_type), (status, content_type));
    Some(answer)
}
