//! Address headers: the first line of the input is one, each further line another, in the order in
//! which they are listed; a line may be repeated headers, separated by bars.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use px_core::client_ip::extract;
use px_core::hooks::Hooks;
use px_core::request::{Header, Request, Tls};
use px_fuzz::in_time;

const NAMES: [&str; 3] = ["x-true-ip", "x-forwarded-for", "forwarded"];
const PEER: &str = "192.0.2.9";

fuzz_target!(|text: &[u8]| {
    in_time(|| {
        let lines = NAMES.iter().zip(text.split(|&byte| byte == b'\n'));
        let headers: Vec<_> = lines
            .flat_map(|(name, line)| line.split(|&byte| byte == b'|').map(move |v| (name, v)))
            .map(|(name, value)| Header { name: name.as_bytes(), value })
            .collect();
        let request = Request {
            method: b"GET",
            scheme: "https",
            host: b"h",
            target: b"/",
            http_version: "1.1",
            headers: &headers,
            peer_ip: PEER,
            request_id: "",
            tls: Tls::default(),
            hooks: &Hooks::NONE,
            extracted: None,
        };
        let address = extract(&request, &NAMES.map(str::to_owned));
        assert!(address.parse::<IpAddr>().is_ok(), "{address:?}");
        // The same in other words.
        let values = headers.iter().map(|header| String::from_utf8_lossy(header.value));
        let values: Vec<_> = values.collect();
        let mut elements = values.iter().flat_map(|value| value.split([',', ' ', '\t']));
        let expected = elements.find(|element| element.parse::<IpAddr>().is_ok());
        assert_eq!(address, expected.unwrap_or(PEER));
    });
});
