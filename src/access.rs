//! The access phase: request in, nginx return code out. Decides nothing itself.

use std::ptr;
use std::rc::Rc;

use nginx_sys::{ngx_http_request_t, ngx_int_t, ngx_uint_t};
use px_core::breaker::{Breaker, Change};
use px_core::counters::{App, End};
use px_core::enforce::{
    self, Action, Extracted, Given, OriginResponse, Outcome, Pending, Step, Verdict,
};
use px_core::hooks::Hooks;
use px_core::request::Request;
use px_core::telemetry::UpdateReason;
use px_core::token_memory::NoMemory;
use uuid::Uuid;

use crate::complex_value::ComplexValue;
use crate::conf::{self, Enforcement, MainConf};
use crate::ctx::{Ctx, Preparation, Stage};
use crate::ffi::{self, AGAIN, DECLINED, DONE};
use crate::hooks::Handler;
use crate::log::{self, DEBUG, INFO, NOTICE, Severity, WARN};
use crate::risk_backend::{self, Chosen};
use crate::{
    activities, background, block, clock, first_party, login, named_location, node, origin,
    request, request_body, respond, risk_api, side_request, snippet,
};

/// Statuses from here on make nginx look for an `error_page`.
const FIRST_ERROR: ngx_uint_t = 300;

/// A pass is `NGX_DECLINED`, never `NGX_OK`: under `satisfy any` that would let the visitor skip all
/// other access checks. A block is an answer of our own and `NGX_DONE`, never 403, which `satisfy
/// any` may overrule (DECISIONS 20).
pub(crate) unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    let fail_open = || {
        // SAFETY: nginx passes a live request.
        let ctx = unsafe { Ctx::find(r) };
        // SAFETY: null or the context of this live request.
        if let Some(ctx) = unsafe { ctx.as_mut() } {
            ctx.stage = Stage::Settled;
        }
        DECLINED
    };
    // SAFETY: nginx passes a live request.
    ffi::guard("a look at the request", || (), || unsafe { node::remember(r) });
    // SAFETY: as above.
    match ffi::guard("the access phase", fail_open, || unsafe { access(r) }) {
        // Whoever may pass is looked at by the node.
        // SAFETY: as above.
        DECLINED => ffi::guard("a node's access phase", || DECLINED, || unsafe { node::decide(r) }),
        rc => rc,
    }
}

/// # Safety
///
/// `r` must be a live request in its access phase.
unsafe fn access(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: live request. In a location without the module this is all that happens, unless the
    // request was redirected here while it waits, which nothing does.
    let Some(enforcement) = (unsafe { conf::enforcement(r) }) else { return DECLINED };
    // SAFETY: live request.
    if !std::ptr::eq(r, unsafe { (*r).main }) {
        return DECLINED;
    }
    // SAFETY: live request.
    let ctx = unsafe { Ctx::find(r) };
    // SAFETY: null or the context of this live request; no other reference to it exists here.
    if let Some(known) = unsafe { ctx.as_ref() } {
        return match known.stage {
            // Nothing enters here while nginx reads: it has refused the body, and shows an error page.
            Stage::ReadingBody | Stage::Settled => DECLINED,
            // SAFETY: as the caller's.
            Stage::BodyRead => unsafe { judge_prepared(r, ctx) },
            Stage::Waiting => AGAIN,
            // SAFETY: as the caller's.
            Stage::Answered => unsafe { judge(r, ctx) },
            Stage::FetchingPage => AGAIN,
            // SAFETY: as the caller's; `known` is not used again.
            Stage::FirstParty => unsafe { first_party::after_redirect(r) },
            // SAFETY: as the caller's.
            Stage::PageFetched => unsafe { block::show_page(r, ctx) },
        };
    }
    // An error page that is shown before any decision is nginx's own doing, not a visit. But what
    // stands behind `return 418; error_page 418 = @app;` is one: by then the status is no error's.
    // SAFETY: live request.
    if unsafe { (*r).err_status } >= FIRST_ERROR {
        // What shows it may be an origin, which must not believe the client either.
        // SAFETY: live request.
        unsafe { origin::strip(r, enforcement.policy().owned_headers()) };
        return DECLINED;
    }
    // SAFETY: live request.
    unsafe { first_look(r, Rc::clone(enforcement)) }
}

/// # Safety
///
/// `r` must be a live main request in its access phase, without a context.
unsafe fn first_look(r: *mut ngx_http_request_t, enforcement: Rc<Enforcement>) -> ngx_int_t {
    // SAFETY: live request.
    let ctx = unsafe { Ctx::create(r, Rc::clone(&enforcement)) };
    if ctx.is_null() {
        return DECLINED;
    }
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    let id = main.with_worker(|worker| worker.request_ids.next()).flatten();
    let id = id.unwrap_or_else(Uuid::new_v4);
    // SAFETY: the view is kept in the context only, which the request's pool drops.
    let Some(view) = (unsafe { request::view(r, id, &Hooks::NONE) }) else { return DECLINED };
    // SAFETY: the context of this live request, borrowed for this statement.
    let policy = unsafe { Rc::clone(&(*ctx).policy) };
    let policy = &*policy;
    if !enforce::may_be_extracted(&view, policy) {
        // SAFETY: as the caller's.
        return unsafe { begin(r, ctx, view) };
    }
    // SAFETY: live request under the configuration that its context keeps.
    let hooks = enforcement.expressions.as_ref().and_then(|own| unsafe { own.evaluate_first(r) });
    let asking = Request { hooks: hooks.unwrap_or(&Hooks::NONE), ..view };
    let Some(wanted) = enforce::wanted(&asking, policy) else {
        // SAFETY: as the caller's.
        return unsafe { begin(r, ctx, view) };
    };
    // SAFETY: the context of this live request, borrowed for this statement.
    unsafe { (*ctx).preparation = Some(Box::new(Preparation { view: asking, wanted })) };
    let limit = policy.options().max_body_size;
    // SAFETY: live request and its view.
    if wanted.body && unsafe { request_body::is_readable(r, &view, limit) } {
        // What shows an error page, should nginx refuse the body, may be an origin, too.
        // SAFETY: live request.
        unsafe { origin::strip(r, policy.owned_headers()) };
        // SAFETY: as above.
        unsafe { (*ctx).stage = Stage::ReadingBody };
        // SAFETY: as the caller's; nothing here refers to the context.
        return unsafe { request_body::read(r, request_body::to_be_judged) };
    }
    // SAFETY: as the caller's.
    unsafe { judge_prepared(r, ctx) }
}

/// Looks into a request whose body has come, as far as there is one to look at, and judges it.
///
/// # Safety
///
/// `r` must be a live main request in its access phase and `ctx` its context.
unsafe fn judge_prepared(r: *mut ngx_http_request_t, ctx: *mut Ctx) -> ngx_int_t {
    // SAFETY: the context of this live request, borrowed for this statement.
    let prepared = unsafe { (*ctx).preparation.take() };
    // SAFETY: as above.
    let enforcement = unsafe { Rc::clone(&(*ctx).enforcement) };
    // Until the verdict is there, whatever goes wrong lets the request pass.
    // SAFETY: as above.
    unsafe { (*ctx).stage = Stage::Settled };
    let Some(prepared) = prepared else { return DECLINED };
    let Preparation { view, wanted } = *prepared;
    // SAFETY: live request under the configuration that its context keeps.
    let text = |value: Option<ComplexValue>| value.map_or("", |own| unsafe { own.evaluate(r) });
    let endpoint = wanted.endpoint.and_then(|index| enforcement.login.endpoints.get(index));
    let login = endpoint.map_or(("", ""), |own| (text(own.user), text(own.pass)));
    let graphql_keywords = text(enforcement.graphql_keywords);
    // SAFETY: as above.
    let policy = unsafe { Rc::clone(&(*ctx).policy) };
    let limit = policy.options().max_body_size;
    // SAFETY: live request whose body nobody changes.
    let found = unsafe {
        request_body::with(r, limit, |body| {
            let body = body.filter(|_| wanted.body);
            let given = Given { body, login, graphql_keywords };
            enforce::extract(&view, &policy, &given)
        })
    };
    // SAFETY: the context of this live request; boxed, what was found stays where it is.
    let found: &'static Extracted =
        unsafe { &*ptr::from_ref(&**(*ctx).extracted.insert(Box::new(found))) };
    // SAFETY: as the caller's.
    unsafe { begin(r, ctx, Request { extracted: Some(found), ..view }) }
}

/// Judges a request that has been looked into, or need not be.
///
/// # Safety
///
/// As [`judge_prepared`]; `view` must be the view of `r`.
unsafe fn begin(r: *mut ngx_http_request_t, ctx: *mut Ctx, view: Request<'static>) -> ngx_int_t {
    // SAFETY: the context of this live request, borrowed for this statement.
    let enforcement = unsafe { Rc::clone(&(*ctx).enforcement) };
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    let own = enforcement.expressions.as_ref();
    // SAFETY: live request under the configuration that its context keeps.
    let hooks = own.and_then(|own| unsafe { own.evaluate(r) }).unwrap_or(&Hooks::NONE);
    let view = Request { hooks, ..view };
    // SAFETY: the context of this live request, borrowed for this statement.
    let policy = unsafe { Rc::clone(&(*ctx).policy) };
    let policy = &*policy;
    // SAFETY: live request.
    unsafe { origin::strip(r, policy.owned_headers()) };
    let now = clock::now_ms();
    let mut lookup = None;
    let step = main.with_worker(|worker| match enforcement.token_cache.get() {
        Some(cache) => {
            let mut memory = cache.for_request(r);
            let step = enforce::begin(&view, policy, &mut worker.enforcer, &mut memory, now);
            lookup = memory.lookup();
            step
        }
        None => enforce::begin(&view, policy, &mut worker.enforcer, &mut NoMemory, now),
    });
    let Some(step) = step else { return DECLINED };
    if let Some(tally) = main.with_worker(|worker| worker.enforcer.derivations.take_tally()) {
        count(main, &enforcement, |app| app.tokens(tally));
    }
    if let Some(end) = End::at_first_look(&step) {
        count(main, &enforcement, |app| app.request(end));
    }
    // SAFETY: the context of this live request.
    let known = unsafe { &mut *ctx };
    known.token_lookup = lookup;
    known.wants_csp = policy.options().csp_enabled
        && !matches!(step, Step::FirstParty(_) | Step::Notification(_))
        && policy.is_active_for(&view);
    match step {
        Step::Inactive => DECLINED,
        Step::Filtered(reason) => {
            known.filter_reason = Some(reason);
            DECLINED
        }
        Step::Preflight => DECLINED,
        Step::Notification(notification) => {
            if notification.is_genuine {
                background::notify(main, &enforcement, notification.version);
            }
            // SAFETY: live request that has not been answered; not used again.
            unsafe { respond::send(r, &notification.answer()) };
            DONE
        }
        Step::FirstParty(route) => {
            known.is_first_party = true;
            // SAFETY: as the caller's; `known` is not used again.
            unsafe { first_party::serve(r, ctx, &view, &route) }
        }
        Step::PreflightHandler => {
            let handler = own.and_then(|own| own.preflight_handler.as_ref());
            let location = handler.map(|handler| handler.location.as_str());
            known.is_preflight = location.is_some();
            // SAFETY: live request; `known` is not used again.
            let gone = location.is_some_and(|name| unsafe { named_location::go(r, name) });
            if gone { DONE } else { DECLINED }
        }
        // SAFETY: as the caller's; `known` is not used again.
        Step::Decided(verdict) => unsafe { act(r, ctx, verdict) },
        // SAFETY: as above.
        Step::AskRisk(pending) => unsafe { ask(r, ctx, pending) },
    }
}

/// # Safety
///
/// As [`first_look`]; `ctx` must be the context of `r`.
unsafe fn ask(
    r: *mut ngx_http_request_t,
    ctx: *mut Ctx,
    pending: Box<Pending<'static>>,
) -> ngx_int_t {
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    // SAFETY: the context of this live request, borrowed for this statement.
    let enforcement = unsafe { Rc::clone(&(*ctx).enforcement) };
    // SAFETY: live request under this configuration.
    let chosen = enforcement.risk_backend.and_then(|own| unsafe { risk_backend::choose(r, own) });
    let breaker = breaker(main, &enforcement, chosen.as_ref());
    // SAFETY: as above.
    let known = unsafe { &mut *ctx };
    known.risk_backend = chosen;
    known.asked = clock::steady_ms();
    if breaker.is_some_and(|breaker| !breaker.admits(clock::steady_ms())) {
        count(main, &enforcement, App::call_not_made);
        let outcome = Outcome::NotMade { cause: "the circuit breaker of the Risk API is open" };
        // SAFETY: as the caller's.
        return unsafe { conclude(r, ctx, *pending, outcome) };
    }
    count(main, &enforcement, App::call);
    // SAFETY: live request and its context.
    match unsafe { risk_api::start(r, ctx, &pending) } {
        Ok(()) => {
            // SAFETY: the context of this live request, borrowed for this statement.
            unsafe { (*ctx).pending = Some(pending) };
            AGAIN
        }
        Err(cause) => {
            let outcome = Outcome::Unreachable { cause };
            // SAFETY: as the caller's.
            unsafe { conclude(r, ctx, *pending, outcome) }
        }
    }
}

/// Judges a call that has ended.
///
/// # Safety
///
/// `r` must be a live main request in its access phase and `ctx` its context.
unsafe fn judge(r: *mut ngx_http_request_t, ctx: *mut Ctx) -> ngx_int_t {
    // SAFETY: the context of this live request, borrowed for this statement.
    let pending = unsafe { (*ctx).pending.take() };
    // SAFETY: as above.
    let ending = unsafe { (*ctx).call.as_mut().map(|call| call.take_ending()) };
    let Some((pending, ending)) = pending.zip(ending) else {
        // SAFETY: as above.
        unsafe { (*ctx).stage = Stage::Settled };
        return DECLINED;
    };
    // SAFETY: as above.
    let took = clock::steady_ms().saturating_sub(unsafe { (*ctx).asked });
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    // SAFETY: the context of this live request, borrowed for this statement.
    count(main, unsafe { &(*ctx).enforcement }, |app| app.call_ended(took));
    // SAFETY: as the caller's.
    unsafe { conclude(r, ctx, *pending, risk_api::outcome(&ending)) }
}

/// # Safety
///
/// As [`judge`].
unsafe fn conclude(
    r: *mut ngx_http_request_t,
    ctx: *mut Ctx,
    pending: Pending<'static>,
    outcome: Outcome<'_>,
) -> ngx_int_t {
    // SAFETY: the context of this live request, borrowed for this statement.
    let enforcement = unsafe { Rc::clone(&(*ctx).enforcement) };
    let was_made = !matches!(outcome, Outcome::NotMade { .. });
    let now = clock::steady_ms();
    // SAFETY: as above.
    let took = now.saturating_sub(unsafe { (*ctx).asked });
    // SAFETY: as above.
    let policy = unsafe { Rc::clone(&(*ctx).policy) };
    // The clock may have been set meanwhile.
    let ended = pending.asked() + took;
    let verdict = enforce::resume(pending, outcome, &policy, ended);
    if was_made {
        let failed = verdict.s2s_error.is_some() || verdict.has_timed_out;
        // SAFETY: live request.
        let main = unsafe { MainConf::of_request(r) };
        // SAFETY: the context of this live request, borrowed for this statement.
        let chosen = unsafe { (*ctx).risk_backend.as_ref() };
        note_health(main, &enforcement, chosen, verdict.tells_of_an_outage(), now);
        if failed {
            count(main, &enforcement, |app| app.call_failed(&verdict));
            // SAFETY: live request.
            unsafe { risk_api::report_failure(r, &verdict, policy.options().logger_severity) };
        }
    }
    // SAFETY: as the caller's.
    unsafe { act(r, ctx, verdict) }
}

/// The circuit breaker of the Risk API that is called, shared by all workers.
fn breaker<'m>(
    main: &'m MainConf,
    enforcement: &Enforcement,
    chosen: Option<&Chosen>,
) -> Option<&'m Breaker> {
    let id = match chosen {
        Some(chosen) => chosen.breaker,
        None => enforcement.risk_location.get()?.breaker,
    };
    main.shared.get()?.breaker(id)
}

/// Tells the breaker how a call went, and the operator if that changed its state.
fn note_health(
    main: &MainConf,
    enforcement: &Enforcement,
    chosen: Option<&Chosen>,
    is_out: bool,
    now: u64,
) {
    let Some(breaker) = breaker(main, enforcement, chosen) else { return };
    let url = match chosen {
        Some(chosen) => chosen.base.to_string(),
        None => enforcement.backend_url.to_string(),
    };
    if is_out {
        if breaker.failed(enforcement.breaker_limits, now) == Change::Opened {
            log::cycle_line(
                WARN,
                &format!(
                    "px: too many failures of the Risk API at \"{url}\": visitors pass without a \
                     call until it is back"
                ),
            );
        }
    } else if breaker.succeeded(now) == Change::Closed {
        log::cycle_line(NOTICE, &format!("px: the Risk API at \"{url}\" is back"));
    }
}

/// Does what the verdict says.
///
/// # Safety
///
/// As [`judge`].
unsafe fn act(r: *mut ngx_http_request_t, ctx: *mut Ctx, verdict: Verdict<'static>) -> ngx_int_t {
    // SAFETY: live request.
    let main = unsafe { MainConf::of_request(r) };
    // SAFETY: the context of this live request, borrowed until it is blocked or the handler.
    let known = unsafe { &mut *ctx };
    known.stage = Stage::Settled;
    let enforcement = Rc::clone(&known.enforcement);
    let policy = Rc::clone(&known.policy);
    if let Some(end) = End::of(&verdict) {
        count(main, &enforcement, |app| app.request(end));
    }
    let verdict = &*known.verdict.insert(verdict);
    // SAFETY: live request.
    let severity = policy.options().logger_severity;
    // SAFETY: live request.
    unsafe { log_verdict(r, verdict, severity, enforcement.debug_probability) };
    if verdict.telemetry_requested {
        let id = Some(verdict.request_id());
        activities::send_telemetry(main, &enforcement, &policy, UpdateReason::Command, id);
    }
    let (action, headers) = (verdict.action, verdict.origin_headers(&policy, clock::now_ms()));
    let (is_login, marks_query) = (verdict.has_credentials(), verdict.marks_query(&policy));
    if let Some(target) = &enforcement.additional_activity_handler {
        // SAFETY: live request.
        unsafe { side_request::start(r, target) };
    }
    if action == Action::Block {
        // SAFETY: as the caller's; `known` is not used again.
        return unsafe { block::answer(r, ctx, &enforcement) };
    }
    if policy.options().snippet_enabled && snippet::wants_plain_answer(verdict.request()) {
        // SAFETY: live request.
        unsafe { origin::strip(r, ["accept-encoding"].into_iter()) };
    }
    // SAFETY: live request.
    unsafe { origin::enrich(r, &headers) };
    if marks_query {
        // SAFETY: live request in its access phase.
        unsafe { origin::mark_query(r) };
    }
    if is_login {
        // SAFETY: as above.
        unsafe { login::begin(r, known) };
    }
    // The report on a login waits for the origin's answer.
    if action == Action::Pass && !enforcement.deferred_activities && !is_login {
        activities::report(main, known, &OriginResponse::default());
    }
    if let Some(Handler { location, condition: Some(condition) }) = &enforcement.answers.verification
        // SAFETY: live request, then as above; `known` is not used again.
        && unsafe { condition.holds(r) && named_location::go(r, location) }
    {
        return DONE;
    }
    DECLINED
}

/// One line for a block; for every verdict, or one in so many, where `px_debug` is on.
///
/// # Safety
///
/// `r` must be a live request.
unsafe fn log_verdict(
    r: *mut ngx_http_request_t,
    verdict: &Verdict<'_>,
    severity: Severity,
    debug_probability: u32,
) {
    let level = match (severity, verdict.action) {
        (Severity::None, _) => return,
        (Severity::Debug, _) if is_sampled(verdict.request_id(), debug_probability) => NOTICE,
        (_, Action::Block | Action::SimulatedBlock) => INFO,
        (_, Action::Pass) => DEBUG,
    };
    // SAFETY: live request.
    if !unsafe { log::enabled(r, level) } {
        return;
    }
    let reason = verdict
        .pass_reason
        .map(|reason| reason.as_str())
        .or(verdict.block_reason.map(|reason| reason.as_str()))
        .unwrap_or("unknown_reason");
    let mut text = format!("px: {}, reason {reason}", verdict.action.as_str());
    if let Some(score) = verdict.score {
        text.push_str(&format!(", score {score}"));
    }
    if let Some(call_reason) = &verdict.call_reason {
        text.push_str(&format!(", Risk API asked because of {}", call_reason.as_str()));
    }
    if let Some(rtt) = verdict.risk_rtt {
        text.push_str(&format!(", answered in {rtt} ms"));
    }
    // SAFETY: live request.
    unsafe { log::request_line(r, level, &text) };
}

/// One request in `one_in` is; its id, which is random, says so once and for all.
fn is_sampled(request_id: &str, one_in: u32) -> bool {
    let end = request_id.len().saturating_sub(8);
    let number = request_id.get(end..).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    number.unwrap_or_default() % one_in.max(1) == 0
}

/// Counts something under the application's id.
fn count(main: &MainConf, enforcement: &Enforcement, add: impl FnOnce(&App)) {
    if let Some(shared) = main.shared.get() {
        add(shared.app(enforcement.app_place.get()));
    }
}
