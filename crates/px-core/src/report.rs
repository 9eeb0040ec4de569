//! What the Risk API request and the activities say alike about a request: the fields of
//! `additional` and `details`, and the list of headers.
//!
//! Source: risk-api.md §§ 3.1 and 3.2, activities.md § 4.1. Everything is borrowed and written
//! straight into the body.

use std::borrow::Cow;

use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};

use crate::facts::Facts;
use crate::json::{LowerCase, Text};
use crate::policy::Policy;
use crate::reason::{CookieOrigin, ModuleMode, VidSource};
use crate::request::Header;
use crate::visitor::TokenState;

/// Fields that `additional` and `details` have in common. What is missing is left out, never null.
#[derive(Serialize)]
pub(crate) struct Report<'a, Url: Serialize> {
    module_version: &'a str,
    risk_mode: ModuleMode,
    request_id: &'a str,
    cookie_origin: CookieOrigin,
    enforcer_start_time: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    http_version: &'a str,
    http_method: Text<'a>,
    request_cookie_names: &'a [Cow<'a, str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_url: Option<Url>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enforcer_vid_source: Option<VidSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    orig_cookie_vid: Option<&'a str>,
    is_sensitive_route: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    px_cookie: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    px_cookie_hmac: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    px_orig_cookie: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_cookie_secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    px_decoded_original_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_token_error: Option<&'static str>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    tls_protocol: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    tls_cipher: Text<'a>,
    #[serde(skip_serializing_if = "Text::is_empty")]
    tls_server: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cross_tab_session: Option<&'a str>,
}

/// The report on `facts`.
pub(crate) fn report<'a>(facts: &'a Facts<'_>, policy: &'a Policy) -> Report<'a, impl Serialize> {
    let Facts { request, visitor, url, .. } = facts;
    let (px_cookie, px_cookie_hmac, px_orig_cookie) = match &visitor.token {
        TokenState::None | TokenState::MobileError(_) => (None, None, None),
        TokenState::Successful(token) => (Some(&*token.payload), Some(&*token.hmac), None),
        TokenState::DecryptionFailed(text) | TokenState::ValidationFailed(text) => {
            (None, None, Some(&**text))
        }
    };
    let original_token = visitor.original_token.as_ref();
    Report {
        module_version: &policy.options().module_version,
        risk_mode: facts.mode,
        request_id: request.request_id,
        cookie_origin: visitor.origin,
        enforcer_start_time: facts.started,
        http_version: request.http_version,
        http_method: Text(request.method),
        request_cookie_names: &visitor.cookie_names,
        raw_url: url.is_changed().then(|| url.raw()),
        enforcer_vid_source: visitor.vid.as_ref().map(|vid| vid.source),
        orig_cookie_vid: visitor.orig_cookie_vid.as_deref(),
        is_sensitive_route: facts.is_sensitive,
        px_cookie,
        px_cookie_hmac,
        px_orig_cookie,
        used_cookie_secret: visitor.used_secret.and_then(|at| policy.secrets().redacted(at)),
        original_token: original_token.map(|token| &*token.text),
        px_decoded_original_token: original_token.and_then(|token| token.decoded()),
        original_token_error: original_token.and_then(|token| token.error()),
        tls_protocol: Text(request.tls.protocol),
        tls_cipher: Text(request.tls.cipher),
        tls_server: Text(request.tls.server_name),
        cross_tab_session: visitor.cross_tab_session.as_deref(),
    }
}

/// Request headers as they are reported: one entry per value, those of a repeated header together
/// at the place of the first, names in lower case, sensitive ones left out (risk-api.md § 3.1).
pub(crate) struct Headers<'a> {
    pub(crate) headers: &'a [Header<'a>],
    pub(crate) policy: &'a Policy,
}

/// Bytes of names and values that are reported at most; what comes after is left out. nginx's own
/// limits stay far below it unless the operator raised them, and a report must stay postable.
const MAX_HEADER_BYTES: usize = 256 << 10;

#[derive(Serialize)]
struct Entry<'a> {
    name: LowerCase<'a>,
    value: Text<'a>,
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut room = MAX_HEADER_BYTES;
        for header in grouped(self.headers) {
            if self.policy.is_sensitive_header(header.name) {
                continue;
            }
            let Some(left) = room.checked_sub(header.name.len() + header.value.len()) else {
                break;
            };
            room = left;
            let entry = Entry { name: LowerCase(header.name), value: Text(header.value) };
            list.serialize_element(&entry)?;
        }
        list.end()
    }
}

/// The headers in order of arrival, those of equal name moved to the first of them.
fn grouped<'a>(headers: &'a [Header<'a>]) -> Vec<&'a Header<'a>> {
    let lower_case = |header: &Header<'_>| header.name.to_ascii_lowercase();
    let mut by_name: Vec<(usize, &Header<'_>)> = headers.iter().enumerate().collect();
    // Stable: within a name the order of arrival stays.
    by_name.sort_by_cached_key(|(_, header)| lower_case(header));
    let same_name = |one: &(usize, &Header<'_>), other: &(usize, &Header<'_>)| {
        one.1.name.eq_ignore_ascii_case(other.1.name)
    };
    let mut groups: Vec<_> = by_name.chunk_by(same_name).collect();
    groups.sort_by_key(|group| group.first().map(|(place, _)| *place));
    groups.into_iter().flatten().map(|(_, header)| *header).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sample::{headers, policy};

    fn reported(list: &[(&str, &str)]) -> Value {
        let policy = policy(|options| {
            options.sensitive_headers = vec!["cookie".to_owned(), "x-secret".to_owned()];
        });
        let headers = headers(list);
        let mut out = Vec::new();
        crate::json::write(&Headers { headers: &headers, policy: &policy }, &mut out);
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn repeated_headers_stand_together_at_the_first() {
        let list = [("A", "1"), ("b", "2"), ("C", "3"), ("a", "4"), ("c", ""), ("A", "5")];
        let expected = json!([
            {"name": "a", "value": "1"},
            {"name": "a", "value": "4"},
            {"name": "a", "value": "5"},
            {"name": "b", "value": "2"},
            {"name": "c", "value": "3"},
            {"name": "c", "value": ""},
        ]);
        assert_eq!(reported(&list), expected);
    }

    #[test]
    fn sensitive_headers_are_left_out_in_any_case() {
        let list = [("Cookie", "a"), ("X-SECRET", "b"), ("cookies", "c"), ("x-secrets", "d")];
        let expected =
            json!([{"name": "cookies", "value": "c"}, {"name": "x-secrets", "value": "d"}]);
        assert_eq!(reported(&list), expected);
    }

    #[test]
    fn five_hundred_headers_are_ordinary_and_the_total_is_bounded() {
        let names: Vec<_> = (0..500).map(|number| format!("x-{}", number % 250)).collect();
        let list: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let entries = reported(&list);
        let entries = entries.as_array().expect("a list");
        assert_eq!(entries.len(), 500);
        assert!(entries.chunks(2).all(|pair| pair[0]["name"] == pair[1]["name"]));

        let long = "v".repeat(MAX_HEADER_BYTES / 4);
        let list = [("a", &*long), ("b", &long), ("c", &long), ("d", &long), ("e", "short")];
        assert_eq!(reported(&list).as_array().map(Vec::len), Some(3));
    }
}
