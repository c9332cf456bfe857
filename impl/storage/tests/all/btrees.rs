//! The merge of two changes to one collection of the BTrees package. `cargo xtask peers` asks the real package the
//! same, and much more; these tests need no Python.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vellum_pickle::{ClassName, Record, Reference, Value, View, class_of, decode_plain, encode, references};
use vellum_storage::{BTrees, Bytes, Contested, NoResolver, Oid, Resolver, Resolvers};

/// The record of an object of a class, with this pickle as its state.
fn record(module: &str, name: &str, state: &[u8]) -> Vec<u8> {
    [b"\x80\x03c", module.as_bytes(), b"\n", name.as_bytes(), b"\nq\0.", state].concat()
}

fn resolve(ancestor: &[u8], committed: &[u8], new: &[u8]) -> Option<Bytes> {
    Resolvers::built_in().resolve(Contested { oid: Oid(1), ancestor, committed, new })
}

/// The state in a record, if it is plain.
fn state(record: &[u8]) -> Value {
    let class = record.windows(2).position(|two| two == b".\x80").expect("a second pickle") + 1;
    decode_plain(&record[class..]).expect("a plain state").0
}

/// Reads items such as `a1 b2`, or `a b` for a set.
fn items(text: &str) -> Value {
    let item = |item: &str| {
        let (key, value) = item.split_at(1);
        [Some(Value::Text(key.to_owned())), value.parse().ok().map(Value::Int)]
    };
    Value::Tuple(text.split_whitespace().flat_map(item).flatten().collect())
}

/// Writes them again.
fn text(items: &Value) -> String {
    let Value::Tuple(parts) = items else { panic!("{items:?} are no items") };
    let mut text = String::new();
    for part in parts {
        match part {
            Value::Text(key) if text.is_empty() => text += key,
            Value::Text(key) => text.extend([" ", key]),
            Value::Int(value) => text += &value.to_string(),
            other => panic!("{other:?} is neither key nor value"),
        }
    }
    text
}

fn tuple(value: Value) -> Value {
    Value::Tuple(vec![value])
}

/// The merged items of a collection: a bucket, a set, or a tree that is no larger than one of these.
fn merged(name: &str, all: [&str; 3]) -> Option<String> {
    let in_tree = name.contains("Tree");
    let [ancestor, committed, new] = all.map(|text| {
        let bucket = tuple(items(text));
        let state = if in_tree { tuple(tuple(bucket)) } else { bucket };
        record("BTrees.OOBTree", name, &encode(&state))
    });
    let merged = resolve(&ancestor, &committed, &new)?;
    assert_eq!(class_of(&merged).unwrap(), class_of(&new).unwrap());
    let mut state = state(&merged);
    for _ in 0..if in_tree { 3 } else { 1 } {
        let Value::Tuple(mut parts) = state else { panic!("no tuple in {merged:?}") };
        assert_eq!(parts.len(), 1);
        state = parts.remove(0);
    }
    Some(text(&state))
}

#[test]
fn the_rules_for_items_with_values() {
    let table = [
        // ancestor, committed, new, merged
        ("a1 b2 d4", "a1 b2 c3 d4", "a1 b9 d4", Some("a1 b9 c3 d4")),
        ("a1", "a1 c3", "a1 b2", Some("a1 b2 c3")),
        ("b2", "a1 b2", "b2 c3", Some("a1 b2 c3")),
        ("a1 b2 c3", "a1 c3", "a1 b2 c3", Some("a1 c3")),
        ("a1 b2 c3", "a1 b2", "a1 b2 c3 d4", Some("a1 b2 d4")),
        ("a1 b2 c3 d4", "a1 b2 d4", "a1 c3 d4", Some("a1 d4")),
        ("a1 b2 c3 d4", "a1 b2 c3", "a1 c3 d4", Some("a1 c3")),
        ("a1 b2", "a5 b2", "a1 b6", Some("a5 b6")),
        ("a1", "a1", "a1", Some("a1")),
        // An ancestor that was empty, and so all is new.
        ("", "a1", "b2", Some("a1 b2")),
        // The same change by both: only one that sets the old value is no conflict.
        ("a1 b2", "a1 b7", "a1 b2", Some("a1 b7")),
        ("a1 b2", "a1 b7", "a1 b7", None),
        ("a1 b2", "a1 b7", "a1 b8", None),
        ("a1", "a1 b2", "a1 b2", None),
        ("a1 c3", "a1 b2 c3", "a1 b2 c3", None),
        ("a1 b2 c3", "a1 c3", "a1 c3", None),
        ("a1 b2", "a1", "a1", None),
        // Taken out by one, changed by the other.
        ("a1 b2 c3", "a1 c3", "a1 b9 c3", None),
        ("a1 b2", "a1 b9", "a1", None),
        // The first key.
        ("a1 b2", "b2", "a1 b2 c3", None),
        ("a1 b2", "a1 b2 c3", "b2", None),
        ("b2 c3", "a1 c3", "b2 c3", Some("a1 c3")),
        // Nothing is left.
        ("a1", "", "a1 b2", None),
        ("a1", "a1 b2", "", None),
        ("a1 b2", "a1", "b2", None),
    ];
    for (ancestor, committed, new, wanted) in table {
        for name in ["OOBucket", "OOBTree", "OOBucketPy"] {
            let merged = merged(name, [ancestor, committed, new]);
            assert_eq!(merged.as_deref(), wanted, "{name} of `{ancestor}`, `{committed}`, `{new}`");
        }
    }
}

#[test]
fn the_rules_for_sets() {
    let table = [
        ("a c", "a b c", "a c d", Some("a b c d")),
        ("a b c", "a c", "a b c d", Some("a c d")),
        ("a b c d", "a c d", "a b c", Some("a c")),
        ("a", "a b", "a b", None),
        ("a b", "a", "a", None),
        ("a b", "b", "a b c", None),
        ("a", "a b", "", None),
    ];
    for (ancestor, committed, new, wanted) in table {
        for name in ["OOSet", "OOTreeSet"] {
            let merged = merged(name, [ancestor, committed, new]);
            assert_eq!(merged.as_deref(), wanted, "{name} of `{ancestor}`, `{committed}`, `{new}`");
        }
    }
}

#[test]
fn an_empty_tree_is_none_and_a_large_one_is_not_merged() {
    let tree = |state: &[u8]| record("BTrees.OOBTree", "OOTreeSet", state);
    let with = |text: &str| tree(&encode(&tuple(tuple(tuple(items(text))))));
    let empty = tree(b"\x80\x03N.");
    assert_eq!(resolve(&empty, &with("a"), &with("b")).map(|merged| state(&merged)), Some(state(&with("a b"))));
    assert_eq!(resolve(&with("a"), &with("a b"), &empty), None);
    let large = tree(&encode(&Value::Tuple(vec![tuple(tuple(items("a"))), Value::Int(5)])));
    assert_eq!(resolve(&large, &large, &large), None);
}

#[test]
fn a_length_is_added_up() {
    let length = |value: &Value| record("BTrees.Length", "Length", &encode(value));
    let huge = || Value::BigInt(vec![0, 0, 0, 0, 0, 0, 0, 0, 1]);
    for (ancestor, committed, new, wanted) in [
        (Value::Int(10), Value::Int(12), Value::Int(7), Some(Value::Int(9))),
        (Value::Int(0), Value::Int(i64::MAX), Value::Int(1), Some(Value::BigInt(vec![0, 0, 0, 0, 0, 0, 0, 0x80, 0]))),
        (huge(), huge(), Value::Int(3), Some(Value::Int(3))),
        (Value::Bool(true), Value::Bool(true), Value::Bool(true), Some(Value::Int(1))),
        (Value::Int(1), Value::Float(1.5), Value::Int(2), Some(Value::Float(2.5))),
        (Value::None, Value::Int(1), Value::Int(2), None),
        (Value::Int(1), Value::Text("2".into()), Value::Int(2), None),
    ] {
        let merged = resolve(&length(&ancestor), &length(&committed), &length(&new));
        assert_eq!(merged.map(|merged| state(&merged)), wanted, "{ancestor:?}, {committed:?}, {new:?}");
    }
}

/// A pickle of a bucket whose items are given as opcodes.
fn bucket(items: &[u8], next: &[u8]) -> Vec<u8> {
    let close: &[u8] = if next.is_empty() { b"\x85." } else { b"\x86." };
    let state = [b"\x80\x03(", items, b"t", next, close].concat();
    record("BTrees.IOBTree", "IOBucket", &state)
}

/// The opcodes of a reference: an oid that ends so, and the class that the class pickle names.
fn reference(oid: u8) -> Vec<u8> {
    [b"C\x08\0\0\0\0\0\0\0", &[oid][..], b"h\0\x86Q"].concat()
}

#[test]
fn references_are_equal_or_cannot_be_compared() {
    let item = |key: u8, oid: u8| [b"K", &[key][..], &reference(oid)].concat();
    let with = |items: &[(u8, u8)]| bucket(&items.iter().flat_map(|&(k, o)| item(k, o)).collect::<Vec<_>>(), b"");
    // The same objects as before, and one put in by each.
    let merged = resolve(&with(&[(1, 7)]), &with(&[(1, 7), (2, 8)]), &with(&[(1, 7), (3, 7)])).expect("no conflict");
    let oids: Vec<u64> = references(&merged).unwrap().iter().filter_map(oid).collect();
    assert_eq!(oids, [7, 8, 7]);
    // Another object instead: whether it is equal to the first only its class knows.
    assert_eq!(resolve(&with(&[(1, 7)]), &with(&[(1, 8)]), &with(&[(1, 7), (3, 7)])), None);
}

fn oid(reference: &Reference<'_>) -> Option<u64> {
    match reference {
        Reference::Strong { oid, class: Some(class) } if class.name == b"IOBucket" => Some(*oid),
        _ => None,
    }
}

#[test]
fn a_bucket_that_was_split_is_a_conflict() {
    let [ancestor, committed, new] = [&b"K\x01K\x01"[..], b"K\x01K\x01K\x02K\x02", b"K\x01K\x01K\x03K\x03"]
        .map(|items| bucket(items, &reference(9)));
    let merged = resolve(&ancestor, &committed, &new).expect("no conflict");
    assert_eq!(references(&merged).unwrap().iter().filter_map(oid).collect::<Vec<_>>(), [9]);
    for other in [reference(8), vec![], b"N".to_vec(), b"C\x08\0\0\0\0\0\0\0\x09Q".to_vec()] {
        assert_eq!(resolve(&ancestor, &committed, &bucket(b"K\x01K\x01", &other)), None, "{other:?}");
        assert_eq!(resolve(&ancestor, &bucket(b"K\x01K\x01", &other), &new), None, "{other:?}");
    }
}

#[test]
fn keys_and_values_are_compared_as_python_compares_them_or_not_at_all() {
    // One side leaves a value alone; what the other makes of it is taken if the two can be compared.
    let text = |text: &str| encode(&Value::Text(text.to_owned()))[2..][..text.len() + 5].to_vec();
    let one = |opcodes: &[u8]| bucket(&[b"K\x01", opcodes].concat(), b"");
    let table: [(&[u8], &[u8], bool); 17] = [
        (b"K\x01", b"K\x02", true),
        (b"K\x01", b"G\x40\x08\0\0\0\0\0\0", true),
        (b"K\x01", b"\x8a\x09\0\0\0\0\0\0\0\0\x01", true),
        (b"K\x01", &text("one"), false),
        (b"K\x01", b"N", true),
        (b"N", b"K\x01", true),
        (&text("a"), &text("b"), true),
        (b"C\x01a", b"C\x01b", true),
        (b"C\x01a", &text("a"), false),
        (b"K\x01K\x02\x86", b"K\x01K\x03\x86", true),
        (b"K\x01N\x86", b"K\x01K\x03\x86", false),
        (b"]K\x01a", b"]K\x02a", true),
        (b"]", b")", false),
        (b"}", b"}", false),
        // The `str` of Python 2 with text, which is the same if it is ASCII.
        (b"U\x01a", &text("b"), true),
        (b"U\x01\xe9", &text("b"), false),
        (b"cshop\nThing\n)\x81", b"cshop\nThing\n)\x81", false),
    ];
    for (before, after, can) in table {
        let merged = resolve(&one(before), &one(after), &one(before));
        assert_eq!(merged.is_some(), can, "{} and {}", before.escape_ascii(), after.escape_ascii());
    }
}

#[test]
fn what_is_kept_as_a_number_is_read_and_written_as_one() {
    let record_of =
        |module: &str, name: &str, items: Vec<Value>| record(module, name, &encode(&tuple(Value::Tuple(items))));
    let floats = |items| record_of("BTrees.IFBTree", "IFBucket", items);
    let (one, two, three) = (Value::Int(1), Value::Int(2), Value::Int(3));
    let ancestor = floats(vec![Value::Bool(true), Value::Float(0.1)]);
    let committed = floats(vec![one.clone(), Value::Float(0.1), two.clone(), two.clone()]);
    let new = floats(vec![one.clone(), Value::Float(0.1), three.clone(), three.clone()]);
    let merged = resolve(&ancestor, &committed, &new).expect("no conflict");
    let float = |number: f64| Value::Float(number);
    let wanted = [one.clone(), float(0.1_f32.into()), two.clone(), float(2.0), three.clone(), float(3.0)];
    assert_eq!(state(&merged), tuple(Value::Tuple(wanted.to_vec())));

    for (letter, value, fits) in [
        ("I", Value::Int(i32::MAX.into()), true),
        ("I", Value::Int(i64::from(i32::MAX) + 1), false),
        ("U", Value::Int(u32::MAX.into()), true),
        ("U", Value::Int(-1), false),
        ("L", Value::Int(i64::MIN), true),
        ("L", Value::BigInt(vec![0, 0, 0, 0, 0, 0, 0, 0x80, 0]), false),
        ("Q", Value::BigInt(vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]), true),
        ("Q", Value::Int(-1), false),
        ("I", Value::Float(1.0), false),
        ("L", Value::None, false),
    ] {
        let (module, name) = (format!("BTrees.O{letter}BTree"), format!("O{letter}Bucket"));
        let with = |items| record_of(&module, &name, items);
        let old = with(vec![one.clone(), one.clone()]);
        let new = with(vec![one.clone(), one.clone(), two.clone(), value.clone()]);
        let merged = resolve(&old, &old, &new).map(|merged| state(&merged));
        assert_eq!(merged, fits.then(|| state(&new)), "{name} with {value:?}");
    }
}

#[test]
fn the_class_pickle_is_kept_but_for_the_true_name_of_the_class() {
    let state = encode(&tuple(items("a1")));
    for (class, wanted) in [
        (&b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\0."[..], Some(&b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\0."[..])),
        (b"\x80\x03cBTrees._OOBTree\nOOBucket\n.", Some(b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\0.")),
        (b"\x80\x03cBTrees.OOBTree\nBucket\n.", Some(b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\0.")),
        (b"\x80\x03cBTrees.OOBTree\nOOBucket\nN\x86.", Some(b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\0N\x86q\x01.")),
        // Written before protocol 3, for a reader that may know nothing newer.
        (b"(cBTrees.OOBTree\nOOBucket\nNt.", Some(b"\x80\x02cBTrees.OOBTree\nOOBucket\nq\0N\x86q\x01.")),
        (b"\x80\x03cBTrees.OOBTree\nOOBucket\n\x85.", None),
        (b"\x80\x03X\x05\0\0\0tupleX\x01\0\0\0x\x86.", None),
        (b"\x80\x03cshop.models\nStock\n.", None),
    ] {
        let record = [class, &state].concat();
        let merged = resolve(&record, &record, &record);
        assert_eq!(merged.as_ref().map(|merged| merged.starts_with(wanted.unwrap_or(b"?"))), wanted.map(|_| true));
    }
}

#[test]
fn a_resolver_can_be_added_for_a_class_and_comes_first() {
    let stock = |text| record("shop.models", "Stock", &encode(&tuple(items(text))));
    let (ancestor, committed, new) = (stock("a1"), stock("a1 b2"), stock("a1 c3"));
    let contested = Contested { oid: Oid(1), ancestor: &ancestor, committed: &committed, new: &new };
    assert_eq!(Resolvers::built_in().resolve(contested), None);
    let bucket = BTrees::like("BTrees.OOBTree", "OOBucket").expect("a class of the package");
    let merged = Resolvers::none().with("shop.models", "Stock", bucket).resolve(contested).expect("no conflict");
    assert_eq!(class_of(&merged).unwrap(), ClassName { module: "shop.models".into(), name: "Stock".into() });
    assert_eq!(state(&merged), tuple(items("a1 b2 c3")));
    assert!(BTrees::like("BTrees.OOBTree", "Shop").is_none());

    let length = |value| record("BTrees.Length", "Length", &encode(&Value::Int(value)));
    let (one, two) = (length(1), length(2));
    let contested = Contested { oid: Oid(1), ancestor: &one, committed: &two, new: &two };
    assert!(Resolvers::built_in().resolve(contested).is_some());
    assert_eq!(Resolvers::none().resolve(contested), None);
    assert_eq!(Resolvers::built_in().with("BTrees.Length", "Length", NoResolver).resolve(contested), None);
}

#[test]
fn states_that_no_collection_has_are_conflicts() {
    let good = tuple(items("a1 b2"));
    let list = Value::List(vec![Value::Int(1)]);
    let odd = [
        Value::Int(5),
        Value::Text("state".into()),
        Value::Tuple(vec![]),
        tuple(Value::None),
        tuple(Value::Int(5)),
        tuple(list.clone()),
        list,
        Value::Tuple(vec![items("a1"), Value::None, Value::None]),
        Value::Tuple(vec![items("a1"), Value::Int(9)]),
        Value::Dict(vec![]),
    ];
    for name in ["OOBucket", "OOSet", "OOBTree", "OOTreeSet"] {
        let wrap = |state: &Value| match name {
            "OOBucket" | "OOSet" => state.clone(),
            _ => tuple(tuple(state.clone())),
        };
        let record_of = |state: &Value| record("BTrees.OOBTree", name, &encode(state));
        let good = record_of(&wrap(&good));
        assert!(resolve(&good, &good, &good).is_some());
        for state in odd.iter().map(wrap).chain([Value::Int(5), tuple(Value::None), tuple(Value::Tuple(vec![]))]) {
            let odd = record_of(&state);
            for all in [[&odd, &good, &good], [&good, &odd, &good], [&good, &good, &odd]] {
                assert_eq!(resolve(all[0], all[1], all[2]), None, "{name} with {state:?}");
            }
        }
    }
}

/// A pickle of a few hundred bytes with tuples of tuples, each holding the one before it twice.
fn bomb(levels: u8) -> Vec<u8> {
    let mut opcodes = b"K\x01\x85q\x01".to_vec();
    for level in 1..levels {
        opcodes.extend([b'0', b'h', level, b'h', level, 0x86, b'q', level + 1]);
    }
    opcodes
}

#[test]
fn what_is_shared_is_not_compared_for_ever_nor_written_out() {
    let one = |opcodes: &[u8]| bucket(&[b"K\x01", opcodes].concat(), b"");
    let shared = one(&bomb(60));
    assert_eq!(resolve(&shared, &shared, &shared), None, "comparing takes 2^60 steps");
    let put_in = |opcodes: &[u8]| bucket(&[b"K\x01K\x01K\x02", opcodes].concat(), b"");
    let old = one(b"K\x01");
    let merged = resolve(&old, &old, &put_in(&bomb(60))).expect("nothing to compare");
    assert!(merged.len() < 2 * put_in(&bomb(60)).len());
    let deep = [vec![b'('; 100_000], vec![b't'; 100_000]].concat();
    assert_eq!(resolve(&one(&deep), &one(&deep), &one(&deep)), None);
    assert!(resolve(&old, &old, &put_in(&deep)).is_some());
}

type Items = BTreeMap<i64, i64>;

fn of_map(items: &Items) -> Vec<u8> {
    let items = items.iter().flat_map(|(&key, &value)| [Value::Int(key), Value::Int(value)]).collect();
    record("BTrees.LLBTree", "LLBucket", &encode(&tuple(Value::Tuple(items))))
}

fn to_map(record: &[u8]) -> Items {
    let Value::Tuple(parts) = state(record) else { panic!("no tuple") };
    let Value::Tuple(items) = &parts[0] else { panic!("no items") };
    items.chunks(2).filter_map(|pair| Some((pair[0].as_int()?, pair[1].as_int()?))).collect()
}

/// The change of a key by a transaction: another value, or its removal.
type Changes = BTreeMap<i64, Option<i64>>;

fn apply(items: &Items, changes: &Changes) -> Items {
    let mut items = items.clone();
    for (&key, &change) in changes {
        match change {
            Some(value) => _ = items.insert(key, value),
            None => _ = items.remove(&key),
        }
    }
    items
}

proptest! {
    #[test]
    fn disjoint_changes_are_both_made_and_in_whatever_order(
        ancestor in prop::collection::btree_map(1..60_i64, 0..5_i64, 0..20),
        changes in prop::collection::btree_map(1..60_i64, (any::<bool>(), prop::option::of(5..9_i64)), 0..12),
    ) {
        // The first key is neither's, and so there is always something left.
        let ancestor: Items = [(0, 0)].into_iter().chain(ancestor).collect();
        let of = |side| -> Changes {
            changes.iter().filter(|(_, (whose, _))| *whose == side).map(|(&key, &(_, change))| (key, change)).collect()
        };
        let (ours, theirs) = (of(true), of(false));
        let (committed, new) = (apply(&ancestor, &theirs), apply(&ancestor, &ours));
        let wanted = apply(&committed, &ours);
        prop_assert_eq!(&wanted, &apply(&new, &theirs));
        let [ancestor, committed, new] = [ancestor, committed, new].map(|items| of_map(&items));
        let merged = resolve(&ancestor, &committed, &new);
        prop_assert_eq!(merged.as_deref().map(to_map), Some(wanted));
        prop_assert_eq!(merged, resolve(&ancestor, &new, &committed));
    }

    #[test]
    fn a_key_that_both_changed_is_a_conflict(
        ancestor in prop::collection::btree_map(1..20_i64, 0..5_i64, 1..10),
        key in 1..20_i64,
        changes in [prop::option::of(5..7_i64), prop::option::of(5..7_i64)],
    ) {
        let ancestor: Items = [(0, 0)].into_iter().chain(ancestor).collect();
        let [committed, new] = changes.map(|change| apply(&ancestor, &Changes::from([(key, change)])));
        prop_assume!(committed != ancestor && new != ancestor);
        prop_assert_eq!(resolve(&of_map(&ancestor), &of_map(&committed), &of_map(&new)), None);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_the_bytes_are_nothing_panics_and_what_is_merged_can_be_read(
        records in [0..SEEDS, 0..SEEDS, 0..SEEDS],
        mutations in prop::collection::vec((0..3_usize, any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..6),
    ) {
        let seeds = seeds();
        let mut records = records.map(|n| seeds[n].clone());
        for (which, at, byte, how) in mutations {
            let record = &mut records[which];
            let at = at.index(record.len());
            match how {
                0 => record[at] = byte,
                1 => record.insert(at, byte),
                _ => record.truncate(at.max(1)),
            }
        }
        if let Some(merged) = resolve(&records[0], &records[1], &records[2]) {
            let record = Record::read(&merged).expect("the merged record can be read");
            prop_assert!(matches!(record.class().view(), View::Class(_) | View::Tuple(_)));
            let is_bad = |found: &Reference<'_>| matches!(found, Reference::Bad { .. });
            prop_assert!(!references(&merged).unwrap().iter().any(is_bad));
        }
    }
}

const SEEDS: usize = 7;

/// Records to start from.
fn seeds() -> [Vec<u8>; SEEDS] {
    [
        bucket(b"K\x01K\x01K\x02X\x01\0\0\0aK\x04C\x01a", &reference(9)),
        bucket(&[b"K\x01K\x01K\x02X\x01\0\0\0aK\x03", &reference(7)[..]].concat(), &reference(9)),
        bucket(&[b"K\x01K\x01K\x02X\x01\0\0\0aK\x05", &bomb(9)[..]].concat(), &reference(9)),
        record("BTrees.OOBTree", "OOBTree", &encode(&tuple(tuple(tuple(items("a1 b2 c3")))))),
        record("BTrees.OOBTree", "OOTreeSet", b"(((Va\np1\nS'b'\nI3\nF1.5\nL5L\n(lp2\nPabcdefgh\ntttt."),
        record("BTrees.fsBTree", "fsBucket", b"\x80\x03(C\x02abC\x06abcdefC\x02acC\x06abcdeft\x85."),
        record("BTrees.Length", "Length", b"\x80\x03\x8a\x09\0\0\0\0\0\0\0\0\x01."),
    ]
}

/// A resolver by itself, and those in a register, see through compressed records. A merged record has the form of the
/// new one.
#[test]
fn compressed_records_are_merged_as_plain_ones() {
    #[derive(Debug)]
    struct Sees;
    impl Resolver for Sees {
        fn resolve(&self, contested: Contested<'_>) -> Option<Bytes> {
            let all = [contested.ancestor, contested.committed, contested.new];
            all.iter().all(|record| Record::read(record).is_ok()).then(|| contested.new.to_vec().into())
        }
    }
    let bucket = |module, name, texts: &[&str]| {
        let items = texts.iter().flat_map(|text| [Value::Text(text.repeat(60)), Value::Int(1)]).collect();
        record(module, name, &encode(&tuple(Value::Tuple(items))))
    };
    let registered = Resolvers::built_in().with("shop.models", "Stock", Sees);
    let alone: &dyn Resolver = &BTrees::new();
    for (resolver, module, name) in [
        (alone, "BTrees.OOBTree", "OOBucket"),
        (&registered, "BTrees.OOBTree", "OOBucket"),
        (&registered, "shop.models", "Stock"),
    ] {
        let plain = [&["a", "b"][..], &["a", "b", "c"], &["a", "b", "d"]].map(|texts| bucket(module, name, texts));
        let resolve = |[ancestor, committed, new]: [&[u8]; 3]| {
            resolver.resolve(Contested { oid: Oid(1), ancestor, committed, new })
        };
        let wanted = resolve(plain.each_ref().map(Vec::as_slice)).expect("a merge");
        for forms in 0..8 {
            let stored: Vec<Vec<u8>> = (0..3)
                .map(|n| match forms >> n & 1 {
                    0 => plain[n].clone(),
                    _ => vellum_pickle::compressed(&plain[n]).expect("it is long enough"),
                })
                .collect();
            let merged = resolve([&stored[0], &stored[1], &stored[2]]).expect("a merge");
            assert_eq!(vellum_pickle::is_compressed(&merged), forms & 4 != 0, "{name}, {forms:03b}");
            assert_eq!(vellum_pickle::plain(&merged).unwrap(), &wanted[..], "{name}, {forms:03b}");
        }
        let damaged = [b".z", plain[1].as_slice()].concat();
        assert_eq!(resolve([&plain[0], &damaged, &plain[2]]), None, "an unreadable record is a conflict");
        let encrypted = [b".e", plain[2].as_slice()].concat();
        assert_eq!(resolve([&plain[0], &plain[1], &encrypted]), None);
    }
}
