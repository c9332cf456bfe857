//! redb's file on our disk, so that a test can take the disk away.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::StorageBackend;
use vellum_disk::DiskFile;
use vellum_sync::Mutex;

/// The length of redb's pages.
const PAGE: u64 = 4096;

/// A file as redb wants one.
#[derive(Debug)]
pub(crate) struct Backend {
    file: Arc<dyn DiskFile>,
    /// The writes of redb, where the file must not be written. Even to read, redb notes in the file that it is open,
    /// and repairs it after a crash.
    beside: Option<Mutex<Beside>>,
    /// The first error that the disk gave: redb tells later callers only that there was one.
    failed: Arc<Failure>,
}

/// Remembers the first error of a disk.
#[derive(Debug, Default)]
pub(crate) struct Failure(Mutex<Option<String>>);

impl Failure {
    fn note<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &done {
            self.0.lock().get_or_insert_with(|| error.to_string());
        }
        done
    }

    /// The error, if there was one.
    pub fn get(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

/// The length of a file and the pages that differ from it.
#[derive(Debug)]
struct Beside {
    length: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl Beside {
    /// Lays the pieces over what was read of the file.
    fn read(&self, offset: u64, out: &mut [u8]) {
        let end = offset + out.len() as u64;
        for (at, piece) in self.pieces.range(..end).filter(|(at, piece)| **at + piece.len() as u64 > offset) {
            let from = offset.max(*at);
            let to = end.min(at + piece.len() as u64);
            let (there, here) = ((from - at) as usize, (from - offset) as usize);
            let length = (to - from) as usize;
            out[here..here + length].copy_from_slice(&piece[there..there + length]);
        }
    }

    /// The pieces do not overlap.
    fn write(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        let met: Vec<u64> = self
            .pieces
            .range(..end)
            .map(|(at, piece)| (*at, piece.len() as u64))
            .filter(|(at, length)| at + length > offset)
            .map(|(at, _)| at)
            .collect();
        for at in met {
            let Some(piece) = self.pieces.remove(&at) else { continue };
            if at < offset {
                self.pieces.insert(at, piece[..(offset - at) as usize].to_vec());
            }
            if at + piece.len() as u64 > end {
                self.pieces.insert(end, piece[(end - at) as usize..].to_vec());
            }
        }
        self.pieces.insert(offset, data.to_vec());
        self.length = self.length.max(end);
    }
}

impl Backend {
    pub fn new(file: Arc<dyn DiskFile>, failed: Arc<Failure>) -> Backend {
        Backend { file, beside: None, failed }
    }

    /// One that writes nothing to the file.
    pub fn read_only(file: Arc<dyn DiskFile>, failed: Arc<Failure>) -> io::Result<Backend> {
        let length = file.len()?;
        let beside = Beside { length: length - length % PAGE, pieces: BTreeMap::new() };
        Ok(Backend { file, beside: Some(Mutex::new(beside)), failed })
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        if let Some(beside) = &self.beside {
            return Ok(beside.lock().length);
        }
        let length = self.failed.note(self.file.len())?;
        // A crash can leave a file that was being made longer, and redb refuses one that ends within a page. Nothing is
        // in that page yet.
        Ok(length - length % PAGE)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut read = self.failed.note(self.file.read_full_at(out, offset))?;
        if let Some(beside) = &self.beside {
            let beside = beside.lock();
            out[read..].fill(0);
            read = beside.length.saturating_sub(offset).min(out.len() as u64) as usize;
            beside.read(offset, out);
        }
        if read == out.len() {
            return Ok(());
        }
        let why = format!("the file ends within a page: {read} of {} bytes at {offset}", out.len());
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if let Some(beside) = &self.beside {
            beside.lock().length = length;
            return Ok(());
        }
        self.failed.note(self.file.set_len(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.beside.is_some() {
            return Ok(());
        }
        self.failed.note(self.file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(beside) = &self.beside {
            beside.lock().write(offset, data);
            return Ok(());
        }
        self.failed.note(self.file.write_at(data, offset))
    }
}

/// The first bytes of a redb file.
const MAGIC: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// Whether a file has the first bytes of a store. It may still be of another program.
///
/// # Errors
///
/// The file cannot be read.
pub fn is_store(disk: &dyn vellum_disk::Disk, path: &Path) -> io::Result<bool> {
    let mut first = [0; MAGIC.len()];
    let read = disk.open(path, vellum_disk::Open::Read)?.read_full_at(&mut first, 0)?;
    Ok(read == first.len() && first == *MAGIC)
}
