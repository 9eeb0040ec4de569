//! What one worker process keeps between requests, from its start to its end.

use std::io;
use std::time::Duration;

use nginx_sys::{
    NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_add_timer, ngx_cycle, ngx_cycle_t, ngx_del_timer,
    ngx_event_t, ngx_int_t, ngx_process, ngx_terminate, ngx_uint_t,
};
use px_core::enforce;
use px_core::telemetry::Machine;

use crate::activities::Reporter;
use crate::background::{self, Background};
use crate::conf::{self, MainConf};
use crate::ffi::{self, OK};
use crate::log::{self, ERR, NOTICE};
use crate::request_ids::RequestIds;
use crate::resolver::Resolver;

/// A quitting worker waits at most so long for the last activities to be delivered.
const QUIT_LIMIT: Duration = Duration::from_secs(5);
/// As above on SIGTERM, after which the master kills within about a second and a half.
const TERMINATE_LIMIT: Duration = Duration::from_millis(800);
/// A starting worker waits at most so long for the first addresses. Old workers still serve then.
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// Threads that the system did not give are asked for again this often.
const AGAIN_MS: usize = 2000;

pub(crate) struct Worker {
    pub(crate) enforcer: enforce::Worker,
    pub(crate) request_ids: RequestIds,
    pub(crate) reporter: Reporter,
    pub(crate) background: Background,
    /// This machine's name, for telemetry.
    node_name: String,
    /// `None` until its thread could be started.
    resolver: Option<Resolver>,
    /// Asks for missing threads. Boxed: nginx keeps its address.
    again: Box<ngx_event_t>,
    /// The operator knows that a thread is missing.
    misses_thread: bool,
}

impl Worker {
    /// What telemetry says of the machine.
    pub(crate) fn machine(&self) -> Machine<'_> {
        Machine { os_name: std::env::consts::OS, node_name: &self.node_name }
    }

    pub(crate) fn start(main: &MainConf) -> Self {
        // SAFETY: zero is the start state of an event.
        let mut again: Box<ngx_event_t> = Box::new(unsafe { std::mem::zeroed() });
        again.handler = Some(on_again);
        again.data = std::ptr::from_ref(main).cast_mut().cast();
        // SAFETY: the cycle is live while workers run.
        again.log = unsafe { (*ngx_cycle).log };
        // A worker that is told to quit does not wait for this timer.
        again.set_cancelable(1);
        let mut worker = Self {
            enforcer: enforce::Worker::default(),
            request_ids: RequestIds::new(),
            reporter: Reporter::new(main),
            background: Background::new(main),
            node_name: node_name(),
            resolver: None,
            again,
            misses_thread: false,
        };
        worker.start_threads(main, FIRST_LOOK);
        worker
    }

    /// Starts the threads that do not run yet. Visitors are served without them: nothing is reported
    /// then, and no host is found by its name.
    fn start_threads(&mut self, main: &MainConf, patience: Duration) {
        let sender = self.reporter.start_sender();
        let resolver = self.start_resolver(main, patience);
        let before = self.misses_thread;
        self.misses_thread = sender.is_err() || resolver.is_err();
        for (name, started) in [("sender", sender), ("resolver", resolver)] {
            if let (Err(err), false) = (started, before) {
                let text = format!("px: cannot start the {name} thread: {err}; it is tried again");
                log::cycle_line(ERR, &text);
            }
        }
        if self.misses_thread {
            // SAFETY: a complete event at a fixed address that is not armed.
            unsafe { ngx_add_timer(&raw mut *self.again, AGAIN_MS) };
        } else if before {
            log::cycle_line(NOTICE, "px: all threads of this worker run now");
        }
    }

    fn start_resolver(&mut self, main: &MainConf, patience: Duration) -> io::Result<()> {
        if self.resolver.is_none() {
            self.resolver = Some(Resolver::start(main.upstreams.backends(), patience)?);
        }
        Ok(())
    }

    fn close(mut self, main: &MainConf, limit: Duration) {
        if self.again.timer_set() != 0 {
            // SAFETY: armed and not fired.
            unsafe { ngx_del_timer(&raw mut *self.again) };
        }
        self.background.close(main);
        self.reporter.close(main, limit);
    }
}

unsafe extern "C" fn on_again(ev: *mut ngx_event_t) {
    ffi::guard(
        "a further try to start threads",
        || (),
        || {
            // SAFETY: nginx passes the event that fired, whose data is this worker's configuration.
            let main = unsafe { &*(*ev).data.cast::<MainConf>().cast_const() };
            // Visitors are not kept waiting for addresses.
            main.with_worker(|worker| worker.start_threads(main, Duration::ZERO));
        },
    );
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
            let Some(worker) = main.worker.take() else { return };
            // SAFETY: a flag that signal handlers set.
            let limit = if unsafe { ngx_terminate } != 0 { TERMINATE_LIMIT } else { QUIT_LIMIT };
            worker.close(main, limit);
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
