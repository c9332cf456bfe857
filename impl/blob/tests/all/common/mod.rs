//! Helpers of the tests of blob folders.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use vellum_blob::{BlobFolder, Found, Opening, Ready, Result};
use vellum_disk::{Disk, RealDisk};
use vellum_storage::{Oid, Tid};

pub type Place = (Oid, Tid);

pub fn place(oid: u64, tid: u64) -> Place {
    (Oid(oid), Tid(tid))
}

pub fn open(path: &Path) -> BlobFolder {
    BlobFolder::open(Arc::new(RealDisk), path, Opening::default()).unwrap()
}

pub fn open_on(disk: &(impl Disk + Clone + 'static), opening: Opening) -> Result<BlobFolder> {
    BlobFolder::open(Arc::new(disk.clone()), Path::new("blobs"), opening)
}

/// Bytes on their way.
pub fn ready(folder: &BlobFolder, bytes: &[u8]) -> Result<Ready> {
    let mut temporary = folder.temporary()?;
    for piece in bytes.chunks(700) {
        temporary.append(piece)?;
    }
    temporary.sync()
}

/// A committed blob.
pub fn commit(folder: &BlobFolder, (oid, tid): Place, bytes: &[u8]) -> Result<()> {
    folder.place(ready(folder, bytes)?, oid, tid)?;
    folder.sync(&[(oid, tid)])
}

pub fn bytes(folder: &BlobFolder, (oid, tid): Place) -> Result<Vec<u8>> {
    let file = folder.read(oid, tid)?;
    let mut bytes = vec![0; folder.length(oid, tid)? as usize];
    assert_eq!(file.read_full_at(&mut bytes, 0).unwrap(), bytes.len());
    Ok(bytes)
}

/// All blobs with their modes, and the strangers.
pub fn all(folder: &BlobFolder) -> (BTreeMap<Place, u32>, Vec<String>) {
    let (mut blobs, mut strangers) = (BTreeMap::new(), Vec::new());
    for found in folder.walk() {
        match found.unwrap() {
            Found::Blob { oid, tid, mode, .. } => drop(blobs.insert((oid, tid), mode)),
            Found::Stranger { path, .. } => {
                strangers.push(path.strip_prefix(folder.path()).unwrap().display().to_string())
            }
        }
    }
    strangers.sort();
    (blobs, strangers)
}

pub fn names_in(path: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
