//! Log records of one request for HUMAN's log service, where a request asks for them.
//!
//! Source: remote-config-and-telemetry.md § 5. Only who knows the token is heard, and nothing is said
//! that the log of the server would not say.

use serde::Serialize;

use crate::enforce::Verdict;
use crate::json;
use crate::policy::{Policy, Secret};
use crate::request::{Request, text};

/// Header that holds `px_logger_auth_token`.
pub const LOG_HEADER: &str = "x-px-enforcer-log";

/// Whether the request asks, with the token.
pub(crate) fn are_wanted(request: &Request<'_>, token: &Secret) -> bool {
    let token = token.expose().as_bytes();
    let sent = request.header(LOG_HEADER).unwrap_or_default();
    // In the same time wherever they differ.
    let differs = token.iter().zip(sent).fold(0, |differs, (own, other)| differs | (own ^ other));
    !token.is_empty() && token.len() == sent.len() && differs == 0
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    container: &'static str,
    #[serde(rename = "appID")]
    app_id: &'a str,
    method: &'a str,
    host: &'a str,
    url: &'a str,
    path: &'a str,
    request_id: &'a str,
    module_version: &'a str,
    #[serde(rename = "remoteConfigID", skip_serializing_if = "Option::is_none")]
    remote_config_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_config_version: Option<u64>,
    message: String,
    severity: &'static str,
    message_timestamp: u64,
}

/// The JSON array to post to [`Policy::logs_url`]: what became of the request, step by step. `now` is
/// the time in ms.
pub fn write(verdict: &Verdict<'_>, policy: &Policy, now: u64) -> Vec<u8> {
    let options = policy.options();
    let facts = &verdict.facts;
    let (method, host) = (text(facts.request.method), text(facts.request.host));
    let url = facts.url.raw().to_string();
    let path = format!("{}{}", facts.url.path(), facts.url.query());
    let version = Some(options.remote_config_version).filter(|version| *version != 0);
    let mut records = Vec::new();
    let mut say = |severity, at, message: String| {
        records.push(Record {
            container: "enforcer",
            app_id: &options.app_id,
            method: &method,
            host: &host,
            url: &url,
            path: &path,
            request_id: facts.request.request_id,
            module_version: &options.module_version,
            remote_config_id: version.map(|_| &*options.remote_config_id),
            remote_config_version: version,
            message,
            severity,
            message_timestamp: at,
        });
    };
    say("debug", facts.started, format!("request is enforced in mode {}", facts.mode.as_str()));
    if let Some(reason) = &verdict.call_reason {
        say("debug", facts.started, format!("Risk API is asked because of {}", reason.as_str()));
    }
    if let Some(rtt) = verdict.risk_rtt {
        let at = facts.started.saturating_add(rtt);
        say("debug", at, format!("Risk API has answered in {rtt} ms"));
    }
    if verdict.has_timed_out {
        say("error", now, "Risk API has not answered in time".to_owned());
    }
    if let Some(error) = &verdict.s2s_error {
        say("error", now, format!("Risk API failed: {}: {}", error.reason.as_str(), error.message));
    }
    let reason = verdict
        .pass_reason
        .map(|reason| reason.as_str())
        .or(verdict.block_reason.map(|reason| reason.as_str()))
        .unwrap_or("unknown_reason");
    let score = verdict.score.map(|score| format!(", score {score}")).unwrap_or_default();
    say("debug", now, format!("verdict {}, reason {reason}{score}", verdict.action.as_str()));
    let mut out = Vec::with_capacity(1024);
    json::write(&records, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::enforce::{self, Outcome};
    use crate::sample::{self, NOW, headers, policy};

    #[test]
    fn only_the_token_itself_is_heard() {
        let token = Secret::new("log-token".to_owned());
        for (sent, is_heard) in [
            (Some("log-token"), true),
            (Some("log-tokem"), false),
            (Some("log-token "), false),
            (Some("log-toke"), false),
            (Some(""), false),
            (None, false),
        ] {
            let list: Vec<_> = sent.map(|sent| ("X-PX-Enforcer-Log", sent)).into_iter().collect();
            let headers = headers(&list);
            let request = sample::request(&headers);
            assert_eq!(are_wanted(&request, &token), is_heard, "{sent:?}");
            assert!(!are_wanted(&request, &Secret::default()));
        }
    }

    #[test]
    fn records_tell_the_requests_story() {
        let policy = policy(|options| {
            options.remote_config_id = "rc-1".to_owned();
            options.remote_config_version = 3;
        });
        let request = sample::request(&[]);
        let pending = sample::pending(&request, &policy);
        let outcome = Outcome::Answer { status: 500, body: b"oops" };
        let verdict = enforce::resume(pending, outcome, &policy, NOW + 7);
        let records: Value =
            serde_json::from_slice(&write(&verdict, &policy, NOW + 8)).expect("JSON");
        let records = records.as_array().expect("a list");
        let messages: Vec<_> =
            records.iter().map(|r| r["message"].as_str().expect("text")).collect();
        assert_eq!(
            messages,
            [
                "request is enforced in mode active_blocking",
                "Risk API is asked because of no_cookie",
                "Risk API has answered in 7 ms",
                "Risk API failed: server_error: response body: oops",
                "verdict pass, reason s2s_error",
            ]
        );
        assert_eq!(records[3]["severity"], "error");
        for record in records {
            assert_eq!(record["container"], "enforcer");
            assert_eq!(record["appID"], "PXabcd1234");
            assert_eq!(record["path"], "/account?x=1");
            assert_eq!(record["remoteConfigID"], "rc-1");
            assert_eq!(record["remoteConfigVersion"], 3);
            assert!(record["messageTimestamp"].is_u64());
        }
    }
}
