//! What the background tasks have fetched, in memory that all workers share, and who of them fetches.
//!
//! Nobody ever waits here, and a worker that is killed leaves nothing locked. Each document has two
//! rooms: the poller writes into the one that nobody reads, then says so by the document's number,
//! whose parity tells the room. Who reads checks the number again afterwards.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use nginx_sys::{ngx_conf_t, ngx_slab_alloc, ngx_slab_pool_t};
use px_core::remote_config::MAX_DOCUMENT;

use crate::zone::{Contents, Zone};

/// Documents that there is room for: more tasks than that are a configuration error.
pub(crate) const PLACES: usize = 16;
/// Largest document, in bytes.
pub(crate) const ROOM: usize = MAX_DOCUMENT;
/// For nginx's own book-keeping beside the documents.
const OVERHEAD: usize = 512 * 1024;

/// A poller that has not been heard of for so long, ms, is thought to hang.
const STALE_MS: u64 = 10_000;

#[repr(C)]
pub(crate) struct Documents {
    poller: Poller,
    places: [Place; PLACES],
}

/// The one worker that fetches.
#[repr(C)]
struct Poller {
    /// Process id; 0 while there is none.
    pid: AtomicU64,
    /// Number of the configuration it runs under.
    configuration: AtomicU64,
    /// When it was last heard of, by the steady clock.
    heard: AtomicU64,
}

/// One task's document.
#[repr(C)]
pub(crate) struct Place {
    /// Of the task; 0 while free.
    key: AtomicU64,
    /// Number of the document; 0: none yet.
    number: AtomicU64,
    /// When it was last fetched or found unchanged, by the steady clock.
    fetched: AtomicU64,
    /// Messages that it has changed, and the highest version they spoke of.
    notices: AtomicU64,
    wanted: AtomicU64,
    lengths: [AtomicU64; 2],
    rooms: [[u8; ROOM]; 2],
}

impl Documents {
    /// Whether this worker is to fetch: it does already, or nobody of this configuration or a later
    /// one does, or who did is dead or hangs.
    pub(crate) fn lead(&self, configuration: u64, now_ms: u64) -> bool {
        let own = u64::from(std::process::id());
        let poller = &self.poller;
        let leader = poller.pid.load(Ordering::Acquire);
        if leader != own {
            let of = poller.configuration.load(Ordering::Relaxed);
            let is_stale = now_ms.abs_diff(poller.heard.load(Ordering::Relaxed)) > STALE_MS;
            let is_gone = leader == 0 || !crate::shared_zone::is_alive(leader);
            let is_replaceable = is_gone || of < configuration || (of == configuration && is_stale);
            let swapped =
                |own| poller.pid.compare_exchange(leader, own, Ordering::AcqRel, Ordering::Relaxed);
            if !is_replaceable || swapped(own).is_err() {
                return false;
            }
            poller.configuration.store(configuration, Ordering::Relaxed);
        }
        poller.heard.store(now_ms, Ordering::Relaxed);
        true
    }

    /// This worker fetches no longer.
    pub(crate) fn resign(&self) {
        let own = u64::from(std::process::id());
        let _ = self.poller.pid.compare_exchange(own, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Gives each key its place, from now on; what was kept under keys that are no longer used is
    /// forgotten. By the master only, before it makes workers.
    pub(crate) fn assign(&self, keys: &[u64]) {
        for key in keys {
            if self.place_of(*key).is_some() {
                continue;
            }
            let is_free = |place: &&Place| {
                let holder = place.key.load(Ordering::Relaxed);
                holder == 0 || !keys.contains(&holder)
            };
            let Some(place) = self.places.iter().find(is_free) else { return };
            // Old workers see that it is theirs no longer.
            place.key.store(0, Ordering::Release);
            for counter in [&place.number, &place.fetched, &place.notices, &place.wanted] {
                counter.store(0, Ordering::Relaxed);
            }
            place.key.store(*key, Ordering::Release);
        }
    }

    pub(crate) fn place_of(&self, key: u64) -> Option<&Place> {
        self.places.iter().find(|place| place.key.load(Ordering::Acquire) == key)
    }
}

impl Place {
    /// Number of the document here; 0: there is none.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// When it was last known to be good, by the steady clock.
    pub(crate) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    pub(crate) fn set_fetched(&self, now_ms: u64) {
        self.fetched.store(now_ms, Ordering::Relaxed);
    }

    /// Somebody says that there is a new version, at least this one.
    pub(crate) fn notify(&self, version: u64) {
        self.wanted.fetch_max(version, Ordering::Relaxed);
        self.notices.fetch_add(1, Ordering::Release);
    }

    /// How often somebody said so, and the version wanted.
    pub(crate) fn notices(&self) -> (u64, u64) {
        let notices = self.notices.load(Ordering::Acquire);
        (notices, self.wanted.load(Ordering::Relaxed))
    }

    /// Puts a document here. By the poller, or the master before there is one. False: it has no room.
    pub(crate) fn publish(&self, document: &[u8]) -> bool {
        let next = self.number.load(Ordering::Relaxed) + 1;
        let [even, odd] = &self.rooms;
        let (room, length) = match next % 2 {
            0 => (even, self.lengths.first()),
            _ => (odd, self.lengths.last()),
        };
        let (Some(length), true) = (length, document.len() <= ROOM) else { return false };
        // SAFETY: shared memory of that size. Readers of this room will find that the number has
        // changed and throw away what they read; the pollers exclude each other.
        unsafe {
            ptr::copy_nonoverlapping(document.as_ptr(), room.as_ptr().cast_mut(), document.len());
        }
        length.store(document.len() as u64, Ordering::Relaxed);
        self.number.store(next, Ordering::Release);
        true
    }

    /// The document and its number; `None` if there is none, or it is just being replaced twice.
    pub(crate) fn read(&self) -> Option<(u64, Vec<u8>)> {
        let number = self.number();
        if number == 0 {
            return None;
        }
        let [even, odd] = &self.rooms;
        let (room, length) = match number % 2 {
            0 => (even, self.lengths.first()),
            _ => (odd, self.lengths.last()),
        };
        let length = usize::try_from(length?.load(Ordering::Relaxed)).ok()?.min(ROOM);
        let mut document = vec![0; length];
        // SAFETY: shared memory of that size; what is read while it changes is thrown away below.
        unsafe { ptr::copy_nonoverlapping(room.as_ptr(), document.as_mut_ptr(), length) };
        fence(Ordering::Acquire);
        (self.number.load(Ordering::Relaxed) == number).then_some((number, document))
    }
}

/// The zone of the documents; `None` of it where nothing is fetched.
pub(crate) type DocumentsZone = Zone<Documents>;

/// Asks nginx for the zone. Its name carries the layout of [`Documents`].
///
/// # Safety
///
/// As that of [`Zone::add`].
pub(crate) unsafe fn add(cf: *mut ngx_conf_t) -> Option<DocumentsZone> {
    let name = format!("px_documents_1.{}", size_of::<Documents>());
    // SAFETY: as the caller's.
    unsafe { Zone::add(cf, &name, size_of::<Documents>() + OVERHEAD) }
}

impl Contents for Documents {
    const WHAT: &'static str = "the documents' zone";

    unsafe fn lay_out(pool: *mut ngx_slab_pool_t, _size: usize) -> Option<*mut Self> {
        // Not zeroed: that would make all of it resident. Fresh memory is zero already, and the
        // counters are set below whatever it is.
        // SAFETY: the caller passes a live pool.
        let documents = unsafe { ngx_slab_alloc(pool, size_of::<Self>()) }.cast::<Self>();
        // SAFETY: null, or just allocated; plain numbers and bytes, for which anything is valid.
        let fresh = unsafe { documents.as_ref() }?;
        let poller = &fresh.poller;
        for counter in [&poller.pid, &poller.configuration, &poller.heard] {
            counter.store(0, Ordering::Relaxed);
        }
        for place in &fresh.places {
            for counter in
                [&place.key, &place.number, &place.fetched, &place.notices, &place.wanted]
            {
                counter.store(0, Ordering::Relaxed);
            }
        }
        Some(documents)
    }
}
