//! Options that have no effect in their combination: what `nginx -t` warns about.

use std::rc::Rc;

use px_core::reason::ModuleMode;

use crate::hooks::Target;
use crate::log::Severity;
use crate::values::Values;

/// One option that is set, and whether it is idle there.
pub(crate) struct Advice {
    /// The directive and its synonyms.
    pub(crate) names: &'static [&'static str],
    pub(crate) is_idle: bool,
    /// What is to be said behind the name if it is idle wherever it is in effect.
    pub(crate) text: &'static str,
}

/// Judges every option among `values` that needs another one.
pub(crate) fn of(values: &Values) -> Vec<Advice> {
    let on = |flag: Option<bool>| flag == Some(true);
    let named = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
    let listed = |list: Option<usize>| list.is_some_and(|length| length > 0);
    let blocks = values.module_mode == Some(ModuleMode::ActiveBlocking);
    let monitors_some = listed(values.monitored_routes.as_ref().map(Vec::len))
        || values.custom_is_monitored_request.is_some();
    let no_page = values.custom_block_url.as_ref().is_none_or(Target::is_nothing);
    let always_page = values.custom_block_url.as_ref().is_some_and(Target::is_certain);
    let no_score = !on(values.score_header_enabled);
    let no_protection = !on(values.api_protection_mode);
    let no_cors = !on(values.cors_support_enabled);
    let cuts_calls = values
        .enforce_timeout
        .is_some_and(|limit| limit < values.s2s_timeout.unwrap_or(crate::conf::S2S_TIMEOUT));
    let no_logins = !on(values.enable_login_creds_extraction);
    let no_endpoints = !listed(values.login_creds_settings.as_ref().map(Vec::len))
        && !listed(values.login_credentials_extraction.as_ref().map(Vec::len));
    let no_graphql = values.graphql_enabled == Some(false);
    const LOGINS: &str = "has no effect without \"px_enable_login_creds_extraction on\"";
    const GRAPHQL: &str = "has no effect where \"px_graphql_enabled\" is off";
    const HYPE: &str = "has no effect without \"px_hype_sale\"";
    const SCORE: &str = "has no effect without \"px_score_header_enabled on\"";
    const PAGE: &str = "has no effect without \"px_custom_block_url\"";
    const PROTECTION: &str = "has no effect without \"px_api_protection_mode on\"";
    const CORS: &str = "has no effect without \"px_cors_support_enabled on\"";
    // What a remote configuration may switch on is there for that.
    let is_remote = named(&values.remote_config_id) && values.remote_config_auth_token.is_some();
    let no_first_party = values.first_party_enabled == Some(false) && !is_remote;
    let no_csp = !on(values.csp_enabled.or(values.code_enforcer)) && !is_remote;
    let no_snippet = !on(values.snippet_provider_enabled) && !is_remote;
    const FIRST_PARTY: &str = "has no effect where \"px_first_party_enabled\" is off";
    const CSP: &str = "has no effect without \"px_csp_enabled on\"";
    const SNIPPET: &str = "has no effect without \"px_snippet_provider_enabled on\"";
    const REMOTE: &str = "has no effect without \"px_remote_config_id\" and \
        \"px_remote_config_auth_token\"";
    let redirect_to_referer =
        if no_page { PAGE } else { "has no effect without \"px_redirect_on_custom_url on\"" };
    let checks: [(&'static [&'static str], bool, bool, &'static str); 41] = [
        (
            &["px_compression_level"],
            values.compression_level.is_some(),
            !on(values.compression_enabled),
            "has no effect without \"px_compression_enabled on\"",
        ),
        (&["px_score_header_name"], named(&values.score_header_name), no_score, SCORE),
        (
            &["px_upstream_score_header_name"],
            named(&values.upstream_score_header_name),
            no_score,
            SCORE,
        ),
        (&["px_redirect_on_custom_url"], on(values.redirect_on_custom_url), no_page, PAGE),
        (
            &["px_redirect_to_referer"],
            on(values.redirect_to_referer),
            no_page || !on(values.redirect_on_custom_url),
            redirect_to_referer,
        ),
        (
            &["px_api_protection_mode"],
            on(values.api_protection_mode),
            always_page,
            "has no effect beside \"px_custom_block_url\", which comes first",
        ),
        (
            &["px_api_protection_block_url"],
            values.api_protection_block_url.is_some(),
            no_protection,
            PROTECTION,
        ),
        (
            &["px_api_protection_default_redirect_url"],
            values.api_protection_default_redirect_url.is_some(),
            no_protection,
            PROTECTION,
        ),
        (
            &["px_cors_preflight_request_filter_enabled"],
            on(values.cors_preflight_request_filter_enabled),
            no_cors,
            CORS,
        ),
        (
            &["px_cors_custom_preflight_handler", "px_custom_cors_preflight_handler"],
            values.cors_custom_preflight_handler.as_ref().is_some_and(|to| !to.location.is_empty()),
            no_cors,
            CORS,
        ),
        (
            &["px_cors_preflight_handler_enabled"],
            on(values.cors_preflight_handler_enabled),
            no_cors,
            CORS,
        ),
        (
            &[
                "px_cors_block_response_header",
                "px_cors_create_custom_block_response_headers",
                "px_custom_cors_set_custom_block_response_headers",
            ],
            listed(values.cors_block_response_header.as_ref().map(Vec::len)),
            no_cors,
            CORS,
        ),
        (
            &["px_cors_create_custom_block_response_headers_enabled"],
            on(values.cors_create_custom_block_response_headers_enabled),
            no_cors,
            CORS,
        ),
        (
            &["px_custom_create_advanced_blocking_response"],
            named(&values.custom_create_advanced_blocking_response),
            !on(values.enable_json_response),
            "has no effect without \"px_enable_json_response on\"",
        ),
        (
            &["px_enforce_timeout"],
            values.enforce_timeout.is_some(),
            cuts_calls,
            "is shorter than \"px_s2s_timeout\" and cuts calls short",
        ),
        (
            &["px_debug_probability"],
            values.debug_probability.is_some(),
            values.logger_severity != Some(Severity::Debug),
            "has no effect without \"px_debug on\"",
        ),
        (
            &["px_login_creds_settings_filename"],
            listed(values.login_creds_settings.as_ref().map(Vec::len)),
            no_logins,
            LOGINS,
        ),
        (
            &["px_login_credentials_extraction"],
            listed(values.login_credentials_extraction.as_ref().map(Vec::len)),
            no_logins,
            LOGINS,
        ),
        (
            &["px_enable_login_creds_extraction", "px_login_credentials_extraction_enabled"],
            !no_logins,
            no_endpoints,
            "has no effect without \"px_login_credentials_extraction\" or \
             \"px_login_creds_settings_filename\"",
        ),
        (
            &["px_compromised_credentials_returned_status_response"],
            values.compromised_credentials_returned_status_response.is_some(),
            !on(values.credentials_intelligence_query_string),
            "has no effect without \"px_credentials_intelligence_query_string on\"",
        ),
        (
            &["px_graphql_routes"],
            listed(values.graphql_routes.as_ref().map(Vec::len)),
            no_graphql,
            GRAPHQL,
        ),
        (
            &["px_sensitive_graphql_operation_names"],
            listed(values.sensitive_graphql_operation_names.as_ref().map(Vec::len)),
            no_graphql,
            GRAPHQL,
        ),
        (
            &["px_sensitive_graphql_operation_types"],
            listed(values.sensitive_graphql_operation_types.as_ref().map(Vec::len)),
            no_graphql,
            GRAPHQL,
        ),
        (
            &["px_jwt_cookie_name"],
            named(&values.jwt_cookie_name),
            !named(&values.jwt_cookie_user_id_field_name),
            "has no effect without \"px_jwt_cookie_user_id_field_name\"",
        ),
        (
            &["px_jwt_header_name"],
            named(&values.jwt_header_name),
            !named(&values.jwt_header_user_id_field_name),
            "has no effect without \"px_jwt_header_user_id_field_name\"",
        ),
        (
            &["px_agentic_trust_mcp_endpoint_path"],
            values.agentic_trust_mcp_endpoint_path.is_some(),
            !on(values.agentic_trust_enabled),
            "has no effect without \"px_agentic_trust_enabled on\"",
        ),
        (
            &["px_hype_sale_fail_open"],
            on(values.hype_sale_fail_open),
            values.hype_sale.is_none(),
            HYPE,
        ),
        (
            &["px_custom_first_party_prefix"],
            named(&values.custom_first_party_prefix),
            no_first_party,
            FIRST_PARTY,
        ),
        (
            &["px_first_party_cache"],
            values.first_party_cache.as_ref().is_some_and(Option::is_some),
            no_first_party,
            FIRST_PARTY,
        ),
        (&["px_csp_data_url"], values.csp_data_url.is_some(), no_csp, CSP),
        (&["px_csp_nonce"], values.csp_nonce.is_some(), no_csp, CSP),
        (
            &["px_csp_policy_refresh_interval_minutes"],
            values.csp_policy_refresh_interval.is_some(),
            no_csp,
            CSP,
        ),
        (
            &["px_csp_no_updates_max_interval_minutes"],
            values.csp_no_updates_max_interval.is_some(),
            no_csp,
            CSP,
        ),
        (&["px_snippet_provider_url"], values.snippet_provider_url.is_some(), no_snippet, SNIPPET),
        (
            &["px_create_custom_snippet"],
            values.create_custom_snippet.is_some(),
            no_snippet,
            SNIPPET,
        ),
        (
            &["px_snippet_provider_cache_ttl_seconds"],
            values.snippet_provider_cache_ttl.is_some(),
            values.snippet_provider_url.is_none(),
            "has no effect without \"px_snippet_provider_url\"",
        ),
        (
            &["px_remote_config_auth_token", "px_remote_config_auth_token_file"],
            values.remote_config_auth_token.is_some(),
            !is_remote,
            REMOTE,
        ),
        (&["px_remote_config_id"], named(&values.remote_config_id), !is_remote, REMOTE),
        (
            &["px_remote_config_cache"],
            values.remote_config_cache.as_ref().is_some_and(Option::is_some),
            !is_remote,
            REMOTE,
        ),
        (
            &["px_monitored_routes"],
            listed(values.monitored_routes.as_ref().map(Vec::len)),
            !blocks,
            "has no effect in monitor mode, which monitors all routes",
        ),
        (
            &["px_bypass_monitor_header"],
            named(&values.bypass_monitor_header),
            blocks && !monitors_some,
            "has no effect where blocking is on and nothing is monitored",
        ),
    ];
    let set = checks.into_iter().filter(|(_, is_set, ..)| *is_set);
    set.map(|(names, _, is_idle, text)| Advice { names, is_idle, text }).collect()
}

/// The same about the traffic-analysis node.
pub(crate) fn of_node(values: &Values) -> Vec<Advice> {
    let fails_closed = values.node_url().is_some() && values.wallarm_fail_open == Some(false);
    let advice = fails_closed.then_some(Advice {
        names: &["px_wallarm_fail_open"],
        is_idle: values.wallarm_blocking == Some(false),
        text: "has no effect where \"px_wallarm_blocking\" is off: nobody waits for a decision",
    });
    advice.into_iter().collect()
}

/// An option at its line, as all levels that it reaches see it.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) place: Rc<str>,
    pub(crate) text: &'static str,
    /// Idle at all of them so far.
    pub(crate) is_idle: bool,
}
