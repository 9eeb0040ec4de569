//! The sender thread: posts batches of activities, and telemetry, to HUMAN's collector.
//!
//! One per worker, fed by a bounded queue that never makes the event loop wait: what does not fit
//! is dropped and counted (DECISIONS 22, activities.md §§ 2, 6, 7).

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;
use std::{fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::conf::TlsSettings;
use crate::thread;

/// Batches that may wait for the thread.
const QUEUE: usize = 512;

/// Where one configuration's reports go, and how.
#[derive(PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) activities_url: String,
    pub(crate) telemetry_url: String,
    /// `Bearer …`, never logged.
    pub(crate) authorization: String,
    /// 1..=9, or `None` for uncompressed bodies.
    pub(crate) gzip_level: Option<u32>,
    pub(crate) batch_size: usize,
    pub(crate) batch_interval_ms: u64,
    pub(crate) timeout_ms: u64,
    pub(crate) tls: TlsSettings,
}

/// One POST.
pub(crate) struct Job {
    pub(crate) destination: Arc<Destination>,
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
    /// Activities in the body; 0 for telemetry.
    pub(crate) count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Activities,
    Telemetry,
}

/// What the thread tells the event loop.
#[derive(Default)]
pub(crate) struct Tally {
    /// Activities the collector has accepted.
    pub(crate) sent: AtomicU64,
    /// Activities that could not be delivered.
    pub(crate) failed: AtomicU64,
    closing: AtomicBool,
    last_error: std::sync::Mutex<String>,
}

impl Tally {
    /// Why the last delivery failed; empty if the thread is just writing it.
    pub(crate) fn last_error(&self) -> String {
        self.last_error.try_lock().map(|text| text.clone()).unwrap_or_default()
    }
}

/// The event loop's end of the queue.
pub(crate) struct Sender {
    queue: Option<SyncSender<Job>>,
    done: Receiver<()>,
    pub(crate) tally: Arc<Tally>,
}

impl Sender {
    pub(crate) fn start() -> io::Result<Self> {
        let (queue, jobs) = mpsc::sync_channel(QUEUE);
        let (done_sender, done) = mpsc::sync_channel(1);
        let tally = Arc::new(Tally::default());
        let thread_tally = Arc::clone(&tally);
        thread::spawn("px sender", move || {
            run(&jobs, &thread_tally);
            let _ = done_sender.send(());
        })?;
        Ok(Self { queue: Some(queue), done, tally })
    }

    /// Hands over one POST. Gives back the number of activities lost if the queue is full.
    pub(crate) fn offer(&self, job: Job) -> Result<(), u64> {
        let Some(queue) = &self.queue else { return Err(job.count) };
        queue.try_send(job).map_err(|err| match err {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job.count,
        })
    }

    /// Lets the thread deliver what waits, for at most `limit`, and ends it.
    pub(crate) fn close(mut self, limit: Duration) {
        self.tally.closing.store(true, Ordering::Relaxed);
        drop(self.queue.take());
        let _ = self.done.recv_timeout(limit);
    }
}

fn run(jobs: &Receiver<Job>, tally: &Tally) {
    let mut agents = Agents::default();
    while let Ok(job) = jobs.recv() {
        let delivered = catch_unwind(AssertUnwindSafe(|| deliver(&mut agents, &job, tally)));
        let error = match delivered {
            Ok(Ok(())) => {
                tally.sent.fetch_add(job.count, Ordering::Relaxed);
                continue;
            }
            Ok(Err(error)) => error,
            Err(_) => format!("the sender thread panicked: {}", crate::ffi::last_panic()),
        };
        *tally.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = error;
        tally.failed.fetch_add(job.count, Ordering::Relaxed);
    }
}

/// Posts with one retry; a connection that the other side closed while idle is no failure.
fn deliver(agents: &mut Agents, job: &Job, tally: &Tally) -> Result<(), String> {
    let compressed = match (job.kind, job.destination.gzip_level) {
        // If compression fails, the body goes as it is.
        (Kind::Activities, Some(level)) => gzip(&job.body, level).ok(),
        _ => None,
    };
    let agent = agents.for_destination(&job.destination)?;
    let first = post(agent, job, compressed.as_deref());
    if first.is_ok() || tally.closing.load(Ordering::Relaxed) {
        return first;
    }
    post(agent, job, compressed.as_deref())
}

fn gzip(body: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::new(level));
    encoder.write_all(body)?;
    encoder.finish()
}

fn post(agent: &Agent, job: &Job, compressed: Option<&[u8]>) -> Result<(), String> {
    let destination = &job.destination;
    let url = match job.kind {
        Kind::Activities => &destination.activities_url,
        Kind::Telemetry => &destination.telemetry_url,
    };
    let mut request = agent
        .post(url)
        .config()
        .timeout_global(Some(Duration::from_millis(destination.timeout_ms)))
        .build()
        .header("content-type", "application/json")
        .header("authorization", &destination.authorization);
    if compressed.is_some() {
        request = request.header("content-encoding", "gzip");
    }
    let mut response =
        request.send(compressed.unwrap_or(&job.body)).map_err(|err| err.to_string())?;
    let status = response.status().as_u16();
    // Read to its end, within reason, or the connection cannot be used again.
    let _ = response.body_mut().with_config().limit(64 * 1024).read_to_vec();
    if status == 200 { Ok(()) } else { Err(format!("HTTP status {status}")) }
}

/// One agent, with its idle connections, for each way of verifying certificates.
#[derive(Default)]
struct Agents(Vec<(TlsSettings, Agent)>);

impl Agents {
    fn for_destination(&mut self, destination: &Destination) -> Result<&Agent, String> {
        let at = match self.0.iter().position(|(tls, _)| *tls == destination.tls) {
            Some(at) => at,
            None => {
                self.0.push((destination.tls.clone(), agent(&destination.tls)?));
                self.0.len() - 1
            }
        };
        self.0.get(at).map(|(_, agent)| agent).ok_or_else(String::new)
    }
}

fn agent(tls: &TlsSettings) -> Result<Agent, String> {
    let mut tls_config = TlsConfig::builder();
    if !tls.verify {
        tls_config = tls_config.disable_verification(true);
    } else if let Some(file) = &tls.trusted_certificate {
        let pem = fs::read(file).map_err(|err| format!("cannot read \"{file}\": {err}"))?;
        let roots: Vec<Certificate<'static>> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        tls_config = tls_config.root_certs(RootCerts::new_with_certs(&roots));
    }
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent("")
        // The environment of a server says nothing about how to reach HUMAN.
        .proxy(None)
        .tls_config(tls_config.build())
        .build();
    Ok(Agent::new_with_config(config))
}
