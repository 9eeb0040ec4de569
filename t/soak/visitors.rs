//! The load: visitors of every kind, each answer compared with the one that its kind is owed.
//!
//! A client of our own and no load generator: what counts here is that every single answer is right, and
//! a few threads of this one send more than nginx, HUMAN's stand-in and the origin can do beside them.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::site::{FRAIL, HEARD, Site};
use crate::support::client::{self, Connection};
use crate::support::h2::H2;
use crate::support::{BROWSER, Response};

const CLIENTS: usize = 12;
/// Cookies that come again and again: fewer than the token cache has room for.
const KNOWN: usize = 200;
/// A client takes a new connection after so many requests at most.
const ON_ONE_CONNECTION: u64 = 100;
/// While nginx is reloaded a client rests for so long after each request: the load is to be steady, and
/// the machine is to have time for reloads.
const REST_MS: u64 = 5;
/// Longest wait for a number of answers.
const PATIENCE: Duration = Duration::from_secs(600);
const BOT: &str = "PhantomJS/1.0";
const FORM: &str = "username=visitor%40example.org&password=secret";
const QUERY: &str = r#"{"query":"query Cart { total }"}"#;
const MESSAGE: &str = "payload=x";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A good cookie that the token cache knows.
    Known,
    /// A good cookie that nobody has seen before.
    Fresh,
    BadScore,
    Newcomer,
    Bot,
    Expired,
    Forged,
    StyleSheet,
    File,
    Page,
    Sensor,
    Message,
    Login,
    Graphql,
    Frail,
    Node,
    Attack,
    Copied,
    /// Goes before there is an answer; half of them before the request is whole.
    Leaver,
}

/// How many of a hundred requests are of each kind.
const MIX: [(Kind, usize); 19] = [
    (Kind::Known, 27),
    (Kind::Fresh, 6),
    (Kind::BadScore, 8),
    (Kind::Newcomer, 12),
    (Kind::Bot, 4),
    (Kind::Expired, 4),
    (Kind::Forged, 3),
    (Kind::StyleSheet, 8),
    (Kind::File, 4),
    (Kind::Page, 4),
    (Kind::Sensor, 2),
    (Kind::Message, 2),
    (Kind::Login, 2),
    (Kind::Graphql, 2),
    (Kind::Frail, 6),
    (Kind::Node, 2),
    (Kind::Attack, 1),
    (Kind::Copied, 2),
    (Kind::Leaver, 1),
];

/// Visitors of a site, at work until they are told to stop.
pub(crate) struct Load<'s> {
    site: &'s Site,
    addr: SocketAddr,
    mix: Vec<Kind>,
    known: Vec<String>,
    bad: Vec<(String, String)>,
    expired: String,
    forged: String,
    stop: AtomicBool,
    /// How long a client rests after each request, in milliseconds.
    rest: AtomicU64,
    /// Requests are made up to this number.
    allowed: AtomicUsize,
    begun: AtomicUsize,
    pub(crate) answered: AtomicUsize,
    pub(crate) left: AtomicUsize,
    /// Tokens that nobody had seen before.
    pub(crate) fresh: AtomicUsize,
    /// Kept connections that nginx closed before it read the request; it was sent again.
    pub(crate) reconnected: AtomicUsize,
    pub(crate) wrong: AtomicUsize,
    first_wrong: Mutex<Option<String>>,
}

/// A request and what it is owed.
struct Visit {
    kind: Kind,
    number: usize,
    method: &'static str,
    target: String,
    headers: Vec<String>,
    body: &'static str,
    /// HUMAN's id of the assessment, where the answer shows it.
    uuid: String,
}

impl<'s> Load<'s> {
    pub(crate) fn new(site: &'s Site, addr: SocketAddr) -> Self {
        let uuid = |n: usize| format!("{n:08x}-1111-4111-8111-111111111111");
        let header = |cookie: String| format!("Cookie: {cookie}");
        let mint = || site.human.mint(BROWSER).iterations(500);
        Self {
            site,
            addr,
            mix: MIX.iter().flat_map(|(kind, share)| vec![*kind; *share]).collect(),
            known: (0..KNOWN).map(|n| header(site.cookie(0, &uuid(n)))).collect(),
            bad: (0..20).map(|n| (uuid(n), header(site.cookie(100, &uuid(n))))).collect(),
            expired: header(mint().expired().cookie()),
            forged: header(mint().broken_hmac().cookie()),
            stop: AtomicBool::new(false),
            rest: AtomicU64::new(0),
            allowed: AtomicUsize::new(usize::MAX),
            begun: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            fresh: AtomicUsize::new(0),
            reconnected: AtomicUsize::new(0),
            wrong: AtomicUsize::new(0),
            first_wrong: Mutex::default(),
        }
    }

    /// Visits until [`stop`](Self::stop), while `meanwhile` runs.
    pub(crate) fn during<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        self.allowed.store(usize::MAX, Ordering::Relaxed);
        self.rest.store(REST_MS, Ordering::Relaxed);
        self.stop.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            self.set_to_work(scope);
            let stop = StopAtLast(&self.stop);
            let result = meanwhile();
            drop(stop);
            result
        })
    }

    /// So many visits; afterwards no connection of theirs is open.
    pub(crate) fn visit(&self, count: usize) {
        let until = self.begun.load(Ordering::Relaxed) + count;
        self.allowed.store(until, Ordering::Relaxed);
        self.rest.store(0, Ordering::Relaxed);
        self.stop.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            self.set_to_work(scope);
            scope.spawn(|| self.guarded(|| self.work_over_http2()));
        });
        self.begun.store(until, Ordering::Relaxed);
    }

    fn set_to_work<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>) {
        for client in 0..CLIENTS {
            scope.spawn(move || self.guarded(|| self.work(client)));
        }
    }

    fn guarded(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.fail("a client panicked".to_owned());
        }
    }

    pub(crate) fn wait_for(&self, more: usize) {
        let target = self.answered.load(Ordering::Relaxed) + more;
        let began = std::time::Instant::now();
        while self.answered.load(Ordering::Relaxed) < target {
            assert!(began.elapsed() < PATIENCE, "no answers: {:?}", self.first_wrong());
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn first_wrong(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.first_wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, what: String) {
        self.wrong.fetch_add(1, Ordering::Relaxed);
        self.lock().get_or_insert(what);
    }

    /// Whether to make so many more requests.
    fn may_make(&self, more: usize) -> bool {
        !self.stop.load(Ordering::Relaxed)
            && self.begun.fetch_add(more, Ordering::Relaxed) < self.allowed.load(Ordering::Relaxed)
    }

    fn work(&self, client: usize) {
        let mut dice = Dice::of(client as u64);
        let mut connection: Option<Connection> = None;
        let mut left_on_it = 0;
        while self.may_make(1) {
            let kind = self.mix[dice.below(self.mix.len() as u64) as usize];
            let visit = self.visit_of(kind, &mut dice);
            let bytes = visit.bytes();
            if kind == Kind::Leaver {
                self.leave(&visit, &bytes, &mut dice);
                continue;
            }
            if left_on_it == 0 {
                connection = None;
                left_on_it = dice.below(ON_ONE_CONNECTION) + 1;
            }
            left_on_it -= 1;
            match self.ask(&mut connection, &bytes) {
                Ok(response) if visit.is_right(&response) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    if visit.kind.is_reported() {
                        self.site.ledger.owe(visit.number);
                    }
                    if response.header("connection") == Some("close") {
                        connection = None;
                    }
                }
                other => {
                    connection = None;
                    self.site.ledger.may_owe(visit.number);
                    let Visit { kind, method, target, .. } = &visit;
                    self.fail(format!("{kind:?}: {method} {target}: {other:?}"));
                }
            }
            thread::sleep(Duration::from_millis(self.rest.load(Ordering::Relaxed)));
        }
    }

    /// The answer. A kept connection that ends in silence has been closed before the request was read:
    /// every browser then sends it again.
    fn ask(&self, connection: &mut Option<Connection>, bytes: &[u8]) -> io::Result<Response> {
        if let Some(kept) = connection {
            let answer = kept.try_send(bytes).and_then(|()| kept.try_receive_to(false));
            match answer {
                Err(err) if kept.is_silent() && is_end(&err) => {
                    self.reconnected.fetch_add(1, Ordering::Relaxed);
                }
                answer => return answer,
            }
        }
        let fresh = connection.insert(Connection::try_open(self.addr)?);
        fresh.try_send(bytes)?;
        fresh.try_receive_to(false)
    }

    fn leave(&self, visit: &Visit, bytes: &[u8], dice: &mut Dice) {
        self.site.ledger.may_owe(visit.number);
        self.left.fetch_add(1, Ordering::Relaxed);
        let part = if dice.below(2) == 0 { bytes } else { &bytes[..bytes.len() / 2] };
        if let Ok(mut connection) = Connection::try_open(self.addr) {
            let _ = connection.try_send(part);
            thread::sleep(Duration::from_micros(dice.below(2000)));
        }
    }

    /// A few visitors of the kinds that need no long headers.
    fn work_over_http2(&self) {
        const STREAMS: usize = 8;
        let mut dice = Dice::of(CLIENTS as u64);
        while self.may_make(STREAMS) {
            let mut h2 = H2::open(self.site.h2);
            let visits: Vec<(u32, Visit)> = (0..STREAMS)
                .map(|n| {
                    let kinds = [Kind::Newcomer, Kind::StyleSheet, Kind::Known];
                    let kind = kinds[dice.below(kinds.len() as u64) as usize];
                    (n as u32 * 2 + 1, self.visit_of(kind, &mut dice))
                })
                .collect();
            for (stream, visit) in &visits {
                let headers = visit.headers.iter().filter_map(|header| header.split_once(": "));
                let headers: Vec<(String, &str)> =
                    headers.map(|(name, value)| (name.to_lowercase(), value)).collect();
                let mut headers: Vec<(&str, &str)> =
                    headers.iter().map(|(name, value)| (&**name, *value)).collect();
                headers.push(("user-agent", BROWSER));
                h2.request(*stream, visit.method, &visit.target, &headers, true);
            }
            for (stream, visit) in &visits {
                let answer = h2.receive(*stream);
                let response =
                    Response { status: answer.status, headers: Vec::new(), body: answer.body };
                if visit.is_right(&response) {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    if visit.kind.is_reported() {
                        self.site.ledger.owe(visit.number);
                    }
                } else {
                    self.site.ledger.may_owe(visit.number);
                    self.fail(format!("HTTP/2, {:?}: {}: {response:?}", visit.kind, visit.target));
                }
            }
        }
    }

    fn visit_of(&self, kind: Kind, dice: &mut Dice) -> Visit {
        let number = self.site.ledger.number();
        let any = |texts: &[String], dice: &mut Dice| {
            texts[dice.below(texts.len() as u64) as usize].clone()
        };
        let first_party = self.site.human.app().id.trim_start_matches("PX");
        let mut uuid = String::new();
        let mut headers = Vec::new();
        let (path, body) = match kind {
            Kind::StyleSheet => ("/style.css".to_owned(), ""),
            Kind::File => ("/file".to_owned(), ""),
            Kind::Page => ("/page".to_owned(), ""),
            Kind::Sensor => (format!("/{first_party}/init.js"), ""),
            Kind::Message => (format!("/{first_party}/xhr/api/v2/collector"), MESSAGE),
            Kind::Login => ("/login".to_owned(), FORM),
            Kind::Graphql => ("/graphql".to_owned(), QUERY),
            Kind::Frail => (format!("/frail/{}", dice.below(FRAIL) + 1), ""),
            Kind::Node | Kind::Attack => ("/node".to_owned(), ""),
            Kind::Copied => ("/copied".to_owned(), ""),
            _ => (format!("/{kind:?}").to_lowercase(), ""),
        };
        match kind {
            Kind::Known | Kind::File | Kind::Page | Kind::Graphql | Kind::Login => {
                headers.push(any(&self.known, dice));
            }
            Kind::Fresh => {
                self.fresh.fetch_add(1, Ordering::Relaxed);
                let uuid = "22222222-1111-4111-8111-111111111111";
                headers.push(format!("Cookie: {}", self.site.cookie(0, uuid)));
            }
            Kind::BadScore => {
                let (id, cookie) = &self.bad[dice.below(self.bad.len() as u64) as usize];
                uuid.clone_from(id);
                headers.push(cookie.clone());
            }
            Kind::Expired => headers.push(self.expired.clone()),
            Kind::Forged => headers.push(self.forged.clone()),
            Kind::Bot => headers.push(format!("User-Agent: {BOT}")),
            _ => {}
        }
        match kind {
            Kind::Page => headers.push("Accept: text/html".to_owned()),
            Kind::Login => {
                headers.push("Content-Type: application/x-www-form-urlencoded".to_owned());
            }
            Kind::Graphql => headers.push("Content-Type: application/json".to_owned()),
            _ => {}
        }
        let method = if body.is_empty() { "GET" } else { "POST" };
        let mut target = Ledger::url(&path, number);
        if kind == Kind::Attack {
            target.push_str("&file=/etc/passwd");
        }
        Visit { kind, number, method, target, headers, body, uuid }
    }
}

struct StopAtLast<'l>(&'l AtomicBool);

impl Drop for StopAtLast<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn is_end(err: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(err.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

impl Kind {
    /// Whether HUMAN is told of it.
    fn is_reported(self) -> bool {
        !matches!(
            self,
            Self::StyleSheet
                | Self::Sensor
                | Self::Message
                | Self::Node
                | Self::Attack
                | Self::Copied
        )
    }
}

impl Visit {
    fn bytes(&self) -> Vec<u8> {
        let headers: Vec<&str> = self.headers.iter().map(String::as_str).collect();
        client::text(self.method, &self.target, &headers, self.body.as_bytes())
    }

    fn is_right(&self, response: &Response) -> bool {
        let text = response.text();
        match self.kind {
            Kind::BadScore => response.status == 403 && text.contains(&self.uuid),
            Kind::Bot => response.status == 403 && text.contains("captcha"),
            Kind::Attack => response.status == 403 && text.contains("request blocked"),
            Kind::Sensor => response.status == 200 && !text.is_empty(),
            Kind::Message => response.status == 200 && text == HEARD,
            Kind::File => response.status == 200 && text == "from disk",
            Kind::Page => {
                let title = format!("<title>{}</title>", self.target);
                response.status == 200
                    && text.contains(&title)
                    && text.contains("window.soak = ")
                    && response.header("content-security-policy").is_some()
            }
            _ => {
                let length = match self.body.len() {
                    0 => String::new(),
                    len => len.to_string(),
                };
                let wanted = format!("{} {} {length}", self.method, self.target);
                response.status == 200 && text == wanted
            }
        }
    }
}

/// Chance that is the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn of(client: u64) -> Self {
        Self((client + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
