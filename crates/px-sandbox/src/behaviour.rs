//! How an answer travels, or does not: every way a backend can misbehave on the wire.

use std::fmt::{self, Display};
use std::time::Duration;

use serde_json::Value;

use crate::crypto::from_base64;

/// What happens once a request was read in full. `Normal` is an answer with `Content-Length` on a
/// connection that stays open.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Behaviour {
    /// Answers at once, properly.
    #[default]
    Normal,
    /// Waits, then answers properly.
    Delay(Duration),
    /// Waits, then does something else.
    After(Duration, Box<Self>),
    /// Answers with this status and a short JSON body in place of the reply.
    Status(u16),
    /// Answers 200 `application/json` with these bytes in place of the reply.
    Body(Vec<u8>),
    /// Closes with a TCP reset in place of an answer.
    Reset,
    /// Closes properly in place of an answer.
    CloseBeforeAnswer,
    /// Closes the sending direction in place of an answer, and keeps reading until the peer
    /// leaves.
    HalfClose,
    /// Declares a body of `declared` bytes, sends only `sent`, and closes.
    Truncate {
        /// The value of `Content-Length`.
        declared: u64,
        /// How many bytes of the body follow (the reply's, filled up with blanks).
        sent: u64,
    },
    /// Sends the head and so many bytes of the body, and closes with a TCP reset.
    ResetWithin(u64),
    /// Sends head and body byte by byte with this pause before each.
    Trickle(Duration),
    /// Answers 200 with a good Risk API answer blown up to this many bytes of JSON.
    Huge(u64),
    /// Never answers; keeps the connection until the peer leaves.
    Hang,
    /// Sends these bytes instead of HTTP, and closes.
    NotHttp(Vec<u8>),
    /// Answers properly, the body in several chunks (`Transfer-Encoding: chunked`).
    ChunkedAnswer,
    /// Answers properly with `Connection: close`, and closes.
    KeepAliveOff,
    /// Promises keep-alive and closes the connection just after the answer.
    StaleKeepAlive,
}

impl Behaviour {
    /// This behaviour, after a pause.
    pub fn after(self, pause: Duration) -> Self {
        Self::After(pause, Box::new(self))
    }

    /// True where the peer gets the reply in full.
    pub(crate) fn delivers(&self) -> bool {
        match self {
            Self::Normal
            | Self::Delay(_)
            | Self::Trickle(_)
            | Self::ChunkedAnswer
            | Self::KeepAliveOff
            | Self::StaleKeepAlive
            | Self::Huge(_)
            | Self::Body(_) => true,
            Self::Status(status) => *status == 200,
            Self::After(_, then) => then.delivers(),
            Self::Reset
            | Self::CloseBeforeAnswer
            | Self::HalfClose
            | Self::Truncate { .. }
            | Self::ResetWithin(_)
            | Self::Hang
            | Self::NotHttp(_) => false,
        }
    }

    /// True where the peer may well give up before it has the answer.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self, Self::Delay(_) | Self::After(..) | Self::Trickle(_))
    }

    /// True where the reply's own status is replaced.
    pub(crate) fn replaces_reply(&self) -> bool {
        match self {
            Self::Status(_) | Self::Body(_) | Self::Huge(_) => true,
            Self::After(_, then) => then.replaces_reply(),
            _ => false,
        }
    }

    /// Reads the form the control endpoint and [`Display`] use, e.g. `{"behaviour": "delay",
    /// "ms": 500}`. Members: `ms` (delay, trickle, and a pause before any other), `status`,
    /// `bytes` (huge), `sent` (reset_within), `declared` and `sent` (truncate), `body` or `body_base64` (body, not_http).
    pub fn from_json(value: &Value) -> Result<Self, String> {
        let number = |name: &str| {
            value.get(name).and_then(Value::as_u64).ok_or(format!("{name:?} must be a number"))
        };
        let word = value
            .get("behaviour")
            .and_then(Value::as_str)
            .ok_or("\"behaviour\" must be a text, such as \"delay\"")?;
        let behaviour = match word {
            "normal" => Self::Normal,
            "delay" => return Ok(Self::Delay(Duration::from_millis(number("ms")?))),
            "trickle" => return Ok(Self::Trickle(Duration::from_millis(number("ms")?))),
            "status" => Self::Status(
                u16::try_from(number("status")?)
                    .ok()
                    .filter(|status| (100..1000).contains(status))
                    .ok_or("\"status\" must be between 100 and 999")?,
            ),
            "body" => Self::Body(body_of(value)?),
            "reset" => Self::Reset,
            "close_before_answer" => Self::CloseBeforeAnswer,
            "half_close" => Self::HalfClose,
            "truncate" => Self::Truncate { declared: number("declared")?, sent: number("sent")? },
            "reset_within" => Self::ResetWithin(number("sent")?),
            "huge" => Self::Huge(number("bytes")?),
            "hang" => Self::Hang,
            "not_http" => Self::NotHttp(body_of(value)?),
            "chunked_answer" => Self::ChunkedAnswer,
            "keep_alive_off" => Self::KeepAliveOff,
            "stale_keep_alive" => Self::StaleKeepAlive,
            other => return Err(format!("no behaviour is called {other:?}")),
        };
        match value.get("ms") {
            None => Ok(behaviour),
            Some(_) => Ok(behaviour.after(Duration::from_millis(number("ms")?))),
        }
    }
}

fn body_of(value: &Value) -> Result<Vec<u8>, String> {
    match (value.get("body"), value.get("body_base64").and_then(Value::as_str)) {
        (Some(Value::String(text)), None) => Ok(text.clone().into_bytes()),
        (Some(json), None) => Ok(json.to_string().into_bytes()),
        (None, Some(text)) => {
            from_base64(text).ok_or_else(|| "\"body_base64\" is not base64".into())
        }
        (None, None) => Err("\"body\" or \"body_base64\" is missing".into()),
        (Some(_), Some(_)) => Err("\"body\" and \"body_base64\" exclude each other".into()),
    }
}

impl Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => write!(f, "normal"),
            Self::Delay(pause) => write!(f, "delay {pause:?}"),
            Self::After(pause, then) => write!(f, "{then} after {pause:?}"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Body(body) => write!(f, "body of {} bytes", body.len()),
            Self::Reset => write!(f, "reset"),
            Self::CloseBeforeAnswer => write!(f, "close_before_answer"),
            Self::HalfClose => write!(f, "half_close"),
            Self::Truncate { declared, sent } => write!(f, "truncate {sent} of {declared} bytes"),
            Self::ResetWithin(sent) => write!(f, "reset_within, after {sent} bytes"),
            Self::Trickle(pause) => write!(f, "trickle {pause:?}"),
            Self::Huge(bytes) => write!(f, "huge, {bytes} bytes"),
            Self::Hang => write!(f, "hang"),
            Self::NotHttp(bytes) => write!(f, "not_http, {} bytes", bytes.len()),
            Self::ChunkedAnswer => write!(f, "chunked_answer"),
            Self::KeepAliveOff => write!(f, "keep_alive_off"),
            Self::StaleKeepAlive => write!(f, "stale_keep_alive"),
        }
    }
}

/// What happens to a connection before its first byte is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnAccept {
    /// Serves it.
    #[default]
    Serve,
    /// Closes it.
    Close,
    /// Closes it with a TCP reset.
    Reset,
    /// Leaves it open and silent: no TLS handshake, no answer.
    Hang,
}

impl OnAccept {
    pub(crate) fn from_word(word: &str) -> Result<Self, String> {
        match word {
            "serve" => Ok(Self::Serve),
            "close" => Ok(Self::Close),
            "reset" => Ok(Self::Reset),
            "hang" => Ok(Self::Hang),
            other => {
                Err(format!("\"on_accept\" must be serve, close, reset or hang, not {other:?}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_every_behaviour_from_json() {
        let ms = Duration::from_millis;
        for (json, behaviour) in [
            (json!({"behaviour": "normal"}), Behaviour::Normal),
            (json!({"behaviour": "delay", "ms": 5}), Behaviour::Delay(ms(5))),
            (json!({"behaviour": "status", "status": 503}), Behaviour::Status(503)),
            (
                json!({"behaviour": "reset", "ms": 7}),
                Behaviour::After(ms(7), Box::new(Behaviour::Reset)),
            ),
            (json!({"behaviour": "body", "body": "[]"}), Behaviour::Body(b"[]".to_vec())),
            (json!({"behaviour": "body", "body": [1]}), Behaviour::Body(b"[1]".to_vec())),
            (
                json!({"behaviour": "not_http", "body_base64": "AP8="}),
                Behaviour::NotHttp(vec![0, 255]),
            ),
            (
                json!({"behaviour": "truncate", "declared": 9, "sent": 3}),
                Behaviour::Truncate { declared: 9, sent: 3 },
            ),
            (json!({"behaviour": "reset_within", "sent": 3}), Behaviour::ResetWithin(3)),
            (json!({"behaviour": "huge", "bytes": 10}), Behaviour::Huge(10)),
            (json!({"behaviour": "trickle", "ms": 1}), Behaviour::Trickle(ms(1))),
        ] {
            assert_eq!(Behaviour::from_json(&json), Ok(behaviour), "{json}");
        }
        for word in [
            "close_before_answer",
            "half_close",
            "hang",
            "chunked_answer",
            "keep_alive_off",
            "stale_keep_alive",
        ] {
            let behaviour = Behaviour::from_json(&json!({"behaviour": word})).unwrap();
            assert_eq!(behaviour.to_string(), word);
        }
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for json in [
            json!({}),
            json!([]),
            json!({"behaviour": "explode"}),
            json!({"behaviour": "delay"}),
            json!({"behaviour": "status", "status": 70000}),
            json!({"behaviour": "body"}),
            json!({"behaviour": "body", "body_base64": "*"}),
        ] {
            assert!(Behaviour::from_json(&json).is_err(), "{json}");
        }
    }
}
