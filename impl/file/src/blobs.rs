//! Blobs as files: handles to them, and what a commit does with them.
//!
//! ```text
//!   new_blob, adopt     Fresh, in tmp/         the vote claims it
//!   another storage's   anything               the vote copies it: Fresh
//!   an undo, an end     Committed              the vote gives it a second name: Fresh
//!   the second phase    Fresh ── place ──▶ the file of (oid, tid)
//!   load, iterators     Committed
//! ```
//!
//! Whether a revision has a blob is told by the folder: there is a file of its oid and its tid.

mod handle;
mod place;

use std::io;

use vellum_blob::{BlobFolder, Opening};
use vellum_storage::{Blob, BlobWriter, Error, Oid, Result, Tid};

use crate::options::Options;
pub(crate) use handle::Claimed;
use handle::{Committed, Fresh, Writer};
pub(crate) use place::{NotPlaced, Placing, place, remove_unfinished};

/// The blob folder of an open file.
#[derive(Clone, Debug)]
pub(crate) struct BlobFiles {
    folder: BlobFolder,
}

impl BlobFiles {
    /// Opens the folder, if there is to be one.
    pub fn open(options: &Options, data_is_new: bool) -> Result<Option<BlobFiles>> {
        let Some(path) = &options.blobs else { return Ok(None) };
        let opening = Opening { layout: options.blob_layout, read_only: options.read_only, data_is_new };
        // A mistake in looking is one in opening, which says it better.
        let is_new =
            options.disk.resolve(path).is_ok_and(|path| !options.disk.exists(&path.join(MARKER)).unwrap_or(true));
        let folder = BlobFolder::open(options.disk.clone(), path, opening).map_err(trouble)?;
        if is_new && !data_is_new && folder.walk().next().is_none() {
            tracing::warn!(
                "{}: the blob folder is new, and the data file is not. If the database has blobs, their files are elsewhere",
                folder.path().display()
            );
        }
        Ok(Some(BlobFiles { folder }))
    }

    pub fn folder(&self) -> &BlobFolder {
        &self.folder
    }

    /// The blob of a revision, if it has one. No file is open until it is read.
    pub fn find(&self, oid: Oid, tid: Tid) -> Result<Option<Blob>> {
        match self.folder.length(oid, tid) {
            Ok(_) => Ok(Some(Blob::new(Committed::closed(&self.folder, oid, tid)))),
            Err(vellum_blob::Error::Missing { .. }) => Ok(None),
            Err(other) => Err(trouble(other)),
        }
    }

    /// The same with its file open: it stays good when a pack removes the file.
    pub fn load(&self, oid: Oid, tid: Tid) -> Result<Blob> {
        Ok(Blob::new(Committed::open(&self.folder, oid, tid)?))
    }

    /// A blob that is being written.
    pub fn writer(&self) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(Writer::new(&self.folder, self.folder.temporary().map_err(trouble)?)))
    }

    /// A file that a client put into the folder.
    pub fn adopt(&self, oid: Oid, name: &str) -> Result<Blob> {
        Ok(Blob::new(Fresh::new(&self.folder, self.folder.adopt(oid, name).map_err(trouble)?)))
    }

    /// A file for a transaction that was voted on, with the bytes of this blob.
    pub fn claim(&self, blob: &Blob, oid: Oid) -> Result<Claimed> {
        match Claimed::try_from(blob, &self.folder) {
            Some(claimed) => Ok(claimed),
            None => Ok(Claimed::try_from(&self.fresh(blob, oid)?, &self.folder).expect("it was just made")),
        }
    }

    /// A blob with the same bytes that is on its way in this folder: the blob itself, if it is.
    pub fn own(&self, blob: &Blob, oid: Oid) -> Result<Blob> {
        if Claimed::try_from(blob, &self.folder).is_some() { Ok(blob.clone()) } else { self.fresh(blob, oid) }
    }

    /// The bytes of this blob once more: a second name of the file, if it is another revision's of the object; else a copy.
    fn fresh(&self, blob: &Blob, oid: Oid) -> Result<Blob> {
        let ready = match blob.downcast_ref::<Committed>().and_then(|committed| committed.revision_in(&self.folder)) {
            Some((other, tid)) if other == oid => self.folder.duplicate(oid, tid).map_err(trouble)?,
            _ => {
                let mut copy = self.folder.temporary().map_err(trouble)?;
                blob.pieces(COPY_PIECE, &mut |piece| copy.append(piece).map_err(trouble))?;
                copy.sync().map_err(trouble)?
            }
        };
        Ok(Blob::new(Fresh::new(&self.folder, ready)))
    }
}

/// The file that every blob folder has.
const MARKER: &str = ".layout";

/// A blob of another storage is copied in pieces of this size.
const COPY_PIECE: usize = 1 << 20;

/// The folder's error as the storage's.
pub(crate) fn trouble(error: vellum_blob::Error) -> Error {
    match error {
        vellum_blob::Error::ReadOnly { path } => Error::ReadOnly { name: path.display().to_string() },
        vellum_blob::Error::Missing { path, oid, tid } => Error::NoBlob { oid, tid, path: Some(path) },
        other => Error::Blob(Box::new(other)),
    }
}

/// The folder's error as the system's.
fn as_io(error: vellum_blob::Error) -> io::Error {
    let kind = if let vellum_blob::Error::Io { source, .. } = &error { source.kind() } else { io::ErrorKind::Other };
    io::Error::new(kind, error)
}
