//! redb's file on our disk, so that a test can take the disk away.

use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::StorageBackend;
use vellum_disk::DiskFile;
use vellum_sync::Mutex;

/// A file as redb wants one.
#[derive(Debug)]
pub(crate) struct Backend {
    file: Arc<dyn DiskFile>,
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

impl Backend {
    pub fn new(file: Arc<dyn DiskFile>, failed: Arc<Failure>) -> Backend {
        Backend { file, failed }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.failed.note(self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = self.failed.note(self.file.read_full_at(out, offset))?;
        if read == out.len() {
            return Ok(());
        }
        let why = format!("the file ends within a page: {read} of {} bytes at {offset}", out.len());
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.failed.note(self.file.set_len(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.failed.note(self.file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
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
