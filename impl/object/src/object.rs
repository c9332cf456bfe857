//! The state of a loaded object, whatever its type is.

use std::any::Any;
use std::ops::Deref;
use std::rc::Rc;

use vellum_pickle::ClassName;

use crate::encode::Writer;
use crate::error::Trouble;
use crate::handle::RawRef;
use crate::value::{Record, Value};
use crate::{Persistent, Ref};

/// The parts of a record that its struct has no place for. They are written back as they were read.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// The class, if the record says more of it than its name.
    pub class: Option<Value>,
    /// The attributes that the struct does not name.
    pub attributes: Vec<(Value, Value)>,
    /// The protocol of the record.
    pub protocol: u8,
}

impl Kept {
    /// Returns itself in a box, or none if it is empty.
    pub fn boxed(self) -> Option<Box<Kept>> {
        (self.class.is_some() || !self.attributes.is_empty() || self.protocol < 3).then(|| Box::new(self))
    }
}

/// The state of an object of any type.
pub(crate) trait Object: Any {
    fn class(&self) -> ClassName;
    /// The record, as values.
    fn save(&self) -> Record;
    /// Writes the record.
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Trouble>;
    /// The state of this type that another record describes.
    fn reload(&self, record: Record) -> Result<Rc<dyn Object>, Trouble>;
    fn trace(&self, visit: &mut dyn FnMut(&RawRef));
    /// Bytes that it takes.
    fn bytes(&self) -> usize;
    /// The finalizer of its class. It does not borrow the state, which it may change.
    fn finalizer(&self) -> Option<fn(RawRef)>;
    fn into_any(self: Rc<Self>) -> Rc<dyn Any>;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// A struct, and the rest of its record.
#[derive(Debug)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    pub(crate) kept: Option<Box<Kept>>,
}

impl<T: Persistent> Object for Stored<T> {
    fn class(&self) -> ClassName {
        self.value.class()
    }

    fn save(&self) -> Record {
        self.value.save(self.kept.as_deref())
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        self.value.write(self.kept.as_deref(), writer)
    }

    fn reload(&self, record: Record) -> Result<Rc<dyn Object>, Trouble> {
        let (value, kept) = T::load(record)?;
        Ok(Rc::new(Stored { value, kept }))
    }

    fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        self.value.trace(visit);
        if let Some(kept) = &self.kept {
            kept.class.iter().for_each(|class| class.trace(visit));
            for (key, value) in &kept.attributes {
                key.trace(visit);
                value.trace(visit);
            }
        }
    }

    fn bytes(&self) -> usize {
        let of_pair = |(key, value): &(Value, Value)| 2 * size_of::<Value>() + key.bytes() + value.bytes();
        let kept = self.kept.as_ref().map_or(0, |kept| {
            let class = kept.class.as_ref().map_or(0, Value::bytes);
            size_of::<Kept>() + class + kept.attributes.iter().map(of_pair).sum::<usize>()
        });
        size_of::<Self>() + self.value.bytes() + kept
    }

    fn finalizer(&self) -> Option<fn(RawRef)> {
        T::FINALIZER?;
        Some(|this| {
            if let Some(finalizer) = T::FINALIZER {
                finalizer(&Ref::from_raw(this));
            }
        })
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The state of an object, to read. As long as it exists, the object is neither evicted nor changed.
#[derive(Debug)]
pub struct View<T>(pub(crate) Rc<Stored<T>>);

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        View(Rc::clone(&self.0))
    }
}

impl<T> Deref for View<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}
