//! JSON, and object literals of JavaScript files. Code is skipped over, never run.

use super::cursor::{Cursor, Fault, MAX_DEPTH};
use super::value::{Entry, Value};

/// The members of all configuration objects in a file, and single assignments.
pub(crate) fn read(text: &str) -> Result<Vec<Entry>, Fault> {
    let mut cursor = Cursor::new(text);
    blank(&mut cursor);
    if cursor.peek() == Some('{') {
        let entries = object(&mut cursor, 0)?;
        blank(&mut cursor);
        cursor.eat(";");
        blank(&mut cursor);
        return match cursor.peek() {
            None => Ok(entries),
            Some(c) => Err(cursor.fault(format!("{c:?} stands behind the object"))),
        };
    }
    let mut entries = Vec::new();
    // What stands before a brace tells an object from a block.
    let (mut name, mut before) = ("", ' ');
    loop {
        blank(&mut cursor);
        let Some(c) = cursor.peek() else { break };
        if c.is_alphabetic() || c == '_' || c == '$' {
            let word = cursor.word();
            if matches!(word, "default" | "return") {
                before = '=';
            } else {
                (name, before) = (word, 'w');
            }
            continue;
        }
        if c == '{' && matches!(before, '=' | '(') {
            entries.extend(object(&mut cursor, 0)?);
            before = '}';
            continue;
        }
        if c == '=' && before == 'w' && !cursor.rest().starts_with("==") {
            cursor.next();
            if cursor.eat(">") {
                before = '>';
                continue;
            }
            match value(&mut cursor, 0)? {
                Value::Table(members) => entries.extend(members),
                // The code behind `=` may hold the object: exports = make({ … }).
                Value::Code(source) if source.contains("px_") || source.contains("appId") => {
                    entries.push(Entry::new(name, Value::Code(source)));
                }
                other => entries.push(Entry::new(name, other)),
            }
            before = ';';
            continue;
        }
        if matches!(c, '"' | '\'' | '`') {
            skip_text(&mut cursor, c)?;
            before = '"';
            continue;
        }
        cursor.next();
        before = c;
    }
    if entries.is_empty() {
        return Err(cursor.fault_at(0, "there is no configuration object"));
    }
    Ok(entries)
}

/// Steps over blanks and comments.
pub(crate) fn blank(cursor: &mut Cursor<'_>) {
    loop {
        cursor.take_while(|c| c.is_whitespace() || c == '\u{feff}');
        if cursor.eat("//") {
            cursor.take_while(|c| c != '\n');
        } else if cursor.eat("/*") {
            cursor.skip_past("*/");
        } else {
            return;
        }
    }
}

fn skip_text(cursor: &mut Cursor<'_>, quote: char) -> Result<(), Fault> {
    cursor.next();
    cursor.quoted(quote).map(drop)
}

fn object(cursor: &mut Cursor<'_>, depth: usize) -> Result<Vec<Entry>, Fault> {
    if depth >= MAX_DEPTH {
        return Err(cursor.fault("this is nested too deeply"));
    }
    let start = cursor.at;
    cursor.next();
    let mut entries = Vec::new();
    loop {
        blank(cursor);
        let begin = cursor.at;
        let name = match cursor.peek() {
            None => return Err(cursor.fault_at(start, "an object does not end")),
            Some('}') => {
                cursor.next();
                return Ok(entries);
            }
            Some(',') => {
                cursor.next();
                continue;
            }
            Some(quote @ ('"' | '\'')) => {
                cursor.next();
                cursor.quoted(quote)?
            }
            Some(_) => cursor.word().to_owned(),
        };
        blank(cursor);
        if !name.is_empty() && cursor.eat(":") {
            entries.push(Entry::new(name, value(cursor, depth + 1)?));
            continue;
        }
        // A method, a shorthand, a spread, an accessor or a computed key.
        let method =
            if matches!(name.as_str(), "async" | "get" | "set") && cursor.peek() != Some(',') {
                cursor.word().to_owned()
            } else {
                name
            };
        let is_spread = cursor.text[begin..].starts_with("...");
        let is_computed = cursor.text[begin..].starts_with('[');
        if method.is_empty() && !is_spread && !is_computed && !cursor.text[begin..].starts_with('*')
        {
            return Err(cursor.fault("a member name is expected"));
        }
        code(cursor)?;
        let source = cursor.text[begin..cursor.at].trim().to_owned();
        let name = if method.is_empty() { "...".into() } else { method };
        entries.push(Entry::new(name, Value::Code(source)));
    }
}

/// A value, up to what separates it from the next.
pub(crate) fn value(cursor: &mut Cursor<'_>, depth: usize) -> Result<Value, Fault> {
    if depth >= MAX_DEPTH {
        return Err(cursor.fault("this is nested too deeply"));
    }
    blank(cursor);
    let start = cursor.at;
    let read = match cursor.peek() {
        None => return Err(cursor.fault("a value is missing")),
        Some('{') => Value::Table(object(cursor, depth)?),
        Some('[') => list(cursor, depth)?,
        Some(quote @ ('"' | '\'')) => {
            cursor.next();
            Value::Text(cursor.quoted(quote)?)
        }
        Some('`') => {
            cursor.next();
            let text = cursor.quoted('`')?;
            if cursor.text[start..cursor.at].contains("${") {
                cursor.at = start;
                return expression(cursor, start);
            }
            Value::Text(text)
        }
        Some('/') => regex(cursor)?,
        Some('0'..='9' | '-' | '+' | '.') => {
            Value::Number(cursor.take_while(is_of_number).replace('_', ""))
        }
        Some(',' | '}' | ']' | ')') => return Err(cursor.fault("a value is missing")),
        Some(_) => match cursor.word() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" | "undefined" => Value::Null,
            _ => {
                cursor.at = start;
                return expression(cursor, start);
            }
        },
    };
    let end = cursor.at;
    blank(cursor);
    let on_new_line = cursor.text[end..cursor.at].contains('\n');
    match cursor.peek() {
        None | Some(',' | '}' | ']' | ')' | ';') => Ok(read),
        Some('.' | '+' | '*' | '-' | '/' | '?' | '|' | '&' | '(') => {
            cursor.at = start;
            expression(cursor, start)
        }
        // TypeScript's "as const", or the next statement.
        Some(_) if on_new_line => Ok(read),
        Some(c) if c.is_alphabetic() => {
            code(cursor)?;
            Ok(read)
        }
        Some(c) => Err(cursor.fault(format!("{c:?} is not expected here"))),
    }
}

fn is_of_number(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+')
}

fn expression(cursor: &mut Cursor<'_>, start: usize) -> Result<Value, Fault> {
    code(cursor)?;
    if cursor.at == start {
        return Err(cursor.fault("a value is missing"));
    }
    Ok(Value::Code(cursor.text[start..cursor.at].trim().to_owned()))
}

fn list(cursor: &mut Cursor<'_>, depth: usize) -> Result<Value, Fault> {
    let start = cursor.at;
    cursor.next();
    let mut items = Vec::new();
    loop {
        blank(cursor);
        match cursor.peek() {
            None => return Err(cursor.fault_at(start, "a list does not end")),
            Some(']') => {
                cursor.next();
                return Ok(Value::List(items));
            }
            Some(',') => {
                cursor.next();
            }
            Some(_) => items.push(value(cursor, depth + 1)?),
        }
    }
}

fn regex(cursor: &mut Cursor<'_>) -> Result<Value, Fault> {
    let start = cursor.at;
    skip_regex(cursor)?;
    let source = cursor.text[start + 1..cursor.at - 1].replace("\\/", "/");
    let flags = cursor.take_while(|c| c.is_ascii_alphabetic());
    Ok(Value::Regex(source, flags.to_owned()))
}

fn skip_regex(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    let start = cursor.at;
    cursor.next();
    let mut in_class = false;
    loop {
        match cursor.next() {
            None | Some('\n') => {
                return Err(cursor.fault_at(start, "a regular expression does not end"));
            }
            Some('\\') => {
                cursor.next();
            }
            Some('[') => in_class = true,
            Some(']') => in_class = false,
            Some('/') if !in_class => return Ok(()),
            Some(_) => {}
        }
    }
}

/// Steps over code up to the `,`, `;` or closing bracket that ends it. What is open is kept in a
/// list, not on the stack, so that any depth is fine.
fn code(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    let start = cursor.at;
    let mut open = Vec::new();
    let mut before = '(';
    loop {
        if open.last() == Some(&'`') {
            match cursor.next() {
                None => return Err(cursor.fault_at(start, "a template does not end")),
                Some('`') => {
                    open.pop();
                    before = '`';
                }
                Some('\\') => {
                    cursor.next();
                }
                Some('$') if cursor.eat("{") => open.push('}'),
                Some(_) => {}
            }
            continue;
        }
        blank(cursor);
        let Some(c) = cursor.peek() else {
            return match open.is_empty() {
                true => Ok(()),
                false => Err(cursor.fault_at(start, "code does not end")),
            };
        };
        match c {
            ',' | ';' | ')' | ']' | '}' if open.is_empty() => return Ok(()),
            '"' | '\'' => skip_text(cursor, c)?,
            '/' if "(,=:[!&|?{};>".contains(before) => skip_regex(cursor)?,
            _ => {
                cursor.next();
                match c {
                    '(' => open.push(')'),
                    '[' => open.push(']'),
                    '{' => open.push('}'),
                    '`' => open.push('`'),
                    _ if open.last() == Some(&c) => {
                        open.pop();
                    }
                    ')' | ']' | '}' => {
                        return Err(cursor.fault(format!("{c:?} closes nothing")));
                    }
                    _ => {}
                }
            }
        }
        before = c;
    }
}
