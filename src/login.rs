//! How the origin answers a login: successful or not, and the status that the visitor is shown
//! (credential-intelligence.md § 6).

use nginx_sys::{ngx_chain_t, ngx_http_request_t, ngx_uint_t};
use px_core::credentials::{LoginMethod, LoginRule};
use px_core::enforce::LoginResult;

use crate::complex_value::ComplexValue;
use crate::ctx::Ctx;
use crate::{ffi, origin};

/// So much of an answer's body is searched.
const BODY_LIMIT: usize = 64 << 10;

/// Expressions of one endpoint.
#[derive(Clone, Copy, Default)]
pub(crate) struct EndpointExpressions {
    pub(crate) user: Option<ComplexValue>,
    pub(crate) pass: Option<ComplexValue>,
    /// In place of `px_login_successful_custom`.
    pub(crate) successful: Option<ComplexValue>,
}

/// Expressions about logins.
#[derive(Clone, Default)]
pub(crate) struct LoginExpressions {
    /// By the endpoint's index.
    pub(crate) endpoints: Vec<EndpointExpressions>,
    pub(crate) successful: Option<ComplexValue>,
}

/// What is seen of the answer to a login.
pub(crate) struct Watch {
    /// The origin's, which the visitor may not see.
    pub(crate) status: Option<u16>,
    result: LoginResult,
    /// Of a body that is searched, as much of it as has gone by.
    body: Option<Vec<u8>>,
}

/// Watches the answer to this request, if it is a login.
///
/// # Safety
///
/// `r` must be a live main request in its access phase, and `ctx` its context.
pub(crate) unsafe fn begin(r: *mut ngx_http_request_t, ctx: &mut Ctx) {
    let Some(rule) = rule(ctx) else { return };
    let is_searched = rule.method() == LoginMethod::Body;
    if is_searched {
        // A compressed answer could not be searched. nginx still knows what the visitor accepts and
        // compresses for them where it is to.
        // SAFETY: live request.
        unsafe { origin::strip(r, ["accept-encoding"].into_iter()) };
    }
    ctx.login = Some(Box::new(Watch {
        status: None,
        result: LoginResult::Unknown,
        body: is_searched.then(Vec::new),
    }));
}

fn rule(ctx: &Ctx) -> Option<LoginRule<'_>> {
    ctx.verdict.as_ref()?.login_rule(&ctx.policy)
}

/// Judges by what the answer's head says, and replaces its status where that is asked for.
///
/// # Safety
///
/// `r` must be a live main request whose headers are about to be sent, and `ctx` its context.
pub(crate) unsafe fn on_headers(r: *mut ngx_http_request_t, ctx: &mut Ctx) {
    let is_new = ctx.login.as_ref().is_some_and(|watch| watch.status.is_none());
    let Some(rule) = rule(ctx).filter(|_| is_new) else { return };
    // SAFETY: live request.
    let out = unsafe { &mut (*r).headers_out };
    let status = u16::try_from(out.status).unwrap_or_default();
    let replacement = ctx.verdict.as_ref().and_then(|verdict| verdict.returned_status(&ctx.policy));
    let mut is_searchable = false;
    let result = match rule.method() {
        LoginMethod::None => LoginResult::Known(false),
        LoginMethod::Status => LoginResult::Known(rule.by_status(status)),
        LoginMethod::Header => {
            // SAFETY: live request.
            let value = unsafe { response_header(r, rule.header_name()) };
            LoginResult::Known(rule.by_header(value))
        }
        // The expression may be about what is known later only; but a status cannot wait.
        // SAFETY: live request under the configuration that its context keeps.
        LoginMethod::Custom if replacement.is_some() => unsafe { by_expression(r, ctx, rule) },
        LoginMethod::Custom => LoginResult::Unknown,
        LoginMethod::Body => {
            // SAFETY: null or an element of the header list.
            let encoding = unsafe { out.content_encoding.as_ref() };
            is_searchable = encoding.is_none_or(|line| line.hash == 0);
            LoginResult::Unknown
        }
    };
    if let Some(code) = replacement.filter(|_| result == LoginResult::Known(true)) {
        out.status = ngx_uint_t::from(code);
        // The line that an upstream sent would count more.
        out.status_line.len = 0;
    }
    let Some(watch) = ctx.login.as_deref_mut() else { return };
    watch.status = Some(status);
    watch.result = result;
    if is_searchable {
        // SAFETY: live request whose answer has not begun.
        unsafe { ffi::px_request_want_in_memory(r) };
    } else {
        watch.body = None;
    }
}

/// # Safety
///
/// `r` must be a live request under the configuration of `ctx`, its context.
unsafe fn by_expression(r: *mut ngx_http_request_t, ctx: &Ctx, rule: LoginRule<'_>) -> LoginResult {
    let own = &ctx.enforcement.login;
    let endpoint = ctx.extracted.as_ref().and_then(|found| found.login_endpoint());
    let endpoint = endpoint.and_then(|index| own.endpoints.get(index));
    let value = endpoint.and_then(|own| own.successful).or(own.successful);
    // SAFETY: as the caller's.
    let said = value.and_then(|value| rule.by_custom(unsafe { value.evaluate(r) }));
    said.map_or(LoginResult::Unknown, LoginResult::Known)
}

/// Remembers a part of the answer's body.
///
/// # Safety
///
/// `ctx` must be the context of a live main request and `chain` what its body filters are called
/// with.
pub(crate) unsafe fn on_body(ctx: &mut Ctx, mut chain: *mut ngx_chain_t) {
    let Some(body) = ctx.login.as_deref_mut().and_then(|watch| watch.body.as_mut()) else { return };
    // SAFETY: a chain of live buffers that ends with null.
    while let Some(link) = unsafe { chain.as_ref() } {
        // SAFETY: every link holds a buffer.
        let buffer = unsafe { &*link.buf };
        let size = buffer.last.addr().saturating_sub(buffer.pos.addr());
        let size = size.min(BODY_LIMIT.saturating_sub(body.len()));
        if !buffer.pos.is_null() && size != 0 {
            // SAFETY: a memory buffer's bytes from `pos` to `last`.
            body.extend_from_slice(unsafe { std::slice::from_raw_parts(buffer.pos, size) });
        }
        chain = link.next;
    }
}

/// Whether the login was successful, now that the answer has been sent.
///
/// # Safety
///
/// `r` must be a live main request in its log phase, and `ctx` its context.
pub(crate) unsafe fn result(r: *mut ngx_http_request_t, ctx: &Ctx) -> LoginResult {
    let Some((watch, rule)) = ctx.login.as_ref().zip(rule(ctx)) else {
        return LoginResult::Unknown;
    };
    match (rule.method(), watch.result) {
        (_, LoginResult::Known(said)) => LoginResult::Known(said),
        // SAFETY: as the caller's.
        (LoginMethod::Custom, _) => unsafe { by_expression(r, ctx, rule) },
        (LoginMethod::Body, _) => {
            let found = watch.body.as_ref().zip(rule.body_regex());
            found.map_or(LoginResult::Unknown, |(body, own)| LoginResult::Known(own.is_match(body)))
        }
        _ => LoginResult::Unknown,
    }
}

/// The value of an answer's header; `name` in any case.
///
/// # Safety
///
/// `r` must be a live request; the value lives as long.
pub(crate) unsafe fn response_header(
    r: *mut ngx_http_request_t,
    name: &str,
) -> Option<&'static [u8]> {
    // SAFETY: live request.
    let list = unsafe { &(*r).headers_out.headers };
    // SAFETY: a list of header lines.
    let lines = unsafe { origin::lines_of(list) };
    let line = lines.iter().find(|line| {
        // SAFETY: header strings live as long as the request.
        line.hash != 0 && unsafe { ffi::bytes(line.key) }.eq_ignore_ascii_case(name.as_bytes())
    })?;
    // SAFETY: as above.
    Some(unsafe { ffi::bytes(line.value) })
}
