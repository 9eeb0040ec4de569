//! A site in front of everything that may fail: HUMAN's Risk API, collector and scripts each on a server of
//! their own, a node, an origin.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use px_sandbox::{App, Builder, CertificateFault, Endpoint, NodeMode, Reply, Sandbox};

use crate::dns::{Dns, Record};
use crate::load::{Address, Class, of_human};
use crate::support::prometheus::Metrics;
use crate::support::{Nginx, Origin, get, nginx, origin};

/// How long the module waits for a backend: longer than anything takes on a busy machine, or, for one that
/// does not answer, as long as a row has patience.
const LONG: &str = "20s";
const SHORT: &str = "1s";

/// A server to play HUMAN: at an address of its own, where no client is given the port of one that is not
/// there just now.
pub(crate) fn server() -> Builder {
    Sandbox::builder().ip(nginx::free_addr().ip()).keep(2_000, 64 << 20)
}

/// The access log: what was made of each request.
const LOG: &str = "log_format site '$status $uri verdict=$px_verdict pass=$px_pass_reason \
     block=$px_block_reason error=$px_s2s_error_reason http=$px_s2s_error_http_status \
     node=$px_wallarm_status';\n";

/// Files for nginx's directory, and its environment.
type Prepare = Box<dyn FnOnce(&Path) -> Vec<(&'static str, OsString)>>;

/// What may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    RiskApi,
    Collector,
    /// Gives sensor and captcha.
    Scripts,
    Node,
}

/// A second application with a site and a backend of its own, in the same nginx.
pub(crate) struct Other {
    /// Risk API, collector and scripts.
    human: Sandbox,
    addr: SocketAddr,
}

/// A directory of the test's, for as long as the site.
pub(crate) struct Dir(pub(crate) std::path::PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A site before it starts. Rows change what they need.
pub(crate) struct Plan {
    pub(crate) risk_api: Sandbox,
    pub(crate) collector: Sandbox,
    /// Gives sensor and captcha.
    pub(crate) scripts: Sandbox,
    /// Asked about each request that passes, where there is one.
    pub(crate) node: Option<Sandbox>,
    pub(crate) risk_api_url: String,
    pub(crate) collector_url: String,
    pub(crate) scripts_url: String,
    pub(crate) node_url: String,
    /// Those that are waited for for a short time only.
    pub(crate) impatient: Vec<Backend>,
    pub(crate) workers: u32,
    pub http2: bool,
    /// Directives of the main context, the `http` block, the server, its location.
    pub(crate) main: String,
    pub(crate) http: String,
    pub(crate) server: String,
    pub(crate) location: String,
    pub(crate) prepare: Prepare,
    /// A second application in the same nginx.
    pub(crate) other: Option<Other>,
    /// What takes a backend's place, at the same address or, by another name, at another.
    pub(crate) double: Option<Sandbox>,
    /// Where backends that are known by name are found.
    pub(crate) dns: Option<Dns>,
    /// Lines such as those of a worker that is killed are meant to be in the error log.
    pub(crate) is_lenient: bool,
    /// nginx goes into the background.
    pub(crate) is_daemon: bool,
    /// Whatever has to live as long as the site.
    pub(crate) keep: Vec<Box<dyn std::any::Any>>,
}

/// A site that serves.
pub(crate) struct Site {
    pub(crate) risk_api: Sandbox,
    pub(crate) collector: Sandbox,
    pub(crate) scripts: Sandbox,
    pub(crate) node: Option<Sandbox>,
    pub(crate) other: Option<Other>,
    pub(crate) double: Option<Sandbox>,
    pub(crate) dns: Option<Dns>,
    pub(crate) nginx: Nginx,
    pub(crate) http2: bool,
    /// What lives as long.
    _alive: (Origin, Vec<Box<dyn std::any::Any>>),
}

impl Default for Plan {
    fn default() -> Self {
        let sandbox = || server().start().expect("a free port");
        let (risk_api, collector, scripts) = (sandbox(), sandbox(), sandbox());
        Self {
            risk_api_url: risk_api.url(),
            collector_url: collector.url(),
            scripts_url: scripts.url(),
            node_url: String::new(),
            risk_api,
            collector,
            scripts,
            node: None,
            impatient: Vec::new(),
            workers: 1,
            http2: false,
            main: String::new(),
            http: String::new(),
            server: String::new(),
            location: String::new(),
            prepare: Box::new(|_| Vec::new()),
            other: None,
            double: None,
            dns: None,
            is_lenient: false,
            is_daemon: false,
            keep: Vec::new(),
        }
    }
}

impl Plan {
    /// With a node that blocks.
    pub(crate) fn with_node(&mut self) {
        let node = server().node(NodeMode::Blocking).start().expect("a free port");
        self.node_url = node.url();
        self.node = Some(node);
    }

    /// With a second application.
    pub(crate) fn with_other(&mut self) {
        let builder = server().app_id("PXsandbox2");
        let builder = builder.auth_token("token-of-the-second").secret("secret-of-the-second");
        let human = builder.start().expect("a free port");
        answer_as_human(&human);
        self.other = Some(Other { human, addr: nginx::free_addr() });
    }

    /// The backend over TLS, with a certificate that is in order. Its double, which is not there yet, has
    /// one that is not.
    pub(crate) fn over_tls(&mut self, backend: Backend, fault: CertificateFault) {
        let builder = || match backend {
            Backend::Node => server().node(NodeMode::Blocking),
            _ => server(),
        };
        let double = builder().certificate_fault(fault).start().expect("a free port");
        double.go_down();
        let good = builder().ip(double.addr().ip()).port(double.port());
        let good = good.certificate_fault(CertificateFault::None).start();
        let good = good.expect("the port is free");
        let bundle = [&good, &double].map(|sandbox| sandbox.ca_pem().unwrap_or_default()).concat();
        self.prepare(move |dir| {
            fs::write(dir.join("bundle.pem"), bundle).expect("a file can be written");
            Vec::new()
        });
        self.server.push_str(match backend {
            Backend::Node => "px_wallarm_ssl_trusted_certificate bundle.pem;\n",
            _ => "px_ssl_trusted_certificate bundle.pem;\n",
        });
        self.replace(backend, good);
        // One of the names that good certificates are for.
        self.rename(backend, "sandbox.test");
        self.double = Some(double);
    }

    /// Another server in the place of a backend.
    pub(crate) fn replace(&mut self, backend: Backend, sandbox: Sandbox) {
        let url = sandbox.url();
        match backend {
            Backend::RiskApi => (self.risk_api, self.risk_api_url) = (sandbox, url),
            Backend::Collector => (self.collector, self.collector_url) = (sandbox, url),
            Backend::Scripts => (self.scripts, self.scripts_url) = (sandbox, url),
            Backend::Node => (self.node, self.node_url) = (Some(sandbox), url),
        }
    }

    /// The collector forgets nothing.
    pub(crate) fn collector_keeps_all(&mut self) {
        let collector = server().keep(100_000, 512 << 20).start().expect("a free port");
        self.replace(Backend::Collector, collector);
    }

    fn timeout(&self, backends: &[Backend]) -> &'static str {
        if backends.iter().any(|backend| self.impatient.contains(backend)) { SHORT } else { LONG }
    }

    /// The DNS server that the system's resolver asks.
    pub(crate) fn names(&mut self) -> &Dns {
        if self.dns.is_none() {
            let dns = Dns::start();
            let env = dns.env();
            self.prepare(move |_| env);
            // Workers have none of nginx's environment but what is named.
            self.main.push_str("env PX_TEST_DNS;\n");
            self.dns = Some(dns);
        }
        self.dns.as_ref().expect("just started")
    }

    /// The backend is known by this name, which DNS knows.
    pub(crate) fn rename(&mut self, backend: Backend, name: &str) {
        let addr = self.backend(backend).addr();
        let record = Record::of(self.backend(backend));
        self.names().set(name, record);
        let url = match backend {
            Backend::RiskApi => &mut self.risk_api_url,
            Backend::Collector => &mut self.collector_url,
            Backend::Scripts => &mut self.scripts_url,
            Backend::Node => &mut self.node_url,
        };
        *url = url.replace(&addr.ip().to_string(), name);
    }

    pub(crate) fn backend(&self, backend: Backend) -> &Sandbox {
        match backend {
            Backend::RiskApi => &self.risk_api,
            Backend::Collector => &self.collector,
            Backend::Scripts => &self.scripts,
            Backend::Node => self.node.as_ref().expect("planned with a node"),
        }
    }

    /// Does this before nginx starts, besides what is planned already.
    pub(crate) fn prepare(
        &mut self,
        more: impl FnOnce(&Path) -> Vec<(&'static str, OsString)> + 'static,
    ) {
        let before = std::mem::replace(&mut self.prepare, Box::new(|_| Vec::new()));
        self.prepare = Box::new(move |dir| {
            let mut env = before(dir);
            env.extend(more(dir));
            env
        });
    }

    pub(crate) fn start(self) -> Site {
        let origin = Origin::echo();
        answer_as_human(&self.scripts);
        answer_as_human(&self.collector);
        self.double.iter().for_each(answer_as_human);
        let node = match self.node {
            Some(_) => format!(
                "px_wallarm_node_address {}; px_wallarm_timeout_ms {}; \
                 px_wallarm_max_body_size 64k;\n",
                self.node_url,
                self.timeout(&[Backend::Node])
            ),
            None => String::new(),
        };
        let timeouts = format!(
            "px_s2s_timeout {};\npx_first_party_timeout_ms {};\npx_async_timeout {};\n",
            self.timeout(&[Backend::RiskApi]),
            self.timeout(&[Backend::Scripts, Backend::Collector]),
            self.timeout(&[Backend::Collector]),
        );
        let urls = [&*self.risk_api_url, &self.collector_url, &self.scripts_url];
        let content = format!(
            "access_log site.log site;\n\
             keepalive_requests 1000000; client_body_buffer_size 64k;\n\
             location = /status {{ access_log off; px_status prometheus; }}\n\
             location / {{\n\
             proxy_set_header X-Verdict \"$px_verdict $px_pass_reason$px_filter_reason; uuid=$px_uuid\";\n\
             {}\n\
             {}\n\
             {}\n\
             }}\n",
            origin::SAME_EVERYWHERE,
            self.location,
            origin.proxy_pass(),
        );
        let conf = format!(
            "{}{timeouts}{node}{}\n{content}",
            application(self.risk_api.app(), urls),
            self.server
        );
        let listen = if self.http2 { "http2" } else { "" };
        let other = self.other.as_ref().map(|other| {
            let url = &*other.human.url();
            let own = application(other.human.app(), [url; 3]);
            let addr = other.addr;
            format!("server {{ listen {addr} {listen}; server_name other.test;\n{own}{timeouts}{content}}}\n")
        });
        let builder = match self.is_daemon {
            true => Nginx::builder().daemon(),
            false => Nginx::builder(),
        };
        let builder = builder
            .workers(self.workers)
            .main(&self.main)
            .http(&format!("{LOG}{}{}", self.http, other.unwrap_or_default()))
            .server(&conf)
            .error_log_level("notice")
            .listen(listen);
        let mut nginx = builder.start_with_env(self.prepare);
        if self.is_lenient {
            nginx.lenient();
        }
        let Self { risk_api, collector, scripts, node, other, double, dns, http2, keep, .. } = self;
        let _alive = (origin, keep);
        Site { risk_api, collector, scripts, node, other, double, dns, nginx, http2, _alive }
    }
}

/// The directives for one application: Risk API, collector and scripts at these places.
fn application(app: &App, [risk_api, collector, scripts]: [&str; 3]) -> String {
    let App { id, auth_token, secret } = app;
    format!(
        "px_enabled on;\n\
         px_app_id {id};\n\
         px_auth_token {auth_token};\n\
         px_cookie_secret {secret};\n\
         px_module_mode active_blocking;\n\
         px_backend_url {risk_api};\n\
         px_backend_collector_url {collector};\n\
         px_client_host {scripts};\n\
         px_captcha_script_host {scripts};\n\
         px_initial_telemetry_enabled off;\n\
         px_batch_activities_timeout_ms 50ms;\n"
    )
}

/// Through the site these are told apart from default answers.
pub(crate) fn answer_as_human(sandbox: &Sandbox) {
    for (endpoint, class) in [
        (Endpoint::Sensor, Class::Sensor),
        (Endpoint::Captcha, Class::Captcha),
        (Endpoint::Xhr, Class::Message),
    ] {
        sandbox.answer_at(endpoint, Reply::bytes("text/plain", of_human(class)));
    }
}

impl Site {
    /// The sites as visitors know them.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let app = self.risk_api.app().clone();
        let first = Address { addr: self.nginx.addr(), host: "site.test", app };
        let second = self.other.as_ref().map(|other| {
            let app = other.human.app().clone();
            Address { addr: other.addr, host: "other.test", app }
        });
        [first].into_iter().chain(second).collect()
    }

    pub(crate) fn backend(&self, backend: Backend) -> &Sandbox {
        match backend {
            Backend::RiskApi => &self.risk_api,
            Backend::Collector => &self.collector,
            Backend::Scripts => &self.scripts,
            Backend::Node => self.node(),
        }
    }

    /// The backend goes and its double comes.
    pub(crate) fn exchange(&self, backend: Backend) {
        self.backend(backend).go_down();
        self.double().come_back().expect("the port is free");
    }

    /// The double goes and the backend comes back.
    pub(crate) fn exchange_back(&self, backend: Backend) {
        self.double().go_down();
        self.backend(backend).come_back().expect("the port is free");
    }

    /// Whoever was asked was asked properly, whatever happened.
    #[track_caller]
    pub(crate) fn assert_no_complaints(&self) {
        let of_human = [&self.risk_api, &self.collector, &self.scripts];
        let others = self.other.iter().map(|other| &other.human);
        for backend in of_human.into_iter().chain(&self.node).chain(others).chain(&self.double) {
            let mut complaints = backend.complaints();
            // A request that ended in the middle was given up; a question or report whose receipt was not
            // heard of, because the backend went just then, was sent again.
            complaints.retain(|complaint| {
                !complaint.starts_with("connection #")
                    && !complaint.contains(" already ")
                    && !complaint.ends_with(" already")
            });
            assert!(complaints.is_empty(), "a backend complains:\n  {}", complaints.join("\n  "));
        }
    }

    pub(crate) fn dns(&self) -> &Dns {
        self.dns.as_ref().expect("planned with names")
    }

    pub(crate) fn double(&self) -> &Sandbox {
        self.double.as_ref().expect("planned with a double")
    }

    pub(crate) fn node(&self) -> &Sandbox {
        self.node.as_ref().expect("planned with a node")
    }

    /// The sum of a metric's values under these labels, whatever the others; 0 where there is none.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let page = match self.http2 {
            true => {
                let mut h2 = crate::support::h2::H2::open(self.nginx.addr());
                h2.request(1, "GET", "/status", &[], true);
                String::from_utf8(h2.receive(1).body).expect("UTF-8")
            }
            false => get(self.nginx.addr(), "/status", &[]).text(),
        };
        let metrics = Metrics::parse(&page).expect("the format");
        let samples = metrics.families.values().flat_map(|family| &family.samples);
        let has = |sample: &crate::support::prometheus::Sample| {
            labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|v| v == value))
        };
        samples.filter(|sample| sample.name == name && has(sample)).map(|sample| sample.value).sum()
    }

    pub(crate) fn access_log(&self) -> Vec<String> {
        self.nginx.log_lines("site.log")
    }

    /// A worker had to end before the collector had taken its reports.
    pub(crate) fn has_lost_in_the_end(&self) -> bool {
        self.nginx.error_log().contains("could not be delivered: the worker ended")
    }

    /// How many requests were judged, as the access log knows.
    pub(crate) fn judged(&self) -> usize {
        let is_judged =
            |line: &&String| line.contains(" verdict=pass ") || line.contains(" verdict=block ");
        self.access_log().iter().filter(is_judged).count()
    }

    /// The error log's lines that an operator has to look at.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let log = self.nginx.error_log();
        let levels = ["[warn]", "[error]", "[crit]", "[alert]", "[emerg]"];
        let bad = log.lines().filter(|line| levels.iter().any(|level| line.contains(level)));
        bad.map(str::to_owned).collect()
    }
}
