//! User name and password out of a request (credential-intelligence.md § 2).

use std::fmt;

use zeroize::Zeroizing;

use super::endpoint::{Endpoint, SentThrough};
use crate::body::document::Document;
use crate::body::{form, multipart, text};
use crate::request::{self, Request};

/// Credentials as the visitor typed them; an empty text is there and empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Raw {
    pub user: Option<Zeroizing<String>>,
    pub pass: Option<Zeroizing<String>>,
}

/// It holds passwords.
impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Raw(***)")
    }
}

/// The credentials that `request` carries for `endpoint`; `None` if it has none. `query` is the
/// query string as received, `body` the request's body, if it could be read, and `custom` what the
/// operator's expressions say of user name and password.
pub fn extract(
    endpoint: &Endpoint,
    request: &Request<'_>,
    query: &str,
    body: Option<&[u8]>,
    custom: (&str, &str),
) -> Option<Raw> {
    let both = |find: &dyn Fn(&str) -> Option<Zeroizing<String>>| Raw {
        user: endpoint.user_fields.iter().find_map(|name| find(name)),
        pass: endpoint.pass_fields.iter().find_map(|name| find(name)),
    };
    let raw = match endpoint.sent_through {
        SentThrough::Header => both(&|name| request.header(name).map(text)),
        SentThrough::QueryParam => both(&|name| form::first(query.as_bytes(), name)),
        SentThrough::Custom => {
            let given = |text: &str| (!text.is_empty()).then(|| Zeroizing::new(text.to_owned()));
            Raw { user: given(custom.0), pass: given(custom.1) }
        }
        SentThrough::Body => {
            let body = body?;
            let content_type = request::text(request.header("content-type")?);
            // Media types are case-insensitive, other parts of the header are not
            // (DECISIONS, tag `content_type_case`).
            let lower = content_type.to_ascii_lowercase();
            if lower.contains("json") {
                of_json(endpoint, body)?
            } else if lower.contains("application/x-www-form-urlencoded") {
                let form = body.strip_prefix(b"?").unwrap_or(body);
                both(&|name| form::first(form, name))
            } else if lower.contains("multipart/form-data") {
                both(&|name| multipart::last(&content_type, body, name))
            } else {
                return None;
            }
        }
    };
    let is_given = |text: &Option<Zeroizing<String>>| text.as_ref().is_some_and(|t| !t.is_empty());
    (is_given(&raw.user) || is_given(&raw.pass)).then_some(raw)
}

fn of_json(endpoint: &Endpoint, body: &[u8]) -> Option<Raw> {
    let document = Document::parse(body)?;
    let user = field(&document, &endpoint.user_fields).ok()?;
    let pass = field(&document, &endpoint.pass_fields).ok()?;
    Some(Raw { user, pass })
}

/// A value that can be no credential.
struct Unfit;

/// The first text under one of `names`. What is false to JavaScript is absent; anything else but a
/// text spoils the whole.
fn field(document: &Document<'_>, names: &[String]) -> Result<Option<Zeroizing<String>>, Unfit> {
    let mut result = Ok(None);
    for name in names {
        match document.walk(name) {
            Some(Document::Text(text)) => {
                return Ok(Some(Zeroizing::new(text.as_str().to_owned())));
            }
            Some(value) if value.is_truthy() => result = Err(Unfit),
            _ => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, headers};

    fn endpoint(words: &[&str]) -> Endpoint {
        let words = [&["path=/login", "method=post"], words].concat();
        Endpoint::of_words(&words).expect("valid")
    }

    fn found(endpoint: &Endpoint, content_type: &str, body: &str) -> Option<(String, String)> {
        let headers = headers(&[("content-type", content_type)]);
        let request = sample::request(&headers);
        let raw = extract(endpoint, &request, "", Some(body.as_bytes()), ("", ""))?;
        let text = |text: Option<Zeroizing<String>>| text.map_or("-".to_owned(), |t| t.to_string());
        Some((text(raw.user), text(raw.pass)))
    }

    #[test]
    fn the_first_name_with_a_text_counts() {
        let endpoint = endpoint(&[
            "sent_through=body",
            "user_field=username",
            "user_field=account.email",
            "pass_field=password",
        ]);
        let json = |body| found(&endpoint, "application/json", body);
        let both = |user: &str, pass: &str| Some((user.to_owned(), pass.to_owned()));
        assert_eq!(json(r#"{"account":{"email":"e"},"password":"p"}"#), both("e", "p"));
        assert_eq!(
            json(r#"{"username":7,"account":{"email":"e"},"password":"p"}"#),
            both("e", "p")
        );
        assert_eq!(json(r#"{"username":7,"password":"p"}"#), None);
        assert_eq!(json(r#"{"username":"","password":""}"#), None);
        assert_eq!(json(r#"{"password":"p","username":null}"#), both("-", "p"));
        let form = |body| found(&endpoint, "Application/X-WWW-Form-Urlencoded", body);
        assert_eq!(form("?username=u&account.email=e&password=p"), both("u", "p"));
        assert_eq!(found(&endpoint, "text/plain", "username=u&password=p"), None);
    }

    #[test]
    fn custom_credentials_are_what_the_expressions_say() {
        let endpoint = endpoint(&["sent_through=custom", "user=$u", "pass=$p"]);
        let request = sample::request(&[]);
        let raw = extract(&endpoint, &request, "", None, ("u", "")).expect("found");
        assert_eq!(raw.user.as_ref().map(|user| user.as_str()), Some("u"));
        assert!(raw.pass.is_none());
        assert!(extract(&endpoint, &request, "", None, ("", "")).is_none());
        assert_eq!(format!("{raw:?}"), "Raw(***)");
    }
}
