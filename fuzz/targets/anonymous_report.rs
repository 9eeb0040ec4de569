//! Headers, one a line with its name, under `px_anonymize_ip`: no list of addresses is reported with the
//! last octet of any, and nothing but addresses is changed.
#![no_main]

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_core::policy::Options;
use px_fuzz::in_time;
use px_fuzz::visit::{Site, Visit, basic, play};

static SITES: LazyLock<[Site; 2]> = LazyLock::new(|| {
    [true, false].map(|anonymize_ip| Site::of(Options { anonymize_ip, ..basic() }))
});

fuzz_target!(|text: &[u8]| {
    in_time(|| {
        let mut visit = Visit::usual();
        for line in text.split(|byte| *byte == b'\n') {
            if let Some(colon) = line.iter().position(|byte| *byte == b':') {
                visit.headers.push((line[..colon].to_vec(), line[colon + 1..].to_vec()));
            }
        }
        let [changed, plain] = SITES.each_ref().map(|site| play(&visit, site).activity);
        // First party, for instance: nobody reports anything.
        let lists = [&changed, &plain].map(|activity| activity["headers"].as_array());
        let [Some(changed), Some(plain)] = lists else { return assert_eq!(lists, [None, None]) };
        assert_eq!(changed.len(), plain.len());
        for (entry, whole) in changed.iter().zip(plain) {
            assert_eq!(entry["name"], whole["name"]);
            let [value, whole] = [entry, whole].map(|e| e["value"].as_str().unwrap_or_default());
            for element in value.split(',') {
                let mut words = element.split_ascii_whitespace().map(address);
                let is_list = words.clone().all(|word| word.is_some());
                let is_whole = words.any(|word| word.is_some_and(is_whole));
                assert!(!is_list || !is_whole, "{value:?} of {whole:?}");
            }
            let has_digits = |text: &str| text.bytes().any(|byte| byte.is_ascii_digit());
            if !has_digits(whole) && !whole.contains("::") {
                assert_eq!(value, whole);
            }
        }
    });
});

fn address(word: &str) -> Option<IpAddr> {
    let with_port = |_| word.parse::<SocketAddr>().map(|address| address.ip());
    word.parse().or_else(with_port).ok()
}

fn is_whole(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[3] != 0,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.octets()[3] != 0,
            None => v6.segments()[7] != 0,
        },
    }
}
