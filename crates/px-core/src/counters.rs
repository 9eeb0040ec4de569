//! What is counted of one application's requests, and how long the Risk API took.
//!
//! All atomic and zero at first, so that it can lie in memory shared by workers. Nothing orders one
//! counter with another: a reader may see a call that has ended before the request it was made for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::crypto::Tally;
use crate::enforce::Step;
use crate::node;
use crate::reason::{BlockReason, FilterReason, PassReason, S2sErrorReason};
use crate::verdict::{Action, Verdict};

/// How the module was done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Pass(PassReason),
    Block(BlockReason),
    SimulatedBlock(BlockReason),
    Filtered(FilterReason),
    Preflight,
    FirstParty,
    /// HUMAN says that there is a new remote configuration.
    Notification,
    /// The module was not active for it.
    Inactive,
}

const BLOCKS: usize = PassReason::ALL.len();
const SIMULATED_BLOCKS: usize = BLOCKS + BlockReason::ALL.len();
const FILTERED: usize = SIMULATED_BLOCKS + BlockReason::ALL.len();
const OTHERS: usize = FILTERED + FilterReason::ALL.len();
const ENDS: usize = OTHERS + 4;

impl End {
    /// How the first look ends a request; `None` where there is a verdict, or will be one.
    pub fn at_first_look(step: &Step<'_>) -> Option<Self> {
        match step {
            Step::Inactive => Some(Self::Inactive),
            Step::Filtered(reason) => Some(Self::Filtered(*reason)),
            Step::FirstParty(_) => Some(Self::FirstParty),
            Step::Notification(_) => Some(Self::Notification),
            Step::Preflight | Step::PreflightHandler => Some(Self::Preflight),
            Step::AskRisk(_) | Step::Decided(_) => None,
        }
    }

    /// How a verdict ends its request; `None` for a verdict without a reason, which there is not.
    pub fn of(verdict: &Verdict<'_>) -> Option<Self> {
        match verdict.action {
            Action::Pass => verdict.pass_reason.map(Self::Pass),
            Action::SimulatedBlock => verdict.block_reason.map(Self::SimulatedBlock),
            Action::Block => verdict.block_reason.map(Self::Block),
        }
    }

    /// Every end there is, those of one verdict together.
    pub fn all() -> impl Iterator<Item = Self> {
        let pass = PassReason::ALL.iter().copied().map(Self::Pass);
        let block = BlockReason::ALL.iter().copied().map(Self::Block);
        let simulated = BlockReason::ALL.iter().copied().map(Self::SimulatedBlock);
        let filtered = FilterReason::ALL.iter().copied().map(Self::Filtered);
        let others = [Self::Preflight, Self::FirstParty, Self::Notification, Self::Inactive];
        pass.chain(block).chain(simulated).chain(filtered).chain(others)
    }

    /// The word for what was done, as `$px_verdict` says it where it says anything.
    pub const fn verdict(self) -> &'static str {
        match self {
            Self::Pass(_) => Action::Pass.as_str(),
            Self::Block(_) => Action::Block.as_str(),
            Self::SimulatedBlock(_) => Action::SimulatedBlock.as_str(),
            Self::Filtered(_) => "filtered",
            Self::Preflight => "preflight",
            Self::FirstParty => "first_party",
            Self::Notification => "notification",
            Self::Inactive => "inactive",
        }
    }

    /// The word for why; empty where there is only one reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Pass(reason) => reason.as_str(),
            Self::Block(reason) | Self::SimulatedBlock(reason) => reason.as_str(),
            Self::Filtered(reason) => reason.as_str(),
            Self::Preflight | Self::FirstParty | Self::Notification | Self::Inactive => "",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Pass(reason) => reason as usize,
            Self::Block(reason) => BLOCKS + reason as usize,
            Self::SimulatedBlock(reason) => SIMULATED_BLOCKS + reason as usize,
            Self::Filtered(reason) => FILTERED + reason as usize,
            Self::Preflight => OTHERS,
            Self::FirstParty => OTHERS + 1,
            Self::Notification => OTHERS + 2,
            Self::Inactive => OTHERS + 3,
        }
    }
}

/// The counters of one application.
#[derive(Debug, Default)]
#[repr(C)]
pub struct App {
    requests: Counters<ENDS>,
    /// Calls of the Risk API that were begun, or could not be.
    calls: AtomicU64,
    /// Calls that were not made because the circuit breaker was open.
    not_made: AtomicU64,
    timeouts: AtomicU64,
    errors: Counters<{ S2sErrorReason::ALL.len() }>,
    /// Of the calls that were begun and have ended, in whatever way.
    durations: Histogram,
    derivations: AtomicU64,
    over_budget: AtomicU64,
    first_party_errors: AtomicU64,
}

impl App {
    /// A request is done with.
    pub fn request(&self, end: End) {
        self.requests.add(end.index());
    }

    /// The Risk API is about to be called.
    pub fn call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    /// The Risk API is not called: the circuit breaker is open.
    pub fn call_not_made(&self) {
        self.not_made.fetch_add(1, Relaxed);
    }

    /// HUMAN did not answer a first-party request, or not to the end.
    pub fn first_party_failed(&self) {
        self.first_party_errors.fetch_add(1, Relaxed);
    }

    /// A call ended after so many milliseconds.
    pub fn call_ended(&self, ms: u64) {
        self.durations.observe(ms);
    }

    /// A call led to no decision, as `verdict` says.
    pub fn call_failed(&self, verdict: &Verdict<'_>) {
        match &verdict.s2s_error {
            Some(error) => self.errors.add(error.reason as usize),
            None => {
                self.timeouts.fetch_add(1, Relaxed);
            }
        }
    }

    /// What a request's tokens cost. Most cost nothing.
    pub fn tokens(&self, tally: Tally) {
        if tally.derivations != 0 {
            self.derivations.fetch_add(tally.derivations.into(), Relaxed);
        }
        if tally.over_budget != 0 {
            self.over_budget.fetch_add(tally.over_budget.into(), Relaxed);
        }
    }

    pub fn requests(&self, end: End) -> u64 {
        self.requests.get(end.index())
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    pub fn calls_not_made(&self) -> u64 {
        self.not_made.load(Relaxed)
    }

    pub fn timeouts(&self) -> u64 {
        self.timeouts.load(Relaxed)
    }

    pub fn errors(&self, reason: S2sErrorReason) -> u64 {
        self.errors.get(reason as usize)
    }

    pub fn durations(&self) -> &Histogram {
        &self.durations
    }

    pub fn derivations(&self) -> u64 {
        self.derivations.load(Relaxed)
    }

    pub fn over_budget(&self) -> u64 {
        self.over_budget.load(Relaxed)
    }

    pub fn first_party_errors(&self) -> u64 {
        self.first_party_errors.load(Relaxed)
    }
}

/// The counters of requests to traffic-analysis nodes.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Node {
    results: [Counters<{ node::Result::ALL.len() }>; node::Mode::ALL.len()],
    /// Of the exchanges that were begun and have ended, in whatever way.
    durations: Histogram,
}

impl Node {
    /// The connector is done with a request.
    pub fn request(&self, mode: node::Mode, result: node::Result) {
        if let Some(results) = self.results.get(mode as usize) {
            results.add(result as usize);
        }
    }

    /// An exchange ended after so many milliseconds.
    pub fn exchange_ended(&self, ms: u64) {
        self.durations.observe(ms);
    }

    pub fn requests(&self, mode: node::Mode, result: node::Result) -> u64 {
        self.results.get(mode as usize).map_or(0, |results| results.get(result as usize))
    }

    pub fn durations(&self) -> &Histogram {
        &self.durations
    }
}

/// Counters in a row.
#[derive(Debug)]
#[repr(transparent)]
struct Counters<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

impl<const N: usize> Counters<N> {
    fn add(&self, index: usize) {
        if let Some(counter) = self.0.get(index) {
            counter.fetch_add(1, Relaxed);
        }
    }

    fn get(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |counter| counter.load(Relaxed))
    }
}

/// Upper bounds of the buckets, milliseconds; one more bucket has none.
pub const BOUNDS_MS: [u64; 10] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000];

/// How often something took how long.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Histogram {
    buckets: Counters<{ BOUNDS_MS.len() + 1 }>,
    sum_ms: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, ms: u64) {
        let bucket = BOUNDS_MS.iter().position(|bound| ms <= *bound);
        self.buckets.add(bucket.unwrap_or(BOUNDS_MS.len()));
        self.sum_ms.fetch_add(ms, Relaxed);
    }

    /// How often it took at most the bound of each bucket; of the last, how often in all.
    pub fn cumulative(&self) -> [u64; BOUNDS_MS.len() + 1] {
        let mut so_far = 0;
        std::array::from_fn(|at| {
            so_far += self.buckets.get(at);
            so_far
        })
    }

    pub fn sum_ms(&self) -> u64 {
        self.sum_ms.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enforce::{self, Outcome};
    use crate::request::Request;
    use crate::sample::{self, GOOD_COOKIE, HIGH_COOKIE, NOW, USER_AGENT, headers, policy};

    #[test]
    fn every_end_has_a_counter_of_its_own() {
        let app = App::default();
        let ends: Vec<End> = End::all().collect();
        assert_eq!(ends.len(), ENDS);
        for (at, end) in ends.iter().enumerate() {
            assert_eq!(end.index(), at, "{end:?}");
            for _ in 0..=at {
                app.request(*end);
            }
        }
        for (at, end) in ends.iter().enumerate() {
            assert_eq!(app.requests(*end), at as u64 + 1, "{end:?}");
        }
        let words: std::collections::BTreeSet<_> =
            ends.iter().map(|end| (end.verdict(), end.reason())).collect();
        assert_eq!(words.len(), ENDS);
    }

    #[test]
    fn a_verdict_is_counted_under_its_words() {
        for (cookie, blocks, expected) in [
            (GOOD_COOKIE, true, ("pass", "cookie")),
            (HIGH_COOKIE, true, ("block", "cookie_high_score")),
            (HIGH_COOKIE, false, ("simulated_block", "cookie_high_score")),
        ] {
            let policy = policy(|options| {
                if !blocks {
                    options.module_mode = crate::reason::ModuleMode::Monitor;
                }
            });
            let headers = headers(&[("user-agent", USER_AGENT), ("cookie", cookie)]);
            let Step::Decided(verdict) = sample::begin(&sample::request(&headers), &policy) else {
                panic!("not decided")
            };
            let end = End::of(&verdict).expect("a reason");
            assert_eq!(End::at_first_look(&Step::Decided(verdict)), None);
            assert_eq!((end.verdict(), end.reason()), expected);
        }
    }

    #[test]
    fn what_needs_no_verdict_ends_at_the_first_look() {
        let policy = policy(|_| ());
        let request = Request { target: b"/a.css", ..sample::request(&[]) };
        let filtered = End::Filtered(FilterReason::Extension);
        assert_eq!(End::at_first_look(&sample::begin(&request, &policy)), Some(filtered));
        for (step, end) in [(Step::Inactive, End::Inactive), (Step::Preflight, End::Preflight)] {
            assert_eq!(End::at_first_look(&step), Some(end));
        }
        let asks = sample::begin(&sample::request(&[]), &policy);
        assert_eq!(End::at_first_look(&asks), None);
    }

    #[test]
    fn failures_are_errors_with_a_reason_or_timeouts() {
        let (app, policy) = (App::default(), policy(|_| ()));
        let request = sample::request(&[]);
        for outcome in [
            Outcome::Timeout,
            Outcome::Answer { status: 503, body: b"" },
            Outcome::Answer { status: 500, body: b"" },
            Outcome::Unreachable { cause: "no" },
        ] {
            let pending = sample::pending(&request, &policy);
            assert_eq!(pending.asked(), NOW);
            app.call_failed(&enforce::resume(pending, outcome, &policy, NOW + 1));
        }
        assert_eq!(app.timeouts(), 1);
        for reason in S2sErrorReason::ALL {
            let expected = match reason {
                S2sErrorReason::ServerError => 2,
                S2sErrorReason::UnknownError => 1,
                _ => 0,
            };
            assert_eq!(app.errors(*reason), expected, "{reason:?}");
        }
    }

    #[test]
    fn buckets_hold_what_is_at_most_their_bound() {
        let histogram = Histogram::default();
        for ms in [0, 5, 6, 100, 101, 5000, 5001, 60_000] {
            histogram.observe(ms);
        }
        assert_eq!(histogram.cumulative(), [2, 3, 3, 3, 4, 5, 5, 5, 5, 6, 8]);
        assert_eq!(histogram.sum_ms(), 70_213);
    }

    #[test]
    fn every_end_of_a_request_to_a_node_has_a_counter_of_its_own() {
        let counters = Node::default();
        let all = || {
            let results = node::Result::ALL;
            node::Mode::ALL.iter().flat_map(|mode| results.iter().map(|result| (*mode, *result)))
        };
        for (at, (mode, result)) in all().enumerate() {
            (0..=at).for_each(|_| counters.request(mode, result));
        }
        for (at, (mode, result)) in all().enumerate() {
            assert_eq!(counters.requests(mode, result), at as u64 + 1, "{mode:?} {result:?}");
        }
        counters.exchange_ended(7);
        assert_eq!(counters.durations().sum_ms(), 7);
    }

    #[test]
    fn tokens_add_up() {
        let app = App::default();
        app.tokens(Tally { derivations: 3, over_budget: 0 });
        app.tokens(Tally { derivations: 0, over_budget: 2 });
        app.tokens(Tally { derivations: 1, over_budget: 1 });
        assert_eq!((app.derivations(), app.over_budget()), (4, 3));
        app.first_party_failed();
        assert_eq!(app.first_party_errors(), 1);
    }
}
