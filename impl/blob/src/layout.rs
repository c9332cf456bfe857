//! Which layout a folder has: by its marker, else by its files, else as it is asked for.
//!
//! ZODB takes a folder without a marker for *lawn* unless it is empty, so that a bushy folder that lost its marker
//! becomes unreadable. Here the files tell; the marker that is then written holds for ZODB too.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::folder::{Inner, MARKER, OWN};
use crate::names::Layout;
use crate::temporary::Temporary;
use crate::walk::{Found, Walk};

/// So much of a marker is read; it takes five bytes.
const MARKER_MAX: usize = 64;

/// Returns the folder's layout, and whether a marker says so.
pub(crate) fn choose(inner: &Arc<Inner>, wanted: Option<Layout>) -> Result<(Layout, bool)> {
    let (found, is_marked) = match marker(inner)? {
        Some(layout) => (Some(layout), true),
        None => (by_files(inner)?, false),
    };
    match (found, wanted) {
        (Some(found), Some(wanted)) if found != wanted => {
            Err(Error::OtherLayout { path: inner.shown(&inner.top), found, wanted })
        }
        (found, wanted) => Ok((found.or(wanted).unwrap_or(Layout::Bushy), is_marked)),
    }
}

fn marker(inner: &Inner) -> Result<Option<Layout>> {
    let path = inner.top.join(MARKER);
    let mut bytes = [0; MARKER_MAX];
    let mut read = || inner.tree.read(&path)?.read_full_at(&mut bytes, 0);
    let length = match read() {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(inner.failed(&path, "reading the marker", error)),
    };
    let found = String::from_utf8_lossy(bytes[..length].trim_ascii()).into_owned();
    let unknown = || Error::UnknownLayout { path: inner.shown(&path), found: found.clone() };
    Layout::of_name(&found).map(Some).ok_or_else(unknown)
}

/// The layout that the files have; none if there is no file of a blob.
fn by_files(inner: &Arc<Inner>) -> Result<Option<Layout>> {
    let mut found = None;
    for layout in Layout::ALL {
        if first_blob(inner, layout)?.is_some() && found.replace(layout).is_some() {
            return Err(Error::BothLayouts { path: inner.shown(&inner.top) });
        }
    }
    if found.is_none() {
        is_free(inner)?;
    }
    Ok(found)
}

/// Fails if a folder without marker and blobs has anything in it that a blob folder has not.
fn is_free(inner: &Inner) -> Result<()> {
    let names = match inner.tree.list(&inner.top) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(inner.failed(&inner.top, "reading the blob folder", error)),
    };
    for name in names {
        let name = name.map_err(|error| inner.failed(&inner.top, "reading the blob folder", error))?;
        let is_fine = OWN.iter().any(|own| name == *own)
            || name == "lost+found"
            || name.as_encoded_bytes().starts_with(b".")
            || name.to_str().is_some_and(|name| Layout::Lawn.part(0, name).is_some());
        if !is_fine {
            let stranger = name.to_string_lossy().into_owned();
            return Err(Error::NotBlobs { path: inner.shown(&inner.top), stranger });
        }
    }
    Ok(())
}

/// A blob that is found first, if there is one.
pub(crate) fn first_blob(inner: &Arc<Inner>, layout: Layout) -> Result<Option<Found>> {
    let mut walk = Walk::new(inner, layout, inner.top.clone());
    walk.find(|found| !matches!(found, Ok(Found::Stranger { .. }))).transpose()
}

/// Writes the marker, whole or not at all. The caller syncs the folder.
pub(crate) fn mark(inner: &Arc<Inner>, layout: Layout, temporaries: &Path) -> Result<()> {
    let mut marker = Temporary::new(inner, temporaries, 0o666)?;
    marker.append(layout.name().as_bytes())?;
    let path = inner.top.join(MARKER);
    let name = marker.sync()?.name;
    name.rename(&path).map_err(|error| inner.failed(&path, "writing the marker", error))
}
