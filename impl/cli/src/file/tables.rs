//! Databases in tables, which are told apart from a `Data.fs` by their first bytes.
//!
//! Commands about a file's positions read a `Data.fs` only, and refuse tables. Commands that need no more than a
//! storage take a [`Database`](super::Database).

use std::fs::File;
use std::path::Path;

use vellum_disk::RealDisk;
use vellum_storage::Error;
use vellum_table::{Compacted, OpenError, Options, TableStorage, is_store};
use vellum_terminal::{Failure, Run};

use super::blobs::{BlobArgs, Folder};
use crate::ui::args;

/// The ending of a name that makes a new database one in tables.
const ENDING: &str = "vellum";

/// Whether there is a database in tables at `path`. A file that cannot be read does not count: opening it says why.
pub fn is_one(path: &Path) -> bool {
    is_store(&RealDisk, path).unwrap_or(false)
}

/// Whether the database at `path` is in tables, or would be if it were made now: the name of a new one says which.
pub fn is_or_becomes_one(path: &Path) -> bool {
    match path.exists() {
        true => is_one(path),
        false => path.extension().is_some_and(|ending| ending == ENDING),
    }
}

/// Refuses a database in tables, for a command that reads a `Data.fs` only.
pub fn refuse(path: &Path) -> vellum_storage::Result<()> {
    if !is_one(path) {
        return Ok(());
    }
    let name = path.display().to_string();
    let why = format!(
        "it is a database in tables, and this command reads only a Data.fs. Nothing was changed. `vellum copy {name} \
         Data.fs` makes one of it"
    );
    Err(Error::Unfit { name, why })
}

/// Opens one for reading.
pub fn open(path: &Path) -> Run<TableStorage> {
    told(Options::new().read_only().open(path))
}

/// Opens one for writing.
pub fn open_to_write(path: &Path) -> Run<TableStorage> {
    told(options()?.open(path))
}

/// Opens one for reading, with its blobs if their folder is known.
pub fn open_with_blobs(path: &Path, blobs: &BlobArgs) -> Run<TableStorage> {
    let storage = open(path)?;
    let Some(Folder { folder, .. }) = blobs.find(&storage)? else { return Ok(storage) };
    // It has the lock.
    drop(storage);
    told(Options::new().read_only().blobs(folder.path()).open(path))
}

/// Opens one for writing, with its blobs if their folder is known. A named folder that does not exist is made, unless
/// the database has blobs already.
pub fn open_to_write_with_blobs(path: &Path, blobs: &BlobArgs) -> Run<TableStorage> {
    // A look first: opened for writing, the folder of another database would be changed.
    let folder = blobs.folder_to_write(&open(path)?)?;
    let options = options()?;
    told(folder.map_or(options.clone(), |folder| options.blobs(folder)).open(path))
}

/// Gives back to the system what is free in a closed one.
pub fn compact(path: &Path) -> Run<Compacted> {
    told(Options::new().compact(path))
}

/// The options for one that is written to.
pub fn options() -> Run<Options> {
    Ok(Options::new().clock(args::clock().map_err(Failure::Message)?))
}

/// Has a new database, and its lock, the permissions of the file that it is made of.
pub fn take_after(path: &Path, like: &Path) -> Run<()> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    for path in [path, Path::new(&lock)] {
        let taken = like.metadata().and_then(|like| vellum_disk::take_after(&File::open(path)?, &like));
        taken.map_err(|error| Failure::Message(format!("{}: giving it its permissions: {error}", path.display())))?;
    }
    Ok(())
}

/// An error of opening, as the failure of a command.
pub fn told<T>(opened: Result<T, OpenError>) -> Run<T> {
    opened.map_err(|error| Failure::Message(error.to_string()))
}
