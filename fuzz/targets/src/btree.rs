//! Damaged trees as objects: read, listed, checked and changed.
//!
//! The bytes are a list of nodes, as for the target [`btrees`](mod@crate::btrees); the tree is object 1. With any
//! nodes, every operation ends with an answer or an error. The tree's own check says what a slow look at the nodes
//! says. A tree that keeps its rules holds the keys of its leaves, and still keeps the rules after any changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use vellum_object::btree::{II, TreeSet};
use vellum_object::{Database, Error, Options, Ref};
use vellum_storage::{MemoryStorage, Oid, Storage, Tid, TransactionMeta};

use crate::btrees::{Node, is_whole, read};

/// Reads the tree, and changes it.
///
/// # Panics
///
/// If an answer is wrong.
pub fn btree(input: &[u8]) {
    let nodes = read(input);
    let storage = MemoryStorage::new("trees");
    let mut draft = storage.begin(TransactionMeta::new()).expect("it can be written to");
    for (oid, node) in &nodes {
        let data = node.record(&nodes);
        if !data.is_empty() {
            draft.store(Oid(*oid), Tid::ZERO, data.into()).expect("it is new");
        }
    }
    Storage::commit(&storage, draft).expect("nobody else writes");
    // The budget is exceeded at once, so that nodes are loaded again and again.
    let options = Options { bytes_max: 0, ..Options::default() };
    let database = Database::with(Arc::new(storage), options).expect("it gets a root");
    let connection = database.connect().expect("it is open");
    let tree: Ref<TreeSet<II>> = connection.get(Oid(1));
    let checked = tree.check();
    let listed: Result<Vec<i32>, _> = tree.keys().collect();
    let backwards: Result<Vec<i32>, _> = tree.keys().rev().collect();
    let is_known = nodes.values().all(|node| !matches!(node, Node::Record(_)));
    match nodes.get(&1) {
        Some(Node::Tree { .. } | Node::Inside { .. }) if is_known => {
            assert_eq!(checked.is_ok(), is_whole(&nodes), "{nodes:?}: {checked:?}");
        }
        _ => {}
    }
    if let Err(error) = &checked {
        assert!(
            matches!(
                error,
                Error::InTree { tree: Some(Oid(1)), .. }
                    | Error::Unreadable { oid: Some(Oid(1)), .. }
                    | Error::WrongClass { oid: Some(Oid(1)), .. }
                    | Error::Missing { oid: Oid(1), .. }
            ),
            "{error}"
        );
    }
    let Ok(checked) = checked else {
        // Changes end, too.
        for key in input.iter().take(64).map(|key| i32::from(*key as i8)) {
            let _ = tree.add(key);
            let _ = tree.discard(&key);
            let _ = tree.contains(&key);
        }
        let _ = connection.commit();
        return;
    };
    let listed = listed.expect("a tree that keeps its rules can be listed");
    let mut backwards = backwards.expect("and backwards");
    backwards.reverse();
    assert_eq!(listed, backwards);
    assert!(listed.is_sorted() && listed.len() == checked.keys);
    let mut model: BTreeSet<i32> = listed.into_iter().collect();
    for (at, key) in input.iter().enumerate().take(200) {
        let key = i32::from(*key as i8);
        match at % 3 {
            0 => assert_eq!(tree.discard(&key).expect("it is whole"), model.remove(&key)),
            _ => assert_eq!(tree.add(key).expect("it is whole"), model.insert(key)),
        }
    }
    assert_eq!(tree.check().expect("changes keep the rules").keys, model.len());
    connection.commit().expect("nobody else writes");
    connection.minimize();
    tree.check().expect("as they are stored");
    assert!(tree.keys().map(|key| key.expect("it is whole")).eq(model));
}

#[cfg(test)]
mod tests {
    use super::btree;
    use crate::btrees::input;

    /// Whole trees, and each byte of them otherwise, in some ways.
    #[test]
    fn a_tree_with_one_byte_otherwise() {
        for (levels, width, keys) in [(1, 4, 2), (2, 3, 2), (3, 2, 2)] {
            btree(&input(levels, width, keys, &[]));
            for at in 0..input(levels, width, keys, &[]).len() {
                for by in [1, 2, 3, 0x80, 0xfe, 0xff] {
                    btree(&input(levels, width, keys, &[(at, by)]));
                }
            }
        }
    }
}
