//! nginx configuration from `KONG_…` variables, as Kong makes it: its rules for names and values, and
//! the structure of what it writes, in words of this project's own. Kong's Lua is stood in for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// One variable of the environment.
pub(crate) type Variable = (String, String);

pub(crate) fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("nginx/kong").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(shipped(name)).expect("a file that is shipped")
}

/// The variables of `kong.env`, as `docker run --env-file` reads it.
pub(crate) fn env_file() -> Vec<Variable> {
    let text = read("kong.env");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| variable(line).expect("NAME=value")).collect()
}

/// The variables of the image.
pub(crate) fn dockerfile() -> Vec<Variable> {
    let text = read("Dockerfile");
    let lines = text.lines().filter_map(|line| line.strip_prefix("ENV "));
    lines.map(|line| variable(line).expect("NAME=value")).collect()
}

fn variable(line: &str) -> Option<Variable> {
    let (name, value) = line.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

/// In which order directives of one namespace come: Kong sorts them by name, and nothing may depend
/// on it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    ByName,
    Shuffled(u64),
}

/// What Kong makes of its environment: properties, of each one value.
pub(crate) struct Kong {
    properties: BTreeMap<String, String>,
    order: Order,
    pub(crate) status: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// HTTP/2 without TLS.
    pub(crate) http2: SocketAddr,
    pub(crate) site: SocketAddr,
    pub(crate) grpc: SocketAddr,
    /// nginx's modules that Kong has compiled in.
    pub(crate) lua: String,
}

impl Kong {
    pub(crate) fn new(environment: &[Variable], order: Order) -> Self {
        let mut properties = BTreeMap::new();
        // Kong's own defaults.
        for (name, value) in [
            ("nginx_main_daemon", "off"),
            ("nginx_main_worker_processes", "1"),
            ("nginx_events_worker_connections", "1024"),
            ("nginx_events_multi_accept", "on"),
            ("nginx_http_charset", "UTF-8"),
            ("nginx_http_client_max_body_size", "0"),
            ("nginx_http_client_body_buffer_size", "8k"),
            ("nginx_http_lua_regex_match_limit", "100000"),
            ("nginx_http_lua_regex_cache_max_entries", "8192"),
            ("nginx_http_keepalive_requests", "10000"),
            ("nginx_proxy_real_ip_header", "X-Real-IP"),
            ("nginx_proxy_real_ip_recursive", "off"),
        ] {
            properties.insert(name.to_owned(), value.to_owned());
        }
        for (name, value) in environment {
            // Kong finds the name in lower case and reads the value of its upper case form.
            assert_eq!(*name, name.to_uppercase(), "Kong does not read such a variable");
            let Some(name) = name.to_lowercase().strip_prefix("kong_").map(str::to_owned) else {
                continue;
            };
            // Short names of directives.
            let name = match name.as_str() {
                "real_ip_header" | "real_ip_recursive" => format!("nginx_proxy_{name}"),
                _ => name,
            };
            // Values are neither quoted nor escaped. `NONE` takes a default away, and so does nothing.
            match value.trim() {
                "" => properties.remove(&name),
                value => properties.insert(name, value.to_owned()),
            };
        }
        let free = super::support::nginx::free_addr;
        Self {
            properties,
            order,
            status: free(),
            admin: free(),
            http2: free(),
            site: free(),
            grpc: free(),
            lua: String::new(),
        }
    }

    /// The directives of a namespace, name and value.
    fn directives(&self, namespace: &str) -> Vec<(&str, &str)> {
        let prefix = format!("nginx_{namespace}_");
        let mut found: Vec<(&str, &str)> = self
            .properties
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value.as_str())))
            .filter(|(_, value)| *value != "NONE")
            .collect();
        if let Order::Shuffled(seed) = self.order {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            for last in (1..found.len()).rev() {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                found.swap(last, usize::try_from(state % (last as u64 + 1)).expect("an index"));
            }
        }
        found
    }

    /// Their lines.
    pub(crate) fn lines(&self, namespace: &str) -> String {
        let lines = self.directives(namespace).into_iter();
        lines.map(|(name, value)| format!("{name} {value};\n")).collect()
    }

    fn property(&self, name: &str) -> &str {
        self.properties.get(name).map_or("", String::as_str)
    }

    /// The main file, from Kong's own template.
    pub(crate) fn main_file(&self, dir: &Path, proxy: SocketAddr) -> String {
        let d = dir.display();
        format!(
            "{lua}\npid {d}/nginx.pid;\nerror_log {d}/error.log info;\n{main}\
             events {{\n{events}}}\n\
             http {{\n{http}}}\n",
            lua = self.lua,
            main = self.lines("main"),
            events = self.lines("events"),
            http = self.http_file(dir, proxy),
        )
    }

    /// What stands in Kong's `http`. `proxy` is the address of the proxy server.
    fn http_file(&self, dir: &Path, proxy: SocketAddr) -> String {
        let d = dir.display();
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("t/kong/stand_in.lua");
        let service = |name: &str, addr: SocketAddr| {
            format!("{name} = {{ '{}', {} }}", addr.ip(), addr.port())
        };
        let services = [
            service("site", self.site),
            service("grpc", self.grpc),
            service("down", super::support::nginx::free_addr()),
        ]
        .join(", ");
        let trusted: String = match self.property("trusted_ips") {
            "" => String::new(),
            list => {
                list.split(',').map(|ip| format!("set_real_ip_from {};\n", ip.trim())).collect()
            }
        };
        let log_format = match self.property("proxy_access_log").split_once(' ') {
            Some((_, format)) => format,
            None => "kong_log_format",
        };
        let Self { status, admin, http2, .. } = self;
        format!(
            "server_tokens off;\n\
             lua_shared_dict kong 1m;\n\
             underscores_in_headers on;\n\
             {http}\
             uninitialized_variable_warn off;\n\
             init_by_lua_block {{ Kong = dofile('{stand_in}')\n\
             Kong.init({{ services = {{ {services} }}, log = '{d}/kong.log' }}) }}\n\
             log_format kong_log_format '$remote_addr \"$request\" $status';\n\
             upstream kong_upstream {{ server 0.0.0.1; balancer_by_lua_block {{ Kong.balancer() }} }}\n\
             server {{\nserver_name kong;\nlisten {proxy};\nlisten {http2} http2;\n\
             error_page 400 404 405 408 411 412 413 414 417 /kong_error_handler;\n\
             error_page 494 =494 /kong_error_handler;\n\
             error_page 500 502 503 504 /kong_error_handler;\n\
             access_log {d}/access.log {log_format};\n\
             {server}{trusted}{PHASES}{locations}}}\n\
             server {{\nserver_name kong_admin;\nlisten {admin};\naccess_log off;\n{admin_lines}\
             location / {{ content_by_lua_block {{ ngx.say('admin') }} }}\n}}\n\
             server {{\nserver_name kong_status;\nlisten {status};\naccess_log off;\ncharset UTF-8;\n\
             {status_lines}\
             location / {{ content_by_lua_block {{ Kong.status_content() }}\n\
             header_filter_by_lua_block {{ ngx.header['X-Status'] = '1' }} }}\n}}\n\
             server {{\nserver_name kong_worker_events;\nlisten unix:{d}/worker_events.sock;\n\
             access_log off;\nlocation / {{ content_by_lua_block {{ ngx.say('events') }} }}\n}}\n",
            http = self.lines("http"),
            stand_in = stand_in.display(),
            server = self.lines("proxy"),
            locations = self.locations(),
            admin_lines = self.lines("admin"),
            status_lines = self.lines("status"),
        )
    }

    fn locations(&self) -> String {
        let unbuffered = |name: &str, response: &str, request: &str| {
            format!(
                "location {name} {{\ninternal;\ndefault_type '';\nset $kong_proxy_mode 'unbuffered';\n\
                 proxy_http_version 1.1;\nproxy_buffering {response};\n\
                 proxy_request_buffering {request};\n{PROXY}}}\n"
            )
        };
        format!(
            "location / {{\ndefault_type '';\n\
             set $upstream_host '';\nset $upstream_scheme '';\nset $upstream_uri '';\n\
             set $upstream_service '';\nset $upstream_x_forwarded_for '';\n\
             set $kong_proxy_mode 'http';\n\
             proxy_http_version 1.1;\nproxy_buffering on;\nproxy_request_buffering on;\n\
             {location}{PROXY}}}\n\
             {}{}{}\
             location @grpc {{\ninternal;\ndefault_type '';\nset $kong_proxy_mode 'grpc';\n\
             grpc_set_header X-Forwarded-For $upstream_x_forwarded_for;\n\
             grpc_set_header X-Real-IP $remote_addr;\n\
             grpc_pass $upstream_scheme://kong_upstream;\n}}\n\
             location = /kong_buffered_http {{\ninternal;\ndefault_type '';\n\
             set $kong_proxy_mode 'http';\n\
             rewrite_by_lua_block {{ return }}\naccess_by_lua_block {{ return }}\nheader_filter_by_lua_block {{ return }}\n\
             body_filter_by_lua_block {{ return }}\nlog_by_lua_block {{ return }}\nproxy_http_version 1.1;\n{PROXY}}}\n\
             location = /kong_error_handler {{\ninternal;\ndefault_type '';\n\
             rewrite_by_lua_block {{ return }}\naccess_by_lua_block {{ return }}\n\
             content_by_lua_block {{ Kong.handle_error() }}\n}}\n",
            unbuffered("@unbuffered", "off", "off"),
            unbuffered("@unbuffered_request", "on", "off"),
            unbuffered("@unbuffered_response", "off", "on"),
            location = self.lines("location"),
        )
    }

    /// The main file from a template that an operator gives to `kong start --nginx-conf`. Such a
    /// template includes the rest, which is written to `nginx-kong.conf`.
    pub(crate) fn fill_in(&self, dir: &Path, template: &str, proxy: SocketAddr) -> String {
        let file = dir.join("nginx-kong.conf");
        std::fs::write(file, self.http_file(dir, proxy)).expect("it can be written");
        std::fs::write(dir.join("nginx-inject.conf"), "").expect("it can be written");
        let mut text = String::new();
        let mut lines = template.lines();
        while let Some(line) = lines.next() {
            let Some(statement) = line.strip_prefix("> ") else {
                let line = line
                    .replace("${{PROXY_ERROR_LOG}}", &format!("{}/error.log", dir.display()))
                    .replace("${{LOG_LEVEL}}", "info");
                assert!(!line.contains("${{"), "what is {line}?");
                text.push_str(&format!("{line}\n"));
                continue;
            };
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "> end").collect();
            let words: Vec<&str> = statement.split_whitespace().collect();
            match words.as_slice() {
                ["for", "_,", variable, "in", list, "do"] => {
                    let namespace = list
                        .strip_prefix("ipairs(nginx_")
                        .and_then(|list| list.strip_suffix("_directives)"))
                        .expect("the list of a namespace");
                    for (name, value) in self.directives(namespace) {
                        let line = block.join("\n");
                        text.push_str(
                            &line
                                .replace(&format!("$({variable}.name)"), name)
                                .replace(&format!("$({variable}.value)"), value),
                        );
                        text.push('\n');
                    }
                }
                // No stream_listen.
                ["if", "#stream_listeners", ">", "0", "then"] => {}
                other => panic!("what is {other:?}?"),
            }
        }
        format!("{}\n{text}", self.lua)
    }
}

const PHASES: &str = "\
    rewrite_by_lua_block { Kong.rewrite() }\n\
    access_by_lua_block { Kong.access() }\n\
    header_filter_by_lua_block { Kong.header_filter() }\n\
    body_filter_by_lua_block { Kong.body_filter() }\n\
    log_by_lua_block { Kong.log() }\n";

const PROXY: &str = "\
    proxy_set_header Host $upstream_host;\n\
    proxy_set_header Connection '';\n\
    proxy_set_header X-Forwarded-For $upstream_x_forwarded_for;\n\
    proxy_set_header X-Real-IP $remote_addr;\n\
    proxy_pass_header Server;\n\
    proxy_pass $upstream_scheme://kong_upstream$upstream_uri;\n";
