//! Arguments that name a file or a directory, and what such a file holds.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::{fs, ptr};

use nginx_sys::{ngx_add_path, ngx_conf_full_name, ngx_path_t, ngx_uint_t};
use px_core::credentials::Endpoint;
use px_core::policy::Secret;
use ureq::tls::{PemItem, parse_pem};

use super::Refusal;
use super::args::Args;
use super::words::basic_credentials;
use crate::ffi::{self, OK};

/// What a relative path is relative to.
#[derive(Clone, Copy)]
enum Prefix {
    /// The directory of nginx.conf.
    Configuration,
    Nginx,
}

impl Args<'_> {
    /// `off`, or a directory that nginx makes.
    pub(super) fn directory_or_off(&self) -> Result<Option<PathBuf>, Refusal> {
        match &*self.text(0)? {
            "off" => Ok(None),
            "" => Err(Refusal::Other("names no directory".to_owned())),
            path => self.made_by_nginx(path).map(Some),
        }
    }

    /// A directory that nginx makes, for the user of its workers, when it starts and when it tests
    /// its configuration. Relative paths begin at the prefix, as those of nginx's own directories.
    pub(super) fn made_by_nginx(&self, path: &str) -> Result<PathBuf, Refusal> {
        let path = match path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        // SAFETY: `cf` is live for the call.
        let cf = unsafe { &*self.cf };
        // nginx reads names of files up to their null.
        // SAFETY: the pool of the configuration is live.
        let name = unsafe { ffi::copy_to_pool(cf.pool, format!("{path}\0").as_bytes()) };
        let mut name = name.ok_or(Refusal::Logged)?;
        name.len -= 1;
        // SAFETY: the cycle is live while configuration is read; 0 = relative to the prefix.
        let rc = unsafe { ngx_conf_full_name(cf.cycle, &raw mut name, 0) };
        if rc != OK {
            return Err(Refusal::Logged);
        }
        // SAFETY: the pool is live, and zero is valid for this struct.
        let made = unsafe { ffi::zeroed_in_pool::<ngx_path_t>(cf.pool) };
        let made = made.ok_or(Refusal::Logged)?;
        made.name = name;
        // SAFETY: `cf` reads a file.
        let file = unsafe { &*cf.conf_file };
        made.conf_file = file.file.name.data;
        made.line = file.line;
        let mut slot = ptr::from_mut(made);
        // SAFETY: a complete path in the configuration pool.
        if unsafe { ngx_add_path(self.cf, &raw mut slot) } != OK {
            return Err(Refusal::Logged);
        }
        // SAFETY: nginx left a string in the cycle's pool.
        let bytes = unsafe { ffi::bytes(name) };
        Ok(PathBuf::from(OsStr::from_bytes(bytes)))
    }

    /// Login endpoints of a JSON file, whose path is relative to nginx's prefix.
    pub(super) fn login_endpoints_file(&self) -> Result<Vec<Endpoint>, Refusal> {
        if self.text(0)?.is_empty() {
            return Ok(Vec::new());
        }
        let path = self.path_in(Prefix::Nginx)?;
        let text = fs::read_to_string(&path)
            .map_err(|err| Refusal::Other(format!("cannot read \"{path}\": {err}")))?;
        Endpoint::all_of_file(&text)
            .map_err(|reason| Refusal::Other(format!("names \"{path}\", where {reason}")))
    }

    /// The path in the first word, relative to the directory of nginx.conf.
    fn path(&self) -> Result<String, Refusal> {
        self.path_in(Prefix::Configuration)
    }

    fn path_in(&self, prefix: Prefix) -> Result<String, Refusal> {
        let word = self.words.first().copied().ok_or(Refusal::Logged)?;
        // nginx appends a terminating null and rewrites the string; it must not be our own word.
        let mut name = word;
        // SAFETY: `cf` is live for the call.
        let cycle = unsafe { (*self.cf).cycle };
        let of_configuration = ngx_uint_t::from(matches!(prefix, Prefix::Configuration));
        // SAFETY: the cycle is live while configuration is read.
        let rc = unsafe { ngx_conf_full_name(cycle, &raw mut name, of_configuration) };
        if rc != OK {
            return Err(Refusal::Logged);
        }
        // SAFETY: nginx left a string in the cycle's pool.
        let bytes = unsafe { ffi::bytes(name) };
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Refusal::Other("names a file whose path is not valid UTF-8".to_owned()))
    }

    fn read_secret_file(&self) -> Result<String, Refusal> {
        let path = self.path()?;
        let cannot = |what: &str| Refusal::Other(format!("cannot read \"{path}\": {what}"));
        let text = fs::read(&path).map_err(|err| cannot(&err.to_string()))?;
        let mode =
            fs::metadata(&path).map_err(|err| cannot(&err.to_string()))?.permissions().mode();
        if mode & 0o004 != 0 {
            self.warn(&format!(
                "names \"{path}\", which every user of this machine can read: chmod o-r it"
            ));
        }
        String::from_utf8(text).map_err(|_| cannot("it is not valid UTF-8"))
    }

    /// The secret in a file, without the newline at its end.
    pub(super) fn secret_file(&self) -> Result<Secret, Refusal> {
        let lines = self.secret_lines()?;
        match <[Secret; 1]>::try_from(lines) {
            Ok([secret]) => Ok(secret),
            Err(_) => Err(Refusal::Other("names a file that holds more than one line".to_owned())),
        }
    }

    /// One secret a line: current, previous.
    pub(super) fn secret_lines(&self) -> Result<Vec<Secret>, Refusal> {
        let text = self.read_secret_file()?;
        let lines: Vec<Secret> = text
            .lines()
            .map(|line| line.trim_end_matches('\r'))
            .filter(|line| !line.is_empty())
            .map(|line| Secret::new(line.to_owned()))
            .collect();
        if lines.iter().any(|line| line.expose().bytes().any(|b| b.is_ascii_control())) {
            return Err(Refusal::Other("names a file that holds a control character".to_owned()));
        }
        match lines.len() {
            0 => Err(Refusal::Other("names a file that holds no secret".to_owned())),
            1 | 2 => Ok(lines),
            _ => Err(Refusal::Other("names a file that holds more than two secrets".to_owned())),
        }
    }

    pub(super) fn basic_authorization_file(&self) -> Result<Secret, Refusal> {
        basic_credentials(&self.secret_file()?)
    }

    /// The path of a PEM bundle; both nginx and the sender thread will read it.
    pub(super) fn certificate_bundle(&self) -> Result<String, Refusal> {
        let path = self.path()?;
        if path.bytes().any(|b| b.is_ascii_control() || b"\"\\$".contains(&b)) {
            return Err(Refusal::Other("names a file with quotes, \"\\\" or \"$\"".to_owned()));
        }
        let pem = fs::read(&path)
            .map_err(|err| Refusal::Other(format!("cannot read \"{path}\": {err}")))?;
        if !parse_pem(&pem).any(|item| matches!(item, Ok(PemItem::Certificate(_)))) {
            return Err(Refusal::Other(format!("names \"{path}\", which holds no certificate")));
        }
        Ok(path)
    }
}
