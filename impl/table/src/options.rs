//! How to open a database: the options, and the reasons for a refusal.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vellum_blob::Layout;
use vellum_disk::{Disk, RealDisk};
use vellum_storage::{Clock, Error, Resolver, Resolvers, SystemClock};

/// The usual time for which a history-free database keeps what is old.
const GRACE: Duration = Duration::from_secs(60);

/// How to open a database.
///
/// ```no_run
/// # use vellum_table::Options;
/// let storage = Options::new().quota(10 << 30).cache_bytes(64 << 20).open("site.vellum")?;
/// # Ok::<(), vellum_table::OpenError>(())
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) read_only: bool,
    pub(crate) quota: Option<u64>,
    pub(crate) spill_after: u64,
    pub(crate) cache_bytes: usize,
    pub(crate) step_rows: usize,
    pub(crate) threads: usize,
    pub(crate) history_free: bool,
    pub(crate) grace: Duration,
    pub(crate) blobs: Option<PathBuf>,
    pub(crate) blob_layout: Option<Layout>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) resolver: Arc<dyn Resolver>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("read_only", &self.read_only)
            .field("quota", &self.quota)
            .field("cache_bytes", &self.cache_bytes)
            .field("blobs", &self.blobs)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            read_only: false,
            quota: None,
            spill_after: 32 << 20,
            cache_bytes: 32 << 20,
            step_rows: 256,
            threads: std::thread::available_parallelism().map_or(1, |threads| threads.get()),
            history_free: false,
            grace: GRACE,
            blobs: None,
            blob_layout: None,
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            resolver: Arc::new(Resolvers::built_in()),
        }
    }
}

impl Options {
    /// For reading and writing, without a quota, with a cache of 32 MiB.
    pub fn new() -> Options {
        Options::default()
    }

    /// For reading only. The file is locked all the same: the store lets no other process read beside a writer.
    pub fn read_only(mut self) -> Options {
        self.read_only = true;
        self
    }

    /// Sets the number of bytes that the file may have. A transaction that would exceed it is refused.
    pub fn quota(mut self, bytes: u64) -> Options {
        self.quota = Some(bytes);
        self
    }

    /// Sets the number of bytes from which on a transaction's records wait for their commit on disk, not in memory. The
    /// default is 32 MiB.
    pub fn spill_after(mut self, bytes: u64) -> Options {
        self.spill_after = bytes;
        self
    }

    /// Sets the number of bytes of the file that are kept in memory. The default is 32 MiB.
    pub fn cache_bytes(mut self, bytes: usize) -> Options {
        self.cache_bytes = bytes;
        self
    }

    /// Sets how many rows a pack changes in one step. Commits wait for a step, and not for the pack. The default is
    /// 256.
    pub fn step_rows(mut self, rows: usize) -> Options {
        self.step_rows = rows.max(1);
        self
    }

    /// Sets how many threads a pack uses. The default is one for each processor.
    pub fn threads(mut self, threads: usize) -> Options {
        self.threads = threads.max(1);
        self
    }

    /// Makes a new database history-free (rule 4.12): it forgets older revisions, and has no undo. A database that is
    /// there must be history-free then. Without this, a new database keeps its history, and one that is there may be
    /// of either kind.
    pub fn history_free(mut self, history_free: bool) -> Options {
        self.history_free = history_free;
        self
    }

    /// Sets for how long a history-free database keeps a revision after a newer one was committed: for readers that are
    /// open, and to merge changes. Each commit forgets what is older. The default is a minute. A database that keeps
    /// its history ignores this.
    pub fn grace(mut self, grace: Duration) -> Options {
        self.grace = grace;
        self
    }

    /// Keeps blobs in the folder at `path`, which is laid out as ZODB's. If the database is opened for writing, a
    /// missing folder is made. Without this, the storage has no blobs.
    pub fn blobs(mut self, path: impl Into<PathBuf>) -> Options {
        self.blobs = Some(path.into());
        self
    }

    /// Sets the layout that the blob folder must have, or gets if it is new. Without this it keeps its layout, and a
    /// new one is bushy.
    pub fn blob_layout(mut self, layout: Layout) -> Options {
        self.blob_layout = Some(layout);
        self
    }

    /// Sets the disk.
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Options {
        self.disk = disk;
        self
    }

    /// Sets the clock that tids are made of.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Options {
        self.clock = clock;
        self
    }

    /// Sets the code that merges changes. The default knows ZODB's own classes.
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Options {
        self.resolver = resolver;
        self
    }
}

/// Why a database was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no file.
    #[error("{}: there is no such file", .path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },

    /// There is a file already.
    #[error("{}: there is a file of this name already", .path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },

    /// Another process has it open.
    #[error("{}: another process has it open. The store lets one process use a file at a time", .path.display())]
    Locked {
        /// The path.
        path: PathBuf,
    },

    /// The file is something else.
    #[error("{}: this is no database of tables: {why}", .path.display())]
    NotATable {
        /// The path.
        path: PathBuf,
        /// The difference.
        why: String,
    },

    /// It keeps its history, and a history-free database was asked for.
    #[error(
        "{}: this database keeps its history, and a history-free one was asked for. Open it as it is, or copy it into a \
         new history-free one",
        .path.display()
    )]
    KeepsHistory {
        /// The path.
        path: PathBuf,
    },

    /// The store cannot be opened.
    #[error("{}: the store cannot be opened: {why}. `vellum recover` saves what can be read, if there is no backup", .path.display())]
    Damaged {
        /// The path.
        path: PathBuf,
        /// The fault.
        why: String,
    },

    /// The storage's own errors.
    #[error(transparent)]
    Storage(#[from] Error),
}
