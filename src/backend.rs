//! Where HUMAN's backends are: addresses as last resolved.
//!
//! A name is never resolved by nginx itself: at configuration time that would stop the start when
//! DNS is down, and it would never be repeated. The resolver thread keeps [`Backend::addresses`]
//! fresh instead (DECISIONS 21).

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;

/// The addresses of one host and port, shared between the resolver thread and the event loop.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) host: String,
    pub(crate) port: u16,
    addresses: Mutex<Arc<[SocketAddr]>>,
    /// Nobody answers there: the host may have moved.
    is_doubted: AtomicBool,
    /// The thread that resolves the name, once it runs.
    resolver: OnceLock<Thread>,
}

impl Backend {
    /// An address literal is known at once; a name has no address until it is resolved.
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let known: Vec<SocketAddr> =
            host.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)).into_iter().collect();
        Self {
            host: host.to_owned(),
            port,
            addresses: Mutex::new(known.into()),
            is_doubted: AtomicBool::new(false),
            resolver: OnceLock::new(),
        }
    }

    /// True for an address literal, which never changes.
    pub(crate) fn is_literal(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// The addresses as last resolved. The lock guards a pointer copy only and is never held while
    /// anything waits; should the other thread have been stopped inside it, `None`, not a wait.
    pub(crate) fn addresses(&self) -> Option<Arc<[SocketAddr]>> {
        self.addresses.try_lock().ok().map(|addresses| Arc::clone(&addresses))
    }

    /// Nobody answered at an address: the name is soon resolved again. Never waits.
    pub(crate) fn doubt(&self) {
        if let Some(resolver) = self.resolver.get()
            && !self.is_doubted.swap(true, Ordering::Relaxed)
        {
            resolver.unpark();
        }
    }

    pub(crate) fn is_doubted(&self) -> bool {
        self.is_doubted.load(Ordering::Relaxed)
    }

    /// The resolver thread is about to look; it is told of doubts from now on.
    pub(crate) fn looks(&self) {
        self.is_doubted.store(false, Ordering::Relaxed);
        self.resolver.get_or_init(std::thread::current);
    }

    /// Replaces the addresses. Called by the resolver thread.
    pub(crate) fn set_addresses(&self, fresh: Vec<SocketAddr>) {
        let fresh: Arc<[SocketAddr]> = fresh.into();
        let mut addresses =
            self.addresses.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let old = std::mem::replace(&mut *addresses, fresh);
        drop(addresses);
        drop(old);
    }
}
