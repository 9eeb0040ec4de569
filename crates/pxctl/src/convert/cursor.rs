//! Reading a text from left to right, with the place for messages.

use std::fmt;

/// Deeper nesting is refused: no configuration needs it, and it would exhaust the stack.
pub(crate) const MAX_DEPTH: usize = 64;

/// What is wrong with an input, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    pub column: usize,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)
    }
}

/// Positions always lie between characters: only whole characters are stepped over.
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(crate) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Steps over `word` where it comes next.
    pub(crate) fn eat(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    pub(crate) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Steps behind the next `end`, or to the end of the text; tells whether it was there.
    pub(crate) fn skip_past(&mut self, end: &str) -> bool {
        match self.rest().find(end) {
            Some(offset) => {
                self.at += offset + end.len();
                true
            }
            None => {
                self.at = self.text.len();
                false
            }
        }
    }

    /// A name of letters, digits, `_` and `$`; empty where none begins.
    pub(crate) fn word(&mut self) -> &'a str {
        if self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return "";
        }
        self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '$')
    }

    pub(crate) fn fault(&self, what: impl Into<String>) -> Fault {
        self.fault_at(self.at, what)
    }

    pub(crate) fn fault_at(&self, at: usize, what: impl Into<String>) -> Fault {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Fault {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            what: what.into(),
        }
    }

    /// A text between `quote`s, the first of which was read, with backslash escapes.
    pub(crate) fn quoted(&mut self, quote: char) -> Result<String, Fault> {
        let start = self.at;
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(self.fault_at(start, "a text does not end")),
                Some('\n') if quote != '`' => {
                    return Err(self.fault_at(start, "a text does not end on its line"));
                }
                Some('\\') => self.escape(&mut text),
                Some(c) if c == quote => return Ok(text),
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) {
        match self.next() {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('u') => {
                let unit = self.hex4();
                let is_high = matches!(unit, Some(0xd800..0xdc00));
                let low = if is_high && self.eat("\\u") { self.hex4() } else { None };
                let units = [unit.unwrap_or(0xfffd), low.unwrap_or(0)];
                let units = if low.is_some() { &units[..] } else { &units[..1] };
                text.extend(
                    char::decode_utf16(units.iter().copied())
                        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)),
                );
            }
            // A line continuation.
            Some('\n') | None => {}
            Some(c) => text.push(c),
        }
    }

    fn hex4(&mut self) -> Option<u16> {
        let digits = self.rest().get(..4)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u16::from_str_radix(digits, 16).ok()
    }
}
