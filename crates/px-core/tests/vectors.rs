//! Runs the test vectors: every JSON file of `tests/vectors`, or of the directory `PX_VECTORS` names.
//!
//! Prints one line per file and one per case that differs. A difference that a decision or a tag
//! allows (DECISIONS, "Vectors: what a tag allows") is listed as overridden and counts as passed: the
//! runner has then checked what this module does instead. Files of features that do not exist yet
//! are listed as not implemented. Any other difference fails.
#![allow(clippy::indexing_slicing, reason = "a vector without a field is to fail loudly")]
#![allow(unreachable_pub, reason = "this crate has no outside")]

#[path = "visit/reference.rs"]
mod reference;
mod runner;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use runner::Outcome;

fn main() -> ExitCode {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let directory = std::env::var_os("PX_VECTORS").map_or(own, PathBuf::from);
    let files = match json_files(&directory) {
        Ok(files) if !files.is_empty() => files,
        Ok(_) => return refuse(&format!("no JSON file in {}", directory.display())),
        Err(error) => return refuse(&format!("{}: {error}", directory.display())),
    };

    let mut total = Tally::default();
    for file in files {
        total.add(&run_file(&file));
    }
    println!();
    println!(
        "{} overridden by a decision or a tag, {} of features that do not exist yet",
        total.overridden, total.not_implemented
    );
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn refuse(reason: &str) -> ExitCode {
    eprintln!("vectors: {reason}");
    ExitCode::FAILURE
}

fn json_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    overridden: usize,
    not_implemented: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.overridden += other.overridden;
        self.not_implemented += other.not_implemented;
    }
}

/// The beginning of what may be a whole body.
fn shortened(text: &str) -> String {
    const LENGTH: usize = 200;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

fn run_file(file: &Path) -> Tally {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let cases = match runner::read(file) {
        Ok(cases) => cases,
        Err(error) => {
            println!("{name}: FAILED: {error}");
            return Tally { failed: 1, ..Tally::default() };
        }
    };
    let Some(check) = runner::check_of(name.trim_end_matches(".json")) else {
        println!("{name}: not implemented ({} cases)", cases.len());
        return Tally { not_implemented: cases.len(), ..Tally::default() };
    };

    let mut tally = Tally::default();
    let mut lines = Vec::new();
    for case in &cases {
        let case_name = case["name"].as_str().unwrap_or("(no name)");
        match runner::run(check, case) {
            Outcome::Passed => tally.passed += 1,
            Outcome::Overridden(why) => {
                tally.passed += 1;
                tally.overridden += 1;
                lines.push(format!("  {case_name}: {}", shortened(&why)));
            }
            Outcome::NotImplemented(what) => {
                tally.not_implemented += 1;
                lines.push(format!("  {case_name}: not implemented: {what}"));
            }
            Outcome::Failed(difference) => {
                tally.failed += 1;
                lines.push(format!("  {case_name}: FAILED: {difference}"));
            }
        }
    }
    let mut line = format!("{name}: {}/{}", tally.passed, cases.len() - tally.not_implemented);
    for (count, what) in
        [(tally.overridden, "overridden"), (tally.not_implemented, "not implemented")]
    {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    println!("{line}");
    lines.iter().for_each(|line| println!("{line}"));
    tally
}
