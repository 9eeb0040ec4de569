//! Tests for the px module: what a level of the configuration inherits, replaces and switches off.

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use px_sandbox::{App, Endpoint, Mint, Reply, Sandbox, cookie};
use serde_json::{Value, json};
use support::origin::SAME_EVERYWHERE;
use support::{BROWSER, Nginx, Origin, SOON, get, protect, protect_as};

/// `verdict=… filter=…` of the last request, once there are `count` lines in the access log.
fn facts(nginx: &Nginx, count: usize) -> (String, String) {
    let lines = nginx.wait_for_access_log(count);
    let line = lines.last().expect("a line");
    let fact = |name: &str| {
        let text = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        text.expect("in the log format").to_owned()
    };
    (fact("verdict"), fact("filter"))
}

/// Asks for every path in turn and compares verdict and filter reason.
fn assert_verdicts(nginx: &Nginx, expected: &[(&str, &str, &str)]) {
    let before = nginx.access_log().len();
    for (at, (path, verdict, filter)) in expected.iter().enumerate() {
        get(nginx.addr(), path, &[]);
        let facts = facts(nginx, before + at + 1);
        assert_eq!(facts, ((*verdict).to_owned(), (*filter).to_owned()), "{path}");
    }
}

/// Every option that the module reports about itself, set once for everybody, is in effect three
/// levels below.
#[test]
fn every_option_reaches_the_innermost_location() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let options: &[(&str, &str, Value)] = &[
        ("px_active_header_name X-PX-Active", "px_active_header_name", json!("x-px-active")),
        ("px_module_mode active_blocking", "px_module_mode", json!("active_blocking")),
        ("px_blocking_score 77", "px_blocking_score", json!(77)),
        ("px_bypass_monitor_header x-px-block", "px_bypass_monitor_header", json!("x-px-block")),
        ("px_token_version v2", "px_token_version", json!("2")),
        ("px_risk_cookie_max_length 999", "px_risk_cookie_max_length", json!(999)),
        ("px_risk_cookie_min_iterations 600", "px_risk_cookie_min_iterations", json!(600)),
        ("px_risk_cookie_max_iterations 700", "px_risk_cookie_max_iterations", json!(700)),
        ("px_user_agent_max_length 512", "px_user_agent_max_length", json!(512)),
        ("px_forged_cookie_budget 3", "px_forged_cookie_budget", json!(3)),
        ("px_custom_cookie_header x-more", "px_custom_cookie_header", json!("x-more")),
        (
            "px_ip_headers X-True-IP X-Forwarded-For",
            "px_ip_headers",
            json!(["x-true-ip", "x-forwarded-for"]),
        ),
        (
            "px_sensitive_headers Cookie Authorization",
            "px_sensitive_headers",
            json!(["cookie", "authorization"]),
        ),
        ("px_url_decode_reserved_characters on", "px_url_decode_reserved_characters", json!(true)),
        ("px_enabled_routes / =/b", "px_enabled_routes", json!(["/", "=/b"])),
        ("px_monitored_routes ^/m /n", "px_monitored_routes", json!(["_REGEXP /^/m/", "/n"])),
        ("px_enforced_routes ~*^/in", "px_enforced_routes", json!(["_REGEXP /^/in/i"])),
        ("px_enforced_routes_exclusive off", "px_enforced_routes_exclusive", json!(false)),
        ("px_sensitive_routes /s", "px_sensitive_routes", json!(["/s"])),
        ("px_sensitive_routes_prefix /t", "px_sensitive_routes_prefix", json!(["/t"])),
        ("px_sensitive_routes_suffix /u", "px_sensitive_routes_suffix", json!(["/u"])),
        (
            "px_sensitive_routes_regex /v\\d/",
            "px_sensitive_routes_regex",
            json!(["_REGEXP /v\\d/"]),
        ),
        ("px_filter_strict off", "px_filter_strict", json!(false)),
        ("px_filter_by_extension css .js", "px_filter_by_extension", json!([".css", ".js"])),
        ("px_filter_by_route =/f", "px_filter_by_route", json!(["=/f"])),
        ("px_whitelist_uri_full /w", "px_whitelist_uri_full", json!(["/w"])),
        ("px_whitelist_uri_prefixes /p", "px_whitelist_uri_prefixes", json!(["/p"])),
        ("px_whitelist_uri_suffixes .x", "px_whitelist_uri_suffixes", json!([".x"])),
        (
            "px_whitelist_uri_pattern [p-q]+",
            "px_whitelist_uri_pattern",
            json!(["_REGEXP /[p-q]+/"]),
        ),
        ("px_filter_by_http_method options", "px_filter_by_http_method", json!(["OPTIONS"])),
        ("px_filter_by_user_agent Probe/", "px_filter_by_user_agent", json!(["Probe/"])),
        ("px_whitelist_ua_full \"a b\"", "px_whitelist_ua_full", json!(["a b"])),
        ("px_whitelist_ua_sub bot", "px_whitelist_ua_sub", json!(["bot"])),
        ("px_whitelist_ip_addresses 192.0.2.0/24", "px_filter_by_ip", json!(["192.0.2.0/24"])),
        (
            "px_filter_by_domain \\.internal$",
            "px_filter_by_domain",
            json!(["_REGEXP /\\.internal$/"]),
        ),
        ("px_whitelist_hosts status.test", "px_whitelist_hosts", json!(["status.test"])),
        ("px_filter_by_header X-Probe secret", "px_filter_by_header", json!(["x-probe"])),
        (
            "px_client_host https://localhost:1",
            "px_backend_client_url",
            json!("https://localhost:1"),
        ),
        (
            "px_captcha_script_host //localhost:2",
            "px_backend_captcha_url",
            json!("https://localhost:2"),
        ),
        ("px_s2s_timeout 4s", "px_s2s_timeout", json!(4000)),
        ("px_enable_json_response on", "px_advanced_blocking_response_enabled", json!(true)),
        ("px_secured_pxhd_enabled on", "px_secured_pxhd_enabled", json!(true)),
        (
            "px_data_enrichment_header_name X-PX-DE",
            "px_data_enrichment_header_name",
            json!("x-px-de"),
        ),
        ("px_send_async_activities_enabled off", "px_send_async_activities_enabled", json!(false)),
        ("px_enable_server_calls on", "px_enable_server_calls", json!(true)),
        (
            "px_block_size_exceeded_15k_headers_size on",
            "px_block_size_exceeded_15k_headers_size",
            json!(true),
        ),
        ("px_allowed_cookies lang plan", "px_allowed_cookies", json!(["lang", "plan"])),
        ("px_anonymize_ip on", "px_anonymize_ip", json!(true)),
        ("px_custom_parameters X-A \"\" x-c", "px_custom_parameters", json!(["x-a", "", "x-c"])),
        ("px_cookie_custom_parameters A", "px_cookie_custom_parameters", json!(["A"])),
        ("px_redirect_on_custom_url on", "px_redirect_on_custom_url", json!(true)),
        ("px_redirect_to_referer on", "px_redirect_to_referer", json!(true)),
        ("px_score_header_enabled on", "px_score_header_enabled", json!(true)),
        ("px_score_header_name X-S", "px_score_header_name", json!("x-s")),
        ("px_upstream_score_header_name X-U", "px_upstream_score_header_name", json!("x-u")),
        ("px_identifier_header_name X-I", "px_identifier_header_name", json!("x-i")),
        ("px_add_block_result_header on", "px_add_block_result_header", json!(true)),
        ("px_cors_support_enabled on", "px_cors_support_enabled", json!(true)),
        (
            "px_cors_preflight_request_filter_enabled on",
            "px_cors_preflight_request_filter_enabled",
            json!(true),
        ),
        ("px_first_party_enabled on", "px_first_party_enabled", json!(true)),
        ("px_reverse_xhr_enabled off", "px_reverse_xhr_enabled", json!(false)),
        ("px_first_party_timeout_ms 2s", "px_first_party_timeout_ms", json!(2000)),
        ("px_custom_first_party_prefix fp/", "px_custom_first_party_prefix", json!("/fp")),
        (
            "px_custom_first_party_sensor_endpoint /s",
            "px_custom_first_party_sensor_endpoint",
            json!("/s"),
        ),
        (
            "px_custom_first_party_xhr_endpoint /x/",
            "px_custom_first_party_xhr_endpoint",
            json!("/x"),
        ),
        (
            "px_custom_first_party_captcha_endpoint /c",
            "px_custom_first_party_captcha_endpoint",
            json!("/c"),
        ),
        ("px_hype_sale_fail_open on", "px_hype_sale_fail_open", json!(true)),
        ("px_hypesale_host https://localhost:3", "px_hypesale_host", json!("https://localhost:3")),
        ("px_snippet_provider_enabled on", "px_snippet_injection_enabled", json!(true)),
        ("px_logger_auth_token log-secret", "px_logger_auth_token", json!("***REDACTED***")),
        ("px_remote_config_id rc-1", "px_remote_config_id", json!("rc-1")),
    ];
    let app = sandbox.app();
    let http: String = options.iter().map(|(line, ..)| format!("{line};\n")).collect();
    let set_here = ["px_module_mode", "px_client_host", "px_captcha_script_host"];
    let identity = protect(&sandbox);
    let identity: String = identity
        .lines()
        .filter(|line| !set_here.iter().any(|name| line.starts_with(name)))
        .collect();
    let nginx = Nginx::builder()
        .http(&(http + &identity))
        .server(&format!(
            "px_debug off;
             location / {{ px_compression_level 1; {0} location /in {{ px_max_activity_batch_size 2; {0} }} }}",
            origin.proxy_pass()
        ))
        .start();

    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let command =
        format!("x-px-enforcer-telemetry: {}", cookie::command_header(&app.secret, now + 60_000));
    assert_eq!(get(nginx.addr(), "/inner", &[&command]).status, 200);
    let telemetry = sandbox.wait_for(Endpoint::Telemetry, 1, SOON);
    let config = &telemetry[0].json()["details"]["enforcer_configs"]["active_config"];
    for (line, name, expected) in options {
        assert_eq!(&config[*name], expected, "{line}");
    }
    assert_eq!(config["px_app_id"], app.id);
}

#[test]
fn a_scalar_is_inherited_until_a_level_sets_it() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.answer_risk(Reply::risk(60, "c"));
    let pass = origin.proxy_pass();
    let nginx = Nginx::builder()
        .http(&format!("{} px_blocking_score 50;", protect(&sandbox)))
        .server(&format!(
            "location /inherits {{ {pass} }}
             location /higher {{ px_blocking_score 61; {pass}
                 location /higher/inner {{ {pass} }}
                 location /higher/lower {{ px_blocking_score 60; {pass} }}
             }}
             location /monitored {{ px_block_enabled off; {pass}
                 location /monitored/not {{ px_module_mode active_blocking; {pass} }}
             }}"
        ))
        .start();
    assert_verdicts(
        &nginx,
        &[
            ("/inherits", "block", "-"),
            ("/higher", "pass", "-"),
            ("/higher/inner", "pass", "-"),
            ("/higher/lower", "block", "-"),
            ("/monitored", "simulated_block", "-"),
            ("/monitored/not", "block", "-"),
        ],
    );
}

#[test]
fn a_list_replaces_the_outer_one_and_an_empty_text_empties_it() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let pass = origin.proxy_pass();
    let nginx = Nginx::builder()
        .http(&format!("{} px_filter_by_route /a /b; px_filter_by_route =/c;", protect(&sandbox)))
        .server(&format!(
            "px_filter_by_header x-none none;
             location / {{ {pass} }}
             location /x/ {{ px_filter_by_route /x/; {pass}
                 location /x/none/ {{ px_filter_by_route \"\"; {pass} }}
             }}
             location /static/ {{ px_filter_by_extension \"\"; {pass} }}
             location /pages/ {{ px_filter_by_extension html; {pass} }}
             location /b/x/ {{ px_filter_by_route \"\"; px_filter_by_route /b/x/y; {pass} }}"
        ))
        .start();
    assert_verdicts(
        &nginx,
        &[
            ("/a", "filtered", "route"),
            ("/b1", "filtered", "route"),
            ("/c", "filtered", "route"),
            ("/c1", "pass", "-"),
            ("/x/a", "filtered", "route"),
            ("/x/none/a", "pass", "-"),
            ("/y.css", "filtered", "extension"),
            ("/static/y.css", "pass", "-"),
            ("/pages/y.css", "pass", "-"),
            ("/pages/y.html", "filtered", "extension"),
            ("/b/x/a", "pass", "-"),
            ("/b/x/y", "filtered", "route"),
        ],
    );
}

#[test]
fn a_list_of_pairs_can_be_emptied_too() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let pass = origin.proxy_pass();
    let nginx = Nginx::start(&format!(
        "{} px_filter_by_header x-probe 1;
         location / {{ {pass} }} location /in/ {{ px_filter_by_header \"\"; {pass} }}",
        protect(&sandbox)
    ));
    for (count, path, verdict) in [(1, "/", "filtered"), (2, "/in/", "pass")] {
        get(nginx.addr(), path, &["X-Probe: 1"]);
        assert_eq!(facts(&nginx, count).0, verdict, "{path}");
    }
}

#[test]
fn off_inside_on_and_on_inside_off() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let pass = origin.proxy_pass();
    let nginx = Nginx::start(&format!(
        "{} {SAME_EVERYWHERE} location / {{ {pass} }}
         location /open/ {{ px_enabled off; {pass}
             location /open/guarded/ {{ px_enabled on; {pass} }}
         }}",
        protect(&sandbox)
    ));
    let bot = ["User-Agent: PhantomJS/1.0"];
    for (path, status) in
        [("/", 403), ("/open/", 200), ("/open/x.css", 200), ("/open/guarded/", 403)]
    {
        assert_eq!(get(nginx.addr(), path, &bot).status, status, "{path}");
    }
    let log = nginx.wait_for_access_log(4);
    assert!(log[1].contains("verdict=- ") && log[2].contains("verdict=- "), "{log:?}");
    assert_eq!(sandbox.risk_calls().len(), 2);
    // What is off adds nothing and takes nothing: the request is the client's own.
    let expected = format!(
        "GET /open/ HTTP/1.1\r\nHost: {}\r\nUser-Agent: PhantomJS/1.0\r\n\r\n",
        origin.addr()
    );
    assert_eq!(origin.texts()[0], expected);
    assert_eq!(sandbox.wait_for_activities(2, SOON).len(), 2);
}

fn app(name: &str) -> App {
    App {
        id: format!("PX{name}"),
        auth_token: format!("token-of-{name}"),
        // A dollar sign is itself: no directive for a secret expands variables.
        secret: format!("secret-of-${name}"),
    }
}

#[test]
fn applications_live_side_by_side() {
    let (one, other) = (app("alpha"), app("beta"));
    let sandbox = Sandbox::builder().app(one.clone()).app(other.clone()).start().unwrap();
    let origin = Origin::start();
    let pass = origin.proxy_pass();
    let as_app = |app: &App| {
        protect_as(app, &sandbox.url(), &sandbox.url()) + "px_max_activity_batch_size 100;"
    };
    let nginx = Nginx::builder()
        .server(&format!(
            "{} location / {{ {pass} }} location /beta/ {{ {} {pass} }}",
            as_app(&one),
            // Another mode and another identity, the rest inherited.
            as_app(&other).replace("px_enabled on;", ""),
        ))
        .start();

    let cookie = |app: &App| {
        let mint = Mint::v3(app.secret.as_str()).user_agent(BROWSER);
        format!("Cookie: {}", mint.cookie())
    };
    for (path, cookie_of, calls) in
        [("/", &one, 0), ("/beta/", &other, 0), ("/", &other, 1), ("/beta/", &one, 1)]
    {
        sandbox.clear();
        assert_eq!(get(nginx.addr(), path, &[&cookie(cookie_of)]).status, 200);
        let made = sandbox.risk_calls();
        assert_eq!(made.len(), calls, "{path} with the cookie of {}", cookie_of.id);
        let home = if path == "/" { &one } else { &other };
        for call in &made {
            let body = call.json();
            assert_eq!(call.header("authorization"), Some(&*format!("Bearer {}", home.auth_token)));
            assert_eq!(body["additional"]["s2s_call_reason"], "cookie_decryption_failed");
            assert_eq!(body["request"]["headers"][0]["value"], "site.test");
        }
        let activities = sandbox.wait_for_activities(1, SOON);
        assert_eq!(activities[0]["px_app_id"], home.id);
        for post in sandbox.activity_posts() {
            assert_eq!(post.header("authorization"), Some(&*format!("Bearer {}", home.auth_token)));
        }
    }

    // Many at once, in turn: no batch mixes them.
    sandbox.clear();
    for at in 0..20 {
        let (path, app) = if at % 2 == 0 { ("/", &one) } else { ("/beta/", &other) };
        assert_eq!(get(nginx.addr(), path, &[&cookie(app)]).status, 200);
    }
    let activities = sandbox.wait_for_activities(20, SOON);
    for app in [&one, &other] {
        assert_eq!(activities.iter().filter(|a| a["px_app_id"] == app.id).count(), 10);
    }
    for post in sandbox.activity_posts() {
        let ids: Vec<Value> = post.activities().iter().map(|a| a["px_app_id"].clone()).collect();
        let first = ids.first().expect("not empty");
        assert!(ids.iter().all(|id| id == first), "{ids:?}");
        let home = if *first == one.id { &one } else { &other };
        assert_eq!(post.header("authorization"), Some(&*format!("Bearer {}", home.auth_token)));
    }
    sandbox.assert_no_complaints();
}

#[test]
fn servers_complete_what_http_begins() {
    let (one, other) = (app("alpha"), app("beta"));
    let sandbox = Sandbox::builder().app(one.clone()).app(other.clone()).start().unwrap();
    let origin = Origin::start();
    let pass = origin.proxy_pass();
    let identity = |app: &App| {
        format!(
            "px_app_id {}; px_auth_token {}; px_cookie_secret {};",
            app.id, app.auth_token, app.secret
        )
    };
    let second = support::nginx::free_addr();
    let nginx = Nginx::builder()
        .http(&format!(
            "px_enabled on; px_block_enabled on;
             px_backend_url {url}; px_backend_collector_url {url};
             server {{ listen {second}; {} location / {{ {pass} }} }}",
            identity(&other),
            url = sandbox.url(),
        ))
        .server(&format!("{} location / {{ {pass} }}", identity(&one)))
        .start();
    for (addr, app) in [(nginx.addr(), &one), (second, &other)] {
        sandbox.clear();
        assert_eq!(get(addr, "/", &[]).status, 200);
        assert_eq!(get(addr, "/", &["User-Agent: PhantomJS/1.0"]).status, 403);
        for call in sandbox.risk_calls() {
            assert_eq!(call.header("authorization"), Some(&*format!("Bearer {}", app.auth_token)));
        }
        for activity in sandbox.wait_for_activities(2, SOON) {
            assert_eq!(activity["px_app_id"], app.id);
        }
    }
    sandbox.assert_no_complaints();
}

#[test]
fn every_location_asks_its_own_backend() {
    let (outer, inner) = (Sandbox::start().unwrap(), Sandbox::start().unwrap());
    let origin = Origin::start();
    let pass = origin.proxy_pass();
    let nginx = Nginx::start(&format!(
        "{} location / {{ {pass} }}
         location /in/ {{ px_backend_url {in_url}; {pass}
             location /in/reports/ {{ px_backend_collector_url {in_url}; {pass} }}
         }}
         location /prefix/ {{ px_backend_url {in_url}/base/; {pass} }}",
        protect(&outer),
        in_url = inner.url(),
    ));
    for (path, called, reported) in
        [("/", &outer, &outer), ("/in/", &inner, &outer), ("/in/reports/", &inner, &inner)]
    {
        outer.clear();
        inner.clear();
        assert_eq!(get(nginx.addr(), path, &[]).status, 200);
        assert_eq!(called.risk_calls().len(), 1, "{path}");
        assert_eq!(reported.wait_for_activities(1, SOON).len(), 1, "{path}");
        assert_eq!(outer.risk_calls().len() + inner.risk_calls().len(), 1, "{path}");
    }
    inner.clear();
    assert_eq!(get(nginx.addr(), "/prefix/", &[]).status, 200);
    assert_eq!(inner.others()[0].target, "/base/api/v3/risk");
}

#[test]
fn a_previous_secret_is_inherited_beside_a_new_one() {
    let sandbox = Sandbox::start().unwrap();
    let origin = Origin::start();
    let pass = origin.proxy_pass();
    let server = protect(&sandbox).replace(
        &format!("px_cookie_secret {};", sandbox.app().secret),
        "px_cookie_secret newest; px_cookie_secret_old previous;",
    );
    let nginx = Nginx::start(&format!(
        "{server} location / {{ {pass} }}
         location /rotated/ {{ px_cookie_secret newer newest; {pass} }}
         location /alone/ {{ px_cookie_secret newer; {pass} }}"
    ));
    for (path, secret, calls) in [
        ("/", "newest", 0),
        ("/", "previous", 0),
        ("/", "newer", 1),
        ("/rotated/", "newer", 0),
        ("/rotated/", "newest", 0),
        // Two secrets are all there is.
        ("/rotated/", "previous", 1),
        ("/alone/", "previous", 0),
        ("/alone/", "newest", 1),
    ] {
        sandbox.clear();
        let cookie = Mint::v3(secret).user_agent(BROWSER).cookie();
        assert_eq!(get(nginx.addr(), path, &[&format!("Cookie: {cookie}")]).status, 200);
        assert_eq!(sandbox.risk_calls().len(), calls, "{path} {secret}");
    }
}

#[test]
fn blocks_that_nginx_makes_locations_of_inherit() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let pass = origin.proxy_pass();
    let nginx = Nginx::start(&format!(
        "{} 
         location /if/ {{ if ($arg_a) {{ {pass} }} {pass} }}
         location /limited/ {{ limit_except GET POST {{ deny all; }} {pass} }}
         location /tried/ {{ try_files /nothing @named; }}
         location /tried_open/ {{ px_enabled off; try_files /nothing @named; }}
         location @named {{ {pass} }}
         location ~ ^/regex/ {{ {pass} }}
         location = /exact {{ {pass} }}
         location ^~ /first/ {{ {pass} }}",
        protect(&sandbox)
    ));
    for path in
        ["/if/", "/if/?a=1", "/limited/", "/tried/", "/tried_open/", "/regex/", "/exact", "/first/"]
    {
        sandbox.clear();
        assert_eq!(get(nginx.addr(), path, &["User-Agent: PhantomJS/1.0"]).status, 403, "{path}");
        assert_eq!(sandbox.risk_calls().len(), 1, "{path}");
    }
    let refused = support::request(nginx.addr(), "DELETE", "/limited/", &[], b"");
    assert_eq!(refused.status, 403);
    assert!(!refused.text().contains("px-captcha"));
}
