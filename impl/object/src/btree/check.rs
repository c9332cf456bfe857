//! Checking a whole tree.

use std::collections::HashSet;

use super::cursor::Cursor;
use super::family::Shape;
use super::node::Node;
use crate::Ref;
use crate::error::{Result, Trouble};

/// The parts of a tree that keeps its rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Keys.
    pub keys: usize,
    /// Leaves, the one inside the root included.
    pub leaves: usize,
    /// Nodes, the root included.
    pub nodes: usize,
    /// Levels of nodes; 0 for an empty tree.
    pub levels: usize,
}

impl<S: Shape> Ref<Node<S>> {
    /// Checks the whole tree: the order of all keys and separators, that each leaf leads to the next, each node to its
    /// first leaf, that all leaves are equally deep, and no node is empty. These are the rules of `BTrees.check.check`
    /// and of `_check`.
    ///
    /// # Errors
    ///
    /// The first fault, with the way to it.
    pub fn check(&self) -> Result<Checked> {
        let mut checked = Checked { nodes: 1, ..Checked::default() };
        let Some(mut cursor) = Cursor::to_first(self)? else { return Ok(checked) };
        checked.levels = cursor.way.steps.len();
        checked.nodes = checked.levels;
        // The nodes on the way whose first leaf is the one where the cursor is.
        let mut new_from = 0;
        let mut passed = HashSet::new();
        loop {
            let way = &cursor.way;
            checked.leaves += 1;
            checked.keys += cursor.leaf.len();
            if way.steps.len() != checked.levels {
                return Err(way.damaged_leaf(&cursor.leaf, "it is not as deep in the tree as the leaves before it"));
            }
            if cursor.leaf.object().is_none() && checked.levels > 1 {
                return Err(way.damaged_leaf(&cursor.leaf, "its leaf is inside it, though it is not the root"));
            }
            for step in &way.steps[new_from..] {
                if !passed.insert(step.node.raw().slot()) {
                    return Err(way.damaged(step.node.raw(), S::NODE, Trouble::Node("it is in the tree twice")));
                }
                let first = step.children().map(|children| &children.first.to);
                if first.is_some() && first != cursor.leaf.object() {
                    let trouble = Trouble::Node("its first leaf is another than in the tree");
                    return Err(way.damaged(step.node.raw(), S::NODE, trouble));
                }
            }
            let before: Vec<_> = way.steps.iter().map(|step| step.node.raw().clone()).collect();
            if !cursor.next()? {
                return Ok(checked);
            }
            let same = cursor.way.steps.iter().zip(&before).take_while(|(step, before)| step.node.raw() == *before);
            new_from = same.count();
            checked.nodes += cursor.way.steps.len() - new_from;
        }
    }
}
