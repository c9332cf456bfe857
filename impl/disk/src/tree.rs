//! A folder, with all that is below it, as a trait: what a storage needs that keeps many files.
//!
//! A [`Disk`](crate::Disk) opens the few files whose names an operator chose, wherever they lead. A tree holds files
//! that other code named, and other programs may write to it. So its paths are relative to its folder, and **nothing
//! leads out of it**: a `..` is refused, and a symbolic link is never followed, neither at the end of a path nor on the
//! way.

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use crate::DiskFile;

/// The names in a folder, in no order. Names that appear or disappear during the listing may be in it or not.
pub type Listing = Box<dyn Iterator<Item = io::Result<OsString>> + Send>;

/// The kind of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file with bytes in it.
    File,
    /// A folder.
    Directory,
    /// A symbolic link, wherever it leads.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

impl Kind {
    /// It in words, as in "a folder".
    pub fn words(self) -> &'static str {
        match self {
            Kind::File => "a file",
            Kind::Directory => "a folder",
            Kind::Link => "a symbolic link",
            Kind::Other => "a pipe, a socket or a device",
        }
    }
}

/// The facts about a name that are known without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its kind.
    pub kind: Kind,
    /// The length in bytes; of a file only does it say anything.
    pub length: u64,
    /// The permissions, as in `0o444`, with the three bits above them.
    pub mode: u32,
}

/// A folder and all that is below it. The empty path is the folder itself.
///
/// An operation fails if a part of its path is a symbolic link, wherever that leads, and with
/// [`io::ErrorKind::InvalidInput`] if it is absolute or has a `..` in it. A crash spares the same as on a
/// [`Disk`](crate::Disk), and folders are names as well: one that was made survives only after a
/// [`sync_directory`](Tree::sync_directory) of the folder that it is in.
pub trait Tree: Debug + Send + Sync {
    /// Opens a file for reading. Anything but a file is an error, and a pipe does not make the caller wait.
    fn read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// A new, empty file for reading and writing with these permissions less the process's mask;
    /// [`io::ErrorKind::AlreadyExists`] if something has that name.
    fn create(&self, path: &Path, mode: u32) -> io::Result<Arc<dyn DiskFile>>;

    /// The facts about `path`; of a link, those of the link itself. [`io::ErrorKind::NotFound`] if there is nothing.
    fn about(&self, path: &Path) -> io::Result<About>;

    /// The names in a folder. Memory is bounded, however many there are.
    fn list(&self, path: &Path) -> io::Result<Listing>;

    /// Makes a folder with permissions 0777 less the process's mask; [`io::ErrorKind::NotFound`] if the folder that it
    /// is to be in is not there, [`io::ErrorKind::AlreadyExists`] if something has its name.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder; [`io::ErrorKind::DirectoryNotEmpty`] if anything is in it.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Gives the file `from` the name `to`, in place of the file that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives the file `path` a second name; errors as [`Disk::link`](crate::Disk::link).
    fn link(&self, path: &Path, name: &Path) -> io::Result<()>;

    /// Takes the name of a file, or of a link, away.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file these permissions, whatever the process's mask. They are as safe as the next name that the file
    /// gets: all file systems keep the order of the two.
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Makes creations, renames and removals in the folder `path` survive a crash.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// Fails unless each part of the path is a name.
pub(crate) fn check_inside(path: &Path) -> io::Result<()> {
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(());
    }
    let message = format!("{} would lead out of the folder", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}
