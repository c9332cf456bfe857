//! Text of Python 2 that Python 3 cannot load.
//!
//! The `str` of Python 2 is bytes, and has opcodes of its own: STRING, BINSTRING and SHORT_BINSTRING. ZODB's unpickler
//! in Python 3 decodes it as ASCII when it meets the opcode, wherever that is, and whatever the string is for: an
//! attribute, the packed bytes of a date, an oid in a reference, or a string that is taken off the stack at once. If a
//! byte is not ASCII, it raises `UnicodeDecodeError`, and the object cannot be loaded at all. So one such string is
//! enough, and the rest of the record does not matter.
//!
//! Of each string it is told where in the record it is found, in Python's notation where there is one:
//!
//! | step | of |
//! |---|---|
//! | `['key']`, `[3]` | an item of a dict, by its key; of a tuple or list, by its place |
//! | ` key` | the key itself |
//! | `.items[3]` | an item that was added to a set or an object |
//! | `.arguments[0]` | the arguments of a call of a class or function |
//! | `.state` | the state of an object inside |
//! | ` of a reference` | a reference: an oid, the name of a database |

use std::borrow::Cow;

use crate::error::PickleError;
use crate::machine::Atom;
use crate::quote;
use crate::strings::{self, Kind};
use crate::tree::{Additions, Id, Node, Tree};

/// A string of Python 2 that is not ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeText {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where in the record it is: `state['title']`. None if nothing that is kept has it.
    pub path: Option<String>,
}

/// The steps of a path that are shown: the last ones.
const STEPS_MAX: usize = 12;

/// The bytes of a key that are shown in a path.
const KEY_MAX: usize = 40;

/// The strings of Python 2 in the record that are not ASCII, in the order in which they are written: how many there
/// are, and the first `at_most` of them, each with at most `bytes_max` bytes.
///
/// ZODB loads the record in Python 3 only if there is none.
///
/// ```
/// let record = b"cshop\nItem\nq\x00.}q\x01U\x05titleU\x04caf\xe9s.";
/// let (count, texts) = vellum_pickle::python_2_text(record, 10, 100)?;
/// assert_eq!((count, texts[0].bytes.as_slice()), (1, b"caf\xe9".as_slice()));
/// assert_eq!(texts[0].path.as_deref(), Some("state['title']"));
/// # Ok::<(), vellum_pickle::PickleError>(())
/// ```
///
/// # Errors
///
/// When one of the record's two pickles cannot be read.
pub fn python_2_text(record: &[u8], at_most: usize, bytes_max: usize) -> Result<(u64, Vec<NativeText>), PickleError> {
    let plain = crate::plain(record)?;
    let (tree, class, state, _) = Tree::of_record(&plain)?;
    let found: Vec<Id> = tree.ids().filter(|&id| native(&tree, id).is_some_and(|bytes| !bytes.is_ascii())).collect();
    if found.is_empty() {
        return Ok((0, Vec::new()));
    }
    let places = if at_most > 0 { Places::of(&tree, class, state) } else { Places::default() };
    let text = |&id: &Id| {
        let mut bytes = native(&tree, id).unwrap_or_default().into_owned();
        bytes.truncate(bytes_max);
        NativeText { bytes, path: places.path(&tree, id) }
    };
    Ok((found.len() as u64, found.iter().take(at_most).map(text).collect()))
}

fn native<'a>(tree: &Tree<'a>, id: Id) -> Option<Cow<'a, [u8]>> {
    match *tree.node(id) {
        Node::Atom(Atom::Str(kind @ (Kind::Native | Kind::NativeLine), span)) => strings::bytes(kind, tree.raw(span)),
        _ => None,
    }
}

/// How a value is part of another.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// By its place in a tuple or list.
    Place(usize),
    /// As the value of this key.
    Value(Id),
    Key,
    Added(usize),
    Argument(usize),
    State,
    Name,
    InReference,
    /// As what the text of bytes is, or the like: nothing to tell.
    Itself,
}

/// Where each value was met first.
#[derive(Debug, Default)]
struct Places {
    parents: Vec<Option<(Option<Id>, Step)>>,
    class: Option<Id>,
}

impl Places {
    fn of(tree: &Tree<'_>, class: Id, state: Id) -> Places {
        let mut places = Places { parents: vec![None; tree.len()], class: Some(class) };
        for root in [class, state] {
            places.parents[root.index()].get_or_insert((None, Step::Itself));
            let mut waiting = vec![root];
            while let Some(parent) = waiting.pop() {
                each_part(tree, parent, |part, step| {
                    let place = &mut places.parents[part.index()];
                    if place.is_none() {
                        *place = Some((Some(parent), step));
                        waiting.push(part);
                    }
                });
            }
        }
        places
    }

    fn path(&self, tree: &Tree<'_>, id: Id) -> Option<String> {
        let (mut steps, mut here) = (Vec::new(), id);
        // Each value was met after its parent, so that this ends.
        while let (Some(parent), step) = (*self.parents.get(here.index())?)? {
            steps.push(step);
            here = parent;
        }
        let root = if Some(here) == self.class { "class" } else { "state" };
        let mut path = root.to_owned();
        if steps.len() > STEPS_MAX {
            path.push('…');
            steps.truncate(STEPS_MAX);
        }
        steps.iter().rev().for_each(|step| step.write(tree, &mut path));
        Some(path)
    }
}

impl Step {
    fn write(&self, tree: &Tree<'_>, path: &mut String) {
        match *self {
            Step::Place(place) => *path += &format!("[{place}]"),
            Step::Value(key) => *path += &format!("[{}]", key_text(tree, key)),
            Step::Key => *path += " key",
            Step::Added(place) => *path += &format!(".items[{place}]"),
            Step::Argument(place) => *path += &format!(".arguments[{place}]"),
            Step::State => *path += ".state",
            Step::Name => *path += " name",
            Step::InReference => *path += " of a reference",
            Step::Itself => {}
        }
    }
}

fn key_text(tree: &Tree<'_>, key: Id) -> String {
    let mut out = String::new();
    match *tree.node(key) {
        Node::Atom(Atom::Int(number)) => out = number.to_string(),
        _ => match (tree.text(key), native(tree, key).or_else(|| tree.bytes(key))) {
            (Some(text), _) => quote::push_text(&mut out, &text[..quote::boundary(&text, KEY_MAX)]),
            (None, Some(bytes)) => quote::push_bytes(&mut out, &bytes[..bytes.len().min(KEY_MAX)]),
            (None, None) => out.push('…'),
        },
    }
    out
}

fn each_part(tree: &Tree<'_>, id: Id, mut visit: impl FnMut(Id, Step)) {
    let mut all = |items: &[Id], step: fn(usize) -> Step| {
        items.iter().enumerate().for_each(|(place, &item)| visit(item, step(place)));
    };
    match tree.node(id) {
        Node::Atom(_) | Node::Nested(_) | Node::PersistentLine { .. } => {}
        Node::Tuple(run) => all(tree.run(*run), Step::Place),
        Node::List(items) => all(items, Step::Place),
        Node::Set(items) | Node::FrozenSet(items) => all(items, Step::Added),
        Node::Dict(pairs) => each_pair(pairs, &mut visit),
        &Node::StackGlobal(module, name) => {
            visit(module, Step::Name);
            visit(name, Step::Name);
        }
        &Node::Encoded(text) => visit(text, Step::Itself),
        &Node::Call { callable, arguments } => {
            visit(callable, Step::Itself);
            each_argument(tree, arguments, &mut visit);
        }
        &Node::New { class, arguments, keywords } => {
            visit(class, Step::Itself);
            each_argument(tree, arguments, &mut visit);
            keywords.into_iter().for_each(|keywords| visit(keywords, Step::Argument(0)));
        }
        Node::Instance { class, arguments } => {
            visit(*class, Step::Itself);
            arguments.iter().enumerate().for_each(|(place, &item)| visit(item, Step::Argument(place)));
        }
        &Node::Persistent { id, .. } => visit(id, Step::InReference),
    }
    if let Some(Additions { states, items, pairs }) = tree.additions(id) {
        states.iter().for_each(|&state| visit(state, Step::State));
        items.iter().enumerate().for_each(|(place, &item)| visit(item, Step::Added(place)));
        each_pair(pairs, &mut visit);
    }
}

fn each_pair(pairs: &[(Id, Id)], visit: &mut impl FnMut(Id, Step)) {
    for &(key, value) in pairs {
        visit(key, Step::Key);
        visit(value, Step::Value(key));
    }
}

/// Each item of a tuple of arguments, or what stands there instead.
fn each_argument(tree: &Tree<'_>, arguments: Id, visit: &mut impl FnMut(Id, Step)) {
    match tree.tuple_items(arguments) {
        Some(items) => items.iter().enumerate().for_each(|(place, &item)| visit(item, Step::Argument(place))),
        None => visit(arguments, Step::Argument(0)),
    }
}
