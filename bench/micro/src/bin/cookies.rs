//! `cookies KIND COUNT USER_AGENT`: that many different `_px3` cookies, one on each line.
//!
//! KIND is `good` (score 0), `high` (score 100) or `forged` (well-formed, names 5,000 iterations,
//! with an HMAC that does not match). They are valid for a day and bound to the user agent.

use std::env;
use std::io::{BufWriter, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use px_sandbox::{COOKIE_SECRET, Mint};

const USAGE: &str = "usage: cookies good|high|forged COUNT USER_AGENT";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, count, user_agent] = arguments.as_slice() else { return refuse() };
    let Ok(count) = count.parse::<u32>() else { return refuse() };
    let kind: fn(Mint) -> Mint = match kind.as_str() {
        "good" => |mint| mint,
        "high" => |mint| mint.score(100),
        "forged" => |mint| mint.iterations(5000).broken_hmac(),
        _ => return refuse(),
    };
    let mut out = BufWriter::new(stdout().lock());
    for _ in 0..count {
        let mint = Mint::v3(COOKIE_SECRET).user_agent(user_agent.as_str());
        let cookie = kind(mint.expires_in(Duration::from_secs(24 * 3600))).cookie();
        if writeln!(out, "{cookie}").is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::from(u8::from(out.flush().is_err()))
}

fn refuse() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
