//! Which parts are one object to Python, although they stand at two places.
//!
//! Merging brings parts of three records together. ZODB reads those with one table of references: two persistent ids
//! that are equal, whichever record they are from, give one object, and some merges hang on that (a bucket's `next`,
//! and every weak reference, is compared by identity). The pickler, which writes what it has written before as a short
//! reference into the memo, sees one object, too; and it sees one where Python keeps a single instance of a value:
//! a class, a string of no or one character.

use crate::machine::Atom;
use crate::part::Part;
use crate::reference::ClassRef;
use crate::strings::{self, Kind, Span};
use crate::tree::{Id, Node, Tree};

/// Persistent ids are at most `['m', (database, oid, (module, name))]`.
const DEPTH_MAX: usize = 4;

/// No more bytes of one string in a persistent id are compared.
const STRING_MAX: usize = 1024;

/// Are both references with equal persistent ids?
pub(crate) fn same_reference(one: Part<'_>, other: Part<'_>) -> bool {
    let text = |tree: &Tree<'_>, line: Span| tree.raw(line).to_vec();
    match (one.tree.node(one.id), other.tree.node(other.id)) {
        (&Node::Persistent { id: a, .. }, &Node::Persistent { id: b, .. }) => {
            equal((one.tree, a), (other.tree, b), DEPTH_MAX)
        }
        (&Node::PersistentLine { line: a, .. }, &Node::PersistentLine { line: b, .. }) => {
            one.tree.raw(a) == other.tree.raw(b)
        }
        // The line is text to Python, so it equals an id that is nothing but text.
        (&Node::PersistentLine { line, .. }, &Node::Persistent { id, .. }) => {
            literal(other.tree, id) == Some(Literal::Text(text(one.tree, line)))
        }
        (&Node::Persistent { id, .. }, &Node::PersistentLine { line, .. }) => {
            literal(one.tree, id) == Some(Literal::Text(text(other.tree, line)))
        }
        _ => false,
    }
}

/// Equality of persistent ids. A tuple is not a list: they differ in length or in their first item wherever both are
/// ids.
fn equal((one, a): (&Tree<'_>, Id), (other, b): (&Tree<'_>, Id), depth: usize) -> bool {
    let items = |a: &[Id], b: &[Id]| {
        depth > 0
            && a.len() == b.len()
            && a.len() <= 3
            && a.iter().zip(b).all(|(&a, &b)| equal((one, a), (other, b), depth - 1))
    };
    match (one.node(a), other.node(b)) {
        (Node::Tuple(a), Node::Tuple(b)) => items(one.run(*a), other.run(*b)),
        (Node::List(a), Node::List(b)) => items(a, b),
        (Node::Atom(Atom::None), Node::Atom(Atom::None)) => true,
        _ => match (one.class(a), other.class(b)) {
            (Some(a), Some(b)) => a == b,
            (None, None) => literal(one, a).is_some_and(|string| literal(other, b) == Some(string)),
            _ => false,
        },
    }
}

/// A string as Python 3 reads it.
#[derive(Debug, PartialEq)]
enum Literal {
    Bytes(Vec<u8>),
    Text(Vec<u8>),
}

fn literal(tree: &Tree<'_>, id: Id) -> Option<Literal> {
    if tree.raw_length(id) > STRING_MAX {
        return None;
    }
    match *tree.node(id) {
        Node::Atom(Atom::Str(Kind::Text, span)) => Some(Literal::Text(tree.raw(span).to_vec())),
        Node::Atom(Atom::Str(Kind::TextLine, span)) => strings::line(tree.raw(span)).map(Literal::Text),
        Node::Atom(Atom::Str(Kind::Native | Kind::NativeLine, _)) => {
            let bytes = tree.bytes(id)?.into_owned();
            Some(if bytes.is_ascii() { Literal::Text(bytes) } else { Literal::Bytes(bytes) })
        }
        _ => tree.bytes(id).map(|bytes| Literal::Bytes(bytes.into_owned())),
    }
}

/// The key of a value in the memo of a record that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Identity<'p> {
    /// A node of a record that was read; trees are told apart by where they are.
    Node(usize, Id),
    /// Bytes that are not longer than one.
    ShortBytes(Option<u8>),
    /// Text that is not longer than one character of Latin-1.
    ShortText(Option<char>),
    Class(ClassRef<'p>),
    /// The persistent id `(oid, class)`, or the oid alone, with the oid as bytes.
    Reference(u64, Option<ClassRef<'p>>),
}

/// Class names that are longer are not compared: one may be used in many references.
const NAME_MAX: usize = 256;

impl<'p> Identity<'p> {
    pub(crate) fn of_node(tree: &'p Tree<'p>, id: Id) -> Self {
        Identity::Node(std::ptr::from_ref(tree).addr(), id)
    }

    /// Of a persistent id, if it is of the common form.
    pub(crate) fn of_persistent_id(tree: &'p Tree<'p>, id: Id) -> Option<Self> {
        let oid = |id| match *tree.node(id) {
            Node::Atom(Atom::Str(Kind::Bytes, span)) => tree.raw(span).try_into().ok().map(u64::from_be_bytes),
            _ => None,
        };
        match *tree.node(id) {
            Node::Tuple(run) => match tree.run(run)[..] {
                [first, second] => {
                    let class = tree.class(second)?;
                    let short = class.module.len() + class.name.len() <= NAME_MAX;
                    short.then_some(Identity::Reference(oid(first)?, Some(class)))
                }
                _ => None,
            },
            _ => oid(id).map(|oid| Identity::Reference(oid, None)),
        }
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [] => Some(Identity::ShortBytes(None)),
            [only] => Some(Identity::ShortBytes(Some(only))),
            _ => None,
        }
    }

    pub(crate) fn of_text(text: &[u8]) -> Option<Self> {
        match *text {
            [] => Some(Identity::ShortText(None)),
            [only] => Some(Identity::ShortText(Some(char::from(only)))),
            // Two bytes in UTF-8, and one in Latin-1.
            [lead @ 0xc2..=0xc3, rest] => Some(Identity::ShortText(Some(char::from((lead & 3) << 6 | rest & 0x3f)))),
            _ => None,
        }
    }
}
