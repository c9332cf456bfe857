//! The types that fields of structs can have.

use vellum_pickle::{Part, View};

use crate::decode::Reader;
use crate::encode::Writer;
use crate::error::Trouble;
use crate::handle::RawRef;
use crate::value::{Outside, Value};
use crate::{Persistent, Ref, WeakRef};

/// A type for a field of a struct: an attribute of an object.
pub trait Field: Sized {
    /// The kind of value that the attribute must be, in Python's words.
    const EXPECTED: &'static str;

    /// Makes the field of the attribute's value, or returns the value, if it is of another type.
    ///
    /// # Errors
    ///
    /// The value, if it is of another type.
    fn from_value(value: Value) -> Result<Self, Value>;

    /// Makes the field of the attribute's part of a record: as [`Field::from_value`] does of its value, which need not
    /// be made for it.
    ///
    /// # Errors
    ///
    /// The part has parts that cannot be values. The inner error is the value, if it is of another type.
    fn from_part<'r>(reader: &mut Reader<'r>, part: Part<'r>) -> Result<Result<Self, Value>, Trouble> {
        Ok(Self::from_value(reader.value(part)?))
    }

    /// The field of an object that has no such attribute, if there may be one.
    fn absent() -> Option<Self> {
        None
    }

    /// The attribute's value.
    fn to_value(&self) -> Value;

    /// Writes the attribute's value, which need not be made for it.
    ///
    /// # Errors
    ///
    /// It has values that cannot be written.
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.part(&self.to_value())
    }

    /// Gives `visit` each reference to an object.
    fn trace(&self, _visit: &mut dyn FnMut(&RawRef)) {}

    /// Bytes that it takes beside its own size.
    fn bytes(&self) -> usize {
        0
    }
}

impl Field for Value {
    const EXPECTED: &'static str = "anything";

    fn from_value(value: Value) -> Result<Self, Value> {
        Ok(value)
    }

    fn to_value(&self) -> Value {
        self.clone()
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.part(self)
    }

    fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        Value::trace(self, visit);
    }

    fn bytes(&self) -> usize {
        Value::bytes(self)
    }
}

impl Field for bool {
    const EXPECTED: &'static str = "bool";

    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Bool(value) => Ok(value),
            other => Err(other),
        }
    }

    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.bool(*self);
        Ok(())
    }
}

macro_rules! whole {
    ($($type:ty),*) => {$(
        impl Field for $type {
            const EXPECTED: &'static str = concat!("int that fits ", stringify!($type));

            fn from_value(value: Value) -> Result<Self, Value> {
                match value {
                    Value::Int(number) => <$type>::try_from(number).map_err(|_| value),
                    other => Err(other),
                }
            }

            fn to_value(&self) -> Value {
                Value::Int(i64::from(*self))
            }

            fn write(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
                writer.int(i64::from(*self));
                Ok(())
            }
        }

        impl From<$type> for Value {
            fn from(number: $type) -> Value {
                Value::Int(i64::from(number))
            }
        }
    )*};
}
whole!(i8, i16, i32, i64, u8, u16, u32);

impl Field for f64 {
    const EXPECTED: &'static str = "float";

    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Float(number) => Ok(number),
            other => Err(other),
        }
    }

    fn to_value(&self) -> Value {
        Value::Float(*self)
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.float(*self);
        Ok(())
    }
}

impl Field for String {
    const EXPECTED: &'static str = "str";

    fn from_part<'r>(reader: &mut Reader<'r>, part: Part<'r>) -> Result<Result<Self, Value>, Trouble> {
        match reader.text(part)? {
            Some(text) => Ok(Ok(text)),
            None => Ok(Self::from_value(reader.value(part)?)),
        }
    }

    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Text(text) => Ok(text.into_string()),
            Value::Native(ref bytes) if bytes.is_ascii() => Ok(String::from_utf8_lossy(bytes).into_owned()),
            other => Err(other),
        }
    }

    fn to_value(&self) -> Value {
        Value::text(self.as_str())
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.text(self.as_bytes())
    }

    fn bytes(&self) -> usize {
        self.capacity()
    }
}

/// Bytes. (A `Vec<u8>` is a list of numbers.)
impl Field for Box<[u8]> {
    const EXPECTED: &'static str = "bytes";

    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Bytes(bytes) => Ok(bytes),
            other => Err(other),
        }
    }

    fn to_value(&self) -> Value {
        Value::Bytes(self.clone())
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.bytes(self)
    }

    fn bytes(&self) -> usize {
        self.len()
    }
}

/// `None`, or no attribute, is `None`.
impl<F: Field> Field for Option<F> {
    const EXPECTED: &'static str = F::EXPECTED;

    fn from_part<'r>(reader: &mut Reader<'r>, part: Part<'r>) -> Result<Result<Self, Value>, Trouble> {
        match part.view() {
            View::None => Ok(Ok(None)),
            _ => Ok(F::from_part(reader, part)?.map(Some)),
        }
    }

    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::None => Ok(None),
            value => F::from_value(value).map(Some),
        }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::None, F::to_value)
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        match self {
            Some(field) => field.write(writer),
            None => {
                writer.none();
                Ok(())
            }
        }
    }

    fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        self.iter().for_each(|field| field.trace(visit));
    }

    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, F::bytes)
    }
}

impl<F: Field> Field for Vec<F> {
    const EXPECTED: &'static str = "list whose items have one type";

    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            // The first item of another type tells what is wrong.
            Value::List(items) => items.into_iter().map(F::from_value).collect(),
            other => Err(other),
        }
    }

    fn to_value(&self) -> Value {
        Value::List(self.iter().map(F::to_value).collect())
    }

    fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        self.iter().for_each(|item| item.trace(visit));
    }

    fn bytes(&self) -> usize {
        self.capacity() * size_of::<F>() + self.iter().map(F::bytes).sum::<usize>()
    }
}

impl<T: Persistent> Field for Ref<T> {
    const EXPECTED: &'static str = "reference";

    fn from_part<'r>(reader: &mut Reader<'r>, part: Part<'r>) -> Result<Result<Self, Value>, Trouble> {
        match reader.handle(part) {
            Some(to) => Ok(Ok(Ref::from_raw(to))),
            None => Ok(Self::from_value(reader.value(part)?)),
        }
    }

    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Reference(reference) => Ok(Ref::from_raw(reference.to)),
            other => Err(other),
        }
    }

    fn to_value(&self) -> Value {
        Value::reference(self)
    }

    fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        visit(self.raw());
    }
}

impl<T: Persistent> Field for WeakRef<T> {
    const EXPECTED: &'static str = "weak reference within this database";

    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Outside(ref outside) => match **outside {
                Outside::Weak { oid, database: None } => Ok(WeakRef::to_oid(oid)),
                _ => Err(value),
            },
            other => Err(other),
        }
    }

    fn to_value(&self) -> Value {
        Value::Outside(Box::new(Outside::Weak { oid: self.oid(), database: None }))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Float(number)
    }
}

impl<T> From<&Ref<T>> for Value {
    fn from(to: &Ref<T>) -> Value {
        Value::reference(to)
    }
}

/// The field of an attribute that is there.
///
/// # Errors
///
/// The value is of another type.
pub fn present<F: Field>(field: &'static str, value: Value) -> Result<F, Trouble> {
    F::from_value(value).map_err(|value| Trouble::Field { field, expected: F::EXPECTED, found: value.kind() })
}

/// The field of an attribute that is not there.
///
/// # Errors
///
/// There must be one.
pub fn absent<F: Field>(field: &'static str) -> Result<F, Trouble> {
    F::absent().ok_or(Trouble::Field { field, expected: F::EXPECTED, found: "nothing" })
}
