//! Blobs in the second phase, and what a crash in it leaves.
//!
//! ```text
//!   append · sync           the file names the revisions, durably, with status c
//!   place · sync folders    their blobs have their names
//!   mark · sync             from here on they are there
//! ```
//!
//! A name may become durable as soon as it is given, and later than that only by a sync. So it is given when the file
//! names the revision: then the next opening, which cuts the transaction off, finds the blobs and removes them. And the
//! mark is written when the names are durable, so that a marked transaction has its blobs.

use vellum_blob::{BlobFiles, Opening};
use vellum_disk::DiskFile;
use vellum_storage::Result;

use crate::format::UNFINISHED;
use crate::format::scan::Scanner;
use crate::options::Options;

/// Opens the blob folder, if there is to be one.
pub(crate) fn open(options: &Options, data_is_new: bool) -> Result<Option<BlobFiles>> {
    let Some(path) = &options.blobs else { return Ok(None) };
    let opening = Opening { layout: options.blob_layout, read_only: options.read_only, data_is_new };
    BlobFiles::open(&options.disk, path, opening).map(Some)
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
    let count = files.folder().remove(&places)?;
    if count > 0 {
        tracing::warn!("{}: {count} blobs of an unfinished commit removed", files.folder().path().display());
    }
    Ok(())
}
