//! What one worker process keeps between requests, from its start to its end.

use std::time::Duration;

use nginx_sys::{
    NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_cycle_t, ngx_int_t, ngx_process, ngx_terminate,
    ngx_uint_t,
};
use px_core::enforce;
use px_core::telemetry::Machine;

use crate::activities::Reporter;
use crate::background::{self, Background};
use crate::conf::{self, MainConf};
use crate::ffi::{self, OK};
use crate::log::{self, NOTICE};
use crate::request_ids::RequestIds;
use crate::resolver::Resolver;

/// A quitting worker waits at most so long for the last activities to be delivered.
const QUIT_LIMIT: Duration = Duration::from_secs(5);
/// As above on SIGTERM, after which the master kills within about a second and a half.
const TERMINATE_LIMIT: Duration = Duration::from_millis(800);

pub(crate) struct Worker {
    pub(crate) enforcer: enforce::Worker,
    pub(crate) request_ids: RequestIds,
    pub(crate) reporter: Reporter,
    pub(crate) background: Background,
    /// This machine's name, for telemetry.
    node_name: String,
    _resolver: Resolver,
}

impl Worker {
    /// What telemetry says of the machine.
    pub(crate) fn machine(&self) -> Machine<'_> {
        Machine { os_name: std::env::consts::OS, node_name: &self.node_name }
    }

    pub(crate) fn start(main: &MainConf) -> Self {
        Self {
            enforcer: enforce::Worker::default(),
            request_ids: RequestIds::new(),
            reporter: Reporter::start(main),
            background: Background::new(main),
            node_name: node_name(),
            _resolver: Resolver::start(main.upstreams.backends()),
        }
    }
}

/// Never before the fork: threads do not survive it.
pub(crate) unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    ffi::guard(
        "init_process",
        || OK,
        || {
            // SAFETY: nginx sets it before it calls this; cache managers come here too.
            let process = unsafe { ngx_process };
            if process != NGX_PROCESS_WORKER as ngx_uint_t
                && process != NGX_PROCESS_SINGLE as ngx_uint_t
            {
                return OK;
            }
            // SAFETY: nginx passes the cycle the worker runs under.
            let main = unsafe { conf::main_conf_of_cycle(cycle) };
            // SAFETY: null or this cycle's configuration.
            let Some(main) = (unsafe { main.as_ref() }) else { return OK };
            // Where nothing is enforced nothing runs in the background.
            if !main.enforcements.is_empty() || !main.nodes.is_empty() {
                main.with_worker(|worker| background::send_initial_telemetry(main, worker));
                log::cycle_line(
                    NOTICE,
                    &format!(
                        "px: {} built for {}",
                        crate::MODULE_VERSION,
                        crate::abi_guard::built_for()
                    ),
                );
            }
            OK
        },
    )
}

pub(crate) unsafe extern "C" fn exit_process(cycle: *mut ngx_cycle_t) {
    ffi::guard(
        "exit_process",
        || (),
        || {
            // SAFETY: nginx passes the cycle the worker ran under.
            let main = unsafe { conf::main_conf_of_cycle(cycle) };
            // SAFETY: null or this cycle's configuration.
            let Some(main) = (unsafe { main.as_ref() }) else { return };
            let Some(mut worker) = main.worker.take() else { return };
            worker.background.close(main);
            // SAFETY: a flag that signal handlers set.
            let limit = if unsafe { ngx_terminate } != 0 { TERMINATE_LIMIT } else { QUIT_LIMIT };
            worker.reporter.close(main, limit);
        },
    );
}

fn node_name() -> String {
    let mut name = [0_u8; 256];
    // SAFETY: the buffer has the length given.
    let rc = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let end = name.iter().position(|b| *b == 0).unwrap_or_default();
    let name = name.get(..end).unwrap_or_default();
    if rc == 0 { String::from_utf8_lossy(name).into_owned() } else { String::new() }
}
