//! One case played through the enforcer, the way the nginx shell does it.

use std::ops::RangeInclusive;

use px_core::enforce::{
    self, Given, Notification, OriginResponse, Outcome, PageAssets, Step, Verdict, Worker,
};
use px_core::first_party;
use px_core::hooks::{CustomParameter, Hooks, ParameterValue};
use px_core::policy::{Options, Policy};
use px_core::reason::FilterReason;
use px_core::request::{Header, Request, Tls};
use px_core::token_memory::NoMemory;
use serde_json::{Value, json};

use super::options::options_from;

/// Policy, request and clock of a case.
pub struct Scene {
    pub policy: Policy,
    pub headers: Vec<(String, String)>,
    pub client_ip: String,
    pub now: u64,
    risk_rtt: u64,
    assets: [String; 6],
    /// Headers in place of the usual CORS headers of block answers.
    cors_headers: Option<Vec<(String, String)>>,
    custom_block_url: String,
    handles_preflight: bool,
    is_hype_sale: Option<bool>,
    request_parameters: Vec<(u8, Offered)>,
    response_parameters: Vec<(u8, Offered)>,
    pub method: String,
    scheme: String,
    host: String,
    target: String,
    http_version: String,
    request_id: String,
    pub body: String,
}

/// A value offered for a slot of the custom parameters.
enum Offered {
    Text(String),
    Json(String),
}

/// How a request went.
pub enum Played<'s, 'r> {
    Inactive,
    Filtered(FilterReason),
    /// With the headers for the upstream.
    FirstParty(first_party::Route<'r>, Vec<(String, String)>),
    Notification(Notification),
    Preflight,
    PreflightHandler,
    Decided(Box<Decided<'s, 'r>>),
}

pub struct Decided<'s, 'r> {
    /// Body of the Risk API request, if one was sent.
    pub risk: Option<Value>,
    pub verdict: Verdict<'r>,
    scene: &'s Scene,
    /// Time after the Risk API call.
    now: u64,
}

impl Scene {
    /// The case with its own configuration.
    pub fn of(case: &Value) -> Result<Self, String> {
        Self::with_options(case, options_from(&case["config"]))
    }

    pub fn with_options(case: &Value, options: Options) -> Result<Self, String> {
        let request = &case["request"];
        let text = |value: &Value, default: &str| value.as_str().unwrap_or(default).to_owned();
        let url = text(&request["url"], "https://shop.example.com/");
        let (scheme, rest) = url.split_once("://").ok_or("a URL without scheme")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        let header = |header: &Value| (text(&header[0], ""), text(&header[1], ""));
        let asset = |name: &str| text(&case["config"][name], "");
        Ok(Self {
            policy: Policy::compile(options).map_err(|error| error.to_string())?,
            body: text(&request["body"], ""),
            headers: request["headers"].as_array().into_iter().flatten().map(header).collect(),
            client_ip: text(&request["client_ip"], "203.0.113.77"),
            now: case["now_ms"].as_u64().unwrap_or(1_750_000_000_000),
            risk_rtt: case["risk_rtt_ms"].as_u64().unwrap_or(37),
            assets: [
                asset("px_custom_logo"),
                asset("px_css_ref"),
                asset("px_js_ref"),
                asset("px_custom_block_page_content"),
                asset("px_api_protection_block_url"),
                asset("px_api_protection_default_redirect_url"),
            ],
            cors_headers: cors_headers(&case["config"]),
            custom_block_url: asset("px_custom_block_url"),
            handles_preflight: case["config"]["px_cors_custom_preflight_handler"].is_object(),
            is_hype_sale: case["is_hype_sale"].as_bool(),
            request_parameters: parameters(&case["request_values"], 1..=10),
            response_parameters: parameters(&case["response_values"], 11..=20),
            method: text(&request["method"], "GET"),
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            // Only the absolute form can say that there is no path.
            target: if path.starts_with('/') { path.to_owned() } else { url.clone() },
            http_version: text(&request["http_version"], ""),
            request_id: text(&case["request_id"], "0f0e0d0c-0b0a-4a0b-8c0d-0e0f00010203"),
        })
    }

    /// Plays the request; if the Risk API is asked, `answer` is what comes of it: `status` and
    /// `body`, or `transport_error`.
    pub fn play<T>(
        &self,
        answer: &Value,
        look: impl FnOnce(Played<'_, '_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() })
            .collect();
        let own = given(&self.request_parameters);
        let hooks = Hooks {
            custom_block_url: &self.custom_block_url,
            handles_preflight: self.handles_preflight,
            custom_parameters: &own,
            is_hype_sale: self.is_hype_sale,
            ..Hooks::NONE
        };
        let request = Request {
            method: self.method.as_bytes(),
            scheme: &self.scheme,
            host: self.host.as_bytes(),
            target: self.target.as_bytes(),
            http_version: &self.http_version,
            headers: &headers,
            peer_ip: &self.client_ip,
            request_id: &self.request_id,
            tls: Tls::default(),
            hooks: &hooks,
            extracted: None,
        };
        let wanted = enforce::wanted(&request, &self.policy);
        let extracted = wanted.map(|wanted| {
            let body = Some(self.body.as_bytes()).filter(|body| wanted.body && !body.is_empty());
            enforce::extract(&request, &self.policy, &Given { body, ..Given::default() })
        });
        let request = Request { extracted: extracted.as_ref(), ..request };
        let worker = &mut Worker::default();
        let step = enforce::begin(&request, &self.policy, worker, &mut NoMemory, self.now);
        look(match step {
            Step::Inactive => Played::Inactive,
            Step::Filtered(reason) => Played::Filtered(reason),
            Step::FirstParty(route) => {
                let headers = first_party::upstream_headers(&request, &self.policy);
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers = headers.iter().map(|(name, value)| (text(name), text(value)));
                Played::FirstParty(route, headers.collect())
            }
            Step::Notification(notification) => Played::Notification(notification),
            Step::Preflight => Played::Preflight,
            Step::PreflightHandler => Played::PreflightHandler,
            Step::Decided(verdict) => Played::Decided(Box::new(Decided {
                risk: None,
                verdict,
                scene: self,
                now: self.now,
            })),
            Step::AskRisk(pending) => {
                let body =
                    serde_json::from_slice(pending.risk_body()).map_err(|e| e.to_string())?;
                let now = self.now + self.risk_rtt;
                let verdict = enforce::resume(*pending, outcome(answer), &self.policy, now);
                Played::Decided(Box::new(Decided { risk: Some(body), verdict, scene: self, now }))
            }
        })
    }
}

fn outcome(answer: &Value) -> Outcome<'_> {
    match answer["transport_error"].as_str() {
        Some("timeout") => Outcome::Timeout,
        Some(cause) => Outcome::Unreachable { cause },
        None => Outcome::Answer {
            status: answer["status"].as_u64().and_then(|s| u16::try_from(s).ok()).unwrap_or(200),
            body: answer["body"].as_str().unwrap_or_default().as_bytes(),
        },
    }
}

impl Decided<'_, '_> {
    /// The activity, if one is sent, after an answer of the origin with `http_status`.
    pub fn activity(&self, http_status: u16) -> Result<Option<Value>, String> {
        let own = given(&self.scene.response_parameters);
        self.activity_after(&OriginResponse {
            status: Some(http_status),
            custom_parameters: &own,
            ..OriginResponse::default()
        })
    }

    pub fn activity_after(&self, response: &OriginResponse<'_>) -> Result<Option<Value>, String> {
        let mut body = Vec::new();
        let policy = &self.scene.policy;
        if !self.verdict.activity(policy, response, self.now, &mut body) {
            return if body.is_empty() { Ok(None) } else { Err("written, not sent".to_owned()) };
        }
        serde_json::from_slice(&body).map(Some).map_err(|error| error.to_string())
    }

    /// The report on a login, if one is sent.
    pub fn additional_activity(
        &self,
        response: &OriginResponse<'_>,
    ) -> Result<Option<Value>, String> {
        let mut body = Vec::new();
        if !self.verdict.additional_activity(&self.scene.policy, response, self.now, &mut body) {
            return if body.is_empty() { Ok(None) } else { Err("written, not sent".to_owned()) };
        }
        serde_json::from_slice(&body).map(Some).map_err(|error| error.to_string())
    }

    pub fn now(&self) -> u64 {
        self.now
    }

    pub fn policy(&self) -> &Policy {
        &self.scene.policy
    }

    /// The cookie that is added to the origin's answer.
    pub fn pxhd_cookie(&self) -> Option<String> {
        self.verdict.pxhd_cookie(&self.scene.policy)
    }

    /// The answer to a blocked request.
    pub fn answer(&self) -> Option<enforce::Answer> {
        let [custom_logo, css_ref, js_ref, content, api_url, api_default] = &self.scene.assets;
        let headers = self.scene.cors_headers.as_ref();
        let headers: Option<Vec<_>> =
            headers.map(|list| list.iter().map(|(name, value)| (&**name, &**value)).collect());
        let assets = PageAssets {
            custom_logo,
            css_ref,
            js_ref,
            block_page_content: content,
            api_protection_block_url: api_url,
            api_protection_default_redirect_url: api_default,
            cors_headers: headers.as_deref(),
        };
        self.verdict.answer(&self.scene.policy, &assets)
    }

    /// `action` and `reason` as vectors name them.
    pub fn decision(&self) -> Value {
        let verdict = &self.verdict;
        let action = match verdict.action {
            enforce::Action::Pass => "pass_request",
            enforce::Action::SimulatedBlock => "simulated_block",
            enforce::Action::Block => "block",
        };
        match (verdict.pass_reason, verdict.block_reason) {
            (Some(reason), None) => json!({"action": action, "reason": reason}),
            (None, Some(reason)) => json!({"action": action, "reason": reason}),
            reasons => json!({"action": action, "reason": format!("{reasons:?}")}),
        }
    }
}

/// The headers that the operator's function returns, if it returns at all.
fn cors_headers(config: &Value) -> Option<Vec<(String, String)>> {
    let returned = config["px_cors_create_custom_block_response_headers"]["returns"].as_object()?;
    let mut headers = Vec::new();
    for (name, values) in returned {
        let values = values.as_array().into_iter().flatten().filter_map(Value::as_str);
        headers.extend(values.map(|value| (name.clone(), value.to_owned())));
    }
    Some(headers)
}

/// What a function offers for these slots: nothing but `custom_param<slot>` counts.
fn parameters(offered: &Value, slots: RangeInclusive<u8>) -> Vec<(u8, Offered)> {
    let offered = offered.as_object();
    let value = |slot| Some((slot, offered?.get(&format!("custom_param{slot}"))?));
    let kept = |value: &Value| match value {
        Value::String(text) => Offered::Text(text.clone()),
        other => Offered::Json(other.to_string()),
    };
    slots.filter_map(value).map(|(slot, value)| (slot, kept(value))).collect()
}

fn given(parameters: &[(u8, Offered)]) -> Vec<CustomParameter<'_>> {
    let parameters = parameters.iter().map(|(slot, offered)| match offered {
        Offered::Text(text) => (*slot, ParameterValue::Text(text)),
        Offered::Json(json) => (*slot, ParameterValue::Json(json)),
    });
    parameters.map(|(slot, value)| CustomParameter { slot, value }).collect()
}

/// Values of a header of an answer.
pub fn header_values(answer: &enforce::Answer, name: &str) -> Vec<String> {
    let named = answer.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.clone()).collect()
}
