//! Patterns of Lua that mean the same as a regular expression.

/// The regular expression, or `None` where the two languages differ too much to be sure.
pub(crate) fn to_regex(pattern: &str) -> Option<String> {
    let mut regex = String::new();
    let mut rest = pattern.chars().enumerate().peekable();
    let last = pattern.chars().count().wrapping_sub(1);
    while let Some((at, c)) = rest.next() {
        match c {
            '%' => match rest.next()?.1 {
                'd' => regex.push_str("[0-9]"),
                'a' => regex.push_str("[A-Za-z]"),
                'w' => regex.push_str("[A-Za-z0-9]"),
                c if c.is_ascii_punctuation() => {
                    if !matches!(c, '/' | '_' | '<' | '>') {
                        regex.push('\\');
                    }
                    regex.push(c);
                }
                _ => return None,
            },
            '^' if at == 0 => regex.push('^'),
            '$' if at == last => regex.push('$'),
            // Magic only where they stand for a quantifier.
            '*' | '+' | '?' if at > 0 && !regex.ends_with(['^', '*', '+', '?']) => regex.push(c),
            '.' => regex.push('.'),
            // Texts for Lua, signs for a regular expression.
            '|' | '{' | '}' | '\\' => {
                regex.push('\\');
                regex.push(c);
            }
            // "-" repeats as few as possible there, which is seldom what was meant.
            '^' | '$' | '*' | '+' | '?' | '-' | '[' | ']' | '(' | ')' => return None,
            c => regex.push(c),
        }
    }
    Some(regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_only_what_is_the_same() {
        for (pattern, regex) in [
            ("/login", Some("/login")),
            ("^/api/.*$", Some("^/api/.*$")),
            ("^/v%d+/pay", Some("^/v[0-9]+/pay")),
            ("/my%-path%.html", Some("/my\\-path\\.html")),
            ("a|b", Some("a\\|b")),
            ("/my-path", None),
            ("[ab]", None),
            ("(x)", None),
            ("%bxy", None),
            ("%", None),
            ("", Some("")),
        ] {
            assert_eq!(to_regex(pattern).as_deref(), regex, "{pattern}");
        }
    }
}
