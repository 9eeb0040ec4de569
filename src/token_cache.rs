//! `px_token_cache`: authenticated tokens in memory shared by all workers (DECISIONS 17).
//!
//! The table and what makes a hit strict is the core's; here are its memory, its lock and the hash.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{ptr, slice};

use foldhash::quality::FixedState;
use nginx_sys::{
    ngx_conf_t, ngx_http_request_t, ngx_shmtx_trylock, ngx_shmtx_unlock, ngx_slab_alloc,
    ngx_slab_pool_t,
};
use px_core::metrics;
use px_core::token_cache::{Header, Link, SLOT_BYTES, Slot, Table};
use px_core::token_memory::{Key, TokenMemory};

use crate::conf::Enforcement;
use crate::ffi;
use crate::zone::{Contents, Zone};

/// Tries to take the lock before a request does without the cache. It is held for less than a
/// microsecond; whoever finds it taken so often has met a stopped process.
const LOCK_TRIES: usize = 1000;

/// Smallest zone: a few hundred tokens.
pub(crate) const MIN_SIZE: usize = 512 * 1024;

/// What an operator may say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Off,
    /// Size in bytes.
    Zone {
        name: String,
        size: usize,
    },
}

impl Default for Setting {
    /// Room for some 5,000 tokens.
    fn default() -> Self {
        Self::Zone { name: "px_token_cache".to_owned(), size: 8 * 1024 * 1024 }
    }
}

/// A zone as a configuration knows it.
pub(crate) struct TokenCache(Zone<Shared>);

/// Makes the zones of all compiled configurations. Part of `postconfiguration`.
///
/// # Safety
///
/// `cf` must be at the end of the `http` block.
pub(crate) unsafe fn create_all(
    cf: *mut ngx_conf_t,
    enforcements: &[Rc<Enforcement>],
) -> Option<()> {
    let mut made: Vec<(&Setting, Rc<TokenCache>)> = Vec::new();
    for enforcement in enforcements {
        let setting = &enforcement.token_cache_setting;
        let Setting::Zone { name, size } = setting else { continue };
        let cache = match made.iter().find(|(other, _)| *other == setting) {
            Some((_, cache)) => Rc::clone(cache),
            None => {
                // SAFETY: as the caller's.
                let cache = Rc::new(unsafe { TokenCache::add(cf, name, *size) }?);
                made.push((setting, Rc::clone(&cache)));
                cache
            }
        };
        let _ = enforcement.token_cache.set(cache);
    }
    Some(())
}

/// The beginning of the zone's one allocation; buckets and slots follow.
#[repr(C)]
pub(crate) struct Shared {
    /// Keys the hash, so that nobody outside can choose a chain.
    seed: u64,
    bucket_count: usize,
    slot_count: usize,
    hits: AtomicU64,
    misses: AtomicU64,
    header: Header,
}

impl TokenCache {
    /// Asks nginx for the zone.
    ///
    /// # Safety
    ///
    /// As that of [`Zone::add`].
    pub(crate) unsafe fn add(cf: *mut ngx_conf_t, name: &str, size: usize) -> Option<Self> {
        // The name carries the layout.
        let name = format!("{name}:tokens2.{SLOT_BYTES}");
        // SAFETY: as the caller's.
        unsafe { Zone::add(cf, &name, size) }.map(Self)
    }

    /// The cache as one request uses it.
    pub(crate) fn for_request(&self, r: *mut ngx_http_request_t) -> RequestCache<'_> {
        RequestCache { zone: &self.0, r, lookup: None }
    }

    /// What has become of it, for the status page. `None` before the zone is made.
    pub(crate) fn snapshot<'n>(&self, zone: &'n str) -> Option<metrics::TokenCache<'n>> {
        // No request is asked for anything but its pool, and that only where an entry is found.
        let cache = self.for_request(ptr::null_mut());
        let shared = cache.shared()?;
        Some(metrics::TokenCache {
            zone,
            hits: shared.hits.load(Ordering::Relaxed),
            misses: shared.misses.load(Ordering::Relaxed),
            capacity: shared.slot_count as u64,
            entries: cache.locked(|table| table.len() as u64),
        })
    }
}

/// What became of a request's look into the cache.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The token was known.
    Hit,
    Miss,
}

impl Lookup {
    /// As `$px_token_cache` says it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
        }
    }
}

/// The cache, with the pool that what is found lives in.
pub(crate) struct RequestCache<'c> {
    zone: &'c Zone<Shared>,
    r: *mut ngx_http_request_t,
    lookup: Option<Lookup>,
}

impl TokenMemory<'static> for RequestCache<'_> {
    fn find(&mut self, key: &Key<'_>) -> Option<&'static [u8]> {
        let shared = self.shared()?;
        let parts = key.parts();
        let hash = hash(shared, &parts);
        // Copied out under the lock, to where it costs nothing; the pool may have to ask the
        // system for memory, which nobody must wait for.
        let mut copy = [0; SLOT_BYTES];
        let len = self.locked(|table| {
            let entry = table.find(hash, &parts)?;
            copy.get_mut(..entry.len())?.copy_from_slice(entry);
            Some(entry.len())
        });
        let Some(entry) = len.flatten().and_then(|len| copy.get(..len)) else {
            shared.misses.fetch_add(1, Ordering::Relaxed);
            self.lookup.get_or_insert(Lookup::Miss);
            return None;
        };
        shared.hits.fetch_add(1, Ordering::Relaxed);
        self.lookup = Some(Lookup::Hit);
        // SAFETY: the request is live while its verdict is being made.
        let pool = unsafe { (*self.r).pool };
        // SAFETY: live pool.
        let kept = unsafe { ffi::copy_to_pool(pool, entry) }?;
        // SAFETY: lives as long as the request's pool, as everything a verdict borrows.
        Some(unsafe { ffi::bytes(kept) })
    }

    fn store(&mut self, key: &Key<'_>, entry: &[&[u8]]) {
        // What was found, if anything, was no use: it belonged to another browser.
        self.lookup = Some(Lookup::Miss);
        let Some(shared) = self.shared() else { return };
        let parts = key.parts();
        let hash = hash(shared, &parts);
        self.locked(|table| table.store(hash, &parts, entry));
    }
}

impl<'c> RequestCache<'c> {
    /// What became of the look into the cache, if there was one.
    pub(crate) fn lookup(&self) -> Option<Lookup> {
        self.lookup
    }

    /// What is not atomic in it is changed under the lock only.
    fn shared(&self) -> Option<&'c Shared> {
        self.zone.get()
    }

    /// Runs `f` on the table under its lock; `None` if the lock cannot be had at once. `f` must
    /// not panic: other workers would find the lock taken.
    fn locked<T>(&self, f: impl FnOnce(&mut Table<'_>) -> T) -> Option<T> {
        let mutex = self.zone.mutex();
        let mut taken = false;
        for _ in 0..LOCK_TRIES {
            // SAFETY: a configuration that has a cache has its zone, and the zone a mutex.
            taken = unsafe { ngx_shmtx_trylock(mutex) } != 0;
            if taken {
                break;
            }
            std::hint::spin_loop();
        }
        if !taken {
            return None;
        }
        // SAFETY: the lock is held: nobody else uses the table.
        let result = f(&mut unsafe { table(self.zone.data()) });
        // SAFETY: taken above.
        unsafe { ngx_shmtx_unlock(mutex) };
        Some(result)
    }
}

fn hash(shared: &Shared, parts: &[&[u8]]) -> u64 {
    let mut hasher = FixedState::with_seed(shared.seed).build_hasher();
    for part in parts {
        hasher.write(part);
    }
    hasher.finish()
}

/// # Safety
///
/// `shared` must be the beginning of a zone that was laid out as [`Contents`], and its lock be held for as
/// long as the result is used.
unsafe fn table<'a>(shared: *mut Shared) -> Table<'a> {
    // SAFETY: written once when the zone was made.
    let (bucket_count, slot_count) = unsafe { ((*shared).bucket_count, (*shared).slot_count) };
    // SAFETY: one past the fixed part, inside the allocation.
    let buckets = unsafe { shared.add(1) }.cast::<Link>();
    // SAFETY: the buckets, an even number, end where the slots begin, aligned for them.
    let slots = unsafe { buckets.add(bucket_count) }.cast::<Slot>();
    // SAFETY: the three parts do not overlap; all zero, or anything, is valid for them.
    unsafe {
        Table {
            header: &mut (*shared).header,
            buckets: slice::from_raw_parts_mut(buckets, bucket_count),
            slots: slice::from_raw_parts_mut(slots, slot_count),
        }
    }
}

impl Contents for Shared {
    const WHAT: &'static str = "the token cache's zone";

    /// As many slots as there is room for: the pool's own bookkeeping takes a part that only it knows.
    unsafe fn lay_out(pool: *mut ngx_slab_pool_t, size: usize) -> Option<*mut Self> {
        // SAFETY: the caller passes a live pool.
        unsafe { (*pool).set_log_nomem(0) };
        let per_slot = size_of::<Slot>() + size_of::<Link>();
        let mut slot_count = (size / per_slot) & !1;
        let shared = loop {
            let wanted = size_of::<Self>() + slot_count * per_slot;
            // SAFETY: as above.
            let memory = unsafe { ngx_slab_alloc(pool, wanted) };
            if !memory.is_null() {
                // SAFETY: a fresh block of that size.
                unsafe { ptr::write_bytes(memory.cast::<u8>(), 0, wanted) };
                break memory.cast::<Self>();
            }
            slot_count = slot_count.saturating_sub(2 + slot_count / 100) & !1;
            if slot_count == 0 {
                return None;
            }
        };
        // SAFETY: just allocated and zeroed, large and aligned enough.
        let fixed = unsafe { &mut *shared };
        fixed.seed = RandomState::new().hash_one(shared.addr());
        fixed.bucket_count = slot_count;
        fixed.slot_count = slot_count;
        Some(shared)
    }
}
