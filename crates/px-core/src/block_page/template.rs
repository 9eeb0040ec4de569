//! Filling templates in, with the escaping that each place needs.

use std::fmt::Write as _;

/// Replaces every `{{name}}` in `template` by what `value` gives for the name, which must be escaped
/// for its place already.
pub(super) fn fill(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut page = String::with_capacity(template.len() + 1024);
    let mut rest = template;
    while let Some((before, (name, after))) =
        rest.split_once("{{").and_then(|(before, from)| Some((before, from.split_once("}}")?)))
    {
        page.push_str(before);
        page.push_str(&value(name));
        rest = after;
    }
    page.push_str(rest);
    page
}

/// The text as a JavaScript string literal, quotes included, that cannot end the script element it
/// stands in (block-response.md § 2).
pub(crate) fn js_string(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 16);
    literal.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\'' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escape(letter, &mut literal)
            }
            _ if letter.is_control() => escape(letter, &mut literal),
            _ => literal.push(letter),
        }
    }
    literal.push('"');
    literal
}

fn escape(letter: char, out: &mut String) {
    // Every letter escaped here lies in the basic plane. Writing into a String cannot fail.
    let _ = write!(out, "\\u{:04x}", u32::from(letter));
}

/// The text for an HTML text or a quoted attribute.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_once_and_values_are_not_read_again() {
        let filled = fill("a{{x}}b{{y}}{{x}} {{", |name| format!("<{name}{{{{x}}}}>"));
        assert_eq!(filled, "a<x{{x}}>b<y{{x}}><x{{x}}> {{");
    }

    #[test]
    fn no_text_leaves_its_javascript_string() {
        for (text, expected) in [
            ("plain", r#""plain""#),
            ("</script><!--", r#""\u003c/script\u003e\u003c!--""#),
            (r#"a"b'c\"#, r#""a\u0022b\u0027c\u005c""#),
            ("a&b=c", r#""a\u0026b=c""#),
            ("\n\u{0}\u{7f}\u{2028}\u{2029}", r#""\u000a\u0000\u007f\u2028\u2029""#),
            ("caf\u{e9} \u{1f600}", "\"caf\u{e9} \u{1f600}\""),
        ] {
            assert_eq!(js_string(text), expected);
            let read: String =
                serde_json::from_str(&js_string(text)).expect("a JSON string as well");
            assert_eq!(read, text);
        }
    }

    #[test]
    fn no_text_leaves_its_html_attribute() {
        assert_eq!(html("\"><a href='x'>&"), "&quot;&gt;&lt;a href=&#39;x&#39;&gt;&amp;");
    }
}
