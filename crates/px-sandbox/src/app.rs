//! An application as HUMAN's console shows it: id, token for the backend, secret of its cookies.

/// The application of a sandbox that was told nothing else.
pub const APP_ID: &str = "PXsandbox1";
/// Its `px_auth_token`.
pub const AUTH_TOKEN: &str = "sandbox-auth-token-for-nobody-else";
/// Its `px_cookie_secret`.
pub const COOKIE_SECRET: &str = "sandbox-cookie-secret-for-nobody-else";

/// What an enforcer is configured with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct App {
    /// `px_app_id`
    pub id: String,
    /// `px_auth_token`
    pub auth_token: String,
    /// `px_cookie_secret`, the current one
    pub secret: String,
}

impl Default for App {
    fn default() -> Self {
        Self { id: APP_ID.into(), auth_token: AUTH_TOKEN.into(), secret: COOKIE_SECRET.into() }
    }
}
