//! The classes of the BTrees package.
//!
//! A family is named for its keys and its values, a letter each, and has a module, `BTrees.OIBTree`, with four classes
//! in it: `OIBucket`, `OISet`, `OIBTree` and `OITreeSet`. In the module they can also be found without the letters; and
//! with `Py` at the end, for their implementation in Python. The one in C has a module of its own,
//! `BTrees._OIBTree`.

use vellum_pickle::ClassName;

/// The kinds of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// `O`: whatever Python has.
    Any,
    /// `I`, `L`, `U`, `Q`: a whole number not less than the first and not greater than the second.
    Int(i128, i128),
    /// `F`: a floating-point number of 32 bits.
    Float,
    /// `fs`: so many bytes.
    Fixed(usize),
}

/// How many objects a collection is, and whether it has values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bucket,
    Set,
    Tree,
    TreeSet,
}

impl Kind {
    pub(super) fn is_tree(self) -> bool {
        matches!(self, Kind::Tree | Kind::TreeSet)
    }

    fn is_set(self) -> bool {
        matches!(self, Kind::Set | Kind::TreeSet)
    }
}

/// A collection's class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Items {
    pub(super) kind: Kind,
    pub(super) key: Content,
    pub(super) value: Content,
    /// Is it the implementation in Python, which takes keys and values as they come?
    pub(super) in_python: bool,
    module: String,
    name: String,
}

/// A class of the package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Length,
    Items(Items),
}

/// The letters of every family.
const FAMILIES: [&str; 22] = [
    "IO", "II", "IF", "IU", "UO", "UU", "UF", "UI", "LO", "LL", "LF", "LQ", "QO", "QQ", "QF", "QL", "OO", "OI", "OU",
    "OL", "OQ", "fs",
];

const KINDS: [(&str, Kind); 4] =
    [("Bucket", Kind::Bucket), ("Set", Kind::Set), ("BTree", Kind::Tree), ("TreeSet", Kind::TreeSet)];

impl Items {
    /// Is it the same class, in C or in Python?
    pub(super) fn is_like(&self, other: &Items) -> bool {
        self.module == other.module && self.kind == other.kind
    }

    /// Can it be a part of such a tree?
    pub(super) fn is_part_of(&self, tree: &Items) -> bool {
        self.module == tree.module && self.kind.is_set() == tree.kind.is_set()
    }

    /// The name that Python gives the class.
    pub(super) fn true_name(&self) -> String {
        format!("{}.{}", self.module, self.name)
    }

    /// The names of the classes that can be a part of such a tree.
    pub(super) fn parts(&self) -> String {
        let letters = self.module.trim_start_matches("BTrees.").trim_end_matches("BTree");
        match self.kind.is_set() {
            true => format!("{letters}TreeSet or {letters}Set"),
            false => format!("{letters}BTree or {letters}Bucket"),
        }
    }
}

impl Class {
    /// The class that Python finds under this name in this module.
    pub(super) fn named(module: &[u8], name: &[u8]) -> Option<Class> {
        let (module, name) = (std::str::from_utf8(module).ok()?, std::str::from_utf8(name).ok()?);
        let place = module.strip_prefix("BTrees.")?;
        if (place, name) == ("Length", "Length") {
            return Some(Class::Length);
        }
        let in_c = place.starts_with('_');
        let letters = place.strip_prefix('_').unwrap_or(place).strip_suffix("BTree")?;
        let letters = *FAMILIES.iter().find(|family| **family == letters)?;
        let (plain, suffix) = match name.strip_suffix("Py") {
            Some(plain) if !in_c => (plain, "Py"),
            Some(_) => return None,
            None => (name, ""),
        };
        let short = match plain.strip_prefix(letters) {
            Some(short) => short,
            None if in_c => return None,
            None => plain,
        };
        let (short, kind) = *KINDS.iter().find(|(known, _)| *known == short)?;
        let (key, value) = letters.split_at(1);
        Some(Class::Items(Items {
            kind,
            key: Content::of(key)?,
            value: Content::of(value)?,
            in_python: !suffix.is_empty(),
            module: format!("BTrees.{letters}BTree"),
            name: format!("{letters}{short}{suffix}"),
        }))
    }

    /// The name that Python gives the class, by whatever name it was found.
    pub(super) fn true_name(&self) -> ClassName {
        let (module, name) = match self {
            Class::Length => ("BTrees.Length", "Length"),
            Class::Items(items) => (items.module.as_str(), items.name.as_str()),
        };
        ClassName { module: module.to_owned(), name: name.to_owned() }
    }
}

impl Content {
    fn of(letter: &str) -> Option<Content> {
        Some(match letter {
            "O" => Content::Any,
            "I" => Content::Int(i32::MIN.into(), i32::MAX.into()),
            "U" => Content::Int(0, u32::MAX.into()),
            "L" => Content::Int(i64::MIN.into(), i64::MAX.into()),
            "Q" => Content::Int(0, u64::MAX.into()),
            "F" => Content::Float,
            "f" => Content::Fixed(2),
            "s" => Content::Fixed(6),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn true_name(module: &str, name: &str) -> Option<String> {
        Class::named(module.as_bytes(), name.as_bytes()).map(|class| class.true_name().to_string())
    }

    #[test]
    fn a_class_has_one_true_name() {
        for (module, name, wanted) in [
            ("BTrees.OOBTree", "OOBucket", Some("BTrees.OOBTree.OOBucket")),
            ("BTrees._OOBTree", "OOTreeSet", Some("BTrees.OOBTree.OOTreeSet")),
            ("BTrees.QLBTree", "Set", Some("BTrees.QLBTree.QLSet")),
            ("BTrees.fsBTree", "fsBTreePy", Some("BTrees.fsBTree.fsBTreePy")),
            ("BTrees.IFBTree", "BucketPy", Some("BTrees.IFBTree.IFBucketPy")),
            ("BTrees.Length", "Length", Some("BTrees.Length.Length")),
            ("BTrees._IFBTree", "Bucket", None),
            ("BTrees._IFBTree", "IFBucketPy", None),
            ("BTrees.IFBTree", "IIBucket", None),
            ("BTrees.XXBTree", "XXBucket", None),
            ("BTrees.OOBTree", "TreeItems", None),
            ("shop.OOBTree", "OOBucket", None),
        ] {
            assert_eq!(true_name(module, name).as_deref(), wanted, "{module}.{name}");
        }
    }
}
