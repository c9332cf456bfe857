//! The trait: what a storage promises to its callers.

use std::sync::Arc;

use bytes::Bytes;

use crate::transaction::wait;
use crate::{
    Blobs, Bulk, Capabilities, CurrentRecord, Draft, Error, HistoryEntry, Invalidation, Listener, Listening, Loaded,
    LoadedAt, Oid, Order, Pack, Result, Tid, TidRange, TransactionMeta, TransactionRecord, UndoLog, Version, Versions,
    Vote, Voted, Waiting,
};

/// A database as its clients see it. Shared by threads. Reads never wait for a commit's fsync, and each sees exactly
/// the transactions that are finished: all of a transaction, or nothing of it.
pub trait Storage: Send + Sync {
    /// Its name: for a file, its path.
    fn name(&self) -> String;

    /// Rule 2.1: the object as it is now. If its newest revision belongs to a version other than the one asked for, the
    /// data is that of the newest trunk revision; the tid is the newest revision's in either case, so that a cache
    /// never takes old data for current.
    ///
    /// # Errors
    ///
    /// A key error for an unknown object, and where there is nothing.
    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded>;

    /// Rule 2.2: what the trunk showed just before `before`: the data, the tid since which it showed that, and the tid
    /// of the revision at which it began to show something else. Where no commit of a version was undone, these are the
    /// last trunk revision before the moment and the next one. None if the object was not on the trunk yet.
    ///
    /// # Errors
    ///
    /// A key error for an unknown object, and if that revision is a tombstone.
    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>>;

    /// Rule 2.3: the record of exactly this revision; for a revision in a version, the trunk's record under it.
    ///
    /// # Errors
    ///
    /// A key error if there is no such revision, or it is nothing.
    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes>;

    /// Rule 2.4: the newest `limit` revisions, newest first.
    ///
    /// # Errors
    ///
    /// A key error for an unknown object.
    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<HistoryEntry>>;

    /// Rule 2.6: the transactions of a range. The iterator sees the transactions that were finished when it was made.
    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>>;

    /// Rule 2.7: the tid of the last finished transaction; [`Tid::ZERO`] if there is none.
    fn last_transaction(&self) -> Tid;

    /// Rule 2.8: what the last `count` transactions changed, oldest first.
    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>>;

    /// Rule 2.9: every object that is something on the trunk now, in the order of the oids, from `first` on. The
    /// iterator sees the transactions that were finished when it was made.
    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send>;

    /// `count` oids, one after the other, that were not given out before.
    ///
    /// # Errors
    ///
    /// Read-only; oids used up.
    fn new_oids(&self, count: u32) -> Result<Vec<Oid>>;

    /// An oid that was not given out before.
    ///
    /// # Errors
    ///
    /// As [`Storage::new_oids`].
    fn new_oid(&self) -> Result<Oid> {
        self.new_oids(1)?.first().copied().ok_or(Error::Exhausted { what: "oids" })
    }

    /// Bytes that it takes.
    fn size(&self) -> u64;

    /// The number of objects that it knows, including deleted ones.
    fn object_count(&self) -> u64;

    /// Begins a transaction. Any number of them can be under way at the same time (rule 3.0).
    ///
    /// # Errors
    ///
    /// Read-only; metadata too long; a status of undone; a tid asked for that is not later than the last.
    fn begin(&self, meta: TransactionMeta) -> Result<Draft>;

    /// The first phase: looks at every serial, asks the resolver where one is old, and holds the objects until the end.
    /// After it only the disk can keep the transaction from being finished. Waits while another transaction between
    /// vote and finish holds one of the objects; for ever, if that one belongs to the same thread.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused), and trouble. The transaction is aborted then.
    fn vote(&self, draft: Draft) -> Result<Voted> {
        vellum_sync::assert_none_held("the locks of another transaction");
        let mut waiting = Waiting::from(draft);
        loop {
            match self.attempt(waiting)? {
                Vote::Voted(voted) => return Ok(voted),
                Vote::Busy(busy) => waiting = *busy,
            }
            wait(|waker| waiting.wake(waker));
        }
    }

    /// The same without waiting: if another transaction holds something that this one needs, the draft comes back with
    /// what that is, and can queue ([`Waiting::wake`]).
    ///
    /// # Errors
    ///
    /// As [`Storage::vote`].
    fn try_vote(&self, draft: Draft) -> Result<Vote> {
        self.attempt(draft.into())
    }

    /// Tries again to vote on a draft that had to wait. It keeps its place in the queue.
    ///
    /// # Errors
    ///
    /// As [`Storage::vote`].
    fn attempt(&self, waiting: Waiting) -> Result<Vote>;

    /// Both phases at once.
    ///
    /// # Errors
    ///
    /// As [`Storage::vote`] and [`Voted::finish`].
    fn commit(&self, draft: Draft) -> Result<Tid> {
        self.vote(draft)?.finish()
    }

    /// Tells this listener what changes from now on, until what it returns is dropped.
    fn listen(&self, listener: Arc<dyn Listener>) -> Listening;

    /// Its capabilities beyond reading, storing and deleting. A draft may hold no other changes.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            undo: self.undo_log().is_some(),
            versions: self.versions().is_some(),
            restore: true,
            pack: self.pack().is_some(),
            bulk: self.bulk().is_some(),
            blobs: self.blobs().is_some(),
        }
    }

    /// The transactions that can be undone, if it can undo.
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

    /// The blobs, if it can keep any.
    fn blobs(&self) -> Option<&dyn Blobs> {
        None
    }
}
