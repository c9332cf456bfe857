//! Where clients come in: one place for each, TLS first if that is spoken, and then the conversation.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
}

impl Door {
    pub(crate) fn new(hub: Arc<Hub>, options: Arc<ServerOptions>) -> Door {
        let places = Arc::new(Semaphore::new(options.connections_max));
        Door { hub, options, places, is_full: Arc::default() }
    }

    /// Serves a client that comes by a stream of any kind: a pipe, say. `peer` is what to call it in logs.
    pub async fn enter(&self, stream: impl AsyncRead + AsyncWrite + Send + 'static, peer: &str) {
        let place = self.place().await;
        self.admit(stream, peer.to_owned(), place);
    }

    /// What there is to see of the server.
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
            Ok(Err(error)) => tracing::info!(peer, why = crate::tls::explain(&error), "a client was refused"),
            Err(_) => {
                let why = "it did not begin to speak TLS in time: a client without TLS waits to be greeted";
                tracing::info!(peer, why, "a client was refused");
            }
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite, peer: &str) {
        let (connection, link) = self.hub.connect(peer.to_owned());
        let conversation = Conversation::new(connection, &self.hub, &link, &self.options);
        let ended: io::Result<Ended> = conversation.go_on(stream, &self.options).await;
        self.hub.disconnect(connection, peer, ended);
    }

    /// Waits until nobody is there.
    pub(crate) async fn wait_until_empty(&self) {
        let all = u32::try_from(self.options.connections_max).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(all).await;
    }
}
