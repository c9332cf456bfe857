//! Files on their way: in `tmp/`, until they get their names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_disk::DiskFile;

use crate::error::Result;
use crate::folder::Inner;

/// The beginning of the names of our temporary files: `vellum-7.tmp`. ZODB's begin otherwise, and are not ours to remove.
const PREFIX: &str = "vellum-";
const SUFFIX: &str = ".tmp";

/// After so many bytes the disk is told to begin with them, so that the sync at the end has less to wait for.
const BEGIN_EVERY: u64 = 8 << 20;

/// Whether a file in `tmp/` was made here.
pub(crate) fn is_ours(name: &str) -> bool {
    let number = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// A name that goes when it is dropped, unless the file got another one.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) inner: Arc<Inner>,
    /// As seen from the root of the tree.
    pub(crate) path: PathBuf,
}

impl Name {
    /// Makes something under a name in `folder` that is free.
    pub(crate) fn new<T>(
        inner: &Arc<Inner>,
        folder: &Path,
        make: impl Fn(&Path) -> io::Result<T>,
    ) -> io::Result<(Name, T)> {
        loop {
            let path = folder.join(format!("{PREFIX}{}{SUFFIX}", inner.next_temporary()));
            match make(&path) {
                Ok(made) => return Ok((Name { inner: Arc::clone(inner), path }, made)),
                // Another process's, or one that a crash left.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the file another name.
    pub(crate) fn rename(mut self, to: &Path) -> io::Result<()> {
        self.inner.tree.rename(&self.path, to)?;
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // The next opening sweeps a file that cannot be removed.
            let _ = self.inner.tree.remove(&self.path);
        }
    }
}

/// A file that is being filled. Only its owner can read it. Dropped, it is gone.
#[derive(Debug)]
pub struct Temporary {
    name: Name,
    file: Arc<dyn DiskFile>,
    length: u64,
}

impl Temporary {
    pub(crate) fn new(inner: &Arc<Inner>, folder: &Path, mode: u32) -> Result<Temporary> {
        let (name, file) = Name::new(inner, folder, |path| inner.tree.create(path, mode))
            .map_err(|error| inner.failed(folder, "making a temporary file", error))?;
        Ok(Temporary { name, file, length: 0 })
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    ///
    /// The disk's. The bytes that were added before are still there, and the end is where it was.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let doing = "writing a blob that is not committed yet (is the disk full?)";
        self.file
            .write_at(bytes, self.length)
            .map_err(|error| self.name.inner.failed(&self.name.path, doing, error))?;
        let before = self.length;
        self.length += bytes.len() as u64;
        if before / BEGIN_EVERY != self.length / BEGIN_EVERY {
            // Only a wish.
            let _ = self.file.begin_sync();
        }
        Ok(())
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads into `buffer` from `offset`, until it is full or the file ends; how many bytes were read.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let doing = "reading a blob that is not committed yet";
        self.file.read_full_at(buffer, offset).map_err(|error| self.name.inner.failed(&self.name.path, doing, error))
    }

    /// Makes the bytes durable. From here on they do not change.
    ///
    /// # Errors
    ///
    /// The disk's. The file is gone then: a sync that failed may have forgotten what it failed on.
    pub fn sync(self) -> Result<Ready> {
        let Temporary { name, file, length } = self;
        let inner = Arc::clone(&name.inner);
        // A failed append may have left bytes behind the end.
        let cut = || if file.len()? == length { Ok(()) } else { file.set_len(length) };
        cut().and_then(|()| file.sync()).map_err(|error| inner.failed(&name.path, "syncing a blob", error))?;
        Ok(Ready { name, length })
    }
}

/// A file that is complete and durable, and has no final name yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Ready {
    pub(crate) name: Name,
    pub(crate) length: u64,
}

impl Ready {
    /// Opens it for reading. The handle stays good, whatever name the file gets.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn read(&self) -> Result<Arc<dyn DiskFile>> {
        let inner = &self.name.inner;
        let doing = "opening a blob that is not committed yet";
        inner.tree.read(&self.name.path).map_err(|error| inner.failed(&self.name.path, doing, error))
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.length
    }
}
