//! The parts of a value that only running code could make: for code that carries such values from record to record.

use std::borrow::Cow;

use crate::machine::Atom;
use crate::part::{Part, Parts};
use crate::tree::{Id, Node};

/// A value that [`View`](crate::View) shows as `Other`, one level deep. Nothing is run.
#[derive(Debug, Clone)]
pub enum Anatomy<'r> {
    /// A set.
    Set(Parts<'r>),
    /// A frozen set.
    FrozenSet(Parts<'r>),
    /// A bytearray.
    ByteArray(Cow<'r, [u8]>),
    /// The result of a call.
    Call {
        /// The class or function.
        callable: Part<'r>,
        /// The arguments, as a rule a tuple.
        arguments: Part<'r>,
    },
    /// A new object of a class.
    New {
        /// The class.
        class: Part<'r>,
        /// The arguments, as a rule a tuple.
        arguments: Part<'r>,
        /// The keyword arguments, as a rule a dict.
        keywords: Option<Part<'r>>,
    },
    /// A new object of a class, in the way of protocols 0 and 1.
    Instance {
        /// The class.
        class: Part<'r>,
        /// The arguments.
        arguments: Parts<'r>,
    },
}

/// The additions that a pickle makes to an object after it was made.
#[derive(Debug, Clone)]
pub struct AddedParts<'r> {
    /// States that are set, one after the other.
    pub states: Parts<'r>,
    /// Items that are appended.
    pub items: Parts<'r>,
    /// Keys with values that are set.
    pub pairs: Vec<(Part<'r>, Part<'r>)>,
}

impl<'r> Part<'r> {
    /// The anatomy of an object, without the additions to it. None for a value of another kind, and for one that
    /// Python could not read.
    pub fn anatomy(self) -> Option<Anatomy<'r>> {
        let Part { tree, id } = self;
        let part = |id| Part { tree, id };
        let parts = |items: &'r [Id]| Parts { tree, items };
        Some(match tree.node(id) {
            Node::Set(items) => Anatomy::Set(parts(items)),
            Node::FrozenSet(items) => Anatomy::FrozenSet(parts(items)),
            Node::Atom(Atom::ByteArray(span)) => Anatomy::ByteArray(Cow::Borrowed(tree.raw(*span))),
            &Node::Call { callable, arguments } => {
                Anatomy::Call { callable: part(callable), arguments: part(arguments) }
            }
            &Node::New { class, arguments, keywords } => {
                Anatomy::New { class: part(class), arguments: part(arguments), keywords: keywords.map(part) }
            }
            Node::Instance { class, arguments } => {
                Anatomy::Instance { class: part(*class), arguments: parts(arguments) }
            }
            _ => return None,
        })
    }

    /// The additions that the pickle makes to the value after it was made, if there are any.
    pub fn added(self) -> Option<AddedParts<'r>> {
        let Part { tree, id } = self;
        let added = tree.additions(id)?;
        let part = |id| Part { tree, id };
        Some(AddedParts {
            states: Parts { tree, items: &added.states },
            items: Parts { tree, items: &added.items },
            pairs: added.pairs.iter().map(|&(key, value)| (part(key), part(value))).collect(),
        })
    }
}
