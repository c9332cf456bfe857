//! Trees of every family against `BTreeMap`: random operations on several connections, with commits, aborts, merges of
//! conflicts, and a budget so small that objects are evicted all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vellum_object::btree::{
    BTree, Class, Content, Family, IF, II, Items, LL, OO, QQ, Shape, TreeSet, UU, Weighted, difference, fs,
    intersection, multiunion, union, weighted_intersection, weighted_union,
};
#[cfg(feature = "every-family")]
use vellum_object::btree::{IO, IU, LF, LO, LQ, OI, OL, OQ, OU, QF, QL, QO, UF, UI, UO};
use vellum_object::{Connection, Database, Options, PersistentMapping, Ref, Value};
use vellum_storage::{MemoryStorage, Resolvers, Storage, SystemClock};

/// A family with nodes of four, so that a few keys make a deep tree.
struct Small<F>(PhantomData<F>);

impl<F: Family> Family for Small<F> {
    type Key = F::Key;
    type Value = F::Value;
    const BUCKET: Class = F::BUCKET;
    const SET: Class = F::SET;
    const BTREE: Class = F::BTREE;
    const TREE_SET: Class = F::TREE_SET;
    const LEAF_MAX: usize = 4;
    const INNER_MAX: usize = 4;
}

/// A key or value of any family, of a number: the number, or bytes of the family's length.
fn content<C: Content>(number: u16) -> C {
    let bytes = [&[0; 4][..], &number.to_be_bytes()].concat();
    let bytes = |from: usize| C::read(Value::Bytes(bytes[from..].into()));
    let found = C::read(Value::from(number)).or_else(|_| bytes(0)).or_else(|_| bytes(4));
    found.expect("one of them is of the family")
}

#[derive(Debug, Clone)]
enum Op {
    Set(u16, u16),
    Insert(u16, u16),
    Remove(u16),
    Clear,
    Range(u16, u16),
    Commit,
    Abort,
    Minimize,
    /// Another connection goes on.
    Switch,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0..60_u16;
    let op = prop_oneof![
        12 => (key.clone(), 0..4_u16).prop_map(|(key, value)| Op::Set(key, value)),
        4 => (key.clone(), 0..4_u16).prop_map(|(key, value)| Op::Insert(key, value)),
        9 => key.clone().prop_map(Op::Remove),
        1 => Just(Op::Clear),
        2 => (key.clone(), key).prop_map(|(low, high)| Op::Range(low, high)),
        3 => Just(Op::Commit),
        1 => Just(Op::Abort),
        2 => Just(Op::Minimize),
        1 => Just(Op::Switch),
    ];
    proptest::collection::vec(op, 1..150)
}

fn database() -> (Arc<MemoryStorage>, Database) {
    let resolver = Arc::new(Resolvers::built_in());
    let storage = Arc::new(MemoryStorage::with("memory", Arc::new(SystemClock), resolver));
    let options = Options { objects_max: 3, ..Options::default() };
    let shared: Arc<dyn Storage> = storage.clone();
    (storage, Database::with(shared, options).unwrap())
}

/// One connection at a time: all answers are those of the map, and every other connection sees what was committed.
fn play<F: Family>(ops: &[Op]) {
    let (_storage, database) = database();
    let connections = [database.connect().unwrap(), database.connect().unwrap()];
    let tree = connections[0].make(BTree::<Small<F>>::default());
    connections[0].root::<PersistentMapping>().change(|root| root.insert("tree", &tree)).unwrap();
    connections[0].commit().unwrap();
    let oid = tree.oid().unwrap();
    let (mut at, mut map, mut committed) = (0, BTreeMap::new(), BTreeMap::new());
    for op in ops.iter().chain([&Op::Commit, &Op::Switch, &Op::Range(0, 60)]) {
        let connection = &connections[at];
        let tree = connection.get::<BTree<Small<F>>>(oid);
        let pair = |key: &u16, value: &u16| (content::<F::Key>(*key), content::<F::Value>(*value));
        let is = |found: &Option<F::Value>, wanted: Option<u16>| {
            found.as_ref().map(Content::write) == wanted.map(|wanted| content::<F::Value>(wanted).write())
        };
        match op {
            Op::Set(key, value) => {
                let (one, other) = pair(key, value);
                assert!(is(&tree.set(one, other).unwrap(), map.insert(*key, *value)));
            }
            Op::Insert(key, value) => {
                let (one, other) = pair(key, value);
                assert_eq!(tree.insert(one, other).unwrap(), !map.contains_key(key));
                map.entry(*key).or_insert(*value);
            }
            Op::Remove(key) => assert!(is(&tree.remove(&content(*key)).unwrap(), map.remove(key))),
            Op::Clear => {
                tree.clear().unwrap();
                map.clear();
            }
            Op::Range(low, high) => {
                let bounds = content::<F::Key>(*low)..content::<F::Key>(*high);
                let written = |item: vellum_object::Result<(F::Key, F::Value)>| {
                    let (key, value) = item.unwrap();
                    (key.write(), value.write())
                };
                let wanted: Vec<_> = if low <= high {
                    let found = map.range(low..high);
                    found
                        .map(|(key, value)| pair(key, value))
                        .map(|(key, value)| (key.write(), value.write()))
                        .collect()
                } else {
                    Vec::new()
                };
                assert_eq!(tree.range(bounds.clone()).map(written).collect::<Vec<_>>(), wanted);
                let mut back: Vec<_> = tree.range(bounds.clone()).rev().map(written).collect();
                back.reverse();
                assert_eq!(back, wanted);
                // From both ends in turn.
                let (mut range, mut front, mut back) = (tree.range(bounds), Vec::new(), Vec::new());
                while let Some(item) = range.next() {
                    front.push(written(item));
                    back.extend(range.next_back().map(written));
                }
                front.extend(back.into_iter().rev());
                assert_eq!(front, wanted);
                let key = content::<F::Key>(*low);
                assert_eq!(tree.contains(&key).unwrap(), map.contains_key(low));
                assert!(is(&tree.get(&key).unwrap(), map.get(low).copied()));
                let ends = [tree.min_key(Some(&key)).unwrap(), tree.max_key(Some(&key)).unwrap()];
                let wanted = [map.range(low..).next(), map.range(..=low).next_back()];
                for (found, wanted) in ends.iter().zip(wanted) {
                    let wanted = wanted.map(|(key, _)| content::<F::Key>(*key).write());
                    assert_eq!(found.as_ref().map(Content::write), wanted);
                }
            }
            Op::Commit => {
                connection.commit().unwrap();
                committed = map.clone();
            }
            Op::Abort => {
                connection.abort().unwrap();
                map = committed.clone();
            }
            Op::Minimize => connection.minimize(),
            Op::Switch => {
                connection.abort().unwrap();
                map = committed.clone();
                at = 1 - at;
                connections[at].begin().unwrap();
                let tree = connections[at].get::<BTree<Small<F>>>(oid);
                let checked = tree.check().unwrap();
                assert_eq!((checked.keys, tree.count().unwrap()), (map.len(), map.len()));
            }
        }
    }
}

/// By their kinds of keys and of values: see the feature.
macro_rules! every_family {
    ($($family:ident)*) => { $(
        let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
        let done = runner.run(&ops(), |ops| {
            play::<$family>(&ops);
            Ok(())
        });
        done.unwrap_or_else(|error| panic!("{}: {error}", stringify!($family)));
    )* };
}

#[test]
fn a_tree_is_a_map() {
    every_family!(OO II IF LL UU QQ fs);
    #[cfg(feature = "every-family")]
    every_family!(OI OU OL OQ IO LO UO QO IU LF LQ UI UF QL QF);
}

/// Two connections change different keys at the same time. If the second commit is merged or touches other leaves, the
/// tree has both; otherwise it is a conflict, and the tree has the first.
fn together<F: Family>(start: &BTreeSet<u16>, changes: &[Vec<(u16, bool)>; 2]) -> bool {
    let (_storage, database) = database();
    let connections = [database.connect().unwrap(), database.connect().unwrap()];
    let tree = connections[0].make(TreeSet::<Small<F>>::default());
    connections[0].root::<PersistentMapping>().change(|root| root.insert("tree", &tree)).unwrap();
    for &key in start {
        assert!(tree.add(content::<F::Key>(key)).unwrap());
    }
    connections[0].commit().unwrap();
    let oid = tree.oid().unwrap();
    connections[1].begin().unwrap();
    let mut models = [start.clone(), start.clone()];
    let change = |at: usize, model: &mut BTreeSet<u16>| {
        let tree = connections[at].get::<TreeSet<Small<F>>>(oid);
        for &(key, is_added) in &changes[at] {
            // Keys of the two are different.
            let key = 2 * key + at as u16;
            let done = match is_added {
                true => tree.add(content::<F::Key>(key)).unwrap() == model.insert(key),
                false => tree.discard(&content(key)).unwrap() == model.remove(&key),
            };
            assert!(done);
        }
    };
    let [first, second] = &mut models;
    change(0, first);
    change(1, second);
    connections[0].commit().unwrap();
    let merged = match connections[1].commit() {
        Ok(_) => true,
        Err(error) => {
            assert!(error.is_conflict(), "{error}");
            connections[1].abort().unwrap();
            false
        }
    };
    let mut wanted = models[0].clone();
    if merged {
        for &(key, is_added) in &changes[1] {
            let key = 2 * key + 1;
            if is_added {
                wanted.insert(key)
            } else {
                wanted.remove(&key)
            };
        }
    }
    for connection in &connections {
        connection.begin().unwrap();
        let tree = connection.get::<TreeSet<Small<F>>>(oid);
        tree.check().unwrap();
        let found: Vec<Value> = tree.keys().map(|key| key.unwrap().write()).collect();
        assert_eq!(found, wanted.iter().map(|&key| content::<F::Key>(key).write()).collect::<Vec<_>>());
    }
    merged
}

#[test]
fn changes_at_the_same_time_are_both_there_or_a_conflict() {
    let changes = || proptest::collection::vec((0..30_u16, any::<bool>()), 1..4);
    let strategy = (proptest::collection::btree_set(0..60_u16, 0..40), changes(), changes());
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    let merged = std::cell::Cell::new((0, 0));
    runner
        .run(&strategy, |(start, one, other)| {
            let is_merged = together::<OO>(&start, &[one.clone(), other.clone()]);
            assert_eq!(together::<LL>(&start, &[one, other]), is_merged);
            let (yes, no) = merged.get();
            merged.set(if is_merged { (yes + 1, no) } else { (yes, no + 1) });
            Ok(())
        })
        .unwrap();
    let (yes, no) = merged.get();
    assert!(yes > 50 && no > 50, "{yes} merged, {no} conflicts");
}

/// A mapping and a set of the same keys.
type Operands<F> = (Ref<BTree<Small<F>>>, Ref<TreeSet<Small<F>>>);

/// The operands of set operations, as trees and as leaves.
fn operands<F: Family>(connection: &Connection, items: &BTreeMap<u16, u16>) -> Operands<F> {
    let map = connection.make(BTree::<Small<F>>::default());
    let set = connection.make(TreeSet::<Small<F>>::default());
    for (&key, &value) in items {
        map.set(content::<F::Key>(key), content::<F::Value>(value)).unwrap();
        set.add(content::<F::Key>(key)).unwrap();
    }
    (map, set)
}

fn numbers<S: Shape>(keys: &vellum_object::btree::Leaf<S>) -> Vec<Value> {
    keys.keys().iter().map(Content::write).collect()
}

fn algebra<F: Family>(one: &BTreeMap<u16, u16>, other: &BTreeMap<u16, u16>) {
    let (_storage, database) = database();
    let connection = database.connect().unwrap();
    let (map, set) = operands::<F>(&connection, one);
    let (other_map, other_set) = operands::<F>(&connection, other);
    let (left, right): (BTreeSet<u16>, BTreeSet<u16>) =
        (one.keys().copied().collect(), other.keys().copied().collect());
    let values = |keys: Vec<u16>| keys.into_iter().map(|key| content::<F::Key>(key).write()).collect::<Vec<_>>();
    let all = values(left.union(&right).copied().collect());
    let both = values(left.intersection(&right).copied().collect());
    let only = values(left.difference(&right).copied().collect());
    fn each<F: Family>(
        one: &impl Items<Shape: Shape<Key = F::Key>>,
        other: &impl Items<Shape: Shape<Key = F::Key>>,
        [all, both, only]: [&[Value]; 3],
    ) {
        assert_eq!(numbers(&union::<F>(one, other).unwrap()), all);
        assert_eq!(numbers(&intersection::<F>(one, other).unwrap()), both);
        assert_eq!(numbers(&difference(one, other).unwrap()), only);
    }
    each::<Small<F>>(&map, &other_map, [&all, &both, &only]);
    each::<Small<F>>(&map, &other_set, [&all, &both, &only]);
    each::<Small<F>>(&set, &union::<Small<F>>(&other_map, &other_map).unwrap(), [&all, &both, &only]);
    let rest = difference(&map, &other_set).unwrap();
    for (key, value) in rest.iter() {
        assert_eq!(map.get(key).unwrap().map(|value| value.write()), Some(value.write()));
    }
}

#[test]
fn set_operations_are_those_of_sets() {
    let items = || proptest::collection::btree_map(0..40_u16, 0..9_u16, 0..30);
    let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    runner
        .run(&(items(), items()), |(one, other)| {
            algebra::<OO>(&one, &other);
            algebra::<IF>(&one, &other);
            algebra::<fs>(&one, &other);
            weights(&one, &other);
            Ok(())
        })
        .unwrap();
}

fn weights(one: &BTreeMap<u16, u16>, other: &BTreeMap<u16, u16>) {
    let (_storage, database) = database();
    let connection = database.connect().unwrap();
    let (map, set) = operands::<II>(&connection, one);
    let (other_map, other_set) = operands::<II>(&connection, other);
    let weighed = |in_one: bool, key: &u16| -> Option<i32> {
        let (items, weight) = if in_one { (one, 3) } else { (other, -2) };
        items.get(key).map(|value| i32::from(*value) * weight)
    };
    let keys: BTreeSet<u16> = one.keys().chain(other.keys()).copied().collect();
    let all: Vec<(i32, i32)> = keys
        .iter()
        .map(|key| (i32::from(*key), weighed(true, key).unwrap_or(0) + weighed(false, key).unwrap_or(0)))
        .collect();
    let both: Vec<(i32, i32)> =
        keys.iter().filter_map(|key| Some((i32::from(*key), weighed(true, key)? + weighed(false, key)?))).collect();
    let items = |found: Weighted<Small<II>>| match found {
        Weighted::Bucket(bucket) => bucket.iter().map(|(key, value)| (*key, *value)).collect::<Vec<_>>(),
        Weighted::Set(set) => panic!("{set:?}"),
    };
    let (weight, found) = weighted_union::<Small<II>, _, _>(&map, &other_map, (3, -2)).unwrap();
    assert_eq!((weight, items(found)), (1, all));
    let (weight, found) = weighted_intersection::<Small<II>, _, _>(&map, &other_map, (3, -2)).unwrap();
    assert_eq!((weight, items(found)), (1, both));
    // A set counts as 1 beside a mapping; two sets have no values.
    let (_, found) = weighted_intersection::<Small<II>, _, _>(&map, &other_set, (3, -2)).unwrap();
    let wanted: Vec<(i32, i32)> = keys
        .iter()
        .filter(|key| other.contains_key(key))
        .filter_map(|key| Some((i32::from(*key), weighed(true, key)? - 2)))
        .collect();
    assert_eq!(items(found), wanted);
    let (weight, found) = weighted_intersection::<Small<II>, _, _>(&set, &other_set, (3, -2)).unwrap();
    assert!(matches!((weight, found), (1, Weighted::Set(_))));
    let (weight, found) = weighted_union::<Small<II>, _, _>(&set, &other_set, (3, -2)).unwrap();
    let Weighted::Set(found) = found else { panic!("{found:?}") };
    assert_eq!((weight, found.len()), (1, keys.len()));
    let many = multiunion::<Small<II>>(&[&set, &other_set, &set]).unwrap();
    assert_eq!(many.keys(), found.keys());
}

/// Whole numbers wrap around, as in C.
#[test]
fn weighted_numbers_wrap_around() {
    let (_storage, database) = database();
    let connection = database.connect().unwrap();
    let map = connection.make(BTree::<II>::default());
    map.set(1, i32::MAX).unwrap();
    let (_, found) = weighted_union::<II, _, _>(&map, &map, (1, 1)).unwrap();
    assert!(matches!(found, Weighted::Bucket(bucket) if bucket.values() == [-2]));
}
