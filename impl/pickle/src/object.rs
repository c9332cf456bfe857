//! Objects inside a record, in the forms in which people know them.
//!
//! A pickle makes an object by calling something. Often what it calls is machinery: `copyreg._reconstructor(C, object,
//! None)` is how protocols 0 and 1 say `C()`, and `builtins.set([1, 2])` is how those before 4 say `{1, 2}`.

use crate::dates;
use crate::machine::Atom;
use crate::sharing::Sharing;
use crate::tree::{Id, Node, Tree};

/// What an object should be shown as.
#[derive(Debug)]
pub(crate) enum Form<'t> {
    /// A call of a class or function with a tuple of arguments, and perhaps a dict of keyword arguments.
    Call { class: Id, arguments: Id, keywords: Option<Id> },
    /// A call of a class with arguments that are not a tuple of their own.
    Plain { class: Id, arguments: &'t [Id] },
    /// A set.
    Set(&'t [Id]),
    /// A frozen set.
    FrozenSet(&'t [Id]),
}

impl<'t> Form<'t> {
    /// The form of a value, if it is an object.
    pub(crate) fn of(tree: &'t Tree<'_>, sharing: &Sharing, id: Id) -> Option<Self> {
        match *tree.node(id) {
            Node::Call { callable, arguments } => {
                let known = Form::of_call(tree, sharing, callable, arguments);
                Some(known.unwrap_or(Form::Call { class: callable, arguments, keywords: None }))
            }
            Node::New { class, arguments, keywords } => Some(Form::Call { class, arguments, keywords }),
            Node::Instance { class, ref arguments } => Some(Form::Plain { class, arguments }),
            _ => None,
        }
    }

    /// The form of a call of machinery. What is shared is not shown in these forms, which would show it again and again.
    fn of_call(tree: &'t Tree<'_>, sharing: &Sharing, callable: Id, arguments: Id) -> Option<Self> {
        let class = tree.class(callable)?;
        let given = tree.tuple_items(arguments).filter(|_| !sharing.is_shared(arguments))?;
        let list = |id| match tree.node(id) {
            Node::List(items) if !sharing.is_shared(id) => Some(items),
            _ => None,
        };
        match (class.module, class.name, given) {
            (b"copy_reg" | b"copyreg", b"_reconstructor", &[class, _base, state]) => {
                let empty = matches!(tree.node(state), Node::Atom(Atom::None));
                Some(Form::Plain { class, arguments: if empty { &[] } else { &given[2..] } })
            }
            (b"copy_reg" | b"copyreg", b"__newobj__", &[class, ref arguments @ ..]) => {
                Some(Form::Plain { class, arguments })
            }
            (b"__builtin__" | b"builtins", b"set", &[items]) => list(items).map(|items| Form::Set(items)),
            (b"__builtin__" | b"builtins", b"frozenset", &[items]) => list(items).map(|items| Form::FrozenSet(items)),
            _ => None,
        }
    }
}

/// A date or a time, which is an object to a pickle and a plain value to everybody else.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) iso: String,
    pub(crate) class: &'static str,
    /// The argument that says in which time zone.
    pub(crate) zone: Option<Id>,
}

impl Moment {
    /// The date or time that a value is.
    pub(crate) fn of(tree: &Tree<'_>, id: Id) -> Option<Self> {
        let Node::Call { callable, arguments } = *tree.node(id) else {
            return None;
        };
        let class = tree.class(callable)?;
        let (packed, zone) = match *tree.tuple_items(arguments)? {
            [packed] => (packed, None),
            [packed, zone] => (packed, Some(zone)),
            _ => return None,
        };
        let iso = dates::iso(class, &tree.short_bytes(packed)?)?;
        let class = if class.name == b"time" { "datetime.time" } else { "datetime.datetime" };
        Some(Moment { iso, class, zone })
    }
}
