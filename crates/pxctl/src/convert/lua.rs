//! `pxconfig.lua`: assignments to fields, and tables. Functions are skipped over, never run.

use super::cursor::{Cursor, Fault, MAX_DEPTH};
use super::value::{Entry, Value};

pub(crate) fn read(text: &str) -> Result<Vec<Entry>, Fault> {
    let mut cursor = Cursor::new(text);
    let mut entries = Vec::new();
    loop {
        blank(&mut cursor);
        let Some(c) = cursor.peek() else { return Ok(entries) };
        let word = cursor.word();
        match word {
            "" => {
                let start = cursor.at;
                if !skip_text(&mut cursor)? {
                    cursor.next();
                }
                if c == '{' {
                    cursor.at = start;
                    table(&mut cursor, 0, &mut entries)?;
                }
            }
            "local" => {}
            "return" => {
                blank(&mut cursor);
                if cursor.peek() == Some('{') {
                    table(&mut cursor, 0, &mut entries)?;
                }
            }
            "function" => {
                let start = cursor.at;
                blank(&mut cursor);
                let mut name = cursor.word();
                while cursor.eat(".") || cursor.eat(":") {
                    name = cursor.word();
                }
                block(&mut cursor)?;
                let source = format!("function{}", &cursor.text[start..cursor.at]);
                entries.push(Entry::new(name, Value::Code(source)));
            }
            _ => assignment(&mut cursor, word, &mut entries)?,
        }
    }
}

/// What follows a word: `.name`, `["name"]`, and `= value`.
fn assignment<'a>(
    cursor: &mut Cursor<'a>,
    first: &'a str,
    entries: &mut Vec<Entry>,
) -> Result<(), Fault> {
    let mut name = first.to_owned();
    let mut is_field = false;
    loop {
        blank(cursor);
        if cursor.eat(".") {
            cursor.word().clone_into(&mut name);
        } else if cursor.eat("[") {
            match value(cursor, 0)? {
                Value::Text(text) => name = text,
                other => name = other.line(),
            }
            blank(cursor);
            cursor.eat("]");
        } else {
            break;
        }
        is_field = true;
    }
    if cursor.rest().starts_with("==") || !cursor.eat("=") {
        return Ok(());
    }
    match value(cursor, 0)? {
        Value::Table(members) if !is_field => entries.extend(members),
        // `local _M = {}`, `local x = require …`
        Value::List(items) if !is_field && items.is_empty() => {}
        other => entries.push(Entry::new(name, other)),
    }
    Ok(())
}

fn blank(cursor: &mut Cursor<'_>) {
    loop {
        cursor.take_while(char::is_whitespace);
        if !cursor.eat("--") {
            return;
        }
        if !(cursor.peek() == Some('[') && long_text(cursor).is_some()) {
            cursor.take_while(|c| c != '\n');
        }
    }
}

/// `[[ text ]]` and `[==[ text ]==]`; nothing is read where none begins or none ends.
fn long_text(cursor: &mut Cursor<'_>) -> Option<String> {
    let equals = cursor.rest().strip_prefix('[')?.bytes().take_while(|b| *b == b'=').count();
    let body = cursor.rest().get(equals + 1..)?.strip_prefix('[')?;
    let start = cursor.text.len() - body.len();
    let end = format!("]{}]", "=".repeat(equals));
    cursor.at = start;
    cursor.skip_past(&end);
    let stop = cursor.at.saturating_sub(end.len()).max(start);
    let body = cursor.text.get(start..stop)?;
    Some(body.strip_prefix('\n').unwrap_or(body).to_owned())
}

fn skip_text(cursor: &mut Cursor<'_>) -> Result<bool, Fault> {
    match cursor.peek() {
        Some(quote @ ('"' | '\'')) => {
            cursor.next();
            cursor.quoted(quote).map(|_| true)
        }
        Some('[') => Ok(long_text(cursor).is_some()),
        _ => Ok(false),
    }
}

fn value(cursor: &mut Cursor<'_>, depth: usize) -> Result<Value, Fault> {
    if depth >= MAX_DEPTH {
        return Err(cursor.fault("this is nested too deeply"));
    }
    blank(cursor);
    let start = cursor.at;
    let read = match cursor.peek() {
        None => return Err(cursor.fault("a value is missing")),
        Some('{') => {
            let mut entries = Vec::new();
            let items = table(cursor, depth, &mut entries)?;
            if entries.is_empty() {
                Value::List(items)
            } else {
                let items = items.into_iter().enumerate();
                entries.extend(items.map(|(i, item)| Entry::new((i + 1).to_string(), item)));
                Value::Table(entries)
            }
        }
        Some(quote @ ('"' | '\'')) => {
            cursor.next();
            Value::Text(cursor.quoted(quote)?)
        }
        Some('[') => match long_text(cursor) {
            Some(text) => Value::Text(text),
            None => return Err(cursor.fault("'[' is not expected here")),
        },
        Some('0'..='9' | '-' | '.') => Value::Number(
            cursor.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).to_owned(),
        ),
        Some(',' | ';' | '}' | ']' | ')' | '=') => return Err(cursor.fault("a value is missing")),
        Some(_) => match cursor.word() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "nil" => Value::Null,
            _ => {
                cursor.at = start;
                return expression(cursor, start);
            }
        },
    };
    let end = cursor.at;
    cursor.take_while(|c| c == ' ' || c == '\t');
    let goes_on = ["..", "+", "*", "/", ".", ":", "and ", "or ", "("]
        .iter()
        .any(|operator| cursor.rest().starts_with(operator));
    if goes_on && !cursor.rest().starts_with("--") {
        cursor.at = start;
        return expression(cursor, start);
    }
    cursor.at = end;
    Ok(read)
}

/// `{ … }`: named members go to `entries`, the others are returned.
fn table(
    cursor: &mut Cursor<'_>,
    depth: usize,
    entries: &mut Vec<Entry>,
) -> Result<Vec<Value>, Fault> {
    let start = cursor.at;
    cursor.next();
    let mut items = Vec::new();
    loop {
        blank(cursor);
        match cursor.peek() {
            None => return Err(cursor.fault_at(start, "a table does not end")),
            Some('}') => {
                cursor.next();
                return Ok(items);
            }
            Some(',' | ';') => {
                cursor.next();
            }
            Some('[') if !cursor.rest().starts_with("[[") && !cursor.rest().starts_with("[=") => {
                cursor.next();
                let name = match value(cursor, depth + 1)? {
                    Value::Text(text) => text,
                    other => other.line(),
                };
                blank(cursor);
                if !cursor.eat("]") {
                    return Err(cursor.fault("\"]\" is expected"));
                }
                blank(cursor);
                if !cursor.eat("=") {
                    return Err(cursor.fault("\"=\" is expected"));
                }
                entries.push(Entry::new(name, value(cursor, depth + 1)?));
            }
            Some(_) => {
                let begin = cursor.at;
                let name = cursor.word();
                blank(cursor);
                if !name.is_empty() && !cursor.rest().starts_with("==") && cursor.eat("=") {
                    entries.push(Entry::new(name, value(cursor, depth + 1)?));
                } else {
                    cursor.at = begin;
                    items.push(value(cursor, depth + 1)?);
                }
            }
        }
    }
}

fn expression(cursor: &mut Cursor<'_>, start: usize) -> Result<Value, Fault> {
    let mut open = 0_usize;
    loop {
        if open > 0 {
            blank(cursor);
        } else {
            cursor.take_while(|c| c == ' ' || c == '\t');
        }
        let Some(c) = cursor.peek() else { break };
        if open == 0
            && (matches!(c, '\n' | '\r' | ',' | ';' | '}' | ')' | ']')
                || cursor.rest().starts_with("--"))
        {
            break;
        }
        if cursor.word() == "function" {
            block(cursor)?;
            continue;
        }
        if c.is_alphabetic() || c == '_' || skip_text(cursor)? {
            continue;
        }
        match c {
            '(' | '{' | '[' => open += 1,
            ')' | '}' | ']' => open = open.saturating_sub(1),
            _ => {}
        }
        if !(c.is_alphanumeric() || c == '_' || c == '$') || c.is_ascii_digit() {
            cursor.next();
        }
    }
    if cursor.at == start {
        return Err(cursor.fault("a value is missing"));
    }
    Ok(Value::Code(cursor.text[start..cursor.at].trim().to_owned()))
}

/// Steps over the rest of a function, whose first word was read.
fn block(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    let start = cursor.at;
    let mut open = 1_usize;
    while open > 0 {
        blank(cursor);
        if cursor.peek().is_none() {
            return Err(cursor.fault_at(start, "a function does not end"));
        }
        if skip_text(cursor)? {
            continue;
        }
        match cursor.word() {
            "function" | "if" | "do" | "repeat" => open += 1,
            "end" | "until" => open -= 1,
            "" => {
                cursor.next();
            }
            _ => {}
        }
    }
    Ok(())
}
