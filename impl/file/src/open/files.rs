//! The file and its neighbours: making a database, opening the file, the lock, and what a killed pack left.

use std::io;
use std::path::Path;
use std::sync::Arc;

use vellum_disk::{Disk, DiskFile, Lock, Open};
use vellum_storage::{Error, Tid};

use super::{OnDisk, Opened};
use crate::blobs;
use crate::format::beside::beside;
use crate::format::{MAGIC, MAGIC_PYTHON_2, POSITION_MAX, START};
use crate::journal::LeftJournal;
use crate::journal::beside as journal;
use crate::options::{OpenError, Options};
use crate::read::index::Index;

pub(crate) fn create(options: &Options, path: &Path) -> Result<Opened, OpenError> {
    if options.read_only {
        return Err(OpenError::CreateReadOnly);
    }
    let disk = &*options.disk;
    let io = |doing: &str, e| OpenError::Storage(Error::io(path, doing, e));
    let absent = |disk: &dyn Disk| match disk.exists(path) {
        Ok(false) => match disk.open(path, Open::Read) {
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => Err(OpenError::Directory { path: path.to_owned() }),
            _ => Ok(()),
        },
        Ok(true) => Err(OpenError::Exists { path: path.to_owned() }),
        Err(e) => Err(io("looking whether there is a file", e)),
    };
    absent(disk)?;
    let like = options.like.as_deref();
    let lock = take_lock(disk, path, like.unwrap_or(path))?;
    absent(disk)?;
    journal::remove_stray(disk, path)?;
    let blobs = blobs::open(options, true)?;
    // Written under another name first: there is no moment at which the database is there but empty.
    let new = beside(path, ".new");
    let made = match like {
        Some(like) => disk.open_like(&new, Open::Truncate, like),
        None => disk.open(&new, Open::Truncate),
    };
    let written = made.and_then(|file| {
        file.write_at(&MAGIC, 0)?;
        file.sync()?;
        match disk.remove(&beside(path, ".index")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => disk.rename(&new, path)?,
        }
        disk.sync_directory(path)?;
        Ok(file)
    });
    let file = written.map_err(|e| {
        let _ = disk.remove(&new);
        io("creating the database", e)
    })?;
    Ok(Opened {
        path: path.to_owned(),
        file,
        index: Index::new(),
        end: START,
        last: Tid::ZERO,
        recovery: None,
        journal: None,
        missing: None,
        lock: Some(lock),
        blobs,
        index_on_disk: OnDisk::Earlier,
    })
}

/// Takes the lock of the database at `path`. A lock file that is made has the access of the file at `like`.
pub(crate) fn take_lock(disk: &dyn Disk, path: &Path, like: &Path) -> Result<Box<dyn Lock>, OpenError> {
    disk.lock_like(&beside(path, ".lock"), like).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { path: path.to_owned(), why: e.to_string() },
        _ => Error::io(beside(path, ".lock"), "taking the lock", e).into(),
    })
}

/// Opens the file and makes sure that it is a database, without changing anything.
pub(crate) fn open_data(disk: &dyn Disk, path: &Path, how: Open) -> Result<Arc<dyn DiskFile>, OpenError> {
    let file = disk.open(path, how).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => OpenError::NotFound { path: path.to_owned() },
        io::ErrorKind::IsADirectory => OpenError::Directory { path: path.to_owned() },
        _ => Error::io(path, "opening", e).into(),
    })?;
    let mut magic = [0; MAGIC.len()];
    let there = file.read_full_at(&mut magic, 0).map_err(|e| Error::io(path, "reading the first bytes", e))?;
    let size = file.len().map_err(|e| Error::io(path, "asking for the length", e))?;
    match there {
        _ if size > POSITION_MAX => Err(Error::Exhausted { what: "file positions (256 TiB)" }.into()),
        0 => Err(OpenError::Empty { path: path.to_owned() }),
        _ if magic != MAGIC && magic != MAGIC_PYTHON_2 => {
            Err(OpenError::NotADatabase { path: path.to_owned(), magic: magic[..there].to_vec() })
        }
        _ => Ok(file),
    }
}

/// Opens the file for reading, with the transactions that only the journal beside it has. Without changing anything.
pub(crate) fn open_to_read(
    disk: &dyn Disk,
    path: &Path,
) -> Result<(Arc<dyn DiskFile>, Option<LeftJournal>), OpenError> {
    journal::to_read(disk, path, || open_data(disk, path, Open::Read))
}

/// Makes the names durable that a pack has given, and takes away the file of one that was killed before that.
pub(super) fn settle_names(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let data = disk.resolve(path)?;
    let half_made = beside(&data, ".pack");
    if disk.exists(&half_made)? && disk.remove(&half_made).is_ok() {
        tracing::info!("{}: a pack did not get to its end, and what it made is removed", half_made.display());
    }
    disk.sync_directory(&data)
}
