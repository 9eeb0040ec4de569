//! When a node that fails is left alone.
//!
//! The Risk API's [`Breaker`](crate::breaker::Breaker) counts failures within a time, for all workers
//! together, and recovers step by step. Here failures must follow each other, and each worker finds
//! out for itself.

use crate::breaker::Change;

/// So many failures one after the other, and the node is not asked.
const FAILURES: u32 = 20;
/// For so long; then one request finds out whether it is back.
const PAUSE_MS: u64 = 5000;

/// The circuit of one node in one worker.
#[derive(Debug, Default)]
pub struct Circuit {
    failures: u32,
    /// 0 while closed: time of the next probe.
    next_probe: u64,
}

impl Circuit {
    /// May the node be asked now? `now` in milliseconds.
    pub fn admits(&mut self, now: u64) -> bool {
        if self.next_probe == 0 {
            return true;
        }
        // A clock that was set back does not lock it for ever.
        let is_due = now >= self.next_probe || now + PAUSE_MS < self.next_probe;
        if is_due {
            self.next_probe = now + PAUSE_MS;
        }
        is_due
    }

    /// The node did not answer.
    pub fn failed(&mut self, now: u64) -> Change {
        if self.next_probe != 0 {
            return Change::None;
        }
        self.failures += 1;
        if self.failures < FAILURES {
            return Change::None;
        }
        self.next_probe = (now + PAUSE_MS).max(1);
        Change::Opened
    }

    /// The node answered, whatever it said.
    pub fn succeeded(&mut self) -> Change {
        self.failures = 0;
        match std::mem::take(&mut self.next_probe) {
            0 => Change::None,
            _ => Change::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: u64) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 1..FAILURES {
            assert_eq!(circuit.failed(now), Change::None);
            assert!(circuit.admits(now));
        }
        assert_eq!(circuit.failed(now), Change::Opened);
        circuit
    }

    #[test]
    fn twenty_failures_in_a_row_open_it() {
        let mut circuit = Circuit::default();
        for _ in 0..100 {
            for _ in 1..FAILURES {
                circuit.failed(7);
            }
            assert_eq!(circuit.succeeded(), Change::None);
            assert!(circuit.admits(7));
        }
        opened(7);
    }

    #[test]
    fn one_probe_every_five_seconds() {
        let mut circuit = opened(1000);
        let admitted: Vec<u64> = (1000..17_000).filter(|now| circuit.admits(*now)).collect();
        assert_eq!(admitted, [6000, 11_000, 16_000]);
        assert_eq!(circuit.failed(16_001), Change::None);
        assert!(!circuit.admits(16_002));
    }

    #[test]
    fn an_answer_closes_it() {
        let mut circuit = opened(1000);
        assert!(circuit.admits(6000));
        assert_eq!(circuit.succeeded(), Change::Closed);
        assert!(circuit.admits(6001));
        assert_eq!(circuit.failed(6002), Change::None);
        assert!(circuit.admits(6003));
    }

    #[test]
    fn a_clock_set_back_does_not_lock_it() {
        let mut circuit = opened(5_000_000);
        assert!(circuit.admits(1000));
        assert!(!circuit.admits(1001));
        assert!(circuit.admits(6000));
    }
}
