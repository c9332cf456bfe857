//! An open file: the generation of the moment, how it was opened, and its `.index` on disk.
//!
//! Readers need nothing else. The code that changes the file is in `write/`, in the layer above.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use vellum_blob::BlobFiles;
use vellum_storage::{Blob, Error, Listeners, Oid, Result, Tid};
use vellum_sync::atomic::{AtomicBool, Ordering};
use vellum_sync::{Mutex, MutexGuard};

use crate::options::Options;
use crate::order;
use crate::read::generation::Generation;
use crate::read::index_file;

/// The open file.
#[derive(Debug)]
pub(crate) struct Database {
    pub path: PathBuf,
    pub options: Options,
    /// The blob folder, if it has one.
    pub blobs: Option<BlobFiles>,
    pub listeners: Listeners,
    /// The present data file. Another one takes its place only while no thread writes.
    generation: ArcSwap<Generation>,
    /// Whether the `.index` on disk says what the index says.
    index_saved: AtomicBool,
    /// Held while the `.index` is written: two at once would write the same temporary file.
    saving: Mutex<(), order::Saving>,
}

impl Database {
    pub fn new(
        path: PathBuf,
        options: &Options,
        blobs: Option<BlobFiles>,
        generation: Generation,
        index_saved: bool,
    ) -> Database {
        Database {
            path,
            blobs,
            // The caller's progress is for the opening, and is not kept alive after it.
            options: Options { progress: None, ..options.clone() },
            listeners: Listeners::default(),
            generation: ArcSwap::from_pointee(generation),
            index_saved: AtomicBool::new(index_saved),
            saving: Mutex::default(),
        }
    }

    /// The database's name, in errors.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The data file of the moment.
    pub fn now(&self) -> Guard<Arc<Generation>> {
        self.generation.load()
    }

    /// The same for long use.
    pub fn now_full(&self) -> Arc<Generation> {
        self.generation.load_full()
    }

    /// Puts the next generation in the place of this one. Only while no thread writes.
    pub fn replace(&self, next: Generation) {
        self.generation.store(Arc::new(next));
    }

    pub fn writable(&self) -> Result<()> {
        if self.options.read_only { Err(Error::ReadOnly { name: self.name() }) } else { Ok(()) }
    }

    /// The blob folder.
    pub fn blobs(&self) -> Result<&BlobFiles> {
        let why = "it was opened without a blob folder. Name the folder, which is usually called `blobstorage`, and open it again";
        self.blobs.as_ref().ok_or_else(|| Error::Unfit { name: self.name(), why: why.to_owned() })
    }

    /// The blob of the object's revision in this transaction, if the database has blobs, and it one.
    pub fn blob(&self, oid: Oid, tid: Tid) -> Result<Option<Blob>> {
        self.blobs.as_ref().map_or(Ok(None), |blobs| blobs.find(oid, tid))
    }

    /// Refuses what would make the file larger than it may be.
    pub fn within_quota(&self, needed: u64) -> Result<()> {
        match self.options.quota.filter(|&quota| needed > quota) {
            Some(quota) => Err(Error::Quota { name: self.name(), quota, needed }),
            None => Ok(()),
        }
    }

    /// Keeps others from writing the `.index`.
    pub fn saving(&self) -> MutexGuard<'_, ()> {
        self.saving.lock()
    }

    /// Writes the `.index`, unless the one on disk says the same.
    pub fn save_index(&self) -> Result<()> {
        self.save_index_alone(&self.saving())
    }

    /// The same for a caller that has the lock.
    pub fn save_index_alone(&self, _saving: &MutexGuard<'_, ()>) -> Result<()> {
        if self.options.read_only || self.index_saved.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let now = self.now();
        let end = now.horizon.end();
        let before_end = |oid| match now.newest_position(oid, end) {
            Ok(position) => Ok(Some(position)),
            Err(Error::KeyError { .. }) => Ok(None),
            Err(other) => Err(other),
        };
        let saved = index_file::save(&*self.options.disk, &self.path, &now.index, end, &before_end);
        saved.inspect_err(|_| self.index_changed())
    }

    /// The `.index` on disk is behind.
    pub fn index_changed(&self) {
        self.index_saved.store(false, Ordering::Release);
    }

    /// The `.index` is not to be saved until something else is committed.
    pub fn index_is_settled(&self) {
        self.index_saved.store(true, Ordering::Release);
    }
}
