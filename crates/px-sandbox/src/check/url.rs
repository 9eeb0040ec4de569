//! Faults of a reported URL that should have been normalised: flow.md § 4.

/// What is not normal about the URL; nothing for a good one.
pub(crate) fn faults(url: &str) -> Vec<&'static str> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return vec!["is not absolute"];
    };
    if scheme != "http" && scheme != "https" {
        return vec!["has a scheme that is not http or https in lower case"];
    }
    let authority_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(authority_ends);
    if !is_plain(authority) {
        // No parser takes such a host: then the raw text stays as it came.
        return Vec::new();
    }
    let path = rest.split_once(['?', '#']).map_or(rest, |(path, _)| path);
    let mut faults = Vec::new();
    let mut when = |is_fault: bool, fault: &'static str| {
        if is_fault {
            faults.push(fault);
        }
    };
    when(authority.bytes().any(|byte| byte.is_ascii_uppercase()), "has an upper-case host");
    when(
        authority.ends_with(if scheme == "http" { ":80" } else { ":443" }),
        "names the default port",
    );
    when(path.is_empty(), "has no path");
    when(path.contains('\\'), "has a backslash in its path");
    when(path.contains("//"), "has an empty path segment");
    when(path.len() > 1 && path.ends_with('/'), "ends in a slash");
    when(path.split('/').any(is_dot_segment), "has a dot segment");
    when(
        rest.bytes().any(|byte| byte <= b' ' || byte >= 0x7f || matches!(byte, b'"' | b'<' | b'>')),
        "has characters that must be percent-encoded",
    );
    faults
}

fn is_plain(authority: &str) -> bool {
    !authority.is_empty()
        && authority
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'_'))
}

fn is_dot_segment(segment: &str) -> bool {
    let decoded = segment.to_ascii_lowercase().replace("%2e", ".");
    decoded == "." || decoded == ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_fault_and_no_other() {
        for (url, expected) in [
            ("https://shop.example.com/", &[][..]),
            ("https://shop.example.com:8443/a%2Fb?x=//../", &[]),
            ("http://127.0.0.1:8080/a.b/c..d", &[]),
            ("https://[::1]/a//b/", &[]),
            ("https://x y/", &[]),
            ("/account", &["is not absolute"]),
            ("ftp://a/", &["has a scheme that is not http or https in lower case"]),
            ("https://Shop.example.com/", &["has an upper-case host"]),
            ("https://a:443/", &["names the default port"]),
            ("http://a:80/", &["names the default port"]),
            ("https://a", &["has no path"]),
            ("https://a/\\b?\\", &["has a backslash in its path"]),
            ("https://a//b", &["has an empty path segment"]),
            ("https://a/b/", &["ends in a slash"]),
            ("https://a/b/%2E./c", &["has a dot segment"]),
            ("https://a/ü?x", &["has characters that must be percent-encoded"]),
            ("https://a/?q=a b", &["has characters that must be percent-encoded"]),
        ] {
            assert_eq!(faults(url), expected, "{url}");
        }
    }
}
