//! The command line of the sandbox: `serve`, `node`, `cookie` and `explain`.
#![forbid(unsafe_code)]

mod node;
mod serve;

use std::io::Write;
use std::process::ExitCode;

use px_sandbox::command::{self, Failure};

const HELP: &str = "\
px-sandbox: a local stand-in for HUMAN's Bot Defender backend

Usage: px-sandbox serve [options]      run the backend: Risk API, activities, scripts,
                                       remote configuration and the like
       px-sandbox node [options]       run a traffic-analysis node that knows a few probes
       px-sandbox cookie [options]     mint a risk cookie or a mobile token
       px-sandbox explain [options] TOKEN
                                       say step by step why a token passes or fails
       px-sandbox COMMAND --help       all options of a command

Exit status: 0 done (explain: the token passes), 1 failed (explain: it does not), 2 bad usage.
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{}", failure.message("px-sandbox"));
            failure.exit_code()
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    let mut arguments = lexopt::Parser::from_env();
    match arguments.next()? {
        Some(lexopt::Arg::Value(command)) => match command.to_str() {
            Some("serve") => serve::run(arguments),
            Some("node") => node::run(arguments),
            Some("cookie") => command::cookie(arguments, "px-sandbox"),
            Some("explain") => command::explain(arguments, "px-sandbox"),
            Some("help") => Ok(command::print(HELP)),
            _ => Err(Failure::Usage(format!("no command is called {command:?}"), "")),
        },
        Some(lexopt::Arg::Long("help") | lexopt::Arg::Short('h')) => Ok(command::print(HELP)),
        Some(lexopt::Arg::Long("version") | lexopt::Arg::Short('V')) => {
            Ok(command::print(concat!("px-sandbox ", env!("CARGO_PKG_VERSION"), "\n")))
        }
        Some(other) => Err(other.unexpected().into()),
        None => Err(Failure::Usage("a command is missing".into(), "")),
    }
}
