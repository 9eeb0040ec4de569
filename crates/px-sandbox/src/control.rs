//! `/_sandbox/…`: what a person or a script may ask about a running sandbox, and tell it.

mod overview;

use serde_json::{Map, Value, json};

use crate::behaviour::{Behaviour, OnAccept};
use crate::endpoint::Endpoint;
use crate::received::Received;
use crate::reply::Reply;
use crate::server::Server;

/// Answers a control request.
pub(crate) fn answer(server: &Server, asked: &Received) -> Reply {
    let page = asked.path().trim_start_matches("/_sandbox").trim_start_matches('/');
    match (asked.method.as_str(), page) {
        ("GET" | "HEAD", "") => overview::page(server),
        ("GET" | "HEAD", "received") => received(server, asked),
        ("GET" | "HEAD", "complaints") => list(server.journal.complaints()),
        ("GET" | "HEAD", "activities") => Reply::json(Value::Array(server.journal.activities())),
        ("GET" | "HEAD", "logs") => Reply::json(Value::Array(server.journal.log_records())),
        ("GET" | "HEAD", "totals") => totals(server),
        ("GET" | "HEAD", "behaviour") => list(server.plan.describe()),
        ("POST", "behaviour") => match behave(server, &asked.json()) {
            Ok(()) => list(server.plan.describe()),
            Err(why) => Reply::json(json!({ "error": why })).status(400),
        },
        ("POST", "clear") => {
            server.clear();
            Reply::json(json!({}))
        }
        ("POST", "reset") => {
            server.clear();
            server.plan.forget();
            Reply::json(json!({}))
        }
        (
            _,
            "" | "received" | "complaints" | "activities" | "logs" | "totals" | "behaviour"
            | "clear" | "reset",
        ) => Reply::json(json!({ "error": "wrong method" })).status(405),
        _ => Reply::json(json!({
            "error": "no such page",
            "pages": ["GET /_sandbox/", "GET /_sandbox/received?endpoint=risk&last=10",
                "GET /_sandbox/complaints", "GET /_sandbox/activities", "GET /_sandbox/logs",
                "GET /_sandbox/totals", "GET /_sandbox/behaviour",
                "POST /_sandbox/behaviour", "POST /_sandbox/clear", "POST /_sandbox/reset"],
        }))
        .status(404),
    }
}

fn list(lines: Vec<String>) -> Reply {
    Reply::json(Value::from(lines))
}

/// Requests by endpoint and their bytes, activities that were accepted, and connections, kept or not.
fn totals(server: &Server) -> Reply {
    let by_endpoint = |total: &dyn Fn(Endpoint) -> u64| -> Map<String, Value> {
        Endpoint::ALL
            .into_iter()
            .filter(|endpoint| *endpoint != Endpoint::Control)
            .map(|endpoint| (endpoint.word().to_owned(), total(endpoint).into()))
            .collect()
    };
    Reply::json(json!({
        "requests": by_endpoint(&|endpoint| server.journal.total(endpoint)),
        "bytes": by_endpoint(&|endpoint| server.journal.total_bytes(endpoint)),
        "accepted_activities": server.journal.accepted_activities(),
        "connections": server.connections(),
    }))
}

/// The kept requests, oldest first; `endpoint=<word>` and `last=<N>` narrow them down.
fn received(server: &Server, asked: &Received) -> Reply {
    let asked_for = |wanted: &str| {
        let query = asked.query().unwrap_or_default();
        query.split('&').find_map(|pair| pair.strip_prefix(wanted)?.strip_prefix('='))
    };
    let kept = match asked_for("endpoint").map(|word| (word, Endpoint::from_word(word))) {
        None => server.journal.received(),
        Some((_, Some(endpoint))) => server.journal.received_at(endpoint),
        Some((word, None)) => {
            let error = format!("no endpoint is called {word:?}");
            return Reply::json(json!({ "error": error })).status(400);
        }
    };
    let last = asked_for("last").and_then(|count| count.parse().ok()).unwrap_or(kept.len());
    let skipped = kept.len().saturating_sub(last);
    let shown = kept.iter().skip(skipped).map(|received| describe(received)).collect();
    Reply::json(Value::Array(shown))
}

/// A request as JSON. The body is a value where it is JSON, else text.
pub(crate) fn describe(received: &Received) -> Value {
    let body = match received.json() {
        Value::Null => Value::from(received.text()),
        value => value,
    };
    json!({
        "number": received.number,
        "endpoint": received.endpoint.word(),
        "connection": received.connection,
        "on_connection": received.on_connection,
        "at_ms": received.at_ms,
        "method": received.method,
        "target": received.target,
        "headers": received.headers,
        "body": body,
        "body_bytes": received.body.len(),
        "server_name": received.server_name,
        "tls_version": received.tls_version,
        "accepted": received.accepted,
        "complaints": received.complaints,
    })
}

/// `{"endpoint": "risk", "behaviour": "delay", "ms": 500, "times": 1}`, `{"endpoint": "risk",
/// "reply": {"status": 200, "headers": {…}, "body": …}}` or `{"on_accept": "hang"}`.
fn behave(server: &Server, order: &Value) -> Result<(), String> {
    let Some(order) = order.as_object() else {
        return Err("a JSON object is expected".into());
    };
    let known = [
        "endpoint",
        "behaviour",
        "reply",
        "times",
        "on_accept",
        "ms",
        "status",
        "bytes",
        "declared",
        "sent",
        "body",
        "body_base64",
    ];
    if let Some(name) = order.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("{name:?} is not known; known are {}", known.join(", ")));
    }
    if let Some(word) = order.get("on_accept") {
        server.plan.on_accept(OnAccept::from_word(word.as_str().unwrap_or_default())?);
    }
    let word = order.get("endpoint").map_or(Some("risk"), Value::as_str).unwrap_or_default();
    let endpoint = Endpoint::from_word(word)
        .filter(|endpoint| *endpoint != Endpoint::Control)
        .ok_or(format!("no endpoint is called {word:?}"))?;
    let times = match order.get("times") {
        None => None,
        Some(times) => Some(
            times
                .as_u64()
                .and_then(|times| usize::try_from(times).ok())
                .filter(|times| (1..=1_000_000).contains(times))
                .ok_or("\"times\" must be a number from 1")?,
        ),
    };
    if let Some(reply) = order.get("reply") {
        let reply = read_reply(reply)?;
        match times {
            None => server
                .plan
                .answer(endpoint, Some(std::sync::Arc::new(move |_: &Received| reply.clone()))),
            Some(times) => {
                for _ in 0..times {
                    server.plan.answer_next(endpoint, reply.clone());
                }
            }
        }
    }
    if order.contains_key("behaviour") {
        let behaviour = Behaviour::from_json(&Value::Object(order.clone()))?;
        match times {
            None => server.plan.behave(endpoint, behaviour),
            Some(times) => server.plan.behave_next(endpoint, times, &behaviour),
        }
    } else if !order.contains_key("reply") && !order.contains_key("on_accept") {
        return Err("\"behaviour\", \"reply\" or \"on_accept\" is missing".into());
    }
    Ok(())
}

fn read_reply(reply: &Value) -> Result<Reply, String> {
    let Some(members) = reply.as_object() else {
        return Err("\"reply\" must be an object".into());
    };
    let status = match members.get("status") {
        None => 200,
        Some(status) => status
            .as_u64()
            .and_then(|status| u16::try_from(status).ok())
            .filter(|status| (100..1000).contains(status))
            .ok_or("\"reply.status\" must be between 100 and 999")?,
    };
    let mut made = match members.get("body") {
        None => Reply::new(200),
        Some(Value::String(text)) => Reply::bytes("application/json", text.as_str()),
        Some(json) => Reply::json(json.clone()),
    }
    .status(status);
    let none = Map::new();
    let headers = match members.get("headers") {
        None => &none,
        Some(headers) => headers.as_object().ok_or("\"reply.headers\" must be an object")?,
    };
    for (name, value) in headers {
        let value = value.as_str().ok_or("\"reply.headers\" must hold texts")?;
        made.headers.retain(|(present, _)| !present.eq_ignore_ascii_case(name));
        made = made.header(name, value);
    }
    Ok(made)
}
