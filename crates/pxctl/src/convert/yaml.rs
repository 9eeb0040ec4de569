//! YAML, as far as gateways' and clusters' configurations use it: block mappings and lists, scalars in
//! every style, JSON-like collections on one line. Anchors, tags and complex keys are refused.

use super::cursor::{Fault, MAX_DEPTH};
use super::value::{Entry, Value};

/// As many lines as a value without a block of its own has at most: each is read again with the next.
const MAX_LINES: usize = 1000;

/// The documents of a YAML text that hold anything.
///
/// # Errors
///
/// What is wrong with the text, or not understood, and where.
pub fn documents(text: &str) -> Result<Vec<Value>, Fault> {
    let mut documents = Vec::new();
    let mut lines = Vec::new();
    for (number, raw) in text.lines().enumerate() {
        let raw = raw.trim_end().trim_start_matches('\u{feff}');
        if raw == "---" || raw == "..." {
            documents.push(document(std::mem::take(&mut lines))?);
            continue;
        }
        let content = raw.trim_start_matches(' ');
        lines.push(Line { number: number + 1, indent: raw.len() - content.len(), content });
    }
    documents.push(document(lines)?);
    documents.retain(|document| *document != Value::Null);
    Ok(documents)
}

#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    indent: usize,
    /// Without the indentation.
    content: &'a str,
}

impl Line<'_> {
    fn is_blank(&self) -> bool {
        self.content.is_empty() || self.content.starts_with('#')
    }

    fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { line: self.number, column: self.indent + 1, what: what.into() }
    }
}

fn document(lines: Vec<Line<'_>>) -> Result<Value, Fault> {
    let mut reader = Reader { lines, at: 0 };
    let value = reader.node(0, 0)?;
    match reader.line() {
        None => Ok(value),
        Some(line) => Err(line.fault("this line belongs to nothing")),
    }
}

struct Reader<'a> {
    lines: Vec<Line<'a>>,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next line that holds something.
    fn line(&mut self) -> Option<Line<'a>> {
        while self.lines.get(self.at).is_some_and(Line::is_blank) {
            self.at += 1;
        }
        self.lines.get(self.at).copied()
    }

    /// What stands in the next lines from `indent` on.
    fn node(&mut self, indent: usize, depth: usize) -> Result<Value, Fault> {
        let Some(line) = self.line().filter(|line| line.indent >= indent) else {
            return Ok(Value::Null);
        };
        if depth >= MAX_DEPTH {
            return Err(line.fault("this is nested too deeply"));
        }
        if line.content.starts_with('\t') {
            return Err(line.fault("YAML is indented with blanks, not tabs"));
        }
        if item(line.content).is_some() {
            return self.list(line.indent, depth);
        }
        if key(line.content).is_some() {
            return self.mapping(line.indent, depth);
        }
        self.at += 1;
        self.scalar(line, line.content, indent)
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Value, Fault> {
        let mut items = Vec::new();
        while let Some(line) = self.line().filter(|line| line.indent == indent) {
            let Some(rest) = item(line.content) else { break };
            let offset = line.content.len() - rest.len();
            if is_nothing(rest) {
                self.at += 1;
                items.push(self.node(indent + 1, depth + 1)?);
            } else if item(rest).is_some() || key(rest).is_some() {
                // The rest of the line is the first of a mapping or list that is indented so far.
                if let Some(line) = self.lines.get_mut(self.at) {
                    line.indent += offset;
                    line.content = rest;
                }
                items.push(self.node(indent + offset, depth + 1)?);
            } else {
                self.at += 1;
                items.push(self.scalar(line, rest, indent + 1)?);
            }
        }
        Ok(Value::List(items))
    }

    fn mapping(&mut self, indent: usize, depth: usize) -> Result<Value, Fault> {
        let mut entries = Vec::new();
        while let Some(line) = self.line().filter(|line| line.indent == indent) {
            let Some((name, rest)) = key(line.content) else {
                return Err(line.fault("a key with a colon is expected"));
            };
            self.at += 1;
            let value = if is_nothing(rest) {
                // A list may stand as far left as its key.
                let next = self.line();
                let is_list = next.is_some_and(|n| n.indent == indent && item(n.content).is_some());
                self.node(if is_list { indent } else { indent + 1 }, depth + 1)?
            } else {
                self.scalar(line, rest, indent + 1)?
            };
            entries.push(Entry::new(name, value));
        }
        Ok(Value::Table(entries))
    }

    /// A scalar, or a collection in brackets, that begins with `text`; what it goes on with is indented
    /// by `indent` at least.
    fn scalar(&mut self, line: Line<'a>, text: &str, indent: usize) -> Result<Value, Fault> {
        let text = text.trim();
        match text.chars().next() {
            Some('|' | '>') => return self.block(line, text, indent),
            Some('&' | '*' | '!' | '?' | '%' | '@' | '`') => {
                return Err(line.fault("this form of YAML is not understood"));
            }
            _ => {}
        }
        let mut text = text.to_owned();
        for _ in 0..MAX_LINES {
            let mut flow = Flow { text: &text, at: 0 };
            match flow.whole() {
                Ok(value) => {
                    // Plain text may go on below.
                    if let (Value::Text(plain), true) = (&value, flow.is_plain())
                        && let Some(next) = self.line().filter(|next| next.indent >= indent)
                    {
                        self.at += 1;
                        text = format!("{plain} {}", next.content);
                        continue;
                    }
                    return Ok(value);
                }
                Err(Open::Bad(what)) => return Err(line.fault(what)),
                Err(Open::Unfinished) => match self.line().filter(|next| next.indent >= indent) {
                    Some(next) => {
                        self.at += 1;
                        text = format!("{text} {}", next.content);
                    }
                    None => return Err(line.fault("a text or a bracket does not end")),
                },
            }
        }
        Err(line.fault("a value goes on for too many lines"))
    }

    /// A text whose lines stand below, as they are or folded.
    fn block(&mut self, line: Line<'a>, head: &str, indent: usize) -> Result<Value, Fault> {
        let (style, rest) = head.split_at(1);
        let chomping = rest.split('#').next().unwrap_or_default().trim();
        if !matches!(chomping, "" | "-" | "+") {
            return Err(line.fault("this form of YAML is not understood"));
        }
        let mut text = String::new();
        let mut own_indent = None;
        while let Some(next) = self.lines.get(self.at).copied() {
            if next.content.is_empty() {
                text.push('\n');
                self.at += 1;
                continue;
            }
            let own = *own_indent.get_or_insert(next.indent);
            if next.indent < indent || next.indent < own {
                break;
            }
            if style == ">" && !text.is_empty() && !text.ends_with("\n\n") {
                text.pop();
                text.push(' ');
            }
            text.push_str(&" ".repeat(next.indent - own));
            text.push_str(next.content);
            text.push('\n');
            self.at += 1;
        }
        if chomping != "+" {
            text.truncate(text.trim_end_matches('\n').len());
            if chomping.is_empty() && !text.is_empty() {
                text.push('\n');
            }
        }
        Ok(Value::Text(text))
    }
}

/// What stands behind the dash of a list's item.
fn item(content: &str) -> Option<&str> {
    let rest = content.strip_prefix('-')?;
    if rest.is_empty() {
        return Some(rest);
    }
    rest.starts_with(' ').then(|| rest.trim_start_matches(' '))
}

/// A key and what stands behind its colon.
fn key(content: &str) -> Option<(String, &str)> {
    if let Some(quote @ ('"' | '\'')) = content.chars().next() {
        let mut flow = Flow { text: content, at: 0 };
        let name = flow.quoted(quote).ok()?;
        let rest = content.get(flow.at..)?.strip_prefix(':')?;
        return (rest.is_empty() || rest.starts_with(' ')).then_some((name, rest.trim_start()));
    }
    if content.starts_with(['[', '{', '#', '|', '>', '&', '*', '!']) {
        return None;
    }
    let end = match content.find(": ") {
        Some(end) => end,
        None => content.strip_suffix(':')?.len(),
    };
    let (name, rest) = content.split_at(end);
    let name = name.trim_end();
    // A comment before the colon.
    if name.is_empty() || name.contains(" #") {
        return None;
    }
    Some((name.to_owned(), rest[1..].trim_start()))
}

fn is_nothing(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('#')
}

/// Why a text on one line is no value.
enum Open {
    /// It may go on in the next line.
    Unfinished,
    Bad(&'static str),
}

/// Scalars, and collections in brackets.
struct Flow<'a> {
    text: &'a str,
    at: usize,
}

impl Flow<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn blank(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn is_plain(&self) -> bool {
        !self.text.starts_with(['"', '\'', '[', '{'])
    }

    /// The value that is the whole text, but for a comment.
    fn whole(&mut self) -> Result<Value, Open> {
        let value = if self.is_plain() {
            let end = self.text.find(" #").unwrap_or(self.text.len());
            self.at = self.text.len();
            plain(self.text[..end].trim())
        } else {
            self.value(0)?
        };
        self.blank();
        if self.rest().is_empty() || self.rest().starts_with('#') {
            return Ok(value);
        }
        Err(Open::Bad("something stands behind the value"))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Open> {
        if depth >= MAX_DEPTH {
            return Err(Open::Bad("this is nested too deeply"));
        }
        self.blank();
        match self.rest().chars().next() {
            None => Err(Open::Unfinished),
            Some(quote @ ('"' | '\'')) => self.quoted(quote).map(Value::Text),
            Some('[') => {
                let mut items = Vec::new();
                self.at += 1;
                while !self.closes(']')? {
                    items.push(self.value(depth + 1)?);
                }
                Ok(Value::List(items))
            }
            Some('{') => {
                let mut entries = Vec::new();
                self.at += 1;
                while !self.closes('}')? {
                    let name = match self.rest().chars().next() {
                        Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
                        _ => self.word(&[':', ',', '}']).to_owned(),
                    };
                    self.blank();
                    let value = match self.rest().strip_prefix(':') {
                        Some(_) => {
                            self.at += 1;
                            self.value(depth + 1)?
                        }
                        None => Value::Null,
                    };
                    if name.is_empty() {
                        return Err(Open::Bad("a key is expected"));
                    }
                    entries.push(Entry::new(name, value));
                }
                Ok(Value::Table(entries))
            }
            Some(_) => {
                let word = self.word(&[',', ']', '}']);
                if word.is_empty() {
                    return Err(Open::Bad("a value is missing"));
                }
                Ok(plain(word))
            }
        }
    }

    /// Whether the bracket closes here; steps over it, or over what separates items.
    fn closes(&mut self, bracket: char) -> Result<bool, Open> {
        self.blank();
        if self.rest().starts_with(',') {
            self.at += 1;
            self.blank();
        }
        match self.rest().chars().next() {
            None => Err(Open::Unfinished),
            Some(c) if c == bracket => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => Ok(false),
        }
    }

    fn word(&mut self, ends: &[char]) -> &str {
        let start = self.at;
        let len = self.rest().find(ends).unwrap_or(self.rest().len());
        self.at += len;
        self.text[start..start + len].trim()
    }

    fn quoted(&mut self, quote: char) -> Result<String, Open> {
        self.at += 1;
        let mut text = String::new();
        let mut letters = self.rest().chars();
        loop {
            let Some(letter) = letters.next() else { return Err(Open::Unfinished) };
            match letter {
                '\'' if quote == '\'' && letters.as_str().starts_with('\'') => {
                    letters.next();
                    text.push('\'');
                }
                _ if letter == quote => {
                    self.at = self.text.len() - letters.as_str().len();
                    return Ok(text);
                }
                '\\' if quote == '"' => match letters.next() {
                    None => return Err(Open::Unfinished),
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(escaped @ ('"' | '\\' | '/' | ' ')) => text.push(escaped),
                    Some(_) => return Err(Open::Bad("this escape is not understood")),
                },
                _ => text.push(letter),
            }
        }
    }
}

/// A scalar without quotes.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
            && text.parse::<f64>().is_ok() =>
        {
            Value::Number(text.to_owned())
        }
        _ => Value::Text(text.to_owned()),
    }
}
