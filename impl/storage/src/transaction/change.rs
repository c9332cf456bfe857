//! The changes that a transaction holds.

use super::{Data, Refusal};
use crate::blob::other_class;
use crate::{Blob, Error, Oid, Result, Revision, Tid, Version};

/// One thing that a transaction does: a variant for each of rules 3.1 to 3.7. `judge.rs` carries them out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Changes an object, or creates it.
    Store {
        /// The object.
        oid: Oid,
        /// The revision that the change was made to; [`Tid::ZERO`] for a new object.
        serial: Tid,
        /// The version that it is done in.
        version: Version,
        /// The new record, and its blob.
        data: Data,
    },
    /// Makes an object a tombstone.
    Delete {
        /// The object.
        oid: Oid,
        /// The revision that was read.
        serial: Tid,
    },
    /// Makes the transaction depend on an object.
    CheckCurrent {
        /// The object.
        oid: Oid,
        /// The revision that it must be at.
        serial: Tid,
    },
    /// Takes back what a transaction did.
    Undo {
        /// That transaction.
        tid: Tid,
    },
    /// Moves all work of one version into another, or into the trunk.
    CommitVersion {
        /// The version that ends.
        from: Version,
        /// Where its work goes.
        to: Version,
    },
    /// Gives up all work of a version.
    AbortVersion {
        /// The version that ends.
        from: Version,
    },
    /// Writes a revision of another storage as it is there.
    Restore {
        /// The object.
        oid: Oid,
        /// The version that the revision is in.
        version: Version,
        /// The record, and its blob; none for a tombstone.
        data: Option<Data>,
        /// The transaction whose data it shares there.
        source: Option<Tid>,
        /// In a version: the transaction of its base revision there.
        base: Option<Tid>,
    },
}

static TRUNK: Version = Version::TRUNK;

impl Change {
    /// The record that it brings along.
    pub fn data(&self) -> Option<&Data> {
        match self {
            Change::Store { data, .. } => Some(data),
            Change::Restore { data, .. } => data.as_ref(),
            _ => None,
        }
    }

    pub(super) fn data_mut(&mut self) -> Option<&mut Data> {
        match self {
            Change::Store { data, .. } => Some(data),
            Change::Restore { data, .. } => data.as_mut(),
            _ => None,
        }
    }

    /// The blob that it brings along.
    pub fn blob(&self) -> Option<&Blob> {
        self.data().and_then(Data::blob)
    }

    /// Refuses changes that no storage can accept: a record without bytes, a version whose name does not fit the two
    /// bytes for its length, and a blob beside a record whose class can be read and is not a blob's.
    ///
    /// # Errors
    ///
    /// [`Refusal::EmptyRecord`], [`Refusal::MetadataTooLong`], [`Error::NotABlob`]; the draft's scratch file cannot be
    /// read.
    pub fn check(&self) -> Result<()> {
        if let (Some((oid, _)), Some(true)) = (self.target(), self.data().map(Data::is_empty)) {
            return Err(Refusal::EmptyRecord { oid }.into());
        }
        if let (Some((oid, _)), Some(data), Some(_)) = (self.target(), self.data(), self.blob())
            && let Some(class) = other_class(&data.bytes()?)
        {
            return Err(Error::NotABlob { oid, class });
        }
        let version = match self {
            Change::Store { version, .. } | Change::Restore { version, .. } => version,
            Change::CommitVersion { to, .. } => to,
            _ => return Ok(()),
        };
        match version.name().len() {
            length if length > usize::from(u16::MAX) => {
                Err(Refusal::MetadataTooLong { field: "version", length }.into())
            }
            _ => Ok(()),
        }
    }

    /// The object whose revision it writes, and the version that it writes it in, where the change alone determines
    /// both.
    pub fn target(&self) -> Option<(Oid, &Version)> {
        match self {
            Change::Store { oid, version, .. } | Change::Restore { oid, version, .. } => Some((*oid, version)),
            Change::Delete { oid, .. } => Some((*oid, &TRUNK)),
            _ => None,
        }
    }
}

impl From<Revision> for Change {
    fn from(Revision { oid, version, data, blob, source, base }: Revision) -> Change {
        let data = data.map(|data| Data::from(data).with_blob(blob));
        Change::Restore { oid, version, data, source, base }
    }
}
