//! Who answers a blocked request: the module, a named location or a page of the operator's.
//!
//! Whatever of the operator's is missing or fails, the built-in answer takes its place.

use std::rc::Rc;

use nginx_sys::{ngx_http_request_t, ngx_int_t};
use px_core::enforce::{Answer, BlockKind};

use crate::conf::Enforcement;
use crate::ctx::{Ctx, Pinned, Stage};
use crate::ffi::{self, AGAIN, DECLINED, DONE};
use crate::hooks::{Handler, Target};
use crate::log::{self, ERR};
use crate::{named_location, page_request, respond};

/// Answers a request whose verdict is a block.
///
/// # Safety
///
/// `r` must be a live main request in its access phase, `ctx` its context with the verdict, and no
/// reference to it be alive.
pub(crate) unsafe fn answer(
    r: *mut ngx_http_request_t,
    ctx: *mut Ctx,
    enforcement: &Enforcement,
) -> ngx_int_t {
    // SAFETY: as the caller's.
    let Some((kind, answer)) = (unsafe { built_in(r, ctx, enforcement) }) else { return DECLINED };
    if let Some(Handler { location, condition }) = &enforcement.answers.verification
        // SAFETY: live request.
        && condition.as_ref().is_none_or(|condition| unsafe { condition.holds(r) })
        // SAFETY: as the caller's.
        && unsafe { go(r, ctx, location, &answer, None) }
    {
        return DONE;
    }
    let answers = &enforcement.answers;
    let location = match kind {
        BlockKind::RateLimit => answers.rate_limit.as_ref(),
        BlockKind::AdvancedBlockingResponse => answers.advanced.as_ref(),
        BlockKind::Captcha => answers.web.as_ref(),
        BlockKind::CustomPage => match own_page(enforcement) {
            Some(Target::Named(name)) => Some(name),
            Some(Target::Value(_)) => {
                // SAFETY: as the caller's.
                let page = unsafe { page_of(ctx) };
                // SAFETY: as the caller's.
                if unsafe { page_request::start(r, ctx, page) } {
                    return AGAIN;
                }
                None
            }
            _ => None,
        },
        _ => None,
    };
    if let Some(location) = location
        // SAFETY: as the caller's.
        && unsafe { go(r, ctx, location, &answer, Some(answer.status)) }
    {
        return DONE;
    }
    // The answer may finish the request and run this module's filters and its log phase: nothing
    // borrowed from the context is used after this.
    // SAFETY: live request that has not been answered.
    unsafe { respond::send(r, &answer) };
    DONE
}

/// Shows the operator's page, which has come, or else the built-in one.
///
/// # Safety
///
/// As [`answer`].
pub(crate) unsafe fn show_page(r: *mut ngx_http_request_t, ctx: *mut Ctx) -> ngx_int_t {
    // SAFETY: the context of this live request, borrowed for this statement.
    let enforcement = unsafe { Rc::clone(&(*ctx).enforcement) };
    // SAFETY: as the caller's.
    let answer = unsafe { built_in(r, ctx, &enforcement) };
    // SAFETY: the context of this live request, borrowed until the answer is complete.
    let known = unsafe { &mut *ctx };
    known.stage = Stage::Settled;
    let (Some((_, mut answer)), Some(page)) = (answer, known.page.take()) else { return DECLINED };
    match page.page() {
        Ok(page) => {
            if let Some(verdict) = &known.verdict {
                answer.body = verdict.custom_block_page(page);
            }
        }
        Err(reason) => {
            let text = format!("px: \"px_custom_block_url\" cannot be shown: {reason}");
            // SAFETY: live request.
            unsafe { log::request_line(r, ERR, &text) };
        }
    }
    // SAFETY: as above.
    unsafe { respond::send(r, &answer) };
    DONE
}

/// The module's own answer, and its kind; `None` if the verdict is no block.
///
/// # Safety
///
/// As [`answer`].
unsafe fn built_in(
    r: *mut ngx_http_request_t,
    ctx: *mut Ctx,
    enforcement: &Enforcement,
) -> Option<(BlockKind, Answer)> {
    // SAFETY: the context of this live request; expressions read it and change nothing.
    let verdict = unsafe { (*ctx).verdict.as_ref() }?;
    // SAFETY: as above.
    let policy = unsafe { &*(*ctx).policy };
    // SAFETY: live request under this configuration.
    let answer = unsafe {
        respond::with_assets(r, &enforcement.assets, policy, |assets| {
            verdict.answer(policy, assets)
        })
    }?;
    Some((verdict.block_kind(policy), answer))
}

fn own_page(enforcement: &Enforcement) -> Option<&Target> {
    enforcement.expressions.as_ref()?.custom_block_url.as_ref()
}

/// The page's path as it was evaluated for this request.
///
/// # Safety
///
/// As [`answer`].
unsafe fn page_of(ctx: *mut Ctx) -> &'static str {
    // SAFETY: the context of this live request, borrowed for this statement.
    let verdict = unsafe { (*ctx).verdict.as_ref() };
    verdict.map_or("", |verdict| verdict.custom_block_url())
}

/// Lets a named location write the body of a block answer, under the headers of all of them.
///
/// # Safety
///
/// As [`answer`].
unsafe fn go(
    r: *mut ngx_http_request_t,
    ctx: *mut Ctx,
    location: &str,
    answer: &Answer,
    status: Option<u16>,
) -> bool {
    let pinned = Pinned { status, headers: answer.headers.clone() };
    // SAFETY: the context of this live request, borrowed for this statement.
    unsafe { (*ctx).pinned = Some(pinned) };
    if status.is_some() {
        // They are about what was asked for, not about this page.
        // SAFETY: live request.
        unsafe { ffi::px_request_ignore_conditions(r) };
    }
    // SAFETY: as the caller's.
    if unsafe { named_location::go(r, location) } {
        return true;
    }
    // SAFETY: nothing was done: the request and its context are as they were.
    unsafe { (*ctx).pinned = None };
    false
}
