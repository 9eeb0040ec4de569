//! Which place in shared memory holds the counters of which application.
//!
//! A place is given when a configuration is put to use, by the master alone, and never taken away:
//! counters go on across reloads, while old workers still count. Counting itself is one index.

use std::sync::atomic::{AtomicU64, Ordering};

use px_core::counters::App;

/// Applications with counters of their own; further ones share those of [`OTHER`].
pub(crate) const PLACES: usize = 32;
/// Longest application id, in words of eight bytes.
const WORDS: usize = 8;
/// The place of all applications that came too late for one of their own.
pub(crate) const OTHER: usize = usize::MAX;
/// What stands for their ids. No application id is like it: all begin with `PX`.
const OTHER_ID: &str = "other";

#[repr(C)]
pub(crate) struct AppPlaces {
    places: [Place; PLACES],
    other: App,
}

/// All zero while free.
#[repr(C)]
struct Place {
    /// The id, filled up with zeros. Written once, the first word last.
    id: [AtomicU64; WORDS],
    counters: App,
}

impl AppPlaces {
    /// The place of an application, from now on. To be called by the master only.
    pub(crate) fn place_of(&self, id: &str) -> usize {
        let Some(id) = words(id) else { return OTHER };
        let found = self.places.iter().position(|place| match place.first_word() {
            0 => {
                place.take(&id);
                true
            }
            _ => place.id.iter().zip(&id).all(|(one, other)| one.load(Ordering::Relaxed) == *other),
        });
        found.unwrap_or(OTHER)
    }

    /// The counters at a place.
    pub(crate) fn at(&self, place: usize) -> &App {
        self.places.get(place).map_or(&self.other, |place| &place.counters)
    }

    /// All applications that have ever been configured; the others last, once all places are taken.
    pub(crate) fn all(&self) -> impl Iterator<Item = (String, &App)> {
        let is_full = self.places.iter().all(|place| place.first_word() != 0);
        let named = self.places.iter().filter(|place| place.first_word() != 0);
        let named = named.map(|place| (place.id(), &place.counters));
        named.chain(is_full.then(|| (OTHER_ID.to_owned(), &self.other)))
    }
}

impl Place {
    fn first_word(&self) -> u64 {
        self.id.first().map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn take(&self, id: &[u64; WORDS]) {
        // Who sees the first word sees the others.
        for (word, value) in self.id.iter().zip(id).rev() {
            word.store(*value, Ordering::Release);
        }
    }

    fn id(&self) -> String {
        let words = self.id.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        let bytes: Vec<u8> = words.take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The id in words; `None` if it has no room in them.
fn words(id: &str) -> Option<[u64; WORDS]> {
    let mut bytes = [0; WORDS * 8];
    bytes.get_mut(..id.len())?.copy_from_slice(id.as_bytes());
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(*bytes.first_chunk()?);
    }
    Some(words)
}
