//! An import that stops where it could be finished: after its vote, so that it can be shown, and somebody asked.
//!
//! [`vellum_storage::import`] does a whole transaction. Here it gets a storage of which it sees the beginning of one
//! only:
//!
//! ```text
//!   import  ── new_oids, begin, store ... vote ──▶ the database            written down: which objects
//!           ── finish ──▶ nobody yet: the voted transaction is kept        and then it is finished, or dropped
//! ```

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vellum_file::FileStorage;
use vellum_storage::{
    Bytes, CurrentRecord, Error, Invalidation, Loaded, LoadedAt, Notify, Oid, Order, Result, Storage, Tid, TidRange,
    Transaction, TransactionMeta, TransactionRecord, Version, Vote, Voted,
};

use crate::ui::classes::class;

/// Where the oids begin that are given in a rehearsal: far from all that are used.
const REHEARSED: u64 = 1 << 62;

/// A database that keeps the one transaction that is made in it.
pub struct Held<'a> {
    storage: &'a FileStorage,
    kept: Arc<Mutex<Kept>>,
    /// In a rehearsal: the next oid.
    rehearsed: Option<Mutex<u64>>,
}

/// What was done so far.
#[derive(Default)]
struct Kept {
    draft: Option<Box<dyn Transaction>>,
    objects: Vec<Imported>,
    voted: Option<Box<dyn Voted>>,
}

/// An object that comes in.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Its new oid.
    pub oid: Oid,
    /// Its class, as far as it can be told.
    pub class: Option<String>,
    /// How long its record is.
    pub bytes: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Held<'a> {
    /// For this transaction, which was begun. In a rehearsal it gives oids that mean nothing.
    pub fn new(storage: &'a FileStorage, draft: Box<dyn Transaction>, rehearsal: bool) -> Held<'a> {
        let kept = Kept { draft: Some(draft), ..Kept::default() };
        let rehearsed = rehearsal.then(|| Mutex::new(REHEARSED));
        Held { storage, kept: Arc::new(Mutex::new(kept)), rehearsed }
    }

    /// The objects that came in, and the transaction, if it came to its vote.
    pub fn take(&self) -> (Vec<Imported>, Option<Box<dyn Voted>>) {
        let mut kept = lock(&self.kept);
        (mem::take(&mut kept.objects), kept.voted.take())
    }
}

/// The transaction, before its vote.
struct Draft {
    draft: Box<dyn Transaction>,
    kept: Arc<Mutex<Kept>>,
}

/// What the import takes for the voted transaction.
struct Later;

impl Transaction for Draft {
    fn store(&mut self, oid: Oid, serial: Tid, data: Bytes) -> Result<()> {
        let imported = Imported { oid, class: class(&data), bytes: data.len() as u64 };
        self.draft.store(oid, serial, data)?;
        lock(&self.kept).objects.push(imported);
        Ok(())
    }

    fn delete(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.draft.delete(oid, serial)
    }

    fn check_current(&mut self, oid: Oid, serial: Tid) -> Result<()> {
        self.draft.check_current(oid, serial)
    }

    fn vote(self: Box<Self>) -> Result<Box<dyn Voted>> {
        let voted = self.draft.vote()?;
        lock(&self.kept).voted = Some(voted);
        Ok(Box::new(Later))
    }

    fn try_vote(self: Box<Self>) -> Result<Vote> {
        self.vote().map(Vote::Voted)
    }
}

impl Voted for Later {
    fn resolved(&self) -> &[Oid] {
        &[]
    }

    fn touched(&self) -> Vec<Oid> {
        Vec::new()
    }

    /// It has no tid yet.
    fn finish_with(self: Box<Self>, _: Notify) -> Result<Tid> {
        Ok(Tid::ZERO)
    }
}

impl Storage for Held<'_> {
    fn name(&self) -> String {
        self.storage.name()
    }

    fn load(&self, oid: Oid, version: &Version) -> Result<Loaded> {
        self.storage.load(oid, version)
    }

    fn load_before(&self, oid: Oid, before: Tid) -> Result<Option<LoadedAt>> {
        self.storage.load_before(oid, before)
    }

    fn load_serial(&self, oid: Oid, tid: Tid) -> Result<Bytes> {
        self.storage.load_serial(oid, tid)
    }

    fn history(&self, oid: Oid, limit: usize) -> Result<Vec<vellum_storage::HistoryEntry>> {
        self.storage.history(oid, limit)
    }

    fn transactions(
        &self,
        range: TidRange,
        order: Order,
    ) -> Result<Box<dyn Iterator<Item = Result<TransactionRecord>> + Send>> {
        self.storage.transactions(range, order)
    }

    fn last_transaction(&self) -> Tid {
        self.storage.last_transaction()
    }

    fn last_invalidations(&self, count: usize) -> Result<Vec<Invalidation>> {
        self.storage.last_invalidations(count)
    }

    fn current_records(&self, first: Oid) -> Box<dyn Iterator<Item = Result<CurrentRecord>> + Send> {
        self.storage.current_records(first)
    }

    fn new_oids(&self, count: u32) -> Result<Vec<Oid>> {
        let Some(next) = &self.rehearsed else { return self.storage.new_oids(count) };
        let mut next = lock(next);
        let mut oids = Vec::new();
        while oids.len() < count as usize {
            let oid = Oid(*next);
            *next = next.checked_add(1).ok_or(Error::Exhausted { what: "oids" })?;
            if self.storage.newest_record(oid)?.is_none() {
                oids.push(oid);
            }
        }
        Ok(oids)
    }

    fn size(&self) -> u64 {
        self.storage.size()
    }

    fn object_count(&self) -> u64 {
        self.storage.object_count()
    }

    fn begin(&self, _: TransactionMeta) -> Result<Box<dyn Transaction>> {
        let draft = lock(&self.kept).draft.take().expect("an import begins one transaction");
        Ok(Box::new(Draft { draft, kept: Arc::clone(&self.kept) }))
    }
}
