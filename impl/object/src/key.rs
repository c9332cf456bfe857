//! Values as keys, equal where Python's are.

use std::hash::{Hash, Hasher};

use crate::value::Value;

/// A key of a mapping. `1`, `1.0` and `True` are one key, as in Python, and so are a text and an equal `str` of Python
/// 2.
#[derive(Debug, Clone)]
pub struct Key(pub Value);

impl Key {
    /// A whole number, if the value is equal to one that fits.
    fn whole(&self) -> Option<i64> {
        match self.0 {
            Value::Int(number) => Some(number),
            Value::Bool(value) => Some(i64::from(value)),
            // Every float in this range is exactly a number of 64 bits, if it is a whole number.
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 9.0e18 => Some(number as i64),
            _ => None,
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        if let (Some(one), Some(two)) = (self.0.as_text(), other.0.as_text()) {
            return one == two;
        }
        match (self.whole(), other.whole()) {
            (Some(one), Some(two)) => one == two,
            (None, None) => match (&self.0, &other.0) {
                (Value::Tuple(one), Value::Tuple(two)) => {
                    one.len() == two.len() && one.iter().zip(two).all(|(one, two)| Key::same(one, two))
                }
                (one, two) => one == two,
            },
            _ => false,
        }
    }
}

impl Key {
    fn same(one: &Value, two: &Value) -> bool {
        Key(one.clone()) == Key(two.clone())
    }
}

/// A float that is not a number equals nothing, so it is found under no key; the map does not need more.
impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(text) = self.0.as_text() {
            return text.hash(state);
        }
        if let Some(number) = self.whole() {
            return number.hash(state);
        }
        match &self.0 {
            Value::Bytes(bytes) | Value::Native(bytes) | Value::BigInt(bytes) | Value::OddText(bytes) => {
                bytes.hash(state);
            }
            Value::Float(number) => number.to_bits().hash(state),
            Value::Tuple(items) => items.iter().for_each(|item| Key(item.clone()).hash(state)),
            other => other.kind().hash(state),
        }
    }
}

impl<T: Into<Value>> From<T> for Key {
    fn from(value: T) -> Key {
        Key(value.into())
    }
}
