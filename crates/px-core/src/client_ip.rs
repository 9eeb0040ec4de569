//! The client's address: from the headers the operator trusts, or that of the connection.
//!
//! Source: DECISIONS 9, flow.md § 3.

use std::net::IpAddr;

use crate::request::Request;

/// What the operator's expression says, or the first valid address in the first of `ip_headers` that holds one, else the connection's, as
/// text. A header sent several times reads as one list.
pub fn extract<'r>(request: &Request<'r>, ip_headers: &[String]) -> &'r str {
    if !request.hooks.client_ip.is_empty()
        && let Some(address) = first_address(request.hooks.client_ip.as_bytes())
    {
        return address;
    }
    let mut values = ip_headers.iter().flat_map(|name| request.header_values(name));
    values.find_map(first_address).unwrap_or(request.peer_ip)
}

/// First element of a list, separated by commas or blanks, that is an IPv4 or IPv6 address.
fn first_address(value: &[u8]) -> Option<&str> {
    let elements = value.split(|byte| matches!(byte, b',' | b' ' | b'\t'));
    let mut texts = elements.filter_map(|element| std::str::from_utf8(element).ok());
    texts.find(|text| text.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::Hooks;
    use crate::request::{Header, Tls};

    #[test]
    fn the_first_listed_header_with_a_valid_address_counts() {
        let names = ["x-true-ip".to_owned(), "x-forwarded-for".to_owned()];
        for (headers, expected) in [
            (&[][..], "192.0.2.9"),
            (&[("X-Forwarded-For", "203.0.113.7")], "203.0.113.7"),
            (&[("x-forwarded-for", "203.0.113.7"), ("X-True-IP", "2001:db8::7")], "2001:db8::7"),
            (&[("x-true-ip", "unknown"), ("x-forwarded-for", "203.0.113.7")], "203.0.113.7"),
            (&[("x-forwarded-for", "unknown, 10.1.2.3 , 203.0.113.7")], "10.1.2.3"),
            (&[("x-forwarded-for", "10.1.2.3 203.0.113.7")], "10.1.2.3"),
            (&[("x-forwarded-for", ""), ("x-forwarded-for", "203.0.113.7")], "203.0.113.7"),
            (&[("x-forwarded-for", "203.0.113.7:8080")], "192.0.2.9"),
            (&[("x-forwarded-for", "[::1], 300.1.1.1, 1.2.3, 01.2.3.4")], "192.0.2.9"),
            (&[("x-forwarded-for", "::ffff:203.0.113.7")], "::ffff:203.0.113.7"),
            (&[("x-forwarded-for", "\u{e9},,,")], "192.0.2.9"),
            (&[("x-real-ip", "203.0.113.7")], "192.0.2.9"),
        ] {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() })
                .collect();
            let request = Request {
                method: b"GET",
                scheme: "https",
                host: b"h",
                target: b"/",
                http_version: "1.1",
                headers: &headers,
                peer_ip: "192.0.2.9",
                request_id: "",
                tls: Tls::default(),
                hooks: &Hooks::NONE,
                extracted: None,
            };
            assert_eq!(extract(&request, &names), expected, "{headers:?}");
            assert_eq!(extract(&request, &[]), "192.0.2.9");
        }
    }
}
