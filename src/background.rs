//! Background tasks: what is fetched from HUMAN's services while visitors are served, and how all
//! workers come to use it.
//!
//! One mechanism for all of them. Every worker looks at the clock twice a second. One of them, the
//! poller, is elected through shared memory; what it fetches, by a thread of its own, it publishes in
//! [`Documents`]. All others find it there. Where the poller dies, hangs, or is replaced by a reload,
//! another one takes over at its next look.

use std::ffi::c_void;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use nginx_sys::{ngx_add_timer, ngx_cycle, ngx_cycle_t, ngx_del_timer, ngx_event_t, ngx_exiting};
use px_core::crypto::Secrets;
use px_core::csp::{self, CspPolicy};
use px_core::policy::{Policy, Secret};
use px_core::remote_config::{Document, Unusable};
use px_core::telemetry::{self, UpdateReason};

use crate::activities::Reporter;
use crate::clock;
use crate::conf::{Enforcement, MainConf};
use crate::documents::{Documents, Place};
use crate::fetcher::{Fetcher, Order, Outcome, Source};
use crate::ffi;
use crate::log::{self, ERR, NOTICE, WARN};
use crate::worker::Worker;

/// How often a worker looks.
const LOOK_MS: usize = 500;
/// What was never fetched is tried again after at most so long.
const FIRST_RETRY_MS: u64 = 10_000;
/// Longest snippet, in bytes.
const MAX_SNIPPET: usize = 64 << 10;

/// Something that is fetched, for all configurations that want the same.
#[derive(PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) source: Arc<Source>,
    /// Milliseconds from one fetch to the next; 0: only when told.
    pub(crate) interval_ms: u64,
    pub(crate) kind: Kind,
}

#[derive(PartialEq, Eq)]
pub(crate) enum Kind {
    CspPolicy,
    Snippet,
    RemoteConfig(RemoteConfig),
}

#[derive(PartialEq, Eq)]
pub(crate) struct RemoteConfig {
    pub(crate) id: String,
    pub(crate) token: Secret,
    /// Fetches until the wanted version is there, and milliseconds between them.
    pub(crate) max_attempts: u32,
    pub(crate) retry_ms: u64,
    /// Directory that the last good document is kept in.
    pub(crate) cache: Option<PathBuf>,
}

/// The tasks of one configuration, by their places in [`MainConf::tasks`].
#[derive(Clone, Copy, Default)]
pub(crate) struct Tasks {
    pub(crate) csp: Option<usize>,
    pub(crate) snippet: Option<usize>,
    pub(crate) remote_config: Option<usize>,
}

impl Task {
    /// By which the task's document is found in shared memory, also after a reload; never 0.
    pub(crate) fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let (kind, id) = match &self.kind {
            Kind::CspPolicy => (1_u8, ""),
            Kind::Snippet => (2, ""),
            Kind::RemoteConfig(own) => (3, &*own.id),
        };
        (kind, id, &self.source.url, self.source.authorization.expose()).hash(&mut hasher);
        hasher.finish().max(1)
    }

    /// For the log.
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::CspPolicy => "the CSP policy",
            Kind::Snippet => "the snippet",
            Kind::RemoteConfig(_) => "the remote configuration",
        }
    }

    /// The file that the last good document is kept in.
    fn file(&self) -> Option<PathBuf> {
        let Kind::RemoteConfig(own) = &self.kind else { return None };
        let name = format!("{:016x}.conf", self.key());
        own.cache.as_ref().map(|dir| dir.join(name))
    }
}

/// What one worker knows of its tasks.
pub(crate) struct Background {
    states: Vec<State>,
    /// Boxed: nginx keeps its address.
    timer: Box<ngx_event_t>,
    fetcher: Option<Fetcher>,
    is_poller: bool,
}

#[derive(Default)]
struct State {
    /// Number of the document that is in use.
    number: u64,
    /// When it was last known to be good, by the steady clock; 0: never.
    fetched: u64,
    content: Content,
    /// Of the poller: when the next fetch is due, by the steady clock, and how many are left until the
    /// wanted version is given up.
    due: Option<u64>,
    attempts_left: u32,
    notices: u64,
    wanted: u64,
    is_under_way: bool,
}

#[derive(Default)]
enum Content {
    #[default]
    None,
    Csp {
        policy: Rc<CspPolicy>,
        /// It is dropped when it has not been confirmed for so long: each configuration's own limit
        /// is asked about.
        kept: Vec<u8>,
    },
    Snippet(Rc<str>),
    /// Version of the document in effect.
    RemoteConfig(u64),
}

impl Background {
    pub(crate) fn new(main: &MainConf) -> Self {
        // SAFETY: zero is the start state of an event.
        let mut timer: Box<ngx_event_t> = Box::new(unsafe { std::mem::zeroed() });
        timer.handler = Some(on_look);
        timer.data = std::ptr::from_ref(main).cast_mut().cast::<c_void>();
        // SAFETY: the cycle is live while workers run.
        timer.log = unsafe { (*ngx_cycle).log };
        // A worker that is told to quit does not wait for this timer.
        timer.set_cancelable(1);
        let states = main.tasks.iter().map(|_| State::default()).collect();
        let mut own = Self { states, timer, fetcher: None, is_poller: false };
        if !main.tasks.is_empty() {
            // Requests are judged by what is known already from the first one on.
            own.use_documents(main);
            own.arm(1);
        }
        own
    }

    /// The policy of a task, while it has been confirmed within `limit_ms`.
    pub(crate) fn csp_policy(
        &self,
        task: usize,
        limit_ms: u64,
        now_ms: u64,
    ) -> Option<Rc<CspPolicy>> {
        let state = self.states.get(task)?;
        match &state.content {
            Content::Csp { policy, .. } if now_ms < state.fetched.saturating_add(limit_ms) => {
                Some(Rc::clone(policy))
            }
            _ => None,
        }
    }

    /// What the status page says of them.
    pub(crate) fn documents(&self, main: &MainConf) -> Vec<px_core::metrics::Document> {
        let described = main.tasks.iter().zip(&self.states).map(|(task, state)| {
            let url = || task.source.url.clone();
            let (word, source, version) = match &task.kind {
                Kind::CspPolicy => ("csp", url(), None),
                Kind::Snippet => ("snippet", url(), None),
                Kind::RemoteConfig(own) => ("remote_config", own.id.clone(), Some(state.version())),
            };
            let fetched = match state.fetched {
                0 => 0,
                at => clock::now_ms().saturating_sub(clock::steady_ms().saturating_sub(at)),
            };
            px_core::metrics::Document { task: word, source, fetched, version }
        });
        described.collect()
    }

    /// The snippet of a task, if it was ever fetched.
    pub(crate) fn snippet(&self, task: usize) -> Option<Rc<str>> {
        match &self.states.get(task)?.content {
            Content::Snippet(text) => Some(Rc::clone(text)),
            _ => None,
        }
    }

    /// Ends the worker's part.
    pub(crate) fn close(&mut self, main: &MainConf) {
        if self.timer.timer_set() != 0 {
            // SAFETY: armed and not fired.
            unsafe { ngx_del_timer(&raw mut *self.timer) };
        }
        self.step_down(main);
    }

    fn step_down(&mut self, main: &MainConf) {
        self.is_poller = false;
        self.fetcher = None;
        if let Some(documents) = main.documents.get() {
            documents.resign();
        }
    }

    fn arm(&mut self, ms: usize) {
        // SAFETY: a complete event at a fixed address that is not armed.
        unsafe { ngx_add_timer(&raw mut *self.timer, ms) };
    }

    /// Takes over what others have published.
    fn use_documents(&mut self, main: &MainConf) {
        let Some(documents) = main.documents.get() else { return };
        for (index, (task, state)) in main.tasks.iter().zip(&mut self.states).enumerate() {
            let Some(place) = documents.place_of(task.key()) else { continue };
            state.fetched = place.fetched();
            if place.number() == state.number {
                continue;
            }
            if let Some((number, document)) = place.read() {
                state.number = number;
                state.take(main, index, task, document, self.is_poller);
            }
        }
    }
}

impl State {
    /// Makes use of a document. `is_poller`: this worker says what there is to say about it.
    fn take(
        &mut self,
        main: &MainConf,
        index: usize,
        task: &Task,
        document: Vec<u8>,
        is_poller: bool,
    ) {
        match &task.kind {
            Kind::CspPolicy => {
                if let Some(policy) = CspPolicy::parse(&document) {
                    self.content = Content::Csp { policy: Rc::new(policy), kept: document };
                }
            }
            Kind::Snippet => {
                if let Ok(text) = String::from_utf8(document) {
                    self.content = Content::Snippet(text.into());
                }
            }
            Kind::RemoteConfig(own) => {
                // It was checked before it was published.
                let Ok(document) = Document::parse(&document) else { return };
                let version = document.version;
                let Ok(policies) = policies_under(main, index, &document) else { return };
                let mut unheard: Vec<String> = Vec::new();
                for (enforcement, policy, of_policy) in policies {
                    enforcement.replace_policy(policy);
                    for line in of_policy {
                        if !unheard.contains(&line) {
                            unheard.push(line);
                        }
                    }
                }
                self.content = Content::RemoteConfig(version);
                if is_poller {
                    let id = log::one_line(&own.id, 100);
                    let text = format!(
                        "px: version {version} of remote configuration \"{id}\" is in effect"
                    );
                    log::cycle_line(NOTICE, &text);
                    for line in unheard {
                        let line = log::one_line(&line, 300);
                        log::cycle_line(
                            WARN,
                            &format!("px: remote configuration \"{id}\": {line}"),
                        );
                    }
                }
            }
        }
    }

    fn version(&self) -> u64 {
        match self.content {
            Content::RemoteConfig(version) => version,
            _ => 0,
        }
    }
}

/// A configuration, its policy under a document, and what of that was not heard.
type Under<'m> = (&'m Rc<Enforcement>, Policy, Vec<String>);

/// The policies of all configurations of a task under a document.
fn policies_under<'m>(
    main: &'m MainConf,
    task: usize,
    document: &Document,
) -> Result<Vec<Under<'m>>, Unusable> {
    let of_task = main.enforcements.iter().filter(|own| own.tasks.remote_config == Some(task));
    let under = of_task.map(|enforcement| {
        let current = enforcement.policy();
        let (policy, unheard) = Policy::under(current.own_options(), document.clone())
            .map_err(|error| Unusable(error.to_string()))?;
        Ok((enforcement, policy, unheard))
    });
    under.collect()
}

/// HUMAN says that there is a new configuration.
pub(crate) fn notify(main: &MainConf, enforcement: &Enforcement, version: u64) {
    let task = enforcement.tasks.remote_config.and_then(|index| main.tasks.get(index));
    let place = task.and_then(|task| main.documents.get()?.place_of(task.key()));
    if let Some(place) = place {
        place.notify(version);
    }
}

/// A configuration is about to be used: gives each task its place, and the documents that were kept on
/// disk. In the master, before it makes workers.
///
/// # Safety
///
/// `cycle` must be the one being made.
pub(crate) unsafe fn prepare(main: &MainConf, cycle: *mut ngx_cycle_t) {
    let Some(documents) = main.documents.get() else { return };
    let keys: Vec<u64> = main.tasks.iter().map(Task::key).collect();
    documents.assign(&keys);
    for task in &main.tasks {
        let (Some(file), Some(place)) = (task.file(), documents.place_of(task.key())) else {
            continue;
        };
        if place.number() != 0 || !file.exists() {
            continue;
        }
        match read_kept(task, &file) {
            Ok(document) => {
                place.publish(&document);
            }
            Err(reason) => {
                let file = file.display();
                let text = format!(
                    "px: the remote configuration kept in \"{file}\" is not used: {reason}"
                );
                // SAFETY: as the caller's.
                unsafe { log::line_of(cycle, WARN, &text) };
            }
        }
    }
}

/// A line with the HMAC of the document under its token, and the document: what was changed by others
/// is not used.
fn read_kept(task: &Task, file: &PathBuf) -> Result<Vec<u8>, String> {
    let Kind::RemoteConfig(own) = &task.kind else { return Err(String::new()) };
    let content = fs::read(file).map_err(|err| err.to_string())?;
    let end = content.iter().position(|byte| *byte == b'\n').ok_or("it is cut short")?;
    let (hmac, document) = content.split_at(end);
    let document = document.get(1..).unwrap_or_default();
    let secrets = Secrets::new(std::slice::from_ref(&own.token));
    if !secrets.authenticate(document, hmac) {
        return Err("it was changed, or kept under another token".to_owned());
    }
    let parsed = Document::parse(document).map_err(|unusable| unusable.to_string())?;
    if parsed.id != own.id {
        return Err("it is for another id".to_owned());
    }
    Ok(document.to_vec())
}

unsafe extern "C" fn on_look(ev: *mut ngx_event_t) {
    ffi::guard(
        "a look at the background tasks",
        || (),
        || {
            // SAFETY: nginx passes the event that fired, whose data is this worker's configuration.
            let main = unsafe { &*(*ev).data.cast::<MainConf>().cast_const() };
            main.with_worker(|worker| look(main, worker));
        },
    );
}

fn look(main: &MainConf, worker: &mut Worker) {
    // SAFETY: a flag that nginx sets in a worker that is told to quit.
    if unsafe { ngx_exiting } != 0 {
        worker.background.step_down(main);
        return;
    }
    // Armed first: whatever goes wrong below, there is a next look.
    worker.background.arm(LOOK_MS);
    let now = clock::steady_ms();
    if let Some(documents) = main.documents.get() {
        let is_poller = documents.lead(main.configuration.get(), now);
        let background = &mut worker.background;
        if is_poller && !background.is_poller {
            background.begin_polling(now);
        } else if !is_poller {
            background.fetcher = None;
        }
        background.is_poller = is_poller;
        if is_poller {
            poll(main, worker, documents, now);
        }
    }
    worker.background.use_documents(main);
}

impl Background {
    /// Everything is fetched at once, also what a dead poller had under way.
    fn begin_polling(&mut self, now: u64) {
        for state in &mut self.states {
            state.due = Some(now);
            state.attempts_left = 1;
            state.is_under_way = false;
        }
    }

    /// Hands the thread an order; says so if that cannot be done.
    fn order(&mut self, order: Order) -> bool {
        if self.fetcher.is_none() {
            match Fetcher::start() {
                Ok(fetcher) => self.fetcher = Some(fetcher),
                Err(err) => {
                    log::cycle_line(ERR, &format!("px: cannot start the fetcher thread: {err}"));
                    return false;
                }
            }
        }
        self.fetcher.as_ref().is_some_and(|fetcher| fetcher.order(order))
    }
}

/// The poller's part: looks at what came, and orders what is due.
fn poll(main: &MainConf, worker: &mut Worker, documents: &Documents, now: u64) {
    while let Some(fetcher) = &worker.background.fetcher {
        match fetcher.outcome() {
            Ok(Some(Outcome::Fetched { task, answer })) => {
                fetched(main, worker, documents, task, answer, now);
            }
            Ok(Some(Outcome::NotKept { file, reason })) => {
                let file = file.display();
                let text =
                    format!("px: the remote configuration cannot be kept in \"{file}\": {reason}");
                log::cycle_line(ERR, &text);
            }
            Ok(None) => break,
            Err(()) => {
                worker.background.fetcher = None;
                worker.background.begin_polling(now);
            }
        }
    }
    for (index, task) in main.tasks.iter().enumerate() {
        let Some(state) = worker.background.states.get_mut(index) else { continue };
        let notices = documents.place_of(task.key()).map_or((0, 0), Place::notices);
        if let Kind::RemoteConfig(own) = &task.kind
            && notices.0 != state.notices
        {
            (state.notices, state.wanted) = notices;
            state.due = Some(now);
            state.attempts_left = own.max_attempts;
        }
        let is_due = !state.is_under_way && state.due.is_some_and(|due| now >= due);
        if !is_due || !is_wanted(main, index, task) {
            continue;
        }
        let order = Order::Fetch { task: index, source: Arc::clone(&task.source) };
        let is_ordered = worker.background.order(order);
        if let Some(state) = worker.background.states.get_mut(index) {
            state.is_under_way = is_ordered;
            state.due = (!is_ordered).then_some(now + FIRST_RETRY_MS);
        }
    }
}

/// Whether any configuration is to use what a task fetches, as a remote configuration may have it.
fn is_wanted(main: &MainConf, index: usize, task: &Task) -> bool {
    let wants = |own: &Rc<Enforcement>| {
        let policy = own.policy();
        match task.kind {
            Kind::CspPolicy => own.tasks.csp == Some(index) && policy.options().csp_enabled,
            Kind::Snippet => own.tasks.snippet == Some(index) && policy.options().snippet_enabled,
            Kind::RemoteConfig(_) => true,
        }
    };
    main.enforcements.iter().any(wants)
}

/// What became of a fetch.
enum Fetched {
    /// New content for the others.
    New(Vec<u8>),
    /// As it was.
    Same,
    /// A version before the one that is wanted: to be fetched again.
    TooOld(u64),
}

fn fetched(
    main: &MainConf,
    worker: &mut Worker,
    documents: &Documents,
    index: usize,
    answer: Result<(u16, Vec<u8>), String>,
    now: u64,
) {
    let (Some(task), Some(state)) =
        (main.tasks.get(index), worker.background.states.get_mut(index))
    else {
        return;
    };
    state.is_under_way = false;
    let has_any = state.number != 0;
    let next = match task.interval_ms {
        0 => None,
        // What is missing altogether is looked for more often.
        interval if !has_any => Some(now + interval.min(FIRST_RETRY_MS)),
        interval => Some(now + interval),
    };
    // A notification that came meanwhile stands.
    state.due = state.due.or(next);
    let judged = answer.and_then(|(status, body)| judge(main, index, task, state, status, body));
    let place = documents.place_of(task.key());
    match judged {
        Ok(Fetched::Same) => {
            state.due = (task.interval_ms != 0).then(|| now + task.interval_ms);
            if let Some(place) = place {
                place.set_fetched(now);
            }
        }
        Ok(Fetched::New(content)) => {
            state.due = (task.interval_ms != 0).then(|| now + task.interval_ms);
            if let Some(place) = place {
                place.set_fetched(now);
                place.publish(&content);
            }
            published(main, worker, index, task, &content);
        }
        Ok(Fetched::TooOld(version)) => {
            let Kind::RemoteConfig(own) = &task.kind else { return };
            state.attempts_left = state.attempts_left.saturating_sub(1);
            if state.attempts_left > 0 {
                state.due = Some(now + own.retry_ms);
            } else {
                // Given up until the next announcement.
                let wanted = std::mem::take(&mut state.wanted);
                complain(
                    main,
                    task,
                    &format!("version {version} came where {wanted} was announced"),
                );
            }
        }
        Err(reason) => complain(main, task, &reason),
    }
}

/// What an answer is worth. The error says for the operator what is wrong with it.
fn judge(
    main: &MainConf,
    index: usize,
    task: &Task,
    state: &State,
    status: u16,
    body: Vec<u8>,
) -> Result<Fetched, String> {
    match &task.kind {
        Kind::CspPolicy => {
            let fresh = csp::read_answer(status, &body)?;
            let is_same = matches!(&state.content, Content::Csp { kept, .. } if *kept == fresh);
            Ok(if is_same { Fetched::Same } else { Fetched::New(fresh) })
        }
        Kind::Snippet => {
            if status != 200 {
                return Err(format!("HTTP status {status}"));
            }
            if body.len() > MAX_SNIPPET {
                return Err(format!("it is larger than {MAX_SNIPPET} bytes"));
            }
            let fresh = std::str::from_utf8(&body).map_err(|_| "it is not UTF-8".to_owned())?;
            let is_same = matches!(&state.content, Content::Snippet(known) if &**known == fresh);
            Ok(if is_same { Fetched::Same } else { Fetched::New(body) })
        }
        Kind::RemoteConfig(own) => {
            // The status is not examined (remote-config-and-telemetry.md § 3), but it says more than
            // that what came with it is no document.
            let document = Document::parse(&body).map_err(|unusable| match status {
                200 => unusable.to_string(),
                _ => format!("HTTP status {status}, and {unusable}"),
            })?;
            if document.id != own.id {
                return Err("it is for another id".to_owned());
            }
            if document.version < state.wanted {
                return Ok(Fetched::TooOld(document.version));
            }
            if document.version <= state.version() {
                return Ok(Fetched::Same);
            }
            policies_under(main, index, &document).map_err(|unusable| unusable.to_string())?;
            Ok(Fetched::New(body))
        }
    }
}

/// After a document was published: keeps it on disk, uses it, and tells HUMAN.
fn published(main: &MainConf, worker: &mut Worker, index: usize, task: &Task, content: &[u8]) {
    let Kind::RemoteConfig(own) = &task.kind else { return };
    if let Some(file) = task.file() {
        let secrets = Secrets::new(std::slice::from_ref(&own.token));
        let mut kept = secrets.sign(content).unwrap_or_default().into_bytes();
        kept.push(b'\n');
        kept.extend_from_slice(content);
        worker.background.order(Order::Keep { file, content: kept });
    }
    worker.background.use_documents(main);
    let of_task = main.enforcements.iter().filter(|own| own.tasks.remote_config == Some(index));
    let mut told: Vec<String> = Vec::new();
    for enforcement in of_task {
        let policy = enforcement.policy();
        let app_id = &policy.options().app_id;
        if !told.contains(app_id) {
            told.push(app_id.clone());
            send_telemetry(main, worker, enforcement, &policy, UpdateReason::RemoteConfig);
        }
    }
}

fn send_telemetry(
    main: &MainConf,
    worker: &mut Worker,
    enforcement: &Enforcement,
    policy: &Policy,
    reason: UpdateReason,
) {
    let body = telemetry::body(policy, reason, clock::now_ms(), None, worker.machine());
    let reporter: &mut Reporter = &mut worker.reporter;
    reporter.send_telemetry(main, &enforcement.destination, body);
}

/// Tells HUMAN of configurations that it has not been told of: when nginx starts, and when it reloads
/// another configuration. The first worker that comes here does it for all.
pub(crate) fn send_initial_telemetry(main: &MainConf, worker: &mut Worker) {
    let Some(shared) = main.shared.get() else { return };
    let mut told: Vec<usize> = Vec::new();
    for enforcement in main.enforcements.iter().filter(|own| own.tells_at_start) {
        let place = enforcement.app_place.get();
        if told.contains(&place) {
            continue;
        }
        told.push(place);
        let policy = enforcement.policy();
        let mut hasher = DefaultHasher::new();
        telemetry::fingerprint(&policy).hash(&mut hasher);
        if shared.is_untold(place, hasher.finish()) {
            send_telemetry(main, worker, enforcement, &policy, UpdateReason::InitialConfig);
        }
    }
}

/// One line about a fetch that failed, at most one a minute from all tasks together.
fn complain(main: &MainConf, task: &Task, reason: &str) {
    let Some(shared) = main.shared.get() else { return };
    let Some(held_back) = shared.background_log.admit(clock::steady_ms()) else { return };
    let more = log::held_back(held_back);
    let reason = log::one_line(reason, 300);
    let text =
        format!("px: {} could not be fetched: {reason}; what was known stays{more}", task.name());
    log::cycle_line(ERR, &text);
}
