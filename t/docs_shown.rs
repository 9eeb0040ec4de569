//! Tests for the px module: what the documents tell a reader to type does what they show.
//!
//! A session is a shell in the root of the repository. `sh` blocks are typed into it one after the
//! other; a `text` block that follows is what they print, but for ids, times and ports, and `…`. What
//! an `sh background` block starts goes on running, as in another terminal; `text background` is what it
//! has printed since. `PX_WRITE_DOCS=1` writes what was printed into the documents where it differs.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use regex::Regex;
use support::markdown::{Block, blocks, documents, parse, read, repository};
use support::{SOON, wait_until};

/// Addresses and directory of the quick start; a session has its own in their place.
const NGINX: &str = "127.0.0.1:8080";
const SHOP: &str = "127.0.0.1:8081";
const SANDBOX: &str = "127.0.0.1:8600";
/// Where some features have an origin that logs what it is told.
const SECOND_SHOP: &str = "127.0.0.1:8082";
const PLACE: &str = "/tmp/px-quick-start";
const CONF: &str = "nginx/quick-start/nginx.conf";

/// The directory with the tools, as just built.
fn tools() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = std::env::current_exe().expect("this program has a path");
        let dir = program.parent().and_then(Path::parent).expect("a target directory").to_owned();
        // What cargo tells this program about itself would have build scripts run anew.
        let is_of_cargo = |name: &str| {
            ["LD_LIBRARY_PATH", "OUT_DIR"].contains(&name)
                || name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
        };
        for what in [&["-p", "px-sandbox", "-p", "pxctl"][..], &["--example", "demo"]] {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--locked", "--target-dir"]);
            cargo.arg(dir.parent().expect("a target directory")).args(what);
            for (name, _) in std::env::vars().filter(|(name, _)| is_of_cargo(name)) {
                cargo.env_remove(name);
            }
            let status = cargo.current_dir(repository()).status().expect("cargo can be run");
            assert!(status.success(), "{what:?} is not built");
        }
        dir
    })
}

/// A shell, and what runs beside it.
struct Session {
    dir: PathBuf,
    /// What the documents call it, and what it is here.
    places: Vec<(String, String)>,
    shell: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    background: Vec<(Child, PathBuf)>,
    /// How much of what the background prints has been shown.
    shown: usize,
}

impl Session {
    fn start() -> Self {
        let dir = support::nginx::fresh_dir();
        let bin = dir.join("bin");
        fs::create_dir_all(&bin).expect("a directory can be made");
        let free = || support::nginx::free_addr().to_string();
        let place = dir.join("place");
        let conf = dir.join("nginx.conf");
        let places = vec![
            (NGINX.to_owned(), free()),
            (SHOP.to_owned(), free()),
            (SANDBOX.to_owned(), free()),
            (SECOND_SHOP.to_owned(), free()),
            (PLACE.to_owned(), place.display().to_string()),
            (CONF.to_owned(), conf.display().to_string()),
        ];
        let sandbox: SocketAddr = places[2].1.parse().expect("an address");
        let tools = tools().display();
        // Who is not root cannot write to the log that was compiled in; older versions do without.
        let help = Command::new(support::nginx::binary()).arg("-h").output();
        let help = help.expect("nginx can be run").stderr;
        let log =
            if String::from_utf8_lossy(&help).contains("-e filename") { "-e stderr" } else { "" };
        // What takes minutes has been done already, with the same result.
        let programs = [
            (
                "make",
                format!(
                    "case \"$*\" in\n\
                     build) echo 'built target/release/libngx_http_px_module.so';;\n\
                     demo) exec {tools}/examples/demo;;\n\
                     *) echo \"make $*: not in this test\"; exit 1;;\nesac\n"
                ),
            ),
            (
                "cargo",
                format!(
                    "case \"$*\" in\n\
                     'run -q -p px-sandbox -- serve') exec {tools}/px-sandbox serve --listen {} --port {};;\n\
                     'run -q -p pxctl -- '*) shift 5; exec {tools}/pxctl \"$@\";;\n\
                     *) echo \"cargo $*: not in this test\"; exit 1;;\nesac\n",
                    sandbox.ip(),
                    sandbox.port()
                ),
            ),
            ("nginx", format!("exec {} {log} \"$@\"\n", support::nginx::binary().display())),
        ];
        for (name, script) in programs {
            let file = bin.join(name);
            fs::write(&file, format!("#!/bin/bash\n{script}")).expect("a file can be written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        let mut path = bin.into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut shell = Command::new("bash")
            .env("PATH", &path)
            .current_dir(repository())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash can be run");
        let mut input = shell.stdin.take().expect("a pipe");
        let output = BufReader::new(shell.stdout.take().expect("a pipe"));
        input.write_all(b"exec 2>&1\n").expect("bash reads");
        let session = Self { dir, places, shell, input, output, background: Vec::new(), shown: 0 };
        let text = session.here(&read(CONF));
        let line = "load_module target/release/libngx_http_px_module.so;";
        assert!(text.contains(line), "{CONF} has no {line}");
        let text = text.replace(line, &support::nginx::load_module());
        fs::write(conf, text).expect("a file can be written");
        session
    }

    /// A text of the documents, with what is in its place here.
    fn here(&self, text: &str) -> String {
        self.places.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
    }

    fn there(&self, text: &str) -> String {
        self.places.iter().fold(text.to_owned(), |text, (there, here)| text.replace(here, there))
    }

    fn place(&self) -> PathBuf {
        self.dir.join("place")
    }

    /// Types the lines, and gives what they print.
    fn type_in(&mut self, text: &str) -> String {
        let text = self.here(text);
        let end = "that was all of it:";
        write!(self.input, "{}\necho \"{end} $?\"\n", text.trim_end()).expect("bash reads");
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            let length = self.output.read_line(&mut line).expect("bash prints text");
            assert!(length > 0, "bash ended in {text}\n{printed}");
            if let Some((before, _)) = line.split_once(end) {
                printed.push_str(before);
                return self.there(&printed);
            }
            printed.push_str(&line);
        }
    }

    fn run_in_background(&mut self, text: &str) {
        let file = self.dir.join(format!("background-{}", self.background.len()));
        let log = fs::File::create(&file).expect("a file can be made");
        let path = self.dir.join("bin");
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([path].into_iter().chain(std::env::split_paths(&others)));
        let child = Command::new("bash")
            .arg("-c")
            .arg(format!("exec {}", self.here(text).trim()))
            .env("PATH", path.expect("a path"))
            .current_dir(repository())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("bash can be run");
        self.background.push((child, file));
        self.shown = 0;
    }

    /// What the last background has printed and was not shown yet.
    fn background(&self) -> String {
        let (_, file) = self.background.last().expect("something runs");
        let printed = fs::read_to_string(file).expect("a log");
        self.there(&printed[self.shown..])
    }

    fn master(&self) -> Option<u32> {
        fs::read_to_string(self.place().join("nginx.pid")).ok()?.trim().parse().ok()
    }

    fn workers(&self) -> Vec<u32> {
        let Some(master) = self.master() else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Does what a block says, and waits for what takes effect a moment later, as a reader does.
    fn type_block(&mut self, text: &str, expected: Option<&str>) -> String {
        let workers = self.workers();
        // What only looks may look again.
        let (before, look) = match text.trim_end().rsplit_once('\n') {
            Some((before, last)) if is_look(last) => (before, Some(last)),
            None if is_look(text) => ("", Some(text.trim_end())),
            _ => (text, None),
        };
        let printed = if before.is_empty() { String::new() } else { self.type_in(before) };
        if before.contains("-s reload") {
            wait_until("new workers alone", || {
                let now = self.workers();
                !now.is_empty() && now.iter().all(|pid| !workers.contains(pid))
            });
        }
        let Some(look) = look else { return printed };
        let until = Instant::now() + SOON;
        loop {
            let looked = self.type_in(look);
            let seen = format!("{printed}{looked}");
            let is_as_shown = match expected {
                Some(expected) if !writes() => is_as_shown(&seen, expected),
                _ => !looked.is_empty(),
            };
            if is_as_shown || Instant::now() > until {
                return seen;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(master) = self.master() {
            support::nginx::send_signal(master, libc::SIGTERM);
            let until = Instant::now() + SOON;
            while self.master().is_some() && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
        }
        for (child, _) in &mut self.background {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.place().join("error.log"));
            eprintln!("--- error log\n{}", log.unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Whether a line only looks at logs, so that it can be typed again.
fn is_look(line: &str) -> bool {
    line.starts_with("tail ") || line.starts_with("grep ") || line.contains(" | grep ")
}

fn writes() -> bool {
    std::env::var_os("PX_WRITE_DOCS").is_some()
}

/// A line without what differs from run to run.
fn masked(line: &str) -> String {
    static MASKS: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    let masks = MASKS.get_or_init(|| {
        [
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uuid>"),
            (r"127\.\d+\.\d+\.\d+:\d+", "<address>"),
            (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "<date>"),
            (r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d", "<time>"),
            (r"\d+#\d+:( \*\d+)?", "<process>"),
            (r"\b1[5-9]\d{11}\b", "<milliseconds>"),
            (r"nginx/1\.\d+\.\d+", "<nginx>"),
            (r"answered in \d+ ms", "<duration>"),
            (r"\brtt=\d+", "<rtt>"),
            (r"^#\d+ ", "<number> "),
        ]
        .into_iter()
        .map(|(pattern, word)| (Regex::new(pattern).expect("an expression"), word))
        .collect()
    });
    masks.iter().fold(line.trim_end().to_owned(), |line, (mask, word)| {
        mask.replace_all(&line, *word).into_owned()
    })
}

/// Whether a text is what a document shows, where a line `…` stands for any number of lines, and one
/// that ends with it for any rest.
fn is_as_shown(printed: &str, shown: &str) -> bool {
    fn fits(printed: &[String], shown: &[String]) -> bool {
        match shown.split_first() {
            None => printed.is_empty(),
            Some((line, rest)) if line == "…" => {
                (0..=printed.len()).any(|skipped| fits(&printed[skipped..], rest))
            }
            Some((line, rest)) => printed.split_first().is_some_and(|(first, others)| {
                let fits_line = line
                    .strip_suffix('…')
                    .map_or(first == line, |beginning| first.starts_with(beginning));
                fits_line && fits(others, rest)
            }),
        }
    }
    let lines = |text: &str| text.trim_end().lines().map(masked).collect::<Vec<_>>();
    fits(&lines(printed), &lines(shown))
}

/// Plays the blocks; what was not as shown, by the line of the `text` block.
fn play(session: &mut Session, blocks: &[Block]) -> BTreeMap<usize, String> {
    let mut wrong = BTreeMap::new();
    let mut at = 0;
    while let Some(block) = blocks.get(at) {
        at += 1;
        let shown = blocks.get(at).filter(|next| next.info == "text");
        match block.info.as_str() {
            "sh" => {
                let printed =
                    session.type_block(&block.text, shown.map(|shown| shown.text.as_str()));
                let expected = shown.map_or("", |shown| shown.text.as_str());
                if !is_as_shown(&printed, expected) {
                    let line = shown.unwrap_or(block).line;
                    wrong.insert(line, printed);
                }
                at += usize::from(shown.is_some());
            }
            "sh background" => {
                session.run_in_background(&block.text);
                let shown = shown.expect("what it prints follows");
                compare_background(session, shown, &mut wrong);
                at += 1;
            }
            "text background" => compare_background(session, block, &mut wrong),
            other => panic!("{}: {other:?} is not played", block.place()),
        }
    }
    wrong
}

fn compare_background(session: &mut Session, shown: &Block, wrong: &mut BTreeMap<usize, String>) {
    let until = Instant::now() + if writes() { Duration::from_secs(3) } else { SOON };
    while !is_as_shown(&session.background(), &shown.text) {
        if Instant::now() > until {
            wrong.insert(shown.line, session.background());
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let (_, file) = session.background.last().expect("something runs");
    session.shown = fs::read_to_string(file).expect("a log").len();
}

/// Fails with what was not as shown, or writes it into the document where that is asked for.
fn settle(document: &str, wrong: &BTreeMap<usize, String>) {
    if writes() && !wrong.is_empty() {
        let text = read(document);
        let mut lines = text.lines().enumerate();
        let mut written = String::new();
        while let Some((at, line)) = lines.next() {
            written.push_str(line);
            written.push('\n');
            if let Some(printed) = wrong.get(&(at + 1)).filter(|_| line.starts_with("```text")) {
                let end = lines.by_ref().find(|(_, line)| *line == "```");
                assert!(end.is_some(), "{document}:{}", at + 1);
                written.push_str(&format!("{}\n```\n", printed.trim_end()));
            }
        }
        fs::write(repository().join(document), written).expect("the document can be written");
    }
    let report: String = wrong
        .iter()
        .map(|(line, printed)| format!("{document}:{line}: printed\n{printed}\n"))
        .collect();
    assert!(wrong.is_empty(), "{report}");
}

#[test]
fn the_quick_start_goes_as_told() {
    let document = "docs/quick-start.md";
    let all = blocks(document);
    // With an account: the sandbox is not HUMAN.
    let played = all.into_iter().take_while(|block| block.heading != "With an account");
    let (confs, played): (Vec<Block>, Vec<Block>) =
        played.partition(|block| block.language() == "nginx");
    let whole = read(CONF);
    for line in confs.iter().flat_map(|block| block.text.lines()).map(str::trim) {
        assert!(whole.lines().any(|known| known.trim() == line), "{line:?} is not in {CONF}");
    }
    assert!(confs.len() == 1 && confs[0].text.contains("px_enabled"), "{confs:?}");
    assert!(played.iter().filter(|block| block.info == "sh").count() > 5);
    let mut session = Session::start();
    let wrong = play(&mut session, &played);
    settle(document, &wrong);
    wait_until("nginx to be gone", || session.master().is_none());
}

/// One section of `docs/features.md`: nginx and the sandbox of the quick start, with its lines.
fn play_feature(prelude: &str, section: &[Block]) -> BTreeMap<usize, String> {
    let mut session = Session::start();
    fs::create_dir_all(session.place()).expect("a directory can be made");
    session.run_in_background("cargo run -q -p px-sandbox -- serve");
    wait_until("the sandbox", || session.background().contains("Overview"));
    assert_eq!(session.type_in(prelude), "");
    let (confs, typed): (Vec<Block>, Vec<Block>) =
        section.iter().cloned().partition(|block| block.language() == "nginx");
    for conf in confs {
        let name = conf.info.replace("nginx ", "");
        assert!(["http", "server"].contains(&name.as_str()), "{}: {name}", conf.place());
        let file = session.place().join(format!("{name}.conf"));
        fs::write(file, session.here(&conf.text)).expect("a file can be written");
    }
    assert_eq!(session.type_in(&format!("nginx -p \"$PWD\" -c {CONF}")), "", "{section:?}");
    wait_until("a worker", || session.workers().len() == 1);
    play(&mut session, &typed)
}

#[test]
fn every_feature_shows_what_is_told() {
    let document = "docs/features.md";
    let mut sections: Vec<Vec<Block>> = Vec::new();
    for block in blocks(document) {
        match sections.last_mut() {
            Some(section) if section[0].heading == block.heading => section.push(block),
            _ => sections.push(vec![block]),
        }
    }
    let prelude = sections.remove(0);
    assert_eq!((prelude.len(), prelude[0].heading.as_str()), (1, "To follow along"));
    assert!(sections.len() > 20, "{} sections", sections.len());
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(section) = sections.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = play_feature(&prelude[0].text, section);
                    wrong.lock().expect("nobody panics with it").extend(found);
                }
            });
        }
    });
    settle(document, &wrong.into_inner().expect("nobody panics with it"));
}

/// A line of code in a document: from a code span, an indented line or an `sh` block.
struct Code {
    place: String,
    text: String,
}

fn codes() -> Vec<Code> {
    let mut codes = Vec::new();
    for document in documents() {
        let parsed = parse(&document);
        let mut push = |number: usize, text: &str| {
            codes.push(Code { place: format!("{document}:{number}"), text: text.to_owned() });
        };
        for (number, line) in &parsed.prose {
            if line.starts_with("    ") {
                push(*number, line);
            }
            line.split('`').skip(1).step_by(2).for_each(|span| push(*number, span));
        }
        for block in parsed.blocks.iter().filter(|block| block.language() == "sh") {
            block.text.lines().for_each(|line| push(block.line, line));
        }
    }
    codes
}

/// What is wrong with a command line that names something of this repository.
fn examine_command(words: &[&str]) -> Result<(), String> {
    let manifest = read("Cargo.toml");
    match words {
        // Set for the command behind it.
        [first, rest @ ..] if first.split_once('=').is_some_and(|(name, _)| is_variable(name)) => {
            examine_command(rest)
        }
        ["make", goals @ ..] => {
            let makefile = makefile();
            for goal in goals.iter().take_while(|goal| !goal.contains('"')) {
                let name = goal.split('=').next().unwrap_or_default();
                let is_known = match goal.contains('=') {
                    true => makefile.contains(name),
                    false => makefile.lines().any(|line| line.starts_with(&format!("{name}:"))),
                };
                if !is_known {
                    return Err(format!("make knows no {goal}"));
                }
            }
            Ok(())
        }
        ["cargo", words @ ..] => {
            let after = |flag: &str| {
                let at = words.iter().position(|word| *word == flag)?;
                words.get(at + 1).copied()
            };
            let package = after("-p");
            if let Some(package) = package
                && package != "ngx-http-px-module"
                && !repository().join("crates").join(package).is_dir()
            {
                return Err(format!("there is no package {package}"));
            }
            let of_package = package.unwrap_or_default();
            if let Some(test) = after("--test")
                && !manifest.contains(&format!("path = \"t/{test}.rs\""))
                && !repository().join(format!("crates/{of_package}/tests/{test}.rs")).exists()
            {
                return Err(format!("there is no test {test}"));
            }
            let at = words.iter().position(|word| *word == "--");
            match (words.first(), package, at) {
                (Some(&"run"), Some(program), Some(at)) => {
                    examine_command(&[&[program], &words[at + 1..]].concat())
                }
                _ => Ok(()),
            }
        }
        [program @ ("pxctl" | "px-sandbox"), command, rest @ ..] if !command.starts_with('-') => {
            let output = Command::new(tools().join(program)).args([command, "--help"]).output();
            let output = output.expect("the tool can be run");
            let help = String::from_utf8_lossy(&output.stdout);
            if !output.status.success() {
                return Err(format!("{program} has no command {command}"));
            }
            let unknown = rest.iter().find(|word| {
                word.starts_with("--") && **word != "--help" && !help.contains(**word)
            });
            unknown.map_or(Ok(()), |option| Err(format!("{program} {command} has no {option}")))
        }
        [program, ..] if is_path(program) => {
            if repository().join(program).exists() {
                Ok(())
            } else {
                Err(format!("there is no {program}"))
            }
        }
        _ => Ok(()),
    }
}

/// The Makefile, with what it includes.
fn makefile() -> String {
    let makefile = read("Makefile");
    let included = makefile.lines().filter_map(|line| line.strip_prefix("include ")).map(read);
    let included: String = included.collect();
    makefile + &included
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// Whether a word is a path in this repository.
fn is_path(word: &str) -> bool {
    const DIRS: [&str; 10] = [
        "src/",
        "csrc/",
        "crates/",
        "t/",
        "docs/",
        "nginx/",
        "fuzz/",
        "bench/",
        "packaging/",
        ".ci/",
    ];
    DIRS.iter().any(|dir| word.starts_with(dir)) && !word.contains(['*', '…', '<', '$', ' ', '{'])
}

#[test]
fn every_command_and_path_exists() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for code in codes() {
        // The protocol pages speak of other enforcers' files.
        if code.place.starts_with("docs/protocol/") {
            continue;
        }
        for command in code.text.split(['&', ';', '|', '(']) {
            let command = command.split(" #").next().unwrap_or_default();
            let words: Vec<&str> =
                command.split_whitespace().map(|word| word.trim_end_matches([')', '"'])).collect();
            seen += usize::from(["make", "cargo", "pxctl"].contains(words.first().unwrap_or(&"")));
            if let Err(why) = examine_command(&words) {
                wrong.push(format!("{}: {why}", code.place));
            }
        }
    }
    assert!(seen > 20, "{seen} commands");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Where a document names tests behind the file they are in, they are there.
#[test]
fn every_test_that_is_named_exists() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for document in documents() {
        let mut file = None;
        for (number, line) in parse(&document).prose {
            // A file counts to the end of its paragraph, or row of a table.
            if line.trim().is_empty() || line.starts_with('|') {
                file = None;
            }
            for span in line.split('`').skip(1).step_by(2) {
                if span.ends_with(".rs") {
                    let is_test = span.starts_with("t/") || span.contains("/tests/");
                    let is_test = is_test && repository().join(span).is_file();
                    file = is_test.then(|| read(span));
                } else if let Some(file) = &file
                    && span.len() > 12
                    && span.bytes().all(|byte| {
                        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
                    })
                    && !span.starts_with("px_")
                {
                    seen += 1;
                    if !file.contains(&format!("fn {span}(")) {
                        wrong.push(format!("{document}:{number}: {span}"));
                    }
                }
            }
        }
    }
    assert!(seen > 15, "{seen} tests");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
