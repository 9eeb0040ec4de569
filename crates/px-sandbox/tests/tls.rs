//! HTTPS with a real TLS client: names, authorities, faults and ends.

mod client;

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use client::{Client, LIMIT, risk_call};
use px_sandbox::{Behaviour, CertificateFault, OnAccept, Sandbox};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

type TlsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

/// Connects, trusting only the authority given; the error is that of the handshake.
fn connect(
    addr: SocketAddr,
    name: &str,
    ca_pem: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsClient> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(LIMIT))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(Client::over(StreamOwned::new(connection, socket)))
}

fn trusting(sandbox: &Sandbox, name: &str) -> std::io::Result<TlsClient> {
    connect(sandbox.addr(), name, sandbox.ca_pem().unwrap(), rustls::ALL_VERSIONS)
}

#[test]
fn serves_every_name_of_its_certificate_in_both_versions() {
    let sandbox = Sandbox::builder().tls(true).tls_name("sapi.test").start().unwrap();
    assert!(sandbox.url().starts_with("https://127.0.0.1:"));
    for name in ["localhost", "sandbox.test", "127.0.0.1", "::1", "sapi.test"] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let ca = sandbox.ca_pem().unwrap();
            let mut client = connect(sandbox.addr(), name, ca, &[version]).unwrap();
            let call = String::from_utf8(risk_call()).unwrap();
            let host = if name == "::1" { "[::1]" } else { name };
            let call = call.replace("Host: sandbox.test", &format!("Host: {host}:443"));
            assert_eq!(client.ask(&call).status, 200);
        }
    }
    let calls = sandbox.risk_calls();
    assert_eq!(calls[0].tls_version.as_deref(), Some("TLSv1.2"));
    assert_eq!(calls[1].tls_version.as_deref(), Some("TLSv1.3"));
    assert_eq!(calls[0].server_name.as_deref(), Some("localhost"));
    assert_eq!(calls[4].server_name, None, "addresses are not sent as server names");
    // The request ids differ, everything else is one request told ten times.
    sandbox.assert_no_complaints();
}

#[test]
fn complains_when_host_and_server_name_disagree() {
    let sandbox = Sandbox::builder().tls(true).start().unwrap();
    trusting(&sandbox, "localhost").unwrap().ask(risk_call());
    trusting(&sandbox, "127.0.0.1").unwrap().ask(risk_call());
    let complaints = sandbox.complaints();
    assert!(complaints[0].contains("server name is \"localhost\""), "{complaints:?}");
    assert!(complaints[1].contains("no TLS server name"), "{complaints:?}");
}

#[test]
fn clients_that_verify_refuse_bad_certificates() {
    for fault in
        [CertificateFault::WrongName, CertificateFault::Expired, CertificateFault::UnknownIssuer]
    {
        let sandbox = Sandbox::builder().certificate_fault(fault).start().unwrap();
        assert!(trusting(&sandbox, "sandbox.test").is_err(), "{fault:?}");
        assert_eq!(sandbox.wait_for_handshake_failures(1, LIMIT).len(), 1, "{fault:?}");
        assert!(sandbox.received().is_empty());
        sandbox.assert_no_complaints();
    }
    let (one, other) = (
        Sandbox::builder().tls(true).start().unwrap(),
        Sandbox::builder().tls(true).start().unwrap(),
    );
    assert!(
        connect(one.addr(), "sandbox.test", other.ca_pem().unwrap(), rustls::ALL_VERSIONS).is_err()
    );
}

#[test]
fn takes_the_operators_own_certificate() {
    let directory = std::env::temp_dir().join(format!("px-sandbox-{}", client::fresh_uuid()));
    std::fs::create_dir(&directory).unwrap();
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["own.test".into()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let sandbox = Sandbox::builder().certificate_files(&certificate, &key).start().unwrap();
    let mut client =
        connect(sandbox.addr(), "own.test", &made.cert.pem(), rustls::ALL_VERSIONS).unwrap();
    assert_eq!(client.ask(risk_call()).status, 200);
    assert_eq!(sandbox.ca_pem(), None);
    let missing = directory.join("missing.pem");
    assert!(Sandbox::builder().certificate_files(&missing, &key).start().is_err());
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn ends_politely_or_not_as_told() {
    let sandbox = Sandbox::builder().tls(true).start().unwrap();
    sandbox.behave_next(Behaviour::KeepAliveOff);
    let mut client = trusting(&sandbox, "sandbox.test").unwrap();
    assert_eq!(client.ask(risk_call()).status, 200);
    // A clean end: close_notify came before the FIN.
    assert!(client.rest().1.is_ok());
    assert!(client.stream.conn.process_new_packets().unwrap().peer_has_closed());

    for behaviour in [Behaviour::HalfClose, Behaviour::Truncate { declared: 9, sent: 1 }] {
        sandbox.behave_next(behaviour);
        let mut client = trusting(&sandbox, "sandbox.test").unwrap();
        client.send(risk_call());
        let _ = client.rest();
        assert!(!client.stream.conn.process_new_packets().unwrap().peer_has_closed());
    }
    sandbox.behave_next(Behaviour::Huge(3 << 20));
    let mut client = trusting(&sandbox, "sandbox.test").unwrap();
    assert_eq!(client.ask(risk_call()).body.len(), 3 << 20);
}

#[test]
fn a_silent_server_can_be_had_before_the_handshake() {
    let sandbox = Sandbox::builder().tls(true).start().unwrap();
    sandbox.on_accept(OnAccept::Hang);
    let socket = TcpStream::connect(sandbox.addr()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(80))).unwrap();
    let mut plain = Client::over(socket);
    plain.send(b"\x16\x03\x01\x00\x01\x00");
    assert!(plain.rest().1.is_err());
    sandbox.on_accept(OnAccept::Serve);
    let mut plain = Client::connect(sandbox.addr());
    plain.send("GET / HTTP/1.1\r\nHost: plain\r\n\r\n");
    let _ = plain.rest();
    assert_eq!(sandbox.wait_for_handshake_failures(1, LIMIT).len(), 1);
}
