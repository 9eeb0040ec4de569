//! Cross-origin requests: preflights that pass, and block answers a script may read.
//!
//! Source: cors.md. Nothing here applies unless `px_cors_support_enabled` is on.

use std::borrow::Cow;

use crate::policy::Policy;
use crate::request::Request;

/// What becomes of a preflight that is not enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preflight {
    /// The operator's handler answers; it wins over the filter.
    Handled,
    Passes,
}

/// `None` if `request` is no preflight, or one to be enforced.
pub(crate) fn preflight(request: &Request<'_>, policy: &Policy) -> Option<Preflight> {
    let options = policy.options();
    let is_preflight = options.cors_support_enabled
        && request.method == b"OPTIONS"
        && request.non_empty_header("origin").is_some()
        && request.non_empty_header("access-control-request-method").is_some();
    if !is_preflight {
        None
    } else if request.hooks.handles_preflight {
        Some(Preflight::Handled)
    } else {
        options.cors_preflight_request_filter_enabled.then_some(Preflight::Passes)
    }
}

/// Headers that let a script of another origin read a block answer: the operator's own, if there
/// are any, without those that have no value.
pub(crate) fn block_headers(
    request: &Request<'_>,
    policy: &Policy,
    own: Option<&[(&str, &str)]>,
) -> Vec<(Cow<'static, str>, String)> {
    let is_fit = |text: &str| !text.is_empty() && !text.contains(char::is_control);
    match own {
        _ if !policy.options().cors_support_enabled => Vec::new(),
        _ if request.non_empty_header("origin").is_none() => Vec::new(),
        Some(own) => {
            let fit = own.iter().filter(|(_, value)| is_fit(value));
            fit.map(|(name, value)| (Cow::Owned((*name).to_owned()), (*value).to_owned())).collect()
        }
        None => default_block_headers(request).into_iter().flatten().collect(),
    }
}

fn default_block_headers(request: &Request<'_>) -> Option<[(Cow<'static, str>, String); 3]> {
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
    use crate::hooks::Hooks;
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
            let policy = policy_with(support, filter);
            let passed = preflight(&request, &policy) == Some(Preflight::Passes);
            assert_eq!(passed, passes, "{method} {list:?} {support} {filter}");
            // Whatever is a preflight, the handler takes.
            let hooks = Hooks { handles_preflight: true, ..Hooks::NONE };
            let is_preflight = support
                && method == "OPTIONS"
                && headers.iter().all(|h| !h.value.is_empty())
                && headers.len() == 2;
            let handled = preflight(&Request { hooks: &hooks, ..request }, &policy);
            assert_eq!(handled, is_preflight.then_some(Preflight::Handled), "{method} {list:?}");
        }
    }

    #[test]
    fn headers_of_the_operators_own_replace_the_usual_ones() {
        let own = [("X-One", "1"), ("X-Empty", ""), ("X-Split", "a\r\nb: c")];
        let headers = headers(&[("origin", "https://app.example.net")]);
        for (support, origin, own, expected) in [
            (true, true, Some(&own[..]), vec![("X-One", "1")]),
            (true, true, Some(&[]), vec![]),
            (true, false, Some(&own[..]), vec![]),
            (false, true, Some(&own[..]), vec![]),
        ] {
            let request = sample::request(if origin { &headers } else { &[] });
            let received = block_headers(&request, &policy_with(support, false), own);
            let received: Vec<_> = received.iter().map(|(n, v)| (&**n, v.as_str())).collect();
            assert_eq!(received, expected);
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
            let received = block_headers(&sample::request(&headers), &policy, None);
            let value = received.first().map(|(_, value)| value.as_str());
            assert_eq!(value, expected);
        }
        let headers = headers(&[("origin", "null")]);
        let request = sample::request(&headers);
        assert!(block_headers(&request, &policy_with(false, true), None).is_empty());
    }
}
