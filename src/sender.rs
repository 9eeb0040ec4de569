//! The sender thread: gets batches of activities, and telemetry, to HUMAN's collector.
//!
//! One per worker, fed by a queue that is bounded in batches and bytes and never makes the event
//! loop wait: what does not fit is dropped and counted. The thread hands one body after another to
//! the poster, and what cannot be delivered to the spool, if there is one (DECISIONS 22,
//! activities.md §§ 2, 6, 7).

mod dispatch;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, mem};

use px_core::policy::Secret;

use crate::conf::TlsSettings;
use crate::poster::{self, Failure};
use crate::{spool, thread};
use dispatch::Dispatch;

/// Batches that may wait in memory, and bytes of them.
const QUEUE_BATCHES: usize = 512;
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// From here on batches may well become larger before they are handed over, and more than that are not
/// waited for when the worker ends, where there is a spool.
const PRESSURE: usize = 8;
/// Bodies that are kept for further use.
const SPARE_BODIES: usize = 8;
/// Lines that wait for the event loop to log them; further ones are dropped.
const LINES: usize = 64;

/// Where one configuration's reports go, and how.
#[derive(PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) activities_url: String,
    pub(crate) telemetry_url: String,
    /// `Bearer …`, never logged.
    pub(crate) authorization: String,
    /// What the spool may still be sealed with, while the token is being rotated.
    pub(crate) previous_token: Option<Secret>,
    /// Where log records go, if they are shipped.
    pub(crate) logs: Option<LogService>,
    /// 1..=9, or `None` for uncompressed bodies.
    pub(crate) gzip_level: Option<u32>,
    pub(crate) batch_size: usize,
    pub(crate) batch_interval_ms: u64,
    pub(crate) timeout_ms: u64,
    pub(crate) tls: TlsSettings,
    /// The way to the collector, if it leads through a proxy.
    pub(crate) proxy: Option<Proxy>,
    /// Where undeliverable activities are kept, if they are.
    pub(crate) spool: Option<spool::Setting>,
}

/// HUMAN's service for log records (remote-config-and-telemetry.md § 5).
#[derive(PartialEq, Eq)]
pub(crate) struct LogService {
    pub(crate) url: String,
    /// `Bearer …`
    pub(crate) authorization: Secret,
}

/// A forward proxy; HTTPS goes through it by `CONNECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// `http://host:port`
    pub(crate) url: String,
    /// `user:password`, never logged.
    pub(crate) credentials: Option<Secret>,
}

impl Destination {
    fn auth_token(&self) -> &str {
        self.authorization.trim_start_matches("Bearer ")
    }

    /// What opens files of the spool: the current token, and the previous one if there is one.
    fn tokens(&self) -> impl Iterator<Item = &str> {
        let previous = self.previous_token.iter().map(Secret::expose);
        std::iter::once(self.auth_token()).chain(previous)
    }
}

/// One POST.
pub(crate) struct Job {
    pub(crate) destination: Arc<Destination>,
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
    /// Activities in the body; 0 for telemetry.
    pub(crate) count: u64,
}

impl Job {
    /// The activities without the brackets of an array.
    fn activities(&self) -> &[u8] {
        let inner = || self.body.strip_prefix(b"[")?.strip_suffix(b"]");
        inner().unwrap_or(&self.body)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Activities,
    Telemetry,
    Logs,
}

/// What the threads tell the event loop. All but the last three count activities.
#[derive(Default)]
pub(crate) struct Tally {
    /// Accepted by the collector, straight from memory.
    pub(crate) sent: AtomicU64,
    /// Lost from memory.
    pub(crate) failed: AtomicU64,
    /// Written to the spool.
    pub(crate) spooled: AtomicU64,
    /// Accepted by the collector, from the spool; possibly another worker's.
    pub(crate) delivered: AtomicU64,
    /// Lost from the spool.
    pub(crate) discarded: AtomicU64,
    last_error: Mutex<String>,
    lines: Mutex<Vec<Line>>,
}

/// Something to be logged.
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Each worker has one of these when the collector goes down.
    Outage,
    Error,
    Warn,
    Notice,
}

impl Tally {
    /// Why the last delivery failed; empty if the thread is just writing it.
    pub(crate) fn last_error(&self) -> String {
        self.last_error.try_lock().map(|text| text.clone()).unwrap_or_default()
    }

    /// What is to be logged; next time, if the thread is just writing it.
    pub(crate) fn take_lines(&self) -> Vec<Line> {
        self.lines.try_lock().map(|mut lines| mem::take(&mut *lines)).unwrap_or_default()
    }

    fn failed(&self, count: u64, reason: impl ToString) {
        self.note_error(reason);
        self.failed.fetch_add(count, Ordering::Relaxed);
    }

    fn discarded(&self, count: u64, reason: impl ToString) {
        self.note_error(reason);
        self.discarded.fetch_add(count, Ordering::Relaxed);
    }

    fn note_error(&self, reason: impl ToString) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = reason.to_string();
    }

    fn say(&self, level: Level, text: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < LINES {
            lines.push(Line { level, text });
        }
    }
}

/// How much waits in memory.
#[derive(Default)]
struct Load {
    batches: AtomicUsize,
    bytes: AtomicUsize,
}

/// A job's place in the queue; free again when dropped.
struct Room {
    load: Arc<Load>,
    bytes: usize,
}

impl Room {
    fn take(load: &Arc<Load>, bytes: usize) -> Option<Self> {
        let batches = load.batches.load(Ordering::Relaxed);
        let full = batches >= QUEUE_BATCHES
            || load.bytes.load(Ordering::Relaxed).saturating_add(bytes) > QUEUE_BYTES;
        if full {
            return None;
        }
        load.batches.fetch_add(1, Ordering::Relaxed);
        load.bytes.fetch_add(bytes, Ordering::Relaxed);
        Some(Self { load: Arc::clone(load), bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.load.batches.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

enum Event {
    Job(Job, Room),
    Posted(Result<(), Failure>),
    /// The worker ends at this time.
    Close(Instant),
}

/// The event loop's end of the queue.
pub(crate) struct Sender {
    events: SyncSender<Event>,
    load: Arc<Load>,
    spare: Receiver<Vec<u8>>,
    done: Receiver<()>,
    closing: Arc<AtomicBool>,
    /// There is a spool.
    keeps: bool,
    pub(crate) tally: Arc<Tally>,
}

impl Sender {
    /// Starts the threads. What waits in the spools of `destinations` is delivered without being
    /// asked for.
    pub(crate) fn start(destinations: Vec<Arc<Destination>>) -> io::Result<Self> {
        // Jobs are bounded by their load; one answer and the end always find a place beside them.
        let (events, to_do) = mpsc::sync_channel(QUEUE_BATCHES + 8);
        let (spare_bodies, spare) = mpsc::sync_channel(SPARE_BODIES);
        let (done_sender, done) = mpsc::sync_channel(1);
        let (tally, load) = (Arc::new(Tally::default()), Arc::new(Load::default()));
        let keeps = destinations.iter().any(|destination| destination.spool.is_some());
        let closing = Arc::new(AtomicBool::new(false));
        let answers = events.clone();
        let poster = poster::start(Arc::clone(&closing), move |result| {
            let _ = answers.send(Event::Posted(result));
        })?;
        let (thread_tally, thread_load) = (Arc::clone(&tally), Arc::clone(&load));
        // It stands back behind nobody: what it has not written when the worker ends is lost. It has next to
        // nothing to do, the work being the poster's, but while a spool is filled: on a core that it shares
        // with an event loop at its limit it takes a fifth then. Standing back it wrote less than half and lost the rest.
        thread::spawn("px sender", move || {
            let mut dispatch = Dispatch::new(poster, spare_bodies, thread_tally, thread_load);
            dispatch.run(destinations, &to_do);
            drop(dispatch);
            let _ = done_sender.send(());
        })?;
        Ok(Self { events, load, spare, done, closing, keeps, tally })
    }

    /// Hands over one POST. Gives back the number of activities lost if the queue is full.
    pub(crate) fn offer(&self, job: Job) -> Result<(), u64> {
        let count = job.count;
        let room = Room::take(&self.load, job.body.len()).ok_or(count)?;
        self.events.try_send(Event::Job(job, room)).map_err(|err| match err {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => count,
        })
    }

    /// Whether the threads have more to do than they can do at once.
    pub(crate) fn is_pressed(&self) -> bool {
        self.load.batches.load(Ordering::Relaxed) >= PRESSURE
    }

    /// An empty body to write into, with the room of a used one if there is any.
    pub(crate) fn body(&self) -> Vec<u8> {
        self.spare.try_recv().unwrap_or_default()
    }

    /// Lets the threads deliver what waits, or else keep it, for at most `limit`.
    pub(crate) fn close(self, limit: Duration) -> Arc<Tally> {
        self.closing.store(true, Ordering::Relaxed);
        // Some of the time is for counting what is lost, or more of it for writing that to the spool.
        let reserve =
            if self.keeps { limit / 4 } else { (limit / 4).min(Duration::from_millis(500)) };
        let deadline = Instant::now() + limit - reserve;
        if self.events.try_send(Event::Close(deadline)).is_ok() {
            let _ = self.done.recv_timeout(limit);
        }
        self.tally
    }
}
