//! A traffic-analysis node for tests, and a site that is connected to it.

use std::fs;
use std::path::Path;

use px_sandbox::{NodeMode, Received, Sandbox};

use super::nginx::Builder;
use super::{Nginx, Origin};

/// The access log of [`Site`]: what the connector did with each request.
const LOG: &str = "log_format node '$status $request_method $px_wallarm_status \
     t=$px_wallarm_time id=$px_wallarm_request_id v=$px_verdict';\n";

pub struct Site {
    pub node: Sandbox,
    pub origin: Origin,
    pub nginx: Nginx,
}

/// A node over plain HTTP that blocks.
pub fn node() -> Sandbox {
    Sandbox::builder().node(NodeMode::Blocking).start().expect("a free port")
}

/// The directives that send requests to it.
pub fn connect(node: &Sandbox) -> String {
    format!("px_wallarm_node_address {};\n", node.url())
}

/// Longer than anything takes on a busy machine, unless a server says otherwise.
const PATIENCE: &str = "px_wallarm_timeout_ms 20s;\n";

/// nginx with the log, to be given its server.
pub fn builder(server: &str) -> Builder {
    Nginx::builder()
        .http(LOG)
        .http(PATIENCE)
        .server(&format!("access_log node.log node;\n{server}"))
}

impl Site {
    /// A site whose requests go to a node; `PASS` leads to the origin.
    pub fn start(directives: &str) -> Self {
        Self::start_with(directives, builder)
    }

    pub fn start_with(directives: &str, build: impl FnOnce(&str) -> Builder) -> Self {
        let (node, origin) = (node(), Origin::start());
        let server = format!("{}{directives}", connect(&node));
        let server = server.replace("PASS", &origin.proxy_pass());
        let server = match server.contains("location ") {
            true => server,
            false => format!("{server} location / {{ {} }}", origin.proxy_pass()),
        };
        let nginx = build(&server).start();
        Self { node, origin, nginx }
    }

    /// The log's lines once there are so many.
    pub fn log(&self, count: usize) -> Vec<String> {
        super::wait_until("lines of the node's log", || {
            self.nginx.log_lines("node.log").len() >= count
        });
        self.nginx.log_lines("node.log")
    }

    /// The words for what became of each request, once there are so many.
    pub fn statuses(&self, count: usize) -> Vec<String> {
        let word = |line: &String| line.split(' ').nth(2).expect("a word").to_owned();
        self.log(count).iter().map(word).collect()
    }

    /// The module's own lines about requests without a decision.
    pub fn troubles(&self) -> Vec<String> {
        let log = self.nginx.error_log();
        let own = log.lines().filter(|line| line.contains("px: wallarm node: "));
        own.map(str::to_owned).collect()
    }
}

/// The request line as the node received it, without the version.
pub fn line(received: &Received) -> String {
    let line = received.head.split(|byte| *byte == b'\r').next().expect("a line");
    let line = String::from_utf8_lossy(line);
    line.strip_suffix(" HTTP/1.1").expect("HTTP/1.1").to_owned()
}

/// Writes the authority of a node over TLS beside nginx's configuration.
pub fn write_authority(node: &Sandbox, dir: &Path) {
    fs::write(dir.join("node.pem"), node.ca_pem().expect("it speaks TLS")).expect("a file");
}
