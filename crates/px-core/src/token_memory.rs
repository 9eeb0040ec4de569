//! Where authenticated tokens are remembered across requests: what the enforcer asks of it.
//!
//! Source: DECISIONS 17. The memory is the caller's, shared by workers if it likes. The enforcer
//! trusts it with nothing but time: an entry that makes no sense, or belongs to another visitor, is
//! as good as none.

/// Tokens that were authenticated before.
pub trait TokenMemory<'r> {
    /// The entry that was stored under exactly this key, as a copy that lives as long as the
    /// request. Found by a keyed hash, compared byte for byte.
    fn find(&mut self, key: &Key<'_>) -> Option<&'r [u8]>;

    /// Keeps an entry, given in parts that are to be joined, in the place of an older one with this
    /// key. May silently do nothing.
    fn store(&mut self, key: &Key<'_>, entry: &[&[u8]]);
}

/// What an entry is stored under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key<'k> {
    /// Tells the cookie secret that authenticated the token from any other, and nothing about it.
    pub secret: Fingerprint,
    /// Whether an app sent it: to apps and to browsers one text is two tokens, and has a place for each.
    pub is_mobile: bool,
    /// The token's text.
    pub token: &'k [u8],
}

impl<'k> Key<'k> {
    /// All of it, in parts whose bounds do not depend on the token.
    pub fn parts(&'k self) -> [&'k [u8]; 3] {
        [&self.secret, if self.is_mobile { b"m" } else { b"w" }, self.token]
    }
}

/// Fingerprint of a cookie secret.
pub type Fingerprint = [u8; 16];

/// A memory that keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMemory;

impl<'r> TokenMemory<'r> for NoMemory {
    fn find(&mut self, _: &Key<'_>) -> Option<&'r [u8]> {
        None
    }

    fn store(&mut self, _: &Key<'_>, _: &[&[u8]]) {}
}
