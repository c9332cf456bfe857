//! The network: a task for each client, which moves bytes and knows nothing of the protocol but its frames.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use vellum_storage::Clock;
use vellum_wire::{Codec, Frames, Greeting, Limits, PlainLoad, Rope, greet};

use crate::hub::{Hub, Item, Link, Offered};
use crate::{Config, ConnectionId, Event};

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // Nobody finds it any more. If it is gone already, that is as well.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How a server is run.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The codec that clients are asked to speak.
    pub codec: Codec,
    /// What the protocol leaves to the operator.
    pub config: Config,
    /// So many of the last transactions are remembered for clients that were away.
    pub invalidation_queue_size: usize,
    /// Clients that were away no longer than this are told what they missed even so.
    pub invalidation_age: Option<Duration>,
    /// Bytes that a message may have.
    pub message_size_max: usize,
    /// Clients that may be connected at the same time.
    pub connections_max: usize,
    /// A client that has not greeted after this is gone.
    pub greeting_timeout: Duration,
    /// The end waits so long for transactions that are voted.
    pub patience: Duration,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            codec: Codec::Pickle,
            config: Config {
                is_read_only: false,
                transaction_timeout: None,
                clients_resolve: false,
                started: String::new(),
            },
            invalidation_queue_size: 100,
            invalidation_age: None,
            message_size_max: 512 << 20,
            connections_max: 1000,
            greeting_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(10),
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

/// What accepts connections.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A server that accepts connections when it is run.
pub struct Server {
    hub: Arc<Hub>,
    listeners: Vec<Listener>,
    options: Arc<ServerOptions>,
}

/// So much is read at once.
const READ_SIZE: usize = 64 << 10;
/// A client that leaves more than this unread is not read from.
const UNREAD_MAX: usize = 8 << 20;
/// Values in a message. What a client sends has few; an extension of 64 KiB has the most.
const PARTS_MAX: usize = 1 << 16;
/// How often the machine is told the time.
const TICK: Duration = Duration::from_millis(250);
const LISTEN_AGAIN: Duration = Duration::from_millis(100);

impl Server {
    /// Listens at these addresses.
    ///
    /// # Errors
    ///
    /// An address is in use, or is none; a storage cannot be read.
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
        Ok(Server { hub, listeners, options: Arc::new(options) })
    }

    /// Where it listens: with the port that the system has chosen.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn addresses(&self) -> io::Result<Vec<String>> {
        let address = |listener: &Listener| match listener {
            Listener::Tcp(listener) => listener.local_addr().map(|address| address.to_string()),
            Listener::Unix(_, path) => Ok(path.display().to_string()),
        };
        self.listeners.iter().map(address).collect()
    }

    /// Serves clients until `end` is there. Then nobody is accepted any more, transactions that are voted have some time to
    /// be finished, and all connections are closed.
    ///
    /// # Errors
    ///
    /// The system accepts no connections any more.
    pub async fn run(self, end: impl Future<Output = ()>) -> io::Result<()> {
        let Server { hub, listeners, options } = self;
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept(listener, Arc::clone(&hub), Arc::clone(&options)));
        }
        let mut ticks = tokio::time::interval(TICK);
        tokio::pin!(end);
        let ended = loop {
            tokio::select! {
                () = &mut end => break Ok(()),
                _ = ticks.tick() => hub.tick(),
                Some(stopped) = accepting.join_next() => break stopped.map_err(io::Error::other).and_then(|ended| ended),
            }
        };
        // Listeners are closed with their tasks.
        accepting.abort_all();
        while accepting.join_next().await.is_some() {}
        let begun = tokio::time::Instant::now();
        while hub.voted() > 0 && begun.elapsed() < options.patience {
            tokio::time::sleep(LISTEN_AGAIN / 10).await;
        }
        hub.close();
        ended
    }
}

/// Listens at a Unix socket. A socket that nobody listens at any more is replaced.
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

async fn accept(listener: Listener, hub: Arc<Hub>, options: Arc<ServerOptions>) -> io::Result<()> {
    let room = Arc::new(tokio::sync::Semaphore::new(options.connections_max));
    loop {
        let place = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
        let (hub, options) = (Arc::clone(&hub), Arc::clone(&options));
        // A client's task outlives this one: it ends when its link is closed.
        match &listener {
            Listener::Tcp(listener) => match listener.accept().await {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(async move {
                        serve(stream, peer.to_string(), hub, options).await;
                        drop(place);
                    });
                }
                Err(error) => wait_after(&error).await,
            },
            Listener::Unix(listener, path) => match listener.accept().await {
                Ok((stream, _)) => {
                    let peer = path.display().to_string();
                    tokio::spawn(async move {
                        serve(stream, peer, hub, options).await;
                        drop(place);
                    });
                }
                Err(error) => wait_after(&error).await,
            },
        }
    }
}

/// A connection that could not be accepted, for want of file descriptors for example, is no reason to end.
async fn wait_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(LISTEN_AGAIN).await;
}

/// Moves a client's bytes, until it is gone.
async fn serve<S: AsyncRead + AsyncWrite>(stream: S, peer: String, hub: Arc<Hub>, options: Arc<ServerOptions>) {
    let (connection, link) = hub.connect(peer);
    let ended = converse(stream, connection, &link, &hub, &options).await;
    if let Err(error) = ended {
        tracing::debug!(connection = connection.0, %error, "a connection ended");
    }
    hub.disconnect(connection);
}

/// A client's side of the shell.
struct Conversation<'a> {
    connection: ConnectionId,
    hub: &'a Arc<Hub>,
    frames: Frames,
    codec: Option<Codec>,
    rope: Rope,
    is_closing: bool,
}

async fn converse<S: AsyncRead + AsyncWrite>(
    stream: S,
    connection: ConnectionId,
    link: &Link,
    hub: &Arc<Hub>,
    options: &ServerOptions,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let frames = Frames::new(options.message_size_max);
    let mut conversation =
        Conversation { connection, hub, frames, codec: None, rope: Rope::default(), is_closing: false };
    conversation.send_frame(greet(options.codec));
    let mut buffer = vec![0; READ_SIZE];
    let greeting_ends = tokio::time::Instant::now() + options.greeting_timeout;
    loop {
        conversation.take(link);
        if conversation.rope.is_empty() && conversation.is_closing {
            return writer.shutdown().await;
        }
        let has_room = conversation.rope.len() < UNREAD_MAX;
        tokio::select! {
            biased;
            written = writer.write_buf(&mut conversation.rope), if !conversation.rope.is_empty() => {
                if written? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                // What is written should not wait in a buffer of TLS.
                if conversation.rope.is_empty() {
                    writer.flush().await?;
                }
            }
            read = reader.read(&mut buffer), if has_room && !conversation.is_closing => {
                let count = read?;
                if count == 0 {
                    return Ok(());
                }
                conversation.hear(&buffer[..count]);
            }
            () = link.changed.notified() => {}
            () = tokio::time::sleep_until(greeting_ends), if conversation.codec.is_none() && !conversation.is_closing => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the client did not greet"));
            }
        }
    }
}

impl Conversation<'_> {
    /// Bytes arrived.
    fn hear(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
        let connection = self.connection;
        loop {
            let event = match (self.frames.next_frame(), self.codec) {
                (Ok(None), _) => return,
                (Ok(Some(frame)), None) => {
                    let greeting = Greeting::of(&frame);
                    if let Greeting::Speaks(codec) = greeting {
                        self.codec = Some(codec);
                    }
                    Event::Greeted { connection, greeting }
                }
                (Ok(Some(frame)), Some(codec)) => match PlainLoad::of(codec, &frame) {
                    Some(load) => Event::Load { connection, load },
                    None => match codec.decode(&frame, Limits { parts_max: PARTS_MAX }) {
                        Ok(message) => Event::Received { connection, message },
                        Err(error) => Event::Malformed { connection, why: error.to_string() },
                    },
                },
                (Err(too_large), _) => Event::Malformed { connection, why: too_large.to_string() },
            };
            let is_last = matches!(event, Event::Malformed { .. });
            self.hub.happen(event);
            if is_last {
                self.is_closing = true;
                return;
            }
        }
    }

    /// Takes over what the machine wants sent.
    fn take(&mut self, link: &Link) {
        let outgoing = link.take();
        self.is_closing |= outgoing.is_closing;
        for item in outgoing.items {
            match item {
                Item::Codec(codec) => self.codec = Some(codec),
                Item::Frame(frame) => self.send_frame(frame.as_bytes()),
                Item::Message(message) => {
                    let codec = self.codec.expect("the machine answers a client that has greeted");
                    let id = message.id.clone();
                    if codec.encode(message, &mut self.rope).is_err() {
                        let fault = vellum_wire::Fault::text("builtins.ValueError", "Couldn't pickle response");
                        let error = vellum_wire::Message::error(id, fault.into_value(codec));
                        codec.encode(error, &mut self.rope).expect("an error can be written");
                    }
                }
            }
        }
    }

    fn send_frame(&mut self, frame: &[u8]) {
        let write = |rope: &mut Rope| {
            vellum_pickle::Sink::extend_from_slice(rope, frame);
            Ok::<_, std::convert::Infallible>(())
        };
        let Ok(()) = self.rope.frame(write);
    }
}
