//! What every behaviour test needs: a real nginx with the module, an origin that keeps what it
//! receives, a client that says exactly what it is told, and a real browser.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod chromium;
pub mod client;
pub mod conf_check;
pub mod decisions;
pub mod h2;
pub mod http2;
pub mod http3;
pub mod markdown;
pub mod nginx;
pub mod node;
pub mod origin;
pub mod prometheus;
pub mod shared_library;

#[allow(unused_imports, reason = "each test file uses its part")]
pub use chromium::Browser;
#[allow(unused_imports, reason = "each test file uses its part")]
pub use client::{Connection, Response, curl, get, request};
#[allow(unused_imports, reason = "each test file uses its part")]
pub use nginx::Nginx;
#[allow(unused_imports, reason = "each test file uses its part")]
pub use origin::Origin;

use std::thread;
use std::time::{Duration, Instant};

use px_sandbox::{App, Sandbox};

/// Longest wait for anything that happens on its own, under valgrind and on a busy machine, too.
pub const SOON: Duration = Duration::from_secs(60);

/// A browser's user agent.
pub const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64) TestBrowser/12.3";

/// The directives that protect a site with the sandbox as HUMAN, in blocking mode.
pub fn protect(sandbox: &Sandbox) -> String {
    protect_as(sandbox.app(), &sandbox.url(), &sandbox.url())
}

/// As [`protect`], with the Risk API and the activities at places of their own.
pub fn protect_apart(risk_api: &Sandbox, collector: &Sandbox) -> String {
    protect_as(risk_api.app(), &risk_api.url(), &collector.url())
}

/// The directives for an app and two base URLs.
pub fn protect_as(app: &App, risk_api: &str, collector: &str) -> String {
    format!(
        "px_enabled on;\n\
         px_app_id {};\n\
         px_auth_token {};\n\
         px_cookie_secret {};\n\
         px_module_mode active_blocking;\n\
         px_backend_url {risk_api};\n\
         px_backend_collector_url {collector};\n\
         px_client_host {collector};\n\
         px_captcha_script_host {collector};\n\
         px_initial_telemetry_enabled off;\n",
        app.id, app.auth_token, app.secret,
    )
}

/// Returns once `holds`; panics if that takes longer than anything should.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
