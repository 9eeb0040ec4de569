//! Tests for the px module: the remote configuration, from HUMAN's message to every worker.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use px_sandbox::{Behaviour, Endpoint, Reply, Sandbox};
use serde_json::{Value, json};
use support::{Connection, Nginx, Origin, Response, SOON, get, protect, request, wait_until};

const TOKEN: &str = "remote-config-token-for-nobody-else";
const BOT: &[&str] = &["User-Agent: PhantomJS/1.0"];

fn sandbox() -> Sandbox {
    Sandbox::builder().remote_config_token(TOKEN).start().unwrap()
}

fn server(sandbox: &Sandbox, origin: &Origin, more: &str) -> String {
    format!(
        "{} px_remote_config_id rc-1; px_remote_config_auth_token {TOKEN}; \
         px_remote_config_refresh_interval off; px_remote_config_retry_interval_ms 100; {more} \
         location / {{ {} }}",
        protect(sandbox),
        origin.proxy_pass()
    )
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// HUMAN's message, signed with `secret`.
fn push(nginx: &Nginx, secret: &str, body: &str) -> Response {
    let signed = Sandbox::sign(secret, now_ms() + 60_000);
    let headers = ["X-PX-Feature: enforcer_config", &format!("X-PX-PushData: {signed}")];
    request(nginx.addr(), "POST", "/any/where", &headers, body.as_bytes())
}

/// What the activities of new requests say of the version in effect; `Null`: none.
fn version(sandbox: &Sandbox, nginx: &Nginx) -> Value {
    sandbox.clear();
    get(nginx.addr(), "/", &[]);
    let call = sandbox.wait_for_risk_calls(1, SOON)[0].json();
    call["additional"].get("remote_config_version").cloned().unwrap_or_default()
}

#[track_caller]
fn wait_for_version(sandbox: &Sandbox, nginx: &Nginx, wanted: u64) {
    wait_until(&format!("version {wanted}"), || version(sandbox, nginx) == wanted);
}

fn values(mode: &str) -> Value {
    json!({"px_remote_config_enabled": true, "px_module_mode": mode})
}

#[test]
fn a_message_of_humans_is_answered_at_once_and_changes_how_requests_are_judged() {
    let (sandbox, origin) = (sandbox(), Origin::start());
    let nginx = Nginx::start(&server(&sandbox, &origin, "location = /_status { px_status; }"));
    assert_eq!(get(nginx.addr(), "/", BOT).status, 403);
    assert_eq!(version(&sandbox, &nginx), Value::Null);

    origin.clear();
    sandbox.set_remote_config("rc-1", 7, values("monitor"));
    let answer = push(&nginx, TOKEN, "{\"version\":7}");
    assert_eq!((answer.status, &*answer.text()), (200, "OK"));
    assert!(origin.requests().is_empty(), "the origin hears nothing of it");
    wait_for_version(&sandbox, &nginx, 7);
    assert_eq!(get(nginx.addr(), "/", BOT).text(), "origin");
    // Those of the visits before may still be on their way.
    let of_version = || {
        sandbox.activities().into_iter().find(|one| one["details"]["remote_config_version"] == 7)
    };
    wait_until("an activity of that version", || of_version().is_some());
    let details = of_version().unwrap()["details"].clone();
    assert_eq!(details["remote_config_id"], "rc-1");
    assert_eq!(details["risk_mode"], "monitor");
    let status = get(nginx.addr(), "/_status", &[]).json();
    assert_eq!(status["documents"][0]["version"], 7);
    assert!(status["documents"][0]["fetched"].as_f64().unwrap() > 1e9);
    let metrics = get(nginx.addr(), "/_status?format=prometheus", &[]).text();
    assert!(metrics.contains("px_remote_config_version{id=\"rc-1\"} 7\n"), "{metrics}");
    assert!(metrics.contains("verdict=\"notification\",reason=\"\"} 1\n"), "{metrics}");
    nginx.wait_for_error_log("version 7 of remote configuration \"rc-1\" is in effect");
    sandbox.assert_no_complaints();
}

#[test]
fn the_service_is_asked_again_until_the_version_is_there() {
    let (sandbox, origin) = (sandbox(), Origin::start());
    let nginx = Nginx::start(&server(&sandbox, &origin, "px_remote_config_max_fetch_attempts 4;"));
    sandbox.set_remote_config("rc-1", 3, values("monitor"));
    sandbox.wait_for(Endpoint::RemoteConfig, 1, SOON);
    push(&nginx, TOKEN, "{\"version\":5}");
    // The service is behind for a while.
    sandbox.wait_for(Endpoint::RemoteConfig, 3, SOON);
    sandbox.set_remote_config("rc-1", 5, values("monitor"));
    wait_for_version(&sandbox, &nginx, 5);
    // A version that never comes is given up.
    sandbox.clear();
    push(&nginx, TOKEN, "{\"version\":99}");
    nginx.wait_for_error_log("version 5 came where 99 was announced");
    assert_eq!(sandbox.received_at(Endpoint::RemoteConfig).len(), 4);
    assert_eq!(version(&sandbox, &nginx), 5);
}

#[test]
fn telemetry_follows_a_change_with_what_came_and_no_secret() {
    let (sandbox, origin) = (sandbox(), Origin::start());
    let nginx = Nginx::start(&server(&sandbox, &origin, "px_blocking_score 90;"));
    let mut values = values("monitor");
    values["px_blocking_score"] = json!(80);
    values["px_auth_token"] = json!("smuggled-secret");
    sandbox.set_remote_config("rc-1", 2, values);
    push(&nginx, TOKEN, "");
    let telemetry = sandbox.wait_for(Endpoint::Telemetry, 1, SOON)[0].json();
    let details = &telemetry["details"];
    assert_eq!(details["update_reason"], "remote_config");
    assert_eq!(
        (&details["remote_config_id"], &details["remote_config_version"]),
        (&json!("rc-1"), &json!(2))
    );
    let configs = &details["enforcer_configs"];
    assert_eq!(configs["active_config"]["px_blocking_score"], 80);
    assert_eq!(configs["static_config"]["px_blocking_score"], 90);
    assert_eq!(configs["remote_config"]["px_blocking_score"], 80);
    assert_eq!(configs["remote_config"]["px_auth_token"], "***REDACTED***");
    let text = telemetry.to_string();
    assert!(!text.contains("smuggled-secret") && !text.contains(TOKEN));
    nginx.wait_for_error_log("\"px_auth_token\": it may not come from remote");
    sandbox.assert_no_complaints();
}

#[test]
fn a_bad_document_changes_nothing_and_is_reported() {
    let (sandbox, origin) = (sandbox(), Origin::start());
    // There from the start: a look in vain would take the one line that the log gets in a minute.
    sandbox.set_remote_config("rc-1", 2, values("monitor"));
    let nginx = Nginx::start(&server(&sandbox, &origin, ""));
    wait_for_version(&sandbox, &nginx, 2);
    let document = |id: &str, version: u64, values: Value| {
        Reply::json(json!({"id": id, "version": version, "lastUpdated": 1, "configValue": values}))
    };
    let good = values("active_blocking");
    for (number, reply) in [
        document("rc-2", 9, good.clone()),
        document("rc-1", 9, json!([])),
        document("rc-1", 1, good.clone()),
        document("rc-1", 2, good.clone()),
        document(
            "rc-1",
            9,
            json!({"px_remote_config_enabled": true, "px_risk_cookie_min_iterations": 9000}),
        ),
        Reply::bytes("application/json", "{\"id\":"),
        Reply::bytes("text/html", "<h1>oops</h1>").status(502),
        Reply::bytes("application/json", vec![b' '; 1 << 20]),
    ]
    .into_iter()
    .enumerate()
    {
        sandbox.clear();
        sandbox.answer_at(Endpoint::RemoteConfig, reply);
        push(&nginx, TOKEN, "");
        sandbox.wait_for(Endpoint::RemoteConfig, 1, SOON);
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(version(&sandbox, &nginx), 2, "{number}");
        assert_eq!(get(nginx.addr(), "/", BOT).status, 200, "{number}");
    }
    for behaviour in [Behaviour::Reset, Behaviour::Hang] {
        sandbox.clear();
        sandbox.behave_at(Endpoint::RemoteConfig, behaviour);
        push(&nginx, TOKEN, "");
        sandbox.wait_for(Endpoint::RemoteConfig, 1, SOON);
        assert_eq!(version(&sandbox, &nginx), 2);
    }
    let log = nginx.wait_for_error_log("the remote configuration could not be fetched");
    assert!(log.contains("it is for another id"), "{log}");
}

#[test]
fn a_forged_message_is_refused_and_fetches_nothing() {
    let (sandbox, origin) = (sandbox(), Origin::start());
    let nginx = Nginx::start(&server(&sandbox, &origin, ""));
    sandbox.wait_for(Endpoint::RemoteConfig, 1, SOON);
    sandbox.clear();
    sandbox.set_remote_config("rc-1", 2, values("monitor"));
    let cookie_secret = &sandbox.app().secret;
    for secret in ["", "another", cookie_secret] {
        let answer = push(&nginx, secret, "{\"version\":2}");
        assert_eq!((answer.status, &*answer.text()), (400, "Bad Request"));
    }
    let expired = Sandbox::sign(TOKEN, now_ms() - 1000);
    let headers = ["X-PX-Feature: enforcer_config", &format!("X-PX-PushData: {expired}")];
    assert_eq!(request(nginx.addr(), "POST", "/", &headers, b"{}").status, 400);
    assert!(origin.requests().is_empty());
    std::thread::sleep(Duration::from_millis(1200));
    assert!(sandbox.received_at(Endpoint::RemoteConfig).is_empty());
    // What is no such message is a request like any other.
    let signed = format!("X-PX-PushData: {}", Sandbox::sign(TOKEN, now_ms() + 60_000));
    for (method, headers) in [
        ("PUT", vec!["X-PX-Feature: enforcer_config", &signed]),
        ("POST", vec!["X-PX-Feature: other", &signed]),
        ("POST", vec![&*signed]),
        ("POST", vec!["X-PX-Feature: enforcer_config"]),
    ] {
        assert_eq!(request(nginx.addr(), method, "/", &headers, b"{}").text(), "origin");
    }
    // Without a token nothing is a message.
    let plain = Nginx::start(&format!(
        "{} px_remote_config_id rc-1; location / {{ {} }}",
        protect(&sandbox),
        origin.proxy_pass()
    ));
    assert_eq!(push(&plain, "", "{}").text(), "origin");
}

#[test]
fn every_worker_applies_it_without_a_reload_and_a_reload_keeps_it() {
    let (sandbox, origin) = (sandbox(), Origin::start());
    let nginx = Nginx::builder()
        .workers(3)
        .listen("reuseport")
        .server(&format!("add_header X-Worker $pid always; {}", server(&sandbox, &origin, "")))
        .start();
    nginx.wait_for_workers(3);
    wait_until("a look at the start", || sandbox.received_at(Endpoint::RemoteConfig).len() == 1);
    sandbox.set_remote_config("rc-1", 2, values("monitor"));
    push(&nginx, TOKEN, "{\"version\":2}");
    // Kept connections stay with their workers.
    let mut connections: Vec<_> = (0..12).map(|_| Connection::open(nginx.addr())).collect();
    let mut ask = || -> (BTreeSet<String>, bool) {
        let mut workers = BTreeSet::new();
        let mut all_pass = true;
        for connection in &mut connections {
            connection.send(support::client::text("GET", "/", BOT, b""));
            let response = connection.receive();
            all_pass &= response.status == 200;
            workers.insert(response.header("x-worker").unwrap().to_owned());
        }
        (workers, all_pass)
    };
    wait_until("all workers to pass", || ask().1);
    assert!(ask().0.len() > 1, "several workers were asked");
    assert_eq!(sandbox.received_at(Endpoint::RemoteConfig).len(), 2, "at the start and when told");

    let old = nginx.workers();
    nginx.reload(|conf| conf);
    sandbox.behave_at(Endpoint::RemoteConfig, Behaviour::Status(503));
    assert_eq!(get(nginx.addr(), "/", BOT).status, 200, "known from the first request on");
    drop(connections);
    nginx.wait_for_workers_to_end(&old);
}

#[test]
fn a_restart_begins_with_what_was_kept_on_disk() {
    let (sandbox, origin) = (sandbox(), Origin::start());
    sandbox.set_remote_config("rc-1", 4, values("monitor"));
    let kept = std::env::temp_dir().join(format!("px-remote-config-{}", std::process::id()));
    let conf = server(&sandbox, &origin, &format!("px_remote_config_cache {};", kept.display()));
    let file = || fs::read_dir(&kept).unwrap().filter_map(|entry| Some(entry.ok()?.path())).next();
    let nginx = Nginx::start(&conf);
    wait_for_version(&sandbox, &nginx, 4);
    wait_until("the file", || {
        file().is_some_and(|file| file.extension().is_some_and(|extension| extension == "conf"))
    });
    let file = file().unwrap();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&file).unwrap().contains(TOKEN));
    nginx.quit();

    // HUMAN cannot be reached: the visitor is judged as before.
    sandbox.behave_at(Endpoint::RemoteConfig, Behaviour::Reset);
    let nginx = Nginx::start(&conf);
    assert_eq!(version(&sandbox, &nginx), 4, "from the first request on");
    assert_eq!(get(nginx.addr(), "/", BOT).status, 200);
    nginx.quit();

    // What somebody changed, or cut, is not used.
    let content = fs::read(&file).unwrap();
    for bad in [
        String::from_utf8(content.clone()).unwrap().replace("monitor", "Monitor").into_bytes(),
        content[..content.len() - 3].to_vec(),
        Vec::new(),
        vec![b'x'; 1 << 20],
    ] {
        fs::write(&file, bad).unwrap();
        let nginx = Nginx::start(&conf);
        assert_eq!(version(&sandbox, &nginx), Value::Null);
        assert_eq!(get(nginx.addr(), "/", BOT).status, 403);
        let log = nginx.quit();
        assert!(log.contains("is not used"), "{log}");
    }
    fs::remove_dir_all(&kept).unwrap();
}

#[test]
fn it_is_looked_for_now_and_then_where_no_message_reaches_this_machine() {
    let (sandbox, origin) = (sandbox(), Origin::start());
    let conf = server(&sandbox, &origin, "").replace("refresh_interval off", "refresh_interval 1s");
    let conf = format!("px_csp_data_url {}/v1/enforcer-data; {conf}", sandbox.url());
    let nginx = Nginx::start(&conf);
    sandbox.set_csp_policy(json!({"csp": "remote"}));
    sandbox.set_remote_config("rc-1", 2, json!({"px_remote_config_enabled": true, "px_custom_logo": "/remote.png", "px_csp_enabled": true}));
    wait_for_version(&sandbox, &nginx, 2);
    let page = get(nginx.addr(), "/", BOT).text();
    assert!(page.contains("_pxCustomLogo = \"/remote.png\""), "{page}");
    let has_policy = || get(nginx.addr(), "/", &[]).header("content-security-policy").is_some();
    wait_until("the policy that it switched on", has_policy);
    // Switched off, the operator's own counts again, but the version is told.
    sandbox.set_remote_config(
        "rc-1",
        3,
        json!({"px_remote_config_enabled": false, "px_custom_logo": "/x"}),
    );
    wait_for_version(&sandbox, &nginx, 3);
    assert!(get(nginx.addr(), "/", BOT).text().contains("_pxCustomLogo = \"\""));
}
