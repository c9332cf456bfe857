//! Folders that come with the first blob in them and go with the last, and which of them are durable.
//!
//! A name is durable when the folder that it is in was synced, and that one's name in the folder above, and so on. For
//! a blob in a bushy folder these are nine. But most of them were made long ago: so the folders are remembered whose
//! names this process synced, up to a bound, and a commit syncs few more than the last.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::folder::Inner;

/// So many folders are remembered; after that, all are forgotten and synced again.
const REMEMBERED_MAX: usize = 16 << 10;

/// Folders whose names are durable. The lock is held while names come and go.
#[derive(Debug, Default)]
pub(crate) struct Directories {
    durable: HashSet<PathBuf>,
}

impl Directories {
    /// Makes a folder, and those above it up to the root of the tree.
    pub(crate) fn make(&self, inner: &Inner, folder: &Path) -> Result<()> {
        match inner.tree.create_directory(folder) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder.parent().is_some() => {
                self.make(inner, folder.parent().unwrap_or(folder))?;
                match inner.tree.create_directory(folder) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        Err(inner.failed(folder, "making a folder", error))
                    }
                    _ => Ok(()),
                }
            }
            Err(error) => Err(inner.failed(folder, "making a folder", error)),
        }
    }

    /// Removes a folder that became empty, and those above it, up to `top`, which stays. Notes the folders to sync.
    ///
    /// One that cannot be removed stays, and does no harm.
    pub(crate) fn prune(&mut self, inner: &Inner, folder: &Path, top: &Path, touched: &mut Touched) {
        let mut folder = folder;
        while folder != top && folder.starts_with(top) {
            match inner.tree.remove_directory(folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => return,
            }
            self.durable.remove(folder);
            folder = folder.parent().unwrap_or(top);
            touched.folders.insert(folder.to_owned());
        }
    }

    /// Notes the folders to sync so that names in this folder are durable.
    fn needed(&self, folder: &Path, touched: &mut Touched) {
        touched.folders.insert(folder.to_owned());
        // The empty path is the root, which has no name in the tree.
        for folder in folder.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
            if !self.durable.contains(folder) {
                touched.folders.insert(folder.parent().unwrap_or(folder).to_owned());
            }
        }
    }

    /// The names of this folder and of those above it are durable.
    fn remember(&mut self, folder: &Path) {
        if self.durable.len() > REMEMBERED_MAX {
            self.durable.clear();
        }
        self.durable.extend(folder.ancestors().map(Path::to_owned));
    }
}

/// Folders in which names changed, to be synced, each once.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) folders: BTreeSet<PathBuf>,
}

impl Touched {
    /// Syncs all of them. One that is gone is durable when the folder that it was in is, and that is among them.
    pub(crate) fn sync(&mut self, inner: &Inner) -> Result<()> {
        for folder in std::mem::take(&mut self.folders) {
            match inner.tree.sync_directory(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(inner.failed(&folder, "making names durable", error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Makes the names in these folders durable, and the folders' own. Each must have something in it that no thread
/// removes during the call.
pub(crate) fn sync(inner: &Inner, folders: &BTreeSet<PathBuf>) -> Result<()> {
    let mut touched = Touched::default();
    let directories = inner.directories.lock();
    folders.iter().for_each(|folder| directories.needed(folder, &mut touched));
    drop(directories);
    // Not under the lock: readers of names do not wait, and other commits' syncs go on beside this one.
    for folder in &touched.folders {
        match inner.tree.sync_directory(folder) {
            // The folder above the blob folder may not be ours to read. Then its name is the work of another user, too.
            Err(error) if folder.as_os_str().is_empty() && error.kind() == io::ErrorKind::PermissionDenied => {}
            result => result.map_err(|error| inner.failed(folder, "making names durable", error))?,
        }
    }
    let mut directories = inner.directories.lock();
    folders.iter().for_each(|folder| directories.remember(folder));
    Ok(())
}
