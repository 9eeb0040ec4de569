//! Tests for the px module: workers, their start, their end, and what they share.

mod support;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use px_sandbox::{Behaviour, Endpoint, OnAccept, Reply, Sandbox};
use serde_json::{Value, json};
use support::{
    BROWSER, Connection, Nginx, Origin, SOON, client, get, protect, protect_apart, wait_until,
};

/// Much longer than anything takes that does not hang: a graceful end waits five seconds at most
/// for the collector.
const BOUND: Duration = Duration::from_secs(12);

fn uuid(n: usize) -> String {
    format!("{n:08x}-1111-4111-8111-111111111111")
}

fn vid(n: usize) -> String {
    format!("{n:08x}-2222-4222-8222-222222222222")
}

/// The number behind the slash of the request's URL.
fn number(message: &Value) -> usize {
    let url = message["url"].as_str().expect("a URL");
    url.rsplit('/').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{url}"))
}

#[test]
fn two_hundred_visitors_at_once_get_their_own_verdicts() {
    const VISITORS: usize = 200;
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    // Of each four visitors the Risk API passes one and blocks one; cookies do the same.
    sandbox.answer_risk_with(|received| {
        let n = number(&received.json()["request"]);
        let score = if n % 4 == 1 { 100 } else { 0 };
        Reply::json(json!({"status": 0, "score": score, "action": "c", "uuid": uuid(n)}))
    });
    sandbox.behave(Behaviour::Delay(Duration::from_millis(20)));
    let nginx = Nginx::builder()
        .workers(4)
        .server(&format!(
            "{} px_s2s_timeout 20s; location / {{ {} }}",
            protect(&sandbox),
            origin.proxy_pass()
        ))
        .start();
    let headers = |n: usize| {
        let user_agent = format!("User-Agent: Visitor/{n}");
        if n % 4 < 2 {
            return vec![user_agent, format!("Cookie: _pxvid={}", vid(n))];
        }
        let score = if n % 4 == 2 { 0 } else { 100 };
        let mint = sandbox.mint(&format!("Visitor/{n}")).score(score).iterations(500);
        vec![user_agent, format!("Cookie: {}", mint.uuid(uuid(n)).vid(vid(n)).cookie())]
    };
    let mut visitors: Vec<(usize, Connection, Vec<u8>)> = (0..VISITORS)
        .map(|n| {
            let headers = headers(n);
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            let request = client::text("GET", &format!("/{n}"), &headers, b"");
            (n, Connection::open(nginx.addr()), request)
        })
        .collect();
    for (_, visitor, request) in &mut visitors {
        visitor.send(&request);
    }
    for (n, visitor, _) in &mut visitors {
        let response = visitor.receive();
        if *n % 4 == 0 || *n % 4 == 2 {
            assert_eq!((response.status, response.text().as_str()), (200, "origin"), "{n}");
        } else {
            assert_eq!(response.status, 403, "{n}");
            let page = response.text();
            assert!(page.contains(&uuid(*n)) && page.contains(&vid(*n)), "{n}: {page}");
        }
    }
    drop(visitors);
    nginx.quit();
    let activities = sandbox.wait_for_activities(VISITORS, SOON);
    let by_number: HashMap<usize, &Value> = activities.iter().map(|a| (number(a), a)).collect();
    assert_eq!((activities.len(), by_number.len()), (VISITORS, VISITORS));
    for (n, activity) in by_number {
        let kind = if n % 2 == 0 { "page_requested" } else { "block" };
        assert_eq!(activity["type"], kind, "{n}");
        assert_eq!(activity["details"]["client_uuid"], uuid(n), "{n}");
        assert_eq!(activity["vid"], vid(n), "{n}");
    }
    assert_eq!(origin.requests().len(), VISITORS / 2);
    sandbox.assert_no_complaints();
}

/// Visits by several threads until told to stop.
struct Load {
    stop: AtomicBool,
    answered: AtomicUsize,
}

impl Load {
    fn new() -> Self {
        Self { stop: AtomicBool::new(false), answered: AtomicUsize::new(0) }
    }

    fn run(&self, addr: SocketAddr) {
        while !self.stop.load(Ordering::Relaxed) {
            let n = self.answered.fetch_add(1, Ordering::Relaxed);
            let (user_agent, status) =
                if n.is_multiple_of(2) { (BROWSER, 200) } else { ("PhantomJS/1.0", 403) };
            let headers = [format!("User-Agent: {user_agent}"), "Connection: close".to_owned()];
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            assert_eq!(get(addr, &format!("/{n}"), &headers).status, status);
        }
    }

    fn wait_for(&self, more: usize) {
        let target = self.answered.load(Ordering::Relaxed) + more;
        wait_until("more answers", || self.answered.load(Ordering::Relaxed) >= target);
    }
}

#[test]
fn reloads_under_load_lose_neither_answers_nor_activities() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .workers(2)
        .server(&format!(
            "{} px_s2s_timeout 20s; location / {{ {} }}",
            protect(&sandbox),
            origin.proxy_pass()
        ))
        .start();
    let load = Load::new();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| load.run(nginx.addr()));
        }
        for round in 0..5 {
            load.wait_for(50);
            let old = nginx.workers();
            // Some keep the configuration, some change it.
            nginx.reload(|conf| {
                conf.replace("px_s2s_timeout 20s", &format!("px_s2s_timeout {}s", 20 + round / 2))
            });
            load.wait_for(20);
            nginx.wait_for_workers_to_end(&old);
        }
        load.stop.store(true, Ordering::Relaxed);
    });
    let answered = load.answered.load(Ordering::Relaxed);
    assert!(answered >= 350, "{answered}");
    nginx.quit();
    assert_eq!(sandbox.wait_for_activities(answered, SOON).len(), answered);
    assert_eq!(sandbox.risk_calls().len(), answered);
    sandbox.assert_no_complaints();
}

#[test]
fn old_workers_end_although_the_risk_api_hangs() {
    let (risk_api, collector) = (Sandbox::start().unwrap(), Sandbox::start().unwrap());
    let origin = Origin::start();
    risk_api.behave(Behaviour::Hang);
    let nginx = Nginx::start(&format!(
        "{} px_s2s_timeout 500ms; location / {{ {} }}",
        protect_apart(&risk_api, &collector),
        origin.proxy_pass()
    ));
    for round in 1..=3 {
        let old = nginx.wait_for_workers(1);
        let mut visitors: Vec<Connection> =
            (0..10).map(|_| Connection::open(nginx.addr())).collect();
        for visitor in &mut visitors {
            visitor.send(client::text("GET", "/", &[], b""));
        }
        risk_api.wait_for_risk_calls(10 * round, SOON);
        nginx.reload(|conf| conf);
        for visitor in &mut visitors {
            assert_eq!(visitor.receive().status, 200);
        }
        nginx.wait_for_workers_to_end(&old);
    }
    assert_eq!(collector.wait_for_activities(30, SOON).len(), 30);
    collector.assert_no_complaints();
}

/// `worker_shutdown_timeout` closes every connection, in whatever order it finds them. The streams
/// of an HTTP/2 connection that wait it leaves alone: their calls end by their own limit.
#[test]
fn a_worker_that_may_not_wait_for_the_risk_api_ends_all_the_same() {
    let (risk_api, collector) = (Sandbox::start().unwrap(), Sandbox::start().unwrap());
    let origin = Origin::start();
    risk_api.behave(Behaviour::Hang);
    for (listen, timeout) in [("", "60s"), ("http2", "1s")] {
        let nginx = Nginx::builder()
            .main("worker_shutdown_timeout 200ms;")
            .error_log_level("debug")
            .listen(listen)
            .server(&format!(
                "{} px_s2s_timeout {timeout}; location / {{ {} }}",
                protect_apart(&risk_api, &collector),
                origin.proxy_pass()
            ))
            .start();
        let old = nginx.wait_for_workers(1);
        risk_api.clear();
        let mut visitors = Vec::new();
        let mut visitors2 = Vec::new();
        for _ in 0..10 {
            if listen.is_empty() {
                let mut visitor = Connection::open(nginx.addr());
                visitor.send(client::text("GET", "/", &[], b""));
                visitors.push(visitor);
            } else {
                let mut visitor = support::h2::H2::open(nginx.addr());
                visitor.request(1, "GET", "/", &[], true);
                visitors2.push(visitor);
            }
        }
        risk_api.wait_for_risk_calls(10, SOON);
        nginx.reload(|conf| conf);
        nginx.wait_for_workers_to_end(&old);
        wait_until("the calls to end", || risk_api.open_connections() == 0);
    }
}

fn ends_within_bounds(end: impl FnOnce()) {
    let began = Instant::now();
    end();
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
}

#[test]
fn nginx_ends_in_time_although_the_collector_hangs() {
    type Break = fn(&Sandbox);
    let breaks: [Break; 4] = [
        |sandbox| sandbox.behave_at(Endpoint::Activities, Behaviour::Hang),
        |sandbox| {
            let slow = Behaviour::Trickle(Duration::from_millis(100));
            sandbox.behave_at(Endpoint::Activities, slow);
        },
        |sandbox| sandbox.on_accept(OnAccept::Hang),
        |sandbox| sandbox.go_down(),
    ];
    thread::scope(|scope| {
        for break_it in breaks {
            for stop in [false, true] {
                scope.spawn(move || {
                    let (risk_api, collector) =
                        (Sandbox::start().unwrap(), Sandbox::start().unwrap());
                    let origin = Origin::start();
                    break_it(&collector);
                    let nginx = Nginx::builder()
                        .workers(2)
                        .server(&format!(
                            "{} px_max_activity_batch_size 2; px_async_timeout 60s; \
                             location / {{ {} }}",
                            protect_apart(&risk_api, &collector),
                            origin.proxy_pass()
                        ))
                        .start();
                    for _ in 0..20 {
                        assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
                    }
                    // Killed workers would show in the error log, which is looked at.
                    ends_within_bounds(|| {
                        if stop {
                            nginx.stop()
                        } else {
                            nginx.quit()
                        };
                    });
                });
            }
        }
    });
}

#[test]
fn nginx_stops_at_once_although_calls_are_under_way() {
    let (risk_api, collector) = (Sandbox::start().unwrap(), Sandbox::start().unwrap());
    let origin = Origin::start();
    risk_api.behave(Behaviour::Hang);
    let nginx = Nginx::start(&format!(
        "{} px_s2s_timeout 60s; location / {{ {} }}",
        protect_apart(&risk_api, &collector),
        origin.proxy_pass()
    ));
    let mut visitors: Vec<Connection> = (0..10).map(|_| Connection::open(nginx.addr())).collect();
    for visitor in &mut visitors {
        visitor.send(client::text("GET", "/", &[], b""));
    }
    risk_api.wait_for_risk_calls(10, SOON);
    ends_within_bounds(|| {
        nginx.stop();
    });
}

#[test]
fn activities_are_delivered_before_a_worker_ends() {
    for stop in [false, true] {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        let nginx = Nginx::builder()
            .workers(3)
            .server(&format!(
                "{} px_max_activity_batch_size 1000; px_batch_activities_timeout_ms 60s; \
                 location / {{ {} }}",
                protect(&sandbox),
                origin.proxy_pass()
            ))
            .start();
        for _ in 0..30 {
            assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
        }
        nginx.wait_for_access_log(30);
        assert!(sandbox.activities().is_empty());
        if stop {
            nginx.stop()
        } else {
            nginx.quit()
        };
        assert_eq!(sandbox.wait_for_activities(30, SOON).len(), 30);
        assert!(sandbox.activity_posts().len() <= 3);
        sandbox.assert_no_complaints();
    }
}

/// Threads of a process, and memory it shares with others.
fn traces(pid: u32) -> (usize, usize) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map(Iterator::count).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    (threads, maps.lines().filter(|line| line.contains(" rw-s ")).count())
}

#[test]
fn loaded_but_enabled_nowhere_it_does_nothing() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let pass = origin.proxy_pass();
    let off = protect(&sandbox).replace("px_enabled on", "px_enabled off");
    let bot = &["User-Agent: PhantomJS/1.0"];
    let trace_of = |server: &str, status: u16| {
        let nginx = Nginx::builder().server(server).start();
        let worker = nginx.wait_for_workers(1)[0];
        assert_eq!(get(nginx.addr(), "/", bot).status, status);
        let trace = traces(worker);
        (trace, nginx.wait_for_access_log(1).remove(0), nginx.quit())
    };
    let (bare, _, _) = trace_of(&format!("location / {{ {pass} }}"), 200);
    let unknown = off.replace(&sandbox.addr().to_string(), "no-such-host.invalid");
    for off in [off, unknown] {
        let (trace, access, log) = trace_of(
            &format!("{off} location / {{ {pass} }} location /a {{ px_s2s_timeout 1s; }}"),
            200,
        );
        assert_eq!(trace, bare);
        assert_eq!(trace.0, 1, "one thread");
        assert!(access.contains("verdict=- pass=- "), "{access}");
        assert!(!log.contains("px:"), "{log}");
    }
    assert_eq!(sandbox.connections(), 0);

    // What this test looks at is there once the module has something to do.
    let on = protect(&sandbox);
    let (busy, _, log) = trace_of(&format!("{on} location / {{ {pass} }}"), 403);
    assert!(busy.0 > bare.0 && busy.1 > bare.1, "{busy:?} {bare:?}");
    assert!(log.contains("px:"));
}

#[test]
fn a_location_where_it_is_off_is_left_alone() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let pass = origin.proxy_pass();
    let nginx = Nginx::start(&format!(
        "{} location / {{ {pass} }} location /off {{ px_enabled off; {pass} }}",
        protect(&sandbox)
    ));
    assert_eq!(get(nginx.addr(), "/off", &["User-Agent: PhantomJS/1.0"]).status, 200);
    assert_eq!(get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]).status, 403);
    nginx.quit();
    assert_eq!(sandbox.wait_for_activities(1, SOON).len(), 1);
    assert_eq!(sandbox.risk_calls().len(), 1);
}

#[test]
fn a_single_process_works_too() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .main("master_process off;")
        .server(&format!("{} location / {{ {} }}", protect(&sandbox), origin.proxy_pass()))
        .start();
    assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    assert_eq!(get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]).status, 403);
    assert!(nginx.workers().is_empty());

    nginx.quit();
    assert_eq!(sandbox.wait_for_activities(2, SOON).len(), 2);
    sandbox.assert_no_complaints();
}

#[test]
fn a_killed_worker_is_replaced_by_one_as_good() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let mut nginx =
        Nginx::start(&format!("{} location / {{ {} }}", protect(&sandbox), origin.proxy_pass()));
    // The master says that it was killed.
    nginx.lenient();
    for _ in 0..3 {
        assert_eq!(get(nginx.addr(), "/", &["User-Agent: PhantomJS/1.0"]).status, 403);
        let old = nginx.wait_for_workers(1);
        support::nginx::send_signal(old[0], libc::SIGKILL);
        wait_until("another worker", || {
            let now = nginx.workers();
            now.len() == 1 && now != old
        });
    }
    assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
}

#[test]
fn no_two_requests_of_any_worker_have_one_id() {
    // More than a worker draws at once.
    const REQUESTS: usize = 1200;
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .workers(2)
        .server(&format!(
            "{} location / {{ {} add_header X-Id $px_request_id; }}",
            protect(&sandbox),
            origin.proxy_pass()
        ))
        .start();
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    let mut ids = HashSet::new();
    let mut ask = |count: usize| {
        for _ in 0..count {
            let id =
                get(nginx.addr(), "/", &[&cookie]).header("x-id").unwrap_or_default().to_owned();
            let is_v4 = id.len() == 36 && &id[14..15] == "4" && "89ab".contains(&id[19..20]);
            assert!(is_v4, "{id:?}");
            assert!(ids.insert(id));
        }
    };
    ask(REQUESTS / 2);
    nginx.reload(|conf| conf);
    ask(REQUESTS / 2);
}

#[test]
fn threads_stand_back_behind_the_event_loop_but_for_the_one_that_keeps_reports() {
    let sandbox = Sandbox::start().unwrap();
    let nginx = Nginx::start(&protect(&sandbox));
    let worker = nginx.wait_for_workers(1)[0];
    // The niceness is the 19th field; the name before it may hold anything.
    let niceness = |task: &str| {
        let stat =
            fs::read_to_string(format!("/proc/{worker}/task/{task}/stat")).unwrap_or_default();
        let (_, fields) = stat.rsplit_once(')')?;
        fields.split_whitespace().nth(16)?.parse::<i32>().ok()
    };
    let event_loop = niceness(&worker.to_string()).expect("the worker runs");
    wait_until("every thread but one gives way", || {
        let tasks = fs::read_dir(format!("/proc/{worker}/task")).expect("the worker runs");
        let names = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
        let threads: Vec<_> = names.filter(|name| *name != worker.to_string()).collect();
        let keeps_reports = |thread: &&String| {
            fs::read_to_string(format!("/proc/{worker}/task/{thread}/comm"))
                .is_ok_and(|name| name == "px sender\n")
        };
        let (prompt, others): (Vec<_>, Vec<_>) = threads.iter().partition(keeps_reports);
        prompt.len() == 1
            && !others.is_empty()
            && prompt.iter().all(|thread| niceness(thread) == Some(event_loop))
            && others.iter().all(|thread| niceness(thread) > Some(event_loop))
    });
}
