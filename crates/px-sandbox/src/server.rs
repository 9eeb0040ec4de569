//! One connection after another request: reads, inspects, decides, keeps, answers.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::answer;
use crate::app::App;
use crate::behaviour::Behaviour;
use crate::browser;
use crate::check::{Checker, Findings};
use crate::clock::now_ms;
use crate::closing::Closing;
use crate::console::Console;
use crate::control;
use crate::endpoint::Endpoint;
use crate::http::{self, Request, Unreadable};
use crate::journal::Journal;
use crate::node::{self, NodeMode};
use crate::plan::Plan;
use crate::received::Received;
use crate::reply::Reply;
use crate::rules;
use crate::tls::Tls;
use crate::wire::Wire;

/// What all connections of a sandbox share. No lock in here is held while bytes travel.
pub(crate) struct Server {
    pub(crate) journal: Journal,
    pub(crate) plan: Plan,
    pub(crate) checker: Checker,
    pub(crate) console: Console,
    pub(crate) tls: Option<Tls>,
    pub(crate) checks: bool,
    pub(crate) gives_pxhd: bool,
    /// The sandbox is a traffic-analysis node and nothing else.
    pub(crate) node: Option<NodeMode>,
    pub(crate) body_max: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) accepted: AtomicU64,
    pub(crate) requests: AtomicU64,
}

/// What is known of the connection a request came by.
struct Link {
    connection: u64,
    server_name: Option<String>,
    tls_version: Option<String>,
}

/// An answer, ready to be given.
struct Turn {
    reply: Reply,
    behaviour: Behaviour,
    is_head: bool,
    keep_alive: bool,
}

impl Server {
    /// Serves a connection until either side ends it.
    pub(crate) fn serve(&self, mut wire: Wire, connection: u64, closing: &Closing) {
        wire.set_read_timeout(Some(self.idle_timeout));
        let link = Link {
            connection,
            server_name: wire.server_name().map(str::to_owned),
            tls_version: wire.tls_version().map(str::to_owned),
        };
        let mut carry = Vec::new();
        let mut count = 0;
        loop {
            let request = match http::read_request(&mut wire, &mut carry, self.body_max) {
                Ok(request) => request,
                Err(why) => return self.hang_up(&mut wire, connection, why, closing),
            };
            count += 1;
            let turn = self.take(request, &link, count);
            let Turn { reply, behaviour, is_head, keep_alive } = turn;
            match answer::give(&mut wire, reply, &behaviour, is_head, keep_alive, closing) {
                Ok(true) => {}
                // The peer may leave before it was answered: that is its right.
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// Forgets what was received, not what was told.
    pub(crate) fn clear(&self) {
        self.journal.clear();
        self.checker.forget();
    }

    pub(crate) fn connections(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    fn hang_up(&self, wire: &mut Wire, connection: u64, why: Unreadable, closing: &Closing) {
        match why {
            Unreadable::Gone => wire.finish(),
            Unreadable::Broken(_) if closing.is_closed() => {}
            Unreadable::Broken(why) => {
                self.journal.complain(format!("connection #{connection}: {why}"));
            }
            Unreadable::Refused(status, why) => {
                self.journal.complain(format!("connection #{connection}: {why}"));
                let reply = Reply::json(json!({ "message": why })).status(status);
                let _ = answer::give(wire, reply, &Behaviour::Normal, false, false, closing);
            }
        }
    }

    fn take(&self, request: Request, link: &Link, on_connection: u64) -> Turn {
        let keep_alive = wants_keep_alive(&request);
        let is_head = request.method == "HEAD";
        let mut received = self.receive(request, link, on_connection);
        if received.endpoint == Endpoint::Control {
            let reply = control::answer(self, &received);
            return Turn { reply, behaviour: Behaviour::Normal, is_head, keep_alive };
        }
        let mut findings = match self.checks {
            true => self.checker.inspect(&received),
            false => Findings { body: self.known_body(&received), ..Findings::default() },
        };
        let (mut reply, mut behaviour) = self.own_answer(&received, &mut findings);
        let orders = self.plan.take(&received);
        if orders.reply.is_some() || orders.behaviour.is_some() {
            // An order stands above the rules, also above what they say of the wire.
            behaviour = orders.behaviour.unwrap_or_default();
        }
        reply = orders.reply.unwrap_or(reply);

        received.accepted =
            behaviour.delivers() && (behaviour.replaces_reply() || reply.status == 200);
        let body = findings.body.unwrap_or_default();
        // After a slow answer that it did not wait for, an enforcer rightly sends activities again.
        let may_come_again = received.endpoint == Endpoint::Activities && behaviour.is_slow();
        if received.accepted && self.checks && !may_come_again {
            findings.complaints.extend(self.checker.compare(&received, &body));
            if received.endpoint == Endpoint::RiskApi && !behaviour.replaces_reply() {
                self.checker.answered(&body, &reply.body);
            }
        }
        let activities = match (received.endpoint, received.accepted, &body) {
            (Endpoint::Activities, true, Value::Array(list)) => list.len() as u64,
            (Endpoint::Activities, true, Value::Object(_)) => 1,
            _ => 0,
        };
        received.complaints = findings.complaints;
        self.journal.record(received, activities);
        Turn { reply, behaviour, is_head, keep_alive }
    }

    fn receive(&self, request: Request, link: &Link, on_connection: u64) -> Received {
        let mut received = Received {
            number: 0,
            connection: link.connection,
            on_connection,
            at_ms: now_ms(),
            endpoint: Endpoint::Other,
            method: request.method,
            target: request.target,
            minor_version: request.minor_version,
            headers: request.headers,
            head: request.head,
            body: request.body,
            server_name: link.server_name.clone(),
            tls_version: link.tls_version.clone(),
            accepted: false,
            complaints: Vec::new(),
        };
        received.endpoint = match self.node {
            // Whatever its path, which is the visitor's.
            Some(_) if node::is_mirrored(&received) => Endpoint::Node,
            Some(_) => Endpoint::of(received.path(), false).of_node(),
            None => Endpoint::of(received.path(), received.is_first_party()),
        };
        if received.endpoint != Endpoint::Control {
            received.number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        }
        received
    }

    fn known_body(&self, received: &Received) -> Option<Value> {
        let is_json = matches!(received.endpoint, Endpoint::RiskApi | Endpoint::Activities);
        is_json.then(|| received.json())
    }

    /// The answer nobody had to order.
    fn own_answer(&self, received: &Received, findings: &mut Findings) -> (Reply, Behaviour) {
        if let Some(status) = findings.refusal {
            let message = match status {
                401 => "unauthorized",
                405 => "wrong method",
                _ => "the body cannot be read",
            };
            let refusal = json!({ "status": -1, "message": message });
            return (Reply::json(refusal).status(status), Behaviour::Normal);
        }
        let reply = match received.endpoint {
            Endpoint::RiskApi => {
                let body = findings.body.as_ref().unwrap_or(&Value::Null);
                let judgement = rules::judge(body, self.gives_pxhd);
                findings.complaints.extend(judgement.complaint);
                return (judgement.reply, judgement.behaviour);
            }
            Endpoint::Activities | Endpoint::Telemetry | Endpoint::EnforcerLogs => {
                Reply::json(json!({}))
            }
            Endpoint::CspPolicy | Endpoint::RemoteConfig | Endpoint::Snippet => {
                self.console.answer(received)
            }
            Endpoint::Node => {
                if self.checks {
                    findings.complaints.extend(node::complaints(received));
                }
                node::answer(received, self.node.unwrap_or_default())
            }
            Endpoint::Health => Reply::json(json!({ "status": "ok" })),
            Endpoint::Other | Endpoint::Control => {
                Reply::json(json!({ "message": "the sandbox has nothing here" })).status(404)
            }
            _ => browser::answer(received, &self.checker.apps),
        };
        (reply, Behaviour::Normal)
    }

    pub(crate) fn apps(&self) -> &[App] {
        &self.checker.apps
    }
}

fn wants_keep_alive(request: &Request) -> bool {
    let says = |token: &str| {
        request
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("connection"))
            .flat_map(|(_, value)| value.split(','))
            .any(|said| said.trim().eq_ignore_ascii_case(token))
    };
    if request.minor_version == 0 { says("keep-alive") } else { !says("close") }
}

/// Reads and throws away until the peer leaves.
pub(crate) fn ignore(socket: &Arc<std::net::TcpStream>) {
    let mut sink = [0u8; 4096];
    while matches!((&**socket).read(&mut sink), Ok(count) if count > 0) {}
}
