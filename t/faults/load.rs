//! The constant load: visitors of every kind, without pause, and what each of them is owed just now.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use px_sandbox::{App, Mint};

use crate::support::client::{self, Connection};
use crate::support::h2::H2;
use crate::support::{BROWSER, Response};

/// Clients at work together; each goes through all kinds of visitors, beginning with another.
pub(crate) const CLIENTS: usize = 6;
/// What bounds the number of requests: a client rests for so long after each.
const REST: Duration = Duration::from_millis(10);
/// Answers in a row, of each kind of visitor, by which a state of things is taken for settled.
const SETTLED: usize = 5;
/// How long a risk cookie lasts.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest wait for a state to settle.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A kind of visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Brings a good risk cookie.
    GoodCookie,
    /// Brings a risk cookie with a bad score.
    BadScore,
    /// Brings no cookie; the Risk API takes it for human.
    Newcomer,
    /// Brings no cookie; the Risk API takes it for a bot.
    Bot,
    /// As [`Newcomer`](Self::Newcomer), with a body.
    Upload,
    /// Wants a file that passes unexamined.
    StaticFile,
    /// Wants HUMAN's scripts from the site, or its collector to have a message.
    Sensor,
    Captcha,
    Message,
    /// A probe that a traffic-analysis node finds, with a good risk cookie.
    Attack,
}

impl Class {
    /// What visits a site without a node.
    pub(crate) const OF_HUMAN: [Self; 9] = [
        Self::GoodCookie,
        Self::BadScore,
        Self::Newcomer,
        Self::Bot,
        Self::Upload,
        Self::StaticFile,
        Self::Sensor,
        Self::Captcha,
        Self::Message,
    ];
    /// Who is asked about, having no cookie.
    pub(crate) const ASKED_ABOUT: [Self; 3] = [Self::Newcomer, Self::Bot, Self::Upload];
    /// What HUMAN answers through the site.
    pub(crate) const FIRST_PARTY: [Self; 3] = [Self::Sensor, Self::Captcha, Self::Message];

    /// What it gets where nothing is wrong.
    pub(crate) fn normal(self) -> Answer {
        match self {
            Self::GoodCookie => Answer::Origin("pass cookie"),
            Self::Newcomer | Self::Upload => Answer::Origin("pass s2s"),
            Self::BadScore | Self::Bot => Answer::Challenge,
            Self::StaticFile => Answer::Origin("filtered extension"),
            Self::Sensor | Self::Captcha | Self::Message => Answer::OfHuman,
            Self::Attack => Answer::Refused,
        }
    }
}

impl Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GoodCookie => "a good cookie",
            Self::BadScore => "a bad score",
            Self::Newcomer => "no cookie",
            Self::Bot => "a bot without cookie",
            Self::Upload => "an upload without cookie",
            Self::StaticFile => "a static file",
            Self::Sensor => "the sensor",
            Self::Captcha => "the captcha's script",
            Self::Message => "the sensor's message",
            Self::Attack => "an attack",
        })
    }
}

/// An answer a visitor may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    /// 200 and the origin's answer to this very request, which arrived there byte for byte and with this
    /// verdict: the words of `$px_verdict` and of the reason.
    Origin(&'static str),
    /// 403 and the captcha for this very visitor.
    Challenge,
    /// 200 and what HUMAN answers at first-party paths.
    OfHuman,
    /// 200 and the default answer of a first-party path.
    Default,
    /// 403 and the answer for what a node blocks.
    Refused,
    /// 200 and the 2 MiB that HUMAN sent.
    Large,
    /// nginx's own error page of this status.
    Nginx(u16),
    /// The connection ends before there is an answer, or within it.
    Ended,
}

impl Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin(" ") => write!(f, "the origin's page, judged by nobody"),
            Self::Origin(words) => write!(f, "the origin's page (`{words}`)"),
            Self::Challenge => write!(f, "403, the captcha"),
            Self::OfHuman => write!(f, "HUMAN's answer"),
            Self::Default => write!(f, "the default answer, 200"),
            Self::Refused => write!(f, "403 as the node says"),
            Self::Large => write!(f, "what HUMAN sent"),
            Self::Nginx(status) => write!(f, "nginx's own {status}"),
            Self::Ended => write!(f, "the end of the connection"),
        }
    }
}

/// The site's number, and who visits it.
type Who = (usize, Class);

/// Who visits, and which answers are right.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Owed(BTreeMap<Who, Vec<Answer>>);

impl Owed {
    /// What all of `classes` get from so many sites where nothing is wrong.
    pub(crate) fn normally(sites: usize, classes: &[Class]) -> Self {
        let mut owed = Self::default();
        for site in 0..sites {
            classes.iter().for_each(|class| owed.set(site, *class, &[class.normal()]));
        }
        owed
    }

    pub(crate) fn set(&mut self, site: usize, class: Class, answers: &[Answer]) {
        self.0.insert((site, class), answers.to_vec());
    }

    fn or(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (who, answers) in &other.0 {
            both.0.entry(*who).or_default().extend(answers);
        }
        both
    }

    fn of(&self, who: Who) -> &[Answer] {
        self.0.get(&who).map_or(&[], Vec::as_slice)
    }

    /// Who gets something else than by `normal`, and what, in words.
    pub(crate) fn beside(&self, normal: &Self) -> String {
        let mut groups: Vec<(&[Answer], Vec<Who>)> = Vec::new();
        for (who, answers) in self.0.iter().filter(|(who, answers)| normal.of(**who) != **answers) {
            match groups.iter_mut().find(|(known, _)| known == answers) {
                Some((_, all)) => all.push(*who),
                None => groups.push((answers, vec![*who])),
            }
        }
        if groups.is_empty() {
            return "all: as ever".to_owned();
        }
        let is_everybody = groups.len() == 1 && groups[0].1.len() == self.0.len();
        let mut texts: Vec<String> = Vec::new();
        for (answers, all) in &groups {
            let classes: Vec<Class> = all.iter().map(|(_, class)| *class).collect();
            let mut names = if is_everybody { "all".to_owned() } else { names(&classes) };
            if self.0.keys().any(|(site, _)| *site > 0) {
                names.push_str(", of the first application");
            }
            let answers: Vec<String> = answers
                .iter()
                .map(|answer| match all.iter().all(|who| normal.of(*who) == [*answer]) {
                    true => "as ever".to_owned(),
                    false => answer.to_string(),
                })
                .collect();
            texts.push(format!("{names}: {}", answers.join(" or ")));
        }
        if !is_everybody {
            texts.push("all others: as ever".to_owned());
        }
        texts.join("; ")
    }
}

/// Kinds of visitors in words: well-known groups by one name.
fn names(classes: &[Class]) -> String {
    const GROUPS: [(&[Class], &str); 3] = [
        (&Class::ASKED_ABOUT, "without a cookie"),
        (&Class::FIRST_PARTY, "scripts and messages through the site"),
        (&[Class::Sensor, Class::Captcha], "scripts through the site"),
    ];
    let mut left = classes.to_vec();
    let mut names: Vec<String> = Vec::new();
    for (group, name) in GROUPS {
        if group.iter().all(|class| left.contains(class)) {
            left.retain(|class| !group.contains(class));
            names.push(name.to_owned());
        }
    }
    names.extend(left.iter().map(Class::to_string));
    names.join(", ")
}

/// What HUMAN answers to it through the site.
pub(crate) fn of_human(class: Class) -> &'static str {
    match class {
        Class::Sensor => "/* the sensor */",
        Class::Captcha => "/* the captcha's script */",
        Class::Message => "{\"do\":[\"what the collector says\"]}",
        _ => "",
    }
}

/// What is much too large for an answer.
pub(crate) const LARGE: usize = 2 << 20;

/// One of the sites under load.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) addr: SocketAddr,
    pub(crate) host: &'static str,
    pub(crate) app: App,
}

/// How the visitors come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    pub http2: bool,
    /// Kept connections may end, as when a worker goes: the visitor asks once more on a new one, as
    /// browsers do. Otherwise that is wrong.
    pub(crate) reconnects: bool,
}

/// Visitors at work. Ends, and is right, only by [`finish`](Self::finish).
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    sites: Vec<Visitors>,
    manner: Manner,
    state: Mutex<State>,
}

/// What visitors of one site bring along.
struct Visitors {
    address: Address,
    good: Vec<(String, String)>,
    bad: Vec<(String, String)>,
}

struct State {
    /// What was owed, one after the other; the last is owed now.
    owed: Vec<Owed>,
    /// The state of things that is awaited, and since which entry of `owed`.
    awaited: (usize, Owed),
    /// Answers in a row that were right by what is awaited.
    streaks: BTreeMap<Who, usize>,
    answers: BTreeMap<(usize, Class, Answer), usize>,
    wrong: Option<String>,
    is_over: bool,
}

impl Load {
    /// Begins, and returns when all are answered as they are owed.
    pub(crate) fn start(sites: Vec<Address>, manner: Manner, owed: Owed) -> Self {
        let sites = sites.into_iter().map(Visitors::of).collect();
        let state = State {
            awaited: (0, owed.clone()),
            owed: vec![owed],
            streaks: BTreeMap::new(),
            answers: BTreeMap::new(),
            wrong: None,
            is_over: false,
        };
        let shared = Arc::new(Shared { sites, manner, state: Mutex::new(state) });
        let clients = (0..CLIENTS).map(|n| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let work = AssertUnwindSafe(|| shared.work(n));
                if catch_unwind(work).is_err() {
                    shared.fail(format!("client {n} panicked"));
                }
            })
        });
        let load = Self { clients: clients.collect(), shared };
        load.wait_until_settled();
        load
    }

    /// From now on, while and after `cause` happens, visitors get what they are owed now or `then`.
    /// Returns when `holds` and all of them are answered by `then`; from then on nothing else is right.
    pub(crate) fn turn(&self, then: &Owed, cause: impl FnOnce(), mut holds: impl FnMut() -> bool) {
        let epoch = {
            let mut state = self.shared.lock();
            let both = state.owed.last().expect("there is one").or(then);
            state.owed.push(both);
            state.owed.len() - 1
        };
        cause();
        self.shared.lock().await_since(epoch, then.clone());
        self.wait_for("the awaited state of things", &mut holds);
        self.shared.lock().streaks.clear();
        self.wait_until_settled();
        {
            let mut state = self.shared.lock();
            state.owed.push(then.clone());
            let epoch = state.owed.len() - 1;
            state.await_since(epoch, then.clone());
        }
        self.wait_until_settled();
    }

    /// Goes on for a while: until all have been answered some times more.
    pub(crate) fn go_on(&self) {
        self.shared.lock().streaks.clear();
        self.wait_until_settled();
    }

    /// How often visitors were given this answer so far.
    pub(crate) fn count(&self, answer: Answer) -> usize {
        let state = self.shared.lock();
        state.answers.iter().filter(|((_, _, given), _)| *given == answer).map(|(_, n)| n).sum()
    }

    /// Ends. How many requests were answered.
    pub(crate) fn finish(mut self) -> usize {
        self.check();
        self.end();
        self.check();
        self.shared.lock().answers.values().sum()
    }

    /// Waits for something that happens while the load goes on.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds() {
            self.check();
            assert!(Instant::now() < until, "waited in vain under load: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn wait_until_settled(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            self.check();
            let state = self.shared.lock();
            let missing: Vec<String> = (state.awaited.1.0.keys())
                .filter(|who| state.streaks.get(who).is_none_or(|streak| *streak < SETTLED))
                .map(|(site, class)| {
                    format!("{class} at {}", self.shared.sites[*site].address.host)
                })
                .collect();
            if missing.is_empty() {
                return;
            }
            assert!(
                Instant::now() < until,
                "not answered as awaited: {}; awaited {:?}; given so far: {:?}",
                missing.join(", "),
                state.awaited.1,
                state.answers
            );
            drop(state);
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn check(&self) {
        let wrong = self.shared.lock().wrong.clone();
        if let Some(wrong) = wrong {
            panic!("a visitor got a wrong answer: {wrong}");
        }
    }

    fn end(&mut self) {
        self.shared.lock().is_over = true;
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    fn await_since(&mut self, epoch: usize, owed: Owed) {
        self.awaited = (epoch, owed);
        self.streaks.clear();
    }
}

impl Visitors {
    fn of(address: Address) -> Self {
        let mint = |score: u32| {
            let cookie = |_| {
                let uuid = uuid();
                let mint = Mint::v3(address.app.secret.as_str()).user_agent(BROWSER);
                let mint = mint.uuid(&uuid).score(score).expires_in(DAY);
                (uuid, mint.cookie())
            };
            (0..4).map(cookie).collect()
        };
        Self { good: mint(0), bad: mint(100), address }
    }
}

/// One visit: what is sent, and what the answers to it may look like.
struct Visit<'a> {
    site: usize,
    class: Class,
    address: &'a Address,
    id: String,
    /// HUMAN's id of the assessment.
    uuid: String,
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, what: String) {
        let mut state = self.lock();
        state.wrong.get_or_insert(what);
        state.is_over = true;
    }

    fn work(&self, client: usize) {
        let kinds: Vec<Who> = self.lock().owed[0].0.keys().copied().collect();
        let mut wire = Wire::new(self.manner);
        // Each begins elsewhere, so that the kinds are mixed.
        for turn in client * kinds.len() / CLIENTS.. {
            let (site, class) = kinds[turn % kinds.len()];
            let visit = Visit::new(site, class, &self.sites[site], turn);
            let began = {
                let state = self.lock();
                if state.is_over {
                    return;
                }
                state.owed.len() - 1
            };
            let answer = wire.ask(&visit);
            let mut state = self.lock();
            let mut right = state.owed[began..].iter().flat_map(|owed| owed.of((site, class)));
            let Some(right) = right.find(|right| visit.is_answered(&answer, **right)).copied()
            else {
                let owed = state.owed.last().map(|owed| owed.of((site, class)).to_vec());
                drop(state);
                let given = match &answer {
                    Ok(given) => format!("{} {:?}\n{}", given.status, given.headers, given.text()),
                    Err(err) => err.to_string(),
                };
                return self
                    .fail(format!("{visit}\n--- owed: {owed:?}\n--- answer: {given:.3000}"));
            };
            *state.answers.entry((site, class, right)).or_default() += 1;
            if began >= state.awaited.0 {
                // Two answers may look alike: what counts is whether it is one of those awaited.
                let awaited = state.awaited.1.of((site, class));
                let is_awaited = awaited.iter().any(|awaited| visit.is_answered(&answer, *awaited));
                let streak = state.streaks.entry((site, class)).or_default();
                *streak = if is_awaited { *streak + 1 } else { 0 };
            }
            drop(state);
            thread::sleep(REST);
        }
    }
}

impl<'a> Visit<'a> {
    fn new(site: usize, class: Class, visitors: &'a Visitors, turn: usize) -> Self {
        let id = uuid();
        let app = &visitors.address.app;
        let first_party = app.id.strip_prefix("PX").unwrap_or(&app.id);
        let (method, target) = match class {
            Class::Upload => ("POST", format!("/upload?id={id}")),
            Class::StaticFile => ("GET", format!("/{id}.css")),
            Class::Sensor => ("GET", format!("/{first_party}/init.js")),
            Class::Captcha => ("GET", format!("/{first_party}/captcha/captcha.js?a=c&u={id}")),
            Class::Message => ("POST", format!("/{first_party}/xhr/api/v2/collector")),
            Class::Attack => ("GET", format!("/etc/passwd?id={id}")),
            _ => ("GET", format!("/page?id={id}")),
        };
        let (uuid, cookie) = match class {
            Class::GoodCookie | Class::Attack => visitors.good[turn % visitors.good.len()].clone(),
            Class::BadScore => visitors.bad[turn % visitors.bad.len()].clone(),
            _ => (id.clone(), String::new()),
        };
        let mut headers = vec![("x-visit".to_owned(), id.clone())];
        if !cookie.is_empty() {
            headers.push(("cookie".to_owned(), cookie));
        }
        match class {
            Class::Bot => {
                headers.push(("x-px-sandbox".to_owned(), format!("score=100 action=c uuid={id}")));
            }
            Class::Newcomer | Class::Upload => {
                headers.push(("x-px-sandbox".to_owned(), format!("score=0 uuid={id}")));
            }
            _ => {}
        }
        let body = match class {
            Class::Upload => (0..20_000_usize).map(|n| (n * 7 + turn) as u8).collect(),
            Class::Message => format!("payload={id}").into_bytes(),
            _ => Vec::new(),
        };
        Self { site, class, address: &visitors.address, id, uuid, method, target, headers, body }
    }

    fn is_answered(&self, given: &io::Result<Response>, right: Answer) -> bool {
        let Ok(given) = given else { return right == Answer::Ended };
        let is_default = || match self.class {
            Class::Message => given.body == b"{}",
            _ => given.body.is_empty(),
        };
        match right {
            Answer::Origin(words) => given.status == 200 && self.is_echo(&given.body, words),
            Answer::Challenge => {
                let page = given.text();
                given.status == 403
                    && page.contains(&self.uuid)
                    && page.contains(&self.address.app.id)
                    && page.contains("captcha")
            }
            Answer::OfHuman => given.status == 200 && given.body == of_human(self.class).as_bytes(),
            Answer::Default => given.status == 200 && is_default(),
            Answer::Refused => {
                given.status == 403
                    && given.body == br#"{"error":{"code":403,"message":"request blocked"}}"#
            }
            Answer::Large => given.status == 200 && given.body.len() == LARGE,
            Answer::Nginx(status) => {
                given.status == status && given.text().contains("<hr><center>nginx")
            }
            Answer::Ended => false,
        }
    }

    /// The origin was sent this request, with its body, and with this verdict.
    fn is_echo(&self, echo: &[u8], words: &str) -> bool {
        let Some(end) = echo.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
        let (head, body) = (String::from_utf8_lossy(&echo[..end]), &echo[end + 4..]);
        let value = |name: &str| {
            head.lines().find_map(|line| {
                let (known, value) = line.split_once(": ")?;
                known.eq_ignore_ascii_case(name).then_some(value)
            })
        };
        // Whom nobody judged has no id of an assessment.
        let uuid = match words {
            "pass cookie" | "pass s2s" | "simulated_block " => &*self.uuid,
            _ => "",
        };
        head.starts_with(&format!("{} {} HTTP/1.1\r\n", self.method, self.target))
            && value("x-visit") == Some(&self.id)
            && value("x-verdict") == Some(&format!("{words}; uuid={uuid}"))
            && body == self.body
    }
}

impl Display for Visit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { site, class, method, target, headers, body, .. } = self;
        write!(f, "{class}, site {site}\n--- request: {method} {target} {headers:?} ")?;
        write!(f, "and a body of {} bytes; uuid {}", body.len(), self.uuid)
    }
}

/// A client's connections to the sites, while there are any.
struct Wire {
    manner: Manner,
    connections: BTreeMap<usize, Connection>,
    h2: BTreeMap<usize, (H2, u32)>,
}

impl Wire {
    fn new(manner: Manner) -> Self {
        Self { manner, connections: BTreeMap::new(), h2: BTreeMap::new() }
    }

    fn ask(&mut self, visit: &Visit<'_>) -> io::Result<Response> {
        if self.manner.http2 {
            return Ok(self.ask_h2(visit));
        }
        let is_kept = self.connections.contains_key(&visit.site);
        let (answer, is_silent) = self.ask_once(visit);
        match answer {
            Err(_) if is_kept && is_silent && self.manner.reconnects => self.ask_once(visit).0,
            answer => answer,
        }
    }

    /// The answer, and whether nothing of it has come.
    fn ask_once(&mut self, visit: &Visit<'_>) -> (io::Result<Response>, bool) {
        let mut connection = match self.connections.remove(&visit.site) {
            Some(connection) => connection,
            None => match Connection::try_open(visit.address.addr) {
                Ok(connection) => connection,
                Err(err) => return (Err(err), true),
            },
        };
        let mut headers = vec![format!("Host: {}", visit.address.host)];
        headers.extend(visit.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let text = client::text(visit.method, &visit.target, &headers, &visit.body);
        let answer = connection.try_send(text).and_then(|()| connection.try_receive_to(false));
        let is_silent = connection.is_silent();
        if let Ok(response) = &answer
            && response.header("connection") != Some("close")
        {
            self.connections.insert(visit.site, connection);
        }
        (answer, is_silent)
    }

    fn ask_h2(&mut self, visit: &Visit<'_>) -> Response {
        let open = || (H2::open(visit.address.addr), 1);
        let (h2, stream) = self.h2.entry(visit.site).or_insert_with(open);
        let id = *stream;
        *stream += 2;
        let mut headers: Vec<(&str, &str)> = vec![("user-agent", BROWSER)];
        headers.extend(visit.headers.iter().map(|(name, value)| (&**name, &**value)));
        h2.request(id, visit.method, &visit.target, &headers, visit.body.is_empty());
        let mut parts = visit.body.chunks(10_000).peekable();
        while let Some(part) = parts.next() {
            h2.data(id, part, parts.peek().is_none());
        }
        let answer = h2.receive(id);
        Response { status: answer.status, headers: Vec::new(), body: answer.body }
    }
}

fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}
