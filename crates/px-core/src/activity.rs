//! The asynchronous report on one request: `page_requested` or `block`.
//!
//! Source: activities.md §§ 1 and 4.

use crate::custom_parameters;
use crate::enforce::{Action, OriginResponse, Verdict};
use crate::json::{self, Object};
use crate::policy::Policy;
use crate::report;

/// Appends the activity to `out` as one JSON object; false, and nothing appended, if the operator
/// does not want it. `now` is the time in ms.
pub(crate) fn write(
    verdict: &Verdict<'_>,
    policy: &Policy,
    response: &OriginResponse<'_>,
    now: u64,
    out: &mut Vec<u8>,
) -> bool {
    let options = policy.options();
    let passed = verdict.action == Action::Pass;
    if passed && !options.send_async_activities {
        return false;
    }
    let facts = &verdict.facts;
    json::object(out, |activity| {
        activity.word("type", if passed { "page_requested" } else { "block" });
        activity.text("px_app_id", &options.app_id);
        activity.joined_text("url", facts.url.normalised().parts());
        activity.list("headers", |list| {
            report::write_headers(list, &facts.request, policy);
            for (name, value) in facts.request.hooks.activity_headers {
                list.object(|entry| {
                    entry.text("name", name);
                    if value.is_empty() { entry.null("value") } else { entry.text("value", value) }
                });
            }
        });
        write_visitor(activity, verdict, policy, now);
        activity.object("details", |details| {
            report::write(details, facts, policy);
            if let Some(extracted) = facts.extracted() {
                extracted.write_mcp(details, response.mcp_session_id);
            }
            write_call(details, verdict);
            if verdict.action != Action::Block {
                details.optional_number("http_status_code", response.status.map(u64::from));
                custom_parameters::write_of_response(details, response.custom_parameters);
            }
            if passed { write_pass(details, verdict) } else { write_block(details, verdict) }
        });
    });
    true
}

/// Who it was, and when, in all activities.
pub(crate) fn write_visitor(
    activity: &mut Object<'_>,
    verdict: &Verdict<'_>,
    policy: &Policy,
    now: u64,
) {
    activity.optional_text("pxhd", verdict.pxhd());
    activity.text("socket_ip", &*report::socket_ip(&verdict.facts, policy));
    activity.number("timestamp", now);
    activity.optional_text("vid", verdict.vid());
}

/// What the Risk API call, if there was one, left behind.
pub(crate) fn write_call(details: &mut Object<'_>, verdict: &Verdict<'_>) {
    details.optional_text("client_uuid", verdict.uuid.as_deref());
    details.optional_number("risk_rtt", verdict.risk_rtt.filter(|milliseconds| *milliseconds != 0));
    if let Some(reason) = &verdict.call_reason {
        details.text("s2s_call_reason", reason.as_str().as_bytes());
    }
    if let Some(call) = &verdict.risk_call {
        details.number("risk_start_time", call.started);
        details.optional_text("additional_risk_info", call.additional_info.as_deref());
    }
    if let Some(compromised) = verdict.credentials_compromised() {
        details.flag("credentials_compromised", compromised);
    }
}

fn write_pass(details: &mut Object<'_>, verdict: &Verdict<'_>) {
    if let Some(reason) = verdict.pass_reason {
        details.word("pass_reason", reason.as_str());
    }
    if let Some(error) = &verdict.s2s_error {
        details.text("s2s_error_reason", error.reason.as_str());
        details.optional_number("s2s_error_http_status", error.http_status.map(u64::from));
        details.text_if_any("error_message", &error.message);
    }
}

fn write_block(details: &mut Object<'_>, verdict: &Verdict<'_>) {
    if let Some(reason) = verdict.block_reason {
        details.word("block_reason", reason.as_str());
    }
    details.flag("simulated_block", verdict.action == Action::SimulatedBlock);
    details.text("block_action", verdict.block_action.as_bytes());
    if let Some(score) = &verdict.score {
        details.value("block_score", score);
    }
}
