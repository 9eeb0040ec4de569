//! What requests cost: `hot_path SCENARIO N` makes one kind of request N times.
//!
//! For instruction counts under callgrind, which are the same on every run: those of N + M requests
//! less those of N, divided by M. Without arguments it lists the scenarios.

use std::hint::black_box;
use std::process::ExitCode;

use px_core::enforce::{self, Action, OriginResponse, Step, Verdict, Worker};
use px_core::filter::Network;
use px_core::hooks::Hooks;
use px_core::policy::{Options, Policy, Secret};
use px_core::reason::{FilterReason, ModuleMode};
use px_core::request::{Header, Request, Tls};
use px_core::token_memory::{Key, NoMemory, TokenMemory};

const NOW: u64 = 1_750_000_000_000;

const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) TestBrowser/12.3";

/// Valid for [`USER_AGENT`] at [`NOW`] (risk-token-v3.json); 1000 iterations.
const TOKEN: &str = "664d66673a5f3e8e10cebeb4a7b9d223dabf5eb23c412933f961dab771b987dd:bWFkZS11cC1zYW\
    x0LTEyMw==:1000:ncDau6nKUyKi/4AETvUULI3uWpAy8s3cNseE3GEeZXpVA+wJ1RhteWj8bqYANt1+FT2iHFMMVdl2+c\
    U/vWKJZH2bXp6BSmNga6UkIDN+AQuGrvYiKPT0fu+9gFrMWGDo76fuhXJDfbBb7BujarpzJPvtXJ0CoJcnlMAK7Y9Hfgc=";

/// Name, what it is, and what runs it so many times.
type Scenario = (&'static str, &'static str, fn(u32));

/// Name, what it is, and what to repeat.
const SCENARIOS: [Scenario; 9] = [
    ("cached_pass", "a good token that the memory knows", cached_pass),
    ("uncached_pass", "a good token that nobody has seen before", uncached_pass),
    ("forged", "a forged token beyond the budget, up to the Risk API request", forged),
    ("no_cookie_body", "no token, up to the Risk API request", no_cookie_body),
    ("filtered", "a style sheet", filtered),
    ("activity", "the activity of a passed request, into a buffer that is used again", activity),
    ("ten_networks", "as cached_pass, after ten networks and routes each", ten_networks),
    ("many_networks", "as cached_pass, after 10,000 networks and routes each", many_networks),
    ("inactive", "the module switched off", inactive),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [name, count] = &arguments[..]
        && let Some((_, _, scenario)) = SCENARIOS.iter().find(|(known, ..)| known == name)
        && let Ok(count) = count.parse()
    {
        scenario(count);
        return ExitCode::SUCCESS;
    }
    eprintln!("usage: hot_path SCENARIO N");
    SCENARIOS.iter().for_each(|(name, what, _)| eprintln!("  {name:15} {what}"));
    ExitCode::FAILURE
}

fn cached_pass(count: u32) {
    pass_from_memory(&policy(|_| ()), count);
}

fn ten_networks(count: u32) {
    pass_from_memory(&policy(|options| allow(options, 10)), count);
}

fn many_networks(count: u32) {
    pass_from_memory(&policy(|options| allow(options, 10_000)), count);
}

fn pass_from_memory(policy: &Policy, count: u32) {
    let mut memory = One::default();
    let headers = headers(cookie(TOKEN));
    for _ in 0..=count {
        passes(enforce::begin(&request(&headers), policy, &mut worker(), &mut memory, NOW));
    }
}

fn uncached_pass(count: u32) {
    let policy = policy(|_| ());
    let headers = headers(cookie(TOKEN));
    for _ in 0..count {
        passes(enforce::begin(&request(&headers), &policy, &mut worker(), &mut NoMemory, NOW));
    }
}

fn forged(count: u32) {
    asks(count, cookie(&TOKEN.replace("dd:", "de:")));
}

fn no_cookie_body(count: u32) {
    asks(count, "session=8f14e45fceea167a5a36dedd4bea2543; cart=3");
}

fn asks(count: u32, cookie: &str) {
    let policy = policy(|options| options.forged_cookie_budget = 0);
    let headers = headers(cookie);
    for _ in 0..count {
        match enforce::begin(&request(&headers), &policy, &mut worker(), &mut NoMemory, NOW) {
            Step::AskRisk(pending) => assert!(!black_box(pending.risk_body()).is_empty()),
            _ => panic!("the Risk API is not asked"),
        }
    }
}

fn filtered(count: u32) {
    let policy = policy(|_| ());
    let headers = headers(cookie(TOKEN));
    let request = Request { target: b"/static/app.3f2a1b.css?v=12", ..request(&headers) };
    for _ in 0..count {
        let request = black_box(&request);
        match enforce::begin(request, &policy, &mut worker(), &mut NoMemory, NOW) {
            Step::Filtered(reason) => assert_eq!(black_box(reason), FilterReason::Extension),
            _ => panic!("not filtered"),
        }
    }
}

fn inactive(count: u32) {
    let policy = policy(|options| options.enabled = false);
    let headers = headers(cookie(TOKEN));
    for _ in 0..count {
        let step = enforce::begin(&request(&headers), &policy, &mut worker(), &mut NoMemory, NOW);
        assert!(matches!(black_box(step), Step::Inactive));
    }
}

fn activity(count: u32) {
    let policy = policy(|_| ());
    let headers = headers(cookie(TOKEN));
    let step = enforce::begin(&request(&headers), &policy, &mut worker(), &mut NoMemory, NOW);
    let verdict = passes(step);
    let mut buffer = Vec::with_capacity(16 << 10);
    let response = OriginResponse { status: Some(200), ..OriginResponse::default() };
    for _ in 0..count {
        buffer.clear();
        assert!(black_box(&verdict).activity(&policy, &response, NOW, &mut buffer));
        black_box(&buffer);
    }
}

#[inline(never)]
fn passes(step: Step<'_>) -> Verdict<'_> {
    match step {
        Step::Decided(verdict) if verdict.action == Action::Pass => verdict,
        _ => panic!("the token does not pass"),
    }
}

fn policy(change: impl FnOnce(&mut Options)) -> Policy {
    let mut options = Options {
        app_id: "PXabcd1234".to_owned(),
        auth_token: Secret::new("made.up.auth-token_0123456789".to_owned()),
        cookie_secrets: vec![
            Secret::new("s3cret-A-made-up-for-tests-0000001".to_owned()),
            Secret::new("s3cret-B-made-up-for-tests-0000002".to_owned()),
        ],
        enabled: true,
        module_mode: ModuleMode::ActiveBlocking,
        module_version: "NGINX Module v0.1.0".to_owned(),
        ..Options::default()
    };
    change(&mut options);
    Policy::compile(options).expect("a valid policy")
}

/// Allow lists of this length each, none of which lets the request pass.
fn allow(options: &mut Options, length: u32) {
    let network = |number: u32| {
        let [.., high, low] = number.to_be_bytes();
        Network::parse(&format!("10.{high}.{low}.0/25")).expect("a network")
    };
    options.filter_by_ip = (0..length).map(network).collect();
    options.whitelist_uri_prefixes =
        (0..length).map(|number| format!("/asset/{number}/")).collect();
    options.whitelist_uri_suffixes = (0..length).map(|number| format!("/{number}.bin")).collect();
}

fn worker() -> Worker {
    Worker::default()
}

fn cookie(token: &str) -> &'static str {
    let before = "_ga=GA1.2.1234567890.1700000000; session=8f14e45fceea167a5a36dedd4bea2543";
    let after = "_pxvid=c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b; \
                 pxcts=0a1b2c3d-1d2e-4f30-8a4b-5c6d7e8f9a0b; cart=3";
    format!("{before}; _px3={token}; {after}").leak()
}

/// Those of a browser.
fn headers(cookie: &str) -> [Header<'_>; 15] {
    [
        ("Host", "shop.example.com"),
        ("User-Agent", USER_AGENT),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"),
        ("Accept-Language", "en-US,en;q=0.7,de;q=0.3"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Referer", "https://shop.example.com/account?from=mail"),
        ("Connection", "keep-alive"),
        ("Cookie", cookie),
        ("Upgrade-Insecure-Requests", "1"),
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-User", "?1"),
        (
            "Sec-CH-UA",
            "\"Chromium\";v=\"130\", \"Test Browser\";v=\"12\", \"Not?A_Brand\";v=\"99\"",
        ),
        ("Cache-Control", "max-age=0"),
    ]
    .map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() })
}

fn request<'r>(headers: &'r [Header<'r>]) -> Request<'r> {
    black_box(Request {
        method: b"GET",
        scheme: "https",
        host: b"shop.example.com",
        target: b"/account/orders?page=2&sort=date",
        http_version: "1.1",
        headers,
        peer_ip: "203.0.113.77",
        request_id: "0f0e0d0c-0b0a-4a0b-8c0d-0e0f00010203",
        tls: Tls {
            protocol: b"TLSv1.3",
            cipher: b"TLS_AES_256_GCM_SHA384",
            server_name: b"shop.example.com",
        },
        hooks: &Hooks::NONE,
        extracted: None,
    })
}

/// Remembers the last token, for good.
#[derive(Default)]
struct One {
    key: Vec<u8>,
    entry: &'static [u8],
}

impl<'r> TokenMemory<'r> for One {
    fn find(&mut self, key: &Key<'_>) -> Option<&'r [u8]> {
        let token = self.key.strip_prefix(&key.secret)?;
        (token == key.token).then_some(self.entry)
    }

    fn store(&mut self, key: &Key<'_>, entry: &[&[u8]]) {
        self.key = [&key.secret, key.token].concat();
        self.entry = entry.concat().leak();
    }
}
