//! The traits: what a storage promises to its callers.

use bytes::Bytes;

use crate::{
    Bulk, Busy, CopyChange, CurrentRecord, HistoryEntry, Invalidation, Loaded, LoadedAt, Oid, Order, Pack, Result, Tid,
    TidRange, TransactionMeta, TransactionRecord, UndoChange, UndoLog, Version, VersionChange, Versions,
};

/// Called with the new tid when a transaction is durable and nobody can read it yet, in the order of the tids: the
/// moment to tell other clients what to forget. It may run on another thread than `finish`, and should be quick; it must
/// not commit. If it panics, so does `finish`; a transaction that is durable is shown all the same.
pub type Notify = Box<dyn FnOnce(Tid) + Send>;

/// A database as its clients see it. Shared by threads. Reads never wait for a commit's fsync, and each sees exactly the
/// transactions that are finished: all of a transaction, or nothing of it.
pub trait Storage: Send + Sync {
    /// What to call it: for a file, its path.
    fn name(&self) -> String;

    /// Rule 2.1: the object as it is now. If its newest revision belongs to a version other than the one asked for, the data is
    /// that of the newest trunk revision; the tid is the newest revision's in either case, so that a cache never takes
    /// old data for current.
    ///
    /// Errors: a key error for an unknown object, and where there is nothing.
    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded>;

    /// Rule 2.2: what the trunk showed just before `before`: the data, the tid since which it showed that, and the tid of the
    /// revision at which it began to show something else. Where no commit of a version was undone, these are the last
    /// trunk revision before the moment and the next one. None if the object was not on the trunk yet.
    ///
    /// Errors: a key error for an unknown object, and if that revision is nothing.
    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>>;

    /// Rule 2.3: the record of exactly this revision; for a revision in a version, the trunk's record under it.
    ///
    /// Errors: a key error if there is no such revision, or it is nothing.
    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes>;

    /// Rule 2.4: the newest `limit` revisions, newest first.
    ///
    /// Errors: a key error for an unknown object.
    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>>;

    /// Rule 2.6: the transactions of a range. The iterator sees what was finished when it was made.
    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>>;

    /// Rule 2.7: the tid of the last finished transaction; [`Tid::ZERO`] if there is none.
    fn last_transaction(&self) -> Tid;

    /// Rule 2.8: what the last `count` transactions changed, oldest first.
    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>>;

    /// Rule 2.9: every object that is something on the trunk now, in the order of the oids, from `first` on. The iterator
    /// sees what was finished when it was made.
    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send>;

    /// `count` oids, one after the other, that nobody was given before.
    ///
    /// Errors: read-only; oids used up.
    fn new_oids(&self, count: u32) -> Result<Vec<Oid>>;

    /// Bytes that it takes.
    fn size(&self) -> u64;

    /// How many objects it knows, those included that are nothing now.
    fn object_count(&self) -> u64;

    /// Begins a transaction. Any number of them can be under way at the same time.
    ///
    /// Errors: read-only; metadata too long; a status of undone; a tid asked for that is not later than the last.
    fn begin(&self, meta: TransactionMeta) -> Result<Box<dyn Transaction>>;

    /// What can be undone, if it can undo.
    fn undo_log(&self) -> Option<&dyn UndoLog> {
        None
    }

    /// The versions, if it has them.
    fn versions(&self) -> Option<&dyn Versions> {
        None
    }

    /// Packing, if it can do that.
    fn pack(&self) -> Option<&dyn Pack> {
        None
    }

    /// Writing down many transactions of another storage at once, if it can do that.
    fn bulk(&self) -> Option<&dyn Bulk> {
        None
    }
}

/// A transaction that is being put together (rule 3.0). Nobody else sees anything of it, and it holds no lock. Dropping it aborts.
pub trait Transaction: Send {
    /// Rule 3.1: changes the object, or makes it. `serial` is the revision that the change was made to, [`Tid::ZERO`] for a new
    /// object; whether it is still the newest one is looked at by the vote.
    ///
    /// Errors: an empty record; quota.
    fn store(&mut self, oid: Oid, serial: Tid, data: Bytes) -> Result<()>;

    /// Rule 3.2: makes the object nothing. `serial` as for `store`.
    ///
    /// Errors: a key error for an unknown object; quota.
    fn delete(&mut self, oid: Oid, serial: Tid) -> Result<()>;

    /// Rule 3.3: makes the transaction depend on the object's being at `serial` when it is finished.
    fn check_current(&mut self, oid: Oid, serial: Tid) -> Result<()>;

    /// Undoing, if the storage can do that.
    fn undo(&mut self) -> Option<&mut dyn UndoChange> {
        None
    }

    /// Working in versions, if the storage has them.
    fn versions(&mut self) -> Option<&mut dyn VersionChange> {
        None
    }

    /// Writing down what another storage has, if this one can.
    fn copy(&mut self) -> Option<&mut dyn CopyChange> {
        None
    }

    /// The first phase: looks at every serial, asks the resolver where one is old, and holds the objects until the end.
    /// After it only the disk can keep the transaction from being finished. Waits while another transaction between vote
    /// and finish holds one of the objects.
    ///
    /// Errors: conflict, read conflict, version lock. After an error the transaction is aborted.
    fn vote(self: Box<Self>) -> Result<Box<dyn Voted>>;

    /// The same without waiting: if another transaction holds something that this one needs, the transaction comes back,
    /// and what it was.
    fn try_vote(self: Box<Self>) -> Result<Vote>;
}

/// What [`Transaction::try_vote`] came to.
pub enum Vote {
    /// It can be finished.
    Voted(Box<dyn Voted>),
    /// It has to wait for whoever holds this.
    Busy(Box<dyn Transaction>, Busy),
}

/// A transaction that can be finished. Dropping it aborts.
pub trait Voted: Send {
    /// The objects for which not the record stored but a merged one will be written: whoever stored them must read them
    /// again.
    fn resolved(&self) -> &[Oid];

    /// The objects of which it will write a revision, each once: those that undos and ends of versions touch included.
    fn touched(&self) -> Vec<Oid>;

    /// The second phase: gives it a tid, makes it durable, calls `notify`, and shows it to everybody, in that order.
    ///
    /// Errors: whatever the disk says. Unless the error says otherwise, nothing of the transaction is there.
    fn finish_with(self: Box<Self>, notify: Notify) -> Result<Tid>;

    /// The same, with nobody to notify.
    fn finish(self: Box<Self>) -> Result<Tid> {
        self.finish_with(Box::new(|_| ()))
    }
}
