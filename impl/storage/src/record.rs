//! The nouns: the contents of a storage, and its answers.

use std::fmt;

use bytes::Bytes;

use crate::{Blob, Clock, Error, Oid, Refusal, Result, Tid};

/// A named line of work beside the trunk (rule 1.5); the empty name is the trunk. At most 65,535 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Bytes);

impl Version {
    /// The version with the empty name: the state that everybody sees.
    pub const TRUNK: Version = Version(Bytes::new());

    /// The version of this name.
    pub fn named(name: impl Into<Bytes>) -> Version {
        Version(name.into())
    }

    /// Whether this is the trunk.
    pub fn is_trunk(&self) -> bool {
        self.0.is_empty()
    }

    /// The name's bytes.
    pub fn name(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// The status of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// It is there, and can be undone (in a file: a blank).
    #[default]
    Complete,
    /// A pack discarded its past; it can no longer be undone (`p`).
    Packed,
    /// It does not count: old files mark undone transactions so (`u`).
    Undone,
}

impl Status {
    /// The character that stands for it in files.
    pub fn byte(self) -> u8 {
        match self {
            Status::Complete => b' ',
            Status::Packed => b'p',
            Status::Undone => b'u',
        }
    }

    /// The status that a character in a file stands for.
    pub fn from_byte(byte: u8) -> Option<Status> {
        match byte {
            b' ' => Some(Status::Complete),
            b'p' => Some(Status::Packed),
            b'u' => Some(Status::Undone),
            _ => None,
        }
    }
}

/// The metadata of a transaction when it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TransactionMeta {
    /// The user. ZODB's bytes, as a rule UTF-8; at most 65,535 of them, as for the next two.
    pub user: Bytes,
    /// The description.
    pub description: Bytes,
    /// Anything else: a pickled dict, which is kept but not looked into.
    pub extension: Bytes,
    /// The tid to take, when a history is written again; as a rule none, and the storage's clock decides.
    pub tid: Option<Tid>,
    /// The status to take, when a history is written again.
    pub status: Status,
}

impl TransactionMeta {
    /// A transaction about which nothing is said.
    pub fn new() -> TransactionMeta {
        TransactionMeta::default()
    }

    /// Sets the user.
    pub fn user(mut self, user: impl Into<Bytes>) -> Self {
        self.user = user.into();
        self
    }

    /// Sets the description.
    pub fn description(mut self, description: impl Into<Bytes>) -> Self {
        self.description = description.into();
        self
    }

    /// Adds a pickled dict.
    pub fn extension(mut self, extension: impl Into<Bytes>) -> Self {
        self.extension = extension.into();
        self
    }

    /// Asks for a tid; it must be later than the storage's last.
    pub fn tid(mut self, tid: Tid) -> Self {
        self.tid = Some(tid);
        self
    }

    /// Refuses what no transaction after `last` may be: fields that do not fit a file's two-byte lengths, the status of
    /// what no reader sees, a tid that is not later.
    ///
    /// # Errors
    ///
    /// As [`Storage::begin`](crate::Storage::begin).
    pub fn check(&self, last: Tid) -> Result<()> {
        if self.status == Status::Undone {
            return Err(Error::CommittedAsUndone);
        }
        for (field, bytes) in [("user", &self.user), ("description", &self.description), ("extension", &self.extension)]
        {
            if bytes.len() > usize::from(u16::MAX) {
                return Err(Refusal::MetadataTooLong { field, length: bytes.len() }.into());
            }
        }
        match self.tid {
            Some(tid) if tid <= last => Err(Refusal::TidNotLater { tid, last }.into()),
            _ => Ok(()),
        }
    }

    /// Rule 1.1: the tid of this transaction if it is finished after `last`: the one asked for, or else that of the
    /// moment, or the next after the last ([`Tid::later`]) if the clock stands still or steps back.
    ///
    /// # Errors
    ///
    /// A tid asked for that is not later than the last; tids used up.
    pub fn tid_after(&self, last: Tid, clock: &dyn Clock) -> Result<Tid> {
        match self.tid {
            Some(tid) if tid <= last => Err(Refusal::TidNotLater { tid, last }.into()),
            Some(tid) => Ok(tid),
            None if last == Tid::MAX => Err(Error::Exhausted { what: "tids" }),
            None => Ok(Tid::at(clock.now()).max(last.later())),
        }
    }
}

/// The change that one transaction made to one object (rule 1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The object.
    pub oid: Oid,
    /// The version that it was done in.
    pub version: Version,
    /// The record; none for a tombstone.
    pub data: Option<Bytes>,
    /// The blob beside the record, if there is one.
    pub blob: Option<Blob>,
    /// Where the data is shared with an earlier revision: the tid of the one that holds it.
    pub source: Option<Tid>,
    /// In a version: the tid of its base revision, which the trunk shows as long as this one is the newest; none if the
    /// object was created in the version, and on the trunk.
    pub base: Option<Tid>,
}

/// A transaction, read back (rule 1.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    /// Its identity and time.
    pub tid: Tid,
    /// Its status.
    pub status: Status,
    /// The user.
    pub user: Bytes,
    /// The description.
    pub description: Bytes,
    /// Anything else: a pickled dict, as bytes.
    pub extension: Bytes,
    /// Its revisions, in the order written. If an oid occurs twice, the last one counts.
    pub revisions: Vec<Revision>,
}

/// An object as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The record.
    pub data: Bytes,
    /// The tid of the *newest* revision, even where the data is an older one's.
    pub tid: Tid,
}

/// An object as it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoadedAt {
    /// The record.
    pub data: Bytes,
    /// The tid since which the trunk showed it.
    pub tid: Tid,
    /// The tid at which the trunk began to show something else; none if it still shows this.
    pub next: Option<Tid>,
}

/// One line of an object's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The revision's tid.
    pub tid: Tid,
    /// Bytes of data that the revision itself holds: zero if it shares another's, or is nothing.
    pub size: u64,
    /// The version it is in.
    pub version: Version,
    /// The user.
    pub user: Bytes,
    /// The description.
    pub description: Bytes,
    /// Anything else: a pickled dict, as bytes.
    pub extension: Bytes,
}

/// An object in a walk over everything there is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentRecord {
    /// The object.
    pub oid: Oid,
    /// Its tid, as `load` gives it.
    pub tid: Tid,
    /// Its record on the trunk.
    pub data: Bytes,
}

/// The objects that a client's cache must forget after a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// The transaction.
    pub tid: Tid,
    /// The objects that it changed, as written.
    pub oids: Vec<Oid>,
}

/// A range of transactions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TidRange {
    /// The first that belongs to it.
    pub first: Tid,
    /// The last that belongs to it.
    pub last: Tid,
}

impl TidRange {
    /// Every transaction.
    pub const ALL: TidRange = TidRange { first: Tid::ZERO, last: Tid::MAX };

    /// From this one on.
    pub fn from(first: Tid) -> TidRange {
        TidRange { first, ..TidRange::ALL }
    }

    /// Up to this one.
    pub fn to(last: Tid) -> TidRange {
        TidRange { last, ..TidRange::ALL }
    }

    /// Whether this transaction belongs to it.
    pub fn contains(&self, tid: Tid) -> bool {
        self.first <= tid && tid <= self.last
    }
}

/// Which way to walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// From the past to the present.
    #[default]
    OldestFirst,
    /// From the present to the past.
    NewestFirst,
}
