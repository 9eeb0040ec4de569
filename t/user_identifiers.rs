//! Tests for the px module: who is logged in is reported from tokens, and what MCP calls are about.

mod support;

use px_sandbox::Sandbox;
use serde_json::{Value, json};
use support::{Nginx, Origin, SOON, get, protect, request};

fn site(sandbox: &Sandbox, origin: &Origin, directives: &str) -> Nginx {
    Nginx::start(&format!(
        "{} px_batch_activities_timeout_ms 10; {directives} location / {{ {} }}",
        protect(sandbox),
        origin.proxy_pass()
    ))
}

/// `{"sub":"user-42","org":{"id":7,"plan":"gold"},"empty":""}`, unsigned.
const TOKEN: &str =
    "e30.eyJzdWIiOiJ1c2VyLTQyIiwib3JnIjp7ImlkIjo3LCJwbGFuIjoiZ29sZCJ9LCJlbXB0eSI6IiJ9.c2ln";

/// What Risk API call and activity say alike of the members whose names begin with one of these.
fn reported(sandbox: &Sandbox, prefixes: &[&str]) -> Value {
    let own = |object: &Value| -> Value {
        let members = object.as_object().expect("an object").iter();
        let own = members.filter(|(name, _)| prefixes.iter().any(|p| name.starts_with(p)));
        own.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let activity = own(&sandbox.wait_for_activities(1, SOON)[0]["details"]);
    let call = own(&sandbox.risk_calls()[0].json()["additional"]);
    sandbox.clear();
    assert_eq!(call, activity);
    activity
}

fn identifiers(sandbox: &Sandbox) -> Value {
    reported(sandbox, &["app_user_id", "jwt_", "cross_tab"])
}

#[test]
fn claims_of_cookie_or_header_are_reported() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "px_jwt_cookie_name auth; px_jwt_cookie_user_id_field_name org.id;
         px_jwt_cookie_additional_field_names org.plan empty sub;
         px_jwt_header_name Authorization; px_jwt_header_user_id_field_name sub;
         px_jwt_header_additional_field_names org.id;",
    );
    let cookie = format!("Cookie: x=1; auth={TOKEN}; pxcts=tab-1");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    get(nginx.addr(), "/", &[&cookie, &bearer]);
    assert_eq!(
        identifiers(&sandbox),
        json!({
            "app_user_id": 7,
            "jwt_additional_fields": {"plan": "gold", "sub": "user-42"},
            "cross_tab_session": "tab-1",
        })
    );
    get(nginx.addr(), "/", &[&bearer]);
    assert_eq!(
        identifiers(&sandbox),
        json!({"app_user_id": "user-42", "jwt_additional_fields": {"id": 7}})
    );
    for broken in ["Authorization: Bearer", "Cookie: auth=a.b.c", "Authorization: a.b.c"] {
        get(nginx.addr(), "/", &[broken]);
        assert_eq!(identifiers(&sandbox), json!({}), "{broken}");
    }
    let log = nginx.stop();
    assert!(!log.contains("user-42") && !log.contains(TOKEN), "{log}");
}

#[test]
fn expressions_add_fields_of_their_own() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "px_jwt_additional_field plan $arg_plan; px_custom_extract_jwt_additional_fields from $uri;",
    );
    get(nginx.addr(), "/a", &[]);
    assert_eq!(identifiers(&sandbox), json!({"jwt_additional_fields": {"from": "/a"}}));
    get(nginx.addr(), "/a?plan=gold", &[]);
    assert_eq!(
        identifiers(&sandbox),
        json!({"jwt_additional_fields": {"plan": "gold", "from": "/a"}})
    );
}

#[test]
fn mcp_calls_are_reported_without_their_arguments() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "px_agentic_trust_enabled on; px_agentic_trust_mcp_endpoint_path /mcp/;",
    );
    let body =
        r#"{"method":"tools/call","params":{"name":"book","arguments":{"from":"x","to":"y"}}}"#;
    let call = |headers: &[&str]| request(nginx.addr(), "POST", "/mcp", headers, body.as_bytes());
    assert_eq!(call(&["Mcp-Session-Id: s-1"]).status, 200);
    let all = json!({
        "mcp_http_method": "POST", "mcp_session_id": "s-1", "mcp_method": "tools/call",
        "mcp_tool_name": "book", "mcp_tool_argument_keys": "from,to",
    });
    assert_eq!(reported(&sandbox, &["mcp_"]), all);
    // A session that the origin opens is known to the activity only.
    origin.answer(200, &["mcp-session-id: s-2"], b"{}");
    call(&[]);
    let details = sandbox.wait_for_activities(1, SOON)[0]["details"].take();
    assert_eq!(details["mcp_session_id"], "s-2");
    assert!(sandbox.risk_calls()[0].json()["additional"].get("mcp_session_id").is_none());
    sandbox.clear();
    request(nginx.addr(), "POST", "/mcpx", &[], body.as_bytes());
    assert_eq!(reported(&sandbox, &["mcp_"]), json!({}));
    get(nginx.addr(), "/mcp", &["Mcp-Session-Id: s-1"]);
    assert_eq!(
        reported(&sandbox, &["mcp_"]),
        json!({"mcp_http_method": "GET", "mcp_session_id": "s-1"})
    );
}
