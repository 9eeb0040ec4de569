//! Tests for the px module: what `pxctl convert` writes is a configuration that nginx accepts.

mod support;

use pxctl::convert::convert;
use support::Nginx;

fn fixture(name: &str) -> String {
    let path = format!("{}/crates/pxctl/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("a fixture")
}

#[test]
fn nginx_accepts_what_convert_writes() {
    for name in ["setconf.js", "pxconfig.lua", "kong.json", "kong.yml", "worker.js", "fastly.vcl"] {
        let mut directives = convert(&fixture(name), None).expect("a conversion");
        // Fixtures that read the token from their environment leave it to the operator.
        if !directives.contains("\npx_auth_token ") {
            directives.push_str("px_auth_token token;\n");
        }
        let (accepted, output) = Nginx::builder().http(&directives).test();
        assert!(accepted, "{name}: {output}\n{directives}");
    }
}

/// Hostile values stay values.
#[test]
fn values_stay_values() {
    for value in ["a; px_enabled off", "a } b {", "it's", "$x ${y", "a\\\\b\\\"c", "# no"] {
        let input = format!(
            "{{px_app_id: 'PX1', px_auth_token: \"{value}\", px_cookie_secret: 's', \
             px_whitelist_ua_sub: [\"{value}\"]}}"
        );
        let directives = convert(&input, None).expect("a conversion");
        let (accepted, output) = Nginx::builder().http(&directives).test();
        assert!(accepted, "{value}: {output}\n{directives}");
    }
}
