//! Blobs on their way: from clients into a storage, and back.
//!
//! ```text
//!   storeBlobStart ─▶ storeBlobChunk ... ─▶ storeBlobEnd(oid, serial, record)      storeBlobShared(..., file)
//!                          │ AppendBlob          │ EndBlob                              │ AdoptBlob
//!                          ▼                     └──────────┬───────────────────────────┘
//!                     the storage's temporary               ▼ a change of the transaction
//!
//!   sendBlob(oid, serial) ─▶ OpenBlob ─▶ receiveBlobStart ─▶ ReadBlob, receiveBlobChunk ... ─▶ receiveBlobStop ─▶ None
//! ```
//!
//! A blob is never in memory. One storage call at a time takes or reads a piece for a client; bytes that arrive during
//! the call go with the next one. A client that sends faster is not read from. The next piece is read when an earlier
//! one has left. [`Memory::blob`](super::Memory::blob) and [`Memory::blobs`](super::Memory::blobs) say how much may be
//! under way.
//!
//! A blob on its way belongs to its transaction, and is dropped with it. The vote reports an error in it, as it reports
//! an error in a record.

use bytes::Bytes;
use vellum_storage::{Change, Tid, Version};
use vellum_wire::{Call, Fault, MessageId, Notice, TransactionId, Value};

use super::calls::Next::{self, Later};
use super::calls::{done, fail};
use super::{Kind, Machine};
use crate::connection::{Download, Queued, Sending};
use crate::event::{ConnectionId, Effect, Outcome, Work};
use crate::transaction::{BlobRecord, Stage, Upload, Wrong};

impl Machine {
    /// A call about blobs, of a storage that keeps them.
    pub(super) fn blob_call(&mut self, connection: ConnectionId, reply: &Option<MessageId>, call: Call) -> Next {
        match call {
            Call::StoreBlobStart => self.begin_blob(connection),
            Call::StoreBlobChunk { chunk } => self.append_blob(connection, chunk),
            Call::StoreBlobEnd { oid, serial, data, transaction } => {
                self.end_blob(connection, BlobRecord { oid, serial, data }, transaction)
            }
            Call::StoreBlobShared { oid, serial, data, file, transaction } => {
                self.adopt_blob(connection, BlobRecord { oid, serial, data }, file, transaction)
            }
            Call::SendBlob { oid, serial } => {
                let client = self.connections.get_mut(&connection).expect("a call has a connection");
                let stage = Sending::Asked;
                client.downloads.push_back(Download { reply: reply.clone(), oid, serial, stage });
                if client.downloads.len() == 1 {
                    self.send_blobs(connection);
                }
                Later
            }
            other => unreachable!("{} is not about blobs", other.name()),
        }
    }

    fn begin_blob(&mut self, connection: ConnectionId) -> Next {
        let client = self.connections.get_mut(&connection).expect("a call has a connection");
        if client.read_only {
            return fail(Fault::ReadOnly);
        }
        let assertion = |why| fail(Fault::text("builtins.AssertionError", why));
        match &mut client.transaction {
            None => fail(Fault::text("ZODB.POSException.StorageTransactionError", "a blob begins in a transaction")),
            Some(transaction) if transaction.upload.is_some() => assertion("the blob before this one did not end"),
            Some(transaction) if transaction.stage != Stage::Open => {
                assertion("the transaction is voted: it takes no more changes")
            }
            Some(transaction) => {
                transaction.upload = Some(Upload::default());
                done(Value::None)
            }
        }
    }

    /// Notes that a client sent so much of a blob.
    pub(super) fn chunk_arrived(&mut self, connection: ConnectionId, bytes: u64) {
        self.connections.get_mut(&connection).expect("it sent something").uploading += bytes;
        self.moving += bytes;
    }

    /// Notes that a storage took it, or that nobody will.
    fn chunks_taken(&mut self, connection: ConnectionId, bytes: u64) {
        self.connections.get_mut(&connection).expect("it sent something").uploading -= bytes;
        self.moving -= bytes;
    }

    /// Has a storage take this chunk, and those behind it that have arrived.
    fn append_blob(&mut self, connection: ConnectionId, chunk: Bytes) -> Next {
        let client = self.connections.get_mut(&connection).expect("a call has a connection");
        let mut chunks = vec![chunk];
        while let Some(Queued { reply: None, call: Call::StoreBlobChunk { .. } }) = client.queue.front() {
            if let Some(Queued { call: Call::StoreBlobChunk { chunk }, .. }) = client.queue.pop_front() {
                chunks.push(chunk);
            }
        }
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let upload = client.transaction.as_ref().and_then(|transaction| transaction.upload.as_ref());
        let Some(upload) = upload else {
            self.chunks_taken(connection, bytes);
            return fail(Fault::text("builtins.TypeError", "a chunk belongs to a blob that was begun"));
        };
        if upload.failed.is_some() {
            self.chunks_taken(connection, bytes);
            return done(Value::None);
        }
        let job = self.run(connection, None, Kind::Transaction, Work::AppendBlob { chunks });
        self.set_stage(connection, Stage::Uploading { job, bytes, ends: None });
        done(Value::None)
    }

    fn end_blob(&mut self, connection: ConnectionId, record: BlobRecord, given: TransactionId) -> Next {
        let transaction = match self.transaction(connection, given) {
            Ok(transaction) => transaction,
            Err(fault) => return fail(fault),
        };
        let Some(upload) = transaction.upload.take() else {
            return fail(Fault::text("builtins.TypeError", "a blob that ends was begun"));
        };
        if let Some(wrong) = upload.failed {
            transaction.wrong.get_or_insert(wrong);
            return done(Value::None);
        }
        let job = self.run(connection, None, Kind::Transaction, Work::EndBlob);
        self.set_stage(connection, Stage::Uploading { job, bytes: 0, ends: Some(record) });
        done(Value::None)
    }

    fn adopt_blob(&mut self, connection: ConnectionId, record: BlobRecord, file: Value, given: TransactionId) -> Next {
        let transaction = match self.transaction(connection, given) {
            Ok(transaction) => transaction,
            Err(fault) => return fail(fault),
        };
        if transaction.stage != Stage::Open {
            return fail(Fault::text("builtins.AssertionError", "the transaction is voted: it takes no more changes"));
        }
        let name = match file {
            Value::Text(name) if is_file_name(&name) => name,
            Value::Text(name) => return fail(Fault::text("builtins.ValueError", name)),
            _ => return fail(Fault::text("builtins.TypeError", "the name of a blob's file is text")),
        };
        let work = Work::AdoptBlob { oid: record.oid, name };
        let job = self.run(connection, None, Kind::Transaction, work);
        self.set_stage(connection, Stage::Uploading { job, bytes: 0, ends: Some(record) });
        done(Value::None)
    }

    /// A storage took chunks of a blob, or its end; or it could not: then the vote will say so.
    pub(super) fn uploaded(
        &mut self,
        connection: ConnectionId,
        bytes: u64,
        ends: Option<BlobRecord>,
        outcome: Outcome,
    ) {
        self.chunks_taken(connection, bytes);
        let client = self.connections.get_mut(&connection).expect("it has a transaction");
        let transaction = client.transaction.as_mut().expect("its blob was stored");
        match (outcome, ends) {
            (Outcome::Appended, None) => {}
            (Outcome::Failed(fault), None) => {
                transaction.upload.as_mut().expect("it was appended to").failed = Some(Wrong(fault));
                self.effects.push(Effect::Abort { connection });
            }
            (Outcome::Failed(fault), Some(_)) => _ = transaction.wrong.get_or_insert(Wrong(fault)),
            (Outcome::BlobStored { blob }, Some(BlobRecord { oid, serial, data })) => {
                let bytes = data.len() as u64;
                let data = vellum_storage::Data::from(data).with_blob(blob);
                let change = Change::Store { oid, serial, version: Version::TRUNK, data };
                match change.check() {
                    Ok(()) => {
                        transaction.blobs.push((transaction.draft.changes().len(), change));
                        self.keeps(connection, bytes);
                    }
                    Err(error) => _ = transaction.wrong.get_or_insert(Wrong(crate::faults::fault(error))),
                }
            }
            (outcome, ends) => unreachable!("storing a blob of {ends:?} does not end with {outcome:?}"),
        }
    }

    /// The bytes that a client may have under way in one direction.
    pub(super) fn blob_room(&self) -> u64 {
        let limits = &self.config.memory;
        if self.moving > limits.blobs { limits.piece.min(limits.blob) } else { limits.blob }
    }

    /// Continues with the blobs that a client asked for: as far as it reads, and was told of the transactions that
    /// wrote them.
    pub(super) fn send_blobs(&mut self, connection: ConnectionId) {
        loop {
            let room = self.blob_room();
            let piece = self.config.memory.piece.max(1);
            let Some(client) = self.connections.get_mut(&connection) else { return };
            let Some(Download { oid, serial, stage, .. }) = client.downloads.front_mut() else { return };
            let (oid, serial) = (*oid, *serial);
            match std::mem::replace(stage, Sending::Asked) {
                Sending::Asked => {
                    *stage = Sending::Opening;
                    self.run(connection, None, Kind::Blob, Work::OpenBlob { oid, serial });
                    return;
                }
                // Nothing is answered from the future.
                Sending::Found { blob, length } if serial <= client.last => {
                    *stage = Sending::Sent { blob, length, offset: 0 };
                    self.send(connection, Notice::ReceiveBlobStart { oid, serial }.into_message());
                }
                Sending::Sent { length, offset, .. } if offset == length => {
                    let reply = client.downloads.pop_front().expect("it is the first").reply;
                    self.send(connection, Notice::ReceiveBlobStop { oid, serial }.into_message());
                    self.answer(connection, reply, Ok(Value::None));
                }
                Sending::Sent { blob, length, offset } => {
                    let piece = piece.min(length - offset);
                    if client.downloading > 0 && client.downloading + piece > room {
                        *stage = Sending::Sent { blob, length, offset };
                        return;
                    }
                    *stage = Sending::Reading { blob: blob.clone(), length, offset, piece };
                    client.downloading += piece;
                    self.moving += piece;
                    self.run(connection, None, Kind::Blob, Work::ReadBlob { blob, offset, length: piece });
                    return;
                }
                waits => {
                    *stage = waits;
                    return;
                }
            }
        }
    }

    /// A storage found or read something of the blob that is being sent to a client.
    pub(super) fn blob_done(&mut self, connection: ConnectionId, outcome: Outcome) {
        let client = self.connections.get_mut(&connection).expect("it asked for a blob");
        let Some(Download { oid, serial, stage, .. }) = client.downloads.front_mut() else { return };
        match (std::mem::replace(stage, Sending::Asked), outcome) {
            (Sending::Opening, Outcome::BlobOpened { blob, length }) => *stage = Sending::Found { blob, length },
            (Sending::Reading { blob, length, offset, piece }, Outcome::Piece(chunk)) => {
                assert_eq!(chunk.len() as u64, piece, "a storage reads what it is asked for");
                *stage = Sending::Sent { blob, length, offset: offset + piece };
                let message = Notice::ReceiveBlobChunk { oid: *oid, serial: *serial, chunk }.into_message();
                self.effects.push(Effect::SendPiece { connection, message, bytes: piece });
            }
            (stage, Outcome::Failed(fault)) => {
                let reply = client.downloads.pop_front().expect("it is the first").reply;
                if let Sending::Reading { piece, .. } = stage {
                    self.piece_left(connection, piece);
                }
                self.answer(connection, reply, Err(fault));
            }
            (stage, outcome) => unreachable!("{stage:?} does not end with {outcome:?}"),
        }
        self.send_blobs(connection);
    }

    /// A piece of a blob or of a prefetch left for a client.
    pub(super) fn piece_sent(&mut self, connection: ConnectionId, bytes: u64) {
        if self.connections.contains_key(&connection) {
            self.piece_left(connection, bytes);
            self.send_blobs(connection);
            self.send_ahead(connection);
        }
    }

    fn piece_left(&mut self, connection: ConnectionId, bytes: u64) {
        self.connections.get_mut(&connection).expect("it is there").downloading -= bytes;
        self.moving -= bytes;
    }

    /// Clients may have been told of the transactions that wrote the blobs that wait for that.
    pub(super) fn send_blobs_of_new_revisions(&mut self, told: Tid) {
        let waits = |download: &Download| matches!(download.stage, Sending::Found { .. }) && download.serial <= told;
        let waiting = self.connections.iter().filter(|(_, client)| client.downloads.front().is_some_and(waits));
        for connection in waiting.map(|(connection, _)| *connection).collect::<Vec<_>>() {
            self.send_blobs(connection);
        }
    }
}

/// Whether a client may call a file in a shared folder so: as ZEO's clients do, and no path.
fn is_file_name(name: &str) -> bool {
    let stem = name.strip_suffix(".tmp").or_else(|| {
        let mut shorter = name.chars();
        shorter.next_back();
        shorter.as_str().strip_suffix(".tmp")
    });
    stem.is_some() && !name.contains(['/', '\\', '\0'])
}
