//! Tests for the px module: Credential Intelligence, from the login to the report on it.

mod support;

use px_sandbox::{Reply, Sandbox};
use serde_json::{Value, json};
use support::{BROWSER, Nginx, Origin, Response, SOON, protect, request};

const UUID: &str = "11111111-2222-4333-8444-555555555555";
const LOGIN: &str = "px_enable_login_creds_extraction on;
    px_login_credentials_extraction path=/login method=post sent_through=body
        user_field=username pass_field=password;";
const FORM: &str = "username=Visitor%2Bshop@example.org&password=secret+pass";
const CREDENTIALS: [&str; 2] = ["Visitor+shop@example.org", "secret pass"];

fn site(sandbox: &Sandbox, origin: &Origin, directives: &str) -> Nginx {
    Nginx::start(&format!(
        "{} px_batch_activities_timeout_ms 10; {directives} location / {{ {} }}",
        protect(sandbox),
        origin.proxy_pass()
    ))
}

fn compromised(sandbox: &Sandbox) {
    sandbox.answer_risk(Reply::json(json!({
        "status": 0, "score": 0, "uuid": UUID, "data_enrichment": {"breached_account": 1},
    })));
}

fn post(nginx: &Nginx, target: &str, body: &str) -> Response {
    let form = "Content-Type: application/x-www-form-urlencoded";
    request(nginx.addr(), "POST", target, &[form], body.as_bytes())
}

/// The next two activities: that of the visit and that of the login.
fn two(sandbox: &Sandbox) -> (Value, Value) {
    let mut activities = sandbox.wait_for_activities(2, SOON);
    sandbox.clear();
    let second = activities.pop().expect("two");
    let first = activities.pop().expect("two");
    assert_eq!(
        (&first["type"], &second["type"]),
        (&json!("page_requested"), &json!("additional_s2s"))
    );
    (first, second)
}

#[test]
fn a_login_is_asked_about_told_to_the_origin_and_reported() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    compromised(&sandbox);
    let nginx =
        site(&sandbox, &origin, &format!("{LOGIN} px_login_successful_reporting_method status;"));
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    let headers = [
        "Content-Type: application/x-www-form-urlencoded",
        &cookie,
        "px-compromised-credentials: 0",
        "PX-Additional-Activity: forged",
        "px-additional-activity-url: forged",
    ];
    assert_eq!(request(nginx.addr(), "POST", "/login/", &headers, FORM.as_bytes()).status, 200);
    let text = &origin.texts()[0];
    assert!(text.contains("px-compromised-credentials: 1\r\n"), "{text}");
    assert!(!text.contains("forged") && !text.contains(": 0\r\n"), "{text}");
    assert!(text.ends_with(FORM), "{text}");
    let call = sandbox.risk_calls()[0].json();
    let additional = &call["additional"];
    assert_eq!(additional["s2s_call_reason"], "sensitive_route");
    assert_eq!(additional["ci_version"], "v2");
    let (page, login) = two(&sandbox);
    for details in [&page["details"], &login["details"]] {
        for name in ["user", "pass", "ci_version"] {
            assert_eq!(details[name], additional[name], "{name}");
        }
        assert_eq!(details["credentials_compromised"], true);
        assert_eq!(details["http_status_code"], 200);
    }
    assert_eq!(login["details"]["login_successful"], true);
    assert!(login.get("headers").is_none() && login["details"].get("raw_username").is_none());
    let whole = format!("{call}{page}{login}");
    // What the same person is called with other capitals and without the tag is the same hash.
    post(&nginx, "/login", "username=visitor@example.org&password=secret+pass");
    assert_eq!(sandbox.risk_calls()[0].json()["additional"]["user"], additional["user"]);
    sandbox.assert_no_complaints();
    let log = nginx.stop();
    for credential in CREDENTIALS {
        assert!(!whole.contains(credential) && !log.contains(credential));
    }
}

#[test]
fn logins_are_what_the_endpoints_say() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .http("map $http_x_user $user { default $http_x_user; }")
        .server(&format!(
            "{} px_login_credentials_extraction_enabled on;
             px_login_credentials_extraction path=^/v\\d/login$ path_type=regex method=PUT
               sent_through=header user_field=X-Name user_field=X-Mail pass_field=X-Pass protocol=v1;
             px_login_credentials_extraction path=/query method=get sent_through=query-param
               user_field=u pass_field=p protocol=multistep_sso;
             px_login_credentials_extraction path=/custom method=post sent_through=custom
               user=$user pass=${{http_x_pass}}word protocol=both;
             location / {{ {} }}",
            protect(&sandbox),
            origin.proxy_pass()
        ))
        .start();
    for (method, target, headers, version, step) in [
        ("PUT", "/v2/login?x", &["X-Mail: m", "X-Pass: p"][..], json!("v1"), Value::Null),
        ("PUT", "/v2/login", &["X-Mail: m"], Value::Null, Value::Null),
        ("POST", "/v2/login", &["X-Mail: m", "X-Pass: p"], Value::Null, Value::Null),
        ("GET", "/query?u=a%20b&p=", &[], json!("multistep_sso"), json!("user")),
        ("GET", "/query?p=x", &[], json!("multistep_sso"), json!("pass")),
        ("GET", "/query", &[], Value::Null, Value::Null),
        ("POST", "/custom", &["X-User: u", "X-Pass: p"], json!("v2"), Value::Null),
        ("POST", "/custom", &["X-Pass: p"], json!("multistep_sso"), json!("pass")),
    ] {
        sandbox.clear();
        request(nginx.addr(), method, target, headers, b"");
        let additional = sandbox.risk_calls()[0].json()["additional"].take();
        let found = (&additional["ci_version"], &additional["sso_step"]);
        assert_eq!(found, (&version, &step), "{method} {target} {headers:?}");
        if target == "/query?u=a%20b&p=" {
            assert_eq!(additional["user"], "a b");
        }
    }
}

#[test]
fn endpoints_come_from_a_file_before_those_of_the_configuration() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let file = json!({"features": {"credentials": {"items": [
        {"id": 0, "method": "post", "path": "/login", "sent_through": "body",
         "user_field": "account.name", "pass_field": "account.pw", "protocol": "v1"},
    ]}}});
    let nginx = Nginx::builder()
        .server(&format!(
            "{} {LOGIN} px_login_creds_settings_filename creds.json;
             px_credentials_intelligence_version multistep_sso;
             px_login_credentials_extraction path=/other method=post sent_through=body
               user_field=username pass_field=password;
             location / {{ {} }}",
            protect(&sandbox),
            origin.proxy_pass()
        ))
        .start_with(|dir| std::fs::write(dir.join("creds.json"), file.to_string()).unwrap());
    let json = ["Content-Type: application/json"];
    let body = br#"{"account":{"name":"n","pw":"p"},"username":"u","password":"p"}"#;
    request(nginx.addr(), "POST", "/login", &json, body);
    request(nginx.addr(), "POST", "/other", &json, body);
    let versions: Vec<Value> = sandbox
        .risk_calls()
        .iter()
        .map(|call| call.json()["additional"]["ci_version"].clone())
        .collect();
    assert_eq!(versions, ["v1", "multistep_sso"]);
}

#[test]
fn success_is_told_by_status_header_body_or_expression() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let http = "map $upstream_http_x_session $has_session { default 1; '' 0; maybe ''; }";
    let padding = "x".repeat(40_000);
    let welcome = format!("{padding}<h1>Welcome, Alpha</h1>");
    let late = format!("{padding}{padding}Welcome, Alpha");
    for (directives, endpoint, cases) in [
        ("px_login_successful_reporting_method none;", "", vec![(200, "", "", json!(false))]),
        (
            "px_login_successful_reporting_method status; px_login_successful_status 204 302;",
            "",
            vec![(302, "", "", json!(true)), (200, "", "", json!(false))],
        ),
        (
            "px_login_successful_reporting_method header;",
            "",
            vec![
                (401, "X-PX-Login-Successful: 1", "", json!(true)),
                (200, "X-PX-Login-Successful: 0", "", json!(false)),
                (200, "", "", json!(false)),
            ],
        ),
        (
            "px_login_successful_reporting_method header; px_login_successful_header_name X-Ok;
             px_login_successful_header_value yes;",
            "",
            vec![(200, "x-ok: yes", "", json!(true)), (200, "x-ok: no", "", json!(false))],
        ),
        (
            "px_login_successful_reporting_method body;
             px_login_successful_body_regex '/welcome,\\s+\\w+/i';",
            "",
            vec![
                (200, "", &*welcome, json!(true)),
                (200, "", "Sorry", json!(false)),
                // Beyond what is searched.
                (200, "", &*late, json!(false)),
                // What the origin compresses all the same nobody can tell.
                (200, "Content-Encoding: br", "Welcome, A", Value::Null),
            ],
        ),
        (
            "px_login_successful_reporting_method custom; px_login_successful_custom $has_session;",
            "",
            vec![
                (200, "X-Session: s", "", json!(true)),
                (200, "", "", json!(false)),
                (200, "X-Session: maybe", "", Value::Null),
            ],
        ),
        (
            "px_login_successful_reporting_method body;",
            "login_successful_reporting_method=custom login_successful=$upstream_http_x_ok",
            vec![(200, "X-Ok: on", "", json!(true)), (200, "X-Ok: off", "", json!(false))],
        ),
        (
            "",
            "login_successful_reporting_method=status login_successful_statuses=200,201",
            vec![(201, "", "", json!(true)), (202, "", "", json!(false))],
        ),
    ] {
        let login =
            LOGIN.replace("pass_field=password", &format!("pass_field=password {endpoint}"));
        let nginx = Nginx::builder()
            .http(http)
            .server(&format!(
                "{} px_batch_activities_timeout_ms 10; {login} {directives} gzip on; gzip_min_length 1;
                 location / {{ {} }}",
                protect(&sandbox),
                origin.proxy_pass()
            ))
            .start();
        for (status, header, body, expected) in cases {
            origin.clear();
            let headers: &[&str] = if header.is_empty() { &[] } else { &[header] };
            origin.answer(status, headers, body.as_bytes());
            let form = "Content-Type: application/x-www-form-urlencoded";
            let accept = "Accept-Encoding: gzip";
            let answer = request(nginx.addr(), "POST", "/login", &[form, accept], FORM.as_bytes());
            assert_eq!(answer.status, status);
            let (page, report) = two(&sandbox);
            let details = &report["details"];
            assert_eq!(details["login_successful"], expected, "{directives} {header}");
            assert_eq!(details["http_status_code"], status, "{directives} {header}");
            assert!(page["details"].get("login_successful").is_none());
            let searches = directives.contains("method body") && endpoint.is_empty();
            let asked = origin.texts()[0].to_ascii_lowercase();
            assert_eq!(asked.contains("accept-encoding"), !searches, "{directives}");
        }
    }
}

#[test]
fn a_files_body_is_searched_too() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let _ = origin;
    let nginx = Nginx::builder()
        .server(&format!(
            "{} {LOGIN} px_login_successful_reporting_method body;
             px_login_successful_body_regex Welcome; sendfile on;
             error_page 405 =200 /welcome.html;
             location = /login {{ }} location = /welcome.html {{ }}",
            protect(&sandbox)
        ))
        .start_with(|dir| {
            std::fs::write(dir.join("html/login"), "Sorry").unwrap();
            std::fs::write(dir.join("html/welcome.html"), "Welcome").unwrap();
        });
    assert_eq!(post(&nginx, "/login", FORM).text(), "Welcome");
    assert_eq!(two(&sandbox).1["details"]["login_successful"], true);
}

#[test]
fn compromised_logins_may_be_marked_in_the_query_and_by_the_status() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    compromised(&sandbox);
    let options = "px_credentials_intelligence_query_string on;
        px_compromised_credentials_returned_status_response 209;
        px_login_successful_reporting_method status;
        px_compromised_credentials_header X-Breached;";
    let nginx = site(&sandbox, &origin, &format!("{LOGIN} {options}"));
    for (target, expected) in [
        ("/login", "POST /login?compromised_credentials=true HTTP"),
        ("/login?", "POST /login?compromised_credentials=true HTTP"),
        ("/login?a=b", "POST /login?a=b&compromised_credentials=true HTTP"),
    ] {
        origin.clear();
        origin.answer(200, &["X-Own: 1"], b"body");
        let response = post(&nginx, target, FORM);
        assert_eq!((response.status, response.text().as_str()), (209, "body"), "{target}");
        assert_eq!(response.header("x-own"), Some("1"));
        let text = &origin.texts()[0];
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("x-breached: 1\r\n"), "{text}");
        let (page, login) = two(&sandbox);
        assert!(!login["url"].to_string().contains("compromised"), "{login}");
        assert_eq!(page["details"]["http_status_code"], 200);
        assert_eq!(login["details"]["http_status_code"], 200);
    }
    // Only of a successful one.
    origin.answer(401, &[], b"");
    assert_eq!(post(&nginx, "/login", FORM).status, 401);
    two(&sandbox);
    // Only of compromised ones.
    sandbox.answer_risk(Reply::risk(0, "c"));
    origin.clear();
    origin.answer(200, &[], b"");
    assert_eq!(post(&nginx, "/login", FORM).status, 200);
    assert!(origin.texts()[0].starts_with("POST /login HTTP"));
    assert!(!origin.texts()[0].contains("x-breached"));
    assert_eq!(two(&sandbox).1["details"]["credentials_compromised"], false);
    // Where the origin is given a path of its own, nginx takes the query from its arguments.
    compromised(&sandbox);
    origin.clear();
    let addr = origin.addr();
    nginx.reload(|conf| {
        conf.replace(&origin.proxy_pass(), &format!("proxy_pass http://{addr}/in/;"))
    });
    support::wait_until("the new path", || {
        origin.clear();
        post(&nginx, "/login?a=b", FORM);
        origin.texts()[0].starts_with("POST /in/login?a=b&compromised_credentials=true HTTP")
    });
}

#[test]
fn an_empty_name_sends_no_header() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    compromised(&sandbox);
    let nginx =
        site(&sandbox, &origin, &format!("{LOGIN} px_compromised_credentials_header \"\";"));
    assert_eq!(post(&nginx, "/login", FORM).status, 200);
    let text = &origin.texts()[0];
    assert!(!text.lines().any(|line| line.starts_with(':') || line.ends_with(": 1")), "{text}");
    assert_eq!(two(&sandbox).1["details"]["credentials_compromised"], true);
}

#[test]
fn the_origin_may_report_instead() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    compromised(&sandbox);
    let nginx = site(
        &sandbox,
        &origin,
        &format!(
            "{LOGIN} px_additional_s2s_activity_header_enabled on;
             px_send_raw_username_on_additional_s2s_activity on;"
        ),
    );
    post(&nginx, "/login", "username=Bj%C3%B6rn&password=p");
    let text = &origin.texts()[0];
    let header = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
    };
    let activity = header("px-additional-activity: ");
    assert!(activity.is_ascii(), "{activity}");
    let activity: Value = serde_json::from_str(&activity).expect("JSON");
    assert_eq!(activity["type"], "additional_s2s");
    assert_eq!(activity["details"]["raw_username"], "Bj\u{f6}rn");
    assert_eq!(activity["details"]["credentials_compromised"], true);
    assert!(activity["details"].get("login_successful").is_none());
    let url = header("px-additional-activity-url: ");
    assert_eq!(url, format!("{}/api/v1/collector/s2s", sandbox.url()));
    sandbox.wait_for_activities(1, SOON);
    post(&nginx, "/login", "username=x&password=p");
    let activities = sandbox.wait_for_activities(2, SOON);
    assert!(activities.iter().all(|activity| activity["type"] == "page_requested"));
}

#[test]
fn the_name_is_sent_only_if_wanted_compromised_and_let_in() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    compromised(&sandbox);
    let status = "px_login_successful_reporting_method status;";
    let nginx = site(&sandbox, &origin, &format!("{LOGIN} {status}"));
    post(&nginx, "/login", FORM);
    assert!(two(&sandbox).1["details"].get("raw_username").is_none());
    let wanted = "px_send_raw_username_on_additional_s2s_activity on;";
    let nginx = site(&sandbox, &origin, &format!("{LOGIN} {status} {wanted}"));
    post(&nginx, "/login", FORM);
    let (page, login) = two(&sandbox);
    assert_eq!(login["details"]["raw_username"], CREDENTIALS[0]);
    assert!(page["details"].get("raw_username").is_none());
    origin.answer(401, &[], b"");
    post(&nginx, "/login", FORM);
    assert!(two(&sandbox).1["details"].get("raw_username").is_none());
    sandbox.answer_risk(Reply::risk(0, "c"));
    origin.answer(200, &[], b"");
    post(&nginx, "/login", FORM);
    assert!(two(&sandbox).1["details"].get("raw_username").is_none());
}

#[test]
fn no_report_on_logins_where_it_is_off_or_nobody_passed() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let off = "px_automatic_additional_s2s_activity_enabled off;";
    let nginx = site(&sandbox, &origin, &format!("{LOGIN} {off}"));
    post(&nginx, "/login", FORM);
    sandbox.wait_for_activities(1, SOON);
    sandbox.answer_risk(Reply::risk(100, "c"));
    let nginx = site(&sandbox, &origin, LOGIN);
    assert_eq!(post(&nginx, "/login", FORM).status, 403);
    sandbox.wait_for_activities(2, SOON);
    // Simulated: it went to the origin, but was no pass.
    let old = nginx.workers();
    nginx.reload(|conf| conf.replace("px_module_mode active_blocking;", ""));
    nginx.wait_for_workers_to_end(&old);
    assert_eq!(post(&nginx, "/login", FORM).status, 200);
    let nginx = site(
        &sandbox,
        &origin,
        "px_login_credentials_extraction path=/login method=post sent_through=body user_field=username pass_field=password;",
    );
    sandbox.answer_risk(Reply::risk(0, "c"));
    post(&nginx, "/login", FORM);
    let activities = sandbox.wait_for_activities(4, SOON);
    assert!(activities.iter().all(|activity| activity["type"] != "additional_s2s"));
    assert!(activities[3]["details"].get("user").is_none());
}

#[test]
fn a_failing_risk_api_lets_logins_pass_and_knows_nothing() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.answer_risk(Reply::new(500));
    let options = "px_credentials_intelligence_query_string on;";
    let nginx = site(&sandbox, &origin, &format!("{LOGIN} {options}"));
    assert_eq!(post(&nginx, "/login", FORM).status, 200);
    let (page, login) = two(&sandbox);
    assert_eq!(page["details"]["pass_reason"], "s2s_error");
    assert_eq!(login["details"]["credentials_compromised"], false);
    assert!(origin.texts()[0].starts_with("POST /login HTTP"));
}
