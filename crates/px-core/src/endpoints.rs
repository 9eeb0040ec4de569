//! Where the enforcer and its block pages find HUMAN's services.
//!
//! Source: endpoints-and-constants.md § 1, block-response.md § 2.

use crate::base_url::BaseUrl;
use crate::policy::{Options, PolicyError};

/// Backup of the captcha script; fixed in every enforcer.
const BACKUP_CAPTCHA_HOST: &str = "https://captcha.px-cloud.net";

/// Where the sensor script comes from.
pub const CLIENT: &str = "https://client.perimeterx.net";
/// Where the captcha script comes from.
pub const CAPTCHA: &str = "https://captcha.px-cdn.net";

/// Risk API, telemetry and remote configuration of an application.
pub fn default_backend(app_id: &str) -> String {
    format!("https://sapi-{}.perimeterx.net", app_id.to_ascii_lowercase())
}

/// Activities of an application, and what its sensor sends.
pub fn default_collector(app_id: &str) -> String {
    format!("https://collector-{}.perimeterx.net", app_id.to_ascii_lowercase())
}

/// Absolute URLs, without trailing slash.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) backend: String,
    pub(crate) collector: String,
    pub(crate) client: String,
    pub(crate) captcha: String,
    pub(crate) risk: String,
    pub(crate) activities: String,
    pub(crate) telemetry: String,
    pub(crate) sensor_script: String,
    pub(crate) captcha_script: String,
    pub(crate) backup_captcha_script: String,
    pub(crate) hype_sale: String,
    pub(crate) hype_sale_script: String,
}

impl Endpoints {
    pub(crate) fn new(options: &Options) -> Result<Self, PolicyError> {
        let app_id = &options.app_id;
        let backend = base("backend_url", &options.backend_url, &default_backend(app_id))?;
        let collector = &options.backend_collector_url;
        let collector = base("backend_collector_url", collector, &default_collector(app_id))?;
        let client = base("client_host", &options.backend_client_url, CLIENT)?;
        let captcha = base("captcha_script_host", &options.backend_captcha_url, CAPTCHA)?;
        let hype_sale = base("hypesale_host", &options.hype_sale_host, CAPTCHA)?;
        Ok(Self {
            hype_sale_script: format!("{hype_sale}/{app_id}/checkpoint.js"),
            hype_sale,
            risk: format!("{backend}/api/v3/risk"),
            activities: format!("{collector}/api/v1/collector/s2s"),
            telemetry: format!("{backend}/api/v2/risk/telemetry"),
            sensor_script: format!("{client}/{app_id}/main.min.js"),
            captcha_script: format!("{captcha}/{app_id}/captcha.js"),
            backup_captcha_script: format!("{BACKUP_CAPTCHA_HOST}/{app_id}/captcha.js"),
            backend,
            collector,
            client,
            captcha,
        })
    }
}

fn base(option: &'static str, configured: &str, default: &str) -> Result<String, PolicyError> {
    if configured.is_empty() {
        return Ok(default.to_owned());
    }
    BaseUrl::parse(configured)
        .map(|url| url.to_string())
        .map_err(|reason| PolicyError::Invalid { option, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_id_is_lower_case_in_host_names_only() {
        let options = Options { app_id: "PXABcd1234".to_owned(), ..Options::default() };
        let endpoints = Endpoints::new(&options).expect("defaults");
        assert_eq!(endpoints.risk, "https://sapi-pxabcd1234.perimeterx.net/api/v3/risk");
        assert_eq!(
            endpoints.activities,
            "https://collector-pxabcd1234.perimeterx.net/api/v1/collector/s2s"
        );
        assert_eq!(
            endpoints.telemetry,
            "https://sapi-pxabcd1234.perimeterx.net/api/v2/risk/telemetry"
        );
        assert_eq!(endpoints.sensor_script, "https://client.perimeterx.net/PXABcd1234/main.min.js");
        assert_eq!(endpoints.captcha_script, "https://captcha.px-cdn.net/PXABcd1234/captcha.js");
    }

    #[test]
    fn configured_hosts_replace_the_defaults() {
        let options = Options {
            app_id: "PXa".to_owned(),
            backend_url: "http://127.0.0.1:9000/".to_owned(),
            backend_captcha_url: "//captcha.example.net".to_owned(),
            ..Options::default()
        };
        let endpoints = Endpoints::new(&options).expect("valid");
        assert_eq!(endpoints.risk, "http://127.0.0.1:9000/api/v3/risk");
        assert_eq!(endpoints.captcha_script, "https://captcha.example.net/PXa/captcha.js");
        assert_eq!(endpoints.backup_captcha_script, "https://captcha.px-cloud.net/PXa/captcha.js");

        let options = Options { backend_url: "sapi.example.net".to_owned(), ..options };
        let error = Endpoints::new(&options).expect_err("no scheme").to_string();
        assert!(error.starts_with("invalid \"px_backend_url\": "), "{error}");
    }
}
