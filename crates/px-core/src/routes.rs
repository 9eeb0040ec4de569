//! Route patterns: what an operator may write, and lists of them made ready for matching.
//!
//! Source: options.md § 1 (ROUTES, REGEXES), flow.md § 4, DECISIONS 7. Regular expressions run in
//! linear time; what cannot (look-around, back-references) is refused with an explanation.

mod affix;
mod expression;

use affix::Prefixes;
pub(crate) use affix::Suffixes;
pub(crate) use expression::Expressions;
pub use expression::RegexPattern;

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher};

/// One value of a ROUTES list.
#[derive(Clone, Debug)]
pub enum RoutePattern {
    /// The path begins with this text: case-sensitive, not segment aware. The empty text never
    /// matches.
    Prefix(String),
    /// The path is this text.
    Exact(String),
    /// The regular expression is found in the path.
    Regex(RegexPattern),
}

impl RoutePattern {
    /// Reads directive notation: `=text` is exact, `~regex` and `~*regex` (ignoring case) are
    /// regular expressions, anything else is a prefix. The error is a phrase for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('~') {
            RegexPattern::parse(text).map(Self::Regex)
        } else if let Some(path) = text.strip_prefix('=') {
            Ok(Self::Exact(path.to_owned()))
        } else {
            Ok(Self::Prefix(text.to_owned()))
        }
    }

    /// As [`parse`](Self::parse), but a value that begins with `^` is a regular expression too:
    /// seed 004 writes `px_enforced_routes` and `px_monitored_routes` that way.
    pub fn parse_or_anchored_regex(text: &str) -> Result<Self, String> {
        if text.starts_with('^') {
            RegexPattern::parse(text).map(Self::Regex)
        } else {
            Self::parse(text)
        }
    }

    /// The pattern as [`parse`](Self::parse) reads it, for reports; regular expressions are written
    /// `_REGEXP /pattern/flags` there (remote-config-and-telemetry.md § 2).
    pub(crate) fn report(&self) -> String {
        match self {
            Self::Prefix(text) => text.clone(),
            Self::Exact(text) => format!("={text}"),
            Self::Regex(pattern) => pattern.report(),
        }
    }
}

/// Texts of which one may be another text. Operators choose them, so that they need no protection
/// from collisions, and are hashed alike in every run.
pub(crate) type Texts = HashSet<String, BuildHasherDefault<DefaultHasher>>;

/// A list of patterns of which any may match. Its cost does not grow with the list's length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    prefixes: Prefixes,
    exact: Texts,
    expressions: Expressions,
}

impl Routes {
    /// The error is a phrase for the operator.
    pub(crate) fn new(patterns: &[RoutePattern]) -> Result<Self, String> {
        let mut prefixes = Vec::new();
        let mut exact = Texts::default();
        let mut expressions = Vec::new();
        for pattern in patterns {
            match pattern {
                RoutePattern::Prefix(text) => prefixes.push(text.as_str()),
                RoutePattern::Exact(text) => {
                    exact.insert(text.clone());
                }
                RoutePattern::Regex(pattern) => expressions.push(pattern),
            }
        }
        Ok(Self {
            prefixes: Prefixes::new(prefixes),
            exact,
            expressions: Expressions::new(expressions)?,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.exact.is_empty() && self.expressions.is_empty()
    }

    /// Whether any pattern matches `text`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.prefixes.matches(text)
            || self.exact.contains(text)
            || self.expressions.is_found_in(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(patterns: &[&str]) -> Routes {
        let patterns: Vec<_> =
            patterns.iter().map(|text| RoutePattern::parse(text).expect("valid")).collect();
        Routes::new(&patterns).expect("small")
    }

    #[test]
    fn notation_decides_how_a_route_matches() {
        for (pattern, path, matches) in [
            ("/health", "/healthy", true),
            ("/health", "/api/health", false),
            ("/health", "/Health", false),
            ("/login/", "/login", false),
            ("/a.c", "/abc", false),
            ("", "/", false),
            ("=/login", "/login", true),
            ("=/login", "/login/now", false),
            ("~^/user/\\d+$", "/user/42", true),
            ("~^/user/\\d+$", "/USER/42", false),
            ("~*^/user/\\d+$", "/USER/42", true),
            ("~page", "/area/page/x", true),
            ("^/area", "/area", false),
            ("/user/", "/a/user/b", false),
        ] {
            assert_eq!(routes(&[pattern]).matches(path), matches, "{pattern} {path}");
        }
    }

    #[test]
    fn a_caret_makes_a_regex_where_seed_004_writes_regexes() {
        for (text, is_regex) in
            [("^/path", true), ("~/path", true), ("/path", false), ("=/p", false)]
        {
            let pattern = RoutePattern::parse_or_anchored_regex(text).expect("valid");
            assert_eq!(matches!(pattern, RoutePattern::Regex(_)), is_regex, "{text}");
        }
    }

    #[test]
    fn any_pattern_of_a_list_may_match() {
        let list = routes(&["/a", "=/b", "~c$", "~*^/D"]);
        for (path, matches) in [
            ("/ab", true),
            ("/b", true),
            ("/bb", false),
            ("/x/c", true),
            ("/d", true),
            ("/e", false),
        ] {
            assert_eq!(list.matches(path), matches, "{path}");
        }
        assert!(
            !Routes::default().matches("/") && Routes::default().is_empty() && !list.is_empty()
        );
    }
}
