//! The operator changes the configuration, rightly or wrongly, while visitors come.

use std::fs;

use px_sandbox::Sandbox;

use crate::load::{Answer, Class, Load};
use crate::matrix::{Row, Sign};
use crate::site::{Backend, Plan, Site};
use crate::support::{BROWSER, get};

fn plan(plan: &mut Plan) {
    plan.workers = 2;
}

/// Reloads with the configuration changed, and returns when the old workers are gone.
fn reload(site: &Site, load: &Load, change: impl FnOnce(String) -> String) {
    let old = site.nginx.wait_for_workers(2);
    site.nginx.reload(change);
    load.wait_for("the end of old workers", || {
        !site.nginx.workers().iter().any(|worker| old.contains(worker))
    });
}

fn monitoring() -> Row {
    Row::new("monitoring_and_back", "configuration: reloads from blocking to monitoring, and back")
        .plan(plan)
        .connections_may_end()
        .strike(|site, load| {
            reload(site, load, |conf| {
                conf.replace("px_module_mode active_blocking", "px_module_mode monitor")
            });
        })
        .during(&[Class::BadScore, Class::Bot], &[Answer::Origin("simulated_block ")])
        .sign(Sign::Logged("$px_verdict", "simulated_block"))
        .mend(|site, load| {
            reload(site, load, |conf| {
                conf.replace("px_module_mode monitor", "px_module_mode active_blocking")
            });
        })
        .recovery("by the reload")
}

fn broken() -> Row {
    Row::new("broken_configuration", "configuration: a reload of one with mistakes")
        .plan(|site| {
            plan(site);
            site.is_lenient = true;
        })
        .strike(|site, load| {
            let file = site.nginx.dir().join("nginx.conf");
            let conf = fs::read_to_string(&file).expect("it is there");
            let workers = site.nginx.workers();
            for (line, complaint) in [
                ("px_module_mode active_blocking", "px_module_mode"),
                ("px_s2s_timeout ", "px_s2s_timeout"),
                ("px_backend_url http", "px_backend_url"),
            ] {
                let wrong = conf.replace(line, &format!("{complaint} of-no-kind; #"));
                assert_ne!(wrong, conf, "{line}");
                fs::write(&file, wrong).expect("it can be written");
                site.nginx.signal(libc::SIGHUP);
                load.wait_for(complaint, || {
                    let log = site.nginx.error_log();
                    log.lines().any(|line| line.contains("[emerg]") && line.contains(complaint))
                });
                load.go_on();
                assert_eq!(site.nginx.workers(), workers, "the old ones serve on");
            }
            fs::write(&file, conf).expect("it can be written");
        })
        .sign(Sign::Line("[emerg]"))
        .recovery("yes: the old configuration serves on")
}

const NEW_SECRET: &str = "the-next-cookie-secret";

fn secret() -> Row {
    Row::new(
        "cookie_secret_rotated",
        "configuration: the cookie secret is rotated by a reload (`px_cookie_secret new old`)",
    )
    .plan(plan)
    .connections_may_end()
    .strike(|site, load| {
        let old = site.risk_api.app().secret.clone();
        let minted = |secret: &str| {
            let mint = px_sandbox::Mint::v3(secret).user_agent(BROWSER).score(0);
            format!("Cookie: {}", mint.cookie())
        };
        let verdict_of = |cookie: &str| {
            let echo = get(site.nginx.addr(), "/page", &[cookie]).text().to_ascii_lowercase();
            echo.contains("x-verdict: pass cookie")
        };
        assert!(!verdict_of(&minted(NEW_SECRET)), "it is not known yet");
        reload(site, load, |conf| {
            conf.replace(
                &format!("px_cookie_secret {old};"),
                &format!("px_cookie_secret {NEW_SECRET} {old};"),
            )
        });
        for _ in 0..20 {
            assert!(verdict_of(&minted(NEW_SECRET)) && verdict_of(&minted(&old)));
        }
    })
    .sign(Sign::Logged("$px_pass_reason", "cookie"))
    .recovery("nothing to recover: cookies of both secrets pass from then on")
}

const NEW_TOKEN: &str = "the-next-auth-token";

fn token() -> Row {
    Row::new("auth_token_rotated", "configuration: the auth token is rotated by a reload")
        .plan(|site| {
            plan(site);
            // HUMAN takes both while they change.
            for backend in [Backend::RiskApi, Backend::Collector] {
                let sandbox = Sandbox::builder().any_app(true).start().expect("a free port");
                site.replace(backend, sandbox);
            }
        })
        .connections_may_end()
        .strike(|site, load| {
            let old = site.risk_api.app().auth_token.clone();
            reload(site, load, |conf| {
                conf.replace(
                    &format!("px_auth_token {old};"),
                    &format!("px_auth_token {NEW_TOKEN} {old};"),
                )
            });
        })
        .sign(Sign::other("calls and activities with the new token", |site| {
            let bearer = format!("Bearer {NEW_TOKEN}");
            let is_new = |received: &px_sandbox::Received| {
                received.header("authorization") == Some(&*bearer)
            };
            site.risk_api.risk_calls().iter().any(|call| is_new(call))
                && site.collector.activity_posts().iter().any(|post| is_new(post))
        }))
        .sign(Sign::nothing_lost())
}

pub(crate) fn rows() -> Vec<Row> {
    vec![monitoring(), broken(), secret(), token()]
}
