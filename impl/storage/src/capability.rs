//! Optional capabilities of a storage: undo, versions, packing, copying in bulk, blobs. Each is a trait of its own; a
//! [`Storage`](crate::Storage) that has the capability returns the trait. They decide which changes a draft may hold,
//! and [`Capabilities`] lists them all.
//!
//! | capability | ask the storage for | a draft may |
//! |---|---|---|
//! | undo | `undo_log()`, [`UndoLog`] | `undo` |
//! | versions | `versions()`, [`Versions`] | `store_in`, `commit_version`, `abort_version` |
//! | restore | | `restore` |
//! | pack | `pack()`, [`Pack`] | |
//! | bulk | `bulk()`, [`Bulk`] | |
//! | blobs | `blobs()`, [`Blobs`](crate::Blobs) | `store_blob`, `restore` with a blob |

use bytes::Bytes;

use crate::{Oid, Result, Tid, TransactionRecord, Version};

/// The capabilities of a storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// Undo.
    pub undo: bool,
    /// Versions.
    pub versions: bool,
    /// Writing down what another storage has.
    pub restore: bool,
    /// Packing.
    pub pack: bool,
    /// Copying many transactions at once.
    pub bulk: bool,
    /// Keeping blobs.
    pub blobs: bool,
}

/// Which transactions can be undone.
pub trait UndoLog: Send + Sync {
    /// The transactions that can be undone, newest first, from number `first` up to but not including `last`.
    fn undo_log(&self, first: usize, last: usize) -> Result<Vec<UndoEntry>> {
        self.undo_log_where(first, last, &mut |_| true)
    }

    /// The same, of the entries that the filter accepts: only those are counted.
    fn undo_log_where(
        &self,
        first: usize,
        last: usize,
        filter: &mut dyn FnMut(&UndoEntry) -> bool,
    ) -> Result<Vec<UndoEntry>>;

    /// Of a tombstone: the transaction whose tombstone it shares, if an undo or the end of a version made it so. None
    /// of any other revision.
    ///
    /// Where data is shared, [`Revision::source`](crate::Revision::source) says so; two tombstones cannot be compared
    /// by their data. Rule 3.4 undoes a tombstone that shares an earlier one, but not an unrelated one. So a storage
    /// that undoes another storage's transactions, as an [`Overlay`](crate::Overlay) does, must ask. A storage that
    /// does not know says none; some undos are refused then which it would have done itself.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn tombstone_source(&self, _oid: Oid, _tid: Tid) -> Result<Option<Tid>> {
        Ok(None)
    }
}

/// A transaction that can be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoEntry {
    /// Its identity and time.
    pub tid: Tid,
    /// The user.
    pub user: Bytes,
    /// The description.
    pub description: Bytes,
    /// Anything else: a pickled dict, as bytes.
    pub extension: Bytes,
    /// Bytes that the transaction takes in its file, without the length behind it; zero where there is no file.
    pub size: u64,
}

/// Which lines of work there are beside the trunk.
pub trait Versions: Send + Sync {
    /// The versions in which some object's newest revision lies, by name.
    fn versions(&self) -> Result<Vec<Version>>;

    /// The version of the object's newest revision; the trunk for an object that is unknown.
    fn modified_in_version(&self, oid: Oid) -> Result<Version>;
}

/// Writing down many transactions of another storage at once, for fewer syncs.
pub trait Bulk: Send + Sync {
    /// Writes these transactions, oldest first, as if for each of them [`Storage::begin`](crate::Storage::begin) had
    /// been called with its metadata, tid and status, each of its revisions had been restored in their order
    /// ([`Draft::restore`](crate::Draft::restore): what an earlier transaction of the same call wrote can be a source
    /// or a base revision, as if it had been here before), and it had been voted on and finished. When it returns, all
    /// of them are durable and can be read.
    ///
    /// During the call a reader sees some first ones of them, each whole, and never a later one without the earlier
    /// ones; so does an opening after a crash. Drafts of others are judged by the database at their vote; the call
    /// waits for objects that they hold. Listeners hear one event for all of them
    /// ([`Event::Copied`](crate::Event::Copied)).
    ///
    /// Errors: tids that do not strictly increase, or are not later than the last one here; metadata too long; a status
    /// of undone; an empty record; read-only: each before anything is written. And whatever the disk says: then some
    /// first ones of them may be here, each whole, and [`Storage::last_transaction`](crate::Storage::last_transaction)
    /// says up to which.
    fn copy_in(&self, transactions: Vec<TransactionRecord>) -> Result<()>;
}

/// Giving back space.
pub trait Pack: Send + Sync {
    /// Forgets the past before `to`, as the rules of packing say.
    ///
    /// Errors: read-only; a pack that is running; dangling references, unless told to go on.
    fn pack(&self, to: Tid, how: PackOptions) -> Result<PackReport>;

    /// Packing by counts of references, if it keeps them.
    fn counts(&self) -> Option<&dyn Counts> {
        None
    }
}

/// Giving back space without a walk over the database.
pub trait Counts: Send + Sync {
    /// Forgets the past before `to`, and discards the objects to which no record refers (rule 4.11).
    ///
    /// Errors: read-only; a pack that is running; a record that may hide references; a missing root.
    fn pack_by_counts(&self, to: Tid) -> Result<()>;
}

/// How to pack: by default without collecting, and not past a broken reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackOptions {
    /// Collects garbage: objects go that nothing needs.
    pub collect: bool,
    /// Continues where a needed object refers to a missing one.
    pub go_on: bool,
    /// Keeps the old database, where the storage has a place for it: a file, beside it with `.old` behind its name.
    pub keep_old: bool,
    /// Uses the caller's thread alone, so that a server's other threads have processors. It takes longer.
    pub one_thread: bool,
}

impl PackOptions {
    /// Sets whether garbage is collected.
    pub fn collect(self, collect: bool) -> PackOptions {
        PackOptions { collect, ..self }
    }

    /// Sets whether the pack continues past a broken reference.
    pub fn go_on(self, go_on: bool) -> PackOptions {
        PackOptions { go_on, ..self }
    }

    /// Sets whether the old database is kept.
    pub fn keep_old(self, keep_old: bool) -> PackOptions {
        PackOptions { keep_old, ..self }
    }

    /// Sets whether the caller's thread does all of it.
    pub fn one_thread(self, one_thread: bool) -> PackOptions {
        PackOptions { one_thread, ..self }
    }
}

/// The result of a pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackReport {
    /// References to missing objects, each once, in order: the referring object, the missing one.
    pub dangling: Vec<(Oid, Oid)>,
}

impl From<Vec<(Oid, Oid)>> for PackReport {
    fn from(dangling: Vec<(Oid, Oid)>) -> PackReport {
        PackReport { dangling }
    }
}
