//! The Risk API fails.

use px_sandbox::Behaviour;

use crate::load::{Answer, Class};
use crate::matrix::{Row, Sign};

/// Whom nobody judged.
const ERROR: Answer = Answer::Origin("pass s2s_error");
const TIMEOUT: Answer = Answer::Origin("pass s2s_timeout");

fn row(name: &'static str, fault: &'static str, answers: &[Answer]) -> Row {
    Row::new(name, fault)
        .during(&Class::ASKED_ABOUT, answers)
        .sign(Sign::Line("px: Risk API call failed, the visitor passes"))
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("risk_api_refused", "Risk API: connections are refused", &[ERROR])
            .strike(|site, _| site.risk_api.go_down())
            .sign(Sign::Grows("px_risk_api_errors_total", &[("reason", "unknown_error")]))
            .sign(Sign::Logged("$px_s2s_error_reason", "unknown_error"))
            .mend(|site, _| site.risk_api.come_back().expect("the port is free")),
        row("risk_api_reset", "Risk API: a reset instead of an answer", &[ERROR])
            .strike(|site, _| site.risk_api.behave(Behaviour::Reset))
            .sign(Sign::Grows("px_risk_api_errors_total", &[("reason", "unknown_error")]))
            .sign(Sign::Logged("$px_s2s_error_reason", "unknown_error"))
            .mend(|site, _| site.risk_api.behave_well()),
        row("risk_api_silent", "Risk API: accepts and never answers", &[TIMEOUT])
            .strike(|site, _| site.risk_api.behave(Behaviour::Hang))
            .sign(Sign::Grows("px_risk_api_timeouts_total", &[]))
            .sign(Sign::Logged("$px_pass_reason", "s2s_timeout"))
            .mend(|site, _| site.risk_api.behave_well()),
    ]
}
