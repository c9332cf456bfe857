//! The walk over transactions, with their blobs.
//!
//! The records are those of the moment at which the walk began, and the blob folder is that of now. A pack may have
//! removed a revision in between, and its blob: then the walk ends with an error, since a revision without a blob is
//! something else.

use std::sync::{Arc, Weak};

use vellum_blob::BlobFiles;
use vellum_storage::{Oid, Order, Result, Tid, TidRange, TransactionRecord};

use crate::storage::Shared;
use crate::store::Snapshot;

/// The transactions of a range, as they were when it was made.
pub(crate) struct Transactions {
    now: Arc<Snapshot>,
    blobs: Option<BlobFiles>,
    /// A walk does not keep the database open.
    shared: Weak<Shared>,
    range: Option<TidRange>,
    order: Order,
}

impl Transactions {
    pub fn new(shared: &Arc<Shared>, range: TidRange, order: Order) -> Transactions {
        let (now, blobs) = (shared.store.now_full(), shared.store.blobs.clone());
        Transactions { now, blobs, shared: Arc::downgrade(shared), range: Some(range), order }
    }

    /// Whether a pack has removed the revision.
    fn is_gone(&self, oid: Oid, tid: Tid) -> Result<bool> {
        // Of a database that was closed, nobody knows.
        let Some(shared) = self.shared.upgrade() else { return Ok(true) };
        let now = shared.store.now_full();
        if Arc::ptr_eq(&now, &self.now) {
            return Ok(false);
        }
        let told = now.tables.next_told(tid, tid, false)?;
        Ok(told.is_none_or(|told| told.revisions.iter().all(|revision| revision.oid != oid)))
    }
}

impl Iterator for Transactions {
    type Item = Result<TransactionRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let TidRange { first, last } = self.range.take()?;
        let from_end = self.order == Order::NewestFirst;
        let found = self.now.tables.next_told(first, last, from_end).transpose()?;
        if let Ok(TransactionRecord { tid, .. }) = &found {
            self.range = match from_end {
                true => tid.0.checked_sub(1).map(|before| TidRange { first, last: Tid(before) }),
                false => tid.0.checked_add(1).map(|after| TidRange { first: Tid(after), last }),
            };
        }
        Some(found.and_then(|mut found| {
            if let Some(blobs) = &self.blobs {
                blobs.find_all(&mut found, |oid, tid| self.is_gone(oid, tid))?;
            }
            Ok(found)
        }))
    }
}
