//! The errors, worded so that an operator woken at night can act on them.

use std::io;
use std::path::PathBuf;

use crate::{Oid, Refusal, Tid};

/// The result of a storage's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a storage did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object is unknown, or the requested revision is a tombstone. ZODB's `POSKeyError`.
    #[error("no object {oid}{}: it is unknown, or its creation was undone, or it was deleted",
            .tid.map(|t| format!(" at {t}")).unwrap_or_default())]
    KeyError {
        /// The object asked for.
        oid: Oid,
        /// The revision or moment asked for, if one was.
        tid: Option<Tid>,
    },

    /// The rules refuse the transaction. Nothing of it is there.
    #[error(transparent)]
    Refused(#[from] Refusal),

    /// A write to a storage that was opened for reading.
    #[error("{name} was opened read-only")]
    ReadOnly {
        /// The storage's name.
        name: String,
    },

    /// The change would make the storage larger than its quota. Nothing was written: pack, or raise the quota.
    #[error("the quota is {quota} bytes, and with this change {name} would have {needed}: pack it, or raise the quota")]
    Quota {
        /// The storage's name.
        name: String,
        /// The quota, in bytes.
        quota: u64,
        /// The size that the storage would have, in bytes.
        needed: u64,
    },

    /// A transaction that is to be committed as undone.
    #[error("a transaction cannot be committed as undone: no reader would see its changes. Leave it out")]
    CommittedAsUndone,

    /// Objects that are needed refer to others that are nowhere: the database was damaged before. Nothing was packed.
    #[error("nothing was packed, since there are references to missing objects: {}. Repair them, or tell the pack \
             to go on", pairs(.references))]
    Dangling {
        /// The referring objects, and the missing ones.
        references: Vec<(Oid, Oid)>,
    },

    /// A needed object refers into another database, and that is a reason to stop: see
    /// [`Collecting::stop_at_foreign`](crate::Collecting::stop_at_foreign). Nothing was packed.
    #[error(
        "nothing was packed, since object {oid} refers to object {to} of the database `{database}`: which objects only \
         other databases need cannot be known from this one. Collect garbage in all of them together, or pack without \
         collecting"
    )]
    Foreign {
        /// The referring object.
        oid: Oid,
        /// The other database's name.
        database: String,
        /// The object there.
        to: Oid,
    },

    /// The storage is being packed already. Nothing was done by this second pack.
    #[error("{name} is being packed already: wait until that is done")]
    Packing {
        /// The storage's name.
        name: String,
    },

    /// A compressed record whose stream cannot be read. Other objects are not affected.
    #[error(
        "the record of object {oid} cannot be read: {why}. It is in the storage as it was written, and an older \
         revision may be sound"
    )]
    Inflate {
        /// The object.
        oid: Oid,
        /// The fault.
        why: String,
    },

    /// Garbage is unknown, where a record may hide references. Nothing was packed.
    #[error(
        "nothing was packed, since it is not known which objects {oid} refers to: {why}. {} without collecting garbage",
        if *.is_encrypted { "Pack" } else { "Repair that record, or pack" }
    )]
    Unreadable {
        /// The object.
        oid: Oid,
        /// The fault of its record.
        why: String,
        /// Whether nothing is wrong with it, but only the holder of a key can read it.
        is_encrypted: bool,
    },

    /// A storage that cannot be used for the request. Nothing was changed.
    #[error("{name} cannot be used for this: {why}")]
    Unfit {
        /// The storage's name.
        name: String,
        /// The requirement that it does not meet.
        why: String,
    },

    /// A blob beside a record that is none of a blob. Nothing was changed.
    #[error(
        "a blob was stored for object {oid} beside a record of the class `{class}`: only a record of `ZODB.blob.Blob` has one"
    )]
    NotABlob {
        /// The object.
        oid: Oid,
        /// The record's class.
        class: String,
    },

    /// A revision that has no blob, or of which the blob was lost. ZODB's `POSKeyError`, too.
    #[error("object {oid} has no blob at {tid}{}", .path.as_ref().map(|path| format!(
        ": there is no file {}. If it had one, a backup of the blob folder may have it", path.display()
    )).unwrap_or_default())]
    NoBlob {
        /// The object.
        oid: Oid,
        /// The revision.
        tid: Tid,
        /// Where its file would be, if it would be in a file.
        path: Option<PathBuf>,
    },

    /// A walk over transactions sees a revision without a blob, and a pack may have removed both since.
    #[error(
        "a pack may have removed the revision of object {oid} at {tid} and its blob since this walk over the transactions \
         began. The database has lost nothing that was to be kept. Begin the walk again: a copy goes on where it is"
    )]
    BlobPacked {
        /// The object.
        oid: Oid,
        /// The revision.
        tid: Tid,
    },

    /// Trouble with the place where blobs are kept.
    #[error(transparent)]
    Blob(#[from] Box<dyn std::error::Error + Send + Sync>),

    /// A copy that should go on is no beginning of this history.
    #[error(
        "{to} is no copy of {from}, and nothing was copied: its last transaction is {tid}, and {why}. Copy into an empty \
         storage"
    )]
    NotACopy {
        /// The source's name.
        from: String,
        /// The destination's name.
        to: String,
        /// The destination's last transaction.
        tid: Tid,
        /// In what it is another one.
        why: String,
    },

    /// A copy that would go on, but not where it ended.
    #[error(
        "{to} ends with transaction {last}, and this range leaves out what came next, from {left_out} on: nothing was \
         copied"
    )]
    Gap {
        /// The destination's name.
        to: String,
        /// The destination's last transaction.
        last: Tid,
        /// The first transaction between it and the range.
        left_out: Tid,
    },

    /// A number that only grows has reached its end: oids, tids, or file positions.
    #[error("{what} are used up")]
    Exhausted {
        /// Which one.
        what: &'static str,
    },

    /// The operating system reported an error. `doing` says how the operation ended.
    #[error("{}: {doing}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operation, and the consequences.
        doing: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },

    /// Bytes that break the format.
    #[error(transparent)]
    Damaged(#[from] Box<Damage>),

    /// A storage at a server was not reached, or did not do what it was asked. The message says what is still true.
    #[error("{name}: {why}")]
    Remote {
        /// The storage's name.
        name: String,
        /// The failure, and the next step.
        why: String,
    },

    /// The connection to a server ended after the transaction was told to be finished, and before the answer came.
    #[error(
        "{name}: it is not known whether the transaction is finished ({cause}). It is whole or not at all: load one of \
         its objects to find out, and do not commit it again before that"
    )]
    OutcomeUnknown {
        /// The storage's name.
        name: String,
        /// How the connection ended.
        cause: String,
    },

    /// An earlier write failed in a way that leaves the state of the disk unknown: nothing more is written until the
    /// storage is opened again, which finds out.
    #[error(
        "{name} takes no more commits since a write failed ({cause}): open it again; what was acknowledged is safe"
    )]
    Failed {
        /// The storage's name.
        name: String,
        /// The failure.
        cause: String,
    },
}

const LISTED_MAX: usize = 10;

fn pairs(references: &[(Oid, Oid)]) -> String {
    shortened(references.iter().map(|(from, to)| format!("{from} refers to {to}")).collect())
}

pub(crate) fn shortened(mut words: Vec<String>) -> String {
    if words.len() > LISTED_MAX {
        let more = words.len() - LISTED_MAX;
        words.truncate(LISTED_MAX);
        words.push(format!("and {more} more"));
    }
    words.join(", ")
}

impl Error {
    /// For a failed call to the operating system.
    pub fn io(path: impl Into<PathBuf>, doing: impl Into<String>, source: io::Error) -> Error {
        Error::Io { path: path.into(), doing: doing.into(), source }
    }

    /// For an object that is not there.
    pub fn key(oid: Oid) -> Error {
        Error::KeyError { oid, tid: None }
    }
}

/// Bytes that break the format: where they are, and the fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}, position {position}{}{}: {what}{}", .path.display(),
        .tid.map(|t| format!(", transaction {t}")).unwrap_or_default(),
        .oid.map(|o| format!(", object {o}")).unwrap_or_default(),
        if .remedy.is_empty() { String::new() } else { format!(". {}", .remedy) })]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The position, in bytes from the start of the file, of the transaction or record that is wrong.
    pub position: u64,
    /// The transaction it is in, where that can be told.
    pub tid: Option<Tid>,
    /// The object it belongs to, where that can be told.
    pub oid: Option<Oid>,
    /// The fault.
    pub what: String,
    /// The consequences and the remedy, in whole sentences; may be empty.
    pub remedy: String,
}
