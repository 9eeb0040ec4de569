//! Tests for the px module: what `nginx/kong` ships, injected as Kong injects it, in an nginx with Lua
//! that hands requests on as Kong does. It is not Kong itself: the Lua is a stand-in.

#[path = "kong/rendering.rs"]
mod rendering;
#[path = "conf_errors/rows.rs"]
#[allow(dead_code, reason = "the other columns are for conf_errors.rs")]
mod rows;
mod support;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use px_sandbox::{Reply, Sandbox};
use rendering::{Kong, Order, Variable, dockerfile, env_file, shipped};
use serde_json::json;
use support::conf_check::Files;
use support::h2::H2;
use support::nginx::{Builder, free_addr};
use support::prometheus::Metrics;
use support::{BROWSER, Nginx, Origin, Response, SOON, get, request, wait_until};

const BOT: [&str; 2] = ["User-Agent: PhantomJS/1.0", "X-PX-Block: 1"];
const MODULE: &str = "/usr/local/lib/kong/px/ngx_http_px_module.so";
const APP_ID: &str = "PXabcd1234";

/// The lines that load Lua, which Kong has compiled in; `None` where the nginx under test has none.
fn lua() -> Option<String> {
    let output =
        Command::new(support::nginx::binary()).arg("-V").output().expect("nginx can be run");
    if String::from_utf8_lossy(&output.stderr).contains("ngx_lua") {
        return Some(String::new());
    }
    // The package is for the distribution's nginx.
    if std::env::var_os("TEST_NGINX_BINARY").is_some() {
        eprintln!("skipped: this nginx has no Lua");
        return None;
    }
    let load = |name| format!("load_module /usr/lib/nginx/modules/{name}.so;");
    Some(["ndk_http_module", "ngx_http_lua_module"].map(load).join("\n"))
}

/// What the tests say beside what is shipped: where the sandbox is.
fn surroundings(sandbox: &Sandbox) -> Vec<Variable> {
    let url = sandbox.url();
    let mut variables: Vec<Variable> = [
        ("BACKEND_URL", url.as_str()),
        ("BACKEND_COLLECTOR_URL", &url),
        ("CLIENT_HOST", &url),
        ("CAPTCHA_SCRIPT_HOST", &url),
        ("INITIAL_TELEMETRY_ENABLED", "off"),
        ("MAX_ERRORS_THRESHOLD", "0"),
        ("BATCH_ACTIVITIES_TIMEOUT_MS", "20"),
    ]
    .map(|(name, value)| (format!("KONG_NGINX_HTTP_PX_{name}"), value.to_owned()))
    .to_vec();
    for name in ["CLIENT_BODY", "PROXY", "FASTCGI", "UWSGI", "SCGI"] {
        variables.push((format!("KONG_NGINX_HTTP_{name}_TEMP_PATH"), "DIR/temp".to_owned()));
    }
    variables.push(("KONG_PROXY_ACCESS_LOG".to_owned(), "logs/access.log px".to_owned()));
    variables
}

fn variable(name: &str, value: &str) -> Variable {
    (name.to_owned(), value.to_owned())
}

/// Puts what is shipped, and the secrets, to where the image has them.
fn install(dir: &Path, sandbox: &Sandbox) {
    fs::create_dir_all(dir.join("px")).expect("a directory can be made");
    for name in ["http.conf", "server.conf", "status.conf"] {
        let text = fs::read_to_string(shipped("px").join(name)).expect("a file that is shipped");
        fs::write(dir.join("px").join(name), localized(&text, dir)).expect("a file");
    }
    fs::create_dir_all(dir.join("px-secrets")).expect("a directory can be made");
    let app = sandbox.app();
    for (name, text) in [("auth_token", &app.auth_token), ("cookie_secret", &app.secret)] {
        let path = dir.join("px-secrets").join(name);
        fs::write(&path, text).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode can be set");
    }
}

/// Places of the image, as places of the test.
fn localized(text: &str, dir: &Path) -> String {
    let d = dir.display().to_string();
    text.replace(&format!("load_module {MODULE};"), &support::nginx::load_module())
        .replace("/etc/kong/px", &format!("{d}/px"))
        .replace("DIR", &d)
}

/// The sandbox as HUMAN, for the application that the files name.
fn human() -> Sandbox {
    Sandbox::builder().app_id(APP_ID).start().unwrap()
}

/// A gateway at work, with the sandbox as HUMAN and an origin as the service `site`.
struct Gateway {
    // Ended first: it has activities for the sandbox.
    nginx: Nginx,
    kong: Arc<Kong>,
    sandbox: Sandbox,
    origin: Origin,
    /// What is shipped as a gRPC server.
    services: Nginx,
}

impl Gateway {
    fn start(environment: Vec<Variable>) -> Option<Self> {
        Self::start_in(environment, Order::ByName)
    }

    fn start_in(environment: Vec<Variable>, order: Order) -> Option<Self> {
        let lua = lua()?;
        let (sandbox, origin) = (human(), Origin::start());
        let (services, grpc) = services();
        let mut kong = Kong::new(&[surroundings(&sandbox), environment].concat(), order);
        (kong.site, kong.grpc, kong.lua) = (origin.addr(), grpc, lua);
        let kong = Arc::new(kong);
        let nginx = builder(&kong).start_with(|dir| install(dir, &sandbox));
        Some(Self { nginx, kong, sandbox, origin, services })
    }

    fn get(&self, path: &str, headers: &[&str]) -> Response {
        get(self.nginx.addr(), path, headers)
    }

    /// The lines of Kong's log phase, once there are `count`.
    fn log(&self, count: usize) -> Vec<String> {
        wait_until("Kong's log", || self.nginx.log_lines("kong.log").len() >= count);
        self.nginx.log_lines("kong.log")
    }

    fn metrics(&self) -> Metrics {
        let text = get(self.kong.status, "/px/metrics", &[]).text();
        Metrics::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"))
    }

    /// What was asked and reported about the one visit there was.
    #[track_caller]
    fn assert_one_visit(&self, what: &str) {
        let activities = self.sandbox.wait_for_activities(1, SOON);
        assert_eq!((self.sandbox.risk_calls().len(), activities.len()), (1, 1), "{what}");
        self.sandbox.assert_no_complaints();
    }
}

/// nginx with `site.conf`, and the address of its gRPC server.
fn services() -> (Nginx, SocketAddr) {
    let (site, grpc) = (free_addr(), free_addr());
    let text = fs::read_to_string(shipped("site.conf")).expect("a file that is shipped");
    let text = text
        .replace("listen 80;", &format!("listen {site};"))
        .replace("listen 9000 ", &format!("listen {grpc} "));
    (Nginx::builder().http(&text).start(), grpc)
}

fn builder(kong: &Arc<Kong>) -> Builder {
    let kong = Arc::clone(kong);
    Nginx::builder().conf(move |dir, addr| localized(&kong.main_file(dir, addr), dir))
}

#[test]
fn loads_in_every_order_of_the_directives() {
    let Some(lua) = lua() else { return };
    let sandbox = human();
    for (name, shipped) in [("Dockerfile", dockerfile()), ("kong.env", env_file())] {
        let mut orders = vec![Order::ByName];
        orders.extend((1..=8).map(Order::Shuffled));
        for order in orders {
            let mut environment = surroundings(&sandbox);
            if name == "kong.env" {
                // The format is in http.conf.
                environment.retain(|(name, _)| name != "KONG_PROXY_ACCESS_LOG");
            }
            let mut kong = Kong::new(&[environment, shipped.clone()].concat(), order);
            kong.lua.clone_from(&lua);
            let nginx = builder(&Arc::new(kong));
            let (accepted, said) = nginx.test_with(|dir| install(dir, &sandbox));
            // Newer versions of nginx have another way to say HTTP/2.
            let mut warnings = said.lines().filter(|line| line.contains("[warn]"));
            let is_fine = accepted && warnings.all(|line| line.contains("\"listen ... http2\""));
            assert!(is_fine, "{name} {order:?}: {said}");
        }
    }
}

#[test]
fn a_visitor_passes_and_a_bot_is_blocked() {
    for shipped in [dockerfile(), env_file()] {
        let mut environment = shipped;
        if !environment.iter().any(|(name, _)| name.ends_with("HTTP_INCLUDE")) {
            environment.push(variable("KONG_NGINX_HTTP_INCLUDE", "/etc/kong/px/http.conf"));
        }
        for seed in [1, 2] {
            let Some(gateway) = Gateway::start_in(environment.clone(), Order::Shuffled(seed))
            else {
                return;
            };
            let page = gateway.get("/site", &[]);
            assert_eq!((page.status, page.text().as_str()), (200, "origin"), "seed {seed}");
            assert_eq!(gateway.get("/site", &BOT[..1]).status, 200, "it monitors");
            let page = gateway.get("/site", &BOT);
            assert_eq!(page.status, 403, "seed {seed}");
            // Neither Kong's error page nor a lack of its header filter.
            assert!(page.text().contains("_pxUuid"), "{}", page.text());
            assert_eq!(page.header("x-kong-response-latency"), Some("1"));
            let [agent, block] = BOT;
            let answer = gateway.get("/site", &[agent, block, "Accept: application/json"]);
            assert_eq!((answer.status, &answer.json()["appId"]), (403, &json!(APP_ID)));
            assert_eq!(gateway.origin.requests().len(), 2);
            let log = gateway.log(4);
            for (line, part) in [
                (0, "200 GET /site mode=http ip=127.0.0.1 verdict=pass score=0 length=6"),
                (1, "200 GET /site mode=http ip=127.0.0.1 verdict=simulated_block score=100"),
                (2, "403 GET /site mode=http ip=127.0.0.1 verdict=block score=100 length="),
                (3, "verdict=block"),
            ] {
                assert!(log[line].contains(part), "{log:?}");
            }
            assert!(!log[2].ends_with("length=0"), "Kong's body filter sees the page: {log:?}");
            gateway.sandbox.assert_no_complaints();
        }
    }
}

/// What the module asks HUMAN, and what it fetches for browsers, are no requests to Kong.
#[test]
fn kong_sees_requests_of_visitors_only() {
    let Some(gateway) = Gateway::start(dockerfile()) else { return };
    assert_eq!(gateway.get("/site", &[]).status, 200);
    gateway.assert_one_visit("a page");
    assert_eq!(gateway.get("/site", &BOT).status, 403);
    let path = format!("/{}/init.js", APP_ID.trim_start_matches("PX"));
    assert_eq!(gateway.get(&path, &[]).status, 200);
    gateway.log(3);
    // Of the block and the script its router has not heard.
    let phases = get(gateway.kong.status, "/phases", &[]).text();
    assert_eq!(phases, "rewrite 3\naccess 1\nheader_filter 3\nlog 3\n");
}

#[test]
fn a_rate_limit_is_an_answer_of_the_module() {
    let Some(gateway) = Gateway::start(dockerfile()) else { return };
    gateway.sandbox.answer_risk(Reply::risk(100, "r"));
    let page = gateway.get("/site", &BOT);
    assert_eq!(page.status, 429);
    assert!(!page.text().contains("kong_error_handler"), "{}", page.text());
}

#[test]
fn first_party_needs_no_route() {
    let Some(gateway) = Gateway::start(dockerfile()) else { return };
    assert_eq!(gateway.get("/none", &[]).status, 404);
    gateway.sandbox.clear();
    let path = format!("/{}/init.js", APP_ID.trim_start_matches("PX"));
    let script = gateway.get(&path, &[]);
    assert_eq!(script.status, 200);
    assert!(script.header("content-type").is_some_and(|kind| kind.contains("javascript")));
    assert!(gateway.sandbox.risk_calls().is_empty());
    let log = gateway.log(2);
    assert!(log[1].contains("verdict=first_party"), "{log:?}");
    // A path without a route is decided before Kong finds that out.
    assert_eq!(gateway.get("/none", &BOT).status, 403);
}

#[test]
fn a_request_that_is_handed_on_is_decided_once() {
    let Some(gateway) = Gateway::start(dockerfile()) else { return };
    for (path, mode) in [
        ("/site", "http"),
        ("/stream", "unbuffered"),
        ("/upload", "unbuffered"),
        ("/events", "unbuffered"),
        ("/buffered", "http"),
    ] {
        gateway.sandbox.clear();
        let answer = request(gateway.nginx.addr(), "POST", path, &[], b"a body");
        assert_eq!((answer.status, answer.text().as_str()), (200, "origin"), "{path}");
        gateway.assert_one_visit(path);
        let log = gateway.nginx.log_lines("kong.log").pop().expect("a line");
        assert!(log.contains(&format!("mode={mode} ")) && log.contains("verdict=pass"), "{log}");
        let text = gateway.origin.texts().pop().expect("a request");
        assert!(text.ends_with("a body"), "{text}");
        // Kong's plugins see the verdict, and the service is told.
        for line in ["X-Seen-Score: 0", "x-px-upstream-score: 0", "x-px-uuid: "] {
            assert!(text.contains(line), "{line} in {text}");
        }
        gateway.origin.clear();
        gateway.sandbox.clear();
        let answer = request(gateway.nginx.addr(), "POST", path, &BOT, b"a body");
        assert_eq!(answer.status, 403, "{path}");
        gateway.assert_one_visit(path);
        assert!(gateway.origin.requests().is_empty(), "{path}");
    }
}

#[test]
fn a_grpc_call_is_decided_once() {
    let Some(gateway) = Gateway::start(dockerfile()) else { return };
    let call = |headers: &[(&str, &str)]| {
        gateway.sandbox.clear();
        let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
        let mut client = H2::open(gateway.kong.http2);
        let headers = [&grpc, headers].concat();
        client.request(1, "POST", "/shop.Catalogue/List", &headers, false);
        client.data(1, b"\0\0\0\0\0", true);
        let answer = client.receive(1);
        gateway.assert_one_visit("gRPC");
        answer
    };
    assert_eq!(call(&[("user-agent", BROWSER)]).status, 200);
    let log = gateway.log(1);
    assert!(log[0].contains("mode=grpc") && log[0].contains("verdict=pass"), "{log:?}");
    let services = gateway.services.wait_for_access_log(1);
    assert!(services[0].starts_with("200 POST /shop.Catalogue/List"), "{services:?}");
    let blocked = call(&[("user-agent", "PhantomJS/1.0"), ("x-px-block", "1")]);
    assert_eq!(blocked.status, 403);
    assert!(String::from_utf8_lossy(&blocked.body).contains("_pxUuid"));
    assert_eq!(gateway.services.access_log().len(), 1);
}

#[test]
fn an_error_page_of_kong_is_no_second_visit() {
    let Some(gateway) = Gateway::start(dockerfile()) else { return };
    let answer = gateway.get("/down", &[]);
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json(), json!({"message": "from kong_error_handler", "verdict": "pass"}));
    gateway.assert_one_visit("an error");
    let activity = &gateway.sandbox.activities()[0];
    assert_eq!(activity["details"]["http_status_code"], 502, "{activity}");
    let log = gateway.log(1);
    assert!(log[0].starts_with("502 GET /kong_error_handler") && log[0].contains("verdict=pass"));
}

/// nginx shows an error page before anybody has looked at the request.
#[test]
fn a_request_that_nginx_refuses_is_no_visit() {
    let Some(gateway) = Gateway::start(dockerfile()) else { return };
    let answer = gateway.get("/site", &[&format!("X-Long: {}", "x".repeat(40_000))]);
    assert_eq!(answer.status, 494);
    assert_eq!(answer.json(), json!({"message": "from kong_error_handler", "verdict": ""}));
    assert!(gateway.sandbox.risk_calls().is_empty());
}

/// A value may hold more than one argument, and a location of one's own is out of Kong's hands.
#[test]
fn a_block_page_of_ones_own_has_a_location_without_kong() {
    let mut environment = dockerfile();
    let include = "/etc/kong/px/server.conf; include DIR/own.conf";
    environment.push(variable("KONG_NGINX_PROXY_INCLUDE", include));
    let Some(lua) = lua() else { return };
    let (sandbox, origin) = (human(), Origin::start());
    let mut kong = Kong::new(&[surroundings(&sandbox), environment].concat(), Order::ByName);
    (kong.site, kong.lua) = (origin.addr(), lua);
    let own = "px_custom_web_block_page_response @stop;\n\
               location @stop {\nrewrite_by_lua_block { return }\naccess_by_lua_block { return }\n\
               default_type text/html;\nreturn 403 \"<h1>Stop</h1>$px_uuid\";\n}\n";
    let nginx = builder(&Arc::new(kong)).start_with(|dir| {
        install(dir, &sandbox);
        fs::write(dir.join("own.conf"), own).expect("a file can be written");
    });
    let page = get(nginx.addr(), "/site", &BOT);
    assert_eq!(page.status, 403);
    assert!(page.text().starts_with("<h1>Stop</h1>"), "{}", page.text());
    assert_eq!(sandbox.risk_calls().len(), 1);
    assert_eq!(get(nginx.addr(), "/site", &[]).status, 200);
}

#[test]
fn the_address_is_that_behind_trusted_proxies() {
    let environment = [
        dockerfile(),
        vec![
            variable("KONG_TRUSTED_IPS", "127.0.0.0/8,10.0.0.0/8"),
            variable("KONG_REAL_IP_HEADER", "X-Forwarded-For"),
            variable("KONG_REAL_IP_RECURSIVE", "on"),
        ],
    ];
    let Some(gateway) = Gateway::start(environment.concat()) else { return };
    gateway.get("/site", &["X-Forwarded-For: 192.0.2.66, 203.0.113.5, 10.1.2.3"]);
    let call = gateway.sandbox.wait_for_risk_calls(1, SOON)[0].json();
    assert_eq!(call["request"]["socket_ip"], "203.0.113.5", "{call}");
    let log = gateway.log(1);
    assert!(log[0].contains("ip=203.0.113.5"), "{log:?}");
}

#[test]
fn a_client_does_not_speak_for_the_module() {
    let Some(gateway) = Gateway::start(dockerfile()) else { return };
    // Kong lets underscores through.
    let lies = ["X-PX-UUID: mine", "X_PX_UUID: mine", "x-px_upstream_score: mine"];
    for path in ["/site", "/stream", "/ready"] {
        gateway.origin.clear();
        gateway.get(path, &lies);
        for text in gateway.origin.texts() {
            assert!(!text.contains("mine"), "{path}: {text}");
        }
    }
}

#[test]
fn a_plugin_in_the_rewrite_phase_has_a_say() {
    let environment = [
        dockerfile(),
        vec![
            variable("KONG_NGINX_PROXY_SET", "$is_partner \"\""),
            variable("KONG_NGINX_PROXY_PX_CUSTOM_IS_FILTERED_REQUEST", "$is_partner"),
        ],
    ];
    let Some(gateway) = Gateway::start(environment.concat()) else { return };
    for (path, header, calls) in [
        ("/site", "X-Partner: acme", 0),
        ("/stream", "X-Partner: acme", 0),
        ("/site", "X-No: 1", 1),
    ] {
        assert_eq!(gateway.get(path, &[header]).status, 200);
        assert_eq!(gateway.sandbox.risk_calls().len(), calls, "{path} {header}");
    }
}

#[test]
fn only_the_proxy_is_looked_at() {
    let Some(gateway) = Gateway::start(dockerfile()) else { return };
    for (addr, text) in [(gateway.kong.admin, "admin\n"), (gateway.kong.status, "status\n")] {
        let answer = get(addr, "/", &BOT);
        assert_eq!((answer.status, answer.text().as_str()), (200, text));
    }
    assert!(gateway.sandbox.risk_calls().is_empty());
    gateway.get("/site", &BOT);
    gateway.get("/ready", &[]);
    let metrics = gateway.metrics();
    let block = [("app_id", APP_ID), ("reason", "s2s_high_score"), ("verdict", "block")];
    assert_eq!(metrics.get("px_requests_total", &block), 1.0);
    let status = get(gateway.kong.status, "/px/status", &[]).json();
    assert!(status.to_string().contains(APP_ID), "{status}");
}

#[test]
fn secrets_in_files_are_in_no_dump() {
    let Some(gateway) = Gateway::start(dockerfile()) else { return };
    let output = Command::new(support::nginx::binary())
        .args(["-T", "-p"])
        .arg(gateway.nginx.dir())
        .args(["-c", "nginx.conf"])
        .output()
        .expect("nginx can be run");
    let dump = String::from_utf8_lossy(&output.stdout);
    assert!(
        dump.contains("px_auth_token_file") && dump.contains("px_cookie_secret_file"),
        "{dump}"
    );
    let app = gateway.sandbox.app();
    for secret in [&app.auth_token, &app.secret] {
        assert!(!dump.contains(secret.as_str()), "{dump}");
        assert!(!gateway.nginx.error_log().contains(secret.as_str()));
    }
}

#[test]
fn a_body_that_was_read_reaches_a_service_that_streams() {
    let login = "path=/upload method=post sent_through=body user_field=user pass_field=pass";
    let environment = [
        dockerfile(),
        vec![
            variable("KONG_NGINX_PROXY_PX_ENABLE_LOGIN_CREDS_EXTRACTION", "on"),
            variable("KONG_NGINX_PROXY_PX_LOGIN_CREDENTIALS_EXTRACTION", login),
        ],
    ];
    let Some(gateway) = Gateway::start(environment.concat()) else { return };
    // More than client_body_buffer_size: nginx puts it into a file.
    for padding in [0, 30_000] {
        gateway.sandbox.clear();
        gateway.origin.clear();
        let body = json!({"user": "Zaphod", "pass": "p", "padding": "x".repeat(padding)});
        let (body, kind) = (body.to_string(), ["Content-Type: application/json"]);
        let answer = request(gateway.nginx.addr(), "POST", "/upload", &kind, body.as_bytes());
        assert_eq!(answer.status, 200);
        let call = gateway.sandbox.wait_for_risk_calls(1, SOON)[0].json();
        assert_eq!(call["additional"]["ci_version"], "v2", "{call}");
        assert_eq!(gateway.sandbox.risk_calls().len(), 1);
        let text = gateway.origin.texts().pop().expect("a request");
        assert!(text.ends_with(&format!("\r\n\r\n{body}")), "{} of {padding}", text.len());
    }
}

#[test]
fn kong_reload_keeps_the_module_at_work() {
    let Some(gateway) = Gateway::start(dockerfile()) else { return };
    for _ in 0..3 {
        let old = gateway.nginx.workers();
        gateway.nginx.reload(|conf| conf);
        gateway.nginx.wait_for_workers_to_end(&old);
        assert_eq!(gateway.get("/site", &[]).status, 200);
        assert_eq!(gateway.get("/site", &BOT).status, 403);
    }
    let block = [("app_id", APP_ID), ("reason", "s2s_high_score"), ("verdict", "block")];
    assert_eq!(gateway.metrics().get("px_requests_total", &block), 3.0);
}

/// The script that is shipped, with an nginx that reloads on a signal.
#[test]
fn the_smoke_script_finds_what_works_and_what_does_not() {
    let Some(gateway) = Gateway::start(dockerfile()) else { return };
    gateway.origin.answer(200, &[], b"a page of the site");
    let smoke = |more: &[(&str, &str)]| {
        let output = Command::new(shipped("smoke.sh"))
            .envs(more.iter().copied())
            .output()
            .expect("bash is installed");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let url = |addr: SocketAddr| format!("http://{addr}");
    let (grpc, status) = (url(gateway.kong.http2), url(gateway.kong.status));
    let reload = format!("kill -HUP {}", gateway.nginx.pid());
    let proxy = url(gateway.nginx.addr());
    let all = [("PROXY", &*proxy), ("GRPC", &grpc), ("STATUS", &status), ("RELOAD", &reload)];
    let (fine, said) = smoke(&all);
    assert!(fine && said.contains("after a reload") && said.ends_with("all fine\n"), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok")).count(), 18, "{said}");
    // A gateway that does not block, and one that is not there.
    gateway.sandbox.answer_risk(Reply::risk(0, "c"));
    let (fine, said) = smoke(&[("PROXY", &*proxy), ("GRPC", ""), ("STATUS", ""), ("RELOAD", "")]);
    assert!(
        !fine && said.contains("FAILED  at first: a bad bot is blocked: 200 where 403"),
        "{said}"
    );
    let nobody = url(free_addr());
    let (fine, said) = smoke(&[("PROXY", &*nobody), ("GRPC", ""), ("STATUS", ""), ("RELOAD", "")]);
    assert!(!fine && said.contains("no answer"), "{said}");
}

/// The template for the main file, instead of variables: it loads the module itself, and only Kong's
/// proxy server is looked at.
#[test]
fn the_template_needs_no_variables() {
    let Some(lua) = lua() else { return };
    let (sandbox, origin) = (human(), Origin::start());
    let metrics = free_addr();
    let mut kong = Kong::new(&surroundings(&sandbox), Order::ByName);
    (kong.site, kong.lua) = (origin.addr(), lua);
    let kong = Arc::new(kong);
    let template = fs::read_to_string(shipped("nginx.template")).expect("a file that is shipped");
    let filling = Arc::clone(&kong);
    let nginx = Nginx::builder()
        .conf(move |dir, addr| {
            // Where Kong's status API has no include, the template has a server.
            let template = template
                .replace("listen 127.0.0.1:8107;", &format!("listen {metrics};"))
                .replace("pids/nginx.pid", "nginx.pid");
            let conf = localized(&filling.fill_in(dir, &template, addr), dir);
            let rest = dir.join("nginx-kong.conf");
            let text = fs::read_to_string(&rest).expect("it has been written");
            fs::write(rest, localized(&text, dir)).expect("it can be written");
            conf
        })
        .start_with(|dir| install(dir, &sandbox));
    assert_eq!(get(nginx.addr(), "/site", &[]).status, 200);
    assert_eq!(get(nginx.addr(), "/site", &BOT).status, 403);
    assert_eq!(sandbox.risk_calls().len(), 2);
    for addr in [kong.admin, kong.status] {
        assert_eq!(get(addr, "/", &BOT).status, 200);
    }
    assert_eq!(sandbox.risk_calls().len(), 2);
    let text = get(metrics, "/px/metrics", &[]).text();
    let block = [("app_id", APP_ID), ("reason", "s2s_high_score"), ("verdict", "block")];
    assert_eq!(Metrics::parse(&text).expect("metrics").get("px_requests_total", &block), 1.0);
}

/// Names of directives survive Kong's lower case, and one value is enough for each.
#[test]
fn every_directive_can_be_a_variable() {
    let survives = |name: &str| name == name.to_lowercase();
    let files = Files::new();
    let secret = files.secret("secret", "one\n");
    let proxy = files.secret("proxy", "Basic dXNlcjpwYXNz\n");
    let mut seen = 0;
    // Kong's status API has it as an include: it stands in a location.
    for row in rows::ROWS.iter().filter(|row| row.name != "px_status") {
        if !survives(row.name) {
            let mut others = rows::SYNONYMS.iter().filter(|(_, other)| *other == row.name);
            assert!(others.any(|(name, _)| survives(name)), "{} has no other name", row.name);
            continue;
        }
        let value = row
            .good
            .replace("SECRET_FILE", &secret)
            .replace("PROXY_FILE", &proxy)
            .replace("CA_FILE", "/etc/ssl/certs/ca-certificates.crt");
        let name = format!("KONG_NGINX_PROXY_{}", row.name.to_uppercase());
        let line = Kong::new(&[(name, value)], Order::ByName).lines("proxy");
        assert!(line.contains(&format!("{} ", row.name)), "{line}");
        let server = format!("server {{ listen unix:{}s; {line} }}", files.prefix());
        let http = format!("px_app_id PX1; px_auth_token t; px_cookie_secret s; {server}");
        let (accepted, said) = files.check("", &http, &[]);
        assert!(accepted, "{line}: {said:?}");
        seen += 1;
    }
    assert!(seen > 180, "{seen} directives");
}
