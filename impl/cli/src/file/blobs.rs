//! The blob folder of a database: the one that is named, or the one whose place is evident.
//!
//! ```text
//!   FILE                              looked for, in this order
//!   site/news.fs                      site/news.fs.blobs, site/blobstorage-news
//!   site/Data.fs                      likewise, and site/blobstorage, site/blobs
//!   var/filestorage/Data.fs           the same, and var/blobstorage, var/blobs
//!   var/filestorage/news/news.fs      var/filestorage/news/news.fs.blobs, ..., var/blobstorage-news
//!   var/filestorage/Data.fs.old       the same with .old behind each, as a pack leaves them
//! ```
//!
//! **A copy beside a database does not get its folder.** A pack of `test.fs`, copied from `Data.fs`, would remove the
//! files that `Data.fs` needs. So only a file named `Data.fs` gets a folder whose name does not contain the file's
//! name.
//!
//! A place counts only if a blob folder is there: it has a marker. And a folder that was found, but not named, counts
//! only if it belongs to the database: it is empty, or one of its first files belongs to a revision of the database. So
//! the folder of a database in a file beside this one is never taken for this one's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use vellum_blob::{BlobFolder, Found, Opening};
use vellum_disk::RealDisk;
use vellum_file::FileStorage;
use vellum_storage::{Oid, Storage, Tid, may_have_blob};
use vellum_table::TableStorage;
use vellum_terminal::{Failure, Run};

use super::DataFile;
use super::survey::{self, Revision};
use crate::ui::say;

/// So many files of a folder are looked at to find out whether it belongs to a database.
const LOOKED_AT: usize = 200;

/// A blob's record is far shorter.
pub const RECORD_BYTES: u64 = 512;

/// The option of every command that looks at a database.
#[derive(Args, Clone, Debug, Default)]
pub struct BlobArgs {
    /// The folder with the blobs [default: the one beside the database, see `vellum help blobs`]
    #[arg(long, value_name = "FOLDER")]
    pub blobs: Option<PathBuf>,
}

/// The relation of a blob folder to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belongs {
    /// A file of it belongs to a revision of the database.
    Yes,
    /// There is no file in it.
    Empty,
    /// No file of it belongs to the database, of so many that were looked at.
    No(usize),
}

/// A storage whose blobs may be in a folder.
pub trait Keeper: Storage {
    /// The path of the file.
    fn place(&self) -> &Path;

    /// Whether it has this revision, and that may have a blob.
    ///
    /// # Errors
    ///
    /// The file is damaged.
    fn has(&self, oid: Oid, tid: Tid) -> Run<bool>;

    /// Every revision of a blob, in the order of the oids and tids.
    ///
    /// # Errors
    ///
    /// The file is damaged.
    fn revisions_of_blobs(&self) -> Run<Vec<Revision>>;
}

impl Keeper for FileStorage {
    fn place(&self) -> &Path {
        self.path()
    }

    fn has(&self, oid: Oid, tid: Tid) -> Run<bool> {
        let file = DataFile::of(self);
        let damage = |fault| file.damage(&fault);
        let Some(newest) = self.newest_record(oid)? else { return Ok(false) };
        let Some(record) = file.revision(&newest, tid).map_err(damage)? else { return Ok(false) };
        let Some(holder) = file.holder(&mut file.scanner(), &record).map_err(damage)? else { return Ok(false) };
        Ok(may_have_blob(&file.data_start(&holder, RECORD_BYTES).map_err(damage)?))
    }

    fn revisions_of_blobs(&self) -> Run<Vec<Revision>> {
        survey::revisions(self)
    }
}

impl Keeper for TableStorage {
    fn place(&self) -> &Path {
        self.path()
    }

    fn has(&self, oid: Oid, tid: Tid) -> Run<bool> {
        Ok(self.is_revision_of_blob(oid, tid)?)
    }

    fn revisions_of_blobs(&self) -> Run<Vec<Revision>> {
        survey::revisions_told(self)
    }
}

/// A blob folder that is open for reading, and its place.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The folder.
    pub folder: BlobFolder,
    /// Whether it is the database's.
    pub belongs: Belongs,
}

impl BlobArgs {
    /// The folder that is named, or else the one that is evident; none if neither is there. A folder that is named, and
    /// belongs to another database, is warned of.
    ///
    /// # Errors
    ///
    /// The named folder is no blob folder, or cannot be read.
    pub fn find(&self, storage: &impl Keeper) -> Run<Option<Folder>> {
        if let Some(path) = &self.blobs {
            let folder = open(path).map_err(|error| Failure::Message(error.to_string()))?;
            let belongs = belongs(&folder, storage)?;
            if let Belongs::No(looked_at) = belongs {
                say(&format!("warning: {}", not_of(&folder, storage.place(), looked_at)));
            }
            return Ok(Some(Folder { folder, belongs }));
        }
        for path in evident(storage.place()) {
            let folder = match open(&path) {
                Ok(folder) => folder,
                Err(error) => {
                    say(&format!("warning: {error}. It is passed over; --blobs names the blob folder"));
                    continue;
                }
            };
            match belongs(&folder, storage)? {
                Belongs::No(looked_at) => {
                    let why = not_of(&folder, storage.place(), looked_at);
                    say(&format!("note: {why}. It is passed over; --blobs names the blob folder"));
                }
                belongs => return Ok(Some(Folder { folder, belongs })),
            }
        }
        Ok(None)
    }

    /// The same for a database that is about to be written to. A folder of another database is an error.
    ///
    /// # Errors
    ///
    /// As [`BlobArgs::find`]; the named folder belongs to another database.
    pub fn find_to_write(&self, storage: &impl Keeper) -> Run<Option<Folder>> {
        let found = self.find(storage)?;
        match &found {
            Some(Folder { folder, belongs: Belongs::No(_), .. }) => Err(Failure::Message(format!(
                "{}: nothing was changed, since this seems to be the blob folder of another database than {}",
                folder.path().display(),
                storage.place().display()
            ))),
            _ => Ok(found),
        }
    }

    /// The folder of a database that will be opened for writing. A named folder that does not exist is made, unless the
    /// database has blobs already.
    ///
    /// # Errors
    ///
    /// As [`BlobArgs::find_to_write`]; the database has blobs, and the named folder is not there.
    pub fn folder_to_write(&self, looked_at: &impl Keeper) -> Run<Option<PathBuf>> {
        match &self.blobs {
            Some(named) if !named.exists() => {
                if !looked_at.revisions_of_blobs()?.is_empty() {
                    return Err(Failure::Message(format!(
                        "{}: there is no such blob folder, and the database has blobs: nothing was changed. Is the path right?",
                        named.display()
                    )));
                }
                Ok(Some(named.clone()))
            }
            _ => Ok(self.find_to_write(looked_at)?.map(|found| found.folder.path())),
        }
    }
}

fn not_of(folder: &BlobFolder, file: &Path, looked_at: usize) -> String {
    format!(
        "{}: none of its files belongs to {} ({looked_at} looked at), so it seems to be another database's blob folder",
        folder.path().display(),
        file.display()
    )
}

/// Opens a folder for reading; nothing is made or changed.
///
/// # Errors
///
/// It is no blob folder, or cannot be read.
pub fn open(path: &Path) -> vellum_blob::Result<BlobFolder> {
    let reading = Opening { read_only: true, ..Opening::default() };
    BlobFolder::open(Arc::new(RealDisk), path, reading)
}

/// Opens a folder for writing.
///
/// # Errors
///
/// As [`BlobFolder::open`].
pub fn open_to_write(path: &Path) -> vellum_blob::Result<BlobFolder> {
    BlobFolder::open(Arc::new(RealDisk), path, Opening::default())
}

/// The places beside a file where there is a blob folder, the likeliest first.
pub fn evident(file: &Path) -> Vec<PathBuf> {
    let is_marked = |folder: &PathBuf| folder.join(".layout").is_file();
    places(file).into_iter().filter(is_marked).collect()
}

/// The folder that belongs to a file by its name, wherever there is none yet.
pub fn own(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".blobs");
    name.into()
}

fn places(file: &Path) -> Vec<PathBuf> {
    let text = file.to_string_lossy();
    let (file, ending) = match text.strip_suffix(".old") {
        Some(file) => (Path::new(file), ".old"),
        None => (file, ""),
    };
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut folders = vec![file.parent().unwrap_or(Path::new("")).to_owned()];
    let mut above = folders[0].clone();
    // Plone's layout, also with a folder for each further database.
    for _ in 0..2 {
        let is_filestorage = above.file_name().is_some_and(|name| name == "filestorage");
        above = match above.parent() {
            Some(parent) => parent.to_owned(),
            None => break,
        };
        if is_filestorage {
            folders.push(above.clone());
        }
    }
    let mut names = vec![own(file)];
    for folder in folders {
        names.push(folder.join(format!("blobstorage-{stem}")));
        if file.file_name().is_some_and(|name| name == "Data.fs") {
            names.extend(["blobstorage", "blobs"].map(|name| folder.join(name)));
        }
    }
    let ended = |path: PathBuf| {
        let mut path = path.into_os_string();
        path.push(ending);
        PathBuf::from(path)
    };
    names.into_iter().map(ended).collect()
}

/// The relation of the folder at a path to a database.
///
/// # Errors
///
/// There is no blob folder.
pub fn relation(path: &Path, storage: &impl Keeper) -> Run<Belongs> {
    let folder = open(path).map_err(|error| Failure::Message(error.to_string()))?;
    belongs(&folder, storage)
}

/// Whether the folder is the database's, by its first files.
fn belongs(folder: &BlobFolder, storage: &impl Keeper) -> Run<Belongs> {
    let mut looked_at = 0;
    for found in folder.walk() {
        let Ok(Found::Blob { oid, tid, .. }) = found else { continue };
        if storage.has(oid, tid)? {
            return Ok(Belongs::Yes);
        }
        looked_at += 1;
        if looked_at == LOOKED_AT {
            break;
        }
    }
    Ok(if looked_at == 0 { Belongs::Empty } else { Belongs::No(looked_at) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(file: &str) -> Vec<String> {
        places(Path::new(file)).iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn plone_s_folder_is_beside_the_folder_of_files() {
        assert!(named("var/filestorage/Data.fs").contains(&"var/blobstorage".to_owned()));
        assert!(named("var/filestorage/news/news.fs").contains(&"var/blobstorage-news".to_owned()));
        assert!(named("/data/filestorage/Data.fs.old").contains(&"/data/blobstorage.old".to_owned()));
        assert!(!named("var/data/Data.fs").contains(&"var/blobstorage".to_owned()));
    }

    #[test]
    fn the_folder_with_the_file_s_name_comes_first() {
        assert_eq!(named("Data.fs"), ["Data.fs.blobs", "blobstorage-Data", "blobstorage", "blobs"]);
        assert_eq!(named("Data.fs.old")[0], "Data.fs.blobs.old");
    }

    #[test]
    fn a_copy_does_not_get_the_folder_of_the_original() {
        assert_eq!(named("test.fs"), ["test.fs.blobs", "blobstorage-test"]);
    }
}
