//! Micro-benchmarks of px-core: what single steps of a request cost, in wall time.
//!
//! Through the doors the module uses. The cookies are minted by px-sandbox; `bench/budget` counts
//! instructions of similar steps, which is what to look at when code changes.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Bencher, Criterion, criterion_group, criterion_main};
use px_core::enforce::{self, Action, OriginResponse, Outcome, PageAssets, Pending, Step, Verdict, Worker};
use px_core::filter::Network;
use px_core::hooks::Hooks;
use px_core::policy::{Options, Policy, Secret, TokenVersion};
use px_core::reason::ModuleMode;
use px_core::request::{Header, Request, Tls};
use px_core::routes::RoutePattern;
use px_core::token_cache::{Header as TableHeader, Link, Slot, Table};
use px_core::token_memory::{Key, NoMemory, TokenMemory};
use px_sandbox::{APP_ID, AUTH_TOKEN, COOKIE_SECRET, Mint};
use sha2::Sha256;

const NOW: u64 = 1_750_000_000_000;
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64) BenchBrowser/1.0";

/// What a browser accepts when it loads a page.
const PAGE: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

const HUMAN: &[u8] = br#"{"status":0,"uuid":"7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa","score":0,
    "action":"c","risk_info":"none"}"#;
const BOT: &[u8] = br#"{"status":0,"uuid":"7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa","score":100,
    "action":"c","risk_info":"none"}"#;

criterion_group! {
    name = core;
    config = Criterion::default().warm_up_time(Duration::from_millis(500));
    targets = token, filters, reports, answers, cache
}
criterion_main!(core);

fn token(c: &mut Criterion) {
    let mut group = c.benchmark_group("token");
    let good = mint(Mint::v3);
    let policy = policy(|options| options.forged_cookie_budget = 0);

    group.bench_function("v3 cached", |b| passes(b, &policy, &good.cookie(), Memory::default()));
    group.bench_function("v3 uncached", |b| passes(b, &policy, &good.cookie(), NoMemory));
    group.bench_function("pbkdf2 and sha2 alone", |b| {
        b.iter(|| {
            let mut key = [0; 48];
            pbkdf2::pbkdf2_hmac::<Sha256>(
                COOKIE_SECRET.as_bytes(),
                black_box(&[7; 16]),
                1000,
                &mut key,
            );
            key
        });
    });
    let forged = good.clone().iterations(5000).broken_hmac().cookie();
    group.bench_function("v3 forged, beyond the budget", |b| asks(b, &policy, &forged));
    // An HMAC and the payload, but no key derivation and no cipher.
    let v2 = self::policy(|options| options.token_version = TokenVersion::V2);
    group.bench_function("v2: HMAC and payload", |b| {
        passes(b, &v2, &mint(Mint::v2).cookie(), NoMemory)
    });
}

fn filters(c: &mut Criterion) {
    let mut group = c.benchmark_group("filters");
    let cookie = mint(Mint::v3).cookie();
    for length in [0, 10, 10_000] {
        let networks = policy(|options| options.filter_by_ip = (0..length).map(network).collect());
        group.bench_function(format!("cached token after {length} networks"), |b| {
            passes(b, &networks, &cookie, Memory::default());
        });
        let routes = policy(|options| options.filter_by_route = (0..length).map(route).collect());
        group.bench_function(format!("cached token after {length} routes"), |b| {
            passes(b, &routes, &cookie, Memory::default());
        });
    }
    let policy = policy(|_| ());
    let style = Request { target: b"/static/app.3f2a1b.css?v=12", ..visit(&cookie, PAGE) };
    group.bench_function("filtered by extension", |b| {
        b.iter(|| {
            let step = begin(black_box(&style), &policy, &mut NoMemory);
            assert!(matches!(step, Step::Filtered(_)));
        });
    });
}

fn reports(c: &mut Criterion) {
    let mut group = c.benchmark_group("reports");
    let policy = policy(|_| ());
    group.bench_function("first look with Risk API body", |b| asks(b, &policy, "cart=3"));

    let request = visit(&mint(Mint::v3).cookie(), PAGE);
    let Step::Decided(verdict) = begin(&request, &policy, &mut NoMemory) else {
        panic!("the token does not pass")
    };
    let mut out = Vec::with_capacity(16 << 10);
    let response = OriginResponse { status: Some(200), ..OriginResponse::default() };
    group.bench_function("activity", |b| {
        b.iter(|| {
            out.clear();
            assert!(black_box(&verdict).activity(&policy, &response, NOW, &mut out));
        });
    });
}

fn answers(c: &mut Criterion) {
    let mut group = c.benchmark_group("answers");
    let policy = policy(|options| options.enable_json_response = true);
    let (page, api) = (visit("cart=3", PAGE), visit("cart=3", "application/json"));

    group.bench_function("Risk API answer", |b| {
        b.iter_batched(
            || pending(&page, &policy),
            |pending| judge(pending, &policy, HUMAN),
            BatchSize::SmallInput,
        );
    });
    for (name, request) in [("block page", &page), ("block answer in JSON", &api)] {
        let verdict = judge(pending(request, &policy), &policy, BOT);
        group.bench_function(name, |b| {
            b.iter(|| {
                black_box(&verdict).answer(&policy, &PageAssets::default()).expect("blocked")
            });
        });
    }
}

fn cache(c: &mut Criterion) {
    const ENTRIES: u64 = 5000;
    let mut group = c.benchmark_group("token cache");
    let (mut header, mut buckets) = (TableHeader::default(), vec![Link::default(); 5000]);
    let mut slots = vec![Slot::default(); 5000];
    let mut table = Table { header: &mut header, buckets: &mut buckets, slots: &mut slots };
    let (token, entry) = ([b'x'; 300], [b'y'; 300]);
    let hash = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut number = 0;
    let mut next = move || {
        number += 1;
        number
    };
    for number in 0..ENTRIES {
        assert!(table.store(hash(number), &[&number.to_le_bytes(), &token], &[&entry]));
    }
    group.bench_function("find one of 5,000", |b| {
        b.iter(|| {
            let number = next() % ENTRIES;
            let found = table.find(hash(number), &[&number.to_le_bytes(), &token]);
            black_box(found.expect("stored before"));
        });
    });
    group.bench_function("store in place of the oldest", |b| {
        b.iter(|| {
            let number = ENTRIES + next();
            assert!(table.store(hash(number), &[&number.to_le_bytes(), &token], &[&entry]));
        });
    });
}

/// A first look at a visit with this cookie, which passes.
fn passes(
    b: &mut Bencher<'_>,
    policy: &Policy,
    cookie: &str,
    mut memory: impl TokenMemory<'static>,
) {
    let request = visit(cookie, PAGE);
    b.iter(|| match begin(black_box(&request), policy, &mut memory) {
        Step::Decided(verdict) => assert_eq!(verdict.action, Action::Pass),
        _ => panic!("the token does not pass"),
    });
}

/// A first look at a visit with this cookie, up to the body of the Risk API request.
fn asks(b: &mut Bencher<'_>, policy: &Policy, cookie: &str) {
    let request = visit(cookie, PAGE);
    b.iter(|| assert!(!pending(black_box(&request), policy).risk_body().is_empty()));
}

fn begin<'r>(request: &Request<'r>, policy: &Policy, memory: &mut dyn TokenMemory<'r>) -> Step<'r> {
    enforce::begin(request, policy, &mut Worker::default(), memory, NOW)
}

fn pending<'r>(request: &Request<'r>, policy: &Policy) -> Pending<'r> {
    match begin(request, policy, &mut NoMemory) {
        Step::AskRisk(pending) => *pending,
        _ => panic!("the Risk API is not asked"),
    }
}

fn judge<'r>(pending: Pending<'r>, policy: &Policy, body: &[u8]) -> Verdict<'r> {
    enforce::resume(pending, Outcome::Answer { status: 200, body }, policy, NOW + 20)
}

fn mint(version: fn(&'static str) -> Mint) -> Mint {
    version(COOKIE_SECRET).user_agent(BROWSER).expires_at(NOW + 300_000)
}

fn network(number: u32) -> Network {
    let [.., high, low] = number.to_be_bytes();
    Network::parse(&format!("10.{high}.{low}.0/24")).expect("a network")
}

fn route(number: u32) -> RoutePattern {
    RoutePattern::parse(&format!("/asset/{number}/")).expect("a route")
}

fn policy(change: impl FnOnce(&mut Options)) -> Policy {
    let mut options = Options {
        app_id: APP_ID.to_owned(),
        auth_token: Secret::new(AUTH_TOKEN.to_owned()),
        cookie_secrets: vec![Secret::new(COOKIE_SECRET.to_owned())],
        enabled: true,
        module_mode: ModuleMode::ActiveBlocking,
        ..Options::default()
    };
    change(&mut options);
    Policy::compile(options).expect("a valid policy")
}

/// A browser's request. It lives for good: so may what a memory gives out for it.
fn visit(cookie: &str, accept: &'static str) -> Request<'static> {
    let cookie: &'static str = format!("session=1; {cookie}; theme=dark").leak();
    let headers = [
        ("Host", "shop.test"),
        ("User-Agent", BROWSER),
        ("Accept", accept),
        ("Accept-Language", "en-GB,en;q=0.9"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Referer", "https://shop.test/"),
        ("Cookie", cookie),
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    let header = |(name, value): (&'static str, &'static str)| Header {
        name: name.as_bytes(),
        value: value.as_bytes(),
    };
    Request {
        method: b"GET",
        scheme: "https",
        host: b"shop.test",
        target: b"/shop/item?id=42",
        http_version: "1.1",
        headers: Vec::leak(headers.map(header).to_vec()),
        peer_ip: "203.0.113.77",
        request_id: "0f0e0d0c-0b0a-4a0b-8c0d-0e0f00010203",
        tls: Tls::default(),
        hooks: &Hooks::NONE,
        extracted: None,
    }
}

/// Remembers every token, for good.
#[derive(Default)]
struct Memory(HashMap<Vec<u8>, &'static [u8]>);

impl<'r> TokenMemory<'r> for Memory {
    fn find(&mut self, key: &Key<'_>) -> Option<&'r [u8]> {
        self.0.get(key.token).copied()
    }

    fn store(&mut self, key: &Key<'_>, entry: &[&[u8]]) {
        self.0.insert(key.token.to_vec(), entry.concat().leak());
    }
}
