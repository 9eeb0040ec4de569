//! The collector fails: reports are lost, or kept where there is a spool, and visitors notice nothing but
//! the default answer to what the sensor sends there through the site.

use crate::first_party;
use crate::load::{Answer, Class};
use crate::matrix::{Row, Sign};
use crate::site::Backend;
use crate::support::nginx;
use crate::wire::{self, Fault};

const COLLECTOR: &[Backend] = &[Backend::Collector];

/// Reports are not taken.
fn takes_nothing(row: Row, answers: &[Answer]) -> Row {
    first_party::is_seen(row.during(&[Class::Message], answers))
}

/// Reports are lost.
pub(crate) fn loses(row: Row) -> Row {
    takes_nothing(row, &[Answer::Default])
        .sign(Sign::Line("px: activities could not be delivered"))
        .sign(Sign::Grows("px_activities_lost_total", &[]))
}

/// Reports are kept, and arrive in the end.
fn keeps(row: Row) -> Row {
    takes_nothing(row, &[Answer::Default])
        .plan(|plan| {
            let dir = nginx::fresh_dir();
            plan.server.push_str(&format!(
                "px_activity_spool path={}/spool max_size=64m;\n",
                dir.display()
            ));
            plan.keep.push(Box::new(crate::site::Dir(dir)));
        })
        .sign(Sign::Line("px: activities cannot be delivered"))
        .sign(Sign::Grows("px_activities_spooled_total", &[]))
        .mended_when(|site| {
            let count = |name| site.metric(name, &[]);
            count("px_activities_delivered_from_spool_total")
                == count("px_activities_spooled_total")
        })
}

pub(crate) fn rows() -> Vec<Row> {
    let misbehaves = |fault: Fault| wire::misbehaves(COLLECTOR, fault);
    let mut rows = vec![loses(wire::refuses(COLLECTOR))];
    for fault in [
        wire::RESET,
        wire::HALF_CLOSED,
        wire::SILENT,
        wire::TRICKLE,
        wire::GARBAGE,
        wire::LONG_HEAD,
    ] {
        rows.push(loses(misbehaves(fault)));
    }
    rows.push(
        misbehaves(wire::OVERSIZED)
            .during(&[Class::Message], &[Answer::Large])
            .sign(Sign::Grows("px_activities_sent_total", &[]))
            .lines(0),
    );
    for stranger in wire::STRANGERS {
        rows.push(loses(wire::is_a_stranger(Backend::Collector, stranger)));
    }
    rows
}
