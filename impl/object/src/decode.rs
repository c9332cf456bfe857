//! From the bytes of a record to values.

use vellum_pickle::{Anatomy, ClassName, ClassRef, Part, Parts, Reference as Pickled, View, plain};
use vellum_storage::Oid;

use crate::error::Trouble;
use crate::field::Field;
use crate::handle::{Core, RawRef};
use crate::value::{Inside, Outside, Record, Reference, Value};

/// The values of a record are at most so deep in each other. The code that goes down recurses.
pub const DEPTH_MAX: usize = 256;

/// The bytes that the values of a short record may take. A longer one may take [`SPREAD`] times its length.
const FREE: usize = 1 << 16;
const SPREAD: usize = 64;

/// Reads a record. References become handles of this connection.
pub(crate) fn decode(core: &Core, record: &[u8]) -> Result<Record, Trouble> {
    read_with(core, record, |reader| reader.record())
}

/// Gives `work` a record to read.
pub(crate) fn read_with<R, E: From<Trouble>>(
    core: &Core,
    record: &[u8],
    work: impl FnOnce(&mut Reader<'_>) -> Result<R, E>,
) -> Result<R, E> {
    let record = plain(record).map_err(Trouble::from)?;
    // Taken, since `work` may read another record.
    let mut scratch = core.scratch.take();
    let read = vellum_pickle::Record::read_in(&record, &mut scratch).map_err(Trouble::from)?;
    let left = room(read.length());
    let done = work(&mut Reader { core, read: &read, decoder: Decoder { core, left } });
    read.leave(&mut scratch);
    core.scratch.replace(scratch);
    done
}

/// The bytes that the values of a record may take. A pickle can name one value many times, and a value is copied at
/// each place.
fn room(length: usize) -> usize {
    length.saturating_mul(SPREAD).saturating_add(FREE)
}

/// A record that is being read: as values, or attribute by attribute.
pub struct Reader<'r> {
    core: &'r Core,
    read: &'r vellum_pickle::Record<'r>,
    decoder: Decoder<'r>,
}

impl<'r> Reader<'r> {
    /// The whole record as values.
    ///
    /// # Errors
    ///
    /// It has parts that cannot be values.
    pub fn record(&mut self) -> Result<Record, Trouble> {
        // Values that were made of its attributes until now are dropped.
        self.decoder.left = room(self.read.length());
        let class = self.decoder.value(self.read.class(), DEPTH_MAX)?;
        let state = self.decoder.value(self.read.state(), DEPTH_MAX)?;
        Ok(Record { class, state, protocol: self.read.protocol().min(3) })
    }

    /// Whether the record says no more of the class than this name.
    pub(crate) fn is_of(&self, class: (&str, &str)) -> bool {
        let View::Class(found) = self.read.class().view() else { return false };
        (found.module, found.name) == (class.0.as_bytes(), class.1.as_bytes())
    }

    /// The attributes, if the record is of the form that ZODB writes for objects of this class: the class without
    /// arguments, and a dict whose keys are text. None for others, which [`Reader::record`] reads.
    pub fn attributes(&self, class: (&str, &str)) -> Option<Vec<(&'r str, Part<'r>)>> {
        if self.read.protocol() != 3 || !self.is_of(class) {
            return None;
        }
        self.read.state().pairs()?.map(|(key, value)| Some((key.as_str()?, value))).collect()
    }

    /// A part as a value.
    ///
    /// # Errors
    ///
    /// It has parts that cannot be values.
    pub fn value(&mut self, part: Part<'r>) -> Result<Value, Trouble> {
        self.decoder.value(part, DEPTH_MAX - 1)
    }

    /// A part as the attribute of this name.
    ///
    /// # Errors
    ///
    /// It is of another type.
    pub fn field<F: Field>(&mut self, field: &'static str, part: Part<'r>) -> Result<F, Trouble> {
        F::from_part(self, part)?.map_err(|value| Trouble::Field { field, expected: F::EXPECTED, found: value.kind() })
    }

    /// A part as text that is counted.
    pub(crate) fn text(&mut self, part: Part<'r>) -> Result<Option<String>, Trouble> {
        let Some(text) = part.as_str() else { return Ok(None) };
        self.decoder.spend(text.len())?;
        Ok(Some(text.to_owned()))
    }

    /// A part as a handle, without its class, if it is a reference to an object of this database.
    pub(crate) fn handle(&mut self, part: Part<'r>) -> Option<RawRef> {
        let View::Reference(Pickled::Strong { oid, class }) = part.view() else { return None };
        // A name that is not text is an error, which `value` finds.
        let class = match class {
            Some(class) => Some((std::str::from_utf8(class.module).ok()?, std::str::from_utf8(class.name).ok()?)),
            None => None,
        };
        Some(self.core.reference_named(Oid(oid), class))
    }
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
        if let Some(text) = part.as_str() {
            self.spend(text.len())?;
            return Ok(Value::text(text));
        }
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

    /// A set, a frozen set or a bytearray, which are written as calls before protocol 4.
    fn builtin(&mut self, callable: Part<'_>, arguments: Part<'_>, depth: usize) -> Result<Option<Value>, Trouble> {
        let (View::Class(class), View::Tuple(arguments)) = (callable.view(), arguments.view()) else { return Ok(None) };
        if !matches!(class.module, b"builtins" | b"__builtin__") || arguments.len() != 1 {
            return Ok(None);
        }
        Ok(match (class.name, arguments.get(0).map(Part::view)) {
            (b"set", Some(View::List(items))) => Some(Value::Set(self.values(items, depth)?)),
            (b"frozenset", Some(View::List(items))) => Some(Value::FrozenSet(self.values(items, depth)?)),
            (b"bytearray", Some(View::Bytes(bytes))) => Some(Value::ByteArray(self.bytes(&bytes)?)),
            _ => None,
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
            Anatomy::Call { callable, arguments } if added.is_none() => {
                if let Some(found) = self.builtin(callable, arguments, depth)? {
                    return Ok(found);
                }
                (false, self.value(callable, depth)?, self.value(arguments, depth)?, None)
            }
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
