//! The program itself: what it prints, and its exit status.

use std::process::{Command, Output};

fn pxctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pxctl")).args(arguments).output().unwrap()
}

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_command_has_a_help_text() {
    for command in ["convert", "check", "cookie", "explain"] {
        let output = pxctl(&[command, "--help"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(text.starts_with(&format!("Usage: pxctl {command}")), "{text}");
    }
    assert!(String::from_utf8(pxctl(&["--help"]).stdout).unwrap().contains("pxctl convert"));
    assert!(pxctl(&["--version"]).stdout.starts_with(b"pxctl 0."));
}

#[test]
fn the_exit_status_tells_failure_from_bad_usage() {
    let lua = fixture("pxconfig.lua");
    for (arguments, status) in [
        (&["convert", "--from", "lua", &lua][..], 0),
        (&["convert", "/nowhere"], 1),
        (&["convert", "--from", "perl", &lua], 2),
        (&["check", "/nowhere"], 1),
        (&["check", "a", "b"], 2),
        (&["nonsense"], 2),
        (&[], 2),
        (&["explain", "_px3=nonsense"], 1),
    ] {
        assert_eq!(pxctl(arguments).status.code(), Some(status), "{arguments:?}");
    }
}

#[test]
fn a_minted_cookie_passes_and_with_another_secret_fails() {
    let cookie = String::from_utf8(pxctl(&["cookie", "--secret", "s"]).stdout).unwrap();
    assert_eq!(pxctl(&["explain", "--secret", "s", cookie.trim()]).status.code(), Some(0));
    assert_eq!(pxctl(&["explain", "--secret", "t", cookie.trim()]).status.code(), Some(1));
}
