//! The folder: opening it, and the operations on one blob.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vellum_disk::{About, Disk, DiskFile, Kind, Tree};
use vellum_storage::{Oid, Tid};
use vellum_sync::Mutex;

use crate::directories::{self, Directories, Touched};
use crate::error::{Error, Result};
use crate::layout;
use crate::names::{Layout, parse_file_name};
use crate::temporary::{Name, Ready, Temporary, is_ours};
use crate::walk::{Found, Walk};

/// The file that names the layout.
pub(crate) const MARKER: &str = ".layout";
/// The folder of files on their way.
const TEMPORARIES: &str = "tmp";
/// The list of files that a pack is going to remove.
pub(crate) const LIST: &str = ".removed";
/// The same, when it has begun to.
pub(crate) const LIST_AT_WORK: &str = ".removing";
/// The names in a blob folder that belong to no object.
pub(crate) const OWN: [&str; 4] = [MARKER, TEMPORARIES, LIST, LIST_AT_WORK];

/// A blob is copied in pieces of this size.
pub(crate) const CHUNK: usize = 1 << 20;

/// How to open a blob folder.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening {
    /// The layout that it must have, or gets if it is new; none takes the existing one, and bushy for a new folder.
    pub layout: Option<Layout>,
    /// Nothing is written, neither folder nor marker, and the folder must be there.
    pub read_only: bool,
    /// The data file was just made: there must be no blobs, since it cannot know them.
    pub data_is_new: bool,
}

/// Why a file did not get its name.
#[derive(Debug)]
pub(crate) struct NoName {
    pub error: Error,
    /// Whether it was tried: then the file may have it all the same.
    pub is_tried: bool,
}

/// The blob folder of a database. A clone is another handle of the same.
#[derive(Clone, Debug)]
pub struct BlobFolder {
    inner: Arc<Inner>,
    layout: Layout,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// The folder that this one is in, since the one with `.old` in its name is there, too.
    pub(crate) tree: Arc<dyn Tree>,
    root: PathBuf,
    /// This folder, as seen from there.
    pub(crate) top: PathBuf,
    read_only: bool,
    temporaries: AtomicU64,
    pub(crate) directories: Mutex<Directories>,
}

impl Inner {
    pub(crate) fn next_temporary(&self) -> u64 {
        self.temporaries.fetch_add(1, Ordering::Relaxed)
    }

    /// A path as people name it.
    pub(crate) fn shown(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn writable(&self) -> Result<()> {
        if self.read_only { Err(Error::ReadOnly { path: self.shown(&self.top) }) } else { Ok(()) }
    }

    /// The error that best explains the fault of this path.
    pub(crate) fn failed(&self, path: &Path, doing: &'static str, source: io::Error) -> Error {
        let parts: Vec<&Path> = path.ancestors().filter(|part| part.starts_with(&self.top)).collect();
        for (number, part) in parts.iter().enumerate().rev() {
            let (Ok(About { kind, .. }), shown) = (self.tree.about(part), self.shown(part)) else {
                break;
            };
            let should = match (kind, source.kind()) {
                (Kind::Link, _) => return Error::Link { path: shown },
                (Kind::File | Kind::Other, _) if number > 0 => Kind::Directory,
                (Kind::File, io::ErrorKind::NotADirectory) => Kind::Directory,
                (Kind::Other, _) => Kind::File,
                (Kind::Directory, io::ErrorKind::IsADirectory) if number == 0 => Kind::File,
                _ => continue,
            };
            return Error::WrongKind { path: shown, is: kind, should };
        }
        Error::Io { path: self.shown(path), doing, source }
    }
}

impl BlobFolder {
    /// Opens the folder at `path`, making it, those above it, and its marker if need be.
    ///
    /// # Errors
    ///
    /// If it has another layout than the one asked for, or one that we do not know; if it holds something else, or
    /// holds blobs although the data file is new. Nothing was changed then.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, opening: Opening) -> Result<BlobFolder> {
        let (tree, root, top) = locate(&*disk, path, opening.read_only)?;
        let inner = Arc::new(Inner {
            tree,
            root,
            top,
            read_only: opening.read_only,
            temporaries: AtomicU64::new(0),
            directories: Mutex::default(),
        });
        let shown = inner.shown(&inner.top);
        match inner.tree.about(&inner.top) {
            Ok(About { kind: Kind::Directory, .. }) => {}
            Ok(About { kind: Kind::Link, .. }) => return Err(Error::Link { path: shown }),
            Ok(about) => return Err(Error::WrongKind { path: shown, is: about.kind, should: Kind::Directory }),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !opening.read_only => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NoFolder { path: shown }),
            Err(error) => return Err(inner.failed(&inner.top, "looking at the blob folder", error)),
        }
        let (layout, is_marked) = layout::choose(&inner, opening.layout)?;
        if opening.data_is_new
            && let Some(Found::Blob { oid, tid, .. }) = layout::first_blob(&inner, layout)?
        {
            return Err(Error::BlobsWithoutData { path: shown, oid, tid });
        }
        let folder = BlobFolder { inner, layout };
        if !opening.read_only {
            folder.furnish(is_marked)?;
        }
        Ok(folder)
    }

    /// Makes what a blob folder has before the first blob, durably.
    fn furnish(&self, is_marked: bool) -> Result<()> {
        let (inner, temporaries) = (&self.inner, self.temporaries());
        inner.directories.lock().make(inner, &temporaries)?;
        if !is_marked {
            layout::mark(inner, self.layout, &temporaries)?;
        }
        directories::sync(inner, &BTreeSet::from([inner.top.clone(), temporaries]))
    }

    /// How its folders are arranged.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Where it is, links that led there followed.
    pub fn path(&self) -> PathBuf {
        self.inner.shown(&self.inner.top)
    }

    /// Where a blob's file is, or would be.
    pub fn path_of(&self, oid: Oid, tid: Tid) -> PathBuf {
        self.inner.shown(&self.file(oid, tid))
    }

    /// Whether the two are handles of the same folder, opened once.
    pub fn is_same(&self, other: &BlobFolder) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn temporaries(&self) -> PathBuf {
        self.inner.top.join(TEMPORARIES)
    }

    pub(crate) fn folder(&self, oid: Oid) -> PathBuf {
        self.inner.top.join(self.layout.folder(oid))
    }

    pub(crate) fn file(&self, oid: Oid, tid: Tid) -> PathBuf {
        self.inner.top.join(self.layout.file(oid, tid))
    }

    // Reading.

    /// Opens a blob's file for reading.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if there is none; if something else is in its place, or a link on the way.
    pub fn read(&self, oid: Oid, tid: Tid) -> Result<Arc<dyn DiskFile>> {
        let path = self.file(oid, tid);
        self.inner.tree.read(&path).map_err(|error| self.missing(oid, tid, "opening a blob", error))
    }

    /// A blob's length in bytes.
    ///
    /// # Errors
    ///
    /// As [`BlobFolder::read`].
    pub fn length(&self, oid: Oid, tid: Tid) -> Result<u64> {
        self.about(oid, tid).map(|about| about.length)
    }

    /// Whether anything has the name of a blob's file.
    pub(crate) fn is_there(&self, oid: Oid, tid: Tid) -> Result<bool> {
        match self.about(oid, tid) {
            Ok(_) => Ok(true),
            Err(Error::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn about(&self, oid: Oid, tid: Tid) -> Result<About> {
        let path = self.file(oid, tid);
        let about = self.inner.tree.about(&path).map_err(|e| self.missing(oid, tid, "looking at a blob", e))?;
        self.inner.file(&path, about)
    }

    fn missing(&self, oid: Oid, tid: Tid, doing: &'static str, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::NotFound => Error::Missing { path: self.path_of(oid, tid), oid, tid },
            _ => self.inner.failed(&self.file(oid, tid), doing, error),
        }
    }

    /// Everything that is there.
    pub fn walk(&self) -> Walk {
        Walk::new(&self.inner, self.layout, self.inner.top.clone())
    }

    // Writing.

    /// An empty file on its way.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn temporary(&self) -> Result<Temporary> {
        self.inner.writable()?;
        Temporary::new(&self.inner, &self.temporaries(), 0o600)
    }

    /// Takes over a file that another program put into the object's folder under a name of its own, as a client does
    /// that shares this folder, and syncs it. From here on it is removed if it is not [placed](BlobFolder::place).
    ///
    /// # Errors
    ///
    /// [`Error::NotTemporary`] if that is a path, or the name of a committed blob; if there is no such file. A file of
    /// that name is not changed.
    pub fn adopt(&self, oid: Oid, name: &str) -> Result<Ready> {
        self.inner.writable()?;
        let mut parts = Path::new(name).components();
        let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == name);
        if !is_name || parse_file_name(name).is_some() {
            return Err(Error::NotTemporary { oid, name: name.to_owned() });
        }
        let path = self.folder(oid).join(name);
        let open = || {
            let file = self.inner.tree.read(&path)?;
            file.sync()?;
            file.len()
        };
        let length = open().map_err(|e| self.inner.failed(&path, "taking over a client's file", e))?;
        Ok(Ready { name: Name { inner: Arc::clone(&self.inner), path }, length })
    }

    /// The same bytes as those of an object at `from`, on their way to another revision of it, as an undo needs them.
    ///
    /// It is a second name of the same file, where the file system has hard links and no user may write to the file.
    /// Otherwise it is a copy, made in constant memory.
    ///
    /// # Errors
    ///
    /// As [`BlobFolder::read`], and the disk's.
    pub fn duplicate(&self, oid: Oid, from: Tid) -> Result<Ready> {
        self.inner.writable()?;
        let (about, file, path) = (self.about(oid, from)?, self.read(oid, from)?, self.file(oid, from));
        if about.mode == self.final_mode(oid, about.mode)? {
            // Another program need not have synced it.
            file.sync().map_err(|error| self.inner.failed(&path, "syncing a blob", error))?;
            match Name::new(&self.inner, &self.temporaries(), |name| self.inner.tree.link(&path, name)) {
                Ok((name, ())) => return Ok(Ready { name, length: about.length }),
                Err(error) if has_one_name(&error) => {}
                Err(error) => return Err(self.inner.failed(&path, "giving a blob a second name", error)),
            }
        }
        copy(&self.inner, &path, &*file, self.temporary()?)
    }

    /// Takes a blob of another folder for a revision in this one: as a second name of its file where that is possible,
    /// so that nothing is copied; otherwise as a copy, made in constant memory. `disk` is the disk of both folders.
    ///
    /// The file gets a second name only if it cannot be written to, and all users who may read this folder may read it.
    /// Its permissions stay unchanged then.
    ///
    /// # Errors
    ///
    /// As [`BlobFolder::read`], and the disk's.
    pub fn take_from(&self, disk: &dyn Disk, other: &BlobFolder, oid: Oid, tid: Tid) -> Result<Ready> {
        self.inner.writable()?;
        let (about, file, path) = (other.about(oid, tid)?, other.read(oid, tid)?, other.file(oid, tid));
        let top = self.inner.tree.about(&self.inner.top);
        let top = top.map_err(|error| self.inner.failed(&self.inner.top, "looking at the blob folder", error))?;
        if about.mode & 0o222 == 0 && top.mode & 0o444 & !about.mode == 0 {
            // Another program need not have synced it.
            file.sync().map_err(|error| other.inner.failed(&path, "syncing a blob", error))?;
            if let Some(name) = self.link_from(disk, &other.inner, &path) {
                return Ok(Ready { name, length: about.length });
            }
        }
        copy(&other.inner, &path, &*file, self.temporary()?)
    }

    /// A second name, in `tmp/`, of another folder's file; none if the file can have none there. No link is followed in
    /// either folder.
    fn link_from(&self, disk: &dyn Disk, other: &Inner, file: &Path) -> Option<Name> {
        let all = disk.tree(Path::new("/")).ok()?;
        // The path to a folder is the operator's, and may have links.
        let below = |inner: &Inner, path: &Path| {
            let root = if inner.root.as_os_str().is_empty() { Path::new(".") } else { &inner.root };
            Some(root.canonicalize().ok()?.join(path).strip_prefix("/").ok()?.to_owned())
        };
        let (from, temporaries) = (below(other, file)?, below(&self.inner, &self.temporaries())?);
        let link = |name: &Path| all.link(&from, &temporaries.join(name.file_name().unwrap_or_default()));
        Name::new(&self.inner, &self.temporaries(), link).ok().map(|(name, ())| name)
    }

    /// The permissions that a blob's file gets: those that it has, without those to write, and with those to read that
    /// the object's folder has.
    fn final_mode(&self, oid: Oid, mode: u32) -> Result<u32> {
        let folder = self.folder(oid);
        let about = self.inner.tree.about(&folder).map_err(|e| self.inner.failed(&folder, "looking at a folder", e))?;
        Ok(mode & !0o222 | about.mode & 0o444)
    }

    /// Gives a file its final name and permissions. Durable is that only after [`BlobFolder::sync`].
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if something has that name, and the disk's. The file on its way is gone then.
    pub fn place(&self, ready: Ready, oid: Oid, tid: Tid) -> Result<()> {
        self.place_or_not(ready, oid, tid).map_err(|NoName { error, .. }| error)
    }

    /// The same, with an error that says whether the file may have its name all the same.
    pub(crate) fn place_or_not(&self, ready: Ready, oid: Oid, tid: Tid) -> Result<(), NoName> {
        let inner = &self.inner;
        let not_tried = |error| NoName { error, is_tried: false };
        inner.writable().map_err(not_tried)?;
        let (path, folder) = (self.file(oid, tid), self.folder(oid));
        let mut directories = inner.directories.lock();
        directories.make(inner, &folder).map_err(not_tried)?;
        let prepare = |ready: &Ready| {
            match inner.tree.about(&path) {
                Ok(_) => return Err(Error::Exists { path: self.path_of(oid, tid), oid, tid }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(inner.failed(&path, "looking for a blob's file", error)),
            }
            let from = &ready.name.path;
            let about = inner.tree.about(from).map_err(|e| inner.failed(from, "looking at a file on its way", e))?;
            let mode = self.final_mode(oid, inner.file(from, about)?.mode)?;
            if mode != about.mode {
                match inner.tree.set_mode(from, mode) {
                    // A client's file, which only the client may change. It can be read, or it would not be here.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                    result => result.map_err(|e| inner.failed(from, "setting a blob's permissions", e))?,
                }
            }
            Ok(())
        };
        let rename = |ready: Ready| {
            let error = ready.name.rename(&path).err()?;
            Some(NoName { error: inner.failed(&path, "giving a blob its name", error), is_tried: true })
        };
        let done = prepare(&ready).map_err(not_tried).and_then(|()| rename(ready).map_or(Ok(()), Err));
        done.inspect_err(|_| directories.prune(inner, &folder, &inner.top, &mut Touched::default()))
    }

    /// Gives a placed file a second name on its way, as it had before it was placed, without a sync. The mode stays.
    ///
    /// # Errors
    ///
    /// The disk's; the file can have one name only.
    pub(crate) fn take_back(&self, oid: Oid, tid: Tid, length: u64) -> Result<Ready> {
        let (inner, path) = (&self.inner, self.file(oid, tid));
        match Name::new(inner, &self.temporaries(), |name| inner.tree.link(&path, name)) {
            Ok((name, ())) => Ok(Ready { name, length }),
            Err(error) => Err(inner.failed(&path, "taking a blob back", error)),
        }
    }

    /// Makes the names of placed files durable. Each folder is synced once.
    ///
    /// # Errors
    ///
    /// The disk's. Which of the names are durable is not known then.
    pub fn sync(&self, places: &[(Oid, Tid)]) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        let mut folders: BTreeSet<PathBuf> = places.iter().map(|&(oid, _)| self.folder(oid)).collect();
        // A rename is durable when the folder that the file left is synced as well.
        folders.insert(self.temporaries());
        directories::sync(&self.inner, &folders)
    }

    /// Removes blobs' files, durably, with the folders that this empties: those of a transaction that failed, or that
    /// was cut off after a crash. Returns how many there were; one that is not there is no error.
    ///
    /// # Errors
    ///
    /// The disk's; if something that is no file has such a name.
    pub fn remove(&self, places: &[(Oid, Tid)]) -> Result<u64> {
        self.inner.writable()?;
        let (mut touched, mut count) = (Touched::default(), 0);
        for &(oid, tid) in places {
            count += u64::from(self.remove_file(oid, tid, &mut touched)?);
        }
        touched.sync(&self.inner)?;
        Ok(count)
    }

    /// The same for one file, without a sync.
    pub(crate) fn remove_file(&self, oid: Oid, tid: Tid, touched: &mut Touched) -> Result<bool> {
        let (inner, path, folder) = (&self.inner, self.file(oid, tid), self.folder(oid));
        let mut directories = inner.directories.lock();
        let was_there = match inner.tree.remove(&path) {
            Ok(()) => true,
            // It may have gone a moment ago, by a removal that was interrupted before its syncs.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(inner.failed(&path, "removing a blob", error)),
        };
        touched.folders.insert(folder.clone());
        directories.prune(inner, &folder, &inner.top, touched);
        Ok(was_there)
    }

    /// Removes all files of an object, durably, with the folders that this empties. Other names in its folder stay.
    /// Returns how many files there were.
    ///
    /// # Errors
    ///
    /// As [`BlobFolder::remove`].
    pub fn remove_object(&self, oid: Oid) -> Result<u64> {
        let tids = self.revisions(oid)?;
        self.remove(&tids.into_iter().map(|tid| (oid, tid)).collect::<Vec<_>>())
    }

    /// The revisions of an object that have a file.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn revisions(&self, oid: Oid) -> Result<BTreeSet<Tid>> {
        let folder = self.folder(oid);
        let listing = match self.inner.tree.list(&folder) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(self.inner.failed(&folder, "reading a folder", error)),
        };
        let tid = |name: io::Result<std::ffi::OsString>| match name {
            Ok(name) => name.to_str().and_then(parse_file_name).map(Ok),
            Err(error) => Some(Err(self.inner.failed(&folder, "reading a folder", error))),
        };
        listing.filter_map(tid).collect()
    }

    /// Removes what earlier processes left in `tmp/`: files that were made by [`BlobFolder::temporary`] or
    /// [`BlobFolder::duplicate`] and neither placed nor dropped. Other programs' files stay. Returns how many there
    /// were.
    ///
    /// To be called only by the process that has the data file's lock, before it has files on their way.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn sweep(&self) -> Result<u64> {
        self.inner.writable()?;
        let (inner, folder) = (&self.inner, self.temporaries());
        let failed = |error| inner.failed(&folder, "removing what was left in it", error);
        let mut count = 0;
        for name in inner.tree.list(&folder).map_err(failed)? {
            let name = name.map_err(failed)?;
            if name.to_str().is_some_and(is_ours) {
                inner.tree.remove(&folder.join(name)).map_err(failed)?;
                count += 1;
            }
        }
        Ok(count)
    }
}

impl Inner {
    /// Fails unless it is a file.
    fn file(&self, path: &Path, about: About) -> Result<About> {
        match about.kind {
            Kind::File => Ok(about),
            Kind::Link => Err(Error::Link { path: self.shown(path) }),
            is => Err(Error::WrongKind { path: self.shown(path), is, should: Kind::File }),
        }
    }
}

/// Copies a file to one on its way, and syncs that.
pub(crate) fn copy(inner: &Inner, path: &Path, file: &dyn DiskFile, mut to: Temporary) -> Result<Ready> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = file.read_full_at(&mut buffer, to.length()).map_err(|e| inner.failed(path, "copying a blob", e))?;
        if read == 0 {
            return to.sync();
        }
        to.append(&buffer[..read])?;
    }
}

/// Whether a link failed because this file cannot have a second name there.
pub(crate) fn has_one_name(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported)
}

/// The tree that the folder is in, where that is, and where the folder is in it.
fn locate(disk: &dyn Disk, path: &Path, read_only: bool) -> Result<(Arc<dyn Tree>, PathBuf, PathBuf)> {
    let failed =
        |path: &Path, source| Error::Io { path: path.to_owned(), doing: "looking for the blob folder", source };
    // Without a slash at the end, which would hide that it is a link.
    let path: PathBuf = path.components().collect();
    let path = match disk.resolve(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path,
        result => result.map_err(|error| failed(&path, error))?,
    };
    if path.file_name().is_none() {
        return Err(Error::NoName { path });
    }
    let mut root = path.parent().unwrap_or(Path::new(""));
    let tree = loop {
        match (disk.tree(root), root.parent()) {
            (Ok(tree), _) => break tree,
            (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound && !read_only => root = above,
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NoFolder { path }),
            (Err(error), _) => return Err(failed(root, error)),
        }
    };
    let top = path.strip_prefix(root).expect("a path begins with what it is below").to_owned();
    Ok((tree, root.to_owned(), top))
}
