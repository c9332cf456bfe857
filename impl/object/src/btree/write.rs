//! Changes of a tree: the same objects are changed as by the BTrees package, and the same shape results.
//!
//! Everything that can fail for a reason in the records is done before the first change.

use std::rc::Rc;

use super::content::{Content, Key};
use super::family::Shape;
use super::leaf::{Leaf, compare};
use super::link::Link;
use super::node::{Below, Children, Node};
use super::way::{Found, Seen, Way, glance, key_error};
use crate::Ref;
use crate::View;
use crate::error::{Error, Result, Trouble};
use crate::handle::{Core, RawRef};
use crate::heap::State;
use crate::object::{Object, Stored};

/// The result of giving a key a value.
pub(super) enum Put<V> {
    /// The key is new.
    Added,
    /// The key had this value.
    Replaced(V),
    /// The key is here, and keeps its value.
    Kept(V),
}

/// A leaf, and its state.
type Viewed<S> = (Ref<Leaf<S>>, View<Leaf<S>>);

/// The nodes above a leaf, from the root, each with the number of the child.
type Path<S> = Vec<(Ref<Node<S>>, usize)>;

fn make<T: crate::Persistent>(core: &Core, value: T) -> RawRef {
    let object: Rc<dyn Object> = Rc::new(Stored { value, kept: None });
    let slot = core.heap(|heap| heap.make(object));
    core.counted(slot)
}

impl<S: Shape> Way<S> {
    /// Ends the way, so that its nodes can be changed.
    fn into_path(self) -> (Rc<Core>, Path<S>) {
        (self.core, self.steps.into_iter().map(|step| (step.node, step.index)).collect())
    }

    fn read_current(&self) {
        self.steps.iter().for_each(|step| read_current(&self.core, step.node.raw().slot()));
    }

    /// A change within a node below the root, of which the parent would not know.
    fn check_inside(&self) -> Result<()> {
        match self.steps.last() {
            Some(step) if self.steps.len() > 1 => {
                let trouble = Trouble::Node("its leaf is inside it, though others refer to that leaf");
                Err(self.damaged(step.node.raw(), S::NODE, trouble))
            }
            _ => Ok(()),
        }
    }
}

/// The BTrees package makes the commit depend on every node above the leaf, so that no other transaction takes the leaf
/// out of the tree.
fn read_current(core: &Core, node: u32) {
    core.read_current(node);
}

/// Refuses to begin a change of these objects if the program looks at one of them.
fn check_unused<S: Shape>(core: &Core, path: &[(Ref<Node<S>>, usize)], leaf: &RawRef) -> Result<()> {
    path.iter().map(|(node, _)| node.raw()).chain([leaf]).try_for_each(|object| core.check_unused(object.slot()))
}

impl<S: Shape> Ref<Node<S>> {
    pub(super) fn put(&self, key: S::Key, value: S::Value, replace: bool) -> Result<Put<S::Value>> {
        key.check().map_err(|trouble| key_error(self, trouble))?;
        let core = self.raw().core()?;
        core.check_writable()?;
        if let Some((leaf, at)) = self.room(&core, &key) {
            core.change::<Leaf<S>, _>(leaf, |leaf| leaf.insert_at(at, key, value))?;
            return Ok(Put::Added);
        }
        let mut way = Way::new(self)?;
        let Some(found) = way.descend(&mut |children| children.place(&key))? else {
            self.change(|node| node.below = Below::Inside(Leaf::one(key, value)))?;
            return Ok(Put::Added);
        };
        way.read_current();
        let at = match found.find(&key).map_err(|trouble| way.key(trouble))? {
            Ok(at) => {
                let old = &found.values()[at];
                if !replace {
                    return Ok(Put::Kept(old.clone()));
                }
                if old.is_kept_for(&value) {
                    return Ok(Put::Replaced(old.clone()));
                }
                return match &found {
                    Found::Inside(_) => {
                        way.check_inside()?;
                        drop((found, way));
                        self.change_inside(|leaf| leaf.replace_at(at, value))
                    }
                    Found::Own(leaf, _) => {
                        let leaf = leaf.clone();
                        drop((found, way));
                        leaf.change(|leaf| leaf.replace_at(at, value))
                    }
                }
                .map(Put::Replaced);
            }
            Err(at) => at,
        };
        let leaf = match &found {
            Found::Own(leaf, _) => leaf.clone(),
            Found::Inside(_) => {
                way.check_inside()?;
                drop((found, way));
                return self.grow_inside(at, key, value);
            }
        };
        let splits = found.len() >= S::sizes().0;
        drop(found);
        let (core, path) = way.into_path();
        if splits {
            check_unused(&core, &path, leaf.raw())?;
        }
        let new = leaf.change(|leaf| {
            leaf.insert_at(at, key, value);
            if leaf.len() <= S::sizes().0 {
                return None;
            }
            let right = leaf.split();
            let first = right.keys()[0].clone();
            let right = make(&core, right);
            leaf.next = Some(Link::new(right.clone()));
            Some((first, right))
        })?;
        if let Some((key, right)) = new {
            grow(&core, &path, key, right)?;
        }
        Ok(Put::Added)
    }

    /// The slot of the leaf where a new key belongs, and the key's place. None if the leaf has to be split, or the key
    /// is here, or something is unusual.
    fn room(&self, core: &Core, key: &S::Key) -> Option<(u32, usize)> {
        let Seen::Leaf(slot, leaf) = glance(core, self, key, |node| read_current(core, node))? else { return None };
        let at = leaf.find(key).ok()?.err()?;
        (leaf.len() < S::sizes().0).then_some((slot, at))
    }

    /// Changes the leaf inside the root.
    fn change_inside<R>(&self, work: impl FnOnce(&mut Leaf<S>) -> R) -> Result<R> {
        let done = self.change(|node| match &mut node.below {
            Below::Inside(leaf) => Some(work(leaf)),
            Below::Nothing | Below::Children(_) => None,
        })?;
        done.ok_or_else(|| Error::InUse { oid: self.oid() })
    }

    /// A new key of the leaf inside the root. If it grows too large, two leaves become objects of their own.
    fn grow_inside(&self, at: usize, key: S::Key, value: S::Value) -> Result<Put<S::Value>> {
        let core = self.raw().core()?;
        self.change(|node| {
            let Below::Inside(leaf) = &mut node.below else { return };
            leaf.insert_at(at, key, value);
            if leaf.len() <= S::sizes().0 {
                return;
            }
            let right = leaf.split();
            let keys = vec![right.keys()[0].clone()];
            let right = make(&core, right);
            let mut left = std::mem::take(leaf);
            left.next = Some(Link::new(right.clone()));
            let left = make(&core, left);
            let first = Link::new(left.clone());
            let links = vec![Link::new(left), Link::new(right)];
            node.below = Below::Children(Children { links, keys, first, are_leaves: Some(true) });
        })?;
        if S::sizes().1 < 2 {
            grow_root(&core, self, true)?;
        }
        Ok(Put::Added)
    }

    pub(super) fn take(&self, key: &S::Key) -> Result<Option<S::Value>> {
        key.check().map_err(|trouble| key_error(self, trouble))?;
        let mut way = Way::new(self)?;
        way.core.check_writable()?;
        let Some(found) = way.descend(&mut |children| children.place(key))? else { return Ok(None) };
        way.read_current();
        let Ok(at) = found.find(key).map_err(|trouble| way.key(trouble))? else { return Ok(None) };
        let leaf = match &found {
            Found::Own(leaf, _) => leaf.clone(),
            Found::Inside(_) => {
                way.check_inside()?;
                let is_last = found.len() == 1;
                drop((found, way));
                let value = self.change_inside(|leaf| leaf.remove_at(at))?;
                if is_last {
                    self.change(|node| node.below = Below::Nothing)?;
                }
                return Ok(Some(value));
            }
        };
        // Nodes whose separator is the key.
        let raised: Vec<usize> = way
            .steps
            .iter()
            .enumerate()
            .filter_map(|(level, step)| {
                let separator = step.children()?.keys.get(step.index.checked_sub(1)?)?;
                (compare(separator, key).ok()? == std::cmp::Ordering::Equal).then_some(level)
            })
            .collect();
        if found.len() == 1 {
            return way.remove_leaf(found, &leaf, &raised).map(Some);
        }
        let least = found.keys()[usize::from(at == 0)].clone();
        drop(found);
        let (core, path) = way.into_path();
        check_unused(&core, if raised.is_empty() { &[] } else { &path }, leaf.raw())?;
        let value = leaf.change(|leaf| leaf.remove_at(at))?;
        raise(&path, &raised, &least)?;
        Ok(Some(value))
    }

    pub(super) fn empty(&self) -> Result<()> {
        if let Below::Nothing = self.view()?.below {
            return Ok(());
        }
        self.change(|node| node.below = Below::Nothing)
    }
}

/// A deleted key was the separator of a child: the child's least key takes its place.
fn raise<S: Shape>(path: &[(Ref<Node<S>>, usize)], levels: &[usize], least: &S::Key) -> Result<()> {
    for &level in levels {
        let (node, index) = &path[level];
        node.change(|node| {
            if let Some(children) = node.children_mut() {
                children.keys[index - 1] = least.clone();
            }
        })?;
    }
    Ok(())
}

/// Puts a new leaf into the node above the one that was split, and splits nodes on the way up.
fn grow<S: Shape>(core: &Core, path: &[(Ref<Node<S>>, usize)], key: S::Key, right: RawRef) -> Result<()> {
    let (mut key, mut right) = (key, right);
    for (level, (node, index)) in path.iter().enumerate().rev() {
        let is_leaf = level + 1 == path.len();
        let count = node.change(|node| {
            let Some(children) = node.children_mut() else { return 0 };
            children.insert(*index, key, right, is_leaf);
            children.links.len()
        })?;
        if count >= 2 * S::sizes().1 {
            return grow_root(core, node, is_leaf);
        }
        if level == 0 || count <= S::sizes().1 {
            return Ok(());
        }
        (key, right) = split(core, node, is_leaf)?;
    }
    Ok(())
}

/// Splits a node: the left half keeps half of the children, rounded down. Returns the separator and the right half.
fn split<S: Shape>(core: &Core, node: &Ref<Node<S>>, of_leaves: bool) -> Result<(S::Key, RawRef)> {
    // The first leaf of the right half, before anything is changed.
    let first = {
        let view = node.view()?;
        let children = view.children().ok_or_else(|| Error::InUse { oid: node.oid() })?;
        let middle = &children.links[children.links.len() / 2];
        match of_leaves {
            true => Link::new(middle.to.clone()),
            false => match Ref::<Node<S>>::from_raw(middle.to.clone()).view()?.children() {
                Some(children) => children.first.clone(),
                None => Link::new(children.first.to.clone()),
            },
        }
    };
    let halves = node.change(|node| {
        let children = node.children_mut()?;
        let half = children.links.len() / 2;
        let links = children.links.split_off(half);
        let keys = children.keys.split_off(half);
        let separator = children.keys.pop()?;
        Some((separator, Children::<S> { links, keys, first, are_leaves: children.are_leaves }))
    })?;
    let (separator, right) = halves.ok_or_else(|| Error::InUse { oid: node.oid() })?;
    Ok((separator, make(core, Node { below: Below::Children(right) })))
}

/// Gives a tree a level more: all children go to one new node, which is split at once.
fn grow_root<S: Shape>(core: &Core, root: &Ref<Node<S>>, of_leaves: bool) -> Result<()> {
    let child = root.change(|node| {
        let first = node.children()?.first.clone();
        let all = std::mem::replace(&mut node.below, Below::Nothing);
        let child = make(core, Node { below: all });
        let links = vec![Link::new(child.clone())];
        node.below = Below::Children(Children { links, keys: Vec::new(), first, are_leaves: Some(false) });
        Some(child)
    })?;
    let Some(child) = child else { return Ok(()) };
    let (key, right) = split(core, &Ref::<Node<S>>::from_raw(child), of_leaves)?;
    root.change(|node| {
        if let Some(children) = node.children_mut() {
            children.insert(0, key, right, false);
        }
    })
}

impl<S: Shape> Way<S> {
    /// Removes the last key of a leaf, and the leaf with it, and the nodes above that have no other child.
    fn remove_leaf(self, found: Found<S>, leaf: &Ref<Leaf<S>>, raised: &[usize]) -> Result<S::Value> {
        let next = found.next.clone();
        // The lowest node that keeps a child; none if the tree becomes empty.
        let keeps = self.steps.iter().rposition(|step| step.children().is_some_and(|all| all.links.len() > 1));
        // The lowest node in which the leaf is not in the first child. All nodes below have it as their first leaf.
        let turn = self.steps.iter().rposition(|step| step.index > 0);
        let before = turn.map(|turn| self.leaf_before(turn)).transpose()?;
        if let Some((before, view)) = &before
            && view.next.as_ref().map(|next| &next.to) != Some(leaf.raw())
        {
            return Err(self.damaged(
                before.raw(),
                S::LEAF,
                Trouble::Node("its next leaf is another than in the tree"),
            ));
        }
        let before = before.map(|(before, _)| before);
        let raised: Vec<usize> =
            raised.iter().copied().filter(|&level| keeps.is_some_and(|keeps| level < keeps)).collect();
        let missing = || self.damaged_leaf(&found, "it has no next leaf, though the tree has one behind it");
        let follows: Vec<usize> = match keeps {
            Some(keeps) => (turn.map_or(0, |turn| turn + 1)..=keeps).collect(),
            None => Vec::new(),
        };
        let least = match (&next, raised.is_empty()) {
            (_, true) => None,
            (None, false) => return Err(missing()),
            (Some(next), false) => {
                let next = Ref::<Leaf<S>>::from_raw(next.to.clone());
                let view = next.view().map_err(|error| self.within(error))?;
                Some(view.keys().first().ok_or_else(missing)?.clone())
            }
        };
        if !follows.is_empty() && next.is_none() {
            return Err(missing());
        }
        drop(found);
        let (core, path) = self.into_path();
        check_unused(&core, &path, leaf.raw())?;
        before.iter().try_for_each(|before| core.check_unused(before.raw().slot()))?;

        let value = leaf.change(|leaf| leaf.remove_at(0))?;
        if let Some(before) = before {
            before.change(|before| before.next = next.clone())?;
        }
        for (node, _) in &path[keeps.map_or(0, |keeps| keeps + 1)..] {
            node.change(|node| node.below = Below::Nothing)?;
        }
        let Some(keeps) = keeps else { return Ok(value) };
        let (node, index) = &path[keeps];
        node.change(|node| node.children_mut().map(|children| children.remove(*index)))?;
        for level in follows {
            path[level].0.change(|node| {
                if let (Some(children), Some(next)) = (node.children_mut(), &next) {
                    children.first = next.clone();
                }
            })?;
        }
        if let Some(least) = least {
            raise(&path, &raised, &least)?;
        }
        drop(next);
        // Only the handle here is left, so it is not stored. A stored one is, as the package does, and names its next.
        if is_new(&core, leaf.raw()) && core.heap(|heap| heap.count(leaf.raw().slot())) == 1 {
            leaf.change(|leaf| leaf.next = None)?;
        }
        if keeps == 0 && path.len() == 1 {
            take_inside(&core, &path[0].0)?;
        }
        Ok(value)
    }

    /// The last leaf below the child before the one that a step names.
    fn leaf_before(&self, turn: usize) -> Result<Viewed<S>> {
        let mut other = Way { core: Rc::clone(&self.core), root: self.root.clone(), steps: Vec::new() };
        for (level, step) in self.steps.iter().enumerate().take(turn + 1) {
            let index = step.index - usize::from(level == turn);
            other.steps.push(super::way::Step { node: step.node.clone(), view: step.view.clone(), index });
        }
        match other.descend_on(&mut |children| Ok(children.links.len() - 1))? {
            Found::Own(leaf, view) => Ok((leaf, view)),
            found @ Found::Inside(_) => {
                Err(other.damaged_leaf(&found, "its leaf is inside it, though another leaf follows"))
            }
        }
    }
}

/// Whether an object was never stored, and will not be unless something refers to it.
fn is_new(core: &Core, object: &RawRef) -> bool {
    core.heap(|heap| heap.state(object.slot())) == State::New && core.oid(object.slot()).is_none()
}

/// A tree of one leaf that was never stored has it inside, unless a leaf that will be stored names it as its next: then
/// it needs an oid.
fn take_inside<S: Shape>(core: &Core, root: &Ref<Node<S>>) -> Result<()> {
    let only = root.view()?.children().and_then(|children| match children.links.as_slice() {
        [only] => Some(Ref::<Leaf<S>>::from_raw(only.to.clone())),
        _ => None,
    });
    let Some(only) = only else { return Ok(()) };
    // The link to it, the first leaf, and the handle here.
    let is_named = core.heap(|heap| heap.count(only.raw().slot())) > 3;
    if is_named || !is_new(core, only.raw()) {
        return Ok(());
    }
    let leaf = Leaf::clone(&*only.view()?);
    root.change(|node| node.below = Below::Inside(leaf))
}
