//! Request ids: random UUIDs (version 4), a batch of which costs one call into the kernel.

use uuid::{Builder, Uuid};

const UUID_BYTES: usize = 16;
/// Ids that are drawn at once.
const BATCH: usize = 256;

/// One worker's ids. Made after the fork: a batch that processes share would give them the same ids.
pub(crate) struct RequestIds {
    random: Box<[[u8; UUID_BYTES]; BATCH]>,
    /// How many of them have not been used.
    left: usize,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self { random: Box::new([[0; UUID_BYTES]; BATCH]), left: 0 }
    }

    /// A fresh id; `None` if the system gives no random bytes.
    pub(crate) fn next(&mut self) -> Option<Uuid> {
        if self.left == 0 {
            getrandom::fill(self.random.as_flattened_mut()).ok()?;
            self.left = BATCH;
        }
        self.left -= 1;
        self.random.get(self.left).map(|bytes| Builder::from_random_bytes(*bytes).into_uuid())
    }
}
