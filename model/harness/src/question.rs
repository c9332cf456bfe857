//! Everything that can be seen of a storage: part 2 of the rules, as questions.
//!
//! After each step of a history all of them are asked, for every object, version and moment that the history knows, and
//! of every kind a few about what it does not.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use vellum_storage::{Oid, Tid};

use crate::step::Data;
use crate::subject::Can;

/// Something that is asked of a storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the rules say what they mean")]
pub enum Question {
    Load { oid: Oid, version: String },
    LoadBefore { oid: Oid, before: Tid },
    LoadSerial { oid: Oid, tid: Tid },
    LoadBlob { oid: Oid, tid: Tid },
    History { oid: Oid, limit: usize },
    UndoLog { first: usize, last: usize },
    Transactions { first: Tid, last: Tid, newest_first: bool },
    LastTransaction,
    LastInvalidations { count: usize },
    CurrentRecords { first: Oid },
    ModifiedInVersion { oid: Oid },
    Versions,
}

impl Question {
    /// The names of the kinds, as [`crate::pipe`] uses them.
    pub const KINDS: &[&str] = &[
        "load",
        "load_before",
        "load_serial",
        "load_blob",
        "history",
        "undo_log",
        "transactions",
        "last_transaction",
        "last_invalidations",
        "current_records",
        "modified_in_version",
        "versions",
    ];

    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        let number = match self {
            Question::Load { .. } => 0,
            Question::LoadBefore { .. } => 1,
            Question::LoadSerial { .. } => 2,
            Question::LoadBlob { .. } => 3,
            Question::History { .. } => 4,
            Question::UndoLog { .. } => 5,
            Question::Transactions { .. } => 6,
            Question::LastTransaction => 7,
            Question::LastInvalidations { .. } => 8,
            Question::CurrentRecords { .. } => 9,
            Question::ModifiedInVersion { .. } => 10,
            Question::Versions => 11,
        };
        Question::KINDS[number]
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the rules say what they mean")]
pub enum Answer {
    /// No such object, or a tombstone.
    KeyError,
    /// The object was not there yet.
    NotYet,
    Loaded {
        data: Data,
        tid: Tid,
    },
    Shown {
        data: Data,
        tid: Tid,
        next: Option<Tid>,
    },
    Record {
        data: Data,
    },
    Blob {
        bytes: Data,
    },
    History {
        entries: Vec<Entry>,
    },
    UndoLog {
        entries: Vec<Entry>,
    },
    Transactions {
        transactions: Vec<Written>,
    },
    Tid {
        tid: Tid,
    },
    Invalidations {
        changed: Vec<(Tid, Vec<Oid>)>,
    },
    CurrentRecords {
        records: Vec<(Oid, Tid, Data)>,
    },
    Version {
        version: String,
    },
    Versions {
        versions: Vec<String>,
    },
    /// Something that no rule knows.
    Failed {
        message: String,
    },
}

/// A line of a history or of the undo log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The transaction.
    pub tid: Tid,
    /// The user.
    pub user: String,
    /// The description.
    pub description: String,
    /// In a history: the version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// In a history: bytes of data that the revision itself holds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
}

fn is_zero(size: &u64) -> bool {
    *size == 0
}

/// A transaction, as it is read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Its identity.
    pub tid: Tid,
    /// Whether a pack has passed over it.
    pub packed: bool,
    /// The user.
    pub user: String,
    /// The description.
    pub description: String,
    /// Anything else.
    pub extension: Data,
    /// Its revisions.
    pub revisions: Vec<Change>,
}

/// A revision, as it is read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The object.
    pub oid: Oid,
    /// The version.
    pub version: String,
    /// The record; none for a tombstone.
    pub data: Option<Data>,
    /// The blob beside it; none if there is none, or if none was to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Data>,
    /// The tid of the revision that holds the data, if it is another.
    pub source: Option<Tid>,
    /// In a version: the tid of its base revision, if there is one.
    #[serde(default, rename = "under", skip_serializing_if = "Option::is_none")]
    pub base: Option<Tid>,
}

/// All questions about these objects, versions (the trunk is always asked about), and moments.
pub fn all(can: Can, oids: &BTreeSet<Oid>, versions: &BTreeSet<String>, tids: &BTreeSet<Tid>) -> Vec<Question> {
    use Question::*;
    let last = tids.last().copied().unwrap_or(Tid::ZERO);
    let mut all = vec![LastTransaction, CurrentRecords { first: Oid::ROOT }, LastInvalidations { count: usize::MAX }];
    all.push(LastInvalidations { count: 2 });
    let middle = tids.iter().nth(tids.len() / 2).copied().unwrap_or(Tid::ZERO);
    for newest_first in [false, true] {
        all.push(Transactions { first: Tid::ZERO, last: Tid::MAX, newest_first });
        all.push(Transactions { first: middle, last: Tid(last.0.saturating_sub(1)), newest_first });
    }
    if can.undo {
        all.extend([UndoLog { first: 0, last: usize::MAX }, UndoLog { first: 1, last: 3 }]);
    }
    if can.versions {
        all.push(Versions);
    }
    let unknown = Oid(oids.last().map_or(1, |oid| oid.0 + 1));
    for &oid in oids.iter().chain([&unknown]) {
        all.push(Load { oid, version: String::new() });
        if can.versions {
            all.push(ModifiedInVersion { oid });
            all.extend(versions.iter().map(|version| Load { oid, version: version.clone() }));
        }
        all.extend([History { oid, limit: usize::MAX }, History { oid, limit: 1 }]);
        all.extend(tids.iter().map(|&before| LoadBefore { oid, before }));
        all.extend([Tid(last.0.saturating_add(1)), Tid::MAX].map(|before| LoadBefore { oid, before }));
        all.extend(tids.iter().map(|&tid| LoadSerial { oid, tid }));
        if can.blobs {
            all.extend(tids.iter().map(|&tid| LoadBlob { oid, tid }));
        }
    }
    let half = oids.iter().nth(oids.len() / 2).copied().unwrap_or(Oid::ROOT);
    all.push(CurrentRecords { first: Oid(half.0 + 1) });
    all
}
