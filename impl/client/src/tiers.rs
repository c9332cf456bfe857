//! A cache in two tiers: a part in memory in front of a file, which several processes of a host share.
//!
//! ```text
//!   a thread that loads ──▶ memory ── not there ──▶ file
//!                             ▲                      │
//!                             └────── copied ────────┘
//! ```
//!
//! Both tiers are `vellum-cache`'s core, if this process owns the file. If another one does, the file is read as its
//! [`Guest`], and taken over when the owner is gone.
//!
//! **The file is told first, and the memory's head is the head.** A reader takes the head from memory, and asks the
//! file about no later moment. Before it looks into the file it takes the moment of its question in memory, as a load
//! does. So a revision that it copies is judged by the changes since then.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vellum_cache::{Asked, CacheFile, Changed, Core, Guest, Options, Shape, Words};
use vellum_disk::Disk;
use vellum_storage::{LoadedAt, Oid, Tid};
use vellum_sync::{Mutex, RwLock};

/// A cache in two tiers. See the module.
pub struct TieredCache {
    memory: Core<Words>,
    back: RwLock<Back>,
    path: PathBuf,
    bytes: u64,
    /// Answers that a guest got from its server.
    answers: AtomicU64,
    has_ended: AtomicBool,
}

enum Back {
    Owner(Box<CacheFile>),
    Guest(Box<Mutex<Guest>>),
    /// The cache has ended.
    None,
}

/// A guest tries to become the owner after so many answers of its server.
const TRY_EVERY: u64 = 64;

impl TieredCache {
    /// Opens the file at `path` as its owner, or as a guest if another process has it. So many bytes of memory are in
    /// front of it.
    ///
    /// # Errors
    ///
    /// Those of the disk.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, options: Options, memory: u64) -> io::Result<TieredCache> {
        let (back, head) = match CacheFile::open(&*disk, path, &options) {
            Ok(file) => {
                let head = file.core().head();
                (Back::Owner(Box::new(file)), head)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (Back::Guest(Box::new(Mutex::new(Guest::new(disk, path.to_owned(), options)))), Tid::ZERO)
            }
            Err(error) => return Err(error),
        };
        let shape = Shape { changes: options.changes, ..Shape::of_bytes(memory) };
        let words = Words::new(shape.segments, shape.segment_bytes);
        Ok(TieredCache {
            memory: Core::new(words, shape, head),
            back: RwLock::new(back),
            path: path.to_owned(),
            bytes: options.bytes,
            answers: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether this process writes the file.
    pub fn is_owner(&self) -> bool {
        matches!(&*self.back.read(), Back::Owner(_))
    }

    /// The last transaction of which the cache was told.
    pub fn head(&self) -> Tid {
        self.memory.head()
    }

    /// The newest current revisions in the file: see [`Core::newest`]. A guest has none.
    pub(crate) fn newest(&self, count: usize) -> Vec<(Oid, LoadedAt)> {
        match &*self.back.read() {
            Back::Owner(file) => file.core().newest(count),
            _ => Vec::new(),
        }
    }

    /// The object as it was just before a tid; none if the cache does not know.
    pub fn get(&self, oid: Oid, before: Tid) -> Option<LoadedAt> {
        self.memory.get_through(oid, before, || match &*self.back.read() {
            Back::Owner(file) => file.core().get(oid, before),
            Back::Guest(guest) => guest.lock().get(oid, before),
            Back::None => None,
        })
    }

    /// Whether a lookup would find something.
    pub(crate) fn has(&self, oid: Oid, before: Tid) -> bool {
        self.memory.has(oid, before)
            || match &*self.back.read() {
                Back::Owner(file) => file.core().has(oid, before),
                Back::Guest(guest) => guest.lock().get(oid, before).is_some(),
                Back::None => false,
            }
    }

    /// The moment of a question that is about to be sent.
    pub fn ask(&self) -> Asked {
        self.memory.ask()
    }

    /// Keeps a revision that was asked for.
    pub fn store(&self, asked: Asked, oid: Oid, found: &LoadedAt) {
        let is_due = match &*self.back.read() {
            Back::Owner(file) => {
                file.core().store(asked, oid, found);
                false
            }
            Back::Guest(guest) => {
                guest.lock().compare(oid, found);
                self.answers.fetch_add(1, Ordering::Relaxed) % TRY_EVERY == TRY_EVERY - 1
            }
            Back::None => false,
        };
        self.memory.store(asked, oid, found);
        if is_due {
            self.take_over();
        }
    }

    /// A transaction changed these objects.
    pub fn invalidate(&self, tid: Tid, oids: &[Oid]) {
        match &*self.back.read() {
            Back::Owner(file) => file.core().invalidate(tid, oids),
            Back::Guest(guest) => guest.lock().invalidate(tid, oids),
            Back::None => {}
        }
        self.memory.invalidate(tid, oids);
    }

    /// After a time without a connection: these objects, or perhaps all, were changed up to `tid`.
    pub fn verify(&self, changed: Changed<'_>, tid: Tid) {
        match &*self.back.read() {
            Back::Owner(file) => file.core().verify(changed, tid),
            Back::Guest(guest) => guest.lock().verify(changed, tid),
            Back::None => {}
        }
        self.memory.verify(changed, tid);
    }

    /// Drops everything. Nothing of the time before is shown by the file any more, to any process.
    pub fn clear(&self, head: Tid) {
        match &*self.back.read() {
            Back::Owner(file) => file.core().clear(head),
            Back::Guest(guest) => guest.lock().clear(head),
            Back::None => {}
        }
        self.memory.clear(head);
    }

    /// Becomes the owner of the file, if there is none, and nobody reads it at this moment.
    fn take_over(&self) {
        let mut back = self.back.write();
        let Back::Guest(guest) = &*back else { return };
        let taken = guest.lock().take_over();
        match taken {
            Ok(Some(file)) => {
                tracing::info!(path = %self.path.display(), "this process writes the cache file now");
                *back = Back::Owner(Box::new(file));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "the cache file cannot be taken over"),
        }
    }

    /// Makes the file survive a power cut.
    ///
    /// # Errors
    ///
    /// Those of the disk.
    pub fn checkpoint(&self) -> io::Result<()> {
        match &*self.back.read() {
            Back::Owner(file) => file.checkpoint(),
            _ => Ok(()),
        }
    }

    /// Ends the cache. Another process can write the file.
    ///
    /// # Errors
    ///
    /// Those of [`TieredCache::checkpoint`].
    pub fn end(&self) -> io::Result<()> {
        self.has_ended.store(true, Ordering::Release);
        self.memory.close();
        match std::mem::replace(&mut *self.back.write(), Back::None) {
            Back::Owner(file) => file.end(),
            _ => Ok(()),
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }
}
