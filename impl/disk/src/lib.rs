//! The disk that a storage writes to, as a trait, so that a test can take it away.
//!
//! A database engine is only as good as its answer to the question "and if the power goes *now*?". A tester cannot pull
//! the plug ten thousand times, so the engine never talks to the operating system directly: it talks to a [`Disk`].
//!
//! ```text
//!                    ┌──────────────┐
//!     the engine ──▶ │  trait Disk  │ ──▶ RealDisk   std::fs, flock
//!                    └──────────────┘ ──▶ SimDisk    memory, a seed, and a list of misfortunes
//! ```
//!
//! A disk promises little, and the simulated one keeps exactly these promises:
//!
//! - bytes written are seen by later reads at once, but survive a crash only after [`DiskFile::sync`];
//! - until then each 512-byte sector of them is lost, kept, or anything in between, in any order;
//! - a file created, renamed or removed survives a crash only after [`Disk::sync_directory`];
//! - so does a folder, and with it all that is in it ([`Tree`]);
//! - any call may fail, and a write that fails may have been done in part.
//!
//! This crate knows no file format, it never retries, and it buffers nothing.
#![deny(unsafe_code)] // except for two system calls: real/room.rs, real/early.rs

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod real;
mod sim;
mod tree;

pub use real::{RealDisk, take_after};
pub use sim::{Access, SimDisk, Tear, is_power_cut};
pub use tree::{About, Kind, Listing, Tree};

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading. Writes to it fail.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A new, empty file, for reading and writing; [`io::ErrorKind::AlreadyExists`] if there is one.
    CreateNew,
    /// A new, empty file, for reading and writing, in place of whatever was there.
    Truncate,
}

/// Names and the files behind them.
pub trait Disk: Debug + Send + Sync {
    /// Opens the file at `path`. A directory is an error ([`io::ErrorKind::IsADirectory`]).
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;

    /// As [`Disk::open`]; but a file that is made has the permissions of the file at `of` and, as far as the system
    /// lets us, its owner. The process's mask changes nothing of that. With [`Open::Truncate`] a file that was there
    /// gets them, too. [`io::ErrorKind::NotFound`] if there is no file at `of`.
    fn open_like(&self, path: &Path, how: Open, of: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let _ = of;
        self.open(path, how)
    }

    /// A new file without a name, on the same volume as `near`, that is gone when its handle is.
    fn scratch(&self, near: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives the file `from` the name `to`, in place of the file that had it. If that is the same file, nothing
    /// changes, and it keeps both.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives the file `path` a second name, `name`. [`io::ErrorKind::AlreadyExists`] if something has that;
    /// [`io::ErrorKind::Unsupported`] or [`io::ErrorKind::PermissionDenied`] where a file can have only one.
    fn link(&self, path: &Path, name: &Path) -> io::Result<()>;

    /// Where the file really is, if the path leads there by symbolic links.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    /// Takes the name away; handles stay good. [`io::ErrorKind::NotFound`] if there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Whether there is a file of this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes creations, renames and removals in the directory *of* `path` survive a crash.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// The folder at `path`, which must be there, with all that is below it. [`io::ErrorKind::Unsupported`] on a disk
    /// that has files only.
    fn tree(&self, path: &Path) -> io::Result<Arc<dyn Tree>> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes the exclusive lock that the file at `path` stands for, creating it if need be, and writes the process id
    /// into it as ZODB does (a space, the id, a newline). [`io::ErrorKind::WouldBlock`] if another process has it.
    /// Dropping the result releases the lock; the file stays, as ZODB's does.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// Returns 32 random bytes: a key that nobody can guess, and that no other file has.
    fn secret(&self) -> io::Result<[u8; 32]> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(secret)
    }

    /// As [`Disk::lock`]; but a lock file that is made has the permissions and the owner of the file at `of`.
    fn lock_like(&self, path: &Path, of: &Path) -> io::Result<Box<dyn Lock>> {
        let _ = of;
        self.lock(path)
    }
}

/// An open file: bytes at positions. Shared by threads; no call moves a cursor.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads into `buf` from `offset`; how many bytes were read. Fewer than asked for happens at the end of the file,
    /// and on a bad day elsewhere too; zero only at or past the end (or for an empty `buf`).
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `offset`, extending the file if need be. After an error any part of it may be written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file off at `length` bytes, or extends it with zeros.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Makes everything written so far, and the length, survive a crash.
    fn sync(&self) -> io::Result<()>;

    /// Starts write-back of the bytes written so far, so that the next [`sync`](DiskFile::sync) has less to wait for.
    /// Nothing is durable for that.
    fn begin_sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether the file at `path` is still this one. A file that cannot tell says so.
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let _ = path;
        Ok(true)
    }

    /// Frees the space of a file that has no name any more, step by step, so that no other sync waits for all of it
    /// when the handle is dropped. It may do nothing: the last handle frees the rest. The contents of the file are
    /// lost.
    fn give_back(&mut self) {}

    /// Reads until `buf` is full or the file ends; how many bytes were read.
    fn read_full_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}

/// An exclusive lock, held until it is dropped.
pub trait Lock: Debug + Send + Sync {}
