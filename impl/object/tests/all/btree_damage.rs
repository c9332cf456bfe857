//! Damaged trees: an error that names the node, its class and the way to it, and never a walk without an end.

use vellum_object::btree::{BTree, OO};
use vellum_object::{Connection, Database, Error, Generic, PersistentMapping, Ref, Value};
use vellum_pickle::ClassName;
use vellum_storage::{MemoryStorage, Oid, Storage, Tid, TransactionMeta};

fn class(name: &str) -> ClassName {
    ClassName { module: "BTrees.OOBTree".into(), name: name.into() }
}

fn open() -> Connection {
    Database::open(MemoryStorage::new("memory")).unwrap().connect().unwrap()
}

fn leaf(connection: &Connection, keys: &[i32], next: Option<&Ref<Generic>>) -> Ref<Generic> {
    let items = keys.iter().flat_map(|&key| [Value::from(key), Value::None]).collect();
    let state = [Value::Tuple(items)].into_iter().chain(next.map(Value::reference)).collect();
    connection.make(Generic::new(class("OOBucket"), Value::Tuple(state)))
}

fn node_of(children: Vec<Value>, first: &Ref<Generic>) -> Value {
    Value::Tuple(vec![Value::Tuple(children), Value::reference(first)])
}

fn node(connection: &Connection, children: Vec<Value>, first: &Ref<Generic>) -> Ref<Generic> {
    connection.make(Generic::new(class("OOBTree"), node_of(children, first)))
}

fn to(object: &Ref<Generic>) -> Value {
    Value::reference(object)
}

/// Stores a tree, and gives it as a program finds it.
fn stored(connection: &Connection, root: &Ref<Generic>) -> Ref<BTree<OO>> {
    connection.root::<PersistentMapping>().change(|mapping| mapping.insert("tree", root)).unwrap();
    connection.commit().unwrap();
    connection.minimize();
    root.cast()
}

/// Asserts that the check of the tree fails with these words, and that every walk and change ends.
#[track_caller]
fn fails(tree: &Ref<BTree<OO>>, words: &[&str]) {
    let check = tree.check().unwrap_err().to_string();
    for word in words {
        assert!(check.contains(word), "{word:?} is not in {check:?}");
    }
    let forwards: usize = tree.items().take(1000).filter(Result::is_ok).count();
    let backwards: usize = tree.items().rev().take(1000).filter(Result::is_ok).count();
    assert!(forwards < 1000 && backwards < 1000);
    // Changes may do anything but go on for ever.
    for key in 0..70 {
        let _ = tree.set(key, 1);
        let _ = tree.remove(&Value::from(key));
        let _ = tree.get(&Value::from(key));
    }
}

#[test]
fn a_node_below_itself() {
    let connection = open();
    let first = leaf(&connection, &[1], None);
    let inner = node(&connection, vec![to(&first)], &first);
    let root = node(&connection, vec![to(&inner)], &first);
    inner.change(|inner| *inner.state_mut() = node_of(vec![to(&root)], &first)).unwrap();
    let tree = stored(&connection, &root);
    fails(
        &tree,
        &[
            "it is a node below itself",
            "at child 0, child 0",
            "BTrees.OOBTree.OOBTree",
            &tree.oid().unwrap().to_string(),
        ],
    );
}

#[test]
fn unsorted_keys_and_separators() {
    let connection = open();
    let [one, two] = [leaf(&connection, &[5, 3], None), leaf(&connection, &[3, 3], None)];
    let root = node(&connection, vec![to(&one)], &one);
    let tree = stored(&connection, &root);
    fails(&tree, &["its keys are not sorted", "at child 0", "BTrees.OOBTree.OOBucket"]);
    assert!(tree.check().unwrap_err().to_string().contains(&one.oid().unwrap().to_string()));
    let root = node(&connection, vec![to(&two)], &two);
    fails(&stored(&connection, &root), &["it has a key twice"]);
    let ends = [leaf(&connection, &[1], None), leaf(&connection, &[50], None)];
    let root =
        node(&connection, vec![to(&ends[0]), Value::from(9), to(&ends[0]), Value::from(4), to(&ends[1])], &ends[0]);
    fails(&stored(&connection, &root), &["its separators are not sorted"]);
}

#[test]
fn leaves_beyond_their_separators() {
    let connection = open();
    let right = leaf(&connection, &[20, 30], None);
    let left = leaf(&connection, &[1, 25], Some(&right));
    let root = node(&connection, vec![to(&left), Value::from(20), to(&right)], &left);
    let tree = stored(&connection, &root);
    assert!(
        tree.get(&1.into()).is_err() && tree.get(&25.into()).is_ok(),
        "only the left leaf is beyond its separators"
    );
    fails(&tree, &["not less than the separator behind it", "at child 0"]);
    let right = leaf(&connection, &[10, 30], None);
    let left = leaf(&connection, &[1, 5], Some(&right));
    let root = node(&connection, vec![to(&left), Value::from(20), to(&right)], &left);
    fails(&stored(&connection, &root), &["less than the separator before it", "at child 1"]);
}

#[test]
fn a_next_leaf_that_is_another() {
    let connection = open();
    let last = leaf(&connection, &[60], None);
    let right = leaf(&connection, &[20, 30], Some(&last));
    let left = leaf(&connection, &[1, 5], Some(&last));
    let children = vec![to(&left), Value::from(20), to(&right), Value::from(60), to(&last)];
    let root = node(&connection, children, &left);
    let tree = stored(&connection, &root);
    fails(&tree, &["its next leaf is another than in the tree", &left.oid().unwrap().to_string()]);
    // A surplus one at the end, and a first leaf that is another.
    let end = leaf(&connection, &[20], Some(&last));
    let start = leaf(&connection, &[1], Some(&end));
    let root = node(&connection, vec![to(&start), Value::from(20), to(&end)], &start);
    fails(&stored(&connection, &root), &["it has a next leaf, though it is the tree's last"]);
    let end = leaf(&connection, &[20], None);
    let start = leaf(&connection, &[1], Some(&end));
    let root = node(&connection, vec![to(&start), Value::from(20), to(&end)], &end);
    fails(&stored(&connection, &root), &["its first leaf is another than in the tree"]);
}

#[test]
fn a_reference_to_nothing_and_another_class() {
    let connection = open();
    let first = leaf(&connection, &[1], None);
    let gone = connection.get::<Generic>(Oid(0x7777));
    let class_of_leaf = class("OOBucket");
    let Value::Reference(mut reference) = to(&gone) else { panic!() };
    reference.class = Some(Box::new(class_of_leaf));
    let root = node(&connection, vec![to(&first), Value::from(20), Value::Reference(reference)], &first);
    let tree = stored(&connection, &root);
    fails(&tree, &["7777", "does not exist", "at child 1"]);
    assert!(
        matches!(tree.check(), Err(Error::InTree { path, error, .. }) if path == [1] && matches!(*error, Error::Missing { .. }))
    );
    let other = connection.make(PersistentMapping::default());
    let root = node(&connection, vec![to(&first), Value::from(20), Value::reference(&other)], &first);
    fails(&stored(&connection, &root), &["persistent.mapping.PersistentMapping", "at child 1"]);
    // A reference that lies about its object's class.
    let Value::Reference(mut reference) = Value::reference(&other) else { panic!() };
    reference.class = Some(Box::new(class("OOBucket")));
    let root = node(&connection, vec![to(&first), Value::from(20), Value::Reference(reference)], &first);
    fails(&stored(&connection, &root), &["persistent.mapping.PersistentMapping", "BTrees.OOBTree.OOBucket"]);
}

#[test]
fn empty_leaves_and_nodes() {
    let connection = open();
    let [full, empty] = [leaf(&connection, &[30], None), leaf(&connection, &[], None)];
    let root = node(&connection, vec![to(&empty), Value::from(20), to(&full)], &empty);
    fails(&stored(&connection, &root), &["it is an empty leaf in a tree", "at child 0"]);
    let hollow = connection.make(Generic::new(class("OOBTree"), Value::None));
    let inner = node(&connection, vec![to(&full)], &full);
    let root = node(&connection, vec![to(&inner), Value::from(50), to(&hollow)], &full);
    fails(&stored(&connection, &root), &["it is an empty node below the root", "at child 1"]);
    for state in [
        Value::Tuple(vec![Value::Tuple(vec![]), to(&full)]),
        Value::Tuple(vec![]),
        Value::List(vec![]),
        Value::Tuple(vec![Value::Tuple(vec![to(&full), Value::from(1)]), to(&full)]),
        Value::Tuple(vec![Value::Tuple(vec![Value::from(1)]), to(&full)]),
        Value::Tuple(vec![Value::Tuple(vec![to(&full)]), Value::from(1)]),
        Value::Tuple(vec![Value::Tuple(vec![to(&full), Value::from(9), to(&inner)]), to(&full)]),
        Value::Tuple(vec![Value::Tuple(vec![Value::Tuple(vec![Value::Tuple(vec![Value::from(1)])])])]),
    ] {
        let root = connection.make(Generic::new(class("OOBTree"), state));
        let tree = stored(&connection, &root);
        fails(&tree, &["BTrees.OOBTree.OOBTree", &tree.oid().unwrap().to_string()]);
    }
}

/// As BTrees itself can write it: a leaf inside a node below the root, and once more in the chain of leaves. Lookups
/// find it; a change would be lost to one of the two.
#[test]
fn a_leaf_inside_a_node_below_the_root() {
    let connection = open();
    let copy = leaf(&connection, &[30], None);
    let start = leaf(&connection, &[1], Some(&copy));
    let left = node(&connection, vec![to(&start)], &start);
    let inside = Value::Tuple(vec![Value::Tuple(vec![Value::from(30), Value::None])]);
    let right = connection.make(Generic::new(class("OOBTree"), Value::Tuple(vec![Value::Tuple(vec![inside])])));
    let root = node(&connection, vec![to(&left), Value::from(30), to(&right)], &start);
    let tree = stored(&connection, &root);
    assert_eq!(tree.get(&Value::from(30)).unwrap(), Some(Value::None));
    assert!(tree.set(31, 1).unwrap_err().to_string().contains("its leaf is inside it"));
    assert!(tree.remove(&Value::from(30)).unwrap_err().to_string().contains("its leaf is inside it"));
    assert!(!connection.is_changed());
    fails(&tree, &["its next leaf is another than in the tree"]);
}

/// Sixty levels in which each node has the next one as both children: 2^60 ways, and one leaf.
#[test]
fn a_node_in_many_places() {
    for separator in [Value::from(5), Value::Dict(vec![])] {
        let connection = open();
        let end = leaf(&connection, &[1], None);
        end.change(|end| {
            if separator != Value::from(5) {
                let items = Value::Tuple(vec![Value::Dict(vec![]), Value::None]);
                *end.state_mut() = Value::Tuple(vec![items]);
            }
        })
        .unwrap();
        let mut root = node(&connection, vec![to(&end)], &end);
        for _ in 0..60 {
            root = node(&connection, vec![to(&root), separator.clone(), to(&root)], &end);
        }
        let tree = stored(&connection, &root);
        // Each leaf says that it is its own next one, so that the chain looks right.
        end.change(|end| {
            let Value::Tuple(parts) = end.state_mut() else { panic!() };
            parts.push(to(&end_of(&connection, &tree)));
        })
        .unwrap();
        connection.commit().unwrap();
        connection.minimize();
        let words = if separator == Value::from(5) { "separator before it" } else { "it is in the tree twice" };
        fails(&tree, &[words]);
        assert!(tree.items().count() <= 2 && tree.count().is_err());
    }
}

fn end_of(connection: &Connection, tree: &Ref<BTree<OO>>) -> Ref<Generic> {
    let view = tree.cast::<Generic>().view().unwrap();
    let Value::Tuple(parts) = view.state() else { panic!() };
    connection.get(parts[1].as_reference().unwrap().oid().unwrap())
}

/// A chain of a million nodes.
#[test]
fn a_tree_a_million_deep() {
    let storage = MemoryStorage::new("memory");
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    let reference = |oid: u64, class: &str| {
        [b"C\x08", &oid.to_be_bytes()[..], b"cBTrees.OOBTree\n", class.as_bytes(), b"\n\x86Q"].concat()
    };
    let first = reference(2_000_000, "OOBucket");
    for oid in 1..=1_000_000_u64 {
        let record = [
            b"\x80\x03cBTrees.OOBTree\nOOBTree\n.\x80\x03",
            &reference(oid + 1, "OOBTree")[..],
            b"\x85",
            &first,
            b"\x86.",
        ];
        draft.store(Oid(oid), Tid::ZERO, record.concat().into()).unwrap();
    }
    Storage::commit(&storage, draft).unwrap();
    let connection = Database::open(storage).unwrap().connect().unwrap();
    fails(&connection.get(Oid(1)), &["more than 100 levels", "child 0", "80 more"]);
}
