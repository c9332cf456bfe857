//! The machine's state of a client.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use vellum_pickle::Value;
use vellum_storage::{Blob, Oid, Tid};
use vellum_wire::{Call, Codec, Message, MessageId};

use crate::reach::Walk;
use crate::transaction::Transaction;
use crate::{Job, StorageId};

/// A connected client.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// Its name in logs.
    pub peer: String,
    /// When it connected.
    pub since: Duration,
    /// Its label, which it chooses.
    pub label: Option<String>,
    /// How it speaks; none before its greeting.
    pub codec: Option<Codec>,
    /// Its storage; none before it has registered.
    pub storage: Option<StorageId>,
    /// Whether it may only read.
    pub read_only: bool,
    /// Its transaction.
    pub transaction: Option<Transaction>,
    /// Calls that wait for what a storage does with the transaction.
    pub queue: VecDeque<Queued>,
    /// Bytes of records in them.
    pub queued: u64,
    /// Calls of storages that are under way for it.
    pub running: usize,
    /// Those of them that are slow.
    pub slow: usize,
    /// Slow ones that wait for those.
    pub later: VecDeque<Job>,
    /// Whether it is not read from.
    pub is_paused: bool,
    /// Bytes of chunks of blobs that it sent and no storage has taken.
    pub uploading: u64,
    /// Blobs that it asked for. The first one is being sent.
    pub downloads: VecDeque<Download>,
    /// Prefetches that it asked for. The first one is being sent.
    pub prefetches: VecDeque<Prefetch>,
    /// Bytes of pieces of blobs and of prefetches that are read for it, and did not leave yet.
    pub downloading: u64,
    /// Bytes that wait for it to read them.
    pub unread: u64,
    /// Since when there have been more of them than a client may leave for long.
    pub unread_since: Option<Duration>,
    /// The last transaction that it was told of.
    pub last: Tid,
    /// Answers that tell of a transaction of which it was not told yet.
    pub held: Vec<(Tid, Message)>,
    /// Later transactions than its own, whose finish is not answered yet: it must hear of that one first. None if there
    /// is no such finish.
    pub backlog: Option<Vec<(Tid, Message)>>,
}

/// A blob on its way to a client.
#[derive(Clone, Debug)]
pub(crate) struct Download {
    /// The call that is answered when all of it was sent.
    pub reply: Option<MessageId>,
    /// The object.
    pub oid: Oid,
    /// Its revision.
    pub serial: Tid,
    /// How far it is.
    pub stage: Sending,
}

/// How far a blob is on its way to a client.
#[derive(Clone, Debug)]
pub(crate) enum Sending {
    /// It waits for those before it.
    Asked,
    /// A storage looks for it.
    Opening,
    /// It was found, and the client was not told.
    Found { blob: Blob, length: u64 },
    /// It is sent up to `offset`.
    Sent { blob: Blob, length: u64, offset: u64 },
    /// A storage reads the piece at `offset`.
    Reading { blob: Blob, length: u64, offset: u64, piece: u64 },
}

/// A prefetch on its way to a client.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Prefetch {
    /// The number of the call that asked for it, which is answered when all was sent.
    pub call: i64,
    /// The walk; none while a storage is at it.
    pub walk: Option<Walk>,
    /// Revisions that were sent.
    pub sent: i64,
}

/// A call that waits.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    /// The call that is answered; none for a one-way call.
    pub reply: Option<MessageId>,
    /// The call.
    pub call: Call,
}

/// About the bytes that a value takes besides its own.
fn size(value: &Value) -> usize {
    const OWN: usize = size_of::<Value>();
    match value {
        Value::Bytes(bytes) => bytes.len(),
        Value::BigInt(bytes) => bytes.len(),
        Value::Text(text) => text.len(),
        Value::Tuple(items) | Value::List(items) => items.iter().map(|item| OWN + size(item)).sum(),
        Value::Dict(items) => items.iter().map(|(key, value)| 2 * OWN + size(key) + size(value)).sum(),
        _ => 0,
    }
}

impl Queued {
    /// Bytes in it that may be many, without those of chunks of a blob, which count elsewhere.
    pub fn bytes(&self) -> u64 {
        let bytes = match &self.call {
            Call::Store { data, .. } | Call::StoreBlobEnd { data, .. } => data.len(),
            Call::StoreBlobShared { data, file, .. } => data.len() + size(file),
            Call::StoreInVersion { data, version, .. } => data.len() + version.name().len(),
            Call::Restore { data, .. } => data.as_ref().map_or(0, Bytes::len),
            Call::RestoreInVersion { data, version, .. } => data.as_ref().map_or(0, Bytes::len) + version.name().len(),
            Call::CommitVersion { from, to, .. } => from.name().len() + to.name().len(),
            Call::AbortVersion { from, .. } => from.name().len(),
            Call::Undo { undone, .. } => undone.len(),
            Call::TpcBegin(begin) => begin.user.len() + begin.description.len() + size(&begin.extension),
            _ => 0,
        };
        bytes as u64
    }
}

impl Connection {
    pub fn new(peer: String, since: Duration) -> Connection {
        Connection {
            peer,
            since,
            label: None,
            codec: None,
            storage: None,
            read_only: false,
            transaction: None,
            queue: VecDeque::new(),
            queued: 0,
            running: 0,
            slow: 0,
            later: VecDeque::new(),
            is_paused: false,
            uploading: 0,
            downloads: VecDeque::new(),
            prefetches: VecDeque::new(),
            downloading: 0,
            unread: 0,
            unread_since: None,
            last: Tid::ZERO,
            held: Vec::new(),
            backlog: None,
        }
    }

    /// Notes that it is told of a transaction, and returns the answers that waited for that.
    pub fn told(&mut self, tid: Tid) -> Vec<Message> {
        self.last = self.last.max(tid);
        let (now, later) = std::mem::take(&mut self.held).into_iter().partition(|(of, _)| *of <= self.last);
        self.held = later;
        let now: Vec<(Tid, Message)> = now;
        now.into_iter().map(|(_, message)| message).collect()
    }

    /// Its name: its label, or else its address.
    pub fn name(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.peer)
    }

    /// Whether a call has to wait: the order of a transaction's calls is kept.
    pub fn must_wait(&self, call: &Call) -> bool {
        let is_of_transaction = matches!(
            call,
            Call::TpcBegin(_)
                | Call::Store { .. }
                | Call::Delete { .. }
                | Call::CheckCurrent { .. }
                | Call::Undo { .. }
                | Call::Restore { .. }
                | Call::StoreInVersion { .. }
                | Call::CommitVersion { .. }
                | Call::AbortVersion { .. }
                | Call::RestoreInVersion { .. }
                | Call::Vote { .. }
                | Call::TpcFinish { .. }
                | Call::TpcAbort { .. }
                | Call::StoreBlobStart
                | Call::StoreBlobChunk { .. }
                | Call::StoreBlobEnd { .. }
                | Call::StoreBlobShared { .. }
        );
        let is_running = self.transaction.as_ref().is_some_and(|transaction| transaction.stage.running().is_some());
        is_of_transaction && (is_running || !self.queue.is_empty())
    }
}
