//! The site under load: everything the module can do is on, HUMAN and a node stand behind it.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use px_sandbox::{Endpoint, NodeMode, Received, Reply, Sandbox};
use serde_json::{Value, json};

use crate::ledger::Ledger;
use crate::support::nginx::{free_addr, load_module};
use crate::support::{BROWSER, Nginx, get, protect_as, wait_until};

pub(crate) const WORKERS: usize = 3;
/// Backends of their own that fail again and again, each with its circuit breaker.
pub(crate) const FRAIL: u64 = 16;
/// The smallest zone there may be: it has room for some 330 tokens, and more of them are used.
const TOKEN_CACHE: &str = "px_token_cache zone=soak:512k;";
const REMOTE_CONFIG: &str = "soak";
const REMOTE_CONFIG_TOKEN: &str = "remote-config-token-for-nobody-else";
/// What the collector answers to a browser through the site.
pub(crate) const HEARD: &str = "heard";

pub(crate) struct Site {
    pub(crate) human: Sandbox,
    /// The Risk API of the frail backends.
    pub(crate) frail: Sandbox,
    /// Asked about requests before they reach the origin, or given copies of them.
    node: Sandbox,
    pub(crate) origin: Nginx,
    pub(crate) ledger: Arc<Ledger>,
    fetched: Arc<AtomicU64>,
    /// Where the server listens for HTTP/2.
    pub(crate) h2: SocketAddr,
}

impl Site {
    pub(crate) fn new() -> Self {
        let ledger = Arc::new(Ledger::default());
        let fetched = Arc::new(AtomicU64::new(0));
        let human = {
            let (ledger, fetched) = (Arc::clone(&ledger), Arc::clone(&fetched));
            let told = move |received: &Received| match received.endpoint {
                Endpoint::Activities if received.accepted => ledger.told(&received.activities()),
                Endpoint::CspPolicy | Endpoint::Snippet | Endpoint::RemoteConfig => {
                    fetched.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            };
            Sandbox::builder()
                .tls(true)
                .remote_config_token(REMOTE_CONFIG_TOKEN)
                .keep(100, 16 << 20)
                .on_received(told)
                .start()
                .expect("a free port")
        };
        human.answer_at(Endpoint::Xhr, Reply::bytes("text/plain", HEARD));
        let frail = Sandbox::builder().ip(Ipv4Addr::UNSPECIFIED.into()).keep(100, 16 << 20).start();
        let node = Sandbox::builder().node(NodeMode::Blocking).keep(100, 16 << 20).start();
        let site = Self {
            human,
            frail: frail.expect("a free port"),
            node: node.expect("a free port"),
            origin: origin(),
            ledger,
            fetched,
            h2: free_addr(),
        };
        site.set_documents(1);
        site
    }

    /// What is fetched in the background is another from now on.
    pub(crate) fn set_documents(&self, version: u64) {
        let score = 70 + version % 2;
        let values = json!({"px_remote_config_enabled": true, "px_blocking_score": score});
        self.human.set_remote_config(REMOTE_CONFIG, version, values);
        let policy = format!("default-src 'self'; report-uri https://csp.example.com/?n={version}");
        self.human.set_csp_policy(json!({ "csp": policy }));
        self.human.set_snippet(format!(
            "<script type=\"text/javascript\">window.soak = {version};</script>"
        ));
    }

    /// Documents that HUMAN gave.
    pub(crate) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// What HUMAN and the node found wrong with what they received.
    pub(crate) fn complaints(&self) -> Vec<String> {
        [&self.human, &self.frail, &self.node].iter().flat_map(|one| one.complaints()).collect()
    }

    /// nginx with the module, once it has fetched what it needs to answer alike from then on.
    pub(crate) fn start(&self) -> Nginx {
        self.start_with_env(|_| Vec::new())
    }

    /// As [`start`](Self::start); `prepare` gives the environment nginx is to have besides.
    pub(crate) fn start_with_env(
        &self,
        prepare: impl FnOnce(&Path) -> Vec<(&'static str, OsString)>,
    ) -> Nginx {
        let conf = self.conf(true);
        let builder = Nginx::builder().conf(move |dir, addr| filled(&conf, dir, addr));
        let nginx = builder.start_with_env(|dir| {
            let ca = self.human.ca_pem().expect("it has a certificate");
            fs::write(dir.join("ca.pem"), ca).expect("a file can be written");
            fs::write(dir.join("html/file"), "from disk").expect("a file can be written");
            // Workers may be another user, and where nginx is told in one moment to open its logs again and
            // to reload they do so before it has given the logs to them.
            for log in ["access.log", "error.log"] {
                let log = dir.join(log);
                fs::write(&log, "").expect("a file can be written");
                fs::set_permissions(&log, Permissions::from_mode(0o666)).expect("it is ours");
            }
            prepare(dir)
        });
        nginx.wait_for_workers(WORKERS);
        wait_until("the first documents", || {
            let tasks = status(&nginx)["documents"].take();
            tasks.as_array().is_some_and(|tasks| {
                tasks.len() == 3 && tasks.iter().all(|task| task["fetched"] != 0.0)
            })
        });
        // Each worker looks for them twice a second.
        thread::sleep(Duration::from_secs(1));
        nginx
    }

    /// The same site in an nginx that has never heard of the module.
    pub(crate) fn start_bare(&self) -> Nginx {
        let conf = self.conf(false);
        let nginx = Nginx::builder().conf(move |dir, addr| filled(&conf, dir, addr)).start();
        nginx.wait_for_workers(WORKERS);
        nginx
    }

    fn conf(&self, has_module: bool) -> String {
        let human = self.human.url().replace("127.0.0.1", "localhost");
        let protect = protect_as(self.human.app(), &human, &human)
            .replace("px_initial_telemetry_enabled off;\n", "");
        // A list and no expression: of each of those nginx 1.22 loses a block of heap with every reload.
        let frail: String = (1..=FRAIL)
            .map(|n| format!("/frail/{n} http://127.0.1.{n}:{};", self.frail.port()))
            .collect();
        let conf = format!(
            "{load_module}\n\
             daemon off;\nworker_processes {WORKERS};\nworker_shutdown_timeout 60s;\n\
             pid DIR/nginx.pid;\nerror_log DIR/error.log notice;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
             client_body_temp_path DIR/body;\nproxy_temp_path DIR/proxy;\n\
             fastcgi_temp_path DIR/fastcgi;\nuwsgi_temp_path DIR/uwsgi;\nscgi_temp_path DIR/scgi;\n\
             default_type text/plain;\n\
             keepalive_requests 1000;\n\
             proxy_http_version 1.1;\nproxy_set_header Connection \"\";\n\
             log_format soak '$status $request_uri{variables}';\n\
             upstream origin {{ server {origin}; keepalive 16; }}\n\
             map $uri $frail {{ {frail} }}\n\
             {TOKEN_CACHE}\n\
             server {{\n\
             listen ADDR;\nlisten {h2} http2;\nserver_name site.test;\nroot DIR/html;\n\
             access_log DIR/access.log soak;\n\
             {protect}\
             px_ssl_trusted_certificate DIR/ca.pem;\n\
             px_s2s_timeout 20s;\n\
             px_first_party_timeout_ms 20s;\n\
             px_async_timeout 20s;\n\
             px_max_errors_threshold 1000;\n\
             px_compression_enabled on;\n\
             px_activity_spool path=DIR/spool max_size=256m;\n\
             px_remote_config_id {REMOTE_CONFIG};\n\
             px_remote_config_auth_token {REMOTE_CONFIG_TOKEN};\n\
             px_remote_config_refresh_interval 1s;\n\
             px_remote_config_cache DIR/kept;\n\
             px_csp_enabled on;\n\
             px_csp_data_url {human}/v1/enforcer-data;\n\
             px_csp_policy_refresh_interval_minutes 1s;\n\
             px_snippet_provider_enabled on;\n\
             px_snippet_provider_url {human}/snippet/{app};\n\
             px_snippet_provider_cache_ttl_seconds 1s;\n\
             px_enable_login_creds_extraction on;\n\
             px_login_credentials_extraction path=/login method=post sent_through=body user_field=username pass_field=password;\n\
             px_graphql_enabled on;\n\
             px_sensitive_routes /login;\n\
             px_wallarm_timeout_ms 20s;\n\
             location / {{ proxy_pass http://origin; }}\n\
             location = /file {{ }}\n\
             location /frail/ {{\n\
             px_risk_backend $frail;\n\
             px_max_errors_threshold 3;\n\
             proxy_pass http://origin;\n\
             }}\n\
             location = /node {{\n\
             px_enabled off;\n\
             px_wallarm_node_address {node};\n\
             proxy_pass http://origin;\n\
             }}\n\
             location = /copied {{\n\
             px_enabled off;\n\
             px_wallarm_node_address {node};\n\
             px_wallarm_blocking off;\n\
             proxy_pass http://origin;\n\
             }}\n\
             location = /status {{\n\
             access_log off;\n\
             px_status;\n\
             }}\n\
             }}\n}}\n",
            load_module = load_module(),
            variables = if has_module { " $px_verdict $px_pass_reason" } else { "" },
            origin = self.origin.addr(),
            h2 = self.h2,
            app = self.human.app().id,
            node = self.node.url(),
        );
        let is_ours = |line: &str| line.starts_with("px_") || line.starts_with("load_module");
        conf.lines().filter(|line| has_module || !is_ours(line)).fold(
            String::new(),
            |mut text, line| {
                text.push_str(line);
                text.push('\n');
                text
            },
        )
    }

    /// A cookie of this score for the browser that all visitors have.
    pub(crate) fn cookie(&self, score: u32, uuid: &str) -> String {
        let mint = self.human.mint(BROWSER).score(score).uuid(uuid).iterations(500);
        mint.expires_in(Duration::from_secs(24 * 3600)).cookie()
    }
}

fn filled(conf: &str, dir: &Path, addr: SocketAddr) -> String {
    conf.replace("DIR", &dir.display().to_string()).replace("ADDR", &addr.to_string())
}

/// Says which request it was: an answer that is another visitor's would show.
fn origin() -> Nginx {
    let text = "$request_method $request_uri $content_length";
    let page = "<html><head><title>$request_uri</title></head><body></body></html>";
    let conf = format!(
        "daemon off;\npid DIR/nginx.pid;\nerror_log DIR/error.log notice;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\naccess_log off;\nkeepalive_requests 1000000;\nclient_body_temp_path DIR/body;\n\
         proxy_temp_path DIR/proxy;\nfastcgi_temp_path DIR/fastcgi;\nuwsgi_temp_path DIR/uwsgi;\n\
         scgi_temp_path DIR/scgi;\n\
         server {{\nlisten ADDR;\n\
         location / {{ default_type text/plain; return 200 \"{text}\"; }}\n\
         location = /page {{ default_type text/html; return 200 \"{page}\"; }}\n\
         }}\n}}\n"
    );
    Nginx::builder().conf(move |dir, addr| filled(&conf, dir, addr)).start()
}

/// The status page.
pub(crate) fn status(nginx: &Nginx) -> Value {
    let response = get(nginx.addr(), "/status", &["Connection: close"]);
    assert_eq!(response.status, 200);
    response.json()
}
