//! `nginx/kong/options.md` says what `pxctl convert` does, for every option of the Kong and Lua plugins
//! that the protocol documents name; `UPDATE=1` writes its table.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pxctl::convert::kong_option;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The names that `docs/protocol/options.md` ascribes to Kong (`kong`, `000`) and Lua, in its order.
fn documented() -> Vec<String> {
    let text = fs::read_to_string(repository("docs/protocol/options.md")).unwrap();
    let mut names: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `px_")) {
        let mut cells = line.split(" | ");
        let own = cells.next().and_then(|cell| cell.split('`').nth(1)).unwrap_or_default();
        let aliases = cells.next().unwrap_or_default();
        for alias in aliases.split(';') {
            let mut parts = alias.split('`');
            let label = parts.next().unwrap_or_default();
            let mut words = label.split(|c: char| !c.is_ascii_alphanumeric());
            if !words.any(|word| matches!(word, "kong" | "lua" | "000")) {
                continue;
            }
            // Every other part stands in backticks.
            let mut found: Vec<&str> = parts.step_by(2).collect();
            if found.is_empty() && label.contains("same") {
                found.push(own);
            }
            for name in found {
                let name = name.trim_start_matches("config.").trim_start_matches("whitelist.");
                let name = name.split('(').next().unwrap_or_default();
                // A default that stands beside the name.
                if !name.contains('-') && !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
        }
    }
    names
}

fn table() -> String {
    let mut text = "| option there | directive | |\n|---|---|---|\n".to_owned();
    let mut seen = BTreeMap::new();
    for name in documented() {
        let (directive, note) =
            kong_option(&name).unwrap_or_else(|| panic!("pxctl does not know {name}"));
        let link = match directive {
            "" => "none".to_owned(),
            _ => format!("[{directive}](../../docs/directives.md#{directive})"),
        };
        text.push_str(&format!("| `{name}` | {link} | {note} |\n"));
        seen.insert(name, directive);
    }
    assert!(seen.len() > 70, "{} names", seen.len());
    text
}

#[test]
fn the_table_says_what_convert_does() {
    let path = repository("nginx/kong/options.md");
    let page = fs::read_to_string(&path).unwrap();
    let begin = page.find("| option there").expect("the table");
    let end = page[begin..].find("\n\n").map_or(page.len(), |at| begin + at + 1);
    let table = table();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, format!("{}{table}{}", &page[..begin], &page[end..])).unwrap();
        return;
    }
    assert_eq!(&page[begin..end], table, "UPDATE=1 writes it");
}
