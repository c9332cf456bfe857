//! Walking over a large file on all cores.
//!
//! Transactions follow one another, and where one ends only its length tells: a walk has to begin at the beginning. Yet
//! a walk that begins anywhere soon finds a place where a whole transaction stands, and a record in it that names just
//! this position as its transaction's; from there it continues as the one from the beginning would. So the file is cut
//! into stretches, each walked over by itself, and they are put together in order:
//!
//! ```text
//!   nominal   |------- 0 -------|------- 1 -------|------- 2 -------|
//!   walked    [t][t][t][  t  ][t]·[t][t][t][t][t]...
//!                                 └─ is this where stretch 0 ended? Then it is true
//! ```
//!
//! Nothing is believed that the walk from the beginning would not have seen: a stretch counts only if it begins where
//! the one before it ended, up to its first fault, and everything that needs the index is checked when they are put
//! together. The caller continues from the end of that, transaction by transaction.

use std::sync::Arc;

use vellum_disk::DiskFile;
use vellum_storage::{Oid, Tid};

use crate::format::TransactionHeader;
use crate::format::record::Record;
use crate::format::scan::Scanner;
use crate::read::ahead::Ahead;

/// The result of a walk over a stretch.
pub(crate) struct Stretch {
    /// Where its first transaction starts.
    pub start: u64,
    /// Whole transactions, in order, without a gap.
    pub transactions: Vec<Walked>,
    /// All their records, in order.
    pub records: Vec<Seen>,
    /// Those of them that have more than data: a version, or a backpointer.
    special: Vec<Record>,
}

/// A transaction of a stretch.
pub(crate) struct Walked {
    pub position: u64,
    pub header: TransactionHeader,
    /// How many of the stretch's records are its.
    pub records: usize,
}

/// The facts about a record that opening needs: a tenth of the record, as there are many.
pub(crate) struct Seen {
    pub oid: Oid,
    pub position: u64,
    pub previous: u64,
    /// Bytes of the whole record.
    pub length: u64,
    /// One more than the place among the special ones.
    special: u32,
}

impl Stretch {
    /// All of the record, if it has more than data.
    pub fn special(&self, seen: &Seen) -> Option<&Record> {
        self.special.get((seen.special as usize).checked_sub(1)?)
    }
}

/// Files shorter than this are walked over by one thread.
const BYTES_MIN: u64 = 4 << 20;
const STRETCH_MIN: u64 = 256 << 10;
const STRETCH_MAX: u64 = 8 << 20;

/// The stretches of the file from `start` to `end`, in order, as they are done; none if it is too short to be cut.
pub(crate) fn stretches(
    file: Arc<dyn DiskFile>,
    start: u64,
    end: u64,
    threads: u64,
) -> Option<impl Iterator<Item = Stretch>> {
    let bytes = end - start;
    if bytes < BYTES_MIN || threads < 2 {
        return None;
    }
    let size = (bytes / (threads * 4)).clamp(STRETCH_MIN, STRETCH_MAX);
    Some(Ahead::new(bytes.div_ceil(size), threads, move |n| {
        let from = start + n * size;
        walk(&*file, from, (from + size).min(end), end, n == 0)
    }))
}

fn walk(file: &dyn DiskFile, from: u64, to: u64, end: u64, at_start: bool) -> Stretch {
    let mut scanner = Scanner::new(file, end);
    let mut stretch = Stretch { start: from, transactions: Vec::new(), records: Vec::new(), special: Vec::new() };
    if !at_start {
        match Scanner::new(file, end).resync(from, to, Tid::ZERO) {
            Some(start) => stretch.start = start,
            None => return stretch,
        }
    }
    let mut position = stretch.start;
    while position < to {
        let before = stretch.records.len();
        let (records, special) = (&mut stretch.records, &mut stretch.special);
        let walked = scanner.transaction(position, |_, record| {
            let plain = record.in_version.is_none() && record.backpointer == 0;
            records.push(Seen {
                oid: record.header.oid,
                position: record.position,
                previous: record.header.previous,
                length: record.header.body_at() + record.header.body_length(),
                special: if plain { 0 } else { special.len() as u32 + 1 },
            });
            if !plain {
                special.push(record);
            }
            Ok(())
        });
        let Ok(header) = walked else {
            stretch.records.truncate(before);
            break;
        };
        stretch.transactions.push(Walked { position, header, records: stretch.records.len() - before });
        position = header.end(position);
    }
    stretch
}
