//! Trees that break a rule of theirs, each rule in turn: the named problem, and that no other is named. `cargo xtask
//! peers` asks the real package.

use vellum_pickle::{Value, encode};
use vellum_storage::{
    BTreeFinding, BTreesChecked, Bytes, MemoryStorage, Oid, Tid, TransactionMeta, Version, check_btrees,
};

/// Part of a state in the words of the pickle language.
fn int(number: i64) -> Vec<u8> {
    plain(&Value::Int(number))
}

fn text(text: &str) -> Vec<u8> {
    plain(&Value::Text(text.to_owned()))
}

fn plain(value: &Value) -> Vec<u8> {
    let pickle = encode(value);
    pickle[2..pickle.len() - 1].to_vec()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".to_vec(), items.concat(), b"t".to_vec()].concat()
}

/// A reference that names a class of the family.
fn to(oid: u64, class: &str) -> Vec<u8> {
    [b"C\x08".to_vec(), oid.to_be_bytes().to_vec(), global(class), b"\x86Q".to_vec()].concat()
}

fn global(class: &str) -> Vec<u8> {
    let module = match class.split_at(2) {
        ("OO", _) => "BTrees.OOBTree",
        ("II", _) => "BTrees.IIBTree",
        _ => "shop",
    };
    format!("c{module}\n{class}\n").into_bytes()
}

fn record(class: &str, state: &[u8]) -> Bytes {
    [b"\x80\x03", &global(class)[..], b".\x80\x03", state, b"."].concat().into()
}

/// The bucket of whole numbers with these keys.
fn bucket(keys: &[i64], next: Option<u64>) -> Bytes {
    let items: Vec<_> = keys.iter().flat_map(|&key| [int(key), int(7)]).collect();
    let state: Vec<_> = [tuple(&items)].into_iter().chain(next.map(|next| to(next, "IIBucket"))).collect();
    record("IIBucket", &tuple(&state))
}

/// A tree of whole numbers, with these children and the separators between them.
fn node(class: &str, children: &[u64], separators: &[i64], first: u64) -> Bytes {
    let mut items = Vec::new();
    for (place, child) in children.iter().enumerate() {
        items.extend((place > 0).then(|| int(separators[place - 1])));
        items.push(to(*child, class));
    }
    record("IIBTree", &tuple(&[tuple(&items), to(first, "IIBucket")]))
}

/// The database with these objects.
fn storage(objects: &[(u64, Bytes)]) -> MemoryStorage {
    let storage = MemoryStorage::new("trees");
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    for (oid, data) in objects {
        draft.store(Oid(*oid), Tid::ZERO, data.clone()).unwrap();
    }
    storage.vote(draft).unwrap().finish().unwrap();
    storage
}

fn check(objects: &[(u64, Bytes)]) -> (BTreesChecked, Vec<BTreeFinding>) {
    let (storage, mut found) = (storage(objects), Vec::new());
    let checked = check_btrees(&storage, &Version::TRUNK, &mut |_, _| (), &mut |finding| {
        found.push(finding);
        Ok(())
    });
    (checked.unwrap(), found)
}

/// The findings: the node, and the rule.
fn words(objects: &[(u64, Bytes)]) -> Vec<(u64, &'static str)> {
    check(objects).1.iter().map(|finding| (finding.node.0, finding.rule.word())).collect()
}

/// Two levels of nodes, four buckets: the root refers to tree 1, which has the nodes 2 and 3, and these the buckets 4
/// to 7.
fn healthy() -> Vec<(u64, Bytes)> {
    let root = [b"]".to_vec(), to(1, "IIBTree"), b"a".to_vec()].concat();
    vec![
        (0, record("Root", &root)),
        (1, node("IIBTree", &[2, 3], &[40], 4)),
        (2, node("IIBucket", &[4, 5], &[20], 4)),
        (3, node("IIBucket", &[6, 7], &[60], 6)),
        (4, bucket(&[1, 7, 9], Some(5))),
        (5, bucket(&[20, 31], Some(6))),
        (6, bucket(&[40, 52], Some(7))),
        (7, bucket(&[63], None)),
    ]
}

/// The same with some objects otherwise.
fn with(changes: &[(u64, Bytes)]) -> Vec<(u64, Bytes)> {
    let mut objects = healthy();
    for (oid, data) in changes {
        match objects.iter_mut().find(|(known, _)| known == oid) {
            Some(object) => object.1 = data.clone(),
            None => objects.push((*oid, data.clone())),
        }
    }
    objects
}

#[test]
fn a_tree_that_keeps_its_rules_has_nothing_to_tell() {
    let (checked, found) = check(&healthy());
    assert_eq!(found, []);
    assert_eq!(checked, BTreesChecked { trees: 1, nodes: 7, ..BTreesChecked::default() });
    // A tree that is empty, one with its bucket inside, one that does not name its first bucket, and buckets of their
    // own.
    let inside = tuple(&[tuple(&[tuple(&[tuple(&[int(1), int(2), int(3), int(4)])])])]);
    let unnamed = tuple(&[tuple(&[to(5, "IIBucket")])]);
    let objects = [
        (2, record("IIBTree", b"N")),
        (3, record("IIBTree", &inside)),
        (4, record("IIBTree", &unnamed)),
        (5, bucket(&[1], None)),
        (6, bucket(&[], None)),
        (7, record("IITreeSet", &tuple(&[tuple(&[tuple(&[tuple(&[int(1), int(2)])])])]))),
        (8, record("IIBTreePy", b"N")),
    ];
    let (checked, found) = check(&objects);
    assert_eq!(found, []);
    assert_eq!((checked.trees, checked.nodes, checked.alone), (5, 6, 1));
}

/// How a tree is broken, its objects, and the nodes and rules that are named.
type Case = (&'static str, Vec<(u64, Bytes)>, &'static [(u64, &'static str)]);

#[test]
fn each_broken_rule_is_named_where_it_is_broken() {
    let cases: [Case; 26] = [
        ("keys the wrong way round", with(&[(5, bucket(&[31, 20], Some(6)))]), &[(5, "order")]),
        ("a key twice", with(&[(5, bucket(&[20, 20], Some(6)))]), &[(5, "order")]),
        ("a key before its separator", with(&[(5, bucket(&[19, 31], Some(6)))]), &[(5, "below")]),
        ("a key at the separator behind", with(&[(4, bucket(&[1, 20], Some(5)))]), &[(4, "above")]),
        ("a key beyond the separator of the node above", with(&[(5, bucket(&[20, 40], Some(6)))]), &[(5, "above")]),
        ("a key before that of the node above", with(&[(6, bucket(&[39, 41], Some(7)))]), &[(6, "below")]),
        (
            "a separator beyond that of the node above",
            with(&[(2, node("IIBucket", &[4, 5], &[41], 4))]),
            &[(2, "above"), (5, "below")],
        ),
        (
            "separators the wrong way round",
            with(&[
                (3, node("IIBucket", &[6, 7, 8], &[80, 60], 6)),
                (7, bucket(&[63], Some(8))),
                (8, bucket(&[90], None)),
            ]),
            &[(3, "order"), (7, "below"), (7, "above")],
        ),
        ("a chain that ends too early", with(&[(5, bucket(&[20], None))]), &[(5, "next")]),
        ("a chain that leaves one out", with(&[(4, bucket(&[1], Some(6)))]), &[(4, "next")]),
        ("a chain that goes round", with(&[(7, bucket(&[63], Some(4)))]), &[(7, "next")]),
        ("a bucket that is its own next one", with(&[(5, bucket(&[20], Some(5)))]), &[(5, "next")]),
        ("a chain that goes on", with(&[(7, bucket(&[63], Some(8))), (8, bucket(&[70], None))]), &[(7, "next")]),
        ("another first bucket", with(&[(1, node("IIBTree", &[2, 3], &[40], 5))]), &[(1, "first_bucket")]),
        ("another first bucket below", with(&[(3, node("IIBucket", &[6, 7], &[60], 7))]), &[(3, "first_bucket")]),
        ("an empty bucket", with(&[(5, bucket(&[], Some(6)))]), &[(5, "empty_bucket")]),
        (
            "an empty bucket inside",
            vec![(1, record("IIBTree", &tuple(&[tuple(&[tuple(&[tuple(&[])])])])))],
            &[(1, "empty_bucket")],
        ),
        ("an empty node", with(&[(3, record("IIBTree", b"N"))]), &[(3, "empty_node"), (5, "next")]),
        ("a tree with no child", vec![(1, record("IIBTree", b"()Nt"))], &[(1, "empty_node")]),
        (
            "trees and buckets side by side",
            with(&[(1, mixed()), (3, record("Root", b"N")), (5, bucket(&[20, 31], Some(7)))]),
            &[(1, "mixed"), (7, "depth")],
        ),
        ("a bucket in two places", with(&[(3, node("IIBucket", &[5, 7], &[60], 5))]), &[(5, "two_parents")]),
        ("a node below itself", with(&[(3, node("IIBTree", &[3, 7], &[60], 6))]), &[(3, "two_parents"), (7, "class")]),
        (
            "trees that are below each other, and below nothing else",
            vec![(1, node("IIBTree", &[2], &[], 4)), (2, node("IIBTree", &[1], &[], 4))],
            &[(1, "two_parents")],
        ),
        ("a bucket that is not there", with(&[(3, node("IIBucket", &[6, 9], &[60], 6))]), &[(9, "missing")]),
        ("a bucket of another family", with(&[(5, record("OOBucket", &tuple(&[tuple(&[])])))]), &[(5, "class")]),
        (
            "a key of another family",
            with(&[(5, record("IIBucket", &tuple(&[tuple(&[text("a"), int(1)])])))]),
            &[(5, "state")],
        ),
    ];
    for (what, objects, expected) in cases {
        assert_eq!(words(&objects), expected, "{what}");
    }
}

/// The root with a tree and a bucket for its children.
fn mixed() -> Bytes {
    let items = [to(2, "IIBTree"), int(40), to(7, "IIBucket")];
    record("IIBTree", &tuple(&[tuple(&items), to(4, "IIBucket")]))
}

#[test]
fn what_is_found_says_what_it_is_about() {
    let (_, found) = check(&with(&[(5, bucket(&[20, 19, 18, 77], Some(5)))]));
    let messages: Vec<_> = found.iter().map(|finding| format!("{} {}", finding.node, finding.rule)).collect();
    assert_eq!(
        messages,
        [
            "0000000000000005 keys out of order: 19 is behind 20 (and 1 more)",
            "0000000000000005 key 19 is not found here: the keys below this node begin at 20 (and 1 more)",
            "0000000000000005 key 77 is not found here: the keys below this node end before 40",
            "0000000000000005 its next bucket is 0000000000000005, and not 0000000000000006, which follows; that leads back",
        ]
    );
    assert!(found.iter().all(|finding| finding.tree == Oid(1) && finding.class == "BTrees.IIBTree.IIBTree"));
}

#[test]
fn what_cannot_be_read_is_told_apart_from_what_is_broken() {
    for (data, word) in [("no record".into(), "unreadable"), (record("Orders", b"N"), "other_class")] {
        let (checked, found) = check(&with(&[(5, data)]));
        assert_eq!((found.len(), found[0].node, found[0].rule.word()), (1, Oid(5), word));
        assert_eq!((checked.faults, checked.untold), (0, 1));
    }
    let (checked, found) = check(&with(&[(9, "no record".into())]));
    assert_eq!((found.len(), checked.unreadable), (0, 1));
}

/// A bucket of any keys, alone.
fn keys(keys: &[Vec<u8>]) -> (u64, Vec<&'static str>) {
    let items: Vec<_> = keys.iter().flat_map(|key| [key.clone(), int(7)]).collect();
    let (checked, found) = check(&[(1, record("OOBucket", &tuple(&[tuple(&items)])))]);
    (checked.unordered, found.iter().map(|finding| finding.rule.word()).collect())
}

#[test]
fn keys_are_in_the_order_of_python() {
    let none = || b"N".to_vec();
    let float = |number: f64| plain(&Value::Float(number));
    let bytes = |bytes: &'static [u8]| plain(&Value::Bytes(Bytes::from_static(bytes)));
    let object = || b"cshop\nKey\n)\x81".to_vec();
    let fine = [
        vec![
            none(),
            int(-1),
            int(0),
            int(300),
            float(300.5),
            plain(&Value::BigInt(vec![0xff; 9].into_iter().chain([0]).collect())),
        ],
        vec![text("Z"), text("a"), text("\u{e9}"), text("\u{1f40d}")],
        vec![bytes(b""), bytes(b"\0"), bytes(b"\xff")],
        vec![tuple(&[int(1)]), tuple(&[int(1), text("a")]), tuple(&[int(1), text("b")]), tuple(&[int(2)])],
        vec![b"\x89".to_vec(), b"\x88".to_vec(), int(2)],
    ];
    for keys_of_one_kind in &fine {
        assert_eq!(keys(keys_of_one_kind), (0, vec![]));
        let mut reversed = keys_of_one_kind.clone();
        reversed.reverse();
        assert_eq!(keys(&reversed), (0, vec!["order"]));
    }
    // Python would ask the classes, or raise TypeError.
    for untold in [vec![object(), object()], vec![int(1), text("a")], vec![to(1, "IIBTree"), to(2, "IIBTree")]] {
        assert_eq!(keys(&untold), (1, vec![]));
    }
}

/// The nodes below one that cannot be walked into are looked at, and are no trees with faults of their own.
#[test]
fn a_broken_node_is_one_fault() {
    let below = [(8, node("IIBucket", &[4], &[], 4)), (9, node("IIBucket", &[5], &[], 5))];
    let no_separator = tuple(&[tuple(&[to(8, "IIBTree"), to(9, "IIBTree")]), to(4, "IIBucket")]);
    assert_eq!(words(&with(&[&below[..], &[(2, record("IIBTree", &no_separator))]].concat())), [(2, "state")]);

    let other = |child: u64| record("OOBTree", &tuple(&[tuple(&[to(child, "OOBTree")]), to(10, "OOBucket")]));
    let bottom = record("OOBTree", &tuple(&[tuple(&[to(10, "OOBucket")]), to(10, "OOBucket")]));
    let bucket = |keys: &[Vec<u8>]| record("OOBucket", &tuple(&[tuple(keys), to(11, "OOBucket")]));
    let whole = bucket(&[int(1), int(1), int(2), int(1)]);
    let misplaced = |bucket| with(&[(3, other(9)), (9, other(8)), (8, bottom.clone()), (10, bucket)]);
    assert_eq!(words(&misplaced(whole)), [(3, "class")]);
    assert_eq!(words(&misplaced(bucket(&[int(2), int(1), int(1), int(1)]))), [(3, "class"), (10, "order")]);

    // Nodes that their parent takes for buckets.
    assert_eq!(words(&with(&[(1, node("IIBucket", &[2, 3], &[40], 4))])), [(2, "class"), (3, "class")]);
}

/// A tree that was emptied leaves nodes behind, whose last bucket leads to one that was below another node.
#[test]
fn what_an_emptied_tree_leaves_behind_is_no_fault() {
    assert_eq!(words(&with(&[(1, record("IIBTree", b"N"))])), []);
    // A new root over the nodes of an old one.
    let again = [b"]".to_vec(), to(9, "IIBTree"), b"a".to_vec()].concat();
    assert_eq!(words(&with(&[(9, node("IIBTree", &[2, 3], &[40], 4)), (0, record("Root", &again))])), []);
    let in_use = [b"]".to_vec(), to(1, "IIBTree"), to(2, "IIBTree"), b"\x86a".to_vec()].concat();
    assert_eq!(words(&with(&[(1, record("IIBTree", b"N")), (0, record("Root", &in_use))])), [(5, "next")]);
}

/// Many nodes, each the only child of the one before.
#[test]
fn depth_costs_nothing() {
    const DEPTH: u64 = 20_000;
    let mut objects: Vec<_> = (1..DEPTH).map(|oid| (oid, node("IIBTree", &[oid + 1], &[], DEPTH + 1))).collect();
    objects.push((DEPTH, node("IIBucket", &[DEPTH + 1], &[], DEPTH + 1)));
    objects.push((DEPTH + 1, bucket(&[1], None)));
    let (checked, found) = check(&objects);
    assert_eq!((found.len(), checked.trees, checked.nodes), (0, 1, DEPTH + 1));
}

/// A record may say one key a thousand times in few bytes.
#[test]
fn a_key_that_is_shared_costs_no_more_than_its_record() {
    let long = text(&"k".repeat(100_000));
    let mut items = vec![[to(4, "OOBucket"), long, b"q\x05".to_vec()].concat()];
    for oid in 5..5000 {
        items.push(to(oid, "OOBucket"));
        items.push(b"h\x05".to_vec());
    }
    items.push(to(5000, "OOBucket"));
    let root = record("OOBTree", &tuple(&[tuple(&items), to(4, "OOBucket")]));
    let (checked, found) = check(&[(1, root)]);
    assert_eq!(found[0].rule.word(), "order");
    assert!(checked.faults > 4000, "the buckets are missing");
}
