//! From values to the bytes of a record.
//!
//! At protocol 3, as ZODB writes it; at 2, where the old record was older than 3, since its classes have the names of
//! Python 2. The memo holds classes alone: the record loads the same, and values that were shared are copied.
//!
//! An object writes itself through a [`Writer`]: a struct field by field, a leaf key by key, without values of them.

use std::hash::{Hash, Hasher};

use indexmap::{Equivalent, IndexSet};
use vellum_pickle::{ClassName, Value as Plain};
use vellum_storage::Oid;

use crate::decode::DEPTH_MAX;
use crate::error::Trouble;
use crate::field::Field;
use crate::handle::RawRef;
use crate::object::Kept;
use crate::value::{Inside, Outside, Record, Reference, Value};

/// The opcodes that a record needs.
mod op {
    pub const MARK: u8 = b'(';
    pub const NONE: u8 = b'N';
    pub const NEWTRUE: u8 = 0x88;
    pub const NEWFALSE: u8 = 0x89;
    pub const BININT: u8 = b'J';
    pub const BININT1: u8 = b'K';
    pub const BININT2: u8 = b'M';
    pub const BINFLOAT: u8 = b'G';
    pub const LONG1: u8 = 0x8a;
    pub const BINBYTES: u8 = b'B';
    pub const SHORT_BINBYTES: u8 = b'C';
    pub const STOP: u8 = b'.';
    pub const REDUCE: u8 = b'R';
    pub const APPENDS: u8 = b'e';
    pub const BUILD: u8 = b'b';
    pub const GLOBAL: u8 = b'c';
    pub const SETITEMS: u8 = b'u';
    pub const TUPLE: u8 = b't';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const EMPTY_LIST: u8 = b']';
    pub const EMPTY_DICT: u8 = b'}';
    pub const BINPERSID: u8 = b'Q';
    pub const BINSTRING: u8 = b'T';
    pub const SHORT_BINSTRING: u8 = b'U';
    pub const BINUNICODE: u8 = b'X';
    pub const LONG_BINGET: u8 = b'j';
    pub const LONG_BINPUT: u8 = b'r';
    pub const BINGET: u8 = b'h';
    pub const BINPUT: u8 = b'q';
    pub const PROTO: u8 = 0x80;
    pub const NEWOBJ: u8 = 0x81;
    pub const TUPLE1: u8 = 0x85;
}

/// Items that are written between a MARK and its end.
const BATCH: usize = 1000;

/// Says the oid of an object that is referred to. It may give out a new one.
pub(crate) type OidOf<'w> = &'w mut dyn FnMut(&RawRef) -> Result<Oid, Trouble>;

/// The record. `oid_of` says the oid of an object that is referred to; it may give out a new one.
pub(crate) fn encode(record: &Record, oid_of: OidOf<'_>) -> Result<Vec<u8>, Trouble> {
    let mut out = Vec::new();
    encode_into(&mut out, oid_of, |writer| writer.record(record))?;
    Ok(out)
}

/// Appends the record that `write` writes.
pub(crate) fn encode_into(
    out: &mut Vec<u8>,
    oid_of: OidOf<'_>,
    write: impl FnOnce(&mut Writer<'_>) -> Written,
) -> Written {
    write(&mut Writer { out, memo: IndexSet::new(), recent: 0, oid_of, protocol: 3, attributes: 0, depth: DEPTH_MAX })
}

/// The name of a class that is looked for in the memo: hashed as a [`ClassName`].
struct Named<'n>(&'n str, &'n str);

impl Hash for Named<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl Equivalent<ClassName> for Named<'_> {
    fn equivalent(&self, other: &ClassName) -> bool {
        (self.0, self.1) == (other.module.as_str(), other.name.as_str())
    }
}

/// A record that is being written.
pub struct Writer<'w> {
    out: &'w mut Vec<u8>,
    memo: IndexSet<ClassName>,
    /// The place of the class that was written last. Most references of a record name one class.
    recent: usize,
    oid_of: OidOf<'w>,
    protocol: u8,
    /// Attributes that were written.
    attributes: usize,
    /// The depth that a value may have at this place.
    depth: usize,
}

type Written = Result<(), Trouble>;

impl Writer<'_> {
    /// Writes a record that is given as values.
    ///
    /// # Errors
    ///
    /// It has values that cannot be written.
    pub fn record(&mut self, record: &Record) -> Written {
        self.record_of_state(&record.class, record.protocol, |writer| writer.value(&record.state))
    }

    fn record_of_state(&mut self, class: &Value, protocol: u8, state: impl FnOnce(&mut Self) -> Written) -> Written {
        self.protocol = protocol.clamp(2, 3);
        self.pickle(|writer| writer.value(class))?;
        self.pickle(state)
    }

    /// Writes a record of a class whose state `state` writes, with the class and the protocol that were kept.
    pub(crate) fn record_of(
        &mut self,
        class: (&str, &str),
        kept: Option<&Kept>,
        state: impl FnOnce(&mut Self) -> Written,
    ) -> Written {
        let protocol = kept.map_or(3, |kept| kept.protocol);
        match kept.and_then(|kept| kept.class.as_ref()) {
            Some(class) => self.record_of_state(class, protocol, state),
            None => {
                self.protocol = protocol.clamp(2, 3);
                self.pickle(|writer| writer.class(class.0, class.1))?;
                self.pickle(state)
            }
        }
    }

    /// Writes the record of a struct: `attributes` writes its attributes, and those that were kept follow.
    ///
    /// # Errors
    ///
    /// It has values that cannot be written.
    pub fn attributes(
        &mut self,
        class: (&str, &str),
        kept: Option<&Kept>,
        attributes: impl FnOnce(&mut Self) -> Written,
    ) -> Written {
        self.record_of(class, kept, |writer| {
            writer.out.push(op::EMPTY_DICT);
            writer.depth -= 1;
            attributes(writer)?;
            for (key, value) in kept.iter().flat_map(|kept| &kept.attributes) {
                writer.pair(|writer| {
                    writer.part(key)?;
                    writer.part(value)
                })?;
            }
            if !writer.attributes.is_multiple_of(BATCH) {
                writer.out.push(op::SETITEMS);
            }
            Ok(())
        })
    }

    /// Writes an attribute, within [`Writer::attributes`].
    ///
    /// # Errors
    ///
    /// It has values that cannot be written.
    pub fn attribute<F: Field>(&mut self, name: &str, field: &F) -> Written {
        self.pair(|writer| {
            writer.text(name.as_bytes())?;
            field.write(writer)
        })
    }

    fn pair(&mut self, pair: impl FnOnce(&mut Self) -> Written) -> Written {
        if self.attributes.is_multiple_of(BATCH) {
            self.out.push(op::MARK);
        }
        pair(self)?;
        self.attributes += 1;
        if self.attributes.is_multiple_of(BATCH) {
            self.out.push(op::SETITEMS);
        }
        Ok(())
    }

    /// Writes a value that is a part of the state.
    ///
    /// # Errors
    ///
    /// It has values that cannot be written.
    pub fn part(&mut self, value: &Value) -> Written {
        self.within(value, self.depth)
    }

    /// Writes a tuple of so many items, which `items` writes.
    pub(crate) fn tuple_of(&mut self, count: usize, items: impl FnOnce(&mut Self) -> Written) -> Written {
        self.depth -= 1;
        self.items_of_tuple(count, items)?;
        self.depth += 1;
        Ok(())
    }

    fn items_of_tuple(&mut self, count: usize, items: impl FnOnce(&mut Self) -> Written) -> Written {
        if count > 3 {
            self.out.push(op::MARK);
        }
        items(self)?;
        self.out.push(match count {
            0 => op::EMPTY_TUPLE,
            1..=3 => op::TUPLE1 + (count as u8 - 1),
            _ => op::TUPLE,
        });
        Ok(())
    }

    fn pickle(&mut self, write: impl FnOnce(&mut Self) -> Written) -> Written {
        self.out.extend([op::PROTO, self.protocol]);
        write(self)?;
        self.out.push(op::STOP);
        Ok(())
    }

    /// Writes a whole pickle's value.
    pub(crate) fn value(&mut self, value: &Value) -> Written {
        self.within(value, DEPTH_MAX)
    }

    pub(crate) fn none(&mut self) {
        self.out.push(op::NONE);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.out.push(if value { op::NEWTRUE } else { op::NEWFALSE });
    }

    pub(crate) fn int(&mut self, number: i64) {
        if let Ok(number) = u8::try_from(number) {
            self.out.extend([op::BININT1, number]);
        } else if let Ok(number) = u16::try_from(number) {
            self.out.push(op::BININT2);
            self.out.extend(number.to_le_bytes());
        } else if let Ok(number) = i32::try_from(number) {
            self.out.push(op::BININT);
            self.out.extend(number.to_le_bytes());
        } else {
            let bytes = number.to_le_bytes();
            // Without the bytes that only repeat the sign.
            let spare = (1..8).rev().take_while(|&at| {
                let sign = if bytes[at - 1] & 0x80 == 0 { 0 } else { 0xff };
                bytes[at] == sign
            });
            let length = 8 - spare.count();
            self.out.extend([op::LONG1, length as u8]);
            self.out.extend_from_slice(&bytes[..length]);
        }
    }

    pub(crate) fn float(&mut self, number: f64) {
        self.out.push(op::BINFLOAT);
        self.out.extend(number.to_be_bytes());
    }

    fn within(&mut self, value: &Value, depth: usize) -> Written {
        let depth = depth.checked_sub(1).ok_or(Trouble::TooDeep)?;
        match value {
            Value::None => {
                self.none();
                Ok(())
            }
            Value::Bool(value) => {
                self.bool(*value);
                Ok(())
            }
            Value::Int(number) => {
                self.int(*number);
                Ok(())
            }
            Value::BigInt(bytes) => self.plain(&Plain::BigInt(bytes.to_vec())),
            Value::Float(number) => {
                self.float(*number);
                Ok(())
            }
            Value::Text(text) => self.text(text.as_bytes()),
            Value::OddText(bytes) => self.text(bytes),
            Value::Bytes(bytes) => self.bytes(bytes),
            Value::Native(bytes) => {
                match u8::try_from(bytes.len()) {
                    Ok(length) => self.out.extend([op::SHORT_BINSTRING, length]),
                    Err(_) => self.length(op::BINSTRING, bytes.len(), i32::MAX as usize)?,
                }
                self.out.extend_from_slice(bytes);
                Ok(())
            }
            Value::ByteArray(bytes) => {
                self.class(self.builtins(), "bytearray")?;
                self.bytes(bytes)?;
                self.out.extend([op::TUPLE1, op::REDUCE]);
                Ok(())
            }
            Value::Tuple(items) => self.tuple(items, depth),
            Value::List(items) => {
                self.out.push(op::EMPTY_LIST);
                self.items(items, depth)
            }
            Value::Dict(pairs) => {
                self.out.push(op::EMPTY_DICT);
                self.pairs(pairs, depth)
            }
            Value::Set(items) => self.set("set", items, depth),
            Value::FrozenSet(items) => self.set("frozenset", items, depth),
            Value::Class(class) => self.class(&class.module, &class.name),
            Value::Reference(Reference { to, class }) => {
                self.reference(to, class.as_deref().map(|class| (class.module.as_str(), class.name.as_str())))
            }
            Value::Outside(outside) => self.outside(outside),
            Value::Inside(inside) => self.inside(inside, depth),
        }
    }

    /// A long number, as `vellum_pickle` writes it.
    fn plain(&mut self, value: &Plain) -> Written {
        let pickle = vellum_pickle::encode(value);
        self.out.extend_from_slice(&pickle[2..pickle.len() - 1]);
        Ok(())
    }

    fn length(&mut self, code: u8, length: usize, most: usize) -> Written {
        let short = u32::try_from(length).ok().filter(|_| length <= most).ok_or(Trouble::TooLarge)?;
        self.out.push(code);
        self.out.extend(short.to_le_bytes());
        Ok(())
    }

    pub(crate) fn text(&mut self, text: &[u8]) -> Written {
        self.length(op::BINUNICODE, text.len(), u32::MAX as usize)?;
        self.out.extend_from_slice(text);
        Ok(())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Written {
        match u8::try_from(bytes.len()) {
            Ok(length) => self.out.extend([op::SHORT_BINBYTES, length]),
            Err(_) => self.length(op::BINBYTES, bytes.len(), u32::MAX as usize)?,
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn tuple(&mut self, items: &[Value], depth: usize) -> Written {
        self.items_of_tuple(items.len(), |writer| items.iter().try_for_each(|item| writer.within(item, depth)))
    }

    fn items(&mut self, items: &[Value], depth: usize) -> Written {
        for batch in items.chunks(BATCH) {
            self.out.push(op::MARK);
            batch.iter().try_for_each(|item| self.within(item, depth))?;
            self.out.push(op::APPENDS);
        }
        Ok(())
    }

    fn pairs(&mut self, pairs: &[(Value, Value)], depth: usize) -> Written {
        for batch in pairs.chunks(BATCH) {
            self.out.push(op::MARK);
            for (key, value) in batch {
                self.within(key, depth)?;
                self.within(value, depth)?;
            }
            self.out.push(op::SETITEMS);
        }
        Ok(())
    }

    fn set(&mut self, name: &str, items: &[Value], depth: usize) -> Written {
        self.class(self.builtins(), name)?;
        self.out.push(op::EMPTY_LIST);
        self.items(items, depth)?;
        self.out.extend([op::TUPLE1, op::REDUCE]);
        Ok(())
    }

    /// The module of Python's own functions, by its name at the protocol.
    fn builtins(&self) -> &'static str {
        if self.protocol < 3 { "__builtin__" } else { "builtins" }
    }

    /// A class. One that stands in another class is found by `getattr` at this protocol.
    fn class(&mut self, module: &str, name: &str) -> Written {
        let named = Named(module, name);
        let is_recent = self.memo.get_index(self.recent).is_some_and(|recent| named.equivalent(recent));
        if let Some(at) = if is_recent { Some(self.recent) } else { self.memo.get_index_of(&named) } {
            self.recent = at;
            match u8::try_from(at) {
                Ok(at) => self.out.extend([op::BINGET, at]),
                Err(_) => self.length(op::LONG_BINGET, at, u32::MAX as usize)?,
            }
            return Ok(());
        }
        if module.contains('\n') || name.contains('\n') {
            return Err(Trouble::ClassName);
        }
        match name.rsplit_once('.') {
            Some((outer, inner)) if !outer.is_empty() && !inner.is_empty() => {
                self.class(self.builtins(), "getattr")?;
                self.class(module, outer)?;
                self.text(inner.as_bytes())?;
                self.out.extend([op::TUPLE1 + 1, op::REDUCE]);
            }
            _ => {
                self.out.push(op::GLOBAL);
                for part in [module, name] {
                    self.out.extend_from_slice(part.as_bytes());
                    self.out.push(b'\n');
                }
            }
        }
        let at = self.memo.len();
        match u8::try_from(at) {
            Ok(at) => self.out.extend([op::BINPUT, at]),
            Err(_) => self.length(op::LONG_BINPUT, at, u32::MAX as usize)?,
        }
        self.memo.insert(ClassName { module: module.to_owned(), name: name.to_owned() });
        self.recent = at;
        Ok(())
    }

    /// A persistent id `(oid, class)`, or the oid alone.
    pub(crate) fn reference(&mut self, to: &RawRef, class: Option<(&str, &str)>) -> Written {
        let oid = (self.oid_of)(to)?;
        self.bytes(&oid.to_bytes())?;
        if let Some((module, name)) = class {
            self.class(module, name)?;
            self.out.push(op::TUPLE1 + 1);
        }
        self.out.push(op::BINPERSID);
        Ok(())
    }

    /// A persistent id that is a list of a letter and a tuple.
    fn outside(&mut self, outside: &Outside) -> Written {
        self.out.extend([op::EMPTY_LIST, op::MARK]);
        let parts = match outside {
            Outside::Weak { oid, database } => {
                self.text(b"w")?;
                self.bytes(&oid.to_bytes())?;
                database.iter().try_for_each(|database| self.text(database.as_bytes()))?;
                1 + u8::from(database.is_some())
            }
            Outside::Foreign { database, oid, class } => {
                self.text(if class.is_some() { b"m" } else { b"n" })?;
                self.text(database.as_bytes())?;
                self.bytes(&oid.to_bytes())?;
                class.iter().try_for_each(|class| self.class(&class.module, &class.name))?;
                2 + u8::from(class.is_some())
            }
        };
        self.out.extend([op::TUPLE1 + (parts - 1), op::APPENDS, op::BINPERSID]);
        Ok(())
    }

    fn inside(&mut self, inside: &Inside, depth: usize) -> Written {
        let Inside { is_new, class, arguments, keywords, states, items, pairs } = inside;
        match keywords {
            Some(keywords) => {
                // NEWOBJ_EX is an opcode of protocol 4. Below it Python writes this call.
                self.class("copyreg", "__newobj_ex__")?;
                self.within(class, depth)?;
                self.within(arguments, depth)?;
                self.within(keywords, depth)?;
                self.out.extend([op::TUPLE1 + 2, op::REDUCE]);
            }
            None => {
                self.within(class, depth)?;
                self.within(arguments, depth)?;
                self.out.push(if *is_new { op::NEWOBJ } else { op::REDUCE });
            }
        }
        self.items(items, depth)?;
        self.pairs(pairs, depth)?;
        for state in states {
            self.within(state, depth)?;
            self.out.push(op::BUILD);
        }
        Ok(())
    }
}
