//! Host, port and user information: WHATWG URL standard §§ 3.5 and 4.4, "authority state" to
//! "port state", for `http` and `https`.
//!
//! Not done: internationalised names. A host with other than ASCII letters stays as received.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::percent;

/// The authority in normal form; borrowed if it is so already, `None` if it is none.
pub(super) fn normalise<'a>(authority: &'a str, scheme: &str) -> Option<Cow<'a, str>> {
    if is_plain(authority, scheme) {
        return Some(Cow::Borrowed(authority));
    }
    let (userinfo, host_and_port) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = split_port(host_and_port)?;
    let mut normal = userinfo_prefix(userinfo);
    normal.push_str(&normal_host(host)?);
    if let Some(port) = parse_port(port)?
        && port != default_port(scheme)
    {
        let _ = write!(normal, ":{port}");
    }
    Some(if normal == authority { Cow::Borrowed(authority) } else { Cow::Owned(normal) })
}

/// Host of an authority in normal form.
pub(super) fn host_of(authority: &str) -> &str {
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, rest)| rest);
    split_port(host_and_port).map_or(host_and_port, |(host, _)| host)
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "http" { 80 } else { 443 }
}

/// The usual `Host` header, in normal form: a name or an IPv4 address, and perhaps a port.
fn is_plain(authority: &str, scheme: &str) -> bool {
    let (host, has_normal_port) = match authority.split_once(':') {
        None => (authority, true),
        Some((host, digits)) => {
            let port = digits.parse().ok().filter(|_| !digits.starts_with(['0', '+']));
            (host, port.is_some_and(|port: u16| port != default_port(scheme)))
        }
    };
    has_normal_port && (is_plain_lower_case_name(host) || host.parse::<Ipv4Addr>().is_ok())
}

/// A name like most. The last label begins with a letter, so that it is
/// no IPv4 address in any of its spellings.
fn is_plain_lower_case_name(authority: &str) -> bool {
    let mut before = b'.';
    let mut label_begins_with_letter = false;
    for byte in authority.bytes() {
        if !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_') {
            return false;
        }
        if before == b'.' {
            label_begins_with_letter = byte.is_ascii_lowercase();
        }
        before = byte;
    }
    label_begins_with_letter && before != b'.'
}

fn split_port(host_and_port: &str) -> Option<(&str, &str)> {
    let after_brackets = match host_and_port.starts_with('[') {
        true => host_and_port.find(']')?,
        false => 0,
    };
    match host_and_port.get(after_brackets..)?.find(':') {
        Some(at) => {
            let (host, port) = host_and_port.split_at_checked(after_brackets + at)?;
            Some((host, port.get(1..)?))
        }
        None => Some((host_and_port, "")),
    }
}

/// `Some(None)` without port, `None` if it is no port.
fn parse_port(port: &str) -> Option<Option<u16>> {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.trim_start_matches('0') {
        _ if !is_number => None,
        "" if port.is_empty() => Some(None),
        "" => Some(Some(0)),
        digits => digits.parse().ok().map(Some),
    }
}

/// User name and password with what separates them from the host, or empty.
fn userinfo_prefix(userinfo: &str) -> String {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let mut prefix = String::new();
    if user.is_empty() && password.is_empty() {
        return prefix;
    }
    percent::USERINFO.encode_into(user, &mut prefix);
    if !password.is_empty() {
        prefix.push(':');
        percent::USERINFO.encode_into(password, &mut prefix);
    }
    prefix.push('@');
    prefix
}

fn normal_host(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']')?.parse().ok().map(ipv6_text);
    }
    let mut name = String::from_utf8(percent::decode_lenient(host.as_bytes())).ok()?;
    let is_allowed = |byte: u8| matches!(byte, 0x21..=0x7e) && !b"#/:<>?@[\\]^|%".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_allowed) {
        return None;
    }
    name.make_ascii_lowercase();
    if ends_in_a_number(&name) { ipv4_text(&name) } else { Some(name) }
}

fn ipv6_text(address: Ipv6Addr) -> String {
    match address.segments() {
        // The one form in which the standard library differs: it ends in a dotted quad.
        [0, 0, 0, 0, 0, 0xffff, high, low] => format!("[::ffff:{high:x}:{low:x}]"),
        _ => format!("[{address}]"),
    }
}

fn ends_in_a_number(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let hex = last.strip_prefix("0x");
    is_decimal || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// An IPv4 address of one to four numbers, decimal, octal or hexadecimal, in its usual form.
fn ipv4_text(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let numbers: Vec<u64> = name.split('.').map(ipv4_number).collect::<Option<_>>()?;
    let (&last, others) = numbers.split_last()?;
    let free_bytes = 4_usize.checked_sub(others.len())?;
    let limit = 1_u64.checked_shl(u32::try_from(8 * free_bytes).ok()?)?;
    if free_bytes == 0 || last >= limit || others.iter().any(|&number| number > 255) {
        return None;
    }
    let bytes = others.iter().copied().chain((0..free_bytes).rev().map(|i| last >> (8 * i) & 0xff));
    Some(bytes.map(|byte| byte.to_string()).collect::<Vec<_>>().join("."))
}

fn ipv4_number(text: &str) -> Option<u64> {
    let (digits, radix) = if let Some(hex) = text.strip_prefix("0x") {
        (hex, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        (text, 8)
    } else {
        (text, 10)
    };
    match digits {
        "" if radix == 16 => Some(0),
        _ if digits.starts_with('+') => None,
        _ => u64::from_str_radix(digits, radix).ok(),
    }
}
