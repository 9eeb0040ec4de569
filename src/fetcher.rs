//! The fetcher thread: asks HUMAN's services for what the background tasks want, one after another.
//!
//! Born in the worker that polls when it has something to fetch first. It owns its data, never touches
//! nginx memory, and is not waited for when the worker ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::time::Duration;
use std::{fs, io};

use px_core::policy::Secret;

use crate::conf::TlsSettings;
use crate::documents::ROOM;
use crate::poster::Agents;
use crate::sender::Proxy;
use crate::thread;

/// Orders that may wait; the tasks are fewer.
const ORDERS: usize = 64;

/// One GET, the same each time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) url: String,
    /// `Authorization`, never logged.
    pub(crate) authorization: Secret,
    pub(crate) timeout_ms: u64,
    pub(crate) tls: TlsSettings,
    pub(crate) proxy: Option<Proxy>,
}

/// What the thread is to do.
pub(crate) enum Order {
    Fetch {
        task: usize,
        source: Arc<Source>,
    },
    /// Replaces a file, readable by its owner alone.
    Keep {
        file: PathBuf,
        content: Vec<u8>,
    },
}

/// What came of an order.
pub(crate) enum Outcome {
    Fetched { task: usize, answer: Result<(u16, Vec<u8>), String> },
    NotKept { file: PathBuf, reason: String },
}

/// The event loop's end.
pub(crate) struct Fetcher {
    orders: SyncSender<Order>,
    outcomes: Receiver<Outcome>,
}

impl Fetcher {
    pub(crate) fn start() -> io::Result<Self> {
        let (orders, to_do) = mpsc::sync_channel::<Order>(ORDERS);
        let (done, outcomes) = mpsc::sync_channel::<Outcome>(ORDERS * 2);
        thread::spawn_behind("px fetcher", move || {
            let mut agents = Agents::default();
            while let Ok(order) = to_do.recv() {
                let outcome = match order {
                    Order::Fetch { task, source } => {
                        let answer = catch_unwind(AssertUnwindSafe(|| fetch(&mut agents, &source)));
                        let answer = answer.unwrap_or_else(|_| {
                            Err(format!("the thread panicked: {}", crate::ffi::last_panic()))
                        });
                        Some(Outcome::Fetched { task, answer })
                    }
                    Order::Keep { file, content } => keep(&file, &content)
                        .err()
                        .map(|err| Outcome::NotKept { file, reason: err.to_string() }),
                };
                if outcome.is_some_and(|outcome| done.send(outcome).is_err()) {
                    return;
                }
            }
        })?;
        Ok(Self { orders, outcomes })
    }

    /// False if it has too much to do.
    pub(crate) fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }

    /// The next outcome, if there is one; an error if the thread is gone.
    pub(crate) fn outcome(&self) -> Result<Option<Outcome>, ()> {
        match self.outcomes.try_recv() {
            Ok(outcome) => Ok(Some(outcome)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(()),
        }
    }
}

fn fetch(agents: &mut Agents, source: &Source) -> Result<(u16, Vec<u8>), String> {
    let agent = agents.of(&source.tls, source.proxy.as_ref())?;
    let mut response = agent
        .get(&source.url)
        .config()
        .timeout_global(Some(Duration::from_millis(source.timeout_ms)))
        .build()
        .header("accept", "application/json")
        .header("authorization", source.authorization.expose())
        .call()
        .map_err(|err| err.to_string())?;
    let status = response.status().as_u16();
    // What is larger has no room, and what is just so large is found to be too large.
    let limit = u64::try_from(ROOM).unwrap_or(u64::MAX) + 1;
    let body = response.body_mut().with_config().limit(limit).read_to_vec();
    Ok((status, body.map_err(|err| err.to_string())?))
}

/// Replaces the file as a whole: whoever reads it sees the old or the new content.
fn keep(file: &PathBuf, content: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let fresh = file.with_extension(format!("{}.new", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = (|| {
        let mut out = options.open(&fresh)?;
        out.write_all(content)?;
        out.sync_all()?;
        fs::rename(&fresh, file)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}
