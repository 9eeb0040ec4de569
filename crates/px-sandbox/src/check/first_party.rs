//! What an enforcer must do to a request that it proxies for a browser: first-party.md § 2.1.
//! Browsers that come on their own (third-party mode) are not judged.

use std::net::IpAddr;

use super::{Checker, Report, is_uuid};
use crate::endpoint::Endpoint;
use crate::received::Received;

/// Sensor and captcha scripts.
pub(super) fn check_script(received: &Received, checker: &Checker, report: &mut Report) {
    let id = received.path().split('/').nth(1).unwrap_or_default();
    report
        .expect(checker.knows_app(id), format_args!("a script for {id:?}, which is no known app"));
    check_headers(received, checker, report);
    if received.is_first_party() && received.endpoint == Endpoint::Sensor {
        report.expect(received.query().is_none(), "the sensor's query must be dropped");
    }
}

/// The headers of any first-party request.
pub(super) fn check_headers(received: &Received, checker: &Checker, report: &mut Report) {
    let marks = received.values("x-px-first-party").count();
    if marks == 0 {
        return;
    }
    report.expect(
        marks == 1 && received.is_first_party(),
        "x-px-first-party must be sent once, as 1",
    );
    let addresses: Vec<&str> = received.values("x-px-enforcer-true-ip").collect();
    match addresses[..] {
        [address] if address.parse::<IpAddr>().is_ok() => {
            let forwarded = received.values("x-forwarded-for").last().unwrap_or_default();
            let last = forwarded.rsplit(',').next().unwrap_or_default().trim();
            report.expect(
                last == address,
                format_args!(
                    "x-forwarded-for ends in {last:?}, not in the true address {address:?}"
                ),
            );
        }
        _ => report.say(format_args!("x-px-enforcer-true-ip {addresses:?}, expected one address")),
    }
    let is_sensitive = checker.sensitive_headers.iter().any(|name| name == "cookie");
    for cookie in received.values("cookie").filter(|_| is_sensitive) {
        let is_visitor_id = cookie.strip_prefix("pxvid=").is_some_and(is_uuid);
        report.expect(
            is_visitor_id,
            "the Cookie header must be gone, but for pxvid=<UUID of a valid _pxvid>",
        );
    }
    for name in ["cookies", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade"] {
        report.expect(
            received.header(name).is_none(),
            format_args!("header {name:?} must not be forwarded"),
        );
    }
}
