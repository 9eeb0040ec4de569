//! Credentials as they are reported: hashes, by one of four protocols (credential-intelligence.md § 3).

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::extraction::Raw;

/// How credentials are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    V1,
    V2,
    MultistepSso,
    /// [`V2`](Self::V2) where both are there, else [`MultistepSso`](Self::MultistepSso).
    Both,
}

impl Protocol {
    const ALL: [Self; 4] = [Self::V1, Self::V2, Self::MultistepSso, Self::Both];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::MultistepSso => "multistep_sso",
            Self::Both => "both",
        }
    }
}

/// The protocol that was used, `ci_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CiVersion {
    V1,
    V2,
    MultistepSso,
}

impl CiVersion {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::MultistepSso => "multistep_sso",
        }
    }
}

/// Which step of a login in several steps a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SsoStep {
    User,
    Pass,
}

impl SsoStep {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Pass => "pass",
        }
    }
}

/// Credentials as they are reported.
pub struct Credentials {
    /// A hash; of [`CiVersion::MultistepSso`] the name as it is.
    pub user: Option<Zeroizing<String>>,
    pub pass: Option<String>,
    pub version: CiVersion,
    pub sso_step: Option<SsoStep>,
    /// As the visitor typed it, for the report on a login with compromised credentials.
    pub raw_username: Option<Zeroizing<String>>,
}

/// Hashes what was found; `None` where the protocol has nothing to report of it. The password is
/// wiped.
pub fn hashed(raw: Raw, protocol: Protocol) -> Option<Credentials> {
    let is_given = |text: &Option<Zeroizing<String>>| text.as_ref().is_some_and(|t| !t.is_empty());
    let (has_user, has_pass) = (is_given(&raw.user), is_given(&raw.pass));
    let has_both = has_user && has_pass;
    if !has_user && !has_pass {
        return None;
    }
    match protocol {
        Protocol::V1 => v1(raw).filter(|_| has_both),
        Protocol::V2 => v2(raw),
        Protocol::MultistepSso => Some(multistep_sso(raw)),
        Protocol::Both if has_both => v2(raw),
        Protocol::Both => Some(multistep_sso(raw)),
    }
}

fn v1(raw: Raw) -> Option<Credentials> {
    let (user, pass) = raw.user.zip(raw.pass)?;
    Some(Credentials {
        user: Some(Zeroizing::new(sha256(&user))),
        pass: Some(sha256(&pass)),
        version: CiVersion::V1,
        sso_step: None,
        raw_username: Some(user),
    })
}

fn v2(raw: Raw) -> Option<Credentials> {
    let (user, pass) = raw.user.zip(raw.pass)?;
    let hash = sha256(&normalised(&user));
    let salted = Zeroizing::new([&*hash, &*Zeroizing::new(sha256(&pass))].concat());
    Some(Credentials {
        pass: Some(sha256(&salted)),
        user: Some(Zeroizing::new(hash)),
        version: CiVersion::V2,
        sso_step: None,
        raw_username: Some(user),
    })
}

fn multistep_sso(raw: Raw) -> Credentials {
    let user = raw.user.clone().filter(|user| !user.is_empty());
    Credentials {
        pass: raw.pass.map(|pass| sha256(&pass)),
        version: CiVersion::MultistepSso,
        sso_step: Some(if user.is_some() { SsoStep::User } else { SsoStep::Pass }),
        raw_username: raw.user,
        user,
    }
}

/// In lower-case hexadecimal digits.
fn sha256(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text) {
        for digit in [byte >> 4, byte & 15] {
            hex.push(DIGITS.get(usize::from(digit)).copied().map_or('0', char::from));
        }
    }
    hex
}

/// The user name in one spelling: of e-mail addresses in lower case and without what follows a `+`;
/// of those at Gmail without the first dot, as the core does (DECISIONS 13, `gmail_first_dot_only`).
/// What is no address to the core stays as it is.
fn normalised(user: &str) -> Zeroizing<String> {
    if !is_email(user) {
        return Zeroizing::new(user.to_owned());
    }
    let lower = Zeroizing::new(user.to_ascii_lowercase());
    let (local, domain) = lower.split_once('@').unwrap_or((&lower, ""));
    let local = local.split('+').next().unwrap_or_default();
    let (before, after) = match domain {
        "gmail.com" => local.split_once('.').unwrap_or((local, "")),
        _ => (local, ""),
    };
    Zeroizing::new([before, after, "@", domain].concat())
}

/// The core's pattern: words joined by single dots; `@`; labels and a top-level domain of 2 to 7
/// letters.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b"_+&*-".contains(&byte);
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let filled =
        |part: &str, is_fit: &dyn Fn(u8) -> bool| !part.is_empty() && part.bytes().all(is_fit);
    let Some((labels, top)) = domain.rsplit_once('.') else { return false };
    local.split('.').all(|word| filled(word, &is_local))
        && labels.split('.').all(|label| filled(label, &is_label))
        && (2..=7).contains(&top.len())
        && top.bytes().all(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_spelling_and_other_names_their_own() {
        for (user, expected) in [
            ("Alpha@Example.ORG", "alpha@example.org"),
            ("a.n.na+x.y+z@gmail.com", "an.na@gmail.com"),
            ("a.b@googlemail.com", "a.b@googlemail.com"),
            ("+x@example.org", "@example.org"),
            (" Alpha@example.org", " Alpha@example.org"),
            ("Alpha@example.org\n", "Alpha@example.org\n"),
            ("A..b@example.org", "A..b@example.org"),
            ("A@example.technology", "A@example.technology"),
            ("A@example.c1", "A@example.c1"),
            ("A@org", "A@org"),
            ("A@b@example.org", "A@b@example.org"),
            ("\u{c4}@example.org", "\u{c4}@example.org"),
        ] {
            assert_eq!(*normalised(user), expected, "{user}");
        }
    }

    #[test]
    fn protocols_have_one_spelling() {
        for protocol in Protocol::ALL {
            assert_eq!(Protocol::parse(protocol.as_str()), Some(protocol));
        }
        assert_eq!(Protocol::parse("V2"), None);
    }
}
