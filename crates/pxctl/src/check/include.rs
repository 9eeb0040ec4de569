//! Files, and what they include.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::conf::{self, Fault, Statement};

const MAX_DEPTH: usize = 16;
const MAX_FILES: usize = 4096;

/// The file with everything that it includes. Names are relative to the file's directory, also in
/// included files: so does nginx.
pub(crate) fn load(file: &Path) -> Result<Vec<Statement>, Fault> {
    let base = file.parent().unwrap_or(Path::new("")).to_owned();
    let mut loader = Loader { base, files: 0, open: HashSet::new() };
    loader.file(file, 0)
}

struct Loader {
    base: PathBuf,
    files: usize,
    open: HashSet<PathBuf>,
}

impl Loader {
    fn file(&mut self, file: &Path, depth: usize) -> Result<Vec<Statement>, Fault> {
        self.files += 1;
        let name = file.display().to_string();
        if depth >= MAX_DEPTH || self.files > MAX_FILES || !self.open.insert(file.to_owned()) {
            return Err(Fault(format!("{name}: includes itself, or too much")));
        }
        let bytes =
            std::fs::read(file).map_err(|why| Fault(format!("cannot read {name}: {why}")))?;
        let statements = conf::parse(&String::from_utf8_lossy(&bytes), &name)?;
        let statements = self.expand(statements, depth)?;
        self.open.remove(file);
        Ok(statements)
    }

    fn expand(&mut self, from: Vec<Statement>, depth: usize) -> Result<Vec<Statement>, Fault> {
        let mut all = Vec::new();
        for mut statement in from {
            if let Some(block) = statement.block.take() {
                // What stands in map, geo, types and the like is no directive.
                let is_data = ["types", "map", "geo", "split_clients"].contains(&statement.name());
                statement.block = Some(if is_data { block } else { self.expand(block, depth)? });
            } else if let ("include", [pattern]) = (statement.name(), statement.arguments()) {
                let path = self.base.join(pattern);
                let is_pattern = pattern.contains(['*', '?', '[']);
                let files = if is_pattern { glob(&path) } else { vec![path] };
                for file in files {
                    all.extend(self.file(&file, depth + 1)?);
                }
                continue;
            }
            all.push(statement);
        }
        Ok(all)
    }
}

/// The files that the pattern names, in order.
fn glob(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        let text = part.to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for directory in found {
            let read = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
            let entries = std::fs::read_dir(read).into_iter().flatten().flatten();
            next.extend(entries.filter_map(|entry| {
                let name = entry.file_name();
                let name_text = name.to_string_lossy();
                let hidden = name_text.starts_with('.') && !text.starts_with('.');
                (!hidden && matches(&text, &name_text)).then(|| directory.join(&name))
            }));
        }
        next.sort();
        found = next;
    }
    found.retain(|path| path.is_file());
    found
}

/// `*`, `?` and `[a-z]`; goes back to the last `*` only, which is enough.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[p..], name[n]),
            Some(c) if *c == name[n] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(step), _) => {
                p += step;
                n += 1;
            }
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How long the class is, if the letter is in it.
fn class(pattern: &[char], letter: char) -> Option<usize> {
    let end = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
    let inside = &pattern[1..end];
    let (inverse, inside) = match inside {
        ['!' | '^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    let mut at = 0;
    while at < inside.len() {
        if inside.get(at + 1) == Some(&'-') && at + 2 < inside.len() {
            found |= (inside[at]..=inside[at + 2]).contains(&letter);
            at += 3;
        } else {
            found |= inside[at] == letter;
            at += 1;
        }
    }
    (found != inverse).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_names() {
        for (pattern, name, is_match) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a?c", "abc", true),
            ("[0-9]*-px.conf", "10-px.conf", true),
            ("[!0-9]*", "10", false),
            ("*a*b", "xaxb", true),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern, name), is_match, "{pattern} {name}");
        }
    }
}
