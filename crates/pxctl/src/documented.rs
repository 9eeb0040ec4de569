//! The directives of the module, as `docs/directives.md` states them. A directive that the
//! document gains is known here without a change.

use std::collections::BTreeMap;
use std::sync::LazyLock;

const DOCUMENT: &str = include_str!("../../../docs/directives.md");

/// One entry of the document.
#[derive(Debug, Default)]
pub struct Directive {
    pub name: String,
    /// What stands behind the name in each form, without the semicolon.
    pub syntax: Vec<String>,
    /// What applies where it is not written; `None` where nothing does.
    pub default: Option<String>,
    pub contexts: Vec<String>,
    /// A list: it may be repeated, and appends.
    pub is_list: bool,
}

impl Directive {
    pub fn is_flag(&self) -> bool {
        self.syntax.iter().any(|form| form == "on | off")
    }

    pub fn is_time(&self) -> bool {
        self.syntax.iter().any(|form| form == "time")
    }

    /// Whether so many arguments are right in one of the forms.
    pub fn takes(&self, count: usize) -> bool {
        let by_default = self.default.as_ref().is_some_and(|text| words(text) == count);
        (by_default && count == 1) || self.syntax.iter().any(|form| form_takes(form, count))
    }

    /// Whether the directive must not be shown with its value.
    pub fn is_secret(&self) -> bool {
        is_secret(&self.name)
    }
}

/// Whether a directive of this name holds a secret itself, not the name of a file.
pub fn is_secret(name: &str) -> bool {
    !name.ends_with("_file")
        && ["auth_token", "cookie_secret", "authorization", "api_token"]
            .iter()
            .any(|part| name.contains(part))
}

fn words(text: &str) -> usize {
    text.split_ascii_whitespace().count()
}

fn form_takes(form: &str, count: usize) -> bool {
    let form = form.replace(" | ", "|");
    let arguments: Vec<&str> = form.split_ascii_whitespace().collect();
    let endless = arguments.iter().any(|word| word.ends_with("..."));
    let named = arguments.iter().filter(|word| !matches!(**word, "..." | "[...]")).count();
    let optional = arguments.iter().filter(|w| w.starts_with('[') && **w != "[...]").count();
    count >= named - optional && (endless || count <= named)
}

/// All directives by name, and synonyms with the name they stand for.
#[derive(Debug, Default)]
pub struct Directives {
    by_name: BTreeMap<String, Directive>,
    synonyms: BTreeMap<String, String>,
}

static DIRECTIVES: LazyLock<Directives> = LazyLock::new(|| Directives::read(DOCUMENT));

/// The directives of the document that this program was built with.
pub fn directives() -> &'static Directives {
    &DIRECTIVES
}

impl Directives {
    /// Reads a document of this form.
    pub fn read(document: &str) -> Self {
        let mut all = Self::default();
        for section in document.split("\n### ").skip(1) {
            let Some((name, rest)) = section.split_once('\n') else { continue };
            let name = name.trim();
            let facts = rest.split_once("```text\n").and_then(|(_, rest)| rest.split_once("\n```"));
            let (true, Some((facts, _))) = (name.starts_with("px_"), facts) else { continue };
            let mut directive = Directive { name: name.to_owned(), ..Directive::default() };
            let mut label = "";
            let mut default = String::new();
            for line in facts.lines() {
                let value = match line.split_once(':') {
                    Some((begin, value)) if !line.starts_with(' ') => {
                        label = begin;
                        value.trim()
                    }
                    _ => line.trim(),
                };
                match label {
                    "Syntax" => {
                        let form = value.trim_end_matches(';');
                        directive
                            .syntax
                            .push(form.strip_prefix(name).unwrap_or(form).trim().to_owned());
                    }
                    "Default" => default = format!("{default} {value}"),
                    "Context" => {
                        directive.contexts.extend(value.split(',').map(|at| at.trim().to_owned()));
                    }
                    "Synonym" => {
                        for synonym in value.split(',') {
                            all.synonyms.insert(synonym.trim().to_owned(), name.to_owned());
                        }
                    }
                    "Merging" => directive.is_list = true,
                    _ => {}
                }
            }
            directive.default = default
                .trim()
                .strip_prefix(name)
                .map(|value| value.trim().trim_end_matches(';').to_owned());
            all.by_name.insert(name.to_owned(), directive);
        }
        all
    }

    /// The directive of this name, or the one that the name is a synonym of.
    pub fn get(&self, name: &str) -> Option<&Directive> {
        self.by_name.get(self.synonyms.get(name).map_or(name, String::as_str))
    }

    /// The known name that is the fewest typing mistakes away, if it is near at all.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        self.by_name
            .keys()
            .chain(self.synonyms.keys())
            .map(|known| (distance(name, known), known.as_str()))
            .min_by_key(|(mistakes, _)| *mistakes)
            .filter(|(mistakes, _)| *mistakes <= 1 + name.len().min(80) / 6)
            .map(|(_, known)| known)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Directive> {
        self.by_name.values()
    }
}

/// Letters to insert, delete or replace. Names longer than any directive's are far from all.
fn distance(left: &str, right: &str) -> usize {
    if left.len() > 128 {
        return usize::MAX;
    }
    let right = right.as_bytes();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(a != *b)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_documented_directives() {
        let all = directives();
        assert!(all.iter().count() > 60);
        assert!(all.get("px_enabled").unwrap().is_flag());
        assert_eq!(all.get("px_module_enabled").unwrap().name, "px_enabled");
        assert!(all.get("px_whitelist_hosts").unwrap().is_list);
        assert!(all.get("px_s2s_timeout").unwrap().is_time());
        for directive in all.iter() {
            assert!(!directive.syntax.is_empty() && !directive.contexts.is_empty());
        }
    }

    #[test]
    fn counts_arguments() {
        for (form, right) in [
            ("on | off", &[1][..]),
            ("current [previous]", &[1, 2]),
            ("name value", &[2]),
            ("route ...", &[1, 2, 3, 4]),
            ("address | network | unix: ...", &[1, 2, 3, 4]),
        ] {
            for count in 0..5 {
                assert_eq!(form_takes(form, count), right.contains(&count), "{form} {count}");
            }
        }
    }

    #[test]
    fn finds_the_nearest_name() {
        assert_eq!(directives().nearest("px_enabeld"), Some("px_enabled"));
        assert_eq!(directives().nearest("px_appid"), Some("px_app_id"));
        assert_eq!(directives().nearest("proxy_pass_request_headers"), None);
    }
}
