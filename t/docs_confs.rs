//! Tests for the px module: every configuration that a document or a sample shows is one that nginx
//! accepts, with nothing added but what stands around it.
//!
//! A fence says where its lines belong: `nginx main` is a whole nginx.conf; the lines of `nginx http`,
//! `nginx server` and `nginx location` stand in `/etc/nginx/px.conf`, which is included there, beside
//! those for `http` that the same section has shown before. One that says `refused` or `warned` besides is followed by the lines that `nginx -t` prints about it.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;

use support::markdown::{self, Block, blocks, documents, read, repository};

/// What every configuration may rely on: the application, unless the shown lines name one.
const APPLICATION: [(&str, &str); 4] = [
    ("px_enabled", "px_enabled on;"),
    ("px_app_id", "px_app_id PXabcd1234;"),
    ("px_auth_token", "px_auth_token t;"),
    ("px_cookie_secret", "px_cookie_secret s;"),
];

/// A machine of its own for one configuration: what it calls `/etc/nginx` and `/var` lies in here.
struct Machine(PathBuf);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Machine {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("px-confs-{}-{number}", std::process::id()));
        for sub in ["etc/nginx/modules-enabled", "var/log/nginx", "var/spool"] {
            fs::create_dir_all(dir.join(sub)).expect("a directory can be made");
        }
        Self(dir)
    }

    /// Makes the files of `/etc/nginx` that the lines name: secrets, certificates, samples.
    fn provide(&self, text: &str) {
        for path in text.split([' ', ';', '"', '\n']).filter(|word| word.starts_with("/etc/nginx/"))
        {
            let name = path.rsplit('/').next().expect("a name");
            let there = self.0.join(&path[1..]);
            let sample = repository().join("nginx").join(name);
            if name.is_empty() || name.contains('*') || there.exists() {
                continue;
            }
            let dir = there.parent().expect("a file is in a directory");
            fs::create_dir_all(dir).expect("a directory can be made");
            let content = match Path::new(name).extension().and_then(|extension| extension.to_str())
            {
                Some("pem" | "crt" | "key") => certificate(),
                Some("conf") if sample.exists() => {
                    let text = fs::read_to_string(&sample).expect("a sample");
                    self.provide(&text);
                    self.mapped(&text)
                }
                Some("json") => credentials_file(),
                _ => "made-up\n".to_owned(),
            };
            fs::write(&there, content).expect("a file can be written");
            fs::set_permissions(&there, fs::Permissions::from_mode(0o600)).expect("a mode");
        }
    }

    /// The same lines for this machine: directories, and sockets that nobody else has.
    fn mapped(&self, text: &str) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let dir = self.0.display();
        let lines = text.split_inclusive('\n').map(|line| {
            if line.starts_with("load_module ") && line.contains("ngx_http_px_module.so;") {
                return format!("{}\n", support::nginx::load_module());
            }
            let Some((before, rest)) = line.split_once("listen ") else {
                return line.to_owned();
            };
            // What stands before it may be a comment or a name.
            if !before.trim_end().is_empty() && !before.trim_end().ends_with(['{', ';']) {
                return line.to_owned();
            }
            let rest =
                rest.trim_start().trim_start_matches(|c: char| !c.is_whitespace() && c != ';');
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            format!("{before}listen unix:{dir}/{number}.sock{rest}")
        });
        lines
            .collect::<String>()
            .replace("/etc/nginx/", &format!("{dir}/etc/nginx/"))
            .replace("/tmp/px-quick-start/", "/var/spool/")
            .replace(" /var/", &format!(" {dir}/var/"))
            .replace("path=/var/", &format!("path={dir}/var/"))
    }

    /// What `nginx -t` says about a whole nginx.conf: whether it accepts it, and its lines.
    fn test(&self, conf: &str) -> (bool, Vec<String>) {
        let dir = self.0.display();
        let own: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!(" {name}_temp_path {dir}/var/{name};"))
            .chain([format!(" access_log {dir}/var/log/nginx/access.log;")])
            .collect();
        // On the same line, so that line numbers are those of the document.
        let conf = conf.replacen("http {", &format!("http {{{own}"), 1);
        let file = self.0.join("etc/nginx/nginx.conf");
        fs::write(&file, &conf).expect("a file can be written");
        let set = statements(&conf);
        // Where messages go to a file, those for the terminal begin with "nginx:".
        let log = format!("{dir}/var/log/nginx/error.log");
        let global: String =
            [("pid", format!("pid {dir}/pid;")), ("error_log", format!("error_log {log};"))]
                .into_iter()
                .filter(|(name, _)| !set.iter().any(|known| known == name))
                .map(|(_, line)| line)
                .collect();
        let output = Command::new(support::nginx::binary())
            .args(["-t", "-q", "-g", &global, "-p"])
            .arg(&self.0)
            .arg("-c")
            .arg(file)
            .output()
            .expect("nginx can be run");
        let said = String::from_utf8_lossy(&output.stderr).replace(&format!("{dir}/"), "/");
        let mut lines: Vec<String> = Vec::new();
        for line in said.lines().filter_map(for_the_terminal) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        assert!(output.status.success() || !lines.is_empty(), "{said}\n{conf}");
        (output.status.success(), lines)
    }

    /// What `nginx -t` says about lines that belong into `context`, where `http` has these lines.
    fn test_in(&self, context: &str, text: &str, http: &str) -> (bool, Vec<String>) {
        self.provide(text);
        let shown = self.mapped(text);
        if context == "main" {
            return self.test(&shown);
        }
        fs::write(self.0.join("etc/nginx/px.conf"), &shown).expect("a file can be written");
        let set = statements(text);
        let application: String = APPLICATION
            .iter()
            .filter(|(name, _)| {
                let is_it = |set: &String| set == name || *set == format!("{name}_file");
                context != "http" || !set.iter().any(is_it)
            })
            .map(|(_, line)| *line)
            .collect();
        let socket = format!("listen unix:{}/default.sock;", self.0.display());
        let inside = match context {
            "http" if set.iter().any(|name| name == "server") => "include px.conf;".to_owned(),
            "http" => format!("include px.conf; server {{ {socket} }}"),
            "server" if set.iter().any(|name| name == "listen") => {
                "server { include px.conf; }".to_owned()
            }
            "server" => format!("server {{ {socket} include px.conf; }}"),
            "location" => format!("server {{ {socket} location / {{ include px.conf; }} }}"),
            _ => panic!("{context:?} is no context"),
        };
        self.test(&format!(
            "{}\nevents {{}}\nhttp {{\n{application}\n{}\n{inside}\n}}\n",
            support::nginx::load_module(),
            self.mapped(http)
        ))
    }
}

/// A line of nginx's as an operator sees it: where the log that was compiled in cannot be written, it comes
/// with time and process.
fn for_the_terminal(line: &str) -> Option<String> {
    let at = ["[warn] ", "[error] ", "[crit] ", "[alert] ", "[emerg] "]
        .iter()
        .find_map(|level| line.find(level).map(|at| at + level.len()))?;
    let is_process = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'#');
    let text = match line[at..].split_once(": ") {
        Some((process, text)) if is_process(process) => text,
        _ => &line[at..],
    };
    let level = line[..at].rsplit(' ').nth(1).expect("just found");
    // Who is not root cannot write to that log.
    let is_ours = !text.starts_with("could not open error log file");
    is_ours.then(|| format!("nginx: {level} {text}"))
}

/// A certificate of nobody's and its key, in one file.
fn certificate() -> String {
    static MADE: OnceLock<String> = OnceLock::new();
    let make = || {
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-subj", "/CN=www.example.com", "-keyout", "-", "-out", "-"])
            .output()
            .expect("openssl can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("PEM")
    };
    MADE.get_or_init(make).clone()
}

/// The one that the reference shows.
fn credentials_file() -> String {
    let shown = blocks("docs/directives.md").into_iter().find(|block| block.info == "json");
    shown.expect("a credentials file").text
}

/// Names of the directives that stand in no block.
fn statements(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut at_start) = (0, true);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '#' if at_start => while letters.next_if(|letter| *letter != '\n').is_some() {},
            '"' | '\'' => while letters.next().is_some_and(|next| next != letter) {},
            '{' => (depth, at_start) = (depth + 1, true),
            '}' => (depth, at_start) = (depth - 1, true),
            ';' => at_start = true,
            letter if letter.is_whitespace() => {}
            letter => {
                let mut word = letter.to_string();
                while let Some(next) = letters.next_if(|next| !next.is_whitespace() && *next != ';')
                {
                    // A brace within a word is a variable's or an expression's.
                    word.push(next);
                }
                if at_start && depth == 0 {
                    names.push(word);
                }
                at_start = false;
            }
        }
    }
    names
}

/// A block, with the one that follows and the lines for `http` that its section has shown before.
struct Shown {
    block: Block,
    next: Option<Block>,
    http: String,
}

/// Whether a block is what it says; otherwise why not.
fn examine(Shown { block, next, http }: &Shown) -> Result<(), String> {
    let words: Vec<&str> = block.info.split(' ').collect();
    let (context, expected) = match words.as_slice() {
        ["nginx", context @ ("main" | "http" | "server" | "location")] => (context, None),
        [
            "nginx",
            context @ ("main" | "http" | "server" | "location"),
            outcome @ ("refused" | "warned"),
        ] => (context, Some(*outcome)),
        _ => return Err("the fence says no context: nginx main, http, server or location".into()),
    };
    let is_built_in = support::nginx::load_module().is_empty();
    if is_built_in && *context == "main" && !block.text.contains("load_module") {
        // It shows what an nginx without the module says.
        return Ok(());
    }
    let (accepted, lines) = Machine::new().test_in(context, &block.text, http);
    let Some(outcome) = expected else {
        let fine = accepted && lines.is_empty();
        return if fine { Ok(()) } else { Err(lines.join("\n")) };
    };
    let quoted = next.as_ref().filter(|next| next.info == "text" && next.heading == block.heading);
    let Some(quoted) = quoted else {
        return Err("no ```text block with what nginx says follows".into());
    };
    if accepted != (outcome == "warned") || lines.join("\n") != quoted.text.trim_end() {
        return Err(format!("not {outcome} as it says, but:\n{}", lines.join("\n")));
    }
    Ok(())
}

/// Runs `examine` on all, as many at a time as there are processors; what went wrong.
fn examine_all<T: Sync>(items: &[T], examine: impl Fn(&T) -> Result<(), String> + Sync) -> String {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(String::new()));
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(why) = examine(item) {
                let mut wrong = wrong.lock().expect("nobody panics with it");
                writeln!(wrong, "{why}\n").expect("a text grows");
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    wrong.into_inner().expect("nobody panics with it")
}

#[test]
fn every_configuration_in_the_documents_works() {
    let mut shown: Vec<Shown> = Vec::new();
    let mut counts = BTreeMap::new();
    for document in documents() {
        let blocks = blocks(&document);
        let before = shown.len();
        for (at, block) in blocks.iter().enumerate().filter(|(_, b)| b.language() == "nginx") {
            let is_beside = |other: &&Block| {
                (&other.heading, other.info.as_str()) == (&block.heading, "nginx http")
                    && block.info != "nginx http"
            };
            let http = blocks[..at].iter().filter(is_beside).map(|other| other.text.as_str());
            shown.push(Shown {
                block: block.clone(),
                next: blocks.get(at + 1).cloned(),
                http: http.collect(),
            });
        }
        // Counted a second way, so that none is overlooked.
        let fences = read(&document)
            .lines()
            .filter(|line| line.trim_start().trim_start_matches(['`', '~']).starts_with("nginx"))
            .filter(|line| line.contains("```") || line.contains("~~~"))
            .count();
        assert_eq!(shown.len() - before, fences, "{document}: blocks that are not extracted");
        counts.insert(document, fences);
    }
    assert!(counts["README.md"] >= 1 && counts["docs/directives.md"] > 60, "{counts:?}");
    let wrong = examine_all(&shown, |shown| {
        examine(shown).map_err(|why| format!("{}: {why}", shown.block.place()))
    });
    assert!(wrong.is_empty(), "{wrong}");
}

/// Lines of a configuration stand in blocks that say so, or they would not be tested.
#[test]
fn no_configuration_hides_in_other_blocks() {
    let is_directive = |line: &str| {
        let line = line.trim();
        let name = line.strip_prefix("px_").map(|rest| rest.split(' ').next().unwrap_or_default());
        name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
            && line.ends_with(';')
    };
    assert!(is_directive("    px_block_enabled on;") && !is_directive("px_app_id is set;-)"));
    for document in documents() {
        let parsed = markdown::parse(&document);
        for block in &parsed.blocks {
            // What programs print may hold directives, too.
            let is_other = !["nginx", "text"].contains(&block.language());
            let line = block.text.lines().find(|line| is_other && is_directive(line));
            assert_eq!(line, None, "{}", block.place());
        }
        for (number, line) in &parsed.prose {
            assert!(
                !(line.starts_with("    ") && is_directive(line)),
                "{document}:{number}: {line}"
            );
        }
    }
}

#[test]
fn the_configuration_of_the_readme_is_short() {
    let conf = blocks("README.md").into_iter().find(|block| block.language() == "nginx");
    let lines = conf.expect("a configuration").text.lines().count();
    assert!(lines <= 10, "{lines} lines");
}

#[test]
fn every_sample_works() {
    let mut samples = Vec::new();
    for entry in fs::read_dir(repository().join("nginx")).expect("the samples are there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            let name = path.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
            assert!(read("nginx/README.md").contains(&format!("({name})")), "{name} is not listed");
            samples.push(name);
        }
    }
    assert!(samples.len() >= 3, "{samples:?}");
    let wrong = examine_all(&samples, |name| {
        let (accepted, lines) = Machine::new().test_in("http", &read(&format!("nginx/{name}")), "");
        let fine = accepted && lines.is_empty();
        if fine { Ok(()) } else { Err(format!("nginx/{name}: {}", lines.join("\n"))) }
    });
    assert!(wrong.is_empty(), "{wrong}");
}

/// What operations.md quotes about modules for another version and with other build options: both are made
/// from this one by changing what nginx compares.
#[test]
fn nginx_refuses_another_versions_module_in_the_words_that_are_quoted() {
    let module = support::nginx::module();
    if module.as_os_str().is_empty() {
        // A part of this nginx.
        return;
    }
    let module = fs::read(module).expect("the module can be read");
    let output = Command::new(support::nginx::binary()).arg("-v").output();
    let said = String::from_utf8(output.expect("nginx can be run").stderr).expect("UTF-8");
    let version = said.split('/').nth(1).expect("a version");
    let version: String = version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let number =
        version.split('.').fold(0, |sum, part| sum * 1000 + part.parse::<u64>().expect("a number"));
    let replaced = |from: &[u8], to: &[u8]| {
        let mut changed = module.clone();
        let at = |bytes: &[u8]| bytes.windows(from.len()).position(|window| window == from);
        let mut from_here = 0;
        while let Some(found) = at(&changed[from_here..]) {
            changed[from_here + found..][..to.len()].copy_from_slice(to);
            from_here += found + to.len();
        }
        assert!(from_here > 0, "the module does not hold {from:?}");
        changed
    };
    let quoted = blocks("docs/operations.md").into_iter().find(|block| {
        block.heading == "Upgrade" && block.text.contains("is not binary compatible")
    });
    let quoted = quoted.expect("what nginx says").text;
    let quoted: Vec<&str> = quoted.lines().collect();
    let other: u64 = if number == 1_026_003 { 1_022_001 } else { 1_026_003 };
    let numbers = format!("{other} instead of {number}");
    for (module, expected) in [
        (replaced(&number.to_le_bytes(), &other.to_le_bytes()), quoted[0]),
        (replaced(b"8,4,8,", b"8,4,4,"), quoted[1]),
    ] {
        let machine = Machine::new();
        let file = machine.0.join("ngx_http_px_module.so");
        fs::write(&file, module).expect("a file can be written");
        let conf = format!("load_module {};\nevents {{}}\nhttp {{}}\n", file.display());
        let (accepted, lines) = machine.test(&conf);
        let lines = lines.join("\n").replace("\"/ngx_http", "\"/usr/lib/nginx/modules/ngx_http");
        let expected = expected.replace("1026003 instead of 1022001", &numbers);
        assert_eq!((accepted, lines.as_str()), (false, expected.as_str()));
    }
}
