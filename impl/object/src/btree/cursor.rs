//! A walk from leaf to leaf, forwards or backwards, by the nodes above them. Each leaf must lead to the next.

use std::collections::HashMap;

use super::family::Shape;
use super::node::{Children, Node};
use super::way::{Found, Way};
use crate::Ref;
use crate::error::{Result, Trouble};
use crate::handle::RawRef;

pub(super) struct Cursor<S: Shape> {
    pub(super) way: Way<S>,
    pub(super) leaf: Found<S>,
    /// The leaves that were passed, if there are keys without an order: nothing else shows then that a walk goes in a
    /// circle.
    passed: HashMap<u32, RawRef>,
}

fn first<S: Shape>(_: &Children<S>) -> Result<usize, Trouble> {
    Ok(0)
}

fn last<S: Shape>(children: &Children<S>) -> Result<usize, Trouble> {
    Ok(children.links.len() - 1)
}

impl<S: Shape> Cursor<S> {
    /// The leaf to which `choose` leads. None if the tree is empty.
    pub(super) fn to(
        root: &Ref<Node<S>>,
        choose: &mut dyn FnMut(&Children<S>) -> Result<usize, Trouble>,
    ) -> Result<Option<Cursor<S>>> {
        let mut way = Way::new(root)?;
        let Some(leaf) = way.descend(choose)? else { return Ok(None) };
        let mut cursor = Cursor { way, leaf, passed: HashMap::new() };
        cursor.pass()?;
        Ok(Some(cursor))
    }

    pub(super) fn to_first(root: &Ref<Node<S>>) -> Result<Option<Cursor<S>>> {
        Cursor::to(root, &mut first)
    }

    pub(super) fn to_last(root: &Ref<Node<S>>) -> Result<Option<Cursor<S>>> {
        Cursor::to(root, &mut last)
    }

    /// Goes to the next leaf. False if there is none.
    pub(super) fn next(&mut self) -> Result<bool> {
        let up = self
            .way
            .steps
            .iter()
            .rposition(|step| step.children().is_some_and(|children| step.index + 1 < children.links.len()));
        let Some(up) = up else {
            if self.leaf.next.is_some() {
                return Err(self.way.damaged_leaf(&self.leaf, "it has a next leaf, though it is the tree's last"));
            }
            return Ok(false);
        };
        self.way.steps.truncate(up + 1);
        self.way.steps[up].index += 1;
        let next = self.way.descend_on(&mut first)?;
        let before = std::mem::replace(&mut self.leaf, next);
        self.check_chain(&before, &self.leaf)?;
        self.pass()?;
        Ok(true)
    }

    /// Goes to the leaf before. False if there is none.
    pub(super) fn back(&mut self) -> Result<bool> {
        let Some(up) = self.way.steps.iter().rposition(|step| step.index > 0) else { return Ok(false) };
        self.way.steps.truncate(up + 1);
        self.way.steps[up].index -= 1;
        let before = self.way.descend_on(&mut last)?;
        let behind = std::mem::replace(&mut self.leaf, before);
        self.check_chain(&self.leaf, &behind)?;
        self.pass()?;
        Ok(true)
    }

    /// Whether it is at the same leaf as another cursor.
    pub(super) fn is_at(&self, other: &Cursor<S>) -> bool {
        self.leaf.object() == other.leaf.object()
    }

    fn check_chain(&self, before: &Found<S>, behind: &Found<S>) -> Result<()> {
        let next = before.next.as_ref().map(|next| &next.to);
        if next.is_none() || next != behind.object() {
            return Err(self.way.damaged_leaf(before, "its next leaf is another than in the tree"));
        }
        Ok(())
    }

    /// Notes a leaf whose keys do not show whether it was passed before.
    fn pass(&mut self) -> Result<()> {
        let has_order = |key: &S::Key| super::content::Key::order(key, key).is_some();
        if !self.leaf.is_unordered() && self.leaf.keys().first().is_none_or(has_order) {
            return Ok(());
        }
        let Some(leaf) = self.leaf.object().cloned() else { return Ok(()) };
        match self.passed.insert(leaf.slot(), leaf) {
            None => Ok(()),
            Some(_) => Err(self.way.damaged_leaf(&self.leaf, "it is in the tree twice")),
        }
    }
}
