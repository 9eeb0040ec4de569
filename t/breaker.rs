//! Tests for the px module: circuit breaker of the Risk API.

mod support;

use std::time::Duration;

use px_sandbox::{Behaviour, Endpoint, Sandbox};
use support::{Nginx, Origin, SOON, get, protect, wait_until};

/// A site whose breaker opens after three failures.
fn site(sandbox: &Sandbox, origin: &Origin, workers: u32) -> Nginx {
    Nginx::builder()
        .workers(workers)
        .server(&format!(
            "{}px_max_errors_threshold 3;\nlocation / {{ {} }}",
            protect(sandbox),
            origin.proxy_pass()
        ))
        .start()
}

#[test]
fn after_too_many_failures_visitors_pass_without_a_call() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, 1);
    sandbox.behave_at(Endpoint::RiskApi, Behaviour::Status(500));
    for _ in 0..20 {
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    }
    // Three that failed, and at most one probe a second.
    let calls = sandbox.risk_calls().len();
    assert!((3..=6).contains(&calls), "{calls} calls");
    assert_eq!(origin.requests().len(), 20);
    let log = nginx.wait_for_error_log("visitors pass without a call");
    assert_eq!(log.matches("visitors pass without a call").count(), 1);

    let activities = sandbox.wait_for_activities(20, SOON);
    let without_call = activities
        .iter()
        .filter(|a| a["details"]["s2s_error_reason"] == "unable_to_send_request")
        .inspect(|a| assert!(a["details"]["s2s_call_reason"].is_null()))
        .count();
    assert_eq!(without_call, 20 - calls);
    assert!(activities.iter().all(|a| a["details"]["pass_reason"] == "s2s_error"));
    sandbox.assert_no_complaints();
}

#[test]
fn one_probe_finds_out_that_the_backend_is_back() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, 1);
    sandbox.go_down();
    for _ in 0..5 {
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    }
    nginx.wait_for_error_log("visitors pass without a call");
    sandbox.come_back().unwrap();
    // A bad bot is blocked again as soon as calls are made again.
    let bot = ["User-Agent: PhantomJS/1.0"];
    wait_until("the breaker to close", || get(nginx.addr(), "/", &bot).status == 403);
    nginx.wait_for_error_log("is back");
}

#[test]
fn workers_share_one_breaker() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, 4);
    sandbox.behave_at(Endpoint::RiskApi, Behaviour::Status(503));
    for _ in 0..40 {
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    }
    // Each worker with a breaker of its own would have made three.
    let calls = sandbox.risk_calls().len();
    assert!((3..=7).contains(&calls), "{calls} calls");
}

#[test]
fn a_threshold_of_zero_calls_for_ever() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::start(&format!(
        "{}px_max_errors_threshold 0;\nlocation / {{ {} }}",
        protect(&sandbox),
        origin.proxy_pass()
    ));
    sandbox.behave_at(Endpoint::RiskApi, Behaviour::Status(500));
    for _ in 0..15 {
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    }
    assert_eq!(sandbox.risk_calls().len(), 15);
}

#[test]
fn failures_that_are_further_apart_than_the_interval_open_nothing() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::start(&format!(
        "{}px_max_errors_threshold 3; px_errors_count_interval 100ms;\nlocation / {{ {} }}",
        protect(&sandbox),
        origin.proxy_pass()
    ));
    sandbox.behave_at(Endpoint::RiskApi, Behaviour::Status(500));
    for _ in 0..6 {
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(sandbox.risk_calls().len(), 6);
    assert!(!nginx.quit().contains("visitors pass without a call"));
}

/// What the Risk API refuses is the visitor's doing, headers that are too large above all. Nobody is to
/// switch it off for everybody else with ten of them.
#[test]
fn requests_that_the_risk_api_refuses_open_nothing() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, 1);
    for status in [400, 403, 413, 431] {
        sandbox.clear();
        sandbox.behave_at(Endpoint::RiskApi, Behaviour::Status(status));
        for _ in 0..5 {
            assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
        }
        assert_eq!(sandbox.risk_calls().len(), 5, "{status}");
    }
    sandbox.behave_well();
    assert_eq!(get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]).status, 403);
    assert!(!nginx.error_log().contains("visitors pass without a call"));
    // It is out of order where it says so itself.
    for status in [429, 503] {
        let nginx = site(&sandbox, &origin, 1);
        sandbox.behave_at(Endpoint::RiskApi, Behaviour::Status(status));
        for _ in 0..3 {
            assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
        }
        nginx.wait_for_error_log("visitors pass without a call");
    }
}
