//! The values that answer calls, as ZEO writes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use vellum_pickle::decode_plain;
use vellum_storage::{CurrentRecord, HistoryEntry, LoadedAt, Oid, Revision, Status, Tid, TransactionRecord, UndoEntry};
use vellum_wire::{EXTENSIONS, Extension, Value};

use crate::{Description, Info};

/// An oid or tid: eight bytes.
pub(crate) fn eight(id: impl Into<u64>) -> Value {
    Value::Bytes(Bytes::copy_from_slice(&id.into().to_be_bytes()))
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(crate) fn oids(oids: impl IntoIterator<Item = Oid>) -> Value {
    Value::List(oids.into_iter().map(eight).collect())
}

/// The answer to `loadBefore`.
pub(crate) fn loaded(loaded: Option<LoadedAt>) -> Value {
    match loaded {
        None => Value::None,
        Some(LoadedAt { data, tid, next }) => {
            Value::Tuple(vec![Value::Bytes(data), eight(tid), next.map_or(Value::None, eight)])
        }
    }
}

/// The answer to `get_info`.
pub(crate) fn info(Info { length, size }: Info, description: &Description, extensions: &[Extension]) -> Value {
    let Description { location, undoes, iterates_records, interfaces, .. } = description;
    let interfaces = interfaces.iter().map(|(module, name)| Value::Tuple(vec![text(module), text(name)])).collect();
    let mut info = vec![
        (text("length"), int(length)),
        (text("size"), int(size)),
        (text("name"), text(location)),
        (text("supportsUndo"), Value::Bool(*undoes)),
        (text("supports_record_iternext"), Value::Bool(*iterates_records)),
        (text("interfaces"), Value::Tuple(interfaces)),
    ];
    if !extensions.is_empty() {
        let names = extensions.iter().map(|extension| text(extension.name())).collect();
        info.push((text(EXTENSIONS), Value::Tuple(names)));
    }
    Value::Dict(info)
}

/// A line of the answer to `undoLog`.
pub(crate) fn undo(UndoEntry { tid, user, description, extension, size }: UndoEntry) -> Value {
    let id = STANDARD.encode(tid.to_bytes());
    let mut pairs = vec![
        (text("id"), Value::Bytes(id.into())),
        (text("time"), Value::Float(seconds(tid))),
        (text("user_name"), Value::Bytes(user)),
        (text("size"), int(size)),
        (text("description"), Value::Bytes(description)),
    ];
    if let Value::Dict(more) = self::extension(&extension) {
        pairs.extend(more);
    }
    Value::Dict(pairs)
}

/// The transaction that a client names as `undoLog` named it.
pub(crate) fn undone(id: &[u8]) -> Option<Tid> {
    let id: Vec<u8> = id.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let tid = STANDARD.decode(id).ok()?;
    <[u8; 8]>::try_from(tid).ok().map(Tid::from_bytes)
}

/// A line of the answer to `history`.
pub(crate) fn history(HistoryEntry { tid, size, version, user, description, extension }: HistoryEntry) -> Value {
    // The extension first, as its words count less than those of every line.
    let Value::Dict(mut line) = self::extension(&extension) else { unreachable!("an extension is a dict") };
    let words = [
        ("time", Value::Float(seconds(tid))),
        ("user_name", Value::Bytes(user)),
        ("description", Value::Bytes(description)),
        ("tid", eight(tid)),
        ("size", int(size)),
    ];
    // As ZEO had it, when there were versions.
    let version = (!version.is_trunk()).then(|| ("version", Value::Bytes(version.name().clone())));
    for (word, value) in words.into_iter().chain(version) {
        match line.iter_mut().find(|(key, _)| *key == text(word)) {
            Some((_, there)) => *there = value,
            None => line.push((text(word), value)),
        }
    }
    Value::Dict(line)
}

/// The answer to `record_iternext`: an object, and the next one after it.
pub(crate) fn record(CurrentRecord { oid, tid, data }: CurrentRecord, next: Option<Oid>) -> Value {
    Value::Tuple(vec![eight(oid), eight(tid), Value::Bytes(data), next.map_or(Value::None, eight)])
}

/// The answer to `iterator_next`.
pub(crate) fn transaction(record: &TransactionRecord) -> Value {
    Value::Tuple(vec![
        eight(record.tid),
        Value::Text(char::from(record.status.byte()).to_string()),
        Value::Bytes(record.user.clone()),
        Value::Bytes(record.description.clone()),
        extension(&record.extension),
    ])
}

/// The answer to `iterator_record_next`.
pub(crate) fn revision(tid: Tid, Revision { oid, data, source, .. }: Revision) -> Value {
    Value::Tuple(vec![
        eight(oid),
        eight(tid),
        data.map_or(Value::None, Value::Bytes),
        source.map_or(Value::None, eight),
    ])
}

/// The same with its version, and its base there.
pub(crate) fn revision_in_version(tid: Tid, revision: Revision) -> Value {
    let version = Value::Bytes(revision.version.name().clone());
    let base = revision.base.map_or(Value::None, eight);
    let Value::Tuple(mut parts) = self::revision(tid, revision) else { unreachable!("it is a tuple") };
    parts.extend([version, base]);
    Value::Tuple(parts)
}

/// A transaction's extension as a dict; an empty one, if it cannot be read.
fn extension(pickle: &[u8]) -> Value {
    match decode_plain(pickle) {
        Ok((value @ Value::Dict(_), _)) => value,
        _ => Value::Dict(vec![]),
    }
}

/// A tid's time in seconds since 1970.
pub(crate) fn seconds(tid: Tid) -> f64 {
    tid.time().map_or(0.0, |time| time.as_nanosecond() as f64 / 1e9)
}

/// A transaction's status as a client names it.
pub(crate) fn status(status: &Value) -> Option<Status> {
    match status {
        Value::Text(status) if status == " " => Some(Status::Complete),
        Value::Text(status) if status == "p" => Some(Status::Packed),
        Value::Text(status) if status == "u" => Some(Status::Undone),
        _ => None,
    }
}
