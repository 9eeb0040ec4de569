//! A site in front of everything that may fail: HUMAN's Risk API, collector and scripts each on a server of
//! their own, a node, an origin.

use std::ffi::OsString;
use std::path::Path;

use px_sandbox::{App, Endpoint, NodeMode, Reply, Sandbox};

use crate::load::{Address, Class, Owed, of_human};
use crate::support::prometheus::Metrics;
use crate::support::{Nginx, Origin, get, nginx};

/// How long the module waits for each backend.
const TIMEOUT: &str = "250ms";

/// The access log: what was made of each request.
const LOG: &str = "log_format site '$status $uri verdict=$px_verdict pass=$px_pass_reason \
     block=$px_block_reason error=$px_s2s_error_reason http=$px_s2s_error_http_status \
     node=$px_wallarm_status';\n";

/// Files for nginx's directory, and its environment.
type Prepare = Box<dyn FnOnce(&Path) -> Vec<(&'static str, OsString)>>;

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
    pub(crate) workers: u32,
    pub http2: bool,
    /// Directives of the main context, the `http` block, the server, its location.
    pub(crate) main: String,
    pub(crate) http: String,
    pub(crate) server: String,
    pub(crate) location: String,
    pub(crate) prepare: Prepare,
    /// Lines such as those of a worker that is killed are meant to be in the error log.
    pub(crate) is_lenient: bool,
    /// Whatever has to live as long as the site.
    pub(crate) keep: Vec<Box<dyn std::any::Any>>,
}

/// A site that serves.
pub(crate) struct Site {
    pub(crate) risk_api: Sandbox,
    pub(crate) collector: Sandbox,
    pub(crate) scripts: Sandbox,
    pub(crate) node: Option<Sandbox>,
    pub(crate) origin: Origin,
    pub(crate) nginx: Nginx,
    pub http2: bool,
    keep: Vec<Box<dyn std::any::Any>>,
}

impl Default for Plan {
    fn default() -> Self {
        let sandbox = || Sandbox::builder().keep(2_000, 64 << 20).start().expect("a free port");
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
            workers: 1,
            http2: false,
            main: String::new(),
            http: String::new(),
            server: String::new(),
            location: String::new(),
            prepare: Box::new(|_| Vec::new()),
            is_lenient: false,
            keep: Vec::new(),
        }
    }
}

impl Plan {
    /// With a node that blocks.
    pub(crate) fn with_node(&mut self) {
        let builder = Sandbox::builder().keep(2_000, 64 << 20).node(NodeMode::Blocking);
        let node = builder.start().expect("a free port");
        self.node_url = node.url();
        self.node = Some(node);
    }

    pub(crate) fn start(self) -> Site {
        let origin = Origin::echo();
        answer_as_human(&self.scripts);
        answer_as_human(&self.collector);
        let Self { risk_api_url, collector_url, scripts_url, node_url, .. } = &self;
        let App { id, auth_token, secret } = self.risk_api.app();
        let node = match self.node {
            Some(_) => format!(
                "px_wallarm_node_address {node_url}; px_wallarm_timeout_ms {TIMEOUT}; \
                 px_wallarm_max_body_size 64k;\n"
            ),
            None => String::new(),
        };
        let conf = format!(
            "px_enabled on;\n\
             px_app_id {id};\n\
             px_auth_token {auth_token};\n\
             px_cookie_secret {secret};\n\
             px_module_mode active_blocking;\n\
             px_backend_url {risk_api_url};\n\
             px_backend_collector_url {collector_url};\n\
             px_client_host {scripts_url};\n\
             px_captcha_script_host {scripts_url};\n\
             px_initial_telemetry_enabled off;\n\
             px_s2s_timeout {TIMEOUT};\n\
             px_first_party_timeout_ms {TIMEOUT};\n\
             px_batch_activities_timeout_ms 50ms;\n\
             {node}\
             access_log site.log site;\n\
             keepalive_requests 1000000; client_body_buffer_size 64k;\n\
             {server}\n\
             location = /status {{ access_log off; px_status prometheus; }}\n\
             location / {{\n\
             proxy_set_header X-Verdict \"$px_verdict $px_pass_reason$px_filter_reason; uuid=$px_uuid\";\n\
             proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             {location}\n\
             {pass}\n\
             }}\n",
            server = self.server,
            location = self.location,
            pass = origin.proxy_pass(),
        );
        let builder = Nginx::builder()
            .workers(self.workers)
            .main(&self.main)
            .http(&format!("{LOG}{}", self.http))
            .server(&conf)
            .error_log_level("notice")
            .listen(if self.http2 { "http2" } else { "" });
        let mut nginx = builder.start_with_env(self.prepare);
        if self.is_lenient {
            nginx.lenient();
        }
        let Self { risk_api, collector, scripts, node, http2, keep, .. } = self;
        Site { risk_api, collector, scripts, node, origin, nginx, http2, keep }
    }
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
    /// The site as visitors know it.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let app = self.risk_api.app().clone();
        vec![Address { addr: self.nginx.addr(), host: "site.test", app }]
    }

    /// Who visits it.
    pub(crate) fn classes(&self) -> Vec<Class> {
        let mut classes = Class::OF_HUMAN.to_vec();
        classes.extend(self.node.is_some().then_some(Class::Attack));
        classes
    }

    /// What visitors get where nothing is wrong.
    pub(crate) fn normally(&self) -> Owed {
        Owed::normally(1, &self.classes())
    }

    pub(crate) fn node(&self) -> &Sandbox {
        self.node.as_ref().expect("planned with a node")
    }

    /// A counter or gauge; 0 where it is not there yet.
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
        let mut samples = metrics.families.values().flat_map(|family| &family.samples);
        let has = |sample: &crate::support::prometheus::Sample| {
            labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|v| v == value))
        };
        let found = samples.find(|sample| sample.name == name && has(sample));
        found.map_or(0.0, |sample| sample.value)
    }

    pub(crate) fn access_log(&self) -> Vec<String> {
        self.nginx.log_lines("site.log")
    }

    /// The error log's lines that an operator has to look at.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let log = self.nginx.error_log();
        let levels = ["[warn]", "[error]", "[crit]", "[alert]", "[emerg]"];
        let bad = log.lines().filter(|line| levels.iter().any(|level| line.contains(level)));
        bad.map(str::to_owned).collect()
    }
}
