//! Values as arguments of nginx directives.

use super::lua_pattern;
use super::mapping::Rule;
use super::value::{Entry, Value};

/// What became of one value.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The arguments of each directive.
    pub(crate) lines: Vec<Vec<String>>,
    /// Parts that a person has to look at, and why.
    pub(crate) refused: Vec<(Value, String)>,
    pub(crate) remarks: Vec<String>,
}

impl Written {
    fn one(argument: impl Into<String>) -> Self {
        Self { lines: vec![vec![argument.into()]], ..Self::default() }
    }
}

/// The value by the rule; `separates` where blanks in a text separate the items of a list.
pub(crate) fn write(rule: Rule, value: &Value, separates: bool) -> Result<Written, String> {
    match rule {
        Rule::Flag => Ok(Written::one(if flag(value)? { "on" } else { "off" })),
        Rule::InverseFlag => Ok(Written::one(if flag(value)? { "off" } else { "on" })),
        Rule::Mode => match scalar(value)?.to_ascii_lowercase().as_str() {
            "0" | "monitor" => Ok(Written::one("monitor")),
            "1" | "active_blocking" | "blocking" => Ok(Written::one("active_blocking")),
            _ => Err("the mode is monitor or active_blocking".into()),
        },
        Rule::Number => {
            let text = scalar(value)?;
            match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Written::one(text)),
                _ => Err("a number is expected".into()),
            }
        }
        Rule::Millis => time(&scalar(value)?, "ms"),
        Rule::Seconds => time(&scalar(value)?, "s"),
        Rule::Text | Rule::Hint => Ok(Written::one(clean(scalar(value)?)?)),
        Rule::Host => {
            let text = clean(scalar(value)?)?;
            if text.is_empty() || text.contains("//") {
                return Ok(Written::one(text));
            }
            Ok(Written::one(format!("https://{text}")))
        }
        Rule::Pairs => pairs(value),
        Rule::List | Rule::Routes | Rule::RegexRoutes | Rule::Regexes | Rule::LuaPatterns => {
            list(rule, value, separates)
        }
        Rule::Nothing => Err("there is no such directive".into()),
    }
}

fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(text) | Value::Text(text) => Ok(text.clone()),
        Value::Regex(source, _) => Ok(source.clone()),
        Value::List(items) if items.len() == 1 => match &items[0] {
            Value::Text(text) | Value::Number(text) => Ok(text.clone()),
            _ => Err("one value is expected".into()),
        },
        _ => Err("one value is expected".into()),
    }
}

fn flag(value: &Value) -> Result<bool, String> {
    match scalar(value)?.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" | "yes" => Ok(true),
        "false" | "off" | "0" | "no" | "" => Ok(false),
        _ => Err("on or off is expected".into()),
    }
}

fn time(text: &str, unit: &str) -> Result<Written, String> {
    if let Ok(number) = text.parse::<f64>() {
        if !number.is_finite() || number < 0.0 {
            return Err("a time is expected".into());
        }
        return Ok(Written::one(format!("{}{unit}", number.ceil())));
    }
    let starts = text.starts_with(|c: char| c.is_ascii_digit());
    if starts && text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Ok(Written::one(text));
    }
    Err("a time is expected".into())
}

/// Control characters cannot be meant, and a NUL would end the value.
fn clean(text: String) -> Result<String, String> {
    match text.contains(char::is_control) {
        true => Err("the value holds a control character".into()),
        false => Ok(text),
    }
}

fn pairs(value: &Value) -> Result<Written, String> {
    let mut written = Written::default();
    let Value::Table(entries) = value else {
        return Err("names with values are expected".into());
    };
    for Entry { name, value } in entries {
        match scalar(value).and_then(clean) {
            Ok(text) if clean(name.clone()).is_ok() => written.lines.push(vec![name.clone(), text]),
            Ok(_) => written.refused.push((value.clone(), "not a header name".into())),
            Err(why) => {
                let part = Value::Table(vec![Entry::new(name.as_str(), value.clone())]);
                written.refused.push((part, why));
            }
        }
    }
    Ok(written)
}

fn list(rule: Rule, value: &Value, separates: bool) -> Result<Written, String> {
    let mut written = Written::default();
    let one = std::slice::from_ref(value);
    let items = match value {
        Value::List(items) => items.as_slice(),
        Value::Table(_) => return Err("a list is expected".into()),
        _ => one,
    };
    let mut arguments = Vec::new();
    for item in items {
        if let Value::Regex(source, flags) = item {
            match regex(rule, source, flags) {
                Ok(text) => arguments.push(text),
                Err(why) => written.refused.push((item.clone(), why)),
            }
            continue;
        }
        let text = match scalar(item).and_then(clean) {
            Ok(text) => text,
            Err(why) => {
                written.refused.push((item.clone(), why));
                continue;
            }
        };
        let parts = if separates { split(&text) } else { vec![text] };
        for part in parts {
            match element(rule, &part, &mut written.remarks) {
                Some(text) => arguments.push(text),
                None => written.refused.push((Value::Text(part), LUA.into())),
            }
        }
    }
    if !arguments.is_empty() {
        written.lines.push(arguments);
    }
    Ok(written)
}

const LUA: &str = "a Lua pattern that differs from a regular expression: in Lua - repeats, % \
                   escapes";

fn element(rule: Rule, part: &str, remarks: &mut Vec<String>) -> Option<String> {
    match rule {
        Rule::LuaPatterns => lua_pattern::to_regex(part),
        Rule::RegexRoutes => Some(match part.starts_with('~') {
            true => part.to_owned(),
            false => format!("~{}", delimited(part).unwrap_or(part)),
        }),
        Rule::Routes => {
            if !part.is_empty() && delimited(part).is_some() {
                remarks.push(format!(
                    "{part} is a prefix here; JavaScript enforcers take it for a regular expression"
                ));
            }
            Some(part.to_owned())
        }
        _ => Some(part.to_owned()),
    }
}

/// What stands between the slashes of `/…/flags`.
fn delimited(text: &str) -> Option<&str> {
    let (source, flags) = text.strip_prefix('/')?.rsplit_once('/')?;
    (!source.is_empty() && flags.bytes().all(|b| b"gimsuyvd".contains(&b))).then_some(source)
}

/// A regular expression literal as a value.
fn regex(rule: Rule, source: &str, flags: &str) -> Result<String, String> {
    if flags.contains(['m', 's', 'x', 'y']) && rule != Rule::Regexes {
        return Err(format!("flags {flags} have no form here"));
    }
    let source = clean(source.to_owned())?;
    match rule {
        Rule::Routes | Rule::RegexRoutes | Rule::Regexes => {
            let mark = if flags.contains('i') { "~*" } else { "~" };
            if rule == Rule::Regexes && flags.contains(['m', 's']) {
                return Ok(format!("/{source}/{flags}"));
            }
            Ok(format!("{mark}{source}"))
        }
        _ => Err("a regular expression, and this directive takes texts".into()),
    }
}

/// Words separated by blanks or commas; quotes keep a word together.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let quoted = matches!(first, '"' | '\'').then(|| rest[1..].split_once(first)).flatten();
        let (word, behind) = quoted.unwrap_or_else(|| {
            let end = rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len());
            (rest[..end].trim_end_matches(','), &rest[end..])
        });
        if !word.is_empty() {
            words.push(word.to_owned());
        }
        rest = behind.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
    }
    words
}

/// The text as nginx reads it back.
pub(crate) fn quote(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=~*@%+,?&^|()[]!<>$".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// What may stand in a comment.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// The beginning of a long text.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_for_nginx() {
        for (text, quoted) in [
            ("plain/Text-1.css", "plain/Text-1.css"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a;b{c}", "\"a;b{c}\""),
            ("it's \"so\"", "\"it's \\\"so\\\"\""),
            ("\\d+", "\"\\\\d+\""),
            ("#x", "\"#x\""),
            ("~^/a$", "~^/a$"),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }

    #[test]
    fn splits_words() {
        assert_eq!(split(" a  b, c,d "), ["a", "b", "c,d"]);
        assert_eq!(split("'My Agent/1.0' curl"), ["My Agent/1.0", "curl"]);
        assert_eq!(split("it's"), ["it's"]);
    }

    #[test]
    fn times_are_whole() {
        assert_eq!(time("1000", "ms").unwrap().lines, [["1000ms"]]);
        assert_eq!(time("0.5", "s").unwrap().lines, [["1s"]]);
        assert_eq!(time("2s", "ms").unwrap().lines, [["2s"]]);
        assert!(time("-1", "ms").is_err());
        assert!(time("soon", "ms").is_err());
    }
}
