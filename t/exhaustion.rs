//! Tests for the px module: visitors who want to cost much.

mod support;

use px_sandbox::Sandbox;
use support::{Nginx, Origin, get, protect, request};

/// What nginx refuses before its access phase, the module does not see.
#[test]
fn what_nginx_refuses_costs_no_call() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .http("limit_req_zone $binary_remote_addr zone=visitors:1m rate=1r/m;")
        .server(&format!(
            "{} limit_req zone=visitors burst=4 nodelay; limit_req_status 429;
             px_send_async_activities_enabled off; location / {{ {} }}",
            protect(&sandbox),
            origin.proxy_pass()
        ))
        .start();
    let statuses: Vec<u16> = (0..50).map(|_| get(nginx.addr(), "/", &[]).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 5);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 45);
    assert_eq!(sandbox.risk_calls().len(), 5);
}

/// An operator who logs warnings is told nothing of what visitors get wrong.
#[test]
fn a_flood_of_bad_requests_leaves_no_lines() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .error_log_level("notice")
        .server(&format!(
            "{} px_max_body_size 1k; px_enable_login_creds_extraction on; px_forged_cookie_budget 5;
             px_login_credentials_extraction path=/login method=post sent_through=body
                 user_field=u pass_field=p;
             location / {{ {} }}",
            protect(&sandbox),
            origin.proxy_pass()
        ))
        .start();
    let large = "x".repeat(4000);
    let forged = format!("Cookie: _px3={}:c2FsdA==:1000:AAAAAAAAAAAAAAAAAAAAAA==", "0".repeat(64));
    let json = "Content-Type: application/json";
    for _ in 0..20 {
        for (path, lines, body) in [
            ("/login", &[json, "Content-Encoding: gzip"][..], "\x1f\u{8b}"),
            ("/login", &[json], &*large),
            ("/login", &[json], "{\"u\":[[["),
            ("/login", &["Content-Type: multipart/form-data"], "--"),
            ("/graphql", &[json], "{\"query\":\"{{{\"}"),
            ("/px-sandbox/block", &[], "x"),
            ("/", &[&*forged], "x"),
            ("/sandbox1/xhr@x", &[], "x"),
            ("/%ff%00", &["X-PX-AUTHORIZATION: 3:x", "X-PX-ORIGINAL-TOKEN: 3:y"], "x"),
        ] {
            request(nginx.addr(), "POST", path, lines, body.as_bytes());
        }
    }
    let log = nginx.quit();
    // What the module says of requests; it says something when it starts, too.
    let of_requests = |line: &&str| line.contains(" px: ") && line.contains(", client: ");
    assert_eq!(log.lines().find(of_requests), None);
}
