//! A machine that fails when it is told to. Nothing here needs a privilege, so that it fails in a plain
//! container too.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use crate::site::{Plan, Site};
use crate::support::shared_library;

/// What is told, by its place in the file that machine.c reads.
#[derive(Clone, Copy)]
pub(crate) enum Tell {
    /// Milliseconds that the time of day is ahead; negative: behind.
    Ahead = 0,
    /// No threads are to be had.
    NoThreads = 1,
    /// The spool's file system is full.
    DiskFull = 2,
    /// One allocation of nginx itself in so many fails.
    NginxMemory = 3,
    /// So many allocations of the module fail.
    ModuleMemory = 4,
}

/// Where the number of what has failed stands.
const FAILED: u64 = 5;
const FILE: &str = "machine";

/// The site's nginx runs on such a machine.
pub(crate) fn may_fail(plan: &mut Plan) {
    plan.prepare(|dir| {
        let file = dir.join(FILE);
        fs::write(&file, [0; 64]).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("it is ours");
        let library = shared_library::build("t/faults/machine.c", dir, &[]);
        vec![("LD_PRELOAD", library.into()), ("PX_MACHINE", file.into())]
    });
}

pub(crate) fn tell(site: &Site, what: Tell, number: i64) {
    let file = fs::File::options().write(true).open(site.nginx.dir().join(FILE));
    let file = file.expect("the machine's file");
    file.write_all_at(&number.to_ne_bytes(), what as u64 * 8).expect("it can be written");
}

/// How often the machine has failed.
pub(crate) fn failures(site: &Site) -> u64 {
    let file = fs::File::open(site.nginx.dir().join(FILE)).expect("the machine's file");
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, FAILED * 8).expect("it is there");
    u64::from_ne_bytes(bytes)
}
