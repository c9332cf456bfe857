//! Everything that is in a blob folder, one after the other.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use vellum_disk::{Kind, Listing};
use vellum_storage::{Oid, Tid};

use crate::error::Result;
use crate::folder::{Inner, OWN};
use crate::names::{Layout, parse_file_name};

/// Something in a blob folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file of a blob. Whether the database knows it is not known here.
    Blob {
        /// The object.
        oid: Oid,
        /// The transaction that wrote it.
        tid: Tid,
        /// Its length in bytes.
        length: u64,
        /// Its permissions, as in `0o444`.
        mode: u32,
    },
    /// Something else. The walk does not look into a strange folder.
    Stranger {
        /// Where it is.
        path: PathBuf,
        /// Its kind.
        kind: Kind,
    },
}

/// The iterator over everything in a blob folder, in no order, and without the files in `tmp/`.
///
/// Its memory is bounded, however many files there are. Files that appear or disappear during the walk may be in it or
/// not. A folder that cannot be read is an error, after which the walk continues.
pub struct Walk {
    inner: Arc<Inner>,
    layout: Layout,
    /// The folder where it begins, until it has.
    begin: Option<PathBuf>,
    /// The folder that is being read, with those above it.
    stack: Vec<Level>,
}

struct Level {
    /// As seen from the root of the tree.
    path: PathBuf,
    /// As much of the oid as the path says.
    oid: u64,
    listing: Listing,
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("at", &self.stack.last().map(|level| &level.path)).finish_non_exhaustive()
    }
}

impl Walk {
    /// Everything below `top`, as files of this layout.
    pub(crate) fn new(inner: &Arc<Inner>, layout: Layout, top: PathBuf) -> Walk {
        Walk { inner: Arc::clone(inner), layout, begin: Some(top), stack: Vec::new() }
    }

    fn enter(&mut self, path: PathBuf, oid: u64) -> Result<()> {
        match self.inner.tree.list(&path) {
            Ok(listing) => self.stack.push(Level { path, oid, listing }),
            // It was emptied, and removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.inner.failed(&path, "reading a folder", error)),
        }
        Ok(())
    }

    /// The finding for a name in the folder that is being read. None if it is a folder that is read next, or ours, or
    /// gone.
    fn look(&mut self, name: &OsStr) -> Result<Option<Found>> {
        let depth = self.stack.len() - 1;
        let level = &self.stack[depth];
        if depth == 0 && OWN.iter().any(|own| name == *own) {
            return Ok(None);
        }
        let (path, above) = (level.path.join(name), level.oid);
        let about = match self.inner.tree.about(&path) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.inner.failed(&path, "looking at a file", error)),
        };
        let name = name.to_str().unwrap_or_default();
        if depth < self.layout.depth() {
            if let (Kind::Directory, Some(oid)) = (about.kind, self.layout.part(above, name)) {
                return self.enter(path, oid).map(|()| None);
            }
        } else if let (Kind::File, Some(tid)) = (about.kind, parse_file_name(name)) {
            return Ok(Some(Found::Blob { oid: Oid(above), tid, length: about.length, mode: about.mode }));
        }
        Ok(Some(Found::Stranger { path: self.inner.shown(&path), kind: about.kind }))
    }
}

impl Iterator for Walk {
    type Item = Result<Found>;

    fn next(&mut self) -> Option<Result<Found>> {
        if let Some(top) = self.begin.take()
            && let Err(error) = self.enter(top, 0)
        {
            return Some(Err(error));
        }
        loop {
            let level = self.stack.last_mut()?;
            match level.listing.next() {
                None => drop(self.stack.pop()),
                Some(Err(error)) => {
                    let error =
                        self.inner.failed(&level.path, "reading a folder, the rest of which is passed over", error);
                    self.stack.pop();
                    return Some(Err(error));
                }
                Some(Ok(name)) => {
                    if let Some(found) = self.look(&name).transpose() {
                        return Some(found);
                    }
                }
            }
        }
    }
}
