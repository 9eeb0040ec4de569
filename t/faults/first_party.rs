//! HUMAN does not answer what browsers ask it for through the site.

use crate::load::{Answer, Class};
use crate::matrix::{Row, Sign};
use crate::site::Backend;
use crate::wire::{self, Fault};

const SCRIPTS: &[Backend] = &[Backend::Scripts];

/// What the operator sees of first-party requests that fail.
pub(crate) fn is_seen(row: Row) -> Row {
    row.sign(Sign::Line("px: HUMAN did not answer a first-party request"))
        .sign(Sign::Grows("px_first_party_errors_total", &[]))
        .lines(12)
}

pub(crate) fn gets(row: Row, answer: Answer) -> Row {
    is_seen(row.during(&[Class::Sensor, Class::Captcha], &[answer]))
}

pub(crate) fn rows() -> Vec<Row> {
    let misbehaves = |fault: Fault| wire::misbehaves(SCRIPTS, fault);
    let mut rows = vec![gets(wire::refuses(SCRIPTS), Answer::Default)];
    for fault in [
        wire::RESET,
        wire::HALF_CLOSED,
        wire::SILENT,
        wire::TRICKLE,
        wire::GARBAGE,
        wire::LONG_HEAD,
    ] {
        rows.push(gets(misbehaves(fault), Answer::Default));
    }
    // What has been passed on cannot be taken back.
    for fault in [wire::RESET_WITHIN, wire::CUT] {
        rows.push(gets(misbehaves(fault), Answer::Ended));
    }
    rows.push(
        misbehaves(wire::OVERSIZED)
            .during(&[Class::Sensor, Class::Captcha], &[Answer::Large])
            .lines(0),
    );
    for stranger in wire::STRANGERS {
        rows.push(gets(wire::is_a_stranger(Backend::Scripts, stranger), Answer::Default));
    }
    rows
}
