//! Plain values: what a pickle holds that asks for no class to be made.

use std::hash::{Hash, Hasher};

use bytes::Bytes;

/// A plain value.
///
/// [`decode_plain`](crate::decode_plain()) reads it, [`encode`](crate::encode()) writes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number that fits 64 bits.
    Int(i64),
    /// A whole number that does not: little-endian, in two's complement.
    BigInt(Vec<u8>),
    /// A floating-point number.
    Float(f64),
    /// Bytes; also the `str` of Python 2.
    Bytes(Bytes),
    /// Text.
    Text(String),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A list.
    List(Vec<Value>),
    /// A dict, in the order in which it was written. A key that was written twice is here twice, and the last counts.
    Dict(Vec<(Value, Value)>),
    /// A class or function, which only messages may hold.
    Class(Box<Class>),
    /// An object. [`encode`](crate::encode()) writes it; [`decode_plain`](crate::decode_plain()) never returns one.
    Object(Box<Object>),
}

/// A class or function, by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Class {
    /// Its module.
    pub module: String,
    /// Its name in the module.
    pub name: String,
}

/// The result of a call of a class or function, as an exception is pickled.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Object {
    /// The class or function.
    pub class: Class,
    /// The arguments of the call.
    pub arguments: Vec<Value>,
    /// The state that the object gets afterwards: mostly a dict of its attributes.
    pub state: Option<Value>,
}

/// Floating-point numbers count by their bits; both zeros are equal, and count as one.
impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Value::None => {}
            Value::Bool(value) => value.hash(state),
            Value::Int(number) => number.hash(state),
            Value::BigInt(bytes) => bytes.hash(state),
            Value::Float(number) => (if *number == 0.0 { 0 } else { number.to_bits() }).hash(state),
            Value::Bytes(bytes) => bytes.hash(state),
            Value::Text(text) => text.hash(state),
            Value::Tuple(items) | Value::List(items) => items.hash(state),
            Value::Dict(pairs) => pairs.hash(state),
            Value::Class(class) => class.hash(state),
            Value::Object(object) => object.hash(state),
        }
    }
}

impl Value {
    /// The number, if it is a whole one that fits.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The bytes, if it is bytes.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The text, if it is text, or bytes that are UTF-8: a `str` of Python 2 is bytes here, and means text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}
