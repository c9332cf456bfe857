//! An exception that answers a call.
//!
//! On the wire it is the name of its class, and its attributes as a dict, or its arguments as a tuple if it has none.
//! An exception within another is pickled as Python pickles it; msgpack has no objects, so there it is again a name and
//! attributes.

use std::fmt;

use vellum_pickle::{Class, Object, Value};
use vellum_storage::{Oid, Tid, Version};

use crate::Codec;
use crate::arguments::{bytes, oid, tid};
use crate::call::{MessageId, eight};

/// An exception, by what Python's clients make of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// `ConflictError`: a concurrent transaction changed the object.
    Conflict {
        /// The object.
        oid: Oid,
        /// The tid of its newest revision.
        committed: Tid,
        /// The revision that was changed.
        serial: Tid,
        /// The class of the object.
        class: Option<String>,
    },
    /// `ReadConflictError`: an object that the transaction depends on was changed by a concurrent transaction.
    ReadConflict {
        /// The object.
        oid: Oid,
        /// The tid of its newest revision.
        committed: Tid,
        /// The revision that was read.
        serial: Tid,
    },
    /// `POSKeyError`: there is no such object.
    NoObject {
        /// The object.
        oid: Oid,
    },
    /// `UndoError`: the transaction cannot be undone.
    Undo(NotUndone),
    /// `MultipleUndoErrors`: so are some of its objects.
    UndoOfObjects(Vec<NotUndone>),
    /// `VersionLockError`: the object's newest revision is in another version.
    VersionLock {
        /// The object.
        oid: Oid,
        /// That version.
        version: Version,
    },
    /// `VersionCommitError`: a version that cannot be ended.
    VersionEnd {
        /// The version.
        version: Version,
    },
    /// `ReadOnlyError`: the storage, or the client, only reads.
    ReadOnly,
    /// `StorageTransactionError`: the client has another transaction, or none.
    Transaction {
        /// The client's transaction.
        current: Option<MessageId>,
        /// The one that it named.
        given: MessageId,
    },
    /// Any other exception.
    Other {
        /// Its class, with its module.
        class: String,
        /// Its arguments, or its attributes as a dict.
        payload: Value,
    },
}

/// Why an undo is refused, of one object or of the whole transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotUndone {
    /// The object, if it is one's.
    pub oid: Option<Oid>,
    /// Why.
    pub reason: String,
}

const MODULE: &str = "ZODB.POSException";
const CONFLICT: &str = "database conflict error";
const READ_CONFLICT: &str = "database read conflict error";

impl Fault {
    /// An exception with one text as its argument, such as a `ValueError`.
    pub fn text(class: &str, text: impl Into<String>) -> Fault {
        Fault::Other { class: class.to_owned(), payload: Value::Tuple(vec![Value::Text(text.into())]) }
    }

    /// As it is sent: the class and what it holds.
    pub fn into_value(self, codec: Codec) -> Value {
        let posed = |name: &str, payload| (format!("{MODULE}.{name}"), payload);
        let (class, payload) = match self {
            Fault::Conflict { oid, committed, serial, class } => {
                posed("ConflictError", conflict(CONFLICT, oid, committed, serial, class))
            }
            Fault::ReadConflict { oid, committed, serial } => {
                posed("ReadConflictError", conflict(READ_CONFLICT, oid, committed, serial, None))
            }
            Fault::NoObject { oid } => posed("POSKeyError", Value::Tuple(vec![eight(oid)])),
            Fault::Undo(why) => posed("UndoError", why.attributes()),
            Fault::UndoOfObjects(objects) => {
                let errors: Vec<_> = objects.into_iter().map(|why| (why.oid(), why.into_nested(codec))).collect();
                // A program that looks for a reason and an object finds the first object, and its error.
                let (oid, error) = errors.first().cloned().unwrap_or((Value::None, Value::None));
                let errors = errors.into_iter().map(|(oid, error)| Value::Tuple(vec![oid, error])).collect();
                let pairs = vec![("_reason", oid), ("_oid", error), ("_errs", Value::List(errors))];
                posed("MultipleUndoErrors", dict(pairs))
            }
            Fault::VersionLock { oid, version } => {
                posed("VersionLockError", Value::Tuple(vec![eight(oid), name(&version)]))
            }
            Fault::VersionEnd { version } => posed("VersionCommitError", Value::Tuple(vec![name(&version)])),
            Fault::ReadOnly => posed("ReadOnlyError", Value::Tuple(vec![])),
            Fault::Transaction { current, given } => {
                let current = current.map_or(Value::None, |current| current.0);
                posed("StorageTransactionError", Value::Tuple(vec![current, given.0]))
            }
            Fault::Other { class, payload } => (class, payload),
        };
        Value::Tuple(vec![Value::Text(class), payload])
    }

    /// Reads an exception. An exception without the attributes or arguments of its class is [`Fault::Other`].
    pub fn parse(value: Value) -> Option<Fault> {
        let (Value::Tuple(parts) | Value::List(parts)) = value else { return None };
        let [Value::Text(class), payload] = <[Value; 2]>::try_from(parts).ok()? else { return None };
        let known = class.strip_prefix(MODULE).and_then(|name| Fault::known(name.trim_start_matches('.'), &payload));
        Some(known.unwrap_or(Fault::Other { class, payload }))
    }

    fn known(name: &str, payload: &Value) -> Option<Fault> {
        match name {
            "ConflictError" | "BTreesConflictError" => {
                let (oid, committed, serial) = parse_conflict(payload)?;
                let class = match attribute(payload, "class_name") {
                    Some(Value::Text(class)) => Some(class.clone()),
                    _ => None,
                };
                Some(Fault::Conflict { oid, committed, serial, class })
            }
            "ReadConflictError" => {
                let (oid, committed, serial) = parse_conflict(payload)?;
                Some(Fault::ReadConflict { oid, committed, serial })
            }
            "POSKeyError" => match items(payload)? {
                [only] => Some(Fault::NoObject { oid: oid(only)? }),
                _ => None,
            },
            "UndoError" => NotUndone::parse(payload).map(Fault::Undo),
            "MultipleUndoErrors" => {
                let errors = items(attribute(payload, "_errs")?)?.iter();
                errors
                    .map(|error| NotUndone::parse_nested(items(error)?.get(1)?))
                    .collect::<Option<_>>()
                    .map(Fault::UndoOfObjects)
            }
            "VersionLockError" => match items(payload)? {
                [object, version] => Some(Fault::VersionLock { oid: oid(object)?, version: named(version)? }),
                _ => None,
            },
            "VersionCommitError" => match items(payload)? {
                [version] => Some(Fault::VersionEnd { version: named(version)? }),
                _ => None,
            },
            "ReadOnlyError" => Some(Fault::ReadOnly),
            "StorageTransactionError" => match items(payload)? {
                [Value::None, given] => Some(Fault::Transaction { current: None, given: MessageId(given.clone()) }),
                [current, given] => Some(Fault::Transaction {
                    current: Some(MessageId(current.clone())),
                    given: MessageId(given.clone()),
                }),
                _ => None,
            },
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Conflict { oid, committed, serial, .. } => {
                write!(f, "ConflictError: object {oid} is at {committed}, and {serial} was changed")
            }
            Fault::ReadConflict { oid, committed, serial } => {
                write!(f, "ReadConflictError: object {oid} is at {committed}, and {serial} was read")
            }
            Fault::NoObject { oid } => write!(f, "POSKeyError: {oid}"),
            Fault::Undo(why) => write!(f, "UndoError: {}", why.reason),
            Fault::UndoOfObjects(objects) => write!(f, "MultipleUndoErrors: {} objects", objects.len()),
            Fault::VersionLock { oid, version } => write!(f, "VersionLockError: object {oid} is in `{version}`"),
            Fault::VersionEnd { version } => write!(f, "VersionCommitError: `{version}` cannot be ended"),
            Fault::ReadOnly => f.write_str("ReadOnlyError"),
            Fault::Transaction { current: None, .. } => {
                f.write_str("StorageTransactionError: the client has no transaction")
            }
            Fault::Transaction { .. } => f.write_str("StorageTransactionError: the client has another transaction"),
            Fault::Other { class, payload } => match payload {
                Value::Tuple(items) => match items.as_slice() {
                    [Value::Text(text)] => write!(f, "{class}: {text}"),
                    _ => f.write_str(class),
                },
                _ => f.write_str(class),
            },
        }
    }
}

impl NotUndone {
    fn oid(&self) -> Value {
        self.oid.map_or(Value::None, eight)
    }

    fn attributes(self) -> Value {
        let oid = self.oid();
        dict(vec![("_reason", Value::Text(self.reason)), ("_oid", oid)])
    }

    /// An `UndoError` within another exception.
    fn into_nested(self, codec: Codec) -> Value {
        let class = |name: &str| Class { module: MODULE.to_owned(), name: name.to_owned() };
        match codec {
            Codec::Msgpack => Value::Tuple(vec![Value::Text(format!("{MODULE}.UndoError")), self.attributes()]),
            Codec::Pickle => {
                let args = Value::Tuple(vec![Value::Text(self.reason.clone()), self.oid()]);
                let Value::Dict(mut state) = self.attributes() else { unreachable!("attributes are a dict") };
                state.push((Value::Text("args".to_owned()), args));
                let undo_error = Value::Class(Box::new(class("UndoError")));
                let arguments = vec![undo_error, Value::Dict(state)];
                Value::Object(Box::new(Object { class: class("_recon"), arguments, state: None }))
            }
        }
    }

    fn parse_nested(value: &Value) -> Option<NotUndone> {
        match value {
            Value::Object(object) => NotUndone::parse(object.arguments.get(1)?),
            value => NotUndone::parse(items(value)?.get(1)?),
        }
    }

    fn parse(attributes: &Value) -> Option<NotUndone> {
        let Some(Value::Text(reason)) = attribute(attributes, "_reason") else { return None };
        Some(NotUndone { oid: attribute(attributes, "_oid").and_then(oid), reason: reason.clone() })
    }
}

fn conflict(message: &str, oid: Oid, committed: Tid, serial: Tid, class: Option<String>) -> Value {
    dict(vec![
        ("message", Value::Text(message.to_owned())),
        ("oid", eight(oid)),
        ("class_name", class.map_or(Value::None, Value::Text)),
        ("serials", Value::Tuple(vec![eight(committed), eight(serial)])),
    ])
}

fn parse_conflict(payload: &Value) -> Option<(Oid, Tid, Tid)> {
    let oid = oid(attribute(payload, "oid")?)?;
    match items(attribute(payload, "serials")?)? {
        [committed, serial] => Some((oid, tid(committed)?, tid(serial)?)),
        _ => None,
    }
}

/// A version as an argument: its name.
fn name(version: &Version) -> Value {
    Value::Bytes(version.name().clone())
}

fn named(name: &Value) -> Option<Version> {
    bytes(name.clone()).map(Version::named)
}

fn dict(pairs: Vec<(&str, Value)>) -> Value {
    Value::Dict(pairs.into_iter().map(|(key, value)| (Value::Text(key.to_owned()), value)).collect())
}

/// The value of a dict under a key.
fn attribute<'v>(dict: &'v Value, name: &str) -> Option<&'v Value> {
    let Value::Dict(pairs) = dict else { return None };
    pairs.iter().rfind(|(key, _)| matches!(key, Value::Text(key) if key == name)).map(|(_, value)| value)
}

fn items(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Tuple(items) | Value::List(items) => Some(items),
        _ => None,
    }
}
