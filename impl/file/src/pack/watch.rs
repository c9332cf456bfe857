//! The options of a pack, its result, and its watcher.

use std::path::PathBuf;

use vellum_storage::{Oid, Result};

use crate::format::TransactionHeader;
use crate::format::record::Record;
use crate::read::generation::Generation;

/// How to pack a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packing {
    /// Collects garbage: objects go that nothing needs.
    pub collect: bool,
    /// Continues where a needed object refers to a missing one.
    pub go_on: bool,
    /// Keeps the file as it was before, under its name with `.old` behind it, in place of the one that is called so.
    pub keep_old: bool,
    /// Changes nothing where nothing would go. Otherwise transactions up to the time are marked as packed all the same,
    /// and cannot be undone any more.
    pub skip_if_all_stays: bool,
    /// Stops at a needed object that refers into another database: see [`vellum_storage::Collecting::stop_at_foreign`].
    pub stop_at_foreign: bool,
    /// Uses the caller's thread alone, whatever [`Options::threads`](crate::Options::threads) says: it takes longer,
    /// and leaves the other processors free.
    pub one_thread: bool,
}

impl Packing {
    /// Packs without collecting garbage; stops at a reference to an object that is nowhere; keeps no old file.
    pub const fn new() -> Packing {
        Packing {
            collect: false,
            go_on: false,
            keep_old: false,
            skip_if_all_stays: false,
            stop_at_foreign: false,
            one_thread: false,
        }
    }

    /// Sets [`Packing::collect`].
    #[must_use]
    pub const fn collect(self, collect: bool) -> Packing {
        Packing { collect, ..self }
    }

    /// Sets [`Packing::go_on`].
    #[must_use]
    pub const fn go_on(self, go_on: bool) -> Packing {
        Packing { go_on, ..self }
    }

    /// Sets [`Packing::keep_old`].
    #[must_use]
    pub const fn keep_old(self, keep_old: bool) -> Packing {
        Packing { keep_old, ..self }
    }

    /// Sets [`Packing::skip_if_all_stays`].
    #[must_use]
    pub const fn skip_if_all_stays(self, skip_if_all_stays: bool) -> Packing {
        Packing { skip_if_all_stays, ..self }
    }

    /// Sets [`Packing::stop_at_foreign`].
    #[must_use]
    pub const fn stop_at_foreign(self, stop_at_foreign: bool) -> Packing {
        Packing { stop_at_foreign, ..self }
    }

    /// Sets [`Packing::one_thread`].
    #[must_use]
    pub const fn one_thread(self, one_thread: bool) -> Packing {
        Packing { one_thread, ..self }
    }

    /// How many threads pack, of those that the storage may have.
    pub(super) fn threads(self, of: u64) -> u64 {
        if self.one_thread { 1 } else { of }
    }
}

/// The result of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packed {
    /// References to missing objects, each once, in order: the referring object, the missing one.
    pub dangling: Vec<(Oid, Oid)>,
    /// The file before the pack.
    pub before: Extent,
    /// The file now; the same, if the pack had nothing to do.
    pub after: Extent,
    /// The file as it was before, if it was to be kept.
    pub old: Option<PathBuf>,
}

impl Packed {
    /// Where there was nothing to do. How many transactions there are was not counted.
    pub(super) fn unchanged(now: &Generation) -> Packed {
        let extent = Extent { objects: now.index.len(), bytes: now.horizon.end(), ..Extent::default() };
        Packed { dangling: Vec::new(), before: extent, after: extent, old: None }
    }
}

/// How much there is in a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// Transactions.
    pub transactions: u64,
    /// Records in them.
    pub revisions: u64,
    /// Objects that have one.
    pub objects: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A step of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackStep {
    /// Finding out what survives; counted in objects.
    Collect,
    /// Copying it; counted in bytes of the old file.
    Copy,
}

/// The fate of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is kept.
    Kept,
    /// It goes: there was a newer one of its object at the pack's time.
    Forgotten,
    /// It goes, though it was the newest one of its object, and so the object goes.
    Collected,
}

/// The watcher of a running pack. It hears of the transactions at or before the pack's time, in the order of the file:
/// first of a transaction, then of each of its records, then of its end. Commits may be held back during a call, so it
/// must not wait for one.
pub trait PackWatch {
    /// How far it is.
    fn progress(&mut self, _step: PackStep, _done: u64, _of: u64) {}

    /// An attempt begins. Another one follows if concurrent transactions need more than it kept; then the earlier calls
    /// do not count.
    fn begins(&mut self) {}

    /// A transaction: user, description and extension.
    ///
    /// Errors, here and below, end the pack, and nothing was done.
    fn transaction(&mut self, _header: &TransactionHeader, _metadata: [&[u8]; 3]) -> Result<()> {
        Ok(())
    }

    /// One of its records. The file is still there, with all that the record holds.
    fn record(&mut self, _record: &Record, _fate: Fate) -> Result<()> {
        Ok(())
    }

    /// The end of it: whether something of it is kept.
    fn transaction_ends(&mut self, _is_kept: bool) -> Result<()> {
        Ok(())
    }

    /// Everything is ready, and the other revisions are about to be discarded. Another attempt may still follow.
    fn ready(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A pack without a watcher.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl PackWatch for Unwatched {}
