//! The types that objects can have.

use vellum_pickle::ClassName;

use crate::Ref;
use crate::decode::Reader;
use crate::encode::Writer;
use crate::error::Trouble;
use crate::handle::RawRef;
use crate::object::Kept;
use crate::value::{Record, Value};

/// Runs when an object that was never stored goes: it may keep the object by a new handle (rule 7.11).
pub type Finalizer<T> = fn(&Ref<T>);

/// A type of which objects are: a struct for a class of Python, or [`Generic`](crate::Generic) for any class.
pub trait Persistent: Sized + 'static {
    /// The module and the name of the class.
    const CLASS: (&'static str, &'static str);

    /// The finalizer of the class. It belongs to the class, so that no code runs to find out whether there is one.
    const FINALIZER: Option<Finalizer<Self>> = None;

    /// Whether records of this class are of this type.
    fn accepts(class: &ClassName) -> bool {
        (class.module.as_str(), class.name.as_str()) == Self::CLASS
    }

    /// The class of this object.
    fn class(&self) -> ClassName {
        ClassName { module: Self::CLASS.0.to_owned(), name: Self::CLASS.1.to_owned() }
    }

    /// Makes the struct of a record, and returns the parts that it has no place for.
    ///
    /// # Errors
    ///
    /// The state, or an attribute of it, is of another type.
    fn load(record: Record) -> Result<(Self, Option<Box<Kept>>), Trouble>;

    /// Makes the struct while its record is read. The derive does so without making values of all attributes.
    ///
    /// # Errors
    ///
    /// As [`Persistent::load`]; the record has parts that cannot be values.
    fn read(reader: &mut Reader<'_>) -> Result<(Self, Option<Box<Kept>>), Trouble> {
        Self::load(reader.record()?)
    }

    /// The record, with the parts that were kept.
    fn save(&self, kept: Option<&Kept>) -> Record;

    /// Writes the record that [`Persistent::save`] gives. The derive does so without making values.
    ///
    /// # Errors
    ///
    /// It has values that cannot be written.
    fn write(&self, kept: Option<&Kept>, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.record(&self.save(kept))
    }

    /// Gives `visit` each reference to an object.
    fn trace(&self, visit: &mut dyn FnMut(&RawRef));

    /// Bytes that it takes beside its own size.
    fn bytes(&self) -> usize;
}

impl Record {
    /// The name of the class, if the first pickle is one of the forms in which classes are written.
    pub fn class_name(&self) -> Option<ClassName> {
        fn named(value: &Value) -> Option<ClassName> {
            match value {
                Value::Class(class) => Some((**class).clone()),
                Value::Tuple(items) => match items.as_slice() {
                    [module, name] => {
                        Some(ClassName { module: module.as_text()?.to_owned(), name: name.as_text()?.to_owned() })
                    }
                    _ => None,
                },
                _ => None,
            }
        }
        // The class, the class with arguments, or the two names of old records, with arguments or without.
        named(&self.class).or_else(|| match &self.class {
            Value::Tuple(items) => items.first().and_then(named),
            _ => None,
        })
    }
}
