//! Putting the new file in the place of the old one.
//!
//! ```text
//!   (keep it: a second name)      Data.fs: old                         Data.fs.old.new: old    (directory synced)
//!   before                        Data.fs: old    Data.fs.pack: new, synced
//!   rename                        Data.fs: new                         Data.fs.old.new: old
//!   sync the directory            from here on a crash leaves the new one
//!   (keep it: its name)           Data.fs: new                         Data.fs.old: old
//! ```
//!
//! At each moment `Data.fs` is there and whole. The `.index` was taken away, and durably so, before the first of these.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_disk::{Disk, DiskFile, Open};
use vellum_storage::{Error, Result};

use super::Stop;
use crate::format::beside::beside;
use crate::read::database::Database;

/// The file that is being made. It goes away again unless it is put in place.
pub(super) struct HalfMade<'a> {
    disk: &'a dyn Disk,
    /// The database, where it really is.
    data: PathBuf,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    is_in_place: Cell<bool>,
}

impl<'a> HalfMade<'a> {
    pub fn new(disk: &'a dyn Disk, path: &Path) -> Result<HalfMade<'a>> {
        // If the name is a link, it is what it leads to that is replaced.
        let data = disk.resolve(path).map_err(|e| Error::io(path, "looking where the file is, to pack it", e))?;
        let path = beside(&data, ".pack");
        match disk.open_like(&path, Open::Truncate, &data) {
            Ok(file) => Ok(HalfMade { disk, data, path, file, is_in_place: Cell::new(false) }),
            Err(e) => {
                let _ = disk.remove(&path);
                Err(nothing(&path, "creating the packed file", e))
            }
        }
    }

    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// Gives the old file a second name, so that it is still there when this has its own. Commits until then are in it.
    pub fn keep_old(&self) -> Result<Old<'a>> {
        let (kept, name) = (beside(&self.data, ".old.new"), beside(&self.data, ".old"));
        match self.disk.remove(&kept) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(nothing(&kept, "removing what a crash left", e));
            }
            _ => {}
        }
        let old = Old { disk: self.disk, kept, name, is_needed: false };
        // Durably, or a crash could keep the new file's name and forget the old one's.
        match self.disk.link(&self.data, &old.kept).and_then(|()| self.disk.sync_directory(&self.data)) {
            Ok(()) => Ok(old),
            Err(e) => Err(nothing(
                &old.kept,
                "giving the old file a second name, since it is to be kept. Where that fails, pack without \
                 keeping it, and copy it before",
                e,
            )),
        }
    }

    /// From here on it is the database; but a crash may bring the old one back until the directory is synced.
    pub fn rename(&self) -> Result<(), Stop> {
        let renamed = self.disk.rename(&self.path, &self.data);
        // A rename that reported an error may be done all the same: then no thread may continue with the old file.
        let is_in_place = match &renamed {
            Ok(()) => Ok(true),
            Err(_) => self.disk.exists(&self.path).map(|is_there| !is_there),
        };
        match (is_in_place, renamed) {
            (Ok(true), _) => {
                self.is_in_place.set(true);
                Ok(())
            }
            (Ok(false), Err(e)) => Err(nothing(&self.data, "giving the packed file the database's name", e).into()),
            (_, renamed) => {
                let doing =
                    "giving the packed file the database's name: whether that was done is not known. Nothing was lost";
                let e = renamed.err().unwrap_or_else(|| io::Error::other("it was said to be done, and is not"));
                Err(Stop::Fatal(Error::io(&self.data, doing, e)))
            }
        }
    }

    /// After this it is, whatever happens. An error: it is not known.
    pub fn sync_directory(&self) -> Result<()> {
        self.disk.sync_directory(&self.data).map_err(|e| {
            let doing = "syncing the directory after a pack: whether a crash now brings back the file as it was before \
                         the pack is not known. Nothing was lost";
            Error::io(&self.data, doing, e)
        })
    }
}

impl Drop for HalfMade<'_> {
    fn drop(&mut self) {
        if !self.is_in_place.get()
            && let Err(e) = self.disk.remove(&self.path)
        {
            tracing::warn!("{}: of a pack that failed, and can be removed: {e}", self.path.display());
        }
    }
}

/// The file as it was before, under a name that is not its own yet. It goes away if it is not needed.
pub(super) struct Old<'a> {
    disk: &'a dyn Disk,
    kept: PathBuf,
    name: PathBuf,
    is_needed: bool,
}

impl Old<'_> {
    /// When this name is the only one that it has.
    pub fn is_needed(&mut self) {
        self.is_needed = true;
    }

    /// Gives it its name, and returns the name and the file that had it before, so that its space is not freed while
    /// the name changes.
    pub fn name(self) -> Result<(PathBuf, Option<Arc<dyn DiskFile>>)> {
        let disk = self.disk;
        let older = disk.open(&self.name, Open::ReadWrite).ok();
        let done = disk.rename(&self.kept, &self.name).and_then(|()| {
            // If it has that name already, it keeps both.
            match disk.remove(&self.kept) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => disk.sync_directory(&self.name),
            }
        });
        match done {
            Ok(()) => Ok((self.name.clone(), older)),
            Err(e) => {
                let doing =
                    format!("the pack is done, but the file as it was before is called {}", self.kept.display());
                Err(Error::io(&self.name, doing, e))
            }
        }
    }
}

impl Drop for Old<'_> {
    fn drop(&mut self) {
        if !self.is_needed {
            let _ = self.disk.remove(&self.kept);
        }
    }
}

/// Takes away the `.index`, so that it is never found beside a file that it is not of; and, if the name is a link, also
/// the `.index` of the file that the link leads to. Only while `saving` is held.
pub(super) fn remove_index(database: &Database) -> Result<()> {
    let disk = &*database.options.disk;
    database.index_changed();
    let remove = |index: &Path| match disk.remove(index) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        // Also if it is gone: the removal may be one that no sync made durable yet.
        _ => disk.sync_directory(index),
    };
    let index = beside(&database.path, ".index");
    let removed = disk.resolve(&database.path).and_then(|data| {
        remove(&index)?;
        if data == database.path { Ok(()) } else { remove(&beside(&data, ".index")) }
    });
    removed.map_err(|e| nothing(&index, "removing the index, which will not be that of the packed file", e))
}

fn nothing(path: &Path, doing: &str, e: io::Error) -> Error {
    Error::io(path, format!("{doing} (nothing was packed: the database is as it was)"), e)
}
