//! Messages about the remote configuration. First letter `s`: the timestamp, which is signed here,
//! otherwise the header as it is; the rest of the first line. Behind it the body.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use px_core::enforce::{self, Given, Step, Worker};
use px_core::hooks::Hooks;
use px_core::policy::{Options, Policy, Secret};
use px_core::request::{Header, Request, Tls};
use px_core::token_memory::NoMemory;
use px_fuzz::visit::{NOW, basic, minted};
use px_fuzz::{first_line, in_time};
use serde_json::Value;

const TOKEN: &str = "made-up-remote-config-token-0004";

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let remote_config_auth_token = Secret::new(TOKEN.to_owned());
    let remote_config_id = "id".to_owned();
    let options = Options { remote_config_id, remote_config_auth_token, ..basic() };
    Policy::compile(options).expect("valid options")
});

fuzz_target!(|text: &[u8]| {
    // Nobody knows the token; comparisons give it away to the fuzzer.
    if String::from_utf8_lossy(text).contains(TOKEN) {
        return;
    }
    in_time(|| {
        let (line, body) = first_line(text);
        let Some((&kind, line)) = line.split_first() else { return };
        let (value, is_genuine) = match kind {
            b's' => (minted::telemetry_command(TOKEN, line).into_bytes(), is_current(line)),
            _ => (line.to_vec(), false),
        };
        if value.is_empty() {
            return;
        }
        let headers = [
            Header { name: b"X-PX-Feature", value: b"enforcer_config" },
            Header { name: b"x-px-pushdata", value: &value },
        ];
        let request = Request {
            method: b"POST",
            scheme: "https",
            host: b"h.example",
            target: b"/",
            http_version: "1.1",
            headers: &headers,
            peer_ip: "203.0.113.77",
            request_id: "",
            tls: Tls::default(),
            hooks: &Hooks::NONE,
            extracted: None,
        };
        assert!(enforce::wanted(&request, &POLICY).is_some_and(|wanted| wanted.body));
        let given = Given { body: Some(body), ..Given::default() };
        let extracted = enforce::extract(&request, &POLICY, &given);
        let request = Request { extracted: Some(&extracted), ..request };
        let step = enforce::begin(&request, &POLICY, &mut Worker::default(), &mut NoMemory, NOW);
        let Step::Notification(found) = step else { panic!("it is no notification") };
        assert_eq!(found.is_genuine, is_genuine);
        let version = serde_json::from_slice::<Value>(body).ok();
        let version = version.and_then(|body| body["version"].as_u64()).unwrap_or(0);
        assert_eq!(found.version, if is_genuine { version } else { 0 });
        assert_eq!(found.answer().status, if is_genuine { 200 } else { 400 });
    });
});

fn is_current(timestamp: &[u8]) -> bool {
    let is_number = !timestamp.is_empty() && timestamp.iter().all(u8::is_ascii_digit);
    let digits = String::from_utf8_lossy(timestamp);
    is_number && digits.parse::<u128>().unwrap_or(u128::MAX) >= NOW.into()
}
