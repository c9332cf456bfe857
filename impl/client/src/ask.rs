//! The questions of an application to the machine, and the answers.

use std::time::Duration;

use bytes::Bytes;
use vellum_storage::{
    Change, CurrentRecord, HistoryEntry, Loaded, LoadedAt, Oid, Origin, Revision, Tid, TidRange, TransactionMeta,
    TransactionRecord, UndoEntry, Version,
};
use vellum_wire::{Extension, Reach};

use crate::event::ConnectionId;

/// A transaction of this client. A number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u64);

/// An iterator that a server keeps. It is gone with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IteratorId {
    /// The connection that it belongs to.
    pub connection: ConnectionId,
    /// The server's number of it.
    pub number: i64,
}

/// A question of an application.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are the arguments, by the rules' names")]
pub enum Ask {
    /// Waits until a server is there, and the cache is verified.
    Connected,
    /// The last transaction that this client knows.
    Last,
    /// Waits until this client knows all that was finished before it asked.
    Sync,
    /// Drops all that is cached, and takes a server that has fewer transactions than this client knows.
    Forget,
    /// Rule 2.2. Without `before`, it is what the last known transaction left.
    Load { oid: Oid, before: Option<Tid> },
    /// Rule 2.1, of now; where the server offers versions.
    LoadInVersion { oid: Oid, version: Version },
    /// Rule 2.10.
    ModifiedInVersion { oid: Oid },
    /// Rule 2.11.
    Versions,
    /// Rule 9.2: many loads, of one moment.
    LoadMany { oids: Vec<Oid>, before: Option<Tid> },
    /// Rule 9.3: has the server send what can be reached from these objects, ahead of its loads.
    Prefetch { oids: Vec<Oid>, before: Option<Tid>, reach: Reach },
    /// Rule 2.3.
    LoadSerial { oid: Oid, tid: Tid },
    /// Rule 8.2. Its pieces are effects, and come before the answer.
    LoadBlob { oid: Oid, tid: Tid },
    /// Rule 2.4.
    History { oid: Oid, limit: u32 },
    /// Rule 2.5.
    UndoLog { first: u32, last: u32 },
    /// Rule 2.9, one record: that of the first object from this one on.
    CurrentRecord { first: Oid },
    /// Rule 2.6, which takes an iterator.
    Iterate { range: TidRange },
    /// The next transaction, without its revisions.
    NextTransaction { iterator: IteratorId },
    /// The revisions of the transaction that came last: another iterator.
    Revisions { iterator: IteratorId, tid: Tid },
    /// The next revision.
    NextRevision { iterator: IteratorId },
    /// The server may forget an iterator.
    ForgetIterator { iterator: IteratorId },
    /// Oids that nobody was given before.
    NewOids { count: u32 },
    /// The storage's description.
    Info,
    /// Part 4 of the rules. How a server packs is its operator's choice.
    Pack { to: Tid },
    /// Begins a transaction, when there is no other.
    Begin { meta: TransactionMeta, origin: Origin },
    /// Part 3 of the rules.
    Change { transaction: TransactionId, change: Change },
    /// Rule 8.1, in parts.
    Blob { transaction: TransactionId, part: BlobPart },
    /// The first phase.
    Vote { transaction: TransactionId },
    /// The second phase.
    Finish { transaction: TransactionId },
    /// Gives a transaction up.
    Abort { transaction: TransactionId },
}

impl Ask {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Ask::Connected => "connecting",
            Ask::Last => "the last transaction",
            Ask::Sync => "sync",
            Ask::Forget => "forget",
            Ask::Load { .. } => "load",
            Ask::LoadInVersion { .. } => "load",
            Ask::ModifiedInVersion { .. } => "modified_in_version",
            Ask::Versions => "versions",
            Ask::LoadMany { .. } => "load_many",
            Ask::Prefetch { .. } => "prefetch",
            Ask::LoadSerial { .. } => "load_serial",
            Ask::LoadBlob { .. } => "load_blob",
            Ask::Blob { .. } => "a blob",
            Ask::History { .. } => "history",
            Ask::UndoLog { .. } => "undo_log",
            Ask::CurrentRecord { .. } => "current_records",
            Ask::Iterate { .. } | Ask::NextTransaction { .. } | Ask::Revisions { .. } | Ask::NextRevision { .. } => {
                "transactions"
            }
            Ask::ForgetIterator { .. } => "the end of an iterator",
            Ask::NewOids { .. } => "new_oids",
            Ask::Info => "info",
            Ask::Pack { .. } => "pack",
            Ask::Begin { .. } => "begin",
            Ask::Change { .. } => "a change",
            Ask::Vote { .. } => "vote",
            Ask::Finish { .. } => "finish",
            Ask::Abort { .. } => "abort",
        }
    }

    /// How patient a client is with the answer.
    pub(crate) fn patience(&self, patience: &Patience) -> Duration {
        match self {
            Ask::Pack { .. } => patience.pack,
            Ask::Vote { .. }
            | Ask::Finish { .. }
            // In all: each part of it has as long as a load.
            | Ask::LoadMany { .. }
            | Ask::History { .. }
            | Ask::UndoLog { .. }
            | Ask::Iterate { .. }
            | Ask::NextTransaction { .. }
            | Ask::CurrentRecord { .. }
            | Ask::Versions => patience.slow,
            _ => patience.reply,
        }
    }

    /// Whether it may be asked again, of another connection, if the answer was lost.
    pub(crate) fn can_be_repeated(&self) -> bool {
        matches!(
            self,
            Ask::Sync
                | Ask::Load { .. }
                | Ask::LoadMany { .. }
                | Ask::LoadInVersion { .. }
                | Ask::ModifiedInVersion { .. }
                | Ask::Versions
                | Ask::LoadSerial { .. }
                | Ask::LoadBlob { .. }
                | Ask::History { .. }
                | Ask::UndoLog { .. }
                | Ask::CurrentRecord { .. }
                | Ask::Iterate { .. }
                | Ask::NewOids { .. }
                | Ask::Info
        )
    }
}

/// A part of a blob on its way to the server. A transaction has one such blob at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BlobPart {
    /// It begins.
    Start,
    /// The next bytes.
    Chunk(Bytes),
    /// It ends, and is stored with this record.
    End {
        /// The object.
        oid: Oid,
        /// The revision that was changed.
        serial: Tid,
        /// The record.
        data: Bytes,
    },
}

/// How long a client waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Patience {
    /// For a connection, and for its greeting: 10 s.
    pub connect: Duration,
    /// For a server to be there, when something is asked and none is: 30 s.
    pub server: Duration,
    /// For an answer: 30 s.
    pub reply: Duration,
    /// For an answer that may take a walk through the database or another client's transaction: 10 minutes.
    pub slow: Duration,
    /// For a pack: a day.
    pub pack: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(10),
            server: Duration::from_secs(30),
            reply: Duration::from_secs(30),
            slow: Duration::from_secs(600),
            pack: Duration::from_secs(24 * 3600),
        }
    }
}

/// A server's description of its storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Info {
    /// Where it is: of a file, its path on the server.
    pub name: String,
    /// Objects.
    pub length: u64,
    /// Bytes.
    pub size: u64,
    /// Whether it undoes.
    pub undoes: bool,
    /// Whether its current records can be asked for, one after the other.
    pub iterates_records: bool,
    /// Whether revisions of other storages can be written to it.
    pub restores: bool,
    /// Whether it keeps blobs.
    pub keeps_blobs: bool,
    /// Whether this client may only read.
    pub is_read_only: bool,
    /// The calls that it offers beyond ZEO's.
    pub extensions: Vec<Extension>,
}

/// An object that a concurrent transaction has changed, too. The client has to merge both changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conflict {
    /// The object.
    pub oid: Oid,
    /// The newest revision.
    pub committed: Tid,
    /// The revision that was changed.
    pub serial: Tid,
    /// The record that was stored.
    pub data: Bytes,
}

/// The result of a vote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Voted {
    /// The transaction can be finished. For these objects the server writes other records than the stored ones: merged
    /// ones, and those of an undo.
    Ready(Vec<Oid>),
    /// The transaction cannot be finished yet. The client stores each of these objects once more, with a merged record
    /// and the newest revision as its serial, and votes again.
    Conflicts(Vec<Conflict>),
}

/// An answer to an application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the answer to the question of the same name")]
pub enum Answer {
    Done,
    Tid(Tid),
    Loaded(Option<LoadedAt>),
    LoadedMany(Vec<(Oid, Option<LoadedAt>)>),
    LoadedInVersion(Loaded),
    Version(Version),
    Versions(Vec<Version>),
    Prefetched(u64),
    Record(Bytes),
    History(Vec<HistoryEntry>),
    UndoLog(Vec<UndoEntry>),
    CurrentRecord(Option<(CurrentRecord, Option<Oid>)>),
    Iterator(IteratorId),
    Transaction(Option<TransactionRecord>),
    Revision(Option<(Tid, Revision)>),
    Oids(Vec<Oid>),
    Info(Info),
    Begun(TransactionId),
    Voted(Voted),
}
