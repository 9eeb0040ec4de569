//! A real nginx in a directory of its own.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything nginx does on request: start, reload, stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// The line every request leaves in the access log.
const LOG_FORMAT: &str = "$status $request_method $uri verdict=$px_verdict pass=$px_pass_reason \
     block=$px_block_reason call=$px_call_reason filter=$px_filter_reason score=$px_score \
     uuid=$px_uuid vid=$px_vid rtt=$px_risk_rtt action=$px_block_action mode=$px_risk_mode \
     error=$px_s2s_error_reason";

/// Describes an nginx before it is started.
pub struct Builder {
    before_module: String,
    main: String,
    http: String,
    server: String,
    listen: String,
    addr: Option<SocketAddr>,
    workers: u32,
    error_log_level: &'static str,
    is_daemon: bool,
    conf: Option<Conf>,
}

/// A whole configuration, for the directory and the address of the first server.
type Conf = Box<dyn Fn(&Path, SocketAddr) -> String>;

/// A running nginx; ended when dropped.
pub struct Nginx {
    child: Child,
    dir: PathBuf,
    addr: SocketAddr,
    /// The master is nobody's child, and is found by its pid file.
    is_daemon: bool,
    /// Whether the error log is checked for lines that must not be there.
    strict: bool,
}

impl Nginx {
    pub fn builder() -> Builder {
        Builder {
            before_module: String::new(),
            main: String::new(),
            http: String::new(),
            server: String::new(),
            listen: String::new(),
            addr: None,
            workers: 1,
            error_log_level: "info",
            is_daemon: false,
            conf: None,
        }
    }

    /// nginx with one server of this content.
    pub fn start(server: &str) -> Self {
        Self::builder().server(server).start()
    }

    /// Address of the first server.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The directory nginx runs in, its prefix.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn error_log(&self) -> String {
        fs::read_to_string(self.dir.join("error.log")).unwrap_or_default()
    }

    pub fn access_log(&self) -> Vec<String> {
        self.log_lines("access.log")
    }

    /// The lines of a log in the directory: a line that is being written may be seen in part, and
    /// does not count yet.
    pub fn log_lines(&self, name: &str) -> Vec<String> {
        let bytes = fs::read(self.dir.join(name)).unwrap_or_default();
        let end = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        String::from_utf8_lossy(&bytes[..end]).lines().map(str::to_owned).collect()
    }

    /// The access log once it has `count` lines; requests are logged just after they are answered.
    pub fn wait_for_access_log(&self, count: usize) -> Vec<String> {
        self.wait("access log lines", || {
            let lines = self.access_log();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// The error log once it holds `text`.
    pub fn wait_for_error_log(&self, text: &str) -> String {
        self.wait(text, || Some(self.error_log()).filter(|log| log.contains(text)))
    }

    fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < until, "waited for {what}; error log:\n{}", self.error_log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The master's.
    pub fn pid(&self) -> u32 {
        if !self.is_daemon {
            return self.child.id();
        }
        let text = fs::read_to_string(self.dir.join("nginx.pid")).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }

    /// Pids of the worker processes.
    pub fn workers(&self) -> Vec<u32> {
        workers_of(self.pid())
    }

    /// Pids of the worker processes once there are `count`: nginx listens before they are.
    pub fn wait_for_workers(&self, count: usize) -> Vec<u32> {
        self.wait("workers", || Some(self.workers()).filter(|workers| workers.len() == count))
    }

    /// Rewrites the configuration by `change` and reloads; returns when new workers serve.
    pub fn reload(&self, change: impl FnOnce(String) -> String) {
        let file = self.dir.join("nginx.conf");
        let conf = fs::read_to_string(&file).expect("the configuration is there");
        fs::write(&file, change(conf)).expect("the configuration can be written");
        let old = self.workers();
        self.signal(libc::SIGHUP);
        self.wait("a new worker", || {
            self.workers().iter().any(|pid| !old.contains(pid)).then_some(())
        });
    }

    /// Returns when the workers `old` are gone.
    pub fn wait_for_workers_to_end(&self, old: &[u32]) {
        self.wait("old workers to end", || {
            (!self.workers().iter().any(|pid| old.contains(pid))).then_some(())
        });
    }

    pub fn signal(&self, signal: i32) {
        send_signal(self.pid(), signal);
    }

    /// Lets nginx finish gracefully and checks its error log.
    pub fn quit(mut self) -> String {
        self.signal(libc::SIGQUIT);
        self.finish()
    }

    /// Ends nginx fast, as `nginx -s stop` does, and checks its error log.
    pub fn stop(mut self) -> String {
        self.signal(libc::SIGTERM);
        self.finish()
    }

    /// Does not check the error log for lines that must not be there.
    pub fn lenient(&mut self) {
        self.strict = false;
    }

    fn runs(&mut self) -> bool {
        if self.is_daemon {
            return is_running(self.pid());
        }
        matches!(self.child.try_wait(), Ok(None))
    }

    fn finish(&mut self) -> String {
        let until = Instant::now() + PATIENCE;
        while self.runs() {
            assert!(Instant::now() < until, "nginx did not end:\n{}", self.error_log());
            thread::sleep(Duration::from_millis(5));
        }
        let log = self.error_log();
        if self.strict {
            assert_clean(&log);
        }
        log
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if self.is_daemon {
            // A master whose binary was to be exchanged may be left.
            let old = fs::read_to_string(self.dir.join("nginx.pid.oldbin")).unwrap_or_default();
            if let Some(old) = old.trim().parse().ok().filter(|old| is_running(*old)) {
                send_signal(old, libc::SIGTERM);
            }
        }
        if self.runs() {
            self.signal(libc::SIGTERM);
            let until = Instant::now() + PATIENCE;
            while self.runs() && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("--- error log of {}\n{}", self.dir.display(), self.error_log());
        } else {
            let log = self.error_log();
            let strict = self.strict;
            let _ = fs::remove_dir_all(&self.dir);
            if strict {
                assert_clean(&log);
            }
        }
    }
}

/// No worker died, and nginx found nothing seriously wrong.
pub fn assert_clean(log: &str) {
    // `nginx -s stop` gives workers a second, then kills them. With what t/sanitize adds they need longer.
    let killed = |line: &&str| is_slow() && line.ends_with("exited on signal 9");
    for line in log.lines().filter(|line| !killed(line)) {
        for bad in ["[alert]", "[crit]", "[emerg]", "exited on signal", "panic"] {
            assert!(!line.contains(bad), "the error log has {bad}: {line}");
        }
    }
}

impl Builder {
    /// Directives of the main context that come before the module is loaded.
    pub fn before_module(mut self, text: &str) -> Self {
        self.before_module.push_str(text);
        self
    }

    /// Directives of the main context.
    pub fn main(mut self, text: &str) -> Self {
        self.main.push_str(text);
        self
    }

    /// Directives of the `http` block.
    pub fn http(mut self, text: &str) -> Self {
        self.http.push_str(text);
        self
    }

    /// Directives of the server.
    pub fn server(mut self, text: &str) -> Self {
        self.server.push_str(text);
        self
    }

    /// Further parameters of the server's `listen`.
    pub fn listen(mut self, parameters: &str) -> Self {
        self.listen = parameters.to_owned();
        self
    }

    /// Address of the server; otherwise it is given one that is free.
    pub fn addr(mut self, addr: SocketAddr) -> Self {
        self.addr = Some(addr);
        self
    }

    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    pub fn error_log_level(mut self, level: &'static str) -> Self {
        self.error_log_level = level;
        self
    }

    /// nginx goes into the background, as a service does: only then can its binary be exchanged.
    pub fn daemon(mut self) -> Self {
        self.is_daemon = true;
        self
    }

    /// A configuration of another shape instead: it sees to `pid` and `error_log` in the directory, and
    /// to `daemon off`.
    pub fn conf(mut self, conf: impl Fn(&Path, SocketAddr) -> String + 'static) -> Self {
        self.conf = Some(Box::new(conf));
        self
    }

    fn write(&self, dir: &Path, addr: SocketAddr) {
        if let Some(conf) = &self.conf {
            fs::write(dir.join("nginx.conf"), conf(dir, addr)).expect("it can be written");
            return;
        }
        let Self { before_module, main, http, server, listen, workers, error_log_level, .. } = self;
        let d = dir.display();
        let load_module = load_module();
        let daemon = if self.is_daemon { "on" } else { "off" };
        let patience = patience_beside(http);
        let conf = format!(
            "{before_module}{load_module}\n\
             daemon {daemon};\nworker_processes {workers};\npid {d}/nginx.pid;\n\
             error_log {d}/error.log {error_log_level};\n{main}\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
             client_body_temp_path {d}/body;\nproxy_temp_path {d}/proxy;\n\
             fastcgi_temp_path {d}/fastcgi;\nuwsgi_temp_path {d}/uwsgi;\nscgi_temp_path {d}/scgi;\n\
             log_format px '{LOG_FORMAT}';\naccess_log {d}/access.log px;\n\
             default_type text/plain;\n\
             px_max_errors_threshold 0;\n\
             {patience}{http}\n\
             server {{\nlisten {addr} {listen};\nserver_name site.test;\nroot {d}/html;\n\
             {server}\n}}\n}}\n"
        );
        fs::write(dir.join("nginx.conf"), conf).expect("the configuration can be written");
    }

    /// What `nginx -t` says: whether it accepts the configuration, and its whole output.
    pub fn test(&self) -> (bool, String) {
        self.test_with_env(|_| Vec::new())
    }

    /// As [`test`](Self::test); `prepare` may put files into the directory first.
    pub fn test_with(&self, prepare: impl FnOnce(&Path)) -> (bool, String) {
        self.test_with_env(|dir| {
            prepare(dir);
            Vec::new()
        })
    }

    /// As [`test_with`](Self::test_with); `prepare` gives the environment nginx is to have besides.
    pub fn test_with_env(
        &self,
        prepare: impl FnOnce(&Path) -> Vec<(&'static str, OsString)>,
    ) -> (bool, String) {
        let dir = fresh_dir();
        let env = prepare(&dir);
        self.write(&dir, free_addr());
        let output = Command::new(binary())
            .args(["-t", "-q", "-p"])
            .arg(&dir)
            .args(["-c", "nginx.conf"])
            .envs(env)
            .output()
            .expect("nginx can be run");
        let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.push_str(&fs::read_to_string(dir.join("error.log")).unwrap_or_default());
        let text = text.replace(&format!("{}/", dir.display()), "");
        let _ = fs::remove_dir_all(&dir);
        (output.status.success(), text)
    }

    pub fn start(&self) -> Nginx {
        self.start_with(|_| ())
    }

    /// As [`start`](Self::start); `prepare` may put files into the directory first.
    pub fn start_with(&self, prepare: impl FnOnce(&Path)) -> Nginx {
        self.start_with_env(|dir| {
            prepare(dir);
            Vec::new()
        })
    }

    /// As [`start_with`](Self::start_with); `prepare` gives the environment nginx is to have besides.
    pub fn start_with_env(
        &self,
        prepare: impl FnOnce(&Path) -> Vec<(&'static str, OsString)>,
    ) -> Nginx {
        let dir = fresh_dir();
        let env = prepare(&dir);
        // Between our look for a free port and nginx's bind somebody else may have been given it.
        let tries = (0..5).find_map(|_| self.try_start(&dir, &env));
        let (child, addr) = tries.expect("a port that stays free");
        Nginx { child, dir, addr, is_daemon: self.is_daemon, strict: true }
    }

    fn try_start(
        &self,
        dir: &Path,
        env: &[(&'static str, OsString)],
    ) -> Option<(Child, SocketAddr)> {
        let addr = self.addr.unwrap_or_else(free_addr);
        self.write(dir, addr);
        let mut child = Command::new(binary())
            .arg("-p")
            .arg(dir)
            .args(["-c", "nginx.conf"])
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nginx can be run");
        let until = Instant::now() + PATIENCE;
        // nginx writes its pid when it listens. To connect is not enough: the socket that found the
        // free port may live on for a moment in a process that another test is just starting.
        let pid = dir.join("nginx.pid");
        while !pid.exists() || TcpStream::connect(addr).is_err() {
            if let Ok(Some(status)) = child.try_wait()
                && !(self.is_daemon && status.success())
            {
                let stderr = child.stderr.take().map(BufReader::new);
                let lines: Vec<String> =
                    stderr.into_iter().flat_map(BufRead::lines).map_while(Result::ok).collect();
                if lines.iter().any(|line| line.contains("still could not bind")) {
                    let _ = fs::remove_file(dir.join("error.log"));
                    return None;
                }
                panic!("nginx ended with {status}:\n{}", lines.join("\n"));
            }
            assert!(Instant::now() < until, "nginx does not listen");
            thread::sleep(Duration::from_millis(2));
        }
        Some((child, addr))
    }
}

/// `TEST_NGINX_SLOW`: nginx does everything many times as slowly as it does otherwise.
fn is_slow() -> bool {
    std::env::var_os("TEST_NGINX_SLOW").is_some()
}

/// A busy machine is no reason to pass: the timeouts that `http` does not set and that are short otherwise.
fn patience_beside(http: &str) -> String {
    ["px_s2s_timeout", "px_first_party_timeout_ms", "px_async_timeout"]
        .iter()
        .filter(|name| !http.contains(**name))
        .map(|name| format!("{name} 20s;\n"))
        .collect()
}

/// The nginx under test: `TEST_NGINX_BINARY`, or the installed one.
pub fn binary() -> PathBuf {
    match std::env::var_os("TEST_NGINX_BINARY") {
        Some(path) => path.into(),
        None => ["/usr/sbin/nginx", "/usr/local/sbin/nginx"]
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .unwrap_or_else(|| "nginx".into()),
    }
}

/// The line that loads the module; empty where it is a part of the nginx under test (an empty
/// `TEST_NGINX_MODULE`).
pub fn load_module() -> String {
    match module() {
        path if path.as_os_str().is_empty() => String::new(),
        path => format!("load_module {};", path.display()),
    }
}

/// The module under test: `TEST_NGINX_MODULE`, or that which was built together with this test, which
/// cargo puts beside the test program.
pub fn module() -> PathBuf {
    if let Some(path) = std::env::var_os("TEST_NGINX_MODULE") {
        return path.into();
    }
    let program = std::env::current_exe().expect("this program has a path");
    let mut dir = program.parent().expect("a program is in a directory").to_owned();
    if dir.ends_with("examples") {
        dir.pop();
        dir.push("deps");
    }
    dir.join("libngx_http_px_module.so")
}

fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A new directory, empty but for `html`; whoever asks for it removes it.
pub fn fresh_dir() -> PathBuf {
    let base = std::env::var_os("PX_TEST_DIR")
        .map_or_else(|| std::env::temp_dir().join("px-tests"), PathBuf::from);
    let dir = base.join(format!("{}-{}", std::process::id(), number()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("html")).expect("the test directory can be made");
    // Workers may run as another user.
    use std::os::unix::fs::PermissionsExt;
    for dir in [&base, &dir] {
        let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o777));
    }
    dir
}

/// An address of this machine that nobody else uses: each process and nginx has its own.
pub fn free_addr() -> SocketAddr {
    listener().local_addr().expect("a bound socket has an address")
}

/// As [`free_addr`], listening.
pub fn listener() -> TcpListener {
    let pid = std::process::id();
    let host = [127, 1 + (pid >> 8 & 0x7f) as u8, (pid & 0xff) as u8, (1 + number() % 250) as u8];
    TcpListener::bind((std::net::Ipv4Addr::from(host), 0)).expect("a free port")
}

/// Pids of the children of a master.
pub fn workers_of(master: u32) -> Vec<u32> {
    let children = format!("/proc/{master}/task/{master}/children");
    let children = fs::read_to_string(children).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process is there and has not ended: who inherited it may not have asked for its end yet.
pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

pub fn send_signal(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).expect("a pid");
    // SAFETY: sends a signal to a process this test started.
    let rc = unsafe { libc::kill(pid, signal) };
    assert_eq!(rc, 0, "signal {signal} to {pid}");
}
