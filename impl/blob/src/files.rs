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
//!
//! Storages with a blob folder share this. Each says in its own way which names a commit is about to give, so that the
//! next opening finds them after a crash.

mod handle;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use vellum_disk::Disk;
use vellum_storage::{Blob, BlobWriter, Error, Oid, Result, Tid, TransactionRecord, may_have_blob};

use crate::folder::NoName;
use crate::{BlobFolder, Opening, Ready};
pub use handle::Claimed;
use handle::{Committed, Fresh, Writer};

/// The blob folder of an open storage.
#[derive(Clone, Debug)]
pub struct BlobFiles {
    folder: BlobFolder,
    disk: Arc<dyn Disk>,
}

/// A blob, and the revision that it will be of.
#[derive(Debug)]
pub struct Placing<'a> {
    /// The blob.
    pub blob: &'a Claimed,
    /// The object.
    pub oid: Oid,
    /// The transaction.
    pub tid: Tid,
}

/// Why blobs were not placed.
#[derive(Debug)]
pub struct NotPlaced {
    /// The error.
    pub source: io::Error,
    /// Whether names may be left.
    pub is_left: bool,
    /// The one that has no name for a reason of its own, counted from zero; none if it may be the reason of all.
    pub culprit: Option<usize>,
}

impl BlobFiles {
    /// Opens the folder at `path`.
    ///
    /// # Errors
    ///
    /// As [`BlobFolder::open`].
    pub fn open(disk: &Arc<dyn Disk>, path: &Path, opening: Opening) -> Result<BlobFiles> {
        let data_is_new = opening.data_is_new;
        // A mistake in looking is one in opening, which says it better.
        let is_new = disk.resolve(path).is_ok_and(|path| !disk.exists(&path.join(MARKER)).unwrap_or(true));
        let folder = BlobFolder::open(disk.clone(), path, opening)?;
        if is_new && !data_is_new && folder.walk().next().is_none() {
            tracing::warn!(
                "{}: the blob folder is new, and the data file is not. If the database has blobs, their files are elsewhere",
                folder.path().display()
            );
        }
        Ok(BlobFiles { folder, disk: disk.clone() })
    }

    /// The folder.
    pub fn folder(&self) -> &BlobFolder {
        &self.folder
    }

    /// The blob of a revision, if it has one. No file is open until it is read.
    ///
    /// # Errors
    ///
    /// Errors of the disk.
    pub fn find(&self, oid: Oid, tid: Tid) -> Result<Option<Blob>> {
        match self.folder.length(oid, tid) {
            Ok(_) => Ok(Some(Blob::new(Committed::closed(&self.folder, oid, tid)))),
            Err(crate::Error::Missing { .. }) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// Adds the blobs of a transaction's revisions. `is_gone`: whether a pack may have removed the revision since
    /// the transaction was read, and so its file.
    ///
    /// # Errors
    ///
    /// [`Error::BlobPacked`]; errors of the disk.
    pub fn find_all(
        &self,
        transaction: &mut TransactionRecord,
        mut is_gone: impl FnMut(Oid, Tid) -> Result<bool>,
    ) -> Result<()> {
        let tid = transaction.tid;
        let mut seen = HashSet::new();
        // Rule 8.1: what is written over has no blob.
        for revision in transaction.revisions.iter_mut().rev().filter(|revision| seen.insert(revision.oid)) {
            if revision.data.as_deref().is_some_and(may_have_blob) {
                revision.blob = self.find(revision.oid, tid)?;
                if revision.blob.is_none() && is_gone(revision.oid, tid)? {
                    return Err(Error::BlobPacked { oid: revision.oid, tid });
                }
            }
        }
        Ok(())
    }

    /// The same with its file open: it stays good when a pack removes the file.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`] if there is none; errors of the disk.
    pub fn load(&self, oid: Oid, tid: Tid) -> Result<Blob> {
        Ok(Blob::new(Committed::open(&self.folder, oid, tid)?))
    }

    /// A blob that is being written.
    ///
    /// # Errors
    ///
    /// Read-only; errors of the disk.
    pub fn writer(&self) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(Writer::new(&self.folder, self.folder.temporary()?)))
    }

    /// A file that a client put into the folder.
    ///
    /// # Errors
    ///
    /// As [`BlobFolder::adopt`].
    pub fn adopt(&self, oid: Oid, name: &str) -> Result<Blob> {
        Ok(Blob::new(Fresh::new(&self.folder, self.folder.adopt(oid, name)?)))
    }

    /// A file for a transaction that was voted on, with the bytes of this blob.
    ///
    /// # Errors
    ///
    /// The bytes cannot be read, or not be written here.
    pub fn claim(&self, blob: &Blob, oid: Oid) -> Result<Claimed> {
        match Claimed::try_from(blob, &self.folder) {
            Some(claimed) => Ok(claimed),
            None => Ok(Claimed::try_from(&self.fresh(blob, oid)?, &self.folder).expect("it was just made")),
        }
    }

    /// A blob with the same bytes that is on its way in this folder: the blob itself, if it is.
    ///
    /// # Errors
    ///
    /// As [`BlobFiles::claim`].
    pub fn own(&self, blob: &Blob, oid: Oid) -> Result<Blob> {
        if Claimed::try_from(blob, &self.folder).is_some() { Ok(blob.clone()) } else { self.fresh(blob, oid) }
    }

    /// Returns a new blob with the same bytes: a second name of its file, if that belongs to a revision in this folder
    /// or another one on the same device; otherwise a copy.
    fn fresh(&self, blob: &Blob, oid: Oid) -> Result<Blob> {
        let committed = blob.downcast_ref::<Committed>();
        let here = committed.and_then(|committed| committed.revision_in(&self.folder));
        let ready = match (here, committed) {
            (Some((other, tid)), _) if other == oid => self.folder.duplicate(oid, tid)?,
            (None, Some(committed)) => match committed.take_to(&self.folder, &*self.disk) {
                // A pack has removed its file; its bytes can be read as long as it is open.
                Err(Error::NoBlob { .. }) => self.copy(blob)?,
                taken => taken?,
            },
            _ => self.copy(blob)?,
        };
        Ok(Blob::new(Fresh::new(&self.folder, ready)))
    }

    fn copy(&self, blob: &Blob) -> Result<Ready> {
        let mut copy = self.folder.temporary()?;
        blob.pieces(COPY_PIECE, &mut |piece| Ok(copy.append(piece)?))?;
        Ok(copy.sync()?)
    }

    /// Rule 8.6: gives the blobs their final names, durably.
    ///
    /// # Errors
    ///
    /// A name cannot be given: then none is left, if [`NotPlaced::is_left`] says so.
    pub fn place(&self, blobs: &[Placing<'_>]) -> Result<(), NotPlaced> {
        self.sync(&self.name(blobs)?)
    }

    /// The same, not yet durably; the places. If one gets no name, the others are on their way again: they can be
    /// placed once more, for other transactions.
    ///
    /// # Errors
    ///
    /// As [`BlobFiles::place`].
    pub fn name(&self, blobs: &[Placing<'_>]) -> Result<Vec<(Oid, Tid)>, NotPlaced> {
        let places: Vec<(Oid, Tid)> = blobs.iter().map(|placing| (placing.oid, placing.tid)).collect();
        for (n, Placing { blob, oid, tid }) in blobs.iter().enumerate() {
            if let Err(NoName { error, is_tried }) = blob.place(*oid, *tid) {
                blobs[..n].iter().for_each(|Placing { blob, oid, tid }| blob.take_back(*oid, *tid));
                // A rename that failed may be done all the same.
                let is_left = self.folder.remove(&places[..n + usize::from(is_tried)]).is_err();
                return Err(NotPlaced { source: as_io(error), is_left, culprit: Some(n) });
            }
        }
        Ok(places)
    }

    /// Makes names durable that were given.
    ///
    /// # Errors
    ///
    /// The disk's. A failed sync may have forgotten what it failed on, so that taking the names back would be no
    /// better.
    pub fn sync(&self, places: &[(Oid, Tid)]) -> Result<(), NotPlaced> {
        let failed = |error| NotPlaced { source: as_io(error), is_left: true, culprit: None };
        self.folder.sync(places).map_err(failed)
    }
}

/// The file that every blob folder has.
const MARKER: &str = ".layout";

/// A blob of another storage is copied in pieces of this size.
const COPY_PIECE: usize = 1 << 20;

impl From<crate::Error> for Error {
    /// The folder's error as the storage's.
    fn from(error: crate::Error) -> Error {
        match error {
            crate::Error::ReadOnly { path } => Error::ReadOnly { name: path.display().to_string() },
            crate::Error::Missing { path, oid, tid } => Error::NoBlob { oid, tid, path: Some(path) },
            other => Error::Blob(Box::new(other)),
        }
    }
}

/// The folder's error as the system's.
fn as_io(error: crate::Error) -> io::Error {
    let kind = if let crate::Error::Io { source, .. } = &error { source.kind() } else { io::ErrorKind::Other };
    io::Error::new(kind, error)
}
