//! A disk in memory that does to a storage what disks do.
//!
//! It promises what [`Disk`] promises and not a bit more: unsynced writes may be lost at the first occasion, and a
//! test is free to provide one, at every single operation. The usual experiment is
//!
//! ```text
//!     play a history, count its operations      operations()
//!     for each n and each tear:
//!         play the same history, and the power goes off in operation n     stop_at(n, tear)
//!         the machine starts again, with whatever the disk still has       crash(seed)
//!         open the database: everything acknowledged must be there
//! ```
//!
//! The rooms: [`image`] is one file with all that could be left of it, [`names`] the same for directories, [`fate`]
//! draws the result of a crash, [`faults`] numbers the operations and spoils some, [`partial`] does them by halves, and
//! [`world`] holds all of it together. Everything is determined by seeds: the same calls give the same bytes.
//!
//! It leaves out time, symbolic links, refusals by permission, and, for the operations of [`Disk`], a difference
//! between a directory that is empty and one that is not there: a directory is there when something is in it, or a test
//! made it. A [`Tree`] makes and loses directories as real disks do: [`tree`].
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Disk, DiskFile, Lock, Open, Tree};

mod fate;
mod faults;
mod image;
mod names;
mod partial;
mod rng;
mod tree;
mod world;

pub use faults::{Tear, is_power_cut};

use fate::Crash;
use names::FileId;
use rng::Rng;
use world::{Habits, World};

/// A simulated disk. A clone is another handle of the same disk; [`SimDisk::crash`] makes a new one.
///
/// ```
/// use std::path::Path;
/// use vellum_disk::{Disk, Open, SimDisk};
///
/// # fn main() -> std::io::Result<()> {
/// let disk = SimDisk::new(1);
/// let path = Path::new("Data.fs");
/// let file = disk.open(path, Open::CreateNew)?;
/// file.write_at(b"synced", 0)?;
/// file.sync()?;
/// disk.sync_directory(path)?;
/// file.write_at(b", not synced", 6)?;
///
/// let found = disk.crash_losing_everything();
/// assert_eq!(found.read_file(path).unwrap(), b"synced");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

impl SimDisk {
    /// An empty disk. `seed` determines what chance does while it runs; see also [`SimDisk::crash`].
    ///
    /// It has room for everything, reads all requested bytes, writes sectors whole, and forgets what it failed to sync.
    pub fn new(seed: u64) -> Self {
        let habits = Habits {
            capacity: None,
            short_reads: false,
            torn_sectors: false,
            failed_sync_forgets: true,
            trace_lines: 0,
        };
        Self::with(World::new(seed, habits))
    }

    fn with(world: World) -> Self {
        SimDisk { world: Arc::new(Mutex::new(world)) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    // Crashes.

    /// The disk as it is found after a power cut at this moment, independent of this one, which continues undisturbed.
    ///
    /// Everything synced is there. Of the rest, `seed` determines what survives: any of the contents that each
    /// sector has had since the last sync, any of the lengths that the file has had or a sector's end in between, and
    /// any of the changes of names, in order for each name. All that is found is durable, and no lock is held.
    ///
    /// Capacity, bad sectors and habits remain; planned faults do not, and operations are counted anew.
    pub fn crash(&self, seed: u64) -> SimDisk {
        let world = self.world();
        Self::with(world.after(world.random_crash(seed), Rng::new(seed).next()))
    }

    /// As [`SimDisk::crash`], but nothing that was not synced survives.
    pub fn crash_losing_everything(&self) -> SimDisk {
        Self::with(self.world().after(Crash::losing_everything(), 0))
    }

    /// As [`SimDisk::crash`], but everything survives: as if only the program had died.
    pub fn crash_keeping_everything(&self) -> SimDisk {
        Self::with(self.world().after(Crash::keeping_everything(), 1))
    }

    // Faults.

    /// How many operations there were, failed ones included: `write_at`, `set_len`, `sync`, `open` with
    /// [`Open::CreateNew`] or [`Open::Truncate`], `rename`, `link`, `remove` and `sync_directory`; of a [`Tree`] also
    /// `create`, `create_directory`, `remove_directory` and `set_mode`. Calls that met a dead disk do not count. The
    /// next operation has this number.
    pub fn operations(&self) -> u64 {
        self.world().faults.operations()
    }

    /// Lets the power go off in this operation, of which as much is done as `tear` says. It fails, and so does every
    /// call after it, reads included, with an error that [`is_power_cut`] recognizes. [`SimDisk::crash`] then gives the
    /// disk with the power on again.
    pub fn stop_at(&self, operation: u64, tear: Tear) {
        self.world().faults.stop_at(operation, tear);
    }

    /// Lets this one operation fail with an error of this kind, and all later ones succeed. It is not done at all, or
    /// with `partial` in part: a beginning or some sectors of a write, a length on the way for `set_len`, some of the
    /// writes that a sync should have made durable. An operation that cannot be done in part is done, in spite of the
    /// error.
    ///
    /// A sync that fails takes with it what it did not sync; see [`SimDisk::failed_sync_forgets`].
    pub fn fail_at(&self, operation: u64, kind: io::ErrorKind, partial: bool) {
        self.world().faults.fail_at(operation, kind, partial);
    }

    /// Whether what a failed sync could not write counts as written from then on, as it does on Linux: it is still
    /// read, but later syncs, which succeed, do not make it durable, until it is written again. On unless turned off.
    ///
    /// The length of the file is not forgotten: it is in the filesystem's journal, not in a page.
    pub fn failed_sync_forgets(&self, yes: bool) {
        self.world().habits.failed_sync_forgets = yes;
    }

    /// Whether a crash can leave a sector with the beginning of one write and the end of an older one. Off unless
    /// turned on: drives write 512 bytes at once or not at all.
    pub fn tear_sectors(&self, yes: bool) {
        self.world().habits.torn_sectors = yes;
    }

    /// How many bytes all files may have together, those without a name included. A write for which there is not enough
    /// room writes what fits and fails with [`io::ErrorKind::StorageFull`]; a `set_len` just fails.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world().habits.capacity = bytes;
    }

    /// Lets one read fail after so many others, and all later ones succeed.
    pub fn fail_read(&self, after: u64) {
        self.world().faults.fail_read(after);
    }

    /// Whether reads return fewer bytes than asked for, by chance, though always one if there is one.
    pub fn short_reads(&self, yes: bool) {
        self.world().habits.short_reads = yes;
    }

    /// Makes these bytes of the file at `path` unreadable for good, under whatever name. Panics if there is no such
    /// file.
    pub fn read_fail(&self, path: impl AsRef<Path>, range: Range<u64>) {
        self.world().add_bad_range(plain(path.as_ref()), range);
    }

    // Access for tests, whether or not the power is on.

    /// Gives the file at `path` this content, durably, as if it had always been there. Not an operation.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        self.world().write_file(plain(path.as_ref()), bytes);
    }

    /// The permissions of the file at `path`; none if there is no file.
    pub fn access(&self, path: impl AsRef<Path>) -> Option<Access> {
        self.world().access(plain(path.as_ref()))
    }

    /// Sets the permissions of the file at `path`. Not an operation. Panics if there is no such file.
    ///
    /// This keeps no caller from a file, and no crash changes it: only tests read it.
    pub fn set_access(&self, path: impl AsRef<Path>, access: Access) {
        self.world().set_access(plain(path.as_ref()), access);
    }

    /// The contents of the file at `path` as programs see them; none if there is no file.
    pub fn read_file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        self.world().read_file(plain(path.as_ref())).map(<[u8]>::to_vec)
    }

    /// The names of all files, in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.world().names().files().map(|(path, _)| path.to_path_buf()).collect()
    }

    /// Whether no crash can change the file at `path`, or its absence.
    pub fn is_durable(&self, path: impl AsRef<Path>) -> bool {
        self.world().is_durable(plain(path.as_ref()))
    }

    /// Makes a directory, durably. Only needed where a test wants one in the way of a file.
    pub fn make_directory(&self, path: impl AsRef<Path>) {
        self.world().names_mut().add_directory(plain(path.as_ref()));
    }

    /// Keeps a record of the last so many operations; none, as in the beginning, with zero.
    pub fn keep_trace(&self, lines: usize) {
        self.world().habits.trace_lines = lines;
    }

    /// The record, a line for each operation, to be printed when a test fails.
    pub fn trace(&self) -> Vec<String> {
        self.world().trace().cloned().collect()
    }

    fn handle(&self, file: FileId, path: &Path, writable: bool) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), file, path: path.into(), writable })
    }
}

/// The permissions of a file of a simulated disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Its permissions, as in `0o640`. No crash changes them.
    pub mode: u32,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
}

impl Access {
    /// That of a file for which nothing else was said.
    pub const USUAL: Access = Access { mode: 0o644, user: 0, group: 0 };
}

/// A disk with seed 0.
impl Default for SimDisk {
    fn default() -> Self {
        Self::new(0)
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Someone may be printing this out of a panic, with the disk locked.
        let mut disk = f.debug_struct("SimDisk");
        if let Ok(world) = self.world.try_lock() {
            let files: Vec<_> = world.names().files().map(|(path, _)| path).collect();
            disk.field("operations", &world.faults.operations()).field("files", &files);
        }
        disk.finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.world().open(plain(path), how)?;
        Ok(self.handle(file, plain(path), how != Open::Read))
    }

    fn open_like(&self, path: &Path, how: Open, of: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.world().open_like(plain(path), how, plain(of))?;
        Ok(self.handle(file, plain(path), how != Open::Read))
    }

    fn scratch(&self, near: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.world().scratch()?;
        let name = PathBuf::from(format!("(a scratch file near {})", near.display()));
        Ok(self.handle(file, &name, true))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.world().rename(plain(from), plain(to))
    }

    fn link(&self, path: &Path, name: &Path) -> io::Result<()> {
        self.world().link(plain(path), plain(name))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.world().remove(plain(path))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.world().exists(plain(path))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.world().sync_directory(plain(path))
    }

    fn tree(&self, path: &Path) -> io::Result<Arc<dyn Tree>> {
        Ok(Arc::new(tree::SimTree::open(self, path)?))
    }

    /// Not an operation. The seed determines it.
    fn secret(&self) -> io::Result<[u8; 32]> {
        Ok(self.world().secret())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = self.world().lock(plain(path))?;
        Ok(Box::new(SimLock { disk: self.clone(), file }))
    }

    fn lock_like(&self, path: &Path, of: &Path) -> io::Result<Box<dyn Lock>> {
        let file = self.world().lock_like(plain(path), plain(of))?;
        Ok(Box::new(SimLock { disk: self.clone(), file }))
    }
}

/// An open file of a simulated disk.
struct SimFile {
    disk: SimDisk,
    file: FileId,
    /// Its name when it was opened, for messages.
    path: Arc<Path>,
    writable: bool,
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(names::error(io::ErrorKind::PermissionDenied, &self.path, "was opened for reading only"))
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.world().read_at(self.file, &self.path, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        self.disk.world().write_at(self.file, &self.path, buf, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.check_writable()?;
        self.disk.world().set_len(self.file, &self.path, length)
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.world().len(self.file)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.world().sync(self.file, &self.path)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(self.disk.world().find(plain(path))? == Some(self.file))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.world().close(self.file);
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("path", &self.path).field("writable", &self.writable).finish_non_exhaustive()
    }
}

/// A lock file of a simulated disk that is ours.
#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    file: FileId,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.world().unlock(self.file);
    }
}

/// The lock of the world, also after a thread panicked with it. The panic is a failed test already, and handles that
/// panic as they are dropped would hide why.
fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `./Data.fs` and `Data.fs` are one name. Nothing else is done about paths: there are no links to follow.
fn plain(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}
