//! Addresses without their last part, where the operator wants nobody to learn the whole
//! (`px_anonymize_ip`).
//!
//! Source: DECISIONS 28, flow.md § 10.1. For reports only: filters, signatures and the origin see the
//! address as it is.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::request;

/// The address with the last octet of IPv4, or the last group of IPv6, zero; what is no address
/// comes back as it is.
pub(crate) fn address(text: &str) -> Cow<'_, str> {
    match text.parse() {
        Ok(address) => Cow::Owned(without_end(address).to_string()),
        Err(_) => Cow::Borrowed(text),
    }
}

fn without_end(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !0xff)),
        // Written in IPv6, it is an IPv4 address all the same.
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V6(Ipv4Addr::from_bits(v4.to_bits() & !0xff).to_ipv6_mapped()),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !0xffff)),
        },
    }
}

/// The value of a header with its addresses anonymised: the elements of a list that are one, as in
/// `X-Forwarded-For`, with commas or blanks between them, and those in the pairs of `Forwarded`. Ports,
/// brackets and quotes stay.
pub(crate) fn header_value<'v>(name: &[u8], value: &'v [u8]) -> Cow<'v, [u8]> {
    // Nearly all values hold neither.
    let may_hold_address =
        value.contains(&b'.') || value.iter().filter(|byte| **byte == b':').count() > 1;
    if !may_hold_address {
        return Cow::Borrowed(value);
    }
    // As it is reported: a byte that is no text hides no address.
    let text = request::text(value);
    let separators: &[char] = match name.eq_ignore_ascii_case(b"forwarded") {
        true => &[',', ';', '=', '"', ' ', '\t'],
        false => &[','],
    };
    let mut changed = String::with_capacity(text.len());
    for element in text.split_inclusive(separators) {
        let mut words = element.trim_end_matches(separators).split_ascii_whitespace();
        // Of other texts no part is one: `Browser 1.2.3.4` is no address.
        if words.all(|word| anonymised(word).is_some()) {
            for piece in element.split_inclusive(is_between) {
                let word = piece.trim_end_matches(is_between);
                changed.push_str(anonymised(word).as_deref().unwrap_or(word));
                changed.push_str(piece.get(word.len()..).unwrap_or_default());
            }
        } else {
            changed.push_str(element);
        }
    }
    if changed == *text { Cow::Borrowed(value) } else { Cow::Owned(changed.into_bytes()) }
}

fn is_between(letter: char) -> bool {
    letter.is_ascii_whitespace() || matches!(letter, ',' | ';' | '=' | '"')
}

/// A word that is an address: bare, with a port, or in brackets.
fn anonymised(word: &str) -> Option<String> {
    if let Ok(bare) = word.parse() {
        return Some(without_end(bare).to_string());
    }
    if let Some((inside, port)) = word.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let v6: Ipv6Addr = inside.parse().ok()?;
        return Some(format!("[{}]{port}", without_end(IpAddr::V6(v6))));
    }
    let (host, port) = word.split_once(':')?;
    let v4: Ipv4Addr = host.parse().ok()?;
    Some(format!("{}:{port}", without_end(IpAddr::V4(v4))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_address_is_zero() {
        for (text, expected) in [
            ("1.2.3.4", "1.2.3.0"),
            ("2001:db8::1:2", "2001:db8::1:0"),
            ("::ffff:203.0.113.77", "::ffff:203.0.113.0"),
            ("unknown", "unknown"),
            ("", ""),
            ("unix:", "unix:"),
        ] {
            assert_eq!(address(text), expected, "{text}");
        }
    }

    #[test]
    fn addresses_in_headers_are_found_and_nothing_else_is_touched() {
        for (name, value, expected) in [
            ("x-real-ip", "203.0.113.77", "203.0.113.0"),
            ("x", "203.0.113.77, 10.1.2.3 ,unknown", "203.0.113.0, 10.1.2.0 ,unknown"),
            ("x", "203.0.113.77:8080", "203.0.113.0:8080"),
            ("x", "2001:db8::1", "2001:db8::"),
            ("x", "[2001:db8::1:7]:443", "[2001:db8::1:0]:443"),
            (
                "Forwarded",
                "for=192.0.2.60;proto=http;by=203.0.113.43",
                "for=192.0.2.0;proto=http;by=203.0.113.0",
            ),
            ("forwarded", "For=\"[2001:db8:cafe::17]:4711\"", "For=\"[2001:db8:cafe::]:4711\""),
            ("x", "Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (X11; Linux x86_64)"),
            ("x", "text/html;q=0.9, 1.2.3", "text/html;q=0.9, 1.2.3"),
            ("x", "https://203.0.113.77/a", "https://203.0.113.77/a"),
            ("x", "12:34:56", "12:34:56"),
            ("sec-ch-ua", "\"A\";v=\"131.0.0.8\"", "\"A\";v=\"131.0.0.8\""),
            ("x", "", ""),
            ("x", "203.0.113.77 10.1.2.3\t, ::7", "203.0.113.0 10.1.2.0\t, ::"),
            ("x", "Browser 131.0.0.8", "Browser 131.0.0.8"),
        ] {
            let changed = header_value(name.as_bytes(), value.as_bytes());
            assert_eq!(std::str::from_utf8(&changed), Ok(expected), "{value}");
            assert_eq!(matches!(changed, Cow::Borrowed(_)), value == expected);
        }
        assert!(matches!(header_value(b"x", b"1.2.3.4\xff"), Cow::Borrowed(_)));
        // What a client sent before the address that a proxy added.
        let changed = header_value(b"x-forwarded-for", b"\xff, 203.0.113.77");
        assert_eq!(*changed, *"\u{fffd}, 203.0.113.0".as_bytes());
    }
}
