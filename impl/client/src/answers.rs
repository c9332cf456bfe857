//! The values that answer calls, read with suspicion.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use vellum_pickle::{Value, encode};
use vellum_storage::{
    CurrentRecord, HistoryEntry, Loaded, LoadedAt, Oid, Revision, Status, Tid, TransactionRecord, UndoEntry, Version,
};
use vellum_wire::{EXTENSIONS, Extension, Found};

use crate::ask::{Conflict, Info, Voted};

/// The fault in an answer.
pub(crate) type Wrong = &'static str;

pub(crate) type Read<T> = Result<T, Wrong>;

fn eight(value: &Value) -> Option<u64> {
    match value {
        Value::Bytes(bytes) => <[u8; 8]>::try_from(&**bytes).ok().map(u64::from_be_bytes),
        _ => None,
    }
}

pub(crate) fn tid(value: &Value) -> Read<Tid> {
    eight(value).map(Tid).ok_or("a tid has 8 bytes")
}

pub(crate) fn oid(value: &Value) -> Read<Oid> {
    eight(value).map(Oid).ok_or("an oid has 8 bytes")
}

fn optional<T>(value: &Value, read: fn(&Value) -> Read<T>) -> Read<Option<T>> {
    match value {
        Value::None => Ok(None),
        value => read(value).map(Some),
    }
}

fn items(value: Value) -> Read<Vec<Value>> {
    match value {
        Value::Tuple(items) | Value::List(items) => Ok(items),
        _ => Err("a list was to come"),
    }
}

fn parts<const N: usize>(value: Value) -> Read<[Value; N]> {
    items(value)?.try_into().map_err(|_| "a tuple has another length")
}

fn record(value: Value) -> Read<Bytes> {
    match value {
        Value::Bytes(bytes) if !bytes.is_empty() => Ok(bytes),
        Value::Bytes(_) => Err("a record is never empty"),
        _ => Err("a record is bytes"),
    }
}

pub(crate) fn data(value: Value) -> Read<Bytes> {
    record(value)
}

fn text(value: &Value) -> Read<Bytes> {
    match value {
        Value::Bytes(bytes) => Ok(bytes.clone()),
        Value::Text(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Value::None => Ok(Bytes::new()),
        _ => Err("a text was to come"),
    }
}

pub(crate) fn oids(value: Value) -> Read<Vec<Oid>> {
    items(value)?.iter().map(oid).collect()
}

/// The answer to `loadBefore`, which must be one for this moment.
pub(crate) fn loaded(value: Value, before: Tid) -> Read<Option<LoadedAt>> {
    if value == Value::None {
        return Ok(None);
    }
    let [data, since, next] = parts(value)?;
    let (data, since, next) = (record(data)?, tid(&since)?, optional(&next, tid)?);
    if since >= before || next.is_some_and(|next| next < before || next <= since) {
        return Err("a revision is of another moment than the one that was asked for");
    }
    Ok(Some(LoadedAt { data, tid: since, next }))
}

/// The answer to a load in a version.
pub(crate) fn loaded_in_version(value: Value) -> Read<Loaded> {
    let [data, of] = parts(value)?;
    Ok(Loaded { data: record(data)?, tid: tid(&of)? })
}

pub(crate) fn version(value: &Value) -> Read<Version> {
    match value {
        Value::Bytes(name) => Ok(Version::named(name.clone())),
        _ => Err("a version is the bytes of its name"),
    }
}

pub(crate) fn versions(value: Value) -> Read<Vec<Version>> {
    items(value)?.iter().map(version).collect()
}

/// The answers to many loads, which must be of this moment.
pub(crate) fn found(value: Value, before: Tid) -> Read<Vec<Found>> {
    let found = |value| match value {
        Value::Bool(false) => Ok(Found::NoObject),
        value => Ok(loaded(value, before)?.map_or(Found::NotYet, Found::Revision)),
    };
    items(value)?.into_iter().map(found).collect()
}

/// A dict whose keys are taken out one by one.
struct Dict(Vec<(Value, Value)>);

impl Dict {
    fn of(value: Value) -> Read<Dict> {
        match value {
            Value::Dict(pairs) => Ok(Dict(pairs)),
            _ => Err("a dict was to come"),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().rposition(|(key, _)| key.as_text() == Some(name))?;
        Some(self.0.remove(at).1)
    }

    fn need(&mut self, name: &str) -> Read<Value> {
        self.take(name).ok_or("a dict misses a key")
    }

    fn number(&mut self, name: &str) -> u64 {
        self.take(name).and_then(|value| value.as_int()).map_or(0, |number| number.max(0) as u64)
    }

    fn truth(&mut self, name: &str) -> bool {
        matches!(self.take(name), Some(Value::Bool(true)))
    }

    fn text(&mut self, name: &str) -> Read<Bytes> {
        text(&self.take(name).unwrap_or(Value::None))
    }

    /// The rest: a transaction's extension.
    fn rest(self) -> Bytes {
        extension(Value::Dict(self.0))
    }
}

/// A transaction's extension as a pickle; nothing, if it is empty.
fn extension(value: Value) -> Bytes {
    match value {
        Value::Dict(pairs) if pairs.is_empty() => Bytes::new(),
        value @ Value::Dict(_) => encode(&value).into(),
        Value::Bytes(pickle) => pickle,
        _ => Bytes::new(),
    }
}

/// The answer to `get_info`.
pub(crate) fn info(value: Value, is_read_only: bool) -> Read<Info> {
    let mut dict = Dict::of(value)?;
    let name = String::from_utf8_lossy(&dict.text("name")?).into_owned();
    let interfaces = dict.take("interfaces").map_or(Ok(Vec::new()), items)?;
    let names: Vec<Value> = interfaces
        .into_iter()
        .filter_map(|interface| parts(interface).ok().map(|[_, name]: [Value; 2]| name))
        .collect();
    let provides = |wanted: &[&str]| names.iter().any(|name| name.as_text().is_some_and(|name| wanted.contains(&name)));
    // A later server may offer more than this client knows.
    let extensions = dict.take(EXTENSIONS).map_or(Ok(Vec::new()), items)?;
    let extensions = extensions.iter().filter_map(|name| Extension::named(name.as_text()?)).collect();
    Ok(Info {
        name,
        length: dict.number("length"),
        size: dict.number("size"),
        undoes: dict.truth("supportsUndo"),
        iterates_records: dict.truth("supports_record_iternext"),
        restores: provides(&["IStorageRestoreable", "IBlobStorageRestoreable"]),
        keeps_blobs: provides(&["IBlobStorage", "IBlobStorageRestoreable"]),
        is_read_only,
        extensions,
    })
}

/// The answer to `history`.
pub(crate) fn history(value: Value, limit: usize) -> Read<Vec<HistoryEntry>> {
    let lines = items(value)?;
    if lines.len() > limit {
        return Err("a history is longer than it was to be");
    }
    lines.into_iter().map(history_entry).collect()
}

fn history_entry(value: Value) -> Read<HistoryEntry> {
    let mut dict = Dict::of(value)?;
    // The times say the same as the tids.
    let _ = dict.take("time");
    let version = Version::named(dict.text("version")?);
    let of = tid(&dict.need("tid")?)?;
    let size = dict.number("size");
    let (user, description) = (dict.text("user_name")?, dict.text("description")?);
    Ok(HistoryEntry { tid: of, size, version, user, description, extension: dict.rest() })
}

/// The answer to `undoLog`.
pub(crate) fn undo_log(value: Value) -> Read<Vec<UndoEntry>> {
    items(value)?.into_iter().map(undo_entry).collect()
}

fn undo_entry(value: Value) -> Read<UndoEntry> {
    let mut dict = Dict::of(value)?;
    let _ = dict.take("time");
    let name = text(&dict.need("id")?)?;
    let of = undone(&name).ok_or("a transaction that can be undone has a name in base64")?;
    let size = dict.number("size");
    let (user, description) = (dict.text("user_name")?, dict.text("description")?);
    Ok(UndoEntry { tid: of, user, description, extension: dict.rest(), size })
}

fn undone(name: &[u8]) -> Option<Tid> {
    let name: Vec<u8> = name.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let tid = STANDARD.decode(name).ok()?;
    // FileStorage's names have the position in the file behind the tid.
    tid.first_chunk().map(|tid| Tid::from_bytes(*tid))
}

/// How a transaction is named that is to be undone.
pub(crate) fn name_of(tid: Tid) -> Bytes {
    STANDARD.encode(tid.to_bytes()).into()
}

/// The answer to `record_iternext`: an object, and the next one after it.
pub(crate) fn current_record(value: Value, first: Oid) -> Read<(CurrentRecord, Option<Oid>)> {
    let [of, serial, data, next] = parts(value)?;
    let (of, next) = (oid(&of)?, optional(&next, oid)?);
    if of < first || next.is_some_and(|next| next <= of) {
        return Err("objects are not in the order of their oids");
    }
    Ok((CurrentRecord { oid: of, tid: tid(&serial)?, data: record(data)? }, next))
}

/// The answer to `iterator_next`.
pub(crate) fn transaction(value: Value) -> Read<Option<TransactionRecord>> {
    if value == Value::None {
        return Ok(None);
    }
    let [of, status, user, description, more] = parts(value)?;
    let status = match text(&status)?.first() {
        None => Some(Status::Complete),
        Some(status) => Status::from_byte(*status),
    };
    Ok(Some(TransactionRecord {
        tid: tid(&of)?,
        status: status.ok_or("a transaction's status is ' ', 'p' or 'u'")?,
        user: text(&user)?,
        description: text(&description)?,
        extension: extension(more),
        revisions: Vec::new(),
    }))
}

/// The answer to `iterator_record_next`, or to the same with the version and the base.
pub(crate) fn revision(value: Value) -> Read<Option<(Tid, Revision)>> {
    if value == Value::None {
        return Ok(None);
    }
    let mut parts = items(value)?;
    let [in_version, base] = match parts.len() {
        6 => [parts.remove(4), parts.remove(4)],
        _ => [Value::Bytes(Bytes::new()), Value::None],
    };
    let (version, base) = (version(&in_version)?, optional(&base, tid)?);
    let [of, serial, data, source]: [Value; 4] = parts.try_into().map_err(|_| "a tuple has another length")?;
    let data = match data {
        Value::None => None,
        data => Some(record(data)?),
    };
    let revision = Revision { oid: oid(&of)?, version, data, blob: None, source: optional(&source, tid)?, base };
    Ok(Some((tid(&serial)?, revision)))
}

pub(crate) fn iterator(value: Value) -> Read<i64> {
    value.as_int().ok_or("an iterator has a number")
}

/// The answer to `vote`.
pub(crate) fn voted(value: Value) -> Read<Voted> {
    let items = match value {
        Value::None => Vec::new(),
        value => items(value)?,
    };
    if items.iter().any(|item| matches!(item, Value::Dict(_))) {
        // Oids among them were merged by the server, which will say so once more at the next vote.
        let conflicts = items.into_iter().filter(|item| matches!(item, Value::Dict(_)));
        return conflicts.map(conflict).collect::<Read<_>>().map(Voted::Conflicts);
    }
    items.iter().map(oid).collect::<Read<_>>().map(Voted::Ready)
}

fn conflict(value: Value) -> Read<Conflict> {
    let mut dict = Dict::of(value)?;
    let [committed, serial] = parts(dict.need("serials")?)?;
    let of = oid(&dict.need("oid")?)?;
    Ok(Conflict { oid: of, committed: tid(&committed)?, serial: tid(&serial)?, data: record(dict.need("data")?)? })
}
