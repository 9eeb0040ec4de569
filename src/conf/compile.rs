//! What the values of a location come to: checked against each other, and everything built from them that
//! requests of it need.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use px_core::base_url::BaseUrl;
use px_core::breaker::Limits;
use px_core::csp;
use px_core::policy::{Policy, Secret};

use super::{Answers, Assets, Enforcement, LocConf, MainConf, TlsSettings};
use crate::app_places;
use crate::background::{Kind, RemoteConfig, Task, Tasks};
use crate::documents;
use crate::fetcher::Source;
use crate::hooks::Target;
use crate::node_conf::{self, NodeConf};
use crate::sender::{Destination, LogService, Proxy};
use crate::values::Values;

/// Milliseconds, unless `px_s2s_timeout` says otherwise.
pub(crate) const S2S_TIMEOUT: u64 = 1000;

/// Where distributions keep their certificate bundle.
const CA_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl LocConf {
    pub(super) fn compile_node(
        &self,
        main: &mut MainConf,
        has_resolver: bool,
    ) -> Result<Option<Rc<NodeConf>>, String> {
        let compiled = NodeConf::compile(&self.values).and_then(|node| {
            if let Some(node) = &node
                && !has_resolver
                && !main.nodes.iter().any(|known| known.url == node.url)
            {
                node_conf::check_host(&node.url)?;
            }
            Ok(node.map(Rc::new))
        });
        let place = self.place.as_ref().map_or_else(String::new, ToString::to_string);
        let node = compiled.map_err(|reason| format!("{reason}, {place}"))?;
        main.nodes.extend(node.clone());
        Ok(node)
    }

    pub(super) fn compile(&self, main: &mut MainConf) -> Result<Option<Rc<Enforcement>>, String> {
        let values = &self.values;
        if !values.may_be_active() {
            return Ok(None);
        }
        let place = self.place.as_ref().map_or_else(String::new, ToString::to_string);
        let switch = match values.enabled {
            Some(true) => "px_enabled",
            _ => "px_active_header_name",
        };
        let missing = |directive: &str, or: &str| {
            Err(format!("\"{directive}\"{or} is missing where \"{switch}\" is in effect, {place}"))
        };
        let Some(app_id) = &values.app_id else { return missing("px_app_id", "") };
        if values.auth_token.is_none() {
            return missing("px_auth_token", " or \"px_auth_token_file\"");
        }
        if values.secrets().is_empty() {
            return missing("px_cookie_secret", " or \"px_cookie_secret_file\"");
        }
        let options = values.options();
        let (min, max) = (options.risk_cookie_min_iterations, options.risk_cookie_max_iterations);
        if min > max {
            return Err(format!(
                "\"px_risk_cookie_min_iterations\" {min} is greater than \
                 \"px_risk_cookie_max_iterations\" {max}, {place}"
            ));
        }
        self.check_answers(&place)?;
        let backend_url = match &values.backend_url {
            Some(url) => url.clone(),
            None => default_backend_url(app_id)?,
        };
        let has_remote_config = options.has_remote_config();
        let policy = Policy::compile(options).map_err(|err| format!("{err}, {place}"))?;
        let collector = policy.activities_url().to_owned();
        let tls = tls_settings(values, &backend_url, &collector)
            .map_err(|reason| format!("{reason}, {place}"))?;
        let destination = Arc::new(Destination {
            activities_url: collector,
            telemetry_url: policy.telemetry_url().to_owned(),
            authorization: policy.authorization().to_owned(),
            previous_token: values.previous_auth_token(),
            logs: values
                .logger_auth_token
                .as_ref()
                .map(|token| LogService { url: policy.logs_url(), authorization: bearer(token) }),
            gzip_level: values
                .compression_enabled
                .unwrap_or(false)
                .then(|| values.compression_level.unwrap_or(6)),
            batch_size: values.max_activity_batch_size.unwrap_or(20).max(1),
            batch_interval_ms: values.batch_activities_timeout_ms.unwrap_or(1000),
            timeout_ms: values.async_timeout.unwrap_or(2000),
            tls: tls.clone(),
            proxy: values.proxy_url.as_ref().map(|url| Proxy {
                url: url.to_string(),
                credentials: values.proxy_authorization.clone(),
            }),
            spool: values.activity_spool.clone().flatten(),
        });
        if let Some(other) = main.spool_of_other_size(&destination) {
            return Err(format!(
                "\"px_activity_spool\" gives \"{}\" another \"max_size\" than elsewhere, {place}",
                other.dir.display()
            ));
        }
        // Activities of locations that report to the same place travel in the same batches.
        let destination = main
            .enforcements
            .iter()
            .map(|other| &other.destination)
            .find(|other| ***other == *destination)
            .map_or(destination, Arc::clone);
        let tasks = self.tasks(main, &policy, &destination);
        if main.tasks.len() > documents::PLACES {
            return Err(format!(
                "more than {} policies, snippets and remote configurations are to be fetched, {place}",
                documents::PLACES
            ));
        }
        let defaults = Limits::default();
        // Empty where an inner level has switched an outer one's off.
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let enforcement = Rc::new(Enforcement {
            policy: RefCell::new(Rc::new(policy)),
            app_place: Cell::new(app_places::OTHER),
            assets: Assets {
                custom_logo: values.custom_logo,
                css_ref: values.css_ref,
                js_ref: values.js_ref,
                block_page_content: values.custom_block_page_content,
                api_protection_block_url: values.api_protection_block_url,
                api_protection_default_redirect_url: values.api_protection_default_redirect_url,
                cors_headers: values.cors_headers(),
            },
            expressions: Some(values.expressions()).filter(|own| !own.is_empty()),
            answers: Answers {
                web: named(&values.custom_web_block_page_response),
                advanced: named(&values.custom_create_advanced_blocking_response),
                rate_limit: named(&values.custom_rate_limit_block_page),
                verification: values
                    .custom_verification_handler
                    .clone()
                    .filter(|handler| !handler.location.is_empty()),
            },
            login: values.login_expressions(),
            tasks,
            csp_limit_ms: values.csp_no_updates_max_interval.unwrap_or(60 * 60_000),
            csp_nonce: values.csp_nonce,
            custom_snippet: values.create_custom_snippet,
            tells_at_start: values.initial_telemetry_enabled.unwrap_or(true),
            graphql_keywords: values.extract_graphql_keywords,
            debug_probability: values.debug_probability.unwrap_or(1),
            deferred_activities: values.deferred_activities.unwrap_or(true),
            additional_activity_handler: values
                .additional_activity_handler
                .clone()
                .filter(|_| values.additional_activity_handler_enabled != Some(false)),
            enforce_timeout: values.enforce_timeout,
            breaker_limits: Limits {
                threshold: values.max_errors_threshold.unwrap_or(defaults.threshold),
                interval_ms: values.errors_count_interval.unwrap_or(defaults.interval_ms),
            },
            backend_url,
            risk_backend: values.risk_backend,
            tls,
            destination,
            token_cache_setting: values.token_cache.clone().unwrap_or_default(),
            token_cache: OnceCell::new(),
            first_party_backends: match values.first_party_enabled {
                Some(false) if !has_remote_config => None,
                _ => values.first_party_backends()?,
            },
            first_party_cache: values.first_party_cache.clone().flatten().map(|own| (own, place)),
            first_party: OnceCell::new(),
            risk_location: OnceCell::new(),
            chosen_risk_location: OnceCell::new(),
        });
        main.enforcements.push(Rc::clone(&enforcement));
        Ok(Some(enforcement))
    }

    /// What is to be fetched for this configuration; what others want already is fetched once.
    fn tasks(&self, main: &mut MainConf, policy: &Policy, own: &Destination) -> Tasks {
        let (values, options) = (&self.values, policy.options());
        let source = |url: String, authorization: Secret| {
            Arc::new(Source {
                url,
                authorization,
                timeout_ms: own.timeout_ms,
                tls: own.tls.clone(),
                proxy: own.proxy.clone(),
            })
        };
        let own_authorization = || Secret::new(policy.authorization().to_owned());
        let mut place_of = |task: Task| match main.tasks.iter().position(|known| *known == task) {
            Some(known) => known,
            None => {
                main.tasks.push(task);
                main.tasks.len() - 1
            }
        };
        let has_remote_config = options.has_remote_config();
        let remote_config = has_remote_config.then(|| {
            place_of(Task {
                source: source(
                    policy.remote_config_url(),
                    bearer(&options.remote_config_auth_token),
                ),
                interval_ms: values.remote_config_refresh_interval.unwrap_or(10 * 60_000),
                kind: Kind::RemoteConfig(RemoteConfig {
                    id: options.remote_config_id.clone(),
                    token: options.remote_config_auth_token.clone(),
                    max_attempts: values.remote_config_max_fetch_attempts.unwrap_or(5),
                    retry_ms: values.remote_config_retry_interval_ms.unwrap_or(1000),
                    cache: values.remote_config_cache.clone().flatten(),
                }),
            })
        });
        // What a remote configuration may switch on must be there then; it is fetched where it is on.
        let csp = (options.csp_enabled || has_remote_config).then(|| {
            let base = values.csp_data_url.as_ref().map(ToString::to_string);
            let base = base.as_deref().unwrap_or(csp::DATA_URL);
            place_of(Task {
                source: source(csp::fetch_url(base, &options.app_id), own_authorization()),
                interval_ms: values.csp_policy_refresh_interval.unwrap_or(5 * 60_000),
                kind: Kind::CspPolicy,
            })
        });
        let snippet = values
            .snippet_provider_url
            .as_ref()
            .filter(|_| options.snippet_enabled || has_remote_config)
            .map(|url| {
                place_of(Task {
                    source: source(url.to_string(), own_authorization()),
                    interval_ms: values.snippet_provider_cache_ttl.unwrap_or(600_000),
                    kind: Kind::Snippet,
                })
            });
        Tasks { csp, snippet, remote_config }
    }

    /// Answers that lack what they need, or that contradict each other.
    fn check_answers(&self, place: &str) -> Result<(), String> {
        let values = &self.values;
        if values.api_protection_mode == Some(true) {
            for (directive, value) in [
                ("px_api_protection_block_url", values.api_protection_block_url),
                (
                    "px_api_protection_default_redirect_url",
                    values.api_protection_default_redirect_url,
                ),
            ] {
                if value.is_none() {
                    return Err(format!(
                        "\"{directive}\" is missing where \"px_api_protection_mode\" is on, {place}"
                    ));
                }
            }
        }
        let redirects = values.redirect_on_custom_url == Some(true);
        match &values.custom_block_url {
            Some(Target::Named(name)) if redirects => Err(format!(
                "\"px_redirect_on_custom_url\" needs a path or a URL in \"px_custom_block_url\", not \
                 the named location \"@{name}\", {place}"
            )),
            Some(Target::Value(url)) if !redirects && url.is_absolute() => Err(format!(
                "\"px_custom_block_url\" names another site: that works with \
                 \"px_redirect_on_custom_url on\" only, {place}"
            )),
            _ => Ok(()),
        }
    }
}

/// `https://sapi-<app id in lower case>.perimeterx.net` (risk-api.md § 2).
pub(crate) fn default_backend_url(app_id: &str) -> Result<BaseUrl, String> {
    BaseUrl::parse(&px_core::endpoints::default_backend(app_id))
}

fn tls_settings(
    values: &Values,
    backend: &BaseUrl,
    collector: &str,
) -> Result<TlsSettings, String> {
    let verify = values.ssl_verify.unwrap_or(true);
    let may_be_chosen = values.risk_backend.is_some();
    let scripts =
        values.first_party_backends()?.filter(|_| values.first_party_enabled != Some(false));
    let tls_for_browsers = scripts.is_some_and(|own| own.client.tls || own.captcha.tls);
    let needed = verify
        && (backend.tls || may_be_chosen || collector.starts_with("https://") || tls_for_browsers);
    let trusted_certificate = certificate_bundle(
        values.ssl_trusted_certificate.as_ref(),
        needed,
        "px_ssl_trusted_certificate",
    )?;
    Ok(TlsSettings { verify, depth: values.ssl_verify_depth.unwrap_or(3), trusted_certificate })
}

/// The operator's bundle, or else the distribution's if one is needed.
pub(crate) fn certificate_bundle(
    own: Option<&String>,
    is_needed: bool,
    directive: &str,
) -> Result<Option<String>, String> {
    if own.is_some() || !is_needed {
        return Ok(own.cloned());
    }
    let found = CA_BUNDLES.iter().find(|file| std::fs::File::open(file).is_ok());
    found.map(|file| Some((*file).to_owned())).ok_or_else(|| {
        format!(
            "no certificate bundle was found to verify the backends with: install your \
             distribution's ca-certificates or set \"{directive}\""
        )
    })
}

/// Value of an `Authorization` header.
fn bearer(token: &Secret) -> Secret {
    Secret::new(format!("Bearer {}", token.expose()))
}
