//! An exchange with a traffic-analysis node: what the client sent cannot speak for the connector, and any
//! answer has a status or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use px_core::hooks::Hooks;
use px_core::node::{self, BodyNote, Facts, Mode};
use px_core::request::{Header, Request, Tls};
use px_fuzz::{first_line, in_time};

fuzz_target!(|data: &[u8]| in_time(|| {
    if let Some(status) = node::final_status(data) {
        assert!(status == node::NO_STATUS || (200..=999).contains(&status));
        let _ = node::verdict(status);
    }
    let (target, rest) = first_line(data);
    let lines = rest.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some(Header { name: &line[..colon], value: line[colon + 1..].trim_ascii() })
    });
    let received: Vec<Header<'_>> = lines.collect();
    let request = Request {
        method: b"POST",
        scheme: "https",
        host: b"site.test",
        target,
        http_version: "1.1",
        headers: &received,
        peer_ip: "192.0.2.9",
        request_id: "",
        tls: Tls::default(),
        hooks: &Hooks::NONE,
        extracted: None,
    };
    assert!(node::target("/in", target).ends_with(target));
    let _ = node::is_without_body(&request);
    let facts = Facts {
        port: b"443",
        client_ip: "192.0.2.9",
        id: "0123456789abcdef0123456789abcdef",
        version: "1.2.3",
        mode: Mode::Sync,
        body: BodyNote::None,
        withheld: &[],
    };
    let Ok(sent) = node::headers(&request, &facts) else { return };
    for name in ["x-px-node-leg", "x-px-node-mode", "x-real-ip", "x-request-id", "x-forwarded-for"]
    {
        let is_it =
            |line: &&(std::borrow::Cow<'_, [u8]>, _)| line.0.eq_ignore_ascii_case(name.as_bytes());
        assert_eq!(sent.iter().filter(is_it).count(), 1, "{name}");
    }
    let is_framing = |name: &[u8]| {
        ["content-length", "transfer-encoding", "connection", "host"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    };
    assert!(!sent.iter().any(|(name, _)| is_framing(name)));
}));
