//! Tests for the px module: cross-origin requests.

mod support;

use px_sandbox::{Reply, Sandbox};
use support::{Nginx, Origin, get, protect, request};

const ORIGIN: &str = "Origin: https://app.example.net";
const PREFLIGHT: [&str; 2] = [ORIGIN, "Access-Control-Request-Method: PUT"];

/// A site whose Risk API blocks everybody.
fn site(sandbox: &Sandbox, origin: &Origin, directives: &str) -> Nginx {
    sandbox.answer_risk(Reply::risk(100, "c"));
    Nginx::start(&format!(
        "{} {directives} location / {{ {} }}",
        protect(sandbox),
        origin.proxy_pass()
    ))
}

#[test]
fn a_script_may_read_that_it_was_blocked() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let allow = "access-control-allow-origin";
    let credentials = "access-control-allow-credentials";

    let off = site(&sandbox, &origin, "");
    let response = get(off.addr(), "/", &[ORIGIN]);
    assert_eq!((response.status, response.headers(allow).len()), (403, 0));

    let on = site(&sandbox, &origin, "px_cors_support_enabled on;");
    let response = get(on.addr(), "/", &[ORIGIN]);
    assert_eq!(response.headers(allow), ["https://app.example.net"]);
    assert_eq!(response.headers(credentials), ["true"]);
    assert_eq!(response.headers("vary"), ["Origin"]);
    assert!(get(on.addr(), "/", &[]).headers(allow).is_empty());

    let own = site(
        &sandbox,
        &origin,
        "px_cors_support_enabled on;
         px_cors_block_response_header Access-Control-Allow-Origin $http_origin;
         px_cors_block_response_header X-Empty $http_x_none;",
    );
    let response = get(own.addr(), "/", &[ORIGIN]);
    assert_eq!(response.headers(allow), ["https://app.example.net"]);
    assert!(response.headers(credentials).is_empty());
    assert!(response.header("x-empty").is_none());

    let guarded = site(
        &sandbox,
        &origin,
        "px_cors_support_enabled on;
         px_cors_create_custom_block_response_headers X-Own 1;
         px_cors_create_custom_block_response_headers_enabled off;",
    );
    let response = get(guarded.addr(), "/", &[ORIGIN]);
    assert_eq!(response.headers(credentials), ["true"]);
    assert!(response.header("x-own").is_none());
}

#[test]
fn preflights_pass_the_filter_unexamined() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "px_cors_support_enabled on; px_cors_preflight_request_filter_enabled on;",
    );
    let response = request(nginx.addr(), "OPTIONS", "/api", &PREFLIGHT, b"");
    assert_eq!((response.status, response.text().as_str()), (200, "origin"));
    assert!(sandbox.risk_calls().is_empty());
    // Not a preflight.
    assert_eq!(request(nginx.addr(), "OPTIONS", "/api", &[ORIGIN], b"").status, 403);
    assert_eq!(request(nginx.addr(), "PUT", "/api", &PREFLIGHT, b"").status, 403);
}

#[test]
fn a_handler_answers_preflights_and_wins_over_the_filter() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let handler = "location @preflight {
        add_header Access-Control-Allow-Origin $http_origin;
        add_header Access-Control-Allow-Methods $http_access_control_request_method;
        return 204;
    }";
    let nginx = site(
        &sandbox,
        &origin,
        &format!(
            "px_cors_support_enabled on; px_cors_preflight_request_filter_enabled on;
             px_cors_custom_preflight_handler @preflight; {handler}"
        ),
    );
    let response = request(nginx.addr(), "OPTIONS", "/api", &PREFLIGHT, b"");
    assert_eq!(response.status, 204);
    assert_eq!(response.headers("access-control-allow-methods"), ["PUT"]);
    assert!(origin.requests().is_empty() && sandbox.risk_calls().is_empty());
    assert_eq!(get(nginx.addr(), "/api", &[ORIGIN]).status, 403);

    // With a condition that does not hold, and switched off, there is no handler.
    for directives in [
        format!("px_custom_cors_preflight_handler @preflight $http_x_own; {handler}"),
        format!(
            "px_cors_custom_preflight_handler @preflight; \
             px_cors_preflight_handler_enabled off; {handler}"
        ),
    ] {
        let nginx = site(&sandbox, &origin, &format!("px_cors_support_enabled on; {directives}"));
        assert_eq!(request(nginx.addr(), "OPTIONS", "/api", &PREFLIGHT, b"").status, 403);
    }
}
