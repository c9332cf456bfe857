//! Writing plain values.
//!
//! The pickles are those that ZODB's pickler writes at protocol 3 without a memo, byte for byte, so that a file which
//! we write cannot be told from one that ZODB wrote.

use bytes::Bytes;

use crate::opcode as op;
use crate::value::{Class, Value};

/// Where a pickle is written to.
pub trait Sink {
    /// Appends one byte.
    fn push(&mut self, byte: u8);

    /// Appends these bytes.
    fn extend_from_slice(&mut self, bytes: &[u8]);

    /// Appends bytes that may be kept instead of being copied.
    fn share(&mut self, bytes: &Bytes) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for Vec<u8> {
    fn push(&mut self, byte: u8) {
        self.push(byte);
    }

    fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Lists and dicts are filled in batches of so many items, so that the reader's stack stays small.
pub(crate) const BATCH: usize = 1000;

/// The pickle of a value.
///
/// ```
/// use vellum_pickle::{Value, encode};
///
/// assert_eq!(encode(&Value::Tuple(vec![Value::Int(1), Value::None])), b"\x80\x03K\x01N\x86.");
/// ```
///
/// # Panics
///
/// When a string or number in it is longer than 4 GiB: protocol 3 cannot write it.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(value, &mut out);
    out
}

/// Appends the pickle of a value to `out`.
///
/// # Panics
///
/// As [`encode`].
pub fn encode_into(value: &Value, out: &mut impl Sink) {
    out.extend_from_slice(&[op::PROTO, 3]);
    write_whole(value, out);
    out.push(op::STOP);
}

/// Writes the opcodes that make a value, without the frame of a pickle.
pub(crate) fn write_whole(value: &Value, out: &mut impl Sink) {
    let mut work = vec![Work::Value(value)];
    while let Some(next) = work.pop() {
        match next {
            Work::Opcode(code) => out.push(code),
            Work::Value(value) => write(value, out, &mut work),
            Work::Items(items) => {
                let (batch, rest) = items.split_at(items.len().min(BATCH));
                out.push(op::MARK);
                if !rest.is_empty() {
                    work.push(Work::Items(rest));
                }
                work.push(Work::Opcode(op::APPENDS));
                work.extend(batch.iter().rev().map(Work::Value));
            }
            Work::Pairs(pairs) => {
                let (batch, rest) = pairs.split_at(pairs.len().min(BATCH));
                out.push(op::MARK);
                if !rest.is_empty() {
                    work.push(Work::Pairs(rest));
                }
                work.push(Work::Opcode(op::SETITEMS));
                work.extend(batch.iter().rev().flat_map(|(key, value)| [Work::Value(value), Work::Value(key)]));
            }
        }
    }
}

/// The work that is left to write.
enum Work<'v> {
    Value(&'v Value),
    Opcode(u8),
    Items(&'v [Value]),
    Pairs(&'v [(Value, Value)]),
}

/// Writes a value; of one with parts, writes the beginning and leaves the rest as work.
fn write<'v>(value: &'v Value, out: &mut impl Sink, work: &mut Vec<Work<'v>>) {
    match value {
        Value::None => out.push(op::NONE),
        Value::Bool(value) => out.push(if *value { op::NEWTRUE } else { op::NEWFALSE }),
        Value::Int(number) => write_int(*number, out),
        Value::BigInt(bytes) => write_long(bytes, out),
        Value::Float(number) => {
            out.push(op::BINFLOAT);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Bytes(bytes) => {
            match u8::try_from(bytes.len()) {
                Ok(length) => out.extend_from_slice(&[op::SHORT_BINBYTES, length]),
                Err(_) => write_length(op::BINBYTES, bytes.len(), out),
            }
            out.share(bytes);
        }
        Value::Text(text) => {
            write_length(op::BINUNICODE, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Tuple(items) => write_tuple(items, out, work),
        Value::List(items) => {
            out.push(op::EMPTY_LIST);
            match items.as_slice() {
                [] => {}
                [only] => work.extend([Work::Opcode(op::APPEND), Work::Value(only)]),
                items => work.push(Work::Items(items)),
            }
        }
        Value::Dict(pairs) => {
            out.push(op::EMPTY_DICT);
            match pairs.as_slice() {
                [] => {}
                [(key, value)] => work.extend([Work::Opcode(op::SETITEM), Work::Value(value), Work::Value(key)]),
                pairs => work.push(Work::Pairs(pairs)),
            }
        }
        Value::Class(class) => write_class(class, out),
        Value::Object(object) => {
            write_class(&object.class, out);
            if let Some(state) = &object.state {
                work.extend([Work::Opcode(op::BUILD), Work::Value(state)]);
            }
            work.push(Work::Opcode(op::REDUCE));
            write_tuple(&object.arguments, out, work);
        }
    }
}

fn write_class(class: &Class, out: &mut impl Sink) {
    out.push(op::GLOBAL);
    for line in [&class.module, &class.name] {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
}

fn write_tuple<'v>(items: &'v [Value], out: &mut impl Sink, work: &mut Vec<Work<'v>>) {
    work.push(Work::Opcode(match items.len() {
        0 => op::EMPTY_TUPLE,
        1 => op::TUPLE1,
        2 => op::TUPLE2,
        3 => op::TUPLE3,
        _ => {
            out.push(op::MARK);
            op::TUPLE
        }
    }));
    work.extend(items.iter().rev().map(Work::Value));
}

pub(crate) fn write_int(number: i64, out: &mut impl Sink) {
    if let Ok(number) = u8::try_from(number) {
        out.extend_from_slice(&[op::BININT1, number]);
    } else if let Ok(number) = u16::try_from(number) {
        out.push(op::BININT2);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(op::BININT);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        write_long(&number.to_le_bytes(), out);
    }
}

/// Writes a number in two's complement, without the bytes that only repeat its sign.
pub(crate) fn write_long(bytes: &[u8], out: &mut impl Sink) {
    let bytes = crate::decode::shortest(bytes);
    match u8::try_from(bytes.len()) {
        Ok(length) => out.extend_from_slice(&[op::LONG1, length]),
        Err(_) => write_length(op::LONG4, bytes.len(), out),
    }
    out.extend_from_slice(bytes);
}

pub(crate) fn write_length(code: u8, length: usize, out: &mut impl Sink) {
    assert!(u32::try_from(length).is_ok(), "protocol 3 cannot write {length} bytes in one piece");
    out.push(code);
    out.extend_from_slice(&(length as u32).to_le_bytes());
}
