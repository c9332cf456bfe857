//! Databases in tables, which are told apart from a `Data.fs` by their first bytes.
//!
//! Commands about a file's positions read a `Data.fs` only, and refuse tables. Commands that need no more than a
//! storage take a [`Database`].

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use vellum_disk::RealDisk;
use vellum_file::FileStorage;
use vellum_storage::{Error, Storage};
use vellum_table::{Compacted, OpenError, Options, TableStorage, is_store};
use vellum_terminal::{Failure, Run};

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

/// A database of either kind.
pub enum Database {
    /// In a `Data.fs`.
    File(FileStorage),
    /// In tables.
    Tables(TableStorage),
}

impl Database {
    /// Opens either kind for reading.
    pub fn open(path: &Path) -> Run<Database> {
        match is_one(path) {
            true => Ok(Database::Tables(open(path)?)),
            false => Ok(Database::File(super::open(path)?)),
        }
    }

    /// Both kinds, as a storage.
    pub fn storage(&self) -> &dyn Storage {
        match self {
            Database::File(file) => file,
            Database::Tables(tables) => tables,
        }
    }

    /// The same, to keep.
    pub fn shared(&self) -> Arc<dyn Storage> {
        match self {
            Database::File(file) => Arc::new(file.clone()),
            Database::Tables(tables) => Arc::new(tables.clone()),
        }
    }

    /// The `Data.fs`, if it is one.
    pub fn file(&self) -> Option<&FileStorage> {
        match self {
            Database::File(file) => Some(file),
            Database::Tables(_) => None,
        }
    }
}
