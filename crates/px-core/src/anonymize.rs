//! Addresses without their last part, where the operator wants nobody to learn the whole
//! (`px_anonymize_ip`).
//!
//! Source: DECISIONS 28, flow.md § 10.1. For reports only: filters, signatures and the origin see the
//! address as it is.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
/// `X-Forwarded-For`, and those in the pairs of `Forwarded`. Ports, brackets and quotes stay.
pub(crate) fn header_value<'v>(name: &[u8], value: &'v [u8]) -> Cow<'v, [u8]> {
    // Nearly all values hold neither.
    let may_hold_address =
        value.contains(&b'.') || value.iter().filter(|byte| **byte == b':').count() > 1;
    let Ok(text) = std::str::from_utf8(value) else { return Cow::Borrowed(value) };
    if !may_hold_address {
        return Cow::Borrowed(value);
    }
    let separators: &[char] = match name.eq_ignore_ascii_case(b"forwarded") {
        true => &[',', ';', '=', '"', ' ', '\t'],
        false => &[','],
    };
    let mut changed = String::with_capacity(text.len());
    for element in text.split_inclusive(separators) {
        let word = element.trim_end_matches(separators).trim_ascii();
        let (before, after) = element.split_once(word).unwrap_or((element, ""));
        changed.push_str(before);
        push_word(word, &mut changed);
        changed.push_str(after);
    }
    if changed == text { Cow::Borrowed(value) } else { Cow::Owned(changed.into_bytes()) }
}

/// A word that may be an address: bare, with a port, or in brackets.
fn push_word(word: &str, out: &mut String) {
    if let Ok(bare) = word.parse::<IpAddr>() {
        out.push_str(&without_end(bare).to_string());
        return;
    }
    let bracketed = word.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    if let Some((inside, port)) = bracketed
        && let Ok(v6) = inside.parse::<Ipv6Addr>()
    {
        out.push_str(&format!("[{}]{port}", without_end(IpAddr::V6(v6))));
    } else if let Some((host, port)) = word.split_once(':')
        && let Ok(v4) = host.parse::<Ipv4Addr>()
    {
        out.push_str(&format!("{}:{port}", without_end(IpAddr::V4(v4))));
    } else {
        out.push_str(word);
    }
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
        ] {
            let changed = header_value(name.as_bytes(), value.as_bytes());
            assert_eq!(std::str::from_utf8(&changed), Ok(expected), "{value}");
            assert_eq!(matches!(changed, Cow::Borrowed(_)), value == expected);
        }
        assert!(matches!(header_value(b"x", b"1.2.3.4\xff"), Cow::Borrowed(_)));
    }
}
