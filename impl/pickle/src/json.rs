//! A record's state as JSON that loses nothing: `docs/state-json.md` has the mapping.
//!
//! Values that JSON has, too, are written unchanged: `None`, truth, text, lists, dicts with texts as keys, and numbers
//! that every reader of JSON keeps. Everything else is an object whose first name begins with one `@`. A key of a dict
//! that begins with `@` gets one more, so that data never looks like a marker.
//!
//! The tree is walked with a stack of work, straight into one buffer. A value that occurs more than once is written
//! once, with a label (`sharing.rs`), so the output is about as long as the record.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;
use std::slice::Iter;

use crate::error::PickleError;
use crate::machine::Atom;
use crate::object::{Arguments, Form, Moment};
use crate::plain::plain;
use crate::quote::{Wide, plain_length, push_hex, surrogates};
use crate::reference::{ClassRef, Reference, classify, classify_line};
use crate::render::{push_hex_number, wide};
use crate::sharing::Sharing;
use crate::strings::{self, Kind};
use crate::tree::{Additions, Id, Node, Tree};

mod btree;

/// How to write a state as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JsonOptions {
    /// Write the state of a BTree or one of its buckets as the items and keys that it holds.
    pub btrees: bool,
}

/// The state of the object that `record` holds, as JSON that loses nothing.
///
/// ```
/// use vellum_pickle::{JsonOptions, to_json};
///
/// let record = b"cmail\nFolder\nq\x01.}q\x02(U\x04rootU\x08\0\0\0\0\0\0\0\x01h\x01\x86QU\x04sizeK\x02K\x03\x86u.";
/// assert_eq!(
///     to_json(record, &JsonOptions::default())?,
///     r#"{"root":{"@ref":"0000000000000001","class":["mail","Folder"]},"size":{"@tuple":[2,3]}}"#
/// );
/// # Ok::<(), vellum_pickle::PickleError>(())
/// ```
///
/// # Errors
///
/// When one of the record's two pickles cannot be read to its end.
pub fn to_json(record: &[u8], options: &JsonOptions) -> Result<String, PickleError> {
    let record = plain(record)?;
    let (tree, class, state, _) = Tree::of_record(&record)?;
    Ok(json_of(&tree, class, state, options))
}

/// The state of a record whose class pickle holds `class`.
pub(crate) fn json_of(tree: &Tree<'_>, class: Id, state: Id, options: &JsonOptions) -> String {
    let length = tree.input_length();
    let out = String::with_capacity(length + length / 4 + 16);
    let mut writer = Writer { tree, sharing: Sharing::of(tree, state), out, work: Vec::new() };
    if !options.btrees || !writer.btree(class, state) {
        writer.value(state);
    }
    writer.run();
    writer.out
}

/// No whole number beyond this is written as a number: many readers of JSON have 64-bit floating-point numbers only.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// The work that is left to write.
enum Work<'t> {
    Value(Id),
    Text(&'static str),
    /// Items, and the text after the last one.
    Items {
        rest: Iter<'t, Id>,
        is_first: bool,
        close: &'static str,
    },
    /// Keys and values as members of an object.
    Members {
        rest: Iter<'t, (Id, Id)>,
        is_first: bool,
    },
    /// Keys and values, each pair as a list.
    Pairs {
        rest: Iter<'t, (Id, Id)>,
        is_first: bool,
        close: &'static str,
    },
    /// Keys and values in turn, each pair as a list.
    Flat {
        rest: std::slice::ChunksExact<'t, Id>,
        is_first: bool,
        close: &'static str,
    },
}

struct Writer<'t, 'a> {
    tree: &'t Tree<'a>,
    sharing: Sharing,
    out: String,
    work: Vec<Work<'t>>,
}

impl<'t> Writer<'t, '_> {
    fn run(&mut self) {
        while let Some(work) = self.work.last_mut() {
            match work {
                Work::Items { rest, is_first, close } => match rest.next() {
                    Some(&id) => {
                        separate(&mut self.out, is_first);
                        self.value(id);
                    }
                    None => {
                        let close = *close;
                        self.end(close);
                    }
                },
                Work::Members { rest, is_first } => match rest.next() {
                    Some(&(key, value)) => {
                        separate(&mut self.out, is_first);
                        self.key(key);
                        self.value(value);
                    }
                    None => self.end("}"),
                },
                Work::Pairs { rest, is_first, close } => match rest.next() {
                    Some(&(key, value)) => {
                        separate(&mut self.out, is_first);
                        self.pair(key, value);
                    }
                    None => {
                        let close = *close;
                        self.end(close);
                    }
                },
                Work::Flat { rest, is_first, close } => match rest.next() {
                    Some(pair) => {
                        separate(&mut self.out, is_first);
                        self.pair(pair[0], pair[1]);
                    }
                    None => {
                        let close = *close;
                        self.end(close);
                    }
                },
                &mut Work::Value(id) => {
                    self.work.pop();
                    self.value(id);
                }
                &mut Work::Text(text) => self.end(text),
            }
        }
    }

    /// Writes the last text of the work on top, which is done by that.
    fn end(&mut self, text: &str) {
        self.out.push_str(text);
        self.work.pop();
    }

    /// Leaves work to be done next, first things first.
    fn next<const N: usize>(&mut self, work: [Work<'t>; N]) {
        self.work.extend(work.into_iter().rev());
    }

    fn pair(&mut self, key: Id, value: Id) {
        self.out.push('[');
        self.next([Work::Text(","), Work::Value(value), Work::Text("]")]);
        self.value(key);
    }

    fn value(&mut self, id: Id) {
        let tree = self.tree;
        let additions = tree.additions(id);
        if let (Node::Atom(atom), None, false) = (tree.node(id), additions, self.sharing.is_shared(id)) {
            return self.atom(*atom);
        }
        let moment = if additions.is_none() { Moment::of(tree, &self.sharing, id) } else { None };
        if let Some(moment @ Moment { zone: None, .. }) = &moment {
            return self.moment(moment);
        }
        if let Some((number, is_first)) = self.sharing.number(tree, id) {
            if !is_first {
                let _ = write!(self.out, "{{\"@again\":{number}}}");
                return;
            }
            let _ = write!(self.out, "{{\"@label\":{number},\"value\":");
            self.work.push(Work::Text("}"));
        }
        if let Some(moment) = moment {
            return self.moment(&moment);
        }
        let form = Form::of(tree, &self.sharing, id);
        if let Some(Form::Made { class, is_new, arguments, keywords }) = form {
            return self.object(id, class, is_new, arguments, keywords);
        }
        if additions.is_some() {
            self.out.push_str("{\"@value\":");
            self.work.push(Work::Text("}"));
            self.additions(id);
        }
        match form {
            Some(Form::Set(items)) => return self.items("{\"@set\":[", items, "]}"),
            Some(Form::FrozenSet(items)) => return self.items("{\"@frozenset\":[", items, "]}"),
            _ => {}
        }
        match tree.node(id) {
            Node::Tuple(run) => self.items("{\"@tuple\":[", tree.run(*run), "]}"),
            Node::List(items) => self.items("[", items, "]"),
            Node::Set(items) => self.items("{\"@set\":[", items, "]}"),
            Node::FrozenSet(items) => self.items("{\"@frozenset\":[", items, "]}"),
            Node::Dict(pairs) => self.dict(pairs),
            Node::Atom(atom) => self.atom(*atom),
            &Node::Persistent { at, id } => self.persistent(at, id),
            Node::PersistentLine { at, line } => {
                let line = tree.raw(*line);
                if !self.reference(&classify_line(line, *at)) {
                    self.out.push_str("{\"@persistent\":");
                    self.native(line);
                    self.out.push('}');
                }
            }
            Node::StackGlobal(..) | Node::Nested(_) => {
                self.out.push_str("{\"@class\":");
                self.work.push(Work::Text("}"));
                self.class_parts(id);
            }
            &Node::Encoded(text) => match tree.bytes(id).filter(|_| !self.sharing.labels_within(tree, id)) {
                Some(bytes) => self.hex("@bytes", &bytes),
                None => {
                    self.out.push_str("{\"@call\":[\"_codecs\",\"encode\"],\"args\":[");
                    self.next([Work::Value(text), Work::Text(",\"latin1\"]}")]);
                }
            },
            // These have a form.
            Node::Call { .. } | Node::New { .. } | Node::Instance { .. } => {}
        }
    }

    fn items(&mut self, open: &'static str, items: &'t [Id], close: &'static str) {
        self.out.push_str(open);
        self.work.push(Work::Items { rest: items.iter(), is_first: true, close });
    }

    // Dicts.

    fn dict(&mut self, pairs: &'t [(Id, Id)]) {
        if self.are_names(pairs) {
            self.out.push('{');
            self.work.push(Work::Members { rest: pairs.iter(), is_first: true });
        } else {
            self.out.push_str("{\"@dict\":[");
            self.work.push(Work::Pairs { rest: pairs.iter(), is_first: true, close: "]}" });
        }
    }

    /// Can all keys be names of an object's members: different texts, without single surrogates?
    fn are_names(&self, pairs: &[(Id, Id)]) -> bool {
        /// So few are compared with each other.
        const FEW: usize = 8;
        let is_name = |id: Id| !self.sharing.is_labelled(self.tree, id) && self.name(id).is_some();
        if !pairs.iter().all(|&(key, _)| is_name(key)) {
            return false;
        }
        if pairs.len() <= FEW {
            let names: Vec<_> = pairs.iter().filter_map(|&(key, _)| self.name(key)).collect();
            return names.iter().enumerate().all(|(n, name)| !names[..n].contains(name));
        }
        // A long key that is there twice is not read twice.
        let mut ids = HashSet::with_capacity(pairs.len());
        let mut names = HashSet::with_capacity(pairs.len());
        pairs.iter().all(|&(key, _)| ids.insert(key))
            && pairs.iter().filter_map(|&(key, _)| self.name(key)).all(|name| names.insert(name))
    }

    /// A text that can be the name of a member.
    fn name(&self, id: Id) -> Option<Cow<'_, str>> {
        let Node::Atom(Atom::Str(kind, span)) = *self.tree.node(id) else { return None };
        if self.tree.additions(id).is_some() {
            return None;
        }
        plain_text(kind, self.tree.raw(span))
    }

    fn key(&mut self, id: Id) {
        let Node::Atom(Atom::Str(kind, span)) = *self.tree.node(id) else { return };
        let Some(name) = plain_text(kind, self.tree.raw(span)) else { return };
        self.out.push_str(if name.starts_with('@') { "\"@" } else { "\"" });
        escape(&mut self.out, &name);
        self.out.push_str("\":");
    }

    // Objects.

    fn object(&mut self, id: Id, class: Id, is_new: bool, arguments: Arguments<'t>, keywords: Option<Id>) {
        self.out.push_str(if is_new { "{\"@object\":" } else { "{\"@call\":" });
        self.work.push(Work::Text("}"));
        self.additions(id);
        if let Some(keywords) = keywords {
            self.next([Work::Text(",\"keywords\":"), Work::Value(keywords)]);
        }
        match arguments {
            Arguments::Each([]) => {}
            Arguments::Each(items) => {
                self.next([Work::Text(",\"args\":["), Work::Items { rest: items.iter(), is_first: true, close: "]" }]);
            }
            Arguments::Whole(id) => self.next([Work::Text(",\"arguments\":"), Work::Value(id)]),
        }
        self.class(class);
    }

    /// The additions to an object after it was made, as further members.
    fn additions(&mut self, id: Id) {
        let Some(Additions { states, items, pairs }) = self.tree.additions(id) else { return };
        match &states[..] {
            [] => {}
            &[state] => self.next([Work::Text(",\"state\":"), Work::Value(state)]),
            states => {
                let rest = states.iter();
                self.next([Work::Text(",\"states\":["), Work::Items { rest, is_first: true, close: "]" }]);
            }
        }
        if !pairs.is_empty() {
            let rest = pairs.iter();
            self.next([Work::Text(",\"pairs\":["), Work::Pairs { rest, is_first: true, close: "]" }]);
        }
        if !items.is_empty() {
            let rest = items.iter();
            self.next([Work::Text(",\"items\":["), Work::Items { rest, is_first: true, close: "]" }]);
        }
    }

    /// A class or function: a list of its module and its name, or the value that stands in its place.
    fn class(&mut self, id: Id) {
        let tree = self.tree;
        let is_class = matches!(tree.node(id), Node::Atom(Atom::Global(..)) | Node::StackGlobal(..) | Node::Nested(_));
        if is_class && tree.additions(id).is_none() && !self.sharing.is_labelled(tree, id) {
            return self.class_parts(id);
        }
        self.out.push_str("{\"@value\":");
        self.work.push(Work::Text("}"));
        self.value(id);
    }

    /// The list of a class's module and name.
    fn class_parts(&mut self, id: Id) {
        if let &Node::StackGlobal(module, name) = self.tree.node(id) {
            self.out.push('[');
            self.next([Work::Value(module), Work::Text(","), Work::Value(name), Work::Text("]")]);
        } else if let Some(class) = self.tree.class(id) {
            self.class_name(class);
        }
    }

    fn class_name(&mut self, class: ClassRef<'_>) {
        self.out.push('[');
        self.text(Kind::Text, class.module);
        self.out.push(',');
        self.text(Kind::Text, class.name);
        self.out.push(']');
    }

    fn moment(&mut self, moment: &Moment) {
        let Moment { iso, class, zone, fold } = moment;
        let _ = write!(self.out, "{{\"@{class}\":\"{iso}\"");
        if *fold {
            self.out.push_str(",\"fold\":1");
        }
        match zone {
            None => self.out.push('}'),
            Some(zone) => {
                self.out.push_str(",\"zone\":");
                self.next([Work::Value(*zone), Work::Text("}")]);
            }
        }
    }

    // References.

    fn persistent(&mut self, at: usize, id: Id) {
        let tree = self.tree;
        let class = match tree.node(id) {
            Node::Tuple(run) => tree.run(*run).get(1),
            Node::List(items) => match items.get(1).map(|&id| tree.tuple_items(id)) {
                Some(Some([_, _, class])) => Some(class),
                _ => None,
            },
            _ => None,
        };
        let reference = classify(&tree, id, at);
        // An invalid class reference would be lost.
        let is_whole = match &reference {
            Reference::Strong { class: None, .. } | Reference::Foreign { class: None, .. } => {
                class.is_none_or(|&class| matches!(tree.node(class), Node::Atom(Atom::None)))
            }
            _ => true,
        };
        // A list can be changed, so it matters where else it is.
        let is_alone = !matches!(tree.node(id), Node::List(_)) || !self.sharing.is_shared(id);
        let is_short = is_whole && is_alone && !tree.has_additions_within(id) && !self.sharing.labels_within(tree, id);
        if !is_short || !self.reference(&reference) {
            self.out.push_str("{\"@persistent\":");
            self.next([Work::Value(id), Work::Text("}")]);
        }
    }

    /// Writes what a reference says. Not if it says nothing that can be understood.
    fn reference(&mut self, reference: &Reference<'_>) -> bool {
        let (marker, oid, database, class) = match reference {
            Reference::Strong { oid, class } => ("{\"@ref\":\"", oid, None, *class),
            Reference::Weak { oid, database } => ("{\"@weak\":\"", oid, database.as_deref(), None),
            Reference::Foreign { database, oid, class } => ("{\"@ref\":\"", oid, Some(&**database), *class),
            Reference::Bad { .. } => return false,
        };
        self.out.push_str(marker);
        push_hex(&mut self.out, &oid.to_be_bytes());
        self.out.push('"');
        if let Some(database) = database {
            self.out.push_str(",\"database\":\"");
            escape(&mut self.out, database);
            self.out.push('"');
        }
        if let Some(class) = class {
            self.out.push_str(",\"class\":");
            self.class_name(class);
        }
        self.out.push('}');
        true
    }

    // A value without parts.

    fn atom(&mut self, atom: Atom) {
        let tree = self.tree;
        match atom {
            Atom::None => self.out.push_str("null"),
            Atom::Bool(true) => self.out.push_str("true"),
            Atom::Bool(false) => self.out.push_str("false"),
            Atom::Int(number) if number.unsigned_abs() <= NUMBER_MAX => _ = write!(self.out, "{number}"),
            Atom::Int(number) => _ = write!(self.out, "{{\"@int\":\"{number}\"}}"),
            Atom::Digits(span) => {
                let digits = tree.raw(span).iter().filter(|&&byte| byte != b'+').map(|&byte| char::from(byte));
                self.out.push_str("{\"@int\":\"");
                self.out.extend(digits);
                self.out.push_str("\"}");
            }
            Atom::Long(span) => self.long(tree.raw(span)),
            Atom::Float(number) => self.float(number),
            Atom::Str(kind, span) if kind.is_text() => self.text(kind, tree.raw(span)),
            Atom::Str(Kind::Bytes, span) => self.hex("@bytes", tree.raw(span)),
            Atom::Str(kind, span) => match strings::bytes(kind, tree.raw(span)) {
                Some(bytes) => self.native(&bytes),
                None => self.hex("@unreadable", tree.raw(span)),
            },
            Atom::ByteArray(span) => self.hex("@bytearray", tree.raw(span)),
            Atom::Buffer => self.out.push_str("{\"@buffer\":null}"),
            Atom::Extension(code) => _ = write!(self.out, "{{\"@extension\":{code}}}"),
            Atom::Global(module, name) => {
                self.out.push_str("{\"@class\":");
                self.class_name(ClassRef { module: tree.raw(module), name: tree.raw(name) });
                self.out.push('}');
            }
        }
    }

    /// A number of more than 64 bits, as it was written: in hexadecimal if it is long, as decimal takes quadratic time.
    fn long(&mut self, bytes: &[u8]) {
        match wide(bytes) {
            Some(number) if number.unsigned_abs() <= u128::from(NUMBER_MAX) => _ = write!(self.out, "{number}"),
            Some(number) => _ = write!(self.out, "{{\"@int\":\"{number}\"}}"),
            None => {
                self.out.push_str("{\"@int\":\"");
                push_hex_number(&mut self.out, bytes, usize::MAX);
                self.out.push_str("\"}");
            }
        }
    }

    /// Python and JSON both write the shortest digits that give the number again; there is always a point or an
    /// exponent.
    fn float(&mut self, number: f64) {
        if number.is_finite() {
            let _ = write!(self.out, "{number:?}");
        } else if number.is_infinite() {
            self.out.push_str(if number > 0.0 { "{\"@float\":\"inf\"}" } else { "{\"@float\":\"-inf\"}" });
        } else if number.to_bits() == f64::NAN.to_bits() {
            self.out.push_str("{\"@float\":\"nan\"}");
        } else {
            let _ = write!(self.out, "{{\"@float\":\"nan\",\"bits\":\"{:016x}\"}}", number.to_bits());
        }
    }

    fn text(&mut self, kind: Kind, raw: &[u8]) {
        if let Some(text) = plain_text(kind, raw) {
            self.string(&text);
        } else if let Some(text) = strings::wide_text(kind, raw, false) {
            self.out.push_str("{\"@text\":[");
            let mut is_first = true;
            for piece in surrogates(&text) {
                separate(&mut self.out, &mut is_first);
                match piece {
                    Wide::Text(text) => self.string(text),
                    Wide::Surrogate(code) => _ = write!(self.out, "{code}"),
                }
            }
            self.out.push_str("]}");
        } else {
            self.hex("@unreadable", raw);
        }
    }

    /// The `str` of Python 2: Python 3 reads it as text if it is ASCII.
    fn native(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.is_ascii() => self.string(text),
            _ => self.hex("@native", bytes),
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        escape(&mut self.out, text);
        self.out.push('"');
    }

    fn hex(&mut self, marker: &str, bytes: &[u8]) {
        self.out.push_str("{\"");
        self.out.push_str(marker);
        self.out.push_str("\":\"");
        push_hex(&mut self.out, bytes);
        self.out.push_str("\"}");
    }
}

/// A text of which JSON can hold every character; also the `str` of Python 2 if it is ASCII.
fn plain_text(kind: Kind, raw: &[u8]) -> Option<Cow<'_, str>> {
    match kind {
        Kind::Bytes => None,
        Kind::Text => std::str::from_utf8(raw).ok().map(Cow::Borrowed),
        Kind::TextLine => match strings::wide_text(kind, raw, false)? {
            Cow::Borrowed(text) => std::str::from_utf8(text).ok().map(Cow::Borrowed),
            Cow::Owned(text) => String::from_utf8(text).ok().map(Cow::Owned),
        },
        Kind::Native | Kind::NativeLine => strings::text(kind, raw).filter(|text| text.is_ascii()),
    }
}

fn separate(out: &mut String, is_first: &mut bool) {
    if !std::mem::take(is_first) {
        out.push(',');
    }
}

/// Adds text as it stands between the quotes of JSON.
fn escape(out: &mut String, text: &str) {
    let bytes = text.as_bytes();
    let (mut copied, mut at) = (0, 0);
    loop {
        at += plain_length(&bytes[at..], |byte| byte < 0x20 || byte == b'"' || byte == b'\\');
        let Some(&byte) = bytes.get(at) else { break };
        out.push_str(&text[copied..at]);
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte => _ = write!(out, "\\u{byte:04x}"),
        }
        at += 1;
        copied = at;
    }
    out.push_str(&text[copied..]);
}
