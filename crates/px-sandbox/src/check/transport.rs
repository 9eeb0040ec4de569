//! The HTTP side of a call: method, target, header fields, TLS. risk-api.md § 2, activities.md
//! § 2 and § 7, csp.md, remote-config-and-telemetry.md § 3 and § 5.

use super::{Checker, Report};
use crate::console;
use crate::endpoint::Endpoint;
use crate::received::Received;

/// Rules for every request, whatever it is for.
pub(super) fn check_connection(received: &Received, report: &mut Report) {
    let hosts = received.values("host").count();
    if received.minor_version > 0 && hosts != 1 {
        report.say(format_args!("{hosts} Host headers, expected one"));
    }
    if received.tls_version.is_none() {
        return;
    }
    let host = received.header("host").unwrap_or_default();
    let name = host_name(host);
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    match &received.server_name {
        Some(asked) if !asked.eq_ignore_ascii_case(name) => {
            report.say(format_args!("the TLS server name is {asked:?}, the Host header {host:?}"));
        }
        None if !is_address => {
            report.say(format_args!("no TLS server name was sent for the host {host:?}"));
        }
        _ => {}
    }
}

/// The host without its port; IPv6 addresses without their brackets.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Rules for calls that post something. Gives the status they would be refused with.
pub(super) fn check_call(
    received: &Received,
    checker: &Checker,
    report: &mut Report,
) -> Option<u16> {
    let expected_path = match received.endpoint {
        Endpoint::RiskApi => "/api/v3/risk",
        Endpoint::Activities => "/api/v1/collector/s2s",
        Endpoint::EnforcerLogs => "/enforcer-logs/",
        _ => "/api/v2/risk/telemetry",
    };
    report.expect(
        received.target == expected_path,
        format_args!("target {:?}, expected {expected_path:?}", received.target),
    );
    let content_types: Vec<&str> = received.values("content-type").collect();
    report.expect(
        content_types == ["application/json"],
        format_args!("content-type {content_types:?}, expected application/json once"),
    );
    check_coding(received, report);
    check_foreign_headers(received, report);
    let is_authorized = check_authorization(received, checker, report);
    if received.method != "POST" {
        report.say(format_args!("method {}, expected POST", received.method));
        return Some(405);
    }
    if is_authorized { None } else { Some(401) }
}

/// Rules for what an enforcer fetches in the background. Gives the status it would be refused with.
pub(super) fn check_fetch(
    received: &Received,
    checker: &Checker,
    report: &mut Report,
) -> Option<u16> {
    let id = console::app_id(received);
    let expected = match received.endpoint {
        Endpoint::CspPolicy => {
            format!("/v1/enforcer-data?app_id={id}&feature=csp&timestamp=0")
        }
        Endpoint::Snippet => format!("/snippet/{id}"),
        _ => "/config/".to_owned(),
    };
    report.expect(
        received.target == expected,
        format_args!("target {:?}, expected {expected:?}", received.target),
    );
    if received.endpoint == Endpoint::RemoteConfig {
        let accepted: Vec<&str> = received.values("accept").collect();
        report.expect(
            accepted == ["application/json"],
            format_args!("accept {accepted:?}, expected application/json once"),
        );
    } else {
        report
            .expect(checker.knows_app(id), format_args!("asks for {id:?}, which is no known app"));
        check_owner(received, checker, id, report);
    }
    report.expect(received.body.is_empty(), "a body where nothing is to be sent");
    check_foreign_headers(received, report);
    let is_authorized = check_authorization(received, checker, report);
    if received.method != "GET" {
        report.say(format_args!("method {}, expected GET", received.method));
        return Some(405);
    }
    if is_authorized { None } else { Some(401) }
}

/// A call about an app carries a token of that app, which is named twice while its token is rotated.
pub(super) fn check_owner(received: &Received, checker: &Checker, id: &str, report: &mut Report) {
    let bearer = received.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    // A token of no app at all is complained of elsewhere.
    let mut own = checker.apps.iter().filter(|app| app.id == id).peekable();
    if own.peek().is_some()
        && !checker.any_app
        && let Some(token) = bearer
        && own.all(|app| app.auth_token != token)
        && checker.knows_token(token)
    {
        report.say(format_args!("sent with a bearer token that is not that of {id}"));
    }
}

fn check_coding(received: &Received, report: &mut Report) {
    let Some(coding) = received.header("content-encoding") else { return };
    match received.endpoint {
        // activities.md § 7
        Endpoint::RiskApi => {
            report
                .say(format_args!("content-encoding {coding:?}: the Risk API is never compressed"));
        }
        Endpoint::EnforcerLogs => {
            report.say(format_args!("content-encoding {coding:?}: logs are never compressed"));
        }
        _ => report.expect(
            coding == "gzip",
            format_args!("content-encoding {coding:?}, expected gzip or none"),
        ),
    }
}

fn check_authorization(received: &Received, checker: &Checker, report: &mut Report) -> bool {
    let values: Vec<&str> = received.values("authorization").collect();
    let [value] = values[..] else {
        report.say(format_args!("{} Authorization headers, expected one", values.len()));
        return false;
    };
    let Some(token) = value.strip_prefix("Bearer ") else {
        report.say("the Authorization header does not begin with \"Bearer \"");
        return false;
    };
    let is = |known: &Option<String>| known.as_ref().is_none_or(|known| known == token);
    let (is_known, otherwise) = match received.endpoint {
        Endpoint::RemoteConfig => (
            is(&checker.remote_config_token),
            "the bearer token is not that of the remote configuration",
        ),
        Endpoint::EnforcerLogs => {
            (is(&checker.logger_token), "the bearer token is not that of the logger")
        }
        _ => (checker.knows_token(token), "the bearer token is that of no known app"),
    };
    let is_known = is_known || checker.any_app;
    // The token itself is nobody's business, not even in a complaint.
    report.expect(is_known, otherwise);
    is_known
}

/// The client's header fields travel inside the body, never on the call itself.
fn check_foreign_headers(received: &Received, report: &mut Report) {
    const EXPECTED: [&str; 10] = [
        "host",
        "content-type",
        "content-length",
        "authorization",
        "connection",
        "user-agent",
        "accept",
        "transfer-encoding",
        "expect",
        "content-encoding",
    ];
    for (name, _) in &received.headers {
        if !EXPECTED.iter().any(|expected| name.eq_ignore_ascii_case(expected)) {
            report.say(format_args!("header {name:?} has no business here: is it the client's?"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_port_off_a_host() {
        for (host, name) in [
            ("sandbox.test:8443", "sandbox.test"),
            ("sandbox.test", "sandbox.test"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:8443", "::1"),
            ("", ""),
        ] {
            assert_eq!(host_name(host), name);
        }
    }
}
