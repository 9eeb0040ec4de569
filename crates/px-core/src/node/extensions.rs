//! Requests that the extension filter lets pass, where the operator spares the node them.

use crate::filter::Filters;
use crate::policy::{Options, PolicyError};
use crate::request::Request;
use crate::url::RequestUrl;

/// The extension filter alone.
#[derive(Debug)]
pub struct Extensions(Filters);

impl Extensions {
    /// Of these extensions, or the filter's own; `strict` as `px_filter_strict`.
    pub fn new(extensions: Option<&[String]>, strict: Option<bool>) -> Result<Self, PolicyError> {
        let mut options = Options::default();
        if let Some(extensions) = extensions {
            options.filter_by_extension = extensions.to_vec();
        }
        options.filter_strict = strict.unwrap_or(options.filter_strict);
        Filters::new(&options).map(Self)
    }

    pub fn pass(&self, request: &Request<'_>) -> bool {
        self.0.passes_extension(request, &RequestUrl::new(request, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn static_files_are_spared_and_nothing_that_only_looks_like_one() {
        let default = Extensions::new(None, None).expect("compiles");
        let own = Extensions::new(Some(&["xyz".to_owned()]), None).expect("compiles");
        for (method, target, by_default, by_own) in [
            ("GET", "/a.css", true, false),
            ("HEAD", "/a.css?x=1", true, false),
            ("POST", "/a.css", false, false),
            ("GET", "/a.xyz", false, true),
            ("GET", "/", false, false),
            ("GET", "/login;a.css", false, false),
        ] {
            let request = crate::request::Request {
                method: method.as_bytes(),
                target: target.as_bytes(),
                ..sample::request(&[])
            };
            assert_eq!(default.pass(&request), by_default, "{method} {target}");
            assert_eq!(own.pass(&request), by_own, "{method} {target}");
        }
    }
}
