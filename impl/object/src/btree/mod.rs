//! B-trees: the mappings and sets of Python's BTrees package, on disk exactly as it writes them.
//!
//! ```text
//!                 root   first ─────┐
//!              ┌────┴─ 40 ─┐        │
//!           node          node      │        a node: children, and the separators between them
//!         ┌──┴ 20 ┐     ┌──┴ 60 ┐   │
//!         ▼       ▼     ▼       ▼   │
//!       1 7 9 ▶ 20 31 ▶ 40 52 ▶ 63  │        a leaf: sorted keys, with values in a mapping; it names the next one
//!         ▲─────────────────────────┘
//! ```
//!
//! Each node and each leaf is an object of its own, so a program that looks for one key loads a few objects. The leaf
//! of a small tree is a part of the root's record.
//!
//! A tree is a [`Ref`](crate::Ref) to its root, and has its operations:
//!
//! ```
//! use vellum_object::btree::{BTree, OO};
//! use vellum_object::{Database, PersistentMapping, Value};
//! use vellum_storage::MemoryStorage;
//!
//! let database = Database::open(MemoryStorage::new("memory"))?;
//! let connection = database.connect()?;
//! let tree = connection.make(BTree::<OO>::default());
//! connection.root::<PersistentMapping>().change(|root| root.insert("ages", &tree))?;
//! for (name, age) in [("cato", 84), ("ann", 31), ("bob", 40)] {
//!     tree.set(name, age)?;
//! }
//! connection.commit()?;
//! let names = tree.range(Value::from("b")..).map(|item| Ok(item?.0)).collect::<vellum_object::Result<Vec<_>>>()?;
//! assert_eq!(names, [Value::from("bob"), Value::from("cato")]);
//! assert_eq!(tree.remove(&"ann".into())?, Some(31.into()));
//! # Ok::<(), vellum_object::Error>(())
//! ```
//!
//! The same operations give the same nodes, separators and records as BTrees 6.5 gives in C, and change the same
//! objects, with one exception: a leaf that others refer to is never written inside the node above it.
//!
//! # Keys
//!
//! Keys of the families with `O` are values. They are ordered as Python orders them: `None` first, numbers of all kinds
//! with each other, text, bytes, tuples and lists item by item. A key is refused if Python has no order for it, or runs
//! code of a class to find one, and so is a float that is no number. A tree with such keys, written by Python, can be
//! listed, but not searched.
//!
//! | read | for |
//! |---|---|
//! | `family`, `content`, `order` | the 22 families, what they hold, and how keys are ordered |
//! | `leaf`, `node`, `link` | states into nodes, and back |
//! | `way`, `cursor`, `range` | from the root to a leaf, and from leaf to leaf |
//! | `write`, `tree` | changes; the operations |
//! | `check` | whether a tree keeps its rules |
//! | `sets`, `number` | union, intersection, difference, and the weighted forms |
//! | `length` | `BTrees.Length` |

mod check;
mod content;
mod cursor;
mod family;
mod leaf;
mod length;
mod link;
mod node;
mod number;
pub(crate) mod order;
mod range;
mod sets;
mod tree;
mod way;
mod write;

pub use check::Checked;
pub use content::{Content, Key};
pub use family::{
    Class, Family, IF, II, IO, IU, Keys, LF, LL, LO, LQ, Mapping, OI, OL, OO, OQ, OU, QF, QL, QO, QQ, Shape, UF, UI,
    UO, UU, fs,
};
pub use leaf::Leaf;
pub use length::Length;
pub use node::Node;
pub use number::Number;
pub use range::Range;
pub use sets::{
    Items, Sorted, Weighed, Weighted, difference, intersection, multiunion, union, weighted_intersection,
    weighted_union,
};

/// A mapping, as `OOBTree` and its like.
pub type BTree<F> = Node<Mapping<F>>;

/// A set, as `OOTreeSet` and its like.
pub type TreeSet<F> = Node<Keys<F>>;

/// A leaf of a mapping, or a small mapping of its own, as `OOBucket` and its like.
pub type Bucket<F> = Leaf<Mapping<F>>;

/// A leaf of a set, or a small set of its own, as `OOSet` and its like.
pub type Set<F> = Leaf<Keys<F>>;
