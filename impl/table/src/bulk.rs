//! Many transactions of another storage at once (rule 3.7).
//!
//! Each is judged by the tables as the ones before it left them: a transaction of the store reads what it wrote.

use vellum_storage::{
    Bulk, Change, Error, Event, NoResolver, Result, Tid, TransactionMeta, TransactionRecord, Wants, judge,
};

use crate::past::Asked;
use crate::storage::{Shared, TableStorage, no_blobs};
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

fn copy_in(shared: &Shared, transactions: Vec<TransactionRecord>) -> Result<()> {
    shared.writable()?;
    let mut copied = Vec::with_capacity(transactions.len());
    for TransactionRecord { tid, status, user, description, extension, revisions } in transactions {
        let meta = TransactionMeta { user, description, extension, tid: Some(tid), status };
        meta.check(Tid::ZERO)?;
        let changes: Vec<_> = revisions.into_iter().map(Change::from).collect();
        changes.iter().try_for_each(Change::check)?;
        if changes.iter().any(|change| change.blob().is_some()) {
            return Err(no_blobs(shared));
        }
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
        done = shared.store.change(&mut turn, |tables, number| {
            step.iter().try_for_each(|Copied { tid, meta, changes, .. }| {
                let verdict = judge(&Asked(&*tables), changes, &NoResolver)?;
                tables.write(Ready { tid: *tid, meta, writes: &verdict.writes }, number)
            })
        });
    }
    let last = shared.store.now().last;
    let _telling = shared.telling.lock();
    drop((turn, held));
    if let Some(first) = first.filter(|_| last > before) {
        shared.listeners.tell(|| Event::Copied { first, last });
    }
    done.map_err(|error: Error| error)
}
