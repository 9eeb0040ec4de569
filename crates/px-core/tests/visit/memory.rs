//! Memories of authenticated tokens: one that notes, one that recalls, one that is wrong.

use px_core::token_memory::{Fingerprint, Key, TokenMemory};

/// An entry with what it is stored under.
#[derive(Debug)]
pub struct Note {
    secret: Fingerprint,
    is_mobile: bool,
    token: Vec<u8>,
    entry: Vec<u8>,
}

impl Note {
    fn is_of(&self, key: &Key<'_>) -> bool {
        self.secret == key.secret && self.is_mobile == key.is_mobile && self.token == key.token
    }
}

/// Knows nothing and notes everything.
#[derive(Default)]
pub struct Noting(pub Vec<Note>);

impl<'r> TokenMemory<'r> for Noting {
    fn find(&mut self, _: &Key<'_>) -> Option<&'r [u8]> {
        None
    }

    fn store(&mut self, key: &Key<'_>, entry: &[&[u8]]) {
        let Key { secret, is_mobile, token } = *key;
        self.0.push(Note { secret, is_mobile, token: token.to_vec(), entry: entry.concat() });
    }
}

/// Knows what was noted.
pub struct Recalling<'r>(pub &'r [Note]);

impl<'r> TokenMemory<'r> for Recalling<'r> {
    fn find(&mut self, key: &Key<'_>) -> Option<&'r [u8]> {
        self.0.iter().find(|note| note.is_of(key)).map(|note| note.entry.as_slice())
    }

    fn store(&mut self, key: &Key<'_>, _: &[&[u8]]) {
        assert!(self.find(key).is_none(), "what is known was checked once more");
    }
}

/// Knows what was noted of other visits, too, and forgets what it is given.
pub struct Lasting<'r>(pub &'r [Note]);

impl<'r> TokenMemory<'r> for Lasting<'r> {
    fn find(&mut self, key: &Key<'_>) -> Option<&'r [u8]> {
        Recalling(self.0).find(key)
    }

    fn store(&mut self, _: &Key<'_>, _: &[&[u8]]) {}
}

/// Gives the same bytes for every token.
pub struct Always<'r>(pub &'r [u8]);

impl<'r> TokenMemory<'r> for Always<'r> {
    fn find(&mut self, _: &Key<'_>) -> Option<&'r [u8]> {
        Some(self.0)
    }

    fn store(&mut self, _: &Key<'_>, _: &[&[u8]]) {}
}
