//! A client that speaks HTTP/3 over QUIC, and the lines by which nginx does.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Once};
use std::{fs, io};

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use h3::error::StreamError;
use h3_quinn::OpenStreams;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig, VarInt};
use rcgen::CertifiedKey;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use tokio::runtime::Runtime;

use super::decisions::{Site, Visitor};
use super::http2::{head, in_time, response_of, runtime};
use super::nginx::{self, Builder};
use super::{Nginx, Response};

type Client = SendRequest<OpenStreams, Bytes>;
pub type Stream = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// Whether the nginx under test speaks HTTP/3. If not, that is said once, in spite of the harness, which
/// keeps what passing tests print.
pub fn is_spoken() -> bool {
    static SAID: Once = Once::new();
    let output = Command::new(nginx::binary()).arg("-V").output().expect("nginx can be run");
    let is_spoken = String::from_utf8_lossy(&output.stderr).contains("--with-http_v3_module");
    if !is_spoken {
        SAID.call_once(|| {
            let text =
                "skipped: this nginx does not speak HTTP/3 (make http3 builds one that does)\n";
            let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
        });
    }
    is_spoken
}

/// A site that speaks it, at its address.
pub struct Http3Site {
    pub site: Site,
    certificate: CertificateDer<'static>,
    /// Where nginx reads certificate and key, at each reload anew.
    files: PathBuf,
}

impl Drop for Http3Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.files);
    }
}

impl Http3Site {
    pub fn start(directives: &str) -> Self {
        Self::start_as(directives, |builder| builder)
    }

    pub fn start_as(directives: &str, more: impl FnOnce(Builder) -> Builder) -> Self {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["site.test".to_owned()]).expect("a certificate");
        let addr = nginx::free_addr();
        let files = nginx::fresh_dir();
        let (certificate, key) = (files.join("site.pem"), files.join("site.key"));
        fs::write(&certificate, cert.pem()).expect("it can be written");
        fs::write(&key, signing_key.serialize_pem()).expect("it can be written");
        let site = Site::start_as(|server| {
            more(Nginx::builder().addr(addr).server(&format!(
                "listen {addr} quic reuseport; ssl_certificate {}; ssl_certificate_key {};
                 {directives} {server}",
                certificate.display(),
                key.display()
            )))
        });
        Self { site, certificate: cert.der().clone(), files }
    }

    pub fn visitor(&self) -> Http3 {
        self.visitor_with(TransportConfig::default())
    }

    pub fn visitor_with(&self, transport: TransportConfig) -> Http3 {
        Http3::open(self.site.nginx.addr(), &self.certificate, transport)
    }
}

/// A connection.
pub struct Http3 {
    pub runtime: Runtime,
    pub client: Client,
    pub endpoint: Endpoint,
    pub connection: quinn::Connection,
}

impl Http3 {
    fn open(
        addr: SocketAddr,
        certificate: &CertificateDer<'static>,
        transport: TransportConfig,
    ) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).expect("a certificate");
        let mut tls =
            rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .expect("TLS 1.3")
                .with_root_certificates(roots)
                .with_no_client_auth();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let tls = QuicClientConfig::try_from(tls).expect("a suite for QUIC");
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(transport));

        let runtime = runtime();
        let (client, endpoint, connection) = runtime.block_on(in_time("a connection", async {
            let mut endpoint =
                Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket can be made");
            endpoint.set_default_client_config(config);
            let connecting = endpoint.connect(addr, "site.test").expect("a good name");
            let connection = connecting.await.expect("nginx speaks QUIC");
            let own = h3_quinn::Connection::new(connection.clone());
            // nginx 1.28 takes a reserved frame behind a request for the beginning of a body that never ends,
            // wherever it proxies.
            let (mut driver, client) = h3::client::builder()
                .send_grease(false)
                .build(own)
                .await
                .expect("nginx speaks HTTP/3");
            tokio::spawn(async move {
                // How a connection ends is told by what becomes of its streams.
                let _ = poll_fn(|cx| driver.poll_close(cx)).await;
            });
            (client, endpoint, connection)
        }));
        Self { runtime, client, endpoint, connection }
    }

    /// Sends a whole request; its answer is yet to be read.
    pub fn begin(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Stream {
        let request = head("https", method, target, headers);
        self.begin_as(request, body)
    }

    pub fn begin_as(&mut self, request: http::Request<()>, body: &[u8]) -> Stream {
        let client = &mut self.client;
        let body = Bytes::copy_from_slice(body);
        self.runtime.block_on(in_time("a request to be sent", async move {
            let mut stream = client.send_request(request).await.expect("the connection is good");
            if !body.is_empty() {
                // Without a length. nginx stops reading when it has answered.
                let _ = stream.send_data(body).await;
            }
            let _ = stream.finish().await;
            stream
        }))
    }

    /// The answer on a stream.
    pub fn receive(&self, stream: Stream) -> Response {
        self.try_receive(stream).expect("the whole answer")
    }

    /// As [`receive`](Self::receive) where the connection may end before.
    pub fn try_receive(&self, mut stream: Stream) -> Result<Response, StreamError> {
        self.runtime.block_on(in_time("an answer", async move {
            let head = stream.recv_response().await?;
            let mut answer = response_of(&head);
            while let Some(mut data) = stream.recv_data().await? {
                answer.body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
            }
            Ok(answer)
        }))
    }

    /// Goes on from another address, as a telephone does that leaves the house.
    pub fn move_to(&self, addr: Ipv4Addr) {
        let socket = UdpSocket::bind((addr, 0)).expect("a socket can be made");
        let _guard = self.runtime.enter();
        self.endpoint.rebind(socket).expect("the socket can be used");
    }

    /// Lets what has been begun go on its way.
    pub fn turn(&self) {
        self.runtime.block_on(async {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        });
    }

    /// Closes the connection at once.
    pub fn leave(self) {
        self.connection.close(VarInt::from_u32(0x100), b"");
        let endpoint = &self.endpoint;
        self.runtime.block_on(in_time("the end of a connection", endpoint.wait_idle()));
    }
}

impl Visitor for Http3 {
    fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let stream = self.begin(method, target, headers, body);
        self.receive(stream)
    }
}
