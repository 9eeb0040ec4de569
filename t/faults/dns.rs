//! A DNS server that says what it is told to, and what leads an nginx to it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use px_sandbox::Sandbox;

use crate::support::{nginx, shared_library};

/// Of every record, seconds.
const TTL: u32 = 1;

/// What is known of a name. Of one that is not among the records nothing is known: NXDOMAIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Address(Ipv4Addr),
    /// SERVFAIL
    Broken,
    /// No answer at all.
    Silence,
}

impl Record {
    /// The address of a server; none has one of version 6.
    pub(crate) fn of(sandbox: &Sandbox) -> Self {
        match sandbox.addr().ip() {
            IpAddr::V4(address) => Self::Address(address),
            IpAddr::V6(_) => Self::Broken,
        }
    }
}

/// A running server; ended when dropped.
pub(crate) struct Dns {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    records: Mutex<HashMap<String, Record>>,
    asked: AtomicUsize,
    is_over: AtomicBool,
}

impl Shared {
    fn records(&self) -> MutexGuard<'_, HashMap<String, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dns {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind((nginx::free_addr().ip(), 0)).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout can be set");
        let addr = socket.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&socket, &shared)
        });
        Self { addr, shared, thread: Some(thread) }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn set(&self, name: &str, record: Record) {
        self.shared.records().insert(name.to_owned(), record);
    }

    /// The name is gone.
    pub(crate) fn remove(&self, name: &str) {
        self.shared.records().remove(name);
    }

    /// How many times it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// The environment in which the system's resolver asks this server.
    pub(crate) fn env(&self) -> Vec<(&'static str, OsString)> {
        vec![("LD_PRELOAD", shim().into()), ("PX_TEST_DNS", self.addr.to_string().into())]
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Built once for all rows; next to this program.
fn shim() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = std::env::current_exe().expect("this program has a path");
        let dir = program.parent().expect("it lies in a directory");
        shared_library::build("t/support/resolve.c", dir, &["-ldl", "-lresolv"])
    })
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 1500];
    while !shared.is_over.load(Ordering::Relaxed) {
        let Ok((len, peer)) = socket.recv_from(&mut buffer) else { continue };
        shared.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(answer) = answer(&buffer[..len], shared) {
            let _ = socket.send_to(&answer, peer);
        }
    }
}

/// RFC 1035 § 4: the header, the question, and a record where there is one for it.
fn answer(query: &[u8], shared: &Shared) -> Option<Vec<u8>> {
    let (mut name, mut at) = (String::new(), 12);
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(std::str::from_utf8(query.get(at..at + len)?).ok()?);
        at += len;
    }
    let question = query.get(12..at + 4)?;
    let is_for_address = question.ends_with(&[0, 1, 0, 1]);
    let record = shared.records().get(&name).copied();
    let (code, address) = match record {
        Some(Record::Address(address)) => (0, is_for_address.then_some(address)),
        Some(Record::Broken) => (2, None),
        Some(Record::Silence) => return None,
        None => (3, None),
    };
    let mut answer = query.get(..2)?.to_vec();
    // A response, recursion desired and available.
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    answer.extend(question);
    if let Some(address) = address {
        // The name is that of the question.
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(TTL.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
