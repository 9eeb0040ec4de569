//! The poster thread: sends one body after another to HUMAN's collector and waits for the answers.
//!
//! It does nothing else, so that the sender thread, which gives it its work, never waits for a
//! network (activities.md §§ 2 and 7).

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::time::{Duration, Instant};
use std::{fmt, fs};

use flate2::Compression;
use flate2::write::GzEncoder;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::conf::TlsSettings;
use crate::sender::{Destination, Job, Kind, Proxy};
use crate::thread;

/// Bytes that are written at once, as many as a TLS record holds. A larger write would keep the
/// kernel, and with it a core that the event loop shares, busy for longer.
const OUTPUT_BYTES: usize = 16 * 1024;

/// One body to be posted.
pub(crate) struct Post {
    pub(crate) job: Arc<Job>,
    /// When the worker ends, whether answered or not.
    pub(crate) deadline: Option<Instant>,
}

/// Why a body was not delivered.
pub(crate) enum Failure {
    /// The collector was not reached, or is in trouble: later it may take it.
    Trouble(String),
    /// It will never take this body.
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trouble(reason) | Self::Refused(reason) => f.write_str(reason),
        }
    }
}

/// Starts the thread; it ends when what is returned is dropped. `done` is called after each post,
/// when the thread has let go of the body.
pub(crate) fn start(
    closing: Arc<AtomicBool>,
    done: impl Fn(Result<(), Failure>) + Send + 'static,
) -> io::Result<SyncSender<Post>> {
    let (posts, to_post) = mpsc::sync_channel::<Post>(1);
    thread::spawn_behind("px poster", move || {
        let mut agents = Agents::default();
        while let Ok(post) = to_post.recv() {
            let delivered =
                catch_unwind(AssertUnwindSafe(|| deliver(&mut agents, &post, &closing)));
            drop(post);
            done(delivered.unwrap_or_else(|_| {
                let panic = crate::ffi::last_panic();
                Err(Failure::Trouble(format!("the poster thread panicked: {panic}")))
            }));
        }
    })?;
    Ok(posts)
}

/// Posts with one retry; a connection that the other side closed while idle is no failure.
fn deliver(agents: &mut Agents, post: &Post, closing: &AtomicBool) -> Result<(), Failure> {
    let job = &*post.job;
    let compressed = match (job.kind, job.destination.gzip_level) {
        // If compression fails, the body goes as it is.
        (Kind::Activities, Some(level)) => gzip(&job.body, level).ok(),
        _ => None,
    };
    let Destination { tls, proxy, .. } = &*job.destination;
    let agent = agents.of(tls, proxy.as_ref()).map_err(Failure::Trouble)?;
    match send(agent, post, compressed.as_deref()) {
        Err(Failure::Trouble(_)) if !closing.load(Ordering::Relaxed) => {
            send(agent, post, compressed.as_deref())
        }
        result => result,
    }
}

fn gzip(body: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::new(level));
    encoder.write_all(body)?;
    encoder.finish()
}

fn send(agent: &Agent, post: &Post, compressed: Option<&[u8]>) -> Result<(), Failure> {
    let job = &*post.job;
    let destination = &job.destination;
    let (url, authorization) = match (job.kind, &destination.logs) {
        (Kind::Activities, _) => (&destination.activities_url, &*destination.authorization),
        (Kind::Telemetry, _) => (&destination.telemetry_url, &*destination.authorization),
        (Kind::Logs, Some(logs)) => (&logs.url, logs.authorization.expose()),
        (Kind::Logs, None) => return Err(Failure::Refused("no log service".to_owned())),
    };
    let mut limit = Duration::from_millis(destination.timeout_ms);
    if let Some(deadline) = post.deadline {
        // Zero would be no limit.
        let left = deadline.saturating_duration_since(Instant::now());
        limit = limit.min(left.max(Duration::from_millis(1)));
    }
    let mut request = agent
        .post(url)
        .config()
        .timeout_global(Some(limit))
        .build()
        .header("content-type", "application/json")
        .header("authorization", authorization);
    if compressed.is_some() {
        request = request.header("content-encoding", "gzip");
    }
    let mut response = request
        .send(compressed.unwrap_or(&job.body))
        .map_err(|err| Failure::Trouble(err.to_string()))?;
    let status = response.status().as_u16();
    // Read to its end, within reason, or the connection cannot be used again.
    let _ = response.body_mut().with_config().limit(64 * 1024).read_to_vec();
    let reason = || format!("HTTP status {status}");
    match status {
        200 => Ok(()),
        // Malformed, too large, not understood: what it says of this body it will say again.
        400 | 413 | 422 => Err(Failure::Refused(reason())),
        _ => Err(Failure::Trouble(reason())),
    }
}

/// One agent, with its idle connections, for each way of verifying certificates.
#[derive(Default)]
pub(crate) struct Agents(Vec<(TlsSettings, Option<Proxy>, Agent)>);

impl Agents {
    pub(crate) fn of(
        &mut self,
        tls: &TlsSettings,
        proxy: Option<&Proxy>,
    ) -> Result<&Agent, String> {
        let is_same = |(known, way, _): &(TlsSettings, Option<Proxy>, Agent)| {
            known == tls && way.as_ref() == proxy
        };
        let at = match self.0.iter().position(is_same) {
            Some(at) => at,
            None => {
                let agent = agent(tls, proxy)?;
                self.0.push((tls.clone(), proxy.cloned(), agent));
                self.0.len() - 1
            }
        };
        self.0.get(at).map(|(_, _, agent)| agent).ok_or_else(String::new)
    }
}

fn agent(tls: &TlsSettings, proxy: Option<&Proxy>) -> Result<Agent, String> {
    let proxy = proxy.map(through).transpose()?;
    let mut tls_config = TlsConfig::builder();
    if !tls.verify {
        tls_config = tls_config.disable_verification(true);
    } else if let Some(file) = &tls.trusted_certificate {
        let pem = fs::read(file).map_err(|err| format!("cannot read \"{file}\": {err}"))?;
        let roots: Vec<Certificate<'static>> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        tls_config = tls_config.root_certs(RootCerts::new_with_certs(&roots));
    }
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .output_buffer_size(OUTPUT_BYTES)
        .max_redirects(0)
        .user_agent("")
        // The environment of a server says nothing about how to reach HUMAN; the operator does.
        .proxy(proxy)
        .tls_config(tls_config.build())
        .build();
    Ok(Agent::new_with_config(config))
}

fn through(proxy: &Proxy) -> Result<ureq::Proxy, String> {
    let authority = proxy.url.strip_prefix("http://").unwrap_or(&proxy.url);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(80)),
        _ => (authority, 80),
    };
    let mut builder = ureq::Proxy::builder(ureq::ProxyProtocol::Http).host(host).port(port);
    if let Some(credentials) = &proxy.credentials {
        let (user, password) = credentials.expose().split_once(':').unwrap_or_default();
        builder = builder.username(user).password(password);
    }
    builder.build().map_err(|err| format!("the proxy cannot be used: {err}"))
}
