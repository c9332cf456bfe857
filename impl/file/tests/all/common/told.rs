//! A simulated disk that tells a test of every operation, so that the test can do something at that moment.

use std::io;
use std::path::Path;
use std::sync::Arc;

use vellum_disk::{Disk, DiskFile, Lock, Open, SimDisk};
use vellum_file::Options;

use super::{PATH, SharedClock, options};

pub type Before = Arc<dyn Fn(&'static str, u64, usize) + Send + Sync>;

/// A simulated disk that tells of every operation on a file before it does it.
#[derive(Clone)]
pub struct Told(SimDisk, Before);

struct ToldFile(Arc<dyn DiskFile>, Before);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

impl std::fmt::Debug for ToldFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ToldFile")
    }
}

impl Disk for Told {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let is_data = [PATH, "Data.fs.new", "Data.fs.pack"].iter().any(|name| path == Path::new(name));
        if !is_data {
            (self.1)("open beside", 0, 0);
        }
        let file = self.0.open(path, how)?;
        Ok(if is_data { Arc::new(ToldFile(file, Arc::clone(&self.1))) } else { file })
    }
    fn scratch(&self, near: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.scratch(near)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn link(&self, path: &Path, name: &Path) -> io::Result<()> {
        self.0.link(path, name)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.0.sync_directory(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.0.lock(path)
    }
}

impl DiskFile for ToldFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.1)("read", offset, buf.len());
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        (self.1)("write", offset, buf.len());
        self.0.write_at(buf, offset)
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn sync(&self) -> io::Result<()> {
        let done = self.0.sync();
        (self.1)("synced", 0, 0);
        done
    }
    fn give_back(&mut self) {
        (self.1)("give back", 0, 0);
    }
}

pub fn told(disk: &SimDisk, clock: &SharedClock, before: Before) -> Options {
    options(disk, clock).disk(Arc::new(Told(disk.clone(), before)))
}
