//! What of an HTML page is not a value: its tags and scripts without texts and string contents.
//!
//! Two pages from one template have one skeleton, unless a value broke out of its place.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

/// The page in a mobile SDK's answer.
pub fn of_mobile(answer: &Value) -> String {
    let page = BASE64.decode(answer["page"].as_str().expect("a page")).expect("base64");
    String::from_utf8(page).expect("UTF-8")
}

/// The skeleton; the error names what a browser would stumble over.
pub fn skeleton(html: &str) -> Result<String, String> {
    let mut skeleton = String::new();
    let mut rest = html;
    while let Some((_text, tag)) = rest.split_once('<') {
        let end = end_of_tag(tag).ok_or("a tag without end")?;
        let (tag, after) = (&tag[..end], &tag[end + 1..]);
        skeleton.push('<');
        skeleton.extend(tag.split('"').step_by(2));
        skeleton.push_str(">\n");
        rest = after;
        let name = tag.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        if name == "script" || name == "style" {
            let lower = rest.to_ascii_lowercase();
            let end = lower.find(&format!("</{name}")).ok_or("an element without end")?;
            let (content, after) = rest.split_at(end);
            // `<!--` with `<script` would put a browser into another state altogether.
            if content.contains('<') {
                return Err(format!("a \"<\" in a {name}"));
            }
            push_script(content, &mut skeleton)?;
            rest = after;
        }
    }
    Ok(skeleton)
}

/// The `>` that is not in a quoted value.
fn end_of_tag(tag: &str) -> Option<usize> {
    let mut in_quotes = false;
    tag.bytes().position(|byte| {
        in_quotes ^= byte == b'"';
        byte == b'>' && !in_quotes
    })
}

/// The script without what its strings hold.
fn push_script(text: &str, out: &mut String) -> Result<(), String> {
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        out.push(letter);
        if letter != '"' {
            continue;
        }
        loop {
            match letters.next() {
                Some('"') => break,
                Some('\\') => drop(letters.next()),
                Some('\n' | '\r' | '\u{2028}' | '\u{2029}') => {
                    return Err("a line break in a string".to_owned());
                }
                Some(_) => {}
                None => return Err("a string without end".to_owned()),
            }
        }
        out.push('"');
    }
    Ok(())
}
