//! The headers that count on nearly every request, found in one pass over all of them.

use std::ops::Range;

use crate::policy::Options;
use crate::request::{Header, Request};

/// What they hold, or where they stand.
pub(crate) struct KnownHeaders<'r> {
    all: &'r [Header<'r>],
    /// The first `User-Agent`, or empty.
    pub(crate) user_agent: &'r [u8],
    /// The first `x-px-authorization` that is not empty.
    pub(crate) authorization: Option<&'r [u8]>,
    /// From the first to the last `Cookie`.
    cookies: Range<usize>,
    /// From the first to the last header that may hold cookies too.
    custom_cookies: Range<usize>,
}

const COOKIE: &[u8] = b"cookie";
const USER_AGENT: &[u8] = b"user-agent";
const AUTHORIZATION: &[u8] = b"x-px-authorization";

impl<'r> KnownHeaders<'r> {
    pub(crate) fn find(request: &Request<'r>, options: &Options) -> Self {
        let custom_cookie_header = options.custom_cookie_header.as_bytes();
        let mut user_agent = None;
        let mut authorization = None;
        let (mut cookies, mut custom_cookies) = (0..0, 0..0);
        for (at, Header { name, value }) in request.headers.iter().enumerate() {
            let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
            if is(COOKIE) {
                extend(&mut cookies, at);
            } else if is(USER_AGENT) {
                user_agent.get_or_insert(*value);
            } else if is(AUTHORIZATION) && !value.is_empty() {
                authorization.get_or_insert(*value);
            }
            if is(custom_cookie_header) {
                extend(&mut custom_cookies, at);
            }
        }
        let user_agent = user_agent.unwrap_or_default();
        Self { all: request.headers, user_agent, authorization, cookies, custom_cookies }
    }

    /// The values of all `Cookie` headers in order of arrival, then those of all headers with the
    /// custom name.
    pub(crate) fn cookies(&self, options: &Options) -> impl Iterator<Item = &'r [u8]> {
        self.lines(&self.cookies, COOKIE)
            .chain(self.lines(&self.custom_cookies, options.custom_cookie_header.as_bytes()))
    }

    fn lines(&self, range: &Range<usize>, name: &[u8]) -> impl Iterator<Item = &'r [u8]> {
        let lines = self.all.get(range.clone()).unwrap_or_default().iter();
        lines.filter(move |line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
    }
}

fn extend(range: &mut Range<usize>, at: usize) {
    *range = if range.end == 0 { at..at + 1 } else { range.start..at + 1 };
}
