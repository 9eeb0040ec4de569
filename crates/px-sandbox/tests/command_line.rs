//! The three commands as a person or a script runs them.

mod client;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use client::{Client, get, risk_call};

fn px_sandbox(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_px-sandbox")).args(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn mints_cookies_that_explain_takes() {
    for arguments in [
        &["--ua", "UA/1", "--ttl", "10m"][..],
        &["--ua", "UA/1", "--version", "2"],
        &["--ua", "UA/1", "--version", "1"],
        &["--ua", "UA/1", "--ip", "192.0.2.1", "--sign", "us", "--set", "cpa=true"],
    ] {
        let minted = px_sandbox(&[&["cookie", "--secret", "k"], arguments].concat());
        assert!(minted.status.success(), "{arguments:?}");
        let cookie = out(&minted);
        assert!(cookie.starts_with("_px") && cookie.ends_with('\n'), "{cookie}");
        let explained = px_sandbox(&[
            "explain",
            "--secret",
            "k",
            "--ua",
            "UA/1",
            "--ip",
            "192.0.2.1",
            cookie.trim(),
        ]);
        assert_eq!(explained.status.code(), Some(0), "{}", out(&explained));
        assert!(out(&explained).ends_with("=> pass, pass_reason cookie\n"));
    }
}

#[test]
fn explains_why_a_token_fails() {
    for (mint, explain, reason) in [
        (&["--score", "100"][..], &[][..], "cookie_high_score"),
        (&["--expired"], &[], "cookie_expired"),
        (&["--broken-hmac"], &[], "cookie_validation_failed"),
        (&["--unset", "t"], &[], "cookie_decryption_failed"),
        (&["--secret", "other"], &[], "cookie_decryption_failed"),
        (&["--ttl", "90s"], &["--now", "4000000000000"], "cookie_expired"),
        (&["--score", "70"], &["--blocking-score", "70"], "cookie_high_score"),
        (&["--mobile"], &["--mobile", "--secret", "x"], "cookie_decryption_failed"),
    ] {
        let cookie = out(&px_sandbox(&[&["cookie"], mint].concat()));
        let output = px_sandbox(&[&["explain"], explain, &[cookie.trim()]].concat());
        assert_eq!(output.status.code(), Some(1), "{mint:?}");
        assert!(out(&output).contains(reason), "{mint:?}: {}", out(&output));
    }
}

#[test]
fn reads_tokens_from_standard_input() {
    let cookie = px_sandbox(&["cookie", "--mobile"]).stdout;
    let mut child = Command::new(env!("CARGO_BIN_EXE_px-sandbox"))
        .args(["explain", "--mobile", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&cookie).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn says_in_one_line_what_is_wrong_with_its_options() {
    for (arguments, code, words) in [
        (&[][..], 2, "a command is missing"),
        (&["dance"], 2, "no command is called \"dance\""),
        (&["serve", "--prot", "1"], 2, "'--prot' (see px-sandbox serve --help)"),
        (&["serve", "--port", "70000"], 2, "\"70000\""),
        (&["serve", "--cert", "x"], 2, "belong together"),
        (&["serve", "--tls", "--cert", "/no", "--key", "/no"], 1, "/no"),
        (&["cookie", "--version", "4"], 2, "--version"),
        (&["cookie", "--ttl", "soon"], 2, "duration"),
        (&["cookie", "--set", "a"], 2, "NAME=JSON"),
        (&["cookie", "--iterations", "0"], 2, "--iterations"),
        (&["cookie", "--colour", "red"], 2, "--colour"),
        (&["explain"], 2, "TOKEN is missing"),
        (&["explain", "a", "b"], 2, "\"b\""),
    ] {
        let output = px_sandbox(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.starts_with("px-sandbox: ") && error.contains(words), "{error}");
    }
}

#[test]
fn helps_with_every_command() {
    for arguments in [
        &["--help"][..],
        &["help"],
        &["serve", "--help"],
        &["cookie", "-h"],
        &["explain", "--help"],
        &["--version"],
    ] {
        let output = px_sandbox(arguments);
        assert!(output.status.success(), "{arguments:?}");
        assert!(out(&output).contains("px-sandbox"), "{arguments:?}");
    }
}

/// Ends the server with the test, also where it fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn serves_and_complains_on_standard_error() {
    let child = Command::new(env!("CARGO_BIN_EXE_px-sandbox"))
        .args(["serve", "--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let addr: SocketAddr = first
        .strip_prefix("px-sandbox listening on http://")
        .expect("the first line is for scripts")
        .parse()
        .unwrap();
    let mut client = Client::connect(addr);
    assert_eq!(client.ask(risk_call()).status, 200);
    let line = lines.find(|line| line.as_ref().unwrap().starts_with("#1 risk")).unwrap().unwrap();
    assert!(line.contains("no_cookie GET https://shop.example.com/"), "{line}");
    assert_eq!(client.ask(get("/api/v3/risk")).status, 405);

    let taken = px_sandbox(&["serve", "--port", &addr.port().to_string()]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(String::from_utf8(taken.stderr).unwrap().starts_with("px-sandbox: cannot start:"));

    let mut errors = String::new();
    let mut stderr = running.0.stderr.take().unwrap();
    drop(running);
    stderr.read_to_string(&mut errors).unwrap();
    assert!(errors.contains("px-sandbox: complaint: risk #2: method GET"), "{errors}");
}
