//! The traffic-analysis node fails.

use crate::load::{Answer, Class};
use crate::matrix::{Row, Sign};
use crate::site::{Backend, Site};
use crate::wire;

const NODE: &[Backend] = &[Backend::Node];

/// There is no decision: requests pass.
pub(crate) fn decides_nothing(row: Row, result: &'static str) -> Row {
    let labels: &'static [(&str, &str)] = match result {
        "timeout" => &[("result", "timeout")],
        _ => &[("result", "error")],
    };
    row.with_node()
        .during(&[Class::Attack], &[Answer::Origin("pass cookie")])
        .sign(Sign::Line("px: wallarm node:"))
        .sign(Sign::Grows("px_wallarm_requests_total", labels))
        .sign(Sign::Logged("$px_wallarm_status", result))
        .mended_when(every_worker_asks_again)
        .lines_a_second(30)
}

/// Each worker finds out for itself whether the node is back.
pub(crate) fn every_worker_asks_again(site: &Site) -> bool {
    let log = site.nginx.error_log();
    let count = |text| log.matches(text).count();
    count("px: too many failures of the node") == count("px: the node at ")
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = vec![decides_nothing(wire::refuses(NODE), "error")];
    for fault in [wire::RESET, wire::HALF_CLOSED, wire::GARBAGE, wire::LONG_HEAD, wire::ERROR] {
        rows.push(decides_nothing(wire::misbehaves(NODE, fault), "error"));
    }
    for fault in [wire::SILENT, wire::TRICKLE] {
        rows.push(decides_nothing(wire::misbehaves(NODE, fault), "timeout"));
    }
    for stranger in wire::STRANGERS {
        rows.push(decides_nothing(wire::is_a_stranger(Backend::Node, stranger), "error"));
    }
    rows
}
