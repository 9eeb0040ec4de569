//! Holds what arrives against the specification and complains.
//!
//! Being picky is the point: an enforcer that satisfies this satisfies HUMAN's backend. Implements
//! the sender's duties of risk-api.md § 2 to § 4, activities.md § 2 to § 7, first-party.md § 2,
//! remote-config-and-telemetry.md § 2, § 3 and § 5, csp.md and snippet-injection.md.

mod agreement;
mod fields;
mod first_party;
mod json;
mod logs;
mod memory;
mod messages;
mod transport;
mod url;

use std::fmt::Display;

use serde_json::Value;

use crate::app::App;
use crate::endpoint::Endpoint;
pub(crate) use crate::explain::is_uuid;
use crate::received::Received;

/// The inspector of one sandbox.
pub(crate) struct Checker {
    pub(crate) apps: Vec<App>,
    /// Take every app id and token.
    pub(crate) any_app: bool,
    /// The enforcer's `px_remote_config_auth_token`, where it is known here.
    pub(crate) remote_config_token: Option<String>,
    /// The enforcer's `px_logger_auth_token`, where it is known here.
    pub(crate) logger_token: Option<String>,
    /// Header names that must not be reported.
    pub(crate) sensitive_headers: Vec<String>,
    /// Compare reported times with the sandbox's clock.
    pub(crate) judge_clock: bool,
    memory: memory::Memory,
}

/// What an inspection found.
#[derive(Default)]
pub(crate) struct Findings {
    /// One line per fault.
    pub(crate) complaints: Vec<String>,
    /// Status the backend would refuse the request with.
    pub(crate) refusal: Option<u16>,
    /// The body, where it is JSON and its meaning is known.
    pub(crate) body: Option<Value>,
}

impl Checker {
    pub(crate) fn new(apps: Vec<App>) -> Self {
        Self {
            apps,
            any_app: false,
            remote_config_token: None,
            logger_token: None,
            sensitive_headers: vec!["cookie".into(), "cookies".into()],
            judge_clock: true,
            memory: memory::Memory::default(),
        }
    }

    /// Judges a request by its own content.
    pub(crate) fn inspect(&self, received: &Received) -> Findings {
        let mut report = Report::default();
        let mut findings = Findings::default();
        transport::check_connection(received, &mut report);
        match received.endpoint {
            Endpoint::RiskApi
            | Endpoint::Activities
            | Endpoint::Telemetry
            | Endpoint::EnforcerLogs => {
                findings.refusal = transport::check_call(received, self, &mut report);
                match self.check_body(received, &mut report) {
                    Some(body) => findings.body = Some(body),
                    None => findings.refusal = findings.refusal.or(Some(400)),
                }
            }
            Endpoint::CspPolicy | Endpoint::RemoteConfig | Endpoint::Snippet => {
                findings.refusal = transport::check_fetch(received, self, &mut report);
            }
            Endpoint::Health if received.method != "GET" => report.say("expected GET"),
            Endpoint::Sensor | Endpoint::Captcha | Endpoint::Checkpoint => {
                first_party::check_script(received, self, &mut report);
            }
            Endpoint::Xhr | Endpoint::Solve => {
                first_party::check_headers(received, self, &mut report)
            }
            Endpoint::Health | Endpoint::Node | Endpoint::Control | Endpoint::Other => {}
        }
        findings.complaints = report.into_lines();
        findings
    }

    /// Compares with other requests that tell of the same visitor's request. Only for requests
    /// that are answered properly: after a failure the enforcer may well say it again.
    pub(crate) fn compare(&self, received: &Received, body: &Value) -> Vec<String> {
        let mut report = Report::default();
        match received.endpoint {
            Endpoint::RiskApi => self.memory.risk_call(received.number, body, &mut report),
            Endpoint::Activities => {
                for (place, activity) in messages::activities(body) {
                    report.within(&place, |report| self.memory.activity(activity, report));
                }
            }
            _ => {}
        }
        report.into_lines()
    }

    /// Remembers the uuid the Risk API answered with.
    pub(crate) fn answered(&self, body: &Value, answer: &[u8]) {
        self.memory.answered(body, answer);
    }

    /// Forgets all earlier requests.
    pub(crate) fn forget(&self) {
        self.memory.forget();
    }

    fn check_body(&self, received: &Received, report: &mut Report) -> Option<Value> {
        let content = received.content().map_err(|why| report.say(why)).ok()?;
        self.check_leaks(&content, report);
        let (body, repeated) = json::parse(&content).map_err(|why| report.say(why)).ok()?;
        for name in repeated {
            report.say(format_args!("{name:?} occurs twice in one object"));
        }
        match received.endpoint {
            Endpoint::RiskApi => messages::check_risk(&body, self, received.at_ms, report),
            Endpoint::Activities => {
                messages::check_activities(&body, self, received, report);
            }
            Endpoint::EnforcerLogs => logs::check(&body, self, received.at_ms, report),
            _ => messages::check_telemetry(&body, self, received.at_ms, report),
        }
        Some(body)
    }

    /// No secret ever leaves the enforcer, redacted or not asked for.
    fn check_leaks(&self, content: &[u8], report: &mut Report) {
        let content = String::from_utf8_lossy(content);
        let mut search = |secret: &str, name: &str| {
            if secret.len() >= 8 && content.contains(secret) {
                report.say(format_args!("the body holds the {name} in clear"));
            }
        };
        for app in &self.apps {
            search(&app.secret, &format!("cookie secret of {}", app.id));
            search(&app.auth_token, &format!("auth token of {}", app.id));
        }
        for (token, name) in [
            (&self.remote_config_token, "token of the remote configuration"),
            (&self.logger_token, "token of the logger"),
        ] {
            search(token.as_deref().unwrap_or_default(), name);
        }
    }

    fn knows_token(&self, token: &str) -> bool {
        self.any_app || self.apps.iter().any(|app| app.auth_token == token)
    }

    fn knows_app(&self, id: &str) -> bool {
        self.any_app || self.apps.iter().any(|app| app.id == id)
    }
}

/// Complaints in the making.
#[derive(Default)]
pub(crate) struct Report {
    place: String,
    lines: Vec<String>,
}

impl Report {
    pub(crate) fn say(&mut self, text: impl Display) {
        self.lines.push(format!("{}{text}", self.place));
    }

    /// Complains unless the condition holds. Give `format_args!`: most conditions do hold.
    pub(crate) fn expect(&mut self, holds: bool, otherwise: impl Display) {
        if !holds {
            self.say(otherwise);
        }
    }

    /// Lets `f` report about a part, named in front of every line.
    pub(crate) fn within(&mut self, place: &str, f: impl FnOnce(&mut Self)) {
        let before = self.place.len();
        self.place.push_str(place);
        f(self);
        self.place.truncate(before);
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}
