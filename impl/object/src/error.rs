//! Why an object could not be read, changed or stored.

use std::fmt;

use vellum_pickle::{ClassName, PickleError};
use vellum_storage::{Oid, Tid};

/// The result of an operation on objects.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on objects failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The storage failed, or refused the transaction.
    #[error(transparent)]
    Storage(#[from] vellum_storage::Error),

    /// A reference to an object that does not exist at the moment of the connection.
    #[error("object {oid}{} does not exist at {moment}: something refers to an object that was deleted or never stored", of(.class))]
    Missing {
        /// The object.
        oid: Oid,
        /// The class that the reference names.
        class: Option<Box<ClassName>>,
        /// The moment of the connection.
        moment: Tid,
    },

    /// A record that cannot be read. It is in the storage as it was.
    #[error("the record of object {}{} cannot be read: {trouble}", Maybe(.oid), of(.class))]
    Unreadable {
        /// The object; none if it is not stored.
        oid: Option<Oid>,
        /// Its class, as far as it is known.
        class: Option<Box<ClassName>>,
        /// The fault.
        trouble: Trouble,
    },

    /// An object that cannot be written as a record. Nothing was stored.
    #[error("object {}{} cannot be stored: {trouble}", Maybe(.oid), of(.class))]
    Unwritable {
        /// The object; none if it is not stored.
        oid: Option<Oid>,
        /// Its class.
        class: Option<Box<ClassName>>,
        /// The fault.
        trouble: Trouble,
    },

    /// A part of a B-tree that cannot be read, or does not fit the rest of it. It is in the storage as it was.
    #[error("in the B-tree {}, at {}: {error}", Maybe(.tree), Children(.path))]
    InTree {
        /// The tree's root.
        tree: Option<Oid>,
        /// The way from there: the number of a child in each node, from 0.
        path: Vec<usize>,
        /// The fault, with the part's oid and class.
        error: Box<Error>,
    },

    /// A key that cannot be in a B-tree, or cannot be compared with those that are. Nothing was changed.
    #[error("the key is not for object {} of the class {class}: {trouble}", Maybe(.tree))]
    Key {
        /// The tree's root, or the bucket; none if it is not stored.
        tree: Option<Oid>,
        /// Its class.
        class: Box<ClassName>,
        /// The fault.
        trouble: Trouble,
    },

    /// An object of another class than that of the handle.
    #[error("object {} is of the class {found}, and the program asks for {expected}", Maybe(.oid))]
    WrongClass {
        /// The object.
        oid: Option<Oid>,
        /// The class that the program asks for.
        expected: Box<ClassName>,
        /// The class of the object.
        found: Box<ClassName>,
    },

    /// The program looks at an object, or changes it, and wants to change it or see it in another form.
    #[error("object {} is in use: drop the views of it first, and do not change it within a change of it", Maybe(.oid))]
    InUse {
        /// The object.
        oid: Option<Oid>,
    },

    /// A handle of a connection that is closed.
    #[error("the connection of this object is closed: open one, and get the object from it")]
    Closed,

    /// A handle of an object that the collector took away.
    #[error("this object was collected: a handle to it was made while it was dropped")]
    Collected,

    /// A handle of another connection. Nothing was stored.
    #[error("an object refers to an object of another connection: get the object from this connection")]
    OtherConnection,

    /// A change in a connection to the past.
    #[error("this connection shows the database as it was at {moment}, and cannot change it")]
    Past {
        /// The moment.
        moment: Tid,
    },

    /// A moment after the last transaction, for a connection to the past.
    #[error("no connection can be opened at {at}, because the last transaction is {last}")]
    Future {
        /// The moment.
        at: Tid,
        /// The last transaction.
        last: Tid,
    },

    /// The end of a transaction, a savepoint or a collection within a finalizer (rule 7.12).
    #[error("a finalizer cannot do this: it may read and change objects, and end no transaction")]
    InFinalizer,

    /// A savepoint that was made void by going back to an earlier one, or by the end of its transaction.
    #[error("this savepoint is no longer valid: the connection went back to an earlier one, or the transaction ended")]
    Savepoint,
}

impl Error {
    /// Whether the work can be done again, and may then succeed.
    pub fn is_conflict(&self) -> bool {
        use vellum_storage::{Error as Storage, Refusal};
        matches!(self, Error::Storage(Storage::Refused(Refusal::Conflict { .. } | Refusal::ReadConflict { .. })))
    }

    /// The moment at which an object was not there, if that is the error.
    pub(crate) fn missing_at(&self) -> Option<Tid> {
        match self {
            Error::Missing { moment, .. } => Some(*moment),
            Error::InTree { error, .. } => error.missing_at(),
            _ => None,
        }
    }
}

/// The fault of a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// A pickle that cannot be read.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// Values too deep in each other.
    #[error("its values are more than {} deep in each other", crate::DEPTH_MAX)]
    TooDeep,
    /// A value that is too large, or shared so often that copies of it would be.
    #[error("its values are too large, or repeat each other too often")]
    TooLarge,
    /// A persistent id of an unknown shape.
    #[error("it has a reference of an unknown shape: {0}")]
    Reference(&'static str),
    /// A value that Python could not make.
    #[error("it has a value of an unknown kind")]
    Unknown,
    /// A class whose name cannot be written.
    #[error("it has a class with a name that is not text, or has a new line in it")]
    ClassName,
    /// A state of another shape than that of the class.
    #[error("its state is of the kind {found}, and not {expected}")]
    Shape {
        /// The shape that the struct expects.
        expected: &'static str,
        /// The kind of the state.
        found: &'static str,
    },
    /// An attribute of another type than that of the field.
    #[error("its attribute `{field}` is of the kind {found}, and not {expected}")]
    Field {
        /// The attribute's name.
        field: &'static str,
        /// The type of the field.
        expected: &'static str,
        /// The kind of the value; `nothing` if there is no such attribute.
        found: &'static str,
    },
    /// A key or a value of a B-tree that is not of its family.
    #[error("a key or a value in it is of the kind {found}, and not {expected}")]
    Content {
        /// The type of the family.
        expected: &'static str,
        /// The kind of the value.
        found: &'static str,
    },
    /// Keys without an order.
    #[error(
        "Python has no order for a key of the kind {one} and one of the kind {other}, or runs code of a class for it"
    )]
    Unordered {
        /// The kind of the one key.
        one: &'static str,
        /// The kind of the other.
        other: &'static str,
    },
    /// A node of a B-tree that breaks a rule of them.
    #[error("{0}")]
    Node(&'static str),
    /// A reference to an object of another connection.
    #[error("it refers to an object of another connection")]
    OtherConnection,
    /// A reference to an object that the collector took away.
    #[error("it refers to an object that was collected")]
    Collected,
    /// The record of a blob.
    #[error("it is a blob: store it with its bytes through the storage, since a new revision without them has none")]
    Blob,
    /// No oid for an object that it refers to.
    #[error("an object that it refers to gets no oid: {0}")]
    NoOid(String),
}

fn of(class: &Option<Box<ClassName>>) -> String {
    class.as_ref().map(|class| format!(" of the class {class}")).unwrap_or_default()
}

/// The way to a node of a tree. The middle of a long one is left out.
struct Children<'a>(&'a [usize]);

impl fmt::Display for Children<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        for (level, child) in self.0.iter().enumerate() {
            if level == SHOWN && self.0.len() > 2 * SHOWN {
                write!(f, ", {} more", self.0.len() - 2 * SHOWN)?;
            } else if level < SHOWN || level + SHOWN >= self.0.len() || self.0.len() <= 2 * SHOWN {
                write!(f, "{}child {child}", if level == 0 { "" } else { ", " })?;
            }
        }
        Ok(())
    }
}

/// An oid, or a word for none.
struct Maybe<'a>(&'a Option<Oid>);

impl fmt::Display for Maybe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(oid) => oid.fmt(f),
            None => f.write_str("without an oid"),
        }
    }
}
