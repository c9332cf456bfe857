//! A storage's errors, as the exceptions that Python's clients know.

use vellum_pickle::class_of;
use vellum_storage::{Change, Error, Oid, Refusal, Tid, WhyNot};
use vellum_wire::{Fault, NotUndone, Value};

use crate::answers::eight;

/// The exception for an error.
pub(crate) fn fault(error: Error) -> Fault {
    match error {
        Error::KeyError { oid, .. } | Error::Refused(Refusal::UnknownObject { oid }) => Fault::NoObject { oid },
        Error::Refused(Refusal::Conflict { oid, committed, serial }) => {
            Fault::Conflict { oid, committed, serial, class: None }
        }
        Error::Refused(Refusal::ReadConflict { oid, committed, serial }) => {
            Fault::ReadConflict { oid, committed, serial }
        }
        Error::Refused(Refusal::NotUndoable { .. }) => {
            Fault::Undo(NotUndone { oid: None, reason: "Invalid transaction id".to_owned() })
        }
        Error::Refused(Refusal::UndoConflict { objects }) => Fault::UndoOfObjects(
            objects
                .into_iter()
                .map(|not| NotUndone { oid: Some(not.oid), reason: reason(not.why).to_owned() })
                .collect(),
        ),
        Error::Refused(Refusal::VersionLock { oid, version }) => Fault::VersionLock { oid, version },
        Error::Refused(Refusal::VersionEnd { version }) => Fault::VersionEnd { version },
        Error::ReadOnly { .. } => Fault::ReadOnly,
        other => Fault::text("ZODB.POSException.StorageError", other.to_string()),
    }
}

/// The fault for a request of a blob: a missing one is a missing key, with object and revision.
pub(crate) fn of_blob(error: Error, oid: Oid, serial: Tid) -> Fault {
    let why = match error {
        Error::KeyError { .. } | Error::NoBlob { .. } => "No blob file".to_owned(),
        Error::Blob(why) => why.to_string(),
        other => return fault(other),
    };
    let payload = Value::Tuple(vec![Value::Text(why), eight(oid), eight(serial)]);
    Fault::Other { class: "ZODB.POSException.POSKeyError".to_owned(), payload }
}

/// The fault that a vote's error gives a client. In a conflict, the class of the object is that of the client's record.
pub(crate) fn of_vote(error: Error, changes: &[Change]) -> Fault {
    match fault(error) {
        Fault::Conflict { oid, committed, serial, .. } => {
            Fault::Conflict { oid, committed, serial, class: class(oid, changes) }
        }
        other => other,
    }
}

fn class(oid: Oid, changes: &[Change]) -> Option<String> {
    let data = changes.iter().find_map(|change| match change {
        Change::Store { oid: stored, data, .. } if *stored == oid => data.bytes().ok(),
        _ => None,
    })?;
    let class = class_of(&data).ok()?;
    Some(format!("{}.{}", class.module, class.name))
}

/// ZODB's words, which applications may look for.
fn reason(why: WhyNot) -> &'static str {
    match why {
        WhyNot::CreatedAndChanged => "Can't undo an add transaction followed by conflicting transactions.",
        WhyNot::PastForgotten | WhyNot::OtherVersion | WhyNot::ChangedOrDeleted | WhyNot::NotMerged => {
            "Some data were modified by a later transaction"
        }
    }
}
