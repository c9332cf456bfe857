//! Vellum: an embedded object database that keeps its past, in the `Data.fs` files of ZODB.
//!
//! A database is one file. It holds **objects**; an object is a number, its [`Oid`], and a list of **revisions**. A
//! revision is a record of bytes, written by a **transaction**, whose [`Tid`] is its identity and its time. A commit
//! appends. Until you pack, every older revision can be read, and transactions can be undone.
//!
//! ```text
//!             tid 1       tid 2       tid 3
//!   oid 0   ──"one"─────────────────"two"──────▶  load: "two";  load_before(tid 3): "one"
//!   oid 1   ──────────────"mail"───────────────▶  load: "mail"
//! ```
//!
//! # Hello, world
//!
//! ```standalone_crate
//! # let folder = tempfile::tempdir()?;
//! # std::env::set_current_dir(folder.path())?;
//! use vellum::{FileStorage, Oid, Tid, TransactionMeta, Version};
//!
//! let storage = FileStorage::create("Data.fs")?;
//! let mut draft = storage.begin(TransactionMeta::new().user("ann").description("a first object"))?;
//! draft.store(Oid::ROOT, Tid::ZERO, "one".into())?;
//! let tid = storage.commit(draft)?;
//!
//! let loaded = storage.load(Oid::ROOT, &Version::TRUNK)?;
//! assert_eq!((loaded.data.as_ref(), loaded.tid), (b"one".as_slice(), tid));
//! # drop(storage);
//! # std::env::set_current_dir("/")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A store names the revision that you have read: [`Tid::ZERO`] for a new object, and otherwise the `tid` of the load.
//! If another transaction has changed the object in between, the commit is refused with [`Refusal::Conflict`]: load
//! again, and try again. A [`Draft`] is a plain value; dropping it leaves no trace.
//!
//! A commit has two phases. [`Storage::vote`] judges the draft and locks its objects, and [`Voted::finish`] makes it
//! durable. Between them you can look at the result, wait for the vote of another database, or drop the transaction.
//!
//! # Where to go next
//!
//! | you want | look at |
//! |---|---|
//! | to open a file, and know what to do if that fails | [`Options`], [`OpenError`] |
//! | an object as it was, its history, all transactions | [`Storage::load_before`], [`Storage::history`], [`Storage::transactions`] |
//! | the whole database as it was | [`Options::as_of`], [`AsOf`] |
//! | to undo a transaction | [`FileStorage::undoable`], [`Draft::undo`] |
//! | long-lived branches | [`Version`], [`FileStorage::all_versions`], [`Draft::store_in`], [`Draft::commit_version`] |
//! | to hear of each commit | [`Storage::listen`] |
//! | to merge changes of the same object | [`Options::resolver`], [`Resolvers`] |
//! | to give room back | [`FileStorage::pack_with`], [`Packing`] |
//! | to write above a database that must not change | [`Overlay`] |
//! | to keep records compressed, as zc.zlibstorage does | [`Compressed`] |
//! | a database in memory, for tests | [`MemoryStorage`] |
//! | a backup, or a copy in another storage | [`copy()`] |
//! | to check a file, or to save what a damaged one holds | [`repair`] |
//! | the storage of a server, Vellum's or ZEO's | `remote`, with the feature `client` |
//! | objects in place of records | `object`, with the feature `object` |
//! | a storage of your own | [`storage`] |
//! | the bytes of a file, and the contents of a record | [`raw`] |
//!
//! Two programs in `examples/` are good to begin with: `first` walks through a database, `conflicts` has many writers.
//!
//! # What can go wrong
//!
//! - [`OpenError`]: the file is missing, locked, not a database, or damaged. The text says what to do.
//! - [`Error`]: a load of an object that does not exist, a disk that fails or is full, damage at a position.
//! - [`Error::Refused`] with a [`Refusal`]: the rules forbid what the transaction was asked to do.
//!
//! Damaged or hostile bytes in a file are an error, never a panic. A commit that has returned survives a crash of the
//! machine ([`Durability::Full`]).
//!
//! # Features
//!
//! `serde`, off by default: [`Oid`] and [`Tid`] implement `Serialize` and `Deserialize`, as sixteen hex digits.
//!
//! `client`, off by default: `RemoteStorage` and `Client`, in `remote`.
//!
//! `object`, off by default: `Database`, in `object`.
//!
//! # The crates behind it
//!
//! This crate has no code of its own: it gathers what `vellum-storage`, `vellum-file`, `vellum-client`,
//! `vellum-object`, `vellum-disk` and `vellum-pickle` have for a program. The operator's command is `vellum`, in the
//! package `vellum-cli`.
#![forbid(unsafe_code)]

pub use vellum_file::{Durability, FileStorage, OpenError, Options, Packed, Packing, Progress, Recovery};
pub use vellum_storage::{
    AsOf, BTrees, Bytes, Compressed, Compression, Contested, CopyOptions, CopyReport, CurrentRecord, Draft, Error,
    Event, HistoryEntry, Invalidation, Listener, Listening, Loaded, LoadedAt, MemoryStorage, NotUndone, Oid, Order,
    Overlay, Refusal, Resolver, Resolvers, Result, Revision, Status, Storage, Tid, TidRange, TransactionMeta,
    TransactionRecord, UndoEntry, Verdict, Version, Vote, Voted, Waiting, WhyNot, copy,
};

/// The parts of every storage: the traits, for a storage of your own, and functions that work with any storage.
///
/// All of `vellum-storage`: copying, export and import, references and garbage, the clock, the locks of objects.
pub mod storage {
    #[doc(inline)]
    pub use vellum_storage::*;
}

/// The storage of a server: of Vellum's, or of ZEO's `runzeo`.
///
/// ```no_run
/// use vellum::remote::{ClientOptions, RemoteStorage};
/// use vellum::{Oid, Version};
///
/// let storage = RemoteStorage::open(ClientOptions::at("127.0.0.1:8100"))?;
/// println!("{:?}", storage.load(Oid::ROOT, &Version::TRUNK)?.data);
/// # Ok::<(), vellum::Error>(())
/// ```
#[cfg(feature = "client")]
pub mod remote {
    pub use vellum_client::{
        Access, Address, Client, ClientError, ClientOptions, Patience, Promise, RemoteStorage, Transaction, View, tls,
    };
}

/// A database in tables that are updated in place: its memory does not grow with the database.
///
/// ```
/// use vellum::table::TableStorage;
/// use vellum::{Oid, Tid, TransactionMeta, Version};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("site.vellum");
/// let storage = TableStorage::create(&path)?;
/// let mut draft = storage.begin(TransactionMeta::new())?;
/// draft.store(Oid::ROOT, Tid::ZERO, "a record".into())?;
/// storage.commit(draft)?;
/// assert_eq!(storage.load(Oid::ROOT, &Version::TRUNK)?.data, "a record");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "table")]
pub mod table {
    pub use vellum_table::{OpenError, Options, Problem, TableStorage};
}

/// Persistent objects: load the root, follow a reference, change a field, commit.
///
/// All of `vellum-object`, for any storage.
#[cfg(feature = "object")]
pub mod object {
    #[doc(inline)]
    pub use vellum_object::*;
}

/// Checking a file, and saving what a damaged one holds.
///
/// [`check`](repair::check) reads everything and changes nothing; [`recover`](repair::recover) copies all complete
/// transactions into a new file.
///
/// ```
/// use vellum::{FileStorage, Options, repair};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("Data.fs");
/// drop(FileStorage::create(&path)?);
/// let found = repair::check(&Options::new(), &path, &mut |problem| println!("{}", problem.kind))?;
/// assert_eq!(found.problems, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub mod repair {
    pub use vellum_file::{
        Change, Check, Dangling, Holder, LastData, Lost, LostObject, Missing, Problem, ProblemKind, Salvage, check,
        check_references, recover, recover_with_new_tids,
    };
}

/// The bytes: records at their positions in a file, the disk that a file lies on, and the contents of a record.
///
/// Most programs need none of it. It is what tools are made of, such as the command `vellum`.
pub mod raw {
    pub use vellum_file::format;
    pub use vellum_file::{
        Extent, Fate, Fault, FaultKind, InVersion, Older, PackStep, PackWatch, Record, Scanner, Unwatched,
    };

    /// The disk behind a file: the real one, and a simulated one that can be made to fail.
    pub mod disk {
        #[doc(inline)]
        pub use vellum_disk::*;
    }

    /// References, class names and plain values in ZODB's records, read without running anything.
    pub mod pickle {
        #[doc(inline)]
        pub use vellum_pickle::*;
    }
}
