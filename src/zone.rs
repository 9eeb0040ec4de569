//! A zone of memory that all workers share and that reloads keep, with one value at its beginning.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;

use nginx_sys::{
    ngx_conf_t, ngx_int_t, ngx_shared_memory_add, ngx_shm_zone_t, ngx_shmtx_t, ngx_slab_pool_t,
};

use crate::ffi::{self, ERROR, OK};

/// What a zone holds.
pub(crate) trait Contents: Sized {
    /// What a log line calls the zone.
    const WHAT: &'static str;

    /// Makes the value in fresh memory. `None` when there is too little.
    ///
    /// # Safety
    ///
    /// `pool` must be the pool that nginx laid into a zone of `size` bytes that nobody uses yet.
    unsafe fn lay_out(pool: *mut ngx_slab_pool_t, size: usize) -> Option<*mut Self>;
}

/// The zone as a configuration knows it; its memory exists once the configuration is in use.
pub(crate) struct Zone<T> {
    zone: *mut ngx_shm_zone_t,
    _holds: PhantomData<T>,
}

/// None at all.
impl<T> Default for Zone<T> {
    fn default() -> Self {
        Self { zone: ptr::null_mut(), _holds: PhantomData }
    }
}

impl<T: Contents> Zone<T> {
    /// Asks nginx for the zone; nginx refuses one name with two sizes. Who changes the layout of `T` gives
    /// it another name, so that a reload with a new module makes a new zone.
    ///
    /// # Safety
    ///
    /// `cf` must be the configuration state nginx passed to the calling callback.
    pub(crate) unsafe fn add(cf: *mut ngx_conf_t, name: &str, size: usize) -> Option<Self> {
        // SAFETY: `cf` is live.
        let pool = unsafe { (*cf).pool };
        // SAFETY: the configuration pool is live.
        let mut name = unsafe { ffi::copy_to_pool(pool, name.as_bytes()) }?;
        let tag = (&raw mut crate::ngx_http_px_module).cast::<c_void>();
        // SAFETY: all pointers are live; the name lives in the cycle's pool.
        let zone = unsafe { ngx_shared_memory_add(cf, &raw mut name, size, tag) };
        // SAFETY: null or the zone.
        unsafe { zone.as_mut() }?.init = Some(init::<T>);
        Some(Self { zone, _holds: PhantomData })
    }

    /// What it holds; `None` before the memory is there, or without a zone.
    pub(crate) fn get(&self) -> Option<&T> {
        // SAFETY: `data` of a zone that `add` made is what `init` set.
        unsafe { self.data().as_ref() }
    }

    /// As [`get`](Self::get), for those who change it under the [lock](Self::mutex).
    pub(crate) fn data(&self) -> *mut T {
        // SAFETY: null or the zone of this configuration, live as long as its cycle.
        let zone = unsafe { self.zone.as_ref() };
        zone.map_or(ptr::null_mut(), |zone| zone.data.cast())
    }

    /// The lock that nginx laid into the zone; null without a zone. Of a worker that dies, the master
    /// frees it.
    pub(crate) fn mutex(&self) -> *mut ngx_shmtx_t {
        // SAFETY: null or the zone of this configuration, live as long as its cycle.
        let Some(zone) = (unsafe { self.zone.as_ref() }) else { return ptr::null_mut() };
        // SAFETY: nginx laid a slab pool into the zone before it was in use.
        unsafe { &raw mut (*zone.shm.addr.cast::<ngx_slab_pool_t>()).mutex }
    }
}

unsafe extern "C" fn init<T: Contents>(
    zone: *mut ngx_shm_zone_t,
    before: *mut c_void,
) -> ngx_int_t {
    ffi::guard(
        T::WHAT,
        || ERROR,
        || {
            // SAFETY: nginx passes the zone it initialises.
            let zone = unsafe { &mut *zone };
            if !before.is_null() {
                // Reload: what is there stays.
                zone.data = before;
                return OK;
            }
            let pool = zone.shm.addr.cast::<ngx_slab_pool_t>();
            if zone.shm.exists != 0 {
                // SAFETY: nginx laid a slab pool into the zone.
                zone.data = unsafe { (*pool).data };
                return OK;
            }
            // SAFETY: a fresh zone of that size.
            let Some(contents) = (unsafe { T::lay_out(pool, zone.shm.size) }) else { return ERROR };
            // SAFETY: nginx laid a slab pool into the zone.
            unsafe { (*pool).data = contents.cast() };
            zone.data = contents.cast();
            OK
        },
    )
}
