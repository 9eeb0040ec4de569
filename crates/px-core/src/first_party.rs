//! First-party paths: which request they catch, where it leads upstream, with which headers, and what
//! is answered where nothing is fetched.
//!
//! Source: first-party.md §§ 1 and 2 (paths, headers), § 3 (default answers).

use std::borrow::Cow;

use crate::client_ip;
use crate::cookies;
use crate::enforce::Answer;
use crate::policy::{Options, Policy};
use crate::request::{Request, is_same_to_cgi};
use crate::token::is_uuid;
use crate::url::RequestUrl;

/// What first-party paths stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Sensor,
    Xhr,
    Captcha,
}

/// A request to a first-party path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<'r> {
    pub resource: Resource,
    /// Normalised path of the request.
    path: Cow<'r, str>,
    /// Length of the part of `path` that made it a first-party path.
    matched: usize,
    /// With its `?`, or empty.
    query: Cow<'r, str>,
}

/// A GIF of one pixel (first-party.md § 3).
const EMPTY_GIF: &[u8; 35] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00\x2c\
      \x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";

impl Route<'_> {
    /// Absolute URL to fetch; `None` if the default answer is to be given.
    pub fn upstream_url(&self, policy: &Policy) -> Option<String> {
        let options = &policy.options().first_party;
        if !options.enabled || (self.resource == Resource::Xhr && !options.xhr_enabled) {
            return None;
        }
        let endpoints = policy.endpoints();
        match self.resource {
            Resource::Sensor => Some(endpoints.sensor_script.clone()),
            Resource::Captcha => Some(format!("{}{}", endpoints.captcha_script, self.query)),
            Resource::Xhr => match self.path.get(self.matched..)? {
                "" => Some(format!("{}/{}", endpoints.collector, self.query)),
                // Anything but a slash would extend the host name.
                rest if rest.starts_with('/') => {
                    Some(format!("{}{rest}{}", endpoints.collector, self.query))
                }
                _ => None,
            },
        }
    }

    /// The answer where there is nothing to fetch or the upstream gave none.
    pub fn default_answer(&self) -> Answer {
        let (content_type, body) = match self.resource {
            Resource::Xhr if self.path.ends_with(".gif") => ("image/gif", &EMPTY_GIF[..]),
            Resource::Xhr => ("application/javascript", &b"{}"[..]),
            Resource::Sensor | Resource::Captcha => ("application/javascript", &b""[..]),
        };
        Answer { status: 200, content_type, headers: Vec::new(), body: body.to_vec() }
    }
}

/// Headers that end at this hop (RFC 9110 § 7.6.1), those that the caller sets for the next one, and
/// those that only an enforcer may set. In lower case.
const NOT_FORWARDED: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    FORWARDED_FOR,
    FIRST_PARTY,
    TRUE_IP,
    // A browser adds the site's password to every request for the site by itself. It is none of
    // HUMAN's business.
    "authorization",
];
const FORWARDED_FOR: &str = "x-forwarded-for";
const FIRST_PARTY: &str = "x-px-first-party";
const TRUE_IP: &str = "x-px-enforcer-true-ip";

/// Name and value.
pub type UpstreamHeader<'r> = (Cow<'r, [u8]>, Cow<'r, [u8]>);

/// The headers of the request to the upstream, in the order of first-party.md § 2.1, without `Host`
/// and those of the body's length, which belong to the caller's side.
pub fn upstream_headers<'r>(request: &Request<'r>, policy: &Policy) -> Vec<UpstreamHeader<'r>> {
    let options = policy.options();
    let hop_by_hop = request.named_in_connection();
    let is_forwarded = |name: &[u8]| {
        let is = |other: &str| is_same_to_cgi(name, other.as_bytes());
        !NOT_FORWARDED.into_iter().any(is)
            && !name.get(..6).is_some_and(|start| is_same_to_cgi(start, b"proxy-"))
            && !hop_by_hop.contains(&name.to_ascii_lowercase())
            && !policy.is_sensitive_header(name)
    };
    let kept = request.headers.iter().filter(|header| is_forwarded(header.name));
    let mut headers: Vec<UpstreamHeader<'r>> =
        kept.map(|header| (header.name.into(), header.value.into())).collect();

    let client_ip = client_ip::extract(request, &options.ip_headers);
    // What a sensitive header says is not passed on by appending to it.
    let forwarded_for = request.header_values(FORWARDED_FOR).filter(|value| !value.is_empty());
    let forwarded_for =
        forwarded_for.filter(|_| !policy.is_sensitive_header(FORWARDED_FOR.as_bytes()));
    let addresses: Vec<&[u8]> = forwarded_for.chain([client_ip.as_bytes()]).collect();
    let mut set = |name: &'static str, value: Cow<'r, [u8]>| {
        headers.push((name.as_bytes().into(), value));
    };
    set(FORWARDED_FOR, addresses.join(&b", "[..]).into());
    set(FIRST_PARTY, b"1".into());
    set(TRUE_IP, client_ip.as_bytes().into());
    let vid = cookies::value_of(request, &options.custom_cookie_header, "_pxvid");
    if let Some(vid) = vid.filter(|vid| is_uuid(vid)) {
        let pair = [b"pxvid=", vid].concat();
        let is_cookie = |(name, _): &&mut (Cow<'r, [u8]>, _)| name.eq_ignore_ascii_case(b"cookie");
        match headers.iter_mut().find(is_cookie) {
            Some((_, value)) => *value = [&**value, &pair].join(&b"; "[..]).into(),
            None => headers.push((b"cookie".into(), pair.into())),
        }
    }
    headers
}

/// The paths of one policy; of each resource the default first, the most specific last.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The bytes that any of the paths has behind its slash: nearly no request's path has one.
    second_bytes: [bool; 256],
    sensor: Vec<String>,
    xhr: Vec<String>,
    captcha: Vec<String>,
    captcha_script: String,
}

impl Paths {
    pub(crate) fn new(options: &Options) -> Self {
        let first_party = &options.first_party;
        let id = options.app_id.get(2..).unwrap_or_default();
        let prefix = first_party.prefix.trim_matches('/');
        let paths = |suffix: &str, endpoint: &str| {
            let mut paths = vec![format!("/{id}{suffix}")];
            if !prefix.is_empty() {
                paths.push(format!("/{prefix}{suffix}"));
            }
            if !endpoint.is_empty() {
                paths.push(endpoint.to_owned());
            }
            paths
        };
        let sensor = paths("/init.js", &first_party.sensor_endpoint);
        let xhr = paths("/xhr", &first_party.xhr_endpoint);
        let captcha = paths("/captcha", &first_party.captcha_endpoint);
        let mut second_bytes = [false; 256];
        let seconds = [&sensor, &xhr, &captcha].into_iter().flatten();
        for second in seconds.filter_map(|path| path.as_bytes().get(1)) {
            if let Some(is_known) = second_bytes.get_mut(usize::from(*second)) {
                *is_known = true;
            }
        }
        // A custom endpoint is the script itself, the other paths lead to its directory.
        let suffix = if first_party.captcha_endpoint.is_empty() { "/captcha.js" } else { "" };
        Self {
            second_bytes,
            sensor,
            xhr,
            captcha_script: format!("{}{suffix}", most_specific(&captcha)),
            captcha,
        }
    }

    /// The first-party route of a request, if it is to one.
    pub(crate) fn route<'r>(&self, url: &RequestUrl<'r>) -> Option<Route<'r>> {
        let path = url.path();
        let second = usize::from(*path.as_bytes().get(1)?);
        if self.second_bytes.get(second) != Some(&true) {
            return None;
        }
        let found = |resource, prefix: &String| (resource, prefix.len());
        let begins = |prefix: &&String| path.starts_with(prefix.as_str());
        let (resource, matched) = self
            .sensor
            .iter()
            .find(|sensor| path == sensor.as_str())
            .map(|prefix| found(Resource::Sensor, prefix))
            .or_else(|| self.xhr.iter().find(begins).map(|prefix| found(Resource::Xhr, prefix)))
            .or_else(|| {
                self.captcha.iter().find(begins).map(|prefix| found(Resource::Captcha, prefix))
            })?;
        Some(Route { resource, path: url.path_text(), matched, query: url.query_text() })
    }

    /// Path of the sensor script for a block page.
    pub(crate) fn sensor_script(&self) -> &str {
        most_specific(&self.sensor)
    }

    /// Path that replaces the collector's URL on a block page.
    pub(crate) fn collector(&self) -> &str {
        most_specific(&self.xhr)
    }

    /// Path of the captcha script for a block page.
    pub(crate) fn captcha_script(&self) -> &str {
        &self.captcha_script
    }
}

fn most_specific(paths: &[String]) -> &str {
    paths.last().map(String::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;
    use crate::sample::{self, policy};

    fn route_of(policy: &Policy, target: &str) -> Option<(Resource, Option<String>)> {
        let request = Request { target: target.as_bytes(), ..sample::request(&[]) };
        let url = RequestUrl::new(&request, false);
        let route = policy.first_party().route(&url)?;
        Some((route.resource, route.upstream_url(policy)))
    }

    #[test]
    fn every_path_of_a_resource_is_served_at_once() {
        let policy = policy(|options| {
            options.app_id = "PXAbcd1234".to_owned();
            options.first_party.prefix = "fp/".to_owned();
            options.first_party.xhr_endpoint = "/my-xhr".to_owned();
        });
        let sensor = "https://client.perimeterx.net/PXAbcd1234/main.min.js";
        let captcha = "https://captcha.px-cdn.net/PXAbcd1234/captcha.js";
        let collector = "https://collector-pxabcd1234.perimeterx.net";
        for (target, resource, upstream) in [
            ("/Abcd1234/init.js?x=1", Resource::Sensor, Some(sensor.to_owned())),
            ("/Abcd1234/init.js/", Resource::Sensor, Some(sensor.to_owned())),
            ("/fp/init.js", Resource::Sensor, Some(sensor.to_owned())),
            ("/Abcd1234/captcha/captcha.js?a=c", Resource::Captcha, Some(format!("{captcha}?a=c"))),
            ("/fp/captcha/PXAbcd1234/captcha.js", Resource::Captcha, Some(captcha.to_owned())),
            ("/Abcd1234/xhr", Resource::Xhr, Some(format!("{collector}/"))),
            ("/fp/xhr/api/v2?a=b", Resource::Xhr, Some(format!("{collector}/api/v2?a=b"))),
            ("/my-xhr/p.gif", Resource::Xhr, Some(format!("{collector}/p.gif"))),
            // What would extend the collector's host is not fetched.
            ("/Abcd1234/xhr@evil.example/x", Resource::Xhr, None),
            ("/Abcd1234/xhr.evil.example", Resource::Xhr, None),
            ("/Abcd1234/xhrfoo/bar", Resource::Xhr, None),
        ] {
            assert_eq!(route_of(&policy, target), Some((resource, upstream)), "{target}");
        }
        for target in ["/abcd1234/init.js", "/Abcd1234", "/Abcd1234/init.jsx", "/x/fp/xhr", "/"] {
            assert_eq!(route_of(&policy, target), None, "{target}");
        }
        assert_eq!(policy.first_party().collector(), "/my-xhr");
        assert_eq!(policy.first_party().sensor_script(), "/fp/init.js");
        assert_eq!(policy.first_party().captcha_script(), "/fp/captcha/captcha.js");
    }

    #[test]
    fn switched_off_the_paths_still_get_their_default_answers() {
        let policy = policy(|options| options.first_party.enabled = false);
        for (target, content_type, length) in [
            ("/abcd1234/init.js", "application/javascript", 0),
            ("/abcd1234/captcha/captcha.js", "application/javascript", 0),
            ("/abcd1234/xhr/api", "application/javascript", 2),
            ("/abcd1234/xhr/p.gif?x", "image/gif", 35),
        ] {
            let request = Request { target: target.as_bytes(), ..sample::request(&[]) };
            let url = RequestUrl::new(&request, false);
            let route = policy.first_party().route(&url).expect("a first-party path");
            assert_eq!(route.upstream_url(&policy), None);
            let answer = route.default_answer();
            assert_eq!((answer.status, answer.content_type), (200, content_type));
            assert_eq!(answer.body.len(), length);
        }
    }

    #[test]
    fn without_reverse_xhr_only_the_scripts_are_fetched() {
        let policy = policy(|options| options.first_party.xhr_enabled = false);
        let found = |target| route_of(&policy, target).expect("a first-party path");
        assert_eq!(found("/abcd1234/xhr/api/v2"), (Resource::Xhr, None));
        assert!(found("/abcd1234/init.js").1.is_some());
        assert!(found("/abcd1234/captcha/captcha.js").1.is_some());
    }

    /// `name: value` of each header for the upstream.
    fn forwarded(policy: &Policy, list: &[(&str, &str)]) -> Vec<String> {
        let headers = sample::headers(list);
        let headers = upstream_headers(&sample::request(&headers), policy);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        headers.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    const MARKS: [&str; 2] = ["x-px-first-party: 1", "x-px-enforcer-true-ip: 203.0.113.77"];

    #[test]
    fn what_ends_at_this_hop_is_secret_or_forged_is_not_forwarded() {
        let list = [
            ("Host", "shop.example.com"),
            ("Accept", "*/*"),
            ("Connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("Proxy-Authorization", "Basic x"),
            ("TE", "trailers"),
            ("Content-Length", "3"),
            ("Authorization", "Basic x"),
            ("Cookie", "a=1"),
            ("X-PX-First-Party", "0"),
            ("X-PX-Enforcer-True-IP", "192.0.2.1"),
            ("X_PX_Enforcer_True_IP", "192.0.2.1"),
            ("x-px_first-party", "0"),
            ("X_Forwarded_For", "192.0.2.1"),
            ("If-None-Match", "\"x\""),
        ];
        let mut expected = vec![
            "Accept: */*".to_owned(),
            "If-None-Match: \"x\"".to_owned(),
            "x-forwarded-for: 203.0.113.77".to_owned(),
        ];
        expected.extend(MARKS.map(str::to_owned));
        assert_eq!(forwarded(&policy(|_| ()), &list), expected);
    }

    #[test]
    fn addresses_and_a_valid_visitor_id_are_added() {
        const VID: &str = "c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b";
        let cookie = format!("a=1; _pxvid={VID}");
        let list = [("X-Forwarded-For", "10.0.0.1"), ("x-forwarded-for", "10.0.0.2")];
        let list = [list[0], list[1], ("cookie", &*cookie)];
        let addresses = "x-forwarded-for: 10.0.0.1, 10.0.0.2, 203.0.113.77";
        let received = forwarded(&policy(|_| ()), &list);
        assert_eq!(received, [addresses, MARKS[0], MARKS[1], &format!("cookie: pxvid={VID}")]);

        // Where cookies are not sensitive, the id joins them.
        let open = policy(|options| options.sensitive_headers.clear());
        let received = forwarded(&open, &list);
        assert_eq!(received.first(), Some(&format!("cookie: {cookie}; pxvid={VID}")));
        let received = forwarded(&policy(|_| ()), &[("cookie", "_pxvid=zzz")]);
        assert!(!received.iter().any(|line| line.starts_with("cookie")), "{received:?}");
        let closed = policy(|options| options.sensitive_headers = vec![FORWARDED_FOR.to_owned()]);
        assert_eq!(forwarded(&closed, &list[..2])[0], "x-forwarded-for: 203.0.113.77");
    }
}
