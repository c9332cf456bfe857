//! Writing a record from parts of others.
//!
//! The pickler of ZODB keeps everything in its memo that could be met again, and writes it short the second time. So do
//! we, for two reasons: shared values stay shared, and a record made of short repetitions does not become a long one.
//! In the usual cases the bytes are those that ZODB would write.
//!
//! Two things are done otherwise. A long number goes into the memo, which ZODB's pickler does not do: otherwise a
//! number of a megabyte, met a million times, would be written as often. And what holds itself by way of a tuple is
//! refused.

use std::collections::{HashMap, HashSet};

use crate::class::ClassName;
use crate::encode::{BATCH, write_int, write_length, write_long, write_whole};
use crate::error::{PickleError, Problem};
use crate::identity::Identity;
use crate::opcode as op;
use crate::part::{Part, View};
use crate::reference::{ClassRef, Reference};
use crate::tree::{Id, Node, Tree};
use crate::value::Value;

/// A value for a new record: made anew, or carried over from a record that was read.
#[derive(Debug, Clone)]
pub enum Piece<'r> {
    /// A plain value.
    Value(Value),
    /// A class.
    Class(ClassName),
    /// A tuple of pieces.
    Tuple(Vec<Piece<'r>>),
    /// A dict of pieces.
    Dict(Vec<(Piece<'r>, Piece<'r>)>),
    /// A part of another record, with all that is in it.
    Part(Part<'r>),
}

/// The record with this class and this state.
///
/// It is written at protocol 3, as ZODB writes it; or at 2, if `protocol` is less than 3 and there are no bytes in it,
/// which exist since 3. Give the [protocol](crate::Record::protocol) of the record that this one takes the place of,
/// and what could read that can read this.
///
/// ```
/// use vellum_pickle::{Piece, Record, Value, encode_record};
///
/// let old = Record::read(b"\x80\x03cBTrees.Length\nLength\nq\x00.\x80\x03K\x07.")?;
/// let new = encode_record(&Piece::Part(old.class()), &Piece::Value(Value::Int(8)), old.protocol())?;
/// assert_eq!(new, b"\x80\x03cBTrees.Length\nLength\nq\x00.\x80\x03K\x08.");
/// # Ok::<(), vellum_pickle::PickleError>(())
/// ```
///
/// # Errors
///
/// When a part holds what cannot be carried over: objects, sets, a class anywhere but in a reference or as the class of
/// the record, a damaged reference, a tuple that is inside itself; and when something is too long for the format, or
/// the name of a class for anybody's use.
pub fn encode_record(class: &Piece<'_>, state: &Piece<'_>, protocol: u8) -> Result<Vec<u8>, PickleError> {
    let mut writer = Writer {
        out: Vec::new(),
        memo: HashMap::new(),
        puts: 0,
        begun: HashSet::new(),
        bytes: false,
        builtins: if protocol < 3 { b"__builtin__" } else { b"builtins" },
        nests: false,
    };
    let written = writer.pickle(class, true).and_then(|()| {
        let second = writer.out.len();
        writer.pickle(state, false)?;
        Ok(second)
    });
    let second = written.map_err(|problem| PickleError { offset: 0, opcode: None, problem })?;
    if protocol < 3 && writer.bytes && writer.nests {
        // Python 3 looks for `__builtin__` up to protocol 2, and bytes are written at protocol 3.
        let problem = Problem::NotPlain("a class in a class, beside bytes, in a record of protocol 2");
        return Err(PickleError { offset: 0, opcode: None, problem });
    }
    if protocol < 3 && !writer.bytes {
        writer.out[1] = 2;
        writer.out[second + 1] = 2;
    }
    Ok(writer.out)
}

/// No name of a class is longer. One may be used for many classes, and each of them is looked up by it.
const NAME_MAX: usize = 1024;

/// Numbers of more bytes are kept in the memo.
const LONG_MAX: usize = 32;

struct Writer<'p> {
    out: Vec<u8>,
    memo: HashMap<Identity<'p>, u32>,
    puts: u32,
    /// The tuples that were begun. Once they are complete they are in the memo, and not begun again.
    begun: HashSet<Identity<'p>>,
    /// Was anything written that is bytes?
    bytes: bool,
    /// The module of Python's own functions, by its name at the protocol of the record.
    builtins: &'static [u8],
    /// Was a class in a class written?
    nests: bool,
}

/// The work that is left to write.
enum Work<'p> {
    Piece(&'p Piece<'p>),
    Node(Place<'p>),
    Opcode(u8),
    /// A tuple of `length` items is complete. It may have a second name.
    Close {
        length: usize,
        node: Option<Identity<'p>>,
        also: Option<Identity<'p>>,
    },
    Items(&'p Tree<'p>, &'p [Id]),
    Pairs(&'p Tree<'p>, &'p [(Id, Id)]),
    Pieces(&'p [(Piece<'p>, Piece<'p>)]),
}

/// A node, and where it stands.
#[derive(Clone, Copy)]
struct Place<'p> {
    tree: &'p Tree<'p>,
    id: Id,
    role: Role,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// It is, or is in, an object's state.
    Value,
    /// It is a persistent id.
    Reference,
    /// It is in a persistent id, or in the class pickle: a class may stand here.
    Name,
}

type Written = Result<(), Problem>;

impl<'p> Writer<'p> {
    /// Writes one pickle. The memo continues from the last pickle, as it does for a reader.
    fn pickle(&mut self, piece: &'p Piece<'p>, is_class: bool) -> Written {
        self.out.extend([op::PROTO, 3]);
        let first = match piece {
            Piece::Part(part) if is_class => Work::Node(Place { tree: part.tree, id: part.id, role: Role::Name }),
            piece => Work::Piece(piece),
        };
        let mut work = vec![first];
        while let Some(next) = work.pop() {
            match next {
                Work::Piece(piece) => self.piece(piece, &mut work)?,
                Work::Node(place) => self.node(place, &mut work)?,
                Work::Opcode(code) => self.out.push(code),
                Work::Close { length, node, also } => {
                    match length {
                        1 => self.out.push(op::TUPLE1),
                        2 => self.out.push(op::TUPLE2),
                        3 => self.out.push(op::TUPLE3),
                        _ => self.out.push(op::TUPLE),
                    }
                    self.put([node, also]);
                }
                Work::Items(tree, items) => {
                    let (batch, rest) = items.split_at(items.len().min(BATCH));
                    self.out.push(op::MARK);
                    work.extend((!rest.is_empty()).then_some(Work::Items(tree, rest)));
                    work.push(Work::Opcode(op::APPENDS));
                    work.extend(batch.iter().rev().map(|&id| Work::Node(Place { tree, id, role: Role::Value })));
                }
                Work::Pairs(tree, pairs) => {
                    let (batch, rest) = pairs.split_at(pairs.len().min(BATCH));
                    self.out.push(op::MARK);
                    work.extend((!rest.is_empty()).then_some(Work::Pairs(tree, rest)));
                    work.push(Work::Opcode(op::SETITEMS));
                    let node = |id| Work::Node(Place { tree, id, role: Role::Value });
                    work.extend(batch.iter().rev().flat_map(|&(key, value)| [node(value), node(key)]));
                }
                Work::Pieces(pairs) => {
                    let (batch, rest) = pairs.split_at(pairs.len().min(BATCH));
                    self.out.push(op::MARK);
                    work.extend((!rest.is_empty()).then_some(Work::Pieces(rest)));
                    work.push(Work::Opcode(op::SETITEMS));
                    work.extend(batch.iter().rev().flat_map(|(key, value)| [Work::Piece(value), Work::Piece(key)]));
                }
            }
        }
        self.out.push(op::STOP);
        Ok(())
    }

    fn piece(&mut self, piece: &'p Piece<'p>, work: &mut Vec<Work<'p>>) -> Written {
        match piece {
            Piece::Value(Value::Bytes(bytes)) => self.bytes(bytes, None)?,
            Piece::Value(Value::Text(text)) => self.text(text.as_bytes(), None)?,
            Piece::Value(value) => {
                // A value with parts may contain bytes somewhere.
                self.bytes |= matches!(value, Value::Tuple(_) | Value::List(_) | Value::Dict(_));
                write_whole(value, &mut self.out);
            }
            Piece::Class(name) => {
                self.class(ClassRef { module: name.module.as_bytes(), name: name.name.as_bytes() }, None)?;
            }
            Piece::Tuple(pieces) => {
                self.open_tuple(pieces.len(), None, None, work);
                work.extend(pieces.iter().rev().map(Work::Piece));
            }
            Piece::Dict(pairs) => {
                self.out.push(op::EMPTY_DICT);
                self.put([None, None]);
                match pairs.as_slice() {
                    [] => {}
                    [(key, value)] => work.extend([Work::Opcode(op::SETITEM), Work::Piece(value), Work::Piece(key)]),
                    pairs => work.push(Work::Pieces(pairs)),
                }
            }
            Piece::Part(part) => self.node(Place { tree: part.tree, id: part.id, role: Role::Value }, work)?,
        }
        Ok(())
    }

    fn node(&mut self, place: Place<'p>, work: &mut Vec<Work<'p>>) -> Written {
        let Place { tree, id, role } = place;
        let identity = Identity::of_node(tree, id);
        match *tree.node(id) {
            Node::Persistent { id: persistent_id, .. } => {
                self.check_reference(place)?;
                work.push(Work::Opcode(op::BINPERSID));
                work.push(Work::Node(Place { tree, id: persistent_id, role: Role::Reference }));
                return Ok(());
            }
            Node::PersistentLine { line, .. } => {
                self.check_reference(place)?;
                work.push(Work::Opcode(op::BINPERSID));
                return match tree.raw(line) {
                    line if !line.is_ascii() => Err(Problem::NotPlain("a reference in a line that is not ASCII")),
                    line => self.text(line, Some(identity)),
                };
            }
            _ => {}
        }
        let also = if role == Role::Reference { Identity::of_persistent_id(tree, id) } else { None };
        if self.get(identity, also) {
            return Ok(());
        }
        let inner = if role == Role::Value { Role::Value } else { Role::Name };
        match (Part { tree, id }).view() {
            View::None => self.out.push(op::NONE),
            View::Bool(value) => self.out.push(if value { op::NEWTRUE } else { op::NEWFALSE }),
            View::Int(number) => write_int(number, &mut self.out),
            View::BigInt(bytes) => self.long(&bytes, identity),
            View::Float(number) => {
                self.out.push(op::BINFLOAT);
                self.out.extend(number.to_be_bytes());
            }
            View::Text(text) => self.text(&text, Some(identity))?,
            View::Bytes(bytes) => {
                self.bytes(&bytes, Some(identity))?;
                self.name_too(identity, also);
            }
            View::Native(bytes) => self.native(&bytes, identity)?,
            View::Tuple(_) => {
                let items = tree.tuple_items(id).unwrap_or_default();
                if !items.is_empty() && !self.begun.insert(identity) {
                    return Err(Problem::NotPlain("a tuple that is inside itself"));
                }
                self.open_tuple(items.len(), Some(identity), also, work);
                work.extend(items.iter().rev().map(|&id| Work::Node(Place { tree, id, role: inner })));
            }
            View::List(_) => self.list(place, identity, inner, work),
            View::Dict(_) => self.dict(place, identity, work),
            View::Class(class) if role != Role::Value => self.class(class, Some(identity))?,
            View::Class(_) => return Err(Problem::NotPlain("a class")),
            View::Reference(_) => return Err(Problem::NotPlain("a damaged reference")),
            View::Other => return Err(Problem::NotPlain("an object")),
        }
        Ok(())
    }

    fn check_reference(&self, place: Place<'p>) -> Written {
        match (Part { tree: place.tree, id: place.id }).view() {
            View::Reference(Reference::Bad { why, .. }) => Err(Problem::NotPlain(why)),
            View::Reference(_) => Ok(()),
            _ => Err(Problem::NotPlain("a damaged reference")),
        }
    }

    /// The beginning of a tuple; the rest is left as work, below which the items go.
    fn open_tuple(
        &mut self,
        length: usize,
        node: Option<Identity<'p>>,
        also: Option<Identity<'p>>,
        work: &mut Vec<Work<'p>>,
    ) {
        if length == 0 {
            self.out.push(op::EMPTY_TUPLE);
            return;
        }
        if length > 3 {
            self.out.push(op::MARK);
        }
        work.push(Work::Close { length, node, also });
    }

    fn list(&mut self, place: Place<'p>, identity: Identity<'p>, inner: Role, work: &mut Vec<Work<'p>>) {
        let Place { tree, id, .. } = place;
        let Node::List(items) = tree.node(id) else { return };
        self.out.push(op::EMPTY_LIST);
        self.put([Some(identity), None]);
        match items.as_slice() {
            [] => {}
            &[id] => work.extend([Work::Opcode(op::APPEND), Work::Node(Place { tree, id, role: inner })]),
            // A persistent id has two items at most, so it never needs a second batch.
            items if inner == Role::Name && items.len() <= 3 => {
                self.out.push(op::MARK);
                work.push(Work::Opcode(op::APPENDS));
                work.extend(items.iter().rev().map(|&id| Work::Node(Place { tree, id, role: inner })));
            }
            items => work.push(Work::Items(tree, items)),
        }
    }

    fn dict(&mut self, place: Place<'p>, identity: Identity<'p>, work: &mut Vec<Work<'p>>) {
        let Place { tree, id, .. } = place;
        let Node::Dict(pairs) = tree.node(id) else { return };
        self.out.push(op::EMPTY_DICT);
        self.put([Some(identity), None]);
        let node = |id| Work::Node(Place { tree, id, role: Role::Value });
        match pairs.as_slice() {
            [] => {}
            &[(key, value)] => work.extend([Work::Opcode(op::SETITEM), node(value), node(key)]),
            pairs => work.push(Work::Pairs(tree, pairs)),
        }
    }

    // A class without parts.

    fn class(&mut self, class: ClassRef<'p>, node: Option<Identity<'p>>) -> Written {
        if class.module.len().saturating_add(class.name.len()) > NAME_MAX {
            return Err(Problem::NotPlain("a class with a name of more than 1024 bytes"));
        }
        let identity = Identity::Class(class);
        if self.get(identity, node) {
            return Ok(());
        }
        if class.module.contains(&b'\n') || class.name.contains(&b'\n') {
            return Err(Problem::NotPlain("a class with a new line in its name"));
        }
        // A class in a class: protocol 3 has no other way to name it than the call that finds it.
        let mut path = class.name.split(|&byte| byte == b'.');
        let outer = match path.next() {
            Some(outer) if class.name.split(|&byte| byte == b'.').all(|name| !name.is_empty()) => outer,
            _ => class.name,
        };
        let inner: Vec<&'p [u8]> = if outer == class.name { Vec::new() } else { path.collect() };
        for _ in &inner {
            self.nests = true;
            self.class(ClassRef { module: self.builtins, name: b"getattr" }, None)?;
        }
        if inner.is_empty() {
            self.out.push(op::GLOBAL);
            for name in [class.module, class.name] {
                self.out.extend_from_slice(name);
                self.out.push(b'\n');
            }
        } else {
            self.class(ClassRef { module: class.module, name: outer }, None)?;
        }
        for name in inner {
            std::str::from_utf8(name).map_err(|_| Problem::NotPlain("a class with a name that is not UTF-8"))?;
            self.text(name, None)?;
            self.out.extend([op::TUPLE2, op::REDUCE]);
        }
        self.put([Some(identity), node]);
        Ok(())
    }

    fn text(&mut self, text: &[u8], node: Option<Identity<'p>>) -> Written {
        let short = Identity::of_text(text);
        if self.known([node, short]) {
            return Ok(());
        }
        fits(text.len(), u32::MAX as usize)?;
        write_length(op::BINUNICODE, text.len(), &mut self.out);
        self.out.extend_from_slice(text);
        self.put([node, short]);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8], node: Option<Identity<'p>>) -> Written {
        let short = Identity::of_bytes(bytes);
        self.bytes = true;
        if self.known([node, short]) {
            return Ok(());
        }
        fits(bytes.len(), u32::MAX as usize)?;
        match u8::try_from(bytes.len()) {
            Ok(length) => self.out.extend([op::SHORT_BINBYTES, length]),
            Err(_) => write_length(op::BINBYTES, bytes.len(), &mut self.out),
        }
        self.out.extend_from_slice(bytes);
        self.put([node, short]);
        Ok(())
    }

    fn native(&mut self, bytes: &[u8], node: Identity<'p>) -> Written {
        fits(bytes.len(), i32::MAX as usize)?;
        match u8::try_from(bytes.len()) {
            Ok(length) => self.out.extend([op::SHORT_BINSTRING, length]),
            Err(_) => write_length(op::BINSTRING, bytes.len(), &mut self.out),
        }
        self.out.extend_from_slice(bytes);
        self.put([Some(node), None]);
        Ok(())
    }

    fn long(&mut self, bytes: &[u8], node: Identity<'p>) {
        write_long(bytes, &mut self.out);
        if bytes.len() > LONG_MAX {
            self.put([Some(node), None]);
        }
    }

    // The memo.

    /// Memoizes the value that was just written, under the names it has.
    fn put(&mut self, names: [Option<Identity<'p>>; 2]) {
        match u8::try_from(self.puts) {
            Ok(key) => self.out.extend([op::BINPUT, key]),
            Err(_) => {
                self.out.push(op::LONG_BINPUT);
                self.out.extend(self.puts.to_le_bytes());
            }
        }
        for name in names.into_iter().flatten() {
            self.memo.insert(name, self.puts);
        }
        // More than four billion entries would take more memory than there is.
        self.puts = self.puts.saturating_add(1);
    }

    /// Writes a value that was written before under one of two names.
    fn get(&mut self, name: Identity<'p>, other: Option<Identity<'p>>) -> bool {
        self.known([Some(name), other])
    }

    fn known(&mut self, names: [Option<Identity<'p>>; 2]) -> bool {
        let Some(&key) = names.iter().flatten().find_map(|name| self.memo.get(name)) else {
            return false;
        };
        match u8::try_from(key) {
            Ok(key) => self.out.extend([op::BINGET, key]),
            Err(_) => {
                self.out.push(op::LONG_BINGET);
                self.out.extend(key.to_le_bytes());
            }
        }
        // So that a long name is looked up but once for each place where it stands.
        for name in names.into_iter().flatten() {
            self.memo.insert(name, key);
        }
        true
    }

    /// Makes a value that is known under one name known under another, too.
    fn name_too(&mut self, name: Identity<'p>, other: Option<Identity<'p>>) {
        if let (Some(&key), Some(other)) = (self.memo.get(&name), other) {
            self.memo.insert(other, key);
        }
    }
}

fn fits(length: usize, most: usize) -> Written {
    if length > most { Err(Problem::TooLong(length as u64)) } else { Ok(()) }
}
