//! Extensions of the protocol for fetching ahead (part 9 of the rules).
//!
//! ```text
//!   get_info ─▶ {..., "vellum": ("loadMany", "prefetch")}      other servers have no such methods
//!
//!   vellum.loadMany([oid, ...], before)
//!       ◀─ [(data, tid, next), None, False, ...]      as loadBefore answers; False: a key error
//!
//!   vellum.prefetch([oid, ...], before, depth, count, bytes)
//!       ◀─ vellum.prefetched(id of the call, [oid, data, tid, next, oid, data, ...])      one-way, some of them
//!       ◀─ the answer: how many there were
//! ```

use bytes::Bytes;
use vellum_pickle::Value;
use vellum_storage::{LoadedAt, Oid, Tid};

use crate::arguments::{bytes, oid, tid};
use crate::call::eight;

/// The key of `get_info` under which a server names its extensions.
pub const EXTENSIONS: &str = "vellum";

pub(crate) const LOAD_MANY: &str = "vellum.loadMany";
pub(crate) const PREFETCH: &str = "vellum.prefetch";
pub(crate) const PREFETCHED: &str = "vellum.prefetched";

/// An extension of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extension {
    /// Many loads in one call: rule 9.2.
    LoadMany,
    /// Revisions that come ahead of their loads: rule 9.3.
    Prefetch,
    /// Work in versions: rules 2.1, 2.10, 2.11, 3.1 and 3.5 to 3.7.
    Versions,
}

impl Extension {
    /// All that there are.
    pub const ALL: [Extension; 3] = [Extension::LoadMany, Extension::Prefetch, Extension::Versions];

    /// Its name in `get_info`.
    pub fn name(self) -> &'static str {
        match self {
            Extension::LoadMany => "loadMany",
            Extension::Prefetch => "prefetch",
            Extension::Versions => "versions",
        }
    }

    /// The extension of this name.
    pub fn named(name: &str) -> Option<Extension> {
        Extension::ALL.into_iter().find(|extension| extension.name() == name)
    }
}

/// Where a prefetch ends: rule 9.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reach {
    /// References between the first objects and the last.
    pub depth: u32,
    /// Revisions.
    pub count: u32,
    /// Bytes of all records together.
    pub bytes: u64,
}

/// The answer for one object of many.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// Its revision.
    Revision(LoadedAt),
    /// It was not there yet.
    NotYet,
    /// It is unknown, or was deleted: Python's `POSKeyError`.
    NoObject,
}

impl Found {
    /// As a server sends it.
    pub fn into_value(self) -> Value {
        match self {
            Found::Revision(LoadedAt { data, tid, next }) => {
                Value::Tuple(vec![Value::Bytes(data), eight(tid), next.map_or(Value::None, eight)])
            }
            Found::NotYet => Value::None,
            Found::NoObject => Value::Bool(false),
        }
    }

    /// Reads one; none if it has another shape.
    pub fn read(value: Value) -> Option<Found> {
        match value {
            Value::None => Some(Found::NotYet),
            Value::Bool(false) => Some(Found::NoObject),
            Value::Tuple(parts) | Value::List(parts) => {
                let [data, since, next] = <[Value; 3]>::try_from(parts).ok()?;
                Some(Found::Revision(LoadedAt { data: bytes(data)?, tid: tid(&since)?, next: optional(&next)? }))
            }
            _ => None,
        }
    }
}

/// A revision that comes ahead of its load.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ahead {
    /// The object.
    pub oid: Oid,
    /// Its revision.
    pub revision: LoadedAt,
}

fn optional(value: &Value) -> Option<Option<Tid>> {
    match value {
        Value::None => Some(None),
        value => tid(value).map(Some),
    }
}

pub(crate) fn list(revisions: Vec<Ahead>) -> Value {
    let mut parts = Vec::with_capacity(4 * revisions.len());
    for Ahead { oid, revision: LoadedAt { data, tid, next } } in revisions {
        parts.extend([eight(oid), Value::Bytes(data), eight(tid), next.map_or(Value::None, eight)]);
    }
    Value::List(parts)
}

pub(crate) fn read_list(value: Value) -> Option<Vec<Ahead>> {
    let (Value::Tuple(parts) | Value::List(parts)) = value else { return None };
    if !parts.len().is_multiple_of(4) {
        return None;
    }
    let mut revisions = Vec::with_capacity(parts.len() / 4);
    let mut parts = parts.into_iter();
    while let Some(object) = parts.next() {
        let data: Bytes = bytes(parts.next()?)?;
        let revision = LoadedAt { data, tid: tid(&parts.next()?)?, next: optional(&parts.next()?)? };
        revisions.push(Ahead { oid: oid(&object)?, revision });
    }
    Some(revisions)
}
