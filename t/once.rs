//! Tests for the px module: each client request is decided once and reported once, before anything
//! else answers it (DECISIONS 19, 20).

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use px_sandbox::Sandbox;
use support::nginx::Builder;
use support::{BROWSER, Connection, Nginx, Origin, SOON, client, protect, request};

const BOT: &str = "User-Agent: PhantomJS/1.0";
const BASIC: &str = "Authorization: Basic dXNlcjpwYXNz";

/// The files below the site's root.
fn files(dir: &Path) {
    let html = dir.join("html");
    fs::create_dir_all(html.join("dir")).unwrap();
    // Workers may run as another user.
    fs::set_permissions(&html, fs::Permissions::from_mode(0o777)).unwrap();
    for (name, text) in [
        ("index.html", "index"),
        ("dir/index.html", "index of dir"),
        ("page.html", "page"),
        ("fallback.html", "fallback"),
        ("error.html", "error page"),
        (
            "ssi.html",
            "<!--#include virtual=\"/inc/a\" --> and <!--#include virtual=\"/inc/b\" wait=\"yes\" -->",
        ),
        ("part.html", "part"),
    ] {
        fs::write(html.join(name), text).unwrap();
    }
    fs::write(dir.join("users"), "user:{PLAIN}pass\n").unwrap();
}

/// A configuration and one request to it.
struct Case {
    name: &'static str,
    server: &'static str,
    method: &'static str,
    path: &'static str,
    status: u16,
    /// What the body holds.
    body: &'static str,
    /// How often the request is decided; 0 where nginx answers before any access check.
    visits: usize,
}

fn case(name: &'static str, server: &'static str, path: &'static str, status: u16) -> Case {
    Case { name, server, method: "GET", path, status, body: "", visits: 1 }
}

impl Case {
    fn body(mut self, body: &'static str) -> Self {
        self.body = body;
        self
    }

    fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    fn never_decided(mut self) -> Self {
        self.visits = 0;
        self
    }
}

/// `ORIGIN` stands for the origin's `proxy_pass`, `DOWN` for one where nobody listens.
fn start(sandbox: &Sandbox, origin: &Origin, server: &str) -> Nginx {
    let server = server
        .replace("ORIGIN", &origin.proxy_pass())
        .replace("DOWN", &format!("proxy_pass http://{};", support::nginx::free_addr()));
    builder(&format!("{}{server}", protect(sandbox))).start_with(files)
}

fn builder(server: &str) -> Builder {
    Nginx::builder().http("limit_req_zone $server_name zone=one:64k rate=1r/m; ").server(server)
}

#[test]
fn whatever_way_a_request_takes_it_is_decided_once() {
    let cases = [
        case("a file", "location / { }", "/page.html", 200).body("page"),
        case("a HEAD", "location / { ORIGIN }", "/", 200).method("HEAD"),
        case("no file", "location / { }", "/none", 404),
        case("an index", "location / { }", "/", 200).body("index"),
        case("an index of a directory", "location / { }", "/dir/", 200).body("index of dir"),
        case(
            "an index elsewhere",
            "location / { index none.html /page.html; } location = /page.html { ORIGIN }",
            "/",
            200,
        )
        .body("origin"),
        case("a directory list", "location / { autoindex on; index none; }", "/dir/", 200)
            .body("index.html"),
        case(
            "an error page",
            "error_page 404 /error.html; location / { }",
            "/none",
            404,
        )
        .body("error page"),
        case(
            "an error page of the origin's",
            "error_page 404 /wrapped; location / { } location /wrapped { ORIGIN }",
            "/none",
            404,
        )
        .body("origin"),
        case(
            "an error page with a status of its own",
            "error_page 404 =200 /page.html; location / { }",
            "/none",
            200,
        )
        .body("page"),
        case(
            "error pages one after the other",
            "recursive_error_pages on; error_page 404 /none2; error_page 502 /page.html; \
             location / { } location /none2 { DOWN }",
            "/none",
            502,
        )
        .body("page"),
        case(
            "an intercepted answer",
            "location / { DOWN error_page 502 = @other; } location @other { ORIGIN }",
            "/",
            200,
        )
        .body("origin"),
        case(
            "a named location by way of an error nobody made",
            "location / { error_page 418 = @app; return 418; } location @app { ORIGIN }",
            "/",
            200,
        )
        .body("origin"),
        case(
            "the same with recursion",
            "recursive_error_pages on; location / { error_page 418 = @app; return 418; } \
             location @app { ORIGIN }",
            "/",
            200,
        )
        .body("origin"),
        case(
            "the same with a status",
            "location / { error_page 418 =200 /app; return 418; } location /app { ORIGIN }",
            "/",
            200,
        )
        .body("origin"),
        case("try_files", "location / { try_files $uri /fallback.html; }", "/none", 200)
            .body("fallback"),
        case(
            "try_files to a named location",
            "location / { try_files $uri @app; } location @app { ORIGIN }",
            "/none",
            200,
        )
        .body("origin"),
        case(
            "try_files to a status",
            "error_page 404 = @app; location / { try_files $uri =404; } location @app { ORIGIN }",
            "/none",
            200,
        )
        .body("origin"),
        case(
            "try_files over three locations",
            "location / { try_files $uri /two$uri; } location /two { try_files $uri @three; } \
             location @three { ORIGIN }",
            "/none",
            200,
        )
        .body("origin"),
        case(
            "rewrite last",
            "rewrite ^/a$ /b last; location /b { rewrite ^ /c last; } location /c { ORIGIN }",
            "/a",
            200,
        )
        .body("origin"),
        case("rewrite break", "location /a { rewrite ^ /x break; ORIGIN }", "/a", 200)
            .body("origin"),
        case("if", "location / { if ($arg_a) { ORIGIN } }", "/?a=1", 200).body("origin"),
        case("if with set", "location / { set $x 1; if ($x) { set $x 2; } ORIGIN }", "/", 200)
            .body("origin"),
        case("limit_except", "location / { limit_except GET { deny all; } ORIGIN }", "/", 200)
            .body("origin"),
        case("limit_except denied", "location / { limit_except GET { deny all; } ORIGIN }", "/", 403)
            .method("DELETE"),
        case(
            "auth_request",
            "location / { auth_request /auth; ORIGIN } location /auth { ORIGIN }",
            "/",
            200,
        )
        .body("origin"),
        case(
            "auth_request refused",
            "location / { auth_request /auth; ORIGIN } location /auth { DOWN }",
            "/",
            500,
        ),
        case(
            "auth_request with error page",
            "location / { auth_request /auth; error_page 500 = @app; ORIGIN } \
             location /auth { DOWN } location @app { ORIGIN }",
            "/",
            200,
        )
        .body("origin"),
        case(
            "SSI",
            "location / { ssi on; } location /inc/ { ORIGIN }",
            "/ssi.html",
            200,
        )
        .body("origin and origin"),
        case(
            "a mirror",
            "location / { mirror /mirror; ORIGIN } location /mirror { internal; ORIGIN }",
            "/",
            200,
        )
        .body("origin"),
        case(
            "additions",
            "location / { addition_types *; add_before_body /part.html; add_after_body /after; ORIGIN } \
             location = /part.html { } location /after { ORIGIN }",
            "/",
            200,
        )
        .body("partoriginorigin"),
        case("slices", "location / { slice 2; proxy_set_header Range $slice_range; ORIGIN }", "/", 200),
        case("an internal location", "location / { internal; ORIGIN }", "/", 404).never_decided(),
        case(
            "a post action",
            "location / { post_action /after; ORIGIN } location /after { ORIGIN }",
            "/",
            200,
        )
        .body("origin"),
        case("a random index", "location / { random_index on; }", "/dir/", 200).body("index of dir"),
        case("an upload", "location / { dav_methods PUT; }", "/new", 201).method("PUT"),
        case("a deletion", "location / { dav_methods DELETE; }", "/part.html", 204).method("DELETE"),
        case("a method nobody serves", "location / { }", "/page.html", 405).method("POST"),
        case("an origin that is down", "location / { DOWN }", "/", 502),
        case("nested locations", "location / { location /a { location /a/b { ORIGIN } } }", "/a/b", 200)
            .body("origin"),
        case("return", "location / { return 200 early; }", "/", 200).body("early").never_decided(),
        case("a redirect", "location / { return 301 /x; }", "/", 301).never_decided(),
        case(
            "an error page before any check",
            "error_page 403 /error.html; location / { return 403; } location = /error.html { }",
            "/",
            403,
        )
        .body("error page")
        .never_decided(),
    ];
    std::thread::scope(|scope| {
        for part in cases.chunks(12) {
            scope.spawn(|| part.iter().for_each(check));
        }
    });
}

/// Sends the request once as a human and once as a bot.
fn check(case: &Case) {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, case.server);
    let Case { name, method, path, .. } = *case;
    let body: &[u8] = if matches!(method, "POST" | "PUT") { b"body" } else { b"" };

    let human = request(nginx.addr(), method, path, &[], body);
    assert_eq!(human.status, case.status, "{name}: {}", human.text());
    assert!(human.text().contains(case.body), "{name}: {}", human.text());

    let bot = request(nginx.addr(), method, path, &[BOT], body);
    if case.visits == 0 {
        assert_eq!(bot.status, case.status, "{name}");
    } else {
        assert_eq!(bot.status, 403, "{name}");
        assert!(method == "HEAD" || bot.text().contains("px-captcha"), "{name}: {}", bot.text());
        // A post action runs after whatever answer; the visitor's request itself goes nowhere.
        let seen = origin.texts().iter().any(|text| text.contains("PhantomJS"));
        assert!(!seen || name == "a post action", "{name}: {:?}", origin.texts());
    }
    nginx.quit();
    let activities = sandbox.wait_for_activities(2 * case.visits, SOON);
    let mut types: Vec<&str> = activities.iter().filter_map(|a| a["type"].as_str()).collect();
    // A visit with a post action is over, and reported, after the next one may have begun.
    types.sort_unstable();
    assert_eq!(sandbox.risk_calls().len(), 2 * case.visits, "{name}");
    let expected: &[&str] = if case.visits == 0 { &[] } else { &["block", "page_requested"] };
    assert_eq!(types, expected, "{name}");
    sandbox.assert_no_complaints();
}

#[test]
fn an_error_page_that_stands_for_no_visit_is_none() {
    for recursive in ["", "recursive_error_pages on;"] {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        let nginx = start(
            &sandbox,
            &origin,
            &format!(
                "{recursive} error_page 503 413 404 /error.html; client_max_body_size 1; \
                 location / {{ limit_req zone=one; ORIGIN }} location = /error.html {{ }} \
                 location /internal {{ internal; }}"
            ),
        );
        for (method, path, body, status) in [
            ("GET", "/", &b""[..], 200),
            ("GET", "/", b"", 503),
            ("GET", "/internal", b"", 404),
            ("POST", "/", b"too much", 413),
        ] {
            let response = request(nginx.addr(), method, path, &[], body);
            assert_eq!(response.status, status, "{recursive}");
            assert!(status == 200 || response.text() == "error page", "{}", response.text());
        }
        nginx.quit();
        assert_eq!(sandbox.risk_calls().len(), 1, "{recursive}");
        assert_eq!(sandbox.wait_for_activities(1, SOON).len(), 1, "{recursive}");
    }
}

#[test]
fn an_origin_that_redirects_internally_is_no_new_visit() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(
        &sandbox,
        &origin,
        "location / { ORIGIN } location /files/ { internal; alias html/; } location @app { ORIGIN }",
    );
    for (target, status) in [("/files/page.html", 200), ("/files/none", 404)] {
        origin.answer(200, &[&format!("X-Accel-Redirect: {target}")], b"");
        assert_eq!(request(nginx.addr(), "GET", "/", &[], b"").status, status, "{target}");
    }
    nginx.quit();
    assert_eq!(sandbox.wait_for_activities(2, SOON).len(), 2);
    assert_eq!(sandbox.risk_calls().len(), 2);
    sandbox.assert_no_complaints();
}

#[test]
fn a_request_is_decided_by_the_first_location_that_enforces() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(
        &sandbox,
        &origin,
        "location / { px_enabled off; try_files $uri @app; } location @app { ORIGIN } \
         location /off { px_enabled off; try_files /none @off; } \
         location @off { px_enabled off; ORIGIN } \
         location /on { try_files /none @monitor; } \
         location @monitor { px_module_mode monitor; ORIGIN }",
    );
    for (path, status, calls) in [("/none", 403, 1), ("/off", 200, 1), ("/on", 403, 2)] {
        assert_eq!(request(nginx.addr(), "GET", path, &[BOT], b"").status, status, "{path}");
        assert_eq!(sandbox.risk_calls().len(), calls, "{path}");
    }
    nginx.quit();
    assert_eq!(sandbox.wait_for_activities(2, SOON).len(), 2);
    sandbox.assert_no_complaints();
}

/// The module adds a check and takes none away: who passes gets what he would get without it, who
/// is blocked gets nothing else.
#[test]
fn other_access_checks_keep_their_say() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let pass = origin.proxy_pass();
    let mut locations = String::new();
    let mut paths = Vec::new();
    for satisfy in ["any", "all"] {
        for address in ["", "allow all;", "deny all;"] {
            for password in ["", "auth_basic site; auth_basic_user_file users;"] {
                for subrequest in ["", "auth_request /yes;", "auth_request /no;"] {
                    let path = format!("/{}/", paths.len());
                    locations.push_str(&format!(
                        "location {path} {{ satisfy {satisfy}; {address} {password} {subrequest} \
                         {pass} }}\n"
                    ));
                    paths.push(path);
                }
            }
        }
    }
    locations
        .push_str(&format!("location /yes {{ {pass} }} location /no {{ deny all; return 403; }}"));
    let guarded = builder(&format!("{}{locations}", protect(&sandbox))).start_with(files);
    let plain = builder(&locations).start_with(files);
    let mut refused = 0;
    for path in &paths {
        for headers in [&[][..], &[BASIC]] {
            let ask = |nginx: &Nginx| request(nginx.addr(), "GET", path, headers, b"");
            let (without, with) = (ask(&plain), ask(&guarded));
            assert_eq!(with.status, without.status, "{path} {headers:?}\n{locations}");
            assert_eq!(with.body, without.body, "{path} {headers:?}");
            refused += usize::from(with.status != 200);

            origin.clear();
            let bot = request(guarded.addr(), "GET", path, &[headers, &[BOT]].concat(), b"");
            assert_eq!(bot.status, 403, "{path} {headers:?}");
            assert!(bot.text().contains("px-captcha"), "{path} {headers:?}: {}", bot.text());
            assert!(origin.requests().is_empty(), "{path} {headers:?}");
        }
    }
    assert!((10..2 * paths.len() - 10).contains(&refused), "{refused}");

    // The same with a Risk API that fails: it opens the module's door, nobody else's.
    sandbox.behave(px_sandbox::Behaviour::Reset);
    for path in &paths {
        let ask = |nginx: &Nginx| request(nginx.addr(), "GET", path, &[BOT], b"");
        assert_eq!(ask(&guarded).status, ask(&plain).status, "{path}");
    }
    guarded.quit();
    let visits = 5 * paths.len();
    assert_eq!(sandbox.wait_for_activities(visits, SOON).len(), visits);
    sandbox.assert_no_complaints();
}

#[test]
fn a_cookie_that_passes_opens_no_other_door() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, "location / { satisfy any; deny all; ORIGIN }");
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    assert_eq!(request(nginx.addr(), "GET", "/", &[&cookie], b"").status, 403);
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).score(100).cookie());
    let nginx = start(&sandbox, &origin, "location / { satisfy any; allow all; ORIGIN }");
    assert_eq!(request(nginx.addr(), "GET", "/", &[&cookie], b"").status, 403);
    assert!(sandbox.risk_calls().is_empty());
    assert!(origin.requests().is_empty());
}

#[test]
fn a_connection_goes_on_after_a_blocked_request_whose_body_nobody_read() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, "client_max_body_size 10m; location / { ORIGIN }");
    let body = vec![b'x'; 2_000_000];
    let mut chunked = format!("{:x}\r\n", body.len()).into_bytes();
    chunked.extend_from_slice(&body);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let rows: [(&str, &[&str], &[u8]); 4] = [
        ("small", &[BOT], b"GET /smuggled HTTP/1.1\r\nHost: site.test\r\n\r\n"),
        ("large", &[BOT], &body),
        ("chunked", &[BOT, "Transfer-Encoding: chunked"], &chunked),
        ("expecting", &[BOT, "Expect: 100-continue"], &body),
    ];
    for (name, headers, body) in rows {
        let mut visitor = Connection::open(nginx.addr());
        visitor.send(client::text("POST", "/", headers, body));
        assert_eq!(visitor.receive().status, 403, "{name}");
        visitor.send(client::text("GET", "/next", &[], b""));
        let next = visitor.receive();
        assert_eq!((next.status, next.text().as_str()), (200, "origin"), "{name}");
    }
    // The block comes before the body is there.
    let mut visitor = Connection::open(nginx.addr());
    let whole = client::text("POST", "/", &[BOT], &body);
    let (start, rest) = whole.split_at(1000);
    visitor.send(start);
    assert_eq!(visitor.receive().status, 403);
    visitor.send(rest);
    visitor.send(client::text("GET", "/next", &[], b""));
    assert_eq!(visitor.receive().status, 200);

    assert_eq!(origin.requests().len(), 5);
    assert_eq!(sandbox.risk_calls().len(), 10);
    nginx.quit();
    assert_eq!(sandbox.wait_for_activities(10, SOON).len(), 10);
    sandbox.assert_no_complaints();
}

#[test]
fn pipelined_requests_are_each_answered_in_their_turn() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, "location / { ORIGIN }");
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    let requests: [(&str, &[&str], &[u8], u16); 7] = [
        ("GET", &[], b"", 200),
        ("GET", &[BOT], b"", 403),
        ("GET", &[&cookie], b"", 200),
        ("POST", &[BOT], b"some body", 403),
        ("POST", &[], b"some body", 200),
        ("HEAD", &[BOT], b"", 403),
        ("GET", &[], b"", 200),
    ];
    let all: Vec<u8> = requests
        .iter()
        .enumerate()
        .flat_map(|(n, (method, headers, body, _))| {
            client::text(method, &format!("/{n}"), headers, body)
        })
        .collect();
    let mut visitor = Connection::open(nginx.addr());
    visitor.send(&all);
    for (method, _, _, status) in &requests {
        assert_eq!(visitor.receive_to(*method == "HEAD").status, *status);
    }
    nginx.quit();
    assert_eq!(sandbox.risk_calls().len(), 6);
    assert_eq!(sandbox.wait_for_activities(7, SOON).len(), 7);
    let urls: Vec<String> =
        sandbox.activities().iter().map(|activity| activity["url"].to_string()).collect();
    let in_turn: Vec<String> = (0..7).map(|n| format!("\"http://site.test/{n}\"")).collect();
    assert_eq!(urls, in_turn);
    sandbox.assert_no_complaints();
}

#[test]
fn a_blocked_head_says_what_a_get_would() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, "location / { ORIGIN }");
    let mut visitor = Connection::open(nginx.addr());
    visitor.send(client::text("HEAD", "/", &[BOT], b""));
    let head = visitor.receive_to(true);
    visitor.send(client::text("GET", "/", &[BOT], b""));
    let get = visitor.receive();
    assert_eq!((head.status, get.status), (403, 403));
    let names = |response: &support::Response| {
        response.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&head), names(&get));
    assert!(head.header("content-length").is_some());
}
