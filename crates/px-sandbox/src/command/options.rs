//! What the commands share: reading values, failing in one line, printing without panicking.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use lexopt::ValueExt;

/// Why a command ends.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong; the command is named for the hint.
    Usage(String, &'static str),
    /// The command line is right, but it does not work.
    Failed(String),
}

impl Failure {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(..) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
        }
    }

    /// What to say about it on standard error.
    pub fn message(&self, program: &str) -> String {
        match self {
            Self::Usage(why, "") => format!("{program}: {why} (see {program} --help)"),
            Self::Usage(why, command) => {
                format!("{program}: {why} (see {program} {command} --help)")
            }
            Self::Failed(why) => format!("{program}: {why}"),
        }
    }

    /// Names the command whose `--help` helps.
    pub fn of(self, command: &'static str) -> Self {
        match self {
            Self::Usage(why, _) => Self::Usage(why, command),
            failed @ Self::Failed(_) => failed,
        }
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string(), "")
    }
}

/// The text of the option just read.
pub fn text(arguments: &mut lexopt::Parser) -> Result<String, Failure> {
    Ok(arguments.value()?.string()?)
}

/// The number, address or the like of the option just read.
pub fn value<T: FromStr>(arguments: &mut lexopt::Parser) -> Result<T, Failure>
where
    T::Err: Display,
{
    let text = text(arguments)?;
    text.parse().map_err(|why| Failure::Usage(format!("{text:?}: {why}"), ""))
}

/// `500ms`, `90s`, `10m`, `2h`, `1d`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, Failure> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .map(Duration::from_millis)
        .ok_or_else(|| {
            Failure::Usage(format!("{text:?} is no duration such as 90s, 10m or 500ms"), "")
        })
}

/// Prints; a reader that left already is no reason to panic.
pub fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        for (text, ms) in [
            ("500ms", Some(500)),
            ("5", Some(5000)),
            ("5s", Some(5000)),
            ("10m", Some(600_000)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("m", None),
            ("-5s", None),
            ("5 s", None),
            ("99999999999999999d", None),
        ] {
            assert_eq!(duration(text).ok(), ms.map(Duration::from_millis), "{text}");
        }
    }
}
