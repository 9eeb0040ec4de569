//! What an operator writes: routes, regular expressions, networks, base URLs. The first line is the
//! value, the second a path it is tried on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use px_core::base_url::BaseUrl;
use px_core::filter::Network;
use px_core::policy::{Options, Policy};
use px_core::routes::{RegexPattern, RoutePattern};
use px_fuzz::first_line;
use px_fuzz::visit::{Site, Visit, basic, play};

fuzz_target!(|text: &[u8]| {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (value, path) = text.split_once('\n').unwrap_or((text, ""));
    let refused = |error: String| assert!(!error.contains('\n'), "{error:?}");

    match BaseUrl::parse(value) {
        Ok(url) => {
            assert_eq!(BaseUrl::parse(&url.to_string()), Ok(url.clone()));
            assert!(!url.to_string().contains(['"', '\'', ';', '{', '}', '$', '\\', ' ', '#']));
            let options = Options { backend_url: value.to_owned(), ..basic() };
            let policy = Policy::compile(options).expect("a URL that was read");
            assert!(policy.risk_url().starts_with(&url.to_string()));
        }
        Err(error) => refused(error),
    }
    match Network::parse(value) {
        Ok(network) => assert_eq!(Network::parse(&network.to_string()), Ok(network)),
        Err(error) => refused(error),
    }
    match RegexPattern::parse(value) {
        Ok(pattern) => try_expression(&pattern, path),
        Err(error) => refused(error),
    }
    match RoutePattern::parse_or_anchored_regex(value) {
        Ok(route) => try_route(&route, path),
        Err(error) => refused(error),
    }
});

/// A pattern means the same alone and among others.
fn try_route(route: &RoutePattern, path: &str) {
    let others = [RoutePattern::Prefix("/never/".to_owned()), RoutePattern::Exact("/".to_owned())];
    let routes = [&others[..], std::slice::from_ref(route)].concat();
    let site = Site::of(Options { sensitive_routes: routes, ..basic() });
    let played = play(&visit_to(path), &site);
    let Some(seen) = played.activity["url"].as_str() else { return };
    let path = seen.strip_prefix("https://h/").expect("our host");
    let path = format!("/{}", path.split(['?', '#']).next().unwrap_or_default());
    let expected = match route {
        RoutePattern::Prefix(text) => !text.is_empty() && path.starts_with(text.as_str()),
        RoutePattern::Exact(text) => path == *text,
        RoutePattern::Regex(pattern) => pattern.is_found_in(&path),
    };
    let expected = expected || path == "/" || path.starts_with("/never/");
    // What an origin may make of escapes and matrix parameters counts, too.
    let has_readings = path.contains(['%', ';']);
    assert!(played.is_sensitive == expected || (played.is_sensitive && has_readings));
}

/// Valid expressions work together, whole-path and host lists included.
fn try_expression(pattern: &RegexPattern, path: &str) {
    let options = Options {
        sensitive_routes_regex: vec![pattern.clone(), pattern.clone()],
        whitelist_uri_pattern: vec![pattern.clone()],
        filter_by_domain: vec![pattern.clone()],
        ..basic()
    };
    match Policy::compile(options.clone()) {
        Ok(_) => drop(play(&visit_to(path), &Site::of(options))),
        // The only excuse.
        Err(error) => assert!(error.to_string().contains("size limit"), "{error}"),
    }
}

fn visit_to(path: &str) -> Visit {
    let (path, _) = first_line(path.as_bytes());
    Visit { host: b"h".to_vec(), target: [b"/", path].concat(), ..Visit::usual() }
}
