//! Objects inside a record, in the forms in which people know them.
//!
//! A pickle makes an object by calling something. Often what it calls is machinery: `copyreg._reconstructor(C, object,
//! None)` is how protocols 0 and 1 say `C()`, and `builtins.set([1, 2])` is how those before 4 say `{1, 2}`.

use crate::dates::{self, Unpacked};
use crate::machine::Atom;
use crate::sharing::Sharing;
use crate::tree::{Id, Node, Tree};

/// The form in which an object is shown.
#[derive(Debug)]
pub(crate) enum Form<'t> {
    /// An object that a class or function makes.
    Made {
        class: Id,
        /// Does the class make it by `__new__` alone? Otherwise the class or function is called.
        is_new: bool,
        arguments: Arguments<'t>,
        keywords: Option<Id>,
    },
    /// A set.
    Set(&'t [Id]),
    /// A frozen set.
    FrozenSet(&'t [Id]),
}

/// The arguments of a call.
#[derive(Debug)]
pub(crate) enum Arguments<'t> {
    /// Each of them.
    Each(&'t [Id]),
    /// A tuple that is written only once, or something that is no tuple.
    Whole(Id),
}

impl<'t> Arguments<'t> {
    fn of(tree: &'t Tree<'_>, sharing: &Sharing, id: Id) -> Self {
        match tree.tuple_items(id) {
            Some(items) if !sharing.is_labelled(tree, id) => Arguments::Each(items),
            _ => Arguments::Whole(id),
        }
    }
}

impl<'t> Form<'t> {
    /// The form of a value, if it is an object.
    pub(crate) fn of(tree: &'t Tree<'_>, sharing: &Sharing, id: Id) -> Option<Self> {
        match *tree.node(id) {
            Node::Call { callable, arguments } => {
                Some(Form::of_machinery(tree, sharing, callable, arguments).unwrap_or_else(|| Form::Made {
                    class: callable,
                    is_new: false,
                    arguments: Arguments::of(tree, sharing, arguments),
                    keywords: None,
                }))
            }
            Node::New { class, arguments, keywords } => {
                let arguments = Arguments::of(tree, sharing, arguments);
                Some(Form::Made { class, is_new: true, arguments, keywords })
            }
            // Python calls the class only if there are arguments.
            Node::Instance { class, ref arguments } => {
                let is_new = arguments.is_empty();
                Some(Form::Made { class, is_new, arguments: Arguments::Each(arguments), keywords: None })
            }
            _ => None,
        }
    }

    /// The form of a call of machinery. A value that is written only once does not get these forms, which have no place
    /// for a label.
    fn of_machinery(tree: &'t Tree<'_>, sharing: &Sharing, callable: Id, arguments: Id) -> Option<Self> {
        let class = tree.class(callable)?;
        let given = tree.tuple_items(arguments).filter(|_| !sharing.is_labelled(tree, arguments))?;
        let list = |id| match tree.node(id) {
            Node::List(items) if !sharing.is_labelled(tree, id) && tree.additions(id).is_none() => Some(items),
            _ => None,
        };
        let new = |class, arguments| {
            let arguments = Arguments::Each(arguments);
            Some(Form::Made { class, is_new: true, arguments, keywords: None })
        };
        let is_object = |id| tree.class(id).is_some_and(|base| base.name == b"object" && base.is_builtin());
        match (class.module, class.name, given) {
            (b"copy_reg" | b"copyreg", b"_reconstructor", &[class, base, state])
                if is_object(base) && matches!(tree.node(state), Node::Atom(Atom::None)) =>
            {
                new(class, &[])
            }
            (b"copy_reg" | b"copyreg", b"__newobj__", &[class, ref arguments @ ..]) => new(class, arguments),
            (b"__builtin__" | b"builtins", b"set", &[items]) => list(items).map(|items| Form::Set(items)),
            (b"__builtin__" | b"builtins", b"frozenset", &[items]) => list(items).map(|items| Form::FrozenSet(items)),
            _ => None,
        }
    }
}

/// A date or a time, which is an object to a pickle and a plain value to people.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) iso: String,
    /// The name of its class in the module `datetime`.
    pub(crate) class: &'static str,
    /// The argument that says in which time zone.
    pub(crate) zone: Option<Id>,
    /// Is it the second of two hours with the same name, when clocks are set back?
    pub(crate) fold: bool,
}

impl Moment {
    /// The date or time that a value is.
    pub(crate) fn of(tree: &Tree<'_>, sharing: &Sharing, id: Id) -> Option<Self> {
        let Node::Call { callable, arguments } = *tree.node(id) else {
            return None;
        };
        let class = tree.class(callable)?;
        if class.module != b"datetime" {
            return None;
        }
        let (packed, zone) = match *tree.tuple_items(arguments)? {
            [packed] => (packed, None),
            // Arguments that are written only once have their zone there.
            [packed, zone] if class.name != b"date" && !sharing.is_labelled(tree, arguments) => (packed, Some(zone)),
            _ => return None,
        };
        let Unpacked { iso, fold } = dates::unpack(class, &tree.short_bytes(packed)?)?;
        let class = match class.name {
            b"date" => "date",
            b"time" => "time",
            _ => "datetime",
        };
        Some(Moment { iso, class, zone, fold })
    }
}
