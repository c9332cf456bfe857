//! FileStorage: an object database in one append-only file, the `Data.fs` of ZODB.
//!
//! The file is a list of transactions, each a list of records, and nothing in it is ever written over but one byte: the
//! mark that says that a transaction is finished. So the past is all there, a backup is a copy, and what a crash can
//! leave behind is at the end. Finding things is the work of an index in memory, 6 bytes an object, which is but a
//! hint: it can be made again from the file at any time.
//!
//! ```text
//!   Data.fs   FS30 │ transaction │ transaction │ transaction │        ◀── commits append here
//!                       ▲    └─record─┐  ▲ previous
//!                       └─────────────┼──┘
//!   index     oid ──────────────────▶─┘      always the newest record; the chain of `previous` is the history
//! ```
//!
//! Any number of threads read, and none waits: neither for another reader nor for a commit. Transactions are put
//! together side by side; those that vote on different objects are in their second phase side by side, and share the
//! syncs.
//!
//! # A first database
//!
//! ```
//! use vellum_file::FileStorage;
//! use vellum_storage::{Oid, Tid, TransactionMeta, Version};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("Data.fs");
//! let storage = FileStorage::create(&path)?;
//!
//! let mut change = storage.begin(TransactionMeta::new().user("ann").description("a first object"))?;
//! change.store(Oid::ROOT, Tid::ZERO, "one".into())?;
//! let first = storage.commit(change)?;
//!
//! let mut change = storage.begin(TransactionMeta::new().user("bob").description("a second thought"))?;
//! change.store(Oid::ROOT, first, "two".into())?;
//! let second = storage.commit(change)?;
//!
//! assert_eq!(storage.load(Oid::ROOT, &Version::TRUNK)?.data, "two");
//! assert_eq!(storage.load_before(Oid::ROOT, second)?.unwrap().data, "one");
//! assert_eq!(storage.history(Oid::ROOT, 10)?.len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What can go wrong
//!
//! - Opening: [`OpenError`] says whether the file is missing, in use, not a database, or damaged, and what to do.
//! - Reading: [`Error::KeyError`](vellum_storage::Error::KeyError) for a missing object; `Damaged` and `Io`, with a
//!   position, for unreadable data.
//! - Committing: [`Refusal::Conflict`](vellum_storage::Refusal::Conflict) if another transaction was faster: read
//!   again, and try again. A full disk is an `Io` error, and leaves the database as it was.
//!
//! # Packing
//!
//! The whole past is there until you pack: [`FileStorage::pack_with`] discards the revisions before a time, and
//! collects garbage, while commits and loads continue.
//!
//! ```
//! use vellum_file::{FileStorage, Packing, Unwatched};
//! use vellum_storage::Tid;
//!
//! # use vellum_storage::{Oid, TransactionMeta};
//! # let directory = tempfile::tempdir()?;
//! # let storage = FileStorage::create(directory.path().join("Data.fs"))?;
//! # for serial in [Tid::ZERO, storage.last_transaction()] {
//! #     let mut change = storage.begin(TransactionMeta::new())?;
//! #     let _ = change.store(Oid::ROOT, storage.last_transaction(), b"\x80\x03cm\nC\n.\x80\x03}.".as_slice().into());
//! #     storage.commit(change)?;
//! # }
//! let how = Packing::new().collect(true).keep_old(true);
//! let packed = storage.pack_with(Tid::MAX, how, &mut Unwatched)?;
//! println!("{} bytes less", packed.before.bytes - packed.after.bytes);
//! # assert!(packed.before.revisions > packed.after.revisions);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod blobs;
pub mod format;
mod journal;
mod open;
mod options;
mod order;
mod pack;
mod read;
mod repair;
mod storage;
mod walk;
mod write;

pub use format::fault::{Fault, FaultKind};
pub use format::record::{InVersion, Older, Record};
pub use format::scan::Scanner;
#[doc(hidden)]
pub use journal::seal as seal_journal;
pub use journal::{JournalState, LeftJournal};
pub use open::{CutShort, Recovery};
pub use options::{Durability, OpenError, Options, Progress};
pub use pack::{Extent, Fate, PackStep, PackWatch, Packed, Packing, Unwatched};
pub use read::index_file::Missing;
pub use repair::check::{Check, Problem, ProblemKind, check, check_references};
pub use repair::dangling::{Change, Dangling, Holder, LastData, LostObject};
pub use repair::journal::{discard_journal, left_journal, save_journaled};
pub use repair::recover::{Lost, Salvage, recover, recover_with_new_tids};
pub use storage::FileStorage;
