//! The table of authenticated tokens: fixed memory, found by hash, least recently used goes first.
//!
//! Made for memory shared by workers: no pointers, no allocation, all zero at first, and whatever
//! the memory holds, an operation ends after a bounded number of steps. Who is killed within a change
//! leaves it marked, and the next one empties the table: half an entry is nobody's. Keys are compared byte for
//! byte, so a hit is as strict as the HMAC that admitted the entry (DECISIONS 17). Who locks the
//! memory, and gives it out as slices, is the caller.

use std::sync::atomic::{Ordering, compiler_fence};

/// Bytes of key and entry that a slot holds together; what is longer is not kept.
pub const SLOT_BYTES: usize = 1472;

/// State of the table beside its slots.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Header {
    /// Slots that have ever been used; the others are free.
    used: u32,
    newest: Link,
    oldest: Link,
    /// Not zero while the table is being changed.
    changing: u32,
}

/// A slot's number plus one; zero for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Link(u32);

impl Link {
    const NONE: Self = Self(0);

    fn to(index: usize) -> Self {
        u32::try_from(index + 1).map_or(Self::NONE, Self)
    }

    const fn index(self) -> Option<usize> {
        (self.0 as usize).checked_sub(1)
    }
}

/// One entry.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Slot {
    hash: u64,
    /// Next in the same bucket.
    next: Link,
    newer: Link,
    older: Link,
    key_len: u16,
    entry_len: u16,
    bytes: [u8; SLOT_BYTES],
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            hash: 0,
            next: Link::NONE,
            newer: Link::NONE,
            older: Link::NONE,
            key_len: 0,
            entry_len: 0,
            bytes: [0; SLOT_BYTES],
        }
    }
}

impl Slot {
    fn key(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.key_len)).unwrap_or_default()
    }

    fn entry(&self) -> &[u8] {
        let from = usize::from(self.key_len);
        self.bytes.get(from..from + usize::from(self.entry_len)).unwrap_or_default()
    }
}

/// The table over its memory.
pub struct Table<'m> {
    pub header: &'m mut Header,
    /// Heads of the chains; at least one, best about as many as slots.
    pub buckets: &'m mut [Link],
    pub slots: &'m mut [Slot],
}

impl Table<'_> {
    /// The entry stored under exactly these key parts, made the most recently used.
    pub fn find(&mut self, hash: u64, key: &[&[u8]]) -> Option<&[u8]> {
        self.recover();
        let index = self.position(hash, key)?;
        if self.header.newest != Link::to(index) {
            self.change(|table| {
                table.unlink_age(index);
                table.link_newest(index);
            });
        }
        self.slots.get(index).map(Slot::entry)
    }

    /// Keeps an entry, in the place of the least recently used one if need be. Nothing is kept
    /// that does not fit into a slot. False if nothing was kept.
    pub fn store(&mut self, hash: u64, key: &[&[u8]], entry: &[&[u8]]) -> bool {
        let (key_len, entry_len) = (total(key), total(entry));
        if key_len + entry_len > SLOT_BYTES {
            return false;
        }
        self.recover();
        self.change(|table| table.put(hash, key, entry))
    }

    /// Entries in the table.
    pub fn len(&self) -> usize {
        self.header.used as usize
    }

    pub fn is_empty(&self) -> bool {
        self.header.used == 0
    }

    /// Runs `change`, with the table marked meanwhile.
    fn change<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        self.header.changing = 1;
        // The mark has to be there before the first byte of the change, and until the last.
        compiler_fence(Ordering::SeqCst);
        let result = change(self);
        compiler_fence(Ordering::SeqCst);
        self.header.changing = 0;
        result
    }

    /// Empties a table whose last change was not finished.
    fn recover(&mut self) {
        if self.header.changing != 0 {
            self.buckets.fill(Link::NONE);
            *self.header = Header::default();
        }
    }

    /// [`store`](Self::store) of what fits.
    fn put(&mut self, hash: u64, key: &[&[u8]], entry: &[&[u8]]) -> bool {
        let index = match self.position(hash, key) {
            Some(index) => {
                self.unlink_age(index);
                index
            }
            None => match self.make_room() {
                Some(index) => {
                    self.chain(index, hash);
                    index
                }
                None => return false,
            },
        };
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let mut at = 0;
        for part in key.iter().chain(entry) {
            if let Some(room) = slot.bytes.get_mut(at..at + part.len()) {
                room.copy_from_slice(part);
            }
            at += part.len();
        }
        // Both are at most SLOT_BYTES.
        slot.key_len = u16::try_from(total(key)).unwrap_or_default();
        slot.entry_len = u16::try_from(total(entry)).unwrap_or_default();
        self.link_newest(index);
        true
    }

    fn position(&self, hash: u64, key: &[&[u8]]) -> Option<usize> {
        let mut link = *self.buckets.get(self.bucket(hash)?)?;
        // No chain is longer than the table; a longer one is damaged.
        for _ in 0..self.slots.len() {
            let index = link.index()?;
            let slot = self.slots.get(index)?;
            if slot.hash == hash && same(slot.key(), key) {
                return Some(index);
            }
            link = slot.next;
        }
        None
    }

    fn bucket(&self, hash: u64) -> Option<usize> {
        let count = u64::try_from(self.buckets.len()).ok()?;
        // The high bits: hash functions differ in how well they mix the low ones.
        usize::try_from((hash >> 32).checked_rem(count)?).ok()
    }

    /// A slot that is in no chain and in no order of age.
    fn make_room(&mut self) -> Option<usize> {
        let used = self.header.used as usize;
        if used < self.slots.len() {
            self.header.used += 1;
            return Some(used);
        }
        let index = self.header.oldest.index()?;
        self.unlink_age(index);
        self.unchain(index);
        Some(index)
    }

    fn chain(&mut self, index: usize, hash: u64) {
        let Some(bucket) = self.bucket(hash) else { return };
        let Some(head) = self.buckets.get_mut(bucket) else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.hash = hash;
        slot.next = *head;
        *head = Link::to(index);
    }

    fn unchain(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let (hash, next) = (slot.hash, slot.next);
        let Some(bucket) = self.bucket(hash) else { return };
        let Some(head) = self.buckets.get_mut(bucket) else { return };
        if *head == Link::to(index) {
            *head = next;
            return;
        }
        let mut link = *head;
        for _ in 0..self.slots.len() {
            let Some(before) = link.index().and_then(|at| self.slots.get_mut(at)) else { return };
            if before.next == Link::to(index) {
                before.next = next;
                return;
            }
            link = before.next;
        }
    }

    fn unlink_age(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let (newer, older) = (slot.newer, slot.older);
        match newer.index().and_then(|at| self.slots.get_mut(at)) {
            Some(slot) => slot.older = older,
            None => self.header.newest = older,
        }
        match older.index().and_then(|at| self.slots.get_mut(at)) {
            Some(slot) => slot.newer = newer,
            None => self.header.oldest = newer,
        }
    }

    fn link_newest(&mut self, index: usize) {
        let before = self.header.newest;
        if let Some(slot) = self.slots.get_mut(index) {
            slot.newer = Link::NONE;
            slot.older = before;
        }
        match before.index().and_then(|at| self.slots.get_mut(at)) {
            Some(slot) => slot.newer = Link::to(index),
            None => self.header.oldest = Link::to(index),
        }
        self.header.newest = Link::to(index);
    }
}

fn total(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

/// Are the parts, one after the other, exactly `whole`?
fn same(mut whole: &[u8], parts: &[&[u8]]) -> bool {
    for part in parts {
        match whole.split_at_checked(part.len()) {
            Some((head, rest)) if head == *part => whole = rest,
            _ => return false,
        }
    }
    whole.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Memory {
        header: Header,
        buckets: Vec<Link>,
        slots: Vec<Slot>,
    }

    impl Memory {
        fn new(slots: usize) -> Self {
            Self {
                header: Header::default(),
                buckets: vec![Link::NONE; slots.div_ceil(2)],
                slots: vec![Slot::default(); slots],
            }
        }

        fn table(&mut self) -> Table<'_> {
            Table { header: &mut self.header, buckets: &mut self.buckets, slots: &mut self.slots }
        }
    }

    /// A hash that collides often: a bucket of its own for every third key only.
    fn hash(key: &str) -> u64 {
        (key.bytes().map(u64::from).sum::<u64>() % 3) << 32
    }

    fn get(memory: &mut Memory, key: &str) -> Option<String> {
        let mut table = memory.table();
        let found = table.find(hash(key), &[b"secret", key.as_bytes()]);
        found.map(|entry| String::from_utf8_lossy(entry).into_owned())
    }

    fn put(memory: &mut Memory, key: &str, entry: &str) -> bool {
        memory.table().store(hash(key), &[b"secret", key.as_bytes()], &[entry.as_bytes(), b"."])
    }

    #[test]
    fn finds_what_was_stored_under_exactly_this_key() {
        let mut memory = Memory::new(8);
        assert!(memory.table().is_empty());
        assert!(put(&mut memory, "token", "entry"));
        assert_eq!(get(&mut memory, "token").as_deref(), Some("entry."));
        assert_eq!(get(&mut memory, "tokeo"), None);
        assert_eq!(get(&mut memory, "toke"), None);
        assert_eq!(get(&mut memory, "token "), None);
        let mut table = memory.table();
        assert!(table.find(hash("token"), &[b"secreu", b"token"]).is_none());
        // The parts' boundary is the caller's: the fingerprint has a fixed length.
        assert!(table.find(hash("token"), &[b"secre", b"ttoken"]).is_some());
        assert!(table.find(1 << 32, &[b"secret", b"token"]).is_none());
    }

    #[test]
    fn storing_again_replaces() {
        let mut memory = Memory::new(2);
        for text in ["a", "bb", "", "c"] {
            assert!(put(&mut memory, "key", text));
            assert_eq!(get(&mut memory, "key"), Some(format!("{text}.")));
            assert_eq!(memory.table().len(), 1);
        }
    }

    /// What a worker that is killed while it stores leaves behind: the new key beside the entry of the
    /// old one, whose place it takes.
    #[test]
    fn a_change_that_was_cut_off_is_nobodys() {
        let mut memory = Memory::new(1);
        assert!(put(&mut memory, "old", "passes"));
        memory.header.changing = 1;
        let mut table = memory.table();
        assert_eq!(table.make_room(), Some(0));
        table.chain(0, hash("new"));
        let at = b"secretold".len();
        assert_eq!(memory.slots[0].bytes.get(..at), Some(&b"secretold"[..]));
        memory.slots[0].bytes[..at].copy_from_slice(b"secretnew");

        assert_eq!(get(&mut memory, "new"), None);
        assert!(memory.table().is_empty());
        assert!(put(&mut memory, "new", "blocks"));
        assert_eq!(get(&mut memory, "new").as_deref(), Some("blocks."));
        memory.header.changing = 1;
        assert!(put(&mut memory, "next", "passes"));
        assert_eq!(get(&mut memory, "new"), None);
        assert_eq!(get(&mut memory, "next").as_deref(), Some("passes."));
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut memory = Memory::new(3);
        for key in ["a", "b", "c"] {
            assert!(put(&mut memory, key, key));
        }
        assert!(get(&mut memory, "a").is_some());
        assert!(put(&mut memory, "d", "d"));
        assert_eq!(get(&mut memory, "b"), None);
        for key in ["a", "c", "d"] {
            assert_eq!(get(&mut memory, key), Some(format!("{key}.")));
        }
    }

    #[test]
    fn what_does_not_fit_into_a_slot_is_not_kept() {
        let mut memory = Memory::new(2);
        let fits = "x".repeat(SLOT_BYTES - "secret".len() - "k".len() - 1);
        assert!(put(&mut memory, "k", &fits));
        assert_eq!(get(&mut memory, "k").map(|entry| entry.len()), Some(fits.len() + 1));
        assert!(!put(&mut memory, "l", &format!("{fits}x")));
        assert_eq!(get(&mut memory, "l"), None);
    }

    #[test]
    fn agrees_with_a_simple_model_over_many_operations() {
        let mut memory = Memory::new(7);
        // Keys by age, newest last.
        let mut model: Vec<(String, String)> = Vec::new();
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let key = format!("k{}", random % 12);
            let known = model.iter().position(|(k, _)| *k == key);
            if random & 1 << 40 == 0 {
                let expected = known.map(|at| {
                    let entry = model.remove(at);
                    model.push(entry.clone());
                    format!("{}.", entry.1)
                });
                assert_eq!(get(&mut memory, &key), expected, "round {round}");
            } else {
                if let Some(at) = known {
                    model.remove(at);
                } else if model.len() == 7 {
                    model.remove(0);
                }
                model.push((key.clone(), round.to_string()));
                assert!(put(&mut memory, &key, &round.to_string()));
            }
            assert_eq!(memory.table().len(), model.len());
        }
    }

    #[test]
    fn damaged_memory_neither_panics_nor_hangs() {
        let mut memory = Memory::new(5);
        for key in ["a", "b", "c", "d", "e"] {
            put(&mut memory, key, key);
        }
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..5000 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let slot = &mut memory.slots[(random >> 60) as usize % 5];
            match random >> 40 & 7 {
                0 => slot.next = Link((random >> 8) as u32),
                1 => slot.newer = Link((random >> 8 & 7) as u32),
                2 => slot.older = Link((random >> 8 & 7) as u32),
                3 => slot.key_len = (random >> 8) as u16,
                4 => slot.entry_len = (random >> 8) as u16,
                5 => memory.header.oldest = Link((random >> 8 & 15) as u32),
                6 => memory.header.used = (random >> 8 & 15) as u32,
                _ => slot.hash = random,
            }
            get(&mut memory, "a");
            put(&mut memory, "f", "f");
        }
        for buckets in [0, 1] {
            let mut empty = Memory::new(0);
            empty.buckets = vec![Link::NONE; buckets];
            assert!(!put(&mut empty, "a", "a"));
            assert_eq!(get(&mut empty, "a"), None);
        }
    }
}
