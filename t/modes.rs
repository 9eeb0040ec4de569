//! Tests for the px module: which requests are handled, which are only monitored, and which ask
//! the Risk API in any case.

mod support;

use px_sandbox::{Reply, Sandbox};
use serde_json::json;
use support::{BROWSER, Nginx, Origin, SOON, get, protect};

const BOT: &str = "User-Agent: PhantomJS/1.0";

/// A site that blocks nobody unless `directives` say so.
fn monitoring(sandbox: &Sandbox, origin: &Origin, directives: &str) -> Nginx {
    let protect = protect(sandbox).replace("px_module_mode active_blocking;", "");
    Nginx::start(&format!("{protect} {directives} location / {{ {} }}", origin.proxy_pass()))
}

/// A site that blocks unless `directives` say otherwise.
fn blocking(sandbox: &Sandbox, origin: &Origin, directives: &str) -> Nginx {
    let protect = protect(sandbox);
    Nginx::start(&format!("{protect} {directives} location / {{ {} }}", origin.proxy_pass()))
}

/// Visits every path as a bot and compares the verdict in the access log.
fn assert_bot_gets(nginx: &Nginx, expected: &[(&str, &str)]) {
    let visits: Vec<_> =
        expected.iter().map(|(path, verdict)| (*path, &[][..], *verdict)).collect();
    assert_bot_with_headers_gets(nginx, &visits);
}

fn assert_bot_with_headers_gets(nginx: &Nginx, expected: &[(&str, &[&str], &str)]) {
    let before = nginx.access_log().len();
    for (at, (path, headers, verdict)) in expected.iter().enumerate() {
        let headers: Vec<&str> = [BOT].iter().chain(*headers).copied().collect();
        let status = get(nginx.addr(), path, &headers).status;
        let log = nginx.wait_for_access_log(before + at + 1);
        let word = format!("verdict={verdict} ");
        assert!(log[before + at].contains(&word), "{path} {headers:?}: {}", log[before + at]);
        assert_eq!(status, if *verdict == "block" { 403 } else { 200 }, "{path} {headers:?}");
    }
}

#[test]
fn monitor_mode_is_the_default_and_reports_what_it_would_have_blocked() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.answer_risk(Reply::json(json!({
        "status": 0, "score": 100, "action": "b", "uuid": "11111111-2222-4333-8444-555555555555",
        "pxhd": "hidden-device",
    })));
    origin.answer(201, &[], b"made");
    let nginx = monitoring(&sandbox, &origin, "");

    let response = get(nginx.addr(), "/", &[]);
    assert_eq!((response.status, response.text().as_str()), (201, "made"));
    assert_eq!(response.headers("set-cookie"), ["_pxhd=hidden-device; path=/; SameSite=Lax"]);
    assert_eq!(sandbox.risk_calls()[0].json()["additional"]["risk_mode"], "monitor");
    let activity = &sandbox.wait_for_activities(1, SOON)[0];
    assert_eq!(activity["type"], "block");
    assert_eq!(activity["details"]["simulated_block"], true);
    assert_eq!(activity["details"]["block_action"], "b");
    assert_eq!(activity["details"]["block_score"], 100);
    assert_eq!(activity["details"]["risk_mode"], "monitor");
    assert_eq!(activity["details"]["http_status_code"], 201);
    let log = nginx.wait_for_access_log(1);
    assert!(log[0].contains(" verdict=simulated_block pass=- block=s2s_high_score "), "{log:?}");
    sandbox.assert_no_complaints();
}

#[test]
fn blocking_can_be_switched_on_by_either_name() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    for (directive, verdict) in [
        ("px_module_mode active_blocking;", "block"),
        ("px_module_mode 1;", "block"),
        ("px_block_enabled on;", "block"),
        ("px_block_enabled TRUE;", "block"),
        ("px_module_mode monitor;", "simulated_block"),
        ("px_block_enabled 0;", "simulated_block"),
    ] {
        let nginx = monitoring(&sandbox, &origin, directive);
        assert_bot_gets(&nginx, &[("/", verdict)]);
    }
}

#[test]
fn a_header_lifts_monitoring_where_the_operator_named_one() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = monitoring(&sandbox, &origin, "px_bypass_monitor_header X-PX-Block;");
    let simulated = "simulated_block";
    assert_bot_with_headers_gets(
        &nginx,
        &[
            ("/", &[], simulated),
            ("/", &["x-px-block: 1"], "block"),
            ("/", &["X-Px-Block: 1"], "block"),
            ("/", &["x-px-block: 0"], simulated),
            ("/", &["x-px-block: 11"], simulated),
            ("/", &["x-px-block: true"], simulated),
            ("/", &["x-px-block:"], simulated),
            ("/", &["x-px-block: 0", "x-px-block: 1"], simulated),
            ("/", &["x-px-block2: 1"], simulated),
        ],
    );
    // It lifts monitoring, and blocks nobody by itself.
    assert_eq!(get(nginx.addr(), "/", &["x-px-block: 1"]).status, 200);
    let calls = sandbox.risk_calls();
    assert_eq!(calls[1].json()["additional"]["risk_mode"], "active_blocking");
    drop(nginx);

    let nginx = monitoring(&sandbox, &origin, "");
    assert_bot_with_headers_gets(&nginx, &[("/", &["x-px-block: 1"], simulated)]);
}

#[test]
fn a_header_activates_what_is_switched_off_where_the_operator_named_one() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let off = protect(&sandbox).replace("px_enabled on;", "px_enabled off;");
    let nginx = Nginx::start(&format!(
        "{off} px_active_header_name x-px-active;
         location / {{ {0} }}
         location /on/ {{ px_enabled on; {0} }}
         location /not/ {{ px_active_header_name \"\"; {0} }}",
        origin.proxy_pass()
    ));
    assert_bot_with_headers_gets(
        &nginx,
        &[
            ("/", &[], "-"),
            ("/", &["X-PX-Active: 1"], "block"),
            ("/", &["x-px-active: 0"], "-"),
            ("/", &["x-px-active: on"], "-"),
            ("/", &["x-px-active: 1 "], "block"),
            ("/", &["x-px-active: 10"], "-"),
            ("/on/", &[], "block"),
            ("/on/", &["x-px-active: 0"], "block"),
            ("/not/", &["x-px-active: 1"], "-"),
        ],
    );
    assert_eq!(sandbox.risk_calls().len(), 4);
    assert_eq!(sandbox.wait_for_activities(4, SOON).len(), 4);
}

#[test]
fn monitor_mode_enforces_the_enforced_routes() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = monitoring(
        &sandbox,
        &origin,
        "px_enforced_routes /prefix =/exact ~/re[gex]+$ ~*^/any/case ^/caret/\\d /slashes/;
         px_monitored_routes /prefix/monitored;",
    );
    let simulated = "simulated_block";
    assert_bot_gets(
        &nginx,
        &[
            ("/", simulated),
            ("/prefix", "block"),
            ("/prefixed/x?y", "block"),
            ("/PREFIX", simulated),
            ("/x/prefix", simulated),
            ("/exact", "block"),
            ("/exact?x=/y", "block"),
            ("/exact/", "block"),
            ("/exact/more", simulated),
            ("/a/regex", "block"),
            ("/a/regex/b", simulated),
            ("/a/REGEX", simulated),
            ("/ANY/Case", "block"),
            ("/x/any/case", simulated),
            ("/caret/1", "block"),
            ("/caret/x", simulated),
            ("/x/caret/1", simulated),
            // Not the regular expression `slashes`, but a prefix; the path has lost its last slash.
            ("/x/slashes", simulated),
            ("/slashes/", simulated),
            ("/slashes/x", "block"),
            ("/no?/prefix", simulated),
            // An enforced route wins over a monitored one.
            ("/prefix/monitored", "block"),
        ],
    );
}

#[test]
fn with_blocking_on_only_enforced_routes_are_handled() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let routes = "px_enforced_routes /shop ^/login$;";
    let nginx = blocking(&sandbox, &origin, routes);
    assert_bot_gets(
        &nginx,
        &[
            ("/", "-"),
            ("/shop/x", "block"),
            ("/login", "block"),
            ("/login/x", "-"),
            ("/a.css", "-"),
        ],
    );
    // What is not handled is not asked about and not reported.
    assert_eq!(sandbox.risk_calls().len(), 2);
    drop(nginx);
    assert_eq!(sandbox.activities().len(), 2);

    let all = blocking(&sandbox, &origin, &format!("{routes} px_enforced_routes_exclusive off;"));
    assert_bot_gets(&all, &[("/", "block"), ("/shop/x", "block"), ("/login/x", "block")]);
    drop(all);

    // Monitor mode knows no exclusion (DECISIONS 6).
    let monitoring = monitoring(&sandbox, &origin, routes);
    assert_bot_gets(&monitoring, &[("/", "simulated_block"), ("/shop/x", "block")]);
}

#[test]
fn monitored_routes_are_not_blocked() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = blocking(
        &sandbox,
        &origin,
        "px_monitored_routes /m =/exact ~*caseless ^/caret;
         px_bypass_monitor_header x-px-block;
         px_enforced_routes_exclusive off; px_enforced_routes /m/enforced;",
    );
    let simulated = "simulated_block";
    assert_bot_with_headers_gets(
        &nginx,
        &[
            ("/", &[], "block"),
            ("/m", &[], simulated),
            ("/M", &[], "block"),
            ("/exact", &[], simulated),
            ("/exact1", &[], "block"),
            ("/a/CaseLess", &[], simulated),
            ("/caret", &[], simulated),
            ("/x/caret", &[], "block"),
            ("/m", &["x-px-block: 1"], "block"),
            ("/m/enforced", &[], "block"),
        ],
    );
}

#[test]
fn requests_outside_the_enabled_routes_are_none_of_the_modules_business() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = blocking(&sandbox, &origin, "px_enabled_routes /shop =/exact ~^/v\\d;");
    assert_bot_gets(
        &nginx,
        &[
            ("/", "-"),
            ("/shop", "block"),
            ("/Shop", "-"),
            ("/exact", "block"),
            ("/exact/x", "-"),
            ("/v1/x", "block"),
            ("/vx", "-"),
            ("/x?/shop", "-"),
        ],
    );
    assert_eq!(sandbox.risk_calls().len(), 3);
    drop(nginx);
    assert_eq!(sandbox.activities().len(), 3);
}

#[test]
fn sensitive_routes_ask_the_risk_api_in_spite_of_a_good_cookie() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = blocking(
        &sandbox,
        &origin,
        "px_sensitive_routes /pay =/exact ~*^/caseless;
         px_sensitive_routes_prefix /account/ /profile;
         px_sensitive_routes_suffix /login .do;
         px_sensitive_routes_regex /.*\\/enforced\\/regex$/ /ANY/i ^/bare\\d;",
    );
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    for (path, sensitive) in [
        ("/", false),
        ("/pay", true),
        ("/payment", true),
        ("/PAY", false),
        ("/exact", true),
        ("/exact1", false),
        ("/CASELESS/x", true),
        ("/account/x", true),
        ("/account", false),
        ("/profile", true),
        ("/x/login", true),
        ("/x/login/", true),
        ("//x//login//", true),
        ("/x/login/y", false),
        ("/x/y/../login", true),
        ("/a.do?b=c", true),
        ("/a/enforced/regex", true),
        ("/a/enforced/regexes", false),
        ("/x/aNy/y", true),
        ("/bare1", true),
        ("/x/bare1", false),
        ("/?/pay", false),
    ] {
        sandbox.clear();
        assert_eq!(get(nginx.addr(), path, &[&cookie]).status, 200, "{path}");
        let calls = sandbox.risk_calls();
        assert_eq!(calls.len(), usize::from(sensitive), "{path}");
        if let Some(call) = calls.first() {
            let additional = &call.json()["additional"];
            assert_eq!(additional["s2s_call_reason"], "sensitive_route", "{path}");
            assert_eq!(additional["is_sensitive_route"], true, "{path}");
        }
    }
    // Without a cookie there is a better reason, and the route is reported all the same.
    sandbox.clear();
    get(nginx.addr(), "/pay", &[]);
    let additional = &sandbox.risk_calls()[0].json()["additional"];
    assert_eq!(additional["s2s_call_reason"], "no_cookie");
    assert_eq!(additional["is_sensitive_route"], true);
    sandbox.assert_no_complaints();
}

#[test]
fn a_path_is_matched_as_the_rules_for_urls_say() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::start(&format!(
        "{} px_enforced_routes_exclusive off; px_monitored_routes =/a/b;
         location / {{ {1} }}
         location /decoded/ {{ px_url_decode_reserved_characters on;
             px_monitored_routes =/decoded/b =/decoded/c/d; {1} }}",
        protect(&sandbox),
        origin.proxy_pass()
    ));
    let simulated = "simulated_block";
    assert_bot_gets(
        &nginx,
        &[
            ("/a/b", simulated),
            ("/a/b/", simulated),
            ("//a///b", simulated),
            ("/a/./b", simulated),
            ("/a/x/../b", simulated),
            ("/a/b?x#y", simulated),
            // Escapes are kept, and what they stand for is not monitored by mistake.
            ("/a/%62", "block"),
            ("/decoded/%62", simulated),
            ("/decoded/c%2Fd", simulated),
            ("/decoded/c%2fd?x=%2F", simulated),
        ],
    );
}

/// A bot that writes a path otherwise gets to the same page at the origin: it must not get around the
/// routes that make the module stricter (DECISIONS 8).
#[test]
fn no_spelling_of_a_path_leads_around_a_stricter_route() {
    let spellings =
        ["/%6cogin", "/login;x=1", "/%6Cogin%3bx", "/login%2fnow", "/a/..%2flogin", "/%256cogin"];
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    for (directives, verdict) in [
        ("px_enforced_routes ^/login(/|$);", "block"),
        ("px_enabled_routes =/login /login/;", "block"),
        ("px_enforced_routes ^/login(/|$); px_module_mode monitor;", "block"),
        ("px_filter_strict off; px_enforced_routes ^/login(/|$);", "-"),
        ("px_enforced_routes_exclusive off; px_monitored_routes ^/login$;", "block"),
    ] {
        let protect = protect(&sandbox);
        let protect = if directives.contains("px_module_mode") {
            protect.replace("px_module_mode active_blocking;", "")
        } else {
            protect
        };
        let nginx = Nginx::start(&format!(
            "{protect} {directives} location / {{ {} }}",
            origin.proxy_pass()
        ));
        let expected: Vec<_> = spellings.iter().map(|path| (*path, verdict)).collect();
        assert_bot_gets(&nginx, &expected);
    }
    let nginx = blocking(&sandbox, &origin, "px_sensitive_routes =/login /login/;");
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    for path in spellings {
        sandbox.clear();
        assert_eq!(get(nginx.addr(), path, &[&cookie]).status, 200, "{path}");
        assert_eq!(sandbox.risk_calls().len(), 1, "{path}");
    }
}

/// The score at which a visitor is blocked.
#[test]
fn the_blocking_score_decides() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::start(&format!(
        "{0} location / {{ {1} }} location /strict/ {{ px_blocking_score 30; {1} }}
         location /all/ {{ px_blocking_score 0; {1} }}",
        protect(&sandbox),
        origin.proxy_pass()
    ));
    for (path, score, status) in [
        ("/", 99, 200),
        ("/", 100, 403),
        ("/strict/", 29, 200),
        ("/strict/", 30, 403),
        ("/all/", 0, 403),
    ] {
        // From the Risk API, and from a cookie.
        sandbox.answer_risk(Reply::risk(score, "c"));
        assert_eq!(get(nginx.addr(), path, &[]).status, status, "{path} {score}");
        let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).score(score).cookie());
        assert_eq!(get(nginx.addr(), path, &[&cookie]).status, status, "{path} {score}");
    }
}
