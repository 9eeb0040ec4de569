//! Tests for the px module: `px_status`, the counters of all workers.

mod support;

use std::collections::BTreeSet;
use std::thread;

use px_sandbox::{Behaviour, Endpoint, Sandbox};
use serde_json::{Value, json};
use support::prometheus::Metrics;
use support::{BROWSER, Nginx, Origin, get, protect, protect_apart, request, wait_until};

const BOT: &str = "User-Agent: PhantomJS/1.0";
const STATUS: &str = "location = /px-status { px_status; }";

fn site(sandbox: &Sandbox, origin: &Origin, more: &str) -> Nginx {
    let location = format!("location / {{ {} }}", origin.proxy_pass());
    Nginx::builder()
        .workers(2)
        .server(&format!("{}{STATUS}\n{more}\n{location}", protect(sandbox)))
        .start()
}

fn status(nginx: &Nginx) -> Value {
    let response = get(nginx.addr(), "/px-status", &[]);
    assert_eq!(response.status, 200);
    response.json()
}

#[track_caller]
fn metrics(nginx: &Nginx) -> Metrics {
    let text = get(nginx.addr(), "/px-status?format=prometheus", &[]).text();
    Metrics::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"))
}

/// The numbers of an object that are not 0, by their paths.
fn counted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), counted(value)));
            Value::Object(members.filter(|(_, value)| !value.is_null()).collect())
        }
        other if *other == json!(0) => Value::Null,
        other => other.clone(),
    }
}

#[test]
fn counts_of_known_traffic_are_exact() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        &format!(
            "px_filter_by_route /health;\n\
             location /hang {{ px_s2s_timeout 400ms; {0} }}\n\
             location /monitored {{ px_module_mode monitor; {0} }}\n\
             location /off {{ px_enabled off; px_active_header_name x-on; {0} }}\n",
            origin.proxy_pass()
        ),
    );
    let visit = |times: usize, path: &str, headers: &[&str], expected: u16| {
        for _ in 0..times {
            assert_eq!(get(nginx.addr(), path, headers).status, expected, "{path}");
        }
    };
    let good = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    let high = format!("Cookie: {}", sandbox.mint(BROWSER).score(100).cookie());
    visit(5, "/", &[&good], 200);
    visit(3, "/", &[&high], 403);
    visit(4, "/", &[], 200);
    visit(2, "/", &[BOT], 403);
    visit(2, "/monitored", &[BOT], 200);
    visit(6, "/a.css", &[], 200);
    visit(2, "/health", &[], 200);
    visit(1, "/off", &[], 200);
    sandbox.behave_next(Behaviour::Status(500));
    visit(1, "/", &[], 200);
    sandbox.behave_next(Behaviour::Body(b"?".to_vec()));
    visit(1, "/", &[], 200);
    sandbox.behave_next(Behaviour::Hang);
    visit(1, "/hang", &[], 200);

    let page = status(&nginx);
    let app = &page["applications"]["PXsandbox1"];
    assert_eq!(
        counted(&app["requests"]),
        json!({
            "pass": {"cookie": 5, "s2s": 4, "s2s_error": 2, "s2s_timeout": 1},
            "block": {"cookie_high_score": 3, "s2s_high_score": 2},
            "simulated_block": {"s2s_high_score": 2},
            "filtered": {"extension": 6, "route": 2},
            "inactive": 1,
        })
    );
    let mut risk_api = counted(&app["risk_api"]);
    let durations = risk_api["duration_seconds"].take();
    assert_eq!(
        counted(&risk_api),
        json!({
            "calls": 11,
            "timeouts": 1,
            "errors": {"server_error": 1, "invalid_response": 1},
        })
    );
    // Every call has ended, and one of them took 400 ms.
    assert_eq!((&durations["count"], &durations["buckets"]["+Inf"]), (&json!(11), &json!(11)));
    let sum = durations["sum"].as_f64().expect("a number");
    assert!((0.35..20.0).contains(&sum), "{sum}");
    assert!(durations["buckets"]["0.25"].as_u64().is_none_or(|quick| quick <= 10), "{durations}");

    assert_eq!(app["key_derivations"], 2);
    let cache = &page["token_caches"]["px_token_cache"];
    assert_eq!((&cache["hits"], &cache["misses"]), (&json!(6), &json!(2)));
    assert_eq!(cache["entries"], 2);
    assert!(cache["capacity"].as_u64().is_some_and(|slots| slots > 1000), "{cache}");
    assert_eq!(page["circuit_breakers"], json!({sandbox.url(): "closed"}));
    assert_eq!(page["config_reloads"], 0);
    assert_eq!(page["version"], env!("CARGO_PKG_VERSION"));

    let all_sent = json!({"offered": 19, "sent": 19});
    wait_until("all are sent", || counted(&status(&nginx)["activities"]) == all_sent);

    // Prometheus is told the same.
    let metrics = metrics(&nginx);
    let requests = |verdict: &str, reason: &str| {
        let labels = [("app_id", "PXsandbox1"), ("verdict", verdict), ("reason", reason)];
        metrics.get("px_requests_total", &labels)
    };
    assert_eq!(requests("pass", "cookie"), 5.0);
    assert_eq!(requests("simulated_block", "s2s_high_score"), 2.0);
    assert_eq!(requests("inactive", ""), 1.0);
    let all: f64 =
        metrics.families["px_requests_total"].samples.iter().map(|sample| sample.value).sum();
    assert_eq!(all, 28.0);
    let app = [("app_id", "PXsandbox1")];
    assert_eq!(metrics.get("px_risk_api_calls_total", &app), 11.0);
    assert_eq!(metrics.get("px_risk_api_duration_seconds_count", &app), 11.0);
    assert_eq!(metrics.get("px_risk_api_duration_seconds_sum", &app), sum);
    assert_eq!(metrics.get("px_activities_sent_total", &[]), 19.0);
    assert_eq!(metrics.get("px_circuit_breaker_state", &[("backend", &sandbox.url())]), 0.0);
}

#[test]
fn workers_count_together() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let location =
        format!("location / {{ add_header X-Worker $pid always; {} }}", origin.proxy_pass());
    let nginx = Nginx::builder()
        .workers(2)
        .listen("reuseport")
        .server(&format!("{}{STATUS}\n{location}", protect(&sandbox)))
        .start();
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    // At once, on connections of their own.
    let workers: BTreeSet<String> = thread::scope(|scope| {
        let visitor = || {
            let visit = |_| {
                let response = get(nginx.addr(), "/", &[&cookie]);
                assert_eq!(response.status, 200);
                response.header("x-worker").expect("a pid").to_owned()
            };
            (0..50).map(visit).collect::<Vec<_>>()
        };
        let visitors: Vec<_> = (0..8).map(|_| scope.spawn(visitor)).collect();
        visitors.into_iter().flat_map(|visitor| visitor.join().expect("no panic")).collect()
    });
    assert_eq!(workers.len(), 2);
    // Whoever answers, it is everybody's count.
    for _ in 0..8 {
        assert_eq!(status(&nginx)["applications"]["PXsandbox1"]["requests"]["pass"]["cookie"], 400);
    }
    let cache = &status(&nginx)["token_caches"]["px_token_cache"];
    let number = |name: &str| cache[name].as_u64().expect("a number");
    assert_eq!(number("hits") + number("misses"), 400);
    let all_sent = json!({"offered": 400, "sent": 400});
    wait_until("all are sent", || counted(&status(&nginx)["activities"]) == all_sent);
}

#[test]
fn applications_are_counted_apart_and_across_reloads() {
    let sandbox = Sandbox::builder().any_app(true).start().unwrap();
    let origin = Origin::start();
    let app = |id: &str| format!("location /{id}/ {{ px_app_id {id}; {} }}\n", origin.proxy_pass());
    let nginx = site(&sandbox, &origin, &format!("{}{}", app("PXone"), app("PXtwo")));
    let visit = |times: usize, id: &str| {
        for _ in 0..times {
            assert_eq!(get(nginx.addr(), &format!("/{id}/a.css"), &[]).status, 200);
        }
    };
    let filtered =
        |id: &str| status(&nginx)["applications"][id]["requests"]["filtered"]["extension"].clone();
    visit(3, "PXone");
    visit(2, "PXtwo");
    assert_eq!((filtered("PXone"), filtered("PXtwo")), (json!(3), json!(2)));
    assert_eq!(filtered("PXsandbox1"), 0);

    // The first application goes, a third comes, and the order is another.
    let started = status(&nginx)["start_time"].clone();
    let old = nginx.workers();
    nginx.reload(|conf| {
        conf.replace(&app("PXone"), "").replace(&app("PXtwo"), &(app("PXthree") + &app("PXtwo")))
    });
    nginx.wait_for_workers_to_end(&old);
    visit(1, "PXtwo");
    visit(4, "PXthree");
    assert_eq!(filtered("PXone"), 3);
    assert_eq!(filtered("PXtwo"), 3);
    assert_eq!(filtered("PXthree"), 4);
    assert_eq!(status(&nginx)["config_reloads"], 1);
    assert_eq!(status(&nginx)["start_time"], started);
    metrics(&nginx);
}

#[test]
fn applications_beyond_the_places_are_counted_together() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    // One place is the server's.
    let locations: String = (0..33)
        .map(|n| format!("location /{n}/ {{ px_app_id PX{n}; {} }}\n", origin.proxy_pass()))
        .collect();
    let nginx = site(&sandbox, &origin, &locations);
    for n in 0..33 {
        assert_eq!(get(nginx.addr(), &format!("/{n}/a.css"), &[]).status, 200);
    }
    let page = status(&nginx);
    let applications = page["applications"].as_object().expect("an object");
    assert_eq!(applications.len(), 33);
    let all: u64 = applications
        .values()
        .map(|app| app["requests"]["filtered"]["extension"].as_u64().expect("a number"))
        .sum();
    assert_eq!(all, 33);
    assert_eq!(applications["other"]["requests"]["filtered"]["extension"], 2);
    metrics(&nginx);
}

#[test]
fn the_breaker_is_seen_to_open_and_to_close() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_max_errors_threshold 3;");
    let state = || {
        let url = sandbox.url();
        let metrics = metrics(&nginx);
        metrics.get("px_circuit_breaker_state", &[("backend", &url)])
    };
    assert_eq!(state(), 0.0);
    sandbox.behave_at(Endpoint::RiskApi, Behaviour::Status(500));
    for _ in 0..20 {
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    }
    assert_eq!(state(), 1.0);
    assert_eq!(status(&nginx)["circuit_breakers"], json!({sandbox.url(): "open"}));
    let risk_api = &status(&nginx)["applications"]["PXsandbox1"]["risk_api"];
    let number = |name: &str| risk_api[name].as_u64().expect("a number");
    let calls = sandbox.risk_calls().len() as u64;
    assert_eq!((number("calls"), number("calls_not_made")), (calls, 20 - calls));
    assert_eq!(risk_api["errors"]["server_error"], calls);
    assert_eq!(risk_api["errors"]["unable_to_send_request"], 0);
    sandbox.behave_well();
    wait_until("the breaker closes", || {
        get(nginx.addr(), "/", &[]);
        state() == 0.0
    });
}

#[test]
fn the_queue_of_a_killed_worker_is_not_counted_for_ever() {
    let (risk_api, collector) = (Sandbox::start().unwrap(), Sandbox::start().unwrap());
    let origin = Origin::start();
    collector.behave_at(Endpoint::Activities, Behaviour::Hang);
    let mut nginx = Nginx::builder()
        .workers(2)
        .server(&format!(
            "{}{STATUS} px_max_activity_batch_size 1; px_async_timeout 60s;\nlocation / {{ {} }}",
            protect_apart(&risk_api, &collector),
            origin.proxy_pass()
        ))
        .start();
    nginx.lenient();
    for _ in 0..7 {
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    }
    wait_until("all wait", || status(&nginx)["activities"]["queued"] == 7);
    assert_eq!(metrics(&nginx).get("px_activities_queued", &[]), 7.0);
    for worker in nginx.wait_for_workers(2) {
        support::nginx::send_signal(worker, libc::SIGKILL);
    }
    wait_until("nothing waits", || {
        // Meanwhile somebody may be let in by a worker that dies.
        let page = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| status(&nginx)));
        page.is_ok_and(|page| page["activities"]["queued"] == 0)
    });
    assert_eq!(status(&nginx)["activities"]["offered"], 7);
}

#[test]
fn forged_cookies_beyond_the_budget_are_counted() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_forged_cookie_budget 0;");
    for _ in 0..3 {
        let forged = format!("Cookie: {}", sandbox.mint(BROWSER).broken_hmac().cookie());
        assert_eq!(get(nginx.addr(), "/", &[&forged]).status, 200);
    }
    let page = status(&nginx);
    let app = &page["applications"]["PXsandbox1"];
    assert_eq!(app["forged_cookies_over_budget"], 3);
    assert_eq!(app["key_derivations"], 0);
}

#[test]
fn access_is_nginxs_own_matter() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "location = /denied { px_status; deny all; }\n\
         location = /allowed { px_status prometheus; allow 127.0.0.0/8; deny all; }",
    );
    assert_eq!(get(nginx.addr(), "/denied", &[]).status, 403);
    assert_eq!(get(nginx.addr(), "/denied?format=prometheus", &[]).status, 403);
    assert_eq!(get(nginx.addr(), "/allowed", &[]).status, 200);
}

#[test]
fn get_and_head_are_answered_and_nothing_else() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx =
        site(&sandbox, &origin, "location = /metrics { px_status prometheus; }\n charset utf-8;");
    let ask = |method: &str, path: &str| request(nginx.addr(), method, path, &[], b"");
    let json = "application/json";
    let text = "text/plain; version=0.0.4; charset=utf-8";
    for (path, content_type) in [
        ("/px-status", json),
        ("/px-status?format=json", json),
        ("/px-status?format=prometheus", text),
        ("/metrics", text),
        ("/metrics?x=1", text),
        ("/metrics?format=json", json),
    ] {
        let whole = ask("GET", path);
        assert_eq!(whole.status, 200, "{path}");
        assert_eq!(whole.header("content-type"), Some(content_type), "{path}");
        assert_eq!(whole.header("cache-control"), Some("no-store"), "{path}");
        let head = ask("HEAD", path);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), Some(content_type), "{path}");
        assert!(head.header("content-length").is_some_and(|length| length != "0"), "{path}");
    }
    for path in ["/px-status?format=xml", "/metrics?format="] {
        assert_eq!(ask("GET", path).status, 400, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let response = ask(method, "/metrics");
        assert_eq!(response.status, 405, "{method}");
        assert_eq!(response.header("allow"), Some("GET, HEAD"), "{method}");
    }
    // A body that nobody reads does not become the next request.
    let mut connection = support::Connection::open(nginx.addr());
    for method in ["GET", "POST"] {
        connection.send(support::client::text(method, "/metrics", &[], b"a body"));
        let expected = if method == "GET" { 200 } else { 405 };
        assert_eq!(connection.receive().status, expected, "{method}");
    }
}

#[test]
fn whoever_asks_for_the_status_is_no_visitor() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        &format!("location /in {{ px_status; location /in/side {{ {} }} }}", origin.proxy_pass()),
    );
    for path in ["/px-status", "/in", "/px-status"] {
        assert_eq!(get(nginx.addr(), path, &[BOT]).status, 200, "{path}");
    }
    let requests = status(&nginx)["applications"]["PXsandbox1"]["requests"].clone();
    let nothing = json!({"pass": {}, "block": {}, "simulated_block": {}, "filtered": {}});
    assert_eq!(counted(&requests), nothing);
    assert_eq!(sandbox.risk_calls().len(), 0);
    // What stands inside of such a location is a location like any other.
    assert_eq!(get(nginx.addr(), "/in/side", &[BOT]).status, 403);
    assert_eq!(sandbox.risk_calls().len(), 1);
}

#[test]
fn where_nothing_is_enforced_only_the_build_is_told() {
    let nginx = Nginx::start(STATUS);
    let page = status(&nginx);
    assert_eq!(page["applications"], json!({}));
    assert!(page["nginx"].as_str().is_some_and(|nginx| nginx.contains('/')), "{page}");
    let metrics = metrics(&nginx);
    assert_eq!(metrics.names(), BTreeSet::from(["px_build_info"]));
}

/// A failing backend fills no disk: one line a minute, from all workers together.
#[test]
fn a_backend_that_is_down_is_logged_once() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_max_activity_batch_size 1; px_async_timeout 500ms;");
    sandbox.go_down();
    for _ in 0..30 {
        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    }
    let log = nginx.wait_for_error_log("activities could not be delivered");
    assert_eq!(log.matches("px: Risk API call failed").count(), 1, "{log}");
    assert_eq!(log.matches("px: activities could not").count(), 1, "{log}");
    // nginx's own line comes with the first failure of each call under way, and then no more.
    assert!(log.matches("[error]").count() <= 5, "{log}");
    let page = status(&nginx);
    let risk_api = &page["applications"]["PXsandbox1"]["risk_api"];
    assert_eq!(
        (&risk_api["calls"], &risk_api["errors"]["unknown_error"]),
        (&json!(30), &json!(30))
    );
    wait_until("all are lost", || status(&nginx)["activities"]["lost"] == 30);
    assert_eq!(nginx.error_log().matches("px: activities could not").count(), 1);
}
