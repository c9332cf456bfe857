//! Why a transaction was not done, by the rules.

use std::fmt;

use crate::{Oid, Tid, Version};

/// Why the rules refuse a transaction. Nothing of it is there then. The type is closed: it mirrors the specification's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// A deleted or depended-on object is unknown. ZODB's `POSKeyError`.
    #[error("no object {oid}: it is unknown, or its creation was undone, or it was deleted")]
    UnknownObject {
        /// The object.
        oid: Oid,
    },

    /// A concurrent transaction changed the object. Read it again, and do the work again.
    #[error("conflict on object {oid}: it is at {committed}, but the change was made to {serial}")]
    Conflict {
        /// The object.
        oid: Oid,
        /// The tid of its newest revision ([`Tid::ZERO`]: the object is not there).
        committed: Tid,
        /// The revision that the change was made to.
        serial: Tid,
    },

    /// A concurrent transaction changed an object that this one depends on. Read it again, and do the work again.
    #[error("read conflict on object {oid}: it is at {committed}, but {serial} was read")]
    ReadConflict {
        /// The object.
        oid: Oid,
        /// The tid of its newest revision.
        committed: Tid,
        /// The revision that was read.
        serial: Tid,
    },

    /// The object's newest revision is in a version; until that is committed or aborted no change outside of it is
    /// possible.
    #[error("object {oid} is locked by the version `{version}`: commit or abort that version first")]
    VersionLock {
        /// The object.
        oid: Oid,
        /// The version that holds it.
        version: Version,
    },

    /// A version that cannot be ended.
    #[error("`{version}` cannot be committed or aborted: it is the trunk, or the version that it should go to")]
    VersionEnd {
        /// The version.
        version: Version,
    },

    /// The transaction cannot be taken back.
    #[error("transaction {tid} cannot be undone: it is not here, or not finished, or a pack took its past away")]
    NotUndoable {
        /// The transaction.
        tid: Tid,
    },

    /// Objects that the transaction changed cannot be taken back to what they were before it. Nothing was undone.
    #[error("the transaction cannot be undone, since that would undo more: {}. Undo the later transactions first, \
             or all of it in one transaction", reasons(.objects))]
    UndoConflict {
        /// Every such object.
        objects: Vec<NotUndone>,
    },

    /// A record of no bytes: in a file, that is how a shared or missing record is marked, so it cannot be kept.
    #[error("the record stored for object {oid} is empty: to delete the object, use `delete`")]
    EmptyRecord {
        /// The object.
        oid: Oid,
    },

    /// A transaction's user, description or extension, or a version's name, does not fit its two-byte length field.
    #[error("the transaction's {field} is {length} bytes long; at most 65535 fit")]
    MetadataTooLong {
        /// Which of them.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
    },

    /// The tid asked for is not after the last one.
    #[error("the tid {tid} is not later than {last}, which is already in the storage")]
    TidNotLater {
        /// The tid asked for.
        tid: Tid,
        /// The storage's last.
        last: Tid,
    },
}

/// An object that an undo cannot take back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NotUndone {
    /// The object.
    pub oid: Oid,
    /// Why not.
    pub why: WhyNot,
}

/// Why an undo cannot take an object back. Displayed, it continues after "object 17, ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhyNot {
    /// A pack forgot the revision that is to be undone.
    PastForgotten,
    /// The newest revision is in another version.
    OtherVersion,
    /// The transaction created the object, and it was changed since.
    CreatedAndChanged,
    /// One of the three revisions to be merged is a tombstone.
    ChangedOrDeleted,
    /// The resolver has no answer.
    NotMerged,
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WhyNot::PastForgotten => "with a past that is not here any more",
            WhyNot::OtherVersion => "which is in another version since",
            WhyNot::CreatedAndChanged => "which it created, and which was changed since",
            WhyNot::ChangedOrDeleted => "which was changed since, or deleted",
            WhyNot::NotMerged => "which was changed since, and the changes cannot be merged",
        })
    }
}

fn reasons(objects: &[NotUndone]) -> String {
    crate::error::shortened(objects.iter().map(|NotUndone { oid, why }| format!("object {oid}, {why}")).collect())
}
