//! Workers die, are replaced, and are told to go.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use px_sandbox::{Behaviour, Sandbox};

use crate::load::{Answer, CLIENTS, Class, Load};
use crate::machine::{self, Tell};
use crate::matrix::{Row, Sign};
use crate::node;
use crate::site::{Backend, Dir, Plan, Site};
use crate::support::nginx::{fresh_dir, is_running, send_signal, workers_of};
use crate::support::{BROWSER, Connection, client, shared_library};
use crate::wire;

/// How often a worker dies in a row.
const DEATHS: usize = 3;
const WORKERS: u32 = 2;

fn workers_die(plan: &mut Plan) {
    plan.workers = WORKERS;
    // The master says how they ended.
    plan.is_lenient = true;
}

/// Kills a worker, and returns when another one has taken its place.
fn replace(site: &Site, load: &Load, worker: u32) {
    send_signal(worker, libc::SIGKILL);
    all_workers_but(site, load, &[worker]);
}

fn all_workers_but(site: &Site, load: &Load, old: &[u32]) {
    load.wait_for("workers as good", || are_all_new(site, old));
}

fn are_all_new(site: &Site, old: &[u32]) -> bool {
    let now = site.nginx.workers();
    now.len() == WORKERS as usize && !now.iter().any(|worker| old.contains(worker))
}

/// Every judged request was reported once, or is known to be lost.
fn is_reported_once(site: &Site) -> bool {
    let (reported, judged) = (site.collector.activities().len(), site.judged());
    if !site.has_lost_in_the_end() {
        return reported == judged;
    }
    let lost = site.metric("px_activities_lost_total", &[]) as usize;
    reported <= judged && reported + lost >= judged
}

fn killed() -> Row {
    Row::new("worker_killed", "process: a worker is killed (SIGKILL), three times")
        .plan(workers_die)
        .ended_at_most(CLIENTS * DEATHS)
        .strike(|site, load| {
            for _ in 0..DEATHS {
                load.go_on();
                replace(site, load, site.nginx.workers()[0]);
            }
        })
        .sign(Sign::Line("exited on signal 9"))
        .recovery("yes: the master starts another worker")
}

fn crashed() -> Row {
    Row::new(
        "worker_crashed_by_another_module",
        "process: another module brings a worker down (SIGSEGV), three times",
    )
    .plan(|plan| {
        workers_die(plan);
        let dir = fresh_dir();
        // Another nginx than this test was built for has other headers.
        let include = std::env::var("TEST_NGINX_INCLUDE");
        let include = include.as_deref().unwrap_or(env!("PX_NGINX_INCLUDE"));
        let include: Vec<String> =
            std::env::split_paths(include).map(|dir| format!("-I{}", dir.display())).collect();
        let include: Vec<&str> = include.iter().map(String::as_str).collect();
        let module = shared_library::build("t/faults/crash.c", &dir, &include);
        plan.main.push_str(&format!("load_module {}; worker_rlimit_core 0;", module.display()));
        plan.server.push_str("location = /crash { px_enabled off; crash; }");
        plan.keep.push(Box::new(Dir(dir)));
    })
    .ended_at_most(CLIENTS * DEATHS)
    .strike(|site, load| {
        for _ in 0..DEATHS {
            load.go_on();
            let old = site.nginx.workers();
            let mut connection = Connection::open(site.nginx.addr());
            connection.send(client::text("GET", "/crash", &[], b""));
            assert!(connection.try_receive_to(false).is_err(), "the worker lives");
            load.wait_for("a worker as good", || {
                let now = site.nginx.workers();
                now.len() == WORKERS as usize && now != old
            });
        }
    })
    .sign(Sign::Line("exited on signal 11"))
    .recovery("yes: the master starts another worker")
}

/// Size of the token cache's zone: no other has it.
const ZONE: usize = 576 * 1024;

/// Where a zone of this size lies in a process.
fn zone_in(pid: u32, size: usize) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
    let found = maps.lines().filter(|line| line.contains(" rw-s ")).find_map(|line| {
        let (from, to) = line.split_once(' ')?.0.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        (to - from == size as u64).then_some(from)
    });
    found.expect("a zone of this size")
}

/// Whose the zone's lock is. It is the first word of the zone, and the master's memory as well as
/// the workers'.
fn lock(site: &Site) -> io::Result<u64> {
    let memory = fs::File::open(format!("/proc/{}/mem", site.nginx.pid()))?;
    let mut word = [0; 8];
    memory.read_exact_at(&mut word, zone_in(site.nginx.pid(), ZONE))?;
    Ok(u64::from_ne_bytes(word))
}

fn take_lock(site: &Site, pid: u32) {
    let memory = fs::File::options().write(true).open(format!("/proc/{}/mem", site.nginx.pid()));
    let memory = memory.expect("a child's memory can be written");
    let word = u64::from(pid).to_ne_bytes();
    memory.write_all_at(&word, zone_in(site.nginx.pid(), ZONE)).expect("it is mapped");
}

fn killed_with_the_lock() -> Row {
    let known = Arc::new(AtomicU64::new(0));
    let (hits, before) = (Arc::clone(&known), known);
    Row::new(
        "worker_killed_with_the_lock",
        "process: a worker is killed while it holds the lock of the token cache",
    )
    .plan(|plan| {
        workers_die(plan);
        plan.server.push_str(&format!("px_token_cache zone=tokens:{}k;", ZONE / 1024));
    })
    .ended_at_most(CLIENTS)
    .strike(move |site, load| {
        let worker = site.nginx.workers()[0];
        // As if it had died there: the lock is held for less than a microsecond.
        load.wait_for("the lock", || {
            take_lock(site, worker);
            thread::sleep(Duration::from_millis(1));
            lock(site).expect("the master's memory") == u64::from(worker)
        });
        load.go_on();
        let count = site.metric("px_token_cache_hits_total", &[]);
        load.go_on();
        assert_eq!(site.metric("px_token_cache_hits_total", &[]), count, "nobody has the lock");
        hits.store(count as u64, Ordering::Relaxed);
        replace(site, load, worker);
        assert_ne!(lock(site).expect("the master's memory"), u64::from(worker), "it is free");
    })
    .sign(Sign::Line("exited on signal 9"))
    .mended_when(move |site| {
        site.metric("px_token_cache_hits_total", &[]) > before.load(Ordering::Relaxed) as f64
    })
    .recovery("yes: the master frees the lock; until then nobody waits for it")
}

/// Rounds of killing workers under heavy use of the zones.
const ROUNDS: usize = 12;

fn killed_in_a_loop() -> Row {
    Row::new(
        "workers_killed_in_a_loop",
        "process: workers are killed, twelve in a row, while hundreds of tokens fill a small token cache",
    )
    .plan(|plan| {
        workers_die(plan);
        plan.server.push_str(
            "px_token_cache zone=tokens:512k; location = /tokens { empty_gif; }",
        );
    })
    .ended_at_most(CLIENTS * ROUNDS)
    .strike(|site, load| {
        let is_over = AtomicBool::new(false);
        let addr = site.nginx.addr();
        let tokens: Vec<String> = (0..600)
            .map(|_| site.risk_api.mint(BROWSER).score(0).iterations(500).cookie())
            .map(|cookie| format!("Cookie: {cookie}"))
            .collect();
        thread::scope(|scope| {
            for thread in 0..2 {
                let (is_over, tokens) = (&is_over, &tokens);
                scope.spawn(move || {
                    let mut turn = thread * 300;
                    while !is_over.load(Ordering::Relaxed) {
                        // Many at once, so that workers do little else.
                        let Ok(mut connection) = Connection::try_open(addr) else { continue };
                        let mut bytes = Vec::new();
                        for _ in 0..50 {
                            turn += 7;
                            let cookie = &*tokens[turn % tokens.len()];
                            bytes.extend(client::text("GET", "/tokens", &[cookie], b""));
                        }
                        if connection.try_send(&bytes).is_err() {
                            continue;
                        }
                        for _ in 0..50 {
                            match connection.try_receive_to(false) {
                                Ok(answer) => assert_eq!(answer.status, 200),
                                // Its worker was killed.
                                Err(_) => break,
                            }
                        }
                    }
                });
            }
            for round in 0..ROUNDS {
                let workers = site.nginx.wait_for_workers(WORKERS as usize);
                replace(site, load, workers[round % workers.len()]);
            }
            is_over.store(true, Ordering::Relaxed);
        });
    })
    .sign(Sign::Line("exited on signal 9"))
    .lines(2 * ROUNDS)
}

fn reload_storm() -> Row {
    const STORM: usize = 40;
    Row::new("reload_storm", "process: the master is told to reload forty times in a second")
        .plan(|plan| {
            plan.workers = WORKERS;
            plan.collector_keeps_all();
        })
        .connections_may_end()
        .strike(|site, load| {
            let old = site.nginx.workers();
            for _ in 0..STORM {
                site.nginx.signal(libc::SIGHUP);
                thread::sleep(Duration::from_millis(25));
            }
            all_workers_but(site, load, &old);
        })
        .sign(Sign::Grows("px_config_reloads_total", &[]))
        .sign(Sign::nothing_lost())
        .sign(Sign::other("each request reported once", |_| true))
        .in_the_end(is_reported_once)
}

fn binary_upgrade() -> Row {
    Row::new(
        "binary_upgrade",
        "process: the binary is exchanged (SIGUSR2; SIGWINCH and SIGQUIT to the old master)",
    )
    .plan(|plan| {
        plan.workers = WORKERS;
        plan.collector_keeps_all();
        plan.is_daemon = true;
    })
    .connections_may_end()
    .strike(|site, load| {
        let old = site.nginx.pid();
        let old_workers = site.nginx.workers();
        send_signal(old, libc::SIGUSR2);
        let has_new = || {
            let new = site.nginx.pid();
            new != 0 && new != old && workers_of(new).len() == WORKERS as usize
        };
        load.wait_for("a new master with workers", has_new);
        load.go_on();
        send_signal(old, libc::SIGWINCH);
        load.wait_for("the end of old workers", || !old_workers.iter().any(|pid| is_running(*pid)));
        load.go_on();
        send_signal(old, libc::SIGQUIT);
        load.wait_for("the end of the old master", || !is_running(old));
    })
    .sign(Sign::other("each request reported once", |_| true))
    .in_the_end(is_reported_once)
    .recovery("yes; counters begin anew")
}

fn reloads_while_calls_are_under_way() -> Row {
    Row::new(
        "reload_while_calls_are_under_way",
        "process: reloads while the Risk API takes its time with every call",
    )
    .plan(|plan| {
        plan.workers = WORKERS;
        plan.collector_keeps_all();
    })
    .connections_may_end()
    .strike(|site, load| {
        site.risk_api.behave(Behaviour::Delay(Duration::from_millis(150)));
        for _ in 0..3 {
            let old = site.nginx.workers();
            site.nginx.signal(libc::SIGHUP);
            all_workers_but(site, load, &old);
        }
    })
    .sign(Sign::nothing_lost())
    .sign(Sign::other("each request reported once", |_| true))
    .mend(|site, _| site.risk_api.behave_well())
    .in_the_end(is_reported_once)
}

fn shutdown_timeout() -> Row {
    Row::new(
        "shutdown_timeout_while_services_hang",
        "process: a reload with `worker_shutdown_timeout` while the Risk API never answers",
    )
    .plan(|plan| {
        plan.workers = WORKERS;
        plan.main.push_str("worker_shutdown_timeout 200ms;");
        plan.location.push_str("px_s2s_timeout 600ms;");
    })
    .ended_at_most(3 * CLIENTS)
    .during(&Class::ASKED_ABOUT, &[Answer::Origin("pass s2s_timeout"), Answer::Ended])
    .strike(|site, load| {
        site.risk_api.behave(Behaviour::Hang);
        for _ in 0..3 {
            load.wait_for("calls under way", || site.risk_api.open_connections() >= 2);
            let old = site.nginx.workers();
            site.nginx.signal(libc::SIGHUP);
            all_workers_but(site, load, &old);
            load.wait_for("the end of old workers", || !old.iter().any(|pid| is_running(*pid)));
        }
    })
    .sign(Sign::Grows("px_risk_api_timeouts_total", &[]))
    .mend(|site, _| site.risk_api.behave_well())
}

const TIMED_OUT: &[(&str, &str)] = &[("result", "timeout")];

fn shutdown_timeout_at_the_node() -> Row {
    Row::new(
        "shutdown_timeout_while_the_node_hangs",
        "process: a reload with `worker_shutdown_timeout` while the node never answers",
    )
    .with_node()
    .plan(|plan| {
        plan.workers = WORKERS;
        plan.impatient.push(Backend::Node);
        plan.main.push_str("worker_shutdown_timeout 200ms;");
    })
    .ended_at_most(2 * CLIENTS)
    .during(&[Class::Attack], &[Answer::Origin("pass cookie"), Answer::Ended])
    .strike(|site, load| {
        wire::behave(site, &[Backend::Node], &Behaviour::Hang);
        load.wait_for("exchanges under way", || {
            site.metric("px_wallarm_requests_total", TIMED_OUT) > 0.0
        });
        let old = site.nginx.workers();
        site.nginx.signal(libc::SIGHUP);
        all_workers_but(site, load, &old);
        load.wait_for("the end of old workers", || !old.iter().any(|pid| is_running(*pid)));
    })
    .sign(Sign::Grows("px_wallarm_requests_total", TIMED_OUT))
    .lines_a_second(10 * WORKERS as usize)
    .mend(|site, _| wire::behave(site, &[Backend::Node], &Behaviour::Normal))
    .mended_when(node::every_worker_asks_again)
}

fn threads_refused() -> Row {
    Row::new("threads_refused", "process: the system gives new workers no threads (EAGAIN)")
        .plan(|plan| {
            machine::may_fail(plan);
            plan.workers = WORKERS;
            // The HTTP client of old workers wants threads too, and panics; that is caught, and reported
            // as activities lost.
            plan.is_lenient = true;
            // Found by its name, which takes a thread.
            let risk_api = Sandbox::start().expect("a free port");
            plan.risk_api_url = format!("http://localhost:{}", risk_api.port());
            plan.risk_api = risk_api;
        })
        .connections_may_end()
        .strike(|site, load| {
            machine::tell(site, Tell::NoThreads, 1);
            let old = site.nginx.workers();
            site.nginx.signal(libc::SIGHUP);
            all_workers_but(site, load, &old);
        })
        .during(&Class::ASKED_ABOUT, &[Answer::Origin("pass s2s_error")])
        .sign(Sign::Line("px: cannot start the sender thread"))
        .sign(Sign::Line("px: cannot start the resolver thread"))
        .sign(Sign::Line("the host of the Risk API could not be resolved"))
        .sign(Sign::Grows("px_activities_lost_total", &[]))
        .mend(|site, _| machine::tell(site, Tell::NoThreads, 0))
        .mended_when(|site| {
            let log = site.nginx.error_log();
            log.matches("px: all threads of this worker run now").count() == WORKERS as usize
        })
        .recovery("yes: they are asked for again every two seconds")
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        killed(),
        crashed(),
        killed_with_the_lock(),
        killed_in_a_loop(),
        reload_storm(),
        binary_upgrade(),
        reloads_while_calls_are_under_way(),
        shutdown_timeout(),
        shutdown_timeout_at_the_node(),
        threads_refused(),
    ]
}
