//! Single revisions of any storage, found with the questions that every storage answers.

use crate::{
    Error, Oid, Order, Result, Revision, Status, Storage, Tid, TidRange, TransactionRecord, UndoEntry, Version,
};

/// A revision, with what there is to know of its transaction.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub tid: Tid,
    pub revision: Revision,
    /// Of a tombstone: the transaction whose tombstone it shares, if it shares one.
    pub tombstone_source: Option<Tid>,
}

impl Point {
    /// The tid of the revision that the trunk shows from this one on: itself, or its base revision.
    pub fn on_trunk(&self) -> Option<Tid> {
        if self.revision.version.is_trunk() { Some(self.tid) } else { self.revision.base }
    }
}

/// The transaction of this tid. Costs: reads it, with its data.
pub(crate) fn transaction(storage: &dyn Storage, tid: Tid) -> Result<Option<TransactionRecord>> {
    storage.transactions(TidRange { first: tid, last: tid }, Order::OldestFirst)?.next().transpose()
}

/// Which of these transactions, newest first, can be undone (rule 2.5): those the filter lets through, from number
/// `first` up to but not including `last`.
pub(crate) fn undoable(
    newest_first: impl Iterator<Item = Result<TransactionRecord>>,
    first: usize,
    last: usize,
    filter: &mut dyn FnMut(&UndoEntry) -> bool,
) -> Result<Vec<UndoEntry>> {
    let mut entries = Vec::new();
    for transaction in newest_first {
        if entries.len() >= last {
            break;
        }
        let TransactionRecord { tid, status, user, description, extension, .. } = transaction?;
        if status != Status::Complete {
            break;
        }
        let entry = UndoEntry { tid, user, description, extension, size: 0 };
        if filter(&entry) {
            entries.push(entry);
        }
    }
    Ok(entries.into_iter().skip(first).collect())
}

/// The revision that a transaction wrote of an object; the last one, if there are several.
pub(crate) fn find(storage: &dyn Storage, oid: Oid, tid: Tid) -> Result<Option<Point>> {
    let Some(TransactionRecord { tid, revisions, .. }) = transaction(storage, tid)? else { return Ok(None) };
    Ok(revisions.into_iter().rev().find(|r| r.oid == oid).map(|revision| Point {
        tid,
        revision,
        tombstone_source: None,
    }))
}

/// The object's newest revision at a moment: its tid and version. None if it was not there yet.
///
/// Costs: reads so much of the history as there is after the moment, and at most as much again.
pub(crate) fn newest_at(storage: &dyn Storage, oid: Oid, at: Tid) -> Result<Option<(Tid, Version)>> {
    let mut limit = 1;
    loop {
        let history = match storage.history(oid, limit) {
            Err(Error::KeyError { .. }) => return Ok(None),
            other => other?,
        };
        let all = history.len() < limit;
        if let Some(entry) = history.into_iter().find(|entry| entry.tid <= at) {
            return Ok(Some((entry.tid, entry.version)));
        }
        if all {
            return Ok(None);
        }
        limit = limit.saturating_mul(2);
    }
}
