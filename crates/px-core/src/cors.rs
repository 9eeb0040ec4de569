//! Cross-origin requests: preflights that pass, and block answers a script may read.
//!
//! Source: cors.md. Nothing here applies unless `px_cors_support_enabled` is on.

use std::borrow::Cow;

use crate::policy::Policy;
use crate::request::Request;

/// Whether `request` is a preflight that passes without enforcement.
pub(crate) fn passes_preflight(request: &Request<'_>, policy: &Policy) -> bool {
    let options = policy.options();
    options.cors_support_enabled
        && options.cors_preflight_request_filter_enabled
        && request.method == b"OPTIONS"
        && request.non_empty_header("origin").is_some()
        && request.non_empty_header("access-control-request-method").is_some()
}

/// Headers that let a script of another origin read a block answer.
pub(crate) fn block_headers(
    request: &Request<'_>,
    policy: &Policy,
) -> Option<[(Cow<'static, str>, String); 3]> {
    if !policy.options().cors_support_enabled {
        return None;
    }
    let origin = request.non_empty_header("origin")?;
    // What comes back in a header must be fit for one.
    let origin =
        std::str::from_utf8(origin).ok().filter(|text| !text.contains(char::is_control))?;
    Some([
        ("Access-Control-Allow-Origin".into(), origin.to_owned()),
        ("Access-Control-Allow-Credentials".into(), "true".to_owned()),
        ("Vary".into(), "Origin".to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Header;
    use crate::sample::{self, headers, policy};

    fn policy_with(support: bool, filter: bool) -> Policy {
        policy(|options| {
            options.cors_support_enabled = support;
            options.cors_preflight_request_filter_enabled = filter;
        })
    }

    #[test]
    fn a_preflight_needs_its_method_and_both_headers() {
        let both = [("Origin", "null"), ("Access-Control-Request-Method", "PUT")];
        for (method, list, support, filter, passes) in [
            ("OPTIONS", &both[..], true, true, true),
            ("OPTIONS", &both[..], true, false, false),
            ("OPTIONS", &both[..], false, true, false),
            ("GET", &both[..], true, true, false),
            ("OPTIONS", &both[..1], true, true, false),
            ("OPTIONS", &both[1..], true, true, false),
            ("OPTIONS", &[("origin", ""), both[1]], true, true, false),
        ] {
            let headers = headers(list);
            let request = Request { method: method.as_bytes(), ..sample::request(&headers) };
            let passed = passes_preflight(&request, &policy_with(support, filter));
            assert_eq!(passed, passes, "{method} {list:?} {support} {filter}");
        }
    }

    #[test]
    fn the_origin_comes_back_only_if_it_is_fit_for_a_header() {
        let policy = policy_with(true, false);
        for (origin, expected) in [
            (&b"https://app.example.net"[..], Some("https://app.example.net")),
            (b"null", Some("null")),
            (b"", None),
            (b"a\r\nx: y", None),
            (b"\xff", None),
        ] {
            let headers = [Header { name: b"origin", value: origin }];
            let received = block_headers(&sample::request(&headers), &policy);
            let value = received.as_ref().map(|[(_, value), ..]| value.as_str());
            assert_eq!(value, expected);
        }
        let headers = headers(&[("origin", "null")]);
        assert!(block_headers(&sample::request(&headers), &policy_with(false, true)).is_none());
    }
}
