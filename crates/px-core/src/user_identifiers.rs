//! Account Defender: who is logged in, by the claims of a JSON Web Token in a cookie or header.
//!
//! Source: account-defender-jwt.md. The token is not verified: what it claims is reported, and
//! decides nothing.

use zeroize::Zeroizing;

use crate::body::{self, document::Document};
use crate::cookies;
use crate::crypto::decode_base64;
use crate::json::{self, Object};
use crate::request::Request;

/// Where the token is, and which of its claims are reported; dotted paths.
#[derive(Clone, Debug, Default)]
pub struct UserIdentifierOptions {
    /// Empty: no cookie.
    pub cookie_name: String,
    pub cookie_user_id_field: String,
    pub cookie_additional_fields: Vec<String>,
    /// Empty: no header.
    pub header_name: String,
    pub header_user_id_field: String,
    pub header_additional_fields: Vec<String>,
}

/// What is reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserIdentifiers {
    /// JSON.
    app_user_id: Option<String>,
    /// Name and JSON value; `None` without a token.
    additional_fields: Option<Vec<(String, String)>>,
}

/// Reads the token of `request`, if there is one to be read; `None` if there is nothing to report.
/// `additional` are fields of the operator's own, name and value (`px_jwt_additional_field`).
pub fn read(
    request: &Request<'_>,
    custom_cookie_header: &str,
    options: &UserIdentifierOptions,
    additional: &[(&str, &str)],
) -> Option<UserIdentifiers> {
    let mut found = from_token(request, custom_cookie_header, options);
    for (name, value) in additional.iter().filter(|(_, value)| !value.is_empty()) {
        let mut text = Vec::new();
        json::write(value, &mut text);
        let Ok(text) = String::from_utf8(text) else { continue };
        let fields = found.get_or_insert_default().additional_fields.get_or_insert_default();
        set(fields, name, text);
    }
    found
}

/// The claims of the first token that is there (§ 1): one that cannot be used is not made up for by
/// the header.
fn from_token(
    request: &Request<'_>,
    custom_cookie_header: &str,
    options: &UserIdentifierOptions,
) -> Option<UserIdentifiers> {
    let named = |name: &str| !name.is_empty();
    let cookie = named(&options.cookie_name)
        .then(|| cookies::value_of(request, custom_cookie_header, &options.cookie_name))
        .flatten();
    let (token, user_id_field, additional_fields) = match cookie {
        Some(token) => (token, &options.cookie_user_id_field, &options.cookie_additional_fields),
        None if named(&options.header_name) => {
            let token = request.header(&options.header_name)?;
            (token, &options.header_user_id_field, &options.header_additional_fields)
        }
        None => return None,
    };
    if user_id_field.is_empty() {
        return None;
    }
    let payload = payload(token)?;
    let claims = Document::parse(payload.as_bytes()).filter(Document::is_truthy)?;
    let claim = |path: &str| claims.walk(path).filter(|value| value.is_truthy()).and_then(as_json);
    let mut fields = Vec::new();
    for path in additional_fields {
        if let Some(value) = claim(path) {
            set(&mut fields, path.rsplit('.').next().unwrap_or_default(), value);
        }
    }
    Some(UserIdentifiers { app_user_id: claim(user_id_field), additional_fields: Some(fields) })
}

/// Of several values of one name the last counts, in the place of the first, as in a JavaScript
/// object.
fn set(fields: &mut Vec<(String, String)>, name: &str, value: String) {
    match fields.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = value,
        None => fields.push((name.to_owned(), value)),
    }
}

fn as_json(value: &Document<'_>) -> Option<String> {
    let mut text = Vec::new();
    json::write(value, &mut text);
    String::from_utf8(text).ok()
}

/// The payload of a token: its second part (§ 2), in either alphabet of base64, with or without
/// padding (DECISIONS, tag `lenient_base64`).
fn payload(token: &[u8]) -> Option<Zeroizing<String>> {
    let part = token.split(|byte| *byte == b'.').nth(1).filter(|part| !part.is_empty())?;
    Some(body::text(&decode_base64(std::str::from_utf8(part).ok()?)?))
}

impl UserIdentifiers {
    pub(crate) fn write(&self, report: &mut Object<'_>) {
        if let Some(user_id) = &self.app_user_id {
            report.json("app_user_id", user_id);
        }
        if let Some(fields) = &self.additional_fields {
            report.object("jwt_additional_fields", |object| {
                for (name, value) in fields {
                    object.named_json(name, value);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;
    use crate::sample::{self, headers};

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn options() -> UserIdentifierOptions {
        UserIdentifierOptions {
            cookie_name: "auth".to_owned(),
            cookie_user_id_field: "user.id".to_owned(),
            cookie_additional_fields: vec!["user.role".to_owned(), "tenant".to_owned()],
            header_name: "Authorization".to_owned(),
            header_user_id_field: "sub".to_owned(),
            header_additional_fields: Vec::new(),
        }
    }

    fn reported(lines: &[(&str, &str)], additional: &[(&str, &str)]) -> Value {
        let headers = headers(lines);
        let found = read(&sample::request(&headers), "x-px-cookies", &options(), additional);
        let Some(found) = found else { return Value::Null };
        let mut out = Vec::new();
        json::object(&mut out, |report| found.write(report));
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn the_cookie_counts_before_the_header_even_if_it_is_no_token() {
        let cookie = token(r#"{"user":{"id":7,"role":"a"},"tenant":""}"#);
        let cookie = format!("x=1; auth={cookie}");
        let bearer = format!("Bearer {}", token(r#"{"sub":"b"}"#));
        let of_cookie = json!({"app_user_id": 7, "jwt_additional_fields": {"role": "a"}});
        let of_header = json!({"app_user_id": "b", "jwt_additional_fields": {}});
        let both = [("cookie", &*cookie), ("authorization", &*bearer)];
        assert_eq!(reported(&both, &[]), of_cookie);
        assert_eq!(reported(&both[1..], &[]), of_header);
        let broken = [("cookie", "auth=x"), ("authorization", &*bearer)];
        assert_eq!(reported(&broken, &[]), Value::Null);
    }

    #[test]
    fn what_is_no_token_is_nothing() {
        for value in ["", "x", "a.", "a..b", "a.!!!!.b", "a.bnVsbA.b", "a.////.b", "a.e.b"] {
            let cookie = format!("auth={value}");
            assert_eq!(reported(&[("cookie", &cookie)], &[]), Value::Null, "{value}");
        }
    }

    #[test]
    fn fields_of_the_operators_own_come_with_or_without_a_token() {
        let additional = [("plan", "gold \"1\""), ("empty", ""), ("tenant", "mine")];
        assert_eq!(
            reported(&[], &additional),
            json!({"jwt_additional_fields": {"plan": "gold \"1\"", "tenant": "mine"}})
        );
        let cookie = format!("auth={}", token(r#"{"tenant":"theirs"}"#));
        assert_eq!(
            reported(&[("cookie", &cookie)], &additional),
            json!({"jwt_additional_fields": {"tenant": "mine", "plan": "gold \"1\""}})
        );
    }

    #[test]
    fn payloads_are_decoded_in_either_alphabet() {
        let text = r#"{"user":{"id":"~~~???>>>"}} "#;
        for payload in [URL_SAFE_NO_PAD.encode(text), STANDARD.encode(text)] {
            let cookie = format!("auth=a.{payload}.c");
            let user_id = &reported(&[("cookie", &cookie)], &[])["app_user_id"];
            assert_eq!(user_id, "~~~???>>>", "{payload}");
        }
    }
}
