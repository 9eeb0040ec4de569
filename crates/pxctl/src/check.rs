//! What the `px_*` directives of an nginx configuration put into effect, and what is wrong there.

mod conf;
mod effect;
mod include;

pub use conf::Fault;

use std::fmt;
use std::path::Path;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// One text for each level on which the module is on.
    pub levels: Vec<String>,
    /// Each with its file and line.
    pub problems: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.levels.is_empty() {
            writeln!(f, "The module is on nowhere.\n")?;
        }
        for level in &self.levels {
            writeln!(f, "{level}")?;
        }
        match self.problems.len() {
            0 => writeln!(f, "No problems."),
            1 => writeln!(f, "1 problem:"),
            count => writeln!(f, "{count} problems:"),
        }?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "  {problem}"))
    }
}

/// Reads `file` with what it includes.
///
/// # Errors
///
/// A file that cannot be read or is no nginx configuration.
pub fn check(file: &Path) -> Result<Report, Fault> {
    let tree = include::load(file)?;
    Ok(effect::report(&tree))
}
