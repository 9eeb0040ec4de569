//! The thread that keeps the backends' addresses fresh through the system's resolver.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::thread;

/// Addresses are looked up again this often; the system's resolver knows the records' lifetimes
/// but does not tell them.
const REFRESH: Duration = Duration::from_secs(30);
/// As above, while nobody answers there.
const DOUBTED: Duration = Duration::from_secs(2);
/// A name that could not be resolved is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

/// The running thread; ends when dropped, without being waited for: it may be inside a lookup.
pub(crate) struct Resolver {
    thread: Option<(JoinHandle<()>, Arc<AtomicBool>)>,
}

impl Resolver {
    /// Starts the thread if any backend is known by name, and gives it `patience` to find addresses.
    pub(crate) fn start(backends: Vec<Arc<Backend>>, patience: Duration) -> io::Result<Self> {
        let named = backends.into_iter().filter(|backend| !backend.is_literal());
        let mut names: Vec<Name> = named.map(Name::new).collect();
        if names.is_empty() {
            return Ok(Self { thread: None });
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let (first, first_done) = mpsc::sync_channel::<()>(1);
        let told = Arc::clone(&is_over);
        let body = move || {
            let mut first = Some(first);
            while !told.load(Ordering::Relaxed) {
                names.iter_mut().for_each(Name::refresh);
                drop(first.take());
                let due = names.iter().map(Name::due).min();
                let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
                std::thread::park_timeout(wait.unwrap_or(REFRESH));
            }
        };
        let thread = thread::spawn_behind("px resolver", body)?;
        let _ = first_done.recv_timeout(patience);
        Ok(Self { thread: Some((thread, is_over)) })
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if let Some((thread, is_over)) = &self.thread {
            is_over.store(true, Ordering::Relaxed);
            thread.thread().unpark();
        }
    }
}

/// A backend's name.
struct Name {
    backend: Arc<Backend>,
    /// When it was looked up, and whether it was found; `None` before the first time.
    last: Option<(Instant, bool)>,
}

impl Name {
    fn new(backend: Arc<Backend>) -> Self {
        Self { backend, last: None }
    }

    /// When it is to be looked up again.
    fn due(&self) -> Instant {
        let Some((looked, found)) = self.last else { return Instant::now() };
        looked
            + match found {
                false => RETRY,
                true if self.backend.is_doubted() => DOUBTED,
                true => REFRESH,
            }
    }

    fn refresh(&mut self) {
        if self.due() > Instant::now() {
            return;
        }
        self.backend.looks();
        let found = catch_unwind(AssertUnwindSafe(|| look_up(&self.backend))).unwrap_or(false);
        self.last = Some((Instant::now(), found));
    }
}

/// Resolves one name; whether it was found. What was known stays until there is better.
fn look_up(backend: &Backend) -> bool {
    let Ok(found) = (backend.host.as_str(), backend.port).to_socket_addrs() else { return false };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return false;
    }
    backend.set_addresses(addresses);
    true
}
