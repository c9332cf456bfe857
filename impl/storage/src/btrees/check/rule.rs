//! The rules of a tree, in words.

use std::fmt;

use crate::Oid;

/// A rule that a tree breaks, or a node of which it cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BTreeFinding {
    /// The tree's root. For a bucket that is in no tree, the bucket.
    pub tree: Oid,
    /// The class of that.
    pub class: String,
    /// The node.
    pub node: Oid,
    /// The rule that it breaks, or the reason why that cannot be told.
    pub rule: BTreeRule,
}

/// A rule that a node breaks, or the reason why that cannot be told.
///
/// Keys are shown as Python shows them, cut where they are long. Of a node with many keys in the wrong place the first
/// is named, and `count` is how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BTreeRule {
    /// A key is not less than the one behind it.
    Order {
        /// The key.
        key: String,
        /// The one behind it.
        then: String,
        /// How often that is so in the node.
        count: u64,
    },
    /// A key is less than the separator before the node.
    Below {
        /// The key.
        key: String,
        /// The separator.
        bound: String,
        /// How many keys of the node are.
        count: u64,
    },
    /// A key is not less than the separator behind the node.
    Above {
        /// The key.
        key: String,
        /// The separator.
        bound: String,
        /// How many keys of the node are not.
        count: u64,
    },
    /// A bucket's next one is not the one that follows it in the tree.
    Next {
        /// The one that it names.
        next: Option<Oid>,
        /// The one that follows.
        wanted: Option<Oid>,
        /// Whether it names one that comes before it.
        leads_back: bool,
    },
    /// A node takes another bucket for the first one below it.
    FirstBucket {
        /// The other one.
        first: Oid,
        /// The one that is.
        wanted: Oid,
    },
    /// A bucket of a tree has no keys.
    EmptyBucket,
    /// A node has no children.
    EmptyNode,
    /// A node has both trees and buckets for its children.
    Mixed,
    /// A bucket is at another depth than the first bucket of the tree.
    Depth {
        /// How many steps below the root.
        depth: u64,
        /// The same, of the first bucket.
        usual: u64,
    },
    /// It is of a class that does not belong there, or not of the one that its parent takes it for.
    Class {
        /// Its class.
        class: String,
        /// The classes that belong there.
        wanted: String,
    },
    /// A node is reached a second time: it is also in another tree, or at another place of this one, maybe above
    /// itself.
    TwoParents {
        /// From where it is reached the second time.
        parent: Oid,
    },
    /// An object of its class cannot have its state.
    State(&'static str),
    /// It is not in the database.
    Missing {
        /// The node that refers to it.
        parent: Option<Oid>,
    },
    /// The record cannot be read, for this reason.
    Unreadable(String),
    /// It is of this class, which is none of the BTrees package.
    OtherClass(String),
}

impl BTreeRule {
    /// Whether a rule is broken. Otherwise it cannot be told.
    pub fn is_fault(&self) -> bool {
        !matches!(self, BTreeRule::Unreadable(_) | BTreeRule::OtherClass(_))
    }

    /// The rule as a word, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            BTreeRule::Order { .. } => "order",
            BTreeRule::Below { .. } => "below",
            BTreeRule::Above { .. } => "above",
            BTreeRule::Next { .. } => "next",
            BTreeRule::FirstBucket { .. } => "first_bucket",
            BTreeRule::EmptyBucket => "empty_bucket",
            BTreeRule::EmptyNode => "empty_node",
            BTreeRule::Mixed => "mixed",
            BTreeRule::Depth { .. } => "depth",
            BTreeRule::Class { .. } => "class",
            BTreeRule::TwoParents { .. } => "two_parents",
            BTreeRule::State(_) => "state",
            BTreeRule::Missing { .. } => "missing",
            BTreeRule::Unreadable(_) => "unreadable",
            BTreeRule::OtherClass(_) => "other_class",
        }
    }

    /// The consequences, in words: which calls fail, how much could be lost, and the cure.
    pub fn cure(&self) -> &'static str {
        match self {
            BTreeRule::Order { .. } | BTreeRule::Below { .. } | BTreeRule::Above { .. } => {
                "Some keys are not found, though items() lists them, and a key may be there twice: make a new tree of \
                 list(tree.items()). Of a key that is there twice the later value stays."
            }
            BTreeRule::Next { .. }
            | BTreeRule::FirstBucket { .. }
            | BTreeRule::TwoParents { .. }
            | BTreeRule::Mixed
            | BTreeRule::Depth { .. } => {
                "items() goes along the chain of buckets, and leaves items out, or never ends: make a new tree of what \
                 is below the root, bucket by bucket (docs/checking.md), and not of tree.items()."
            }
            BTreeRule::EmptyBucket | BTreeRule::EmptyNode => {
                "minKey() and maxKey() may fail, and keys that belong there may stand elsewhere: make a new tree of \
                 what is below the root, bucket by bucket (docs/checking.md)."
            }
            BTreeRule::Class { .. }
            | BTreeRule::State(_)
            | BTreeRule::Missing { .. }
            | BTreeRule::Unreadable(_)
            | BTreeRule::OtherClass(_) => {
                "Its items cannot be read, and are lost to a new tree: look for the object in a backup \
                 (vellum restore), or in its history (vellum show --history)."
            }
        }
    }
}

impl fmt::Display for BTreeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = |f: &mut fmt::Formatter<'_>, count: u64| match count {
            0 | 1 => Ok(()),
            count => write!(f, " (and {} more)", count - 1),
        };
        match self {
            BTreeRule::Order { key, then, count } => {
                write!(f, "keys out of order: {then} is behind {key}")?;
                more(f, *count)
            }
            BTreeRule::Below { key, bound, count } => {
                write!(f, "key {key} is not found here: the keys below this node begin at {bound}")?;
                more(f, *count)
            }
            BTreeRule::Above { key, bound, count } => {
                write!(f, "key {key} is not found here: the keys below this node end before {bound}")?;
                more(f, *count)
            }
            BTreeRule::Next { next, wanted, leads_back } => {
                match (next, wanted) {
                    (Some(next), Some(wanted)) => {
                        write!(f, "its next bucket is {next}, and not {wanted}, which follows")?
                    }
                    (Some(next), None) => write!(f, "its next bucket is {next}, and it is the last one of the tree")?,
                    (None, Some(wanted)) => write!(f, "it has no next bucket, and {wanted} follows")?,
                    (None, None) => {}
                }
                if *leads_back { write!(f, "; that leads back") } else { Ok(()) }
            }
            BTreeRule::FirstBucket { first, wanted } => {
                write!(f, "its first bucket is {first}, and not {wanted}, which comes first below it")
            }
            BTreeRule::EmptyBucket => write!(f, "a bucket without keys"),
            BTreeRule::EmptyNode => write!(f, "a node without children"),
            BTreeRule::Mixed => write!(f, "some of its children are trees, and some are buckets"),
            BTreeRule::Depth { depth, usual } => {
                write!(f, "a bucket {depth} steps below the root, where the first one is {usual} steps below it")
            }
            BTreeRule::Class { class, wanted } => write!(f, "it is a {class}, where a {wanted} belongs"),
            BTreeRule::TwoParents { parent } => write!(f, "it is reached a second time, from {parent}"),
            BTreeRule::State(why) => write!(f, "its state is not one of its class: {why}"),
            BTreeRule::Missing { parent: Some(parent) } => write!(f, "it is not there, and {parent} refers to it"),
            BTreeRule::Missing { parent: None } => write!(f, "it is not there"),
            BTreeRule::Unreadable(why) => write!(f, "cannot be told: {why}"),
            BTreeRule::OtherClass(class) => {
                write!(f, "cannot be told: it is a {class}, and only the classes of the BTrees package are known")
            }
        }
    }
}
