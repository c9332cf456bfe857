//! A transaction of a client: its changes, and the two phases.

use std::sync::Arc;

use bytes::Bytes;
use vellum_storage::{Blob, Change, Error, Oid, Tid, Version};
use vellum_sync::Mutex;

use crate::ask::{Answer, Ask, BlobPart, TransactionId, Voted};
use crate::client::{Client, done, tid};
use crate::error::ClientError;
use crate::promise::Promise;
use crate::shell::hub::Hub;

/// A blob is sent in pieces of so many bytes, as ZEO's clients send it.
const PIECE: usize = 59_000;
/// A transaction that is under way. Changes stream out without being waited for; the vote says what is wrong with them.
/// Dropping it aborts it.
pub struct Transaction {
    client: Client,
    id: Promise<TransactionId>,
    /// Changes that were not sent when they were asked for.
    open: Mutex<Vec<Promise<()>>>,
    is_over: bool,
}

impl Transaction {
    /// A transaction that was begun.
    pub(crate) fn new(client: Client, id: Promise<TransactionId>) -> Transaction {
        Transaction { client, id, open: Mutex::default(), is_over: false }
    }

    /// Changes an object, or creates it; `serial` is the revision that was changed, [`Tid::ZERO`] for a new object. The
    /// oid may be a promise.
    ///
    /// The promise is kept when there is room for more: a caller that waits for it does not fill the memory.
    pub fn store(&self, oid: impl Into<Promise<Oid>>, serial: Tid, data: Bytes) -> Promise<()> {
        let oid = oid.into();
        let version = Version::TRUNK;
        match oid.get() {
            Some(Ok(oid)) => self.change(Change::Store { oid, serial, version, data: data.into() }),
            _ => {
                let (id, client) = (self.id.clone(), self.client.clone());
                let sent = oid.then(move |oid| {
                    let change = Change::Store { oid, serial, version, data: data.into() };
                    id.then(move |id| send(&client, id, change))
                });
                self.open.lock().push(sent.clone());
                sent
            }
        }
    }

    /// Changes an object that has a blob: rule 8.1. It reads the blob, and waits while too much is on its way.
    ///
    /// # Errors
    ///
    /// The blob cannot be read; the transaction is over.
    pub fn store_blob(&self, oid: Oid, serial: Tid, data: Bytes, blob: &Blob) -> vellum_storage::Result<()> {
        let remote = |error: ClientError| Error::Remote { name: "a server".to_owned(), why: error.to_string() };
        let transaction = self.id.wait().map_err(remote)?;
        let send = |part| {
            let sent = self.client.hub.ask(Ask::Blob { transaction, part }, done).wait();
            sent.and_then(|()| self.client.hub.room().wait()).map_err(remote)
        };
        send(BlobPart::Start)?;
        blob.pieces(PIECE, &mut |piece| send(BlobPart::Chunk(Bytes::copy_from_slice(piece))))?;
        send(BlobPart::End { oid, serial, data })
    }

    /// Changes anything, by the rules of part 3.
    pub fn change(&self, change: Change) -> Promise<()> {
        let sent = match self.id.get() {
            Some(Ok(id)) => send(&self.client, id, change),
            _ => {
                let client = self.client.clone();
                self.id.then(move |id| send(&client, id, change))
            }
        };
        if !matches!(sent.get(), Some(Ok(()))) {
            let mut open = self.open.lock();
            open.retain(|earlier| !matches!(earlier.get(), Some(Ok(()))));
            open.push(sent.clone());
        }
        sent
    }

    /// The first phase. It comes after all changes, and fails if one of them could not be sent.
    pub fn vote(&self) -> Promise<Voted> {
        let open = std::mem::take(&mut *self.open.lock());
        let (id, hub) = (self.id.clone(), Arc::clone(&self.client.hub));
        let sent = open.into_iter().fold(Promise::of(Ok(())), |before, change| before.then(move |()| change));
        sent.then(move |()| {
            id.then(move |transaction| {
                hub.ask(Ask::Vote { transaction }, |answer| match answer {
                    Answer::Voted(voted) => Some(voted),
                    _ => None,
                })
            })
        })
    }

    /// The second phase. If its answer is lost, the outcome is
    /// [unknown](crate::ClientError::OutcomeUnknown): it is never tried again.
    pub fn finish(mut self) -> Promise<Tid> {
        self.is_over = true;
        let hub = Arc::clone(&self.client.hub);
        self.id.then(move |transaction| hub.ask(Ask::Finish { transaction }, tid))
    }

    /// Both phases. Changes that the client would have to merge are a conflict.
    pub fn commit(mut self) -> Promise<Tid> {
        self.is_over = true;
        let (id, hub) = (self.id.clone(), Arc::clone(&self.client.hub));
        let voted = self.vote();
        let gives_up = (self.id.clone(), Arc::clone(&self.client.hub));
        let finished = voted.then(move |voted| match voted {
            Voted::Ready(_) => id.then(move |transaction| hub.ask(Ask::Finish { transaction }, tid)),
            Voted::Conflicts(conflicts) => Promise::of(Err(crate::error::conflict(&conflicts))),
        });
        finished.finally(move |outcome| {
            if outcome.is_err() {
                abort(&gives_up.0, gives_up.1);
            }
        });
        finished
    }

    /// Gives it up.
    pub fn abort(self) {}
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.is_over {
            abort(&self.id, Arc::clone(&self.client.hub));
        }
    }
}

/// Sends a change. The promise is kept when there is room for more.
fn send(client: &Client, transaction: TransactionId, change: Change) -> Promise<()> {
    let hub = Arc::clone(&client.hub);
    let sent = client.hub.ask(Ask::Change { transaction, change }, done);
    match sent.get() {
        Some(Ok(())) => hub.room(),
        Some(Err(_)) => sent,
        None => sent.then(move |()| hub.room()),
    }
}

fn abort(id: &Promise<TransactionId>, hub: Arc<Hub>) {
    id.finally(move |begun| {
        if let Ok(transaction) = begun {
            hub.ask(Ask::Abort { transaction }, done);
        }
    });
}
