//! The traffic-analysis node of a location: what the operator wrote, compiled, and the synthetic
//! location that requests to it run in.

use std::cell::{OnceCell, RefCell};
use std::net::{IpAddr, ToSocketAddrs};
use std::rc::Rc;

use nginx_sys::{ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_int_t};
use px_core::base_url::BaseUrl;
use px_core::node::{Circuit, Extensions};

use crate::complex_value::ComplexValue;
use crate::conf::{MainConf, TlsSettings, certificate_bundle};
use crate::ffi::{self, ERROR, OK};
use crate::hooks::Condition;
use crate::log::{self, EMERG};
use crate::remote_call::Destination;
use crate::synthetic_location::{create, service_text, tls_text};
use crate::values::Values;

/// Idle connections kept per worker and node, unless `px_wallarm_keepalive` says otherwise.
pub(crate) const NODE_KEEPALIVE: usize = 16;
/// Longest head of an answer.
const HEAD_KILOBYTES: u32 = 16;

/// Everything that requests of one location need to be sent to a node.
pub(crate) struct NodeConf {
    pub(crate) url: BaseUrl,
    /// Requests wait for the verdict.
    pub(crate) is_blocking: bool,
    pub(crate) timeout_ms: u64,
    pub(crate) fail_open: bool,
    /// Bytes; 0: bodies are neither read nor sent.
    pub(crate) max_body_size: usize,
    pub(crate) max_inflight: usize,
    keepalive: usize,
    tls: TlsSettings,
    /// Requests that it is spared, if there are any.
    pub(crate) extensions: Option<Extensions>,
    pub(crate) condition: Option<Condition>,
    pub(crate) client_ip: Option<ComplexValue>,
    pub(crate) ip_headers: Vec<String>,
    /// Headers it does not get; in lower case.
    pub(crate) withheld: Vec<String>,
    /// Set at the end of configuration.
    pub(crate) place: OnceCell<Rc<NodePlace>>,
}

/// Where a node is, for all locations that send requests to it.
pub(crate) struct NodePlace {
    pub(crate) destination: Destination,
    /// The worker's own.
    pub(crate) circuit: RefCell<Circuit>,
}

impl NodeConf {
    /// The node of these values, if there is one.
    pub(crate) fn compile(values: &Values) -> Result<Option<Self>, String> {
        let Some(url) = values.node_url() else { return Ok(None) };
        let verify = values.wallarm_ssl_verify.unwrap_or(true);
        let own = values.wallarm_ssl_trusted_certificate.as_ref();
        let tls = TlsSettings {
            verify,
            depth: values.ssl_verify_depth.unwrap_or(3),
            trusted_certificate: certificate_bundle(
                own.or(values.ssl_trusted_certificate.as_ref()),
                verify && url.tls,
                "px_wallarm_ssl_trusted_certificate",
            )?,
        };
        let spares_files = values.wallarm_filter_extensions.unwrap_or(false);
        let (extensions, strict) = (values.filter_by_extension.as_deref(), values.filter_strict);
        let extensions = spares_files.then(|| Extensions::new(extensions, strict));
        // The list counts where it is set, and only what is set.
        let withheld = values.sensitive_headers.clone().unwrap_or_default();
        Ok(Some(Self {
            url: url.clone(),
            is_blocking: values.wallarm_blocking.unwrap_or(true),
            timeout_ms: values.wallarm_timeout_ms.unwrap_or(500),
            fail_open: values.wallarm_fail_open.unwrap_or(true),
            max_body_size: values.wallarm_max_body_size.unwrap_or(1024 * 1024),
            max_inflight: values.wallarm_max_inflight.unwrap_or(256),
            keepalive: values.wallarm_keepalive.unwrap_or(NODE_KEEPALIVE),
            tls,
            extensions: extensions.transpose().map_err(|err| err.to_string())?,
            condition: values.wallarm_if.clone(),
            client_ip: values.client_ip,
            ip_headers: values.ip_headers.clone().unwrap_or_default(),
            withheld: withheld.iter().map(|name| name.to_ascii_lowercase()).collect(),
            place: OnceCell::new(),
        }))
    }
}

/// Whether a `resolver` is in effect in the location that is being merged.
///
/// # Safety
///
/// `cf` must be live, while locations are merged, the core module's before ours.
pub(crate) unsafe fn has_resolver(cf: *mut ngx_conf_t) -> bool {
    // SAFETY: while merging, the context is that of the location.
    let ctx = unsafe { (*cf).ctx }.cast::<ngx_http_conf_ctx_t>();
    // SAFETY: as above.
    let confs = unsafe { (*ctx).loc_conf };
    let core = &raw const nginx_sys::ngx_http_core_module;
    // SAFETY: the core module's configuration of the location exists.
    let clcf = unsafe { ffi::module_entry::<ngx_http_core_loc_conf_t>(confs, core) };
    // SAFETY: merged, so that there is one, of the operator's or without servers.
    let resolver = unsafe { (*clcf).resolver };
    // SAFETY: as above.
    unsafe { resolver.as_ref() }.is_some_and(|resolver| resolver.connections.nelts != 0)
}

/// Whether the host of a node can be found now. Only where nothing is said of a resolver is that
/// asked: there a name that does not exist is a mistake, as in `proxy_pass`.
pub(crate) fn check_host(url: &BaseUrl) -> Result<(), String> {
    if url.host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let mut found = (url.host.as_str(), url.port).to_socket_addrs().ok();
    if found.as_mut().and_then(Iterator::next).is_some() {
        return Ok(());
    }
    Err(format!(
        "the host \"{}\" of \"px_wallarm_node_address\" cannot be resolved, and no \"resolver\" is in \
         effect",
        url.host
    ))
}

/// Makes the locations for all nodes. Part of `postconfiguration`.
///
/// # Safety
///
/// `cf` must be at the end of the `http` block, after merging.
pub(crate) unsafe fn create_all(cf: *mut ngx_conf_t, main: &MainConf) -> ngx_int_t {
    let mut made: Vec<&NodeConf> = Vec::new();
    for node in &main.nodes {
        let is_same = |known: &&&NodeConf| {
            (&known.url, &known.tls, known.keepalive) == (&node.url, &node.tls, node.keepalive)
        };
        if let Some(place) = made.iter().find(is_same).and_then(|known| known.place.get()) {
            let _ = node.place.set(Rc::clone(place));
            continue;
        }
        let Some(slot) = main.upstreams.take_node(&node.url, &node.tls, node.keepalive) else {
            // The blocks were counted from the same directives; this would be a bug of ours.
            let text = format!("px: no upstream block for the node \"{}\"", node.url);
            // SAFETY: `cf` is live.
            unsafe { log::conf_line(cf, EMERG, &text) };
            return ERROR;
        };
        let scheme = if node.url.tls { "https" } else { "http" };
        let pass = format!("{scheme}://{}", slot.name());
        let mut text = service_text(&pass, &node.url.authority(), HEAD_KILOBYTES);
        // The connection that a copy hangs on has no socket.
        text.push_str("tcp_nodelay off;\n");
        if node.url.tls {
            text.push_str(&tls_text(&node.url.host, &node.tls));
        }
        text.push('}');
        // SAFETY: `cf` is live and in the http context.
        let Ok(loc_conf) = (unsafe { create(cf, &text) }) else { return ERROR };
        let place = NodePlace {
            destination: Destination { loc_conf, slot },
            circuit: RefCell::new(Circuit::default()),
        };
        let _ = node.place.set(Rc::new(place));
        made.push(node);
    }
    OK
}
