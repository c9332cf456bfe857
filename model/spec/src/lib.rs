//! The rules, as code: what an object database with undo, versions and packing answers, whatever it is made of.
//!
//! A database is a list of transactions; everything else is a fold over that list. That is all there is here: pure
//! functions on a [`Database`], in the order of `docs/semantics.md`, and named as there. They do not try to be fast,
//! they store everything once, and they depend on no other crate. To learn what a storage must do, read this. To learn
//! whether a storage does it, play the same history on both.
//!
//! ```text
//!   tid 1         tid 2              tid 3              tid 4
//!   0: [..]       1: [one]           1: [two] in draft  1: = tid 2          oid: content
//!   1: [zero]     2: tombstone                          (draft aborted)
//! ```
//!
//! Not here: clocks (the caller gives each transaction its tid), threads, disks, and the bytes on them.
//!
//! ```
//! use vellum_spec::{Begin, Change, Database};
//!
//! let empty = Database::default();
//! let store = |serial, data: &str| Change::store(1, serial, data.as_bytes());
//! let one = empty.commit(Begin::at(10), &[store(0, "one")], &|_| None).unwrap().0;
//! let two = one.commit(Begin::at(20), &[store(10, "two")], &|_| None).unwrap().0;
//! let back = two.commit(Begin::at(30), &[Change::Undo { tid: 20 }], &|_| None).unwrap().0;
//! assert_eq!(back.load(1, "").unwrap(), (&b"one"[..], 30));
//! ```
#![forbid(unsafe_code)]

mod ahead;
mod counts;
mod free;
mod heap;
mod later;
mod pack;
mod read;
mod write;

pub use ahead::{Kept, Limits, asked_for, hints, in_addition, kept, moment};
pub use free::{FORGOTTEN_AT_ONCE, WITHOUT_CLOCK};
pub use heap::{Heap, Id, Memory, Node, View};
pub use later::later;
pub use pack::{Dangling, How, Packed, Refused};
pub use read::{At, HistoryEntry, KeyError, Shown};
pub use write::{Begin, Change, Contested, Refusal, Resolver};

/// An object's identity (rule 1.1). 0 is the root.
pub type Oid = u64;

/// A transaction's identity and time (rule 1.1); 0 is before all of them.
pub type Tid = u64;

/// A database: its transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Database {
    /// Oldest first; tids strictly increase.
    pub transactions: Vec<Transaction>,
}

/// The changes that one client made, at one moment (rule 1.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// Its identity and time.
    pub tid: Tid,
    /// Whether a pack has rewritten it.
    pub status: Status,
    /// The user's name.
    pub user: Vec<u8>,
    /// A text for people.
    pub description: Vec<u8>,
    /// Anything else, as a pickled dict. No rule looks into it.
    pub extension: Vec<u8>,
    /// Its revisions, in the order in which they were written. If one oid occurs twice, the last one counts.
    pub revisions: Vec<Revision>,
}

/// Whether a pack has rewritten a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// It can be undone.
    #[default]
    Complete,
    /// A pack discarded its past. It cannot be undone.
    Packed,
}

/// The change that one transaction made to one object (rule 1.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The object.
    pub oid: Oid,
    /// The version that it was written in (rule 1.5); the trunk's name is empty.
    pub version: String,
    /// In a version: the base revision, which the trunk shows as long as this one is the newest; none if the object was
    /// created in the version.
    pub base: Option<Tid>,
    /// Its data, or where that is.
    pub content: Content,
    /// The blob beside its own data (rule 8.1). Data that is shared has the source's.
    pub blob: Option<Vec<u8>>,
}

/// A revision's data, or where that is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// A record (rule 1.2).
    Data(Vec<u8>),
    /// The data of the object's revision in this transaction, the *source*, which may share its data in turn.
    Source(Tid),
    /// No data: the object's creation was undone, or it was deleted.
    Tombstone,
}
