//! What an operator has set and what comes of it: options that have no effect beside the others.
//!
//! Advice, not errors: the configuration works, but not as somebody seems to have meant it.

use px_core::reason::ModuleMode;

use crate::log::Severity;
use crate::values::Values;

/// Directives that a level sets itself and that have no effect there, and why. `own` is what the level
/// sets, `merged` what is in effect.
pub(crate) fn on(own: &Values, merged: &Values) -> Vec<(&'static str, &'static str)> {
    let is_on = |flag: Option<bool>| flag == Some(true);
    let is_listed = |list: Option<usize>| list.is_some_and(|len| len != 0);
    let score = !is_on(merged.score_header_enabled);
    let cors = !is_on(merged.cors_support_enabled);
    let json = !is_on(merged.enable_json_response);
    let no_page = merged.custom_block_url.is_none();
    let blocks = merged.module_mode == Some(ModuleMode::ActiveBlocking);
    let monitors_some = is_listed(merged.monitored_routes.as_ref().map(Vec::len))
        || merged.custom_is_monitored_request.is_some();
    let s2s_timeout = merged.s2s_timeout.unwrap_or(1000);
    let all = [
        (
            "px_compression_level",
            own.compression_level.is_some() && !is_on(merged.compression_enabled),
            "has no effect without \"px_compression_enabled on\"",
        ),
        ("px_score_header_name", own.score_header_name.is_some() && score, NEEDS_SCORE),
        (
            "px_upstream_score_header_name",
            own.upstream_score_header_name.is_some() && score,
            NEEDS_SCORE,
        ),
        (
            "px_redirect_on_custom_url",
            is_on(own.redirect_on_custom_url) && no_page,
            "has no effect without \"px_custom_block_url\"",
        ),
        (
            "px_redirect_to_referer",
            is_on(own.redirect_to_referer) && !is_on(merged.redirect_on_custom_url),
            "has no effect without \"px_redirect_on_custom_url on\"",
        ),
        (
            "px_api_protection_block_url",
            own.api_protection_block_url.is_some() && merged.api_protection_mode.is_none(),
            "has no effect without \"px_api_protection_mode on\"",
        ),
        (
            "px_api_protection_mode",
            is_on(own.api_protection_mode) && !no_page,
            "has no effect beside \"px_custom_block_url\", which comes first",
        ),
        (
            "px_custom_create_advanced_blocking_response",
            own.custom_create_advanced_blocking_response.is_some() && json,
            "has no effect without \"px_enable_json_response on\"",
        ),
        (
            "px_cors_preflight_request_filter_enabled",
            is_on(own.cors_preflight_request_filter_enabled) && cors,
            NEEDS_CORS,
        ),
        (
            "px_cors_custom_preflight_handler",
            own.cors_custom_preflight_handler.is_some() && cors,
            NEEDS_CORS,
        ),
        (
            "px_cors_block_response_header",
            own.cors_block_response_header.is_some() && cors,
            NEEDS_CORS,
        ),
        (
            "px_enforce_timeout",
            own.enforce_timeout.is_some_and(|limit| limit < s2s_timeout),
            "is shorter than \"px_s2s_timeout\", which so is never reached",
        ),
        (
            "px_debug_probability",
            own.debug_probability.is_some() && merged.logger_severity != Some(Severity::Debug),
            "has no effect without \"px_debug on\"",
        ),
        (
            "px_monitored_routes",
            is_listed(own.monitored_routes.as_ref().map(Vec::len)) && !blocks,
            "has no effect in monitor mode, where everything is monitored",
        ),
        (
            "px_bypass_monitor_header",
            own.bypass_monitor_header.as_ref().is_some_and(|name| !name.is_empty())
                && blocks
                && !monitors_some,
            "has no effect where nothing is monitored",
        ),
    ];
    all.into_iter()
        .filter(|(_, applies, _)| *applies)
        .map(|(directive, _, text)| (directive, text))
        .collect()
}

const NEEDS_SCORE: &str = "has no effect without \"px_score_header_enabled on\"";
const NEEDS_CORS: &str = "has no effect without \"px_cors_support_enabled on\"";
