//! What the operator's own expressions say of one request: the declarative counterpart of the other
//! enforcers' callbacks. The caller evaluates them, the enforcer only asks.
//!
//! Source: sensitive-and-custom-hooks.md § 2, custom-parameters.md.

/// The outcome of all expressions for one request.
#[derive(Clone, Copy, Debug)]
pub struct Hooks<'r> {
    /// `px_enabled_if` is set and false: the request is not processed.
    pub is_disabled: bool,
    /// `px_custom_is_filtered_request`.
    pub is_filtered: bool,
    /// `px_custom_is_enforced_request`.
    pub is_enforced: bool,
    /// `px_custom_is_monitored_request`.
    pub is_monitored: bool,
    /// `px_custom_is_sensitive_request`.
    pub is_sensitive: bool,
    /// `px_custom_is_graphql_route`.
    pub is_graphql_route: bool,
    /// `px_hype_sale`; `None` where it is not configured.
    pub is_hype_sale: Option<bool>,
    /// `px_pre_enforce_handler`: block without asking anybody.
    pub is_blocked: bool,
    /// `px_cors_custom_preflight_handler` is set and wants this request, if it is a preflight.
    pub handles_preflight: bool,
    /// `px_custom_client_ip_extraction`; anything but an address is as good as nothing.
    pub client_ip: &'r str,
    /// `px_custom_block_url`; empty: none.
    pub custom_block_url: &'r str,
    /// `px_custom_parameter`, slots 1 to 10.
    pub custom_parameters: &'r [CustomParameter<'r>],
    /// `px_jwt_additional_field`: name and value; empty values are left out.
    pub jwt_additional_fields: &'r [(&'r str, &'r str)],
    /// `px_activity_header`: further entries of the activities' list of headers, name and value.
    pub activity_headers: &'r [(&'r str, &'r str)],
}

/// One value for HUMAN's view of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomParameter<'r> {
    /// 1 to 20; what is beyond is left out.
    pub slot: u8,
    pub value: ParameterValue<'r>,
}

/// The value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterValue<'r> {
    /// An empty text is no value.
    Text(&'r str),
    /// A JSON value, written as it stands.
    Json(&'r str),
}

impl Hooks<'static> {
    /// The operator has no expressions.
    pub const NONE: Self = Self {
        is_disabled: false,
        is_filtered: false,
        is_enforced: false,
        is_monitored: false,
        is_sensitive: false,
        is_graphql_route: false,
        is_hype_sale: None,
        is_blocked: false,
        handles_preflight: false,
        client_ip: "",
        custom_block_url: "",
        custom_parameters: &[],
        jwt_additional_fields: &[],
        activity_headers: &[],
    };
}
