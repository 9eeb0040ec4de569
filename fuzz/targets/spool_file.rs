//! Files of the spool. First letter `f`: a file as it lies on disk; otherwise activities, one batch a
//! line, which are sealed here, and then edits of the file behind a line `~edit`: pairs of a place and the
//! byte to put there, a single byte at the end the place where it is cut off.
//!
//! Nothing opens that was not sealed, nothing opens at another place, and what was left alone opens.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_core::sealed::{self, Batch, Encoding, Fault, FileId, HEADER_LENGTH, Header, Root, Salt};
use px_fuzz::in_time;

const SALT: Salt = *b"sixteen of salt.";
const FILE: FileId = *b"a file's own id.";
/// Deriving it is dear.
static ROOT: LazyLock<Root> = LazyLock::new(|| Root::derive("token", &SALT));

fuzz_target!(|text: &[u8]| {
    in_time(|| match text.split_first() {
        Some((b'f', file)) => as_it_lies(file),
        Some((_, text)) => edited(text),
        None => {}
    });
});

fn as_it_lies(file: &[u8]) {
    let claimed = sealed::claimed_activities(file);
    // A record has 22 bytes at least, and 65535 activities at most.
    assert!(claimed <= (file.len() as u64 / 22) * 65535);
    match sealed::open_with(file, &ROOT) {
        Ok(opened) => {
            assert_eq!(Ok(opened.header), Header::read(file));
            assert!(opened.batches.is_empty(), "somebody knows the key");
            assert!(opened.skipped <= 1 + file.len() / 22);
        }
        Err(Fault::TooLarge) => panic!("nothing is too large to be read"),
        Err(fault) => assert_eq!(Err(fault), Header::read(file)),
    }
}

fn edited(text: &[u8]) {
    const EDIT: &[u8] = b"\n~edit";
    let at = text.windows(EDIT.len()).position(|piece| piece == EDIT);
    let (lines, edits) = match at {
        Some(at) => (&text[..at], &text[at + EDIT.len()..]),
        None => (text, &b""[..]),
    };
    let batch = |(count, line): (u16, &[u8])| Batch {
        url: "https://collector.example/api".to_owned(),
        encoding: if count % 2 == 0 { Encoding::Identity } else { Encoding::Deflate },
        count,
        activities: line.to_vec(),
    };
    let batches: Vec<_> =
        (1..).zip(lines.split(|byte| *byte == b'\n').take(20)).map(batch).collect();
    let mut sealer = sealed::Sealer::new(&ROOT, &Header { salt: SALT, file: FILE });
    let mut file = Vec::new();
    let mut ends = Vec::new();
    for batch in &batches {
        sealer.seal(batch, &mut file).expect("small");
        ends.push(file.len());
    }
    let whole = file.clone();
    let pairs = edits.chunks_exact(2);
    if let [cut] = pairs.remainder() {
        file.truncate(usize::from(*cut) * file.len() / 256);
    }
    for edit in pairs.take(4) {
        let at = usize::from(edit[0]) * file.len() / 256;
        if let Some(place) = file.get_mut(at) {
            *place = edit[1];
        }
    }
    let first_change = whole.iter().zip(&file).position(|(a, b)| a != b).unwrap_or(file.len());
    let Ok(opened) = sealed::open_with(&file, &ROOT) else {
        assert!(first_change < HEADER_LENGTH, "what begins well is a file");
        return;
    };
    let untouched = ends.iter().filter(|end| **end <= first_change).count();
    assert_eq!(opened.batches[..untouched], batches[..untouched]);
    // What opens is what was sealed, in its order.
    let mut sealed = batches.iter();
    assert!(opened.batches.iter().all(|batch| sealed.any(|other| other == batch)));
    assert!(opened.batches.len() + opened.skipped <= batches.len() + file.len() / 22);
    if file == whole {
        assert_eq!(opened.skipped, 0);
    }
}
