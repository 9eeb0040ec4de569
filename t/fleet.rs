//! Tests for the px module: several nginx behind a balancer. Nothing is shared between them but HUMAN
//! and the secrets; whatever is done to one after the other, no visitor notices.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use px_sandbox::{App, Behaviour, Endpoint, Mint, Sandbox};
use serde_json::{Value, json};
use support::prometheus::Metrics;
use support::{
    BROWSER, Nginx, Origin, Response, SOON, curl, get, nginx, protect, request, wait_until,
};

const BOT: &str = "User-Agent: PhantomJS/1.0";
const NODES: usize = 3;
/// Where the balancer's connections come from.
const BALANCER: &str = "127.0.0.77";

/// Three nginx with the module, and one in front of them that gives each request to the next.
struct Fleet {
    nodes: Vec<Option<Nginx>>,
    confs: Vec<String>,
    addrs: Vec<SocketAddr>,
    balancer: Nginx,
}

impl Fleet {
    /// `conf` gives the directives of the node with this number.
    fn start(origin: &Origin, conf: impl Fn(usize) -> String) -> Self {
        Self::start_in(origin, "", conf)
    }

    /// As [`start`](Self::start), with directives of every node's `http` block.
    fn start_in(origin: &Origin, http: &str, conf: impl Fn(usize) -> String) -> Self {
        let confs: Vec<String> = (0..NODES)
            .map(|n| {
                format!(
                    "{} add_header X-Node {n} always; add_header X-Why $px_pass_reason always;
                     set_real_ip_from {BALANCER}; real_ip_header X-Forwarded-For;
                     location = /_status {{ px_status prometheus; }} location / {{ {} }}",
                    conf(n),
                    origin.proxy_pass()
                )
            })
            .collect();
        let nodes: Vec<Option<Nginx>> = confs
            .iter()
            .map(|conf| Some(Nginx::builder().http(http).server(conf).start()))
            .collect();
        let addrs: Vec<SocketAddr> = nodes.iter().flatten().map(Nginx::addr).collect();
        let servers: String =
            addrs.iter().map(|addr| format!("server {addr} max_fails=0; ")).collect();
        let balancer = Nginx::builder()
            .error_log_level("error")
            .http(&format!("upstream fleet {{ {servers} keepalive 8; }}"))
            .server(&format!(
                "location / {{ proxy_pass http://fleet; proxy_http_version 1.1;
                 proxy_set_header Connection \"\"; proxy_set_header Host $host;
                 proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                 proxy_next_upstream error timeout; proxy_bind {BALANCER}; }}"
            ))
            .start();
        Self { nodes, confs, addrs, balancer }
    }

    fn node(&self, n: usize) -> &Nginx {
        self.nodes[n].as_ref().expect("this node runs")
    }

    /// One visit through the balancer.
    fn get(&self, path: &str, headers: &[&str]) -> Response {
        get(self.balancer.addr(), path, headers)
    }

    /// What a node says of itself.
    fn metrics(&self, n: usize) -> Metrics {
        let page = get(self.addrs[n], "/_status", &[]).text();
        Metrics::parse(&page).expect("the format")
    }

    /// One metric of every node.
    fn each(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        (0..NODES).map(|n| self.metrics(n).get(name, labels)).collect()
    }

    /// As [`each`](Self::each), all nodes together: what `sum()` says in Prometheus.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.each(name, labels).iter().sum()
    }

    /// Reloads the nodes one after the other, each when the one before it is done.
    fn reload_one_by_one(&self) {
        for node in self.nodes.iter().flatten() {
            let old = node.workers();
            node.reload(|conf| conf);
            node.wait_for_workers_to_end(&old);
        }
    }

    /// Ends a node as a power cut would.
    fn kill(&mut self, n: usize) {
        let mut node = self.nodes[n].take().expect("this node runs");
        node.lenient();
        let workers = node.workers();
        node.signal(libc::SIGKILL);
        workers.into_iter().for_each(|worker| nginx::send_signal(worker, libc::SIGKILL));
    }

    /// The node is back, where the balancer looks for it.
    fn start_again(&mut self, n: usize) {
        let node = Nginx::builder().server(&self.confs[n]).addr(self.addrs[n]).start();
        self.nodes[n] = Some(node);
    }
}

/// Which node answered.
fn node_of(response: &Response) -> usize {
    response.header("x-node").and_then(|node| node.parse().ok()).expect("a node's answer")
}

fn why(response: &Response) -> &str {
    response.header("x-why").unwrap_or_default()
}

/// A directory for as long as the test runs.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        Self(nginx::fresh_dir())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Replaces the file as a deployment does: at once. Tests may run as root, and workers as others,
    /// but secrets are read before there are workers.
    fn deploy(&self, name: &str, content: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, content).expect("a file can be written");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("it is ours");
        fs::rename(new, self.path(name)).expect("a file can be replaced");
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Visitors who come again and again while something is done to the fleet.
struct Load {
    stop: AtomicBool,
    answered: AtomicUsize,
}

impl Load {
    /// Lets `visit` be called by two threads, with another number each time, while `meanwhile` runs;
    /// the number of visits.
    fn during(visit: impl Fn(usize) + Sync, meanwhile: impl FnOnce(&Self)) -> usize {
        let load = Self { stop: AtomicBool::new(false), answered: AtomicUsize::new(0) };
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            let visits = || {
                while !load.stop.load(Ordering::Relaxed) {
                    visit(next.fetch_add(1, Ordering::Relaxed));
                    load.answered.fetch_add(1, Ordering::Relaxed);
                }
            };
            let visitors = [scope.spawn(visits), scope.spawn(visits)];
            // A visitor who is answered wrongly ends the wait for more of them.
            struct Stop<'l>(&'l Load);
            impl Drop for Stop<'_> {
                fn drop(&mut self) {
                    self.0.stop.store(true, Ordering::Relaxed);
                }
            }
            {
                let _stop = Stop(&load);
                load.wait_for(2 * NODES);
                meanwhile(&load);
                load.wait_for(2 * NODES);
            }
            for visitor in visitors {
                visitor.join().expect("every visitor is answered rightly");
            }
        });
        load.answered.load(Ordering::Relaxed)
    }

    /// Returns after so many more visits.
    fn wait_for(&self, more: usize) {
        let target = self.answered.load(Ordering::Relaxed) + more;
        wait_until("more visits", || self.answered.load(Ordering::Relaxed) >= target);
    }
}

/// How often the collector was told of each path.
fn told(sandbox: &Sandbox) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for activity in sandbox.activities() {
        let url = activity["url"].as_str().expect("a URL");
        let path = url.strip_prefix("http://site.test").expect("the site's");
        *told.entry(path.to_owned()).or_default() += 1;
    }
    told
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn a_risk_cookie_is_good_at_every_node_and_each_node_counts_its_own() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let fleet = Fleet::start(&origin, |_| protect(&sandbox));
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    let mut nodes = BTreeMap::new();
    for _ in 0..3 * NODES {
        let answer = fleet.get("/", &[&cookie]);
        assert_eq!((answer.status, why(&answer)), (200, "cookie"));
        *nodes.entry(node_of(&answer)).or_insert(0) += 1;
    }
    assert_eq!(nodes, BTreeMap::from([(0, 3), (1, 3), (2, 3)]));
    assert!(sandbox.risk_calls().is_empty());

    // Each node authenticates it once for itself.
    let app = ("app_id", &*sandbox.app().id);
    let zone = [("zone", "px_token_cache")];
    assert_eq!(fleet.each("px_token_cache_misses_total", &zone), [1.0; NODES]);
    assert_eq!(fleet.each("px_token_cache_hits_total", &zone), [2.0; NODES]);
    let by_cookie = [app, ("verdict", "pass"), ("reason", "cookie")];
    assert_eq!(fleet.each("px_requests_total", &by_cookie), [3.0; NODES]);

    // Whoever has no cookie is asked about once, by one of them.
    assert_eq!(why(&fleet.get("/", &[])), "s2s");
    let mut calls = fleet.each("px_risk_api_calls_total", &[app]);
    calls.sort_by(f64::total_cmp);
    assert_eq!(calls, [0.0, 0.0, 1.0]);
    assert_eq!(sandbox.risk_calls().len(), 1);
    let told = (3 * NODES + 1) as f64;
    wait_until("the activities in the counters of all nodes", || {
        fleet.sum("px_activities_sent_total", &[]) == told
    });
    assert_eq!(sandbox.activities().len() as f64, told);
    sandbox.assert_no_complaints();
}

#[test]
fn an_open_breaker_and_a_lost_collector_are_one_nodes_own() {
    let (sandbox, cut_off) = (Sandbox::start().unwrap(), Sandbox::start().unwrap());
    let origin = Origin::start();
    let fleet = Fleet::start(&origin, |n| {
        let human = if n == 1 { &cut_off } else { &sandbox };
        format!("{} px_max_errors_threshold 3;", protect(human))
    });
    cut_off.go_down();
    // Bots, so that everybody sees where they are still recognised.
    for _ in 0..6 * NODES {
        let answer = fleet.get("/", &[BOT]);
        let passes = node_of(&answer) == 1;
        let expected = if passes { (200, "s2s_error") } else { (403, "") };
        assert_eq!((answer.status, why(&answer)), expected);
    }
    let breaker = |n: usize, human: &Sandbox| {
        let backend = [("backend", &*human.url())];
        fleet.metrics(n).get("px_circuit_breaker_state", &backend)
    };
    assert_eq!([breaker(0, &sandbox), breaker(2, &sandbox)], [0.0, 0.0]);
    assert_eq!(breaker(1, &cut_off), 1.0);
    wait_until("lost activities", || fleet.each("px_activities_lost_total", &[])[1] == 6.0);
    assert_eq!(fleet.sum("px_activities_lost_total", &[]), 6.0);
    assert_eq!(sandbox.wait_for_activities(12, SOON).len(), 12);
    let errors = fleet.each("px_risk_api_calls_not_made_total", &[("app_id", &*sandbox.app().id)]);
    assert!(errors[1] > 0.0 && errors[0] + errors[2] == 0.0, "{errors:?}");
}

#[test]
fn a_visitor_is_the_same_at_every_node() {
    let sandbox = Sandbox::builder().pxhd(true).start().unwrap();
    let origin = Origin::start();
    let fleet = Fleet::start(&origin, |_| protect(&sandbox));
    let first = fleet.get("/", &[]);
    let set = first.header("set-cookie").expect("a hidden device").to_owned();
    let pxhd = set.split(';').next().unwrap();
    let vid = "c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b";
    let cookies = format!("Cookie: {pxhd}; _pxvid={vid}");
    let mut nodes = BTreeSet::from([node_of(&first)]);
    for _ in 1..NODES {
        let answer = fleet.get("/", &[&cookies]);
        assert_eq!((answer.status, answer.header("set-cookie")), (200, None));
        nodes.insert(node_of(&answer));
    }
    assert_eq!(nodes.len(), NODES);
    let calls = sandbox.risk_calls();
    assert_eq!(calls.len(), NODES);
    for call in &calls[1..] {
        assert_eq!((&call.json()["pxhd"], &call.json()["vid"]), (&json!(pxhd[6..]), &json!(vid)));
    }
    sandbox.assert_no_complaints();
}

#[test]
fn a_challenge_of_one_node_is_solved_at_another() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let fleet = Fleet::start(&origin, |_| protect(&sandbox));
    let page = fleet.get("/", &[BOT]);
    assert_eq!(page.status, 403);
    let (text, uuid) = (page.text(), sandbox.wait_for_activities(1, SOON)[0].clone());
    let uuid = uuid["details"]["client_uuid"].as_str().unwrap().to_owned();
    assert!(text.contains(&uuid) && text.contains("/sandbox1/captcha/captcha.js"), "{text}");
    // The page's script and what it sends are for any node.
    let script = fleet.get("/sandbox1/captcha/captcha.js?a=c", &[BOT]);
    assert_eq!(script.status, 200);
    let answer = json!({"appId": sandbox.app().id, "uuid": uuid}).to_string();
    let solved = request(
        fleet.balancer.addr(),
        "POST",
        "/sandbox1/xhr/px-sandbox/solve",
        &[BOT, "Content-Type: application/json"],
        answer.as_bytes(),
    );
    let cookie = solved.json()["cookies"][0].as_str().expect("a cookie").to_owned();
    let solved_at = [node_of(&page), node_of(&script), node_of(&solved)];
    assert_eq!(solved_at.iter().collect::<BTreeSet<_>>().len(), NODES);
    let calls = sandbox.risk_calls().len();
    let cookie = format!("Cookie: {}", cookie.split(';').next().unwrap());
    for _ in 0..NODES {
        let answer = fleet.get("/", &[BOT, &cookie]);
        assert_eq!((answer.status, why(&answer)), (200, "cookie"));
    }
    assert_eq!(sandbox.risk_calls().len(), calls);
}

#[test]
fn what_is_reported_is_the_visitors_address_and_not_the_balancers() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    // Two ways to the same address; the last node is told of none.
    let fleet = Fleet::start(&origin, |n| match n {
        0 => protect(&sandbox),
        1 => format!("{} real_ip_recursive on;", protect(&sandbox)),
        _ => format!("{} px_ip_headers X-Forwarded-For;", protect(&sandbox)),
    });
    let url = format!("http://{}/", fleet.balancer.addr());
    for _ in 0..NODES {
        let agent = format!("User-Agent: {BROWSER}");
        let args = ["--interface", "127.0.0.88", "-H", "Host: site.test", "-H", &agent, &url];
        assert_eq!(curl(&args), ("origin".to_owned(), 0));
    }
    let addresses: Vec<Value> = sandbox
        .risk_calls()
        .iter()
        .map(|call| call.json()["request"]["socket_ip"].clone())
        .collect();
    assert_eq!(addresses, ["127.0.0.88"; NODES]);
    for activity in sandbox.wait_for_activities(NODES, SOON) {
        assert_eq!(activity["socket_ip"], "127.0.0.88");
    }
    // realip believes the balancer only; px_ip_headers believes what the visitor wrote in front.
    sandbox.clear();
    let nodes: Vec<usize> =
        (0..NODES).map(|_| node_of(&fleet.get("/", &["X-Forwarded-For: 203.0.113.7"]))).collect();
    for (node, call) in nodes.iter().zip(sandbox.risk_calls()) {
        let expected = if *node == 2 { "203.0.113.7" } else { "127.0.0.1" };
        assert_eq!(call.json()["request"]["socket_ip"], expected, "{node}");
    }
}

/// As docs/fleet.md tells it.
#[test]
fn a_share_of_the_visitors_is_blocked_first_and_it_is_the_same_at_every_node() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let monitor = protect(&sandbox).replace("active_blocking", "monitor");
    let fleet =
        Fleet::start_in(&origin, "split_clients $remote_addr $px_share { 50% 1; * 0; }", |_| {
            format!(
                "{monitor} px_custom_is_enforced_request $px_share; set_real_ip_from 127.0.0.1;"
            )
        });
    let mut shares = BTreeSet::new();
    for visitor in 1..=8 {
        let address = format!("X-Forwarded-For: 203.0.113.{visitor}");
        let ask = |addr| get(addr, "/", &[BOT, &address]).status;
        let statuses: BTreeSet<u16> = fleet.addrs.iter().map(|addr| ask(*addr)).collect();
        assert_eq!(statuses.len(), 1, "{visitor}: {statuses:?}");
        shares.extend(statuses);
    }
    assert_eq!(shares, BTreeSet::from([200, 403]));
}

/// The directives of [`protect`], with one of them read from a file.
fn with_file(sandbox: &Sandbox, directive: &str, file: &Path) -> String {
    let rest: Vec<String> = protect(sandbox)
        .lines()
        .filter(|line| !line.starts_with(&format!("{directive} ")))
        .map(str::to_owned)
        .collect();
    format!("{}\n{directive}_file {};", rest.join("\n"), file.display())
}

#[test]
fn a_cookie_secret_is_rotated_and_no_visitor_notices() {
    const NEW: &str = "the-new-cookie-secret-for-nobody-else";
    let (sandbox, origin, dir) = (Sandbox::start().unwrap(), Origin::start(), Dir::new());
    let old = sandbox.app().secret.clone();
    dir.deploy("secret", &old);
    let fleet =
        Fleet::start(&origin, |_| with_file(&sandbox, "px_cookie_secret", &dir.path("secret")));
    let cookies = |secret: &str| {
        [0, 100].map(|score| {
            let mint = Mint::v3(secret).user_agent(BROWSER).score(score);
            format!("Cookie: {}", mint.cookie())
        })
    };
    let (old_cookies, new_cookies) = (cookies(&old), cookies(NEW));
    // Which cookies visitors hold: HUMAN signs with the new secret once every node knows it, and old
    // cookies have expired before it is taken from them.
    let (hold_old, hold_new) = (AtomicBool::new(true), AtomicBool::new(false));
    let visit = |n: usize| {
        let use_new =
            hold_new.load(Ordering::Relaxed) && (n % 4 < 2 || !hold_old.load(Ordering::Relaxed));
        let [good, bad] = if use_new { &new_cookies } else { &old_cookies };
        if n.is_multiple_of(2) {
            let answer = fleet.get(&format!("/{n}"), &[good]);
            assert_eq!((answer.status, why(&answer)), (200, "cookie"));
        } else {
            assert_eq!(fleet.get(&format!("/{n}"), &[bad]).status, 403);
        }
    };
    let visits = Load::during(visit, |load| {
        dir.deploy("secret", &format!("{old}\n{NEW}\n"));
        fleet.reload_one_by_one();
        hold_new.store(true, Ordering::Relaxed);
        load.wait_for(4 * NODES);
        dir.deploy("secret", &format!("{NEW}\n{old}\n"));
        fleet.reload_one_by_one();
        load.wait_for(4 * NODES);
        hold_old.store(false, Ordering::Relaxed);
        // Whoever chose an old cookie before that has been answered.
        load.wait_for(4);
        dir.deploy("secret", NEW);
        fleet.reload_one_by_one();
    });
    assert!(sandbox.risk_calls().is_empty(), "nobody was asked about");
    assert_eq!(sandbox.wait_for_activities(visits, SOON).len(), visits);
    assert_eq!(why(&fleet.get("/", &[&old_cookies[0]])), "s2s", "the old one is forgotten");
    sandbox.assert_no_complaints();
}

#[test]
fn a_token_is_rotated_and_nothing_is_lost_in_memory_or_on_disk() {
    const NEW: &str = "the-new-auth-token-for-nobody-else";
    let new = App { auth_token: NEW.to_owned(), ..App::default() };
    let sandbox = Sandbox::builder().app(new).start().unwrap();
    let collector = Sandbox::builder()
        .app(App { auth_token: NEW.to_owned(), ..App::default() })
        .start()
        .unwrap();
    let (origin, dir) = (Origin::start(), Dir::new());
    let old = sandbox.app().auth_token.clone();
    dir.deploy("token", &old);
    let fleet = Fleet::start(&origin, |n| {
        let directives = with_file(&sandbox, "px_auth_token", &dir.path("token")).replace(
            &format!("px_backend_collector_url {}", sandbox.url()),
            &format!("px_backend_collector_url {}", collector.url()),
        );
        // One node keeps what the collector does not take.
        let spool = dir.path("spool");
        let spool = format!("px_activity_spool path={} max_size=16m;", spool.display());
        format!("{directives} {}", if n == 0 { &*spool } else { "" })
    });
    collector.go_down();
    let waiting: Vec<String> = (0..6).map(|n| format!("/waits/{n}")).collect();
    for path in &waiting {
        assert_eq!(get(fleet.addrs[0], path, &[]).status, 200);
    }
    wait_until("the spool", || fleet.each("px_activities_spooled_total", &[])[0] == 6.0);
    let visit = |n: usize| {
        let answer = fleet.get(&format!("/visit/{n}"), &[]);
        assert_eq!((answer.status, why(&answer)), (200, "s2s"));
    };
    let visits = Load::during(visit, |load| {
        dir.deploy("token", &format!("{NEW}\n{old}\n"));
        fleet.reload_one_by_one();
        collector.come_back().unwrap();
        // What was sealed with the old token is delivered with the new one.
        wait_until("what waited on disk", || {
            let told = told(&collector);
            waiting.iter().all(|path| told.get(path) == Some(&1))
        });
        load.wait_for(NODES);
        dir.deploy("token", NEW);
        fleet.reload_one_by_one();
    });
    let calls = sandbox.risk_calls();
    assert_eq!(calls.len(), waiting.len() + visits);
    let sent_with = |token: &str| {
        let expected = format!("Bearer {token}");
        calls.iter().filter(|call| call.header("authorization") == Some(&expected)).count()
    };
    assert!(sent_with(&old) > waiting.len() && sent_with(NEW) > 2 * NODES);
    for post in collector.activity_posts() {
        assert_eq!(post.header("authorization"), Some(&*format!("Bearer {NEW}")));
    }
    sandbox.assert_no_complaints();
    collector.assert_no_complaints();
}

#[test]
fn nodes_are_reloaded_and_replaced_one_by_one_and_nothing_is_lost() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let mut fleet = Fleet::start(&origin, |_| protect(&sandbox));
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    let balancer = fleet.balancer.addr();
    let visit = |n: usize| {
        let path = format!("/{n}");
        match n % 3 {
            0 => assert_eq!(get(balancer, &path, &[&cookie]).status, 200),
            1 => assert_eq!(get(balancer, &path, &[]).status, 200),
            _ => assert_eq!(get(balancer, &path, &[BOT]).status, 403),
        }
    };
    let visits = Load::during(visit, |load| {
        fleet.reload_one_by_one();
        // An upgrade: it ends gracefully, and another one begins at its address.
        for n in 0..NODES {
            fleet.nodes[n].take().expect("it runs").quit();
            load.wait_for(2 * NODES);
            fleet.start_again(n);
            load.wait_for(2 * NODES);
        }
    });
    wait_until("every activity", || sandbox.activities().len() >= visits);
    let told = told(&sandbox);
    assert!(told.values().all(|times| *times == 1) && told.len() == visits, "{visits}: {told:?}");
    sandbox.assert_no_complaints();
}

const REMOTE_TOKEN: &str = "remote-config-token-for-nobody-else";

#[test]
fn a_remote_configuration_told_to_one_node_comes_to_all_and_survives_what_happens_to_them() {
    let begin = || Sandbox::builder().remote_config_token(REMOTE_TOKEN).start().unwrap();
    let (sandbox, remote) = (begin(), begin());
    let (origin, dir) = (Origin::start(), Dir::new());
    // The last node has a way of its own to HUMAN.
    let mut fleet = Fleet::start(&origin, |n| {
        format!(
            "{} px_remote_config_id rc-1; px_remote_config_auth_token {REMOTE_TOKEN};
             px_remote_config_refresh_interval 1s; px_remote_config_cache {};",
            protect(if n == 2 { &remote } else { &sandbox }),
            dir.path(&format!("kept-{n}")).display()
        )
    });
    let publish = |version: u64, mode: &str| {
        for human in [&sandbox, &remote] {
            let values = json!({"px_remote_config_enabled": true, "px_module_mode": mode});
            human.set_remote_config("rc-1", version, values);
        }
    };
    let id = [("id", "rc-1")];
    let versions = |fleet: &Fleet| fleet.each("px_remote_config_version", &id);
    assert_eq!(versions(&fleet), [0.0; NODES]);
    publish(1, "monitor");
    // A message reaches the node that the balancer gives it to.
    let signed = format!("X-PX-PushData: {}", Sandbox::sign(REMOTE_TOKEN, now_ms() + 60_000));
    let headers = ["X-PX-Feature: enforcer_config", &signed];
    let answer = request(fleet.balancer.addr(), "POST", "/", &headers, b"{\"version\":1}");
    assert_eq!(answer.text(), "OK");
    let app = ("app_id", &*sandbox.app().id);
    let labels = [app, ("verdict", "notification"), ("reason", "")];
    let noticed = fleet.metrics(0).families["px_requests_total"].samples.iter().any(|sample| {
        sample.labels.get("verdict").is_some_and(|verdict| verdict == "notification")
    });
    assert!(noticed);
    let heard = fleet.each("px_requests_total", &labels).iter().filter(|n| **n > 0.0).count();
    assert_eq!(heard, 1);
    wait_until("version 1 everywhere", || versions(&fleet) == [1.0; NODES]);
    for _ in 0..NODES {
        assert_eq!(fleet.get("/", &[BOT]).status, 200, "monitored everywhere");
    }

    // A node that cannot reach HUMAN keeps what it has, and goes on.
    remote.go_down();
    publish(2, "active_blocking");
    wait_until("version 2 where it can come to", || versions(&fleet)[..2] == [2.0, 2.0]);
    assert_eq!(versions(&fleet)[2], 1.0);
    for _ in 0..NODES {
        let answer = fleet.get("/", &[BOT]);
        assert_eq!(answer.status, if node_of(&answer) == 2 { 200 } else { 403 });
    }
    let fetched = |fleet: &Fleet| {
        let metrics = fleet.metrics(2);
        let family = &metrics.families["px_document_fetched_timestamp_seconds"];
        family.samples.iter().find(|s| s.labels["task"] == "remote_config").unwrap().value
    };
    assert!(fetched(&fleet) > 0.0);

    // Restarted meanwhile, it begins with what it kept on disk.
    fleet.nodes[2].take().expect("it runs").quit();
    fleet.start_again(2);
    assert_eq!(versions(&fleet), [2.0, 2.0, 1.0]);
    assert_eq!(get(fleet.addrs[2], "/", &[BOT]).status, 200);
    remote.come_back().unwrap();
    wait_until("version 2 everywhere", || versions(&fleet) == [2.0; NODES]);
    assert_eq!(get(fleet.addrs[2], "/", &[BOT]).status, 403);
}

#[test]
fn a_node_dies_and_its_visitors_and_its_spool_are_in_good_hands() {
    let (sandbox, origin, dir) = (Sandbox::start().unwrap(), Origin::start(), Dir::new());
    let mut fleet = Fleet::start(&origin, |n| {
        let spool = dir.path(&format!("spool-{n}"));
        let spool = format!("px_activity_spool path={} max_size=16m;", spool.display());
        format!("{} {spool} px_batch_activities_timeout_ms 50ms;", protect(&sandbox))
    });
    sandbox.behave_at(Endpoint::Activities, Behaviour::Status(503));
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    let known = 10 * NODES;
    for n in 0..known {
        assert_eq!(fleet.get(&format!("/known/{n}"), &[&cookie]).status, 200);
    }
    wait_until("all of them on disk", || {
        fleet.sum("px_activities_spooled_total", &[]) == known as f64
    });
    let balancer = fleet.balancer.addr();
    let visit = |n: usize| {
        let answer = get(balancer, &format!("/load/{n}"), &[&cookie]);
        assert_eq!((answer.status, why(&answer)), (200, "cookie"));
    };
    Load::during(visit, |load| {
        fleet.kill(1);
        load.wait_for(20 * NODES);
    });
    sandbox.behave_well();
    let arrived = || told(&sandbox).keys().filter(|path| path.starts_with("/known/")).count();
    // What the dead node kept waits for it.
    wait_until("what the others kept", || arrived() >= 20);
    assert_eq!(arrived(), 20);
    fleet.start_again(1);
    wait_until("what the dead node kept", || arrived() == known);
    assert!(told(&sandbox).values().all(|times| *times == 1));
    sandbox.assert_no_complaints();
}

#[test]
fn nodes_of_one_machine_may_share_a_spool() {
    let other = App {
        id: "PXother1".to_owned(),
        auth_token: "another-token-for-nobody-else".to_owned(),
        ..App::default()
    };
    let sandbox = Sandbox::builder().app(other.clone()).start().unwrap();
    let (origin, dir) = (Origin::start(), Dir::new());
    let spool = format!("px_activity_spool path={} max_size=16m;", dir.path("spool").display());
    // Two nodes of one application, and one of another, whose token opens nothing of theirs.
    let mut fleet = Fleet::start(&origin, |n| {
        let mut directives = protect(&sandbox);
        if n == 2 {
            directives = directives
                .replace(&sandbox.app().id, &other.id)
                .replace(&sandbox.app().auth_token, &other.auth_token);
        }
        format!("{directives} {spool} px_batch_activities_timeout_ms 50ms;")
    });
    sandbox.behave_at(Endpoint::Activities, Behaviour::Status(503));
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    let visits = |fleet: &Fleet, begin: usize| {
        thread::scope(|scope| {
            for addr in fleet.addrs.clone() {
                let cookie = &cookie;
                scope.spawn(move || {
                    for n in begin..begin + 20 {
                        let path = format!("/{}/{n}", addr.port());
                        assert_eq!(get(addr, &path, &[cookie]).status, 200);
                    }
                });
            }
        });
        wait_until("all of them on disk", || {
            fleet.each("px_activities_spooled_total", &[]) == [(begin + 20) as f64; NODES]
        });
    };
    visits(&fleet, 0);
    visits(&fleet, 20);
    // Who dies is succeeded by whoever has the token, now or later, and by nobody twice.
    fleet.kill(0);
    fleet.kill(2);
    sandbox.behave_well();
    let total = |path: &str| {
        let told = told(&sandbox);
        assert!(told.values().all(|times| *times == 1), "{told:?}");
        told.keys().filter(|told| told.starts_with(path)).count()
    };
    let places: Vec<String> = fleet.addrs.iter().map(|addr| format!("/{}/", addr.port())).collect();
    wait_until("those of both nodes of the application", || {
        total(&places[0]) + total(&places[1]) == 80
    });
    fleet.node(1).wait_for_error_log("wait for their auth token");
    assert_eq!(total(&places[2]), 0);
    fleet.start_again(2);
    wait_until("those of the other application", || total(&places[2]) == 40);
    sandbox.assert_no_complaints();
}
