//! A record's parts, for code that looks at them and carries some of them over into another record.
//!
//! [`decode_plain`](crate::decode_plain()) makes values of its own, which can hold no references and do not share.
//! Here nothing is copied and nothing is refused: a [`Part`] is a place in the record's tree, and [`Part::view`] shows
//! it, one level deep. A value that occurs twice is the same part twice, so code that descends into parts must have a
//! limit: a hundred bytes can describe 2^30 of them, and one that holds itself.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::class::{self, ClassName};
use crate::decode::{big, from_decimal, shortest};
use crate::error::PickleError;
use crate::identity;
use crate::json::{JsonOptions, json_of};
use crate::machine::Atom;
use crate::reference::{ClassRef, Reference, classify, classify_line};
use crate::render::{RenderOptions, render_value};
use crate::strings::{self, Kind};
use crate::tree::{Id, Node, Scratch, Tree};
use crate::value::Value;

/// A record that has been read: what class its object is of, and its state.
///
/// ```
/// use vellum_pickle::{Record, View};
///
/// let record = Record::read(b"\x80\x03cBTrees.Length\nLength\nq\x00.\x80\x03K\x07.")?;
/// assert!(matches!(record.class().view(), View::Class(class) if class.name == b"Length"));
/// assert!(matches!(record.state().view(), View::Int(7)));
/// # Ok::<(), vellum_pickle::PickleError>(())
/// ```
#[derive(Debug)]
pub struct Record<'a> {
    tree: Tree<'a>,
    class: Id,
    state: Id,
    protocol: u8,
    length: usize,
}

impl<'a> Record<'a> {
    /// Reads both pickles of a record, which must be plain ([`plain()`](crate::plain())). Bytes after them are not
    /// looked at.
    ///
    /// # Errors
    ///
    /// When one of the pickles cannot be read, or is missing.
    pub fn read(record: &'a [u8]) -> Result<Self, PickleError> {
        Record::read_in(record, &mut Scratch::default())
    }

    /// The same in the memory of an earlier record, which [`Record::leave`] gives back for the next one.
    ///
    /// # Errors
    ///
    /// As [`Record::read`].
    pub fn read_in(record: &'a [u8], scratch: &mut Scratch) -> Result<Self, PickleError> {
        let (tree, class, state, length) = Tree::of_record_in(record, scratch)?;
        let protocol = match record {
            [crate::opcode::PROTO, protocol, ..] => *protocol,
            _ => 1,
        };
        Ok(Record { tree, class, state, protocol, length })
    }

    /// Gives its memory back, for the next record. That of a long record is freed.
    pub fn leave(self, scratch: &mut Scratch) {
        self.tree.leave(scratch);
    }

    /// The names of all classes and functions that the record needs: of the object itself, of the values in its state,
    /// and of the references that name the class of what they lead to.
    ///
    /// ```
    /// let record = b"\x80\x03cmail\nMessage\nq\x00.\x80\x03}X\x02\0\0\0atcdatetime\ndate\nq\x01s.";
    /// let names = vellum_pickle::Record::read(record)?.classes();
    /// let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    /// assert_eq!(names, ["datetime.date", "mail.Message"]);
    /// # Ok::<(), vellum_pickle::PickleError>(())
    /// ```
    pub fn classes(&self) -> BTreeSet<ClassName> {
        self.tree.classes().map(|class| class.to_name()).collect()
    }

    /// The value of the first pickle.
    pub fn class(&self) -> Part<'_> {
        Part { tree: &self.tree, id: self.class }
    }

    /// The value of the second pickle.
    pub fn state(&self) -> Part<'_> {
        Part { tree: &self.tree, id: self.state }
    }

    /// All references of the record, as [`references`](crate::references()) gives them; but where a reference names a
    /// class in a class, the name is here.
    pub fn references(&self) -> Vec<Reference<'_>> {
        self.tree.references()
    }

    /// The name of the object's class, as [`class_of`](crate::class_of()) gives it.
    ///
    /// # Errors
    ///
    /// When the first pickle holds none of the forms in which a class is written.
    pub fn class_name(&self) -> Result<ClassName, PickleError> {
        class::name_in(&self.tree, self.class)
    }

    /// The state for a human reader, as [`render`](crate::render()) gives it.
    pub fn render(&self, options: &RenderOptions) -> String {
        render_value(&self.tree, self.state, options)
    }

    /// The state as JSON, as [`to_json`](crate::to_json()) gives it.
    pub fn to_json(&self, options: &JsonOptions) -> String {
        json_of(&self.tree, self.class, self.state, options)
    }

    /// How many bytes the two pickles have.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The protocol that the record announces at its start. Before protocol 2 nothing was announced; that is 1 here.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }
}

/// A value in a record.
#[derive(Debug, Clone, Copy)]
pub struct Part<'r> {
    pub(crate) tree: &'r Tree<'r>,
    pub(crate) id: Id,
}

/// A part of a record, one level deep.
#[derive(Debug, Clone)]
pub enum View<'r> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number that fits 64 bits.
    Int(i64),
    /// A whole number that does not: little-endian, in two's complement, as short as can be.
    BigInt(Cow<'r, [u8]>),
    /// A floating-point number.
    Float(f64),
    /// Text: UTF-8, except that it may hold single surrogates, which Python's text can. In bytewise order it is sorted
    /// by code points.
    Text(Cow<'r, [u8]>),
    /// Bytes.
    Bytes(Cow<'r, [u8]>),
    /// The `str` of Python 2. Python 3 reads it as text if it is ASCII, and else cannot read it.
    Native(Cow<'r, [u8]>),
    /// A tuple.
    Tuple(Parts<'r>),
    /// A list.
    List(Parts<'r>),
    /// A dict: keys and values in turn, in the order in which they were written. Of a key that comes twice, the last
    /// value counts.
    Dict(Vec<(Part<'r>, Part<'r>)>),
    /// A class or function, which is no more than a name here.
    Class(ClassRef<'r>),
    /// A reference to another object.
    Reference(Reference<'r>),
    /// Something that only running code could make: an object, a set, a buffer. Also strings and numbers that Python
    /// could not read.
    Other,
}

impl<'r> Part<'r> {
    /// The part, one level deep.
    pub fn view(self) -> View<'r> {
        let Part { tree, id } = self;
        if tree.additions(id).is_some() {
            return View::Other;
        }
        let parts = |items: &'r [Id]| Parts { tree, items };
        match tree.node(id) {
            Node::Atom(atom) => self.atom(*atom),
            Node::Encoded(_) => tree.bytes(id).map_or(View::Other, View::Bytes),
            Node::Tuple(run) => View::Tuple(parts(tree.run(*run))),
            Node::List(items) => View::List(parts(items)),
            Node::Dict(pairs) => {
                let part = |id| Part { tree, id };
                View::Dict(pairs.iter().map(|&(key, value)| (part(key), part(value))).collect())
            }
            Node::StackGlobal(..) | Node::Nested(_) => tree.class(id).map_or(View::Other, View::Class),
            &Node::Persistent { at, id } => View::Reference(classify(&tree, id, at)),
            &Node::PersistentLine { at, line } => View::Reference(classify_line(tree.raw(line), at)),
            Node::Set(_) | Node::FrozenSet(_) | Node::Call { .. } | Node::New { .. } | Node::Instance { .. } => {
                View::Other
            }
        }
    }

    /// The keys and values of a dict, in the order in which they were written. None for other parts.
    pub fn pairs(self) -> Option<impl ExactSizeIterator<Item = (Part<'r>, Part<'r>)>> {
        let tree = self.tree;
        match tree.node(self.id) {
            Node::Dict(pairs) if tree.additions(self.id).is_none() => {
                Some(pairs.iter().map(move |&(key, value)| (Part { tree, id: key }, Part { tree, id: value })))
            }
            _ => None,
        }
    }

    /// The text, if the part is text in UTF-8 as it stands in the record. None for other parts, and for text that is
    /// written in another way: [`Part::view`] shows those.
    pub fn as_str(self) -> Option<&'r str> {
        match self.tree.node(self.id) {
            Node::Atom(Atom::Str(Kind::Text, span)) if self.tree.additions(self.id).is_none() => {
                strings::utf8(self.tree.raw(*span))
            }
            _ => None,
        }
    }

    /// The part for a human reader, as [`render`](crate::render()) shows a state.
    pub fn render(self, options: &RenderOptions) -> String {
        render_value(self.tree, self.id, options)
    }

    fn atom(self, atom: Atom) -> View<'r> {
        let raw = |span| self.tree.raw(span);
        match atom {
            Atom::None => View::None,
            Atom::Bool(value) => View::Bool(value),
            Atom::Int(number) => View::Int(number),
            Atom::Float(number) => View::Float(number),
            Atom::Long(span) => match shortest(raw(span)) {
                bytes if bytes.len() > 8 => View::BigInt(Cow::Borrowed(bytes)),
                bytes => whole(big(bytes.to_vec())),
            },
            Atom::Digits(span) => from_decimal(raw(span)).map_or(View::Other, |bytes| whole(big(bytes))),
            Atom::Str(Kind::Text, span) => match raw(span) {
                bytes if strings::is_text(bytes) => View::Text(Cow::Borrowed(bytes)),
                _ => View::Other,
            },
            Atom::Str(Kind::TextLine, span) => {
                strings::line(raw(span)).map_or(View::Other, |text| View::Text(Cow::Owned(text)))
            }
            Atom::Str(Kind::Bytes, span) => View::Bytes(Cow::Borrowed(raw(span))),
            Atom::Str(kind, span) => strings::bytes(kind, raw(span)).map_or(View::Other, View::Native),
            Atom::Global(..) => self.tree.class(self.id).map_or(View::Other, View::Class),
            Atom::ByteArray(_) | Atom::Buffer | Atom::Extension(_) => View::Other,
        }
    }

    /// Are both references, and would ZODB's conflict resolution make one object of them? It does so if their
    /// persistent ids are equal in Python, down to whether an oid is bytes or text and whether there is a class beside
    /// it.
    ///
    /// [`Reference`] tells less: two references to one object may be told apart here.
    pub fn is_same_reference(self, other: Part<'r>) -> bool {
        // One to which something was added is an object by now, as `view` says.
        let is_plain = |part: Part<'_>| part.tree.additions(part.id).is_none();
        is_plain(self) && is_plain(other) && identity::same_reference(self, other)
    }
}

fn whole(number: Value) -> View<'static> {
    match number {
        Value::Int(number) => View::Int(number),
        Value::BigInt(bytes) => View::BigInt(Cow::Owned(bytes)),
        _ => View::Other,
    }
}

/// The items of a tuple or list.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'r> {
    pub(crate) tree: &'r Tree<'r>,
    pub(crate) items: &'r [Id],
}

impl<'r> Parts<'r> {
    /// How many there are.
    pub fn len(self) -> usize {
        self.items.len()
    }

    /// Is there none?
    pub fn is_empty(self) -> bool {
        self.items.is_empty()
    }

    /// The item at a place, counted from 0.
    pub fn get(self, index: usize) -> Option<Part<'r>> {
        self.items.get(index).map(|&id| Part { tree: self.tree, id })
    }

    /// All of them in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Part<'r>> {
        self.items.iter().map(move |&id| Part { tree: self.tree, id })
    }
}
