//! Names of files: those that programs see, and those that a crash would leave.
//!
//! Creating, renaming and removing change a directory, and a directory is written whenever the system pleases, unless
//! it is synced. Until then each change is on a list. A crash keeps some of the list, under one rule: changes of the
//! same name stay in order, so a change can survive only if all earlier ones of its names did.
//!
//! ```text
//!     create Data.fs.pack        kept     kept     lost
//!     rename Data.fs to .old     kept     lost     kept
//!     rename .pack to Data.fs    lost     lost     lost (both earlier ones are needed)
//! ```
//!
//! A directory that was made is a name as well, and its entries note which one that is: if a crash leaves another
//! one of that name, or none, then it is gone with its own.
//!
//! A rename is one change of two names, so it is never seen half done: the new name stands for the old file or for the
//! new one, and never for nothing.
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::path::Path;
use std::sync::Arc;

use super::fate::Crash;

/// A file, whatever it is called: what Unix calls an inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(pub(super) u64);

/// The thing that a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) file: FileId,
    pub(super) is_directory: bool,
    /// The directory that has the name in it, if one was made; other directories are always there.
    parent: Option<FileId>,
}

/// A change of names that a crash may undo.
#[derive(Debug)]
pub(super) struct Change {
    what: What,
    /// The number of the operation that made it.
    pub(super) at: u64,
    /// Whether the directory of the first name, and that of the second, were synced since. A rename from one directory
    /// to another is safe when both were.
    synced: [bool; 2],
}

#[derive(Debug)]
enum What {
    Create { path: Arc<Path>, entry: Entry },
    Rename { from: Arc<Path>, to: Arc<Path>, parent: Option<FileId> },
    Remove { path: Arc<Path> },
}

impl Change {
    /// The names that it changes.
    fn names(&self) -> impl Iterator<Item = &Arc<Path>> {
        let (first, second) = match &self.what {
            What::Create { path, .. } | What::Remove { path } => (path, None),
            What::Rename { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }

    /// The directories that it changes, each once.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        let mut directories = self.names().map(|name| directory_of(name));
        let first = directories.next().expect("a change has a name");
        std::iter::once(first).chain(directories.filter(move |second| *second != first))
    }

    fn apply(&self, names: &mut BTreeMap<Arc<Path>, Entry>) {
        match &self.what {
            What::Create { path, entry } => {
                names.insert(path.clone(), *entry);
            }
            What::Rename { from, to, parent } => {
                let entry =
                    names.remove(from).expect("the renamed file was there, or its creation would be lost as well");
                names.insert(to.clone(), Entry { parent: *parent, ..entry });
            }
            What::Remove { path } => {
                names.remove(path);
            }
        }
    }
}

/// All names on a disk.
#[derive(Debug, Default)]
pub(super) struct Names {
    current: BTreeMap<Arc<Path>, Entry>,
    durable: BTreeMap<Arc<Path>, Entry>,
    /// The changes that lead from `durable` to `current`.
    changes: Vec<Change>,
    /// Directories that a test asked for. Others are there as soon as there is a file in them.
    directories: BTreeSet<Arc<Path>>,
}

impl Names {
    /// Names that are all durable.
    pub(super) fn durable(names: BTreeMap<Arc<Path>, Entry>, directories: BTreeSet<Arc<Path>>) -> Self {
        Names { current: names.clone(), durable: names, changes: Vec::new(), directories }
    }

    pub(super) fn get(&self, path: &Path) -> Option<FileId> {
        self.current.get(path).filter(|entry| !entry.is_directory).map(|entry| entry.file)
    }

    /// The directory that was made under this name.
    pub(super) fn made_directory(&self, path: &Path) -> Option<FileId> {
        self.current.get(path).filter(|entry| entry.is_directory).map(|entry| entry.file)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&Arc<Path>, FileId)> {
        self.current.iter().filter(|(_, entry)| !entry.is_directory).map(|(path, entry)| (path, entry.file))
    }

    /// The names in a directory.
    pub(super) fn list(&self, directory: &Path) -> BTreeSet<OsString> {
        let inside = self.current.keys().chain(&self.directories).filter_map(|path| path.strip_prefix(directory).ok());
        inside.filter_map(|path| path.iter().next()).map(OsStr::to_owned).collect()
    }

    pub(super) fn directories(&self) -> &BTreeSet<Arc<Path>> {
        &self.directories
    }

    pub(super) fn add_directory(&mut self, path: &Path) {
        self.directories.insert(path.into());
    }

    /// Fails if no file can be called `path`.
    pub(super) fn check_file_name(&self, path: &Path) -> io::Result<()> {
        if self.is_directory(path) {
            return Err(error(io::ErrorKind::IsADirectory, path, "is a directory"));
        }
        match path.ancestors().skip(1).find(|ancestor| self.get(ancestor).is_some()) {
            Some(file) => Err(error(io::ErrorKind::NotADirectory, file, "is a file, not a directory")),
            None => Ok(()),
        }
    }

    pub(super) fn is_directory(&self, path: &Path) -> bool {
        // Paths are ordered by their parts, so the entries of a directory follow it directly.
        let inside = |name: &Arc<Path>| name.starts_with(path);
        path.file_name().is_none()
            || self.made_directory(path).is_some()
            || self.directories.range::<Path, _>((Included(path), Unbounded)).next().is_some_and(inside)
            || self.current.range::<Path, _>((Excluded(path), Unbounded)).next().is_some_and(|(name, _)| inside(name))
    }

    pub(super) fn create(&mut self, path: Arc<Path>, file: FileId, now: u64) {
        self.create_entry(path, file, false, now);
    }

    pub(super) fn create_directory(&mut self, path: Arc<Path>, file: FileId, now: u64) {
        self.create_entry(path, file, true, now);
    }

    fn create_entry(&mut self, path: Arc<Path>, file: FileId, is_directory: bool, now: u64) {
        assert!(!self.current.contains_key(&path), "{} is there already", path.display());
        let entry = Entry { file, is_directory, parent: self.made_directory(directory_of(&path)) };
        self.change(What::Create { path, entry }, now);
    }

    /// The directory must be there, and empty.
    pub(super) fn remove_directory(&mut self, path: &Path, now: u64) {
        if self.current.contains_key(path) {
            self.remove(path, now);
        } else {
            self.directories.remove(path);
        }
    }

    /// The file must be there.
    pub(super) fn rename(&mut self, from: &Path, to: &Path, now: u64) {
        if self.get(from) != self.get(to) {
            let parent = self.made_directory(directory_of(to));
            self.change(What::Rename { from: from.into(), to: to.into(), parent }, now);
        }
    }

    /// The name must be there.
    pub(super) fn remove(&mut self, path: &Path, now: u64) {
        self.change(What::Remove { path: path.into() }, now);
    }

    fn change(&mut self, what: What, now: u64) {
        let synced = [false, !matches!(what, What::Rename { .. })];
        let change = Change { what, at: now, synced };
        change.apply(&mut self.current);
        self.changes.push(change);
    }

    /// Makes durable the changes in the directory of `path`: the first `at_most` of these changes.
    pub(super) fn sync_directory(&mut self, path: &Path, at_most: usize) {
        let directory = directory_of(path);
        let mut safe = vec![false; self.changes.len()];
        let of_it = |change: &&mut Change| change.directories().any(|other| other == directory);
        for change in self.changes.iter_mut().filter(of_it).take(at_most) {
            let of_names: Vec<bool> = change.names().map(|name| directory_of(name) == directory).collect();
            for (synced, of_name) in change.synced.iter_mut().zip(of_names) {
                *synced |= of_name;
            }
        }
        for (safe, change) in safe.iter_mut().zip(&self.changes) {
            *safe = change.synced == [true, true];
        }
        self.settle(safe);
    }

    /// How many changes a sync of the directory of `path` has to do with.
    pub(super) fn unsynced_changes(&self, path: &Path) -> usize {
        let directory = directory_of(path);
        self.changes.iter().filter(|change| change.directories().any(|other| other == directory)).count()
    }

    /// Makes everything about this one name durable, and the directories that it is in.
    pub(super) fn sync_name(&mut self, path: &Path) {
        let safe = self.changes.iter().map(|change| change.names().any(|name| path.starts_with(name))).collect();
        self.settle(safe);
    }

    /// Makes the changes that are `safe` durable, and those that they build on.
    fn settle(&mut self, mut safe: Vec<bool>) {
        let mut needed: BTreeSet<Arc<Path>> = BTreeSet::new();
        for (safe, change) in safe.iter_mut().zip(&self.changes).rev() {
            *safe |= change.names().any(|name| needed.contains(name));
            if *safe {
                needed.extend(change.names().cloned());
            }
        }
        let mut safe = safe.into_iter();
        let durable = &mut self.durable;
        self.changes.retain(|change| {
            let safe = safe.next().expect("one answer for each change");
            if safe {
                change.apply(durable);
            }
            !safe
        });
    }

    /// Whether a crash now would leave this name as it is.
    pub(super) fn is_durable(&self, path: &Path) -> bool {
        !self.changes.iter().any(|change| change.names().any(|name| path.starts_with(name)))
    }

    /// Whether the file has a name, or could have one after a crash: a file with a name got it in one of these ways.
    pub(super) fn mention(&self, file: FileId) -> bool {
        let created = |change: &Change| matches!(change.what, What::Create { entry, .. } if entry.file == file);
        self.durable.values().any(|entry| entry.file == file) || self.changes.iter().any(created)
    }

    /// Whether the file has a name.
    pub(super) fn has_name(&self, file: FileId) -> bool {
        self.current.values().any(|entry| entry.file == file)
    }

    /// The first operation that a crash now might undo.
    pub(super) fn oldest_unsynced(&self) -> Option<u64> {
        self.changes.first().map(|change| change.at)
    }

    /// The names that are found after a crash.
    pub(super) fn after(&self, crash: &mut Crash) -> BTreeMap<Arc<Path>, Entry> {
        let mut names = self.durable.clone();
        let mut undone: BTreeSet<&Path> = BTreeSet::new();
        for (change, wish) in self.changes.iter().zip(crash.wishes(&self.changes)) {
            if wish && !change.names().any(|name| undone.contains(&**name)) {
                change.apply(&mut names);
            } else {
                undone.extend(change.names().map(|name| &**name));
            }
        }
        reachable(names)
    }
}

/// Those names whose directories are there: the entries of a directory are gone with it.
fn reachable(names: BTreeMap<Arc<Path>, Entry>) -> BTreeMap<Arc<Path>, Entry> {
    let mut reachable: BTreeMap<Arc<Path>, Entry> = BTreeMap::new();
    // A directory comes before its entries.
    for (path, entry) in names {
        let above = reachable.get(directory_of(&path)).filter(|above| above.is_directory).map(|above| above.file);
        if entry.parent.is_none() || entry.parent == above {
            reachable.insert(path, entry);
        }
    }
    reachable
}

/// The directory that has the name `path` in it.
fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// An error that names the file, as one from a simulated disk has no number to look up.
pub(super) fn error(kind: io::ErrorKind, path: &Path, what: &str) -> io::Error {
    io::Error::new(kind, format!("{} {what}", path.display()))
}
