//! A real Chromium without a window, driven through a pipe by the DevTools protocol.
//!
//! It has a profile of its own, resolves no name and uses no proxy: it reaches this machine only.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::{SOON, nginx};

/// A first start on a busy machine reads hundreds of megabytes from the disk.
const START: Duration = Duration::from_secs(60);

/// Between two looks at a page.
const PAUSE: Duration = Duration::from_millis(20);

/// What Chromium reads orders from and writes answers to.
const ORDERS: i32 = 3;
const ANSWERS: i32 = 4;

const FLAGS: &[&str] = &[
    "--headless=new",
    "--remote-debugging-pipe",
    // Tests run as root in containers, where Chromium's own sandbox does not work. The pages are ours.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-breakpad",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--window-size=1000,700",
    "--lang=en-US",
    "--password-store=basic",
    "--use-mock-keychain",
    // No page of a test is seen by anybody, and each of them is to run at full speed.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    // Nothing but what a test asks for goes over the wire, and that stays on this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.0/8 , EXCLUDE 127.*",
    "--no-proxy-server",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--disable-background-networking",
    "--disable-client-side-phishing-detection",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-field-trial-config",
    "--disable-search-engine-choice-screen",
    "--disable-sync",
    "--metrics-recording-only",
    "--disable-features=MediaRouter,DialMediaRouteProvider,OptimizationHints,Translate,\
     AutofillServerCommunication,CertificateTransparencyComponentUpdater,InterestFeedContentSuggestions",
];

/// A running browser with one open page; ended when dropped.
pub struct Browser {
    child: Child,
    dir: PathBuf,
    orders: RefCell<File>,
    messages: Receiver<Value>,
    next_id: Cell<u64>,
    /// The page's session: what orders to it name.
    session: RefCell<Option<String>>,
    events: RefCell<Vec<Value>>,
}

impl Browser {
    /// A browser with an empty page; `user_agent` in place of its own.
    pub fn start(user_agent: Option<&str>) -> Self {
        let dir = nginx::fresh_dir();
        let (child, orders, answers) = spawn(&dir, user_agent);
        let (send, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).unwrap_or_default();
                if send.send(message).is_err() {
                    return;
                }
            }
        });
        let browser = Self {
            child,
            dir,
            orders: RefCell::new(orders),
            messages,
            next_id: Cell::new(1),
            session: RefCell::default(),
            events: RefCell::default(),
        };
        browser.open_page();
        browser
    }

    fn open_page(&self) {
        let until = Instant::now() + START;
        let order = |method, parameters| {
            self.try_order(method, parameters, until).unwrap_or_else(|why| {
                panic!("the browser does not start: {method}: {why}\n{}", self.log())
            })
        };
        let page = order("Target.createTarget", json!({ "url": "about:blank" }));
        let target = &page["targetId"];
        let page = order("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        let session = page["sessionId"].as_str().expect("a session").to_owned();
        *self.session.borrow_mut() = Some(session);
        // From here on the page tells what it does.
        for domain in ["Page.enable", "Runtime.enable", "Network.enable"] {
            order(domain, json!({}));
        }
    }

    /// Opens `url` in the page; returns when it and what it refers to is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        let answer = self.order("Page.navigate", json!({ "url": url }));
        assert_eq!(answer.get("errorText"), None, "{url}: {answer}");
        self.wait_for("document.readyState === 'complete'");
    }

    /// Loads the page again; returns when that is done.
    #[track_caller]
    pub fn reload(&self) {
        let document = || {
            let tree = self.order("Page.getFrameTree", json!({}));
            tree["frameTree"]["frame"]["loaderId"].clone()
        };
        let old = document();
        self.order("Page.reload", json!({}));
        let until = Instant::now() + SOON;
        while document() == old {
            assert!(Instant::now() < until, "the page is not loaded again: {}", self.state());
            thread::sleep(PAUSE);
        }
        self.wait_for("document.readyState === 'complete'");
    }

    /// The value of a JavaScript expression in the page; promises are waited for.
    #[track_caller]
    pub fn evaluate(&self, js: &str) -> Value {
        self.try_evaluate(js).unwrap_or_else(|why| panic!("{js}: {why}\n{}", self.state()))
    }

    /// Returns once a JavaScript condition holds, in this page or in one that it leads to.
    #[track_caller]
    pub fn wait_for(&self, js: &str) {
        let until = Instant::now() + SOON;
        // While one page gives way to the next there is none to ask.
        while self.try_evaluate(&format!("!!({js})")) != Ok(Value::Bool(true)) {
            assert!(Instant::now() < until, "waited in vain: {js}\n{}", self.state());
            thread::sleep(PAUSE);
        }
    }

    /// Clicks with the mouse at the middle of the element, once it is there and nothing covers it.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let selector = json!(selector);
        self.wait_for(&format!(
            "(() => {{ const element = document.querySelector({selector}); if (!element) return false; \
             element.scrollIntoView({{ block: 'center', behavior: 'instant' }}); \
             const box = element.getBoundingClientRect(); \
             const there = [box.x + box.width / 2, box.y + box.height / 2]; \
             window.clickAt = there; return element.contains(document.elementFromPoint(...there)); }})()"
        ));
        let place = self.evaluate("window.clickAt");
        for (kind, buttons) in [("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            self.order(
                "Input.dispatchMouseEvent",
                json!({ "type": kind, "x": place[0], "y": place[1], "button": button,
                        "buttons": buttons, "clickCount": 1 }),
            );
        }
    }

    /// Writes what the page looks like to a PNG file, whose directory is made where it is missing.
    #[track_caller]
    pub fn screenshot(&self, file: &Path) {
        let answer = self.order("Page.captureScreenshot", json!({ "format": "png" }));
        let picture = BASE64.decode(answer["data"].as_str().expect("a picture")).expect("base64");
        assert!(picture.starts_with(b"\x89PNG"));
        fs::create_dir_all(file.parent().expect("a file is in a directory")).expect("a directory");
        fs::write(file, picture).expect("the picture can be written");
    }

    /// HTTP status of the page.
    #[track_caller]
    pub fn status(&self) -> u64 {
        let status = self.evaluate("performance.getEntriesByType('navigation')[0].responseStatus");
        status.as_u64().expect("a status")
    }

    /// Every URL that was asked for so far, by whatever page, in order.
    pub fn asked_for(&self) -> Vec<String> {
        let url = |event: Value| event["params"]["request"]["url"].as_str().map(str::to_owned);
        self.events("Network.requestWillBeSent").into_iter().filter_map(url).collect()
    }

    /// What scripts failed with so far and did not handle themselves.
    pub fn script_errors(&self) -> Vec<Value> {
        self.events("Runtime.exceptionThrown")
    }

    fn events(&self, method: &str) -> Vec<Value> {
        // An answer comes after all that happened before: so that is here, too.
        let _ = self.try_evaluate("0");
        let events = self.events.borrow();
        events.iter().filter(|event| event["method"] == method).cloned().collect()
    }

    fn try_evaluate(&self, js: &str) -> Result<Value, String> {
        let order = json!({ "expression": js, "returnByValue": true, "awaitPromise": true });
        let answer = self.try_order("Runtime.evaluate", order, Instant::now() + SOON)?;
        match answer.get("exceptionDetails") {
            Some(details) => Err(details.to_string()),
            None => Ok(answer["result"]["value"].clone()),
        }
    }

    #[track_caller]
    fn order(&self, method: &str, parameters: Value) -> Value {
        let answer = self.try_order(method, parameters, Instant::now() + SOON);
        answer.unwrap_or_else(|why| panic!("{method}: {why}\n{}", self.log()))
    }

    /// Gives an order and waits for its answer; whatever else is told meanwhile is kept.
    fn try_order(&self, method: &str, parameters: Value, until: Instant) -> Result<Value, String> {
        let id = self.next_id.replace(self.next_id.get() + 1);
        let mut order = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &*self.session.borrow() {
            order["sessionId"] = json!(session);
        }
        let order = format!("{order}\0");
        self.orders.borrow_mut().write_all(order.as_bytes()).map_err(|why| why.to_string())?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut message = self.messages.recv_timeout(left).map_err(|why| match why {
                RecvTimeoutError::Timeout => "no answer in time",
                RecvTimeoutError::Disconnected => "the browser has ended",
            })?;
            if message.get("method").is_some() {
                self.events.borrow_mut().push(message);
            } else if message["id"] == id {
                return match message.get("error") {
                    Some(why) => Err(why.to_string()),
                    None => Ok(message["result"].take()),
                };
            }
        }
    }

    /// What a failed test wants to know of the page.
    fn state(&self) -> String {
        let page = "[location.href, document.readyState, document.body && document.body.innerText]";
        let page = self.try_evaluate(page);
        format!("page: {page:?}\nscript errors: {:?}\n{}", self.script_errors(), self.log())
    }

    /// The end of what the browser itself has to say.
    fn log(&self) -> String {
        let log = fs::read(self.dir.join("chromium.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned();
        format!("--- log of the browser\n{log}")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let children = descendants(self.child.id());
        // Asked to, it ends its children itself.
        *self.session.borrow_mut() = None;
        let until = Instant::now() + Duration::from_secs(5);
        if self.try_order("Browser.close", json!({}), until).is_ok() {
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
        }
        let group = libc::pid_t::try_from(self.child.id()).expect("a pid");
        // SAFETY: sends a signal to the group that was made for this browser. There may be nobody
        // left in it; while there is, nobody else can have its number.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        let _ = self.child.wait();
        // Some of its children leave the group.
        for child in children.into_iter().filter(|child| child.lives()) {
            // SAFETY: sends a signal to a process that this browser started.
            unsafe { libc::kill(child.pid, libc::SIGKILL) };
        }
        // A process that is just ending may still write.
        let until = Instant::now() + SOON;
        while fs::remove_dir_all(&self.dir).is_err() && self.dir.exists() && Instant::now() < until
        {
            thread::sleep(PAUSE);
        }
    }
}

/// Starts the browser; returns it with the pipes to it and from it.
fn spawn(dir: &Path, user_agent: Option<&str>) -> (Child, File, File) {
    let program = std::env::var_os("CHROMIUM").unwrap_or_else(|| "chromium".into());
    let (their_orders, orders) = pipe();
    let (answers, their_answers) = pipe();
    // The numbers the browser knows may be those of these pipes: out of the way.
    let (read_from, write_to) = (move_up(&their_orders), move_up(&their_answers));
    let log = File::create(dir.join("chromium.log")).expect("a log can be written");

    let mut command = Command::new(&program);
    command.args(FLAGS);
    let mut profile = OsString::from("--user-data-dir=");
    profile.push(dir.join("profile"));
    command.arg(profile);
    if let Some(user_agent) = user_agent {
        command.arg(format!("--user-agent={user_agent}"));
    }
    // Whatever it keeps beside its profile stays in the directory, too.
    fs::create_dir(dir.join("tmp")).expect("a directory can be made");
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
        command.env(name, dir);
    }
    command.env("TMPDIR", dir.join("tmp"));
    command.env("DBUS_SESSION_BUS_ADDRESS", "disabled:");
    command.arg("about:blank").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.process_group(0);
    let (from, to) = (read_from.as_raw_fd(), write_to.as_raw_fd());
    let hand_over = move || {
        for (old, new) in [(from, ORDERS), (to, ANSWERS)] {
            // SAFETY: the pipes are open, and their new numbers are not used before the program runs.
            if unsafe { libc::dup2(old, new) } == -1 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: `hand_over` calls nothing but dup2, which may be called between fork and exec.
    unsafe { command.pre_exec(hand_over) };
    let child = command.spawn().unwrap_or_else(|why| {
        panic!(
            "{} cannot be run: {why}; `make deps` installs it, CHROMIUM names another",
            program.display()
        )
    });
    (child, File::from(orders), File::from(answers))
}

/// A pipe that no other program inherits: its end to read from and its end to write to.
fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for both.
    let rc = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    assert_eq!(rc, 0, "a pipe can be made");
    // SAFETY: just made, and nobody else's.
    let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    (own(ends[0]), own(ends[1]))
}

/// The same end under a number that is none of those the browser knows.
fn move_up(end: &OwnedFd) -> OwnedFd {
    // SAFETY: duplicates a descriptor that is open.
    let fd = unsafe { libc::fcntl(end.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ANSWERS + 1) };
    assert!(fd > ANSWERS, "a pipe can be duplicated");
    // SAFETY: just made, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A process, told from another that gets its pid later by when it began.
struct Process {
    pid: libc::pid_t,
    began: String,
}

impl Process {
    /// The process and its parent's pid, as long as there is such a process.
    fn look(pid: libc::pid_t) -> Option<(Self, libc::pid_t)> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before the last bracket may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if fields.first() == Some(&"Z") {
            return None;
        }
        Some((Self { pid, began: (*fields.get(19)?).to_owned() }, fields.get(1)?.parse().ok()?))
    }

    fn lives(&self) -> bool {
        Self::look(self.pid).is_some_and(|(now, _)| now.began == self.began)
    }
}

/// All processes that descend from `root`.
fn descendants(root: u32) -> Vec<Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut others: Vec<(Process, libc::pid_t)> = pids.filter_map(Process::look).collect();
    let mut found = Vec::new();
    let mut parents = vec![libc::pid_t::try_from(root).expect("a pid")];
    while let Some(parent) = parents.pop() {
        let (children, rest) = others.into_iter().partition(|(_, its)| *its == parent);
        others = rest;
        let children: Vec<(Process, libc::pid_t)> = children;
        parents.extend(children.iter().map(|(child, _)| child.pid));
        found.extend(children.into_iter().map(|(child, _)| child));
    }
    found
}
