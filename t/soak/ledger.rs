//! Who is to be reported, and who was: each request names itself by its number.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Requests there is room for.
const ROOM: usize = 1 << 24;
/// Nobody has made this request yet, or none is reported for it.
const NOT_OWED: u8 = 0;
const OWED: u8 = 1;
/// Of who has left: whether nginx came to read the request nobody knows.
const PERHAPS: u8 = 2;
/// The number stands behind this in every URL.
const MARK: &str = "?n=";

pub(crate) struct Ledger {
    next: AtomicUsize,
    owed: Vec<AtomicU8>,
    told: Vec<AtomicU8>,
    /// Reports of requests that nobody has made, the first of them.
    strange: Mutex<Option<String>>,
}

impl Default for Ledger {
    fn default() -> Self {
        let zeros = || (0..ROOM).map(|_| AtomicU8::new(0)).collect();
        Self { next: AtomicUsize::new(0), owed: zeros(), told: zeros(), strange: Mutex::default() }
    }
}

/// What became of the requests of the ledger.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    /// Requests to be reported.
    pub(crate) owed: usize,
    pub(crate) told: usize,
    pub(crate) lost: usize,
    pub(crate) twice: usize,
    pub(crate) strange: Option<String>,
}

impl Ledger {
    /// A number for a request.
    pub(crate) fn number(&self) -> usize {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(number < ROOM, "the ledger is full");
        number
    }

    pub(crate) fn url(path: &str, number: usize) -> String {
        format!("{path}{MARK}{number}")
    }

    /// The request was answered and is to be reported once.
    pub(crate) fn owe(&self, number: usize) {
        self.owed[number].store(OWED, Ordering::Relaxed);
    }

    /// The visitor does not know whether nginx has seen the request.
    pub(crate) fn may_owe(&self, number: usize) {
        self.owed[number].store(PERHAPS, Ordering::Relaxed);
    }

    /// These activities have arrived.
    pub(crate) fn told(&self, activities: &[Value]) {
        for activity in activities {
            if !matches!(activity["type"].as_str(), Some("page_requested" | "block")) {
                continue;
            }
            let number = activity["url"].as_str().and_then(|url| {
                let (_, rest) = url.split_once(MARK)?;
                let end = rest.find('&').unwrap_or(rest.len());
                rest[..end].parse::<usize>().ok().filter(|number| *number < ROOM)
            });
            match number {
                Some(number) => {
                    self.told[number].fetch_add(1, Ordering::Relaxed);
                }
                None => {
                    self.strange().get_or_insert_with(|| activity.to_string());
                }
            }
        }
    }

    pub(crate) fn balance(&self) -> Balance {
        let mut balance = Balance { strange: self.strange().clone(), ..Balance::default() };
        for number in 0..self.next.load(Ordering::Relaxed) {
            let owed = self.owed[number].load(Ordering::Relaxed);
            let told = self.told[number].load(Ordering::Relaxed);
            balance.owed += usize::from(owed == OWED);
            balance.told += usize::from(told > 0);
            balance.lost += usize::from(owed == OWED && told == 0);
            balance.twice += usize::from(told > 1);
            if owed == NOT_OWED && told > 0 {
                let what = format!("request {number} is reported, which is not to be");
                balance.strange.get_or_insert(what);
            }
        }
        balance
    }

    fn strange(&self) -> MutexGuard<'_, Option<String>> {
        self.strange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
