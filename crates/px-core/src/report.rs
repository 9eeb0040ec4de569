//! What the Risk API request and the activities say alike about a request: the fields of
//! `additional` and `details`, and the list of headers.
//!
//! Source: risk-api.md §§ 3.1 and 3.2, activities.md § 4.1. Everything is borrowed and written
//! straight into the body.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::anonymize;
use crate::cookies;
use crate::custom_parameters;
use crate::facts::Facts;
use crate::json::{List, Object};
use crate::policy::Policy;
use crate::request::{Header, Request};
use crate::visitor::TokenState;

/// Writes the fields that `additional` and `details` have in common. What is missing is left out,
/// never null.
pub(crate) fn write(report: &mut Object<'_>, facts: &Facts<'_>, policy: &Policy) {
    let Facts { request, visitor, url, .. } = facts;
    report.text("module_version", &policy.options().module_version);
    report.word("risk_mode", facts.mode.as_str());
    report.text("request_id", request.request_id);
    let options = policy.options();
    report.text_if_any("remote_config_id", &options.remote_config_id);
    if options.remote_config_version != 0 {
        report.number("remote_config_version", options.remote_config_version);
    }
    report.word("cookie_origin", visitor.origin.as_str());
    report.number("enforcer_start_time", facts.started);
    report.text_if_any("http_version", request.http_version);
    report.text("http_method", request.method);
    report.list("request_cookie_names", |list| {
        cookies::for_each_name(request, &policy.options().custom_cookie_header, |name| {
            list.text(name);
        });
    });
    if url.is_changed() {
        report.joined_text("raw_url", url.raw().parts());
    }
    if let Some(vid) = &visitor.vid {
        report.word("enforcer_vid_source", vid.source.as_str());
    }
    report.optional_text("orig_cookie_vid", visitor.orig_cookie_vid.as_deref());
    if let Some(extracted) = facts.extracted() {
        extracted.write(report);
    }
    if let Some(identifiers) = &facts.user_identifiers {
        identifiers.write(report);
    }
    report.flag("is_sensitive_route", facts.is_sensitive);
    write_tokens(report, facts, policy);
    report.text_if_any("tls_protocol", request.tls.protocol);
    report.text_if_any("tls_cipher", request.tls.cipher);
    report.text_if_any("tls_server", request.tls.server_name);
    report.optional_text("cross_tab_session", visitor.cross_tab_session.as_deref());
    custom_parameters::write_of_request(report, request, policy.options());
    if let Some(is_hype_sale) = request.hooks.is_hype_sale {
        report.flag("is_hype_sale", is_hype_sale);
        if is_hype_sale {
            report.flag("cpa", facts.is_challenge_approved());
        }
    }
}

/// The client's address as it is reported (flow.md § 3).
pub(crate) fn socket_ip<'r>(facts: &Facts<'r>, policy: &Policy) -> Cow<'r, str> {
    match policy.options().anonymize_ip {
        true => anonymize::address(facts.client_ip),
        false => Cow::Borrowed(facts.client_ip),
    }
}

fn write_tokens(report: &mut Object<'_>, facts: &Facts<'_>, policy: &Policy) {
    let visitor = &facts.visitor;
    match &visitor.token {
        TokenState::None | TokenState::MobileError(_) => {}
        TokenState::Successful(token) => {
            report.text("px_cookie", &*token.payload);
            report.text("px_cookie_hmac", &*token.hmac);
        }
        TokenState::DecryptionFailed(text) | TokenState::ValidationFailed(text) => {
            report.text("px_orig_cookie", &**text);
        }
    }
    let used_secret = visitor.used_secret.and_then(|index| policy.secrets().redacted(index));
    report.optional_text("used_cookie_secret", used_secret);
    if let Some(original) = &visitor.original_token {
        report.text("original_token", &*original.text);
        report.optional_text("px_decoded_original_token", original.decoded());
        report.optional_text("original_token_error", original.error());
    }
}

/// Bytes of names and values that are reported at most; what comes after is left out. nginx's own
/// limits stay far below it unless the operator raised them, and a report must stay postable.
const MAX_HEADER_BYTES: usize = 256 << 10;

/// Writes request headers as they are reported: one entry per value, those of a repeated header
/// together at the place of the first, names in lower case, sensitive ones left out (risk-api.md
/// § 3.1). Of a sensitive `Cookie` header the cookies that the operator allows are reported.
pub(crate) fn write_headers(list: &mut List<'_>, request: &Request<'_>, policy: &Policy) {
    let options = policy.options();
    let mut room = Some(MAX_HEADER_BYTES);
    for_each_in_groups(request.headers, |header| {
        if room.is_none() || policy.is_sensitive_header(header.name) {
            return;
        }
        room = room.and_then(|room| room.checked_sub(header.name.len() + header.value.len()));
        if room.is_some() {
            list.object(|entry| {
                entry.text_in_lower_case("name", header.name);
                if options.anonymize_ip {
                    entry.text("value", anonymize::header_value(header.name, header.value));
                } else {
                    entry.text("value", header.value);
                }
            });
        }
    });
    if !options.allowed_cookies.is_empty()
        && policy.is_sensitive_header(b"cookie")
        && let Some(cookies) = cookies::only(request, &options.allowed_cookies)
    {
        list.object(|entry| {
            entry.word("name", "cookie");
            entry.text("value", cookies);
        });
    }
}

/// Up to this many headers, comparing with each is cheaper than a table.
const FEW_HEADERS: usize = 32;

/// Visits the headers in order of arrival, those of equal name together with the first of them.
fn for_each_in_groups(headers: &[Header<'_>], mut visit: impl FnMut(&Header<'_>)) {
    if are_distinct(headers) {
        return headers.iter().for_each(visit);
    }
    if headers.len() > FEW_HEADERS {
        return in_groups(headers).into_iter().for_each(visit);
    }
    let mut rest = headers;
    while let Some((header, after)) = rest.split_first() {
        let before = headers.get(..headers.len() - rest.len()).unwrap_or_default();
        let same_name = |other: &&Header<'_>| other.name.eq_ignore_ascii_case(header.name);
        if !before.iter().any(|other| same_name(&other)) {
            visit(header);
            after.iter().filter(same_name).for_each(&mut visit);
        }
        rest = after;
    }
}

/// Whether a few headers surely have as many names: true for nearly all requests, and cheaper than
/// comparing the names.
fn are_distinct(headers: &[Header<'_>]) -> bool {
    let mut marks = [0; FEW_HEADERS];
    headers.len() <= marks.len()
        && headers.iter().enumerate().all(|(count, header)| {
            let mark = mark_of(header.name);
            let (earlier, free) = marks.split_at_mut(count);
            free.iter_mut().take(1).for_each(|free| *free = mark);
            !earlier.contains(&mark)
        })
}

/// A number that names have in common that differ in the case of their letters only, and few others:
/// length, first letter and the last four, as `Sec-Fetch-Mode` and `Sec-Fetch-Site` need.
fn mark_of(name: &[u8]) -> u64 {
    let lower_case = |byte: &u8| u64::from(byte | 0x20);
    let first = name.first().map_or(0, lower_case);
    let last = match name.last_chunk() {
        Some(last) => u64::from(u32::from_le_bytes(*last) | 0x2020_2020),
        None => name.iter().fold(0, |all, byte| all << 8 | lower_case(byte)),
    };
    last << 32 | first << 24 | (name.len() as u64 & 0xff_ffff)
}

/// The same for any number of headers: linear, however many a hostile client sends.
fn in_groups<'a>(headers: &'a [Header<'a>]) -> Vec<&'a Header<'a>> {
    let mut first_places: HashMap<Vec<u8>, usize> = HashMap::with_capacity(headers.len());
    let mut first_place = |(place, header): (usize, &'a Header<'a>)| {
        (*first_places.entry(header.name.to_ascii_lowercase()).or_insert(place), header)
    };
    let mut placed: Vec<_> = headers.iter().enumerate().map(&mut first_place).collect();
    // Stable: within a name the order of arrival stays.
    placed.sort_by_key(|(first, _)| *first);
    placed.into_iter().map(|(_, header)| header).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sample::{self, headers, policy};

    fn reported(list: &[(&str, &str)]) -> Value {
        let policy = policy(|options| {
            options.sensitive_headers = vec!["cookie".to_owned(), "x-secret".to_owned()];
        });
        let headers = headers(list);
        let mut out = Vec::new();
        crate::json::object(&mut out, |object| {
            let request = sample::request(&headers);
            object.list("headers", |list| write_headers(list, &request, &policy));
        });
        let mut json: Value = serde_json::from_slice(&out).expect("JSON");
        json["headers"].take()
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
    fn allowed_cookies_are_reported_although_the_header_is_sensitive() {
        let list = [("cookie", "a=1; b=2;c=3"), ("x", "y"), ("Cookie", "b=4; d; a=")];
        let headers = headers(&list);
        let request = sample::request(&headers);
        for (allowed, sensitive, expected) in [
            (
                &["b", "c"][..],
                true,
                json!([{"name": "x", "value": "y"}, {"name": "cookie", "value": "b=2; c=3; b=4"}]),
            ),
            (&["d", "e"], true, json!([{"name": "x", "value": "y"}])),
            (&[], true, json!([{"name": "x", "value": "y"}])),
            (
                &["a"],
                false,
                json!([
                    {"name": "cookie", "value": "a=1; b=2;c=3"},
                    {"name": "cookie", "value": "b=4; d; a="},
                    {"name": "x", "value": "y"},
                ]),
            ),
        ] {
            let policy = policy(|options| {
                options.allowed_cookies = allowed.iter().map(|name| (*name).to_owned()).collect();
                if !sensitive {
                    options.sensitive_headers.clear();
                }
            });
            let mut out = Vec::new();
            crate::json::object(&mut out, |object| {
                object.list("headers", |list| write_headers(list, &request, &policy));
            });
            let mut json: Value = serde_json::from_slice(&out).expect("JSON");
            assert_eq!(json["headers"].take(), expected, "{allowed:?}");
        }
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
