//! Batches of activities as they wait on disk: sealed with AES-256-GCM under a key that PBKDF2
//! derives from the auth token, so that a disk tells nobody about visitors (DECISIONS 22, 23).
//!
//! A file is a header and any number of records, numbers in little-endian order:
//!
//! ```text
//! header  "PXSPOOL" version(1) salt(16) file(16)
//! record  length(4) activities(2) ciphertext(length - 16) tag(16)
//!
//! root    PBKDF2-HMAC-SHA256(token, salt)
//! key     HMAC-SHA256(root, file)
//! nonce   the record's index, filled up with zeros
//! ```
//!
//! Header and frame are authenticated with every record: a record opens only where it was written.
//! What cannot be told is whether records are missing at the end: that is how a file looks when a
//! process dies.

use std::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::aes::cipher::consts::U12;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

const MAGIC: [u8; 7] = *b"PXSPOOL";
const VERSION: u8 = 1;
/// Fixed by the version: a number in the file could order any amount of work.
const ITERATIONS: u32 = 100_000;
const FRAME_LENGTH: usize = 6;
const TAG_LENGTH: usize = 16;

/// Bytes of a file before its first record.
pub const HEADER_LENGTH: usize = 40;

/// What a root is derived with, beside the token: one for all files of a directory.
pub type Salt = [u8; 16];

/// What the key of a file is derived with: the lane, and a number that no other file of the lane
/// has. Never used for two files: the nonces of all are the same.
pub type FileId = [u8; 16];

/// Whose files belong together: those that one worker writes for one destination.
pub type Lane = [u8; 8];

/// A lane for `url`. Its first half is made of the URL: whoever has many tokens sees which to try
/// first.
pub fn lane(url: &str, random: [u8; 4]) -> Lane {
    let mut lane = Lane::default();
    fill(&mut lane, url_hint(url).into_iter().chain(random));
    lane
}

/// Whether a lane may have been made for `url`.
pub fn hints_at(lane: &Lane, url: &str) -> bool {
    lane.starts_with(&url_hint(url))
}

pub fn file_id(lane: &Lane, random: [u8; 8]) -> FileId {
    let mut file = FileId::default();
    fill(&mut file, lane.iter().copied().chain(random));
    file
}

/// The lane that a file belongs to.
pub fn lane_of(file: &FileId) -> Lane {
    file.first_chunk().copied().unwrap_or_default()
}

fn url_hint(url: &str) -> [u8; 4] {
    Sha256::digest(url.as_bytes()).first_chunk().copied().unwrap_or_default()
}

fn fill(places: &mut [u8], bytes: impl Iterator<Item = u8>) {
    for (place, byte) in places.iter_mut().zip(bytes) {
        *place = byte;
    }
}

/// The secret that the keys of all files come from which share a token and a salt. Deriving it
/// costs tens of milliseconds.
#[derive(Clone)]
pub struct Root(Hmac<Sha256>);

impl Root {
    pub fn derive(token: &str, salt: &Salt) -> Self {
        let mut root = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(token.as_bytes(), salt, ITERATIONS, &mut root);
        Self(<Hmac<Sha256> as KeyInit>::new(&hmac_key(&root)))
    }

    fn cipher(&self, file: &FileId) -> Aes256Gcm {
        let mut mac = self.0.clone();
        mac.update(file);
        Aes256Gcm::new(&mac.finalize().into_bytes())
    }
}

/// HMAC's key is one block of its hash; a shorter one is filled up with zeros (RFC 2104 § 2).
fn hmac_key(root: &[u8; 32]) -> hmac::digest::Key<Hmac<Sha256>> {
    let mut key = hmac::digest::Key::<Hmac<Sha256>>::default();
    fill(&mut key, root.iter().copied());
    key
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root(***)")
    }
}

/// What a file says of itself in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub salt: Salt,
    pub file: FileId,
}

impl Header {
    pub fn read(file: &[u8]) -> Result<Self, Fault> {
        let (magic, rest) = file.split_first_chunk().ok_or(Fault::NotSealed)?;
        let (version, rest) = rest.split_first().ok_or(Fault::NotSealed)?;
        let (salt, rest) = rest.split_first_chunk().ok_or(Fault::NotSealed)?;
        let (file, _) = rest.split_first_chunk().ok_or(Fault::NotSealed)?;
        if *magic != MAGIC {
            return Err(Fault::NotSealed);
        }
        if *version != VERSION {
            return Err(Fault::Version(*version));
        }
        Ok(Self { salt: *salt, file: *file })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.file);
    }
}

/// Activities on their way to one URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where they were to be posted.
    pub url: String,
    pub encoding: Encoding,
    pub count: u16,
    /// JSON objects separated by commas, without brackets, encoded as said.
    pub activities: Vec<u8>,
}

/// How the activities of a batch are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    /// RFC 1951.
    Deflate,
}

impl Encoding {
    fn byte(self) -> u8 {
        match self {
            Self::Identity => 0,
            Self::Deflate => 1,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Identity),
            1 => Some(Self::Deflate),
            _ => None,
        }
    }
}

/// Seals the records of one file, one after another.
pub struct Sealer {
    header: Vec<u8>,
    cipher: Aes256Gcm,
    /// Of the next record.
    index: u32,
}

impl Sealer {
    /// `root` must be that of the header's salt.
    pub fn new(root: &Root, header: &Header) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_LENGTH);
        header.write(&mut bytes);
        Self { header: bytes, cipher: root.cipher(&header.file), index: 0 }
    }

    /// Appends to `out` what comes next in the file: the record, before the first one the header.
    /// On an error nothing is appended.
    pub fn seal(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), Fault> {
        let url_length = u16::try_from(batch.url.len()).map_err(|_| Fault::TooLarge)?;
        let next_index = self.index.checked_add(1).ok_or(Fault::TooLarge)?;
        let mut text = Vec::with_capacity(3 + batch.url.len() + batch.activities.len());
        text.push(batch.encoding.byte());
        text.extend_from_slice(&url_length.to_le_bytes());
        text.extend_from_slice(batch.url.as_bytes());
        text.extend_from_slice(&batch.activities);

        let length = u32::try_from(text.len() + TAG_LENGTH).map_err(|_| Fault::TooLarge)?;
        let associated = associated(&self.header, length, batch.count);
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce(self.index), &associated, text.as_mut_slice().into())
            .map_err(|_| Fault::TooLarge)?;

        if self.index == 0 {
            out.extend_from_slice(&self.header);
        }
        out.extend_from_slice(associated.get(self.header.len()..).unwrap_or_default());
        out.extend_from_slice(&text);
        out.extend_from_slice(&tag);
        self.index = next_index;
        Ok(())
    }
}

/// A file that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub header: Header,
    /// The records that opened, in their order.
    pub batches: Vec<Batch>,
    /// How many others there are: altered, torn, or sealed under another token.
    pub skipped: usize,
}

/// Why a file, or a record of it, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No file of this kind, or not even a whole header.
    NotSealed,
    /// Written by another version.
    Version(u8),
    /// The URL, the batch or the file is larger than the format can say.
    TooLarge,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSealed => f.write_str("it is no spool file"),
            Self::Version(version) => write!(f, "version {version} of the format is not known"),
            Self::TooLarge => f.write_str("it is too large"),
        }
    }
}

impl std::error::Error for Fault {}

/// Opens a file, whatever its bytes, with the token it may have been sealed under.
pub fn open(file: &[u8], token: &str) -> Result<Opened, Fault> {
    let header = Header::read(file)?;
    open_with(file, &Root::derive(token, &header.salt))
}

/// As [`open`], with the root for the salt of the file's header.
pub fn open_with(file: &[u8], root: &Root) -> Result<Opened, Fault> {
    let header = Header::read(file)?;
    let head = file.get(..HEADER_LENGTH).ok_or(Fault::NotSealed)?;
    let cipher = root.cipher(&header.file);
    let mut opened = Opened { header, batches: Vec::new(), skipped: 0 };
    for (index, frame) in (0_u32..).zip(Frames::of(file)) {
        let batch = frame.ok().and_then(|frame| {
            let associated = associated(head, frame.length, frame.count);
            frame.open(&cipher, &nonce(index), &associated)
        });
        match batch {
            Some(batch) => opened.batches.push(batch),
            None => opened.skipped += 1,
        }
    }
    Ok(opened)
}

/// How many activities the frames of a file claim, for counting what is given up unopened.
pub fn claimed_activities(file: &[u8]) -> u64 {
    Frames::of(file).flatten().map(|frame| u64::from(frame.count)).sum()
}

fn associated(header: &[u8], length: u32, count: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LENGTH + FRAME_LENGTH);
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes
}

fn nonce(index: u32) -> Nonce<U12> {
    let mut nonce = Nonce::default();
    fill(&mut nonce, index.to_le_bytes().into_iter());
    nonce
}

/// The records of a file as their frames delimit them.
struct Frames<'a>(&'a [u8]);

struct Frame<'a> {
    length: u32,
    count: u16,
    ciphertext: &'a [u8],
    tag: [u8; TAG_LENGTH],
}

/// A record that ends before it should; nothing can be found after it.
struct Torn;

impl<'a> Frames<'a> {
    fn of(file: &'a [u8]) -> Self {
        Self(file.get(HEADER_LENGTH..).unwrap_or_default())
    }

    fn cut(&mut self) -> Option<Frame<'a>> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let length = u32::from_le_bytes(*length);
        let sealed = rest.get(..usize::try_from(length).ok()?)?;
        let (ciphertext, tag) = sealed.split_last_chunk()?;
        self.0 = rest.get(sealed.len()..)?;
        Some(Frame { length, count: u16::from_le_bytes(*count), ciphertext, tag: *tag })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Torn>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let frame = self.cut().ok_or(Torn);
        if frame.is_err() {
            self.0 = &[];
        }
        Some(frame)
    }
}

impl Frame<'_> {
    fn open(&self, cipher: &Aes256Gcm, nonce: &Nonce<U12>, associated: &[u8]) -> Option<Batch> {
        let mut text = self.ciphertext.to_vec();
        let tag = Tag::from(self.tag);
        cipher.decrypt_inout_detached(nonce, associated, text.as_mut_slice().into(), &tag).ok()?;
        let (encoding, rest) = text.split_first()?;
        let (url_length, rest) = rest.split_first_chunk()?;
        let (url, activities) = rest.split_at_checked(u16::from_le_bytes(*url_length).into())?;
        Some(Batch {
            url: str::from_utf8(url).ok()?.to_owned(),
            encoding: Encoding::of(*encoding)?,
            count: self.count,
            activities: activities.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "made-up-token";
    const HEADER: Header = Header { salt: [7; 16], file: [9; 16] };

    /// Derived once: that is what costs.
    fn root() -> &'static Root {
        static ROOT: std::sync::OnceLock<Root> = std::sync::OnceLock::new();
        ROOT.get_or_init(|| Root::derive(TOKEN, &HEADER.salt))
    }

    fn batch(number: u16) -> Batch {
        Batch {
            url: "https://collector.test/api/v1/collector/s2s".to_owned(),
            encoding: if number.is_multiple_of(2) { Encoding::Deflate } else { Encoding::Identity },
            count: number,
            activities: format!("{{\"url\":\"http://site.test/{number}\"}}").into_bytes(),
        }
    }

    /// A file of so many batches, and where its records begin and end.
    fn sealed(count: u16) -> (Vec<u8>, Vec<usize>) {
        let (mut file, mut ends) = (Vec::new(), vec![HEADER_LENGTH]);
        let mut sealer = Sealer::new(root(), &HEADER);
        for number in 1..=count {
            sealer.seal(&batch(number), &mut file).expect("it fits");
            ends.push(file.len());
        }
        (file, ends)
    }

    fn numbers(opened: &Opened) -> Vec<u16> {
        opened.batches.iter().map(|batch| batch.count).collect()
    }

    #[test]
    fn what_was_sealed_opens_with_the_token_alone() {
        let (file, _) = sealed(3);
        let opened = open(&file, TOKEN).expect("it fits");
        assert_eq!(opened.header, HEADER);
        assert_eq!(opened.batches, [batch(1), batch(2), batch(3)]);
        assert_eq!(opened.skipped, 0);
        assert_eq!(claimed_activities(&file), 1 + 2 + 3);
    }

    #[test]
    fn another_token_opens_nothing() {
        let (file, _) = sealed(2);
        for token in ["", "made-up-token "] {
            let opened = open(&file, token).expect("it fits");
            assert_eq!((opened.batches.len(), opened.skipped), (0, 2), "{token:?}");
        }
    }

    #[test]
    fn nothing_of_a_batch_can_be_read_without_the_token() {
        let (file, _) = sealed(4);
        for clear in ["collector", "site.test", "http", "url", TOKEN] {
            let clear = clear.as_bytes();
            assert!(!file.windows(clear.len()).any(|bytes| bytes == clear));
        }
    }

    #[test]
    fn a_flipped_bit_costs_the_record_it_is_in() {
        let (file, ends) = sealed(3);
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut altered = file.clone();
                altered[at] ^= 1 << bit;
                let Ok(opened) = open_with(&altered, root()) else {
                    assert!(at < 8, "only magic and version make a file unreadable, not {at}");
                    continue;
                };
                let hit = ends.iter().rposition(|end| at >= *end);
                match hit {
                    None => assert!(opened.batches.is_empty(), "the header is authenticated"),
                    Some(hit) => {
                        let others: Vec<u16> =
                            (1..=3).filter(|number| usize::from(*number) != hit + 1).collect();
                        if at < ends[hit] + 4 {
                            // A wrong length leads astray: what came before is still there.
                            assert_eq!(numbers(&opened), others[..hit]);
                        } else {
                            assert_eq!(numbers(&opened), others, "byte {at}");
                            assert_eq!(opened.skipped, 1);
                        }
                    }
                }
                assert!(opened.batches.iter().all(|found| *found == batch(found.count)));
            }
        }
    }

    #[test]
    fn a_torn_file_gives_what_was_whole() {
        let (file, ends) = sealed(3);
        for length in 0..file.len() {
            let torn = &file[..length];
            if length < HEADER_LENGTH {
                assert_eq!(open_with(torn, root()), Err(Fault::NotSealed));
                continue;
            }
            let opened = open_with(torn, root()).expect("it fits");
            let whole = ends.iter().filter(|end| **end <= length).count() - 1;
            assert_eq!(opened.batches.len(), whole, "{length}");
            assert_eq!(opened.skipped, usize::from(!ends.contains(&length)), "{length}");
            claimed_activities(torn);
        }
    }

    #[test]
    fn records_open_only_where_they_were_written() {
        let (file, ends) = sealed(3);
        let record = |number: usize| &file[ends[number - 1]..ends[number]];
        let arranged = |numbers: &[usize]| {
            let mut bytes = file[..HEADER_LENGTH].to_vec();
            numbers.iter().for_each(|number| bytes.extend_from_slice(record(*number)));
            open_with(&bytes, root()).expect("it fits")
        };
        for (order, found) in [
            (&[1, 2, 3][..], &[1, 2, 3][..]),
            (&[2, 1, 3], &[3]),
            (&[1, 1, 3], &[1, 3]),
            (&[2, 3], &[]),
            (&[1, 2, 3, 3], &[1, 2, 3]),
        ] {
            assert_eq!(numbers(&arranged(order)), found, "{order:?}");
        }
        // Nor in another file of the same key.
        let other = Header { file: [8; 16], ..HEADER };
        let mut moved = Vec::new();
        other.write(&mut moved);
        moved.extend_from_slice(&file[HEADER_LENGTH..]);
        assert_eq!(open_with(&moved, root()).expect("it fits").skipped, 3);
    }

    #[test]
    fn equal_batches_look_different() {
        let mut file = Vec::new();
        let mut sealer = Sealer::new(root(), &HEADER);
        sealer.seal(&batch(1), &mut file).expect("it fits");
        let first = file.split_off(HEADER_LENGTH);
        let mut second = Vec::new();
        sealer.seal(&batch(1), &mut second).expect("it fits");
        assert_eq!(first[..FRAME_LENGTH], second[..FRAME_LENGTH]);
        assert_ne!(first[FRAME_LENGTH..], second[FRAME_LENGTH..]);
    }

    #[test]
    fn refuses_what_is_no_spool_file() {
        let (file, _) = sealed(1);
        let mut newer = file.clone();
        newer[7] = 2;
        for (bytes, fault) in [
            (&b""[..], Fault::NotSealed),
            (b"PXSPOOL", Fault::NotSealed),
            (&[0; 100], Fault::NotSealed),
            (&newer, Fault::Version(2)),
        ] {
            assert_eq!(open(bytes, TOKEN), Err(fault));
            assert_eq!(Header::read(bytes), Err(fault));
        }
        let huge = Batch { url: "x".repeat(65_536), ..batch(1) };
        let mut out = Vec::new();
        assert_eq!(Sealer::new(root(), &HEADER).seal(&huge, &mut out), Err(Fault::TooLarge));
        assert!(out.is_empty());
    }

    #[test]
    fn lanes_hint_at_their_url() {
        let made = lane("https://a.test", [1; 4]);
        assert!(hints_at(&made, "https://a.test") && !hints_at(&made, "https://b.test"));
        assert!(made.ends_with(&[1; 4]));
        let file = file_id(&made, [2; 8]);
        assert!(lane_of(&file) == made && file.ends_with(&[2; 8]));
    }

    #[test]
    fn every_file_has_a_key_of_its_own() {
        let records = |file| {
            let mut bytes = Vec::new();
            Sealer::new(root(), &Header { file, ..HEADER })
                .seal(&batch(1), &mut bytes)
                .expect("it fits");
            bytes.split_off(HEADER_LENGTH + FRAME_LENGTH)
        };
        assert_eq!(records([1; 16]), records([1; 16]));
        assert_ne!(records([1; 16]), records([2; 16]));
        assert_eq!(format!("{:?}", root()), "Root(***)");
    }

    /// PBKDF2 and AES-256-GCM as OpenSSL computes them, so that files stay readable.
    #[test]
    fn the_format_does_not_change_unnoticed() {
        let mut file = Vec::new();
        let small = Batch {
            url: "u".to_owned(),
            encoding: Encoding::Identity,
            count: 1,
            activities: b"{}".to_vec(),
        };
        Sealer::new(root(), &HEADER).seal(&small, &mut file).expect("it fits");
        let hex: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "505853504f4f4c01",
                "07070707070707070707070707070707",
                "09090909090909090909090909090909",
                "160000000100",
                "3e180d8183fd",
                "f75760f97c19bda2e69fcaa4d94e7649",
            )
        );
    }
}
