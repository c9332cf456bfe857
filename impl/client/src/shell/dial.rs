//! How connections are made.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::tls::Certificates;

/// A stream of bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Another handle on the same stream, by which any thread may write as much as can be written at once. None if
    /// there is no such handle.
    fn direct(&self) -> Option<Box<dyn io::Write + Send>> {
        None
    }
}

impl Stream for TcpStream {
    fn direct(&self) -> Option<Box<dyn io::Write + Send>> {
        // It does not block, as the first handle does not.
        let socket = self.as_fd().try_clone_to_owned().ok()?;
        Some(Box::new(std::net::TcpStream::from(socket)))
    }
}

impl Stream for UnixStream {
    fn direct(&self) -> Option<Box<dyn io::Write + Send>> {
        let socket = self.as_fd().try_clone_to_owned().ok()?;
        Some(Box::new(std::os::unix::net::UnixStream::from(socket)))
    }
}

impl Stream for DuplexStream {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for TlsStream<S> {}

/// The result of dialing.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Makes connections.
pub trait Dial: Send + Sync {
    /// Makes a connection to the address at this place of the list.
    fn dial(&self, address: usize) -> Dialing<'_>;
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Host and port.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Reads an address: a path, if there is a slash in it; otherwise host and port.
    pub fn parse(text: &str) -> Address {
        match text.strip_prefix("unix:") {
            Some(path) => Address::Unix(path.into()),
            None if text.contains('/') => Address::Unix(text.into()),
            None => Address::Tcp(text.to_owned()),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => f.write_str(address),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Makes connections by sockets.
pub(crate) struct Sockets {
    pub addresses: Vec<Address>,
    pub tls: Option<Arc<Certificates>>,
}

impl Dial for Sockets {
    fn dial(&self, address: usize) -> Dialing<'_> {
        let address = self.addresses.get(address);
        Box::pin(async move {
            match address {
                None => Err(io::Error::new(io::ErrorKind::NotFound, "there is no such address")),
                Some(Address::Tcp(address)) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    match &self.tls {
                        None => Ok(Box::new(stream) as Box<dyn Stream>),
                        Some(tls) => {
                            let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
                            Ok(Box::new(tls.connect(host, stream).await?) as Box<dyn Stream>)
                        }
                    }
                }
                Some(Address::Unix(path)) => {
                    let stream = UnixStream::connect(path).await?;
                    match &self.tls {
                        None => Ok(Box::new(stream) as Box<dyn Stream>),
                        Some(tls) => Ok(Box::new(tls.connect("localhost", stream).await?) as Box<dyn Stream>),
                    }
                }
            }
        })
    }
}
