//! The name and the arguments of a call, read by the table of the methods that there are.

use bytes::Bytes;
use vellum_pickle::Value;
use vellum_storage::{Oid, Tid};

use crate::codec::is_true;

/// Arguments that a method does not take: too many, too few, or one of another type. Python's `TypeError`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{method}() {problem}")]
pub struct BadArguments {
    method: &'static str,
    problem: String,
}

/// An invalid call.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadCall {
    /// No such method.
    #[error("there is no method {0}")]
    Unknown(String),
    /// The method does not take these arguments. The call can be answered with an error.
    #[error(transparent)]
    Arguments(#[from] BadArguments),
    /// The oid is invalid, so there is no such object: Python's `POSKeyError`. The call can be answered with it.
    #[error("there is no object of this oid: {0:?}")]
    NoObject(Value),
}

/// So many characters of an unknown name are kept for a message.
const NAME_SHOWN_MAX: usize = 40;

/// A method: its name, and how its arguments are read.
pub(crate) type Method<T> = (&'static str, fn(&mut Arguments) -> Result<T>);

/// Reads a call of one of these methods.
pub(crate) fn parse<T>(methods: &[Method<T>], name: &Value, args: Value) -> std::result::Result<T, BadCall> {
    let Value::Text(name) = name else { return Err(BadCall::Unknown("with a name that is no text".to_owned())) };
    let Some((method, read)) = methods.iter().find(|(method, _)| method == name) else {
        return Err(BadCall::Unknown(name.chars().take(NAME_SHOWN_MAX).collect()));
    };
    let mut arguments = Arguments::new(method, args)?;
    match read(&mut arguments) {
        Ok(call) => arguments.end().map(|()| call).map_err(BadCall::from),
        Err(bad) => Err(arguments.no_oid.map_or(BadCall::Arguments(bad), BadCall::NoObject)),
    }
}

/// The arguments that are still to be looked at.
pub(crate) struct Arguments {
    method: &'static str,
    items: std::vec::IntoIter<Value>,
    taken: usize,
    /// The argument in the place of an oid, if it is invalid.
    no_oid: Option<Value>,
}

type Result<T> = std::result::Result<T, BadArguments>;

impl Arguments {
    fn new(method: &'static str, args: Value) -> Result<Arguments> {
        match args {
            Value::Tuple(items) | Value::List(items) => {
                Ok(Arguments { method, items: items.into_iter(), taken: 0, no_oid: None })
            }
            _ => Err(BadArguments { method, problem: "has arguments that are no tuple".to_owned() }),
        }
    }

    /// The next argument; None if there is no more, which takes its default.
    pub fn next(&mut self) -> Option<Value> {
        self.taken += 1;
        self.items.next()
    }

    /// No argument may be left.
    fn end(self) -> Result<()> {
        match self.items.len() {
            0 => Ok(()),
            more => Err(BadArguments {
                method: self.method,
                problem: format!("takes no more arguments, but got {more} more"),
            }),
        }
    }

    pub fn value(&mut self) -> Result<Value> {
        let (method, number) = (self.method, self.taken + 1);
        let missing = || BadArguments { method, problem: format!("misses argument {number}") };
        self.next().ok_or_else(missing)
    }

    /// The next argument as what `read` makes of it.
    pub fn read<T>(&mut self, wanted: &str, read: impl FnOnce(Value) -> Option<T>) -> Result<T> {
        let value = self.value()?;
        read(value).ok_or_else(|| self.wrong(wanted))
    }

    /// The same; None if it is Python's None, or is not there.
    pub fn optional<T>(&mut self, wanted: &str, read: impl FnOnce(Value) -> Option<T>) -> Result<Option<T>> {
        match self.next() {
            None | Some(Value::None) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong(wanted)),
        }
    }

    fn wrong(&self, wanted: &str) -> BadArguments {
        BadArguments { method: self.method, problem: format!("needs {wanted} as argument {}", self.taken) }
    }

    pub fn oid(&mut self) -> Result<Oid> {
        let value = self.value()?;
        eight(&value).map(Oid).ok_or_else(|| {
            self.no_oid = Some(value);
            self.wrong("an oid of 8 bytes")
        })
    }

    pub fn oids(&mut self) -> Result<Vec<Oid>> {
        self.read("a list of oids", |value| match value {
            Value::Tuple(items) | Value::List(items) => items.iter().map(oid).collect(),
            _ => None,
        })
    }

    /// The revision that a record is made from. For a new object Python's programs also send None or text.
    pub fn serial(&mut self) -> Result<Tid> {
        self.read("a tid of 8 bytes, or None", |value| match value {
            Value::None => Some(Tid::ZERO),
            Value::Text(text) => <[u8; 8]>::try_from(text.as_bytes()).ok().map(Tid::from_bytes),
            value => tid(&value),
        })
    }

    pub fn tid(&mut self) -> Result<Tid> {
        self.read("a tid of 8 bytes", |value| tid(&value))
    }

    pub fn optional_tid(&mut self) -> Result<Option<Tid>> {
        self.optional("a tid of 8 bytes, or None", |value| tid(&value))
    }

    pub fn bytes(&mut self) -> Result<Bytes> {
        self.read("bytes", bytes)
    }

    /// Bytes, or text as UTF-8: Python's clients send either.
    pub fn bytes_or_text(&mut self) -> Result<Bytes> {
        self.read("bytes or text", |value| match value {
            Value::Text(text) => Some(text.into()),
            value => bytes(value),
        })
    }

    pub fn int(&mut self) -> Result<i64> {
        self.read("a number", |value| int(&value))
    }

    /// Whether the argument is true to Python; the default, if it is not there.
    pub fn truth_or(&mut self, default: bool) -> bool {
        self.next().map_or(default, |value| is_true(&value))
    }

    pub fn int_or(&mut self, default: i64) -> Result<i64> {
        let value = self.next();
        value.map_or(Ok(default), |value| int(&value).ok_or_else(|| self.wrong("a number")))
    }
}

pub(crate) fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

pub(crate) fn tid(value: &Value) -> Option<Tid> {
    eight(value).map(Tid)
}

pub(crate) fn oid(value: &Value) -> Option<Oid> {
    eight(value).map(Oid)
}

fn eight(value: &Value) -> Option<u64> {
    match value {
        Value::Bytes(bytes) => <[u8; 8]>::try_from(&**bytes).ok().map(u64::from_be_bytes),
        _ => None,
    }
}

/// A whole number, as Python sees it: True is 1.
pub(crate) fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Bool(value) => Some((*value).into()),
        Value::Int(number) => Some(*number),
        _ => None,
    }
}
