//! Memory is short: shared zones are full, and the system gives no more.

use std::fs;
use std::sync::{Arc, Mutex};

use px_sandbox::{Mint, Sandbox};
use serde_json::json;

use crate::load::{Answer, CLIENTS, Class, Load};
use crate::machine::{self, Tell};
use crate::matrix::{Row, Sign};
use crate::site::{Backend, Site};
use crate::support::{BROWSER, Connection, client, get};

/// Sizes of what the worker shares with others.
fn zones(site: &Site) -> Vec<u64> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", site.nginx.workers()[0]));
    let maps = maps.expect("it runs");
    let shared = maps.lines().filter(|line| line.contains(" rw-s "));
    let size = |line: &str| {
        let (from, to) = line.split_once(' ')?.0.split_once('-')?;
        Some(u64::from_str_radix(to, 16).ok()? - u64::from_str_radix(from, 16).ok()?)
    };
    shared.filter_map(size).collect()
}

/// Zones are as large in the end as they were before `strike`.
fn row(
    name: &'static str,
    fault: &'static str,
    strike: impl Fn(&Site, &Load) + Send + Sync + 'static,
) -> Row {
    let before = Arc::new(Mutex::new(Vec::new()));
    let then = Arc::clone(&before);
    Row::new(name, fault)
        .strike(move |site, load| {
            *before.lock().expect("not poisoned") = zones(site);
            strike(site, load);
        })
        .sign(Sign::other("zones keep their size", |_| true))
        .in_the_end(move |site| *then.lock().expect("not poisoned") == zones(site))
}

fn token_cache_full() -> Row {
    const TOKENS: usize = 500;
    row(
        "token_cache_full",
        "memory: five hundred tokens in the smallest token cache, which holds two thirds of them",
        |site, _| {
            let mut connection = Connection::open(site.nginx.addr());
            for n in 0..TOKENS {
                let score = if n % 2 == 0 { 0 } else { 100 };
                let mint = Mint::v3(site.risk_api.app().secret.as_str()).user_agent(BROWSER);
                let cookie = format!("Cookie: {}", mint.score(score).iterations(500).cookie());
                // Twice: the second time it may be known.
                for _ in 0..2 {
                    connection.send(client::text("GET", "/token", &[&cookie], b""));
                    let status = connection.receive().status;
                    assert_eq!(status, if score == 0 { 200 } else { 403 }, "{n}");
                }
            }
        },
    )
    .plan(|plan| {
        plan.server.push_str("px_token_cache zone=small:512k; location = /token { empty_gif; }");
    })
    .sign(Sign::other("`px_token_cache_entries` is `px_token_cache_capacity`", |site| {
        let entries = site.metric("px_token_cache_entries", &[]);
        entries > 0.0 && entries == site.metric("px_token_cache_capacity", &[])
    }))
}

fn counters_full() -> Row {
    // There are counters for 32 applications, and circuit breakers for 64 backends.
    const APPLICATIONS: usize = 40;
    const BACKENDS: usize = 70;
    row(
        "counters_full",
        "memory: more applications and backends than there are counters and breakers for",
        |site, _| {
            for n in 0..APPLICATIONS {
                let bot = ["x-px-sandbox: score=100 action=c"];
                let human = ["x-px-sandbox: score=0"];
                for (header, status) in [(bot, 403), (human, 200)] {
                    let answer = get(site.nginx.addr(), &format!("/site-{n}"), &header);
                    assert_eq!(answer.status, status, "{n}");
                }
            }
            for n in 0..BACKENDS {
                assert_eq!(get(site.nginx.addr(), &format!("/gone-{n}"), &[]).status, 200);
            }
        },
    )
    .plan(|plan| {
        for backend in [Backend::RiskApi, Backend::Collector] {
            let sandbox = Sandbox::builder().any_app(true).start().expect("a free port");
            plan.replace(backend, sandbox);
        }
        for n in 0..APPLICATIONS {
            plan.server
                .push_str(&format!("location = /site-{n} {{ px_app_id PXsite{n}; empty_gif; }}\n"));
        }
        for n in 0..BACKENDS {
            plan.server.push_str(&format!(
                "location = /gone-{n} {{ px_backend_url http://127.9.9.{n}:9; \
                 px_max_errors_threshold 3; empty_gif; }}\n"
            ));
        }
    })
    .sign(Sign::Grows(
        "px_requests_total",
        &[("app_id", "other"), ("verdict", "block"), ("reason", "s2s_high_score")],
    ))
    .lines(BACKENDS + 8)
}

const TOKEN: &str = "remote-config-token-for-nobody-else";

fn document_too_large() -> Row {
    let large = "x".repeat(px_core::remote_config::MAX_DOCUMENT);
    row(
        "document_too_large",
        "memory: a remote configuration there is no room for",
        move |site, load| {
            let values =
                |mode: &str| json!({"px_remote_config_enabled": true, "px_module_mode": mode});
            site.risk_api.set_remote_config("rc-1", 1, values("active_blocking"));
            load.wait_for("the first version", || version(site) == 1.0);
            let mut values = values("monitor");
            values["px_custom_logo"] = json!(large);
            site.risk_api.set_remote_config("rc-1", 2, values);
        },
    )
    .plan(|plan| {
        let sandbox = Sandbox::builder().remote_config_token(TOKEN).start().expect("a free port");
        plan.replace(Backend::RiskApi, sandbox);
        plan.server.push_str(&format!(
            "px_remote_config_id rc-1; px_remote_config_auth_token {TOKEN}; \
             px_remote_config_refresh_interval 1s;"
        ));
    })
    .sign(Sign::Line("px: the remote configuration could not be fetched"))
    .sign(Sign::Is("px_remote_config_version", 1.0))
    .mend(|site, _| {
        let values = json!({"px_remote_config_enabled": true, "px_module_mode": "active_blocking"});
        site.risk_api.set_remote_config("rc-1", 3, values);
    })
    .mended_when(|site| version(site) == 3.0)
}

fn version(site: &Site) -> f64 {
    site.metric("px_remote_config_version", &[])
}

fn nginx_refused() -> Row {
    // Nobody judged it, or nginx itself gave up: with 502 where it could not send to the origin.
    let short = [Answer::Origin(" "), Answer::Nginx(500), Answer::Nginx(502), Answer::Ended];
    Row::new(
        "nginx_memory_refused",
        "memory: one in eleven to twenty-three of nginx's own allocations fails",
    )
    .plan(|plan| {
        machine::may_fail(plan);
        // nginx says what it did not get.
        plan.is_lenient = true;
    })
    .where_the_module_is_loaded()
    .connections_may_end()
    .or(&Class::OF_HUMAN, &short)
    .or(&Class::FIRST_PARTY, &[&[Answer::Default][..], &short].concat())
    .or(&Class::ASKED_ABOUT, &[&[Answer::Origin("pass s2s_error")][..], &short].concat())
    .strike(|site, load| {
        let worker = site.nginx.workers();
        // Others fail each time.
        for every in [11, 13, 17, 19, 23] {
            let before = machine::failures(site);
            machine::tell(site, Tell::NginxMemory, every);
            load.wait_for("failures", || machine::failures(site) >= before + 100);
        }
        assert_eq!(site.nginx.workers(), worker, "the worker lives");
    })
    .mend(|site, _| machine::tell(site, Tell::NginxMemory, 0))
    .own_lines(8)
    .sign(Sign::Line("Cannot allocate memory"))
}

fn module_refused() -> Row {
    Row::new("module_memory_refused", "memory: an allocation of the module fails, three times")
        .plan(|plan| {
            machine::may_fail(plan);
            plan.is_lenient = true;
            plan.main.push_str("worker_rlimit_core 0;");
        })
        .strike(|site, load| {
            for _ in 0..3 {
                let old = site.nginx.workers();
                machine::tell(site, Tell::ModuleMemory, 1);
                load.wait_for("another worker", || {
                    let now = site.nginx.workers();
                    now.len() == 1 && now != old
                });
                load.go_on();
            }
        })
        .where_the_module_is_loaded()
        .ended_at_most(3 * CLIENTS)
        .sign(Sign::Line("exited on signal 6"))
        .recovery("yes: the worker aborts, and the master starts another one")
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        token_cache_full(),
        counters_full(),
        document_too_large(),
        nginx_refused(),
        module_refused(),
    ]
}
