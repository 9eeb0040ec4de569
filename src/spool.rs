//! The spool: a directory in which activities wait, sealed, until the collector takes them
//! (DECISIONS 22). Used by sender threads only; no visitor ever waits for a disk.
//!
//! ```text
//! DIR/ledger                         bytes in use, and a salt; its lock is the directory's
//! DIR/<start>-<pid>/                 a worker's files; locked as long as it lives
//! DIR/<start>-<pid>/<sequence>-<id>  records that will be one POST; locked while in use
//! DIR/<sequence>-<id>.unreadable     a file that no known token opens, set aside
//! ```
//!
//! Locks are `flock`s, which the kernel releases however a process ends, and which hold among all
//! processes of one machine: several nginx may share a directory, several machines may not. Nothing is
//! synced: the files outlive every death of a process, not the machine's own crash.
//!
//! Where others may write to the directory, nothing they put there is taken for ours: no link is
//! followed, nothing that blocks is opened, and no other user's directory is looked into.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use px_core::sealed::{self, Batch, Encoding, Fault, FileId, Header, Lane, Root, Salt, Sealer};
use uuid::Uuid;

use crate::thread;

/// A file is complete when the POST it will become has about this size, or when it takes a
/// sixteenth of the spool: the oldest file is what makes room.
const POST_BYTES: u64 = 512 * 1024;
/// Whatever a file says, no larger POST is made of it.
const POST_BYTES_MAX: u64 = 16 * 1024 * 1024;
const UNREADABLE: &str = ".unreadable";
/// A link leads elsewhere, and a pipe would be waited for.
const NOT_ELSEWHERE: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK;
/// Looks after the files of workers of other users.
const ROOT: u32 = 0;

/// How long the thread that derives a key, which stands back behind everybody, is waited for.
const KEY_PATIENCE: Duration = Duration::from_millis(200);
/// Least value of `max_size`.
pub(crate) const MIN_SIZE: u64 = 1024 * 1024;

/// What `px_activity_spool` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) dir: PathBuf,
    /// Bytes of all files together.
    pub(crate) max_size: u64,
}

/// The directory as one worker's sender thread sees it.
pub(crate) struct Spool {
    pub(crate) setting: Setting,
    own: Option<Rc<Generation>>,
    /// Kept open: what is open can be written and removed where no more files can be opened.
    ledger: Option<Rc<File>>,
    last_sequence: u64,
    /// Whether the ledger has been compared with what lies in the directory.
    counted: bool,
    /// The ledger's.
    salt: Salt,
    roots: Vec<Derived>,
    /// Activities that had to make room for newer ones, until somebody asks.
    evicted: u64,
    /// Dead workers' directories whose files wait for a token that is not known here.
    left: Vec<PathBuf>,
}

/// What comes of a token and a salt, once it is there.
struct Derived {
    token: String,
    salt: Salt,
    coming: Receiver<Root>,
    root: Option<Rc<Root>>,
}

/// The files of one worker: of this one, or of a dead one whose files this one has taken over.
struct Generation {
    dir: PathBuf,
    _locked: File,
}

impl Drop for Generation {
    fn drop(&mut self) {
        // Fails while there are files in it, which the next worker that looks will take over.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// A file that waits to be posted.
pub(crate) struct Entry {
    generation: Rc<Generation>,
    sequence: u64,
    id: FileId,
    root: Rc<Root>,
}

impl Entry {
    pub(crate) fn path(&self) -> PathBuf {
        self.generation.dir.join(file_name(self.sequence, &self.id))
    }
}

/// Files that a dead worker wrote for one destination.
pub(crate) struct Orphans {
    generation: Rc<Generation>,
    lane: Lane,
    /// By their sequence.
    files: Vec<(u64, FileId)>,
}

/// What a file holds, ready to be posted. The file stays locked until this is dropped.
pub(crate) struct Taken {
    file: File,
    pub(crate) body: Vec<u8>,
    /// Activities in the body; 0 if no record could be read.
    pub(crate) count: u64,
    /// Records that could not be read.
    pub(crate) skipped: usize,
}

/// Seals the batches of one destination.
pub(crate) struct Writer {
    url: String,
    lane: Lane,
    salt: Salt,
    root: Rc<Root>,
    open: Option<OpenFile>,
}

/// The ledger, locked until this is dropped.
struct Locked(Rc<File>);

impl Locked {
    fn new(ledger: Rc<File>) -> io::Result<Self> {
        ledger.lock()?;
        Ok(Self(ledger))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

struct OpenFile {
    /// Locked.
    file: File,
    sequence: u64,
    sealer: Sealer,
    /// What the records will come to when they are posted.
    post_bytes: u64,
}

impl Writer {
    /// What is appended next begins a new file.
    pub(crate) fn close_file(&mut self) {
        self.open = None;
    }

    fn batch(&self, activities: &[u8], count: u64) -> io::Result<Batch> {
        Ok(Batch {
            url: self.url.clone(),
            encoding: Encoding::Deflate,
            count: u16::try_from(count).unwrap_or(u16::MAX),
            activities: deflate(activities)?,
        })
    }
}

impl Spool {
    pub(crate) fn new(setting: Setting) -> Self {
        Self {
            setting,
            own: None,
            ledger: None,
            last_sequence: 0,
            counted: false,
            salt: Salt::default(),
            roots: Vec::new(),
            evicted: 0,
            left: Vec::new(),
        }
    }

    /// Whether the directory can be used at all.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        self.locked(|_, _| Ok(()))
    }

    /// Begins to derive, on a thread of its own, what a writer will need.
    pub(crate) fn prepare(&mut self, token: &str) -> io::Result<()> {
        self.check()?;
        let salt = self.salt;
        self.derive(token, &salt);
        Ok(())
    }

    /// For batches that go to `url` with `token`. Takes tens of milliseconds if nothing was
    /// prepared.
    pub(crate) fn writer(&mut self, url: &str, token: &str) -> io::Result<Writer> {
        self.check()?;
        let (salt, url) = (self.salt, url.to_owned());
        let root = self.root(token, &salt);
        Ok(Writer { lane: sealed::lane(&url, random()), url, salt, root, open: None })
    }

    fn root(&mut self, token: &str, salt: &Salt) -> Rc<Root> {
        let derived = self.derive(token, salt);
        if let Some(root) = &derived.root {
            return Rc::clone(root);
        }
        let root = match derived.coming.recv_timeout(KEY_PATIENCE) {
            Ok(root) => root,
            // The worker may end, and what is not written then is lost.
            Err(_) => Root::derive(token, salt),
        };
        Rc::clone(derived.root.insert(Rc::new(root)))
    }

    fn derive(&mut self, token: &str, salt: &Salt) -> &mut Derived {
        let known = self.roots.iter().position(|known| known.token == token && known.salt == *salt);
        let at = match known {
            Some(at) => at,
            None => {
                let (send, coming) = mpsc::sync_channel(1);
                let (token, salt) = (token.to_owned(), *salt);
                let password = token.clone();
                let derive = move || drop(send.send(Root::derive(&password, &salt)));
                if thread::spawn_behind("px key", derive.clone()).is_err() {
                    // No thread to be had: better late than lost.
                    derive();
                }
                self.roots.push(Derived { token, salt, coming, root: None });
                self.roots.len() - 1
            }
        };
        &mut self.roots[at]
    }

    /// A number above all that were given before, and by the clock, so that the files of all
    /// workers have an order.
    pub(crate) fn next_sequence(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_micros()).unwrap_or_default();
        self.last_sequence = now.max(self.last_sequence + 1);
        self.last_sequence
    }

    /// How many activities were removed for newer ones since this was last asked.
    pub(crate) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Writes activities (JSON objects separated by commas) behind those written last. Gives the
    /// file if it is a new one. What will never fit fails with [`ErrorKind::FileTooLarge`].
    pub(crate) fn append(
        &mut self,
        writer: &mut Writer,
        activities: &[u8],
        count: u64,
    ) -> io::Result<Option<Entry>> {
        let post_bytes = activities.len() as u64;
        let most = POST_BYTES.min(self.setting.max_size / 16);
        let is_finished = |open: &OpenFile| {
            // Somebody has cleared the directory.
            let is_gone = open.file.metadata().is_ok_and(|file| file.nlink() == 0);
            is_gone || open.post_bytes + post_bytes > most
        };
        if writer.open.as_ref().is_some_and(is_finished) {
            writer.open = None;
        }
        let batch = writer.batch(activities, count)?;
        let Some(mut open) = writer.open.take() else {
            let sequence = self.next_sequence();
            return self.write_new(writer, sequence, &batch, post_bytes).map(Some);
        };
        let mut record = Vec::new();
        open.sealer.seal(&batch, &mut record).map_err(too_large)?;
        self.locked(|spool, used| {
            spool.make_room(used, record.len() as u64)?;
            write_whole(&mut open.file, &record)?;
            *used += record.len() as u64;
            Ok(())
        })?;
        open.post_bytes += post_bytes;
        writer.open = Some(open);
        Ok(None)
    }

    /// Writes activities to a new file with a number that was taken before.
    pub(crate) fn append_as(
        &mut self,
        writer: &mut Writer,
        sequence: u64,
        activities: &[u8],
        count: u64,
    ) -> io::Result<Entry> {
        let batch = writer.batch(activities, count)?;
        self.write_new(writer, sequence, &batch, activities.len() as u64)
    }

    fn write_new(
        &mut self,
        writer: &mut Writer,
        sequence: u64,
        batch: &Batch,
        post_bytes: u64,
    ) -> io::Result<Entry> {
        let id = sealed::file_id(&writer.lane, random());
        let mut sealer = Sealer::new(&writer.root, &Header { salt: writer.salt, file: id });
        let mut bytes = Vec::new();
        sealer.seal(batch, &mut bytes).map_err(too_large)?;
        let (file, generation) = self.locked(|spool, used| {
            spool.make_room(used, bytes.len() as u64)?;
            let (mut file, path, generation) = spool.create(&file_name(sequence, &id))?;
            file.try_lock()?;
            write_whole(&mut file, &bytes).inspect_err(|_| drop(fs::remove_file(path)))?;
            *used += bytes.len() as u64;
            Ok((file, generation))
        })?;
        writer.open = Some(OpenFile { file, sequence, sealer, post_bytes });
        Ok(Entry { generation, sequence, id, root: Rc::clone(&writer.root) })
    }

    /// Reads a file and keeps it locked. `None` if it is gone: it made room for a newer one.
    pub(crate) fn take(
        &self,
        entry: &Entry,
        writer: Option<&mut Writer>,
    ) -> io::Result<Option<Taken>> {
        let file = match open_here(&entry.path()) {
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if let Some(writer) = writer
            && writer.open.as_ref().is_some_and(|open| open.sequence == entry.sequence)
        {
            writer.open = None;
        }
        // Another worker may hold it for as long as it takes to remove it.
        file.lock()?;
        if file.metadata()?.nlink() == 0 {
            return Ok(None);
        }
        let bytes = read(&file)?;
        let opened = sealed::open_with(&bytes, &entry.root);
        let (batches, skipped) =
            opened.map_or((Vec::new(), 1), |file| (file.batches, file.skipped));
        let mut taken = Taken { file, body: Vec::new(), count: 0, skipped };
        taken.fill(&batches);
        Ok(Some(taken))
    }

    /// Removes a file whose activities are delivered or given up.
    pub(crate) fn remove(&mut self, entry: &Entry, taken: Taken) -> io::Result<()> {
        self.locked(|_, used| {
            let length = taken.file.metadata()?.len();
            match fs::remove_file(entry.path()) {
                Ok(()) => *used = used.saturating_sub(length),
                Err(err) if err.kind() == ErrorKind::NotFound => {}
                Err(err) => return Err(err),
            }
            Ok(())
        })
    }

    /// Keeps a file that cannot be read out of the way, for the operator to look at.
    pub(crate) fn set_aside(&self, file: &Path) -> io::Result<()> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(UNREADABLE);
        fs::rename(file, self.setting.dir.join(name))
    }

    /// Takes over the files of workers that are no more.
    pub(crate) fn adopt(&mut self) -> io::Result<Vec<Orphans>> {
        let own = self.own.as_ref().map(|own| own.dir.clone());
        let mut others = self.generations()?;
        self.left.retain(|dir| others.contains(dir));
        others.retain(|dir| own.as_ref() != Some(dir) && !self.left.contains(dir));
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        self.locked(|_, _| {
            for dir in others {
                // Gone meanwhile, or still at work.
                let Ok(locked) = open_here(&dir) else { continue };
                if locked.try_lock().is_err() {
                    continue;
                }
                let generation = Rc::new(Generation { dir, _locked: locked });
                let mut by_lane: BTreeMap<Lane, Vec<(u64, FileId)>> = BTreeMap::new();
                for (_, sequence, id) in sealed_files(&generation.dir)? {
                    by_lane.entry(sealed::lane_of(&id)).or_default().push((sequence, id));
                }
                for (lane, mut files) in by_lane {
                    files.sort_unstable();
                    found.push(Orphans { generation: Rc::clone(&generation), lane, files });
                }
            }
            Ok(())
        })?;
        if !found.is_empty() {
            // Its worker may have died before it could enter what it wrote.
            self.counted = false;
        }
        Ok(found)
    }

    /// Does not take these over again: who has their token will.
    pub(crate) fn leave(&mut self, orphans: &Orphans) {
        self.left.push(orphans.generation.dir.clone());
    }

    /// The files as `token` opens them, with the URL they are for; `None` if it opens none of the
    /// first few. Fails if there is [nothing to look with](is_shortage).
    pub(crate) fn open(
        &mut self,
        orphans: &Orphans,
        token: &str,
    ) -> io::Result<Option<(Vec<Entry>, String)>> {
        let mut opened = None;
        for path in orphans.paths().take(8) {
            let bytes = match open_here(&path).and_then(|file| read(&file)) {
                Err(err) if is_shortage(&err) => return Err(err),
                bytes => bytes.unwrap_or_default(),
            };
            opened = self.open_first(&bytes, token);
            if opened.is_some() {
                break;
            }
        }
        let Some((root, url)) = opened else { return Ok(None) };
        let entry = |(sequence, id): &(u64, FileId)| Entry {
            generation: Rc::clone(&orphans.generation),
            sequence: *sequence,
            id: *id,
            root: Rc::clone(&root),
        };
        Ok(Some((orphans.files.iter().map(entry).collect(), url)))
    }

    /// What opens a file's first batch, and the URL that this is for.
    fn open_first(&mut self, file: &[u8], token: &str) -> Option<(Rc<Root>, String)> {
        let root = self.root(token, &Header::read(file).ok()?.salt);
        let batch = sealed::open_with(file, &root).ok()?.batches.into_iter().next()?;
        Some((root, batch.url))
    }

    /// Where the ledger is locked, every change of the files happens. `f` is given the bytes in
    /// use, to be changed with them.
    fn locked<T>(&mut self, f: impl FnOnce(&mut Self, &mut u64) -> io::Result<T>) -> io::Result<T> {
        let ledger = Locked::new(self.ledger()?)?;
        let ledger = &*ledger.0;
        let mut bytes = [0; 24];
        let is_new = ledger.read_exact_at(&mut bytes, 0).is_err();
        if is_new {
            bytes[8..].copy_from_slice(Uuid::new_v4().as_bytes());
            self.counted = false;
        }
        self.salt.copy_from_slice(&bytes[8..]);
        let before = u64::from_le_bytes(*bytes.first_chunk().unwrap_or(&[0; 8]));
        let mut used = if self.counted { before } else { total(&self.files()?) };
        let result = f(self, &mut used);
        if used != before || !self.counted {
            bytes[..8].copy_from_slice(&used.to_le_bytes());
            let entered = ledger.write_all_at(&bytes, 0);
            self.counted = entered.is_ok();
            // The bytes can be counted again; the salt must not be another one each time.
            if is_new {
                entered?;
            }
        }
        result
    }

    /// That which is known, unless somebody has cleared the directory.
    fn ledger(&mut self) -> io::Result<Rc<File>> {
        let path = self.setting.dir.join("ledger");
        if let Some(ledger) = &self.ledger {
            let (known, there) = (ledger.metadata()?, fs::symlink_metadata(&path));
            if there.is_ok_and(|there| there.dev() == known.dev() && there.ino() == known.ino()) {
                return Ok(Rc::clone(ledger));
            }
        }
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.custom_flags(NOT_ELSEWHERE).open(&path)
        };
        let ledger = match open() {
            Err(err) if err.kind() == ErrorKind::NotFound => {
                DirBuilder::new().mode(0o700).create(&self.setting.dir)?;
                open()
            }
            ledger => ledger,
        }?;
        let metadata = ledger.metadata()?;
        if !metadata.is_file() || metadata.nlink() > 1 {
            return Err(io::Error::other("\"ledger\" is another file's name"));
        }
        Ok(Rc::clone(self.ledger.insert(Rc::new(ledger))))
    }

    /// Removes the oldest files until `need` more bytes fit, and a little more, so that a full
    /// directory is not looked through for every record.
    fn make_room(&mut self, used: &mut u64, need: u64) -> io::Result<()> {
        let max = self.setting.max_size;
        if *used + need <= max {
            return Ok(());
        }
        if need > max {
            return Err(too_large("more than max_size at once"));
        }
        let mut files = self.files()?;
        *used = total(&files);
        if *used + need <= max {
            return Ok(());
        }
        files.sort_unstable_by_key(|file| file.sequence);
        for old in files {
            if *used + need + max / 32 <= max {
                break;
            }
            // What is being written or posted is locked.
            let Ok(file) = open_here(&old.path) else { continue };
            if file.try_lock().is_err() {
                continue;
            }
            let count = read(&file).map_or(0, |bytes| sealed::claimed_activities(&bytes));
            if fs::remove_file(&old.path).is_ok() {
                *used = used.saturating_sub(old.length);
                // An altered file may claim anything.
                self.evicted += count.min(old.length);
            }
        }
        if *used + need <= max {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::StorageFull, "max_size is reached"))
    }

    /// Creates a file among this worker's own, and their directory if it is the first. The ledger
    /// must be locked.
    fn create(&mut self, name: &str) -> io::Result<(File, PathBuf, Rc<Generation>)> {
        loop {
            let own = match &self.own {
                Some(own) => Rc::clone(own),
                None => self.begin_generation()?,
            };
            let path = own.dir.join(name);
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                // Somebody has cleared the directory.
                Err(err) if err.kind() == ErrorKind::NotFound && self.own.is_some() => {
                    self.own = None;
                }
                file => {
                    self.own = Some(Rc::clone(&own));
                    return Ok((file?, path, own));
                }
            }
        }
    }

    fn begin_generation(&self) -> io::Result<Rc<Generation>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        for start in now..now + 100 {
            let dir = self.setting.dir.join(format!("{start:013}-{}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&dir) {
                // Containers that share a directory may share process ids.
                Err(err) if err.kind() == ErrorKind::AlreadyExists => {}
                created => {
                    created?;
                    let locked = open_here(&dir).and_then(|locked| {
                        locked.try_lock()?;
                        Ok(locked)
                    });
                    let locked = locked.inspect_err(|_| drop(fs::remove_dir(&dir)))?;
                    return Ok(Rc::new(Generation { dir, _locked: locked }));
                }
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    fn generations(&self) -> io::Result<Vec<PathBuf>> {
        let mut dirs = Vec::new();
        for entry in fs::read_dir(&self.setting.dir)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(is_generation) && is_own_dir(&entry) {
                dirs.push(entry.path());
            }
        }
        Ok(dirs)
    }

    /// Every file that counts, those set aside included.
    fn files(&self) -> io::Result<Vec<Found>> {
        let mut files = Vec::new();
        let mut dirs = self.generations()?;
        dirs.push(self.setting.dir.clone());
        for dir in dirs {
            for (path, sequence, _) in sealed_files(&dir)? {
                // Gone meanwhile.
                let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                files.push(Found { path, sequence, length: metadata.len() });
            }
        }
        Ok(files)
    }
}

/// Whether the directory, or the one in which it will be made, is on a network file system, where an
/// `flock` on a directory holds on this machine only, and one on a file needs it open for writing
/// (flock(2), "NFS details", "CIFS details").
pub(crate) fn is_on_network(dir: &Path) -> bool {
    const NETWORK: [u32; 4] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42];
    let Some(dir) = dir.ancestors().find(|dir| dir.exists()) else { return false };
    let Ok(dir) = CString::new(dir.as_os_str().as_bytes()) else { return false };
    // SAFETY: zero is valid for this struct.
    let mut facts: libc::statfs = unsafe { mem::zeroed() };
    // SAFETY: the path ends with a null byte, and the struct is the one the call fills.
    let rc = unsafe { libc::statfs(dir.as_ptr(), &raw mut facts) };
    // A magic number has 32 bits, whatever type holds it.
    rc == 0 && NETWORK.contains(&(facts.f_type as u32))
}

/// Whether this is a file of the spool, of this version of the module or of another. Fails if there is
/// [nothing to look with](is_shortage).
pub(crate) fn is_sealed(path: &Path) -> io::Result<bool> {
    let header = open_here(path).and_then(|file| {
        let mut header = [0; sealed::HEADER_LENGTH];
        file.read_exact_at(&mut header, 0)?;
        Ok(header)
    });
    match header {
        Ok(header) => Ok(!matches!(Header::read(&header), Err(Fault::NotSealed))),
        Err(err) if is_shortage(&err) => Err(err),
        Err(_) => Ok(false),
    }
}

fn too_large(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, why)
}

/// Whether this says nothing of the file, but that the process or the machine has none of something left.
pub(crate) fn is_shortage(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

impl Orphans {
    pub(crate) fn dir(&self) -> &Path {
        &self.generation.dir
    }

    pub(crate) fn hint_at(&self, url: &str) -> bool {
        sealed::hints_at(&self.lane, url)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|(sequence, id)| self.generation.dir.join(file_name(*sequence, id)))
    }
}

impl Taken {
    /// Makes the body of a POST: one activity is an object, several are an array (activities.md
    /// § 3).
    fn fill(&mut self, batches: &[Batch]) {
        self.body.push(b'[');
        for batch in batches {
            let before = self.body.len();
            if before > 1 {
                self.body.push(b',');
            }
            if unpack(batch, &mut self.body).is_ok() && batch.count != 0 {
                self.count += u64::from(batch.count);
            } else {
                self.body.truncate(before);
                self.skipped += 1;
            }
        }
        if self.count == 1 {
            self.body.remove(0);
        } else {
            self.body.push(b']');
        }
    }
}

struct Found {
    path: PathBuf,
    sequence: u64,
    length: u64,
}

fn total(files: &[Found]) -> u64 {
    files.iter().map(|file| file.length).sum()
}

fn file_name(sequence: u64, id: &FileId) -> String {
    format!("{sequence:020}-{:032x}", u128::from_be_bytes(*id))
}

/// At most eight bytes: those of a random UUID that tell nothing of its kind, but for half a byte.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(Uuid::new_v4().as_bytes()).for_each(|(byte, random)| *byte = *random);
    bytes
}

fn is_generation(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.split_once('-')
        .is_some_and(|(start, pid)| start.len() == 13 && digits(start) && digits(pid))
}

/// Opens a file or directory of the spool's for reading.
fn open_here(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(NOT_ELSEWHERE).open(path)
}

/// Whether the worker's user made this directory.
fn is_own_dir(entry: &fs::DirEntry) -> bool {
    // SAFETY: always succeeds.
    let user = unsafe { libc::geteuid() };
    entry
        .metadata()
        .is_ok_and(|metadata| metadata.is_dir() && (metadata.uid() == user || user == ROOT))
}

/// The files of ours in a directory with their numbers; whatever else lies there is left alone.
fn sealed_files(dir: &Path) -> io::Result<Vec<(PathBuf, u64, FileId)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Some((sequence, id)) = name.trim_end_matches(UNREADABLE).split_once('-') else {
            continue;
        };
        let (Ok(sequence), Ok(id)) = (sequence.parse(), u128::from_str_radix(id, 16)) else {
            continue;
        };
        let id = u128::to_be_bytes(id);
        if name.starts_with(&file_name(sequence, &id)) {
            files.push((entry.path(), sequence, id));
        }
    }
    Ok(files)
}

fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(POST_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes all or nothing: what a full disk has taken of it is cut off again.
fn write_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(bytes).inspect_err(|_| drop(file.set_len(before)))
}

/// Fast rather than thorough: batches are large and repeat themselves.
fn deflate(activities: &[u8]) -> io::Result<Vec<u8>> {
    let room = Vec::with_capacity(activities.len() / 4);
    let mut encoder = DeflateEncoder::new(room, Compression::fast());
    encoder.write_all(activities)?;
    encoder.finish()
}

fn unpack(batch: &Batch, out: &mut Vec<u8>) -> io::Result<()> {
    match batch.encoding {
        Encoding::Identity => out.extend_from_slice(&batch.activities),
        Encoding::Deflate => {
            let left = POST_BYTES_MAX.saturating_sub(out.len() as u64);
            let decoder = DeflateDecoder::new(batch.activities.as_slice());
            decoder.take(left).read_to_end(out)?;
            if out.len() as u64 >= POST_BYTES_MAX {
                return Err(ErrorKind::FileTooLarge.into());
            }
        }
    }
    Ok(())
}
