//! Tests for the px module: what the operator adds to, or keeps back from, what HUMAN is told.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use px_sandbox::{Reply, Sandbox};
use serde_json::{Value, json};
use support::{BROWSER, Nginx, Origin, SOON, get, protect, wait_until};

fn site(sandbox: &Sandbox, origin: &Origin, directives: &str) -> Nginx {
    Nginx::start(&format!(
        "{} {directives} location / {{ {} }}",
        protect(sandbox),
        origin.proxy_pass()
    ))
}

/// The Risk API request and the activity of one visit.
fn told(sandbox: &Sandbox) -> (Value, Value) {
    let activity = sandbox.wait_for_activities(1, SOON).remove(0);
    (sandbox.risk_calls()[0].json(), activity)
}

fn own(object: &Value) -> Value {
    let members = object.as_object().expect("an object").iter();
    members
        .filter(|(name, _)| name.starts_with("custom_param"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn header(list: &Value, name: &str) -> Vec<Value> {
    let entries = list.as_array().expect("a list").iter();
    entries.filter(|entry| entry["name"] == name).map(|entry| entry["value"].clone()).collect()
}

#[test]
fn custom_parameters_come_from_headers_cookies_and_expressions() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    origin.answer(201, &["X-Order: 7"], b"");
    let nginx = site(
        &sandbox,
        &origin,
        "px_custom_parameters X-User \"\" X-Missing; px_custom_parameters x-late;
         px_cookie_custom_parameters \"\" plan tier;
         px_custom_parameter 10 \"$request_method $arg_q\";
         px_custom_parameter 9 $http_x_none;
         px_custom_parameter 11 $upstream_http_x_order;
         px_custom_parameter 20 $status;",
    );
    get(
        nginx.addr(),
        "/?q=1",
        &["X-User: u1", "X-Late: l", "Cookie: plan=Z29sZA==; tier=dHdv; x=1"],
    );
    let (call, activity) = told(&sandbox);
    let of_request = json!({
        "custom_param1": "u1",
        "custom_param2": "gold",
        "custom_param3": "two",
        "custom_param4": "l",
        "custom_param10": "GET 1",
    });
    assert_eq!(own(&call["additional"]), of_request);
    let mut all = of_request;
    all["custom_param11"] = json!("7");
    all["custom_param20"] = json!("201");
    assert_eq!(own(&activity["details"]), all);
    sandbox.assert_no_complaints();
}

#[test]
fn allowed_cookies_are_told_and_others_are_not() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_allowed_cookies lang plan;");
    get(nginx.addr(), "/", &["Cookie: session=secret; plan=gold; lang=en"]);
    let (call, activity) = told(&sandbox);
    for headers in [&call["request"]["headers"], &activity["headers"]] {
        assert_eq!(header(headers, "cookie"), [json!("plan=gold; lang=en")]);
    }
    assert!(!call.to_string().contains("secret") && !activity.to_string().contains("secret"));
}

#[test]
fn sensitive_headers_off_keeps_back_the_cookie_alone() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "px_sensitive_headers cookie x-key; px_sensitive_headers_enabled off;",
    );
    get(nginx.addr(), "/", &["Cookie: a=1", "X-Key: k"]);
    let (call, _) = told(&sandbox);
    assert_eq!(header(&call["request"]["headers"], "x-key"), [json!("k")]);
    assert!(header(&call["request"]["headers"], "cookie").is_empty());
}

#[test]
fn further_entries_stand_in_the_activitys_list_of_headers() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "px_activity_header X-Region eu-$request_method; px_custom_activity_headers x-empty $arg_no;",
    );
    get(nginx.addr(), "/", &[]);
    let (call, activity) = told(&sandbox);
    assert_eq!(header(&activity["headers"], "x-region"), [json!("eu-GET")]);
    assert_eq!(header(&activity["headers"], "x-empty"), [Value::Null]);
    assert!(header(&call["request"]["headers"], "x-region").is_empty());
}

#[test]
fn addresses_are_told_without_their_end_and_used_whole() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "px_anonymize_ip on; px_ip_headers x-forwarded-for; px_filter_by_ip 198.51.100.8;",
    );
    get(nginx.addr(), "/", &["X-Forwarded-For: 203.0.113.77, 10.1.2.3", "X-Version: 1.2.3"]);
    let (call, activity) = told(&sandbox);
    for (ip, headers) in [
        (&call["request"]["socket_ip"], &call["request"]["headers"]),
        (&activity["socket_ip"], &activity["headers"]),
    ] {
        assert_eq!(ip, "203.0.113.0");
        assert_eq!(header(headers, "x-forwarded-for"), [json!("203.0.113.0, 10.1.2.0")]);
        assert_eq!(header(headers, "x-version"), [json!("1.2.3")]);
    }
    // The origin sees what the client sent.
    assert!(origin.texts()[0].contains("203.0.113.77"));
    sandbox.clear();
    get(nginx.addr(), "/", &["X-Forwarded-For: 198.51.100.8"]);
    assert!(sandbox.risk_calls().is_empty(), "filtered by the whole address");
}

#[test]
fn a_page_request_may_be_told_before_the_origin_has_answered() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    for (deferred, status) in [("on", json!(200)), ("off", Value::Null)] {
        sandbox.clear();
        let nginx = site(&sandbox, &origin, &format!("px_deferred_activities {deferred};"));
        get(nginx.addr(), "/", &[&cookie]);
        drop(nginx.quit());
        let activities = sandbox.wait_for_activities(1, SOON);
        assert_eq!(activities.len(), 1);
        assert_eq!(activities[0]["details"]["http_status_code"], status, "{deferred}");
    }
    // A block is told as ever.
    sandbox.clear();
    sandbox.answer_risk(Reply::risk(100, "c"));
    let nginx = site(&sandbox, &origin, "px_deferred_activities off;");
    get(nginx.addr(), "/", &[]);
    assert_eq!(sandbox.wait_for_activities(1, SOON)[0]["type"], "block");
    drop(nginx);
}

#[test]
fn the_additional_activity_handler_is_told_of_every_verdict() {
    for (target, location) in
        [("/told", "location = /told { internal;"), ("@told", "location @told {")]
    {
        let (sandbox, origin, audit) =
            (Sandbox::start().unwrap(), Origin::start(), Origin::start());
        let nginx = site(
            &sandbox,
            &origin,
            &format!(
                "px_additional_activity_handler {target};
                 {location} proxy_pass http://{}/audit?verdict=$px_verdict&uuid=$px_uuid; }}",
                audit.addr()
            ),
        );
        let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
        assert_eq!(get(nginx.addr(), "/page", &[&cookie]).text(), "origin", "{target}");
        sandbox.answer_risk(Reply::risk(100, "c"));
        assert_eq!(get(nginx.addr(), "/page", &[]).status, 403, "{target}");
        wait_until("both are told", || audit.requests().len() == 2);
        let mut texts = audit.texts();
        texts.sort();
        assert!(texts[0].starts_with("GET /audit?verdict=block&uuid="), "{}", texts[0]);
        assert!(texts[1].starts_with("GET /audit?verdict=pass&uuid="), "{}", texts[1]);
        // Neither decided nor reported a second time.
        assert_eq!(sandbox.wait_for_activities(2, SOON).len(), 2);
        assert_eq!(sandbox.risk_calls().len(), 1);

        let old = nginx.workers();
        nginx.reload(|conf| {
            conf.replace("location / {", "px_additional_activity_handler_enabled off; location / {")
        });
        nginx.wait_for_workers_to_end(&old);
        get(nginx.addr(), "/page", &[&cookie]);
        drop(nginx.quit());
        assert_eq!(audit.requests().len(), 2, "switched off");
    }
}

/// A forward proxy: tells the head of every request to it and tunnels.
fn proxy() -> (std::net::SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let (heads, told) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let heads = heads.clone();
            thread::spawn(move || tunnel(client, &heads));
        }
    });
    (addr, told)
}

fn tunnel(mut client: TcpStream, heads: &mpsc::Sender<String>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let _ = heads.send(head);
    let Ok(mut server) = TcpStream::connect(target) else { return };
    let _ = client.write_all(b"HTTP/1.1 200 Established\r\n\r\n");
    let (mut back, mut client_end) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || std::io::copy(&mut back, &mut client_end));
    let _ = std::io::copy(&mut client, &mut server);
}

#[test]
fn activities_go_through_the_proxy() {
    // base64 of user:pass word
    go_through_the_proxy("px_proxy_authorization \"Basic dXNlcjpwYXNzIHdvcmQ=\";");
    go_through_the_proxy("px_proxy_authorization_file conf.proxy;");
}

fn go_through_the_proxy(authorization: &str) {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let (addr, heads) = proxy();
    let nginx = Nginx::builder()
        .server(&format!(
            "{} px_max_activity_batch_size 1; px_proxy_url http://{addr}; {authorization} \
             location / {{ {} }}",
            protect(&sandbox),
            origin.proxy_pass()
        ))
        .start_with(|dir| {
            let path = dir.join("conf.proxy");
            std::fs::write(&path, "Basic dXNlcjpwYXNzIHdvcmQ=\n").expect("a file can be written");
        });
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    get(nginx.addr(), "/", &[&cookie]);
    sandbox.wait_for_activities(1, SOON);
    let head = heads.recv_timeout(SOON).expect("the proxy is asked");
    assert!(head.starts_with(&format!("CONNECT {} HTTP/1.1\r\n", sandbox.addr())), "{head}");
    let authorization = head.to_lowercase();
    assert!(authorization.contains("proxy-authorization: basic dxnlcjpwyxnzihdvcmq="), "{head}");
    // Nothing of it in the log.
    assert!(!nginx.quit().contains("pass word"));
}

#[test]
fn the_custom_cookie_header_can_be_switched_off() {
    for (directive, is_read) in [("", true), ("px_custom_cookie_header_enabled off;", false)] {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        let nginx = site(&sandbox, &origin, directive);
        let cookies = format!("x-px-cookies: {}", sandbox.mint(BROWSER).cookie());
        assert_eq!(get(nginx.addr(), "/", &[&cookies]).status, 200);
        // Who brings a good cookie is not asked about.
        assert_eq!(sandbox.risk_calls().is_empty(), is_read, "{directive}");
    }
}
