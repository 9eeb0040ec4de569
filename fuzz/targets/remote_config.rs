//! A remote configuration: what it says never reaches identity, secrets and hosts, and it makes a
//! policy or says why not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use px_core::policy::{Options, Policy, Secret};
use px_core::remote_config::{self, Document};
use px_fuzz::in_time;

fuzz_target!(|data: &[u8]| in_time(|| {
    let _ = remote_config::version_wanted(data);
    let Ok(document) = Document::parse(data) else { return };
    let own = Options {
        app_id: "PXabcd1234".to_owned(),
        auth_token: Secret::new("token".to_owned()),
        cookie_secrets: vec![Secret::new("secret".to_owned())],
        enabled: true,
        ..Options::default()
    };
    match Policy::under(&own, document) {
        Ok((policy, _)) => {
            let options = policy.options();
            assert_eq!(options.app_id, own.app_id);
            assert!(options.auth_token == own.auth_token);
            assert!(options.cookie_secrets == own.cookie_secrets);
            assert_eq!(options.backend_url, own.backend_url);
            assert_eq!(options.backend_collector_url, own.backend_collector_url);
            assert_ne!(options.remote_config_version, 0);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}));
