//! Tests for the px module: what it tells HUMAN of itself without being asked, and the log records that
//! a request asks for.

mod support;

use std::time::Duration;

use px_sandbox::{Behaviour, Endpoint, Sandbox};
use serde_json::Value;
use support::{Nginx, Origin, SOON, get, protect};

fn start(sandbox: &Sandbox, origin: &Origin, workers: u32, more: &str) -> Nginx {
    let own = protect(sandbox).replace("px_initial_telemetry_enabled off;", "");
    Nginx::builder()
        .workers(workers)
        .server(&format!("{own} {more} location / {{ {} }}", origin.proxy_pass()))
        .start()
}

#[test]
fn human_is_told_of_a_configuration_once_when_it_is_new() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, 3, "px_blocking_score 90;");
    let told = sandbox.wait_for(Endpoint::Telemetry, 1, SOON);
    let details = told[0].json()["details"].clone();
    assert_eq!(details["update_reason"], "initial_config");
    assert_eq!(details["enforcer_configs"]["active_config"]["px_blocking_score"], 90);
    assert!(details.get("request_id").is_none());
    let metadata: Value = serde_json::from_str(include_str!("../px_metadata.json")).unwrap();
    assert_eq!(details["supported_features"], metadata["supported_features"]);
    assert!(!told[0].text().contains(&sandbox.app().secret));

    // The same again is no news, another one is.
    nginx.wait_for_workers(3);
    nginx.reload(|conf| conf);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(sandbox.telemetry().len(), 1);
    nginx.reload(|conf| conf.replace("px_blocking_score 90", "px_blocking_score 80"));
    let told = sandbox.wait_for(Endpoint::Telemetry, 2, SOON);
    let config = &told[1].json()["details"]["enforcer_configs"]["active_config"];
    assert_eq!(config["px_blocking_score"], 80);
    sandbox.assert_no_complaints();
    // And it can be switched off.
    let silent = Sandbox::start().unwrap();
    let _nginx = start(&silent, &origin, 1, "px_initial_telemetry_enabled off;");
    std::thread::sleep(Duration::from_millis(500));
    assert!(silent.telemetry().is_empty());
}

#[test]
fn the_metadata_are_those_of_this_module() {
    let metadata: Value = serde_json::from_str(include_str!("../px_metadata.json")).unwrap();
    assert_eq!(metadata["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(metadata["module_name"], "ngx_http_px_module");
    assert_eq!(metadata["spec_version"], "1.0.0");
    let words = metadata["supported_features"].as_array().unwrap();
    let words: Vec<_> = words.iter().map(|word| word.as_str().unwrap()).collect();
    let mut sorted = words.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(words, sorted);
}

const LOG_TOKEN: &str = "log-token-for-nobody-else";

#[test]
fn log_records_are_shipped_for_who_knows_the_token() {
    let sandbox = Sandbox::builder().logger_token(LOG_TOKEN).start().unwrap();
    let origin = Origin::start();
    let nginx = start(
        &sandbox,
        &origin,
        1,
        &format!(
            "px_initial_telemetry_enabled off; px_logger_auth_token {LOG_TOKEN};
             location = /hang {{ px_s2s_timeout 300; {} }}",
            origin.proxy_pass()
        ),
    );
    for (header, shipped) in [("wrong", 0), ("", 0), (LOG_TOKEN, 1)] {
        get(nginx.addr(), "/a?b=c", &[&format!("X-PX-Enforcer-Log: {header}")]);
        if shipped == 1 {
            sandbox.wait_for(Endpoint::EnforcerLogs, 1, SOON);
        }
        assert_eq!(sandbox.received_at(Endpoint::EnforcerLogs).len(), shipped, "{header}");
    }
    let records = sandbox.log_records();
    let messages: Vec<_> = records.iter().map(|r| r["message"].as_str().unwrap()).collect();
    assert!(messages.contains(&"Risk API is asked because of no_cookie"), "{messages:?}");
    assert!(messages.last().unwrap().starts_with("verdict pass, reason s2s, score 0"));
    assert!(records.iter().all(|record| record["path"] == "/a?b=c"));
    // Whoever sees the origin's or HUMAN's side of a request does not learn the token.
    assert!(origin.texts().iter().all(|text| !text.contains(LOG_TOKEN)));
    let reported = sandbox.risk_calls().iter().any(|call| call.text().contains(LOG_TOKEN));
    assert!(!reported);
    // A failing call is told as an error.
    sandbox.behave(Behaviour::Hang);
    get(nginx.addr(), "/hang", &[&format!("X-PX-Enforcer-Log: {LOG_TOKEN}")]);
    sandbox.wait_for(Endpoint::EnforcerLogs, 2, SOON);
    let errors = sandbox.log_records().into_iter().filter(|record| record["severity"] == "error");
    assert_eq!(
        errors.map(|record| record["message"].clone()).collect::<Vec<_>>(),
        ["Risk API has not answered in time"]
    );
    sandbox.behave_well();
    sandbox.assert_no_complaints();
}
