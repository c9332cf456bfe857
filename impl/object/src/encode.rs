//! From values to the bytes of a record.
//!
//! At protocol 3, as ZODB writes it; at 2, where the old record was older than 3, since its classes have the names of
//! Python 2. The memo holds classes alone: the record loads the same, and values that were shared are copied.

use std::collections::HashMap;

use vellum_pickle::{ClassName, Value as Plain};
use vellum_storage::Oid;

use crate::decode::DEPTH_MAX;
use crate::error::Trouble;
use crate::handle::RawRef;
use crate::value::{Inside, Outside, Record, Reference, Value};

/// The opcodes that plain values do not need.
mod op {
    pub const MARK: u8 = b'(';
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

/// The record. `oid_of` says the oid of an object that is referred to; it may give out a new one.
pub(crate) fn encode(
    record: &Record,
    oid_of: &mut dyn FnMut(&RawRef) -> Result<Oid, Trouble>,
) -> Result<Vec<u8>, Trouble> {
    let protocol = record.protocol.clamp(2, 3);
    let mut writer = Writer { out: Vec::new(), memo: HashMap::new(), oid_of, protocol };
    writer.pickle(&record.class)?;
    writer.pickle(&record.state)?;
    Ok(writer.out)
}

struct Writer<'w> {
    out: Vec<u8>,
    memo: HashMap<ClassName, usize>,
    oid_of: &'w mut dyn FnMut(&RawRef) -> Result<Oid, Trouble>,
    protocol: u8,
}

type Written = Result<(), Trouble>;

impl Writer<'_> {
    fn pickle(&mut self, value: &Value) -> Written {
        self.out.extend([op::PROTO, self.protocol]);
        self.value(value, DEPTH_MAX)?;
        self.out.push(op::STOP);
        Ok(())
    }

    fn value(&mut self, value: &Value, depth: usize) -> Written {
        let depth = depth.checked_sub(1).ok_or(Trouble::TooDeep)?;
        match value {
            Value::None => self.plain(&Plain::None),
            Value::Bool(value) => self.plain(&Plain::Bool(*value)),
            Value::Int(number) => self.plain(&Plain::Int(*number)),
            Value::BigInt(bytes) => self.plain(&Plain::BigInt(bytes.to_vec())),
            Value::Float(number) => self.plain(&Plain::Float(*number)),
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
                let oid = (self.oid_of)(to)?;
                self.reference(oid, class.as_deref())
            }
            Value::Outside(outside) => self.outside(outside),
            Value::Inside(inside) => self.inside(inside, depth),
        }
    }

    /// A value without parts, as `vellum_pickle` writes it.
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

    fn text(&mut self, text: &[u8]) -> Written {
        self.length(op::BINUNICODE, text.len(), u32::MAX as usize)?;
        self.out.extend_from_slice(text);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Written {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Trouble::TooLarge);
        }
        self.plain(&Plain::Bytes(bytes.to_vec().into()))
    }

    fn tuple(&mut self, items: &[Value], depth: usize) -> Written {
        match items {
            [] => self.out.push(op::EMPTY_TUPLE),
            [_] | [_, _] | [_, _, _] => {
                items.iter().try_for_each(|item| self.value(item, depth))?;
                self.out.push(op::TUPLE1 + (items.len() as u8 - 1));
            }
            _ => {
                self.out.push(op::MARK);
                items.iter().try_for_each(|item| self.value(item, depth))?;
                self.out.push(op::TUPLE);
            }
        }
        Ok(())
    }

    fn items(&mut self, items: &[Value], depth: usize) -> Written {
        for batch in items.chunks(BATCH) {
            self.out.push(op::MARK);
            batch.iter().try_for_each(|item| self.value(item, depth))?;
            self.out.push(op::APPENDS);
        }
        Ok(())
    }

    fn pairs(&mut self, pairs: &[(Value, Value)], depth: usize) -> Written {
        for batch in pairs.chunks(BATCH) {
            self.out.push(op::MARK);
            for (key, value) in batch {
                self.value(key, depth)?;
                self.value(value, depth)?;
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
        if module.contains('\n') || name.contains('\n') {
            return Err(Trouble::ClassName);
        }
        let full = ClassName { module: module.to_owned(), name: name.to_owned() };
        if let Some(&at) = self.memo.get(&full) {
            match u8::try_from(at) {
                Ok(at) => self.out.extend([op::BINGET, at]),
                Err(_) => self.length(op::LONG_BINGET, at, u32::MAX as usize)?,
            }
            return Ok(());
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
        self.memo.insert(full, at);
        Ok(())
    }

    /// A persistent id `(oid, class)`, or the oid alone.
    fn reference(&mut self, oid: Oid, class: Option<&ClassName>) -> Written {
        self.bytes(&oid.to_bytes())?;
        if let Some(class) = class {
            self.class(&class.module, &class.name)?;
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
                self.value(class, depth)?;
                self.value(arguments, depth)?;
                self.value(keywords, depth)?;
                self.out.extend([op::TUPLE1 + 2, op::REDUCE]);
            }
            None => {
                self.value(class, depth)?;
                self.value(arguments, depth)?;
                self.out.push(if *is_new { op::NEWOBJ } else { op::REDUCE });
            }
        }
        self.items(items, depth)?;
        self.pairs(pairs, depth)?;
        for state in states {
            self.value(state, depth)?;
            self.out.push(op::BUILD);
        }
        Ok(())
    }
}
