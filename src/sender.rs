//! The sender thread: gets batches of activities, and telemetry, to HUMAN's collector.
//!
//! One per worker, fed by a queue that is bounded in batches and bytes and never makes the event
//! loop wait: what does not fit is dropped and counted. The thread hands one body after another to
//! the poster, and what cannot be delivered to the spool, if there is one (DECISIONS 22,
//! activities.md §§ 2, 6, 7).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, mem};

use px_core::policy::Secret;

use crate::conf::TlsSettings;
use crate::poster::{self, Failure, Post};
use crate::spool::{self, Entry, Orphans, Spool, Taken, Writer};
use crate::thread;

/// Batches that may wait in memory, and bytes of them.
const QUEUE_BATCHES: usize = 512;
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// Where there is a spool, what waits goes there when it comes to a quarter of the bounds.
const SPILL_BATCHES: usize = QUEUE_BATCHES / 4;
const SPILL_BYTES: usize = QUEUE_BYTES / 4;
/// From here on batches may well become larger before they are handed over, and more than that are not
/// waited for when the worker ends, where there is a spool.
const PRESSURE: usize = 8;
/// Bodies that are kept for further use, and the largest of them.
const SPARE_BODIES: usize = 8;
const SPARE_BYTES: usize = 1024 * 1024;

/// How soon a collector in trouble is tried again, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// The spool is searched for files of dead workers this often.
const SEARCH: Duration = Duration::from_secs(2);
/// A line about the spool's own trouble is written at most this often.
const QUIET: Duration = Duration::from_secs(60);
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
        // Some of the time is for counting what is lost, or half of it for writing that to the spool: on a
        // busy machine these threads, which give way to all others, may need it.
        let reserve =
            if self.keeps { limit / 2 } else { (limit / 4).min(Duration::from_millis(500)) };
        let deadline = Instant::now() + limit - reserve;
        if self.events.try_send(Event::Close(deadline)).is_ok() {
            let _ = self.done.recv_timeout(limit);
        }
        self.tally
    }
}

/// The sender thread's desk.
struct Dispatch {
    lanes: Vec<Lane>,
    spools: Vec<Spool>,
    under_way: Option<UnderWay>,
    /// The lane that is looked at first for the next post.
    turn: usize,
    next_search: Option<Instant>,
    trouble_told: Option<Instant>,
    closing: Option<Instant>,
    poster: SyncSender<Post>,
    spare: SyncSender<Vec<u8>>,
    tally: Arc<Tally>,
    load: Arc<Load>,
}

/// What goes to one destination, in its order.
struct Lane {
    destination: Arc<Destination>,
    kind: Kind,
    waiting: VecDeque<(Job, Room)>,
    /// Index of the spool, if there is one.
    spool: Option<usize>,
    writer: Option<Writer>,
    /// This worker's files, oldest first. All are older than what is waiting.
    backlog: VecDeque<Entry>,
    /// Files that dead workers left, oldest first.
    orphans: VecDeque<Entry>,
    /// The last post was an orphan: if something waits, it is next.
    orphan_was_last: bool,
    trouble: Option<Trouble>,
    /// Activities delivered from the spool since the trouble began.
    made_good: u64,
}

/// The collector did not take the last post of a lane with a spool.
struct Trouble {
    retry_at: Instant,
    pause: Duration,
}

/// What the poster is sending.
struct UnderWay {
    lane: usize,
    job: Arc<Job>,
    from: Source,
}

enum Source {
    /// With the number its file will have if it is not delivered: below those of all that follow.
    Memory {
        _room: Room,
        number: Option<u64>,
    },
    Backlog(Entry, Taken),
    Orphans(Entry, Taken),
}

impl Dispatch {
    fn new(
        poster: SyncSender<Post>,
        spare: SyncSender<Vec<u8>>,
        tally: Arc<Tally>,
        load: Arc<Load>,
    ) -> Self {
        Self {
            lanes: Vec::new(),
            spools: Vec::new(),
            under_way: None,
            turn: 0,
            next_search: None,
            trouble_told: None,
            closing: None,
            poster,
            spare,
            tally,
            load,
        }
    }

    fn run(&mut self, destinations: Vec<Arc<Destination>>, events: &Receiver<Event>) {
        self.guard(|this| this.open_spools(destinations));
        loop {
            self.guard(Self::search_spools);
            self.guard(Self::post_next);
            if self.is_done() {
                break;
            }
            let event = match self.pause() {
                Some(pause) => events.recv_timeout(pause),
                None => events.recv().map_err(RecvTimeoutError::from),
            };
            match event {
                Ok(event) => {
                    self.guard(|this| this.take(event));
                    while let Ok(event) = events.try_recv() {
                        self.guard(|this| this.take(event));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.guard(Self::keep_everything);
    }

    /// A panic costs what it was about, never the thread.
    fn guard(&mut self, f: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| f(self))).is_err() {
            let panic = crate::ffi::last_panic();
            self.tally.note_error(format!("the sender thread panicked: {panic}"));
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Job(job, room) => self.accept(job, room),
            Event::Posted(result) => self.posted(result),
            Event::Close(deadline) => self.begin_closing(deadline),
        }
    }

    /// A few batches are delivered, if the collector is quick. More than that may take longer than there
    /// is time: on disk they are in good hands.
    fn begin_closing(&mut self, deadline: Instant) {
        self.closing = Some(deadline);
        for at in 0..self.lanes.len() {
            if self.lanes[at].waiting.len() > PRESSURE {
                self.keep_waiting(at);
            }
        }
    }

    fn is_done(&self) -> bool {
        let Some(deadline) = self.closing else { return false };
        let idle = self.under_way.is_none() && self.lanes.iter().all(|l| l.waiting.is_empty());
        idle || Instant::now() >= deadline
    }

    /// How long there is nothing to do unless something happens; `None`: for ever.
    fn pause(&self) -> Option<Duration> {
        let retries = self.lanes.iter().filter_map(|lane| {
            let trouble = lane.trouble.as_ref()?;
            (self.under_way.is_none() && lane.has_files()).then_some(trouble.retry_at)
        });
        let next = match self.closing {
            Some(deadline) => Some(deadline),
            None => retries.chain(self.next_search).min(),
        };
        next.map(|next| next.saturating_duration_since(Instant::now()))
    }

    fn lane_of(&mut self, destination: &Arc<Destination>, kind: Kind) -> usize {
        let same = |l: &Lane| Arc::ptr_eq(&l.destination, destination) && l.kind == kind;
        if let Some(at) = self.lanes.iter().position(same) {
            return at;
        }
        // Telemetry is repeated when it is asked for again: it is not kept.
        let setting = destination.spool.as_ref().filter(|_| kind == Kind::Activities);
        let spool = setting.map(|setting| {
            let known = self.spools.iter().position(|spool| spool.setting == *setting);
            known.unwrap_or_else(|| {
                self.spools.push(Spool::new(setting.clone()));
                self.spools.len() - 1
            })
        });
        self.lanes.push(Lane {
            destination: Arc::clone(destination),
            kind,
            waiting: VecDeque::new(),
            spool,
            writer: None,
            backlog: VecDeque::new(),
            orphans: VecDeque::new(),
            orphan_was_last: false,
            trouble: None,
            made_good: 0,
        });
        self.lanes.len() - 1
    }

    fn accept(&mut self, job: Job, room: Room) {
        let at = self.lane_of(&job.destination, job.kind);
        let lane = &mut self.lanes[at];
        if lane.trouble.is_some() || !lane.backlog.is_empty() {
            self.keep(at, &job, None);
            drop(room);
            self.reuse(job);
        } else {
            lane.waiting.push_back((job, room));
        }
        if self.load.batches.load(Ordering::Relaxed) > SPILL_BATCHES
            || self.load.bytes.load(Ordering::Relaxed) > SPILL_BYTES
        {
            (0..self.lanes.len()).for_each(|at| self.keep_waiting(at));
        }
    }

    /// Gives the poster something to do, if it has nothing and there is something.
    fn post_next(&mut self) {
        if self.under_way.is_some() {
            return;
        }
        let lanes = self.lanes.len();
        for at in (self.turn..lanes).chain(0..self.turn.min(lanes)) {
            let Some((job, from)) = self.next_of(at) else { continue };
            let job = Arc::new(job);
            let post = Post { job: Arc::clone(&job), deadline: self.closing };
            self.turn = at + 1;
            self.under_way = Some(UnderWay { lane: at, job, from });
            if self.poster.try_send(post).is_err() {
                self.posted(Err(Failure::Trouble("the poster thread is gone".to_owned())));
            }
            // When the collector is down, or the worker ends, there may be no time for it.
            let lane = &self.lanes[at];
            if let (None, Some(spool)) = (&lane.writer, lane.spool) {
                let _ = self.spools[spool].prepare(lane.destination.auth_token());
            }
            return;
        }
    }

    /// What a lane has to post next: its own files, then in turns orphans and what is waiting.
    fn next_of(&mut self, at: usize) -> Option<(Job, Source)> {
        let lane = &mut self.lanes[at];
        if lane.trouble.as_ref().is_some_and(|trouble| Instant::now() < trouble.retry_at) {
            return None;
        }
        // Files are in good hands; what is in memory is not.
        if self.closing.is_none() {
            while let Some(entry) = self.lanes[at].backlog.pop_front() {
                if let Some((job, taken)) = self.read(at, &entry) {
                    return Some((job, Source::Backlog(entry, taken)));
                }
            }
            let lane = &mut self.lanes[at];
            let waits = lane.orphan_was_last && !lane.waiting.is_empty();
            lane.orphan_was_last = false;
            while !waits && let Some(entry) = self.lanes[at].orphans.pop_front() {
                if let Some((job, taken)) = self.read(at, &entry) {
                    self.lanes[at].orphan_was_last = true;
                    return Some((job, Source::Orphans(entry, taken)));
                }
            }
        }
        let lane = &mut self.lanes[at];
        let (job, room) = lane.waiting.pop_front()?;
        let number = lane.spool.map(|spool| self.spools[spool].next_sequence());
        Some((job, Source::Memory { _room: room, number }))
    }

    fn posted(&mut self, result: Result<(), Failure>) {
        let Some(UnderWay { lane: at, job, from }) = self.under_way.take() else { return };
        let lane = &mut self.lanes[at];
        let count = job.count;
        let reason = match result {
            Ok(()) => {
                match from {
                    Source::Memory { .. } => {
                        self.tally.sent.fetch_add(count, Ordering::Relaxed);
                    }
                    Source::Backlog(entry, taken) | Source::Orphans(entry, taken) => {
                        self.tally.delivered.fetch_add(count, Ordering::Relaxed);
                        lane.made_good += count;
                        self.remove(at, &entry, taken);
                    }
                }
                self.is_well(at);
                return self.reuse_shared(job);
            }
            Err(Failure::Refused(reason)) => {
                match from {
                    Source::Memory { .. } => self.tally.failed(count, reason),
                    Source::Backlog(entry, taken) | Source::Orphans(entry, taken) => {
                        self.tally.discarded(count, reason);
                        self.remove(at, &entry, taken);
                    }
                }
                self.is_well(at);
                return;
            }
            Err(Failure::Trouble(reason)) => reason,
        };
        match from {
            Source::Memory { number: None, .. } => {
                self.tally.failed(count, reason);
                return self.reuse_shared(job);
            }
            Source::Memory { number, .. } => {
                self.keep(at, &job, number);
                self.reuse_shared(job);
            }
            Source::Backlog(entry, _) => self.lanes[at].backlog.push_front(entry),
            Source::Orphans(entry, _) => self.lanes[at].orphans.push_front(entry),
        }
        self.is_in_trouble(at, &reason);
        self.keep_waiting(at);
    }

    /// The buffer of a body goes back to the event loop.
    fn reuse(&self, mut job: Job) {
        if job.body.capacity() <= SPARE_BYTES {
            job.body.clear();
            let _ = self.spare.try_send(job.body);
        }
    }

    fn reuse_shared(&self, job: Arc<Job>) {
        if let Some(job) = Arc::into_inner(job) {
            self.reuse(job);
        }
    }

    fn is_in_trouble(&mut self, at: usize, reason: &str) {
        let lane = &mut self.lanes[at];
        let pause = match &lane.trouble {
            Some(trouble) => (trouble.pause * 2).min(LAST_PAUSE),
            None => FIRST_PAUSE,
        };
        if let (None, Some(spool)) = (&lane.trouble, lane.spool) {
            let dir = self.spools[spool].setting.dir.display();
            self.tally.say(
                Level::Outage,
                format!(
                    "activities cannot be delivered: {reason}; they are kept in \"{dir}\" until \
                     they can"
                ),
            );
        }
        lane.trouble = Some(Trouble { retry_at: Instant::now() + pause, pause });
    }

    fn is_well(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        lane.trouble = None;
        if lane.made_good != 0 && !lane.has_files() {
            let count = mem::take(&mut lane.made_good);
            let text = format!("{count} activities were delivered from the spool");
            self.tally.say(Level::Notice, text);
        }
    }

    // The spool.

    fn open_spools(&mut self, destinations: Vec<Arc<Destination>>) {
        for destination in destinations.iter().filter(|d| d.spool.is_some()) {
            self.lane_of(destination, Kind::Activities);
        }
        for at in 0..self.spools.len() {
            if let Err(err) = self.spools[at].check() {
                self.tell_trouble(at, "use", &err);
            }
        }
        if !self.spools.is_empty() {
            self.next_search = Some(Instant::now());
        }
    }

    /// Takes over what dead workers left.
    fn search_spools(&mut self) {
        let now = Instant::now();
        if self.closing.is_some() || self.next_search.is_none_or(|next| now < next) {
            return;
        }
        self.next_search = Some(now + SEARCH);
        for at in 0..self.spools.len() {
            match self.spools[at].adopt() {
                Ok(found) => found.iter().for_each(|orphans| self.adopt(at, orphans)),
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => self.tell_trouble(at, "read", &err),
            }
        }
    }

    /// Finds the destination whose token opens the files: that with their URL, if it is still
    /// configured, else any that has the token.
    fn adopt(&mut self, spool: usize, orphans: &Orphans) {
        let Self { lanes, spools, .. } = self;
        let destination = |at: usize| &*lanes[at].destination;
        let mut candidates: Vec<usize> =
            (0..lanes.len()).filter(|at| lanes[*at].spool == Some(spool)).collect();
        candidates.sort_by_key(|at| !orphans.hint_at(&destination(*at).activities_url));
        let mut tried: Vec<&str> = Vec::new();
        let keys = candidates.iter().flat_map(|at| destination(*at).tokens().map(|t| (*at, t)));
        let opened = keys.into_iter().find_map(|(at, token)| {
            if tried.contains(&token) {
                return None;
            }
            tried.push(token);
            spools[spool].open(orphans, token).map(|(entries, url)| (at, entries, url))
        });
        let Some((at, entries, url)) = opened else { return self.pass_over(spool, orphans) };
        let exact = candidates.iter().copied().find(|other| {
            let other = destination(*other);
            other.auth_token() == destination(at).auth_token() && other.activities_url == url
        });
        lanes[exact.unwrap_or(at)].orphans.extend(entries);
    }

    /// Files that are another application's, or were sealed with a token of long ago, wait for somebody
    /// who has it. What no token will ever open is set aside.
    fn pass_over(&mut self, spool: usize, orphans: &Orphans) {
        let (mut sealed, mut ruined) = (0, 0);
        for path in orphans.paths() {
            if spool::is_sealed(&path) {
                sealed += 1;
            } else {
                ruined += u32::from(self.spools[spool].set_aside(&path).is_ok());
            }
        }
        let dir = orphans.dir().display();
        if ruined != 0 {
            let text = format!(
                "{ruined} files of the spool in \"{dir}\" are skipped and set aside: they are torn or \
                 were altered"
            );
            self.tally.say(Level::Warn, text);
        }
        if sealed != 0 {
            self.spools[spool].leave(orphans);
            let text = format!(
                "{sealed} files of the spool in \"{dir}\" wait for their auth token: none that is \
                 configured opens them"
            );
            self.tally.say(Level::Warn, text);
        }
    }

    /// What a file holds; `None` if there is nothing to post.
    fn read(&mut self, at: usize, entry: &Entry) -> Option<(Job, Taken)> {
        let lane = &mut self.lanes[at];
        let spool_at = lane.spool?;
        let spool = &mut self.spools[spool_at];
        let mut taken = match spool.take(entry, lane.writer.as_mut()) {
            Ok(taken) => taken?,
            Err(err) => {
                self.tell_trouble(spool_at, "read", &err);
                return None;
            }
        };
        let file = entry.path();
        if taken.count == 0 {
            let _ = spool.set_aside(&file);
            let text = format!(
                "the spool file \"{}\" is skipped and set aside: it is torn or was altered",
                file.display()
            );
            self.tally.say(Level::Warn, text);
            return None;
        }
        if taken.skipped != 0 {
            let text = format!(
                "the spool file \"{}\" is torn or was altered: {} of its records skipped",
                file.display(),
                taken.skipped
            );
            self.tally.say(Level::Warn, text);
        }
        let job = Job {
            destination: Arc::clone(&lane.destination),
            kind: Kind::Activities,
            body: mem::take(&mut taken.body),
            count: taken.count,
        };
        Some((job, taken))
    }

    fn remove(&mut self, at: usize, entry: &Entry, taken: Taken) {
        let Some(spool) = self.lanes[at].spool else { return };
        if let Err(err) = self.spools[spool].remove(entry, taken) {
            self.tell_trouble(spool, "clear", &err);
        }
    }

    /// Writes activities to the spool: behind all others, or under the number that is theirs.
    fn keep(&mut self, at: usize, job: &Job, number: Option<u64>) {
        let Self { lanes, spools, tally, .. } = self;
        let lane = &mut lanes[at];
        let Some(spool) = lane.spool.and_then(|spool| spools.get_mut(spool)) else {
            return tally.failed(job.count, "the worker ended");
        };
        let written = lane.writer(spool).and_then(|writer| match number {
            None => spool.append(writer, job.activities(), job.count),
            Some(number) => spool.append_as(writer, number, job.activities(), job.count).map(Some),
        });
        match written {
            Ok(new_file) => {
                tally.spooled.fetch_add(job.count, Ordering::Relaxed);
                match new_file {
                    Some(entry) if number.is_some() => {
                        if !lane.backlog.is_empty() {
                            // What comes next is younger than other files.
                            lane.writer.iter_mut().for_each(Writer::close_file);
                        }
                        lane.backlog.push_front(entry);
                    }
                    entry => lane.backlog.extend(entry),
                }
            }
            Err(err) => {
                let dir = spool.setting.dir.display();
                tally.failed(job.count, format!("cannot write to the spool \"{dir}\": {err}"));
            }
        }
        let evicted = spool.take_evicted();
        if evicted != 0 {
            let dir = spool.setting.dir.display();
            tally.discarded(evicted, format!("the spool \"{dir}\" has reached its max_size"));
        }
    }

    /// Writes what waits in memory to the spool, if the lane has one.
    fn keep_waiting(&mut self, at: usize) {
        if self.lanes[at].spool.is_some() {
            while let Some((job, _room)) = self.lanes[at].waiting.pop_front() {
                self.keep(at, &job, None);
                self.reuse(job);
            }
        }
    }

    /// The worker ends: what is not delivered now is kept, or lost.
    fn keep_everything(&mut self) {
        if let Some(UnderWay { lane, job, from: Source::Memory { number, .. } }) =
            self.under_way.take()
        {
            self.keep(lane, &job, number);
        }
        for at in 0..self.lanes.len() {
            while let Some((job, _room)) = self.lanes[at].waiting.pop_front() {
                self.keep(at, &job, None);
            }
        }
    }

    fn tell_trouble(&mut self, spool: usize, doing: &str, err: &io::Error) {
        let now = Instant::now();
        if self.trouble_told.is_none_or(|told| now.duration_since(told) >= QUIET) {
            self.trouble_told = Some(now);
            let dir = self.spools[spool].setting.dir.display();
            self.tally.say(Level::Error, format!("cannot {doing} the spool \"{dir}\": {err}"));
        }
    }
}

impl Lane {
    fn writer(&mut self, spool: &mut Spool) -> io::Result<&mut Writer> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let Destination { activities_url, .. } = &*self.destination;
                spool.writer(activities_url, self.destination.auth_token())?
            }
        };
        Ok(self.writer.insert(writer))
    }

    fn has_files(&self) -> bool {
        !self.backlog.is_empty() || !self.orphans.is_empty()
    }
}
