//! First-party paths: which request they catch and where it leads upstream.
//!
//! Source: first-party.md §§ 1 and 2 (paths), § 3 (default answers).

use std::borrow::Cow;

use crate::enforce::Answer;
use crate::policy::{Options, Policy};
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
        if !policy.options().first_party.enabled {
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

/// The paths of one policy; of each resource the default first, the most specific last.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    served: bool,
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
        let captcha = paths("/captcha", &first_party.captcha_endpoint);
        // A custom endpoint is the script itself, the other paths lead to its directory.
        let suffix = if first_party.captcha_endpoint.is_empty() { "/captcha.js" } else { "" };
        Self {
            served: first_party.served,
            sensor: paths("/init.js", &first_party.sensor_endpoint),
            xhr: paths("/xhr", &first_party.xhr_endpoint),
            captcha_script: format!("{}{suffix}", most_specific(&captcha)),
            captcha,
        }
    }

    /// The first-party route of a request, if it is to one and they are served.
    pub(crate) fn route<'r>(&self, url: &RequestUrl<'r>) -> Option<Route<'r>> {
        if !self.served {
            return None;
        }
        let path = url.path();
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
            options.first_party.served = true;
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
    fn a_host_that_does_not_serve_them_has_no_first_party_paths() {
        let policy = policy(|options| options.first_party.served = false);
        assert_eq!(route_of(&policy, "/abcd1234/init.js"), None);
    }

    #[test]
    fn switched_off_the_paths_still_get_their_default_answers() {
        let policy = policy(|options| {
            options.first_party.served = true;
            options.first_party.enabled = false;
        });
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
}
