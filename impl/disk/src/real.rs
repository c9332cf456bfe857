//! The disk of the machine: `std::fs`, and nothing between it and the engine.
//!
//! Each method is one or two system calls, and what the operating system answers is passed on as it is. Six things
//! need more than that:
//!
//! - **A directory is not a file.** Unix opens one for reading without complaint, and fails at the first read, far from
//!   the mistake. Here it fails at once, and alike for every way of opening.
//! - **A name is durable only when its directory is.** A directory is therefore opened like a file, and synced.
//! - **The lock is Python's too.** ZODB locks `Data.fs.lock` with `zc.lockfile`: `flock` on the whole file, then a
//!   space, the process id and a newline in it. The same steps in the same order keep either program out while the
//!   other is at work, and let each of them tell which process it is.
//! - **A tree is walked part by part**, so that no link leads out of it: `tree.rs`.
//! - **A large file is freed in small steps**, or all syncs wait for it: `room.rs`.
//! - **A large file is written before it is synced**, or its sync waits for all of it: `early.rs`.

mod early;
mod room;
mod tree;

use std::fs::{File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Disk, DiskFile, Lock, Open, Tree};

/// How many bytes of a lock file are worth reading: a space, a process id, a newline, and some.
const LOCK_CONTENT_MAX: usize = 32;

/// The disk of this machine.
///
/// Errors are the operating system's own, with its error number; they do not name the file, as the caller does.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        match how {
            Open::Read => options.read(true),
            Open::ReadWrite => options.read(true).write(true),
            Open::CreateNew => options.read(true).write(true).create_new(true),
            Open::Truncate => options.read(true).write(true).create(true).truncate(true),
        };
        let file = options.open(path).map_err(|error| match error.kind() {
            // For CreateNew the name is taken, which is true, but not the point.
            io::ErrorKind::AlreadyExists if path.is_dir() => io::ErrorKind::IsADirectory.into(),
            _ => error,
        })?;
        if how == Open::Read && file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn open_like(&self, path: &Path, how: Open, of: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        match how {
            Open::Read | Open::ReadWrite => return self.open(path, how),
            Open::CreateNew => options.create_new(true),
            Open::Truncate => options.create(true).truncate(true),
        };
        Ok(Arc::new(RealFile(create_like(&mut options, path, of)?)))
    }

    fn scratch(&self, near: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(tempfile::tempfile_in(directory_of(near))?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn link(&self, path: &Path, name: &Path) -> io::Result<()> {
        std::fs::hard_link(path, name)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        match std::fs::symlink_metadata(path)?.is_symlink() {
            true => std::fs::canonicalize(path),
            false => Ok(path.to_owned()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(!metadata.is_dir()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        match File::open(directory_of(path))?.sync_all() {
            // Some network filesystems have no such call for directories. They write names through, or cannot do
            // better; either way no retry and no other call would change it (PostgreSQL passes over it as well).
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }

    fn tree(&self, path: &Path) -> io::Result<Arc<dyn Tree>> {
        Ok(Arc::new(tree::RealTree::open(path)?))
    }

    fn lock_like(&self, path: &Path, of: &Path) -> io::Result<Box<dyn Lock>> {
        match create_like(OpenOptions::new().create_new(true), path, of) {
            Ok(file) => locked(path, file),
            // Another program made it, or there is nothing to be like.
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                self.lock(path)
            }
            Err(error) => Err(error),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        // Not truncated: until the lock is ours, the contents of the file belong to another process.
        locked(path, OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?)
    }
}

/// Makes a file with the permissions and the owner of the one at `of`.
fn create_like(how: &mut OpenOptions, path: &Path, of: &Path) -> io::Result<File> {
    let like = std::fs::metadata(of)?;
    // No other user may read it before its permissions are set.
    let file = how.read(true).write(true).mode(0o600).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists if path.is_dir() => io::ErrorKind::IsADirectory.into(),
        _ => error,
    })?;
    // No file is better than one that the wrong people can read.
    take_after(&file, &like).inspect_err(|_| drop(std::fs::remove_file(path)))?;
    Ok(file)
}

fn locked(path: &Path, file: File) -> io::Result<Box<dyn Lock>> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(held(path, &owner(&file))),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let lock = RealLock(file);
    let content = format!(" {}\n", std::process::id());
    lock.0.write_all_at(content.as_bytes(), 0)?;
    lock.0.set_len(content.len() as u64)?;
    Ok(Box::new(lock))
}

/// Gives a file that was just made the permissions of another one and, as far as the system lets us, its owner.
///
/// # Errors
///
/// If the permissions cannot be set. A user who is not root cannot give a file away, and that is no error.
pub fn take_after(file: &File, like: &Metadata) -> io::Result<()> {
    // Only root may give a file away, and others only to groups that they are in.
    if fchown(file, Some(like.uid()), Some(like.gid())).is_err() {
        let _ = fchown(file, None, Some(like.gid()));
    }
    file.set_permissions(Permissions::from_mode(like.mode() & 0o777))
}

/// An open file. `File` shows its path in its `Debug`, so this does too.
#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset) // continues after a short write and after a signal
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync: it leaves out times and permissions, but not the length, without which the data would be lost.
        self.0.sync_data()
    }

    fn begin_sync(&self) -> io::Result<()> {
        early::begin_sync(&self.0)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let own = self.0.metadata()?;
        match path.metadata() {
            Ok(there) => Ok((there.dev(), there.ino()) == (own.dev(), own.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn give_back(&mut self) {
        // If this fails, the system frees all of it at once.
        let _ = room::give_back(&self.0);
    }
}

/// A lock file that is ours.
#[derive(Debug)]
struct RealLock(File);

impl Lock for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        // Closing the file would do it, unless a child process inherited it: the lock belongs to the open file, not to
        // the process. An error changes nothing that could be done about it.
        let _ = self.0.unlock();
    }
}

/// The directory that has the name `path` in it.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path, // the root, which is in itself
    }
}

/// The holder of the lock, from the contents of the file. The holder may not have written them yet.
fn owner(file: &File) -> String {
    let mut content = [0; LOCK_CONTENT_MAX];
    let length = file.read_at(&mut content, 0).unwrap_or(0);
    String::from_utf8_lossy(&content[..length]).trim().to_owned()
}

/// The error for a lock that another process has; `owner` is a process id, or empty.
pub(crate) fn held(path: &Path, owner: &str) -> io::Error {
    let owner = if owner.is_empty() { "that has not said which" } else { owner };
    let message = format!(
        "{} is locked by process {owner}: another program has this database open, and nothing was changed. Close that \
         program and try again; the lock goes when it ends, so there is no need to remove the file",
        path.display()
    );
    io::Error::new(io::ErrorKind::WouldBlock, message)
}
