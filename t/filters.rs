//! Tests for the px module: requests that pass unexamined, and those that only look as if they might.

mod support;

use px_sandbox::Sandbox;
use support::origin::SAME_EVERYWHERE;
use support::{Nginx, Origin, SOON, curl, get, protect, request};

/// A protected site, and how many requests it has had.
struct Site {
    sandbox: Sandbox,
    nginx: Nginx,
    _origin: Origin,
    seen: std::cell::Cell<usize>,
}

impl Site {
    /// One origin behind everything; `directives` stand in the server.
    fn new(directives: &str) -> Self {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        let nginx = Nginx::start(&format!(
            "{} {directives} location / {{ {} }}",
            protect(&sandbox),
            origin.proxy_pass()
        ));
        Self { sandbox, nginx, _origin: origin, seen: 0.into() }
    }

    /// Why the request passes unexamined, `-` if it does not.
    fn filter_reason(&self, method: &str, target: &str, headers: &[&str]) -> String {
        let status = request(self.nginx.addr(), method, target, headers, b"").status;
        let line = self.next_line();
        let word = |name: &str| {
            let words = line.split(' ').filter_map(|word| word.split_once('='));
            words.filter(|(n, _)| *n == name).map(|(_, v)| v.to_owned()).next().expect("logged")
        };
        let reason = word("filter");
        let verdict = if reason == "-" { "block" } else { "filtered" };
        assert_eq!(word("verdict"), verdict, "{method} {target} {headers:?}: {line}");
        assert_eq!(status, if reason == "-" { 403 } else { 200 }, "{method} {target} {headers:?}");
        reason
    }

    fn next_line(&self) -> String {
        let seen = self.seen.get() + 1;
        self.seen.set(seen);
        self.nginx.wait_for_access_log(seen).remove(seen - 1)
    }

    /// As [`filter_reason`](Self::filter_reason) for a GET by a bot, for many targets.
    #[track_caller]
    fn assert_reasons(&self, expected: &[(&str, &str)]) {
        for (target, reason) in expected {
            assert_eq!(&self.filter_reason("GET", target, &[BOT]), reason, "{target}");
        }
    }

    /// Every request that passed unexamined left no trace at HUMAN's.
    fn assert_only_reported(self, count: usize) {
        assert_eq!(self.sandbox.risk_calls().len(), count, "Risk API calls");
        self.nginx.quit();
        assert_eq!(self.sandbox.wait_for_activities(count, SOON).len(), count, "activities");
        self.sandbox.assert_no_complaints();
    }
}

const BOT: &str = "User-Agent: PhantomJS/1.0";

#[test]
fn static_files_pass_by_their_extension() {
    let site = Site::new("");
    for extension in
        "css bmp tif ttf docx woff2 js pict tiff eot xlsx jpg csv eps woff xls jpeg doc \
                      ejs otf pptx gif pdf swf svg ps ico pls midi svgz class png ppt mid webp jar \
                      json xml"
            .split_whitespace()
    {
        assert_eq!(site.filter_reason("GET", &format!("/a.{extension}"), &[BOT]), "extension");
    }
    site.assert_reasons(&[
        ("/a.css?v=1.html", "extension"),
        ("/a.b/c.css", "extension"),
        ("/a.html.css", "extension"),
        ("/", "-"),
        ("/a", "-"),
        ("/a.html", "-"),
        ("/a.css.html", "-"),
        ("/css", "-"),
        ("/.css", "-"),
        ("/a.", "-"),
        ("/a.css.", "-"),
        ("/a.CSS", "-"),
        ("/a?b.css", "-"),
        ("/a.css/b", "-"),
    ]);
    for (method, reason) in
        [("HEAD", "extension"), ("POST", "-"), ("PUT", "-"), ("DELETE", "-"), ("OPTIONS", "-")]
    {
        assert_eq!(site.filter_reason(method, "/a.css", &[BOT]), reason, "{method}");
    }
    site.assert_only_reported(15);
}

#[test]
fn a_list_of_extensions_replaces_the_built_in_one() {
    let site = Site::new("px_filter_by_extension html .tar.gz gz;");
    site.assert_reasons(&[
        ("/a.html", "extension"),
        ("/a.tar.gz", "extension"),
        ("/a.css", "-"),
        ("/a.tar", "-"),
    ]);
}

/// What an origin takes for `/account`, a page, is not let through as a style sheet (DECISIONS 8).
#[test]
fn no_page_passes_for_a_static_file() {
    let evasions = [
        "/account;x.css",
        "/account;jsessionid=1.css",
        "/account/x;y/z;.css",
        "/account%3bx.css",
        "/account%3Bx.css",
        "/account%2fx.css",
        "/account%2Fx.css",
        "/account%5cx.css",
        "/account%3fx.css",
        "/account%23x.css",
        "/account%25x.css",
        "/account%252fx.css",
        "/x/../account.css",
        "/./account.css",
        "/x/%2e%2e/account.css",
        "/x/.%2E/account.css",
        "/account.css/",
        "/account.css//",
    ];
    let site = Site::new("");
    for target in evasions {
        assert_eq!(site.filter_reason("GET", target, &[BOT]), "-", "{target}");
    }
    let site = Site::new("px_filter_by_extension \"\"; px_whitelist_uri_suffixes .css /static;");
    for target in evasions {
        assert_eq!(site.filter_reason("GET", target, &[BOT]), "-", "{target}");
    }
    site.assert_reasons(&[
        ("/account;/static", "route"),
        ("/account%2fstatic", "-"),
        ("/a/../static", "-"),
    ]);

    // As the other enforcers have it, for those who need it.
    let site = Site::new("px_filter_strict off;");
    for target in evasions {
        assert_eq!(site.filter_reason("GET", target, &[BOT]), "extension", "{target}");
    }
}

/// Where `/health` is open, `/health/..%2flogin` is not: nginx itself serves it as `/login`.
#[test]
fn no_page_passes_for_what_is_beside_it() {
    let directives = "px_filter_by_route /health ~^/status; px_whitelist_uri_prefixes /ping;
         px_whitelist_uri_pattern /info/.*; px_whitelist_uri_full /full;";
    let evasions = [
        "/health/..%2flogin",
        "/health/%2e%2e%2flogin",
        "/health/..%5clogin",
        "/health/..;/login",
        "/ping/..%2Flogin",
        "/status/..%2flogin",
        "/info/..%2flogin",
        "/health/..%252flogin",
    ];
    let site = Site::new(directives);
    for target in evasions {
        assert_eq!(site.filter_reason("GET", target, &[BOT]), "-", "{target}");
    }
    site.assert_reasons(&[
        ("/health/../login", "-"),
        ("/health/%2e%2e/login", "-"),
        ("/login/../health", "route"),
        ("/health/a%2fb", "route"),
        ("/health/a..b", "route"),
    ]);
    let site = Site::new(&format!("{directives} px_filter_strict off;"));
    for target in evasions {
        assert_eq!(site.filter_reason("GET", target, &[BOT]), "route", "{target}");
    }
}

#[test]
fn routes_pass_by_prefix_text_or_expression() {
    let site = Site::new(
        "px_filter_by_route /pre =/exact ~/re\\d ~*^/any;
         px_whitelist_uri_full /full /with?query=1;
         px_whitelist_uri_prefixes /white /slash/;
         px_whitelist_uri_suffixes .map /tail;
         px_whitelist_uri_pattern /whole/\\d+ /delimited.+/;",
    );
    site.assert_reasons(&[
        ("/pre", "route"),
        ("/prefix/x", "route"),
        ("/Pre", "-"),
        ("/x/pre", "-"),
        ("/exact", "route"),
        ("/exact/", "route"),
        ("/exact?x", "route"),
        ("/exact/x", "-"),
        ("/a/re1/b", "route"),
        ("/a/RE1/b", "-"),
        ("/ANYbody", "route"),
        ("/full", "route"),
        ("/full?x=1", "route"),
        ("/full/x", "-"),
        ("/with", "route"),
        ("/with?query=2", "route"),
        ("/white/x", "route"),
        ("/slash", "-"),
        ("/slash/x", "route"),
        ("/a.map", "route"),
        ("/a/tail?x", "route"),
        ("/a/tails", "-"),
        ("/whole/12", "route"),
        ("/whole/12/x", "-"),
        ("/x/whole/12", "-"),
        // `/delimited.+/` is written as the documents write expressions, and must match as a whole.
        ("/delimitedx", "-"),
        ("/?/pre", "-"),
        ("//pre", "route"),
    ]);
}

#[test]
fn methods_pass_in_any_case() {
    let site = Site::new("px_filter_by_http_method options Head;");
    for (method, reason) in
        [("OPTIONS", "http_method"), ("HEAD", "http_method"), ("GET", "-"), ("POST", "-")]
    {
        assert_eq!(site.filter_reason(method, "/", &[BOT]), reason, "{method}");
    }
}

#[test]
fn user_agents_pass_by_prefix_text_part_or_expression() {
    let site = Site::new(
        "px_filter_by_user_agent Probe/ =Exact/1 ~^Re\\d ~*monitor;
         px_whitelist_ua_full \"Full Name/1.0\";
         px_whitelist_ua_sub GoodBot;",
    );
    let passes = "user_agent";
    for (agent, reason) in [
        ("Probe/1.0 PhantomJS/1.0", passes),
        ("probe/1.0 PhantomJS/1.0", "-"),
        ("X Probe/1.0 PhantomJS/1.0", "-"),
        ("Exact/1", passes),
        ("Re1 PhantomJS/1.0", passes),
        ("RE1 PhantomJS/1.0", "-"),
        ("PhantomJS/1.0 MONITOR", passes),
        ("Full Name/1.0", passes),
        ("Full Name/1.0 PhantomJS/1.0", "-"),
        ("PhantomJS/1.0 (GoodBot)", passes),
        ("PhantomJS/1.0 (goodbot)", "-"),
    ] {
        let header = format!("User-Agent: {agent}");
        assert_eq!(site.filter_reason("GET", "/", &[&header]), reason, "{agent}");
    }
    // Without a user agent, or with an empty one, nothing matches: not even the empty prefix.
    let site = Site::new("px_filter_by_user_agent ~^$ ~.*;");
    let block = "X-Px-Sandbox: score=100";
    assert_eq!(site.filter_reason("GET", "/", &["User-Agent:", block]), "-");
}

#[test]
fn addresses_pass_by_network() {
    let site = Site::new(
        "px_ip_headers X-Forwarded-For;
         px_whitelist_ip_addresses 10.1.0.0/16 192.0.2.7 2001:db8::/32 ::ffff:198.51.100.0/120;
         px_filter_by_ip 203.0.113.9/24;",
    );
    for (address, reason) in [
        ("10.1.255.1", "ip"),
        ("10.2.0.0", "-"),
        ("192.0.2.7", "ip"),
        ("192.0.2.70", "-"),
        ("203.0.113.77", "ip"),
        ("198.51.100.3", "ip"),
        ("::ffff:10.1.2.3", "ip"),
        ("2001:db8:1::1", "ip"),
        ("2001:DB8::1", "ip"),
        ("2001:db9::1", "-"),
        // No address: the connection's counts, which is not in the list.
        ("unknown", "-"),
        ("10.1.2.3.4", "-"),
    ] {
        let header = format!("X-Forwarded-For: {address}");
        assert_eq!(site.filter_reason("GET", "/", &[BOT, &header]), reason, "{address}");
    }
    assert_eq!(site.filter_reason("GET", "/", &[BOT]), "-");
    // A header that nobody trusts says nothing.
    let site = Site::new("px_filter_by_ip 10.0.0.0/8;");
    assert_eq!(site.filter_reason("GET", "/", &[BOT, "X-Forwarded-For: 10.1.2.3"]), "-");
    let site = Site::new("px_filter_by_ip 127.0.0.0/8;");
    assert_eq!(site.filter_reason("GET", "/", &[BOT, "X-Forwarded-For: 1.2.3.4"]), "ip");
}

#[test]
fn requests_over_a_unix_socket_pass_where_they_are_listed() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    for (list, verdict) in [("unix:", "filtered"), ("10.0.0.0/8", "block")] {
        let socket =
            format!("{}/px-filters-{}.sock", std::env::temp_dir().display(), std::process::id());
        let nginx = Nginx::builder()
            .server(&format!(
                "listen unix:{socket}; {} px_filter_by_ip {list}; location / {{ {} }}",
                protect(&sandbox),
                origin.proxy_pass()
            ))
            .start();
        let (_, code) = curl(&[
            "--unix-socket",
            &socket,
            "-A",
            "PhantomJS/1.0",
            "-o",
            "/dev/null",
            "http://a/",
        ]);
        assert_eq!(code, 0);
        let log = nginx.wait_for_access_log(1);
        assert!(log[0].contains(&format!("verdict={verdict} ")), "{log:?}");
        drop(nginx);
        let _ = std::fs::remove_file(&socket);
    }
}

#[test]
fn hosts_pass_by_name_or_expression() {
    let site =
        Site::new("px_filter_by_domain \\.internal$ /^status\\./; px_whitelist_hosts Admin.test;");
    for (host, reason) in [
        ("a.internal", "domain"),
        ("A.Internal:8080", "domain"),
        ("internal", "-"),
        ("a.internal.test", "-"),
        ("Status.site.test", "domain"),
        ("admin.TEST:443", "domain"),
        ("x.admin.test", "-"),
        ("site.test", "-"),
    ] {
        let header = format!("Host: {host}");
        assert_eq!(site.filter_reason("GET", "/", &[BOT, &header]), reason, "{host}");
    }
}

#[test]
fn headers_pass_by_their_exact_value() {
    let site = Site::new("px_filter_by_header X-Probe s3cret; px_filter_by_header x-empty \"\";");
    for (headers, reason) in [
        (&["x-probe: s3cret"][..], "header"),
        (&["X-PROBE: s3cret"], "header"),
        (&["x-probe: S3cret"], "-"),
        (&["x-probe: s3cret2"], "-"),
        (&["x-probe: no", "x-probe: s3cret"], "header"),
        (&["x-empty:"], "header"),
        (&["x-empty: 1"], "-"),
        (&[], "-"),
    ] {
        let headers: Vec<&str> = [BOT].iter().chain(headers).copied().collect();
        assert_eq!(site.filter_reason("GET", "/", &headers), reason, "{headers:?}");
    }
}

#[test]
fn the_first_filter_in_their_order_is_named() {
    let site = Site::new(
        "px_ip_headers x-ip; px_filter_by_route /a; px_filter_by_http_method GET;
         px_filter_by_user_agent PhantomJS/; px_filter_by_ip 10.0.0.1; px_whitelist_hosts h.test;
         px_filter_by_header x-probe 1;",
    );
    let all = ["x-ip: 10.0.0.1", "Host: h.test", "x-probe: 1"];
    let bot = |headers: &[&'static str]| -> Vec<&'static str> {
        std::iter::once(BOT).chain(headers.iter().copied()).collect()
    };
    assert_eq!(site.filter_reason("GET", "/a.css", &bot(&all)), "extension");
    assert_eq!(site.filter_reason("GET", "/a", &bot(&all)), "route");
    assert_eq!(site.filter_reason("GET", "/", &bot(&all)), "http_method");
    assert_eq!(site.filter_reason("POST", "/", &bot(&all)), "user_agent");
    let told = ["X-Px-Sandbox: score=100"];
    let human = |headers: &[&'static str]| -> Vec<&'static str> {
        told.iter().chain(headers).copied().collect()
    };
    assert_eq!(site.filter_reason("POST", "/", &human(&all)), "ip");
    assert_eq!(site.filter_reason("POST", "/", &human(&all[1..])), "domain");
    assert_eq!(site.filter_reason("POST", "/", &human(&all[2..])), "header");
    assert_eq!(site.filter_reason("POST", "/", &human(&[])), "-");
    site.assert_only_reported(1);
}

#[test]
fn what_passes_unexamined_is_not_touched_but_for_headers_nobody_may_forge() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    origin.answer(200, &["Set-Cookie: own=1", "X-Origin: 1"], b"file");
    let nginx = Nginx::start(&format!(
        "{} px_data_enrichment_header_name x-px-de; {SAME_EVERYWHERE} location / {{ {} }}",
        protect(&sandbox),
        origin.proxy_pass()
    ));
    let bad = sandbox.mint("PhantomJS/1.0").score(100).cookie();
    let response = get(
        nginx.addr(),
        "/a.css",
        &[BOT, &format!("Cookie: {bad}"), "X-Other: kept", "X-PX-DE: forged"],
    );
    assert_eq!((response.status, response.text().as_str()), (200, "file"));
    assert_eq!(response.headers("set-cookie"), ["own=1"]);
    let expected = format!(
        "GET /a.css HTTP/1.1\r\nHost: {}\r\n{BOT}\r\nCookie: {bad}\r\n\
         X-Other: kept\r\n\r\n",
        origin.addr()
    );
    assert_eq!(origin.texts(), [expected]);
    nginx.quit();
    assert!(sandbox.received().is_empty());
}
