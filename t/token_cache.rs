//! Tests for the px module: `px_token_cache`, authenticated tokens shared by all workers.

mod support;

use std::time::Duration;

use px_sandbox::Sandbox;
use support::{BROWSER, Nginx, Origin, SOON, get, protect, wait_until};

/// A site that tells each visitor what became of the look into the cache.
fn server(sandbox: &Sandbox, origin: &Origin, more: &str) -> String {
    format!(
        "{}{more}\nlocation / {{ {} add_header X-Cache $px_token_cache always; \
         add_header X-Reason $px_pass_reason$px_call_reason always; }}",
        protect(sandbox),
        origin.proxy_pass()
    )
}

fn site(sandbox: &Sandbox, origin: &Origin, more: &str) -> Nginx {
    Nginx::start(&server(sandbox, origin, more))
}

/// What the cache and the enforcer said of a visit with this cookie.
fn visit(nginx: &Nginx, cookie: &str) -> (String, String) {
    let response = get(nginx.addr(), "/", &[&format!("Cookie: {cookie}")]);
    assert_eq!(response.status, 200);
    let said = |name| response.header(name).unwrap_or_default().to_owned();
    (said("x-cache"), said("x-reason"))
}

fn pair(cache: &str, reason: &str) -> (String, String) {
    (cache.to_owned(), reason.to_owned())
}

#[test]
fn a_token_is_authenticated_once_and_reported_alike() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "");
    let cookie = sandbox.mint(BROWSER).cookie();
    assert_eq!(visit(&nginx, &cookie), pair("miss", "cookie"));
    for _ in 0..5 {
        assert_eq!(visit(&nginx, &cookie), pair("hit", "cookie"));
    }
    let activities = sandbox.wait_for_activities(6, SOON);
    let facts = |at: usize| {
        let mut activity = activities[at].clone();
        activity["timestamp"].take();
        for own in ["request_id", "enforcer_start_time"] {
            activity["details"][own].take();
        }
        activity
    };
    assert_eq!(facts(0)["details"]["pass_reason"], "cookie");
    for at in 1..6 {
        assert_eq!(facts(at), facts(0));
    }
    sandbox.assert_no_complaints();
}

#[test]
fn all_workers_share_the_cache() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder().workers(4).server(&server(&sandbox, &origin, "")).start();
    let cookie = sandbox.mint(BROWSER).cookie();
    assert_eq!(visit(&nginx, &cookie).0, "miss");
    for _ in 0..40 {
        assert_eq!(visit(&nginx, &cookie).0, "hit");
    }
}

#[test]
fn a_known_token_is_worth_nothing_to_another_browser() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "");
    let cookie = sandbox.mint(BROWSER).cookie();
    assert_eq!(visit(&nginx, &cookie), pair("miss", "cookie"));
    let stolen =
        get(nginx.addr(), "/", &[&format!("Cookie: {cookie}"), "User-Agent: Another Browser/1.0"]);
    assert_eq!(stolen.header("x-reason"), Some("s2scookie_validation_failed"));
    assert_eq!(visit(&nginx, &cookie), pair("hit", "cookie"));
}

#[test]
fn expiry_and_score_are_judged_on_every_request() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "");
    let cookie = sandbox.mint(BROWSER).expires_in(Duration::from_millis(2500)).cookie();
    assert_eq!(visit(&nginx, &cookie), pair("miss", "cookie"));
    assert_eq!(visit(&nginx, &cookie), pair("hit", "cookie"));
    wait_until("the token to expire", || {
        visit(&nginx, &cookie) == pair("hit", "s2scookie_expired")
    });
    let scored = format!("Cookie: {}", sandbox.mint(BROWSER).score(100).cookie());
    for _ in 0..2 {
        assert_eq!(get(nginx.addr(), "/", &[&scored]).status, 403);
    }
}

#[test]
fn a_reload_keeps_the_tokens_and_a_new_secret_makes_them_unreachable() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_token_cache zone=mine:1m;");
    let cookie = sandbox.mint(BROWSER).cookie();
    assert_eq!(visit(&nginx, &cookie).0, "miss");

    let old = nginx.workers();
    nginx.reload(|conf| conf);
    nginx.wait_for_workers_to_end(&old);
    assert_eq!(visit(&nginx, &cookie), pair("hit", "cookie"));

    let old = nginx.workers();
    let secret = sandbox.app().secret.clone();
    nginx.reload(|conf| conf.replace(&secret, "a-new-secret"));
    nginx.wait_for_workers_to_end(&old);
    assert_eq!(visit(&nginx, &cookie), pair("miss", "s2scookie_decryption_failed"));

    // Rotation: the old secret as the second one reaches them again.
    let old = nginx.workers();
    nginx.reload(|conf| conf.replace("a-new-secret;", &format!("a-new-secret {secret};")));
    nginx.wait_for_workers_to_end(&old);
    assert_eq!(visit(&nginx, &cookie), pair("hit", "cookie"));
    nginx.quit();
}

#[test]
fn the_cache_is_bounded_and_drops_the_least_recently_used() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_token_cache zone=small:512k;");
    // The smallest zone has room for some 330 tokens.
    let mint = || sandbox.mint(BROWSER).iterations(500).cookie();
    let first = mint();
    let mut last = String::new();
    assert_eq!(visit(&nginx, &first).0, "miss");
    for _ in 0..350 {
        last = mint();
        assert_eq!(visit(&nginx, &last).0, "miss");
    }
    assert_eq!(visit(&nginx, &last).0, "hit");
    assert_eq!(visit(&nginx, &first).0, "miss");
    nginx.quit();
}

#[test]
fn off_means_no_cache() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_token_cache off;");
    let cookie = sandbox.mint(BROWSER).cookie();
    for _ in 0..2 {
        assert_eq!(visit(&nginx, &cookie), pair("", "cookie"));
    }
}

#[test]
fn a_value_that_makes_no_sense_is_refused() {
    for (value, reason) in [
        ("on", "it must be \"off\" or \"zone=name:size\""),
        ("zone=px", "it must be \"off\" or \"zone=name:size\""),
        ("zone=:1m", "its zone needs a name of letters, digits, \"_\" and \"-\""),
        ("zone=p/x:1m", "its zone needs a name of letters, digits, \"_\" and \"-\""),
        ("zone=px:100k", "its size must be 512k or more"),
        ("zone=px:much", "its size must be 512k or more"),
    ] {
        let (accepted, text) = Nginx::builder().http(&format!("px_token_cache {value};")).test();
        assert!(!accepted, "{value}");
        let line = format!("invalid value \"{value}\" in \"px_token_cache\" directive, {reason}");
        assert!(text.contains(&line), "{text}");
    }
}

/// Each letter of a cookie may be percent-encoded or not. If each spelling were a token of its own, one
/// visitor with one token could drive out everybody's, and have a key derived with each request.
#[test]
fn one_token_in_many_spellings_is_one_token() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "location = /px-status { px_status; }");
    let token = sandbox.mint(BROWSER).token();
    assert_eq!(visit(&nginx, &format!("_px3={token}")), pair("miss", "cookie"));
    for at in 0..20 {
        let mut spelling = String::new();
        for (place, byte) in token.bytes().enumerate() {
            match byte {
                b':' => spelling.push_str("%3a"),
                byte if place == at => spelling.push_str(&format!("%{byte:02X}")),
                byte => spelling.push(byte.into()),
            }
        }
        assert_eq!(visit(&nginx, &format!("_px3={spelling}")), pair("hit", "cookie"), "{spelling}");
    }
    let status = get(nginx.addr(), "/px-status", &[]).json();
    assert_eq!(status["token_caches"]["px_token_cache"]["entries"], 1, "{status}");
}

/// A token that signs nothing but itself can be sent by an app, and by a browser without a name.
#[test]
fn a_token_has_a_place_as_an_apps_and_one_as_a_browsers() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "");
    let mint = sandbox.mint("").mobile();
    let header = format!("X-PX-AUTHORIZATION: {}", mint.mobile_header());
    let cookie = format!("Cookie: {}", mint.cookie());
    let visit = |header: &str| {
        let response = get(nginx.addr(), "/", &[header, "User-Agent:"]);
        assert_eq!(response.header("x-reason"), Some("cookie"), "{header}");
        response.header("x-cache").map(str::to_owned)
    };
    for expected in ["miss", "hit", "hit"] {
        assert_eq!(visit(&header).as_deref(), Some(expected));
        assert_eq!(visit(&cookie).as_deref(), Some(expected));
    }
}
