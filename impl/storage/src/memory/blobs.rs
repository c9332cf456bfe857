//! Blobs of the storage in memory: small ones are there, larger ones in a file without a name.

use std::fmt;
use std::sync::Arc;

use super::MemoryStorage;
use crate::blob::InMemory;
use crate::{Blob, BlobBytes, BlobWriter, Blobs, Error, Oid, Result, ScratchFile, Tid};

/// A blob of more bytes goes to a file.
const IN_MEMORY_MAX: usize = 1 << 20;

/// A foreign blob is copied in pieces of this size.
const PIECE: usize = 256 << 10;

impl Blobs for MemoryStorage {
    fn new_blob(&self) -> Result<Box<dyn BlobWriter>> {
        Ok(scratch_blob())
    }

    /// Rule 8.2.
    fn load_blob(&self, oid: Oid, tid: Tid) -> Result<Blob> {
        let state = self.read();
        let found = state.past(oid)?.into_iter().find(|at| at.transaction.tid == tid);
        let found = found.filter(|at| at.revision.data.is_some()).ok_or(Error::KeyError { oid, tid: Some(tid) })?;
        found.revision.blob.clone().ok_or(Error::NoBlob { oid, tid, path: None })
    }
}

/// The blob, if it is in memory or in a file that is this storage's; otherwise a copy.
pub(super) fn own(blob: &Blob) -> Result<Blob> {
    if blob.downcast_ref::<InMemory>().is_some() || blob.downcast_ref::<InFile>().is_some() {
        return Ok(blob.clone());
    }
    let mut writer = Box::new(Writer { place: Place::Memory(Vec::new()), length: 0 });
    blob.pieces(PIECE, &mut |piece| writer.append(piece))?;
    writer.finish()
}

/// A new blob that belongs to no storage: a small one is in memory, a larger one in a file without a name.
pub fn scratch_blob() -> Box<dyn BlobWriter> {
    Box::new(Writer { place: Place::Memory(Vec::new()), length: 0 })
}

/// A blob that is being written.
struct Writer {
    place: Place,
    length: u64,
}

enum Place {
    Memory(Vec<u8>),
    File(Arc<dyn ScratchFile>),
}

impl BlobWriter for Writer {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let failed = |error| Error::io(std::env::temp_dir(), "writing a blob to a scratch file", error);
        if let Place::Memory(memory) = &mut self.place {
            if memory.len() + bytes.len() <= IN_MEMORY_MAX {
                memory.extend_from_slice(bytes);
                self.length += bytes.len() as u64;
                return Ok(());
            }
            let file = tempfile::tempfile().map_err(failed)?;
            ScratchFile::write_at(&file, memory, 0).map_err(failed)?;
            self.place = Place::File(Arc::new(file));
        }
        if let Place::File(file) = &self.place {
            file.write_at(bytes, self.length).map_err(failed)?;
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn finish(self: Box<Self>) -> Result<Blob> {
        Ok(match self.place {
            Place::Memory(memory) => Blob::new(InMemory(memory.into())),
            Place::File(file) => Blob::new(InFile { file, length: self.length }),
        })
    }
}

/// A blob in a file without a name.
struct InFile {
    file: Arc<dyn ScratchFile>,
    length: u64,
}

impl fmt::Debug for InFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a blob of {} bytes", self.length)
    }
}

impl BlobBytes for InFile {
    fn length(&self) -> Result<u64> {
        Ok(self.length)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let length = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let read = self.file.read_exact_at(&mut buffer[..length], offset);
        read.map_err(|error| Error::io(std::env::temp_dir(), "reading a blob in a scratch file", error))?;
        Ok(length)
    }
}
