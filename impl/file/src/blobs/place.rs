//! Blobs in the second phase, and what a crash in it leaves.
//!
//! ```text
//!   append · sync           the file names the revisions, durably, with status c
//!   place · sync folders    their blobs have their names
//!   mark · sync             from here on they are there
//! ```
//!
//! A name may become durable as soon as it is given, and later than that only by a sync. So it is given when the file names
//! the revision: then the next opening, which cuts the transaction off, finds the blobs and removes them. And the mark is
//! written when the names are durable, so that what is marked has its blobs.

use vellum_disk::DiskFile;
use vellum_storage::{Oid, Result, Tid};

use super::{BlobFiles, Claimed, as_io, trouble};
use crate::format::UNFINISHED;
use crate::format::scan::Scanner;

/// A blob, and the revision that it will be of.
pub(crate) struct Placing<'a> {
    pub blob: &'a Claimed,
    pub oid: Oid,
    pub tid: Tid,
}

/// Why blobs were not placed.
pub(crate) struct NotPlaced {
    pub source: std::io::Error,
    /// Whether names may be left.
    pub is_left: bool,
}

/// Rule 8.6: gives the blobs their final names, durably. If a name cannot be given, none is left.
pub(crate) fn place(files: &BlobFiles, blobs: &[Placing<'_>]) -> Result<(), NotPlaced> {
    let places: Vec<(Oid, Tid)> = blobs.iter().map(|placing| (placing.oid, placing.tid)).collect();
    for (n, Placing { blob, oid, tid }) in blobs.iter().enumerate() {
        if let Err(error) = blob.place(*oid, *tid) {
            // A rename that failed may be done all the same. What was there before is not ours.
            let is_ours = !matches!(error, vellum_blob::Error::Exists { .. });
            let is_left = files.folder.remove(&places[..n + usize::from(is_ours)]).is_err();
            return Err(NotPlaced { source: as_io(error), is_left });
        }
    }
    // A failed sync may have forgotten what it failed on, so that taking back would be no better.
    files.folder.sync(&places).map_err(|error| NotPlaced { source: as_io(error), is_left: true })
}

/// Removes the blobs of the unfinished transactions that begin at `end`, before these are cut off.
pub(crate) fn remove_unfinished(files: &BlobFiles, file: &dyn DiskFile, end: u64, size: u64) -> Result<()> {
    let mut scanner = Scanner::new(file, size);
    let mut position = end;
    let mut places = Vec::new();
    // Blobs are placed only when all of the transaction is on the disk.
    while position < size {
        let mut written = Vec::new();
        let walked = scanner.transaction(position, |_, record| {
            written.push(record.header.oid);
            Ok(())
        });
        match walked {
            Ok(header) if header.status == UNFINISHED => {
                places.extend(written.into_iter().map(|oid| (oid, header.tid)));
                position = header.end(position);
            }
            _ => break,
        }
    }
    let count = files.folder.remove(&places).map_err(trouble)?;
    if count > 0 {
        tracing::warn!("{}: {count} blobs of an unfinished commit removed", files.folder.path().display());
    }
    Ok(())
}
