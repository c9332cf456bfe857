//! The walk over transactions, with their blobs.
//!
//! The records are those of the moment at which the walk began, and the blob folder is that of now. A pack may have
//! removed a revision in between, and its blob: then the walk ends with an error, since a revision without a blob is
//! something else.

use std::sync::{Arc, Weak};

use vellum_blob::BlobFiles;
use vellum_storage::{Error, Oid, Order, Result, Tid, TidRange, TransactionRecord};

use crate::read::generation::Generation;
use crate::read::iterate::Transactions;
use crate::read::log::Log;
use crate::write::writer::Writer;

pub(crate) struct Walk {
    transactions: Transactions,
    blobs: Option<BlobFiles>,
    /// A walk does not keep the database open.
    writer: Weak<Writer>,
    began: Arc<Generation>,
}

impl Walk {
    /// `began`: where `transactions` are read.
    pub fn new(transactions: Transactions, writer: &Arc<Writer>, began: Arc<Generation>) -> Walk {
        Walk { transactions, blobs: writer.database.blobs.clone(), writer: Arc::downgrade(writer), began }
    }

    /// Whether a pack has removed the revision.
    fn is_gone(&self, oid: Oid, tid: Tid) -> Result<bool> {
        if let Some(writer) = self.writer.upgrade() {
            let now = writer.database.now();
            if !Arc::ptr_eq(&now, &self.began) {
                // A revision need not be in the object's past to be told: one that was undone is not, after a pack.
                return Ok(now.record_at(oid, tid)?.is_none() && !is_told(&now, oid, tid)?);
            }
            if !writer.database.options.read_only {
                return Ok(false);
            }
        }
        // A pack by another process is told by its file.
        let Log { path, file } = &self.began.log;
        let is_there = file.is_at(path).map_err(|e| Error::io(path, "looking whether a pack replaced it", e))?;
        Ok(!is_there)
    }
}

/// Whether the transaction has a revision of the object. It looks for the transaction from the beginning.
fn is_told(now: &Generation, oid: Oid, tid: Tid) -> Result<bool> {
    let only = TidRange { first: tid, last: tid };
    for transaction in Transactions::scattered(now.log.clone(), now.horizon.end(), only, Order::OldestFirst) {
        if transaction?.revisions.iter().any(|revision| revision.oid == oid) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Iterator for Walk {
    type Item = Result<TransactionRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut found = self.transactions.next()?;
        if let (Ok(transaction), Some(blobs)) = (&mut found, &self.blobs)
            && let Err(error) = blobs.find_all(transaction, |oid, tid| self.is_gone(oid, tid))
        {
            return Some(Err(error));
        }
        Some(found)
    }
}
