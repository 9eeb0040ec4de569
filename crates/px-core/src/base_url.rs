//! Base URL of one of HUMAN's backends, as an operator writes it (options.md § 15).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Base URL of a backend: scheme, host, port and an optional path prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    pub tls: bool,
    /// Lower case; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// Empty, or begins with a slash and does not end with one.
    pub path: String,
}

impl BaseUrl {
    /// Reads `http[s]://host[:port][/path]`, or `//host[:port]`, which stands for https.
    ///
    /// Only characters that mean nothing to nginx's configuration parser are accepted, because
    /// the host is written into a location that the module makes for itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "it must look like \"https://host[:port][/path]\"";
        let (tls, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else if let Some(rest) = text.strip_prefix("//") {
            (true, rest)
        } else {
            return Err(FORM.to_owned());
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let path = path.trim_end_matches('/');
        if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._~-%".contains(&b)) {
            return Err(
                "its path holds characters other than letters, digits and \"/._~-%\"".into()
            );
        }
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or(FORM)?;
            host.parse::<Ipv6Addr>().map_err(|_| "its IPv6 address is not valid")?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or(FORM)?)
        } else {
            authority.split_once(':').unwrap_or((authority, ""))
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if host.is_empty() || !(host.bytes().all(plain) || host.contains(':')) {
            return Err("its host is empty or holds characters that no host name has".into());
        }
        if host.len() > 253 {
            return Err("its host is longer than 253 characters".into());
        }
        let port = match port {
            "" if tls => 443,
            "" => 80,
            digits => digits
                .parse::<u16>()
                .ok()
                .filter(|port| *port != 0)
                .ok_or("its port is not a number from 1 to 65535")?,
        };
        Ok(Self { tls, host: host.to_ascii_lowercase(), port, path: path.to_owned() })
    }

    /// Host and port as they stand in a URL or a `Host` header; the scheme's own port is left out.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// True for addresses and names that never leave the machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_scheme_host_port_and_path() {
        for (text, shown, host, port, path) in [
            ("https://sapi.example.net", "https://sapi.example.net", "sapi.example.net", 443, ""),
            (
                "https://SAPI.example.net:443/",
                "https://sapi.example.net",
                "sapi.example.net",
                443,
                "",
            ),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000", "127.0.0.1", 9000, ""),
            ("http://h/base/x/", "http://h/base/x", "h", 80, "/base/x"),
            (
                "//captcha.example.net",
                "https://captcha.example.net",
                "captcha.example.net",
                443,
                "",
            ),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443", "2001:db8::1", 8443, ""),
            ("http://[::1]", "http://[::1]", "::1", 80, ""),
        ] {
            let url = BaseUrl::parse(text).expect(text);
            assert_eq!(url.to_string(), shown, "{text}");
            assert_eq!((url.host.as_str(), url.port, url.path.as_str()), (host, port, path));
        }
    }

    #[test]
    fn refuses_what_could_mean_something_to_a_configuration_parser() {
        for text in [
            "",
            "sapi.example.net",
            "ftp://h",
            "https://",
            "https://h:0",
            "https://h:70000",
            "https://h:x",
            "https://h;}",
            "https://h$x",
            "https://h/{",
            "https://h/a b",
            "https://[::1",
            "https://[zz]",
            "https://h\"",
            "https://user@h",
            "https://h?x",
            "https://a:b:c",
        ] {
            assert!(BaseUrl::parse(text).is_err(), "{text}");
        }
        assert!(BaseUrl::parse(&format!("https://{}", "h".repeat(254))).is_err());
    }

    #[test]
    fn knows_what_stays_on_the_machine() {
        for (text, loopback) in [
            ("http://localhost:1", true),
            ("http://127.9.9.9", true),
            ("http://[::1]", true),
            ("http://h", false),
        ] {
            assert_eq!(BaseUrl::parse(text).map(|url| url.is_loopback()), Ok(loopback), "{text}");
        }
    }
}
