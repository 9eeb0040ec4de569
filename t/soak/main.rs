//! Tests for the px module: the soak. Hundreds of reloads and millions of requests with everything on leave
//! memory, files, threads and zones as they were, every answer right, and every report told once.
//!
//! As a part of the tests it is short. `make soak` runs it at length and writes what came of it to
//! docs/reliability.md.

#[path = "../support/mod.rs"]
mod support;

mod ledger;
mod results;
mod site;
mod turmoil;
mod visitors;
mod watch;

use std::fs;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use results::{Reloads, Requests, Results, Sizes, Traffic};
use site::{Site, WORKERS, status};
use support::{Nginx, shared_library};
use turmoil::Turmoil;
use visitors::Load;
use watch::Process;

/// The long run is looked at so many times.
const LEGS: usize = 20;
/// Longest time without a report while some are missing.
const QUIET: Duration = Duration::from_secs(60);

#[test]
fn nothing_grows_and_nothing_is_lost() {
    let sizes = Sizes::from_env();
    let results = Results {
        bare: bare_reloads(sizes.reloads),
        reloads: reloads(sizes.reloads),
        requests: requests(sizes.requests),
        sizes,
    };
    println!("\n{}", results.text());
    results.write();
    let broken = results.broken();
    assert!(broken.is_empty(), "broken:\n  {}", broken.join("\n  "));
}

/// To the very block: what the allocator makes of it is not asked.
#[test]
fn fifty_reloads_leave_the_masters_heap_as_it_was() {
    let site = Site::new();
    let mut counter = None;
    let nginx = site.start_with_env(|dir| {
        let path = dir.join("live-blocks");
        fs::write(&path, [0; 8]).expect("the counter can be made");
        counter = fs::File::open(&path).ok();
        let shim = shared_library::build("t/support/count_live_blocks.c", dir, &[]);
        vec![("LD_PRELOAD", shim.into()), ("PX_LIVE_BLOCKS", path.into())]
    });
    let counter = counter.expect("the counter is there");
    let live = || {
        let mut bytes = [0; 8];
        counter.read_exact_at(&mut bytes, 0).expect("the counter can be read");
        i64::from_ne_bytes(bytes)
    };
    let reload = |n: usize| {
        let old = nginx.wait_for_workers(WORKERS);
        nginx.reload(|conf| changed(conf, n));
        nginx.wait_for_workers_to_end(&old);
        nginx.wait_for_workers(WORKERS);
    };
    (0..2).for_each(reload);
    let before = live();
    assert!(before > 1000, "the shim sees nothing: {before} blocks");
    (2..52).for_each(reload);
    assert_eq!(live(), before);
}

/// The master's memory after each reload of an nginx without the module: nginx's own growth.
fn bare_reloads(count: usize) -> Vec<Process> {
    let nginx = Site::new().start_bare();
    let mut masters = Vec::new();
    for n in 0..count {
        let old = nginx.workers();
        nginx.reload(|conf| changed(conf, n));
        nginx.wait_for_workers_to_end(&old);
        masters.push(Process::look(nginx.pid()).expect("the master lives"));
    }
    nginx.quit();
    masters
}

/// Every other configuration is another one.
fn changed(conf: String, n: usize) -> String {
    let seconds = |n: usize| format!("worker_shutdown_timeout {}s;", 60 + n % 2);
    let timeout = |n: usize| format!("px_s2s_timeout {}s;", 20 + n % 2);
    conf.replace(&seconds(n), &seconds(n + 1)).replace(&timeout(n), &timeout(n + 1))
}

fn reloads(count: usize) -> Reloads {
    let site = Site::new();
    let nginx = site.start();
    let load = Load::new(&site, nginx.addr());
    let turmoil = Turmoil::default();
    let mut found = Reloads::default();
    let began = Instant::now();
    turmoil.during(&site, &nginx, || {
        load.during(|| {
            for n in 0..count {
                load.wait_for(200);
                let old = nginx.wait_for_workers(WORKERS);
                found.workers.push(old.iter().filter_map(|pid| Process::look(*pid)).collect());
                let began = Instant::now();
                nginx.reload(|conf| changed(conf, n));
                nginx.wait_for_workers_to_end(&old);
                found.longest_end = found.longest_end.max(began.elapsed());
                found.masters.push(master_at_rest(&nginx, found.masters.first()));
                let zombies = nginx.workers().into_iter().filter(|pid| watch::is_zombie(*pid));
                found.zombies += zombies.count();
                if (n + 1) % 50 == 0 {
                    println!("soak: {} reloads, {:.0?}", n + 1, began.elapsed());
                }
            }
        });
    });
    found.seconds = began.elapsed().as_secs_f64();
    nginx.wait_for_workers(WORKERS);
    found.traffic = Traffic::of(&load, &turmoil);
    finish(&site, nginx, &mut found.traffic);
    found
}

/// The master once it has closed what led to the old workers, as after the first reload. It does so some
/// time after they are gone.
fn master_at_rest(nginx: &Nginx, first: Option<&Process>) -> Process {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let master = Process::look(nginx.pid()).expect("the master lives");
        let is_at_rest = first.is_none_or(|first| master.open_files() <= first.open_files());
        if is_at_rest || Instant::now() > until {
            return master;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn requests(count: usize) -> Requests {
    let site = Site::new();
    let nginx = site.start();
    let load = Load::new(&site, nginx.addr());
    let turmoil = Turmoil::default();
    let mut found = Requests::default();
    let workers = nginx.wait_for_workers(WORKERS);
    for leg in 0..LEGS {
        let began = Instant::now();
        turmoil.during(&site, &nginx, || load.visit(count / LEGS));
        found.seconds += began.elapsed().as_secs_f64();
        wait_until_rested(&nginx);
        let all = nginx.workers().iter().filter_map(|pid| Process::look(*pid)).collect();
        found.legs.push(all);
        found.masters.push(Process::look(nginx.pid()).expect("the master lives"));
        let cache = status(&nginx)["token_caches"]["soak"].take();
        let of_cache = |name: &str| cache[name].as_u64().expect("a number");
        found.tokens = (found.tokens.0.max(of_cache("entries")), of_cache("capacity"));
        println!("soak: {} of {LEGS} parts, {:.0} s", leg + 1, found.seconds);
    }
    found.same_workers = nginx.workers() == workers;
    found.traffic = Traffic::of(&load, &turmoil);
    finish(&site, nginx, &mut found.traffic);
    found
}

/// Returns when the workers have seen that the visitors are gone.
fn wait_until_rested(nginx: &Nginx) {
    let sockets = || -> Vec<usize> {
        let all = nginx.workers();
        all.iter().filter_map(|pid| Process::look(*pid)).map(|one| one.sockets()).collect()
    };
    let (mut before, mut same) = (sockets(), 0);
    while same < 3 {
        thread::sleep(Duration::from_millis(100));
        let now = sockets();
        same = if now == before { same + 1 } else { 0 };
        before = now;
    }
}

/// Ends nginx once every report has arrived, or none does any more.
fn finish(site: &Site, nginx: Nginx, traffic: &mut Traffic) {
    let spool = nginx.dir().join("spool");
    let (mut told, mut since) = (0, Instant::now());
    loop {
        let balance = site.ledger.balance();
        if balance.told != told {
            (told, since) = (balance.told, Instant::now());
        }
        let is_over = balance.lost == 0 && watch::spool(&spool) == 0;
        if is_over || since.elapsed() > QUIET {
            break;
        }
        thread::sleep(Duration::from_millis(500));
    }
    let activities = status(&nginx)["activities"].take();
    traffic.spooled = activities["spooled"].as_u64().expect("a number");
    traffic.lost = activities["lost"].as_u64().expect("a number");
    traffic.spool_left = watch::spool(&spool);
    // It is looked at for what must not be there.
    let log = nginx.quit();
    traffic.openings = log.matches("too many failures of the Risk API").count();
    traffic.balance = site.ledger.balance();
    traffic.fetched = site.fetched();
    traffic.complaints = site.complaints();
}
