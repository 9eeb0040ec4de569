//! Threads inside an nginx worker: system calls and thread-safe libraries on data they own,
//! never nginx memory, never an nginx log.

use std::{io, mem, ptr, thread};

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
    let handle = thread::Builder::new().name(name.to_owned()).stack_size(512 * 1024).spawn(body);
    // SAFETY: `before` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    handle
}
