//! Tests for the px module: every configuration of `nginx/examples` does what it says.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use px_sandbox::{Endpoint, NodeMode, Reply, Sandbox};
use serde_json::json;
use support::{BROWSER, Nginx, Origin, Response, SOON, get, protect, request, wait_until};

const UUID: &str = "11111111-2222-4333-8444-555555555555";

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("nginx/examples")
}

/// An example at work, with the sandbox as HUMAN and an origin as the site.
struct Example {
    sandbox: Sandbox,
    /// The backend of a region, at 8083.
    region: Sandbox,
    origin: Origin,
    nginx: Nginx,
    /// Of the servers that listen at 8080 and 8082.
    first: SocketAddr,
    second: SocketAddr,
}

impl Example {
    fn start(name: &str) -> Self {
        Self::start_with(name, |text, _| text)
    }

    /// As [`start`](Self::start), with a change to the text that knows the sandbox's URL.
    fn start_with(name: &str, change: impl FnOnce(String, String) -> String) -> Self {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        sandbox.answer_risk(Reply::json(json!({"status": 0, "score": 0, "uuid": UUID})));
        let region = Sandbox::builder().app(sandbox.app().clone()).start().unwrap();
        let (first, second) = (support::nginx::free_addr(), support::nginx::free_addr());
        let text = fs::read_to_string(examples().join(name)).expect("an example");
        let text = text
            .replace("listen 8080;", &format!("listen {first};"))
            .replace("listen 8082;", &format!("listen {second};"))
            .replace("127.0.0.1:8081", &origin.addr().to_string())
            .replace("127.0.0.1:8083", &region.addr().to_string())
            .replace("access_log logs/", "access_log ");
        let text = change(text, sandbox.url());
        let nginx = Nginx::builder().http(&format!("{}{text}", protect(&sandbox))).start();
        Self { sandbox, region, origin, nginx, first, second }
    }

    /// As [`start`](Self::start), with a Risk API that blocks everybody.
    fn blocking(name: &str, action: &str) -> Self {
        let example = Self::start(name);
        example.sandbox.answer_risk(Reply::json(json!({
            "status": 0, "score": 100, "action": action, "uuid": UUID,
        })));
        example
    }

    fn get(&self, path: &str, headers: &[&str]) -> Response {
        get(self.first, path, headers)
    }

    fn good_cookie(&self) -> String {
        format!("Cookie: {}", self.sandbox.mint(BROWSER).cookie())
    }
}

/// Values of a header line in a request as the origin received it.
fn received<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[test]
fn every_example_is_listed_and_run() {
    let own = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("t/examples.rs"));
    let (own, list) = (own.unwrap(), fs::read_to_string(examples().join("README.md")).unwrap());
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(examples()).expect("the examples are there") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        if name.ends_with(".conf") {
            assert!(list.contains(&format!("({name})")), "{name} is not listed");
            assert!(own.contains(&format!("(\"{name}\"")), "{name} is not run");
            seen.insert(name);
        }
    }
    assert!(seen.len() >= 13, "{seen:?}");
}

#[test]
fn traffic_analysis_node() {
    let node = support::node::node();
    let addr = node.addr().to_string();
    // Half a second is not much on a busy machine.
    let change =
        |text: String, _| text.replace("127.0.0.1:8084", &addr).replace("   500;", " 20s;");
    let example = Example::start_with("traffic-analysis-node.conf", change);
    // The vendor's test, as documented.
    let blocked = example.get("/etc/passwd", &[]);
    assert_eq!(blocked.status, 403);
    assert_eq!(blocked.text(), "{\"error\":{\"code\":403,\"message\":\"request blocked\"}}");
    assert!(example.origin.requests().is_empty());
    for (path, mirrored) in
        [("/", 1), ("/health", 0), ("/payment/", 1), ("/upload/../etc/passwd", 1)]
    {
        node.clear();
        let status = if path.contains("..") { 403 } else { 200 };
        assert_eq!(example.get(path, &[]).status, status, "{path}");
        assert_eq!(node.mirrored().len(), mirrored, "{path}");
    }
    node.clear();
    let answer = request(example.first, "POST", "/upload/a", &[], b"q=<script>");
    assert_eq!(answer.status, 200);
    let copy = &node.wait_for(Endpoint::Node, 1, SOON)[0];
    assert_eq!(copy.header("x-px-node-mode"), Some("async"));
    assert_eq!(copy.header("x-px-node-body"), Some("truncated; sent=0; total=10"));
    node.go_down();
    assert_eq!(example.get("/", &[]).status, 200);
    assert_eq!(example.get("/payment/", &[]).status, 503);
    wait_until("the log", || example.nginx.log_lines("analysed.log").len() == 8);
    assert!(example.nginx.log_lines("analysed.log")[0].contains(" 403 block "));
    node.assert_no_complaints();
}

/// The directives that Kong makes of its environment in a file for Docker Compose.
fn kongs_directives(compose: &str) -> String {
    let lines = compose.lines().filter_map(|line| line.trim().strip_prefix("KONG_NGINX_PROXY_"));
    let directives = lines.map(|line| {
        let (name, value) = line.split_once(": ").expect("a value");
        format!("{} {};\n", name.to_lowercase(), value.trim_matches('"'))
    });
    directives.collect()
}

#[test]
fn the_node_example_for_kong() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("nginx/kong/node");
    let compose = fs::read_to_string(dir.join("docker-compose.yml")).expect("the example");
    let directives = kongs_directives(&compose);
    for parameter in ["node_address", "blocking", "timeout_ms"] {
        assert!(directives.contains(&format!("px_wallarm_{parameter} ")), "{directives}");
    }
    let node = Sandbox::builder().node(NodeMode::Blocking).tls(true).start().unwrap();
    let origin = Origin::start();
    let directives = directives
        .replace("https://node:8601", &format!("https://localhost:{}", node.port()))
        .replace("/certificates/node.pem", "node.pem")
        .replace("timeout_ms 500", "timeout_ms 20s");
    let server = format!("{directives} location / {{ {} }}", origin.proxy_pass());
    let nginx = Nginx::builder().server(&server);
    let nginx = nginx.start_with(|dir| support::node::write_authority(&node, dir));
    // What its README says to try.
    assert_eq!(get(nginx.addr(), "/myservice/", &[]).status, 200);
    assert_eq!(get(nginx.addr(), "/myservice/etc/passwd", &[]).status, 403);
    assert_eq!(origin.requests().len(), 1);
    node.assert_no_complaints();
}

#[test]
fn additional_activity_handler() {
    let example = Example::start("additional-activity-handler.conf");
    example.get("/page", &[&example.good_cookie()]);
    wait_until("page and audit", || example.origin.requests().len() == 2);
    let texts = example.origin.texts();
    assert!(texts.iter().any(|text| text.starts_with("GET /audit?verdict=pass&uuid=")));
    assert!(texts.iter().any(|text| received(text, "x-px-verdict") == ["pass"]));
    let log = example.nginx.dir().join("verdicts.log");
    wait_until("a line", || fs::read_to_string(&log).is_ok_and(|log| log.ends_with("}\n")));
    let line: serde_json::Value = serde_json::from_slice(&fs::read(&log).unwrap()).expect("JSON");
    assert_eq!((&line["verdict"], &line["reason"]), (&json!("pass"), &json!("cookie")));
}

#[test]
fn custom_parameters() {
    let example = Example::start("custom-parameters.conf");
    example.origin.answer(200, &["X-Order-Id: 77"], b"");
    example.get("/", &["X-User-Id: u", "X-Tenant: t", "X-Plan: gold", "Cookie: segment=Yg=="]);
    let details = &example.sandbox.wait_for_activities(1, SOON)[0]["details"];
    for (slot, value) in [(1, "u"), (2, "b"), (3, "t"), (4, "gold"), (11, "77")] {
        assert_eq!(details[format!("custom_param{slot}")], value);
    }
    example.sandbox.assert_no_complaints();
}

#[test]
fn sensitive_requests() {
    let example = Example::start("sensitive-requests.conf");
    let cookie = example.good_cookie();
    for (method, path, calls) in [
        ("GET", "/login", 0),
        ("POST", "/login", 1),
        ("POST", "/login/x", 1),
        ("DELETE", "/a", 2),
        ("GET", "/admin", 3),
    ] {
        request(example.first, method, path, &[&cookie], b"");
        assert_eq!(example.sandbox.risk_calls().len(), calls, "{method} {path}");
    }
}

#[test]
fn logins() {
    let example = Example::start("logins.conf");
    let post = |path: &str, headers: &[&str], body: &str| {
        example.sandbox.clear();
        request(example.first, "POST", path, headers, body.as_bytes());
        let login = example.sandbox.wait_for_activities(2, SOON).pop().expect("two");
        assert_eq!(login["type"], "additional_s2s");
        let details = &login["details"];
        (details["ci_version"].clone(), details["login_successful"].clone())
    };
    // Of `visitor`, with a password that nobody reads.
    let basic = ["Authorization: Basic dmlzaXRvcjp4", "X-Passcode: 1234"];
    example.origin.answer(302, &["Set-Cookie: session=s", "Location: /"], b"");
    assert_eq!(post("/session", &basic, ""), (json!("v2"), json!(true)));
    assert_eq!(post("/session", &basic[..1], ""), (json!("multistep_sso"), json!(true)));
    example.origin.answer(503, &[], b"");
    assert_eq!(post("/session", &basic, ""), (json!("v2"), json!(null)));
    let json_type = ["Content-Type: application/json"];
    let body = r#"{"account":{"name":"n","password":"p"}}"#;
    example.origin.answer(201, &[], b"");
    assert_eq!(post("/api/v2/login", &json_type, body), (json!("v2"), json!(true)));
    example.origin.answer(401, &[], b"");
    assert_eq!(post("/api/v2/login", &json_type, body), (json!("v2"), json!(false)));
}

#[test]
fn graphql() {
    let example = Example::start("graphql.conf");
    let cookie = example.good_cookie();
    // {"sub":"user-1"}
    let token = "Authorization: Bearer e30.eyJzdWIiOiJ1c2VyLTEifQ.c2ln";
    let post = |query: &str| {
        example.sandbox.clear();
        let headers = [&*cookie, token, "X-API: graphql", "X-Keywords: card", "Cookie: plan=gold"];
        let body = json!({ "query": query }).to_string();
        request(example.first, "POST", "/any", &headers, body.as_bytes());
        let details = example.sandbox.wait_for_activities(1, SOON)[0]["details"].take();
        assert_eq!(details["app_user_id"], "user-1");
        assert_eq!(details["jwt_additional_fields"], json!({"plan": "gold"}));
        assert_eq!(details["graphql_operations"][0]["keywords"], json!(["card"]));
        example.sandbox.risk_calls().len()
    };
    assert_eq!(post("mutation PayNow { a }"), 1);
    assert_eq!(post("query PayNow { a }"), 0);
}

#[test]
fn enforced_and_monitored() {
    let example = Example::blocking("enforced-and-monitored.conf", "c");
    for (path, header, status) in [
        ("/", "X-None: 1", 403),
        ("/", "X-Partner: acme", 200),
        ("/beta/?enforced=1", "X-None: 1", 403),
    ] {
        assert_eq!(example.get(path, &[header]).status, status, "{path} {header}");
    }
    let agents = (0..60).map(|number| format!("User-Agent: Browser/{number}"));
    let blocked = agents.filter(|agent| example.get("/beta/", &[agent]).status == 403).count();
    assert!((1..30).contains(&blocked), "{blocked} of 60");
}

#[test]
fn filtered_requests() {
    let example = Example::blocking("filtered-requests.conf", "c");
    for (method, path, header, status) in [
        ("GET", "/", "X-None: 1", 403),
        ("GET", "/", "User-Agent: UptimeProbe/2", 200),
        ("POST", "/webhooks/pay", "X-None: 1", 200),
        ("GET", "/webhooks/pay", "X-None: 1", 403),
        ("GET", "/", "Host: status.example.com", 200),
    ] {
        let status_is = request(example.first, method, path, &[header], b"").status;
        assert_eq!(status_is, status, "{method} {path} {header}");
    }
}

#[test]
fn pre_enforce() {
    let example = Example::start("pre-enforce.conf");
    assert_eq!(example.get("/", &["User-Agent: Scrapy/2.1"]).status, 403);
    assert!(example.sandbox.risk_calls().is_empty());
    assert_eq!(example.get("/", &["User-Agent: Browser/1"]).status, 200);
}

#[test]
fn verification_handler() {
    let example = Example::blocking("verification-handler.conf", "c");
    assert_eq!(example.get("/", &[]).status, 403);
    assert_eq!(example.get("/", &["Cookie: session=abc"]).status, 200);
    assert_eq!(received(&example.origin.texts()[0], "x-px-suspect"), [UUID]);
}

#[test]
fn block_pages() {
    for (action, accept, status, part) in [
        ("c", "text/html", 403, "window._pxUuid='11111111-2222-4333-8444-555555555555'"),
        ("c", "application/json", 403, "\"reference\":\"11111111-2222-4333-8444-555555555555\""),
        ("r", "text/html", 429, "half a minute"),
        ("b", "text/html", 403, "px-hard-block"),
    ] {
        let example = Example::blocking("block-pages.conf", action);
        let response = example.get("/", &[&format!("Accept: {accept}")]);
        assert_eq!(response.status, status, "{action} {accept}");
        assert!(response.text().contains(part), "{}", response.text());
        if action == "c" {
            let text = get(example.second, "/", &[]).text();
            assert_eq!(text, format!("<h1>Stop</h1><p>{UUID}</p>"));
        }
    }
}

#[test]
fn custom_block_page() {
    let example = Example::blocking("custom-block-page.conf", "c");
    let response = example.get("/", &[]);
    assert_eq!(response.status, 403);
    assert!(response.text().ends_with(&format!("</script></head><body>{UUID}</body></html>")));
    let response = example.get("/redirected/", &[]);
    assert_eq!(response.status, 307);
    assert!(response.header("location").is_some_and(|url| url.starts_with("/blocked.html?url=")));
    let response = example.get("/api/cart", &["Referer: https://app.example.com/cart"]);
    assert_eq!((response.status, &response.json()["reason"]), (403, &json!("blocked")));
    assert_eq!(example.get("/blocked.html", &[]).status, 200);
}

#[test]
fn cors() {
    let example = Example::blocking("cors.conf", "c");
    let preflight = ["Origin: https://app.example.com", "Access-Control-Request-Method: PUT"];
    let response = request(example.first, "OPTIONS", "/", &preflight, b"");
    assert_eq!(response.status, 204);
    assert_eq!(response.headers("access-control-allow-origin"), ["https://app.example.com"]);
    let response = example.get("/", &["Origin: https://app.example.com"]);
    assert_eq!(response.headers("access-control-expose-headers"), ["X-PX-Reference"]);
    let response = example.get("/", &["Origin: https://evil.example.net"]);
    assert!(response.headers("access-control-allow-origin").is_empty());
}

#[test]
fn client_ip() {
    let example = Example::start("client-ip.conf");
    for (header, expected) in [
        ("X-Edge-Client: ip=192.0.2.9;asn=1", "192.0.2.9"),
        ("X-Forwarded-For: 203.0.113.5", "203.0.113.5"),
    ] {
        example.sandbox.clear();
        example.get("/", &[header]);
        let call = example.sandbox.wait_for_risk_calls(1, SOON)[0].json();
        assert_eq!(call["request"]["socket_ip"], expected);
    }
}

#[test]
fn headers() {
    let example = Example::start("headers.conf");
    let response = example.get("/", &["X-PX-Score: 0"]);
    assert_eq!(response.headers("x-px-score"), ["0"]);
    let text = &example.origin.texts()[0];
    for (name, value) in [
        ("x-px-score", "0"),
        ("x-px-uuid", UUID),
        ("px-ctx", "block-result=0"),
        ("x-px-reason", "s2s"),
    ] {
        assert_eq!(received(text, name), [value], "{name}");
    }
}

#[test]
fn reported() {
    let example = Example::start("reported.conf");
    example.get("/page", &["Authorization: secret", "Cookie: locale=en; session=secret"]);
    let activity = &example.sandbox.wait_for_activities(1, SOON)[0];
    assert!(!activity.to_string().contains("secret"));
    assert_eq!(activity["socket_ip"], "127.0.0.0");
    let headers = activity["headers"].as_array().expect("a list");
    for (name, value) in [("cookie", "locale=en"), ("X-Region", "eu-west")] {
        let found = |h: &serde_json::Value| {
            h["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)) && h["value"] == value
        };
        assert!(headers.iter().any(found), "{name} in {headers:?}");
    }
}

#[test]
fn risk_backend() {
    let example = Example::start("risk-backend.conf");
    assert_eq!(example.get("/", &[]).status, 200);
    assert_eq!((example.region.risk_calls().len(), example.sandbox.risk_calls().len()), (1, 0));
}

#[test]
fn first_party() {
    let example = Example::start("first-party.conf");
    let script = Reply::bytes("application/javascript", "/* px-sandbox */");
    example.sandbox.answer_at(Endpoint::Sensor, script);
    for path in ["/sandbox1/init.js", "/assets/init.js", "/shop.js"] {
        let script = example.get(path, &[]);
        assert!(script.status == 200 && script.text().contains("px-sandbox"), "{path}");
        let header = (path == "/shop.js").then_some("*");
        assert_eq!(script.header("timing-allow-origin"), header, "{path}");
    }
    assert_eq!(example.sandbox.received_at(Endpoint::Sensor).len(), 1, "the rest is cached");
    example.origin.answer(200, &["Content-Type: text/html"], b"<head></head>");
    let page = example.get("/", &[]).text();
    assert!(page.starts_with("<head><script ") && page.contains("\"/shop.js\""), "{page}");
    let own = example.get("/", &["X-Snippet: test"]).text();
    assert_eq!(own, "<head><script>/* the site's own */</script></head>");
}

#[test]
fn hype_sale() {
    let example = Example::start("hype-sale.conf");
    let cookie = example.good_cookie();
    let challenge = example.get("/drop/1", &[&cookie]);
    assert_eq!((challenge.status, challenge.header("x-px-is-hypesale")), (403, Some("true")));
    assert_eq!(example.get("/", &[&cookie]).status, 200);
}

#[test]
fn remote_configuration() {
    let example = Example::start_with("remote-configuration.conf", |text, url| {
        format!("px_csp_data_url {url}/v1/enforcer-data;\n{text}")
    });
    const NAME: &str = "content-security-policy";
    wait_until("a policy", || example.get("/", &[]).header(NAME).is_some());
    let policy = example.get("/", &[]);
    let nonce = policy.header(NAME).and_then(|text| text.split_once("'nonce-"));
    let nonce = nonce.and_then(|(_, rest)| rest.split_once('\'')).expect("a nonce").0;
    let last = example.origin.texts().pop().unwrap();
    assert_eq!(received(&last, "x-csp-nonce"), [nonce]);
    let values = json!({"px_remote_config_enabled": true, "px_filter_by_route": ["/free"]});
    example.sandbox.set_remote_config("rc-1", 1, values);
    let until = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    let until = until.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let signed = Sandbox::sign("remote-config-token-of-the-console", u64::try_from(until).unwrap());
    let headers = ["X-PX-Feature: enforcer_config", &format!("X-PX-PushData: {signed}")];
    assert_eq!(request(example.first, "POST", "/", &headers, b"{}").text(), "OK");
    wait_until("the route to be free", || {
        example.sandbox.clear();
        example.get("/free", &[]);
        example.sandbox.risk_calls().is_empty()
    });
}
