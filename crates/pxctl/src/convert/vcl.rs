//! Fastly VCL: the members of tables, and the `px_` subroutines.

use super::cursor::{Cursor, Fault};
use super::value::{Entry, Value};

pub(crate) fn read(text: &str) -> Result<Vec<Entry>, Fault> {
    let mut cursor = Cursor::new(text);
    let mut entries = Vec::new();
    let mut found = false;
    loop {
        blank(&mut cursor);
        let Some(c) = cursor.peek() else { break };
        match cursor.word() {
            "table" => {
                // A name, and perhaps the type of the values.
                cursor.take_while(|c| c != '{' && c != '\n' && c != ';');
                blank(&mut cursor);
                if cursor.peek() == Some('{') {
                    found = true;
                    table(&mut cursor, &mut entries)?;
                }
            }
            "sub" => {
                blank(&mut cursor);
                let name = cursor.word();
                blank(&mut cursor);
                let start = cursor.at;
                skip_block(&mut cursor)?;
                if name.starts_with("px_") {
                    found = true;
                    let source = cursor.text[start..cursor.at].to_owned();
                    entries.push(Entry::new(name, Value::Code(source)));
                }
            }
            "" if c == '"' => {
                text_of(&mut cursor)?;
            }
            "" => {
                cursor.next();
            }
            _ => {}
        }
    }
    if found { Ok(entries) } else { Err(cursor.fault_at(0, "there is no VCL table")) }
}

fn blank(cursor: &mut Cursor<'_>) {
    loop {
        cursor.take_while(char::is_whitespace);
        if cursor.eat("#") || cursor.eat("//") {
            cursor.take_while(|c| c != '\n');
        } else if cursor.eat("/*") {
            cursor.skip_past("*/");
        } else {
            return;
        }
    }
}

/// `"text"`, in which `%` and two digits is a byte, or `{"text"}` as it stands.
fn text_of(cursor: &mut Cursor<'_>) -> Result<String, Fault> {
    let start = cursor.at;
    let end = if cursor.eat("{\"") {
        "\"}"
    } else if cursor.eat("\"") {
        "\""
    } else {
        return Err(cursor.fault("a text in quotes is expected"));
    };
    let begin = cursor.at;
    if !cursor.skip_past(end) {
        return Err(cursor.fault_at(start, "a text does not end"));
    }
    Ok(cursor.text[begin..cursor.at - end.len()].to_owned())
}

fn table(cursor: &mut Cursor<'_>, entries: &mut Vec<Entry>) -> Result<(), Fault> {
    let start = cursor.at;
    cursor.next();
    loop {
        blank(cursor);
        match cursor.peek() {
            None => return Err(cursor.fault_at(start, "a table does not end")),
            Some('}') => {
                cursor.next();
                return Ok(());
            }
            Some(',') => {
                cursor.next();
                continue;
            }
            Some(_) => {}
        }
        let name = text_of(cursor)?;
        blank(cursor);
        if !cursor.eat(":") {
            return Err(cursor.fault("\":\" is expected"));
        }
        blank(cursor);
        let value = match cursor.peek() {
            Some('"' | '{') => Value::Text(text_of(cursor)?),
            _ => {
                let word = cursor.take_while(|c| !c.is_whitespace() && !",}#".contains(c));
                match word {
                    "" => return Err(cursor.fault("a value is missing")),
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    word if word.bytes().all(|b| b.is_ascii_digit()) => Value::Number(word.into()),
                    word => Value::Code(word.into()),
                }
            }
        };
        entries.push(Entry::new(name, value));
    }
}

fn skip_block(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    let start = cursor.at;
    let mut open = 0_usize;
    loop {
        blank(cursor);
        if cursor.rest().starts_with("{\"") || cursor.peek() == Some('"') {
            text_of(cursor)?;
            continue;
        }
        match cursor.next() {
            None => return Err(cursor.fault_at(start, "a subroutine does not end")),
            Some('{') => open += 1,
            Some('}') if open <= 1 => return Ok(()),
            Some('}') => open -= 1,
            Some(_) => {}
        }
    }
}
