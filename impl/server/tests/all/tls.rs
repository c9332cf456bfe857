//! TLS with certificates on both sides.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use vellum_server::ServerOptions;
use vellum_server::tls::{Certificates, Files};
use vellum_storage::Tid;

use crate::shell::{Client, Site};

/// A certificate with its key.
struct Identity {
    certificate: Certificate,
    key: KeyPair,
}

impl Identity {
    /// One that signs itself, and may sign others if it is an authority.
    fn own(name: &str, is_authority: bool) -> Identity {
        let (params, key) = (params(name, is_authority), KeyPair::generate().unwrap());
        Identity { certificate: params.self_signed(&key).unwrap(), key }
    }

    /// One that an authority signs.
    fn signed(name: &str, authority: &Identity) -> Identity {
        let key = KeyPair::generate().unwrap();
        let authoritys = params("authority", true);
        let issuer = Issuer::from_params(&authoritys, &authority.key);
        Identity { certificate: params(name, false).signed_by(&key, &issuer).unwrap(), key }
    }

    fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.pem")), self.certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), self.key.serialize_pem()).unwrap();
    }
}

fn params(name: &str, is_authority: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = if is_authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    params
}

fn files(folder: &Path) -> Files {
    Files {
        certificate: folder.join("server.pem"),
        key: Some(folder.join("server.key")),
        authenticate: folder.join("clients.pem"),
    }
}

/// A server whose clients are signed by an authority.
struct Ground {
    folder: tempfile::TempDir,
    authority: Identity,
    server: Identity,
    certificates: Arc<Certificates>,
    site: Site,
}

impl Ground {
    async fn new() -> Ground {
        let folder = tempfile::tempdir().unwrap();
        let authority = Identity::own("authority", true);
        let server = Identity::own("zeo.example", false);
        server.write(folder.path(), "server");
        authority.write(folder.path(), "clients");
        let certificates = Arc::new(Certificates::read(files(folder.path())).unwrap());
        let options = ServerOptions { tls: Some(Arc::clone(&certificates)), ..ServerOptions::default() };
        Ground { folder, authority, server, certificates, site: Site::new(options).await }
    }

    /// A client that believes this server, with a certificate or without.
    async fn connect(&self, server: &Identity, client: Option<&Identity>) -> std::io::Result<TlsStream<DuplexStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(server.certificate.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => config.with_no_client_auth(),
            Some(client) => {
                let key = PrivateKeyDer::try_from(client.key.serialize_der()).unwrap();
                let chain: Vec<CertificateDer<'static>> = vec![client.certificate.der().clone()];
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from("zeo.example").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.site.pipe(64 << 10).await).await
    }

    /// Whether such a client is served. With TLS 1.3 it learns only from the first answer that it is not.
    async fn serves(&self, client: Option<&Identity>) -> bool {
        let Ok(mut stream) = self.connect(&self.server, client).await else { return false };
        let mut greeting = [0; 6];
        stream.read_exact(&mut greeting).await.is_ok()
    }
}

#[tokio::test]
async fn only_those_with_a_certificate_that_is_believed_get_in() {
    let ground = Ground::new().await;
    let friend = Identity::signed("friend", &ground.authority);
    let mut ann = Client::new(ground.connect(&ground.server, Some(&friend)).await.unwrap());
    ann.register().await;
    ann.commit(0, Tid::ZERO, "one").await.unwrap();
    assert!(!ground.serves(None).await, "without a certificate");
    assert!(!ground.serves(Some(&Identity::own("friend", false))).await, "with one that nobody signed");
    let other = Identity::own("authority", true);
    assert!(!ground.serves(Some(&Identity::signed("friend", &other))).await, "with one of another authority");
    ann.load(0).await.expect("it is still served");
    ground.site.end().await;
}

/// OpenSSL's `req -x509` makes certificates that are their own authority, and ZEO's users list them.
#[tokio::test]
async fn a_listed_certificate_gets_in_whether_it_is_an_authority_or_not() {
    for is_authority in [true, false] {
        let mut ground = Ground::new().await;
        let listed = Identity::own("listed", is_authority);
        listed.write(ground.folder.path(), "clients");
        ground.certificates.read_again().unwrap();
        assert!(ground.serves(Some(&listed)).await, "{is_authority}");
        let alike = Identity::own("listed", is_authority);
        assert!(!ground.serves(Some(&alike)).await, "one of the same name got in: {is_authority}");
        ground.site.begin_to_end();
    }
}

#[tokio::test]
async fn certificates_are_read_again_and_nobody_is_dropped() {
    let ground = Ground::new().await;
    let friend = Identity::signed("friend", &ground.authority);
    let mut ann = Client::new(ground.connect(&ground.server, Some(&friend)).await.unwrap());
    ann.register().await;
    let renewed = Identity::own("zeo.example", false);
    renewed.write(ground.folder.path(), "server");
    ground.certificates.read_again().unwrap();
    ann.commit(0, Tid::ZERO, "one").await.expect("it is still connected");
    ground.connect(&renewed, Some(&friend)).await.expect("the new certificate is shown");
    ground.connect(&ground.server, Some(&friend)).await.expect_err("the old certificate is shown");
    // Unusable files change nothing.
    std::fs::write(ground.folder.path().join("server.pem"), "nothing").unwrap();
    ground.certificates.read_again().unwrap_err();
    ground.connect(&renewed, Some(&friend)).await.expect("the last good certificate is shown");
    ground.site.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_hangs_costs_a_place_for_a_while_only() {
    let folder = tempfile::tempdir().unwrap();
    let server = Identity::own("zeo.example", false);
    server.write(folder.path(), "server");
    server.write(folder.path(), "clients");
    let tls = Some(Arc::new(Certificates::read(files(folder.path())).unwrap()));
    let site = Site::new(ServerOptions { tls, connections_max: 1, ..ServerOptions::default() }).await;
    let mut hanging = site.pipe(1000).await;
    hanging.write_all(b"\x16\x03\x01").await.unwrap();
    let begun = tokio::time::Instant::now();
    let mut plain = site.pipe(1000).await;
    assert!((30..32).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    // A client without TLS is not greeted, and not waited for either.
    plain.write_all(b"\0\0\0\x02Z5").await.unwrap();
    let mut found = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(40), plain.read_to_end(&mut found)).await.expect("it is closed");
    assert!(!found.windows(2).any(|found| found == b"Z5"));
    site.end().await;
}

#[test]
fn what_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Identity::own("zeo.example", false);
    server.write(folder.path(), "server");
    server.write(folder.path(), "clients");
    let path = |name: &str| folder.path().join(name);
    let good = || files(folder.path());
    let error = |files| Certificates::read(files).unwrap_err().to_string();
    std::fs::write(
        path("locked.key"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    std::fs::create_dir(path("empty")).unwrap();
    Identity::own("other", false).write(folder.path(), "other");
    for (files, wanted) in [
        (Files { authenticate: "DYNAMIC".into(), ..good() }, "has to be a file or a folder"),
        (Files { authenticate: path("empty"), ..good() }, "no certificate"),
        (Files { authenticate: path("server.key"), ..good() }, "no certificate"),
        (Files { key: Some(path("locked.key")), ..good() }, "has a password"),
        (Files { key: None, ..good() }, "no key"),
        (Files { key: Some(path("other.key")), ..good() }, "other.key"),
        (Files { certificate: path("missing.pem"), ..good() }, "missing.pem"),
    ] {
        let found = error(files);
        assert!(found.contains(wanted), "{found}");
    }
    Certificates::read(Files { authenticate: folder.path().into(), ..good() }).expect("a folder is a list");
}
