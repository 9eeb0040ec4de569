//! Tests for the px module: `nginx -t` warns of options that other options make idle.

mod support;

use support::conf_check::check;

const ENABLED: &str = "px_enabled on; px_app_id PXabcd1234; px_auth_token t; px_cookie_secret s;\n";

/// Name, its value, what is said, and what makes it useful.
const CASES: &[(&str, &str, &str, &str)] = &[
    (
        "px_compression_level",
        "9",
        "has no effect without \"px_compression_enabled on\"",
        "px_compression_enabled on;",
    ),
    ("px_score_header_name", "x-s", SCORE, "px_score_header_enabled on;"),
    ("px_upstream_score_header_name", "x-s", SCORE, "px_score_header_enabled on;"),
    (
        "px_redirect_on_custom_url",
        "on",
        "has no effect without \"px_custom_block_url\"",
        "px_custom_block_url /b;",
    ),
    (
        "px_redirect_to_referer",
        "on",
        "has no effect without \"px_custom_block_url\"",
        "px_custom_block_url /b; px_redirect_on_custom_url on;",
    ),
    ("px_cors_preflight_request_filter_enabled", "on", CORS, "px_cors_support_enabled on;"),
    ("px_cors_custom_preflight_handler", "@named", CORS, "px_cors_support_enabled on;"),
    ("px_custom_cors_preflight_handler", "@named", CORS, "px_cors_support_enabled on;"),
    ("px_cors_block_response_header", "a b", CORS, "px_cors_support_enabled on;"),
    (
        "px_custom_create_advanced_blocking_response",
        "@named",
        "has no effect without \"px_enable_json_response on\"",
        "px_enable_json_response on;",
    ),
    (
        "px_enforce_timeout",
        "999ms",
        "is shorter than \"px_s2s_timeout\" and cuts calls short",
        "px_s2s_timeout 900ms;",
    ),
    (
        "px_hype_sale_fail_open",
        "on",
        "has no effect without \"px_hype_sale\"",
        "px_hype_sale $arg_a;",
    ),
    ("px_csp_data_url", "https://a.test/b", CSP, "px_csp_enabled on;"),
    ("px_csp_nonce", "$request_id", CSP, "px_code_enforcer on;"),
    ("px_csp_policy_refresh_interval_minutes", "5", CSP, "px_csp_enabled on;"),
    ("px_csp_no_updates_max_interval_minutes", "5", CSP, "px_csp_enabled on;"),
    ("px_snippet_provider_url", "https://a.test/b", SNIPPET, "px_snippet_provider_enabled on;"),
    ("px_create_custom_snippet", "<a>", SNIPPET, "px_snippet_provider_enabled on;"),
    (
        "px_snippet_provider_cache_ttl_seconds",
        "60",
        "has no effect without \"px_snippet_provider_url\"",
        "px_snippet_provider_enabled on; px_snippet_provider_url https://a.test/b;",
    ),
    ("px_remote_config_id", "a", REMOTE, "px_remote_config_auth_token b;"),
    ("px_remote_config_auth_token", "a", REMOTE, "px_remote_config_id b;"),
    ("px_debug_probability", "10", "has no effect without \"px_debug on\"", "px_debug on;"),
    (
        "px_login_credentials_extraction",
        "path=/a method=post sent_through=body user_field=u pass_field=p",
        "has no effect without \"px_enable_login_creds_extraction on\"",
        "px_enable_login_creds_extraction on;",
    ),
    (
        "px_enable_login_creds_extraction",
        "on",
        "has no effect without \"px_login_credentials_extraction\" or \
         \"px_login_creds_settings_filename\"",
        "px_login_credentials_extraction path=/a method=post sent_through=body user_field=u pass_field=p;",
    ),
    (
        "px_compromised_credentials_returned_status_response",
        "403",
        "has no effect without \"px_credentials_intelligence_query_string on\"",
        "px_credentials_intelligence_query_string on;",
    ),
    (
        "px_jwt_cookie_name",
        "auth",
        "has no effect without \"px_jwt_cookie_user_id_field_name\"",
        "px_jwt_cookie_user_id_field_name sub;",
    ),
    (
        "px_jwt_header_name",
        "authorization",
        "has no effect without \"px_jwt_header_user_id_field_name\"",
        "px_jwt_header_user_id_field_name sub;",
    ),
    (
        "px_agentic_trust_mcp_endpoint_path",
        "/tools",
        "has no effect without \"px_agentic_trust_enabled on\"",
        "px_agentic_trust_enabled on;",
    ),
    (
        "px_monitored_routes",
        "/a",
        "has no effect in monitor mode, which monitors all routes",
        "px_block_enabled on;",
    ),
];
const CSP: &str = "has no effect without \"px_csp_enabled on\"";
const SNIPPET: &str = "has no effect without \"px_snippet_provider_enabled on\"";
const REMOTE: &str =
    "has no effect without \"px_remote_config_id\" and \"px_remote_config_auth_token\"";
const SCORE: &str = "has no effect without \"px_score_header_enabled on\"";
const CORS: &str = "has no effect without \"px_cors_support_enabled on\"";

#[track_caller]
fn assert_says(conf: &str, expected: &[String]) {
    let (accepted, said) = check(conf);
    assert!(accepted, "{conf}: {said:?}");
    let said: Vec<&str> = said
        .iter()
        .map(|line| line.rsplit_once(" in nginx.conf:").map_or(line.as_str(), |(text, _)| text))
        .collect();
    assert_eq!(said, expected, "{conf}");
}

#[test]
fn what_lacks_another_option_is_warned_about_at_its_line() {
    for (name, value, text, cure) in CASES {
        let line = format!("\n{name} {value};\n");
        let said = [format!("[warn] px: \"{name}\" {text}, px.conf:3")];
        assert_says(&format!("{ENABLED}{line}"), &said);
        assert_says(&format!("{ENABLED}{line} {cure}"), &[]);
        // Where the module is off nothing is said, and what one location uses is useful.
        assert_says(&line, &[]);
        let inner = format!(
            "server {{ listen 127.0.0.1:1; location @named {{ return 204; }}
             location / {{ {cure} }} }}"
        );
        assert_says(&format!("{ENABLED}{line}{inner}"), &[]);
    }
}

#[test]
fn other_combinations() {
    let protection =
        "\npx_api_protection_block_url /a;\npx_api_protection_default_redirect_url /b;\n";
    let text = "has no effect without \"px_api_protection_mode on\"";
    assert_says(
        &format!("{ENABLED}{protection}"),
        &[
            format!("[warn] px: \"px_api_protection_block_url\" {text}, px.conf:3"),
            format!("[warn] px: \"px_api_protection_default_redirect_url\" {text}, px.conf:4"),
        ],
    );
    assert_says(&format!("{ENABLED}{protection}px_api_protection_mode on;"), &[]);
    let page = "px_custom_block_url /b;";
    let beside = "has no effect beside \"px_custom_block_url\", which comes first";
    assert_says(
        &format!("{ENABLED}{protection}px_api_protection_mode on;{page}"),
        &[format!("[warn] px: \"px_api_protection_mode\" {beside}, px.conf:5")],
    );
    // What may be empty may leave the answer to the mode, and what is switched off needs nothing.
    for page in ["px_custom_block_url $arg_page;", "px_custom_block_url \"\";"] {
        assert_says(&format!("{ENABLED}{protection}px_api_protection_mode on;{page}"), &[]);
    }
    let off =
        "px_cors_custom_preflight_handler off; px_custom_create_advanced_blocking_response off;";
    assert_says(&format!("{ENABLED}{off}"), &[]);
    let bypass = format!("{ENABLED}px_bypass_monitor_header x-b;");
    assert_says(&bypass, &[]);
    let text = "has no effect where blocking is on and nothing is monitored";
    assert_says(
        &format!("{bypass} px_block_enabled on;"),
        &[format!("[warn] px: \"px_bypass_monitor_header\" {text}, px.conf:2")],
    );
    assert_says(&format!("{bypass} px_block_enabled on; px_monitored_routes /a;"), &[]);
}

#[test]
fn what_is_for_first_party_is_idle_where_that_is_off() {
    for line in ["px_custom_first_party_prefix fp;", "px_first_party_cache zone;"] {
        let off = format!("{ENABLED} px_first_party_enabled off; {line}");
        let (accepted, said) = check(&off);
        let expected = "has no effect where \"px_first_party_enabled\" is off";
        assert!(accepted && said.iter().any(|text| text.contains(expected)), "{said:?}");
        // A remote configuration may switch it on.
        let remote = "px_remote_config_id a; px_remote_config_auth_token b;";
        let cache = "proxy_cache_path /tmp/px-advice keys_zone=zone:1m;";
        let (accepted, said) = check(format!("{cache} {off} {remote}"));
        assert!(accepted && said.is_empty(), "{said:?}");
    }
    let (accepted, said) = check(format!("{ENABLED} px_first_party_cache nowhere;"));
    assert!(!accepted);
    let expected = "names the zone \"nowhere\", which no \"proxy_cache_path\" defines, px.conf:1";
    assert!(said.iter().any(|text| text.contains(expected)), "{said:?}");
}
