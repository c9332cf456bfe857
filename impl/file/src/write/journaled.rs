//! The second phase with a journal: a batch is durable in the journal before the data file gets it.
//!
//! ```text
//!   journal   the batch as it will be · sync           from here on it is there, after any crash
//!   Data.fs   the same with status c · marks           not synced
//! ```
//!
//! The data file gets the status last, as ever. So other readers, and ZODB after a kill of this process, see a
//! transaction whole or not at all.
//!
//! Everything else that changes the data file retires the journal first: see ARCHITECTURE.md, "The journal".

use std::io;

use vellum_sync::Mutex;

use crate::format::{TransactionHeader, UNFINISHED};
use crate::journal::rounds::{Belongs, Draft, Failed, Rounds};
use crate::order;
use crate::read::database::Database;
use crate::read::generation::Generation;
use crate::write::append::{Broken, Chains, lay_out, mark, nothing_was_kept, write};
use crate::write::job::{Job, Placed};

/// The journal of an open storage, if it has one. Only the thread with the turn uses it, so no thread ever waits.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Option<Rounds>, order::Rounds>);

impl Journal {
    /// With a journal, from now on.
    pub fn begin(&self, rounds: Rounds) {
        *self.0.lock() = Some(rounds);
    }

    /// The length of the largest batch that goes to the journal; none without a journal.
    pub fn batch_max(&self) -> Option<u64> {
        self.0.lock().as_ref().map(Rounds::payload_max)
    }

    /// Makes sure that the data file needs no journal: before anything changes it that the journal does not have.
    pub fn retire(&self, now: &Generation) -> Result<(), Broken> {
        let (end, last) = now.horizon.get();
        match &mut *self.0.lock() {
            Some(rounds) => rounds.retire(&now.log.file, end, last).map_err(Broken::from),
            None => Ok(()),
        }
    }

    /// Writes a batch of transactions that touch different objects behind `start`, and makes it durable.
    pub fn write(&self, now: &Generation, database: &Database, placed: &[Placed], start: u64) -> Result<(), Broken> {
        let mut rounds = self.0.lock();
        match rounds.as_mut().filter(|rounds| fits(placed, rounds.payload_max())) {
            Some(rounds) => write_journaled(rounds, now, placed, start),
            None => {
                drop(rounds);
                self.retire(now)?;
                write(now, database, placed, start)
            }
        }
    }

    /// Removes the journal. The data file has everything, synced, unless this fails.
    pub fn close(&self, now: &Generation) -> io::Result<()> {
        self.0.lock().take().map_or(Ok(()), |rounds| rounds.close(&*now.log.file))
    }
}

/// Whether a transaction can go to a journal that takes batches up to this length.
pub(crate) fn is_small(job: &Job, batch_max: u64) -> bool {
    job.length <= batch_max && job.blobs.is_empty() && !job.pledge.is_spilled
}

/// Blobs get their names when the data file has their transaction, unfinished and synced: the journal cannot.
fn fits(placed: &[Placed], batch_max: u64) -> bool {
    placed.iter().map(|this| this.length).sum::<u64>() <= batch_max && placed.iter().all(|this| this.blobs.is_empty())
}

fn write_journaled(rounds: &mut Rounds, now: &Generation, placed: &[Placed], start: u64) -> Result<(), Broken> {
    let (Some(end), Some(last)) = (placed.last().map(Placed::end), placed.last().map(|this| this.tid)) else {
        return Ok(());
    };
    let length = end - start;
    let mut entry = Draft::new(length);
    lay_out(now, placed, &mut Chains::apart(now, placed)?, entry.bytes())?;
    let (file, before) = (&now.log.file, now.horizon.get().1);
    rounds.write(file, &mut entry, Belongs { position: start, length, before, last })?;
    let payload = entry.payload(length);
    for this in placed {
        payload[(this.position - start + TransactionHeader::STATUS_AT) as usize] = UNFINISHED;
    }
    let appended = file.write_at(payload, start).map_err(|source| nothing_was_kept(now, start, source));
    let written = appended.and_then(|()| {
        // No sync can forget these marks: the journal has them.
        mark(now, placed).map_err(|Broken { source, .. }| nothing_was_kept(now, start, source))
    });
    written.map_err(|broken| {
        let is_gone = rounds.take_back(length).is_ok();
        Broken { fatal: broken.fatal || !is_gone, ..broken }
    })
}

impl From<Failed> for Broken {
    fn from(Failed { doing, source, fatal }: Failed) -> Broken {
        Broken { doing, source, fatal, culprit: None }
    }
}
