//! The Risk API: what it is asked, and what its answer means.
//!
//! Source: risk-api.md §§ 3, 5 and 6. An answer is data from outside: whatever is wrong with it, the
//! request passes, and the report says why.

use serde_json::{Map, Value};

use crate::facts::Facts;
use crate::json;
use crate::policy::{Policy, TokenVersion};
use crate::reason::{CallReason, S2sErrorReason};
use crate::report;
use crate::score::Score;
use crate::token::json_text::is_truthy;

/// Why a call gave no decision, as reported (risk-api.md § 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S2sError {
    pub reason: S2sErrorReason,
    /// Absent where no HTTP answer came.
    pub http_status: Option<u16>,
    /// At most [`MAX_ERROR_MESSAGE`] bytes.
    pub message: String,
}

impl S2sError {
    /// No HTTP answer came; `cause` says why.
    pub(crate) fn unreachable(cause: &str) -> Self {
        let message = shortened(cause.to_owned());
        Self { reason: S2sErrorReason::UnknownError, http_status: None, message }
    }

    /// No call was made; `cause` says why.
    pub(crate) fn not_sent(cause: &str) -> Self {
        Self { reason: S2sErrorReason::UnableToSendRequest, ..Self::unreachable(cause) }
    }
}

/// Longest error message that is reported, in bytes. Answers may be pages of any size.
pub const MAX_ERROR_MESSAGE: usize = 2048;

/// Longest answer that is read, in bytes. The genuine ones stay below 10 KiB.
const MAX_ANSWER: usize = 1 << 20;

/// JSON body of the request (risk-api.md § 3). `now` is the time just before sending, ms.
pub(crate) fn body(
    facts: &Facts<'_>,
    call_reason: &CallReason<'_>,
    policy: &Policy,
    now: u64,
) -> Vec<u8> {
    let payload = facts.visitor.payload();
    let mut out = Vec::with_capacity(4096);
    json::object(&mut out, |body| {
        body.optional_text("vid", facts.vid());
        body.optional_text("client_uuid", payload.and_then(|token| token.uuid.as_deref()));
        body.optional_text("pxhd", facts.visitor.pxhd.as_deref());
        body.object("request", |request| {
            request.text("socket_ip", &*report::socket_ip(facts, policy));
            request.list("headers", |list| {
                report::write_headers(list, &facts.request, policy);
            });
            request.joined_text("url", facts.url.normalised().parts());
        });
        body.object("additional", |additional| {
            additional.text("s2s_call_reason", call_reason.as_str().as_bytes());
            additional.number("risk_start_time", now);
            report::write(additional, facts, policy);
            if let Some(extracted) = facts.extracted() {
                extracted.write_mcp(additional, None);
            }
        });
    });
    out
}

/// What an answer says, and whether it decides (risk-api.md § 5).
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RiskAnswer {
    /// What is taken over even from an answer that is then judged invalid (§ 5.1).
    pub(crate) copied: Copied,
    /// `None`: it decides by its score.
    pub(crate) error: Option<S2sError>,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Copied {
    pub(crate) score: Option<Score>,
    pub(crate) action: Option<String>,
    pub(crate) uuid: Option<String>,
    pub(crate) pxhd: Option<String>,
    pub(crate) pxhd_domain: Option<String>,
    pub(crate) data_enrichment: Option<Value>,
    pub(crate) additional_risk_info: Option<String>,
    pub(crate) telemetry_requested: bool,
    /// The challenge of a hype sale is to be shown again (hype-sale.md).
    pub(crate) wants_hype_sale_challenge: bool,
}

/// Decision code of the Risk API for a hype sale that is not to be entered yet.
const HYPE_SALE_DRC: f64 = 7190.0;
const HYPE_SALE_ACTION: &str = "cp";

/// Reads an HTTP answer of any kind.
pub(crate) fn read_answer(status: u16, body: &[u8], version: TokenVersion) -> RiskAnswer {
    if status != 200 {
        let reason = match status {
            400..=499 => S2sErrorReason::BadRequest,
            500..=599 => S2sErrorReason::ServerError,
            _ => S2sErrorReason::UnknownError,
        };
        // An empty JSON string is reported as the empty body it stands for, as js-core does.
        let body = if body == b"\"\"" { b"" } else { body };
        let failure = error(reason, status, body, None);
        return RiskAnswer { copied: Copied::default(), error: Some(failure) };
    }
    let json = if body.len() <= MAX_ANSWER { serde_json::from_slice(body).ok() } else { None };
    // Arrays and scalars have no fields; only objects say anything.
    let Some(Value::Object(mut fields)) = json else {
        let invalid = error(S2sErrorReason::InvalidResponse, status, body, None);
        return RiskAnswer { copied: Copied::default(), error: Some(invalid) };
    };
    let failure = failure_of(&fields, version);
    let error = failure.map(|reason| error(reason, status, body, text(&mut fields, "message")));
    RiskAnswer { copied: Copied::from(fields, version), error }
}

fn failure_of(fields: &Map<String, Value>, version: TokenVersion) -> Option<S2sErrorReason> {
    let status = fields.get("status").and_then(Value::as_f64);
    let has_score = match version {
        TokenVersion::V2 => {
            matches!(fields.get("cookie_cfg_block_result").and_then(Value::as_str), Some("0" | "1"))
        }
        TokenVersion::V3 | TokenVersion::V3OrV1 => {
            matches!(fields.get("score"), Some(Value::Number(_)))
        }
    };
    if status == Some(-1.0) {
        Some(S2sErrorReason::RequestFailedOnServer)
    } else if status == Some(0.0) && has_score {
        None
    } else {
        Some(S2sErrorReason::InvalidResponse)
    }
}

impl Copied {
    fn from(mut fields: Map<String, Value>, version: TokenVersion) -> Self {
        let fields = &mut fields;
        let score = match version {
            TokenVersion::V2 => fields
                .get("cookie_cfg_block_result")
                .map(|result| Score(if result.as_str() == Some("1") { 100.0 } else { 0.0 })),
            TokenVersion::V3 | TokenVersion::V3OrV1 => fields.get("score").and_then(score),
        };
        let wants_hype_sale_challenge = fields.get("drc").and_then(Value::as_f64)
            == Some(HYPE_SALE_DRC)
            || fields.get("action").and_then(Value::as_str) == Some(HYPE_SALE_ACTION);
        Self {
            score,
            action: text(fields, "action"),
            uuid: text(fields, "uuid"),
            pxhd: text(fields, "pxhd"),
            pxhd_domain: text(fields, "pxhdDomain"),
            data_enrichment: fields.remove("data_enrichment").filter(is_truthy),
            additional_risk_info: text(fields, "additional_risk_info"),
            telemetry_requested: fields.get("telemetry_requested").is_some_and(is_truthy),
            wants_hype_sale_challenge,
        }
    }
}

/// A number, or a number in a text: the latter makes the answer invalid but stays visible.
fn score(value: &Value) -> Option<Score> {
    let number = match value {
        Value::String(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        other => other.as_f64(),
    };
    number.map(Score)
}

/// Takes a non-empty text out of the answer.
fn text(fields: &mut Map<String, Value>, name: &str) -> Option<String> {
    match fields.get_mut(name)?.take() {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn error(reason: S2sErrorReason, status: u16, body: &[u8], message: Option<String>) -> S2sError {
    let message = message.unwrap_or_else(|| {
        // A cut in the middle of a character is mended by the second cut.
        let body = body.get(..MAX_ERROR_MESSAGE).unwrap_or(body);
        format!("response body: {}", String::from_utf8_lossy(body))
    });
    S2sError { reason, http_status: Some(status), message: shortened(message) }
}

/// Cuts a message to [`MAX_ERROR_MESSAGE`] bytes, between characters.
fn shortened(mut message: String) -> String {
    let mut end = message.len().min(MAX_ERROR_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_reads_a_verdict_instead_of_a_score() {
        for (result, score, invalid) in [
            (r#","cookie_cfg_block_result":"0""#, Some(0.0), false),
            (r#","cookie_cfg_block_result":"1""#, Some(100.0), false),
            (r#","cookie_cfg_block_result":"2""#, Some(0.0), true),
            (r#","cookie_cfg_block_result":1"#, Some(0.0), true),
            (r#","score":100"#, None, true),
            ("", None, true),
        ] {
            let body = format!("{{\"status\":0{result}}}");
            let answer = read_answer(200, body.as_bytes(), TokenVersion::V2);
            assert_eq!(answer.copied.score, score.map(Score), "{result}");
            assert_eq!(answer.error.is_some(), invalid, "{result}");
        }
    }

    #[test]
    fn a_score_in_a_text_stays_visible_and_decides_nothing() {
        for (score, visible) in [
            (r#""100""#, Some(100.0)),
            (r#""0.5""#, Some(0.5)),
            (r#""high""#, None),
            (r#""inf""#, None),
            (r#""""#, None),
            ("true", None),
        ] {
            let body = format!("{{\"status\":0,\"score\":{score}}}");
            let answer = read_answer(200, body.as_bytes(), TokenVersion::V3);
            assert_eq!(answer.copied.score, visible.map(Score), "{score}");
            let reason = answer.error.map(|error| error.reason);
            assert_eq!(reason, Some(S2sErrorReason::InvalidResponse), "{score}");
        }
    }

    #[test]
    fn nothing_is_copied_from_other_than_200() {
        let body = br#"{"status":0,"score":100,"uuid":"u","pxhd":"h","telemetry_requested":true}"#;
        for status in [201, 403, 500] {
            let answer = read_answer(status, body, TokenVersion::V3);
            assert_eq!(answer.copied, Copied::default());
            assert_eq!(answer.error.and_then(|error| error.http_status), Some(status));
        }
    }

    #[test]
    fn messages_are_cut_between_characters() {
        for (letter, length) in [("x", 5000), ("\u{e9}", 1025), ("\u{1f600}", 600)] {
            let message = shortened(format!("-{}", letter.repeat(length)));
            assert!(message.len() <= MAX_ERROR_MESSAGE);
            assert!(message.len() > MAX_ERROR_MESSAGE - 4);
        }
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
