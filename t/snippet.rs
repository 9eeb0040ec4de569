//! Tests for the px module: the sensor's snippet in pages on their way to the visitor.

mod support;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use px_sandbox::{Behaviour, Endpoint, Sandbox};
use support::nginx::listener;
use support::{Nginx, Origin, Response, SOON, curl, get, protect, request, wait_until};

const PAGE: &str =
    "<!doctype html><html><head><title>t</title></head><body>caf\u{e9}</body></html>";

fn start(sandbox: &Sandbox, origin: &Origin, more: &str) -> Nginx {
    let (own, pass) = (protect(sandbox), origin.proxy_pass());
    Nginx::start(&format!("{own} px_snippet_provider_enabled on; {more} location / {{ {pass} }}"))
}

/// The page with its snippet, which is nearly as it was.
fn with_snippet(page: &str, snippet: &str) -> String {
    page.replacen("</head>", &format!("{snippet}</head>"), 1)
}

fn snippet_of(page: &str) -> String {
    let start = page.find("<script type=\"text/javascript\">").expect("a snippet");
    let end = page[start..].find("</script>").expect("its end") + start + "</script>".len();
    page[start..end].to_owned()
}

#[test]
fn a_page_gets_it_before_the_end_of_its_head() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, "");
    origin.answer(
        200,
        &[
            "Content-Type: text/html; charset=utf-8",
            "ETag: \"v1\"",
            "Accept-Ranges: bytes",
            "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT",
        ],
        PAGE.as_bytes(),
    );
    let response = get(nginx.addr(), "/", &["Accept: text/html,*/*", "Accept-Encoding: gzip"]);
    let text = response.text();
    let snippet = snippet_of(&text);
    assert!(snippet.contains("\"/sandbox1/init.js\"") && snippet.contains("\"PXsandbox1\""));
    assert_eq!(text, with_snippet(PAGE, &snippet));
    assert_eq!(response.header("etag"), Some("W/\"v1\""));
    assert_eq!(response.header("accept-ranges"), None);
    assert_eq!(response.header("content-length"), None);
    assert!(response.header("last-modified").is_some());
    // Of the origin nothing compressed is asked.
    assert!(!origin.texts()[0].to_ascii_lowercase().contains("accept-encoding"));
    // What is asked for something else may be compressed.
    origin.clear();
    get(nginx.addr(), "/x", &["Accept: image/*", "Accept-Encoding: gzip"]);
    assert!(origin.texts()[0].contains("Accept-Encoding: gzip"));
}

#[test]
fn nothing_else_is_touched() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = start(&sandbox, &origin, "px_filter_by_route /filtered;");
    let html = "Content-Type: text/html";
    for (path, status, headers) in [
        ("/", 200, &["Content-Type: text/plain"][..]),
        ("/", 200, &["Content-Type: application/xhtml+xml"]),
        ("/", 200, &[html, "Content-Encoding: br"]),
        ("/", 404, &[html]),
        ("/", 302, &[html, "Location: /x"]),
        ("/", 206, &[html, "Content-Range: bytes 0-9/100"]),
        ("/", 205, &[html]),
        ("/filtered", 200, &[html]),
    ] {
        let headers = [headers, &["ETag: \"v1\""]].concat();
        origin.answer(status, &headers, PAGE.as_bytes());
        let response = get(nginx.addr(), path, &[]);
        assert_eq!(response.status, status);
        assert_eq!(response.text(), PAGE, "{path} {status} {headers:?}");
        assert_eq!(response.header("etag"), Some("\"v1\""));
        assert_eq!(response.header("content-length"), Some(&*PAGE.len().to_string()));
    }
    // No body, no change.
    origin.answer(200, &[html, "ETag: \"v1\""], b"");
    assert_eq!(get(nginx.addr(), "/", &[]).header("etag"), Some("\"v1\""));
    origin.answer(200, &[html, "ETag: \"v1\""], PAGE.as_bytes());
    let head = request(nginx.addr(), "HEAD", "/", &[], b"");
    assert_eq!(head.header("content-length"), Some(&*PAGE.len().to_string()));
    // Block pages are the module's own, first-party scripts HUMAN's.
    let blocked = get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]);
    assert!(blocked.status == 403 && !blocked.text().contains("insertBefore"));
    let sensor = get(nginx.addr(), "/sandbox1/init.js", &[]);
    assert!(sensor.status == 200 && !sensor.text().contains("insertBefore"));
    // Pages without a head are as they were.
    for page in ["", "</hea", "<html></header>", "<p>no head", &"x".repeat(200_000)] {
        origin.answer(200, &[html], page.as_bytes());
        assert_eq!(get(nginx.addr(), "/", &[]).text(), page);
    }
}

#[test]
fn monitored_pages_get_it_too_and_http_1_0_ends_with_the_connection() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let own = protect(&sandbox).replace("active_blocking", "monitor");
    let nginx = Nginx::start(&format!(
        "{own} px_sensor_inject_enabled on; px_first_party_enabled off; location / {{ {} }}",
        origin.proxy_pass()
    ));
    origin.answer(200, &["Content-Type: text/html"], PAGE.as_bytes());
    let response = get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]);
    let text = response.text();
    assert_eq!(text, with_snippet(PAGE, &snippet_of(&text)));
    assert!(text.contains(&format!("\"{}/PXsandbox1/main.min.js\"", sandbox.url())), "{text}");

    let mut connection = support::Connection::open(nginx.addr());
    connection.send("GET / HTTP/1.0\r\nHost: site.test\r\n\r\n");
    let all = String::from_utf8(connection.rest()).unwrap();
    assert!(all.ends_with(&text), "{all}");
    assert!(!all.to_ascii_lowercase().contains("content-length"));
}

#[test]
fn static_files_conditional_requests_and_gzip_of_nginx_go_together() {
    let sandbox = Sandbox::start().unwrap();
    let long = format!("{PAGE}{}", "<p>filler</p>".repeat(20_000));
    let nginx = Nginx::builder()
        .listen("http2")
        .server(&format!(
            "{} px_snippet_injection_enabled on; gzip on; sendfile on; types {{ text/html html; }}",
            protect(&sandbox)
        ))
        .start_with(|dir| fs::write(dir.join("html/a.html"), &long).unwrap());
    let url = format!("http://{}/a.html", nginx.addr());
    let fetch = |more: &[&str]| {
        let arguments = [&["--http2-prior-knowledge"], more, &[&url]].concat();
        let (text, code) = curl(&arguments);
        assert_eq!(code, 0, "{text}");
        text
    };
    let plain = fetch(&[]);
    let expected = with_snippet(&long, &snippet_of(&plain));
    assert!(plain == expected);
    assert!(fetch(&["--compressed"]) == expected);
    // A part would be a part of something else: the whole is sent.
    assert!(fetch(&["-r", "0-99"]) == expected);
    let head = fetch(&["-D", "-", "-o", "/dev/null"]);
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an ETag").trim();
    assert!(etag.starts_with("W/\""), "{head}");
    let condition = format!("If-None-Match: {etag}");
    assert!(fetch(&["-H", &condition, "-D", "-"]).starts_with("HTTP/2 304"));
}

#[test]
fn the_operators_own_text_and_a_fetched_one_take_its_place() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    origin.answer(200, &["Content-Type: text/html"], PAGE.as_bytes());
    let nginx = start(&sandbox, &origin, "px_create_custom_snippet $http_x_snippet;");
    let own = get(nginx.addr(), "/", &["X-Snippet: <own>"]).text();
    assert_eq!(own, with_snippet(PAGE, "<own>"));
    assert!(get(nginx.addr(), "/", &[]).text().contains("w._pxAppId"), "empty is the default");

    sandbox.set_snippet("<script>/* fetched */</script>");
    let fetching = start(
        &sandbox,
        &origin,
        &format!(
            "px_snippet_provider_url {}/snippet/PXsandbox1; px_snippet_provider_cache_ttl_seconds 1;",
            sandbox.url()
        ),
    );
    let page = || get(fetching.addr(), "/", &[]).text();
    let fetched = with_snippet(PAGE, "<script>/* fetched */</script>");
    wait_until("the snippet", || page() == fetched);
    sandbox.set_snippet("<script>/* later */</script>");
    let later = with_snippet(PAGE, "<script>/* later */</script>");
    wait_until("the next one", || page() == later);
    // A service that fails or lies changes nothing.
    for behaviour in [
        Behaviour::Status(500),
        Behaviour::Reset,
        Behaviour::Body(vec![0xff]),
        Behaviour::Huge(1 << 20),
    ] {
        sandbox.clear();
        sandbox.behave_at(Endpoint::Snippet, behaviour);
        sandbox.wait_for(Endpoint::Snippet, 2, SOON);
        assert_eq!(page(), later);
    }
    sandbox.behave_well();
    sandbox.assert_no_complaints();
    // Nothing is injected while nothing was ever fetched.
    sandbox.behave_at(Endpoint::Snippet, Behaviour::Status(503));
    let waiting = start(
        &sandbox,
        &origin,
        &format!("px_snippet_provider_url {}/snippet/PXother;", sandbox.url()),
    );
    assert_eq!(get(waiting.addr(), "/", &[]).text(), PAGE);
}

/// An origin that sends a page in two pieces, cut where the path says.
struct Cutting(SocketAddr);

impl Cutting {
    fn start(pages: Vec<String>) -> Self {
        let listener = listener();
        let addr = listener.local_addr().unwrap();
        let pages = Arc::new(Mutex::new(pages));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let pages = Arc::clone(&pages);
                thread::spawn(move || cut(stream, &pages));
            }
        });
        Self(addr)
    }
}

/// `/page/cut`: the page's number, and after how many bytes there is a pause.
fn cut(mut stream: TcpStream, pages: &Mutex<Vec<String>>) {
    let _ = stream.set_nodelay(true);
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match support::client::read(&mut stream, &mut buffer) {
            Ok(n) if n > 0 => head.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut parts = head.split(' ').nth(1).unwrap().split('/').skip(1);
    let number: usize = parts.next().unwrap().parse().unwrap();
    let at: usize = parts.next().unwrap().parse().unwrap();
    let page = pages.lock().unwrap()[number].clone().into_bytes();
    let (first, second) = page.split_at(at.min(page.len()));
    let start = "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n";
    let _ = stream.write_all(&[start.as_bytes(), first].concat());
    thread::sleep(Duration::from_millis(3));
    let _ = stream.write_all(second);
}

/// The rule, applied to the whole.
fn expected(page: &str, snippet: &str) -> String {
    let lower = page.to_ascii_lowercase();
    let end = |at: usize| {
        lower[at..].strip_prefix("</head").is_some_and(|rest| rest.starts_with(['>', ' ', '\n']))
    };
    match (0..page.len()).filter(|at| page.is_char_boundary(*at)).find(|at| end(*at)) {
        Some(at) => format!("{}{snippet}{}", &page[..at], &page[at..]),
        None => page.to_owned(),
    }
}

#[test]
fn a_page_cut_anywhere_arrives_the_same() {
    let sandbox = Sandbox::start().unwrap();
    let pages: Vec<String> = [
        "<head></head>",
        "<html><head><!-- < << </he --></HEAD ><body></head></body>",
        "</heade></head\n>x",
        "<header></header><p>no head",
        "text</head",
    ]
    .map(str::to_owned)
    .to_vec();
    let cutting = Cutting::start(pages.clone());
    for buffering in ["on", "off"] {
        let nginx = Nginx::start(&format!(
            "{} px_snippet_provider_enabled on; px_create_custom_snippet <S>;\n\
             proxy_buffering {buffering}; location / {{ proxy_pass http://{}; }}",
            protect(&sandbox),
            cutting.0
        ));
        for (number, page) in pages.iter().enumerate() {
            for at in 0..=page.len() {
                let response: Response = get(nginx.addr(), &format!("/{number}/{at}"), &[]);
                assert_eq!(response.text(), expected(page, "<S>"), "{buffering} {number} {at}");
            }
        }
    }
}
