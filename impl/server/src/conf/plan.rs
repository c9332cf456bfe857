//! The plan of a server, as data, for every kind of configuration.

use std::path::PathBuf;
use std::time::Duration;

use super::{LogFormat, Place, Rotation};
use crate::Address;

/// The storages and addresses of a server: read from ZEO's `zeo.conf`, from a TOML file, or from the options of a
/// command.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where to listen.
    pub addresses: Vec<Address>,
    /// Whether clients may only read.
    pub read_only: bool,
    /// So many transactions are remembered for clients that were away.
    pub invalidation_queue_size: u64,
    /// Clients that were away no longer than this are told what they missed even so.
    pub invalidation_age: Option<Duration>,
    /// A transaction that is voted and not finished is aborted after this.
    pub transaction_timeout: Option<Duration>,
    /// Where the number of the process is written.
    pub pid_file: Option<PathBuf>,
    /// Whether clients merge what the server cannot.
    pub clients_resolve: bool,
    /// Whether clients are asked to speak msgpack; if it does not say, the environment does.
    pub msgpack: Option<bool>,
    /// Certificates.
    pub tls: Option<Tls>,
    /// The storages, by the names that clients call them.
    pub storages: Vec<(String, StorageConf)>,
    /// Where logs go.
    pub event_log: Option<EventLog>,
    /// Settings that are ignored, one sentence each.
    pub ignored: Vec<String>,
}

/// So many transactions are remembered for clients that were away, unless it is said otherwise.
pub(super) const INVALIDATION_QUEUE_SIZE: u64 = 100;

impl Plan {
    /// A plan that serves nothing, nowhere, with ZEO's defaults for everything else.
    pub fn new() -> Plan {
        Plan {
            addresses: Vec::new(),
            read_only: false,
            invalidation_queue_size: INVALIDATION_QUEUE_SIZE,
            invalidation_age: None,
            transaction_timeout: None,
            pid_file: None,
            clients_resolve: false,
            msgpack: None,
            tls: None,
            storages: Vec::new(),
            event_log: None,
            ignored: Vec::new(),
        }
    }
}

impl Default for Plan {
    fn default() -> Plan {
        Plan::new()
    }
}

/// The section `ssl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key, unless the certificate's file has it.
    pub key: Option<PathBuf>,
    /// The certificates of clients, or of their authorities: a file, or a folder.
    pub authenticate: PathBuf,
    /// Where it is asked for.
    pub place: Place,
}

/// A storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageConf {
    /// A database in a file.
    File(FileStorageConf),
    /// A storage in memory.
    Mapping {
        /// Its name.
        title: String,
    },
    /// Changes above a storage that stays as it is.
    Demo {
        /// Its name, if it is not made from the names of the two.
        title: Option<String>,
        /// The storage that stays.
        base: Option<Box<StorageConf>>,
        /// Where changes go; in memory, if nowhere.
        changes: Option<Box<StorageConf>>,
    },
    /// Records are compressed.
    Compressed {
        /// Whether new ones are; old ones are read either way.
        compress: bool,
        /// Whether clients get them as they are.
        for_clients: bool,
        /// Where they are.
        base: Box<StorageConf>,
        /// Where it is asked for.
        place: Place,
    },
}

/// The section `filestorage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStorageConf {
    /// The file.
    pub path: PathBuf,
    /// Where its blobs are.
    pub blob_dir: Option<PathBuf>,
    /// How the files of a new blob folder are laid out; as ZODB would, if nobody says.
    pub blob_layout: Option<BlobLayout>,
    /// Whether it is made anew, whatever is there.
    pub create: bool,
    /// Whether it is only read.
    pub read_only: bool,
    /// Bytes that it may have.
    pub quota: Option<u64>,
    /// Whether a pack collects garbage.
    pub pack_gc: bool,
    /// Whether a pack keeps the old file.
    pub pack_keep_old: bool,
    /// The syncs that a commit waits for.
    pub durability: Syncs,
    /// Whether a new database in tables is made history-free, and one that is there must be.
    pub history_free: bool,
    /// For how long a history-free database keeps what is old; as long as it would by itself, if nobody says.
    pub grace: Option<Duration>,
}

impl FileStorageConf {
    /// A file that is read and written, with ZODB's defaults.
    pub fn new(path: impl Into<PathBuf>) -> FileStorageConf {
        FileStorageConf {
            path: path.into(),
            blob_dir: None,
            blob_layout: None,
            create: false,
            read_only: false,
            quota: None,
            pack_gc: true,
            pack_keep_old: true,
            durability: Syncs::Full,
            history_free: false,
            grace: None,
        }
    }
}

impl StorageConf {
    /// Keeps the blobs of a storage in this folder.
    ///
    /// # Errors
    ///
    /// Why the storage cannot have it.
    pub(crate) fn keep_blobs_in(&mut self, folder: PathBuf) -> std::result::Result<(), &'static str> {
        match self {
            StorageConf::File(FileStorageConf { blob_dir: Some(_), .. }) => Err("it has a blob folder already"),
            StorageConf::File(file) => {
                file.blob_dir = Some(folder);
                Ok(())
            }
            StorageConf::Compressed { base, .. } => base.keep_blobs_in(folder),
            StorageConf::Demo { changes: Some(changes), .. } => changes.keep_blobs_in(folder),
            StorageConf::Mapping { .. } | StorageConf::Demo { changes: None, .. } => Err(
                "a storage in memory would leave them there without their records: only a filestorage has a blob folder",
            ),
        }
    }
}

/// How the files in a blob folder are laid out, by ZODB's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobLayout {
    /// A folder for each byte of the oid.
    Bushy,
    /// A folder for each oid.
    Lawn,
}

/// How a commit is written to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syncs {
    /// A crash keeps exactly the acknowledged commits.
    #[default]
    Full,
    /// ZODB's order: one sync.
    Relaxed,
    /// One sync, of a journal beside the file. A crash keeps exactly the acknowledged commits.
    Journal,
}

/// The section `eventlog`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    /// The level from which on events are logged, as Python counts levels: 10 is debug, 20 info, 30 warning, 40 error.
    pub level: u64,
    /// Where to.
    pub files: Vec<LogFile>,
}

/// The section `logfile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Where the lines go.
    pub to: LogTarget,
    /// The level of this log.
    pub level: u64,
    /// How a line is written.
    pub format: LogFormat,
    /// When the file is put aside, and a new one begun.
    pub rotation: Option<Rotation>,
}

/// Where lines of a log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file.
    File(PathBuf),
}
