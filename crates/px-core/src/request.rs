//! What the enforcer may see of a client request: borrowed slices, nothing copied.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::extracted::Extracted;
use crate::hooks::Hooks;

/// One header line as received.
#[derive(Clone, Copy, Debug)]
pub struct Header<'r> {
    /// Field name, case as received.
    pub name: &'r [u8],
    /// Field value without surrounding white space; any bytes.
    pub value: &'r [u8],
}

/// Facts of the client's TLS connection; empty where unknown or not TLS (risk-api.md § 3.2).
#[derive(Clone, Copy, Debug, Default)]
pub struct Tls<'r> {
    pub protocol: &'r [u8],
    pub cipher: &'r [u8],
    pub server_name: &'r [u8],
}

/// One client request. Everything it lends must outlive the verdict made of it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// Upper case as received, `GET`.
    pub method: &'r [u8],
    /// `http` or `https`, of the client connection.
    pub scheme: &'r str,
    /// The `Host` header's text with its port, or the server's name without one.
    pub host: &'r [u8],
    /// Request target as received: `/path?query`, or absolute form.
    pub target: &'r [u8],
    /// `1.0`, `1.1`, `2`, `3`; empty if unknown.
    pub http_version: &'r str,
    /// In order of arrival; a repeated header stands in it as often as it was sent.
    pub headers: &'r [Header<'r>],
    /// Address of the connection (after realip) as text.
    pub peer_ip: &'r str,
    /// Fresh UUID v4 of this request.
    pub request_id: &'r str,
    pub tls: Tls<'r>,
    /// What the operator's expressions say of this request.
    pub hooks: &'r Hooks<'r>,
    /// What was found in it, where [`wanted`](crate::enforce::wanted) said that something may be.
    pub extracted: Option<&'r Extracted>,
}

impl<'r> Request<'r> {
    /// All values of the header `name` (any case), in order of arrival.
    pub fn header_values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'r [u8]> + use<'r, 'n> {
        let name = name.as_bytes();
        self.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
    }

    /// What `Connection` names, in lower case: headers about the client's connection alone, which
    /// go no further (RFC 9110 § 7.6.1). A set, because a client may name thousands and send as many.
    pub fn named_in_connection(&self) -> BTreeSet<Vec<u8>> {
        let values = self.header_values("connection");
        let names = values.flat_map(|value| value.split(|byte| *byte == b','));
        names.map(|name| name.trim_ascii().to_ascii_lowercase()).collect()
    }

    /// First value of the header `name` (any case).
    pub fn header(&self, name: &str) -> Option<&'r [u8]> {
        let name = name.as_bytes();
        self.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
    }

    /// First non-empty value of the header `name` (any case).
    pub fn non_empty_header(&self, name: &str) -> Option<&'r [u8]> {
        let name = name.as_bytes();
        self.headers
            .iter()
            .find(|h| !h.value.is_empty() && h.name.eq_ignore_ascii_case(name))
            .map(|h| h.value)
    }
}

/// Whether two header names are the same to CGI and its descendants, which cannot tell an underscore
/// from a hyphen. nginx passes underscores on where `underscores_in_headers` is on.
pub fn is_same_to_cgi(one: &[u8], other: &[u8]) -> bool {
    let letter = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().map(letter).eq(other.iter().map(letter))
}

/// Bytes of a request as text; what is not UTF-8 becomes U+FFFD. The library's own function reads
/// byte by byte where nearly all text is ASCII.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}
