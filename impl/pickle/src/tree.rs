//! A pickle as a tree of values, in an arena.
//!
//! Code that needs more of a record than its references needs its values. They live in one vector and
//! name each other by their place in it, for two reasons: a value may occur many times, and inside itself, as the memo
//! allows; and a tree that is nested a million deep is dropped as easily as a flat one.
//!
//! A node copies nothing out of the input. A string is decoded on demand.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::error::PickleError;
use crate::machine::{Atom, Builder, Machine};
use crate::reference::{ClassRef, Reference, Shape, Shapes, classify, classify_line};
use crate::references::{check_length, check_second};
use crate::registers::Registers;
use crate::strings::{self, Kind, Span};

/// A node's place in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id(u32);

impl Id {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The items of a tuple: a run in the tree's list of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    start: u32,
    length: u32,
}

/// Hashes the places of nodes, which no attacker chooses: the arena counts them.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(u32::from(byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// A value.
#[derive(Debug)]
pub(crate) enum Node {
    /// A value without parts.
    Atom(Atom),
    Tuple(Run),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Set(Vec<Id>),
    FrozenSet(Vec<Id>),
    /// A class whose module and name are strings of their own.
    StackGlobal(Id, Id),
    /// A class that stands in another class, by its place among the nested ones.
    Nested(usize),
    /// The bytes that a text node stands for, character by character.
    Encoded(Id),
    /// A call of something with a tuple of arguments.
    Call {
        callable: Id,
        arguments: Id,
    },
    /// A new object: a class, a tuple of arguments and a dict of keyword arguments.
    New {
        class: Id,
        arguments: Id,
        keywords: Option<Id>,
    },
    /// A new object in the old way.
    Instance {
        class: Id,
        arguments: Vec<Id>,
    },
    Persistent {
        at: usize,
        id: Id,
    },
    PersistentLine {
        at: usize,
        line: Span,
    },
}

/// The additions that a pickle makes to an object after it was made.
#[derive(Debug, Default)]
pub(crate) struct Additions {
    pub(crate) states: Vec<Id>,
    pub(crate) items: Vec<Id>,
    pub(crate) pairs: Vec<(Id, Id)>,
}

/// A class in a class. Before protocol 4 Python writes it as `getattr(Outer, 'Inner')`.
#[derive(Debug)]
pub(crate) struct Nested {
    module: Span,
    /// The names of all classes on the way to it, with dots between them.
    name: Vec<u8>,
}

/// The values of one or two pickles.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    input: &'a [u8],
    nodes: Vec<Node>,
    /// The items of all tuples.
    items: Vec<Id>,
    additions: HashMap<Id, Additions, BuildHasherDefault<IdHasher>>,
    nodes_max: usize,
    nested: Vec<Nested>,
    /// How many bytes the names of nested classes may still have. A name repeats those around it, so that a chain of
    /// classes could take the square of its length. The calls beyond that stay calls.
    nested_bytes: usize,
}

/// The memory of a tree and of the machine that builds it, to be used again for the next record.
#[derive(Debug, Default)]
pub struct Scratch {
    nodes: Vec<Node>,
    items: Vec<Id>,
    registers: Option<Registers<Id>>,
}

/// The memory of a record that is longer than this is not kept.
const KEPT_BYTES_MAX: usize = 1 << 16;

/// The bytes that the names of nested classes may have in a short record.
const NESTED_FREE: usize = 1 << 16;

impl<'a> Tree<'a> {
    /// Reads one pickle from the front of `input`: the tree, its root, and the pickle's length.
    pub(crate) fn of_pickle(input: &'a [u8]) -> Result<(Self, Id, usize), PickleError> {
        Tree::of_small_pickle(input, usize::MAX)
    }

    /// The same, unless the pickle has more than so many values.
    pub(crate) fn of_small_pickle(input: &'a [u8], nodes_max: usize) -> Result<(Self, Id, usize), PickleError> {
        let mut registers = Registers::new();
        let mut machine = Machine::new(input, &mut registers, Tree { nodes_max, ..Tree::new(input) });
        let root = machine.load()?;
        let length = machine.position();
        Ok((machine.builder, root, length))
    }

    /// Reads both pickles of a record: the tree, and the root of the second, which is the object's state.
    pub(crate) fn of_state(record: &'a [u8]) -> Result<(Self, Id), PickleError> {
        Tree::of_record(record).map(|(tree, _, state, _)| (tree, state))
    }

    /// Reads both pickles of a record: the tree, the roots of both, and where the second ends.
    pub(crate) fn of_record(record: &'a [u8]) -> Result<(Self, Id, Id, usize), PickleError> {
        Tree::of_record_in(record, &mut Scratch::default())
    }

    /// The same in memory of an earlier record. [`Tree::leave`] gives it back.
    pub(crate) fn of_record_in(record: &'a [u8], scratch: &mut Scratch) -> Result<(Self, Id, Id, usize), PickleError> {
        check_length(record)?;
        let Scratch { mut nodes, mut items, registers } = std::mem::take(scratch);
        let mut registers = registers.unwrap_or_else(Registers::new);
        nodes.clear();
        items.clear();
        nodes.reserve(values_in(record));
        let mut machine = Machine::new(record, &mut registers, Tree { nodes, items, ..Tree::empty(record) });
        let class = machine.load()?;
        check_second(record, machine.position())?;
        let state = machine.load()?;
        let (end, tree) = (machine.position(), machine.builder);
        scratch.registers = (record.len() <= KEPT_BYTES_MAX).then_some(registers);
        Ok((tree, class, state, end))
    }

    /// Gives its memory back.
    pub(crate) fn leave(self, scratch: &mut Scratch) {
        let Tree { input, mut nodes, mut items, .. } = self;
        if input.len() <= KEPT_BYTES_MAX {
            // The values go now, since some of them have memory of their own.
            nodes.clear();
            items.clear();
            (scratch.nodes, scratch.items) = (nodes, items);
        }
    }

    fn new(input: &'a [u8]) -> Self {
        Tree { nodes: Vec::with_capacity(values_in(input)), ..Tree::empty(input) }
    }

    fn empty(input: &'a [u8]) -> Self {
        let nested_bytes = input.len().saturating_add(NESTED_FREE);
        Tree {
            input,
            nodes: Vec::new(),
            items: Vec::new(),
            additions: HashMap::default(),
            nodes_max: usize::MAX,
            nested: Vec::new(),
            nested_bytes,
        }
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id.index()]
    }

    /// All references, in the order in which they were made.
    pub(crate) fn references(&self) -> Vec<Reference<'_>> {
        let of = |node: &Node| match *node {
            Node::Persistent { at, id } => Some(classify(&self, id, at)),
            Node::PersistentLine { at, line } => Some(classify_line(self.raw(line), at)),
            _ => None,
        };
        self.nodes.iter().filter_map(of).collect()
    }

    /// Was anything given to a value after it was made?
    pub(crate) fn has_additions(&self) -> bool {
        !self.additions.is_empty()
    }

    /// Was anything given to a part of a persistent id after it was made?
    pub(crate) fn has_additions_within(&self, id: Id) -> bool {
        // `['m', (database, oid, (module, name))]` is four deep, and three wide.
        fn within(tree: &Tree<'_>, id: Id, depth: usize) -> bool {
            let items = match tree.node(id) {
                Node::Tuple(run) => tree.run(*run),
                Node::List(items) => items,
                _ => &[],
            };
            tree.additions(id).is_some()
                || (depth > 0 && items.iter().take(3).any(|&item| within(tree, item, depth - 1)))
        }
        self.has_additions() && within(self, id, 4)
    }

    /// How many bytes the record has.
    pub(crate) fn input_length(&self) -> usize {
        self.input.len()
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// All values, in the order in which they were written.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        (0..self.len() as u32).map(Id)
    }

    pub(crate) fn additions(&self, id: Id) -> Option<&Additions> {
        self.additions.get(&id)
    }

    pub(crate) fn raw(&self, span: Span) -> &'a [u8] {
        span.of(self.input)
    }

    /// The items of a tuple.
    pub(crate) fn tuple_items(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(run) => Some(self.run(*run)),
            _ => None,
        }
    }

    /// The items of a run.
    pub(crate) fn run(&self, run: Run) -> &[Id] {
        &self.items[run.start as usize..][..run.length as usize]
    }

    /// The names of all classes and functions in it, as often as they occur.
    pub(crate) fn classes(&self) -> impl Iterator<Item = ClassRef<'_>> {
        self.ids().filter_map(|id| self.class(id))
    }

    /// The name of a class or function.
    pub(crate) fn class(&self, id: Id) -> Option<ClassRef<'_>> {
        let (module, name) = match *self.node(id) {
            Node::Nested(index) => {
                let Nested { module, name } = &self.nested[index];
                return Some(ClassRef { module: self.raw(*module), name });
            }
            Node::Atom(Atom::Global(module, name)) => (module, name),
            Node::StackGlobal(module, name) => match (self.node(module), self.node(name)) {
                (&Node::Atom(Atom::Str(_, module)), &Node::Atom(Atom::Str(_, name))) => (module, name),
                _ => return None,
            },
            _ => return None,
        };
        Some(ClassRef { module: self.raw(module), name: self.raw(name) })
    }

    /// The contents of a text, or of a `str` of Python 2 if it is UTF-8.
    pub(crate) fn text(&self, id: Id) -> Option<Cow<'a, str>> {
        match *self.node(id) {
            Node::Atom(Atom::Str(kind, span)) => strings::text(kind, self.raw(span)),
            _ => None,
        }
    }

    /// The bytes of bytes, in whichever way they were written.
    pub(crate) fn bytes(&self, id: Id) -> Option<Cow<'a, [u8]>> {
        match *self.node(id) {
            Node::Atom(Atom::Str(kind, span)) => strings::bytes(kind, self.raw(span)),
            Node::Encoded(text) => match *self.node(text) {
                Node::Atom(Atom::Str(kind, span)) => strings::latin1(kind, self.raw(span)).map(Cow::Owned),
                _ => None,
            },
            _ => None,
        }
    }

    /// The bytes of short bytes: no longer than any that are a date or an oid.
    pub(crate) fn short_bytes(&self, id: Id) -> Option<Cow<'_, [u8]>> {
        match (&self).shape(id) {
            Shape::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// How long the string is, as it is written, that makes up a node.
    pub(crate) fn raw_length(&self, id: Id) -> usize {
        match *self.node(id) {
            Node::Atom(Atom::Str(_, span)) => self.raw(span).len(),
            Node::Encoded(text) => match *self.node(text) {
                Node::Atom(Atom::Str(_, span)) => self.raw(span).len(),
                _ => 0,
            },
            _ => 0,
        }
    }

    /// Gives `visit` each value that is part of this one, as often as it is.
    pub(crate) fn parts(&self, id: Id, mut visit: impl FnMut(Id)) {
        match self.node(id) {
            Node::Atom(_) | Node::Encoded(_) | Node::StackGlobal(..) | Node::Nested(_) => {}
            // The parts of a reference are not shown.
            Node::Persistent { .. } | Node::PersistentLine { .. } => {}
            Node::Tuple(run) => self.run(*run).iter().copied().for_each(&mut visit),
            Node::List(items) | Node::Set(items) | Node::FrozenSet(items) => {
                items.iter().copied().for_each(&mut visit);
            }
            Node::Dict(pairs) => pairs.iter().flat_map(|&(key, value)| [key, value]).for_each(&mut visit),
            &Node::Call { callable, arguments } => [callable, arguments].into_iter().for_each(&mut visit),
            &Node::New { class, arguments, keywords } => {
                [class, arguments].into_iter().chain(keywords).for_each(&mut visit);
            }
            Node::Instance { class, arguments } => [class].into_iter().chain(arguments).copied().for_each(&mut visit),
        }
        if let Some(Additions { states, items, pairs }) = self.additions(id) {
            states.iter().chain(items).copied().for_each(&mut visit);
            pairs.iter().flat_map(|&(key, value)| [key, value]).for_each(&mut visit);
        }
    }

    fn add(&mut self, node: Node) -> Id {
        // An opcode makes at most two nodes and the input has at most 4 GiB; a tree that size would not fit in memory.
        let id = Id(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        id
    }

    /// The one argument of a `zodbpickle.binary`, which is bytes by another name.
    fn binary(&self, class: Id, arguments: Id) -> Option<Id> {
        match self.tuple_items(arguments) {
            Some(&[only]) if self.class(class)?.is_binary() && self.bytes_like(only) => Some(only),
            _ => None,
        }
    }

    /// The class that `getattr(class, name)` is.
    fn attribute(&mut self, callable: Id, arguments: Id) -> Option<Id> {
        let &[parent, attribute] = self.tuple_items(arguments)? else { return None };
        if !self.class(callable)?.is_getattr() {
            return None;
        }
        let (attribute, outer) = (self.text(attribute)?, self.class(parent)?);
        let length = outer.name.len() + 1 + attribute.len();
        self.nested_bytes.checked_sub(length)?;
        let name = [outer.name, b".", attribute.as_bytes()].concat();
        let module = match *self.node(parent) {
            Node::Nested(index) => self.nested[index].module,
            Node::Atom(Atom::Global(module, _)) => module,
            Node::StackGlobal(module, _) => match *self.node(module) {
                Node::Atom(Atom::Str(_, module)) => module,
                _ => return None,
            },
            _ => return None,
        };
        self.nested_bytes -= length;
        self.nested.push(Nested { module, name });
        Some(self.add(Node::Nested(self.nested.len() - 1)))
    }

    fn bytes_like(&self, id: Id) -> bool {
        matches!(
            self.node(id),
            Node::Encoded(_) | Node::Atom(Atom::Str(Kind::Bytes | Kind::Native | Kind::NativeLine, _))
        )
    }

    /// The text argument of a call of `_codecs.encode`.
    fn encoded(&self, callable: Id, arguments: Id) -> Option<Id> {
        let Some(&[text, encoding]) = self.tuple_items(arguments) else {
            return None;
        };
        let (&Node::Atom(Atom::Str(kind, _)), &Node::Atom(Atom::Str(_, encoding))) =
            (self.node(text), self.node(encoding))
        else {
            return None;
        };
        (kind.is_text() && self.class(callable)?.is_encode(self.raw(encoding))).then_some(text)
    }
}

/// About how many values a record has. A mail's record has an opcode that makes one for each 16 bytes or more.
fn values_in(input: &[u8]) -> usize {
    input.len().min(4096) / 16
}

fn pairs(items: &[Id]) -> impl Iterator<Item = (Id, Id)> {
    items.chunks_exact(2).map(|pair| (pair[0], pair[1]))
}

impl Builder for Tree<'_> {
    type Item = Id;

    #[inline]
    fn is_full(&self) -> bool {
        self.nodes.len() > self.nodes_max
    }

    fn atom(&mut self, atom: Atom) -> Id {
        self.add(Node::Atom(atom))
    }

    fn tuple(&mut self, items: &[Id]) -> Id {
        // An opcode adds no more items than were pushed before it, and the input has at most 4 GiB.
        let run = Run { start: self.items.len() as u32, length: items.len() as u32 };
        self.items.extend_from_slice(items);
        self.add(Node::Tuple(run))
    }

    fn list(&mut self, items: &[Id]) -> Id {
        self.add(Node::List(items.to_vec()))
    }

    fn dict(&mut self, items: &[Id]) -> Id {
        self.add(Node::Dict(pairs(items).collect()))
    }

    fn set(&mut self) -> Id {
        self.add(Node::Set(Vec::new()))
    }

    fn frozen_set(&mut self, items: &[Id]) -> Id {
        self.add(Node::FrozenSet(items.to_vec()))
    }

    fn append(&mut self, target: Id, items: &[Id]) {
        match &mut self.nodes[target.index()] {
            Node::List(list) => list.extend(items),
            _ => self.additions.entry(target).or_default().items.extend(items),
        }
    }

    fn set_items(&mut self, target: Id, items: &[Id]) {
        match &mut self.nodes[target.index()] {
            Node::Dict(dict) => dict.extend(pairs(items)),
            _ => self.additions.entry(target).or_default().pairs.extend(pairs(items)),
        }
    }

    fn add_items(&mut self, target: Id, items: &[Id]) {
        match &mut self.nodes[target.index()] {
            Node::Set(set) => set.extend(items),
            _ => self.additions.entry(target).or_default().items.extend(items),
        }
    }

    fn stack_global(&mut self, module: Id, name: Id) -> Id {
        self.add(Node::StackGlobal(module, name))
    }

    fn call(&mut self, callable: Id, arguments: Id) -> Id {
        if let Some(text) = self.encoded(callable, arguments) {
            return self.add(Node::Encoded(text));
        }
        // Bytes without any byte are written so for Python 2, where `bytes()` was `str()`.
        let nothing = self.tuple_items(arguments).is_some_and(<[Id]>::is_empty);
        if nothing && self.class(callable).is_some_and(ClassRef::is_bytes) {
            return self.add(Node::Atom(Atom::Str(Kind::Bytes, Span::new(0, 0))));
        }
        match self.binary(callable, arguments).or_else(|| self.attribute(callable, arguments)) {
            Some(known) => known,
            None => self.add(Node::Call { callable, arguments }),
        }
    }

    fn new_object(&mut self, class: Id, arguments: Id, keywords: Option<Id>) -> Id {
        match self.binary(class, arguments) {
            Some(bytes) => bytes,
            None => self.add(Node::New { class, arguments, keywords }),
        }
    }

    fn instance(&mut self, class: Id, arguments: &[Id]) -> Id {
        self.add(Node::Instance { class, arguments: arguments.to_vec() })
    }

    fn build(&mut self, target: Id, state: Id) {
        self.additions.entry(target).or_default().states.push(state);
    }

    fn persistent(&mut self, at: usize, id: Id) -> Id {
        self.add(Node::Persistent { at, id })
    }

    fn persistent_line(&mut self, at: usize, line: Span) -> Id {
        self.add(Node::PersistentLine { at, line })
    }
}

impl<'t> Shapes<'t> for &'t Tree<'_> {
    type Item = Id;

    fn shape(&self, id: Id) -> Shape<'t, '_, Id> {
        match self.node(id) {
            Node::Atom(Atom::None) => Shape::None,
            Node::Atom(Atom::Str(kind, span)) => Shape::string(*kind, self.raw(*span)),
            Node::Encoded(text) => match *self.node(*text) {
                Node::Atom(Atom::Str(kind, span)) => Shape::encoded(kind, self.raw(span)),
                _ => Shape::Other,
            },
            Node::Tuple(run) => Shape::Tuple(Tree::run(self, *run)),
            Node::List(items) => Shape::List(items),
            _ => Tree::class(self, id).map_or(Shape::Other, Shape::Class),
        }
    }
}
