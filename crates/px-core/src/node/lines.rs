//! How many lines about a failing node a worker writes.

/// Lines in one second.
const LINES: u32 = 10;
const SECOND_MS: u64 = 1000;

/// Lets some lines through in a second and counts the others.
#[derive(Debug, Default)]
pub struct Lines {
    /// When the present second began; ms.
    since: u64,
    written: u32,
    held_back: u64,
}

impl Lines {
    /// Whether a line may be written now; if not, it is counted.
    pub fn admits(&mut self, now: u64) -> bool {
        if now.abs_diff(self.since) >= SECOND_MS {
            self.since = now;
            self.written = 0;
        }
        let is_admitted = self.written < LINES;
        if is_admitted {
            self.written += 1;
        } else {
            self.held_back += 1;
        }
        is_admitted
    }

    /// How many lines were held back in a second that is over; once.
    pub fn take_held_back(&mut self, now: u64) -> Option<u64> {
        let is_over = now.abs_diff(self.since) >= SECOND_MS;
        (is_over && self.held_back != 0).then(|| std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_and_then_their_number() {
        let mut lines = Lines::default();
        let written = (0..500).filter(|n| lines.admits(5000 + n)).count();
        assert_eq!(written, 10);
        assert_eq!(lines.take_held_back(5999), None);
        assert_eq!(lines.take_held_back(6000), Some(490));
        assert_eq!(lines.take_held_back(6000), None);
        assert!(lines.admits(6001));
        // What was not asked for is not lost.
        assert_eq!((0..20).filter(|_| lines.admits(6002)).count(), 9);
        assert!(lines.admits(7001));
        assert_eq!(lines.take_held_back(8100), Some(11));
    }

    #[test]
    fn few_lines_need_no_summary() {
        let mut lines = Lines::default();
        assert_eq!((0..10).filter(|_| lines.admits(9000)).count(), 10);
        assert_eq!(lines.take_held_back(11_000), None);
    }
}
