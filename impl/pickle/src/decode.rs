//! Reading plain values.
//!
//! A pickle can share: a list, kept in the memo, may be an item of the next list twice, that one of the next twice, and
//! thirty such steps of a few bytes each describe a value of a billion parts. A [`Value`] does not share, so it is
//! refused when it would grow out of proportion to its pickle; and a list that holds itself is refused as too deep.
//! The depth is limited, so that values can be compared, printed and dropped in the usual way, by recursion.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::{PickleError, Problem};
use crate::machine::Atom;
use crate::opcode as op;
use crate::strings;
use crate::tree::{Additions, Id, Node, Tree};
use crate::value::{Class, Object, Value};

/// The deepest nesting of tuples, lists and dicts that is read.
const DEPTH_MAX: usize = 64;

/// How many times longer than its pickle a value may be, counting every part and every byte of a string as one.
const GROWTH_MAX: usize = 16;

/// The parts and bytes that a value may have even if its pickle is tiny.
const SIZE_FREE: usize = 4096;

/// The longest decimal number that is read. Reading one takes quadratic time, which is why Python has such a limit,
/// too.
const DIGITS_MAX: usize = 640;

/// Reads one pickle from the front of `input`, and says how long it was.
///
/// Only as much as the pickle is long is looked at. Every string is copied once. The `str` of Python 2 becomes
/// [`Value::Bytes`].
///
/// ```
/// use vellum_pickle::{Value, decode_plain};
///
/// let file = b"\x80\x03M\xb9\x0a.\x80\x03N.";
/// assert_eq!(decode_plain(file)?, (Value::Int(2745), 6));
/// assert_eq!(decode_plain(&file[6..])?, (Value::None, 4));
/// # Ok::<(), vellum_pickle::PickleError>(())
/// ```
///
/// # Errors
///
/// When the pickle cannot be read; when it holds anything but plain data, such as a class or a reference; when its data
/// is nested more than 64 deep; and when it repeats its parts so often that they would take far more room than the
/// pickle does.
pub fn decode_plain(input: &[u8]) -> Result<(Value, usize), PickleError> {
    decode(Tree::of_pickle(input)?, None)
}

/// Reads a message of Python's pickle module at protocols 0 to 3: a pickle of at most `parts_max` values, which may be
/// objects as exceptions are pickled, and says how long it was.
///
/// No string is copied: all bytes in the value are parts of `input`, which they keep in memory.
///
/// # Errors
///
/// As [`decode_plain`]; more values; a newer protocol; bytes that were written for Python 2.
pub fn decode_message(input: &Bytes, parts_max: usize) -> Result<(Value, usize), PickleError> {
    if matches!(**input, [op::PROTO, protocol, ..] if protocol > 3) {
        return Err(PickleError { offset: 0, opcode: Some(op::PROTO), problem: Problem::NewProtocol });
    }
    decode(Tree::of_small_pickle(input, parts_max)?, Some(input))
}

fn decode((tree, root, length): (Tree<'_>, Id, usize), message: Option<&Bytes>) -> Result<(Value, usize), PickleError> {
    let left = length.saturating_mul(GROWTH_MAX).saturating_add(SIZE_FREE);
    match (Decoder { tree: &tree, left, message }).value(root, 0) {
        Ok(value) => Ok((value, length)),
        Err(Refused::Problem(problem)) => Err(PickleError { offset: 0, opcode: None, problem }),
        Err(Refused::TooLarge) => Err(PickleError { offset: 0, opcode: None, problem: Problem::TooLarge(length) }),
    }
}

enum Refused {
    Problem(Problem),
    TooLarge,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Refused::Problem(problem)
    }
}

struct Decoder<'t, 'a> {
    tree: &'t Tree<'a>,
    /// The input, if it is a message: then it may hold objects, and its bytes are shared.
    message: Option<&'t Bytes>,
    /// How many more parts and bytes the value may have.
    left: usize,
}

impl Decoder<'_, '_> {
    /// Recursion goes no deeper than `DEPTH_MAX`, whatever the input.
    fn value(&mut self, id: Id, depth: usize) -> Result<Value, Refused> {
        if depth > DEPTH_MAX {
            return Err(Problem::TooDeep(DEPTH_MAX).into());
        }
        self.spend(1)?;
        if self.message.is_some()
            && let &Node::Call { callable: class, arguments } | &Node::New { class, arguments, keywords: None } =
                self.tree.node(id)
        {
            return self.object(id, class, arguments, depth);
        }
        if self.tree.additions(id).is_some() {
            return Err(Problem::NotPlain("an object with a state").into());
        }
        match self.tree.node(id) {
            Node::Atom(Atom::Global(..)) if self.message.is_some() => {
                self.class(id).map(|class| Value::Class(Box::new(class)))
            }
            Node::Atom(atom) => self.atom(*atom),
            Node::Tuple(run) => self.values(self.tree.run(*run), depth).map(Value::Tuple),
            Node::List(items) => self.values(items, depth).map(Value::List),
            Node::Dict(pairs) => {
                let mut dict = Vec::new();
                for &(key, value) in pairs {
                    dict.push((self.value(key, depth + 1)?, self.value(value, depth + 1)?));
                }
                Ok(Value::Dict(dict))
            }
            Node::Encoded(_) if self.message.is_some() => {
                Err(Problem::NotPlain("bytes that were written for Python 2").into())
            }
            Node::Encoded(_) => {
                self.spend(self.tree.raw_length(id))?;
                let bytes = self.tree.bytes(id).ok_or(Problem::NotPlain("bytes that were not written as Latin-1"))?;
                Ok(Value::Bytes(Bytes::from(bytes.into_owned())))
            }
            Node::Set(_) | Node::FrozenSet(_) => Err(Problem::NotPlain("a set").into()),
            Node::StackGlobal(..) | Node::Nested(_) => Err(Problem::NotPlain("a class").into()),
            Node::Persistent { .. } | Node::PersistentLine { .. } => Err(Problem::NotPlain("a reference").into()),
            Node::Call { .. } | Node::New { .. } | Node::Instance { .. } => Err(Problem::NotPlain("an object").into()),
        }
    }

    /// An object that its class makes from arguments and, at most, one state.
    fn object(&mut self, id: Id, class: Id, arguments: Id, depth: usize) -> Result<Value, Refused> {
        let class = self.class(class)?;
        let items = self.tree.tuple_items(arguments).ok_or(Problem::NotPlain("a call without a tuple"))?;
        let mut arguments = self.values(items, depth)?;
        if class.module == "builtins" && class.name == "dict" && self.tree.additions(id).is_none() {
            // A subclass of dict that pickles itself as one.
            return arguments
                .pop()
                .filter(|_| arguments.is_empty())
                .and_then(dict)
                .ok_or(Problem::NotPlain("an invalid dict").into());
        }
        let state = match self.tree.additions(id) {
            None => None,
            Some(Additions { states, items, pairs }) => match (states.as_slice(), items.as_slice(), pairs.as_slice()) {
                (&[state], [], []) => Some(self.value(state, depth + 1)?),
                _ => return Err(Problem::NotPlain("an object with items").into()),
            },
        };
        Ok(Value::Object(Box::new(Object { class, arguments, state })))
    }

    fn class(&mut self, id: Id) -> Result<Class, Refused> {
        let class = self.tree.class(id).ok_or(Problem::NotPlain("a call of something that is no class"))?;
        let [module, name] = [class.module, class.name].map(|text| std::str::from_utf8(text).map(str::to_owned));
        let (Ok(module), Ok(name)) = (module, name) else {
            return Err(Problem::NotPlain("a class whose name is not Unicode").into());
        };
        // Protocol 3 writes a name as a line.
        if module.contains('\n') || name.contains('\n') {
            return Err(Problem::NotPlain("a class whose name has more than one line").into());
        }
        self.spend(module.len() + name.len())?;
        Ok(Class { module, name })
    }

    fn values(&mut self, items: &[Id], depth: usize) -> Result<Vec<Value>, Refused> {
        let mut values = Vec::new();
        for &item in items {
            values.push(self.value(item, depth + 1)?);
        }
        Ok(values)
    }

    fn atom(&mut self, atom: Atom) -> Result<Value, Refused> {
        Ok(match atom {
            Atom::None => Value::None,
            Atom::Bool(value) => Value::Bool(value),
            Atom::Int(number) => Value::Int(number),
            Atom::Float(number) => Value::Float(number),
            Atom::Long(span) => {
                let bytes = shortest(self.tree.raw(span));
                self.spend(bytes.len())?;
                big(bytes.to_vec())
            }
            Atom::Digits(span) => {
                let digits = self.tree.raw(span);
                // All that its place in the pickle allows, so that one long number cannot be read again and again.
                self.spend(digits.len().saturating_mul(GROWTH_MAX))?;
                big(from_decimal(digits).ok_or(Problem::NotPlain("a number of more than 640 digits"))?)
            }
            Atom::Str(kind, span) if kind.is_text() => {
                let raw = self.tree.raw(span);
                self.spend(raw.len())?;
                let text = strings::text(kind, raw).ok_or(Problem::NotPlain("text that is not Unicode"))?;
                Value::Text(text.into_owned())
            }
            Atom::Str(kind, span) => {
                let raw = self.tree.raw(span);
                self.spend(raw.len())?;
                let bytes = strings::bytes(kind, raw).ok_or(Problem::NotPlain("a string with broken quotes"))?;
                Value::Bytes(match (self.message, bytes) {
                    (Some(message), Cow::Borrowed(bytes)) => message.slice_ref(bytes),
                    (_, bytes) => Bytes::copy_from_slice(&bytes),
                })
            }
            Atom::ByteArray(_) => return Err(Problem::NotPlain("a bytearray").into()),
            Atom::Buffer => return Err(Problem::NotPlain("a buffer").into()),
            Atom::Extension(_) | Atom::Global(..) => return Err(Problem::NotPlain("a class").into()),
        })
    }

    fn spend(&mut self, size: usize) -> Result<(), Refused> {
        self.left = self.left.checked_sub(size).ok_or(Refused::TooLarge)?;
        Ok(())
    }
}

/// The dict that Python makes of a sequence of pairs.
fn dict(pairs: Value) -> Option<Value> {
    let (Value::Tuple(pairs) | Value::List(pairs)) = pairs else { return None };
    let pair = |pair| match pair {
        Value::Tuple(pair) | Value::List(pair) => <[Value; 2]>::try_from(pair).ok().map(|[key, value]| (key, value)),
        _ => None,
    };
    pairs.into_iter().map(pair).collect::<Option<_>>().map(Value::Dict)
}

/// Two's complement without the bytes at its end that only repeat the sign.
pub(crate) fn shortest(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., before, top] = bytes {
        let sign = if before & 0x80 != 0 { 0xff } else { 0 };
        if *top != sign {
            break;
        }
        bytes = &bytes[..=rest.len()];
    }
    bytes
}

/// A number in two's complement, as an `Int` if it fits.
pub(crate) fn big(bytes: Vec<u8>) -> Value {
    if bytes.len() > 8 {
        return Value::BigInt(bytes);
    }
    let sign = if bytes.last().is_some_and(|top| top & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [sign; 8];
    wide[..bytes.len()].copy_from_slice(&bytes);
    Value::Int(i64::from_le_bytes(wide))
}

/// A decimal number in two's complement, unless it has more digits than are read.
pub(crate) fn from_decimal(text: &[u8]) -> Option<Vec<u8>> {
    let negative = text.starts_with(b"-");
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    if digits.len() > DIGITS_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    for digit in digits {
        let mut carry = u16::from(digit - b'0');
        for byte in &mut bytes {
            carry += u16::from(*byte) * 10;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry > 0 {
            bytes.push(carry as u8);
        }
    }
    bytes.push(0);
    if negative {
        let mut carry = true;
        for byte in &mut bytes {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    Some(shortest(&bytes).to_vec())
}
