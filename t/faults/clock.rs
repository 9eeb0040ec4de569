//! The time of day is set, forward and back, while visitors come.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use px_sandbox::{Behaviour, Endpoint, Sandbox};
use serde_json::json;

use crate::load::{Answer, Class, Load};
use crate::machine::{self, Tell};
use crate::matrix::{Row, Sign};
use crate::site::{Backend, Plan, Site};
use crate::support::{BROWSER, get};

const MINUTE: i64 = 60 * 1000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn plan(plan: &mut Plan) {
    machine::may_fail(plan);
    let risk_api = Sandbox::builder().clock_checks(false).start().expect("a free port");
    plan.replace(Backend::RiskApi, risk_api);
    // Reports on requests that are under way when the clock is set bear times of before and after.
    let collector = Sandbox::builder().checks(false).start().expect("a free port");
    plan.replace(Backend::Collector, collector);
    plan.scripts.set_csp_policy(json!({"csp": "default-src 'self'"}));
    plan.server.push_str(&format!(
        "px_csp_enabled on; px_csp_data_url {}/v1/enforcer-data; \
         px_csp_policy_refresh_interval_minutes 1s; px_csp_no_updates_max_interval_minutes 30m;",
        plan.scripts_url
    ));
}

/// Whether a cookie that is good for so long, by the clock of the test, passes.
fn passes(site: &Site, good_for: i64) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let until = u64::try_from(i64::try_from(now).expect("in range") + good_for).expect("in range");
    let mint = site.risk_api.mint(BROWSER).score(0).expires_at(until);
    let echo = get(site.nginx.addr(), "/page", &[&format!("Cookie: {}", mint.cookie())]).text();
    echo.to_ascii_lowercase().contains("x-verdict: pass cookie")
}

fn set(site: &Site, load: &Load, ahead: i64) {
    let margin = HOUR / 2;
    assert!(passes(site, margin) && !passes(site, -margin));
    // Calls are under way when it happens.
    site.risk_api.behave(Behaviour::Delay(Duration::from_millis(100)));
    load.go_on();
    machine::tell(site, Tell::Ahead, ahead);
    // nginx reads the clock once per turn of its event loop.
    load.wait_for("cookies judged by the clock", || {
        passes(site, ahead + margin) && !passes(site, ahead - margin)
    });
    // What is due goes on as before.
    let fetches = || site.scripts.received_at(Endpoint::CspPolicy).len();
    let before = fetches();
    load.wait_for("two fetches more", || fetches() >= before + 2);
    let has_policy = || {
        let good = format!("Cookie: {}", site.risk_api.mint(BROWSER).expires_in(DURATION).cookie());
        get(site.nginx.addr(), "/page", &[&good]).header("content-security-policy").is_some()
    };
    load.wait_for("a policy", has_policy);
    site.risk_api.behave_well();
}

/// Longer than any clock is set.
const DURATION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Calls took what they took.
fn has_true_times(site: &Site) -> bool {
    let calls = site.metric("px_risk_api_duration_seconds_count", &[]);
    let sum = site.metric("px_risk_api_duration_seconds_sum", &[]);
    calls > 0.0 && sum < 1000.0
}

fn is_told_true_times(site: &Site) -> bool {
    let activities = site.collector.activities();
    let mut times = activities.iter().filter_map(|one| one["details"]["risk_rtt"].as_u64());
    times.all(|ms| ms < 20_000)
}

fn row(name: &'static str, fault: &'static str, ahead: i64) -> Row {
    Row::new(name, fault)
        .plan(plan)
        .strike(move |site, load| set(site, load, ahead))
        .sign(Sign::other("true times of calls, in metrics and reports", |site| {
            has_true_times(site) && is_told_true_times(site)
        }))
        .sign(Sign::other("what is fetched goes on being fetched", |_| true))
        .mend(|site, _| machine::tell(site, Tell::Ahead, 0))
        .in_the_end(|site| {
            let activities = site.collector.activities();
            let mut ids: Vec<_> =
                activities.iter().filter_map(|one| one["details"]["request_id"].as_str()).collect();
            let count = ids.len();
            ids.sort_unstable();
            ids.dedup();
            count > 100 && ids.len() == count
        })
}

fn while_the_breaker_is_open() -> Row {
    Row::new(
        "clock_back_while_the_breaker_is_open",
        "clock: set back by a day while the Risk API is down and its circuit breaker open",
    )
    .plan(|site| {
        plan(site);
        site.location.push_str("px_max_errors_threshold 5;");
    })
    .strike(|site, load| {
        site.risk_api.go_down();
        load.wait_for("an open breaker", || {
            site.metric("px_risk_api_calls_not_made_total", &[]) > 0.0
        });
        machine::tell(site, Tell::Ahead, -DAY);
    })
    .during(&Class::ASKED_ABOUT, &[Answer::Origin("pass s2s_error")])
    .sign(Sign::Line("px: too many failures of the Risk API"))
    .mend(|site, _| site.risk_api.come_back().expect("the port is free"))
    .mended_when(|site| {
        let is_back = site.nginx.error_log().contains("is back");
        is_back && site.metric("px_circuit_breaker_state", &[]) == 0.0
    })
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("clock_forward", "clock: set forward by an hour", HOUR),
        row("clock_back_an_hour", "clock: set back by an hour", -HOUR),
        row("clock_back_a_day", "clock: set back by a day", -DAY),
        while_the_breaker_is_open(),
    ]
}
