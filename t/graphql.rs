//! Tests for the px module: GraphQL operations are reported, and sensitive ones asked about.

mod support;

use px_sandbox::Sandbox;
use serde_json::{Value, json};
use support::{BROWSER, Nginx, Origin, SOON, protect, request};

fn site(sandbox: &Sandbox, origin: &Origin, http: &str, directives: &str) -> Nginx {
    Nginx::builder()
        .http(http)
        .server(&format!(
            "{} px_batch_activities_timeout_ms 10; {directives} location / {{ {} }}",
            protect(sandbox),
            origin.proxy_pass()
        ))
        .start()
}

/// Posts `body` to `path` with a good cookie and gives what is reported of the operations, and why the
/// Risk API was asked.
fn post(sandbox: &Sandbox, nginx: &Nginx, path: &str, body: &Value) -> (Value, Value) {
    send(sandbox, nginx, "POST", path, body.to_string().as_bytes())
}

fn send(sandbox: &Sandbox, nginx: &Nginx, method: &str, path: &str, body: &[u8]) -> (Value, Value) {
    sandbox.clear();
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    let response = request(nginx.addr(), method, path, &[&cookie], body);
    assert_eq!(response.status, 200);
    let details = sandbox.wait_for_activities(1, SOON)[0]["details"].take();
    let calls = sandbox.risk_calls();
    let asked = calls.first().map_or(Value::Null, |call| {
        let additional = &call.json()["additional"];
        assert_eq!(additional["graphql_operations"], details["graphql_operations"]);
        additional["s2s_call_reason"].clone()
    });
    (details["graphql_operations"].clone(), asked)
}

#[test]
fn operations_are_reported_and_sensitive_ones_asked_about() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "",
        "px_sensitive_graphql_operation_types subscription;
         px_sensitive_graphql_operation_names ^Login$ /^pay/i; px_graphql_keywords card iban;",
    );
    let query = json!({"query": "query Cart { iban card }", "variables": {"a": {"b": 1}}});
    assert_eq!(
        post(&sandbox, &nginx, "/graphql", &query),
        (
            json!([{
                "type": "query", "name": "Cart", "keywords": ["card", "iban"], "variables": ["a.b"],
            }]),
            Value::Null
        )
    );
    let login = json!({"query": "mutation Login { a }"});
    let batch = json!([{"query": "{ a }"}, login]);
    let (reported, asked) = post(&sandbox, &nginx, "/graphql/v1?x=1", &batch);
    assert_eq!(reported[1]["sensitive"], true);
    assert_eq!((reported[0].get("sensitive"), asked), (None, json!("sensitive_route")));
    for (body, asked) in [
        (json!({"query": "subscription S { a }"}), json!("sensitive_route")),
        (json!({"query": "mutation PAYNOW { a }"}), json!("sensitive_route")),
        (json!({"query": "mutation UserLogin { a }"}), Value::Null),
    ] {
        assert_eq!(post(&sandbox, &nginx, "/graphql", &body).1, asked, "{body}");
    }
    for (method, path) in [("POST", "/api"), ("PUT", "/graphql")] {
        let body = json!({"query": "mutation Login { a }"}).to_string();
        let found = send(&sandbox, &nginx, method, path, body.as_bytes());
        assert_eq!(found, (Value::Null, Value::Null), "{method} {path}");
    }
    assert_eq!(send(&sandbox, &nginx, "POST", "/graphql", b"no JSON").0, Value::Null);
    sandbox.assert_no_complaints();
}

#[test]
fn routes_are_the_operators_choice_and_the_switch_is_the_last_word() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let query = json!({"query": "{ a }"});
    let known = json!([{"type": "query"}]);
    let nginx = site(
        &sandbox,
        &origin,
        "map $http_x_api $is_graphql { v2 1; }",
        "px_graphql_routes =/gql; px_custom_is_graphql_route $is_graphql $arg_graphql;",
    );
    assert_eq!(post(&sandbox, &nginx, "/gql", &query).0, known);
    assert_eq!(post(&sandbox, &nginx, "/graphql", &query).0, Value::Null);
    assert_eq!(post(&sandbox, &nginx, "/any?graphql=1", &query).0, known);
    let nginx =
        site(&sandbox, &origin, "", "px_graphql_enabled off; px_custom_is_graphql_route 1;");
    assert_eq!(post(&sandbox, &nginx, "/graphql", &query).0, Value::Null);
}

#[test]
fn operations_of_get_requests_are_read_where_that_is_on() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let target = "/graphql?query=query+Cart%7Ba%7D&variables=%7B%22id%22%3A1%7D";
    let nginx = site(&sandbox, &origin, "", "");
    assert_eq!(send(&sandbox, &nginx, "GET", target, b"").0, Value::Null);
    let nginx = site(
        &sandbox,
        &origin,
        "",
        "px_graphql_get_enabled on; px_sensitive_graphql_operation_names Cart;",
    );
    let known = json!([{"type": "query", "name": "Cart", "sensitive": true, "variables": ["id"]}]);
    assert_eq!(send(&sandbox, &nginx, "GET", target, b""), (known, json!("sensitive_route")));
    assert_eq!(send(&sandbox, &nginx, "GET", "/graphql", b"").0, Value::Null);
}

#[test]
fn expressions_see_the_first_operation() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "map $px_graphql_operation_type:$px_graphql_operation_name $is_sensitive {
           ~^mutation:Delete 1; }",
        "px_custom_is_sensitive_request $is_sensitive; px_extract_graphql_keywords $arg_keywords;",
    );
    let (reported, asked) = post(
        &sandbox,
        &nginx,
        "/graphql?keywords=a,b",
        &json!({"query": "mutation DeleteAll { a }"}),
    );
    assert_eq!(asked, "sensitive_route");
    assert_eq!(reported[0]["keywords"], json!(["a", "b"]));
    let query = json!({"query": "query DeleteAll { a }"});
    assert_eq!(post(&sandbox, &nginx, "/graphql", &query).1, Value::Null);
    // Without a body there is no operation.
    assert_eq!(send(&sandbox, &nginx, "POST", "/graphql", b"").1, Value::Null);
}

#[test]
fn a_hostile_batch_is_cheap_and_does_not_hide_a_sensitive_operation() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "", "px_sensitive_graphql_operation_types mutation;");
    let mut batch = vec![json!({"query": "query a{"}); 3000];
    batch.push(json!({"query": "mutation B { b }"}));
    let (reported, asked) = post(&sandbox, &nginx, "/graphql", &Value::from(batch));
    assert_eq!(asked, "sensitive_route");
    assert_eq!(reported.as_array().map(Vec::len), Some(100));
    let deep = "[".repeat(60_000);
    assert_eq!(send(&sandbox, &nginx, "POST", "/graphql", deep.as_bytes()).0, Value::Null);
}
