//! Certificates: a small authority of its own for every sandbox, or the operator's files.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What may be wrong with the certificate of a sandbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CertificateFault {
    /// Nothing: signed by [`Sandbox::ca_pem`](crate::Sandbox::ca_pem), for the right names.
    #[default]
    None,
    /// It is for `elsewhere.test` only.
    WrongName,
    /// It ran out in 2001.
    Expired,
    /// It is signed by an authority nobody has seen.
    UnknownIssuer,
}

/// The TLS side of a server.
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// The authority to trust, PEM; none for the operator's own certificate.
    pub(crate) ca_pem: Option<String>,
}

impl Tls {
    /// A fresh authority and a certificate for localhost, sandbox.test, 127.0.0.1, ::1 and the
    /// names given.
    pub(crate) fn generate(more_names: &[String], fault: CertificateFault) -> Result<Self, String> {
        let failed = |why: rcgen::Error| format!("cannot make a certificate: {why}");
        let (authority, ca_pem) = authority().map_err(failed)?;
        let names: Vec<String> = match fault {
            CertificateFault::WrongName => vec!["elsewhere.test".into()],
            _ => ["localhost", "sandbox.test", "127.0.0.1", "::1"]
                .into_iter()
                .map(str::to_owned)
                .chain(more_names.iter().cloned())
                .collect(),
        };
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, "px-sandbox");
        if fault == CertificateFault::Expired {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = match fault {
            CertificateFault::UnknownIssuer => self::authority().map_err(failed)?.0,
            _ => authority,
        };
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = server_config(vec![certificate.der().clone()], key)?;
        Ok(Self { config, ca_pem: Some(ca_pem) })
    }

    /// The operator's certificate chain and key, PEM files.
    pub(crate) fn from_files(certificate: &Path, key: &Path) -> Result<Self, String> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|why| format!("cannot read certificate {}: {why}", certificate.display()))?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|why| format!("cannot read key {}: {why}", key.display()))?;
        Ok(Self { config: server_config(chain, key)?, ca_pem: None })
    }
}

fn authority() -> Result<(Issuer<'static, KeyPair>, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "px-sandbox authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, String> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|why| format!("TLS: {why}"))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|why| format!("certificate and key: {why}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
