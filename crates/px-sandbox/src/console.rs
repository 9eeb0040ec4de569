//! What a customer sets in HUMAN's console and an enforcer fetches in the background: CSP policy,
//! remote configuration, snippet. csp.md, remote-config-and-telemetry.md § 3, snippet-injection.md.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::clock::now_ms;
use crate::crypto::{hmac_hex, to_base64};
use crate::endpoint::Endpoint;
use crate::received::Received;
use crate::reply::Reply;

const SNIPPET: &str =
    "<script type=\"text/javascript\">window._pxSandboxSnippet = true;</script>\n";

#[derive(Default)]
pub(crate) struct Console(Mutex<Settings>);

/// What was set; nothing where the default holds.
#[derive(Default)]
struct Settings {
    csp_policy: Option<Value>,
    remote_config: Option<Value>,
    snippet: Option<String>,
}

impl Console {
    pub(crate) fn set_csp_policy(&self, policy: Value) {
        self.lock().csp_policy = Some(policy);
    }

    pub(crate) fn set_remote_config(&self, id: &str, version: u64, values: Value) {
        self.lock().remote_config = Some(json!({
            "id": id,
            "version": version,
            "lastUpdated": now_ms(),
            "configValue": values,
        }));
    }

    pub(crate) fn set_snippet(&self, snippet: String) {
        self.lock().snippet = Some(snippet);
    }

    /// Answers an enforcer that fetches one of them.
    pub(crate) fn answer(&self, received: &Received) -> Reply {
        let settings = self.lock();
        match received.endpoint {
            Endpoint::CspPolicy => {
                let policy = settings.csp_policy.clone();
                let policy = policy.unwrap_or_else(|| default_policy(app_id(received)));
                let data = to_base64(json!({ "csp": policy }).to_string().as_bytes());
                Reply::json(json!({ "success": true, "data": data }))
            }
            Endpoint::Snippet => {
                let snippet = settings.snippet.as_deref().unwrap_or(SNIPPET);
                Reply::bytes("text/html; charset=utf-8", snippet)
            }
            _ => match &settings.remote_config {
                Some(document) => Reply::json(document.clone()),
                None => {
                    let message = "no remote configuration was set";
                    Reply::json(json!({ "message": message })).status(404)
                }
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets block pages, the scripts of the sandbox and ordinary sites work.
fn default_policy(app_id: &str) -> Value {
    let policy = format!(
        "default-src 'self'; script-src 'self' 'unsafe-inline' http: https:; \
         style-src 'self' 'unsafe-inline' http: https:; img-src * data:; font-src * data:; \
         connect-src *; report-uri https://csp.example.com/r?app={app_id}"
    );
    json!({ "csp": policy })
}

/// The app an enforcer asks for. Ids are letters and digits: nothing is percent-encoded in them.
pub(crate) fn app_id(received: &Received) -> &str {
    let id = match received.endpoint {
        Endpoint::Snippet => received.path().strip_prefix("/snippet/"),
        _ => received
            .query()
            .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("app_id="))),
    };
    id.unwrap_or_default()
}

/// A header value that commands an enforcer until a time: remote-config-and-telemetry.md § 1.
pub(crate) fn sign(secret: &str, until_ms: u64) -> String {
    let time = until_ms.to_string();
    to_base64(format!("{time}:{}", hmac_hex(secret, &[time.as_bytes()])).as_bytes())
}
