//! Copying: the same history in another storage, whatever the two are.
//!
//! A database is a list of transactions, so a copy is a walk: read one, write it down with its tid, status and
//! metadata, and each of its revisions by the rule of restoring (3.7). A revision that shared earlier data shares it in
//! the copy, and a base revision is the base revision there.
//!
//! ```text
//!   from   [t1] [t2] [t3] [t4] [t5] [t6] [t7]
//!   to     [t1] [t2] [t3]                          stopped here: by a crash, a full disk, a person
//!                     └─ the same as in `from`? then go on with t4
//! ```
//!
//! **It can be stopped and continued.** If the destination has transactions already, the copy continues after its last
//! one. First it checks that the source has the same transaction; otherwise two histories would be mixed. So a nightly
//! copy copies only new transactions.
//!
//! **It is fast where the destination helps.** A transaction of its own is durable before the next one begins, and that
//! costs a sync or two. A storage that offers [`Bulk`] takes many at once, and syncs once for all of them.
//!
//! The storages' own files are not copied: for a file without a writer, use `cp`.

use std::borrow::Cow;
use std::sync::mpsc::sync_channel;
use std::{fmt, mem, thread};

use vellum_pickle::plain;

use crate::export::is_blob;
use crate::{Error, Order, Result, Revision, Status, Storage, Tid, TidRange, TransactionMeta, TransactionRecord};

/// How to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Bytes of transactions that are written down together, where the destination can do that: this much is repeated
    /// if it fails, and three times as much is held in memory: one batch is written, one waits, and one is read. One
    /// transaction may be larger.
    pub batch_bytes: usize,
}

impl CopyOptions {
    /// Batches of 64 MiB.
    pub const fn new() -> CopyOptions {
        CopyOptions { batch_bytes: 64 << 20 }
    }

    /// Sets [`CopyOptions::batch_bytes`].
    #[must_use]
    pub const fn batch_bytes(self, batch_bytes: usize) -> CopyOptions {
        CopyOptions { batch_bytes }
    }
}

impl Default for CopyOptions {
    /// As [`CopyOptions::new`].
    fn default() -> CopyOptions {
        CopyOptions::new()
    }
}

/// The progress of a copy, and its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// The last transaction of the destination, if it was not empty: the copy continued after it.
    pub resumed_after: Option<Tid>,
    /// The last transaction that was copied.
    pub last: Option<Tid>,
    /// Transactions copied.
    pub transactions: u64,
    /// Revisions copied.
    pub revisions: u64,
    /// Bytes of the records copied. A revision that shares its data counts zero.
    pub bytes: u64,
    /// Revisions of blobs copied.
    pub blobs: u64,
    /// Of these: revisions of which the source has the blob, and the copy got it.
    pub blob_files: u64,
    /// Bytes of these blobs.
    pub blob_bytes: u64,
}

impl CopyReport {
    fn add(&mut self, transaction: &TransactionRecord) {
        let own = transaction.revisions.iter().filter(|revision| revision.source.is_none());
        self.last = Some(transaction.tid);
        self.transactions += 1;
        self.revisions += transaction.revisions.len() as u64;
        let data = transaction.revisions.iter().filter_map(|revision| revision.data.as_ref());
        self.blobs += data.filter(|data| is_blob(data)).count() as u64;
        let blobs = transaction.revisions.iter().filter_map(|revision| revision.blob.as_ref());
        for blob in blobs {
            self.blob_files += 1;
            self.blob_bytes += blob.length().unwrap_or_default();
        }
        self.bytes += own.filter_map(|revision| revision.data.as_ref()).map(|data| data.len() as u64).sum::<u64>();
    }
}

impl fmt::Display for CopyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CopyReport { transactions, revisions, bytes, .. } = self;
        write!(f, "{transactions} transactions, {revisions} revisions, {bytes} bytes")?;
        self.resumed_after.map_or(Ok(()), |tid| write!(f, ", after {tid}"))
    }
}

/// Copies the transactions of a range, oldest first, into a storage that is empty or holds the beginning of the same
/// history. `progress` is called whenever something was made durable, and at the end.
///
/// It copies the transactions that are finished in the source when it begins. A range may begin after a revision's
/// source or base revision. Then the data is copied, and the base is what the trunk of the destination shows. A
/// transaction that the source marks as undone is left out, since no reader sees what it did.
///
/// Costs: reads each transaction of the range once, and holds a batch in memory.
///
/// ```
/// use vellum_storage::{CopyOptions, MemoryStorage, Oid, Storage, Tid, TidRange, TransactionMeta, copy};
///
/// let (from, to) = (MemoryStorage::new("from"), MemoryStorage::new("to"));
/// let mut draft = from.begin(TransactionMeta::new().user("ann"))?;
/// draft.store(Oid::ROOT, Tid::ZERO, "a record".into())?;
/// from.commit(draft)?;
///
/// let report = copy(&from, &to, TidRange::ALL, CopyOptions::default(), &mut |_| ())?;
/// assert_eq!((report.transactions, report.bytes), (1, 8));
/// assert_eq!(to.last_transaction(), from.last_transaction());
/// // There is nothing to add.
/// let again = copy(&from, &to, TidRange::ALL, CopyOptions::default(), &mut |_| ())?;
/// assert_eq!((again.transactions, again.resumed_after), (0, Some(to.last_transaction())));
/// # Ok::<(), vellum_storage::Error>(())
/// ```
///
/// # Errors
///
/// - The destination cannot copy, or holds another history than the source.
/// - There is a transaction between the destination's last one and the range.
/// - Either storage fails.
///
/// Transactions that were copied before an error stay, and are complete. Another copy continues after it.
pub fn copy(
    from: &dyn Storage,
    to: &dyn Storage,
    range: TidRange,
    options: CopyOptions,
    progress: &mut dyn FnMut(&CopyReport),
) -> Result<CopyReport> {
    let mut report = CopyReport::default();
    let mut range = range;
    let last = to.last_transaction();
    if last != Tid::ZERO {
        check_same(from, to, last)?;
        report.resumed_after = Some(last);
        if last == Tid::MAX {
            return Ok(report);
        }
        if let Some(left_out) = first_between(from, last, range.first)? {
            return Err(Error::Gap { to: to.name(), last, left_out });
        }
        range.first = range.first.max(last.next());
    }
    let bulk = to.bulk();
    if bulk.is_none() {
        check_copies(to)?;
    }
    let transactions = from.transactions(range, Order::OldestFirst)?.filter(is_counted);
    match bulk {
        Some(bulk) => in_batches(transactions, options.batch_bytes, |batch| {
            let mut done = report;
            batch.iter().for_each(|transaction| done.add(transaction));
            bulk.copy_in(batch)?;
            report = done;
            progress(&report);
            Ok(())
        })?,
        None => {
            for transaction in transactions {
                let transaction = transaction?;
                copy_one(to, &transaction)?;
                report.add(&transaction);
                progress(&report);
            }
        }
    }
    progress(&report);
    Ok(report)
}

/// Whether a transaction is copied: an error counts as one.
fn is_counted(transaction: &Result<TransactionRecord>) -> bool {
    !matches!(transaction, Ok(t) if t.status == Status::Undone)
}

/// The first transaction after `last` and before `first`.
fn first_between(from: &dyn Storage, last: Tid, first: Tid) -> Result<Option<Tid>> {
    if first <= last.next() {
        return Ok(None);
    }
    let between = TidRange { first: last.next(), last: Tid(first.0 - 1) };
    let next = from.transactions(between, Order::OldestFirst)?.find(is_counted).transpose()?;
    Ok(next.map(|transaction| transaction.tid))
}

/// Reads batches in a thread of its own, so that the next one is read while one is written and synced.
fn in_batches(
    transactions: impl Iterator<Item = Result<TransactionRecord>> + Send,
    batch_bytes: usize,
    mut write: impl FnMut(Vec<TransactionRecord>) -> Result<()>,
) -> Result<()> {
    thread::scope(|scope| {
        let (reader, batches) = sync_channel(1);
        scope.spawn(move || {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            for transaction in transactions {
                let full = match transaction {
                    Ok(transaction) => {
                        bytes += footprint(&transaction);
                        batch.push(transaction);
                        bytes >= batch_bytes
                    }
                    Err(error) => {
                        // The transactions that were read before it are written all the same.
                        let _ = reader.send(Ok(mem::take(&mut batch)));
                        let _ = reader.send(Err(error));
                        return;
                    }
                };
                // If the receiver is gone, the writer has failed.
                if full && reader.send(Ok(mem::take(&mut batch))).is_err() {
                    return;
                }
                bytes = if full { 0 } else { bytes };
            }
            let _ = reader.send(Ok(batch));
        });
        batches.into_iter().try_for_each(|batch| match batch? {
            batch if batch.is_empty() => Ok(()),
            batch => write(batch),
        })
    })
}

/// Bytes that a transaction takes in memory, about.
fn footprint(transaction: &TransactionRecord) -> usize {
    let TransactionRecord { user, description, extension, revisions, .. } = transaction;
    let data = revisions.iter().map(|revision| revision.data.as_ref().map_or(0, |data| data.len()));
    // Blobs wait on the disk, but what was copied of them is lost with the batch.
    let blobs = revisions.iter().filter_map(|revision| revision.blob.as_ref()?.length().ok());
    size_of::<TransactionRecord>()
        + [user, description, extension].iter().map(|bytes| bytes.len()).sum::<usize>()
        + revisions.len() * size_of::<Revision>()
        + data.sum::<usize>()
        + blobs.map(|length| usize::try_from(length).unwrap_or(usize::MAX)).fold(0, usize::saturating_add)
}

/// One transaction, as any other is committed.
pub(crate) fn copy_one(to: &dyn Storage, transaction: &TransactionRecord) -> Result<()> {
    let TransactionRecord { tid, status, user, description, extension, revisions } = transaction;
    let mut draft = to.begin(TransactionMeta {
        user: user.clone(),
        description: description.clone(),
        extension: extension.clone(),
        tid: Some(*tid),
        status: *status,
    })?;
    revisions.iter().try_for_each(|revision| draft.restore(revision.clone()))?;
    to.commit(draft)?;
    Ok(())
}

/// Finds out that the storage can copy before anything is done.
pub(crate) fn check_copies(to: &dyn Storage) -> Result<()> {
    to.begin(TransactionMeta::new())?;
    match to.capabilities().restore {
        true => Ok(()),
        false => Err(Error::Unfit {
            name: to.name(),
            why: "it cannot store the transactions of another storage (it offers no copying)".into(),
        }),
    }
}

/// Whether the destination's last transaction is in the source, and the same.
fn check_same(from: &dyn Storage, to: &dyn Storage, last: Tid) -> Result<()> {
    let one = TidRange { first: last, last };
    let read = |storage: &dyn Storage| storage.transactions(one, Order::OldestFirst)?.next().transpose();
    let why = match (read(from)?, read(to)?) {
        (Some(there), Some(here)) => {
            let keep_history = from.undo_log().is_some() && to.undo_log().is_some();
            difference(&there, &here, keep_history)
        }
        (None, _) => Some("the source does not have it".to_owned()),
        (_, None) => Some("it cannot be read back".to_owned()),
    };
    match why {
        None => Ok(()),
        Some(why) => Err(Error::NotACopy { from: from.name(), to: to.name(), tid: last, why }),
    }
}

/// In what two transactions differ. Two things are left out: where their data is kept, since that depends on where a
/// copy began; and the order of different objects, which no rule gives a meaning, and which some storages do not keep.
fn difference(there: &TransactionRecord, here: &TransactionRecord, keep_history: bool) -> Option<String> {
    let metadata = |t: &TransactionRecord| (t.user.clone(), t.description.clone(), t.extension.clone());
    // Rule 4.12: a history-free storage packs by itself.
    if there.status != here.status && keep_history {
        return Some("one of the two was packed since".to_owned());
    }
    if metadata(there) != metadata(here) {
        return Some("it has another user, description or extension there".to_owned());
    }
    let (there, here) = (by_object(there, keep_history), by_object(here, keep_history));
    let mut pairs = there.iter().zip(&here);
    let pair =
        pairs.find(|(there, here)| there.oid != here.oid || there.version != here.version || there.data != here.data);
    let fewer = there.len().min(here.len());
    match (pair, there.get(fewer), here.get(fewer)) {
        (Some((there, here)), ..) if there.oid == here.oid => {
            let plain = |revision: &Revision| plain(revision.data.as_deref()?).ok().map(Cow::into_owned);
            Some(match plain(there) {
                _ if there.version != here.version => format!("object {} has another version there", there.oid),
                Some(same) if Some(&same) == plain(here).as_ref() => {
                    format!(
                        "object {} has the same record there, but it is compressed in another way, or not",
                        there.oid
                    )
                }
                _ => format!("object {} has another record there", there.oid),
            })
        }
        (Some((there, here)), ..) if there.oid < here.oid => {
            Some(format!("it has object {} there, and not here", there.oid))
        }
        (Some((_, here)), ..) | (None, None, Some(here)) => Some(format!("it does not have object {} there", here.oid)),
        (None, Some(there), _) => Some(format!("it has object {} there, and not here", there.oid)),
        (None, None, None) => None,
    }
}

/// The revisions, by object. If there are several of one, the last counts (rule 1.4), so they keep their order; of a
/// storage that packs by itself, only the last one is compared.
fn by_object(transaction: &TransactionRecord, all: bool) -> Vec<&Revision> {
    let mut revisions: Vec<_> = transaction.revisions.iter().rev().collect();
    revisions.sort_by_key(|revision| revision.oid);
    if !all {
        revisions.dedup_by_key(|revision| revision.oid);
    }
    revisions
}
