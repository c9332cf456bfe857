//! The traits of every object storage, and the code that all storages share.
//!
//! A storage keeps **objects**. An object is an identity, the [`Oid`], and a list of **revisions**, each the work of
//! one **transaction**, whose identity and time is its [`Tid`]. A revision is a record of bytes, or a *tombstone*: the
//! object's creation was undone, or it was deleted. The newest revision is the object; the older ones are its past.
//!
//! ```text
//!             tid 1      tid 2      tid 3      tid 4
//!   oid 0   ──[root]──────────────[root']───────────────▶  load → root', 3
//!   oid 1   ─────────────[mail]───────────────(nothing)─▶  load → key error; load_before(4) → mail, 2
//! ```
//!
//! Reading takes a [`Storage`] and no lock. Writing goes through two types, so that a wrong order does not compile:
//!
//! ```text
//!   storage.begin(meta) ─▶ Draft ── storage.vote(draft) ─▶ Voted ── finish() ─▶ Tid
//!                          store, delete, undo ...           │
//!                                                            └─ dropping either of them aborts, and leaves no trace
//! ```
//!
//! A [`Draft`] is a value: it can be cloned, compared, hashed, and voted on by another storage than the one that began
//! it.
//!
//! A conflict is found at the vote: every changed object must still be at the revision its writer had read (its
//! *serial*), or a [`Resolver`] must know how to merge the two. [`Resolvers`] knows those
//! of ZODB's own classes for which that can be known, the [`BTrees`], and takes more.
//!
//! [`MemoryStorage`] is the simplest storage that keeps all of this: for tests and demos, and to read first.
//!
//! Optional capabilities (undo, versions, packing, copying, blobs) are asked for: [`Storage::undo_log`],
//! [`Storage::versions`], [`Storage::capabilities`].
//!
//! These work with any [`Storage`]: copying ([`copy()`]), reading the past ([`AsOf`]), writing above it without
//! changing it ([`Overlay`]), compressing its records ([`Compressed`]), and
//! moving objects to another database ([`export`], [`import`]).
//!
//! [`collect()`] decides which revisions a pack keeps, once for every storage. [`find_garbage`] finds the garbage in
//! several databases that refer to each other. [`referrers()`] and [`shortest_path`] find the referrers of an object,
//! and its path from the root. [`check_btrees`] checks the rules of the trees of the BTrees package.
//!
//! This crate opens no file and no socket.
//!
//! The feature `serde`, off by default, gives [`Oid`] and [`Tid`] `Serialize` and `Deserialize`: as text, in the
//! sixteen hex digits that they are printed in.
//!
//! ```
//! use vellum_storage::{MemoryStorage, Oid, Tid, TransactionMeta, Version};
//!
//! let storage = MemoryStorage::new("demo");
//! let mut draft = storage.begin(TransactionMeta::new().user("ann").description("the first"))?;
//! draft.store(Oid::ROOT, Tid::ZERO, "a record".into())?;
//! let tid = storage.vote(draft)?.finish()?;
//! assert_eq!(storage.load(Oid::ROOT, &Version::TRUNK)?.tid, tid);
//! # Ok::<(), vellum_storage::Error>(())
//! ```
#![forbid(unsafe_code)]

mod as_of;
mod blob;
mod btrees;
mod buffer;
mod capability;
mod clock;
mod collect;
mod compressed;
mod copy;
mod error;
mod events;
mod export;
mod external;
mod id;
mod inherent;
mod memory;
mod needed;
mod overlay;
mod record;
mod referrers;
mod resolve;
mod resolvers;
mod restore;
mod revisions;
mod traits;
mod transaction;

pub use as_of::AsOf;
pub use blob::{Blob, BlobBytes, BlobWriter, Blobs, SharedBlobs, may_have_blob};
pub use btrees::{BTreeFinding, BTreeRule, BTrees, BTreesChecked, btree_class, check_btrees, order_of_scalars};
pub use buffer::RecordBuffer;
pub use bytes::Bytes;
pub use capability::{Bulk, Capabilities, Counts, Pack, PackOptions, PackReport, UndoEntry, UndoLog, Versions};
pub use clock::{Clock, ManualClock, SystemClock};
pub use collect::{AtPlace, Collected, Collecting, EachPlace, Later, OidSet, Own, Place, Refers, Survivors, collect};
pub use compressed::{Compressed, Compression};
pub use copy::{CopyOptions, CopyReport, copy};
pub use error::{Damage, Error, Result};
pub use events::{Event, Listener, Listeners, Listening};
pub use export::{ExportError, ExportOptions, ExportReport, ImportReport, export, import, is_blob};
pub use external::{
    DeleteGarbage, DeleteStopped, DeletedGarbage, FindGarbage, FoundGarbage, Garbage, GarbageError, LostReference,
    LostReferences, Missing, find_garbage,
};
pub use id::{Oid, ParseIdError, Tid};
pub use memory::{MemoryStorage, scratch_blob};
pub use needed::needed;
pub use overlay::Overlay;
pub use record::{
    CurrentRecord, HistoryEntry, Invalidation, Loaded, LoadedAt, Order, Revision, Status, TidRange, TransactionMeta,
    TransactionRecord, Version,
};
pub use referrers::{NewestRevision, Reached, Referrer, newest_revisions, referrers, refers_in, shortest_path};
pub use resolve::{Contested, NoResolver, Resolver};
pub use resolvers::Resolvers;
pub use restore::{Restoration, Restored, restore};
pub use traits::Storage;
pub use transaction::{
    Busy, Change, Content, Data, Draft, Finishing, Held, Judged, Limits, NotUndone, ObjectLocks, Origin, Past,
    PastRevision, Prepared, Refusal, Scratch, ScratchFile, Ticket, Verdict, Vote, Voted, Waiting, Want, Wants, WhyNot,
    Write, judge, lock_and_judge, touched, wants,
};
