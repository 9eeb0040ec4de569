//! The listening socket with its threads: one accepts, one serves each connection. All of them
//! end when this is dropped, whatever they are doing.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use crate::behaviour::OnAccept;
use crate::closing::Closing;
use crate::server::{self, Server};
use crate::wire::Wire;

/// Enough for the deepest JSON and a TLS handshake, little enough for thousands of connections.
const STACK: usize = 512 << 10;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

pub(crate) struct Listening {
    addr: SocketAddr,
    closing: Arc<Closing>,
    connections: Arc<Connections>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Connections(Mutex<HashMap<u64, Connection>>);

struct Connection {
    socket: Arc<TcpStream>,
    thread: JoinHandle<()>,
}

impl Listening {
    pub(crate) fn start(addr: SocketAddr, server: Arc<Server>) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        let addr = listener.local_addr()?;
        let closing = Arc::new(Closing::default());
        let connections = Arc::new(Connections::default());
        let acceptor = thread::Builder::new().name("px-sandbox accept".into()).spawn({
            let (closing, connections) = (Arc::clone(&closing), Arc::clone(&connections));
            move || accept(&listener, &server, &closing, &connections)
        })?;
        Ok(Self { addr, closing, connections, acceptor: Some(acceptor) })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.connections.lock().len()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.closing.close();
        // accept() has no timeout: a connection of our own wakes it.
        let _ = TcpStream::connect_timeout(&reachable(self.addr), Duration::from_secs(1));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let open: Vec<Connection> =
            self.connections.lock().drain().map(|(_, connection)| connection).collect();
        for connection in &open {
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
        for connection in open {
            let _ = connection.thread.join();
        }
    }
}

/// An address that leads to a listener on it.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

fn accept(
    listener: &TcpListener,
    server: &Arc<Server>,
    closing: &Arc<Closing>,
    connections: &Arc<Connections>,
) {
    loop {
        let accepted = listener.accept();
        if closing.is_closed() {
            return;
        }
        match accepted {
            Ok((socket, _)) => welcome(socket, server, closing, connections),
            // Out of descriptors, or the peer left already: neither ends the sandbox.
            Err(_) => {
                closing.pause(Duration::from_millis(5));
            }
        }
    }
}

fn welcome(
    socket: TcpStream,
    server: &Arc<Server>,
    closing: &Arc<Closing>,
    connections: &Arc<Connections>,
) {
    let number = server.accepted.fetch_add(1, Ordering::Relaxed) + 1;
    let on_accept = server.plan.at_accept();
    match on_accept {
        OnAccept::Close => return,
        OnAccept::Reset => {
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
            return;
        }
        OnAccept::Serve | OnAccept::Hang => {}
    }
    let _ = socket.set_nodelay(true);
    let socket = Arc::new(socket);
    // Locked until the thread is listed: it takes itself off the list at its end.
    let mut listed = connections.lock();
    let thread =
        thread::Builder::new().name(format!("px-sandbox #{number}")).stack_size(STACK).spawn({
            let (server, closing) = (Arc::clone(server), Arc::clone(closing));
            let (connections, socket) = (Arc::clone(connections), Arc::clone(&socket));
            move || {
                match on_accept {
                    OnAccept::Hang => server::ignore(&socket),
                    _ => converse(&server, &closing, number, socket),
                }
                // With this the last owner of the socket lets go: it is closed, or reset, now.
                connections.leave(number);
            }
        });
    match thread {
        Ok(thread) => {
            listed.insert(number, Connection { socket, thread });
        }
        Err(why) => {
            drop(listed);
            server.journal.complain(format!("connection #{number}: no thread for it: {why}"));
        }
    }
}

fn converse(server: &Server, closing: &Closing, number: u64, socket: Arc<TcpStream>) {
    let wire = match &server.tls {
        None => Wire::plain(socket),
        Some(tls) => match Wire::tls(socket, Arc::clone(&tls.config), HANDSHAKE_LIMIT) {
            Ok(wire) => wire,
            Err(why) => {
                if !closing.is_closed() {
                    let why = format!("connection #{number}: TLS handshake failed: {why}");
                    server.journal.handshake_failed(why);
                }
                return;
            }
        },
    };
    server.serve(wire, number, closing);
}

impl Connections {
    fn leave(&self, number: u64) {
        self.lock().remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
