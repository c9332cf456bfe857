//! MessagePack, as Python's `msgpack` writes and reads it for ZEO: arrays are tuples, `bin` is bytes, `str` is text,
//! keys of maps are bytes or text, and there are no extension types.
//!
//! The reader keeps the open arrays and maps in a list of its own, so that the depth of a message takes no stack.

use bytes::Bytes;
use rmp::Marker;
use vellum_pickle::{Sink, Value};

use crate::codec::{DecodeError, Unwritable};

/// The deepest nesting that is read, so that values can be dropped and compared by recursion. As for pickles.
const DEPTH_MAX: usize = 64;

/// Reads one value that fills the frame.
pub(crate) fn decode(frame: &Bytes, parts_max: usize) -> Result<Value, DecodeError> {
    let mut reader = Reader { frame, at: 0, parts_left: parts_max };
    reader.value().map_err(|problem| DecodeError::Msgpack { offset: reader.at, problem })
}

struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
    parts_left: usize,
}

/// An array or map of which not all is read.
enum Open {
    Array { items: Vec<Value>, left: usize },
    Map { pairs: Vec<(Value, Value)>, key: Option<Value>, left: usize },
}

impl Open {
    fn push(&mut self, value: Value) -> Result<(), &'static str> {
        match self {
            Open::Array { items, left } => {
                items.push(value);
                *left -= 1;
            }
            Open::Map { pairs, key, left } => match (key.take(), value) {
                (Some(key), value) => {
                    pairs.push((key, value));
                    *left -= 1;
                }
                (None, value @ (Value::Bytes(_) | Value::Text(_))) => *key = Some(value),
                (None, _) => return Err("a map has a key that is neither bytes nor text"),
            },
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        matches!(self, Open::Array { left: 0, .. } | Open::Map { left: 0, .. })
    }

    fn into_value(self) -> Value {
        match self {
            Open::Array { items, .. } => Value::Tuple(items),
            Open::Map { pairs, .. } => Value::Dict(pairs),
        }
    }
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Value, &'static str> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            self.parts_left = self.parts_left.checked_sub(1).ok_or("it has more values than are allowed")?;
            let mut value = match self.begin()? {
                Begun::Value(value) => value,
                Begun::Open(container) if container.is_full() => container.into_value(),
                Begun::Open(container) => {
                    if open.len() == DEPTH_MAX {
                        return Err("it is nested too deeply");
                    }
                    open.push(container);
                    continue;
                }
            };
            loop {
                let Some(container) = open.last_mut() else {
                    return if self.at == self.frame.len() { Ok(value) } else { Err("something follows its value") };
                };
                container.push(value)?;
                match open.pop_if(|container| container.is_full()) {
                    Some(full) => value = full.into_value(),
                    None => break,
                }
            }
        }
    }

    fn begin(&mut self) -> Result<Begun, &'static str> {
        let marker = Marker::from_u8(self.number::<1>()?[0]);
        Ok(Begun::Value(match marker {
            Marker::Null => Value::None,
            Marker::True => Value::Bool(true),
            Marker::False => Value::Bool(false),
            Marker::FixPos(number) => Value::Int(number.into()),
            Marker::FixNeg(number) => Value::Int(number.into()),
            Marker::U8 => Value::Int(u8::from_be_bytes(self.number()?).into()),
            Marker::U16 => Value::Int(u16::from_be_bytes(self.number()?).into()),
            Marker::U32 => Value::Int(u32::from_be_bytes(self.number()?).into()),
            Marker::U64 => match u64::from_be_bytes(self.number()?) {
                number if number <= i64::MAX as u64 => Value::Int(number as i64),
                number => Value::BigInt([&number.to_le_bytes()[..], &[0]].concat()),
            },
            Marker::I8 => Value::Int(i8::from_be_bytes(self.number()?).into()),
            Marker::I16 => Value::Int(i16::from_be_bytes(self.number()?).into()),
            Marker::I32 => Value::Int(i32::from_be_bytes(self.number()?).into()),
            Marker::I64 => Value::Int(i64::from_be_bytes(self.number()?)),
            Marker::F32 => Value::Float(f32::from_be_bytes(self.number()?).into()),
            Marker::F64 => Value::Float(f64::from_be_bytes(self.number()?)),
            Marker::FixStr(length) => self.text(length.into())?,
            Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let length = self.length(marker, [Marker::Str8, Marker::Str16])?;
                self.text(length)?
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let length = self.length(marker, [Marker::Bin8, Marker::Bin16])?;
                Value::Bytes(self.bytes(length)?)
            }
            Marker::FixArray(length) => return self.array(length.into()),
            Marker::Array16 => {
                let length = u16::from_be_bytes(self.number()?);
                return self.array(length.into());
            }
            Marker::Array32 => {
                let length = u32::from_be_bytes(self.number()?);
                return self.array(length as usize);
            }
            Marker::FixMap(length) => return self.map(length.into()),
            Marker::Map16 => {
                let length = u16::from_be_bytes(self.number()?);
                return self.map(length.into());
            }
            Marker::Map32 => {
                let length = u32::from_be_bytes(self.number()?);
                return self.map(length as usize);
            }
            _ => return Err("it has an extension type"),
        }))
    }

    /// Each item takes a byte at least. So a length that does not fit is an error before anything is kept for it.
    fn array(&mut self, length: usize) -> Result<Begun, &'static str> {
        if length > self.frame.len() - self.at {
            return unfit();
        }
        Ok(Begun::Open(Open::Array { items: Vec::new(), left: length }))
    }

    fn map(&mut self, length: usize) -> Result<Begun, &'static str> {
        if length > (self.frame.len() - self.at) / 2 {
            return unfit();
        }
        Ok(Begun::Open(Open::Map { pairs: Vec::new(), key: None, left: length }))
    }

    fn text(&mut self, length: usize) -> Result<Value, &'static str> {
        let bytes = self.bytes(length)?;
        std::str::from_utf8(&bytes)
            .map(|text| Value::Text(text.to_owned()))
            .map_err(|_| "it has text that is not UTF-8")
    }

    fn length(&mut self, marker: Marker, [one, two]: [Marker; 2]) -> Result<usize, &'static str> {
        Ok(if marker == one {
            u8::from_be_bytes(self.number()?).into()
        } else if marker == two {
            u16::from_be_bytes(self.number()?).into()
        } else {
            u32::from_be_bytes(self.number()?) as usize
        })
    }

    fn bytes(&mut self, length: usize) -> Result<Bytes, &'static str> {
        if length > self.frame.len() - self.at {
            return unfit();
        }
        self.at += length;
        Ok(self.frame.slice(self.at - length..self.at))
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        match self.frame[self.at..].first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => unfit(),
        }
    }
}

enum Begun {
    Value(Value),
    Open(Open),
}

fn unfit<T>() -> Result<T, &'static str> {
    Err("the frame ends before it")
}

/// Writes one value in its shortest form.
pub(crate) fn encode(value: &Value, sink: &mut impl Sink) -> Result<(), Unwritable> {
    let mut work = vec![value];
    while let Some(next) = work.pop() {
        write(next, sink, &mut work)?;
    }
    Ok(())
}

fn write<'v>(value: &'v Value, sink: &mut impl Sink, work: &mut Vec<&'v Value>) -> Result<(), Unwritable> {
    match value {
        Value::None => mark(Marker::Null, &[], sink),
        Value::Bool(true) => mark(Marker::True, &[], sink),
        Value::Bool(false) => mark(Marker::False, &[], sink),
        Value::Int(number) => write_int(*number, sink),
        Value::BigInt(bytes) => match bytes.as_slice() {
            [number @ .., 0] if number.len() == 8 => {
                let big_endian: Vec<u8> = number.iter().rev().copied().collect();
                mark(Marker::U64, &big_endian, sink);
            }
            _ => return Err(Unwritable("a number that does not fit 64 bits")),
        },
        Value::Float(number) => mark(Marker::F64, &number.to_be_bytes(), sink),
        Value::Bytes(bytes) => {
            let length = length(bytes.len())?;
            match length {
                0..=0xff => mark(Marker::Bin8, &[length as u8], sink),
                0x100..=0xffff => mark(Marker::Bin16, &(length as u16).to_be_bytes(), sink),
                _ => mark(Marker::Bin32, &length.to_be_bytes(), sink),
            }
            sink.share(bytes);
        }
        Value::Text(text) => write_text(text, sink)?,
        Value::Tuple(items) | Value::List(items) => {
            write_array(items.len(), sink)?;
            work.extend(items.iter().rev());
        }
        Value::Dict(pairs) => {
            let length = length(pairs.len())?;
            match length {
                0..=15 => mark(Marker::FixMap(length as u8), &[], sink),
                16..=0xffff => mark(Marker::Map16, &(length as u16).to_be_bytes(), sink),
                _ => mark(Marker::Map32, &length.to_be_bytes(), sink),
            }
            work.extend(pairs.iter().rev().flat_map(|(key, value)| [value, key]));
        }
        Value::Class(_) | Value::Object(_) => return Err(Unwritable("a class or an object")),
    }
    Ok(())
}

fn write_int(number: i64, sink: &mut impl Sink) {
    match number {
        0..=0x7f => mark(Marker::FixPos(number as u8), &[], sink),
        0x80..=0xff => mark(Marker::U8, &[number as u8], sink),
        0x100..=0xffff => mark(Marker::U16, &(number as u16).to_be_bytes(), sink),
        0x1_0000..=0xffff_ffff => mark(Marker::U32, &(number as u32).to_be_bytes(), sink),
        0x1_0000_0000.. => mark(Marker::U64, &number.to_be_bytes(), sink),
        -0x20..=-1 => mark(Marker::FixNeg(number as i8), &[], sink),
        -0x80..-0x20 => mark(Marker::I8, &(number as i8).to_be_bytes(), sink),
        -0x8000..-0x80 => mark(Marker::I16, &(number as i16).to_be_bytes(), sink),
        -0x8000_0000..-0x8000 => mark(Marker::I32, &(number as i32).to_be_bytes(), sink),
        _ => mark(Marker::I64, &number.to_be_bytes(), sink),
    }
}

fn write_text(text: &str, sink: &mut impl Sink) -> Result<(), Unwritable> {
    let length = length(text.len())?;
    match length {
        0..=31 => mark(Marker::FixStr(length as u8), &[], sink),
        32..=0xff => mark(Marker::Str8, &[length as u8], sink),
        0x100..=0xffff => mark(Marker::Str16, &(length as u16).to_be_bytes(), sink),
        _ => mark(Marker::Str32, &length.to_be_bytes(), sink),
    }
    sink.extend_from_slice(text.as_bytes());
    Ok(())
}

fn write_array(length: usize, sink: &mut impl Sink) -> Result<(), Unwritable> {
    let length = self::length(length)?;
    match length {
        0..=15 => mark(Marker::FixArray(length as u8), &[], sink),
        16..=0xffff => mark(Marker::Array16, &(length as u16).to_be_bytes(), sink),
        _ => mark(Marker::Array32, &length.to_be_bytes(), sink),
    }
    Ok(())
}

fn mark(marker: Marker, rest: &[u8], sink: &mut impl Sink) {
    sink.push(marker.to_u8());
    sink.extend_from_slice(rest);
}

fn length(length: usize) -> Result<u32, Unwritable> {
    u32::try_from(length).map_err(|_| Unwritable("a value of 4 GiB or more"))
}
