//! Tests for the px module: requests that no browser sends.
//!
//! Every one of them is answered, asked about at most once and reported once, in messages the
//! sandbox finds nothing wrong with.

mod support;

use px_sandbox::{Mint, Sandbox};
use serde_json::{Value, json};
use support::{BROWSER, Connection, Nginx, Origin, SOON, protect};

struct Site {
    sandbox: Sandbox,
    origin: Origin,
    nginx: Nginx,
    visits: usize,
}

/// What is known of one visit.
struct Visit {
    status: u16,
    /// Body of the Risk API call, if there was one.
    call: Value,
    activity: Value,
}

impl Visit {
    /// Why the Risk API was asked; if it was not, why the visitor passed or was blocked.
    fn reason(&self) -> &str {
        let details = &self.activity["details"];
        [
            &self.call["additional"]["s2s_call_reason"],
            &details["block_reason"],
            &details["pass_reason"],
        ]
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or_default()
    }

    /// Values of a header as it was reported to the Risk API.
    fn reported(&self, name: &str) -> Vec<&str> {
        let headers = self.call["request"]["headers"].as_array().expect("a list of headers");
        let values = headers.iter().filter(|header| header["name"] == name);
        values.filter_map(|header| header["value"].as_str()).collect()
    }

    fn cookie_names(&self) -> Vec<&str> {
        let names = &self.activity["details"]["request_cookie_names"];
        names.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

impl Site {
    fn start(directives: &str) -> Self {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        let nginx = Nginx::builder()
            .http("large_client_header_buffers 8 64k; client_header_buffer_size 64k;")
            .server(&format!(
                "{} px_max_activity_batch_size 0; px_forged_cookie_budget 100000; \
                 {directives}\nlocation / {{ {} }}",
                protect(&sandbox),
                origin.proxy_pass()
            ))
            .start();
        Self { sandbox, origin, nginx, visits: 0 }
    }

    /// One request of these bytes on a connection of its own.
    fn visit(&mut self, name: &str, request: &[u8]) -> Visit {
        self.try_visit(name, request).unwrap_or_else(|| panic!("nginx refuses {name}"))
    }

    /// The same; `None` where nginx itself refuses the request, which is no visit then.
    fn try_visit(&mut self, name: &str, request: &[u8]) -> Option<Visit> {
        self.sandbox.clear();
        self.origin.clear();
        let workers = self.nginx.wait_for_workers(1);
        let mut visitor = Connection::open(self.nginx.addr());
        visitor.send(request);
        let status = visitor.receive().status;
        self.visits += 1;
        assert_eq!(self.nginx.wait_for_access_log(self.visits).len(), self.visits, "{name}");
        if status == 400 {
            assert!(self.sandbox.risk_calls().is_empty(), "{name}");
            return None;
        }
        let activities = self.sandbox.wait_for_activities(1, SOON);
        assert_eq!(activities.len(), 1, "{name}");
        let calls = self.sandbox.risk_calls();
        assert!(calls.len() <= 1, "{name}");
        let complaints = self.sandbox.complaints();
        assert!(complaints.is_empty(), "{name}:\n{}", complaints.join("\n"));
        assert_eq!(self.nginx.workers(), workers, "{name}");
        let call = calls.first().map(|call| call.json()).unwrap_or_default();
        Some(Visit { status, call, activity: activities[0].clone() })
    }

    /// A GET with these header lines, which may hold any bytes.
    fn get(&mut self, name: &str, lines: &[&[u8]]) -> Visit {
        let mut request =
            format!("GET / HTTP/1.1\r\nHost: site.test\r\nUser-Agent: {BROWSER}\r\n").into_bytes();
        for line in lines {
            request.extend_from_slice(line);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let visit = self.visit(name, &request);
        assert_eq!((visit.status, self.origin.requests().len()), (200, 1), "{name}");
        visit
    }

    fn cookie(&mut self, name: &str, cookie: impl AsRef<[u8]>) -> Visit {
        self.get(name, &[&[b"Cookie: ", cookie.as_ref()].concat()])
    }

    fn mint(&self) -> Mint {
        self.sandbox.mint(BROWSER)
    }
}

const BROKEN: &str = "cookie_decryption_failed";
const FORGED: &str = "cookie_validation_failed";

#[test]
fn risk_cookies_that_are_none() {
    let mut site = Site::start("");
    let good = site.mint().token();
    let parts: Vec<&str> = good.split(':').collect();
    let with = |at: usize, part: &str| {
        let mut parts: Vec<&str> = parts.clone();
        parts[at] = part;
        parts.join(":").into_bytes()
    };
    let mut rows: Vec<(String, Vec<u8>, &str)> = vec![
        ("empty".into(), b"".to_vec(), "no_cookie"),
        ("a word".into(), b"x".to_vec(), BROKEN),
        ("colons".into(), b":::".to_vec(), BROKEN),
        ("many colons".into(), ":".repeat(2000).into(), BROKEN),
        ("five parts".into(), format!("{good}:x").into(), BROKEN),
        ("three parts".into(), parts[1..].join(":").into(), BROKEN),
        ("two parts".into(), parts[2..].join(":").into(), BROKEN),
        ("empty hmac".into(), with(0, ""), FORGED),
        ("short hmac".into(), with(0, "abc"), FORGED),
        ("hmac not hex".into(), with(0, &"z".repeat(64)), FORGED),
        ("hmac twice as long".into(), with(0, &parts[0].repeat(2)), FORGED),
        ("upper-case hmac".into(), with(0, &parts[0].to_uppercase()), FORGED),
        ("empty salt".into(), with(1, ""), BROKEN),
        ("long salt".into(), with(1, &"A".repeat(101)), BROKEN),
        ("salt not base64".into(), with(1, "!!!!"), BROKEN),
        ("another salt".into(), with(1, "AAAAAAAAAAAAAAAAAAAAAA=="), BROKEN),
        ("empty ciphertext".into(), with(3, ""), BROKEN),
        ("one block".into(), with(3, "AAAAAAAAAAAAAAAAAAAAAA=="), BROKEN),
        ("half a block".into(), with(3, "AAAAAAAAAAA="), BROKEN),
        ("ciphertext not base64".into(), with(3, "?????"), BROKEN),
        ("shortened".into(), good.as_bytes()[..good.len() - 8].to_vec(), BROKEN),
        ("not UTF-8".into(), b"\xff\xfe:\x80:1000:\xc0\xaf".to_vec(), BROKEN),
        ("quoted".into(), format!("\"{good}\"").into(), BROKEN),
        ("percent signs".into(), b"%".repeat(500), BROKEN),
        ("percent-encoded nothing".into(), b"%00%ff%3A%3A%3A%3".to_vec(), BROKEN),
        ("too long".into(), [good.as_bytes(), &[b'A'; 2000]].concat(), BROKEN),
        ("far too long".into(), vec![b'A'; 50_000], BROKEN),
    ];
    for iterations in [
        "",
        " ",
        "abc",
        "nan",
        "NaN",
        "inf",
        "0x3e8",
        "-1000",
        "+1000",
        "1e3",
        "1000.0",
        "1000abc",
        "0",
        "1",
        "499",
        "5001",
        "999999999999",
        "18446744073709551616",
        "1_000",
        "\u{0661}000",
    ] {
        rows.push((format!("iterations {iterations:?}"), with(2, iterations), BROKEN));
    }
    for (name, token, reason) in rows {
        let visit = site.cookie(&name, [b"_px3=", &token[..]].concat());
        assert_eq!(visit.reason(), reason, "{name}");
        let reported = visit.call["additional"].get("px_orig_cookie").is_some();
        assert_eq!(reported, reason != "no_cookie", "{name}");
    }
    for iterations in [500, 5000] {
        let cookie = site.mint().iterations(iterations).cookie();
        assert_eq!(site.cookie("a limit", cookie).reason(), "cookie", "{iterations}");
    }
}

#[test]
fn sealed_payloads_with_missing_or_wrong_fields() {
    let mut site = Site::start("");
    let mut rows: Vec<(String, Mint, &str)> = Vec::new();
    for field in ["a", "s", "t", "u", "v"] {
        rows.push((format!("no {field}"), site.mint().without(field), BROKEN));
        rows.push((format!("{field} null"), site.mint().field(field, Value::Null), BROKEN));
        for wrong in [json!([]), json!({}), json!(true), json!([[1]])] {
            let name = format!("{field} {wrong}");
            rows.push((name, site.mint().field(field, wrong), BROKEN));
        }
    }
    for (field, wrong) in [
        ("s", json!("0")),
        ("t", json!("9999999999999")),
        ("a", json!(1)),
        ("u", json!(1)),
        ("v", json!(1)),
    ] {
        rows.push((format!("{field} {wrong}"), site.mint().field(field, wrong), BROKEN));
    }
    for payload in [
        "",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{",
        "{}",
        "{}{}",
        "\u{0}",
        "not JSON",
        "{\"a\":}",
        r#"{"a":"c","s":1e400,"t":1,"u":"","v":""}"#,
        r#"[{"a":"c","s":0,"t":1,"u":"","v":""}]"#,
    ] {
        rows.push((format!("payload {payload:?}"), site.mint().payload(payload), BROKEN));
    }
    let deep = format!("{}{}", "[".repeat(600), "]".repeat(600));
    rows.push(("a deep payload".into(), site.mint().payload(deep), BROKEN));
    rows.push(("x a number".into(), site.mint().field("x", 1), FORGED));
    rows.push(("x a list".into(), site.mint().field("x", json!(["u"])), FORGED));
    rows.push(("another user agent".into(), site.mint().user_agent("else"), FORGED));
    rows.push(("t 0".into(), site.mint().field("t", 0), "cookie_expired"));
    rows.push(("t -1".into(), site.mint().field("t", -1), "cookie_expired"));
    rows.push(("t 1e300".into(), site.mint().field("t", 1e300), "cookie"));
    rows.push(("empty texts".into(), site.mint().uuid("").vid("").action(""), "cookie"));
    rows.push(("score -5".into(), site.mint().score(-5), "cookie"));
    rows.push(("score 0.5".into(), site.mint().score(0.5), "cookie"));
    rows.push(("more fields".into(), site.mint().field("z", json!({"y": [null]})), "cookie"));
    for (name, mint, reason) in rows {
        let visit = site.cookie(&name, mint.cookie());
        assert_eq!(visit.reason(), reason, "{name}");
    }
    // Whatever else is in it, a good token with a high score blocks.
    let evil = "</script>\r\n\u{2028}\"";
    let mint = site.mint().score(1e300).action(evil).uuid(evil).vid(evil);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: site.test\r\nUser-Agent: {BROWSER}\r\nCookie: {}\r\n\r\n",
        mint.cookie()
    );
    let visit = site.visit("a high score", request.as_bytes());
    assert_eq!((visit.status, visit.reason()), (403, "cookie_high_score"));
}

#[test]
fn version_2_cookies_that_are_none() {
    let mut site = Site::start("px_token_version 2;");
    let secret = site.sandbox.app().secret.clone();
    let mint = || Mint::v2(secret.as_str()).user_agent(BROWSER);
    for (name, mint, reason) in [
        ("good", mint(), "cookie"),
        ("expired", mint().expired(), "cookie_expired"),
        ("no t", mint().without("t"), BROKEN),
        ("no h", mint().without("h"), BROKEN),
        ("u null", mint().field("u", Value::Null), BROKEN),
        ("t a text", mint().field("t", "1"), FORGED),
        ("u no UUID", mint().field("u", "x"), FORGED),
        ("v a number", mint().field("v", 1), FORGED),
        ("h empty", mint().field("h", ""), FORGED),
        ("h a list", mint().field("h", json!([])), FORGED),
        ("h wrong", mint().broken_hmac(), FORGED),
        ("a list", mint().payload("[]"), BROKEN),
        ("not JSON", mint().payload("x"), BROKEN),
    ] {
        assert_eq!(site.cookie(name, mint.cookie()).reason(), reason, "{name}");
    }
    for (name, cookie, reason) in [
        ("not base64", &b"_px2=!!!"[..], BROKEN),
        ("not UTF-8", b"_px2=\xff\xfe", BROKEN),
        ("the other version", b"_px3=a:b:1000:c", "no_cookie"),
    ] {
        assert_eq!(site.cookie(name, cookie).reason(), reason, "{name}");
    }
}

#[test]
fn other_cookies_that_are_none() {
    let mut site = Site::start("px_data_enrichment_header_name x-px-de;");
    let long = [&b"_pxhd="[..], &[b'h'; 20_000]].concat();
    for (name, cookie, reason) in [
        ("a vid that is none", &b"_pxvid=nobody"[..], "no_cookie"),
        ("a vid not UTF-8", b"_pxvid=\xff\xfe\x80", "no_cookie"),
        ("a vid with quotes", b"_pxvid=\"'\\</script>", "no_cookie"),
        ("a pxhd not UTF-8", b"_pxhd=\xff\xfe", "no_cookie_w_vid"),
        ("a pxhd with quotes", b"_pxhd=\"'\\</script>", "no_cookie_w_vid"),
        ("a long pxhd", &long, "no_cookie_w_vid"),
        ("pxde without parts", b"_pxde=x", "no_cookie"),
        ("pxde with three", b"_pxde=a:b:c", "no_cookie"),
        ("pxde empty parts", b"_pxde=:", "no_cookie"),
        ("pxde forged", b"_pxde=00:eyJicmVhY2hlZF9hY2NvdW50IjoxfQ==", "no_cookie"),
        ("pxde not UTF-8", b"_pxde=\xff:\xfe", "no_cookie"),
        ("pxcts not UTF-8", b"pxcts=\xff", "no_cookie"),
        ("nothing", b"", "no_cookie"),
        ("semicolons", b";;; ; ;", "no_cookie"),
        ("equals signs", b"=;==;=a;a=;a==", "no_cookie"),
        ("tabs", b"\ta\t=\tb\t;\t_pxhd=x\t", "no_cookie_w_vid"),
        ("names not UTF-8", b"\xff=1; \xfe\xfd=2", "no_cookie"),
        ("control characters", b"a\x01=\x7f\x1f", "no_cookie"),
    ] {
        let visit = site.cookie(name, cookie);
        assert_eq!(visit.reason(), reason, "{name}");
        let [origin] = &site.origin.texts()[..] else { panic!("{name}") };
        assert!(!origin.contains("x-px-de"), "{name}: {origin}");
    }
    let many: String = (0..3000).map(|n| format!("name{n}=value{n}; ")).collect();
    assert_eq!(site.cookie("three thousand", &many).cookie_names().len(), 3000);
    let good = site.mint().cookie();
    assert_eq!(site.cookie("one of three thousand", many + &good).reason(), "cookie");
}

#[test]
fn the_same_header_several_times() {
    let mut site = Site::start("px_ip_headers X-Forwarded-For X-Real-IP;");
    let good = site.mint().cookie();
    let (good_line, bad_line) = (format!("Cookie: {good}"), "Cookie: _px3=x");
    let mobile = site.mint().mobile().mobile_header();
    let mobile = format!("X-PX-AUTHORIZATION: {mobile}");
    let custom = format!("X-PX-COOKIES: {good}");
    let rows: [(&str, Vec<&str>, &str); 13] = [
        ("three cookies", vec!["Cookie: a=1", "Cookie: b=2", &good_line], "cookie"),
        ("the good one first", vec![&good_line, "Cookie: a=1", "Cookie:"], "cookie"),
        ("the last one counts", vec![bad_line, &good_line], "cookie"),
        ("the last one counts, and is bad", vec![&good_line, bad_line], BROKEN),
        ("empty cookies", vec!["Cookie:", "Cookie: ", &good_line, "Cookie:"], "cookie"),
        ("two authorizations", vec![&mobile, "X-PX-AUTHORIZATION: 3"], "cookie"),
        ("two authorizations turned", vec!["X-PX-AUTHORIZATION: 3", &mobile], "mobile_error_3"),
        ("an empty authorization first", vec!["X-PX-AUTHORIZATION:", &mobile], "cookie"),
        ("empty authorizations", vec!["X-PX-AUTHORIZATION:", "X-PX-AUTHORIZATION: "], "no_cookie"),
        ("two custom cookies", vec!["X-PX-COOKIES: a=1", &custom], "cookie"),
        ("custom cookies and cookies", vec![bad_line, &custom, "X-PX-COOKIES: b=1"], "cookie"),
        ("custom cookies empty", vec!["X-PX-COOKIES:", "X-PX-COOKIES: ", &good_line], "cookie"),
        (
            "two original tokens",
            vec!["X-PX-AUTHORIZATION: 1", "X-PX-ORIGINAL-TOKEN: 3:x", "X-PX-ORIGINAL-TOKEN: 3:y"],
            "mobile_error_1",
        ),
    ];
    for (name, lines, reason) in rows {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        assert_eq!(site.get(name, &lines).reason(), reason, "{name}");
    }

    let ip = |visit: &Visit| visit.activity["socket_ip"].as_str().unwrap_or_default().to_owned();
    for (lines, expected) in [
        (vec!["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"], "192.0.2.1"),
        (vec!["X-Forwarded-For:", "X-Forwarded-For: 192.0.2.2"], "192.0.2.2"),
        (vec!["X-Real-IP: 192.0.2.3", "X-Forwarded-For: nobody, 192.0.2.2"], "192.0.2.2"),
        (vec!["X-Real-IP: 2001:db8::1", "X-Forwarded-For: ,,,"], "2001:db8::1"),
        (vec!["X-Forwarded-For: 999.1.1.1", "X-Real-IP: 1.2.3"], "127.0.0.1"),
        (vec!["X-Forwarded-For: \u{661}.1.1.1", "X-Real-IP: 1.2.3.4\u{1}"], "127.0.0.1"),
    ] {
        let name = lines.join(" / ");
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        assert_eq!(ip(&site.get(&name, &lines)), expected, "{name}");
    }

    let visit = site.get("several of a kind", &[b"X-A: 1", b"X-B: 2", b"x-a: 3", b"X-A: 1"]);
    assert_eq!(visit.reported("x-a"), ["1", "3", "1"]);
}

#[test]
fn mobile_headers_that_are_none() {
    let mut site = Site::start("");
    let good = site.mint().mobile().token();
    for (value, reason) in [
        (&b"1"[..], "mobile_error_1"),
        (b"4", "mobile_error_4"),
        (b"0", "mobile_error_0"),
        (b"007", "mobile_error_007"),
        (b"99999999999999999999", "mobile_error_99999999999999999999"),
        (b"-1", "no_cookie"),
        (b"1.5", "no_cookie"),
        (b"x", "no_cookie"),
        (b":", "no_cookie"),
        (b"3:", "no_cookie"),
        (b"5:x", "no_cookie"),
        (b":x", "no_cookie"),
        (b"3:x", BROKEN),
        (b"3:\xff:\xfe:1000:\x80", BROKEN),
        (b"3::::", BROKEN),
        (&[b'9'; 5000], ""),
        ("\u{ff11}".as_bytes(), "no_cookie"),
        (&[b"3: ", good.as_bytes()].concat(), FORGED),
        (&[b"2:", good.as_bytes()].concat(), "no_cookie"),
        (&[b"3:", good.as_bytes()].concat(), "cookie"),
    ] {
        let name = String::from_utf8_lossy(value).into_owned();
        let visit = site.get(
            &name,
            &[
                &[b"X-PX-AUTHORIZATION: ", value].concat(),
                b"X-PX-ORIGINAL-TOKEN: 3:\xff\xfe:\x80:1000:x",
                b"X-PX-BYPASS-REASON: \"\xff\"",
                b"Cookie: _pxhd=ignored; _pxvid=ignored",
            ],
        );
        if !reason.is_empty() {
            assert_eq!(visit.reason(), reason, "{name}");
        }
    }
}

#[test]
fn heads_of_any_shape() {
    let mut site = Site::start("");
    let many: Vec<Vec<u8>> = (0..500).map(|n| format!("X-Header-{n}: {n}").into()).collect();
    let lines: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    let visit = site.get("500 headers", &lines);
    assert_eq!(visit.reported("x-header-499"), ["499"]);
    assert_eq!(visit.call["request"]["headers"].as_array().map(Vec::len), Some(502));

    let visit = site.get("500 times one header", &[b"X-Same: 1".as_slice(); 500]);
    assert_eq!(visit.reported("x-same").len(), 500);

    let long = [&b"X-Long: "[..], &[b'x'; 60_000]].concat();
    assert_eq!(site.get("a long header", &[&long]).reported("x-long")[0].len(), 60_000);

    let visit = site.get("empty values", &[b"X-Empty:", b"X-Blank:   ", b"Referer:", b"Accept:"]);
    assert_eq!((visit.reported("x-empty"), visit.reported("x-blank")), (vec![""], vec![""]));

    let visit = site.get("any bytes", &[b"X-Bytes: \xff\xfe\"\\\x01\x7f\xc3\xa9", b"X-Tab: a\tb"]);
    assert_eq!(visit.reported("x-tab"), ["a\tb"]);
    assert!(visit.reported("x-bytes")[0].contains("\"\\\u{1}\u{7f}\u{e9}"));
}

#[test]
fn header_names_with_underscores() {
    for (directive, reported) in [("", 0), ("underscores_in_headers on;", 1)] {
        let mut site = Site::start(directive);
        let visit =
            site.get("underscores", &[b"X_Under_Score: 1", b"_x: 2", b"x_px_authorization: 1"]);
        assert_eq!(visit.reported("x_under_score").len(), reported);
        assert_eq!(visit.reason(), "no_cookie");
    }
    let mut site = Site::start("ignore_invalid_headers off; underscores_in_headers on;");
    let visit = site.get("invalid names", &[b"X.Dot: 1", b"X(y): 2", b"X\xff: 3", b"\"x\": 4"]);
    assert_eq!(visit.reported("x.dot"), ["1"]);
}

#[test]
fn request_lines_of_any_shape() {
    let mut site = Site::start("merge_slashes off;");
    let long = format!("/{}", "a".repeat(60_000));
    let host = "Host: site.test\r\n";
    for (name, line, headers, url) in [
        ("slashes", &b"GET //a//b/ HTTP/1.1"[..], host, "http://site.test/a/b"),
        ("dots", b"GET /a/./b/../c HTTP/1.1", host, "http://site.test/a/c"),
        ("encoded dots", b"GET /a/%2e%2e/b HTTP/1.1", host, "http://site.test/b"),
        ("encoded slashes", b"GET /a%2f..%2fb HTTP/1.1", host, "http://site.test/a%2f..%2fb"),
        ("a backslash", b"GET /a\\b HTTP/1.1", host, ""),
        ("a semicolon", b"GET /a;b=c/d HTTP/1.1", host, "http://site.test/a;b=c/d"),
        ("a bare question mark", b"GET /? HTTP/1.1", host, ""),
        ("question marks", b"GET /?a?b?=&&& HTTP/1.1", host, "http://site.test/?a?b?=&&&"),
        ("a fragment", b"GET /a#b HTTP/1.1", host, ""),
        ("not UTF-8", b"GET /\xff\xfe?\x80 HTTP/1.1", host, ""),
        ("encoded bytes", b"GET /%ff%fe?%zz%00 HTTP/1.1", host, "http://site.test/%ff%fe?%zz%00"),
        ("UTF-8", "GET /\u{fc}?\u{e9} HTTP/1.1".as_bytes(), host, "http://site.test/%C3%BC?%C3%A9"),
        ("quotes", b"GET /\"'<>{}|^` HTTP/1.1", host, ""),
        ("a long one", format!("GET {long} HTTP/1.1").leak().as_bytes(), host, ""),
        (
            "an absolute target",
            b"GET http://other.test/x?y HTTP/1.1",
            host,
            "http://other.test/x?y",
        ),
        ("an absolute target alone", b"GET HTTP://Other.Test HTTP/1.1", host, "http://other.test/"),
        ("an absolute target with a port", b"GET http://a.test:8?b HTTP/1.1", host, ""),
        ("another scheme", b"GET ftp://a.test/x?y HTTP/1.1", host, "http://a.test/x?y"),
        ("a port", b"GET / HTTP/1.1", "Host: Site.Test:8080\r\n", "http://site.test:8080/"),
        ("the usual port", b"GET / HTTP/1.1", "Host: site.test:80\r\n", "http://site.test/"),
        ("a dot behind the host", b"GET / HTTP/1.1", "Host: site.test.\r\n", ""),
        ("an address", b"GET / HTTP/1.1", "Host: [2001:db8::1]:81\r\n", "http://[2001:db8::1]:81/"),
        ("a host that is none", b"GET / HTTP/1.1", "Host: a_b!$&'\r\n", ""),
        ("no host", b"GET /a HTTP/1.0", "", "http://site.test/a"),
        ("an empty host", b"GET /a HTTP/1.0", "Host:\r\n", ""),
        ("a method of one's own", b"BREW /pot HTTP/1.1", host, "http://site.test/pot"),
        ("a method with a dash", b"M-SEARCH /a HTTP/1.1", host, "http://site.test/a"),
        ("options", b"OPTIONS / HTTP/1.1", host, "http://site.test/"),
        ("trailing blanks", b"GET /a  HTTP/1.1", host, "http://site.test/a"),
    ] {
        let request = [line, b"\r\n", headers.as_bytes(), b"\r\n"].concat();
        // nginx itself refuses some of them, other versions others.
        let Some(visit) = site.try_visit(name, &request) else { continue };
        assert_eq!((visit.status, visit.reason()), (200, "no_cookie"), "{name}");
        if !url.is_empty() {
            assert_eq!(visit.call["request"]["url"], url, "{name}");
        }
    }
}

#[test]
fn what_nginx_refuses_is_no_visit() {
    let site = Site::start("");
    for request in [
        &b"OPTIONS * HTTP/1.1\r\nHost: site.test\r\n\r\n"[..],
        b"GET /../ HTTP/1.1\r\nHost: site.test\r\n\r\n",
        b"GET /%2e%2e/ HTTP/1.1\r\nHost: site.test\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: site.test\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: site.test\r\nX: a\0b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nHost: site.test\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ] {
        let mut visitor = Connection::open(site.nginx.addr());
        visitor.send(request);
        let status = visitor.receive().status;
        assert!((400..500).contains(&status), "{status} for {}", String::from_utf8_lossy(request));
    }
    assert!(site.sandbox.received().is_empty());
    assert!(site.origin.requests().is_empty());
}

#[test]
fn http_0_9_is_a_visit_too() {
    let site = Site::start("");
    let mut visitor = Connection::open(site.nginx.addr());
    visitor.send(b"GET /old\r\n");
    assert_eq!(String::from_utf8_lossy(&visitor.rest()), "origin");
    let activities = site.sandbox.wait_for_activities(1, SOON);
    assert_eq!(activities[0]["url"], "http://site.test/old");
    site.sandbox.assert_no_complaints();
    site.sandbox.clear();
    site.sandbox.answer_risk(px_sandbox::Reply::risk(100, "c"));
    let mut visitor = Connection::open(site.nginx.addr());
    visitor.send(b"GET /old\r\n");
    assert!(String::from_utf8_lossy(&visitor.rest()).contains("px-captcha"));
    site.sandbox.assert_no_complaints();
}

#[test]
fn user_agents_of_any_shape() {
    let mut site = Site::start("");
    let long = "x".repeat(20_000);
    for user_agent in ["", " ", "\"", "\\", "\t", "\u{e9}", &long, "a\u{7f}b"] {
        let cookie = site.sandbox.mint(user_agent.trim_matches(' ')).cookie();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: site.test\r\nUser-Agent: {user_agent}\r\nCookie: {cookie}\r\n\r\n"
        );
        let visit = site.visit(user_agent, request.as_bytes());
        // The signature covers the first 8528 characters only.
        let reason = if user_agent == long { FORGED } else { "cookie" };
        assert_eq!((visit.status, visit.reason()), (200, reason), "{user_agent:?}");
    }
    let cookie = site.sandbox.mint(&long[..8528]).cookie();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: site.test\r\nUser-Agent: {long}\r\nCookie: {cookie}\r\n\r\n"
    );
    assert_eq!(site.visit("cut", request.as_bytes()).reason(), "cookie");
    let cookie = site.sandbox.mint("").cookie();
    let request = format!("GET / HTTP/1.1\r\nHost: site.test\r\nCookie: {cookie}\r\n\r\n");
    assert_eq!(site.visit("none", request.as_bytes()).reason(), "cookie");
    let request =
        b"GET / HTTP/1.1\r\nHost: site.test\r\nUser-Agent: \xff\xfe\x80\r\nCookie: _px3=x\r\n\r\n";
    assert_eq!(site.visit("not UTF-8", request).reason(), BROKEN);
}

/// nginx goes by the host in the request line; so must every rule about hosts and paths.
#[test]
fn an_absolute_target_evades_no_rule() {
    let mut site = Site::start(
        "px_whitelist_hosts free.test; px_whitelist_uri_prefixes /free; px_sensitive_routes /login;",
    );
    let good = site.mint().cookie();
    for (line, host, reason) in [
        ("GET http://site.test/ HTTP/1.1", "free.test", "cookie"),
        ("GET ftp://site.test/ HTTP/1.1", "free.test", "cookie"),
        ("GET x://site.test/login HTTP/1.1", "site.test", "sensitive_route"),
        ("GET http://site.test/login?/free HTTP/1.1", "site.test", "sensitive_route"),
    ] {
        let request =
            format!("{line}\r\nHost: {host}\r\nUser-Agent: {BROWSER}\r\nCookie: {good}\r\n\r\n");
        let visit = site.visit(line, request.as_bytes());
        assert_eq!((visit.status, visit.reason()), (200, reason), "{line}");
    }
}
