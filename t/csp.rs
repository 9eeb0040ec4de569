//! Tests for the px module: Code Defender's Content-Security-Policy on answers.

mod support;

use std::thread;
use std::time::Duration;

use px_sandbox::{Behaviour, CertificateFault, Endpoint, Sandbox};
use serde_json::json;
use support::nginx::send_signal;
use support::{Nginx, Origin, Response, SOON, get, protect, protect_as, wait_until};

const NAME: &str = "content-security-policy";
const REPORT_ONLY: &str = "content-security-policy-report-only";

fn directives(sandbox: &Sandbox, refresh: &str) -> String {
    format!(
        "px_csp_data_url {}/v1/enforcer-data; px_csp_policy_refresh_interval_minutes {refresh};",
        sandbox.url()
    )
}

fn start(sandbox: &Sandbox, origin: &Origin, more: &str) -> Nginx {
    let (own, pass) = (protect(sandbox), origin.proxy_pass());
    let csp = directives(sandbox, "1s");
    Nginx::start(&format!("{own} px_csp_enabled on; {csp} {more} location / {{ {pass} }}"))
}

/// The answer once it has a policy.
fn with_policy(nginx: &Nginx, headers: &[&str]) -> Response {
    let mut found = None;
    wait_until("a policy", || {
        let response = get(nginx.addr(), "/", headers);
        let has_one = response.header(NAME).is_some();
        found = Some(response);
        has_one
    });
    found.unwrap()
}

#[test]
fn every_answer_gets_the_policy_and_the_origins_own_is_replaced() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.set_csp_policy(json!({
        "csp": "default-src 'self'; report-uri https://csp.example.com/r?app=PX1",
        "cspro": "img-src 'none'", "cspro_exposure": 100,
    }));
    let nginx = start(&sandbox, &origin, "px_csp_nonce $http_x_nonce;");
    with_policy(&nginx, &[]);
    origin.answer(200, &["Content-Security-Policy: default-src *"], b"page");
    let response = get(nginx.addr(), "/", &["Cookie: __pxvid=abc-1; _pxvid=no"]);
    let [value] = response.headers(NAME)[..] else { panic!("{response:?}") };
    let (before, session) = value.split_once("&p=").unwrap_or_else(|| panic!("{response:?}"));
    assert_eq!(before, "default-src 'self'; report-uri https://csp.example.com/r?app=PX1");
    let (session, vid) = session.split_once("&v=").expect("a visitor");
    assert_eq!((session.len(), vid), (36, "abc-1"));
    assert_eq!(response.headers(REPORT_ONLY), ["img-src 'none'"]);
    // Another answer, another session; the nonce is the operator's.
    let next = get(nginx.addr(), "/", &["X-Nonce: abc123="]);
    let value = next.header(NAME).unwrap();
    assert!(!value.contains(session) && value.contains("script-src 'nonce-abc123=';"), "{value}");
    // Whatever the verdict; but not what is HUMAN's own.
    let blocked = get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]);
    assert_eq!(blocked.status, 403);
    assert!(blocked.header(NAME).is_some());
    assert_eq!(get(nginx.addr(), "/sandbox1/init.js", &[]).header(NAME), None);
    assert!(get(nginx.addr(), "/style.css", &[]).header(NAME).is_some(), "filtered");
    sandbox.assert_no_complaints();
}

#[test]
fn a_share_of_the_answers_gets_the_report_only_policy() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.set_csp_policy(json!({"csp": "a", "cspro": "b", "cspro_exposure": "40"}));
    let nginx = start(&sandbox, &origin, "px_bot_enforcer off;");
    with_policy(&nginx, &[]);
    let shown =
        (0..200).filter(|_| get(nginx.addr(), "/", &[]).header(REPORT_ONLY).is_some()).count();
    // Forty percent of two hundred, within six standard deviations.
    assert!((38..=122).contains(&shown), "{shown}");
}

#[test]
fn the_policy_follows_its_source_outlives_an_outage_and_expires() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.set_csp_policy(json!({"csp": "first"}));
    let nginx = start(&sandbox, &origin, "px_csp_no_updates_max_interval_minutes 3s;");
    assert_eq!(with_policy(&nginx, &[]).header(NAME), Some("first"));
    sandbox.set_csp_policy(json!({"csp": "second"}));
    wait_until("the second policy", || get(nginx.addr(), "/", &[]).header(NAME) == Some("second"));
    for behaviour in [
        Behaviour::Status(500),
        Behaviour::Body(b"{}".to_vec()),
        Behaviour::Body(br#"{"success":true,"data":"e30="}"#.to_vec()),
    ] {
        sandbox.clear();
        sandbox.behave_at(Endpoint::CspPolicy, behaviour);
        sandbox.wait_for(Endpoint::CspPolicy, 1, SOON);
        let seen = get(nginx.addr(), "/", &[]);
        assert!(matches!(seen.header(NAME), Some("second") | None), "{seen:?}");
    }
    wait_until("the policy's end", || get(nginx.addr(), "/", &[]).header(NAME).is_none());
    nginx.wait_for_error_log("the CSP policy could not be fetched");
    sandbox.behave_well();
    assert_eq!(with_policy(&nginx, &[]).header(NAME), Some("second"));
}

#[test]
fn switched_off_nothing_is_fetched() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let (own, pass) = (protect(&sandbox), origin.proxy_pass());
    let csp = directives(&sandbox, "1s");
    for more in ["", "px_code_enforcer on; px_csp_enabled off;"] {
        let nginx = Nginx::start(&format!("{own} {csp} {more} location / {{ {pass} }}"));
        thread::sleep(Duration::from_millis(1500));
        assert!(sandbox.received_at(Endpoint::CspPolicy).is_empty(), "{more}");
        assert_eq!(get(nginx.addr(), "/", &[]).header(NAME), None);
    }
    let nginx = Nginx::start(&format!("{own} {csp} px_code_enforcer on; location / {{ {pass} }}"));
    with_policy(&nginx, &[]);
}

#[test]
fn one_worker_fetches_for_all_and_another_takes_over_where_it_dies() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.set_csp_policy(json!({"csp": "first"}));
    let (own, pass) = (protect(&sandbox), origin.proxy_pass());
    let csp = directives(&sandbox, "1s");
    let mut nginx = Nginx::builder()
        .workers(3)
        .listen("reuseport")
        .server(&format!(
            "{own} px_csp_enabled on; {csp} add_header X-Worker $pid; location / {{ {pass} }}"
        ))
        .start();
    nginx.lenient();
    wait_until("the policy in every worker", || {
        let mut workers = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let response = get(nginx.addr(), "/", &[]);
            if response.header(NAME).is_none() {
                return false;
            }
            workers.insert(response.header("x-worker").unwrap().to_owned());
        }
        workers.len() > 1
    });
    // One connection: one worker asks.
    sandbox.clear();
    let asked = sandbox.wait_for(Endpoint::CspPolicy, 3, SOON);
    let connections: std::collections::BTreeSet<u64> =
        asked.iter().map(|asked| asked.connection).collect();
    assert_eq!(connections.len(), 1);
    // Every worker is killed once: whoever polled is dead then.
    for pid in nginx.wait_for_workers(3) {
        send_signal(pid, libc::SIGKILL);
        wait_until("a new worker", || {
            let workers = nginx.workers();
            workers.len() == 3 && !workers.contains(&pid)
        });
        sandbox.clear();
        sandbox.wait_for(Endpoint::CspPolicy, 2, SOON);
        assert!(get(nginx.addr(), "/", &[]).header(NAME).is_some(), "what was known stays");
    }
    // A reload keeps the policy and goes on fetching.
    let old = nginx.workers();
    nginx.reload(|conf| conf);
    assert!(get(nginx.addr(), "/", &[]).header(NAME).is_some());
    nginx.wait_for_workers_to_end(&old);
    sandbox.set_csp_policy(json!({"csp": "second"}));
    wait_until("the second policy", || get(nginx.addr(), "/", &[]).header(NAME) == Some("second"));
}

#[test]
fn the_policy_comes_over_verified_tls_only() {
    let origin = Origin::start();
    for (fault, comes) in [(CertificateFault::None, true), (CertificateFault::Expired, false)] {
        let sandbox = Sandbox::builder().certificate_fault(fault).start().unwrap();
        let url = format!("https://localhost:{}", sandbox.port());
        sandbox.set_csp_policy(json!({"csp": "secure"}));
        let nginx = Nginx::builder()
            .server(&format!(
                "{} px_ssl_trusted_certificate ca.pem; px_csp_enabled on; \
                 px_csp_data_url {url}/v1/enforcer-data; location / {{ {} }}",
                protect_as(sandbox.app(), &url, &url),
                origin.proxy_pass()
            ))
            .start_with(|dir| {
                std::fs::write(dir.join("ca.pem"), sandbox.ca_pem().unwrap()).unwrap();
            });
        if comes {
            assert_eq!(with_policy(&nginx, &[]).header(NAME), Some("secure"));
        } else {
            nginx.wait_for_error_log("the CSP policy could not be fetched");
            assert_eq!(get(nginx.addr(), "/", &[]).header(NAME), None);
        }
    }
}
