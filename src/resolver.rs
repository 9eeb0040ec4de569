//! The thread that keeps the backends' addresses fresh through the system's resolver.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::thread;

/// Addresses are looked up again this often; the system's resolver knows the records' lifetimes
/// but does not tell them.
const REFRESH: Duration = Duration::from_secs(30);
/// A name that could not be resolved is tried again this often.
const RETRY: Duration = Duration::from_secs(1);
/// The running thread; ends when dropped, without being waited for: it may be inside a lookup.
pub(crate) struct Resolver {
    _stop: Option<SyncSender<()>>,
}

impl Resolver {
    /// Starts the thread if any backend is known by name, and gives it `patience` to find addresses.
    pub(crate) fn start(backends: Vec<Arc<Backend>>, patience: Duration) -> io::Result<Self> {
        let named: Vec<_> = backends.into_iter().filter(|b| !b.is_literal()).collect();
        if named.is_empty() {
            return Ok(Self { _stop: None });
        }
        let (stop, stopped) = mpsc::sync_channel::<()>(0);
        let (first, first_done) = mpsc::sync_channel::<()>(1);
        let body = move || {
            let mut first = Some(first);
            loop {
                let began = Instant::now();
                let look = || named.iter().map(|backend| look_up(backend)).min();
                let wait = catch_unwind(AssertUnwindSafe(look)).ok().flatten().unwrap_or(RETRY);
                drop(first.take());
                let wait = wait.saturating_sub(began.elapsed()).max(RETRY);
                match stopped.recv_timeout(wait) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        thread::spawn("px resolver", body)?;
        let _ = first_done.recv_timeout(patience);
        Ok(Self { _stop: Some(stop) })
    }
}

/// Resolves one name; says when to look again. What was known stays until there is better.
fn look_up(backend: &Backend) -> Duration {
    match (backend.host.as_str(), backend.port).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for address in found {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            if addresses.is_empty() {
                return RETRY;
            }
            backend.set_addresses(addresses);
            REFRESH
        }
        Err(_) => RETRY,
    }
}
