//! What the sender thread does: for each destination what waits, what the poster is sending, and what
//! is kept in the spool, in its order (DECISIONS 22, activities.md §§ 2, 6, 7).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use std::{io, mem};

use super::{
    Destination, Event, Job, Kind, Level, Load, PRESSURE, QUEUE_BATCHES, QUEUE_BYTES, Room, Tally,
};
use crate::poster::{Failure, Post};
use crate::spool::{self, Entry, Orphans, Spool, Taken, Writer};

/// Where there is a spool, what waits goes there when it comes to a quarter of the bounds.
const SPILL_BATCHES: usize = QUEUE_BATCHES / 4;
const SPILL_BYTES: usize = QUEUE_BYTES / 4;
/// The largest body whose buffer is kept for further use.
const SPARE_BYTES: usize = 1024 * 1024;

/// How soon a collector in trouble is tried again, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// The spool is searched for files of dead workers this often.
const SEARCH: Duration = Duration::from_secs(2);
/// A line about the spool's own trouble is written at most this often.
const QUIET: Duration = Duration::from_secs(60);

/// The sender thread's desk.
pub(super) struct Dispatch {
    lanes: Vec<Lane>,
    spools: Vec<Spool>,
    under_way: Option<UnderWay>,
    /// The lane that is looked at first for the next post.
    turn: usize,
    next_search: Option<Instant>,
    trouble_told: Option<Instant>,
    closing: Option<Closing>,
    poster: SyncSender<Post>,
    spare: SyncSender<Vec<u8>>,
    tally: Arc<Tally>,
    load: Arc<Load>,
}

/// The worker ends.
struct Closing {
    /// Where there is a spool no post is begun any more: one that is cut off comes again from the spool, and
    /// may have arrived.
    last_begin: Instant,
    deadline: Instant,
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
        room: Room,
        number: Option<u64>,
    },
    Backlog(Entry, Taken),
    Orphans(Entry, Taken),
}

impl Dispatch {
    pub(super) fn new(
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

    pub(super) fn run(&mut self, destinations: Vec<Arc<Destination>>, events: &Receiver<Event>) {
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
        let now = Instant::now();
        let last_begin = now + deadline.saturating_duration_since(now) / 2;
        self.closing = Some(Closing { last_begin, deadline });
        for at in 0..self.lanes.len() {
            if self.lanes[at].waiting.len() > PRESSURE {
                self.keep_waiting(at);
            }
        }
    }

    fn is_done(&self) -> bool {
        let Some(closing) = &self.closing else { return false };
        let idle = self.under_way.is_none() && self.lanes.iter().all(|l| l.waiting.is_empty());
        idle || Instant::now() >= closing.deadline
    }

    /// How long there is nothing to do unless something happens; `None`: for ever.
    fn pause(&self) -> Option<Duration> {
        let retries = self.lanes.iter().filter_map(|lane| {
            let trouble = lane.trouble.as_ref()?;
            let has_more = !lane.waiting.is_empty() || self.closing.is_none() && lane.has_files();
            (has_more && self.under_way.is_none()).then_some(trouble.retry_at)
        });
        let other = match &self.closing {
            Some(closing) => Some(closing.deadline),
            None => self.next_search,
        };
        let next = retries.chain(other).min();
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
        lane.waiting.push_back((job, room));
        if self.load.batches.load(Ordering::Relaxed) > SPILL_BATCHES
            || self.load.bytes.load(Ordering::Relaxed) > SPILL_BYTES
        {
            (0..self.lanes.len()).for_each(|at| self.keep_waiting(at));
        } else if lane.trouble.is_some() || !lane.backlog.is_empty() {
            self.keep_waiting(at);
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
            let deadline = self.closing.as_ref().map(|closing| closing.deadline);
            let post = Post { job: Arc::clone(&job), deadline };
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
        let lane = &self.lanes[at];
        if lane.pauses() {
            return None;
        }
        if lane.spool.is_some()
            && self.closing.as_ref().is_some_and(|closing| Instant::now() >= closing.last_begin)
        {
            self.keep_waiting(at);
        }
        // Files are in good hands; what is in memory is not.
        if self.closing.is_none() {
            if let Some((entry, job, taken)) = self.next_file(at, |lane| &mut lane.backlog) {
                return Some((job, Source::Backlog(entry, taken)));
            }
            let lane = &mut self.lanes[at];
            let waits = lane.orphan_was_last && !lane.waiting.is_empty();
            lane.orphan_was_last = false;
            if !waits
                && let Some((entry, job, taken)) = self.next_file(at, |lane| &mut lane.orphans)
            {
                self.lanes[at].orphan_was_last = true;
                return Some((job, Source::Orphans(entry, taken)));
            }
            if self.lanes[at].pauses() {
                return None;
            }
        }
        let lane = &mut self.lanes[at];
        let (job, room) = lane.waiting.pop_front()?;
        let number = lane.spool.map(|spool| self.spools[spool].next_sequence());
        Some((job, Source::Memory { room, number }))
    }

    /// The first of a lane's files that can be posted, with what it holds.
    fn next_file(
        &mut self,
        at: usize,
        files: impl Fn(&mut Lane) -> &mut VecDeque<Entry>,
    ) -> Option<(Entry, Job, Taken)> {
        while let Some(entry) = files(&mut self.lanes[at]).pop_front() {
            match self.read(at, &entry) {
                Ok(None) => {}
                Ok(Some((job, taken))) => return Some((entry, job, taken)),
                Err(shortage) => {
                    files(&mut self.lanes[at]).push_front(entry);
                    self.is_in_trouble(at, &shortage.to_string());
                    return None;
                }
            }
        }
        None
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
            Source::Memory { number, room } => match self.keep(at, &job, number) {
                Ok(()) => self.reuse_shared(job),
                Err(why) => match Arc::into_inner(job) {
                    Some(job) => self.lanes[at].waiting.push_front((job, room)),
                    None => self.tally.failed(count, why),
                },
            },
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
            let opened = spools[spool].open(orphans, token).transpose()?;
            Some(opened.map(|(entries, url)| (at, entries, url)))
        });
        let (at, entries, url) = match opened {
            Some(Ok(opened)) => opened,
            // The next search finds them again.
            Some(Err(err)) => return self.tell_trouble(spool, "read", &err),
            None => return self.pass_over(spool, orphans),
        };
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
            match spool::is_sealed(&path) {
                Ok(true) => sealed += 1,
                Ok(false) => ruined += u32::from(self.spools[spool].set_aside(&path).is_ok()),
                Err(err) => return self.tell_trouble(spool, "read", &err),
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

    /// What a file holds; `None` if there is nothing to post. Fails if that cannot be said now, but later.
    fn read(&mut self, at: usize, entry: &Entry) -> io::Result<Option<(Job, Taken)>> {
        let lane = &mut self.lanes[at];
        let Some(spool_at) = lane.spool else { return Ok(None) };
        let spool = &mut self.spools[spool_at];
        let mut taken = match spool.take(entry, lane.writer.as_mut()) {
            Ok(Some(taken)) => taken,
            Ok(None) => return Ok(None),
            Err(err) => {
                self.tell_trouble(spool_at, "read", &err);
                return if spool::is_shortage(&err) { Err(err) } else { Ok(None) };
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
            return Ok(None);
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
        Ok(Some((job, taken)))
    }

    fn remove(&mut self, at: usize, entry: &Entry, taken: Taken) {
        let Some(spool) = self.lanes[at].spool else { return };
        if let Err(err) = self.spools[spool].remove(entry, taken) {
            self.tell_trouble(spool, "clear", &err);
        }
    }

    /// Writes activities to the spool: behind all others, or under the number that is theirs. Fails with the
    /// reason if they may fit later; what never will is lost, so that it holds nothing up.
    fn keep(&mut self, at: usize, job: &Job, number: Option<u64>) -> Result<(), String> {
        let Self { lanes, spools, tally, .. } = self;
        let lane = &mut lanes[at];
        let Some(spool_at) = lane.spool else { return Err("the worker ended".to_owned()) };
        let spool = &mut spools[spool_at];
        let written = lane.writer(spool).and_then(|writer| match number {
            None => spool.append(writer, job.activities(), job.count),
            Some(number) => spool.append_as(writer, number, job.activities(), job.count).map(Some),
        });
        let evicted = spool.take_evicted();
        if evicted != 0 {
            let dir = spool.setting.dir.display();
            tally.discarded(evicted, format!("the spool \"{dir}\" has reached its max_size"));
        }
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
                Ok(())
            }
            Err(err) => {
                let dir = spool.setting.dir.display();
                let reason = format!("cannot write to the spool \"{dir}\": {err}");
                if err.kind() == io::ErrorKind::FileTooLarge {
                    // The line about what is lost says it; that the spool is in trouble would not be true.
                    self.tally.failed(job.count, reason);
                    return Ok(());
                }
                self.tell_trouble(spool_at, "write to", &err);
                Err(reason)
            }
        }
    }

    /// Writes what waits in memory to the spool, if the lane has one. What cannot be written waits on, as
    /// long as there is room.
    fn keep_waiting(&mut self, at: usize) {
        if self.lanes[at].spool.is_none() {
            return;
        }
        while let Some((job, room)) = self.lanes[at].waiting.pop_front() {
            if self.keep(at, &job, None).is_err() {
                return self.lanes[at].waiting.push_front((job, room));
            }
            self.reuse(job);
        }
    }

    /// The worker ends: what is not delivered now is kept, or lost.
    fn keep_everything(&mut self) {
        if let Some(UnderWay { lane, job, from: Source::Memory { number, .. } }) =
            self.under_way.take()
        {
            self.keep_or_lose(lane, &job, number);
        }
        for at in 0..self.lanes.len() {
            while let Some((job, _room)) = self.lanes[at].waiting.pop_front() {
                self.keep_or_lose(at, &job, None);
            }
        }
    }

    fn keep_or_lose(&mut self, at: usize, job: &Job, number: Option<u64>) {
        if let Err(reason) = self.keep(at, job, number) {
            self.tally.failed(job.count, reason);
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
    /// The collector is given time to recover.
    fn pauses(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| Instant::now() < trouble.retry_at)
    }

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
