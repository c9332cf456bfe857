//! TLS, with certificates on both sides.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vellum_client::{Client, ClientError, ClientOptions, Patience, tls};
use vellum_server::ServerOptions;

use crate::common;

/// A certificate and its key, as files.
fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

/// The address of a server that believes this client's certificate.
fn serve(server: &(PathBuf, PathBuf), client: &Path) -> String {
    let files = vellum_server::tls::Files {
        certificate: server.0.clone(),
        key: Some(server.1.clone()),
        authenticate: client.to_owned(),
    };
    let certificates = Arc::new(vellum_server::tls::Certificates::read(files).unwrap());
    common::serve(ServerOptions { tls: Some(certificates), ..ServerOptions::default() })
}

/// The outcome of a connection with these files.
fn connect(address: &str, files: Option<&tls::Files>) -> Result<(), ClientError> {
    let second = Duration::from_secs(1);
    let mut options = ClientOptions::at(address);
    options.config.patience = Patience { connect: 2 * second, server: 2 * second, ..Patience::default() };
    options.tls = files.map(|files| Arc::new(tls::Certificates::read(files).unwrap()));
    Client::open(options).unwrap().connected().wait()
}

#[test]
fn a_client_and_a_server_believe_each_other_or_do_not_speak() {
    let folder = tempfile::tempdir().unwrap();
    let server = certificate(folder.path(), "server");
    let client = certificate(folder.path(), "client");
    let stranger = certificate(folder.path(), "stranger");
    let address = serve(&server, &client.0);
    let files = tls::Files {
        certificate: Some(client.0.clone()),
        key: Some(client.1.clone()),
        authenticate: server.0.clone(),
        server_name: None,
        checks_name: true,
    };
    assert_eq!(connect(&address, Some(&files)), Ok(()));
    let refused = |files: tls::Files| match connect(&address, Some(&files)) {
        Err(ClientError::NotConnected { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(tls::Files { authenticate: stranger.0.clone(), ..files.clone() });
    assert!(why.contains("certificate"), "{why}");
    let other_name = tls::Files { server_name: Some("example.org".to_owned()), ..files.clone() };
    let why = refused(other_name.clone());
    assert!(why.contains("not valid for name"), "{why}");
    assert_eq!(connect(&address, Some(&tls::Files { checks_name: false, ..other_name })), Ok(()));
    refused(tls::Files { certificate: Some(stranger.0.clone()), key: Some(stranger.1.clone()), ..files.clone() });
    // Without TLS there is no greeting.
    assert!(matches!(connect(&address, None), Err(ClientError::NotConnected { .. })));
}
