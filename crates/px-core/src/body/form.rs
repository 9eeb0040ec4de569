//! `application/x-www-form-urlencoded`: bodies and query strings.
//!
//! Source: credential-intelligence.md § 2. As the WHATWG URL standard reads it: `+` is a space,
//! escapes are decoded, malformed ones stay as they are.

use zeroize::Zeroizing;

use super::text;
use crate::url::percent;

/// So many parameters are looked at; further ones are as good as absent.
const MAX_PARAMETERS: usize = 1000;

/// The value of the first parameter called `name`, decoded; names are case-sensitive.
pub(crate) fn first(form: &[u8], name: &str) -> Option<Zeroizing<String>> {
    let pairs = form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    pairs.take(MAX_PARAMETERS).find_map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let is_wanted = *decoded(parts.next().unwrap_or_default()) == name;
        is_wanted.then(|| decoded(parts.next().unwrap_or_default()))
    })
}

fn decoded(bytes: &[u8]) -> Zeroizing<String> {
    if !bytes.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return text(bytes);
    }
    let mut spaced = Zeroizing::new(bytes.to_vec());
    spaced.iter_mut().filter(|byte| **byte == b'+').for_each(|byte| *byte = b' ');
    text(&Zeroizing::new(percent::decode_lenient(&spaced)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_the_first_counts() {
        for (form, name, expected) in [
            ("a=1&b=2", "b", Some("2")),
            ("a=1&a=2", "a", Some("1")),
            ("&&a=x+y%20z%2B", "a", Some("x y z+")),
            ("a=%zz%4", "a", Some("%zz%4")),
            ("a=%C3%A9%ff", "a", Some("\u{e9}\u{fffd}")),
            ("login%5Buser%5D=x", "login[user]", Some("x")),
            ("a", "a", Some("")),
            ("a=", "a", Some("")),
            ("a=b=c", "a", Some("b=c")),
            ("A=1", "a", None),
            ("", "a", None),
            ("=x", "", Some("x")),
        ] {
            let value = first(form.as_bytes(), name);
            assert_eq!(value.as_ref().map(|text| text.as_str()), expected, "{form} {name}");
        }
    }

    #[test]
    fn a_thousand_parameters_are_enough() {
        let padded = |count| format!("{}a=1", "x=&".repeat(count));
        assert!(first(padded(MAX_PARAMETERS - 1).as_bytes(), "a").is_some());
        assert!(first(padded(MAX_PARAMETERS).as_bytes(), "a").is_none());
    }
}
