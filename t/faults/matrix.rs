//! The matrix: what a row states, how it is tried, and the table of all of them.
//!
//! A row's cells are made of what it asserts, so that nothing stands in the table that was not seen.

use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::load::{Answer, Class, Load, Manner, Owed, PATIENCE};
use crate::site::{Plan, Site};
use crate::support::{markdown, nginx};

/// Rows are tried so many at a time: most of their time they wait.
const AT_A_TIME: usize = 6;

const HEAD: [&str; 4] =
    ["fault", "what the visitor gets", "what the operator sees", "recovered by itself"];

type Step = Box<dyn Fn(&Site, &Load) + Send + Sync>;
type Condition = Box<dyn Fn(&Site) -> bool + Send + Sync>;

/// One fault, and what is asserted about it.
pub(crate) struct Row {
    name: String,
    fault: String,
    plan: Box<dyn Fn(&mut Plan) + Send + Sync>,
    has_node: bool,
    sites: usize,
    manner: Manner,
    is_at_start: bool,
    strike: Step,
    is_struck: Condition,
    during: Vec<(Class, Vec<Answer>)>,
    signs: Vec<Sign>,
    lines: Lines,
    mend: Step,
    is_mended: Condition,
    recovery: String,
    /// Connections that may end without an answer.
    ended: usize,
    needs_loaded: bool,
    in_the_end: Condition,
}

impl Row {
    /// `name` is the test's, `fault` stands in the table.
    pub(crate) fn new(name: impl Into<String>, fault: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            fault: fault.into(),
            plan: Box::new(|_| ()),
            has_node: false,
            sites: 1,
            manner: Manner::default(),
            is_at_start: false,
            strike: Box::new(|_, _| ()),
            is_struck: Box::new(|_| true),
            during: Vec::new(),
            signs: Vec::new(),
            lines: Lines::InAll(8),
            mend: Box::new(|_, _| ()),
            is_mended: Box::new(|_| true),
            recovery: "yes".to_owned(),
            ended: 0,
            needs_loaded: false,
            in_the_end: Box::new(|_| true),
        }
    }

    /// Another name and other words than those it was made with.
    pub(crate) fn called(mut self, name: impl Into<String>, fault: impl Into<String>) -> Self {
        (self.name, self.fault) = (name.into(), fault.into());
        self
    }

    /// Changes the site before it starts.
    pub(crate) fn plan(mut self, plan: impl Fn(&mut Plan) + Send + Sync + 'static) -> Self {
        let before = self.plan;
        self.plan = Box::new(move |site| {
            before(site);
            plan(site);
        });
        self
    }

    /// There is a traffic-analysis node before the origin.
    pub(crate) fn with_node(mut self) -> Self {
        self.has_node = true;
        self.plan(Plan::with_node)
    }

    /// A second application of the same nginx is visited, too; [`during`](Self::during) is about the first.
    pub(crate) fn with_other_application(mut self) -> Self {
        self.sites = 2;
        self.plan(Plan::with_other)
    }

    /// Visitors come over HTTP/2.
    pub(crate) fn over_http2(mut self) -> Self {
        self.manner.http2 = true;
        self.plan(|plan| plan.http2 = true)
    }

    /// Connections that visitors keep may end: they ask once more on a new one.
    pub(crate) fn connections_may_end(mut self) -> Self {
        self.manner.reconnects = true;
        self
    }

    /// The fault is there when nginx starts.
    pub(crate) fn at_start(mut self) -> Self {
        self.is_at_start = true;
        self
    }

    /// The fault happens.
    pub(crate) fn strike(mut self, strike: impl Fn(&Site, &Load) + Send + Sync + 'static) -> Self {
        self.strike = Box::new(strike);
        self
    }

    /// The fault has had its effect when this holds; visitors are owed [`during`](Self::during) from then on.
    pub(crate) fn struck_when(
        mut self,
        holds: impl Fn(&Site) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.is_struck = Box::new(holds);
        self
    }

    /// What these visitors get during the fault, one of `answers`; all others get what they always get.
    pub(crate) fn during(mut self, classes: &[Class], answers: &[Answer]) -> Self {
        self.during.extend(classes.iter().map(|class| (*class, answers.to_vec())));
        self
    }

    /// These visitors get what they always get, or one of `answers`.
    pub(crate) fn or(mut self, classes: &[Class], answers: &[Answer]) -> Self {
        let both = |class: &Class| (*class, [&[class.normal()], answers].concat());
        self.during.extend(classes.iter().map(both));
        self
    }

    /// So many connections, at most, end without an answer: those that were open on a process that died.
    /// Visitors whose kept connection ended before anything of an answer had come ask once more.
    pub(crate) fn ended_at_most(mut self, ended: usize) -> Self {
        self.ended = ended;
        self.connections_may_end().or(&Class::OF_HUMAN, &[Answer::Ended])
    }

    /// It is tried only where the module is a file of its own, whose allocations can be told from nginx's.
    pub(crate) fn where_the_module_is_loaded(mut self) -> Self {
        self.needs_loaded = true;
        self
    }

    /// Holds, at last, when all visitors have gone.
    pub(crate) fn in_the_end(
        mut self,
        holds: impl Fn(&Site) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.in_the_end = Box::new(holds);
        self
    }

    /// What tells the operator, during the fault.
    pub(crate) fn sign(mut self, sign: Sign) -> Self {
        self.signs.push(sign);
        self
    }

    /// At most so many lines of level warn and above (otherwise 8) stand in the error log in the end,
    /// however many visitors there were.
    pub(crate) fn lines(mut self, lines: usize) -> Self {
        self.lines = Lines::InAll(lines);
        self
    }

    /// As [`lines`](Self::lines), in any second, where that is what bounds them.
    pub(crate) fn lines_a_second(mut self, lines: usize) -> Self {
        self.lines = Lines::ASecond(lines);
        self
    }

    /// At most so many of them are the module's.
    pub(crate) fn own_lines(mut self, lines: usize) -> Self {
        self.lines = Lines::Own(lines);
        self
    }

    /// The fault ends; nothing else is done to nginx.
    pub(crate) fn mend(mut self, mend: impl Fn(&Site, &Load) + Send + Sync + 'static) -> Self {
        self.mend = Box::new(mend);
        self
    }

    /// All is well again when this holds and visitors get what they always get.
    pub(crate) fn mended_when(
        mut self,
        holds: impl Fn(&Site) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.is_mended = Box::new(holds);
        self
    }

    /// What the last column says, otherwise `yes`: that visitors get what they always get after
    /// [`mend`](Self::mend), which does nothing but end the fault, is asserted for every row.
    pub(crate) fn recovery(mut self, words: impl Into<String>) -> Self {
        self.recovery = words.into();
        self
    }

    fn normally(&self) -> Owed {
        let mut classes = Class::OF_HUMAN.to_vec();
        classes.extend(self.has_node.then_some(Class::Attack));
        Owed::normally(self.sites, &classes)
    }

    fn owed_during(&self) -> Owed {
        let mut owed = self.normally();
        self.during.iter().for_each(|(class, answers)| owed.set(0, *class, answers));
        owed
    }

    fn cells(&self) -> [String; 4] {
        let mut operator: Vec<String> = self.signs.iter().map(Sign::to_string).collect();
        operator.push(self.lines.to_string());
        let mut owed = self.owed_during();
        if self.ended != 0 {
            // Those are counted.
            for (class, answers) in &self.during {
                let answers = answers.iter().copied().filter(|answer| *answer != Answer::Ended);
                owed.set(0, *class, &answers.collect::<Vec<_>>());
            }
        }
        let mut visitor = owed.beside(&self.normally());
        if self.ended != 0 {
            let _ = write!(visitor, "; at most {} connections end without an answer", self.ended);
        }
        [self.fault.clone(), visitor, operator.join("; "), self.recovery.clone()]
    }

    /// Tries it.
    fn run(&self) {
        let mut plan = Plan::default();
        (self.plan)(&mut plan);
        let site = plan.start();
        let (normally, during) = (self.normally(), self.owed_during());
        let at_first = if self.is_at_start { &during } else { &normally };
        let load = Load::start(site.addresses(), self.manner, at_first.clone());
        let before: Vec<f64> = self.signs.iter().map(|sign| sign.measure(&site)).collect();
        if !self.is_at_start {
            load.turn(&during, || (self.strike)(&site, &load), || (self.is_struck)(&site));
        }
        for (sign, before) in self.signs.iter().zip(&before) {
            load.wait_for(&sign.to_string(), || sign.is_seen(&site, *before));
        }
        load.turn(&normally, || (self.mend)(&site, &load), || (self.is_mended)(&site));
        let ended = load.count(Answer::Ended);
        assert!(ended <= self.ended || self.ended == 0, "{ended} connections ended");
        let requests = load.finish();
        let until = Instant::now() + PATIENCE;
        while !(self.in_the_end)(&site) {
            assert!(Instant::now() < until, "waited in vain for what holds in the end");
            thread::sleep(Duration::from_millis(20));
        }
        site.assert_no_complaints();
        let lines = site.troubles();
        assert!(
            self.lines.hold(&lines),
            "{} lines about {requests} requests:\n{}",
            lines.len(),
            lines.join("\n")
        );
    }
}

/// How many lines there may be in the error log.
enum Lines {
    InAll(usize),
    ASecond(usize),
    /// Those of the module.
    Own(usize),
}

impl Lines {
    fn hold(&self, lines: &[String]) -> bool {
        match self {
            Self::InAll(most) => lines.len() <= *most,
            Self::Own(most) => lines.iter().filter(|line| line.contains(" px: ")).count() <= *most,
            Self::ASecond(most) => {
                // The time is what a line begins with.
                lines
                    .chunk_by(|one, other| one.get(..19) == other.get(..19))
                    .all(|of_second| of_second.len() <= *most)
            }
        }
    }
}

impl std::fmt::Display for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InAll(0) => write!(f, "no line in the error log"),
            Self::InAll(most) => write!(f, "at most {most} lines in the error log"),
            Self::Own(most) => {
                write!(f, "at most {most} lines of the module's in the error log")
            }
            Self::ASecond(most) => write!(f, "at most {most} lines a second in the error log"),
        }
    }
}

/// What an operator can see.
pub(crate) enum Sign {
    /// A line of the error log holds this.
    Line(&'static str),
    /// This metric, of these labels, grows.
    Grows(&'static str, &'static [(&'static str, &'static str)]),
    /// This metric has this value.
    Is(&'static str, f64),
    /// This variable has this value in the access log.
    Logged(&'static str, &'static str),
    /// Anything else.
    Other(&'static str, Condition),
}

impl Sign {
    /// No report is lost, unless an old worker, which waits five seconds for the collector, had no more
    /// time: that is the machine's fault.
    pub(crate) fn nothing_lost() -> Self {
        Self::other("no report is lost but by a worker that had to end", |site| {
            site.metric("px_activities_lost_total", &[]) == 0.0 || site.has_lost_in_the_end()
        })
    }

    pub(crate) fn other(
        words: &'static str,
        holds: impl Fn(&Site) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::Other(words, Box::new(holds))
    }

    fn measure(&self, site: &Site) -> f64 {
        match self {
            Self::Grows(metric, labels) => site.metric(metric, labels),
            _ => 0.0,
        }
    }

    fn is_seen(&self, site: &Site, before: f64) -> bool {
        match self {
            Self::Line(text) => site.nginx.error_log().contains(text),
            Self::Grows(..) => self.measure(site) > before,
            Self::Is(metric, value) => site.metric(metric, &[]) == *value,
            Self::Logged(variable, value) => {
                let word = format!(" {}={value}", Self::in_log(variable));
                site.access_log()
                    .iter()
                    .any(|line| format!("{line} ").contains(&format!("{word} ")))
            }
            Self::Other(_, holds) => holds(site),
        }
    }

    /// What the access log calls a variable.
    fn in_log(variable: &str) -> &'static str {
        match variable {
            "$px_verdict" => "verdict",
            "$px_pass_reason" => "pass",
            "$px_block_reason" => "block",
            "$px_s2s_error_reason" => "error",
            "$px_s2s_error_http_status" => "http",
            "$px_wallarm_status" => "node",
            other => panic!("{other} is not logged"),
        }
    }
}

impl std::fmt::Display for Sign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(text) => write!(f, "`{text}`"),
            Self::Grows(metric, labels) => {
                let labels: Vec<String> =
                    labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
                match labels.is_empty() {
                    true => write!(f, "`{metric}` grows"),
                    false => write!(f, "`{metric}{{{}}}` grows", labels.join(",")),
                }
            }
            Self::Is(metric, value) => write!(f, "`{metric}` is {value}"),
            Self::Logged(variable, value) => write!(f, "`{variable}` is `{value}`"),
            Self::Other(words, _) => f.write_str(words),
        }
    }
}

/// Tries the rows that the command line names, and prints the table of those that hold.
pub(crate) fn run(rows: Vec<Row>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let stated = table(rows.iter().map(Row::cells));
    let held: Arc<Mutex<Vec<Option<[String; 4]>>>> = Arc::new(Mutex::new(vec![None; rows.len()]));
    let mut trials = vec![Trial::test("the_document_shows_this_table", move || {
        document_shows(&stated).map_err(Failed::from)
    })];
    for (at, row) in rows.into_iter().enumerate() {
        let held = Arc::clone(&held);
        let is_left_out = row.needs_loaded && nginx::load_module().is_empty();
        let trial = Trial::test(row.name.clone(), move || {
            row.run();
            held.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(row.cells());
            Ok(())
        });
        trials.push(trial.with_ignored_flag(is_left_out));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let held = held.lock().unwrap_or_else(PoisonError::into_inner);
    if held.iter().any(Option::is_some) {
        println!("{}", table(held.iter().flatten().cloned()));
    }
    conclusion.exit_code()
}

/// A Markdown table.
fn table(rows: impl Iterator<Item = [String; 4]>) -> String {
    let mut text = format!("| {} |\n|---|---|---|---|\n", HEAD.join(" | "));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
    text
}

/// Compares the table with the one in the document; writes it there where that is wanted.
fn document_shows(stated: &str) -> Result<(), String> {
    let path = markdown::repository().join("docs/reliability.md");
    let text = fs::read_to_string(&path).map_err(|err| err.to_string())?;
    let head = format!("| {} |\n", HEAD.join(" | "));
    let begin = text.find(&head).ok_or("the document has no table of faults")?;
    let end = text[begin..].find("\n\n").map_or(text.len(), |end| begin + end + 1);
    if &text[begin..end] == stated {
        return Ok(());
    }
    if std::env::var_os("PX_WRITE_DOCS").is_some() {
        let new = format!("{}{stated}{}", &text[..begin], &text[end..]);
        return fs::write(&path, new).map_err(|err| err.to_string());
    }
    Err(format!("{} does not show this table:\n{stated}", path.display()))
}
