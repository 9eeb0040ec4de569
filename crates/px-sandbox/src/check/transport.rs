//! The HTTP side of a call: method, target, header fields, TLS. risk-api.md § 2, activities.md
//! § 2 and § 7.

use super::{Checker, Report};
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

/// Rules for the server to server calls. Gives the status they would be refused with.
pub(super) fn check_call(
    received: &Received,
    checker: &Checker,
    report: &mut Report,
) -> Option<u16> {
    let expected_path = match received.endpoint {
        Endpoint::RiskApi => "/api/v3/risk",
        Endpoint::Activities => "/api/v1/collector/s2s",
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

fn check_coding(received: &Received, report: &mut Report) {
    let Some(coding) = received.header("content-encoding") else { return };
    if received.endpoint == Endpoint::RiskApi {
        // activities.md § 7
        report.say(format_args!("content-encoding {coding:?}: the Risk API is never compressed"));
    } else if coding != "gzip" {
        report.say(format_args!("content-encoding {coding:?}, expected gzip or none"));
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
    let is_known = checker.any_app || checker.apps.iter().any(|app| app.auth_token == token);
    // The token itself is nobody's business, not even in a complaint.
    report.expect(is_known, "the bearer token is that of no known app");
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
