//! Agentic Trust: what calls of an MCP endpoint are about, for the report only.
//!
//! Source: agentic-trust.md. Nothing here decides anything.

use crate::body::document::Document;
use crate::json::Object;
use crate::request::{Request, text};

/// Names of arguments that are reported at most; further ones are left out.
const MAX_ARGUMENTS: usize = 1000;

#[derive(Clone, Debug)]
pub struct AgenticTrustOptions {
    pub enabled: bool,
    pub mcp_endpoint_path: String,
}

impl Default for AgenticTrustOptions {
    fn default() -> Self {
        Self { enabled: false, mcp_endpoint_path: "/mcp".to_owned() }
    }
}

/// Whether `path`, normalised, is the endpoint's: the same text, slashes at the end aside.
pub fn is_endpoint(options: &AgenticTrustOptions, path: &str) -> bool {
    let own = options.mcp_endpoint_path.trim_end_matches('/');
    options.enabled && path.trim_end_matches('/') == own
}

/// Whether the body of a request to the endpoint is a call.
pub fn wants_body(request: &Request<'_>) -> bool {
    request.method == b"POST"
}

/// What a request to the endpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mcp {
    http_method: String,
    session_id: Option<String>,
    method: Option<String>,
    tool_name: Option<String>,
    /// Joined by commas.
    tool_argument_keys: Option<String>,
}

/// Reads a request to the endpoint; `call` is its body, if it has one that is JSON. Of a batch the
/// first call counts.
pub(crate) fn read(request: &Request<'_>, call: Option<&Document<'_>>) -> Mcp {
    let call = match call {
        Some(Document::List(calls)) => calls.first(),
        call => call,
    };
    let member_text = |object: Option<&Document<'_>>, name| {
        let text = object.and_then(|object| object.member(name)).and_then(Document::as_text);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let params = call.and_then(|call| call.member("params"));
    Mcp {
        http_method: text(request.method).into_owned(),
        session_id: request
            .non_empty_header("mcp-session-id")
            .map(|session_id| text(session_id).into_owned()),
        method: member_text(call, "method"),
        tool_name: member_text(params, "name"),
        tool_argument_keys: params
            .and_then(|params| params.member("arguments"))
            .map(joined_keys)
            .filter(|keys| !keys.is_empty()),
    }
}

/// Names of an object's members, or the indices of a list's.
fn joined_keys(arguments: &Document<'_>) -> String {
    match arguments {
        Document::Object(members) => {
            let names = members.iter().take(MAX_ARGUMENTS).map(|(name, _)| name.as_str());
            names.collect::<Vec<_>>().join(",")
        }
        Document::List(items) => {
            let indices = (0..items.len().min(MAX_ARGUMENTS)).map(|index| index.to_string());
            indices.collect::<Vec<_>>().join(",")
        }
        _ => String::new(),
    }
}

impl Mcp {
    /// Whether the request names its session; if not, the response may.
    pub fn has_session_id(&self) -> bool {
        self.session_id.is_some()
    }

    /// `session_id` is that of the response, if there is one.
    pub(crate) fn write(&self, report: &mut Object<'_>, session_id: Option<&[u8]>) {
        report.text("mcp_http_method", &self.http_method);
        let own = self.session_id.as_deref().map(str::as_bytes);
        let known = own.or(session_id).filter(|session_id| !session_id.is_empty());
        report.optional_text("mcp_session_id", known);
        report.optional_text("mcp_method", self.method.as_deref());
        report.optional_text("mcp_tool_name", self.tool_name.as_deref());
        report.optional_text("mcp_tool_argument_keys", self.tool_argument_keys.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sample::{self, headers};

    #[test]
    fn slashes_at_the_end_do_not_count_and_off_is_off() {
        for (path, own, expected) in [
            ("/mcp", "/mcp", true),
            ("/mcp", "/mcp//", true),
            ("/mcp/", "/mcp", true),
            ("/mcpx", "/mcp", false),
            ("/MCP", "/mcp", false),
            ("/mcp/v1", "/mcp", false),
            ("/", "/", true),
            ("/mcp", "/", false),
        ] {
            let mut options =
                AgenticTrustOptions { enabled: true, mcp_endpoint_path: own.to_owned() };
            assert_eq!(is_endpoint(&options, path), expected, "{path} {own}");
            options.enabled = false;
            assert!(!is_endpoint(&options, path));
        }
    }

    fn reported(body: &str, session_id: Option<&[u8]>) -> Value {
        let request = Request { method: b"POST", ..sample::request(&[]) };
        let document = Document::parse(body.as_bytes());
        let mcp = read(&request, document.as_ref());
        let mut out = Vec::new();
        crate::json::object(&mut out, |report| mcp.write(report, session_id));
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn a_call_is_named_and_its_arguments_never_told() {
        let body = r#"[{"method":"tools/call","params":{"name":"pay","arguments":{"iban":"secret","sum":5}}},
                       {"method":"other"}]"#;
        assert_eq!(
            reported(body, None),
            json!({
                "mcp_http_method": "POST", "mcp_method": "tools/call", "mcp_tool_name": "pay",
                "mcp_tool_argument_keys": "iban,sum",
            })
        );
        for body in
            ["", "[]", "null", "5", r#"{"method":5,"params":[]}"#, r#"{"params":{"arguments":""}}"#]
        {
            assert_eq!(reported(body, None), json!({"mcp_http_method": "POST"}), "{body}");
        }
    }

    #[test]
    fn the_session_is_the_requests_or_else_the_responses() {
        assert_eq!(reported("", Some(b"new"))["mcp_session_id"], "new");
        assert!(reported("", Some(b"")).get("mcp_session_id").is_none());
        let headers = headers(&[("Mcp-Session-Id", "old")]);
        let mcp = read(&sample::request(&headers), None);
        let mut out = Vec::new();
        crate::json::object(&mut out, |report| mcp.write(report, Some(b"new")));
        let report: Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(report, json!({"mcp_http_method": "GET", "mcp_session_id": "old"}));
        assert!(mcp.has_session_id());
    }

    #[test]
    fn a_thousand_argument_names_are_enough() {
        let members: Vec<_> = (0..5000).map(|n| format!("\"k{n}\":0")).collect();
        let body = format!("{{\"params\":{{\"arguments\":{{{}}}}}}}", members.join(","));
        let keys = reported(&body, None)["mcp_tool_argument_keys"].take();
        assert_eq!(keys.as_str().map(|keys| keys.split(',').count()), Some(MAX_ARGUMENTS));
    }
}
