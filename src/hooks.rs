//! The operator's expressions and handlers: what other enforcers do by callbacks
//! (sensitive-and-custom-hooks.md), evaluated here for `px_core::hooks`.

use nginx_sys::{ngx_http_request_t, ngx_pool_t};
use px_core::hooks::{CustomParameter, Hooks, ParameterValue};

use crate::complex_value::ComplexValue;
use crate::ffi;

/// True where at least one value, evaluated, is neither empty nor `0`: the rule of `proxy_no_cache`.
#[derive(Clone, Default)]
pub(crate) struct Condition(pub(crate) Vec<ComplexValue>);

impl Condition {
    /// # Safety
    ///
    /// `r` must be a live request under the configuration this condition belongs to.
    pub(crate) unsafe fn holds(&self, r: *mut ngx_http_request_t) -> bool {
        // SAFETY: as the caller's.
        self.0.iter().any(|value| !matches!(unsafe { value.evaluate(r) }, "" | "0"))
    }
}

/// A named location that answers, where its condition holds.
#[derive(Clone)]
pub(crate) struct Handler {
    /// Without its `@`.
    pub(crate) location: String,
    pub(crate) condition: Option<Condition>,
}

/// Where a request goes.
#[derive(Clone)]
pub(crate) enum Target {
    /// A named location, without its `@`.
    Named(String),
    Uri(String),
    Value(ComplexValue),
}

impl Target {
    /// Whether every request finds something here: an empty text is nothing, and so may be variables.
    pub(crate) fn is_certain(&self) -> bool {
        match self {
            Self::Named(name) => !name.is_empty(),
            Self::Uri(_) => true,
            Self::Value(value) => value.constant().is_some_and(|text| !text.is_empty()),
        }
    }

    /// Whether no request finds anything here.
    pub(crate) fn is_nothing(&self) -> bool {
        match self {
            Self::Named(name) => name.is_empty(),
            Self::Uri(_) => false,
            Self::Value(value) => value.constant().is_some_and(<[u8]>::is_empty),
        }
    }
}

/// The expressions that are evaluated before a request is judged.
#[derive(Clone, Default)]
pub(crate) struct Expressions {
    pub(crate) enabled_if: Option<Condition>,
    pub(crate) is_filtered: Option<Condition>,
    pub(crate) is_enforced: Option<Condition>,
    pub(crate) is_monitored: Option<Condition>,
    pub(crate) is_sensitive: Option<Condition>,
    pub(crate) is_graphql_route: Option<Condition>,
    pub(crate) is_hype_sale: Option<Condition>,
    pub(crate) is_blocked: Option<Condition>,
    pub(crate) preflight_handler: Option<Handler>,
    pub(crate) client_ip: Option<ComplexValue>,
    pub(crate) custom_block_url: Option<Target>,
    /// By slot; those of the response among them.
    pub(crate) custom_parameters: Vec<(u8, ComplexValue)>,
    pub(crate) activity_headers: Vec<(String, ComplexValue)>,
    pub(crate) jwt_additional_fields: Vec<(String, ComplexValue)>,
}

/// Stands for a page that has no URL, where only its being there counts.
const NAMED_PAGE: &str = "@";

impl Expressions {
    /// True where there is nothing to evaluate, as nearly everywhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.enabled_if.is_none()
            && self.is_filtered.is_none()
            && self.is_enforced.is_none()
            && self.is_monitored.is_none()
            && self.is_sensitive.is_none()
            && self.is_graphql_route.is_none()
            && self.is_hype_sale.is_none()
            && self.is_blocked.is_none()
            && self.preflight_handler.is_none()
            && self.client_ip.is_none()
            && self.custom_block_url.is_none()
            && self.custom_parameters.is_empty()
            && self.activity_headers.is_empty()
            && self.jwt_additional_fields.is_empty()
    }

    /// What those say that decide whether the request is judged at all, asked before its body is
    /// read: the others may be about what is found in it. `None` when memory is short.
    ///
    /// # Safety
    ///
    /// As [`evaluate`](Self::evaluate).
    pub(crate) unsafe fn evaluate_first(
        &self,
        r: *mut ngx_http_request_t,
    ) -> Option<&'static Hooks<'static>> {
        // SAFETY: as the caller's.
        unsafe { self.evaluate_part(r, false) }
    }

    /// What all of them say of this request. `None` when memory is short.
    ///
    /// # Safety
    ///
    /// `r` must be a live main request under the configuration these belong to; the result lives as
    /// long as its pool.
    pub(crate) unsafe fn evaluate(
        &self,
        r: *mut ngx_http_request_t,
    ) -> Option<&'static Hooks<'static>> {
        // SAFETY: as the caller's.
        unsafe { self.evaluate_part(r, true) }
    }

    /// # Safety
    ///
    /// As [`evaluate`](Self::evaluate).
    unsafe fn evaluate_part(
        &self,
        r: *mut ngx_http_request_t,
        everything: bool,
    ) -> Option<&'static Hooks<'static>> {
        // SAFETY: live request.
        let pool = unsafe { (*r).pool };
        let holds = |condition: &Option<Condition>| {
            // SAFETY: as the caller's.
            condition.as_ref().is_some_and(|condition| unsafe { condition.holds(r) })
        };
        // SAFETY: as the caller's; the text lives in the request's pool or the configuration's.
        let text = |value: &ComplexValue| -> &'static str { unsafe { value.evaluate(r) } };
        let first = Hooks {
            is_disabled: self.enabled_if.is_some() && !holds(&self.enabled_if),
            is_filtered: holds(&self.is_filtered),
            is_enforced: holds(&self.is_enforced),
            is_graphql_route: holds(&self.is_graphql_route),
            handles_preflight: self.preflight_handler.as_ref().is_some_and(|handler| {
                // SAFETY: as the caller's.
                handler.condition.as_ref().is_none_or(|condition| unsafe { condition.holds(r) })
            }),
            client_ip: self.client_ip.as_ref().map_or("", text),
            ..Hooks::NONE
        };
        // SAFETY: live pool.
        let keep = |hooks| unsafe { list_in_pool(pool, 1, std::iter::once(hooks)) }?.first();
        if !everything {
            return keep(first);
        }
        // SAFETY: live pool.
        let custom_parameters = unsafe {
            list_in_pool(
                pool,
                self.custom_parameters.len(),
                self.custom_parameters.iter().map(|(slot, value)| CustomParameter {
                    slot: *slot,
                    value: ParameterValue::Text(text(value)),
                }),
            )
        }?;
        let named = |list: &[(String, ComplexValue)]| {
            let values = list.iter().map(|(name, value)| {
                // The names are the configuration's, which outlives the request.
                // SAFETY: the configuration is kept by the request's context.
                let name: &'static str = unsafe { &*std::ptr::from_ref(name.as_str()) };
                (name, text(value))
            });
            // SAFETY: live pool.
            unsafe { list_in_pool(pool, list.len(), values) }
        };
        let activity_headers = named(&self.activity_headers)?;
        let jwt_additional_fields = named(&self.jwt_additional_fields)?;
        keep(Hooks {
            is_monitored: holds(&self.is_monitored),
            is_sensitive: holds(&self.is_sensitive),
            is_hype_sale: self.is_hype_sale.as_ref().map(|_| holds(&self.is_hype_sale)),
            is_blocked: holds(&self.is_blocked),
            custom_block_url: match &self.custom_block_url {
                Some(Target::Value(value)) => text(value),
                Some(_) => NAMED_PAGE,
                None => "",
            },
            custom_parameters,
            jwt_additional_fields,
            activity_headers,
            ..first
        })
    }

    /// The custom parameters of the response, evaluated when it is known.
    ///
    /// # Safety
    ///
    /// As [`evaluate`](Self::evaluate).
    pub(crate) unsafe fn response_parameters(
        &self,
        r: *mut ngx_http_request_t,
    ) -> Vec<CustomParameter<'static>> {
        let own = self.custom_parameters.iter();
        let own = own.filter(|(slot, _)| *slot > px_core::custom_parameters::REQUEST_SLOTS);
        own.map(|(slot, value)| CustomParameter {
            slot: *slot,
            // SAFETY: as the caller's.
            value: ParameterValue::Text(unsafe { value.evaluate(r) }),
        })
        .collect()
    }
}

/// The first `count` of `values` as a slice in `pool`. `None` when memory is short.
///
/// # Safety
///
/// `pool` must be a live pool, and the slice not be used after it. `T` must need no drop.
unsafe fn list_in_pool<T: Copy>(
    pool: *mut ngx_pool_t,
    count: usize,
    values: impl Iterator<Item = T>,
) -> Option<&'static [T]> {
    if count == 0 {
        return Some(&[]);
    }
    // SAFETY: the caller vouches for the pool.
    let array = unsafe { ffi::array_in_pool::<T>(pool, count) };
    if array.is_null() {
        return None;
    }
    let mut filled = 0;
    for value in values.take(count) {
        // SAFETY: room for `count` values; less than that were written.
        unsafe { array.add(filled).write(value) };
        filled += 1;
    }
    // SAFETY: so many were written above.
    Some(unsafe { std::slice::from_raw_parts(array, filled) })
}
