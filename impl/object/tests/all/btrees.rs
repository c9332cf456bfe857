//! B-trees, one thing at a time: shapes, marks, and what is written.

use vellum_object::btree::{BTree, Family, II, OO};
use vellum_object::{Connection, Database, Generic, PersistentMapping, Ref, Value};
use vellum_storage::MemoryStorage;

fn open() -> (Database, Connection) {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    (database, connection)
}

fn tree<F: Family>(connection: &Connection) -> Ref<BTree<F>> {
    let tree = connection.make(BTree::<F>::default());
    connection.root::<PersistentMapping>().change(|root| root.insert("tree", &tree)).unwrap();
    tree
}

/// The numbers of keys in the leaves, below a node.
fn leaves(node: &Ref<Generic>) -> Vec<usize> {
    let view = node.view().unwrap();
    let Value::Tuple(parts) = view.state() else { return Vec::new() };
    let Value::Tuple(children) = &parts[0] else { panic!("{parts:?}") };
    let is_leaf = !children.iter().any(|child| matches!(child, Value::Reference(_) | Value::Tuple(_)));
    if is_leaf {
        return vec![children.len() / 2];
    }
    children
        .iter()
        .flat_map(|child| match child {
            Value::Reference(child) => leaves(&child.object()),
            Value::Tuple(leaf) => match &leaf[0] {
                Value::Tuple(items) => vec![items.len() / 2],
                other => panic!("{other:?}"),
            },
            _ => Vec::new(),
        })
        .collect()
}

/// The shapes of `OOBTree` with 1,000 keys in order and in reverse order, as BTrees 6.5 makes them.
#[test]
fn shapes_are_those_of_the_package() {
    let mut keys: Vec<String> = (1..=1000).map(|n: u32| n.to_string()).collect();
    keys.sort();
    let (_database, connection) = open();
    let up = tree::<OO>(&connection);
    keys.iter().for_each(|key| assert_eq!(up.set(key.as_str(), 1).unwrap(), None));
    connection.commit().unwrap();
    let sizes = leaves(&up.cast());
    assert_eq!((sizes.len(), &sizes[..65], sizes[65]), (66, &[15; 65][..], 25));
    let down = tree::<OO>(&connection);
    keys.iter().rev().for_each(|key| assert_eq!(down.set(key.as_str(), 1).unwrap(), None));
    connection.commit().unwrap();
    let sizes = leaves(&down.cast());
    assert_eq!((sizes.len(), sizes[0], &sizes[1..]), (62, 24, &[16; 61][..]));
    let numbers = tree::<II>(&connection);
    (1..=1000).for_each(|key| assert_eq!(numbers.set(key, key).unwrap(), None));
    connection.commit().unwrap();
    let sizes = leaves(&numbers.cast());
    assert_eq!((sizes.len(), &sizes[..15], sizes[15]), (16, &[60; 15][..], 100));
    assert_eq!(up.check().unwrap().leaves, 66);
    assert_eq!(numbers.check().unwrap().keys, 1000);
}

/// At the 7,501st ascending key the root has twice as many children as a node may have, and gets a level more.
#[test]
fn a_root_gets_a_level_more() {
    let (_database, connection) = open();
    let tree = tree::<OO>(&connection);
    (0..7500).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    assert_eq!(tree.check().unwrap().levels, 1);
    tree.set(7500, 1).unwrap();
    assert_eq!(tree.check().unwrap().levels, 2);
    (7501..20_000).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    connection.commit().unwrap();
    let view = tree.cast::<Generic>().view().unwrap();
    let Value::Tuple(parts) = view.state() else { panic!("{view:?}") };
    let Value::Tuple(children) = &parts[0] else { panic!("{parts:?}") };
    let below: Vec<usize> = children.iter().filter_map(|child| Some(leaves(&child.as_reference()?).len())).collect();
    assert_eq!(below, [250, 125, 125, 125, 125, 125, 125, 125, 208]);
}
