//! The command line: `convert`, `check`, `cookie` and `explain`.
#![forbid(unsafe_code)]

use std::io::Read;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt;
use px_sandbox::command::{self, Failure};
use pxctl::check;
use pxctl::convert::{self, Format};

const HELP: &str = "\
pxctl: the operator's tool for the px module of nginx

Usage: pxctl convert [--from FORMAT] [FILE|-]
                                  write the px_* directives for another enforcer's configuration
       pxctl check [FILE]         say what px_* directives an nginx configuration puts into effect
       pxctl cookie [options]     mint a risk cookie or a mobile token
       pxctl explain [options] TOKEN
                                  say step by step why a token passes or fails
       pxctl COMMAND --help       all options of a command

Exit status: 0 done, 1 failed (check: there are problems; explain: the token fails), 2 bad usage.
";

const CONVERT: &str = "\
Usage: pxctl convert [--from FORMAT] [FILE|-]

Reads the configuration of another enforcer and writes nginx directives to standard output. What
needs a decision, and what nginx has no form for, is written as a comment. Nothing is executed.
- or no FILE reads standard input. The output holds the secrets of the input.

  --from FORMAT    auto      guess from the text (the default)
                   setconf   px_module.setconf(\"px_name\", value)
                   lua       pxconfig.lua of the Lua plugin
                   kong      YAML or JSON of the Kong plugin, or of all of Kong
                   js        JSON or JavaScript of the Cloudflare worker or of Node
                   fastly    VCL tables of the Fastly enforcer

Exit status: 0 done, 1 the input cannot be read, 2 bad usage.
";

const CHECK: &str = "\
Usage: pxctl check [FILE]

Reads an nginx configuration (/etc/nginx/nginx.conf) with what it includes and lists, for every
http, server and location where the module is on, what is in effect and where it was set. Secrets
are not shown. Then it reports problems. A file without http is taken as included in http. nginx is
not needed, and nginx -t is not replaced: values are not examined.

Exit status: 0 fine, 1 problems were found, 2 bad usage.
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{}", failure.message("pxctl"));
            failure.exit_code()
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    let mut arguments = lexopt::Parser::from_env();
    match arguments.next()? {
        Some(Value(name)) => match name.to_str() {
            Some("convert") => convert(arguments).map_err(|failure| failure.of("convert")),
            Some("check") => check(arguments).map_err(|failure| failure.of("check")),
            Some("cookie") => command::cookie(arguments, "pxctl"),
            Some("explain") => command::explain(arguments, "pxctl"),
            Some("help") => Ok(command::print(HELP)),
            _ => Err(Failure::Usage(format!("no command is called {name:?}"), "")),
        },
        Some(Long("help") | Short('h')) => Ok(command::print(HELP)),
        Some(Long("version") | Short('V')) => {
            Ok(command::print(concat!("pxctl ", env!("CARGO_PKG_VERSION"), "\n")))
        }
        Some(other) => Err(other.unexpected().into()),
        None => Err(Failure::Usage("a command is missing".into(), "")),
    }
}

fn convert(mut arguments: lexopt::Parser) -> Result<ExitCode, Failure> {
    let mut format = None;
    let mut file: Option<PathBuf> = None;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(command::print(CONVERT)),
            Long("from") => {
                let word = command::text(&mut arguments)?;
                format = match word.as_str() {
                    "auto" => None,
                    _ => Some(Format::from_word(&word).ok_or_else(|| {
                        let why = "--from is auto, setconf, lua, kong, js or fastly, not";
                        Failure::Usage(format!("{why} {word:?}"), "")
                    })?),
                };
            }
            Value(name) if file.is_none() => file = Some(name.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    let file = file.unwrap_or_else(|| "-".into());
    let mut bytes = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(&file).map(|content| bytes = content)
    };
    let name = file.display();
    read.map_err(|why| Failure::Failed(format!("cannot read {name}: {why}")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::Failed(format!("{name} is not UTF-8 text")))?;
    let converted = convert::convert(&text, format)
        .map_err(|fault| Failure::Failed(format!("{name}:{fault}")))?;
    Ok(command::print(&converted))
}

fn check(mut arguments: lexopt::Parser) -> Result<ExitCode, Failure> {
    let mut file: Option<PathBuf> = None;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(command::print(CHECK)),
            Value(name) if file.is_none() => file = Some(PathBuf::from(name.string()?)),
            other => return Err(other.unexpected().into()),
        }
    }
    let file = file.unwrap_or_else(|| "/etc/nginx/nginx.conf".into());
    let report = check::check(&file).map_err(|fault| Failure::Failed(fault.to_string()))?;
    command::print(&report.to_string());
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
