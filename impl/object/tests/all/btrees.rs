//! B-trees, one thing at a time: shapes, marks, and what is written.

use std::sync::Arc;

use vellum_object::btree::{BTree, Bucket, Family, IF, II, Length, OO};
use vellum_object::{Connection, Database, Error, Generic, Persistent, PersistentMapping, Ref, Trouble, Value};
use vellum_pickle::ClassName;
use vellum_storage::{MemoryStorage, Oid, Resolvers, SystemClock, Tid, Version};

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

/// The children and separators of a root.
fn children(tree: &Ref<Generic>) -> Vec<Value> {
    let view = tree.view().unwrap();
    let Value::Tuple(parts) = view.state() else { panic!("{view:?}") };
    let Value::Tuple(children) = &parts[0] else { panic!("{parts:?}") };
    children.clone()
}

fn separators(tree: &Ref<Generic>) -> Vec<Value> {
    children(tree).into_iter().skip(1).step_by(2).collect()
}

fn child(tree: &Ref<Generic>, at: usize) -> Oid {
    children(tree)[2 * at].as_reference().unwrap().oid().unwrap()
}

/// The transaction of an object's newest revision.
fn tid(database: &Database, oid: Oid) -> Tid {
    database.storage().load(oid, &Version::TRUNK).unwrap().tid
}

#[test]
fn a_deleted_separator_is_raised_and_nothing_else_writes_the_root() {
    let (database, connection) = open();
    let tree = tree::<OO>(&connection);
    (0..100).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    connection.commit().unwrap();
    let (root, leaf) = (tree.oid().unwrap(), child(&tree.cast(), 1));
    assert_eq!(tree.remove(&20.into()).unwrap(), Some(1.into()));
    let done = connection.commit().unwrap();
    assert!(tid(&database, root) < done && tid(&database, leaf) == done);
    tree.remove(&15.into()).unwrap();
    tree.remove(&16.into()).unwrap();
    let done = connection.commit().unwrap();
    assert_eq!((tid(&database, root), tid(&database, leaf)), (done, done));
    assert_eq!(separators(&tree.cast()), [17, 30, 45, 60, 75].map(Value::from));
    tree.set(15, 1).unwrap();
    connection.commit().unwrap();
    assert_eq!(leaves(&tree.cast())[..2], [16, 12]);
    assert_eq!(tree.check().unwrap().keys, 98);
}

/// An emptied leaf leaves the chain and the tree, and the first leaf of a tree may be another then.
#[test]
fn an_emptied_leaf_is_unlinked() {
    let (database, connection) = open();
    let tree = tree::<OO>(&connection);
    (0..100).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    connection.commit().unwrap();
    let garbage = child(&tree.cast(), 2);
    for keys in [30..45, 0..15] {
        keys.for_each(|key| assert!(tree.remove(&key.into()).unwrap().is_some()));
        tree.check().unwrap();
    }
    let done = connection.commit().unwrap();
    connection.minimize();
    assert_eq!((tree.check().unwrap().leaves, tree.count().unwrap()), (4, 70));
    // As the package does, the emptied leaf is stored once more.
    assert_eq!(tid(&database, garbage), done);
    (0..100).for_each(|key| assert!(tree.remove(&key.into()).is_ok()));
    connection.commit().unwrap();
    assert_eq!(tree.cast::<Generic>().view().unwrap().state(), &Value::None);
}

/// A stored leaf stays an object when it is the last one; one that was never stored is written inside the root.
#[test]
fn a_leaf_is_inside_only_if_it_was_never_stored() {
    let (_database, connection) = open();
    let tree = tree::<OO>(&connection);
    (0..40).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    (15..40).for_each(|key| assert!(tree.remove(&key.into()).unwrap().is_some()));
    connection.commit().unwrap();
    assert!(matches!(&children(&tree.cast())[..], [Value::Tuple(_)]));
    (15..40).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    connection.commit().unwrap();
    let first = child(&tree.cast(), 0);
    (15..40).for_each(|key| assert!(tree.remove(&key.into()).unwrap().is_some()));
    connection.commit().unwrap();
    assert_eq!(child(&tree.cast(), 0), first);
    assert_eq!(tree.check().unwrap().leaves, 1);
}

/// The emptied leaf is stored, as the package stores it, and names the new one. So that has an oid, and one record.
#[test]
fn a_leaf_that_a_stored_one_names_is_not_inside() {
    let (_database, connection) = open();
    let tree = tree::<OO>(&connection);
    (0..40).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    (15..40).for_each(|key| assert!(tree.remove(&key.into()).unwrap().is_some()));
    (15..20).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    (15..40).for_each(|key| _ = tree.set(key, 1).unwrap());
    connection.commit().unwrap();
    (40..80).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    let leaves = tree.check().unwrap().leaves;
    assert!(leaves > 2, "{leaves}");
    let mut key = 0;
    while tree.check().unwrap().leaves > 1 {
        assert!(tree.remove(&key.into()).unwrap().is_some());
        key += 1;
    }
    connection.commit().unwrap();
    assert!(!matches!(&children(&tree.cast())[..], [Value::Tuple(_)]), "{:?}", children(&tree.cast()));
    assert_eq!(tree.check().unwrap().leaves, 1);
}

#[test]
fn an_equal_number_is_no_change_and_any_object_is_one() {
    let (_database, connection) = open();
    let objects = connection.make(BTree::<OO>::default());
    let numbers = connection.make(BTree::<II>::default());
    let floats = connection.make(BTree::<IF>::default());
    connection.add(&objects).unwrap();
    connection.add(&numbers).unwrap();
    connection.add(&floats).unwrap();
    objects.set("key", "value").unwrap();
    numbers.set(1, 2).unwrap();
    floats.set(1, 0.0_f32).unwrap();
    connection.commit().unwrap();
    assert_eq!(numbers.set(1, 2).unwrap(), Some(2));
    assert!(!numbers.insert(1, 3).unwrap() && numbers.remove(&9).unwrap().is_none());
    assert_eq!(floats.set(1, -0.0_f32).unwrap(), Some(0.0));
    assert!(!connection.is_changed());
    objects.set("key", "value").unwrap();
    assert!(connection.is_changed());
    connection.abort().unwrap();
    floats.set(1, f32::NAN).unwrap();
    connection.commit().unwrap();
    floats.set(1, f32::NAN).unwrap();
    assert!(connection.is_changed());
}

/// A commit depends on the nodes above every leaf that was changed, or could have been.
#[test]
fn a_change_needs_the_nodes_above_it() {
    let resolver = Arc::new(Resolvers::built_in());
    let storage = MemoryStorage::with("memory", Arc::new(SystemClock), resolver);
    let database = Database::open(storage).unwrap();
    let [one, two] = [database.connect().unwrap(), database.connect().unwrap()];
    let tree = tree::<OO>(&one);
    (0..100).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    one.commit().unwrap();
    let other = two.get::<BTree<OO>>(tree.oid().unwrap());
    // Different leaves, and then the same leaf: both changes are had.
    two.begin().unwrap();
    other.set(-1, 1).unwrap();
    tree.set(100, 1).unwrap();
    two.commit().unwrap();
    one.commit().unwrap();
    two.begin().unwrap();
    other.set(101, 1).unwrap();
    tree.set(102, 1).unwrap();
    two.commit().unwrap();
    one.commit().unwrap();
    assert_eq!(tree.count().unwrap(), 104);
    // The first key of a leaf is its separator, so the root is changed.
    two.begin().unwrap();
    other.remove(&15.into()).unwrap();
    tree.set(103, 1).unwrap();
    two.commit().unwrap();
    assert!(one.commit().unwrap_err().is_conflict());
    one.abort().unwrap();
    assert_eq!(tree.count().unwrap(), 103);
}

/// A reference whose class nobody knows here is written back with it.
#[test]
fn a_class_of_a_reference_is_kept() {
    let (_database, connection) = open();
    let tree = tree::<OO>(&connection);
    (0..40).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    connection.commit().unwrap();
    let other = ClassName { module: "shop".into(), name: "Leaf".into() };
    let named = |state: &Value| -> Vec<bool> {
        let Value::Tuple(parts) = state else { panic!() };
        let Value::Tuple(children) = &parts[0] else { panic!() };
        let class = |child: &Value| match child {
            Value::Reference(reference) => reference.class.as_deref() == Some(&other),
            _ => false,
        };
        children.iter().step_by(2).map(class).collect()
    };
    tree.cast::<Generic>()
        .change(|root| {
            let Value::Tuple(parts) = root.state_mut() else { panic!() };
            let Value::Tuple(children) = &mut parts[0] else { panic!() };
            for child in children {
                if let Value::Reference(reference) = child {
                    reference.class = Some(Box::new(other.clone()));
                }
            }
        })
        .unwrap();
    connection.commit().unwrap();
    connection.minimize();
    (40..60).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    connection.commit().unwrap();
    assert_eq!(named(tree.cast::<Generic>().view().unwrap().state()), [true, true, false]);
    assert_eq!(tree.check().unwrap().keys, 60);
}

#[test]
fn keys_without_an_order_are_refused() {
    let (_database, connection) = open();
    let tree = tree::<OO>(&connection);
    let object = connection.make(PersistentMapping::default());
    for key in [Value::reference(&object), Value::Float(f64::NAN), Value::Dict(vec![]), Value::Set(vec![])] {
        let error = tree.set(key, 1).unwrap_err();
        assert!(matches!(error, Error::Key { .. }), "{error}");
    }
    assert!(tree.is_empty().unwrap());
    tree.set("text", 1).unwrap();
    tree.set(Value::None, 1).unwrap();
    assert!(matches!(tree.set(1, 1), Err(Error::Key { trouble: Trouble::Unordered { .. }, .. })));
    assert!(tree.get(&Value::from(1)).is_err());
    assert_eq!(tree.keys().map(Result::unwrap).collect::<Vec<_>>(), [Value::None, Value::from("text")]);
}

/// A change that would split a leaf changes nothing while the program looks at a node above it.
#[test]
fn a_tree_in_use_is_not_half_changed() {
    let (_database, connection) = open();
    let tree = tree::<OO>(&connection);
    (0..45).for_each(|key| assert_eq!(tree.set(key, 1).unwrap(), None));
    connection.commit().unwrap();
    let view = tree.view().unwrap();
    assert!(matches!(tree.set(45, 1), Err(Error::InUse { .. })));
    assert!(matches!(tree.remove(&15.into()), Err(Error::InUse { .. })));
    assert!(!connection.is_changed());
    drop(view);
    let mut items = tree.items();
    items.next().unwrap().unwrap();
    assert!(matches!(tree.remove(&0.into()), Err(Error::InUse { .. })));
    drop(items);
    tree.set(45, 1).unwrap();
    assert_eq!(tree.check().unwrap().keys, 46);
}

/// A range loads the leaves that have keys of it, and no others.
#[test]
fn a_range_loads_its_leaves() {
    let (_database, connection) = open();
    let tree = tree::<II>(&connection);
    (0..600).for_each(|key| assert_eq!(tree.set(key, key).unwrap(), None));
    connection.commit().unwrap();
    let all = tree.check().unwrap().leaves;
    let leaves: Vec<Ref<Generic>> = (0..all).map(|at| connection.get(child(&tree.cast(), at))).collect();
    for backwards in [false, true] {
        connection.minimize();
        let range = tree.range(130..=190);
        let count = if backwards { range.rev().count() } else { range.count() };
        assert_eq!(count, 61);
        let loaded: Vec<usize> = (0..all).filter(|&at| leaves[at].is_loaded()).collect();
        assert_eq!(loaded, [2, 3], "backwards: {backwards}");
    }
}

/// Values are seen without copies, from either end of a range, while their leaf cannot be changed.
#[test]
fn values_are_seen_in_place() {
    let (_database, connection) = open();
    let tree = tree::<II>(&connection);
    (0..600).for_each(|key| assert_eq!(tree.set(key, -key).unwrap(), None));
    assert_eq!(tree.get_with(&130, |value| *value).unwrap(), Some(-130));
    assert_eq!(tree.get_with(&600, |value| *value).unwrap(), None);
    let changed = tree.get_with(&130, |_| tree.set(130, 1)).unwrap().unwrap();
    assert!(matches!(changed, Err(Error::InUse { .. })), "{changed:?}");

    for range in [tree.range(130..=190), tree.range(130..191)] {
        let mut range = range;
        let mut seen = Vec::new();
        while let Some(item) = range.next_with(|key, value| (*key, *value)) {
            seen.push(item.unwrap());
            if seen.len() % 2 == 0 {
                seen.extend(range.next_back().map(Result::unwrap));
            }
        }
        assert!(range.next_with(|_, _| ()).is_none());
        seen.sort_unstable();
        assert_eq!(seen, (130..=190).map(|key| (key, -key)).collect::<Vec<_>>());
    }
    for range in [tree.range(130..=190), tree.range(130..191)] {
        let (mut range, mut count) = (range, 0);
        while range.next_with(|key, _| assert_eq!(*key, 130 + count)).is_some() {
            count += 1;
        }
        assert_eq!(count, 61);
    }
}

/// The memory of a leaf is that of its keys and values, after changes of all kinds.
#[test]
fn a_leaf_knows_its_size() {
    let (_database, connection) = open();
    let tree = tree::<OO>(&connection);
    let large = |factor: usize| Value::Bytes(vec![0; 10_000 * factor].into());
    (0..100_usize).for_each(|key| drop(tree.set(key as i64, large(1 + key % 3)).unwrap()));
    (0..100_usize).step_by(4).for_each(|key| drop(tree.set(key as i64, large(key % 5)).unwrap()));
    (0..100).step_by(7).for_each(|key| drop(tree.remove(&key.into()).unwrap()));
    connection.commit().unwrap();
    for at in 0..tree.check().unwrap().leaves {
        let leaf: Ref<Bucket<OO>> = connection.get(child(&tree.cast(), at));
        let of_values = |leaf: &Bucket<OO>| leaf.values().iter().map(Value::bytes).sum::<usize>();
        let (bytes, values) = {
            let view = leaf.view().unwrap();
            (view.bytes(), of_values(&view))
        };
        assert!((values..values + 5000).contains(&bytes), "{bytes} bytes with values of {values}");
    }
}

#[test]
fn lengths_are_added() {
    let resolver = Arc::new(Resolvers::built_in());
    let database = Database::open(MemoryStorage::with("memory", Arc::new(SystemClock), resolver)).unwrap();
    let [one, two] = [database.connect().unwrap(), database.connect().unwrap()];
    let length = one.make(Length::new(11));
    let oid = one.add(&length).unwrap();
    one.commit().unwrap();
    two.begin().unwrap();
    length.change(|length| length.set(0)).unwrap();
    two.get::<Length>(oid).change(|length| assert_eq!(length.add(-6), Some(5))).unwrap();
    two.commit().unwrap();
    one.commit().unwrap();
    assert_eq!(length.view().unwrap().value(), Some(-6));
}
