//! Counters and log limits shared by all workers.

use std::sync::atomic::{AtomicU64, Ordering};

use nginx_sys::{
    NGX_MAX_PROCESSES, ngx_conf_t, ngx_cycle_t, ngx_int_t, ngx_process_slot, ngx_slab_calloc,
    ngx_slab_pool_t,
};

use px_core::breaker::Breaker;
use px_core::counters::{App, Node};

use crate::app_places::AppPlaces;
use crate::ffi::{self, OK};
use crate::zone::{Contents, Zone};
use crate::{app_places, background, clock, conf};

const SIZE: usize = 128 * 1024;
/// A line about a failing backend is written at most this often, by all workers together.
const QUIET_MS: u64 = 60_000;

/// What lies in shared memory. All zero at first.
#[repr(C)]
pub(crate) struct Shared {
    /// Ms since the epoch.
    pub(crate) started: AtomicU64,
    /// Configurations that were put to use.
    pub(crate) configurations: AtomicU64,
    pub(crate) activities_offered: AtomicU64,
    pub(crate) activities_sent: AtomicU64,
    pub(crate) activities_lost: AtomicU64,
    /// Written to the spool, and accepted by the collector from it. The latter count as sent too.
    pub(crate) activities_spooled: AtomicU64,
    pub(crate) activities_unspooled: AtomicU64,
    pub(crate) risk_log: Limit,
    pub(crate) activities_log: Limit,
    pub(crate) spool_log: Limit,
    pub(crate) background_log: Limit,
    pub(crate) node_log: Limit,
    pub(crate) first_party_log: Limit,
    /// Of requests to traffic-analysis nodes.
    pub(crate) node: Node,
    pub(crate) apps: AppPlaces,
    /// Of each application's place, a hash of the configuration that HUMAN was told of; 0: none.
    told: [AtomicU64; app_places::PLACES + 1],
    breakers: [BackendBreaker; BREAKERS],
    workers: [WorkerPlace; NGX_MAX_PROCESSES as usize],
}

/// What one worker alone writes. Its place is that of its process in the master's table, where a
/// worker that replaces a dead one comes to stand.
#[repr(C)]
pub(crate) struct WorkerPlace {
    /// Process id; 0 while nobody is there.
    pid: AtomicU64,
    /// Activities that wait in its memory.
    queued: AtomicU64,
    /// Copies of requests on their way to a node.
    copies: AtomicU64,
}

impl WorkerPlace {
    /// A worker begins, whatever its predecessor left here.
    pub(crate) fn enter(&self) {
        self.queued.store(0, Ordering::Relaxed);
        self.copies.store(0, Ordering::Relaxed);
        self.pid.store(std::process::id().into(), Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.pid.store(0, Ordering::Relaxed);
        self.queued.store(0, Ordering::Relaxed);
        self.copies.store(0, Ordering::Relaxed);
    }

    pub(crate) fn set_copies(&self, count: u64) {
        self.copies.store(count, Ordering::Relaxed);
    }

    pub(crate) fn set_queued(&self, activities: u64) {
        self.queued.store(activities, Ordering::Relaxed);
    }

    /// Whether a worker is there and lives. Who was killed could not leave.
    fn is_alive(&self) -> bool {
        is_alive(self.pid.load(Ordering::Relaxed))
    }
}

/// Whether a process is there; 0 is none.
pub(crate) fn is_alive(pid: u64) -> bool {
    let pid = libc::pid_t::try_from(pid).unwrap_or_default();
    // SAFETY: signal 0 reaches nobody: it asks whether the process is there.
    pid != 0 && (unsafe { libc::kill(pid, 0) } == 0 || is_somebody_elses())
}

/// Whether the last `kill` failed because the process, which is there, is another user's.
fn is_somebody_elses() -> bool {
    std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
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
    /// The counters of the application at `place`.
    pub(crate) fn app(&self, place: usize) -> &App {
        self.apps.at(place)
    }

    /// Whether HUMAN has not been told of this configuration of the application at `place`; from now on
    /// it has.
    pub(crate) fn is_untold(&self, place: usize, configuration: u64) -> bool {
        let told = self.told.get(place).or(self.told.last());
        told.is_some_and(|told| told.swap(configuration, Ordering::Relaxed) != configuration)
    }

    /// The place of this worker.
    pub(crate) fn worker(&self) -> Option<&WorkerPlace> {
        // SAFETY: nginx sets it before it calls init_process; 0 where there is one process only.
        let slot = unsafe { ngx_process_slot };
        self.workers.get(usize::try_from(slot).ok()?)
    }

    /// Activities that wait in the memory of workers that live.
    pub(crate) fn queued(&self) -> u64 {
        self.sum_of_living(|worker| &worker.queued)
    }

    /// Copies of requests on their way to a node, from workers that live.
    pub(crate) fn copies(&self) -> u64 {
        self.sum_of_living(|worker| &worker.copies)
    }

    fn sum_of_living(&self, read: fn(&WorkerPlace) -> &AtomicU64) -> u64 {
        let value = |worker: &WorkerPlace| read(worker).load(Ordering::Relaxed);
        let living = self.workers.iter().filter(|worker| value(worker) != 0 && worker.is_alive());
        living.map(value).sum()
    }

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
    /// Time of the last line, by the steady clock; 0 before the first.
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

/// The zone of the counters; `None` of it where no location is enforced.
pub(crate) type SharedZone = Zone<Shared>;

/// Asks nginx for the zone. Its name carries the layout of [`Shared`].
///
/// # Safety
///
/// As that of [`Zone::add`].
pub(crate) unsafe fn add(cf: *mut ngx_conf_t) -> Option<SharedZone> {
    let name = format!("px_shared_6.{}", size_of::<Shared>());
    // SAFETY: as the caller's.
    unsafe { Zone::add(cf, &name, SIZE) }
}

impl Contents for Shared {
    const WHAT: &'static str = "the counters' zone";

    unsafe fn lay_out(pool: *mut ngx_slab_pool_t, _size: usize) -> Option<*mut Self> {
        // SAFETY: the caller passes a live pool.
        let shared = unsafe { ngx_slab_calloc(pool, size_of::<Self>()) }.cast::<Self>();
        // SAFETY: null, or just allocated, and all zero is valid for it.
        let fresh = unsafe { shared.as_ref() }?;
        fresh.started.store(clock::now_ms(), Ordering::Relaxed);
        Some(shared)
    }
}

/// A configuration is about to be used: gives each application its counters. In the master, before
/// it makes workers, so that they have only to count.
pub(crate) unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    ffi::guard(
        "init_module",
        || OK,
        || {
            // SAFETY: nginx passes the cycle it has just configured.
            let main = unsafe { conf::main_conf_of_cycle(cycle) };
            // SAFETY: null or this cycle's configuration.
            let Some(main) = (unsafe { main.as_ref() }) else { return OK };
            let Some(shared) = main.shared.get() else { return OK };
            let before = shared.configurations.fetch_add(1, Ordering::Relaxed);
            main.configuration.set(before + 1);
            for enforcement in &main.enforcements {
                let policy = enforcement.policy();
                let id = &policy.options().app_id;
                enforcement.app_place.set(shared.apps.place_of(id));
            }
            // SAFETY: nginx passes the cycle it has just configured.
            unsafe { background::prepare(main, cycle) };
            OK
        },
    )
}
