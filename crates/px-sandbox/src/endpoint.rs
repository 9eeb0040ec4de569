//! The endpoints of HUMAN's backend that the sandbox stands in for: endpoints-and-constants.md § 1,
//! csp.md, remote-config-and-telemetry.md § 3 and § 5, snippet-injection.md.

/// What a request to the sandbox is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Endpoint {
    /// `POST /api/v3/risk`
    RiskApi,
    /// `POST /api/v1/collector/s2s`
    Activities,
    /// `POST /api/v2/risk/telemetry`
    Telemetry,
    /// `GET /api/v1/kpi/status`
    Health,
    /// `GET /v1/enforcer-data?app_id=<app id>&feature=csp&timestamp=0`
    CspPolicy,
    /// `GET /config/`, the remote configuration
    RemoteConfig,
    /// `GET /snippet/<app id>`. HUMAN documents no such place; an enforcer is told this one.
    Snippet,
    /// `POST /enforcer-logs/`
    EnforcerLogs,
    /// `GET /<app id>/main.min.js`
    Sensor,
    /// `GET /<app id>/captcha.js`
    Captcha,
    /// `GET /<app id>/checkpoint.js`, the hype sale script
    Checkpoint,
    /// What the sensor posts to the collector host, mostly through the first-party XHR route.
    Xhr,
    /// `POST /px-sandbox/solve`: where the demo challenge gets its risk cookie.
    Solve,
    /// A request mirrored to a traffic-analysis node, where the sandbox is one.
    Node,
    /// `/_sandbox/…`: where people and tests look inside.
    Control,
    /// Everything else.
    Other,
}

impl Endpoint {
    /// All of them, in the order of the overview page.
    pub const ALL: [Self; 16] = [
        Self::RiskApi,
        Self::Activities,
        Self::Telemetry,
        Self::Health,
        Self::CspPolicy,
        Self::RemoteConfig,
        Self::Snippet,
        Self::EnforcerLogs,
        Self::Sensor,
        Self::Captcha,
        Self::Checkpoint,
        Self::Xhr,
        Self::Solve,
        Self::Node,
        Self::Control,
        Self::Other,
    ];

    /// The word used in JSON, complaints and options.
    pub fn word(self) -> &'static str {
        match self {
            Self::RiskApi => "risk",
            Self::Activities => "activities",
            Self::Telemetry => "telemetry",
            Self::Health => "health",
            Self::CspPolicy => "csp",
            Self::RemoteConfig => "config",
            Self::Snippet => "snippet",
            Self::EnforcerLogs => "logs",
            Self::Sensor => "sensor",
            Self::Captcha => "captcha",
            Self::Checkpoint => "checkpoint",
            Self::Xhr => "xhr",
            Self::Solve => "solve",
            Self::Node => "node",
            Self::Control => "control",
            Self::Other => "other",
        }
    }

    /// The endpoint of a [`word`](Self::word).
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.word() == word)
    }

    /// The endpoint a request path belongs to. `first_party` says that an enforcer proxied the
    /// request for a browser (`x-px-first-party: 1`).
    pub(crate) fn of(path: &str, first_party: bool) -> Self {
        match path {
            // Older enforcers ask /api/v2/risk; recognised, so that the complaint can name it.
            "/api/v3/risk" | "/api/v2/risk" | "/api/v1/risk" => Self::RiskApi,
            "/api/v1/collector/s2s" => Self::Activities,
            "/api/v2/risk/telemetry" => Self::Telemetry,
            "/api/v1/kpi/status" => Self::Health,
            "/px-sandbox/solve" => Self::Solve,
            "/_sandbox" if !first_party => Self::Control,
            // Never through the protected site: its visitors have no business here.
            _ if path.starts_with("/_sandbox/") && !first_party => Self::Control,
            "/v1/enforcer-data" if !first_party => Self::CspPolicy,
            // Without its slash as well, so that the complaint can name it.
            "/config/" | "/config" if !first_party => Self::RemoteConfig,
            "/enforcer-logs/" | "/enforcer-logs" if !first_party => Self::EnforcerLogs,
            _ if path.starts_with("/snippet/") && !first_party => Self::Snippet,
            _ => Self::of_script(path).unwrap_or(
                if first_party || path.starts_with("/api/v2/collector") {
                    Self::Xhr
                } else {
                    Self::Other
                },
            ),
        }
    }

    /// What is left of it where the sandbox is a traffic-analysis node.
    pub(crate) fn of_node(self) -> Self {
        match self {
            Self::Control => Self::Control,
            _ => Self::Other,
        }
    }

    fn of_script(path: &str) -> Option<Self> {
        match path.strip_prefix('/')?.split_once('/')?.1 {
            "main.min.js" => Some(Self::Sensor),
            "captcha.js" => Some(Self::Captcha),
            "checkpoint.js" => Some(Self::Checkpoint),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_leads_back_to_its_endpoint() {
        for endpoint in Endpoint::ALL {
            assert_eq!(Endpoint::from_word(endpoint.word()), Some(endpoint));
        }
        assert_eq!(Endpoint::from_word("nothing"), None);
    }

    #[test]
    fn paths_lead_to_endpoints() {
        for (path, first_party, endpoint) in [
            ("/api/v3/risk", false, Endpoint::RiskApi),
            ("/api/v3/risk/", false, Endpoint::Other),
            ("/PXabcd1234/main.min.js", true, Endpoint::Sensor),
            ("/PXabcd1234/captcha.js", false, Endpoint::Captcha),
            ("/PXabcd1234/a/captcha.js", false, Endpoint::Other),
            ("/api/v2/collector", false, Endpoint::Xhr),
            ("/anything", true, Endpoint::Xhr),
            ("/v1/enforcer-data", false, Endpoint::CspPolicy),
            ("/config/", false, Endpoint::RemoteConfig),
            ("/config", false, Endpoint::RemoteConfig),
            ("/config/", true, Endpoint::Xhr),
            ("/enforcer-logs/", false, Endpoint::EnforcerLogs),
            ("/snippet/PXabcd1234", false, Endpoint::Snippet),
            ("/snippet/captcha.js", false, Endpoint::Snippet),
            ("/snippet", false, Endpoint::Other),
            ("/_sandbox/complaints", false, Endpoint::Control),
            ("/_sandbox/complaints", true, Endpoint::Xhr),
            ("/", false, Endpoint::Other),
            ("", false, Endpoint::Other),
        ] {
            assert_eq!(Endpoint::of(path, first_party), endpoint, "{path}");
        }
    }
}
