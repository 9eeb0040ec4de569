//! Tests for the px module: activities that cannot be delivered wait on disk, sealed, and arrive
//! exactly once and in order when the collector is back.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use px_core::sealed;
use px_sandbox::{App, Behaviour, Endpoint, Sandbox};
use serde_json::Value;
use support::{
    BROWSER, Connection, Nginx, Origin, SOON, get, nginx, protect_apart, shared_library, wait_until,
};

/// A directory for a spool, for as long as the test runs.
struct SpoolDir(PathBuf);

impl SpoolDir {
    /// nginx itself makes the last part of its path.
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("px-spool-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a directory can be made");
        // Workers may run as another user.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.join("spool")
    }

    fn directive(&self) -> String {
        self.directive_of("64m")
    }

    fn directive_of(&self, max_size: &str) -> String {
        format!("px_activity_spool path={} max_size={max_size};", self.path().display())
    }

    /// Everything in it, directories included.
    fn everything(&self) -> Vec<PathBuf> {
        fn look(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                found.push(entry.path());
                look(&entry.path(), found);
            }
        }
        let mut found = Vec::new();
        look(&self.path(), &mut found);
        found
    }

    /// The sealed files, oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.everything();
        files.retain(|path| path.is_file() && !path.ends_with("ledger"));
        files.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
        files
    }

    fn size(&self) -> u64 {
        self.files().iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum()
    }

    /// How many activities the files claim to hold.
    fn activities(&self) -> u64 {
        let claimed =
            |path: &PathBuf| fs::read(path).map_or(0, |bytes| sealed::claimed_activities(&bytes));
        self.files().iter().map(claimed).sum()
    }

    #[track_caller]
    fn wait_for(&self, activities: u64) {
        wait_until(&format!("{activities} activities in the spool"), || {
            self.activities() == activities
        });
    }

    /// Nothing is left but the ledger, which says so.
    #[track_caller]
    fn wait_until_empty(&self) {
        wait_until("an empty spool", || {
            let ledger = fs::read(self.path().join("ledger")).unwrap_or_default();
            self.files().is_empty() && ledger.starts_with(&[0; 8])
        });
    }
}

impl Drop for SpoolDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Site {
    /// Answers as the Risk API.
    sandbox: Sandbox,
    collector: Sandbox,
    origin: Origin,
    spool: SpoolDir,
}

impl Site {
    fn new() -> Self {
        Self {
            sandbox: Sandbox::start().expect("a free port"),
            collector: Sandbox::start().expect("a free port"),
            origin: Origin::start(),
            spool: SpoolDir::new(),
        }
    }

    fn conf(&self, directives: &str) -> String {
        self.conf_with_interval("50ms", directives)
    }

    fn conf_with_interval(&self, interval: &str, directives: &str) -> String {
        format!(
            "{} px_batch_activities_timeout_ms {interval}; {directives}
             location = /px-status {{ px_status; }}\nlocation / {{ {} }}",
            protect_apart(&self.sandbox, &self.collector),
            self.origin.proxy_pass()
        )
    }

    /// nginx with this spool, and batches of ten.
    fn nginx(&self) -> Nginx {
        Nginx::start(
            &self.conf(&format!("px_max_activity_batch_size 10; {}", self.spool.directive())),
        )
    }

    /// nginx with this spool, and batches of so many, that waits long for the collector's answer.
    fn patient_nginx(&self, batch_size: usize) -> Nginx {
        Nginx::start(&self.conf(&format!(
            "px_max_activity_batch_size {batch_size}; px_async_timeout 60s; {}",
            self.spool.directive()
        )))
    }

    /// Visits that pass by cookie, one for each number of the range.
    fn visit(&self, nginx: &Nginx, numbers: std::ops::Range<usize>) {
        let cookie = format!("Cookie: {}", self.sandbox.mint(BROWSER).cookie());
        for number in numbers {
            assert_eq!(get(nginx.addr(), &format!("/{number}"), &[&cookie]).status, 200);
        }
    }
}

/// The numbers of the visits the collector knows of, in the order of their arrival.
fn numbers(activities: &[Value]) -> Vec<usize> {
    let number = |activity: &Value| {
        let url = activity["url"].as_str().expect("a text");
        url.rsplit('/').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    activities.iter().map(number).collect()
}

/// Ends nginx as a power cut would.
fn kill_9(mut nginx: Nginx) {
    nginx.lenient();
    let workers = nginx.workers();
    nginx.signal(libc::SIGKILL);
    for worker in workers {
        nginx::send_signal(worker, libc::SIGKILL);
    }
}

fn count(log: &str, text: &str) -> usize {
    log.matches(text).count()
}

/// The collector has answered for so many: one that goes down between a batch and its answer gets the batch
/// once more.
#[track_caller]
fn wait_for_answers(nginx: &Nginx, activities: u64) {
    wait_until("an answer to every batch", || {
        get(nginx.addr(), "/px-status", &[]).json()["activities"]["sent"] == activities
    });
}

#[track_caller]
fn quit_without_loss(nginx: Nginx) {
    let log = nginx.quit();
    assert_eq!(count(&log, LOST), 0, "{log}");
}

const KEPT: &str = "; they are kept in \"";
const LOST: &str = "could not be delivered";

#[test]
fn an_outage_loses_nothing_and_keeps_the_order() {
    let site = Site::new();
    let nginx = site.nginx();
    site.visit(&nginx, 0..20);
    assert_eq!(site.collector.wait_for_activities(20, SOON).len(), 20);
    wait_for_answers(&nginx, 20);
    assert!(site.spool.files().is_empty());

    site.collector.go_down();
    site.visit(&nginx, 20..520);
    site.spool.wait_for(500);
    let log = nginx.wait_for_error_log(KEPT);
    assert!(log.contains("[warn]") && log.contains("Connection refused"), "{log}");

    site.collector.come_back().expect("the port is free again");
    site.visit(&nginx, 520..540);
    let activities = site.collector.wait_for_activities(540, SOON);
    assert_eq!(numbers(&activities), (0..540).collect::<Vec<_>>());
    site.spool.wait_until_empty();
    nginx.wait_for_error_log("activities were delivered from the spool");
    // What waited together travels together.
    assert!(site.collector.activity_posts().len() < 20);

    // Back to normal.
    site.visit(&nginx, 540..560);
    assert_eq!(site.collector.wait_for_activities(560, SOON).len(), 560);
    let log = nginx.quit();
    assert_eq!((count(&log, KEPT), count(&log, LOST)), (1, 0), "{log}");
    assert_eq!(site.collector.activities().len(), 560);
    site.collector.assert_no_complaints();
}

#[test]
fn what_waits_survives_kill_9() {
    let site = Site::new();
    site.collector.go_down();
    let conf = site.conf(&format!("px_max_activity_batch_size 10; {}", site.spool.directive()));
    let nginx = Nginx::builder().workers(2).server(&conf).start();
    site.visit(&nginx, 0..100);
    site.spool.wait_for(100);
    kill_9(nginx);
    assert_eq!(site.spool.activities(), 100);

    // Still down: taken over and kept.
    let nginx = Nginx::builder().workers(2).server(&conf).start();
    site.visit(&nginx, 100..150);
    site.spool.wait_for(150);
    kill_9(nginx);

    site.collector.come_back().expect("the port is free again");
    let nginx = Nginx::builder().workers(2).server(&conf).start();
    site.collector.wait_for_activities(150, SOON);
    site.spool.wait_until_empty();
    nginx.quit();
    let arrived = numbers(&site.collector.activities());
    assert_eq!(arrived.len(), 150);
    assert_eq!(arrived.iter().collect::<BTreeSet<_>>().len(), 150);
    site.collector.assert_no_complaints();
}

#[test]
fn what_one_worker_left_arrives_in_order() {
    let site = Site::new();
    site.collector.go_down();
    let nginx = site.nginx();
    site.visit(&nginx, 0..200);
    site.spool.wait_for(200);
    kill_9(nginx);
    site.collector.come_back().expect("the port is free again");
    let nginx = site.nginx();
    let activities = site.collector.wait_for_activities(200, SOON);
    assert_eq!(numbers(&activities), (0..200).collect::<Vec<_>>());
    nginx.quit();
}

#[test]
fn a_reload_during_an_outage_loses_nothing() {
    let site = Site::new();
    site.collector.go_down();
    let nginx = site.nginx();
    let mut sent = 0;
    for interval in ["51ms", "52ms"] {
        site.visit(&nginx, sent..sent + 25);
        sent += 25;
        let old = nginx.workers();
        nginx.reload(|conf| {
            let (head, rest) = conf.split_once("activities_timeout_ms ").expect("it is there");
            format!("{head}activities_timeout_ms {interval}{}", &rest[interval.len()..])
        });
        site.visit(&nginx, sent..sent + 25);
        sent += 25;
        nginx.wait_for_workers_to_end(&old);
    }
    site.spool.wait_for(100);
    site.collector.come_back().expect("the port is free again");
    let activities = site.collector.wait_for_activities(100, SOON);
    site.spool.wait_until_empty();
    assert_eq!(numbers(&activities).into_iter().collect::<BTreeSet<_>>(), (0..100).collect());
    quit_without_loss(nginx);
    assert_eq!(site.collector.activities().len(), 100);
    site.collector.assert_no_complaints();
}

#[test]
fn a_worker_that_ends_keeps_what_a_hanging_collector_did_not_take() {
    let site = Site::new();
    site.collector.behave_at(Endpoint::Activities, Behaviour::Hang);
    let nginx = site.patient_nginx(10);
    site.visit(&nginx, 0..45);
    site.collector.wait_for(Endpoint::Activities, 1, SOON);
    quit_without_loss(nginx);
    assert_eq!(site.spool.activities(), 45);

    site.collector.behave_well();
    let nginx = site.patient_nginx(10);
    let activities = site.collector.wait_for_activities(45, SOON);
    assert_eq!(numbers(&activities), (0..45).collect::<Vec<_>>());
    nginx.quit();
}

/// Its last seconds may be too few for a slow collector, and on a busy machine for the disk after that.
#[test]
fn a_worker_that_ends_keeps_a_long_queue_before_it_waits_for_the_collector() {
    let site = Site::new();
    site.collector.behave_at(Endpoint::Activities, Behaviour::Hang);
    let nginx = site.patient_nginx(1);
    site.visit(&nginx, 0..30);
    site.collector.wait_for(Endpoint::Activities, 1, SOON);
    quit_without_loss(nginx);
    assert_eq!(site.spool.activities(), 30);
    // What was under way has the first number, and was written when nobody waited for it any more.
    let written = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).unwrap();
    let files = site.spool.files();
    let last = files.iter().max_by_key(|path| written(path));
    assert!(files.len() > 1 && last == files.first(), "{files:?}");
}

/// What is cut off comes again from the spool, though it may have arrived.
#[test]
fn a_worker_that_ends_begins_no_post_that_it_may_have_no_time_for() {
    let site = Site::new();
    site.collector.behave_at(Endpoint::Activities, Behaviour::Delay(Duration::from_millis(700)));
    let nginx = site.patient_nginx(1);
    site.visit(&nginx, 0..8);
    site.collector.wait_for(Endpoint::Activities, 1, SOON);
    quit_without_loss(nginx);
    let arrived = numbers(&site.collector.activities());
    assert_eq!(arrived, (0..arrived.len()).collect::<Vec<_>>());
    assert!(arrived.len() > 1, "none was delivered at the end");
    assert_eq!(site.spool.activities(), (8 - arrived.len()) as u64);
}

#[test]
fn what_waits_too_long_in_memory_goes_to_the_spool() {
    let site = Site::new();
    site.collector.behave_at(Endpoint::Activities, Behaviour::Hang);
    let nginx = site.patient_nginx(1);
    // The first post hangs; of what follows, more than a quarter of the queue is not kept waiting.
    site.visit(&nginx, 0..200);
    wait_until("a file", || site.spool.activities() >= 100);
    quit_without_loss(nginx);
    assert_eq!(site.spool.activities(), 200);
    site.collector.behave_well();
    let nginx = site.patient_nginx(1);
    let activities = site.collector.wait_for_activities(200, SOON);
    assert_eq!(numbers(&activities), (0..200).collect::<Vec<_>>());
    site.spool.wait_until_empty();
    nginx.quit();
}

#[test]
fn nothing_on_disk_can_be_read_without_the_token() {
    let site = Site::new();
    site.collector.go_down();
    let nginx = site.nginx();
    let mint = site.sandbox.mint(BROWSER);
    let cookie = format!("Cookie: {}; _pxhd=hidden-device", mint.cookie());
    for _ in 0..20 {
        get(nginx.addr(), "/private?name=somebody", &[&cookie, "Referer: http://from.test/"]);
    }
    site.spool.wait_for(20);
    let app = site.collector.app();
    let telling = [
        "private",
        "somebody",
        "site.test",
        "from.test",
        "hidden-device",
        "127.0.0.1",
        "Mozilla",
        "TestBrowser",
        "page_requested",
        "_px3",
        "timestamp",
        &app.id,
        &app.auth_token,
        &app.secret,
        &site.collector.url(),
    ];
    let everything = site.spool.everything();
    assert!(everything.len() >= 3, "{everything:?}");
    for path in everything {
        let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
        let mut bytes = path.as_os_str().as_encoded_bytes().to_vec();
        if path.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
        } else {
            assert_eq!(mode, 0o600, "{}", path.display());
            bytes.extend(fs::read(&path).expect("it can be read"));
        }
        for text in telling {
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "{text:?} in {}", path.display());
        }
    }
    let mode = fs::metadata(site.spool.path()).expect("nginx made it").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    // With the token it can.
    let mut count = 0;
    for path in site.spool.files() {
        let file = fs::read(path).expect("it can be read");
        let opened = sealed::open(&file, &app.auth_token).expect("a spool file");
        assert_eq!(opened.skipped, 0);
        assert!(opened.batches[0].url.starts_with(&site.collector.url()));
        count += opened.batches.iter().map(|batch| u32::from(batch.count)).sum::<u32>();
    }
    assert_eq!(count, 20);
    kill_9(nginx);
}

#[test]
fn altered_and_torn_files_are_skipped_with_a_line_each() {
    let site = Site::new();
    site.collector.behave_at(Endpoint::Activities, Behaviour::Hang);
    // Each worker leaves a file of two records: what its first post holds, and what waits behind that.
    let batches =
        format!("px_max_activity_batch_size 10; px_async_timeout 60s; {}", site.spool.directive());
    let workers: Vec<Nginx> = (0..4)
        .map(|worker| {
            let nginx = Nginx::start(&site.conf_with_interval("60s", &batches));
            site.visit(&nginx, worker * 20..worker * 20 + 20);
            // Files have an order from then on.
            site.collector.wait_for(Endpoint::Activities, worker + 1, SOON);
            nginx
        })
        .collect();
    // They take their time, all at once.
    workers.iter().for_each(|nginx| nginx.signal(libc::SIGQUIT));
    workers.into_iter().for_each(quit_without_loss);
    assert_eq!(site.spool.activities(), 80);
    let files = site.spool.files();
    let [intact, altered, torn, ruined] = files.as_slice() else { panic!("{files:?}") };
    let alter = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(path).expect("it can be read");
        change(&mut bytes);
        fs::write(path, bytes).expect("it can be written");
    };
    alter(altered, &|bytes| bytes[sealed::HEADER_LENGTH + 40] ^= 1);
    alter(torn, &|bytes| bytes.truncate(bytes.len() - 10));
    alter(ruined, &|bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55));

    site.collector.behave_well();
    let nginx = site.nginx();
    let mut expected: Vec<usize> = (0..20).chain(30..50).collect();
    let activities = site.collector.wait_for_activities(expected.len(), SOON);
    let mut arrived = numbers(&activities);
    arrived.sort_unstable();
    expected.sort_unstable();
    assert_eq!(arrived, expected);

    nginx.wait_for_error_log("set aside");
    site.visit(&nginx, 100..110);
    site.collector.wait_for_activities(expected.len() + 10, SOON);
    let log = nginx.quit();
    let lines = |path: &Path| -> Vec<&str> {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let dir = path.parent().and_then(Path::file_name).and_then(|dir| dir.to_str());
        let dir = dir.expect("a name");
        log.lines().filter(|line| line.contains(name) || line.contains(dir)).collect()
    };
    assert!(lines(intact).is_empty(), "{log}");
    for path in [altered, torn] {
        let [line] = lines(path)[..] else { panic!("{log}") };
        assert!(line.contains("[warn]"), "{line}");
        assert!(line.ends_with("is torn or was altered: 1 of its records skipped"), "{line}");
    }
    let [line] = lines(ruined)[..] else { panic!("{log}") };
    assert!(line.contains("[warn]") && line.contains("set aside"), "{line}");
    // The ruined one is all that is left.
    let left = site.spool.files();
    assert_eq!(left.len(), 1);
    assert!(left[0].extension().is_some_and(|extension| extension == "unreadable"), "{left:?}");
}

#[test]
fn another_token_opens_nothing_and_destroys_nothing_and_the_right_one_finds_it() {
    let site = Site::new();
    site.collector.go_down();
    let nginx = site.nginx();
    site.visit(&nginx, 0..20);
    site.spool.wait_for(20);
    nginx.quit();
    // One, or two if something came during the first post.
    let paths = site.spool.files();
    let read = || -> Vec<Vec<u8>> {
        paths.iter().map(|path| fs::read(path).expect("it can be read")).collect()
    };
    let write = |files: &[Vec<u8>]| {
        for (path, bytes) in paths.iter().zip(files) {
            fs::write(path, bytes).expect("it can be written");
        }
    };
    let sealed = read();
    site.collector.come_back().expect("the port is free again");

    let conf = site.conf(&site.spool.directive());
    let old = &site.collector.app().auth_token;
    let with = |tokens: &str| {
        let conf = conf.replace(&format!("px_auth_token {old};"), "px_auth_token TOKENS;");
        Nginx::start(&conf.replace("TOKENS", tokens))
    };
    let nginx = with("another-one");
    let log = nginx.wait_for_error_log("none that is configured opens them");
    assert_eq!(count(&log, &format!("{} files of the spool in", paths.len())), 1, "{log}");
    // Nobody is asked a second time what he cannot open.
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(count(&nginx.quit(), "wait for their auth token"), 1);
    assert!(site.collector.activities().is_empty());
    assert_eq!(site.spool.files(), paths);
    assert_eq!(read(), sealed);

    // Nor is what another version of the module wrote thrown away.
    let mut other_version = sealed.clone();
    other_version.iter_mut().for_each(|file| file[7] += 1);
    write(&other_version);
    let nginx = with(old);
    nginx.wait_for_error_log("wait for their auth token");
    nginx.quit();
    assert_eq!(read(), other_version);
    write(&sealed);

    // While it is being rotated the previous token opens what was sealed with it; the current one is
    // sent. The collector of this test knows the old one only, so here that is the "current".
    let nginx = with(&format!("another-one {old}"));
    let posts = site.collector.wait_for(Endpoint::Activities, 1, SOON);
    assert_eq!(posts[0].header("authorization"), Some("Bearer another-one"));
    nginx.quit();
    let nginx = with(&format!("{old} another-one"));
    let activities = site.collector.wait_for_activities(20, SOON);
    assert_eq!(numbers(&activities), (0..20).collect::<Vec<_>>());
    site.spool.wait_until_empty();
    nginx.quit();
}

/// What statfs(2) says is faked, once nginx has read what it needs: no machine has to mount anything.
#[test]
fn a_network_file_system_is_refused() {
    let site = Site::new();
    let dir = nginx::fresh_dir();
    let library = shared_library::build("t/support/network_statfs.c", &dir, &[]);
    let conf = site.conf(&site.spool.directive());
    let check = |magic: &str| {
        let env = [("LD_PRELOAD", library.clone().into()), ("PX_STATFS_TYPE", magic.into())];
        Nginx::builder().server(&conf).test_with_env(|_| env.into())
    };
    for magic in ["6969", "517b", "ff534d42", "fe534d42"] {
        let (accepted, output) = check(magic);
        let expected = "it is on a network file system, whose locks do not keep machines apart";
        assert!(!accepted && output.contains(expected), "{magic}: {output}");
    }
    // ext, tmpfs, overlay.
    for magic in ["ef53", "1021994", "794c7630"] {
        let (accepted, output) = check(magic);
        assert!(accepted, "{magic}: {output}");
    }
    let _ = fs::remove_dir_all(dir);
}

/// Text that cannot be compressed to less than three quarters.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'0' + (state >> 58) as u8)
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn what_never_fits_holds_nothing_up() {
    let site = Site::new();
    site.collector.go_down();
    let spool = site.spool.directive_of("1m");
    let conf = format!("px_max_activity_batch_size 1; location /kept {{ empty_gif; }} {spool}");
    let nginx = Nginx::builder()
        .http("large_client_header_buffers 4 2m;")
        .server(&site.conf(&conf))
        .start();
    let cookie = format!("Cookie: {}", site.sandbox.mint(BROWSER).cookie());
    assert_eq!(
        get(nginx.addr(), &format!("/kept?{}", noise(1, 1_800_000)), &[&cookie]).status,
        200
    );
    let log = nginx.wait_for_error_log("; 1 lost since start");
    assert!(log.contains("more than max_size at once"), "{log}");
    site.visit(&nginx, 0..10);
    site.spool.wait_for(10);
    site.collector.come_back().expect("the port is free again");
    let arrived = numbers(&site.collector.wait_for_activities(10, SOON));
    assert_eq!(arrived, (0..10).collect::<Vec<_>>());
    nginx.quit();
}

#[test]
fn the_oldest_make_room_when_max_size_is_reached() {
    let site = Site::new();
    site.collector.go_down();
    let nginx = Nginx::builder()
        .http("large_client_header_buffers 8 32k;")
        .server(
            &site.conf(&format!("px_max_activity_batch_size 1; {}", site.spool.directive_of("1m"))),
        )
        .start();
    let cookie = format!("Cookie: {}", site.sandbox.mint(BROWSER).cookie());
    for number in 0..200 {
        let header = format!("X-Large: {}", noise(number, 20_000));
        assert_eq!(get(nginx.addr(), &format!("/{number}"), &[&cookie, &header]).status, 200);
        // Who looks while one file makes room for another may count both.
        wait_until("the spool in its bounds", || site.spool.size() <= 1024 * 1024);
    }
    let log = nginx.wait_for_error_log("has reached its max_size");
    assert!(log.contains("lost since start"), "{log}");
    // Until the last has been written.
    wait_until("the last activity in the spool", || {
        site.spool.files().last().is_some_and(|file| {
            let bytes = fs::read(file).unwrap_or_default();
            site.spool.activities() >= 50 && sealed::claimed_activities(&bytes) > 0
        })
    });
    site.collector.come_back().expect("the port is free again");
    wait_until("the last activity", || numbers(&site.collector.activities()).last() == Some(&199));
    site.spool.wait_until_empty();
    let arrived = numbers(&site.collector.activities());
    assert!((50..199).contains(&arrived.len()), "{}", arrived.len());
    assert_eq!(arrived, (200 - arrived.len()..200).collect::<Vec<_>>());
    nginx.quit();
}

#[test]
fn each_destination_has_its_own_key_in_a_shared_directory() {
    let app =
        App { id: "PXother1".to_owned(), auth_token: "another-token".to_owned(), ..App::default() };
    let other = Sandbox::builder()
        .app_id(&app.id)
        .auth_token(&app.auth_token)
        .start()
        .expect("a free port");
    let site = Site::new();
    let spool = site.spool.directive();
    let conf = format!(
        "{}\nlocation /other/ {{ px_app_id {}; px_auth_token {}; px_backend_collector_url {};\n{} }}",
        site.conf(&spool),
        app.id,
        app.auth_token,
        other.url(),
        site.origin.proxy_pass()
    );
    site.collector.go_down();
    other.go_down();
    let nginx = Nginx::start(&conf);
    let cookie = format!("Cookie: {}", site.sandbox.mint(BROWSER).cookie());
    for number in 0..30 {
        get(nginx.addr(), &format!("/{number}"), &[&cookie]);
        get(nginx.addr(), &format!("/other/{number}"), &[&cookie]);
    }
    site.spool.wait_for(60);
    kill_9(nginx);
    site.collector.come_back().expect("the port is free again");
    other.come_back().expect("the port is free again");
    let nginx = Nginx::start(&conf);
    for collector in [&site.collector, &other] {
        let activities = collector.wait_for_activities(30, SOON);
        assert_eq!(numbers(&activities), (0..30).collect::<Vec<_>>());
        collector.assert_no_complaints();
    }
    nginx.quit();
}

#[test]
fn a_body_the_collector_refuses_is_not_offered_for_ever() {
    let site = Site::new();
    for status in [400, 413, 422] {
        site.collector.clear();
        let nginx = Nginx::start(
            &site.conf(&format!("px_max_activity_batch_size 1; {}", site.spool.directive())),
        );
        site.collector.behave_next_at(Endpoint::Activities, 1, Behaviour::Status(status));
        site.visit(&nginx, 0..1);
        let log = nginx.wait_for_error_log("; 1 lost since start");
        assert!(log.contains(&format!("HTTP status {status}")), "{log}");
        site.visit(&nginx, 1..3);
        assert_eq!(numbers(&site.collector.wait_for_activities(2, SOON)), [1, 2]);
        nginx.quit();
        assert!(site.spool.files().is_empty());
    }
}

#[test]
fn a_spool_that_cannot_be_used_is_the_operators_trouble_only() {
    let site = Site::new();
    fs::create_dir_all(site.spool.path().join("ledger")).expect("a directory can be made");
    site.collector.go_down();
    let nginx = site.nginx();
    let log = nginx.wait_for_error_log("cannot use the spool");
    assert!(log.contains("[error]"), "{log}");
    site.visit(&nginx, 0..20);
    nginx.wait_for_error_log("activities cannot be delivered");
    // There is room in memory, until the worker ends.
    site.collector.come_back().expect("the port is free again");
    assert_eq!(numbers(&site.collector.wait_for_activities(20, SOON)), (0..20).collect::<Vec<_>>());
    wait_for_answers(&nginx, 20);
    site.collector.go_down();
    site.visit(&nginx, 20..40);
    let log = nginx.quit();
    assert!(log.contains("; 20 lost since start"), "{log}");
    assert!(log.contains("cannot write to the spool"), "{log}");
}

/// How many file descriptors a process may have, from now on. What it has it keeps.
fn limit_descriptors(process: u32, soft: libc::rlim_t) {
    let process = libc::pid_t::try_from(process).expect("a process id");
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is on this stack; the other pointer may be null.
    let rc =
        unsafe { libc::prlimit(process, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: as above.
    let rc = unsafe {
        libc::prlimit(process, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut())
    };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn without_file_descriptors_reports_are_written_and_wait_to_be_read() {
    let site = Site::new();
    // Whoever runs the test may set limits of processes of his own.
    // SAFETY: always succeeds.
    let user = if unsafe { libc::geteuid() } == 0 { "user root;" } else { "" };
    let conf = site.conf(&format!(
        "px_max_activity_batch_size 1; location /kept {{ empty_gif; }} {}",
        site.spool.directive()
    ));
    let nginx = Nginx::builder().main(user).server(&conf).start();
    let worker = nginx.wait_for_workers(1)[0];
    let cookie =
        format!("User-Agent: {BROWSER}\r\nCookie: {}", site.sandbox.mint(BROWSER).cookie());
    let mut visitor = Connection::open(nginx.addr());
    let mut visit = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            visitor.send(format!(
                "GET /kept/{number} HTTP/1.1\r\nHost: site.test\r\n{cookie}\r\n\r\n"
            ));
            assert_eq!(visitor.receive().status, 200);
        }
    };
    site.collector.behave_at(Endpoint::Activities, Behaviour::Status(503));
    visit(0..5);
    site.spool.wait_for(5);

    limit_descriptors(worker, 3);
    visit(5..10);
    site.spool.wait_for(10);
    let log = nginx.wait_for_error_log("cannot read the spool");
    assert!(log.contains("Too many open files"), "{log}");
    site.collector.behave_at(Endpoint::Activities, Behaviour::Normal);
    visit(10..15);
    site.spool.wait_for(15);

    limit_descriptors(worker, libc::RLIM_INFINITY);
    assert_eq!(numbers(&site.collector.wait_for_activities(15, SOON)), (0..15).collect::<Vec<_>>());
    site.spool.wait_until_empty();
    quit_without_loss(nginx);
}

/// Where there are not even those for a dead worker's files, nothing is said of what is in them.
#[test]
fn a_dead_workers_files_are_not_set_aside_for_want_of_descriptors() {
    let site = Site::new();
    site.collector.go_down();
    let nginx = site.nginx();
    site.visit(&nginx, 0..20);
    site.spool.wait_for(20);
    kill_9(nginx);
    let left = site.spool.files();
    let dir = left[0].parent().expect("a directory");

    let switch = site.spool.0.join("none");
    fs::write(&switch, dir.to_str().expect("a path of letters")).expect("it can be written");
    site.collector.come_back().expect("the port is free again");
    let conf = site.conf(&site.spool.directive());
    let nginx = Nginx::builder().server(&conf).start_with_env(|dir| {
        let library = shared_library::build("t/support/no_descriptors.c", dir, &[]);
        vec![("LD_PRELOAD", library.into()), ("PX_NO_DESCRIPTORS", switch.clone().into())]
    });
    let log = nginx.wait_for_error_log("cannot read the spool");
    assert!(log.contains("Too many open files"), "{log}");
    assert_eq!(site.spool.files(), left);

    fs::remove_file(&switch).expect("it is there");
    assert_eq!(numbers(&site.collector.wait_for_activities(20, SOON)), (0..20).collect::<Vec<_>>());
    site.spool.wait_until_empty();
    quit_without_loss(nginx);
}

/// Somebody else on the machine has put things into a directory that everybody may write to, before the
/// module came: links to a file that the worker may write, and what it would wait for.
#[test]
fn what_others_put_into_the_directory_leads_nowhere() {
    let precious = |site: &Site| {
        let file = site.spool.0.join("precious");
        fs::write(&file, [7; 64]).expect("it can be written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("it is ours");
        fs::create_dir(site.spool.path()).expect("a directory can be made");
        fs::set_permissions(site.spool.path(), fs::Permissions::from_mode(0o777)).expect("ours");
        file
    };
    let links: [fn(&Path, &Path) -> std::io::Result<()>; 2] =
        [|from, to| std::os::unix::fs::symlink(from, to), |from, to| fs::hard_link(from, to)];
    for link in links {
        let site = Site::new();
        let file = precious(&site);
        link(&file, &site.spool.path().join("ledger")).expect("a link can be made");
        site.collector.go_down();
        let nginx = site.nginx();
        nginx.wait_for_error_log("cannot use the spool");
        site.visit(&nginx, 0..20);
        assert!(nginx.quit().contains(LOST));
        assert_eq!(fs::read(&file).expect("it is there"), [7; 64]);
    }

    let site = Site::new();
    let file = precious(&site);
    let planted = site.spool.path().join("1234567890123-1");
    fs::create_dir(&planted).expect("a directory can be made");
    fs::set_permissions(&planted, fs::Permissions::from_mode(0o777)).expect("it is ours");
    let elsewhere = site.spool.path().join("1234567890123-2");
    std::os::unix::fs::symlink(&planted, &elsewhere).expect("a link can be made");
    let name = |number: u64| format!("{number:020}-{number:032x}");
    for dir in [&planted, &site.spool.path()] {
        std::os::unix::fs::symlink(&file, dir.join(name(1))).expect("a link can be made");
        let made = Command::new("mkfifo").arg("-m").arg("666").arg(dir.join(name(2))).status();
        assert!(made.is_ok_and(|status| status.success()));
    }
    site.collector.go_down();
    let nginx = site.nginx();
    site.visit(&nginx, 0..20);
    wait_until("activities in the spool", || {
        site.spool.everything().iter().filter(|path| path.is_file()).count() > 1
    });
    site.collector.come_back().expect("the port is free again");
    assert_eq!(site.collector.wait_for_activities(20, SOON).len(), 20);
    nginx.quit();
    assert_eq!(fs::read(&file).expect("it is there"), [7; 64]);
}

#[test]
fn what_is_reported_after_the_directory_was_cleared_arrives() {
    let site = Site::new();
    site.collector.go_down();
    let nginx = site.nginx();
    site.visit(&nginx, 0..20);
    site.spool.wait_for(20);
    for path in site.spool.everything() {
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
    site.visit(&nginx, 20..40);
    site.spool.wait_for(20);
    site.collector.come_back().expect("the port is free again");
    let activities = site.collector.wait_for_activities(20, SOON);
    assert_eq!(numbers(&activities), (20..40).collect::<Vec<_>>());
    site.spool.wait_until_empty();
    nginx.quit();
}

#[test]
fn without_the_directive_nothing_is_written() {
    let site = Site::new();
    site.collector.go_down();
    for directives in ["", "px_activity_spool off;"] {
        let nginx = Nginx::start(&site.conf(directives));
        site.visit(&nginx, 0..5);
        nginx.wait_for_error_log(LOST);
        let mut found: Vec<_> = fs::read_dir(nginx.dir())
            .expect("it is there")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        found.sort_unstable();
        let known = [
            "access.log",
            "body",
            "error.log",
            "fastcgi",
            "html",
            "nginx.conf",
            "nginx.pid",
            "proxy",
            "scgi",
            "uwsgi",
        ];
        assert_eq!(found, known);
    }
    // A location may switch off what its server has.
    let nginx = Nginx::start(&format!(
        "{}\nlocation /off/ {{ px_activity_spool off; {} }}",
        site.conf(&site.spool.directive()),
        site.origin.proxy_pass()
    ));
    let cookie = format!("Cookie: {}", site.sandbox.mint(BROWSER).cookie());
    get(nginx.addr(), "/off/1", &[&cookie]);
    nginx.wait_for_error_log("1 lost since start");
    assert!(site.spool.files().is_empty());
}

#[test]
fn the_directive_is_checked() {
    let site = Site::new();
    let spool = site.spool.path();
    let spool = spool.display();
    for (directive, complaint) in [
        (
            "px_activity_spool on;".to_owned(),
            "it must be \"off\" or \"path=directory max_size=size\"",
        ),
        (format!("px_activity_spool path={spool};"), "needs both \"path\" and \"max_size\""),
        ("px_activity_spool max_size=1m;".to_owned(), "needs both \"path\" and \"max_size\""),
        (format!("px_activity_spool path={spool} path={spool};"), "it must be \"off\" or"),
        (format!("px_activity_spool path={spool} size=1m;"), "it must be \"off\" or"),
        ("px_activity_spool path= max_size=1m;".to_owned(), "it must be \"off\" or"),
        (format!("px_activity_spool off path={spool};"), "it must be \"off\" or"),
        (
            format!("px_activity_spool path={spool} max_size=1023k;"),
            "it must be a size of 1m or more",
        ),
        (format!("px_activity_spool path={spool} max_size=x;"), "it must be a size of 1m or more"),
        (
            format!("px_activity_spool path={spool}/not/there max_size=1m;"),
            "No such file or directory",
        ),
        ("px_activity_spool off; px_activity_spool off;".to_owned(), "directive is duplicate"),
        (
            format!(
                "px_activity_spool path={spool} max_size=1m;
                 location /a {{ px_activity_spool path={spool}/ max_size=2m; }}"
            ),
            "another \"max_size\" than elsewhere",
        ),
    ] {
        let (accepted, output) = Nginx::builder().server(&site.conf(&directive)).test();
        assert!(!accepted && output.contains(complaint), "{directive}: {output}");
        assert!(output.contains("[emerg]"), "{output}");
    }
    for directive in ["px_activity_spool off;", "px_activity_spool max_size=1g path=relative;"] {
        let (accepted, output) = Nginx::builder().server(&site.conf(directive)).test();
        assert!(accepted, "{directive}: {output}");
    }
}
