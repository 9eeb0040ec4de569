//! The asynchronous report on one request: `page_requested` or `block`.
//!
//! Source: activities.md §§ 1 and 4.

use serde::Serialize;

use crate::enforce::{Action, Verdict};
use crate::json;
use crate::policy::Policy;
use crate::reason::{BlockReason, CallReason, PassReason, S2sErrorReason};
use crate::report::{self, Headers, Report};
use crate::score::Score;

/// Appends the activity to `out` as one JSON object; false, and nothing appended, if the operator
/// does not want it. `http_status` is the origin's, `now` the time in ms.
pub(crate) fn write(
    verdict: &Verdict<'_>,
    policy: &Policy,
    http_status: Option<u16>,
    now: u64,
    out: &mut Vec<u8>,
) -> bool {
    if verdict.action == Action::Pass && !policy.options().send_async_activities {
        return false;
    }
    let facts = &verdict.facts;
    let risk_call = verdict.risk_call.as_ref();
    let activity = Activity {
        kind: match verdict.action {
            Action::Pass => "page_requested",
            Action::SimulatedBlock | Action::Block => "block",
        },
        px_app_id: &policy.options().app_id,
        url: facts.url.normalised(),
        headers: Headers { headers: facts.request.headers, policy },
        pxhd: verdict.pxhd(),
        socket_ip: facts.client_ip,
        timestamp: now,
        vid: verdict.vid(),
        details: Details {
            report: report::report(facts, policy),
            client_uuid: verdict.uuid.as_deref(),
            risk_rtt: verdict.risk_rtt.filter(|milliseconds| *milliseconds != 0),
            s2s_call_reason: verdict.call_reason.as_ref(),
            risk_start_time: risk_call.map(|call| call.started),
            additional_risk_info: risk_call.and_then(|call| call.additional_info.as_deref()),
            http_status_code: http_status.filter(|_| verdict.action != Action::Block),
            outcome: Outcome::of(verdict),
        },
    };
    json::write(&activity, out);
    true
}

#[derive(Serialize)]
struct Activity<'a, Url: Serialize, RawUrl: Serialize> {
    #[serde(rename = "type")]
    kind: &'static str,
    px_app_id: &'a str,
    url: Url,
    headers: Headers<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pxhd: Option<&'a str>,
    socket_ip: &'a str,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    vid: Option<&'a str>,
    details: Details<'a, RawUrl>,
}

#[derive(Serialize)]
struct Details<'a, RawUrl: Serialize> {
    #[serde(flatten)]
    report: Report<'a, RawUrl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_uuid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk_rtt: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s2s_call_reason: Option<&'a CallReason<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk_start_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_risk_info: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status_code: Option<u16>,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    PageRequested {
        #[serde(skip_serializing_if = "Option::is_none")]
        pass_reason: Option<PassReason>,
        #[serde(skip_serializing_if = "Option::is_none")]
        s2s_error_reason: Option<S2sErrorReason>,
        #[serde(skip_serializing_if = "Option::is_none")]
        s2s_error_http_status: Option<u16>,
        #[serde(skip_serializing_if = "str::is_empty")]
        error_message: &'a str,
    },
    Block {
        #[serde(skip_serializing_if = "Option::is_none")]
        block_reason: Option<BlockReason>,
        simulated_block: bool,
        block_action: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        block_score: Option<Score>,
    },
}

impl<'a> Outcome<'a> {
    fn of(verdict: &'a Verdict<'_>) -> Self {
        if verdict.action == Action::Pass {
            let error = verdict.s2s_error.as_ref();
            Self::PageRequested {
                pass_reason: verdict.pass_reason,
                s2s_error_reason: error.map(|error| error.reason),
                s2s_error_http_status: error.and_then(|error| error.http_status),
                error_message: error.map(|error| error.message.as_str()).unwrap_or_default(),
            }
        } else {
            Self::Block {
                block_reason: verdict.block_reason,
                simulated_block: verdict.action == Action::SimulatedBlock,
                block_action: &verdict.block_action,
                block_score: verdict.score,
            }
        }
    }
}
