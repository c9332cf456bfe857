//! From the bytes of a record to values.

use vellum_pickle::{Anatomy, ClassName, ClassRef, Part, Parts, Reference as Pickled, View, plain};
use vellum_storage::Oid;

use crate::error::Trouble;
use crate::handle::Core;
use crate::value::{Inside, Outside, Record, Reference, Value};

/// The values of a record are at most so deep in each other. The code that goes down recurses.
pub const DEPTH_MAX: usize = 256;

/// The bytes that the values of a short record may take. A longer one may take [`SPREAD`] times its length.
const FREE: usize = 1 << 16;
const SPREAD: usize = 64;

/// Reads a record. References become handles of this connection.
pub(crate) fn decode(core: &Core, record: &[u8]) -> Result<Record, Trouble> {
    let record = plain(record)?;
    let read = vellum_pickle::Record::read(&record)?;
    // A pickle can name one value many times, and a value is copied at each place.
    let left = record.len().saturating_mul(SPREAD).saturating_add(FREE);
    let mut decoder = Decoder { core, left };
    let class = decoder.value(read.class(), DEPTH_MAX)?;
    let state = decoder.value(read.state(), DEPTH_MAX)?;
    Ok(Record { class, state, protocol: read.protocol().min(3) })
}

struct Decoder<'c> {
    core: &'c Core,
    /// Bytes that may still be made.
    left: usize,
}

impl Decoder<'_> {
    fn spend(&mut self, bytes: usize) -> Result<(), Trouble> {
        self.left = self.left.checked_sub(bytes).ok_or(Trouble::TooLarge)?;
        Ok(())
    }

    fn value(&mut self, part: Part<'_>, depth: usize) -> Result<Value, Trouble> {
        self.spend(size_of::<Value>())?;
        let depth = depth.checked_sub(1).ok_or(Trouble::TooDeep)?;
        Ok(match part.view() {
            View::None => Value::None,
            View::Bool(value) => Value::Bool(value),
            View::Int(number) => Value::Int(number),
            View::BigInt(bytes) => Value::BigInt(self.bytes(&bytes)?),
            View::Float(number) => Value::Float(number),
            View::Text(text) => match String::from_utf8(self.bytes(&text)?.into_vec()) {
                Ok(text) => Value::Text(text.into_boxed_str()),
                Err(odd) => Value::OddText(odd.into_bytes().into_boxed_slice()),
            },
            View::Bytes(bytes) => Value::Bytes(self.bytes(&bytes)?),
            View::Native(bytes) => Value::Native(self.bytes(&bytes)?),
            View::Tuple(items) => Value::Tuple(self.values(items, depth)?),
            View::List(items) => Value::List(self.values(items, depth)?),
            View::Dict(pairs) => Value::Dict(self.pairs(&pairs, depth)?),
            View::Class(class) => {
                self.spend(class.module.len() + class.name.len())?;
                Value::Class(Box::new(name(class)?))
            }
            View::Reference(reference) => self.reference(reference)?,
            View::Other => self.other(part, depth)?,
        })
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<Box<[u8]>, Trouble> {
        self.spend(bytes.len())?;
        Ok(bytes.into())
    }

    fn values(&mut self, items: Parts<'_>, depth: usize) -> Result<Vec<Value>, Trouble> {
        items.iter().map(|item| self.value(item, depth)).collect()
    }

    fn pairs(&mut self, pairs: &[(Part<'_>, Part<'_>)], depth: usize) -> Result<Vec<(Value, Value)>, Trouble> {
        pairs.iter().map(|&(key, value)| Ok((self.value(key, depth)?, self.value(value, depth)?))).collect()
    }

    fn reference(&mut self, reference: Pickled<'_>) -> Result<Value, Trouble> {
        Ok(match reference {
            Pickled::Strong { oid, class } => {
                let class = class.map(name).transpose()?;
                self.spend(class.as_ref().map_or(0, |class| class.module.len() + class.name.len()))?;
                let to = self.core.reference(Oid(oid), || class.clone());
                Value::Reference(Reference { to, class: class.map(Box::new) })
            }
            Pickled::Weak { oid, database } => Value::Outside(Box::new(Outside::Weak {
                oid: Oid(oid),
                database: database.map(std::borrow::Cow::into_owned),
            })),
            Pickled::Foreign { database, oid, class } => Value::Outside(Box::new(Outside::Foreign {
                database: database.into_owned(),
                oid: Oid(oid),
                class: class.map(name).transpose()?,
            })),
            Pickled::Bad { why, .. } => return Err(Trouble::Reference(why)),
        })
    }

    /// An object inside the record, or a value to which items were added.
    fn other(&mut self, part: Part<'_>, depth: usize) -> Result<Value, Trouble> {
        let anatomy = part.anatomy().ok_or(Trouble::Unknown)?;
        let added = part.added();
        let (is_new, class, arguments, keywords) = match anatomy {
            Anatomy::Set(items) if added.is_none() => return Ok(Value::Set(self.values(items, depth)?)),
            Anatomy::FrozenSet(items) if added.is_none() => return Ok(Value::FrozenSet(self.values(items, depth)?)),
            Anatomy::ByteArray(bytes) if added.is_none() => return Ok(Value::ByteArray(self.bytes(&bytes)?)),
            Anatomy::Call { callable, arguments } => {
                (false, self.value(callable, depth)?, self.value(arguments, depth)?, None)
            }
            Anatomy::New { class, arguments, keywords } => {
                let keywords = keywords.map(|keywords| self.value(keywords, depth)).transpose()?;
                (true, self.value(class, depth)?, self.value(arguments, depth)?, keywords)
            }
            Anatomy::Instance { class, arguments } => {
                let arguments = self.values(arguments, depth)?;
                (arguments.is_empty(), self.value(class, depth)?, Value::Tuple(arguments), None)
            }
            _ => return Err(Trouble::Unknown),
        };
        self.spend(size_of::<Inside>())?;
        let mut inside =
            Inside { is_new, class, arguments, keywords, states: Vec::new(), items: Vec::new(), pairs: Vec::new() };
        if let Some(added) = added {
            inside.states = self.values(added.states, depth)?;
            inside.items = self.values(added.items, depth)?;
            inside.pairs = self.pairs(&added.pairs, depth)?;
        }
        Ok(Value::Inside(Box::new(inside)))
    }
}

/// The name of a class. One that is not text could not be written back.
fn name(class: ClassRef<'_>) -> Result<ClassName, Trouble> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Trouble::ClassName);
    Ok(ClassName { module: text(class.module)?, name: text(class.name)? })
}
