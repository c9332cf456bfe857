//! Values as keys, equal where Python's are.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::btree::order;
use crate::value::{Reference, Value};

/// A key of a mapping. `1`, `1.0` and `True` are one key, as in Python, and so are a text and an equal `str` of Python
/// 2. Objects within the record are equal if they are made from equal parts.
#[derive(Debug, Clone)]
pub struct Key(pub Value);

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        Part(&self.0) == Part(&other.0)
    }
}

/// A float that is not a number equals nothing, so it is found under no key; the map does not need more.
impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Part(&self.0).hash(state);
    }
}

impl<T: Into<Value>> From<T> for Key {
    fn from(value: T) -> Key {
        Key(value.into())
    }
}

/// A key, or a part of one.
struct Part<'v>(&'v Value);

impl Part<'_> {
    /// Whether it is a number.
    fn is_number(&self) -> bool {
        matches!(self.0, Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_))
    }
}

impl Eq for Part<'_> {}

impl PartialEq for Part<'_> {
    fn eq(&self, other: &Self) -> bool {
        if let (Some(one), Some(two)) = (self.0.as_text(), other.0.as_text()) {
            return one == two;
        }
        match (self.0, other.0) {
            (Value::Int(one), Value::Int(two)) => one == two,
            _ if self.is_number() && other.is_number() => order::order(self.0, other.0) == Some(Ordering::Equal),
            (Value::Tuple(one), Value::Tuple(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| Part(one) == Part(two))
            }
            (Value::FrozenSet(one), Value::FrozenSet(two)) => distinct(one) == distinct(two),
            (Value::Reference(Reference { to: one, .. }), Value::Reference(Reference { to: two, .. })) => one == two,
            (one, two) => one == two,
        }
    }
}

impl Hash for Part<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(text) = self.0.as_text() {
            return text.hash(state);
        }
        match self.0 {
            Value::Bool(value) => i64::from(*value).hash(state),
            Value::Int(number) => number.hash(state),
            Value::BigInt(bytes) => float_of(bytes).to_bits().hash(state),
            // Every float in this range is exactly a number of 64 bits, if it is a whole number.
            Value::Float(number) if number.fract() == 0.0 && in_64_bits(*number) => (*number as i64).hash(state),
            Value::Float(number) => number.to_bits().hash(state),
            Value::Bytes(bytes) | Value::Native(bytes) | Value::OddText(bytes) => bytes.hash(state),
            // In any order.
            Value::FrozenSet(items) => {
                let alone = |item: &Part<'_>| {
                    let mut hasher = DefaultHasher::new();
                    item.hash(&mut hasher);
                    hasher.finish()
                };
                distinct(items).iter().map(alone).fold(0, u64::wrapping_add).hash(state);
            }
            Value::Reference(reference) => reference.to.slot().hash(state),
            Value::Class(class) => class.hash(state),
            other => {
                other.kind().hash(state);
                other.parts(&mut |part| Part(part).hash(state));
            }
        }
    }
}

/// The items of a set.
fn distinct(items: &[Value]) -> HashSet<Part<'_>> {
    items.iter().map(Part).collect()
}

/// Whether a whole number fits 64 bits.
fn in_64_bits(number: f64) -> bool {
    (-(2_f64.powi(63))..2_f64.powi(63)).contains(&number)
}

/// The float of a whole number in little-endian two's complement. A number that equals a float gives that one.
fn float_of(bytes: &[u8]) -> f64 {
    let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let digit = |byte: &u8| f64::from(if is_negative { !byte } else { *byte });
    let size = bytes.iter().rev().fold(0.0, |number, byte| number * 256.0 + digit(byte));
    if is_negative { -size - 1.0 } else { size }
}
