//! Everything the sandbox received, in order and within bounds, and a place to wait for more.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::received::Received;

/// Called with each complaint as it arises.
pub(crate) type OnComplaint = Box<dyn Fn(&str) + Send + Sync>;
/// Called with each request once it is kept.
pub(crate) type OnReceived = Box<dyn Fn(&Received) + Send + Sync>;

pub(crate) struct Journal {
    state: Mutex<State>,
    grown: Condvar,
    keep_requests: usize,
    keep_bytes: usize,
    on_complaint: Option<OnComplaint>,
    on_received: Option<OnReceived>,
}

#[derive(Default)]
struct State {
    received: VecDeque<Arc<Received>>,
    bytes: usize,
    /// Requests of each endpoint since the last clearing, kept or not.
    totals: [u64; Endpoint::ALL.len()],
    /// Bytes of them, heads and bodies.
    total_bytes: [u64; Endpoint::ALL.len()],
    /// Activities that were accepted since the last clearing, kept or not.
    activities: u64,
    complaints: VecDeque<String>,
    handshake_failures: VecDeque<String>,
}

impl Journal {
    pub(crate) fn new(
        keep_requests: usize,
        keep_bytes: usize,
        on_complaint: Option<OnComplaint>,
        on_received: Option<OnReceived>,
    ) -> Self {
        let state = Mutex::new(State::default());
        let grown = Condvar::new();
        Self { state, grown, keep_requests, keep_bytes, on_complaint, on_received }
    }

    pub(crate) fn record(&self, received: Received, activities: u64) {
        let received = Arc::new(received);
        for complaint in &received.complaints {
            self.complain(format!(
                "{} #{}: {complaint}",
                received.endpoint.word(),
                received.number
            ));
        }
        if let Some(tell) = &self.on_received {
            tell(&received);
        }
        let mut state = self.lock();
        state.totals[received.endpoint as usize] += 1;
        state.total_bytes[received.endpoint as usize] += received.length() as u64;
        state.activities += activities;
        state.bytes += received.weight();
        state.received.push_back(received);
        while state.received.len() > self.keep_requests || state.bytes > self.keep_bytes {
            let Some(oldest) = state.received.pop_front() else { break };
            state.bytes -= oldest.weight();
        }
        drop(state);
        self.grown.notify_all();
    }

    pub(crate) fn complain(&self, complaint: String) {
        if let Some(tell) = &self.on_complaint {
            tell(&complaint);
        }
        let mut state = self.lock();
        state.complaints.push_back(complaint);
        if state.complaints.len() > self.keep_requests {
            state.complaints.pop_front();
        }
    }

    pub(crate) fn handshake_failed(&self, why: String) {
        let mut state = self.lock();
        state.handshake_failures.push_back(why);
        if state.handshake_failures.len() > self.keep_requests {
            state.handshake_failures.pop_front();
        }
        drop(state);
        self.grown.notify_all();
    }

    pub(crate) fn received(&self) -> Vec<Arc<Received>> {
        self.lock().received.iter().cloned().collect()
    }

    pub(crate) fn received_at(&self, endpoint: Endpoint) -> Vec<Arc<Received>> {
        let state = self.lock();
        state.received.iter().filter(|received| received.endpoint == endpoint).cloned().collect()
    }

    /// Every activity of every accepted post, in order of arrival.
    pub(crate) fn activities(&self) -> Vec<Value> {
        self.elements_at(Endpoint::Activities)
    }

    /// Every log record of every accepted post, in order of arrival.
    pub(crate) fn log_records(&self) -> Vec<Value> {
        self.elements_at(Endpoint::EnforcerLogs)
    }

    fn elements_at(&self, endpoint: Endpoint) -> Vec<Value> {
        let posts = self.received_at(endpoint);
        posts.iter().filter(|post| post.accepted).flat_map(|post| post.elements()).collect()
    }

    pub(crate) fn total(&self, endpoint: Endpoint) -> u64 {
        self.lock().totals[endpoint as usize]
    }

    /// Bytes of all requests to the endpoint since the last clearing, kept or not.
    pub(crate) fn total_bytes(&self, endpoint: Endpoint) -> u64 {
        self.lock().total_bytes[endpoint as usize]
    }

    /// Activities that were accepted since the last clearing, kept or not.
    pub(crate) fn accepted_activities(&self) -> u64 {
        self.lock().activities
    }

    pub(crate) fn complaints(&self) -> Vec<String> {
        self.lock().complaints.iter().cloned().collect()
    }

    pub(crate) fn handshake_failures(&self) -> Vec<String> {
        self.lock().handshake_failures.iter().cloned().collect()
    }

    /// Blocks until that many requests of the endpoint came since the last clearing, at most so
    /// long.
    pub(crate) fn wait_for_requests(&self, endpoint: Endpoint, count: usize, limit: Duration) {
        self.wait(limit, |state| state.totals[endpoint as usize] >= count as u64);
    }

    /// Blocks until that many activities were accepted since the last clearing, at most so long.
    pub(crate) fn wait_for_activities(&self, count: usize, limit: Duration) {
        self.wait(limit, |state| state.activities >= count as u64);
    }

    /// Blocks until that many TLS handshakes failed, at most so long.
    pub(crate) fn wait_for_handshake_failures(&self, count: usize, limit: Duration) {
        self.wait(limit, |state| state.handshake_failures.len() >= count);
    }

    pub(crate) fn clear(&self) {
        *self.lock() = State::default();
    }

    fn wait(&self, limit: Duration, is_enough: impl Fn(&State) -> bool) {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        while !is_enough(&state) {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return };
            (state, _) =
                self.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
