//! A slow and obvious reader of pickles, to compare with the engine's.
//!
//! `vellum_pickle` finds the references of a record with tokens of twelve bytes, a fence on its stack and a memo in two
//! parts. Here the steps are Python's, as `pickletools` describes them: values in a list, a stack of stacks, a memo
//! that is a map. It uses no code of the engine, except for the table of references in `impl/pickle/src/reference.rs`.
//!
//! Both are lenient where Python is: a POP with nothing above the MARK takes the MARK; frames need not fit their
//! contents; a stack need not be empty at STOP.

use std::collections::HashMap;

/// The contents of a persistent id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An object of the same database, with the class beside it.
    Strong(u64, Option<Class>),
    /// A weak reference, and into which database.
    Weak(u64, Option<String>),
    /// An object of another database.
    Foreign(String, u64, Option<Class>),
    /// Nothing that means anything; at which byte.
    Bad(usize),
}

/// Module and name.
pub type Class = (Vec<u8>, Vec<u8>);

/// A pickle that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

type Step<T> = Result<T, Unreadable>;

/// A value, by its number in the list of all.
type Id = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    Bytes,
    /// The `str` of Python 2; and the same with quotes and escapes.
    Native,
    NativeLine,
    Text,
    TextLine,
}

#[derive(Clone, Debug)]
enum Value {
    None,
    /// As it is written.
    Str(Spelling, Vec<u8>),
    /// `_codecs.encode(text, 'latin1')`.
    Encoded(Spelling, Vec<u8>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Class(Class),
    Other,
}

/// The references of a record, in order.
pub fn references(record: &[u8]) -> Result<Vec<Found>, Unreadable> {
    let mut reader = Reader::new(record);
    reader.pickle()?;
    if reader.at == record.len() {
        return Err(Unreadable);
    }
    reader.pickle()?;
    Ok(reader.found)
}

/// The class of a record's object: what its first pickle names. None if it names none.
pub fn class_of(record: &[u8]) -> Result<Option<(String, String)>, Unreadable> {
    let mut reader = Reader::new(record);
    let root = reader.pickle()?;
    Ok(reader.class_in(root))
}

/// How many strings of Python 2 in a record are not ASCII, which Python 3 cannot decode.
pub fn native_texts(record: &[u8]) -> Result<u64, Unreadable> {
    let mut reader = Reader::new(record);
    reader.pickle()?;
    reader.pickle()?;
    Ok(reader.natives.iter().filter(|native| native.iter().any(|byte| *byte > 0x7f)).count() as u64)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    /// The values above the last MARK; below it, the values above the one before.
    stack: Vec<Id>,
    below: Vec<Vec<Id>>,
    memo: HashMap<u64, Id>,
    found: Vec<Found>,
    /// The strings of Python 2 that were met.
    natives: Vec<Vec<u8>>,
    /// The bytes of all names of classes in classes.
    nested_bytes: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Reader<'a> {
        let (values, stack, below, memo, found, natives) = Default::default();
        Reader { bytes, at: 0, values, stack, below, memo, found, natives, nested_bytes: 0 }
    }

    // The input.

    fn take(&mut self, length: u64) -> Step<&'a [u8]> {
        let left = &self.bytes[self.at..];
        let taken = usize::try_from(length).ok().and_then(|length| left.get(..length)).ok_or(Unreadable)?;
        self.at += taken.len();
        Ok(taken)
    }

    fn little_endian(&mut self, width: u64) -> Step<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    /// A length with a sign.
    fn signed_length(&mut self) -> Step<u64> {
        let length = self.little_endian(4)?;
        if length > 0x7fff_ffff { Err(Unreadable) } else { Ok(length) }
    }

    fn line(&mut self) -> Step<&'a [u8]> {
        let length = self.bytes[self.at..].iter().position(|&byte| byte == b'\n').ok_or(Unreadable)?;
        let line = self.take(length as u64)?;
        self.at += 1;
        Ok(line)
    }

    fn key_line(&mut self) -> Step<u64> {
        let line = std::str::from_utf8(self.line()?.trim_ascii()).map_err(|_| Unreadable)?;
        line.parse().map_err(|_| Unreadable)
    }

    // The stack.

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    fn pop(&mut self) -> Step<Id> {
        self.stack.pop().ok_or(Unreadable)
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().ok_or(Unreadable)
    }

    /// Takes the last MARK away, and returns the values above it.
    fn marked(&mut self) -> Step<Vec<Id>> {
        let below = self.below.pop().ok_or(Unreadable)?;
        Ok(std::mem::replace(&mut self.stack, below))
    }

    fn append(&mut self, items: &[Id]) -> Step<()> {
        let target = self.top()?;
        if let Value::List(list) = &mut self.values[target] {
            list.extend(items);
        }
        Ok(())
    }

    fn in_pairs(items: &[Id]) -> Step<()> {
        if items.len().is_multiple_of(2) { Ok(()) } else { Err(Unreadable) }
    }

    fn remember(&mut self, key: u64) -> Step<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Step<()> {
        let item = *self.memo.get(&key).ok_or(Unreadable)?;
        self.stack.push(item);
        Ok(())
    }

    /// Reads up to the STOP, and returns the resulting value.
    fn pickle(&mut self) -> Step<Id> {
        self.stack.clear();
        self.below.clear();
        loop {
            let at = self.at;
            let code = self.take(1)?[0];
            if code == b'.' {
                return self.pop();
            }
            self.opcode(at, code)?;
        }
    }

    fn opcode(&mut self, at: usize, code: u8) -> Step<()> {
        match code {
            // MARK, POP, POP_MARK, DUP
            b'(' => {
                let above = std::mem::take(&mut self.stack);
                self.below.push(above);
            }
            b'0' => match self.stack.pop() {
                Some(_) => {}
                None => drop(self.marked()?),
            },
            b'1' => drop(self.marked()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            // These are no part of any reference; they are skipped by their length.
            b'N' => self.push(Value::None),
            0x88 | 0x89 | 0x8f | 0x97 => self.push(Value::Other),
            b'K' | 0x82 => self.skip(1)?,
            b'M' | 0x83 => self.skip(2)?,
            b'J' | 0x84 => self.skip(4)?,
            b'G' => self.skip(8)?,
            0x8a => {
                let length = self.little_endian(1)?;
                self.skip(length)?;
            }
            0x8b => {
                let length = self.signed_length()?;
                self.skip(length)?;
            }
            0x96 => {
                let length = self.little_endian(8)?;
                self.skip(length)?;
            }
            b'I' | b'L' => {
                let line = self.line()?.trim_ascii();
                let line = line.strip_suffix(b"L").unwrap_or(line);
                let digits = line.strip_prefix(b"-").or(line.strip_prefix(b"+")).unwrap_or(line);
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return Err(Unreadable);
                }
                self.push(Value::Other);
            }
            b'F' => {
                let line = std::str::from_utf8(self.line()?.trim_ascii()).map_err(|_| Unreadable)?;
                line.parse::<f64>().map_err(|_| Unreadable)?;
                self.push(Value::Other);
            }
            b'S' | b'V' | b'T' | b'U' | b'X' | b'B' | b'C' | 0x8c | 0x8d | 0x8e => self.string(code)?,
            b']' | b'}' | b')' | b'l' | b'd' | b't' | 0x85..=0x87 | 0x91 | b'a' | b'e' | b's' | b'u' | 0x90 => {
                self.container(code)?;
            }
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'b' | b'i' | b'o' => self.object(code)?,
            // The memo.
            b'q' | b'h' | b'r' | b'j' | b'p' | b'g' => {
                let key = match code {
                    b'q' | b'h' => self.little_endian(1)?,
                    b'r' | b'j' => self.little_endian(4)?,
                    _ => self.key_line()?,
                };
                if matches!(code, b'q' | b'r' | b'p') { self.remember(key)? } else { self.recall(key)? }
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            // References.
            b'Q' => {
                let id = self.pop()?;
                let found = self.reference(id).unwrap_or(Found::Bad(at));
                self.found.push(found);
                self.push(Value::Other);
            }
            b'P' => {
                let line = self.line()?;
                let found = eight(line).map_or(Found::Bad(at), |oid| Found::Strong(oid, None));
                self.found.push(found);
                self.push(Value::Other);
            }
            // PROTO, FRAME, READONLY_BUFFER
            0x80 => {
                if self.little_endian(1)? > 5 {
                    return Err(Unreadable);
                }
            }
            0x95 => {
                let length = self.little_endian(8)?;
                if length > (self.bytes.len() - self.at) as u64 {
                    return Err(Unreadable);
                }
            }
            0x98 => _ = self.top()?,
            _ => return Err(Unreadable),
        }
        Ok(())
    }

    /// A value of so many bytes that are of no interest.
    fn skip(&mut self, length: u64) -> Step<()> {
        self.take(length)?;
        self.push(Value::Other);
        Ok(())
    }

    fn string(&mut self, code: u8) -> Step<()> {
        let spelling = match code {
            b'S' => Spelling::NativeLine,
            b'V' => Spelling::TextLine,
            b'T' | b'U' => Spelling::Native,
            b'X' | 0x8c | 0x8d => Spelling::Text,
            _ => Spelling::Bytes,
        };
        let raw = match code {
            b'S' | b'V' => self.line()?,
            b'T' => {
                let length = self.signed_length()?;
                self.take(length)?
            }
            _ => {
                let width = match code {
                    b'U' | b'C' | 0x8c => 1,
                    b'X' | b'B' => 4,
                    _ => 8,
                };
                let length = self.little_endian(width)?;
                self.take(length)?
            }
        };
        match spelling {
            Spelling::Native => self.natives.push(raw.to_vec()),
            Spelling::NativeLine => self.natives.extend(unquoted(raw)),
            _ => {}
        }
        self.push(Value::Str(spelling, raw.to_vec()));
        Ok(())
    }

    fn container(&mut self, code: u8) -> Step<()> {
        match code {
            b']' => self.push(Value::List(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b'}' => self.push(Value::Other),
            b'l' => {
                let items = self.marked()?;
                self.push(Value::List(items));
            }
            b't' => {
                let items = self.marked()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or(Unreadable)?;
                let items = self.stack.split_off(start);
                self.push(Value::Tuple(items));
            }
            b'd' => {
                let items = self.marked()?;
                Self::in_pairs(&items)?;
                self.push(Value::Other);
            }
            0x91 => {
                self.marked()?;
                self.push(Value::Other);
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.marked()?;
                self.append(&items)?;
            }
            b's' => {
                self.pop()?;
                self.pop()?;
                self.top()?;
            }
            b'u' => {
                let items = self.marked()?;
                Self::in_pairs(&items)?;
                self.top()?;
            }
            _ => {
                self.marked()?;
                self.top()?;
            }
        }
        Ok(())
    }

    fn object(&mut self, code: u8) -> Step<()> {
        let made = match code {
            b'c' => Value::Class((self.line()?.to_vec(), self.line()?.to_vec())),
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module], &self.values[name]) {
                    (Value::Str(_, module), Value::Str(_, name)) => Value::Class((module.clone(), name.clone())),
                    _ => Value::Other,
                }
            }
            b'b' => {
                self.pop()?;
                self.top()?;
                return Ok(());
            }
            b'i' => {
                self.line()?;
                self.line()?;
                self.marked()?;
                Value::Other
            }
            b'o' => match &self.marked()?[..] {
                [] => return Err(Unreadable),
                _ => Value::Other,
            },
            _ => {
                if code == 0x92 {
                    self.pop()?;
                }
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.called(code == b'R', callable, arguments)
            }
        };
        self.push(made);
        Ok(())
    }

    /// Some classes and functions are known, with which one Python writes bytes for the other.
    fn called(&mut self, by_reduce: bool, callable: Id, arguments: Id) -> Value {
        if let Some(class) = self.nested_class(by_reduce, callable, arguments) {
            return Value::Class(class);
        }
        let (Value::Class((module, name)), Value::Tuple(arguments)) = (&self.values[callable], &self.values[arguments])
        else {
            return Value::Other;
        };
        let argument = |n: usize| &self.values[arguments[n]];
        if by_reduce && module == b"_codecs" && name == b"encode" && arguments.len() == 2 {
            let encoding = matches!(argument(1), Value::Str(_, raw) if raw == b"latin1" || raw == b"latin-1");
            if let (Value::Str(spelling @ (Spelling::Text | Spelling::TextLine), raw), true) = (argument(0), encoding) {
                return Value::Encoded(*spelling, raw.clone());
            }
        }
        if by_reduce && matches!(&module[..], b"__builtin__" | b"builtins") && name == b"bytes" && arguments.is_empty()
        {
            return Value::Str(Spelling::Bytes, Vec::new());
        }
        if module.starts_with(b"zodbpickle") && name == b"binary" && arguments.len() == 1 {
            match argument(0) {
                Value::Str(Spelling::Text | Spelling::TextLine, _) => {}
                bytes @ (Value::Str(..) | Value::Encoded(..)) => return bytes.clone(),
                _ => {}
            }
        }
        Value::Other
    }

    /// `getattr(Outer, 'Inner')`, with which protocols before 4 name a class in a class. Names are counted as the
    /// engine counts them: 64 KiB of them, and as many bytes as the record has.
    fn nested_class(&mut self, by_reduce: bool, callable: Id, arguments: Id) -> Option<Class> {
        let (Value::Class((module, name)), Value::Tuple(arguments)) = (&self.values[callable], &self.values[arguments])
        else {
            return None;
        };
        if !by_reduce || !matches!(&module[..], b"__builtin__" | b"builtins") || name != b"getattr" {
            return None;
        }
        let [outer, attribute] = arguments[..] else { return None };
        let Value::Class((module, name)) = &self.values[outer] else { return None };
        let name = [&name[..], b".", self.text_in_class(attribute)?.as_bytes()].concat();
        if self.nested_bytes + name.len() > self.bytes.len() + (1 << 16) {
            return None;
        }
        let class = (module.clone(), name);
        self.nested_bytes += class.1.len();
        Some(class)
    }

    // References.

    fn reference(&self, id: Id) -> Option<Found> {
        match &self.values[id] {
            Value::Tuple(items) => match items[..] {
                [oid, class] => Some(Found::Strong(self.oid(oid)?, self.class(class))),
                _ => None,
            },
            Value::List(items) => match items[..] {
                [oid] => Some(Found::Weak(self.oid(oid)?, None)),
                [letter, arguments] => {
                    let Value::Tuple(arguments) = &self.values[arguments] else { return None };
                    match (&self.name(letter)?[..], &arguments[..]) {
                        ("w", &[oid]) => Some(Found::Weak(self.oid(oid)?, None)),
                        ("w", &[oid, database]) => Some(Found::Weak(self.oid(oid)?, Some(self.name(database)?))),
                        ("n", &[database, oid]) => Some(Found::Foreign(self.name(database)?, self.oid(oid)?, None)),
                        ("m", &[database, oid, class]) => {
                            Some(Found::Foreign(self.name(database)?, self.oid(oid)?, self.class(class)))
                        }
                        _ => None,
                    }
                }
                _ => None,
            },
            _ => Some(Found::Strong(self.oid(id)?, None)),
        }
    }

    fn oid(&self, id: Id) -> Option<u64> {
        if let Some(bytes) = self.bytes_of(id) {
            return eight(&bytes);
        }
        let text = self.text_of(id)?;
        if text.is_ascii() { eight(text.as_bytes()) } else { None }
    }

    fn name(&self, id: Id) -> Option<String> {
        match self.bytes_of(id) {
            Some(bytes) => String::from_utf8(bytes).ok(),
            None => self.text_of(id),
        }
    }

    fn class(&self, id: Id) -> Option<Class> {
        match &self.values[id] {
            Value::Class(class) => Some(class.clone()),
            Value::Tuple(items) => match items[..] {
                [module, name] => {
                    // It need not be text.
                    let part = |id| self.bytes_of(id).or_else(|| Some(self.text_of(id)?.into_bytes()));
                    Some((part(module)?, part(name)?))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// If it is bytes, or was a `str` to Python 2. Nothing in a reference is written with more than 1024 bytes.
    fn bytes_of(&self, id: Id) -> Option<Vec<u8>> {
        match &self.values[id] {
            Value::Str(_, raw) | Value::Encoded(_, raw) if raw.len() > 1024 => None,
            Value::Str(Spelling::Bytes | Spelling::Native, raw) => Some(raw.clone()),
            Value::Str(Spelling::NativeLine, raw) => unquoted(raw),
            Value::Encoded(spelling, raw) => {
                text(*spelling, raw)?.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
            }
            _ => None,
        }
    }

    fn text_of(&self, id: Id) -> Option<String> {
        match &self.values[id] {
            Value::Str(spelling @ (Spelling::Text | Spelling::TextLine), raw) if raw.len() <= 1024 => {
                text(*spelling, raw)
            }
            _ => None,
        }
    }

    // The class pickle.

    fn class_in(&self, root: Id) -> Option<(String, String)> {
        let lossy = |class: &Class| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (text(&class.0), text(&class.1))
        };
        let items = match &self.values[root] {
            Value::Class(class) => return Some(lossy(class)),
            Value::Tuple(items) => items,
            _ => return None,
        };
        let pair = match &self.values[*items.first()?] {
            Value::Class(class) => return Some(lossy(class)),
            Value::Tuple(pair) => pair,
            _ => items,
        };
        match pair[..] {
            [module, name] => Some((self.text_in_class(module)?, self.text_in_class(name)?)),
            _ => None,
        }
    }

    fn text_in_class(&self, id: Id) -> Option<String> {
        match &self.values[id] {
            Value::Str(Spelling::Bytes, _) => None,
            Value::Str(Spelling::Native, raw) => String::from_utf8(raw.clone()).ok(),
            Value::Str(Spelling::NativeLine, raw) => String::from_utf8(unquoted(raw)?).ok(),
            Value::Str(spelling, raw) => text(*spelling, raw),
            _ => None,
        }
    }
}

fn eight(bytes: &[u8]) -> Option<u64> {
    (bytes.len() == 8).then(|| bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

/// Text, if it is any that Rust can hold.
fn text(spelling: Spelling, raw: &[u8]) -> Option<String> {
    if spelling == Spelling::Text {
        return String::from_utf8(raw.to_vec()).ok();
    }
    // Python's raw-unicode-escape: one character a byte, and two escapes.
    let (mut units, mut at) = (Vec::new(), 0);
    while at < raw.len() {
        let digits = match raw[at..] {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => {
                units.push(u32::from(raw[at]));
                at += 1;
                continue;
            }
        };
        units.push(hex(raw.get(at + 2..at + 2 + digits)?)?);
        at += 2 + digits;
    }
    // Two surrogates are one character, whichever opcodes wrote them.
    let mut text = String::new();
    let mut units = units.into_iter().peekable();
    while let Some(unit) = units.next() {
        let low = units.peek().copied().filter(|low| (0xdc00..0xe000).contains(low));
        match (unit, low) {
            (0xd800..0xdc00, Some(low)) => {
                text.push(char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00))?);
                units.next();
            }
            _ => text.push(char::from_u32(unit)?),
        }
    }
    Some(text)
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |sum, &digit| Some(sum.checked_mul(16)? + char::from(digit).to_digit(16)?))
}

/// The bytes between the quotes of a line that Python 2 wrote.
fn unquoted(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.trim_ascii();
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return None,
    };
    let (mut out, mut at) = (Vec::new(), 0);
    while at < inner.len() {
        let byte = inner[at];
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let escape = *inner.get(at)?;
        at += 1;
        match escape {
            b'\\' | b'\'' | b'"' => out.push(escape),
            b'a' => out.push(0x07),
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(0x0a),
            b'r' => out.push(0x0d),
            b't' => out.push(0x09),
            b'v' => out.push(0x0b),
            b'x' => {
                out.push(hex(inner.get(at..at + 2)?)? as u8);
                at += 2;
            }
            b'0'..=b'7' => {
                let mut value = u32::from(escape - b'0');
                for _ in 0..2 {
                    if let Some(digit @ b'0'..=b'7') = inner.get(at) {
                        value = value * 8 + u32::from(digit - b'0');
                        at += 1;
                    } else {
                        break;
                    }
                }
                out.push(value as u8);
            }
            _ => out.extend([b'\\', escape]),
        }
    }
    Some(out)
}
