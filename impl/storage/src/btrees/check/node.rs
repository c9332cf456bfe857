//! A record as a node of a tree.
//!
//! ```text
//!   bucket     ((key, value, ...), next)          next only if there is a next bucket
//!   set        ((key, ...), next)
//!   tree       None                               an empty tree
//!              ((bucket's state,),)               a tree with one bucket, which is no object of its own
//!              ((child, key, child, ...), first)  first: the first bucket below it; left out, it is the first child
//! ```

use vellum_pickle::{Part, Reference, View};

use crate::Oid;
use crate::btrees::family::{Class, Items};
use crate::btrees::state::{Bucket, Datum, only};

/// A node.
#[derive(Debug)]
pub(super) enum Node<'r> {
    /// An empty tree.
    Nothing,
    /// A tree with a list of children in which there is none.
    Childless,
    Inner(Inner<'r>),
    /// A bucket or set, or a tree with one inside.
    Leaf(Leaf<'r>),
}

/// A tree whose children are objects: at least one, with a separator between each two.
#[derive(Debug)]
pub(super) struct Inner<'r> {
    pub(super) children: Vec<Child>,
    pub(super) separators: Vec<Datum<'r>>,
    pub(super) first: Option<Oid>,
}

#[derive(Debug)]
pub(super) struct Child {
    pub(super) oid: Oid,
    /// The class that the reference names, if it is one of the package.
    pub(super) class: Option<Class>,
}

impl Child {
    /// Is it a tree, by the class that the reference names?
    pub(super) fn is_tree(&self) -> Option<bool> {
        match &self.class {
            Some(Class::Items(class)) => Some(class.kind.is_tree()),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Leaf<'r> {
    pub(super) keys: Vec<Datum<'r>>,
    pub(super) next: Option<Oid>,
}

/// The fault of a state, in words.
type Wrong = &'static str;

impl<'r> Node<'r> {
    /// Reads a state of this class.
    pub(super) fn read(class: &Items, state: Part<'r>) -> Result<Self, Wrong> {
        // In Python, keys and values are taken as they come; here they need not come back as they were.
        let mut class = class.clone();
        class.in_python = false;
        let class = &class;
        if !class.kind.is_tree() {
            return Leaf::read(class, state).map(Node::Leaf);
        }
        let parts = match state.view() {
            View::None => return Ok(Node::Nothing),
            View::Tuple(parts) if matches!(parts.len(), 1 | 2) => parts,
            _ => return Err("it is neither None nor a tuple of one or two"),
        };
        let children = parts.get(0).ok_or("it is an empty tuple")?;
        let View::Tuple(items) = children.view() else { return Err("its children are no tuple") };
        if items.is_empty() {
            return Ok(Node::Childless);
        }
        if let Some(bucket) = only(children).filter(|child| matches!(child.view(), View::Tuple(_))) {
            return Leaf::read(class, bucket).map(Node::Leaf);
        }
        if items.len().is_multiple_of(2) {
            return Err("a separator has no child behind it");
        }
        let first = parts.get(1).map(|first| link(first).ok_or("its first bucket is no reference")).transpose()?;
        let mut inner = Inner { children: Vec::new(), separators: Vec::new(), first: first.map(|(oid, _)| oid) };
        for (place, item) in items.iter().enumerate() {
            if place % 2 == 0 {
                let (oid, class) = link(item).ok_or("a child is no reference")?;
                inner.children.push(Child { oid, class });
            } else {
                inner.separators.push(Datum::read_as(class.key, item).ok_or("a separator is no key of its class")?);
            }
        }
        Ok(Node::Inner(inner))
    }
}

impl<'r> Leaf<'r> {
    fn read(class: &Items, state: Part<'r>) -> Result<Self, Wrong> {
        let bucket = Bucket::of_state(class, state).ok_or("it holds no keys, or items, of its class")?;
        let next = bucket.next.map(|next| link(next).ok_or("its next bucket is no reference")).transpose()?;
        Ok(Leaf { keys: bucket.items.into_iter().map(|item| item.key).collect(), next: next.map(|(oid, _)| oid) })
    }
}

/// The object to which a reference leads, and the class that it names.
fn link(part: Part<'_>) -> Option<(Oid, Option<Class>)> {
    match part.view() {
        View::Reference(Reference::Strong { oid, class }) => {
            Some((Oid(oid), class.and_then(|class| Class::named(class.module, class.name))))
        }
        _ => None,
    }
}
