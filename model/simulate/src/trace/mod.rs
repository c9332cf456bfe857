//! Traces of clients' caches: what was asked for, what arrived, what changed.
//!
//! Three formats are read, and docs/traces.md has their bytes: those of ZEO's clients, RelStorage's, and a compact one
//! of this crate. Each may be compressed with gzip. All are the same list of [`Record`]s.

pub mod compact;
pub mod zeo;

use std::io::Read;

/// The event of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The cache was opened.
    Open,
    /// The current revision was asked for; its size and tid if it was there.
    Load(Option<(u32, u64)>),
    /// A revision of the past was asked for, that before a tid; its size, tid and end if it was there.
    LoadOld {
        /// The tid before which it was current.
        before: u64,
        /// Its size, tid and end.
        found: Option<(u32, u64, u64)>,
    },
    /// A revision arrived: its size, its tid, and its end if it is not current.
    Store {
        /// Bytes of its record.
        size: u32,
        /// The transaction that wrote it.
        tid: u64,
        /// The transaction that changed it.
        end: Option<u64>,
    },
    /// A transaction changed the object.
    Invalidate(u64),
    /// The object is to be forgotten, since nobody knows when it changed.
    Forget,
    /// The object refers to these, of these sizes. Only the compact format has it.
    References(Vec<(u64, u32)>),
}

/// An event of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Seconds since 1970.
    pub seconds: u32,
    /// The object; 0 for [`Event::Open`].
    pub oid: u64,
    /// The event.
    pub event: Event,
}

/// A trace as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// In the order of the file.
    pub records: Vec<Record>,
    /// The file ends within a record: the client was killed.
    pub is_cut: bool,
    /// Groups of 8 bytes without a time, which ZEO's tools skip.
    pub skipped: u64,
}

/// Why a file is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A record has an impossible part.
    #[error("byte {at}: {what}. No record of the file was used. Check that it is a cache trace")]
    Record {
        /// Where the record begins, in the decompressed file.
        at: u64,
        /// The part.
        what: String,
    },
    /// It cannot be decompressed.
    #[error("the file cannot be decompressed: {0}. No record of it was used. Copy it once more")]
    Gzip(String),
    /// It has too many bytes.
    #[error("the file has more than {BYTES_MAX} bytes when it is decompressed. Cut it into pieces")]
    TooLong,
    /// It has no record.
    #[error("the file has no records")]
    Empty,
}

/// Bytes of a decompressed trace.
pub const BYTES_MAX: u64 = 4 << 30;

/// Reads a trace of any format.
///
/// # Errors
///
/// If a record has an impossible part, or the file is no trace. A cut end is no error.
pub fn read(bytes: &[u8]) -> Result<Trace, Fault> {
    read_within(bytes, BYTES_MAX)
}

/// The same, with another limit of the decompressed bytes.
///
/// # Errors
///
/// Those of [`read`].
pub fn read_within(bytes: &[u8], bytes_max: u64) -> Result<Trace, Fault> {
    let mut plain = Vec::new();
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        let read = flate2::read::MultiGzDecoder::new(bytes).take(bytes_max + 1).read_to_end(&mut plain);
        read.map_err(|error| Fault::Gzip(error.to_string()))?;
        plain.as_slice()
    } else {
        bytes
    };
    if bytes.len() as u64 > bytes_max {
        return Err(Fault::TooLong);
    }
    let trace = if bytes.starts_with(compact::MAGIC) { compact::read(bytes)? } else { zeo::read(bytes)? };
    if trace.records.is_empty() { Err(Fault::Empty) } else { Ok(trace) }
}
