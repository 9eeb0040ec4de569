//! The status page under names of any kind, one a line: what is written is JSON, and what Prometheus
//! reads, and both give the names back.
#![no_main]

#[path = "../../t/support/prometheus.rs"]
#[expect(dead_code, reason = "what other tests ask of it")]
mod prometheus;

use libfuzzer_sys::fuzz_target;
use px_core::breaker::State;
use px_core::counters::App;
use px_core::metrics::{Document, Format, Snapshot, TokenCache};
use px_fuzz::in_time;
use serde_json::Value;

fuzz_target!(|text: &[u8]| {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (id, backend, zone, source, version) = (next(), next(), next(), next(), next());
    in_time(|| {
        let app = App::default();
        let cache = TokenCache { zone, hits: 1, misses: 2, capacity: 3, entries: Some(4) };
        let document =
            Document { task: "csp", source: source.to_owned(), fetched: 5, version: None };
        let snapshot = Snapshot {
            version,
            nginx: version,
            apps: vec![(id.into(), &app)],
            backends: vec![(backend.to_owned(), State::Open)],
            token_caches: vec![cache],
            documents: vec![document],
            ..Snapshot::default()
        };
        let json: Value = serde_json::from_str(&snapshot.write(Format::Json)).expect("JSON");
        assert_eq!(json["version"], version);
        assert!(json["applications"][id].is_object());
        assert_eq!(json["circuit_breakers"][backend], "open");
        assert_eq!(json["token_caches"][zone]["hits"], 1);

        let page = snapshot.write(Format::Prometheus);
        let page = prometheus::Metrics::parse(&page).expect("what Prometheus reads");
        assert_eq!(page.get("px_circuit_breaker_state", &[("backend", backend)]), 1.0);
        assert_eq!(page.get("px_risk_api_calls_total", &[("app_id", id)]), 0.0);
    });
});
