//! Lists of prefixes or suffixes, searched in logarithmic time.

use std::cmp::Ordering;

/// Texts of which one may begin another text. Sorted, and none begins with another of them, so
/// that only the greatest one that is not above a text can be its prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prefixes(Vec<String>);

impl Prefixes {
    /// Empty texts are left out: they never match (flow.md § 4.1).
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sorted: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        sorted.sort_unstable();
        let mut kept: Vec<String> = Vec::with_capacity(sorted.len());
        for text in sorted {
            if !kept.last().is_some_and(|shorter| text.starts_with(shorter.as_str())) {
                kept.push(text.to_owned());
            }
        }
        Self(kept)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let above = self.0.partition_point(|prefix| prefix.as_str() <= text);
        let greatest = above.checked_sub(1).and_then(|at| self.0.get(at));
        greatest.is_some_and(|prefix| text.starts_with(prefix.as_str()))
    }
}

/// Texts of which one may end another text: [`Prefixes`] read from the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suffixes(Vec<String>);

impl Suffixes {
    /// Empty texts are left out: they never match.
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sorted: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        sorted.sort_unstable_by(|one, other| from_the_end(one, other));
        let mut kept: Vec<String> = Vec::with_capacity(sorted.len());
        for text in sorted {
            if !kept.last().is_some_and(|shorter| text.ends_with(shorter.as_str())) {
                kept.push(text.to_owned());
            }
        }
        Self(kept)
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let above = self.0.partition_point(|suffix| from_the_end(suffix, text).is_le());
        let greatest = above.checked_sub(1).and_then(|at| self.0.get(at));
        greatest.is_some_and(|suffix| text.ends_with(suffix.as_str()))
    }
}

fn from_the_end(one: &str, other: &str) -> Ordering {
    one.bytes().rev().cmp(other.bytes().rev())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 12] =
        ["", "/", "/a", "/ab", "/abc", "/b", "/ba", "a", "ab", "/a/b", "\u{e9}", "/\u{e9}a"];

    #[test]
    fn agrees_with_trying_each_text() {
        // Every list of up to three texts, against every text.
        for one in TEXTS {
            for two in TEXTS {
                for three in TEXTS {
                    let list = [one, two, three];
                    let (prefixes, suffixes) = (Prefixes::new(list), Suffixes::new(list));
                    for text in TEXTS {
                        let begins = list.iter().any(|t| !t.is_empty() && text.starts_with(t));
                        let ends = list.iter().any(|t| !t.is_empty() && text.ends_with(t));
                        assert_eq!(prefixes.matches(text), begins, "{list:?} {text}");
                        assert_eq!(suffixes.matches(text), ends, "{list:?} {text}");
                    }
                }
            }
        }
    }
}
