//! A record's state for a human reader.
//!
//! What is plain looks as it does in Python. References, and objects inside the record, look like this:
//!
//! | text | means |
//! |---|---|
//! | `→ 000000000000001a mail.Message` | a reference, with the class if it is known |
//! | `→ archive:000000000000001a` | a reference into the database `archive` |
//! | `⇢ 000000000000001a` | a weak reference |
//! | `mail.Thing(1, 2) {'a': 3}` | an object made with these arguments and then given this state |
//! | `2003-04-01T00:37:00` | a `datetime`; so also dates and times |
//! | `&1 [1, 2]` … `*1` | a value that occurs more than once, in full the first time |
//! | `[…]` | a value deeper inside than was asked for |
//!
//! The tree is walked with a stack of work and not by recursion, and everything is shown in full at most once, so a
//! record that holds itself, or doubles itself thirty times over, is as easy as any.

use crate::error::PickleError;
use crate::layout::Pieces;
use crate::machine::Atom;
use crate::object::{Form, Moment};
use crate::quote;
use crate::reference::{Reference, classify, classify_line};
use crate::sharing::Sharing;
use crate::strings::{self, Kind};
use crate::tree::{Id, Node, Tree};

/// How much to show, and how wide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderOptions {
    /// The most bytes of output. What is longer ends in `… (truncated)`, which is not counted.
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
    let (tree, root) = Tree::of_state(record)?;
    let mut renderer = Renderer {
        tree: &tree,
        sharing: Sharing::of(&tree, root),
        pieces: Pieces::new(options.bytes_max),
        work: vec![Work::Value(root, 0)],
        depth_max: options.depth_max,
    };
    renderer.run();
    Ok(renderer.pieces.lay_out(options.width))
}

/// What remains to be written down.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// A value, and how deep inside it is.
    Value(Id, usize),
    /// The items of a tuple that was not shared, as the arguments of a call.
    Arguments(Id, usize),
    Text(&'static str),
    Open(&'static str),
    Separator,
    Close(&'static str),
}

struct Renderer<'t, 'a> {
    tree: &'t Tree<'a>,
    sharing: Sharing,
    pieces: Pieces,
    work: Vec<Work>,
    depth_max: usize,
}

impl Renderer<'_, '_> {
    fn run(&mut self) {
        while let Some(work) = self.work.pop() {
            if self.pieces.is_full() {
                return;
            }
            match work {
                Work::Value(id, depth) => self.value(id, depth),
                Work::Arguments(id, depth) => self.sequence("(", self.tree.tuple_items(id).unwrap_or(&[]), ")", depth),
                Work::Text(text) => self.pieces.text(text),
                Work::Open(bracket) => self.pieces.open(bracket),
                Work::Separator => self.pieces.separator(),
                Work::Close(bracket) => self.pieces.close(bracket),
            }
        }
    }

    /// Leaves `work` to be done next, first things first.
    fn next(&mut self, work: impl DoubleEndedIterator<Item = Work>) {
        self.work.extend(work.rev());
    }

    fn value(&mut self, id: Id, depth: usize) {
        if self.tree.additions(id).is_none()
            && let Some(moment) = Moment::of(self.tree, id)
        {
            return self.moment(&moment, depth);
        }
        if !self.first_time(id) {
            return;
        }
        self.additions(id, depth);
        if let Some(form) = Form::of(self.tree, &self.sharing, id) {
            return self.object(form, depth);
        }
        match self.tree.node(id) {
            Node::Tuple(items) if items.len() == 1 => self.sequence("(", items, ",)", depth),
            Node::Tuple(items) => self.sequence("(", items, ")", depth),
            Node::List(items) => self.sequence("[", items, "]", depth),
            Node::Set(items) => self.set(items, depth),
            Node::FrozenSet(items) => self.frozen_set(items, depth),
            Node::Dict(pairs) => self.pairs(pairs, depth),
            Node::Atom(atom) => self.atom(*atom),
            Node::Persistent { at, id } => self.reference(&classify(&self.tree, *id, *at)),
            Node::PersistentLine { at, line } => self.reference(&classify_line(self.tree.raw(*line), *at)),
            // The rest has a form, or is a class or bytes.
            _ => self.name_or_bytes(id),
        }
    }

    /// Marks a value that occurs more than once. Says whether it is to be shown in full.
    fn first_time(&mut self, id: Id) -> bool {
        let Some((number, first)) = self.sharing.number(id) else {
            return true;
        };
        self.pieces.text(&if first { format!("&{number} ") } else { format!("*{number}") });
        first
    }

    /// What was given to an object after it was made comes after it.
    fn additions(&mut self, id: Id, depth: usize) {
        let Some(additions) = self.tree.additions(id) else {
            return;
        };
        if depth >= self.depth_max {
            return self.next([Work::Text(" {…}")].into_iter());
        }
        let mut work = Vec::new();
        if !additions.items.is_empty() {
            work.push(Work::Text(" "));
            work.extend(bracketed("[", additions.items.iter().map(|&item| [Work::Value(item, depth + 1)]), "]"));
        }
        if !additions.pairs.is_empty() {
            work.push(Work::Text(" "));
            work.extend(bracketed("{", additions.pairs.iter().map(|pair| entry(*pair, depth + 1)), "}"));
        }
        for &state in &additions.states {
            work.push(Work::Text(" "));
            match self.tree.node(state) {
                Node::Dict(_) => work.push(Work::Value(state, depth + 1)),
                _ => work.extend(bracketed("{", [[Work::Value(state, depth + 1)]].into_iter(), "}")),
            }
        }
        self.next(work.into_iter());
    }

    fn object(&mut self, form: Form<'_>, depth: usize) {
        match form {
            Form::Call { class, arguments, keywords } => {
                let mut work = vec![Work::Value(class, depth)];
                if self.sharing.is_shared(arguments) || self.tree.tuple_items(arguments).is_none() {
                    // Arguments that are shared are a value like any other, and shown in full only once.
                    work.extend([Work::Open("("), Work::Value(arguments, depth + 1), Work::Close(")")]);
                } else {
                    work.push(Work::Arguments(arguments, depth));
                }
                if let Some(keywords) = keywords {
                    work.extend([Work::Text(" with "), Work::Value(keywords, depth + 1)]);
                }
                self.next(work.into_iter());
            }
            Form::Plain { class, arguments } => {
                self.sequence("(", arguments, ")", depth);
                self.work.push(Work::Value(class, depth));
            }
            Form::Set(items) => self.set(items, depth),
            Form::FrozenSet(items) => self.frozen_set(items, depth),
        }
    }

    /// In a time zone, a date is shown as the call that makes it.
    fn moment(&mut self, moment: &Moment, depth: usize) {
        let Some(zone) = moment.zone else {
            return self.pieces.text(&moment.iso);
        };
        self.pieces.text(moment.class);
        self.pieces.open("(");
        self.pieces.text(&moment.iso);
        self.next([Work::Separator, Work::Value(zone, depth + 1), Work::Close(")")].into_iter());
    }

    fn set(&mut self, items: &[Id], depth: usize) {
        if items.is_empty() { self.pieces.text("set()") } else { self.sequence("{", items, "}", depth) }
    }

    fn frozen_set(&mut self, items: &[Id], depth: usize) {
        if items.is_empty() {
            self.pieces.text("frozenset()")
        } else {
            self.sequence("frozenset({", items, "})", depth)
        }
    }

    fn sequence(&mut self, open: &'static str, items: &[Id], close: &'static str, depth: usize) {
        if self.too_deep(open, items.is_empty(), close, depth) {
            return;
        }
        let work = bracketed(open, items.iter().map(|&item| [Work::Value(item, depth + 1)]), close);
        self.next(work.collect::<Vec<_>>().into_iter());
    }

    fn pairs(&mut self, pairs: &[(Id, Id)], depth: usize) {
        if self.too_deep("{", pairs.is_empty(), "}", depth) {
            return;
        }
        let work = bracketed("{", pairs.iter().map(|pair| entry(*pair, depth + 1)), "}");
        self.next(work.collect::<Vec<_>>().into_iter());
    }

    /// Shows an ellipsis instead of what is too deep inside.
    fn too_deep(&mut self, open: &'static str, empty: bool, close: &'static str, depth: usize) -> bool {
        let too_deep = depth >= self.depth_max && !empty;
        if too_deep {
            self.next([Work::Open(open), Work::Text("…"), Work::Close(close)].into_iter());
        }
        too_deep
    }

    fn atom(&mut self, atom: Atom) {
        match atom {
            Atom::None => self.pieces.text("None"),
            Atom::Bool(true) => self.pieces.text("True"),
            Atom::Bool(false) => self.pieces.text("False"),
            Atom::Int(number) => self.pieces.text(&number.to_string()),
            Atom::Float(number) => self.pieces.text(&format!("{number:?}")),
            Atom::Digits(span) => self.pieces.text(&String::from_utf8_lossy(self.tree.raw(span))),
            Atom::Long(span) => self.long(self.tree.raw(span)),
            Atom::Str(kind, span) => self.string(kind, self.tree.raw(span)),
            Atom::ByteArray(span) => {
                self.pieces.text("bytearray(");
                self.pieces.write(quote::bytes(self.tree.raw(span)));
                self.pieces.text(")");
            }
            Atom::Buffer => self.pieces.text("(a buffer kept elsewhere)"),
            Atom::Extension(code) => self.pieces.text(&format!("(class {code} of the extension registry)")),
            Atom::Global(module, name) => {
                self.name(&String::from_utf8_lossy(self.tree.raw(module)));
                self.pieces.text(".");
                self.name(&String::from_utf8_lossy(self.tree.raw(name)));
            }
        }
    }

    /// A number of more than 64 bits: in decimal as far as that is easy, and then in hexadecimal.
    fn long(&mut self, bytes: &[u8]) {
        let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
        if bytes.len() <= 16 {
            let mut wide = [if negative { 0xff } else { 0 }; 16];
            wide[..bytes.len()].copy_from_slice(bytes);
            return self.pieces.text(&i128::from_le_bytes(wide).to_string());
        }
        let mut magnitude = bytes.to_vec();
        if negative {
            let mut carry = true;
            for byte in &mut magnitude {
                (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
            }
        }
        self.pieces.text(if negative { "-0x" } else { "0x" });
        self.pieces.write(magnitude.iter().rev().map(|byte| format!("{byte:02x}")));
    }

    fn string(&mut self, kind: Kind, raw: &[u8]) {
        // The `str` of Python 2 was text to whoever wrote it, if it looks like text.
        let readable = |text: &str| kind.is_text() || !text.contains(|c: char| c.is_control() && !c.is_whitespace());
        match strings::text(kind, raw).filter(|text| readable(text)) {
            Some(text) => self.pieces.write(quote::text(&text)),
            None => match strings::bytes(kind, raw) {
                Some(bytes) => self.pieces.write(quote::bytes(&bytes)),
                None => {
                    self.pieces.text("(unreadable text) ");
                    self.pieces.write(quote::bytes(raw));
                }
            },
        }
    }

    fn name_or_bytes(&mut self, id: Id) {
        match (self.tree.class(id), self.tree.bytes(id)) {
            (Some(class), _) => self.name(&class.to_string()),
            (None, Some(bytes)) => self.pieces.write(quote::bytes(&bytes)),
            (None, None) => self.pieces.text("(unreadable)"),
        }
    }

    /// A name out of the record, which may be anything.
    fn name(&mut self, name: &str) {
        self.pieces.write(name.chars().map(quote::visible));
    }

    fn reference(&mut self, reference: &Reference<'_>) {
        let (text, class) = match reference {
            Reference::Strong { oid, class } => (format!("→ {oid:016x}"), *class),
            Reference::Weak { oid, database: None } => (format!("⇢ {oid:016x}"), None),
            Reference::Weak { oid, database: Some(database) } => (format!("⇢ {database}:{oid:016x}"), None),
            Reference::Foreign { database, oid, class } => (format!("→ {database}:{oid:016x}"), *class),
            Reference::Bad { why, .. } => (format!("→ damaged ({why})"), None),
        };
        self.name(&text);
        if let Some(class) = class {
            self.name(&format!(" {class}"));
        }
    }
}

/// Items in brackets, with separators between them.
fn bracketed<I: IntoIterator<Item = Work>>(
    open: &'static str,
    items: impl Iterator<Item = I>,
    close: &'static str,
) -> impl Iterator<Item = Work> {
    let inside =
        items.enumerate().flat_map(|(index, item)| (index > 0).then_some(Work::Separator).into_iter().chain(item));
    [Work::Open(open)].into_iter().chain(inside).chain([Work::Close(close)])
}

fn entry((key, value): (Id, Id), depth: usize) -> [Work; 3] {
    [Work::Value(key, depth), Work::Text(": "), Work::Value(value, depth)]
}
