//! The Risk API call: what is sent, and what its end means.

use std::rc::Rc;

use nginx_sys::{NGX_HTTP_POST, ngx_http_request_t};
use px_core::enforce::{Action, Outcome, Pending, Verdict};

use crate::clock;
use crate::conf::MainConf;
use crate::ctx::{Ctx, Stage};
use crate::ffi;
use crate::log::{self, ERR, Severity};
use crate::remote_call::{Call, Ending, Failure, Message, Refused, Waiting, Wants};

const NO_MEMORY: &str = "no memory for the Risk API request";

/// What the core makes of an ending.
pub(crate) fn outcome(ending: &Ending) -> Outcome<'_> {
    let cause = match ending {
        Ending::Answer { status, body } => return Outcome::Answer { status: *status, body },
        Ending::Timeout => return Outcome::Timeout,
        Ending::Open => "the call was given up",
        Ending::Failed(Failure::CutShort) => "the answer of the Risk API was cut short",
        Ending::Failed(Failure::NotSent) => "the Risk API call failed",
        Ending::Failed(_) => "no valid answer from the Risk API",
    };
    Outcome::Unreachable { cause }
}

/// Starts the call and leaves it in the context. The access phase is entered again when it ends.
/// Gives back why there is none.
///
/// # Safety
///
/// `r` must be a live main request in its access phase, `ctx` its context, with no reference to it
/// alive.
pub(crate) unsafe fn start(
    r: *mut ngx_http_request_t,
    ctx: *mut Ctx,
    pending: &Pending<'static>,
) -> Result<(), &'static str> {
    // SAFETY: the context of a live request; the reference count keeps it beyond this borrow.
    let enforcement = unsafe { Rc::clone(&(*ctx).enforcement) };
    // SAFETY: as above.
    let policy = unsafe { Rc::clone(&(*ctx).policy) };
    // SAFETY: the context of this live request, borrowed for this statement.
    let is_chosen = unsafe { (*ctx).risk_backend.is_some() };
    let location = match is_chosen {
        true => enforcement.chosen_risk_location.get(),
        false => enforcement.risk_location.get(),
    };
    let location = location.ok_or("the Risk API location is missing")?;
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    let message = Message {
        method: (NGX_HTTP_POST, b"POST"),
        target: location.uri.as_bytes(),
        headers: &[
            (b"Content-Type", b"application/json"),
            (b"Authorization", policy.authorization().as_bytes()),
        ],
        body: Some(pending.risk_body()),
    };
    let waiting = Waiting {
        limit: match enforcement.enforce_timeout {
            Some(whole) => {
                let gone = clock::now_ms().saturating_sub(pending.started());
                policy.options().s2s_timeout_ms.min(whole.saturating_sub(gone)).max(1)
            }
            None => policy.options().s2s_timeout_ms,
        },
        wants: Wants::Body,
        ended,
        is_quiet: main.shared.get().is_some_and(|own| own.risk_log.is_quiet(clock::steady_ms())),
    };
    let mut destination = location.destination;
    if is_chosen {
        // The location was made once for all; a resolver is the operator's, of any level.
        // SAFETY: live request and the location's array.
        destination.loc_conf = unsafe { ffi::px_confs_with_resolver_of(r, destination.loc_conf) };
        if destination.loc_conf.is_null() {
            return Err(NO_MEMORY);
        }
    }
    // SAFETY: live request that keeps the call in its context; the location lives as long as the
    // configuration, its copy as long as the request.
    let call = unsafe { Call::start(r, destination, &message, waiting) };
    let call = call.map_err(|refused| match refused {
        Refused::Unresolved => "the host of the Risk API could not be resolved",
        Refused::NoMemory => NO_MEMORY,
    })?;
    // SAFETY: the context of a live request; the caller holds no reference.
    let known = unsafe { &mut *ctx };
    known.stage = Stage::Waiting;
    known.call = Some(call);
    Ok(())
}

/// The call has ended.
///
/// # Safety
///
/// `r` must be a live main request.
unsafe fn ended(r: *mut ngx_http_request_t) {
    // SAFETY: as the caller's.
    let ctx = unsafe { Ctx::find(r) };
    // SAFETY: null or the context of this live request, borrowed for this block.
    if let Some(known) = unsafe { ctx.as_mut() }
        && known.stage == Stage::Waiting
    {
        known.stage = Stage::Answered;
    }
}

/// One line about a failed call, at most one a minute from all workers together.
///
/// # Safety
///
/// `r` must be a live request.
pub(crate) unsafe fn report_failure(
    r: *mut ngx_http_request_t,
    verdict: &Verdict<'_>,
    severity: Severity,
) {
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    let Some(shared) = main.shared.get() else { return };
    if severity == Severity::None {
        return;
    }
    let Some(held_back) = shared.risk_log.admit(clock::steady_ms()) else { return };
    let what = match &verdict.s2s_error {
        Some(error) => {
            let status =
                error.http_status.map(|s| format!(", HTTP status {s}")).unwrap_or_default();
            format!("{}{status}: {}", error.reason.as_str(), log::one_line(&error.message, 200))
        }
        None => "no answer within \"px_s2s_timeout\"".to_owned(),
    };
    let more = log::held_back(held_back);
    let done = match verdict.action {
        Action::Pass | Action::SimulatedBlock => "the visitor passes",
        Action::Block => "the visitor gets the challenge of the hype sale",
    };
    let text = format!("px: Risk API call failed, {done}: {what}{more}");
    // SAFETY: live request.
    unsafe { log::request_line(r, ERR, &text) };
}
