//! Code Defender's Content-Security-Policy: how the policy arrives, and which headers it becomes.
//!
//! Source: csp.md. An answer of HUMAN's service is data from outside: what cannot be read changes
//! nothing, and what could not stand in a header becomes none.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::crypto::decode_base64;

/// Where policies come from, unless the operator says otherwise.
pub const DATA_URL: &str = "https://api.perimeterx.com/v1/enforcer-data";

const ENFORCED: &str = "Content-Security-Policy";
const REPORT_ONLY: &str = "Content-Security-Policy-Report-Only";

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 128 << 10;

/// The visitor's Code Defender id, in whose name reports are made.
pub const VISITOR_COOKIE: &str = "__pxvid";

/// The policy of one application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CspPolicy {
    enforced: String,
    /// In the order in which they are tried: text, and percentage of answers that get it.
    report_only: [(String, u32); 2],
}

/// URL that the policy is fetched from. `base` has no query.
pub fn fetch_url(base: &str, app_id: &str) -> String {
    format!("{base}?app_id={app_id}&feature=csp&timestamp=0")
}

/// The policy in an answer, in the form that is kept for [`CspPolicy::parse`]. The error says for the
/// operator why there is none.
pub fn read_answer(status: u16, body: &[u8]) -> Result<Vec<u8>, String> {
    if status != 200 {
        return Err(format!("HTTP status {status}"));
    }
    if body.len() > MAX_ANSWER {
        return Err(format!("the answer is larger than {MAX_ANSWER} bytes"));
    }
    let answer: Value =
        serde_json::from_slice(body).map_err(|_| "the answer is not JSON".to_owned())?;
    if answer.get("success") != Some(&Value::Bool(true)) {
        return Err("the answer says that it is no success".to_owned());
    }
    let data = answer.get("data").and_then(Value::as_str).filter(|data| !data.is_empty());
    let data = data.ok_or("the answer has no data")?;
    let data = decode_base64(data).ok_or("the data is not base64")?;
    let data: Value = serde_json::from_slice(&data).map_err(|_| "the data is not JSON")?;
    let policy = data.get("csp").and_then(Value::as_object);
    let policy = policy.ok_or("the data has no object \"csp\"")?;
    serde_json::to_vec(policy).map_err(|error| error.to_string())
}

impl CspPolicy {
    /// Reads what [`read_answer`] gave.
    pub fn parse(kept: &[u8]) -> Option<Self> {
        let fields: Map<String, Value> = serde_json::from_slice(kept).ok()?;
        let text = |name: &str| {
            let text = fields.get(name).and_then(Value::as_str).unwrap_or_default();
            text.to_owned()
        };
        let percentage = |name: &str| fields.get(name).map_or(0, percentage);
        Some(Self {
            enforced: text("csp"),
            report_only: [
                (text("cspro"), percentage("cspro_exposure")),
                (text("cspro_p2"), percentage("cspro_p2_exposure")),
            ],
        })
    }

    /// The headers of one answer. `draw` is a random number from 1 to 100, `session` a fresh UUID,
    /// `vid` the value of [`VISITOR_COOKIE`]; an empty `nonce` is none.
    pub fn headers(
        &self,
        draw: u32,
        session: &str,
        vid: Option<&[u8]>,
        nonce: &str,
    ) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        let report_only =
            self.report_only.iter().find(|(text, exposure)| !text.is_empty() && draw <= *exposure);
        let enforced = Some(&self.enforced).filter(|text| !text.is_empty());
        let named = [(ENFORCED, enforced), (REPORT_ONLY, report_only.map(|(text, _)| text))];
        for (name, text) in named {
            let Some(text) = text else { continue };
            // As in the other enforcers, nothing follows a policy that cannot be completed.
            let Some(text) = with_session(text, session, vid) else { break };
            if !text.contains(char::is_control) {
                headers.push((name, with_nonce(&text, nonce).into_owned()));
            }
        }
        headers
    }
}

/// A number, or the text of one; what lies beyond the percentages counts as the nearest.
fn percentage(value: &Value) -> u32 {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    let clamped = number.unwrap_or(0.0_f64).clamp(0.0, 100.0);
    // Whole steps: what lies behind the point, and what is no number at all, counts for nothing.
    (0..=100).rev().find(|step| f64::from(*step) <= clamped).unwrap_or(0)
}

/// The policy with session and visitor in the first URL of its `report-uri`; `None` if that is no
/// absolute URL.
fn with_session<'t>(policy: &'t str, session: &str, vid: Option<&[u8]>) -> Option<Cow<'t, str>> {
    const DIRECTIVE: &str = "report-uri ";
    let is_end = |letter: char| letter == ' ' || letter == ';';
    let found = policy.match_indices(DIRECTIVE).find_map(|(at, _)| {
        let start = at + DIRECTIVE.len();
        let rest = policy.get(start..)?;
        let length = rest.find(is_end).unwrap_or(rest.len());
        (length > 0).then_some((start, start + length))
    });
    let Some((start, end)) = found else { return Some(policy.into()) };
    let (before, url, after) = (policy.get(..start)?, policy.get(start..end)?, policy.get(end..)?);
    let (scheme, rest) = url.split_once("://")?;
    let is_scheme = |text: &str| {
        text.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    };
    if !is_scheme(scheme) || rest.starts_with(['/', '?', '#']) || rest.is_empty() {
        return None;
    }
    let (url, fragment) = url.split_at(url.find('#').unwrap_or(url.len()));
    let mut text = format!("{before}{url}");
    match rest.find(['/', '?', '#']) {
        Some(at) if rest[at..].starts_with('/') => {}
        Some(at) if rest[at..].starts_with('?') => {
            text.insert(start + scheme.len() + 3 + at, '/');
        }
        _ => text.push('/'),
    }
    let separator = match url.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    text.push_str(&format!("{separator}p={}", form_encoded(session.as_bytes())));
    if let Some(vid) = vid.filter(|vid| !vid.is_empty()) {
        text.push_str(&format!("&v={}", form_encoded(vid)));
    }
    text.push_str(fragment);
    text.push_str(after);
    Some(text.into())
}

/// As a value in a query: the visitor chooses it, and could otherwise write on in the header.
fn form_encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' ' => text.push('+'),
            b'*' | b'-' | b'.' | b'_' => text.push(char::from(*byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The policy with a nonce for scripts; unchanged where the nonce is none.
pub fn with_nonce<'t>(policy: &'t str, nonce: &str) -> Cow<'t, str> {
    const DIRECTIVE: &str = "script-src ";
    if nonce.is_empty() || !nonce.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'=') {
        return policy.into();
    }
    let has_source = |rest: &str| rest.starts_with(|letter: char| letter != ' ' && letter != ';');
    let mut found = policy.match_indices(DIRECTIVE).map(|(at, _)| at + DIRECTIVE.len());
    let source = found.find(|at| policy.get(*at..).is_some_and(has_source));
    let (at, text) = match source {
        Some(at) => (at, format!("'nonce-{nonce}' ")),
        None => (policy.find(';').map_or(0, |at| at + 1), format!(" script-src 'nonce-{nonce}';")),
    };
    let mut policy = policy.to_owned();
    policy.insert_str(at, &text);
    policy.into()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use serde_json::json;

    use super::*;

    fn policy(fields: Value) -> CspPolicy {
        CspPolicy::parse(fields.to_string().as_bytes()).expect("an object")
    }

    #[test]
    fn an_answer_becomes_a_policy_or_says_why_not() {
        let answer = |data: Value| {
            let data = BASE64.encode(data.to_string());
            json!({"success": true, "data": data}).to_string()
        };
        let good = answer(json!({"csp": {"csp": "default-src *"}, "more": 1}));
        let kept = read_answer(200, good.as_bytes()).expect("a policy");
        let headers = CspPolicy::parse(&kept).expect("what was kept").headers(1, "s", None, "");
        assert_eq!(headers, [(ENFORCED, "default-src *".to_owned())]);
        for (status, body) in [
            (500, good.clone()),
            (200, "{".to_owned()),
            (200, "[]".to_owned()),
            (200, good.replace("true", "false")),
            (200, good.replace("true", "1")),
            (200, json!({"success": true}).to_string()),
            (200, json!({"success": true, "data": ""}).to_string()),
            (200, json!({"success": true, "data": "%%"}).to_string()),
            (200, json!({"success": true, "data": "aGVsbG8="}).to_string()),
            (200, answer(json!({}))),
            (200, answer(json!({"csp": "text"}))),
            (200, " ".repeat(MAX_ANSWER + 1)),
        ] {
            assert!(read_answer(status, body.as_bytes()).is_err(), "{status} {body:.80}");
        }
        assert_eq!(
            fetch_url(DATA_URL, "PXa"),
            "https://api.perimeterx.com/v1/enforcer-data?app_id=PXa&feature=csp&timestamp=0"
        );
    }

    #[test]
    fn the_visitors_id_cannot_write_on_in_the_header() {
        let own = policy(json!({"csp": "report-uri https://h/r#f; img-src *"}));
        for (vid, expected) in [
            (&b"abc-1"[..], "report-uri https://h/r?p=s&v=abc-1#f; img-src *"),
            (b"a b;\r\nx: y", "report-uri https://h/r?p=s&v=a+b%3B%0D%0Ax%3A+y#f; img-src *"),
            (b"", "report-uri https://h/r?p=s#f; img-src *"),
        ] {
            assert_eq!(own.headers(100, "s", Some(vid), "")[0].1, expected);
        }
        let split =
            policy(json!({"csp": "a\r\nset-cookie: x=y", "cspro": "b", "cspro_exposure": 100}));
        assert_eq!(split.headers(1, "s", None, ""), [(REPORT_ONLY, "b".to_owned())]);
    }

    #[test]
    fn a_report_uri_is_completed_wherever_it_ends() {
        for (uri, expected) in [
            ("https://h", Some("https://h/?p=s")),
            ("https://h?", Some("https://h/?p=s")),
            ("https://h?a", Some("https://h/?a&p=s")),
            ("https://h/x?", Some("https://h/x?p=s")),
            ("//h/x", None),
            ("https:///x", None),
            ("1http://h/", None),
            ("'self'", None),
        ] {
            let own = policy(json!({"csp": format!("report-uri {uri}")}));
            let value = own.headers(1, "s", None, "").pop().map(|(_, value)| value);
            assert_eq!(value, expected.map(|uri| format!("report-uri {uri}")), "{uri}");
        }
    }

    #[test]
    fn odd_percentages_are_never_or_always() {
        for (exposure, shown) in [
            (json!(100), true),
            (json!(1e9), true),
            (json!("100"), true),
            (json!(99.9), false),
            (json!(-1), false),
            (json!("many"), false),
            (json!(null), false),
        ] {
            let own = policy(json!({"cspro": "a", "cspro_exposure": exposure}));
            assert_eq!(!own.headers(100, "s", None, "").is_empty(), shown, "{exposure}");
        }
    }
}
