//! A site in Plone's layout with blobs: `filestorage/Data.fs` and `blobstorage`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_blob::{BlobFolder, Layout, Opening};
use vellum_disk::RealDisk;
use vellum_storage::{Bytes, Oid, Tid};

use super::Sandbox;
use super::site::{Delete, Site, Store, record};

/// A blob's record, as ZODB writes it.
pub fn blob() -> Bytes {
    b"\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.".as_slice().into()
}

/// Where the data file and the folder are.
pub const DATA: &str = "filestorage/Data.fs";
pub const FOLDER: &str = "blobstorage";

/// The tids of a site.
pub struct Photos {
    /// Photo 2 as it was first, and photo 3.
    pub first: Tid,
    /// Photo 2 once more.
    pub second: Tid,
    /// Photo 3 is deleted.
    pub deleted: Tid,
    /// The root is changed.
    pub last: Tid,
}

/// Opens a folder, making it.
pub fn folder(path: &Path, layout: Layout) -> BlobFolder {
    let opening = Opening { layout: Some(layout), ..Opening::default() };
    BlobFolder::open(Arc::new(RealDisk), path, opening).unwrap()
}

/// Puts a file of a blob there.
pub fn put(folder: &BlobFolder, oid: u64, tid: Tid, bytes: &[u8]) -> PathBuf {
    let mut temporary = folder.temporary().unwrap();
    temporary.append(bytes).unwrap();
    folder.place(temporary.sync().unwrap(), Oid(oid), tid).unwrap();
    folder.path_of(Oid(oid), tid)
}

/// A shelf with two photos, of which one was changed and the other deleted.
pub fn photos(sandbox: &Sandbox) -> Photos {
    std::fs::create_dir(sandbox.path("filestorage")).unwrap();
    let mut site = Site::new(sandbox, DATA);
    let root = |strong: &[u64]| record("Root", strong, &[], 0);
    let product = record("Product", &[], &[], 20);
    let shelf = vec![Store(0, root(&[1, 2, 3])), Store(1, product), Store(2, blob()), Store(3, blob())];
    let first = site.commit("ann", "two photos", shelf);
    let second = site.commit("bob", "a better one", vec![Store(2, blob())]);
    let deleted = site.commit("bob", "away with the other", vec![Delete(3)]);
    let last = site.commit("bob", "", vec![Store(0, root(&[1, 2]))]);
    let folder = folder(&sandbox.path(FOLDER), Layout::Bushy);
    put(&folder, 2, first, b"a photo");
    put(&folder, 3, first, b"another photo");
    put(&folder, 2, second, &[b'x'; 3000]);
    Photos { first, second, deleted, last }
}
