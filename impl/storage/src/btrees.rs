//! Merging concurrent changes of the collections of the BTrees package.
//!
//! A B-tree keeps its items in *buckets*, each an object of its own, and an item goes into one bucket only. So two
//! transactions that touch different items often meet in one bucket, and there is no quarrel: both changes can be had.
//! ZODB finds that out by asking the class of the object, which is code. The classes of the BTrees package and their
//! rules are known, so it can be found out here, without running anybody's code.
//!
//! ```text
//!   ancestor     a 1   b 2         d 4
//!   committed    a 1   b 2   c 3   d 4      put c in
//!   new          a 1   b 9         d 4      changed b
//!                ─────────────────────
//!   merged       a 1   b 9   c 3   d 4
//! ```
//!
//! The results and the refusals are those of BTrees 6.5 under ZODB 6.4. `cargo xtask peers` holds them together. Where
//! they part, this side refuses: see [`BTrees`].
//!
//! | read | for |
//! |---|---|
//! | `family` | which classes there are, and what they take as keys and values |
//! | `state` | a bucket's state, into items and back |
//! | `order`, `number` | comparing as Python compares, and where it would need code |
//! | `merge` | the merge of three lists of items |
//! | `length` | `BTrees.Length`, which is a number |
//! | `check` | whether trees keep their rules, which merging takes for granted |

use bytes::Bytes;
use vellum_pickle::{ClassName, Part, Piece, Record, View, encode_record};

use crate::{Contested, Resolver};

mod check;
mod family;
mod length;
mod merge;
mod number;
mod order;
mod state;

pub use check::{BTreeFinding, BTreeRule, BTreesChecked, check_btrees};
use family::Class;
use order::Comparer;
pub use order::order_of_scalars;

/// The name that Python gives the class of the BTrees package that it finds under this name in this module. None if
/// there is no such class.
pub fn btree_class(module: &str, name: &str) -> Option<ClassName> {
    Class::named(module.as_bytes(), name.as_bytes()).map(|class| class.true_name())
}

/// Merges changes to objects of the BTrees package: to `Length`, and to the buckets, sets, and small trees of every
/// family.
///
/// Merged and refused changes:
///
/// - **A bucket or set**: what one transaction put in, took out or gave another value is also in the merged record, if
///   the other one left these keys alone. It is a conflict if both did something to the same key, unless one of them
///   only gave it the value that it had; if one took out the first key; if one left nothing; if one split the bucket.
/// - **A tree** that is so small that its one bucket is part of it: as that bucket. A larger one is a conflict; its
///   buckets are objects of their own.
/// - **A length**: both additions are added.
///
/// Keys and values are compared as Python compares them: numbers of any kind with each other, text, bytes, tuples and
/// lists item by item, and references, which are equal or cannot be compared. If anything else would have to be
/// compared, or carried over (an object of some class, a set), it is a conflict.
///
/// Where ZODB merges and this does not: values that are objects, comparable or not, such as dates;
/// sets; tuples nested more than 64 deep; references that are damaged; lengths that are fractions beside numbers beyond
/// 128 bits; some states of the implementation in Python under its own name (`OOBucketPy`).
///
/// Where this merges and ZODB 6 does not: records of Python 2 whose `str` is not ASCII, which ZODB 6 cannot read; and
/// weak references, or ones to a next bucket, whose class it cannot import, for it does not see then that two are the
/// same.
#[derive(Clone, Debug, Default)]
pub struct BTrees {
    /// Treat every object as one of this class.
    class: Option<Class>,
}

impl BTrees {
    /// A resolver for the classes of the BTrees package, each by its own name.
    pub fn new() -> BTrees {
        BTrees::default()
    }

    /// A resolver that takes every object for one of this class of the BTrees package: for classes that are derived
    /// from it, and keep their state as it does. None if there is no such class.
    ///
    /// ```
    /// use vellum_storage::{BTrees, Resolvers};
    ///
    /// let orders = BTrees::like("BTrees.LOBTree", "LOBTree").expect("a class of the BTrees package");
    /// let resolvers = Resolvers::built_in().with("shop.orders", "Orders", orders);
    /// ```
    pub fn like(module: &str, name: &str) -> Option<BTrees> {
        Class::named(module.as_bytes(), name.as_bytes()).map(|class| BTrees { class: Some(class) })
    }
}

impl Resolver for BTrees {
    /// Merges compressed records, too; the merged one is compressed if the new one is.
    fn resolve(&self, contested: Contested<'_>) -> Option<Bytes> {
        contested.as_new(|plain| self.merge(plain))
    }
}

impl BTrees {
    fn merge(&self, contested: Contested<'_>) -> Option<Bytes> {
        let read = |record| Record::read(record).ok();
        let new = read(contested.new)?;
        let (class, meta) = self.class(new.class())?;
        let (ancestor, committed) = (read(contested.ancestor)?, read(contested.committed)?);
        let states = [ancestor.state(), committed.state(), new.state()];
        let size = contested.ancestor.len() + contested.committed.len() + contested.new.len();
        let merged = match class {
            Class::Length => length::resolve(states)?,
            Class::Items(items) => state::resolve(items, states, &mut Comparer::new(size))?,
        };
        encode_record(&meta, &merged, new.protocol()).ok().map(Bytes::from)
    }

    /// The class of the object, and its class pickle in the merged record.
    ///
    /// The class pickle is a class, or a tuple of it, the arguments that make an object of it, and whatever else. The
    /// class may be a pair of names there. ZODB writes it as it was read, with one exception: a class has one true
    /// name, even if it was found under another.
    fn class<'r>(&self, meta: Part<'r>) -> Option<(Class, Piece<'r>)> {
        if let View::Class(_) = meta.view() {
            return self.named(meta);
        }
        let View::Tuple(items) = meta.view() else { return None };
        let first = items.get(0)?;
        match items.get(1)?.view() {
            View::None | View::Tuple(_) => {}
            _ => return None,
        }
        let (class, name) = match first.view() {
            View::Class(_) => self.named(first)?,
            View::Tuple(names) if names.len() == 2 => {
                let name = |index| match names.get(index).map(Part::view) {
                    Some(View::Text(name) | View::Native(name)) => Some(name),
                    _ => None,
                };
                let known = Class::named(&name(0)?, &name(1)?);
                (self.class.clone().or(known)?, Piece::Part(first))
            }
            _ => return None,
        };
        let rest = items.iter().skip(1).map(Piece::Part);
        Some((class, Piece::Tuple(std::iter::once(name).chain(rest).collect())))
    }

    fn named<'r>(&self, part: Part<'r>) -> Option<(Class, Piece<'r>)> {
        let View::Class(name) = part.view() else { return None };
        match (Class::named(name.module, name.name), &self.class) {
            (Some(known), None) => Some((known.clone(), Piece::Class(known.true_name()))),
            (_, Some(class)) => Some((class.clone(), Piece::Class(name.to_name()))),
            (None, None) => None,
        }
    }
}
