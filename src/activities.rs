//! The log phase: builds a request's activity and puts it into its batch (activities.md).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nginx_sys::{
    ngx_add_timer, ngx_current_msec, ngx_cycle, ngx_del_timer, ngx_event_t, ngx_http_request_t,
    ngx_int_t,
};
use px_core::enforce::{Action, Verdict};
use px_core::telemetry::{self, Machine, UpdateReason};

use crate::clock;
use crate::conf::{Enforcement, MainConf};
use crate::ctx::Ctx;
use crate::ffi::{self, OK};
use crate::log::{self, ERR};
use crate::sender::{Destination, Job, Kind, Sender};

/// A batch is handed over when its body has this size, whatever its count.
const BATCH_BYTES: usize = 256 * 1024;
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
            // SAFETY: as above.
            let ctx = unsafe { Ctx::find(r) };
            // SAFETY: null or the context of this live request; nothing below reaches it otherwise.
            let Some(ctx) = (unsafe { ctx.as_mut() }) else { return OK };
            if ctx.reported {
                return OK;
            }
            ctx.reported = true;
            let Some(verdict) = &ctx.verdict else { return OK };
            let enforcement = &ctx.enforcement;
            // SAFETY: live request.
            let status = unsafe { (*r).headers_out.status };
            let status = u16::try_from(status).ok().filter(|status| *status != 0);
            // A block's own status is no answer of the origin's.
            let status = status.filter(|_| verdict.action != Action::Block);
            // SAFETY: live request.
            let main = unsafe { MainConf::of_request(r) };
            main.with_worker(|worker| {
                worker.reporter.offer(main, &enforcement.destination, |out| {
                    verdict.activity(&enforcement.policy, status, clock::now_ms(), out)
                });
            });
            OK
        },
    )
}

/// Sends the enforcer's own configuration report (remote-config-and-telemetry.md § 2).
pub(crate) fn send_telemetry(main: &MainConf, enforcement: &Enforcement, verdict: &Verdict<'_>) {
    main.with_worker(|worker| {
        let machine = Machine { os_name: std::env::consts::OS, node_name: &worker.node_name };
        let body = telemetry::body(
            &enforcement.policy,
            UpdateReason::Command,
            clock::now_ms(),
            Some(verdict.request_id()),
            machine,
        );
        worker.reporter.hand_over(
            main,
            Job {
                destination: Arc::clone(&enforcement.destination),
                kind: Kind::Telemetry,
                body,
                count: 0,
            },
        );
    });
}

/// A worker's batches on their way to the sender thread.
pub(crate) struct Reporter {
    sender: Option<Sender>,
    batches: Vec<Batch>,
    /// Hands over what is due and reads the thread's tally. Boxed: nginx keeps its address.
    timer: Box<ngx_event_t>,
    /// Of the thread's tally, what has been counted and logged.
    seen_sent: u64,
    seen_failed: u64,
    handed_over: u64,
}

struct Batch {
    destination: Arc<Destination>,
    /// `[` and the activities so far, separated by commas.
    body: Vec<u8>,
    count: usize,
    /// nginx's millisecond clock at the first activity.
    began: usize,
}

impl Reporter {
    pub(crate) fn start(main: &MainConf) -> Self {
        let sender = match Sender::start() {
            Ok(sender) => Some(sender),
            Err(err) => {
                log::cycle_line(ERR, &format!("px: cannot start the sender thread: {err}"));
                None
            }
        };
        // SAFETY: zero is the start state of an event.
        let mut timer: Box<ngx_event_t> = Box::new(unsafe { std::mem::zeroed() });
        timer.handler = Some(on_timer);
        timer.data = std::ptr::from_ref(main).cast_mut().cast();
        // SAFETY: the cycle is live while workers run.
        timer.log = unsafe { (*ngx_cycle).log };
        // A worker that is told to quit does not wait for this timer: exit_process flushes.
        timer.set_cancelable(1);
        Self { sender, batches: Vec::new(), timer, seen_sent: 0, seen_failed: 0, handed_over: 0 }
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
            self.batches.push(Batch {
                destination: Arc::clone(destination),
                body: Vec::new(),
                count: 0,
                began: 0,
            });
            self.batches.len() - 1
        });
        let Some(batch) = self.batches.get_mut(at) else { return };
        let before = batch.body.len();
        batch.body.push(if batch.count == 0 { b'[' } else { b',' });
        if !build(&mut batch.body) {
            batch.body.truncate(before);
            return;
        }
        if batch.count == 0 {
            // SAFETY: nginx's clock of the running event loop.
            batch.began = unsafe { ngx_current_msec };
        }
        batch.count += 1;
        if let Some(shared) = main.shared.get() {
            shared.activities_offered.fetch_add(1, Ordering::Relaxed);
        }
        if batch.count >= destination.batch_size || batch.body.len() >= BATCH_BYTES {
            let job = batch.close();
            self.hand_over(main, job);
        } else {
            self.arm(destination.batch_interval_ms);
        }
    }

    fn hand_over(&mut self, main: &MainConf, job: Job) {
        let count = job.count;
        let offered = self.sender.as_ref().map_or(Err(count), |sender| sender.offer(job));
        match offered {
            Ok(()) => self.handed_over += count,
            Err(lost) => count_lost(main, lost, "the queue of the sender thread is full"),
        }
        self.arm(TALLY_INTERVAL_MS);
    }

    /// Lets the timer fire within `ms`, unless it is set already.
    fn arm(&mut self, ms: u64) {
        if self.timer.timer_set() == 0 {
            let ms = usize::try_from(ms).unwrap_or(1000);
            // SAFETY: a complete event at a fixed address that is not armed.
            unsafe { ngx_add_timer(&raw mut *self.timer, ms) };
        }
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

    /// Counts what the thread has done since the last look, and says so if it failed.
    fn read_tally(&mut self, main: &MainConf) {
        let Some(sender) = &self.sender else { return };
        let sent = sender.tally.sent.load(Ordering::Relaxed);
        let failed = sender.tally.failed.load(Ordering::Relaxed);
        let (newly_sent, newly_failed) = (sent - self.seen_sent, failed - self.seen_failed);
        self.seen_sent = sent;
        self.seen_failed = failed;
        if let Some(shared) = main.shared.get() {
            shared.activities_sent.fetch_add(newly_sent, Ordering::Relaxed);
        }
        if newly_failed != 0 {
            let reason = sender.tally.last_error();
            count_lost(main, newly_failed, &reason);
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
            let tally = Arc::clone(&sender.tally);
            sender.close(limit);
            let failed = tally.failed.load(Ordering::Relaxed) - self.seen_failed;
            let done = tally.sent.load(Ordering::Relaxed) + tally.failed.load(Ordering::Relaxed);
            let unsent = self.handed_over.saturating_sub(done);
            if failed + unsent != 0 {
                count_lost(main, failed + unsent, &tally.last_error());
            }
        }
    }
}

impl Batch {
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
                reporter.read_tally(main);
                reporter.flush(main, false);
                if reporter.handed_over > reporter.seen_sent + reporter.seen_failed {
                    reporter.arm(TALLY_INTERVAL_MS);
                }
            });
        },
    );
}

/// Lost activities are counted, and logged at most once a minute by all workers together.
fn count_lost(main: &MainConf, count: u64, reason: &str) {
    let Some(shared) = main.shared.get() else { return };
    let total = shared.activities_lost.fetch_add(count, Ordering::Relaxed) + count;
    if shared.activities_log.admit(clock::now_ms()).is_some() {
        let reason = log::one_line(reason, 300);
        log::cycle_line(
            ERR,
            &format!("px: activities could not be delivered: {reason}; {total} lost since start"),
        );
    }
}
