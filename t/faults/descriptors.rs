//! Workers run out of file descriptors and of connections.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use px_sandbox::{Behaviour, Endpoint};

use crate::load::{Answer, Class, Load};
use crate::matrix::{Row, Sign};
use crate::site::{Plan, Site};
use crate::spool;
use crate::support::{BROWSER, Connection, Response, client};

/// Visitors who begin a request and do not go on, more of them than a worker has room for. Each gives up
/// after a while, so that others get their turn.
#[derive(Default)]
struct Hogs(AtomicBool);

impl Hogs {
    const AT_ONCE: usize = 200;

    /// They come until they are told to go.
    fn come(self: &Arc<Self>, addr: SocketAddr) {
        let hogs = Arc::clone(self);
        thread::spawn(move || {
            let mut all = VecDeque::new();
            while !hogs.0.load(Ordering::Relaxed) {
                if let Ok(mut hog) = Connection::try_open(addr)
                    && hog.try_send(BEGUN).is_ok()
                {
                    all.push_back(hog);
                }
                if all.len() > Self::AT_ONCE {
                    all.pop_front();
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
    }

    fn go(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn plan(plan: &mut Plan) {
    // The worker says what it lacks.
    plan.is_lenient = true;
    // An answer that takes no descriptor: whoever has a connection can be answered.
    plan.server.push_str("location /gif { empty_gif; }");
}

/// The beginning of a request: nginx cannot close its connection as idle.
const BEGUN: &str = "GET /gif HTTP/1.1\r\nHost: site.test\r\n";

/// A visitor who is there before all is taken, and goes on afterwards.
struct Early(Connection);

impl Early {
    fn new(site: &Site) -> Self {
        let mut connection = Connection::open(site.nginx.addr());
        // Known to be accepted.
        connection.send(client::text("GET", "/status", &[], b""));
        assert_eq!(connection.receive().status, 200);
        connection.send(BEGUN);
        Self(connection)
    }

    fn go_on(mut self, header: &str) -> Response {
        self.0.send(format!("{header}\r\nConnection: close\r\n\r\n"));
        self.0.receive()
    }
}

fn exhaust(site: &Site, load: &Load, hogs: &Arc<Hogs>, limit: [&str; 2], sign: &'static str) {
    let [before, now] = limit;
    let old = site.nginx.workers();
    site.nginx.reload(|conf| conf.replace(before, now));
    load.wait_for("the end of old workers", || {
        !site.nginx.workers().iter().any(|worker| old.contains(worker))
    });
    // Each call needs a connection of its own.
    site.risk_api.behave(Behaviour::KeepAliveOff);
    let mut visitors: Vec<Early> = (0..9).map(|_| Early::new(site)).collect();
    hogs.come(site.nginx.addr());
    load.wait_for(sign, || site.nginx.error_log().contains(sign));
    let cookie = |score: u32| {
        let cookie = site.risk_api.mint(BROWSER).score(score).cookie();
        format!("User-Agent: {BROWSER}\r\nCookie: {cookie}")
    };
    let (good, bad) = (cookie(0), cookie(100));
    let by_header = [(&*good, &[200][..]), (&*bad, &[403]), (BOT, &[200, 403])];
    for (header, right) in by_header {
        for visitor in visitors.drain(..3) {
            let answer = visitor.go_on(header);
            assert!(right.contains(&answer.status), "{header}: {answer:?}");
            let is_gif = answer.header("content-type") == Some("image/gif");
            assert_eq!(is_gif, answer.status == 200);
        }
    }
}

/// About whom somebody has to be asked, if that can be done.
const BOT: &str = "User-Agent: PhantomJS/1.0";

/// nginx needs connections too, to the origin and to HUMAN's scripts.
fn row(
    name: &'static str,
    fault: &'static str,
    limit: [&'static str; 2],
    sign: &'static str,
) -> Row {
    let hogs = Arc::new(Hogs::default());
    let coming = Arc::clone(&hogs);
    let error = Answer::Origin("pass s2s_error");
    let nginx = [Answer::Nginx(500), Answer::Ended];
    Row::new(name, fault)
        .plan(plan)
        .connections_may_end()
        .or(&Class::OF_HUMAN, &nginx)
        .or(&Class::FIRST_PARTY, &[&[Answer::Default][..], &nginx].concat())
        .or(&Class::ASKED_ABOUT, &[&[error][..], &nginx].concat())
        .strike(move |site, load| exhaust(site, load, &coming, limit, sign))
        .sign(Sign::Line(sign))
        .sign(Sign::Line("px: Risk API call failed, the visitor passes"))
        .mend(move |site, _| {
            hogs.go();
            site.risk_api.behave_well();
            spool::come_back(site);
        })
        .own_lines(8)
}

const FEW: [&str; 2] = ["worker_processes 1;", "worker_processes 1; worker_rlimit_nofile 60;"];
const NONE_LEFT: &str = "accept4() failed (24: Too many open files)";

/// Neither can reports be delivered, nor always be written or read.
fn with_spool() -> Row {
    let fault =
        "descriptors: a worker has none left, with `px_activity_spool`, and the collector is down";
    row("descriptors_exhausted_with_spool", fault, FEW, NONE_LEFT)
        .plan(|plan| {
            spool::keeps(plan);
            plan.collector.behave_at(Endpoint::Activities, Behaviour::Status(503));
        })
        .sign(Sign::Line("px: activities cannot be delivered"))
        .sign(Sign::Is("px_activities_lost_total", 0.0))
        .recovery(spool::FROM_MEMORY)
        .in_the_end(spool::all_arrived)
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row(
            "descriptors_exhausted",
            "descriptors: a worker has none left (`worker_rlimit_nofile`)",
            FEW,
            NONE_LEFT,
        ),
        with_spool(),
        row(
            "connections_exhausted",
            "connections: a worker has none left (`worker_connections`)",
            ["worker_connections 1024;", "worker_connections 60;"],
            "worker_connections are not enough",
        ),
    ]
}
