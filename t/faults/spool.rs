//! The disk under the spool fails while the collector is down. No visitor ever waits for a disk: they get
//! what they always get, in all rows.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use px_core::sealed;
use px_sandbox::{Behaviour, Endpoint};

use crate::load::Load;
use crate::machine::{self, Tell};
use crate::matrix::{Row, Sign};
use crate::site::{Plan, Site};

fn plan(plan: &mut Plan) {
    machine::may_fail(plan);
    keeps(plan);
}

/// There is a spool, and a collector that forgets nothing.
pub(crate) fn keeps(plan: &mut Plan) {
    plan.collector_keeps_all();
    plan.server
        .push_str("px_activity_spool path=spool max_size=64m; px_max_activity_batch_size 10;");
}

fn spool(site: &Site) -> PathBuf {
    site.nginx.dir().join("spool")
}

/// The sealed files.
fn files(site: &Site) -> Vec<PathBuf> {
    fn look(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                look(&path, found);
            } else if !path.ends_with("ledger") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    look(&spool(site), &mut found);
    found
}

/// Activities that lie in the spool.
fn spooled(site: &Site) -> u64 {
    let claimed = |path: &PathBuf| fs::read(path).map_or(0, |b| sealed::claimed_activities(&b));
    files(site).iter().map(claimed).sum()
}

fn outage(site: &Site, load: &Load) {
    break_collector(site);
    load.wait_for("activities in the spool", || spooled(site) >= 50);
}

/// It takes what the sensor says, so that visitors notice nothing, but no activities.
fn break_collector(site: &Site) {
    site.collector.behave_at(Endpoint::Activities, Behaviour::Status(503));
}

pub(crate) fn come_back(site: &Site) {
    site.collector.behave_at(Endpoint::Activities, Behaviour::Normal);
}

fn delivers(site: &Site) -> bool {
    site.metric("px_activities_delivered_from_spool_total", &[]) > 0.0
}

/// The spool is empty, and each activity came once.
pub(crate) fn all_arrived(site: &Site) -> bool {
    let activities = site.collector.activities();
    let ids: HashSet<&str> =
        activities.iter().filter_map(|one| one["details"]["request_id"].as_str()).collect();
    spooled(site) == 0 && ids.len() == activities.len() && activities.len() == site.judged()
}

fn row(name: &'static str, fault: &'static str) -> Row {
    Row::new(name, fault).plan(plan).mend(|site, _| come_back(site)).mended_when(delivers)
}

pub(crate) const FROM_MEMORY: &str = "yes, and what waited in memory arrives, once";

fn full() -> Row {
    row("disk_full", "spool: the disk is full (ENOSPC, after a part was written)")
        .strike(|site, load| {
            outage(site, load);
            machine::tell(site, Tell::DiskFull, 1);
            load.wait_for("a failure", || machine::failures(site) >= 10);
        })
        .sign(Sign::Line("cannot write to the spool"))
        .sign(Sign::Line("No space left on device"))
        .mend(|site, _| {
            machine::tell(site, Tell::DiskFull, 0);
            come_back(site);
        })
        .sign(Sign::Is("px_activities_lost_total", 0.0))
        .recovery(FROM_MEMORY)
        .in_the_end(all_arrived)
}

fn set_mode(site: &Site, mode: u32) {
    let mut dirs = vec![spool(site)];
    dirs.extend(fs::read_dir(&dirs[0]).into_iter().flatten().flatten().map(|entry| entry.path()));
    for dir in dirs.iter().filter(|path| path.is_dir()) {
        fs::set_permissions(dir, fs::Permissions::from_mode(mode)).expect("it is the test's");
    }
}

/// Without a directory of their own that they can write to workers cannot keep anything.
fn read_only() -> Row {
    row("spool_read_only", "spool: workers may not write to the directory")
        .strike(|site, load| {
            // Made by the first worker that looks.
            load.wait_for("the directory", || spool(site).join("ledger").exists());
            set_mode(site, 0o500);
            break_collector(site);
        })
        .sign(Sign::Line("cannot write to the spool"))
        .sign(Sign::Line("Permission denied"))
        .sign(Sign::Is("px_activities_lost_total", 0.0))
        .recovery(FROM_MEMORY)
        .mend(|site, load| {
            set_mode(site, 0o700);
            load.wait_for("activities in the spool", || spooled(site) >= 50);
            come_back(site);
        })
        .in_the_end(all_arrived)
}

/// Changes the youngest of the worker's files that are not being written: the last to give way where a busy
/// machine lets the spool become full.
fn damage(site: &Site, load: &Load, change: impl Fn(&fs::File, u64)) {
    break_collector(site);
    load.wait_for("two files", || files(site).len() >= 2);
    let mut files = files(site);
    files.sort_unstable_by_key(|path| path.file_name().map(ToOwned::to_owned));
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&files[files.len() - 2])
        .expect("it is there");
    let length = file.metadata().expect("it is there").len();
    change(&file, length);
    come_back(site);
}

fn damaged(
    name: &'static str,
    fault: &'static str,
    change: impl Fn(&fs::File, u64) + Copy + Send + Sync + 'static,
) -> Row {
    Row::new(name, fault)
        .plan(|site| {
            plan(site);
            // Small files, so that there are several soon.
            site.server = site.server.replace("max_size=64m", "max_size=1m");
        })
        .strike(move |site, load| damage(site, load, change))
        .sign(Sign::Line("is torn or was altered"))
        .sign(Sign::Grows("px_activities_delivered_from_spool_total", &[]))
        .in_the_end(|site| spooled(site) == 0)
}

fn removed() -> Row {
    row("spool_removed", "spool: the directory is removed while activities lie in it")
        .strike(|site, load| {
            outage(site, load);
            // Workers may just be writing into it.
            load.wait_for("its end", || {
                fs::remove_dir_all(spool(site)).is_ok() || !spool(site).exists()
            });
            load.wait_for("a new one", || spooled(site) >= 50);
        })
        .sign(Sign::Grows("px_activities_spooled_total", &[]))
        .sign(Sign::other("what came after the removal arrives, once", |_| true))
        .recovery("yes: where workers may make the directory anew; else by a reload")
        .in_the_end(|site| {
            let activities = site.collector.activities();
            let ids: HashSet<&str> =
                activities.iter().filter_map(|one| one["details"]["request_id"].as_str()).collect();
            spooled(site) == 0 && ids.len() == activities.len()
        })
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        full(),
        read_only(),
        damaged("spool_torn", "spool: a file is torn", |file, length| {
            file.set_len(length - 10).expect("it can be cut");
        }),
        damaged("spool_tampered", "spool: a file is tampered with", |file, _| {
            let at = sealed::HEADER_LENGTH as u64 + 40;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("it is longer");
            file.write_all_at(&[byte[0] ^ 1], at).expect("it can be written");
        }),
        removed(),
    ]
}
