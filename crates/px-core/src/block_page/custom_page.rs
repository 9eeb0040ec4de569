//! The operator's own block page: a redirect to it, the page itself, and the JSON that names it.
//!
//! Source: block-response.md §§ 7 and 8.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::template::{html, js_string};
use crate::enforce::{PageAssets, Verdict};
use crate::json;
use crate::policy::Policy;
use crate::url::percent;

/// Where a blocked visitor is sent: the page, told where the visitor wanted to go (§ 7).
pub(super) fn location(verdict: &Verdict<'_>, policy: &Policy) -> String {
    let facts = &verdict.facts;
    let mut wanted = Vec::new();
    if policy.options().redirect_to_referer {
        wanted.extend_from_slice(facts.request.scheme.as_bytes());
        wanted.extend_from_slice(b"://");
        wanted.extend_from_slice(facts.request.host);
    }
    let path = percent::decode_lenient(facts.url.raw_path().as_bytes());
    wanted.extend_from_slice(on_this_site(&path));
    wanted.push(b'?');
    push_arguments(facts.url.raw_query(), &mut wanted);
    with_parameters(verdict, facts.request.hooks.custom_block_url, &wanted)
}

/// JSON for an application that shows block pages itself (§ 8).
pub(super) fn api_protection(verdict: &Verdict<'_>, assets: &PageAssets<'_>) -> Vec<u8> {
    let referer = verdict.facts.request.non_empty_header("referer");
    let referer = referer.map_or(assets.api_protection_default_redirect_url.into(), |referer| {
        String::from_utf8_lossy(referer)
    });
    let path = without_authorities(&referer);
    let wanted = on_this_site(path.as_bytes());
    let redirect = with_parameters(verdict, assets.api_protection_block_url, wanted);
    let mut body = Vec::with_capacity(512);
    json::object(&mut body, |body| {
        body.word("reason", "blocked");
        body.text("redirect_to", redirect);
    });
    body
}

/// The page with what the captcha script must know, for actions that lead to a captcha; the uuid
/// stands where the page asks for it.
pub(crate) fn fill(verdict: &Verdict<'_>, page: &[u8]) -> Vec<u8> {
    if verdict.block_action == "b" {
        return page.to_vec();
    }
    let uuid = verdict.uuid.as_deref().unwrap_or_default();
    let vid = verdict.vid().unwrap_or_default();
    let script = format!(
        "<script>window._pxVid = {}; window._pxUuid = {};</script>",
        js_string(vid),
        js_string(uuid)
    );
    let page = match memchr::memmem::find(page, b"</head>") {
        Some(at) => {
            let (head, body) = page.split_at(at);
            Cow::Owned([head, script.as_bytes(), body].concat())
        }
        None => Cow::Borrowed(page),
    };
    replace_all(&page, b"::BLOCK_REF::", html(uuid).as_bytes())
}

/// `page?url=…&uuid=…&vid=…`, in base64 that is not percent-encoded. The rest comes from expressions
/// and from HUMAN: whatever it is, it ends neither the parameter nor the header it stands in.
fn with_parameters(verdict: &Verdict<'_>, page: &str, wanted: &[u8]) -> String {
    let mut url = String::with_capacity(page.len() + 2 * wanted.len() + 128);
    for letter in page.chars() {
        match letter {
            ' ' | '"' | '<' | '>' => push_encoded(letter, &mut url),
            _ if letter.is_control() => push_encoded(letter, &mut url),
            _ => url.push(letter),
        }
    }
    url.push_str(if page.contains('?') { "&url=" } else { "?url=" });
    BASE64.encode_string(wanted, &mut url);
    for (name, text) in [("&uuid=", verdict.uuid.as_deref()), ("&vid=", verdict.vid())] {
        url.push_str(name);
        for letter in text.unwrap_or_default().chars() {
            match letter {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' => url.push(letter),
                _ => push_encoded(letter, &mut url),
            }
        }
    }
    url
}

fn push_encoded(letter: char, out: &mut String) {
    let mut bytes = [0; 4];
    for byte in letter.encode_utf8(&mut bytes).bytes() {
        out.push_str(&format!("%{byte:02X}"));
    }
}

/// The arguments of a query, decoded and encoded again, in their order.
fn push_arguments(query: &str, out: &mut Vec<u8>) {
    let arguments = query.split('&').filter(|argument| !argument.is_empty());
    for (at, argument) in arguments.enumerate() {
        if at > 0 {
            out.push(b'&');
        }
        match argument.split_once('=') {
            Some((name, value)) => {
                push_again(name, out);
                out.push(b'=');
                push_again(value, out);
            }
            None => push_again(argument, out),
        }
    }
}

fn push_again(text: &str, out: &mut Vec<u8>) {
    let spaced = text.replace('+', " ");
    for byte in percent::decode_lenient(spaced.as_bytes()) {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

/// The path with one slash at its beginning. Browsers take what follows two of them for a host, a
/// backslash for a slash, and overlook controls between them: a page that leads the visitor back
/// would lead them there.
fn on_this_site(path: &[u8]) -> &[u8] {
    let is_slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let lead = path.iter().take_while(|byte| is_slash(byte) || **byte <= b' ').count();
    let last = path.iter().take(lead).rposition(is_slash);
    last.and_then(|last| path.get(last..)).unwrap_or(path)
}

/// A text without any `http://host` and `https://host` in it.
fn without_authorities(text: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("http") {
        left.push_str(before);
        rest = match after.strip_prefix('s').unwrap_or(after).strip_prefix("://") {
            Some(authority) => {
                let end = authority.find(['/', '?', '#', '&']).unwrap_or(authority.len());
                authority.get(end..).unwrap_or_default()
            }
            None => {
                left.push_str("http");
                after
            }
        };
    }
    left.push_str(rest);
    left
}

fn replace_all(text: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len() + 64);
    let mut from = 0;
    for at in memchr::memmem::find_iter(text, what) {
        replaced.extend_from_slice(text.get(from..at).unwrap_or_default());
        replaced.extend_from_slice(by);
        from = at + what.len();
    }
    replaced.extend_from_slice(text.get(from..).unwrap_or_default());
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::Hooks;
    use crate::request::Request;
    use crate::sample::{self, policy};

    #[test]
    fn arguments_keep_their_order_and_are_encoded_once() {
        for (query, expected) in [
            ("x=1&y=2", "x=1&y=2"),
            ("y=%2f+a&&x", "y=%2F%20a&x"),
            ("a==b&=c", "a=%3Db&=c"),
            ("q=%c3%a9&z=%zz", "q=%C3%A9&z=%25zz"),
            ("", ""),
        ] {
            let mut out = Vec::new();
            push_arguments(query, &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(expected), "{query}");
        }
    }

    #[test]
    fn nothing_splits_the_header_or_adds_a_parameter() {
        let hooks = Hooks { custom_block_url: "/b\r\nx: y?a=\u{7f} b", ..Hooks::NONE };
        let request = Request { hooks: &hooks, ..sample::request(&[]) };
        let policy = policy(|options| options.redirect_on_custom_url = true);
        let body = r#"{"status":0,"score":100,"uuid":"u&v=\r\n\u00e9"}"#;
        let verdict = sample::verdict(&request, &policy, body);
        let location = location(&verdict, &policy);
        let expected =
            "/b%0D%0Ax:%20y?a=%7F%20b&url=L2FjY291bnQ/eD0x&uuid=u%26v%3D%0D%0A%C3%A9&vid=";
        assert_eq!(location, expected);
    }

    #[test]
    fn no_path_leads_to_another_site() {
        for (path, expected) in [
            ("/a//b", "/a//b"),
            ("/", "/"),
            ("//evil.example/x", "/evil.example/x"),
            ("////evil.example", "/evil.example"),
            ("/\\evil.example", "\\evil.example"),
            ("\\/evil.example", "/evil.example"),
            ("/\t\n/evil.example", "/evil.example"),
            (" //evil.example", "/evil.example"),
            ("?x=//y", "?x=//y"),
            ("", ""),
        ] {
            assert_eq!(on_this_site(path.as_bytes()), expected.as_bytes(), "{path:?}");
        }
        // As it is told to the page: %2F is decoded on its way there.
        let hooks = Hooks { custom_block_url: "/b", ..Hooks::NONE };
        let target = b"/%2fevil.example/%2e?a";
        let request = Request { hooks: &hooks, target, ..sample::request(&[]) };
        let policy = policy(|options| options.redirect_on_custom_url = true);
        let verdict = sample::verdict(&request, &policy, r#"{"status":0,"score":100}"#);
        let wanted = BASE64.encode("/evil.example/.?a");
        assert_eq!(location(&verdict, &policy), format!("/b?url={wanted}&uuid=&vid="));
    }

    #[test]
    fn every_authority_is_removed() {
        for (text, expected) in [
            ("https://shop.example.com/cart?x=1", "/cart?x=1"),
            ("http://h:80", ""),
            ("/go?u=https://other.example/x&v=http://b", "/go?u=/x&v="),
            ("/http/https", "/http/https"),
            ("http", "http"),
            ("", ""),
        ] {
            assert_eq!(without_authorities(text), expected, "{text}");
        }
    }

    #[test]
    fn a_page_is_filled_for_captchas_only() {
        let policy = policy(|_| ());
        for (action, expected) in [
            (
                "c",
                "<head><script>window._pxVid = \"\"; window._pxUuid = \"u\\u003c\";</script></head>\
                 ref u&lt; and u&lt; </head>",
            ),
            ("b", "<head></head>ref ::BLOCK_REF:: and ::BLOCK_REF:: </head>"),
        ] {
            let body =
                format!("{{\"status\":0,\"score\":100,\"uuid\":\"u<\",\"action\":\"{action}\"}}");
            let request = sample::request(&[]);
            let verdict = sample::verdict(&request, &policy, &body);
            let page = b"<head></head>ref ::BLOCK_REF:: and ::BLOCK_REF:: </head>";
            let filled = fill(&verdict, page);
            assert_eq!(String::from_utf8_lossy(&filled), expected, "{action}");
        }
    }
}
