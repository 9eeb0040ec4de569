//! The documents of the repository, and what stands in them: links, headings, fenced blocks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
pub fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// Every Markdown file, by its path in the repository.
pub fn documents() -> Vec<String> {
    let mut found = Vec::new();
    // What is built, and what editors and tools keep, is not ours.
    let others = ["target", "build", "node_modules"];
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(repository().join(&dir)).expect("a directory can be read") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("UTF-8");
            let path = dir.join(&name);
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() && !name.starts_with('.') && !others.contains(&name.as_str()) {
                dirs.push(path);
            } else if kind.is_file() && name.ends_with(".md") {
                found.push(path.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    found.sort();
    assert!(found.len() > 20, "{found:?}");
    found
}

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    pub document: String,
    /// Of its fence.
    pub line: usize,
    /// The heading it stands under.
    pub heading: String,
    /// What stands behind the fence: a language, and for some a word more.
    pub info: String,
    pub text: String,
}

impl Block {
    pub fn place(&self) -> String {
        format!("{}:{}", self.document, self.line)
    }

    pub fn language(&self) -> &str {
        self.info.split(' ').next().unwrap_or_default()
    }
}

/// A document, taken apart.
#[derive(Default)]
pub struct Document {
    pub blocks: Vec<Block>,
    /// Its lines outside of fenced blocks, with their numbers.
    pub prose: Vec<(usize, String)>,
    /// What links can lead to, as code hosts name it.
    pub anchors: BTreeSet<String>,
}

pub fn parse(document: &str) -> Document {
    let text = read(document);
    let mut parsed = Document::default();
    let mut heading = String::new();
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    while let Some((number, line)) = lines.next() {
        let trimmed = line.trim_start();
        let ticks = trimmed.bytes().take_while(|byte| *byte == b'`').count();
        if ticks >= 3 && !trimmed[ticks..].contains('`') {
            let indent = line.len() - trimmed.len();
            let fence = &trimmed[..ticks];
            let body: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| line.trim() != fence)
                .map(|line| line.get(indent..).unwrap_or_default())
                .collect();
            parsed.blocks.push(Block {
                document: document.to_owned(),
                line: number,
                heading: heading.clone(),
                info: trimmed[ticks..].trim().to_owned(),
                text: body.iter().map(|line| format!("{line}\n")).collect(),
            });
            continue;
        }
        if line.starts_with('#') {
            line.trim_start_matches('#').trim().clone_into(&mut heading);
            let mut anchor: String = heading
                .to_lowercase()
                .chars()
                .filter(|letter| letter.is_alphanumeric() || " _-".contains(*letter))
                .map(|letter| if letter == ' ' { '-' } else { letter })
                .collect();
            // A second heading of the same text is told apart by a number.
            let first = anchor.clone();
            for count in 1.. {
                if parsed.anchors.insert(anchor.clone()) {
                    break;
                }
                anchor = format!("{first}-{count}");
            }
        }
        parsed.prose.push((number, line.to_owned()));
    }
    parsed
}

pub fn blocks(document: &str) -> Vec<Block> {
    parse(document).blocks
}
