//! Which values of a tree occur more than once, and which of them are not written twice.
//!
//! A value with parts is written once, whatever it is, and every later place refers to the first one. So the output is
//! about as long as the record, although a record of a hundred bytes can describe 2^30 values.
//!
//! Text, numbers and names are written again where they occur again, as a reader expects; but two bytes of a record can
//! repeat a megabyte of it. So the bytes that would be written again are counted first. If they total more than
//! [`GROWTH_MAX`] times the record, every value longer than [`TEXT_MAX`] is written once, too.

use crate::machine::Atom;
use crate::tree::{Id, Node, Tree};

/// Repeated text may have this many times the bytes of the record.
const GROWTH_MAX: usize = 4;

/// Repeated text may have so many bytes in the shortest record.
const REPEATED_FREE: usize = 1 << 16;

/// Text of so many bytes is written again in any case.
const TEXT_MAX: usize = 16;

/// How often each value occurs, and which ones have been shown.
#[derive(Debug)]
pub(crate) struct Sharing {
    values: Vec<Seen>,
    numbered: u32,
    /// Is long text written once only?
    labels_text: bool,
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
    /// Counts from `root`.
    pub(crate) fn of(tree: &Tree<'_>, root: Id) -> Self {
        let mut values = vec![Seen::Never; tree.len()];
        let mut repeated = 0_usize;
        let mut work = vec![root];
        while let Some(id) = work.pop() {
            let seen = &mut values[id.index()];
            if *seen != Seen::Never {
                *seen = Seen::Often;
                repeated = repeated.saturating_add(text_length(tree, id).unwrap_or(0));
                continue;
            }
            *seen = Seen::Once;
            match *tree.node(id) {
                Node::Atom(_) if !tree.has_additions() => continue,
                Node::StackGlobal(module, name) => work.extend([module, name]),
                Node::Encoded(text) => work.push(text),
                Node::Persistent { id, .. } => {
                    // A reference is written with the text in it, wherever its persistent id was before.
                    if values[id.index()] != Seen::Never {
                        push_text_within(tree, id, &mut work, ID_DEPTH);
                    }
                    work.push(id);
                }
                _ => {}
            }
            tree.parts(id, |part| {
                if !matches!(tree.node(part), Node::Atom(Atom::None | Atom::Bool(_) | Atom::Int(_) | Atom::Float(_)))
                    || tree.has_additions()
                {
                    work.push(part);
                }
            });
        }
        let labels_text = repeated > GROWTH_MAX.saturating_mul(tree.input_length()).saturating_add(REPEATED_FREE);
        Sharing { values, numbered: 0, labels_text }
    }

    /// Does the value occur more than once?
    pub(crate) fn is_shared(&self, id: Id) -> bool {
        !matches!(self.values[id.index()], Seen::Never | Seen::Once)
    }

    /// Is the value written once only, and by its number after that?
    pub(crate) fn is_labelled(&self, tree: &Tree<'_>, id: Id) -> bool {
        if !self.is_shared(id) {
            return false;
        }
        if tree.additions(id).is_some() {
            return true;
        }
        match text_length(tree, id) {
            // It can be changed.
            Some(_) if matches!(tree.node(id), Node::Atom(Atom::ByteArray(_))) => true,
            Some(length) => self.labels_text && length > TEXT_MAX,
            None => match tree.node(id) {
                Node::Atom(_) => false,
                // There is one of each in Python, too.
                Node::Tuple(run) => !tree.run(*run).is_empty(),
                Node::FrozenSet(items) => !items.is_empty(),
                _ => true,
            },
        }
    }

    /// The number of a value that is written once only, and whether this is the first time.
    #[inline]
    pub(crate) fn number(&mut self, tree: &Tree<'_>, id: Id) -> Option<(u32, bool)> {
        match self.values[id.index()] {
            Seen::Never | Seen::Once => None,
            Seen::Often if self.is_labelled(tree, id) => {
                self.numbered += 1;
                self.values[id.index()] = Seen::Shown(self.numbered);
                Some((self.numbered, true))
            }
            Seen::Often => None,
            Seen::Shown(number) => Some((number, false)),
        }
    }

    /// Is some text of a persistent id, or of a class, written by its number? Then the whole of it is written as the
    /// value that it is.
    pub(crate) fn labels_within(&self, tree: &Tree<'_>, id: Id) -> bool {
        fn within(sharing: &Sharing, tree: &Tree<'_>, id: Id, depth: usize) -> bool {
            if sharing.is_labelled(tree, id) {
                return true;
            }
            let mut found = depth == 0;
            let mut look = |part| found = found || within(sharing, tree, part, depth - 1);
            match *tree.node(id) {
                Node::StackGlobal(module, name) => [module, name].into_iter().for_each(&mut look),
                Node::Encoded(text) => look(text),
                Node::Tuple(run) => tree.run(run).iter().take(3).copied().for_each(&mut look),
                Node::List(ref items) => items.iter().take(3).copied().for_each(&mut look),
                _ => {}
            }
            found
        }
        // The text may be in a class or in bytes.
        self.labels_text && within(self, tree, id, ID_DEPTH + 2)
    }
}

/// `['m', (database, oid, (module, name))]` is so deep, and no level has more than three items.
const ID_DEPTH: usize = 4;

/// Adds the text in a persistent id.
fn push_text_within(tree: &Tree<'_>, id: Id, work: &mut Vec<Id>, depth: usize) {
    let items = match tree.node(id) {
        Node::Tuple(run) => tree.run(*run),
        Node::List(items) => items,
        _ if text_length(tree, id).is_some() => return work.push(id),
        _ => return,
    };
    if depth > 0 {
        items.iter().take(3).for_each(|&item| push_text_within(tree, item, work, depth - 1));
    }
}

/// How long the text of a value without parts is, as the record writes it. None for numbers of a few bytes, and for
/// everything with parts.
fn text_length(tree: &Tree<'_>, id: Id) -> Option<usize> {
    let length = |span| tree.raw(span).len();
    match *tree.node(id) {
        Node::Atom(Atom::Str(_, span) | Atom::ByteArray(span) | Atom::Long(span) | Atom::Digits(span)) => {
            Some(length(span))
        }
        Node::Atom(Atom::Global(module, name)) => Some(length(module) + length(name)),
        // Without a name it has parts.
        Node::StackGlobal(..) | Node::Nested(_) => tree.class(id).map(|class| class.module.len() + class.name.len()),
        Node::Encoded(_) => Some(tree.raw_length(id)),
        Node::PersistentLine { line, .. } => Some(length(line)),
        _ => None,
    }
}
