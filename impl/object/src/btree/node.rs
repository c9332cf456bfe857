//! Nodes: a tree's root, and the nodes between it and the leaves. All are of the tree's class.
//!
//! ```text
//!   None                                   an empty tree
//!   ((leaf's state,),)                     a tree of one leaf that is no object of its own
//!   ((child, key, child, ...), first)      first: the first leaf below
//! ```

use std::cmp::Ordering;
use std::fmt;

use vellum_pickle::ClassName;

use super::content::{Content, Key};
use super::family::{Class, Shape, class_name, is_class};
use super::leaf::{Leaf, are_sorted, kept, record};
use super::link::Link;
use crate::Persistent;
use crate::encode::Writer;
use crate::error::Trouble;
use crate::handle::RawRef;
use crate::object::Kept;
use crate::value::{Record, Reference, Value};

/// A tree, or a node of one. Its operations are those of `Ref<Node<S>>`, since most of them reach further objects.
pub struct Node<S: Shape> {
    pub(super) below: Below<S>,
}

/// The part of a tree below a node.
pub(super) enum Below<S: Shape> {
    Nothing,
    /// One leaf that is no object of its own.
    Inside(Leaf<S>),
    Children(Children<S>),
}

/// At least one child, and the separators between them: the keys of child `n` are not less than `keys[n - 1]`, and less
/// than `keys[n]`.
pub(super) struct Children<S: Shape> {
    pub(super) links: Vec<Link>,
    pub(super) keys: Vec<S::Key>,
    pub(super) first: Link,
    /// Whether the children are leaves, by the class that the references name. None if they name none that is known.
    pub(super) are_leaves: Option<bool>,
}

impl<S: Shape> Children<S> {
    /// The child where a key belongs. A key that equals a separator belongs to its right.
    pub(super) fn place(&self, key: &S::Key) -> Result<usize, Trouble> {
        Ok(match S::Key::search(&self.keys, key)? {
            Ok(at) => at + 1,
            Err(at) => at,
        })
    }

    /// Puts a new child behind another one.
    pub(super) fn insert(&mut self, after: usize, key: S::Key, child: RawRef, is_leaf: bool) {
        let link = match self.are_leaves {
            Some(_) => Link::new(child),
            None => Link::of_class(child, if is_leaf { S::LEAF } else { S::NODE }),
        };
        self.links.insert(after + 1, link);
        self.keys.insert(after, key);
    }

    /// Removes a child, and a separator beside it.
    pub(super) fn remove(&mut self, at: usize) {
        self.links.remove(at);
        if !self.keys.is_empty() {
            self.keys.remove(at.saturating_sub(1));
        }
    }

    /// The class with which references to the children are written.
    fn usual(&self) -> Option<Class> {
        self.are_leaves.map(|are_leaves| if are_leaves { S::LEAF } else { S::NODE })
    }

    fn read(items: Vec<Value>, first: Option<Value>) -> Result<Children<S>, Trouble> {
        if items.len().is_multiple_of(2) {
            return Err(Trouble::Node("its last separator has no child behind it"));
        }
        let class_of = |item: &Value| match item {
            Value::Reference(Reference { class: Some(class), .. }) if is_class(class, S::LEAF) => Some(true),
            Value::Reference(Reference { class: Some(class), .. }) if is_class(class, S::NODE) => Some(false),
            _ => None,
        };
        let are_leaves = class_of(&items[0]);
        let usual = are_leaves.map(|are_leaves| if are_leaves { S::LEAF } else { S::NODE });
        let (mut links, mut keys) = (Vec::with_capacity(items.len() / 2 + 1), Vec::with_capacity(items.len() / 2));
        for (at, item) in items.into_iter().enumerate() {
            if at % 2 == 1 {
                keys.push(S::Key::read(item)?);
                continue;
            }
            if class_of(&item).is_some_and(|is_leaf| are_leaves == Some(!is_leaf)) {
                return Err(Trouble::Node("its children are leaves and nodes"));
            }
            links.push(Link::read(item, usual).ok_or(Trouble::Node("a child of it is not a reference"))?);
        }
        are_sorted(&keys).map_err(|_| Trouble::Node("its separators are not sorted"))?;
        let first = match first {
            Some(first) => {
                Link::read(first, Some(S::LEAF)).ok_or(Trouble::Node("its first leaf is not a reference"))?
            }
            None if are_leaves == Some(true) => links[0].clone(),
            None => return Err(Trouble::Node("it does not name its first leaf")),
        };
        Ok(Children { links, keys, first, are_leaves })
    }

    fn to_value(&self) -> Value {
        let mut items = Vec::with_capacity(self.links.len() + self.keys.len());
        let mut keys = self.keys.iter();
        for link in &self.links {
            items.push(link.to_value(self.usual()));
            items.extend(keys.next().map(Content::write));
        }
        Value::Tuple(vec![Value::Tuple(items), self.first.to_value(Some(S::LEAF))])
    }

    /// Writes the state, as [`Children::to_value`] gives it.
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.tuple_of(2, |writer| {
            writer.tuple_of(self.links.len() + self.keys.len(), |writer| {
                let mut keys = self.keys.iter();
                for link in &self.links {
                    link.write(self.usual(), writer)?;
                    keys.next().map_or(Ok(()), |key| key.write_to(writer))?;
                }
                Ok(())
            })?;
            self.first.write(Some(S::LEAF), writer)
        })
    }
}

impl<S: Shape> Node<S> {
    pub(super) fn children(&self) -> Option<&Children<S>> {
        match &self.below {
            Below::Children(children) => Some(children),
            Below::Nothing | Below::Inside(_) => None,
        }
    }

    pub(super) fn children_mut(&mut self) -> Option<&mut Children<S>> {
        match &mut self.below {
            Below::Children(children) => Some(children),
            Below::Nothing | Below::Inside(_) => None,
        }
    }
}

impl<S: Shape> Persistent for Node<S> {
    const CLASS: (&'static str, &'static str) = S::NODE;

    fn accepts(class: &ClassName) -> bool {
        is_class(class, S::NODE)
    }

    fn class(&self) -> ClassName {
        class_name(S::NODE)
    }

    fn load(found: Record) -> Result<(Self, Option<Box<Kept>>), Trouble> {
        let Record { class, state, protocol } = found;
        let wrong = |found: &Value| Trouble::Shape { expected: "None or a tuple of children", found: found.kind() };
        let below = match state {
            Value::None => Below::Nothing,
            Value::Tuple(parts) if matches!(parts.len(), 1 | 2) => {
                let mut parts = parts.into_iter();
                match parts.next() {
                    Some(Value::Tuple(items)) if items.is_empty() => return Err(Trouble::Node("it has no children")),
                    Some(Value::Tuple(mut items)) if items.len() == 1 && matches!(items[0], Value::Tuple(_)) => {
                        Below::Inside(Leaf::read(items.remove(0))?)
                    }
                    Some(Value::Tuple(items)) => Below::Children(Children::read(items, parts.next())?),
                    other => return Err(wrong(&other.unwrap_or(Value::None))),
                }
            }
            other => return Err(wrong(&other)),
        };
        Ok((Node { below }, kept(class, protocol, S::NODE)))
    }

    fn save(&self, kept: Option<&Kept>) -> Record {
        let state = match &self.below {
            Below::Nothing => Value::None,
            Below::Inside(leaf) => Value::Tuple(vec![Value::Tuple(vec![leaf.to_value()])]),
            Below::Children(children) => children.to_value(),
        };
        record(state, kept, S::NODE)
    }

    fn write(&self, kept: Option<&Kept>, writer: &mut Writer<'_>) -> Result<(), Trouble> {
        writer.record_of(S::NODE, kept, |writer| match &self.below {
            Below::Nothing => {
                writer.none();
                Ok(())
            }
            Below::Inside(leaf) => writer.tuple_of(1, |writer| writer.tuple_of(1, |writer| leaf.write(writer))),
            Below::Children(children) => children.write(writer),
        })
    }

    fn trace(&self, visit: &mut dyn FnMut(&RawRef)) {
        match &self.below {
            Below::Nothing => {}
            Below::Inside(leaf) => leaf.trace_parts(visit),
            Below::Children(children) => {
                children.links.iter().for_each(|link| visit(&link.to));
                children.keys.iter().for_each(|key| key.trace(visit));
                visit(&children.first.to);
            }
        }
    }

    fn bytes(&self) -> usize {
        match &self.below {
            Below::Nothing => 0,
            Below::Inside(leaf) => leaf.part_bytes(),
            Below::Children(children) => {
                let places =
                    children.links.capacity() * size_of::<Link>() + children.keys.capacity() * size_of::<S::Key>();
                let links = children.links.iter().map(Link::bytes).sum::<usize>();
                places + links + children.keys.iter().map(Content::bytes).sum::<usize>() + children.first.bytes()
            }
        }
    }
}

/// An empty tree.
impl<S: Shape> Default for Node<S> {
    fn default() -> Self {
        Node { below: Below::Nothing }
    }
}

impl<S: Shape> fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.below {
            Below::Nothing => f.write_str("an empty tree"),
            Below::Inside(leaf) => leaf.fmt(f),
            Below::Children(children) => write!(f, "a node of {} children", children.links.len()),
        }
    }
}

/// The order of a key and a bound, if there is one.
pub(super) fn is_less<K: Key>(one: &K, other: &K) -> Option<bool> {
    one.order(other).map(Ordering::is_lt)
}
