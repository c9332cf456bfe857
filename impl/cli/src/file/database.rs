//! `Database`: a database of either kind, as the commands open it.

use std::path::Path;
use std::sync::Arc;

use vellum_blob::BlobFolder;
use vellum_file::FileStorage;
use vellum_storage::{AsOf, Draft, Oid, Storage, Survivors, Tid, TransactionMeta, Version, Versions};
use vellum_table::TableStorage;
use vellum_terminal::{Failure, Run};

use super::blobs::{BlobArgs, Folder, Keeper};
use super::revisions::Revisions;
use super::survey::{self, Finding, Revision};
use super::{open as file, tables};

/// A database of either kind.
#[derive(Clone)]
pub enum Database {
    /// In a `Data.fs`.
    File(FileStorage),
    /// In tables.
    Tables(TableStorage),
    /// In tables, as of a time. A `Data.fs` is opened so.
    Then {
        /// As of the time.
        then: AsOf,
        /// The tables.
        tables: TableStorage,
    },
}

impl Database {
    /// Opens either kind for reading.
    pub fn open(path: &Path) -> Run<Database> {
        Database::open_at(path, None)
    }

    /// Opens either kind for reading, as it was at a time.
    pub fn open_at(path: &Path, at: Option<Tid>) -> Run<Database> {
        if !tables::is_one(path) {
            return Ok(Database::File(file::open_at(path, at)?));
        }
        let tables = tables::open(path)?;
        Ok(match at {
            None => Database::Tables(tables),
            Some(at) => Database::Then { then: AsOf::new(Arc::new(tables.clone()), at)?, tables },
        })
    }

    /// Opens either kind for reading, with its blobs if their folder is known.
    pub fn open_with_blobs(path: &Path, blobs: &BlobArgs) -> Run<Database> {
        if !tables::is_one(path) {
            return Ok(Database::File(file::open_with_blobs(path, blobs)?));
        }
        Ok(Database::Tables(tables::open_with_blobs(path, blobs)?))
    }

    /// Opens either kind for writing; with its blobs, if they are asked for and their folder is known.
    pub fn open_to_write(path: &Path, blobs: Option<&BlobArgs>) -> Run<Database> {
        if !tables::is_one(path) {
            return Ok(Database::File(match blobs {
                None => file::open_to_write(path, &file::options()?)?,
                Some(blobs) => file::open_to_write_with_blobs(path, blobs)?,
            }));
        }
        Ok(Database::Tables(match blobs {
            None => tables::open_to_write(path)?,
            Some(blobs) => tables::open_to_write_with_blobs(path, blobs)?,
        }))
    }

    /// Whether it forgets what is old (rule 4.12), so that nothing can be undone.
    pub fn is_history_free(&self) -> bool {
        match self {
            Database::File(_) => false,
            Database::Tables(tables) | Database::Then { tables, .. } => tables.is_history_free(),
        }
    }

    /// Any kind, as a storage.
    pub fn storage(&self) -> &dyn Storage {
        match self {
            Database::File(file) => file,
            Database::Tables(tables) => tables,
            Database::Then { then, .. } => then,
        }
    }

    /// The same, to keep.
    pub fn shared(&self) -> Arc<dyn Storage> {
        match self {
            Database::File(file) => Arc::new(file.clone()),
            Database::Tables(tables) => Arc::new(tables.clone()),
            Database::Then { then, .. } => Arc::new(then.clone()),
        }
    }

    /// The `Data.fs`, if it is one.
    pub fn file(&self) -> Option<&FileStorage> {
        match self {
            Database::File(file) => Some(file),
            Database::Tables(_) | Database::Then { .. } => None,
        }
    }

    /// The revisions of its objects.
    pub fn revisions(&self) -> Revisions<'_> {
        match self {
            Database::File(file) => Revisions::of_file(file),
            Database::Tables(_) | Database::Then { .. } => Revisions::of(self.storage()),
        }
    }

    /// The versions that hold an object, by name.
    pub fn all_versions(&self) -> vellum_storage::Result<Vec<Version>> {
        self.storage().versions().map_or(Ok(Vec::new()), Versions::versions)
    }

    /// The objects whose newest revision is in the version, the last changed one first.
    pub fn objects_in(&self, version: &Version) -> Run<Vec<Oid>> {
        match self {
            Database::File(file) => {
                let mut found = Vec::new();
                for oid in file.objects_in(version)? {
                    found.extend(file.newest_record(oid)?.map(|record| (record.position, oid)));
                }
                found.sort_unstable_by(|a, b| b.cmp(a));
                Ok(found.into_iter().map(|(_, oid)| oid).collect())
            }
            Database::Tables(tables) => Ok(tables.objects_in(version)?),
            Database::Then { .. } => Err(Failure::Message("the objects of a version are not known of the past".into())),
        }
    }

    /// The objects that a pack to now keeps. `progress` is called with how much was read, and of how much.
    pub fn needed(&self, progress: &dyn Fn(u64, u64)) -> vellum_storage::Result<Survivors> {
        let all = self.storage().object_count();
        match self {
            Database::File(file) => file.needed(&mut |done, of| progress(done, of)),
            _ => vellum_storage::needed(self.storage(), &|done| progress(done, all)),
        }
    }

    /// Begins a transaction that is never finished, on a database that is open for reading.
    pub fn rehearse(&self, meta: TransactionMeta) -> vellum_storage::Result<Draft> {
        match self {
            Database::File(file) => file.rehearse(meta),
            Database::Tables(tables) => tables.rehearse(meta),
            Database::Then { then, .. } => then.begin(meta),
        }
    }

    /// The open blob folder; none if there is none, or it is not known.
    pub fn blob_folder(&self) -> Option<&BlobFolder> {
        match self {
            Database::File(file) => file.blob_folder(),
            Database::Tables(tables) => tables.blob_folder(),
            Database::Then { .. } => None,
        }
    }

    /// The blob folder that belongs to it; none if there is none.
    pub fn find_blobs(&self, blobs: &BlobArgs) -> Run<Option<Folder>> {
        match self {
            Database::File(file) => blobs.find(file),
            Database::Tables(tables) => blobs.find(tables),
            Database::Then { tables, .. } => blobs.find(tables),
        }
    }

    /// Every revision of a blob, in the order of the oids and tids.
    pub fn revisions_of_blobs(&self) -> Run<Vec<Revision>> {
        match self {
            Database::File(file) => file.revisions_of_blobs(),
            _ => survey::revisions_told(self.storage()),
        }
    }

    /// The number of revisions of blobs that have no file; zero if the folder is not known.
    pub fn missing_blobs(&self) -> Run<u64> {
        let Some(folder) = self.blob_folder() else { return Ok(0) };
        let revisions = self.revisions_of_blobs()?;
        let mut missing = 0;
        survey::survey(folder, &revisions, self.storage().last_transaction(), false, &mut |finding| {
            missing += u64::from(matches!(finding, Finding::Missing(_)));
            Ok(())
        })?;
        Ok(missing)
    }

    /// The transactions in the order of their times. A `Data.fs` may have others.
    ///
    /// # Errors
    ///
    /// They are not.
    pub fn in_order(&self) -> vellum_storage::Result<()> {
        self.file().map_or(Ok(()), FileStorage::in_order)
    }
}
