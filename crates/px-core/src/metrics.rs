//! What the status page says: a snapshot of all counters, as JSON or as Prometheus reads it.

mod json;
mod prometheus;

use std::borrow::Cow;

use crate::breaker::State;
use crate::counters;

/// How the snapshot is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    /// The text format 0.0.4.
    Prometheus,
}

impl Format {
    /// `json` or `prometheus`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "json" => Some(Self::Json),
            "prometheus" => Some(Self::Prometheus),
            _ => None,
        }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Everything at one moment. Counters are read while it is written: they may differ by what happens
/// meanwhile.
#[derive(Debug, Default)]
pub struct Snapshot<'a> {
    pub version: &'a str,
    /// As `nginx -v` prints it.
    pub nginx: &'a str,
    /// Absent where nothing is enforced, so that nothing is counted.
    pub since: Option<Since>,
    /// Application ids and their counters.
    pub apps: Vec<(Cow<'a, str>, &'a counters::App)>,
    /// Backends of the Risk API and the state of their circuit breakers.
    pub backends: Vec<(String, State)>,
    pub token_caches: Vec<TokenCache<'a>>,
    pub activities: Option<Activities>,
    pub documents: Vec<Document>,
    /// Absent where there is no traffic-analysis node.
    pub node: Option<NodeRequests<'a>>,
}

/// Requests to traffic-analysis nodes.
#[derive(Clone, Copy, Debug)]
pub struct NodeRequests<'a> {
    pub counters: &'a counters::Node,
    /// Copies under way, from workers that live.
    pub inflight: u64,
}

/// What a background task has fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// `csp`, `snippet` or `remote_config`.
    pub task: &'static str,
    /// The URL it comes from; of a remote configuration its id.
    pub source: String,
    /// When it was last known to be good, ms since the epoch; 0: never.
    pub fetched: u64,
    /// Of a remote configuration, the version in effect; 0: none.
    pub version: Option<u64>,
}

/// What the counters began with, and what they have survived.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// Ms since the epoch.
    pub started: u64,
    pub reloads: u64,
}

/// One zone of authenticated tokens.
#[derive(Clone, Copy, Debug)]
pub struct TokenCache<'a> {
    pub zone: &'a str,
    pub hits: u64,
    pub misses: u64,
    pub capacity: u64,
    /// Absent if somebody else had the table just then.
    pub entries: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Activities {
    pub offered: u64,
    /// Those from the spool included.
    pub sent: u64,
    pub lost: u64,
    pub spooled: u64,
    pub delivered_from_spool: u64,
    /// In memory of workers that live.
    pub queued: u64,
}

impl Snapshot<'_> {
    /// The whole page.
    pub fn write(&self, format: Format) -> String {
        match format {
            Format::Json => json::write(self),
            Format::Prometheus => prometheus::write(self),
        }
    }
}

/// Milliseconds as the base unit that Prometheus wants.
fn seconds(ms: u64) -> f64 {
    // Exact up to 2^53 ms.
    ms as f64 / 1000.0
}

#[cfg(test)]
mod sample {
    use super::*;
    use crate::counters::{App, End};
    use crate::crypto::Tally;
    use crate::node::{Mode, Result};
    use crate::reason::{FilterReason, PassReason};

    /// An application that has seen something of everything.
    pub(super) fn app() -> App {
        let app = App::default();
        for _ in 0..3 {
            app.request(End::Pass(PassReason::Cookie));
        }
        app.request(End::Filtered(FilterReason::Extension));
        for ms in [4, 60, 7000] {
            app.call();
            app.call_ended(ms);
        }
        app.call_not_made();
        app.tokens(Tally { derivations: 2, over_budget: 1 });
        app.first_party_failed();
        app
    }

    /// A connector that has seen something.
    pub(super) fn node() -> counters::Node {
        let node = counters::Node::default();
        node.request(Mode::Sync, Result::Pass);
        node.request(Mode::Sync, Result::Pass);
        node.request(Mode::Sync, Result::Block);
        node.request(Mode::Async, Result::Dropped);
        node.exchange_ended(3);
        node.exchange_ended(300);
        node
    }

    pub(super) fn snapshot<'a>(app: &'a App, node: &'a counters::Node) -> Snapshot<'a> {
        Snapshot {
            version: "1.2.3",
            nginx: "nginx/1.22.1",
            since: Some(Since { started: 1_750_000_000_500, reloads: 2 }),
            apps: vec![(Cow::Borrowed("PXabcd1234"), app)],
            backends: vec![
                ("https://sapi-pxabcd1234.perimeterx.net".to_owned(), State::Open),
                ("\"quoted\"\\\n".to_owned(), State::HalfOpen),
            ],
            token_caches: vec![TokenCache {
                zone: "px_token_cache",
                hits: 7,
                misses: 5,
                capacity: 5000,
                entries: Some(4),
            }],
            activities: Some(Activities {
                offered: 20,
                sent: 11,
                lost: 2,
                spooled: 6,
                delivered_from_spool: 1,
                queued: 1,
            }),
            documents: vec![Document {
                task: "remote_config",
                source: "rc-1".to_owned(),
                fetched: 1_750_000_001_000,
                version: Some(7),
            }],
            node: Some(NodeRequests { counters: node, inflight: 5 }),
        }
    }
}
