//! The events of the machine, and the effects that it asks for.

use std::time::Duration;

use bytes::Bytes;
use vellum_storage::{Blob, Busy, Draft, LoadedAt, Oid, Tid, TidRange, Version};
use vellum_wire::{Ahead, Codec, Fault, Found, Greeting, Message, PlainLoad, Value};

use crate::reach::Walk;

/// A connection. It is also the origin of the transactions that come by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A storage, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageId(pub usize);

/// A call of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// An event of the machine.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client connected.
    Connected {
        /// Its connection, which no other had before.
        connection: ConnectionId,
        /// Its name in logs.
        peer: String,
    },
    /// The client's first frame arrived.
    Greeted {
        /// The connection.
        connection: ConnectionId,
        /// The greeting.
        greeting: Greeting,
    },
    /// A message arrived.
    Received {
        /// The connection.
        connection: ConnectionId,
        /// The message.
        message: Message,
    },
    /// A load arrived, which is what arrives most: the same as its message.
    Load {
        /// The connection.
        connection: ConnectionId,
        /// The call.
        load: PlainLoad,
    },
    /// A frame arrived that is no message, or is too long.
    Malformed {
        /// The connection.
        connection: ConnectionId,
        /// The error.
        why: String,
    },
    /// The client is gone.
    Lost {
        /// The connection.
        connection: ConnectionId,
    },
    /// A storage reports finished transactions, in its order.
    Told {
        /// The storage.
        storage: StorageId,
        /// The event of the storage.
        told: vellum_storage::Event,
    },
    /// A call of a storage is done.
    Done {
        /// The call.
        job: JobId,
        /// Its result.
        outcome: Outcome,
    },
    /// A vote that had to wait is worth trying again.
    Woken {
        /// The vote.
        job: JobId,
    },
    /// So much waits for a client to read it. Told again when it has changed, before the next [`Event::Tick`].
    Unread {
        /// The connection.
        connection: ConnectionId,
        /// Bytes.
        bytes: u64,
    },
    /// A piece of a blob left for its client: [`Effect::SendPiece`] once for each.
    PieceSent {
        /// The connection.
        connection: ConnectionId,
        /// Bytes of the piece.
        bytes: u64,
    },
    /// The server is to end: only voted transactions are still finished.
    End,
    /// Time has passed.
    Tick {
        /// Since the machine was made.
        now: Duration,
    },
}

/// An effect that the machine asks for. The effects on one connection are in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Messages of this connection are in this codec from now on.
    Speak {
        /// The connection.
        connection: ConnectionId,
        /// The codec.
        codec: Codec,
    },
    /// A message is to be sent.
    Send {
        /// The connection.
        connection: ConnectionId,
        /// The message.
        message: Message,
    },
    /// A piece of a blob is to be sent, in order with the other messages. [`Event::PieceSent`] tells when it left.
    SendPiece {
        /// The connection.
        connection: ConnectionId,
        /// The message.
        message: Message,
        /// Bytes of the piece.
        bytes: u64,
    },
    /// A frame that is no message is to be sent: the status.
    SendFrame {
        /// The connection.
        connection: ConnectionId,
        /// The frame.
        frame: String,
    },
    /// The connection is to be closed when everything is sent. The machine has forgotten it.
    Close {
        /// The connection.
        connection: ConnectionId,
        /// The client's name, for the log.
        client: String,
        /// Why, for the log.
        why: String,
        /// Whether an operator should know of it without asking.
        is_trouble: bool,
    },
    /// The connection is to be ended without sending what waits. The machine has forgotten it.
    Cut {
        /// The connection.
        connection: ConnectionId,
        /// The client's name, for the log.
        client: String,
        /// Why, for the log.
        why: String,
    },
    /// The connection is not to be read from: the client has asked for enough.
    Pause {
        /// The connection.
        connection: ConnectionId,
    },
    /// The connection is to be read from again.
    Resume {
        /// The connection.
        connection: ConnectionId,
    },
    /// A storage is to be called; [`Event::Done`] tells the result.
    Run(Job),
    /// The storage's part of this connection's transaction, voted or waiting, is to be dropped before any later effect.
    Abort {
        /// The connection.
        connection: ConnectionId,
    },
    /// All that is kept for this connection is to be dropped. No vote or finish of it is under way.
    Forget {
        /// The connection.
        connection: ConnectionId,
    },
}

/// A call of a storage.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// For which connection.
    pub connection: ConnectionId,
    /// Of which storage.
    pub storage: StorageId,
    /// The work.
    pub work: Work,
}

/// A call to a storage.
#[derive(Clone, Debug)]
pub enum Work {
    /// Rule 2.2.
    Load {
        /// The object.
        oid: Oid,
        /// Just before this.
        before: Tid,
    },
    /// Rule 9.2.
    LoadMany {
        /// The objects.
        oids: Vec<Oid>,
        /// Just before this.
        before: Tid,
        /// The answer ends with the record that reaches so many bytes.
        bytes_max: u64,
    },
    /// Rule 9.3: the next piece of a walk.
    Reach {
        /// The walk.
        walk: Walk,
    },
    /// How large the storage is.
    Measure,
    /// A question that needs only the storage, and is answered with a value.
    Ask(Question),
    /// Writes the records of a transaction to a scratch file.
    Spill {
        /// The transaction.
        draft: Draft,
    },
    /// Adds to the blob that is being stored for the connection; the first time, begins it.
    AppendBlob {
        /// The bytes to add.
        chunks: Vec<Bytes>,
    },
    /// Ends that blob.
    EndBlob,
    /// Takes over the file of a blob that the client put into the shared folder.
    AdoptBlob {
        /// The object.
        oid: Oid,
        /// The file's name in the object's folder.
        name: String,
    },
    /// Rule 8.2: looks for a blob.
    OpenBlob {
        /// The object.
        oid: Oid,
        /// Its revision.
        serial: Tid,
    },
    /// Reads a piece of a blob.
    ReadBlob {
        /// The blob.
        blob: Blob,
        /// Where the piece begins.
        offset: u64,
        /// Its bytes, which are there.
        length: u64,
    },
    /// The first phase of a transaction. The voted transaction is kept under the connection.
    Vote {
        /// The transaction.
        draft: Draft,
    },
    /// The same again, for the one that had to wait.
    Retry,
    /// The second phase.
    Finish,
    /// Packs.
    Pack {
        /// To this time, in seconds since 1970.
        time: f64,
    },
}

/// A question to a storage.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the calls' arguments")]
pub enum Question {
    LoadSerial { oid: Oid, tid: Tid },
    NewestTid { oid: Oid },
    History { oid: Oid, size: i64 },
    NextRecord { next: Option<Oid> },
    NewOids { count: u32 },
    UndoLog { first: i64, last: i64, specification: Value },
    Since { tid: Tid },
    Iterate { range: TidRange },
    NextTransaction { iterator: i64 },
    Revisions { iterator: i64, tid: Tid },
    NextRevision { iterator: i64, in_version: bool },
    ForgetIterators { iterators: Vec<i64> },
    LoadInVersion { oid: Oid, version: Version },
    ModifiedInVersion { oid: Oid },
    Versions,
}

impl Question {
    /// Whether it asks how things are now, whatever the client was told.
    pub(crate) fn is_of_now(&self) -> bool {
        matches!(
            self,
            Question::NewestTid { .. }
                | Question::History { .. }
                | Question::NextRecord { .. }
                | Question::UndoLog { .. }
                | Question::LoadInVersion { .. }
                | Question::ModifiedInVersion { .. }
                | Question::Versions
        )
    }

    /// Whether it is answered by reading a little. Otherwise it may be a walk through the whole database.
    pub(crate) fn is_quick(&self) -> bool {
        matches!(
            self,
            Question::LoadSerial { .. }
                | Question::NewestTid { .. }
                | Question::NewOids { .. }
                | Question::Revisions { .. }
                | Question::NextRevision { .. }
                | Question::ForgetIterators { .. }
                | Question::LoadInVersion { .. }
                | Question::ModifiedInVersion { .. }
        )
    }
}

impl Work {
    /// Whether a client may ask for much of it at a time, and each takes long.
    pub(crate) fn is_slow(&self) -> bool {
        match self {
            Work::Ask(question) => !question.is_quick(),
            Work::LoadMany { .. } | Work::Pack { .. } => true,
            _ => false,
        }
    }
}

/// The size of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Info {
    /// Objects.
    pub length: u64,
    /// Bytes.
    pub size: u64,
}

/// The result of a call of a storage.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A question's answer.
    Answer(Value),
    /// A question's answer about now, which is sent when the client was told of this transaction.
    AnswerAfter(Result<Value, Fault>, Tid),
    /// The storage's size.
    Measured(Info),
    /// A load's answer.
    Loaded(Option<LoadedAt>),
    /// The answers to many loads: to the first ones, at least.
    LoadedMany(Vec<Found>),
    /// A piece of a walk.
    Reached {
        /// The walk, which goes on after it.
        walk: Walk,
        /// The piece.
        revisions: Vec<Ahead>,
    },
    /// It did not work.
    Failed(Fault),
    /// The transaction's records are in a scratch file.
    Spilled {
        /// The transaction.
        draft: Draft,
    },
    /// The bytes are with the blob.
    Appended,
    /// The blob is complete.
    BlobStored {
        /// The blob.
        blob: Blob,
    },
    /// The blob is there.
    BlobOpened {
        /// The blob.
        blob: Blob,
        /// Its bytes.
        length: u64,
    },
    /// A piece of a blob.
    Piece(Bytes),
    /// The transaction can be finished.
    Voted {
        /// The objects whose stored records were merged, or that an undo changed.
        merged: Vec<Oid>,
        /// The last transaction that it was judged by, or a later one.
        judged_by: Tid,
    },
    /// The vote refuses it.
    Refused {
        /// Why.
        fault: Fault,
        /// The last transaction that it was judged by, or a later one.
        judged_by: Tid,
    },
    /// The vote has to wait for another transaction.
    Waits {
        /// For what.
        on: Busy,
    },
    /// The transaction is finished.
    Finished {
        /// Its tid.
        tid: Tid,
        /// The storage's size with it.
        info: Info,
    },
    /// The storage is packed.
    Packed {
        /// The storage's size now.
        info: Info,
    },
}
