//! Several things fail at once, or one of several of a kind.

use crate::first_party;
use crate::load::{Answer, Class};
use crate::matrix::{Row, Sign};
use crate::node;
use crate::risk_api::{self, ERROR, TIMEOUT};
use crate::site::Backend;
use crate::wire::{self, Fault};

const OF_HUMAN: &[Backend] = &[Backend::RiskApi, Backend::Collector, Backend::Scripts];
const ALL: &[Backend] = &[Backend::RiskApi, Backend::Collector, Backend::Scripts, Backend::Node];

fn reports_are_lost(row: Row) -> Row {
    row.sign(Sign::Line("px: activities could not be delivered"))
        .sign(Sign::Grows("px_activities_lost_total", &[]))
}

/// The whole of HUMAN and the node are gone.
fn all_fail(row: Row, answer: Answer, result: &'static str) -> Row {
    let row = node::decides_nothing(row, result);
    let row = match answer {
        TIMEOUT => risk_api::is_late(row),
        _ => risk_api::fails(row, "unknown_error"),
    };
    reports_are_lost(first_party::is_seen(row))
        .during(&Class::FIRST_PARTY, &[Answer::Default])
        .lines_a_second(60)
}

pub(crate) fn rows() -> Vec<Row> {
    let all_are = |fault: Fault| wire::misbehaves(ALL, fault);
    vec![
        all_fail(wire::refuses(ALL), ERROR, "error")
            .called("all_refused", "All backends refuse connections; two workers")
            .plan(|plan| plan.workers = 2),
        all_fail(all_are(wire::SILENT), TIMEOUT, "timeout")
            .called("all_silent", "All backends accept and never answer; two workers, HTTP/2")
            .plan(|plan| plan.workers = 2)
            .over_http2(),
        reports_are_lost(first_party::is_seen(risk_api::fails(
            wire::refuses(OF_HUMAN),
            "unknown_error",
        )))
        .called("other_application", "One of two applications loses its backends")
        .with_other_application()
        .during(&Class::FIRST_PARTY, &[Answer::Default])
        .sign(Sign::other("nothing failed for the other application", |site| {
            let failed = |name| site.metric(name, &[("app_id", "PXsandbox2")]);
            failed("px_risk_api_errors_total")
                + failed("px_risk_api_timeouts_total")
                + failed("px_first_party_errors_total")
                == 0.0
        })),
    ]
}
