//! The meaning of persistent ids: the shapes in which one object refers to another.
//!
//! | id | means |
//! |---|---|
//! | `oid`, `(oid, class)` | an object of this database |
//! | `['m', (database, oid, class)]`, `['n', (database, oid)]` | an object of another database |
//! | `['w', (oid,)]`, `['w', (oid, database)]`, `[oid]` (old) | a weak reference |
//!
//! An oid is eight bytes. Python 2 wrote it as a `str`, Python 3 writes it as bytes; and where all eight bytes are
//! below 128, the one's `str` has been read as text and written again by the other, so eight characters of ASCII text
//! are an oid, too. A persistent id of any other shape may still mean an object to some program, so it hides a
//! reference: [`Scanner::scan_all`](crate::Scanner::scan_all) fails for it.
//!
//! The scanner's tokens and the tree's nodes are different things with the same shapes. They say what they are as a
//! [`Shape`], and [`classify`] knows the table above.

use std::borrow::Cow;
use std::fmt;

use crate::class::ClassName;
use crate::strings::{self, Kind};

/// One object's reference to another, as a record holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference<'a> {
    /// To an object of the same database: it keeps that object alive.
    Strong {
        /// The object's identity.
        oid: u64,
        /// The object's class, if the reference tells it.
        class: Option<ClassRef<'a>>,
    },
    /// A weak reference: it does not keep the object alive.
    Weak {
        /// The object's identity.
        oid: u64,
        /// The database that the object is in, if it is another one.
        database: Option<Cow<'a, str>>,
    },
    /// To an object of another database.
    Foreign {
        /// The other database's name.
        database: Cow<'a, str>,
        /// The object's identity there.
        oid: u64,
        /// The object's class, if the reference tells it.
        class: Option<ClassRef<'a>>,
    },
    /// A persistent id of an unknown shape. Which object it means, if any, cannot be told.
    Bad {
        /// The offset, in the record, of the opcode that uses the id.
        offset: usize,
        /// A description of what stands there instead.
        why: &'static str,
    },
}

/// A class's name, as it stands in a record: not copied, and not checked to be text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClassRef<'a> {
    /// The dotted name of the module.
    pub module: &'a [u8],
    /// The name of the class in its module; for a class in a class, both names with a dot between them.
    pub name: &'a [u8],
}

impl ClassRef<'_> {
    /// The same name, on its own. Bytes that are not UTF-8 become U+FFFD.
    pub fn to_name(self) -> ClassName {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        ClassName { module: text(self.module), name: text(self.name) }
    }

    /// Is this a function that makes bytes from text, when called with this encoding? Python 3 writes bytes so for
    /// Python 2, in protocols 0 to 2.
    pub(crate) fn is_encode(self, encoding: &[u8]) -> bool {
        self.module == b"_codecs" && self.name == b"encode" && matches!(encoding, b"latin1" | b"latin-1")
    }

    /// Is this Python's own function that gives an attribute of an object? By it a class in a class is named before
    /// protocol 4.
    pub(crate) fn is_getattr(self) -> bool {
        self.name == b"getattr" && self.is_builtin()
    }

    /// Is it in the module of what Python has without an import?
    pub(crate) fn is_builtin(self) -> bool {
        matches!(self.module, b"__builtin__" | b"builtins")
    }

    /// Is this Python's own class for bytes?
    pub(crate) fn is_bytes(self) -> bool {
        self.name == b"bytes" && self.is_builtin()
    }

    /// Is this zodbpickle's class for bytes that Python 2 shall see as `str`?
    pub(crate) fn is_binary(self) -> bool {
        self.name == b"binary" && self.module.starts_with(b"zodbpickle")
    }
}

impl fmt::Display for ClassRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", String::from_utf8_lossy(self.module), String::from_utf8_lossy(self.name))
    }
}

impl fmt::Debug for ClassRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClassRef({self})")
    }
}

/// The shape of a part of a persistent id.
#[derive(Debug)]
pub(crate) enum Shape<'a, 's, I> {
    None,
    /// Bytes, or the `str` of Python 2.
    Bytes(Cow<'a, [u8]>),
    Text(Cow<'a, str>),
    Tuple(&'s [I]),
    List(&'s [I]),
    Class(ClassRef<'a>),
    Other,
}

/// No part of a persistent id is longer than this as it is written. The limit is here because one string can be used in
/// many ids, and each of them decodes it.
const STRING_MAX: usize = 1024;

impl<'a, I> Shape<'a, '_, I> {
    /// The shape of a string.
    #[inline]
    pub(crate) fn string(kind: Kind, raw: &'a [u8]) -> Self {
        if raw.len() > STRING_MAX {
            return Shape::Other;
        }
        let found = if kind.is_text() {
            strings::text(kind, raw).map(Shape::Text)
        } else {
            strings::bytes(kind, raw).map(Shape::Bytes)
        };
        found.unwrap_or(Shape::Other)
    }

    /// The shape of bytes that were written as text.
    pub(crate) fn encoded(kind: Kind, raw: &[u8]) -> Self {
        if raw.len() > STRING_MAX {
            return Shape::Other;
        }
        strings::latin1(kind, raw).map_or(Shape::Other, |bytes| Shape::Bytes(Cow::Owned(bytes)))
    }
}

/// Something that has shapes inside. Strings are borrowed from the record, items from the implementation.
pub(crate) trait Shapes<'a> {
    type Item: Copy;

    fn shape(&self, item: Self::Item) -> Shape<'a, '_, Self::Item>;
}

/// Reads the persistent id `id`, which is used at `offset`.
#[inline]
pub(crate) fn classify<'a, S: Shapes<'a>>(shapes: &S, id: S::Item, offset: usize) -> Reference<'a> {
    let read = match shapes.shape(id) {
        Shape::Tuple(&[oid, class]) => {
            object_id(shapes, oid).map(|oid| Reference::Strong { oid, class: class_name(shapes, class) })
        }
        Shape::List(items) => in_list(shapes, items),
        shape => of_shape(shape).map(|oid| Reference::Strong { oid, class: None }),
    };
    read.unwrap_or_else(|why| Reference::Bad { offset, why })
}

/// Reads the persistent id of protocol 0, which is the rest of a line.
pub(crate) fn classify_line<'a>(line: &[u8], offset: usize) -> Reference<'a> {
    match eight(line) {
        Some(oid) => Reference::Strong { oid, class: None },
        None => Reference::Bad { offset, why: "a line that is not 8 characters long" },
    }
}

/// The references that are written as a list: weak ones, and those into other databases.
fn in_list<'a, S: Shapes<'a>>(shapes: &S, items: &[S::Item]) -> Result<Reference<'a>, &'static str> {
    let (tag, arguments) = match *items {
        [oid] => {
            return Ok(Reference::Weak { oid: object_id(shapes, oid)?, database: None });
        }
        [tag, arguments] => (tag, arguments),
        _ => return Err("a list of neither one nor two items"),
    };
    let tag = name(shapes, tag).ok_or("a list that does not start with a letter")?;
    let Shape::Tuple(arguments) = shapes.shape(arguments) else {
        return Err(match tag.as_ref() {
            "w" if object_id(shapes, arguments).is_ok() => {
                "`['w', oid]`, the form in which zodbupdate writes a weak reference: ZODB reads `['w', (oid,)]`"
            }
            _ => "a list without a tuple at its end",
        });
    };
    let database = |item| name(shapes, item).ok_or("a reference whose database is not named by a text");
    match (tag.as_ref(), arguments) {
        ("w", &[oid]) => Ok(Reference::Weak { oid: object_id(shapes, oid)?, database: None }),
        ("w", &[oid, other]) => Ok(Reference::Weak { oid: object_id(shapes, oid)?, database: Some(database(other)?) }),
        ("n", &[other, oid]) => {
            Ok(Reference::Foreign { database: database(other)?, oid: object_id(shapes, oid)?, class: None })
        }
        ("m", &[other, oid, class]) => Ok(Reference::Foreign {
            database: database(other)?,
            oid: object_id(shapes, oid)?,
            class: class_name(shapes, class),
        }),
        ("w" | "n" | "m", _) => Err("a list whose tuple has the wrong number of items"),
        _ => Err("a list that starts with an unknown letter"),
    }
}

#[inline]
fn object_id<'a, S: Shapes<'a>>(shapes: &S, item: S::Item) -> Result<u64, &'static str> {
    of_shape(shapes.shape(item))
}

#[inline]
fn of_shape<I>(shape: Shape<'_, '_, I>) -> Result<u64, &'static str> {
    match shape {
        Shape::Bytes(bytes) => eight(&bytes).ok_or("an oid that is not 8 bytes long"),
        Shape::Text(text) if !text.is_ascii() => Err("an oid in text that is not ASCII"),
        Shape::Text(text) => eight(text.as_bytes()).ok_or("an oid that is not 8 characters long"),
        Shape::None => Err("None in place of an oid"),
        Shape::Class(_) => Err("a class in place of an oid"),
        Shape::Tuple(_) => Err("a tuple that is not an oid and a class"),
        Shape::List(_) => Err("a list in place of an oid"),
        Shape::Other => Err("neither an oid nor a form that holds one"),
    }
}

#[inline]
fn eight(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// A database's name, or the letter at the start of a list.
fn name<'a, S: Shapes<'a>>(shapes: &S, item: S::Item) -> Option<Cow<'a, str>> {
    match shapes.shape(item) {
        Shape::Text(text) => Some(text),
        Shape::Bytes(Cow::Borrowed(bytes)) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Shape::Bytes(Cow::Owned(bytes)) => String::from_utf8(bytes).ok().map(Cow::Owned),
        _ => None,
    }
}

/// The class in a reference: a global, or module and name as two strings. It is a help to the reader and nothing hangs
/// on it, so a class in a stranger form is merely not known.
#[inline]
fn class_name<'a, S: Shapes<'a>>(shapes: &S, item: S::Item) -> Option<ClassRef<'a>> {
    let part = |item| match shapes.shape(item) {
        Shape::Text(Cow::Borrowed(text)) => Some(text.as_bytes()),
        Shape::Bytes(Cow::Borrowed(bytes)) => Some(bytes),
        _ => None,
    };
    match shapes.shape(item) {
        Shape::Class(class) => Some(class),
        Shape::Tuple(&[module, name]) => Some(ClassRef { module: part(module)?, name: part(name)? }),
        _ => None,
    }
}
