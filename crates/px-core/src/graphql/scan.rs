//! The operations named in a query's text, found as this expression finds them (graphql.md § 3), in
//! linear time:
//!
//! `\b(query|mutation|subscription)\s+(\w+)?\s*(\{|\()[^\})]*[}|)]`

use std::collections::HashMap;

use memchr::{memchr2, memrchr};

/// The words that begin an operation.
const KINDS: [&str; 3] = ["query", "mutation", "subscription"];

/// Names and types of operations, in the order of the text; of one name the first counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Known<'q>(HashMap<&'q str, &'static str>);

/// All operations of `query` that have a name.
pub(super) fn operations(query: &str) -> Known<'_> {
    let mut known = Known::default();
    let mut closers = Closers { text: query.as_bytes(), none_from: usize::MAX, last_bar: None };
    let mut at = 0;
    while let Some((kind, start)) = next_word(query, at) {
        // Where nothing matches, the search goes on behind the word.
        at = start;
        let Some((name, opened)) = head(query, start) else { continue };
        let Some(end) = closers.end_of(opened) else { continue };
        at = end;
        if let Some(name) = name {
            known.insert(name, kind);
        }
    }
    known
}

impl<'q> Known<'q> {
    fn insert(&mut self, name: &'q str, kind: &'static str) {
        self.0.entry(name).or_insert(kind);
    }

    /// The name, if there is exactly one.
    pub(super) fn only_name(&self) -> Option<&'q str> {
        let mut names = self.0.keys();
        names.next().filter(|_| names.next().is_none()).copied()
    }

    /// The type of the operation that `name` chooses, if it is known.
    pub(super) fn kind_of(&self, name: Option<&str>, query: &str) -> Option<&'static str> {
        if let Some(kind) = name.and_then(|name| self.0.get(name)) {
            return Some(kind);
        }
        let begin = query.trim_start_matches(is_space);
        if begin.starts_with('{') {
            return Some("query");
        }
        let kind = KINDS.into_iter().find(|kind| begin.starts_with(kind))?;
        let next = begin.get(kind.len()..)?.chars().next()?;
        (name.is_none() && (next == '{' || is_space(next))).then_some(kind)
    }
}

/// The next of the words from `from` on that begins at a word boundary, and where it ends.
fn next_word(query: &str, from: usize) -> Option<(&'static str, usize)> {
    let bytes = query.as_bytes();
    let mut at = from;
    loop {
        let rest = bytes.get(at..)?;
        at += memchr::memchr3(b'q', b'm', b's', rest)?;
        let is_boundary = at.checked_sub(1).and_then(|before| bytes.get(before));
        let is_boundary = is_boundary.is_none_or(|before| !is_word(*before));
        let rest = bytes.get(at..)?;
        let kind = KINDS.into_iter().find(|kind| rest.starts_with(kind.as_bytes()));
        match kind.filter(|_| is_boundary) {
            Some(kind) => return Some((kind, at + kind.len())),
            None => at += 1,
        }
    }
}

/// What follows the word that ends at `at`: the name, if there is one, and where what stands behind
/// the opening bracket begins.
fn head(query: &str, at: usize) -> Option<(Option<&str>, usize)> {
    let rest = query.get(at..)?;
    let spaced = rest.trim_start_matches(is_space);
    if spaced.len() == rest.len() {
        return None;
    }
    let length = spaced.bytes().take_while(|byte| is_word(*byte)).count();
    let (name, after) = spaced.split_at_checked(length)?;
    let opener = after.trim_start_matches(is_space);
    let opened = query.len() - opener.len() + 1;
    opener.starts_with(['{', '(']).then_some((Some(name).filter(|name| !name.is_empty()), opened))
}

/// Where brackets close. What was searched for in vain is not searched for again.
struct Closers<'q> {
    text: &'q [u8],
    /// From here on nothing closes.
    none_from: usize,
    /// The last `|` of the text, once asked for.
    last_bar: Option<Option<usize>>,
}

impl Closers<'_> {
    /// Where a match ends whose bracket was opened before `from`: behind the next `}` or `)`, or, if
    /// there is none, behind the last `|`.
    fn end_of(&mut self, from: usize) -> Option<usize> {
        if from < self.none_from {
            match memchr2(b'}', b')', self.text.get(from..)?) {
                Some(length) => return Some(from + length + 1),
                None => self.none_from = from,
            }
        }
        let text = self.text;
        let bar = (*self.last_bar.get_or_insert_with(|| memrchr(b'|', text)))?;
        (bar >= from).then_some(bar + 1)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// White space of JavaScript, which counts the byte order mark and not the next-line character.
pub(super) fn is_space(character: char) -> bool {
    (character.is_whitespace() && character != '\u{85}') || character == '\u{feff}'
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    /// The reference: the expression itself.
    fn expression() -> Regex {
        let space = "[\\t-\\r\\u{20}\\u{a0}\\u{1680}\\u{2000}-\\u{200a}\\u{2028}\\u{2029}\\u{202f}\\u{205f}\\u{3000}\\u{feff}]";
        let expression = format!(
            "(?-u:\\b)(query|mutation|subscription){space}+((?-u:\\w)+)?{space}*(\\{{|\\()[^}})]*[}}|)]"
        );
        Regex::new(&expression).expect("valid")
    }

    fn by_expression<'q>(expression: &Regex, query: &'q str) -> Known<'q> {
        let mut known = Known::default();
        for found in expression.captures_iter(query) {
            let kind = KINDS.into_iter().find(|kind| *kind == &found[1]).expect("one of them");
            if let Some(name) = found.get(2) {
                known.insert(name.as_str(), kind);
            }
        }
        known
    }

    #[test]
    fn finds_what_the_expression_finds() {
        const PIECES: [&str; 20] = [
            "query",
            "mutation",
            "subscription",
            " ",
            "\n",
            "\u{feff}",
            "\u{85}",
            "A",
            "b_2",
            "{",
            "}",
            "(",
            ")",
            "|",
            "@",
            "x query",
            "é",
            "queryX",
            "#",
            "\u{a0}",
        ];
        let expression = expression();
        let mut state = 7_u32;
        for _ in 0..20_000 {
            let mut query = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                query += PIECES[(state >> 16) as usize % PIECES.len()];
            }
            assert_eq!(operations(&query), by_expression(&expression, &query), "{query:?}");
        }
    }

    #[test]
    fn what_never_closes_is_searched_for_once() {
        // Quadratic, this would be four thousand million steps.
        let hostile = "query a{".repeat(1 << 16);
        assert_eq!(operations(&hostile), Known::default());
        let hostile = format!("{}|", "query a{".repeat(1 << 16));
        assert_eq!(operations(&hostile).only_name(), Some("a"));
        let hostile = format!("query {}", " ".repeat(1 << 20));
        assert_eq!(operations(&hostile), Known::default());
    }
}
