//! The command `explain`

use std::process::ExitCode;

use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt;

use super::options::{self, Failure};
use crate::{COOKIE_SECRET, Reading};

const HELP: &str = "\
Usage: {program} explain [options] TOKEN

TOKEN is a bare token, a cookie such as _px3=…, _px2=…, _px=… or _pxde=…, a whole Cookie header, or
with --mobile the value of X-PX-AUTHORIZATION. - reads it from standard input.

  --secret SECRET       cookie secret; twice for current and previous (that of px-sandbox serve)
  --ua TEXT             user agent of the visitor (empty)
  --ip ADDRESS          client address as the enforcer sees it (empty)
  --mobile              TOKEN is a mobile header's value
  --now MS              judge expiry at this time, Unix milliseconds (now)
  --blocking-score N    px_blocking_score (100)

Exit status: 0 the token passes, 1 it does not, 2 bad usage.
";

/// Runs the command; `program` is the name that the help shows.
///
/// # Errors
///
/// What is wrong with the command line, or why the command failed.
pub fn run(arguments: lexopt::Parser, program: &str) -> Result<ExitCode, Failure> {
    let Some((token, reading)) = parse(arguments).map_err(|failure| failure.of("explain"))? else {
        return Ok(options::print(&HELP.replace("{program}", program)));
    };
    let explanation = crate::explain(&token, &reading);
    options::print(&format!("{explanation}\n"));
    Ok(if explanation.outcome.passes() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn parse(mut arguments: lexopt::Parser) -> Result<Option<(String, Reading)>, Failure> {
    let mut reading = Reading::default();
    let mut token = None;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(None),
            Long("secret") => reading.secrets.push(options::text(&mut arguments)?),
            Long("ua") => reading.user_agent = options::text(&mut arguments)?,
            Long("ip") => reading.ip = options::text(&mut arguments)?,
            Long("mobile") => reading.mobile = true,
            Long("now") => reading.now_ms = options::value(&mut arguments)?,
            Long("blocking-score") => reading.blocking_score = options::value(&mut arguments)?,
            Value(text) if token.is_none() => token = Some(text.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    if reading.secrets.is_empty() {
        reading.secrets.push(COOKIE_SECRET.into());
    }
    let token = match token.as_deref() {
        None => return Err(Failure::Usage("TOKEN is missing".into(), "")),
        Some("-") => std::io::read_to_string(std::io::stdin())
            .map_err(|why| Failure::Failed(format!("cannot read standard input: {why}")))?,
        Some(token) => token.to_owned(),
    };
    Ok(Some((token, reading)))
}
