//! What `nginx -t` says about a configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of one test, away when it is over.
pub struct Files(PathBuf);

impl Files {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("px-conf-errors-{}-{number}", std::process::id()));
        // Where some builds of nginx write to, whatever their configuration says.
        fs::create_dir_all(dir.join("logs")).expect("a directory can be made");
        Self(dir)
    }

    /// A file that only its owner can read; its path.
    pub fn secret(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        self.file(name, content, 0o600)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode can be set");
        path.display().to_string()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `nginx -t` says about `conf`, which stands in the file `px.conf` inside `http`: whether it
/// accepts it, and its lines from `[warn]` on, without time and process.
pub fn check(conf: impl AsRef<[u8]>) -> (bool, Vec<String>) {
    check_with(conf, |_| ())
}

/// As [`check`]; `prepare` may put files beside `px.conf`, which calls their directory `DIR/`.
pub fn check_with(conf: impl AsRef<[u8]>, prepare: impl FnOnce(&Files)) -> (bool, Vec<String>) {
    let files = Files::new();
    prepare(&files);
    let conf = match std::str::from_utf8(conf.as_ref()) {
        Ok(text) => text.replace("DIR/", &files.prefix()).into_bytes(),
        Err(_) => conf.as_ref().to_vec(),
    };
    files.secret("px.conf", conf);
    files.check("", "include px.conf;", &[])
}

impl Files {
    pub fn prefix(&self) -> String {
        format!("{}/", self.0.display())
    }

    /// What `nginx -t`, behind the words of `command`, says about a configuration with `main` in its
    /// sixth line and `http` in its ninth. Names of files in here are shown without directory.
    pub fn check(&self, main: &str, http: &str, command: &[&str]) -> (bool, Vec<String>) {
        let dir = self.prefix();
        let load_module = super::nginx::load_module();
        self.secret(
            "nginx.conf",
            format!(
                "{load_module}\npid {dir}pid;\nerror_log stderr;\nevents {{}}\n\n{main}\nhttp {{\n\
                 client_body_temp_path {dir}a; proxy_temp_path {dir}b; fastcgi_temp_path {dir}c; \
                 uwsgi_temp_path {dir}d; scgi_temp_path {dir}e;\n\
                 {http}\nserver {{ listen unix:{dir}s; location @named {{ return 204; }} }} }}\n"
            ),
        );
        let nginx = super::nginx::binary();
        let nginx = nginx.to_str().expect("UTF-8");
        let words: Vec<&str> = command
            .iter()
            .copied()
            .chain([nginx, "-t", "-q", "-p", &dir, "-c", "nginx.conf"])
            .collect();
        let output = Command::new(words[0]).args(&words[1..]).output().expect("nginx can be run");
        let _ = fs::remove_file(self.0.join("s"));
        let said = String::from_utf8_lossy(&output.stderr).replace(&dir, "");
        let lines = lines(&said);
        assert!(output.status.success() || !lines.is_empty(), "{said}");
        (output.status.success(), lines)
    }
}

/// `[level] text` of every line from `[warn]` on, each once: nginx may write to a log and to stderr.
fn lines(said: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in said.lines() {
        let Some(level) = ["[warn]", "[error]", "[crit]", "[alert]", "[emerg]"]
            .into_iter()
            .find(|level| line.contains(level))
        else {
            continue;
        };
        let (_, text) = line.split_once(level).expect("just found");
        let text = text.trim_start();
        let is_pid =
            |(pid, _): &(&str, &str)| pid.bytes().all(|byte| byte.is_ascii_digit() || byte == b'#');
        let text = text.split_once(": ").filter(is_pid).map_or(text, |(_, text)| text);
        let line = format!("{level} {text}");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}
