//! What was found, what it may be, and the table of both.

use std::fmt::Display;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::ledger::Balance;
use crate::site::{FRAIL, WORKERS};
use crate::support::nginx;
use crate::turmoil::Turmoil;
use crate::visitors::Load;
use crate::watch::{Process, median};

/// By so much memory may differ that is not growing: the allocator splits and joins what it has.
const SLACK_KB: u64 = 1024;
/// In a run of fewer requests than this many the workers are still warming up all the time: only a gross
/// leak would show.
const WARM: usize = 1_000_000;
const SLACK_WHILE_WARMING_UP_KB: u64 = 6 * 1024;
/// So many reloads are run on a machine that has time for them.
const QUIET_MACHINE: usize = 100;
/// How long workers with a spool wait for answers when they end.
const TIME_TO_END: Duration = Duration::from_millis(3750);
/// How the stand-in's complaints end about a post that was cut off, and about a report that it had.
const CUT_POST: &str = "ended within a request body: POST /api/v1/collector/s2s";
const CAME_TWICE: &str = " already";
/// Sockets that are open while nobody visits: kept connections to the origin and HUMAN.
const SLACK_SOCKETS: usize = 16;
/// Between these lines docs/reliability.md has the table.
const BEGIN: &str = "<!-- written by make soak -->\n";
const END: &str = "<!-- end -->\n";

pub(crate) struct Sizes {
    pub(crate) requests: usize,
    pub(crate) reloads: usize,
    load_at_start: String,
}

impl Sizes {
    /// `SOAK_REQUESTS` and `SOAK_RELOADS`, or what a test has time for.
    pub(crate) fn from_env() -> Self {
        let number = |name: &str, otherwise: usize| {
            std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
        };
        Self {
            requests: number("SOAK_REQUESTS", 20_000),
            reloads: number("SOAK_RELOADS", 10),
            load_at_start: load_average(),
        }
    }
}

/// What visitors, HUMAN and the turmoil counted.
#[derive(Default)]
pub(crate) struct Traffic {
    answered: usize,
    left: usize,
    reconnected: usize,
    wrong: usize,
    first_wrong: Option<String>,
    fresh: usize,
    pub(crate) balance: Balance,
    pub(crate) complaints: Vec<String>,
    pub(crate) spooled: u64,
    pub(crate) lost: u64,
    pub(crate) spool_left: usize,
    pub(crate) fetched: u64,
    spool_files: usize,
    rotations: usize,
    pub(crate) openings: usize,
    outages: usize,
}

impl Traffic {
    pub(crate) fn of(load: &Load<'_>, turmoil: &Turmoil) -> Self {
        let read = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Self {
            answered: read(&load.answered),
            left: read(&load.left),
            reconnected: read(&load.reconnected),
            wrong: read(&load.wrong),
            first_wrong: load.first_wrong(),
            fresh: read(&load.fresh),
            spool_files: read(&turmoil.spool_files),
            rotations: read(&turmoil.rotations),
            outages: read(&turmoil.outages),
            ..Self::default()
        }
    }

    fn cut_posts(&self) -> usize {
        self.complaints.iter().filter(|complaint| complaint.ends_with(CUT_POST)).count()
    }

    /// But for cut posts, and for what comes twice because of them.
    fn further_complaints(&self, was_cut_short: bool) -> impl Iterator<Item = &String> {
        self.complaints.iter().filter(move |complaint| {
            let is_excused = was_cut_short && complaint.ends_with(CAME_TWICE);
            !complaint.ends_with(CUT_POST) && !is_excused
        })
    }
}

#[derive(Default)]
pub(crate) struct Reloads {
    /// After each reload, when the old workers were gone.
    pub(crate) masters: Vec<Process>,
    /// Just before each reload.
    pub(crate) workers: Vec<Vec<Process>>,
    pub(crate) longest_end: Duration,
    pub(crate) zombies: usize,
    pub(crate) seconds: f64,
    pub(crate) traffic: Traffic,
}

#[derive(Default)]
pub(crate) struct Requests {
    /// The workers after each part, when nobody visited.
    pub(crate) legs: Vec<Vec<Process>>,
    pub(crate) masters: Vec<Process>,
    /// Most tokens in the cache, and its room.
    pub(crate) tokens: (u64, u64),
    pub(crate) seconds: f64,
    pub(crate) same_workers: bool,
    pub(crate) traffic: Traffic,
}

pub(crate) struct Results {
    pub(crate) sizes: Sizes,
    pub(crate) bare: Vec<Process>,
    pub(crate) reloads: Reloads,
    pub(crate) requests: Requests,
}

struct Row {
    what: String,
    found: String,
    /// Empty where the number only tells how much there was.
    bar: String,
    is_kept: bool,
}

impl Row {
    fn told(what: impl Display, found: impl Display) -> Self {
        Self { what: what.to_string(), found: found.to_string(), bar: String::new(), is_kept: true }
    }

    fn barred(what: impl Display, found: impl Display, bar: impl Display, is_kept: bool) -> Self {
        Self { bar: bar.to_string(), is_kept, ..Self::told(what, found) }
    }

    fn none(what: impl Display, found: usize) -> Self {
        Self::barred(what, number(found), "0", found == 0)
    }

    fn same<T: PartialEq + Display>(what: impl Display, early: &T, late: &T) -> Self {
        Self::barred(what, format!("{early} → {late}"), "the same", early == late)
    }

    fn no_more(what: impl Display, early: usize, late: usize) -> Self {
        Self::barred(what, format!("{early} → {late}"), format!("≤ {early}"), late <= early)
    }

    /// Memory that may not grow by more than 1 % and so many kB.
    fn flat(what: impl Display, early: u64, late: u64, slack: u64) -> Self {
        let found = format!("{} → {} kB", number(early), number(late));
        let bar = early + early / 100 + slack;
        Self::barred(what, found, format!("≤ {} kB", number(bar)), late <= bar)
    }
}

impl Results {
    fn rows_of_reloads(&self) -> Vec<Row> {
        let Reloads { masters, workers, traffic, .. } = &self.reloads;
        let (early, late) = (early(masters), late(masters));
        let (bare_early, bare_late) = (own(self::early(&self.bare)), own(self::late(&self.bare)));
        // nginx itself may grow.
        let slack = SLACK_KB + bare_late.saturating_sub(bare_early);
        let (first, last) = ends(masters);
        let mut rows = vec![
            Row::told("requests answered meanwhile", number(traffic.answered)),
            Row::told("minutes", format!("{:.1}", self.reloads.seconds / 60.0)),
            Row::flat("master: own memory", own(early), own(late), slack),
            Row::told(
                "the same without the module, nobody visiting",
                format!("{} → {} kB", number(bare_early), number(bare_late)),
            ),
            Row::flat("master: resident", resident(early), resident(late), slack),
            Row::no_more("master: open files", first.open_files(), last.open_files()),
            Row::same("master: threads", &first.threads, &last.threads),
            Row::same("shared zones, kB", &zones(first), &zones(last)),
        ];
        let (early, late) = (self::early(workers).concat(), self::late(workers).concat());
        // What waits in their memory to be told is more where the machine has little time.
        let is_quiet = self.sizes.reloads >= QUIET_MACHINE;
        let slack = if is_quiet { slack } else { SLACK_WHILE_WARMING_UP_KB };
        rows.push(Row::flat("workers before a reload: own memory", own(&early), own(&late), slack));
        rows.push(Row::none("zombies", self.reloads.zombies));
        let longest = format!("{:.1} s", self.reloads.longest_end.as_secs_f64());
        rows.push(Row::told("longest until all old workers were gone", longest));
        rows.extend(rows_of_traffic(traffic, self.was_cut_short()));
        rows
    }

    fn rows_of_requests(&self) -> Vec<Row> {
        let Requests { legs, masters, traffic, tokens, .. } = &self.requests;
        // After a fifth the workers are warm.
        let early = legs[legs.len() / 5..legs.len() * 2 / 5].concat();
        let late = legs[legs.len() * 4 / 5..].concat();
        let slack = if self.sizes.requests < WARM { SLACK_WHILE_WARMING_UP_KB } else { SLACK_KB };
        let (first, last) = ends(masters);
        let most = |of: fn(&Process) -> usize, all: &[Process]| all.iter().map(of).max();
        let sockets = [&early, &late].map(|all| most(Process::sockets, all).unwrap_or_default());
        let others =
            [&early, &late].map(|all| most(Process::lasting_files, all).unwrap_or_default());
        let threads = [&early, &late].map(|all| most(|one| one.threads, all).unwrap_or_default());
        let size = last.zones.1;
        let of_zones = late.iter().map(|one| one.of_zones).max().unwrap_or_default();
        let mut rows = vec![
            Row::told("requests answered", number(traffic.answered)),
            Row::told("a second", number(traffic.answered as f64 / self.requests.seconds)),
            Row::flat("workers: own memory", own(&early), own(&late), slack),
            Row::flat("workers: resident", resident(&early), resident(&late), slack),
            Row::flat(
                "workers: proportional share",
                median(early.iter().map(|one| one.pss)),
                median(late.iter().map(|one| one.pss)),
                slack,
            ),
            Row::flat("master: own memory", first.own, last.own, SLACK_KB),
            Row::barred(
                "workers at rest: sockets, at most",
                format!("{} → {}", sockets[0], sockets[1]),
                format!("≤ {}", sockets[0] + SLACK_SOCKETS),
                sockets[1] <= sockets[0] + SLACK_SOCKETS,
            ),
            Row::barred(
                "workers at rest: other files, at most",
                format!("{} → {}", others[0], others[1]),
                format!("≤ {}", others[0] + SLACK_SOCKETS),
                others[1] <= others[0] + SLACK_SOCKETS,
            ),
            Row::barred(
                "workers at rest: threads, at most",
                format!("{} → {}", threads[0], threads[1]),
                format!("≤ {}", threads[0] + 2),
                threads[1] <= threads[0] + 2,
            ),
            Row::no_more("master: open files", first.open_files(), last.open_files()),
            Row::same("shared zones, kB", &zones(first), &zones(last)),
            Row::barred(
                "of the zones in memory, at most",
                format!("{} kB", number(of_zones)),
                format!("≤ {} kB", number(size)),
                of_zones <= size,
            ),
            Row::told("tokens that nobody had seen before", number(traffic.fresh)),
            Row::barred(
                "tokens in the smallest cache, at most",
                number(tokens.0),
                format!("≤ {}", number(tokens.1)),
                tokens.0 <= tokens.1,
            ),
            Row::none("workers that ended", usize::from(!self.requests.same_workers)),
        ];
        rows.extend(rows_of_traffic(traffic, false));
        rows
    }

    /// Whether a worker's time may have been over before its last post was answered. On a quiet machine that
    /// does not happen; beside a whole test suite it may, and then what was under way is kept and comes again,
    /// or the worker counts and says what is lost.
    fn was_cut_short(&self) -> bool {
        self.sizes.reloads < QUIET_MACHINE && self.reloads.longest_end >= TIME_TO_END
    }

    fn parts(&self) -> [(String, Vec<Row>); 2] {
        [
            (format!("{} reloads under load", number(self.sizes.reloads)), self.rows_of_reloads()),
            (format!("{} requests", number(self.sizes.requests)), self.rows_of_requests()),
        ]
    }

    /// What is written into the document.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "- {}\n- {}, {WORKERS} workers; {} backends of the Risk API that fail by turns\n\
             - load average before: {}, after: {}; the soak makes some 10 itself, the rest was others'\n",
            machine(),
            nginx_version(),
            FRAIL,
            self.sizes.load_at_start,
            load_average(),
        );
        for (title, rows) in self.parts() {
            text.push_str(&format!("\n| {title} | found | bar |\n|---|--:|--:|\n"));
            for Row { what, found, bar, is_kept } in rows {
                let missed = if is_kept { "" } else { " **broken**" };
                text.push_str(&format!("| {what} | {found} | {bar}{missed} |\n"));
            }
        }
        text
    }

    /// Into the file that `SOAK_OUT` names, in the place of what was there.
    pub(crate) fn write(&self) {
        let Some(path) = std::env::var_os("SOAK_OUT").map(PathBuf::from) else { return };
        let page = fs::read_to_string(&path).expect("the document is there");
        let (before, rest) = page.split_once(BEGIN).expect("its mark");
        let (_, after) = rest.split_once(END).expect("its other mark");
        let page = format!("{before}{BEGIN}\n{}\n{END}{after}", self.text());
        fs::write(path, page).expect("the document can be written");
    }

    /// What should not have been found.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (title, rows) in self.parts() {
            for Row { what, found, bar, .. } in rows.into_iter().filter(|row| !row.is_kept) {
                broken.push(format!("{title}: {what}: {found}, not {bar}"));
            }
        }
        for (traffic, was_cut_short) in
            [(&self.reloads.traffic, self.was_cut_short()), (&self.requests.traffic, false)]
        {
            broken.extend(traffic.first_wrong.iter().cloned());
            broken.extend(traffic.balance.strange.iter().cloned());
            broken.extend(traffic.further_complaints(was_cut_short).next().cloned());
        }
        broken
    }
}

fn rows_of_traffic(traffic: &Traffic, was_cut_short: bool) -> Vec<Row> {
    let may_lose = if was_cut_short { traffic.lost } else { 0 };
    let most = |what: &str, found: u64| {
        Row::barred(what, number(found), number(may_lose), found <= may_lose)
    };
    let at_the_end = |what: &str, found: usize| match was_cut_short {
        true => Row::told(what, number(found)),
        false => Row::none(what, found),
    };
    let Balance { owed, lost, twice, strange, .. } = &traffic.balance;
    vec![
        Row::none("answered wrongly, or not at all", traffic.wrong),
        Row::told("kept connections found closed, asked again", number(traffic.reconnected)),
        Row::told("visitors who left before the answer", number(traffic.left)),
        Row::told("reports that are due", number(*owed)),
        most("reports lost", *lost as u64),
        at_the_end("reports that came twice", *twice),
        Row::none("reports of nobody's", usize::from(strange.is_some())),
        most("lost, as the module counts", traffic.lost),
        at_the_end("posts that were cut off", traffic.cut_posts()),
        Row::none(
            "complaints of HUMAN's stand-in",
            traffic.further_complaints(was_cut_short).count(),
        ),
        Row::told("outages of the collector", number(traffic.outages)),
        Row::told("reports that waited on disk", number(traffic.spooled)),
        Row::told("files in the spool, at most", number(traffic.spool_files)),
        Row::none("files left in the spool", traffic.spool_left),
        Row::told("times a circuit breaker opened", number(traffic.openings)),
        Row::told("documents fetched", number(traffic.fetched)),
        Row::told("log rotations", number(traffic.rotations)),
    ]
}

/// The second tenth: after the first the process is warm.
fn early<T>(all: &[T]) -> &[T] {
    let tenth = (all.len() / 10).max(1);
    &all[tenth..(tenth * 2).min(all.len()).max(tenth + 1)]
}

fn late<T>(all: &[T]) -> &[T] {
    &all[all.len() - (all.len() / 10).max(1)..]
}

fn ends(all: &[Process]) -> (&Process, &Process) {
    (all.first().expect("some"), all.last().expect("some"))
}

fn own(all: &[Process]) -> u64 {
    median(all.iter().map(|one| one.own))
}

fn resident(all: &[Process]) -> u64 {
    median(all.iter().map(|one| one.rss))
}

fn zones(process: &Process) -> String {
    let (count, size) = process.zones;
    format!("{count} of {} together", number(size))
}

/// With commas between thousands.
fn number(value: impl Display) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at != 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    format!("{model}, {cores} cores, Linux {kernel}")
}

fn nginx_version() -> String {
    let output = Command::new(nginx::binary()).arg("-v").output().expect("nginx can be run");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.trim().trim_start_matches("nginx version: ").to_owned()
}
