//! The way from a tree's root down to a leaf.
//!
//! Records may be damaged. A way is at most [`LEVELS_MAX`] long and passes no node twice, and the keys of its leaf must
//! lie between the separators on it. So two leaves share no keys, and a walk from leaf to leaf ends.

use std::ops::Deref;
use std::rc::Rc;

use super::family::{Shape, class_name};
use super::leaf::Leaf;
use super::node::{Below, Children, Node, is_less};
use crate::error::{Error, Result, Trouble};
use crate::handle::{Core, RawRef};
use crate::object::View;
use crate::{Persistent, Ref};

/// Levels of a tree. A tree of the smallest nodes that has so many would have more keys than fit any disk.
pub(super) const LEVELS_MAX: usize = 100;

/// A node on the way, and which of its children comes next.
pub(super) struct Step<S: Shape> {
    pub(super) node: Ref<Node<S>>,
    pub(super) view: View<Node<S>>,
    pub(super) index: usize,
}

impl<S: Shape> Step<S> {
    pub(super) fn children(&self) -> Option<&Children<S>> {
        self.view.children()
    }
}

/// The state of a leaf.
pub(super) enum Found<S: Shape> {
    /// An object of its own.
    Own(Ref<Leaf<S>>, View<Leaf<S>>),
    /// A part of the last node of the way.
    Inside(View<Node<S>>),
}

impl<S: Shape> Deref for Found<S> {
    type Target = Leaf<S>;

    fn deref(&self) -> &Leaf<S> {
        match self {
            Found::Own(_, view) => view,
            Found::Inside(view) => match &view.below {
                Below::Inside(leaf) => leaf,
                Below::Nothing | Below::Children(_) => unreachable!("it was found inside"),
            },
        }
    }
}

impl<S: Shape> Found<S> {
    pub(super) fn object(&self) -> Option<&RawRef> {
        match self {
            Found::Own(object, _) => Some(object.raw()),
            Found::Inside(_) => None,
        }
    }
}

/// The way to a leaf.
pub(super) struct Way<S: Shape> {
    pub(super) core: Rc<Core>,
    pub(super) root: Ref<Node<S>>,
    pub(super) steps: Vec<Step<S>>,
}

/// Levels at which [`glance`] finds a key. A tree of a billion keys has fewer.
const LEVELS: usize = 8;

/// A node that [`glance`] passed, the child that it took, and the nodes above.
struct Passed<'a, S: Shape> {
    slot: u32,
    children: &'a Children<S>,
    index: usize,
    above: Option<&'a Passed<'a, S>>,
}

impl<'a, S: Shape> Passed<'a, S> {
    /// This node and those above.
    fn all(&'a self) -> impl Iterator<Item = &'a Passed<'a, S>> {
        std::iter::successors(Some(self), |passed| passed.above)
    }
}

/// Where [`glance`] leads.
pub(super) enum Seen<S: Shape> {
    /// An empty tree.
    Empty,
    /// A leaf of its own, with its slot.
    Leaf(u32, View<Leaf<S>>),
}

/// Goes to the leaf of a key without the handles with which a [`Way`] tells of errors and changes nodes, and gives
/// `each` the nodes above it. None if something is wrong or unusual, which the caller then finds out by a [`Way`].
pub(super) fn glance<S: Shape>(
    core: &Core,
    root: &Ref<Node<S>>,
    key: &S::Key,
    each: impl FnMut(u32),
) -> Option<Seen<S>> {
    glance_below(core, root.raw().slot(), key, None, LEVELS, each)
}

fn glance_below<S: Shape>(
    core: &Core,
    slot: u32,
    key: &S::Key,
    above: Option<&Passed<'_, S>>,
    levels: usize,
    mut each: impl FnMut(u32),
) -> Option<Seen<S>> {
    let view = core.view::<Node<S>>(slot).ok()?;
    let children = match &view.below {
        Below::Nothing if above.is_none() => return Some(Seen::Empty),
        Below::Children(children) => children,
        Below::Nothing | Below::Inside(_) => return None,
    };
    let index = children.place(key).ok()?;
    let passed = Passed { slot, children, index, above };
    let to = &children.links[index].to;
    if !core.is_own(to) || passed.all().any(|node| node.slot == to.slot()) {
        return None;
    }
    if !children.are_leaves? {
        return glance_below(core, to.slot(), key, Some(&passed), levels.checked_sub(1)?, each);
    }
    let leaf = core.view::<Leaf<S>>(to.slot()).ok()?;
    let is_between = passed.all().all(|node| fault_between(&leaf, node.children, node.index).is_none());
    if leaf.is_empty() || !is_between {
        return None;
    }
    passed.all().for_each(|node| each(node.slot));
    Some(Seen::Leaf(to.slot(), leaf))
}

/// Whether a leaf has keys that are not between the separators beside a child.
fn fault_between<S: Shape>(leaf: &Leaf<S>, children: &Children<S>, index: usize) -> Option<&'static str> {
    let (least, most) = (leaf.keys().first()?, leaf.keys().last()?);
    let low = index.checked_sub(1).and_then(|at| children.keys.get(at));
    if low.is_some_and(|low| is_less(least, low) == Some(true)) {
        return Some("it has keys that are less than the separator before it");
    }
    if children.keys.get(index).is_some_and(|high| is_less(most, high) == Some(false)) {
        return Some("it has keys that are not less than the separator behind it");
    }
    None
}

/// A child, loaded.
enum Child<S: Shape> {
    Leaf(Ref<Leaf<S>>, View<Leaf<S>>),
    Node(Ref<Node<S>>, View<Node<S>>),
}

impl<S: Shape> Way<S> {
    pub(super) fn new(root: &Ref<Node<S>>) -> Result<Way<S>> {
        Ok(Way { core: root.raw().core()?, root: root.clone(), steps: Vec::new() })
    }

    /// Goes down from the root. `choose` names the child in each node. None if the tree is empty.
    pub(super) fn descend(
        &mut self,
        choose: &mut dyn FnMut(&Children<S>) -> Result<usize, Trouble>,
    ) -> Result<Option<Found<S>>> {
        self.steps.clear();
        let view = self.root.view()?;
        if let Below::Nothing = view.below {
            return Ok(None);
        }
        self.down(self.root.clone(), view, choose).map(Some)
    }

    /// Goes to the child that the last step names, and further down.
    pub(super) fn descend_on(
        &mut self,
        choose: &mut dyn FnMut(&Children<S>) -> Result<usize, Trouble>,
    ) -> Result<Found<S>> {
        match self.child()? {
            Child::Leaf(leaf, view) => self.landed(Found::Own(leaf, view)),
            Child::Node(node, view) => self.down(node, view, choose),
        }
    }

    fn down(
        &mut self,
        mut node: Ref<Node<S>>,
        mut view: View<Node<S>>,
        choose: &mut dyn FnMut(&Children<S>) -> Result<usize, Trouble>,
    ) -> Result<Found<S>> {
        loop {
            let index = match &view.below {
                Below::Nothing => {
                    return Err(self.damaged(node.raw(), S::NODE, Trouble::Node("it is an empty node below the root")));
                }
                Below::Inside(_) => {
                    let found = Found::Inside(view.clone());
                    self.steps.push(Step { node, view, index: 0 });
                    return self.landed(found);
                }
                // Only keys are compared here.
                Below::Children(children) => choose(children).map_err(|trouble| self.key(trouble))?,
            };
            self.steps.push(Step { node, view, index });
            match self.child()? {
                Child::Leaf(leaf, view) => return self.landed(Found::Own(leaf, view)),
                Child::Node(next, next_view) => (node, view) = (next, next_view),
            }
        }
    }

    /// The child that the last step names.
    fn child(&self) -> Result<Child<S>> {
        let Some((children, index)) = self.steps.last().and_then(|step| Some((step.children()?, step.index))) else {
            return Err(self.damaged(self.root.raw(), S::NODE, Trouble::Node("it has no children")));
        };
        let to = &children.links[index].to;
        if self.steps.iter().any(|step| step.node.raw() == to) {
            return Err(self.damaged(to, S::NODE, Trouble::Node("it is a node below itself")));
        }
        if self.steps.len() >= LEVELS_MAX {
            return Err(self.damaged(to, S::NODE, Trouble::Node("the tree has more than 100 levels")));
        }
        let leaf = || Ref::<Leaf<S>>::from_raw(to.clone());
        let node = || Ref::<Node<S>>::from_raw(to.clone());
        let found = match children.are_leaves {
            Some(true) => leaf().view().map(|view| Child::Leaf(leaf(), view)),
            Some(false) => node().view().map(|view| Child::Node(node(), view)),
            None => match leaf().view() {
                Err(Error::WrongClass { found, .. }) if <Node<S> as Persistent>::accepts(&found) => {
                    node().view().map(|view| Child::Node(node(), view))
                }
                found => found.map(|view| Child::Leaf(leaf(), view)),
            },
        };
        found.map_err(|error| self.within(error))
    }

    /// Checks that the leaf lies between the separators on the way.
    fn landed(&self, found: Found<S>) -> Result<Found<S>> {
        let fault = |trouble| match found.object() {
            Some(leaf) => self.damaged(leaf, S::LEAF, Trouble::Node(trouble)),
            None => {
                let node = self.steps.last().map_or(&self.root, |step| &step.node);
                self.damaged(node.raw(), S::NODE, Trouble::Node(trouble))
            }
        };
        if found.is_empty() {
            return Err(fault("it is an empty leaf in a tree"));
        }
        for (children, index) in self.steps.iter().filter_map(|step| Some((step.children()?, step.index))) {
            if let Some(trouble) = fault_between(&*found, children, index) {
                return Err(fault(trouble));
            }
        }
        Ok(found)
    }

    // Errors.

    /// An error, and where it is.
    pub(super) fn within(&self, error: Error) -> Error {
        let path: Vec<usize> = self.steps.iter().map(|step| step.index).collect();
        Error::InTree { tree: self.root.oid(), path, error: Box::new(error) }
    }

    /// A node that is damaged.
    pub(super) fn damaged(&self, object: &RawRef, class: (&'static str, &'static str), trouble: Trouble) -> Error {
        let oid = self.core.oid(object.slot());
        let error = Error::Unreadable { oid, class: Some(Box::new(class_name(class))), trouble };
        if object == self.root.raw() && self.steps.is_empty() { error } else { self.within(error) }
    }

    /// A leaf that does not fit those beside it.
    pub(super) fn damaged_leaf(&self, found: &Found<S>, what: &'static str) -> Error {
        match found.object() {
            Some(leaf) => self.damaged(leaf, S::LEAF, Trouble::Node(what)),
            None => {
                let node = self.steps.last().map_or(&self.root, |step| &step.node);
                self.damaged(node.raw(), S::NODE, Trouble::Node(what))
            }
        }
    }

    /// A key that cannot be compared.
    pub(super) fn key(&self, trouble: Trouble) -> Error {
        key_error(&self.root, trouble)
    }
}

pub(super) fn key_error<S: Shape>(tree: &Ref<Node<S>>, trouble: Trouble) -> Error {
    Error::Key { tree: tree.oid(), class: Box::new(class_name(S::NODE)), trouble }
}
