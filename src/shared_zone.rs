//! Counters and log limits shared by all workers.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use nginx_sys::{
    ngx_conf_t, ngx_int_t, ngx_shared_memory_add, ngx_shm_zone_t, ngx_slab_calloc, ngx_slab_pool_t,
};

use px_core::breaker::Breaker;

use crate::ffi::{self, ERROR, OK};

const SIZE: usize = 64 * 1024;
/// A line about a failing backend is written at most this often, by all workers together.
const QUIET_MS: u64 = 60_000;

/// What lies in shared memory. All zero at first.
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) passed: AtomicU64,
    pub(crate) blocked: AtomicU64,
    pub(crate) simulated_blocks: AtomicU64,
    pub(crate) filtered: AtomicU64,
    pub(crate) risk_calls: AtomicU64,
    pub(crate) risk_failures: AtomicU64,
    pub(crate) activities_offered: AtomicU64,
    pub(crate) activities_sent: AtomicU64,
    pub(crate) activities_lost: AtomicU64,
    /// Written to the spool, and accepted by the collector from it. The latter count as sent too.
    pub(crate) activities_spooled: AtomicU64,
    pub(crate) activities_unspooled: AtomicU64,
    pub(crate) risk_log: Limit,
    pub(crate) activities_log: Limit,
    pub(crate) spool_log: Limit,
    breakers: [BackendBreaker; BREAKERS],
}

/// Backends that can have a circuit breaker; further ones are always called.
const BREAKERS: usize = 64;

/// The breaker of one backend, whose place outlives the configuration that named it.
#[repr(C)]
struct BackendBreaker {
    /// [`Slot::id`](crate::upstream::Slot::id) of the backend; 0 while free.
    id: AtomicU64,
    breaker: Breaker,
}

impl Shared {
    /// The circuit breaker of the backend `id`, shared by all workers.
    pub(crate) fn breaker(&self, id: u64) -> Option<&Breaker> {
        self.breakers.iter().find_map(|place| {
            let found = match place.id.load(Ordering::Relaxed) {
                0 => place.id.compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed),
                taken => Ok(taken),
            };
            (found == Ok(id) || found == Ok(0) || found == Err(id)).then_some(&place.breaker)
        })
    }
}

/// Lets one line through in a while and counts the others.
#[repr(C)]
pub(crate) struct Limit {
    /// Time of the last line, milliseconds; 0 before the first.
    last: AtomicU64,
    held_back: AtomicU64,
}

impl Limit {
    /// `Some(lines held back since the last one)` if a line may be written now.
    pub(crate) fn admit(&self, now_ms: u64) -> Option<u64> {
        let last = self.last.load(Ordering::Relaxed);
        let due = last == 0 || now_ms.abs_diff(last) >= QUIET_MS;
        if due
            && self
                .last
                .compare_exchange(last, now_ms.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// True while lines are being held back.
    pub(crate) fn is_quiet(&self, now_ms: u64) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last != 0 && now_ms.abs_diff(last) < QUIET_MS
    }
}

/// The zone as a configuration knows it; its memory exists once workers run.
pub(crate) struct SharedZone(*mut ngx_shm_zone_t);

impl Default for SharedZone {
    fn default() -> Self {
        Self(ptr::null_mut())
    }
}

impl SharedZone {
    /// Asks nginx for the zone. Its name carries the layout of [`Shared`]: a new one is a new zone.
    ///
    /// # Safety
    ///
    /// `cf` must be the configuration state nginx passed to the calling callback.
    pub(crate) unsafe fn add(&mut self, cf: *mut ngx_conf_t) -> Result<(), ()> {
        let mut name = ffi::str_of("px_shared_3");
        let tag = (&raw mut crate::ngx_http_px_module).cast::<c_void>();
        // SAFETY: all pointers are live; the name is static.
        let zone = unsafe { ngx_shared_memory_add(cf, &raw mut name, SIZE, tag) };
        // SAFETY: null or the zone just added.
        let found = unsafe { zone.as_mut() }.ok_or(())?;
        found.init = Some(init_zone);
        self.0 = zone;
        Ok(())
    }

    /// The shared memory; `None` where no location is enforced.
    pub(crate) fn get(&self) -> Option<&Shared> {
        // SAFETY: null or the zone of this configuration, live as long as its cycle.
        let zone = unsafe { self.0.as_ref() }?;
        // SAFETY: init_zone set `data`; shared memory outlives the configuration that uses it.
        unsafe { zone.data.cast::<Shared>().as_ref() }
    }
}

unsafe extern "C" fn init_zone(zone: *mut ngx_shm_zone_t, data: *mut c_void) -> ngx_int_t {
    ffi::guard(
        "shared zone",
        || ERROR,
        || {
            // SAFETY: nginx passes the zone it initialises.
            let zone = unsafe { &mut *zone };
            if !data.is_null() {
                // Reload: go on counting.
                zone.data = data;
                return OK;
            }
            let pool = zone.shm.addr.cast::<ngx_slab_pool_t>();
            if zone.shm.exists != 0 {
                // SAFETY: nginx laid a slab pool into the zone.
                zone.data = unsafe { (*pool).data };
                return OK;
            }
            // SAFETY: as above.
            let shared = unsafe { ngx_slab_calloc(pool, size_of::<Shared>()) };
            if shared.is_null() {
                return ERROR;
            }
            // SAFETY: as above.
            unsafe { (*pool).data = shared };
            zone.data = shared;
            OK
        },
    )
}
