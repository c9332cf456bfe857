//! Where clients come in: one place for each, TLS first if that is spoken, and then the conversation.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use vellum_sync::Mutex;

use crate::ServerOptions;
use crate::conversation::{Conversation, Ended};
use crate::hub::Hub;

/// Where clients come in. Clones are the same door.
#[derive(Clone)]
pub struct Door {
    hub: Arc<Hub>,
    options: Arc<ServerOptions>,
    places: Arc<Semaphore>,
    /// Whether the log says that all places are taken.
    is_full: Arc<AtomicBool>,
    refusals: Arc<Mutex<Refusals>>,
}

/// Why clients were refused: when that was logged last, and how many more there were since. ZEO's client tries again at
/// once.
type Refusals = BTreeMap<String, (Instant, u64)>;

/// A reason to refuse clients is logged once in this time.
const REFUSAL_LOGGED_EVERY: Duration = Duration::from_secs(60);
/// So many reasons are told apart.
const REASONS_MAX: usize = 100;

impl Door {
    pub(crate) fn new(hub: Arc<Hub>, options: Arc<ServerOptions>) -> Door {
        let places = Arc::new(Semaphore::new(options.connections_max));
        Door { hub, options, places, is_full: Arc::default(), refusals: Arc::default() }
    }

    /// Serves a client that comes by a stream of any kind: a pipe, say. `peer` is what to call it in logs.
    pub async fn enter(&self, stream: impl AsyncRead + AsyncWrite + Send + 'static, peer: &str) {
        let place = self.place().await;
        self.admit(stream, peer.to_owned(), place);
    }

    /// The state of the server.
    pub fn report(&self) -> crate::report::Report {
        self.hub.report()
    }

    /// A place for one more client, when there is one.
    pub(crate) async fn place(&self) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            self.is_full.store(false, Ordering::Relaxed);
            return place;
        }
        if !self.is_full.swap(true, Ordering::Relaxed) {
            let connections = self.options.connections_max;
            tracing::warn!(connections, "there are as many connections as there may be: more clients have to wait");
        }
        Arc::clone(&self.places).acquire_owned().await.expect("places are never closed")
    }

    /// Serves a client by a task of its own, which ends when its link is closed.
    pub(crate) fn admit(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        peer: String,
        place: OwnedSemaphorePermit,
    ) {
        let door = self.clone();
        tokio::spawn(async move {
            door.receive(stream, &peer).await;
            drop(place);
        });
    }

    async fn receive(&self, stream: impl AsyncRead + AsyncWrite + Send + 'static, peer: &str) {
        let Some(certificates) = &self.options.tls else { return self.serve(stream, peer).await };
        let handshake = certificates.acceptor().accept(Box::pin(stream));
        match tokio::time::timeout(self.options.greeting_timeout, handshake).await {
            Ok(Ok(stream)) => self.serve(stream, peer).await,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => self.hub.port_checked(peer),
            Ok(Err(error)) => self.refuse(peer, crate::tls::explain(&error)),
            Err(_) => {
                let why = "it did not begin to speak TLS in time: a client without TLS waits to be greeted";
                self.refuse(peer, why.to_owned());
            }
        }
    }

    fn refuse(&self, peer: &str, why: String) {
        let mut refusals = self.refusals.lock();
        match refusals.get_mut(&why) {
            Some((logged, more)) if logged.elapsed() < REFUSAL_LOGGED_EVERY => *more += 1,
            known => {
                let more = known.map_or(0, |(_, more)| *more);
                tracing::warn!(peer, why, more, "a client was refused; more with this reason are counted for a minute");
                if refusals.len() >= REASONS_MAX {
                    refusals.clear();
                }
                refusals.insert(why, (Instant::now(), 0));
            }
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite, peer: &str) {
        let (connection, link) = self.hub.connect(peer.to_owned());
        let conversation = Conversation::new(connection, &self.hub, &link, &self.options);
        let ended: io::Result<Ended> = conversation.go_on(stream, &self.options).await;
        self.hub.disconnect(connection, peer, ended);
    }

    /// Waits until no client is connected.
    pub(crate) async fn wait_until_empty(&self) {
        let all = u32::try_from(self.options.connections_max).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(all).await;
    }
}
