//! Calls of `px_module.setconf("px_name", value)`, in a file of any other content.

use super::cursor::{Cursor, Fault};
use super::js;
use super::value::{Entry, Value};

pub(crate) fn read(text: &str) -> Result<Vec<Entry>, Fault> {
    let mut cursor = Cursor::new(text);
    let mut entries = Vec::new();
    loop {
        js::blank(&mut cursor);
        let Some(c) = cursor.peek() else { return Ok(entries) };
        if cursor.eat("--") || c == '#' {
            cursor.take_while(|c| c != '\n');
            continue;
        }
        match cursor.word() {
            "setconf" => {
                js::blank(&mut cursor);
                if cursor.eat("(") {
                    call(&mut cursor, &mut entries)?;
                }
            }
            "" if c == '"' || c == '\'' => {
                cursor.next();
                cursor.quoted(c)?;
            }
            "" => {
                cursor.next();
            }
            _ => {}
        }
    }
}

fn call(cursor: &mut Cursor<'_>, entries: &mut Vec<Entry>) -> Result<(), Fault> {
    let start = cursor.at;
    let Value::Text(name) = js::value(cursor, 0)? else {
        return Err(cursor.fault_at(start, "setconf needs a name in quotes"));
    };
    let mut values = Vec::new();
    loop {
        js::blank(cursor);
        if cursor.eat(")") {
            break;
        }
        if !cursor.eat(",") {
            return Err(cursor.fault("\",\" or \")\" is expected"));
        }
        values.push(js::value(cursor, 0)?);
    }
    let value = match values.len() {
        0 => return Err(cursor.fault_at(start, "setconf needs a value")),
        1 => values.remove(0),
        _ => Value::List(values),
    };
    entries.push(Entry::new(name, value));
    Ok(())
}
