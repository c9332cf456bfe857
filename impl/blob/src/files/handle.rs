//! The two kinds of blobs that have a file: committed ones, and those on their way.

use std::fmt;
use std::mem;
use std::sync::{Arc, OnceLock};

use vellum_disk::{Disk, DiskFile};
use vellum_storage::{Blob, BlobBytes, BlobWriter, Error, Oid, Result, Tid};
use vellum_sync::Mutex;

use crate::folder::NoName;
use crate::{BlobFolder, Ready, Temporary};

/// A revision's blob.
pub(super) struct Committed {
    folder: BlobFolder,
    oid: Oid,
    tid: Tid,
    /// Its file, if it is kept open.
    file: Option<Arc<dyn DiskFile>>,
}

impl Committed {
    /// With a file that is opened for each read: there may be many of them.
    pub fn closed(folder: &BlobFolder, oid: Oid, tid: Tid) -> Committed {
        Committed { folder: folder.clone(), oid, tid, file: None }
    }

    /// With its file open.
    pub fn open(folder: &BlobFolder, oid: Oid, tid: Tid) -> Result<Committed> {
        let file = folder.read(oid, tid)?;
        Ok(Committed { file: Some(file), ..Committed::closed(folder, oid, tid) })
    }

    /// The revision, if it is in this folder.
    pub fn revision_in(&self, folder: &BlobFolder) -> Option<(Oid, Tid)> {
        self.folder.is_same(folder).then_some((self.oid, self.tid))
    }

    /// The same bytes on their way in another folder.
    pub fn take_to(&self, folder: &BlobFolder, disk: &dyn Disk) -> Result<Ready> {
        Ok(folder.take_from(disk, &self.folder, self.oid, self.tid)?)
    }

    fn file(&self) -> Result<Arc<dyn DiskFile>> {
        self.file.clone().map_or_else(|| Ok(self.folder.read(self.oid, self.tid)?), Ok)
    }
}

impl fmt::Debug for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the blob {}", self.folder.path_of(self.oid, self.tid).display())
    }
}

impl BlobBytes for Committed {
    fn length(&self) -> Result<u64> {
        let path = || self.folder.path_of(self.oid, self.tid);
        self.file()?.len().map_err(|error| Error::io(path(), "asking for a blob's length", error))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let read = self.file()?.read_full_at(buffer, offset);
        read.map_err(|error| Error::io(self.folder.path_of(self.oid, self.tid), "reading a blob", error))
    }

    fn opened(&self) -> Result<Option<Blob>> {
        match self.file {
            Some(_) => Ok(None),
            None => Committed::open(&self.folder, self.oid, self.tid).map(|open| Some(Blob::new(open))),
        }
    }
}

/// A blob that no transaction has, or one that is being committed.
pub(super) struct Fresh {
    folder: BlobFolder,
    length: u64,
    state: Mutex<State>,
    /// Its file, once it was read.
    file: OnceLock<Arc<dyn DiskFile>>,
}

struct State {
    place: Place,
    /// Whether a voted transaction has it.
    is_claimed: bool,
}

enum Place {
    Temporary(Ready),
    /// It is the blob of this revision, or was to be, and its file is gone.
    Final(Oid, Tid),
}

impl Fresh {
    pub fn new(folder: &BlobFolder, ready: Ready) -> Fresh {
        let (folder, length) = (folder.clone(), ready.length());
        let state = State { place: Place::Temporary(ready), is_claimed: false };
        Fresh { folder, length, state: Mutex::new(state), file: OnceLock::new() }
    }

    fn file(&self) -> Result<&Arc<dyn DiskFile>> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = match &self.state.lock().place {
            Place::Temporary(ready) => ready.read(),
            Place::Final(oid, tid) => self.folder.read(*oid, *tid),
        };
        let file = file?;
        Ok(self.file.get_or_init(|| file))
    }
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a blob of {} bytes in {}", self.length, self.folder.path().display())
    }
}

impl BlobBytes for Fresh {
    fn length(&self) -> Result<u64> {
        Ok(self.length)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let read = self.file()?.read_full_at(buffer, offset);
        read.map_err(|error| Error::io(self.folder.path(), "reading a blob that is not committed yet", error))
    }
}

/// A blob of the folder that a voted transaction has. If it is dropped before it is placed, it is free again; and if
/// there is no other handle, its file is removed.
#[derive(Debug)]
pub struct Claimed(Blob);

impl Claimed {
    /// Claims the blob, if it is one on its way in this folder, and no other transaction has it.
    pub(super) fn try_from(blob: &Blob, folder: &BlobFolder) -> Option<Claimed> {
        let fresh = blob.downcast_ref::<Fresh>().filter(|fresh| fresh.folder.is_same(folder))?;
        let mut state = fresh.state.lock();
        if state.is_claimed || matches!(state.place, Place::Final(..)) {
            return None;
        }
        state.is_claimed = true;
        Some(Claimed(blob.clone()))
    }

    fn fresh(&self) -> &Fresh {
        self.0.downcast_ref().expect("only such are claimed")
    }

    /// Gives the file its final name.
    pub(super) fn place(&self, oid: Oid, tid: Tid) -> Result<(), NoName> {
        let mut state = self.fresh().state.lock();
        match mem::replace(&mut state.place, Place::Final(oid, tid)) {
            Place::Temporary(ready) => self.fresh().folder.place_or_not(ready, oid, tid),
            // It could not be taken back when another transaction of its batch failed.
            Place::Final(oid, tid) => {
                let path = self.fresh().folder.path_of(oid, tid);
                Err(NoName { error: crate::Error::Missing { path, oid, tid }, is_tried: false })
            }
        }
    }

    /// Lets a file that was placed be on its way again, before its name of this revision is removed. If that is not
    /// possible, the blob is gone with the name.
    pub(super) fn take_back(&self, oid: Oid, tid: Tid) {
        let fresh = self.fresh();
        if let Ok(ready) = fresh.folder.take_back(oid, tid, fresh.length) {
            fresh.state.lock().place = Place::Temporary(ready);
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.fresh().state.lock().is_claimed = false;
    }
}

/// A blob that is being written.
pub(super) struct Writer {
    folder: BlobFolder,
    temporary: Temporary,
}

impl Writer {
    pub fn new(folder: &BlobFolder, temporary: Temporary) -> Writer {
        Writer { folder: folder.clone(), temporary }
    }
}

impl BlobWriter for Writer {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.temporary.append(bytes)?)
    }

    fn length(&self) -> u64 {
        self.temporary.length()
    }

    fn finish(self: Box<Self>) -> Result<Blob> {
        Ok(Blob::new(Fresh::new(&self.folder, self.temporary.sync()?)))
    }
}
