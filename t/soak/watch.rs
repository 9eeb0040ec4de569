//! What a process holds: memory, files, threads, shared zones.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A process at one moment. Memory in kB.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    /// Resident, shared pages and files included.
    pub(crate) rss: u64,
    /// The same with shared pages split among those who share them.
    pub(crate) pss: u64,
    /// Heap, stacks and data: what a leak makes larger.
    pub(crate) own: u64,
    /// Of RSS, what lies in zones.
    pub(crate) of_zones: u64,
    pub(crate) threads: usize,
    /// Open files by their kind.
    pub(crate) files: BTreeMap<String, usize>,
    /// Number and size of the zones it shares.
    pub(crate) zones: (usize, u64),
}

impl Process {
    /// `None` where the process has just ended.
    pub(crate) fn look(pid: u32) -> Option<Self> {
        let dir = format!("/proc/{pid}");
        let rollup = fs::read_to_string(format!("{dir}/smaps_rollup")).ok()?;
        let status = fs::read_to_string(format!("{dir}/status")).ok()?;
        let maps = fs::read_to_string(format!("{dir}/maps")).ok()?;
        let zones = maps.lines().filter(|line| line.contains(" rw-s ")).filter_map(size_of);
        Some(Self {
            rss: kilobytes(&rollup, "Rss:")?,
            pss: kilobytes(&rollup, "Pss:")?,
            own: kilobytes(&rollup, "Anonymous:")?,
            of_zones: kilobytes(&status, "RssShmem:")?,
            threads: fs::read_dir(format!("{dir}/task")).ok()?.count(),
            files: open_files(Path::new(&format!("{dir}/fd")))?,
            zones: zones.fold((0, 0), |(count, size), one| (count + 1, size + one)),
        })
    }

    /// Files that are no sockets: those come and go with connections.
    pub(crate) fn lasting_files(&self) -> usize {
        self.files.iter().filter(|(kind, _)| *kind != "socket").map(|(_, count)| count).sum()
    }

    pub(crate) fn sockets(&self) -> usize {
        self.files.get("socket").copied().unwrap_or_default()
    }

    pub(crate) fn open_files(&self) -> usize {
        self.files.values().sum()
    }
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}

/// Of a mapping, in kB.
fn size_of(line: &str) -> Option<u64> {
    let (begin, end) = line.split(' ').next()?.split_once('-')?;
    let at = |text| u64::from_str_radix(text, 16).ok();
    Some((at(end)? - at(begin)?) / 1024)
}

/// `socket`, `pipe`, `anon_inode` and the names of files.
fn open_files(dir: &Path) -> Option<BTreeMap<String, usize>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let kind = match target.split_once(":[") {
            Some((kind, _)) => kind.to_owned(),
            None => target.rsplit('/').next().unwrap_or_default().to_owned(),
        };
        *files.entry(kind).or_default() += 1;
    }
    Some(files)
}

/// Whether a process has ended and nobody has taken notice.
pub(crate) fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// Files in a spool, those set aside included.
pub(crate) fn spool(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => spool(&entry.path()),
        _ => usize::from(entry.file_name() != "ledger"),
    });
    files.sum()
}

pub(crate) fn median(values: impl IntoIterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.into_iter().collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
