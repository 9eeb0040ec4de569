//! A policy, a request and tokens that tests start from.

use crate::enforce::{self, Outcome, Pending, Step, Verdict, Worker};
use crate::hooks::Hooks;
use crate::policy::{Options, Policy, Secret};
use crate::reason::ModuleMode;
use crate::request::{Header, Request, Tls};
use crate::token_memory::NoMemory;

/// The clock of the tests, ms since the epoch.
pub(crate) const NOW: u64 = 1_750_000_000_000;

pub(crate) const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) TestBrowser/12.3";

/// Valid for [`USER_AGENT`] until five minutes after [`NOW`], score 0 (risk-token-v3.json).
pub(crate) const GOOD_COOKIE: &str = "_px3=664d66673a5f3e8e10cebeb4a7b9d223dabf5eb23c412933f961dab7\
    71b987dd:bWFkZS11cC1zYWx0LTEyMw==:1000:ncDau6nKUyKi/4AETvUULI3uWpAy8s3cNseE3GEeZXpVA+wJ1RhteWj\
    8bqYANt1+FT2iHFMMVdl2+cU/vWKJZH2bXp6BSmNga6UkIDN+AQuGrvYiKPT0fu+9gFrMWGDo76fuhXJDfbBb7BujarpzJ\
    PvtXJ0CoJcnlMAK7Y9Hfgc=";

/// As [`GOOD_COOKIE`], score 100, action `c`.
pub(crate) const HIGH_COOKIE: &str = "_px3=dcaceabe91e1f70310710ec57c742df11d8f4c4618a4aab49e1dffc6\
    3b46e6aa:bWFkZS11cC1zYWx0LTEyMw==:1000:ncDau6nKUyKi/4AETvUULI3uWpAy8s3cNseE3GEeZXpVA+wJ1RhteWj\
    8bqYANt1+FT2iHFMMVdl2+cU/vWKJZH2bXp6BSmNga6UkIDN+AQuGrvYiKPT0fu+9gFrMWGDot5CNqQssnpsx7yOmbiiM2\
    2bTf1f1WGATI5BS7D/nBuw=";

/// uuid and vid of [`GOOD_COOKIE`].
pub(crate) const UUID: &str = "7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa";
pub(crate) const VID: &str = "c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b";

/// An enabled policy in blocking mode, changed as a test wants it.
pub(crate) fn policy(change: impl FnOnce(&mut Options)) -> Policy {
    let mut options = Options {
        app_id: "PXabcd1234".to_owned(),
        auth_token: Secret::new("made.up.auth-token_0123456789".to_owned()),
        cookie_secrets: vec![Secret::new("s3cret-A-made-up-for-tests-0000001".to_owned())],
        enabled: true,
        module_mode: ModuleMode::ActiveBlocking,
        module_version: "test 1".to_owned(),
        ..Options::default()
    };
    change(&mut options);
    Policy::compile(options).expect("a valid policy")
}

pub(crate) fn headers<'a>(list: &[(&'a str, &'a str)]) -> Vec<Header<'a>> {
    let header = |(name, value): &(&'a str, &'a str)| Header {
        name: name.as_bytes(),
        value: value.as_bytes(),
    };
    list.iter().map(header).collect()
}

/// `GET https://shop.example.com/account?x=1`
pub(crate) fn request<'r>(headers: &'r [Header<'r>]) -> Request<'r> {
    Request {
        method: b"GET",
        scheme: "https",
        host: b"shop.example.com",
        target: b"/account?x=1",
        http_version: "1.1",
        headers,
        peer_ip: "203.0.113.77",
        request_id: "0f0e0d0c-0b0a-4a0b-8c0d-0e0f00010203",
        tls: Tls::default(),
        hooks: &Hooks::NONE,
        extracted: None,
    }
}

pub(crate) fn begin<'r>(request: &Request<'r>, policy: &Policy) -> Step<'r> {
    enforce::begin(request, policy, &mut Worker::default(), &mut NoMemory, NOW)
}

/// The request must lead to the Risk API.
pub(crate) fn pending<'r>(request: &Request<'r>, policy: &Policy) -> Pending<'r> {
    match begin(request, policy) {
        Step::AskRisk(pending) => *pending,
        _ => panic!("the Risk API is not asked"),
    }
}

/// The verdict on a request to which the Risk API answers `body` with status 200 after 37 ms.
pub(crate) fn verdict<'r>(request: &Request<'r>, policy: &Policy, body: &str) -> Verdict<'r> {
    let answer = Outcome::Answer { status: 200, body: body.as_bytes() };
    enforce::resume(pending(request, policy), answer, policy, NOW + 37)
}
