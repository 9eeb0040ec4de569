//! What the end of an exchange with the node means.

use std::fmt;

/// What a decision of the node's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Block,
}

/// Why there is no decision, in the words of the log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No complete status line in time.
    Timeout,
    Connect,
    Tls,
    /// Closed before the first byte of an answer.
    Closed,
    BadAnswer,
    /// A status that decides nothing.
    Status(u16),
    Resolve,
    /// The headers of the request are longer than what a node is sent.
    HeadTooLong,
    NotSent,
}

impl Cause {
    /// Whether the node is not there. One that answers is, whatever it says.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Timeout | Self::Connect | Self::Tls | Self::Closed)
    }

    /// Whether the node answered.
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::BadAnswer | Self::Status(_))
    }

    pub const fn result(self) -> Result {
        match self {
            Self::Timeout => Result::Timeout,
            _ => Result::Error,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect failed",
            Self::Tls => "tls failed",
            Self::Closed => "closed",
            Self::BadAnswer => "bad answer",
            Self::Status(status) => return write!(f, "status {status}"),
            Self::Resolve => "resolve failed",
            Self::HeadTooLong => "request headers too long",
            Self::NotSent => "not sent",
        })
    }
}

/// How the connector was done with a request, for variable and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    Pass,
    Block,
    Timeout,
    Error,
    /// The node was not asked: it has failed too often.
    Skipped,
    /// There was no room for one more copy.
    Dropped,
    /// The client left before there was a decision.
    Aborted,
}

impl Result {
    pub const ALL: &'static [Self] = &[
        Self::Pass,
        Self::Block,
        Self::Timeout,
        Self::Error,
        Self::Skipped,
        Self::Dropped,
        Self::Aborted,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Block => "block",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::Skipped => "skipped",
            Self::Dropped => "dropped",
            Self::Aborted => "aborted",
        }
    }
}

impl From<Verdict> for Result {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Block => Self::Block,
        }
    }
}

/// Only the status decides.
pub const fn verdict(status: u16) -> std::result::Result<Verdict, Cause> {
    match status {
        403 => Ok(Verdict::Block),
        200..=299 => Ok(Verdict::Pass),
        NO_STATUS => Err(Cause::BadAnswer),
        other => Err(Cause::Status(other)),
    }
}

/// Stands for a status line that is none.
pub const NO_STATUS: u16 = 0;

/// The status of the final answer in what follows the head of an interim one; `None` as long as its
/// status line is not complete.
pub fn final_status(mut bytes: &[u8]) -> Option<u16> {
    loop {
        let end = find(bytes, b"\r\n")?;
        let status = bytes.get(..end).and_then(status_of).unwrap_or(NO_STATUS);
        if !(100..200).contains(&status) {
            return Some(status);
        }
        let head = find(bytes, b"\r\n\r\n")?;
        bytes = bytes.get(head + 4..)?;
    }
}

fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first()?;
    let digits = rest.strip_prefix(b" ")?;
    let (digits, after) = digits.split_at_checked(3)?;
    let is_whole = minor.is_ascii_digit() && matches!(after.first(), None | Some(b' '));
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_whole)?;
    digits.parse().ok().filter(|status| (100..=999).contains(status))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_403_blocks_and_only_2xx_passes() {
        for (status, expected) in [
            (200, Ok(Verdict::Pass)),
            (204, Ok(Verdict::Pass)),
            (299, Ok(Verdict::Pass)),
            (403, Ok(Verdict::Block)),
            (300, Err(Cause::Status(300))),
            (302, Err(Cause::Status(302))),
            (401, Err(Cause::Status(401))),
            (404, Err(Cause::Status(404))),
            (500, Err(Cause::Status(500))),
            (NO_STATUS, Err(Cause::BadAnswer)),
        ] {
            assert_eq!(verdict(status), expected, "{status}");
        }
    }

    #[test]
    fn a_node_that_answers_is_there() {
        for cause in [Cause::Timeout, Cause::Connect, Cause::Tls, Cause::Closed] {
            assert!(cause.is_failure() && !cause.is_answer(), "{cause}");
        }
        for cause in [Cause::BadAnswer, Cause::Status(500)] {
            assert!(!cause.is_failure() && cause.is_answer(), "{cause}");
        }
        for cause in [Cause::Resolve, Cause::HeadTooLong, Cause::NotSent] {
            assert!(!cause.is_failure() && !cause.is_answer(), "{cause}");
        }
        assert_eq!(Cause::Status(502).to_string(), "status 502");
        assert_eq!(Cause::Timeout.result(), Result::Timeout);
        assert_eq!(Cause::Tls.result(), Result::Error);
    }

    #[test]
    fn interim_answers_are_skipped() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.1 403\r\nX: y\r\n\r\nbody", Some(403)),
            ("HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 403 No\r\n", Some(403)),
            ("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.0 204 N\r\n", Some(204)),
            ("HTTP/1.1 20", None),
            ("HTTP/1.1 200 OK", None),
            ("HTTP/1.1 100 C\r\nX: y\r\n", None),
            ("HTTP/1.1 100 C\r\n\r\n", None),
            ("", None),
            ("garbage\r\n", Some(NO_STATUS)),
            ("HTTP/2 200\r\n", Some(NO_STATUS)),
            ("HTTP/1.1 099 x\r\n", Some(NO_STATUS)),
            ("HTTP/1.1 2000 x\r\n", Some(NO_STATUS)),
            ("HTTP/1.1 +20 x\r\n", Some(NO_STATUS)),
        ] {
            assert_eq!(final_status(text.as_bytes()), expected, "{text:?}");
        }
    }
}
