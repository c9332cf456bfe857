//! The families of the BTrees package: types of keys and values, and sizes of nodes.

use std::marker::PhantomData;

use vellum_pickle::ClassName;
use vellum_storage::btree_class;

use super::content::{Content, Key};
use crate::value::Value;

/// The module and the name of a class.
pub type Class = (&'static str, &'static str);

/// A family: the types of its keys and values, its four classes, and the sizes at which its nodes are split.
///
/// The package's own families are types of this module: [`OO`], [`IO`], .... A program in Python that derives a class
/// from `OOBTree`, or sets its `max_leaf_size`, has a family of its own here.
pub trait Family: 'static {
    /// The type of keys.
    type Key: Key;
    /// The type of values.
    type Value: Content;
    /// The class of a mapping's leaf.
    const BUCKET: Class;
    /// The class of a set's leaf.
    const SET: Class;
    /// The class of a mapping.
    const BTREE: Class;
    /// The class of a set.
    const TREE_SET: Class;
    /// A leaf of more keys is split.
    const LEAF_MAX: usize;
    /// A node of more children is split, and a root of twice as many gets a level more.
    const INNER_MAX: usize;

    /// The sizes of leaves and of nodes while the program runs: [`Family::LEAF_MAX`] and [`Family::INNER_MAX`], unless
    /// it finds others somewhere.
    fn sizes() -> (usize, usize) {
        (Self::LEAF_MAX, Self::INNER_MAX)
    }
}

/// A mapping or a set of a family. The trees, nodes and leaves are generic in it.
pub trait Shape: 'static {
    /// The type of keys.
    type Key: Key;
    /// The type of values; `()` for a set.
    type Value: Content;
    /// Whether there are values.
    const IS_MAPPING: bool;
    /// The class of leaves.
    const LEAF: Class;
    /// The class of trees, and of the nodes in them.
    const NODE: Class;
    /// A leaf of more keys is split, and a node of more children.
    fn sizes() -> (usize, usize);
}

/// The shape of a `BTree` and a `Bucket`.
#[derive(Debug)]
pub struct Mapping<F>(PhantomData<fn() -> F>);

/// The shape of a `TreeSet` and a `Set`.
#[derive(Debug)]
pub struct Keys<F>(PhantomData<fn() -> F>);

impl<F: Family> Shape for Mapping<F> {
    type Key = F::Key;
    type Value = F::Value;
    const IS_MAPPING: bool = true;
    const LEAF: Class = F::BUCKET;
    const NODE: Class = F::BTREE;

    fn sizes() -> (usize, usize) {
        F::sizes()
    }
}

impl<F: Family> Shape for Keys<F> {
    type Key = F::Key;
    type Value = ();
    const IS_MAPPING: bool = false;
    const LEAF: Class = F::SET;
    const NODE: Class = F::TREE_SET;

    fn sizes() -> (usize, usize) {
        F::sizes()
    }
}

/// Whether Python finds this class under a name of a record.
pub(super) fn is_class(found: &ClassName, class: Class) -> bool {
    if (found.module.as_str(), found.name.as_str()) == class {
        return true;
    }
    let found = btree_class(&found.module, &found.name);
    found.is_some_and(|found| (found.module.as_str(), found.name.as_str()) == class)
}

pub(super) fn class_name(class: Class) -> ClassName {
    ClassName { module: class.0.to_owned(), name: class.1.to_owned() }
}

macro_rules! families {
    ($($family:ident, $name:literal: $key:ty => $value:ty, $leaf:literal, $inner:literal;)*) => {
        $(
            #[doc = concat!("The family `", $name, "`.")]
            #[allow(non_camel_case_types, reason = "the package calls one family `fs`")]
            #[derive(Debug)]
            pub enum $family {}

            impl Family for $family {
                type Key = $key;
                type Value = $value;
                const BUCKET: Class = (concat!("BTrees.", $name, "BTree"), concat!($name, "Bucket"));
                const SET: Class = (concat!("BTrees.", $name, "BTree"), concat!($name, "Set"));
                const BTREE: Class = (concat!("BTrees.", $name, "BTree"), concat!($name, "BTree"));
                const TREE_SET: Class = (concat!("BTrees.", $name, "BTree"), concat!($name, "TreeSet"));
                const LEAF_MAX: usize = $leaf;
                const INNER_MAX: usize = $inner;
            }
        )*
    };
}

families! {
    OO, "OO": Value => Value, 30, 250;
    OI, "OI": Value => i32, 60, 250;
    OU, "OU": Value => u32, 60, 250;
    OL, "OL": Value => i64, 60, 250;
    OQ, "OQ": Value => u64, 60, 250;
    IO, "IO": i32 => Value, 60, 500;
    LO, "LO": i64 => Value, 60, 500;
    UO, "UO": u32 => Value, 60, 500;
    QO, "QO": u64 => Value, 60, 500;
    II, "II": i32 => i32, 120, 500;
    IF, "IF": i32 => f32, 120, 500;
    IU, "IU": i32 => u32, 120, 500;
    LL, "LL": i64 => i64, 120, 500;
    LF, "LF": i64 => f32, 120, 500;
    LQ, "LQ": i64 => u64, 120, 500;
    UU, "UU": u32 => u32, 120, 500;
    UI, "UI": u32 => i32, 120, 500;
    UF, "UF": u32 => f32, 120, 500;
    QQ, "QQ": u64 => u64, 120, 500;
    QL, "QL": u64 => i64, 120, 500;
    QF, "QF": u64 => f32, 120, 500;
    fs, "fs": [u8; 2] => [u8; 6], 500, 500;
}
