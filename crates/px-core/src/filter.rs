//! Requests that pass unexamined: the filters and allow lists, in their fixed order.
//!
//! Source: flow.md § 7, § 4.2 for the allow lists of seed 004, DECISIONS 8 for the strict reading of
//! paths.

mod network;

pub use network::Network;

use std::borrow::Cow;

use crate::policy::{Options, PolicyError};
use crate::reason::FilterReason;
use crate::request::{self, Header, Request};
use crate::routes::{Expressions, RegexPattern, RoutePattern, Routes, Suffixes, Texts};
use crate::url::RequestUrl;
use crate::visitor;
use network::Networks;

/// The filters of one policy, ready for matching.
#[derive(Debug)]
pub(crate) struct Filters {
    strict: bool,
    /// With their leading dot.
    extensions: Texts,
    routes: Routes,
    whole_path: Expressions,
    suffixes: Suffixes,
    methods: Texts,
    user_agent: Routes,
    user_agent_parts: Expressions,
    user_agent_max_length: usize,
    networks: Networks,
    domains: Expressions,
    hosts: Texts,
    /// Name in lower case and exact value, sorted.
    headers: Vec<(String, String)>,
}

impl Filters {
    pub(crate) fn new(options: &Options) -> Result<Self, PolicyError> {
        Ok(Self {
            strict: options.filter_strict,
            extensions: options.filter_by_extension.iter().filter_map(|e| with_dot(e)).collect(),
            routes: Routes::new(&allowed_routes(options)).map_err(invalid("filter_by_route"))?,
            whole_path: Expressions::anchored(&options.whitelist_uri_pattern)
                .map_err(invalid("whitelist_uri_pattern"))?,
            suffixes: Suffixes::new(options.whitelist_uri_suffixes.iter().map(String::as_str)),
            methods: options.filter_by_http_method.iter().map(|m| m.to_ascii_uppercase()).collect(),
            user_agent: Routes::new(&allowed_user_agents(options))
                .map_err(invalid("filter_by_user_agent"))?,
            user_agent_parts: Expressions::literal(&options.whitelist_ua_sub)
                .map_err(invalid("whitelist_ua_sub"))?,
            user_agent_max_length: options.user_agent_max_length,
            networks: Networks::new(&options.filter_by_ip),
            domains: domains(&options.filter_by_domain).map_err(invalid("filter_by_domain"))?,
            hosts: options.whitelist_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            headers: headers(&options.filter_by_header),
        })
    }

    /// The first filter that lets the request pass, if any.
    pub(crate) fn first_match(
        &self,
        request: &Request<'_>,
        url: &RequestUrl<'_>,
        client_ip: &str,
    ) -> Option<FilterReason> {
        if self.passes_extension(request, url) {
            Some(FilterReason::Extension)
        } else if self.passes_route(url) || is_block_page(request, url) {
            Some(FilterReason::Route)
        } else if self.passes_method(request) {
            Some(FilterReason::HttpMethod)
        } else if self.passes_user_agent(request) {
            Some(FilterReason::UserAgent)
        } else if self.networks.contain(client_ip, request.peer_ip) {
            Some(FilterReason::Ip)
        } else if self.passes_host(url) {
            Some(FilterReason::Domain)
        } else if self.passes_header(request) {
            Some(FilterReason::Header)
        } else if request.hooks.is_filtered {
            Some(FilterReason::Custom)
        } else {
            None
        }
    }

    pub(crate) fn passes_extension(&self, request: &Request<'_>, url: &RequestUrl<'_>) -> bool {
        matches!(request.method, b"GET" | b"HEAD")
            && extension(url.path()).is_some_and(|extension| self.extensions.contains(extension))
            && self.trusts_end_of(url)
    }

    fn passes_route(&self, url: &RequestUrl<'_>) -> bool {
        let named = self.routes.matches(url.path()) || self.whole_path.is_found_in(url.path());
        (named && self.trusts_beginning_of(url))
            || (self.suffixes.matches(url.path()) && self.trusts_end_of(url))
    }

    /// Strict is strict for routes too: `/health/..%2flogin`, which nginx itself serves as `/login`,
    /// does not pass for `/health`.
    fn trusts_beginning_of(&self, url: &RequestUrl<'_>) -> bool {
        !self.strict || !url.hides_climb()
    }

    fn trusts_end_of(&self, url: &RequestUrl<'_>) -> bool {
        !self.strict || ends_plainly(url.raw_path())
    }

    fn passes_method(&self, request: &Request<'_>) -> bool {
        !self.methods.is_empty()
            && std::str::from_utf8(request.method).is_ok_and(|method| self.methods.contains(method))
    }

    fn passes_user_agent(&self, request: &Request<'_>) -> bool {
        if self.user_agent.is_empty() && self.user_agent_parts.is_empty() {
            return false;
        }
        let received = visitor::user_agent(request, self.user_agent_max_length);
        let user_agent = request::text(received);
        !user_agent.is_empty()
            && (self.user_agent.matches(&user_agent)
                || self.user_agent_parts.is_found_in(&user_agent))
    }

    fn passes_host(&self, url: &RequestUrl<'_>) -> bool {
        if self.hosts.is_empty() && self.domains.is_empty() {
            return false;
        }
        self.hosts.contains(url.host()) || self.domains.is_found_in(url.host())
    }

    fn passes_header(&self, request: &Request<'_>) -> bool {
        let is_listed = |header: &Header<'_>| {
            let place = self.headers.binary_search_by(|(name, value)| {
                let received = header.name.iter().map(u8::to_ascii_lowercase);
                name.bytes().cmp(received).then_with(|| value.as_bytes().cmp(header.value))
            });
            place.is_ok()
        };
        !self.headers.is_empty() && request.headers.iter().any(is_listed)
    }
}

/// Whether the request is for the custom block page, which must never be blocked itself: a path, or
/// an absolute URL.
fn is_block_page(request: &Request<'_>, url: &RequestUrl<'_>) -> bool {
    let page = request.hooks.custom_block_url;
    if page.is_empty() {
        return false;
    }
    let page = page.split(['?', '#']).next().unwrap_or_default();
    let path = match page.split_once("://") {
        None => Some(page),
        Some((_, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.split_once(':').map_or(authority, |(host, _)| host);
            host.eq_ignore_ascii_case(url.host()).then_some(path)
        }
    };
    path.is_some_and(|path| {
        path.starts_with('/') && path.trim_end_matches('/') == url.path().trim_end_matches('/')
    })
}

/// Everything that is compared with the whole path or its beginning, as one list.
fn allowed_routes(options: &Options) -> Vec<RoutePattern> {
    // An operator may paste `/path?query`; the query takes no part (flow.md § 4.2).
    let path_of = |uri: &String| uri.split('?').next().unwrap_or_default().to_owned();
    let full = options.whitelist_uri_full.iter().map(path_of).map(RoutePattern::Exact);
    let prefixes = options.whitelist_uri_prefixes.iter().cloned().map(RoutePattern::Prefix);
    options.filter_by_route.iter().cloned().chain(full).chain(prefixes).collect()
}

fn allowed_user_agents(options: &Options) -> Vec<RoutePattern> {
    let full = options.whitelist_ua_full.iter().cloned().map(RoutePattern::Exact);
    options.filter_by_user_agent.iter().cloned().chain(full).collect()
}

/// Host names have no case, whatever the expression says (options.md § 3).
fn domains(patterns: &[RegexPattern]) -> Result<Expressions, String> {
    let ignoring_case: Vec<_> = patterns.iter().map(RegexPattern::ignoring_case).collect();
    Expressions::new(ignoring_case.iter().map(Cow::as_ref))
}

fn headers(listed: &[(String, String)]) -> Vec<(String, String)> {
    let lower_case = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
    let mut headers: Vec<_> = listed.iter().map(lower_case).collect();
    headers.sort_unstable();
    headers
}

fn with_dot(extension: &str) -> Option<String> {
    let bare = extension.strip_prefix('.').unwrap_or(extension);
    (!bare.is_empty()).then(|| format!(".{bare}"))
}

/// Extension of the last segment with its dot. A segment that is only an extension (`.css`) or ends
/// in a dot has none.
fn extension(path: &str) -> Option<&str> {
    let at = path.bytes().rposition(|byte| matches!(byte, b'.' | b'/'))?;
    let (before, extension) = path.split_at_checked(at)?;
    let begins_segment = before.is_empty() || before.ends_with('/');
    (extension.starts_with('.') && extension.len() > 1 && !begins_segment).then_some(extension)
}

/// Whether the origin must see the end of this path, as received, the way the filters do. Origins
/// cut matrix parameters off, decode escapes, resolve dot segments or read `/page/x.css` as `/page`:
/// with any of these at hand, `/account;x.css` is the account page to the origin and a style sheet
/// to a filter.
fn ends_plainly(raw_path: &str) -> bool {
    const ENCODED_SYNTAX: [&str; 7] = ["2f", "5c", "3b", "3f", "23", "25", "00"];
    let is_syntax = |byte: u8| matches!(byte, b';' | b'\\' | b'#') || byte.is_ascii_control();
    let hides_syntax = |escape: &str| {
        escape.get(..2).is_some_and(|digits| {
            ENCODED_SYNTAX.iter().any(|syntax| digits.eq_ignore_ascii_case(syntax))
        })
    };
    let last = raw_path.rsplit('/').next().unwrap_or_default();
    !last.is_empty()
        && !last.bytes().any(is_syntax)
        && !last.split('%').skip(1).any(hides_syntax)
        && !raw_path.split(['/', '\\']).any(RequestUrl::is_dot_segment)
}

fn invalid(option: &'static str) -> impl Fn(String) -> PolicyError {
    move |reason| PolicyError::Invalid { option, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::Hooks;
    use crate::request::Tls;
    use crate::sample::headers;

    fn first_match(
        change: impl FnOnce(&mut Options),
        (method, host, target): (&str, &str, &str),
        headers: &[Header<'_>],
    ) -> Option<&'static str> {
        let mut options = Options::default();
        change(&mut options);
        let request = Request {
            method: method.as_bytes(),
            scheme: "https",
            host: host.as_bytes(),
            target: target.as_bytes(),
            http_version: "1.1",
            headers,
            peer_ip: "203.0.113.77",
            request_id: "",
            tls: Tls::default(),
            hooks: &Hooks::NONE,
            extracted: None,
        };
        let url = RequestUrl::new(&request, options.url_decode_reserved_characters);
        let filters = Filters::new(&options).expect("valid");
        filters.first_match(&request, &url, "203.0.113.77").map(FilterReason::as_str)
    }

    fn passes(strict: bool, change: impl FnOnce(&mut Options), target: &str) -> bool {
        let change = |options: &mut Options| {
            options.filter_strict = strict;
            change(options);
        };
        first_match(change, ("GET", "h", target), &[]).is_some()
    }

    #[test]
    fn extension_is_what_follows_the_last_dot_of_the_last_segment() {
        for (path, expected) in [
            ("/a.css", Some(".css")),
            ("/a.min.js", Some(".js")),
            ("/a.b/c", None),
            ("/.css", None),
            ("/a.", None),
            ("/..css", Some(".css")),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(extension(path), expected, "{path}");
        }
    }

    #[test]
    fn extensions_count_for_get_and_head_with_or_without_their_dot() {
        for (method, target, extensions, passed) in [
            ("GET", "/a.css", &["css"][..], true),
            ("HEAD", "/a.css?x=/b", &[".css"], true),
            ("POST", "/a.css", &["css"], false),
            ("get", "/a.css", &["css"], false),
            ("GET", "/a.CSS", &["css"], false),
            ("GET", "/a", &["", "."], false),
            ("GET", "/a.", &["", "."], false),
        ] {
            let extensions = extensions.iter().map(|text| (*text).to_owned()).collect();
            let reason = first_match(
                |options| options.filter_by_extension = extensions,
                (method, "h", target),
                &[],
            );
            assert_eq!(reason.is_some(), passed, "{method} {target}");
        }
    }

    #[test]
    fn strict_enforces_what_only_looks_like_a_static_file() {
        for target in [
            "/account;x.css",
            "/account;jsessionid=1/x;a.css",
            "/account%3bx.css",
            "/account%3Bx.css",
            "/account%2fx.css",
            "/account%5cx.css",
            "/account%3fx.css",
            "/account%23x.css",
            "/account%253bx.css",
            "/account%00.css",
            "/account\\x.css",
            "/static/../account.css",
            "/static/%2e%2E/account.css",
            "/static/./x.css",
            "/static\\..\\x.css",
            "/account.css/",
            "/account\u{1}.css",
        ] {
            assert!(!passes(true, |_| (), target), "{target}");
            let suffix = |options: &mut Options| {
                options.filter_by_extension.clear();
                options.whitelist_uri_suffixes = vec![".css".to_owned()];
            };
            assert!(!passes(true, suffix, target), "{target}");
        }
        for target in
            ["/a.css", "/a%20b.css", "/a;v=1/b.css", "/a+b,c.css?x;y=%2f..", "/a%2fb/c.css"]
        {
            assert!(passes(true, |_| (), target), "{target}");
        }
    }

    #[test]
    fn not_strict_is_the_rule_of_js_core() {
        for target in [
            "/account;x.css",
            "/account%3bx.css",
            "/account%2fx.css",
            "/static/../account.css",
            "/account.css/",
        ] {
            assert!(passes(false, |_| (), target), "{target}");
        }
    }

    #[test]
    fn strict_does_not_let_a_route_be_climbed_out_of() {
        let health = |options: &mut Options| {
            options.filter_by_route = vec![RoutePattern::Prefix("/health".to_owned())];
        };
        for (target, strict, core) in [
            ("/health/live", true, true),
            ("/health/%2flive", true, true),
            ("/health/../login", false, false),
            ("/health/..%2flogin", false, true),
            ("/health/..;/login", false, true),
            ("/health%2f%2e%2e%2flogin", false, true),
            ("/health/%252e%252e/login", false, true),
        ] {
            assert_eq!(passes(true, health, target), strict, "{target}");
            assert_eq!(passes(false, health, target), core, "{target}");
        }
    }

    #[test]
    fn allow_lists_compare_as_their_names_say() {
        fn list(text: &str) -> Vec<String> {
            vec![text.to_owned()]
        }
        let pattern = |text: &str| vec![RegexPattern::parse(text).expect("valid")];
        type Change = Box<dyn Fn(&mut Options)>;
        let full: Change = Box::new(|o| o.whitelist_uri_full = list("/full?data=1"));
        let prefixes: Change = Box::new(|o| o.whitelist_uri_prefixes = list("/pre"));
        let suffixes: Change = Box::new(|o| o.whitelist_uri_suffixes = list("post"));
        let whole: Change =
            Box::new(move |o| o.whitelist_uri_pattern = pattern("/item/\\d+|/other"));
        let methods: Change = Box::new(|o| o.filter_by_http_method = list("post"));
        let hosts: Change = Box::new(|o| o.whitelist_hosts = list("Img.Example.com"));
        let domains: Change = Box::new(move |o| o.filter_by_domain = pattern("^IMG\\."));
        for (change, request, expected) in [
            (&full, ("GET", "h", "/full?x"), Some("route")),
            (&full, ("GET", "h", "/full/x"), None),
            (&prefixes, ("POST", "h", "/prefix"), Some("route")),
            (&prefixes, ("POST", "h", "/x/pre"), None),
            (&suffixes, ("POST", "h", "/x/post"), Some("route")),
            (&suffixes, ("POST", "h", "/post/x"), None),
            (&whole, ("GET", "h", "/item/42"), Some("route")),
            (&whole, ("GET", "h", "/item/42/x"), None),
            (&whole, ("GET", "h", "/x/other"), None),
            (&methods, ("POST", "h", "/"), Some("http_method")),
            (&methods, ("PUT", "h", "/"), None),
            (&hosts, ("GET", "IMG.example.com:8443", "/"), Some("domain")),
            (&hosts, ("GET", "www.img.example.com", "/"), None),
            (&domains, ("GET", "Img.Example.com:8443", "/"), Some("domain")),
            (&domains, ("GET", "www.img.example.com", "/"), None),
        ] {
            assert_eq!(
                first_match(|options| change(options), request, &[]),
                expected,
                "{request:?}"
            );
        }
    }

    #[test]
    fn user_agents_match_by_prefix_regex_whole_and_part() {
        let change = |options: &mut Options| {
            options.filter_by_user_agent = vec![
                RoutePattern::Prefix("Monitor/".to_owned()),
                RoutePattern::Regex(RegexPattern::parse("/probe/i").expect("valid")),
            ];
            options.whitelist_ua_full = vec!["Exact UA".to_owned()];
            options.whitelist_ua_sub = vec!["Cloud.Check".to_owned(), String::new()];
            options.user_agent_max_length = 20;
        };
        for (user_agent, passed) in [
            ("Monitor/2.0", true),
            ("monitor/2.0", false),
            ("a PROBE", true),
            ("Exact UA", true),
            ("Exact UA x", false),
            ("x Cloud.Check-1", true),
            ("x Cloud-Check-1", false),
            // Cut before the match is complete.
            ("0123456789012345 probe", false),
            ("", false),
        ] {
            let headers = headers(&[("User-Agent", user_agent)]);
            let reason = first_match(change, ("GET", "h", "/"), &headers);
            assert_eq!(reason == Some("user_agent"), passed, "{user_agent}");
        }
        assert_eq!(first_match(change, ("GET", "h", "/"), &[]), None);
        let not_utf8 = [Header { name: b"user-agent", value: b"Monitor/\xff" }];
        assert_eq!(first_match(change, ("GET", "h", "/"), &not_utf8), Some("user_agent"));
    }

    #[test]
    fn a_header_must_have_exactly_the_value() {
        let change = |options: &mut Options| {
            options.filter_by_header = vec![("x-monitor".to_owned(), "yes".to_owned())];
        };
        for (name, value, passed) in
            [("X-Monitor", "yes", true), ("x-monitor", "Yes", false), ("x-monitors", "yes", false)]
        {
            let list = headers(&[("x-monitor", "no"), (name, value)]);
            assert_eq!(first_match(change, ("GET", "h", "/"), &list) == Some("header"), passed);
        }
    }

    #[test]
    fn the_first_filter_gives_the_reason() {
        let headers = headers(&[("user-agent", "UA"), ("x-monitor", "yes")]);
        let all = |options: &mut Options| {
            options.filter_by_route = vec![RoutePattern::Prefix("/".to_owned())];
            options.filter_by_http_method = vec!["GET".to_owned()];
            options.filter_by_user_agent = vec![RoutePattern::Prefix("UA".to_owned())];
            options.filter_by_ip = vec![Network::parse("203.0.113.77").expect("valid")];
            options.whitelist_hosts = vec!["h".to_owned()];
            options.filter_by_header = vec![("x-monitor".to_owned(), "yes".to_owned())];
        };
        let without = |removed: usize| {
            move |options: &mut Options| {
                all(options);
                if removed > 0 {
                    options.filter_by_extension.clear();
                }
                if removed > 1 {
                    options.filter_by_route.clear();
                }
                if removed > 2 {
                    options.filter_by_http_method.clear();
                }
                if removed > 3 {
                    options.filter_by_user_agent.clear();
                }
                if removed > 4 {
                    options.filter_by_ip.clear();
                }
                if removed > 5 {
                    options.whitelist_hosts.clear();
                }
            }
        };
        let order = ["extension", "route", "http_method", "user_agent", "ip", "domain", "header"];
        for (removed, reason) in order.into_iter().enumerate() {
            let found = first_match(without(removed), ("GET", "h", "/a.css"), &headers);
            assert_eq!(found, Some(reason));
        }
    }
}
