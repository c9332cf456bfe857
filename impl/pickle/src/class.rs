//! The class of a record's object: what the first pickle of the record says.
//!
//! | the pickle holds | written by |
//! |---|---|
//! | a class | ZODB, since 3.3 |
//! | `(class, arguments)` | ZODB, if the class wants arguments to make an object |
//! | `((module, name), arguments)` | ZODB before 3.3 |
//! | `(module, name)` | the same, without arguments |
//!
//! Where a class is in another class, `getattr(Outer, 'Inner')` stands for it before protocol 4. Its name is
//! `Outer.Inner`, as Python's `__qualname__` is, and as protocol 4 writes it.

use std::fmt;

use crate::error::{PickleError, Problem};
use crate::machine::Atom;
use crate::plain;
use crate::references::check_length;
use crate::tree::{Id, Node, Tree};

/// The name of a class: the module it is defined in, and its name there. It displays as `module.name`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassName {
    /// The dotted name of the module.
    pub module: String,
    /// The name of the class in its module; for a class in a class, both names with a dot between them.
    pub name: String,
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

/// The class of the object that `record` holds. The state, and whether there is one, does not matter: the record may be
/// cut behind its class.
///
/// ```
/// let record = b"\x80\x03cmail\nMessage\nq\x00.\x80\x03}q\x01.";
/// assert_eq!(vellum_pickle::class_of(record)?.to_string(), "mail.Message");
/// # Ok::<(), vellum_pickle::PickleError>(())
/// ```
///
/// # Errors
///
/// When the first pickle cannot be read, or holds none of the forms in which a class is written.
pub fn class_of(record: &[u8]) -> Result<ClassName, PickleError> {
    if plain::is_compressed(record)
        && let Ok(class) = named_first(&plain::start(record, START_BYTES)?)
    {
        return Ok(class);
    }
    named_first(&plain::plain(record)?)
}

/// So many bytes of a compressed record are read first: nearly every class pickle ends before.
const START_BYTES: usize = 1 << 10;

/// The class that is named first in plain bytes.
fn named_first(record: &[u8]) -> Result<ClassName, PickleError> {
    check_length(record)?;
    let (tree, root, _) = Tree::of_pickle(record)?;
    name_in(&tree, root)
}

/// The name that a class pickle holds, whose value is `root`.
pub(crate) fn name_in(tree: &Tree<'_>, root: Id) -> Result<ClassName, PickleError> {
    let not_a_class = |id| PickleError { offset: 0, opcode: None, problem: Problem::NotAClass(what_instead(tree, id)) };
    if let Some(class) = tree.class(root) {
        return Ok(class.to_name());
    }
    let items = tree.tuple_items(root).ok_or_else(|| not_a_class(root))?;
    let first = *items.first().ok_or_else(|| not_a_class(root))?;
    if let Some(class) = tree.class(first) {
        return Ok(class.to_name());
    }
    let pair = tree.tuple_items(first).unwrap_or(items);
    match pair {
        &[module, name] => match (tree.text(module), tree.text(name)) {
            (Some(module), Some(name)) => Ok(ClassName { module: module.into_owned(), name: name.into_owned() }),
            _ => Err(not_a_class(first)),
        },
        _ => Err(not_a_class(first)),
    }
}

/// Describes the value in the place of the class.
fn what_instead(tree: &Tree<'_>, id: Id) -> &'static str {
    match tree.node(id) {
        Node::Atom(Atom::None) => "None",
        Node::Atom(Atom::Str(..)) | Node::Encoded(_) => "a string",
        Node::Atom(Atom::Extension(_)) => "a number in an extension registry",
        Node::Atom(_) => "a plain value",
        Node::Tuple(_) => "a tuple of something else",
        Node::List(_) => "a list",
        Node::Dict(_) => "a dict",
        Node::Persistent { .. } | Node::PersistentLine { .. } => "a reference to another object",
        _ => "an object",
    }
}
