//! Each behaviour does on the wire what its name says.

mod client;

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use client::{Client, LIMIT, activity, post, risk_body, risk_call};
use px_sandbox::{Behaviour, Endpoint, OnAccept, Reply, Sandbox};
use serde_json::json;

fn start(behaviour: Behaviour) -> (Sandbox, Client<TcpStream>) {
    let sandbox = Sandbox::start().unwrap();
    sandbox.behave(behaviour);
    let client = Client::connect(sandbox.addr());
    (sandbox, client)
}

const PAUSE: Duration = Duration::from_millis(120);

#[test]
fn normal_answers_and_keeps_the_connection() {
    let (sandbox, mut client) = start(Behaviour::Normal);
    for _ in 0..3 {
        let answer = client.ask(risk_call());
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
        assert_eq!(answer.json()["score"], 0);
    }
    let calls = sandbox.risk_calls();
    assert_eq!(calls.iter().map(|call| call.on_connection).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(sandbox.connections(), 1);
    sandbox.assert_no_complaints();
}

#[test]
fn delay_answers_later_and_records_at_once() {
    let (sandbox, mut client) = start(Behaviour::Delay(PAUSE));
    let begin = Instant::now();
    client.send(risk_call());
    assert_eq!(sandbox.wait_for_risk_calls(1, LIMIT).len(), 1);
    assert_eq!(client.answer().unwrap().status, 200);
    assert!(begin.elapsed() >= PAUSE);
}

#[test]
fn status_and_body_replace_the_reply() {
    let (sandbox, mut client) = start(Behaviour::Status(503));
    assert_eq!(client.ask(risk_call()).status, 503);
    sandbox.behave(Behaviour::Status(204));
    let answer = client.ask(risk_call());
    assert_eq!((answer.status, answer.header("content-length")), (204, None));
    sandbox.behave(Behaviour::Body(b"[1]".to_vec()));
    let answer = client.ask(risk_call());
    assert_eq!((answer.status, answer.body), (200, b"[1]".to_vec()));
    let accepted: Vec<bool> = sandbox.risk_calls().iter().map(|call| call.accepted).collect();
    assert_eq!(accepted, [false, false, true]);
}

#[test]
fn after_waits_and_then_does_the_other_thing() {
    let (_sandbox, mut client) = start(Behaviour::Status(500).after(PAUSE));
    let begin = Instant::now();
    assert_eq!(client.ask(risk_call()).status, 500);
    assert!(begin.elapsed() >= PAUSE);
}

#[test]
fn reset_sends_a_reset() {
    let (sandbox, mut client) = start(Behaviour::Reset);
    client.send(risk_call());
    let (bytes, end) = client.rest();
    assert!(bytes.is_empty());
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(sandbox.risk_calls().len(), 1);
}

#[test]
fn close_before_answer_ends_without_a_byte() {
    let (sandbox, mut client) = start(Behaviour::CloseBeforeAnswer);
    client.send(risk_call());
    let (bytes, end) = client.rest();
    assert!(bytes.is_empty() && end.is_ok());
    assert_eq!(sandbox.risk_calls().len(), 1);
}

#[test]
fn half_close_ends_one_direction_and_still_reads() {
    let (sandbox, mut client) = start(Behaviour::HalfClose);
    client.send(risk_call());
    let (bytes, end) = client.rest();
    assert!(bytes.is_empty() && end.is_ok());
    // A closed socket would answer this with a reset, which the write after it would notice.
    for _ in 0..3 {
        client.stream.write_all(b"still here").unwrap();
    }
    assert_eq!(sandbox.open_connections(), 1);
}

#[test]
fn truncate_sends_less_than_it_declares() {
    let (sandbox, mut client) = start(Behaviour::Truncate { declared: 100, sent: 10 });
    sandbox.answer_risk(Reply::json(json!({"a": 1})));
    client.send(risk_call());
    let (bytes, end) = client.rest();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Length: 100"), "{head}");
    assert_eq!(body, "{\"a\":1}   ");
    assert!(end.is_ok());
}

#[test]
fn reset_within_an_answer_comes_after_its_head() {
    let (sandbox, mut client) = start(Behaviour::ResetWithin(3));
    sandbox.answer_risk(Reply::json(json!({"a": 1})));
    client.send(risk_call());
    let (bytes, end) = client.rest();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Length: 7"), "{head}");
    assert_eq!(body, "{\"a");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(!sandbox.risk_calls()[0].accepted);
}

#[test]
fn trickle_pauses_before_every_byte() {
    let pause = Duration::from_millis(1);
    let (sandbox, mut client) = start(Behaviour::Trickle(pause));
    sandbox.answer_risk(Reply::json(json!({"a": 1})));
    let begin = Instant::now();
    let answer = client.ask(risk_call());
    let bytes = u32::try_from(answer.head.len() + answer.body.len()).unwrap();
    assert!(begin.elapsed() >= pause * bytes, "{bytes} bytes in {:?}", begin.elapsed());
}

#[test]
fn trickle_gives_the_whole_answer() {
    let (_sandbox, mut client) = start(Behaviour::Trickle(Duration::from_micros(100)));
    assert_eq!(client.ask(risk_call()).json()["status"], 0);
    assert_eq!(client.ask(risk_call()).json()["status"], 0);
}

#[test]
fn huge_sends_exactly_so_many_bytes_of_json() {
    let (_sandbox, mut client) = start(Behaviour::Huge(10 << 20));
    let answer = client.ask(risk_call());
    assert_eq!(answer.body.len(), 10 << 20);
    assert_eq!(answer.json()["status"], 0);
}

#[test]
fn hang_says_nothing_until_the_peer_leaves() {
    let (sandbox, mut client) = start(Behaviour::Hang);
    client.stream.set_read_timeout(Some(PAUSE)).unwrap();
    client.send(risk_call());
    let (bytes, end) = client.rest();
    assert!(bytes.is_empty());
    assert!(matches!(end.unwrap_err().kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    assert_eq!(sandbox.open_connections(), 1);
    drop(client);
    let end = Instant::now() + LIMIT;
    while sandbox.open_connections() > 0 {
        assert!(Instant::now() < end, "the connection stays open");
        std::thread::yield_now();
    }
}

#[test]
fn not_http_sends_the_bytes_alone() {
    let (_sandbox, mut client) = start(Behaviour::NotHttp(b"SSH-2.0-x\r\n".to_vec()));
    client.send(risk_call());
    let (bytes, end) = client.rest();
    assert_eq!(bytes, b"SSH-2.0-x\r\n");
    assert!(end.is_ok());
}

#[test]
fn chunked_answer_has_several_chunks_and_keeps_the_connection() {
    let (_sandbox, mut client) = start(Behaviour::ChunkedAnswer);
    for _ in 0..2 {
        let answer = client.ask(risk_call());
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert_eq!(answer.header("content-length"), None);
        assert_eq!(answer.json()["status"], 0);
    }
}

#[test]
fn keep_alive_off_says_so_and_closes() {
    let (_sandbox, mut client) = start(Behaviour::KeepAliveOff);
    let answer = client.ask(risk_call());
    assert_eq!(answer.header("connection"), Some("close"));
    let (bytes, end) = client.rest();
    assert!(bytes.is_empty() && end.is_ok());
}

#[test]
fn stale_keep_alive_promises_and_closes() {
    let (_sandbox, mut client) = start(Behaviour::StaleKeepAlive);
    let answer = client.ask(risk_call());
    assert_eq!(answer.header("connection"), Some("keep-alive"));
    let (bytes, end) = client.rest();
    assert!(bytes.is_empty() && end.is_ok());
}

#[test]
fn orders_for_the_next_requests_come_before_standing_ones() {
    let (sandbox, mut client) = start(Behaviour::Status(500));
    sandbox.behave_next(Behaviour::Status(502));
    sandbox.behave_next_at(Endpoint::RiskApi, 2, Behaviour::Normal);
    let statuses: Vec<u16> = (0..4).map(|_| client.ask(risk_call()).status).collect();
    assert_eq!(statuses, [502, 200, 200, 500]);
    sandbox.behave_well();
    assert_eq!(client.ask(risk_call()).status, 200);
}

#[test]
fn replies_come_from_orders_functions_and_queues() {
    let (sandbox, mut client) = start(Behaviour::Normal);
    sandbox.answer_risk_with(|call| {
        let id = &call.json()["additional"]["request_id"];
        Reply::json(json!({"status": 0, "score": 1, "uuid": id}))
    });
    sandbox.answer_risk_next(Reply::risk(100, "b"));
    assert_eq!(client.ask(risk_call()).json()["action"], "b");
    let body = risk_body();
    let answer = client.ask(post("/api/v3/risk", body.to_string())).json();
    assert_eq!(answer["uuid"], body["additional"]["request_id"]);
    sandbox.answer_path("/config/", Reply::json(json!({"version": 7})));
    assert_eq!(client.ask(client::get("/config/?x=1")).json()["version"], 7);
    assert_eq!(client.ask(client::get("/elsewhere")).status, 404);
}

#[test]
fn refused_activities_are_not_accepted_and_may_come_again() {
    let sandbox = Sandbox::start().unwrap();
    let mut client = Client::connect(sandbox.addr());
    sandbox.behave_next_at(Endpoint::Activities, 1, Behaviour::Status(503));
    let body = activity().to_string();
    assert_eq!(client.ask(post("/api/v1/collector/s2s", &body)).status, 503);
    assert!(sandbox.activities().is_empty());
    assert_eq!(client.ask(post("/api/v1/collector/s2s", &body)).status, 200);
    assert_eq!(sandbox.wait_for_activities(1, LIMIT).len(), 1);
    assert_eq!(sandbox.activity_posts().len(), 2);
    sandbox.assert_no_complaints();
}

#[test]
fn connections_can_be_refused_at_the_door() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.on_accept(OnAccept::Close);
    let (bytes, end) = Client::connect(sandbox.addr()).rest();
    assert!(bytes.is_empty() && end.is_ok());
    sandbox.on_accept(OnAccept::Reset);
    let (_, end) = Client::connect(sandbox.addr()).rest();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    sandbox.on_accept(OnAccept::Hang);
    let mut client = Client::connect(sandbox.addr());
    client.stream.set_read_timeout(Some(PAUSE)).unwrap();
    client.send(risk_call());
    assert!(client.rest().1.is_err());
    sandbox.on_accept(OnAccept::Serve);
    assert_eq!(Client::connect(sandbox.addr()).ask(risk_call()).status, 200);
    assert_eq!(sandbox.connections(), 4);
}
