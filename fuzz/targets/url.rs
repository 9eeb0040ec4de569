//! Request targets and hosts. First letter: `h` for a host in the first line and a target behind it,
//! otherwise a target, decoded if the letter is `d`. Compared with the `url` crate where both follow
//! the same standard.
#![no_main]

use libfuzzer_sys::fuzz_target;
use px_core::hooks::Hooks;
use px_core::request::{Request, Tls};
use px_core::url::RequestUrl;
use px_fuzz::{first_line, in_time};
use url::Url;

fuzz_target!(|text: &[u8]| {
    in_time(|| {
        let Some((&kind, text)) = text.split_first() else { return };
        let (host, target) =
            if kind == b'h' { first_line(text) } else { (&b"h.example"[..], text) };
        let decodes = kind == b'd';
        let url = read(host, target, decodes);
        let path = url.path();
        assert!(path.starts_with('/') && !path.contains("//"), "{path:?}");
        assert!(path.len() == 1 || !path.ends_with('/'), "{path:?}");
        assert!(path.bytes().all(|byte| matches!(byte, b'!'..=b'~')), "{path:?}");
        assert!(!path.contains(['?', '#', '\\']), "{path:?}");
        assert!(!path.split('/').any(is_dot_segment), "{path:?}");
        assert!(url.query().is_empty() || url.query().starts_with('?'));
        assert!(url.query().bytes().all(|byte| matches!(byte, b'!'..=b'~')), "{:?}", url.query());
        url.hides_climb();

        let (raw, normal) = (url.raw().to_string(), url.normalised().to_string());
        assert_eq!(url.is_changed(), raw != normal);
        if kind == b'h' {
            // A host cannot touch the path.
            let elsewhere = read(b"h.example", target, false);
            assert!(is_absolute(target) || elsewhere.path() == path);
            return;
        }
        // Absolute forms bring hosts of any kind; those are another matter.
        if !is_absolute(target) {
            let again = read(b"h.example", &normal.as_bytes()["https://h.example".len()..], false);
            assert_eq!(again.normalised().to_string(), normal, "read again");
            if !decodes {
                compare(&raw, path);
            }
        }
    });
});

fn read<'r>(host: &'r [u8], target: &'r [u8], decodes: bool) -> RequestUrl<'r> {
    let request = Request {
        method: b"GET",
        scheme: "https",
        host,
        target,
        http_version: "1.1",
        headers: &[],
        peer_ip: "203.0.113.77",
        request_id: "",
        tls: Tls::default(),
        hooks: &Hooks::NONE,
        extracted: None,
    };
    RequestUrl::new(&request, decodes)
}

fn is_absolute(target: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&target[..target.len().min(8)]).to_ascii_lowercase();
    start.starts_with("http:") || start.starts_with("https:")
}

fn is_dot_segment(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// The crate takes some segments for drive letters, which only `file:` URLs have.
fn compare(raw: &str, path: &str) {
    if raw["https:".len()..].contains([':', '|']) {
        return;
    }
    let reference = Url::parse(raw).expect("a URL");
    let segments = reference.path().split('/').filter(|segment| !segment.is_empty());
    let expected: String = segments.map(|segment| format!("/{segment}")).collect();
    // The standard has encoded this one since 2023; the crate does not follow yet.
    let expected = expected.replace('^', "%5E");
    assert_eq!(path, if expected.is_empty() { "/" } else { &expected }, "{raw:?}");
}
