//! The rules, as code: what an object database with undo, versions and packing answers, whatever it is made of.
//!
//! A database is a list of transactions; everything else is a fold over that list. That is all there is here: pure
//! functions on a [`Database`], in the order of `docs/semantics.md`, and named as there. Nothing is fast, nothing is
//! stored twice, and nothing depends on anything. Whoever wants to know what a storage must do reads this; whoever wants
//! to know whether it does it plays the same history on both.
//!
//! ```text
//!   tid 1         tid 2              tid 3              tid 4
//!   0: [..]       1: [one]           1: [two] in draft  1: = tid 2          oid: content
//!   1: [zero]     2: nothing                            (draft aborted)
//! ```
//!
//! What is not here: time (who calls gives each transaction its tid), threads, disks, and bytes on them.
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

mod pack;
mod read;
mod write;

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

/// What somebody did, at one moment (rule 1.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// Its identity and time.
    pub tid: Tid,
    /// Whether a pack has passed over it.
    pub status: Status,
    /// Who did it.
    pub user: Vec<u8>,
    /// What it was.
    pub description: Vec<u8>,
    /// Anything else, as a pickled dict that nobody looks into.
    pub extension: Vec<u8>,
    /// What it did, in the order in which it was written. If one oid occurs twice, the last one counts.
    pub revisions: Vec<Revision>,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// It can be undone.
    #[default]
    Complete,
    /// A pack took away what came before it; it can not be undone.
    Packed,
}

/// What one transaction did to one object (rule 1.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The object.
    pub oid: Oid,
    /// The version that it was done in (rule 1.5); the trunk's name is empty.
    pub version: String,
    /// In a version: the revision that the trunk shows meanwhile; none if the object was born in the version.
    pub under: Option<Tid>,
    /// What it holds.
    pub content: Content,
}

/// What a revision holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// A record (rule 1.2).
    Data(Vec<u8>),
    /// The same as the object's revision in this transaction, the *source*, which may share its data in turn.
    Source(Tid),
    /// Nothing: its creation was undone, or it was deleted.
    Nothing,
}
