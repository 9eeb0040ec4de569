//! Reading vector files, and the check that belongs to each.

mod block_urls;
mod blocks;
mod compare;
mod cors;
mod credentials;
mod csp;
mod custom_parameters;
mod extracted;
mod filters;
mod first_party;
mod flow;
mod hype_sale;
mod modes;
mod options;
mod remote_config;
mod reports;
mod risk;
mod scene;
mod telemetry;
mod tokens;

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use serde_json::Value;

/// How a case went.
pub enum Outcome {
    Passed,
    /// Differs as a decision or a tag allows; what this module does instead was checked.
    Overridden(String),
    /// Needs a feature that does not exist yet.
    NotImplemented(String),
    Failed(String),
}

/// Checks one case. The error says what differs; one that begins with [`tokens::OVERRIDDEN`] says that
/// it may, one that begins with [`NOT_IMPLEMENTED`] which feature the case needs.
pub type Check = fn(&Value) -> Result<(), String>;

/// How the error begins where a case needs a feature that does not exist yet.
pub const NOT_IMPLEMENTED: &str = "not implemented: ";

/// The check for the file `name`, given without its `.json`.
pub fn check_of(name: &str) -> Option<Check> {
    Some(match name {
        "additional-s2s" => extracted::run_additional_s2s,
        "agentic-trust" => extracted::run_agentic_trust,
        "credentials-extraction" => credentials::run_extraction,
        "credentials-file" => credentials::run_file,
        "credentials-hashing" => credentials::run_hashing,
        "graphql" => extracted::run_graphql,
        "jwt" => extracted::run_jwt,
        "accept-header" => blocks::run_accept_header,
        "activities" => reports::run_activity,
        "api-protection" => block_urls::run_api_protection,
        "block-redirect" => block_urls::run_redirect,
        "block-responses" => blocks::run_block_response,
        "cors" => cors::run,
        "csp" => csp::run,
        "remote-config-notify" => remote_config::run,
        "custom-parameters" => custom_parameters::run,
        "filters" => filters::run,
        "first-party" => first_party::run,
        "flow" => flow::run,
        "hype-sale" => hype_sale::run,
        "modes" => modes::run,
        "pii-anonymization" => reports::run_anonymization,
        "pxde" => tokens::run_pxde,
        "risk-api-requests" => reports::run_risk_request,
        "risk-api-responses" => risk::run,
        "risk-token-v1-legacy" => tokens::run_v1,
        "risk-token-v2" => tokens::run_v2,
        "risk-token-v3" => tokens::run_v3,
        "routes-setconf" => modes::run_setconf,
        "telemetry-command" => telemetry::run,
        _ => return None,
    })
}

/// The cases of a file.
pub fn read(file: &Path) -> Result<Vec<Value>, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let mut json: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match json["cases"].take() {
        Value::Array(cases) => Ok(cases),
        _ => Err("it has no list \"cases\"".to_owned()),
    }
}

/// Checks one case.
pub fn run(check: Check, case: &Value) -> Outcome {
    if let Some(name) = options::unknown_in(&case["config"]) {
        return Outcome::NotImplemented(format!("option {name}"));
    }
    let checked = panic::catch_unwind(AssertUnwindSafe(|| check(case)));
    match checked.unwrap_or_else(|_| Err("it panicked".to_owned())) {
        Ok(()) => Outcome::Passed,
        Err(why) if why.starts_with(tokens::OVERRIDDEN) => Outcome::Overridden(why),
        Err(why) => match why.strip_prefix(NOT_IMPLEMENTED) {
            Some(feature) => Outcome::NotImplemented(feature.to_owned()),
            None => Outcome::Failed(why),
        },
    }
}
