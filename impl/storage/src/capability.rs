//! What not every storage can do: undo, versions, packing, copying. Each is a trait of its own that one asks a
//! [`Storage`](crate::Storage) or a [`Transaction`](crate::Transaction) for; who has it says so by handing it out, so
//! that nobody finds out by an error.
//!
//! ```text
//!              ask the storage for          ask the transaction for
//!   undo       undo_log()  → UndoLog        undo()     → UndoChange
//!   versions   versions()  → Versions       versions() → VersionChange
//!   packing    pack()      → Pack
//!   copying                                 copy()     → CopyChange
//!   many       bulk()      → Bulk
//! ```

use bytes::Bytes;

use crate::{Oid, Result, Revision, Tid, TransactionRecord, Version};

/// Which transactions can be undone.
pub trait UndoLog {
    /// The transactions that can be undone, newest first, from number `first` up to but not including `last`.
    fn undo_log(&self, first: usize, last: usize) -> Result<Vec<UndoEntry>> {
        self.undo_log_where(first, last, &mut |_| true)
    }

    /// The same, of those that the filter lets through: those are what is counted.
    fn undo_log_where(
        &self,
        first: usize,
        last: usize,
        filter: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Vec<UndoEntry>>;

    /// Of a revision that is nothing: the transaction in which the object was nothing already, if it is so again because it
    /// was so there (its deletion was done once more by an undo, or shows again where a version was aborted). None of
    /// any other revision.
    ///
    /// Where data is shared, [`Revision::source`] says so; of nothing nobody sees whether it is the same. But the rule of
    /// undo (3.4) takes a revision back that is shared, and not one that is merely as empty. Who undoes what another
    /// storage wrote, as an [`Overlay`](crate::Overlay) does, has to ask. A storage that does not know says none, and
    /// some undos are refused then, which it would have done itself.
    fn nothing_of(&self, _oid: Oid, _tid: Tid) -> Result<Option<Tid>> {
        Ok(None)
    }
}

/// A transaction that can be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoEntry {
    /// Its identity and time.
    pub tid: Tid,
    /// Who did it.
    pub user: Bytes,
    /// What was done.
    pub description: Bytes,
    /// Anything else: a pickled dict, as bytes.
    pub extension: Bytes,
}

/// Undoing, as a part of a transaction.
pub trait UndoChange {
    /// Takes back what that transaction did. It sees what this one has undone before.
    ///
    /// Errors, here or at the vote: not undoable; undo conflict, naming every object.
    fn undo(&mut self, tid: Tid) -> Result<()>;
}

/// Which lines of work there are beside the trunk.
pub trait Versions {
    /// The versions in which some object's newest revision lies, by name.
    fn versions(&self) -> Result<Vec<Version>>;

    /// The version of the object's newest revision; the trunk for an object that is unknown.
    fn modified_in_version(&self, oid: Oid) -> Result<Version>;
}

/// Working in versions, and ending them, as a part of a transaction.
pub trait VersionChange {
    /// As [`Transaction::store`](crate::Transaction::store), in a version.
    ///
    /// Errors, here or at the vote: those of `store`; version lock.
    fn store_in(&mut self, version: &Version, oid: Oid, serial: Tid, data: Bytes) -> Result<()>;

    /// Every object whose newest revision is in `from` gets one in `to` that shares its data.
    ///
    /// Errors, here or at the vote: a version error if `from` is the trunk, or the same as `to`.
    fn commit_version(&mut self, from: &Version, to: &Version) -> Result<()>;

    /// Every object whose newest revision is in `from` is again what the trunk shows.
    ///
    /// Errors, here or at the vote: a version error if `from` is the trunk.
    fn abort_version(&mut self, from: &Version) -> Result<()>;
}

/// Writing down what another storage has, as a part of a transaction.
pub trait CopyChange {
    /// A revision as it is in the other storage, without looking at serials. Its source counts if that transaction is here
    /// and has that data. What is under it counts if the trunk has the object there; if it has not, it is what the trunk
    /// shows.
    fn restore(&mut self, revision: Revision) -> Result<()>;
}

/// Writing down many transactions of another storage at once, for fewer syncs.
pub trait Bulk {
    /// Writes these transactions, oldest first, as if for each of them [`Storage::begin`](crate::Storage::begin) had been
    /// called with its metadata, tid and status, each of its revisions had been restored in their order
    /// ([`CopyChange::restore`]: what an earlier transaction of the same call wrote can be a source, or be under one, as if
    /// it had been here before), and it had been voted on and finished. When it returns, all of them are durable and
    /// can be read.
    ///
    /// Meanwhile a reader sees some first ones of them, each whole, and never a later one without the earlier ones; so
    /// does whoever opens the storage after a crash. Transactions of others that are under way are judged by what is
    /// here when they are voted on; objects that they hold are waited for. Nobody is notified, so the caches of a
    /// storage that serves clients would not know: this is for storages that nobody else uses yet.
    ///
    /// Errors: tids that do not strictly increase, or are not later than the last one here; metadata too long; a status of
    /// undone; an empty record; read-only: each before anything is written. And whatever the disk says: then some first
    /// ones of them may be here, each whole, and [`Storage::last_transaction`](crate::Storage::last_transaction) says up
    /// to which.
    fn copy_in(&self, transactions: Vec<TransactionRecord>) -> Result<()>;
}

/// Giving back space.
pub trait Pack {
    /// Forgets the past before `to`, as the rules of packing say.
    ///
    /// Errors: read-only; a pack that is running; dangling references, unless told to go on.
    fn pack(&self, to: Tid, how: PackOptions) -> Result<PackReport>;
}

/// How to pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackOptions {
    /// Collects garbage: objects go that nothing needs.
    pub collect: bool,
    /// Goes on where a needed object refers to one that is nowhere.
    pub go_on: bool,
}

/// What a pack came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackReport {
    /// References to objects that are nowhere, each once, in order: who refers, to whom.
    pub dangling: Vec<(Oid, Oid)>,
}
