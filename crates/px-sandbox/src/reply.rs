//! What the sandbox answers: status, headers, body. How the answer travels is a
//! [`Behaviour`](crate::Behaviour).

use serde_json::{Value, json};
use uuid::Uuid;

/// An HTTP answer. `Content-Length` is added when it is sent, unless the reply has its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Any status from 100 to 999.
    pub status: u16,
    /// Header fields in the order they are sent, names verbatim.
    pub headers: Vec<(String, String)>,
    /// The body; not sent for HEAD, 1xx, 204 and 304.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer without headers and body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// 200 with a JSON body.
    pub fn json(value: impl Into<Value>) -> Self {
        Self::bytes("application/json", value.into().to_string())
    }

    /// 200 with any bytes of any type.
    pub fn bytes(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
        Self { status: 200, headers, body: body.into() }
    }

    /// A well-formed answer of the Risk API with a fresh uuid (risk-api.md § 5).
    pub fn risk(score: u32, action: &str) -> Self {
        Self::json(risk_answer(score, action))
    }

    /// The same answer with another status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same answer with one more header field.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The head as sent. `framing` is the header that says how the body ends.
    pub(crate) fn head(&self, framing: &str, keep_alive: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !framing.is_empty() {
            head.push_str(framing);
            head.push_str("\r\n");
        }
        if !self.has_header("connection") {
            head.push_str(if keep_alive {
                "Connection: keep-alive\r\n"
            } else {
                "Connection: close\r\n"
            });
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(present, _)| present.eq_ignore_ascii_case(name))
    }

    /// RFC 9112 § 6.3: these never have a body.
    pub(crate) fn is_bodyless(&self) -> bool {
        self.status < 200 || self.status == 204 || self.status == 304
    }
}

/// The members of a good Risk API answer. `cookie_cfg_block_result` is what token version 2 reads
/// in place of the score.
pub(crate) fn risk_answer(score: u32, action: &str) -> Value {
    json!({
        "status": 0,
        "uuid": Uuid::new_v4().to_string(),
        "score": score,
        "cookie_cfg_block_result": if score >= 100 { "1" } else { "0" },
        "action": action,
    })
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unassigned",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_head_a_client_expects() {
        let reply = Reply::json(json!({"a": 1})).status(503).header("X-Y", "z");
        assert_eq!(
            String::from_utf8(reply.head("Content-Length: 7", true)).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nX-Y: z\r\n\
             Content-Length: 7\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn a_risk_answer_is_complete() {
        let answer = risk_answer(100, "b");
        assert_eq!((&answer["status"], &answer["score"]), (&json!(0), &json!(100)));
        assert_eq!(answer["cookie_cfg_block_result"], "1");
        assert_eq!(answer["uuid"].as_str().map(str::len), Some(36));
    }
}
