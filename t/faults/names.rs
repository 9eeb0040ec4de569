//! DNS fails, or says something new.

use std::process::Command;

use px_sandbox::NodeMode;

use crate::dns::Record;
use crate::first_party;
use crate::load::{Answer, Class};
use crate::matrix::{Row, Sign};
use crate::node;
use crate::risk_api;
use crate::site::{Backend, Plan, Site, server};
use crate::support::nginx;
use crate::wire;

const OF_HUMAN: [Backend; 3] = [Backend::RiskApi, Backend::Collector, Backend::Scripts];

fn host(backend: Backend) -> &'static str {
    match backend {
        Backend::RiskApi => "risk.human.test",
        Backend::Collector => "collector.human.test",
        Backend::Scripts => "scripts.human.test",
        Backend::Node => "node.test",
    }
}

fn is_known_by_name(plan: &mut Plan, backend: Backend) {
    plan.names();
    plan.rename(backend, host(backend));
}

/// DNS says where the backend is.
fn knows(site: &Site, backend: Backend) {
    site.dns().set(host(backend), Record::of(site.backend(backend)));
}

/// The backend's address is another one, at the same port.
fn has_a_double_elsewhere(plan: &mut Plan, backend: Backend) {
    let builder = match backend {
        Backend::Node => server().node(NodeMode::Blocking),
        _ => server(),
    };
    let double = builder.port(plan.backend(backend).port()).start();
    plan.double = Some(double.expect("a free port"));
}

/// `nginx -t`, of the configuration that runs.
fn is_accepted(site: &Site) -> bool {
    let mut test = Command::new(nginx::binary());
    test.arg("-t").arg("-q").arg("-p").arg(site.nginx.dir()).args(["-c", "nginx.conf"]);
    let output = test.envs(site.dns().env()).output().expect("nginx can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

fn accepted() -> Sign {
    Sign::other("`nginx -t` accepts the configuration, and nginx starts", is_accepted)
}

/// What is seen while this backend is not there.
fn fails(row: Row, backend: Backend) -> Row {
    match backend {
        Backend::RiskApi => risk_api::fails(row, "unknown_error"),
        Backend::Collector => crate::collector::loses(row),
        Backend::Scripts => first_party::gets(row, Answer::Default),
        Backend::Node => node::decides_nothing(row, "error"),
    }
}

/// It restarts while its name is not to be had.
fn restarts(backend: Backend, record: Option<Record>) -> Row {
    let (word, words) = wire::name(backend);
    let (of_record, words_of_record) = match record {
        None => ("gone", "DNS does not know its name any more"),
        Some(Record::Broken) => ("broken", "DNS fails (SERVFAIL)"),
        _ => ("silent", "DNS does not answer"),
    };
    let row = Row::new(
        format!("{word}_restarts_while_dns_is_{of_record}"),
        format!("{words} restarts, and {words_of_record}"),
    );
    fails(row, backend)
        .plan(move |plan| is_known_by_name(plan, backend))
        .strike(move |site, load| {
            match record {
                Some(record) => site.dns().set(host(backend), record),
                None => site.dns().remove(host(backend)),
            }
            let asked = site.dns().asked();
            site.backend(backend).go_down();
            load.wait_for("the name to be asked for again", || site.dns().asked() > asked);
        })
        .mend(move |site, _| {
            site.backend(backend).come_back().expect("the port is free");
            // Reports go by connections of another making, which ask for the name each time.
            if backend == Backend::Collector {
                knows(site, backend);
            }
        })
        .recovery(match backend {
            Backend::Collector => "yes, when DNS is back",
            _ => "yes, with the address known before",
        })
}

/// It moves, and DNS says so later.
fn moves(backend: Backend) -> Row {
    let (word, words) = wire::name(backend);
    let row = Row::new(format!("{word}_moves"), format!("{words} moves to another address"));
    fails(row, backend)
        .plan(move |plan| {
            is_known_by_name(plan, backend);
            has_a_double_elsewhere(plan, backend);
        })
        .strike(move |site, _| site.backend(backend).go_down())
        .mend(move |site, _| site.dns().set(host(backend), Record::of(site.double())))
        .recovery("yes, when DNS has the new address")
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = vec![];
    let unknown =
        Row::new("names_unknown_at_start", "No name of HUMAN's resolves when nginx starts");
    let unknown = unknown.plan(|plan| {
        for backend in OF_HUMAN {
            is_known_by_name(plan, backend);
            plan.names().remove(host(backend));
        }
    });
    rows.push(
        first_party::is_seen(risk_api::fails(unknown, "unknown_error"))
            .at_start()
            .during(&Class::FIRST_PARTY, &[Answer::Default])
            .sign(accepted())
            .sign(Sign::Line("the host of the Risk API could not be resolved"))
            .sign(Sign::Line("px: activities could not be delivered"))
            .sign(Sign::Grows("px_activities_lost_total", &[]))
            .mend(|site, _| {
                for backend in OF_HUMAN {
                    knows(site, backend);
                }
            }),
    );
    let unknown = Row::new(
        "node_name_unknown_at_start",
        "Node's name does not resolve when nginx starts (with `resolver`)",
    );
    rows.push(
        node::decides_nothing(unknown, "error")
            .at_start()
            .plan(|plan| {
                is_known_by_name(plan, Backend::Node);
                plan.names().remove(host(Backend::Node));
                let resolver = plan.names().addr();
                plan.server.push_str(&format!("resolver {resolver};\n"));
            })
            .sign(accepted())
            .sign(Sign::Line("px: wallarm node: resolve failed"))
            .mend(|site, _| knows(site, Backend::Node)),
    );
    for backend in [Backend::RiskApi, Backend::Collector, Backend::Scripts, Backend::Node] {
        rows.push(restarts(backend, None));
    }
    rows.push(restarts(Backend::RiskApi, Some(Record::Broken)));
    rows.push(restarts(Backend::RiskApi, Some(Record::Silence)));
    for backend in [Backend::RiskApi, Backend::Collector, Backend::Scripts, Backend::Node] {
        rows.push(moves(backend));
    }
    let moved = Row::new(
        "chosen_risk_api_moves",
        "Risk API of `px_risk_backend` moves to another address (with `resolver`)",
    );
    rows.push(
        risk_api::fails(moved, "unknown_error")
            .plan(|plan| {
                is_known_by_name(plan, Backend::RiskApi);
                let resolver = plan.names().addr();
                has_a_double_elsewhere(plan, Backend::RiskApi);
                // The default is never asked: nobody is there.
                let port = plan.risk_api.port();
                plan.risk_api_url = format!("http://{}", nginx::free_addr());
                plan.server.push_str(&format!(
                    "resolver {resolver} ipv6=off; resolver_timeout 1s;\n\
                     px_risk_backend http://{}:{port};\n",
                    host(Backend::RiskApi)
                ));
            })
            .strike(|site, _| site.backend(Backend::RiskApi).go_down())
            .mend(|site, _| site.dns().set(host(Backend::RiskApi), Record::of(site.double())))
            .recovery("yes, when DNS has the new address"),
    );
    rows
}
