//! Tests for the px module: a client that speaks in the name of the module, of a proxy or of HUMAN.
//!
//! Headers are tried in every spelling that reaches nginx: any case, underscores, several times, with
//! white space around, over HTTP/1 and 2, under settings that let odd names through.

mod support;

use px_sandbox::{Endpoint, Received, Sandbox};
use serde_json::Value;
use support::h2::H2;
use support::{BROWSER, Connection, Nginx, Origin, get, protect, request};

/// What only the module may tell the origin.
const OWNED: &str = "px_score_header_enabled on; px_upstream_score_header_name X-PX-Score;
    px_identifier_header_name X-PX-UUID; px_add_block_result_header on;
    px_data_enrichment_header_name X-PX-DE; px_logger_auth_token log-token;
    px_enable_login_creds_extraction on;
    px_login_credentials_extraction path=/login method=post sent_through=body user_field=u
        pass_field=p;";

const NAMES: [&str; 6] = [
    "X-PX-Score",
    "X-PX-UUID",
    "PX-Ctx",
    "X-PX-DE",
    "PX-Compromised-Credentials",
    "X-PX-Enforcer-Log",
];

/// Settings under which nginx lets odd names through.
const LAX: &str = "underscores_in_headers on; ignore_invalid_headers off; \
     limit_req_zone $server_name zone=one:64k rate=1r/m;";

/// The name in spellings that some origin takes for it.
fn spellings(name: &str) -> Vec<String> {
    let turned = |letter: char| match letter.is_ascii_uppercase() {
        true => letter.to_ascii_lowercase(),
        false => letter.to_ascii_uppercase(),
    };
    vec![
        name.to_owned(),
        name.to_ascii_lowercase(),
        name.chars().map(turned).collect(),
        name.replace('-', "_"),
        name.replacen('-', "_", 1),
    ]
}

/// Lines that claim each name in each spelling twice, one of them with white space.
fn lies() -> Vec<String> {
    let spelled = NAMES.iter().flat_map(|name| spellings(name));
    spelled.flat_map(|name| [format!("{name}: lie"), format!("{name}: \t lie \t")]).collect()
}

fn site(sandbox: &Sandbox, origin: &Origin, more: &str) -> Nginx {
    let server = format!("{} {OWNED} {more}", protect(sandbox));
    Nginx::builder().http(LAX).server(&server.replace("ORIGIN", &origin.proxy_pass())).start()
}

#[test]
fn no_spelling_of_a_header_of_ours_reaches_the_origin_from_a_client() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "location / { ORIGIN }");
    let lies = lies();
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    let mut lines: Vec<&str> = lies.iter().map(String::as_str).collect();
    lines.push("X_Plain: kept");
    for (what, path, body, line) in [
        ("filtered", "/a.css", "", "X: y"),
        ("by cookie", "/", "", &*cookie),
        ("by the Risk API", "/", "", "X: y"),
        ("a login", "/login", "u=a&p=b", "Content-Type: application/x-www-form-urlencoded"),
    ] {
        origin.clear();
        lines.push(line);
        let method = if body.is_empty() { "GET" } else { "POST" };
        assert_eq!(request(nginx.addr(), method, path, &lines, body.as_bytes()).status, 200);
        lines.pop();
        let text = &origin.texts()[0];
        assert!(!text.contains("lie"), "{what}: {text}");
        assert!(text.contains("X_Plain: kept"), "{what}: {text}");
    }
    // nginx itself refuses a name with white space behind it.
    for name in NAMES {
        let mut client = Connection::open(nginx.addr());
        client.send(format!("GET / HTTP/1.1\r\nHost: site.test\r\n{name} : lie\r\n\r\n"));
        assert_eq!(client.receive().status, 400, "{name}");
    }
}

#[test]
fn over_http_2_neither() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let server = format!("{} {OWNED} location / {{ {} }}", protect(&sandbox), origin.proxy_pass());
    let nginx = Nginx::builder().http(LAX).listen("http2").server(&server).start();
    let names: Vec<String> = NAMES.iter().flat_map(|name| spellings(name)).collect();
    let lower: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    let headers: Vec<(&str, &str)> = lower.iter().map(|name| (name.as_str(), "lie")).collect();
    let mut client = H2::open(nginx.addr());
    client.request(1, "GET", "/", &headers, true);
    assert_eq!(client.receive(1).status, 200);
    let [text] = &origin.texts()[..] else { panic!("one request") };
    assert!(!text.contains("lie"), "{text}");
}

/// What is shown on an error before anything is decided may come from an origin, too.
#[test]
fn an_error_page_of_the_origins_is_told_no_lies() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "error_page 503 413 /busy; client_max_body_size 1; location = /busy { ORIGIN }
         location /limited { limit_req zone=one; ORIGIN } location / { ORIGIN }",
    );
    let lies = lies();
    let mut lines: Vec<&str> = lies.iter().map(String::as_str).collect();
    lines.push("X: y");
    for (path, body, status) in
        [("/limited", "", 200), ("/limited", "", 503), ("/", "too much", 413)]
    {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let response = request(nginx.addr(), method, path, &lines, body.as_bytes());
        assert_eq!((response.status, response.text()), (status, "origin".to_owned()));
    }
    let texts = origin.texts();
    assert_eq!(texts.len(), 3);
    for text in texts {
        assert!(!text.contains("lie") && text.contains("X: y"), "{text}");
    }
}

#[test]
fn an_address_in_a_header_is_believed_only_where_it_is_named() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let forged = [
        "X-Forwarded-For: 203.0.113.1",
        "Forwarded: for=203.0.113.1",
        "X-Real-IP: 203.0.113.1",
        "True-Client-IP: 203.0.113.1",
        "CF-Connecting-IP: 203.0.113.1",
        "X-PX-Enforcer-True-IP: 203.0.113.1",
        "X_Trusted_IP: 203.0.113.1",
    ];
    let ip = |sandbox: &Sandbox| -> Value {
        let calls = sandbox.risk_calls();
        calls.last().expect("a call").json()["request"]["socket_ip"].clone()
    };
    for directive in ["", "px_ip_headers X-Trusted-IP;"] {
        // A filter is no way in either.
        let more = format!("{directive} px_filter_by_ip 203.0.113.1; location / {{ ORIGIN }}");
        let nginx = site(&sandbox, &origin, &more);
        sandbox.clear();
        assert_eq!(get(nginx.addr(), "/", &forged).status, 200);
        assert_eq!(ip(&sandbox), "127.0.0.1", "{directive}");
    }
}

/// What HUMAN is told by first party, in any spelling.
#[test]
fn no_client_speaks_to_humans_hosts_as_the_module_does() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "location / { ORIGIN }");
    let names = ["X-PX-Enforcer-True-IP", "X-PX-First-Party"];
    let spelled = names.iter().flat_map(|name| spellings(name));
    let mut lies: Vec<String> = spelled.map(|name| format!("{name}: lie")).collect();
    // Newer versions of nginx refuse requests that have one of these twice.
    let once = ["aUTHORIZATION: lie", "pROXY-aUTHORIZATION: lie", "X_Forwarded_For: lie"];
    lies.extend(once.map(str::to_owned));
    lies.push("Connection: x-px-first-party, X-PX-ENFORCER-TRUE-IP".to_owned());
    let lines: Vec<&str> = lies.iter().map(String::as_str).collect();
    for path in ["/sandbox1/init.js", "/sandbox1/captcha/captcha.js", "/sandbox1/xhr/a"] {
        sandbox.clear();
        get(nginx.addr(), path, &lines);
        let received = sandbox.received();
        let [received] = &received[..] else { panic!("{path}: {} requests", received.len()) };
        let values = |of: &Received, name| of.values(name).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(values(received, "x-px-enforcer-true-ip"), ["127.0.0.1"], "{path}");
        assert_eq!(values(received, "x-px-first-party"), ["1"], "{path}");
        assert!(received.headers.iter().all(|(_, value)| value != "lie"), "{path}: {received:?}");
    }
}

/// A header of mobile SDKs changes which checks apply, not how strict they are.
#[test]
fn mobile_headers_are_no_way_around_the_cookies_checks() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "add_header X-Reason $px_pass_reason$px_call_reason always; location / { ORIGIN }",
    );
    let web = sandbox.mint(BROWSER).token();
    let mobile = sandbox.mint("").mobile().token();
    let other = px_sandbox::Mint::v3("another-secret").mobile().token();
    let says = |lines: &[&str]| {
        let response = get(nginx.addr(), "/", lines);
        response.header("x-reason").unwrap_or_default().to_owned()
    };
    let authorization = |value: &str| format!("X-PX-AUTHORIZATION: {value}");
    for (what, lines, reason) in [
        (
            "a browser's token",
            vec![authorization(&format!("3:{web}"))],
            "s2scookie_validation_failed",
        ),
        (
            "another app's",
            vec![authorization(&format!("3:{other}"))],
            "s2scookie_decryption_failed",
        ),
        (
            "an app's in a cookie",
            vec![format!("Cookie: _px3={mobile}")],
            "s2scookie_validation_failed",
        ),
        (
            "a good original token beside an error",
            vec![authorization("1"), format!("X-PX-ORIGINAL-TOKEN: 3:{mobile}")],
            "s2smobile_error_1",
        ),
        (
            "an original token alone",
            vec![format!("X-PX-ORIGINAL-TOKEN: 3:{mobile}")],
            "s2sno_cookie",
        ),
        (
            "a good cookie beside a bad header",
            vec![authorization("3:x"), format!("Cookie: _px3={web}")],
            "s2scookie_decryption_failed",
        ),
        (
            "a bypass reason",
            vec![authorization("1"), "X-PX-BYPASS-REASON: x".to_owned()],
            "s2smobile_error_1",
        ),
        ("the underscore", vec![format!("X_PX_AUTHORIZATION: 3:{mobile}")], "s2sno_cookie"),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(says(&lines), reason, "{what}");
    }
    assert_eq!(says(&[&authorization(&format!("3:{mobile}"))]), "cookie");
}

/// A cookie is bound to what HUMAN signed, wherever it is shown.
#[test]
fn a_stolen_or_replayed_token_asks_the_risk_api() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::start(&format!(
        "{} px_sensitive_routes /pay; px_ip_headers X-Client; \
         add_header X-Reason $px_pass_reason$px_call_reason always;
         location / {{ {pass} }}
         location /strict {{ px_blocking_score 30; {pass} }}
         location /other {{ px_app_id PXother; px_cookie_secret other-secret; {pass} }}",
        protect(&sandbox),
        pass = origin.proxy_pass()
    ));
    let mint = || sandbox.mint(BROWSER);
    let of_ip = mint().signed_fields("us").ip("203.0.113.1").cookie();
    let plain = mint().cookie();
    let medium = mint().score(50).cookie();
    let expired = mint().expired().cookie();
    let other_agent = "User-Agent: Other/1";
    let (home, away) = ("X-Client: 203.0.113.1", "X-Client: 203.0.113.2");
    let failed = "s2scookie_validation_failed";
    // The good ones come first, so that what is remembered of them is tried, too.
    for (what, path, cookie, line, reason) in [
        ("its own", "/", &plain, home, "cookie"),
        ("its own, of an address", "/", &of_ip, home, "cookie"),
        ("another browser", "/", &plain, other_agent, failed),
        ("another address", "/", &of_ip, away, failed),
        ("a sensitive route", "/pay", &plain, home, "s2ssensitive_route"),
        ("a medium score", "/", &medium, home, "cookie"),
        ("another app", "/other", &plain, home, "s2scookie_decryption_failed"),
        ("expired", "/", &expired, home, "s2scookie_expired"),
        ("expired again", "/", &expired, home, "s2scookie_expired"),
    ] {
        for _ in 0..2 {
            let response = get(nginx.addr(), path, &[&format!("Cookie: {cookie}"), line]);
            assert_eq!(response.header("x-reason"), Some(reason), "{what}");
        }
    }
    // A stricter location judges the same token by its own threshold, remembered or not.
    for _ in 0..2 {
        let response = get(nginx.addr(), "/strict", &[&format!("Cookie: {medium}"), home]);
        assert_eq!(response.status, 403);
        let response = get(nginx.addr(), "/", &[&format!("Cookie: {medium}"), home]);
        assert_eq!(response.status, 200);
    }
    // `_pxhd` is reported and decides nothing.
    let bot = ["User-Agent: PhantomJS/1.0", "Cookie: _pxhd=stolen"];
    assert_eq!(get(nginx.addr(), "/", &bot).status, 403);
    assert_eq!(sandbox.received_at(Endpoint::RiskApi).last().unwrap().json()["pxhd"], "stolen");
}
