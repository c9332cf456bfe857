//! A server: where it listens, how it is run, and how it ends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use vellum_storage::Clock;
use vellum_wire::Codec;

use crate::hub::{Hub, Offered};
use crate::tls::Certificates;
use crate::{Config, Door, Monitor};

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // No client finds it any more. If it is gone already, that is fine.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How a server is run.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The codec that clients are asked to speak.
    pub codec: Codec,
    /// The operator's choices of the protocol.
    pub config: Config,
    /// So many of the last transactions are remembered for clients that were away.
    pub invalidation_queue_size: usize,
    /// Clients that were away no longer than this are told what they missed even so.
    pub invalidation_age: Option<Duration>,
    /// Bytes that a message may have: 512 MiB.
    pub message_size_max: usize,
    /// A client that leaves more than so many bytes unread is not read from: 8 MiB.
    pub unread_max: usize,
    /// Clients that may be connected at the same time: 1000. More wait to be accepted.
    pub connections_max: usize,
    /// A client that has not greeted after this is gone: 30 s. With TLS it has the same time for that first.
    pub greeting_timeout: Duration,
    /// The end waits so long for transactions that are voted: 10 s.
    pub patience: Duration,
    /// The certificates, where clients speak TLS.
    pub tls: Option<Arc<Certificates>>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            codec: Codec::Pickle,
            config: Config {
                is_read_only: false,
                transaction_timeout: None,
                clients_resolve: false,
                offers_extensions: true,
                started: String::new(),
                memory: crate::Memory::default(),
            },
            invalidation_queue_size: 100,
            invalidation_age: None,
            message_size_max: 512 << 20,
            unread_max: 8 << 20,
            connections_max: 1000,
            greeting_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(10),
            tls: None,
        }
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port; port 0 is any free one.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Accepts connections.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A server that accepts connections when it is run.
pub struct Server {
    hub: Arc<Hub>,
    door: Door,
    listeners: Vec<Listener>,
    patience: Duration,
}

/// How often the machine is told the time.
const TICK: Duration = Duration::from_millis(250);
const LISTEN_AGAIN: Duration = Duration::from_millis(100);
/// Clients have so long at the end to read what they were answered.
const FAREWELL: Duration = Duration::from_secs(2);

impl Server {
    /// Listens at these addresses.
    ///
    /// # Errors
    ///
    /// An address is in use, or invalid; a storage cannot be read.
    pub async fn bind(
        addresses: &[Address],
        offered: Vec<Offered>,
        clock: Arc<dyn Clock>,
        options: ServerOptions,
    ) -> io::Result<Server> {
        let mut listeners = Vec::new();
        for address in addresses {
            listeners.push(match address {
                Address::Tcp(address) => Listener::Tcp(TcpListener::bind(address).await?),
                Address::Unix(path) => Listener::Unix(listen_at(path).await?, path.clone()),
            });
        }
        let (queue_size, age) = (options.invalidation_queue_size, options.invalidation_age);
        let hub = Hub::new(options.config.clone(), offered, queue_size, age, clock).map_err(io::Error::other)?;
        let patience = options.patience;
        let door = Door::new(Arc::clone(&hub), Arc::new(options));
        Ok(Server { hub, door, listeners, patience })
    }

    /// Where it listens: with the port that the system has chosen.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn addresses(&self) -> io::Result<Vec<String>> {
        let address = |listener: &Listener| match listener {
            Listener::Tcp(listener) => listener.local_addr().map(|address| address.to_string()),
            Listener::Unix(_, path) => Ok(path.display().to_string()),
        };
        self.listeners.iter().map(address).collect()
    }

    /// Where clients come in that do not come by a socket.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Has a monitor tell of this server.
    pub fn tell(&self, monitor: &Monitor) {
        monitor.watch(Arc::downgrade(&self.hub));
    }

    /// Serves clients until `end` is there. Then it accepts no client any more, voted transactions have some time to be
    /// finished, and all connections are closed.
    ///
    /// # Errors
    ///
    /// The system accepts no connections any more.
    pub async fn run(self, end: impl Future<Output = ()>) -> io::Result<()> {
        let Server { hub, door, listeners, patience } = self;
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept(listener, door.clone()));
        }
        let mut ticks = tokio::time::interval(TICK);
        tokio::pin!(end);
        let ended = loop {
            tokio::select! {
                () = &mut end => break Ok(()),
                _ = ticks.tick() => hub.tick(),
                Some(stopped) = accepting.join_next() => {
                    break stopped.map_err(io::Error::other).and_then(|ended| ended);
                }
            }
        };
        // Listeners are closed with their tasks.
        accepting.abort_all();
        while accepting.join_next().await.is_some() {}
        hub.end();
        let begun = tokio::time::Instant::now();
        while hub.voted() > 0 && begun.elapsed() < patience {
            tokio::time::sleep(LISTEN_AGAIN / 10).await;
        }
        hub.close();
        // The last finished transactions are still to be reported to their clients.
        let _ = tokio::time::timeout(FAREWELL, door.wait_until_empty()).await;
        ended
    }
}

/// Listens at a Unix socket. A socket without a listener is replaced.
async fn listen_at(path: &std::path::Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match tokio::net::UnixStream::connect(path).await {
            Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            _ => Err(error),
        },
        bound => bound,
    }
}

async fn accept(listener: Listener, door: Door) -> io::Result<()> {
    loop {
        let place = door.place().await;
        match &listener {
            Listener::Tcp(listener) => match listener.accept().await {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    if let Err(error) = ask_for_life(&stream) {
                        tracing::debug!(%peer, %error, "a client that loses power may be noticed late");
                    }
                    door.admit(stream, peer.to_string(), place);
                }
                Err(error) => wait_after(&error).await,
            },
            Listener::Unix(listener, path) => match listener.accept().await {
                Ok((stream, _)) => door.admit(stream, path.display().to_string(), place),
                Err(error) => wait_after(&error).await,
            },
        }
    }
}

/// A client says nothing for this time before its machine is asked whether it is there,
const SILENT: Duration = Duration::from_secs(60);
/// and then so often,
const ASKED_EVERY: Duration = Duration::from_secs(10);
/// and so many times. Then the connection has ended.
const ASKED: u32 = 6;

/// Has the system notice that a client's machine is gone without a word, which sends nothing any more. Its locks would
/// be kept for ever.
fn ask_for_life(stream: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl};
    set_tcp_keepidle(stream, SILENT)?;
    set_tcp_keepintvl(stream, ASKED_EVERY)?;
    set_tcp_keepcnt(stream, ASKED)?;
    set_socket_keepalive(stream, true)
}

/// A connection that could not be accepted, for lack of file descriptors for example, is no reason to end.
async fn wait_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(LISTEN_AGAIN).await;
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::{socket_keepalive, tcp_keepidle};

    use super::*;

    #[tokio::test]
    async fn a_client_whose_machine_is_gone_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(socket_keepalive(&stream), Ok(false), "the system does not do it by itself");
        ask_for_life(&stream).unwrap();
        assert_eq!(socket_keepalive(&stream), Ok(true));
        assert_eq!(tcp_keepidle(&stream), Ok(SILENT));
    }
}
