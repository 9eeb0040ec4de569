//! What time does to a site in months, in seconds: documents change, the collector and backends fail and
//! come back, logs are rotated.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use px_sandbox::{Behaviour, Endpoint};

use crate::site::Site;
use crate::support::Nginx;
use crate::watch;

const TICK: Duration = Duration::from_millis(100);
/// In ticks: how often it happens, and how long the fault lasts.
const ROTATION: usize = 10;
const COLLECTOR: (usize, usize) = (50, 10);
const FRAIL: (usize, usize) = (30, 10);

/// What has happened so far.
#[derive(Default)]
pub(crate) struct Turmoil {
    ticks: AtomicUsize,
    pub(crate) rotations: AtomicUsize,
    pub(crate) outages: AtomicUsize,
    /// Most files in the spool.
    pub(crate) spool_files: AtomicUsize,
    /// The last change of the documents.
    version: AtomicUsize,
    over: AtomicBool,
}

impl Turmoil {
    /// Goes on while `meanwhile` runs, and leaves everything well.
    pub(crate) fn during<T>(&self, site: &Site, nginx: &Nginx, meanwhile: impl FnOnce() -> T) -> T {
        struct Over<'t>(&'t AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        self.over.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !self.over.load(Ordering::Relaxed) {
                    self.tick(site, nginx);
                    thread::sleep(TICK);
                }
                site.human.behave_at(Endpoint::Activities, Behaviour::Normal);
                site.frail.behave(Behaviour::Normal);
            });
            let over = Over(&self.over);
            let result = meanwhile();
            drop(over);
            result
        })
    }

    fn tick(&self, site: &Site, nginx: &Nginx) {
        let tick = self.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 2;
        site.set_documents(version as u64);
        if tick.is_multiple_of(ROTATION) {
            self.rotate(nginx);
            let files = watch::spool(&nginx.dir().join("spool"));
            self.spool_files.fetch_max(files, Ordering::Relaxed);
        }
        let (every, long) = COLLECTOR;
        match tick % every {
            0 => {
                site.human.behave_at(Endpoint::Activities, Behaviour::Status(503));
                self.outages.fetch_add(1, Ordering::Relaxed);
            }
            at if at == long => site.human.behave_at(Endpoint::Activities, Behaviour::Normal),
            _ => {}
        }
        let (every, long) = FRAIL;
        match tick % every {
            0 => site.frail.behave(Behaviour::Status(500)),
            at if at == long => site.frail.behave(Behaviour::Normal),
            _ => {}
        }
    }

    /// As logrotate's `create` does it: workers, who are somebody else, may write the new file from the
    /// start, also where a reload comes between.
    fn rotate(&self, nginx: &Nginx) {
        let log = nginx.dir().join("access.log");
        let create = || -> io::Result<()> {
            fs::rename(&log, log.with_extension("log.0"))?;
            OpenOptions::new().append(true).create(true).open(&log)?;
            fs::set_permissions(&log, Permissions::from_mode(0o666))
        };
        create().expect("the log can be moved");
        nginx.signal(libc::SIGUSR1);
        self.rotations.fetch_add(1, Ordering::Relaxed);
    }
}
