//! Threads inside an nginx worker: system calls and thread-safe libraries on data they own,
//! never nginx memory, never an nginx log.

use std::{io, mem, ptr, thread};

/// How far a thread stands back behind the event loop, which often shares its core with it: enough
/// that a visitor never waits for a report to be sent, and a tenth of the core where there is no
/// idle time left.
const NICENESS: libc::c_int = 10;

/// Starts a thread that no signal is delivered to: nginx's handlers expect the main thread.
pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    // SAFETY: zero is a valid start for both sets; sigfillset initialises the first.
    let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { mem::zeroed() };
    // SAFETY: a set on this stack.
    unsafe { libc::sigfillset(&raw mut all) };
    // The new thread inherits the mask of the moment it is created in.
    // SAFETY: both sets are on this stack.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    let builder = thread::Builder::new().name(name.to_owned()).stack_size(512 * 1024);
    let handle = builder.spawn(body);
    // SAFETY: `before` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    handle
}

/// As [`spawn`], for what may take its time: the thread stands back behind the event loop.
pub(crate) fn spawn_behind(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    spawn(name, move || {
        stand_back();
        body();
    })
}

/// On Linux each thread has a niceness of its own; elsewhere it would be the whole process's.
fn stand_back() {
    #[cfg(target_os = "linux")]
    // SAFETY: 0 is the calling thread. Where it is not allowed nothing changes.
    unsafe {
        let own = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, own + NICENESS);
    }
}
