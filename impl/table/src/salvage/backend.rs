//! A damaged file for the store: an unreadable part is zeros, and the store asks for no repair.
//!
//! The store reads nothing more after an error of the disk, and refuses a file that needs a repair which fails. So a
//! bad sector, or the missing end of a short file, is a page of zeros here: damaged, and the only one that is. Two bits
//! of the tenth byte ask for a repair; they are not shown. With one more bit the store goes by its commit before the
//! last, if the last one cannot be found.

use std::io;
use std::ops::Bound;
use std::sync::Arc;

use redb::{BackendError, Builder, ConcurrencyMode, DatabaseError, ReadOnlyDatabase, StorageBackend};
use vellum_disk::DiskFile;

/// The byte with the bits, by the store's documentation.
const BITS: u64 = 9;
/// Which of the two commits is the last one.
const LAST: u8 = 1;
/// The file was not closed, or its last commit may not be durable.
const UNCLEAN: u8 = 2 | 8;

#[derive(Debug)]
pub(super) struct Wrecked {
    file: Arc<dyn DiskFile>,
    flipped: u8,
}

/// Opens the tables as the last commit left them, or else as the one before it did.
pub(super) fn open(file: &Arc<dyn DiskFile>, cache_bytes: usize) -> Result<ReadOnlyDatabase, DatabaseError> {
    let open = |flipped| {
        let mut builder = Builder::new();
        // A reader beside a writer needs to know nothing of free pages.
        builder.set_cache_size(cache_bytes).set_concurrency_mode(ConcurrencyMode::SingleWriter);
        builder.open_read_only_with_backend(Wrecked { file: Arc::clone(file), flipped })
    };
    open(0).or_else(|error| open(LAST).map_err(|_| error))
}

impl StorageBackend for Wrecked {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = self.file.read_full_at(out, offset).unwrap_or(0);
        out[read..].fill(0);
        let bits = usize::try_from(BITS.wrapping_sub(offset)).ok().and_then(|at| out.get_mut(at));
        if let Some(bits) = bits {
            *bits = (*bits & !UNCLEAN) ^ self.flipped;
        }
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    /// Our own lock keeps others out.
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}
