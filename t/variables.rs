//! Tests for the px module: every `$px_*` variable, in every kind of verdict, wherever nginx takes one.

mod support;

use std::fs;
use std::path::Path;

use px_sandbox::{Behaviour, Reply, Sandbox, cookie};
use serde_json::{Value, json};
use support::{BROWSER, Nginx, Origin, SOON, get, protect};

/// The variables, each with its older spelling.
const VARIABLES: &[(&str, Option<&str>)] = &[
    ("px_verdict", None),
    ("px_filter_reason", None),
    ("px_pass_reason", Some("pxpass")),
    ("px_block_reason", Some("pxblock")),
    ("px_call_reason", Some("pxcall")),
    ("px_block_action", Some("pxaction")),
    ("px_block_result", None),
    ("px_score", Some("pxscore")),
    ("px_uuid", Some("pxuuid")),
    ("px_vid", Some("pxvid")),
    ("px_vid_source", None),
    ("px_risk_rtt", Some("pxrtt")),
    ("px_risk_mode", None),
    ("px_request_id", None),
    ("px_client_ip", None),
    ("px_cookie_origin", None),
    ("px_cookie_ts", Some("pxcookiets")),
    ("px_sensitive", None),
    ("px_s2s_error_reason", None),
    ("px_s2s_error_http_status", None),
    ("px_data_enrichment", Some("pxde")),
    ("px_token_cache", None),
    ("px_graphql_operation_name", None),
    ("px_graphql_operation_type", None),
];

/// A variable as it follows from a line of the others.
type Told = fn(&Value) -> &str;

/// Further variables, in the words of other enforcers, and what each must be beside the others.
const DERIVED: [(&str, Told); 11] = [
    ("px_action", |line| match line["px_verdict"].as_str() {
        Some("pass") => "pass_request",
        other => other.unwrap_or_default(),
    }),
    ("px_s2s_call_reason", |line| told(line, "px_call_reason")),
    ("px_cookie_timestamp", |line| told(line, "px_cookie_ts")),
    ("px_is_mobile", |line| one_if(told(line, "px_cookie_origin") == "header")),
    ("px_is_sensitive", |line| one_if(told(line, "px_sensitive") == "1")),
    ("px_is_monitored", |line| one_if(told(line, "px_risk_mode") == "monitor")),
    ("px_pxde", |line| told(line, "px_data_enrichment")),
    ("px_pxde_verified", |line| one_if(!told(line, "px_data_enrichment").is_empty())),
    // Where no node is asked. Where one is, t/node.rs tells.
    ("px_wallarm_status", |_| "off"),
    ("px_wallarm_time", |_| "-"),
    ("px_wallarm_request_id", |_| ""),
];

fn told<'l>(line: &'l Value, name: &str) -> &'l str {
    line[name].as_str().unwrap_or_default()
}

const fn one_if(is_so: bool) -> &'static str {
    if is_so { "1" } else { "" }
}

#[test]
fn this_file_knows_every_variable() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/variables.rs");
    let source = fs::read_to_string(source).expect("the source is there");
    let rows = source.lines().filter_map(|line| line.trim().strip_prefix("of("));
    let mut there: Vec<String> = rows
        .map(|row| match row.split('"').nth(1) {
            Some(name) if row.starts_with('"') => name.to_owned(),
            _ => {
                let constant = row.split(',').next().expect("an argument");
                let (_, rest) =
                    source.split_once(&format!("const {constant}: &str = \"")).expect("a constant");
                rest.split('"').next().expect("a text").to_owned()
            }
        })
        .collect();
    let older = VARIABLES.iter().filter_map(|(_, older)| *older);
    let names = VARIABLES.iter().map(|(name, _)| *name).chain(DERIVED.map(|(name, _)| name));
    let mut here: Vec<String> = names.chain(older).map(str::to_owned).collect();
    there.sort();
    here.sort();
    assert_eq!(here, there);
}

/// A log with all variables as JSON, for the `http` block.
fn log_of_variables() -> String {
    let older = VARIABLES.iter().filter_map(|(_, older)| *older);
    let names = VARIABLES.iter().map(|(name, _)| *name).chain(older);
    let names = names.chain(DERIVED.map(|(name, _)| name));
    let members: Vec<String> = names.map(|name| format!("\"{name}\":\"${name}\"")).collect();
    format!("log_format variables escape=json '{{{}}}';\n", members.join(","))
}

struct Site {
    sandbox: Sandbox,
    origin: Origin,
    nginx: Nginx,
}

impl Site {
    fn new(server: &str) -> Self {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        let server = server.replace("PASS", &origin.proxy_pass());
        let nginx = Nginx::builder()
            .http(&log_of_variables())
            .server(&format!("access_log variables.log variables; {} {server}", protect(&sandbox)))
            .start();
        Self { sandbox, origin, nginx }
    }

    /// The variables of the next request, which this sends.
    fn variables(&self, path: &str, headers: &[&str]) -> Value {
        let read = || self.nginx.log_lines("variables.log");
        let before = read().len();
        get(self.nginx.addr(), path, headers);
        support::wait_until("a line of variables", || read().len() > before);
        let line = read().swap_remove(before);
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|err| panic!("{err}: {line}"));
        for (name, older) in VARIABLES {
            if let Some(older) = older {
                assert_eq!(line[*older], line[*name], "{older}");
            }
        }
        for (name, expected) in DERIVED {
            assert_eq!(told(&line, name), expected(&line), "{name}");
        }
        line
    }

    /// Compares all variables; those that are not named must be empty. `?` is any text.
    #[track_caller]
    fn assert_variables(&self, path: &str, headers: &[&str], expected: &[(&str, &str)]) -> Value {
        let line = self.variables(path, headers);
        for (name, _) in VARIABLES {
            let expected = expected.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value);
            let found = line[*name].as_str().expect("a text");
            let same = if expected == "?" { !found.is_empty() } else { found == expected };
            assert!(same, "{path} ${name} is {found:?} and should be {expected:?}");
        }
        line
    }
}

const UUID: &str = "11111111-2222-4333-8444-555555555555";
const VID: &str = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";

#[test]
fn a_pass_by_cookie_shows_the_token() {
    let site = Site::new("location / { PASS }");
    let mint =
        site.sandbox.mint(BROWSER).uuid(UUID).vid(VID).score(12).expires_at(4_000_000_000_123);
    let enrichment = cookie::data_enrichment(&site.sandbox.app().secret, &json!({"a": "\u{e9}"}));
    let line = site.assert_variables(
        "/",
        &[&format!("Cookie: {}; _pxde={enrichment}", mint.cookie())],
        &[
            ("px_verdict", "pass"),
            ("px_pass_reason", "cookie"),
            ("px_block_result", "0"),
            ("px_score", "12"),
            ("px_uuid", UUID),
            ("px_vid", VID),
            ("px_vid_source", "risk_cookie"),
            ("px_risk_mode", "active_blocking"),
            ("px_request_id", "?"),
            ("px_client_ip", "127.0.0.1"),
            ("px_cookie_origin", "cookie"),
            ("px_cookie_ts", "4000000000123"),
            ("px_sensitive", "0"),
            ("px_data_enrichment", "{\"a\":\"\u{e9}\"}"),
            ("px_token_cache", "miss"),
        ],
    );
    let activity = &site.sandbox.wait_for_activities(1, SOON)[0];
    assert_eq!(activity["details"]["request_id"], line["px_request_id"]);
    // What nobody signed is nobody's word.
    let line = site.variables("/", &[&format!("Cookie: {}; _pxde=00:e30=", mint.cookie())]);
    assert_eq!(line["px_data_enrichment"], "");
    // By now the cookie is known.
    assert_eq!(line["px_token_cache"], "hit");
}

#[test]
fn a_pass_by_the_risk_api_shows_the_call() {
    let site = Site::new("location / { PASS } px_sensitive_routes /account;");
    site.sandbox.answer_risk(Reply::json(json!({
        "status": 0, "score": 33.5, "action": "c", "uuid": UUID, "data_enrichment": {"b": 1},
    })));
    // So that the round trip is more than nothing.
    site.sandbox.behave(Behaviour::Delay(std::time::Duration::from_millis(20)));
    let line = site.assert_variables(
        "/account",
        &[&format!("Cookie: _pxvid={VID}; _pxhd=hidden")],
        &[
            ("px_verdict", "pass"),
            ("px_pass_reason", "s2s"),
            ("px_call_reason", "no_cookie_w_vid"),
            ("px_block_result", "0"),
            ("px_score", "33.5"),
            ("px_uuid", UUID),
            ("px_vid", VID),
            ("px_vid_source", "vid_cookie"),
            ("px_risk_rtt", "?"),
            ("px_risk_mode", "active_blocking"),
            ("px_request_id", "?"),
            ("px_client_ip", "127.0.0.1"),
            ("px_cookie_origin", "cookie"),
            ("px_sensitive", "1"),
            ("px_data_enrichment", "{\"b\":1}"),
        ],
    );
    let rtt: u64 = line["px_risk_rtt"].as_str().and_then(|text| text.parse().ok()).expect("ms");
    assert!((10..10_000).contains(&rtt), "{rtt}");
}

#[test]
fn a_block_shows_its_reason_and_action() {
    let site = Site::new("location / { PASS } location /m/ { px_module_mode monitor; PASS }");
    site.sandbox.answer_risk(Reply::json(json!({
        "status": 0, "score": 100, "action": "r", "uuid": UUID,
    })));
    let token = site.sandbox.mint(BROWSER).uuid(UUID).vid(VID).score(100).action("b");
    let cookie = format!("Cookie: {}", token.expires_at(4_000_000_000_000).cookie());
    for (path, verdict, mode) in
        [("/", "block", "active_blocking"), ("/m/", "simulated_block", "monitor")]
    {
        let facts = [
            ("px_verdict", verdict),
            ("px_block_result", "1"),
            ("px_score", "100"),
            ("px_uuid", UUID),
            ("px_risk_mode", mode),
            ("px_request_id", "?"),
            ("px_client_ip", "127.0.0.1"),
            ("px_cookie_origin", "cookie"),
            ("px_sensitive", "0"),
        ];
        let by_risk_api = [
            ("px_block_reason", "s2s_high_score"),
            ("px_block_action", "r"),
            ("px_call_reason", "no_cookie"),
            ("px_risk_rtt", "?"),
        ];
        site.assert_variables(path, &[], &[&facts[..], &by_risk_api].concat());
        let by_token = [
            ("px_block_reason", "cookie_high_score"),
            ("px_block_action", "b"),
            ("px_vid", VID),
            ("px_vid_source", "risk_cookie"),
            ("px_cookie_ts", "4000000000000"),
            ("px_token_cache", "?"),
        ];
        site.assert_variables(path, &[&cookie], &[&facts[..], &by_token].concat());
    }
}

#[test]
fn a_failed_call_shows_why_the_visitor_passed() {
    let site = Site::new("location / { PASS }\nlocation = /hang { PASS px_s2s_timeout 100ms; }");
    let facts = [
        ("px_verdict", "pass"),
        ("px_call_reason", "no_cookie"),
        ("px_block_result", "0"),
        ("px_risk_mode", "active_blocking"),
        ("px_request_id", "?"),
        ("px_client_ip", "127.0.0.1"),
        ("px_cookie_origin", "cookie"),
        ("px_sensitive", "0"),
    ];
    site.sandbox.behave_next(Behaviour::Status(503).after(std::time::Duration::from_millis(20)));
    let error = [
        ("px_pass_reason", "s2s_error"),
        ("px_s2s_error_reason", "server_error"),
        ("px_s2s_error_http_status", "503"),
        ("px_risk_rtt", "?"),
    ];
    site.assert_variables("/", &[], &[&facts[..], &error].concat());

    site.sandbox.behave_next(Behaviour::Hang);
    let timeout = [("px_pass_reason", "s2s_timeout")];
    site.assert_variables("/hang", &[], &[&facts[..], &timeout].concat());

    site.sandbox.go_down();
    let error = [("px_pass_reason", "s2s_error"), ("px_s2s_error_reason", "unknown_error")];
    site.assert_variables("/", &[], &[&facts[..], &error].concat());
}

#[test]
fn a_mobile_request_shows_where_its_token_came_from() {
    let site = Site::new("location / { PASS }");
    let token = site.sandbox.mint("").mobile().mobile_header();
    let line = site.variables("/", &[&format!("X-PX-AUTHORIZATION: {token}")]);
    assert_eq!(
        (&line["px_cookie_origin"], &line["px_pass_reason"]),
        (&json!("header"), &json!("cookie"))
    );
    let line = site.variables("/", &["X-PX-AUTHORIZATION: 4"]);
    assert_eq!(line["px_call_reason"], "mobile_error_4");
}

#[test]
fn what_is_not_judged_shows_next_to_nothing() {
    let site = Site::new(
        "location / { PASS } location /off/ { px_enabled off; PASS }
         location /elsewhere/ { px_enabled_routes /none; PASS } location /returned/ { return 204; }",
    );
    site.assert_variables(
        "/a.css",
        &[],
        &[("px_verdict", "filtered"), ("px_filter_reason", "extension")],
    );
    for path in ["/off/", "/elsewhere/", "/returned/"] {
        site.assert_variables(path, &[], &[]);
    }
}

/// An internal redirect makes nginx forget every module's context but this one's.
#[test]
fn variables_survive_internal_redirects() {
    let site = Site::new(
        "location /page { error_page 404 /missing; PASS proxy_intercept_errors on; }
         location /named { error_page 404 = @named; PASS proxy_intercept_errors on; }
         location /accel { PASS }
         location /tried { try_files /nothing @named; }
         location /missing { px_enabled off; PASS }
         location @named { PASS }
         location /inner { internal; PASS }",
    );
    for path in ["/page", "/named", "/accel", "/tried"] {
        site.sandbox.clear();
        match path {
            "/accel" => site.origin.answer(200, &["X-Accel-Redirect: /inner"], b""),
            "/tried" => site.origin.answer(200, &[], b""),
            _ => site.origin.answer(404, &[], b""),
        }
        let cookie = site.sandbox.mint(BROWSER).uuid(UUID).cookie();
        let line = site.variables(path, &[&format!("Cookie: {cookie}")]);
        assert_eq!(line["px_verdict"], "pass", "{path}");
        assert_eq!(line["px_uuid"], UUID, "{path}");
        assert_eq!(site.sandbox.wait_for_activities(1, SOON).len(), 1, "{path}");
    }
}

#[test]
fn variables_serve_in_headers_maps_and_conditions() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .http(
            "map $px_score $px_level { default unknown; ~^[0-9]$ low; ~^[0-9][0-9]$ middle; 100 high; }
             map $px_block_result $doubt { 1 doubtful; default fine; }",
        )
        .server(&format!(
            "{} px_module_mode monitor;
             location / {{
                 {1}
                 proxy_set_header X-Px-Score $px_score;
                 proxy_set_header X-Px-Level $px_level;
                 proxy_set_header X-Px-None $px_s2s_error_reason;
                 add_header X-Doubt $doubt always;
                 add_header X-Verdict $px_verdict;
                 error_page 418 = @teapot; proxy_intercept_errors on;
             }}
             location /early {{ if ($px_verdict) {{ return 500; }} {1} }}
             location @teapot {{ if ($px_verdict = simulated_block) {{ return 200 doubt; }} return 200 trust; }}",
            protect(&sandbox).replace("px_module_mode active_blocking;", ""),
            origin.proxy_pass()
        ))
        .start();
    for (score, level, doubt, verdict) in [
        (5, "low", "fine", "pass"),
        (50, "middle", "fine", "pass"),
        (100, "high", "doubtful", "simulated_block"),
    ] {
        origin.clear();
        sandbox.answer_risk(Reply::risk(score, "c"));
        origin.answer(200, &[], b"");
        let response = get(nginx.addr(), "/", &["X-Px-Score: forged", "X-Px-None: forged"]);
        assert_eq!(response.header("x-doubt"), Some(doubt));
        assert_eq!(response.header("x-verdict"), Some(verdict));
        let received = origin.texts().remove(0);
        assert!(
            received.contains(&format!("\r\nX-Px-Score: {score}\r\nX-Px-Level: {level}\r\n")),
            "{received}"
        );
        assert!(!received.contains("forged") && !received.contains("X-Px-None"), "{received}");
        // `if` is evaluated before the verdict, except where a redirect comes after it.
        assert_eq!(get(nginx.addr(), "/early", &[]).status, 200);
        origin.answer(418, &[], b"");
        let expected = if verdict == "pass" { "trust" } else { "doubt" };
        assert_eq!(get(nginx.addr(), "/", &[]).text(), expected);
    }
}

#[test]
fn variables_are_there_where_nothing_is_enforced() {
    let nginx = Nginx::builder()
        .http(&log_of_variables())
        .server("location / { add_header X-Verdict \"<$px_verdict$pxscore>\"; return 200 ok; }")
        .start();
    assert_eq!(get(nginx.addr(), "/", &[]).header("x-verdict"), Some("<>"));
}
