//! The traffic-analysis node: what it is sent of a request, and what its answer means
//! (the mirror protocol, docs/node.md).
//!
//! Everything here is about one worker: nothing is shared and nothing waits.

mod answer;
mod circuit;
mod extensions;
mod lines;
mod message;

pub use answer::{Cause, NO_STATUS, Result, Verdict, final_status, verdict};
pub use circuit::Circuit;
pub use extensions::Extensions;
pub use lines::Lines;
pub use message::{BodyNote, Facts, HeadTooLong, Mode, headers, is_without_body, method, target};

use crate::enforce::Answer;

/// What a blocked visitor gets: the documented shape, the same for everybody.
pub fn block_answer() -> Answer {
    answer(403, "{\"error\":{\"code\":403,\"message\":\"request blocked\"}}")
}

/// What a visitor gets where there is no decision and the operator lets nobody pass without one.
pub fn refusal() -> Answer {
    answer(503, "{\"error\":{\"code\":503,\"message\":\"request not analyzed\"}}")
}

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status,
        content_type: "application/json",
        headers: vec![("Cache-Control".into(), "no-store".to_owned())],
        body: body.as_bytes().to_vec(),
    }
}
