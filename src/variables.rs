//! The `$px_*` variables, and the old enforcers' spellings of them.

use std::borrow::Cow;

use nginx_sys::{
    NGX_HTTP_VAR_NOCACHEABLE, ngx_conf_t, ngx_http_add_variable, ngx_http_request_t,
    ngx_http_variable_value_t, ngx_int_t, ngx_uint_t,
};
use px_core::enforce::{Action, Verdict};
use px_core::reason::{CookieOrigin, ModuleMode};

use crate::ctx::Ctx;
use crate::ffi::{self, ERROR, OK};
use crate::node::{self, Leg};

/// A variable's text for a request, `None` where it has none.
type Text = for<'v> fn(&'v Verdict<'static>) -> Option<Cow<'v, str>>;

pub(crate) struct Variable {
    pub(crate) name: &'static str,
    text: Text,
}

const fn of(name: &'static str, text: Text) -> Variable {
    Variable { name, text }
}

/// Name of the one variable that also knows of filtered and first-party requests.
const VERDICT: &str = "px_verdict";
const FILTER_REASON: &str = "px_filter_reason";
const TOKEN_CACHE: &str = "px_token_cache";
/// Known before the verdict, so that expressions may be about them (graphql.md § 5).
const GRAPHQL_NAME: &str = "px_graphql_operation_name";
const GRAPHQL_TYPE: &str = "px_graphql_operation_type";
/// As the verdict, in the words of js-core.
const ACTION: &str = "px_action";
/// Names of the variables that need the policy to be verified.
const PXDE_VERIFIED: &str = "px_pxde_verified";
const PX_PXDE: &str = "px_pxde";
/// Names of the one variable whose value is verified only when it is read.
const DATA_ENRICHMENT: &str = "px_data_enrichment";
const PXDE: &str = "pxde";

/// About the traffic-analysis node, which may be asked where nothing else of the module is there.
const NODE_STATUS: &str = "px_wallarm_status";
const NODE_TIME: &str = "px_wallarm_time";
const NODE_REQUEST_ID: &str = "px_wallarm_request_id";

/// Every variable; the old spellings stand behind ours (DECISIONS 3).
#[rustfmt::skip]
pub(crate) static VARIABLES: [Variable; 45] = [
    of(VERDICT, |v| Some(v.action.as_str().into())),
    of(FILTER_REASON, |_| None),
    of("px_pass_reason", pass_reason),
    of("px_block_reason", block_reason),
    of("px_call_reason", call_reason),
    of("px_block_action", |v| (v.action != Action::Pass).then(|| v.block_action.as_ref().into())),
    of("px_block_result", |v| Some(if v.action == Action::Pass { "0" } else { "1" }.into())),
    of("px_score", score),
    of("px_uuid", uuid),
    of("px_vid", vid),
    of("px_vid_source", |v| v.vid_source().map(|source| source.as_str().into())),
    of("px_risk_rtt", risk_rtt),
    of("px_risk_mode", |v| Some(v.risk_mode().as_str().into())),
    of("px_request_id", |v| Some(v.request_id().into())),
    of("px_client_ip", |v| Some(v.client_ip().into())),
    of("px_cookie_origin", |v| Some(v.cookie_origin().as_str().into())),
    of("px_cookie_ts", cookie_ts),
    of("px_sensitive", |v| Some(if v.is_sensitive() { "1" } else { "0" }.into())),
    of("px_s2s_error_reason", |v| v.s2s_error.as_ref().map(|error| error.reason.as_str().into())),
    of("px_s2s_error_http_status", |v| v.s2s_error.as_ref()?.http_status.map(|s| s.to_string().into())),
    of(DATA_ENRICHMENT, |_| None),
    of(TOKEN_CACHE, |_| None),
    of(GRAPHQL_NAME, |_| None),
    of(GRAPHQL_TYPE, |_| None),
    of(NODE_STATUS, |_| None),
    of(NODE_TIME, |_| None),
    of(NODE_REQUEST_ID, |_| None),
    of(ACTION, |v| Some(if v.action == Action::Pass { "pass_request" } else { v.action.as_str() }.into())),
    of("px_s2s_call_reason", call_reason),
    of("px_cookie_timestamp", cookie_ts),
    of("px_is_mobile", |v| (v.cookie_origin() == CookieOrigin::Header).then(|| "1".into())),
    of("px_is_sensitive", |v| v.is_sensitive().then(|| "1".into())),
    of("px_is_monitored", |v| (v.risk_mode() == ModuleMode::Monitor).then(|| "1".into())),
    of(PX_PXDE, |_| None),
    of(PXDE_VERIFIED, |_| None),
    of("pxscore", score),
    of("pxvid", vid),
    of("pxuuid", uuid),
    of("pxrtt", risk_rtt),
    of("pxblock", block_reason),
    of("pxpass", pass_reason),
    of("pxcookiets", cookie_ts),
    of("pxcall", call_reason),
    of("pxaction", |v| (v.action != Action::Pass).then(|| v.block_action.as_ref().into())),
    of(PXDE, |_| None),
];

fn pass_reason<'v>(v: &'v Verdict<'static>) -> Option<Cow<'v, str>> {
    v.pass_reason.map(|reason| reason.as_str().into())
}

fn block_reason<'v>(v: &'v Verdict<'static>) -> Option<Cow<'v, str>> {
    v.block_reason.map(|reason| reason.as_str().into())
}

fn call_reason<'v>(v: &'v Verdict<'static>) -> Option<Cow<'v, str>> {
    v.call_reason.as_ref().map(|reason| reason.as_str())
}

fn score<'v>(v: &'v Verdict<'static>) -> Option<Cow<'v, str>> {
    v.score.map(|score| score.to_string().into())
}

fn uuid<'v>(v: &'v Verdict<'static>) -> Option<Cow<'v, str>> {
    v.uuid.as_deref().map(Cow::Borrowed)
}

fn vid<'v>(v: &'v Verdict<'static>) -> Option<Cow<'v, str>> {
    v.vid().map(Cow::Borrowed)
}

fn risk_rtt<'v>(v: &'v Verdict<'static>) -> Option<Cow<'v, str>> {
    v.risk_rtt.map(|rtt| rtt.to_string().into())
}

fn cookie_ts<'v>(v: &'v Verdict<'static>) -> Option<Cow<'v, str>> {
    v.token_time().map(|time| time.to_string().into())
}

/// Registers all variables. Part of `preconfiguration`.
///
/// # Safety
///
/// `cf` must be the configuration state nginx passed to the calling callback.
pub(crate) unsafe fn register(cf: *mut ngx_conf_t) -> ngx_int_t {
    for (index, variable) in VARIABLES.iter().enumerate() {
        let mut name = ffi::str_of(variable.name);
        // Not cacheable: the value appears while the request is handled.
        let flags = NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;
        // SAFETY: `cf` is live, the name static.
        let added = unsafe { ngx_http_add_variable(cf, &raw mut name, flags) };
        // SAFETY: null or the variable just added.
        let Some(added) = (unsafe { added.as_mut() }) else { return ERROR };
        added.get_handler = Some(get);
        added.data = index;
    }
    OK
}

/// A variable that is about the node: its text, if it has one.
#[expect(clippy::option_option, reason = "another variable, no text and a text are three things")]
fn of_node<'l>(name: &str, leg: Option<&'l Leg>) -> Option<Option<Cow<'l, str>>> {
    match name {
        NODE_STATUS => Some(Some(leg.map_or(node::STATUS_OFF, Leg::status).into())),
        NODE_TIME => Some(Some(leg.map_or(node::NO_TIME.into(), |leg| leg.time().into()))),
        NODE_REQUEST_ID => Some(leg.and_then(Leg::id).map(Into::into)),
        _ => None,
    }
}

unsafe extern "C" fn get(
    r: *mut ngx_http_request_t,
    v: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    let found = ffi::guard(
        "a variable",
        || None,
        || {
            let variable = VARIABLES.get(data)?;
            // SAFETY: nginx passes a live request.
            let pool = unsafe { (*r).pool };
            // SAFETY: as above.
            let leg = unsafe { Leg::find(r) };
            // SAFETY: null or the leg of the live main request; nothing here changes it.
            if let Some(text) = of_node(variable.name, unsafe { leg.as_ref() }) {
                // SAFETY: live pool.
                return unsafe { ffi::copy_to_pool(pool, text?.as_bytes()) };
            }
            // SAFETY: as above.
            let ctx = unsafe { Ctx::find(r) };
            // SAFETY: null or the context of the live main request; nothing here changes it.
            let ctx = unsafe { ctx.as_ref() }?;
            let text = match (&ctx.verdict, ctx.filter_reason) {
                _ if variable.name == TOKEN_CACHE => ctx.token_lookup?.as_str().into(),
                _ if variable.name == GRAPHQL_NAME => {
                    ctx.extracted.as_ref()?.operations().first_name()?.into()
                }
                _ if variable.name == GRAPHQL_TYPE => {
                    ctx.extracted.as_ref()?.operations().first_type()?.into()
                }
                (Some(verdict), _) if [DATA_ENRICHMENT, PXDE, PX_PXDE].contains(&variable.name) => {
                    verdict.data_enrichment(&ctx.policy)?.into()
                }
                (Some(verdict), _) if variable.name == PXDE_VERIFIED => {
                    verdict.data_enrichment(&ctx.policy)?;
                    "1".into()
                }
                (Some(verdict), _) => (variable.text)(verdict)?,
                (None, Some(_)) if [VERDICT, ACTION].contains(&variable.name) => "filtered".into(),
                (None, None)
                    if ctx.is_first_party && [VERDICT, ACTION].contains(&variable.name) =>
                {
                    "first_party".into()
                }
                (None, Some(reason)) if variable.name == FILTER_REASON => reason.as_str().into(),
                _ => return None,
            };
            // SAFETY: live pool.
            unsafe { ffi::copy_to_pool(pool, text.as_bytes()) }
        },
    );
    // SAFETY: nginx passes the value to fill.
    unsafe { ffi::set_variable(v, found) };
    OK
}
