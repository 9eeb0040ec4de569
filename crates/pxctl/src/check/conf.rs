//! The syntax of nginx configurations: directives, blocks, quotes and comments.

use std::fmt;
use std::sync::Arc;

const MAX_DEPTH: usize = 64;

/// A directive with its arguments, and with its block where it has one.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) words: Vec<String>,
    pub(crate) block: Option<Vec<Self>>,
    pub(crate) file: Arc<str>,
    pub(crate) line: usize,
}

impl Statement {
    pub(crate) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub(crate) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// What cannot be read.
#[derive(Debug)]
pub struct Fault(pub(crate) String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    line_start: usize,
    file: Arc<str>,
}

enum Token {
    Word(String, usize),
    Semicolon,
    Open,
    Close,
    End,
}

/// The statements of one file.
pub(crate) fn parse(text: &str, file: &str) -> Result<Vec<Statement>, Fault> {
    let mut reader =
        Reader { text: text.as_bytes(), at: 0, line: 1, line_start: 0, file: file.into() };
    reader.block(0)
}

impl Reader<'_> {
    fn fault(&self, what: &str) -> Fault {
        let column = self.at.saturating_sub(self.line_start).max(1);
        Fault(format!("{}:{}:{column}: {what}", self.file, self.line))
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        if byte == b'\n' {
            self.line += 1;
            self.line_start = self.at;
        }
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn block(&mut self, depth: usize) -> Result<Vec<Statement>, Fault> {
        if depth >= MAX_DEPTH {
            return Err(self.fault("blocks are nested too deeply"));
        }
        let mut statements = Vec::new();
        let (mut words, mut line) = (Vec::new(), 0);
        loop {
            let block = match self.token()? {
                Token::Word(word, at) => {
                    if words.is_empty() {
                        line = at;
                    }
                    words.push(word);
                    continue;
                }
                Token::Semicolon | Token::Open if words.is_empty() => {
                    return Err(self.fault("a directive's name is missing"));
                }
                Token::Semicolon => None,
                Token::Open if words[0].ends_with("_by_lua_block") => {
                    self.skip_lua()?;
                    Some(Vec::new())
                }
                Token::Open => Some(self.block(depth + 1)?),
                Token::Close | Token::End if !words.is_empty() => {
                    return Err(self.fault(&format!("\";\" is missing behind \"{}\"", words[0])));
                }
                Token::Close if depth == 0 => return Err(self.fault("\"}\" closes nothing")),
                Token::End if depth > 0 => return Err(self.fault("\"}\" is missing")),
                Token::Close | Token::End => return Ok(statements),
            };
            let (words, file) = (std::mem::take(&mut words), self.file.clone());
            statements.push(Statement { words, block, file, line });
        }
    }

    fn token(&mut self) -> Result<Token, Fault> {
        loop {
            let line = self.line;
            match self.next() {
                None => return Ok(Token::End),
                Some(b' ' | b'\t' | b'\r' | b'\n') => {}
                Some(b'#') => while !matches!(self.next(), None | Some(b'\n')) {},
                Some(b';') => return Ok(Token::Semicolon),
                Some(b'{') => return Ok(Token::Open),
                Some(b'}') => return Ok(Token::Close),
                Some(quote @ (b'"' | b'\'')) => return self.quoted(quote, line),
                Some(first) => return Ok(self.bare(first, line)),
            }
        }
    }

    fn quoted(&mut self, quote: u8, line: usize) -> Result<Token, Fault> {
        let mut word = Vec::new();
        loop {
            match self.next() {
                None => return Err(self.fault("a quoted text does not end")),
                Some(b'\\') => self.escape(&mut word),
                Some(byte) if byte == quote => return Ok(token_of(word, line)),
                Some(byte) => word.push(byte),
            }
        }
    }

    fn bare(&mut self, first: u8, line: usize) -> Token {
        let mut word = Vec::new();
        if first == b'\\' {
            self.escape(&mut word);
        } else {
            word.push(first);
        }
        while let Some(byte) = self.peek() {
            let is_variable = byte == b'{' && word.last() == Some(&b'$');
            if matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';') || byte == b'{' && !is_variable {
                break;
            }
            self.next();
            if byte == b'\\' {
                self.escape(&mut word);
            } else {
                word.push(byte);
            }
        }
        token_of(word, line)
    }

    /// Behind a backslash, as nginx reads it.
    fn escape(&mut self, word: &mut Vec<u8>) {
        match self.next() {
            Some(byte @ (b'"' | b'\'' | b'\\')) => word.push(byte),
            Some(b't') => word.push(b'\t'),
            Some(b'r') => word.push(b'\r'),
            Some(b'n') => word.push(b'\n'),
            Some(byte) => word.extend([b'\\', byte]),
            None => word.push(b'\\'),
        }
    }

    /// Lua between braces: texts and comments may hold braces of their own.
    fn skip_lua(&mut self) -> Result<(), Fault> {
        let mut open = 1_usize;
        while open > 0 {
            match self.next() {
                None => return Err(self.fault("a Lua block does not end")),
                Some(b'{') => open += 1,
                Some(b'}') => open -= 1,
                Some(b'-') if self.peek() == Some(b'-') => {
                    while !matches!(self.next(), None | Some(b'\n')) {}
                }
                Some(quote @ (b'"' | b'\'')) => {
                    self.quoted(quote, 0)?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn token_of(word: Vec<u8>, line: usize) -> Token {
    Token::Word(String::from_utf8_lossy(&word).into_owned(), line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_nginx_reads() {
        let text = "a 'b c' \"d;\\\"}\" e${f}g; # no;\nh{ i \\d+; content_by_lua_block { x = '}' -- }\n } }";
        let tree = parse(text, "f").unwrap();
        assert_eq!(tree[0].words, ["a", "b c", "d;\"}", "e${f}g"]);
        let inner = tree[1].block.as_ref().unwrap();
        assert_eq!(inner[0].words, ["i", "\\d+"]);
        assert_eq!((inner[1].name(), inner[1].line), ("content_by_lua_block", 2));
    }

    #[test]
    fn says_where_it_is_wrong() {
        for (text, fault) in [
            ("a {", "f:1:3: \"}\" is missing"),
            ("a\n}", "f:2:1: \";\" is missing behind \"a\""),
            ("}", "f:1:1: \"}\" closes nothing"),
            (";", "f:1:1: a directive's name is missing"),
        ] {
            assert_eq!(parse(text, "f").unwrap_err().to_string(), fault);
        }
        assert!(parse(&"a {".repeat(100_000), "f").is_err());
    }
}
