//! What a request says beside its token: a login, GraphQL operations, an MCP call.
//!
//! Source: credential-intelligence.md, graphql.md, agentic-trust.md. Nothing of it is looked at
//! where nothing is configured, and a body is read for the few requests only that need it: the
//! caller asks [`wanted`](crate::enforce::wanted), reads the body if it is to, and hands in what
//! [`extract`](crate::enforce::extract) found.

use std::fmt;

use crate::agentic_trust::{self, AgenticTrustOptions, Mcp};
use crate::body::document::Document;
use crate::credentials::{self, Credentials, Endpoints, LoginRule, Protocol};
use crate::graphql::{Graphql, Operations};
use crate::json::Object;
use crate::policy::{CredentialsOptions, Options, PolicyError};
use crate::request::Request;
use crate::url::RequestUrl;

/// What is to be got ready before a request is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The request's body.
    pub body: bool,
    /// Index of the login endpoint, whose expressions, if it has some, are to be evaluated.
    pub endpoint: Option<usize>,
}

/// What the caller has got ready.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// `None`: there is none, or it could not be read, or is larger than `px_max_body_size`.
    pub body: Option<&'a [u8]>,
    /// User name and password of the endpoint's own expressions; empty texts are none.
    pub login: (&'a str, &'a str),
    /// `px_extract_graphql_keywords`; empty: none.
    pub graphql_keywords: &'a str,
}

/// What was found.
#[derive(Default)]
pub struct Extracted {
    login: Option<Login>,
    operations: Operations,
    mcp: Option<Mcp>,
    /// Version of the remote configuration that a notification speaks of; 0: none.
    pub(crate) config_version: u64,
}

struct Login {
    endpoint: usize,
    credentials: Credentials,
}

/// It holds what visitors typed.
impl fmt::Debug for Extracted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Extracted(***)")
    }
}

impl Extracted {
    pub(crate) fn of_notification(config_version: u64) -> Self {
        Self { config_version, ..Self::default() }
    }

    /// The GraphQL operations, in the order of the batch.
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// Index of the endpoint that credentials were found at.
    pub fn login_endpoint(&self) -> Option<usize> {
        self.login.as_ref().map(|login| login.endpoint)
    }

    /// Whether credentials were found, so that the Risk API is to be asked about them.
    pub(crate) fn has_credentials(&self) -> bool {
        self.login.is_some()
    }

    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.login.as_ref().map(|login| &login.credentials)
    }

    /// Writes everything but the MCP call, whose session may come from the response only.
    pub(crate) fn write(&self, report: &mut Object<'_>) {
        if let Some(credentials) = self.credentials() {
            report.optional_text("user", credentials.user.as_ref().map(|user| user.as_str()));
            report.optional_text("pass", credentials.pass.as_deref());
            report.word("ci_version", credentials.version.as_str());
            if let Some(step) = credentials.sso_step {
                report.word("sso_step", step.as_str());
            }
        }
        self.operations.write(report);
    }

    pub(crate) fn write_mcp(&self, report: &mut Object<'_>, session_id: Option<&[u8]>) {
        if let Some(mcp) = &self.mcp {
            mcp.write(report, session_id);
        }
    }

    /// Whether the response's `mcp-session-id` is to be reported.
    pub fn wants_mcp_session_id(&self) -> bool {
        self.mcp.as_ref().is_some_and(|mcp| !mcp.has_session_id())
    }
}

/// What is extracted from which requests, ready for use.
#[derive(Debug)]
pub(crate) struct Extraction {
    /// `None`: Credential Intelligence is off.
    endpoints: Option<Endpoints>,
    /// `None`: off.
    graphql: Option<Graphql>,
    agentic_trust: AgenticTrustOptions,
}

impl Extraction {
    pub(crate) fn new(options: &Options) -> Result<Self, PolicyError> {
        let CredentialsOptions { enabled, endpoints, .. } = &options.credentials;
        let endpoints = Endpoints::new(endpoints.clone());
        let graphql = options.graphql.enabled.then(|| Graphql::new(&options.graphql));
        Ok(Self {
            endpoints: Some(endpoints).filter(|endpoints| *enabled && !endpoints.is_empty()),
            graphql: graphql
                .transpose()
                .map_err(|reason| PolicyError::Invalid { option: "graphql_routes", reason })?,
            agentic_trust: options.agentic_trust.clone(),
        })
    }

    /// Whether nothing can be wanted of this request, without a look at its URL: so for nearly all.
    pub(crate) fn is_surely_idle(&self, request: &Request<'_>) -> bool {
        let is_idle =
            |graphql: &Graphql| request.method != b"POST" && !graphql.may_want_query(request);
        self.endpoints.is_none()
            && !self.agentic_trust.enabled
            && self.graphql.as_ref().is_none_or(is_idle)
    }

    pub(crate) fn wanted(&self, request: &Request<'_>, url: &RequestUrl<'_>) -> Option<Wanted> {
        let path = url.path();
        let login = self.endpoints.as_ref().and_then(|all| all.find(request.method, path));
        let is_route = request.hooks.is_graphql_route;
        let graphql = self.graphql.as_ref();
        let graphql_body = graphql.is_some_and(|own| own.wants_body(request, path, is_route));
        let is_mcp = agentic_trust::is_endpoint(&self.agentic_trust, path);
        let body = login.is_some_and(|(_, endpoint)| endpoint.reads_body())
            || graphql_body
            || (is_mcp && agentic_trust::wants_body(request));
        let graphql_query = graphql.is_some_and(|own| own.wants_query(request, path, is_route));
        (body || login.is_some() || is_mcp || graphql_query)
            .then_some(Wanted { body, endpoint: login.map(|(index, _)| index) })
    }

    pub(crate) fn extract(
        &self,
        request: &Request<'_>,
        url: &RequestUrl<'_>,
        default_protocol: Protocol,
        given: &Given<'_>,
    ) -> Extracted {
        let path = url.path();
        let is_route = request.hooks.is_graphql_route;
        let is_mcp = agentic_trust::is_endpoint(&self.agentic_trust, path);
        let graphql = self.graphql.as_ref();
        let graphql_body =
            graphql.filter(|own| given.body.is_some() && own.wants_body(request, path, is_route));
        let wants_mcp_body = is_mcp && agentic_trust::wants_body(request);
        // One tree serves both.
        let document = given
            .body
            .filter(|_| graphql_body.is_some() || wants_mcp_body)
            .and_then(Document::parse);
        let operations = match (graphql_body, &document, graphql) {
            (Some(own), Some(document), _) => own.read_body(document, given.graphql_keywords),
            (None, _, Some(own)) if own.wants_query(request, path, is_route) => {
                own.read_query(url.raw_query(), given.graphql_keywords)
            }
            _ => Operations::default(),
        };
        let login = self.endpoints.as_ref().and_then(|all| {
            let (index, endpoint) = all.find(request.method, path)?;
            let raw =
                credentials::extract(endpoint, request, url.raw_query(), given.body, given.login)?;
            let protocol = endpoint.protocol.unwrap_or(default_protocol);
            let credentials = credentials::hashed(raw, protocol)?;
            Some(Login { endpoint: index, credentials })
        });
        let document = document.as_ref().filter(|_| wants_mcp_body);
        let mcp = is_mcp.then(|| agentic_trust::read(request, document));
        Extracted { login, operations, mcp, config_version: 0 }
    }

    /// How the login that was found is judged by its response.
    pub(crate) fn login_rule<'p>(
        &'p self,
        extracted: &Extracted,
        options: &'p CredentialsOptions,
    ) -> Option<LoginRule<'p>> {
        let login = extracted.login.as_ref()?;
        let endpoint = self.endpoints.as_ref()?.get(login.endpoint)?;
        Some(endpoint.login.over(&options.login))
    }

    /// Whether a client may not send the headers that tell the origin of credentials.
    pub(crate) fn owns_headers(&self) -> bool {
        self.endpoints.is_some()
    }
}
