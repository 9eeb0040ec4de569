//! Each kind of decision once, whatever protocol the visitor speaks: what he gets, what the origin
//! receives, what the Risk API is told and what stands in the access log.

use px_sandbox::Sandbox;
use serde_json::Value;

use super::nginx::{self, Builder};
use super::origin::SAME_EVERYWHERE;
use super::{BROWSER, Nginx, Origin, Response, protect};

/// A user agent that the sandbox takes for a bot's.
pub const BOT: &str = "PhantomJS/1.0";

/// A target of which every byte must arrive.
const TARGET: &str = "/a%2Fb/%7Ec;d=1?x=%20y&&z=a+b%3F?";

/// Somebody who speaks a protocol.
pub trait Visitor {
    /// One request, and the answer to it. Header names are in lower case.
    fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response;
}

/// What is said of every request that comes by one protocol.
pub struct Protocol {
    /// As the Risk API is told.
    pub version: &'static str,
    pub scheme: &'static str,
}

pub const HTTP_1_0: Protocol = Protocol { version: "1.0", scheme: "http" };
pub const HTTP_1_1: Protocol = Protocol { version: "1.1", scheme: "http" };
pub const HTTP_2: Protocol = Protocol { version: "2", scheme: "http" };
pub const HTTP_3: Protocol = Protocol { version: "3", scheme: "https" };

/// A site where every kind of decision comes about.
pub struct Site {
    pub sandbox: Sandbox,
    pub origin: Origin,
    pub nginx: Nginx,
    requests: usize,
}

struct Case {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: &'static [u8],
    status: u16,
    /// What the answer's body holds.
    holds: &'static str,
    /// What stands in the access log.
    logged: &'static str,
    is_asked: bool,
    reaches_origin: bool,
}

/// The directives of such a site.
pub fn server(sandbox: &Sandbox, origin: &Origin) -> String {
    let (own, pass, down) = (protect(sandbox), origin.proxy_pass(), nginx::free_addr());
    format!(
        "{own} px_enable_json_response on; px_enable_login_creds_extraction on;
         px_login_credentials_extraction path=/login method=post sent_through=body
             user_field=username pass_field=password;
         {SAME_EVERYWHERE} proxy_set_header Host $host;
         location / {{ {pass} }}
         location /down/ {{ px_backend_url http://{down}; {pass} }}\n"
    )
}

impl Site {
    pub fn start() -> Self {
        Self::start_as(|server| Nginx::builder().server(server))
    }

    pub fn start_as(builder: impl FnOnce(&str) -> Builder) -> Self {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        let nginx = builder(&server(&sandbox, &origin)).start();
        Self { sandbox, origin, nginx, requests: 0 }
    }

    /// Where a protocol lets each cookie come in a field of its own, they are one list.
    pub fn split_cookies(&self, visitor: &mut dyn Visitor) {
        let good = self.sandbox.mint(BROWSER).cookie();
        let bad = self.sandbox.mint(BROWSER).score(100).cookie();
        for (cookies, status, calls) in [
            (vec!["a=1", &good, "b=2"], 200, 0),
            (vec!["a=1; c=3", "b=2", &good], 200, 0),
            (vec!["a=1", &bad, "b=2"], 403, 0),
            // Of several the last.
            (vec![&bad, "a=1", &good], 200, 0),
            (vec![&good, "a=1", &bad], 403, 0),
            (vec!["a=1", "b=2", "_pxhd=x"], 200, 1),
        ] {
            self.sandbox.clear();
            self.origin.clear();
            let mut headers = vec![("user-agent", BROWSER)];
            headers.extend(cookies.iter().map(|cookie| ("cookie", *cookie)));
            assert_eq!(visitor.ask("GET", "/", &headers, b"").status, status, "{cookies:?}");
            let asked = self.sandbox.risk_calls();
            assert_eq!(asked.len(), calls, "{cookies:?}");
            for call in asked {
                let names = &call.json()["additional"]["request_cookie_names"];
                assert_eq!(names.to_string(), "[\"a\",\"b\",\"_pxhd\"]");
            }
            for text in self.origin.texts() {
                let whole = format!("cookie: {}\r\n", cookies.join("; "));
                assert!(text.to_lowercase().contains(&whole.to_lowercase()), "{text}");
            }
        }
    }

    /// Lets the visitor make a request of every kind.
    pub fn decide(&mut self, protocol: &Protocol, visitor: &mut dyn Visitor) {
        for case in self.cases() {
            self.check(protocol, visitor, &case);
        }
        self.sandbox.assert_no_complaints();
    }

    fn cases(&self) -> Vec<Case> {
        let cookie = |score| ("cookie", self.sandbox.mint(BROWSER).score(score).cookie());
        let bot = || ("user-agent", BOT.to_owned());
        let passing = |name, method, headers, body| Case {
            name,
            method,
            path: "",
            headers,
            body,
            status: 200,
            holds: if method == "HEAD" { "" } else { "origin" },
            logged: "verdict=pass pass=s2s ",
            is_asked: true,
            reaches_origin: true,
        };
        let asked = |name, method, body| passing(name, method, vec![], body);
        let blocked = |name, method, headers: Vec<(&'static str, String)>, body, holds| Case {
            status: 403,
            holds,
            logged: "verdict=block pass=- block=s2s_high_score ",
            reaches_origin: false,
            ..passing(name, method, [vec![bot()], headers].concat(), body)
        };
        let json = || ("accept", "application/json".to_owned());
        let form = || ("content-type", "application/x-www-form-urlencoded".to_owned());
        vec![
            Case {
                logged: "verdict=pass pass=cookie ",
                is_asked: false,
                ..passing("a good cookie", "GET", vec![cookie(0)], b"")
            },
            asked("a GET", "GET", b""),
            asked("a POST", "POST", b"some body"),
            asked("a HEAD", "HEAD", b""),
            asked("an OPTIONS", "OPTIONS", b""),
            asked("a PROPFIND", "PROPFIND", b"<propfind/>"),
            asked("a DELETE", "DELETE", b""),
            asked("a method of one's own", "BREW", b""),
            Case {
                path: "/login",
                ..passing("a login", "POST", vec![form()], b"username=a&password=b")
            },
            blocked("a blocked GET", "GET", vec![], b"", "px-captcha"),
            blocked("a blocked POST", "POST", vec![], b"GET /smuggled HTTP/1.1\r\n\r\n", "px-c"),
            blocked("a blocked script", "GET", vec![json()], b"", "\"blockScript\":"),
            blocked("a blocked HEAD", "HEAD", vec![], b"", ""),
            blocked("a blocked OPTIONS", "OPTIONS", vec![], b"", "px-captcha"),
            blocked("a blocked PROPFIND", "PROPFIND", vec![], b"<propfind/>", "px-captcha"),
            blocked("a blocked method of one's own", "BREW", vec![], b"", "px-captcha"),
            blocked(
                "a blocked part",
                "GET",
                vec![("range", "bytes=0-3".to_owned()), ("if-none-match", "*".to_owned())],
                b"",
                "px-captcha",
            ),
            Case {
                path: "/login",
                ..blocked("a blocked login", "POST", vec![form()], b"username=a&password=b", "px-c")
            },
            Case {
                logged: "verdict=block pass=- block=cookie_high_score ",
                is_asked: false,
                status: 403,
                holds: "px-captcha",
                reaches_origin: false,
                ..passing("a bad cookie", "GET", vec![cookie(100)], b"")
            },
            Case {
                path: "/sandbox1/init.js",
                holds: "px-sandbox",
                logged: "verdict=first_party pass=- ",
                is_asked: false,
                reaches_origin: false,
                ..passing("the sensor", "GET", vec![], b"")
            },
            Case {
                path: "/sandbox1/xhr/api/v2/collector",
                holds: "",
                logged: "verdict=first_party pass=- ",
                is_asked: false,
                reaches_origin: false,
                ..passing("the sensor's message", "POST", vec![form()], b"payload=1")
            },
            Case {
                path: "/down/",
                logged: "verdict=pass pass=s2s_error ",
                is_asked: false,
                ..passing("a POST while the Risk API is down", "POST", vec![], b"some body")
            },
            Case {
                path: "/down/",
                logged: "verdict=pass pass=s2s_error ",
                is_asked: false,
                ..passing("a bot while the Risk API is down", "GET", vec![bot()], b"")
            },
        ]
    }

    fn check(&mut self, protocol: &Protocol, visitor: &mut dyn Visitor, case: &Case) {
        let name = format!("{} over HTTP/{}", case.name, protocol.version);
        let target = match case.path {
            path if path.starts_with("/sandbox1/") => path.to_owned(),
            path => format!("{path}{}", &TARGET[usize::from(path.ends_with('/'))..]),
        };
        let sent = self.origin.requests().len();
        self.sandbox.clear();
        let mut headers = vec![("x-own", "one,  two\"\\"), ("x-empty", "")];
        headers.extend(case.headers.iter().map(|(name, value)| (*name, value.as_str())));
        let agent = headers.iter().find(|(name, _)| *name == "user-agent").map_or(BROWSER, |h| h.1);
        if agent == BROWSER {
            headers.push(("user-agent", BROWSER));
        }
        let answer = visitor.ask(case.method, &target, &headers, case.body);

        assert_eq!(answer.status, case.status, "{name}: {answer:?}");
        assert!(answer.text().contains(case.holds), "{name}: {}", answer.text());
        if case.method == "HEAD" {
            assert!(answer.body.is_empty(), "{name}");
            assert!(answer.header("content-length").is_some(), "{name}");
        } else if let Some(length) = answer.header("content-length") {
            assert_eq!(length, answer.body.len().to_string(), "{name}");
        }
        if case.status == 403 {
            assert_eq!(answer.header("content-range"), None, "{name}");
            assert_eq!(answer.header("etag"), None, "{name}");
            let json = case.holds.starts_with('"');
            let content_type = if json { "application/json" } else { "text/html" };
            assert_eq!(answer.headers("content-type"), [content_type], "{name}");
        }

        // Exactly one line for each request, with the verdict.
        self.requests += 1;
        let log = self.nginx.wait_for_access_log(self.requests);
        assert_eq!(log.len(), self.requests, "{name}: {log:?}");
        let line = log.last().expect("a line");
        let begins = format!("{} {} ", case.status, case.method);
        assert!(line.starts_with(&begins) && line.contains(case.logged), "{name}: {line}");

        let received = self.origin.requests().split_off(sent);
        assert_eq!(received.len(), usize::from(case.reaches_origin), "{name}: {received:?}");
        for request in &received {
            assert_passed_on(&name, request, case, &target, &headers);
        }

        let calls = self.sandbox.risk_calls();
        assert_eq!(calls.len(), usize::from(case.is_asked), "{name}");
        for call in &calls {
            assert_told(&name, &call.json(), protocol, case, &target, &headers);
        }
    }
}

/// Method, target, headers and body as they were sent.
fn assert_passed_on(
    name: &str,
    request: &[u8],
    case: &Case,
    target: &str,
    headers: &[(&str, &str)],
) {
    let end = request.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let (head, body) = request.split_at(end);
    assert_eq!(
        String::from_utf8_lossy(body),
        String::from_utf8_lossy(case.body),
        "{name}: its body"
    );
    let head = String::from_utf8_lossy(head);
    let (line, rest) = head.split_once("\r\n").expect("a request line");
    assert_eq!(line, format!("{} {target} HTTP/1.1", case.method), "{name}");
    let mut arrived: Vec<(String, &str)> = rest
        .lines()
        .filter_map(|line| line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, ""))))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| *name != "host" && *name != "content-length")
        .collect();
    arrived.sort();
    let mut sent: Vec<(String, &str)> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    sent.sort();
    assert_eq!(arrived, sent, "{name}");
    assert!(rest.contains("Host: site.test\r\n"), "{name}: {rest}");
}

fn assert_told(
    name: &str,
    call: &Value,
    protocol: &Protocol,
    case: &Case,
    target: &str,
    headers: &[(&str, &str)],
) {
    let url = format!("{}://site.test{target}", protocol.scheme);
    assert_eq!(call["request"]["url"], *url, "{name}");
    assert_eq!(call["additional"]["http_method"], case.method, "{name}");
    assert_eq!(call["additional"]["http_version"], protocol.version, "{name}");
    let told = call["request"]["headers"].as_array().expect("a list of headers");
    for (header, value) in headers {
        let is_told = told.iter().any(|told| {
            told["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(header))
                && told["value"] == *value
        });
        assert!(is_told, "{name}: {header} is missing in {told:?}");
    }
}
