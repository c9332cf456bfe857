//! A disk that counts.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vellum_disk::{Disk, DiskFile, Lock, Open, RealDisk};

/// The real disk, with a count of the reads.
#[derive(Clone, Debug, Default)]
pub struct Counted(pub Arc<AtomicU64>);

#[derive(Debug)]
struct CountedFile(Arc<dyn DiskFile>, Counted);

impl Counted {
    /// How many reads there were since this was last asked.
    pub fn reads(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Disk for Counted {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountedFile(RealDisk.open(path, how)?, self.clone())))
    }
    fn scratch(&self, near: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.scratch(near)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn link(&self, path: &Path, name: &Path) -> io::Result<()> {
        RealDisk.link(path, name)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealDisk.exists(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_directory(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for CountedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.0.fetch_add(1, Ordering::Relaxed);
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}
