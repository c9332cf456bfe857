//! TLS, with certificates on both sides.
//!
//! As in ZEO, the file or folder `authenticate` says which servers the client believes: it has the certificates of
//! authorities, or those of the servers themselves. The server's name is checked, unless it is said not to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// The files of a client that speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The client's certificate, and those between it and its authority, as PEM. Vellum's and ZEO's servers want one.
    pub certificate: Option<PathBuf>,
    /// The client's key as PEM; if there is none, it is in the file of the certificate.
    pub key: Option<PathBuf>,
    /// Certificates of authorities or of servers as PEM: a file, or a folder of files.
    pub authenticate: PathBuf,
    /// The name that the server's certificate must have; without it, the host of the server's address.
    pub server_name: Option<String>,
    /// Whether the name is checked.
    pub checks_name: bool,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the messages show")]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: pem::Error },
    /// A folder cannot be read.
    #[error("{}: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    /// There is nothing in it.
    #[error("{}: there is no certificate in it", path.display())]
    NoCertificate { path: PathBuf },
    /// They do not fit together.
    #[error("{}: {source}", path.display())]
    Unfit { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Certificates.
#[derive(Debug)]
pub struct Certificates {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl Certificates {
    /// Reads certificates.
    ///
    /// # Errors
    ///
    /// They cannot be used.
    pub fn read(files: &Files) -> Result<Certificates, TlsError> {
        let unfit = |path: &Path, source: Box<dyn std::error::Error + Send + Sync>| TlsError::Unfit {
            path: path.into(),
            source,
        };
        let believed = believed(&files.authenticate)?;
        let mut roots = RootCertStore::empty();
        for certificate in &believed {
            roots.add(certificate.clone()).map_err(|error| unfit(&files.authenticate, error.into()))?;
        }
        let provider = Arc::new(default_provider());
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let authorities = authorities.map_err(|error| unfit(&files.authenticate, error.into()))?;
        let verifier = Believes { authorities, certificates: believed, checks_name: files.checks_name };
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| unfit(&files.authenticate, error.into()))?;
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &files.certificate {
            None => config.with_no_client_auth(),
            Some(certificate) => {
                let key_path = files.key.as_ref().unwrap_or(certificate);
                let key = PrivateKeyDer::from_pem_file(key_path)
                    .map_err(|source| TlsError::Read { path: key_path.clone(), source })?;
                let chain = certificates(certificate)?;
                config.with_client_auth_cert(chain, key).map_err(|error| unfit(key_path, error.into()))?
            }
        };
        Ok(Certificates { config: Arc::new(config), server_name: files.server_name.clone() })
    }

    /// Speaks TLS with a server.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        let host = self.server_name.as_deref().unwrap_or(host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Read { path: path.into(), source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    let found = found.map_err(failed)?;
    if found.is_empty() { Err(TlsError::NoCertificate { path: path.into() }) } else { Ok(found) }
}

/// All certificates of a file or a folder. A folder may have other files, too.
fn believed(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    if !path.is_dir() {
        return certificates(path);
    }
    let failed = |source| TlsError::Folder { path: path.into(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.is_file() {
            found.extend(certificates(&file).unwrap_or_default());
        }
    }
    if found.is_empty() { Err(TlsError::NoCertificate { path: path.into() }) } else { Ok(found) }
}

/// Believes authorities, and the very certificates that it was given, as OpenSSL does. Those may be their own
/// authorities, which `openssl req -x509` makes them.
#[derive(Debug)]
struct Believes {
    authorities: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
    checks_name: bool,
}

impl ServerCertVerifier for Believes {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.authorities.verify_server_cert(certificate, between, name, ocsp, now) {
            // Everything else was looked at before.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            // Its times were looked at before; its name was not.
            Err(Error::InvalidCertificate(CertificateError::Other(other)))
                if format!("{other:?}").contains("CaUsedAsEndEntity") && self.certificates.contains(certificate) =>
            {
                if self.checks_name {
                    let parsed = tokio_rustls::rustls::server::ParsedCertificate::try_from(certificate)?;
                    tokio_rustls::rustls::client::verify_server_name(&parsed, name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
