//! A running sandbox and the ways to start, steer and question it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::app::App;
use crate::behaviour::{Behaviour, OnAccept};
use crate::check::Checker;
use crate::console::{self, Console};
use crate::cookie::Mint;
use crate::endpoint::Endpoint;
use crate::journal::{Journal, OnComplaint, OnReceived};
use crate::listening::Listening;
use crate::node::NodeMode;
use crate::plan::Plan;
use crate::received::Received;
use crate::reply::Reply;
use crate::server::Server;
use crate::tls::{CertificateFault, Tls};

/// A stand-in for HUMAN's backend on a port of its own. Ends, with all its connections and
/// threads, when dropped.
pub struct Sandbox {
    server: Arc<Server>,
    addr: SocketAddr,
    listening: Mutex<Option<Listening>>,
}

impl Sandbox {
    /// Plain HTTP on a free port of 127.0.0.1, for the app of [`App::default`].
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// A sandbox to be described before it starts.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `http://127.0.0.1:PORT` or `https://…`, without a slash at the end.
    pub fn url(&self) -> String {
        let scheme = if self.server.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The authority that signed its certificate, PEM; none for plain HTTP and for files.
    pub fn ca_pem(&self) -> Option<&str> {
        self.server.tls.as_ref()?.ca_pem.as_deref()
    }

    /// The app it plays the backend of; the first one where there are several.
    pub fn app(&self) -> &App {
        &self.server.apps()[0]
    }

    /// A good `_px3` token for the app, to be bound to this user agent.
    pub fn mint(&self, user_agent: &str) -> Mint {
        Mint::v3(self.app().secret.as_str()).user_agent(user_agent)
    }

    // What it answers.

    /// The Risk API answers every request with this.
    pub fn answer_risk(&self, reply: Reply) {
        self.answer_at(Endpoint::RiskApi, reply);
    }

    /// The Risk API answers the next request with this; several calls make a queue.
    pub fn answer_risk_next(&self, reply: Reply) {
        self.server.plan.answer_next(Endpoint::RiskApi, reply);
    }

    /// The Risk API asks this function for every answer.
    pub fn answer_risk_with(&self, make: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        self.server.plan.answer(Endpoint::RiskApi, Some(Arc::new(make)));
    }

    /// An endpoint answers every request with this.
    pub fn answer_at(&self, endpoint: Endpoint, reply: Reply) {
        self.server.plan.answer(endpoint, Some(Arc::new(move |_: &Received| reply.clone())));
    }

    /// A path of no meaning of its own, such as `/elsewhere/`, is answered with this.
    pub fn answer_path(&self, path: &str, reply: Reply) {
        self.server.plan.answer_path(path, reply);
    }

    /// What `csp` is in the data that `GET /v1/enforcer-data` gives: an object with the members of
    /// csp.md, such as `csp`, `cspro` and `cspro_exposure`.
    pub fn set_csp_policy(&self, policy: Value) {
        self.server.console.set_csp_policy(policy);
    }

    /// What `GET /config/` gives: a document of this id and version, updated now, with these values
    /// as its `configValue`. An enforcer hears of it by a request with a [signed](Self::sign) header.
    pub fn set_remote_config(&self, id: &str, version: u64, values: Value) {
        self.server.console.set_remote_config(id, version, values);
    }

    /// What `GET /snippet/<app id>` gives.
    pub fn set_snippet(&self, snippet: impl Into<String>) {
        self.server.console.set_snippet(snippet.into());
    }

    /// The value of a header that commands an enforcer until this time, Unix milliseconds:
    /// `x-px-enforcer-telemetry` where the secret is a cookie secret, `x-px-pushdata` where it is the
    /// token of the remote configuration (remote-config-and-telemetry.md § 1).
    pub fn sign(secret: &str, until_ms: u64) -> String {
        console::sign(secret, until_ms)
    }

    // How it answers.

    /// The Risk API behaves like this from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.behave_at(Endpoint::RiskApi, behaviour);
    }

    /// The Risk API behaves like this for the next request; several calls make a queue.
    pub fn behave_next(&self, behaviour: Behaviour) {
        self.behave_next_at(Endpoint::RiskApi, 1, behaviour);
    }

    /// An endpoint behaves like this from now on.
    pub fn behave_at(&self, endpoint: Endpoint, behaviour: Behaviour) {
        self.server.plan.behave(endpoint, behaviour);
    }

    /// An endpoint behaves like this for so many requests.
    pub fn behave_next_at(&self, endpoint: Endpoint, times: usize, behaviour: Behaviour) {
        self.server.plan.behave_next(endpoint, times, &behaviour);
    }

    /// What happens to connections that are opened from now on.
    pub fn on_accept(&self, on_accept: OnAccept) {
        self.server.plan.on_accept(on_accept);
    }

    /// Forgets every order about answers and behaviour. CSP policy, remote configuration and snippet
    /// stay.
    pub fn behave_well(&self) {
        self.server.plan.forget();
    }

    /// Closes the port and all connections: further ones are refused. What was received stays.
    pub fn go_down(&self) {
        // Dropped outside of the lock: it waits for threads.
        let listening = self.lock().take();
        drop(listening);
    }

    /// Opens the same port again. Meanwhile a client somewhere on this machine may have been given
    /// it for a connection of its own: that is waited for, a second at most.
    pub fn come_back(&self) -> io::Result<()> {
        let mut listening = self.lock();
        let mut tries = 50;
        while listening.is_none() {
            match Listening::start(self.addr, Arc::clone(&self.server)) {
                Ok(started) => *listening = Some(started),
                Err(why) if why.kind() == io::ErrorKind::AddrInUse && tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    // What it received.

    /// Requests to the Risk API, oldest first.
    pub fn risk_calls(&self) -> Vec<Arc<Received>> {
        self.received_at(Endpoint::RiskApi)
    }

    /// Activities out of all posts that were accepted (answered 200 in full), oldest first.
    pub fn activities(&self) -> Vec<Value> {
        self.server.journal.activities()
    }

    /// Requests mirrored to it as a traffic-analysis node, oldest first.
    pub fn mirrored(&self) -> Vec<Arc<Received>> {
        self.received_at(Endpoint::Node)
    }

    /// Posts of activities, accepted or not, oldest first.
    pub fn activity_posts(&self) -> Vec<Arc<Received>> {
        self.received_at(Endpoint::Activities)
    }

    /// Telemetry posts, oldest first.
    pub fn telemetry(&self) -> Vec<Arc<Received>> {
        self.received_at(Endpoint::Telemetry)
    }

    /// Log records out of all posts that were accepted (answered 200 in full), oldest first.
    pub fn log_records(&self) -> Vec<Value> {
        self.server.journal.log_records()
    }

    /// Requests to anything but Risk API, activities and telemetry, oldest first: of browsers, and
    /// those for CSP policies, remote configuration, snippets and logs.
    pub fn others(&self) -> Vec<Arc<Received>> {
        let mut others = self.received();
        others.retain(|received| {
            !matches!(
                received.endpoint,
                Endpoint::RiskApi | Endpoint::Activities | Endpoint::Telemetry
            )
        });
        others
    }

    /// Requests to one endpoint, oldest first.
    pub fn received_at(&self, endpoint: Endpoint) -> Vec<Arc<Received>> {
        self.server.journal.received_at(endpoint)
    }

    /// All requests that are kept, oldest first.
    pub fn received(&self) -> Vec<Arc<Received>> {
        self.server.journal.received()
    }

    /// Everything that was not as specified, one line each.
    pub fn complaints(&self) -> Vec<String> {
        self.server.journal.complaints()
    }

    /// Panics with all complaints where there are any.
    #[track_caller]
    pub fn assert_no_complaints(&self) {
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "the sandbox complains:\n  {}", complaints.join("\n  "));
    }

    /// TLS handshakes that failed, one line each. No complaints: a client that refuses a bad
    /// certificate does well.
    pub fn handshake_failures(&self) -> Vec<String> {
        self.server.journal.handshake_failures()
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> u64 {
        self.server.connections()
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.lock().as_ref().map_or(0, Listening::open_connections)
    }

    /// Waits until so many activities were accepted since the last [`clear`](Self::clear), at
    /// most so long, and gives all there are.
    pub fn wait_for_activities(&self, count: usize, limit: Duration) -> Vec<Value> {
        self.server.journal.wait_for_activities(count, limit);
        self.activities()
    }

    /// Waits until the Risk API was asked so many times since the last [`clear`](Self::clear), at
    /// most so long, and gives all calls there are.
    pub fn wait_for_risk_calls(&self, count: usize, limit: Duration) -> Vec<Arc<Received>> {
        self.wait_for(Endpoint::RiskApi, count, limit)
    }

    /// The same for any endpoint, accepted or not.
    pub fn wait_for(
        &self,
        endpoint: Endpoint,
        count: usize,
        limit: Duration,
    ) -> Vec<Arc<Received>> {
        self.server.journal.wait_for_requests(endpoint, count, limit);
        self.received_at(endpoint)
    }

    /// Waits until so many TLS handshakes failed, at most so long, and gives all failures.
    pub fn wait_for_handshake_failures(&self, count: usize, limit: Duration) -> Vec<String> {
        self.server.journal.wait_for_handshake_failures(count, limit);
        self.handshake_failures()
    }

    /// Forgets requests and complaints; orders stay.
    pub fn clear(&self) {
        self.server.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Listening>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Describes a sandbox before it starts.
pub struct Builder {
    ip: IpAddr,
    port: u16,
    apps: Vec<App>,
    default_app: App,
    any_app: bool,
    remote_config_token: Option<String>,
    logger_token: Option<String>,
    tls: bool,
    tls_names: Vec<String>,
    certificate_fault: CertificateFault,
    certificate_files: Option<(PathBuf, PathBuf)>,
    sensitive_headers: Option<Vec<String>>,
    checks: bool,
    clock_checks: bool,
    pxhd: bool,
    node: Option<NodeMode>,
    keep_requests: usize,
    keep_bytes: usize,
    body_max: usize,
    idle_timeout: Duration,
    on_complaint: Option<OnComplaint>,
    on_received: Option<OnReceived>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            ip: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            apps: Vec::new(),
            default_app: App::default(),
            any_app: false,
            remote_config_token: None,
            logger_token: None,
            tls: false,
            tls_names: Vec::new(),
            certificate_fault: CertificateFault::None,
            certificate_files: None,
            sensitive_headers: None,
            checks: true,
            clock_checks: true,
            pxhd: false,
            node: None,
            keep_requests: 10_000,
            keep_bytes: 256 << 20,
            body_max: 64 << 20,
            idle_timeout: Duration::from_secs(75),
            on_complaint: None,
            on_received: None,
        }
    }
}

impl Builder {
    /// Address to listen on (127.0.0.1 otherwise).
    pub fn ip(mut self, ip: IpAddr) -> Self {
        self.ip = ip;
        self
    }

    /// Port to listen on; 0, as otherwise, for a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The id of the app.
    pub fn app_id(mut self, id: impl Into<String>) -> Self {
        self.default_app.id = id.into();
        self
    }

    /// The bearer token of the app.
    pub fn auth_token(mut self, token: impl Into<String>) -> Self {
        self.default_app.auth_token = token.into();
        self
    }

    /// The cookie secret of the app, used to mint cookies and to notice that it leaks.
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.default_app.secret = secret.into();
        self
    }

    /// One more app, beside the first; one of the same id for a token or secret that is being rotated.
    pub fn app(mut self, app: App) -> Self {
        self.apps.push(app);
        self
    }

    /// Take every app id and every bearer token.
    pub fn any_app(mut self, any: bool) -> Self {
        self.any_app = any;
        self
    }

    /// What the enforcer has as `px_remote_config_auth_token`; any token is taken otherwise.
    pub fn remote_config_token(mut self, token: impl Into<String>) -> Self {
        self.remote_config_token = Some(token.into());
        self
    }

    /// What the enforcer has as `px_logger_auth_token`; any token is taken otherwise.
    pub fn logger_token(mut self, token: impl Into<String>) -> Self {
        self.logger_token = Some(token.into());
        self
    }

    /// HTTPS, with a certificate made for this sandbox.
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// A name for the certificate beside localhost, sandbox.test, 127.0.0.1 and ::1.
    pub fn tls_name(mut self, name: impl Into<String>) -> Self {
        self.tls_names.push(name.into());
        self
    }

    /// Makes something wrong with the certificate, and HTTPS on.
    pub fn certificate_fault(mut self, fault: CertificateFault) -> Self {
        self.certificate_fault = fault;
        self.tls(true)
    }

    /// HTTPS with a certificate chain and key of your own, PEM files.
    pub fn certificate_files(mut self, certificate: &Path, key: &Path) -> Self {
        self.certificate_files = Some((certificate.into(), key.into()));
        self.tls(true)
    }

    /// What the enforcer has as `px_sensitive_headers` (cookie and cookies otherwise).
    pub fn sensitive_headers(mut self, names: &[&str]) -> Self {
        self.sensitive_headers = Some(names.iter().map(|name| (*name).to_owned()).collect());
        self
    }

    /// Whether requests are held against the specification (they are otherwise).
    pub fn checks(mut self, checks: bool) -> Self {
        self.checks = checks;
        self
    }

    /// Whether reported times are compared with the clock; off for messages made beforehand.
    pub fn clock_checks(mut self, checks: bool) -> Self {
        self.clock_checks = checks;
        self
    }

    /// Whether the Risk API gives a `_pxhd` to browsers that have none.
    pub fn pxhd(mut self, pxhd: bool) -> Self {
        self.pxhd = pxhd;
        self
    }

    /// A traffic-analysis node and nothing else: requests that are mirrored to it are looked through for
    /// attacks, see [`NodeMode`].
    pub fn node(mut self, mode: NodeMode) -> Self {
        self.node = Some(mode);
        self
    }

    /// How many requests are kept (10,000 otherwise), and how many bytes of them (256 MiB).
    pub fn keep(mut self, requests: usize, bytes: usize) -> Self {
        (self.keep_requests, self.keep_bytes) = (requests, bytes);
        self
    }

    /// The largest request body taken (64 MiB otherwise).
    pub fn body_max(mut self, bytes: usize) -> Self {
        self.body_max = bytes;
        self
    }

    /// How long a connection may be silent (75 s otherwise).
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// Told of every complaint as it arises, by the thread of its connection.
    pub fn on_complaint(mut self, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_complaint = Some(Box::new(tell));
        self
    }

    /// Told of every request as it arrives, by the thread of its connection.
    pub fn on_received(mut self, tell: impl Fn(&Received) + Send + Sync + 'static) -> Self {
        self.on_received = Some(Box::new(tell));
        self
    }

    /// Opens the port and serves. Fails where the port is taken or the certificate is bad.
    pub fn start(self) -> io::Result<Sandbox> {
        let tls = match (&self.certificate_files, self.tls) {
            (Some((certificate, key)), _) => Some(Tls::from_files(certificate, key)),
            (None, true) => Some(Tls::generate(&self.tls_names, self.certificate_fault)),
            (None, false) => None,
        };
        let tls = tls.transpose().map_err(io::Error::other)?;
        let mut apps = vec![self.default_app];
        apps.extend(self.apps);
        let mut checker = Checker::new(apps);
        checker.any_app = self.any_app;
        checker.judge_clock = self.clock_checks;
        checker.remote_config_token = self.remote_config_token;
        checker.logger_token = self.logger_token;
        if let Some(names) = self.sensitive_headers {
            checker.sensitive_headers = names;
        }
        let server = Arc::new(Server {
            journal: Journal::new(
                self.keep_requests,
                self.keep_bytes,
                self.on_complaint,
                self.on_received,
            ),
            plan: Plan::default(),
            checker,
            console: Console::default(),
            tls,
            checks: self.checks,
            gives_pxhd: self.pxhd,
            node: self.node,
            body_max: self.body_max,
            idle_timeout: self.idle_timeout,
            accepted: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        });
        let listening = Listening::start(SocketAddr::new(self.ip, self.port), Arc::clone(&server))?;
        let addr = listening.addr();
        Ok(Sandbox { server, addr, listening: Mutex::new(Some(listening)) })
    }
}
