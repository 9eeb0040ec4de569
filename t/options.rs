//! Tests for the px module: every option that HUMAN's documents and enforcers know is a directive, or is
//! named here with the reason why it is none.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every option of the documents and of the enforcers' code, in the documents' order.
const OPTIONS: &str = "
    px_app_id px_appId px_auth_token px_cookie_secret px_cookie_secret_old px_enabled
    px_module_enabled px_active_header_name px_block_enabled px_module_mode px_bot_enforcer
    px_code_enforcer px_blocking_score px_bypass_monitor_header px_s2s_timeout px_debug
    px_logger_severity px_url_decode_reserved_characters px_enforce_timeout
    px_enabled_routes px_whitelist_uri_full px_whitelist_uri_prefixes
    px_whitelist_uri_suffixes px_whitelist_uri_pattern px_whitelist_ip_addresses
    px_filter_by_ip px_whitelist_ua_full px_whitelist_ua_sub px_whitelist_hosts
    px_filter_by_route px_filter_by_domain px_filter_by_extension px_filter_by_http_method
    px_filter_by_user_agent px_filter_by_header px_custom_is_filtered_request
    px_filter_on_cache_hit_enabled px_enforced_routes px_enforced_routes_exclusive
    px_custom_is_enforced_request px_monitored_routes px_custom_is_monitored_request
    px_sensitive_routes_prefix px_sensitive_routes_suffix px_sensitive_routes_regex
    px_sensitive_routes px_custom_is_sensitive_request px_ip_headers
    px_custom_client_ip_extraction px_client_ip px_sensitive_headers
    px_sensitive_headers_enabled px_custom_unset_sensitive_headers px_allowed_cookies
    px_custom_cookie_header px_custom_cookie_header_enabled px_custom_activity_headers
    px_activity_header px_custom_parameters px_cookie_custom_parameters px_custom_parameter
    px_hype_sale px_score_header_enabled px_score_header_name px_upstream_score_header_name
    px_identifier_header_name px_add_block_result_header px_data_enrichment_header_name
    px_compromised_credentials_header px_pre_clean px_enable_pre_clean px_custom_pre_clean
    px_override_configs px_secured_pxhd_enabled px_enable_json_response
    px_advanced_blocking_response_enabled px_custom_logo px_css_ref px_js_ref
    px_custom_block_url px_redirect_on_custom_url px_redirect_to_referer
    px_api_protection_mode px_api_protection_block_url
    px_api_protection_default_redirect_url px_block_size_exceeded_15k_headers_size
    px_custom_block_page_content px_custom_create_synthetic_web_response
    px_custom_web_block_page_response px_custom_rate_limit_block_page
    px_custom_create_advanced_blocking_response px_custom_verification_handler
    px_pre_enforce_handler px_first_party_enabled px_reverse_xhr_enabled
    px_custom_first_party_prefix px_custom_first_party_sensor_endpoint
    px_custom_first_party_xhr_endpoint px_custom_first_party_captcha_endpoint
    px_custom_first_party_response_modifier px_first_party_timeout_ms px_client_host
    px_backend_client_url px_captcha_script_host px_backend_captcha_url
    px_enable_login_creds_extraction px_login_credentials_extraction_enabled
    px_login_creds_settings_filename px_login_credentials_extraction
    px_custom_is_login_request px_custom_login_extraction_callback
    px_credentials_intelligence_version px_credentials_intelligence_query_string
    px_compromised_credentials_returned_status_response px_login_successful_reporting_method
    px_login_successful_status px_login_successful_header_name
    px_login_successful_header_value px_login_successful_body_regex
    px_login_successful_custom_callback px_login_successful_custom
    px_custom_set_login_successful_response_header
    px_send_raw_username_on_additional_s2s_activity
    px_automatic_additional_s2s_activity_enabled px_additional_s2s_activity_header_enabled
    px_graphql_enabled px_graphql_routes px_custom_is_graphql_route
    px_sensitive_graphql_operation_types px_sensitive_graphql_operation_names
    px_custom_check_sensitive_graphql_operation px_graphql_keywords
    px_custom_extract_graphql_keywords px_extract_graphql_keywords px_jwt_cookie_name
    px_jwt_cookie_user_id_field_name px_jwt_cookie_additional_field_names px_jwt_header_name
    px_jwt_header_user_id_field_name px_jwt_header_additional_field_names
    px_custom_extract_jwt_additional_fields px_jwt_additional_field px_cors_support_enabled
    px_cors_preflight_request_filter_enabled px_cors_custom_preflight_handler
    px_cors_preflight_handler_enabled px_custom_cors_preflight_handler
    px_cors_create_custom_block_response_headers px_cors_block_response_header
    px_cors_create_custom_block_response_headers_enabled
    px_custom_cors_set_custom_block_response_headers px_send_async_activities_enabled
    px_send_page_requested_activity px_deferred_activities px_compression_enabled
    px_compression_level px_max_activity_batch_size px_batch_activities_timeout_ms
    px_async_timeout px_additional_activity_handler px_additional_activity_handler_enabled
    px_custom_additional_activity_handler px_async_activities_logger
    px_telemetry_activity_logger px_debug_syslog_name px_error_syslog_name
    px_debug_probability px_logger_auth_token px_telemetry_header px_remote_config_id
    px_remote_config_auth_token px_remote_config_max_fetch_attempts
    px_remote_config_retry_interval_ms px_remote_config_enabled px_remote_config_version
    px_dynamic_configurations px_configuration_server px_configuration_server_port
    px_load_interval px_fastly_api_token px_enforcer_config_rdata_id px_csp_enabled
    px_csp_no_updates_max_interval_minutes px_csp_policy_refresh_interval_minutes
    px_csp_data_url px_csp_nonce px_snippet_provider_enabled px_sensor_inject_enabled
    px_snippet_injection_enabled px_snippet_provider_cache_ttl_seconds
    px_snippet_provider_url px_create_custom_snippet px_agentic_trust_enabled
    px_agentic_trust_mcp_endpoint_path px_backend_url px_backend_collector_url
    px_set_custom_risk_backend_overwrite px_risk_backend px_proxy_url px_proxy_authorization
    px_user_agent_max_length px_risk_cookie_max_length px_risk_cookie_min_iterations
    px_risk_cookie_max_iterations px_token_version px_hypesale_host px_enabled_if
    px_enable_server_calls px_ssl_enabled px_port px_cookie_encrypted px_client_timeout
    px_collector_port_overide px_client_port_overide px_max_body_size
    px_max_errors_threshold px_errors_count_interval
";

/// Words that have no form in nginx: sections, callbacks whose work other directives do, and what
/// belongs to other hosts.
const NO_DIRECTIVE: &str = "
    px_custom_unset_sensitive_headers px_pre_clean px_custom_pre_clean px_override_configs
    px_custom_first_party_response_modifier px_custom_is_login_request
    px_custom_login_extraction_callback px_custom_set_login_successful_response_header
    px_custom_check_sensitive_graphql_operation px_remote_config_enabled
    px_remote_config_version px_fastly_api_token px_enforcer_config_rdata_id
";

#[test]
fn every_option_is_a_directive_or_named_here() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/directives.rs");
    let source = fs::read_to_string(source).expect("the source is there");
    let rows = source.lines().filter_map(|line| line.trim().strip_prefix("row(c\""));
    let directives: BTreeSet<&str> = rows.filter_map(|row| row.split('"').next()).collect();
    let none: BTreeSet<&str> = NO_DIRECTIVE.split_whitespace().collect();
    let options: BTreeSet<&str> = OPTIONS.split_whitespace().collect();
    for option in &options {
        let places = [&directives, &none];
        let count = places.iter().filter(|place| place.contains(option)).count();
        assert_eq!(count, 1, "{option} stands in {count} lists");
    }
    assert!(none.iter().all(|option| options.contains(option)), "an option nobody knows");
}

/// Whoever adds a directive proves what it does, under a real nginx.
#[test]
fn every_directive_has_a_behaviour_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(root.join("src/directives.rs")).expect("the source is there");
    // By what is set, as synonyms are one: a behaviour test of one of them is enough.
    let mut names_of: std::collections::BTreeMap<&str, Vec<&str>> = Default::default();
    for row in source.lines().filter_map(|line| line.trim().strip_prefix("row(c\"")) {
        let (name, rest) = row.split_once('"').expect("a name");
        let field = rest.split_once("(&mut v.").map(|(_, field)| field);
        let Some(field) = field.and_then(|rest| rest.split([',', ')']).next()) else { continue };
        names_of.entry(field).or_default().push(name);
    }
    assert!(names_of.len() > 100, "only {} were understood", names_of.len());
    let mut words = BTreeSet::new();
    for entry in fs::read_dir(root.join("t")).expect("the tests are there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let about_text_only = ["advice.rs", "docs.rs", "options.rs", "pxctl.rs"];
        if path.is_file() && !about_text_only.contains(&&*name) {
            let text = fs::read_to_string(&path).expect("a test");
            words.extend(text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
        }
    }
    for entry in fs::read_dir(root.join("nginx/examples")).expect("the examples are there") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("an example");
        words.extend(text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
    }
    let untested: Vec<_> =
        names_of.values().filter(|names| !names.iter().any(|name| words.contains(*name))).collect();
    assert!(untested.is_empty(), "no behaviour test names {untested:?}");
}
