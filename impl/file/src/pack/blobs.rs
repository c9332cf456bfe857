//! The blobs that a pack forgets (rule 8.4).
//!
//! A walk through the folder, not through the data file, finds the files to be removed: most databases have many more
//! records than blobs. A file that belongs to no revision is left alone.
//!
//! ```text
//!   list (.removed), synced      before the data file is replaced
//!   replace the data file
//!   remove what is listed        each file only if the new data file does not have its revision
//! ```
//!
//! A crash leaves the list, and the next opening does the rest: whichever data file there is then says what it needs.

use std::cell::OnceCell;

use vellum_blob::{BlobFiles, Found, Removal};
use vellum_storage::{Error, Oid, Result, Status, Survivors, Tid};

use super::moment::Moment;
use crate::format::START;
use crate::format::scan::Scanner;
use crate::read::generation::Generation;

/// The files to be removed once the data file is replaced. If this is dropped before, no file is removed.
pub(super) struct Forgotten(Option<Removal>);

impl Forgotten {
    /// Rule 8.4: lists the files of revisions that are not kept. None if there is no such file, and no folder to be
    /// kept.
    pub fn list(
        files: &BlobFiles,
        moment: &Moment<'_>,
        survivors: &Survivors,
        keep_old: bool,
    ) -> Result<Option<Forgotten>> {
        // Files that an earlier pack could not remove.
        finish_left(files, moment.now, keep_old)?;
        let mut list = files.folder().list_removal()?;
        let (mut is_empty, revisions) = (true, Revisions::new(moment.now));
        for found in files.folder().walk() {
            let Found::Blob { oid, tid, .. } = found? else { continue };
            let Some(at) = revisions.position(oid, tid)? else { continue };
            if at < moment.boundary && !survivors.keeps(moment, oid, at)? {
                list.revision(oid, tid)?;
                is_empty = false;
            }
        }
        if is_empty && !keep_old {
            return Ok(None);
        }
        Ok(Some(Forgotten(Some(list.finish()?))))
    }

    /// Leaves the list for the next opening, when it is not known which data file that finds.
    pub fn leave(&mut self) {
        self.0 = None;
    }

    /// Removes the files, now that the data file was replaced.
    pub fn remove(mut self, keep_old: bool) -> Result<()> {
        let Some(removal) = self.0.take() else { return Ok(()) };
        // It was made of what this pack keeps.
        removal.carry_out(keep_old, |_, _| Ok(false)).map_err(|error| {
            let error = Error::from(error);
            tracing::warn!("the pack is done, but the blobs that it forgets are not all removed: {error}");
            error
        })?;
        Ok(())
    }
}

impl Drop for Forgotten {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(Removal::forget) {
            tracing::warn!("of a pack that failed, and can be removed: {error}");
        }
    }
}

/// Does the rest of a removal that was cut short.
pub(crate) fn finish_left(files: &BlobFiles, now: &Generation, keep_old: bool) -> Result<()> {
    let Some(left) = files.folder().left_removal()? else { return Ok(()) };
    let revisions = Revisions::new(now);
    let is_needed = |oid, tid| Ok(revisions.position(oid, tid)?.is_some());
    let removed = left.carry_out(keep_old, is_needed)?;
    tracing::info!(
        "{}: {} blobs that an earlier pack forgot are removed",
        files.folder().path().display(),
        removed.files
    );
    Ok(())
}

/// Finds single revisions, many of them.
struct Revisions<'a> {
    now: &'a Generation,
    /// Where each transaction begins, by tid; made when it is needed first.
    transactions: OnceCell<Vec<(Tid, u64)>>,
}

impl<'a> Revisions<'a> {
    fn new(now: &'a Generation) -> Revisions<'a> {
        Revisions { now, transactions: OnceCell::new() }
    }

    /// Where the object's revision of this transaction is; none if there is none.
    ///
    /// Costs: a look at the object's past. A revision behind a pack is not found there: then each call reads one
    /// transaction, and the first such call walks over all headers and takes 16 bytes of memory a transaction.
    fn position(&self, oid: Oid, tid: Tid) -> Result<Option<u64>> {
        if let Some(record) = self.now.record_at(oid, tid)? {
            return Ok(Some(record.position));
        }
        if self.transactions.get().is_none() {
            let _ = self.transactions.set(self.walk()?);
        }
        let all = self.transactions.get().map(Vec::as_slice).unwrap_or_default();
        let Ok(n) = all.binary_search_by_key(&tid, |&(tid, _)| tid) else { return Ok(None) };
        let (log, mut found) = (&self.now.log, None);
        let mut scanner = Scanner::new(&*log.file, self.now.horizon.end());
        let walked = scanner.transaction(all[n].1, |_, record| {
            if record.header.oid == oid {
                found = Some(record.position);
            }
            Ok(())
        });
        walked.map_err(|fault| log.fault(fault))?;
        Ok(found)
    }

    fn walk(&self) -> Result<Vec<(Tid, u64)>> {
        let (log, end) = (&self.now.log, self.now.horizon.end());
        let (mut scanner, mut position, mut all) = (Scanner::new(&*log.file, end), START, Vec::new());
        while position < end {
            let header = scanner.header(position).map_err(|fault| log.fault(fault))?;
            if header.status != Status::Undone.byte() {
                all.push((header.tid, position));
            }
            position = header.end(position);
        }
        all.sort_unstable();
        Ok(all)
    }
}
