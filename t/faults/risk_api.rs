//! The Risk API fails.

use crate::load::{Answer, Class};
use crate::matrix::{Row, Sign};
use crate::site::Backend;
use crate::wire::{self, Fault};

/// Whom nobody judged.
const ERROR: Answer = Answer::Origin("pass s2s_error");
const TIMEOUT: Answer = Answer::Origin("pass s2s_timeout");

const RISK_API: &[Backend] = &[Backend::RiskApi];

/// Calls fail, for this reason.
pub(crate) fn fails(row: Row, reason: &'static str) -> Row {
    let labels: &'static [(&str, &str)] = match reason {
        "server_error" => &[("reason", "server_error")],
        "invalid_response" => &[("reason", "invalid_response")],
        _ => &[("reason", "unknown_error")],
    };
    row.during(&Class::ASKED_ABOUT, &[ERROR])
        .sign(Sign::Line("px: Risk API call failed, the visitor passes"))
        .sign(Sign::Grows("px_risk_api_errors_total", labels))
        .sign(Sign::Logged("$px_s2s_error_reason", reason))
        .lines(12)
}

/// Calls are not answered in time.
fn is_late(row: Row) -> Row {
    row.during(&Class::ASKED_ABOUT, &[TIMEOUT])
        .sign(Sign::Line("px: Risk API call failed, the visitor passes"))
        .sign(Sign::Grows("px_risk_api_timeouts_total", &[]))
        .sign(Sign::Logged("$px_pass_reason", "s2s_timeout"))
        .lines(4)
}

pub(crate) fn rows() -> Vec<Row> {
    let misbehaves = |fault: Fault| wire::misbehaves(RISK_API, fault);
    let mut rows = vec![fails(wire::refuses(RISK_API), "unknown_error")];
    for fault in [
        wire::RESET,
        wire::RESET_WITHIN,
        wire::CUT,
        wire::HALF_CLOSED,
        wire::GARBAGE,
        wire::LONG_HEAD,
    ] {
        rows.push(fails(misbehaves(fault), "unknown_error"));
    }
    rows.push(is_late(misbehaves(wire::SILENT)));
    rows.push(is_late(misbehaves(wire::TRICKLE)));
    // A busy machine may need longer than the timeout for it.
    rows.push(
        fails(misbehaves(wire::OVERSIZED), "invalid_response")
            .during(&Class::ASKED_ABOUT, &[ERROR, TIMEOUT]),
    );
    rows.push(fails(misbehaves(wire::NONSENSE), "invalid_response"));
    rows.push(fails(misbehaves(wire::ERROR), "server_error"));
    for stranger in wire::STRANGERS {
        rows.push(fails(wire::is_a_stranger(Backend::RiskApi, stranger), "unknown_error"));
    }
    rows
}
