//! A value of any record: what Python's classes hold, with references to other objects.

use vellum_pickle::ClassName;
use vellum_storage::Oid;

use crate::Ref;
use crate::generic::Generic;
use crate::handle::RawRef;

/// A value in the state of an object. Nothing in it is ever run.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number that fits 64 bits.
    Int(i64),
    /// A whole number that does not: little-endian, in two's complement.
    BigInt(Box<[u8]>),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text(Box<str>),
    /// Text with single surrogates, as Python encodes it with `surrogatepass`.
    OddText(Box<[u8]>),
    /// Bytes.
    Bytes(Box<[u8]>),
    /// The `str` of Python 2.
    Native(Box<[u8]>),
    /// A bytearray.
    ByteArray(Box<[u8]>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A list.
    List(Vec<Value>),
    /// A dict, in the order in which it was written.
    Dict(Vec<(Value, Value)>),
    /// A set.
    Set(Vec<Value>),
    /// A frozen set.
    FrozenSet(Vec<Value>),
    /// A class or function.
    Class(Box<ClassName>),
    /// A reference to an object of this database.
    Reference(Reference),
    /// A weak reference, or one into another database.
    Outside(Box<Outside>),
    /// An object inside the record.
    Inside(Box<Inside>),
}

/// A reference to an object of this database, and whether it is written with the object's class.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The object.
    pub(crate) to: RawRef,
    /// The class that the record names beside the oid. The object's own may be another one by now.
    pub class: Option<Box<ClassName>>,
}

impl Reference {
    /// The object.
    pub fn object(&self) -> Ref<Generic> {
        Ref::from_raw(self.to.clone())
    }
}

/// A reference that keeps no object.
#[derive(Debug, Clone, PartialEq)]
pub enum Outside {
    /// A weak reference.
    Weak {
        /// The object.
        oid: Oid,
        /// Its database, if the reference names one.
        database: Option<String>,
    },
    /// A reference into another database.
    Foreign {
        /// The other database's name.
        database: String,
        /// The object.
        oid: Oid,
        /// Its class, if the reference names it.
        class: Option<ClassName>,
    },
}

/// An object inside a record, as its pickle makes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Inside {
    /// Whether the class makes it by `__new__`. Otherwise the class or function is called.
    pub is_new: bool,
    /// The class or function.
    pub class: Value,
    /// The arguments.
    pub arguments: Value,
    /// The keyword arguments.
    pub keywords: Option<Value>,
    /// The states that are set.
    pub states: Vec<Value>,
    /// The items that are appended.
    pub items: Vec<Value>,
    /// The keys that are set, with their values.
    pub pairs: Vec<(Value, Value)>,
}

/// A record as values.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The first pickle: a class, or a tuple of the class and arguments.
    pub class: Value,
    /// The second pickle.
    pub state: Value,
    /// The protocol of the record: 3, or an older one.
    pub protocol: u8,
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<Box<str>>) -> Value {
        Value::Text(text.into())
    }

    /// A reference to an object, written with the class that the heap knows of it.
    pub fn reference<T>(to: &Ref<T>) -> Value {
        Value::Reference(Reference { class: to.raw().class().map(Box::new), to: to.raw().clone() })
    }

    /// A class.
    pub fn class(module: &str, name: &str) -> Value {
        Value::Class(Box::new(ClassName { module: module.to_owned(), name: name.to_owned() }))
    }

    /// The text, if it is text. The `str` of Python 2 is text if it is ASCII.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Native(bytes) if bytes.is_ascii() => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The object, if it is a reference to one of this database.
    pub fn as_reference(&self) -> Option<Ref<Generic>> {
        match self {
            Value::Reference(reference) => Some(reference.object()),
            _ => None,
        }
    }

    /// The kind of value, in Python's words.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::BigInt(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) | Value::OddText(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::Native(_) => "str of Python 2",
            Value::ByteArray(_) => "bytearray",
            Value::Tuple(_) => "tuple",
            Value::List(_) => "list",
            Value::Dict(_) => "dict",
            Value::Set(_) => "set",
            Value::FrozenSet(_) => "frozenset",
            Value::Class(_) => "class",
            Value::Reference(_) => "reference",
            Value::Outside(_) => "weak or foreign reference",
            Value::Inside(_) => "object inside the record",
        }
    }

    /// Gives `visit` each value that this one is made of. All functions that go down recurse: values are at most
    /// [`DEPTH_MAX`](crate::DEPTH_MAX) deep when they come from a record.
    pub(crate) fn parts(&self, visit: &mut dyn FnMut(&Value)) {
        match self {
            Value::Tuple(items) | Value::List(items) | Value::Set(items) | Value::FrozenSet(items) => {
                items.iter().for_each(visit);
            }
            Value::Dict(pairs) => pairs.iter().for_each(|(key, value)| {
                visit(key);
                visit(value);
            }),
            Value::Inside(inside) => {
                let Inside { class, arguments, keywords, states, items, pairs, .. } = &**inside;
                [class, arguments].into_iter().chain(keywords).chain(states).chain(items).for_each(&mut *visit);
                pairs.iter().for_each(|(key, value)| {
                    visit(key);
                    visit(value);
                });
            }
            _ => {}
        }
    }

    /// Gives `visit` each reference to an object of this database.
    pub fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        match self {
            Value::Reference(reference) => visit(&reference.to),
            value => value.parts(&mut |part| part.trace(visit)),
        }
    }

    /// Bytes that it takes beside its own size.
    pub fn bytes(&self) -> usize {
        let mut bytes = match self {
            Value::BigInt(bytes) | Value::OddText(bytes) | Value::Bytes(bytes) => bytes.len(),
            Value::Native(bytes) | Value::ByteArray(bytes) => bytes.len(),
            Value::Text(text) => text.len(),
            Value::Class(class) => size_of::<ClassName>() + class.module.len() + class.name.len(),
            Value::Reference(Reference { class: Some(class), .. }) => {
                size_of::<ClassName>() + class.module.len() + class.name.len()
            }
            Value::Outside(_) => size_of::<Outside>(),
            Value::Inside(_) => size_of::<Inside>(),
            _ => 0,
        };
        self.parts(&mut |part| bytes += size_of::<Value>() + part.bytes());
        bytes
    }
}
