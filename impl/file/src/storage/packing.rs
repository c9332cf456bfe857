//! Packing a file storage.

use vellum_storage::{Pack, PackOptions, PackReport, Result, Survivors, Tid};

use super::FileStorage;
use crate::pack::{self, PackWatch, Packed, Packing, Unwatched};

impl Pack for FileStorage {
    /// See [`FileStorage::pack_with`].
    fn pack(&self, to: Tid, how: PackOptions) -> Result<PackReport> {
        let PackOptions { collect, go_on, keep_old, one_thread, .. } = how;
        let how = Packing::new().collect(collect).go_on(go_on).keep_old(keep_old).one_thread(one_thread);
        let packed = self.pack_with(to, how, &mut Unwatched)?;
        Ok(packed.dangling.into())
    }
}

impl FileStorage {
    /// Packs, and tells the watcher about it. Commits and loads continue. Commits wait only while the last of them is
    /// copied and the new file gets its name.
    ///
    /// # Errors
    ///
    /// These leave the database as it was:
    ///
    /// - the storage is open for reading only, or another pack is running;
    /// - references dangle, and `how` does not say to go on;
    /// - the references of a record cannot be read, and garbage is to be collected;
    /// - the file is damaged, the disk fails, or the watcher returns an error.
    ///
    /// Two come after the pack is done: the old file that is to be kept could not be given its name; and the directory
    /// could not be synced after the renaming. After the second, nothing more is committed until the file is opened
    /// again.
    pub fn pack_with(&self, to: Tid, how: Packing, watch: &mut dyn PackWatch) -> Result<Packed> {
        pack::pack_with(&self.writer, to, how, watch)
    }

    /// The objects that a pack to now with collection would keep, even if references dangle: those that can be reached
    /// from the root. Also the references to missing objects. `progress` is told how many objects are done, of how
    /// many.
    ///
    /// # Errors
    ///
    /// The references of a record cannot be read, the file is damaged, or the disk fails.
    pub fn needed(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Survivors> {
        pack::needed(self.database(), progress)
    }

    /// Finds out what a pack would do, and tells the watcher as the pack would, except [`PackWatch::ready`]. Also works
    /// on a storage that is open for reading only.
    ///
    /// # Errors
    ///
    /// As for [`FileStorage::pack_with`].
    pub fn rehearse_pack(&self, to: Tid, how: Packing, watch: &mut dyn PackWatch) -> Result<Packed> {
        pack::rehearse(&self.writer, to, how, watch)
    }
}
