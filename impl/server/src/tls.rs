//! TLS, with certificates on both sides.
//!
//! As in ZEO, the file or folder `authenticate` has the trusted certificates: those of authorities, or of the clients
//! themselves. All others are refused. Certificates can be read again while the server runs:
//! connections stay, and new ones are received with the new certificates.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, InvalidMessage, RootCertStore, ServerConfig,
    SignatureScheme,
};
use vellum_sync::Mutex;

/// The files of a server that speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate, and those between it and its authority, as PEM.
    pub certificate: PathBuf,
    /// The server's key as PEM; if there is none, it is in the file of the certificate.
    pub key: Option<PathBuf>,
    /// Certificates of authorities or of clients as PEM: a file, or a folder of files.
    pub authenticate: PathBuf,
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
    /// There is no key, or one with a password.
    #[error("{}: {why}", path.display())]
    Key { path: PathBuf, why: &'static str },
    /// A program would have to choose the trusted certificates.
    #[error(
        "`authenticate DYNAMIC` leaves it to a program which clients get in: here that has to be a file or a folder"
    )]
    Dynamic,
    /// They do not fit together.
    #[error("{}: {source}", path.display())]
    Unfit { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Certificates that can be read again.
#[derive(Debug)]
pub struct Certificates {
    files: Files,
    config: Mutex<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads certificates.
    ///
    /// # Errors
    ///
    /// They cannot be used.
    pub fn read(files: Files) -> Result<Certificates, TlsError> {
        let config = Mutex::new(Arc::new(config(&files)?));
        Ok(Certificates { files, config })
    }

    /// Reads them again. If they cannot be used, everything stays as it was.
    ///
    /// # Errors
    ///
    /// They cannot be used.
    pub fn read_again(&self) -> Result<(), TlsError> {
        let new = Arc::new(config(&self.files)?);
        *self.config.lock() = new;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config.lock()))
    }
}

fn config(files: &Files) -> Result<ServerConfig, TlsError> {
    if files.authenticate == Path::new("DYNAMIC") {
        return Err(TlsError::Dynamic);
    }
    let chain = certificates(&files.certificate)?;
    let key_path = files.key.as_ref().unwrap_or(&files.certificate);
    let key = key(key_path)?;
    let believed = believed(&files.authenticate)?;
    let unfit =
        |path: &Path, source: Box<dyn std::error::Error + Send + Sync>| TlsError::Unfit { path: path.into(), source };
    let mut roots = RootCertStore::empty();
    for certificate in &believed {
        roots.add(certificate.clone()).map_err(|error| unfit(&files.authenticate, error.into()))?;
    }
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.build().map_err(|error| unfit(&files.authenticate, error.into()))?;
    let verifier = Arc::new(Believes { authorities: verifier, certificates: believed });
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| unfit(&files.certificate, error.into()))?.with_client_cert_verifier(verifier);
    config.with_single_cert(chain, key).map_err(|error| unfit(key_path, error.into()))
}

/// All certificates of a file.
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

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let why = |why| TlsError::Key { path: path.into(), why };
    match PrivateKeyDer::from_pem_file(path) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(match std::fs::read_to_string(path) {
            Ok(text) if text.contains("ENCRYPTED") => {
                why("the key has a password, which cannot be typed here: `openssl pkey` writes a key without one")
            }
            _ => why("there is no key in it"),
        }),
        Err(source) => Err(TlsError::Read { path: path.into(), source }),
    }
}

/// Believes authorities, and the very certificates that it was given, as OpenSSL does. Those may be their own
/// authorities, which `openssl req -x509` makes them.
struct Believes {
    authorities: Arc<dyn ClientCertVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Believes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.certificates.len())
    }
}

impl ClientCertVerifier for Believes {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.authorities.verify_client_cert(certificate, between, now) {
            // Its times were looked at before.
            Err(Error::InvalidCertificate(CertificateError::Other(other)))
                if format!("{other:?}").contains("CaUsedAsEndEntity") && self.certificates.contains(certificate) =>
            {
                Ok(ClientCertVerified::assertion())
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

/// Why a handshake failed, for the log.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => "it does not speak TLS".to_owned(),
        Some(Error::NoCertificatesPresented) => "it has no certificate".to_owned(),
        Some(Error::InvalidCertificate(why)) => format!("its certificate is not believed: {why}"),
        _ => error.to_string(),
    }
}
