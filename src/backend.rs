//! Where HUMAN's backends are: addresses as last resolved.
//!
//! A name is never resolved by nginx itself: at configuration time that would stop the start when
//! DNS is down, and it would never be repeated. The resolver thread keeps [`Backend::addresses`]
//! fresh instead (DECISIONS 21).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

/// The addresses of one host and port, shared between the resolver thread and the event loop.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) host: String,
    pub(crate) port: u16,
    addresses: Mutex<Arc<[SocketAddr]>>,
}

impl Backend {
    /// An address literal is known at once; a name has no address until it is resolved.
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let known: Vec<SocketAddr> =
            host.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)).into_iter().collect();
        Self { host: host.to_owned(), port, addresses: Mutex::new(known.into()) }
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
