//! How to open a database: the options, and the reasons for a refusal.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vellum_blob::Layout;
use vellum_disk::{Disk, RealDisk};
use vellum_storage::{Clock, Error, Resolver, Resolvers, SystemClock, Tid};

use crate::journal::{JournalState, LeftJournal};

/// In which order a commit is written and synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Write the transaction as unfinished, sync, mark it finished, sync. A crash can never leave a transaction that is
    /// half there but looks whole. Commits that arrive together share both syncs.
    #[default]
    Full,
    /// ZODB's order: write, mark, sync once. A crash may leave the last transaction with holes in it that no check can
    /// find. It halves the time of a commit that comes alone; commits that come together each sync for themselves,
    /// because a crash among several at once could not be told from damage.
    Relaxed,
    /// As exact as `Full`, at the price of one sync: each batch is synced in a journal of fixed length beside the file,
    /// `Data.fs.journal`. The file gets it at once, and is synced later. After a power cut the file may lack the last
    /// transactions until Vellum has opened it for writing.
    Journal,
}

/// A function that is called now and then during a walk over a file: bytes done, bytes in all.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// How to open a database.
///
/// ```no_run
/// # use vellum_file::{Durability, Options};
/// let storage = Options::new().quota(10 << 30).durability(Durability::Relaxed).open("Data.fs")?;
/// # Ok::<(), vellum_file::OpenError>(())
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) read_only: bool,
    pub(crate) as_of: Option<Tid>,
    pub(crate) durability: Durability,
    pub(crate) quota: Option<u64>,
    pub(crate) spill_after: u64,
    pub(crate) copy_part: u64,
    pub(crate) journal_bytes: u64,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) progress: Option<Progress>,
    pub(crate) threads: u64,
    pub(crate) like: Option<PathBuf>,
    pub(crate) blobs: Option<PathBuf>,
    pub(crate) blob_layout: Option<Layout>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("read_only", &self.read_only)
            .field("as_of", &self.as_of)
            .field("durability", &self.durability)
            .field("quota", &self.quota)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            read_only: false,
            as_of: None,
            durability: Durability::Full,
            quota: None,
            spill_after: 32 << 20,
            copy_part: 8 << 20,
            journal_bytes: 8 << 20,
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            resolver: Arc::new(Resolvers::built_in()),
            progress: None,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            like: None,
            blobs: None,
            blob_layout: None,
        }
    }
}

impl Options {
    /// For reading and writing, with full durability and no quota.
    pub fn new() -> Options {
        Options::default()
    }

    /// For reading only: takes no lock, writes nothing, and works while another process has the file open. The storage
    /// shows the transactions that were finished when it was opened.
    pub fn read_only(mut self) -> Options {
        self.read_only = true;
        self
    }

    /// For reading only, as the database was right after this transaction or moment.
    pub fn as_of(mut self, tid: Tid) -> Options {
        self.as_of = Some(tid);
        self.read_only()
    }

    /// Sets the order in which a commit is written and synced.
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
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

    /// Sets about how many bytes are synced together when many transactions are copied in. The default is 8 MiB.
    pub fn copy_part(mut self, bytes: u64) -> Options {
        self.copy_part = bytes;
        self
    }

    /// Sets about how many bytes the journal has, with [`Durability::Journal`]. The default is 8 MiB. The larger it is,
    /// the less often the file is synced, and the larger are the batches that can go to it.
    pub fn journal_bytes(mut self, bytes: u64) -> Options {
        self.journal_bytes = bytes;
        self
    }

    /// Replaces the real disk.
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Options {
        self.disk = disk;
        self
    }

    /// Replaces the machine's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Options {
        self.clock = clock;
        self
    }

    /// Sets how concurrent changes of an object are merged. The default, [`Resolvers::built_in`], merges the classes
    /// for which that takes no foreign code.
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Options {
        self.resolver = resolver;
        self
    }

    /// Sets the number of threads that walk over a large file when it is opened without an index. The default is the
    /// number of cores. With one thread, a copy appends and syncs in turns.
    pub fn threads(mut self, threads: u32) -> Options {
        self.threads = u64::from(threads);
        self
    }

    /// Has a database that is created be readable and writable for the same people as the file at `path`: with its
    /// permissions and, as far as the system lets us, its owner. Without this they are those of any new file.
    pub fn like(mut self, path: impl Into<PathBuf>) -> Options {
        self.like = Some(path.into());
        self
    }

    /// Keeps blobs in the folder at `path`, which is laid out as ZODB's. If the storage is opened for writing, a
    /// missing folder is made. Without this, the storage has no blobs.
    pub fn blobs(mut self, path: impl Into<PathBuf>) -> Options {
        self.blobs = Some(path.into());
        self
    }

    /// Sets the layout that the blob folder must have, or gets if it is new. Without this it keeps its layout, and a
    /// new folder is bushy.
    pub fn blob_layout(mut self, layout: Layout) -> Options {
        self.blob_layout = Some(layout);
        self
    }

    /// Sets a function that is called with the progress of the opening.
    pub fn progress(mut self, progress: Progress) -> Options {
        self.progress = Some(progress);
        self
    }
}

/// Why a database could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say it")]
pub enum OpenError {
    #[error("{}: there is no such file; to make an empty database there, create it", .path.display())]
    NotFound { path: PathBuf },

    #[error("{}: there is a file already, and it is left as it is; to use it, open it", .path.display())]
    Exists { path: PathBuf },

    #[error("{}: this is a directory; name the file in it, which is usually called Data.fs", .path.display())]
    Directory { path: PathBuf },

    #[error("{}: the file is empty: not even the four bytes are there that every database begins with. If there was a \
             database, restore it from a backup; if not, remove the file and create one", .path.display())]
    Empty { path: PathBuf },

    #[error("{}: not a database: it begins with `{}`, not with `FS30` or `FS21`{}", .path.display(), .magic.escape_ascii(),
            older(.magic))]
    NotADatabase { path: PathBuf, magic: Vec<u8> },

    #[error("{}: in use: {why}. Stop the other process, or open the database read-only", .path.display())]
    Locked { path: PathBuf, why: String },

    #[error("{left}. The file was not changed, and neither was the journal. {}", ways_out(.path, .left))]
    Journal { path: PathBuf, left: Box<LeftJournal> },

    #[error("{}: there is no such file, but there is a journal beside its name: {left}. If the file was removed on \
             purpose, remove the journal, too; if not, put the file back first", .path.display())]
    JournalAlone { path: PathBuf, left: Box<LeftJournal> },

    #[error("a database is created to be written to: not read-only, and not as of a moment in the past")]
    CreateReadOnly,

    #[error(transparent)]
    Storage(#[from] Error),
}

/// The commands to choose from if a journal cannot be applied.
fn ways_out(path: &Path, left: &LeftJournal) -> String {
    let file = path.display();
    let save = match left.state {
        JournalState::MovedOn { .. } => format!(
            "`vellum journal save {file} OUT` writes the database as it was with the journal's transactions to another file; "
        ),
        _ => String::new(),
    };
    format!("{save}`vellum journal discard {file}` puts the journal aside, and goes on with the file as it is")
}

fn older(magic: &[u8]) -> &'static str {
    match magic {
        b"FS20" | b"FS10" => "; this is a format of before 2000, which ZODB 3 converts",
        _ => "",
    }
}
