//! `persistent.mapping.PersistentMapping`: a dict as an object.

use indexmap::IndexMap;

use crate::Persistent;
use crate::database::MAPPING;
use crate::error::Trouble;
use crate::handle::RawRef;
use crate::key::Key;
use crate::object::Kept;
use crate::state::{Attributes, attributes_of, record_of};
use crate::value::{Record, Value};

/// A mapping as Python's class of this name stores it. It keeps the order in which keys were added.
#[derive(Debug, Clone, Default)]
pub struct PersistentMapping {
    entries: IndexMap<Key, Value>,
}

impl PersistentMapping {
    /// The value of a key.
    pub fn get(&self, key: impl Into<Value>) -> Option<&Value> {
        self.entries.get(&Key(key.into()))
    }

    /// The value of a key, to change it.
    pub fn get_mut(&mut self, key: impl Into<Value>) -> Option<&mut Value> {
        self.entries.get_mut(&Key(key.into()))
    }

    /// Sets the value of a key, and returns the old one. A key that is here keeps its place.
    pub fn insert(&mut self, key: impl Into<Value>, value: impl Into<Value>) -> Option<Value> {
        self.entries.insert(Key(key.into()), value.into())
    }

    /// Removes a key. The order of the others stays, so this takes time in proportion to their number.
    pub fn remove(&mut self, key: impl Into<Value>) -> Option<Value> {
        self.entries.shift_remove(&Key(key.into()))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values, in the order in which the keys were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Value, &Value)> {
        self.entries.iter().map(|(key, value)| (&key.0, value))
    }
}

impl Persistent for PersistentMapping {
    const CLASS: (&'static str, &'static str) = MAPPING;

    fn load(record: Record) -> Result<(Self, Option<Box<Kept>>), Trouble> {
        let Attributes { mut named, mut kept } = attributes_of(record, Self::CLASS)?;
        // The name before ZODB 3.4.
        let data = named.take("data").or_else(|| named.take("_container"));
        let entries = match data {
            Some(Value::Dict(pairs)) => pairs.into_iter().map(|(key, value)| (Key(key), value)).collect(),
            None => IndexMap::new(),
            Some(other) => return Err(Trouble::Field { field: "data", expected: "dict", found: other.kind() }),
        };
        kept.attributes = named.rest();
        Ok((PersistentMapping { entries }, kept.boxed()))
    }

    fn save(&self, kept: Option<&Kept>) -> Record {
        let pairs = self.entries.iter().map(|(key, value)| (key.0.clone(), value.clone())).collect();
        record_of(Self::CLASS, vec![("data", Value::Dict(pairs))], kept)
    }

    fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        for (key, value) in &self.entries {
            key.0.trace(visit);
            value.trace(visit);
        }
    }

    fn bytes(&self) -> usize {
        let entry = size_of::<usize>() + 2 * size_of::<Value>() + size_of::<usize>();
        let parts = self.entries.iter().map(|(key, value)| key.0.bytes() + value.bytes()).sum::<usize>();
        self.entries.capacity() * entry + parts
    }
}
