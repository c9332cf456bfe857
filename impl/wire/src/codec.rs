//! A frame as a message, and back.

use bytes::Bytes;
use vellum_pickle::{Class, Object, PickleError, Sink, Value, decode_message, encode_into};

use crate::{Rope, msgpack};

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Python's pickles, at protocol 3.
    Pickle,
    /// MessagePack. It has no lists: a list arrives as a tuple.
    Msgpack,
}

/// One message. `id` and `flag` tell what it is:
///
/// | message | id | flag | name |
/// |---|---|---|---|
/// | call | any but -1 | false | a method |
/// | one-way call | any but -1, mostly 0 | true | a method |
/// | reply | the call's | 0 | `.reply` |
/// | error | the call's | 2 | `.reply`, with the exception |
/// | heartbeat | -1 | 0 | `.reply` |
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Message {
    /// The sender's name for a call. It may be any value; the answer has the same.
    pub id: Value,
    /// The kind of message.
    pub flag: Value,
    /// A method, or `.reply`.
    pub name: Value,
    /// The arguments, mostly a tuple; of a reply, its value.
    pub args: Value,
}

/// The limits of a message.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Values, those in values included.
    pub parts_max: usize,
}

/// A frame that holds no message. The connection cannot continue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The pickle cannot be read.
    #[error("a pickle that is no message: {0}")]
    Pickle(#[from] PickleError),
    /// The msgpack cannot be read.
    #[error("byte {offset} of msgpack that is no message: {problem}")]
    Msgpack {
        /// Where reading stopped.
        offset: usize,
        /// Why.
        problem: &'static str,
    },
    /// It is a value, but not the four parts of a message.
    #[error("a value that is no message: it has to be a tuple of id, flag, name and arguments")]
    Shape,
}

/// A value that the codec cannot write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be sent in this codec")]
pub struct Unwritable(pub &'static str);

impl Codec {
    /// Reads a message. Its bytes are parts of the frame, and not copied.
    ///
    /// # Errors
    ///
    /// The frame holds something else; or more, or more deeply nested, than a message may.
    pub fn decode(self, frame: &Bytes, limits: Limits) -> Result<Message, DecodeError> {
        let value = match self {
            Codec::Pickle => decode_message(frame, limits.parts_max)?.0,
            Codec::Msgpack => msgpack::decode(frame, limits.parts_max)?,
        };
        let (Value::Tuple(parts) | Value::List(parts)) = value else { return Err(DecodeError::Shape) };
        let [id, flag, name, args] = <[Value; 4]>::try_from(parts).map_err(|_| DecodeError::Shape)?;
        Ok(Message { id, flag, name, args })
    }

    /// Appends a message as a frame. Nothing is appended if it cannot be written.
    ///
    /// # Errors
    ///
    /// A number or string in it is too long for the codec.
    pub fn encode(self, message: Message, rope: &mut Rope) -> Result<(), Unwritable> {
        let Message { id, flag, name, args } = message;
        let value = Value::Tuple(vec![id, flag, name, args]);
        rope.frame(|rope| self.write(&value, rope))
    }

    fn write(self, value: &Value, sink: &mut impl Sink) -> Result<(), Unwritable> {
        match self {
            Codec::Pickle => {
                encode_into(value, sink);
                Ok(())
            }
            Codec::Msgpack => msgpack::encode(value, sink),
        }
    }
}

/// The name of all answers.
pub(crate) const REPLY: &str = ".reply";

/// The one class that clients may send, in what `undoInfo` looks for.
const PREFIX: (&str, &str) = ("ZopeUndo.Prefix", "Prefix");

/// A class in a value that a client may not send.
fn foreign(value: &Value) -> Option<&Class> {
    match value {
        Value::Tuple(items) | Value::List(items) => items.iter().find_map(foreign),
        Value::Dict(pairs) => pairs.iter().find_map(|(key, value)| foreign(key).or_else(|| foreign(value))),
        Value::Class(class) => Some(class),
        Value::Object(object) => {
            let Object { class, arguments, state } = &**object;
            let is_foreign = (class.module.as_str(), class.name.as_str()) != PREFIX;
            let within = || arguments.iter().chain(state).find_map(foreign);
            if is_foreign { Some(class) } else { within() }
        }
        _ => None,
    }
}

impl Message {
    /// A class that a client may not send, if there is one in the message. ZEO's server then closes the connection.
    pub fn foreign_class(&self) -> Option<&Class> {
        [&self.id, &self.flag, &self.name, &self.args].into_iter().find_map(foreign)
    }

    /// A call that is answered.
    pub fn call(id: Value, name: &str, args: Vec<Value>) -> Message {
        Message { id, flag: Value::Bool(false), name: Value::Text(name.into()), args: Value::Tuple(args) }
    }

    /// A call that is not answered.
    pub fn one_way(name: &str, args: Vec<Value>) -> Message {
        Message { id: Value::Int(0), flag: Value::Bool(true), name: Value::Text(name.into()), args: Value::Tuple(args) }
    }

    /// The answer to a call.
    pub fn reply(id: Value, value: Value) -> Message {
        Message { id, flag: Value::Int(0), name: Value::Text(REPLY.into()), args: value }
    }

    /// The exception that answers a call: see [`Fault`](crate::Fault).
    pub fn error(id: Value, fault: Value) -> Message {
        Message { id, flag: Value::Int(2), name: Value::Text(REPLY.into()), args: fault }
    }

    /// A sign of life. A server ignores it.
    pub fn heartbeat() -> Message {
        Message::reply(Value::Int(-1), Value::None)
    }

    /// Whether it is a sign of life.
    pub fn is_heartbeat(&self) -> bool {
        // To Python, -1 is -1.0.
        matches!(self.id, Value::Int(-1)) || matches!(self.id, Value::Float(id) if id == -1.0)
    }

    /// Whether the sender wants no answer: any flag that is true to Python.
    pub fn is_one_way(&self) -> bool {
        is_true(&self.flag)
    }
}

/// Whether a value is true to Python.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::None => false,
        Value::Bool(value) => *value,
        Value::Int(number) => *number != 0,
        Value::BigInt(bytes) => bytes.iter().any(|byte| *byte != 0),
        Value::Float(number) => *number != 0.0,
        Value::Bytes(bytes) => !bytes.is_empty(),
        Value::Text(text) => !text.is_empty(),
        Value::Tuple(items) | Value::List(items) => !items.is_empty(),
        Value::Dict(pairs) => !pairs.is_empty(),
        Value::Class(_) | Value::Object(_) => true,
    }
}
