//! Tests for the px module: the operator's own conditions, in place of other enforcers' callbacks.

mod support;

use px_sandbox::{Reply, Sandbox};
use support::{BROWSER, Nginx, Origin, SOON, get, protect};

/// A site that tells each visitor what was decided; `http` and `directives` are the test's.
fn site(sandbox: &Sandbox, origin: &Origin, http: &str, directives: &str) -> Nginx {
    Nginx::builder()
        .http(http)
        .server(&format!(
            "{} {directives}
             location / {{
                 {}
                 add_header X-Verdict \"$px_verdict $px_filter_reason$px_pass_reason$px_call_reason\" always;
             }}",
            protect(sandbox),
            origin.proxy_pass()
        ))
        .start()
}

fn verdict(nginx: &Nginx, path: &str, headers: &[&str]) -> String {
    let response = get(nginx.addr(), path, headers);
    response.header("x-verdict").unwrap_or_default().trim().to_owned()
}

#[test]
fn a_condition_holds_where_a_value_is_neither_empty_nor_zero() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx =
        site(&sandbox, &origin, "", "px_custom_is_filtered_request $arg_a $arg_b $http_x_skip;");
    for (path, headers, filtered) in [
        ("/", &[][..], false),
        ("/?a=&b=0", &[], false),
        ("/?a=1", &[], true),
        ("/?a=0&b=no", &[], true),
        ("/?b=00", &[], true),
        ("/", &["X-Skip: yes"], true),
        ("/", &["X-Skip: 0"], false),
    ] {
        let expected = if filtered { "filtered custom" } else { "pass s2sno_cookie" };
        assert_eq!(verdict(&nginx, path, headers), expected, "{path} {headers:?}");
    }
    sandbox.assert_no_complaints();
}

#[test]
fn px_enabled_if_switches_the_module_off_for_a_request() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let http = "map $http_user_agent $is_wanted { default 1; ~Probe 0; }";
    let nginx = site(&sandbox, &origin, http, "px_enabled_if $is_wanted;");
    assert_eq!(verdict(&nginx, "/", &["User-Agent: Probe/1"]), "");
    assert_eq!(verdict(&nginx, "/", &["User-Agent: Browser/1"]), "pass s2sno_cookie");
    assert_eq!(sandbox.risk_calls().len(), 1);
}

#[test]
fn a_sensitive_request_asks_the_risk_api_although_the_cookie_is_good() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let http = "map \"$request_method:$uri\" $sensitive { ~^GET:/pay 1; }";
    let nginx = site(&sandbox, &origin, http, "px_custom_is_sensitive_request $sensitive;");
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    assert_eq!(verdict(&nginx, "/account", &[&cookie]), "pass cookie");
    assert_eq!(verdict(&nginx, "/pay/now", &[&cookie]), "pass s2ssensitive_route");
    let call = &sandbox.risk_calls()[0].json();
    assert_eq!(call["additional"]["is_sensitive_route"], true);
    sandbox.assert_no_complaints();
}

#[test]
fn conditions_say_what_is_monitored_and_what_is_enforced() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.answer_risk(Reply::risk(100, "c"));
    let conditions = "px_custom_is_monitored_request $arg_monitored; \
                      px_custom_is_enforced_request $arg_enforced;";
    let nginx = site(&sandbox, &origin, "", conditions);
    for (path, status) in [
        ("/", 403),
        ("/?monitored=1", 200),
        ("/?enforced=1", 403),
        // Enforced wins.
        ("/?monitored=1&enforced=1", 403),
    ] {
        assert_eq!(get(nginx.addr(), path, &[]).status, status, "{path}");
    }
    let old = nginx.workers();
    nginx.reload(|conf| conf.replace("px_module_mode active_blocking;", ""));
    nginx.wait_for_workers_to_end(&old);
    for (path, status) in [("/", 200), ("/?enforced=1", 403)] {
        assert_eq!(get(nginx.addr(), path, &[]).status, status, "monitor mode, {path}");
    }
}

#[test]
fn the_pre_enforce_handler_blocks_without_asking_anybody() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "", "px_pre_enforce_handler $arg_drop;");
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    assert_eq!(get(nginx.addr(), "/", &[&cookie]).status, 200);
    let response = get(nginx.addr(), "/?drop=1", &[&cookie]);
    assert_eq!(response.status, 403);
    assert!(response.text().contains("captcha.js?a=c"));
    assert!(sandbox.risk_calls().is_empty());
    let activities = sandbox.wait_for_activities(2, SOON);
    let block = activities.iter().find(|a| a["type"] == "block").expect("a block");
    assert_eq!(block["details"]["block_reason"], "pre_enforce_handler");
    assert_eq!(block["details"]["block_action"], "c");
}

#[test]
fn the_client_address_may_be_an_expression() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "",
        "px_client_ip $http_x_edge; px_ip_headers x-forwarded-for; \
         px_filter_by_ip 198.51.100.0/24;",
    );
    let forwarded = "X-Forwarded-For: 203.0.113.9";
    for (edge, expected) in [
        ("X-Edge: 192.0.2.7", "192.0.2.7"),
        ("X-Edge: 2001:db8::7, 10.0.0.1", "2001:db8::7"),
        // What is no address is as good as nothing.
        ("X-Edge: unknown", "203.0.113.9"),
        ("X-None: 1", "203.0.113.9"),
    ] {
        sandbox.clear();
        get(nginx.addr(), "/", &[edge, forwarded]);
        let call = sandbox.wait_for_risk_calls(1, SOON)[0].json();
        assert_eq!(call["request"]["socket_ip"], expected, "{edge}");
    }
    assert_eq!(verdict(&nginx, "/", &["X-Edge: 198.51.100.3"]), "filtered ip");
}

#[test]
fn bot_enforcer_off_and_server_calls_off_ask_nobody() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let off = site(&sandbox, &origin, "", "px_bot_enforcer off;");
    assert_eq!(verdict(&off, "/", &[]), "");
    let silent = site(&sandbox, &origin, "", "px_enable_server_calls off;");
    assert_eq!(verdict(&silent, "/", &[]), "pass s2s_error");
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    assert_eq!(verdict(&silent, "/", &[&cookie]), "pass cookie");
    assert!(sandbox.risk_calls().is_empty());
    let activities = sandbox.wait_for_activities(2, SOON);
    let failed = activities.iter().find(|a| a["details"]["pass_reason"] == "s2s_error");
    let details = &failed.expect("the visitor without a cookie")["details"];
    assert_eq!(details["s2s_error_reason"], "unable_to_send_request");
    assert_eq!(details["error_message"], "px_enable_server_calls is off");
}

#[test]
fn status_413_of_the_risk_api_blocks_where_the_operator_says_so() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.answer_risk(Reply::new(413));
    let lenient = site(&sandbox, &origin, "", "");
    assert_eq!(verdict(&lenient, "/", &[]), "pass s2s_errorno_cookie");
    let strict = site(&sandbox, &origin, "", "px_block_size_exceeded_15k_headers_size on;");
    assert_eq!(get(strict.addr(), "/", &[]).status, 403);
    let activities = sandbox.wait_for_activities(2, SOON);
    let block = activities.iter().find(|a| a["type"] == "block").expect("a block");
    assert_eq!(block["details"]["block_reason"], "headers_size_exceeded");
}

#[test]
fn the_whole_access_phase_has_a_limit_of_its_own() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.behave(px_sandbox::Behaviour::Delay(std::time::Duration::from_secs(8)));
    let nginx = site(&sandbox, &origin, "", "px_s2s_timeout 20s; px_enforce_timeout 300ms;");
    let began = std::time::Instant::now();
    assert_eq!(verdict(&nginx, "/", &[]), "pass s2s_timeoutno_cookie");
    // Far from both the answer and the timeout of the call, on any machine.
    assert!(began.elapsed() < std::time::Duration::from_secs(7));
}

#[test]
fn the_log_says_as_much_as_the_severity_allows() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let lines = |directives: &str, requests: usize| {
        let nginx = site(&sandbox, &origin, "", directives);
        for _ in 0..requests {
            get(nginx.addr(), "/", &[]);
        }
        let log = nginx.quit();
        log.lines().filter(|line| line.contains("px: pass")).count()
    };
    assert_eq!(lines("", 3), 0);
    assert_eq!(lines("px_logger_severity error;", 3), 0);
    assert_eq!(lines("px_logger_severity debug;", 3), 3);
    assert_eq!(lines("px_debug on;", 3), 3);
    let sampled = lines("px_debug on; px_debug_probability 4;", 100);
    assert!((5..60).contains(&sampled), "{sampled} of 100");

    sandbox.answer_risk(Reply::risk(100, "c"));
    let nginx = site(&sandbox, &origin, "", "px_logger_severity none;");
    get(nginx.addr(), "/", &[]);
    sandbox.answer_risk(Reply::new(500));
    get(nginx.addr(), "/", &[]);
    let log = nginx.quit();
    let said: Vec<_> = log.lines().filter(|line| line.contains("px: ")).collect();
    assert!(said.iter().all(|line| line.contains("built for")), "{said:?}");
}

#[test]
fn conditions_are_inherited_and_replaced_as_lists_are() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .http("px_custom_is_filtered_request $arg_http;")
        .server(&format!(
            "{} add_header X-Verdict $px_verdict always;
             location / {{ {} add_header X-Verdict $px_verdict always; }}
             location /own/ {{
                 px_custom_is_filtered_request $arg_own;
                 px_custom_is_filtered_request $arg_more;
                 {} add_header X-Verdict $px_verdict always;
             }}",
            protect(&sandbox),
            origin.proxy_pass(),
            origin.proxy_pass()
        ))
        .start();
    for (path, expected) in [
        ("/?http=1", "filtered"),
        ("/?own=1", "pass"),
        ("/own/?http=1", "pass"),
        ("/own/?own=1", "filtered"),
        ("/own/?more=1", "filtered"),
    ] {
        assert_eq!(verdict(&nginx, path, &[]), expected, "{path}");
    }
}
