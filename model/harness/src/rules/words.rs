//! The storage's words in the specification's, and back.

use bytes::Bytes;
use vellum_spec::{self as spec, Begin, Content, Database, Status};
use vellum_storage::{
    Blob, Change, Data, Error, NotUndone, Oid, Refusal, Result, Revision, Tid, TransactionMeta, TransactionRecord,
    Version, WhyNot, Write,
};

pub(super) fn key(oid: Oid) -> impl Fn(spec::KeyError) -> Error {
    move |spec::KeyError| Error::key(oid)
}

pub(super) fn bytes(data: &[u8]) -> Bytes {
    Bytes::copy_from_slice(data)
}

pub(super) fn version(name: &str) -> Version {
    Version::named(name.to_owned())
}

pub(super) fn name(version: &Version) -> String {
    version.to_string()
}

pub(super) fn record(database: &Database, transaction: &spec::Transaction) -> TransactionRecord {
    let revision = |revision| {
        let at = spec::At { transaction, revision };
        let source = match revision.content {
            Content::Source(_) => database.holder(at).map(Tid),
            _ => None,
        };
        Revision {
            oid: Oid(revision.oid),
            version: version(&revision.version),
            data: database.data(at).map(bytes),
            blob: database.blob(at).map(|blob| bytes(blob).into()),
            source,
            base: revision.base.map(Tid),
        }
    };
    TransactionRecord {
        tid: Tid(transaction.tid),
        status: match transaction.status {
            Status::Complete => vellum_storage::Status::Complete,
            Status::Packed => vellum_storage::Status::Packed,
        },
        user: bytes(&transaction.user),
        description: bytes(&transaction.description),
        extension: bytes(&transaction.extension),
        revisions: transaction.revisions.iter().map(revision).collect(),
    }
}

/// The error of a pack that was refused.
pub(super) fn refused_pack(spec::Refused { untold, dangling }: spec::Refused) -> Error {
    match untold.first() {
        Some(&oid) => {
            let why = "it has an odd reference".to_owned();
            Error::Unreadable { oid: Oid(oid), why, is_encrypted: false }
        }
        None => Error::Dangling { references: pairs(dangling) },
    }
}

pub(super) fn pairs(dangling: spec::Dangling) -> Vec<(Oid, Oid)> {
    dangling.into_iter().map(|(from, to)| (Oid(from), Oid(to))).collect()
}

/// The blob that comes with a record.
pub(super) fn blob(data: Option<&Data>) -> Result<Option<Vec<u8>>> {
    data.and_then(Data::blob).map(|blob| blob.bytes().map(Vec::from)).transpose()
}

/// A change in the specification's words.
pub(super) fn change(change: &Change) -> Result<spec::Change> {
    Ok(match change {
        Change::Store { oid, serial, version, data } => {
            let (data, blob) = (data.bytes()?.to_vec(), blob(Some(data))?);
            spec::Change::Store { oid: oid.0, serial: serial.0, data, blob, version: name(version) }
        }
        Change::Delete { oid, serial } => spec::Change::Delete { oid: oid.0, serial: serial.0 },
        Change::CheckCurrent { oid, serial } => spec::Change::CheckCurrent { oid: oid.0, serial: serial.0 },
        Change::Undo { tid } => spec::Change::Undo { tid: tid.0 },
        Change::CommitVersion { from, to } => spec::Change::CommitVersion { from: name(from), to: name(to) },
        Change::AbortVersion { from } => spec::Change::AbortVersion { from: name(from) },
        Change::Restore { oid, version, data, source, base } => spec::Change::Restore {
            oid: oid.0,
            data: data.as_ref().map(|data| data.bytes().map(|data| data.to_vec())).transpose()?,
            blob: blob(data.as_ref())?,
            version: name(version),
            source: source.map(|tid| tid.0),
            base: base.map(|tid| tid.0),
        },
    })
}

/// Metadata in the specification's words.
pub(super) fn begin(meta: &TransactionMeta, tid: Tid, status: Status) -> Begin {
    Begin {
        tid: tid.0,
        status,
        user: meta.user.to_vec(),
        description: meta.description.to_vec(),
        extension: meta.extension.to_vec(),
    }
}

pub(super) fn refused(refusal: spec::Refusal) -> Error {
    use spec::Refusal as R;
    Error::Refused(match refusal {
        R::Key(oid) => Refusal::UnknownObject { oid: Oid(oid) },
        R::Conflict { oid, committed, serial } => {
            Refusal::Conflict { oid: Oid(oid), committed: Tid(committed), serial: Tid(serial) }
        }
        R::ReadConflict { oid, committed, serial } => {
            Refusal::ReadConflict { oid: Oid(oid), committed: Tid(committed), serial: Tid(serial) }
        }
        R::VersionLock(oid) => Refusal::VersionLock { oid: Oid(oid), version: Version::TRUNK },
        R::Version => Refusal::VersionEnd { version: Version::TRUNK },
        R::NotUndoable(tid) => Refusal::NotUndoable { tid: Tid(tid) },
        R::Undo(oids) => Refusal::UndoConflict {
            objects: oids.into_iter().map(|oid| NotUndone { oid: Oid(oid), why: WhyNot::NotMerged }).collect(),
        },
        R::Empty(oid) => Refusal::EmptyRecord { oid: Oid(oid) },
        R::TooLong => Refusal::MetadataTooLong { field: "user, description or extension", length: 0 },
        R::NotLater => Refusal::TidNotLater { tid: Tid::ZERO, last: Tid::ZERO },
    })
}

/// A revision of the specification as a verdict has it.
pub(super) fn write(revision: &spec::Revision) -> Write {
    Write {
        oid: Oid(revision.oid),
        version: version(&revision.version),
        base: revision.base.map(Tid),
        content: match &revision.content {
            Content::Data(data) => {
                let blob = revision.blob.as_deref().map(|blob| Blob::from(bytes(blob)));
                vellum_storage::Content::Data(Data::from(bytes(data)).with_blob(blob))
            }
            Content::Source(tid) => vellum_storage::Content::Shared(Tid(*tid)),
            Content::Tombstone => vellum_storage::Content::Tombstone,
        },
    }
}
