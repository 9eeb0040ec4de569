//! Addresses and networks of the allow list.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// One value of `px_whitelist_ip_addresses` (flow.md § 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// An address is a network of one. IPv4-mapped IPv6 is kept as IPv4, host bits are zero.
    Ip(IpNet),
    /// Connections over a Unix-domain socket (`unix:`).
    Unix,
}

impl Network {
    /// Reads `192.0.2.1`, `192.0.2.0/24`, `2001:db8::1`, `2001:db8::/32` or `unix:`. The error is a
    /// phrase for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "unix:" {
            return Ok(Self::Unix);
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| {
            format!(
                "\"{address}\" is neither an IPv4 nor an IPv6 address; write an address, a network \
                 like \"192.0.2.0/24\" or \"2001:db8::/32\", or \"unix:\""
            )
        })?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => longest,
            Some(digits) => prefix_length(digits, longest)?,
        };
        let network = IpNet::new(address, length).map_err(|error| error.to_string())?;
        Ok(Self::Ip(unmapped(network.trunc())))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(network) => write!(f, "{network}"),
            Self::Unix => f.write_str("unix:"),
        }
    }
}

fn prefix_length(digits: &str, longest: u8) -> Result<u8, String> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let length = digits.parse().ok().filter(|length| is_number && *length <= longest);
    length.ok_or_else(|| format!("prefix length \"/{digits}\" is not a number from 0 to {longest}"))
}

/// `::ffff:192.0.2.0/120` as `192.0.2.0/24`.
fn unmapped(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let IpNet::V6(v6) = network else { return network };
    let v4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(MAPPED_BITS));
    v4.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}

/// A list of networks; looking an address up takes logarithmic time.
#[derive(Debug, Default)]
pub(super) struct Networks {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    unix: bool,
}

impl Networks {
    pub(super) fn new(networks: &[Network]) -> Self {
        let (mut v4, mut v6, mut unix) = (Vec::new(), Vec::new(), false);
        for network in networks {
            match network {
                Network::Ip(IpNet::V4(network)) => v4.push(*network),
                Network::Ip(IpNet::V6(network)) => v6.push(*network),
                Network::Unix => unix = true,
            }
        }
        let v4 = Ipv4Net::aggregate(&v4);
        let v6 = Ipv6Net::aggregate(&v6);
        Self {
            v4: Ranges::new(v4.iter().map(|n| (n.network().to_bits(), n.broadcast().to_bits()))),
            v6: Ranges::new(v6.iter().map(|n| (n.network().to_bits(), n.broadcast().to_bits()))),
            unix,
        }
    }

    /// Whether `client_ip` lies in one of the networks, or `peer_ip` is a Unix-domain socket and
    /// those pass.
    pub(super) fn contain(&self, client_ip: &str, peer_ip: &str) -> bool {
        if self.unix && peer_ip.starts_with("unix:") {
            return true;
        }
        if self.v4.0.is_empty() && self.v6.0.is_empty() {
            return false;
        }
        match client_ip.parse().map(|address: IpAddr| address.to_canonical()) {
            Ok(IpAddr::V4(address)) => self.v4.contain(address.to_bits()),
            Ok(IpAddr::V6(address)) => self.v6.contain(address.to_bits()),
            Err(_) => false,
        }
    }
}

/// First and last of each range. Disjoint and sorted, so that only the last range that does not
/// begin above an address can hold it.
#[derive(Debug, Default)]
struct Ranges<A>(Vec<(A, A)>);

impl<A: Copy + Ord> Ranges<A> {
    fn new(ranges: impl Iterator<Item = (A, A)>) -> Self {
        let mut ranges: Vec<_> = ranges.collect();
        ranges.sort_unstable();
        Self(ranges)
    }

    fn contain(&self, address: A) -> bool {
        let above = self.0.partition_point(|(first, _)| *first <= address);
        let nearest = above.checked_sub(1).and_then(|at| self.0.get(at));
        nearest.is_some_and(|(_, last)| address <= *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        let parsed: Vec<_> = texts.iter().map(|t| Network::parse(t).expect("valid")).collect();
        Networks::new(&parsed)
    }

    #[test]
    fn addresses_are_found_in_both_families() {
        let list = networks(&[
            "10.1.2.3/8",
            "192.0.2.1",
            "192.0.2.7/32",
            "198.51.100.0/25",
            "198.51.100.128/25",
            "::ffff:203.0.113.9/120",
            "2001:db8::/32",
            "::1",
        ]);
        for (address, contained) in [
            ("10.255.0.1", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("198.51.100.200", true),
            ("203.0.113.77", true),
            ("::ffff:10.0.0.1", true),
            ("2001:db8:1::5", true),
            ("2001:db9::", false),
            ("::1", true),
            ("::", false),
            ("", false),
            ("unknown", false),
            ("10.1.2.3, 1.2.3.4", false),
            ("unix:", false),
        ] {
            assert_eq!(list.contain(address, "unix:"), contained, "{address}");
        }
    }

    #[test]
    fn a_whole_family_holds_only_that_family() {
        for (network, v4, v6) in
            [("0.0.0.0/0", true, false), ("::/0", false, true), ("::ffff:0:0/96", true, false)]
        {
            let list = networks(&[network]);
            assert_eq!(list.contain("203.0.113.1", ""), v4, "{network}");
            assert_eq!(list.contain("2001:db8::1", ""), v6, "{network}");
        }
    }

    #[test]
    fn a_unix_socket_is_the_connections_and_not_a_headers_word() {
        let list = networks(&["unix:"]);
        assert!(list.contain("203.0.113.1", "unix:"));
        assert!(!list.contain("unix:", "203.0.113.1"));
    }

    #[test]
    fn errors_help_the_operator() {
        for (text, expected) in [
            (
                "not-an-ip",
                "\"not-an-ip\" is neither an IPv4 nor an IPv6 address; write an address, a \
              network like \"192.0.2.0/24\" or \"2001:db8::/32\", or \"unix:\"",
            ),
            ("1.2.3.4/99", "prefix length \"/99\" is not a number from 0 to 32"),
            ("::1/129", "prefix length \"/129\" is not a number from 0 to 128"),
            ("1.2.3.4/", "prefix length \"/\" is not a number from 0 to 32"),
            ("1.2.3.4/+8", "prefix length \"/+8\" is not a number from 0 to 32"),
        ] {
            assert_eq!(Network::parse(text).expect_err(text), expected);
        }
        for text in ["", "/8", "1.2.3", "1.2.3.4.5", "01.2.3.4", "unix:/tmp/x", "[::1]"] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }
}
