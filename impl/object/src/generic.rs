//! Objects without a struct.

use vellum_pickle::ClassName;

use crate::Persistent;
use crate::encode::Writer;
use crate::error::Trouble;
use crate::handle::RawRef;
use crate::object::Kept;
use crate::value::{Record, Value};

/// An object of any class, as values: every object of every database can be seen as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Generic {
    record: Record,
}

impl Generic {
    /// An object of this class with this state, as Python's `__getstate__` would return it.
    pub fn new(class: ClassName, state: Value) -> Generic {
        Generic { record: Record { class: Value::Class(Box::new(class)), state, protocol: 3 } }
    }

    /// The state.
    pub fn state(&self) -> &Value {
        &self.record.state
    }

    /// The state, to change it.
    pub fn state_mut(&mut self) -> &mut Value {
        &mut self.record.state
    }

    /// The attribute of this name, if the state is a dict that has one.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        let Value::Dict(pairs) = &self.record.state else { return None };
        pairs.iter().rev().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
    }

    /// Sets an attribute. A state that is not a dict becomes one.
    pub fn set_attribute(&mut self, name: &str, value: Value) {
        if !matches!(self.record.state, Value::Dict(_)) {
            self.record.state = Value::Dict(Vec::new());
        }
        if let Value::Dict(pairs) = &mut self.record.state {
            match pairs.iter_mut().rev().find(|(key, _)| key.as_text() == Some(name)) {
                Some((_, old)) => *old = value,
                None => pairs.push((Value::text(name), value)),
            }
        }
    }
}

impl Persistent for Generic {
    const CLASS: (&'static str, &'static str) = ("", "");

    fn accepts(_: &ClassName) -> bool {
        true
    }

    fn class(&self) -> ClassName {
        self.record.class_name().unwrap_or_default()
    }

    fn load(record: Record) -> Result<(Self, Option<Box<Kept>>), Trouble> {
        Ok((Generic { record }, None))
    }

    fn save(&self, _: Option<&Kept>) -> Record {
        self.record.clone()
    }

    fn write(&self, _: Option<&Kept>, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.record(&self.record)
    }

    fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        self.record.class.trace(visit);
        self.record.state.trace(visit);
    }

    fn bytes(&self) -> usize {
        self.record.class.bytes() + self.record.state.bytes()
    }
}
