//! Which values of a tree occur more than once.

use crate::tree::{Id, Node, Tree};

/// How often each value occurs, and which ones have been shown.
#[derive(Debug)]
pub(crate) struct Sharing {
    values: Vec<Seen>,
    numbered: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Never,
    Once,
    Often,
    /// Shown in full, under this number.
    Shown(u32),
}

impl Sharing {
    /// Counts from `root`. Values that have no parts are not counted: it is no use to know that a number is shared.
    pub(crate) fn of(tree: &Tree<'_>, root: Id) -> Self {
        let mut values = vec![Seen::Never; tree.len()];
        let mut work = vec![root];
        while let Some(id) = work.pop() {
            if is_simple(tree, id) {
                continue;
            }
            let seen = &mut values[id.index()];
            if *seen == Seen::Never {
                *seen = Seen::Once;
                tree.parts(id, |part| work.push(part));
            } else {
                *seen = Seen::Often;
            }
        }
        Sharing { values, numbered: 0 }
    }

    /// Does the value occur more than once?
    pub(crate) fn is_shared(&self, id: Id) -> bool {
        !matches!(self.values[id.index()], Seen::Never | Seen::Once)
    }

    /// The number of a value that occurs more than once, and whether this is the first time.
    pub(crate) fn number(&mut self, id: Id) -> Option<(u32, bool)> {
        let seen = &mut self.values[id.index()];
        match *seen {
            Seen::Never | Seen::Once => None,
            Seen::Often => {
                self.numbered += 1;
                *seen = Seen::Shown(self.numbered);
                Some((self.numbered, true))
            }
            Seen::Shown(number) => Some((number, false)),
        }
    }
}

fn is_simple(tree: &Tree<'_>, id: Id) -> bool {
    let childless = match tree.node(id) {
        Node::Atom(_) | Node::StackGlobal(..) | Node::Nested(_) | Node::Encoded(_) => true,
        Node::Persistent { .. } | Node::PersistentLine { .. } => true,
        Node::Tuple(items) | Node::List(items) | Node::Set(items) | Node::FrozenSet(items) => items.is_empty(),
        Node::Dict(pairs) => pairs.is_empty(),
        Node::Call { .. } | Node::New { .. } | Node::Instance { .. } => false,
    };
    childless && tree.additions(id).is_none()
}
