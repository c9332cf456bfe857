//! A folder of this machine that nothing leads out of.
//!
//! The system's calls that take a path follow the links in it. So each part is opened by itself, in the folder before
//! it and without following a link, and the call is made with the last folder and a plain name. So no link can be
//! inserted between a check and the call.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode};

use super::RealFile;
use crate::DiskFile;
use crate::tree::{About, Kind, Listing, Tree, check_inside};

/// How a folder is opened on the way to its contents: no right to list it is needed.
#[cfg(target_os = "linux")]
const ON_THE_WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const ON_THE_WAY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How a file is opened for reading: a pipe does not make the caller wait.
const TO_READ: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A folder of this machine.
#[derive(Debug)]
pub(super) struct RealTree {
    root: OwnedFd,
}

impl RealTree {
    /// The folder at `root`. Links that lead there are the operator's, and followed.
    pub(super) fn open(root: &Path) -> io::Result<RealTree> {
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        Ok(RealTree { root: fs::openat(CWD, root, ON_THE_WAY.difference(OFlags::NOFOLLOW), Mode::empty())? })
    }

    /// Does something with the folder that has the name at the end of the path, and with that name: `.` for the root
    /// itself.
    fn at<T>(&self, path: &Path, deed: impl FnOnce(BorrowedFd<'_>, &OsStr) -> io::Result<T>) -> io::Result<T> {
        check_inside(path)?;
        let mut parts: Vec<&OsStr> = path.iter().collect();
        let name = parts.pop().unwrap_or(OsStr::new("."));
        let mut folder: Option<OwnedFd> = None;
        for part in parts {
            let above = folder.as_ref().unwrap_or(&self.root).as_fd();
            folder = Some(fs::openat(above, part, ON_THE_WAY, Mode::empty())?);
        }
        deed(folder.as_ref().unwrap_or(&self.root).as_fd(), name)
    }

    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let how = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.at(path, |folder, name| Ok(fs::openat(folder, name, how, Mode::empty())?))
    }

    /// A file, opened for reading; `name` is in `folder`.
    fn file(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
        let file = fs::openat(folder, name, TO_READ, Mode::empty())?;
        match kind(fs::fstat(&file)?.st_mode) {
            Kind::File => Ok(file),
            Kind::Directory => Err(io::ErrorKind::IsADirectory.into()),
            other => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {}, not a file", other.words()))),
        }
    }
}

impl Tree for RealTree {
    fn read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.at(path, |folder, name| Ok(Arc::new(RealFile(File::from(Self::file(folder, name)?))) as Arc<dyn DiskFile>))
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<Arc<dyn DiskFile>> {
        let how = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.at(path, |folder, name| {
            let file = fs::openat(folder, name, how, bits(mode))?;
            Ok(Arc::new(RealFile(File::from(file))) as Arc<dyn DiskFile>)
        })
    }

    fn about(&self, path: &Path) -> io::Result<About> {
        self.at(path, |folder, name| {
            let stat = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let length = u64::try_from(stat.st_size).unwrap_or(0);
            #[allow(clippy::useless_conversion)] // it is narrower on other machines
            let mode = u32::from(stat.st_mode & 0o7777);
            Ok(About { kind: kind(stat.st_mode), length, mode })
        })
    }

    fn list(&self, path: &Path) -> io::Result<Listing> {
        let entries = Dir::new(self.folder(path)?)?;
        Ok(Box::new(entries.filter_map(|entry| match entry {
            Ok(entry) => {
                let name = entry.file_name().to_bytes();
                (name != b"." && name != b"..").then(|| Ok(OsStr::from_bytes(name).to_owned()))
            }
            Err(error) => Some(Err(error.into())),
        })))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.at(path, |folder, name| Ok(fs::mkdirat(folder, name, bits(0o777))?))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.at(path, |folder, name| Ok(fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.at(from, |old_folder, old| {
            self.at(to, |new_folder, new| Ok(fs::renameat(old_folder, old, new_folder, new)?))
        })
    }

    fn link(&self, path: &Path, name: &Path) -> io::Result<()> {
        self.at(path, |old_folder, old| {
            self.at(name, |new_folder, new| Ok(fs::linkat(old_folder, old, new_folder, new, AtFlags::empty())?))
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.at(path, |folder, name| Ok(fs::unlinkat(folder, name, AtFlags::empty())?))
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.at(path, |folder, name| Ok(fs::fchmod(Self::file(folder, name)?, bits(mode))?))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        match fs::fsync(self.folder(path)?) {
            // Some network filesystems have no such call: see the disk's.
            Err(rustix::io::Errno::INVAL) => Ok(()),
            result => Ok(result?),
        }
    }
}

#[allow(clippy::unnecessary_cast)] // it is narrower on other machines
fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode(mode as RawMode)
}

fn kind(mode: RawMode) -> Kind {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}
