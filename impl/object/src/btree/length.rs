//! `BTrees.Length`: a number whose concurrent changes are added.

use crate::Persistent;
use crate::error::Trouble;
use crate::handle::RawRef;
use crate::object::Kept;
use crate::value::{Record, Value};

use super::family::is_class;
use super::leaf::{kept, record};

/// A number beside a tree, the count of its keys for instance. If two transactions change it at the same time, the
/// storage adds both changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Length {
    value: Value,
}

impl Length {
    /// A length with this value.
    pub fn new(value: i64) -> Length {
        Length { value: Value::Int(value) }
    }

    /// The value, if it is a whole number of 64 bits.
    pub fn value(&self) -> Option<i64> {
        match self.value {
            Value::Int(number) => Some(number),
            Value::Bool(value) => Some(i64::from(value)),
            _ => None,
        }
    }

    /// The value as it is stored. Python's class takes any number.
    pub fn stored(&self) -> &Value {
        &self.value
    }

    /// Replaces the value.
    pub fn set(&mut self, value: i64) {
        self.value = Value::Int(value);
    }

    /// Adds to the value. Returns the sum, or none if it is no whole number of 64 bits; it then stays as it was.
    pub fn add(&mut self, delta: i64) -> Option<i64> {
        let sum = self.value()?.checked_add(delta)?;
        self.set(sum);
        Some(sum)
    }
}

impl Default for Length {
    fn default() -> Self {
        Length::new(0)
    }
}

impl Persistent for Length {
    const CLASS: (&'static str, &'static str) = ("BTrees.Length", "Length");

    fn accepts(class: &vellum_pickle::ClassName) -> bool {
        is_class(class, Self::CLASS)
    }

    fn load(found: Record) -> Result<(Self, Option<Box<Kept>>), Trouble> {
        let Record { class, state, protocol } = found;
        match state {
            Value::Int(_) | Value::BigInt(_) | Value::Float(_) | Value::Bool(_) => {
                Ok((Length { value: state }, kept(class, protocol, Self::CLASS)))
            }
            other => Err(Trouble::Shape { expected: "a number", found: other.kind() }),
        }
    }

    fn save(&self, kept: Option<&Kept>) -> Record {
        record(self.value.clone(), kept, Self::CLASS)
    }

    fn trace(&self, _: &mut dyn FnMut(&RawRef)) {}

    fn bytes(&self) -> usize {
        self.value.bytes()
    }
}
