//! Types of keys and values.

use std::cmp::Ordering;
use std::fmt;

use super::leaf::compare;
use super::order::{check, order};
use crate::encode::Writer;
use crate::error::Trouble;
use crate::handle::RawRef;
use crate::value::Value;

/// A type of keys or values.
pub trait Content: Clone + fmt::Debug + 'static {
    /// Reads it from a state.
    ///
    /// # Errors
    ///
    /// The value is of another type, or out of range.
    fn read(value: Value) -> Result<Self, Trouble>;

    /// The value in a state.
    fn write(&self) -> Value;

    /// Writes the value, which need not be made for it.
    ///
    /// # Errors
    ///
    /// It has values that cannot be written.
    fn write_to(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.part(&self.write())
    }

    /// Whether giving a key the value `new` in place of this one is no change. The BTrees package compares numbers, and
    /// takes any object for a change, even the same one.
    fn is_kept_for(&self, new: &Self) -> bool;

    /// Gives `visit` each reference to an object.
    fn trace(&self, _visit: &mut dyn FnMut(&RawRef)) {}

    /// Bytes that it takes beside its own size.
    fn bytes(&self) -> usize {
        0
    }
}

/// A type of keys.
pub trait Key: Content {
    /// The order of two keys, as Python sees it. None if Python has none, or runs code of a class to find it.
    fn order(&self, other: &Self) -> Option<Ordering>;

    /// Refuses a key that has no order.
    ///
    /// # Errors
    ///
    /// [`Trouble::Unordered`].
    fn check(&self) -> Result<(), Trouble> {
        Ok(())
    }

    /// The place of a key among sorted keys, or the place where it would be.
    ///
    /// # Errors
    ///
    /// The key has no order with one of them.
    fn search(keys: &[Self], key: &Self) -> Result<Result<usize, usize>, Trouble> {
        let (mut low, mut high) = (0, keys.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match compare(&keys[middle], key)? {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(Ok(middle)),
                Ordering::Greater => high = middle,
            }
        }
        Ok(Err(low))
    }
}

/// A whole number of any type that a B-tree can hold, `True` included.
fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Bool(value) => Some(i128::from(*value)),
        Value::Int(number) => Some(i128::from(*number)),
        Value::BigInt(bytes) if bytes.len() <= 16 => {
            let is_negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
            let mut wide = [if is_negative { 0xff } else { 0 }; 16];
            wide[..bytes.len()].copy_from_slice(bytes);
            Some(i128::from_le_bytes(wide))
        }
        _ => None,
    }
}

macro_rules! whole_numbers {
    ($($type:ty: $expected:literal),*) => { $(
        impl Content for $type {
            fn read(value: Value) -> Result<Self, Trouble> {
                let number = whole(&value).and_then(|number| <$type>::try_from(number).ok());
                number.ok_or(Trouble::Content { expected: $expected, found: value.kind() })
            }

            fn write(&self) -> Value {
                match i64::try_from(*self) {
                    Ok(number) => Value::Int(number),
                    // With a last byte for the sign.
                    Err(_) => Value::BigInt(i128::from(*self).to_le_bytes()[..9].into()),
                }
            }

            fn write_to(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
                match i64::try_from(*self) {
                    Ok(number) => {
                        writer.int(number);
                        Ok(())
                    }
                    Err(_) => writer.part(&self.write()),
                }
            }

            fn is_kept_for(&self, new: &Self) -> bool {
                self == new
            }
        }

        impl Key for $type {
            fn order(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }

            fn search(keys: &[Self], key: &Self) -> Result<Result<usize, usize>, Trouble> {
                // Without branches that the processor would have to guess.
                Ok(keys.binary_search(key))
            }
        }
    )* };
}

whole_numbers!(i32: "int of 32 bits", i64: "int of 64 bits", u32: "unsigned int of 32 bits", u64: "unsigned int of 64 bits");

impl Content for f32 {
    fn read(value: Value) -> Result<Self, Trouble> {
        match value {
            Value::Float(number) => Ok(number as f32),
            other => match whole(&other).and_then(|number| i64::try_from(number).ok()) {
                Some(number) => Ok(number as f32),
                None => Err(Trouble::Content { expected: "float", found: other.kind() }),
            },
        }
    }

    fn write(&self) -> Value {
        Value::Float(f64::from(*self))
    }

    fn is_kept_for(&self, new: &Self) -> bool {
        self == new
    }
}

/// Bytes of a fixed number, in the family `fs`.
impl<const N: usize> Content for [u8; N] {
    fn read(value: Value) -> Result<Self, Trouble> {
        let bytes: Option<[u8; N]> = match &value {
            Value::Bytes(bytes) | Value::Native(bytes) => bytes[..].try_into().ok(),
            _ => None,
        };
        bytes.ok_or(Trouble::Content { expected: "bytes of the family's length", found: value.kind() })
    }

    fn write(&self) -> Value {
        Value::Bytes(self[..].into())
    }

    fn is_kept_for(&self, _: &Self) -> bool {
        false
    }
}

impl<const N: usize> Key for [u8; N] {
    fn order(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Content for Value {
    fn read(value: Value) -> Result<Self, Trouble> {
        Ok(value)
    }

    fn write(&self) -> Value {
        self.clone()
    }

    fn write_to(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.part(self)
    }

    fn is_kept_for(&self, _: &Self) -> bool {
        false
    }

    fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        Value::trace(self, visit);
    }

    fn bytes(&self) -> usize {
        Value::bytes(self)
    }
}

impl Key for Value {
    fn order(&self, other: &Self) -> Option<Ordering> {
        order(self, other)
    }

    fn check(&self) -> Result<(), Trouble> {
        check(self)
    }
}

/// The value of a key in a set.
impl Content for () {
    fn read(_: Value) -> Result<Self, Trouble> {
        Ok(())
    }

    fn write(&self) -> Value {
        Value::None
    }

    fn is_kept_for(&self, (): &Self) -> bool {
        true
    }
}
