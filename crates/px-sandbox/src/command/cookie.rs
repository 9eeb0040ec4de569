//! The command `cookie`

use std::process::ExitCode;

use lexopt::Arg::Long;

use super::options::{self, Failure};
use crate::cookie::{command_header, data_enrichment};
use crate::{COOKIE_SECRET, Mint, Version};

const HELP: &str = "\
Usage: {program} cookie [options]

Prints name=value for a Cookie header, or with --mobile the value of X-PX-AUTHORIZATION.

  --secret SECRET     cookie secret (that of px-sandbox serve)
  --version 3|2|1     _px3, _px2 or _px (3)
  --mobile            a mobile token, bound to neither user agent nor address
  --ua TEXT           user agent the cookie is bound to (empty)
  --ip ADDRESS        client address, signed where --sign says so
  --sign SELECTOR     signed fields, payload x: u user agent, s address, e.g. us
  --score N           score (0)
  --action LETTER     block action c, b, r or j (c)
  --ttl TIME          valid for so long: 90s, 10m, 2h (5m)
  --expired           ran out a minute ago
  --uuid UUID         request uuid (a fresh one)
  --vid UUID          visitor id (a fresh one)
  --iterations N      PBKDF2 iterations (1000)
  --salt TEXT         PBKDF2 salt (16 random bytes)
  --set NAME=JSON     any payload member, e.g. cpa=true
  --unset NAME        leave a payload member out
  --payload TEXT      this text in place of the payload
  --broken-hmac       an HMAC that does not match
  --pxde JSON         print a _pxde cookie with this data instead
  --command TIME      print a telemetry command header that is valid for so long instead
";

enum Product {
    Risk(Box<Mint>, bool),
    Line(String),
    Help,
}

/// Runs the command; `program` is the name that the help shows.
///
/// # Errors
///
/// What is wrong with the command line, or why the command failed.
pub fn run(arguments: lexopt::Parser, program: &str) -> Result<ExitCode, Failure> {
    let line = match parse(arguments).map_err(|failure| failure.of("cookie"))? {
        Product::Help => return Ok(options::print(&HELP.replace("{program}", program))),
        Product::Line(line) => line,
        Product::Risk(mint, true) => mint.mobile_header(),
        Product::Risk(mint, false) => mint.cookie(),
    };
    Ok(options::print(&format!("{line}\n")))
}

fn parse(mut arguments: lexopt::Parser) -> Result<Product, Failure> {
    let usage = |why: String| Failure::Usage(why, "");
    let mut secret = COOKIE_SECRET.to_owned();
    let mut version = Version::V3;
    let mut is_mobile = false;
    let (mut enrichment, mut command) = (None, None);
    // Options may come in any order: what depends on others is applied at the end.
    let mut changes: Vec<Box<dyn FnOnce(Mint) -> Mint>> = Vec::new();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("help") | lexopt::Arg::Short('h') => return Ok(Product::Help),
            Long("secret") => secret = options::text(&mut arguments)?,
            Long("version") => {
                version = match options::text(&mut arguments)?.as_str() {
                    "3" => Version::V3,
                    "2" => Version::V2,
                    "1" => Version::V1,
                    other => return Err(usage(format!("--version is 3, 2 or 1, not {other:?}"))),
                }
            }
            Long("mobile") => is_mobile = true,
            Long("pxde") => {
                let text = options::text(&mut arguments)?;
                let data =
                    text.parse().map_err(|why| usage(format!("--pxde is no JSON: {why}")))?;
                enrichment = Some(data);
            }
            Long("command") => {
                command = Some(options::duration(&options::text(&mut arguments)?)?);
            }
            Long(name) => {
                let name = name.to_owned();
                changes.push(change(&name, &mut arguments)?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if let Some(data) = enrichment {
        return Ok(Product::Line(format!("_pxde={}", data_enrichment(&secret, &data))));
    }
    if let Some(valid_for) = command {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let until = u64::try_from((since + valid_for).as_millis()).unwrap_or(u64::MAX);
        return Ok(Product::Line(command_header(&secret, until)));
    }
    let mut mint = Mint::new(version, secret);
    for change in changes {
        mint = change(mint);
    }
    Ok(Product::Risk(Box::new(if is_mobile { mint.mobile() } else { mint }), is_mobile))
}

/// One option that changes one thing about the token.
fn change(
    name: &str,
    arguments: &mut lexopt::Parser,
) -> Result<Box<dyn FnOnce(Mint) -> Mint>, Failure> {
    match name {
        "expired" => return Ok(Box::new(Mint::expired)),
        "broken-hmac" => return Ok(Box::new(Mint::broken_hmac)),
        "score" => {
            let score: f64 = options::value(arguments)?;
            // A whole number is sealed as one: 100, not 100.0.
            let text = format!("{score}");
            let score = text.parse::<i64>().map_or_else(|_| score.into(), serde_json::Value::from);
            return Ok(Box::new(move |mint| mint.score(score)));
        }
        "iterations" => {
            let iterations: u32 = options::value(arguments)?;
            if iterations == 0 {
                return Err(Failure::Usage("--iterations must be above 0".into(), ""));
            }
            return Ok(Box::new(move |mint| mint.iterations(iterations)));
        }
        "ua" | "ip" | "sign" | "action" | "ttl" | "uuid" | "vid" | "salt" | "set" | "unset"
        | "payload" => {}
        _ => return Err(Failure::Usage(format!("invalid option '--{name}'"), "")),
    }
    let text = options::text(arguments)?;
    Ok(match name {
        "ua" => Box::new(move |mint| mint.user_agent(text)),
        "ip" => Box::new(move |mint| mint.ip(text)),
        "sign" => Box::new(move |mint| mint.signed_fields(text)),
        "action" => Box::new(move |mint| mint.action(text)),
        "uuid" => Box::new(move |mint| mint.uuid(text)),
        "vid" => Box::new(move |mint| mint.vid(text)),
        "salt" => Box::new(move |mint| mint.salt(text)),
        "unset" => Box::new(move |mint| mint.without(text)),
        "payload" => Box::new(move |mint| mint.payload(text)),
        "ttl" => {
            let ttl = options::duration(&text)?;
            Box::new(move |mint| mint.expires_in(ttl))
        }
        _ => {
            let member = text.split_once('=').and_then(|(name, json)| {
                Some((name.to_owned(), json.parse::<serde_json::Value>().ok()?))
            });
            let Some((name, value)) = member else {
                let why = format!("--set needs NAME=JSON such as cpa=true, not {text:?}");
                return Err(Failure::Usage(why, ""));
            };
            Box::new(move |mint| mint.field(name, value))
        }
    })
}
