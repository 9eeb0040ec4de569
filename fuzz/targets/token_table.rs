//! The table of authenticated tokens. The first byte is its size; then one operation a byte, on keys that
//! often share a chain: it finds what was kept last, and forgets what was used longest ago.
#![no_main]

use libfuzzer_sys::fuzz_target;
use px_core::token_cache::{Header, Link, Slot, Table};

fuzz_target!(|operations: &[u8]| {
    let Some((&size, operations)) = operations.split_first() else { return };
    let size = usize::from(size % 9);
    let mut header = Header::default();
    let mut buckets = vec![Link::default(); size / 2 + 1];
    let mut slots = vec![Slot::default(); size];
    let mut table = Table { header: &mut header, buckets: &mut buckets, slots: &mut slots };
    // By age, the newest last.
    let mut known: Vec<(u8, u8)> = Vec::new();
    for (number, operation) in (0..=u8::MAX).cycle().zip(operations) {
        let name = operation & 0x0f;
        // As many bits of a hash as there are chains to be shared.
        let hash = u64::from(name % 3) << 32;
        let at = known.iter().position(|(other, _)| *other == name);
        if operation & 0x10 == 0 {
            let found = table.find(hash, &[b"key", &[name]]).map(<[u8]>::to_vec);
            assert_eq!(found, at.map(|at| vec![known[at].1]));
            if let Some(at) = at {
                let entry = known.remove(at);
                known.push(entry);
            }
            continue;
        }
        let is_kept = table.store(hash, &[b"key", &[name]], &[&[number]]);
        assert_eq!(is_kept, size > 0);
        if is_kept {
            match at {
                Some(at) => drop(known.remove(at)),
                None if known.len() == size => drop(known.remove(0)),
                None => {}
            }
            known.push((name, number));
        }
        assert_eq!(table.len(), known.len());
        assert_eq!(table.is_empty(), known.is_empty());
    }
});
