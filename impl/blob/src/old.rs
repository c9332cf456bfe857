//! The folder beside the blob folder, with `.old` in its name: with the data file of the same ending, it is the
//! database before the last pack.
//!
//! ```text
//!   each file gets a second name here    or a copy, where a file can have only one
//!   those names are made durable
//!   removed files lose their first one
//! ```
//!
//! ZODB renames the removed files, and links the others. The result is the same, but a crash cannot lose a rename's new
//! folder together with its old name.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use vellum_disk::{About, Kind};
use vellum_storage::{Oid, Tid};

use crate::directories::Touched;
use crate::error::{Error, Result};
use crate::folder::{BlobFolder, MARKER, copy, has_one_name};
use crate::temporary::Temporary;
use crate::walk::Found;

/// The greatest depth of removed folders: a bushy folder has nine.
const DEPTH_MAX: usize = 64;

/// The folder with `.old` in its name.
pub(crate) struct Old<'a> {
    blobs: &'a BlobFolder,
    top: PathBuf,
}

impl<'a> Old<'a> {
    pub(crate) fn new(blobs: &'a BlobFolder) -> Old<'a> {
        let mut top = blobs.inner().top.clone().into_os_string();
        top.push(".old");
        Old { blobs, top: top.into() }
    }

    fn file(&self, oid: Oid, tid: Tid) -> PathBuf {
        self.top.join(self.blobs.layout().file(oid, tid))
    }

    /// Fails if there is such a folder that no pack made.
    pub(crate) fn check(&self) -> Result<bool> {
        let inner = self.blobs.inner();
        let in_the_way = || Error::OldInTheWay { path: inner.shown(&self.top) };
        match inner.tree.about(&self.top) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(inner.failed(&self.top, "looking for an earlier pack's files", error)),
            Ok(About { kind: Kind::Directory, .. }) => {}
            Ok(_) => return Err(in_the_way()),
        }
        let failed = |error| inner.failed(&self.top, "looking for an earlier pack's files", error);
        let is_empty = inner.tree.list(&self.top).map_err(failed)?.next().is_none();
        match inner.tree.about(&self.top.join(MARKER)) {
            Ok(_) => Ok(true),
            Err(_) if is_empty => Ok(true),
            Err(_) => Err(in_the_way()),
        }
    }

    /// Removes the folder of an earlier pack, with everything in it.
    pub(crate) fn wipe(&self) -> Result<()> {
        if !self.check()? {
            return Ok(());
        }
        let inner = self.blobs.inner();
        let doing = "removing what an earlier pack kept";
        let mut stack = vec![(self.top.clone(), self.list(&self.top)?)];
        while let Some((folder, listing)) = stack.last_mut() {
            let Some(name) = listing.next() else {
                // The marker goes last: without it this would be no folder of a pack. After a crash too, so the removal
                // of the rest is made durable first.
                if *folder == self.top {
                    Touched { folders: BTreeSet::from([self.top.clone()]) }.sync(inner)?;
                    match inner.tree.remove(&self.top.join(MARKER)) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(inner.failed(&self.top, doing, error));
                        }
                        _ => {}
                    }
                }
                inner.tree.remove_directory(folder).map_err(|error| inner.failed(folder, doing, error))?;
                stack.pop();
                continue;
            };
            let name = name.map_err(|error| inner.failed(folder, doing, error))?;
            if stack.len() == 1 && name == MARKER {
                continue;
            }
            let path = stack[stack.len() - 1].0.join(name);
            let failed = |error| inner.failed(&path, doing, error);
            if inner.tree.about(&path).map_err(failed)?.kind != Kind::Directory {
                inner.tree.remove(&path).map_err(failed)?;
            } else if stack.len() == DEPTH_MAX {
                return Err(Error::OldInTheWay { path: inner.shown(&path) });
            } else {
                let listing = self.list(&path)?;
                stack.push((path, listing));
            }
        }
        let mut touched = Touched { folders: BTreeSet::from([parent(&self.top)]) };
        touched.sync(inner)
    }

    fn list(&self, path: &Path) -> Result<vellum_disk::Listing> {
        let inner = self.blobs.inner();
        inner.tree.list(path).map_err(|error| inner.failed(path, "removing what an earlier pack kept", error))
    }

    /// Makes the folder, with its marker.
    pub(crate) fn make(&self, touched: &mut Touched) -> Result<()> {
        self.make_folder(&self.top, touched)?;
        let inner = self.blobs.inner();
        self.second_name(&inner.top.join(MARKER), &self.top.join(MARKER), touched)
    }

    fn make_folder(&self, folder: &Path, touched: &mut Touched) -> Result<()> {
        let inner = self.blobs.inner();
        inner.directories.lock().make(inner, folder)?;
        let below = folder.ancestors().take_while(|folder| folder.starts_with(&self.top));
        touched.folders.extend(below.map(Path::to_owned));
        touched.folders.insert(parent(&self.top));
        Ok(())
    }

    /// Gives every blob a second name here.
    pub(crate) fn link_all(
        &self,
        touched: &mut Touched,
        mut step: impl FnMut(&mut Touched) -> Result<()>,
    ) -> Result<()> {
        for found in self.blobs.walk() {
            if let Found::Blob { oid, tid, .. } = found? {
                let to = self.file(oid, tid);
                self.make_folder(&parent(&to), touched)?;
                self.second_name(&self.blobs.file(oid, tid), &to, touched)?;
                step(touched)?;
            }
        }
        Ok(())
    }

    fn second_name(&self, from: &Path, to: &Path, touched: &mut Touched) -> Result<()> {
        let inner = self.blobs.inner();
        match inner.tree.link(from, to) {
            Ok(()) => Ok(()),
            // A crash came between; or it was removed at the same time.
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(()),
            Err(error) if has_one_name(&error) => self.copy(from, to, touched),
            Err(error) => Err(inner.failed(from, "giving a blob a second name in what the pack keeps", error)),
        }
    }

    fn copy(&self, from: &Path, to: &Path, touched: &mut Touched) -> Result<()> {
        let inner = self.blobs.inner();
        let failed = |error| inner.failed(from, "copying a blob to what the pack keeps", error);
        let (file, about) = (inner.tree.read(from).map_err(failed)?, inner.tree.about(from).map_err(failed)?);
        let ready = copy(inner, from, &*file, Temporary::new(inner, &self.top, 0o600)?)?;
        inner.tree.set_mode(&ready.name.path, about.mode).map_err(failed)?;
        ready.name.rename(to).map_err(failed)?;
        touched.folders.insert(self.top.clone());
        Ok(())
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}
