//! Circuit breaker of one backend: after too many failures requests pass at once, while single
//! calls find out whether the backend is back (DECISIONS 18).
//!
//! All state is atomic and zero at first, so that it can lie in memory shared by workers. A race
//! between two workers costs a call more or less, never a wrong state that lasts.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// While the breaker is open, one call in so many milliseconds is a probe.
const PROBE_INTERVAL_MS: u64 = 1000;
/// After a successful probe the calls allowed double every so many milliseconds.
const RAMP_STEP_MS: u64 = 100;
/// After so many steps without a failure the breaker is closed.
const RAMP_STEPS: u64 = 10;

/// When the breaker opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Failures within the interval (`px_max_errors_threshold`); 0: never opens.
    pub threshold: u32,
    /// Milliseconds (`px_errors_count_interval`).
    pub interval_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { threshold: 10, interval_ms: 60_000 }
    }
}

/// What a failure or success changed, for one log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    Opened,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Every call is made.
    Closed = 0,
    /// Only probes are made.
    Open = 1,
    /// A probe succeeded: calls are let through step by step.
    HalfOpen = 2,
}

#[derive(Debug, Default)]
#[repr(C)]
pub struct Breaker {
    /// Start of the interval failures are counted in.
    counted_since: AtomicU64,
    failures: AtomicU32,
    /// Calls allowed so far in the present step of the ramp.
    ramp_calls: AtomicU32,
    /// 0 while closed or ramping up: time of the next probe.
    next_probe: AtomicU64,
    /// 0 unless a probe succeeded and calls are let through step by step: when it did.
    ramp_since: AtomicU64,
    /// Step of the ramp that `ramp_calls` counts in.
    ramp_step: AtomicU64,
}

impl Breaker {
    /// True if no call is held back.
    pub fn is_closed(&self) -> bool {
        self.next_probe.load(Relaxed) == 0 && self.ramp_since.load(Relaxed) == 0
    }

    /// What the breaker is in at `now`, for those who watch it.
    pub fn state(&self, now: u64) -> State {
        let since = self.ramp_since.load(Relaxed);
        if self.next_probe.load(Relaxed) != 0 {
            State::Open
        } else if since != 0 && now.abs_diff(since) / RAMP_STEP_MS < RAMP_STEPS {
            State::HalfOpen
        } else {
            State::Closed
        }
    }

    /// May the backend be called now? `now` in milliseconds.
    pub fn admits(&self, now: u64) -> bool {
        let probe = self.next_probe.load(Relaxed);
        if probe != 0 {
            let next = now + PROBE_INTERVAL_MS;
            // A clock that was set back does not lock it.
            let is_due = now >= probe || next < probe;
            return is_due
                && self.next_probe.compare_exchange(probe, next, Relaxed, Relaxed).is_ok();
        }
        let since = self.ramp_since.load(Relaxed);
        if since == 0 {
            return true;
        }
        let step = now.abs_diff(since) / RAMP_STEP_MS;
        if step >= RAMP_STEPS {
            self.ramp_since.store(0, Relaxed);
            return true;
        }
        if self.ramp_step.swap(step, Relaxed) != step {
            self.ramp_calls.store(0, Relaxed);
        }
        u64::from(self.ramp_calls.fetch_add(1, Relaxed)) < 1 << step
    }

    /// A call failed or timed out.
    pub fn failed(&self, limits: Limits, now: u64) -> Change {
        if limits.threshold == 0 {
            return Change::None;
        }
        if self.next_probe.load(Relaxed) != 0 {
            return Change::None;
        }
        if self.ramp_since.load(Relaxed) != 0 {
            return self.open(now);
        }
        let since = self.counted_since.load(Relaxed);
        if now.abs_diff(since) >= limits.interval_ms {
            self.counted_since.store(now, Relaxed);
            self.failures.store(0, Relaxed);
        }
        if self.failures.fetch_add(1, Relaxed) + 1 >= limits.threshold {
            return self.open(now);
        }
        Change::None
    }

    /// A call was answered.
    pub fn succeeded(&self, now: u64) -> Change {
        if self.next_probe.swap(0, Relaxed) == 0 {
            return Change::None;
        }
        self.failures.store(0, Relaxed);
        self.ramp_calls.store(0, Relaxed);
        self.ramp_step.store(0, Relaxed);
        self.ramp_since.store(now.max(1), Relaxed);
        Change::Closed
    }

    fn open(&self, now: u64) -> Change {
        self.failures.store(0, Relaxed);
        self.ramp_since.store(0, Relaxed);
        let was = self.next_probe.swap(now + PROBE_INTERVAL_MS, Relaxed);
        if was == 0 { Change::Opened } else { Change::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { threshold: 3, interval_ms: 1000 };

    /// A breaker that opened at `now`.
    fn opened(now: u64) -> Breaker {
        let breaker = Breaker::default();
        assert_eq!(breaker.failed(LIMITS, now), Change::None);
        assert_eq!(breaker.failed(LIMITS, now), Change::None);
        assert_eq!(breaker.failed(LIMITS, now), Change::Opened);
        breaker
    }

    #[test]
    fn opens_at_the_threshold_within_the_interval_only() {
        let breaker = Breaker::default();
        for now in [10_000, 10_500, 11_100, 11_900, 12_200] {
            assert_eq!(breaker.failed(LIMITS, now), Change::None, "{now}");
            assert!(breaker.admits(now));
            assert_eq!(breaker.state(now), State::Closed);
        }
        assert_eq!(breaker.failed(LIMITS, 12_300), Change::None);
        assert_eq!(breaker.failed(LIMITS, 12_400), Change::Opened);
        assert!(!breaker.admits(12_401));
        assert!(!breaker.is_closed());
        assert_eq!(breaker.state(12_401), State::Open);
    }

    #[test]
    fn a_threshold_of_zero_never_opens() {
        let breaker = Breaker::default();
        for _ in 0..1000 {
            breaker.failed(Limits { threshold: 0, interval_ms: 1000 }, 5);
        }
        assert!(breaker.admits(6));
    }

    #[test]
    fn an_open_breaker_admits_one_probe_a_second() {
        let breaker = opened(5000);
        let admitted: Vec<u64> = (5000..8500).filter(|now| breaker.admits(*now)).collect();
        assert_eq!(admitted, [6000, 7000, 8000]);
        assert_eq!(breaker.failed(LIMITS, 8500), Change::None);
        assert!(!breaker.admits(8600));
    }

    #[test]
    fn recovery_lets_calls_through_in_doubling_steps() {
        let breaker = opened(5000);
        assert!(breaker.admits(6000));
        assert_eq!(breaker.succeeded(6000), Change::Closed);
        let allowed = |now| (0..5000).filter(|_| breaker.admits(now)).count();
        assert_eq!(allowed(6000), 1);
        assert_eq!(allowed(6100), 2);
        assert_eq!(allowed(6250), 4);
        assert_eq!(allowed(6950), 512);
        assert_eq!(breaker.state(6999), State::HalfOpen);
        // Also where no visitor comes who would end the ramp.
        assert_eq!(breaker.state(7000), State::Closed);
        assert_eq!(allowed(7000), 5000);
        assert!(breaker.is_closed());
        assert_eq!(breaker.succeeded(7001), Change::None);
    }

    #[test]
    fn a_failure_while_recovering_opens_at_once() {
        let breaker = opened(5000);
        assert!(breaker.admits(6000));
        breaker.succeeded(6000);
        assert_eq!(breaker.failed(LIMITS, 6150), Change::Opened);
        assert!(!breaker.admits(6200));
        assert!(breaker.admits(7150));
    }

    #[test]
    fn a_clock_set_back_locks_nothing() {
        let breaker = opened(5_000_000);
        assert!(breaker.admits(1000));
        assert!(!breaker.admits(1001));
        assert!(breaker.admits(2000));

        // While it recovers.
        let breaker = opened(5_000_000);
        assert!(breaker.admits(5_001_000));
        assert_eq!(breaker.succeeded(5_001_000), Change::Closed);
        assert!((0..100).all(|_| breaker.admits(1000)));
        assert_eq!(breaker.state(1000), State::Closed);
    }
}
