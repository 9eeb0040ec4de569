//! The Risk API fails.

use crate::load::{Answer, Class};
use crate::matrix::{Row, Sign};
use crate::site::Backend;
use crate::wire::{self, Fault};

/// Whom nobody judged.
pub(crate) const ERROR: Answer = Answer::Origin("pass s2s_error");
pub(crate) const TIMEOUT: Answer = Answer::Origin("pass s2s_timeout");

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
pub(crate) fn is_late(row: Row) -> Row {
    row.during(&Class::ASKED_ABOUT, &[TIMEOUT])
        .sign(Sign::Line("px: Risk API call failed, the visitor passes"))
        .sign(Sign::Grows("px_risk_api_timeouts_total", &[]))
        .sign(Sign::Logged("$px_pass_reason", "s2s_timeout"))
        .lines(4)
}

/// The circuit breaker opens, after five failures.
fn opens_the_breaker(row: Row, answers: &[Answer]) -> Row {
    row.plan(|plan| plan.server.push_str("px_max_errors_threshold 5;\n"))
        .during(&Class::ASKED_ABOUT, answers)
        .struck_when(|site| site.metric(BREAKER, &[]) == 1.0)
        .sign(Sign::Line("px: too many failures of the Risk API"))
        .sign(Sign::Is(BREAKER, 1.0))
        .sign(Sign::Grows("px_risk_api_calls_not_made_total", &[]))
        .sign(Sign::Logged("$px_s2s_error_reason", "unable_to_send_request"))
        .mended_when(|site| site.metric(BREAKER, &[]) == 0.0)
        .lines(12)
}

const BREAKER: &str = "px_circuit_breaker_state";

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
    rows.push(
        opens_the_breaker(wire::refuses(RISK_API), &[ERROR])
            .called(
                "risk_api_refused_breaker",
                "Risk API refuses connections, circuit breaker on; four workers, HTTP/2",
            )
            .plan(|plan| plan.workers = 4)
            .over_http2()
            .lines(24),
    );
    rows.push(opens_the_breaker(misbehaves(wire::SILENT), &[ERROR, TIMEOUT]).called(
        "risk_api_silent_breaker",
        "Risk API accepts and never answers, circuit breaker on",
    ));
    for stranger in wire::STRANGERS {
        rows.push(fails(wire::is_a_stranger(Backend::RiskApi, stranger), "unknown_error"));
    }
    rows
}
