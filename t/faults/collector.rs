//! The collector fails: reports are lost, or kept where there is a spool, and visitors notice nothing but
//! the default answer to what the sensor sends there through the site.

use std::sync::{Arc, Mutex};

use px_sandbox::Behaviour;

use crate::first_party;
use crate::load::{Answer, Class};
use crate::matrix::{Row, Sign};
use crate::site::{Backend, Dir, Site};
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
fn keeps(row: Row, mend: impl Fn(&Site) + Send + Sync + 'static) -> Row {
    const SPOOLED: &str = "px_activities_spooled_total";
    let spooled = Arc::new(Mutex::new(0.0));
    let known = Arc::clone(&spooled);
    takes_nothing(row, &[Answer::Default])
        .plan(|plan| {
            let dir = Dir(nginx::fresh_dir());
            let path = dir.0.display();
            plan.server.push_str(&format!("px_activity_spool path={path}/spool max_size=64m;\n"));
            plan.keep.push(Box::new(dir));
        })
        .sign(Sign::Line("px: activities cannot be delivered"))
        .sign(Sign::Grows(SPOOLED, &[]))
        .mend(move |site, _| {
            *spooled.lock().expect("not poisoned") = site.metric(SPOOLED, &[]);
            mend(site);
        })
        // More may be kept until all of these have arrived.
        .mended_when(move |site| {
            let delivered = site.metric("px_activities_delivered_from_spool_total", &[]);
            delivered >= *known.lock().expect("not poisoned")
        })
        .sign(Sign::Is("px_activities_lost_total", 0.0))
        .recovery("yes, and what was kept arrives")
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
    rows.push(
        keeps(wire::refuses(COLLECTOR), |site| {
            site.collector.come_back().expect("the port is free")
        })
        .called(
            "collector_refused_spool",
            "Collector refuses connections, with `px_activity_spool`; two workers",
        )
        .plan(|plan| plan.workers = 2),
    );
    rows.push(
        keeps(misbehaves(wire::SILENT), |site| wire::behave(site, COLLECTOR, &Behaviour::Normal))
            .called(
                "collector_silent_spool",
                "Collector accepts and never answers, with `px_activity_spool`; HTTP/2",
            )
            .over_http2(),
    );
    for stranger in wire::STRANGERS {
        rows.push(loses(wire::is_a_stranger(Backend::Collector, stranger)));
    }
    rows
}
