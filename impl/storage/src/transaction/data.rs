//! A record on its way into a storage: in memory, or in a scratch file when its transaction is large.
//!
//! Bytes in a scratch file are never changed, so a clone of a draft shares the file with the original and both go on
//! appending to it, each to a place of its own.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use vellum_sync::atomic::{AtomicU64, Ordering};

use crate::{Blob, Error, RecordBuffer, Result};

/// A record of some bytes, with the blob that is stored beside it, if there is one. Two are equal if they are the same
/// bytes in memory, or the same place of the same scratch file, and have the same blob.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Data {
    place: Place,
    blob: Option<Blob>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Place {
    Memory(Bytes),
    Spilled(Spilled),
}

#[derive(Clone)]
struct Spilled {
    scratch: Arc<Scratch>,
    offset: u64,
    length: u64,
}

impl PartialEq for Spilled {
    fn eq(&self, other: &Spilled) -> bool {
        Arc::ptr_eq(&self.scratch, &other.scratch) && self.offset == other.offset && self.length == other.length
    }
}

impl Eq for Spilled {}

impl Hash for Spilled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.offset, self.length).hash(state);
    }
}

impl Data {
    /// The same record with this blob beside it, or with none.
    pub fn with_blob(self, blob: impl Into<Option<Blob>>) -> Data {
        Data { blob: blob.into(), ..self }
    }

    /// The blob that is stored beside it.
    pub fn blob(&self) -> Option<&Blob> {
        self.blob.as_ref()
    }

    /// The record's length in bytes.
    pub fn len(&self) -> u64 {
        match &self.place {
            Place::Memory(bytes) => bytes.len() as u64,
            Place::Spilled(Spilled { length, .. }) => *length,
        }
    }

    /// Whether the record has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record's bytes, if they are in memory.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.place {
            Place::Memory(bytes) => Some(bytes),
            Place::Spilled(_) => None,
        }
    }

    /// The record's bytes, read from the scratch file if they are there.
    ///
    /// # Errors
    ///
    /// The scratch file cannot be read.
    pub fn bytes(&self) -> Result<Bytes> {
        match &self.place {
            Place::Memory(bytes) => Ok(bytes.clone()),
            Place::Spilled(spilled) => {
                let mut buffer = RecordBuffer::zeroed(spilled.length as usize);
                spilled.scratch.read(&mut buffer, spilled.offset)?;
                Ok(buffer.freeze())
            }
        }
    }

    /// Another record in place of this one, in memory or in the same scratch file, with the same blob.
    pub(super) fn replaced(&self, bytes: Bytes) -> Result<Data> {
        let data = match &self.place {
            Place::Memory(_) => bytes.into(),
            Place::Spilled(Spilled { scratch, .. }) => scratch.spill(&bytes)?,
        };
        Ok(data.with_blob(self.blob.clone()))
    }

    /// Hands the record's bytes over in order, in pieces of at most `piece` bytes, so that a large record is never in
    /// memory whole.
    ///
    /// # Errors
    ///
    /// The scratch file cannot be read, or `take` fails.
    pub fn pieces(&self, piece: usize, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match &self.place {
            Place::Memory(bytes) => bytes.chunks(piece).try_for_each(take),
            Place::Spilled(Spilled { scratch, offset, length }) => {
                let mut buffer = vec![0; piece.min(*length as usize)];
                let (mut at, end) = (*offset, offset + length);
                while at < end {
                    let part = (end - at).min(piece as u64) as usize;
                    scratch.file.read_exact_at(&mut buffer[..part], at)?;
                    take(&buffer[..part])?;
                    at += part as u64;
                }
                Ok(())
            }
        }
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Data {
        Data { place: Place::Memory(bytes), blob: None }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Memory(bytes) => bytes.fmt(f),
            Place::Spilled(Spilled { offset, length, .. }) => write!(f, "{length} bytes at {offset} of a scratch file"),
        }?;
        self.blob.as_ref().map_or(Ok(()), |blob| write!(f, " with {blob:?}"))
    }
}

/// A file with a place for each byte that is written to it. It is gone when the last draft that uses it is.
pub trait ScratchFile: Send + Sync {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills `bytes` with the bytes at `offset`.
    ///
    /// # Errors
    ///
    /// The system's error; unexpected end of file, if the file is shorter.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}

#[cfg(unix)]
impl ScratchFile for std::fs::File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, bytes, offset)
    }
}

/// The scratch file of a draft and its clones.
pub struct Scratch {
    path: PathBuf,
    file: Box<dyn ScratchFile>,
    end: AtomicU64,
}

impl Scratch {
    /// An empty scratch file. Errors name it by `path`.
    pub fn new(path: impl Into<PathBuf>, file: Box<dyn ScratchFile>) -> Scratch {
        Scratch { path: path.into(), file, end: AtomicU64::new(0) }
    }

    /// A file without a name in the system's folder for temporary files.
    ///
    /// # Errors
    ///
    /// The system has no room for one.
    pub fn temporary() -> Result<Scratch> {
        let folder = std::env::temp_dir();
        match tempfile::tempfile_in(&folder) {
            Ok(file) => Ok(Scratch::new(folder, Box::new(file))),
            Err(e) => Err(Error::io(folder, "creating a scratch file for a large transaction", e)),
        }
    }

    /// Writes bytes to a place of their own.
    pub(super) fn spill(self: &Arc<Self>, bytes: &[u8]) -> Result<Data> {
        let length = bytes.len() as u64;
        let offset = self.end.fetch_add(length, Ordering::Relaxed);
        let written = self.file.write_at(bytes, offset);
        written.map_err(|e| Error::io(&self.path, "writing a large transaction to a scratch file beside it", e))?;
        Ok(Data { place: Place::Spilled(Spilled { scratch: Arc::clone(self), offset, length }), blob: None })
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let read = self.file.read_exact_at(bytes, offset);
        read.map_err(|e| Error::io(&self.path, "reading a scratch file", e))
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("path", &self.path).field("end", &self.end).finish_non_exhaustive()
    }
}
