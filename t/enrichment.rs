//! Tests for the px module: what origin and client learn of the verdict in headers.

mod support;

use px_sandbox::{Reply, Sandbox};
use serde_json::json;
use support::{BROWSER, Nginx, Origin, get, protect};

const UUID: &str = "11111111-2222-4333-8444-555555555555";

fn site(sandbox: &Sandbox, origin: &Origin, directives: &str) -> Nginx {
    Nginx::start(&format!(
        "{} {directives} location / {{ {} }}",
        protect(sandbox),
        origin.proxy_pass()
    ))
}

/// Values of a header line in a request as the origin received it.
fn received<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

const ALL: &str = "px_score_header_enabled on; px_score_header_name X-PX-Score;
    px_upstream_score_header_name X-PX-Upstream-Score; px_identifier_header_name X-PX-UUID;
    px_add_block_result_header on;";

#[test]
fn score_uuid_and_result_reach_origin_and_client() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.answer_risk(Reply::json(json!({"status": 0, "score": 42, "uuid": UUID})));
    let nginx = site(&sandbox, &origin, ALL);
    let response = get(nginx.addr(), "/", &[]);
    assert_eq!(response.headers("x-px-score"), ["42"]);
    let text = &origin.texts()[0];
    assert_eq!(received(text, "x-px-upstream-score"), ["42"]);
    assert_eq!(received(text, "x-px-uuid"), [UUID]);
    assert_eq!(received(text, "px-ctx"), ["block-result=0"]);
    assert!(received(text, "x-px-score").is_empty());
}

#[test]
fn a_simulated_block_is_told_as_a_block() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    sandbox.answer_risk(Reply::risk(100, "c"));
    let nginx = site(&sandbox, &origin, ALL);
    let response = get(nginx.addr(), "/", &[]);
    assert_eq!((response.status, response.headers("x-px-score")), (403, vec!["100"]));
    let old = nginx.workers();
    nginx.reload(|conf| conf.replace("px_module_mode active_blocking;", ""));
    nginx.wait_for_workers_to_end(&old);
    let response = get(nginx.addr(), "/", &[]);
    assert_eq!((response.status, response.headers("x-px-score")), (200, vec!["100"]));
    assert_eq!(received(&origin.texts()[0], "px-ctx"), ["block-result=1"]);
}

#[test]
fn what_a_client_says_of_itself_is_removed() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, ALL);
    let lies =
        ["X-PX-Upstream-Score: 0", "x-px-uuid: mine", "PX-CTX: block-result=0", "X-PX-Score: 1"];
    // A filtered request is passed on as it is, but for those.
    get(nginx.addr(), "/a.css", &lies);
    // An unknown score is no score.
    sandbox.answer_risk(Reply::new(500));
    get(nginx.addr(), "/", &lies);
    for text in origin.texts() {
        assert!(received(&text, "x-px-upstream-score").is_empty(), "{text}");
        assert!(!text.contains("mine"), "{text}");
        // Not one of ours: the response header's name means nothing here.
        assert_eq!(received(&text, "x-px-score"), ["1"], "{text}");
    }
    assert_eq!(received(&origin.texts()[1], "px-ctx"), ["block-result=0"]);
}

/// Servers behind nginx that name headers as CGI does take `X_PX_UUID` for `X-PX-UUID`, and nginx lets
/// it through where `underscores_in_headers` is on, as gateways have it.
#[test]
fn an_underscore_is_no_disguise() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .http("underscores_in_headers on;")
        .server(&format!("{} {ALL} location / {{ {} }}", protect(&sandbox), origin.proxy_pass()))
        .start();
    let lies = ["X_PX_Upstream_Score: 0", "x-px_uuid: mine", "PX_CTX: mine", "X_Plain: kept"];
    get(nginx.addr(), "/a.css", &lies);
    let text = &origin.texts()[0];
    assert!(!text.contains("mine") && received(text, "x_px_upstream_score").is_empty(), "{text}");
    assert_eq!(received(text, "x_plain"), ["kept"]);
}

#[test]
fn without_the_switch_no_score_is_told() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "px_score_header_name X-PX-Score; px_upstream_score_header_name X-PX-Upstream-Score;",
    );
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    let response = get(nginx.addr(), "/", &[&cookie, "X-PX-Upstream-Score: 0"]);
    assert!(response.header("x-px-score").is_none());
    assert!(received(&origin.texts()[0], "x-px-upstream-score").is_empty());
}

#[test]
fn enrichment_and_variables_have_the_switches_of_other_enforcers() {
    for (switch, sent) in [("", 1), ("px_enable_pxde off;", 0), ("px_variables_enabled off;", 1)] {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        let reply = json!({"status": 0, "score": 0, "uuid": UUID, "data_enrichment": {"a": 1}});
        sandbox.answer_risk(Reply::json(reply));
        let directives = format!(
            "px_data_enrichment_header_name X-PX-DE; {switch} add_header X-Seen $px_uuid always;"
        );
        let nginx = site(&sandbox, &origin, &directives);
        let response = get(nginx.addr(), "/", &[]);
        // The variables are there in any case: where they are not used they cost nothing.
        assert_eq!(response.headers("x-seen"), [UUID], "{switch}");
        assert_eq!(received(&origin.texts()[0], "x-px-de").len(), sent, "{switch}");
    }
}
