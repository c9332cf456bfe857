//! Why there is no looking for garbage, and no deleting it.

use std::collections::BTreeSet;
use std::fmt;

use crate::{Error, Oid};

/// Lost references that are remembered one by one: nobody reads a longer list.
const REMEMBERED_MAX: usize = 1000;
const SHOWN_MAX: usize = 10;

/// Why garbage could not be found, or not be deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GarbageError {
    /// An error of a storage.
    #[error("database `{database}`: {source}")]
    Storage {
        /// The database's name.
        database: String,
        /// Its error.
        #[source]
        source: Error,
    },

    /// Two databases with one name.
    #[error("two databases have the name `{name}`: each needs the one by which references from the others call it")]
    SameName {
        /// The name.
        name: String,
    },

    /// One database that seems to be two.
    #[error("`{one}` and `{other}` are the same database: give it once, under the name by which references call it")]
    SameDatabase {
        /// Its first name.
        one: String,
        /// Its second one.
        other: String,
    },

    /// There are objects, but none from which to begin.
    #[error(
        "database `{database}` has no root (object {root}), so that everything in it would be garbage: it is damaged, or \
         it is a part of a copy", root = Oid::ROOT
    )]
    NoRoot {
        /// The database's name.
        database: String,
    },

    /// A record that does not say what it refers to.
    #[error(
        "database `{database}`: it is not known what object {oid} refers to, and so the garbage is not known: {why}. {}",
        if *.is_encrypted { "Only its site can tell" } else { "Repair that object first" }
    )]
    Unreadable {
        /// The database's name.
        database: String,
        /// The object.
        oid: Oid,
        /// The fault of its record.
        why: String,
        /// Whether nothing is wrong with it, but only the holder of a key can read it.
        is_encrypted: bool,
    },

    /// References that lead nowhere.
    #[error("there are references that lead nowhere: {0}. Repair them, or say to go on without the missing objects")]
    Nowhere(LostReferences),
}

/// A reference that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct LostReference {
    /// The database of the referring object.
    pub database: String,
    /// The referring object.
    pub oid: Oid,
    /// The database that is referred to.
    pub to_database: String,
    /// The object there.
    pub to: Oid,
    /// The missing part.
    pub why: Missing,
}

/// Why a reference leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// No database of that name was given.
    Database,
    /// There is no such object: it has no revision, or is nothing.
    Object,
}

impl fmt::Display for LostReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostReference { database, oid, to_database, to, why } = self;
        match why {
            Missing::Database => {
                write!(
                    f,
                    "{oid} of `{database}` refers to {to} of `{to_database}`, and no database of that name was given"
                )
            }
            Missing::Object => write!(f, "{oid} of `{database}` refers to {to} of `{to_database}`, which is not there"),
        }
    }
}

/// References that lead nowhere, each once: the first that were found of them, if there are very many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostReferences {
    found: BTreeSet<LostReference>,
    more: bool,
}

impl LostReferences {
    pub(super) fn add(&mut self, reference: LostReference) {
        if self.found.len() < REMEMBERED_MAX {
            self.found.insert(reference);
        } else {
            self.more |= !self.found.contains(&reference);
        }
    }

    /// In the order of the referring objects.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &LostReference> {
        self.found.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether there are more than were remembered.
    pub fn more(&self) -> bool {
        self.more
    }
}

impl fmt::Display for LostReferences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, reference) in self.found.iter().take(SHOWN_MAX).enumerate() {
            write!(f, "{}{reference}", if n == 0 { "" } else { "; " })?;
        }
        match self.found.len().saturating_sub(SHOWN_MAX) {
            _ if self.more => write!(f, "; and many more"),
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
