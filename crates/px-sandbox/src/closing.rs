//! The signal that ends a sandbox, and pauses that it cuts short.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Closing {
    is_closed: Mutex<bool>,
    closed: Condvar,
}

impl Closing {
    /// Ends every pause, also those that begin later.
    pub(crate) fn close(&self) {
        *self.lock() = true;
        self.closed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.lock()
    }

    /// Waits that long; false where the end came first.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let end = Instant::now().checked_add(pause);
        let mut is_closed = self.lock();
        while !*is_closed {
            let left = match end {
                Some(end) => match end.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => left,
                    _ => return true,
                },
                // Beyond the clock's range: as good as for ever.
                None => Duration::from_secs(86_400),
            };
            (is_closed, _) =
                self.closed.wait_timeout(is_closed, left).unwrap_or_else(PoisonError::into_inner);
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
