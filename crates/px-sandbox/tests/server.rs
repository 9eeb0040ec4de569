//! The server itself: connections, framing, coding, waiting, ending.

mod client;

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use client::{Client, LIMIT, activity, get, post, post_with, risk_body, risk_call};
use flate2::Compression;
use flate2::write::GzEncoder;
use px_sandbox::{Behaviour, Endpoint, Mint, OnAccept, Sandbox};
use serde_json::{Value, json};

const COLLECTOR: &str = "/api/v1/collector/s2s";

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn serves_pipelined_requests_in_order() {
    let sandbox = Sandbox::start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    let mut bytes = Vec::new();
    for score in 1..=20 {
        let mut body = risk_body();
        body["request"]["headers"] =
            json!([{"name": "x-px-sandbox", "value": format!("score={score}")}]);
        bytes.extend(post("/api/v3/risk", body.to_string()));
    }
    client.send(bytes);
    for score in 1..=20 {
        assert_eq!(client.answer().unwrap().json()["score"], score);
    }
    sandbox.assert_no_complaints();
}

#[test]
fn reads_chunked_and_expected_bodies() {
    let sandbox = Sandbox::start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    let body = risk_body().to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let head = String::from_utf8(post("/api/v3/risk", "")).unwrap();
    let chunked = head.replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let answer = client.ask(format!(
        "{chunked}{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    ));
    assert_eq!(answer.json()["status"], 0);

    let body = risk_body().to_string();
    let head =
        String::from_utf8(post_with("/api/v3/risk", "Expect: 100-continue\r\n", "")).unwrap();
    let head = head.replace("Content-Length: 0", &format!("Content-Length: {}", body.len()));
    assert_eq!(client.ask(head).status, 100);
    assert_eq!(client.ask(body).json()["status"], 0);
    sandbox.assert_no_complaints();
}

#[test]
fn refuses_bodies_beyond_its_limit_and_survives_garbage() {
    let sandbox = Sandbox::builder().body_max(1000).start().unwrap();
    for (bytes, status) in [
        (post(COLLECTOR, vec![b'x'; 1001]), 413),
        (b"\x16\x03\x01\x02\x00 not HTTP at all\r\n\r\n".to_vec(), 400),
        (
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            400,
        ),
    ] {
        let mut client = Client::connect(sandbox.addr());
        assert_eq!(client.ask(bytes).status, status);
    }
    assert_eq!(sandbox.complaints().len(), 3, "{:?}", sandbox.complaints());
    assert_eq!(Client::connect(sandbox.addr()).ask(risk_call()).status, 200);
}

#[test]
fn keeps_what_came_byte_for_byte() {
    let sandbox = Sandbox::builder().checks(false).start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    let head =
        "PUT /x/%2F?a=b&a HTTP/1.1\r\nHoSt: a\r\nX-Two: 1\r\nx-two: 2\r\ncontent-length: 2\r\n\r\n";
    client.ask(format!("{head}\u{e9}"));
    let others = sandbox.others();
    let [received] = &others[..] else { panic!("{others:?}") };
    assert_eq!(received.head, head.as_bytes());
    assert_eq!(received.body, "\u{e9}".as_bytes());
    assert_eq!((received.method.as_str(), received.path()), ("PUT", "/x/%2F"));
    assert_eq!(received.query(), Some("a=b&a"));
    assert_eq!(received.values("X-TWO").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(received.headers[0].0, "HoSt");
}

#[test]
fn flattens_activities_and_undoes_gzip() {
    let sandbox = Sandbox::start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    client.ask(post(COLLECTOR, activity().to_string()));
    let batch = json!([activity(), activity(), activity()]).to_string();
    let answer = client.ask(post_with(COLLECTOR, "Content-Encoding: gzip\r\n", gzip(&batch)));
    assert_eq!(answer.status, 200);
    let activities = sandbox.wait_for_activities(4, LIMIT);
    assert_eq!(activities.len(), 4);
    assert!(activities.iter().all(|activity| activity["type"] == "page_requested"));
    assert_eq!(sandbox.activity_posts()[1].text(), batch);
    sandbox.assert_no_complaints();

    let answer = client.ask(post_with(COLLECTOR, "Content-Encoding: gzip\r\n", "not gzip"));
    assert_eq!(answer.status, 400);
    assert_eq!(sandbox.activities().len(), 4);
    assert_eq!(sandbox.complaints().len(), 1);
}

#[test]
fn answers_hundreds_of_connections_at_once() {
    let sandbox = Sandbox::start().unwrap();
    let clients = 300;
    let all_connected = Arc::new(Barrier::new(clients));
    std::thread::scope(|scope| {
        for _ in 0..clients {
            let (addr, all_connected) = (sandbox.addr(), Arc::clone(&all_connected));
            scope.spawn(move || {
                let mut client = Client::connect(addr);
                all_connected.wait();
                for _ in 0..3 {
                    assert_eq!(client.ask(risk_call()).status, 200);
                }
            });
        }
    });
    assert_eq!(sandbox.wait_for_risk_calls(3 * clients, LIMIT).len(), 3 * clients);
    assert_eq!(sandbox.connections(), clients as u64);
    sandbox.assert_no_complaints();
}

#[test]
fn ends_at_once_whatever_its_connections_do() {
    let sandbox = Sandbox::start().unwrap();
    let addr = sandbox.addr();
    let mut clients = Vec::new();
    for behaviour in [
        Behaviour::Normal,
        Behaviour::Delay(Duration::from_secs(600)),
        Behaviour::Hang,
        Behaviour::HalfClose,
        Behaviour::Trickle(Duration::from_secs(600)),
        Behaviour::Reset.after(Duration::MAX),
    ] {
        sandbox.behave(behaviour);
        let mut client = Client::connect(addr);
        client.send(risk_call());
        sandbox.wait_for_risk_calls(clients.len() + 1, LIMIT);
        clients.push(client);
    }
    sandbox.on_accept(OnAccept::Hang);
    let mut silent = Client::connect(addr);
    let mut half = Client::connect(addr);
    half.send("GET / HT");
    let begin = Instant::now();
    drop(sandbox);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert!(TcpStream::connect(addr).is_err(), "the port is still open");
    // The others were told that it is over.
    for client in &mut clients {
        let _ = client.rest();
    }
    let _ = silent.rest();
}

#[test]
fn goes_down_and_comes_back_on_the_same_port() {
    let sandbox = Sandbox::start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    assert_eq!(client.ask(risk_call()).status, 200);
    sandbox.go_down();
    assert!(client.rest().0.is_empty());
    assert!(TcpStream::connect(sandbox.addr()).is_err());
    assert_eq!(sandbox.open_connections(), 0);
    sandbox.go_down();
    sandbox.come_back().unwrap();
    sandbox.come_back().unwrap();
    assert_eq!(Client::connect(sandbox.addr()).ask(risk_call()).status, 200);
    assert_eq!(sandbox.risk_calls().len(), 2);
    sandbox.assert_no_complaints();
}

#[test]
fn closes_silent_connections() {
    let sandbox = Sandbox::builder().idle_timeout(Duration::from_millis(50)).start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    assert_eq!(client.ask(risk_call()).status, 200);
    let (bytes, end) = client.rest();
    assert!(bytes.is_empty() && end.is_ok());
    sandbox.assert_no_complaints();
    let mut client = Client::connect(sandbox.addr());
    client.send("POST /api/v3/risk HTTP/1.1\r\n");
    let _ = client.rest();
    assert_eq!(sandbox.complaints().len(), 1);
}

#[test]
fn heeds_http_1_0_connection_headers_and_head() {
    let sandbox = Sandbox::start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    let answer = client.ask("GET /api/v1/kpi/status HTTP/1.0\r\n\r\n");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.rest().0.is_empty());

    let mut client = Client::connect(sandbox.addr());
    client.ask("GET /api/v1/kpi/status HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    client.send("HEAD /PXsandbox1/main.min.js HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let (bytes, end) = client.rest();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with("\r\n\r\n") && !text.contains("Content-Length: 0"), "{text}");
    assert!(end.is_ok());
}

#[test]
fn remembers_within_bounds_and_forgets_on_request() {
    let sandbox = Sandbox::builder().keep(5, usize::MAX).start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    for _ in 0..8 {
        client.ask(risk_call());
    }
    let numbers: Vec<u64> = sandbox.risk_calls().iter().map(|call| call.number).collect();
    assert_eq!(numbers, [4, 5, 6, 7, 8]);
    assert_eq!(sandbox.wait_for_risk_calls(8, LIMIT).len(), 5);
    sandbox.clear();
    assert!(sandbox.received().is_empty());
    let begin = Instant::now();
    assert!(sandbox.wait_for_risk_calls(1, Duration::from_millis(30)).is_empty());
    assert!(begin.elapsed() >= Duration::from_millis(30));
}

#[test]
fn judges_by_user_agent_as_the_documents_say() {
    let sandbox = Sandbox::builder().pxhd(true).start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    let mut body = risk_body();
    body["request"]["headers"] = json!([{"name": "user-agent", "value": "PhantomJS/1.0"}]);
    let answer = client.ask(post("/api/v3/risk", body.to_string())).json();
    assert_eq!((&answer["score"], &answer["action"]), (&json!(100), &json!("c")));
    assert!(answer["pxhd"].is_string());
    sandbox.assert_no_complaints();
}

#[test]
fn refuses_strangers_as_the_backend_does() {
    let sandbox = Sandbox::start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    let call = String::from_utf8(risk_call()).unwrap();
    let stranger = call.replace("Bearer ", "Bearer not-");
    assert_eq!(client.ask(stranger).status, 401);
    assert_eq!(client.ask(call.replace("POST", "PUT")).status, 405);
    assert_eq!(client.ask(post("/api/v3/risk", "{")).status, 400);
    assert!(sandbox.risk_calls().iter().all(|call| !call.accepted));
    assert_eq!(sandbox.complaints().len(), 3);

    let anybody = Sandbox::builder().any_app(true).start().unwrap();
    let call = String::from_utf8(risk_call()).unwrap();
    let stranger = call.replace("Bearer ", "Bearer not-");
    assert_eq!(Client::connect(anybody.addr()).ask(stranger).status, 200);
    anybody.assert_no_complaints();
}

#[test]
fn serves_the_scripts_and_a_cookie_that_works() {
    let sandbox = Sandbox::start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    for (path, holds) in [
        ("main.min.js", "_pxvid"),
        ("captcha.js?a=c", "px-sandbox/solve"),
        ("checkpoint.js", "cpa"),
    ] {
        let answer = client.ask(get(&format!("/PXsandbox1/{path}")));
        assert_eq!(answer.header("content-type"), Some("application/javascript"));
        assert!(String::from_utf8(answer.body).unwrap().contains(holds));
    }
    let body = json!({"appId": "PXsandbox1", "uuid": "u", "vid": ""}).to_string();
    let answer = client.ask(format!(
        "POST /px-sandbox/solve HTTP/1.1\r\nHost: a\r\nUser-Agent: Browser/1\r\nOrigin: https://s\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://s"));
    let cookie = answer.json()["cookies"][0].as_str().unwrap().to_owned();
    let reading = px_sandbox::Reading {
        secrets: vec![sandbox.app().secret.clone()],
        user_agent: "Browser/1".into(),
        ..Default::default()
    };
    assert!(px_sandbox::explain(&cookie, &reading).outcome.passes());
    assert_eq!(client.ask(get("/beacon/x.gif")).status, 404);
    let gif = "GET /b/x.gif HTTP/1.1\r\nHost: a\r\nX-PX-First-Party: 1\r\n\
        X-Forwarded-For: 10.0.0.1, 192.0.2.1\r\nX-PX-Enforcer-True-IP: 192.0.2.1\r\n\r\n";
    assert_eq!(client.ask(gif).body.len(), 35);
    sandbox.assert_no_complaints();
}

#[test]
fn mints_for_its_own_app() {
    let sandbox = Sandbox::builder().secret("another").start().unwrap();
    assert_eq!(
        sandbox.mint("UA").salt(*b"s").uuid("u").vid("v").expires_at(1).token(),
        Mint::v3("another").user_agent("UA").salt(*b"s").uuid("u").vid("v").expires_at(1).token()
    );
}

#[test]
fn shows_and_takes_orders_over_http() {
    let sandbox = Sandbox::start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    client.ask(risk_call());
    client.ask(post(COLLECTOR, json!({"type": "<b>"}).to_string()));
    client.ask(post(COLLECTOR, activity().to_string()));

    let received = client.ask(get("/_sandbox/received?endpoint=risk&last=5")).json();
    assert_eq!(received.as_array().unwrap().len(), 1);
    assert_eq!(received[0]["body"]["additional"]["s2s_call_reason"], "no_cookie");
    assert_eq!(client.ask(get("/_sandbox/received")).json().as_array().unwrap().len(), 3);
    assert_eq!(client.ask(get("/_sandbox/received?last=2")).json()[0]["number"], 2);
    assert_eq!(client.ask(get("/_sandbox/received?endpoint=x")).status, 400);
    assert_eq!(client.ask(get("/_sandbox/activities")).json().as_array().unwrap().len(), 2);
    let totals = client.ask(get("/_sandbox/totals")).json();
    assert_eq!([&totals["requests"]["risk"], &totals["requests"]["telemetry"]], [1, 0]);
    assert_eq!([&totals["accepted_activities"], &totals["connections"]], [2, 1]);
    let body = json!({"type": "<b>"}).to_string().len() as u64;
    assert!(totals["bytes"]["activities"].as_u64().unwrap() > body);
    assert_eq!(totals["bytes"]["telemetry"], 0);
    let complaints: Vec<Value> =
        serde_json::from_value(client.ask(get("/_sandbox/complaints")).json()).unwrap();
    assert_eq!(complaints.len(), sandbox.complaints().len());
    let page = String::from_utf8(client.ask(get("/_sandbox/")).body).unwrap();
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>&lt;b"), "{page}");
    assert_eq!(client.ask(get("/_sandbox/nothing")).status, 404);
    assert_eq!(client.ask(get("/_sandbox/clear")).status, 405);

    let mut order = |json: Value| client.ask(post("/_sandbox/behaviour", json.to_string()));
    for wrong in [
        json!([]),
        json!({}),
        json!({"behaviour": "nothing"}),
        json!({"endpoint": "control", "behaviour": "hang"}),
        json!({"behaviour": "hang", "tims": 1}),
        json!({"behaviour": "hang", "times": 0}),
        json!({"reply": 1}),
        json!({"reply": {"status": 7}}),
        json!({"on_accept": "dance"}),
    ] {
        let answer = order(wrong.clone());
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.json()["error"].is_string());
    }
    let told = order(json!({"behaviour": "status", "status": 503, "times": 1})).json();
    assert_eq!(told, json!(["risk, once: status 503"]));
    let reply = json!({"status": 201, "headers": {"X-Y": "z"}, "body": {"a": 1}});
    order(json!({"endpoint": "telemetry", "reply": reply}));
    assert_eq!(client.ask(risk_call()).status, 503);
    assert_eq!(client.ask(risk_call()).status, 200);
    let answer = client.ask(post("/api/v2/risk/telemetry", "{}"));
    assert_eq!((answer.status, answer.header("x-y")), (201, Some("z")));

    client.ask(post("/_sandbox/clear", ""));
    assert!(sandbox.received().is_empty() && sandbox.complaints().is_empty());
    assert_eq!(client.ask(post("/api/v2/risk/telemetry", "{}")).status, 201);
    client.ask(post("/_sandbox/reset", ""));
    assert_eq!(client.ask(post("/api/v2/risk/telemetry", "{}")).status, 200);
}

#[test]
fn visitors_cannot_reach_the_controls_through_the_site() {
    let sandbox = Sandbox::start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    let request = "POST /_sandbox/clear HTTP/1.1\r\nHost: a\r\nX-PX-First-Party: 1\r\n\
        X-Forwarded-For: 192.0.2.1\r\nX-PX-Enforcer-True-IP: 192.0.2.1\r\n\r\n";
    assert_eq!(client.ask(request).json(), json!({}));
    assert_eq!(sandbox.received_at(Endpoint::Xhr).len(), 1);
}
