//! The log phase: builds a request's activity and puts it into its batch (activities.md).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nginx_sys::{
    ngx_add_timer, ngx_current_msec, ngx_cycle, ngx_del_timer, ngx_event_t, ngx_http_request_t,
    ngx_int_t,
};
use px_core::enforce::OriginResponse;
use px_core::log_records;
use px_core::policy::Policy;
use px_core::telemetry::{self, UpdateReason};

use crate::clock;
use crate::conf::{Enforcement, MainConf};
use crate::ctx::Ctx;
use crate::ffi::{self, OK};
use crate::first_party;
use crate::log::{self, ERR, NOTICE, WARN};
use crate::login;
use crate::sender::{Destination, Job, Kind, Level, Sender, Tally};
use crate::shared_zone::Shared;

/// A batch is full when its body has this size, whatever its count.
const BATCH_BYTES: usize = 256 * 1024;
/// While the collector is slower than the visitors, batches grow up to this size: large enough for
/// distant collectors, small enough to be sent in time over a slow line.
const GROWN_BYTES: usize = 512 * 1024;
/// So many batches of the operator's size may leave one after another, and one more each time this
/// has passed; further ones grow. Fewer and larger POSTs carry the same at a fraction of the cost.
const BURST: usize = 32;
const PACE_MS: usize = 25;
/// Header of an MCP server's answer (agentic-trust.md).
const MCP_SESSION: &str = "mcp-session-id";
/// While the thread has work, its tally is looked at this often.
const TALLY_INTERVAL_MS: u64 = 1000;

/// Runs for every finished request, answered by us or by the origin.
pub(crate) unsafe extern "C" fn log_handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    ffi::guard(
        "the log phase",
        || OK,
        || {
            // SAFETY: nginx passes a live request.
            if !std::ptr::eq(r, unsafe { (*r).main }) {
                return OK;
            }
            // SAFETY: live request in its log phase.
            unsafe { first_party::at_the_end(r) };
            // SAFETY: as above.
            let ctx = unsafe { Ctx::find(r) };
            // SAFETY: null or the context of this live request; nothing below reaches it otherwise.
            let Some(ctx) = (unsafe { ctx.as_mut() }) else { return OK };
            if ctx.reported || ctx.verdict.is_none() {
                return OK;
            }
            // SAFETY: live request.
            let status = unsafe { (*r).headers_out.status };
            let status = u16::try_from(status).ok().filter(|status| *status != 0);
            let status = ctx.login.as_ref().and_then(|watch| watch.status).or(status);
            let expressions = ctx.enforcement.expressions.as_ref();
            // SAFETY: live request under the configuration that its context keeps.
            let own = expressions.map(|own| unsafe { own.response_parameters(r) });
            let custom_parameters = own.as_deref().unwrap_or_default();
            // SAFETY: live request.
            let main = unsafe { MainConf::of_request(r) };
            // SAFETY: live request in its log phase.
            let login = unsafe { login::result(r, ctx) };
            let wants_session = ctx.extracted.as_ref().is_some_and(|e| e.wants_mcp_session_id());
            // SAFETY: as above.
            let session = wants_session.then(|| unsafe { login::response_header(r, MCP_SESSION) });
            let mcp_session_id = session.flatten();
            let response = OriginResponse { status, custom_parameters, mcp_session_id, login };
            report(main, ctx, &response);
            OK
        },
    )
}

/// Puts the request's activity, if there is to be one, into its batch, and the report on a login
/// behind it; once.
pub(crate) fn report(main: &MainConf, ctx: &mut Ctx, response: &OriginResponse<'_>) {
    ctx.reported = true;
    let Some(verdict) = &ctx.verdict else { return };
    let (enforcement, policy) = (&ctx.enforcement, &*ctx.policy);
    main.with_worker(|worker| {
        worker.reporter.offer(main, &enforcement.destination, |out| {
            verdict.activity(policy, response, clock::now_ms(), out)
        });
        if verdict.ships_logs(policy) {
            let records = log_records::write(verdict, policy, clock::now_ms());
            let destination = &enforcement.destination;
            worker.reporter.hand_over_one(main, destination, Kind::Logs, records);
        }
        if verdict.has_credentials() {
            worker.reporter.offer(main, &enforcement.destination, |out| {
                verdict.additional_activity(policy, response, clock::now_ms(), out)
            });
        }
    });
}

/// Sends the enforcer's own configuration report (remote-config-and-telemetry.md § 2).
pub(crate) fn send_telemetry(
    main: &MainConf,
    enforcement: &Enforcement,
    policy: &Policy,
    reason: UpdateReason,
    request_id: Option<&str>,
) {
    main.with_worker(|worker| {
        worker.reporter.send_telemetry(
            main,
            &enforcement.destination,
            telemetry::body(policy, reason, clock::now_ms(), request_id, worker.machine()),
        );
    });
}

/// A worker's batches on their way to the sender thread.
pub(crate) struct Reporter {
    /// `None` where there is nobody to report to, and until its threads could be started.
    sender: Option<Sender>,
    destinations: Vec<Arc<Destination>>,
    batches: Vec<Batch>,
    /// Hands over what is due and reads the thread's tally. Boxed: nginx keeps its address.
    timer: Box<ngx_event_t>,
    /// Of the threads' tally, what has been counted and logged.
    seen: Seen,
    handed_over: u64,
    /// A spool is delivered without being asked for: its tally is always looked at.
    has_spool: bool,
}

/// Activities, as in the tally.
#[derive(Default)]
struct Seen {
    sent: u64,
    failed: u64,
    spooled: u64,
    delivered: u64,
    discarded: u64,
}

struct Batch {
    destination: Arc<Destination>,
    /// `[` and the activities so far, separated by commas.
    body: Vec<u8>,
    count: usize,
    /// nginx's millisecond clock at the first activity.
    began: usize,
    /// How many full batches may leave at once.
    allowance: usize,
    /// nginx's millisecond clock when the allowance last grew.
    allowed_at: usize,
}

impl Reporter {
    pub(crate) fn new(main: &MainConf) -> Self {
        let mut destinations: Vec<Arc<Destination>> = Vec::new();
        for enforcement in &main.enforcements {
            if !destinations.iter().any(|known| Arc::ptr_eq(known, &enforcement.destination)) {
                destinations.push(Arc::clone(&enforcement.destination));
            }
        }
        let has_spool = destinations.iter().any(|destination| destination.spool.is_some());
        // SAFETY: zero is the start state of an event.
        let mut timer: Box<ngx_event_t> = Box::new(unsafe { std::mem::zeroed() });
        timer.handler = Some(on_timer);
        timer.data = std::ptr::from_ref(main).cast_mut().cast();
        // SAFETY: the cycle is live while workers run.
        timer.log = unsafe { (*ngx_cycle).log };
        // A worker that is told to quit does not wait for this timer: exit_process flushes.
        timer.set_cancelable(1);
        let mut reporter = Self {
            sender: None,
            destinations,
            batches: Vec::new(),
            timer,
            seen: Seen::default(),
            handed_over: 0,
            has_spool,
        };
        if let Some(place) = main.shared.get().and_then(Shared::worker) {
            place.enter();
        }
        if has_spool {
            reporter.arm(TALLY_INTERVAL_MS);
        }
        reporter
    }

    /// Starts the threads, unless they run or there is nobody to report to.
    pub(crate) fn start_sender(&mut self) -> io::Result<()> {
        if self.sender.is_none() && !self.destinations.is_empty() {
            self.sender = Some(Sender::start(self.destinations.clone())?);
        }
        Ok(())
    }

    /// Adds an activity to its batch. `build` appends one JSON object, or returns false.
    fn offer(
        &mut self,
        main: &MainConf,
        destination: &Arc<Destination>,
        build: impl FnOnce(&mut Vec<u8>) -> bool,
    ) {
        let at = self.batches.iter().position(|b| Arc::ptr_eq(&b.destination, destination));
        let at = at.unwrap_or_else(|| {
            self.batches.push(Batch::new(Arc::clone(destination)));
            self.batches.len() - 1
        });
        let Some(batch) = self.batches.get_mut(at) else { return };
        if batch.body.capacity() == 0
            && let Some(sender) = &self.sender
        {
            batch.body = sender.body();
        }
        let before = batch.body.len();
        batch.body.push(if batch.count == 0 { b'[' } else { b',' });
        if !build(&mut batch.body) {
            batch.body.truncate(before);
            return;
        }
        // SAFETY: nginx's clock of the running event loop.
        let now = unsafe { ngx_current_msec };
        if batch.count == 0 {
            batch.began = now;
        }
        batch.count += 1;
        let is_pressed = || self.sender.as_ref().is_some_and(Sender::is_pressed);
        if batch.may_leave(now, is_pressed) {
            let job = batch.close();
            self.hand_over(main, job);
        } else if batch.count == 1 {
            self.arm(destination.batch_interval_ms);
        }
    }

    /// Hands over one report on the enforcer's own configuration.
    pub(crate) fn send_telemetry(
        &mut self,
        main: &MainConf,
        destination: &Arc<Destination>,
        body: Vec<u8>,
    ) {
        self.hand_over_one(main, destination, Kind::Telemetry, body);
    }

    /// Hands over one body that is no activity.
    pub(crate) fn hand_over_one(
        &mut self,
        main: &MainConf,
        destination: &Arc<Destination>,
        kind: Kind,
        body: Vec<u8>,
    ) {
        let destination = Arc::clone(destination);
        self.hand_over(main, Job { destination, kind, body, count: 0 });
    }

    fn hand_over(&mut self, main: &MainConf, job: Job) {
        let count = job.count;
        if let Some(shared) = main.shared.get() {
            shared.activities_offered.fetch_add(count, Ordering::Relaxed);
        }
        match self.sender.as_ref().map(|sender| sender.offer(job)) {
            Some(Ok(())) => self.handed_over += count,
            Some(Err(lost)) => count_lost(main, lost, "the queue of the sender thread is full"),
            None => count_lost(main, count, "the sender thread could not be started"),
        }
        self.show_queue(main);
        self.arm(TALLY_INTERVAL_MS);
    }

    /// Lets the timer fire within `ms`.
    fn arm(&mut self, ms: u64) {
        let ms = usize::try_from(ms).unwrap_or(1000);
        if self.timer.timer_set() != 0 {
            // SAFETY: nginx's clock of the running event loop.
            let left = self.timer.timer.key.wrapping_sub(unsafe { ngx_current_msec });
            // A timer that is overdue has wrapped around to a huge value.
            if left <= ms || left > usize::MAX / 2 {
                return;
            }
            // SAFETY: armed and not fired.
            unsafe { ngx_del_timer(&raw mut *self.timer) };
        }
        // SAFETY: a complete event at a fixed address that is not armed.
        unsafe { ngx_add_timer(&raw mut *self.timer, ms) };
    }

    /// Hands over the batches whose time has come, or all.
    fn flush(&mut self, main: &MainConf, all: bool) {
        // SAFETY: nginx's clock of the running event loop.
        let now = unsafe { ngx_current_msec };
        let mut next_due: Option<u64> = None;
        let mut due = Vec::new();
        for batch in self.batches.iter_mut().filter(|batch| batch.count != 0) {
            let age = now.wrapping_sub(batch.began) as u64;
            let interval = batch.destination.batch_interval_ms;
            if all || age >= interval {
                due.push(batch.close());
            } else {
                let left = interval - age;
                next_due = Some(next_due.map_or(left, |next| next.min(left)));
            }
        }
        for job in due {
            self.hand_over(main, job);
        }
        if let Some(left) = next_due {
            self.arm(left);
        }
    }

    /// Counts what the threads have done since the last look, and says what they have to say.
    fn read_tally(&mut self, main: &MainConf, tally: &Tally) {
        let Some(shared) = main.shared.get() else { return };
        let sent = newly(&mut self.seen.sent, &tally.sent);
        let failed = newly(&mut self.seen.failed, &tally.failed);
        let spooled = newly(&mut self.seen.spooled, &tally.spooled);
        let delivered = newly(&mut self.seen.delivered, &tally.delivered);
        let discarded = newly(&mut self.seen.discarded, &tally.discarded);
        shared.activities_sent.fetch_add(sent + delivered, Ordering::Relaxed);
        shared.activities_spooled.fetch_add(spooled, Ordering::Relaxed);
        shared.activities_unspooled.fetch_add(delivered, Ordering::Relaxed);
        if failed + discarded != 0 {
            count_lost(main, failed + discarded, &tally.last_error());
        }
        self.show_queue(main);
        for line in tally.take_lines() {
            let level = match line.level {
                Level::Outage if shared.spool_log.admit(clock::steady_ms()).is_none() => continue,
                Level::Error => ERR,
                Level::Outage | Level::Warn => WARN,
                Level::Notice => NOTICE,
            };
            log::cycle_line(level, &format!("px: {}", log::one_line(&line.text, 600)));
        }
    }

    /// Activities that were handed over and are neither delivered, kept nor lost.
    fn in_memory(&self) -> u64 {
        self.handed_over.saturating_sub(self.seen.sent + self.seen.failed + self.seen.spooled)
    }

    /// Lets everybody see how much waits here.
    fn show_queue(&self, main: &MainConf) {
        if let Some(place) = main.shared.get().and_then(Shared::worker) {
            place.set_queued(self.in_memory());
        }
    }

    /// Flushes everything and ends the thread, waiting for at most `limit`.
    pub(crate) fn close(mut self, main: &MainConf, limit: std::time::Duration) {
        if self.timer.timer_set() != 0 {
            // SAFETY: armed and not fired.
            unsafe { ngx_del_timer(&raw mut *self.timer) };
        }
        self.flush(main, true);
        if self.timer.timer_set() != 0 {
            // SAFETY: armed by the flush.
            unsafe { ngx_del_timer(&raw mut *self.timer) };
        }
        if let Some(sender) = self.sender.take() {
            let tally = sender.close(limit);
            self.read_tally(main, &tally);
            if self.in_memory() != 0 {
                count_lost(
                    main,
                    self.in_memory(),
                    "the worker ended before the collector answered",
                );
            }
        }
        if let Some(place) = main.shared.get().and_then(Shared::worker) {
            place.leave();
        }
    }
}

impl Batch {
    fn new(destination: Arc<Destination>) -> Self {
        Self {
            destination,
            body: Vec::new(),
            count: 0,
            began: 0,
            allowance: BURST,
            // SAFETY: nginx's clock of the running event loop.
            allowed_at: unsafe { ngx_current_msec },
        }
    }

    /// Whether the batch, having grown by one, is to be handed over.
    fn may_leave(&mut self, now: usize, is_pressed: impl FnOnce() -> bool) -> bool {
        let size = self.body.len();
        if self.count < self.destination.batch_size && size < BATCH_BYTES {
            return false;
        }
        // Who switched batches off gets none.
        if size >= GROWN_BYTES || self.destination.batch_size == 1 {
            return true;
        }
        let earned = now.wrapping_sub(self.allowed_at) / PACE_MS;
        if earned != 0 {
            self.allowance = BURST.min(self.allowance.saturating_add(earned));
            self.allowed_at = now;
        }
        if (self.allowance == 0 && size < BATCH_BYTES) || is_pressed() {
            return false;
        }
        self.allowance = self.allowance.saturating_sub(1);
        true
    }

    /// One activity is sent as an object, several as an array (activities.md § 3).
    fn close(&mut self) -> Job {
        let mut body = std::mem::take(&mut self.body);
        if self.count == 1 {
            body.remove(0);
        } else {
            body.push(b']');
        }
        let count = std::mem::take(&mut self.count) as u64;
        Job { destination: Arc::clone(&self.destination), kind: Kind::Activities, body, count }
    }
}

unsafe extern "C" fn on_timer(ev: *mut ngx_event_t) {
    ffi::guard(
        "the activities timer",
        || (),
        || {
            // SAFETY: `start` stored the configuration, which outlives the worker's timers.
            let main = unsafe { &*(*ev).data.cast::<MainConf>() };
            main.with_worker(|worker| {
                let reporter = &mut worker.reporter;
                if let Some(tally) = reporter.sender.as_ref().map(|s| Arc::clone(&s.tally)) {
                    reporter.read_tally(main, &tally);
                }
                reporter.flush(main, false);
                if reporter.in_memory() != 0 || reporter.has_spool {
                    reporter.arm(TALLY_INTERVAL_MS);
                }
            });
        },
    );
}

/// By how much a number of the tally has grown since it was last looked at.
fn newly(seen: &mut u64, tally: &AtomicU64) -> u64 {
    let before = std::mem::replace(seen, tally.load(Ordering::Relaxed));
    seen.saturating_sub(before)
}

/// Lost activities are counted, and logged at most once a minute by all workers together.
fn count_lost(main: &MainConf, count: u64, reason: &str) {
    let Some(shared) = main.shared.get() else { return };
    let total = shared.activities_lost.fetch_add(count, Ordering::Relaxed) + count;
    if shared.activities_log.admit(clock::steady_ms()).is_some() {
        let reason = log::one_line(reason, 300);
        log::cycle_line(
            ERR,
            &format!("px: activities could not be delivered: {reason}; {total} lost since start"),
        );
    }
}
