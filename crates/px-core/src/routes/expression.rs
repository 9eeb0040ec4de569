//! Regular expressions: reading, explaining what is wrong with one, and searching several at once.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// A regular expression that is searched in a text.
#[derive(Clone, Debug)]
pub struct RegexPattern {
    regex: Regex,
    source: String,
    flags: Flags,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    ignore_case: bool,
    multi_line: bool,
    dot_matches_new_line: bool,
}

/// What may stand behind the closing slash; only `i`, `m` and `s` change how this module matches.
const KNOWN_FLAGS: [char; 8] = ['g', 'i', 'm', 's', 'u', 'y', 'v', 'd'];

impl RegexPattern {
    /// Reads a bare expression, `/expression/flags` with flags out of `gimsuyvd`, `~expression` or
    /// `~*expression` (ignoring case). The error is a phrase for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut flags = Flags::default();
        let source = if let Some(source) = text.strip_prefix("~*") {
            flags.ignore_case = true;
            source
        } else if let Some(source) = text.strip_prefix('~') {
            source
        } else if let Some((source, letters)) = delimited(text) {
            flags.ignore_case = letters.contains('i');
            flags.multi_line = letters.contains('m');
            flags.dot_matches_new_line = letters.contains('s');
            source
        } else {
            text
        };
        Self::compile(source, flags)
    }

    fn compile(source: &str, flags: Flags) -> Result<Self, String> {
        if source.is_empty() {
            return Err("the regular expression is empty".to_owned());
        }
        let built = RegexBuilder::new(source)
            .case_insensitive(flags.ignore_case)
            .multi_line(flags.multi_line)
            .dot_matches_new_line(flags.dot_matches_new_line)
            .build();
        match built {
            Ok(regex) => Ok(Self { regex, source: source.to_owned(), flags }),
            Err(error) => Err(explain(source, &error)),
        }
    }

    /// The same expression, ignoring case.
    pub(crate) fn ignoring_case(&self) -> Cow<'_, Self> {
        let flags = Flags { ignore_case: true, ..self.flags };
        match Self::compile(&self.source, flags) {
            Ok(pattern) if !self.flags.ignore_case => Cow::Owned(pattern),
            _ => Cow::Borrowed(self),
        }
    }

    /// Whether the expression is found anywhere in `text`.
    pub fn is_found_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// All places in `text` where it is found, without overlaps.
    pub(crate) fn all_in<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        self.regex.find_iter(text).map(|found| found.as_str())
    }

    /// `_REGEXP /pattern/flags` (remote-config-and-telemetry.md § 2).
    pub(crate) fn report(&self) -> String {
        let Flags { ignore_case, multi_line, dot_matches_new_line } = self.flags;
        let letters = [(ignore_case, "i"), (multi_line, "m"), (dot_matches_new_line, "s")];
        let letters: String = letters.iter().filter(|(set, _)| *set).map(|(_, l)| *l).collect();
        format!("_REGEXP /{}/{letters}", self.source.replace("\\/", "/"))
    }

    /// The expression with its flags written into it.
    pub(crate) fn inline(&self) -> String {
        let Flags { ignore_case, multi_line, dot_matches_new_line } = self.flags;
        let flag = |set: bool, letter| if set { letter } else { "" };
        let flags =
            [flag(ignore_case, "i"), flag(multi_line, "m"), flag(dot_matches_new_line, "s")]
                .concat();
        let inline = format!("(?{flags}:{})", self.source);
        // A verbose expression may end in a comment, which would swallow the bracket.
        if Regex::new(&inline).is_ok() { inline } else { format!("(?{flags}:{}\n)", self.source) }
    }
}

/// Expression and flags of `/expression/flags`.
fn delimited(text: &str) -> Option<(&str, &str)> {
    let (source, flags) = text.strip_prefix('/')?.rsplit_once('/')?;
    (!source.is_empty() && flags.chars().all(|flag| KNOWN_FLAGS.contains(&flag)))
        .then_some((source, flags))
}

/// One line about what is wrong and where. The library draws the place under the expression over
/// several lines, which an error log would tear apart.
fn explain(source: &str, error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(limit) = error {
        return format!("it needs more than {} MiB once compiled (\"{source}\")", limit >> 20);
    }
    let drawn = error.to_string();
    let reason = drawn.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or(&drawn);
    let reason = if reason.starts_with("look-around") {
        "look-ahead and look-behind are not supported, because expressions are matched in linear time"
    } else if reason.starts_with("backreferences") {
        "back-references are not supported, because expressions are matched in linear time"
    } else {
        reason
    };
    // The drawing indents expression and marks alike, by four columns.
    let mut lines = drawn.lines().skip_while(|line| line.strip_prefix("    ") != Some(source));
    let column = lines.nth(1).and_then(|marks| marks.find('^')).and_then(|at| at.checked_sub(4));
    match column {
        Some(column) => format!("{reason} (at character {} of \"{source}\")", column + 1),
        None => format!("{reason} (in \"{source}\")"),
    }
}

/// Several expressions, searched together in one pass over the text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expressions(Option<RegexSet>);

impl Expressions {
    /// The error is a phrase for the operator.
    pub(crate) fn new<'a>(
        patterns: impl IntoIterator<Item = &'a RegexPattern>,
    ) -> Result<Self, String> {
        Self::compile(patterns.into_iter().map(RegexPattern::inline).collect())
    }

    /// Expressions that must match the whole text.
    pub(crate) fn anchored<'a>(
        patterns: impl IntoIterator<Item = &'a RegexPattern>,
    ) -> Result<Self, String> {
        let anchor = |pattern: &RegexPattern| format!("\\A{}\\z", pattern.inline());
        Self::compile(patterns.into_iter().map(anchor).collect())
    }

    /// Texts that are searched as they are. Empty ones are left out: they never match.
    pub(crate) fn literal<'a>(texts: impl IntoIterator<Item = &'a String>) -> Result<Self, String> {
        let texts = texts.into_iter().filter(|text| !text.is_empty());
        Self::compile(texts.map(|text| regex::escape(text)).collect())
    }

    fn compile(sources: Vec<String>) -> Result<Self, String> {
        /// What the library allows for one expression.
        const SIZE_LIMIT: usize = 10 << 20;
        if sources.is_empty() {
            return Ok(Self(None));
        }
        RegexSetBuilder::new(&sources)
            .size_limit(SIZE_LIMIT.saturating_mul(sources.len()))
            .build()
            .map(|set| Self(Some(set)))
            .map_err(|error| format!("the expressions do not work together: {error}"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn is_found_in(&self, text: &str) -> bool {
        self.0.as_ref().is_some_and(|set| set.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_notation() {
        for (text, subject, found) in [
            (".*/enforced/regex$", "/a/enforced/regex", true),
            ("/.*\\/enforced\\/regex$/", "/a/enforced/regex", true),
            ("/mymonitor/i", "MyMonitor", true),
            ("/mymonitor/", "MyMonitor", false),
            ("/^b$/m", "a\nb", true),
            ("/a.b/s", "a\nb", true),
            ("/a.b/", "a\nb", false),
            ("/a/guyvd", "a", true),
            ("~*ABC", "xabcx", true),
            ("~ABC", "xabcx", false),
            // No delimiters: `x` is no flag, and one slash delimits nothing.
            ("/user/b/x", "/user/b/x", true),
            ("/", "/", true),
            ("//", "a//b", true),
        ] {
            let pattern = RegexPattern::parse(text).expect(text);
            assert_eq!(pattern.is_found_in(subject), found, "{text} {subject}");
            let set = Expressions::new([&pattern]).expect(text);
            assert_eq!(set.is_found_in(subject), found, "{text} {subject}");
        }
    }

    #[test]
    fn errors_say_what_and_where_in_one_line() {
        for (text, expected) in [
            (
                "~^/a(?!b)",
                "look-ahead and look-behind are not supported, because expressions are matched in \
                 linear time (at character 4 of \"^/a(?!b)\")",
            ),
            (
                "(a)\\1",
                "back-references are not supported, because expressions are matched in linear time \
                 (at character 4 of \"(a)\\1\")",
            ),
            ("/(/i", "unclosed group (at character 1 of \"(\")"),
            (
                "a{2,1}",
                "invalid repetition count range, the start must be <= the end (at character 2 of \"a{2,1}\")",
            ),
            ("~", "the regular expression is empty"),
            ("", "the regular expression is empty"),
            ("a{9999}{9999}", "it needs more than 10 MiB once compiled (\"a{9999}{9999}\")"),
        ] {
            assert_eq!(RegexPattern::parse(text).expect_err(text), expected);
        }
    }

    #[test]
    fn a_set_finds_what_its_members_find() {
        let patterns: Vec<_> = ["^/a$", "/B/i", "(?x) c # comment", "(?:d)#e"]
            .iter()
            .map(|text| RegexPattern::parse(text).expect("valid"))
            .collect();
        let set = Expressions::new(&patterns).expect("small");
        for (text, found) in
            [("/a", true), ("/ab", true), ("xC", false), ("xc", true), ("/x", false), ("d#e", true)]
        {
            assert_eq!(set.is_found_in(text), found, "{text}");
        }
        assert!(!Expressions::default().is_found_in(""));
    }

    #[test]
    fn anchored_expressions_match_the_whole_text_only() {
        let pattern = RegexPattern::parse("/a|/b").expect("valid");
        let set = Expressions::anchored([&pattern]).expect("small");
        for (text, found) in
            [("/a", true), ("/b", true), ("/ab", false), ("x/b", false), ("/b\n", false)]
        {
            assert_eq!(set.is_found_in(text), found, "{text}");
        }
    }

    #[test]
    fn literal_texts_mean_themselves() {
        let texts = ["a.c".to_owned(), String::new(), "(".to_owned()];
        let set = Expressions::literal(&texts).expect("small");
        for (text, found) in [("xa.cx", true), ("abc", false), ("f(x", true), ("", false)] {
            assert_eq!(set.is_found_in(text), found, "{text}");
        }
    }

    #[test]
    fn reports_are_written_as_the_other_enforcers_do() {
        for (text, expected) in [
            ("/^\\/user\\/\\d+$/i", "_REGEXP /^/user/\\d+$/i"),
            ("~*abc", "_REGEXP /abc/i"),
            ("^/abc", "_REGEXP /^/abc/"),
        ] {
            assert_eq!(RegexPattern::parse(text).expect("valid").report(), expected);
        }
    }
}
