//! Many transactions of another storage at once (rule 3.7).
//!
//! Each is judged by the tables as the ones before it left them: a transaction of the store reads what it wrote.

use std::collections::HashSet;

use vellum_storage::{
    Blob, Bulk, Change, Event, NoResolver, Oid, Result, Tid, TransactionMeta, TransactionRecord, Wants, judge,
};

use crate::blobs::{self, Names};
use crate::pack::{Forgetting, change_and_forget};
use crate::past::Asked;
use crate::storage::{Shared, TableStorage};
use crate::tables::{Tables, Writing};
use crate::write::Ready;

/// About so many bytes of records share a step.
const STEP_BYTES: u64 = 8 << 20;

impl Bulk for TableStorage {
    fn copy_in(&self, transactions: Vec<TransactionRecord>) -> Result<()> {
        copy_in(&self.shared, transactions)
    }
}

/// A transaction that is to be copied.
struct Copied {
    tid: Tid,
    meta: TransactionMeta,
    changes: Vec<Change>,
    bytes: u64,
}

impl Copied {
    /// The revisions that may have a blob: those that bring one, and those that share the data of another one.
    fn names(&self) -> impl Iterator<Item = (Oid, Tid)> {
        self.changes.iter().filter_map(|change| match change {
            Change::Restore { oid, data: Some(data), source, .. } if data.blob().is_some() || source.is_some() => {
                Some((*oid, self.tid))
            }
            _ => None,
        })
    }
}

/// Moves the blobs of a transaction to the folder here, before the locks: copying the bytes may take long.
fn own_blobs(shared: &Shared, transaction: &mut TransactionRecord) -> Result<()> {
    let mut seen = HashSet::new();
    for revision in transaction.revisions.iter_mut().rev() {
        // Rule 8.1: what is written over has no blob.
        let is_last = seen.insert(revision.oid);
        let blob = revision.blob.take().filter(|_| is_last);
        revision.blob = blob.map(|blob| shared.blobs()?.own(&blob, revision.oid)).transpose()?;
    }
    Ok(())
}

fn copy_in(shared: &Shared, transactions: Vec<TransactionRecord>) -> Result<()> {
    shared.writable()?;
    let mut copied = Vec::with_capacity(transactions.len());
    for mut transaction in transactions {
        own_blobs(shared, &mut transaction)?;
        let TransactionRecord { tid, status, user, description, extension, revisions } = transaction;
        let meta = TransactionMeta { user, description, extension, tid: Some(tid), status };
        meta.check(Tid::ZERO)?;
        let changes: Vec<_> = revisions.into_iter().map(Change::from).collect();
        changes.iter().try_for_each(Change::check)?;
        let bytes = changes.iter().filter_map(Change::data).map(|data| data.len()).sum();
        copied.push(Copied { tid, meta, changes, bytes });
    }
    let held = shared.locks.take(&Wants { everything: true, ..Wants::default() });
    let mut turn = shared.store.turn();
    let before = shared.store.now().last;
    let mut last = before;
    for Copied { tid, meta, .. } in &copied {
        meta.check(last)?;
        last = *tid;
    }
    shared.within_quota(copied.iter().map(|copied| copied.bytes).sum())?;
    copied
        .iter()
        .flat_map(|copied| &copied.changes)
        .filter_map(Change::target)
        .for_each(|(oid, _)| shared.oids.saw(oid));
    let first = copied.first().map(|copied| copied.tid);
    let mut rest = &copied[..];
    let mut done = Ok(());
    while done.is_ok() && !rest.is_empty() {
        let mut bytes = 0;
        let fits = |copied: &&Copied| {
            bytes += copied.bytes;
            bytes <= STEP_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (step, after) = rest.split_at(count);
        rest = after;
        let names: Vec<_> = step.iter().flat_map(Copied::names).collect();
        let files = shared.store.blobs.as_ref().filter(|_| !names.is_empty());
        let write = |tables: &mut Tables<Writing<'_>>,
                     number: &mut u64,
                     mut names: Option<&mut Names<'_>>,
                     forgetting: &mut Forgetting| {
            step.iter().try_for_each(|Copied { tid, meta, changes, .. }| {
                // The files of the transactions before it have their names.
                let past = Asked { tables: &*tables, blobs: files };
                let verdict = judge(&past, changes, &NoResolver)?;
                let blobs = blobs::of_writes(files, &past, &verdict.writes)?;
                if let (Some(files), Some(names)) = (files, names.as_mut().filter(|names| !names.are_given(*tid))) {
                    let claim = |(oid, blob): (Oid, Blob)| Ok((oid, files.claim(&blob, oid)?));
                    names.give(&blobs.into_iter().map(claim).collect::<Result<Vec<_>>>()?, *tid)?;
                }
                tables.write(Ready { tid: *tid, meta, writes: &verdict.writes }, number)?;
                forgetting.after(tables, *tid)
            })
        };
        done = match files {
            None => change_and_forget(shared, &mut turn, |tables, number, forgetting| {
                write(tables, number, None, forgetting)
            }),
            Some(_) => blobs::change_with(shared, &mut turn, &names, |tables, number, names, forgetting| {
                write(tables, number, Some(names), forgetting)
            }),
        };
    }
    let last = shared.store.now().last;
    let _telling = shared.telling.lock();
    drop((turn, held));
    if let Some(first) = first.filter(|_| last > before) {
        shared.listeners.tell(|| Event::Copied { first, last });
    }
    done?;
    blobs::remove_forgotten(shared);
    Ok(())
}
