//! Trees of any shape: damaged, in circles, with nodes in common, with invalid records.
//!
//! The bytes are a list of nodes, the first of which is object 1, to which the root refers. With any bytes, looking at
//! them ends, with no more findings than there are nodes and references. And of the tree that begins at object 1 a
//! second look, which recurses and keeps all of it in memory, says the same: it keeps its rules, or it breaks one.

use std::collections::{BTreeMap, BTreeSet};

use vellum_storage::{MemoryStorage, Oid, Storage, Tid, TransactionMeta, Version, check_btrees};

/// Nodes of an input.
const NODES_MAX: u64 = 64;

/// A node, as the bytes say it.
#[derive(Debug)]
pub(crate) enum Node {
    Nothing,
    Tree {
        children: Vec<u64>,
        separators: Vec<i8>,
        first: u64,
    },
    Inside {
        keys: Vec<i8>,
    },
    Bucket {
        keys: Vec<i8>,
        next: u64,
    },
    Set {
        keys: Vec<i8>,
    },
    /// A record of its own.
    Record(Vec<u8>),
}

/// Looks at the trees.
///
/// # Panics
///
/// If what it finds is not what there is.
pub fn btrees(input: &[u8]) {
    let nodes = read(input);
    let storage = MemoryStorage::new("trees");
    let mut draft = storage.begin(TransactionMeta::new()).expect("it can be written to");
    let root = [b"\x80\x03cshop\nRoot\n.\x80\x03", &to(1, &nodes)[..], b"."].concat();
    draft.store(Oid(0), Tid::ZERO, root.into()).expect("it is new");
    for (oid, node) in &nodes {
        let data = node.record(&nodes);
        if !data.is_empty() {
            draft.store(Oid(*oid), Tid::ZERO, data.into()).expect("it is new");
        }
    }
    storage.vote(draft).and_then(|voted| voted.finish()).expect("nobody else writes");

    let mut found = Vec::new();
    let checked = check_btrees(&storage as &dyn Storage, &Version::TRUNK, &mut |_, _| (), &mut |finding| {
        assert!(!finding.rule.to_string().is_empty() && !finding.rule.cure().is_empty());
        found.push(finding);
        Ok(())
    });
    let checked = checked.expect("the storage reads what it has");
    assert_eq!(checked.faults + checked.untold, found.len() as u64);
    assert!(checked.trees + checked.alone <= NODES_MAX, "{checked:?}");
    assert!(found.len() <= 16 * input.len() + 16, "{} findings of {} bytes", found.len(), input.len());

    let is_child = nodes.values().any(|node| matches!(node, Node::Tree { children, .. } if children.contains(&1)));
    let is_known = nodes.values().all(|node| !matches!(node, Node::Record(_)));
    if is_known && !is_child && matches!(nodes.get(&1), Some(Node::Tree { .. } | Node::Inside { .. })) {
        let is_whole = is_whole(&nodes);
        let of_it: Vec<_> = found.iter().filter(|finding| finding.tree == Oid(1)).collect();
        assert_eq!(is_whole, of_it.is_empty(), "{nodes:?}: {of_it:?}");
    }
}

/// Bytes of which a list of nodes is made.
struct Bytes<'i>(&'i [u8]);

impl Bytes<'_> {
    fn one(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn oid(&mut self) -> u64 {
        u64::from(self.one()) % (NODES_MAX + 2)
    }

    fn keys(&mut self) -> Vec<i8> {
        (0..self.one() % 8).map(|_| self.one() as i8).collect()
    }
}

pub(crate) fn read(input: &[u8]) -> BTreeMap<u64, Node> {
    let (mut bytes, mut nodes) = (Bytes(input), BTreeMap::new());
    for oid in 1..=NODES_MAX {
        if bytes.0.is_empty() {
            break;
        }
        let node = match bytes.one() % 8 {
            0 => Node::Nothing,
            1..=3 => {
                let first = bytes.oid();
                let children: Vec<_> = (0..bytes.one() % 8).map(|_| bytes.oid()).collect();
                let separators = children.iter().skip(1).map(|_| bytes.one() as i8).collect();
                Node::Tree { children, separators, first }
            }
            4 => Node::Inside { keys: bytes.keys() },
            5 | 6 => Node::Bucket { next: bytes.oid(), keys: bytes.keys() },
            _ if bytes.one() % 2 == 0 => Node::Set { keys: bytes.keys() },
            _ => {
                let length = usize::from(bytes.one()) * 4;
                let (record, rest) = bytes.0.split_at(length.min(bytes.0.len()));
                bytes.0 = rest;
                Node::Record(record.to_vec())
            }
        };
        nodes.insert(oid, node);
    }
    nodes
}

impl Node {
    fn class(&self) -> &'static str {
        match self {
            Node::Nothing | Node::Tree { .. } | Node::Inside { .. } => "BTrees.IIBTree\nIITreeSet",
            Node::Bucket { .. } => "BTrees.IIBTree\nIISet",
            Node::Set { .. } | Node::Record(_) => "BTrees.OOBTree\nOOSet",
        }
    }

    pub(crate) fn record(&self, nodes: &BTreeMap<u64, Node>) -> Vec<u8> {
        let bucket = |keys: &[i8], next: u64| {
            let next = if next == 0 { Vec::new() } else { to(next, nodes) };
            tuple(&[tuple(&keys.iter().map(|key| int(*key)).collect::<Vec<_>>().concat()), next].concat())
        };
        let state = match self {
            Node::Record(record) => return record.clone(),
            Node::Nothing => b"N".to_vec(),
            Node::Tree { children, separators, first } => {
                let separators = [Vec::new()].into_iter().chain(separators.iter().map(|key| int(*key)));
                let items: Vec<_> =
                    separators.zip(children).map(|(key, child)| [key, to(*child, nodes)].concat()).collect();
                tuple(&[tuple(&items.concat()), to(*first, nodes)].concat())
            }
            Node::Inside { keys } => tuple(&tuple(&bucket(keys, 0))),
            Node::Bucket { keys, next } => bucket(keys, *next),
            Node::Set { keys } => bucket(keys, 0),
        };
        [b"\x80\x03c", self.class().as_bytes(), b"\n.\x80\x03", &state, b"."].concat()
    }
}

/// A reference, which names the class of what it leads to.
fn to(oid: u64, nodes: &BTreeMap<u64, Node>) -> Vec<u8> {
    let class = nodes.get(&oid).map_or("BTrees.IIBTree\nIISet", Node::class);
    [b"C\x08", &oid.to_be_bytes()[..], b"c", class.as_bytes(), b"\n\x86Q"].concat()
}

fn int(key: i8) -> Vec<u8> {
    [b"J", &i32::from(key).to_le_bytes()[..]].concat()
}

fn tuple(items: &[u8]) -> Vec<u8> {
    [b"(", items, b"t"].concat()
}

/// Whether the tree of object 1 keeps its rules.
pub(crate) fn is_whole(nodes: &BTreeMap<u64, Node>) -> bool {
    let mut look = Look { nodes, seen: BTreeSet::new(), leaves: Vec::new() };
    look.is_whole(1, 0, i16::MIN, i16::MAX) && look.is_chained()
}

/// A slow, simple check of a tree.
struct Look<'n> {
    nodes: &'n BTreeMap<u64, Node>,
    seen: BTreeSet<u64>,
    /// Each leaf: which it is, unless it is inside the node above, its next one, and how deep it is.
    leaves: Vec<(Option<u64>, u64, u64)>,
}

impl Look<'_> {
    fn is_whole(&mut self, oid: u64, depth: u64, low: i16, high: i16) -> bool {
        if !self.seen.insert(oid) {
            return false;
        }
        let in_order = |keys: &[i8]| {
            keys.windows(2).all(|pair| pair[0] < pair[1])
                && keys.iter().all(|key| (low..high).contains(&i16::from(*key)))
        };
        match self.nodes.get(&oid) {
            Some(Node::Tree { children, separators, first }) => {
                let is_tree = |oid: &u64| {
                    matches!(self.nodes.get(oid), Some(Node::Nothing | Node::Tree { .. } | Node::Inside { .. }))
                };
                let trees = children.iter().filter(|child| is_tree(child)).count();
                if children.is_empty() || (trees > 0 && trees < children.len()) || !in_order(separators) {
                    return false;
                }
                let before = self.leaves.len();
                let bounds: Vec<_> =
                    [low].into_iter().chain(separators.iter().map(|key| i16::from(*key))).chain([high]).collect();
                let children = children.iter().zip(bounds.windows(2));
                let are_whole = children.fold(true, |whole, (child, bounds)| {
                    whole & self.is_whole(*child, depth + 1, bounds[0], bounds[1])
                });
                are_whole && self.leaves.get(before).is_some_and(|leaf| leaf.0 == Some(*first))
            }
            Some(Node::Inside { keys }) => {
                self.leaves.push((None, 0, depth + 1));
                !keys.is_empty() && in_order(keys)
            }
            Some(Node::Bucket { keys, next }) => {
                self.leaves.push((Some(oid), *next, depth));
                !keys.is_empty() && in_order(keys)
            }
            Some(Node::Nothing) => depth == 0,
            Some(Node::Set { .. } | Node::Record(_)) | None => false,
        }
    }

    fn is_chained(&self) -> bool {
        let is_followed = |pair: &[(Option<u64>, u64, u64)]| pair[1].0 == Some(pair[0].1) && pair[0].2 == pair[1].2;
        self.leaves.windows(2).all(is_followed) && self.leaves.last().is_none_or(|last| last.1 == 0)
    }
}

/// The bytes of a tree that keeps its rules, with `width` children a node and `keys` in each bucket; and with `change`
/// bytes of it otherwise.
pub fn input(levels: u32, width: u8, keys: u8, change: &[(usize, u8)]) -> Vec<u8> {
    // Level by level: the nodes of a level follow each other, and their children are on the next one.
    let (mut out, mut first_of_level) = (Vec::new(), 1_u8);
    let count = |level: u32| width.pow(level);
    let leaves = count(levels);
    let first_leaf = (0..levels).fold(1, |first, level| first + count(level));
    for level in 0..levels {
        let below = first_of_level + count(level);
        // Leaves below each child.
        let span = leaves / count(level + 1);
        for node in 0..count(level) {
            let leaf = node * width * span;
            out.extend([1, first_leaf + leaf, width]);
            out.extend((0..width).map(|child| below + node * width + child));
            out.extend((1..width).map(|child| (leaf + child * span).wrapping_mul(keys)));
        }
        first_of_level = below;
    }
    for leaf in 0..leaves {
        let next = if leaf + 1 == leaves { 0 } else { first_leaf + leaf + 1 };
        out.extend([5, next, keys]);
        out.extend((0..keys).map(|key| leaf * keys + key));
    }
    for (at, byte) in change {
        if let Some(place) = out.get_mut(*at) {
            *place = byte.wrapping_add(*place);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree that is made for a beginning keeps its rules, or the two would agree on nothing but damage.
    #[test]
    fn a_tree_that_is_made_keeps_its_rules() {
        for (levels, width, keys) in [(1, 1, 1), (1, 5, 3), (2, 3, 2), (3, 2, 1), (2, 6, 2), (4, 2, 3)] {
            let nodes = read(&input(levels, width, keys, &[]));
            let mut look = Look { nodes: &nodes, seen: BTreeSet::new(), leaves: Vec::new() };
            assert!(look.is_whole(1, 0, i16::MIN, i16::MAX) && look.is_chained(), "{levels} {width} {keys}: {nodes:?}");
            assert_eq!(look.leaves.len(), usize::from(width).pow(levels));
            btrees(&input(levels, width, keys, &[]));
        }
    }

    /// Each byte of a whole tree otherwise, in some ways.
    #[test]
    fn a_tree_with_one_byte_otherwise() {
        for (levels, width, keys) in [(1, 4, 2), (2, 3, 2), (3, 2, 2)] {
            for at in 0..input(levels, width, keys, &[]).len() {
                for by in [1, 2, 3, 0x80, 0xfe, 0xff] {
                    btrees(&input(levels, width, keys, &[(at, by)]));
                }
            }
        }
    }
}
