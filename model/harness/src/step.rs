//! The verbs: what a history does to a storage, and what becomes of it.
//!
//! A history is a list of [`Step`]s; [`script`](crate::script) writes one as lines for people, and
//! [`pipe`](crate::pipe) as lines of JSON for other programs.

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use vellum_storage::{Oid, Tid};

use crate::node::{Beside, Node};

/// Which of the transactions under way: `a`, `b`, or `c`.
pub type Name = char;

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Step {
    /// Begins a transaction. One of which nothing is said begins with its first change.
    Begin {
        /// Which.
        transaction: Name,
        /// Its metadata.
        #[serde(flatten)]
        meta: Meta,
    },
    /// Says what a transaction is to do.
    Change {
        /// Which.
        transaction: Name,
        /// The change.
        #[serde(flatten)]
        change: Change,
    },
    /// The first phase. From now on the clock stands at `clock`.
    Vote {
        /// Which.
        transaction: Name,
        /// The time, as the tid of a moment.
        clock: Tid,
    },
    /// The second phase.
    Finish {
        /// Which.
        transaction: Name,
    },
    /// Both phases.
    Commit {
        /// Which.
        transaction: Name,
        /// The time.
        clock: Tid,
    },
    /// Ends a transaction that is not finished.
    Abort {
        /// Which.
        transaction: Name,
    },
    /// Forgets the past before a moment.
    Pack {
        /// The moment.
        to: Tid,
        /// Whether to collect garbage.
        collect: bool,
        /// Whether to go on where a needed object refers to one that is nowhere.
        go_on: bool,
    },
    /// Forgets the past before a moment, and discards the objects to which nothing refers.
    PackByCounts {
        /// The moment.
        to: Tid,
    },
    /// Closes the storage, whatever is under way, and opens it again.
    Reopen {
        /// For reading only.
        read_only: bool,
    },
}

/// The metadata of a transaction when it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Meta {
    /// The user.
    pub user: String,
    /// The description.
    pub description: String,
    /// Anything else: a small pickled dict, or nothing.
    #[serde(serialize_with = "extension")]
    pub extension: bool,
    /// The tid to take; if none, the clock says.
    pub tid: Option<Tid>,
    /// Whether it is to be as a pack leaves transactions.
    pub packed: bool,
}

/// The pickled dict that stands for any extension: `{"k": 1}`.
pub const EXTENSION: &[u8] = b"\x80\x03}X\x01\0\0\0kK\x01s.";

impl Meta {
    /// Whether there is more of it than fits (rule 3.0).
    pub fn is_too_long(&self) -> bool {
        [&self.user, &self.description].iter().any(|field| field.len() > usize::from(u16::MAX))
    }

    /// The extension's bytes.
    pub fn extension(&self) -> &'static [u8] {
        if self.extension { EXTENSION } else { b"" }
    }
}

fn extension<S: Serializer>(has: &bool, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&Hex(if *has { EXTENSION } else { b"" }))
}

/// One change of a transaction: rules 3.1 to 3.7, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the rules say what they mean")]
pub enum Change {
    /// An empty record if there is no `node`.
    Store {
        oid: Oid,
        serial: Tid,
        #[serde(flatten, serialize_with = "record_or_empty")]
        node: Option<Node>,
        version: String,
    },
    Delete {
        oid: Oid,
        serial: Tid,
    },
    CheckCurrent {
        oid: Oid,
        serial: Tid,
    },
    Undo {
        tid: Tid,
    },
    CommitVersion {
        from: String,
        to: String,
    },
    AbortVersion {
        from: String,
    },
    /// A tombstone if there is no `node`.
    Restore {
        oid: Oid,
        #[serde(flatten, serialize_with = "record")]
        node: Option<Node>,
        version: String,
        source: Option<Tid>,
        #[serde(rename = "under")]
        base: Option<Tid>,
    },
}

/// A node as other programs get it: its record, and its blob if one comes with it.
#[derive(Serialize)]
struct Sent {
    data: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blob: Option<Data>,
}

impl Sent {
    fn new(node: &Option<Node>) -> Sent {
        let node = node.as_ref();
        Sent { data: node.map(Node::encode).map(Data), blob: node.and_then(Node::blob).map(Data) }
    }
}

fn record<S: Serializer>(node: &Option<Node>, to: S) -> Result<S::Ok, S::Error> {
    Sent::new(node).serialize(to)
}

fn record_or_empty<S: Serializer>(node: &Option<Node>, to: S) -> Result<S::Ok, S::Error> {
    let Sent { data, blob } = Sent::new(node);
    Sent { data: data.or_else(|| Some(Data(Bytes::new()))), blob }.serialize(to)
}

/// Bytes, printed in hex.
pub(crate) struct Hex<'a>(pub &'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// The transaction can be finished.
    Voted {
        /// The stored objects of which a merged record will be written, in order.
        resolved: Vec<Oid>,
    },
    /// The transaction is finished.
    Finished {
        /// Its tid.
        tid: Tid,
    },
    /// Another transaction is between vote and finish, and holds something that this one needs. It may try again later.
    Busy,
    /// It was packed.
    Packed {
        /// References to objects that are nowhere, in order; none if the storage does not say.
        dangling: Option<Vec<(Oid, Oid)>>,
    },
    /// A rule forbids it. A transaction is aborted by that.
    Refused {
        /// Which one.
        #[serde(flatten)]
        why: Refusal,
    },
    /// Something that no rule knows.
    Failed {
        /// The storage's message.
        message: String,
    },
}

/// Which rule forbids it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the rules say what they mean")]
pub enum Refusal {
    Key {
        oid: Oid,
    },
    Conflict {
        oid: Oid,
        committed: Tid,
        serial: Tid,
    },
    ReadConflict {
        oid: Oid,
        committed: Tid,
        serial: Tid,
    },
    VersionLock {
        oid: Oid,
    },
    VersionEnd,
    NotUndoable {
        tid: Tid,
    },
    /// In order.
    UndoConflict {
        oids: Vec<Oid>,
    },
    Empty {
        oid: Oid,
    },
    TooLong,
    NotLater,
    ReadOnly,
    Untold {
        oid: Oid,
    },
    Dangling {
        references: Vec<(Oid, Oid)>,
    },
}

/// A record, as a storage gives it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Data(pub Bytes);

impl std::fmt::Display for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Node::decode(&self.0) {
            Some(node) if node.beside == Beside::Nothing => write!(f, "[{node}]"),
            // Whether the blob is there, the record does not say.
            Some(node) => write!(f, "[{} of a blob]", Node { beside: Beside::Nothing, ..node }),
            None => write!(f, "[not a record of the harness: {}]", Hex(&self.0)),
        }
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&Hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(from)?;
        let digits = text.as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> =
            digits.chunks(2).map(|pair| if pair.len() == 2 { byte(pair) } else { None }).collect();
        bytes.map(|bytes| Data(bytes.into())).ok_or_else(|| serde::de::Error::custom("a record is not in hex"))
    }
}
