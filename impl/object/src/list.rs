//! `persistent.list.PersistentList`: a list as an object.

use std::ops::{Deref, DerefMut};

use crate::Persistent;
use crate::error::Trouble;
use crate::handle::RawRef;
use crate::object::Kept;
use crate::state::{Attributes, attributes_of, record_of};
use crate::value::{Record, Value};

/// A list as Python's class of this name stores it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PersistentList {
    items: Vec<Value>,
}

impl Deref for PersistentList {
    type Target = Vec<Value>;

    fn deref(&self) -> &Vec<Value> {
        &self.items
    }
}

impl DerefMut for PersistentList {
    fn deref_mut(&mut self) -> &mut Vec<Value> {
        &mut self.items
    }
}

impl From<Vec<Value>> for PersistentList {
    fn from(items: Vec<Value>) -> Self {
        PersistentList { items }
    }
}

impl Persistent for PersistentList {
    const CLASS: (&'static str, &'static str) = ("persistent.list", "PersistentList");

    fn load(record: Record) -> Result<(Self, Option<Box<Kept>>), Trouble> {
        let Attributes { mut named, mut kept } = attributes_of(record, Self::CLASS)?;
        let items = match named.take("data") {
            Some(Value::List(items)) => items,
            None => Vec::new(),
            Some(other) => return Err(Trouble::Field { field: "data", expected: "list", found: other.kind() }),
        };
        kept.attributes = named.rest();
        Ok((PersistentList { items }, kept.boxed()))
    }

    fn save(&self, kept: Option<&Kept>) -> Record {
        record_of(Self::CLASS, vec![("data", Value::List(self.items.clone()))], kept)
    }

    fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        self.items.iter().for_each(|item| item.trace(visit));
    }

    fn bytes(&self) -> usize {
        self.items.capacity() * size_of::<Value>() + self.items.iter().map(Value::bytes).sum::<usize>()
    }
}
