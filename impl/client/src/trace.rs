//! Traces: what was loaded, kept and invalidated, for a simulator of caches.
//!
//! The format is that of ZEO's clients. All numbers are big-endian:
//!
//! ```text
//!   0 seconds │ 4 bytes of the record (3), code (1) │ 8 bytes of the oid │ 10 tid │ 18 end │ 26 oid
//! ```
//!
//! | code | event |
//! |---|---|
//! | 00 | the client begins; without an oid |
//! | 20, 22 | a load of now: a miss, a hit |
//! | 24, 26 | a load of the past, with its moment; a hit |
//! | 52, 54 | a revision is kept: a current one, one that has ended |
//! | 1C, 1E | an object was changed; it was changed, and nobody knows when |

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use vellum_storage::{LoadedAt, Oid, Tid};
use vellum_sync::Mutex;

/// A larger record cannot be said.
const SIZE_MAX: usize = (1 << 23) - 1;

/// A trace that is being written.
pub(crate) struct Trace<W: Write = BufWriter<File>>(Mutex<Writing<W>>);

struct Writing<W> {
    to: W,
    /// Whether a write has failed. The trace ends there.
    has_failed: bool,
}

impl Trace {
    /// Appends to the file at `path`, which is made if there is none.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or written.
    pub fn open(path: &Path) -> io::Result<Trace> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let trace = Trace(Mutex::new(Writing { to: BufWriter::new(file), has_failed: false }));
        trace.write(0x00, 0, Tid::ZERO, Tid::ZERO, None);
        Ok(trace)
    }
}

impl<W: Write> std::fmt::Debug for Trace<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trace")
    }
}

impl<W: Write> Trace<W> {
    /// A load was asked of the cache. Without `before`, it is a load of now.
    pub fn load(&self, oid: Oid, before: Option<Tid>, found: Option<&LoadedAt>) {
        match (before, found) {
            (None, None) => self.write(0x20, 0, Tid::ZERO, Tid::ZERO, Some(oid)),
            (None, Some(found)) => self.write(0x22, found.data.len(), found.tid, Tid::ZERO, Some(oid)),
            (Some(before), None) => self.write(0x24, 0, Tid::ZERO, before, Some(oid)),
            (Some(_), Some(found)) => {
                self.write(0x26, found.data.len(), found.tid, found.next.unwrap_or_default(), Some(oid));
            }
        }
    }

    /// A revision is kept.
    pub fn store(&self, oid: Oid, found: &LoadedAt) {
        let code = if found.next.is_none() { 0x52 } else { 0x54 };
        self.write(code, found.data.len(), found.tid, found.next.unwrap_or_default(), Some(oid));
    }

    /// An object was changed by a transaction; none if nobody knows by which.
    pub fn change(&self, oid: Oid, tid: Option<Tid>) {
        let code = if tid.is_some() { 0x1c } else { 0x1e };
        self.write(code, 0, tid.unwrap_or_default(), Tid::ZERO, Some(oid));
    }

    fn write(&self, code: u32, size: usize, tid: Tid, end: Tid, oid: Option<Oid>) {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut record = Vec::with_capacity(34);
        record.extend((seconds as u32).to_be_bytes());
        // A size that cannot be said is said as the largest one.
        record.extend(((size.min(SIZE_MAX) as u32) << 8 | code).to_be_bytes());
        record.extend(if oid.is_some() { 8_u16 } else { 0 }.to_be_bytes());
        record.extend(tid.to_bytes());
        record.extend(end.to_bytes());
        record.extend(oid.iter().flat_map(|oid| oid.0.to_be_bytes()));
        let mut writing = self.0.lock();
        if !writing.has_failed
            && let Err(error) = writing.to.write_all(&record)
        {
            writing.has_failed = true;
            tracing::warn!(%error, "the trace of the cache ends here: it cannot be written");
        }
    }

    /// Has all records written.
    pub fn flush(&self) {
        let _ = self.0.lock().to.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_those_of_zeos_clients() {
        let trace = Trace(Mutex::new(Writing { to: Vec::new(), has_failed: false }));
        let found = |next: Option<u64>| LoadedAt { data: vec![1; 300].into(), tid: Tid(5), next: next.map(Tid) };
        trace.load(Oid(7), None, None);
        trace.store(Oid(7), &found(None));
        trace.store(Oid(7), &found(Some(9)));
        trace.load(Oid(7), None, Some(&found(None)));
        trace.load(Oid(7), Some(Tid(6)), Some(&found(Some(9))));
        trace.change(Oid(7), Some(Tid(9)));
        trace.change(Oid(7), None);
        let bytes = trace.0.lock().to.clone();
        assert_eq!(bytes.len(), 7 * 34);
        let shown: Vec<_> = bytes
            .chunks(34)
            .map(|record| {
                let number =
                    |at: usize, count: usize| record[at..at + count].iter().fold(0, |n, b| n << 8 | u64::from(*b));
                assert!(number(0, 4) > 1_600_000_000 && number(8, 2) == 8 && number(26, 8) == 7);
                (record[7], number(4, 3), number(10, 8), number(18, 8))
            })
            .collect();
        let wanted = [(0x20, 0, 0, 0), (0x52, 300, 5, 0), (0x54, 300, 5, 9), (0x22, 300, 5, 0), (0x26, 300, 5, 9)];
        assert_eq!(shown[..5], wanted);
        assert_eq!(shown[5..], [(0x1c, 0, 9, 0), (0x1e, 0, 0, 0)]);
    }
}
