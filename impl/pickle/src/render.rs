//! A record's state for a human reader.
//!
//! Plain values look as they do in Python. References, and objects inside the record, look like this:
//!
//! | text | means |
//! |---|---|
//! | `→ 000000000000001a mail.Message` | a reference, with the class if it is known |
//! | `→ archive:000000000000001a` | a reference into the database `archive` |
//! | `⇢ 000000000000001a` | a weak reference |
//! | `mail.Thing(1, 2) with state {'a': 3}` | an object made with these arguments and then given this state |
//! | `mail.Bag() with items [1] with pairs {2: 3}` | an object that was given items, and keys with values |
//! | `mail.Thing(*(&1 (1, 2)), **{'a': 3})` | arguments that occur more than once, and named ones |
//! | `2003-04-01T00:37:00` | a `datetime`; so also dates and times |
//! | `datetime.datetime(2003-04-01T00:37:00, pytz.UTC(), fold=1)` | one in a time zone, and the second of its name there |
//! | `&1 [1, 2]` … `*1` | a value that occurs more than once, in full the first time |
//! | `[…]` | a value deeper inside than was asked for |
//!
//! The tree is walked with a stack of work and not by recursion, and everything is shown in full at most once
//! (`sharing.rs`). So a record that holds itself, or doubles itself thirty times over, is as easy as any, and what is
//! shown is about as long as the record.

use std::fmt::Write;
use std::slice::Iter;

use crate::error::PickleError;
use crate::layout::Pieces;
use crate::machine::Atom;
use crate::object::{Arguments, Form, Moment};
use crate::plain::plain;
use crate::quote;
use crate::reference::{ClassRef, Reference, classify, classify_line};
use crate::sharing::Sharing;
use crate::strings::{self, Kind};
use crate::tree::{Additions, Id, Node, Tree};

/// How much to show, and how wide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderOptions {
    /// The most bytes of output. Longer output ends in `… (truncated)`, which is not counted.
    pub bytes_max: usize,
    /// How deep to look into containers.
    pub depth_max: usize,
    /// The width in columns beyond which containers are shown one item to a line.
    pub width: usize,
}

impl Default for RenderOptions {
    /// 64 KiB, 32 deep, 100 columns.
    fn default() -> Self {
        RenderOptions { bytes_max: 64 * 1024, depth_max: 32, width: 100 }
    }
}

/// The state of the object that `record` holds, for a human reader. Its class is what
/// [`class_of`](crate::class_of) says.
///
/// ```
/// use vellum_pickle::{RenderOptions, render};
///
/// let record = b"cmail\nFolder\nq\x01.}q\x02(U\x04rootU\x08\0\0\0\0\0\0\0\x01h\x01\x86Qu.";
/// assert_eq!(render(record, &RenderOptions::default())?, "{'root': → 0000000000000001 mail.Folder}");
/// # Ok::<(), vellum_pickle::PickleError>(())
/// ```
///
/// # Errors
///
/// When one of the record's two pickles cannot be read to its end.
pub fn render(record: &[u8], options: &RenderOptions) -> Result<String, PickleError> {
    let record = plain(record)?;
    let (tree, root) = Tree::of_state(&record)?;
    Ok(render_value(&tree, root, options))
}

/// A value in a tree, for a human reader.
pub(crate) fn render_value(tree: &Tree<'_>, root: Id, options: &RenderOptions) -> String {
    let mut renderer = Renderer {
        tree,
        sharing: Sharing::of(tree, root),
        pieces: Pieces::new(options.bytes_max, tree.input_length()),
        work: vec![Work::Value(root, 0)],
        depth_max: options.depth_max,
    };
    renderer.run();
    renderer.pieces.lay_out(options.width)
}

/// The work that is left to write.
#[derive(Debug)]
enum Work<'t> {
    /// A value, and how deep inside it is.
    Value(Id, usize),
    /// Items, with separators between them; and how deep they are.
    Items {
        rest: Iter<'t, Id>,
        is_first: bool,
        close: &'static str,
        depth: usize,
    },
    /// The same of keys and values.
    Pairs {
        rest: Iter<'t, (Id, Id)>,
        is_first: bool,
        close: &'static str,
        depth: usize,
    },
    Text(&'static str),
    Open(&'static str),
    Separator,
    Close(&'static str),
}

struct Renderer<'t, 'a> {
    tree: &'t Tree<'a>,
    sharing: Sharing,
    pieces: Pieces,
    work: Vec<Work<'t>>,
    depth_max: usize,
}

impl<'t> Renderer<'t, '_> {
    fn run(&mut self) {
        while let Some(work) = self.work.last_mut() {
            if self.pieces.is_full() {
                return;
            }
            match work {
                Work::Items { rest, is_first, depth, .. } => {
                    let Some(&id) = rest.next() else {
                        self.end();
                        continue;
                    };
                    if !std::mem::take(is_first) {
                        self.pieces.separator();
                    }
                    let depth = *depth;
                    self.value(id, depth);
                    continue;
                }
                Work::Pairs { rest, is_first, depth, .. } => {
                    let Some(&(key, value)) = rest.next() else {
                        self.end();
                        continue;
                    };
                    if !std::mem::take(is_first) {
                        self.pieces.separator();
                    }
                    let depth = *depth;
                    self.work.extend([Work::Value(value, depth), Work::Text(": ")]);
                    self.value(key, depth);
                    continue;
                }
                _ => {}
            }
            match self.work.pop() {
                Some(Work::Value(id, depth)) => self.value(id, depth),
                Some(Work::Text(text)) => self.pieces.text.push_str(text),
                Some(Work::Open(bracket)) => self.pieces.open(bracket),
                Some(Work::Separator) => self.pieces.separator(),
                Some(Work::Close(bracket)) => self.pieces.close(bracket),
                Some(Work::Items { .. } | Work::Pairs { .. }) | None => {}
            }
        }
    }

    /// Closes the bracket of the items that are all written.
    fn end(&mut self) {
        if let Some(Work::Items { close, .. } | Work::Pairs { close, .. }) = self.work.pop() {
            self.pieces.close(close);
        }
    }

    /// Leaves work to be done next, first things first.
    fn next<const N: usize>(&mut self, work: [Work<'t>; N]) {
        self.work.extend(work.into_iter().rev());
    }

    fn value(&mut self, id: Id, depth: usize) {
        let tree = self.tree;
        let is_plain = tree.additions(id).is_none();
        if let Node::Atom(atom) = tree.node(id)
            && is_plain
            && !self.sharing.is_shared(id)
        {
            return self.atom(*atom);
        }
        let moment = if is_plain { Moment::of(tree, &self.sharing, id) } else { None };
        if let Some(Moment { iso, zone: None, fold: false, .. }) = &moment {
            return self.pieces.text.push_str(iso);
        }
        if !self.first_time(id) {
            return;
        }
        if let Some(moment) = moment {
            return self.moment(&moment, depth);
        }
        self.additions(id, depth);
        if let Some(form) = Form::of(tree, &self.sharing, id) {
            return self.object(form, depth);
        }
        match tree.node(id) {
            Node::Tuple(run) => {
                let items = tree.run(*run);
                self.sequence("(", items, if items.len() == 1 { ",)" } else { ")" }, depth);
            }
            Node::List(items) => self.sequence("[", items, "]", depth),
            Node::Set(items) => self.set(items, depth),
            Node::FrozenSet(items) => self.frozen_set(items, depth),
            Node::Dict(pairs) => self.pairs(pairs, depth),
            Node::Atom(atom) => self.atom(*atom),
            &Node::Persistent { id, .. } if self.sharing.labels_within(tree, id) => {
                self.pieces.text.push_str("→ ");
                self.next([Work::Open("("), Work::Value(id, depth), Work::Close(")")]);
            }
            Node::Persistent { at, id } => self.reference(&classify(&tree, *id, *at)),
            Node::PersistentLine { at, line } => self.reference(&classify_line(tree.raw(*line), *at)),
            &Node::StackGlobal(module, name) if tree.class(id).is_none() || self.sharing.labels_within(tree, id) => {
                self.pieces.text.push_str("class");
                let [module, name] = [module, name].map(|id| Work::Value(id, depth));
                self.next([Work::Open("("), module, Work::Separator, name, Work::Close(")")]);
            }
            &Node::Encoded(text) if self.sharing.labels_within(tree, id) => {
                self.pieces.text.push_str("_codecs.encode");
                self.next([Work::Open("("), Work::Value(text, depth), Work::Text(", 'latin1'"), Work::Close(")")]);
            }
            // The rest has a form, or is a class or bytes.
            _ => self.name_or_bytes(id),
        }
    }

    /// Marks a value that is written only once. Says whether this is the place.
    fn first_time(&mut self, id: Id) -> bool {
        let Some((number, first)) = self.sharing.number(self.tree, id) else {
            return true;
        };
        let out = &mut self.pieces.text;
        let _ = if first { write!(out, "&{number} ") } else { write!(out, "*{number}") };
        first
    }

    /// The additions to an object come after it, in the order in which Python makes them.
    fn additions(&mut self, id: Id, depth: usize) {
        let Some(Additions { states, items, pairs }) = self.tree.additions(id) else {
            return;
        };
        if depth >= self.depth_max {
            return self.work.push(Work::Text(" {…}"));
        }
        let depth = depth + 1;
        for &state in states.iter().rev() {
            self.next([Work::Text(" with state "), Work::Value(state, depth)]);
        }
        if !pairs.is_empty() {
            self.next([
                Work::Text(" with pairs "),
                Work::Open("{"),
                Work::Pairs { rest: pairs.iter(), is_first: true, close: "}", depth },
            ]);
        }
        if !items.is_empty() {
            self.next([
                Work::Text(" with items "),
                Work::Open("["),
                Work::Items { rest: items.iter(), is_first: true, close: "]", depth },
            ]);
        }
    }

    fn object(&mut self, form: Form<'t>, depth: usize) {
        let (class, arguments, keywords) = match form {
            Form::Made { class, arguments, keywords, .. } => (class, arguments, keywords),
            Form::Set(items) => return self.set(items, depth),
            Form::FrozenSet(items) => return self.frozen_set(items, depth),
        };
        if let (Arguments::Each(items), None) = (&arguments, keywords) {
            self.sequence("(", items, ")", depth);
            return self.work.push(Work::Value(class, depth));
        }
        // As Python spells them: `*` before a tuple of arguments, `**` before a dict of named ones.
        let depth_inside = depth + 1;
        self.work.push(Work::Close(")"));
        if let Some(keywords) = keywords {
            let is_shown_before = self.sharing.is_labelled(self.tree, keywords);
            if is_shown_before {
                self.next([Work::Text("**("), Work::Value(keywords, depth_inside), Work::Text(")")]);
            } else {
                self.next([Work::Text("**"), Work::Value(keywords, depth_inside)]);
            }
        }
        match arguments {
            Arguments::Whole(id) => {
                self.work.extend(keywords.map(|_| Work::Separator));
                self.next([Work::Text("*("), Work::Value(id, depth_inside), Work::Text(")")]);
            }
            Arguments::Each(items) => {
                for &item in items.iter().rev() {
                    self.next([Work::Value(item, depth_inside), Work::Separator]);
                }
            }
        }
        self.next([Work::Value(class, depth), Work::Open("(")]);
    }

    /// In a time zone, a date is shown as the call that makes it.
    fn moment(&mut self, moment: &Moment, depth: usize) {
        self.pieces.text.push_str("datetime.");
        self.pieces.text.push_str(moment.class);
        self.pieces.open("(");
        self.pieces.text.push_str(&moment.iso);
        self.work.push(Work::Close(")"));
        if moment.fold {
            self.next([Work::Separator, Work::Text("fold=1")]);
        }
        if let Some(zone) = moment.zone {
            self.next([Work::Separator, Work::Value(zone, depth + 1)]);
        }
    }

    fn set(&mut self, items: &'t [Id], depth: usize) {
        if items.is_empty() { self.pieces.text.push_str("set()") } else { self.sequence("{", items, "}", depth) }
    }

    fn frozen_set(&mut self, items: &'t [Id], depth: usize) {
        if items.is_empty() {
            self.pieces.text.push_str("frozenset()");
        } else {
            self.sequence("frozenset({", items, "})", depth);
        }
    }

    fn sequence(&mut self, open: &'static str, items: &'t [Id], close: &'static str, depth: usize) {
        if self.too_deep(open, items.is_empty(), close, depth) {
            return;
        }
        let depth = depth + 1;
        self.next([Work::Open(open), Work::Items { rest: items.iter(), is_first: true, close, depth }]);
    }

    fn pairs(&mut self, pairs: &'t [(Id, Id)], depth: usize) {
        if self.too_deep("{", pairs.is_empty(), "}", depth) {
            return;
        }
        let depth = depth + 1;
        self.next([Work::Open("{"), Work::Pairs { rest: pairs.iter(), is_first: true, close: "}", depth }]);
    }

    /// Shows an ellipsis instead of a value that is nested too deep.
    fn too_deep(&mut self, open: &'static str, empty: bool, close: &'static str, depth: usize) -> bool {
        let too_deep = depth >= self.depth_max && !empty;
        if too_deep {
            self.next([Work::Open(open), Work::Text("…"), Work::Close(close)]);
        }
        too_deep
    }

    fn atom(&mut self, atom: Atom) {
        let tree = self.tree;
        let room = self.pieces.room();
        let out = &mut self.pieces.text;
        match atom {
            Atom::None => out.push_str("None"),
            Atom::Bool(true) => out.push_str("True"),
            Atom::Bool(false) => out.push_str("False"),
            Atom::Int(number) => _ = write!(out, "{number}"),
            Atom::Float(number) => _ = write!(out, "{number:?}"),
            Atom::Digits(span) => out.push_str(&String::from_utf8_lossy(start(tree.raw(span), room))),
            Atom::Long(span) => long(out, tree.raw(span), room),
            Atom::Str(kind, span) => string(out, kind, tree.raw(span), room),
            Atom::ByteArray(span) => {
                out.push_str("bytearray(");
                quote::push_bytes(out, start(tree.raw(span), room));
                out.push(')');
            }
            Atom::Buffer => out.push_str("(a buffer kept elsewhere)"),
            Atom::Extension(code) => _ = write!(out, "(class {code} of the extension registry)"),
            Atom::Global(module, name) => {
                push_class(out, ClassRef { module: tree.raw(module), name: tree.raw(name) }, room);
            }
        }
    }

    fn name_or_bytes(&mut self, id: Id) {
        let room = self.pieces.room();
        let out = &mut self.pieces.text;
        match (self.tree.class(id), self.tree.bytes(id)) {
            (Some(class), _) => push_class(out, class, room),
            (None, Some(bytes)) => quote::push_bytes(out, start(&bytes, room)),
            (None, None) => out.push_str("(unreadable)"),
        }
    }

    fn reference(&mut self, reference: &Reference<'_>) {
        let room = self.pieces.room();
        let out = &mut self.pieces.text;
        let (arrow, database, oid, class) = match reference {
            Reference::Strong { oid, class } => ("→ ", None, oid, *class),
            Reference::Weak { oid, database } => ("⇢ ", database.as_deref(), oid, None),
            Reference::Foreign { database, oid, class } => ("→ ", Some(&**database), oid, *class),
            Reference::Bad { why, .. } => {
                let _ = write!(out, "→ damaged ({why})");
                return;
            }
        };
        out.push_str(arrow);
        if let Some(database) = database {
            quote::push_visible(out, database);
            out.push(':');
        }
        quote::push_hex(out, &oid.to_be_bytes());
        if let Some(class) = class {
            out.push(' ');
            push_class(out, class, room);
        }
    }
}

/// The first `room` bytes.
fn start(bytes: &[u8], room: usize) -> &[u8] {
    &bytes[..bytes.len().min(room)]
}

/// A name out of the record, which may be anything.
fn push_class(out: &mut String, class: ClassRef<'_>, room: usize) {
    quote::push_visible(out, &String::from_utf8_lossy(start(class.module, room)));
    out.push('.');
    quote::push_visible(out, &String::from_utf8_lossy(start(class.name, room)));
}

/// A number of more than 64 bits: in decimal as far as that is easy, and then in hexadecimal.
fn long(out: &mut String, bytes: &[u8], room: usize) {
    match wide(bytes) {
        Some(number) => _ = write!(out, "{number}"),
        None => push_hex_number(out, bytes, room),
    }
}

/// A number of up to 128 bits.
pub(crate) fn wide(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i128::from_le_bytes(wide))
}

/// A number in hexadecimal; its first digits, if there are more than `room`.
pub(crate) fn push_hex_number(out: &mut String, bytes: &[u8], room: usize) {
    let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
    // The lowest byte that is not zero changes its sign by itself; those above it by their complement.
    let lowest = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
    out.push_str(if negative { "-0x" } else { "0x" });
    for (at, &byte) in bytes.iter().enumerate().rev().take(room) {
        let byte = match at {
            _ if !negative => byte,
            at if at > lowest => !byte,
            at if at == lowest => byte.wrapping_neg(),
            _ => 0,
        };
        quote::push_hex(out, &[byte]);
    }
}

fn string(out: &mut String, kind: Kind, raw: &[u8], room: usize) {
    // The `str` of Python 2 was meant as text, if it looks like text.
    let readable = |text: &str| kind.is_text() || !text.contains(|c: char| c.is_control() && !c.is_whitespace());
    if let Some(text) = strings::text(kind, raw).filter(|text| readable(text)) {
        return quote::push_text(out, &text[..quote::boundary(&text, room)]);
    }
    if let Some(text) = strings::wide_text(kind, raw, true) {
        return quote::push_wide_text(out, start(&text, room));
    }
    match strings::bytes(kind, raw) {
        Some(bytes) => quote::push_bytes(out, start(&bytes, room)),
        None => {
            out.push_str("(unreadable text) ");
            quote::push_bytes(out, start(raw, room));
        }
    }
}
