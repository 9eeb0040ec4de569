//! A connection, plain or TLS, and the polite and impolite ways to end it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;

/// One side of a connection; the other owner of the socket is the list that ends it on shutdown.
pub(crate) struct Wire {
    socket: Arc<TcpStream>,
    tls: Option<Box<ServerConnection>>,
}

impl Wire {
    pub(crate) fn plain(socket: Arc<TcpStream>) -> Self {
        Self { socket, tls: None }
    }

    /// Shakes hands; the error is rustls's or the socket's.
    pub(crate) fn tls(
        socket: Arc<TcpStream>,
        config: Arc<ServerConfig>,
        limit: Duration,
    ) -> io::Result<Self> {
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        socket.set_read_timeout(Some(limit))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut &*socket)?;
        }
        Ok(Self { socket, tls: Some(Box::new(connection)) })
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        self.tls.as_ref()?.server_name()
    }

    /// `TLSv1.2` or `TLSv1.3`
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        Some(match self.tls.as_ref()?.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "unknown",
        })
    }

    pub(crate) fn set_read_timeout(&self, limit: Option<Duration>) {
        // Fails only for a zero duration or a closed socket, which the next read finds out.
        let _ = self.socket.set_read_timeout(limit);
    }

    /// Ends our direction as the protocol wants it: close_notify, then FIN.
    pub(crate) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut &*self.socket);
        }
        self.cut();
    }

    /// Ends our direction with a bare FIN, also within TLS.
    pub(crate) fn cut(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Makes the close that follows a reset (RST) instead of a FIN.
    pub(crate) fn reset_on_close(&self) {
        let _ = SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Throws away what the peer still sends, until it leaves or the limit passes. Without this a
    /// close would reset the connection and could destroy the answer on its way.
    pub(crate) fn drain(&mut self, limit: Option<Duration>) {
        self.set_read_timeout(limit);
        let mut sink = [0u8; 4096];
        while matches!((&*self.socket).read(&mut sink), Ok(count) if count > 0) {}
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => (&*self.socket).read(buffer),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut &*self.socket).read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => (&*self.socket).write(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut &*self.socket).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut &*self.socket).flush(),
        }
    }
}
