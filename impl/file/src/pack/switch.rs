//! Putting the new file in the place of the old one.
//!
//! ```text
//!   before                        Data.fs: old    Data.fs.pack: new, synced
//!   (keep it: a second name)      Data.fs: old    Data.fs.pack: new    Data.fs.old.new: old    (directory synced)
//!   rename                        Data.fs: new                         Data.fs.old.new: old
//!   sync the directory            from here on a crash leaves the new one
//!   (keep it: its name)           Data.fs: new                         Data.fs.old: old
//! ```
//!
//! At each moment `Data.fs` is there and whole. The `.index` was taken away, and durably so, before the first of these.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_disk::{Disk, DiskFile};
use vellum_storage::{Error, Result};

use super::Stop;
use crate::open::beside;
use crate::storage::Inner;

/// The file that is being made. It goes away again unless it is put in place.
pub(super) struct HalfMade<'a> {
    disk: &'a dyn Disk,
    /// The database, where it really is.
    data: PathBuf,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    is_in_place: bool,
}

impl HalfMade<'_> {
    pub fn new<'a>(disk: &'a dyn Disk, path: &Path) -> Result<HalfMade<'a>> {
        // If the name is a link, it is what it leads to that is replaced.
        let data = disk.resolve(path).map_err(|e| Error::io(path, "looking where the file is, to pack it", e))?;
        let path = beside(&data, ".pack");
        match disk.replacement(&path, &data) {
            Ok(file) => Ok(HalfMade { disk, data, path, file, is_in_place: false }),
            Err(e) => {
                let _ = disk.remove(&path);
                Err(nothing(&path, "creating the packed file", e))
            }
        }
    }

    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// Gives the old file a second name, so that it is still there when this has its own.
    pub fn keep_old(&self) -> Result<Old> {
        let old = Old { kept: beside(&self.data, ".old.new"), name: beside(&self.data, ".old") };
        match self.disk.remove(&old.kept) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(nothing(&old.kept, "removing what a crash left", e));
            }
            _ => {}
        }
        // Durably, or a crash could keep the new file's name and forget the old one's.
        let linked = self.disk.link(&self.data, &old.kept).and_then(|()| self.disk.sync_directory(&self.data));
        match linked {
            Ok(()) => Ok(old),
            Err(e) => {
                let doing = "giving the old file a second name, since it is to be kept. Where that can not be done, pack \
                             without keeping it, and copy it before";
                let error = nothing(&old.kept, doing, e);
                // What failed may be done all the same.
                old.give_up(self.disk);
                Err(error)
            }
        }
    }

    /// From here on it is the database; but a crash may bring the old one back until the directory is synced.
    pub fn rename(&mut self) -> Result<(), Stop> {
        let Err(e) = self.disk.rename(&self.path, &self.data) else {
            self.is_in_place = true;
            return Ok(());
        };
        // What failed may be done all the same: then nobody may go on with the old file.
        match self.disk.exists(&self.path) {
            Ok(true) => Err(nothing(&self.data, "giving the packed file the database's name", e).into()),
            Ok(false) => {
                tracing::warn!("{}: renamed, though it was said to fail: {e}", self.path.display());
                self.is_in_place = true;
                Ok(())
            }
            Err(_) => {
                let doing =
                    "giving the packed file the database's name: whether that was done is not known. Nothing was lost";
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
        if !self.is_in_place
            && let Err(e) = self.disk.remove(&self.path)
        {
            tracing::warn!("{}: of a pack that failed, and can be removed: {e}", self.path.display());
        }
    }
}

/// The file as it was before, under a name that is not its own yet.
pub(super) struct Old {
    kept: PathBuf,
    name: PathBuf,
}

impl Old {
    /// Gives it its name.
    pub fn name(self, disk: &dyn Disk) -> Result<PathBuf> {
        let done = disk.rename(&self.kept, &self.name).and_then(|()| {
            // If it has that name already, it keeps both.
            match disk.remove(&self.kept) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => disk.sync_directory(&self.name),
            }
        });
        match done {
            Ok(()) => Ok(self.name),
            Err(e) => {
                let doing =
                    format!("the pack is done, but the file as it was before is called {}", self.kept.display());
                Err(Error::io(&self.name, doing, e))
            }
        }
    }

    /// When the pack has failed.
    pub fn give_up(self, disk: &dyn Disk) {
        let _ = disk.remove(&self.kept);
    }
}

/// Takes away the `.index`, so that it is never found beside a file that it is not of; and, if the name is a link, that of
/// who opened the file by its own name. Only while `saving` is held.
pub(super) fn remove_index(storage: &Inner) -> Result<()> {
    let disk = &*storage.disk;
    storage.index_changed();
    let remove = |index: &Path| match disk.remove(index) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        // Also if it is gone: the removal may be one that no sync made durable yet.
        _ => disk.sync_directory(index),
    };
    let index = beside(&storage.path, ".index");
    let removed = disk.resolve(&storage.path).and_then(|data| {
        remove(&index)?;
        if data == storage.path { Ok(()) } else { remove(&beside(&data, ".index")) }
    });
    removed.map_err(|e| nothing(&index, "removing the index, which will not be that of the packed file", e))
}

fn nothing(path: &Path, doing: &str, e: io::Error) -> Error {
    Error::io(path, format!("{doing} (nothing was packed: the database is as it was)"), e)
}
