//! One request as the sandbox received it.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::endpoint::Endpoint;

/// How far a gzip body may grow: enough for any batch, too little for a bomb.
const DECODED_MAX: u64 = 256 << 20;

/// A request, kept as it came: nothing lower-cased, sorted or merged.
#[derive(Clone, Debug)]
pub struct Received {
    /// Number of the request since the start, from 1, over all connections.
    pub number: u64,
    /// Number of the connection it came by, from 1.
    pub connection: u64,
    /// Number of the request on its connection, from 1: above 1, the connection was reused.
    pub on_connection: u64,
    /// Arrival of the request's last byte, Unix milliseconds.
    pub at_ms: u64,
    /// What it was for.
    pub endpoint: Endpoint,
    /// Request method.
    pub method: String,
    /// Request target with its query, verbatim.
    pub target: String,
    /// Minor HTTP version: 1 for HTTP/1.1.
    pub minor_version: u8,
    /// Header fields in order of arrival, names and values verbatim (values lossily UTF-8).
    pub headers: Vec<(String, String)>,
    /// Request line and header fields byte for byte, with the empty line.
    pub head: Vec<u8>,
    /// The body after transfer decoding, content coding untouched.
    pub body: Vec<u8>,
    /// Server name the client asked for in its TLS handshake.
    pub server_name: Option<String>,
    /// `TLSv1.3` or the like; none for plain HTTP.
    pub tls_version: Option<String>,
    /// The sandbox meant to answer this request in full with status 200. Whether the peer was still
    /// there is not known; after a slow answer it may not have been.
    pub accepted: bool,
    /// What was wrong with it (also in [`Sandbox::complaints`](crate::Sandbox::complaints)).
    pub complaints: Vec<String>,
}

impl Received {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The query without the question mark; none where the target has no question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The first value of a header, its name compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// All values of a header in order of arrival.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(present, _)| present.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body without its gzip coding; the error says why it cannot be decoded.
    pub fn content(&self) -> Result<Cow<'_, [u8]>, String> {
        match self.header("content-encoding") {
            None => Ok(Cow::Borrowed(&self.body)),
            Some(coding) if coding.eq_ignore_ascii_case("identity") => {
                Ok(Cow::Borrowed(&self.body))
            }
            Some(coding) if coding.eq_ignore_ascii_case("gzip") => {
                let mut content = Vec::new();
                MultiGzDecoder::new(self.body.as_slice())
                    .take(DECODED_MAX)
                    .read_to_end(&mut content)
                    .map_err(|why| format!("the body is not gzip: {why}"))?;
                Ok(Cow::Owned(content))
            }
            Some(coding) => Err(format!("content-encoding {coding:?} is not known here")),
        }
    }

    /// The body as JSON, without its gzip coding; `Null` where it is none.
    pub fn json(&self) -> Value {
        self.content().ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default()
    }

    /// The body as text, without its gzip coding where it has one that can be undone.
    pub fn text(&self) -> String {
        let body = self.content().unwrap_or(Cow::Borrowed(&self.body));
        String::from_utf8_lossy(&body).into_owned()
    }

    /// The activities in the body: of an array its elements, else the one value.
    pub fn activities(&self) -> Vec<Value> {
        self.elements()
    }

    /// Of an array in the body its elements, else the one value.
    pub(crate) fn elements(&self) -> Vec<Value> {
        match self.json() {
            Value::Array(elements) => elements,
            Value::Null => Vec::new(),
            single => vec![single],
        }
    }

    /// True where an enforcer proxied the request for a browser.
    pub fn is_first_party(&self) -> bool {
        self.header("x-px-first-party").is_some_and(|value| value == "1")
    }

    /// Bytes of the request as it came, chunked coding and TLS aside.
    pub(crate) fn length(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Bytes this record weighs in the journal.
    pub(crate) fn weight(&self) -> usize {
        // Head and header copies, body, and a little for the record itself.
        self.head.len() * 2 + self.body.len() + 256
    }
}

impl Received {
    /// What the request tells of, in a few words: for people.
    pub fn subject(&self) -> String {
        let body = match self.endpoint {
            Endpoint::RiskApi
            | Endpoint::Activities
            | Endpoint::Telemetry
            | Endpoint::EnforcerLogs => self.json(),
            _ => return format!("{} bytes", self.body.len()),
        };
        let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        match (self.endpoint, body) {
            (Endpoint::RiskApi, body) => format!(
                "{} {} {}",
                word(&body["additional"]["s2s_call_reason"]),
                word(&body["additional"]["http_method"]),
                word(&body["request"]["url"])
            ),
            (Endpoint::EnforcerLogs, body) => format!(
                "{} records of {} {}",
                body.as_array().map_or(0, Vec::len),
                word(&body[0]["method"]),
                word(&body[0]["path"])
            ),
            (_, Value::Array(list)) => format!(
                "{} activities: {}",
                list.len(),
                list.iter().map(|activity| word(&activity["type"])).collect::<Vec<_>>().join(", ")
            ),
            (_, activity) => {
                let details = &activity["details"];
                let reason = [&details["pass_reason"], &details["block_reason"]]
                    .into_iter()
                    .find_map(Value::as_str)
                    .unwrap_or_default();
                format!("{} {reason} {}", word(&activity["type"]), word(&activity["url"]))
            }
        }
    }
}
