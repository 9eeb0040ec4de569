//! What the sandbox says about messages: nothing about the specification's own examples, and the
//! right thing about each fault.

mod client;

use client::{Client, activity, get, now_ms, post, post_with, risk_body};
use px_sandbox::{
    APP_ID, AUTH_TOKEN, App, Behaviour, Builder, COOKIE_SECRET, Endpoint, Reply, Sandbox,
};
use serde_json::{Value, json};

const RISK: &str = "/api/v3/risk";
const COLLECTOR: &str = "/api/v1/collector/s2s";
const TELEMETRY: &str = "/api/v2/risk/telemetry";

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/../px-core/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the vectors are in the repository");
    let mut vectors: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    serde_json::from_value(vectors["cases"].take()).expect("cases is an array")
}

/// A sandbox for the app of a vector.
fn backend(config: &Value) -> Builder {
    let text = |name: &str, default: &str| config[name].as_str().unwrap_or(default).to_owned();
    let mut builder = Sandbox::builder()
        .app_id(text("px_app_id", "PXzz98kq1T"))
        .auth_token(text("px_auth_token", "made.up.auth-token_9876543210"))
        .clock_checks(false);
    if let Some(names) = config["px_sensitive_headers"].as_array() {
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        builder = builder.sensitive_headers(&names);
    }
    builder
}

fn send(sandbox: &Sandbox, path: &str, body: &Value) -> Vec<String> {
    let token = &sandbox.app().auth_token;
    let request = String::from_utf8(post(path, body.to_string())).unwrap();
    Client::connect(sandbox.addr()).ask(request.replace(AUTH_TOKEN, token));
    sandbox.complaints()
}

#[test]
fn has_nothing_to_say_about_the_specifications_risk_requests() {
    let mut seen = 0;
    for case in cases("risk-api-requests.json") {
        let expected = &case["expected"];
        if expected["sent"] != true {
            continue;
        }
        let sandbox = backend(&case["config"]).start().unwrap();
        let complaints = send(&sandbox, RISK, &expected["body"]);
        let is_overridden = case["quirk"] == "ip_list_verbatim";
        // DECISIONS 9: a list, or garbage, is no client address.
        assert_eq!(
            complaints.len(),
            usize::from(is_overridden),
            "{}: {complaints:?}",
            case["name"]
        );
        seen += 1;
    }
    assert!(seen > 35, "{seen}");
}

#[test]
fn has_nothing_to_say_about_the_specifications_activities() {
    let mut seen = 0;
    for case in cases("activities.json") {
        let expected = &case["expected"];
        if expected["sent"] != true {
            continue;
        }
        let sandbox = backend(&case["config"]).start().unwrap();
        let complaints = send(&sandbox, COLLECTOR, &expected["body"]);
        assert!(complaints.is_empty(), "{}: {complaints:?}", case["name"]);
        seen += 1;
    }
    for case in cases("additional-s2s.json") {
        let activity = &case["expected"]["additional_s2s"];
        if activity.is_null() {
            continue;
        }
        let sandbox = backend(&case["config"]).start().unwrap();
        let complaints = send(&sandbox, COLLECTOR, activity);
        assert!(complaints.is_empty(), "{}: {complaints:?}", case["name"]);
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}

/// Sets, or with null removes, the member at a pointer.
fn changed(mut body: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(name);
    } else {
        parent.insert(name.into(), value);
    }
    body
}

/// Every change to a good message gets exactly one complaint, which holds the words.
fn check_changes(path: &str, good: fn() -> Value, changes: Vec<(&[(&str, Value)], &str)>) {
    let sandbox = Sandbox::start().unwrap();
    assert_eq!(send(&sandbox, path, &good()), Vec::<String>::new());
    for (changes, words) in changes {
        sandbox.clear();
        let body = changes
            .iter()
            .fold(good(), |body, (pointer, value)| changed(body, pointer, value.clone()));
        let complaints = send(&sandbox, path, &body);
        assert_eq!(complaints.len(), 1, "{changes:?}: {complaints:?}");
        assert!(complaints[0].contains(words), "{changes:?}: {complaints:?}");
    }
}

fn with_cookie() -> Value {
    let payload = json!({
        "u": "7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa", "v": "", "t": now_ms() - 1000, "s": 0, "a": "c",
    });
    let mut body = risk_body();
    body["client_uuid"] = json!("7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa");
    let additional = &mut body["additional"];
    additional["s2s_call_reason"] = json!("cookie_expired");
    additional["px_cookie"] = json!(payload.to_string());
    additional["px_cookie_hmac"] = json!("0".repeat(64));
    body
}

#[test]
fn finds_faults_in_risk_requests() {
    let secret = format!("x{COOKIE_SECRET}x");
    check_changes(
        RISK,
        risk_body,
        vec![
            (&[("/request/headers", json!([{"name": "Host", "value": "a"}]))], "lower case"),
            (&[("/request/headers", json!([{"name": "cookie", "value": "a"}]))], "sensitive"),
            (&[("/request/headers", json!([{"name": "a"}]))], "is not {"),
            (&[("/request/headers", json!([{"name": "a", "value": "b", "x": 1}]))], "more members"),
            (&[("/request/headers", json!({}))], "no array"),
            (
                &[(
                    "/request/headers",
                    json!([
                        {"name": "a", "value": "1"},
                        {"name": "b", "value": "2"},
                        {"name": "a", "value": "3"},
                    ]),
                )],
                "together",
            ),
            (&[("/request/url", json!("https://shop.example.com/a/"))], "ends in a slash"),
            (&[("/request/socket_ip", json!("10.0.0.1, 10.0.0.2"))], "IP address"),
            (&[("/request/socket_ip", Value::Null)], "request.socket_ip is missing"),
            (&[("/request/ip", json!("10.0.0.1"))], "request.ip is not a field"),
            (&[("/uuid", json!("x"))], "uuid is not a field"),
            (&[("/vid", json!(""))], "vid is \"\""),
            (&[("/vid", json!("c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b"))], "enforcer_vid_source"),
            (&[("/pxhd", json!("x"))], "no_cookie_w_vid"),
            (&[("/client_uuid", json!("x"))], "client_uuid"),
            (&[("/additional/risk_mode", json!("blocking"))], "risk_mode"),
            (&[("/additional/request_id", json!("1"))], "request_id"),
            (&[("/additional/module_version", Value::Null)], "module_version is missing"),
            (&[("/additional/http_version", json!("HTTP/1.1"))], "http_version"),
            (&[("/additional/http_method", json!("get"))], "http_method"),
            (&[("/additional/is_sensitive_route", json!("false"))], "is_sensitive_route"),
            (&[("/additional/request_cookie_names", json!("[]"))], "request_cookie_names"),
            (&[("/additional/risk_rtt", json!(5))], "does not belong"),
            (&[("/additional/anything", json!(5))], "is not a field"),
            (&[("/additional/custom_param1", json!(""))], "custom_param1"),
            (&[("/additional/custom_param11", json!("a"))], "custom_param11"),
            (&[("/additional/s2s_call_reason", json!("because"))], "s2s_call_reason"),
            (&[("/additional/s2s_call_reason", json!("mobile_error_1"))], "mobile header"),
            (&[("/additional/s2s_call_reason", json!("no_cookie_w_vid"))], "without pxhd"),
            (&[("/additional/s2s_call_reason", json!("cookie_expired"))], "without px_cookie"),
            (&[("/additional/s2s_call_reason", json!("hsc_route"))], "is_hype_sale"),
            (
                &[("/additional/s2s_call_reason", json!("cookie_decryption_failed"))],
                "without px_orig_cookie",
            ),
            (&[("/additional/px_orig_cookie", json!("x"))], "a token is reported"),
            (&[("/additional/raw_url", json!("https://shop.example.com/"))], "raw_url equals"),
            (&[("/additional/orig_cookie_vid", json!(client::fresh_uuid()))], "is the vid"),
            (&[("/additional/original_token", json!("x"))], "without a mobile header"),
            (&[("/additional/enforcer_start_time", json!(now_ms() + 500_000))], "later than"),
            (&[("/additional/risk_start_time", json!(now_ms() / 1000))], "milliseconds"),
            (
                &[
                    ("/additional/risk_start_time", json!(now_ms() - 100_000)),
                    ("/additional/enforcer_start_time", json!(now_ms() - 100_000)),
                ],
                "older than a minute",
            ),
            (&[("/additional/user", json!("x"))], "without ci_version"),
            (
                &[
                    ("/additional/ci_version", json!("v2")),
                    ("/additional/user", json!("a@b.c")),
                    ("/additional/pass", json!("0".repeat(64))),
                ],
                "as hashes",
            ),
            (&[("/additional/cpa", json!(true))], "cpa"),
            (&[("/additional/mcp_method", json!("x"))], "mcp_http_method"),
            (
                &[(
                    "/additional/graphql_operations",
                    json!([{"type": "query", "sensitive": true}]),
                )],
                "sensitive GraphQL",
            ),
            (&[("/additional/module_version", json!(secret))], "cookie secret of"),
        ],
    );
}

#[test]
fn finds_faults_in_what_is_told_of_tokens() {
    let cookie = |change: fn(&mut Value)| {
        let mut payload: Value =
            serde_json::from_str(with_cookie()["additional"]["px_cookie"].as_str().unwrap())
                .unwrap();
        change(&mut payload);
        json!(payload.to_string())
    };
    check_changes(
        RISK,
        with_cookie,
        vec![
            (&[("/additional/px_cookie_hmac", Value::Null)], "belong together"),
            (&[("/additional/px_cookie_hmac", json!("0".repeat(63)))], "hexadecimal"),
            (&[("/additional/px_orig_cookie", json!("x"))], "exclude each other"),
            (
                &[(
                    "/additional/px_cookie",
                    cookie(|payload| payload["t"] = json!(u32::MAX as u64 * 4000)),
                )],
                "still valid",
            ),
            (
                &[("/additional/px_cookie", cookie(|payload| payload["v"] = json!("w")))],
                "vid was not taken",
            ),
            (
                &[(
                    "/additional/px_cookie",
                    cookie(|payload| {
                        payload.as_object_mut().unwrap().remove("a");
                    }),
                )],
                "has no \"a\"",
            ),
            (
                &[(
                    "/additional/px_cookie",
                    json!(
                        with_cookie()["additional"]["px_cookie"]
                            .as_str()
                            .unwrap()
                            .replace(':', ": ")
                    ),
                )],
                "white space",
            ),
            (&[("/client_uuid", Value::Null)], "client_uuid \"\""),
            (&[("/additional/used_cookie_secret", json!("***toolong"))], "used_cookie_secret"),
            (
                &[("/additional/s2s_call_reason", json!("sensitive_route"))],
                "neither a sensitive route",
            ),
            (&[("/additional/enforcer_vid_source", json!("risk_cookie"))], "without vid"),
        ],
    );
}

fn by_risk_api() -> Value {
    let mut body = activity();
    let details = &mut body["details"];
    for name in ["px_cookie", "px_cookie_hmac"] {
        details.as_object_mut().unwrap().remove(name);
    }
    details["pass_reason"] = json!("s2s");
    details["s2s_call_reason"] = json!("no_cookie");
    details["risk_start_time"] = json!(now_ms() - 4);
    details["risk_rtt"] = json!(2);
    body
}

fn block() -> Value {
    let mut body = by_risk_api();
    body["type"] = json!("block");
    let details = &mut body["details"];
    for name in ["pass_reason", "http_status_code"] {
        details.as_object_mut().unwrap().remove(name);
    }
    details["block_reason"] = json!("s2s_high_score");
    details["block_action"] = json!("c");
    details["block_score"] = json!(100);
    details["simulated_block"] = json!(false);
    body
}

#[test]
fn finds_faults_in_activities() {
    check_changes(
        COLLECTOR,
        activity,
        vec![
            (&[("/type", json!("page"))], "is not an activity's"),
            (&[("/px_app_id", json!("PXother"))], "no known app"),
            (&[("/timestamp", json!(now_ms().to_string()))], "timestamp"),
            (&[("/timestamp", json!(now_ms() + 600_000))], "later than"),
            (&[("/headers", Value::Null)], "headers is missing"),
            (&[("/headers", json!({"host": "a"}))], "no array"),
            (&[("/client_uuid", json!("x"))], "client_uuid is not a field"),
            (&[("/details/pass_reason", Value::Null)], "pass_reason is missing"),
            (&[("/details/pass_reason", json!("error"))], "pass_reason"),
            (&[("/details/block_reason", json!("s2s_high_score"))], "does not belong"),
            (&[("/details/risk_rtt", json!(4))], "risk_rtt without"),
            (&[("/details/http_status_code", json!("200"))], "http_status_code"),
            (&[("/details/s2s_error_reason", json!("bad_request"))], "with pass_reason cookie"),
            (&[("/details/credentials_compromised", json!(true))], "without ci_version"),
        ],
    );
    check_changes(
        COLLECTOR,
        by_risk_api,
        vec![
            (&[("/details/risk_rtt", json!(0))], "risk_rtt"),
            (&[("/details/risk_rtt", json!(600_000))], "ends after"),
            (&[("/details/risk_start_time", Value::Null)], "belong together"),
            (&[("/details/pass_reason", json!("s2s_timeout"))], "after a timeout"),
        ],
    );
    check_changes(
        COLLECTOR,
        block,
        vec![
            (&[("/details/simulated_block", json!(true))], "risk_mode active_blocking"),
            (&[("/details/http_status_code", json!(403))], "real block"),
            (&[("/details/block_score", Value::Null)], "without block_score"),
            (&[("/details/block_action", json!(""))], "block_action"),
            (&[("/details/block_reason", json!("hsc_route"))], "block_action hsc"),
            (&[("/details/pass_reason", json!("s2s"))], "does not belong"),
        ],
    );
}

#[test]
fn knows_which_error_goes_with_which_status() {
    let error = |reason: &str, status: Option<u64>| {
        let sandbox = Sandbox::start().unwrap();
        let mut body = changed(by_risk_api(), "/details/pass_reason", json!("s2s_error"));
        body["details"]["s2s_error_reason"] = json!(reason);
        match status {
            Some(status) => body["details"]["s2s_error_http_status"] = json!(status),
            None => body = changed(body, "/details/risk_rtt", Value::Null),
        }
        send(&sandbox, COLLECTOR, &body).is_empty()
    };
    for (reason, status, is_fine) in [
        ("bad_request", Some(403), true),
        ("bad_request", Some(500), false),
        ("bad_request", None, false),
        ("server_error", Some(503), true),
        ("server_error", Some(403), false),
        ("invalid_response", Some(200), true),
        ("invalid_response", Some(204), false),
        ("request_failed_on_server", Some(200), true),
        ("unknown_error", None, true),
        ("unknown_error", Some(302), true),
        ("unknown_error", Some(200), false),
        ("unable_to_send_request", None, true),
        ("some_error", None, false),
    ] {
        assert_eq!(error(reason, status), is_fine, "{reason} {status:?}");
    }
}

#[test]
fn finds_faults_in_batches() {
    let sandbox = Sandbox::start().unwrap();
    assert!(send(&sandbox, COLLECTOR, &json!([activity(), block()])).is_empty());
    for (batch, words) in [
        (json!([]), "empty array"),
        (json!([activity()]), "not as an array of one"),
        (json!([activity(), 5]), "[1] the activity is no object"),
        (json!("x"), "neither an object"),
    ] {
        sandbox.clear();
        let complaints = send(&sandbox, COLLECTOR, &batch);
        assert!(complaints[0].contains(words), "{complaints:?}");
    }
}

#[test]
fn finds_faults_in_calls() {
    let sandbox = Sandbox::start().unwrap();
    let good = String::from_utf8(post(RISK, risk_body().to_string())).unwrap();
    for (from, to, words) in [
        ("/api/v3/risk", "/api/v2/risk", "target"),
        ("/api/v3/risk", "/api/v3/risk?x", "target"),
        ("application/json", "application/json; charset=utf-8", "content-type"),
        ("Content-Type: application/json\r\n", "", "content-type"),
        ("Authorization: Bearer ", "Authorization: ", "Bearer"),
        ("Authorization:", "X-Auth:", "0 Authorization headers"),
        ("Host: sandbox.test\r\n", "", "0 Host headers"),
        ("Host: sandbox.test\r\n", "Host: a\r\nHost: b\r\n", "2 Host headers"),
        ("Host:", "Cookie: _px3=x\r\nHost:", "\"Cookie\" has no business"),
        ("Host:", "X-Forwarded-For: 10.0.0.1\r\nHost:", "has no business"),
        ("Host:", "Content-Encoding: gzip\r\nHost:", "never compressed"),
        ("{\"request\":", "{\"request\":{},\"request\":", "occurs twice"),
    ] {
        sandbox.clear();
        let call = good.replacen(from, to, 1);
        let body = call.split_once("\r\n\r\n").unwrap().1.len();
        let lengths: Vec<&str> =
            call.split("\r\n").filter(|l| l.starts_with("Content-Le")).collect();
        let call = call.replace(lengths[0], &format!("Content-Length: {body}"));
        Client::connect(sandbox.addr()).ask(call);
        let complaints = sandbox.complaints().join("\n");
        assert!(complaints.contains(words), "{to:?}: {complaints:?}");
        assert!(!complaints.contains(AUTH_TOKEN), "{complaints}");
    }
}

#[test]
fn notices_requests_that_are_decided_or_reported_twice() {
    let sandbox = Sandbox::start().unwrap();
    let call = risk_body();
    assert!(send(&sandbox, RISK, &call).is_empty());
    let complaints = send(&sandbox, RISK, &call);
    assert!(complaints.len() == 1 && complaints[0].contains("already asked"), "{complaints:?}");
    sandbox.clear();
    let told = activity();
    assert!(send(&sandbox, COLLECTOR, &told).is_empty());
    let complaints = send(&sandbox, COLLECTOR, &told);
    assert!(complaints.len() == 1 && complaints[0].contains("already"), "{complaints:?}");
}

#[test]
fn lets_activities_come_again_after_a_failed_or_slow_answer() {
    let sandbox = Sandbox::start().unwrap();
    let told = activity();
    for behaviour in [
        Behaviour::Status(503),
        Behaviour::CloseBeforeAnswer,
        Behaviour::Delay(std::time::Duration::from_millis(1)),
        Behaviour::Normal,
    ] {
        sandbox.behave_next_at(Endpoint::Activities, 1, behaviour);
        let request = post(COLLECTOR, told.to_string());
        let mut client = Client::connect(sandbox.addr());
        client.send(request);
        let _ = client.answer();
    }
    sandbox.assert_no_complaints();
}

#[test]
fn compares_activities_with_the_call_and_its_answer() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.answer_risk(Reply::json(json!({"status": 0, "score": 0, "uuid": "right"})));
    let call = risk_body();
    send(&sandbox, RISK, &call);
    let mut told = by_risk_api();
    for name in [
        "request_id",
        "risk_start_time",
        "enforcer_start_time",
        "http_version",
        "request_cookie_names",
    ] {
        told["details"][name] = call["additional"][name].clone();
    }
    told["details"]["client_uuid"] = json!("right");
    let mut wrong = told.clone();
    wrong["socket_ip"] = json!("192.0.2.2");
    wrong["details"]["client_uuid"] = json!("left");
    assert!(send(&sandbox, COLLECTOR, &told).is_empty(), "{:?}", sandbox.complaints());
    let complaints = send(&sandbox, COLLECTOR, &wrong);
    assert_eq!(complaints.len(), 3, "{complaints:?}");
    assert!(complaints.iter().any(|line| line.contains("the Risk API answered \"right\"")));
    assert!(complaints.iter().any(|line| line.contains("socket_ip")));
}

#[test]
fn keeps_apps_apart() {
    let other =
        App { id: "PXother".into(), auth_token: "token-of-other".into(), secret: "s".into() };
    let sandbox = Sandbox::builder().app(other).start().unwrap();
    let told = changed(activity(), "/px_app_id", json!("PXother")).to_string();
    let request = String::from_utf8(post(COLLECTOR, told)).unwrap();
    let mut client = Client::connect(sandbox.addr());
    assert_eq!(client.ask(request.replace(AUTH_TOKEN, "token-of-other")).status, 200);
    sandbox.assert_no_complaints();
    sandbox.clear();
    client.ask(request);
    assert!(sandbox.complaints()[0].contains("not that of PXother"));
}

#[test]
fn judges_telemetry() {
    let good = || {
        json!({
            "type": "enforcer_telemetry",
            "timestamp": now_ms(),
            "px_app_id": APP_ID,
            "details": {
                "update_reason": "command",
                "module_version": "Test Module v1",
                "enforcer_configs": {
                    "active_config": {
                        "px_auth_token": "***REDACTED***", "px_cookie_secret": ["***REDACTED***", ""],
                    },
                    "static_config": {},
                    "remote_config": {},
                },
                "os_name": "Linux",
            },
        })
    };
    let config = "/details/enforcer_configs/active_config";
    check_changes(
        TELEMETRY,
        good,
        vec![
            (&[("/type", json!("telemetry"))], "type"),
            (&[("/timestamp", json!(now_ms() + 600_000))], "future"),
            (&[("/details/update_reason", json!("because"))], "update_reason"),
            (&[("/details/enforcer_configs/static_config", Value::Null)], "static_config"),
            (&[("/details/anything", json!(1))], "details.anything"),
            (&[(&format!("{config}/px_auth_token"), json!("***REDACTED***1234"))], "not redacted"),
            (&[(&format!("{config}/px_cookie_secret"), json!(["a"]))], "not redacted"),
            (&[(&format!("{config}/px_css_ref"), json!(COOKIE_SECRET))], "cookie secret of"),
        ],
    );
}

#[test]
fn judges_what_is_proxied_for_browsers() {
    const GOOD: &str = "X-PX-First-Party: 1\r\nX-PX-Enforcer-True-IP: 192.0.2.1\r\n\
        X-Forwarded-For: 10.0.0.1, 192.0.2.1\r\n\
        Cookie: pxvid=c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b\r\n";
    let said = |path: &str, lines: &str| {
        let sandbox = Sandbox::start().unwrap();
        let request = get(path).replace("Host:", &format!("{lines}Host:"));
        Client::connect(sandbox.addr()).ask(request);
        sandbox.complaints()
    };
    let script = format!("/{APP_ID}/main.min.js");
    assert!(said(&script, GOOD).is_empty());
    assert!(said(&script, "Cookie: all=of; them=1\r\n").is_empty(), "browsers are not judged");
    for (path, from, to, words) in [
        ("/PXother/main.min.js", "", "", "no known app"),
        ("/PXsandbox1/main.min.js?x", "", "", "query"),
        (script.as_str(), "First-Party: 1", "First-Party: yes", "as 1"),
        (script.as_str(), "True-IP: 192.0.2.1", "True-IP: x", "one address"),
        (script.as_str(), "0.1, 192.0.2.1", "0.1", "x-forwarded-for"),
        (script.as_str(), "pxvid=", "a=b; pxvid=", "Cookie header"),
        (script.as_str(), "Cookie:", "TE: trailers\r\nCookie:", "\"te\""),
    ] {
        let complaints = said(path, &GOOD.replacen(from, to, 1));
        assert_eq!(complaints.len(), 1, "{to}: {complaints:?}");
        assert!(complaints[0].contains(words), "{complaints:?}");
    }
}

#[test]
fn can_be_told_not_to_judge() {
    let sandbox = Sandbox::builder().checks(false).start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    assert_eq!(client.ask(post(RISK, "{}")).status, 200);
    assert_eq!(client.ask(post_with(COLLECTOR, "X: y\r\n", "[1,2]")).status, 200);
    assert_eq!(sandbox.activities().len(), 2);
    sandbox.assert_no_complaints();
}
