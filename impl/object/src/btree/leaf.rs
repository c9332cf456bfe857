//! Leaves: `Bucket` and `Set`.
//!
//! ```text
//!   bucket     ((key, value, key, value, ...), next)     next only if there is a next leaf
//!   set        ((key, key, ...), next)
//! ```

use std::cmp::Ordering;
use std::fmt;

use vellum_pickle::ClassName;

use super::content::{Content, Key};
use super::family::{Shape, class_name, is_class};
use super::link::Link;
use crate::Persistent;
use crate::encode::Writer;
use crate::error::Trouble;
use crate::handle::RawRef;
use crate::object::Kept;
use crate::value::{Record, Value};

/// Sorted keys, with values if the shape has them: an object of its own, or a part of a tree.
pub struct Leaf<S: Shape> {
    keys: Vec<S::Key>,
    values: Vec<S::Value>,
    pub(super) next: Option<Link>,
    /// Whether two neighbours have no order. Then keys can be listed, and not found.
    is_unordered: bool,
    /// Bytes of the keys and values beside their places, so that no change has to count all of them.
    content: usize,
}

impl<S: Shape> Leaf<S> {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys, in their order.
    pub fn keys(&self) -> &[S::Key] {
        &self.keys
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> &[S::Value] {
        &self.values
    }

    /// Keys and values, in their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&S::Key, &S::Value)> {
        self.keys.iter().zip(&self.values)
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// The key has no order with those that are here.
    pub fn get(&self, key: &S::Key) -> Result<Option<&S::Value>, Trouble> {
        Ok(self.find(key)?.ok().map(|at| &self.values[at]))
    }

    /// Gives a key a value, and returns the old one. A key that is here stays as it is.
    ///
    /// # Errors
    ///
    /// The key has no order, or none with those that are here.
    pub fn put(&mut self, key: S::Key, value: S::Value) -> Result<Option<S::Value>, Trouble> {
        key.check()?;
        match self.find(&key)? {
            Ok(at) => Ok(Some(self.replace_at(at, value))),
            Err(at) => {
                self.insert_at(at, key, value);
                Ok(None)
            }
        }
    }

    /// Removes a key, and returns its value.
    ///
    /// # Errors
    ///
    /// The key has no order with those that are here.
    pub fn remove(&mut self, key: &S::Key) -> Result<Option<S::Value>, Trouble> {
        Ok(self.find(key)?.ok().map(|at| self.remove_at(at)))
    }

    /// The place of a key, or the place where it would be.
    pub(super) fn find(&self, key: &S::Key) -> Result<Result<usize, usize>, Trouble> {
        S::Key::search(&self.keys, key)
    }

    pub(super) fn one(key: S::Key, value: S::Value) -> Leaf<S> {
        Leaf::sorted(vec![key], vec![value])
    }

    /// Keys and values that are sorted.
    pub(super) fn sorted(keys: Vec<S::Key>, values: Vec<S::Value>) -> Leaf<S> {
        let content = content(&keys, &values);
        Leaf { keys, values, content, ..Leaf::default() }
    }

    pub(super) fn replace_at(&mut self, at: usize, value: S::Value) -> S::Value {
        self.content += value.bytes();
        let old = std::mem::replace(&mut self.values[at], value);
        self.content -= old.bytes();
        old
    }

    pub(super) fn insert_at(&mut self, at: usize, key: S::Key, value: S::Value) {
        self.content += key.bytes() + value.bytes();
        self.keys.insert(at, key);
        self.values.insert(at, value);
    }

    pub(super) fn remove_at(&mut self, at: usize) -> S::Value {
        let (key, value) = (self.keys.remove(at), self.values.remove(at));
        self.content -= key.bytes() + value.bytes();
        value
    }

    /// Splits it as the BTrees package does: the left half keeps half of the keys, rounded down. Returns the right
    /// half, which leads to the leaf after this one.
    pub(super) fn split(&mut self) -> Leaf<S> {
        let half = self.keys.len() / 2;
        let right = Leaf::sorted(self.keys.split_off(half), self.values.split_off(half));
        self.content -= right.content;
        Leaf { next: self.next.take(), is_unordered: self.is_unordered, ..right }
    }

    pub(super) fn read(state: Value) -> Result<Leaf<S>, Trouble> {
        let wrong =
            |found: &Value| Trouble::Shape { expected: "a tuple of keys and perhaps a next leaf", found: found.kind() };
        let mut parts = match state {
            Value::None => return Ok(Leaf::default()),
            Value::Tuple(parts) if matches!(parts.len(), 1 | 2) => parts.into_iter(),
            other => return Err(wrong(&other)),
        };
        let items = match parts.next() {
            Some(Value::Tuple(items)) => items,
            other => return Err(wrong(&other.unwrap_or(Value::None))),
        };
        let next = match parts.next() {
            None | Some(Value::None) => None,
            Some(next) => {
                Some(Link::read(next, Some(S::LEAF)).ok_or(Trouble::Node("its next leaf is not a reference"))?)
            }
        };
        let count = if S::IS_MAPPING { items.len() / 2 } else { items.len() };
        if S::IS_MAPPING && items.len() % 2 != 0 {
            return Err(Trouble::Node("its last key has no value"));
        }
        let (mut keys, mut values) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut items = items.into_iter();
        while let Some(key) = items.next() {
            keys.push(S::Key::read(key)?);
            values.push(S::Value::read(if S::IS_MAPPING { items.next().unwrap_or(Value::None) } else { Value::None })?);
        }
        let is_unordered = !are_sorted(&keys)?;
        Ok(Leaf { next, is_unordered, ..Leaf::sorted(keys, values) })
    }

    pub(super) fn to_value(&self) -> Value {
        let items = match S::IS_MAPPING {
            true => self.iter().flat_map(|(key, value)| [key.write(), value.write()]).collect(),
            false => self.keys.iter().map(Content::write).collect(),
        };
        let next = self.next.iter().map(|next| next.to_value(Some(S::LEAF)));
        Value::Tuple(std::iter::once(Value::Tuple(items)).chain(next).collect())
    }

    /// Writes the state, as [`Leaf::to_value`] gives it.
    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.tuple_of(1 + usize::from(self.next.is_some()), |writer| {
            let count = self.len() * if S::IS_MAPPING { 2 } else { 1 };
            writer.tuple_of(count, |writer| {
                for (key, value) in self.iter() {
                    key.write_to(writer)?;
                    if S::IS_MAPPING {
                        value.write_to(writer)?;
                    }
                }
                Ok(())
            })?;
            self.next.iter().try_for_each(|next| next.write(Some(S::LEAF), writer))
        })
    }

    pub(super) fn is_unordered(&self) -> bool {
        self.is_unordered
    }

    pub(super) fn trace_parts(&self, visit: &mut dyn FnMut(&RawRef)) {
        self.keys.iter().for_each(|key| key.trace(visit));
        self.values.iter().for_each(|value| value.trace(visit));
        self.next.iter().for_each(|next| visit(&next.to));
    }

    pub(super) fn part_bytes(&self) -> usize {
        let places = self.keys.capacity() * size_of::<S::Key>() + self.values.capacity() * size_of::<S::Value>();
        places + self.content + self.next.as_ref().map_or(0, Link::bytes)
    }
}

/// Bytes of keys and values beside their places.
fn content<K: Content, V: Content>(keys: &[K], values: &[V]) -> usize {
    keys.iter().map(Content::bytes).sum::<usize>() + values.iter().map(Content::bytes).sum::<usize>()
}

/// The order of two keys.
pub(super) fn compare<K: Key>(one: &K, other: &K) -> Result<Ordering, Trouble> {
    let kinds = || Trouble::Unordered { one: one.write().kind(), other: other.write().kind() };
    one.order(other).ok_or_else(kinds)
}

/// Whether each key is less than the next. False if some have no order.
pub(super) fn are_sorted<K: Key>(keys: &[K]) -> Result<bool, Trouble> {
    let mut all = true;
    for pair in keys.windows(2) {
        match pair[0].order(&pair[1]) {
            Some(Ordering::Less) => {}
            Some(Ordering::Equal) => return Err(Trouble::Node("it has a key twice")),
            Some(Ordering::Greater) => return Err(Trouble::Node("its keys are not sorted")),
            None => all = false,
        }
    }
    Ok(all)
}

/// The class of a record, to be kept if it says more than the name, and its protocol.
pub(super) fn kept(class: Value, protocol: u8, usual: (&str, &str)) -> Option<Box<Kept>> {
    let is_plain = matches!(&class, Value::Class(name) if (name.module.as_str(), name.name.as_str()) == usual);
    Kept { class: (!is_plain).then_some(class), attributes: Vec::new(), protocol }.boxed()
}

/// The record of a state.
pub(super) fn record(state: Value, kept: Option<&Kept>, class: (&str, &str)) -> Record {
    Record {
        class: kept.and_then(|kept| kept.class.clone()).unwrap_or_else(|| Value::class(class.0, class.1)),
        state,
        protocol: kept.map_or(3, |kept| kept.protocol),
    }
}

impl<S: Shape> Persistent for Leaf<S> {
    const CLASS: (&'static str, &'static str) = S::LEAF;

    fn accepts(class: &ClassName) -> bool {
        is_class(class, S::LEAF)
    }

    fn class(&self) -> ClassName {
        class_name(S::LEAF)
    }

    fn load(found: Record) -> Result<(Self, Option<Box<Kept>>), Trouble> {
        let Record { class, state, protocol } = found;
        Ok((Leaf::read(state)?, kept(class, protocol, S::LEAF)))
    }

    fn save(&self, kept: Option<&Kept>) -> Record {
        record(self.to_value(), kept, S::LEAF)
    }

    fn write(&self, kept: Option<&Kept>, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.record_of(S::LEAF, kept, |writer| Leaf::write(self, writer))
    }

    fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        self.trace_parts(visit);
    }

    fn bytes(&self) -> usize {
        self.part_bytes()
    }
}

impl<S: Shape> Default for Leaf<S> {
    fn default() -> Self {
        Leaf { keys: Vec::new(), values: Vec::new(), next: None, is_unordered: false, content: 0 }
    }
}

impl<S: Shape> Clone for Leaf<S> {
    fn clone(&self) -> Self {
        Leaf {
            keys: self.keys.clone(),
            values: self.values.clone(),
            next: self.next.clone(),
            is_unordered: self.is_unordered,
            content: self.content,
        }
    }
}

impl<S: Shape> fmt::Debug for Leaf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match S::IS_MAPPING {
            true => f.debug_map().entries(self.iter()).finish(),
            false => f.debug_set().entries(&self.keys).finish(),
        }
    }
}

/// Equal keys and values; the next leaf does not count.
impl<S: Shape<Key: PartialEq, Value: PartialEq>> PartialEq for Leaf<S> {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys && self.values == other.values
    }
}
