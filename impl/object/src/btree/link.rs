//! A node's reference to another one.

use vellum_pickle::ClassName;

use super::family::{Class, class_name};
use crate::encode::Writer;
use crate::error::Trouble;
use crate::handle::RawRef;
use crate::value::{Reference, Value};

/// A reference, and the class that it is written with. Nearly always that is the class of the family, which takes no
/// memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Link {
    pub(super) to: RawRef,
    named: Named,
}

#[derive(Debug, Clone, PartialEq)]
enum Named {
    /// The class that is usual at this place.
    Usual,
    /// None.
    Bare,
    /// Another class. It stays, also if nothing is known of it.
    Other(Box<ClassName>),
}

impl Link {
    /// A reference with the usual class.
    pub(super) fn new(to: RawRef) -> Link {
        Link { to, named: Named::Usual }
    }

    /// A reference with this class, at a place where no class is usual.
    pub(super) fn of_class(to: RawRef, class: Class) -> Link {
        Link { to, named: Named::Other(Box::new(class_name(class))) }
    }

    /// The reference that this value is.
    pub(super) fn read(value: Value, usual: Option<Class>) -> Option<Link> {
        let Value::Reference(Reference { to, class }) = value else { return None };
        let named = match class {
            None => Named::Bare,
            Some(class) if Some((class.module.as_str(), class.name.as_str())) == usual => Named::Usual,
            Some(class) => Named::Other(class),
        };
        Some(Link { to, named })
    }

    /// The class that it is written with.
    fn class(&self, usual: Option<Class>) -> Option<(&str, &str)> {
        match &self.named {
            Named::Usual => usual,
            Named::Bare => None,
            Named::Other(class) => Some((&class.module, &class.name)),
        }
    }

    pub(super) fn to_value(&self, usual: Option<Class>) -> Value {
        let class = self.class(usual).map(|(module, name)| ClassName { module: module.into(), name: name.into() });
        Value::Reference(Reference { to: self.to.clone(), class: class.map(Box::new) })
    }

    pub(super) fn write(&self, usual: Option<Class>, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.reference(&self.to, self.class(usual))
    }

    /// Bytes beside its own size.
    pub(super) fn bytes(&self) -> usize {
        match &self.named {
            Named::Other(class) => size_of::<ClassName>() + class.module.len() + class.name.len(),
            Named::Usual | Named::Bare => 0,
        }
    }
}
